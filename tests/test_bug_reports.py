"""Faults that users of other judging tools reported: each has a test with the right value.

`bug_reports.csv` names the tests of each case. Here are those that no other file holds.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from loopback import Loopback, always, chat, http

import lmjudge as lj
from lmjudge.errors import DataError
from lmjudge.report import run
from lmjudge.stats.corrected import corrected_win_rates

HERE = Path(__file__).parent


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_case_names_tests_that_exist() -> None:
    with (HERE / "bug_reports.csv").open(newline="") as file:
        cases = list(csv.DictReader(file))
    files = {path.name: path.read_text() for path in HERE.rglob("test_*.py")}
    assert len({case["case"] for case in cases}) == len(cases) == 72
    for case in cases:
        for test in case["tests"].split():
            name, _, function = test.partition("::")
            assert re.search(rf"^def {function}\(", files[name], re.MULTILINE), test


@pytest.mark.parametrize(
    ("said", "score", "reason"),
    [
        ("Feedback: right and clear. [RESULT] 4", 4.0, None),
        ("Feedback: right.\n[RESULT] 7", None, "out_of_range"),
        ("Feedback: right.", None, "no_verdict"),
    ],
)
def test_a_model_trained_to_end_in_result_is_a_judge(
    tmp_path: Path, said: str, score: float | None, reason: str | None
) -> None:
    judge = lj.Judge("{question} {answer}\nEnd in [RESULT] 1 to 5.", "p", "result", scale=(1, 5))
    questions = pd.DataFrame({"question_id": ["1"], "category": ["c"], "turns": [["Why?"]]})
    questions["reference"] = None
    answers = pd.DataFrame({"question_id": ["1"], "model": ["m"], "turns": [["So."]], "sample": 0})
    with Loopback(script=always([http(200, chat(said))])) as server:
        store = lj.Store(tmp_path / "judgments", mode="record")
        lineup = lj.line_up(questions, answers)
        scores = lj.judge_answers(
            lineup, judge, store=store, endpoint=lj.OpenAIEndpoint(server.url)
        )
    [read] = scores["score"].astype(object).where(scores["score"].notna(), None)
    assert (read, scores["reason"][0] or None) == (score, reason)
    with pytest.raises(lj.errors.PromptError, match=r"an end such as \[RESULT\] 4"):
        lj.Judge("{question} {answer}", "p", "result")


def test_judgments_appended_by_a_second_run_are_samples(tmp_path: Path) -> None:
    row = {"question_id": 1, "model": "m", "judge": ["j", "single-v1"], "user_prompt": "u"}
    row |= {"judgment": "[[5]]", "score": 5, "turn": 1, "tstamp": 1.0}
    again = row | {"judgment": "[[9]]", "score": 9, "tstamp": 2.0}
    path = lines(tmp_path / "single.jsonl", row, again)
    scores = lj.load_judgments(path)
    assert scores[["sample", "score"]].values.tolist() == [[0, 5.0], [1, 9.0]]


def test_an_empty_label_and_a_failed_run_are_rows_without_a_verdict(tmp_path: Path) -> None:
    row = {"model": "m", "baseline": "b", "judge": "j"}
    games = [{"user_prompt": "u", "judgment": "x", "score": ""}] * 2
    path = lines(
        tmp_path / "m.jsonl",
        row | {"question_id": "1", "games": games},
        row | {"question_id": "2", "games": []},
    )
    votes = lj.load_votes(path)
    assert votes["question_id"].tolist() == ["1", "2"]
    assert votes["winner"].isna().all()
    assert votes["reason"].tolist() == ["no_verdict", "request_failed"]


def test_preferences_of_alpaca_eval(tmp_path: Path) -> None:
    row = {"instruction": "i", "output_1": "x", "output_2": "y", "annotator": "a"}
    named = row | {"generator_1": "base", "generator_2": "m"}
    values = [1.2, 1.9, None]
    path = tmp_path / "annotations.json"
    # As pandas writes a missing value: no JSON, and read all the same.
    path.write_text(json.dumps([named | {"preference": p} for p in values]).replace("null", "NaN"))
    votes = lj.load_votes(path)
    assert votes["winner"].fillna("").tolist() == ["model_a", "model_b", ""]
    assert votes["preference"].tolist()[:2] == values[:2]
    path.write_text(json.dumps([row | {"preference": 2}]))
    [vote] = lj.load_votes(path).to_dict("records")
    assert [vote[name] for name in ("model_a", "model_b", "winner")] == [
        "output_1",
        "output_2",
        "model_b",
    ]


def test_an_empty_judge_is_a_missing_judge(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(
        "question_id,model_a,model_b,winner,judge\n1,a,b,model_a,ann\n2,a,b,tie,\n"
    )
    assert lj.load_votes(tmp_path / "v.csv")["judge"].isna().tolist() == [False, True]


def test_a_criterion_and_a_model_named_as_missing_values_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("question_id,model_a,model_b,winner,judge,criterion\n1,None,b,model_a,x,NA\n")
    [vote] = lj.load_votes(path).to_dict("records")
    assert (vote["model_a"], vote["criterion"], vote["winner"]) == ("None", "NA", "model_a")


def test_ids_of_two_types_meet_in_corrected_rates() -> None:
    votes = pd.DataFrame(
        {
            "question_id": range(20),
            "turn": 1,
            "model_a": "a",
            "model_b": "b",
            "winner": ["model_a", "model_b"] * 10,
            "reason": None,
            "time": float("nan"),
        }
    )
    people = votes.assign(judge="ann", group="expert")
    judged = votes.assign(judge="j", group="llm", question_id=lambda v: v["question_id"].map(str))
    rates = corrected_win_rates(judged, people, baseline="a")
    assert rates["n"].min() > 0


def test_a_turn_that_nobody_answered_stops_no_file(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    more = [*said, {"role": "user", "content": "Why?"}]
    rows = [
        {"question_id": n, "conversation_a": talk, "conversation_b": talk}
        for n, talk in enumerate([said, more], 1)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "c.parquet")
    questions = lj.load_questions(tmp_path / "c.parquet")
    assert questions["turns"].map(list).tolist() == [["Hi"], ["Hi"]]


def test_a_file_in_another_encoding_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_bytes("question_id,question\n1,caf\u00e9?\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"is not UTF-8 .* save the file as UTF-8"):
        lj.load_questions(tmp_path / "q.csv")


def test_semicolons_part_columns(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question_id;question\n1;What, then?\n")
    assert lj.load_questions(tmp_path / "q.csv")["turns"].tolist() == [["What, then?"]]


@pytest.mark.notebooks
def test_a_notebook_with_a_byte_order_mark_and_no_language_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"]})
    show = nbformat.v4.new_code_cell("open('seen', 'w').write(str(x))")
    notebook = nbformat.v4.new_notebook(cells=[cell, show])
    (tmp_path / "own.ipynb").write_bytes(b"\xef\xbb\xbf" + nbformat.writes(notebook).encode())
    run(["own.ipynb"], parameters={"x": 2})
    assert (tmp_path / "seen").read_text() == "2"
