"""Published judgments: as frames, as records of the store, and the answers that they show."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from lmjudge.data.finding import find
from lmjudge.data.loaders import load_questions, read_answers
from lmjudge.data.reading import Fields, Row, SourceOrPath, bad_row, files_of, own_path, read_lines
from lmjudge.data.sources import source_named
from lmjudge.errors import DataError, FrameError
from lmjudge.frames import frame
from lmjudge.judges.parsers import LETTERS, PARSERS, RATING, RATINGS
from lmjudge.judges.prompts import FAMILIES, Prompt, find_prompts, read_review_prompts
from lmjudge.records import Record, Reply, Request

Kind = Literal["scores", "games"]

# What FastChat's common.py puts in place of a judgment after its last retry.
_FAILED = "$ERROR$"
_FASTCHAT_PARAMS = {"temperature": 0, "max_tokens": 2048}
_REVIEW_PARAMS = {"temperature": 0.2, "max_tokens": 1024}
_CHOICES = {1: "model_a", 2: "model_b", 3: "tie"}
_KINDS = {"scores": "scores", "games": "games", "reviews": "games", "threeclass": "games"}


class Adds(Protocol):
    """The one method of a store that importing needs."""

    def add(self, records: Any) -> Any:
        """Keep these records."""
        ...


def load_judgments(source: SourceOrPath, kind: Kind | None = None) -> pd.DataFrame:
    """The published judgments of a source, or of files of one's own: a games or scores frame.

    One row a showing, as released: `text` is the judge's, the verdict is read from it as the source
    read it (`fastchat`, `vicuna`, `threeclass`), `published` is the released winner or score, where
    it is one (the Vicuna blog's scores are `published_a`, `published_b`: some were entered by
    hand). `key` is that of the request which the row answers, `prompt` the prompt's name, `origin`
    how the prompt was had: "as published", or "rendered" from the released prompt file and answers.
    A repeat of a showing has the next `sample` (its request keeps sample 0, so that twins share a
    key). A failed call has no text and the reason `request_failed`.

    `kind` is "scores" or "games", needed only where a source has both ("mt-bench"). Raises
    DataMissing, with the command that gets what is missing, and BadRow for a line that is no
    judgment. Source: FastChat's llm_judge/common.py; the Vicuna blog's eval_gpt_review.py; PRD.
    """
    return _framed(list(_shown(source, kind)))


def import_judgments(
    source: SourceOrPath, *, store: Adds, kind: Kind | None = None
) -> pd.DataFrame:
    """The frame of `load_judgments`, once every judgment in it is a record of the store.

    Each is stored under the request that it answers, with the source's name as `provider`: the
    prompt as the row has it, and FastChat's system prompt by the prompt's name. Judgments without a
    verdict are stored too, failed calls are not. Of different judgments of one request in a file,
    the earliest is the reply and the others are observations. Raises what `load_judgments` raises,
    and DataError for reviews whose answers or prompts are not beside them.
    """
    rows = list(_shown(source, kind))
    lost = [row for row in rows if row["request"] is None]
    if lost:
        raise DataError(
            f"{len(lost)} of {len(rows)} reviews in {os.fspath(source)} cannot be stored: their"
            " prompts need question.jsonl, prompt.jsonl and the answers beside them",
            path=Path(source),
        )
    store.add(
        Record(row["request"], Reply(row["text"], created=row["created"]))
        for row in rows
        if row["text"] is not None
    )
    return _framed(rows)


def answers_from_judgments(source: SourceOrPath) -> pd.DataFrame:
    """The answers that a source's single-grading prompts show: an answers frame, and `origin`.

    For sources that released prompts but no answers: what stands between the fixed parts of
    FastChat's template is the answer, byte for byte, and `origin` is "recovered". Raises BadRow
    where a prompt is not its template filled, or where the answers cannot be told apart.
    """
    questions = load_questions(source).set_index("question_id")
    found: dict[tuple[str, object], list[str]] = {}
    for path, _ in files_of(source, "scores" if own_path(source) is None else "judgments"):
        for line, row in read_lines(path, _SCORE_FIELDS):
            if row["question_id"] not in questions.index:
                raise bad_row(path, line, f"judges an unknown question, {row['question_id']!r}")
            question = questions.loc[row["question_id"]]
            prompt = _fastchat_prompt(row["judge"][1])
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
    if not (shown.startswith(first) and shown.endswith(last)):
        return None
    inner = shown[len(first) : len(shown) - len(last)]
    answers = inner.split(middle[0]) if middle else [inner]
    return answers if len(answers) == len(middle) + 1 else None


_SCORE_FIELDS: Fields = {"question_id": (int, str), "model": str, "judge": list, "judgment": str}
_SCORE_FIELDS |= {"user_prompt": str, "turn": int}
_GAME_FIELDS: Fields = {"question_id": (int, str), "model_1": str, "model_2": str, "judge": list}
_GAME_FIELDS |= {f"g{n}_{what}": str for n in (1, 2) for what in ("user_prompt", "judgment")}
_GAME_FIELDS |= {"turn": int}
_REVIEW_FIELDS: Fields = {
    "question_id": (int, str),
    "answer1_id": str,
    "answer2_id": str,
    "text": str,
}


def _shown(source: SourceOrPath, kind: Kind | None) -> Iterator[Row]:
    """Every showing of a source in order: the columns of its frame, `request` and `created`."""
    if kind not in (None, "scores", "games"):
        raise ValueError(f"kind is {kind!r}; expected 'scores', 'games' or None")
    own = own_path(source)
    if own:
        files = [(_role(path), path, "own") for path, _ in files_of(own, "judgments")]
    else:
        entry = source_named(os.fspath(source))
        roles = [role for role in _KINDS if entry.having(role)]
        if kind is None and len({_KINDS[role] for role in roles}) > 1:
            raise FrameError(
                f"{entry.name} holds single grades and pairwise games; say kind='scores' or"
                " kind='games'",
                columns=[],
            )
        wanted = [role for role in roles if kind in (None, _KINDS[role])] or [kind or "scores"]
        files = [(role, path, model) for role in wanted for path, model in files_of(source, role)]
    name = f"own:{own.stem}" if own else os.fspath(source)
    rendering = None
    for role, path, judge in files:
        if role in ("scores", "games"):
            read = _scores if role == "scores" else _games
            yield from read(path, name)
        else:
            rendering = rendering or _Rendering(source, "prd" if role == "threeclass" else "vicuna")
            yield from _reviews(path, name, role, judge, rendering)


def _role(path: Path) -> str:
    """What a file of one's own holds, by its first row."""
    _, row = next(read_lines(path, {"question_id": (int, str)}))
    if "answer1_id" in row:
        return "threeclass" if isinstance(row.get("score"), int) else "reviews"
    return "games" if "g1_judgment" in row else "scores"


def _scores(path: Path, provider: str) -> Iterator[Row]:
    for line, row in read_lines(path, _SCORE_FIELDS):
        score = row.get("score", -1)
        yield {
            "question_id": row["question_id"],
            "turn": row["turn"],
            "model": row["model"],
            **_judged(path, line, row, row["user_prompt"], row["judgment"], provider, RATING),
            "published": None if score == -1 else float(score),
        }


def _games(path: Path, provider: str) -> Iterator[Row]:
    for line, row in read_lines(path, _GAME_FIELDS):
        for game, (a, b) in (("g1", (1, 2)), ("g2", (2, 1))):
            sides = {f"model_{a}": "model_a", f"model_{b}": "model_b", "tie": "tie"}
            yield {
                "question_id": row["question_id"],
                "turn": row["turn"],
                "model_a": row[f"model_{a}"],
                "model_b": row[f"model_{b}"],
                **_judged(
                    path,
                    line,
                    row,
                    row[f"{game}_user_prompt"],
                    row[f"{game}_judgment"],
                    provider,
                    LETTERS,
                ),
                "published": sides.get(row.get(f"{game}_winner", "")),
            }


def _judged(
    path: Path, line: int, row: Row, asked: str, text: str, provider: str, form: str
) -> Row:
    """What a row of FastChat's says of one judgment, as columns, and the request it answers."""
    if len(row["judge"]) != 2:
        raise bad_row(path, line, f"has judge = {row['judge']!r}; expected [model, prompt]")
    model, name = row["judge"]
    prompt = _fastchat_prompt(name)
    family = next((f for f, members in FAMILIES.items() if prompt.name in members), prompt.name)
    system = {"role": "system", "content": prompt.system_prompt}
    messages = [system, {"role": "user", "content": asked}]
    return {
        "judge": f"{model}/{family}",
        **_read(text, "fastchat", form),
        "prompt": prompt.name,
        "origin": "as published",
        "request": Request(model, messages, _FASTCHAT_PARAMS, provider=provider),
        "created": row.get("tstamp"),
    }


def _fastchat_prompt(name: str) -> Prompt:
    # Held to its hash first: a changed prompt file would turn every hit into a miss.
    find("fastchat", "fastchat/judge_prompts.jsonl")
    return find_prompts(f"fastchat:{name}")[0]


class _Rendering:
    """What it takes to render the prompts of reviews: answers by id, questions, prompts."""

    def __init__(self, source: SourceOrPath, name: str) -> None:
        self.name = name
        self.answers: dict[str, tuple[str, str]] = {}
        self.prompts: dict[str, Prompt] = {}
        own = own_path(source)
        if own is None or all((own / part).exists() for part in ("answer", "prompt.jsonl")):
            for path, model in files_of(source, "answers"):
                for _, row in read_answers(path):
                    self.answers[row["answer_id"]] = (model, row["turns"][0])
            self.prompts = read_review_prompts(files_of(source, "prompts")[0][0], name)
            self.questions = load_questions(source).set_index("question_id")

    def request(self, row: Row, judge: str, provider: str) -> tuple[str | None, Request | None]:
        """The prompt's name and the request, where all that it shows is known."""
        shown = [self.answers.get(row[f"answer{n}_id"], (None, None))[1] for n in (1, 2)]
        if None in shown or row["question_id"] not in self.questions.index:
            return None, None
        question = self.questions.loc[row["question_id"]]
        prompt = self.prompts.get(question["category"], self.prompts["general"])
        values = {"question": question["turns"][0], "answer_a": shown[0], "answer_b": shown[1]}
        messages = prompt.messages(values)
        return prompt.name, Request(judge, messages, _REVIEW_PARAMS, provider=provider)


def _reviews(
    path: Path, provider: str, role: str, judge: str, rendering: _Rendering
) -> Iterator[Row]:
    named = path.stem.removeprefix("review_").split("_")
    for line, row in read_lines(path, _REVIEW_FIELDS):
        models = [rendering.answers.get(row[f"answer{n}_id"], (None,))[0] for n in (1, 2)]
        if None in models and len(named) != 2:
            raise bad_row(path, line, "reviews answers that are not here; add them to the folder")
        model_a, model_b = models if None not in models else named
        prompt, request = rendering.request(row, judge, provider)
        yield {
            "question_id": row["question_id"],
            "turn": 1,
            "model_a": model_a,
            "model_b": model_b,
            "judge": f"{judge}/{rendering.name}",
            **_read(row["text"], "vicuna" if role == "reviews" else "threeclass", RATINGS),
            "prompt": prompt,
            "origin": "rendered" if request else "not rendered",
            "request": request,
            "created": row.get("tstamp"),
            **_released(path, line, role, row.get("score")),
        }


def _released(path: Path, line: int, role: str, score: Any) -> Row:
    """The verdict that a review's `score` states: two numbers, or a choice of 1, 2, 3."""
    if role == "threeclass" and score in (1, 2, 3):
        return {"published": _CHOICES[score]}
    if role == "reviews" and isinstance(score, list) and len(score) == 2:
        a, b = score
        if isinstance(a, (int, float)) and isinstance(b, (int, float)):
            winner = "tie" if a == b else "model_a" if a > b else "model_b"
            return {"published": winner, "published_a": float(a), "published_b": float(b)}
    raise bad_row(path, line, f"has score = {score!r}; expected two numbers, or 1, 2 or 3")


def _read(text: str, parser: str, form: str) -> Row:
    """The text, and the verdict that a parser reads in it."""
    if text == _FAILED:
        return {"winner": None, "score": None, "reason": "request_failed", "text": None}
    return {**PARSERS[parser](text, None, form, (1, 10)).__dict__, "text": text}


def _framed(rows: list[Row]) -> pd.DataFrame:
    """The showings as a frame, repeats numbered in `sample`."""
    kind = "scores" if "model" in rows[0] else "games"
    seen: Counter[tuple[object, ...]] = Counter()
    shown = (
        "question_id",
        "turn",
        "judge",
        *(("model",) if kind == "scores" else ("model_a", "model_b")),
    )
    made = []
    for row in rows:
        showing = tuple(row[name] for name in shown)
        made.append({**row, "sample": seen[showing], "key": row["request"] and row["request"].key})
        seen[showing] += 1
    hidden = [
        "request",
        "created",
        *({"winner", "score_a", "score_b"} if kind == "scores" else {"score"}),
    ]
    whole = frame(kind, made).drop(columns=hidden, errors="ignore")
    numbers = ["score", "score_a", "score_b", "published_a", "published_b"]
    numbers += ["published"] if kind == "scores" else []
    return whole.astype({name: float for name in numbers if name in whole.columns})
