"""Published judgments: as frames, as records of the store, and the answers that they show."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from lmjudge.data.loaders import load_questions
from lmjudge.data.reading import Row, SourceOrPath, bad_row, files_of, own_path, read_lines
from lmjudge.data.rows import shipped
from lmjudge.data.showings import SCORE_FIELDS, Kind, fastchat_prompt, showings
from lmjudge.data.sources import original
from lmjudge.errors import DataError
from lmjudge.frames import frame
from lmjudge.judges.prompts import Prompt
from lmjudge.records import Record, Reply, Request


class Adds(Protocol):
    """The one method of a store that importing needs."""

    def add(self, records: Any) -> Any:
        """Keep these records."""
        ...


def load_judgments(source: SourceOrPath, kind: Kind | None = None) -> pd.DataFrame:
    """Load the published judgments of a source, or of your own files: a games or scores frame.

    A source's name reads the rows that ship with lmjudge, where they do: `text` is then missing.
    `<name>/original` reads the fetched files with their texts.

    One row a showing, as released: `text` is the judge's, the verdict is read from it as the source
    read it (`fastchat`, `vicuna`, `threeclass`), `published` is the released winner or score, where
    it is one (the Vicuna blog's scores are `published_a`, `published_b`: some were entered by
    hand). `key` is that of the request which the row answers, `asked` the same without the
    provider, so that `repeatability` sees what was asked again in another file. `prompt` is the
    prompt's name, `origin` says how the prompt was had: "as published", or "rendered" from the
    released prompt file and answers.
    A repeat of a showing has the next `sample` (its request keeps sample 0, so that twins share a
    key). A failed call has no text and the reason `request_failed`.

    `kind` is "scores" or "games", needed only where a source has both ("mt-bench"). Raises
    DataMissing, with the command that gets what is missing, and BadRow for a line that is no
    judgment. Source: FastChat's llm_judge/common.py; the Vicuna blog's eval_gpt_review.py; PRD.
    """
    for each in ("scores", "games"):
        if kind in (None, each) and (rows := shipped(source, each)) is not None:
            return rows
    return _framed(list(showings(source, kind)))


def import_judgments(
    source: SourceOrPath, *, store: Adds, kind: Kind | None = None
) -> pd.DataFrame:
    """Store the published judgments of a source as records; return the frame of them.

    Reads the fetched files, never the rows that ship with lmjudge. Each judgment is stored under
    the request that it answers, with the source's name as `provider`: the prompt as the row has it,
    and FastChat's system prompt by the prompt's name. Judgments without a verdict are stored too.
    Failed calls are not, nor are judgments whose prompt the source did not release (PRD's judge
    Vicuna-13B): their `key` is missing. Of different judgments of one request in a file, the
    earliest is the reply and the others are observations. Raises what `load_judgments` raises, and
    DataError for reviews whose answers or prompts are not beside them.
    """
    rows = list(showings(source, kind))
    lost = [row for row in rows if row["request"] is None]
    if len(lost) == len(rows) or (lost and own_path(source)):
        raise DataError(
            f"{len(lost)} of {len(rows)} reviews in {os.fspath(source)} cannot be stored: their"
            " prompts need question.jsonl, prompt.jsonl and the answers beside them",
            path=Path(source),
        )
    store.add(
        Record(row["request"], Reply(row["text"], created=row["created"]))
        for row in rows
        if row["text"] is not None and row["request"] is not None
    )
    return _framed(rows)


def answers_from_judgments(source: SourceOrPath) -> pd.DataFrame:
    """The answers that a source's single-grading prompts show: an answers frame, and `origin`.

    For sources that released prompts but no answers: what stands between the fixed parts of
    FastChat's template is the answer, byte for byte, and `origin` is "recovered". Raises BadRow
    where a prompt is not its template filled, or where the answers cannot be told apart.
    """
    questions = load_questions(original(source)).set_index("question_id")
    found: dict[tuple[str, object], list[str]] = {}
    for path, _ in files_of(source, "scores" if own_path(source) is None else "judgments"):
        for line, row in read_lines(path, SCORE_FIELDS):
            if row["question_id"] not in questions.index:
                raise bad_row(path, line, f"judges an unknown question, {row['question_id']!r}")
            question = questions.loc[row["question_id"]]
            prompt = fastchat_prompt(row["judge"][1])
            turns = _cut(row["user_prompt"], prompt, question["turns"], question["reference"])
            known = found.get((row["model"], row["question_id"]), [])
            if turns is None or any(a != b for a, b in zip(turns, known, strict=False)):
                problem = f"shows no clear answer by the template {row['judge'][1]}"
                raise bad_row(path, line, f"{problem}; expected that template, filled once")
            found[row["model"], row["question_id"]] = max(turns, known, key=len)
    rows = [
        {"question_id": question_id, "model": model, "turns": turns, "sample": 0}
        for (model, question_id), turns in found.items()
    ]
    return frame("answers", rows).assign(origin="recovered")


def _cut(
    shown: str, prompt: Prompt, asked: list[str], reference: list[str] | None
) -> list[str] | None:
    """The answers in a filled template, one a turn; None where they cannot be told apart."""
    # No released text holds a NUL, so it marks where the answers stand.
    values = dict.fromkeys(("answer", "answer_1", "answer_2"), "\0") | {"question": asked[0]}
    for name, turns in (("question", asked), ("ref_answer", reference or [])):
        values |= {f"{name}_{number}": turn for number, turn in enumerate(turns, 1)}
    first, *middle, last = prompt.fill(values).split("\0")
    fits = len(shown) >= len(first) + len(last)
    if not (fits and shown.startswith(first) and shown.endswith(last)):
        return None
    inner = shown[len(first) : len(shown) - len(last)]
    answers = inner.split(middle[0]) if middle else [inner]
    return answers if len(answers) == len(middle) + 1 else None


def _framed(rows: list[Row]) -> pd.DataFrame:
    """The showings as a frame, repeats numbered in `sample`."""
    kind = "scores" if "model" in rows[0] else "games"
    sides = ("model",) if kind == "scores" else ("model_a", "model_b")
    numbers = {"scores": ("score", "published"), "games": ("score_a", "score_b")}[kind]
    hidden = {"scores": ("winner", "score_a", "score_b"), "games": ("score",)}[kind]
    seen: Counter[tuple[object, ...]] = Counter()
    made = []
    for row in rows:
        request: Request | None = row["request"]
        showing = tuple(row[name] for name in ("question_id", "turn", "judge", *sides))
        made.append(
            {name: row[name] for name in row if name not in (*hidden, "request", "created")}
        )
        made[-1]["sample"] = seen[showing]
        made[-1]["key"] = request and request.key
        made[-1]["asked"] = request and replace(request, provider=None).key
        seen[showing] += 1
    return frame(kind, made).astype(dict.fromkeys(numbers, float))
