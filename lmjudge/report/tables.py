"""Tables in long form: build cells from estimators' frames, and check, write and read them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.printed import BASES, TABLE_COLUMNS, published, stems
from lmjudge.report.files import read_csv

FLAGGED = "yes"
NUMBERS = ("value", "n", "low", "high", "no_verdict")
# The folders in the reports folder: from shipped rows, from original files, from your own runs.
PLACES = {"published": "", "full": "full", "own": "own"}
# The columns by which estimators group rows. They identify the rows behind a cell.
GROUPS = "category group judge model model_a model_b question_id sample turn".split()


def cells(
    frame: pd.DataFrame,
    table: str,
    *,
    row: str | Sequence[str],
    values: str | Mapping[str, str],
    column: str | Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    scale: float = 1,
    basis: str | None = None,
) -> pd.DataFrame:
    """Return an estimator's frame as the cells of one table, in long form.

    - `table`: the table's title.
    - `row`: the frame's column with the names of the rows, or several, joined by a slash.
    - `column`: the same for the names of the columns.
    - `values`: with `column`, the frame's column of values. Without, {frame's column: name of the
      table's column}.
    - `names`: renames rows and columns, for example to the paper's names.
    - `scale`: multiplies values and intervals; 100 turns shares into percent.
    - `basis`: "arithmetic", "unreleased", "own" or "demo", if the cells do not come from released
      rows.

    Columns: table, row, column, value, and n, low, high, too_few, no_verdict if the frame has them.
    With several values, low, high and too_few are left out. The column `of` holds each cell's
    group, for evidence; `save_table` does not write it.

    Raises ReportError for a column that the frame lacks.

    >>> scores = pd.DataFrame({"model": ["a", "b"], "mean": [0.75, 0.6], "n": [80, 79]})
    >>> shown = cells(scores, "T", row="model", values={"mean": "won"}, names={"a": "A"}, scale=100)
    >>> shown[["row", "column", "value"]].to_numpy().tolist()
    [['A', 'won', 75.0], ['b', 'won', 60.0]]
    """
    columns = {values: values} if isinstance(values, str) else dict(values)
    rows, across = ([item] if isinstance(item, str) else item for item in (row, column or []))
    needed = [*rows, *across, *columns]
    if missing := [name for name in needed if name not in frame.columns]:
        raise ReportError(
            f"the frame for table {table!r} lacks {', '.join(missing)}; it has"
            f" {', '.join(map(str, frame.columns))}",
            name=table,
        )
    ends = ["low", "high"] if len(columns) == 1 else []
    counts = ["n", "no_verdict", *(["too_few"] if ends else [])]
    labels = dict(names or {})
    groups = [[(name, str(item)) for item in frame[name]] for name in GROUPS if name in frame]
    shared = {name: frame[name] for name in counts if name in frame.columns}
    shared |= {name: scale * frame[name] for name in ends if name in frame.columns}
    if basis is not None:
        shared["basis"] = basis
    parts = [
        pd.DataFrame(
            {
                "table": table,
                "row": _labels(frame, rows, labels),
                "column": _labels(frame, across, labels) if across else labels.get(name, name),
                "value": scale * frame[value],
            }
            | shared
            | {"of": list(zip(*groups, strict=True)) or [()] * len(frame)}
        )
        for value, name in columns.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _labels(frame: pd.DataFrame, names: Sequence[str], labels: Mapping[str, str]) -> pd.Series:
    """Return the texts of these columns, renamed and joined by a slash."""
    first, *others = (frame[name].astype(str).replace(labels) for name in names)
    for other in others:
        first = first + "/" + other
    return first


def read_table(path: Path | str) -> pd.DataFrame:
    """Return the table in a CSV that `save_table` wrote. Raises ReportError for other files."""
    path = Path(path)
    cells = read_csv(path)
    if tuple(cells.columns[: len(TABLE_COLUMNS)]) != TABLE_COLUMNS:
        raise ReportError(
            f"{path} has the columns {', '.join(cells.columns)}; expected"
            f" {', '.join(TABLE_COLUMNS)}. If lmjudge wrote it, run its notebook again; otherwise"
            " move it away",
            name=path.name,
        )
    table = _with_numbers(cells.replace("", None), path.stem).fillna({"row": "", "column": ""})
    table["too_few"] = table["too_few"] == FLAGGED
    return table.astype({"n": "Int64", "no_verdict": "Int64"})


def checked(table: pd.DataFrame, stem: str, basis: str) -> pd.DataFrame:
    """Return the table with all columns in order, and with `basis` in cells that name none.

    Only a cell with an interval can be too_few. Raises ReportError for an invalid stem, for unknown
    or missing columns, for an unknown basis and for a repeated cell. It also refuses a value with
    the basis unreleased, and a demo table with the title of a paper's table.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", stem):
        raise ReportError(f"stem {stem!r} is not lower-case words joined by hyphens", name=stem)
    missing = [name for name in TABLE_COLUMNS[:4] if name not in table.columns]
    unknown = [str(name) for name in table.columns if name not in TABLE_COLUMNS]
    if missing or unknown:
        raise ReportError(
            f"table {stem} lacks the columns {missing} and has the unknown columns {unknown};"
            f" allowed are {', '.join(TABLE_COLUMNS)}. lmjudge.cells makes such a table of an"
            " estimator's frame.",
            name=stem,
        )
    cells = _with_numbers(table.reindex(columns=[*TABLE_COLUMNS]), stem)
    cells["too_few"] = cells["too_few"].eq(True) & cells["low"].notna()
    cells["basis"] = cells["basis"].where(cells["basis"].notna(), basis)
    if invalid := sorted(set(cells["basis"]) - set(BASES)):
        raise ReportError(
            f"table {stem} has cells of basis {', '.join(invalid)}; use {', '.join(BASES)}",
            name=stem,
        )
    if valued := int((cells["value"].notna() & (cells["basis"] == "unreleased")).sum()):
        raise ReportError(
            f"table {stem} has {valued} cell{'s' * (valued > 1)} of basis unreleased with a value;"
            " leave the value out, because there are no rows to compute it from",
            name=stem,
        )
    twice = cells.duplicated(["table", "row", "column"])
    if twice.any():
        first = cells[twice].iloc[0]
        raise ReportError(
            f"table {stem} has {int(twice.sum())} cells twice, such as {first['table']} /"
            f" {first['row']} / {first['column']}",
            name=stem,
        )
    titles = {title for name in stems() for title in published(name)["table"]}
    if shared := sorted(titles & set(cells.loc[cells["basis"] == "demo", "table"])):
        raise ReportError(
            f"table {shared[0]!r} of a demo judge has the title of a paper's table; rename it",
            name=stem,
        )
    return cells


def _with_numbers(table: pd.DataFrame, stem: str) -> pd.DataFrame:
    """Return the table with its numbers as floats. Raises ReportError for other values."""
    numbers = [name for name in NUMBERS if name in table.columns]
    try:
        return table.assign(**{name: table[name].astype("float64") for name in numbers})
    except (TypeError, ValueError) as error:
        message = f"table {stem} has a value that is not a number ({error})"
        raise ReportError(message, name=stem) from error
