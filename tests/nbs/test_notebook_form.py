"""The form of every notebook and of its kept table: short, one source, the paper's table first."""

from __future__ import annotations

import ast
import json
from io import StringIO
from pathlib import Path
from tokenize import generate_tokens
from typing import Any

import pytest

from lmjudge.printed import stems
from lmjudge.report import read_table

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
# The tutorials and the audit serve many users' files, so they may have more parameters.
TUTORIALS = {"00-start-here", "01-judge-your-own", "02-reproduce-a-paper", "03-collect-votes"}
PAPERS = set(stems()) - TUTORIALS


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_bytes())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_and_has_one_source(path: Path) -> None:
    sources = ["".join(cell["source"]) for cell in code_cells(path)]
    lengths = [len(source.splitlines()) for source in sources]
    assert sum(lengths) <= 80
    assert max(lengths) <= 12
    for source in sources:
        assert ";" not in {token.string for token in generate_tokens(StringIO(source).readline)}
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef)
            if isinstance(node, ast.Compare):
                assert "source" not in ast.unparse(node.left)
    parameters = ast.parse(sources[0]).body
    assert all(isinstance(line, ast.AnnAssign) for line in parameters)
    if path.stem in PAPERS:
        assert len(parameters) <= 6
    text = path.read_text(encoding="utf-8")
    for gone in ("at_hand", "choose_source", "recovered", "planted", "contestants", "simulated"):
        assert gone not in text, gone


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_saves_by_its_parameters(path: Path) -> None:
    """All its parameters and no others go to save_table, in its last code cell."""
    first, *_, last = (ast.parse("".join(cell["source"])) for cell in code_cells(path))
    names = [line.target.id for line in first.body]  # type: ignore[attr-defined]
    (call,) = [
        node
        for node in ast.walk(last)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lj.save_table"
    ]
    given = {word.arg: word.value for word in call.keywords}
    assert isinstance(given["parameters"], ast.Call)
    passed = {word.arg: ast.unparse(word.value) for word in given["parameters"].keywords}
    assert passed == {name: name for name in names}


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path.stem in PAPERS], ids=lambda path: path.stem
)
def test_the_first_output_is_the_papers_table(path: Path) -> None:
    shown = []
    for cell in code_cells(path):
        last = ast.parse("".join(cell["source"])).body[-1]
        if isinstance(last, ast.Expr):
            shown.append(ast.unparse(last.value))
    assert shown[0].startswith("lj.side_by_side("), shown[0]


@pytest.mark.parametrize("folder", ["reports", "reports/full"])
def test_kept_values_lie_in_their_intervals(folder: str) -> None:
    """An interval of another quantity beside a value would go unseen."""
    for path in sorted((ROOT / folder).glob("*.csv")):
        if path.name != "sources.csv":
            known = read_table(path).dropna(subset=["value", "low", "high"])
            inside = known["value"].between(known["low"] - 1e-6, known["high"] + 1e-6)
            assert inside.all(), (path, known[~inside])
