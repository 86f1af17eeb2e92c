"""What the verbs print with."""

from __future__ import annotations

import sys
from typing import Any


def say(text: str, stream: Any = None) -> None:
    """Print one line, without the control characters that data may hold.

    What the stream's encoding lacks is printed as an escape, such as \\u6a21.
    """
    from lmjudge.report.files import plain

    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(plain(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)
