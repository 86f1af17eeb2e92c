"""What judges and voters make of a study's signed answers, in expectation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.frames import WINNERS
from lmjudge.simulation import SimulatedJudge, Study
from lmjudge.simulation.endpoint import Fact, SimulatedEndpoint
from lmjudge.simulation.signs import word_of
from lmjudge.simulation.study import _token
from oracle.truth import grade_chances


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


def by_answer(endpoint: SimulatedEndpoint) -> dict[tuple[Any, int, str], Fact]:
    """Return what is known of each answer by its question, turn and model."""
    return {(fact.question_id, fact.turn, fact.model): fact for fact in endpoint.facts.values()}


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
        facts = [study.endpoint.facts[word_of(turns[0])] for turns in pairings[f"answer_{side}"]]
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
    facts = by_answer(endpoint)
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
