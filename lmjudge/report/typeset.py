"""A saved table as LaTeX and as Markdown: what goes into a paper, and into a README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lmjudge.report.files import number, plain, write

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    # After the end of a row these two would be read as its arguments.
    "[": "{[}",
    "*": "{*}",
} | {char: f"\\{char}" for char in "&%$#_{}"}
_TO_LATEX = str.maketrans(_LATEX)


def typeset(table: pd.DataFrame, form: Literal["latex", "markdown"]) -> str:
    r"""The tables in a frame of `read_table`, one after the other, as LaTeX (booktabs) or Markdown.

    Each has its rows and columns in their order, or the other way about where it has more than
    eight columns, and more columns than rows; a cell holds the value to four digits and its
    interval, with an asterisk where it is one of too few. The title tells the basis ("simulated"
    among them) and how many rows of data the cells rest on. Cells without a value are left out.
    Texts are escaped.

    >>> cell = {"table": "Own 50%", "row": "a_b", "column": "wins", "value": 0.5, "n": 9}
    >>> frame = pd.DataFrame([cell | {"low": 0.25, "high": 0.75, "basis": "own"}])
    >>> print(typeset(frame, "markdown"))
    **Own 50% (own; n 9)**
    <BLANKLINE>
    |  | wins |
    | --- | --- |
    | a_b | 0.5 (0.25 to 0.75) |
    <BLANKLINE>
    >>> print(typeset(frame, "latex").splitlines()[-4])
    a\_b & 0.5 (0.25 to 0.75) \\
    """
    write = _latex if form == "latex" else _markdown
    held = table[table["value"].notna()]
    parts = [write(name, part) for name, part in held.groupby("table", sort=False)]
    return "\n".join(parts)


def write_typeset(path: Path, table: pd.DataFrame) -> None:
    """Writes both forms beside a table's CSV."""
    write(path.with_suffix(".tex"), typeset(table, "latex").encode())
    write(path.with_suffix(".md"), typeset(table, "markdown").encode())


def in_markdown(text: object) -> str:
    """The text on one line, with nothing in it that Markdown would obey."""
    # Within a word an underline is none.
    return re.sub(r"[\\|<>*`\[\]~]|(?<![^\W_])_+|_+(?![^\W_])", _escaped, plain(text))


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"\\{char}" for char in found[0])


def _latex(name: Any, cells: pd.DataFrame) -> str:
    head, *rows = [[_in_latex(item) for item in row] for row in _grid(cells)]
    return "\n".join(
        [
            r"\begin{table}  % \usepackage{booktabs}",
            rf"\caption{{{_in_latex(_title(name, cells))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(head)} \\",
            r"\midrule",
            *(rf"{' & '.join(row)} \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _markdown(name: Any, cells: pd.DataFrame) -> str:
    head, *rows = [[in_markdown(item) for item in row] for row in _grid(cells)]
    lines = [head, ["---"] * len(head), *rows]
    told = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"**{in_markdown(_title(name, cells))}**\n\n{told}"


def _grid(cells: pd.DataFrame) -> list[list[str]]:
    if cells["column"].nunique() > max(cells["row"].nunique(), 8):  # no page is so wide
        cells = cells.rename(columns={"row": "column", "column": "row"})
    columns = list(cells["column"].unique())
    shown = {(cell["row"], cell["column"]): _shown(cell) for cell in cells.to_dict("records")}
    rows = [[row, *(shown.get((row, one), "") for one in columns)] for row in cells["row"].unique()]
    return [["", *columns], *rows]


def _shown(cell: dict[str, Any]) -> str:
    ends = [number(cell[end]) for end in ("low", "high")]
    few = "*" if cell.get("too_few") is True else ""
    return number(cell["value"]) + (f" ({' to '.join(ends)}){few}" if all(ends) else "")


def _title(name: Any, cells: pd.DataFrame) -> str:
    counts = cells["n"].dropna().astype(int)
    told = [", ".join(cells["basis"].unique())]
    if len(counts):
        told.append(f"n {' to '.join(map(str, dict.fromkeys([counts.min(), counts.max()])))}")
    if "too_few" in cells and cells["too_few"].any():
        told.append("* too few to be sure of")
    return f"{name} ({'; '.join(told)})"


def _in_latex(text: object) -> str:
    return plain(text).translate(_TO_LATEX)
