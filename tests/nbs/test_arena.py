from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import support
from cells import run_cells
from oracle import planted, recovered

import lmjudge as lj
from lmjudge.errors import BadRow, DataError, DataMissing
from lmjudge.frames import COLUMNS
from lmjudge.report import read_table, run
from lmjudge.simulation import Voters


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
        support.written(path, *rows)
    else:
        path.write_text(json.dumps(rows, indent=2))
    return path


@pytest.mark.parametrize("name", ["battles.json", "battles.jsonl", "battles.parquet"])
def test_battles_are_read_with_their_times(tmp_path: Path, name: str) -> None:
    rows = [
        battle(9, winner="tie (bothbad)", anony=False, language="German"),
        battle(3, winner="tie", turn=2),
        battle(0),
    ]
    votes = lj.load_votes(written(tmp_path / name, rows[::-1]))
    assert votes["winner"].tolist() == ["model_b", "tie", "tie"]
    assert votes["reason"].fillna("").tolist() == ["", "", "both_bad"]
    assert votes["turn"].tolist() == [1, 2, 1]
    assert votes["anony"].tolist() == [True, True, False]
    assert votes["language"].tolist() == ["English", "English", "German"]
    assert set(votes["group"]) == {"crowd"}
    assert votes["time"].tolist() == [row["tstamp"] for row in rows[::-1]]
    assert list(votes.columns[:9]) == list(COLUMNS["votes"])


def test_anony_is_read_from_texts_too(tmp_path: Path) -> None:
    said = ["False", "true", False, True, 0, 1]
    rows = [battle(at, anony=value) for at, value in enumerate(said)]
    votes = lj.load_votes(written(tmp_path / "b.jsonl", rows))
    assert votes["anony"].tolist() == [False, True] * 3
    with pytest.raises(BadRow, match=r"line 1 of .*anony = 'perhaps'; expected true or false"):
        lj.load_votes(written(tmp_path / "c.jsonl", [battle(0, anony="perhaps")]))


def test_the_first_files_call_the_winner_win(tmp_path: Path) -> None:
    rows = [{name: value for name, value in battle().items() if name != "winner"}]
    votes = lj.load_votes(written(tmp_path / "b.json", [{**rows[0], "win": "model_a"}]))
    assert votes["winner"].tolist() == ["model_a"]


def test_only_the_sides_and_the_winner_are_needed(tmp_path: Path) -> None:
    bare = {"model_a": "x", "model_b": "y", "winner": "tie"}
    votes = lj.load_votes(written(tmp_path / "b.json", [bare, {**bare, "winner": "model_a"}]))
    assert votes["winner"].tolist() == ["tie", "model_a"]
    assert votes["time"].isna().all()
    assert len(lj.elo(votes)) == 2


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (battle(winner="nobody"), r"line 2 .* the winner 'nobody'"),
        (battle(model_b=None), "no name"),
        (battle(model_b="koala-13b"), "both sides"),
    ],
)
def test_what_is_no_battle_is_named(tmp_path: Path, row: dict[str, object], told: str) -> None:
    path = written(tmp_path / "b.json", [battle(), row])
    with pytest.raises(BadRow, match=told) as caught:
        lj.load_votes(path)
    assert caught.value.line == 2


def test_files_that_are_no_battles(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no such file"):
        lj.load_votes(tmp_path / "none.json")
    for name, text in (("a.json", "[{"), ("b.json", "[]"), ("c.json", '[{"x": 1}]')):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError):
            lj.load_votes(tmp_path / name)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not Parquet"):
        lj.load_votes(tmp_path / "d.parquet")


def test_shares_of_outcomes_are_those_of_the_pair_whatever_its_sides() -> None:
    study = lj.simulate(0, per_category=4)
    votes = study.votes[study.votes["group"] == "crowd"]
    found = lj.stats.vote_shares(votes, by="turn")
    again = lj.stats.vote_shares(lj.frames.swap(votes), by="turn")
    pd.testing.assert_frame_equal(found, again)
    pair = ["turn", "model_a", "model_b"]
    assert (found.groupby(pair)["count"].sum() == found.groupby(pair)["n"].first()).all()
    wins = lj.win_rates(votes, ties="keep", by="turn").set_index(["turn", "model"])["wins"]
    told = found.melt(["turn", "outcome", "count"], ["model_a", "model_b"], "side", "model")
    mine = told[told["outcome"] == told["side"]].groupby(["turn", "model"])["count"].sum()
    assert (mine == wins).all()


# How the battles' files write the names of three models that later posts write otherwise.
OTHER = {
    "PaLM-Chat-Bison-001": "palm-2",
    "OpenAssistant-Pythia-12B": "oasst-pythia-12b",
    "GPT-4-Turbo": "gpt-4-1106-preview",
}
DAYS = {
    "Table, April 2023": "2023-04-27",
    "Table 1, week 1": "2023-05-01",
    "Table 1, week 2": "2023-05-08",
    "Table 1, week 4": "2023-05-22",
    "Table 1, week 8": "2023-06-19",
    "Table, December 2023": "2023-12-06",
}


def arena_file(path: Path) -> Path:
    """Battles of every model of the printed tables, each table's on its last day."""
    rng = np.random.default_rng(5)
    printed = lj.published("arena-elo")
    rows = []
    for title, day in DAYS.items():
        names = printed.loc[printed["table"] == title, "row"].replace(OTHER).str.lower().unique()
        # Who was there in spring goes on to meet the new ones; and one name has capitals.
        names = list(dict.fromkeys([*names, "vicuna-13b", "llama-13b"]))
        names = ["RWKV-4-Raven-14B" if name.startswith("rwkv") else name for name in names]
        noon = pd.Timestamp(day, tz="US/Pacific").timestamp() + 12 * 3600
        for i, a in enumerate(names):
            for b in (*names[i + 1 :], names[i - 1]):
                for _ in range(3 if a != b else 0):
                    winner = rng.choice(["model_a", "model_b", "tie", "tie (bothbad)"])
                    user = f"arena_user_{rng.integers(99)}"
                    late = noon + 60 * rng.integers(300)
                    told = {"model_a": a, "model_b": b, "winner": str(winner), "judge": user}
                    rows.append(battle(**told, tstamp=float(late)))
        # With open names, or on other days, votes count for nothing here.
        rows += [battle(model_a=names[0], model_b=names[-1], anony=False, tstamp=noon)] * 40
    order = rng.permutation(len(rows))
    return written(path, [rows[i] for i in order])


@pytest.mark.notebooks
def test_the_arenas_files_reach_every_cell_of_its_tables(place: Path) -> None:
    path = arena_file(place / "clean_battle_20231206.json")
    run(["arena-elo"], parameters={"battles": str(path), "n_boot": 30})
    (saved,) = (place / "reports/own").glob("arena-elo-*.csv")
    table = read_table(saved)
    assert set(table["basis"]) == {"own"}
    printed = lj.published("arena-elo")
    both = printed.merge(table, on=["table", "row", "column"], how="left")
    assert both["value"].notna().all()
    # The cells are those of the hidden names' battles up to the day, at the K of the time.
    hidden = lj.load_votes(path).query("anony").sort_values("time", kind="stable")
    # Nine hours after 15:53 are the next day in Greenwich, and not yet where the arena stood.
    when = pd.to_datetime(hidden["time"], unit="s", utc=True).dt.tz_convert("US/Pacific")
    hidden = hidden.assign(day=when.dt.strftime("%Y-%m-%d"))
    for title, k in (("Table 1, week 1", 32), ("Table 1, week 4", 4)):
        board = hidden[hidden["day"] <= DAYS[title]]
        want = lj.stats.elo_bootstrap(board, k=k, n_boot=30).set_index("model")["median"]
        have = table[table["table"] == title].set_index("row")["value"]
        assert have.to_dict() == pytest.approx(want.to_dict())
    december = table[table["table"] == "Table, December 2023"]
    cells = december.set_index(["row", "column"])["value"]
    assert cells["llama-13b", "elo"] == pytest.approx(800)
    played = hidden["model_a"].eq("gpt-4-1106-preview") | hidden["model_b"].eq("gpt-4-1106-preview")
    assert cells["GPT-4-Turbo", "votes"] == played.sum()
    assert not (place / "reports/arena-elo.csv").exists()


@pytest.mark.parametrize("seed", range(5))
def test_ratings_and_fractions_hold_what_was_planted(seed: int) -> None:
    study = lj.simulate(seed, voters=(Voters("crowd", 211, 1, 0.325),))
    votes = study.votes[study.votes["turn"] == 1]
    cells = pd.concat(
        [
            recovered(
                lj.bradley_terry(votes, cluster="question_id"),
                planted(study, "bradley_terry", voters="crowd"),
                "ratings",
            ),
            recovered(
                lj.stats.win_fractions(votes),
                planted(study, "win_fractions", voters="crowd"),
                "wins",
            ),
            recovered(
                lj.stats.vote_shares(study.votes, by="turn"),
                planted(study, "vote_shares", voters="crowd", by="turn", turns=(1, 2)),
                "shares",
            ),
        ]
    )
    held = (cells["low"] <= cells["planted"]) & (cells["planted"] <= cells["high"])
    assert held.mean() > 0.85


def test_planted_ratings_are_the_best_fit_to_many_votes() -> None:
    study = lj.simulate(3, per_category=120, voters=(Voters("crowd", 211, 1, 0.325),))
    votes = study.votes[study.votes["turn"] == 1]
    true = planted(study, "bradley_terry", voters="crowd").set_index("model")["planted"]
    found = lj.bradley_terry(votes, cluster="question_id").set_index("model")
    assert ((found["rating"] - true).abs() < 20).all()
    assert found["rating"].corr(true) > 0.99


@pytest.mark.notebooks
def test_crowd_votes_are_rated_beside_the_printed_boards(place: Path) -> None:
    run(["arena-elo"], parameters={"n_boot": 30})
    (saved,) = (place / "reports/own").glob("arena-elo-*.csv")
    table = read_table(saved)
    alone = table[table["basis"] == "unreleased"]
    assert len(alone) == len(lj.published("arena-elo"))
    crowd = table[table["table"] == "Crowd votes"]
    assert set(crowd["basis"]) == {"rows"}
    assert crowd["row"].nunique() == 59
    ways = crowd.pivot(index="row", columns="column", values="value")
    assert (ways["Elo, first to last"] - ways["Elo, last to first"]).abs().max() > 10
    fitted = lj.bradley_terry(lj.load_votes("llmfao"), cluster="question_id")
    assert ways["Bradley-Terry"].to_dict() == pytest.approx(
        fitted.set_index("model")["rating"].to_dict()
    )


@pytest.mark.notebooks
def test_votes_of_your_own_arena_are_rated(place: Path) -> None:
    rows = [
        {"question_id": f"prompt-{number}", "turn": 1, "model_a": "new", "model_b": "old"}
        | {"judge": "ada", "group": "author", "time": float(number), "reason": None}
        | {"winner": "model_b" if number % 4 == 0 else "model_a"}
        for number in range(40)
    ]
    path = written(place / "votes.jsonl", rows)
    names = run_cells("arena-elo", votes=str(path), n_boot=30)
    table = read_table(names["saved"]).query("table == 'Crowd votes' and column == 'Bradley-Terry'")
    assert names["saved"].parent.name == "own"
    gap = table.set_index("row")["value"]["new"] - table.set_index("row")["value"]["old"]
    assert gap == pytest.approx(400 * np.log10(3))
