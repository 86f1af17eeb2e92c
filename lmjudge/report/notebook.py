"""Read a notebook file: its cells, and its parameters with their defaults."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from lmjudge.errors import ReportError

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook as the JSON of nbformat 4, older ones converted, gaps in it filled.

    Filled are metadata of the notebook and of cells, where they are missing or no mapping, and the
    minor version. Raises ReportError for a file that is no notebook.
    """
    try:
        body: dict[str, Any] = json.loads(path.read_bytes())
        if body.get("nbformat", 4) != 4:
            body = _converted(body)
        body["nbformat"], minor = 4, body.get("nbformat_minor")
        body["nbformat_minor"] = minor if isinstance(minor, int) else 4
        for part in (body, *body["cells"]):
            if not isinstance(part.get("metadata"), dict):
                part["metadata"] = {}
        for cell in body["cells"]:
            cell["source"] = "".join(cell["source"])
            if not isinstance(cell["cell_type"], str):
                raise TypeError(f"a cell of type {cell['cell_type']!r}")
            if cell["cell_type"] == "code":
                cell.setdefault("outputs", [])
                cell.setdefault("execution_count", None)
            tags = cell["metadata"].get("tags", [])
            if not isinstance(tags, list):
                del cell["metadata"]["tags"]
        json.dumps(body, ensure_ascii=False).encode()  # a lone surrogate cannot be written again
    except _UNREADABLE as error:
        raise ReportError(
            f"{path.name} is not a notebook that lmjudge can read ({type(error).__name__}:"
            f" {error}). Save it again in JupyterLab.",
            name=path.stem,
        ) from error
    return body


def _converted(body: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook of another version as nbformat 4, or raise ValueError."""
    import nbformat

    try:
        converted: dict[str, Any] = nbformat.convert(nbformat.from_dict(body), 4)
    except Exception as error:  # nbformat and jsonschema have many, and say so nowhere
        raise ValueError(f"nbformat {body['nbformat']}: {error}") from error
    return converted


def notebook_parameters(path: Path) -> dict[str, str]:
    """Return the names in a notebook's parameters cell, each with the source of its default.

    Raises ReportError for a file that is no notebook, or whose parameters are not assignments.
    """
    tagged = [
        cell["source"]
        for cell in read_notebook(path)["cells"]
        if "parameters" in cell["metadata"].get("tags", ())
    ]
    try:
        lines = ast.parse(tagged[0]).body if tagged else []
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ReportError(
            f"the parameters cell of {path.name} is no Python ({type(error).__name__}: {error})."
            " Write one assignment a line.",
            name=path.stem,
        ) from error
    parameters = {}
    for line in lines:
        if isinstance(line, ast.AnnAssign) and line.value:
            parameters[ast.unparse(line.target)] = ast.unparse(line.value)
        elif isinstance(line, ast.Assign):
            source = ast.unparse(line.value)
            parameters |= {ast.unparse(target): source for target in line.targets}
    return parameters


def literal(source: str) -> Any:
    """Return the value of a Python literal, or the source itself where it is none.

    >>> literal("['a', 1]"), literal("range(3)")
    (['a', 1], 'range(3)')
    """
    try:
        return ast.literal_eval(source)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return source
