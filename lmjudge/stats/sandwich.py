"""Sandwich covariances of strengths: of single battles, or of clusters of them.

Clusters are summed as in `intervals`: with the correction C / (C - 1), and Student's quantile with
C - 1 degrees of freedom. Without clusters each battle is one of its own (White's HC0 but for that
correction).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.stats import battles
from lmjudge.stats.strengths import Fit, Pairs, expectations, incidence, laplacian

_CHUNK = 1 << 11


def errors(fit: Fit, meat: np.ndarray, clusters: int) -> np.ndarray:
    """The standard error of each rated strength; missing where nothing varies, or one cluster."""
    from scipy import linalg

    size = len(fit.rated)
    root = linalg.solve(fit.information, np.eye(len(fit.information)), assume_a="pos")[:size]
    variance = np.einsum("ij,jk,ik->i", root, meat, root, optimize=True)
    # What is left of exact zeros after floating-point sums is no variance.
    variance[variance < 1e-20] = np.nan
    return np.sqrt(variance * clusters / (clusters - 1)) if clusters > 1 else variance * np.nan


def of_battles(fit: Fit) -> tuple[np.ndarray, int]:
    """The sum over battles of the score's outer product, and how many battles there are."""
    pairs, (gap, tie) = fit.pairs, _residuals(fit)
    size = pairs.size
    made = np.zeros_like(fit.information)
    made[:size, :size] = laplacian(pairs, (pairs.outcomes * gap**2).sum(axis=0))
    if tie is not None:
        made[:size, -1] = incidence(pairs, (pairs.outcomes * gap * tie).sum(axis=0))
        made[-1, :size] = made[:size, -1]
        made[-1, -1] = (pairs.outcomes * tie**2).sum()
    return made, int(pairs.outcomes.sum())


def of_clusters(fit: Fit, rows: Rows) -> tuple[np.ndarray, int]:
    """The sum over clusters of the score's outer product, and how many clusters there are."""
    from scipy import sparse

    width = len(fit.information)
    gap, tie = _residuals(fit)
    scores, owners, places = (
        [gap[rows.outcome, rows.pair]],
        [rows.cluster],
        [fit.pairs.i[rows.pair]],
    )
    scores.append(-scores[0])
    owners.append(rows.cluster)
    places.append(fit.pairs.j[rows.pair])
    if tie is not None:
        scores.append(tie[rows.outcome, rows.pair])
        owners.append(rows.cluster)
        places.append(np.full(len(rows.pair), width - 1))
    total = sparse.coo_matrix(
        (np.concatenate(scores), (np.concatenate(owners), np.concatenate(places))),
        shape=(rows.clusters, width),
    ).tocsr()
    made = np.zeros((width, width))
    for start in range(0, rows.clusters, _CHUNK):
        part = total[start : start + _CHUNK].toarray()
        made += part.T @ part
    return made, rows.clusters


class Rows:
    """The rated battles one by one: their pair, outcome and cluster, by number.

    Only what clusters need is kept; `pair` and `outcome` index `Pairs.outcomes`.
    """

    def __init__(self, votes: battles.Votes, column: str, models: list[str], pairs: Pairs) -> None:
        frame = battles.in_memory(votes, [column])
        number: dict[str, int] = {}
        coded = battles.code(frame, number)
        place = np.full(len(number) + 1, -1, dtype=np.int32)
        for at, name in enumerate(models):
            place[number[name]] = at
        # For both orders of each pair its number, once as it stands and once turned.
        lookup = np.full((len(number), len(number)), -1, dtype=np.int32)
        rated = np.array([number[name] for name in models])
        lookup[rated[pairs.i], rated[pairs.j]] = np.arange(len(pairs.i))
        lookup[rated[pairs.j], rated[pairs.i]] = np.arange(len(pairs.i))
        pair = lookup[coded.a, coded.b]
        used = (pair >= 0) & (coded.outcome < battles.NO_VERDICT)
        turned = (place[coded.a] > place[coded.b]) & (coded.outcome < 2)
        self.pair = pair[used]
        self.outcome = np.where(turned, 1 - coded.outcome, coded.outcome)[used]
        # Clusters whose every vote is left out are none.
        self.cluster, found = pd.factorize(battles.clusters(frame[column])[used])
        self.clusters = len(found)


def _residuals(fit: Fit) -> tuple[np.ndarray, np.ndarray | None]:
    """For each outcome and pair: the score for the gap between its models, and for log nu."""
    beta = np.zeros(len(fit.information))
    beta[: len(fit.rated)] = fit.strength[fit.rated]
    if fit.log_nu is None:
        expected, _ = expectations(beta, fit.pairs, False)
        return np.array([[1.0], [0.0], [0.5]]) - expected, None
    beta[-1] = fit.log_nu
    expected, tie = expectations(beta, fit.pairs, True)
    return np.array([[1.0], [0.0], [0.5]]) - expected, np.array([[0.0], [0.0], [1.0]]) - tie
