"""Digests of what a notebook's table depends on, so that unchanged notebooks do not run again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lmjudge import places
from lmjudge.report.checking import card_of, paths_of
from lmjudge.report.executing import Run
from lmjudge.report.files import as_json
from lmjudge.report.notebook import read_notebook
from lmjudge.report.saving import versions

# The results of some cells depend on these packages.
_EXTRAS = ("torch", "transformers", "scikit-learn", "nltk", "spacy")


def surroundings() -> dict[str, str]:
    """Return digests of what all notebooks depend on: code, data files, prices and versions."""
    from lmjudge.data import SOURCES
    from lmjudge.data.finding import looked_in

    names = [file.path for source in SOURCES.values() for file in source.files]
    prices = Path(os.environ.get("LMJUDGE_PRICES", ""))
    return {
        "code": _code(),
        "data": _of([_of_files(folder, map(folder.joinpath, names)) for folder in looked_in()]),
        "prices": _of_files(prices, [prices]),
        "versions": _of(versions() | versions(_EXTRAS)),
    }


@cache
def _code() -> str:
    """Return the digest of lmjudge's files at the first call."""
    package = Path(__file__).parents[1]
    suffixes = {".ipynb", ".pyc", ".nbi", ".nbc"}
    return _of_files(package, [path for path in package.rglob("*") if path.suffix not in suffixes])


def inputs(path: Path, parameters: Mapping[str, Any], defaults: Iterable[Any]) -> dict[str, str]:
    """Return digests of a notebook's cells, its parameters and the files that they name."""
    cells = read_notebook(path)["cells"]
    files = {
        value: _of_files(Path(value), [Path(value), *Path(value).rglob("*")])
        for value in [*defaults, *parameters.values()]
        if isinstance(value, str) and value and os.path.exists(value)
    }
    return {
        "notebook": _of([[cell["cell_type"], cell["source"]] for cell in cells]),
        "parameters": _of(dict(parameters)),
        "files": _of(files),
    }


def unchanged(stem: str, rests_on: Mapping[str, str]) -> Run | None:
    """Return the run that wrote the stem's table and page, if nothing changed since; else None.

    Nothing changed if `inputs` and `surroundings`, the table's bytes and the records under its keys
    are the same.
    """
    folder = places.reports()
    if (folder / "failed" / f"{stem}.html").exists():
        return None
    for table, source in paths_of(stem).items():
        page, card = table.with_suffix(".html"), card_of(table)
        if (
            card
            and page.exists()
            and card.get("inputs") == rests_on
            and _holds_the_same(card, table)
        ):
            return Run(stem, source, table, page, skipped=True)
    return None


def _holds_the_same(card: Mapping[str, Any], table: Path) -> bool:
    """Return whether the store holds the same records as when the card was written."""
    from lmjudge.store import Store

    usage = card["store"]
    if not usage or not usage["requests"]:
        return True
    keys = table.with_suffix(".keys")
    return keys.exists() and Store().digest(keys.read_text().split()) == usage["digest"]


def _of_files(root: Path, paths: Iterable[Path]) -> str:
    """Return the digest of the files among the paths, with their paths relative to the root."""
    return _of(
        {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.is_file()
        }
    )


def _of(value: Any) -> str:
    return hashlib.sha256(as_json(value)).hexdigest()
