"""Compare two models, two judges, or two versions of a judge on the same items.

Differences are taken key by key and averaged, which removes the difficulty that both share.
Intervals and p values are clustered by question. The exact sign test over questions stands beside
them; it is McNemar's exact test if each question gives one yes or no, and it holds for few
questions too. p_holm is Holm's correction over all rows of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import WINNERS, check, never_meet, same_ids
from lmjudge.stats.grouping import (
    By,
    by_criterion,
    by_name,
    check_baseline,
    check_choice,
    check_once,
    grouped,
    own_columns,
    totals,
    two_models,
    worth_of,
)
from lmjudge.stats.interrater import KEY, clusters_of_pairs, comparisons
from lmjudge.stats.intervals import (
    ENDS,
    Cluster,
    by_question,
    cluster_names,
    equivalent,
    estimate,
    holm,
    noted,
    two_sided,
    ways,
)

SCORED = ["question_id", "turn", "judge", "sample"]
REPEATED_SCORES = (
    "scores are of one model, question, turn, judge and sample; number repeats in `sample`"
)


@by_criterion
def compare_models(
    scores: pd.DataFrame,
    *,
    baseline: str | None = None,
    by: By = None,
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    margin: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the difference in mean score of every two models, or of each and the baseline.

    Scores are compared if one judge gave them on one question and turn (and sample). With a
    `margin` that you chose before looking at the data, p_equivalent is small if the two differ by
    less than it (two one-sided tests, Schuirmann 1987).

    Columns: those of `by`, model_a, model_b, score_a, score_b, difference (a - b), better_a,
    better_b (questions on which one has the higher sum), too_few, n (comparisons), low, high (of
    the difference), p_value, p_sign, p_holm, no_verdict (comparisons with a missing score), and
    with a `margin` p_equivalent. Raises FrameError for two scores on one question, turn and sample
    by one judge, and for a baseline without scores.

    >>> from lmjudge.frames import frame
    >>> rows = [{"question_id": q, "turn": 1, "model": m, "judge": "j", "sample": 0, "score": s,
    ...          "reason": None, "text": "", "key": ""}
    ...         for q, two in enumerate([(7, 5), (9, 8), (4, 4)]) for m, s in zip("mn", two)]
    >>> compare_models(frame("scores", rows))[["difference", "better_a", "better_b", "p_sign"]]
       difference  better_a  better_b  p_sign
    0         1.0         2         0     0.5
    """
    rows, columns = grouped(check(scores, "scores", by), by, questions)
    check_once(rows, [*SCORED, "model"], REPEATED_SCORES)
    check_baseline(baseline, rows, "score of")
    names = cluster_names(rows, cluster, by=columns)
    kept = list(dict.fromkeys([*SCORED, *columns, *names]))
    both = _two_by_two(rows[[*kept, "model", "score"]], kept, "model", baseline)
    return _differences(both, columns, "model", "score", level, names, margin)


@by_criterion
def compare_judges(
    votes: pd.DataFrame,
    others: pd.DataFrame,
    *,
    by: By = None,
    ties: Literal["keep", "drop"] = "keep",
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    margin: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the difference of every two judges in their agreement with `others` (the humans).

    A judge's agreement on a key (question, turn, pair of models) is the share of the others' votes
    that agree with it. Every key with a verdict of both judges weighs the same; `ties` is as in
    `agreement`.

    Columns: those of `by`, judge_a, judge_b, agreement_a, agreement_b, difference (a - b),
    better_a, better_b (questions), too_few, n (keys), low, high (of the difference), p_value,
    p_sign, p_holm, no_verdict (keys that both were asked about and one has no comparable verdict
    on), and with a `margin` p_equivalent, as in `compare_models`.
    """
    check_choice("ties", ties, "keep", "drop")
    names = clusters_of_pairs([others], cluster)
    agreed, of = ("agreed_s2", "met_s2") if ties == "drop" else ("agreed_s1", "met_s1")
    alone = ["judge", *own_columns(votes, by, questions, [*KEY, "judge"])]
    met = comparisons(votes, others, names=names, random=cluster is not None, alone=alone)
    by_key = met.groupby([*KEY, *alone], dropna=False)
    total, voters = by_key[of].transform("sum"), by_key[of].transform("size")
    met = met.assign(agreement=met[agreed] / total.where(total > 0), weight=1 / voters)
    if "judge" not in names:
        met["judge_y"] = None
    for name in set(names) - {*met.columns, "judge"}:
        met[name] = met["question_id"].map(by_question(others, name))
    rows, columns = grouped(met, by, questions)
    voter = [name for name in ("voter_x", "voter_y", *names) if name in rows.columns]
    kept = list(dict.fromkeys([*KEY, *columns, "judge_y", "weight", *voter]))
    kept = [name for name in kept if name != "judge"]
    both = _two_by_two(rows[[*kept, "judge", "agreement"]], kept, "judge", None)
    return noted(_differences(both, columns, "judge", "agreement", level, names, margin), others)


def paired(
    rows: pd.DataFrame,
    columns: list[str],
    level: float,
    names: Sequence[str] = ("question_id",),
    margin: float | None = None,
) -> pd.DataFrame:
    """Return the mean of the column `difference` in each group, its interval, and p values.

    Several rows with a `weight` are one comparison: their weights sum to 1, their differences to
    its difference. `names` are the clusters.

    Columns: `columns`, difference, better_a, better_b (questions with a sum above, or below, 0),
    too_few, n, low, high, p_value (Student's, clustered by question), p_sign (exact), p_holm,
    no_verdict.
    """
    from scipy.stats import binom

    weight = rows["weight"] if "weight" in rows.columns else None
    table = estimate(
        rows,
        columns,
        top=rows["difference"],
        bottom=weight,
        by_way=ways(rows, names),
        level=level,
        name="difference",
    )
    if weight is not None:
        known = rows["difference"].notna()
        sizes = rows.assign(n=weight * known, no_verdict=weight * ~known)
        table[["n", "no_verdict"]] = (
            totals(sizes, columns, ["n", "no_verdict"])[["n", "no_verdict"]].round().astype(int)
        ).to_numpy()
    sums = rows.groupby(list(dict.fromkeys([*columns, "question_id"])), dropna=False, sort=True)
    signs = np.sign(sums["difference"].sum().round(9)).rename("sign").reset_index()
    signs = signs.assign(better_a=signs["sign"] == 1, better_b=signs["sign"] == -1)
    names = ["better_a", "better_b"]
    table[names] = totals(signs, columns, names)[names].to_numpy()
    table["p_value"] = two_sided(table["difference"], table["error"], table["dof"])
    better = table[names]
    p_sign = np.minimum(2 * binom.cdf(better.min(axis=1), better.sum(axis=1), 0.5), 1.0)
    table["p_sign"] = np.where(table["n"] > 0, p_sign, np.nan)
    table["p_holm"] = holm(table["p_value"])
    ends = ["difference", *names, *ENDS[:-1], "p_value", "p_sign", "p_holm"]
    if margin is not None:
        table["p_equivalent"] = equivalent(
            table["difference"], table["error"], table["dof"], margin
        )
        ends.append("p_equivalent")
    return table[[*columns, *ends, "no_verdict"]]


def _two_by_two(
    rows: pd.DataFrame, key: list[str], name: str, baseline: str | None
) -> pd.DataFrame:
    """Return every two values of the column `name` on each key; a baseline comes second."""
    parts = dict(tuple(rows.groupby(name, sort=True)))
    pairs = (
        list(combinations(parts, 2))
        if baseline is None
        else [(other, baseline) for other in parts if other != baseline]
    )
    if not pairs:
        raise FrameError(
            f"there is one {name} alone, {', '.join(map(str, parts)) or 'or none'}; a comparison"
            " takes two",
            rows=rows,
        )
    tables = [parts[a].merge(parts[b], on=key, suffixes=("_a", "_b")) for a, b in pairs]
    return pd.concat(tables, ignore_index=True)


def _differences(
    both: pd.DataFrame,
    columns: list[str],
    name: str,
    what: str,
    level: float,
    names: Sequence[str],
    margin: float | None,
) -> pd.DataFrame:
    a, b = both[f"{what}_a"].astype(float), both[f"{what}_b"].astype(float)
    rows = both.assign(difference=a - b)
    keys = [*columns, f"{name}_a", f"{name}_b"]
    table = paired(rows, keys, level, names, margin)
    sides = [f"{what}_a", f"{what}_b"]
    known = rows[rows["difference"].notna()]
    known = known.assign(weight=known["weight"] if "weight" in known.columns else 1.0)
    sums = known.groupby(keys, dropna=False)[[*sides, "weight"]].sum()
    means = sums[sides].div(sums["weight"], axis=0).reset_index()
    table = table.merge(means, on=keys, how="left")
    ends = [column for column in table.columns if column not in (*keys, *means.columns)]
    table = table[[*keys, f"{what}_a", f"{what}_b", *ends]]
    table.attrs["level"] = level
    return table


_NONE = "none"
_TWO = ("before", "after")


def flips(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how often a judge's second version disagrees with its first, by group.

    Both frames are games, or both votes, of one judge in two versions: another model behind the
    name, another prompt, or the same judge a month later. Items are matched by question, turn,
    models and, in games, order and sample, whatever the judges' names. `by` can name any column of
    the first version, "category", and "before", its verdict.

    | column | meaning |
    |---|---|
    | flipped | items with two readable verdicts that differ |
    | reversed | those that went from one side to the other |
    | share | flipped divided by n |
    | n | items that both versions could read |
    | lost, found | verdicts that only the first, or only the second, could read |
    | no_verdict | items that either could not read |

    There are also too_few, low and high (clustered by question). `repeatability` says how often a
    version differs from itself; drift is what exceeds that. Raises FrameError for several judges in
    one frame, repeated items, and frames without a common item.
    """
    rows, columns = grouped(_matched(before, after, by, questions), by, questions)
    read = rows["before"].notna() & rows["after"].notna()
    differ = (rows["before"] != rows["after"]) & read
    sides = rows[["before", "after"]].isin(["model_a", "model_b"]).all(axis=1)
    top = differ.astype(float).where(read)
    table = estimate(rows, columns, top=top, share=True, level=level, name="share")
    counts = rows.assign(
        flipped=differ,
        reversed=differ & sides,
        lost=rows["before"].notna() & rows["after"].isna(),
        found=rows["before"].isna() & rows["after"].notna(),
    )
    names = ["flipped", "reversed", "lost", "found"]
    table[names] = totals(counts, columns, names)[names].astype(int).to_numpy()
    ends = ["flipped", "reversed", "share", *ENDS[:-1], "lost", "found", "no_verdict"]
    return table[[*columns, *ends]]


def moves(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return how many verdicts of the first version (rows) became which of the second (columns).

    Rows and columns are model_a, model_b, tie and none; in games model_a is the answer shown first.
    Raises FrameError as `flips` does.
    """
    rows = _matched(before, after).fillna({"before": _NONE, "after": _NONE})
    table = pd.crosstab(rows["before"], rows["after"])
    every = [*WINNERS, _NONE]
    return table.reindex(index=every, columns=every, fill_value=0)


def drift(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how flips change each model's win rate and the rate of ties, item by item.

    Flips change a number only if more go one way than the other. Columns: those of `by`, measure
    ("ties", "first shown" in games, and "win rate of <model>", ties half), before, after,
    difference (after less before, over items that both could read), better_a, better_b (questions
    on which it rose, or fell), too_few, n, low, high, p_value, p_sign (exact; McNemar's test if
    each question has one item), p_holm, no_verdict. Arguments and errors as in `flips`.
    """
    rows, columns = grouped(_matched(before, after, by, questions), by, questions)
    one, two = (worth_of(rows[name]) for name in _TWO)
    ties = [rows[name].eq("tie").where(rows[name].notna()).astype(float) for name in _TWO]
    parts = [rows.assign(measure="ties", one=ties[0], two=ties[1])]
    if "sample" in before.columns:
        parts.append(rows.assign(measure="first shown", one=one, two=two))
    for side, worth in (("model_a", (one, two)), ("model_b", (1 - one, 1 - two))):
        named = "win rate of " + rows[side].astype(str)
        parts.append(rows.assign(measure=named, one=worth[0], two=worth[1]))
    every = pd.concat(parts, ignore_index=True)
    every["difference"] = every["two"] - every["one"]
    keys = [*columns, "measure"]
    table = paired(every, keys, level)
    # Between two models one's win rate mirrors the other's: one hypothesis, counted once.
    models = sorted({*rows["model_a"], *rows["model_b"]}, key=str)
    if len(models) == 2:
        mirror = table["measure"] == f"win rate of {models[1]}"
        table["p_holm"] = np.nan
        table.loc[~mirror, "p_holm"] = holm(table.loc[~mirror, "p_value"])
        first = table[table["measure"] == f"win rate of {models[0]}"]
        table.loc[mirror, "p_holm"] = first["p_holm"].to_numpy()
    known = every[every["difference"].notna()].groupby(keys, dropna=False)[["one", "two"]].mean()
    table = table.merge(known.reset_index(), on=keys, how="left")
    table = table.rename(columns={"one": "before", "two": "after"})
    ends = [name for name in table.columns if name not in (*keys, *_TWO)]
    return table[[*keys, *_TWO, *ends]]


def _matched(
    before: pd.DataFrame, after: pd.DataFrame, by: By = None, questions: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return a row for each item of both frames: its key, `by`, the verdict before and after."""
    games = "sample" in before.columns
    key = ["question_id", "turn", "model_a", "model_b", *(["sample"] if games else [])]
    more = own_columns(before.assign(before=before["winner"]), by, questions, [*key, "before"])
    sides = []
    name = "games" if games else "votes"
    before, after = same_ids(check(before, name, more), check(after, name, more))
    for frame, kept in ((before, [*key, *more]), (after, key)):
        rows = two_models(frame) if games else by_name(frame)
        if rows["judge"].nunique() > 1:
            raise FrameError(
                f"{rows['judge'].nunique()} judges stand in one frame, such as"
                f" {rows['judge'].iloc[0]}; give one version in each",
                rows=rows,
            )
        check_once(
            rows, key, f"rows are of one item ({', '.join(key)}); number repeats in `sample`"
        )
        sides.append(rows[[*kept, "winner"]])
    both = sides[0].merge(sides[1], on=key, suffixes=("_before", "_after"))
    if both.empty:
        raise never_meet("No item stands in both versions", before, after)
    matched = both.rename(columns={"winner_before": "before", "winner_after": "after"})
    return matched.assign(
        **{name: matched[name].astype(object).replace({np.nan: None}) for name in _TWO}
    )
