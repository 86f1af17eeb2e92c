"""Intervals: held against statsmodels and scipy, and by how often they hold the truth."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from support import examples

from lmjudge.errors import FrameError
from lmjudge.frames import frame
from lmjudge.stats.intervals import estimate, ways, wilson
from lmjudge.stats.regression import clustered_logit
from lmjudge.stats.scores import relative_quality, score_totals

few = examples(40)


def one(values, questions, **more):
    rows = pd.DataFrame({"question_id": questions})
    return estimate(rows, [], top=pd.Series(values, dtype=float), **more).iloc[0]


def test_mean_with_a_row_per_question_is_the_t_interval():
    values = [3.0, 5.0, 9.0, 10.0, 7.5]
    found = one(values, range(5), level=0.9)
    low, high = stats.t.interval(0.9, 4, np.mean(values), stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_clustered_mean_is_the_robust_regression_of_statsmodels():
    rng = np.random.default_rng(3)
    questions = rng.integers(0, 12, 90)
    values = rng.normal(size=90) + questions / 4
    found = one(values, questions)
    fitted = sm.OLS(values, np.ones(90)).fit(
        cov_type="cluster",
        cov_kwds={"groups": questions, "use_correction": False},
    )
    assert found["value"] == pytest.approx(values.mean())
    # CR2 lies a little above the uncorrected variance, by what the clusters' sizes say.
    sums = pd.Series(values - values.mean()).groupby(questions).agg(["sum", "size"])
    variance = (sums["sum"] ** 2 / (1 - sums["size"] / 90)).sum() / 90**2
    assert (sums["sum"] ** 2).sum() / 90**2 == pytest.approx(fitted.bse[0] ** 2)
    assert found["error"] == pytest.approx(np.sqrt(variance))
    half = stats.t.ppf(0.975, found["dof"]) * found["error"]
    assert found["high"] - found["value"] == pytest.approx(half)


def dense_cr2(X, residual, clusters, alike=0.0):
    """CR2 and Satterthwaite's degrees of freedom as papers write them, with n x n matrices.

    `alike` is the correlation of two rows of one cluster that the degrees of freedom suppose.
    """
    n, k = X.shape
    working = (1 - alike) * np.eye(n) + alike * (clusters[:, None] == clusters)
    bread = np.linalg.inv(X.T @ X)
    left = np.eye(n) - X @ bread @ X.T
    meat, pulls = np.zeros((k, k)), []
    for c in np.unique(clusters):
        rows = clusters == c
        values, vectors = np.linalg.eigh(left[np.ix_(rows, rows)])
        adjust = vectors @ np.diag(values**-0.5) @ vectors.T
        score = X[rows].T @ adjust @ residual[rows]
        meat += np.outer(score, score)
        pulls.append(left[:, rows] @ adjust @ X[rows] @ bread)
    dof = []
    for j in range(k):
        p = np.column_stack([pull[:, j] for pull in pulls])
        gram = p.T @ working @ p
        dof.append(np.trace(gram) ** 2 / (gram**2).sum())
    return bread @ meat @ bread, np.array(dof)


def test_small_sample_corrections_are_those_of_the_matrices():
    rng = np.random.default_rng(4)
    questions = np.sort(rng.choice(9, 60, p=np.arange(1, 10) / 45))
    values = rng.normal(size=60) + questions / 3
    found = one(values, questions)
    residual = values - values.mean()
    pairs = [(a, b) for a, b in permutations(range(60), 2) if questions[a] == questions[b]]
    alike = np.mean([residual[a] * residual[b] for a, b in pairs]) / np.mean(residual**2)
    assert 0.1 < alike < 0.9
    covariance, dof = dense_cr2(np.ones((60, 1)), residual, questions, alike)
    assert found["error"] ** 2 == pytest.approx(covariance[0, 0], rel=1e-10)
    assert found["dof"] == pytest.approx(dof[0], rel=1e-10)
    even = one(rng.normal(size=60), np.repeat(range(12), 5))
    assert even["dof"] == pytest.approx(11)


def test_logit_is_that_of_statsmodels_with_dense_cr2():
    rng = np.random.default_rng(8)
    questions = np.sort(rng.choice(11, 150))
    X = np.column_stack([np.ones(150), rng.normal(size=150), questions % 2])
    y = pd.Series(rng.choice([0.0, 0.5, 1.0], 150))
    found = clustered_logit(pd.DataFrame(X, columns=["one", "x", "odd"]), y, pd.Series(questions))
    fitted = sm.GLM(y.to_numpy(), X, family=sm.families.Binomial()).fit(tol=1e-12)
    np.testing.assert_allclose(found["value"], fitted.params, atol=1e-10)
    root = np.sqrt(fitted.mu * (1 - fitted.mu))
    covariance, dof = dense_cr2(X * root[:, None], (y - fitted.mu) / root, questions)
    np.testing.assert_allclose(found["error"], np.sqrt(np.diag(covariance)), rtol=1e-8)
    np.testing.assert_allclose(found["dof"], dof, rtol=1e-8)


@pytest.mark.parametrize(
    ("questions", "voters", "few"), [(20, 5, False), (20, 4, True), (19, 5, True), (5, 20, True)]
)
def test_a_share_needs_twenty_questions_and_five_voters(questions, voters, few):
    rng = np.random.default_rng(1)
    question, voter = (part.ravel() for part in np.indices((questions, voters)))
    rows = pd.DataFrame({"question_id": question, "judge": voter})
    worth = pd.Series((rng.random(len(rows)) < 0.5) * 1.0)
    crossed = ["question_id", "judge"]
    assert estimate(rows, [], top=worth, share=True, cluster=crossed)["too_few"].item() is few
    # A mean of so few voters is flagged all the same.
    assert estimate(rows, [], top=worth, cluster=crossed)["too_few"].item() is True
    pairs = rows.rename(columns={"judge": "voter_x"}).assign(voter_y=(voter + 1) % voters)
    found = estimate(pairs, [], top=worth, share=True, by_way=ways(pairs, crossed))
    assert found["too_few"].item() is True


@pytest.mark.parametrize(("rarer", "few"), [(4, True), (6, False)])
def test_a_share_needs_five_rows_on_the_rarer_side(rarer, few):
    rows = pd.DataFrame({"question_id": range(100)})
    worth = pd.Series(np.arange(100) < rarer) * 1.0
    assert estimate(rows, [], top=worth, share=True)["too_few"].item() is few


@pytest.mark.parametrize(
    ("largest", "rarer", "few"),
    [(1, 0.3, False), (30, 0.3, True), (30, 0.5, False), (4, 0.3, False)],
)
def test_a_share_of_uneven_questions_needs_ten_on_the_rarer_side(largest, rarer, few):
    rng = np.random.default_rng(5)
    # Of 60 questions 20 are large: with 30 votes each they are worth 21 even ones.
    rows = pd.DataFrame({"question_id": np.repeat(range(60), [largest] * 20 + [1] * 40)})
    worth = pd.Series(rng.permutation(len(rows)) < rarer * len(rows)) * 1.0
    assert estimate(rows, [], top=worth, share=True)["too_few"].item() is few


@pytest.mark.parametrize(("busy", "few"), [(10, False), (3, True)])
def test_a_share_of_uneven_voters_needs_five_on_the_rarer_side(busy, few):
    rng = np.random.default_rng(6)
    votes = [(q, v) for v in range(60) for q in range(80) if v < busy or q in (v, v + 1)]
    rows = pd.DataFrame(votes, columns=["question_id", "judge"])
    worth = pd.Series(rng.permutation(len(rows)) < len(rows) / 2) * 1.0
    found = estimate(rows, [], top=worth, share=True, cluster=["question_id", "judge"])
    assert found["too_few"].item() is few


def test_logit_says_what_it_cannot_know():
    x = pd.DataFrame({"one": 1.0, "x": [-2.0, -1.0, 1.0, 2.0] * 3})
    questions = pd.Series(range(12))
    separated = clustered_logit(x, (x["x"] > 0) * 1.0, questions)
    always = clustered_logit(x, x["one"], questions)
    twice = clustered_logit(x.assign(again=x["x"]), x["x"] % 2, questions)
    for found in (separated, always, twice):
        assert found.drop(columns="too_few").isna().all(axis=None)
    won = pd.Series([0.0, 1.0, 0.0, 1.0, 1.0, 0.0] * 2)
    alone = clustered_logit(x, won, questions * 0)
    assert alone["value"].notna().all()
    assert alone[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(("questions", "few"), [(2, True), (19, True), (20, False), (80, False)])
def test_fewer_than_twenty_questions_are_flagged(questions, few):
    number = np.repeat(np.arange(questions), 6)
    values = pd.Series(np.tile([4.0, 5.0, 6.0], 2 * questions) + number % 2)
    rows = pd.DataFrame({"question_id": number})
    assert estimate(rows, [], top=values)["too_few"].item() is few
    worth = pd.Series(np.tile([0.0, 1.0, 0.0, 1.0, 1.0, 0.0], questions))
    assert estimate(rows, [], top=worth, share=True)["too_few"].item() is few
    design = pd.DataFrame({"one": 1.0, "x": np.tile([0.0, 1.0, 2.0], 2 * questions)})
    assert clustered_logit(design, worth, rows["question_id"])["too_few"].eq(few).all()


def test_two_ways_of_clustering_add():
    rng = np.random.default_rng(6)
    question, judge = np.indices((12, 9)).reshape(2, -1)
    values = rng.normal(size=12)[question] + rng.normal(size=9)[judge] + rng.normal(size=108)
    rows = pd.DataFrame({"question_id": question, "judge": judge, "alone": range(108)})
    errors = [
        estimate(rows, [], top=pd.Series(values), cluster=cluster)["error"].iloc[0] ** 2
        for cluster in (["question_id"], ["judge"], ["alone"], ["question_id", "judge"])
    ]
    assert errors[3] == pytest.approx(errors[0] + errors[1] - errors[2])
    with pytest.raises(FrameError, match="expected one or two of the columns"):
        estimate(rows, [], top=pd.Series(values), cluster=["voter"])


def test_wilson_is_statsmodels():
    low, high = wilson(np.array([0.0, 3.0, 7.0]), np.array([7.0, 7.0, 7.0]))
    wanted = proportion_confint(np.array([0, 3, 7]), 7, method="wilson")
    np.testing.assert_allclose([low, high], wanted, atol=1e-15)
    assert np.isnan(wilson(np.array([0.0]), np.array([0.0]))).all()


def test_share_of_independent_rows_is_nearly_wilson():
    values = np.arange(2000) % 4 == 0
    found = one(values, range(2000), share=True)
    low, high = proportion_confint(500, 2000, method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=2e-4)


def test_rows_are_never_worth_more_than_if_they_were_independent():
    found = one([1.0, 0.0] * 39 + [1.0, 1.0], np.repeat(range(40), 2), share=True)
    low, high = proportion_confint(41, 80, method="wilson")
    assert found["low"] < low < high < found["high"]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_share_that_never_varies_still_has_a_width(value):
    found = one([value] * 40, np.repeat(range(8), 5), share=True)
    assert found["low"] == pytest.approx(0, abs=1e-12) or value == 1
    assert found["high"] - found["low"] > 0.3
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1


def test_what_cannot_be_known_is_missing():
    assert np.isnan(one([7.0], [1])[["low", "high"]].astype(float)).all()
    assert np.isnan(one([7.1] * 9, range(9))[["low", "high"]].astype(float)).all()
    assert np.isnan(one([1.0, 0.0], [1, 1], share=True)[["low", "high"]].astype(float)).all()
    none = one([None, None], [1, 2])
    assert (none["n"], none["no_verdict"]) == (0, 2)
    assert np.isnan(none["value"])
    assert one([], [])["n"] == 0


def test_rows_without_a_question_are_clusters_of_their_own():
    values = [1.0, 2.0, 4.0, 8.0]
    alone = one(values, [None] * 4)
    apart = one(values, range(4))
    assert alone.equals(apart)


def test_level_is_checked():
    with pytest.raises(ValueError, match=r"expected a number between 0 and 1"):
        one([1.0], [1], level=95)


@few
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_shares_stay_in_range_and_hold_their_value(rows):
    found = one([value for _, value in rows], [question for question, _ in rows], share=True)
    assert 0 <= found["value"] <= 1
    if not np.isnan(found["low"]):
        assert -1e-12 <= found["low"] <= found["value"] + 1e-12
        assert found["value"] <= found["high"] + 1e-12 <= 1 + 2e-12


@few
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10)), min_size=2, max_size=30))
def test_repeating_rows_inside_their_questions_never_narrows(rows):
    values, questions = [v for _, v in rows], [q for q, _ in rows]
    once, twice = one(values, questions), one(values * 2, questions * 2)
    for column in ("value", "error"):
        assert twice[column] == pytest.approx(once[column], nan_ok=True)
    # Rows twice are more alike, which takes degrees of freedom where questions differ in size.
    even = len(set(map(questions.count, questions))) == 1
    assert pd.isna(once["low"]) or twice["low"] <= once["low"] + 1e-9
    assert not even or twice["low"] == pytest.approx(once["low"], nan_ok=True)


STUDIES = 300


def held(found: pd.DataFrame, truth: float) -> float:
    return ((found["low"] <= truth) & (truth <= found["high"])).mean()


def studies(questions: int, each: int) -> pd.DataFrame:
    study, question, _ = np.indices((STUDIES, questions, each)).reshape(3, -1)
    return pd.DataFrame({"study": study, "question_id": question})


@pytest.mark.parametrize("questions", [10, 80])
def test_means_cover(questions):
    rng = np.random.default_rng(1)
    rows = studies(questions, 4)
    hard = np.repeat(rng.normal(size=STUDIES * questions), 4)
    scores = pd.Series(7 + hard + rng.normal(size=len(rows)))
    assert 0.91 <= held(estimate(rows, ["study"], top=scores), 7) <= 0.985


@pytest.mark.parametrize(("share", "spread"), [(0.5, 4.0), (0.85, 3.0), (0.96, 2.0), (0.96, 200.0)])
def test_shares_cover_near_their_bounds_too(share, spread):
    rng = np.random.default_rng(2)
    rows = studies(80, 5)
    own = np.repeat(rng.beta(share * spread, (1 - share) * spread, STUDIES * 80), 5)
    hits = pd.Series(rng.random(len(rows)) < own)
    assert 0.91 <= held(estimate(rows, ["study"], top=hits, share=True), share) <= 1


@pytest.mark.parametrize("share", [True, False])
def test_intervals_cover_where_few_questions_have_most_rows(share):
    rng = np.random.default_rng(12)
    total = STUDIES * 50
    size = np.minimum(rng.zipf(1.7, total), 40)
    question = np.repeat(np.arange(total), size)
    rows = pd.DataFrame({"study": question // 50, "question_id": question})
    own = rng.beta(1, 1, total)[question]
    values = rng.random(len(rows)) < own if share else 7 + 3 * own + rng.normal(size=len(rows))
    found = estimate(rows, ["study"], top=pd.Series(values) * 1.0, share=share)
    assert 0.94 <= held(found, 0.5 if share else 8.5) <= 0.985


def games(rng: np.random.Generator, strengths: dict[str, float]) -> pd.DataFrame:
    hard = rng.normal(size=40)
    rows = []
    for model, strength in strengths.items():
        scores = {
            "score_a": 6 + strength + hard + rng.normal(size=40),
            "score_b": 7 + hard + rng.normal(size=40),
        }
        rows.append(
            pd.DataFrame(scores).assign(
                question_id=range(40), turn=1, model_a=model, model_b="v", judge="j", sample=0
            )
        )
    made = pd.concat(rows).assign(winner=None, reason=None, text=None, key=None)
    return frame("games", made.to_dict("list"))


@pytest.mark.slow
def test_ratios_and_chained_ratios_cover():
    rng = np.random.default_rng(5)
    direct, chained = [], []
    for _ in range(STUDIES // 2):
        played = games(rng, {"x": 0.0, "base": 2.0})
        direct.append(score_totals(played, baseline="v").set_index("model_a").loc["x"])
        relative = relative_quality(played, baseline="base", via="v").set_index("model")
        chained.append(relative.loc["x"])
    assert 0.91 <= held(pd.DataFrame(direct), 100 * 6 / 7) <= 0.985
    assert 0.91 <= held(pd.DataFrame(chained), 100 * 6 / 8) <= 0.985
