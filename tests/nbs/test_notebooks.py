from __future__ import annotations

import ast
import asyncio
import json
import shutil
import warnings
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lmjudge.cli import main
from lmjudge.errors import ReportError
from lmjudge.report import check, differing, notebooks, read_table, run, write_index

ROOT = Path(__file__).parents[2]
STEMS = sorted(path.stem for path in (ROOT / "nbs").glob("*.ipynb"))

# The fixture of the module runs every notebook.
pytestmark = [pytest.mark.timeout(900), pytest.mark.notebooks]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without data and network in which `lmjudge reproduce` ran once."""
    home = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LMJUDGE_DATA", raising=False)
        patch.setenv("LMJUDGE_OFFLINE", "1")
        patch.setenv("LMJUDGE_CACHE", str(home / "cache/judgments"))
        patch.setenv("LMJUDGE_REPORTS", str(home / "reports"))
        patch.chdir(home)
        assert main(["reproduce"]) == 0
        check().to_csv(home / "checked.csv")
    return home


@pytest.fixture
def alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That project, as the environment of one test."""
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    monkeypatch.setenv("LMJUDGE_CACHE", str(project / "cache/judgments"))
    monkeypatch.setenv("LMJUDGE_REPORTS", str(project / "reports"))
    monkeypatch.chdir(project)
    return project


def run_all(paths: list[Path]) -> None:
    """What JupyterLab's Run All does with each of these: an ordinary kernel, two at a time."""
    from nbclient import NotebookClient

    async def one(path: Path, turn: asyncio.Semaphore) -> None:
        async with turn:
            made = nbformat.read(path, as_version=4)
            await NotebookClient(made, kernel_name="python3").async_execute()

    async def every() -> None:
        turn = asyncio.Semaphore(2)
        await asyncio.gather(*(one(path, turn) for path in paths))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(every())


def papermill(path: Path, out: Path) -> None:
    import papermill as pm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pm.execute_notebook(path, out, progress_bar=False)


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_thin_and_clean(path: Path) -> None:
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    assert made.metadata["kernelspec"]["name"] == "python3"
    first, parameters, *_ = made.cells
    last = [cell for cell in made.cells if cell.cell_type == "markdown"][-1]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert "differ" in last.source.partition("\n")[0]
    assert parameters.metadata["tags"] == ["parameters"]
    for line in ast.parse(parameters.source).body:
        assert isinstance(line, ast.AnnAssign)
        ast.literal_eval(line.value)
    assert all("  # " in line for line in parameters.source.splitlines())
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert len(code) <= 12
    for cell in code:
        assert not cell.outputs
        assert cell.execution_count is None
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}
    assert [cell.id for cell in made.cells] == [
        f"{path.stem}-{i:02d}" for i in range(len(made.cells))
    ]


def test_every_notebook_is_found() -> None:
    assert list(notebooks()) == STEMS


def test_all_run_without_data_and_network(project: Path) -> None:
    assert {path.stem for path in (project / "reports").glob("*.csv")} == {*STEMS, "sources"}
    for stem in STEMS:
        assert "own" not in set(read_table(project / f"reports/{stem}.csv")["basis"])
    assert not (project / "reports/failed").exists()
    assert not (project / "reports/own").exists()
    assert differing(pd.read_csv(project / "checked.csv")).empty
    assert "Of 1,0" in (project / "reports/index.html").read_text()


def test_papermill_and_run_all_give_the_same_bytes_and_cost_nothing(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "papermill"))
    papermill(ROOT / "nbs/vicuna-scores.ipynb", tmp_path / "out.ipynb")
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "all"))
    # A few of them; benchmarks/notebooks.py compares the bytes of all.
    run_all([ROOT / f"nbs/{stem}.ipynb" for stem in STEMS[1::6]])
    made = [path for path in tmp_path.rglob("*.csv") if path.name != "sources.csv"]
    assert sorted(path.stem for path in made) == sorted([*STEMS[1::6], "vicuna-scores"])
    for path in made:
        same = alone / "reports" / path.relative_to(tmp_path / path.relative_to(tmp_path).parts[0])
        assert path.read_bytes() == same.read_bytes(), path
        asked = json.loads(path.with_suffix(".run.json").read_bytes())["store"]
        assert asked is None or is_demo(path) or asked["calls"] == asked["misses"] == 0, path


def is_demo(path: Path) -> bool:
    """Whether a table rests on a demo judge alone, whose calls reach no server."""
    return set(read_table(path)["basis"]) == {"demo"}


def test_the_tables_in_git_are_rebuilt_byte_for_byte(
    published_data: Path, place: Path, tmp_path: Path
) -> None:
    tracked = sorted((ROOT / "reports").glob("*.csv"))
    stems = [path.stem for path in tracked if path.stem != "sources"]
    assert set(stems) <= set(STEMS)
    (tmp_path / "reports").mkdir()
    shutil.copy(ROOT / "reports/sources.csv", tmp_path / "reports")
    for path in tracked:
        shutil.copy(path, tmp_path / "reports")
    run(stems, jobs=2)
    for path in tracked:
        assert (tmp_path / "reports" / path.name).read_bytes() == path.read_bytes(), path.name
    for path in (tmp_path / "reports").glob("*.run.json"):
        asked = json.loads(path.read_bytes())["store"]
        table = path.with_name(path.name.replace(".run.json", ".csv"))
        assert asked is None or is_demo(table) or asked["calls"] == asked["misses"] == 0, path
    checked = check()
    assert len(checked) >= 16
    assert differing(checked).empty


def test_own_files_are_shown_as_ones_own(published_data: Path, place: Path, tmp_path: Path) -> None:
    votes = tmp_path / "votes.jsonl"
    lines = (published_data / "mt_bench_human_judgments/human_judgments_turn1.jsonl").read_text()
    votes.write_text("".join(lines.splitlines(keepends=True)[:900]))
    made = run(["mtbench-agreement"], parameters={"votes": str(votes)})
    # A file's models keep their whole names.
    names = {"model": "vicuna-13b:20230322-clean-lang", "baseline": "gpt-3.5-turbo:20230327"}
    reviews = {"reviews": str(published_data / "vicuna_blog")} | names
    made += run(["vicuna-scores"], parameters=reviews)
    for one in made:
        assert one.source == "own"
        assert one.table.parent == tmp_path / "reports/own"
        table = read_table(one.table)
        assert set(table.loc[table["value"].notna(), "basis"]) == {"own"}
        assert not (tmp_path / f"reports/{one.stem}.csv").exists()
    assert check().empty
    assert "Your own runs" in write_index().read_text()
    # A name that is not there: one error.
    with pytest.raises(ReportError, match="nobody"):
        run(["vicuna-scores"], parameters=reviews | {"baseline": "nobody"})
