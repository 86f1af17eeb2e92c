"""Majority, ceiling, scores as votes, agreement by gap: by hand and against a loop."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from support import examples

from lmjudge.errors import FrameError
from lmjudge.frames import COLUMNS, frame
from lmjudge.stats import agreement, agreement_by_gap, ceiling, majority, scores_as_votes

few = examples(15)
A, B, T = "model_a", "model_b", "tie"


def votes(ballots, pair=("m", "n")):
    rows = [
        {"question_id": q, "turn": 1, "model_a": pair[0], "model_b": pair[1], "judge": str(j)}
        | {"group": "expert", "winner": winner, "reason": None, "time": None}
        for q, said in enumerate(ballots)
        for j, winner in enumerate(said)
    ]
    return frame("votes", rows)


def test_majority_by_rule():
    ballots = [[A, A, B], [A, B], [A, T], [A, B, T], [A, A, B, T], [None, B], [None], [A, A, B, B]]
    plural = majority(votes(ballots))
    assert plural["winner"].where(plural["winner"].notna(), None).tolist() == [
        A, T, T, T, A, B, None, T,
    ]  # fmt: skip
    strict = majority(votes(ballots), rule="strict")
    assert strict["reason"].tolist() == [
        None, "no_majority", "no_majority", "no_majority", "no_majority", None, "no_verdict",
        "no_majority",
    ]  # fmt: skip
    half = majority(votes(ballots), rule="half")
    assert half.groupby("question_id")["winner"].count().tolist() == [1, 2, 2, 3, 1, 1, 0, 2]
    assert set(half["group"]) == {"expert"}
    with pytest.raises(ValueError, match="expected 'tie', 'strict' or 'half'"):
        majority(votes(ballots), rule="most")


def test_an_even_split_counts_half():
    judge = votes([[A], [A]])
    half = majority(votes([[A, B], [A, A, B]]), rule="half")
    assert agreement(judge, half, pool="keys")["agreement"].iloc[0] == pytest.approx(0.75)


def test_two_agree_and_one_does_not():
    humans, judge = votes([[A, A, B]]), votes([[A]])
    assert ceiling(humans)["agreement"].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert agreement(judge, humans)["agreement"].iloc[0] == pytest.approx(2 / 3)
    assert agreement(judge, majority(humans))["agreement"].iloc[0] == 1


ballots = st.lists(
    st.lists(st.sampled_from([A, B, T, None]), min_size=1, max_size=5), min_size=1, max_size=8
)


@few
@given(ballots, st.sampled_from(["keep", "drop"]))
def test_ceilings_are_those_of_a_loop(cast, ties):
    pairs, left, best = [], [], []
    for said in cast:
        said = [w for w in said if w is not None and not (ties == "drop" and w == T)]
        if len(said) < 2:
            continue
        pairs += [x == y for x, y in combinations(said, 2)]
        counts = Counter(said)
        best += [i < max(counts.values()) for i in range(len(said))]
        for i, w in enumerate(said):
            others = Counter(said[:i] + said[i + 1 :])
            leads = [v for v, n in others.items() if n == max(others.values())]
            left.append((w in leads) / len(leads))
    found = ceiling(votes(cast), ties=ties).set_index("measure")
    for measure, wanted in (("pairs", pairs), ("left_out", left), ("best", best)):
        assert found.loc[measure, "n"] == len(wanted)
        if wanted:
            assert found.loc[measure, "agreement"] == pytest.approx(np.mean(wanted))
    assert found["no_verdict"].tolist() == [sum(w is None for s in cast for w in s)] * 3
    met = agreement(votes(cast), ties=ties).iloc[0]
    assert found.loc["pairs", "n"] == met["n"]


def test_ceilings_by_category():
    questions = pd.DataFrame({"question_id": [0, 1, 2], "category": ["x", "y", "y"]})
    found = ceiling(votes([[A, A], [A, B], [A, None]]), by="category", questions=questions)
    assert found["category"].tolist() == ["x"] * 3 + ["y"] * 3
    assert found["agreement"].tolist() == [1, 1, 1, 0, 0, 0.5]
    assert found["no_verdict"].tolist() == [0] * 3 + [1] * 3


def scores(rows):
    names = ["question_id", "model", "judge", "score"]
    none = {"turn": 1, "sample": 0, "reason": None, "text": "", "key": ""}
    return frame("scores", [{**dict(zip(names, row, strict=True)), **none} for row in rows])


def test_scores_become_votes():
    grades = scores(
        [
            *((1, model, "j", score) for model, score in zip("bac", (7.0, 7.05, 9.0), strict=True)),
            *[(2, "a", "j", 3.0), (2, "b", "j", None), (1, "a", "k", 2.0)],
        ]
    )
    grades.loc[4, "reason"] = "no_verdict"
    found = scores_as_votes(grades).set_index(["question_id", "model_a", "model_b"])
    assert found["winner"].dropna().to_dict() == {
        (1, "a", "b"): T,
        (1, "a", "c"): B,
        (1, "b", "c"): B,
    }
    assert found.loc[(2, "a", "b"), "reason"] == "no_verdict"
    assert scores_as_votes(grades, delta=3)["winner"].dropna().unique().tolist() == [T]
    with pytest.raises(FrameError, match="number repeats in `sample`"):
        scores_as_votes(pd.concat([grades, grades]))
    with pytest.raises(ValueError, match="not negative"):
        scores_as_votes(grades, delta=-1)
    assert len(scores_as_votes(frame("scores"))) == 0


def test_agreement_by_gap():
    humans = pd.concat([votes([[A], [A], [B], [T]]), votes([[A], [A], [A]], pair=("m", "o"))])
    judge = pd.concat([votes([[A], [B], [B], [A]]), votes([[A], [A], [T]], pair=("m", "o"))])
    found = agreement_by_gap(judge, humans)
    assert found["model_b"].tolist() == ["n", "o"]
    assert found["gap"].tolist() == pytest.approx([1 / 3, 1])
    assert found["gap_n"].tolist() == [3, 3]
    assert found["agreement"].tolist() == pytest.approx([2 / 3, 1])
    assert agreement_by_gap(judge, humans, ties="keep")["gap"].tolist() == pytest.approx([1 / 4, 1])
    turns = agreement_by_gap(judge, humans, by="turn")
    assert turns.columns[:4].tolist() == ["model_a", "model_b", "turn", "gap"]


def test_experts_have_the_published_ceiling(published_data):
    path = published_data / "mt_bench_human_judgments" / "human_judgments_turn1.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    human = pd.DataFrame(rows).assign(turn=1, group="expert", reason=None, time=None)
    human = human[human["judge"].str.startswith("expert")][list(COLUMNS["votes"])]
    for ties, pairs in (("keep", 454 / 721), ("drop", 388 / 479)):
        found = ceiling(human, ties=ties).set_index("measure")["agreement"]
        assert found["pairs"] == pytest.approx(pairs)
        assert found["best"] > max(found["pairs"], found["left_out"])
