"""One run of asking: planned, asked through the store, written, and told of, however it ends."""

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
_ELSEWHERE = ("not_asked", "other_shard")  # rows that are no failures: they are yet to be asked


@dataclass(frozen=True)
class Run:
    """What a command would ask of a store: its plans, its requests, the asking, the writing."""

    plans: Callable[[Any], Sequence[Plan]]
    requests: Callable[[Any], Iterable[Request]]
    ask: Callable[[Any, Endpoint | None], pd.DataFrame]
    write: Callable[[pd.DataFrame, Store], Sequence[Path]]


class Held:
    """A store that gives what it has, and a Failure (`not_asked`) for all else."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """The (key, reply) of each request; nobody is asked."""
        from lmjudge.records import Failure

        missing, source = Failure("not_asked", "not asked yet", attempts=0), iter(requests)
        while some := list(islice(source, _AT_ONCE)):
            found = self.store.look_up(request.key for request in some)
            yield from ((request.key, found.get(request.key, missing)) for request in some)


def endpoint_of(parsed: argparse.Namespace) -> Any:
    """The endpoint that the arguments name: a model on this machine, or a server."""
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
            f"{file} cannot be read ({error}); give a text file", source=str(file), path=file
        ) from error


def provider_of(parsed: argparse.Namespace) -> str | None:
    """Return what sets apart the requests to a local model under a chat template of your own."""
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
    """Tells what a run would ask; nothing is asked."""
    from lmjudge.store import Store

    with closing(Store(parsed.store)) as store:
        for plan in run.plans(_part(parsed, store)):
            say(str(plan))
            half = plan.by_batch().dollars
            if plan.distinct_misses and half is not None:
                say(f"by lmjudge batch, at half the price: {half.shown('${:,.2f}')}")
    return 0


def exported(parsed: argparse.Namespace, run: Run) -> int:
    """Writes the requests that the store lacks as files of OpenAI's Batch API."""
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
        say("nothing is missing in the store: no file is written")
    return 0


def asked(parsed: argparse.Namespace, run: Run) -> int:
    """Asks for what is missing, writes what there is, and tells of it; 1 unless all is there."""
    from lmjudge.endpoints.budget import Budget
    from lmjudge.errors import EndpointStopped
    from lmjudge.store import Store

    with closing(Store(parsed.store, mode="record")) as store:
        # All that is wrong with questions, answers and prompts shows here, before the first call.
        for plan in run.plans(_part(parsed, store)):
            say(str(plan))
        purse = Budget(endpoint_of(parsed), dollars=parsed.budget, calls=parsed.max_calls)
        code = 0
        try:
            with _until_terminated():
                made = run.ask(_part(parsed, store), purse)
        except (EndpointStopped, KeyboardInterrupt) as stop:
            code = 130 if isinstance(stop, KeyboardInterrupt) else 1
            code = 143 if isinstance(stop, _Terminated) else code
            say(f"lmjudge: stopped: {str(stop) or 'interrupted'}", sys.stderr)
            made = run.ask(_part(parsed, Held(store)), None)
        there = made[~made["reason"].isin(_ELSEWHERE)]
        files = run.write(there, store) if len(there) else []
        _tell(store, made, there, files)
        waits = "not_asked" in set(made["reason"])
        if code or store.failures or waits:
            stuck = code == 1 and not store.kept  # the same command would stop where this did
            say(f"{'once that is mended, ' if stuck else ''}to go on: {_shareable(parsed)}")
        return code or int(bool(store.failures) or waits)


class _Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM), as job queues do."""


@contextmanager
def _until_terminated() -> Iterator[None]:
    """Take SIGTERM as an interrupt: what is kept is written, and the way to go on is printed."""
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
    """Return the command that was given, without the values of its headers and without secrets."""
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


def _tell(store: Store, made: pd.DataFrame, there: pd.DataFrame, files: Sequence[Path]) -> None:
    failed = store.failures
    flying = store.requests - store.kept - failed.total()  # when the run stopped
    cut = f", {flying:,} stopped without a reply, {store.kept:,} kept" if flying > 0 else ""
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
        say(f"the server answered as another model than was asked for{_counts(store.served)}")
    if store.cut_prompts:
        say(
            f"the server counts too few prompt tokens in {store.cut_prompts:,} replies; it may have"
            " cut the prompts: raise its context length (Ollama: num_ctx)"
        )
    if store.last_failure is not None:
        say(f"the last that failed: {store.last_failure.message}")
    from lmjudge.frames import without_labels

    column = next((name for name in ("winner", "score", "turns") if name in made), "turns")
    lost = there[there[column].isna()]
    lost = (lost if column == "turns" else without_labels(lost))["reason"].fillna("no_verdict")
    if len(lost):
        what = "answer" if column == "turns" else "verdict"
        say(f"{len(lost):,} of {len(there):,} rows without {what}{_counts(Counter(lost))}")
    if column == "turns" and "length" in set(there["finish_reason"]):
        count = int((there["finish_reason"] == "length").sum())
        say(
            f"{count:,} of {len(there):,} answers were cut off at the longest reply; raise"
            " --max-tokens: judge leaves them out unless --include-unfinished"
        )
    if "no_verdict" in set(lost):
        say(
            "no_verdict: the parser reads none in the reply; see `text`, take another --parser, or"
            " draw again with --redo no_verdict"
        )
    other = "other_shard" in set(made["reason"])
    for reason, told in zip(_ELSEWHERE, ("not answered yet", "of other shards"), strict=True):
        if rest := int((made["reason"] == reason).sum()):
            say(f"{rest:,} of {len(made):,} rows are {told}")
    for file in files:
        say(f"written: {file}")
    if other and not files:
        say("a shard writes where --out says; merge the stores, then run without --shard")


def _spent(store: Store) -> str:
    if store.spent is None:
        return "what they cost is unknown (give a table of prices in LMJUDGE_PRICES)"
    return f"${store.spent:,.4f} spent"


def _counts(of: Counter[str]) -> str:
    told = ", ".join(f"{reason} {number:,}" for reason, number in of.most_common())
    return f" ({told})" if told else ""
