"""Bradley-Terry strengths from counts: whether they exist, and Newton's method to find them.

The log-odds of i over j are strength i minus strength j. With ties as halves, a tie is half a win
for each. With Davidson's ties (JASA 65, 1970), P(i) : P(j) : P(tie) are as s_i : s_j :
nu sqrt(s_i s_j), and log nu is the last parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import linalg

from lmjudge.errors import FrameError
from lmjudge.stats.battles import Counts

Ties = Literal["half", "davidson"]


@dataclass(frozen=True)
class Pairs:
    """The pairs (i < j) that met, `outcomes` (3, pairs): how often i won, j won, neither did."""

    size: int
    i: np.ndarray
    j: np.ndarray
    outcomes: np.ndarray

    @classmethod
    def of(cls, wins: np.ndarray, ties: np.ndarray) -> Pairs:
        """Return the pairs of a square table of wins and a symmetric one of ties."""
        i, j = np.nonzero(np.triu(wins + wins.T + ties, 1))
        return cls(len(wins), i, j, np.array([wins[i, j], wins[j, i], ties[i, j]], dtype=float))

    @property
    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """The square tables of wins and ties again."""
        wins, ties = np.zeros((2, self.size, self.size))
        wins[self.i, self.j], wins[self.j, self.i], ties[self.i, self.j] = self.outcomes
        return wins, ties + ties.T

    def among(self, models: np.ndarray) -> Pairs:
        """Return the pairs among some of the models, numbered anew."""
        if len(models) == self.size:
            return self
        wins, ties = self.tables
        return Pairs.of(wins[np.ix_(models, models)], ties[np.ix_(models, models)])


@dataclass(frozen=True)
class Fit:
    """Strengths (sum zero; infinite ones apart), log nu (None for halves), and the information.

    `rated` are the models with a finite strength, `pairs` theirs, numbered among themselves as in
    `information`, which is made invertible by the constant direction.
    """

    strength: np.ndarray
    log_nu: float | None
    rated: np.ndarray
    pairs: Pairs
    information: np.ndarray

    @property
    def beta(self) -> np.ndarray:
        """The finite strengths, and log nu where there is one: as `newton` gives them."""
        finite = self.strength[self.rated]
        return finite if self.log_nu is None else np.append(finite, self.log_nu)


def fit(counts: Counts, *, ties: Ties, ridge: float) -> Fit:
    """Return the maximum-likelihood strengths; infinite for models that only won or only lost.

    Raises FrameError where groups of models cannot be compared: they never met, or no chain of
    wins leads from one to the other and neither is the only one that could be rated.
    """
    pairs = Pairs.of(counts.wins, counts.ties)
    strength, rated = limits(pairs, counts.models, ridge=ridge)
    pairs = pairs.among(rated)
    with_nu = ties == "davidson" and bool(pairs.outcomes[2].any())
    if with_nu and not ridge and not _more_wins_than_ties(pairs):
        raise FrameError(
            "Davidson's ties need a circle of models, each of which won against or tied with the"
            " next, with more wins than ties: here there is none. Use ties='half', or ridge=.",
            rows=[counts.models[at] for at in rated],
        )
    beta, information = newton(pairs, with_nu=with_nu, ridge=ridge)
    strength[rated] = beta[: len(rated)]
    return Fit(strength, float(beta[-1]) if with_nu else None, rated, pairs, information)


def limits(pairs: Pairs, models: list[str], *, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return strengths with the infinite ones filled in, and the models whose strength is finite.

    By Ford (1957) strengths are finite among models that have all won, by some chain, against each
    other (a tie is half a win for both). The largest such group is rated; above it are those that
    only won against it, below it those that only lost.
    """
    from scipy.sparse.csgraph import connected_components, shortest_path

    strength = np.zeros(pairs.size)
    wins, ties = pairs.tables
    beat = (wins + ties) > 0
    if ridge:
        return strength, np.arange(pairs.size)
    apart, island = connected_components(beat, directed=False)
    if apart > 1:
        raise FrameError(
            f"{apart} groups of models never met: {_groups(island, models)}; rate them apart, or"
            " use ridge= to draw all towards one mean",
            rows=[np.array(models)[island == group].tolist() for group in range(apart)],
        )
    count, group = connected_components(beat, directed=True, connection="strong")
    if count == 1:
        return strength, np.arange(pairs.size)
    sizes = np.bincount(group)
    core = int(sizes.argmax())
    inside = np.zeros((count, count), dtype=bool)
    inside[group[beat.nonzero()[0]], group[beat.nonzero()[1]]] = True
    reach = np.isfinite(shortest_path(inside, unweighted=True))
    lost = np.flatnonzero(~reach[:, core] & ~reach[core])
    if (sizes == sizes[core]).sum() > 1 or len(lost):
        raise FrameError(
            f"{count} groups of models cannot be compared, for none of one ever lost to the other:"
            f" {_groups(group, models)}; more votes are needed, or ridge=",
            rows=[np.array(models)[group == at].tolist() for at in range(count)],
        )
    strength[reach[group, core]] = np.inf
    strength[~reach[group, core]] = -np.inf
    strength[group == core] = 0
    return strength, np.flatnonzero(group == core)


def newton(pairs: Pairs, *, with_nu: bool, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the strengths (and log nu, last) of greatest likelihood, and the information there."""
    beta = np.zeros(pairs.size + with_nu)
    value = likelihood(beta, pairs, with_nu, ridge)
    for _ in range(200):
        score, information = derivatives(beta, pairs, with_nu, ridge)
        step = linalg.cho_solve(linalg.cho_factor(information), score)
        reached = likelihood(beta + step, pairs, with_nu, ridge)
        while reached < value - 1e-9 * abs(value) and np.abs(step).max() > 1e-12:
            step = step / 2
            reached = likelihood(beta + step, pairs, with_nu, ridge)
        beta, value = beta + step, reached
        if np.abs(step).max() < 1e-8:  # Newton squares its error: the next step would be 1e-16
            return beta, derivatives(beta, pairs, with_nu, ridge)[1]
    raise FrameError(
        "the strengths did not converge: some model is all but undefeated; use ridge=", rows=pairs
    )


def likelihood(beta: np.ndarray, pairs: Pairs, with_nu: bool, ridge: float) -> float:
    """Return the log-likelihood of strengths, less the ridge."""
    won, lost, tied = pairs.outcomes
    gap = beta[pairs.i] - beta[pairs.j]
    penalty = ridge / 2 * float(beta[: pairs.size] @ beta[: pairs.size])
    if not with_nu:
        n = won + lost + tied
        return float((won + tied / 2) @ gap - n @ np.logaddexp(0, gap)) - penalty
    total = np.logaddexp(np.logaddexp(gap / 2, -gap / 2), beta[-1])
    return float((won - lost) @ gap / 2 + tied.sum() * beta[-1] - pairs.outcomes.sum(0) @ total) - (
        penalty
    )


def derivatives(
    beta: np.ndarray, pairs: Pairs, with_nu: bool, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score, and the information with the constant direction (which it lacks) added."""
    won, lost, tied = pairs.outcomes
    n = won + lost + tied
    expected, tie = expectations(beta, pairs, with_nu)
    variance = expected * (1 - expected) if tie is None else (expected - tie / 4 - expected**2)
    size = pairs.size
    score = np.zeros(len(beta))
    score[:size] = incidence(pairs, won + tied / 2 - n * expected) - ridge * beta[:size]
    information = np.zeros((len(beta), len(beta)))
    information[:size, :size] = laplacian(pairs, n * variance) + 1 / size
    information[np.diag_indices(size)] += ridge
    if tie is not None:
        score[-1] = tied.sum() - n @ tie
        information[:size, -1] = incidence(pairs, n * tie * (0.5 - expected))
        information[-1, :size] = information[:size, -1]
        information[-1, -1] = n @ (tie * (1 - tie))
    return score, information


def expectations(
    beta: np.ndarray, pairs: Pairs, with_nu: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what i expects from a battle with j (a tie is a half), and the chance of a tie.

    `beta` may have a second dimension: many fits at once.
    """
    gap = beta[pairs.i] - beta[pairs.j]
    with np.errstate(over="ignore"):
        if not with_nu:
            return 1 / (1 + np.exp(-gap)), None
        up = np.exp(gap / 2)
        nu = np.exp(beta[-1])
        total = up + 1 / up + nu
        return (up + nu / 2) / total, nu / total


def incidence(pairs: Pairs, worth: np.ndarray) -> np.ndarray:
    """Return what each model is given where a pair's `worth` goes to i and is taken from j."""
    plus = np.bincount(pairs.i, worth, pairs.size)
    return plus - np.bincount(pairs.j, worth, pairs.size)


def laplacian(pairs: Pairs, weight: np.ndarray) -> np.ndarray:
    """Return the sum over pairs of weight (e_i - e_j)(e_i - e_j)'."""
    matrix = np.zeros((pairs.size, pairs.size))
    matrix[pairs.i, pairs.j] = matrix[pairs.j, pairs.i] = -weight
    matrix[np.diag_indices(pairs.size)] = -matrix.sum(axis=1)
    return matrix


def _more_wins_than_ties(pairs: Pairs) -> bool:
    """Return whether some circle of wins and ties (which go both ways) holds more wins than ties.

    Along a direction in which log nu grows by e, strengths must differ by 2 e or more for each win
    and by 2 e or less for each tie, if the likelihood is not to fall. Such differences exist
    unless, around some circle, wins ask for more than ties allow: a negative cycle.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import NegativeCycleError, bellman_ford

    wins, ties = pairs.tables
    steps = np.where(wins > 0, -1.0, np.where(ties > 0, 1.0, 0.0))
    try:
        bellman_ford(csr_matrix(steps), indices=0)
    except NegativeCycleError:
        return True
    return False


def _groups(label: np.ndarray, models: list[str]) -> str:
    groups = [np.array(models)[label == at].tolist() for at in np.unique(label)[:4]]
    shown = [", ".join(group[:5]) + (" ..." if len(group) > 5 else "") for group in groups]
    return "; ".join(f"({group})" for group in shown) + (" ..." if label.max() > 3 else "")
