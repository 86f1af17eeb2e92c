"""What the pages in docs/ show is so: code names what is there."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest

import lmjudge as lj
from lmjudge import audit, report

DOCS = Path(__file__).parents[1] / "docs"
HOW_TO = "\n".join(
    page.read_text(encoding="utf-8") for page in sorted((DOCS / "how-to").glob("*.md"))
)
BLOCKS = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_code_of_the_how_to_pages_names_what_is_there(block: str) -> None:
    import inspect

    rooms = {"lj": lj, "audit": audit}
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "lmjudge.report":
            assert {alias.name for alias in node.names} <= set(report.__all__)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            room = rooms.get(getattr(node.func.value, "id", ""))
            if room is not None:
                given = {word.arg: None for word in node.keywords}
                inspect.signature(getattr(room, node.func.attr)).bind(*node.args, **given)


PAGES = [
    *(page for page in sorted(DOCS.glob("**/*.md")) if page.name != "migration.md"),  # of old names
    DOCS.parent / "README.md",
    *sorted((DOCS.parent / "benchmarks").glob("*.py")),
    *sorted((DOCS.parent / "benchmarks").glob("*.sh")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_public_name_that_a_page_or_a_benchmark_uses_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in set(re.findall(r"\blj\.([a-z_.]*\w+)", text)):
        attrgetter(path)(lj)
    for module in re.findall(r"python -m (lmjudge[.\w]*)", text):
        assert find_spec(module), module


SECURITY = [DOCS / "security.md", DOCS.parent / "SECURITY.md"]


@pytest.mark.parametrize("page", SECURITY, ids=lambda page: page.name)
def test_every_promise_names_a_test_that_is_there(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
    assert named
    for path, name in named:
        assert f"def {name}(" in (DOCS.parent / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_the_page_of_data_is_current() -> None:
    made = runpy.run_path(str(DOCS / "make_data.py"))["page"]()
    again = "run python docs/make_data.py and commit docs/data.md"
    assert (DOCS / "data.md").read_text(encoding="utf-8") == made, again


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_documents_every_public_name(
    tmp_path: Path,
) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", str(DOCS), str(site)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {page.stem: page.read_text(encoding="utf-8") for page in site.glob("api/*.html")}
    for name in lj.__all__:
        item = getattr(lj, name)
        if not isinstance(item, ModuleType):
            assert f"lmjudge.{name}" in pages[item.__module__.split(".")[1]], name
    for topic in (lj.audit, lj.data, lj.stats, lj.train):
        page = pages[topic.__name__.removeprefix("lmjudge.")]
        for name in topic.__all__:
            assert not callable(getattr(topic, name)) or f"{name}" in page, name
    assert "lmjudge store merge" in (site / "cli.html").read_text(encoding="utf-8")
    assert (site / "notebooks/vicuna-scores.html").exists()
    assert (site / "llms.txt").exists()


def test_every_function_of_the_decision_page_is_there() -> None:
    text = (DOCS / "which-estimate.md").read_text(encoding="utf-8")
    tables = "\n".join(line for line in text.split("\n") if line.startswith("|"))
    named = set(re.findall(r"`([a-z_.]+)`", tables))
    assert len(named) > 40
    for name in named:
        found: object = lj
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), name
