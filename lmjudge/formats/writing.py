"""Frames as files: as they are, or as FastChat has them; and a file's name for any model's name."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from lmjudge.errors import DataError, FrameError
from lmjudge.frames import check
from lmjudge.judges.judge import prompt_name
from lmjudge.places import file_name
from lmjudge.records import Record

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


class Reads(Protocol):
    """The one method of a store that writing prompts needs."""

    def records(self, keys: Iterable[str] | None = None) -> Iterable[Record]:
        """The records under these keys."""
        ...


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """The path, once the frame stands there, a row a line: .jsonl, .csv or .parquet.

    JSON lines are read again by `read_judgments`. In a CSV an apostrophe stands before what a
    spreadsheet would run, so that texts are exact in the others alone. The file is whole or not
    there. Raises DataError for another suffix, and where nothing can be written.
    """
    file = Path(path)
    if file.suffix == ".csv":
        safe = frame.map(
            lambda cell: f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
        )
        # Else a lone carriage return stays bare, and what follows it is a row of its own.
        quoted = {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n"}
        return _put(file, safe.to_csv(index=False, **quoted).encode())
    if file.suffix == ".parquet":
        return _put(file, frame.to_parquet(index=False))
    if file.suffix != ".jsonl":
        raise DataError(f"{file} ends in none of .jsonl, .csv and .parquet; name one", path=file)
    return _put(file, _lines(frame.to_dict("records")))


def write_answers(answers: pd.DataFrame, path: str | os.PathLike[str]) -> list[Path]:
    """The files of an answers frame as FastChat writes them: answers that were given, by question.

    A path that ends in .jsonl is one file, in which each row names its model; any other is a
    folder, with a file for each model (see `file_name`). A choice's `index` is the sample; what a
    frame of `generate` tells further (keys, finish_reason) stands beside its turns. Raises
    DataError where nothing can be written.
    """
    given = check(answers, "answers")[answers["turns"].notna()]
    file = Path(path)
    if file.suffix == ".jsonl":
        return [_put(file, _lines(_answer_rows(given)))]
    return [
        _put(file / f"{file_name(str(model))}.jsonl", _lines(_answer_rows(part)))
        for model, part in given.groupby("model", sort=False)
    ]


@dataclass(frozen=True)
class Added:
    """A file that answers were added to: how many are new, changed, and kept as they were."""

    path: Path
    new: int
    changed: int
    kept: int


def add_answers(answers: pd.DataFrame, path: str | os.PathLike[str]) -> list[Added]:
    """Add answers to FastChat's files, as `write_answers` places them, and return what changed.

    An answer replaces one of the same question, model and sample; all others stay, in their order.
    Raises DataError for a file that holds anything but answers, and where nothing can be written.
    """
    rows = _answer_rows(check(answers, "answers")[answers["turns"].notna()])
    file = Path(path)
    files: dict[Path, list[dict[str, Any]]] = {file: []} if file.suffix == ".jsonl" else {}
    for row in rows:
        own = file / f"{file_name(str(row['model_id']))}.jsonl"
        files.setdefault(file if file in files else own, []).append(row)
    return [_added(one, fresh) for one, fresh in files.items()]


def _added(file: Path, fresh: list[dict[str, Any]]) -> Added:
    held = held_answers(file)
    answers = {key: choice for key, _, choice in _choices(held)}
    rows = {(str(row["model_id"]), str(row["question_id"])): dict(row) for row in held}
    new = changed = 0
    for (model, question, sample), row, choice in _choices(fresh):
        old = answers.get((model, question, sample))
        new, changed = new + (old is None), changed + (old not in (None, _plain(choice)))
        into = rows.setdefault((model, question), row | {"choices": []})
        others = [one for one in into["choices"] if one.get("index") != sample]
        into["choices"] = sorted([*others, choice], key=lambda one: int(one["index"]))
    touched = sum(key in answers for key, _, _ in _choices(fresh))
    _put(file, _lines(rows.values()))
    return Added(file, new, changed, len(answers) - touched)


def held_answers(file: Path) -> list[dict[str, Any]]:
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


def _choices(
    rows: list[dict[str, Any]],
) -> Iterator[tuple[tuple[str, str, Any], dict[str, Any], dict[str, Any]]]:
    """Each answer in rows of FastChat's: (model, question, sample), its row, its choice."""
    for row in rows:
        for choice in row["choices"]:
            yield (str(row["model_id"]), str(row["question_id"]), choice["index"]), row, choice


def _answer_rows(answers: pd.DataFrame) -> list[dict[str, Any]]:
    further = [name for name in ("keys", "finish_reason") if name in answers]
    rows = []
    for (model, question_id), part in answers.groupby(["model", "question_id"], sort=False):
        whose = hashlib.sha256(json.dumps([str(model), str(question_id)]).encode()).hexdigest()
        choices = [
            {"index": one["sample"], "turns": list(one["turns"])} | {n: one[n] for n in further}
            for one in part.to_dict("records")
        ]
        rows.append(
            {
                "question_id": question_id,
                "answer_id": whose[:22],
                "model_id": model,
                "choices": choices,
            }
        )
    return rows


def write_judgments(
    frame: pd.DataFrame, path: str | os.PathLike[str], *, store: Reads | None = None
) -> Path:
    """The path, once the games or scores stand there as FastChat's judgments.

    A missing score is -1, a missing winner "error", as there; our `sample`, key and reason stand in
    fields of their own, which FastChat does not read. Prompts are those of the records in `store`,
    or empty. Raises FrameError for games that were not played in both orders, DataError where
    nothing can be written.
    """
    kind = "games" if "model_a" in frame.columns else "scores"
    check(frame, kind)
    keys = [key for key in frame["key"] if isinstance(key, str)]
    prompts = {
        record.request.key: str(list(record.request.messages)[-1].get("content", ""))
        for record in (store.records(keys) if store is not None and keys else ())
    }
    rows = frame.to_dict("records")
    made = _pair_rows(rows, prompts) if kind == "games" else _score_rows(rows, prompts)
    return _put(Path(path), _lines(made))


def _score_rows(rows: list[dict[str, Any]], prompts: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "question_id": row["question_id"],
            "model": row["model"],
            "judge": _judge(row["judge"]),
            "user_prompt": prompts.get(row["key"], ""),
            "judgment": _text(row),
            "score": -1 if row["score"] is None or row["score"] != row["score"] else row["score"],
            "turn": row["turn"],
            "sample": row["sample"],
            "key": row["key"],
            "reason": row["reason"],
        }
        for row in rows
    ]


def _pair_rows(rows: list[dict[str, Any]], prompts: dict[str, str]) -> list[dict[str, Any]]:
    shown: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        sides = frozenset((row["model_a"], row["model_b"]))
        whose = (*(row[name] for name in ("question_id", "turn", "judge", "sample")), sides)
        shown.setdefault(whose, []).append(row)
    made = []
    for games in shown.values():
        if len(games) != 2 or games[0]["model_a"] != games[1]["model_b"]:
            raise FrameError(
                f"question {games[0]['question_id']} was shown {len(games)} times; FastChat's rows"
                " hold both orders of a pair: judge both, or write the frame as it is",
                rows=games,
            )
        first = games[0]
        one = {name: first[name] for name in ("question_id", "turn", "sample")}
        one |= {"model_1": first["model_a"], "model_2": first["model_b"]}
        one["judge"] = _judge(first["judge"])
        for name, game, names in zip(("g1", "g2"), games, (("1", "2"), ("2", "1")), strict=True):
            named = {f"model_{s}": f"model_{n}" for s, n in zip("ab", names, strict=True)}
            one[f"{name}_winner"] = (named | {"tie": "tie"}).get(game["winner"], "error")
            one[f"{name}_user_prompt"] = prompts.get(game["key"], "")
            one[f"{name}_judgment"] = _text(game)
            one[f"{name}_key"], one[f"{name}_reason"] = game["key"], game["reason"]
        made.append(one)
    return made


def _judge(name: str) -> list[str]:
    prompt = prompt_name(name)
    return [name[: name.rfind(f"/{prompt}")], prompt]


def _text(row: dict[str, Any]) -> str:
    return row["text"] if isinstance(row["text"], str) else "$ERROR$"


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(
        json.dumps(_plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        for row in rows
    )


def _plain(value: Any) -> Any:
    """A cell as JSON has it: numbers of Python's, None for what is missing."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if value is pd.NA or (isinstance(value, float) and value != value) else value


def _put(file: Path, body: bytes) -> Path:
    """Writes a file whole or not at all."""
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
