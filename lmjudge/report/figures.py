"""Figures of a table's cells: bars, radar, curves, heat maps, intervals, histograms."""

from __future__ import annotations

import math
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.report.drawing import (
    COLOURS,
    HATCHES,
    LINES,
    MARKS,
    Figure,
    axes_of,
    described,
    finish,
    legend,
    matrices,
)


def bars(
    table: pd.DataFrame, *, alt: str = "", unit: str = "", stacked: bool = False, digits: int = 1
) -> Figure:
    """A figure of horizontal bars: a group a row of the table's cells, a bar a column.

    `table` is in long form (row, column, value, and low and high where they are known, drawn as
    whiskers); `stacked` puts a row's bars end to end; `unit` stands at the axis.
    """
    wide, low, high = matrices(table)
    rows, columns = len(wide.index), len(wide.columns)
    tall = 1.0 + rows * (0.45 if stacked else 0.14 + 0.24 * columns)
    drawn = BytesIO()
    with axes_of(tall, drawn) as axes:
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
                color=COLOURS[number % 6],
                hatch=HATCHES[number % 6],
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
            legend(axes)
    return finish(drawn, alt or described(table, "Bars", unit))


def radar(table: pd.DataFrame, *, alt: str = "", limit: float) -> Figure:
    """A figure with an axis for each column of the table's cells and a line for each row.

    `limit` is the value at the rim, 0 stands in the middle.
    """
    wide, _, _ = matrices(table)
    if len(wide.columns) < 3:
        raise ReportError(
            f"a radar figure needs three columns or more; found {len(wide.columns)}: use bars",
            name="radar",
        )
    angles = [2 * math.pi * i / len(wide.columns) for i in range(len(wide.columns))]
    drawn = BytesIO()
    with axes_of(5.6, drawn, projection="polar") as axes:
        for number, (row, values) in enumerate(wide.iterrows()):
            axes.plot(
                [*angles, angles[0]],
                [*values, values.iloc[0]],
                label=str(row),
                color=COLOURS[number % 6],
                linestyle=LINES[number % 6],
                linewidth=2,
            )
        axes.set_xticks(angles, [str(name) for name in wide.columns], parse_math=False)
        axes.set_ylim(0, limit)
        axes.tick_params(axis="y", labelsize=7, labelcolor="#555555")
        axes.tick_params(axis="x", pad=10)
        legend(axes)
    return finish(drawn, alt or described(table, "Radar"))


def curves(
    table: pd.DataFrame,
    *,
    alt: str = "",
    unit: str = "",
    along: str = "",
    level: float | None = None,
) -> Figure:
    """A figure of lines: one for each column of the table's cells, over its rows.

    Rows whose names are numbers lie where these are, others side by side; low and high, where they
    are known, are a band. `along` stands at the rows' axis, `unit` at the other; `level` is drawn
    across, for what chance alone would give.
    """
    wide, low, high = matrices(table)
    places = pd.to_numeric(pd.Series(wide.index), errors="coerce")
    named = bool(places.isna().any())
    at = list(range(len(wide))) if named else places.tolist()
    drawn = BytesIO()
    with axes_of(3.9, drawn) as axes:
        if level is not None:
            axes.axhline(level, color="#555555", linewidth=0.8, zorder=0)
        for number, column in enumerate(wide.columns):
            colour = COLOURS[number % 6]
            axes.plot(
                at,
                wide[column].tolist(),
                label=str(column),
                linestyle=LINES[number % 6],
                marker=MARKS[number % 6],
                markersize=4,
                linewidth=1.8,
                color=colour,
            )
            axes.fill_between(
                at, low[column].tolist(), high[column].tolist(), alpha=0.18, color=colour
            )
        if named:
            axes.set_xticks(at, [str(row) for row in wide.index], parse_math=False)
        axes.set_xlabel(along)
        axes.set_ylabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
        if len(wide.columns) > 1:
            legend(axes)
    return finish(drawn, alt or described(table, "Curves", unit))


def heatmap(
    table: pd.DataFrame,
    *,
    alt: str = "",
    unit: str = "",
    digits: int = 2,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A figure of squares: the table's rows down, its columns across, darker where more.

    Each square bears its value (up to twenty columns; beyond, shades alone), cells without a value
    are left white. Models against models stand in one order both ways. `limits` are the values of
    the lightest and the darkest shade, by default the least and the greatest; `unit` stands beside
    the scale.
    """
    import numpy as np

    wide, _, _ = matrices(table)
    if set(wide.index) == set(wide.columns):
        wide = wide[wide.index]
    rows, columns = wide.shape
    least, most = limits or (float(np.nanmin(wide)), float(np.nanmax(wide)))
    small = 8 if columns <= 10 else 6 if columns <= 20 else 5
    drawn = BytesIO()
    with axes_of(1.6 + rows * min(0.42, 4.8 / columns), drawn) as axes:
        picture = axes.imshow(wide, cmap="Blues", vmin=least, vmax=most, aspect="auto")
        axes.set_xticks(
            range(columns), [str(name) for name in wide.columns], rotation=90, parse_math=False
        )
        axes.set_yticks(range(rows), [str(name) for name in wide.index], parse_math=False)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=small)
        axes.spines[:].set_visible(False)
        if columns <= 20:
            for (row, column), value in np.ndenumerate(wide.to_numpy()):
                if not math.isnan(value):
                    dark = value > least + 0.6 * (most - least)
                    axes.text(
                        column,
                        row,
                        f"{value:.{digits}f}",
                        ha="center",
                        va="center",
                        fontsize=small,
                        color="white" if dark else "black",
                    )
        scale = axes.figure.colorbar(picture, ax=axes, shrink=0.8, label=unit)
        scale.outline.set_visible(False)
    return finish(drawn, alt or described(table, "Heat map", unit))


def intervals(table: pd.DataFrame, *, alt: str = "", unit: str = "", digits: int = 0) -> Figure:
    """A figure of marks with whiskers: a line for each row of the table's cells, a mark a column.

    The whiskers run from low to high where these are known; each row's first value stands at the
    right. `unit` stands at the axis.
    """
    wide, low, high = matrices(table)
    rows, columns = wide.shape
    drawn = BytesIO()
    with axes_of(1.0 + rows * max(0.24, 0.14 * columns), drawn) as axes:
        for number, column in enumerate(wide.columns):
            at = [row + (number - (columns - 1) / 2) * 0.6 / columns for row in range(rows)]
            colour = COLOURS[number % 6]
            axes.hlines(
                at, low[column].tolist(), high[column].tolist(), linewidth=1.4, color=colour
            )
            axes.plot(
                wide[column].tolist(),
                at,
                MARKS[number % 6],
                markersize=4.5,
                label=str(column),
                color=colour,
            )
        for row, value in enumerate(wide.iloc[:, 0]):
            if math.isfinite(value):
                axes.annotate(
                    f"{value:.{digits}f}",
                    (1.01, row),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=8,
                )
        axes.set_yticks(range(rows), [str(row) for row in wide.index], parse_math=False)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlabel(unit)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if columns > 1:
            legend(axes)
    return finish(drawn, alt or described(table, "Marks with intervals", unit))


def histogram(
    table: pd.DataFrame, *, edges: Iterable[float], alt: str = "", unit: str = "", along: str = ""
) -> Figure:
    """A figure of steps: a bin for each row of the table's cells, an outline for each column.

    `edges` are the bins' ends, one more than rows, in their order; `along` stands at their axis,
    `unit` at the values'. Raises ReportError where rows and edges do not fit.
    """
    wide, _, _ = matrices(table)
    edges = list(edges)
    if len(edges) != len(wide) + 1:
        raise ReportError(
            f"{len(wide)} bins have {len(edges)} edges; give {len(wide) + 1}, one more",
            name="histogram",
        )
    drawn = BytesIO()
    with axes_of(3.4, drawn) as axes:
        for number, column in enumerate(wide.columns):
            look: dict[str, Any] = {"color": COLOURS[number % 6], "linestyle": LINES[number % 6]}
            values = wide[column].fillna(0).tolist()
            if number == 0:
                axes.stairs(values, edges, fill=True, alpha=0.18, color=look["color"])
            axes.stairs(values, edges, label=str(column), linewidth=1.6, **look)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(along)
        axes.set_ylabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
        if len(wide.columns) > 1:
            legend(axes)
    return finish(drawn, alt or described(table, "Histogram", unit))
