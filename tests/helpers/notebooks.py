"""Notebooks that tests make."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def notebook(path: Path, *sources: str) -> Path:
    """A notebook of one's own: a parameters cell, then these."""
    parameters = 'n: int = 3  # a number\nname: str = "x"\nnames: list = []\nflag: bool = False'
    first = new_code_cell(parameters, id="p")
    first.metadata["tags"] = ["parameters"]
    cells = [new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = new_notebook(cells=[new_markdown_cell("# Own", id="m"), first, *cells], metadata=spec)
    nbformat.write(made, path)
    return path
