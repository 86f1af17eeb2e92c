"""Intervals for what is averaged over questions.

Answers to one question resemble each other, so rows are not independent: the clusters are the
questions (a row without a question_id is a cluster of its own). Every estimate here is a ratio of
two totals; its variance is that of the linearised totals of the clusters, with the small-sample
correction CR2, and quantiles are Student's with Satterthwaite's degrees of freedom. Shares take
Wilson's form at the effective sample size (Korn and Graubard 1998; Dean and Pagano 2015), so that
they stay in [0, 1] and have a width where all rows agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError

# The fewest questions that docs/coverage-grid.md was measured with. Of a kind of question as rare
# as one in seven, ten questions hold none in a fifth of all studies, and nothing in them tells.
FEW_CLUSTERS = 20


def estimate(
    rows: pd.DataFrame,
    by: list[str],
    *,
    top: pd.Series,
    bottom: pd.Series | None = None,
    squares: pd.Series | None = None,
    share: bool = False,
    cluster: Sequence[str] = ("question_id",),
    level: float = 0.95,
) -> pd.DataFrame:
    """One row per group of `by` (in sorted order; one row in all where it is empty).

    Columns: those of `by`, value (sum of `top` over sum of `bottom`, which is 1 where not given), n
    (rows), too_few, low, high, no_verdict (rows whose top or bottom is missing; they are left out),
    and dof and error (the degrees of freedom and the standard error that low and high rest on).
    With `share` the interval is Wilson's at the effective sample size; `squares` is then what the
    squares of the single values in a row sum to, where a row stands for several (else top**2).
    too_few flags what its interval may hold less often than `level` says (docs/coverage-grid.md):
    fewer than 20 clusters; shares with fewer than ten rows on the rarer side, rows counted at the
    effective sample size; means of fewer clusters than 25 times their squared skewness (Cochran
    1977, section 2.15).
    `cluster` names one column, or two that cross (Cameron, Gelbach and Miller 2011). low and high
    are missing where they cannot be known: fewer than two clusters, or, for means, no variance at
    all.
    """
    keys, group = groups(rows, by)
    count = len(keys)
    over = np.ones(len(rows)) if bottom is None else bottom.to_numpy(float, na_value=np.nan)
    upper = top.to_numpy(float, na_value=np.nan)
    known = np.isfinite(upper) & np.isfinite(over)
    no_verdict = np.bincount(group[~known], minlength=count)
    group, upper, over = group[known], upper[known], over[known]
    n = np.bincount(group, minlength=count)
    below = np.bincount(group, over, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.bincount(group, upper, count) / below
        pulls = (upper - value[group] * over) / below[group]
        weights = over / below[group]
        number = codes(rows, cluster)[known]
        variance, clusters, dof = _spread(group, count, number, pulls, weights)
        # What is left of exact zeros after floating-point sums is no variance.
        variance[variance < 1e-24 * value**2] = 0
        made = keys.assign(value=value, n=n)
        if share:
            each = upper**2 if squares is None else squares.to_numpy(float)[known]
            alone = (np.bincount(group, each, count) / below - value**2) / below
            variance = np.maximum(variance, alone)
            low, high = share_interval(value, variance, clusters, dof, level=level)
            rarer = np.minimum(value, 1 - value)
            made["too_few"] = ~(rarer * (value * (1 - value) / variance) >= 10)
        else:
            low, high = t_interval(value, variance, dof, level=level)
            made["too_few"] = skewed(*_apart(group, count, number[:, 0], pulls)[:2], count)
        made["too_few"] |= clusters < FEW_CLUSTERS
        error = np.sqrt(variance)
    return made.assign(low=low, high=high, no_verdict=no_verdict, dof=dof, error=error)


def _spread(
    group: np.ndarray, count: int, cluster: np.ndarray, pulls: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The variance of each group's estimate, its clusters and its degrees of freedom.

    `pulls` is what each row moves the estimate by, `weights` its share of the denominator. Each
    cluster's pull counts 1 / (1 - its share), which makes the variance unbiased for independent
    rows (CR2), and the degrees of freedom are Satterthwaite's for it (Bell and McCaffrey 2002);
    with clusters of one size they are C / (C - 1) and C - 1. With a column per way of clustering,
    variances add, less that of both ways together.
    """
    if cluster.shape[1] == 2:
        both = pd.factorize(pd.MultiIndex.from_arrays(list(cluster.T)))[0][:, None]
        ways = [cluster[:, :1], cluster[:, 1:], both]
        one, two, cross = (_spread(group, count, way, pulls, weights) for way in ways)
        variance = np.maximum(one[0] + two[0] - cross[0], np.maximum(one[0], two[0]))
        return variance, np.minimum(one[1], two[1]), np.minimum(one[2], two[2])
    owner, pull, cell = _apart(group, count, cluster[:, 0], pulls)
    clusters, h = np.bincount(owner, minlength=count), np.bincount(cell, weights)
    variance = np.bincount(owner, pull**2 / (1 - h), count)
    first, second, third = (
        np.bincount(owner, part, count)
        for part in ((h / (1 - h)) ** 2, h**3 / (1 - h) ** 2, h**2 / (1 - h))
    )
    dof = np.where(clusters > 1, 1 / (first - 2 * second + third**2), np.nan)
    return variance, clusters, dof


def _apart(
    group: np.ndarray, count: int, cluster: np.ndarray, pulls: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each cluster of each group its group and its pull; and for each row its cluster."""
    width = int(cluster.max(initial=0)) + 1
    cells, cell = np.unique(group * width + cluster, return_inverse=True)
    return cells // width, np.bincount(cell, pulls, len(cells)), cell


def skewed(owner: np.ndarray, pull: np.ndarray, count: int) -> np.ndarray:
    """Whether each group has fewer clusters than 25 times the squared skewness of their pulls."""
    scale = np.sqrt(np.bincount(owner, pull**2, count))[owner]
    third = np.bincount(owner, (pull / np.where(scale > 0, scale, 1)) ** 3, count)
    return 25 * third**2 > 1


def t_interval(
    value: np.ndarray, variance: np.ndarray, dof: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval with so many degrees of freedom; missing where nothing varies."""
    half = t_quantile(dof, level) * np.sqrt(np.where(variance > 0, variance, np.nan))
    return value - half, value + half


def share_interval(
    value: np.ndarray,
    variance: np.ndarray,
    clusters: np.ndarray,
    dof: np.ndarray,
    *,
    level: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval at the sample size at which one share alone has this variance.

    Where nothing varies (no row, or every row, has it) each cluster counts as one row, which is
    the least that they can be worth. Missing with fewer than two clusters.
    """
    from scipy.stats import norm

    varies = (variance > 0) & (value > 0) & (value < 1)
    effective = np.divide(
        value * (1 - value), variance, out=clusters.astype(float), where=varies
    ) * np.square(norm.ppf((1 + level) / 2) / t_quantile(dof, level))
    low, high = wilson(value * effective, effective, level=level)
    return np.where(value == 0, low * 0, low), np.where(value == 1, high * 0 + 1, high)


def wilson(
    count: np.ndarray, n: np.ndarray, *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval for `count` of `n` independent rows; missing where n is 0 or missing."""
    from statsmodels.stats.proportion import proportion_confint

    check_level(level)
    known = np.isfinite(count) & (np.asarray(n, float) > 0)
    low, high = np.full(np.shape(n), np.nan), np.full(np.shape(n), np.nan)
    if known.any():
        found = proportion_confint(
            np.asarray(count, float)[known],
            np.asarray(n, float)[known],
            alpha=1 - level,
            method="wilson",
        )
        low[known], high[known] = np.clip(found[0], 0, 1), np.clip(found[1], 0, 1)
    return low, high


def t_quantile(dof: np.ndarray, level: float) -> np.ndarray:
    """Student's quantile; missing where the degrees of freedom are."""
    from scipy.special import stdtrit

    check_level(level)
    return stdtrit(np.where(dof > 0, dof, np.nan), (1 + level) / 2)


def check_level(level: float) -> None:
    """Raise ValueError for a level that is none, such as 95."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; expected a number between 0 and 1, such as 0.95")


def groups(rows: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct values of `by`, sorted, and for each row the number of its group."""
    if not by:
        return pd.DataFrame(index=pd.RangeIndex(1)), np.zeros(len(rows), dtype=np.int64)
    number = rows.groupby(by, dropna=False, sort=True).ngroup().to_numpy(np.int64)
    _, first = np.unique(number, return_index=True)
    return rows[by].iloc[first].reset_index(drop=True), number


def codes(rows: pd.DataFrame, cluster: Sequence[str] = ("question_id",)) -> np.ndarray:
    """For each row and way of clustering the number of its cluster; without a name, its own."""
    if len(cluster) not in (1, 2) or not set(cluster) <= set(rows.columns):
        raise FrameError(
            f"`cluster` is {list(cluster)}; expected one or two of the columns"
            f" {', '.join(map(str, rows.columns))}",
            columns=list(cluster),
        )
    made = []
    for name in cluster:
        number, found = pd.factorize(rows[name])
        alone = number < 0
        number[alone] = len(found) + np.arange(alone.sum())
        made.append(number)
    return np.column_stack(made)
