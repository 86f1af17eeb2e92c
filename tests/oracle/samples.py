"""Grades, lengths and ranked samples in a simulated study: what their tables should show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import comb, sqrt
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lmjudge.simulation.planted import LENGTHS, Plan, SimulatedJudge, SimulatedModel, words_of
from oracle import truth

if TYPE_CHECKING:
    from lmjudge.simulation.study import Study

REWARD_NOISE = 0.83
# One model that answers each question five times.
SAMPLED = tuple(
    SimulatedModel(f"sim-fir, sample {number}", 43, (6.18, 5.93, 6.41, 5.77, 4.86, 5.14))
    for number in range(1, 6)
)
_NODES = 96


def sampled(study: Study, noise: float = REWARD_NOISE) -> pd.DataFrame:
    """The study's answers with "sim-fir, sample 3" as sample 2 of sim-fir, and `reward`.

    The reward of an answer is the quality of its first turn, and an error of its own of standard
    deviation `noise`: what a reward model that is right on average would give.
    """
    quality = {
        (fact.question_id, fact.model): fact.quality
        for fact in study.endpoint.facts.values()
        if fact.turn == 1
    }
    answers = study.answers
    named = answers["model"].str.extract(r"^(.*), sample (\d+)$")
    found = [quality[key] for key in zip(answers["question_id"], answers["model"], strict=True)]
    errors = np.random.default_rng([study.seed, 5]).standard_normal(len(answers))
    return answers.assign(
        model=named[0].fillna(answers["model"]),
        sample=named[1].fillna("1").astype(int) - 1,
        reward=np.array(found) + noise * errors,
    )


def ranked_totals(
    plan: Plan,
    *,
    judge: str,
    baseline: str,
    noise: float = REWARD_NOISE,
    samples: Sequence[SimulatedModel] = SAMPLED,
    orders: str = "both",
) -> pd.DataFrame:
    """What the samples of each rank total in percent of the baseline, and what one sample does.

    Rank 1 has the highest reward. The part of an answer's luck that its reward tells is an order
    statistic of normal draws, integrated by Gauss and Hermite's rule; the rest is normal.
    """
    who = truth.judge_named(plan, judge)
    fixed = next(model for model in plan.models if model.name == baseline)
    name = samples[0].name.rpartition(", sample ")[0]
    places = (1, -1) if orders == "both" else (1,)
    strata = [category for category, turn in truth.strata() if turn == 1]
    below = np.mean(
        [truth.expected_grade(plan, who, fixed, c, 1, -place) for c in strata for place in places]
    )
    rows = []
    for rank in (*range(1, len(samples) + 1), None):
        label = f"{name}, one sample" if rank is None else f"{name}, rank {rank}"
        above = [
            truth.expected_grade(plan, who, samples[0], category, 1, place)
            if rank is None
            else _ranked_grade(
                plan, who, samples[0].quality(category, 1), place, rank, len(samples), noise
            )
            for category in strata
            for place in places
        ]
        rows.append(
            {"model_a": label, "model_b": baseline, "planted": 100 * np.mean(above) / below}
        )
    return pd.DataFrame(rows)


def score_counts(plan: Plan, *, judge: str, turns: Sequence[int] = (1,)) -> pd.DataFrame:
    """The share of each grade (from 1 to 10) among a model's, by model and grade."""
    who = truth.judge_named(plan, judge)
    spread = sqrt(plan.question_spread**2 + plan.answer_spread**2 + who.spread**2)
    strata = [(category, turn) for category, turn in truth.strata() if turn in turns]
    rows = []
    for model in plan.models:
        quality = np.array([model.quality(category, turn) for category, turn in strata])
        chances = truth.grade_chances(
            replace(who, spread=spread),
            quality,
            long=1 / len(LENGTHS),
            own=model.name == who.name,
        ).mean(0)
        rows += [
            {"model": model.name, "grade": float(grade), "planted": chance}
            for grade, chance in enumerate(chances, 1)
        ]
    return pd.DataFrame(rows)


def length_histogram(plan: Plan, *, bins: Sequence[float]) -> pd.DataFrame:
    """The share of all turns of answers whose number of words is in each bin, by its first edge."""
    words = [words_of(model, length) for model in plan.models for length in LENGTHS]
    shares = np.histogram(words, bins)[0] / len(words)
    return pd.DataFrame({"words": [float(edge) for edge in bins[:-1]], "planted": shares})


def _ranked_grade(
    plan: Plan,
    judge: SimulatedJudge,
    quality: float,
    place: int,
    rank: int,
    samples: int,
    noise: float,
) -> float:
    """The expected grade of the answer whose reward is the `rank`-th highest of `samples`."""
    from scipy.special import ndtr

    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    # The density of the rank-th highest of so many normal draws, over that of one.
    weights = weights * ndtr(nodes) ** (samples - rank) * ndtr(-nodes) ** (rank - 1)
    weights = weights * rank * comb(samples, rank) / sqrt(2 * np.pi)
    whole = sqrt(plan.answer_spread**2 + noise**2)
    told = plan.answer_spread**2 / whole
    rest = plan.answer_spread * noise / whole
    spread = sqrt(plan.question_spread**2 + rest**2 + judge.spread**2)
    chances = truth.grade_chances(
        replace(judge, spread=spread), quality + told * nodes, first=place, long=1 / len(LENGTHS)
    )
    return float(weights @ (chances @ np.arange(1, 11)))
