"""Digests of what a notebook's table rests on, so that unchanged notebooks are not rerun."""

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

# Without these some cells do nothing, or something else.
_EXTRAS = ("torch", "transformers", "scikit-learn", "nltk", "spacy")


def surroundings() -> dict[str, str]:
    """Return what every notebook depends on: lmjudge, versions, published files, your prices."""
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
    """Return the digest of lmjudge's own files, as they are when it is first asked for."""
    package = Path(__file__).parents[1]
    suffixes = {".ipynb", ".pyc", ".nbi", ".nbc"}
    return _of_files(package, [path for path in package.rglob("*") if path.suffix not in suffixes])


def inputs(path: Path, parameters: Mapping[str, Any], defaults: Iterable[Any]) -> dict[str, str]:
    """Return what this notebook depends on: its cells, its parameters and the files they name."""
    cells = read_notebook(path)["cells"]
    named = {
        value: _of_files(Path(value), [Path(value), *Path(value).rglob("*")])
        for value in [*defaults, *parameters.values()]
        if isinstance(value, str) and value and os.path.exists(value)
    }
    return {
        "notebook": _of([[cell["cell_type"], cell["source"]] for cell in cells]),
        "parameters": _of(dict(parameters)),
        "files": _of(named),
    }


def unchanged(stem: str, rests_on: Mapping[str, str]) -> Run | None:
    """Return the run that left the stem's table and page, if it rested on the very same; else None.

    The same are its `inputs` and `surroundings`, the table's bytes, and the records that the store
    holds under the keys that the table was made of.
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
    """Return whether the store holds the records that the card names."""
    from lmjudge.store import Store

    asked = card["store"]
    if not asked or not asked["requests"]:
        return True
    keys = table.with_suffix(".keys")
    return keys.exists() and Store().digest(keys.read_text().split()) == asked["digest"]


def _of_files(root: Path, paths: Iterable[Path]) -> str:
    """Return the digest of the files among the paths, each by its place below the root."""
    return _of(
        {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.is_file()
        }
    )


def _of(value: Any) -> str:
    return hashlib.sha256(as_json(value)).hexdigest()
