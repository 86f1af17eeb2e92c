"""What benchmarks/ratings.py runs beside ours: each peer as it is meant to be used.

FastChat's methods are written out from its published `rating_systems.py` (Apache-2.0): counts of
unique rows, L-BFGS with gtol 1e-6, bootstrap by multinomial weights; for Elo a loop over battles,
and a matrix of battles x rounds resampled numbers. Each gives (frame of ratings, by how much its
time is to be multiplied).
"""

from __future__ import annotations

import math
import os
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import expit

POINTS = 400 / math.log(10)


def table(models, ratings, low=None, high=None):
    made = pd.DataFrame({"model": models, "rating": ratings})
    return made if low is None else made.assign(low=low, high=high)


def matchups_of(frame):
    codes, models = pd.factorize(pd.concat([frame["model_a"], frame["model_b"]]))
    return np.column_stack([codes[: len(frame)], codes[len(frame) :]]), list(models)


def outcomes_of(frame):
    made = np.full(len(frame), 0.5)
    made[frame["winner"] == "model_a"] = 1.0
    made[frame["winner"] == "model_b"] = 0.0
    return made


def fastchat_elo(frame, path):
    matchups, models = matchups_of(frame)
    outcomes, alpha = outcomes_of(frame), math.log(10) / 400
    ratings = np.full(len(models), 1000.0)
    for (a, b), outcome in zip(matchups, outcomes, strict=True):
        change = 4 * (outcome - 1 / (1 + math.exp(alpha * (ratings[b] - ratings[a]))))
        ratings[a] += change
        ratings[b] -= change
    return table(models, ratings), 1


def fastchat_elo_bootstrap(frame, path, rounds=1000):
    """At 1.7M battles the matrix alone takes 13.6 GB: only the first hundredth is resampled.

    Its ratings are then not the whole's, so that they are shown as missing.
    """
    share = 100 if len(frame) > 100_000 else 1
    matchups, models = matchups_of(frame)
    outcomes, alpha = outcomes_of(frame), math.log(10) / 400
    drawn = np.random.default_rng(0).integers(0, len(frame), (len(frame) // share, rounds))
    ratings, here = np.zeros((rounds, len(models))), np.arange(rounds)
    for rows in drawn:
        a, b = matchups[rows, 0], matchups[rows, 1]
        chance = expit(alpha * (ratings[here, a] - ratings[here, b]))
        change = 4 * (outcomes[rows] - chance)
        ratings[here, a] += change
        ratings[here, b] -= change
    low, median, high = np.quantile(ratings + 1000, [0.025, 0.5, 0.975], axis=0)
    if share > 1:
        median = low = high = np.full(len(models), np.nan)
    return table(models, median, low, high), share


def unique_rows(frame):
    matchups, models = matchups_of(frame)
    schedule = np.full((len(frame), 3), 1, dtype=np.int32)
    schedule[:, :2] = matchups
    schedule[frame["winner"] == "model_a", 2] = 2
    schedule[frame["winner"] == "model_b", 2] = 0
    rows, weights = np.unique(schedule, return_counts=True, axis=0)
    return rows[:, :2], rows[:, 2] / 2.0, weights.astype(float), models


def loss_of(ratings, matchups, outcomes, weights, alpha):
    each = ratings[matchups]
    chance = expit(alpha * (each[:, 0] - each[:, 1]))
    loss = -((np.log(chance) * outcomes + np.log(1 - chance) * (1 - outcomes)) * weights).sum()
    slope = -alpha * (outcomes - chance) * weights
    gradient = np.zeros_like(ratings)
    np.add.at(gradient, matchups, slope[:, None] * np.array([1.0, -1.0]))
    return loss, gradient


def descend(matchups, outcomes, models, weights):
    return minimize(
        loss_of,
        np.zeros(models),
        args=(matchups, outcomes, weights, math.log(10)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 100, "gtol": 1e-6},
    ).x


def fastchat_fit(frame, path):
    matchups, outcomes, weights, models = unique_rows(frame)
    return table(models, 400 * descend(matchups, outcomes, len(models), weights)), 1


def fastchat_bootstrap(frame, path):
    rounds = 1000 if len(frame) < 100_000 else 20
    matchups, outcomes, weights, models = unique_rows(frame)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(frame), weights / weights.sum(), size=rounds) / len(frame)
    fit = partial(descend, matchups, outcomes, len(models))
    with get_context("fork").Pool(os.cpu_count()) as pool:
        ratings = 400 * np.array(list(pool.imap_unordered(fit, drawn)))
    ratings -= ratings.mean(axis=1, keepdims=True)
    low, high = np.quantile(ratings, [0.025, 0.975], axis=0)
    return table(models, ratings.mean(axis=0), low, high), 1000 / rounds


def fastchat_style(frame, path):
    names = [str(name)[:-2] for name in frame.columns if str(name).endswith("_a")][1:]
    matchups, models = matchups_of(frame)
    outcomes, size = outcomes_of(frame), len(models)
    a, b = (frame[[f"{name}_{side}" for name in names]].to_numpy(float) for side in "ab")
    features = (a - b) / (a + b + 1)
    features = (features - features.mean(axis=0)) / features.std(axis=0)

    def loss(beta):
        each = beta[matchups]
        chance = expit(math.log(10) * (each[:, 0] - each[:, 1]) + features @ beta[size:])
        value = -(np.log(chance) * outcomes + np.log(1 - chance) * (1 - outcomes)).sum()
        error = outcomes - chance
        gradient = 0.5 * beta
        slope = -math.log(10) * error[:, None] * np.array([1.0, -1.0])
        np.add.at(gradient[:size], matchups, slope)
        gradient[size:] -= features.T @ error
        return value + 0.25 * beta @ beta, gradient

    found = minimize(
        loss,
        np.zeros(size + len(names)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 100, "gtol": 1e-6},
    ).x
    return table(models, 400 * found[:size]), 1


def evalica_winners(frame):
    import evalica

    known = {
        "model_a": evalica.Winner.X,
        "model_b": evalica.Winner.Y,
        "tie": evalica.Winner.Draw,
    }
    return frame["winner"].map(known).tolist()


def evalica_elo(frame, path):
    import evalica

    winners = evalica_winners(frame)
    found = evalica.elo(frame["model_a"].tolist(), frame["model_b"].tolist(), winners).scores
    return table(list(found.index), found.to_numpy()), 1


def evalica_fit(frame, path):
    import evalica

    winners = evalica_winners(frame)
    a, b = frame["model_a"].tolist(), frame["model_b"].tolist()
    found = evalica.bradley_terry(a, b, winners, tolerance=1e-8, limit=1000).scores
    return table(list(found.index), POINTS * np.log(found.to_numpy())), 1


def choix_fit(frame, path):
    """choix takes a matrix: made in the quickest way that pandas and numpy have."""
    import choix

    matchups, models = matchups_of(frame)
    outcomes, size = outcomes_of(frame), len(models)
    cell = matchups[:, 0] * size + matchups[:, 1]
    wins = np.bincount(cell, outcomes, size**2).reshape(size, size)
    losses = np.bincount(cell, 1 - outcomes, size**2).reshape(size, size)
    found = choix.ilsr_pairwise_dense(wins + losses.T, max_iter=1000)
    return table(models, POINTS * found), 1


def choix_crosstab(frame, path):
    """The matrix that choix takes, as pandas makes it: tables of winners and losers, and of ties."""
    import choix

    tie, first = frame["winner"] == "tie", frame["winner"] == "model_a"
    won = frame["model_a"].where(first, frame["model_b"])
    lost = frame["model_b"].where(first, frame["model_a"])
    models = sorted(set(frame["model_a"]) | set(frame["model_b"]))
    wins, ties = (
        pd.crosstab(won[which], lost[which])
        .reindex(models, axis=0, fill_value=0)
        .reindex(models, axis=1, fill_value=0)
        .to_numpy(float)
        for which in (~tie, tie)
    )
    found = choix.ilsr_pairwise_dense(wins + (ties + ties.T) / 2, max_iter=1000)
    return table(models, POINTS * found), 1


def choix_pairs(frame, path):
    """choix's own way: a list of (winner, loser), a tie as one of each and a win twice."""
    import choix

    matchups, models = matchups_of(frame)
    outcomes, turned = outcomes_of(frame), matchups[:, ::-1]
    won = np.repeat(matchups, (2 * outcomes).astype(int), axis=0)
    lost = np.repeat(turned, (2 - 2 * outcomes).astype(int), axis=0)
    pairs = [*map(tuple, won.tolist()), *map(tuple, lost.tolist())]
    return table(models, POINTS * choix.ilsr_pairwise(len(models), pairs, max_iter=1000)), 1


def statsmodels_sandwich(frame, path):
    import statsmodels.api as sm

    matchups, models = matchups_of(frame)
    unit = np.eye(len(models))
    design = (unit[matchups[:, 0]] - unit[matchups[:, 1]])[:, 1:]
    found = sm.GLM(outcomes_of(frame), design, sm.families.Binomial()).fit(
        cov_type="HC0", tol=1e-12
    )
    centred = np.vstack([np.zeros(len(models) - 1), np.eye(len(models) - 1)])
    centred -= centred.mean(axis=0)
    half = 1.959964 * POINTS * np.sqrt(np.diag(centred @ found.cov_params() @ centred.T))
    rating = POINTS * (centred @ found.params)
    return table(models, rating, rating - half, rating + half), 1


def arena_sandwich(frame, path):
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    data = PairDataset.from_pandas(frame)
    found = BradleyTerry(n_competitors=data.n_competitors).compute_ratings_and_cis(data)
    limits = (np.asarray(found[f"rating_{side}"]) for side in ("lower", "upper"))
    return table(found["competitors"], np.asarray(found["ratings"]), *limits), 1
