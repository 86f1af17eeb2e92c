from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import lmjudge as lj
from lmjudge.errors import BadRow, DataError, DataMissing
from lmjudge.frames import COLUMNS


def battle(number: int = 0, **changes: object) -> dict[str, object]:
    return {
        "model_a": "koala-13b",
        "model_b": "vicuna-13b",
        "winner": "model_b",
        "judge": "arena_user_1",
        "turn": 1,
        "anony": True,
        "language": "English",
        "tstamp": 1682351591.1 + 3600 * number,
        **changes,
    }


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows, indent=2))
    return path


@pytest.mark.parametrize("name", ["battles.json", "battles.jsonl", "battles.parquet"])
def test_battles_are_read_in_the_order_of_their_time(tmp_path: Path, name: str) -> None:
    rows = [
        battle(9, winner="tie (bothbad)", anony=False, language="German"),
        battle(3, winner="tie", turn=2),
        battle(0),
    ]
    votes = lj.load_battles(written(tmp_path / name, rows))
    assert votes["winner"].tolist() == ["model_b", "tie", "tie"]
    assert votes["reason"].fillna("").tolist() == ["", "", "both_bad"]
    assert votes["turn"].tolist() == [1, 2, 1]
    assert votes["anony"].tolist() == [True, True, False]
    assert votes["language"].tolist() == ["English", "English", "German"]
    assert set(votes["group"]) == {"crowd"}
    # 15:53 in Greenwich is the morning of the same day where the arena stood, nine hours are not
    # yet the next day there, though they are in Greenwich.
    assert votes["day"].tolist() == ["2023-04-24"] * 3
    assert list(votes.columns[:9]) == list(COLUMNS["votes"])


def test_the_first_files_call_the_winner_win(tmp_path: Path) -> None:
    rows = [{name: value for name, value in battle().items() if name != "winner"}]
    votes = lj.load_battles(written(tmp_path / "b.json", [{**rows[0], "win": "model_a"}]))
    assert votes["winner"].tolist() == ["model_a"]


def test_only_the_sides_and_the_winner_are_needed(tmp_path: Path) -> None:
    bare = {"model_a": "x", "model_b": "y", "winner": "tie"}
    votes = lj.load_battles(written(tmp_path / "b.json", [bare, {**bare, "winner": "model_a"}]))
    assert votes["winner"].tolist() == ["tie", "model_a"]
    assert votes["anony"].all()
    assert votes["time"].isna().all()
    assert votes["day"].isna().all()
    assert len(lj.elo(votes)) == 2


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (battle(winner="bothbad"), "line 2 .* another winner"),
        (battle(model_b=None), "no name"),
        (battle(model_b="koala-13b"), "both sides"),
    ],
)
def test_what_is_no_battle_is_named(tmp_path: Path, row: dict[str, object], told: str) -> None:
    path = written(tmp_path / "b.json", [battle(), row])
    with pytest.raises(BadRow, match=told) as caught:
        lj.load_battles(path)
    assert caught.value.line == 2


def test_files_that_are_no_battles(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no file"):
        lj.load_battles(tmp_path / "none.json")
    for name, text in (("a.json", "[{"), ("b.json", "[]"), ("c.json", '[{"x": 1}]')):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError):
            lj.load_battles(tmp_path / name)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="neither"):
        lj.load_battles(tmp_path / "d.parquet")


def test_shares_of_outcomes_are_those_of_the_pair_whatever_its_sides() -> None:
    study = lj.simulate(0, per_category=4)
    votes = study.votes[study.votes["group"] == "crowd"]
    found = lj.vote_shares(votes, by="turn")
    again = lj.vote_shares(lj.swap(votes), by="turn")
    pd.testing.assert_frame_equal(found, again)
    pair = ["turn", "model_a", "model_b"]
    assert (found.groupby(pair)["count"].sum() == found.groupby(pair)["n"].first()).all()
    wins = lj.win_rates(votes, ties="keep", by="turn").set_index(["turn", "model"])["wins"]
    told = found.melt(["turn", "outcome", "count"], ["model_a", "model_b"], "side", "model")
    mine = told[told["outcome"] == told["side"]].groupby(["turn", "model"])["count"].sum()
    assert (mine == wins).all()
