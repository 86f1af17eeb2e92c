"""The answer of an audit as a page or as Markdown: sentences first, then the tables behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from lmjudge.audit import Choice
from lmjudge.report import Figure, bars, cells, curves, intervals
from lmjudge.report.files import fill, number
from lmjudge.report.typeset import in_markdown
from lmjudge.widgets.browser import page
from lmjudge.widgets.results import picture, table_html

_TITLES = {
    "ranking": "Judges and people",
    "compared": "Two judges on the same data",
    "position": "Both orders",
    "length": "Length",
    "levels": "Error at each of people's scores",
    "calibration": "Calibration",
    "brier": "Brier scores",
    "rates": "Pass and fail",
    "shares": "Share of passes, four ways",
    "subsets": "Subsets",
    "cascade": "A cheap judge where it is sure, an expensive one elsewhere",
    "precision": "Precision",
    "flips": "Changed judgments",
    "drift": "Before and after",
    "agreement": "Agreement with people, before and after",
    "cost": "Cost",
    "versions": "Models",
}

# What the columns of an audit's tables mean.
MEANINGS = {
    "agreement": "share of comparisons with a person's vote that agree, ties kept",
    "guessing": "what a guess with the judge's share of ties reaches",
    "coverage": "the share of pairs with a winner that the order does not change",
    "flips": "the share whose verdict the order changes",
    "single": "the share of right verdicts, each game by itself",
    "error": "the judge's mean error in points",
    "first": "share of pairs in which the answer shown first wins in both orders",
    "second": "share of pairs in which the answer shown second wins in both orders",
    "ties": "share of pairs that are ties",
    "repeated": "agreement on pairs that several people voted on",
    "repeated_n": "the comparisons behind it",
    "difference": "judge a less judge b, or after less before",
    "better_a": "questions on which judge a, or the new run, has the higher value",
    "better_b": "questions on which judge b, or the old run, has the higher value",
    "p_value": "how likely such a difference is if there is none",
    "p_sign": "the same by the sign test, from the questions on which each is better",
    "p_holm": "p value corrected for the number of differences in the table (Holm)",
    "needed": "labels that would tell the two apart with a chance of 80 %",
    "more": "how many of these are still to be collected",
    "tie_rate": "share of ties among the games that could be read",
    "half": "half the width of the interval with so many comparisons",
    "asked": "share of pairs that the expensive judge decides",
    "sure": "how sure the cheap judge must be to decide alone",
    "flipped": "judgments that changed",
    "reversed": "those that went from one side to the other",
    "lost": "verdicts that only the old run has",
    "found": "verdicts that only the new run has",
    "one_run": "judgments that are in one run alone",
    "retired": "the day on which the provider retires the model",
    "served": "the model that answered, by its own account",
    "low": "the interval: about other questions of this kind (docs/coverage.md)",
    "too_few": "the interval may be too short; on a page, a star",
    "no_verdict": "rows without a verdict, which are left out",
}


def choice_page(choice: Choice, *, title: str = "Choose a judge") -> str:
    """Return the result of `choose_judge` or `compare_runs` as a page that loads nothing.

    Each sentence links to its table. Figures follow the sentences; the tables, and what their
    columns mean, fold.
    """
    body = fill(
        "choice.html.j2",
        findings=choice.findings,
        notes=choice.notes,
        figures=[(heading, picture(figure)) for heading, figure in figures(choice)],
        tables=[
            (name, _TITLES[name], table_html("", _shown(table)))
            for name, table in choice.tables.items()
            if len(table)
        ],
        meanings=_meanings(choice),
    )
    return page([], 0, 0, title=title, before=[body])


def choice_markdown(choice: Choice, *, title: str = "Choose a judge") -> str:
    """Return the result as Markdown: the sentences, each table, and what the columns mean."""
    lines = [f"# {title}\n", *(f"- {in_markdown(finding.text)}" for finding in choice.findings), ""]
    lines += [f"{in_markdown(note.text)}\n" for note in choice.notes]
    for name, table in choice.tables.items():
        if len(table):
            lines += [f"## {_TITLES[name]}\n", markdown_table(_shown(table)), ""]
    lines += ["## Columns\n", *(f"- {name}: {text}" for name, text in _meanings(choice))]
    return "\n".join(lines).rstrip() + "\n"


def _meanings(choice: Choice) -> list[tuple[str, str]]:
    """Return the columns that the tables show, as they are headed, and what each means."""
    shown = {str(name) for table in choice.tables.values() for name in _shown(table)}
    return [(name.replace("_", " "), text) for name, text in MEANINGS.items() if name in shown]


def markdown_table(table: pd.DataFrame) -> str:
    """Return a frame as a Markdown table, with four digits a number and missing values empty."""
    names = [str(name).replace("_", " ") for name in table.columns]
    rows = [[_text(value) for value in row] for row in table.to_numpy(dtype=object)]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(choice: Choice) -> Iterator[tuple[str, Figure]]:
    """Yield a heading and a figure for each table that can be drawn."""
    shape: dict[str, Any]
    tables = {name: table for name, table in choice.tables.items() if len(table)}
    yield from _ranking(tables.get("ranking", pd.DataFrame()))
    if "position" in tables:
        shape = {"row": "judge", "column": "outcome", "values": "share", "scale": 100}
        shown = cells(tables["position"], "Both orders", **shape)
        yield "Position", bars(shown, unit="percent of pairs", stacked=True, digits=0)
    if "length" in tables:
        shown = cells(tables["length"], "Length", row="judge", values={"odds": "odds"})
        unit = "times the odds of winning, for twice the words"
        yield "Length", intervals(shown, unit=unit, digits=1)
    if "rates" in tables:
        yield from _rates(tables["rates"], tables["shares"])
    if "subsets" in tables:
        shape = {"row": "subset", "column": "judge", "values": "accuracy", "scale": 100}
        shown = cells(tables["subsets"], "Subsets", **shape)
        yield "Subsets", intervals(shown, unit="percent right in both orders", digits=0)
    if "calibration" in tables:
        yield "Calibration", _calibration(tables["calibration"])
    if "precision" in tables:
        yield from _precision(tables["precision"])
    if "cascade" in tables:
        yield "A cascade", _cascade(tables["cascade"])
    if "flips" in tables:
        yield from _changes(tables["flips"], tables["drift"])


def _ranking(ranking: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    if "agreement" in ranking:
        shown = cells(ranking, "Agreement", row="judge", values="agreement", scale=100)
        yield "Agreement with people", intervals(shown, unit="percent of comparisons", digits=0)
    if "spearman" in ranking and "error" in ranking:
        shown = cells(ranking, "Rank correlation", row="judge", values={"spearman": "Spearman"})
        yield "Rank correlation with people", intervals(shown, unit="correlation", digits=2)
        yield from _errors(ranking)
    if "kappa" in ranking and "true_positive" in ranking:
        shown = cells(ranking, "Kappa", row="judge", values="kappa")
        yield "Agreement with people beyond chance", intervals(shown, unit="kappa", digits=2)
    if "lucky" in ranking:
        yield "Right in both orders", _gold(ranking)


def _rates(rates: pd.DataFrame, shares: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    shown = cells(rates, "Rates", row="judge", column="measure", values="value", scale=100)
    shown = shown[shown["column"].str.contains("rate")]
    yield "Passes among passes and fails", bars(shown, unit="percent", digits=0)
    shown = cells(shares, "Shares", row="judge", column="estimate", values="value", scale=100)
    yield "Share of passes, four ways", intervals(shown, unit="percent", digits=0)


def _changes(flips: pd.DataFrame, drift: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    shown = cells(flips, "Changed", row="judge", values="share", scale=100)
    yield "Changed judgments", intervals(shown, unit="percent of judgments", digits=1)
    row: Any = "measure" if drift["judge"].nunique() == 1 else ["judge", "measure"]
    shown = cells(drift, "Drift", row=row, values={"difference": "after less before"})
    yield "After less before", intervals(shown, unit="difference", digits=2)


def _errors(ranking: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    rows = ranking[ranking["judge"] != "people"].drop(columns=["low", "high"])
    rows = rows.rename(columns={"error_low": "low", "error_high": "high"})
    shown = cells(rows, "Mean error", row="judge", values={"error": "judge less people"})
    yield "Mean error", intervals(shown, unit="points above people", digits=1)


def _gold(ranking: pd.DataFrame) -> Figure:
    parts = ranking.assign(rest=1 - ranking[["accuracy", "wrong", "lucky"]].sum(axis=1))
    names = {"accuracy": "right in both", "lucky": "right in one", "wrong": "wrong in both"}
    names["rest"] = "other"
    shown = cells(parts, "Gold", row="judge", values=names, scale=100)
    return bars(shown, unit="percent of pairs", stacked=True, digits=0)


def _calibration(table: pd.DataFrame) -> Figure:
    shape: dict[str, Any]
    if "predicted" in table:
        shape = {"row": "bin", "column": "judge", "values": "observed", "scale": 100}
        along, unit = "the judge's probability", "percent of people who agree"
    else:
        shape = {"row": "level", "column": "judge", "values": "human_score"}
        along, unit = "the judge's score", "people's mean score"
        table = table.drop(columns=["low", "high"])
    table = table.sort_values([shape["row"], "judge"])
    return curves(cells(table, "Calibration", **shape), unit=unit, along=along)


def _precision(table: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    paid = table["dollars"].notna().all()
    shape: dict[str, Any] = {"row": "dollars" if paid else "comparisons"}
    shown = cells(table, "Precision", values={"half": "half the interval"}, **shape)
    along = "dollars of judging" if paid else "comparisons with a person's vote"
    figure = curves(shown, unit="points, plus or minus", along=along)
    yield "Precision against cost" if paid else "Precision", figure


def _cascade(table: pd.DataFrame) -> Figure:
    paid = table["dollars"].notna().all()
    rows = table.assign(asked=(100 * table["asked"]).round(1))
    name = f"{table['cheap'].iloc[0]}, then {table['dear'].iloc[0]}"
    shown = cells(
        rows.rename(columns={"agreement": name}),
        "Cascade",
        row="dollars" if paid else "asked",
        values=name,
        scale=100,
    )
    along = "dollars a pair" if paid else "percent of pairs that the second judge decides"
    return curves(shown, unit="percent agreement with people", along=along)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without the columns that have no values."""
    return table.drop(columns=[name for name in table if table[name].isna().all()])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value)
    return "" if value is None or pd.isna(value) else in_markdown(str(value))
