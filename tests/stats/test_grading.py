"""Judges that grade one answer against people: every value has an independent oracle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, strategies as st
from scipy import stats
from sklearn.metrics import brier_score_loss, cohen_kappa_score, roc_curve
from statsmodels.formula.api import ols
from support import examples

from lmjudge.errors import FrameError
from lmjudge.stats.grading import (
    best_threshold,
    compare_graders,
    icc,
    in_first_half,
    pass_rates,
    pass_shares,
    rogan_gladen,
    score_agreement,
    score_levels,
)
from lmjudge.stats.interrater import gold_accuracy
from lmjudge.stats.probabilities import brier_scores, calibration, cascade

EXACT = 1e-8


def scores(judge: str | None, values: object, *, models: int = 5, first: int = 0) -> pd.DataFrame:
    """Scores of one judge, `models` answers a question."""
    score = np.asarray(values, float)
    at = np.arange(len(score))
    return pd.DataFrame(
        {
            "question_id": first + at // models,
            "turn": 1,
            "model": [f"m{number}" for number in at % models],
            "judge": judge,
            "sample": 0,
            "score": score,
            "reason": None,
            "text": "",
            "key": None,
        }
    )


@pytest.fixture(scope="module")
def two() -> tuple[np.ndarray, np.ndarray]:
    """What people gave, and a judge that is near it: 60 questions of five answers."""
    rng = np.random.default_rng(5)
    people = rng.integers(1, 6, 300)
    return people, np.clip(people + rng.integers(-1, 3, 300), 1, 5)


def measures(table: pd.DataFrame, judge: str = "j") -> pd.Series:
    return table[table["judge"] == judge].set_index("measure")["value"]


@pytest.mark.parametrize("weights", ["quadratic", "linear"])
def test_coefficients_are_those_of_scipy_scikit_learn_and_statsmodels(two, weights) -> None:
    people, judge = two
    table = score_agreement(scores("j", judge), scores("p", people), weights=weights)
    found = measures(table)
    assert found["spearman"] == pytest.approx(stats.spearmanr(judge, people).statistic, abs=EXACT)
    assert found["kendall"] == pytest.approx(stats.kendalltau(judge, people).statistic, abs=EXACT)
    kappa = cohen_kappa_score(judge, people, weights=weights)
    assert found["weighted kappa"] == pytest.approx(kappa, abs=EXACT)
    assert found["mean error"] == pytest.approx((judge - people).mean(), abs=EXACT)
    long = pd.DataFrame(
        {
            "score": np.concatenate([judge, people]),
            "grader": np.repeat(["j", "p"], 300),
            "answer": np.tile(np.arange(300), 2),
        }
    )
    square = sm.stats.anova_lm(ols("score ~ C(answer) + C(grader)", long).fit())["mean_sq"]
    rows, columns, error = square["C(answer)"], square["C(grader)"], square["Residual"]
    absolute = (rows - error) / (rows + error + 2 * (columns - error) / 300)
    assert found["icc"] == pytest.approx(absolute, abs=EXACT)


def test_icc_of_four_graders_is_shrout_and_fleiss_own_example() -> None:
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert icc(np.array(table)) == pytest.approx(0.28976378, abs=EXACT)


def test_the_interval_of_a_correlation_is_fishers_with_the_jackknifes_error(two) -> None:
    people, judge = two
    row = score_agreement(scores("j", judge), scores("p", people)).iloc[0]
    question = np.arange(300) // 5
    less = [
        stats.spearmanr(judge[question != one], people[question != one]).statistic
        for one in range(60)
    ]
    error = np.sqrt(59 / 60 * ((less - np.mean(less)) ** 2).sum()) / (1 - row["value"] ** 2)
    half = stats.t.ppf(0.975, 59) * error
    ends = np.tanh(np.arctanh(row["value"]) + np.array([-half, half]))
    assert row[["low", "high"]].tolist() == pytest.approx(ends.tolist(), abs=EXACT)


def test_intervals_of_correlations_hold_where_questions_differ() -> None:
    rng = np.random.default_rng(11)
    whole = rng.normal(size=(200_000, 1))
    truth = np.corrcoef(*_graded(rng, whole, 3).reshape(2, -1))[0, 1]
    held = 0
    for _ in range(60):
        judge, people = _graded(rng, rng.normal(size=(40, 1)), 3)
        table = score_agreement(
            scores("j", judge.ravel(), models=3), scores("p", people.ravel(), models=3)
        )
        row = table[table["measure"] == "spearman"].iloc[0]
        # Spearman's of a binormal pair is a little under Pearson's.
        rank = 6 / np.pi * np.arcsin(truth / 2)
        held += row["low"] <= rank <= row["high"]
    assert held >= 52  # 57 of 60 are expected


def _graded(rng: np.random.Generator, quality: np.ndarray, models: int) -> np.ndarray:
    """Two graders' marks of answers whose question makes all of them better or worse."""
    answer = quality + rng.normal(size=(len(quality), models))
    return np.array([answer + rng.normal(size=answer.shape) for _ in range(2)])


@examples(12)
@given(st.integers(0, 1000), st.sampled_from(["shift", "reverse", "stretch"]))
def test_ranks_do_not_see_a_shift_and_turn_round_with_the_scale(seed: int, how: str) -> None:
    rng = np.random.default_rng(seed)
    people, judge = rng.integers(1, 8, (2, 60))
    change = {"shift": judge + 3, "reverse": 8 - judge, "stretch": judge * 2.5}[how]
    before, after = (
        measures(score_agreement(scores("j", x), scores("p", people))) for x in (judge, change)
    )
    sign = -1 if how == "reverse" else 1
    for name in ("spearman", "kendall"):
        assert after[name] == pytest.approx(sign * before[name], abs=EXACT)
    if how == "shift":
        assert after["mean error"] == pytest.approx(before["mean error"] + 3, abs=EXACT)


def test_a_constant_judge_has_no_correlation_and_no_agreement_beyond_chance(two) -> None:
    people, _ = two
    found = measures(score_agreement(scores("j", np.full(300, 3)), scores("p", people)))
    assert found[["spearman", "kendall"]].isna().all()
    assert found["weighted kappa"] == pytest.approx(0, abs=EXACT)


def test_people_among_themselves_are_compared_two_by_two(two) -> None:
    people, judge = two
    both = pd.concat([scores("ann", people), scores("bob", judge)], ignore_index=True)
    table = score_agreement(both)
    assert set(table["judge"]) == {"people"}
    assert table["n"].unique().tolist() == [300]
    doubled = np.concatenate([people, judge]), np.concatenate([judge, people])
    assert measures(table, "people")["spearman"] == pytest.approx(
        stats.spearmanr(*doubled).statistic, abs=EXACT
    )
    assert measures(table, "people")["mean error"] == pytest.approx(0, abs=EXACT)
    assert score_agreement(scores("ann", people)).empty


def test_two_judges_are_compared_on_the_answers_that_both_graded(two) -> None:
    people, judge = two
    noisy = np.clip(judge + np.random.default_rng(1).integers(-2, 3, 300), 1, 5)
    part = scores("noisy", noisy).iloc[:200]
    table = compare_graders(pd.concat([scores("j", judge), part]), scores("p", people))
    row = table.iloc[0]
    assert row[["judge_a", "judge_b", "n", "no_verdict"]].tolist() == ["j", "noisy", 200, 100]
    first = stats.spearmanr(judge[:200], people[:200]).statistic
    second = stats.spearmanr(noisy[:200], people[:200]).statistic
    assert row["difference"] == pytest.approx(first - second, abs=EXACT)
    assert row["low"] < row["difference"] < row["high"]
    with pytest.raises(ValueError, match="measure is 'mean error'"):
        compare_graders(part, scores("p", people), measure="mean error")


@pytest.mark.parametrize("of", ["human", "judge"])
def test_the_error_at_each_level_is_a_mean(two, of) -> None:
    people, judge = two
    table = score_levels(scores("j", judge), scores("p", people), of=of).set_index("level")
    at = people if of == "human" else judge
    for level in range(1, 6):
        error = (judge - people)[at == level]
        assert table.loc[level, "error"] == pytest.approx(error.mean(), abs=EXACT)
        assert table.loc[level, "n"] == len(error)
    fine = np.random.default_rng(0).uniform(0, 100, 300)
    assert len(score_levels(scores("j", fine), scores("p", fine))) == 10


def test_rates_of_a_yes_or_no_judge_are_counts_and_kappa_is_scikit_learns(two) -> None:
    people, judge = two
    label, said = (people >= 4).astype(int), (judge >= 4).astype(int)
    found = pass_rates(scores("j", said), scores("p", label)).set_index("measure")["value"]
    assert found["accuracy"] == pytest.approx((label == said).mean(), abs=EXACT)
    assert found["true positive rate"] == pytest.approx(said[label == 1].mean(), abs=EXACT)
    assert found["false positive rate"] == pytest.approx(said[label == 0].mean(), abs=EXACT)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(label, said), abs=EXACT)
    # A score frame may say 3 and 7 for fail and pass.
    other = pass_rates(scores("j", said), scores("p", 3 + 4 * label)).set_index("measure")["value"]
    assert other.tolist() == pytest.approx(found.tolist(), abs=EXACT)
    with pytest.raises(FrameError, match="5 values"):
        pass_rates(scores("j", said), scores("p", people))


def test_a_threshold_is_chosen_on_one_half_and_reported_on_the_other(two) -> None:
    people, judge = two
    label = (people >= 4).astype(int)
    fine = judge + np.random.default_rng(2).normal(scale=0.3, size=300)
    graded, labels = scores("j", fine), scores("p", label)
    table = pass_rates(graded, labels)
    rows = graded.assign(said=fine, human=label)
    first = rows["question_id"].map(lambda name: in_first_half(name, 0))
    assert 0.3 < first.mean() < 0.7
    half = rows[first]
    false, true, cuts = roc_curve(half["human"], half["said"], drop_intermediate=False)
    chosen = table["threshold"].iloc[0]
    assert chosen in cuts[np.isclose(true - false, (true - false).max())]
    rest = rows[~first]
    expected = ((rest["said"] >= chosen) == (rest["human"] == 1)).mean()
    assert table.set_index("measure")["value"]["accuracy"] == pytest.approx(expected, abs=EXACT)
    assert table["n"].iloc[0] == len(rest)
    fixed = pass_rates(graded, labels, thresholds={"j": 3.5})
    assert (fixed["threshold"].iloc[0], fixed["n"].iloc[0]) == (3.5, 300)
    with pytest.raises(FrameError, match="label some of each"):
        best_threshold(half[half["human"] == 1])


def test_rogan_gladen_is_the_closed_form_and_its_error_the_delta_methods() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random(2000) < 0.3).astype(float)
    said = np.where(truth == 1, rng.random(2000) < 0.85, rng.random(2000) < 0.2).astype(float)
    known = np.arange(2000) < 400
    human = np.where(known, truth, np.nan)
    value, variance = rogan_gladen(said, human, np.arange(2000))
    true = said[known & (truth == 1)].mean()
    false = said[known & (truth == 0)].mean()
    assert value == pytest.approx((said.mean() - false) / (true - false), abs=EXACT)
    alone = rogan_gladen(said[:400], truth[:400], np.arange(400))  # where all are labelled
    assert alone[0] == pytest.approx(truth[:400].mean(), abs=EXACT)
    assert alone[1] == pytest.approx(truth[:400].var() / 399, abs=EXACT)
    every = np.arange(2000)
    less = [rogan_gladen(said[every != i], human[every != i], every[1:])[0] for i in every]
    jackknife = 1999 / 2000 * ((np.array(less) - np.mean(less)) ** 2).sum()
    assert variance == pytest.approx(jackknife, rel=0.02)
    assert np.isnan(rogan_gladen(np.ones(10), np.tile([0.0, 1.0], 5), np.arange(10))[0])


def test_shares_of_passes_aim_at_what_people_would_pass() -> None:
    held = {"people alone": 0, "Rogan-Gladen": 0, "prediction-powered": 0}
    rng = np.random.default_rng(8)
    for _ in range(60):
        truth = (rng.random(600) < 0.35).astype(int)
        said = np.where(truth == 1, rng.random(600) < 0.9, rng.random(600) < 0.25).astype(int)
        graded, labels = scores("j", said, models=2), scores("p", truth, models=2).iloc[:200]
        table = pass_shares(graded, labels, thresholds={"j": 1}).set_index("estimate")
        for name in held:
            held[name] += table.loc[name, "low"] <= 0.35 <= table.loc[name, "high"]
    assert all(count >= 52 for count in held.values()), held
    width = (table["high"] - table["low"])[["people alone", "prediction-powered"]]
    assert width.iloc[1] < width.iloc[0]


def _games(judge: str, p: np.ndarray, *, both: bool = True) -> pd.DataFrame:
    """Games of a and b, one question each; p is the probability that a is better."""
    rows = []
    for question, chance in enumerate(p):
        for a, b, own in [("a", "b", chance), ("b", "a", 1 - chance)][: 1 + both]:
            winner = "model_a" if own > 0.5 else "model_b"
            rows.append((question, 1, a, b, judge, 0, winner, own))
    names = "question_id turn model_a model_b judge sample winner preference".split()
    empty = dict.fromkeys(("score_a", "score_b", "reason", "text", "key"))
    return pd.DataFrame(rows, columns=names).assign(**empty)


def _votes(sides: np.ndarray, judge: str = "ann") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "question_id": np.arange(len(sides)),
            "turn": 1,
            "model_a": "a",
            "model_b": "b",
            "judge": judge,
            "group": "crowd",
            "winner": np.where(sides, "model_a", "model_b"),
            "reason": None,
            "time": None,
        }
    )


def test_brier_is_scikit_learns_and_a_calibrated_judge_is_on_its_curve() -> None:
    rng = np.random.default_rng(4)
    p = rng.uniform(0.02, 0.98, 4000)
    won = rng.random(4000) < p
    games, people = _games("j", p), _votes(won)
    row = brier_scores(games, people).iloc[0]
    assert row["brier"] == pytest.approx(brier_score_loss(won, p), abs=EXACT)
    assert row["guessing"] == pytest.approx(0.25)
    assert row["skill"] == pytest.approx(1 - row["brier"] / 0.25)
    curve = calibration(games, people)
    assert len(curve) == 10
    assert (curve["low"] <= curve["predicted"]).mean() >= 0.8
    assert (curve["predicted"] <= curve["high"]).mean() >= 0.8
    # The curve is the same from either side.
    mirrored = curve["observed"].to_numpy() + curve["observed"].to_numpy()[::-1]
    assert mirrored == pytest.approx(np.ones(10))
    label = scores("p", won.astype(int), models=1)
    passes = scores("j", np.nan_to_num(p), models=1).assign(probability=p)
    assert brier_scores(passes, label)["brier"].iloc[0] == pytest.approx(row["brier"], abs=EXACT)
    with pytest.raises(FrameError, match="probability from 0 to 1"):
        brier_scores(games.assign(preference=1.5), people)
    with pytest.raises(FrameError, match="no column of probabilities"):
        calibration(games.drop(columns="preference"), people)


def test_a_cascade_asks_the_dear_judge_where_the_cheap_one_is_unsure() -> None:
    rng = np.random.default_rng(6)
    won = rng.random(600) < 0.5
    clear = rng.random(600) < 0.6  # the cheap judge knows these, and guesses at 0.55 elsewhere
    guess = np.where(rng.random(600) < 0.5, 0.45, 0.55)
    cheap = _games("cheap", np.where(clear, np.where(won, 0.97, 0.03), guess))
    dear = _games("dear", np.where(won, 0.9, 0.1))
    prices = {"cheap": 0.001, "dear": 0.02}
    table = cascade(
        pd.concat([cheap, dear]), _votes(won), cheap="cheap", dear="dear", prices=prices
    )
    assert table["asked"].iloc[[0, -1]].tolist() == [0.0, 1.0]
    between = table[table["asked"].between(0.3, 0.5)].iloc[0]
    assert between["asked"] == pytest.approx((~clear).mean())
    assert between["agreement"] == pytest.approx(1.0)
    assert table["agreement"].iloc[0] == pytest.approx(0.8, abs=0.06)
    assert between["dollars"] == pytest.approx(0.002 + 0.04 * (~clear).mean())
    assert table["dollars"].iloc[[0, -1]].tolist() == pytest.approx([0.002, 0.04])
    with pytest.raises(FrameError, match="judges here: cheap, dear"):
        cascade(pd.concat([cheap, dear]), _votes(won), cheap="none", dear="dear")


def test_gold_tells_a_consistent_judge_from_a_lucky_one() -> None:
    gold = _votes(np.arange(100) % 2 == 0, judge="gold").assign(
        source=np.where(np.arange(100) < 60, "math", "law")
    )
    right = np.where(np.arange(100) % 2 == 0, 0.9, 0.1)
    # Both have 75 of 100 single verdicts right: one errs on the same pairs twice.
    steady = _games("steady", np.where(np.arange(100) % 4 == 3, 1 - right, right))
    lucky = _games("lucky", right)
    flipped = (lucky["question_id"] % 2 == 1) & (lucky["model_a"] == "b")
    other = {"model_a": "model_b", "model_b": "model_a"}
    lucky.loc[flipped, "winner"] = lucky.loc[flipped, "winner"].map(other)
    table = gold_accuracy(pd.concat([steady, lucky]), gold).set_index("judge")
    assert table["single"].tolist() == [0.75, 0.75]
    assert table.loc["steady", ["accuracy", "wrong", "lucky"]].tolist() == [0.75, 0.25, 0]
    assert table.loc["lucky", ["accuracy", "wrong", "lucky"]].tolist() == [0.5, 0, 0.5]
    apart = gold_accuracy(steady, gold, by="source").set_index("source")
    assert apart["n"].to_dict() == {"math": 60, "law": 40}
    one = gold_accuracy(_games("j", right, both=False), gold).iloc[0]
    assert (one["accuracy"], one["n"]) == (1.0, 100)
    assert np.isnan(one["lucky"])
    twice = pd.concat([gold, gold.assign(winner="model_a")])
    with pytest.raises(FrameError, match="contradict"):
        gold_accuracy(steady, twice)
