"""Which folders are lmjudge's: nothing of another program is adopted or written over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import lmjudge as lj
from lmjudge import places
from lmjudge.errors import ReportError
from lmjudge.records import Record, Reply, Request
from lmjudge.report import write_index

ROOT = Path(__file__).parents[1]
TABLE = pd.DataFrame({"table": ["T"], "row": ["a"], "column": ["x"], "value": [1.0]})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("where", ["", "below", "far/below"])
def test_folders_of_another_program_are_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    for name in ("reports/index.html", "reports/sales.csv", "cache/judgments/x", "cache/data/y"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("mine")
    before = files(home)
    (home / where).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(home / where)
    saved = lj.save_table(TABLE, "own")
    index = write_index()
    store = lj.Store(mode="record")
    store.add([Record(Request("m", [{"role": "user", "content": "q"}]), Reply("a"))])
    store.close()
    assert {name: body for name, body in files(home).items() if name in before} == before
    for path in (saved, index, places.judgments()):
        parts = path.relative_to(home / where).parts
        assert parts[0].startswith("lmjudge-") == (where == "")
    assert "sales" not in index.read_text()


def test_lmjudges_own_folders_are_found_from_below(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = lj.save_table(TABLE, "own")
    assert saved == home / "reports/own/own.csv"
    store = lj.Store(mode="record")
    store.add([Record(Request("m", [{"role": "user", "content": "q"}]), Reply("a"))])
    store.close()
    (home / "a/reports").mkdir(parents=True)
    (home / "a/reports/mine.txt").write_text("mine")
    (home / "a/b").mkdir()
    monkeypatch.chdir(home / "a/b")
    assert places.reports() == home / "reports"
    assert places.judgments() == home / "cache/judgments"
    assert places.downloads() == home / "cache/data"


def test_an_empty_folder_here_is_used_and_one_above_is_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "reports").mkdir()
    (home / "cache").mkdir()
    (home / "reports/.gitkeep").touch()
    (home / "below").mkdir()
    assert places.reports() == home / "reports"
    assert places.judgments() == home / "cache/judgments"
    monkeypatch.chdir(home / "below")
    assert places.reports() == home / "below/reports"
    assert places.judgments() == home / "below/cache/judgments"
    (home / "below/reports").write_text("a file")
    assert places.reports() == home / "below/lmjudge-reports"


def test_a_page_of_another_program_is_never_replaced(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "site").mkdir()
    (home / "site/index.html").write_text("mine")
    monkeypatch.setenv("LMJUDGE_REPORTS", str(home / "site"))
    with pytest.raises(ReportError, match=r"index\.html that lmjudge did not write"):
        write_index()
    with pytest.raises(ReportError, match="LMJUDGE_REPORTS"):
        lj.save_table(TABLE, "own")
    assert files(home) == {"site/index.html": b"mine"}
    (home / "site/index.html").unlink()
    write_index()
    assert write_index().read_text() != "mine"


def test_the_clones_folders_are_found_from_its_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "cache", "reports"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    if not tracked:
        pytest.skip("not a clone")
    assert {"cache/LMJUDGE.TAG", "reports/LMJUDGE.TAG"} <= set(tracked)
    monkeypatch.chdir(ROOT / "nbs")
    assert places.reports() == ROOT / "reports"
    assert places.judgments() == ROOT / "cache/judgments"


@pytest.mark.slow
def test_plain_papermill_and_the_shell_use_the_same_folder(home: Path) -> None:
    from notebooks import notebook

    saves = "import lmjudge as lj, pandas as pd\nlj.save_table(pd.DataFrame({'table': ['T'],"
    saves += " 'row': ['a'], 'column': ['x'], 'value': [n]}), 'own')"
    (home / "nbs").mkdir()
    notebook(home / "nbs/own.ipynb", saves)
    places.mark(home / "reports")
    ours = [sys.executable, "-m", "lmjudge", "run", "own.ipynb"]
    plain = [sys.executable, "-m", "papermill", "--kernel", "python3", "own.ipynb", "out.ipynb"]
    for command in (ours, plain):
        done = subprocess.run(command, cwd=home / "nbs", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (home / "reports/own/own.csv").exists()
        (home / "reports/own/own.csv").unlink()
    assert not (home / "nbs/reports").exists()
