"""Every judgment in the released files, read as released, with the request that it answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from lmjudge.data.finding import find
from lmjudge.data.loaders import load_questions, read_answers
from lmjudge.data.reading import Fields, Row, SourceOrPath, bad_row, files_of, own_path, read_lines
from lmjudge.data.sources import original, plain, source_named
from lmjudge.errors import FrameError
from lmjudge.judges.parsers import LETTERS, PARSERS, RATING, RATINGS
from lmjudge.judges.prompts import FAMILIES, Prompt, find_prompts, read_review_prompts
from lmjudge.records import Request

Kind = Literal["scores", "games"]

# What FastChat's common.py puts in place of a judgment after its last retry.
_FAILED = "$ERROR$"
_FASTCHAT_PARAMS = {"temperature": 0, "max_tokens": 2048}
_REVIEW_PARAMS = {"temperature": 0.2, "max_tokens": 1024}
CHOICES = {1: "model_a", 2: "model_b", 3: "tie"}
_KINDS: dict[str, Kind] = {
    "scores": "scores",
    "games": "games",
    "threeclass": "games",
    "reviews": "games",
}
PAIRWISE = tuple(role for role, kind in _KINDS.items() if kind == "games")
# The prompts behind the reviews of each role, as judges are named after them.
_FAMILY = {"threeclass": "prd", "reviews": "vicuna"}

SCORE_FIELDS: Fields = {"question_id": (int, str), "model": str, "judge": list, "judgment": str}
SCORE_FIELDS |= {"user_prompt": str, "turn": int}
_GAME_FIELDS: Fields = {"question_id": (int, str), "model_1": str, "model_2": str, "judge": list}
_GAME_FIELDS |= {f"g{n}_{what}": str for n in (1, 2) for what in ("user_prompt", "judgment")}
_GAME_FIELDS |= {"turn": int}
_REVIEW_FIELDS: Fields = {"question_id": (int, str), "answer1_id": str, "answer2_id": str}
_REVIEW_FIELDS |= {"text": str}


def showings(source: SourceOrPath, kind: Kind | None) -> Iterator[Row]:
    """Every showing of a source in order: the columns of its frame, `request` and `created`."""
    if kind not in (None, "scores", "games"):
        raise ValueError(f"kind is {kind!r}; expected 'scores', 'games' or None")
    own, source = own_path(source), plain(source)
    if own:
        found = [(_role(path), path, "own") for path, _ in files_of(own, "judgments")]
        roles = [role for role, *_ in found]
    else:
        entry = source_named(os.fspath(source))
        roles = [role for role in _KINDS if entry.having(role)]
    if kind is None and len({_KINDS[role] for role in roles}) > 1:
        raise FrameError(
            f"{os.fspath(source)} holds single grades and pairwise games; say kind='scores' or"
            " kind='games'",
            columns=[],
        )
    wanted = [role for role in dict.fromkeys(roles) if kind in (None, _KINDS[role])]
    if own and wanted:
        files = [file for file in found if file[0] in wanted]
    else:
        files = [(r, *file) for r in wanted or [kind or "scores"] for file in files_of(source, r)]
    name = f"own:{own.stem}" if own else os.fspath(source)
    rendering = None
    for role, path, judge in files:
        if role in ("scores", "games"):
            read = _scores if role == "scores" else _games
            yield from read(path, name)
        else:
            rendering = rendering or _Rendering(source, _FAMILY[role])
            yield from _reviews(path, name, role, judge, rendering)


def _role(path: Path) -> str:
    """What a file of one's own holds, by its first row."""
    _, row = next(read_lines(path, {"question_id": (int, str)}))
    if "answer1_id" in row:
        return "threeclass" if isinstance(row.get("score"), int) else "reviews"
    return "games" if "g1_judgment" in row else "scores"


def _scores(path: Path, provider: str) -> Iterator[Row]:
    for line, row in read_lines(path, SCORE_FIELDS):
        score = row.get("score", -1)
        if not isinstance(score, (int, float)):
            raise bad_row(path, line, f"has score = {score!r}; expected a number, or -1")
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
    if len(row["judge"]) != 2 or not all(isinstance(part, str) for part in row["judge"]):
        raise bad_row(path, line, f"has judge = {row['judge']!r}; expected [model, prompt]")
    model, name = row["judge"]
    prompt = fastchat_prompt(name)
    family = next((f for f, members in FAMILIES.items() if prompt.name in members), prompt.name)
    system = {"role": "system", "content": prompt.system_prompt}
    messages = [system, {"role": "user", "content": asked}]
    return {
        "judge": f"{model}/{family}",
        **_read(text, "fastchat", form),
        "prompt": prompt.name,
        "origin": "as published",
        "request": Request(model, messages, _FASTCHAT_PARAMS, provider=provider),
        "created": _time(path, line, row),
    }


def fastchat_prompt(name: str) -> Prompt:
    """FastChat's prompt of that name, from the file as it was released."""
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
                    # The blog names a model and its version, "vicuna-13b:20230322-clean-lang".
                    named = str(row["model_id"] or "").partition(":")[0] if own else ""
                    self.answers[row["answer_id"]] = (named or model, row["turns"][0])
            self.prompts = read_review_prompts(files_of(source, "prompts")[0][0], name)
            self.questions = load_questions(original(source)).set_index("question_id")

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
        # A source's prompts don't say what judges of another role were asked.
        known = rendering.name == _FAMILY[role]
        prompt, request = rendering.request(row, judge, provider) if known else (None, None)
        yield {
            "question_id": row["question_id"],
            "turn": 1,
            "model_a": model_a,
            "model_b": model_b,
            "judge": f"{judge}/{_FAMILY[role]}",
            **_read(row["text"], "vicuna" if role == "reviews" else "threeclass", RATINGS),
            "prompt": prompt,
            "origin": "rendered" if request else "not rendered",
            "request": request,
            "created": _time(path, line, row),
            **_released(path, line, role, row.get("score")),
        }


def _released(path: Path, line: int, role: str, score: Any) -> Row:
    """Return the verdict that a review's `score` states: two numbers, or a choice of 1, 2, 3."""
    if isinstance(score, int) and score in CHOICES:
        return {"published": CHOICES[score]}
    if role == "reviews" and isinstance(score, list) and len(score) == 2:
        a, b = score
        if isinstance(a, (int, float)) and isinstance(b, (int, float)):
            winner = "tie" if a == b else "model_a" if a > b else "model_b"
            return {"published": winner, "published_a": float(a), "published_b": float(b)}
    raise bad_row(path, line, f"has score = {score!r}; expected two numbers, or 1, 2 or 3")


def _time(path: Path, line: int, row: Row) -> float | None:
    time = row.get("tstamp")
    if time is not None and not isinstance(time, (int, float)):
        raise bad_row(path, line, f"has tstamp = {time!r}; expected seconds, as a number")
    return time


def _read(text: str, parser: str, form: str) -> Row:
    """The text, and the verdict that a parser reads in it."""
    if text == _FAILED:
        return {"winner": None, "score": None, "reason": "request_failed", "text": None}
    return {**PARSERS[parser](text, None, form, (1, 10)).__dict__, "text": text}
