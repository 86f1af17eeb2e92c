"""The verbs that make reports: reproduce, fetch, run, check."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lmjudge.cli.saying import say

if TYPE_CHECKING:
    from lmjudge.report import Run


def reproduce(parsed: argparse.Namespace) -> int:
    """Run every notebook on the verdicts that ship; with --full also on fetched originals."""
    from lmjudge.data import fetch

    jobs = min(os.cpu_count() or 1, 4)
    failed = _run_and_index(None, jobs=jobs)
    if parsed.full:
        for source in fetch(progress=sys.stderr.isatty()).to_dict("records"):
            say(_fetched(source))
        failed |= _run_and_index(None, full=True, jobs=jobs)
    return failed


def fetch(parsed: argparse.Namespace) -> int:
    """Downloads published sources; 1 where one is missing."""
    from lmjudge.data import fetch

    rows = fetch(parsed.names or None, progress=sys.stderr.isatty()).to_dict("records")
    for source in rows:
        say(_fetched(source))
    return int(any(source["status"] not in ("present", "fetched") for source in rows))


def _fetched(source: dict[str, Any]) -> str:
    told = f"{source['source']}: {source['status']}"
    if source["status"] in ("present", "fetched"):
        return f"{told}, {source['files']} files ({source['licence']})"
    return f"{told}: {source['reason']}"


def run(parsed: argparse.Namespace) -> int:
    """Runs notebooks; 1 where one failed."""
    return _run_and_index(
        parsed.stems or None,
        source=parsed.source,
        parameters=dict(parsed.p),
        full=parsed.full,
        jobs=parsed.jobs,
        changed=parsed.changed,
    )


def _run_and_index(stems: Sequence[str] | None, **how: Any) -> int:
    """Runs notebooks, telling of each as it ends; the page of all is written even if some fail."""
    from lmjudge.errors import ReportError
    from lmjudge.report import run, write_index

    failed = ""
    try:
        run(stems, each=_tell, **how)
    except ReportError as error:
        if not (hasattr(error, "failed") and hasattr(error, "runs")):
            raise
        names = ", ".join(one.stem for one in error.failed)
        failed = f"{len(error.failed)} of {len(error.runs)} failed: {names}"
    say(f"the report: {write_index().resolve()}")
    if failed:
        say(failed, sys.stderr)
    return int(bool(failed))


def _tell(one: Run) -> None:
    if one.error:
        page = f" (page: {one.page})" if one.page else ""
        say(f"lmjudge: {one.stem}: {one.error}{page}", sys.stderr)
    elif one.skipped:
        say(f"{one.stem}: {one.source}, unchanged and skipped, {one.page}")
    else:
        say(f"{one.stem}: {one.source or 'no table'}, cells {one.seconds:.1f} s, {one.page}")


def check(parsed: argparse.Namespace) -> int:
    """Holds the tables against the published numbers; 1 where one differs."""
    if parsed.evidence:
        return _check_evidence(parsed.stems or None)
    from lmjudge.report import check, differing

    checked = check(parsed.stems or None)
    wrong = differing(checked)
    for cell in wrong.to_dict("records"):
        say(
            f"{cell['stem']}: {cell['table']} / {cell['row']} / {cell['column']}: ours"
            f" {cell['ours_printed']} (n {cell['n']:g}), printed {cell['printed']}"
            f" (n {cell['n_printed']})"
        )
    if checked.empty:
        say("nothing to compare: no table here has cells that a paper printed; run notebooks first")
    else:
        say(f"{len(checked) - len(wrong)} of {len(checked)} cells are as printed")
    return int(len(wrong) > 0)


def _check_evidence(stems: Sequence[str] | None) -> int:
    from lmjudge.report import check_evidence

    checked = check_evidence(stems)
    for stem, cells, judgments, wrong in checked.itertuples(index=False, name=None):
        told = f"{cells} cells rest on {judgments} judgments"
        says = "as the store has them" if not wrong else f"{len(wrong)} differ: {wrong[0]}"
        say(f"{stem}: {told}, {says}")
    if checked.empty:
        say("no table here has evidence; run its notebook first")
    return int(checked["wrong"].map(bool).any())
