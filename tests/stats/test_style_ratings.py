"""Style held equal: against statsmodels, and against what was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.stats import t

from lmjudge.errors import FrameError
from lmjudge.frames import swap
from lmjudge.stats import bradley_terry, style_effects, style_ratings

STYLE = ["tokens", "lists"]


def drawn(n=1500, models=5, seed=0, effect=0.6):
    """Votes in which longer answers win more often, and better models write longer ones."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, models, n)
    b = (a + rng.integers(1, models, n)) % models
    strength = np.linspace(-0.5, 0.5, models)
    rows = pd.DataFrame({"question_id": rng.integers(0, 80, n)})
    for side, model in (("a", a), ("b", b)):
        rows[f"tokens_{side}"] = rng.poisson(60 * np.exp(strength[model] + rng.normal(0, 0.5, n)))
        rows[f"lists_{side}"] = rng.poisson(2, n)
    x = share(rows, "tokens")
    gap = strength[a] - strength[b] + effect * x
    won = rng.random(n) < 1 / (1 + np.exp(-gap))
    rows["winner"] = np.where(won, "model_a", "model_b").astype(object)
    rows.loc[rng.random(n) < 0.2, "winner"] = "tie"
    rows.loc[rng.random(n) < 0.05, "winner"] = None
    names = np.array([f"m{at}" for at in range(models)], dtype=object)
    return rows.assign(model_a=names[a], model_b=names[b])


def share(rows, name):
    a, b = rows[f"{name}_a"], rows[f"{name}_b"]
    x = ((a - b) / (a + b + 1)).to_numpy()
    return x / np.sqrt((x**2).mean())


@pytest.mark.parametrize("clustered", [False, True])
def test_ratings_effects_and_intervals_are_those_of_statsmodels(clustered):
    votes = drawn()
    known = votes.dropna(subset="winner")
    names = sorted(set(known["model_a"]))
    sides = zip(known["model_a"], known["model_b"], strict=True)
    models = np.array([[(a == m) - (b == m) for m in names] for a, b in sides], float)
    design = np.column_stack([models[:, 1:], *(share(known, name) for name in STYLE)])
    got = known["winner"].map({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}).to_numpy()
    kind = {"cov_type": "HC0"}
    clusters = len(known)
    if clustered:
        groups = known["question_id"].to_numpy()
        clusters = len(set(groups))
        kind = {"cov_type": "cluster", "cov_kwds": {"groups": groups, "use_correction": False}}
    fitted = sm.GLM(got, design, sm.families.Binomial()).fit(tol=1e-14, **kind)
    cluster = "question_id" if clustered else ()
    quantile = t.ppf(0.975, clusters - 1) * np.sqrt(clusters / (clusters - 1))

    effects = style_effects(votes, covariates=STYLE, cluster=cluster)
    np.testing.assert_allclose(effects["effect"], fitted.params[-2:], atol=1e-8)
    np.testing.assert_allclose(
        effects["high"] - effects["effect"], fitted.bse[-2:] * quantile, rtol=1e-6
    )
    assert effects["n"].tolist() == [len(known)] * 2
    assert effects["no_verdict"].tolist() == [len(votes) - len(known)] * 2

    ratings = (
        style_ratings(votes, covariates=STYLE, cluster=cluster).set_index("model").sort_index()
    )
    free = np.append(0, fitted.params[:-2])
    per_unit = 400 / np.log(10)
    np.testing.assert_allclose((ratings["rating"] - 1000) / per_unit, free - free.mean(), atol=1e-8)
    centred = np.vstack([np.zeros(len(names) - 1), np.eye(len(names) - 1)])
    centred = centred - centred.mean(axis=0)
    covariance = fitted.cov_params()[: len(names) - 1, : len(names) - 1]
    error = np.sqrt(np.diag(centred @ covariance @ centred.T))
    half = (ratings["high"] - ratings["rating"]) / per_unit
    np.testing.assert_allclose(half, error * quantile, rtol=1e-6)


def test_a_planted_effect_is_found_and_none_where_none_is():
    planted = style_effects(drawn(4000, effect=0.6), covariates=STYLE).set_index("covariate")
    # Ties, drawn at random, leave 80 % of the votes to show it.
    assert 0.3 < planted.loc["tokens", "low"] < planted.loc["tokens", "high"] < 0.7
    held = [
        style_effects(drawn(400, seed=seed, effect=0), covariates=STYLE)
        .eval("low <= 0 <= high")
        .tolist()
        for seed in range(60)
    ]
    assert 0.88 < np.mean(held) <= 1


def test_what_length_alone_explains_is_taken_out():
    votes = drawn(4000, effect=1.5)
    plain = bradley_terry(votes)["rating"]
    held = style_ratings(votes, covariates=["tokens"])["rating"]
    assert held.max() - held.min() < plain.max() - plain.min() - 20


def test_sides_and_order_do_not_matter():
    votes = drawn(600)
    wanted = style_ratings(votes, covariates=STYLE)
    changed = pd.concat([votes[:300], swap(votes[300:])]).sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(style_ratings(changed, covariates=STYLE), wanted, rtol=1e-8)


def test_a_file_is_read_like_a_frame(tmp_path):
    votes = drawn(300)
    votes.to_parquet(tmp_path / "votes.parquet")
    pd.testing.assert_frame_equal(
        style_ratings(tmp_path / "votes.parquet", covariates=STYLE),
        style_ratings(votes, covariates=STYLE),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.assign(tokens_a=-1), "missing or negative"),
        (lambda v: v.assign(tokens_b=np.nan), "missing or negative"),
        (lambda v: v.assign(tokens_a=5, tokens_b=5), "never differ"),
        (
            lambda v: v.assign(lists_a=v["tokens_a"], lists_b=v["tokens_b"]),
            "follow from one another",
        ),
        (lambda v: v.drop(columns="lists_b"), "lacks lists_b"),
        (lambda v: v.assign(winner="model_a")[v["model_a"] == "m1"], "cannot be compared"),
        (lambda v: v[v["model_a"] == "m1"].assign(winner="tie"), None),
    ],
)
def test_style_that_cannot_be_held_equal_is_said(change, said):
    votes = change(drawn(400))
    if said is None:
        assert len(style_ratings(votes, covariates=STYLE)) == 5
        return
    with pytest.raises(FrameError, match=said):
        style_ratings(votes, covariates=STYLE)


def test_an_undefeated_model_must_be_left_out_or_drawn_in():
    votes = drawn(400)
    votes.loc[votes["model_a"] == "m4", "winner"] = "model_a"
    votes.loc[votes["model_b"] == "m4", "winner"] = "model_b"
    with pytest.raises(FrameError, match="m4 only won or only lost"):
        style_ratings(votes, covariates=STYLE)
    assert np.isfinite(style_ratings(votes, covariates=STYLE, ridge=1.0)["rating"]).all()
    with pytest.raises(ValueError, match="list of names"):
        style_ratings(votes, covariates="tokens")
