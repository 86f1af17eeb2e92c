"""The input of a question is shown wherever the question is: to judges, voters and in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from endpoints import Echo

import lmjudge as lj
from lmjudge.frames import frame, with_input
from lmjudge.train import pairs_from_scores, pairs_from_votes
from lmjudge.widgets.browser import browse
from lmjudge.widgets.live import arena
from lmjudge.widgets.voting import vote

SHOWN = "Identify the odd one out.\n\npear, plum, spoon"


@pytest.fixture
def questions() -> pd.DataFrame:
    """One question with an input, two without: a missing one and an empty one."""
    first = {"question_id": "q1", "turns": ["Identify the odd one out.", "Why?"]}
    rows: list[dict[str, Any]] = [
        first | {"input": "pear, plum, spoon"},
        {"question_id": "q2", "turns": ["Say hi."], "input": None},
        {"question_id": "q3", "turns": ["Say bye."], "input": ""},
    ]
    return pd.DataFrame([row | {"category": "generic", "reference": None} for row in rows])


@pytest.fixture
def answers(questions: pd.DataFrame) -> pd.DataFrame:
    """The answers of two models."""
    rows = [
        {"question_id": row["question_id"], "model": model, "turns": [f"{model}!"], "sample": 0}
        for model in ("m", "n")
        for row in questions.to_dict("records")
    ]
    return frame("answers", rows)


@pytest.mark.parametrize("prompt", ["single", "pair", "many", "single-json", "pair-plain"])
def test_a_judge_reads_the_input(
    questions: pd.DataFrame, answers: pd.DataFrame, prompt: str
) -> None:
    judge = lj.Judge(prompt, model="j", parser="json" if prompt.endswith("json") else "strict")
    shown = (lj.pair_up if judge.pairwise else lj.line_up)(questions, answers)
    asked = [
        (row["question_id"], str(request.messages[-1]["content"]))
        for row, request in lj.judges.judge_requests(shown, judge)
    ]
    assert asked
    assert all((SHOWN in text) == (question == "q1") for question, text in asked)


@pytest.mark.parametrize("prompt", ["single", "pair", "many"])
def test_a_question_without_an_input_keeps_its_keys(
    questions: pd.DataFrame, answers: pd.DataFrame, prompt: str
) -> None:
    judge = lj.Judge(prompt, model="j")
    beside = lj.pair_up if judge.pairwise else lj.line_up
    keys = [
        [
            request.key
            for row, request in lj.judges.judge_requests(beside(asked, answers), judge)
            if row["question_id"] != "q1"
        ]
        for asked in (questions, questions.drop(columns="input"))
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("form", ["better", "hhh"])
def test_a_voter_reads_the_input(
    questions: pd.DataFrame, answers: pd.DataFrame, tmp_path: Path, form: Any
) -> None:
    pairings = lj.pair_up(questions, answers)
    ballot = vote(pairings, voter="ann", path=tmp_path / "v.jsonl", form=form)
    shown = {case.question_id: case.question for case in ballot.cases.values()}
    assert shown == {"q1": (SHOWN,), "q2": ("Say hi.",), "q3": ("Say bye.",)}
    read = ["\n".join(ballot.read_by_voter(case)["question"]) for case in ballot.cases.values()]
    assert SHOWN in read


def test_an_arena_shows_and_asks_the_input(questions: pd.DataFrame, tmp_path: Path) -> None:
    live = {name: Echo() for name in ("m", "n")}
    store = lj.Store(tmp_path / "store", mode="record")
    shown = arena(questions[:1], live, store=store, voter="ann", path=tmp_path / "v.jsonl")
    case = shown.state()["case"]
    assert case["question"] == [SHOWN]
    assert case["a"] == [f"echo {SHOWN}"]


def test_a_browser_shows_and_finds_the_input(
    questions: pd.DataFrame, answers: pd.DataFrame
) -> None:
    row = {"question_id": "q1", "turn": 1, "model": "m", "judge": "j", "sample": 0, "score": 7.0}
    scores = frame("scores", [row | {"reason": None, "text": "[[7]]", "key": None}])
    browser = browse(scores, questions=questions, answers=answers)
    assert SHOWN in str(browser.state()["case"]["question"][0])
    assert "spoon" in browser.html()


def test_training_and_rewards_read_the_input(
    questions: pd.DataFrame, answers: pd.DataFrame, tmp_path: Path
) -> None:
    lineup = lj.line_up(questions, answers)
    assert lineup["question"].tolist()[:2] == [[SHOWN, "Why?"], ["Say hi."]]
    row = {"question_id": "q1", "turn": 1, "judge": "j", "reason": None, "text": None, "key": None}
    scores = [
        row | {"model": model, "sample": 0, "score": score} for model, score in (("m", 7), ("n", 3))
    ]
    assert pairs_from_scores(frame("scores", scores), lineup)["prompt"].tolist() == [SHOWN]
    votes = row | {"model_a": "m", "model_b": "n", "group": "crowd", "winner": "model_a"}
    pairs = pairs_from_votes(frame("votes", [votes | {"time": None}]), lineup)
    assert pairs["prompt"].tolist() == [SHOWN]


@pytest.mark.train
def test_an_answerer_learns_from_the_input(questions: pd.DataFrame, answers: pd.DataFrame) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from tiny import tiny_tokenizer

    from lmjudge.train.answering import conversation_items

    tokenizer = tiny_tokenizer()
    lineup = lj.line_up(questions, answers)
    (item, *_), _, _ = conversation_items(lineup[:1], tokenizer, 512)
    assert "pear" in tokenizer.decode(item["ids"])


@pytest.mark.parametrize("turns", [None, float("nan"), [], "Say hi."])
def test_turns_that_are_no_list_stay_as_they_are(turns: Any) -> None:
    assert with_input(turns, "pear") is turns
