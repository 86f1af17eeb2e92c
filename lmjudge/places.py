"""Find the folders of the store, the downloads and the reports from any working folder.

A folder belongs to lmjudge if it holds the file `LMJUDGE.TAG`, or a store. Only such a folder is
used from the folders below it; a `reports` or `cache` folder with other files is left alone.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # reserved file names of Windows
_LONGEST = 150


MARKER = "LMJUDGE.TAG"
_SAYS = "lmjudge keeps files here and, by this file, finds the folder from the folders below.\n"


def _folder(name: str, *holds: str) -> Path:
    """Return lmjudge's nearest folder upward from here, or the place for a new one here.

    The folder is called `name`, or `lmjudge-<name>` if `name` holds other files. A folder is
    lmjudge's if it has the marker or one of the paths in `holds`.
    """
    here, names = Path.cwd(), (name, f"lmjudge-{name}")
    for parent in (here, *here.parents):
        for folder in (parent / item for item in names):
            if any(os.path.exists(folder / path) for path in (MARKER, *holds)):
                return folder
    usual, other = (here / item for item in names)
    if not os.path.lexists(usual):
        return usual
    empty = usual.is_dir() and all(path.name.startswith(".") for path in usual.iterdir())
    return usual if empty else other


def mark(folder: Path) -> None:
    """Mark a folder as lmjudge's, so that the folders below find it. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists():
        (folder / MARKER).write_text(_SAYS, encoding="utf-8")


def judgments() -> Path:
    """Return the store's folder: `$LMJUDGE_CACHE`, else lmjudge's nearest `cache/judgments`."""
    if configured := os.environ.get("LMJUDGE_CACHE"):
        return Path(configured)
    return _folder("cache", "judgments/cache.db") / "judgments"


def downloads() -> Path:
    """Return the folder of downloads: `data` beside the store's folder."""
    return judgments().parent / "data"


def reports() -> Path:
    """Return the folder of reports: `$LMJUDGE_REPORTS`, else lmjudge's nearest `reports`."""
    configured = os.environ.get("LMJUDGE_REPORTS")
    return Path(configured) if configured else _folder("reports")


def notebooks() -> dict[str, Path]:
    """Return lmjudge's notebooks by stem, from the installed package or the checkout."""
    package = Path(__file__).parent
    for folder in (package / "nbs", package.parent / "nbs"):
        if paths := {path.stem: path for path in sorted(folder.glob("*.ipynb"))}:
            return paths
    return {}


def titles() -> dict[str, str]:
    """Return the first line of each notebook's first cell, by stem."""
    first_lines = {}
    for stem, path in notebooks().items():
        first = json.loads(path.read_bytes())["cells"][0]["source"]
        first_lines[stem] = "".join(first).partition("\n")[0].lstrip("# ").strip()
    return first_lines


def file_name(model: str) -> str:
    """Return a file name for a model, unique also on file systems that ignore case.

    The escapes are those of Mercurial's store:

    - A capital letter becomes "_" and the small letter, "_" becomes "__".
    - Letters, digits, "-" and inner dots stay; all else becomes "~" and its UTF-8 bytes in hex.
    - A name too long for a file ends in "~~" and its SHA-256.

    Raises ValueError for an empty name.

    >>> file_name("meta-llama/Llama-3"), file_name(".."), file_name("gpt-4"), file_name("GPT-4")
    ('meta-llama~2f_llama-3', '~2e~2e', 'gpt-4', '_g_p_t-4')
    """
    if not model:
        raise ValueError("a model without a name has no file; name the model")
    shown = ""
    for place, char in enumerate(model):
        inner = char == "." and 0 < place < len(model) - 1 and model[place - 1] != "."
        if inner or (char.isascii() and (char.islower() or char.isdigit() or char == "-")):
            shown += char
        elif char == "_" or (char.isascii() and char.isupper()):
            shown += f"_{char.lower()}"
        else:
            shown += "".join(f"~{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
    if _RESERVED.match(shown):
        shown = f"~{ord(shown[0]):02x}{shown[1:]}"
    if len(shown) > _LONGEST:
        digest = hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()
        shown = f"{shown[:80]}~~{digest}"
    return shown


@contextmanager
def replacing(target: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `target` when the block ends, and vanishes if it fails.

    Its name is random. The unfinished files of killed writers beside `target` are removed: each
    writer locks its own file. (On Windows, which has no such locks, they stay.) Raises OSError if
    the file cannot be written.
    """
    prefix = f".{target.name[:80]}."
    for left in target.parent.glob(f"{glob.escape(prefix)}*.part") if fcntl else ():
        with suppress(OSError), left.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    new = target.with_name(f"{prefix}{secrets.token_hex(4)}.part")
    try:
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(new, target)
    finally:
        new.unlink(missing_ok=True)


def write(path: Path, body: bytes) -> None:
    """Write a file in one step, never a part of it, and create its folders. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write(body)
