"""Paired comparisons and win rates over opponents, against scipy, statsmodels and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from lmjudge import audit
from lmjudge.errors import FrameError
from lmjudge.frames import frame
from lmjudge.stats import (
    agreement,
    compare_judges,
    compare_models,
    win_rate_bounds,
    win_rates,
)

A, B, T = "model_a", "model_b", "tie"


def scores(columns, questions=None):
    none = {"turn": 1, "judge": "j", "sample": 0, "reason": None, "text": "", "key": ""}
    rows = [
        {"question_id": q if questions is None else questions[q], "model": model, "score": score}
        | none
        | {"sample": q}
        for model, given in columns.items()
        for q, score in enumerate(given)
    ]
    return frame("scores", rows)


def votes(judge, winners, pair=("m", "n")):
    rows = [
        {"question_id": q, "turn": 1, "model_a": pair[0], "model_b": pair[1], "judge": judge}
        | {"group": "llm", "winner": winner, "reason": None, "time": None}
        for q, winner in enumerate(winners)
    ]
    return frame("votes", rows)


@pytest.mark.slow
def test_models_with_a_row_per_question_are_compared_by_the_paired_t_test():
    rng = np.random.default_rng(1)
    a = rng.normal(7, 1, 25)
    b, c = a + rng.normal(0.3, 1, 25), a + rng.normal(0, 1, 25)
    found = compare_models(scores({"a": a, "b": b, "c": c}))
    wanted = [stats.ttest_rel(*two) for two in ((a, b), (a, c), (b, c))]
    assert found["p_value"].tolist() == pytest.approx([test.pvalue for test in wanted])
    low, high = wanted[0].confidence_interval()
    assert (found["low"][0], found["high"][0]) == pytest.approx((low, high))
    holm = multipletests(found["p_value"], method="holm")[1]
    assert found["p_holm"].tolist() == pytest.approx(holm.tolist())
    better = int((a > b).sum())
    assert found["better_a"][0] == better
    assert found["p_sign"][0] == pytest.approx(stats.binomtest(better, 25).pvalue)
    only = compare_models(scores({"a": a, "b": b, "c": c}), baseline="b")
    assert only[["model_a", "model_b"]].to_numpy().tolist() == [["a", "b"], ["c", "b"]]


def test_repeats_inside_questions_do_not_make_a_difference_surer():
    a, b = np.array([5.0, 6, 7, 9, 4]), np.array([4.0, 6, 5, 8, 5])
    once = compare_models(scores({"a": a, "b": b})).iloc[0]
    names = np.tile(range(5), 3)
    again = compare_models(scores({"a": np.tile(a, 3), "b": np.tile(b, 3)}, names)).iloc[0]
    for name in ("difference", "low", "high", "p_value", "p_sign"):
        assert again[name] == pytest.approx(once[name])


def test_missing_scores_and_what_cannot_be_compared():
    found = compare_models(scores({"a": [5, None, 7], "b": [5, 6, 7]})).iloc[0]
    assert (found["n"], found["no_verdict"], found["difference"]) == (2, 1, 0)
    assert np.isnan(found["p_value"])
    assert found["p_sign"] == 1
    with pytest.raises(FrameError, match="a comparison takes two"):
        compare_models(scores({"a": [1]}))
    with pytest.raises(FrameError, match="no score of the baseline"):
        compare_models(scores({"a": [1], "b": [2]}), baseline="q")
    with pytest.raises(FrameError, match="number repeats"):
        compare_models(scores({"a": [1, 2], "b": [2, 3]}, [0, 0]).assign(sample=0))


def test_judges_are_compared_by_mcnemars_exact_test():
    rng = np.random.default_rng(4)
    human = rng.choice([A, B], 60)
    one = np.where(rng.random(60) < 0.85, human, T)
    two = np.where(rng.random(60) < 0.6, human, T)
    both = pd.concat([votes("x", one), votes("y", two)])
    found = compare_judges(both, votes("h", human)).iloc[0]
    x, y = one == human, two == human
    table = [[(x & y).sum(), (x & ~y).sum()], [(~x & y).sum(), (~x & ~y).sum()]]
    assert found["p_sign"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert found["difference"] == pytest.approx(x.mean() - y.mean())
    assert found["agreement_a"] == agreement(votes("x", one), votes("h", human))["agreement"][0]
    assert found["low"] < found["difference"] < found["high"]
    dropped = compare_judges(both, votes("h", human), ties="drop").iloc[0]
    assert dropped["n"] == ((one != T) & (two != T)).sum()
    assert dropped["no_verdict"] == 60 - dropped["n"]


@pytest.mark.slow
def test_equal_judges_differ_at_the_nominal_rate():
    rng = np.random.default_rng(6)
    made = []
    for turn in range(200):
        human = rng.choice([A, B], 40)
        for judge in "xy":
            said = np.where(rng.random(40) < 0.75, human, T)
            made.append(votes(judge, said).assign(turn=turn))
        made.append(votes("h", human).assign(turn=turn))
    whole = pd.concat(made)
    found = compare_judges(whole[whole["judge"] != "h"], whole[whole["judge"] == "h"], by="turn")
    assert 0.01 <= (found["p_value"] < 0.05).mean() <= 0.1
    assert (found["p_sign"] < 0.05).mean() <= 0.06
    assert ((found["low"] <= 0) & (found["high"] >= 0)).mean() == pytest.approx(
        (found["p_value"] >= 0.05).mean()
    )


def test_opponents_weigh_alike_however_often_they_were_met():
    x = pd.concat(
        [
            votes("x", [A] * 6 + [B] * 2),
            votes("x", [B, T], ("m", "o")),
            votes("x", [None], ("m", "o")),
        ]
    )
    pooled = win_rates(x).set_index("model")
    even = win_rates(x, pool="opponents").set_index("model")
    assert pooled.loc["m", "win_rate"] == pytest.approx(6.5 / 10)
    assert even.loc["m", "win_rate"] == pytest.approx((6 / 8 + 0.5 / 2) / 2)
    assert even.loc["n", "win_rate"] == pytest.approx(2 / 8)
    pd.testing.assert_series_equal(even.loc["n"], pooled.loc["n"])
    assert even.loc["m", ["n", "no_verdict"]].tolist() == [10, 1]
    assert win_rates(x, pool="opponents", ties="drop").set_index("model").loc["m", "n"] == 9
    by = win_rates(x, pool="opponents", by="turn")
    assert by["win_rate"].tolist() == pytest.approx(even["win_rate"].tolist())
    with pytest.raises(ValueError, match="pool is 'models'; expected 'votes' or 'opponents'"):
        win_rates(x, pool="models")


@pytest.mark.slow
def test_win_rates_over_opponents_cover():
    rng = np.random.default_rng(3)
    made = []
    for turn in range(250):
        for opponent, chance, n in (("n", 0.8, 30), ("o", 0.4, 12)):
            said = np.where(rng.random(n) < chance, A, B)
            made.append(votes("x", said, ("m", opponent)).assign(turn=turn))
    found = win_rates(pd.concat(made), pool="opponents", by="turn")
    found = found[found["model"] == "m"]
    assert 0.91 <= ((found["low"] <= 0.6) & (found["high"] >= 0.6)).mean() <= 0.985


def test_voters_who_lean_widen_two_way_intervals():
    rng = np.random.default_rng(2)
    lean = rng.random(8)
    x = pd.concat([votes(f"v{j}", np.where(rng.random(40) < lean[j], A, B)) for j in range(8)])
    one = win_rates(x).iloc[0]
    two = win_rates(x, cluster=("question_id", "judge")).iloc[0]
    assert two["win_rate"] == one["win_rate"]
    assert two["high"] - two["low"] > 1.5 * (one["high"] - one["low"])
    with pytest.raises(FrameError, match="expected one or two of the columns"):
        win_rates(x, cluster=("question_id", "voter"))


def test_ids_are_compared_as_text() -> None:
    said = [_key(q, judge, w) for q in range(6) for judge, w in (("i", "model_a"), ("j", "tie"))]
    judges = frame("votes", said)
    people = frame("votes", [_key(q, "ann", "model_a") for q in range(6)])
    texts = people.assign(question_id=people["question_id"].astype(str))
    mixed = people.assign(question_id=[0, "1", 2.0, "3", "4", 5])
    ours = compare_judges(judges, people)
    assert ours["difference"].tolist() == [1.0]
    for other in (texts, mixed):
        pd.testing.assert_frame_equal(compare_judges(judges, other), ours)
        assert agreement(judges, other)["n"].tolist() == [12]
        assert audit.corrected_win_rates(judges, other)["n_human"].tolist() == [6] * 4
    with pytest.raises(FrameError, match=r"the first have question_id '0', '1', '2' .*'q0'"):
        compare_judges(judges, people.assign(question_id=[f"q{q}" for q in range(6)]))


def _key(question: int, judge: str, winner: str) -> dict[str, object]:
    more = {"turn": 1, "model_a": "x", "model_b": "y", "reason": None, "time": None}
    return {"question_id": question, "judge": judge, "group": "g", "winner": winner, **more}


def test_equivalence_is_two_one_sided_tests() -> None:
    rng = np.random.default_rng(0)
    given = rng.normal(7, 1, 60)
    x = scores(
        {"m": given, "n": given + rng.normal(0, 0.5, 60), "o": given + 1}, questions=range(60)
    )
    found = compare_models(x, margin=0.5).set_index(["model_a", "model_b"])
    row = found.loc[("m", "n")]
    difference = x[x["model"] == "m"]["score"].to_numpy() - x[x["model"] == "n"]["score"].to_numpy()
    one = stats.ttest_1samp(difference, -0.5, alternative="greater").pvalue
    two = stats.ttest_1samp(difference, 0.5, alternative="less").pvalue
    assert row["p_equivalent"] == pytest.approx(max(one, two), abs=1e-8)
    assert found["p_equivalent"].iloc[0] < 0.05
    with pytest.raises(ValueError, match="margin is -1"):
        compare_models(x, margin=-1)


def test_bounds_take_missing_verdicts_as_lost_and_as_won() -> None:
    rows = [_key(q, "ann", w) for q, w in enumerate([A, A, B, T, None, None])]
    found = win_rate_bounds(frame("votes", rows)).set_index("model")
    assert found.loc["x", ["worst", "best"]].tolist() == pytest.approx([2.5 / 6, 4.5 / 6])
    for _, fill in (("worst", B), ("best", A)):
        filled = frame("votes", [row | {"winner": row["winner"] or fill} for row in rows])
        rate = win_rates(filled).set_index("model").loc["x", "win_rate"]
        assert rate == pytest.approx(found.loc["x", "worst" if fill == B else "best"])


def test_infinite_scores_are_refused() -> None:
    with pytest.raises(FrameError, match="1 rows have a score that is infinite"):
        scores({"m": [1.0, float("inf")], "n": [2.0, 3.0]})
