"""Released shapes read as frames: made-up rows here, the released ones where they are at hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import written

import lmjudge as lj
from lmjudge.data import load_answers, load_judgments, load_questions, load_votes
from lmjudge.errors import BadRow, DataError, DataMissing, FrameError, LmjudgeError
from lmjudge.frames import check

QUESTION = {"question_id": 1, "category": "writing", "turns": ["Say it.", "Again."]}
ANSWER = {"question_id": 1, "model_id": "x", "choices": [{"index": 0, "turns": ["It.", "It!"]}]}
VOTE = {"question_id": 1, "model_a": "a", "model_b": "b", "winner": "tie", "judge": "expert_3"}
REVIEW = {
    "question_id": 1,
    "answer1_id": "u",
    "answer2_id": "v",
    "text": "8 9.5\nWhy.",
    "score": [8, 9],
}


def test_questions_and_their_references(tmp_path: Path) -> None:
    written(tmp_path / "question.jsonl", QUESTION, QUESTION | {"question_id": 2})
    written(tmp_path / "reference_answer" / "gpt-4.jsonl", ANSWER)
    questions = load_questions(tmp_path)
    assert check(questions, "questions")["reference"].tolist() == [["It.", "It!"], None]
    assert questions["turns"].tolist() == [["Say it.", "Again."]] * 2
    old = written(tmp_path / "old.jsonl", {"question_id": 1, "text": "Say it.", "category": "math"})
    assert load_questions(old)["turns"].tolist() == [["Say it."]]


def test_answers_of_ones_own_are_named_after_their_files(tmp_path: Path) -> None:
    unnamed = {name: value for name, value in ANSWER.items() if name != "model_id"}
    written(tmp_path / "model_answer" / "b.jsonl", unnamed)
    two = unnamed | {"choices": [{"turns": ["first"]}, {"turns": ["second"]}]}
    written(tmp_path / "model_answer" / "a.jsonl", two)
    answers = check(load_answers(tmp_path), "answers")
    assert answers["model"].tolist() == ["a", "b"]
    assert answers["turns"].tolist() == [["first"], ["It.", "It!"]]
    assert load_answers(tmp_path, models=["b"])["model"].tolist() == ["b"]
    with pytest.raises(DataMissing, match="'c'; it has those of a, b"):
        load_answers(tmp_path, models=["c"])
    # A name in the rows is the model's, whole.
    written(tmp_path / "model_answer" / "a.jsonl", ANSWER | {"model_id": "org/c:v1"})
    assert load_answers(tmp_path)["model"].tolist() == ["org/c:v1", "b"]


def test_half_surrogates_are_cleaned(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl")
    path.write_text('{"question_id": 1, "text": "caf\\udce9 \\ud83d\\ude00"}\n')
    assert load_answers(path)["turns"].tolist() == [["caf\ufffd \U0001f600"]]


def test_votes_as_lines_and_as_the_hubs_parquet(tmp_path: Path) -> None:
    rows = [
        VOTE,
        VOTE | {"judge": "author_1", "winner": "model_b", "turn": 2},
        VOTE | {"judge": "arena_user_9", "winner": "tie (bothbad)", "tstamp": 5.5},
        VOTE | {"judge": ["gpt-4", "pair-v2"], "winner": "tie (inconsistent)"},
    ]
    votes = check(load_votes(written(tmp_path / "v.jsonl", *rows)), "votes")
    assert votes["group"].tolist() == ["expert", "author", "crowd", "llm"]
    assert votes["turn"].tolist() == [1, 2, 1, 1]
    assert votes["winner"].tolist() == ["tie", "model_b", "tie", "tie"]
    assert votes["reason"].tolist()[2:] == ["both_bad", "inconsistent"]
    assert votes["time"].tolist()[2] == 5.5
    assert votes["judge"].tolist()[3] == "gpt-4/fastchat:pair"
    parquet = tmp_path / "human.parquet"
    talk = [[{"content": "hello", "role": "user"}]] * 2
    hub = pd.DataFrame(rows[:2]).assign(conversation_a=talk, conversation_b=talk, turn=[1, 2])
    hub.to_parquet(parquet)
    pd.testing.assert_frame_equal(
        load_votes(parquet), load_votes(written(tmp_path / "w.jsonl", *rows[:2]))
    )


def test_crowd_votes_as_llmfao_has_them(tmp_path: Path) -> None:
    path = tmp_path / "crowd.csv"
    path.write_text("id,prompt,worker,winner,left,right\n0,8,58,left,A,B\n0,8,83,tie,A,B\n")
    votes = load_votes(path)
    assert votes["winner"].tolist() == ["model_a", "tie"]
    assert votes["judge"].tolist() == ["worker_58", "worker_83"]
    assert set(votes["group"]) == {"crowd"}


def test_reviews_of_ones_own_need_nothing_beside_them(tmp_path: Path) -> None:
    math = REVIEW | {"question_id": 2, "text": "(8, 9)", "score": [8, 9]}
    written(tmp_path / "review_base_new.jsonl", REVIEW, math)
    games = check(load_judgments(tmp_path), "games")
    assert games[["model_a", "model_b"]].drop_duplicates().values.tolist() == [["base", "new"]]
    # The text says 9.5 in the first, and nothing that is read in the second.
    assert games["score_b"].tolist() == games["published_b"].tolist() == [9.0, 9.0]
    assert games["reason"].tolist() == ["entered by hand", "entered by hand"]
    assert set(games["origin"]) == {"not rendered"}
    # Nor do questions that lie beside them make judgments.
    written(tmp_path / "question.jsonl", QUESTION)
    assert len(load_judgments(tmp_path)) == 2


@pytest.mark.parametrize(
    ("load", "rows", "line"),
    [
        (load_questions, [QUESTION, QUESTION], 2),
        (load_questions, [QUESTION | {"turns": []}], 1),
        (load_answers, [ANSWER, ANSWER], 2),
        (load_answers, [ANSWER | {"choices": []}], 1),
        (load_answers, [ANSWER | {"choices": [{"turns": [None]}]}], 1),
        (load_answers, [{"question_id": 1, "text": None}], 1),
        (load_votes, [VOTE, VOTE | {"winner": "both"}], 2),
        (load_votes, [VOTE, {k: v for k, v in VOTE.items() if k != "winner"}], 2),
        (load_votes, [VOTE | {"judge": []}], 1),
        (load_votes, [VOTE | {"tstamp": "now"}], 1),
        (load_judgments, [REVIEW | {"score": "8 9"}], 1),
        (load_judgments, [REVIEW | {"score": [8, "nine"]}], 1),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, load: Any, rows: list[Any], line: int
) -> None:
    path = written(tmp_path / "review_a_b.jsonl", *rows)
    with pytest.raises(BadRow, match=f"line {line} of ") as caught:
        load(path)
    assert (caught.value.path, caught.value.line) == (path, line)


def test_bad_tables(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("prompt,left,right\n1,a,b\n")
    with pytest.raises(DataError, match="llmfao lacks winner"):
        load_votes(path)
    path.write_text("prompt,worker,winner,left,right\n")
    with pytest.raises(DataError, match="has no rows"):
        load_votes(path)
    path.write_text("prompt,worker,winner,left,right\n8,58,nobody,A,B\n")
    with pytest.raises(BadRow, match="line 2 of"):
        load_votes(path)
    parquet = tmp_path / "votes.parquet"
    parquet.write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(DataError, match="is not Parquet"):
        load_votes(parquet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no questions"):
        load_questions(tmp_path / "empty")


@pytest.mark.parametrize("load", [load_questions, load_answers, load_votes, load_judgments])
def test_neither_a_source_nor_a_path(load: Any) -> None:
    with pytest.raises(DataMissing, match="is not a source, and no such path exists; did you mean"):
        load("mt-bench-humans")


def test_two_kinds_in_one_folder_are_told_apart_first(tmp_path: Path) -> None:
    single = {"question_id": 1, "model": "m", "score": 7}
    written(tmp_path / "single.jsonl", single)
    pair = {"question_id": 1, "model_1": "m", "model_2": "n", "judge": ["j", "p"]}
    written(tmp_path / "pair.jsonl", pair | {"g1_judgment": "", "g2_judgment": ""})
    with pytest.raises(DataError, match="say kind='games'"):
        load_judgments(tmp_path)
    assert load_judgments(tmp_path, "scores")["score"].tolist() == [7.0]
    with pytest.raises(FrameError, match="mt-bench holds"):
        load_judgments("mt-bench")
    with pytest.raises(ValueError, match="kind is 'pairs'"):
        load_judgments(tmp_path, kind="pairs")  # type: ignore[arg-type]


def test_the_released_questions_and_answers(published_data: Path) -> None:
    questions = load_questions("mt-bench")
    assert len(questions) == 80
    assert questions["category"].value_counts().eq(10).all()
    guided = questions.loc[questions["reference"].notna(), "category"]
    assert guided.value_counts().to_dict() == {"reasoning": 10, "math": 10, "coding": 10}
    assert len(load_questions("fastchat")) == 160
    assert load_questions("llama-adapter/vs-alpaca")["question_id"].tolist() == [
        str(n) for n in range(1, 81)
    ]
    assert load_questions("vicuna-blog")["category"].nunique() == 9
    assert load_answers("mt-bench").groupby("model").size().eq(80).sum() == 31
    assert set(load_answers("mt-bench", models=["gpt-4"])["model"]) == {"gpt-4"}
    with pytest.raises(LmjudgeError, match="gpt-5"):
        load_answers("mt-bench", models=["gpt-5"])
    # One model name, two files of answers: which one was judged is a fact of the source.
    one, other = (
        load_answers(f"llama-adapter/{name}").query("model == 'alpaca'")["turns"].tolist()
        for name in ("adapter-vs-alpaca", "vs-alpaca")
    )
    assert one != other
    assert len(load_answers("vicuna-blog")) == len(load_answers("prd")) == 400


def test_the_released_votes(published_data: Path) -> None:
    human = load_votes("mt-bench-human")
    groups = human.loc[human["turn"] == 1, "group"].value_counts().to_dict()
    assert groups == {"expert": 1343, "author": 346}
    crowd = load_votes("llmfao")
    assert len(crowd) == 8931
    assert len(set(crowd["model_a"]) | set(crowd["model_b"])) == 59
    assert crowd["winner"].value_counts().to_dict() == {
        "tie": 3471,
        "model_a": 2911,
        "model_b": 2549,
    }
    votes = load_votes("prd")
    assert votes["group"].value_counts().to_dict() == {"crowd": 7040, "llm": 5 * 800}
    # Unnamed voters are missing: no name is made up for them.
    assert votes["judge"].isna().equals(votes["group"] == "crowd")


def test_ids_of_several_kinds_are_text_in_a_parquet_file(tmp_path: Path) -> None:
    """They came from JSON, and the frame is written after all calls were paid for."""
    frame = pd.DataFrame(
        {
            "question_id": pd.Series([1, "a", 2**70], dtype=object),
            "model": "m",
            "turns": [["x"], ["y"], None],
            "sample": 0,
            "usage": pd.Series([{"n": 1}, "none told", None], dtype=object),
        }
    )
    lj.save(frame, tmp_path / "x.parquet")
    held = pd.read_parquet(tmp_path / "x.parquet")
    assert held["question_id"].tolist() == ["1", "a", str(2**70)]
    assert held["sample"].tolist() == [0, 0, 0]
    assert held["usage"].tolist()[:2] == ['{"n": 1}', "none told"]
