"""Figures in one style, readable in grey, each with a text that says what it shows."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmjudge.errors import ReportError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, safe for colour-blind eyes, in an order whose greys also differ; the
# hatches tell neighbours apart in print.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#999999")
_HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
_LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_DPI = 144


@dataclass(frozen=True)
class Figure:
    """A picture (PNG bytes) with its alternative text, shown by a notebook as an image."""

    png: bytes
    alt: str
    width: int

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": b64encode(self.png).decode(), "text/plain": f"Figure: {self.alt}"}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


def bars(
    table: pd.DataFrame, *, alt: str, unit: str = "", stacked: bool = False, digits: int = 1
) -> Figure:
    """A figure of horizontal bars: a group a row of the table's cells, a bar a column.

    `table` is in long form (row, column, value, and low and high where they are known, drawn as
    whiskers); `stacked` puts a row's bars end to end; `unit` stands at the axis.
    """
    wide, low, high = _wide(table)
    rows, columns = len(wide.index), len(wide.columns)
    tall = 1.0 + rows * (0.45 if stacked else 0.14 + 0.24 * columns)
    drawn = BytesIO()
    with _axes(tall, drawn) as axes:
        for number, column in enumerate(wide.columns):
            thick = 0.62 if stacked else 0.8 / columns
            places = [
                at + (0 if stacked else (number - (columns - 1) / 2) * thick) for at in range(rows)
            ]
            starts = wide.iloc[:, :number].sum(axis=1).tolist() if stacked else [0.0] * rows
            values = wide[column].tolist()
            axes.barh(
                places,
                values,
                thick,
                left=starts,
                label=str(column),
                color=_COLOURS[number % 6],
                hatch=_HATCHES[number % 6],
                edgecolor="white",
            )
            for place, start, value, below, above in zip(
                places, starts, values, low[column], high[column], strict=True
            ):
                if math.isnan(value) or (stacked and value == 0):
                    continue
                whisker = not stacked and not math.isnan(below) and not math.isnan(above)
                if whisker:
                    axes.plot([below, above], [place, place], color="black", linewidth=1)
                axes.annotate(
                    f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}",
                    (start + value / 2, place) if stacked else (above if whisker else value, place),
                    xytext=(0, 0) if stacked else (4, 0),
                    textcoords="offset points",
                    ha="center" if stacked else "left",
                    va="center",
                    fontsize=8,
                    bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"}
                    if stacked
                    else None,
                )
        axes.set_yticks(range(rows), [str(row) for row in wide.index], parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.margins(x=0.02 if stacked else 0.1)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if columns > 1:
            _legend(axes)
    return _figure(drawn, alt)


def radar(table: pd.DataFrame, *, alt: str, limit: float) -> Figure:
    """A figure with an axis for each column of the table's cells and a line for each row.

    `limit` is the value at the rim, 0 stands in the middle.
    """
    wide, _, _ = _wide(table)
    if len(wide.columns) < 3:
        raise ReportError(
            f"a radar figure needs three columns or more; found {len(wide.columns)}: use bars",
            name=alt,
        )
    angles = [2 * math.pi * i / len(wide.columns) for i in range(len(wide.columns))]
    drawn = BytesIO()
    with _axes(5.6, drawn, projection="polar") as axes:
        for number, (row, values) in enumerate(wide.iterrows()):
            axes.plot(
                [*angles, angles[0]],
                [*values, values.iloc[0]],
                label=str(row),
                color=_COLOURS[number % 6],
                linestyle=_LINES[number % 6],
                linewidth=2,
            )
        axes.set_xticks(angles, [str(name) for name in wide.columns], parse_math=False)
        axes.set_ylim(0, limit)
        axes.tick_params(axis="y", labelsize=7, labelcolor="#555555")
        axes.tick_params(axis="x", pad=10)
        _legend(axes)
    return _figure(drawn, alt)


def _wide(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
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


@contextmanager
def _axes(tall: float, drawn: BytesIO, **how: Any) -> Iterator[Axes]:
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


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.figure.legend(
        handles, labels, loc="outside upper center", ncols=min(len(labels), 3), frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _figure(drawn: BytesIO, alt: str) -> Figure:
    png = drawn.getvalue()
    # The pixel width stands in the PNG's header; the page shows it at half of it, crisp.
    return Figure(png, alt, round(int.from_bytes(png[16:20], "big") * 96 / _DPI))
