"""Position bias and repeatability."""

from __future__ import annotations

import json
from itertools import chain

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from support import examples

from lmjudge.errors import FrameError
from lmjudge.frames import frame, resolve, swap
from lmjudge.stats import position_bias, repeatability, win_rates

few = examples(40)

WINNERS = ["model_a", "model_b", "tie", None]
NONE = {"score_a": None, "score_b": None, "reason": None, "text": "", "key": ""}


def both_orders(verdicts):
    rows = [
        {"question_id": q, "turn": 1, "model_a": a, "model_b": b, "judge": "j", "sample": 0}
        | {"winner": winner}
        | NONE
        for q, two in enumerate(verdicts)
        for (a, b), winner in zip((("m", "n"), ("n", "m")), two, strict=True)
    ]
    return frame("games", rows)


def pairs(games, **more):
    return position_bias(games, **more).set_index("outcome")["pairs"].to_dict()


ALL = [(first, second) for first in WINNERS for second in WINNERS]


def test_every_two_verdicts_have_one_outcome():
    assert pairs(both_orders(ALL)) == {
        "consistent": 3,
        "biased_first": 1,
        "biased_second": 1,
        "mixed": 4,
        "error": 7,
    }
    assert pairs(both_orders(ALL), rule="lean") == {
        "consistent": 3,
        "biased_first": 3,
        "biased_second": 3,
        "error": 7,
    }
    assert pairs(both_orders(ALL), rule="net")["consistent"] == 7
    whole = position_bias(both_orders(ALL))
    assert whole["n"].unique().tolist() == [16]
    assert whole["no_verdict"].unique().tolist() == [7]
    assert whole["tie_rate"].unique() == pytest.approx([8 / 24])


verdicts = st.lists(st.tuples(st.sampled_from(WINNERS), st.sampled_from(WINNERS)), min_size=1)


@few
@given(verdicts, st.sampled_from(["mixed", "lean", "net"]))
def test_swapping_exchanges_first_and_second(two, rule):
    games = both_orders(two)
    one, other = pairs(games, rule=rule), pairs(swap(games), rule=rule)
    one["biased_first"], one["biased_second"] = one["biased_second"], one["biased_first"]
    assert one == other
    assert sum(one.values()) == len(two)


@few
@given(verdicts, st.randoms(use_true_random=False))
def test_order_and_names_of_models_do_not_matter(two, random):
    games = both_orders(two)
    order = list(range(len(games)))
    random.shuffle(order)
    names = {"m": "z", "n": "m"}
    other = games.loc[order].replace({"model_a": names, "model_b": names})
    pd.testing.assert_frame_equal(position_bias(games), position_bias(other))


@few
@given(verdicts)
def test_consistent_pairs_are_those_that_resolve_without_inconsistency(two):
    games = both_orders(two)
    votes = resolve(games)
    clear = votes["winner"].notna() & (votes["reason"] != "inconsistent")
    assert pairs(games)["consistent"] == clear.sum()


def test_games_that_do_not_come_in_both_orders_are_refused():
    games = both_orders([("tie", "tie")])
    for odd in (games[:1], pd.concat([games, games]), pd.concat([games[:1], games[:1]])):
        with pytest.raises(FrameError, match="not shown once in each order"):
            position_bias(odd)
    with pytest.raises(ValueError, match="expected 'mixed', 'lean' or 'net'"):
        position_bias(games, rule="tie")
    assert position_bias(frame("games")).empty


def test_by_category():
    questions = pd.DataFrame({"question_id": [0, 1], "category": ["math", "writing"]})
    games = both_orders([("model_a", "model_b"), ("model_a", "model_a")])
    found = position_bias(games, by="category", questions=questions)
    assert found[found["share"] == 1][["category", "outcome"]].to_numpy().tolist() == [
        ["math", "consistent"],
        ["writing", "biased_first"],
    ]


def asked(rows):
    made = [
        {"question_id": q, "turn": 1, "model": "m", "judge": "j", "sample": 0, "score": score}
        | {"reason": None, "text": text, "key": key}
        for q, key, text, score in rows
    ]
    return frame("scores", made)


def test_repeatability_counts_requests():
    scores = asked(
        [
            (1, "once", "a", 7.0),
            (1, "same", "a", 7.0),
            (1, "same", "a", 7.0),
            (2, "text", "a", 5.0),
            (2, "text", "b", 5.0),
            (3, "verdict", "a", 5.0),
            (3, "verdict", "b", 6.0),
            (3, "verdict", "b", None),
            (4, "unread", "a", 5.0),
            (4, "unread", "b", None),
        ]
    )
    found = repeatability(scores).iloc[0]
    assert found[["requests", "asked_again", "different_text", "other_verdict"]].tolist() == [
        5,
        4,
        3,
        1,
    ]
    assert (found["share"], found["n"], found["no_verdict"]) == (pytest.approx(1 / 3), 3, 1)
    split = repeatability(scores, by="verdict").set_index("verdict")
    assert split["requests"].to_dict() == {5.0: 3, 7.0: 2}
    assert split["other_verdict"].to_dict() == {5.0: 1, 7.0: 0}
    shuffled = repeatability(scores.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(repeatability(scores), shuffled)
    # The same texts under another parser are another judge's verdicts, and nothing was asked again.
    parsed = pd.concat([scores, scores.assign(judge="j/fastchat", score=1.0)], ignore_index=True)
    lab = repeatability(parsed, by="judge")
    assert lab["requests"].tolist() == [5, 5]
    assert sorted(lab["other_verdict"]) == [0, 1]
    with pytest.raises(FrameError, match="there is no column 'request'"):
        repeatability(scores, key="request")
    with pytest.raises(FrameError, match="have no key"):
        repeatability(scores.assign(key=None))


def test_gpt4_asked_again_changed_its_verdict_38_times(published_data):
    tops = {"[[A]]": "model_a", "[[B]]": "model_b", "[[C]]": "tie"}
    files = chain.from_iterable(
        sorted((published_data / "fastchat" / bench / "model_judgment").glob("gpt-4_pair*.jsonl"))
        for bench in ("mt_bench", "vicuna_bench")
    )
    rows = []
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for game, a, b in (("g1", "model_1", "model_2"), ("g2", "model_2", "model_1")):
                text = row[f"{game}_judgment"]
                rows.append(
                    {"question_id": row["question_id"], "turn": row["turn"], "judge": "gpt-4"}
                    | {"model_a": row[a], "model_b": row[b], "sample": 0}
                    | {"winner": next((tops[top] for top in tops if top in text), None)}
                    | {**NONE, "text": text}
                    | {"request": str([row["judge"], row["turn"], row[f"{game}_user_prompt"]])}
                )
    games = frame("games", rows)
    found = repeatability(games, key="request").iloc[0]
    assert len(games) == 806
    assert found[["requests", "asked_again", "different_text", "other_verdict", "n"]].tolist() == [
        631,
        161,
        144,
        38,
        161,
    ]


PRD = {
    "gpt4": ([551, 113, 2, 134, 0], (237, 12), [0.8562, 0.7086, 0.3484, 0.3422, 0.2445]),
    "claude": ([439, 28, 220, 113, 0], (74, 287), [0.7711, 0.6703, 0.3992, 0.3289, 0.3305]),
    "gpt35": ([553, 23, 44, 180, 0], (121, 126), [0.8219, 0.7039, 0.3688, 0.3500, 0.2555]),
}


@pytest.mark.parametrize("judge", PRD)
def test_position_bias_of_peer_rank_judges(judge, published_data):
    outcomes, leans, rates = PRD[judge]
    winners = {1: "model_a", 2: "model_b", 3: "tie"}
    rows = []
    for path in (published_data / "prd" / "vicuna80" / f"ratings-{judge}").glob("answer_*.jsonl"):
        a, _, b = path.name.removeprefix("answer_").partition("-vs-answer_")
        b = b[: b.index(f"-{judge}-reviewer")]
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows.append(
                {"question_id": row["question_id"], "turn": 1, "model_a": a, "model_b": b}
                | {"judge": judge, "sample": 0, "winner": winners[row["score"]]}
                | NONE
            )
    games = frame("games", rows)
    assert position_bias(games)["pairs"].tolist() == outcomes
    lean = position_bias(games, rule="lean").set_index("outcome")["pairs"]
    assert (lean["biased_first"], lean["biased_second"]) == leans
    found = win_rates(resolve(games, "given")).set_index("model")["win_rate"]
    order = ["gpt4", "claude", "vicuna-13b", "gpt35", "bard"]
    assert [found[model] for model in order] == pytest.approx(rates, abs=5e-5)
