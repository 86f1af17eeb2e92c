"""The endpoint of the simulated judges: it reads rendered prompts and replies by their habits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

from lmjudge.errors import EndpointStopped, RequestFailed
from lmjudge.judges.attack import find_list
from lmjudge.records import Reply, Request
from lmjudge.simulation.planted import Side, SimulatedJudge

PARAPHRASER = "sim-scribe"
_TOKEN = re.compile(r"[qr][a-z2-7]{16}", re.IGNORECASE)
_SOLVES = re.compile(r"step by step", re.IGNORECASE)
_NAME = re.compile(r"assistant ([ab])\b", re.IGNORECASE)
_EXAMPLE = re.compile(r"^\[\[[ABC]\]\]$", re.MULTILINE)
_QUESTION = re.compile(r"Simulated question \d+ on \w+, turn \d\.")
_ALL_GRADES = re.compile(r'\[\[\s*\d+(\s*,\s*\d+){2,}\s*\]\]|"scores"')
_TWO_GRADES = re.compile(r"\[\[\s*(\d+|rating_a)\s*,\s*(\d+|rating_b)\s*\]\]")


@dataclass(frozen=True)
class Fact:
    """What the token in an answer stands for."""

    question_id: int
    turn: int
    model: str
    quality: float
    words: int
    long: bool
    contested: bool

    def best(self, other: Fact) -> Side:
        """Return which of this (model_a) and the other answer to the question is better."""
        if self.contested or self.quality == other.quality:
            return "tie"
        return "model_a" if self.quality > other.quality else "model_b"


@dataclass(frozen=True)
class SimulatedEndpoint:
    """An endpoint (see `records.Endpoint`) that judges the study's answers as planted.

    It finds the answers' tokens in the messages in the order shown, judges the last turn that it
    sees, and writes the verdict as the prompt asks for it: [[A]], [[B]] or [[C]] where the prompt
    names these (the assistants' names as the prompt gives them); one grade, [[7]], where it shows
    one answer; a grade for each, [[7,4,9]], where the prompt has such a list; two grades, [[7,4]],
    where the prompt has such; else two grades on the first line; or all this in a JSON object whose
    fields the prompt names. Asked a question of the study as one of its models, it gives that
    model's answer; as PARAPHRASER, it says a numbered list again.
    Every draw is a function of (seed, request), so neither order nor concurrency matters. Raises
    EndpointStopped for a model that is no judge of the study and for a prompt without the study's
    answers, RequestFailed for the requests planted to fail.
    """

    seed: int
    judges: tuple[SimulatedJudge, ...]
    facts: Mapping[str, Fact]
    concurrency: int = 16
    network: bool = False
    said: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """Return an async context manager that gives the coroutine function `answer(request)`."""

        async def answer(request: Request) -> Reply:
            return self.reply(request)

        yield answer

    def reply(self, request: Request) -> Reply:
        """Return the reply to one request."""
        judge = next((judge for judge in self.judges if judge.name == request.model), None)
        prompt = "\n".join(str(message["content"]) for message in request.messages)
        if request.model == PARAPHRASER:
            again = _TOKEN.sub(lambda token: "r" + token[0][1:], str(find_list(prompt) or ""))
            return _reply(prompt, again, PARAPHRASER)
        last = str(request.messages[-1]["content"])
        if (asked := _QUESTION.findall(last)) and not self._shown(last):
            answer = self.said.get((request.model, asked[-1]))
            if answer is not None:
                return _reply(prompt, answer, request.model)
        facts = self._shown(prompt)
        shown = [fact for fact in facts if fact.turn == max(fact.turn for fact in facts)]
        if judge is None or not shown or (len(shown) > 2 and not _ALL_GRADES.search(prompt)):
            raise EndpointStopped(
                f"the request to {request.model!r} shows {len(shown)} answers of the simulated"
                f" study of seed {self.seed}; ask one of {', '.join(j.name for j in self.judges)}"
                " about that study's own answers, or one of its models its questions",
                reason="not_of_this_study",
                status=None,
            )
        # Samples share their usual draw, so that repeat noise is all that sets them apart.
        key = replace(request, sample=0).key if request.sample else request.key
        if self._draw(key, request.sample, "failed") < judge.request_failure_rate:
            raise RequestFailed(
                "the simulated server failed, as planted",
                reason="server_error",
                status=500,
                attempts=1,
            )
        afresh = self._draw(key, request.sample, "afresh") < judge.repeat_noise
        salt = (key, request.sample) if afresh else (key,)
        mark = hashlib.sha256(request.key.encode()).hexdigest()[:8]
        text = f"This is a simulated judgment (mark {mark})."
        verdict = self._verdict(judge, shown, prompt, salt)
        if verdict is None:
            cut = self._draw(*salt, "cut") < 0.5
            text = text[:31] if cut else f"{text} It leaves the verdict to the reader."
            return _reply(prompt, text, judge.name, "length" if cut else "stop")
        return _reply(prompt, _written(prompt, text, verdict), judge.name)

    def _shown(self, prompt: str) -> list[Fact]:
        """Return what is shown, in its order; an answer said twice is one answer, and longer."""
        facts, again = [], False
        for token in map(str.lower, _TOKEN.findall(prompt)):
            fact = self.facts.get("q" + token[1:])
            if fact and token[0] == "r":
                again = True
            elif fact:
                facts.append(replace(fact, words=2 * fact.words, long=True) if again else fact)
                again = False
        return facts

    def _verdict(
        self, judge: SimulatedJudge, shown: list[Fact], prompt: str, salt: tuple[object, ...]
    ) -> dict[str, Any] | None:
        """Return the verdict by the fields of a JSON prompt, None for a judgment without one."""
        if len(shown) == 2 and ("[[A]]" in prompt or '"winner"' in prompt):
            exchanged = _exchanged(prompt)
            moved = judge.under(
                exchanged=exchanged,
                examples=bool(_EXAMPLE.search(prompt)),
                solves=bool(_SOLVES.search(prompt)),
                guided="Simulated reference answer" in prompt,
            )
            winner = self._winner(moved, shown[0], shown[1], salt)
            letters = ("B", "A") if exchanged else ("A", "B")
            named = {"model_a": letters[0], "model_b": letters[1], "tie": "C"}
            return None if winner is None else {"winner": named[winner]}
        if self._draw(*salt, "silent") < judge.failure_rate:
            return None
        if _ALL_GRADES.search(prompt):
            ends = {0: 1, len(shown) - 1: -1} if len(shown) > 1 else {}
            graded = enumerate(shown)
            return {
                "scores": [self._grade(judge, f, ends.get(at, 0), (*salt, at)) for at, f in graded]
            }
        if len(shown) == 1:
            return {"score": self._grade(judge, shown[0], 0, salt)}
        first, second = (self._grade(judge, shown[i], 1 - 2 * i, salt) for i in (0, 1))
        return {"score_a": first, "score_b": second}

    def _winner(
        self, judge: SimulatedJudge, first: Fact, second: Fact, salt: tuple[object, ...]
    ) -> Side | None:
        gap = first.words - second.words
        longer: Side | None = "model_a" if gap > 0 else "model_b" if gap < 0 else None
        own = [fact.model == judge.name for fact in (first, second)]
        mine: Side | None = None if own[0] == own[1] else "model_a" if own[0] else "model_b"
        point = self._draw(*salt, "verdict")
        liked = judge.liked(first.model, second.model)
        for side, share in judge.verdicts(first.best(second), longer, mine, liked).items():
            point -= share
            if point < 0:
                return side
        return None

    def _grade(
        self, judge: SimulatedJudge, fact: Fact, first: int, salt: tuple[object, ...]
    ) -> int:
        point = self._draw(*salt, "habit", first)
        extra = judge.leniency
        for points, chance in judge.extra_points(first, fact.long, fact.model == judge.name):
            point -= chance
            if point < 0:
                extra = points
                break
        error = NormalDist(0, judge.spread).inv_cdf(self._draw(*salt, "error", first))
        return min(10, max(1, round(fact.quality + extra + error)))

    def _draw(self, *parts: object) -> float:
        """Return a number strictly between 0 and 1 that only the seed and the parts decide."""
        digest = hashlib.sha256(repr((self.seed, *parts)).encode()).digest()
        return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def _written(prompt: str, text: str, verdict: dict[str, Any]) -> str:
    """Return the judgment as the prompt asks for it."""
    if '"reasoning"' in prompt:
        return json.dumps({"reasoning": text, **verdict})
    (first, *_) = verdict.values()
    scores = first if isinstance(first, list) else list(verdict.values())
    if "score_b" in verdict and not _TWO_GRADES.search(prompt):
        return f"{' '.join(map(str, scores))}\n{text}"
    return f"{text}\n[[{','.join(map(str, scores))}]]"


def _exchanged(prompt: str) -> bool:
    """Return whether the prompt calls the answer shown first B, and the second A."""
    tokens = list(_TOKEN.finditer(prompt))
    before = _NAME.findall(prompt[: tokens[0].start()])
    between = _NAME.findall(prompt[tokens[0].end() : tokens[-1].start()])
    return bool(before and between) and (before[-1] + between[-1]).upper() == "BA"


def _reply(prompt: str, text: str, model: str, finish_reason: str = "stop") -> Reply:
    prompt_tokens, reply_tokens = len(prompt) // 4, len(text) // 4
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": reply_tokens,
        "total_tokens": prompt_tokens + reply_tokens,
    }
    return Reply(text, finish_reason=finish_reason, usage=usage, model=model)
