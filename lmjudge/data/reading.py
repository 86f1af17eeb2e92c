"""Released files as rows: read line by line, and checked, so that an error names file and line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.canonical import clean_text
from lmjudge.data.finding import place
from lmjudge.data.sources import SOURCES, plain, source_named
from lmjudge.errors import BadRow, DataError

Row = dict[str, Any]
SourceOrPath = str | os.PathLike[str]
Fields = dict[str, Any]

# Where FastChat and the Vicuna blog keep the files of each role, in a folder of one's own.
_OWN = {
    "questions": ("question.jsonl",),
    "references": ("reference_answer/*.jsonl",),
    "prompts": ("prompt.jsonl",),
    "answers": ("model_answer/*.jsonl", "answer/*.jsonl", "*.jsonl"),
    "judgments": ("model_judgment/*.jsonl", "review/*.jsonl", "*.jsonl"),
    "votes": ("*.parquet", "*.csv", "*.jsonl"),
    "instructions": ("*.json", "*.jsonl"),
    "score-lists": ("*.json",),
    "pairs": ("*.json", "*.jsonl"),
}
_NAMED = ("question.jsonl", "prompt.jsonl")


def own_path(source: SourceOrPath) -> Path | None:
    """The path, where `source` is one of one's own and not a source's name; else None.

    Raises DataMissing for what is neither.
    """
    path = Path(source)
    if plain(source) in SOURCES:
        return None
    if path.exists():
        return path
    source_named(os.fspath(source))
    return None


def files_of(source: SourceOrPath, role: str) -> list[tuple[Path, str]]:
    """The files of a role, each with the model whose it is: of a source, or of one's own path.

    In a folder of one's own they are looked for where FastChat keeps them, then in the folder
    itself; the model is then the file's name, as FastChat has it.
    """
    own = own_path(source)
    if own is None:
        return place(plain(source), role)
    if own.is_file():
        return [(own, own.stem)]
    for pattern in _OWN.get(role, ()):
        # Questions that lie beside answers or judgments are neither.
        found = sorted(
            path for path in own.glob(pattern) if path.name == pattern or path.name not in _NAMED
        )
        if found:
            return [(path, path.stem) for path in found]
    raise DataError(
        f"{own} holds no {role}; expected {' or '.join(_OWN.get(role, ()))} in it", path=own
    )


def read_lines(path: Path, fields: Fields) -> Iterator[tuple[int, Row]]:
    """Each (line number, row) of a file of JSON lines, with the wanted fields of the wanted types.

    Text is cleaned of half surrogates. Raises BadRow for a line that is cut off, is no JSON object,
    or lacks a field, DataError for an empty file.
    """
    empty = True
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            empty = False
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                why = "is cut off or not JSON; mend the line, or get the file again"
                raise bad_row(path, number, f"{why} ({error})") from error
            if not isinstance(row, dict):
                raise bad_row(path, number, f"holds a {type(row).__name__}; expected a JSON object")
            for name, kind in fields.items():
                if name not in row:
                    told = f"lacks {name!r}; it has {', '.join(row)}"
                    raise bad_row(path, number, f"{told}; lmjudge.formats reads other forms")
                if not isinstance(row[name], kind):
                    kinds = kind if isinstance(kind, tuple) else (kind,)
                    wanted = " or ".join(one.__name__ for one in kinds)
                    told = f"has {name} = {row[name]!r:.60}; expected {wanted}"
                    raise bad_row(path, number, told)
            yield number, _clean(row) if b"\\u" in line else row
    if empty:
        raise DataError(f"{path} is empty; expected one JSON object a line", path=path)


def read_table(
    path: Path, columns: tuple[str, ...], also: tuple[str, ...] = ("turn", "tstamp")
) -> pd.DataFrame:
    """The wanted columns of a CSV or parquet file, and those of `also` that it has.

    Raises DataError for a file that cannot be read or has no rows, and for missing columns.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            known = pq.read_schema(path).names
            wanted = [name for name in (*columns, *also) if name in known]
            table = pd.read_parquet(path, columns=wanted)
        else:
            table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table ({error})", path=path) from error
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}",
            path=path,
            columns=missing,
        )
    if table.empty:
        raise DataError(f"{path} has no rows; expected at least one", path=path)
    return table


def bad_row(path: Path, line: int, problem: str) -> BadRow:
    """The BadRow that says what is wrong with a line of a file."""
    return BadRow(f"line {line} of {path} {problem}", path=path, line=line)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(name): _clean(item) for name, item in value.items()}
    return value
