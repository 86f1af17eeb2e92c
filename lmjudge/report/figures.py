"""Figures of a table's cells: bars, radar, curves, heat maps, intervals, histograms, sunbursts.

Each takes cells in long form: row, column, value, and optionally low and high. `alt` is the
alternative text; if you leave it out, it is written from the cells. Each raises ReportError for a
table without cells, or with a cell twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.report.drawing import (
    COLOURS,
    DARK,
    HATCHES,
    INK,
    LINES,
    MARKS,
    Figure,
    axes_of,
    described,
    finish,
    label,
    legend,
    lines_of,
    matrices,
    whisker,
)

_NARROW = 0.06  # share of a stacked row; a number does not fit into less
_VERBS, _OBJECTS = 20, 4  # inner slices of a sunburst and outer slices of each, as in the paper


def bars(
    table: pd.DataFrame, *, alt: str = "", unit: str = "", stacked: bool = False, digits: int = 1
) -> Figure:
    """Draw horizontal bars: a group for each row of the table's cells, a bar for each column.

    Intervals (low and high) become whiskers. `stacked` puts a row's bars end to end, without
    whiskers. `unit` labels the axis, and `digits` is the number of decimals.
    """
    wide, low, high = matrices(table)
    rows, columns = len(wide.index), len(wide.columns)
    labels, lines = lines_of(wide.index)
    each = 0.42 if stacked else 0.16 + 0.24 * columns
    tall = 0.9 + rows * max(each, 0.17 * lines + 0.1)
    drawn = BytesIO()
    with axes_of(tall, drawn) as axes:
        for number, column in enumerate(wide.columns):
            thick = 0.66 if stacked else 0.8 / columns
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
                linewidth=0.5,
            )
            total = wide.sum(axis=1).max()
            for place, start, value, below, above in zip(
                places, starts, values, low[column], high[column], strict=True
            ):
                if math.isnan(value) or (stacked and abs(value) < _NARROW * total):
                    continue
                known = not stacked and not math.isnan(below) and not math.isnan(above)
                if known:
                    whisker(axes, [below], [above], [place])
                axes.annotate(
                    f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}",
                    (start + value / 2, place)
                    if stacked
                    else (max(above, value) if known else value, place),
                    xytext=(0, 0) if stacked else (4, 0),
                    textcoords="offset points",
                    ha="center" if stacked else "left",
                    va="center",
                    fontsize=8.5,
                    color=DARK if stacked else INK,
                    bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none"}
                    if stacked
                    else None,
                )
        axes.set_yticks(range(rows), labels, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.margins(x=0.02 if stacked else 0.1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if columns > 1:
            legend(axes)
    return finish(drawn, alt or described(table, "Bars", unit))


def radar(table: pd.DataFrame, *, alt: str = "", limit: float) -> Figure:
    """Draw a radar: an axis for each column of the table's cells, a line for each row.

    The first axis is at the top, and the others follow clockwise. The centre is 0 and the rim is
    `limit`. Raises ReportError for fewer than three columns.
    """
    wide, _, _ = matrices(table)
    if len(wide.columns) < 3:
        raise ReportError(
            f"a radar figure needs three columns or more; found {len(wide.columns)}: use bars",
            name="radar",
        )
    angles = [2 * math.pi * i / len(wide.columns) for i in range(len(wide.columns))]
    drawn = BytesIO()
    with axes_of(4.9, drawn, projection="polar") as canvas:
        axes: Any = canvas
        axes.set_theta_zero_location("N")
        axes.set_theta_direction(-1)
        for number, (row, values) in enumerate(wide.iterrows()):
            axes.plot(
                [*angles, angles[0]],
                [*values, values.iloc[0]],
                label=str(row),
                color=COLOURS[number % 6],
                linestyle=LINES[number % 6],
                linewidth=2,
            )
        axes.set_xticks(angles, [label(name) for name in wide.columns], parse_math=False)
        for angle, text in zip(angles, axes.get_xticklabels(), strict=True):
            side = math.sin(angle)
            text.set_horizontalalignment(
                "center" if abs(side) < 0.1 else "left" if side > 0 else "right"
            )
        axes.set_ylim(0, limit)
        axes.set_rlabel_position(180 / len(wide.columns))
        axes.tick_params(axis="y", labelsize=8)
        axes.patch.set_alpha(0)
        axes.grid(alpha=0.45, linewidth=0.7)
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
    """Draw a line for each column of the table's cells, over its rows.

    If all rows' names are numbers, they are positions on the axis; otherwise the rows have equal
    distances. Intervals (low and high) become bands. `along` labels the rows' axis, `unit` the
    other. `level` draws a horizontal line, for example at chance.
    """
    wide, low, high = matrices(table)
    places = pd.to_numeric(pd.Series(wide.index), errors="coerce")
    named = bool(places.isna().any())
    at = list(range(len(wide))) if named else places.tolist()
    drawn = BytesIO()
    with axes_of(3.4, drawn) as axes:
        if level is not None:
            axes.axhline(level, color=INK, linewidth=0.8, zorder=0)
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
            names = [label(row) for row in wide.index]
            axes.set_xticks(at, names, parse_math=False)
            if sum(map(len, names)) > 36:
                axes.tick_params(axis="x", labelrotation=30)
                for text in axes.get_xticklabels():
                    text.set(horizontalalignment="right", rotation_mode="anchor")
        axes.set_xlabel(along)
        axes.set_ylabel(unit)
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
    """Draw a heat map: the table's rows down, its columns across, darker for higher values.

    Each square shows its value if there are at most twenty columns. Cells without a value are
    white. If rows and columns have the same names, both use the same order.

    - `digits`: decimals of the values.
    - `limits`: the values of the lightest and the darkest shade (default: lowest and highest).
    - `unit`: labels the scale.
    """
    import numpy as np

    wide, _, _ = matrices(table)
    if set(wide.index) == set(wide.columns):
        wide = wide[wide.index]
    rows, columns = wide.shape
    least, most = limits or (float(np.nanmin(wide)), float(np.nanmax(wide)))
    labels, lines = lines_of(wide.index)
    small = 8 if columns <= 10 else 6 if columns <= 20 else 5
    drawn = BytesIO()
    with axes_of(1.6 + rows * max(min(0.42, 4.8 / columns), 0.13 * lines), drawn) as axes:
        picture = axes.imshow(wide, cmap="Blues", vmin=least, vmax=most, aspect="auto")
        axes.set_xticks(
            range(columns), [label(name) for name in wide.columns], rotation=90, parse_math=False
        )
        axes.set_yticks(range(rows), labels, parse_math=False)
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
                        color="white" if dark else DARK,
                    )
        scale = axes.figure.colorbar(picture, ax=axes, shrink=0.8, label=unit)
        scale.outline.set_visible(False)
    return finish(drawn, alt or described(table, "Heat map", unit))


def intervals(table: pd.DataFrame, *, alt: str = "", unit: str = "", digits: int = 0) -> Figure:
    """Draw marks with intervals: a line for each row of the table's cells, a mark for each column.

    The whiskers run from low to high. Each row's first value is printed at the right, with `digits`
    decimals. `unit` labels the axis.
    """
    wide, low, high = matrices(table)
    rows, columns = wide.shape
    labels, lines = lines_of(wide.index)
    drawn = BytesIO()
    with axes_of(1.0 + rows * max(0.24, 0.14 * columns, 0.17 * lines + 0.06), drawn) as axes:
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
        axes.set_yticks(range(rows), labels, parse_math=False)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlabel(unit)
        axes.grid(axis="y", alpha=0.3, linewidth=0.6)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        if columns > 1:
            legend(axes)
    return finish(drawn, alt or described(table, "Marks with intervals", unit))


def histogram(
    table: pd.DataFrame, *, edges: Iterable[float], alt: str = "", unit: str = "", along: str = ""
) -> Figure:
    """Draw a histogram: a bin for each row of the table's cells, an outline for each column.

    `edges` are the ends of the bins, one more than there are rows. `along` labels their axis,
    `unit` the axis of the values. Raises ReportError for another number of edges.
    """
    wide, _, _ = matrices(table)
    edges = list(edges)
    if len(edges) != len(wide) + 1:
        raise ReportError(
            f"{len(wide)} bins have {len(edges)} edges; pass {len(wide) + 1} edges",
            name="histogram",
        )
    drawn = BytesIO()
    with axes_of(3.0, drawn) as axes:
        for number, column in enumerate(wide.columns):
            look: dict[str, Any] = {"color": COLOURS[number % 6], "linestyle": LINES[number % 6]}
            values = wide[column].fillna(0).tolist()
            if number == 0:
                axes.stairs(values, edges, fill=True, alpha=0.18, color=look["color"])
            axes.stairs(values, edges, label=str(column), linewidth=1.6, **look)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(along)
        axes.set_ylabel(unit)
        if len(wide.columns) > 1:
            legend(axes)
    return finish(drawn, alt or described(table, "Histogram", unit))


def sunburst(table: pd.DataFrame, *, alt: str = "") -> Figure:
    """Draw two rings for cells whose rows are "inner/outer", such as "write/story".

    A slice's angle is its share of the values. The inner ring has the 20 largest groups. The outer
    ring has the four largest parts of each group and leaves the rest open. Raises ReportError for
    rows without a slash.

    Source: self-instruct's figure of verbs and their objects, also drawn in arXiv 2304.03277.
    """
    parts = table["row"].astype(str).str.partition("/")
    if not (parts[1] == "/").all():
        raise ReportError(
            'a sunburst takes cells whose rows are "inner/outer"; join two columns by'
            ' row=["verb", "object"]',
            name="sunburst",
        )
    values = pd.DataFrame(
        {"inner": parts[0], "outer": parts[2], "value": table["value"].astype(float)}
    )
    sums = values.groupby("inner")["value"].sum().sort_values(ascending=False, kind="stable")
    sums = sums.head(_VERBS)
    scale, start = 2 * math.pi / sums.sum(), 0.0
    drawn = BytesIO()
    with axes_of(4.8, drawn, projection="polar") as canvas:
        axes: Any = canvas
        axes.set_theta_zero_location("N")
        axes.set_theta_direction(-1)
        for number, (inner, total) in enumerate(sums.items()):
            colour = COLOURS[number % 5]
            _slice(axes, start, total * scale, (0.35, 0.67), colour, inner)
            group = values[values["inner"] == inner].nlargest(_OBJECTS, "value")
            at = start
            for outer, value in zip(group["outer"], group["value"], strict=True):
                _slice(axes, at, value * scale, (0.68, 1.0), colour, outer, alpha=0.85)
                at += value * scale
            start += total * scale
        axes.set_ylim(0, 1)
        axes.set_axis_off()
    return finish(drawn, alt or described(table.nlargest(12, "value"), "Sunburst"))


def _slice(
    axes: Any,
    start: float,
    angle: float,
    ring: tuple[float, float],
    colour: str,
    name: object,
    alpha: float = 1.0,
) -> None:
    """Draw one slice, with its name along the radius if it fits."""
    inner, outer = ring
    middle = start + angle / 2
    axes.bar(
        middle,
        outer - inner,
        angle,
        bottom=inner,
        color=colour,
        alpha=alpha,
        edgecolor="white",
        linewidth=0.8,
    )
    if angle * (inner + outer) / 2 > 0.03:
        turn = 90 - math.degrees(middle)
        axes.text(
            middle,
            (inner + outer) / 2,
            label(name),
            rotation=turn if math.sin(middle) >= 0 else turn + 180,
            rotation_mode="anchor",
            ha="center",
            va="center",
            fontsize=7,
            color="white",
            fontweight="bold",
            parse_math=False,
        )
