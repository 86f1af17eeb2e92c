"""Bootstrap Bradley-Terry strengths without resampling rows.

- A bootstrap over battles draws the counts of the cells (pair and outcome), each Poisson with the
  observed mean. This is the multinomial's law, except that the total varies too.
- A bootstrap over clusters draws a Poisson(1) weight for each cluster. A row in two ways of
  clustering has the product of both weights (Owen and Eckles 2012). Its intervals are too wide by
  twice the variance of single rows, and never too narrow.

All rounds are fitted at once from the full fit, by Newton steps with its information. The few
rounds that do not converge so are fitted one by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.stats.sandwich import Rows
from lmjudge.stats.strengths import Fit, expectations, limits, newton

_DRAWS = 1 << 22  # in a block of rounds: 32 MB
_GUIDE = 1 << 11
_STEPS = 40


def bootstrap(
    fit: Fit, models: list[str], *, rounds: int, seed: int, ridge: float, rows: Rows | None = None
) -> np.ndarray:
    """Return the strengths in each round, (models, rounds), over the clusters of `rows` if given.

    Infinite where a model only won or only lost in a round, missing where the round's votes do not
    compare the models at all. The same seed gives the same draws on any machine.
    """
    from scipy import linalg, sparse

    pairs = fit.pairs
    with_nu = fit.log_nu is not None
    inverse = linalg.cho_solve(linalg.cho_factor(fit.information), np.eye(len(fit.information)))
    start = fit.beta
    count = np.arange(len(pairs.i))
    ones = np.ones(len(count))
    gives = sparse.csr_matrix(
        (np.append(ones, -ones), (np.append(pairs.i, pairs.j), np.append(count, count))),
        shape=(pairs.size, len(count)),
    )
    weigh: Callable[[np.ndarray], np.ndarray] = _as_drawn
    if rows is None:
        draw = Poisson(pairs.outcomes.ravel())
    else:
        clusters, weigh = _by_cluster(fit, rows)
        draw = Poisson(np.ones(clusters))

    def block(seeds: np.random.SeedSequence, width: int) -> np.ndarray:
        drawn = draw.draws(np.random.Generator(np.random.SFC64(seeds)), width)
        outcomes = weigh(drawn).reshape(3, len(count), width)
        n = outcomes.sum(axis=0)
        worth = gives @ (outcomes[0] + outcomes[2] / 2)
        tied = outcomes[2].sum(axis=0)
        beta = np.repeat(start[:, None], width, axis=1)
        done = np.zeros(width, dtype=bool)
        left = np.arange(width)
        for _ in range(_STEPS):
            here = beta[:, left]
            expected, tie = expectations(here, pairs, with_nu)
            weight = n if len(left) == width else n[:, left]
            expected *= weight
            score = worth[:, left] - gives @ expected - ridge * here[: pairs.size]
            if tie is not None:
                score = np.vstack([score, tied[left] - (weight * tie).sum(axis=0)])
            # Not by BLAS: its own threads and these wait for one another on a busy machine.
            step = np.einsum("ij,jk->ik", inverse, score)
            beta[:, left] += step
            size = np.abs(step).max(axis=0)
            done[left[size < 1e-9]] = True
            left = left[(size >= 1e-9) & (size < 10)]
            if not len(left):
                break
        strengths = beta[: pairs.size]
        for at in np.flatnonzero(~done):
            strengths[:, at] = _one(fit, models, outcomes[:, :, at], ridge)
        return strengths

    wide = min(max(_DRAWS // max(draw.size, 3 * len(count)), 32), 1024)
    widths = [wide] * (rounds // wide) + [rounds % wide] * (rounds % wide > 0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = pool.map(block, np.random.SeedSequence(seed).spawn(len(widths)), widths)
        return np.hstack(list(blocks))


def _as_drawn(drawn: np.ndarray) -> np.ndarray:
    return drawn


def _by_cluster(fit: Fit, rows: Rows) -> tuple[int, Callable[[np.ndarray], np.ndarray]]:
    """Return the number of clusters, and a function from their weights to the cells' counts."""
    from scipy import sparse

    cells = np.arange(1, fit.pairs.outcomes.size + 1).reshape(fit.pairs.outcomes.shape)
    at = rows.table(fit, cells, cells)[rows.cell] - 1
    used = at >= 0
    at = at[used]
    codes = [pd.factorize(way[used])[0] for way in rows.ways]
    first = int(codes[0].max()) + 1
    if len(codes) == 1:
        table = sparse.csr_matrix((np.ones(len(at)), (at, codes[0])), (cells.size, first))
        return first, lambda drawn: table @ drawn
    one, two = codes[0], codes[1] + first

    def weigh(drawn: np.ndarray) -> np.ndarray:
        each = (np.bincount(at, w[one] * w[two], cells.size) for w in drawn.T)
        return np.column_stack(list(each))

    return int(two.max()) + 1, weigh


def _one(fit: Fit, models: list[str], outcomes: np.ndarray, ridge: float) -> np.ndarray:
    """Return the strengths fitted in one round, missing where there is no fit."""
    pairs = replace(fit.pairs, outcomes=outcomes)
    try:
        strength, rated = limits(pairs, models, ridge=ridge)
        pairs = pairs.among(rated)
        with_nu = fit.log_nu is not None and bool(pairs.outcomes[2].any())
        beta, _ = newton(pairs, with_nu=with_nu, ridge=ridge)
    except FrameError:
        return np.full(len(fit.rated), np.nan)
    # The others keep the mean that they have in the full fit.
    strength[rated] = beta[: len(rated)] + fit.strength[fit.rated][rated].mean()
    return strength


class Poisson:
    """Draws of many Poisson variables, by the inverse of their distribution functions.

    Counts recur, so that one table serves all cells of a count: a guide from the first eleven bits
    of a uniform number to where its search starts. numpy's own draws cost about six times as much.
    """

    def __init__(self, means: np.ndarray) -> None:
        from scipy.special import pdtr

        self.size = len(means)
        self.tables = []
        order = np.argsort(means, kind="stable")
        values, first = np.unique(means[order], return_index=True)
        for value, cells in zip(values, np.split(order, first[1:]), strict=True):
            if value > 0:
                reach = 12 * np.sqrt(value) + 40  # what lies farther off has a chance below 1e-30
                least = max(0, int(value - reach))
                distribution = pdtr(np.arange(least, int(value + reach)), value)
                # guide[g]: how many values of the distribution function are at most g / _GUIDE.
                step = np.ceil(distribution * _GUIDE).astype(np.int64)
                guide = np.bincount(step, minlength=_GUIDE + 1)[:_GUIDE].cumsum()
                self.tables.append((cells, least, distribution, guide.astype(np.int32)))

    def draws(self, rng: np.random.Generator, rounds: int) -> np.ndarray:
        """(cells, rounds) draws."""
        counts = np.zeros((self.size, rounds))
        for cells, least, distribution, guide in self.tables:
            uniform = rng.random(len(cells) * rounds)
            drawn = guide[(uniform * _GUIDE).astype(np.int32)]
            drawn += uniform >= distribution[drawn]
            late = np.flatnonzero(uniform >= distribution[drawn])
            drawn[late] = np.searchsorted(distribution, uniform[late], side="right")
            counts[cells] = drawn.reshape(len(cells), rounds) + least
        return counts
