"""`lmjudge reproduce --full`: what the shipped rows show, then what the original files add."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import lmjudge
from lmjudge.report import read_table

SAVE = """
votes = lj.load_votes(votes)
counts = votes["winner"].value_counts().rename_axis("winner").reset_index(name="count")
cells = lj.cells(counts, "Votes", row="winner", values="count")
saved = lj.save_table(cells, "tiny", parameters=dict(votes=given))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one notebook, whose parameter names a source."""
    first = new_code_cell('votes: str = "llmfao"  # a source or a path', id="p")
    first.metadata["tags"] = ["parameters"]
    load = new_code_cell("import lmjudge as lj\n\ngiven = votes", id="a")
    cells = [new_markdown_cell("# Tiny", id="m"), first, load, new_code_cell(SAVE, id="b")]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (tmp_path / "nbs").mkdir()
    nbformat.write(new_notebook(cells=cells, metadata=spec), tmp_path / "nbs/tiny.ipynb")
    (tmp_path / "lmjudge").symlink_to(Path(lmjudge.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "judgments"))
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    return tmp_path


def reproduce(project: Path) -> str:
    words = [sys.executable, "-m", "lmjudge", "reproduce", "--full"]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True, check=True)
    return done.stdout


def counts(path: Path) -> dict[str, float]:
    return read_table(path).set_index("row")["value"].to_dict()


@pytest.mark.slow
def test_a_full_run_adds_what_the_originals_show(project: Path, published_data: Path) -> None:
    reproduce(project)
    shipped, full = project / "reports/tiny.csv", project / "reports/full/tiny.csv"
    assert counts(shipped) == counts(full) == {"tie": 3471, "model_a": 2911, "model_b": 2549}
    assert (project / "reports/full/tiny.run.json").exists()


@pytest.mark.slow
def test_without_original_files_the_shipped_rows_are_all(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    output = reproduce(project)
    assert "llmfao: failed: LMJUDGE_OFFLINE=1" in output
    first, second, *_, claim, index = output.splitlines()
    assert first.startswith("running 1 notebooks")
    assert first.endswith(f"pages go to {project / 'reports'}")
    assert second.startswith("then fetching the open sources into")
    assert "are recomputed here from released verdicts" in claim
    assert index == f"the report: {project / 'reports/index.html'}"
    assert counts(project / "reports/tiny.csv")["tie"] == 3471
    assert not (project / "reports/full").exists()


@pytest.mark.slow
def test_the_browser_opens_the_report_where_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A browser that writes down what it is to open.
    script = project / "browser"
    script.write_text('#!/bin/sh\necho "$1" > opened\n')
    script.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(script))
    words = [sys.executable, "-m", "lmjudge", "reproduce", "--open", "--jobs", "1"]
    subprocess.run(words, cwd=project, capture_output=True, text=True, check=True)
    opened = (project / "opened").read_text().strip()
    assert opened == (project / "reports/index.html").as_uri()
