"""Logistic regression with clustered intervals, and judges' habits estimated beside ratings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check
from lmjudge.stats.grouping import model_of, two_models, worth_of
from lmjudge.stats.intervals import FEW_CLUSTERS, check_level, t_quantile, ways
from lmjudge.stats.text import counts_per_vote


def clustered_logit(
    design: pd.DataFrame, won: pd.Series, cluster: pd.Series, *, level: float = 0.95
) -> pd.DataFrame:
    """Return a row per column of `design`: value (log odds), error, dof, low, high, too_few.

    `won` is between 0 and 1 (a tie is 0.5). The fit is statsmodels' GLM; the variance is CR2 over
    clusters with Satterthwaite's degrees of freedom (Pustejovsky and Tipton 2018), which hold where
    there are few clusters or unequal ones. A column is missing where it is not identified: the
    design is not of full rank, or its rows are separated, so that the best value is infinite;
    intervals are missing with fewer than two clusters, and flagged too_few with fewer than 20.
    """
    check_level(level)
    names, X, y = list(design.columns), design.to_numpy(float), won.to_numpy(float)
    table = pd.DataFrame(np.nan, index=names, columns=["value", "error", "dof", "low", "high"])
    (number,) = ways(cluster.to_frame("question_id"), "question_id")
    table["too_few"] = len(np.unique(number)) < FEW_CLUSTERS
    beta = _fit(X, y)
    if beta is None:
        return table
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
    table["value"] = beta
    if len(norms) < 2:
        return table
    table["error"] = np.sqrt(np.diag(bread @ meat @ bread))
    norm, pull = np.array(norms), np.array(pulls)
    for j, name in enumerate(names):
        u = pull[:, :, j]
        lever = np.einsum("ci,ij,cj->c", u, bread, u)
        cross = bread @ (u.T @ u)
        trace = (norm[:, j] - lever).sum()
        square = (norm[:, j] ** 2).sum() - 2 * (norm[:, j] * lever).sum() + (cross * cross.T).sum()
        table.loc[name, "dof"] = trace**2 / square
    half = t_quantile(table["dof"].to_numpy(), level) * table["error"]
    return table.assign(low=table["value"] - half, high=table["value"] + half)


def _fit(X: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Return the coefficients by statsmodels, or None if there is no single finite maximum."""
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


def judge_terms(
    games: pd.DataFrame,
    answers: pd.DataFrame | None = None,
    *,
    own: Mapping[str, str] | None = None,
    anchor: str | None = None,
    scale: float = 400,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Bradley-Terry ratings with the judges' habits in the same model, and without.

    The log odds that the answer shown first wins a game (a tie is half a win) are the difference of
    the two ratings, plus for each judge a lean to the first place, a lean per doubling of the ratio
    of words (where `answers` are given) and a lean to its own answers (where `own`, or the model in
    the judge's name, is one of the models). A habit that never varies for a judge has no term. The
    fit is one logistic regression, its intervals clustered by question (CR2).

    Columns: kind ("rating", "position", "length", "own"), name (the model, or the judge), value
    (ratings on the scale of Elo, the `anchor` at `initial`, by default the first by name; habits as
    the factor on the odds of winning, 1 being none), plain (the rating with no habit in the model),
    moved (value less plain), too_few (fewer than 20 questions), n (games), low, high (of value),
    no_verdict. Values are missing where the games don't say: a model that only won or lost, models
    that never met. Raises FrameError for an anchor that did not play and answers that are not
    there. Source: Bradley and Terry 1952; the terms are those of Davidson and Beaver 1977 (order)
    and of the arena's style control (2024).
    """
    rows = two_models(check(games, "games"))
    models = sorted({*rows["model_a"], *rows["model_b"]}, key=str)
    if not models:
        raise FrameError("there are no games; give those of two models or more", rows=games)
    first = models[0] if anchor is None else anchor
    if first not in models:
        raise FrameError(f"the anchor {first!r} did not play; models here: {models}", rows=games)
    unread = int(rows["winner"].isna().sum())
    rows = rows[rows["winner"].notna()].reset_index(drop=True)
    won = worth_of(rows["winner"])
    rated = [model for model in models if model != first]
    terms = {
        ("rating", model): 1.0 * (rows["model_a"] == model) - (rows["model_b"] == model)
        for model in rated
    }
    ratings = pd.DataFrame(dict(enumerate(terms.values())), index=rows.index)
    plain = clustered_logit(ratings, won, rows["question_id"], level=level)
    terms |= _habits(rows, answers, dict(own or {}), set(models))
    design = pd.DataFrame(dict(enumerate(terms.values())), index=rows.index)
    fit = clustered_logit(design, won, rows["question_id"], level=level)
    few = bool(fit["too_few"].any())
    tables = []
    unit = scale / np.log(10)
    for at, (kind, name) in enumerate(terms):
        ends = fit.loc[at, ["value", "low", "high"]].to_numpy(float)
        rating = kind == "rating"
        value, low, high = initial + unit * ends if rating else np.exp(ends)
        before = initial + unit * plain.loc[at, "value"] if rating else np.nan
        n = int((terms[kind, name] != 0).sum())
        tables.append((kind, name, value, before, value - before, few, n, low, high))
    alone = int(((rows["model_a"] == first) | (rows["model_b"] == first)).sum())
    zero = ("rating", first, initial, initial, 0.0, few, alone, np.nan, np.nan)
    columns = ["kind", "name", "value", "plain", "moved", "too_few", "n", "low", "high"]
    return pd.DataFrame([zero, *tables], columns=columns).assign(no_verdict=unread)


def _habits(
    rows: pd.DataFrame, answers: pd.DataFrame | None, own: dict[str, str], models: set[str]
) -> dict[tuple[str, str], pd.Series]:
    """Return the terms of each habit and judge by (kind, judge): 0 in the other judges' games."""
    columns: dict[tuple[str, str], pd.Series] = {}
    ratio = None
    if answers is not None:
        words = words_per_vote(rows, answers).clip(lower=1)
        ratio = np.log2(words["words_a"] / words["words_b"])
    for judge in sorted(rows["judge"].unique(), key=str):
        mine = rows["judge"] == judge
        columns["position", judge] = mine * 1.0
        if ratio is not None and ratio[mine].abs().max() > 0:
            columns["length", judge] = ratio.where(mine, 0.0)
        me = own.get(judge, model_of(judge, models))
        if me in models:
            side = 1.0 * (rows["model_a"] == me) - (rows["model_b"] == me)
            if side[mine].any():
                columns["own", judge] = side.where(mine, 0.0)
    return columns
