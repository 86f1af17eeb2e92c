"""Rows of any of the files: JSON lines, a JSON array, CSV or Parquet; and ids made of texts."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.data.reading import Row, bad_row, read_lines
from lmjudge.errors import DataError

PathLike = str | os.PathLike[str]
_QUESTION = ("question", "prompt", "instruction", "text")


def rows_of(path: PathLike) -> Iterator[tuple[int, Row]]:
    """Each (line or place, row) of a file, by its suffix: .jsonl, .json, .csv or .parquet.

    Raises DataError for a file that is not there, cannot be read, or is empty, BadRow for a line
    that is no JSON object.
    """
    file = Path(path)
    if not file.is_file():
        what = "a folder; give a file of it" if file.is_dir() else "not a file, nor a folder"
        raise DataError(f"{file} is {what}", path=file)
    if file.suffix in (".csv", ".parquet"):
        yield from enumerate(_table(file), 2 if file.suffix == ".csv" else 1)
    elif file.suffix == ".json":
        yield from _array(file)
    else:
        yield from read_lines(file, {})


def _table(file: Path) -> list[Row]:
    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, OSError) as error:
        raise DataError(f"{file} cannot be read as a table ({error})", path=file) from error
    if table.empty:
        raise DataError(f"{file} has no rows; expected at least one", path=file)
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def _array(file: Path) -> Iterator[tuple[int, Row]]:
    try:
        whole = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is cut off or not JSON ({error}); mend it", path=file) from error
    if not isinstance(whole, list) or not whole:
        raise DataError(f"{file} holds no JSON array of rows; expected one", path=file)
    for place, row in enumerate(whole, 1):
        if not isinstance(row, dict):
            raise bad_row(file, place, f"holds a {type(row).__name__}; expected a JSON object")
        yield place, row


def _plain(value: Any) -> Any:
    """A cell of a table as JSON has it: lists for arrays, None for what is missing."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and value.isdecimal() and str(int(value)) == value:
        return int(value)
    return None if isinstance(value, float) and value != value else value


def text_of(value: Any) -> str | None:
    """A text, as it is or as Arena-Hard wraps it ({"content": ...}, {"answer": ...}); else None."""
    while isinstance(value, Mapping):
        value = value.get("content", value.get("answer"))
    if isinstance(value, list) and value and isinstance(value[0], str):
        value = value[0]  # a text and its pictures
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def texts_of(value: Any) -> list[str] | None:
    """The texts of a list of turns, or of one text; None where any is none."""
    turns = [text_of(one) for one in (value if isinstance(value, list) else [value])]
    return None if not turns or None in turns else [turn for turn in turns if turn is not None]


class Ids:
    """The question ids of a file: as its rows state them, else made of the question's text.

    AlpacaEval's files name no questions, so that the text is what joins them: the same text has the
    same id in all files, and where it comes again in one file (for the same model), `-2` and so on.
    """

    def __init__(self) -> None:
        self.seen: Counter[tuple[object, ...]] = Counter()

    def of(self, row: Row, *within: object) -> Any:
        """The question's id, or None where the row tells neither id nor text."""
        for name in ("question_id", "uid"):
            if isinstance(row.get(name), (str, int)) and row[name] != "":
                return row[name]
        text = question_of(row)
        if text is None:
            return None
        whole = "\0".join([*text, str(row.get("input") or "")])
        made = f"q-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
        self.seen[(made, *within)] += 1
        again = self.seen[(made, *within)]
        return made if again == 1 else f"{made}-{again}"


def question_of(row: Row) -> list[str] | None:
    """The turns of the question in a row, whatever the row calls them; None where it has none."""
    if "turns" in row:
        return texts_of(row["turns"])
    return next((texts_of(row[name]) for name in _QUESTION if row.get(name)), None)
