"""The notebook judge-finetuned: what it shows by default, and a judge that is trained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cells import run_cells

from lmjudge.report import read_table

ROOT = Path(__file__).parents[2]


class NoTorch:
    """An importer for which torch is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(name)


@pytest.mark.notebooks
@pytest.mark.usefixtures("place")
def test_the_default_table_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra `train` writes the same bytes."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoTorch(), *sys.meta_path])
    saved = run_cells("judge-finetuned")["saved"]
    assert saved.read_bytes() == (ROOT / "reports/judge-finetuned.csv").read_bytes()


@pytest.mark.train
@pytest.mark.notebooks
@pytest.mark.usefixtures("place")
def test_a_judge_is_trained_when_you_ask_for_it() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    table = read_table(run_cells("judge-finetuned", epochs=1.0)["saved"])
    tuned = table[table["row"] == "fine-tuned"]
    assert set(tuned["basis"]) == {"demo"}
    assert set(tuned["table"]) == {
        "Agreement with held-out votes",
        "Both orders of the held-out pairs",
    }
