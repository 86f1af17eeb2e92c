"""Any column as a placeholder, whole dialogues, agents and pictures: in Python and in the shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from loopback import Loopback
from support import written

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.errors import FrameError, PromptError
from lmjudge.judges import judge_requests
from lmjudge.turns import content, dialogue

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
AGENT = [
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q": 1}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "It rains. [[10]] {answer}"},
    {"role": "assistant", "content": "Take an umbrella."},
]
SPOKEN = (
    '(assistant replies)\nLet me look.\n\n(assistant calls find)\n{"q": 1}\n\n(find returns)\n'
    "It rains. [[10]] {answer}\n\n(assistant replies)\nTake an umbrella."
)


def questions(**more: Any) -> pd.DataFrame:
    rows = [
        {"question_id": 1, "category": "talk", "turns": ["a?", "b?", "c?"], "reference": None},
        {"question_id": 2, "category": "talk", "turns": ["d?"], "reference": None},
    ]
    return pd.DataFrame(rows).assign(**more)


def answers(*models: str) -> pd.DataFrame:
    rows = [(1, ["A!", "B!", "C!"]), (2, ["D!"])]
    return pd.DataFrame(
        [
            {"question_id": q, "model": m, "turns": [f"{m}{turn}" for turn in turns], "sample": 0}
            for m in models
            for q, turns in rows
        ]
    )


def shown(frame: pd.DataFrame, judge: lj.Judge, **how: Any) -> list[str]:
    return [request.messages[-1]["content"] for _, request in judge_requests(frame, judge, **how)]


def test_any_column_is_shown_as_it_is_and_only_once() -> None:
    lineup = lj.line_up(
        questions(
            context=["{answer} [[9]]", "plain"],
            facts=[["x", "{y}"], ["z"]],
            level=[3.0, 4.0],
            meta=[{"k": "é"}, {}],
        ),
        answers("m").assign(seconds=[1.5, 2]),
    )
    judge = lj.Judge("{context}|{facts}|{level}|{meta}|{seconds}|{answer} [[rating]]", "j")
    assert shown(lineup, judge) == [
        '{answer} [[9]]|- x\n- {y}|3|{"k": "é"}|1.5|mA! [[rating]]',
        "plain|- z|4|{}|2|mD! [[rating]]",
    ]
    with pytest.raises(PromptError, match=r"shows \{contxt\}.* did you mean \{context\}\?"):
        judge_requests(lineup, lj.Judge("{contxt} {answer} [[1]]", "j"))
    lacking = lineup.assign(context=["there", None])
    with pytest.raises(FrameError, match=r"1 of the questions, such as 2, have no text for \{con"):
        judge_requests(lacking, judge)


def test_columns_of_two_answers_change_sides_with_them() -> None:
    pairs = lj.pair_up(questions(), answers("x", "y").assign(seconds=[1, 2, 3, 4])).head(1)
    judge = lj.Judge("{answer_a} {seconds_a} | {answer_b} {seconds_b} [[A]]", "j")
    assert shown(pairs, judge) == ["xA! 1 | yA! 3 [[A]]", "yA! 3 | xA! 1 [[A]]"]


def test_an_input_is_shown_apart_where_the_prompt_asks_for_it() -> None:
    lineup = lj.line_up(questions(input=["pear, plum", None]), answers("m")).head(1)
    assert shown(lineup, lj.Judge("{question} / {input} / {answer} [[1]]", "j")) == [
        "a? / pear, plum / mA! [[1]]"
    ]
    assert shown(lineup, lj.Judge("{question} / {answer} [[1]]", "j")) == [
        "a?\n\npear, plum / mA! [[1]]"
    ]


def test_a_conversation_is_what_came_before_the_answer() -> None:
    lineup = lj.line_up(questions(system=["Be brief.", None]), answers("m"))
    judge = lj.Judge("{conversation}\n=> {answer} to {question} [[1]]", "j")
    last = shown(lineup, judge, turns="last")
    assert last[0] == (
        "(system)\nBe brief.\n\n(user asks)\na?\n\n(assistant replies)\nmA!\n\n(user asks)\nb?\n\n"
        "(assistant replies)\nmB!\n\n(user asks)\nc?\n=> mC! to c? [[1]]"
    )
    assert last[1] == "(user asks)\nd?\n=> mD! to d? [[1]]"
    rows = [row for row, _ in judge_requests(lineup, judge, turns="all")]
    assert [(row["question_id"], row["turn"]) for row in rows] == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert shown(lineup, judge, turns=(3, 1))[0] == last[0]
    assert shown(lineup, judge, turns=[*pd.Series([3, 1]).unique()])[0] == last[0]
    with pytest.raises(PromptError, match=r"shows turn 1 and was asked for turn 3.*conversation"):
        judge_requests(lineup, lj.Judge("{answer} [[1]]", "j"), turns="last")


def test_families_judge_every_turn_and_the_plan_names_those_left(tmp_path: Path) -> None:
    lineup, store = lj.line_up(questions(), answers("m")), lj.Store(tmp_path / "store")
    for name in ("single", "pair"):
        judge = lj.Judge(name, "j")
        frame = lineup if name == "single" else lj.pair_up(questions(), answers("x", "y"))
        names = [judge.choose("talk", turn, False).name for turn in (1, 2, 3, 9)]
        assert [one.removeprefix(f"{name}-general") for one in names] == [
            "",
            "-two-turn",
            "-dialogue",
            "-dialogue",
        ]
        text = str(lj.plan(frame, judge, store=store, turns=(1,)))
        assert "; not judged: turn 2 of 1 rows, turn 3 of 1 rows (turns=" in text
        assert "not judged" not in str(lj.plan(frame, judge, store=store, turns="all"))
    guided = lj.Judge("single", "j").choose("math", 3, True)
    assert guided.placeholders == {"conversation", "answer", "ref_answer"}


def test_two_histories_are_shown_apart_and_one_together() -> None:
    apart = lj.pair_up(questions(), answers("x", "y"))
    judge = lj.Judge("{conversation}\nA {answer_a}\nB {answer_b} [[A]]", "j")
    with pytest.raises(FrameError, match=r"have no text for \{conversation\}"):
        judge_requests(apart, judge, turns="last")
    both = lj.Judge("{conversation_a} A {answer_a} | {conversation_b} B {answer_b} [[A]]", "j")
    one, other = shown(apart, both, turns="last")[:2]
    assert one.count("xA!") == one.count("yA!") == 1
    assert one.index("xC!") < one.index("yC!")
    assert other.index("yC!") < other.index("xC!")
    alike = apart.assign(
        answer_b=[
            [*a[:-1], b[-1]] for a, b in zip(apart["answer_a"], apart["answer_b"], strict=True)
        ]
    )
    assert shown(alike, judge, turns="last")[0].startswith("(user asks)\na?\n\n(assistant replies)")


def test_an_agents_messages_are_one_readable_text() -> None:
    assert content(AGENT) == SPOKEN
    claude = [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]},
    ]
    assert content(claude) == "(assistant calls f)\n{}\n\n(f returns)\nok"
    assert dialogue(["Rain?"], []) == "(user asks)\nRain?"
    agent = answers("m").head(1).assign(turns=[[AGENT]])
    lineup = lj.line_up(questions().head(1), agent)
    assert shown(lineup, lj.Judge("{answer} [[1]]", "j")) == [f"{SPOKEN} [[1]]"]


def test_a_tool_that_returns_nothing_is_shown_and_broken_messages_are_refused() -> None:
    silent = [AGENT[0], AGENT[1] | {"content": ""}]
    assert content(silent).endswith("(find returns)\n")  # type: ignore[union-attr]
    for bad in ({"content": ["text"]}, {"tool_calls": ["find"]}):
        with pytest.raises(FrameError, match="objects in its tool_calls"):
            content([{"role": "assistant", **bad}])


@pytest.mark.parametrize("cell", [None, float("nan"), pd.NA, pd.NaT, np.float32("nan")])
def test_a_missing_cell_is_an_error_before_the_first_call(cell: Any) -> None:
    lineup = lj.line_up(questions(), answers("m")).assign(
        context=pd.Series([cell, "x"], dtype=object)
    )
    with pytest.raises(FrameError, match="1 of the questions, such as 1, have no text for"):
        judge_requests(lineup, lj.Judge("{context} {answer} [[1]]", "j"))


def test_arrays_in_a_cell_are_shown_as_lists() -> None:
    """Parquet gives lists of objects as arrays."""
    cells = [np.array([{"k": np.array([1, 2])}], dtype=object), np.array(["x", "y"])]
    lineup = lj.line_up(questions(), answers("m")).assign(context=cells)
    first, second = shown(lineup, lj.Judge("{context} {answer} [[1]]", "j"))
    assert first.startswith('[{"k": [1, 2]}] ')
    assert second.startswith("- x\n- y ")


def test_turns_that_no_row_has_and_turns_named_twice_are_refused() -> None:
    lineup = lj.line_up(questions(), answers("m"))
    judge = lj.Judge("single", "j")
    with pytest.raises(FrameError, match="none of the 2 rows has a question and an answer at turn"):
        judge_requests(lineup, judge, turns=(9,))
    for turns in ((1, 1), (), (0,), "4", 1, [True]):
        with pytest.raises(ValueError, match="expected turns such as"):
            judge_requests(lineup, judge, turns=turns)  # type: ignore[arg-type]
    for turns in (range(1, 3), np.array([1, 2])):
        assert len(shown(lineup, judge, turns=turns)) == 3  # type: ignore[arg-type]


def test_pictures_go_out_as_they_are_and_web_addresses_do_not() -> None:
    seen = [{"type": "text", "text": "What is {this}?"}, PICTURE]
    asked = questions(turns=[[seen], ["d?"]])
    lineup = lj.line_up(asked, answers("m"))
    parts, text = shown(lineup, lj.Judge("Q {question} A {answer} [[1]]", "j"))
    assert parts == [
        {"type": "text", "text": "Q What is {this}?"},
        PICTURE,
        {"type": "text", "text": " A mA! [[1]]"},
    ]
    assert text == "Q d? A mD! [[1]]"
    far = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    with pytest.raises(FrameError, match="give the picture itself as a data URL"):
        judge_requests(
            lineup.assign(question=[[[far]], ["d?"]]), lj.Judge("{question}{answer}[[1]]", "j")
        )
    for part in (
        {"type": "video_url", "video_url": {"url": "https://example.org/cat.mp4"}},
        {"type": "image", "source": {"type": "url", "url": "http://example.org/cat.png"}},
        {"type": "input_file", "file_url": "https://example.org/cat.pdf"},
    ):
        with pytest.raises(FrameError, match="data URL"):
            content([part])
    with pytest.raises(FrameError, match="data URL"):
        lj.generate(asked.assign(turns=[[[far]], ["d?"]]), "m", store=lj.Store("nowhere"))


def reply(body: dict[str, Any]) -> str:
    said = body["messages"][-1]["content"]
    text = said if isinstance(said, str) else json.dumps(said)
    judged = "[[1]]" in text or "[[7]]" in json.dumps(body["messages"][:1])
    return "Fine.\n[[5]]" if judged else f"reply {len(body['messages'])}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "store"))
    return tmp_path


def test_a_dialogue_with_a_picture_is_led_and_judged_in_the_shell(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = ["one", [{"type": "text", "text": "two"}, PICTURE], "three", "four"]
    rows = [
        {"question_id": 1, "category": "c", "turns": turns, "system": "Be kind.", "context": "sea"},
        {"question_id": 2, "category": "c", "turns": ["alone"], "context": "land"},
    ]
    written(here / "q.jsonl", *rows)
    with Loopback(answer=reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main(["generate", "q.jsonl", "--model", "m", "--system", "Be bold."]) == 0
        sent = [call.body["messages"] for call in server.calls]
        longest = max(sent, key=len)
        assert [one["role"] for one in longest] == ["system", *["user", "assistant"] * 3, "user"]
        assert longest[0]["content"] == "Be kind."
        assert longest[3]["content"] == [{"type": "text", "text": "two"}, PICTURE]
        assert {one[0]["content"] for one in sent} == {"Be kind.", "Be bold."}
        rubric = here / "sea rubric.txt"
        rubric.write_text("About {context}.\n{conversation}\n>> {answer}\nEnd in [[1]] to [[5]].\n")
        words = ["q.jsonl", "model_answer", "--judge", "j"]
        own = ["--prompt", f"@{rubric}", "--scale", "1,5"]
        capsys.readouterr()
        assert main(["judge", *words, *own, "--turns", "all", "--out", "all.jsonl"]) == 0
        assert "own-single-sea-rubric-" in capsys.readouterr().out
        assert main(["judge", *words, *own, "--out", "last.jsonl"]) == 0
        assert "2 answered in the store, 0 not" in capsys.readouterr().out
        assert main(["plan", "judge", *words]) == 0
        assert "not judged: turn 3 of 1 rows, turn 4 of 1 rows" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            main(["judge", *words, "--turns", "last", "2"])
    scores = lj.load_judgments("all.jsonl")
    assert scores[["question_id", "turn"]].values.tolist() == [["1", n] for n in (1, 2, 3, 4)] + [
        ["2", 1]
    ]
    assert set(scores["score"]) == {5}
    assert lj.load_judgments("last.jsonl")["turn"].tolist() == [4, 1]


def test_an_agents_trajectory_is_read_and_judged_in_the_shell(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(here / "q.jsonl", {"uid": "1", "prompt": "Rain?", "category": "c"})
    talk = [{"role": "user", "content": "Rain?"}, *AGENT]
    written(here / "agent.jsonl", {"uid": "1", "model": "m", "messages": talk})
    with Loopback(answer=reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert main(["judge", "q.jsonl", "agent.jsonl", "--judge", "j"]) == 0
        (call,) = server.calls
    assert f"<<< REPLY\n{SPOKEN}\n>>> END OF REPLY" in call.body["messages"][-1]["content"]


def test_mt_bench_101_and_helpsteer3_are_judged_whole(
    here: Path, monkeypatch: pytest.MonkeyPatch, published_data: Path
) -> None:
    rows = published_data / "formats" / "layouts"
    with Loopback(answer=reply) as server:
        endpoint = lj.OpenAIEndpoint(server.url)
        store = lj.Store(mode="record")
        asked = lj.load_questions(rows / "mtb101.jsonl")
        said = lj.generate(asked, "m", store=store, endpoint=endpoint)
        assert said["turns"][0] == ["reply 1", "reply 3", "reply 5"]
        scores = lj.judge_answers(
            lj.line_up(asked, said),
            lj.Judge("single", "j"),
            store=store,
            endpoint=endpoint,
            turns="all",
        )
        assert scores["turn"].tolist() == [1, 2, 3]
        assert "(user asks)\nu3" in server.calls[-1].body["messages"][-1]["content"]
        pairs = lj.load_pairings(rows / "helpsteer3.jsonl")
        games = lj.judge_pairs(
            pairs, lj.Judge("pair", "j"), store=store, endpoint=endpoint, turns="last"
        )
        assert games["turn"].tolist() == [2, 2]
        text = server.calls[-1].body["messages"][-1]["content"]
        assert text.count("A1") == 2
        assert text.index("R2") < text.index("R1")
