"""Frames as files and back: equal, with every field of the file that they came from."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, strategies as st
from support import examples, written
from test_file_names import HOSTILE

import lmjudge as lj
from lmjudge import (
    load_answers,
    load_judgments,
    load_pairings,
    load_pairs,
    load_questions,
    load_votes,
    save,
)
from lmjudge.data import to_dataset
from lmjudge.data.writing import add_answers
from lmjudge.errors import DataError, FrameError
from lmjudge.frames import frame

SUFFIXES = ["jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "csv.zst"]
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(
    [
        "=1+1",
        "'=1",
        "-2",
        "+",
        "a,b",
        'a"b',
        "a\nb",
        "\r",
        "\u2028",
        "[1]",
        '["x"]',
        "007",
        "1.0",
        "NA",
    ]
)
NAME = st.sampled_from(["gpt-4", "GPT-4", "None", "NA", "m:v1", "org/m", "-x", "=m", "1.0"])
TURNS = st.lists(TEXT, min_size=1, max_size=2)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    plain = [
        made[sorted(made.columns)].astype(object).where(made[sorted(made.columns)].notna(), None)
        for made in (one, other)
    ]
    assert plain[0].to_dict("records") == plain[1].to_dict("records")


def answers(drawn: Any) -> pd.DataFrame:
    rows = [
        {"question_id": f"{n}", "model": model, "turns": turns, "sample": 0, "tokens": n}
        for n, (model, turns) in enumerate(drawn)
    ]
    return frame("answers", rows)


@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(SUFFIXES),
    drawn=st.lists(st.tuples(NAME, TURNS), min_size=1, max_size=4),
    layout=st.sampled_from([None, "fastchat"]),
)
def test_answers_come_back(suffix: str, drawn: Any, layout: Any, tmp_path: Path) -> None:
    made = answers(drawn)
    read = load_answers(save(made, tmp_path / f"a.{suffix}", layout), samples=None)
    same(read.drop(columns="answer_id", errors="ignore"), made)


@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(SUFFIXES),
    texts=st.lists(TEXT | st.none(), min_size=2, max_size=4),
    score=st.floats(0, 10) | st.none(),
    winner=st.sampled_from(["model_a", "model_b", "tie", None]),
)
def test_verdicts_come_back(
    suffix: str, texts: Any, score: Any, winner: Any, tmp_path: Path
) -> None:
    texts = [text or None for text in texts]  # a CSV cannot tell an empty text from none
    scores = [
        {"question_id": f"{n}", "turn": 1, "model": "m", "judge": "j/single", "sample": 0}
        | {"score": score, "reason": None if score is not None else "no_verdict", "text": text}
        | {"key": f"k{n}", "criterion": "tone"}
        for n, text in enumerate(texts)
    ]
    made = frame("scores", scores).astype({"score": float})
    same(load_judgments(save(made, tmp_path / f"s.{suffix}")), made)
    votes = [
        {"question_id": f"{n}", "turn": 1, "model_a": "m", "model_b": "n", "judge": "ann"}
        | {"group": "expert", "winner": winner, "reason": None if winner else "truncated"}
        # Beside a frame's columns, a CSV's column of numbers alone is read as numbers.
        | {"time": 1.5, "language": f"in {text or 'NA'}"}
        for n, text in enumerate(texts)
    ]
    cast = frame("votes", votes).astype({"time": float})
    same(load_votes(save(cast, tmp_path / f"v.{suffix}")), cast)
    games = [
        {"question_id": f"{n}", "turn": 1, "model_a": a, "model_b": b, "judge": "j/pair"}
        | {"sample": 0, "winner": winner, "score_a": None, "score_b": None, "text": text}
        | {"reason": None if winner else "no_verdict", "key": f"{n}{a}"}
        for n, text in enumerate(texts)
        for a, b in (("m", "n"), ("n", "m"))
    ]
    played = frame("games", games).astype({"score_a": float, "score_b": float})
    same(load_judgments(save(played, tmp_path / f"g.{suffix}")), played)
    read = load_judgments(save(played, tmp_path / f"f.{suffix}", "fastchat"))
    names = ["prompt", "origin", "asked", "user_prompt", "file_judge"]
    same(read.drop(columns=[name for name in names if name in read]), played)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_questions_pairings_and_pairs_come_back(suffix: str, tmp_path: Path) -> None:
    questions = frame(
        "questions",
        [
            {
                "question_id": "1",
                "category": "math",
                "turns": ["2+2?", "=3"],
                "reference": ["4", "7"],
            }
            | {"input": "x", "level": 2},
            {"question_id": "q2", "category": None, "turns": ['["a"]'], "reference": None}
            | {"input": "y", "level": 3},
        ],
    )
    same(load_questions(save(questions, tmp_path / f"q.{suffix}")), questions)
    pairings = frame(
        "pairings",
        [
            {"question_id": "1", "category": "c", "model_a": "m", "model_b": "n", "sample": 0}
            | {"question": ["Q?"], "reference": None, "answer_a": ["0"], "answer_b": [""]}
            | {"label": "A>B"}
        ],
    )
    same(load_pairings(save(pairings, tmp_path / f"p.{suffix}")), pairings)
    pairs = frame(
        "pairs", [{"pair_id": "4", "subset": "s", "prompt": "Q?", "chosen": "A", "rejected": "=B"}]
    )
    same(load_pairs(save(pairs, tmp_path / f"r.{suffix}")), pairs)
    same(load_pairs(save(pairs, tmp_path / f"t.{suffix}", "trl")), pairs)


ORIGINALS = {
    "answers": {"question_id": 81, "answer_id": "A1", "model_id": "m:v1", "tstamp": 1.5}
    | {
        "choices": [{"index": 0, "turns": ["a", "b"], "token_len": 3}, {"index": 1, "turns": ["c"]}]
    },
    "scores": {"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "turn": 1}
    | {"judgment": "So. [[7]]", "score": 7, "user_prompt": "P", "tstamp": 1.5},
    "games": {"question_id": 81, "model_1": "m", "model_2": "n", "judge": ["gpt-4", "pair-v2"]}
    | {"g1_winner": "model_1", "g1_judgment": "[[A]]", "g1_user_prompt": "P", "turn": 1}
    | {"g2_winner": "error", "g2_judgment": "$ERROR$", "g2_user_prompt": "P2", "tstamp": 1.5},
}


def test_what_is_read_and_written_again_keeps_every_field(tmp_path: Path) -> None:
    for kind, row in ORIGINALS.items():
        path = written(tmp_path / f"{kind}.jsonl", row)
        read = load_answers(path, samples=None) if kind == "answers" else load_judgments(path)
        again = json.loads(save(read, tmp_path / f"again-{kind}.jsonl", "fastchat").read_bytes())
        assert again == row
    path = tmp_path / "o.json"
    row = {"instruction": "Sing", "output": "la", "generator": "m", "dataset": "own"}
    path.write_text(json.dumps([row]))
    assert json.loads(
        save(load_answers(path), tmp_path / "p.json", "alpaca-eval").read_bytes()
    ) == [row]
    hard = {"uid": "u1", "model": "m", "judge": "gpt-4.1", "baseline": "o3", "category": "x"}
    hard |= {"games": [{"score": "A>>B", "judgment": {"answer": "[[A>>B]]"}}, None]}
    games = load_judgments(written(tmp_path / "h.jsonl", hard))
    assert json.loads(save(games, tmp_path / "i.jsonl", "arena-hard").read_bytes()) == hard


def test_questions_answers_and_pairs_of_other_benchmarks_come_back(tmp_path: Path) -> None:
    questions = frame(
        "questions",
        [
            {"question_id": "u1", "category": "math", "turns": ["1+1?"], "reference": None},
            {"question_id": "u2", "category": "code", "turns": ["Sort"], "reference": None},
        ],
    )
    path = save(questions, tmp_path / "question.jsonl", "arena-hard")
    pd.testing.assert_frame_equal(load_questions(path), questions, check_dtype=False)
    answers = frame(
        "answers",
        [
            {"question_id": name, "model": model, "sample": 0, "turns": [f"{model} on {name}"]}
            for name in ("u1", "u2")
            for model in ("m", "n")
        ],
    )
    again = load_answers(save(answers, tmp_path / "answers.jsonl", "arena-hard"))
    columns = ["question_id", "model", "turns"]
    assert again[columns].values.tolist() == answers[columns].values.tolist()
    pairs = lj.pair_up(questions, answers)
    shown = ["model_a", "model_b", "question", "answer_a", "answer_b"]
    again = load_pairings(save(pairs, tmp_path / "pairs.json", "alpaca-eval"))
    assert again[shown].values.tolist() == pairs[shown].values.tolist()
    with pytest.raises(FrameError, match="model"):
        frame("answers", [{"question_id": "u1", "turns": ["a row without a model"]}])
    two = questions.assign(turns=[["1+1?", "And 2+2?"]] * 2)
    with pytest.raises(FrameError, match="the layout holds one turn a row, and here are 2"):
        save(two, tmp_path / "two.jsonl", "arena-hard")
    assert not (tmp_path / "two.jsonl").exists()


def show_result(path: Path) -> dict[str, tuple[float, int]]:
    """FastChat's show_result.py, single grades: a copy in spirit, over its own columns alone."""
    table = pd.read_json(path, lines=True)[["model", "score", "turn"]]
    table = table[table["score"] != -1]
    return {str(model): (part["score"].mean(), len(part)) for model, part in table.groupby("model")}


def test_fastchats_own_scripts_read_our_files(tmp_path: Path) -> None:
    study = lj.simulate(0, per_category=1)
    store, judge = study.store(), study.judges[0]
    lineup = lj.line_up(study.questions, study.answers).head(6)
    scores = lj.judge_answers(
        lineup, lj.Judge("single", judge), store=store, endpoint=study.endpoint
    )
    scores.loc[1, ["score", "reason"]] = [float("nan"), "no_verdict"]
    path = save(scores, tmp_path / "gpt-4_single.jsonl", "fastchat", store=store)
    ours = lj.mean_scores(scores).set_index("model")
    for model, (mean, count) in show_result(path).items():
        assert ours["score"][model] == pytest.approx(mean)
        assert ours["n"][model] == count
    first = json.loads(path.read_text().split("\n")[0])
    # What qa_browser looks its rows up by.
    assert (tuple(first["judge"]), first["question_id"]) == ((judge, "single"), 1)
    assert "question" in first["user_prompt"].lower()
    same(
        load_judgments(path)[list(scores.columns[:9])],
        scores.assign(question_id=scores["question_id"].astype(str))[list(scores.columns[:9])],
    )
    folder = save(study.answers, tmp_path / "model_answer", "fastchat")
    files = sorted(folder.iterdir())
    assert len(files) == study.answers["model"].nunique()
    for file in files:
        row = json.loads(file.read_text().split("\n")[0])
        assert row["choices"][0]["turns"][0]


def test_a_csv_runs_nothing(tmp_path: Path) -> None:
    cells = ["=1+1", "-2", " @x", "+", "a=b", None, "'=1"]
    path = save(pd.DataFrame({"text": cells, "n": -1.5}), tmp_path / "x.csv")
    rows = list(csv.reader(io.StringIO(path.read_text())))
    assert [row[0] for row in rows[1:]] == ["'=1+1", "'-2", "' @x", "'+", "a=b", "", "''=1"]
    assert [row[1] for row in rows[1:]] == ["-1.5"] * 7


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    votes = frame(
        "votes",
        [
            dict.fromkeys(["winner", "time"])
            | {"question_id": "1", "turn": 1}
            | {"model_a": "m", "model_b": "n", "judge": "a", "group": None, "reason": None}
        ],
    )
    with pytest.raises(DataError, match=r"ends in none of \.jsonl"):
        save(votes, tmp_path / "x.xlsx")
    with pytest.raises(FrameError, match="no layout 'fastchat' for votes"):
        save(votes, tmp_path / "x.jsonl", "fastchat")
    with pytest.raises(FrameError, match="no kind of frame has the columns a"):
        save(pd.DataFrame({"a": [1]}), tmp_path / "x.jsonl", "fastchat")
    games = load_judgments(written(tmp_path / "g.jsonl", ORIGINALS["games"]))
    with pytest.raises(FrameError, match="was shown 1 times"):
        save(games.head(1), tmp_path / "x.jsonl", "fastchat")
    with pytest.raises(FrameError, match="lack their instruction"):
        save(answers([("m", ["a"])]), tmp_path / "x.jsonl", "alpaca")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save(votes, tmp_path / "file/x.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "g.jsonl"]


def test_a_frame_is_a_dataset_and_back() -> None:
    pytest.importorskip("datasets")
    made = answers([("m", ["a", "b"]), ("n", ["c"])])
    dataset = to_dataset(made)
    assert dataset.column_names == list(made.columns)
    same(load_answers(dataset), made)
    with pytest.raises(FrameError, match="is no data set"):
        to_dataset(pd.DataFrame({"a": [1, "x"]}))


def test_answers_of_any_model_come_back_from_a_folder(tmp_path: Path) -> None:
    rows = [
        {"question_id": q, "model": model, "turns": [f"{model} {q} {s}"], "sample": s}
        for model in HOSTILE
        for q in ("1", "b")
        for s in (0, 2)
    ]
    failed = {"question_id": "3", "model": "gpt-4", "turns": None, "sample": 0}
    folder = lj.save(pd.DataFrame([*rows, failed]), tmp_path / "out", "fastchat")
    files = list(folder.iterdir())
    assert len(files) == len(HOSTILE)
    read = load_answers(folder, samples=None)
    order = ["model", "question_id", "sample"]
    told = {tuple(row[name] for name in order): row["turns"] for row in read.to_dict("records")}
    assert told == {tuple(row[name] for name in order): row["turns"] for row in rows}
    assert set(load_answers(tmp_path / "out", ["GPT-4", "../x"])["model"]) == {"GPT-4", "../x"}
    one = lj.save(pd.DataFrame(rows), tmp_path / "all.jsonl", "fastchat")
    assert len(load_answers(one, samples=None)) == len(rows)


SAID = st.fixed_dictionaries(
    {
        "question_id": st.sampled_from([1, 2, "b"]),
        "model": st.sampled_from(["m", "M", "a/b"]),
        "sample": st.integers(0, 2),
        "turns": st.sampled_from([["x"], ["y", "z"]]),
    }
)
ONE_EACH = st.lists(SAID, unique_by=lambda row: (row["question_id"], row["model"], row["sample"]))


@given(runs=st.lists(ONE_EACH, max_size=4), name=st.sampled_from(["out", "all.jsonl"]))
def test_answers_are_added_to_files_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[dict]], name: str
) -> None:
    out = tmp_path_factory.mktemp("answers") / name
    known: dict[tuple[str, str, int], list[str]] = {}
    for rows in runs:
        if not rows:
            continue
        fresh = {(r["model"], str(r["question_id"]), r["sample"]): r["turns"] for r in rows}
        models = {row["model"] for row in rows}
        there = {key for key in known if name == "all.jsonl" or key[0] in models}
        added = add_answers(pd.DataFrame(rows).assign(keys=[["k"]] * len(rows)), out)
        assert sum(file.new for file in added) == len(fresh.keys() - known.keys())
        changed = [key for key in fresh if key in known and known[key] != fresh[key]]
        assert sum(file.changed for file in added) == len(changed)
        assert sum(file.kept for file in added) == len(there - fresh.keys())
        known |= fresh
        read = load_answers(out, samples=None)
        told = {
            (row["model"], str(row["question_id"]), row["sample"]): row["turns"]
            for row in read.to_dict("records")
        }
        assert told == known
    files = [out] if name == "all.jsonl" else sorted(out.glob("*")) if out.exists() else []
    before = [file.read_bytes() for file in files if file.exists()]
    if runs and runs[-1]:  # the same again changes no byte
        add_answers(pd.DataFrame(runs[-1]).assign(keys=[["k"]] * len(runs[-1])), out)
    assert [file.read_bytes() for file in files if file.exists()] == before


@pytest.mark.parametrize("text", ["{", "[1]", '{"question_id": 1}', "notes", '{"choices": [1]}'])
def test_a_file_of_other_rows_is_not_added_to(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text(text)
    one = {"question_id": 1, "model": "m", "turns": ["x"], "sample": 0}
    with pytest.raises(DataError, match="holds other rows than answers"):
        add_answers(pd.DataFrame([one]), path)
    assert path.read_text() == text


def test_any_frame_is_written_and_is_a_data_set(tmp_path: Path) -> None:
    """Tables of estimators and cells of notebooks, not only frames that a loader reads."""
    votes = lj.load_votes("prd")
    rates = lj.win_rates(votes)
    cells = lj.cells(rates, "Wins", row="model", values="win_rate")
    for number, table in enumerate((votes, rates, cells, lj.load_answers("prd"))):
        saved = pd.read_parquet(lj.save(table, tmp_path / f"{number}.parquet"))
        assert list(saved.columns) == list(table.columns)
        assert len(saved) == len(table) == len(to_dataset(table))
        text = pd.read_csv(lj.save(table, tmp_path / f"{number}.csv"), low_memory=False)
        assert list(text.columns) == list(table.columns)
        assert len(text) == len(table)
