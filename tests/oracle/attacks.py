"""The true values of what a judge prefers besides the better answer: padding, length, an error."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import pandas as pd

from lmjudge.simulation.planted import RIGHT_FROM, Plan, words_of
from oracle import truth
from oracle.truth import NONE, STATES, A, B, judge_named, ratio


def attack_failures(plan: Plan, *, judge: str, rule: str = "both") -> pd.DataFrame:
    """How often a padded answer, no better and longer than its original, is judged the better."""
    who = judge_named(plan, judge)
    spoken = 1 - who.failure_rate
    first, second = (
        who.verdicts("tie", padded, None)[padded] / spoken for padded in ("model_a", "model_b")
    )
    fails = first * second if rule == "both" else 1 - (1 - first) * (1 - second)
    return pd.DataFrame({"judge": [judge], "planted": [fails]})


def wrong_preferred(
    plan: Plan, *, judge: str, categories: Sequence[str] = ("math",)
) -> pd.DataFrame:
    """How often, of a right and a wrong first-turn answer, the verdict is not for the right one."""
    kinds = truth.comparisons(plan)[0]
    orders = truth.verdicts(plan, judge_named(plan, judge))
    rows = []
    for side, right in (("model_a", A), ("model_b", B)):
        states = [best == side for best, *_ in STATES]
        seen = np.mean([order[:, states] for order in orders], axis=(0, 2))
        weight = _one_right(plan, kinds, side)
        read = seen[:, :NONE].sum(1)
        rows.append(kinds.assign(top=weight * (read - seen[:, right]), bottom=weight * read))
    every = pd.concat(rows).assign(judge=judge)
    return ratio(every[(every["turn"] == 1) & every["category"].isin(categories)], "judge")


def length_bias(plan: Plan, *, voters: str, turns: Sequence[int] = (1,)) -> pd.DataFrame:
    """What the regression of `length_bias` would find in endlessly many votes.

    Of a judge's votes (both orders, rule "tie"), or of a group of voters, whom length never moves.
    """
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    kinds, chances = truth.comparisons(plan)
    used = kinds["turn"].isin(turns).to_numpy()
    votes = truth.votes_of(plan, voters)[used]
    pairs, read = kinds[used], votes[:, :, :NONE].sum(2)
    words = {model.name: model for model in plan.models}
    gaps = [
        [np.log2(words_of(words[a], one) / words_of(words[b], two)) for _, one, two in STATES]
        for a, b in zip(pairs["model_a"], pairs["model_b"], strict=True)
    ]
    constants = pd.get_dummies(pairs["model_a"] + " / " + pairs["model_b"], dtype=float)
    fit = GLM(
        ((votes[:, :, :NONE] @ [1, 0, 0.5]) / read).ravel(),
        np.column_stack([constants.to_numpy().repeat(len(STATES), 0), np.ravel(gaps)]),
        family=Binomial(),
        freq_weights=(chances[used] * read).ravel(),
    ).fit()
    return pd.DataFrame({"planted": [np.exp(fit.params[-1])]})


def _one_right(plan: Plan, kinds: pd.DataFrame, side: str) -> np.ndarray:
    """How often the answer of that side is right and the other wrong, up to a common factor.

    An integral over what the two answers share, by Gauss and Hermite's rule.
    """
    from scipy.special import ndtr

    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    models = {model.name: model for model in plan.models}

    def right(name: str, category: str, turn: int) -> np.ndarray:
        quality = models[name].quality(category, turn) + plan.question_spread * nodes
        return np.asarray(ndtr((quality - RIGHT_FROM) / plan.answer_spread))

    other = "model_b" if side == "model_a" else "model_a"
    return np.array(
        [
            (weights * right(one, c, turn) * (1 - right(two, c, turn))).sum() / sqrt(2 * np.pi)
            for one, two, c, turn in kinds[[side, other, "category", "turn"]].itertuples(
                index=False
            )
        ]
    )
