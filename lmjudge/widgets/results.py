"""Tables of judgments, a figure and the judgments themselves as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from lmjudge.audit import Choice
from lmjudge.frames import COLUMNS
from lmjudge.report import Figure, bars, cells, intervals
from lmjudge.report.files import in_html, number
from lmjudge.stats import position_bias
from lmjudge.widgets.browser import Browser
from lmjudge.widgets.page import page

_CASES = 1000
_JUDGES, _MODELS = 6, 60  # in a figure that can still be read
_NAMES = ("judge", "judge_a", "judge_b", "model", "reason")
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
        body.append(_picture(_drawn(title_drawn, table_drawn)))
    body += [_table(name, table) for name, table in tables.items()]
    body += [f'<p class="soft">{in_html(note)}</p>' for note in notes]
    reasons = _reasons(judged)
    if len(reasons):
        body.append(_table("Rows without a verdict", reasons))
    kind = "games" if "model_a" in judged.columns else "scores"
    if not set(COLUMNS[kind]) <= set(judged.columns):
        body.append('<p class="soft">The file holds votes, without the judges\' texts.</p>')
        return page([], 0, 0, title=title, before=body)
    browser = Browser(judged, questions, answers)
    return page(
        browser.page_cases(_CASES), len(judged), len(browser.order), title=title, before=body
    )


def choice_page(choice: Choice, games: pd.DataFrame) -> str:
    """Return the answer of `choose_judge` as a page that loads nothing.

    Each sentence links to the table that it rests on. Agreement with its intervals is drawn, and
    what became of the pairs shown in both orders; the tables fold.
    """
    sentences = "".join(
        f'<li>{in_html(found.text)} <a href="#{found.table}">Table</a></li>'
        for found in choice.findings
    )
    names = {"ranking": "Agreement with people", "compared": "Two judges on the same pairs"}
    tables = {"ranking": choice.ranking, "compared": choice.compared}
    agreed = cells(choice.ranking, names["ranking"], row="judge", values="agreement", scale=100)
    body = [f'<ul class="findings">{sentences}</ul>']
    body.append(_picture(intervals(agreed, unit="percent of the comparisons with a person's vote")))
    if choice.ranking["flips"].notna().any() and "group" not in games:
        outcomes = position_bias(games)
        share = cells(
            outcomes, "Both orders", row="judge", column="outcome", values="share", scale=100
        )
        body.append(_picture(bars(share, unit="percent of the pairs", stacked=True, digits=0)))
    body += [
        f'<details id="{name}" open><summary>{names[name]}</summary>{_table("", table)}</details>'
        for name, table in tables.items()
        if len(table)
    ]
    return page([], 0, 0, title="Choose a judge", before=body)


def _drawn(title: str, table: pd.DataFrame) -> Figure:
    wins = "win_rate" in table.columns
    name, unit = ("win_rate", "win rate (a tie is half a win)") if wins else ("score", "mean score")
    shown = cells(table, title, row="model", column="judge", values=name)
    return intervals(shown, unit=unit, digits=2)


def _picture(figure: Figure) -> str:
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


def _table(title: str, table: pd.DataFrame) -> str:
    few = table["too_few"] if "too_few" in table.columns else pd.Series(False, index=table.index)
    shown = table.drop(columns="too_few", errors="ignore")
    texts = [name for name in _NAMES if name in shown.columns]
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


def _cell(name: Any, value: Any, is_text: bool, flagged: bool) -> str:
    if is_text:
        return f'<td class="name">{in_html(value)}</td>'
    shown = f"{value:.3f}" if name in _DECIMALS and pd.notna(value) else number(value)
    star = "*" if flagged and name == "high" else ""
    return f"<td>{shown}{star}</td>"
