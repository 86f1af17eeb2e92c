"""What the verbs print with."""

from __future__ import annotations

import sys
from typing import Any


def say(text: str, stream: Any = None) -> None:
    """One line, without the control characters that data may hold."""
    from lmjudge.report.files import plain

    print(plain(text), file=stream or sys.stdout)
