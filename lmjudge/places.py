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

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # names that Windows keeps to itself
_LONGEST = 150


MARKER = "LMJUDGE.TAG"
_SAYS = "lmjudge keeps files here and, by this file, finds the folder from the folders below.\n"


def _folder(name: str, *holds: str) -> Path:
    """Return the nearest folder of lmjudge's upward from here, else where one belongs here.

    It is `name`, or `lmjudge-<name>` where `name` holds other files. Besides the marker, paths in
    `holds` say that a folder is lmjudge's.
    """
    here, names = Path.cwd(), (name, f"lmjudge-{name}")
    for folder in (here, *here.parents):
        for own in (folder / item for item in names):
            if any(os.path.exists(own / held) for held in (MARKER, *holds)):
                return own
    usual, other = (here / item for item in names)
    if not os.path.lexists(usual):
        return usual
    empty = usual.is_dir() and all(path.name.startswith(".") for path in usual.iterdir())
    return usual if empty else other


def mark(folder: Path) -> None:
    """Make a folder lmjudge's, so that it is found from the folders below it; or raise OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER).exists():
        (folder / MARKER).write_text(_SAYS, encoding="utf-8")


def judgments() -> Path:
    """Return the store's folder: `$LMJUDGE_CACHE`, else lmjudge's nearest `cache/judgments`."""
    given = os.environ.get("LMJUDGE_CACHE")
    if given:
        return Path(given)
    return _folder("cache", "judgments/cache.db") / "judgments"


def downloads() -> Path:
    """Return the folder of downloads: `data` beside the store's folder."""
    return judgments().parent / "data"


def reports() -> Path:
    """Return the folder of reports: `$LMJUDGE_REPORTS`, else lmjudge's nearest `reports`."""
    given = os.environ.get("LMJUDGE_REPORTS")
    return Path(given) if given else _folder("reports")


def notebooks() -> dict[str, Path]:
    """Return the project's notebooks by stem: of the installed package, else of the checkout."""
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
    """Return a file name for a model's name, distinct also where case is folded.

    As Mercurial escapes its store: capitals are "_" and the small letter, "_" is "__", and all but
    letters, digits, "-" and inner dots is "~" and its UTF-8 bytes. Names too long for a file end in
    their SHA-256 (after "~~", which no other holds).

    >>> file_name("meta-llama/Llama-3"), file_name(".."), file_name("gpt-4"), file_name("GPT-4")
    ('meta-llama~2f_llama-3', '~2e~2e', 'gpt-4', '_g_p_t-4')
    """
    if not model:
        raise ValueError("a model without a name has no file; give it one")
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
    """Open a new file that takes the place of `target` once all of it is written, or never is seen.

    Nobody can foresee its name. What killed writers left beside `target` is cleared away: each
    writer locks its file (on POSIX; on Windows what is left stays). Raises OSError where nothing
    can be written.
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
    """Write a file whole or not at all, and the folders it is in. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as new:
        new.write(body)
