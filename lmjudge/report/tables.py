"""Tables in long form: cells of estimators' frames, and what a table of each source may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.published import TABLE_COLUMNS, published, stems
from lmjudge.report.files import read_csv

FLAGGED = "yes"
NUMBERS = ("value", "n", "low", "high", "no_verdict", "planted")
# Each source's place below the reports folder, and the bases that its cells may have there.
PLACES = {"published": "", "own": "own", "simulated": "simulated"}
_BASES = {
    "published": ("rows", "arithmetic", "unreleased"),
    "own": ("own",),
    "simulated": ("simulated",),
}
# What estimators group rows by, and so what tells the rows behind a cell.
GROUPS = "category group judge model model_a model_b question_id sample turn".split()


def cells(
    frame: pd.DataFrame,
    table: str,
    *,
    row: str,
    values: str | Mapping[str, str],
    column: str | None = None,
) -> pd.DataFrame:
    """An estimator's frame as the cells of a table: table, row, column, value, n, low, high,
    too_few, no_verdict.

    `row` names the frame's column that holds the rows' names. With `column`, that column holds the
    cells' columns and `values` names the one value; without, `values` maps each value to the name
    of its column. n, low, high, too_few and no_verdict go along where the frame has them, low, high
    and too_few only where there is one value, whose interval it is. `of` tells each cell's
    group by the frame's names (judge, model, category ...), for evidence; it is in no CSV.

    >>> scores = pd.DataFrame({"model": ["a", "b"], "mean": [7.5, 6.0], "n": [80, 79]})
    >>> cells(scores, "Scores", row="model", values={"mean": "score"})["column"].tolist()
    ['score', 'score']
    """
    named = {values: values} if isinstance(values, str) else dict(values)
    wanted = [row, *([] if column is None else [column]), *named]
    if missing := [name for name in wanted if name not in frame.columns]:
        raise ReportError(
            f"the frame for table {table!r} lacks {', '.join(missing)}; it has"
            f" {', '.join(map(str, frame.columns))}",
            name=table,
        )
    along = ["n", "no_verdict", *(["low", "high", "too_few", "planted"] if len(named) == 1 else [])]
    groups = [[(name, str(item)) for item in frame[name]] for name in GROUPS if name in frame]
    parts = [
        pd.DataFrame(
            {
                "table": table,
                "row": frame[row].astype(str),
                "column": name if column is None else frame[column].astype(str),
                "value": frame[value],
            }
            | {item: frame[item] for item in along if item in frame.columns}
            | {"of": list(zip(*groups, strict=True)) or [()] * len(frame)}
        )
        for value, name in named.items()
    ]
    return pd.concat(parts, ignore_index=True)


def read_table(path: Path | str) -> pd.DataFrame:
    """The table in a CSV that `save_table` wrote; ReportError where it is not one."""
    path = Path(path)
    whole = read_csv(path)
    if tuple(whole.columns[: len(TABLE_COLUMNS)]) != TABLE_COLUMNS:
        raise ReportError(
            f"{path} has the columns {', '.join(whole.columns)}; expected"
            f" {', '.join(TABLE_COLUMNS)}: run its notebook again if it is ours, or move it away",
            name=path.name,
        )
    made = _with_numbers(whole.replace("", None), path.stem).fillna({"row": "", "column": ""})
    made["too_few"] = made["too_few"] == FLAGGED
    return made.astype({"n": "Int64", "no_verdict": "Int64"})


def checked(table: pd.DataFrame, stem: str, source: str) -> pd.DataFrame:
    """The table with all its columns in order and a basis in each cell, or ReportError.

    too_few is of an interval: without one a cell has no flag.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", stem):
        raise ReportError(f"stem {stem!r} is not lower-case words joined by hyphens", name=stem)
    if source not in PLACES:
        raise ReportError(f"source is {source!r}; expected {', '.join(PLACES)}", name=stem)
    allowed = (*TABLE_COLUMNS, "planted") if source == "simulated" else TABLE_COLUMNS
    missing = [name for name in TABLE_COLUMNS[:4] if name not in table.columns]
    unknown = [str(name) for name in table.columns if name not in allowed]
    if missing or unknown:
        raise ReportError(
            f"table {stem} lacks {missing or 'nothing'} and has {unknown or 'nothing'} unknown;"
            f" a {source} table has {', '.join(allowed)}",
            name=stem,
        )
    whole = table.reindex(
        columns=[name for name in allowed if name in (*TABLE_COLUMNS, *table.columns)]
    )
    whole = _with_numbers(whole, stem)
    whole["too_few"] = whole["too_few"].eq(True) & whole["low"].notna()
    whole["basis"] = whole["basis"].where(whole["basis"].notna(), _BASES[source][0])
    odd = sorted(set(whole["basis"]) - set(_BASES[source]))
    if odd:
        raise ReportError(
            f"table {stem} has cells of basis {', '.join(odd)}; from source {source!r} they can be"
            f" {', '.join(_BASES[source])}",
            name=stem,
        )
    if valued := int((whole["value"].notna() & (whole["basis"] == "unreleased")).sum()):
        raise ReportError(
            f"table {stem} has {valued} cell{'s' * (valued > 1)} of basis unreleased with a value;"
            " there are no rows that it could be ours from: leave the value out",
            name=stem,
        )
    twice = whole.duplicated(["table", "row", "column"])
    if twice.any():
        first = whole[twice].iloc[0]
        raise ReportError(
            f"table {stem} has {int(twice.sum())} cells twice, such as {first['table']} /"
            f" {first['row']} / {first['column']}",
            name=stem,
        )
    if source == "simulated":
        _refuse_titles(whole, stem)
    return whole


def _with_numbers(whole: pd.DataFrame, stem: str) -> pd.DataFrame:
    """The table with its numbers as floats; ReportError for what is none."""
    numbers = [name for name in NUMBERS if name in whole.columns]
    try:
        return whole.assign(**{name: whole[name].astype("float64") for name in numbers})
    except (TypeError, ValueError) as error:
        told = f"table {stem} has a value that is no number ({error})"
        raise ReportError(told, name=stem) from error


def _refuse_titles(whole: pd.DataFrame, stem: str) -> None:
    """ReportError where a simulated table bears the title of a paper's table."""
    titles = {title for name in stems() for title in published(name)["table"]}
    if shared := sorted(titles & set(whole["table"])):
        raise ReportError(
            f"the simulated table {shared[0]!r} bears the title of a paper's; name it otherwise",
            name=stem,
        )
