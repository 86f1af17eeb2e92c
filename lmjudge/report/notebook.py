"""Read a notebook file: its cells, and its parameters with their defaults."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from lmjudge.errors import ReportError

_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook as JSON in nbformat 4; convert older ones and fill gaps.

    The gaps are a missing minor version, and metadata that is missing or not a mapping. Raises
    ReportError for a file that is not a notebook.
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
    """Convert a notebook of another version to nbformat 4. Raises ValueError if that fails."""
    import nbformat

    try:
        converted: dict[str, Any] = nbformat.convert(nbformat.from_dict(body), 4)
    except Exception as error:  # nbformat and jsonschema raise many undocumented errors
        raise ValueError(f"nbformat {body['nbformat']}: {error}") from error
    return converted


def notebook_parameters(path: Path) -> dict[str, str]:
    """Return {name: source of the default} from a notebook's parameters cell.

    Raises ReportError for a file that is not a notebook, and for a parameters cell that is not
    Python.
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
            f"the parameters cell of {path.name} is not Python ({type(error).__name__}: {error})."
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
    """Return the value of a Python literal, or the source itself if it is not a literal.

    >>> literal("['a', 1]"), literal("range(3)")
    (['a', 1], 'range(3)')
    """
    try:
        return ast.literal_eval(source)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return source
