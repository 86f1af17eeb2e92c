"""Signs of quality in the texts of a study, for models that learn from texts; and other answers.

The study's own texts say nothing of their quality: its judges know it by a word that stands for the
answer. A model that is trained needs a sign that can be learned, and answers that a model gave have
no such word. Both are planted here, and documented, so that what is learned can be held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.frames import WINNERS, check, frame
from lmjudge.simulate.endpoint import _TOKEN, Fact, SimulatedEndpoint
from lmjudge.simulate.planted import SimulatedJudge
from lmjudge.simulate.study import Study, _token
from lmjudge.simulate.truth import grade_chances

# Which of these a word of an answer becomes says how good the answer is.
SOUND = ("apt", "exact", "lucid", "sound", "useful", "valid")
LOOSE = ("dull", "empty", "hazy", "loose", "stale", "vague")
SIGNS = 0.7


def signed(study: Study) -> pd.DataFrame:
    """The study's answers with the sign: a share SIGNS of their words are SOUND or LOOSE.

    Each of these is SOUND with the probability (quality - 1) / 9, held within 0.02 and 0.98, where
    the quality is the turn's own: so many words tell it, with the error of a share. Lengths and the
    words that stand for the answers stay, and so does all that the study's judges say of them.
    """
    rng = np.random.default_rng([study.seed, 11])
    turns = [[_signed(study, text, rng) for text in texts] for texts in study.answers["turns"]]
    return study.answers.assign(turns=turns)


def manner(study: Study) -> pd.DataFrame:
    """Answers to the study's questions in a manner that can be learned: all their words are SOUND.

    One answer a question, by the model "sim-manner", of as many turns; each turn is three to six of
    the words, drawn at random, and holds no word that a judge of the study knows it by.
    """
    rng = np.random.default_rng([study.seed, 12])
    rows = [
        {
            "question_id": row["question_id"],
            "model": "sim-manner",
            "turns": [" ".join(rng.choice(SOUND, rng.integers(3, 7))) for _ in row["turns"]],
            "sample": 0,
        }
        for row in study.questions.to_dict("records")
    ]
    return frame("answers", rows)


def expected_agreement(
    study: Study, votes: pd.DataFrame, group: str, *, drawn: bool = False
) -> pd.DataFrame:
    """How often a voter of the group agrees with these votes, in expectation: S1 and S2.

    `votes` are on first turns of the study's answers. With `drawn` only the pairs that they are on
    count, and it is how often two voters of the group agree on these. Columns: ties ("keep",
    "drop"), planted.
    """
    voters = next(voters for voters in study.plan.voters if voters.group == group)
    facts = _by_answer(study.endpoint)
    sums = np.zeros(4)  # agreeing and comparable, with ties and without
    for row in check(votes, "votes").to_dict("records"):
        a, b = (facts[row["question_id"], 1, row[f"model_{side}"]] for side in "ab")
        theirs = voters.choices(a.best(b))
        mine = theirs if drawn else {row["winner"]: 1.0}
        for place, kept in ((0, WINNERS), (2, WINNERS[:2])):
            both = sum(mine.get(side, 0.0) * theirs[side] for side in kept)
            met = sum(mine.get(s, 0.0) for s in kept) * sum(theirs[s] for s in kept)
            sums[place : place + 2] += both, met
    shares = np.divide(sums[::2], sums[1::2], out=np.full(2, np.nan), where=sums[1::2] > 0)
    return pd.DataFrame({"ties": ["keep", "drop"], "planted": shares})


def told(
    answers: pd.DataFrame, quality: Sequence[float], judges: Sequence[SimulatedJudge], seed: int
) -> tuple[pd.DataFrame, SimulatedEndpoint]:
    """Answers of any models with a word that stands for each, and an endpoint that judges them.

    `quality` is what each answer is worth (first turns alone), by a rule of one's own.
    """
    facts: dict[str, Fact] = {}
    turns = []
    for row, worth in zip(answers.to_dict("records"), quality, strict=True):
        token = _token(seed, row["question_id"], row["model"], row["sample"])
        text = f"{row['turns'][0]} {token}".strip()
        words = len(text.split())
        facts[token] = Fact(
            row["question_id"], 1, row["model"], float(worth), words, words > 40, False
        )
        turns.append([text])
    return answers.assign(turns=turns), SimulatedEndpoint(seed, tuple(judges), facts)


def expected_totals(study: Study, pairings: pd.DataFrame, *, orders: str = "both") -> pd.DataFrame:
    """What model_a's grades total in percent of model_b's, in expectation, by the first judge.

    `pairings` are of first turns of the study's answers, known by their words, whatever model they
    are said to be of: a model's sample, or a rank. Both are graded in one judgment. Columns:
    model_a, model_b, planted.
    """
    who, grades = study.plan.judges[0], np.arange(1, 11)
    places = (1, -1) if orders == "both" else (1,)
    made = pairings[["model_a", "model_b"]].copy()
    for side, turn in (("a", 1), ("b", -1)):
        facts = [study.endpoint.facts[_word(turns[0])] for turns in pairings[f"answer_{side}"]]
        made[side] = [
            sum(
                float(
                    grade_chances(who, np.array(f.quality), first=turn * place, long=f.long)
                    @ grades
                )
                for place in places
            )
            for f in facts
        ]
    sums = made.groupby(["model_a", "model_b"])[["a", "b"]].sum()
    return (100 * sums["a"] / sums["b"]).rename("planted").reset_index()


def expected_wins(
    endpoint: SimulatedEndpoint, judge: SimulatedJudge, pairings: pd.DataFrame
) -> pd.DataFrame:
    """What model_a's win rate over model_b is, in expectation, once both orders are resolved.

    Ties count half and missing verdicts not at all. Columns: model_a, model_b, planted.
    """
    facts = _by_answer(endpoint)
    sums: dict[tuple[str, str], np.ndarray] = {}
    for row in pairings.to_dict("records"):
        a, b = (facts[row["question_id"], 1, row[f"model_{side}"]] for side in "ab")
        first, second = judge.in_both_orders(a.best(b), a.words - b.words, None)
        read = (1 - first[None]) * (1 - second[None])
        wins, losses = (first[side] * second[side] for side in WINNERS[:2])
        pair = sums.setdefault((row["model_a"], row["model_b"]), np.zeros(2))
        pair += (wins + read - losses) / 2, read
    return pd.DataFrame(
        [{"model_a": a, "model_b": b, "planted": top / of} for (a, b), (top, of) in sums.items()]
    )


def _by_answer(endpoint: SimulatedEndpoint) -> dict[tuple[Any, int, str], Fact]:
    return {(fact.question_id, fact.turn, fact.model): fact for fact in endpoint.facts.values()}


def _word(text: str) -> str:
    """The word that stands for an answer; "" where it has none."""
    found = _TOKEN.search(text)
    return found[0].lower() if found else ""


def _signed(study: Study, text: str, rng: np.random.Generator) -> str:
    fact = study.endpoint.facts.get(_word(text))
    quality = fact.quality if fact else 5.5
    chance = min(0.98, max(0.02, (quality - 1) / 9))
    words = text.split()
    for at, word in enumerate(words):
        if not _TOKEN.search(word) and rng.random() < SIGNS:
            signs = SOUND if rng.random() < chance else LOOSE
            words[at] = signs[int(rng.integers(len(signs)))]
    return " ".join(words)
