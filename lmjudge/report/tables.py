"""The tables that notebooks write: one CSV a stem, placed by its source, and a run card."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmjudge.errors import DataMissing, ReportError
from lmjudge.places import reports
from lmjudge.report.files import as_json, read_csv, to_csv, write
from lmjudge.report.typeset import write_typeset

if TYPE_CHECKING:
    from lmjudge.report.evidence import Records
    from lmjudge.store import Store

COLUMNS = ("table", "row", "column", "value", "n", "low", "high", "no_verdict", "basis")
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
_PACKAGES = ("lmjudge", "numpy", "pandas", "scipy", "statsmodels", "matplotlib", "openai")


def cells(
    frame: pd.DataFrame,
    table: str,
    *,
    row: str,
    values: str | Mapping[str, str],
    column: str | None = None,
) -> pd.DataFrame:
    """An estimator's frame as the cells of a table: table, row, column, value, n, low, high,
    no_verdict.

    `row` names the frame's column that holds the rows' names. With `column`, that column holds the
    cells' columns and `values` names the one value; without, `values` maps each value to the name
    of its column. n, low, high and no_verdict go along where the frame has them, low and high only
    where there is one value, whose interval they are. `of` tells each cell's group by the frame's
    names (judge, model, category ...), for evidence; it is in no CSV.

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
    along = ["n", "no_verdict", *(["low", "high", "planted"] if len(named) == 1 else [])]
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


def save_table(
    table: pd.DataFrame,
    stem: str,
    *,
    source: str,
    sources: Iterable[str] = (),
    store: Store | None = None,
    keys: Iterable[str] = (),
    notes: str = "",
    part: bool = False,
    evidence: pd.DataFrame | None = None,
    by: Iterable[str] = (),
) -> Path:
    """The path of the CSV written: `table` in long form, in the place that its `source` has.

    `table` has table, row, column and value, and where there are any n, low, high, no_verdict,
    basis (by default "rows", "own" or "simulated", as the source is) and, in a simulated table,
    planted. Place: <stem>.csv in the reports folder for "published", below it own/ or simulated/.
    Equal tables give equal bytes: cells in their order, numbers to ten significant digits, and
    text that a spreadsheet would run as a formula led by an apostrophe. A run card beside it
    (<stem>.run.json) tells the `sources`' files with their hashes, what the `store` was asked, the
    digest of its records under `keys` (themselves in <stem>.keys), and the versions; `notes` stand
    on the page. <stem>.tex and <stem>.md are the table, typeset. A published table of new bytes
    gets its rows in sources.csv. With `part`, a choice of the published rows, it is one's own.
    With `evidence`, the games or scores that the table rests on, each cell leads to pages of its
    judgments (evidence/<stem>/): those rows that are of the cell's group in the columns `by`, all
    rows where it has none; `keys` are theirs.

    Raises ReportError, with nothing written, for a stem, source, basis or table that does not fit.
    """
    folder = reports()
    if part and source == "published":
        source = "own"
        table = table.assign(table="A choice of rows: " + table["table"], basis="own")
    whole = _checked(table.drop(columns="of", errors="ignore"), stem, source)
    body = to_csv([list(whole.columns), *whole.itertuples(index=False)])
    files = _hashes(sources)
    from lmjudge.report.evidence import gather, records_of, write_evidence  # it reads tables

    given = keys if evidence is None else evidence["key"]
    used = sorted({key for key in given if isinstance(key, str)})
    records = {} if store is None else records_of(store, used)
    behind = None
    if evidence is not None:
        groups = whole.assign(of=list(table["of"]) if "of" in table else None)
        behind = gather(groups, evidence, list(by), records)
    card = {
        "stem": stem,
        "source": source,
        "table_sha256": hashlib.sha256(body).hexdigest(),
        "sources": files,
        "notes": notes,
        "versions": versions(),
        "store": None if store is None else _asked(store, used, records),
    }
    path = folder / PLACES[source] / f"{stem}.csv"
    changed = not path.exists() or path.read_bytes() != body
    write(path, body)
    write_typeset(path, whole)
    if behind is not None:
        card["evidence"] = write_evidence(path, behind, records)
    write(path.with_suffix(".run.json"), as_json(card))
    write(path.with_suffix(".keys"), "".join(f"{key}\n" for key in used).encode())
    if source == "published" and changed:
        _note_sources(folder, stem, files)
    return path


def read_table(path: Path) -> pd.DataFrame:
    """The table in a CSV that `save_table` wrote; ReportError where it is not one."""
    whole = read_csv(path)
    if tuple(whole.columns[: len(COLUMNS)]) != COLUMNS:
        raise ReportError(
            f"{path.name} has the columns {', '.join(whole.columns)}; a table has"
            f" {', '.join(COLUMNS)}: write it with lmjudge.save_table",
            name=path.name,
        )
    made = _with_numbers(whole.replace("", None), path.stem).fillna({"row": "", "column": ""})
    return made.astype({"n": "Int64", "no_verdict": "Int64"})


def _checked(table: pd.DataFrame, stem: str, source: str) -> pd.DataFrame:
    """The table with all its columns in order, or ReportError."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", stem):
        raise ReportError(f"stem {stem!r} is not lower-case words joined by hyphens", name=stem)
    if source not in PLACES:
        raise ReportError(f"source is {source!r}; expected {', '.join(PLACES)}", name=stem)
    allowed = (*COLUMNS, "planted") if source == "simulated" else COLUMNS
    missing = [name for name in COLUMNS[:4] if name not in table.columns]
    unknown = [str(name) for name in table.columns if name not in allowed]
    if missing or unknown:
        raise ReportError(
            f"table {stem} lacks {missing or 'nothing'} and has {unknown or 'nothing'} unknown;"
            f" a {source} table has {', '.join(allowed)}",
            name=stem,
        )
    whole = table.reindex(columns=[name for name in allowed if name in (*COLUMNS, *table.columns)])
    whole = _with_numbers(whole, stem)
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
    from lmjudge.published import published, stems

    titles = {title for name in stems() for title in published(name)["table"]}
    if shared := sorted(titles & set(whole["table"])):
        raise ReportError(
            f"the simulated table {shared[0]!r} bears the title of a paper's; name it otherwise",
            name=stem,
        )


def _asked(store: Store, used: list[str], records: Records) -> dict[str, Any]:
    """What the store was asked and what that cost, and what asking all of it anew would cost.

    Dollars are None where a price is unknown.
    """
    from lmjudge.prices import cost, prices

    known = prices()
    costs = [cost(held[0].request, held[0].reply, known) for held in records.values()]
    return {
        "spent": store.spent,
        "rerun": None if None in costs else round(sum(item or 0.0 for item in costs), 4),
        "hits": store.hits,
        "misses": store.misses,
        "calls": store.calls,
        "requests": len(used),
        "digest": store.digest(used) if used else None,
    }


def _hashes(sources: Iterable[str]) -> dict[str, dict[str, str]]:
    """The SHA-256 of every file that each source is read from here, as {source: {file: sha256}}."""
    from lmjudge.data import SOURCES, find

    found: dict[str, dict[str, str]] = {}
    for name in sorted(sources):
        found[name] = {}
        for file in SOURCES[name].files:
            try:
                path = find(name, file)
            except DataMissing:
                continue
            found[name][file.path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _note_sources(folder: Path, stem: str, files: Mapping[str, Mapping[str, str]]) -> None:
    """Writes what a published table came from into sources.csv, in place of what stood there."""
    header = ["stem", "source", "file", "sha256", "command", "date"]
    path = folder / "sources.csv"
    made = (f"lmjudge run {stem} --source published", datetime.now(UTC).date().isoformat())
    new = [
        (stem, source, file, sha256, *made)
        for source, hashes in files.items()
        for file, sha256 in hashes.items()
    ] or [(stem, "", "", "", *made)]
    # Notebooks that run at the same time add to the one file: the folder is their lock.
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = read_csv(path).itertuples(index=False, name=None) if path.exists() else ()
        rows = sorted([*(row for row in kept if row[0] != stem), *new])
        write(path, to_csv([header, *rows]))
    finally:
        os.close(lock)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that tables rest on, by name."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
