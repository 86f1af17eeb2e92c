"""Bradley-Terry: known answers, other people's implementations, and what must not matter."""

from __future__ import annotations

import os

import choix
import evalica
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, strategies as st
from scipy.optimize import minimize
from scipy.stats import norm, t
from statsmodels.stats.multitest import multipletests
from support import examples

from lmjudge.data import load_votes
from lmjudge.errors import FrameError, InfiniteRating
from lmjudge.frames import swap
from lmjudge.stats import (
    battles,
    bradley_terry,
    rating_differences,
    sandwich,
    separability,
    win_fractions,
)
from lmjudge.stats.ratings import predicted_wins

PER_UNIT = 400 / np.log(10)


def votes_of(*counts):
    """Votes from (model_a, model_b, a wins, b wins, ties, no verdict)."""
    rows = [
        (a, b, winner)
        for a, b, *times in counts
        for winner, many in zip(("model_a", "model_b", "tie", None), times, strict=False)
        for _ in range(many)
    ]
    return pd.DataFrame(rows, columns=["model_a", "model_b", "winner"])


def drawn(n, models, *, seed=0, ties=0.25, missing=0.0, clusters=None):
    """Votes as Bradley-Terry draws them; each cluster has a leaning of its own."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, models, n)
    b = (a + rng.integers(1, models, n)) % models
    cluster = np.arange(n) if clusters is None else rng.integers(0, clusters, n)
    leaning = 0 if clusters is None else rng.normal(0, 1, (clusters, models))
    strength = np.linspace(-0.8, 0.8, models)
    gap = strength[a] - strength[b]
    if clusters is not None:
        gap = gap + leaning[cluster, a] - leaning[cluster, b]
    won = rng.random(n) < 1 / (1 + np.exp(-gap))
    winner = np.where(won, "model_a", "model_b").astype(object)
    winner[rng.random(n) < ties] = "tie"
    winner[rng.random(n) < missing] = None
    names = np.array([f"m{at:02d}" for at in range(models)], dtype=object)
    return pd.DataFrame(
        {"question_id": cluster, "model_a": names[a], "model_b": names[b], "winner": winner}
    )


def by_model(ratings):
    return ratings.set_index("model").sort_index()


def strengths(ratings):
    return (by_model(ratings)["rating"].to_numpy() - 1000) / PER_UNIT


def test_two_models_have_the_closed_form():
    found = by_model(bradley_terry(votes_of(("x", "y", 7, 3))))
    gap = found.loc["x", "rating"] - found.loc["y", "rating"]
    assert gap == pytest.approx(PER_UNIT * np.log(7 / 3), abs=1e-9)
    # The gap's standard error is 1 / sqrt(n p (1 - p)); each stands half of it from their mean.
    half = t.ppf(0.975, 9) * np.sqrt(1 / (10 * 0.7 * 0.3) * 10 / 9) / 2
    assert found.loc["x", "high"] - found.loc["x", "rating"] == pytest.approx(PER_UNIT * half)
    assert found["n"].tolist() == [10, 10]


def test_the_worked_example_of_wikipedia():
    """Four teams; the strengths that the article 'Bradley-Terry model' arrives at."""
    votes = votes_of(("A", "B", 2, 3), ("A", "D", 1, 4), ("B", "C", 5, 3), ("C", "D", 1, 3))
    p = np.exp(strengths(bradley_terry(votes)))
    found = p / np.exp(np.log(p).mean())
    wanted = {"A": 0.640, "B": 1.043, "C": 0.660, "D": 2.270}
    np.testing.assert_allclose(found, list(wanted.values()), atol=6e-4)


@pytest.mark.parametrize("seed", range(3))
def test_strengths_are_those_of_choix_evalica_and_statsmodels(seed):
    votes = drawn(600, 7, seed=seed, ties=0.3)
    found = strengths(bradley_terry(votes))
    names = sorted(set(votes["model_a"]))
    number = {name: at for at, name in enumerate(names)}
    a, b = votes["model_a"].map(number), votes["model_b"].map(number)
    first = [(i, j) for i, j, w in zip(a, b, votes["winner"], strict=True) if w != "model_b"]
    second = [(j, i) for i, j, w in zip(a, b, votes["winner"], strict=True) if w != "model_a"]
    decided = [
        pair
        for pairs, side in ((first, "model_a"), (second, "model_b"))
        for pair, w in zip(pairs, votes["winner"][votes["winner"].isin([side, "tie"])], strict=True)
        for _ in range(1 if w == "tie" else 2)
    ]
    other = choix.ilsr_pairwise(len(names), decided, max_iter=1000, tol=1e-13)
    np.testing.assert_allclose(found, other - other.mean(), atol=1e-8)

    outcome = votes["winner"].map(
        {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    )
    scored = evalica.bradley_terry(
        votes["model_a"], votes["model_b"], outcome, tolerance=1e-14, limit=100_000
    ).scores.sort_index()
    logs = np.log(scored.to_numpy())
    np.testing.assert_allclose(found, logs - logs.mean(), atol=1e-8)

    design = np.eye(len(names))[a] - np.eye(len(names))[b]
    fitted = sm.GLM(outcomes(votes), design[:, 1:], sm.families.Binomial()).fit(tol=1e-14)
    free = np.append(0, fitted.params)
    np.testing.assert_allclose(found, free - free.mean(), atol=1e-8)


def outcomes(votes):
    return votes["winner"].map({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}).to_numpy()


@pytest.mark.parametrize("clustered", [False, True])
def test_the_sandwich_is_that_of_statsmodels(clustered):
    votes = drawn(800, 6, ties=0.2, clusters=60)
    names = sorted(set(votes["model_a"]))
    design = np.array([[(a == m) - (b == m) for m in names] for a, b in sides(votes)], float)
    kind = {"cov_type": "HC0"}
    clusters = len(votes)
    if clustered:
        clusters = votes["question_id"].nunique()
        kind = {
            "cov_type": "cluster",
            "cov_kwds": {"groups": votes["question_id"].to_numpy(), "use_correction": False},
        }
    fitted = sm.GLM(outcomes(votes), design[:, 1:], sm.families.Binomial()).fit(tol=1e-14, **kind)
    centred = np.vstack([np.zeros(len(names) - 1), np.eye(len(names) - 1)])
    centred = centred - centred.mean(axis=0)
    error = np.sqrt(np.diag(centred @ fitted.cov_params() @ centred.T) * clusters / (clusters - 1))
    found = by_model(bradley_terry(votes, cluster="question_id" if clustered else ()))
    half = ((found["high"] - found["low"]) / 2).to_numpy() / PER_UNIT
    np.testing.assert_allclose(half, error * t.ppf(0.975, clusters - 1), rtol=1e-7)


def sides(votes):
    return zip(votes["model_a"], votes["model_b"], strict=True)


def test_davidsons_ties_are_what_an_optimiser_finds():
    votes = drawn(700, 5, ties=0.35, seed=4)
    names = sorted(set(votes["model_a"]))
    number = {name: at for at, name in enumerate(names)}
    a, b = votes["model_a"].map(number).to_numpy(), votes["model_b"].map(number).to_numpy()
    winner = votes["winner"].to_numpy()

    def loss(beta):
        gap = (beta[a] - beta[b]) / 2
        total = np.log(np.exp(gap) + np.exp(-gap) + np.exp(beta[-1]))
        gain = np.where(winner == "tie", beta[-1], np.where(winner == "model_a", gap, -gap))
        return (total - gain).sum() + beta[:-1].sum() ** 2

    best = minimize(loss, np.zeros(len(names) + 1), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(
        strengths(bradley_terry(votes, ties="davidson")), best[:-1], atol=1e-6
    )


@pytest.mark.parametrize("ties", ["half", "davidson"])
@pytest.mark.parametrize("cluster", [(), "question_id"])
def test_the_bootstrap_spreads_as_the_sandwich_does(ties, cluster):
    votes = drawn(6000, 6, seed=2, ties=0.3, clusters=600)
    robust = by_model(bradley_terry(votes, ties=ties, cluster=cluster))
    drawn_ = by_model(bradley_terry(votes, ties=ties, cluster=cluster, n_boot=2000, seed=1))
    pd.testing.assert_series_equal(robust["rating"], drawn_["rating"])
    ratio = (drawn_["high"] - drawn_["low"]) / (robust["high"] - robust["low"])
    assert ratio.between(0.9, 1.1).all()
    assert ratio.mean() == pytest.approx(1, abs=0.04)


def test_a_seed_repeats_its_draws_and_another_does_not():
    votes = drawn(400, 4)
    one, again, other = (bradley_terry(votes, n_boot=200, seed=seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one, again)
    assert not one["low"].equals(other["low"])


few = examples(15)


@few
@given(st.integers(0, 10_000), st.sampled_from(["half", "davidson"]))
def test_order_sides_and_names_do_not_matter(seed, ties):
    votes = drawn(300, 4, seed=seed, missing=0.1, clusters=40)
    found = by_model(bradley_terry(votes, ties=ties, cluster="question_id"))
    rng = np.random.default_rng(seed)
    some = rng.random(len(votes)) < 0.5
    changed = pd.concat([votes[some], swap(votes[~some])]).sample(frac=1, random_state=1)
    same = by_model(bradley_terry(changed, ties=ties, cluster="question_id"))
    pd.testing.assert_frame_equal(found, same, rtol=1e-8)
    other = {name: f"{9 - int(name[1:])}x" for name in found.index}
    renamed = votes.assign(model_a=votes["model_a"].map(other), model_b=votes["model_b"].map(other))
    same = bradley_terry(renamed, ties=ties, cluster="question_id").set_index("model")
    same = same.loc[[other[name] for name in found.index]].set_axis(found.index)
    pd.testing.assert_frame_equal(found, same, rtol=1e-8)


def test_coded_frames_and_files_in_batches_give_the_same(tmp_path, monkeypatch):
    votes = drawn(900, 5, missing=0.1, clusters=50)
    path = tmp_path / "votes.parquet"
    votes.to_parquet(path, row_group_size=200)
    wanted = bradley_terry(votes)
    coded = votes.astype(dict.fromkeys(["model_a", "model_b", "winner"], "category"))
    pd.testing.assert_frame_equal(bradley_terry(coded), wanted)
    read = battles.read_battles(path, ["question_id"])
    assert all(read[name].dtype == "category" for name in ("model_a", "model_b", "winner"))
    monkeypatch.setattr(battles, "_BATCH", 128)
    for source in (path, str(path), read):
        pd.testing.assert_frame_equal(bradley_terry(source), wanted)
    pd.testing.assert_frame_equal(
        bradley_terry(path, cluster="question_id"), bradley_terry(votes, cluster="question_id")
    )


def test_shards_together_are_the_whole():
    votes = drawn(900, 5)
    names: dict[str, int] = {}
    shards = [battles.code(votes[at::3], names) for at in range(3)]
    merged, whole = battles.tally(shards, names), battles.count(votes)
    assert merged.models == whole.models
    np.testing.assert_array_equal(merged.wins, whole.wins)


def test_rows_repeated_in_clusters_say_nothing_new_and_clusters_copied_do():
    votes = drawn(500, 4, clusters=60)
    width = lambda frame: (frame["high"] - frame["low"]).to_numpy()  # noqa: E731
    wanted = width(by_model(bradley_terry(votes, cluster="question_id")))
    again = width(by_model(bradley_terry(pd.concat([votes] * 3), cluster="question_id")))
    np.testing.assert_allclose(again, wanted, rtol=1e-7)
    copy = votes.assign(question_id=votes["question_id"] + 1000)
    halved = width(by_model(bradley_terry(pd.concat([votes, copy]), cluster="question_id")))
    np.testing.assert_allclose(halved, wanted / np.sqrt(2), rtol=0.02)


def test_a_row_without_a_cluster_is_one_of_its_own():
    votes = drawn(300, 4)
    none = votes.assign(question_id=None)
    pd.testing.assert_frame_equal(bradley_terry(none, cluster="question_id"), bradley_terry(votes))


def test_clusters_without_numba_are_the_same(monkeypatch):
    votes = drawn(900, 5, missing=0.1, clusters=50)
    for ties in ("half", "davidson"):
        fast = bradley_terry(votes, ties=ties, cluster="question_id")
        with monkeypatch.context() as without:
            without.setitem(__import__("sys").modules, "lmjudge.stats.kernels", None)
            assert battles.compiled() is None
            slow = bradley_terry(votes, ties=ties, cluster="question_id")
        pd.testing.assert_frame_equal(fast, slow, rtol=1e-11)


def test_clusters_in_two_threads_are_the_same_and_the_same_each_time(monkeypatch):
    votes = drawn(3000, 6, missing=0.1, clusters=50)
    votes.loc[:1400, "question_id"] = 7  # a cluster that is nearly half of all
    for ties in ("half", "davidson"):
        alone = bradley_terry(votes, ties=ties, cluster="question_id")
        with monkeypatch.context() as many:
            many.setattr(sandwich, "_MANY", 0)
            two = [bradley_terry(votes, ties=ties, cluster="question_id") for _ in range(5)]
            one = votes.assign(question_id=3)
            assert bradley_terry(one, ties=ties, cluster="question_id")["low"].isna().all()
        pd.testing.assert_frame_equal(two[0], alone, rtol=1e-11)
        for again in two:
            pd.testing.assert_frame_equal(again, two[0], check_exact=True)


def test_ratings_shift_to_an_anchor_and_scale():
    votes = drawn(300, 4)
    plain = by_model(bradley_terry(votes))
    moved = by_model(bradley_terry(votes, anchor=("m01", 1114)))
    shift = 1114 - plain.loc["m01", "rating"]
    for column in ("rating", "low", "high"):
        np.testing.assert_allclose(moved[column], plain[column] + shift)
    natural = by_model(bradley_terry(votes, scale=1, base=np.e, initial=0))
    np.testing.assert_allclose(natural["rating"], (plain["rating"] - 1000) / PER_UNIT)
    with pytest.raises(FrameError, match="anchor 'nobody'"):
        bradley_terry(votes, anchor=("nobody", 1))


def test_an_undefeated_model_is_infinite_and_said_to_be():
    votes = votes_of(("x", "y", 5, 3), ("top", "x", 4, 0), ("y", "low", 2, 0), ("z", "x", 2, 3))
    with pytest.warns(InfiniteRating) as told:
        found = by_model(bradley_terry(votes, n_boot=50))
    assert [warning.message.models for warning in told] == [["top"], ["low"]]
    assert found.loc["top", ["rating", "high"]].tolist() == [np.inf, np.inf]
    assert found.loc["low", ["rating", "low"]].tolist() == [-np.inf, -np.inf]
    assert found.loc[["top", "low"], ["low", "high"]].isna().to_numpy().sum() == 2
    assert np.isfinite(found.loc[["x", "y", "z"], "rating"]).all()
    assert found[["rank_low", "rank_high"]].isna().all(axis=1).loc[["top", "low"]].all()
    inner = votes[~votes["model_a"].isin(["top"]) & ~votes["model_b"].isin(["low"])]
    wanted = by_model(bradley_terry(inner))["rating"]
    apart = found.loc[["x", "y", "z"], "rating"] - wanted
    np.testing.assert_allclose(apart, apart.iloc[0])
    assert np.isfinite(bradley_terry(votes, ridge=0.5)["rating"]).all()


def test_shrunk_ratings_have_no_intervals():
    """Those of ridge=1 held 49 to 86 of 100: 40:0 gave a win rate of 94.9 to 96.9 %."""
    found = bradley_terry(votes_of(("x", "y", 40, 0)), ridge=1.0)
    assert np.isfinite(found["rating"]).all()
    limits = ["low", "high", "joint_low", "joint_high", "rank_low", "rank_high"]
    assert found[limits].isna().all().all()
    assert (
        bradley_terry(votes_of(("x", "y", 40, 3)), ridge=1.0, n_boot=9)[limits].isna().all().all()
    )


def test_one_vote_of_a_weak_model_moves_no_other():
    """y went from 796 to 1000 when its one win over x was turned."""
    near = votes_of(("x", "y", 19, 1), ("x", "z", 20, 0))
    turned = votes_of(("x", "y", 20, 0), ("x", "z", 20, 0), ("y", "z", 1, 1))
    with pytest.warns(InfiniteRating):
        one, two = by_model(bradley_terry(near)), by_model(bradley_terry(turned))
    assert abs(one.loc["y", "rating"] - two.loc["y", "rating"]) < 60
    assert one.loc["y", "rating"] < 900


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        (votes_of(("a", "b", 2, 1), ("c", "d", 1, 2)), "never met.*a, b.*c, d"),
        (votes_of(("a", "b", 4, 0)), "cannot be compared"),
        (votes_of(("a", "b", 2, 1), ("c", "d", 1, 2), ("a", "c", 3, 0)), "cannot be compared"),
        (votes_of(("a", "b", 0, 0, 0, 3)), "none of 3 votes has a verdict"),
        (votes_of(), "none of 0 votes"),
        (votes_of(("a", "a", 1, 1)), "both sides"),
        (votes_of(("a", "b", 1, 1)).replace("model_a", "left"), "such as 'left'"),
        (votes_of(("a", None, 1, 1)), "lack model_a or model_b"),
        (votes_of(("a", "b", 1, 1)).drop(columns="winner"), "lacks winner"),
    ],
)
def test_what_cannot_be_rated_is_said(votes, said):
    with pytest.raises(FrameError, match=said):
        bradley_terry(votes)


def test_ridge_rates_what_never_met():
    votes = votes_of(("a", "b", 2, 1), ("c", "d", 1, 2))
    found = by_model(bradley_terry(votes, ridge=1.0))
    assert found.loc["a", "rating"] == pytest.approx(found.loc["d", "rating"])
    assert found["rating"].mean() == pytest.approx(1000)


def test_all_ties_are_equal_ratings_without_a_known_width():
    found = bradley_terry(votes_of(("a", "b", 0, 0, 9), ("b", "c", 0, 0, 9)))
    np.testing.assert_allclose(found["rating"], 1000)
    assert found[["low", "high"]].isna().all().all()
    with pytest.raises(FrameError, match="Davidson"):
        bradley_terry(votes_of(("a", "b", 0, 0, 9)), ties="davidson")


def test_missing_verdicts_are_counted_and_left_out():
    votes = votes_of(("x", "y", 7, 3, 0, 5), ("x", "z", 1, 1, 1, 1), ("y", "z", 2, 2))
    found, without = by_model(bradley_terry(votes)), by_model(bradley_terry(votes.dropna()))
    pd.testing.assert_series_equal(found["rating"], without["rating"])
    assert found["no_verdict"].tolist() == [6, 5, 1]
    assert found["n"].tolist() == [13, 14, 7]


def test_rounds_in_which_a_model_only_won_widen_the_interval():
    votes = votes_of(("x", "y", 30, 1), ("y", "z", 20, 20), ("x", "z", 20, 0))
    found = by_model(bradley_terry(votes, n_boot=300))
    assert found.loc["x", "high"] == np.inf
    assert np.isfinite(found.loc[["y", "z"], ["low", "high"]]).all().all()


def test_ranks_count_those_that_are_surely_better():
    found = bradley_terry(drawn(20_000, 5))
    assert found["rank_low"].tolist() == found["rank_high"].tolist() == [1, 2, 3, 4, 5]
    assert separability(found)["separability"].tolist() == [1.0]
    few_votes = bradley_terry(drawn(60, 5))
    assert few_votes["rank_low"].max() < 5
    assert (few_votes["rank_high"] - few_votes["rank_low"] > 0).all()
    overlap = [
        (one.low > two.high) or (two.low > one.high)
        for at, one in few_votes.iterrows()
        for two in few_votes.iloc[at + 1 :].itertuples()
    ]
    assert separability(few_votes)["separable"].tolist() == [sum(overlap)]


def test_fractions_and_predictions_agree_where_two_models_met():
    votes = votes_of(("x", "y", 7, 3, 4), ("z", "z2", 1, 1, 0, 2))
    found = win_fractions(votes).set_index(["model_a", "model_b"])
    assert found.loc[("x", "y"), "win_fraction"] == pytest.approx(0.7)
    assert found.loc[("y", "x"), "win_fraction"] == pytest.approx(0.3)
    assert found.loc[("z", "z2"), ["n", "no_verdict"]].tolist() == [2, 2]
    half = win_fractions(votes, ties="half").set_index(["model_a", "model_b"])
    assert half.loc[("x", "y"), "win_fraction"] == pytest.approx(9 / 14)
    rated = bradley_terry(votes[votes["model_a"] == "x"])
    predicted = predicted_wins(rated).set_index(["model_a", "model_b"])
    assert predicted.loc[("x", "y"), "win_rate"] == pytest.approx(9 / 14)
    with pytest.raises(FrameError, match="lacks rating"):
        predicted_wins(rated[["model"]])


@pytest.mark.slow
def test_coverage_of_the_sandwich_is_nominal():
    strength = np.linspace(-0.8, 0.8, 5) * PER_UNIT + 1000
    held = [
        by_model(bradley_terry(drawn(400, 5, seed=seed, ties=0)))
        .assign(truth=strength)
        .eval("low <= truth <= high")
        .to_numpy()
        for seed in range(200)
    ]
    share = np.mean(held)
    assert abs(share - 0.95) < 4 * norm.ppf(0.975) * np.sqrt(0.95 * 0.05 / 200 / 2)


@pytest.mark.skipif(
    "LMJUDGE_DATA" not in os.environ, reason="LMJUDGE_DATA is not set: llmfao's votes"
)
def test_ratings_of_released_votes_are_evalicas():
    votes = load_votes("llmfao")
    known = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    other = evalica.bradley_terry(
        votes["model_a"],
        votes["model_b"],
        votes["winner"].map(known),
        tolerance=1e-14,
        limit=100_000,
    )
    logs = np.log(other.scores.sort_index().to_numpy())
    found = bradley_terry(votes, cluster="judge")
    np.testing.assert_allclose(strengths(found), logs - logs.mean(), atol=1e-8)
    assert found["n"].sum() == 2 * len(votes) == 2 * 8931


def crossed(n=900, models=5, seed=0):
    """Votes by people with tastes, on questions with leanings: two ways that cross."""
    rng = np.random.default_rng(seed)
    votes = drawn(n, models, seed=seed, clusters=40)
    voter = rng.integers(0, 25, n)
    taste = pd.DataFrame(rng.normal(0, 1, (25, models)), columns=[f"m{at}" for at in range(models)])
    names = sorted({*votes["model_a"], *votes["model_b"]})
    taste.columns = names
    gap = [
        taste.loc[v, a] - taste.loc[v, b]
        for v, a, b in zip(voter, votes["model_a"], votes["model_b"], strict=True)
    ]
    turned = rng.random(n) < 1 / (1 + np.exp(-2 * np.array(gap)))
    votes["winner"] = np.where(turned, "model_a", "model_b")
    return votes.assign(judge=[f"v{v}" for v in voter], group="crowd", turn=1)


def dense(votes, ways):
    """The covariance of strengths by dense algebra: each way's, added, less that of both."""
    names = sorted({*votes["model_a"], *votes["model_b"]})
    design = np.zeros((len(votes), len(names)))
    for row, (a, b) in enumerate(zip(votes["model_a"], votes["model_b"], strict=True)):
        design[row, names.index(a)], design[row, names.index(b)] = 1, -1
    got = votes["winner"].map({"model_a": 1.0, "model_b": 0.0, "tie": 0.5}).to_numpy()
    beta = np.zeros(len(names))
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        information = design.T @ (design * (p * (1 - p))[:, None]) + 1 / len(names)
        beta = beta + np.linalg.solve(information, design.T @ (got - p))
    bread = np.linalg.inv(information)
    made = []
    for way in [*ways, list(zip(*ways, strict=True))] if len(ways) == 2 else ways:
        codes = pd.factorize(pd.Series(list(way)))[0]
        sums = np.zeros((codes.max() + 1, len(names)))
        np.add.at(sums, codes, design * (got - p)[:, None])
        count = len(sums)
        made.append(bread @ sums.T @ sums @ bread * count / (count - 1))
    return names, beta, made


@pytest.mark.slow
@pytest.mark.parametrize("ways", [["question_id"], ["question_id", "judge"]])
def test_differences_take_the_full_covariance(ways):
    votes = crossed()
    names, beta, parts = dense(votes, [votes[name] for name in ways])
    found = rating_differences(votes, cluster=ways, scale=1, base=np.e)
    clusters = min(votes[name].nunique() for name in ways)
    assert len(found) == 10
    for row in found.itertuples():
        pick = np.zeros(len(names))
        pick[names.index(row.model_a)], pick[names.index(row.model_b)] = 1, -1
        variances = [pick @ part @ pick for part in parts]
        if len(ways) == 2:
            one, two, both = variances
            variances = [max(one + two - both, one, two)]
        half = np.sqrt(variances[0]) * t.ppf(0.975, clusters - 1)
        assert row.difference == pytest.approx(pick @ beta, abs=1e-8)
        assert (row.high - row.low) / 2 == pytest.approx(half, abs=1e-8)
        p = 2 * t.sf(abs(row.difference) / np.sqrt(variances[0]), clusters - 1)
        assert row.p_value == pytest.approx(p, abs=1e-8)
    wanted = multipletests(found["p_value"], method="holm")[1]
    np.testing.assert_allclose(found["p_holm"], wanted, atol=1e-12)
    rated = by_model(bradley_terry(votes, cluster=ways, scale=1, base=np.e, initial=0))
    single = [np.diag(part) for part in parts]
    if len(ways) == 2:
        single = [np.maximum(single[0] + single[1] - single[2], np.maximum(*single[:2]))]
    half = np.sqrt(single[0]) * t.ppf(0.975, clusters - 1)
    np.testing.assert_allclose((rated["high"] - rated["low"]) / 2, half, atol=1e-8)
    joint = np.sqrt(single[0]) * t.ppf(1 - 0.025 / 5, clusters - 1)
    np.testing.assert_allclose((rated["joint_high"] - rated["joint_low"]) / 2, joint, atol=1e-8)


def test_the_default_clusters_are_questions_and_voters(tmp_path):
    votes = crossed()
    default = bradley_terry(votes)
    pd.testing.assert_frame_equal(default, bradley_terry(votes, cluster=["question_id", "judge"]))
    alone = votes.assign(group="llm")
    by_question = bradley_terry(alone, cluster="question_id")
    pd.testing.assert_frame_equal(bradley_terry(alone), by_question)
    bare = bradley_terry(votes[["model_a", "model_b", "winner"]])
    pd.testing.assert_frame_equal(bare, bradley_terry(votes, cluster=()))
    for rows in (votes, alone, alone.drop(columns="group")):
        path = tmp_path / "votes.parquet"
        rows.to_parquet(path)
        pd.testing.assert_frame_equal(bradley_terry(path), bradley_terry(rows))


def test_few_clusters_and_few_losses_are_flagged():
    votes = crossed()
    assert not bradley_terry(votes)["too_few"].any()
    three = votes.assign(judge=votes["judge"].map(lambda name: f"v{int(name[1:]) % 3}"))
    assert bradley_terry(three, cluster="judge")["too_few"].all()
    rare = votes_of(("x", "y", 95, 5), ("y", "z", 50, 50))
    assert by_model(bradley_terry(rare))["too_few"].to_dict() == {"x": True, "y": False, "z": False}


def test_equivalence_takes_a_margin():
    votes = votes_of(("x", "y", 500, 500), ("y", "z", 700, 300), ("x", "z", 700, 300))
    found = rating_differences(votes, margin=50).set_index(["model_a", "model_b"])
    close = found.loc[[("x", "y")]]["p_equivalent"].iloc[0]
    assert close < 0.01
    assert found.loc[[("x", "z")]]["p_equivalent"].iloc[0] > 0.99
    with pytest.raises(ValueError, match="margin is 0"):
        rating_differences(votes, margin=0)
    assert len(rating_differences(votes, baseline="z")) == 2
    with pytest.raises(FrameError, match="baseline 'nobody'"):
        rating_differences(votes, baseline="nobody")


def test_equal_models_are_rarely_ranked_apart():
    """Ten equal models: at most one study of twenty ranks any of them below another."""
    wrong = sum((bradley_terry(equal(seed))["rank_low"] > 1).any() for seed in range(60))
    assert wrong <= 8


def equal(seed):
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(10, 1)
    a, b = np.tile(a, 12), np.tile(b, 12)
    winner = np.where(rng.random(len(a)) < 0.5, "model_a", "model_b")
    names = np.array([f"m{at}" for at in range(10)])
    return pd.DataFrame(
        {
            "question_id": np.repeat(np.arange(60), 9),
            "model_a": names[a],
            "model_b": names[b],
            "winner": winner,
        }
    )


def test_davidsons_maximum_exists_where_a_circle_has_more_wins_than_ties():
    votes = votes_of(("a", "b", 1, 0), ("b", "c", 1, 0), ("a", "c", 0, 0, 1))
    found = by_model(bradley_terry(votes, ties="davidson", scale=1, base=np.e, initial=0))

    def loss(at):
        strength = {"a": at[0], "b": at[1], "c": -at[0] - at[1]}
        total = 0.0
        for one, two, tied in (("a", "b", False), ("b", "c", False), ("a", "c", True)):
            gap = (strength[one] - strength[two]) / 2
            total -= (at[2] if tied else gap) - np.log(np.exp(gap) + np.exp(-gap) + np.exp(at[2]))
        return total

    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-10})
    wanted = [best.x[0], best.x[1], -best.x[0] - best.x[1]]
    np.testing.assert_allclose(found["rating"], wanted, atol=1e-6)
    for none in (
        votes_of(("a", "b", 1, 0), ("b", "a", 0, 0, 1)),  # as many wins as ties
        votes_of(("a", "b", 0, 0, 2)),
    ):
        with pytest.raises(FrameError, match="more wins than ties"):
            bradley_terry(none, ties="davidson")
