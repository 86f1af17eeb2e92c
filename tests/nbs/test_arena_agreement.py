"""Table 6's notebook: printed counts, the people's votes, judges on arena conversations."""

from __future__ import annotations

from pathlib import Path

import originals as made
import pandas as pd
import pytest
from cells import run_cells
from loopback import Loopback
from test_mtbench import keyed, share, verdict, votes_of

import lmjudge as lj
from lmjudge.errors import DataMissing
from lmjudge.report import read_table


@pytest.mark.notebooks
def test_the_printed_counts_are_arithmetic_without_any_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache/judgments"))
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    names = run_cells("arena-agreement", until="")
    whole = read_table(names["saved"])
    table = whole[whole["basis"] == "arithmetic"]
    assert len(table) == 20
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    # PRD's judges and people, as counted by hand: GPT-4 and Bard, with ties and without.
    prd = whole[whole["table"] == "PRD's judges and people"].set_index(["row", "column"])
    for judge, setting, percent, n in (
        ("gpt-4/prd", "S1", 51.5, 1760),
        ("gpt-4/prd", "S2", 76.8, 1036),
        ("bard/prd", "S1", 33.2, 1760),
        ("bard/prd", "S2", 75.9, 572),
    ):
        cell = prd.loc[(judge, setting)]
        assert (round(cell["value"], 1), cell["n"], cell["basis"]) == (percent, n, "rows")
    beside = lj.compare(table, "arena-agreement")
    assert (beside["ours_printed"] == beside["printed"]).all()
    assert beside["same"].isna().all()
    with pytest.raises(DataMissing, match="chatbot-arena"):
        run_cells("arena-agreement", judge="mine")


@pytest.mark.notebooks
def test_the_human_side_of_table_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made.released(tmp_path, monkeypatch)
    rows = [row for row in votes_of(folder, made.ARENA) if row["turn"] == 1]
    full = run_cells("arena-agreement", votes="chatbot-arena/original")
    assert full["saved"] == folder / "reports/full/arena-agreement.csv"
    table = read_table(full["saved"]).set_index(["table", "row", "column"]).sort_index()
    fell = table.loc["The people's votes"].reset_index("column")
    assert set(fell["basis"]) == {"rows"}
    assert fell["n"].unique() == [len(rows)]
    won = sum("tie" not in row["winner"] for row in rows)
    both_bad = sum(row["winner"] == "tie (bothbad)" for row in rows)
    assert fell["value"]["a winner"] == pytest.approx(100 * won / len(rows))
    assert fell["value"]["a tie, both bad"] == pytest.approx(100 * both_bad / len(rows))
    every = run_cells("arena-agreement", votes="chatbot-arena/original", sample=0)["human"]
    assert len(every) == len(rows)
    drawn = run_cells("arena-agreement", votes="chatbot-arena/original", sample=20, seed=1)
    assert len(drawn["human"]) == 20
    assert drawn["saved"].parent.name == "own"


@pytest.mark.notebooks
def test_judges_of_ones_own_on_the_arenas_conversations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.released(tmp_path, monkeypatch)
    rows = [row for row in votes_of(folder, made.ARENA) if row["turn"] == 1]
    theirs = [row | {"judge": name, "winner": "model_a"} for row in rows for name in ("G4", "C")]
    path = folder / "judges.parquet"
    pd.DataFrame(theirs).to_parquet(path)
    with Loopback(answer=verdict) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        own = {"judge": "mine", "judgments": str(path), "votes": str(folder / made.ARENA)}
        names = run_cells("arena-agreement", record=True, **own)
        assert len(server.calls) == 2 * len(rows)
    table = read_table(names["saved"]).set_index(["table", "row", "column"]).sort_index()
    assert set(table["basis"]) == {"own", "arithmetic"}
    said = {
        model: {row["question_id"]: made.quality(row["question_id"], 1, model) for row in rows}
        for model in made.MODELS
    }
    mine = {}
    for key in keyed(rows):
        a, b = (said[model][key[0]] for model in key[2:])
        mine[key] = ["tie" if a == b else key[2] if a > b else key[3]]
    for ties, setting in ((True, "S1"), (False, "S2")):
        title = f"Your judges, {setting}"
        for x, votes in (
            ("mine/pair", mine),
            ("G4", keyed(theirs, "G4")),
            ("C", keyed(theirs, "C")),
        ):
            cell = table.loc[title, x, "H"]
            assert (cell["value"], cell["n"]) == pytest.approx(share(votes, keyed(rows), 1, ties))
