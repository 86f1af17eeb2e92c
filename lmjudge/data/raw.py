"""Read the rows of any file by its content, and its cells as ids, texts, times or verdicts."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from lmjudge.canonical import clean_text
from lmjudge.errors import BadRow, DataError
from lmjudge.frames import id_text
from lmjudge.judges.prompts import FAMILIES
from lmjudge.turns import content

Row = dict[str, Any]
# The rows of a file, each with its line; a malformed row is the error that says so.
Rows = list[tuple[int, Row | BadRow]]
_Bytes = TypeVar("_Bytes", bytes, bytearray)

# Columns that hold lists or objects, which a CSV has as JSON. The texts among them may be JSON
# themselves, so those are lists only where all of them are.
_NESTED = {"turns", "choices", "messages", "games", "judge", "keys", "file_judge"}
_NESTED |= {"judgments", "resps", "filtered_resps", "arguments", "score", "scores"}
_TEXTS = {"question", "reference", "answer_a", "answer_b"}
# What spreadsheets run as a formula; our own CSV files put an apostrophe before it.
FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


_UNPACKED = 2**24  # bytes that any packed file may unpack to
_RATIO = 50  # bytes for each packed one, for a larger file
_PART = 1024  # packed bytes that are unpacked at a time
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")
_ZSTANDARD = 93  # a way of packing in a ZIP archive
_OF_A_ROW = 200  # bytes of a row without its values

QUESTIONS = ("question", "prompt", "instruction", "context", "history", "text", "input")
MODELS = ("model_id", "model", "generator", "model_name", "response_model_name", "model_test")
_IDS = ("question_id", "uid", "prompt_id")
# Marks of a missing verdict, and those of them that stand for a call that failed.
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-1", "-1.0", "error", "$error$", "garbage"}
_FAILED = {"error", "$error$"}
_WINNERS: dict[str, tuple[str | None, str | None]] = {
    "model_a": ("model_a", None),
    "model_b": ("model_b", None),
    "tie": ("tie", None),
    "tie (bothbad)": ("tie", "both_bad"),
    "both_bad": ("tie", "both_bad"),
    "bothbad": ("tie", "both_bad"),
    "tie (inconsistent)": ("tie", "inconsistent"),
    "first": ("model_a", None),
    "second": ("model_b", None),
    "left": ("model_a", None),
    "right": ("model_b", None),
    "same": ("tie", None),
    "equal": ("tie", None),
    "draw": ("tie", None),
    "neither": ("tie", "both_bad"),
    "both bad": ("tie", "both_bad"),
    "a": ("model_a", None),
    "b": ("model_b", None),
    "c": ("tie", None),
    "unsure": (None, "no_verdict"),
    "?": (None, "no_verdict"),
}
_PASSES = {"pass": 1, "yes": 1, "true": 1, "fail": 0, "no": 0, "false": 0}
# A missing value is NaN in what Python writes as JSON.
_JSON = json.JSONDecoder(parse_constant=lambda name: None if name == "NaN" else float(name))
# A>>B and the like, with the better side first or last.
_SIGNS = {">>": 0, ">": 0, "<": -1, "<<": -1}


class Cells(dict[str, Any]):
    """A row of a CSV file: every value is text, or a list that a nested column holds."""


def bad_row(path: Path, line: int, problem: str) -> BadRow:
    """Return the error for one row of a file, by its line (in JSON arrays, its place)."""
    return BadRow(f"line {line} of {path} {problem}", path=path, line=line)


def read_rows(path: Path, body: bytes | None = None) -> Rows:
    """Return each (line, row) of a file, a malformed row as the BadRow that describes it.

    The content says what the file is; its suffix is not looked at. Half surrogate pairs become
    U+FFFD. Raises DataError for a file that is missing, empty or unreadable as a whole.
    """
    if body is None:
        if not path.is_file():
            what = "a folder; give a file in it" if path.is_dir() else "not a file or folder"
            raise DataError(f"{path} is {what}", path=path)
        body = path.read_bytes()
    try:
        rows = _rows(path, _unpacked(body))
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}", path=path) from error
    if not rows:
        raise DataError(f"{path} is empty or has no rows; it needs at least one row", path=path)
    return rows


def _room(packed: bytes) -> int:
    """Return how many bytes a packed file may unpack to; a few kilobytes can hold gigabytes."""
    return max(_UNPACKED, _RATIO * len(packed))


def _bounded(packed: bytes, body: _Bytes) -> _Bytes:
    """Return the unpacked bytes; ValueError for more than there is room for."""
    if len(body) > (room := _room(packed)):
        raise ValueError(f"it unpacks to over {room:,} bytes; unpack it first if you trust it")
    return body


def _unpacked(body: bytes) -> bytes:
    if body[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(body)) as file:
            return _bounded(body, file.read(_room(body) + 1))
    return _zstandard(body) if body[:4] == b"\x28\xb5\x2f\xfd" else body


def _zstandard(body: bytes) -> bytes:
    """Return what Zstandard frames hold; a reader of streams says nothing of a last one cut off."""
    import zstandard

    unpacker, unpacked, at = zstandard.ZstdDecompressor(max_window_size=2**25), bytearray(), 0
    try:
        while at < len(body):
            frame = unpacker.decompressobj()
            while at < len(body) and not frame.eof:
                unpacked += frame.decompress(body[at : at + _PART])
                at = min(at + _PART, len(body)) - len(frame.unused_data)
                _bounded(body, unpacked)
    except zstandard.ZstdError as error:
        raise ValueError(f"its Zstandard data is damaged ({error})") from error
    if not frame.eof:
        raise ValueError("its Zstandard data is cut off; get the file again")
    return bytes(unpacked)


def _rows(path: Path, body: bytes) -> Rows:
    if body[:4] == b"PAR1":
        return list(enumerate(_parquet(body), 1))
    if body[:2] == b"PK":
        return _numbered(path, _inspect_archive(body))
    if body.startswith(_PACKED):
        raise ValueError("it is packed twice, or not by gzip or Zstandard; unpack it first")
    text = _text(body)
    start = text.lstrip()[:1]
    if start not in ("{", "["):
        return _table(path, text)
    escaped = "\\ud" in text.lower()
    rows = _lines(path, text) if start == "{" else None
    if rows is None:
        rows = _numbered(path, [row for value in _values(path, text) for row in _inside(value)])
    return [(line, _each_text(row, clean_text) if escaped else row) for line, row in rows]


def _parquet(body: bytes) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    room, rows = _room(body), list[Row]()
    try:
        # Texts stay in their dictionaries until it is known how much room they take.
        paths = pq.ParquetFile(io.BytesIO(body)).schema
        _check_names(paths.to_arrow_schema().names)
        texts = [
            column.path
            for column in map(paths.column, range(len(paths)))
            if column.physical_type == "BYTE_ARRAY"
        ]
        file = pq.ParquetFile(io.BytesIO(body), read_dictionary=texts)
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        taken = sum(group.total_byte_size for group in groups)
        for batch in file.iter_batches(batch_size=512) if taken <= room else ():
            taken += sum(map(_decoded, batch.columns)) + _OF_A_ROW * batch.num_rows
            if taken > room:
                break
            rows += map(plain, batch.to_pylist())
    except pa.ArrowException as error:
        raise ValueError(f"it is not Parquet ({error})") from error
    if taken > room:
        raise ValueError(f"it unpacks to over {room:,} bytes; write it anew if you trust it")
    return rows


def _decoded(array: Any) -> int:
    """Return the bytes that an Arrow array takes once its texts are out of their dictionaries."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary)
        return int(pc.sum(pc.cast(lengths, pa.int64()).take(array.indices)).as_py() or 0)
    if pa.types.is_struct(array.type):
        return sum(map(_decoded, array.flatten()))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return int(array.nbytes) + _decoded(array.flatten())
    return int(array.nbytes)


def _text(body: bytes) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte order mark."""
    encoding = "utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if b"\0" in body[:2] or body[2:4] == b"\0\0":
        raise ValueError("it is UTF-32, or UTF-16 without a byte order mark; save it as UTF-8")
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise ValueError(
            f"byte {error.start:,} is not {name} ({body[error.start : error.start + 1]!r});"
            " save the file as UTF-8"
        ) from error


def _lines(path: Path, text: str) -> Rows | None:
    """Return the rows of JSON lines; None where no line is a JSON object, as in indented JSON."""
    rows: Rows = []
    for number, line in enumerate(text.split("\n"), 1):  # str.splitlines also cuts at U+2028
        if not line.strip():
            continue
        try:
            row = _JSON.decode(line)
        except (ValueError, RecursionError) as error:
            why = "is cut off or not JSON; mend the line, or get the file again"
            rows.append((number, bad_row(path, number, f"{why} ({error})")))
            continue
        rows.append(_object(path, number, row))
    objects = sum(isinstance(row, dict) for _, row in rows)
    # One object may be the whole file (an object of rows, an Inspect log), and few lines of an
    # indented file are JSON by themselves.
    return rows if 2 * objects >= len(rows) > 1 else None


def _values(path: Path, text: str) -> Iterator[Any]:
    """Yield each JSON value of a text: usually one, or arrays written one after the other."""
    at, end = 0, len(text)
    while at < end:
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", at)) + 1
            problem = f"is cut off or not JSON; get the file again ({error})"
            raise bad_row(path, line, problem) from error
        yield value


def _inside(value: Any) -> Iterator[Any]:
    """Yield the rows in a JSON value: an array's items, an object's rows, or the object itself."""
    if isinstance(value, list):
        yield from value
    elif not isinstance(value, dict):
        yield value
    elif "samples" in value and isinstance(value.get("eval"), dict):
        yield from _inspect_samples(value["eval"], value["samples"])
    elif isinstance(value.get("results"), dict):
        yield value
    elif value and all(isinstance(row, dict) for row in value.values()):
        yield from ({"key": key} | row for key, row in value.items())
    elif value and all(_numbers(row) for row in value.values()):
        yield from ({"model": name, "score": score} for name, row in value.items() for score in row)
    elif isinstance(value.get("data"), list) and all(isinstance(r, dict) for r in value["data"]):
        yield from value["data"]
    else:
        yield value


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        number is None or (isinstance(number, (int, float)) and not isinstance(number, bool))
        for number in value
    )


def _inspect_archive(body: bytes) -> Iterator[Row]:
    """Yield the samples of an Inspect log in its `.eval` form."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        if sum(part.file_size for part in archive.infolist()) > _room(body):
            raise ValueError(f"it unpacks to over {_room(body):,} bytes; read its samples singly")
        names = archive.namelist()
        if "header.json" not in names:
            raise ValueError("it is a ZIP archive, and no Inspect log; unpack it first")
        evaluation = json.loads(_member(archive, body, "header.json"))["eval"]
        samples = [
            json.loads(_member(archive, body, name))
            for name in names
            if name.startswith("samples/")
        ]
    yield from _inspect_samples(evaluation, samples)


def _member(archive: zipfile.ZipFile, body: bytes, name: str) -> bytes:
    """Return a file of an archive, also where Zstandard packs it, which zipfile may not know."""
    info = archive.getinfo(name)
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    at = info.header_offset
    start = at + 30 + sum(int.from_bytes(body[at + n : at + n + 2], "little") for n in (26, 28))
    content = _unpacked(body[start : start + info.compress_size])
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise ValueError(f"its part {name} is damaged; get the file again")
    return content


def _inspect_samples(header: Mapping[str, Any], samples: list[Row]) -> Iterator[Row]:
    """Yield the samples with what the log says of all of them; long texts are put back."""
    for sample in samples:
        texts = sample.pop("attachments", None) or {}
        events, pools = sample.pop("events", None) or [], sample.pop("events_data", None) or {}
        attached = {f"attachment://{name}": text for name, text in texts.items()}

        def whole(text: str, attached: Mapping[str, str] = attached) -> str:
            return attached.get(text, text)

        if calls := _graders_calls(events, pools.get("messages") or []):
            sample["calls"] = calls
        about = {"task": header.get("task"), "model": header.get("model")}
        yield about | _each_text(sample, whole)


def _graders_calls(events: list[Row], pool: list[Row]) -> dict[str, list[Row]]:
    """Return the model calls of each scorer of an Inspect sample, each with its whole input."""
    spans = {event["id"]: event for event in events if event.get("event") == "span_begin"}
    calls: dict[str, list[Row]] = {}
    for event in events:
        if event.get("event") != "model":
            continue
        span = spans.get(event.get("span_id"))
        while span is not None and span.get("type") != "scorer":
            span = spans.get(span.get("parent_id"))
        if span is not None:
            # Inputs that events share stand once, in the pool, and their places here.
            shared = [message for a, b in event.get("input_refs") or () for message in pool[a:b]]
            call = event | {"input": event.get("input") or shared}
            calls.setdefault(str(span.get("name")), []).append(call)
    return calls


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with each text in it changed, names of columns included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(item, change) for item in value]
    if isinstance(value, dict):
        return {change(name): _each_text(item, change) for name, item in value.items()}
    return value


def _numbered(path: Path, rows: Any) -> Rows:
    return [_object(path, at, row) for at, row in enumerate(rows, 1)]


def _object(path: Path, line: int, row: Any) -> tuple[int, Row | BadRow]:
    if isinstance(row, dict):
        return line, row
    problem = f"holds a {type(row).__name__}; expected a JSON object"
    return line, bad_row(path, line, problem)


def _table(path: Path, text: str) -> Rows:
    """Return the rows of a CSV or TSV file; its delimiter is the one its first line has most of."""
    first = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
    delimiter = max(",;\t|", key=first.count)
    limit = csv.field_size_limit(sys.maxsize >> 33)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = next(filter(None, reader), [])
        _check_names(names)
        rows: Rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) == len(names):
                rows.append((reader.line_num, Cells(zip(names, cells, strict=True))))
            else:
                problem = f"has {len(cells)} cells, and the header {len(names)}; quote the texts"
                rows.append((reader.line_num, bad_row(path, reader.line_num, problem)))
    except csv.Error as error:
        raise bad_row(path, reader.line_num, f"is not CSV ({error}); quote its texts") from error
    finally:
        csv.field_size_limit(limit)
    _nest([row for _, row in rows if isinstance(row, Cells)], names)
    return rows


def _check_names(names: list[str]) -> None:
    """Raise ValueError for a name that two columns have, since a row keeps one of their values."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"it has {names.count(twice[0])} columns {twice[0]!r}; rename one")


def _nest(rows: list[Cells], names: list[str]) -> None:
    """Put lists in the place of their JSON, and take the guards off what looks like a formula."""
    lists = [name for name in names if name in _TEXTS]
    if not all(_list(row[name]) is not None for row in rows for name in lists if row[name]):
        lists = []
    for row in rows:
        for name, cell in row.items():
            nested = _list(cell)
            wanted = name in _NESTED or name in lists or _is_talk(nested)
            row[name] = nested if wanted and nested is not None else _unguarded(cell)


def _is_talk(value: Any) -> bool:
    """Return whether a value is a list of messages, in OpenAI's form or ShareGPT's."""
    messages = isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
    return bool(messages and value and all("role" in item or "from" in item for item in value))


def _list(cell: str) -> Any:
    """Return the list or object whose JSON a cell holds; None where it holds none."""
    try:
        value = json.loads(cell) if cell[:1] in ("[", "{") else None
    except (ValueError, RecursionError):
        return None
    return value


def _unguarded(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell) else cell


def plain(value: Any) -> Any:
    """Return a cell as JSON has it: lists for arrays, None for what is missing."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return clean_text(value)
    return None if value != value or type(value).__name__ in ("NAType", "NaTType") else value


def take(row: Row, *names: str) -> Any:
    """Remove and return the first of these columns that has a value; None where none has."""
    for name in names:
        if name in row and (value := row.pop(name)) is not None:
            return value
    return None


def as_id(value: Any, name: str) -> str | None:
    """Return an id as text (see `id_text`); ValueError for what is none."""
    if isinstance(value, (bool, bytes, list, dict)):
        raise ValueError(f"has {name} = {value!r:.60}; expected a text or an integer")
    of = id_text(value)
    return None if of is None else str(of)


def name_of(row: Row, *names: str) -> str | None:
    """Remove and return the first of these columns that holds a name; numbers become text."""
    for name in names:
        if (of := as_id(row.get(name), name)) not in (None, ""):
            del row[name]
            return of
    return None


def question_id(row: Row, *names: str) -> str:
    """Return the id that a row gives its question, else one made of the question's text.

    Rows with one text are on one question, whichever file they stand in. `names` are the columns
    that may hold the text. Raises KeyError where a row has neither.
    """
    if (of := name_of(row, *_IDS)) is not None:
        return of
    turns = question_of(row, *names)
    if turns is None:
        raise KeyError("question_id")
    return content_id(turns, row.get("input") if "instruction" in row else None)


def verdict_id(row: Row) -> str | None:
    """Return the id of the question that a verdict is on; None where the row says nothing of it."""
    try:
        return question_id(row, "question", "prompt", "instruction")
    except KeyError:
        return None


def content_id(turns: list[str], beside: Any = None) -> str:
    """Return the id of a question that its file gives none: a hash of its text."""
    text_ = "\0".join([*turns, str(beside or "")])
    return f"q-{hashlib.sha256(text_.encode()).hexdigest()[:12]}"


def question_of(row: Row, *names: str) -> list[str] | None:
    """Return the turns of the question in a row, whatever its column; None where it has none."""
    if "conversation_a" in row:
        return talk(row["conversation_a"])[0]
    for name in names or ("turns", *QUESTIONS):
        if row.get(name) is not None:
            return asked(row[name])
    return None


def asked(value: Any) -> list[str] | None:
    """Return what was asked: a text, a list of texts, or what the user says in a list of messages.

    >>> asked("Sing"), asked([{"role": "user", "content": "Sing"}])
    (['Sing'], ['Sing'])
    """
    if isinstance(value, list) and value and all(isinstance(message, Mapping) for message in value):
        if "role" in value[0]:
            return texts(
                [message.get("content") for message in value if message.get("role") == "user"]
            )
        if "user" in value[0]:
            return texts([message["user"] for message in value])
    return texts(value)


def talk(messages: Any) -> tuple[list[str], list[str]]:
    """Return what the user said and what the model said, one text a turn."""
    if not isinstance(messages, list) or not all(
        isinstance(message, Mapping) for message in messages
    ):
        raise ValueError(f"has a conversation that is no list of messages ({messages!r:.60})")
    exchanged = [message for message in messages if message.get("role") != "system"]
    if exchanged and exchanged[-1].get("role") == "user":
        exchanged = exchanged[:-1]  # a last question that nobody answered
    roles = [message.get("role") for message in exchanged]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError(f"has the roles {roles}; expected user and assistant in turn")
    spoken = texts([message.get("content") for message in exchanged])
    if spoken is None:
        raise ValueError("has a message without text")
    return spoken[::2], spoken[1::2]


def sharegpt(messages: Any) -> tuple[list[str], list[str]]:
    """Return what the user and the model said in ShareGPT's form: from human or gpt, and value.

    What a model says before the first question is left out, as in Vicuna's data.
    """
    roles = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
    roles |= dict.fromkeys(("chatgpt", "bing", "bard"), "assistant") | {"system": "system"}
    if not isinstance(messages, list) or not all(
        isinstance(message, Mapping) for message in messages
    ):
        raise ValueError(f"has conversations that are no list of messages ({messages!r:.60})")
    turns = [
        {
            "role": roles.get(str(message.get("from")), message.get("from")),
            "content": message.get("value"),
        }
        for message in messages
    ]
    while turns and turns[0]["role"] == "assistant":
        del turns[0]
    return talk(turns)


def text(value: Any) -> str | None:
    """Return a text, as it is or as its file wraps it ({"content": ...}, parts with pictures)."""
    while isinstance(value, Mapping):
        value = next((value[n] for n in ("content", "answer", "text") if n in value), None)
    if isinstance(value, list):
        parts = [text(part) for part in value if not isinstance(part, Mapping) or "text" in part]
        value = "\n".join(part for part in parts if part is not None) if parts else None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value)


def replies(messages: Any) -> list[Any]:
    """Return what followed each of the user's messages: a text a turn, the tools used included.

    A last message of the user that nobody answered has none; a list of other things has none.
    """
    turns: list[list[Any]] = []
    for message in messages if isinstance(messages, list) else []:
        role = message.get("role") if isinstance(message, Mapping) else None
        if role == "user":
            turns.append([])
        elif role in ("assistant", "tool", "function"):
            turns = turns or [[]]
            turns[-1].append(message)
    runs = [(run, _turn(run[0].get("content")) if len(run) == 1 else None) for run in turns if run]
    return [content(run) if alone is None else alone for run, alone in runs]


def texts(value: Any) -> list[Any] | None:
    """Return the texts of a list of turns, or of one text; None where one is missing.

    A turn with pictures stays the list of its parts, and an agent's messages become one text.
    """
    turns = [_turn(part) for part in (value if isinstance(value, list) else [value])]
    return None if not turns or None in turns else [turn for turn in turns if turn is not None]


def _turn(value: Any) -> Any:
    parts: list[Any] = value if isinstance(value, list) and value else [None]
    if all(isinstance(part, Mapping) for part in parts):
        if any("role" in part for part in parts):
            return content(value)
        if any(part.get("type", "text") == "image_url" for part in parts):
            return value
    return text(value)


def listed(value: Any) -> Any:
    """Return the list whose JSON a text is; any other value as it is."""
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] == "[" else value
    except ValueError:
        return value


def missing(value: Any) -> str | None:
    """Return why a verdict is missing, where its value only marks that; else None.

    >>> missing(-1), missing("$ERROR$"), missing("tie")
    ('no_verdict', 'request_failed', None)
    """
    if isinstance(value, str):
        mark = value.strip().lower()
        return ("request_failed" if mark in _FAILED else "no_verdict") if mark in _MISSING else None
    if value is None or value == -1 or value == [] or (isinstance(value, float) and value != value):
        return "no_verdict"
    failed = isinstance(value, list) and all(missing(item) for item in value)
    return "no_verdict" if failed else None


def number(value: Any, name: str = "score") -> float:
    """Return a number, also from a text that is one; ValueError for anything else."""
    try:
        if isinstance(value, bool):
            raise ValueError
        parsed = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"has {name} = {value!r:.60}; expected a number") from error
    if not math.isfinite(parsed):
        raise ValueError(f"has {name} = {value!r}; expected a finite number")
    return parsed


def integer(value: Any, name: str) -> int:
    """Return an integer, also from a text or a float that is one."""
    if type(value) is int:
        return value
    parsed = number(value, name)
    if not parsed.is_integer():
        raise ValueError(f"has {name} = {value!r}; expected an integer")
    return int(parsed)


def grade(value: Any) -> Row:
    """Return the score that a value states, or the reason why there is none.

    A pass is 1 and a fail is 0, as true and false, or in words.

    >>> grade("7.5"), grade(-1), grade("Pass ")["score"]
    ({'score': 7.5, 'reason': None}, {'score': None, 'reason': 'no_verdict'}, 1.0)
    """
    why = missing(value)
    if isinstance(value, (str, bool)):
        value = _PASSES.get(str(value).strip().lower(), value)
    return {"score": None if why else number(value), "reason": why}


def flag(value: Any, name: str) -> bool | None:
    """Return a truth value, from what files write for one: True, 0, "f", "yes"; None for none."""
    if missing(value):
        return None
    known = {"true": True, "t": True, "yes": True, "1": True, "1.0": True}
    known |= {"false": False, "f": False, "no": False, "0": False, "0.0": False}
    try:
        return known[str(value).strip().lower()]
    except KeyError:
        raise ValueError(f"has {name} = {value!r:.60}; expected true or false") from None


def seconds(value: Any, name: str = "tstamp") -> float | None:
    """Return a time in seconds since 1970: from seconds to nanoseconds, a date or ISO 8601.

    A date or time without a zone is in UTC.

    >>> seconds(1682351591000), seconds("2023-04-24T15:53:11Z")
    (1682351591.0, 1682351591.0)
    """
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, str) and not value.replace(".", "", 1).lstrip("-").isdigit():
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"has {name} = {value!r:.60}; expected a time") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    stamp = number(value, name)
    while abs(stamp) > 1e11:
        stamp /= 1000
    return stamp


def win(value: Any) -> Row:
    """Return the winner that a label names, and the reason of a tie or a missing verdict.

    >>> win("A>>B"), win("tie (bothbad)")
    ({'winner': 'model_a', 'reason': None}, {'winner': 'tie', 'reason': 'both_bad'})
    """
    label = value.strip() if isinstance(value, str) else ""
    if label.lower() not in _WINNERS and (why := missing(value)):
        return {"winner": None, "reason": why}
    if label.lower() in _WINNERS:
        winner, reason = _WINNERS[label.lower()]
        return {"winner": winner, "reason": reason}
    sign = label[1:-1]
    if {label[:1], label[-1:]} == {"A", "B"} and sign in ("=", *_SIGNS):
        side = label[_SIGNS.get(sign, 0)].lower()
        return {"winner": "tie" if sign == "=" else f"model_{side}", "reason": None}
    raise ValueError(
        f"has the winner {value!r:.60}; expected model_a, model_b or tie. Say which of these it"
        f" means with labels={{{value!r:.60}: ...}}, or in a shell with --label"
    )


def lean(value: Any, middle: float, name: str) -> Row:
    """Return the winner by a number: the first answer below the middle, the second above it."""
    if value is None or value == "" or value != value:
        return {"winner": None, "reason": "no_verdict"}
    at = number(value, name)
    return {"winner": "tie" if at == middle else "model_a" if at < middle else "model_b"}


def judge_of(value: Any) -> tuple[str | None, str | None]:
    """Return a judge's name and group by what a row says: a name, or FastChat's [model, prompt].

    A person's group is in the name (expert_3, author_1, arena_user_9, worker_5). A name of another
    form says nothing about its group.
    """
    if value is None or value == "" or value != value:
        return None, None
    if isinstance(value, list):
        if len(value) != 2 or not all(isinstance(part, str) for part in value):
            raise ValueError(f"has judge = {value!r:.60}; expected [model, prompt]")
        return judge_name(*value), "llm"
    name = str(as_id(value, "judge"))
    prefix = name.partition("_")[0]
    known = {"expert": "expert", "author": "author", "arena": "crowd", "worker": "crowd"}
    return name, known.get(prefix, "llm" if "/" in name else None)


def judge_name(model: str, prompt: str) -> str:
    """Return the name of FastChat's judge of that prompt: its family's, which has four prompts."""
    families = (f for f, members in FAMILIES.items() if f"fastchat:{prompt}" in members)
    return f"{model}/{next(families, prompt)}"
