"""Where things lie: the nearest project upward from here, so that any working folder does."""

from __future__ import annotations

import json
import os
from pathlib import Path


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
