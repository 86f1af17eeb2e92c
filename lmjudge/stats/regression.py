"""Logistic regression with clustered intervals, and the words of the answers behind a vote."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.stats.intervals import FEW_CLUSTERS, check_level, t_quantile, ways
from lmjudge.stats.text import counts_per_vote


def clustered_logit(
    design: pd.DataFrame, won: pd.Series, cluster: pd.Series, *, level: float = 0.95
) -> pd.DataFrame:
    """A row per column of `design`: value (log odds), error, dof, low, high, too_few.

    `won` is between 0 and 1 (a tie is 0.5). The fit is statsmodels' GLM; the variance is CR2 over
    clusters with Satterthwaite's degrees of freedom (Pustejovsky and Tipton 2018), which hold where
    there are few clusters or unequal ones. A column is missing where it is not identified: the
    design is not of full rank, or its rows are separated, so that the best value is infinite;
    intervals are missing with fewer than two clusters, and flagged too_few with fewer than 20.
    """
    check_level(level)
    names, X, y = list(design.columns), design.to_numpy(float), won.to_numpy(float)
    made = pd.DataFrame(np.nan, index=names, columns=["value", "error", "dof", "low", "high"])
    (number,) = ways(cluster.to_frame("question_id"), "question_id")
    made["too_few"] = len(np.unique(number)) < FEW_CLUSTERS
    beta = _fit(X, y)
    if beta is None:
        return made
    mean = 1 / (1 + np.exp(-X @ beta))
    root = np.sqrt(mean * (1 - mean))
    weighted, residual = X * root[:, None], (y - mean) / root
    bread = np.linalg.inv(weighted.T @ weighted)
    order = np.argsort(number, kind="stable")
    edges = np.flatnonzero(np.diff(number[order])) + 1
    meat, norms, pulls = np.zeros_like(bread), [], []
    for rows in np.split(order, edges):
        mine = weighted[rows]
        # (I - H)^(-1/2) by the eigenvectors of H, of which there are no more than columns.
        left, size, _ = np.linalg.svd(mine @ np.linalg.cholesky(bread), full_matrices=False)
        stretch = 1 / np.sqrt(np.maximum(1 - size**2, 1e-10)) - 1
        adjusted = mine + left @ (stretch[:, None] * (left.T @ mine))
        score = adjusted.T @ residual[rows]
        meat += np.outer(score, score)
        norms.append(((adjusted @ bread) ** 2).sum(axis=0))
        pulls.append(mine.T @ adjusted @ bread)
    made["value"] = beta
    if len(norms) < 2:
        return made
    made["error"] = np.sqrt(np.diag(bread @ meat @ bread))
    norm, pull = np.array(norms), np.array(pulls)
    for j, name in enumerate(names):
        u = pull[:, :, j]
        lever = np.einsum("ci,ij,cj->c", u, bread, u)
        cross = bread @ (u.T @ u)
        trace = (norm[:, j] - lever).sum()
        square = (norm[:, j] ** 2).sum() - 2 * (norm[:, j] * lever).sum() + (cross * cross.T).sum()
        made.loc[name, "dof"] = trace**2 / square
    half = t_quantile(made["dof"].to_numpy(), level) * made["error"]
    return made.assign(low=made["value"] - half, high=made["value"] + half)


def _fit(X: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """The coefficients by statsmodels, or None where there is no finite and single best."""
    import warnings

    # statsmodels.api takes a second more.
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning, PerfectSeparationError

    if len(y) == 0 or np.linalg.matrix_rank(X) < X.shape[1] or y.max() == 0 or y.min() == 1:
        return None
    with warnings.catch_warnings():
        # What goes wrong in the fit is seen in its result, below.
        warnings.simplefilter("ignore")
        try:
            fit = GLM(y, X, family=Binomial()).fit(tol=1e-12)
        except (PerfectSeparationError, ConvergenceWarning, np.linalg.LinAlgError, ValueError):
            return None
    beta = np.asarray(fit.params)
    if not fit.converged or not np.isfinite(beta).all() or np.abs(X @ beta).max() > 25:
        return None
    return beta


def words_per_vote(votes: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the words that the two answers of each vote have at its turn: words_a, words_b."""
    return counts_per_vote(votes, answers, ["words"])
