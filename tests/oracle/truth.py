"""The true values of what estimators estimate: exact, over questions drawn at random.

Nothing here is simulated: every value is a sum over the finitely many states of a game (which
answer is better, which is longer), whose probabilities have closed forms, or an expectation of
normal quality that has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from math import sqrt

import numpy as np
import pandas as pd

from lmjudge.frames import WINNERS
from lmjudge.simulation.planted import (
    CATEGORIES,
    LENGTHS,
    ONE_TURN,
    Plan,
    Side,
    SimulatedJudge,
    SimulatedModel,
    words_of,
)

By = str | Sequence[str]
OUTCOMES: tuple[Side | None, ...] = (*WINNERS, None)
A, B, TIE, NONE = range(4)
# All that the voters on a comparison have in common: which answer is better, and both lengths.
STATES = tuple(product(WINNERS, LENGTHS, LENGTHS))


def strata() -> list[tuple[str, int]]:
    """The categories and turns that questions have; all are equally frequent."""
    return [(c, turn) for c in CATEGORIES for turn in ((1,) if c in ONE_TURN else (1, 2))]


def meetings(plan: Plan) -> list[tuple[SimulatedModel, SimulatedModel]]:
    """The pairs of models whose answers are compared, in the order in which `pair_up` has them."""
    if plan.baseline is None:
        return list(combinations(plan.models, 2))
    fixed = next(model for model in plan.models if model.name == plan.baseline)
    return [(model, fixed) for model in plan.models if model is not fixed]


def comparisons(plan: Plan) -> tuple[pd.DataFrame, np.ndarray]:
    """Every kind of comparison (turn, category, model_a, model_b), all equally frequent, and the
    probabilities [kind, state] of STATES."""
    kinds, chances = [], []
    for (a, b), (category, turn) in product(meetings(plan), strata()):
        kinds.append({"turn": turn, "category": category, "model_a": a.name, "model_b": b.name})
        clear, wins = 1 - plan.contested, plan.better(a, b, category, turn)
        best = [clear * wins, clear * (1 - wins), plan.contested]
        chances.append(np.repeat(best, len(LENGTHS) ** 2) / len(LENGTHS) ** 2)
    return pd.DataFrame(kinds), np.array(chances)


def verdicts(plan: Plan, judge: SimulatedJudge) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities [kind, state, verdict] given the state, for the first and the second order.

    Verdicts are in the order of OUTCOMES and about the models: those of the second order, in which
    model_b is shown first, are already turned back.
    """
    orders: tuple[list, list] = [], []
    for a, b in meetings(plan):
        mine = (a.name == judge.name, b.name == judge.name)
        own = None if mine[0] == mine[1] else "model_a" if mine[0] else "model_b"
        liked = judge.liked(a.name, b.name)
        for best, one, two in STATES:
            gap = words_of(a, one) - words_of(b, two)
            for order, seen in zip(
                orders, judge.in_both_orders(best, gap, own, liked), strict=True
            ):
                order.append([seen[side] for side in OUTCOMES])
    shape = (-1, len(STATES), len(OUTCOMES))
    first, second = (np.reshape(order, shape).repeat(len(strata()), axis=0) for order in orders)
    return first, second


def judge_votes(plan: Plan, judge: SimulatedJudge) -> np.ndarray:
    """The probabilities [kind, state, vote] given the state, after `resolve(games, "tie")`."""
    first, second = verdicts(plan, judge)
    votes = np.zeros_like(first)
    votes[:, :, [A, B]] = (first * second)[:, :, [A, B]]
    votes[:, :, NONE] = 1 - (1 - first[:, :, NONE]) * (1 - second[:, :, NONE])
    votes[:, :, TIE] = 1 - votes.sum(-1)
    return votes


def human_votes(plan: Plan, group: str) -> np.ndarray:
    """The probabilities [kind, state, vote] given the state, of a voter of the group."""
    voters = next(voters for voters in plan.voters if voters.group == group)
    given = [
        [voters.choices(best).get(side or "", 0.0) for side in OUTCOMES] for best, *_ in STATES
    ]
    return np.tile(given, (len(meetings(plan)) * len(strata()), 1, 1))


def agreeing(
    chances: np.ndarray, one: np.ndarray, two: np.ndarray, ties: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Per kind, the probabilities that two votes agree and that they can be compared.

    They can where neither is missing and, without `ties` (S2), neither is a tie. Given the state
    they are independent.
    """
    kept = slice(0, NONE if ties else TIE)
    mine, theirs = one[:, :, kept], two[:, :, kept]
    agree, both = (mine * theirs).sum(-1), mine.sum(-1) * theirs.sum(-1)
    return (chances * agree).sum(1), (chances * both).sum(1)


def judge_named(plan: Plan, name: str) -> SimulatedJudge:
    """The judge of that name (a model's, or a Judge's, "sim-heron/pair") under its prompt.

    Raises ValueError for a name that the study does not have.
    """
    known = {judge.name: judge for judge in plan.judges}
    model, _, prompt = name.partition("/")
    if model not in known:
        raise ValueError(f"{name!r} is no judge of this study; it has {', '.join(known)}")
    return known[model].under(
        exchanged="renamed" in prompt,
        examples="few-shot" in prompt,
        solves="chain-of-thought" in prompt,
        guided="reference" in prompt,
    )


def votes_of(plan: Plan, who: str) -> np.ndarray:
    """The votes of a group of voters or of a judge: probabilities [kind, state, vote]."""
    if who in {voters.group for voters in plan.voters}:
        return human_votes(plan, who)
    return judge_votes(plan, judge_named(plan, who))


def listed(by: By) -> list[str]:
    """The columns that an estimator's `by` names."""
    return [by] if isinstance(by, str) else list(by)


def ratio(rows: pd.DataFrame, by: By, questions: pd.DataFrame | None = None) -> pd.DataFrame:
    """`planted`, the sum of top over the sum of bottom, per group of `by`.

    With `questions` categories count as often as they are asked there; else all alike.
    """
    names = listed(by)
    if questions is not None:
        asked = rows["category"].map(questions["category"].value_counts()).fillna(0)
        rows = rows.assign(top=rows["top"] * asked, bottom=rows["bottom"] * asked)[asked > 0]
    if not names:
        return pd.DataFrame({"planted": [rows["top"].sum() / rows["bottom"].sum()]})
    sums = rows.groupby(names)[["top", "bottom"]].sum().reset_index()
    return sums[names].assign(planted=sums["top"] / sums["bottom"])


def grade_chances(
    judge: SimulatedJudge, quality: np.ndarray, *, first: float = 0, long: float = 0, own: float = 0
) -> np.ndarray:
    """The probabilities [..., grade 1 to 10] of a judge's grade, given the answer's quality.

    `first`, `long` and `own` as in `SimulatedJudge.extra_points`.
    """
    from scipy.special import ndtr

    edges = np.arange(1, 10) + 0.5
    below = sum(
        chance * ndtr((edges - points - quality[..., None]) / judge.spread)
        for points, chance in judge.extra_points(first, long, own)
    )
    return np.diff(below, prepend=0.0, append=1.0, axis=-1)


def expected_grade(
    plan: Plan,
    judge: SimulatedJudge,
    model: SimulatedModel,
    category: str,
    turn: int,
    first: int = 0,
) -> float:
    """The expected grade, by the closed form E = 1 + sum of P(quality + habits > k + 1/2), k < 10.

    `first` is 1 for the first of two answers graded in one judgment, -1 for the second.
    """
    from scipy.special import ndtr

    spread = sqrt(plan.question_spread**2 + plan.answer_spread**2 + judge.spread**2)
    half_points = np.arange(1, 10) + 0.5
    added = judge.extra_points(first, 1 / len(LENGTHS), model.name == judge.name)
    quality = model.quality(category, turn)
    return 1.0 + sum(
        chance * float(ndtr((quality + points - half_points) / spread).sum())
        for points, chance in added
    )
