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
_JUDGES, _MODELS = 6, 60  # the most that a readable figure can show
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

    - `tables`: {title: table}, each by judge and model, with `win_rate` or `score` and its
      interval. The figure shows the last one, if it has at most 6 judges and 60 models.
    - `judged`: the games, scores or votes behind the tables. The page counts the rows without a
      verdict by reason, and shows the first 1000 cases of games or scores.
    - `notes`: sentences below the tables.
    - `questions`, `answers`: frames with the texts of the cases.
    """
    body = [fill("texts.html.j2", kind="banner warn", texts=list(warnings))]
    last_title, last = list(tables.items())[-1]
    if last["judge"].nunique() <= _JUDGES and last["model"].nunique() <= _MODELS:
        body.append(picture(_drawn(last_title, last)))
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
    """Return a figure as HTML with an embedded PNG."""
    data, _ = figure._repr_mimebundle_()
    return fill("figure.html.j2", png=data["image/png"], width=figure.width, alt=figure.alt)


def _reasons(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the number of rows without a verdict, by judge and reason."""
    verdict = "winner" if "winner" in judged.columns else "score"
    without = judged[judged[verdict].isna()]
    reasons = without.assign(reason=without["reason"].fillna("no_verdict"))
    counts = reasons.groupby(["judge", "reason"])
    table = counts.size().reset_index(name="rows")
    return table.assign(of=table["judge"].map(judged["judge"].value_counts()))


def table_html(title: str, table: pd.DataFrame) -> str:
    """Return a frame as an HTML table, with a star at intervals whose `too_few` is True."""
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
