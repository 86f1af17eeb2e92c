"""What all figures share: a style for light, dark and grey pages, and an alternative text."""

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

# The background is transparent. Each colour has a contrast of 3 or more to white and to dark pages.
# The hues follow Okabe and Ito and are safe for colour-blind readers. Hatches, line styles and
# markers separate neighbours in print.
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
_DESCRIBED = 12  # values in a default alternative text


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
    """Return values, low ends and high ends, each as a frame with the table's rows and columns.

    Raises ReportError for a table without cells, or with a cell twice.
    """
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
    """Return the alternative text of a figure: its kind, its unit and its first values.

    >>> cells = pd.DataFrame({"row": ["a", "b"], "column": "won", "value": [0.75, 0.5]})
    >>> described(cells, "Bars", "share")
    'Bars (share): a, won 0.75; b, won 0.5'
    """
    drawn = table[table["value"].notna()]
    cells = drawn.head(_DESCRIBED)[["row", "column", "value"]].itertuples(index=False)
    parts = [f"{row}, {column} {number(value)}" for row, column, value in cells]
    if len(drawn) > _DESCRIBED:
        parts.append(f"and {len(drawn) - _DESCRIBED} more values")
    return f"{kind}{f' ({unit})' if unit else ''}: {'; '.join(parts)}"


@contextmanager
def axes_of(tall: float, drawn: BytesIO, **how: Any) -> Iterator[Axes]:
    """Yield axes in lmjudge's style, and write the picture into `drawn` as a PNG at the end.

    It does not use pyplot, so it changes no global state and chooses no backend.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(_WIDE, tall), layout="constrained")
        yield canvas.add_subplot(**how)
        # Without the software's version, equal figures have equal bytes.
        canvas.savefig(drawn, format="png", dpi=_DPI, transparent=True, metadata={"Software": None})


def legend(axes: Axes) -> None:
    """Put the legend above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    names = [label(text) for text in labels]
    columns = max(1, min(3, _LETTERS // (max(map(len, names)) + 6)))
    shown = axes.figure.legend(handles, names, loc="outside upper center", ncols=columns)
    for text in shown.get_texts():
        text.set_parse_math(False)


def label(name: object) -> str:
    """Return the name of a row or column for a figure; a model's name is unchanged.

    >>> label("vicuna_wins"), label("vicuna_13b")
    ('vicuna wins', 'vicuna_13b')
    """
    text = str(name)
    return text.replace("_", " ") if re.fullmatch(r"[a-z_]+", text) else text


def lines_of(names: Iterable[object]) -> tuple[list[str], int]:
    """Return the rows' labels, wrapped, and the largest number of lines in one."""
    labels = [wrap(label(name), _LABEL) or [""] for name in names]
    return ["\n".join(lines) for lines in labels], max(map(len, labels))


def whisker(axes: Axes, starts: list[float], ends: list[float], at: list[float]) -> None:
    """Draw horizontal intervals that are visible on and beside a bar, on light and dark pages."""
    axes.hlines(at, starts, ends, color="white", linewidth=3, alpha=0.85, zorder=3)
    axes.hlines(at, starts, ends, color=DARK, linewidth=1.1, zorder=4)


def finish(drawn: BytesIO, alt: str) -> Figure:
    """Return the drawn PNG as a Figure."""
    png = drawn.getvalue()
    # Bytes 16 to 20 of a PNG are its width in pixels.
    inches = int.from_bytes(png[16:20], "big") / _DPI
    return Figure(png, alt, round(inches * 96 * _ENLARGED))
