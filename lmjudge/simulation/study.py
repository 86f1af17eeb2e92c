"""The simulated study: frames drawn from a seed, and the facts behind each answer."""

from __future__ import annotations

import hashlib
from base64 import b32encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmjudge import places
from lmjudge.frames import frame, pair_up
from lmjudge.shown import as_table
from lmjudge.simulation.endpoint import Fact, SimulatedEndpoint
from lmjudge.simulation.planted import (
    CATEGORIES,
    LENGTHS,
    ONE_TURN,
    REFERENCED,
    RIGHT_FROM,
    Plan,
    words_of,
)
from lmjudge.store import Store

_WORDS = tuple(
    "about after again along among around because before below between careful certain clear"
    " common early either enough every first gather given handful instead later likely little"
    " manner measure moment nearly notice often order other perhaps plain present quite rather"
    " reason several simple since small still though together usual various while without".split()
)


@dataclass(frozen=True, eq=False)
class Study:
    """A study with known truth: frames like published ones, and an endpoint that makes them.

    `questions`, `answers` and `votes` (several simulated voters a pair, in the groups expert and
    crowd) are frames as everywhere; `judges` the names of the judge models that `endpoint` plays,
    beside the models that answer; `plan` what was planted.
    """

    seed: int
    plan: Plan
    questions: pd.DataFrame
    answers: pd.DataFrame
    votes: pd.DataFrame
    endpoint: SimulatedEndpoint

    def __repr__(self) -> str:
        counts = ", ".join(f"{value} {name}" for name, value in self._counts().items())
        return f"simulated Study of seed {self.seed}: {counts}; judges {', '.join(self.judges)}"

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {**self._counts(), "judges": ", ".join(self.judges)}
        return as_table(f"Simulated study of seed {self.seed}", rows)

    def _counts(self) -> dict[str, int]:
        frames = {"questions": self.questions, "answers": self.answers, "votes": self.votes}
        return {name: len(frame) for name, frame in frames.items()}

    @property
    def judges(self) -> tuple[str, ...]:
        """The names of the simulated judge models."""
        return tuple(judge.name for judge in self.plan.judges)

    @property
    def pairings(self) -> pd.DataFrame:
        """The pairs of answers that the votes are on: all, or each model's with the baseline's."""
        return pair_up(self.questions, self.answers, baseline=self.plan.baseline)

    @property
    def listed(self) -> pd.DataFrame:
        """The answers with every text made a numbered list, for attacks on lists."""
        return self.answers.assign(
            turns=[[_as_list(text) for text in turns] for turns in self.answers["turns"]]
        )

    @property
    def labels(self) -> pd.DataFrame:
        """Which answers are right: a scores frame with 1 and 0, by the judge sim-label.

        On contested questions, where no answer is better than another, all count as right.
        """
        return frame(
            "scores",
            [
                {
                    "question_id": fact.question_id,
                    "turn": fact.turn,
                    "model": fact.model,
                    "judge": "sim-label",
                    "sample": 0,
                    "score": float(fact.contested or fact.quality >= RIGHT_FROM),
                    "reason": None,
                    "text": None,
                    "key": None,
                }
                for fact in self.endpoint.facts.values()
            ],
        )

    def store(self, path: str | Path | None = None) -> Store:
        """Return a store in record mode for the simulated judgments, apart from the paid ones.

        Without a path it is `simulated`, beside the folder that `Store()` would take.
        """
        return Store(path or places.judgments().parent / "simulated", mode="record")


def build(seed: int, plan: Plan) -> Study:
    """Return the study that a seed and a plan amount to: the same two give the same bytes."""
    rng = np.random.default_rng(seed)
    names = [model.name for model in plan.models]
    if plan.baseline not in (None, *names):
        raise ValueError(f"the baseline {plan.baseline!r} is none of the models {names}")
    questions: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    facts: dict[str, Fact] = {}
    texts: dict[tuple[str, str], str] = {}
    for category in CATEGORIES:
        turns = (1,) if category in ONE_TURN else (1, 2)
        for _ in range(plan.per_category):
            number = len(questions) + 1
            questions.append(_question(number, category, turns))
            contested = bool(rng.random() < plan.contested)
            shared = plan.question_spread * rng.standard_normal()
            for model in plan.models:
                replies = []
                for turn in turns:
                    token = _token(seed, number, turn, model.name)
                    length = LENGTHS[int(rng.integers(len(LENGTHS)))]
                    luck = plan.answer_spread * rng.standard_normal()
                    quality = model.quality(category, turn) + shared + luck
                    words = words_of(model, length)
                    long = length == max(LENGTHS)
                    facts[token] = Fact(number, turn, model.name, quality, words, long, contested)
                    replies.append(_answer(rng, words, token))
                    texts[model.name, questions[-1]["turns"][turn - 1]] = replies[-1]
                answers.append(
                    {"question_id": number, "model": model.name, "turns": replies, "sample": 0}
                )
    frames = frame("questions", questions), frame("answers", answers)
    votes = _votes(rng, plan, pair_up(*frames, baseline=plan.baseline), facts)
    return Study(
        seed, plan, *frames, votes, SimulatedEndpoint(seed, plan.judges, facts, said=texts)
    )


def _question(number: int, category: str, turns: tuple[int, ...]) -> dict[str, Any]:
    asked = [f"Simulated question {number} on {category}, turn {turn}." for turn in turns]
    known = [f"Simulated reference answer to question {number}, turn {turn}." for turn in turns]
    return {
        "question_id": number,
        "category": category,
        "turns": asked,
        "reference": known if category in REFERENCED else None,
    }


def _token(seed: int, *parts: object) -> str:
    """Return a word that says which answer it stands in only to who holds the study."""
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return "q" + b32encode(digest[:10]).decode().lower()


def _answer(rng: np.random.Generator, words: int, token: str) -> str:
    drawn = [_WORDS[i] for i in rng.integers(len(_WORDS), size=words - 1)]
    drawn.insert(int(rng.integers(words)), token)
    return f"{' '.join(drawn).capitalize()}."


def _as_list(text: str) -> str:
    words = text.split()
    items = [" ".join(words[at : at + 9]) for at in range(0, len(words), 9)]
    return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))


def _votes(
    rng: np.random.Generator, plan: Plan, pairings: pd.DataFrame, facts: dict[str, Fact]
) -> pd.DataFrame:
    likes = {
        voters.group: [rng.permutation(len(plan.models)) for _ in range(voters.pool)]
        for voters in plan.voters
        if voters.taste
    }
    place = {model.name: at for at, model in enumerate(plan.models)}
    answered = {(fact.question_id, fact.turn, fact.model): fact for fact in facts.values()}
    rows: list[dict[str, Any]] = []
    for question, first, second, asked in pairings[
        ["question_id", "model_a", "model_b", "question"]
    ].itertuples(index=False):
        for turn in range(1, len(asked) + 1):
            for voters in plan.voters:
                for voter in rng.choice(voters.pool, voters.each, replace=False):
                    # Sides are drawn, so that reading a vote from the wrong side shows up.
                    a, b = (first, second) if rng.random() < 0.5 else (second, first)
                    best = answered[question, turn, a].best(answered[question, turn, b])
                    liked = None
                    if voters.taste:
                        order = likes[voters.group][voter]
                        liked = "model_a" if order[place[a]] < order[place[b]] else "model_b"
                    chances = voters.choices(best, liked)
                    winner = rng.choice(list(chances), p=list(chances.values()))
                    rows.append(
                        {
                            "question_id": question,
                            "turn": turn,
                            "model_a": a,
                            "model_b": b,
                            "judge": f"sim-{voters.group}-{voter + 1:03d}",
                            "group": voters.group,
                            "winner": str(winner),
                            "reason": None,
                            "time": float(len(rows)),
                        }
                    )
    return frame("votes", rows)
