"""Means of single grades, totals of two-score games."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from support import examples

from lmjudge.errors import FrameError
from lmjudge.frames import frame, swap
from lmjudge.stats import mean_scores, relative_quality, score_totals

few = examples(40)


def scores(rows):
    return frame(
        "scores",
        [
            {"question_id": q, "turn": turn, "model": model, "judge": "j", "sample": 0}
            | {"score": score, "reason": None, "text": "", "key": ""}
            for q, turn, model, score in rows
        ],
    )


def games(rows):
    return frame(
        "games",
        [
            {"question_id": q, "turn": 1, "model_a": a, "model_b": b, "judge": "j", "sample": 0}
            | {"winner": None, "score_a": one, "score_b": two, "reason": None}
            | {"text": "", "key": ""}
            for q, a, b, one, two in rows
        ],
    )


def test_the_mean_is_over_rows_not_over_turns():
    some = scores([(1, 1, "m", 8.0), (2, 1, "m", 6.0), (1, 2, "m", 1.0), (2, 2, "m", None)])
    found = mean_scores(some).iloc[0]
    assert (found["score"], found["n"], found["no_verdict"]) == (5.0, 3, 1)
    turns = mean_scores(some, by=["model", "turn"])
    assert turns["score"].tolist() == [7.0, 1.0]
    assert list(turns) == ["model", "turn", "score", "too_few", "n", "low", "high", "no_verdict"]


def test_a_model_whose_every_grade_failed_keeps_its_row():
    found = mean_scores(scores([(1, 1, "m", 8.0), (1, 1, "x", None)])).set_index("model")
    assert (found.loc["x", "n"], found.loc["x", "no_verdict"]) == (0, 1)
    assert np.isnan(found.loc["x", "score"])


def test_by_category():
    questions = pd.DataFrame({"question_id": [1, 2], "category": ["math", "writing"]})
    some = scores([(1, 1, "m", 2.0), (2, 1, "m", 9.0)])
    found = mean_scores(some, by="category", questions=questions)
    assert found[["category", "score"]].to_numpy().tolist() == [["math", 2.0], ["writing", 9.0]]
    twice = pd.concat([questions, questions])
    with pytest.raises(FrameError, match="stands twice"):
        mean_scores(some, by="category", questions=twice)
    with pytest.raises(FrameError, match="`by` names size"):
        mean_scores(some, by="size")


rated = st.lists(
    st.tuples(st.integers(1, 9), st.just(1), st.sampled_from("mn"), st.integers(1, 10)),
    min_size=1,
)


@few
@given(rated, st.randoms(use_true_random=False))
def test_shuffling_and_twins_leave_the_means(rows, random):
    found = mean_scores(scores(rows))
    wanted = pd.DataFrame(rows).groupby(2)[3].mean()
    assert found["score"].tolist() == pytest.approx(wanted.tolist())
    shuffled = rows * 2
    random.shuffle(shuffled)
    again = mean_scores(scores(shuffled))
    np.testing.assert_allclose(again["score"], found["score"], rtol=1e-9, atol=1e-9)
    # Never narrower, as rows that stand twice are more alike.
    assert not (again["low"] > found["low"] + 1e-9).any()
    assert again["low"].isna().tolist() == found["low"].isna().tolist()


played = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.sampled_from([("m", "v"), ("v", "m"), ("n", "v")]),
        st.sampled_from([None, 0.0, 3.5, 8.0, 10.0]),
        st.sampled_from([2.0, 3.5, 8.0]),
    ),
    min_size=1,
).map(lambda rows: games([(q, *pair, one, two) for q, pair, one, two in rows]))


@few
@given(played)
def test_against_a_baseline_the_side_shown_does_not_matter(some):
    one, other = score_totals(some, baseline="v"), score_totals(swap(some), baseline="v")
    pd.testing.assert_frame_equal(one, other)
    counted = one[["wins_a", "ties", "wins_b"]].sum(axis=1)
    assert (counted == one["n"]).all()
    assert one["n"].sum() + one["no_verdict"].sum() == len(some)


def test_unknown_models_are_named():
    some = games([(1, "m", "v", 5.0, 8.0)])
    with pytest.raises(FrameError, match=r"no game of the baseline 'q'; models here: \['m', 'v'\]"):
        score_totals(some, baseline="q")
    with pytest.raises(FrameError, match="no game of 'q' against 'v'"):
        relative_quality(some, baseline="q", via="v")


def test_a_model_whose_every_game_failed_has_no_quality_and_says_why():
    some = games([(1, "m", "v", 5.0, 8.0), (2, "n", "v", None, 8.0), (3, "n", "v", None, 9.0)])
    quality = relative_quality(some, baseline="m", via="v").set_index("model")
    assert quality["n"].to_dict() == {"m": 1, "v": 1, "n": 0}
    assert quality["no_verdict"].to_dict() == {"m": 0, "v": 0, "n": 2}
    assert np.isnan(quality.loc["n", "relative"])
    assert quality["too_few"].to_dict() == {"m": False, "v": True, "n": True}
    nothing = relative_quality(some.assign(score_a=0.0), baseline="m", via="v")
    assert nothing.set_index("model")["relative"].isna().to_dict() == {"m": 0, "n": 1, "v": 1}


def test_vicuna_blog(published_data):
    models = ["llama-13b", "alpaca-13b", "bard", "gpt35"]
    rows = []
    for model in models:
        path = published_data / "vicuna_blog" / "review" / f"review_{model}_vicuna-13b.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows.append((row["question_id"], model, "vicuna-13b", *row["score"]))
    reviews = games(rows)
    totals = score_totals(reviews, baseline="vicuna-13b").set_index("model_a").loc[models]
    assert totals[["total_a", "total_b"]].to_numpy().tolist() == [
        [513.0, 694.0],
        [583.0, 704.0],
        [664.0, 655.5],
        [693.0, 638.0],
    ]
    assert totals[["wins_b", "ties", "wins_a"]].to_numpy().tolist() == [
        [77, 0, 3],
        [76, 1, 3],
        [40, 10, 30],
        [14, 22, 44],
    ]
    relative = relative_quality(reviews, baseline="gpt35", via="vicuna-13b").set_index("model")
    order = ["llama-13b", "alpaca-13b", "vicuna-13b", "bard", "gpt35"]
    assert relative.loc[order, "relative"].round().tolist() == [68, 76, 92, 93, 100]
    assert np.isnan(relative.loc["gpt35", "low"])
    assert relative.loc["vicuna-13b", "low"] < 92.06 < relative.loc["vicuna-13b", "high"]

    questions = pd.DataFrame(
        json.loads(line)
        for line in (published_data / "vicuna_blog" / "question.jsonl").read_text().splitlines()
    )
    by = score_totals(reviews, baseline="vicuna-13b", by="category", questions=questions)
    math = by[(by["category"] == "math") & (by["model_a"] == "gpt35")].iloc[0]
    assert (math["total_a"], math["total_b"], math["n"]) == (30, 11, 3)
