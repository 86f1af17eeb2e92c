"""Save frames, in our layout or another tool's, or convert them to a `datasets.Dataset`."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge import places
from lmjudge.data.raw import FORMULA, Row, plain
from lmjudge.data.writers import WRITERS, fastchat_answers
from lmjudge.errors import DataError, FrameError
from lmjudge.frames import COLUMNS, check
from lmjudge.places import file_name
from lmjudge.store import Shelf
from lmjudge.store.dataset import COLUMNS as RECORDS, row_of

_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def save(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    layout: str | None = None,
    *,
    store: Shelf | None = None,
) -> Path:
    """Write a frame to a file, and return its path.

    The suffix says how: .jsonl, .json (an array), .csv, .tsv or .parquet, and .gz or .zst after one
    of these. The loaders read each of them back. Without a `layout` the frame is written as it is.
    Layouts: "fastchat" (questions, answers, scores, games), "alpaca-eval" (answers, pairings),
    "arena-hard" (questions, answers, games), "alpaca" (answers with their instruction; pairs, the
    better output first) and "trl" (pairs). Columns that came from a file go back under
    the names that they had there. Answers in FastChat's layout go into a folder, a file for each
    model, if the path has no suffix. FastChat's prompts are those of the records in `store`, else
    those of the file that the frame came from.

    In CSV an apostrophe stands before what a spreadsheet would run as a formula; the loaders take
    it away. The file is whole or not there. Raises DataError for another suffix or where nothing
    can be written, FrameError for a frame that the layout cannot hold.

    >>> import tempfile
    >>> votes = pd.DataFrame({"model_a": ["m"], "model_b": ["n"], "winner": ["tie"]})
    >>> save(votes, Path(tempfile.mkdtemp()) / "votes.csv").name
    'votes.csv'
    """
    file = Path(path)
    if layout is None:
        return _put(file, _body(file, frame))
    kind = _kind(frame)
    write = WRITERS.get((layout, kind))
    if write is None:
        known = sorted({name for name, of in WRITERS if of == kind})
        raise FrameError(
            f"there is no layout {layout!r} for {kind}; there are {', '.join(known) or 'none'}",
            columns=[],
        )
    if not file.suffix and kind == "answers":
        for model, part in frame.groupby("model", sort=False):
            target = file / f"{file_name(str(model))}.jsonl"
            _put(target, _body(target, pd.DataFrame({"row": write(_rows(part, kind))})["row"]))
        return file
    rows = _rows(frame, kind)
    if layout == "fastchat" and kind in ("games", "scores"):
        rows = _prompted(rows, store)
    return _put(file, _body(file, pd.Series(write(rows), dtype=object)))


@dataclass(frozen=True)
class Added:
    """A file that answers were added to: how many are new, changed, and kept as they were."""

    path: Path
    new: int
    changed: int
    kept: int


def add_answers(answers: pd.DataFrame, path: str | os.PathLike[str]) -> list[Added]:
    """Add answers to FastChat's files, as `save` places them, and return what changed.

    An answer replaces one of the same question, model and sample; all others stay, in their order.
    Raises DataError for a file that holds anything but answers, and where nothing can be written.
    """
    rows = fastchat_answers(_rows(check(answers, "answers"), "answers"))
    file = Path(path)
    files: dict[Path, list[Row]] = {file: []} if file.suffix == ".jsonl" else {}
    for row in rows:
        own = file / f"{file_name(str(row['model_id']))}.jsonl"
        files.setdefault(file if file in files else own, []).append(row)
    return [_added(name, fresh) for name, fresh in files.items()]


def _added(file: Path, fresh: list[Row]) -> Added:
    held = held_answers(file)
    answers = {key: choice for key, _, choice in _choices(held)}
    rows = {(str(row["model_id"]), str(row["question_id"])): dict(row) for row in held}
    new = changed = 0
    for (model, question, sample), row, choice in _choices(fresh):
        old = answers.get((model, question, sample))
        new, changed = new + (old is None), changed + (old not in (None, plain(choice)))
        into = rows.setdefault((model, question), row | {"choices": []})
        others = [each for each in into["choices"] if each.get("index") != sample]
        into["choices"] = sorted([*others, choice], key=lambda each: int(each["index"]))
    touched = sum(key in answers for key, _, _ in _choices(fresh))
    _put(file, _lines(rows.values()))
    return Added(file, new, changed, len(answers) - touched)


def held_answers(file: Path) -> list[Row]:
    """Return the rows of a file of FastChat's answers, none without the file.

    Raises DataError for a file that holds anything else.
    """
    if not file.exists():
        return []
    try:
        rows = [json.loads(line) for line in file.read_bytes().splitlines() if line.strip()]
        for (_, _, sample), _, choice in _choices(rows):
            if type(sample) is not int or not isinstance(choice["turns"], list):
                raise TypeError("a choice without index or turns")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file} holds other rows than answers ({type(error).__name__}: {error}). Write to"
            " another file.",
            path=file,
        ) from error
    return rows


def _choices(rows: list[Row]) -> Iterator[tuple[tuple[str, str, Any], Row, Row]]:
    """Yield each answer in rows of FastChat's: (model, question, sample), its row, its choice."""
    for row in rows:
        for choice in row["choices"]:
            yield (str(row["model_id"]), str(row["question_id"]), choice["index"]), row, choice


def to_dataset(frame: pd.DataFrame | Shelf) -> Any:
    """Return a frame or a store as a `datasets.Dataset`, for the hub or for training.

    `lj.load_votes` and its siblings read a frame back. A store gives a row for each record: key,
    provider, model, sample, text, request, reply and sha256, as `lmjudge store export --parquet`
    writes them. Needs the extra `train`. Raises FrameError for columns that Arrow cannot hold, such
    as texts beside numbers.
    """
    import datasets
    import pyarrow as pa

    if not isinstance(frame, pd.DataFrame):
        frame = pd.DataFrame(map(row_of, frame.records()), columns=[*RECORDS])
    rows = [plain(row) for row in frame.to_dict("records")]
    try:
        return datasets.Dataset.from_list(rows) if rows else datasets.Dataset.from_pandas(frame)
    except (pa.ArrowException, TypeError) as error:
        raise FrameError(f"the frame is no data set: {error}", columns=[*frame.columns]) from error


def _kind(frame: pd.DataFrame) -> str:
    """Return the kind of a frame, by its columns."""
    there = set(frame.columns)
    for kind in ("games", "scores", "votes", "pairings", "answers", "questions", "pairs"):
        if set(COLUMNS[kind]) <= there:
            check(frame, kind, by="criterion")
            return kind
    raise FrameError(
        f"no kind of frame has the columns {', '.join(map(str, frame.columns))}; see the frames in"
        " the reference",
        columns=[*frame.columns],
    )


def _rows(frame: pd.DataFrame, kind: str) -> list[Row]:
    """Return the rows of a frame as plain values, ids that are numbers as numbers."""
    ours = ("prompt", "asked") if kind in ("games", "scores") else ()
    rows = []
    for row in map(plain, frame.to_dict("records")):
        of = row.get("question_id")
        if isinstance(of, str) and of.isdecimal() and str(int(of)) == of:
            row["question_id"] = int(of)
        rows.append({name: value for name, value in row.items() if name not in ours})
    return rows


def _prompted(rows: list[Row], store: Shelf | None) -> list[Row]:
    keys = [row["key"] for row in rows if isinstance(row["key"], str)]
    known = {
        record.request.key: str(list(record.request.messages)[-1].get("content", ""))
        for record in (store.records(keys) if store is not None and keys else ())
    }
    return [
        row | {"user_prompt": known.get(row["key"], row.get("user_prompt") or "")} for row in rows
    ]


# ---- files


def _body(file: Path, rows: pd.DataFrame | pd.Series) -> bytes:
    """Return the bytes of a file of rows, as its suffixes say."""
    suffixes = file.suffixes
    packed = suffixes.pop() if suffixes[-1:] and suffixes[-1] in (".gz", ".zst") else ""
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in _SUFFIXES:
        expected = f"{', '.join(_SUFFIXES)}, or one of them and .gz or .zst"
        raise DataError(f"{file} ends in none of {expected}; name one", path=file)
    if suffix in (".csv", ".tsv"):
        body = _csv(_table(rows), "\t" if suffix == ".tsv" else ",")
    elif suffix == ".parquet":
        body = _parquet(_table(rows))
    else:
        records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows.tolist()
        body = _lines(records)
        if suffix == ".json":
            body = b"[" + body[:-1].replace(b"\n", b",\n") + b"]\n"
    if packed == ".gz":
        return gzip.compress(body, mtime=0)
    if packed == ".zst":
        import zstandard

        return zstandard.ZstdCompressor().compress(body)
    return body


def _table(rows: pd.DataFrame | pd.Series) -> pd.DataFrame:
    return rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows.tolist())


def _lines(rows: Iterable[Any]) -> bytes:
    texts = (json.dumps(plain(row), ensure_ascii=False, allow_nan=False) for row in rows)
    return b"".join(text.encode() + b"\n" for text in texts)


def _parquet(table: pd.DataFrame) -> bytes:
    """Return the bytes of a Parquet file; a column of values of several kinds is text in it."""
    held = io.BytesIO()
    mixed = {name: table[name].map(_as_text) for name in table if not _is_of_one_kind(table[name])}
    table.assign(**mixed).to_parquet(held, index=False)
    return held.getvalue()


def _is_of_one_kind(column: pd.Series) -> bool:
    import pyarrow as pa

    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        return False
    return True


def _as_text(value: Any) -> str | None:
    held = plain(value)
    return held if held is None or isinstance(held, str) else json.dumps(held, ensure_ascii=False)


def _csv(table: pd.DataFrame, delimiter: str) -> bytes:
    """Return the bytes of a CSV file that runs nothing in a spreadsheet; lists stand as JSON."""

    def cell(value: Any) -> Any:
        value = plain(value)
        if isinstance(value, (list, dict)):
            return json.dumps(value, ensure_ascii=False)
        return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value

    # Else a lone carriage return stays bare, and what follows it is a row of its own.
    how = {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n", "sep": delimiter}
    return table.map(cell).to_csv(index=False, **how).encode()


def _put(file: Path, body: bytes) -> Path:
    """Write a file whole or not at all."""
    try:
        places.write(file, body)
    except OSError as error:
        raise DataError(f"{file} cannot be written ({error.strerror})", path=file) from error
    return file
