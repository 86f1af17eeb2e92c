"""What all figures share: a style for light, dark and grey, and an alternative text."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.report.files import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The ground is transparent, and each colour has a contrast of 3 or more to a white page and to a
# dark one. Hues after Okabe and Ito, safe for colour-blind eyes; hatches, lines and marks tell
# neighbours apart in print.
COLOURS = ("#1f7fc4", "#c98200", "#0a9a70", "#d4611a", "#8b6fd6", "#8c8c8c")
INK = "#7a7f87"  # text, axes and lines: more than 4 to 1 on both
DARK = "#1a1c1f"  # text on a light box
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKS = ("o", "s", "^", "D", "v", "P")
_INKED = "text.color axes.labelcolor axes.edgecolor xtick.color ytick.color grid.color".split()
_STYLE: Any = dict.fromkeys(_INKED, INK) | {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
}
_DPI = 180
_WIDE = 4.8  # inches; shown larger, so that a phone still shows text of 10 pixels
_ENLARGED = 1.25
_LABEL = 24  # letters in a line of a row's label
_LETTERS = 64  # in a line of a legend
_TOLD = 12  # values in a default text


@dataclass(frozen=True)
class Figure:
    """A picture (PNG bytes) with its alternative text, shown by a notebook as an image."""

    png: bytes
    alt: str
    width: int

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": b64encode(self.png).decode(), "text/plain": f"Figure: {self.alt}"}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


def matrices(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return values, low and high ends as frames of the table's rows and columns, in its order."""
    if table.empty or table.duplicated(["row", "column"]).any():
        raise ReportError(
            "a figure takes the cells of one table, each row and column once; found"
            f" {len(table)} cells, {int(table.duplicated(['row', 'column']).sum())} of them twice",
            name="figure",
        )
    rows, columns = table["row"].unique(), table["column"].unique()
    full = table.reindex(columns=["row", "column", "value", "low", "high"])
    value, low, high = (
        full.pivot(index="row", columns="column", values=name)
        .reindex(index=rows, columns=columns)
        .astype(float)
        for name in ("value", "low", "high")
    )
    return value, low, high


def described(table: pd.DataFrame, kind: str, unit: str = "") -> str:
    """Return the alternative text of a figure: what it is, of what, and its first numbers.

    >>> cells = pd.DataFrame({"row": ["a", "b"], "column": "won", "value": [0.75, 0.5]})
    >>> described(cells, "Bars", "share")
    'Bars (share): a, won 0.75; b, won 0.5'
    """
    drawn = table[table["value"].notna()]
    cells = drawn.head(_TOLD)[["row", "column", "value"]].itertuples(index=False)
    parts = [f"{row}, {column} {number(value)}" for row, column, value in cells]
    if len(drawn) > _TOLD:
        parts.append(f"and {len(drawn) - _TOLD} more values")
    return f"{kind}{f' ({unit})' if unit else ''}: {'; '.join(parts)}"


@contextmanager
def axes_of(tall: float, drawn: BytesIO, **how: Any) -> Iterator[Axes]:
    """Yield axes of the house's style, drawn into `drawn` as a PNG at the end.

    No pyplot, and so no plots of pandas: nothing global is changed, and no backend is chosen.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(_WIDE, tall), layout="constrained")
        yield canvas.add_subplot(**how)
        # No software version in the file: equal figures give equal bytes.
        canvas.savefig(drawn, format="png", dpi=_DPI, transparent=True, metadata={"Software": None})


def legend(axes: Axes) -> None:
    """Put the names of what is drawn above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    names = [label(text) for text in labels]
    columns = max(1, min(3, _LETTERS // (max(map(len, names)) + 6)))
    shown = axes.figure.legend(handles, names, loc="outside upper center", ncols=columns)
    for text in shown.get_texts():
        text.set_parse_math(False)


def label(name: object) -> str:
    """Return the name of a row or column as a figure shows it; a model's name stays as it is.

    >>> label("vicuna_wins"), label("vicuna_13b")
    ('vicuna wins', 'vicuna_13b')
    """
    text = str(name)
    return text.replace("_", " ") if re.fullmatch(r"[a-z_]+", text) else text


def lines_of(names: Iterable[object]) -> tuple[list[str], int]:
    """Return the labels of rows, long ones on several lines, and the most lines that one has."""
    labels = [wrap(label(name), _LABEL) or [""] for name in names]
    return ["\n".join(lines) for lines in labels], max(map(len, labels))


def whisker(axes: Axes, starts: list[float], ends: list[float], at: list[float]) -> None:
    """Draw horizontal intervals that read on a bar and beside it, on light and dark pages."""
    axes.hlines(at, starts, ends, color="white", linewidth=3, alpha=0.85, zorder=3)
    axes.hlines(at, starts, ends, color=DARK, linewidth=1.1, zorder=4)


def finish(drawn: BytesIO, alt: str) -> Figure:
    """Return the figure of what was drawn."""
    png = drawn.getvalue()
    # The pixel width stands in the PNG's header.
    inches = int.from_bytes(png[16:20], "big") / _DPI
    return Figure(png, alt, round(inches * 96 * _ENLARGED))
