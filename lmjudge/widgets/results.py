"""Tables of judgments, a figure and the judgments themselves as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import pandas as pd

from lmjudge.frames import COLUMNS
from lmjudge.report import Figure, cells, intervals
from lmjudge.report.files import in_html, number
from lmjudge.widgets.browser import Browser
from lmjudge.widgets.page import page

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
    body = [f'<p class="banner warn">{in_html(warning)}</p>' for warning in warnings]
    title_drawn, table_drawn = list(tables.items())[-1]
    if table_drawn["judge"].nunique() <= _JUDGES and table_drawn["model"].nunique() <= _MODELS:
        body.append(picture(_drawn(title_drawn, table_drawn)))
    body += [table_html(name, table) for name, table in tables.items()]
    body += [f'<p class="soft">{in_html(note)}</p>' for note in notes]
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
    return (
        f'<figure><img src="data:image/png;base64,{data["image/png"]}" width="{figure.width}"'
        f' alt="{in_html(figure.alt)}"></figure>'
    )


def _reasons(judged: pd.DataFrame) -> pd.DataFrame:
    """How many rows of each judge have no verdict, by reason."""
    verdict = "winner" if "winner" in judged.columns else "score"
    lost = judged[judged[verdict].isna()]
    counts = lost.assign(reason=lost["reason"].fillna("no_verdict")).groupby(["judge", "reason"])
    found = counts.size().reset_index(name="rows")
    return found.assign(of=found["judge"].map(judged["judge"].value_counts()))


def table_html(title: str, table: pd.DataFrame) -> str:
    """Return a frame as an HTML table; a star marks intervals that rest on too few."""
    few = table["too_few"] if "too_few" in table.columns else pd.Series(False, index=table.index)
    shown = table.drop(columns="too_few", errors="ignore")
    texts = [name for name in shown.columns if shown[name].map(_is_text).any()]
    heads = {"low": "95 % low", "high": "95 % high"}
    head = "".join(
        f'<th scope="col"{" class=name" if name in texts else ""}>'
        f"{in_html(heads.get(name, str(name).replace('_', ' ')))}</th>"
        for name in shown.columns
    )
    lines = [
        "".join(_cell(name, value, name in texts, flag) for name, value in row.items())
        for row, flag in zip(shown.to_dict("records"), few, strict=True)
    ]
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="wide" tabindex="0"><table><caption>{in_html(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, date))


def _cell(name: Any, value: Any, is_text: bool, flagged: bool) -> str:
    if is_text:
        return f'<td class="name">{in_html("" if value is None else value)}</td>'
    shown = f"{value:.3f}" if name in _DECIMALS and pd.notna(value) else number(value)
    star = "*" if flagged and name == "high" else ""
    return f"<td>{shown}{star}</td>"
