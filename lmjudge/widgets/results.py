"""Tables of judgments, a figure and the judgments as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import pandas as pd

from lmjudge.frames import COLUMNS
from lmjudge.report import Figure, cells, intervals
from lmjudge.report.files import fill, number
from lmjudge.widgets.browser import Browser, page

_CASES = 1000
_JUDGES, _MODELS = 6, 60  # in a figure that can still be read
_DECIMALS = {"win_share", "loss_share", "win_rate", "score", "low", "high"}


def results_page(
    tables: Mapping[str, pd.DataFrame],
    judged: pd.DataFrame,
    *,
    title: str = "Judgments",
    notes: Iterable[str] = (),
    warnings: Iterable[str] = (),
    questions: pd.DataFrame | None = None,
    answers: pd.DataFrame | None = None,
) -> str:
    """Return a page that loads nothing: warnings, a figure, tables, then judgments to filter.

    `tables` are by title, by judge and model, with `win_rate` or `score` and its interval; the last
    one is drawn, up to 6 judges and 60 models. `notes` stand below them. `judged` are the games,
    scores or votes behind them; rows without a verdict are counted by reason. The first 1000 cases
    of games or scores follow, with the texts of `questions` and `answers` where they are given.
    Votes have no judgments.
    """
    body = [fill("texts.html.j2", kind="banner warn", texts=list(warnings))]
    title_drawn, table_drawn = list(tables.items())[-1]
    if table_drawn["judge"].nunique() <= _JUDGES and table_drawn["model"].nunique() <= _MODELS:
        body.append(picture(_drawn(title_drawn, table_drawn)))
    body += [table_html(name, table) for name, table in tables.items()]
    body.append(fill("texts.html.j2", kind="soft", texts=list(notes)))
    reasons = _reasons(judged)
    if len(reasons):
        body.append(table_html("Rows without a verdict", reasons))
    kind = "games" if "model_a" in judged.columns else "scores"
    if not set(COLUMNS[kind]) <= set(judged.columns):
        body.append('<p class="soft">The file holds votes, without the judges\' texts.</p>')
        return page([], 0, 0, title=title, before=body)
    browser = Browser(judged, questions, answers)
    return page(
        browser.page_cases(_CASES), len(judged), len(browser.order), title=title, before=body
    )


def _drawn(title: str, table: pd.DataFrame) -> Figure:
    wins = "win_rate" in table.columns
    name, unit = ("win_rate", "win rate (a tie is half a win)") if wins else ("score", "mean score")
    shown = cells(table, title, row="model", column="judge", values=name)
    return intervals(shown, unit=unit, digits=2)


def picture(figure: Figure) -> str:
    """Return a figure as HTML, its picture in the page."""
    data, _ = figure._repr_mimebundle_()
    return fill("figure.html.j2", png=data["image/png"], width=figure.width, alt=figure.alt)


def _reasons(judged: pd.DataFrame) -> pd.DataFrame:
    """Return how many rows of each judge have no verdict, by reason."""
    verdict = "winner" if "winner" in judged.columns else "score"
    lost = judged[judged[verdict].isna()]
    counts = lost.assign(reason=lost["reason"].fillna("no_verdict")).groupby(["judge", "reason"])
    table = counts.size().reset_index(name="rows")
    return table.assign(of=table["judge"].map(judged["judge"].value_counts()))


def table_html(title: str, table: pd.DataFrame) -> str:
    """Return a frame as an HTML table; a star marks intervals that rest on too few."""
    few = table["too_few"] if "too_few" in table.columns else pd.Series(False, index=table.index)
    shown = table.drop(columns="too_few", errors="ignore")
    heads = {"low": "95 % low", "high": "95 % high"}
    columns = {
        name: (heads.get(name, str(name).replace("_", " ")), bool(shown[name].map(_is_text).any()))
        for name in shown.columns
    }
    rows = [
        [_text(name, value, columns[name][1], flag) for name, value in row.items()]
        for row, flag in zip(shown.to_dict("records"), few, strict=True)
    ]
    return fill("frame.html.j2", caption=title, columns=list(columns.values()), rows=rows)


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, date))


def _text(name: Any, value: Any, is_text: bool, flagged: bool) -> str:
    if is_text:
        return "" if value is None else str(value)
    shown = f"{value:.3f}" if name in _DECIMALS and pd.notna(value) else number(value)
    return shown + ("*" if flagged and name == "high" else "")
