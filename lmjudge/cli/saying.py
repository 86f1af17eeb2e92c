"""Print a line to the terminal."""

from __future__ import annotations

import sys
from typing import Any


def say(text: str, stream: Any = None) -> None:
    """Print one line, without the control characters that data may hold.

    Print characters that the stream's encoding lacks as escapes, such as \\u6a21.
    """
    from lmjudge.report.files import plain

    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(plain(text).encode(encoding, "backslashreplace").decode(encoding), file=stream)
