"""The commands of OpenAI's Batch API: submit and collect (`asking` has export)."""

from __future__ import annotations

import argparse
from contextlib import closing

from lmjudge.cli.asking import server_of
from lmjudge.cli.saying import say


def submit(parsed: argparse.Namespace) -> int:
    """Send files of requests, each once."""
    from lmjudge.endpoints.batch import submit_batch
    from lmjudge.store import Store

    with closing(Store(parsed.store)) as store:
        for file in parsed.files:
            sent = submit_batch(file, store, server_of(parsed))
            say(f"{file}: batch {sent}")
    return 0


def collect(parsed: argparse.Namespace) -> int:
    """Add the results of a batch to the store; return 1 if some are open or failed."""
    from lmjudge.endpoints.batch import collect_batch
    from lmjudge.store import Store

    with closing(Store(parsed.store, mode="record")) as store:
        result = collect_batch(parsed.file, store, server_of(parsed), results=parsed.results)
    failed = ", ".join(f"{reason} {number:,}" for reason, number in result.failed.items())
    say(
        f"{parsed.file}: {result.status}; {result.new:,} new replies, {result.known:,} known,"
        f" {sum(result.failed.values()):,} failed{f' ({failed})' if failed else ''},"
        f" {result.open:,} open"
    )
    return int(bool(result.open or result.failed))
