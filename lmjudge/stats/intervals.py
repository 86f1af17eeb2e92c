"""Intervals for what is averaged over questions.

Answers to one question resemble each other, so rows are not independent: the clusters are the
questions (a row without a question_id is a cluster of its own). Every estimate here is a ratio of
two totals; its variance is that of the linearised totals of the clusters, with the correction
C / (C - 1), and quantiles are Student's with C - 1 degrees of freedom. Shares take Wilson's form
at the effective sample size (Korn and Graubard 1998; Dean and Pagano 2015), so that they stay in
[0, 1] and have a width where all rows agree.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def estimate(
    rows: pd.DataFrame,
    by: list[str],
    *,
    top: pd.Series,
    bottom: pd.Series | None = None,
    squares: pd.Series | None = None,
    share: bool = False,
    level: float = 0.95,
) -> pd.DataFrame:
    """One row per group of `by` (in sorted order; one row in all where it is empty).

    Columns: those of `by`, value (sum of `top` over sum of `bottom`, which is 1 where not given),
    n (rows), low, high, no_verdict (rows whose top or bottom is missing; they are left out).
    With `share` the interval is Wilson's at the effective sample size; `squares` is then what the
    squares of the single values in a row sum to, where a row stands for several (else top**2).
    low and high are missing where they cannot be known: fewer than two clusters, or, for means,
    no variance at all.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; expected a number between 0 and 1, such as 0.95")
    keys, group = _groups(rows, by)
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

        cluster = _clusters(rows)[known]
        width = int(cluster.max(initial=0)) + 1
        cells, cell = np.unique(group * width + cluster, return_inverse=True)
        owner = cells // width
        residual = np.bincount(cell, upper) - value[owner] * np.bincount(cell, over)
        clusters = np.bincount(owner, minlength=count)
        variance = np.bincount(owner, residual**2, count) / below**2 * clusters / (clusters - 1)
        # What is left of exact zeros after floating-point sums is no variance.
        variance[variance < 1e-24 * value**2] = 0
        if share:
            each = upper**2 if squares is None else squares.to_numpy(float)[known]
            alone = (np.bincount(group, each, count) / below - value**2) / below
            low, high = share_interval(value, np.maximum(variance, alone), clusters, level=level)
        else:
            low, high = t_interval(value, variance, clusters, level=level)
    return keys.assign(value=value, n=n, low=low, high=high, no_verdict=no_verdict)


def t_interval(
    value: np.ndarray, variance: np.ndarray, clusters: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Student's interval with clusters - 1 degrees of freedom; missing where nothing varies."""
    half = _t(clusters, level) * np.sqrt(np.where(variance > 0, variance, np.nan))
    return value - half, value + half


def share_interval(
    value: np.ndarray, variance: np.ndarray, clusters: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval at the sample size at which one share alone has this variance.

    Where nothing varies (no row, or every row, has it) each cluster counts as one row, which is
    the least that they can be worth. Missing with fewer than two clusters.
    """
    from scipy.stats import norm

    varies = (variance > 0) & (value > 0) & (value < 1)
    effective = np.divide(
        value * (1 - value), variance, out=clusters.astype(float), where=varies
    ) * np.square(norm.ppf((1 + level) / 2) / _t(clusters, level))
    low, high = wilson(value * effective, effective, level=level)
    return np.where(value == 0, low * 0, low), np.where(value == 1, high * 0 + 1, high)


def wilson(
    count: np.ndarray, n: np.ndarray, *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval for `count` of `n` independent rows; missing where n is 0 or missing."""
    from statsmodels.stats.proportion import proportion_confint

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


def _t(clusters: np.ndarray, level: float) -> np.ndarray:
    """Student's quantile for so many clusters; missing where there are fewer than two."""
    from scipy.special import stdtrit

    return stdtrit(np.where(clusters > 1, clusters - 1.0, np.nan), (1 + level) / 2)


def _groups(rows: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """The distinct values of `by`, sorted, and for each row the number of its group."""
    if not by:
        return pd.DataFrame(index=pd.RangeIndex(1)), np.zeros(len(rows), dtype=np.int64)
    number = rows.groupby(by, dropna=False, sort=True).ngroup().to_numpy(np.int64)
    _, first = np.unique(number, return_index=True)
    return rows[by].iloc[first].reset_index(drop=True), number


def _clusters(rows: pd.DataFrame) -> np.ndarray:
    """For each row the number of its question, or a number of its own where it has none."""
    codes, found = pd.factorize(rows["question_id"])
    alone = codes < 0
    codes[alone] = len(found) + np.arange(alone.sum())
    return codes
