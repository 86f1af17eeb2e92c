"""The true values of what estimators say about a judge's habits: positions, names, repeats.

`questions` are those that were asked, where they are not as many in each category.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import sqrt

import numpy as np
import pandas as pd

from lmjudge.simulation.planted import LENGTHS, Plan, SimulatedJudge, SimulatedModel
from oracle import truth
from oracle.truth import NONE, TIE, A, B, By, judge_named, listed, ratio

OUTCOMES = ("consistent", "biased_first", "biased_second", "mixed", "error")


def position_bias(
    plan: Plan,
    *,
    judge: str,
    by: By = ("judge",),
    rule: str = "mixed",
    turns: Sequence[int] = (1,),
    questions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What becomes of pairs judged in both orders: the share of each outcome."""
    kinds, joint = _both_orders(plan, judge)
    shares = {
        "consistent": joint[:, A, A] + joint[:, B, B] + joint[:, TIE, TIE],
        "biased_first": joint[:, A, B],
        "biased_second": joint[:, B, A],
        "error": joint[:, NONE].sum(-1) + joint[:, :NONE, NONE].sum(-1),
    }
    # model_a is shown first in the first order, model_b in the second.
    to_first = joint[:, A, TIE] + joint[:, TIE, B]
    to_second = joint[:, B, TIE] + joint[:, TIE, A]
    if rule == "lean":
        shares["biased_first"] += to_first
        shares["biased_second"] += to_second
    elif rule == "net":
        shares["consistent"] += to_first + to_second
    else:
        shares["mixed"] = to_first + to_second
    kinds = kinds.assign(judge=judge)
    rows = pd.concat(
        [kinds.assign(outcome=name, top=share, bottom=1.0) for name, share in shares.items()]
    )
    return ratio(rows[rows["turn"].isin(turns)], [*listed(by), "outcome"], questions)


def name_bias(
    plan: Plan,
    *,
    judge: str,
    prompts: tuple[str, str] = ("pair", "pair-renamed"),
    turns: Sequence[int] = (1,),
    questions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What the second prompt adds to the share of each outcome under the first."""
    model = judge.partition("/")[0]
    one, two = (
        position_bias(
            plan, judge=f"{model}/{prompt}", by=(), turns=turns, questions=questions
        ).set_index("outcome")["planted"]
        for prompt in prompts
    )
    added = (two - one).reindex(OUTCOMES)
    return added.rename_axis("outcome").reset_index().assign(judge=model)


def self_preference(
    plan: Plan,
    *,
    judge: str,
    against: Sequence[str],
    turns: Sequence[int] = (1,),
    questions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """How much more a judge's own answers win in its votes than in those of the `against`.

    They are the other judges, or one group of voters; a key counts the mean of those of their
    votes that have a verdict, which is missing by chance alone.
    """
    me = judge.partition("/")[0]
    kinds, chances = truth.comparisons(plan)
    mine = kinds["model_a"].eq(me).to_numpy()
    used = (mine | kinds["model_b"].eq(me).to_numpy()) & kinds["turn"].isin(turns).to_numpy()
    asked = np.ones(len(kinds))
    if questions is not None:
        asked = kinds["category"].map(questions["category"].value_counts()).fillna(0).to_numpy()

    def worth(who: str) -> tuple[float, float]:
        """The mean worth of a readable vote to me, and how often there is one."""
        votes = (chances[:, :, None] * truth.votes_of(plan, who)).sum(1)[used]
        known = votes[:, :NONE].sum(1)
        won = np.where(mine[used], votes[:, A], votes[:, B]) + votes[:, TIE] / 2
        return float(np.average(won / known, weights=asked[used])), float(known.mean())

    total = weight = 0.0
    for some in product(*(((w, r), (None, 1 - r)) for w, r in map(worth, against))):
        known = [w for w, _ in some if w is not None]
        if known:
            chance = float(np.prod([r for _, r in some]))
            total, weight = total + chance * float(np.mean(known)), weight + chance
    groups = {voters.group for voters in plan.voters}
    kind = "human" if set(against) <= groups else "judges"
    row = {"judge": judge, "model": me, "against": kind}
    return pd.DataFrame([row | {"planted": worth(judge)[0] - total / weight}])


def repeatability(
    plan: Plan,
    *,
    judge: str,
    kind: str = "games",
    by: By = (),
    turns: Sequence[int] = (1,),
    questions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """How often one of two samples of a game (either order), or of a grade, reads otherwise.

    `kind` is "games", whose verdicts are compared, or "scores".
    """
    who = judge_named(plan, judge)
    afresh = 1 - (1 - who.repeat_noise) ** 2
    spoken = (1 - who.failure_rate) * (1 - afresh * who.failure_rate)
    if kind == "scores":
        strata = truth.strata()
        rows = pd.DataFrame(
            [
                {"model": model.name, "category": category, "turn": turn}
                | {
                    "top": (1 - who.failure_rate) ** 2
                    * _two_grades(plan, who, model, category, turn)
                }
                for model, (category, turn) in product(plan.models, strata)
            ]
        )
    else:
        rows, chances = truth.comparisons(plan)
        readable = np.stack(truth.verdicts(plan, who))[..., :NONE]
        differ = (readable.sum(-1) ** 2 - (readable**2).sum(-1)).mean(0)
        rows = rows.assign(top=(chances * differ).sum(1))
    rows = rows.assign(top=afresh * rows["top"], bottom=spoken, judge=judge)
    return ratio(rows[rows["turn"].isin(turns)], by, questions)


def _both_orders(plan: Plan, judge: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Every kind of comparison, and the probabilities [kind, verdict in the first order, in the
    second]; verdicts in the order of truth.OUTCOMES, those of the second turned back."""
    kinds, chances = truth.comparisons(plan)
    who = judge_named(plan, judge)
    if judge.partition("/")[2].startswith("score"):
        models = {model.name: model for model in plan.models}
        return kinds, np.stack(
            [
                _by_scores(
                    plan, who, models[row.model_a], models[row.model_b], row.category, row.turn
                )
                for row in kinds.itertuples()
            ]
        )
    first, second = truth.verdicts(plan, who)
    return kinds, np.einsum("ks,ksi,ksj->kij", chances, first, second)


@lru_cache(maxsize=1024)
def _by_scores(
    plan: Plan,
    judge: SimulatedJudge,
    a: SimulatedModel,
    b: SimulatedModel,
    category: str,
    turn: int,
) -> np.ndarray:
    """The probabilities [first order, second order] of verdicts read from two grades in one reply.

    An integral over both qualities, by Gauss and Hermite's rule, and a sum over long and short.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(32)
    weights = weights / weights.sum()
    whole = sqrt(plan.question_spread**2 + plan.answer_spread**2)
    shared = plan.question_spread**2 / whole
    ours = a.quality(category, turn) + whole * nodes[:, None] + 0 * nodes[None, :]
    theirs = b.quality(category, turn) + shared * nodes[:, None]
    theirs = theirs + sqrt(whole**2 - shared**2) * nodes[None, :]
    joint = np.zeros((4, 4))
    for long_a, long_b in product((0, 1), repeat=2):
        chance = np.prod(
            [1 / len(LENGTHS) if long else 1 - 1 / len(LENGTHS) for long in (long_a, long_b)]
        )
        orders = []
        for first in (1, -1):
            grades = [
                truth.grade_chances(
                    judge, quality, first=place, long=long, own=model.name == judge.name
                )
                for quality, place, long, model in (
                    (ours, first, long_a, a),
                    (theirs, -first, long_b, b),
                )
            ]
            beaten = [np.cumsum(grade, axis=-1) - grade for grade in grades]
            verdicts = [
                (grades[0] * beaten[1]).sum(-1),
                (grades[1] * beaten[0]).sum(-1),
                (grades[0] * grades[1]).sum(-1),
            ]
            read = (1 - judge.failure_rate) * np.stack(verdicts)
            orders.append(np.concatenate([read, np.full((1, *ours.shape), judge.failure_rate)]))
        joint += chance * np.einsum("m,n,imn,jmn->ij", weights, weights, *orders)
    return joint


def _two_grades(
    plan: Plan, judge: SimulatedJudge, model: SimulatedModel, category: str, turn: int
) -> float:
    """The probability that two independent grades of one answer differ."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    spread = sqrt(plan.question_spread**2 + plan.answer_spread**2)
    quality = model.quality(category, turn) + spread * nodes
    same = 0.0
    for long, chance in ((1, 1 / len(LENGTHS)), (0, 1 - 1 / len(LENGTHS))):
        grades = truth.grade_chances(judge, quality, long=long, own=model.name == judge.name)
        same += chance * float((weights * (grades**2).sum(-1)).sum() / weights.sum())
    return 1 - same
