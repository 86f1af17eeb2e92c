"""Planted beside recovered: the truth in the shape of each estimator's frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.simulation import Study
from lmjudge.simulation.planted import Plan
from oracle import truth
from oracle.attacks import attack_failures, length_bias, wrong_preferred
from oracle.grades import votes_of
from oracle.habits import name_bias, position_bias, repeatability, self_preference
from oracle.ratings import bradley_terry, vote_shares, win_fractions
from oracle.samples import length_histogram, ranked_totals, score_counts
from oracle.truth import NONE, TIE, A, B, By, judge_named, listed, ratio


def planted(study: Study, quantity: str, **cut: Any) -> pd.DataFrame:
    """The true values of an estimator's frame: its key columns, and `planted`.

    `quantity` is the estimator's name, `cut` its arguments (by, ties, rule, baseline, via ...) and
    who it is about: `judge` (a judge model's name, or a Judge's, such as "sim-heron/pair"), or
    `voters` (two of them for agreement, judges or groups of voters). `turns` are those judged, by
    default the first. Raises ValueError for a name that the study does not have.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity is {quantity!r}; known are {', '.join(QUANTITIES)}")
    return QUANTITIES[quantity][0](study.plan, **cut)


def recovered(
    estimates: pd.DataFrame,
    true: pd.DataFrame,
    table: str = "Planted and recovered",
    *,
    value: str | None = None,
) -> pd.DataFrame:
    """An estimator's frame beside the truth, as a table: what `save_table` and a page take.

    Columns: table, row (the key columns' values), column (the estimate's name), value, n, low,
    high, too_few, no_verdict, basis (simulated), planted; `of` tells the key columns, for evidence.
    Every row of `true` is in it; of `estimates` those that have a planted value. `value` names the
    estimate where the frame has several (name_bias). Raises ValueError where nothing was estimated.
    """
    keys = [name for name in true.columns if name != "planted"]
    value = value or next(name for _, name, _ in QUANTITIES.values() if name in estimates.columns)
    both = pd.DataFrame()
    if set(keys) <= set(estimates.columns):
        both = true.merge(estimates, on=keys) if keys else true.merge(estimates, how="cross")
    if len(both) != len(true):
        raise ValueError(
            f"{len(true)} planted values meet {len(both)} estimates by {keys}; give both the same"
            " `by`, judge and baseline"
        )
    names = [" · ".join(row) for row in both[keys].astype(str).to_numpy()] if keys else "all"
    made = both.assign(table=table, row=names, column=value, value=both[value], basis="simulated")
    made["of"] = [tuple(row.items()) for row in both[keys].astype(str).to_dict("records")]
    told = "table row column value n low high too_few no_verdict basis planted of"
    return made.reindex(columns=told.split())


def mean_scores(
    plan: Plan, *, judge: str, by: By = ("model",), turns: Sequence[int] = (1,)
) -> pd.DataFrame:
    """The expected grade by model, turn, category, judge."""
    who = judge_named(plan, judge)
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
    return pd.DataFrame(rows).groupby(listed(by))["planted"].mean().reset_index()


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
    pool: str = "votes",
    questions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Each model's win rate in a judge's votes (both orders, rule "tie") or a group's.

    A judge `sim-heron/single` votes by its grades.
    """
    kinds, chances = truth.comparisons(plan)
    votes = (chances[:, :, None] * votes_of(plan, voters)).sum(1)
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
    rows, keys = rows[rows["turn"].isin(turns)], [*listed(by), "model"]
    if pool == "opponents":
        by_other = ratio(rows, [*keys, "other"], questions)
        return by_other.groupby(keys)["planted"].mean().reset_index()
    return ratio(rows, keys, questions)


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
    one, two = (votes_of(plan, name) for name in voters)
    top, bottom = truth.agreeing(chances, one, two, ties == "keep")
    rows = kinds.assign(top=top, bottom=bottom)
    return ratio(rows[rows["turn"].isin(turns)], listed(by))


def everything(study: Study) -> pd.DataFrame:
    """The study's truth at a glance: columns quantity, row, column, value, how."""
    plan = study.plan
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
        true = planted(study, quantity, **cut)
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
    who = judge_named(plan, judge)
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
    "name_bias": (name_bias, "difference", _STATES),
    "self_preference": (self_preference, "difference", _STATES),
    "bradley_terry": (bradley_terry, "rating", "best fit to the votes expected"),
    "win_fractions": (win_fractions, "win_fraction", _STATES),
    "vote_shares": (vote_shares, "share", _STATES),
    "attack_failures": (attack_failures, "failure_rate", _STATES),
    "wrong_preferred": (wrong_preferred, "failure_rate", _STATES),
    "length_bias": (length_bias, "odds", "logistic regression over such states, weighted"),
    "ranked_totals": (ranked_totals, "relative", "closed form: ranked normals, quadrature"),
    "score_counts": (score_counts, "share", "closed form: a rounded and clipped normal"),
    "length_histogram": (length_histogram, "share", "exact: three lengths a model"),
}
