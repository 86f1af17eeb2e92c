"""Ratings at equal style of the answers: length, lists and headings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import linalg

from lmjudge.errors import FrameError
from lmjudge.stats import sandwich
from lmjudge.stats.battles import NO_VERDICT, Counts, Votes, clusters, code, in_memory, tally
from lmjudge.stats.grouping import By, by_group
from lmjudge.stats.intervals import FEW_CLUSTERS, Cluster
from lmjudge.stats.ratings import (
    Anchor,
    cluster_columns,
    rating_frame,
    student,
)
from lmjudge.stats.strengths import Pairs, incidence, laplacian, limits, newton

_CHUNK = 1 << 16


@by_group
def style_ratings(
    votes: Votes,
    *,
    covariates: Sequence[str],
    by: By = None,
    questions: pd.DataFrame | None = None,
    cluster: Cluster = None,
    ridge: float = 0.0,
    anchor: Anchor = None,
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's Bradley-Terry rating at equal style of the answers, best first.

    Each covariate c is a count in two columns, c_a and c_b, such as tokens_a and tokens_b. The
    log-odds contain (a - b) / (a + b + 1), divided by its root mean square and not centred, so that
    swapping sides changes nothing. Ties are half a win. Clusters, intervals, other arguments and
    columns are as in `bradley_terry`. Leave out a model that only won or only lost, or give
    `ridge`. Raises FrameError for counts that are missing or negative, and for covariates that
    never differ or follow from others. Source: the arena's post on style control, 28 August 2024;
    FastChat `rating_systems.py`.
    """
    counts, fitted = _fit(votes, covariates, cluster, ridge)
    size = len(counts.models)
    models = sandwich.Spread(
        tuple(part[:size, :size] for part in fitted.spread.parts), fitted.spread.clusters
    )
    half = models.errors * student(models.clusters, level)
    strength = fitted.beta[:size]
    return rating_frame(
        counts,
        strength,
        strength - half,
        strength + half,
        np.arange(size),
        models,
        ridge=ridge,
        level=level,
        anchor=anchor,
        scale=scale,
        base=base,
        initial=initial,
    )


@by_group
def style_effects(
    votes: Votes,
    *,
    covariates: Sequence[str],
    by: By = None,
    questions: pd.DataFrame | None = None,
    cluster: Cluster = None,
    ridge: float = 0.0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the effect of style on the log-odds of a win at equal models: a row a covariate.

    Columns: those of `by`, covariate, effect (natural log-odds per root mean square of the
    covariate), odds_ratio (its exponential), too_few (fewer than 20 clusters), n (votes with a
    verdict), low, high (of the effect), no_verdict. Arguments and errors are as in `style_ratings`.
    """
    counts, fitted = _fit(votes, covariates, cluster, ridge)
    effect, error = fitted.beta[len(counts.models) :], fitted.spread.errors[len(counts.models) :]
    half = error * student(fitted.spread.clusters, level) * (np.nan if ridge else 1)
    table = pd.DataFrame({"covariate": list(covariates), "effect": effect})
    table["odds_ratio"] = np.exp(effect)
    table["too_few"] = fitted.spread.clusters < FEW_CLUSTERS
    table["n"] = int(counts.battles.sum()) // 2
    table["low"], table["high"] = effect - half, effect + half
    table["no_verdict"] = int(counts.no_verdict.sum()) // 2
    return table


@dataclass(frozen=True)
class Styled:
    """Strengths and then effects, and their covariance."""

    beta: np.ndarray
    spread: sandwich.Spread


@dataclass(frozen=True)
class _Sorted:
    """The rows with a verdict, sorted by pair (i before j): what i got, and the covariates."""

    pairs: Pairs
    starts: np.ndarray
    got: np.ndarray
    style: np.ndarray
    ways: tuple[np.ndarray, ...] = ()

    def expected(self, beta: np.ndarray) -> np.ndarray:
        """Return what is expected of i in each row."""
        size = self.pairs.size
        between = beta[self.pairs.i] - beta[self.pairs.j]
        log_odds = np.repeat(between, np.diff(self.starts))
        for effect, column in zip(beta[size:], self.style, strict=True):
            log_odds += effect * column
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-log_odds))

    def parts(self) -> list[_Sorted]:
        """Return the rows in parts that stay in the cache, cut between pairs."""
        total = self.starts[-1]
        cuts = np.searchsorted(self.starts, np.arange(0, total, _CHUNK))
        edges = np.unique(np.append(cuts, len(self.starts) - 1))
        pieces = []
        for start, two in pairwise(edges):
            rows = slice(self.starts[start], self.starts[two])
            pairs = Pairs(
                self.pairs.size, self.pairs.i[start:two], self.pairs.j[start:two], np.zeros((3, 0))
            )
            starts = self.starts[start : two + 1] - self.starts[start]
            pieces.append(_Sorted(pairs, starts, self.got[rows], self.style[:, rows]))
        return pieces

    def derivatives(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the score and the information."""
        expected = self.expected(beta)
        residual = self.got - expected
        sums = np.add.reduceat(residual, self.starts[:-1])
        # Not by BLAS, whose own threads and those that call this wait for one another.
        score = np.append(incidence(self.pairs, sums), np.einsum("kn,n->k", self.style, residual))
        return score, self._products(expected * (1 - expected))

    def meat(self, beta: np.ndarray) -> np.ndarray:
        """Return the sum of the score's outer product if each row is a cluster."""
        return self._products((self.got - self.expected(beta)) ** 2)

    def _products(self, weight: np.ndarray) -> np.ndarray:
        """Return the sum over rows of weight times the outer product of the design's row."""
        size, at = self.pairs.size, self.starts[:-1]
        products = np.zeros((size + len(self.style),) * 2)
        products[:size, :size] = laplacian(self.pairs, np.add.reduceat(weight, at))
        weighted = self.style * weight
        for column, sums in enumerate(np.add.reduceat(weighted, at, axis=1), start=size):
            products[:size, column] = products[column, :size] = incidence(self.pairs, sums)
        products[size:, size:] = np.einsum("kn,ln->kl", weighted, self.style)
        return products


def _fit(
    votes: Votes, covariates: Sequence[str], cluster: Cluster, ridge: float
) -> tuple[Counts, Styled]:
    if isinstance(covariates, str) or not len(covariates):
        raise ValueError(f"covariates is {covariates!r}; expected a list of names, ['tokens']")
    columns = [f"{name}_{side}" for name in covariates for side in "ab"]
    names_of_clusters = cluster_columns(votes, cluster)
    rows = in_memory(votes, [*columns, *names_of_clusters])
    names: dict[str, int] = {}
    coded = code(rows, names)
    counts = tally([coded], names)
    pairs = Pairs.of(counts.wins, counts.ties)
    _, rated = limits(pairs, counts.models, ridge=ridge)
    if len(rated) < len(counts.models):
        out = [name for at, name in enumerate(counts.models) if at not in set(rated)]
        raise FrameError(
            f"{', '.join(out)} only won or only lost against the others; leave their votes out, or"
            " use ridge=",
            rows=out,
        )
    known = coded.outcome < NO_VERDICT
    if not known.all():
        rows = rows[known]
    place = np.zeros(len(names), dtype=np.int32)
    for at, name in enumerate(counts.models):
        place[names[name]] = at
    a, b, outcome = place[coded.a[known]], place[coded.b[known]], coded.outcome[known]
    lookup = np.zeros((pairs.size, pairs.size), dtype=np.uint16 if len(pairs.i) < 65536 else int)
    lookup[pairs.i, pairs.j] = lookup[pairs.j, pairs.i] = np.arange(len(pairs.i))
    pair = lookup.ravel()[a * np.int64(pairs.size) + b]
    order = np.argsort(pair, kind="stable")
    turned = np.where(a > b, -1.0, 1.0)[order]
    style = np.empty((len(covariates), len(order)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(
            pool.map(lambda name, into: _style(rows, name, order, turned, into), covariates, style)
        )
    got = np.array([1.0, 0.0, 0.5])[outcome[order]]
    got = np.where(turned < 0, 1 - got, got)
    starts = np.append(0, np.bincount(pair, minlength=len(pairs.i)).cumsum())
    ways = tuple(clusters(rows[name])[order] for name in names_of_clusters)
    data = _Sorted(pairs, starts, got, style, ways)
    start, _ = newton(pairs, with_nu=False, ridge=ridge)
    return counts, _newton(data, np.append(start, np.zeros(len(style))), ridge)


def _style(
    rows: pd.DataFrame, name: str, order: np.ndarray, turned: np.ndarray, into: np.ndarray
) -> None:
    """Return (a - b) / (a + b + 1), scaled to root mean square 1, in the order of the pairs."""
    a, b = (rows[f"{name}_{side}"].to_numpy(float, na_value=np.nan) for side in "ab")
    if not (a.min() >= 0 and b.min() >= 0 and max(a.max(), b.max()) < np.inf):
        bad = rows[~((a >= 0) & (b >= 0) & np.isfinite(a) & np.isfinite(b))]
        raise FrameError(
            f"{len(bad)} votes have a {name}_a or {name}_b that is missing or negative; counts are"
            " 0 or more: leave these votes out or count again",
            rows=bad,
        )
    difference = a - b
    difference /= a + b + 1
    size = np.sqrt(np.einsum("n,n->", difference, difference) / len(difference))
    if not size:
        raise FrameError(f"{name}_a and {name}_b never differ; leave {name} out", columns=[name])
    np.take(difference, order, out=into)
    into *= turned
    into /= size


def _newton(data: _Sorted, beta: np.ndarray, ridge: float) -> Styled:
    size = data.pairs.size
    parts = data.parts()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in range(50):
            sums = list(pool.map(lambda part, at=beta: part.derivatives(at), parts))
            score, information = (sum(each) for each in zip(*sums, strict=True))
            score[:size] -= ridge * beta[:size]
            information[:size, :size] += 1 / size
            information[np.diag_indices(size)] += ridge
            try:
                factor = linalg.cho_factor(information)
            except linalg.LinAlgError as error:
                raise FrameError(
                    "the covariates follow from one another, or from the models; leave one out",
                    columns=[],
                ) from error
            step = linalg.cho_solve(factor, score)
            beta = beta + step
            if np.abs(step).max() < 1e-8:
                break
        else:
            raise FrameError(
                "the ratings did not converge: some covariate all but decides who wins; leave it"
                " out, or use ridge=",
                columns=[],
            )
        meats = [(sum(pool.map(lambda part: part.meat(beta), parts)), len(data.got))]
    if data.ways:
        meats = [_cluster_meat(data, beta, way) for way in sandwich.both_ways(data.ways)]
    bread = linalg.cho_solve(factor, np.eye(len(beta)))
    return Styled(beta, sandwich.spread_of(bread, meats))


def _cluster_meat(data: _Sorted, beta: np.ndarray, way: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the sum over clusters of the score's outer product, and the number of clusters."""
    from scipy import sparse

    owner, names = pd.factorize(way)
    residual = data.got - data.expected(beta)
    lengths = np.diff(data.starts)
    scores = [residual, -residual, *(residual * column for column in data.style)]
    places = [np.repeat(data.pairs.i, lengths), np.repeat(data.pairs.j, lengths)]
    places += [np.full(len(owner), data.pairs.size + at) for at in range(len(data.style))]
    total = sparse.coo_matrix(
        (np.concatenate(scores), (np.tile(owner, len(scores)), np.concatenate(places))),
        shape=(len(names), len(beta)),
    ).tocsr()
    return (total.T.tocsr() @ total).toarray(), len(names)
