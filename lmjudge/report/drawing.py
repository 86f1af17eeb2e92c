"""What every figure shares: one style, readable in grey, and a text that says what it shows."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.report.files import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, safe for colour-blind eyes, in an order whose greys also differ; the
# hatches, lines and marks tell neighbours apart in print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#999999")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
MARKS = ("o", "s", "^", "D", "v", "P")
_DPI = 144
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
    """Values, low and high ends as frames of the table's rows and columns, in its order."""
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
    """Axes of the house's style, drawn into `drawn` as a PNG at the end.

    No pyplot: nothing global is changed, and no window or backend is chosen.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    style: Any = {"font.size": 9, "font.family": "DejaVu Sans", "hatch.linewidth": 0.6}
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(6.8, tall), layout="constrained")
        yield canvas.add_subplot(**how)
        # No software version in the file: equal figures give equal bytes.
        canvas.savefig(drawn, format="png", dpi=_DPI, metadata={"Software": None})


def legend(axes: Axes) -> None:
    """The names of what is drawn, above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    made = axes.figure.legend(
        handles, labels, loc="outside upper center", ncols=min(len(labels), 3), frameon=False
    )
    for text in made.get_texts():
        text.set_parse_math(False)


def finish(drawn: BytesIO, alt: str) -> Figure:
    """The figure of what was drawn."""
    png = drawn.getvalue()
    # The pixel width stands in the PNG's header; the page shows it at half of it, crisp.
    return Figure(png, alt, round(int.from_bytes(png[16:20], "big") * 96 / _DPI))
