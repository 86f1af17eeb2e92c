"""Run a command that asks models: plan, ask through the store, write the file, and report."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.cli.saying import say

if TYPE_CHECKING:
    import pandas as pd

    from lmjudge.endpoints.openai import OpenAIEndpoint
    from lmjudge.planning import Plan
    from lmjudge.records import Endpoint, Failure, Reply, Request
    from lmjudge.store import Store

_AT_ONCE = 500
_ELSEWHERE = ("not_asked", "other_shard")  # rows without a reply so far, which are no failures


@dataclass(frozen=True)
class Run:
    """The four steps of a command: plan, list the requests, ask for replies, write files."""

    plans: Callable[[Any], Sequence[Plan]]
    requests: Callable[[Any], Iterable[Request]]
    ask: Callable[[Any, Endpoint | None], pd.DataFrame]
    write: Callable[[pd.DataFrame, Store], Sequence[Path]]


class Held:
    """A store that returns the replies it holds, and a Failure (`not_asked`) for the others."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """Yield the (key, reply) of each request. Make no call."""
        from lmjudge.records import Failure

        missing, source = Failure("not_asked", "not asked yet", attempts=0), iter(requests)
        while some := list(islice(source, _AT_ONCE)):
            replies = self.store.look_up(request.key for request in some)
            yield from ((request.key, replies.get(request.key, missing)) for request in some)


def endpoint_of(parsed: argparse.Namespace) -> Any:
    """Return the endpoint that the arguments name: a local model or a server."""
    most = parsed.concurrency
    if parsed.local:
        from lmjudge.endpoints.local import LocalEndpoint

        how = {"batch_size": most} if most else {}
        how |= {"device_map": parsed.device_map, "dtype": parsed.dtype}
        how |= {"chat_template": text_of(parsed.chat_template)} if parsed.chat_template else {}
        return LocalEndpoint(str(parsed.local), revision=parsed.revision, **how)
    limits = {"concurrency": most} if most else {}
    if parsed.timeout:
        limits |= {"timeout": parsed.timeout, "deadline": 5 * parsed.timeout}
    return server_of(parsed, same_model=parsed.same_model, **limits)


def text_of(file: Path) -> str:
    """Return the text of a file; DataMissing where there is none."""
    from lmjudge.errors import DataMissing

    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataMissing(
            f"cannot read {file} ({error}); give a text file in UTF-8", source=str(file), path=file
        ) from error


def provider_of(parsed: argparse.Namespace) -> str | None:
    """Return the provider of a local model with your own chat template, None without one."""
    if not parsed.chat_template:
        return None
    digest = hashlib.sha256(text_of(parsed.chat_template).encode()).hexdigest()
    return f"chat-template:{digest[:12]}"


def server_of(parsed: argparse.Namespace, **options: Any) -> OpenAIEndpoint:
    """Return the server that the arguments name."""
    from lmjudge.endpoints.openai import OpenAIEndpoint

    return OpenAIEndpoint(
        parsed.base_url,
        allow_http=parsed.allow_http,
        headers=dict(parsed.header),
        ca_file=parsed.ca_file,
        **options,
    )


def planned(parsed: argparse.Namespace, run: Run) -> int:
    """Print the plan of a run. Make no call."""
    from lmjudge.store import Store

    with closing(Store(parsed.store)) as store:
        for plan in run.plans(_part(parsed, store)):
            say(str(plan))
            half = plan.by_batch().dollars
            if plan.distinct_misses and half is not None:
                say(f"by lmjudge batch, at half the price: {half.shown('${:,.2f}')}")
    return 0


def exported(parsed: argparse.Namespace, run: Run) -> int:
    """Write the requests that the store lacks to files for OpenAI's Batch API."""
    from lmjudge.endpoints.batch import export_batch
    from lmjudge.store import Shard, Store

    with closing(Store(parsed.store)) as store:
        for plan in run.plans(_part(parsed, store)):
            say(f"by batch, at half the price: {plan.by_batch()}")
        wanted = run.requests(store)
        if parsed.shard:
            wanted = filter(Shard(store, *parsed.shard).holds, wanted)
        files = export_batch(wanted, store, parsed.file)
    for file in files:
        say(f"written: {file}; send it with: lmjudge batch submit {shlex.quote(str(file))}")
    if not files:
        say("the store has all replies; no file written")
    return 0


def asked(parsed: argparse.Namespace, run: Run) -> int:
    """Ask for the missing replies, write the rows, and report; return 1 if a row has no reply."""
    from lmjudge.endpoints.budget import Budget
    from lmjudge.errors import EndpointStopped
    from lmjudge.store import Store

    with closing(Store(parsed.store, mode="record")) as store:
        # Planning finds what is wrong with questions, answers and prompts before the first call.
        for plan in run.plans(_part(parsed, store)):
            say(str(plan))
        endpoint = Budget(endpoint_of(parsed), dollars=parsed.budget, calls=parsed.max_calls)
        code = 0
        try:
            with _until_terminated():
                rows = run.ask(_part(parsed, store), endpoint)
        except (EndpointStopped, KeyboardInterrupt) as error:
            code = 130 if isinstance(error, KeyboardInterrupt) else 1
            code = 143 if isinstance(error, _Terminated) else code
            say(f"lmjudge: stopped: {str(error) or 'interrupted'}", sys.stderr)
            rows = run.ask(_part(parsed, Held(store)), None)
        finished = rows[~rows["reason"].isin(_ELSEWHERE)]
        files = run.write(finished, store) if len(finished) else []
        _tell(store, rows, finished, files)
        waits = "not_asked" in set(rows["reason"])
        if code or store.failures or waits:
            stuck = code == 1 and not store.kept  # the same command would stop at the same place
            say(f"{'once that is mended, ' if stuck else ''}to go on: {_shareable(parsed)}")
        return code or int(bool(store.failures) or waits)


class _Terminated(KeyboardInterrupt):
    """The process received SIGTERM, as from a job queue."""


@contextmanager
def _until_terminated() -> Iterator[None]:
    """Handle SIGTERM as an interrupt: write the replies so far, and print how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Terminated("terminated")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _shareable(parsed: argparse.Namespace) -> str:
    """Return the command line without the values of its headers and without secrets."""
    from lmjudge.report.executing import SECRET_NAME, without_secrets

    command = str(parsed.command)
    for name, value in parsed.param:
        if SECRET_NAME.search(name) and isinstance(value, str):
            command = command.replace(value, "VALUE")
    for _, value in parsed.header:
        command = command.replace(shlex.quote(value), "VALUE").replace(value, "VALUE")
    return str(without_secrets(command))


def _part(parsed: argparse.Namespace, store: Any) -> Any:
    from lmjudge.store import Shard

    return Shard(store, *parsed.shard) if parsed.shard else store


def _tell(store: Store, rows: pd.DataFrame, finished: pd.DataFrame, files: Sequence[Path]) -> None:
    failed = store.failures
    unanswered = store.requests - store.kept - failed.total()  # when the run stopped
    cut = f", {unanswered:,} stopped without a reply, {store.kept:,} kept" if unanswered > 0 else ""
    say(
        f"asked for {store.hits + store.misses:,} replies: {store.hits:,} from the store,"
        f" {store.calls:,} calls, {failed.total():,} failed{_counts(failed)}{cut}; {_spent(store)}"
    )
    if store.calls > store.requests:
        say(
            f"{store.calls - store.requests:,} of the calls were retries after failed attempts"
            f"{_counts(store.unanswered)}; the server may charge for those attempts too"
        )
    if store.served:
        say(f"the server reports another model than you asked for{_counts(store.served)}")
    if store.cut_prompts:
        say(
            f"the server counts too few prompt tokens in {store.cut_prompts:,} replies and may"
            " have cut the prompts; raise its context length (Ollama: num_ctx)"
        )
    if store.last_failure is not None:
        say(f"last failure: {store.last_failure.message}")
    _tell_of_rows(finished)
    for reason, state in zip(_ELSEWHERE, ("not answered yet", "of other shards"), strict=True):
        if rest := int((rows["reason"] == reason).sum()):
            say(f"{rest:,} of {len(rows):,} rows are {state}")
    for file in files:
        say(f"written: {file}")
    if "other_shard" in set(rows["reason"]) and not files:
        say("a shard writes a file only with --out; merge the stores, then run without --shard")


def _tell_of_rows(finished: pd.DataFrame) -> None:
    """Print how many rows lack an answer or a verdict, and why."""
    from lmjudge.frames import without_labels

    column = next((name for name in ("winner", "score", "turns") if name in finished), "turns")
    missing = finished[finished[column].isna()]
    if column != "turns":
        missing = without_labels(missing)
    missing = missing["reason"].fillna("no_verdict")
    if len(missing):
        what = "answer" if column == "turns" else "verdict"
        say(f"{len(missing):,} of {len(finished):,} rows without {what}{_counts(Counter(missing))}")
    if column == "turns" and "length" in set(finished["finish_reason"]):
        count = int((finished["finish_reason"] == "length").sum())
        say(
            f"{count:,} of {len(finished):,} answers were cut off at the longest reply; raise"
            " --max-tokens: judge leaves them out unless --include-unfinished"
        )
    if "no_verdict" in set(missing):
        say(
            "no_verdict: the parser found no verdict in the reply; read `text`, try another"
            " --parser, or ask again with --redo no_verdict"
        )


def _spent(store: Store) -> str:
    if store.spent is None:
        return "cost unknown (set LMJUDGE_PRICES to a table of prices)"
    return f"${store.spent:,.4f} spent"


def _counts(of: Counter[str]) -> str:
    counts = ", ".join(f"{reason} {number:,}" for reason, number in of.most_common())
    return f" ({counts})" if counts else ""


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
