"""A notebook's cells run in this process, under given parameters: seconds sooner than a kernel."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[2] / "nbs"


def run_cells(stem: str, *, until: str = "saved", **parameters: Any) -> dict[str, Any]:
    """The names that a notebook's code cells leave behind; what it displays is in `displayed`.

    Cells are run until one has left the name `until`, "" for all.
    """
    displayed: list[Any] = []
    names: dict[str, Any] = {"display": displayed.append, "displayed": displayed}
    first = True
    for cell in json.loads((NOTEBOOKS / f"{stem}.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, stem, "exec"), names)
        if isinstance(shown, ast.Expr):
            displayed.append(eval(compile(ast.Expression(shown.value), stem, "eval"), names))
        if until and until in names:
            break
        if first:
            assert set(parameters) <= set(names), parameters
            names |= parameters
            first = False
    return names
