"""Planted beside recovered: the truth in the shape of each estimator's frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.simulate import truth
from lmjudge.simulate.planted import Plan, SimulatedJudge
from lmjudge.simulate.truth import NONE, TIE, A, B

By = str | Sequence[str]


def planted(plan: Plan, quantity: str, **cut: Any) -> pd.DataFrame:
    """The true values of an estimator's frame: its key columns, and `planted`.

    `quantity` is the estimator's name, `cut` its arguments (by, ties, rule, baseline, via ...) and
    who it is about: `judge` (a judge model's name, or a Judge's, such as "sim-heron/pair"), or
    `voters` (two of them for agreement, judges or groups of voters). `turns` are those judged, by
    default the first. Raises ValueError for a name that the study does not have.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity is {quantity!r}; known are {', '.join(QUANTITIES)}")
    return QUANTITIES[quantity][0](plan, **cut)


def recovered(
    estimates: pd.DataFrame, true: pd.DataFrame, table: str = "Planted and recovered"
) -> pd.DataFrame:
    """An estimator's frame beside the truth, as a table: what `save_table` and a page take.

    Columns: table, row (the key columns' values), column (the estimate's name), value, n, low,
    high, no_verdict, basis (simulated), planted. Every row of `true` is in it; of `estimates`
    those that have a planted value. Raises ValueError where nothing was estimated.
    """
    keys = [name for name in true.columns if name != "planted"]
    value = next(name for _, name, _ in QUANTITIES.values() if name in estimates.columns)
    both = pd.DataFrame()
    if set(keys) <= set(estimates.columns):
        both = true.merge(estimates, on=keys) if keys else true.join(estimates)
    if len(both) != len(true):
        raise ValueError(
            f"{len(true)} planted values meet {len(both)} estimates by {keys}; give both the same"
            " `by`, judge and baseline"
        )
    names = both[keys].astype(str).agg(" · ".join, axis=1) if keys else "all"
    made = both.assign(table=table, row=names, column=value, value=both[value], basis="simulated")
    return made[
        ["table", "row", "column", "value", "n", "low", "high", "no_verdict", "basis", "planted"]
    ]


def mean_scores(
    plan: Plan, *, judge: str, by: By = ("model",), turns: Sequence[int] = (1,)
) -> pd.DataFrame:
    """The expected grade by model, turn, category, judge."""
    who = _judge(plan, judge)
    rows = [
        {
            "judge": judge,
            "model": model.name,
            "category": category,
            "turn": turn,
            "planted": truth.expected_grade(plan, who, model, category, turn),
        }
        for model in plan.models
        for category, turn in truth.strata()
        if turn in turns
    ]
    return pd.DataFrame(rows).groupby(_list(by))["planted"].mean().reset_index()


def score_totals(
    plan: Plan, *, judge: str, orders: str = "both", baseline: str | None = None
) -> pd.DataFrame:
    """What model_a's grades total in percent of model_b's, on first turns, sides as shown.

    With a `baseline` it is model_b, from whichever side. `orders` as in `judge_pairs`.
    """
    totals = _totals(plan, judge, orders)
    if baseline is not None:
        turned = totals["model_a"] == baseline
        swapped = totals.rename(
            columns={"model_a": "model_b", "model_b": "model_a", "a": "b", "b": "a"}
        )
        totals = pd.concat([totals[~turned], swapped[turned]])
        totals = totals[totals["model_b"] == baseline]
    pooled = totals.groupby(["model_a", "model_b"])[["a", "b"]].sum().reset_index()
    return pooled[["model_a", "model_b"]].assign(planted=100 * pooled["a"] / pooled["b"])


def relative_quality(
    plan: Plan, *, judge: str, baseline: str, via: str, orders: str = "both"
) -> pd.DataFrame:
    """Each model's grades in percent of the baseline's, by way of `via` (not the baseline's)."""
    ratios = score_totals(plan, judge=judge, orders=orders, baseline=via)
    anchor = ratios.loc[ratios["model_a"] == baseline, "planted"].iloc[0] / 100
    models = ratios.loc[ratios["model_a"] != baseline]
    rows = [*zip(models["model_a"], models["planted"] / anchor, strict=True), (via, 100 / anchor)]
    return pd.DataFrame(rows, columns=["model", "planted"])


def win_rates(
    plan: Plan,
    *,
    voters: str,
    ties: str = "half",
    by: By = (),
    baseline: str | None = None,
    turns: Sequence[int] = (1,),
) -> pd.DataFrame:
    """Each model's win rate in a judge's votes (both orders, rule "tie") or a group's."""
    kinds, chances = truth.comparisons(plan)
    votes = (chances[:, :, None] * _votes(plan, voters)).sum(1)
    worth = {"half": 0.5, "keep": 0.0, "drop": 0.0}[ties]
    counted = votes[:, :TIE].sum(1) if ties == "drop" else votes[:, :NONE].sum(1)
    sides = [
        kinds.assign(model=kinds[mine], other=kinds[theirs], bottom=counted).assign(
            top=votes[:, won] + worth * votes[:, TIE]
        )
        for mine, theirs, won in (("model_a", "model_b", A), ("model_b", "model_a", B))
    ]
    rows = pd.concat(sides)
    if baseline is not None:
        rows = rows[rows["other"] == baseline]
    return _ratio(rows[rows["turn"].isin(turns)], [*_list(by), "model"])


def agreement(
    plan: Plan,
    *,
    voters: tuple[str, str],
    ties: str = "keep",
    by: By = (),
    turns: Sequence[int] = (1,),
) -> pd.DataFrame:
    """How often two votes on one pair agree: of two judges or groups, or two of one group."""
    kinds, chances = truth.comparisons(plan)
    one, two = (_votes(plan, name) for name in voters)
    top, bottom = truth.agreeing(chances, one, two, ties == "keep")
    rows = kinds.assign(top=top, bottom=bottom)
    return _ratio(rows[rows["turn"].isin(turns)], _list(by))


def position_bias(
    plan: Plan,
    *,
    judge: str,
    by: By = ("judge",),
    rule: str = "mixed",
    turns: Sequence[int] = (1,),
) -> pd.DataFrame:
    """What becomes of pairs judged in both orders: the share of each outcome."""
    kinds, chances = truth.comparisons(plan)
    first, second = truth.verdicts(plan, _judge(plan, judge))
    # The probabilities [kind, verdict in the first order, verdict in the second].
    joint = np.einsum("ks,ksi,ksj->kij", chances, first, second)
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
    return _ratio(rows[rows["turn"].isin(turns)], [*_list(by), "outcome"])


def repeatability(
    plan: Plan, *, judge: str, by: By = (), turns: Sequence[int] = (1,)
) -> pd.DataFrame:
    """How often one of two samples of a game has another readable verdict (either order)."""
    who = _judge(plan, judge)
    afresh = 1 - (1 - who.repeat_noise) ** 2
    spoken = (1 - who.failure_rate) * (1 - afresh * who.failure_rate)
    kinds, chances = truth.comparisons(plan)
    readable = np.stack(truth.verdicts(plan, who))[..., :NONE]
    differ = (readable.sum(-1) ** 2 - (readable**2).sum(-1)).mean(0)
    top = afresh * (chances * differ).sum(1)
    rows = kinds.assign(top=top, bottom=spoken, judge=judge)
    return _ratio(rows[rows["turn"].isin(turns)], _list(by))


def everything(plan: Plan) -> pd.DataFrame:
    """The study's truth at a glance: columns quantity, row, column, value, how."""
    names = [judge.name for judge in plan.judges]
    groups = [voters.group for voters in plan.voters]
    models = [model.name for model in plan.models]
    cuts: list[tuple[str, str, dict[str, Any]]] = [
        *(("mean_scores", name, {"judge": name}) for name in names),
        *(("score_totals", name, {"judge": name, "baseline": models[0]}) for name in names),
        *(("win_rates", name, {"voters": name}) for name in [*names, *groups]),
        *(
            ("agreement", f"{' and '.join(two)}, ties {ties}", {"voters": two, "ties": ties})
            for two in [
                *zip(groups, groups, strict=True),
                *product(names, groups),
                *combinations(names, 2),
            ]
            for ties in ("keep", "drop")
        ),
        *(("position_bias", name, {"judge": name, "by": ()}) for name in names),
        *(("repeatability", name, {"judge": name}) for name in names),
    ]
    parts = []
    for quantity, column, cut in cuts:
        true = planted(plan, quantity, **cut)
        keys = true.drop(columns="planted").astype(str)
        parts.append(
            pd.DataFrame(
                {
                    "quantity": quantity,
                    "row": keys.agg(" · ".join, axis=1) if len(keys.columns) else "all",
                    "column": column,
                    "value": true["planted"],
                    "how": QUANTITIES[quantity][2],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _totals(plan: Plan, judge: str, orders: str) -> pd.DataFrame:
    """The expected grades a and b of each showing (model_a first), on first turns."""
    who = _judge(plan, judge)
    shown = truth.meetings(plan)
    if orders == "both":
        shown = [*shown, *((b, a) for a, b in shown)]
    first_turns = [category for category, turn in truth.strata() if turn == 1]
    grades = {
        (model.name, first): float(
            np.mean([truth.expected_grade(plan, who, model, c, 1, first) for c in first_turns])
        )
        for model in plan.models
        for first in (1, -1)
    }
    rows = [(a.name, b.name, grades[a.name, 1], grades[b.name, -1]) for a, b in shown]
    return pd.DataFrame(rows, columns=["model_a", "model_b", "a", "b"])


def _ratio(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`planted`, the sum of top over the sum of bottom, per group of `by`."""
    if not by:
        return pd.DataFrame({"planted": [rows["top"].sum() / rows["bottom"].sum()]})
    sums = rows.groupby(by)[["top", "bottom"]].sum().reset_index()
    return sums[by].assign(planted=sums["top"] / sums["bottom"])


def _list(by: By) -> list[str]:
    return [by] if isinstance(by, str) else list(by)


def _judge(plan: Plan, name: str) -> SimulatedJudge:
    known = {judge.name: judge for judge in plan.judges}
    if (model := name.partition("/")[0]) not in known:
        raise ValueError(f"{name!r} is no judge of this study; it has {', '.join(known)}")
    return known[model]


def _votes(plan: Plan, who: str) -> np.ndarray:
    """The votes of a group of voters or of a judge: probabilities [kind, state, vote]."""
    if who in {voters.group for voters in plan.voters}:
        return truth.human_votes(plan, who)
    return truth.judge_votes(plan, _judge(plan, who))


# By the estimators' names: how the truth is had, what the estimate is called, and how it is known.
_STATES = "sum over states: which answer is better, longer, the judge's own"
QUANTITIES: dict[str, tuple[Callable[..., pd.DataFrame], str, str]] = {
    "mean_scores": (mean_scores, "score", "closed form: mean of a rounded and clipped normal"),
    "score_totals": (score_totals, "relative", "closed form: ratio of two such means"),
    "relative_quality": (relative_quality, "relative", "closed form: product of such ratios"),
    "win_rates": (win_rates, "win_rate", _STATES),
    "agreement": (agreement, "agreement", _STATES),
    "position_bias": (position_bias, "share", _STATES),
    "repeatability": (repeatability, "share", _STATES),
}
