"""Answers to questions, through the store: turns, samples, templates, failures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from endpoints import Echo
from loopback import Loopback, chat, http

import lmjudge as lj
from lmjudge.errors import FrameError, Miss, PromptError
from lmjudge.generation import KINDS, RECIPES, devise, kinds, translate


def questions(*rows: dict) -> pd.DataFrame:
    plain = {"category": "writing", "reference": None}
    return pd.DataFrame(
        [plain | {"question_id": at, "turns": [f"Q{at}"]} | row for at, row in enumerate(rows)]
    )


def test_second_turns_see_the_first_answer(tmp_path: Path) -> None:
    store, echo = lj.Store(tmp_path / "store", mode="record"), Echo()
    answers = lj.generate(
        questions({"turns": ["one", "two"]}, {}), "m", store=store, endpoint=echo, samples=2
    )
    assert answers["turns"].tolist() == [["echo one", "echo two"]] * 2 + [["echo Q1"]] * 2
    assert answers["sample"].tolist() == [0, 1, 0, 1]
    requests = {record.request.key: record.request for record in store.records()}
    last = requests[answers["keys"][1][1]]
    assert [message["role"] for message in last.messages] == ["user", "assistant", "user"]
    assert (last.messages[1]["content"], last.sample) == ("echo one", 1)
    assert store.calls == 6
    again = lj.generate(questions({"turns": ["one", "two"]}, {}), "m", store=store, samples=2)
    pd.testing.assert_frame_equal(again, answers)


def test_what_goes_to_the_server(tmp_path: Path) -> None:
    """Temperature by category, seeds that differ by sample, system prompt, template."""
    answerer = lj.Answerer(
        "m",
        "m-careful",
        params={"temperature": 0.7, "seed": 40},
        temperatures={"math": 0.0},
        system="Be brief.",
        template="<{question}>",
        template_with_input="<{question}|{input}>",
    )
    rows = questions({"category": "math"}, {"input": "x {y}"})
    with Loopback() as server:
        answers = lj.generate(
            rows,
            answerer,
            store=lj.Store(tmp_path / "store", mode="record"),
            endpoint=lj.OpenAIEndpoint(server.url),
            samples=2,
        )
        bodies = [call.body for call in server.calls]
    assert set(answers["model"]) == {"m-careful"}
    sent = {(b["messages"][-1]["content"], b["seed"]): b for b in bodies}
    assert set(sent) == {("<Q0>", 40), ("<Q0>", 41), ("<Q1|x {y}>", 40), ("<Q1|x {y}>", 41)}
    assert sent["<Q0>", 40]["temperature"] == 0.0
    assert sent["<Q1|x {y}>", 40]["temperature"] == 0.7
    assert all(b["messages"][0] == {"role": "system", "content": "Be brief."} for b in bodies)


def test_failures_are_typed_and_never_judged(tmp_path: Path) -> None:
    """An error, a filter, an empty text and a refusal end a conversation; the others go on."""
    store = lj.Store(tmp_path / "store", mode="record")
    rows = questions({}, {"turns": ["bad", "more"]}, {})
    answers = lj.generate(rows, "m", store=store, endpoint=Echo(fail=frozenset({"bad"})))
    assert answers["reason"].fillna("").tolist() == ["", "content_filter", ""]
    assert answers["turns"].isna().tolist() == [False, True, False]
    assert lj.line_up(rows, answers)["question_id"].tolist() == [0, 2]
    bodies = [
        http(200, chat("")),
        http(200, chat(None, refusal="I cannot")),
        http(200, chat("cut", finish_reason="length")),
    ]

    def scripted(body: dict, nth: int) -> list[bytes]:
        return [bodies[int(body["messages"][0]["content"][1])]]

    with Loopback(script=scripted) as server:
        endpoint = lj.OpenAIEndpoint(server.url)
        answers = lj.generate(questions({}, {}, {}), "n", store=store, endpoint=endpoint)
    assert answers["reason"].fillna("").tolist() == ["empty", "refusal", ""]
    assert answers["finish_reason"].tolist()[2] == "length"


def test_replay_spends_nothing(tmp_path: Path) -> None:
    with pytest.raises(Miss, match="1 request"):
        lj.generate(questions({}), "m", store=lj.Store(tmp_path / "store"))


def test_recipes_are_answerers() -> None:
    for recipe in RECIPES.values():
        assert lj.Answerer("gpt-4", **recipe).model == "gpt-4"
    gpt4llm = lj.Answerer("gpt-4", **RECIPES["gpt4llm"])
    assert gpt4llm.params == {"temperature": 1.0, "top_p": 1.0, "max_tokens": 512}
    assert gpt4llm.template is None  # that of the authors' code is fetched


def test_translated_questions_keep_their_own_text(tmp_path: Path) -> None:
    rows = questions({"turns": ["one", "two"]}, {"input": "thing"}, {"turns": ["bad"]})
    translated = translate(
        rows,
        lj.Answerer("m"),
        store=lj.Store(tmp_path / "store", mode="record"),
        endpoint=Echo(fail=frozenset({"bad"})),
    )
    assert translated["question_id"].tolist() == [0, 1]
    assert translated["turns"].tolist() == [["echo one", "echo two"], ["echo Q1"]]
    assert translated["original"].tolist() == [["one", "two"], ["Q1"]]
    assert translated["input"][1] == "echo thing"


def test_a_question_set_is_devised_by_category(tmp_path: Path) -> None:
    """Numbered lines are questions; chatter, repeats and what was cut off are none."""
    replies = {
        "fermi": "Here you are:\n1. How many bees?\n\n**2.** How many {trees}?\n3) How many bees?",
        "math": "1. What is 2 + 2?\n2. What is 17 ti",
    }

    def answer(body: dict) -> dict:
        text = body["messages"][0]["content"]
        assert '2 questions of the kind "' in text
        kind = next(name for name in replies if f'"{name}"' in text)
        return chat(replies[kind], finish_reason="length" if kind == "math" else "stop")

    wanted = kinds(2, {"fermi": KINDS["fermi"], "math": "sums"})
    with Loopback(answer=answer) as server:
        devised = devise(
            wanted,
            lj.Answerer("m", **RECIPES["devise"]),
            store=lj.Store(tmp_path / "store", mode="record"),
            endpoint=lj.OpenAIEndpoint(server.url),
        )
    assert devised["question_id"].tolist() == ["fermi-1", "fermi-2", "math-1"]
    assert devised["category"].tolist() == ["fermi", "fermi", "math"]
    assert [turns[0] for turns in devised["turns"]] == [
        "How many bees?",
        "How many {trees}?",
        "What is 2 + 2?",
    ]
    assert len(kinds()) == len(KINDS)
    with pytest.raises(ValueError, match="count is 0"):
        kinds(0)


def test_bad_questions_and_templates_are_said(tmp_path: Path) -> None:
    store = lj.Store(tmp_path / "store")
    with pytest.raises(FrameError, match="expected a list of texts"):
        lj.generate(questions({"turns": "Q"}), "m", store=store)
    with pytest.raises(FrameError, match="appears 2 times"):
        lj.generate(questions({"question_id": 7}, {"question_id": 7}), "m", store=store)
    with pytest.raises(PromptError, match=r"expected \{question\}"):
        lj.Answerer("m", template="{prompt}")
    with pytest.raises(PromptError, match="lone brace"):
        lj.Answerer("m", template="{question} }")
    with pytest.raises(PromptError, match="model name is empty"):
        lj.Answerer("")
