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

COMPARED = ("published", "full")  # the places whose tables are held against the papers
CHECKED = (
    "stem place table row column ours_printed printed n n_printed same same_n difference".split()
)

_DIGEST = re.compile(r"-[0-9a-f]{8}")


@dataclass(frozen=True)
class Saved:
    """One table as it lies in the reports folder: what the index tells about it."""

    stem: str
    source: str
    path: Path
    table: pd.DataFrame
    card: dict[str, Any] | None
    card_error: ReportError | None = None

    def address(self, name: str) -> str:
        """Return the address, from the index, of a file beside the table's CSV."""
        return (self.path.parent / name).relative_to(reports()).as_posix()

    @property
    def files(self) -> list[dict[str, str]]:
        """The files it was computed from: source, file, sha256.

        Of a table computed here they stand in its run card, of the maintainers' in sources.csv,
        with the command.
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
        noted = read_csv(path)
        return noted[noted["stem"] == self.stem].to_dict("records")

    @property
    def here(self) -> bool:
        """Whether it was computed here: its run card is of these very bytes."""
        return self.card is not None


def check(stems: Iterable[str] | None = None) -> pd.DataFrame:
    """Compare every cell of basis rows in the reports folder that a paper printed.

    Columns: stem, place ("published" for <stem>.csv, "full" for full/<stem>.csv), table, row,
    column, ours_printed (our value in the printed digits), printed, n, n_printed, same, same_n,
    difference. `stems` None means all; a table that no paper printed is passed over. Raises
    ReportError for a stem that has no CSV there.
    """
    saved = [saved_table for place in COMPARED for saved_table in saved_tables(place)]
    known = list(dict.fromkeys(saved_table.stem for saved_table in saved))
    chosen = known if stems is None else list(stems)
    if unknown := [stem for stem in chosen if stem not in known]:
        raise ReportError(
            f"there is no table {unknown[0]}.csv in {reports()}; make it with lmjudge run"
            f" {unknown[0]}, or give one that is there: {', '.join(known) or 'none is'}",
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
    """Return the checked cells whose digits, or whose n, are not the printed ones."""
    return checked[~checked["same"].astype(bool) | (checked["same_n"].fillna(True) == False)]  # noqa: E712


def saved_tables(source: str) -> list[Saved]:
    """Return the tables of one place, by stem, each with its run card if that is of these bytes.

    Raises ReportError where a CSV that lies there is no table.
    """
    tables, strange = readable_tables(source)
    if strange:
        raise strange[0]
    return tables


def readable_tables(source: str) -> tuple[list[Saved], list[ReportError]]:
    """Return those of `saved_tables`, and what is wrong with each CSV there that is no table."""
    tables, strange = [], []
    for path in sorted((reports() / PLACES[source]).glob("*.csv")):
        if path.name != "sources.csv":
            try:
                table = read_table(path)
            except ReportError as error:
                strange.append(error)
                continue
            try:
                tables.append(Saved(path.stem, source, path, table, read_card(path)))
            except ReportError as error:
                tables.append(Saved(path.stem, source, path, table, None, error))
    return tables, strange


def paths_of(stem: str) -> dict[Path, str]:
    """Return the CSVs that a notebook's tables lie in or would lie in, each with its place."""
    folder = reports()
    paths = {folder / below / f"{stem}.csv": place for place, below in PLACES.items()}
    own = (folder / PLACES["own"]).glob(f"{escape(stem)}-*.csv")
    return paths | {path: "own" for path in sorted(own) if _DIGEST.fullmatch(path.stem, len(stem))}


def card_of(path: Path) -> dict[str, Any] | None:
    """Return the run card of a table's CSV, if it is readable and of these very bytes."""
    try:
        return read_card(path)
    except ReportError:
        return None


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the run card of a table's CSV, or None without one of these very bytes.

    Raises ReportError where the file beside the CSV is no run card.
    """
    beside = path.with_suffix(".run.json")
    if not (beside.exists() and path.exists()):
        return None
    try:
        card = json.loads(beside.read_bytes())
        wrong = _wrong_in(card)
    except (OSError, ValueError, RecursionError) as error:
        card, wrong = {}, str(error)
    if wrong:
        raise ReportError(
            f"{beside} is no run card ({wrong}). Run the notebook again, or delete the file.",
            name=beside.name,
        )
    return card if card["table_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() else None


_AMOUNT = (int, float, type(None))
_CARD: dict[str, Any] = {"stem": str, "source": str, "table_sha256": str, "notes": str}
_CARD |= {"sources": dict, "versions": dict, "store": (dict, type(None))}
_STORE: dict[str, Any] = dict.fromkeys(("hits", "misses", "calls", "requests"), int) | {
    "digest": (str, type(None))
}


def _wrong_in(card: Any) -> str:
    """Return what keeps a JSON value from being a run card, or nothing."""
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
    """Return what is to be known of the sources that a table rests on, a line each."""
    from lmjudge.data import SOURCES

    known = [SOURCES[name] for name in dict.fromkeys(names) if name in SOURCES]
    return [f"{source.name}: {source.note}" for source in known if source.note]


def compared(saved: Saved) -> pd.DataFrame:
    """Return the table's cells beside the published, or the table with empty places for them."""
    if saved.source in COMPARED and saved.stem in published_stems():
        return compare(saved.table, saved.stem)
    empty = ("printed", "status", "ours_printed", "same", "same_n", "difference")
    return saved.table.assign(**dict.fromkeys(empty))
