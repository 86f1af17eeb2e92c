"""Sandwich covariances of strengths: by battle, or by clusters in one or two ways.

Clusters are summed as in `intervals`: with the correction C / (C - 1), and Student's quantile with
C - 1 degrees of freedom. Variances of two ways add up, less that of both together. Without clusters
each battle is its own (White's HC0, except for that correction).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg

from lmjudge.stats.battles import Battles, clusters, compiled
from lmjudge.stats.strengths import Fit, expectations, incidence, laplacian

_GOT = np.array([[1.0], [0.0], [0.5]])  # what i gets for each outcome
_TIED = np.array([[0.0], [0.0], [1.0]])
_MANY = 1 << 19  # rows from which on a second thread earns its keep


@dataclass(frozen=True)
class Rows:
    """The battles one by one, for what clusters need: models and clusters by number.

    `ways` are the clusters, one array a way. `cell` is where a row stands in a flat table (model_a,
    model_b, outcome) of `shape`; `place` is the number here of each model in the order of the
    counts.
    """

    a: np.ndarray
    b: np.ndarray
    cell: np.ndarray
    ways: tuple[np.ndarray, ...]
    shape: tuple[int, int, int]
    place: np.ndarray

    @classmethod
    def of(
        cls, battles: Battles, columns: Sequence[str], names: dict[str, int], models: list[str]
    ) -> Rows:
        """Return the rows of coded votes, their clusters in one column of the frame, or in two."""
        small = 4 * len(names) ** 2 < 2**31
        cell = np.multiply(battles.a, len(names), dtype=np.int32 if small else np.int64)
        np.add(cell, battles.b, out=cell)
        np.multiply(cell, 4, out=cell)
        np.add(cell, battles.outcome, out=cell)
        return cls(
            battles.a,
            battles.b,
            cell,
            tuple(clusters(battles.rows[column]) for column in columns),
            (len(names), len(names), 4),
            np.array([names[name] for name in models]),
        )

    def table(
        self, fit: Fit, i_side: np.ndarray, j_side: np.ndarray, unknown: float = 0
    ) -> np.ndarray:
        """Return a flat table over cells of (3, pairs) values: as i, and as j, stands first.

        Cells that the fit doesn't know (no verdict, an infinite strength) hold `unknown`.
        """
        filled = np.full(self.shape, unknown, dtype=i_side.dtype)
        rated = self.place[fit.rated]
        i, j = rated[fit.pairs.i], rated[fit.pairs.j]
        for outcome, turned in ((0, 1), (1, 0), (2, 2)):
            filled[i, j, outcome] = i_side[outcome]
            filled[j, i, turned] = j_side[outcome]
        return filled.ravel()

    def outcomes(self, fit: Fit, cell: np.ndarray) -> np.ndarray:
        """Return how many of some cells are of each outcome of each pair that the fit knows."""
        shape = fit.pairs.outcomes.shape
        number = np.arange(1, fit.pairs.outcomes.size + 1).reshape(shape)
        at = self.table(fit, number, number)[cell]
        return np.bincount(at, minlength=number.size + 1)[1:].reshape(shape)


@dataclass(frozen=True)
class Spread:
    """The covariance of estimates by each way of clustering, and, of two, by both together."""

    parts: tuple[np.ndarray, ...]
    clusters: int

    @property
    def errors(self) -> np.ndarray:
        """The standard error of each estimate; missing where nothing varies, or one cluster."""
        return self._root([np.diag(part) for part in self.parts])

    @property
    def of_differences(self) -> np.ndarray:
        """The standard error of the difference of each two estimates; missing as in `errors`."""
        return self._root(
            [np.add.outer(np.diag(part), np.diag(part)) - 2 * part for part in self.parts]
        )

    def _root(self, variances: list[np.ndarray]) -> np.ndarray:
        covariance = variances[0].copy()
        if len(variances) == 3:
            one, two, both = variances
            covariance = np.maximum(one + two - both, np.maximum(one, two))
        # What is left of exact zeros after floating-point sums is no variance.
        covariance[covariance < 1e-20] = np.nan
        return np.sqrt(covariance) if self.clusters > 1 else covariance * np.nan


def spread_of(bread: np.ndarray, meats: Sequence[tuple[np.ndarray, int]]) -> Spread:
    """Return the sandwich: of each way's sum of outer products and how many clusters it has."""
    parts = [
        np.einsum("ij,jk->ik", np.einsum("ij,jk->ik", bread, meat), bread.T)
        * (count / max(count - 1, 1))
        for meat, count in meats
    ]
    return Spread(tuple(parts), min(count for _, count in meats[:2]))


def spread(fit: Fit, rows: Rows | None) -> Spread:
    """Return the covariance of the rated strengths, over the clusters of `rows` or over battles."""
    bread = linalg.cho_solve(linalg.cho_factor(fit.information), np.eye(len(fit.information)))
    meats = [of_battles(fit, fit.pairs.outcomes)] if rows is None else of_clusters(fit, rows)
    return spread_of(bread[: len(fit.rated)], meats)


def both_ways(ways: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the ways of clustering, and of two both together."""
    if len(ways) == 1:
        return list(ways)
    one, two = ways
    width = int(two.max(initial=0)) + 1
    return [one, two, pd.factorize(one.astype(np.int64) * width + two)[0]]


def of_battles(fit: Fit, outcomes: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the sum over battles of the score's outer product, and how many battles there are."""
    pairs, (gap, tie) = fit.pairs, residuals(fit)
    size = pairs.size
    meat = np.zeros_like(fit.information)
    meat[:size, :size] = laplacian(pairs, (outcomes * gap**2).sum(axis=0))
    if tie is not None:
        meat[:size, -1] = incidence(pairs, (outcomes * gap * tie).sum(axis=0))
        meat[-1, :size] = meat[:size, -1]
        meat[-1, -1] = (outcomes * tie**2).sum()
    return meat, int(outcomes.sum())


def of_clusters(fit: Fit, rows: Rows) -> list[tuple[np.ndarray, int]]:
    """Return the summed outer products of the clusters' scores, and the number of clusters.

    There is one for each way of clustering; with two ways, also one for both together.
    """
    gap, tie = residuals(fit)
    width = rows.shape[0] + 1
    gaps = rows.table(fit, gap, -gap, unknown=np.nan)
    ties = np.zeros(1) if tie is None else rows.table(fit, tie, tie)
    place = rows.place[fit.rated] if tie is None else np.append(rows.place[fit.rated], width - 1)
    fast = compiled()
    counts = [int(way.max()) + 1 for way in rows.ways]

    def summed(order: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, int]:
        def part(span: tuple[int, int]) -> tuple[np.ndarray, int]:
            meats, clusters = fast.outer_products(order, ends, *span, width, gaps, ties)
            return meats[np.ix_(place, place)], clusters

        if len(order) < _MANY:
            return part((0, len(ends)))
        middle = int(np.searchsorted(ends, len(order) // 2))
        with ThreadPoolExecutor(2) as pool:  # two halves, each in a thread
            (one, those), (two, others) = pool.map(part, [(0, middle), (middle, len(ends))])
        return one + two, those + others

    if fast is None:
        every = both_ways(rows.ways)
        products = [
            _outer_products(rows, way, int(way.max()) + 1, width, gaps, ties) for way in every
        ]
        return [(meats[np.ix_(place, place)], clusters) for meats, clusters in products]
    if len(rows.ways) == 1:
        (way,) = rows.ways
        order, _, ends = fast.by_cluster(rows.cell, way[:0], way, counts[0])
        return [summed(order, ends)]
    second, first, both = fast.by_both(rows.cell, *rows.ways, *counts)
    # Most rows are the only one of their voter on their question: those are summed by counts.
    several = rows.outcomes(fit, both[0])
    alone, lone = of_battles(fit, fit.pairs.outcomes - several)
    together, clusters = summed(*both)
    return [summed(*first), summed(*second), (alone + together, lone + clusters)]


def _outer_products(
    rows: Rows, owner: np.ndarray, count: int, width: int, gaps: np.ndarray, ties: np.ndarray
) -> tuple[np.ndarray, int]:
    """Return the compiled kernel of this name, in scipy."""
    from scipy import sparse

    score = gaps[rows.cell]
    used = ~np.isnan(score)
    cell, score, cluster = rows.cell[used], score[used], owner[used]
    scores, places = [score, -score], [rows.a[used], rows.b[used]]
    if len(ties) > 1:
        scores.append(ties[cell])
        places.append(np.full(len(score), width - 1, dtype=rows.a.dtype))
    owners = np.tile(cluster, len(scores))
    total = sparse.coo_matrix(
        (np.concatenate(scores), (owners, np.concatenate(places))), shape=(count, width)
    ).tocsr()
    clusters = np.count_nonzero(np.bincount(cluster))
    return (total.T.tocsr() @ total).toarray(), int(clusters)


def residuals(fit: Fit) -> tuple[np.ndarray, np.ndarray | None]:
    """For each outcome and pair: the score for the gap between its models, and for log nu."""
    expected, tie = expectations(fit.beta, fit.pairs, fit.log_nu is not None)
    return _GOT - expected, None if tie is None else _TIED - tie
