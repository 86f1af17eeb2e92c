"""The verbs of OpenAI's Batch API: submit and collect (for export, see `asking`)."""

from __future__ import annotations

import argparse
from contextlib import closing

from lmjudge.cli.asking import server_of
from lmjudge.cli.saying import say


def submit(parsed: argparse.Namespace) -> int:
    """Sends files of requests, each once."""
    from lmjudge.endpoints.batch import submit_batch
    from lmjudge.store import Store

    with closing(Store(parsed.store)) as store:
        for file in parsed.files:
            sent = submit_batch(file, store, server_of(parsed))
            say(f"{file}: batch {sent}")
    return 0


def collect(parsed: argparse.Namespace) -> int:
    """Keeps the results of a batch in the store; 1 while some are open or failed."""
    from lmjudge.endpoints.batch import collect_batch
    from lmjudge.store import Store

    with closing(Store(parsed.store, mode="record")) as store:
        came = collect_batch(parsed.file, store, server_of(parsed), results=parsed.results)
    failed = ", ".join(f"{reason} {number:,}" for reason, number in came.failed.items())
    say(
        f"{parsed.file}: {came.status}; {came.new:,} new replies, {came.known:,} known,"
        f" {sum(came.failed.values()):,} failed{f' ({failed})' if failed else ''},"
        f" {came.open:,} open"
    )
    return int(bool(came.open or came.failed))
