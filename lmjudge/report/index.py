"""The index of all tables: one sentence to quote, then a list with thumbnails."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge import places
from lmjudge.places import reports
from lmjudge.printed import STATUSES, published, stems as published_stems
from lmjudge.report.checking import (
    COMPARED,
    Saved,
    compared,
    readable_tables,
    source_notes,
)
from lmjudge.report.files import as_json, claim_reports, page, write
from lmjudge.report.page import facts
from lmjudge.report.tables import PLACES
from lmjudge.report.typeset import side_by_side

_CELL = ["work", "version", "table", "row", "column"]
_WORKS = 2  # the most works that an entry names
_THUMBNAIL = 360  # pixels; shown at half the width
# The kinds of numbers in a table, in the order of the list. The page can filter by each.
KINDS = {
    "same": "as printed",
    "differs": "differ from the printed",
    "arithmetic": "follow from printed totals",
    "alone": "only printed",
}


@dataclass(frozen=True)
class Claim:
    """How many numbers were printed, recomputed, as printed, and derived by arithmetic."""

    printed: int
    recomputed: int
    as_printed: int
    arithmetic: int

    def __str__(self) -> str:
        rest = self.printed - self.recomputed - self.arithmetic
        equal = "all" if self.as_printed == self.recomputed else f"{self.as_printed:,}"
        return (
            f"Of {self.printed:,} numbers printed in the Vicuna blog, in arXiv 2306.05685 and"
            f" 2304.03277 and on the Arena's leaderboards, {self.recomputed:,} are recomputed here"
            f" from released verdicts, and {equal} of these are as printed; {self.arithmetic:,}"
            f" follow by arithmetic from printed totals; for the other {rest:,} no rows are here,"
            " because they were never released or do not ship."
        )


def write_index() -> Path:
    """Write index.html and manifest.json in the reports folder; return the path of the index.

    The index says how many printed numbers are recomputed, and has an entry for each table: what is
    as printed, what differs, links and a thumbnail. If a table exists from shipped rows and from
    original files, the entry shows the numbers from the original files. A CSV that is not a table
    is named at the top. manifest.json has each run card and the SHA-256 of its files. Equal tables
    and run cards give equal bytes.
    """
    return write_report()[0]


def write_report() -> tuple[Path, Claim | None]:
    """Write the index as `write_index` does; return its path and its claim."""
    read = {place: readable_tables(place) for place in PLACES}
    shipped, full, own = (tables for tables, _ in read.values())
    by_stem = {saved.stem: saved for saved in shipped}
    known = by_stem | {saved.stem: saved for saved in full}
    titles = places.titles()
    listed = (_entry(saved, titles, by_stem.get(saved.stem)) for saved in known.values())
    entries = sorted(listed, key=_place_in_list)
    claimed = claim([*shipped, *full]) if known else None
    body = page(
        "tables.html.j2",
        "Reproduced tables" if known else "Tables",
        claim=str(claimed or ""),
        failed=[page.stem for page in sorted((reports() / "failed").glob("*.html"))],
        strange=[str(error) for _, errors in read.values() for error in errors],
        cards=[
            str(saved.card_error)
            for tables, _ in read.values()
            for saved in tables
            if saved.card_error is not None
        ],
        kinds=KINDS,
        groups=[
            ("Tables of the works", entries),
            ("Your own runs", [_entry(saved, titles) for saved in own]),
        ],
    )
    path = claim_reports() / "index.html"
    write(path, body.encode())
    write(reports() / "manifest.json", as_json(_manifest([*shipped, *full, *own])))
    return path, claimed


def claim(tables: list[Saved]) -> Claim:
    """Count the printed numbers, each once, and those that the tables recompute."""
    printed = pd.concat([published(stem) for stem in published_stems()])
    printed = printed[printed["status"].isin(STATUSES[:3])].drop_duplicates(_CELL)
    parts = [
        compared(saved).merge(published(saved.stem)[_CELL], on=_CELL[2:])
        for saved in tables
        if saved.stem in published_stems()
    ]
    by_kind: dict[str, set[tuple[str, ...]]] = {kind: set() for kind in ["", *KINDS]}
    for cells in parts:
        names = cells[_CELL].itertuples(index=False, name=None)
        for kind, cell in zip(kinds(cells), names, strict=True):
            by_kind[kind].add(cell)
    same = by_kind["same"] - by_kind["differs"]
    ours = by_kind["same"] | by_kind["differs"]
    return Claim(len(printed), len(ours), len(same), len(by_kind["arithmetic"] - ours))


def kinds(cells: pd.DataFrame) -> pd.Series:
    """Return a key of KINDS for each compared cell, or "" if no number was printed."""
    confirmed = cells["printed"].notna() & cells["status"].isin(STATUSES[:3])
    kind = pd.Series("", cells.index, dtype=object).mask(confirmed, "alone")
    derived = confirmed & cells["value"].notna() & (cells["basis"] == "arithmetic")
    kind = kind.mask(derived, "arithmetic")
    equal = (cells["same"] & cells["same_n"].fillna(True)).fillna(False).astype(bool)
    judged = cells["same"].notna()
    return kind.mask(judged & equal, "same").mask(judged & ~equal, "differs")


def _entry(saved: Saved, titles: dict[str, str], shipped: Saved | None = None) -> dict[str, Any]:
    """Return a table's entry in the list; its page may be that of the `shipped` rows."""
    cells = compared(saved)
    kind = kinds(cells)
    counts = {name: int((kind == name).sum()) for name in KINDS}
    stem = saved.card["stem"] if saved.card else saved.stem
    works = pd.DataFrame(columns=["work", "version"])
    if saved.source in COMPARED and saved.stem in published_stems():
        works = published(saved.stem)[["work", "version"]].drop_duplicates()
    with_page = [
        part for part in (saved, shipped) if part and part.path.with_suffix(".html").exists()
    ]
    shown = with_page[0] if with_page else saved
    missing = int(saved.table["no_verdict"].fillna(0).max()) if len(saved.table) else 0
    ends = {"page": ".html", "CSV": ".csv", "LaTeX": ".tex", "Markdown": ".md"}
    links = {
        name: shown.address(shown.path.with_suffix(end).name)
        for name, end in ends.items()
        if shown.path.with_suffix(end).exists()
    }
    if shown is not saved:
        links["CSV from the original files"] = saved.address(saved.path.name)
    if shown.card and shown.card.get("evidence"):
        links["judgments"] = shown.address(f"evidence/{saved.stem}/index.html")
    return {
        "id": saved.stem if saved.source in COMPARED else f"{saved.source}-{saved.stem}",
        "title": titles.get(stem, saved.stem),
        "place": saved.source,
        "works": [
            *(f"{work}, {version}" for work, version in works.head(_WORKS).itertuples(index=False)),
            *([f"{len(works) - _WORKS} more sources"] if len(works) > _WORKS else []),
        ],
        "counts": {name: count for name, count in counts.items() if count},
        "ours": int(saved.table["value"].notna().sum()),
        "bases": sorted(set(saved.table.loc[saved.table["value"].notna(), "basis"])),
        "here": saved.here,
        "missing": missing,
        "few": bool(saved.table["too_few"].any()),
        "links": links,
        "note": shown.card["notes"] if shown.card else "",
        "about": source_notes(row["source"].removesuffix("/original") for row in saved.files),
        "thumbnail": _thumbnail(shown.path.with_suffix(".ipynb")),
        "tables": [] if with_page and shown is saved else _tables(saved, stem),
        "facts": _provenance(saved),
    }


def _place_in_list(entry: dict[str, Any]) -> tuple[bool, bool, bool, str]:
    """Return the sort key: recomputed tables, other published ones, unpublished, tutorials."""
    stem, recomputed = entry["id"], {"same", "differs"} & set(entry["counts"])
    return stem[:1].isdigit(), stem not in published_stems(), not recomputed, stem


def _tables(saved: Saved, stem: str) -> list[str]:
    """Return the tables as HTML, for an entry without a page."""
    stem = stem if saved.source in COMPARED else ""
    parts = saved.table.groupby("table", sort=False)
    return [side_by_side(part, stem).html for _, part in parts]


def _thumbnail(notebook: Path) -> str:
    """Return the executed notebook's first figure as a small data URL; "" without a figure."""
    if not notebook.exists():
        return ""
    from PIL import Image

    for cell in json.loads(notebook.read_bytes())["cells"]:
        for output in cell.get("outputs", ()):
            if picture := output.get("data", {}).get("image/png"):
                try:
                    image = Image.open(io.BytesIO(base64.b64decode("".join(picture))))
                    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
                except (OSError, ValueError):
                    continue
                small = io.BytesIO()
                image.save(small, "PNG", optimize=True)
                return f"data:image/png;base64,{base64.b64encode(small.getvalue()).decode()}"
    return ""


def _provenance(saved: Saved) -> list[tuple[str, str]]:
    """Return where a table came from: command, files with their SHA-256, the run card."""
    items: list[tuple[str, str]] = []
    for row in saved.files[:1]:
        items += [(name, row[name]) for name in ("command",) if name in row]
    items += [(f"{row['source']}: {row['file']}", row["sha256"]) for row in saved.files]
    return [*items, *(facts(saved.card) if saved.card else [])]


def _manifest(tables: list[Saved]) -> dict[str, Any]:
    """Return the run card of each table computed here, with the SHA-256 of its files."""
    cards = {}
    for saved in tables:
        if saved.card is not None:
            ends = (".csv", ".html", ".ipynb", ".md", ".tex")
            files = [saved.path.with_suffix(end) for end in ends]
            files += sorted((saved.path.parent / "evidence" / saved.stem).glob("*.html"))
            outputs = {
                file.relative_to(reports()).as_posix(): hashlib.sha256(
                    file.read_bytes()
                ).hexdigest()
                for file in files
                if file.exists()
            }
            cards[f"{saved.source}/{saved.stem}"] = saved.card | {"outputs": outputs}
    return cards
