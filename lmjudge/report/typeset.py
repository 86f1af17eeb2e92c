"""Typeset tables: beside the paper's numbers, as LaTeX, and as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lmjudge.printed import STATUSES, TABLE_COLUMNS, as_printed, beside, published, stems
from lmjudge.report.drawing import label
from lmjudge.report.files import fill, number, plain, write
from lmjudge.report.tables import checked

PRINTED = "printed"
SIGNS = {
    "same": "= as printed",
    "differs": "≠ differs from the printed number",
    "arithmetic": "(=), (≠) or grey: computed from other printed numbers, not from rows",
    "missing": "– not computed from these rows",
    "unreleased": "no rows: never released",
}
# For JupyterLab. The pages have another style sheet.
_STYLE = """<style>
.lj-table td.same { color: var(--jp-success-color1, #176b3a); }
.lj-table td.differs { color: var(--jp-error-color1, #a3271b); font-weight: 600; }
.lj-table .printed, .lj-table .arithmetic, .lj-table .missing, .lj-table .legend { opacity: .7; }
.lj-table th, .lj-table td { white-space: nowrap; }
</style>"""
_ENDS = ("low", "high")
FEW = "* too few rows for a reliable interval"

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    # LaTeX would read these two after the end of a row as its arguments.
    "[": "{[}",
    "*": "{*}",
    "≠": r"$\neq$",
    "–": "--",
} | {char: f"\\{char}" for char in "&%$#_{}"}
_TO_LATEX = str.maketrans(_LATEX)


class SideBySide(pd.DataFrame):
    """A frame of texts that a notebook shows in full, as a paper's table with a legend.

    `kinds` holds each cell's class: same, differs, arithmetic, missing, unreleased, printed or "".
    Operations on it return an ordinary DataFrame.
    """

    _metadata = ("kinds", "caption")
    kinds: list[list[str]]
    caption: str

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return self.to_string()

    def _repr_html_(self) -> str:
        return _STYLE + self.html

    @property
    def html(self) -> str:
        """The whole table as HTML, however many rows and columns it has."""
        names = [index if isinstance(index, tuple) else (None, index) for index in self.index]
        texts = self.itertuples(index=False, name=None)
        rows = [
            (*name, list(zip(row, kinds, strict=True)))
            for name, row, kinds in zip(names, texts, self.kinds, strict=True)
        ]
        named = {"caption": self.caption, "columns": list(self.columns), "legend": self.legend}
        return fill("side_by_side.html.j2", rows=rows, **named)

    @property
    def legend(self) -> str:
        """The meaning of the signs in this table."""
        used = {kind for kinds in self.kinds for kind in kinds}
        signs = [text for kind, text in SIGNS.items() if kind in used]
        few = self.map(lambda text: "*" in str(text)).any(axis=None)
        return " · ".join([*signs, *([FEW] if few else [])])


def side_by_side(table: pd.DataFrame, stem: str) -> SideBySide:
    """Return cells in the rows and columns of the paper, ours above the printed number.

    `table` has the columns of `cells`; `stem` names the published tables. The published rows and
    columns come first, then those that the paper lacks. Several tables follow each other.

    A cell of ours shows the value in the printed digits, its interval, n if it varies, and a sign:

    | sign | meaning |
    |---|---|
    | = | as printed |
    | ≠ | differs from the printed number |
    | (=), (≠) | computed from other printed numbers, not from rows |
    | – | not computed from these rows |

    Published numbers that no source confirms are left out. Raises ReportError for a frame that is
    not a table.

    >>> cell = {"table": "Table 2", "row": "LLaMA-13B", "column": "baseline", "value": 513.0}
    >>> shown = side_by_side(pd.DataFrame([cell | {"n": 80}]), "vicuna-scores")
    >>> shown["baseline"].tolist()[:2], shown.index.tolist()[:2]
    (['513.0 =', '513.0'], ['LLaMA-13B', 'printed'])
    """
    ours = table.drop(columns="of", errors="ignore").reindex(columns=[*TABLE_COLUMNS])
    ours["basis"] = ours["basis"].where(ours["basis"].notna(), "rows")
    titles = list(ours["table"].unique())
    theirs = published(stem) if stem in stems() else published(stems()[0]).head(0)
    theirs = theirs[theirs["table"].isin(titles) & theirs["status"].isin(STATUSES[:3])]
    both = beside(ours, theirs, name=stem)
    rules = theirs.set_index(["table", "row", "column"])["rounding"].to_dict()
    columns = list(dict.fromkeys([*theirs["column"], *ours["column"]]))
    names: list[Any] = []
    texts: list[list[str]] = []
    kinds: list[list[str]] = []
    for title in titles:
        part = both[both["table"] == title]
        counted = max(part["n"].nunique(), part["n_printed"].nunique()) > 1
        by_place = {(cell["row"], cell["column"]): cell for cell in part.to_dict("records")}
        order = [frame.loc[frame["table"] == title, "row"] for frame in (theirs, ours)]
        for row in dict.fromkeys(pd.concat(order)):
            cells = [by_place.get((row, column), {}) for column in columns]
            shown = [
                _ours(cell, rules.get((title, row, cell.get("column"))), counted) for cell in cells
            ]
            names.append((title, row))
            texts.append([text for text, _ in shown])
            kinds.append([kind for _, kind in shown])
            if any(isinstance(cell.get("printed"), str) for cell in cells):
                names.append((title, PRINTED))
                texts.append([_theirs(cell, counted) for cell in cells])
                kinds.append(["printed"] * len(cells))
    single = len(titles) == 1
    frame = SideBySide(
        texts,
        index=[row for _, row in names] if single else pd.MultiIndex.from_tuples(names),
        columns=[label(column) for column in columns],
        dtype=object,
    )
    frame.kinds, frame.caption = kinds, _caption(theirs, both, titles[0] if single else "")
    return frame


def _ours(cell: dict[str, Any], rounding: str | None, counted: bool) -> tuple[str, str]:
    """Return the text and the kind of one of our cells."""
    known = isinstance(cell.get("printed"), str)
    if not cell or pd.isna(cell["value"]):
        if cell.get("basis") == "unreleased":
            return "no rows", "unreleased"
        return ("–", "missing") if known else ("", "")
    text, *ends = _to_the_same_place(cell["value"], cell["low"], cell["high"])
    if known:
        text = cell["ours_printed"]
        decimals = len(cell["printed"].partition(".")[2])
        if rounding is not None and all(ends):
            ends = [as_printed(cell[end], f"0.{'0' * decimals}", "half-even") for end in _ENDS]
            ends = [end if decimals else end.partition(".")[0] for end in ends]
    few = "*" if cell["too_few"] is True else ""
    text += f" ({' to '.join(ends)}){few}" if all(ends) else ""
    other_n = cell["same_n"] is False
    if not pd.isna(cell["n"]) and (counted or other_n):
        text += f", n {int(cell['n']):,}"
    if cell["basis"] == "arithmetic" and known:
        return f"{text} ({'=' if cell['ours_printed'] == cell['printed'] else '≠'})", "arithmetic"
    if pd.isna(cell["same"]):
        return text, cell["basis"]
    same = bool(cell["same"]) and not other_n
    return f"{text} {'=' if same else '≠'}", "same" if same else "differs"


def _to_the_same_place(value: float, low: float, high: float) -> list[str]:
    """Return a number and its interval, with decimals that fit the interval's width.

    >>> _to_the_same_place(36.875, 32.7263, 41.2171), _to_the_same_place(0.125, 0.0216, 0.7206)
    (['36.9', '32.7', '41.2'], ['0.12', '0.02', '0.72'])
    """
    if pd.isna(low) or pd.isna(high) or not high > low:
        return [number(item) for item in (value, low, high)]
    decimals = min(max(1 - math.floor(math.log10(high - low)), 0), 6)
    return [f"{item:,.{decimals}f}" for item in (value, low, high)]


def _theirs(cell: dict[str, Any], counted: bool) -> str:
    """Return the printed number of a cell, with its n if n varies."""
    if not isinstance(cell.get("printed"), str):
        return ""
    varies = counted or cell["same_n"] is False
    shows_n = not pd.isna(cell["n_printed"]) and varies
    return cell["printed"] + (f", n {int(cell['n_printed']):,}" if shows_n else "")


def _caption(theirs: pd.DataFrame, both: pd.DataFrame, title: str) -> str:
    """Return the title with work and version, and n if all cells have the same."""
    works = theirs[["work", "version"]].drop_duplicates()
    sources = [f"{work} ({version})" for work, version in works.itertuples(index=False)]
    counts = both["n"].dropna().unique()
    alike = [f"n {int(counts[0]):,}"] if len(counts) == 1 else []
    return ", ".join(part for part in [title, *sources, *alike] if part)


def typeset(
    table: pd.DataFrame, form: Literal["latex", "markdown"], stem: str | None = None
) -> str:
    r"""Return the tables in a frame of `read_table` or `cells` as LaTeX (booktabs) or Markdown.

    Each table looks as in `side_by_side`, beside the numbers published under `stem`. A table that
    no paper printed leaves out cells without a value, and is transposed if it has more than eight
    columns and more columns than rows. The title names every basis except released rows. Texts are
    escaped. Raises ReportError for a frame that holds no cells.

    >>> cell = {"table": "Own 50%", "row": "a_b", "column": "wins", "value": 0.5, "n": 9}
    >>> frame = pd.DataFrame([cell | {"low": 0.25, "high": 0.75, "basis": "own"}])
    >>> print(typeset(frame, "markdown"))
    **Own 50%, n 9 (own)**
    <BLANKLINE>
    |  | wins |
    | --- | --- |
    | a_b | 0.50 (0.25 to 0.75) |
    <BLANKLINE>
    >>> print(typeset(frame, "latex").splitlines()[-4])
    a\_b & 0.50 (0.25 to 0.75) \\
    """
    if "basis" not in table:
        table = checked(table.drop(columns="of", errors="ignore"), stem or "table", "own")
    write = _latex if form == "latex" else _markdown
    known = set() if stem is None or stem not in stems() else set(published(stem)["table"])
    parts = []
    for name, part in table.groupby("table", sort=False):
        valued = part[part["value"].notna()]
        if name not in known:
            part = valued
            # A page has room for about eight columns.
            if part["column"].nunique() > max(part["row"].nunique(), 8):
                part = part.rename(columns={"row": "column", "column": "row"})
        if len(part):
            paper = side_by_side(part, str(stem) if name in known else "")
            rows = zip(paper.index, paper.itertuples(index=False, name=None), strict=True)
            grid = [["", *paper.columns], *([row, *texts] for row, texts in rows)]
            parts.append(write(f"{paper.caption}{_about(valued)}", grid))
    return "\n".join(parts)


def write_typeset(path: Path, table: pd.DataFrame, stem: str | None = None) -> None:
    """Write both forms beside a table's CSV."""
    write(path.with_suffix(".tex"), typeset(table, "latex", stem).encode())
    write(path.with_suffix(".md"), typeset(table, "markdown", stem).encode())


def in_markdown(text: object) -> str:
    """Return the text on one line, with Markdown's marks escaped."""
    # An underscore within a word is not a mark.
    return re.sub(r"[\\|<>*`\[\]~]|(?<![^\W_])_+|_+(?![^\W_])", _escaped, plain(text))


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"\\{char}" for char in match[0])


def _latex(title: str, grid: list[list[str]]) -> str:
    head, *rows = [[_in_latex(item) for item in row] for row in grid]
    return "\n".join(
        [
            r"\begin{table}  % \usepackage{booktabs}",
            rf"\caption{{{_in_latex(title)}}}",
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


def _markdown(title: str, grid: list[list[str]]) -> str:
    head, *rows = [[in_markdown(item) for item in row] for row in grid]
    lines = [head, ["---"] * len(head), *rows]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"**{in_markdown(title)}**\n\n{body}"


def _about(cells: pd.DataFrame) -> str:
    """Return, in brackets, every basis except rows, and the meaning of an asterisk."""
    bases = [basis for basis in cells["basis"].unique() if basis != "rows"]
    if "too_few" in cells and cells["too_few"].any():
        bases.append(FEW)
    return f" ({'; '.join(bases)})" if bases else ""


def _in_latex(text: object) -> str:
    return plain(text).translate(_TO_LATEX)
