"""The commands about reports: reproduce, fetch, run and check."""

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
    from lmjudge.places import downloads, reports
    from lmjudge.report import notebooks

    jobs = parsed.jobs or min(os.cpu_count() or 1, 4)
    say(
        f"running {len(notebooks())} notebooks, {jobs} at a time, on the verdicts that ship with"
        f" lmjudge: no network, no model; pages go to {reports().resolve()}"
    )
    if parsed.full:
        say(f"then fetching the open sources into {downloads().resolve()}, and running on them")
    failed = [_run(None, jobs=jobs)]
    if parsed.full:
        for source in fetch(progress=sys.stderr.isatty()).to_dict("records"):
            say(_fetched(source))
        failed.append(_run(None, full=True, jobs=jobs))
    return _report(failed, show=parsed.open)


def fetch(parsed: argparse.Namespace) -> int:
    """Download published sources; return 1 if one is missing."""
    from lmjudge.data import fetch

    rows = fetch(parsed.names or None, progress=sys.stderr.isatty()).to_dict("records")
    for source in rows:
        say(_fetched(source))
    return int(any(source["status"] not in ("present", "fetched") for source in rows))


def _fetched(source: dict[str, Any]) -> str:
    state = f"{source['source']}: {source['status']}"
    if source["status"] in ("present", "fetched"):
        return f"{state}, {source['files']} files ({source['licence']})"
    return f"{state}: {source['reason']}"


def run(parsed: argparse.Namespace) -> int:
    """Run notebooks; return 1 if one failed."""
    failed = _run(
        parsed.stems or None,
        parameters=dict(parsed.p),
        full=parsed.full,
        jobs=parsed.jobs,
        changed=parsed.changed,
    )
    return _report([failed], show=parsed.open)


def _run(stems: Sequence[str] | None, **how: Any) -> str:
    """Run notebooks, print each as it ends, and return a sentence on those that failed."""
    from lmjudge.errors import ReportError
    from lmjudge.report import run

    try:
        run(stems, each=_tell, **how)
    except ReportError as error:
        if not (hasattr(error, "failed") and hasattr(error, "runs")):
            raise
        names = ", ".join(failed.stem for failed in error.failed)
        return f"{len(error.failed)} of {len(error.runs)} failed: {names}"
    return ""


def _report(failed: Sequence[str], *, show: bool) -> int:
    """Write the page of all tables, even if some runs failed, and print where it is."""
    from lmjudge.report.index import write_report

    index, claimed = write_report()
    if claimed is not None:
        say(str(claimed))
    say(f"the report: {index.resolve()}")
    for sentence in filter(None, failed):
        say(sentence, sys.stderr)
    if show:
        import webbrowser

        webbrowser.open(index.resolve().as_uri())
    return int(any(failed))


def _tell(run: Run) -> None:
    if run.error:
        page = f" (page: {run.page})" if run.page else ""
        say(f"lmjudge: {run.stem}: {run.error}{page}", sys.stderr)
    elif run.skipped:
        say(f"{run.stem}: {run.source}, unchanged and skipped, {run.page}")
    else:
        say(f"{run.stem}: {run.source or 'no table'}, cells {run.seconds:.1f} s, {run.page}")


def check(parsed: argparse.Namespace) -> int:
    """Compare the tables with the published numbers; return 1 if one differs."""
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
        counts = f"{cells} cells rest on {judgments} judgments"
        says = "as the store has them" if not wrong else f"{len(wrong)} differ: {wrong[0]}"
        say(f"{stem}: {counts}, {says}")
    if checked.empty:
        say("no table here has evidence; run its notebook first")
    return int(checked["wrong"].map(bool).any())
