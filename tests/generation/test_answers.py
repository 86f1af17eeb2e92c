"""Answers that are none: reasoning blocks, failure marks, empty texts, cut-off answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, strategies as st
from loopback import Loopback, chat

from lmjudge.cli import main
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import AnswersLeftOut
from lmjudge.frames import finished, line_up, pair_up
from lmjudge.generation import Answerer, generate
from lmjudge.judges import Judge, judge_answers
from lmjudge.reasoning import after_reasoning, answer_text
from lmjudge.store import Store

BLOCKS = [
    "<think>{}</think>",
    "<thinking>{}</thinking>",
    "<thought>{}</thought>",
    "<seed:think>{}</seed:think>",
    "[THINK]{}[/THINK]",
    "◁think▷{}◁/think▷",
    "<|begin_of_thought|>{}<|end_of_thought|>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel>thought\n{}<channel|>",
    "analysis{}assistantfinal",
]


@pytest.mark.parametrize("block", BLOCKS)
@given(st.text(alphabet=st.characters(exclude_characters="<[◁a\\"), min_size=1))
def test_a_reasoning_block_is_no_part_of_an_answer(block: str, thought: str) -> None:
    whole = block.format(f"Hm.\n{thought}")
    assert answer_text(f"{whole}\n\nFour.") == "Four."
    assert after_reasoning(f"{whole}\n\n[[B]]") == "[[B]]"
    cut = whole[: whole.index("Hm.") + 3]
    if not block.startswith("analysis"):  # without marks it cannot be told from a text
        assert answer_text(cut) == ""
        assert after_reasoning(f"{cut}\n[[B]]") == ""


@given(st.text())
def test_a_text_without_marks_is_an_answer_as_it_stands(text: str) -> None:
    if not any(mark in text.lower() for mark in ("<", "[/think]", "[think]", "◁", "analysis")):
        assert answer_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Use a <think> tag, then close it with </think> again.",
        "<analysis>asked for in XML</analysis><verdict>fine</verdict>",
        "<reasoning>so</reasoning> 4",
        "Analysis of the assistant\n\nIt is final.",
        "<thinker>x</thinker>",
    ],
)
def test_marks_that_an_answer_speaks_of_stay(text: str) -> None:
    assert answer_text(text) == text


QUESTIONS = pd.DataFrame(
    {
        "question_id": [1, 2, 3, 4, 5, 6],
        "category": "c",
        "turns": [["one", "two"]] * 6,
        "reference": None,
    }
)
TURNS = [
    ["good", "fine"],
    ["$ERROR$", "$ERROR$"],
    [" \n", "fine"],
    ["good", ""],
    ["<think>never ends", "fine"],
    ["cut off in the", "middle of"],
]


def answers(model: str = "x") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "question_id": QUESTIONS["question_id"],
            "model": model,
            "turns": TURNS,
            "sample": 0,
            "finish_reason": ["stop"] * 5 + ["length"],
        }
    )


def test_answers_that_are_none_are_left_out_and_told() -> None:
    with pytest.warns(
        AnswersLeftOut, match="left out 4 of 6 rows, their answers 3 empty and 1 cut"
    ):
        lines = line_up(QUESTIONS, answers())
    assert lines["question_id"].tolist() == [1, 4]
    assert lines["answer"].tolist() == [["good", "fine"], ["good"]]
    with pytest.warns(AnswersLeftOut) as caught:
        pairs = pair_up(QUESTIONS, pd.concat([answers(), answers("y")]))
    assert pairs["question_id"].tolist() == [1, 4]
    assert len(caught[0].message.rows) == 8


def test_answers_that_are_none_are_kept_when_asked_for() -> None:
    lines = line_up(QUESTIONS, answers(), unfinished=True, reasoning=True)
    assert lines["answer"].tolist() == TURNS
    assert line_up(QUESTIONS, answers(), unfinished=True)["answer"].tolist()[4] == ["", "fine"]


def test_pairs_of_a_file_are_read_as_answers_too() -> None:
    pairs = pair_up(
        QUESTIONS, pd.concat([answers(), answers("y")]), unfinished=True, reasoning=True
    )
    pairs.at[0, "answer_b"] = ["<think>\nhm\n</think>\n\nb"]
    with pytest.warns(AnswersLeftOut):
        cleaned = finished(pairs)
    assert cleaned["question_id"].tolist() == [1, 4, 6]  # that 6 was cut off, no pair says
    assert cleaned.at[0, "answer_b"] == ["b"]


def test_reasoning_goes_into_no_later_turn_unless_asked_for(tmp_path: Path) -> None:
    text = "<think>\nIs it 3?\n</think>\n\n4"
    store = Store(tmp_path / "judgments", mode="record")
    with Loopback(lambda body: text) as server:
        for keeps in (False, True):
            answers = generate(
                QUESTIONS.head(1),
                Answerer("m", reasoning=keeps),
                store=store,
                endpoint=OpenAIEndpoint(server.url),
            )
            assert answers["turns"].tolist() == [[text, text]]
            history = server.calls[-1].body["messages"]
            assert history[1] == {"role": "assistant", "content": text if keeps else "4"}
            # The first turn has one key: only what has a block before it is asked for anew.
            assert len(server.calls) == 2 + keeps
        judge_answers(
            line_up(QUESTIONS, answers),
            Judge("single", "j"),
            store=store,
            endpoint=OpenAIEndpoint(server.url),
        )
        shown = json.dumps(server.calls[-1].body)
    assert "Is it 3" not in shown


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (chat("<think>hm</think>\n"), "only_reasoning"),
        (chat("<think>hm", "length"), "only_reasoning"),
        (chat(None, "length", reasoning_content="hm"), "empty"),
        (chat("", "SAFETY"), "content_filter"),
        (chat("", refusal="no"), "refusal"),
    ],
)
def test_a_reply_without_an_answer_ends_its_conversation(
    tmp_path: Path, said: dict[str, Any], reason: str
) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    with Loopback(lambda body: said) as server:
        answers = generate(QUESTIONS.head(1), "m", store=store, endpoint=OpenAIEndpoint(server.url))
    assert answers["turns"].tolist() == [None]
    assert answers["reason"].tolist() == [reason]
    assert len(server.calls) == 1


@pytest.mark.parametrize("ending", ["length", "max_tokens", "model_context_window_exceeded"])
def test_an_answer_cut_off_in_any_words_is_cut_off(tmp_path: Path, ending: str) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    with Loopback(lambda body: chat("It is", ending)) as server:
        answers = generate(QUESTIONS.head(1), "m", store=store, endpoint=OpenAIEndpoint(server.url))
    assert answers["finish_reason"].tolist() == ["length"]


def test_the_command_line_tells_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question_id": n, "category": "c", "turns": [f"Question {n}?"]} for n in range(3)]
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        if body["model"] == "j":
            return chat("Fine.\n[[7]]")
        if "Question 2" in json.dumps(body):
            return chat("An answer that is cut", "length")
        return chat("<think>\nSecretly.\n</think>\n\nAn answer.")

    with Loopback(answer) as server:
        shared = ["--base-url", server.url, "--store", "judgments"]
        assert main(["generate", "q.jsonl", "--model", "m", *shared]) == 0
        assert "1 of 3 answers were cut off at the longest reply" in capsys.readouterr().out
        judging = ["judge", "q.jsonl", "model_answer", "--judge", "j", *shared]
        assert main(judging) == 0
        output = capsys.readouterr().out
        assert "left out 1 of 3 rows, their answers 1 cut off" in output
        assert "--include-unfinished" in output
        assert sum(call.body["model"] == "j" for call in server.calls) == 2
        assert "Secretly" not in json.dumps([call.body for call in server.calls])
        assert main([*judging, "--include-unfinished", "--include-reasoning"]) == 0
        assert "left out" not in capsys.readouterr().out
        assert sum("Secretly" in json.dumps(call.body) for call in server.calls) == 2
        assert sum(call.body["model"] == "j" for call in server.calls) == 5
