"""Report the size of the library by package: lines, characters and tokens of code.

Counts Python files under lmjudge/ without docstrings, comments and blank lines. The three figures
should fall together: fewer lines with as many tokens means denser code, not less.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def size(path: Path) -> tuple[int, int, int]:
    """Return the lines, characters and tokens of code in a Python file."""
    text = path.read_text(encoding="utf-8")
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    characters = tokens = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _LAYOUT or token.start[0] in docstrings:
            continue
        lines.update(range(token.start[0], token.end[0] + 1))
        characters += len(token.string)
        tokens += 1
    return len(lines), characters, tokens


def sizes(library: Path) -> pd.DataFrame:
    """Return one row a package, and the total: lines, characters, tokens, files."""
    rows = []
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).parts
        package = parts[0] if len(parts) > 1 else "(top)"
        rows.append((package, *size(path), 1))
    columns = ["package", "lines", "characters", "tokens", "files"]
    table = pd.DataFrame(rows, columns=columns).groupby("package").sum()
    table.loc["total"] = table.sum()
    return table


if __name__ == "__main__":
    print(sizes(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT) / "lmjudge").to_string())
