"""Record replies: send each missing request once, store the reply, and yield replies in order.

The caller's thread reads the requests, looks them up in bulk and yields replies through a sliding
window, so a million requests take no more memory than one window. The asker sends the missing ones
while the caller is busy. One thread runs the endpoint in its own event loop, which works in a
script, in a notebook cell and under papermill. Another thread writes: replies that arrive during a
commit go into the next one.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any

from lmjudge.errors import LmjudgeError, RequestFailed
from lmjudge.prices import prices
from lmjudge.records import Attempt, Endpoint, Failure, Record, Reply, Request, metered, reply_in
from lmjudge.store.disk import Claims, check_size, claims_of, recording

if TYPE_CHECKING:
    import diskcache

    from lmjudge.store.shelf import Shelf

WINDOW = 4096
CHUNK = 256


def record(
    shelf: Shelf, requests: Iterable[Request], endpoint: Endpoint
) -> Iterator[tuple[str, Reply | Failure]]:
    """Yield the (key, reply) of each request in order; send and store the missing ones first."""
    source, ahead = iter(requests), length_hint(requests)
    window: deque[str] = deque()
    wanted: Counter[str] = Counter()
    held: dict[str, Reply | Failure] = {}
    more = True
    with ExitStack() as stack:
        asker: Asker | None = None
        while True:
            while more and len(window) <= WINDOW - CHUNK and not (window and window[0] in held):
                chunk = list(islice(source, CHUNK))
                more, ahead = bool(chunk), max(ahead - len(chunk), 0)
                new = {r.key: r for r in chunk if r.key not in wanted}
                replies = shelf.look_up(new)
                held.update(replies)
                missing = [request for key, request in new.items() if key not in replies]
                if missing:
                    asker = asker or stack.enter_context(Asker(shelf, endpoint))
                    asker.submit(missing)
                if asker:
                    asker.expect(ahead if more else 0)
                keys = [request.key for request in chunk]
                shelf.hits += sum(key in replies or key in wanted for key in keys)
                window.extend(keys)
                wanted.update(keys)
                if asker:
                    held.update(asker.take(wait=False))
            if not window:
                return
            if window[0] not in held and asker:
                held.update(asker.take(wait=True))
            while window and window[0] in held:
                key = window.popleft()
                reply = held[key]
                wanted[key] -= 1
                if not wanted[key]:
                    del wanted[key], held[key]
                yield key, reply


_SILENCE = 2.0  # seconds that a stop waits for replies in flight before it says so
_POLL = (0.02, 0.25)  # seconds between looks for replies that another asker fetches: first, most


class Asker:
    """Sends the missing requests, in a thread with its own event loop."""

    def __init__(self, shelf: Shelf, endpoint: Endpoint) -> None:
        self.shelf, self.endpoint = shelf, endpoint
        self.inbox: deque[Request] = deque()
        self.arrived: dict[str, Reply | Failure] = {}
        self.change = threading.Condition()
        self.error: BaseException | None = None
        self.main: asyncio.Task[None] | None = None
        self.wake, self.ended = asyncio.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, name="lmjudge-asker", daemon=True)
        self.submitted = 0
        self.bar: Any = None

    def __enter__(self) -> Asker:
        # Open for writing before the first call: a full or read-only disk shows here.
        with recording(self.shelf.path):
            pass
        self.prices = prices()
        self.claims: Claims = claims_of(self.shelf.path)
        self.run = _Run(self)
        self.loop = asyncio.new_event_loop()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call(self.run.leave)
            self.ended.wait()  # an interrupted join would take the thread for ended
        except KeyboardInterrupt:  # once more: the caller does not want the replies in flight
            self._call(self._cancel)
            raise
        finally:
            self.thread.join()
            if self.bar is not None:
                self.bar.close()

    def _call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop's thread, unless the loop has ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function)

    def submit(self, requests: list[Request]) -> None:
        """Send these missing requests, each once."""
        self.shelf.misses += len(requests)
        self.submitted += len(requests)
        self.inbox.extend(requests)
        self._call(self.wake.set)
        if self.bar is None:
            self.bar = _bar()

    def expect(self, ahead: int) -> None:
        """Set the bar's total: the requests sent, and those still to look up."""
        self.bar.total = self.submitted + ahead

    def show_stopping(self, flying: int) -> None:
        """Tell the bar that the run stops once the replies in flight are kept."""
        if self.bar is not None:
            self.bar.set_description_str(
                f"stopping, {flying:,} replies in flight (interrupt again to drop them)"
            )

    def take(self, *, wait: bool) -> dict[str, Reply | Failure]:
        """Return the replies so far. With `wait`, at least one, or raise the run's error."""
        with self.change:
            while wait and not self.arrived and self.error is None:
                self.change.wait()
            arrived, self.arrived = self.arrived, {}
            if not arrived and self.error is not None:
                raise self.error
        if arrived and self.bar is not None:
            self.bar.set_postfix_str(self.shelf.summary(), refresh=False)
            self.bar.update(len(arrived))
        return arrived

    def _cancel(self) -> None:
        if self.main is not None:
            self.main.cancel()

    def _run(self) -> None:
        try:
            asyncio.set_event_loop(self.loop)
            self.main = self.loop.create_task(self.run.go())
            self.loop.run_until_complete(self.main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            with self.change:
                self.error = error
                self.change.notify_all()
        finally:
            try:
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
                self.loop.run_until_complete(self.loop.shutdown_default_executor())
                asyncio.set_event_loop(None)
                self.loop.close()
            finally:
                self.ended.set()


class _Run:
    """One run of an asker's loop: requests that wait, are claimed elsewhere, or are in flight."""

    def __init__(self, asker: Asker) -> None:
        self.asker, self.shelf, self.claims = asker, asker.shelf, asker.claims
        self.waiting: deque[Request] = deque()
        self.elsewhere: dict[str, Request] = {}
        self.flying: dict[str, asyncio.Task[None]] = {}
        self.sent: set[str] = set()
        self.finished: list[tuple[Request, Reply | Failure]] = []
        self.claimed: set[str] = set()
        self.stop: BaseException | None = None
        self.poll = _POLL[0]

    async def go(self) -> None:
        """Answer the requests until cancelled. Store all replies, even then."""
        with ThreadPoolExecutor(1, "lmjudge-writer") as writer, ExitStack() as stack:
            loop = asyncio.get_running_loop()
            opened = stack.enter_context
            cache = await loop.run_in_executor(writer, lambda: opened(recording(self.shelf.path)))
            try:
                async with metered(self.asker.endpoint, self) as answer:
                    try:
                        await self._answer_all(answer, cache, writer)
                    finally:
                        for task in self.flying.values():
                            task.cancel()
                        await asyncio.gather(*self.flying.values(), return_exceptions=True)
            finally:
                try:
                    await asyncio.shield(
                        loop.run_in_executor(writer, self._keep, cache, self._drain())
                    )
                finally:
                    self.claims.drop(self.claimed)
                    await loop.run_in_executor(writer, stack.close)

    async def _answer_all(
        self,
        answer: Callable[[Request], Awaitable[Reply]],
        cache: diskcache.Cache,
        writer: ThreadPoolExecutor,
    ) -> None:
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        shown = False
        # The server may charge for calls in flight at a stop, so wait for their replies.
        while self.stop is None or self.flying:
            self.asker.wake.clear()
            while self.asker.inbox:
                self.waiting.append(self.asker.inbox.popleft())
            for request in self._claim() if self.stop is None else ():
                task = loop.create_task(self._answer(answer, request))
                self.flying[request.key] = task
                task.add_done_callback(partial(self._landed, request.key))
            if writing is not None and writing.done():
                writing.result()
                writing = None
            if self.finished and writing is None:
                writing = loop.run_in_executor(writer, self._keep, cache, self._drain())
                writing.add_done_callback(lambda _: self.asker.wake.set())
            timeout = self.poll if self.elsewhere else None
            if self.stop is not None:
                timeout = None if shown else _SILENCE
            try:
                await asyncio.wait_for(self.asker.wake.wait(), timeout)
            except TimeoutError:
                if self.stop is not None:
                    self.asker.show_stopping(len(self.flying))
                    shown = True
                    continue
                self.poll = min(2 * self.poll, _POLL[1])
                self.waiting.extendleft(reversed(self.elsewhere.values()))
                self.elsewhere.clear()
        if writing is not None:
            await writing
        raise self.stop

    def _claim(self) -> list[Request]:
        """Return requests to send now: claim them, and look them up once more.

        A claimed request counts as in flight until its reply is on the disk. After a kill, only
        these are sent again.
        """
        ours: list[Request] = []
        while self.waiting and (free := self.asker.endpoint.concurrency - len(self.claimed)) > 0:
            tried = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
            taken = {request.key for request in tried if self.claims.take(request.key)}
            replies = self.shelf.look_up(request.key for request in tried)
            self.claims.drop(taken & replies.keys())
            self.claimed.update(taken - replies.keys())
            if replies:
                self._deliver(replies)
                self.poll = _POLL[0]
            for request in tried:
                if request.key in replies:
                    continue
                if request.key in taken:
                    ours.append(request)
                else:
                    self.elsewhere[request.key] = request
        return ours

    async def _answer(
        self, answer: Callable[[Request], Awaitable[Reply]], request: Request
    ) -> None:
        self.shelf.requests += 1
        try:
            reply = await answer(request)  # awaited first: `finished` is another list by then
            self.finished.append((request, reply))
        except RequestFailed as error:
            failure = Failure(
                getattr(error, "reason", "request_failed"),
                str(error),
                getattr(error, "status", None),
                getattr(error, "attempts", 1),
            )
            self.finished.append((request, failure))
        except Exception as error:  # EndpointStopped, or a fault in the endpoint: the run stops
            self.stop = self.stop or error

    def _landed(self, key: str, _: asyncio.Task[None]) -> None:
        del self.flying[key]
        self.asker.wake.set()

    def leave(self) -> None:
        """Stop: send nothing more, and let go of the requests that wait for their next attempt."""
        self.stop = self.stop or asyncio.CancelledError()
        for key, task in self.flying.items():
            if key not in self.sent:
                task.cancel()
        self.asker.wake.set()

    async def begin(self, request: Request) -> Attempt:
        """Count a call that begins, as a `Meter`."""
        self.shelf.calls += 1
        self.sent.add(request.key)
        return Attempt(request)

    def end(self, attempt: Attempt) -> None:
        """Add the cost of a call."""
        self.shelf.charge(attempt, self.asker.prices)
        key = attempt.request.key
        self.sent.discard(key)
        if self.stop is not None and attempt.reply is None and key in self.flying:
            self.flying[key].cancel()

    def _drain(self) -> list[tuple[Request, Reply | Failure]]:
        finished, self.finished = self.finished, []
        return finished

    def _keep(self, cache: diskcache.Cache, batch: list[tuple[Request, Reply | Failure]]) -> None:
        """Commit the finished replies together, free their claims, and deliver them."""
        if not batch:
            return
        failures: dict[str, Failure] = {}
        records: list[Record] = []
        for request, outcome in batch:
            record = outcome if isinstance(outcome, Failure) else _recorded(request, outcome)
            if isinstance(record, Failure):
                failures[request.key] = record
            else:
                records.append(record)
        self.shelf.commit(cache, records)
        for key, failure in failures.items():
            self.shelf.note_attempt(key, failure)
        for record in records:
            self.shelf.count_kept(record.request, record.reply)
        results = failures | {record.request.key: record.reply for record in records}
        self.claims.drop(results)
        self.claimed.difference_update(results)
        self._deliver(results)

    def _deliver(self, results: dict[str, Any]) -> None:
        with self.asker.change:
            self.asker.arrived.update(results)
            self.asker.change.notify_all()


def _recorded(request: Request, reply: Reply) -> Record | Failure:
    """Return the record of a reply, or a Failure for a reply that a store cannot keep."""
    record = Record(request, reply)
    try:
        reply_in(record.line)
        check_size(record.line, 1, request.key)
    except (LmjudgeError, AttributeError, TypeError, ValueError) as error:
        return Failure("bad_reply", f"the store cannot keep the endpoint's reply: {error}")
    return record


class _Log:
    """A log file, in which each state of a bar is a line."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        self.stream.flush()


def _bar() -> Any:
    # Text in a notebook too: a widget would say nothing in what papermill saves.
    from tqdm.std import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # no thread of tqdm's stays behind

    seen = sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
    return Bar(
        total=0,
        desc="asking",
        unit="call",
        delay=2,
        mininterval=0.5 if seen else 10.0,
        file=sys.stderr if seen else _Log(sys.stderr),
    )
