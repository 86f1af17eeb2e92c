"""Table 6's notebook: printed counts, the people's votes, judges on arena conversations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import released as made
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
    names = run_cells("arena-agreement", until="", source="published")
    table = read_table(names["saved"])
    assert len(table) == 20
    assert set(table["basis"]) == {"arithmetic"}
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    beside = lj.compare(table, "arena-agreement")
    assert (beside["ours_printed"] == beside["printed"]).all()
    assert beside["same"].isna().all()
    with pytest.raises(DataMissing, match="chatbot-arena"):
        run_cells("arena-agreement", judge="mine")


@pytest.mark.notebooks
def test_the_human_side_of_table_6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made.released(tmp_path, monkeypatch)
    rows = [row for row in votes_of(folder, made.ARENA) if row["turn"] == 1]
    names = run_cells("arena-agreement", source="published", sample=0)
    table = read_table(names["saved"]).set_index(["table", "row", "column"]).sort_index()
    fell = table.loc["The people's votes"].reset_index("column")
    assert set(fell["basis"]) == {"rows"}
    assert fell["n"].unique() == [len(rows)]
    won = sum("tie" not in row["winner"] for row in rows)
    both_bad = sum(row["winner"] == "tie (bothbad)" for row in rows)
    assert fell["value"]["a winner"] == pytest.approx(100 * won / len(rows))
    assert fell["value"]["a tie, both bad"] == pytest.approx(100 * both_bad / len(rows))
    drawn = run_cells("arena-agreement", source="published", sample=20, seed=1)["human"]
    assert len(drawn) == 20
    german = run_cells("arena-agreement", source="published", categories=["German"])
    assert len(german["human"]) == sum(row["language"] == "German" for row in rows)
    assert german["saved"].parent.name == "own"


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
        own = {"judge": "mine", "base_url": server.url, "judgments": str(path)}
        names = run_cells("arena-agreement", record=True, **own)
        assert len(server.calls) == 2 * len(rows)
    table = read_table(names["saved"]).set_index(["table", "row", "column"]).sort_index()
    assert set(table["basis"]) == {"own"}
    said = {
        model: {row["question_id"]: made.quality(row["question_id"], 1, model) for row in rows}
        for model in made.MODELS
    }
    mine = {}
    for key in keyed(rows):
        a, b = (said[model][key[0]] for model in key[2:])
        mine[key] = ["tie" if a == b else key[2] if a > b else key[3]]
    for ties, setting in ((True, "S1"), (False, "S2")):
        title = f"Own votes or judge, as in Table 6, {setting}"
        for x, votes in (
            ("mine/pair", mine),
            ("G4", keyed(theirs, "G4")),
            ("C", keyed(theirs, "C")),
        ):
            cell = table.loc[title, x, "H"]
            assert (cell["value"], cell["n"]) == pytest.approx(share(votes, keyed(rows), 1, ties))
