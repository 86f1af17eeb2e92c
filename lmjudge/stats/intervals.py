"""Clusters, and intervals of averages over them.

Answers to one question resemble each other, so rows are not independent. By default the clusters
are the questions, crossed with the voters where people are named and vote on several questions. A
row without a question_id is its own cluster. A judge that is a language model is fixed, so its name
is no cluster.

- Variances of crossed clusters add up, less that of both together (Cameron, Gelbach and Miller
  2011). A pair of votes belongs to both its voters: the dyadic-robust variance of Aronow, Samii and
  Assenova 2015.
- Every estimate here is a ratio of two totals. Its variance is that of the clusters' linearised
  totals, with the small-sample correction CR2 and Student's quantiles with Satterthwaite's degrees
  of freedom.
- Shares have Wilson intervals at the effective sample size (Korn and Graubard 1998; Dean and Pagano
  2015). They stay in [0, 1] and have a width even if all rows agree.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import in_order

# The fewest questions that docs/coverage.md was measured with. Of a kind of question as rare
# as one in seven, ten questions hold none in a fifth of all studies, and nothing in them tells.
FEW_CLUSTERS = 20
# The fewest rows on the rarer side of a share (docs/coverage.md).
FEW_ROWS = 5
# The fewest people on several questions whose tastes say how those of others vary.
FEW_VOTERS = 5
# What every table of estimates ends in.
ENDS = ["too_few", "n", "low", "high", "no_verdict"]


Cluster: TypeAlias = str | Sequence[str] | None
# For each row the number of its cluster, or, for a pair of votes, of its two voters (-1: none).
Ways: TypeAlias = list[np.ndarray]


def estimate(
    rows: pd.DataFrame,
    by: list[str],
    *,
    top: pd.Series,
    bottom: pd.Series | None = None,
    squares: pd.Series | None = None,
    share: bool = False,
    cluster: Cluster = "question_id",
    by_way: Ways | None = None,
    level: float = 0.95,
    name: str = "value",
) -> pd.DataFrame:
    """Return one row per group of `by` (in sorted order; one row in all where it is empty).

    Columns: those of `by`, `name` (sum of `top` over sum of `bottom`, 1 where not given), n
    (rows), too_few, low, high, no_verdict (rows whose top or bottom is missing; they are left out),
    and dof and error (the degrees of freedom and the standard error that low and high rest on).
    With `share` the interval is Wilson's at the effective sample size; `squares` is then what the
    squares of the single values in a row sum to, where a row stands for several (else top**2).
    too_few flags what its interval may hold less often than `level` says (docs/coverage.md):

    - fewer than 20 clusters (shares: fewer than 20 in the first column of `cluster`, or than five
      in the second, unless a row is a pair of votes)
    - shares with fewer than five rows on the rarer side, rows counted at the effective sample size
    - shares of uneven clusters, worth less than half as many even ones, of which fewer than ten (in
      the second column five) would be on the rarer side
    - means of fewer clusters than 25 times their squared skewness (Cochran 1977, section 2.15)

    `cluster` names one column, or two that cross, or `by_way` holds what `ways` returned. low and
    high are missing where they cannot be known: fewer than two clusters, or, for means, no variance
    at all.
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
        by_way = [way[known] for way in by_way or ways(rows, cluster)]
        variance, by_clusters, dof, effective = spread(group, count, by_way, pulls, weights)
        clusters = by_clusters.min(axis=0)
        # What is left of exact zeros after floating-point sums is no variance.
        variance[variance < 1e-24 * value**2] = 0
        table = keys.assign(**{name: value}, n=n)
        if share:
            each = upper**2 if squares is None else squares.to_numpy(float)[known]
            alone = _independent(rows[known], by, group, count, each, upper, over) / below**2
            variance = np.maximum(variance, alone)
            low, high = share_interval(value, variance, clusters, dof, level=level)
            rarer = np.minimum(value, 1 - value)
            table["too_few"] = ~(rarer * (value * (1 - value) / variance) >= FEW_ROWS)
        else:
            low, high = t_interval(value, variance, dof, level=level)
            table["too_few"] = skewed(*_apart(group, count, by_way[0], pulls)[:2], count)
        few = clusters < FEW_CLUSTERS
        if share and len(by_way) == 2 and by_way[0].ndim == 1 and not _of_pairs(by_way[1]):
            few = (by_clusters[0] < FEW_CLUSTERS) | (clusters < FEW_VOTERS)
        if share:
            least = FEW_ROWS * np.array([2, 1])[: len(by_way), None] / rarer
            few |= ((2 * effective < by_clusters) & (effective < least)).any(axis=0)
        table["too_few"] |= few
        error = np.sqrt(variance)
    table = table.assign(low=low, high=high, no_verdict=no_verdict, dof=dof, error=error)
    table.attrs["level"] = level
    return table


def _independent(
    rows: pd.DataFrame,
    by: list[str],
    group: np.ndarray,
    count: int,
    squares: np.ndarray,
    top: np.ndarray,
    bottom: np.ndarray,
) -> np.ndarray:
    """Return the sum of squares of independent rows about the share of their own pair of models.

    Which pairs of models met is not random, so the distance between their shares is no error.
    """
    names = [name for name in ("model_a", "model_b") if name in rows.columns and name not in by]
    pair = group
    if names and len(rows):
        pairs = rows.groupby(names, dropna=False, sort=False).ngroup().to_numpy()
        pair = np.unique(group * (int(pairs.max()) + 1) + pairs, return_inverse=True)[1]
    size = int(pair.max(initial=-1)) + 1
    over = np.bincount(pair, bottom, size)
    share = np.divide(np.bincount(pair, top, size), over, out=np.zeros(size), where=over != 0)
    return np.bincount(group, squares - share[pair] * top, count)


def spread(
    group: np.ndarray, count: int, by_way: Ways, pulls: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return each group's variance, clusters, degrees of freedom and effective clusters.

    `pulls` is what each row moves the estimate by, `weights` its share of the denominator. With two
    ways of clustering variances add, less that of both ways together, and the smaller number of
    degrees of freedom counts. Clusters are counted for each way: (ways, groups). Effective clusters
    are the even ones that are worth as much: the reciprocal of the sum of squared shares.
    """
    each = [_one_way(group, count, way, pulls, weights) for way in by_way]
    variance, clusters, dof, effective = map(np.array, zip(*each, strict=True))
    if len(by_way) == 2:
        cross = _one_way(group, count, crossed(*by_way), pulls, weights)[0]
        variance = np.maximum(variance, variance.sum(axis=0) - cross)
    return variance.max(axis=0), clusters, dof.min(axis=0), effective


def crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the clusters of both ways together; `second` may hold two voters a row."""
    width = int(second.max(initial=0)) + 1
    by_first = first.astype(np.int64) * width
    return np.where(second < 0, -1, (by_first if second.ndim == 1 else by_first[:, None]) + second)


def _one_way(
    group: np.ndarray, count: int, cluster: np.ndarray, pulls: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what `spread` returns, for one way of clustering.

    Each cluster's pull counts 1 / (1 - its share), which makes the variance unbiased for
    independent rows (CR2). The degrees of freedom are Satterthwaite's, with rows of a cluster as
    much alike as they are here (Bell and McCaffrey 2002; Imbens and Kolesár 2016): C - 1 for C
    clusters of one size, and few where large clusters differ. A pair of votes is in the clusters
    of both its voters; pairs of the same two voters, which then count twice, are taken off once.
    """
    twice = np.zeros(count)
    if cluster.ndim == 2:
        row, code, both, pair = _voters(cluster)
        if len(both):
            part = (group[both], count, pair, pulls[both], weights[both])
            twice = _sum_of_squares(*part)[0]
        group, cluster, pulls, weights = group[row], code, pulls[row], weights[row]
    variance, owner, pull, h = _sum_of_squares(group, count, cluster, pulls, weights)
    clusters = np.bincount(owner, minlength=count)
    squares, single = (np.bincount(group, part**2, count) for part in (pulls, weights))
    alike = _alike(owner, count, pull, h, squares, single)[owner]
    whole = np.bincount(owner, h, count)[owner]
    h, single = h / whole, single[owner] / whole**2
    dof = _freedom(owner, count, h, h * ((1 - alike) * single + alike * h))
    dof[clusters < 2] = np.nan
    effective = 1 / np.bincount(owner, h**2, count)
    return np.where(clusters > 1, variance - twice, np.nan), clusters, dof, effective


def _alike(
    owner: np.ndarray,
    count: int,
    pull: np.ndarray,
    h: np.ndarray,
    squares: np.ndarray,
    single: np.ndarray,
) -> np.ndarray:
    """Return each group's intraclass correlation: 0 for independent rows, 1 for equal ones.

    It is the mean product of two rows of one cluster over the mean square of a row, at least 0, for
    clusters with these pulls and shares, and groups with these squares of rows' pulls and shares.
    """
    products = np.bincount(owner, pull**2, count) - squares
    pairs = np.bincount(owner, h**2, count) - single
    known = (pairs > 1e-12 * single) & (squares > 0)
    return np.clip(
        np.where(known, products * single / np.where(known, pairs * squares, 1), 0), 0, 1
    )


def _freedom(owner: np.ndarray, count: int, h: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """Return Satterthwaite's degrees of freedom of CR2 for an average over clusters.

    `h` are the clusters' shares, `varies` the variances of their pulls, up to a factor. With V the
    matrix of CR2 in the pulls and S their covariance, it is trace(VS)^2 / trace(VSVS), without the
    matrices: the pulls' deviations from the average make S diagonal but for products of h.
    """

    def total(part: np.ndarray) -> np.ndarray:
        return np.bincount(owner, part, count)

    rest = 1 / np.where(h > 1 - 1e-12, np.inf, 1 - h)
    whole = total(varies)
    off = h**2 * whole[owner] - 2 * h * varies
    x, y, z = (total(rest * part) for part in (h**2, varies**2, h * varies))
    squares = total(rest**2 * varies * (varies + 2 * off))
    squares += 2 * x * y + (whole * x) ** 2 + 2 * z**2 - 4 * whole * x * z
    return total(rest * (varies + off)) ** 2 / squares


def _voters(cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return each row once for each of its voters, and the rows with two voters by their pair."""
    one, two = cluster.T
    alone = (one < 0) & (two < 0)
    at = np.arange(len(one))
    own = np.where(
        alone, max(one.max(initial=0), two.max(initial=0)) + 1 + at, np.maximum(one, two)
    )
    both = at[(one >= 0) & (two >= 0) & (one != two)]
    row = np.append(np.setdiff1d(at, both, assume_unique=True), np.append(both, both))
    code = np.append(own[row[: len(at) - len(both)]], np.append(one[both], two[both]))
    low, high = np.minimum(one[both], two[both]), np.maximum(one[both], two[both])
    return row, code, both, low.astype(np.int64) * (int(high.max(initial=0)) + 1) + high


def _sum_of_squares(
    group: np.ndarray, count: int, cluster: np.ndarray, pulls: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return each group's sum of squared pulls of clusters; each cluster's group, pull, share."""
    owner, pull, cell = _apart(group, count, cluster, pulls)
    h = np.bincount(cell, weights, len(pull))
    # A cluster that holds everything is the estimate, and nothing varies about it.
    rest = np.where(h > 1 - 1e-12, np.inf, 1 - h)
    return np.bincount(owner, pull**2 / rest, count), owner, pull, h


def _of_pairs(way: np.ndarray) -> bool:
    """Return whether rows are pairs of votes by two named voters."""
    return way.ndim == 2 and bool((way.min(axis=1) >= 0).any())


def _apart(
    group: np.ndarray, count: int, cluster: np.ndarray, pulls: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the group and the pull of each cluster in each group, and the cluster of each row."""
    width = int(cluster.max(initial=0)) + 1
    cells, cell = np.unique(group * width + cluster, return_inverse=True)
    return cells // width, np.bincount(cell, pulls, len(cells)), cell


def skewed(owner: np.ndarray, pull: np.ndarray, count: int) -> np.ndarray:
    """Return whether a group has fewer clusters than 25 times its pulls' squared skewness."""
    scale = np.sqrt(np.bincount(owner, pull**2, count))[owner]
    third = np.bincount(owner, (pull / np.where(scale > 0, scale, 1)) ** 3, count)
    return 25 * third**2 > 1


def t_interval(
    value: np.ndarray, variance: np.ndarray, dof: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's interval with so many degrees of freedom; missing where nothing varies."""
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
    """Return Wilson's interval at the sample size at which one share alone has this variance.

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
    """Return Wilson's interval for `count` of `n` independent rows.

    Both ends are missing where n is 0 or missing.
    """
    from statsmodels.stats.proportion import proportion_confint

    check_level(level)
    known = np.isfinite(count) & (np.asarray(n, float) > 0)
    low, high = np.full(np.shape(n), np.nan), np.full(np.shape(n), np.nan)
    if known.any():
        ends = proportion_confint(
            np.asarray(count, float)[known],
            np.asarray(n, float)[known],
            alpha=1 - level,
            method="wilson",
        )
        low[known], high[known] = np.clip(ends[0], 0, 1), np.clip(ends[1], 0, 1)
    return low, high


def t_quantile(dof: np.ndarray, level: float) -> np.ndarray:
    """Return Student's quantile; missing where the degrees of freedom are."""
    from scipy.special import stdtrit

    check_level(level)
    return stdtrit(np.where(dof > 0, dof, np.nan), (1 + level) / 2)


def check_level(level: float) -> None:
    """Raise ValueError for a level that is none, such as 95."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; expected a number between 0 and 1, such as 0.95")


def two_sided(value: np.ndarray, error: np.ndarray, dof: np.ndarray | float) -> np.ndarray:
    """Return Student's p value of no difference; missing where the error is 0 or missing."""
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * stdtr(dof, -np.abs(value) / np.where(error > 0, error, np.nan))


def equivalent(
    value: np.ndarray, error: np.ndarray, dof: np.ndarray | float, margin: float
) -> np.ndarray:
    """Return the p value of a difference of `margin` or more: the greater of two one-sided tests'.

    Raises ValueError for a margin that is not positive.
    """
    from scipy.stats import t

    if not margin > 0:
        raise ValueError(f"margin is {margin!r}; expected how far apart still counts as equal, > 0")
    with np.errstate(invalid="ignore", divide="ignore"):
        return t.sf((margin - np.abs(value)) / np.where(error > 0, error, np.nan), dof)


def holm(p_values: np.ndarray | pd.Series) -> np.ndarray:
    """Return Holm's correction over the p values that are known."""
    adjusted = np.array(p_values, dtype=float)
    known = np.flatnonzero(np.isfinite(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    left = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(adjusted[order] * left), 1)
    return adjusted


def groups(rows: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the distinct values of `by`, in order, and for each row the number of its group."""
    if not by:
        return pd.DataFrame(index=pd.RangeIndex(1)), np.zeros(len(rows), dtype=np.int64)
    number = rows.groupby(by, dropna=False, sort=True).ngroup().to_numpy(np.int64)
    _, first = np.unique(number, return_index=True)
    keys = in_order(rows[by].iloc[first].reset_index(drop=True), by)
    return keys.reset_index(drop=True), np.argsort(keys.index.to_numpy())[number]


def ways(rows: pd.DataFrame, cluster: Cluster = None, *, by: Collection[str] = ()) -> Ways:
    """For each row the number of its cluster, for each way of clustering (see `cluster_names`).

    A row without a name is a cluster of its own. Where rows are pairs of votes, with the columns
    voter_x and voter_y, the way "judge" holds both voters, -1 for none.
    """
    numbers = []
    for name in cluster_names(rows, cluster, by=by):
        if name == "judge" and "voter_x" in rows.columns:
            two = pd.concat([rows["voter_x"], rows["voter_y"]], ignore_index=True)
            numbers.append(pd.factorize(two)[0].reshape(2, len(rows)).T)
            continue
        number, names = pd.factorize(rows[name])
        alone = number < 0
        number[alone] = len(names) + np.arange(alone.sum())
        numbers.append(number)
    return numbers


def cluster_names(
    rows: pd.DataFrame, cluster: Cluster = None, *, by: Collection[str] = ()
) -> list[str]:
    """Return the columns that rows are clustered by: those named, else the default.

    The default is question_id, crossed with judge where `voters_repeat`, unless `by` takes judges
    apart. Raises FrameError for a column that is not there, and for more than two.
    """
    names = [cluster] if isinstance(cluster, str) else list(cluster or ())
    if cluster is None:
        names = ["question_id"]
        if "judge" not in by and voters_repeat(rows):
            names.append("judge")
    there = set(rows.columns) | ({"judge"} if "voter_x" in rows.columns else set())
    if len(names) not in (1, 2) or not set(names) <= there:
        raise FrameError(
            f"`cluster` is {names}; expected one or two of the columns"
            f" {', '.join(map(str, rows.columns))}",
            columns=names,
        )
    return names


def voters_repeat(votes: pd.DataFrame) -> bool:
    """Return whether five named people or more vote on several questions: a sample of voters.

    People are the judges whose `group` is not "llm". Two raters, or four, are themselves what is
    studied, and too few to tell how others would differ.
    """
    if not {"question_id", "judge", "group"} <= set(votes.columns):
        return False
    people = votes.loc[people_of(votes), ["question_id", "judge"]]
    on = people.drop_duplicates()["judge"].value_counts()
    return int((on > 1).sum()) >= FEW_VOTERS


def people_of(votes: pd.DataFrame) -> pd.Series:
    """Return which votes are of people who are named."""
    known = votes["group"].astype(object)
    return votes["judge"].notna() & known.notna() & (known != "llm")


def noted(table: pd.DataFrame, *frames: pd.DataFrame) -> pd.DataFrame:
    """Return the estimates, and in attrs["not_covered"] what their intervals do not cover.

    Where people are unnamed nothing says which votes are one person's: intervals are about other
    questions, and say nothing of how other voters would differ.
    """
    for votes in frames:
        if {"judge", "group"} <= set(votes.columns):
            group = votes["group"].astype(object)
            if (votes["judge"].isna() & group.notna() & (group != "llm")).any():
                table.attrs["not_covered"] = "other voters: votes name none"
    return table


def by_question(votes: pd.DataFrame, column: str) -> pd.Series:
    """Return the value of a column by question; FrameError where it varies within one."""
    pairs = votes[["question_id", column]].drop_duplicates()
    if pairs["question_id"].duplicated().any():
        first = pairs.loc[pairs["question_id"].duplicated(), "question_id"].iloc[0]
        raise FrameError(
            f"{column} has several values on question {first!r}; a cluster of comparisons holds"
            " whole questions, or is the judge",
            rows=pairs,
        )
    return pairs.set_index("question_id")[column]
