"""The README's table of tables, written from the CSVs: `python -m lmjudge.report.readme`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.published import TABLE_COLUMNS, compare, published, stems as published_stems
from lmjudge.report.files import number, write
from lmjudge.report.runner import notebooks
from lmjudge.report.tables import read_table
from lmjudge.report.typeset import in_markdown

_FIRST, _LAST = "<!-- tables: python -m lmjudge.report.readme -->", "<!-- end of tables -->"
_HEADS = ("notebook", "of", "published", "ours", "n", "basis")
_MOST = 4


def table_of_tables(folder: Path) -> str:
    """The Markdown table of all tables: each notebook's published cells beside those in `folder`.

    A line for each table of which cells are ours, with its first row, and a line for a work's
    other tables, which are shown alone; a stem that no paper printed a table for has one line.
    """
    lines = [_HEADS, ("---",) * len(_HEADS)]
    for stem in notebooks():
        path = folder / f"{stem}.csv"
        ours = read_table(path) if path.exists() else pd.DataFrame(columns=list(TABLE_COLUMNS))
        if stem in published_stems():
            lines += _beside(stem, ours)
        elif len(ours):
            lines.append(_nobodys(stem, ours))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_readme(readme: Path, folder: Path) -> None:
    """Puts the table of tables between its marks in a README; ReportError where they are not."""
    text = readme.read_text(encoding="utf-8")
    before, first, rest = text.partition(_FIRST)
    _, last, after = rest.partition(_LAST)
    if not first or not last:
        raise ReportError(
            f"{readme.name} lacks the lines {_FIRST} and {_LAST}; put them where the table goes",
            name=readme.name,
        )
    write(readme, f"{before}{first}\n{table_of_tables(folder)}{last}{after}".encode())


def _beside(stem: str, table: pd.DataFrame) -> list[tuple[str, ...]]:
    """The lines of a stem: its works' tables, ours beside them where we have any."""
    cells = compare(table, stem).set_index("table")
    lines: list[tuple[str, ...]] = []
    for (work, version), part in published(stem).groupby(["work", "version"], sort=False):
        alone = []
        for name in part["table"].unique():
            found = cells.loc[[name]].dropna(subset="printed").reset_index()
            held = found.dropna(subset="value")
            if held.empty:
                alone.append(found)
            else:
                of = in_markdown(f"{work} ({version}), {name}")
                lines.append((f"`{stem}`", of, *_ours(held)))
        if alone:
            whole = pd.concat(alone)
            of = in_markdown(f"{work} ({version}), {'; '.join(whole['table'].unique())}")
            unsure = int((whole["status"] == "unverified").sum())
            told = f"{len(whole)} numbers{f', {unsure} unverified' if unsure else ''}"
            basis = ", ".join(whole["basis"].dropna().unique()) or "published alone"
            lines.append((f"`{stem}`", of, told, "", _counts(whole["n_printed"]), basis))
    if len(table) and cells.loc[cells["value"].notna(), "printed"].isna().all():
        lines.append(_nobodys(stem, table))
    return lines


def _ours(held: pd.DataFrame) -> tuple[str, ...]:
    """Published, ours, n and basis of a table's cells that are ours."""
    shown = _first_row(held)
    same = held["ours_printed"] == held["printed"]
    ours = ", ".join(shown["ours_printed"])
    if (fair := held["same"].notna()).any():
        ours += f" ({int(same[fair].sum())} of {int(fair.sum())} as printed)"
    elif (held["basis"] == "arithmetic").all():
        ours = f"{int(same.sum())} of {len(held)} consistent with its own numbers"
    else:
        ours += " (not compared)"
    return _named(shown), ours, _counts(shown["n"]), ", ".join(held["basis"].unique())


def _nobodys(stem: str, table: pd.DataFrame) -> tuple[str, ...]:
    name = table["table"].iloc[0]
    shown = _first_row(table[(table["table"] == name) & table["value"].notna()])
    numbers = shown.assign(printed=[number(value) for value in shown["value"]])
    bases = ", ".join(table.loc[table["value"].notna(), "basis"].unique())
    return (
        f"`{stem}`",
        in_markdown(f"printed nowhere: {name}"),
        "",
        _named(numbers),
        _counts(shown["n"]),
        bases,
    )


def _first_row(cells: pd.DataFrame) -> pd.DataFrame:
    """The first row's cells, or the first cells where a row has one alone."""
    row = cells[cells["row"] == cells["row"].iloc[0]]
    return (row if len(row) > 1 else cells[cells["column"] == row["column"].iloc[0]]).head(_MOST)


def _named(cells: pd.DataFrame) -> str:
    """The cells as "row: column number, column number", or the other way about."""
    outer, inner = ("row", "column") if cells["row"].nunique() == 1 else ("column", "row")
    told = ", ".join(
        f"{name} {shown}" for name, shown in zip(cells[inner], cells["printed"], strict=True)
    )
    return in_markdown(f"{cells[outer].iloc[0]}: {told}")


def _counts(n: pd.Series) -> str:
    known = sorted({int(count) for count in n.dropna()})
    return " to ".join(f"{count:,}" for count in dict.fromkeys(known[:1] + known[-1:]))


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    write_readme(root / "README.md", root / "reports")
