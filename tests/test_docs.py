"""What the pages in docs/ show is so: commands parse, code names what is there."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
from pathlib import Path

import pytest

import lmjudge as lj
from lmjudge import audit, formats, report
from lmjudge.cli import _parser

DOCS = Path(__file__).parents[1] / "docs"
HOW_TO = (DOCS / "how-to.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", HOW_TO, re.DOTALL)
    for line in block.splitlines()
]
BLOCKS = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_how_to_page_parse(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "lmjudge"
    assert callable(_parser().parse_args(words).call)


@pytest.mark.parametrize("block", BLOCKS)
def test_code_of_the_how_to_page_names_what_is_there(block: str) -> None:
    import inspect

    rooms = {"lj": lj, "audit": audit, "formats": formats}
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module == "lmjudge.report":
            assert {alias.name for alias in node.names} <= set(report.__all__)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            room = rooms.get(getattr(node.func.value, "id", ""))
            if room is not None:
                given = {word.arg: None for word in node.keywords}
                inspect.signature(getattr(room, node.func.attr)).bind(*node.args, **given)


@pytest.mark.parametrize("page", ["reference", "data"])
def test_made_pages_are_current(page: str) -> None:
    made = runpy.run_path(str(DOCS / f"make_{page}.py"))["page"]()
    again = f"run python docs/make_{page}.py and commit docs/{page}.md"
    assert (DOCS / f"{page}.md").read_text(encoding="utf-8") == made, again
