"""The commands about judges: audit, gate and compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lmjudge.cli.options import check_outputs, check_used, read, tell_of_rows
from lmjudge.cli.saying import say

if TYPE_CHECKING:
    import pandas as pd

    from lmjudge.audit import Choice
    from lmjudge.store import Store

# Layouts whose votes are labels with one right answer.
_GOLD = {"judgebench", "llmbar", "auto-j"}
_EXPLAINED = ("guessing", "coverage", "flips", "single", "error")
_SHOWN = "judge agreement spearman accuracy kappa error low high n guessing coverage flips single"


def audit(parsed: argparse.Namespace) -> int:
    """Recommend a judge: print the answer and its table, and write the page of --out."""
    from lmjudge.audit import choose_judge
    from lmjudge.data import load_answers

    files = [*parsed.files, *parsed.judgments] or ["prd"]
    if parsed.votes is None and files != ["prd"]:
        parsed.wrong("give people's votes or scores on the same items: --votes FILE")
    if files == ["prd"] and parsed.votes not in (None, "prd"):
        parsed.wrong("give the judgments that people voted on: lmjudge audit FILE --votes FILE")
    parsed.votes = parsed.votes or "prd"
    check_outputs(parsed, [*files, parsed.votes, *(parsed.answers or ())], parsed.out)
    judged = _judged(parsed, files)
    people = _people(parsed, judged)
    answers = read(parsed, load_answers, parsed.answers) if parsed.answers else None
    check_used(parsed)
    store = _store(parsed)
    choice = choose_judge(
        judged,
        people,
        gold=parsed.gold or people.attrs.get("layout") in _GOLD,
        answers=answers,
        prices=dict(parsed.price) or _prices(judged, store),
        store=store,
    )
    _answer(parsed, choice, "ranking", "Choose a judge")
    return 0


def compare(parsed: argparse.Namespace) -> int:
    """Print what a new run changed: flips, agreement with people, drift and cost."""
    from lmjudge.audit import compare_runs

    check_outputs(parsed, [parsed.old, parsed.new, parsed.votes], parsed.out)
    old, new = (_judged(parsed, [run]) for run in (parsed.old, parsed.new))
    votes = _people(parsed, new) if parsed.votes else None
    check_used(parsed)
    choice = compare_runs(old, new, votes, store=_store(parsed))
    _answer(parsed, choice, "flips", "Two runs of a judge")
    return 0


def gate(parsed: argparse.Namespace) -> int:
    """Print one check per line in Markdown; return 1 if one fails."""
    from lmjudge.audit import gate
    from lmjudge.report.files import write
    from lmjudge.widgets.choice import markdown_table

    thresholds = {
        name: getattr(parsed, name)
        for name in ("min_agreement", "max_position_bias", "max_no_verdict")
    }
    if all(value is None for value in thresholds.values()):
        parsed.wrong("give --min-agreement, --max-position-bias or --max-no-verdict")
    if parsed.min_agreement is not None and parsed.votes is None:
        parsed.wrong("--min-agreement needs people's votes: --votes FILE")
    check_outputs(parsed, [*parsed.files, parsed.votes], parsed.out)
    judged = _judged(parsed, parsed.files)
    votes = _people(parsed, judged) if parsed.votes else None
    check_used(parsed)
    table = gate(judged, votes, **thresholds)
    text = markdown_table(table.assign(passed=table["passed"].map({True: "yes", False: "NO"})))
    if parsed.out:
        write(parsed.out, f"{text}\n".encode())
    for line in text.split("\n"):
        say(line)
    if parsed.out:
        say(f"written: {parsed.out}")
    failed = table[~table["passed"]]
    say("")
    say(
        f"{len(failed)} of {len(table)} checks failed" if len(failed) else "every check passed",
    )
    return 1 if len(failed) else 0


def _judged(parsed: argparse.Namespace, files: list[str]) -> pd.DataFrame:
    """Return judgments as games or scores; a table of bare verdicts as games."""
    from lmjudge.data import load_judgments

    source = files[0] if len(files) == 1 else files
    judged = read(parsed, load_judgments, source)
    if "group" in judged and "model_a" in judged:
        judged = read(parsed, load_judgments, source, kind="games")
    tell_of_rows(judged)
    return judged


def _people(parsed: argparse.Namespace, judged: pd.DataFrame) -> pd.DataFrame:
    """Return people's votes, or their scores where the judges gave scores."""
    from lmjudge.data import load_judgments, load_votes
    from lmjudge.errors import DataError, FrameError

    if "model_a" not in judged:
        return read(parsed, load_judgments, parsed.votes, kind="scores")
    try:
        return read(parsed, load_votes, parsed.votes)
    except DataError as error:
        columns = getattr(error, "columns", [])
        if "winner" in columns or not {"model", "score"} <= set(columns):
            raise
        raise FrameError(
            f"the judges compare pairs and {parsed.votes} has scores of single answers (columns"
            f" {', '.join(map(str, columns))}); give votes on pairs, or the judges' scores",
            columns=columns,
        ) from error


def _store(parsed: argparse.Namespace) -> Store | None:
    from lmjudge.store import Store

    if parsed.store and not parsed.store.exists():
        parsed.wrong(f"there is no store at {parsed.store}")
    return Store(parsed.store) if parsed.store else None


def _prices(judged: pd.DataFrame, store: Store | None) -> dict[str, float] | None:
    """Return the mean cost of a call of each judge whose price is known, in dollars."""
    from lmjudge.audit import call_costs

    if store is None or judged["key"].isna().all():
        return None
    costs = call_costs(judged, store).dropna(subset="per_call")
    return dict(zip(costs["judge"], costs["per_call"], strict=True)) or None


def _answer(parsed: argparse.Namespace, choice: Choice, table: str, title: str) -> None:
    """Write the answer to --out, and print its sentences, its notes and one table."""
    _write(parsed.out, choice, title)  # first, as the reader of a pipe may close it
    for finding in (*choice.findings, *choice.notes):
        say(f"- {finding.text}")
    say("")
    rows = choice.tables[table]
    names = [name for name in _SHOWN.split() if name in rows] if table == "ranking" else [*rows]
    shown = rows[names].dropna(axis=1, how="all")
    for line in shown.to_string(index=False, float_format="{:.3f}".format, na_rep="-").split("\n"):
        say(f"  {line}")
    if table == "ranking":
        from lmjudge.widgets.choice import MEANINGS

        meanings = [f"{name} is {MEANINGS[name]}" for name in _EXPLAINED if name in shown]
        if meanings:
            say(f"  ({'; '.join(meanings)})")
    if parsed.out:
        say(f"written: {parsed.out}")


def _write(out: Path | None, choice: Choice, title: str) -> None:
    """Write the answer as a page or as Markdown."""
    if out is None:
        return
    from lmjudge.report.files import write
    from lmjudge.widgets.choice import choice_markdown, choice_page

    text = (
        choice_page(choice, title=title)
        if out.suffix == ".html"
        else choice_markdown(choice, title=title)
    )
    write(out, text.encode())
