"""Agreement, held against a loop written straight from compute_agreement's rule."""

from __future__ import annotations

import json
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from support import examples

from lmjudge.errors import FrameError
from lmjudge.frames import COLUMNS, frame, swap
from lmjudge.stats import agreement, kappa, win_rates

few = examples(40)

MODELS = ["a", "b", "c"]
WINNERS = ["model_a", "model_b", "tie", None]


def votes(rows):
    names = ["question_id", "turn", "model_a", "model_b", "judge", "winner"]
    made = [
        {**dict(zip(names, row, strict=True)), "group": "expert", "reason": None, "time": None}
        for row in rows
    ]
    return frame("votes", made)


ballots = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.just(1),
        st.sampled_from([*combinations(MODELS, 2), *combinations(MODELS[::-1], 2)]),
        st.sampled_from(["x", "y", "z", None]),  # None: a voter unnamed
        st.sampled_from(WINNERS),
    ),
    max_size=25,
).map(lambda rows: votes([(q, t, *pair, j, w) for q, t, pair, j, w in rows]))


def loop(x, y, ties, distinct):
    """(agreed, n, missed) by one comparison at a time."""

    def by_key(frame):
        keys = {}
        for vote in frame.to_dict("records"):
            pair = (vote["model_a"], vote["model_b"])
            winner = vote["winner"]
            if winner in ("model_a", "model_b"):
                winner = vote[winner]
            elif winner != "tie":
                winner = None
            key = (vote["question_id"], vote["turn"], tuple(sorted(pair)))
            keys.setdefault(key, []).append((vote["judge"], winner))
        return keys

    agreed = n = missed = 0
    for key, mine in by_key(x).items():
        theirs = None if y is None else by_key(y).get(key, [])
        meetings = combinations(mine, 2) if theirs is None else product(mine, theirs)
        for (one, first), (two, second) in meetings:
            if distinct and pd.notna(one) and one == two:
                continue
            if first is None or second is None:
                missed += 1
            elif not (ties == "drop" and "tie" in (first, second)):
                n += 1
                agreed += first == second
    return agreed, n, missed


def counts(found):
    return tuple(int(found[name].iloc[0]) for name in ("agreed", "n", "no_verdict"))


@few
@given(ballots, st.sampled_from(["keep", "drop"]), st.booleans())
def test_within_a_group_counts_as_the_loop_does(x, ties, distinct):
    found = agreement(x, ties=ties, distinct=distinct)
    assert counts(found) == loop(x, None, ties, distinct)


@few
@given(ballots, ballots, st.sampled_from(["keep", "drop"]), st.booleans())
def test_between_groups_counts_as_the_loop_does_and_is_symmetric(x, y, ties, distinct):
    try:
        found = agreement(x, y, ties=ties, distinct=distinct)
    except FrameError:
        assert loop(x, y, ties, False) == (0, 0, 0)
        return
    assert counts(found) == loop(x, y, ties, distinct)
    other = agreement(y, x, ties=ties, distinct=distinct)
    exchanged = {"tie_rate_x": "tie_rate_y", "tie_rate_y": "tie_rate_x"}
    pd.testing.assert_frame_equal(found, other.rename(columns=exchanged)[list(found.columns)])


@few
@given(ballots, st.randoms(use_true_random=False), st.sampled_from(["votes", "questions", "keys"]))
def test_sides_order_and_names_do_not_matter(x, random, pool):
    order = list(range(len(x)))
    random.shuffle(order)
    turned = [i for i in order if random.random() < 0.5]
    other = x.copy()
    other.loc[turned] = swap(x.loc[turned])
    names = {"a": "q", "b": "a", "c": "f"}
    other = other.loc[order].replace({"model_a": names, "model_b": names})
    pd.testing.assert_frame_equal(agreement(x, pool=pool), agreement(other, pool=pool))


@few
@given(ballots)
def test_a_judge_agrees_with_itself(x):
    x = x[x["winner"].notna()].drop_duplicates("question_id")
    found = agreement(x, x)
    assert len(x) == 0 or found["agreement"].iloc[0] == 1


@few
@given(ballots, ballots, st.sampled_from(["keep", "drop"]), st.booleans())
def test_by_judge_is_each_judge_alone(x, y, ties, distinct):
    for others in ((), (y,)):
        try:
            ours = agreement(x, *others, by=["judge"], ties=ties, distinct=distinct)
        except FrameError:
            continue
        for at, judge in enumerate(ours["judge"]):
            alone = x[x["judge"].isna() if pd.isna(judge) else x["judge"] == judge]
            expected = agreement(alone, *others, ties=ties, distinct=distinct)
            assert counts(ours[at : at + 1]) == counts(expected)


def test_kappa_by_judge_is_each_judge_alone():
    rng = np.random.default_rng(0)
    x = votes(
        [
            (q, 1, "a", "b", judge, rng.choice(WINNERS[:3]))
            for q in range(30)
            for judge in ("x", "y", None)
        ]
    )
    other = votes([(q, 1, "a", "b", "other", rng.choice(WINNERS[:3])) for q in range(5, 40)])
    for of in ("cohen", "fleiss", "ac1", "alpha"):
        ours = kappa(x, other, by="judge", coefficient=of).set_index("judge")
        for judge in ("x", "y", None):
            alone = x[x["judge"].isna() if judge is None else x["judge"] == judge]
            expected = kappa(alone, other, coefficient=of).iloc[0]
            found = ours[ours.index.isna()].iloc[0] if judge is None else ours.loc[judge]
            pd.testing.assert_series_equal(found, expected, check_names=False)
    within = kappa(pd.concat([x, x]), by="judge")
    assert within["n"].tolist() == [30, 30, 30]
    assert (within["kappa"] == 1).all()


@few
@given(ballots)
def test_by_question_adds_up(x):
    whole, parts = agreement(x), agreement(x, by="question_id")
    assert parts[["agreed", "n", "no_verdict"]].sum().tolist() == list(counts(whole))


def test_of_a_tie_and_a_side_within_a_group_half_are_ties():
    found = agreement(votes([(1, 1, "a", "b", j, w) for j, w in zip("xy", ["tie", "model_a"])]))  # noqa: B905
    assert found[["tie_rate_x", "tie_rate_y", "n"]].iloc[0].tolist() == [0.5, 0.5, 1]
    assert found["random_marginal"].iloc[0] == 0.5 * 0.5 + 0.5 * 0.5 / 2


def test_two_agree_and_one_does_not():
    x = votes([(1, 1, "a", "b", j, w) for j, w in zip("xyz", WINNERS[:1] * 2 + WINNERS[1:2])])  # noqa: B905
    found = agreement(x).iloc[0]
    assert found["agreement"] == pytest.approx(1 / 3)
    judge = votes([(1, 1, "b", "a", "llm", "model_b")])
    assert agreement(judge, x)["agreement"].iloc[0] == pytest.approx(2 / 3)


def test_random_levels():
    x = votes([(q, 1, "a", "b", j, "tie" if q < 3 else "model_a") for q in range(12) for j in "xy"])
    kept, dropped = agreement(x).iloc[0], agreement(x, ties="drop").iloc[0]
    assert kept["random_uniform"] == pytest.approx(1 / 3)
    assert kept["random_marginal"] == pytest.approx(0.25**2 + 0.75**2 / 2)
    assert (dropped["random_uniform"], dropped["random_marginal"]) == (0.5, 0.5)
    assert (kept["ties"], kept["n"], dropped["n"]) == (3, 12, 9)


def test_pools_differ_where_questions_weigh_differently():
    x = votes(
        [(1, 1, "a", "b", str(i), "model_a") for i in range(4)]
        + [(2, 1, "a", "b", "0", "model_a"), (2, 1, "b", "a", "1", "model_a")]
    )
    assert agreement(x)["agreement"].iloc[0] == pytest.approx(6 / 7)
    assert agreement(x, pool="questions")["agreement"].iloc[0] == pytest.approx(1 / 2)
    assert agreement(x, pool="keys")["n"].iloc[0] == 7


def test_by_category_and_by_pair():
    x = votes([(q, 1, *pair, j, "tie") for q in (1, 2) for pair in ("ab", "ca") for j in "xy"])
    questions = pd.DataFrame({"question_id": [1, 2], "category": ["math", "writing"]})
    found = agreement(x, by="category", questions=questions)
    assert found[["category", "n"]].to_numpy().tolist() == [["math", 2], ["writing", 2]]
    pairs = agreement(x, by=("model_a", "model_b"))
    assert pairs[["model_a", "model_b", "n"]].to_numpy().tolist() == [["a", "b", 2], ["a", "c", 2]]
    with pytest.raises(FrameError, match="by='category' needs questions="):
        agreement(x, by="category")
    with pytest.raises(FrameError, match="of questions that `questions` does not hold"):
        agreement(x, by="category", questions=questions[:1])


def test_bad_votes_are_refused():
    fine = (1, 1, "a", "b", "x", "tie")
    with pytest.raises(FrameError, match="no question_id"):
        agreement(votes([(None, *fine[1:])]))
    with pytest.raises(FrameError, match="on both sides"):
        agreement(votes([(1, 1, "a", "a", "x", "tie")]))
    with pytest.raises(FrameError, match="share no question, turn and pair"):
        agreement(votes([fine]), votes([(2, *fine[1:])]))
    with pytest.raises(FrameError, match="lacks winner"):
        agreement(votes([fine]).drop(columns="winner"))
    with pytest.raises(ValueError, match="ties is 'half'; expected 'keep' or 'drop'"):
        agreement(votes([fine]), ties="half")
    empty = agreement(frame("votes")).iloc[0]
    assert empty["n"] == 0
    assert np.isnan(empty["agreement"])


def test_experts_agree_as_published(published_data):
    path = published_data / "mt_bench_human_judgments" / "human_judgments_turn1.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    human = pd.DataFrame(rows).assign(turn=1, group="expert", reason=None, time=None)
    human = human[human["judge"].str.startswith("expert")][list(COLUMNS["votes"])]
    kept, dropped = agreement(human).iloc[0], agreement(human, ties="drop").iloc[0]
    assert (kept["agreed"], kept["n"]) == (454, 721)
    assert (dropped["agreed"], dropped["n"]) == (388, 479)
    for pool in ("questions", "keys"):
        share = agreement(human, pool=pool)["agreement"].iloc[0]
        assert f"{100 * share:.1f}" == "64.1"
    keys = agreement(human, by=["question_id", "model_a", "model_b"])
    assert (keys["n"] > 0).sum() == 370
    assert kept["low"] < 0.63 < kept["high"]


def test_win_rates_count_ties_three_ways():
    x = votes([(q, 1, "a", "b", "x", w) for q, w in enumerate(["model_a", "model_a", "tie", None])])
    half = win_rates(x).set_index("model")
    assert half["win_rate"].tolist() == pytest.approx([2.5 / 3, 0.5 / 3])
    assert half[["wins", "ties", "losses", "n", "no_verdict"]].to_numpy().tolist() == [
        [2, 1, 0, 3, 1],
        [0, 1, 2, 3, 1],
    ]
    assert win_rates(x, ties="keep")["win_rate"].tolist() == pytest.approx([2 / 3, 0])
    dropped = win_rates(x, ties="drop")
    assert dropped["win_rate"].tolist() == [1, 0]
    assert dropped["n"].tolist() == [2, 2]
    assert dropped["no_verdict"].tolist() == [1, 1]
    assert win_rates(x, baseline="b")["model"].tolist() == ["a"]
    with pytest.raises(FrameError, match="no vote on the baseline 'q'"):
        win_rates(x, baseline="q")


@few
@given(ballots)
def test_win_rates_ignore_sides_and_add_up(x):
    found = win_rates(x)
    pd.testing.assert_frame_equal(found, win_rates(swap(x)))
    assert found["wins"].sum() == found["losses"].sum() == x["winner"].isin(WINNERS[:2]).sum()
    assert found["n"].sum() == 2 * x["winner"].notna().sum()
