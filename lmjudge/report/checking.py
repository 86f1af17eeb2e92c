"""Compare the tables in the reports folder with the numbers that the papers printed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.places import reports
from lmjudge.printed import compare, stems as published_stems
from lmjudge.report.files import read_csv
from lmjudge.report.tables import PLACES, read_table

COMPARED = ("published", "full")  # the places whose tables are compared with the papers
CHECKED = (
    "stem place table row column ours_printed printed n n_printed same same_n difference".split()
)

_DIGEST = re.compile(r"-[0-9a-f]{8}")


@dataclass(frozen=True)
class Saved:
    """A table in the reports folder, with its run card."""

    stem: str
    source: str
    path: Path
    table: pd.DataFrame
    card: dict[str, Any] | None
    card_error: ReportError | None = None

    def address(self, name: str) -> str:
        """Return the path, relative to the index, of a file beside the table's CSV."""
        return (self.path.parent / name).relative_to(reports()).as_posix()

    @property
    def files(self) -> list[dict[str, str]]:
        """The files that the table was computed from: source, file, sha256.

        They come from the run card, or for a table of the maintainers from sources.csv, which also
        has the command.
        """
        if self.card is not None:
            return [
                {"source": source, "file": file, "sha256": sha256}
                for source, files in self.card["sources"].items()
                for file, sha256 in files.items()
            ]
        path = self.path.parent / "sources.csv"
        if self.source not in COMPARED or not path.exists():
            return []
        sources = read_csv(path)
        return sources[sources["stem"] == self.stem].to_dict("records")

    @property
    def here(self) -> bool:
        """Whether the table was computed here: it has a run card for its exact bytes."""
        return self.card is not None


def check(stems: Iterable[str] | None = None) -> pd.DataFrame:
    """Compare the tables in the reports folder with the published numbers: one row a cell.

    `stems` selects tables; None takes all. Only cells with the basis rows are compared, and tables
    that no paper printed are skipped.

    Columns: stem, place ("published" for <stem>.csv, "full" for full/<stem>.csv), table, row,
    column, ours_printed (our value in the printed digits), printed, n, n_printed, same, same_n,
    difference (in the paper's units). Raises ReportError for a stem that has no CSV there.
    """
    saved = [saved_table for place in COMPARED for saved_table in saved_tables(place)]
    known = list(dict.fromkeys(saved_table.stem for saved_table in saved))
    chosen = known if stems is None else list(stems)
    if unknown := [stem for stem in chosen if stem not in known]:
        raise ReportError(
            f"there is no table {unknown[0]}.csv in {reports()} (tables there:"
            f" {', '.join(known) or 'none'}); create it with lmjudge run {unknown[0]}",
            name=unknown[0],
        )
    parts = [pd.DataFrame(columns=CHECKED)]
    for saved_table in saved:
        if saved_table.stem in chosen and saved_table.stem in published_stems():
            cells = compare(saved_table.table, saved_table.stem).assign(
                stem=saved_table.stem, place=saved_table.source
            )
            parts.append(cells.loc[cells["same"].notna(), CHECKED])
    return pd.concat(parts[1:] or parts, ignore_index=True)


def differing(checked: pd.DataFrame) -> pd.DataFrame:
    """Return the checked cells whose digits or n differ from the published ones."""
    return checked[~checked["same"].astype(bool) | (checked["same_n"].fillna(True) == False)]  # noqa: E712


def saved_tables(source: str) -> list[Saved]:
    """Return the tables of one place, sorted by stem, each with its run card if that fits.

    Raises ReportError for a CSV that is not a table.
    """
    tables, unreadable = readable_tables(source)
    if unreadable:
        raise unreadable[0]
    return tables


def readable_tables(source: str) -> tuple[list[Saved], list[ReportError]]:
    """Return what `saved_tables` returns, and an error for each CSV that is not a table."""
    tables, unreadable = [], []
    for path in sorted((reports() / PLACES[source]).glob("*.csv")):
        if path.name != "sources.csv":
            try:
                table = read_table(path)
            except ReportError as error:
                unreadable.append(error)
                continue
            try:
                tables.append(Saved(path.stem, source, path, table, read_card(path)))
            except ReportError as error:
                tables.append(Saved(path.stem, source, path, table, None, error))
    return tables, unreadable


def paths_of(stem: str) -> dict[Path, str]:
    """Return the CSVs of a notebook's tables, existing or not, each with its place."""
    folder = reports()
    paths = {folder / below / f"{stem}.csv": place for place, below in PLACES.items()}
    own = (folder / PLACES["own"]).glob(f"{escape(stem)}-*.csv")
    return paths | {path: "own" for path in sorted(own) if _DIGEST.fullmatch(path.stem, len(stem))}


def card_of(path: Path) -> dict[str, Any] | None:
    """Return the run card of a table's CSV, if it is readable and fits the CSV's bytes."""
    try:
        return read_card(path)
    except ReportError:
        return None


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the run card of a table's CSV, or None if there is none for the CSV's exact bytes.

    Raises ReportError if the file beside the CSV is not a run card.
    """
    card_path = path.with_suffix(".run.json")
    if not (card_path.exists() and path.exists()):
        return None
    try:
        card = json.loads(card_path.read_bytes())
        problem = _problem_in(card)
    except (OSError, ValueError, RecursionError) as error:
        card, problem = {}, str(error)
    if problem:
        raise ReportError(
            f"{card_path} is no run card ({problem}). Run the notebook again, or delete the file.",
            name=card_path.name,
        )
    return card if card["table_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() else None


_AMOUNT = (int, float, type(None))
_CARD: dict[str, Any] = {"stem": str, "source": str, "table_sha256": str, "notes": str}
_CARD |= {"sources": dict, "versions": dict, "store": (dict, type(None))}
_STORE: dict[str, Any] = dict.fromkeys(("hits", "misses", "calls", "requests"), int) | {
    "digest": (str, type(None))
}


def _problem_in(card: Any) -> str:
    """Return why a JSON value is not a run card; "" if it is one."""
    if not isinstance(card, dict):
        return f"a JSON {type(card).__name__}, not an object"
    parts: list[tuple[dict[str, Any], dict[str, Any]]] = [(card, _CARD)]
    if isinstance(store := card.get("store"), dict):
        parts.append((store, _STORE))
        if "spent" in store:
            parts.append((store, {"spent": _AMOUNT, "rerun": _AMOUNT}))
    if isinstance(sources := card.get("sources"), dict):
        parts.append((sources, dict.fromkeys(sources, dict)))
    odd = [
        name
        for part, kinds in parts
        for name, kind in kinds.items()
        if name not in part or not isinstance(part[name], kind)
    ]
    return f"missing or of another type: {', '.join(odd)}" if odd else ""


def source_notes(names: Iterable[str]) -> list[str]:
    """Return the notes on a table's sources, one line a source."""
    from lmjudge.data import SOURCES

    known = [SOURCES[name] for name in dict.fromkeys(names) if name in SOURCES]
    return [f"{source.name}: {source.note}" for source in known if source.note]


def compared(saved: Saved) -> pd.DataFrame:
    """Return the table's cells beside the published ones, or with these columns empty."""
    if saved.source in COMPARED and saved.stem in published_stems():
        return compare(saved.table, saved.stem)
    empty = ("printed", "status", "ours_printed", "same", "same_n", "difference")
    return saved.table.assign(**dict.fromkeys(empty))
