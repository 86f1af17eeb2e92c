"""The tutorial's notebooks on files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from cells import run_cells
from loopback import Loopback

import lmjudge as lj
from lmjudge.report import read_table
from lmjudge.simulate import recovered


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
def test_models_of_ones_own_are_judged_and_voted_on(own: dict[str, str], tmp_path: Path) -> None:
    with Loopback(answer=lambda body: "The first.\n[[A]]") as server:
        asked = {"judge": "one", "base_url": server.url, "record": True}
        names = run_cells("01-judge-your-own", **own, **asked)
        assert len(server.calls) == 12
    assert read_table(names["saved"]).set_index("column").loc["biased_first", "value"] == 1
    assert names["saved"] == tmp_path / "reports/own/01-judge-your-own.csv"
    lj.save(names["games"], tmp_path / "games.jsonl")

    left = run_cells("03-collect-votes", until="mine", **own)
    assert left["mine"].empty
    for choice in ("a", "tie", "b"):
        left["ballot"].cast(choice)
    names = run_cells("03-collect-votes", **own, judgments="games.jsonl")
    assert len(names["mine"]) == 3
    # A judge that always takes the first ties both orders.
    assert read_table(names["saved"])["value"].tolist() == [pytest.approx(1 / 3)]


def test_one_planted_value_meets_one_estimate() -> None:
    true = pd.DataFrame({"planted": [0.5]})
    found = pd.DataFrame({"agreement": 0.4, "n": 9, "low": 0.1, "high": 0.7, "no_verdict": 0}, [7])
    assert recovered(found, true)["value"].tolist() == [0.4]
    with pytest.raises(ValueError, match="meet 2 estimates"):
        recovered(pd.concat([found, found]), true)


@pytest.mark.notebooks
@pytest.mark.usefixtures("place")
def test_a_models_cell_leads_to_its_own_games() -> None:
    saved = run_cells("01-judge-your-own", source="simulated")["saved"]
    behind = json.loads(saved.with_suffix(".evidence.json").read_bytes())
    rows = {one["page"]: one["rows"] for one in behind["sets"]}
    for title, name, _, page in behind["cells"]:
        games = [behind["rows"][at] for at in rows[page]]
        assert len(games) == (120 if title == "Win rates" else 480)
        if title == "Win rates":
            assert all(name in (game["model_a"], game["model_b"]) for game in games)
            told = (saved.parent / f"evidence/01-judge-your-own/{page}.html").read_text()
            assert f'<td class="name">{name} and sim-alder</td>' in told
