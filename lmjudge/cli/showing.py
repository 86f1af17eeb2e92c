"""The command `show`: FastChat's show_result tables, with intervals."""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING

from lmjudge.cli.options import (
    baseline_of,
    check_outputs,
    check_used,
    opponents,
    read,
    tell_of_rows,
)
from lmjudge.cli.saying import say

if TYPE_CHECKING:
    import pandas as pd


def show(parsed: argparse.Namespace) -> int:
    """Print the tables of judgments, and write them to --out and --html."""
    from lmjudge.data import load_answers, load_judgments, load_questions
    from lmjudge.frames import subset

    baseline = baseline_of(parsed)
    by_category = isinstance(baseline, dict)
    if by_category and not parsed.questions:
        parsed.wrong("--baseline category=model needs --questions, for their categories")
    if (parsed.questions or parsed.answers) and not (parsed.html or by_category):
        parsed.wrong("--questions and --answers need --html PAGE, which shows their texts")
    inputs = [*parsed.judgments, parsed.questions, *(parsed.answers or ())]
    check_outputs(parsed, inputs, parsed.out, parsed.html)
    of_one = baseline if isinstance(baseline, str) else None
    judged = read(parsed, load_judgments, parsed.judgments, baseline=of_one)
    questions = read(parsed, load_questions, parsed.questions) if parsed.questions else None
    answers = read(parsed, load_answers, parsed.answers, samples=None) if parsed.answers else None
    check_used(parsed)
    tell_of_rows(judged)
    wanted = [*parsed.models, *opponents(baseline)] if parsed.models else []
    judged = subset(judged, models=wanted)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tables = _tables(parsed, judged, baseline, questions)
    cautions = list(dict.fromkeys(str(warning.message) for warning in caught))
    notes = _notes(judged, tables, parsed.rule)
    if parsed.out:
        from lmjudge.report.files import to_csv, write

        frames = [table.assign(table=title) for title, table in tables.items()]
        columns = ["table", *frames[0].columns[:-1]]
        rows = [row for table in frames for row in table[columns].values.tolist()]
        write(parsed.out, to_csv([columns, *rows]))
    if parsed.html:
        from lmjudge.report.files import write
        from lmjudge.widgets.results import results_page

        if "group" in judged and (parsed.questions or parsed.answers):
            # Votes have no judgments, but what was voted on can be shown beside them.
            judged = read(parsed, load_judgments, parsed.judgments, kind="games")
            judged = subset(judged, models=wanted)
        page = results_page(
            tables,
            judged,
            title=f"Judgments: {', '.join(path.name for path in parsed.judgments)}",
            notes=notes,
            warnings=cautions,
            questions=questions,
            answers=answers,
        )
        write(parsed.html, page.encode())
    for at, (title, table) in enumerate(tables.items()):
        if at:
            say("")
        _print(title, table)
    for note in notes:
        say(f"  ({note})")
    for caution in cautions:
        say(f"  Warning: {caution}")
    for file in filter(None, (parsed.out, parsed.html)):
        say(f"written: {file}")
    return 0


def _notes(judged: pd.DataFrame, tables: dict[str, pd.DataFrame], rule: str) -> list[str]:
    """Say what the columns of the tables mean."""
    notes = []
    if any(table["too_few"].any() for table in tables.values()):
        notes.append(
            "* the interval may be too short: fewer than 20 questions, a few with most of the rows,"
            " or nearly all verdicts alike"
        )
    if left_out := {table.attrs.get("not_covered") for table in tables.values()} - {None}:
        notes.append(f"intervals do not cover {', '.join(sorted(left_out))}")
    if "model" not in judged.columns:
        note = "in win_rate a tie is half a win; win_share and loss_share are of all verdicts"
        if "group" not in judged.columns:
            note += f"; two orders that differ: --rule {rule}"
        notes.append(note)
    return notes


def _graded(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return mean scores of the first turn, the second, and both; by judge, the best first."""
    import pandas as pd

    from lmjudge.frames import without_labels
    from lmjudge.stats import label_shares, mean_scores

    about = [name for name in ("criterion",) if name in scores]
    parts = {f"turn {turn}": part for turn, part in scores.groupby("turn", sort=True)}
    if len(parts) > 1:
        parts["average"] = scores
    names = ["judge", *about, "score"]
    order = {"by": names, "ascending": [name != "score" for name in names]}
    by = ["judge", *about, "model"]
    tables = {}
    for title, part in parts.items():
        table = mean_scores(part, by=by)
        scored = without_labels(part := part.reset_index(drop=True))
        if len(scored) < len(part):  # labels have shares instead of scores
            labelled = part[part["criterion"].isin(part["criterion"].drop(scored.index))]
            shares = label_shares(labelled, by=by).rename(columns={"share": "score"})
            shares["criterion"] += ": " + shares["label"]
            table = table[~table["criterion"].isin(labelled["criterion"])]
            table = pd.concat([table, shares[table.columns]], ignore_index=True)
        tables[title] = table.sort_values(**order, kind="stable")
    return tables


def _tables(
    parsed: argparse.Namespace,
    judged: pd.DataFrame,
    baseline: str | dict[str, str] | None,
    questions: pd.DataFrame | None,
) -> dict[str, pd.DataFrame]:
    """Return the tables by title: of scores, or of games against each baseline."""
    from lmjudge.errors import FrameError
    from lmjudge.frames import subset

    if "model" in judged.columns:
        if baseline:
            raise FrameError("single grades have no baseline; leave --baseline out", rows=judged)
        return _graded(judged)
    if not isinstance(baseline, dict):
        return _compared(judged, baseline, parsed.rule)
    tables = {}
    for category, model in baseline.items():
        part = subset(judged, categories=[category], questions=questions)
        (tables[f"{category} against {model}"],) = _compared(part, model, parsed.rule).values()
    return tables


def _compared(games: pd.DataFrame, baseline: str | None, rule: str) -> dict[str, pd.DataFrame]:
    """Return wins, losses, ties and rates by judge, the best first. Intervals are of win_rate."""
    from lmjudge.frames import resolve
    from lmjudge.stats import weighted_win_rates, win_rates

    votes = games if "group" in games.columns else resolve(games, rule)  # type: ignore[arg-type]
    about = [name for name in ("criterion",) if name in votes]
    table = win_rates(votes, baseline=baseline, by=["judge", *about])
    for name, count in (("win_share", "wins"), ("loss_share", "losses")):
        table[name] = table[count] / table["n"]
    weighted = []
    if {"label", "verdict", "preference"} & {*games.columns}:
        by = ["judge", *about, "model"]
        rates = weighted_win_rates(games, baseline=baseline, by=["judge", *about])
        rates = rates.rename(columns={"win_rate": "weighted"})[[*by, "weighted"]]
        table, weighted = table.merge(rates, on=by, how="left"), ["weighted"]
    flips = ["order_flips"] if "order_flips" in table else []
    names = ["judge", *about, "model", "wins", "losses", "ties", *flips, "win_share", "loss_share"]
    ends = [*weighted, "win_rate", "too_few", "n", "low", "high", "no_verdict"]
    keys = ["judge", *about, "win_rate"]
    order = {"by": keys, "ascending": [name != "win_rate" for name in keys]}
    title = "pairwise" if baseline is None else f"against {baseline}"
    return {title: table[[*names, *ends]].sort_values(**order, kind="stable")}


def _print(title: str, table: pd.DataFrame) -> None:
    from lmjudge.report.files import plain

    shown = table.drop(columns="too_few").rename(columns={"low": "95% low", "high": "95% high"})
    if table["too_few"].any():
        at = shown.columns.get_loc("95% high") + 1
        shown.insert(at, "few", table["too_few"].map({True: "*", False: ""}))
    for name in ("judge", "model"):
        shown[name] = shown[name].map(plain)
    say(title)
    for line in shown.to_string(index=False, float_format="{:.3f}".format, na_rep="-").split("\n"):
        say(f"  {line}")
