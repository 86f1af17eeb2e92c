"""Bradley-Terry and Elo ratings, and the columns that all ratings share."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError, InfiniteRating
from lmjudge.stats import resampling, sandwich
from lmjudge.stats.battles import (
    NO_VERDICT,
    Battles,
    Counts,
    Votes,
    batches,
    code,
    compiled,
    count,
    in_memory,
    tally,
)
from lmjudge.stats.grouping import By, by_group, check_choice, check_columns, check_once
from lmjudge.stats.intervals import (
    FEW_CLUSTERS,
    Cluster,
    equivalent,
    holm,
    noted,
    t_quantile,
    two_sided,
    voters_repeat,
    wilson,
)
from lmjudge.stats.strengths import Fit, Pairs, Ties, fit, newton

Anchor = tuple[str, float] | None


@by_group
def bradley_terry(
    votes: Votes,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    ties: Ties = "half",
    cluster: Cluster = None,
    n_boot: int = 0,
    seed: int = 0,
    ridge: float = 0.0,
    anchor: Anchor = None,
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's rating by maximum likelihood, best first, with intervals and rank sets.

    `votes` is a frame or the path of a Parquet file; model_a, model_b and winner are read. The odds
    of one model over another are base ** (difference / scale).

    - `by` names columns of the frame, or "category" with `questions`; each group has its own
      ratings.
    - `ties` are half a win for each ("half"), or an outcome of their own ("davidson", Davidson
      1970).
    - The mean over all models is `initial`. If some ratings are infinite, the finite ones are
      placed by a fit that draws all strengths to 0 (`ridge=1`), so that one vote of a weak model
      moves no other.
    - An `anchor` (model, rating) shifts ratings and intervals alike for display. The widths remain
      those of ratings against the mean.
    - `cluster` names one column, or two that cross. The default is question_id, if there is one,
      crossed with judge where five people or more are named and vote on several questions. () takes
      every vote as independent.
    - Intervals are the sandwich's at `level`, robust to votes that do not follow the model, with
      Student's quantile for one degree of freedom fewer than there are clusters. With `n_boot`
      rounds they are percentiles of a bootstrap over clusters, of both columns if there are two.
    - `ridge` takes ridge/2 times the sum of squared strengths (natural log-odds) from the
      likelihood. It makes every rating finite; shrunk ratings have no intervals.

    | column | meaning |
    |---|---|
    | rating, low, high | the rating and its interval |
    | joint_low, joint_high | limits that hold for all models at once, so for any you pick |
    | too_few | fewer than 20 clusters, or than ten wins or ten losses (a tie is half of each) |
    | n, no_verdict | votes with a verdict, and without |
    | rank_low, rank_high | the possible ranks of the model, for all models at once |

    The columns of `by` and model come first. Rank sets come from the differences of every two
    ratings with Holm's correction (see `rating_differences`). A model that only won or only lost
    has an infinite rating, half an interval, and an InfiniteRating warning. Raises FrameError for
    groups of models that cannot be compared, unknown winners, self-play, and votes without any
    verdict. Source: Chiang et al., arXiv 2403.04132, section 4; rank sets: Mogstad, Romano, Shaikh
    and Wilhelm 2024.

    >>> votes = pd.DataFrame({"model_a": ["x"] * 10, "model_b": ["y"] * 10,
    ...                       "winner": ["model_a"] * 7 + ["model_b"] * 3})
    >>> rated = bradley_terry(votes)
    >>> rated["rating"].round(1).tolist()       # 400 / ln 10 * ln(7 / 3) = 147.2 apart
    [1073.6, 926.4]
    """
    if n_boot < 0:
        raise ValueError(f"n_boot is {n_boot}; expected 0 (no bootstrap) or more rounds")
    counts, fitted, rows = _fitted(votes, ties, cluster, ridge)
    low, high = _limits(fitted.strength)
    if n_boot:
        rounds = resampling.bootstrap(
            fitted,
            [counts.models[at] for at in fitted.rated],
            rounds=n_boot,
            seed=seed,
            ridge=ridge,
            rows=rows,
        )
        clusters = int(counts.battles.sum()) // 2
        if rows is not None:
            clusters = min(len(np.unique(way)) for way in rows.ways)
        known = np.isfinite(rounds).all()
        part = np.cov(rounds) if known else np.full((len(rounds), len(rounds)), np.nan)
        spread = sandwich.Spread((part,), clusters)
        low[fitted.rated], high[fitted.rated] = percentiles(rounds, level)
    else:
        spread = sandwich.spread(fitted, rows)
        half = spread.errors * student(spread.clusters, level)
        finite = fitted.strength[fitted.rated]
        low[fitted.rated], high[fitted.rated] = finite - half, finite + half
    _warn(counts, fitted)
    shift = 0.0
    if len(fitted.rated) < len(fitted.strength):
        pairs = Pairs.of(counts.wins, counts.ties)
        drawn, _ = newton(pairs, with_nu=False, ridge=1.0)
        shift = float(drawn[fitted.rated].mean())
    table = rating_frame(
        counts,
        fitted.strength + shift,
        low + shift,
        high + shift,
        fitted.rated,
        spread,
        ridge=ridge,
        level=level,
        anchor=anchor,
        scale=scale,
        base=base,
        initial=initial,
    )
    return noted(table, votes) if isinstance(votes, pd.DataFrame) else table


@by_group
def rating_differences(
    votes: Votes,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    ties: Ties = "half",
    cluster: Cluster = None,
    baseline: str | None = None,
    margin: float | None = None,
    scale: float = 400,
    base: float = 10,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the difference of every two Bradley-Terry ratings, or of each and the `baseline`'s.

    Arguments are as in `bradley_terry`. The error of a difference takes the full covariance of the
    ratings, which two intervals side by side do not.

    Columns: those of `by`, model_a (the higher), model_b, difference, too_few (of either), n (votes
    with a verdict between the two), low, high, p_value, p_holm (Holm's correction over the rows of
    a group), no_verdict (votes between the two without a verdict). With a `margin` in rating
    points, p_equivalent is small if the two differ by less than it (two one-sided tests, Schuirmann
    1987). Models with an infinite rating are left out. Raises FrameError as `bradley_terry` does,
    and for a baseline without a rating.

    >>> votes = pd.DataFrame({"model_a": ["x"] * 100, "model_b": ["y"] * 100,
    ...                       "winner": ["model_a"] * 70 + ["model_b"] * 30})
    >>> rating_differences(votes)[["model_a", "model_b", "difference"]].round(1).values.tolist()
    [['x', 'y', 147.2]]
    """
    counts, fitted, rows = _fitted(votes, ties, cluster, 0.0)
    spread = sandwich.spread(fitted, rows)
    order = fitted.rated[np.argsort(-fitted.strength[fitted.rated], kind="stable")]
    names = np.array(counts.models, dtype=object)
    i, j = (order[side] for side in np.triu_indices(len(order), 1))
    if baseline is not None:
        if baseline not in names[fitted.rated]:
            raise FrameError(
                f"the baseline {baseline!r} has no finite rating here; the models are"
                f" {counts.models}",
                rows=counts.models,
            )
        mine = (names[i] == baseline) | (names[j] == baseline)
        i, j = i[mine], j[mine]
    place = np.full(len(names), -1)
    place[fitted.rated] = np.arange(len(fitted.rated))
    unit = scale / np.log(base)
    error = spread.of_differences[place[i], place[j]] * unit
    difference = (fitted.strength[i] - fitted.strength[j]) * unit
    half = error * student(spread.clusters, level)
    few = _few(counts, spread.clusters)
    table = pd.DataFrame({"model_a": names[i], "model_b": names[j], "difference": difference})
    table["too_few"] = few[i] | few[j]
    table["n"] = (counts.wins + counts.wins.T + counts.ties)[i, j]
    table["low"], table["high"] = difference - half, difference + half
    table["p_value"] = two_sided(difference, error, spread.clusters - 1.0)
    table["p_holm"] = holm(table["p_value"])
    if margin is not None:
        table["p_equivalent"] = equivalent(difference, error, spread.clusters - 1.0, margin)
    return table.assign(no_verdict=counts.missing[i, j])


def _fitted(
    votes: Votes, ties: Ties, cluster: Cluster, ridge: float
) -> tuple[Counts, Fit, sandwich.Rows | None]:
    """Return the counts, the fit, and where there are clusters the rows."""
    check_choice("ties", ties, "half", "davidson")
    columns = cluster_columns(votes, cluster)
    names: dict[str, int] = {}
    if not columns:
        counts, rows = tally(batches(votes, names), names), None
    else:
        coded = code(in_memory(votes, columns), names)
        counts = tally([coded], names)
        rows = sandwich.Rows.of(coded, columns, names, counts.models)
    return counts, fit(counts, ties=ties, ridge=ridge), rows


def cluster_columns(votes: Votes, cluster: Cluster) -> list[str]:
    """Return the columns that battles are clustered by: those named, else the default.

    There are none for ().
    """
    if cluster is not None:
        return [cluster] if isinstance(cluster, str) else list(cluster)
    if isinstance(votes, pd.DataFrame):
        rows = votes
    else:
        from pyarrow import parquet

        there = parquet.read_schema(votes).names
        wanted = [name for name in ("question_id", "judge", "group") if name in there]
        # Who voted on what is needed only where people are named.
        several = len(wanted) == 3
        rows = parquet.read_table(votes, columns=wanted if several else wanted[:1]).to_pandas()
    if "question_id" not in rows.columns:
        return []
    return ["question_id", *(["judge"] if voters_repeat(rows) else [])]


def rating_frame(
    counts: Counts,
    strength: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    rated: np.ndarray,
    spread: sandwich.Spread,
    *,
    ridge: float,
    level: float,
    anchor: Anchor,
    scale: float,
    base: float,
    initial: float,
) -> pd.DataFrame:
    """Return strengths (natural log-odds) as the frame of ratings, best first."""
    per_unit = scale / np.log(base)
    table = pd.DataFrame({"model": counts.models, "rating": initial + per_unit * strength})
    table["low"], table["high"] = initial + per_unit * low, initial + per_unit * high
    joint = spread.errors * student(spread.clusters, 1 - (1 - level) / max(len(rated), 1))
    for name, sign in (("joint_low", -1), ("joint_high", 1)):
        table[name] = np.nan
        table.loc[rated, name] = initial + per_unit * (strength[rated] + sign * joint)
    if anchor is not None:
        at = table["model"] == anchor[0]
        if not np.isfinite(table.loc[at, "rating"]).any():
            raise FrameError(
                f"the anchor {anchor[0]!r} has no finite rating here; the models are"
                f" {counts.models}",
                rows=table,
            )
        moved = ["rating", "low", "high", "joint_low", "joint_high"]
        table[moved] += anchor[1] - table.loc[at, "rating"].iloc[0]
    table["too_few"] = _few(counts, spread.clusters)
    table["n"] = counts.battles
    table["no_verdict"] = counts.no_verdict
    above, below = surely_apart(strength[rated], spread, level)
    for name, ranks in (("rank_low", 1 + above), ("rank_high", len(rated) - below)):
        table[name] = pd.array([pd.NA] * len(table), dtype="Int64")
        if np.isfinite(spread.errors).all() and not ridge:
            higher = int((strength == np.inf).sum())
            table.loc[rated, name] = ranks + higher
    if ridge:  # shrunk ratings are biased by an unknown amount
        table[["low", "high", "joint_low", "joint_high"]] = np.nan
    return table.sort_values(["rating", "model"], ascending=[False, True], ignore_index=True)


def surely_apart(
    strength: np.ndarray, spread: sandwich.Spread, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many models are surely above and below each one, by Holm's correction."""
    i, j = np.triu_indices(len(strength), 1)
    gap = strength[i] - strength[j]
    sure = holm(two_sided(gap, spread.of_differences[i, j], spread.clusters - 1.0)) < 1 - level
    above, below = np.zeros((2, len(strength)), dtype=int)
    for lower, upper in ((i, j), (j, i)):
        here = sure & ((gap < 0) if lower is i else (gap > 0))
        above += np.bincount(lower[here], minlength=len(strength))
        below += np.bincount(upper[here], minlength=len(strength))
    return above, below


def _few(counts: Counts, clusters: int) -> np.ndarray:
    """Return which ratings have too few clusters, or too few wins or losses."""
    won = counts.wins.sum(axis=1) + counts.ties.sum(axis=1) / 2
    lost = counts.wins.sum(axis=0) + counts.ties.sum(axis=1) / 2
    return (np.minimum(won, lost) < 10) | (clusters < FEW_CLUSTERS)


def percentiles(rounds: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the central `level` of each row of rounds.

    What is missing in a round counts as anything.
    """
    tail = (1 - level) / 2
    if np.isfinite(rounds).all():
        low, high = np.quantile(rounds, [tail, 1 - tail], axis=1)
        return low, high
    missing = np.isnan(rounds)
    low = np.quantile(np.where(missing, -np.inf, rounds), tail, axis=1, method="lower")
    high = np.quantile(np.where(missing, np.inf, rounds), 1 - tail, axis=1, method="higher")
    return low, high


def student(clusters: int, level: float) -> float:
    """Return Student's quantile for an interval at `level` from so many clusters."""
    return float(t_quantile(np.array(clusters - 1.0), level))


def _limits(strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals without ends, where an infinite strength is its own farther end."""
    nothing = np.full(len(strength), np.nan)
    return np.where(strength == -np.inf, strength, nothing), np.where(
        strength == np.inf, strength, nothing
    )


def _warn(counts: Counts, fitted: Fit) -> None:
    for sign, what in ((np.inf, "never lost to"), (-np.inf, "never won against")):
        names = [counts.models[at] for at in np.flatnonzero(fitted.strength == sign)]
        if names:
            warnings.warn(
                InfiniteRating(
                    f"{', '.join(names)} {what} the {len(fitted.rated)} models that could be"
                    f" rated: the rating is {sign}; ridge= makes it finite",
                    models=names,
                ),
                stacklevel=4,
            )


@by_group
def win_fractions(
    votes: Votes,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    ties: Literal["drop", "half"] = "drop",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the share of battles with each other model that each model won, a row an ordered pair.

    `ties` are not counted ("drop", the arena's matrix) or half a win. `by` and `questions` are as
    in `bradley_terry`. Columns: those of `by`, model_a, model_b, wins, ties, losses (of model_a),
    win_fraction, n, low, high (Wilson's, as if the votes were independent; conservative for
    halves), no_verdict. Pairs that never met have no row. If ties are dropped, pairs that only tied
    have a missing fraction. `pivot(index="model_a", columns="model_b", values="win_fraction")`
    makes a square table. Raises FrameError as `bradley_terry`. Source: the arena's posts of May
    2023.
    """
    check_choice("ties", ties, "drop", "half")
    counts = count(votes)
    met = counts.wins + counts.wins.T + counts.ties + counts.missing > 0
    i, j = np.nonzero(met)
    table = pd.DataFrame(
        {
            "model_a": np.array(counts.models)[i],
            "model_b": np.array(counts.models)[j],
            "wins": counts.wins[i, j],
            "ties": counts.ties[i, j],
            "losses": counts.wins[j, i],
        }
    )
    half = ties == "half"
    worth = table["wins"] + half * table["ties"] / 2
    n = table["wins"] + table["losses"] + half * table["ties"]
    table["win_fraction"] = worth / n.where(n > 0)
    table["n"] = n
    table["low"], table["high"] = wilson(worth.to_numpy(float), n.to_numpy(float), level=level)
    table["no_verdict"] = counts.missing[i, j]
    return table


@by_group
def predicted_wins(
    ratings: pd.DataFrame,
    *,
    by: By = None,
    scale: float = 400,
    base: float = 10,
) -> pd.DataFrame:
    """Return the share of battles that each model is expected to win, a row an ordered pair.

    `ratings` has the columns model and rating, and those of `by` if it has ratings of several
    groups. `scale` and `base` are those of the ratings. Columns: those of `by`, model_a, model_b,
    win_rate (a tie counts as half); it is missing between two models that are both infinite. Raises
    FrameError without those columns, or with a model named twice.

    >>> ratings = pd.DataFrame({"model": ["x", "y"], "rating": [1200.0, 800.0]})
    >>> predicted_wins(ratings)["win_rate"].round(3).tolist()
    [0.909, 0.091]
    """
    _check(ratings, ["model", "rating"])
    rating = ratings["rating"].to_numpy(float)
    i, j = np.nonzero(~np.eye(len(rating), dtype=bool))
    names = ratings["model"].to_numpy()
    table = pd.DataFrame({"model_a": names[i], "model_b": names[j]})
    with np.errstate(invalid="ignore", over="ignore"):
        table["win_rate"] = 1 / (1 + base ** ((rating[j] - rating[i]) / scale))
    return table


@by_group
def separability(
    ratings: pd.DataFrame,
    *,
    by: By = None,
) -> pd.DataFrame:
    """Return the share of pairs of models whose intervals don't overlap: one row.

    With `by`, the columns that name its groups, a row a group. Columns: those of `by`, separable,
    pairs, separability (missing with one model). A missing limit separates nothing. Raises
    FrameError without the columns model, low, high. Source: Arena-Hard, arXiv 2406.11939, section
    3.
    """
    _check(ratings, ["model", "low", "high"])
    low, high = ratings["low"].to_numpy(float), ratings["high"].to_numpy(float)
    separable = int((low[:, None] > high[None, :]).sum())
    pairs = len(ratings) * (len(ratings) - 1) // 2
    return pd.DataFrame(
        {
            "separable": [separable],
            "pairs": [pairs],
            "separability": [separable / pairs if pairs else np.nan],
        }
    )


def _check(ratings: pd.DataFrame, wanted: list[str]) -> None:
    do = "give what a rating function returned"
    check_columns(list(ratings.columns), wanted, "a frame of ratings", do)
    check_once(
        ratings, ["model"], "ratings are of one model twice; name in `by` what tells them apart"
    )


_ROUNDS = 128
_STEPS = 256


@by_group
def elo(
    votes: Votes,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    k: float = 4,
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
) -> pd.DataFrame:
    """Return each model's Elo rating after all votes in their order, best first.

    `votes` is a frame or the path of a Parquet file. The order is that of `time`, if the column is
    there (a file must be in that order already), otherwise that of the rows. Each vote moves both
    models by k * (result - expected), with expected = 1 / (1 + base ** (difference / scale)) and a
    tie as half a win. **The result depends on the order**, and the last votes weigh most. The arena
    used k=32 in its first weeks and k=4 from 9 May 2023. The ratings have no intervals;
    `bradley_terry` has them.

    `by` and `questions` are as in `bradley_terry`. Columns: those of `by`, model, rating, n (votes
    with a verdict), no_verdict. Raises FrameError for unknown winners, self-play, partly missing
    times, and votes without any verdict. Source: arXiv 2306.05685 and the arena's first posts.

    >>> votes = pd.DataFrame({"model_a": ["x", "x"], "model_b": ["y", "y"],
    ...                       "winner": ["model_a", "model_b"]})
    >>> elo(votes, k=32)[["model", "rating"]].round(2).to_numpy().tolist()  # the last counts more
    [['y', 1001.47], ['x', 998.53]]
    """
    _check_scale(k, scale, base)
    names: dict[str, int] = {}
    ratings: list[np.ndarray] = [np.zeros(0)]

    def passed() -> Iterator[Battles]:
        last = None
        for battles in batches(votes, names, timed=True):
            battles, last = _in_order(battles, last)
            ratings[0] = np.append(ratings[0], np.full(len(names) - len(ratings[0]), initial * 1.0))
            _pass(battles, ratings[0], k, np.log(base) / scale)
            yield battles

    counts = tally(passed(), names)
    rated = ratings[0][[names[model] for model in counts.models]]
    return _best_first(pd.DataFrame({"model": counts.models, "rating": rated}), counts)


@by_group
def elo_bootstrap(
    votes: Votes,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    k: float = 4,
    n_boot: int = 1000,
    seed: int = 0,
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's Elo rating over resampled battles, best median first.

    Each of `n_boot` rounds draws as many battles as there are, with replacement and in random
    order, and rates them from the start, as the arena's boards of 2023 did. The order of the votes
    is thus forgotten. spread_low and spread_high are the percentiles of the rounds at `level` (2.5
    and 97.5): **a spread over resampled battles without a promised coverage**. Beside the votes,
    memory holds only cells (pair and outcome) and ratings, for any number of rounds.

    `by` and `questions` are as in `bradley_terry`. Columns: those of `by`, model, median,
    spread_low, spread_high, n, no_verdict. Raises FrameError as `elo`. Source: FastChat,
    `elo_analysis.py` (2023).
    """
    _check_scale(k, scale, base)
    if n_boot < 1:
        raise ValueError(f"n_boot is {n_boot!r}; expected at least one round")
    counts = count(votes)
    pairs = Pairs.of(counts.wins, counts.ties)
    battles = int(pairs.outcomes.sum())
    keep, other = _alias(pairs.outcomes.ravel())
    first, second = (np.tile(side.astype(np.int32), 3) for side in (pairs.i, pairs.j))
    got = np.repeat([1.0, 0.0, 0.5], len(pairs.i))
    unit = np.log(base) / scale

    def block(seeds: np.random.SeedSequence, width: int) -> np.ndarray:
        rng = np.random.Generator(np.random.SFC64(seeds))
        ratings = np.full((width, pairs.size), initial * 1.0)
        advance = getattr(compiled(), "elo_rounds", _rounds)
        for start in range(0, battles, _STEPS):
            uniform = rng.random((width, min(_STEPS, battles - start)))
            advance(uniform, keep, other, first, second, got, ratings, k, unit)
        return ratings

    widths = [_ROUNDS] * (n_boot // _ROUNDS) + [n_boot % _ROUNDS] * (n_boot % _ROUNDS > 0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = pool.map(block, np.random.SeedSequence(seed).spawn(len(widths)), widths)
        rounds = np.vstack(list(blocks))
    tail = (1 - level) / 2
    low, median, high = np.quantile(rounds, [tail, 0.5, 1 - tail], axis=0)
    ratings = pd.DataFrame({"model": counts.models, "median": median})
    ratings["spread_low"], ratings["spread_high"] = low, high
    return _best_first(ratings, counts)


def _pass(battles: Battles, ratings: np.ndarray, k: float, unit: float) -> None:
    """Update ratings by battles in their order, in place."""
    fast = compiled()
    if fast is not None:
        fast.elo_pass(battles.a, battles.b, battles.outcome, ratings, k, unit)
        return
    got = (1.0, 0.0, 0.5)
    now = ratings.tolist()
    rows = zip(battles.a.tolist(), battles.b.tolist(), battles.outcome.tolist(), strict=True)
    for i, j, outcome in rows:
        if outcome != NO_VERDICT:
            change = k * (got[outcome] - 1 / (1 + math.exp((now[j] - now[i]) * unit)))
            now[i] += change
            now[j] -= change
    ratings[:] = now


def _rounds(
    uniform: np.ndarray,
    keep: np.ndarray,
    other: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    got: np.ndarray,
    ratings: np.ndarray,
    k: float,
    unit: float,
) -> None:
    """Update ratings as the compiled kernel `elo_rounds` does, in numpy, in all rounds at once."""
    row = np.arange(len(ratings))
    place = uniform.T * len(keep)
    cells = place.astype(np.int64)
    for cell in np.where(place - cells >= keep[cells], other[cells], cells):
        i, j = first[cell], second[cell]
        one, two = ratings[row, i], ratings[row, j]
        change = k * (got[cell] - 1 / (1 + np.exp((two - one) * unit)))
        ratings[row, i] = one + change
        ratings[row, j] = two - change


def _alias(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Walker's tables (1977): keep a cell with the chance `keep`, else take `other`.

    These small tables stay in the processor's cache; the battles themselves would not.
    """
    keep = weights / weights.mean()
    other = np.arange(len(weights))
    chances = keep.tolist()
    under = [at for at, chance in enumerate(chances) if chance < 1]
    over = [at for at, chance in enumerate(chances) if chance >= 1]
    while under and over:
        low, high = under.pop(), over[-1]
        keep[low], other[low] = chances[low], high
        chances[high] -= 1 - chances[low]
        if chances[high] < 1:
            under.append(over.pop())
    keep[under + over] = 1
    return keep, other


def _in_order(battles: Battles, last: Any) -> tuple[Battles, Any]:
    """Return the battles in the order of their times, if any, and the last time."""
    if "time" not in battles.rows.columns:
        return battles, None
    time = battles.rows["time"]
    if not pd.api.types.is_numeric_dtype(time):  # texts of numbers are in the order of the numbers
        number = pd.to_numeric(time, errors="coerce")
        time = number if number.notna().sum() == time.notna().sum() else time
    if last is None and time.isna().all():
        return battles, None
    if time.isna().any():
        raise FrameError(
            f"{int(time.isna().sum())} of {len(time)} votes have no time; online Elo needs all or"
            " none",
            rows=battles.rows[time.isna()],
        )
    if last is not None and time.min() < last:
        raise FrameError(
            "the file's votes are not in the order of their time; sort it, or rate it as a frame",
            rows=battles.rows,
        )
    if not time.is_monotonic_increasing:
        order = time.to_numpy().argsort(kind="stable")
        a, b, outcome = battles.a[order], battles.b[order], battles.outcome[order]
        battles = Battles(a, b, outcome, battles.rows)
    return battles, time.max()


def _best_first(table: pd.DataFrame, counts: Counts) -> pd.DataFrame:
    table = table.assign(n=counts.battles, no_verdict=counts.no_verdict)
    by = [table.columns[1], "model"]
    return table.sort_values(by, ascending=[False, True], ignore_index=True)


def _check_scale(k: float, scale: float, base: float) -> None:
    if not (k > 0 and scale > 0 and base > 1):
        raise ValueError(
            f"found k={k!r}, scale={scale!r}, base={base!r}; expected k > 0, scale > 0, base > 1"
        )
