"""Few human labels and many of a judge: known answers, brute force, and what holds on average."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from support import examples

import lmjudge as lj
from lmjudge import audit
from lmjudge.errors import FrameError
from lmjudge.frames import frame, swap
from lmjudge.stats.corrected import tuned


def cast(rows: list[tuple[int, str, str, str, str | None]], group: str = "llm") -> pd.DataFrame:
    """Votes: question, model_a, model_b, judge, winner."""
    names = ("question_id", "model_a", "model_b", "judge", "winner")
    more = {"turn": 1, "group": group, "reason": None, "time": None}
    return frame("votes", [dict(zip(names, row, strict=True)) | more for row in rows])


def drawn(seed: int, questions: int = 30, noise: float = 0.25) -> Iterator[pd.DataFrame]:
    """Votes of people on three models, and of a judge that says otherwise in a share of them."""
    rng = np.random.default_rng(seed)
    strength = {"x": 0.8, "y": 0.0, "z": -0.7}
    people, judge = [], []
    for question in range(questions):
        for a, b in (("x", "y"), ("x", "z"), ("y", "z")):
            won = rng.random() < 1 / (1 + np.exp(strength[b] - strength[a]))
            people.append((question, a, b, "anna", "model_a" if won else "model_b"))
            won ^= rng.random() < noise
            judge.append((question, a, b, "j/pair", "model_a" if won else "model_b"))
    yield cast(people, "expert")
    yield cast(judge)


@given(
    labels=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=8, max_size=12),
    seed=st.integers(0, 99),
)
@examples(40)
def test_the_weight_is_the_one_with_the_least_variance(labels: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    judge = rng.choice([0.0, 0.5, 1.0], size=3 * len(labels))
    human = np.append(labels, np.full(2 * len(labels), np.nan))
    number = np.arange(len(judge)) % (len(judge) // 2)
    made = tuned(human, judge, number)
    known = np.isfinite(human)

    def variance(weight: float) -> float:
        pull = np.zeros(len(judge))
        pull[known] = (human[known] - human[known].mean()) / known.sum()
        pull[known] -= weight * (judge[known] - judge[known].mean()) / known.sum()
        pull += weight * (judge - judge.mean()) / len(judge)
        return float((np.bincount(number, pull) ** 2).sum())

    grid = made.weight + np.linspace(-1, 1, 21)
    assert min(map(variance, grid)) >= variance(made.weight) - 1e-12
    of = len(set(number[known]))
    assert made.variance == pytest.approx(variance(made.weight) * of / (of - 2), abs=1e-12)
    off = judge[known].mean() - judge.mean()
    assert made.value == pytest.approx(np.mean(labels) - made.weight * off)


def test_with_all_labels_or_a_judge_of_one_word_it_is_the_humans_mean() -> None:
    human = np.array([1.0, 0.0, 1.0, 1.0, 0.5])
    whole = tuned(human, np.array([0.0, 1.0, 1.0, 0.0, 1.0]), np.arange(5))
    assert (whole.value, whole.weight) == (0.7, 0.0)
    assert whole.human_variance == pytest.approx(human.var(ddof=1) / 5)
    few = tuned(np.array([1.0, 0.0, 1.0, np.nan, np.nan]), np.full(5, 0.5), np.arange(5))
    assert few.value == pytest.approx(2 / 3)
    assert few.weight == 0
    none = tuned(np.full(3, np.nan), np.ones(3), np.arange(3))
    assert np.isnan(none.value)
    assert np.isnan(none.variance)


def test_a_missing_verdict_pulls_neither_way() -> None:
    human = np.array([1.0, 0.0, 1.0, 0.0, np.nan, np.nan])
    judge = np.array([1.0, 0.0, np.nan, 0.0, 1.0, np.nan])
    mean = np.nanmean(judge)
    filled = tuned(human, np.where(np.isnan(judge), mean, judge), np.arange(6))
    assert tuned(human, judge, np.arange(6)) == filled


def test_it_is_unbiased_whatever_the_judge_says_and_its_intervals_hold() -> None:
    rng = np.random.default_rng(0)
    off, held = [], []
    for _ in range(300):
        y = (rng.random(120) < 0.35) * 1.0
        # A judge who is far too kind, and agrees only somewhat.
        f = np.where(rng.random(120) < 0.6, y, (rng.random(120) < 0.9) * 1.0)
        human = np.where(np.arange(120) < 40, y, np.nan)
        made = tuned(human, f, np.arange(120))
        assert made.judged > 0.35
        half = 2.0 * np.sqrt(made.variance)
        off.append(made.value - 0.35)
        held.append(abs(off[-1]) < half)
    assert abs(np.mean(off)) < 4 * np.std(off) / np.sqrt(300)
    assert np.mean(held) > 0.9


def test_win_rates_do_not_depend_on_sides_and_tell_what_a_vote_is_worth() -> None:
    human, votes = drawn(1)
    few = human[human["question_id"] < 12]
    made = audit.corrected_win_rates(votes, few)
    turned = votes["question_id"] % 2 == 0
    mixed = pd.concat([swap(votes[turned]), votes[~turned]])
    pd.testing.assert_frame_equal(made, audit.corrected_win_rates(mixed, few))
    assert made["judge"].unique().tolist() == ["j/pair"]
    raw = lj.win_rates(votes).set_index("model")["win_rate"]
    assert made["judge_rate"].tolist() == pytest.approx(raw[made["model"]].tolist())
    alone = lj.win_rates(few).set_index("model")["win_rate"]
    assert made["human_rate"].tolist() == pytest.approx(alone[made["model"]].tolist())
    assert (made["low"] <= made["win_rate"]).all()
    assert (made["win_rate"] <= made["high"]).all()
    assert (made["n_human"] == 24).all()
    assert made["n"].tolist() == [60, 60, 60]
    assert made["too_few"].all()
    assert (made["per_vote"] >= 0).all()
    assert made["win_rate"].sum() == pytest.approx(1.5, abs=0.2)


def test_a_baseline_and_a_judge_who_is_right_make_intervals_narrower() -> None:
    human, votes = drawn(2, questions=90, noise=0.02)
    few = human[human["question_id"] < 30]
    made = audit.corrected_win_rates(votes, few, baseline="y")
    assert made["model"].tolist() == ["x", "z"]
    assert (made["high"] - made["low"] < made["human_high"] - made["human_low"]).all()
    assert (made["effective"] > 1.5 * made["n_human"]).all()
    with pytest.raises(FrameError, match="baseline 'w'"):
        audit.corrected_win_rates(votes, few, baseline="w")


def test_labels_that_meet_no_vote_are_refused() -> None:
    human, votes = drawn(3)
    with pytest.raises(FrameError, match="Write ids, turns and models"):
        audit.corrected_win_rates(votes, human.assign(turn=2))


def test_a_judge_a_point_too_kind_is_corrected_by_that_point() -> None:
    rng = np.random.default_rng(4)
    rows = []
    for question in range(40):
        for model, mean in (("x", 5.0), ("y", 7.0)):
            value = mean + rng.normal()
            for judge, more in (("kind/single", 1.0), ("anna", 0.0)):
                rows.append((question, model, judge, value + more))
    names = ["question_id", "model", "judge", "score"]
    empty = dict.fromkeys(["reason", "text", "key"])
    scores = pd.DataFrame(rows, columns=names).assign(turn=1, sample=0, **empty)
    kind, human = scores[scores["judge"] == "kind/single"], scores[scores["judge"] == "anna"]
    made = audit.corrected_scores(kind, human[human["question_id"] < 10])
    truth = human.groupby("model")["score"].mean()
    assert made["model"].tolist() == ["x", "y"]
    assert (made["judge_score"] - truth[made["model"]].to_numpy()).tolist() == pytest.approx([1, 1])
    # Ten questions in forty: the weight is near one, not one.
    assert made["score"].tolist() == pytest.approx(truth.tolist(), abs=0.12)
    assert (made["effective"] > 15).all()


def test_ratings_are_those_of_the_people_where_all_is_labelled() -> None:
    human, votes = drawn(5)
    made = audit.corrected_ratings(votes, human).set_index("model")
    oracle = lj.bradley_terry(human).set_index("model")["rating"]
    assert made["weight"].tolist() == [0, 0, 0]
    assert made["rating"].tolist() == pytest.approx(oracle[made.index].tolist(), abs=1e-4)
    judged = lj.bradley_terry(votes).set_index("model")["rating"]
    assert made["judge_rating"].tolist() == pytest.approx(judged[made.index].tolist(), abs=1e-4)


def test_ratings_with_few_labels_follow_a_judge_who_is_right() -> None:
    human, votes = drawn(6, questions=120, noise=0.0)
    made = audit.corrected_ratings(votes, human[human["question_id"] < 40])
    judged = lj.bradley_terry(votes).set_index("model")["rating"]
    weight = made["weight"].iloc[0]
    assert 0.8 < weight <= 1
    near = (made["rating"] - judged[made["model"]].to_numpy()).abs()
    alone = (made["human_rating"] - judged[made["model"]].to_numpy()).abs()
    assert near.sum() < alone.sum()
    assert (made["effective"] > 60).all()
    assert ((made["low"] < made["rating"]) & (made["rating"] < made["high"])).all()


def test_ratings_that_nothing_decides_are_missing() -> None:
    human, votes = drawn(7)
    only_x = human[(human["model_a"] == "x") & (human["winner"] == "model_a")]
    made = audit.corrected_ratings(votes, only_x)
    assert made["human_rating"].isna().all()
    assert made["judge_rating"].notna().all()


def test_where_all_is_a_tie_labels_are_worth_nothing_that_is_known() -> None:
    human, votes = (one.assign(winner="tie") for one in drawn(8))
    made = audit.corrected_ratings(votes, human[human["question_id"] < 9])
    assert made["effective"].isna().all()
    assert made["too_few"].all()


def tasted(seed: int, voters: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Votes of people with tastes on half of what a judge judged."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=voters)
    rows, said = [], []
    for question in range(60):
        odds = 0.4 + rng.normal()
        more = {"question_id": question, "turn": 1, "model_a": "x", "model_b": "y"}
        more |= {"reason": None, "time": None}
        won = rng.random() < 1 / (1 + np.exp(-odds))
        judge = {"judge": "j/p", "group": "llm", "winner": "model_a" if won else "model_b"}
        said.append(more | judge)
        if question % 2:
            continue
        for voter in rng.permutation(voters)[:4]:
            won = rng.random() < 1 / (1 + np.exp(-odds - taste[voter]))
            person = {"judge": f"p{voter}", "group": "crowd"}
            rows.append(more | person | {"winner": "model_a" if won else "model_b"})
    return frame("votes", rows), frame("votes", said)


def test_people_with_tastes_are_clusters_of_corrected_estimates() -> None:
    human, votes = tasted(0)
    crossed = audit.corrected_win_rates(votes, human).set_index("model").loc["x"]
    alone = audit.corrected_win_rates(votes, human, cluster="question_id").set_index("model")
    alone = alone.loc["x"]
    for name in ("win_rate", "weight", "judge_rate", "human_rate"):
        assert crossed[name] == alone[name]
    assert crossed["high"] - crossed["low"] > alone["high"] - alone["low"]
    # The humans' own variance, vote by vote: questions', voters', less both together.
    p = human.assign(worth=(human["winner"] == "model_a") * 1.0)
    p["share"] = 1 / p.groupby("question_id")["worth"].transform("size")
    keys = p["question_id"].nunique()
    mean = (p["worth"] * p["share"]).sum() / keys
    p["pull"] = p["share"] * (p["worth"] - mean) / keys

    def spread(by: list[str]) -> float:
        sums = p.groupby(by)["pull"].sum()
        return float((sums**2).sum() * len(sums) / (len(sums) - 1))

    one, two, both = spread(["question_id"]), spread(["judge"]), spread(["question_id", "judge"])
    variance = max(one + two - both, one, two)
    t = stats.t.ppf(0.975, 11)
    n = mean * (1 - mean) / variance * (stats.norm.ppf(0.975) / t) ** 2
    low, high = proportion_confint(mean * n, n, method="wilson")
    assert crossed["human_low"] == pytest.approx(low, abs=1e-8)
    assert crossed["human_high"] == pytest.approx(high, abs=1e-8)
    rated = audit.corrected_ratings(votes, human)
    before = audit.corrected_ratings(votes, human, cluster="question_id")
    assert rated["rating"].tolist() == before["rating"].tolist()
    assert (rated.eval("high - low") > before.eval("high - low")).all()
    with pytest.raises(FrameError, match="corrected estimates take question_id"):
        audit.corrected_win_rates(votes, human, cluster="turn")
