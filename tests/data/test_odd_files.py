"""Odd and damaged files: each is one clear error or the right frame, and no row is lost."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import zstandard
from support import written
from test_reading import CASES, LOADERS, NAMES

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
from lmjudge.errors import BadRow, DataError

VOTE = {"question_id": 1, "model_a": "m", "model_b": "n", "winner": "model_a"}
CSV = "question_id,model_a,model_b,winner\n1,m,n,model_a\n2,m,n,tie\n"


def zst(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


def votes_of(column: str, values: list[Any]) -> pd.DataFrame:
    rows = [{name: VOTE[name] for name in ("model_a", "model_b", "winner")} for _ in values]
    table = pd.DataFrame(rows)
    table[column] = pd.Series(values, dtype=object)
    return load_votes(table)


# ---- files


@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_a_zstandard_file_that_is_cut_off_loses_no_row_silently(
    share: float, tmp_path: Path
) -> None:
    body = zst(
        pd.DataFrame([VOTE | {"note": f"{n * 7919:x}"} for n in range(30_000)]).to_csv().encode()
    )
    path = tmp_path / "v.csv.zst"
    path.write_bytes(body[: int(len(body) * share)])
    with pytest.raises(DataError, match="Zstandard data is cut off; get the file again"):
        load_votes(path)
    path.write_bytes(body + zst(b""))
    assert len(load_votes(path)) == 30_000


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (CSV.encode("utf-32"), "UTF-32, or UTF-16 without a byte order mark"),
        (CSV.encode("utf-16-le"), "UTF-32, or UTF-16 without a byte order mark"),
        (bz2.compress(CSV.encode()), "packed twice, or not by gzip or Zstandard"),
        (gzip.compress(gzip.compress(CSV.encode())), "packed twice, or not by gzip"),
        (b"model_a,model_b,winner,winner\nm,n,model_a,model_b\n", "2 columns 'winner'; rename"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(body: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_bytes(body)
    with pytest.raises(DataError, match=problem):
        load_votes(path)


def test_blank_lines_before_a_header_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text(f"\n\n{CSV}")
    assert load_votes(path)["winner"].tolist() == ["model_a", "tie"]


@pytest.mark.parametrize(
    "source", [None, 3, b"v.csv", "", {"model_a": ["m"]}, [VOTE], pd.Series([1])]
)
def test_what_is_no_source_says_what_is_one(source: Any) -> None:
    with pytest.raises(DataError, match=r"is no source; give a name, a path"):
        load_votes(source)


@pytest.mark.parametrize(
    "how", [{"columns": ["winner"]}, {"labels": ["x"]}, {"orders": "o"}, {"orders": ("o", "o")}]
)
def test_a_mapping_of_the_wrong_type_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(how))} is .*; expected"):
        load_judgments(pd.DataFrame([VOTE]), **how)


def test_frames_without_rows_and_with_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="the DataFrame has no rows"):
        load_votes(pd.DataFrame(columns=["model_a", "model_b", "winner"]))
    with pytest.raises(DataError, match="several columns 'winner'"):
        load_votes(
            pd.DataFrame([["m", "n", "tie", "model_a"]], columns=[*"ab", "winner", "winner"])
        )


def test_rows_given_twice_do_not_count_twice(tmp_path: Path) -> None:
    folder = tmp_path / "votes"
    folder.mkdir()
    path, table = written(folder / "v.jsonl", VOTE), pd.DataFrame([VOTE])
    for twice in ([folder, path], [path, folder / ".." / "votes" / "v.jsonl"], [table, table]):
        with pytest.raises(DataError, match="is given twice; give it once"):
            load_votes(twice)


# ---- cells


@pytest.mark.parametrize(
    ("column", "frame_column", "value", "expected"),
    [
        ("question_id", "question_id", float("nan"), None),
        ("question_id", "question_id", 0, "0"),
        ("tstamp", "time", 1.7e15, 1.7e9),
        ("tstamp", "time", 1.7e18, 1.7e9),
        ("anony", "anony", None, None),
        ("anony", "anony", "f", False),
    ],
)
def test_a_cell(column: str, frame_column: str, value: Any, expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    pd.DataFrame([VOTE | {column: value}]).to_parquet(path)
    line = written(tmp_path / "v.jsonl", VOTE | {column: value})  # json.dumps writes NaN as it is
    for source in (path, line, pd.DataFrame([VOTE | {column: value}])):
        cell = load_votes(source)[frame_column].iloc[0]
        assert (None if cell is None or cell != cell else cell) == expected


def test_bytes_are_no_id() -> None:
    with pytest.raises(BadRow, match=r"question_id = b'x'; expected a text or an integer"):
        votes_of("question_id", [b"x"])


@pytest.mark.parametrize("mark", ["-1.0", -1.0, "-1"])
def test_minus_one_is_no_score_however_it_is_written(mark: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(f"question_id,model,score\n1,m,7.0\n2,m,{mark}\n")
    scores = load_judgments(path)
    assert scores["score"].isna().tolist() == [False, True]
    assert scores["reason"].tolist()[1] == "no_verdict"
    assert votes_of("winner", [mark])["reason"].tolist() == ["no_verdict"]


def test_an_infinite_score_is_refused_in_a_frame_as_in_a_file(tmp_path: Path) -> None:
    row = {"question_id": 1, "model": "m", "score": float("inf")}
    for source in (pd.DataFrame([row]), written(tmp_path / "s.jsonl", row)):
        with pytest.raises(BadRow, match="expected a finite number"):
            load_judgments(source)


def test_ids_with_leading_zeros_stay_beside_ids_written_as_floats(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("question_id,model_a,model_b,winner\n007,m,n,tie\n1.0,m,n,tie\n")
    assert load_votes(path)["question_id"].tolist() == ["007", "1.0"]


def test_labels_meet_numbers_that_a_gap_made_floats(tmp_path: Path) -> None:
    table = pd.DataFrame({"model_a": "m", "model_b": "n", "winner": [0, 1, None]})
    table.to_csv(tmp_path / "v.csv", index=False)
    for source in (table, tmp_path / "v.csv"):
        votes = load_votes(source, labels={0: "model_a", "1": "model_b"})
        assert votes["winner"].tolist()[:2] == ["model_a", "model_b"]
        assert votes["reason"].tolist()[2] == "no_verdict"


def test_labels_and_names_of_models_hold_for_both_orders(tmp_path: Path) -> None:
    row = {"question_id": 1, "model_a": "m", "model_b": "n", "ab": 1, "ba": 2}
    numbered = load_judgments(
        pd.DataFrame([row]), orders=("ab", "ba"), labels={1: "model_a", 2: "model_b"}
    )
    named = load_judgments(pd.DataFrame([row | {"ab": "m", "ba": "m"}]), orders=("ab", "ba"))
    for games in (numbered, named):
        assert games[["model_a", "winner"]].values.tolist() == [["m", "model_a"], ["n", "model_b"]]


def test_half_surrogates_are_replaced_in_a_frame_as_in_a_file(tmp_path: Path) -> None:
    asked = load_questions(pd.DataFrame({"question_id": [1], "turns": [["a\ud83d"]]}))
    assert asked["turns"].tolist() == [["a\ufffd"]]
    pd.testing.assert_frame_equal(load_questions(save(asked, tmp_path / "q.jsonl")), asked)


# ---- rows


@pytest.mark.parametrize("index", [-2, -3, 3])
def test_a_mark_that_pandalm_does_not_have_is_no_verdict(index: int) -> None:
    row = {"instruction": "Q?", "response1": "A", "response2": "B", "annotator1": index}
    with pytest.raises(BadRow, match="expected 1, 2 or 0 for a tie"):
        load_votes(pd.DataFrame([row]))


def test_empty_marks_of_a_layout_are_missing_verdicts() -> None:
    sides = {"output_1": "A", "output_2": "B", "instruction": "Q?"}
    for mark in (-1, "NA", None):
        rows = load_votes(pd.DataFrame([sides | {"preference": mark}]))
        assert rows["reason"].tolist() == ["no_verdict"]
    lists = {"id": 1, "model_a": "m", "model_b": "n", "prompt": '["Q?"]', "response_a": '["A"]'}
    lists |= {"winner_model_a": None, "winner_model_b": None, "winner_tie": None}
    assert load_votes(pd.DataFrame([lists]))["reason"].tolist() == ["no_verdict"]
    hard = {"uid": "u", "judge": "j", "model": "m", "baseline": "b", "games": None}
    assert load_judgments(pd.DataFrame([hard]))["reason"].tolist() == ["request_failed"] * 2


@pytest.mark.parametrize(
    ("load", "row", "problem"),
    [
        (
            load_judgments,
            {"games": "x", "judge": "j", "model": "m", "uid": 1, "baseline": "b"},
            "list of two games",
        ),
        (
            load_answers,
            {"question_id": 1, "choices": ["x"]},
            "expected a list of objects with turns",
        ),
        (load_answers, {"question_id": 1, "model": None, "answer": "A"}, "names no model in model"),
        (load_judgments, {"question_id": 1, "model": "", "score": 1}, "names no model in model"),
        (load_pairs, {"id": True, "prompt": "p", "chosen": "c", "rejected": "r"}, "has id = True"),
    ],
)
def test_a_malformed_row_says_what_is_wrong(
    load: Callable[[Any], pd.DataFrame], row: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRow, match=problem):
        load(written(tmp_path / "x.jsonl", row))


@pytest.mark.parametrize("score", [[8], [8, 9, 1]])
def test_a_review_states_two_scores(score: list[int], tmp_path: Path) -> None:
    row = {"question_id": 1, "answer1_id": "u", "answer2_id": "v", "text": "8 9", "score": score}
    with pytest.raises(BadRow, match="expected two numbers, or 1, 2 or 3"):
        load_judgments(written(tmp_path / "review_a_b.jsonl", row))


def test_a_game_of_a_model_against_itself_is_refused(tmp_path: Path) -> None:
    row = dict.fromkeys(lj.frames.COLUMNS["games"]) | VOTE | {"model_b": "m", "judge": "j"}
    with pytest.raises(BadRow, match="has 'm' on both sides"):
        load_judgments(written(tmp_path / "g.jsonl", row))


def test_what_is_falsy_is_kept(tmp_path: Path) -> None:
    asked = load_questions(written(tmp_path / "q.jsonl", {"prompt": "1 - 1?", "reference": 0}))
    assert asked["reference"].tolist() == [["0"]]
    pair = {"question": "Q?", "answer_a": "A", "answer_b": "B"}
    for name in ("question_id", "pair_id"):
        rows = load_pairings(written(tmp_path / "p.jsonl", pair | {name: 0}))
        assert rows["question_id"].tolist() == ["0"]


def test_the_first_sample_is_found_by_its_index(tmp_path: Path) -> None:
    choices = [{"index": 1, "turns": ["second"]}, {"index": 0, "turns": ["first"]}]
    row = {"question_id": 1, "model_id": "m", "choices": choices}
    assert load_answers(written(tmp_path / "m.jsonl", row))["turns"].tolist() == [["first"]]


def test_references_that_answer_no_question_are_an_error(tmp_path: Path) -> None:
    questions = written(tmp_path / "q.jsonl", {"question_id": 1, "turns": ["Q?"]})
    guides = written(tmp_path / "r.jsonl", {"question_id": "q1", "model_id": "m", "answer": "A"})
    with pytest.raises(DataError, match="references have question_id 'q1', the questions '1'"):
        load_questions(questions, guides)


# ---- layouts


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(("name", "kind", "row", "says"), CASES)
def test_a_layout_comes_back_as_it_was_saved(
    name: str, kind: str, row: Any, says: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    file = NAMES.get(name, "review_a_b.jsonl" if name == "vicuna" else "rows.jsonl")
    extra = (
        {} if name == "means" else {"kept": {"a": [1]}}
    )  # means are columns, whatever their names
    read = LOADERS[kind](written(tmp_path / file, extra | row))
    back = LOADERS[kind](save(read, tmp_path / f"saved.{suffix}"))

    def plain(table: pd.DataFrame) -> list[dict[str, Any]]:
        # A CSV has no empty texts and no texts that are numbers beside a frame's columns.
        cells = table.map(lambda cell: cell.tolist() if hasattr(cell, "tolist") else cell)
        rows = json.loads(json.dumps(cells.to_dict("records")), parse_constant=lambda _: None)
        loose = {"": None, "7": 7} if suffix == "csv" else {}
        return [
            {n: loose.get(v, v) if isinstance(v, str) else v for n, v in of.items()} for of in rows
        ]

    assert plain(back) == plain(read)


@pytest.mark.parametrize("column", ["chosen", "context"])
def test_conversations_in_a_csv_are_conversations(column: str, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A"}]
    pairs = {"chosen": talk, "rejected": [talk[0], talk[1] | {"content": "B"}]}
    steer = {"context": talk[:1], "response1": "A", "response2": "B", "overall_preference": 1}
    load = load_pairs if column == "chosen" else load_votes
    row = pairs if column == "chosen" else steer
    cells = {n: json.dumps(v) if isinstance(v, list) else v for n, v in row.items()}
    pd.DataFrame([cells]).to_csv(tmp_path / "x.csv", index=False)
    names = ["prompt", "chosen"] if column == "chosen" else ["question_id"]
    known = load(written(tmp_path / "x.jsonl", row))
    assert load(tmp_path / "x.csv")[names].values.tolist() == known[names].values.tolist()


def test_a_judge_without_a_prompt_keeps_its_name_in_fastchats_layout(tmp_path: Path) -> None:
    rows = [{"question_id": 1, "model": "m", "judge": "jury", "score": 4, "criterion": "tone"}]
    scores = load_judgments(written(tmp_path / "s.jsonl", *rows))
    back = load_judgments(save(scores, tmp_path / "f.jsonl", "fastchat"))
    names = ["question_id", "model", "judge", "score", "criterion"]
    assert back[names].values.tolist() == scores[names].values.tolist()


def test_games_of_fastchat_go_into_arena_hards_layout(tmp_path: Path) -> None:
    pair = next(row for name, kind, row, _ in CASES if (name, kind) == ("fastchat", "games"))
    games = load_judgments(written(tmp_path / "p.jsonl", pair))
    back = load_judgments(save(games, tmp_path / "h.jsonl", "arena-hard"))
    assert back["winner"].fillna("").tolist() == games["winner"].fillna("").tolist()
