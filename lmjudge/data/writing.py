"""Frames as files: as they are, or in the layout of another tool; and as a `datasets.Dataset`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from lmjudge.data.raw import FORMULA, Row, plain
from lmjudge.errors import DataError, FrameError
from lmjudge.frames import COLUMNS, check
from lmjudge.judges.judge import prompt_name
from lmjudge.places import file_name
from lmjudge.records import Record

_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_CHOICE = ("keys", "finish_reason")


class Reads(Protocol):
    """The one method of a store that writing prompts needs."""

    def records(self, keys: Iterable[str] | None = None) -> Iterable[Record]:
        """The records under these keys."""
        ...


def save(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    layout: str | None = None,
    *,
    store: Reads | None = None,
) -> Path:
    """Write a frame to a file, and return its path.

    The suffix says how: .jsonl, .json (an array), .csv, .tsv or .parquet, and .gz or .zst after one
    of these. The loaders read each of them back. Without a `layout` the frame is written as it is.
    Layouts: "fastchat" (questions, answers, scores, games), "alpaca-eval" (answers, pairings),
    "arena-hard" (questions, answers, games), "alpaca" (answers with their instruction) and "trl"
    (pairs). Columns that came from a file go back under the names that they had there. Answers in
    FastChat's layout go into a folder, a file for each model, if the path has no suffix. FastChat's
    prompts are those of the records in `store`, else those of the file that the frame came from.

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
    write = _WRITERS.get((layout, kind))
    if write is None:
        known = sorted({name for name, of in _WRITERS if of == kind})
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
    rows = _fastchat_answers(_rows(check(answers, "answers"), "answers"))
    file = Path(path)
    files: dict[Path, list[Row]] = {file: []} if file.suffix == ".jsonl" else {}
    for row in rows:
        own = file / f"{file_name(str(row['model_id']))}.jsonl"
        files.setdefault(file if file in files else own, []).append(row)
    return [_added(one, fresh) for one, fresh in files.items()]


def _added(file: Path, fresh: list[Row]) -> Added:
    held = held_answers(file)
    answers = {key: choice for key, _, choice in _choices(held)}
    rows = {(str(row["model_id"]), str(row["question_id"])): dict(row) for row in held}
    new = changed = 0
    for (model, question, sample), row, choice in _choices(fresh):
        old = answers.get((model, question, sample))
        new, changed = new + (old is None), changed + (old not in (None, plain(choice)))
        into = rows.setdefault((model, question), row | {"choices": []})
        others = [one for one in into["choices"] if one.get("index") != sample]
        into["choices"] = sorted([*others, choice], key=lambda one: int(one["index"]))
    touched = sum(key in answers for key, _, _ in _choices(fresh))
    _put(file, b"".join(_line(row) + b"\n" for row in rows.values()))
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
    """Each answer in rows of FastChat's: (model, question, sample), its row, its choice."""
    for row in rows:
        for choice in row["choices"]:
            yield (str(row["model_id"]), str(row["question_id"]), choice["index"]), row, choice


def to_dataset(frame: pd.DataFrame) -> Any:
    """Return the frame as a `datasets.Dataset`, for the hub or for training.

    `lj.load_votes` and its siblings read it back. Needs the extra `train`. Raises FrameError for
    columns that Arrow cannot hold, such as texts beside numbers.
    """
    import datasets
    import pyarrow as pa

    rows = [plain(row) for row in frame.to_dict("records")]
    try:
        return datasets.Dataset.from_list(rows) if rows else datasets.Dataset.from_pandas(frame)
    except (pa.ArrowException, TypeError) as error:
        raise FrameError(f"the frame is no data set: {error}", columns=[*frame.columns]) from error


def _kind(frame: pd.DataFrame) -> str:
    """The kind of a frame, by its columns."""
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
    """The rows of a frame as plain values, ids that are numbers as numbers."""
    ours = ("prompt", "asked") if kind in ("games", "scores") else ()
    rows = []
    for row in map(plain, frame.to_dict("records")):
        of = row.get("question_id")
        if isinstance(of, str) and of.isdecimal() and str(int(of)) == of:
            row["question_id"] = int(of)
        rows.append({name: value for name, value in row.items() if name not in ours})
    return rows


def _beside(row: Row, kind: str, *used: str) -> Row:
    """The columns of a row that its frame does not need, under the names that their file had."""
    skip = {*COLUMNS[kind], *used, "criterion", "published", "origin"}
    return {name.removeprefix("file_"): v for name, v in row.items() if name not in skip}


# ---- layouts


def _fastchat_questions(rows: list[Row]) -> list[Row]:
    return [
        {name: row[name] for name in ("question_id", "category", "turns")}
        | ({"reference": row["reference"]} if row["reference"] is not None else {})
        | _beside(row, "questions")
        for row in rows
    ]


def _fastchat_answers(rows: list[Row]) -> list[Row]:
    made: dict[tuple[Any, Any], Row] = {}
    for row in rows:
        if row["turns"] is None:
            continue
        beside = _beside(row, "answers", "reason")
        inner = {n.removeprefix("choice_"): beside.pop(n) for n in [*beside] if n in _CHOICE}
        inner |= {n[7:]: beside.pop(n) for n in [*beside] if n.startswith("choice_")}
        whose = json.dumps([str(row["model"]), str(row["question_id"])]).encode()
        one = made.setdefault(
            (row["model"], row["question_id"]),
            {
                "question_id": row["question_id"],
                "answer_id": hashlib.sha256(whose).hexdigest()[:22],
                "model_id": row["model"],
                "choices": [],
                **beside,
            },
        )
        inner = {name: value for name, value in inner.items() if value is not None}
        one["choices"].append({"index": row["sample"], "turns": row["turns"], **inner})
    return list(made.values())


def _fastchat_scores(rows: list[Row]) -> list[Row]:
    return [
        {
            "question_id": row["question_id"],
            "model": row["model"],
            "judge": row.get("file_judge") or _judge(row["judge"]),
            "user_prompt": row.pop("user_prompt", ""),
            "judgment": "$ERROR$" if row["text"] is None else row["text"],
            "score": -1 if row["score"] is None else row["score"],
            "turn": row["turn"],
            **_beside(row, "scores", "file_judge"),
            **_ours(row),
        }
        for row in rows
    ]


def _fastchat_games(rows: list[Row]) -> list[Row]:
    shown: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        sides = frozenset((row["model_a"], row["model_b"]))
        whose = (*(row[name] for name in ("question_id", "turn", "judge", "sample")), sides)
        shown.setdefault(whose, []).append(row)
    made = []
    for games in shown.values():
        if len(games) != 2 or games[0]["model_a"] != games[1]["model_b"]:
            raise FrameError(
                f"question {games[0]['question_id']} was shown {len(games)} times; FastChat's rows"
                " hold both orders of a pair: judge both, or leave the layout out",
                rows=games,
            )
        first = games[0]
        one = {"question_id": first["question_id"]}
        one |= {"model_1": first["model_a"], "model_2": first["model_b"]}
        one["judge"] = first.get("file_judge") or _judge(first["judge"])
        beside = _beside(first, "games", "file_judge", "user_prompt")
        for name, game, names in zip(("g1", "g2"), games, ("12", "21"), strict=True):
            named = {f"model_{s}": f"model_{n}" for s, n in zip("ab", names, strict=True)}
            one[f"{name}_winner"] = (named | {"tie": "tie"}).get(game["winner"], "error")
            one[f"{name}_user_prompt"] = game.get("user_prompt") or ""
            one[f"{name}_judgment"] = "$ERROR$" if game["text"] is None else game["text"]
            own = _ours(game)
            one |= {f"{name}_{what}": own[what] for what in ("key", "reason") if what in own}
        sample = {"sample": first["sample"]} if "published" not in first else {}
        made.append(one | {"turn": first["turn"]} | beside | sample)
    return made


def _ours(row: Row) -> Row:
    """What lmjudge adds to FastChat's rows: nothing where the row came from FastChat."""
    return {} if "published" in row else {name: row[name] for name in ("sample", "key", "reason")}


def _judge(name: str) -> list[str]:
    prompt = prompt_name(name)
    return [name[: name.rfind(f"/{prompt}")], prompt]


def _prompted(rows: list[Row], store: Reads | None) -> list[Row]:
    keys = [row["key"] for row in rows if isinstance(row["key"], str)]
    known = {
        record.request.key: str(list(record.request.messages)[-1].get("content", ""))
        for record in (store.records(keys) if store is not None and keys else ())
    }
    return [
        row | {"user_prompt": known.get(row["key"], row.get("user_prompt") or "")} for row in rows
    ]


def _alpaca_eval_answers(rows: list[Row]) -> list[Row]:
    return [
        {"instruction": _instruction(row), "output": _one(row["turns"]), "generator": row["model"]}
        | _beside(row, "answers", "instruction", "reason")
        for row in rows
    ]


def _alpaca_eval_pairings(rows: list[Row]) -> list[Row]:
    return [
        {
            "instruction": _one(row["question"]),
            "output_1": _one(row["answer_a"]),
            "generator_1": row["model_a"],
            "output_2": _one(row["answer_b"]),
            "generator_2": row["model_b"],
            **_beside(row, "pairings"),
        }
        for row in rows
    ]


def _alpaca_answers(rows: list[Row]) -> list[Row]:
    return [
        {"instruction": _instruction(row), "input": row.get("input") or ""}
        | {"output": _one(row["turns"])}
        | _beside(row, "answers", "instruction", "input", "reason")
        for row in rows
    ]


def _arena_hard_questions(rows: list[Row]) -> list[Row]:
    return [
        {"uid": str(row["question_id"]), "category": row["category"], "prompt": _one(row["turns"])}
        | _beside(row, "questions")
        for row in rows
    ]


def _arena_hard_answers(rows: list[Row]) -> list[Row]:
    made = []
    for row in rows:
        asked = row.get("question") or [""] * len(row["turns"] or ())
        talk: list[Row] = []
        for question, turn in zip(asked, row["turns"] or (), strict=False):
            talk += [{"role": "user", "content": question}]
            talk += [{"role": "assistant", "content": {"answer": turn}}]
        one = {"uid": str(row["question_id"]), "model": row["model"], "messages": talk}
        made.append(one | _beside(row, "answers", "question", "reason"))
    return made


def _arena_hard_games(rows: list[Row]) -> list[Row]:
    made: dict[tuple[Any, ...], Row] = {}
    labels = {"model_a": "A>B", "model_b": "B>A", "tie": "A=B"}
    for row in rows:
        first = (row["question_id"], frozenset((row["model_a"], row["model_b"])), row["judge"])
        one = made.setdefault(
            first,
            {
                "uid": str(row["question_id"]),
                "judge": str(row["judge"]).removesuffix("/arena-hard"),
                "model": row["model_b"],
                "baseline": row["model_a"],
                "games": [],
                **_beside(row, "games", "verdict"),
            },
        )
        verdict = row.get("verdict") or labels.get(row["winner"])
        game = {"score": verdict, "judgment": {"answer": row["text"]}}
        failed = row["text"] is None and verdict is None
        one["games"].append(None if failed else game)
    return list(made.values())


def _trl_pairs(rows: list[Row]) -> list[Row]:
    return [
        {name: row[name] for name in ("prompt", "chosen", "rejected", "subset")}
        | {"id": row["pair_id"]}
        | _beside(row, "pairs")
        for row in rows
    ]


def _instruction(row: Row) -> str:
    if row.get("instruction") is None:
        raise FrameError(
            "the answers lack their instruction; add it, as in answers.merge(questions.assign("
            "instruction=questions['turns'].str[0])[['question_id', 'instruction']])",
            columns=["instruction"],
        )
    return str(row["instruction"])


def _one(turns: Any) -> str:
    if not turns or len(turns) != 1:
        raise FrameError(
            f"the layout holds one turn a row, and here are {len(turns or ())}; take the first, or"
            " another layout",
            columns=[],
        )
    return str(turns[0])


_WRITERS: dict[tuple[str, str], Callable[[list[Row]], list[Row]]] = {
    ("fastchat", "questions"): _fastchat_questions,
    ("fastchat", "answers"): _fastchat_answers,
    ("fastchat", "scores"): _fastchat_scores,
    ("fastchat", "games"): _fastchat_games,
    ("alpaca-eval", "answers"): _alpaca_eval_answers,
    ("alpaca-eval", "pairings"): _alpaca_eval_pairings,
    ("alpaca", "answers"): _alpaca_answers,
    ("arena-hard", "questions"): _arena_hard_questions,
    ("arena-hard", "answers"): _arena_hard_answers,
    ("arena-hard", "games"): _arena_hard_games,
    ("trl", "pairs"): _trl_pairs,
}


# ---- files


def _body(file: Path, rows: pd.DataFrame | pd.Series) -> bytes:
    """The bytes of a file of rows, as its suffixes say."""
    suffixes = file.suffixes
    packed = suffixes.pop() if suffixes[-1:] and suffixes[-1] in (".gz", ".zst") else ""
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in _SUFFIXES:
        told = f"{', '.join(_SUFFIXES)}, or one of them and .gz or .zst"
        raise DataError(f"{file} ends in none of {told}; name one", path=file)
    if suffix in (".csv", ".tsv"):
        body = _csv(_table(rows), "\t" if suffix == ".tsv" else ",")
    elif suffix == ".parquet":
        body = _parquet(_table(rows))
    else:
        records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows.tolist()
        lines = [_line(row) for row in records]
        body = (
            b"\n".join(lines) + b"\n" if suffix == ".jsonl" else b"[" + b",\n".join(lines) + b"]\n"
        )
        body = b"" if suffix == ".jsonl" and not lines else body
    if packed == ".gz":
        return gzip.compress(body, mtime=0)
    if packed == ".zst":
        import zstandard

        return zstandard.ZstdCompressor().compress(body)
    return body


def _table(rows: pd.DataFrame | pd.Series) -> pd.DataFrame:
    return rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows.tolist())


def _line(row: Any) -> bytes:
    return json.dumps(plain(row), ensure_ascii=False, allow_nan=False).encode()


def _parquet(table: pd.DataFrame) -> bytes:
    held = io.BytesIO()
    table.to_parquet(held, index=False)
    return held.getvalue()


def _csv(table: pd.DataFrame, delimiter: str) -> bytes:
    """The bytes of a CSV file that runs nothing in a spreadsheet; lists stand as JSON."""

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
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(body)
        os.replace(new, file)
    except OSError as error:
        if new.is_file():
            new.unlink()
        raise DataError(f"{file} cannot be written ({error.strerror})", path=file) from error
    return file
