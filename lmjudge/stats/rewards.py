"""Estimates from rewards: how often they rank pairs correctly, and what else they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, same_ids
from lmjudge.stats.grouping import (
    By,
    by_group,
    check_columns,
    check_once,
    grouped,
    totals,
    worth_of,
)
from lmjudge.stats.intervals import ENDS, FEW_CLUSTERS, estimate, groups, t_quantile
from lmjudge.stats.regression import clustered_logit

# RewardBench weighs math-prm as if it had as many pairs as the code subsets of its section have.
REWARDBENCH_SIZES: Mapping[str, float] = MappingProxyType({"math-prm": 984})


def ranking_accuracy(
    rewards: pd.DataFrame,
    *,
    by: By = ("model", "subset"),
    sections: Mapping[str, Sequence[str]] | None = None,
    sizes: Mapping[str, float] = REWARDBENCH_SIZES,
    pairs: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how often the chosen answer has the higher reward: a row per group of `by`.

    The chosen reward must be strictly higher: equal rewards count as wrong, as in RewardBench.
    `by` may name "section" where `sections` maps sections to their subsets: a section's accuracy
    is then over all its pairs, so that each subset weighs by its size, and pairs of no section are
    left out. `sizes` says how much a subset weighs in its section where that is not how many pairs
    it has: RewardBench gives the 447 pairs of math-prm the weight of 984. `pairs` brings the
    prompts, by pair_id, which intervals are clustered by (and any column of it that `by` names);
    without it every pair counts as independent.

    Columns: those of `by`, accuracy, ties (pairs with equal rewards), too_few, n (pairs), low,
    high, no_verdict (pairs without two rewards; left out). Raises FrameError for a subset in two
    sections, and for rewards of pairs that `pairs` does not hold once.
    Source: Lambert et al. 2024 (RewardBench, arXiv 2403.13787), section 4.

    >>> rewards = pd.DataFrame({"pair_id": [0, 1, 2], "subset": "s", "model": "m",
    ...                         "reward_chosen": [1, 2, 0], "reward_rejected": [0, 2, -1]})
    >>> ranking_accuracy(rewards)[["accuracy", "ties", "n"]].round(3).values.tolist()
    [[0.667, 1.0, 3.0]]
    """
    rows = _with_pairs(check(rewards, "rewards"), pairs)
    if sections is not None:
        of = [(subset, name) for name, subsets in sections.items() for subset in subsets]
        if len(dict(of)) < len(of):
            raise FrameError(
                "a subset stands in two sections; give each subset one section",
                columns=sorted(subset for subset, _ in of),
            )
        rows = rows.assign(section=rows["subset"].map(dict(of)))
        rows = rows[rows["section"].notna()]
    rows, columns = grouped(rows, by, None)
    gap = rows["reward_chosen"].astype(float) - rows["reward_rejected"].astype(float)
    right = (gap > 0).astype(float).where(gap.notna())
    weighed = {"top": right}
    if "section" in columns:
        weighed = _sized(rows, right, columns, sizes)
    table = estimate(
        rows, columns, **weighed, share=True, cluster=["prompt"], level=level, name="accuracy"
    )
    table["ties"] = totals(rows.assign(ties=gap == 0), columns, ["ties"])["ties"].astype(int)
    return table[[*columns, "accuracy", "ties", *ENDS]]


def _sized(
    rows: pd.DataFrame, right: pd.Series, columns: list[str], sizes: Mapping[str, float]
) -> dict[str, pd.Series]:
    """Return top, bottom and squares for `estimate`, each subset weighted by `sizes`."""
    keys = [rows[name] for name in columns]
    pairs = right.groupby([*keys, rows["subset"]], dropna=False).transform("count")
    weight = (rows["subset"].map(dict(sizes)).astype(float) / pairs).fillna(1.0)
    weight = weight.where(right.notna())
    top = right * weight
    value = top.groupby(keys, dropna=False).transform("sum") / weight.groupby(
        keys, dropna=False
    ).transform("sum")
    squares = (weight * (right - value)) ** 2 + weight * value**2
    return {"top": top, "bottom": weight, "squares": squares}


def reward_length(
    rewards: pd.DataFrame, pairs: pd.DataFrame, *, by: By = ("model",), level: float = 0.95
) -> pd.DataFrame:
    """Return how rewards go with length: the correlation of their differences within pairs.

    Per group of `by`: correlation (Pearson's, through the origin, of reward_chosen -
    reward_rejected with the difference in words: which answer is called chosen then changes
    nothing), longer (how often the longer answer has the higher reward; pairs that are equal in
    either are left out), too_few (fewer than 20 prompts), n (pairs), low, high (of the correlation,
    by the jackknife over prompts on Fisher's scale), no_verdict. Raises FrameError as
    `ranking_accuracy` does.
    """
    rows = _with_pairs(check(rewards, "rewards"), pairs)
    words = [rows[side].str.split().str.len() for side in ("chosen", "rejected")]
    rows = rows.assign(
        reward=rows["reward_chosen"].astype(float) - rows["reward_rejected"].astype(float),
        words=words[0] - words[1],
    )
    rows, columns = grouped(rows, by, None)
    tables = []
    keys, number = groups(rows, columns)
    for place, part in rows.groupby(number):
        known = part[part["reward"].notna()]
        x, y = known["words"].to_numpy(float), known["reward"].to_numpy(float)
        informative = known[(x != 0) & (y != 0)]
        sums = pd.DataFrame({"xy": x * y, "xx": x * x, "yy": y * y})
        sums = sums.groupby(known["prompt"].to_numpy()).sum().to_numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            total = sums.sum(axis=0)
            correlation = total[0] / np.sqrt(total[1] * total[2])
            less = total - sums
            scale = np.arctanh(less[:, 0] / np.sqrt(less[:, 1] * less[:, 2]))
            count = len(sums)
            error = np.sqrt((count - 1) / count * ((scale - scale.mean()) ** 2).sum())
            half = t_quantile(np.array(count - 1), level) * error
            low, high = (
                np.tanh(np.arctanh(correlation) - half),
                np.tanh(np.arctanh(correlation) + half),
            )
        tables.append(
            keys.loc[place].to_dict()
            | {
                "correlation": correlation,
                "longer": float((informative["words"] * informative["reward"] > 0).mean()),
                "too_few": count < FEW_CLUSTERS,
                "n": len(known),
                "low": low,
                "high": high,
                "no_verdict": len(part) - len(known),
            }
        )
    return pd.DataFrame(tables)


@by_group
def reward_calibration(
    votes: pd.DataFrame,
    rewards: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    bins: int = 5,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return whether sigmoid(r_a - r_b) is how often voters prefer a: a row a bin, and one for all.

    `rewards` has question_id, model and reward (see `reward_answers`; sample 0 where it has
    several), `votes` are on first turns; ties count half. Each vote is taken from the side whose
    answer has the higher reward, so `predicted` is from 0.5 to 1, in `bins` of equally many votes.
    With `by`, columns of the votes or "category" with `questions`, each group is binned alone.
    Columns: those of `by`, bin (1, 2 ..., "all"), predicted (mean), preferred (share), slope (of
    the log odds, for all: 1 is calibrated, less is too sure), too_few, n, low, high (of preferred;
    for all, of the slope), no_verdict. Raises FrameError for votes on answers without a reward.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; expected at least one")
    votes = check(votes, "votes")
    wanted, do = ["question_id", "model", "reward"], "give what `reward_answers` returned"
    check_columns(list(rewards.columns), wanted, "the table of rewards", do)
    votes, rewards = same_ids(votes, rewards)
    first = rewards[rewards["sample"] == 0] if "sample" in rewards.columns else rewards
    known = first.drop_duplicates(["question_id", "model"])
    known = known.set_index(["question_id", "model"])["reward"].astype(float)
    rows = votes[votes["turn"].fillna(1) == 1].reset_index(drop=True)
    a, b = (
        known.reindex(pd.MultiIndex.from_frame(rows[["question_id", f"model_{side}"]])).to_numpy()
        for side in "ab"
    )
    if np.isnan(a - b).any():
        lost = rows[np.isnan(a - b)]
        raise FrameError(
            f"{len(lost)} votes are on answers without a reward, such as on question"
            f" {lost['question_id'].iloc[0]}; give rewards of all answers voted on",
            rows=lost,
        )
    won = worth_of(rows["winner"])
    # Of two equal rewards neither side is the higher, and of equal gaps none is in a lower bin:
    # which was shown, or stands, first must not tell.
    won = won.where(a > b, 1 - won).mask((a == b) & won.notna(), 0.5)
    gap = pd.Series(np.abs(a - b), index=rows.index)
    rows = rows.assign(predicted=1 / (1 + np.exp(-gap)), gap=gap)
    rows["bin"] = (
        (gap.rank(method="average") * bins / (len(gap) + 1e-9)).astype(int).clip(0, bins - 1)
    )
    table = estimate(rows, ["bin"], top=won, share=True, level=level, name="preferred")
    table["predicted"] = table["bin"].map(rows[won.notna()].groupby("bin")["predicted"].mean())
    table["bin"] = (table["bin"] + 1).astype(object)
    overall = estimate(rows, [], top=won, share=True, level=level, name="preferred")
    cast = rows[won.notna()]
    line = clustered_logit(cast[["gap"]], won[won.notna()], cast["question_id"], level=level)
    overall = overall.assign(bin="all", predicted=cast["predicted"].mean())
    overall[["slope", "low", "high"]] = line.loc["gap", ["value", "low", "high"]].to_numpy(float)
    both = pd.concat([table.assign(slope=np.nan), overall], ignore_index=True)
    return both[["bin", "predicted", "preferred", "slope", *ENDS]]


def _with_pairs(rewards: pd.DataFrame, pairs: pd.DataFrame | None) -> pd.DataFrame:
    """Return the rewards with the columns of their pairs; without pairs, a row is a prompt."""
    if pairs is None:
        return rewards.assign(prompt=rewards["pair_id"])
    known = check(pairs, "pairs").set_index("pair_id")
    if known.index.has_duplicates or not rewards["pair_id"].isin(known.index).all():
        raise FrameError(
            "each reward's pair_id must stand once in `pairs`; give the pairs that were scored",
            rows=rewards[~rewards["pair_id"].isin(known.index)],
        )
    more = [name for name in known.columns if name not in rewards.columns]
    return rewards.join(known[more], on="pair_id").reset_index(drop=True)


_KEY = ["question_id", "model", "sample"]


def rank_samples(answers: pd.DataFrame, rewards: pd.DataFrame) -> pd.DataFrame:
    """Return the answers with `reward` and `rank`: 1 is the highest reward among a model's samples.

    `rewards` has question_id, model, sample and reward. Ranks are within question and model; of
    equal rewards the lower sample comes first. Group r of the paper's Figure 4 (a, b) is the
    answers of rank r. Raises FrameError for missing columns, an answer without a reward (or with a
    reward that is no number), and for answers or rewards that stand twice. Source: arXiv
    2304.03277, section 4.2.

    >>> answers = pd.DataFrame({"question_id": 1, "model": "m", "turns": [["a"], ["b"], ["c"]],
    ...                         "sample": [0, 1, 2]})
    >>> rewards = answers.drop(columns="turns").assign(reward=[0.1, 2.0, -1.0])
    >>> rank_samples(answers, rewards)["rank"].tolist()
    [2, 1, 3]
    """
    answers = check(answers, "answers")
    do = "give what `reward_answers` returned"
    check_columns(list(rewards.columns), [*_KEY, "reward"], "the table of rewards", do)
    for frame in (answers, rewards):
        check_once(frame, _KEY, "rows are of one question, model and sample; give each once")
    known = rewards[_KEY].assign(reward=pd.to_numeric(rewards["reward"], errors="coerce"))
    ranked = answers.drop(columns="reward", errors="ignore").merge(known, how="left", on=_KEY)
    lost = ranked[~ranked["reward"].abs().lt(float("inf"))]
    if len(lost):
        raise FrameError(
            f"{len(lost)} of {len(ranked)} answers have no reward, such as {lost['model'].iloc[0]}"
            f" on question {lost['question_id'].iloc[0]}; give each answer its number",
            rows=lost,
        )
    order = ranked.sort_values(["reward", "sample"], ascending=[False, True], kind="stable")
    ranked["rank"] = order.groupby(["question_id", "model"], dropna=False).cumcount() + 1
    return ranked
