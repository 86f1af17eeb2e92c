"""Online Elo ratings, and their spread over resampled battles."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.stats.battles import (
    NO_VERDICT,
    Battles,
    Counts,
    Votes,
    batches,
    compiled,
    count,
    tally,
)
from lmjudge.stats.strengths import Pairs

_ROUNDS = 128
_STEPS = 256


def elo(
    votes: Votes,
    *,
    k: float = 4,
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
) -> pd.DataFrame:
    """Each model's Elo rating after all votes in their order, best first.

    `votes` is a frame or the path of a Parquet file. They are taken in the order of `time` where it
    is there (a file must be in that order already), else in the order of the rows. Each vote moves
    both models by k * (result - expected), expected = 1 / (1 + base ** (difference / scale)), a tie
    being half a win: **the result depends on the order**, and the last votes weigh most. The arena
    used k=32 in its first weeks and k=4 from 9 May 2023. A rating without an interval: for that see
    `bradley_terry`.

    Columns: model, rating, n (votes with a verdict), no_verdict. Raises FrameError for unknown
    winners, self-play, times of which some are missing, and votes of which none has a verdict.
    Source: arXiv 2306.05685 and the arena's first posts.

    >>> votes = pd.DataFrame({"model_a": ["x", "x"], "model_b": ["y", "y"],
    ...                       "winner": ["model_a", "model_b"]})
    >>> elo(votes, k=32)[["model", "rating"]].round(2).to_numpy().tolist()  # the last counts more
    [['y', 1001.47], ['x', 998.53]]
    """
    _check(k, scale, base)
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


def elo_bootstrap(
    votes: Votes,
    *,
    k: float = 4,
    n_boot: int = 1000,
    seed: int = 0,
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Each model's Elo rating over resampled battles, best median first.

    Each of `n_boot` rounds draws as many battles as there are, with replacement and in random
    order, and rates them from the start, as the arena's boards of 2023 did: so the order in which
    votes came is forgotten. spread_low and spread_high are the percentiles of the rounds at `level`
    (2.5 and 97.5): **a spread over resampled battles, for which no coverage is promised**. Beside
    the votes it needs memory for cells (pair and outcome) and ratings only, however many rounds.

    Columns: model, median, spread_low, spread_high, n, no_verdict. Raises FrameError as `elo`.
    Source: FastChat, `elo_analysis.py` (2023).
    """
    _check(k, scale, base)
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
        made = np.full((width, pairs.size), initial * 1.0)
        advance = getattr(compiled(), "elo_rounds", _rounds)
        for start in range(0, battles, _STEPS):
            uniform = rng.random((width, min(_STEPS, battles - start)))
            advance(uniform, keep, other, first, second, got, made, k, unit)
        return made

    widths = [_ROUNDS] * (n_boot // _ROUNDS) + [n_boot % _ROUNDS] * (n_boot % _ROUNDS > 0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = pool.map(block, np.random.SeedSequence(seed).spawn(len(widths)), widths)
        rounds = np.vstack(list(blocks))
    tail = (1 - level) / 2
    low, median, high = np.quantile(rounds, [tail, 0.5, 1 - tail], axis=0)
    made = pd.DataFrame({"model": counts.models, "median": median})
    made["spread_low"], made["spread_high"] = low, high
    return _best_first(made, counts)


def _pass(battles: Battles, ratings: np.ndarray, k: float, unit: float) -> None:
    """Ratings after battles in their order, in place."""
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
    """The compiled kernel `elo_rounds`, in numpy: all rounds a battle further at a time."""
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
    """Walker's tables (1977): a cell is kept with the chance `keep`, or else is `other`.

    They stay in the cache, where the battles one by one would not.
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
    """The battles in the order of their time, where they have one, and the last of the times."""
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


def _best_first(made: pd.DataFrame, counts: Counts) -> pd.DataFrame:
    made = made.assign(n=counts.battles, no_verdict=counts.no_verdict)
    by = [made.columns[1], "model"]
    return made.sort_values(by, ascending=[False, True], ignore_index=True)


def _check(k: float, scale: float, base: float) -> None:
    if not (k > 0 and scale > 0 and base > 1):
        raise ValueError(
            f"found k={k!r}, scale={scale!r}, base={base!r}; expected k > 0, scale > 0, base > 1"
        )
