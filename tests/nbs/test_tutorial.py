"""The tutorial's notebooks on files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from cells import run_cells
from loopback import Loopback
from oracle import recovered

import lmjudge as lj
from lmjudge.report import read_table


@pytest.fixture
def own(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Questions and two models' answers as files, and places of their own for all else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LMJUDGE_OFFLINE")
    study = lj.simulate(0, per_category=1)
    two = study.answers[study.answers["model"].isin(["sim-alder", "sim-birch"])]
    lj.save(study.questions, tmp_path / "questions.jsonl")
    lj.save(two, tmp_path / "model_answer", "fastchat")
    return {"questions": "questions.jsonl", "answers": "model_answer"}


@pytest.mark.notebooks
def test_your_models_are_judged_and_voted_on(
    own: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(answer=lambda body: "The first.\n[[A]]") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        names = run_cells("01-judge-your-own", **own, judge="one", record=True)
        assert len(server.calls) == 12
    table = read_table(names["saved"])
    assert table.set_index("column").loc["biased_first", "value"] == 100
    assert set(table["basis"]) == {"own"}
    assert names["saved"].parent == tmp_path / "reports/own"
    judged = tmp_path / "judgments.csv"
    names["games"].drop(columns=["text", "key"]).to_csv(judged, index=False)

    left = run_cells("03-collect-votes", until="mine", **own)
    assert left["mine"].empty
    for choice in ("a", "tie", "b"):
        left["ballot"].cast(choice)
    names = run_cells("03-collect-votes", **own, judgments=str(judged))
    assert len(names["mine"]) == 3
    # A judge that always takes the first ties both orders.
    assert read_table(names["saved"])["value"].tolist() == [pytest.approx(100 / 3)]


@pytest.mark.notebooks
@pytest.mark.usefixtures("place")
def test_the_demo_judge_is_called_one_and_agrees_more_than_a_guess() -> None:
    saved = run_cells("03-collect-votes")["saved"]
    table = read_table(saved)
    assert table["basis"].tolist() == ["demo"]
    assert table["low"].item() > 33
    assert saved.parent.name == "reports"


@pytest.mark.notebooks
@pytest.mark.usefixtures("place")
def test_start_here_matches_the_blog_and_replays_its_demo(monkeypatch) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    names = run_cells("00-start-here")
    table = lj.compare(read_table(names["saved"]), "00-start-here")
    assert table["same"].tolist() == [True] * 8
    before, after = (plan for plan in names["displayed"] if hasattr(plan, "misses"))
    assert (before.hits, after.misses) == (0, 0)
    assert after.hits == before.requests > 0


def test_one_planted_value_meets_one_estimate() -> None:
    true = pd.DataFrame({"planted": [0.5]})
    found = pd.DataFrame({"agreement": 0.4, "n": 9, "low": 0.1, "high": 0.7, "no_verdict": 0}, [7])
    assert recovered(found, true)["value"].tolist() == [0.4]
    with pytest.raises(ValueError, match="meet 2 estimates"):
        recovered(pd.concat([found, found]), true)


@pytest.mark.notebooks
@pytest.mark.usefixtures("place")
def test_a_models_cell_leads_to_its_own_games() -> None:
    saved = run_cells("01-judge-your-own", baseline="sim-alder")["saved"]
    behind = json.loads(saved.with_suffix(".evidence.json").read_bytes())
    rows = {one["page"]: one["rows"] for one in behind["sets"]}
    for title, name, _, page in behind["cells"]:
        games = [behind["rows"][at] for at in rows[page]]
        assert len(games) == (120 if title == "Win rates" else 480)
        if title == "Win rates":
            assert all(name in (game["model_a"], game["model_b"]) for game in games)
            told = (saved.parent / f"evidence/{saved.stem}/{page}.html").read_text()
            assert f'<td class="name">{name} and sim-alder</td>' in told
