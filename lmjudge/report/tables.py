"""The tables that notebooks write: one CSV a stem, its place by its source, a run card beside it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.places import reports
from lmjudge.records import clean_text

if TYPE_CHECKING:
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
_PACKAGES = ("lmjudge", "numpy", "pandas", "scipy", "statsmodels", "matplotlib", "openai")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def plain(text: object) -> str:
    r"""The text on one line, without control characters: safe in a terminal and in a cell.

    >>> plain("a\x1b[2Jb\nc")
    'a [2Jb c'
    """
    return _CONTROL.sub(" ", clean_text(str(text)))


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
    where there is one value, whose interval they are.

    >>> scores = pd.DataFrame({"model": ["a", "b"], "mean": [7.5, 6.0], "n": [80, 79]})
    >>> cells(scores, "Scores", row="model", values={"mean": "score"})["column"].tolist()
    ['score', 'score']
    """
    named = {values: values} if isinstance(values, str) else dict(values)
    wanted = [row, *([] if column is None else [column]), *named]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise ReportError(
            f"the frame for table {table!r} lacks {', '.join(missing)}; it has"
            f" {', '.join(map(str, frame.columns))}",
            name=table,
        )
    along = ["n", "no_verdict", *(["low", "high", "planted"] if len(named) == 1 else [])]
    parts = [
        pd.DataFrame(
            {
                "table": table,
                "row": frame[row].astype(str),
                "column": name if column is None else frame[column].astype(str),
                "value": frame[value],
            }
            | {item: frame[item] for item in along if item in frame.columns}
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
    notes: str = "",
) -> Path:
    """The path of the CSV written: `table` in long form, in the place that its `source` has.

    `table` has table, row, column and value, and where there are any n, low, high, no_verdict,
    basis (by default "rows", "own" or "simulated", as the source is) and, in a simulated table,
    planted. Place: <stem>.csv in the reports folder for "published", below it own/ or simulated/.
    Equal tables give equal bytes: cells sorted as given, numbers to ten significant digits, and
    text that a spreadsheet would run as a formula led by an apostrophe. A run card beside it
    (<stem>.run.json) tells the `sources`' files with their hashes, what the `store` was asked, and
    the versions. A published table whose bytes are new also gets its rows in sources.csv.

    Raises ReportError, with nothing written, for a stem, source, basis or table that does not fit.
    """
    folder = reports()
    whole = _checked(table, stem, source)
    body = to_csv([list(whole.columns), *whole.itertuples(index=False)])
    files = _hashes(sources)
    card = {
        "stem": stem,
        "source": source,
        "table_sha256": hashlib.sha256(body).hexdigest(),
        "sources": files,
        "notes": notes,
        "versions": _versions(),
        "store": None
        if store is None
        else {
            "hits": store.hits,
            "misses": store.misses,
            "calls": store.calls,
            "digest": store.digest,
        },
    }
    path = folder / PLACES[source] / f"{stem}.csv"
    changed = not path.exists() or path.read_bytes() != body
    write(path, body)
    write(path.with_suffix(".run.json"), as_json(card))
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
    numbers = [name for name in NUMBERS if name in whole.columns]
    return whole.assign(**{name: pd.to_numeric(whole[name].replace("", "nan")) for name in numbers})


def read_csv(path: Path) -> pd.DataFrame:
    """The text cells of a CSV of ours, without the apostrophes that stand before formulas."""
    whole = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    return whole.map(lambda cell: cell[1:] if re.match(rf"'{_FORMULA.pattern}", cell) else cell)


def to_csv(rows: Iterable[Iterable[object]]) -> bytes:
    r"""The rows as CSV bytes: UTF-8, LF, nothing in them that a spreadsheet would run.

    >>> to_csv([["row", "value"], ["=1+1", 0.5], ["-3", float("nan")]])
    b"row,value\n'=1+1,0.5\n-3,\n"
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[_cell(item) for item in row] for row in rows])
    return out.getvalue().encode()


def write(path: Path, body: bytes) -> None:
    """Writes a file whole or not at all; ReportError where it cannot be written."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(body)
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ReportError(
            f"{path} cannot be written ({error.strerror}); set LMJUDGE_REPORTS to a folder that can",
            name=str(path),
        ) from error


def as_json(value: Any) -> bytes:
    """The value as indented JSON bytes with sorted names."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


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
    try:
        whole = whole.assign(
            **{name: pd.to_numeric(whole[name]) for name in NUMBERS if name in whole.columns}
        )
    except (TypeError, ValueError) as error:
        raise ReportError(f"table {stem} has a value that is no number ({error})", name=stem) from (
            error
        )
    default = _BASES[source][0]
    whole["basis"] = whole["basis"].where(whole["basis"].notna(), default)
    odd = sorted(set(whole["basis"]) - set(_BASES[source]))
    if odd:
        raise ReportError(
            f"table {stem} has cells of basis {', '.join(odd)}; from source {source!r} they can be"
            f" {', '.join(_BASES[source])}",
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


def _refuse_titles(whole: pd.DataFrame, stem: str) -> None:
    """ReportError where a simulated table bears the title of a paper's table."""
    from lmjudge.published import published

    try:
        titles = set(published(stem)["table"])
    except LookupError:
        return
    if shared := sorted(titles & set(whole["table"])):
        raise ReportError(
            f"the simulated table {shared[0]!r} bears the title of a paper's; name it otherwise",
            name=stem,
        )


def _cell(item: object) -> str:
    if item is None or item is pd.NA or (isinstance(item, float) and math.isnan(item)):
        return ""
    if isinstance(item, float):
        return f"{item:.10g}"
    text = plain(item)
    if _FORMULA.match(text):
        try:
            float(text)
        except ValueError:
            return f"'{text}"
    return text


def _hashes(sources: Iterable[str]) -> dict[str, dict[str, str]]:
    """The SHA-256 of every file that each source was read from, as {source: {file: sha256}}."""
    named = sorted(sources)
    if not named:
        return {}
    from lmjudge.data import files

    return {
        source: {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in sorted(files(source).items())
        }
        for source in named
    }


def _note_sources(folder: Path, stem: str, files: Mapping[str, Mapping[str, str]]) -> None:
    """Writes what a published table came from into sources.csv, in place of what stood there."""
    header = ["stem", "source", "file", "sha256", "command", "date"]
    path = folder / "sources.csv"
    kept = read_csv(path).itertuples(index=False, name=None) if path.exists() else ()
    made = (f"lmjudge run {stem} --source published", datetime.now(UTC).date().isoformat())
    new = [
        (stem, source, file, sha256, *made)
        for source, hashes in files.items()
        for file, sha256 in hashes.items()
    ] or [(stem, "", "", "", *made)]
    rows = sorted([*(row for row in kept if row[0] != stem), *new])
    write(path, to_csv([header, *rows]))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
