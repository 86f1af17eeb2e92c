"""Anybody's files as frames: each layout, each container, each fault; the rows here are made up."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import zstandard
from hypothesis import HealthCheck, given, strategies as st
from support import examples, written

import lmjudge as lj
from lmjudge import (
    import_judgments,
    load_answers,
    load_judgments,
    load_pairings,
    load_pairs,
    load_questions,
    load_votes,
)
from lmjudge.data.layouts import LAYOUTS
from lmjudge.errors import BadRow, DataError, DataMissing, FrameError, OrderFlips
from lmjudge.frames import COLUMNS

LOADERS = {
    "questions": load_questions,
    "answers": lambda source, **how: load_answers(source, samples=None, **how),
    "pairings": load_pairings,
    "votes": load_votes,
    "scores": load_judgments,
    "games": lambda source, **how: load_judgments(source, "games", **how),
    "pairs": load_pairs,
}
TALK = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A"}]
OTHER = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "B"}]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "Q?", "image": None}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A", "image": None}]},
]
ARENA = {"model_a": "m", "model_b": "n", "conversation_a": TALK, "conversation_b": OTHER}
BATTLE = ARENA | {"winner": "tie (bothbad)", "judge": "arena_user_1", "anony": "False"}
SAMPLE = {"id": 3, "epoch": 2, "input": [TALK[0]], "target": "A", "model": "org/m", "task": "t"}
SAMPLE |= {"output": {"choices": [{"message": {"content": "A"}}]}}
SAMPLE |= {"scores": {"graded": {"value": "C", "answer": "A", "explanation": "Yes."}}}
BIGGEN = {"id": "plan_0", "capability": "planning", "input": "Q?", "reference_answer": "A"}
BIGGEN |= {"response": "B", "response_model_name": "m", "eval_model_name": "j", "score": 5}
BIGGEN |= {"feedback": "Good.", "score_rubric": {"criteria": "Is it good?"}}
EVAL = {"instruction": "Q?", "output_1": "A", "output_2": "B", "annotator": "weighted"}
EVAL |= {"generator_1": "base", "generator_2": "m", "preference": 1.9}
SHARED = {"id": "c1", "conversations": [{"from": "human", "value": "Q?"}]}
SHARED["conversations"] += [{"from": "gpt", "value": "A"}]
LM_EVAL = {"doc_id": 7, "doc": {"question": "Q?"}, "filtered_resps": ["A"], "acc": 1.0}
WILD = {"session_id": "s1", "model_output": "A", "parsed_result": {"score": "7"}, "score": "7"}
BENCH = {"pair_id": "p1", "question": "Q?", "response_model": "m", "label": "B>A"}
BENCH |= {"response_A": "A", "response_B": "B"}
LIST55 = {"id": 1, "model_a": "m", "model_b": "n", "prompt": '["Q?"]'}
LIST55 |= {"response_a": '["A"]', "response_b": '["B"]'}
LIST55 |= {"winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0}
STEER = {"context": [*TALK, {"role": "user", "content": "Q2?"}], "response1": "A"}
STEER |= {"response2": "B", "overall_preference": -2, "domain": "code"}
SINGLE = {"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "turn": 1}
SINGLE |= {"judgment": "So. [[7]]", "score": 7, "user_prompt": "P", "tstamp": 1.5}
PAIR = {"question_id": 81, "model_1": "m", "model_2": "n", "judge": ["gpt-4", "pair-v2"]}
PAIR |= {"g1_winner": "model_1", "g1_judgment": "[[A]]", "g1_user_prompt": "P", "turn": 1}
PAIR |= {"g2_winner": "error", "g2_judgment": "$ERROR$", "g2_user_prompt": "P", "tstamp": 1.5}
REVIEW = {"question_id": 1, "answer1_id": "u", "answer2_id": "v", "reviewer_id": "gpt-4-0328"}
REVIEW |= {"text": "8 9.5\nWhy.", "score": [8, 9]}
HARD = {"uid": "u1", "judge": "gpt-4.1", "model": "m", "baseline": "o3"}
HARD |= {"games": [{"score": "A>>B", "judgment": {"answer": "[[A>>B]]"}}, None]}
GAME = dict.fromkeys(COLUMNS["games"]) | {"question_id": 1, "turn": 1, "judge": "j/pair"}
GAME |= {"model_a": "m", "model_b": "n", "sample": 0, "winner": "tie", "text": "[[C]]"}
SCORE = dict.fromkeys(COLUMNS["scores"]) | {"question_id": 1, "turn": 1, "judge": "j/single"}
SCORE |= {"model": "m", "sample": 0, "score": 7.5, "text": "[[7.5]]", "key": "k"}

Q = "q-43a92eceb26f"  # the id of the question "Q?", which no file states
# For each layout: a row of it, and what the frame then says.
CASES: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("sharegpt", "questions", SHARED, {"question_id": "c1", "turns": ["Q?"]}),
    ("sharegpt", "answers", SHARED, {"question_id": "c1", "turns": ["A"], "sample": 0}),
    (
        *("lm-eval", "questions"),
        LM_EVAL | {"arguments": {"gen_args_0": {"arg_0": "Q?", "arg_1": {}}}, "target": "A"},
        {"question_id": "7", "turns": ["Q?"], "reference": ["A"]},
    ),
    ("inspect", "questions", SAMPLE, {"question_id": "3", "turns": ["Q?"], "reference": ["A"]}),
    ("biggen-bench", "questions", BIGGEN, {"question_id": "plan_0", "category": "planning"}),
    ("arena", "questions", ARENA, {"question_id": Q, "turns": ["Q?"]}),
    ("arena-55k", "questions", LIST55, {"question_id": Q, "turns": ["Q?"]}),
    ("questions", "questions", {"uid": "u", "prompt": "Q?"}, {"question_id": "u", "turns": ["Q?"]}),
    ("inspect", "answers", SAMPLE, {"model": "org/m", "turns": ["A"], "sample": 1}),
    ("arena", "answers", ARENA, {"question_id": Q, "model": "m", "turns": ["A"]}),
    (
        *("fastchat", "answers"),
        {"question_id": 81.0, "model_id": "m:v1", "choices": [{"index": 0, "turns": ["A", "B"]}]},
        {"question_id": "81", "model": "m:v1", "turns": ["A", "B"], "sample": 0},
    ),
    ("arena-hard", "answers", {"uid": "u", "model": "m", "messages": PARTS}, {"turns": ["A"]}),
    ("lm-eval", "answers", LM_EVAL, {"question_id": "7", "model": "rows", "turns": ["A"]}),
    ("wildbench", "answers", WILD | {"model": "m"}, {"question_id": "s1", "turns": ["A"]}),
    ("biggen-bench", "answers", BIGGEN, {"question_id": "plan_0", "model": "m", "turns": ["B"]}),
    ("writingbench", "answers", {"index": 4, "response": "A"}, {"question_id": "4"}),
    (
        *("alpaca-eval", "answers"),
        {"instruction": "Q?", "output": "0", "generator": "m"},
        {"question_id": Q, "model": "m", "turns": ["0"], "instruction": "Q?"},
    ),
    ("alpaca", "answers", {"instruction": "Q?", "input": "", "output": ""}, {"turns": [""]}),
    ("lmjudge", "answers", {"question_id": 1, "model": "m", "turns": ["A"]}, {"turns": ["A"]}),
    (
        *("answers", "answers"),
        {"text": "Q?", "generation": "A", "model": "m"},
        {"question_id": Q, "turns": ["A"], "text": "Q?"},
    ),
    (
        *("vicuna", "answers"),
        {"question_id": 1, "answer_id": "u", "model_id": "m:v1", "text": "A"},
        {"question_id": "1", "model": "m:v1", "turns": ["A"], "answer_id": "u"},
    ),
    ("lmjudge", "scores", SCORE, {"question_id": "1", "score": 7.5, "key": "k"}),
    (
        *("fastchat", "scores", SINGLE),
        {"score": 7.0, "published": 7.0, "judge": "gpt-4/fastchat:single", "tstamp": 1.5},
    ),
    ("inspect", "scores", SAMPLE, {"score": 1.0, "criterion": "graded", "sample": 1}),
    ("wildbench", "scores", WILD | {"model_test": "m"}, {"score": 7.0, "model": "m"}),
    ("biggen-bench", "scores", BIGGEN, {"score": 5.0, "judge": "j", "text": "Good."}),
    (
        *("writingbench", "scores"),
        {"index": 4, "scores": {"depth": [{"score": 9, "reason": "So."}]}},
        {"question_id": "4", "criterion": "depth", "score": 9.0, "text": "So."},
    ),
    ("lm-eval", "scores", LM_EVAL, {"question_id": "7", "criterion": "acc", "score": 1.0}),
    (
        *("prometheus", "scores"),
        {
            "orig_instruction": "Q?",
            "orig_score": "4",
            "orig_criteria": "tone",
            "orig_feedback": "F",
        },
        {"question_id": Q, "score": 4.0, "criterion": "tone", "text": "F"},
    ),
    (
        *("lm-eval results", "scores"),
        {"results": {"mmlu": {"acc,none": 0.5, "alias": "mmlu"}}, "model_name": "org/m"},
        {"model": "org/m", "category": "mmlu", "criterion": "acc", "score": 0.5},
    ),
    ("means", "scores", {"key": "M", "Writing": 9.5}, {"category": "writing", "score": 9.5}),
    (
        *("radar", "scores"),
        {
            "cells": [
                {
                    "outputs": [
                        {
                            "data": {
                                "text/html": [
                                    '"name":"M","r":[9.5,9.5],"theta":["Writing","Writing"]'
                                ]
                            }
                        }
                    ]
                }
            ],
            "nbformat": 4,
        },
        {"model": "M", "category": "writing", "score": 9.5},
    ),
    ("scores", "scores", {"model": "m", "score": "3"}, {"score": 3.0, "judge": "rows"}),
    ("lmjudge", "games", GAME, {"question_id": "1", "winner": "tie", "text": "[[C]]"}),
    (
        *("fastchat", "games", PAIR),
        {
            "model_a": "m",
            "winner": "model_a",
            "judge": "gpt-4/fastchat:pair",
            "published": "model_a",
        },
    ),
    (
        *("vicuna", "games", REVIEW),
        {"model_a": "a", "score_b": 9.0, "published_b": 9.0, "reason": "entered by hand"},
    ),
    ("arena-hard", "games", HARD, {"model_a": "o3", "winner": "model_a", "verdict": "A>>B"}),
    (
        *("judgebench", "games"),
        BENCH
        | {"judge_name": "arena_hard", "judgments": [{"decision": "A>B"}, {"decision": "A>B"}]},
        {"question_id": "p1", "model_a": "m:A", "winner": "model_a", "label": "B>A"},
    ),
    (
        *("lmjudge", "votes"),
        dict.fromkeys(COLUMNS["votes"]) | {"model_a": "m", "model_b": "n", "winner": "tie"} | EVAL,
        {"model_a": "m", "model_b": "n", "winner": "tie", "generator_1": "base"},
    ),
    (
        *("alpaca-eval", "votes", EVAL),
        {"question_id": Q, "model_b": "m", "winner": "model_b", "group": "llm", "preference": 1.9},
    ),
    ("arena-55k", "votes", LIST55, {"question_id": Q, "winner": "model_b", "group": "crowd"}),
    (
        *("llmfao", "votes"),
        {"prompt": 8, "left": "m", "right": "n", "winner": "left", "worker": 58},
        {"question_id": "8", "winner": "model_a", "judge": "worker_58", "group": "crowd"},
    ),
    (
        *("choices", "votes"),
        {"question_id": 1, "criterion": "honest", "model_a": "m", "model_b": "n", "choice": 4},
        {"winner": "model_b", "criterion": "honest", "choice": 4.0},
    ),
    (
        *("votes", "votes", BATTLE),
        {"winner": "tie", "reason": "both_bad", "group": "crowd", "anony": False, "time": None},
    ),
    ("helpsteer3", "votes", STEER, {"winner": "model_a", "domain": "code", "judge": None}),
    ("judgebench", "votes", BENCH, {"question_id": "p1", "winner": "model_b", "label": "B>A"}),
    (
        *("auto-j", "votes"),
        {"prompt": "Q?", "response 1": "A", "response 2": "B", "label": 2, "scenario": "s"},
        {"question_id": Q, "winner": "tie", "scenario": "s"},
    ),
    (
        *("llmbar", "votes"),
        {"input": "Q?", "output_1": "A", "output_2": "B", "label": 2},
        {"question_id": Q, "winner": "model_b", "label": 2},
    ),
    (
        *("pandalm", "votes"),
        {"instruction": "Q?", "response1": "A", "response2": "B", "annotator1": 0},
        {"winner": "tie", "judge": "annotator1"},
    ),
    (
        *("qlora", "votes", {"question_id": 1, "text": "Q?", "score": 2}),
        {"model_a": "a", "model_b": "b", "winner": "model_b"},
    ),
    ("arena", "pairings", ARENA, {"question": ["Q?"], "answer_a": ["A"], "answer_b": ["B"]}),
    ("arena-55k", "pairings", LIST55, {"question_id": Q, "question": ["Q?"], "answer_b": ["B"]}),
    ("pairings", "pairings", EVAL, {"question": ["Q?"], "answer_a": ["A"], "preference": 1.9}),
    (
        *("preferences", "pairs"),
        {
            "id": 4,
            "prompt": "Q?",
            "chosen": [{"role": "assistant", "content": "A"}],
            "rejected": "B",
        },
        {"pair_id": "4", "prompt": "Q?", "chosen": "A", "rejected": "B"},
    ),
    (
        *("comparisons", "pairs"),
        {"instruction": "Q?", "input": "I", "output": ["A", "B"]},
        {"prompt": "Q?\n\nI", "chosen": "A", "rejected": "B"},
    ),
]
NAMES = {"qlora": "answer_a-vs-answer_b-human-reviewer_threeclass.jsonl"}


def test_every_layout_has_a_case() -> None:
    assert {(name, kind) for name, kind, *_ in CASES} == {(one.name, one.kind) for one in LAYOUTS}


@pytest.mark.parametrize(("name", "kind", "row", "says"), CASES)
def test_a_layout(name: str, kind: str, row: Any, says: dict[str, Any], tmp_path: Path) -> None:
    file = NAMES.get(name, "review_a_b.jsonl" if name == "vicuna" else "rows.jsonl")
    made = LOADERS[kind](written(tmp_path / file, row))
    first = {k: None if v != v else v for k, v in made.iloc[0].to_dict().items()}
    assert {column: first[column] for column in says} == says
    by_file = first.get("judge") == "rows"  # such rows name no judge
    unnamed = {"unnamed": ["rows"]} if by_file else {}
    assert made.attrs == {"layout": name, "rows": 1, "skipped": []} | unnamed
    # What the row has beyond the frame is there, under its name or as file_<name>.
    assert set(COLUMNS[kind]) <= set(made.columns)


def test_the_second_game_of_a_row_is_seen_from_its_side(tmp_path: Path) -> None:
    bench = BENCH | {"judge_name": "j", "judgments": [{"decision": "A>B"}, {"decision": "A>B"}]}
    games = load_judgments(written(tmp_path / "b.jsonl", bench))
    assert games[["model_a", "winner"]].values.tolist() == [["m:A", "model_a"], ["m:B", "model_a"]]
    assert lj.resolve(games)["reason"].tolist() == ["inconsistent"]
    games = load_judgments(written(tmp_path / "h.jsonl", HARD))
    assert games["model_a"].tolist() == ["o3", "m"]
    assert games["reason"].tolist()[1] == "request_failed"
    games = load_judgments(written(tmp_path / "p.jsonl", PAIR))
    assert games["model_a"].tolist() == ["m", "n"]
    assert games["reason"].tolist()[1] == "request_failed"
    assert games["text"].isna().tolist() == [False, True]


# ---- containers


def rows_of(seed: int) -> list[dict[str, Any]]:
    return [
        {"question_id": n, "model_a": "None", "model_b": f"n{n % 3}", "judge": f"expert_{n % 2}"}
        | {"winner": ["model_a", "tie", "model_b", ""][(n + seed) % 4], "note": f"a,{n}\nb\u2028'x"}
        | {"weight": n / 4, "language": "NA"}
        for n in range(1, 12)
    ]


def contained(path: Path, rows: list[dict[str, Any]], how: str) -> Path:
    table = pd.DataFrame(rows)
    if how == "json":
        body = json.dumps(rows).encode()
    elif how == "indented":
        body = json.dumps(rows, indent=1).encode()
    elif how == "two arrays":
        body = json.dumps(rows[:4]).encode() + b"\n" + json.dumps(rows[4:]).encode()
    elif how == "object":
        body = json.dumps({"data": rows}).encode()
    elif how == "parquet":
        held = io.BytesIO()
        table.to_parquet(held)
        body = held.getvalue()
    elif how in (",", ";", "\t"):
        body = table.to_csv(index=False, sep=how).encode()
    else:
        body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(how)
    path.write_bytes(body)
    return path


PACKED = {"plain": bytes, "gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
CONTAINERS = ["json", "indented", "two arrays", "object", "parquet", ",", ";", "\t"]
CONTAINERS += ["utf-8", "utf-8-sig", "utf-16"]


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    how=st.sampled_from(CONTAINERS),
    packing=st.sampled_from(sorted(PACKED)),
    order=st.permutations(range(11)),
    names=st.permutations(
        ["question_id", "model_a", "model_b", "judge", "winner", "note", "weight"]
    ),
)
def test_the_container_and_the_order_of_rows_and_columns_change_nothing(
    how: str, packing: str, order: list[int], names: list[str], tmp_path: Path
) -> None:
    plain = rows_of(0)
    known = load_votes(written(tmp_path / "plain.jsonl", *plain))
    names = [*names, "language"]
    moved = [{name: plain[at][name] for name in names} for at in order]
    path = contained(tmp_path / "no suffix says anything", moved, how)
    path.write_bytes(PACKED[packing](path.read_bytes()))
    read = load_votes(path).set_index("question_id").loc[known["question_id"]].reset_index()
    pd.testing.assert_frame_equal(read[list(known.columns)], known)
    assert read.attrs["rows"] == 11
    assert set(read["model_a"]) == {"None"}
    assert set(read["language"]) == {"NA"}


def test_a_data_frame_and_a_dataset_are_read_as_files_are(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    known = load_votes(written(tmp_path / "votes.jsonl", *rows_of(1)))
    table = pd.DataFrame(rows_of(1))
    pd.testing.assert_frame_equal(load_votes(table), known)
    pd.testing.assert_frame_equal(load_votes(table.convert_dtypes()), known)
    pd.testing.assert_frame_equal(load_votes(datasets.Dataset.from_list(rows_of(1))), known)
    with pytest.raises(DataError, match="DatasetDict with the splits train"):
        load_votes(datasets.DatasetDict({"train": datasets.Dataset.from_list(rows_of(1))}))
    both = load_votes([tmp_path / "votes.jsonl", table])
    assert len(both) == 22
    table.to_parquet(tmp_path / "hub.parquet")


def test_a_data_set_of_the_hub_is_read_by_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    # A local folder of the hub's layout: datasets loads it as it loads a repository.
    (tmp_path / "owner/name/data").mkdir(parents=True)
    table = pd.DataFrame(rows_of(1))
    table.to_parquet(tmp_path / "owner/name/data/human-00000-of-00001.parquet")
    table.head(3).to_parquet(tmp_path / "owner/name/data/other-00000-of-00001.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert len(load_votes("hf://datasets/owner/name?split=other")) == 3
    with pytest.raises(DataError, match=r"has the splits human, other; name one"):
        load_votes("hf://datasets/owner/name")


# ---- mapping


def test_columns_and_labels_are_named_by_the_caller(tmp_path: Path) -> None:
    rows = [
        {"item": 1, "generator_1": "m", "generator_2": "n", "pref": 1, "winner": "kept"},
        {"item": 2, "generator_1": "m", "generator_2": "n", "pref": 2, "winner": "kept"},
        {"item": 3, "generator_1": "m", "generator_2": "n", "pref": 0, "winner": "kept"},
        {"item": 4, "generator_1": "m", "generator_2": "n", "pref": 9, "winner": "kept"},
    ]
    path = written(tmp_path / "x.jsonl", *rows)
    columns = {"question_id": "item", "model_a": "generator_1", "model_b": "generator_2"}
    columns |= {"winner": "pref"}
    labels = {1: "model_a", "2": "model_b", 0: "tie", 9: None}
    votes = load_votes(path, columns=columns, labels=labels)
    assert votes["winner"].fillna("none").tolist() == ["model_a", "model_b", "tie", "none"]
    assert votes["reason"].tolist()[3] == "no_verdict"
    assert votes["file_winner"].tolist() == ["kept"] * 4
    with pytest.raises(BadRow, match=r"line 1 .* the winner 1; expected .* labels=\{1: \.\.\.\}"):
        load_votes(path, columns=columns)
    with pytest.raises(DataError, match="has no column 'what'; it has item"):
        load_votes(path, columns={"winner": "what"})


def test_both_orders_in_one_row(tmp_path: Path) -> None:
    row = {"question_id": 1, "model_a": "m", "model_b": "n", "judge": "j", "ab": "A", "ba": "B"}
    games = load_judgments(written(tmp_path / "x.jsonl", row), orders=("ab", "ba"))
    assert games[["model_a", "winner"]].values.tolist() == [["m", "model_a"], ["n", "model_b"]]
    assert lj.resolve(games)["winner"].tolist() == ["model_a"]


def test_an_answer_or_a_review_is_no_question_and_a_question_no_answer(tmp_path: Path) -> None:
    answer = {"question_id": 1, "answer_id": "u", "model_id": "m", "text": "A"}
    asked = {"question_id": 1, "category": "generic", "text": "Q?"}
    for load, row in ((load_questions, answer), (load_questions, REVIEW), (load_answers, asked)):
        with pytest.raises(DataError, match="which is no layout of"):
            load(written(tmp_path / "x.jsonl", row))
    assert load_questions(written(tmp_path / "q.jsonl", asked))["turns"].tolist() == [["Q?"]]


def test_an_unknown_layout_is_one_error_that_says_what_would_settle_it(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", {"left_model": "m", "right_model": "n", "winner": "left"})
    with pytest.raises(DataError) as caught:
        load_votes(path)
    told = str(caught.value)
    assert "has the columns left_model, right_model, winner" in told
    assert "llmfao lacks left, right" in told
    assert "columns={" in told
    assert caught.value.columns == ["left_model", "right_model", "winner"]


# ---- identity


def test_ids_meet_whatever_wrote_them(tmp_path: Path) -> None:
    answers = [{"question_id": of, "model": "m", "answer": "x"} for of in (1, 81.0, "10", "007")]
    made = load_answers(
        written(tmp_path / "a.jsonl", *answers, answers[0] | {"question_id": "1.0"})
    )
    assert made["question_id"].tolist() == ["1", "81", "10", "007", "1.0"]
    (tmp_path / "floats.csv").write_text("question_id,model,answer\n81.0,m,x\n9.0,m,y\n")
    assert load_answers(tmp_path / "floats.csv")["question_id"].tolist() == ["81", "9"]
    questions = load_questions(pd.DataFrame({"question_id": [81, 10], "prompt": ["a", "b"]}))
    lineup = lj.line_up(questions, made[made["question_id"].isin(["81", "10"])])
    assert lineup["question"].tolist() == [["a"], ["b"]]


def test_rows_with_one_prompt_are_one_question_in_every_loader(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", *[LIST55 | {"id": n} for n in range(3)])
    questions = load_questions(path)
    assert questions["question_id"].tolist() == [Q]
    assert set(load_votes(path)["question_id"]) == set(load_pairings(path)["question_id"]) == {Q}
    assert load_pairings(path)["sample"].tolist() == [0, 1, 2]
    outputs = [{"instruction": "Sing", "output": f"la {n}", "generator": "m"} for n in range(3)]
    answers = load_answers(written(tmp_path / "o.jsonl", *outputs), samples=None)
    assert answers["question_id"].nunique() == 1
    assert answers["sample"].tolist() == [0, 1, 2]
    assert len(load_questions(tmp_path / "o.jsonl")) == 1


def test_a_model_keeps_its_whole_name(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        row = {"question_id": 1, "model_id": f"m:{version}", "text": version, "answer_id": version}
        written(tmp_path / f"answer/{version}.jsonl", row)
    assert load_answers(tmp_path)["model"].tolist() == ["m:v1", "m:v2"]
    review = REVIEW | {"answer1_id": "v1", "answer2_id": "v2"}
    written(tmp_path / "review/review_x_y.jsonl", review)
    games = load_judgments(tmp_path)
    assert games[["model_a", "model_b"]].values.tolist() == [["m:v1", "m:v2"]]
    assert games["judge"].tolist() == ["gpt-4-0328/vicuna"]
    # One answer that is not there: the file's names count for all of its rows.
    written(tmp_path / "review/review_x_y.jsonl", review, review | {"answer2_id": "gone"})
    games = load_judgments(tmp_path)
    assert set(games["model_a"]) | set(games["model_b"]) == {"x", "y"}


def test_a_run_is_its_content_wherever_it_lies(published_data: Path, tmp_path: Path) -> None:
    keys = {}
    for name, text in (("a/run-0.1", "[[7]]"), ("a/run-0.2", "[[6]]"), ("b/run-0.1", "[[7]]")):
        row = SINGLE | {"judgment": text}
        path = written(tmp_path / f"{name}.jsonl", row)
        keys[name] = load_judgments(path)["key"].iloc[0]
    assert keys["a/run-0.1"] == keys["b/run-0.1"] != keys["a/run-0.2"]
    frames = [load_judgments(pd.DataFrame([SINGLE | {"judgment": said}])) for said in ("a", "b")]
    again = load_judgments(pd.DataFrame([SINGLE | {"judgment": "a"}]))
    assert frames[0]["key"].iloc[0] == again["key"].iloc[0] != frames[1]["key"].iloc[0]
    store = lj.Store(tmp_path / "store", mode="record")
    import_judgments(tmp_path / "a/run-0.1.jsonl", store=store)
    (record,) = store.records()
    assert record.request.provider is not None
    assert record.request.provider.startswith("own:run-0.1.jsonl-")
    import_judgments(tmp_path / "a/run-0.2.jsonl", store=store, name="mine")
    assert {record.request.provider for record in store.records()} > {"mine"}


# ---- what is missing, and what is only falsy


@pytest.mark.parametrize(
    "mark", [-1, "", None, float("nan"), "NA", "error", "$ERROR$", [-1, -1], []]
)
def test_a_mark_of_a_missing_verdict_is_missing_with_a_reason(mark: Any, tmp_path: Path) -> None:
    vote = {"question_id": 1, "model_a": "m", "model_b": "n", "judge": "ann", "winner": mark}
    votes = load_votes(written(tmp_path / "v.jsonl", vote, vote | {"winner": "tie"}))
    assert votes["winner"].isna().tolist() == [True, False]
    assert votes["reason"].iloc[0] in ("no_verdict", "request_failed")
    grade = SINGLE | {"judgment": None, "score": mark}
    scores = load_judgments(written(tmp_path / "s.jsonl", grade, SINGLE))
    assert scores["score"].isna().tolist() == [True, False]
    review = REVIEW | {"score": mark, "text": "nothing to read"}
    games = load_judgments(written(tmp_path / "review_a_b.jsonl", review, REVIEW))
    assert games["published"].isna().tolist() == [True, False]
    assert games["winner"].isna().tolist() == [True, False]
    hard = HARD | {"games": mark if isinstance(mark, list) and not mark else [{"score": mark}] * 2}
    assert (
        load_judgments(written(tmp_path / "h.jsonl", hard))["winner"].isna().tolist() == [True] * 2
    )
    if not isinstance(mark, list):
        marked = EVAL | {"preference": None if mark == -1 else mark}
        if mark in ("", None) or mark != mark or mark == -1:
            votes = load_votes(written(tmp_path / "e.jsonl", marked))
            assert votes["winner"].isna().all()


def test_falsy_is_not_absent(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question_id,model,answer\n0,NA,0\n81,None,""\n')
    answers = load_answers(tmp_path / "a.csv")
    assert answers["turns"].tolist() == [["0"], [""]]
    assert answers["model"].tolist() == ["NA", "None"]
    assert answers["question_id"].tolist() == ["0", "81"]
    (tmp_path / "v.csv").write_text("question_id,model_a,model_b,winner,judge\n1,None,NA,tie,\n")
    votes = load_votes(tmp_path / "v.csv")
    assert votes[["model_a", "model_b"]].values.tolist() == [["None", "NA"]]
    assert votes["judge"].isna().all()
    assert votes["group"].isna().all()
    failed = {"question_id": 1, "model": "m", "answer": "$ERROR$"}
    answers = load_answers(written(tmp_path / "f.jsonl", failed))
    assert answers["turns"].isna().all()
    assert answers["reason"].tolist() == ["request_failed"]


def test_a_judge_of_another_name_is_not_taken_for_the_crowd(tmp_path: Path) -> None:
    names = ["gpt-4o", "claude-2", "expert_1", "author_0", "arena_user_3", "org/m/pair", None]
    names = [*names, ["gpt-4", "pair-v2"]]
    rows = [
        {"question_id": 1, "model_a": "m", "model_b": "n", "judge": judge, "winner": "tie"}
        for judge in names
    ]
    votes = load_votes(written(tmp_path / "v.jsonl", *rows))
    groups = [None, None, "expert", "author", "crowd", "llm", None, "llm"]
    assert votes["group"].astype(object).where(votes["group"].notna(), None).tolist() == groups


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        (1682351591, 1682351591.0),
        (1682351591000, 1682351591.0),
        ("1682351591.5", 1682351591.5),
        ("2023-04-24T15:53:11Z", 1682351591.0),
        ("2023-04-24 15:53:11", 1682351591.0),
        (None, None),
        ("now", "has tstamp = 'now'; expected a time"),
        (True, "expected a number"),
    ],
)
def test_times_are_seconds(stamp: Any, seconds: Any, tmp_path: Path) -> None:
    row = {"model_a": "m", "model_b": "n", "winner": "tie", "tstamp": stamp}
    path = written(tmp_path / "v.jsonl", row)
    if isinstance(seconds, str):
        with pytest.raises(BadRow, match=seconds):
            load_votes(path)
    else:
        time = load_votes(path)["time"].iloc[0]
        assert (None if time != time else time) == seconds


@pytest.mark.parametrize(("flag", "said"), [("False", False), (0, False), ("f", False), (1, True)])
def test_flags_are_read_or_refused(flag: Any, said: bool, tmp_path: Path) -> None:
    row = {"model_a": "m", "model_b": "n", "winner": "tie", "anony": flag}
    assert load_votes(written(tmp_path / "v.jsonl", row))["anony"].tolist() == [said]
    with pytest.raises(BadRow, match="anony = 'perhaps'; expected true or false"):
        load_votes(written(tmp_path / "w.jsonl", row | {"anony": "perhaps"}))


# ---- bad input


def test_no_row_is_dropped_without_being_counted(tmp_path: Path) -> None:
    good = {"question_id": 1, "model_a": "m", "model_b": "n", "winner": "tie", "judge": "expert_1"}
    bad = [
        good | {"winner": "both"},
        {"model_a": "m"},
        good | {"turn": "one"},
        good | {"judge": {}},
    ]
    path = tmp_path / "v.jsonl"
    lines = [json.dumps(row) for row in (good, *bad, good)]
    path.write_text("\n".join([*lines, "{cut", "[1]", ""]), encoding="utf-8")
    votes = load_votes(path, errors="skip")
    assert len(votes) == 2
    assert votes.attrs["rows"] == len(votes) + len(votes.attrs["skipped"]) == 8
    assert [told.split(" ")[1] for told in votes.attrs["skipped"]] == ["2", "3", "4", "5", "7", "8"]
    with pytest.raises(BadRow, match=r"line 2 of .*v.jsonl has the winner 'both'") as caught:
        load_votes(path)
    assert (caught.value.path, caught.value.line) == (path, 2)
    with pytest.raises(ValueError, match="errors is 'ignore'"):
        load_votes(path, errors="ignore")  # type: ignore[arg-type]


BAD = [
    b"",
    b"\n\n",
    b'{"question_id": 1, "text": "cut o',
    b"[1, 2]\n",
    b"[]",
    b"{}",
    b"null",
    b"\xff\xfe{}\n",
    b"\xff\xfe\x00",
    b"[" * 200_000,
    b"PAR1 but not really PAR1",
    b"PK\x03\x04 no archive",
    b"\x1f\x8b no gzip",
    b"\x28\xb5\x2f\xfd no zstandard",
    b"question_id,winner\n1\n",
    b'question_id,model\n1,"open',
    b"caf\xe9,b\n1,2\n",
    b"question_id\n",
    b'{"question_id": ["a"]}\n',
    b'{"question_id": {"a": 1}, "model_a": 1, "model_b": [], "winner": {}}',
    b'{"question_id": true, "turns": [[]], "choices": 5, "messages": [1], "games": 3}',
]


@pytest.mark.parametrize("content", BAD)
@pytest.mark.parametrize("kind", sorted(LOADERS))
def test_a_bad_file_is_one_clear_error(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        LOADERS[kind](path)
    assert str(path) in str(caught.value)
    assert caught.value.path == path
    assert "Traceback" not in str(caught.value)


FIELDS = sorted({name for *_, row, _ in CASES for name in row})
SCALARS = st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3)
SCALARS |= st.sampled_from(["A>B", "tie", "model_a", "assistant", "user"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(
        st.tuples(
            st.sampled_from(CASES), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_rows_are_read_or_refused_and_none_is_lost(drawn: Any, tmp_path: Path) -> None:
    path = tmp_path / "review_a_b.jsonl"
    written(path, *[case[2] | more for case, more in drawn])
    kind = drawn[0][0][1]
    try:
        made = LOADERS[kind](path, errors="skip")
    except (DataError, FrameError):
        return
    assert made.attrs.get("rows", len(drawn)) == len(drawn)
    if made.attrs.get("layout") in ("votes", "alpaca-eval", "pairings", "choices", "llmfao"):
        assert len(made) + len(made.attrs["skipped"]) == len(drawn)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for source in (tmp_path / "gone.jsonl", str(tmp_path / "gone")):
        with pytest.raises(DataMissing, match="no such file or folder"):
            load_votes(source)
    with pytest.raises(DataMissing, match="is not a source, and no such path exists; did you mean"):
        load_votes("mt-bench-humans")
    with pytest.raises(DataError, match="holds no votes"):
        load_votes(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"question_id,judge\n1,caf\xe9\n")
    with pytest.raises(DataError, match="save the file as UTF-8"):
        load_votes(tmp_path / "x.csv")


# ---- the released rows


def test_alpaca_evals_leaderboard_is_printed_again(published_data: Path) -> None:
    for name, weighted, error, discrete, counts in (
        ("alpaca-7b", 2.591450540223603, 0.4870855382635108, 2.298136645962733, (17, 785, 3)),
        (
            *("text_davinci_001", 2.764005231108344, 0.5177668863975088, 3.051058530510585),
            (23, 777, 3),
        ),
    ):
        path = published_data / f"formats/alpaca-eval/{name}.weighted_annotations.json"
        votes = load_votes(path)
        lean = votes["preference"] - 1
        assert 100 * lean.mean() == pytest.approx(weighted, abs=1e-13)
        assert 100 * lean.sem() == pytest.approx(error, abs=1e-13)
        rates = lj.win_rates(votes).set_index("model").loc[votes["model_b"].iloc[0]]
        assert tuple(rates[["wins", "losses", "ties"]]) == counts
        assert 100 * rates["win_rate"] == pytest.approx(discrete, abs=1e-13)
    gpt4 = load_votes(published_data / "formats/alpaca-eval/alpaca-7b.annotations.json")
    rates = lj.win_rates(gpt4).set_index("model").loc["alpaca-7b"]
    assert tuple(rates[["wins", "losses", "ties"]]) == (205, 584, 16)
    assert 100 * rates["win_rate"] == pytest.approx(26.459627329192543)


def test_judge_bench_is_scored_as_its_authors_score_it(published_data: Path) -> None:
    path = published_data / "formats/judgebench/outputs.first-60.jsonl"
    votes = lj.resolve(load_judgments(path), "net").merge(load_votes(path), on="question_id")
    ours = (votes["winner_x"] == votes["winner_y"]).mean()
    flip, right = {"A>B": "B>A", "B>A": "A>B"}, 0
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    for row in rows:
        one, two = ((told or {}).get("decision") for told in row["judgments"])
        said = [one, flip.get(str(two), two)]
        label = row["label"]
        right += sum((d == label) - (d == flip[label]) for d in said) > 0
    assert ours == right / len(rows) == 29 / 60


def test_the_parts_that_others_released(published_data: Path) -> None:
    formats = published_data / "formats"
    assert len(load_questions(formats / "arena-hard-v2/question.jsonl")) == 750
    answers = load_answers(formats / "arena-hard-v2/o3-mini-2025-01-31.first-100.jsonl")
    assert len(answers) == 100
    assert set(answers["model"]) == {"o3-mini-2025-01-31"}
    wild = load_judgments(formats / "wildbench/score.first-100.json")
    rows = json.loads((formats / "wildbench/score.first-100.json").read_bytes())
    assert wild["score"].tolist() == [float(row["score"]) for row in rows]
    biggen = load_judgments(formats / "biggen-bench/sample_evals.first-100.json")
    assert len(biggen) == 100
    assert "score_rubric" in biggen
    for log, count in (("log.json", 3), ("log.eval", 1)):
        assert load_judgments(formats / "inspect" / log)["score"].tolist() == [1.0] * count
        assert load_answers(formats / "inspect" / log)["turns"].notna().all()
    text = load_judgments(formats / "inspect/log.eval")["text"].iloc[0]
    assert not text.startswith("attachment:")
    pairs = load_pairings(formats / "judgebench/claude-3-5-sonnet-20240620.jsonl")
    assert len(pairs) == 270
    assert pairs["label"].isin(["A>B", "B>A"]).all()


def test_the_layouts_made_up_from_their_documentation(published_data: Path) -> None:
    folder = published_data / "formats/layouts"
    for name in ("arena140k.parquet", "arena100k.parquet"):
        votes = load_votes(folder / name)
        assert votes["winner"].tolist() == ["model_a", "model_b", "tie", "tie"]
        assert votes["reason"].fillna("").tolist() == ["", "", "", "both_bad"]
        assert set(votes["group"]) == {"crowd"}
        assert votes["time"].is_monotonic_increasing
        assert len(load_answers(folder / name)) == 8
        questions = load_questions(folder / name)
        assert set(questions["question_id"]) == set(votes["question_id"])
    votes = load_votes(folder / "arena55k.csv")
    assert votes["winner"].tolist() == ["model_a", "model_b", "tie"]
    assert load_pairings(folder / "arena55k.csv")["question"].tolist() == [["Q?"]] * 3
    for name in ("rb2.jsonl", "rb2.parquet"):
        pairs = load_pairs(folder / name)
        assert pairs.groupby("subset").size().to_dict() == {"Math": 3, "Ties": 6}
        assert pairs["item_id"].nunique() == 2
    for name in ("rb1.jsonl", "rb1.parquet"):
        assert load_pairs(folder / name)["chosen_model"].tolist() == ["x"]
    assert load_votes(folder / "helpsteer3.jsonl")["winner"].tolist() == ["model_a"]
    assert load_questions(folder / "mtb101.jsonl")["turns"].tolist() == [["u1", "u2", "u3"]]
    games = load_judgments(folder / "arena-hard-v2-judgment.jsonl")
    assert games["verdict"].tolist() == ["A>>B", "B>A"] * 2


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


SINGLES = "fastchat/mt_bench/model_judgment/gpt-4_single.dolphin.jsonl"
PAIRS = "fastchat/mt_bench/model_judgment/gpt-4_pair.llama-adapter.jsonl"


def test_fastchats_released_judgments_give_show_results_numbers(published_data: Path) -> None:
    """Beside plain loops that do what FastChat's show_result.py does."""
    scores = load_judgments(published_data / SINGLES)
    rows = lines(published_data / SINGLES)
    for model, turn in {(row["model"], row["turn"]) for row in rows}:
        good = [r["score"] for r in rows if (r["model"], r["turn"]) == (model, turn)]
        good = [score for score in good if score != -1]
        ours = lj.mean_scores(scores, by=["model", "turn"]).set_index(["model", "turn"])
        assert ours["score"][model, turn] == pytest.approx(sum(good) / len(good))
        assert ours["n"][model, turn] == len(good)
    games = load_judgments(published_data / PAIRS)
    wins, losses, ties = Counter(), Counter(), Counter()
    for row in lines(published_data / PAIRS):
        pair, one, two = (row["model_1"], row["model_2"]), row["g1_winner"], row["g2_winner"]
        if "error" in (one, two):
            continue
        if one == "tie" or one != two:
            ties.update(pair)
        else:
            won = row[one]
            wins[won] += 1
            losses[pair[0] if won == pair[1] else pair[1]] += 1
    with pytest.warns(OrderFlips, match="20 of 76 pairs"):
        ours = lj.win_rates(lj.resolve(games)).set_index("model")
    for model in ours.index:
        counted = (wins[model], losses[model], ties[model])
        assert tuple(ours.loc[model, ["wins", "losses", "ties"]]) == counted
        rate = (wins[model] + ties[model] / 2) / sum(counted)
        assert ours["win_rate"][model] == pytest.approx(rate)


def test_reviews_and_peoples_votes_are_read_as_released(published_data: Path) -> None:
    humans = published_data / "mt_bench_human_judgments/human_judgments_turn1.jsonl"
    assert set(load_votes(humans)["group"]) <= {"expert", "author", "crowd"}
    review = published_data / "vicuna_blog/review/review_llama-13b_vicuna-13b.jsonl"
    assert load_judgments(review)["winner"].notna().any()


def test_bare_verdicts_are_games_where_games_are_asked_for(tmp_path: Path) -> None:
    rows = [
        {"question_id": 1, "model_a": a, "model_b": b, "judge": "j", "winner": "model_a"}
        for a, b in [("m", "n"), ("n", "m"), ("m", "n"), ("n", "m")]
    ]
    path = tmp_path / "verdicts.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    games = load_judgments(path, "games")
    assert games["sample"].tolist() == [0, 0, 1, 1]
    assert lj.resolve(games)["reason"].tolist() == ["inconsistent"] * 2
    assert load_votes(path)["winner"].tolist() == ["model_a"] * 4


def test_further_columns_stay_in_a_lineup_and_in_pairs(tmp_path: Path) -> None:
    asked = {"question_id": 1, "prompt": "Q?", "rubric": "Be kind.", "model": "asker", "input": "I"}
    questions = load_questions(written(tmp_path / "q.jsonl", asked))
    said = [
        {"question_id": "1", "model": model, "answer": "A", "tokens": n, "rubric": "own"}
        for n, model in enumerate("mn")
    ]
    answers = load_answers(written(tmp_path / "a.jsonl", *said))
    lineup = lj.line_up(questions, answers)
    assert lineup["question"].tolist() == [["Q?\n\nI"]] * 2
    assert lineup[["question_model", "tokens", "rubric", "answer_rubric"]].values.tolist() == [
        ["asker", 0, "Be kind.", "own"],
        ["asker", 1, "Be kind.", "own"],
    ]
    assert list(lineup.columns[:7]) == list(COLUMNS["lineup"])
    pairs = lj.pair_up(questions, answers)
    # Questions that votes were cast on have the votes' columns.
    voted = questions.assign(model_a="x", tokens_a=9, winner="tie")
    named = lj.pair_up(voted, answers)
    assert named[["question_model_a", "winner", "tokens_a"]].values.tolist() == [["x", "tie", 9]]
    assert named[["answer_tokens_a", "answer_tokens_b"]].values.tolist() == [[0, 1]]
    names = ["rubric", "tokens_a", "tokens_b", "answer_rubric_b"]
    assert pairs[names].values.tolist() == [["Be kind.", 0, 1, "own"]]
    assert list(pairs.columns[:9]) == list(COLUMNS["pairings"])


def test_questions_with_the_columns_of_votes_pair_up() -> None:
    """The arena's rows are votes, questions and answers at once."""
    questions = pd.DataFrame([{"question_id": "1", "category": "c", "turns": ["Q?"]}])
    questions = questions.assign(model_a="m", model_b="n", winner="tie", reference=None)
    answers = pd.DataFrame(
        {"question_id": ["1", "1"], "model": ["m", "n"], "turns": [["A"], ["B"]], "sample": 0}
    )
    pairs = lj.pair_up(questions, answers)
    assert pairs[["model_a", "model_b", "question_model_a", "winner"]].values.tolist() == [
        ["m", "n", "m", "tie"]
    ]
