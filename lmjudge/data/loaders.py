"""Questions and answers as frames: one loader per shape of released file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.data.conversations import conversations_of, talked
from lmjudge.data.finding import find, place
from lmjudge.data.reading import (
    Row,
    SourceOrPath,
    bad_row,
    files_of,
    own_path,
    read_lines,
)
from lmjudge.data.rows import shipped
from lmjudge.data.sources import plain, source_named
from lmjudge.errors import DataError, DataMissing
from lmjudge.frames import frame
from lmjudge.places import file_name


def load_questions(source: SourceOrPath) -> pd.DataFrame:
    """Load the questions of a source, or of your own file or folder: a questions frame.

    A source whose rows ship with lmjudge gives their ids and categories; `<name>/original` gives
    the fetched files with their texts.

    `turns` is a list of texts, `reference` one too (the judge GPT-4's own answer, from FastChat's
    reference_answer) or None. A source without questions of its own has those of the bench that it
    is about; "fastchat" gives both benches. Votes released with their conversations (parquet:
    "mt-bench-human", "chatbot-arena", or a file of one's own) give what their voters asked, and as
    category the language, where it is stated. Raises DataMissing where they are not here, BadRow
    for a line that is no question, and for a question_id that stands twice.
    """
    if (figures := shipped(source, "questions")) is not None:
        return figures
    if talks := conversations_of(source, "questions"):
        return talked(talks)[0]
    own = own_path(source)
    bench = None if own else source_named(os.fspath(source)).bench
    source = "fastchat" if bench else plain(source)
    references = {}
    if own and own.is_dir():
        guides = sorted(own.glob("reference_answer/*.jsonl"))
    elif source == "fastchat":
        guides = [path for path, model in place("fastchat", "references") if bench in ("", model)]
    else:
        guides = []
    for path in guides:
        references.update({row["question_id"]: row["turns"] for _, row in read_answers(path)})
    rows: dict[object, Row] = {}
    for path, model in files_of(source, "questions"):
        if bench and model != bench:
            continue
        for line, row in read_lines(path, {"question_id": (int, str), "category": str}):
            asked = row.get("turns", [row.get("text")])
            _check_turns(path, line, asked)
            if row["question_id"] in rows:
                raise bad_row(path, line, f"repeats the question {row['question_id']}")
            rows[row["question_id"]] = {
                "question_id": row["question_id"],
                "category": row["category"],
                "turns": asked,
                "reference": references.get(row["question_id"]),
            }
    return frame("questions", list(rows.values()))


def load_answers(
    source: SourceOrPath, models: Iterable[str] | None = None, *, samples: int = 1
) -> pd.DataFrame:
    """Load the answers of a source's models, or of your own files: an answers frame.

    A source whose rows ship with lmjudge gives what was counted in each turn: words, characters,
    headings, items, bold. `<name>/original` gives the fetched files with their texts.

    `turns` is a list of texts: the first choice, as FastChat judges it; `sample` is 0. With more
    `samples` the next choices follow, as many as there are, up to that number. `models` takes some
    of the models only, in that order. A file of one's own is named after its model, as it is or as
    `formats.file_name` has it.
    Votes released with their conversations (parquet) give the answers that their voters read.
    Raises DataMissing for answers that are not here and for an unknown model, naming the known
    ones, BadRow for a line that is no answer, and for a question answered twice.
    """
    said = shipped(source, "answers")
    if said is None and (talks := conversations_of(source, "answers")):
        said = talked(talks)[1]
    if said is not None:
        known = said["model"].unique()
        wanted = known if models is None else list(models)
        if unknown := [model for model in wanted if model not in known]:
            raise _unknown_model(source, unknown[0], known)
        return said[said["model"].isin(wanted)].reset_index(drop=True)
    own, source = own_path(source), plain(source)
    files = files_of(source, "answers") if own else _known_answers(source, models)
    by_model = {_model_in(path) if own else model: path for path, model in files}
    wanted = list(by_model) if models is None else list(models)
    if unknown := [model for model in wanted if model not in by_model]:
        raise _unknown_model(source, unknown[0], by_model)
    rows = []
    for model in wanted:
        seen = set()
        for line, row in read_answers(by_model[model], samples):
            if (row["question_id"], row["sample"]) in seen:
                problem = f"answers the question {row['question_id']} a second time"
                raise bad_row(by_model[model], line, problem)
            seen.add((row["question_id"], row["sample"]))
            rows.append({**row, "model": model})
    answers = frame("answers", rows)
    return answers.drop(columns=["answer_id", "model_id"])


def _model_in(path: Path) -> str:
    """The model whose answers a file of one's own holds: its name, or whom that name stands for."""
    try:
        _, first = next(read_lines(path, {"model_id": str}))
    except DataError:  # it is read, and this is said, only where its model is wanted
        return path.stem
    named: str = first["model_id"]
    return named if named and file_name(named) == path.stem else path.stem


def read_answers(path: Path, samples: int = 1) -> Iterator[tuple[int, Row]]:
    """Every (line, answer) of a file of FastChat's (`choices`) or the Vicuna blog's (`text`)."""
    for line, row in read_lines(path, {"question_id": (int, str)}):
        choices = row.get("choices", [{"turns": [row.get("text")]}])
        some = choices[:samples] if isinstance(choices, list) and choices else [None]
        for sample, choice in enumerate(some):
            turns = choice.get("turns") if isinstance(choice, dict) else None
            _check_turns(path, line, turns)
            known = {name: row.get(name) for name in ("answer_id", "model_id")}
            yield (
                line,
                {"question_id": row["question_id"], "turns": turns, "sample": sample, **known},
            )


def _check_turns(path: Path, line: int, turns: Any) -> None:
    if not (isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns)):
        raise bad_row(path, line, "has no turns; expected a list of texts, or a text")


def _known_answers(source: SourceOrPath, models: Iterable[str] | None) -> list[tuple[Path, str]]:
    """The answer files of a source; of the wanted models only, so that others may be missing."""
    name = os.fspath(source)
    files = source_named(name).having("answers")
    if not files or models is None:
        return place(name, "answers")
    wanted = set(models)
    if unknown := wanted - {file.model for file in files}:
        raise _unknown_model(source, min(unknown), {file.model: None for file in files})
    return [(find(name, file), file.model) for file in files if file.model in wanted]


def _unknown_model(source: SourceOrPath, model: str, known: Iterable[str]) -> DataMissing:
    return DataMissing(
        f"{os.fspath(source)} has no answers of {model!r}; it has those of {', '.join(known)}",
        source=os.fspath(source),
        path=Path(source),
    )
