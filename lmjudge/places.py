"""Where things lie: the nearest project upward from here, so that any working folder does."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # names that Windows keeps to itself
_LONGEST = 150


def nearest(*parts: str) -> Path:
    """The nearest existing path `parts` upward from here, else where it belongs.

    Where nothing of that name exists, it belongs in the nearest folder that holds the first part
    beside a pyproject.toml (a checkout whose ignored folders are not made yet), else right here.
    """
    here = Path.cwd()
    upward = [here, *here.parents]
    for folder in upward:
        if folder.joinpath(*parts).exists():
            return folder.joinpath(*parts)
    for folder in upward:
        if (folder / parts[0]).is_dir() and (folder / "pyproject.toml").is_file():
            return folder.joinpath(*parts)
    return here.joinpath(*parts)


def judgments() -> Path:
    """The store's folder: `$LMJUDGE_CACHE`, else the nearest `cache/judgments`."""
    given = os.environ.get("LMJUDGE_CACHE")
    return Path(given) if given else nearest("cache", "judgments")


def downloads() -> Path:
    """The folder of downloads: `data` beside the store's folder."""
    return judgments().parent / "data"


def reports() -> Path:
    """The folder that tables are written to: `$LMJUDGE_REPORTS`, else the nearest `reports`."""
    given = os.environ.get("LMJUDGE_REPORTS")
    return Path(given) if given else nearest("reports")


def notebooks() -> dict[str, Path]:
    """The project's notebooks by stem: of the installed package, else of the checkout."""
    package = Path(__file__).parent
    for folder in (package / "nbs", package.parent / "nbs"):
        if found := {path.stem: path for path in sorted(folder.glob("*.ipynb"))}:
            return found
    return {}


def titles() -> dict[str, str]:
    """The first line of each notebook's first cell, by stem."""
    found = {}
    for stem, path in notebooks().items():
        first = json.loads(path.read_bytes())["cells"][0]["source"]
        found[stem] = "".join(first).partition("\n")[0].lstrip("# ").strip()
    return found


def file_name(model: str) -> str:
    """A name for a file, one for each model's name, on systems that fold case too; never a path.

    As Mercurial escapes its store: capitals are "_" and the small letter, "_" is "__", and all but
    letters, digits, "-" and inner dots is "~" and its UTF-8 bytes. Names too long for a file end in
    their SHA-256 (after "~~", which no other holds).

    >>> file_name("meta-llama/Llama-3"), file_name(".."), file_name("gpt-4"), file_name("GPT-4")
    ('meta-llama~2f_llama-3', '~2e~2e', 'gpt-4', '_g_p_t-4')
    """
    if not model:
        raise ValueError("a model without a name has no file; give it one")
    made = ""
    for place, char in enumerate(model):
        inner = char == "." and 0 < place < len(model) - 1 and model[place - 1] != "."
        if inner or (char.isascii() and (char.islower() or char.isdigit() or char == "-")):
            made += char
        elif char == "_" or (char.isascii() and char.isupper()):
            made += f"_{char.lower()}"
        else:
            made += "".join(f"~{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
    if _RESERVED.match(made):
        made = f"~{ord(made[0]):02x}{made[1:]}"
    if len(made) > _LONGEST:
        made = f"{made[:80]}~~{hashlib.sha256(model.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return made
