"""Any OpenAI-compatible server: OpenAI, vLLM, llama.cpp, Ollama, OpenRouter and others.

`wire` sends a request once, and `replies` reads the response. This file has the retry loop, with a
deadline for the request, a pause that all workers share, and the reasons to stop a run.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from lmjudge.canonical import JSON
from lmjudge.endpoints.network import Network, checked_url
from lmjudge.endpoints.replies import Fault, holds_key, read_reply, redacted
from lmjudge.errors import EndpointError, EndpointStopped, RequestFailed
from lmjudge.prices import same_model
from lmjudge.records import Attempt, Meter, Reply, Request

if TYPE_CHECKING:
    from lmjudge.endpoints.wire import Post

_LONGEST_BACKOFF = 60.0
# Attempts at a request whose replies are unfit. The server may charge for each.
_UNFIT_ATTEMPTS = 3
# The run stops after this many requests in a row with the same unfit reply or refusal.
_ALIKE = {"bad_reply": 5, "bad_request": 3}
# It stops too after this many refusals before the first reply, whatever their words.
_REFUSED = 10
# Faults of one server: another server may answer the same request.
_OF_A_SERVER = {"unreachable", "connection", "timeout", "server_error"}
# Arguments of the openai package's client: in a body they would be stored and do nothing.
_CLIENTS = {"api_key", "base_url", "extra_body", "extra_headers", "extra_query", "headers"}


@dataclass(frozen=True)
class OpenAIEndpoint:
    """Answer chat requests through an OpenAI-compatible server.

    | parameter | meaning |
    |---|---|
    | `base_url` | server, default OPENAI_BASE_URL; several servers of one model share the calls |
    | `api_key` | default OPENAI_API_KEY; a server on this machine needs none |
    | `concurrency` | calls in flight, for all servers together |
    | `timeout` | seconds for one attempt |
    | `deadline` | seconds for a request with all attempts and pauses |
    | `max_attempts` | attempts at a request |
    | `max_bytes` | largest response; raise it for log-probabilities of long replies |
    | `backoff` | longest first pause in seconds, doubled at each attempt |
    | `allow_http` | send over plain http to another machine too |
    | `same_model` | stop if the server reports another model, and do not keep that reply |
    | `headers` | headers to send; they are as secret as the key |
    | `ca_file` | PEM file of the certificate authorities to trust |
    | `heard` | function that gets the text of a streamed reply so far, up to ten times a second |

    Each call goes to the least busy server. A server that fails pauses, and the others take its
    calls. `timeout` and `deadline` do not run while the server still answers earlier requests, so a
    slow server may queue. All workers pause as long as a server asks; a pause of a second or more
    does not use up an attempt.

    A reply that you paid for is kept, whatever its form. A request gets at most three unfit
    replies. The run stops when five requests in a row get the same unfit reply twice, or when the
    server refuses the first three in the same words, or the first ten in any.

    Entering a session raises EndpointStopped without a key, EndpointError for an unusable base URL.
    Answering raises RequestFailed (context_length, content_filter, tool_call, too_large,
    bad_request; after all attempts rate_limited, server_error, timeout, connection, bad_reply) or
    EndpointStopped (unauthorized, forbidden, not_found, quota, redirect, rate_limited, unreachable,
    bad_request, bad_reply; key_returned, for a reply that holds the key; bad_param, whose message
    names what to drop from params). Both quote at most 500 characters of the server's text, never
    the key.
    """

    base_url: str | Sequence[str] | None = None
    api_key: str | None = field(default=None, repr=False, kw_only=True)
    concurrency: int = field(default=64, kw_only=True)
    timeout: float = field(default=120.0, kw_only=True)
    deadline: float = field(default=600.0, kw_only=True)
    max_attempts: int = field(default=6, kw_only=True)
    max_bytes: int = field(default=1_000_000, kw_only=True)
    backoff: float = field(default=1.0, kw_only=True)
    allow_http: bool = field(default=False, kw_only=True)
    same_model: bool = field(default=False, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False, kw_only=True)
    ca_file: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    heard: Callable[[str], None] | None = field(
        default=None, repr=False, compare=False, kw_only=True
    )
    network: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.base_url is not None and not isinstance(self.base_url, str):
            object.__setattr__(self, "base_url", tuple(self.base_url))
        for name in ("concurrency", "timeout", "deadline", "max_attempts", "max_bytes", "backoff"):
            if not getattr(self, name) > 0:
                raise EndpointError(
                    f"{name} is {getattr(self, name)!r}; expected a number above 0", name=name
                )
        for name, value in self.headers.items():
            if not (re.fullmatch(r"[\w-]+", name, re.ASCII) and re.fullmatch("[ -~]+", value)):
                raise EndpointError(
                    f"the header {name[:40]!r} cannot be sent; expected a name of letters, digits"
                    " and dashes, and a value in ASCII without line breaks",
                    name="headers",
                )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """Open a session: an async context manager that gives `answer(request)`."""
        async with self.metered_session(_Unmetered()) as answer:
            yield answer

    @asynccontextmanager
    async def metered_session(
        self, meter: Meter
    ) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """Open a session in which `meter` counts every attempt."""
        targets = self.targets()
        from lmjudge.endpoints.wire import connect

        async with AsyncExitStack() as stack:
            servers = []
            for url, key in targets:
                post = await stack.enter_async_context(
                    connect(
                        url,
                        key,
                        Network.to(url, self.ca_file),
                        headers=self.headers,
                        connections=self.concurrency,
                        max_bytes=self.max_bytes,
                        heard=self.heard,
                    )
                )
                servers.append(_Server(post, self.timeout))
            secrets = (key, *(value for value in self.headers.values() if len(value) > 7))
            yield _Session(self, servers, secrets, meter).answer

    def target(self) -> tuple[str, str]:
        """Return the base URL and the key ("" for none); EndpointError for several URLs."""
        (url, key), *others = self.targets()
        if others:
            raise EndpointError(
                f"base_url names {len(others) + 1} servers; batches go to one, so give one"
            )
        return url, key

    def targets(self) -> list[tuple[str, str]]:
        """Return the base URL of each server and the key ("" for none)."""
        base = self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        parts = base.split(",") if isinstance(base, str) else base
        urls = [url.strip() for url in parts if url.strip()] or [""]
        checked = [checked_url(url, allow_http=self.allow_http) for url in urls]
        key = (self.api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        remote = next((host for _, host, local in checked if not local), None)
        if not key and remote and not self.headers:
            raise EndpointStopped(
                f"no API key for {remote}; set OPENAI_API_KEY or pass api_key",
                reason="no_key",
                status=None,
            )
        if not (key.isascii() and key.isprintable()):
            raise EndpointStopped(
                "the API key (api_key or OPENAI_API_KEY) holds characters that are not printable"
                " ASCII; copy it again",
                reason="no_key",
                status=None,
            )
        return [(url, key) for url in dict.fromkeys(url for url, _, _ in checked)]


class _Unmetered:
    """A meter without limits."""

    async def begin(self, request: Request) -> Attempt:
        return Attempt(request)

    def end(self, attempt: Attempt) -> None:
        pass


class _Server:
    """One server of a run: its connection, its calls in flight, and its pause.

    `resume` is the end of its pause: it asked for one, or it failed.
    """

    def __init__(self, post: Post, timeout: float) -> None:
        self.post, self.timeout = post, timeout
        self.clock = asyncio.get_running_loop().time
        self.resume = -math.inf
        self.busy = self.failures = 0
        self.progress: dict[int, float] = {}
        self.grain = timeout / 20

    def replied(self, begun: float) -> None:
        """Remember that a reply came just now to an attempt begun then."""
        now, self.failures = self.clock(), 0
        self.progress[int(begun // self.grain)] = now
        if len(self.progress) > 64:
            since = now - self.timeout
            self.progress = {b: last for b, last in self.progress.items() if last > since}

    def queued(self, begun: float) -> float:
        """Return the seconds that an attempt waited while replies came to those ahead of it.

        A server with few slots answers in the order of arrival: while it answers what was sent no
        later, the attempt waits in its queue, and that is not its own time.
        """
        ahead = int(begun // self.grain) + 1
        last = max((last for b, last in self.progress.items() if b <= ahead), default=begun)
        return max(0.0, last - begun)

    def leave_out(self, backoff: float) -> None:
        """Pause the server, longer after each failure."""
        if self.resume <= self.clock():  # else other calls of the same failure came back before
            self.resume = self.clock() + min(backoff * 2**self.failures, _LONGEST_BACKOFF)
            self.failures += 1


class _Session:
    """The state that the workers of a run share: the servers, and the reason to stop."""

    def __init__(
        self,
        endpoint: OpenAIEndpoint,
        servers: Sequence[_Server],
        secrets: Sequence[str],
        meter: Meter,
    ) -> None:
        self.endpoint, self.servers = endpoint, servers
        self.secrets, self.meter = secrets, meter
        self.clock = asyncio.get_running_loop().time
        self.stopped: Fault | None = None
        self.stop = asyncio.Event()
        self.answered = False
        self.alike: dict[str, set[str]] = {}
        self.refused: set[str] = set()

    def _next(self) -> _Server:
        """Return the least busy server, or the first that may be asked if all pause.

        A server that failed gets one call, until it answers.
        """
        now = self.clock()

        def rank(server: _Server) -> tuple[float, bool, int]:
            tried = server.failures > 0 and server.busy > 0
            return max(server.resume - now, 0.0), tried, server.busy

        return min(self.servers, key=rank)

    async def answer(self, request: Request) -> Reply:
        """Return the reply to a request, after as many attempts as needed and allowed."""
        body_fields = chat_body(request)
        if self.endpoint.heard is not None:
            body_fields |= {"stream": True, "stream_options": {"include_usage": True}}
        text = json.dumps(body_fields, ensure_ascii=False, separators=(",", ":"))
        if any(holds_key(secret, text) for secret in self.secrets):
            message = "the request holds the API key; remove it, because requests are stored"
            raise RequestFailed(message, reason="bad_request", status=None, attempts=0)
        body = text.encode()
        ends = self.clock() + self.endpoint.deadline
        fault, at = Fault("timeout", "the deadline passed in a pause"), -math.inf
        sent = attempts = unfit = 0
        while (
            fault.then == "again"
            and attempts < self.endpoint.max_attempts
            and unfit < _UNFIT_ATTEMPTS
            and await self._rest(at, ends)
        ):
            sent += 1
            waited_from = self.clock()
            attempt = await self.meter.begin(request)
            begun = self.clock()
            ends += begun - waited_from
            server = self._next()
            outcome = await self._send(server, attempt, body, ends)
            if isinstance(outcome, Reply):
                return outcome
            ends += server.queued(begun)
            unfit += outcome.reason == "bad_reply"
            # Told to wait its turn, a request has not failed; the deadline bounds how often.
            attempts += outcome.reason != "rate_limited" or (outcome.wait or 0.0) < 1
            fault = self._heeded(server, outcome, ends)
            if unfit != 1:  # one unfit reply may be an accident
                fault = self._alike(request, fault)
            longest = min(self.endpoint.backoff * 2 ** max(attempts - 1, 0), _LONGEST_BACKOFF)
            at = self.clock() + random.uniform(0, longest)
            if len(self.servers) > 1 and fault.reason in _OF_A_SERVER:
                server.leave_out(self.endpoint.backoff)
                if self._next().resume <= self.clock():
                    at = -math.inf  # another server takes it at once
        if fault.then == "stop" or fault.reason == "unreachable":
            self.stopped = self.stopped or fault
            self.stop.set()
            raise EndpointStopped(fault.message, reason=fault.reason, status=fault.status)
        raise RequestFailed(
            f"{fault.message} (attempts: {sent})",
            reason=fault.reason,
            status=fault.status,
            attempts=sent,
        )

    async def _send(
        self, server: _Server, attempt: Attempt, body: bytes, ends: float
    ) -> Reply | Fault:
        """Send a request once, and tell the meter how it ended."""
        server.busy += 1
        try:
            outcome = await self._attempt(server, body, ends)
            if isinstance(outcome, Reply):
                attempt.reply = outcome
                if self.endpoint.same_model:
                    outcome = _of_the_same(attempt.request.model, outcome)
            else:
                attempt.usage, attempt.refused = outcome.usage, outcome.refused
                attempt.reason = outcome.reason
        finally:
            server.busy -= 1
            self.meter.end(attempt)
        if isinstance(outcome, Reply):
            self.answered = True
            self.alike.clear()
        return outcome

    def _alike(self, request: Request, fault: Fault) -> Fault:
        """Return the fault, as a stop once several requests in a row had one like it.

        A refusal counts until the first reply: after it, it is about that request.
        """
        most = _ALIKE.get(fault.reason)
        if fault.then == "stop" or most is None or (fault.then == "fail" and self.answered):
            return fault
        requests = self.alike.setdefault(fault.alike, set())
        requests.add(request.key)
        refused = self.refused if fault.then == "fail" else set()
        refused.add(request.key)
        if len(requests) < most and len(refused) < _REFUSED:
            return fault
        count = len(requests) if len(requests) >= most else len(refused)
        what = "the same unfit reply came to" if fault.then == "again" else "the server refused"
        message = f"{what} {count} requests in a row, so the run stops: {fault.message}"
        return replace(fault, message=message, then="stop")

    def _heeded(self, server: _Server, fault: Fault, ends: float) -> Fault:
        """Make the server pause for as long as it asks; a pause beyond the deadline is a stop."""
        if fault.wait is None:
            return fault
        others = any(other.resume <= self.clock() for other in self.servers if other is not server)
        if self.clock() + fault.wait <= ends or others:
            server.resume = max(server.resume, self.clock() + fault.wait)
            return fault
        message = (
            f"the server asks for a pause of {fault.wait:,.0f} s, beyond the deadline of"
            f" {self.endpoint.deadline:g} s; run again after it ({fault.message})"
        )
        return replace(fault, reason="rate_limited", message=message, then="stop")

    async def _rest(self, at: float, ends: float) -> bool:
        """Wait until `at` and for a server; False if the deadline `ends` comes first."""
        while not self.stop.is_set() and (wait := max(at, self._next().resume) - self.clock()) > 0:
            if self.clock() + wait >= ends:
                return False
            with suppress(TimeoutError):
                # A tenth more at random, so that the workers do not all come back at once.
                async with asyncio.timeout(wait * random.uniform(1, 1.1)):
                    await self.stop.wait()
        if self.stopped is not None:
            raise EndpointStopped(
                self.stopped.message, reason=self.stopped.reason, status=self.stopped.status
            )
        return self.clock() < ends

    async def _attempt(self, server: _Server, body: bytes, ends: float) -> Reply | Fault:
        begun = self.clock()
        limit = min(self.endpoint.timeout, ends - begun)
        try:
            async with asyncio.timeout(None) as patience:
                watch = _Watch(patience, begun, limit, server.queued)
                try:
                    returned = await server.post(body)
                finally:
                    watch.timer.cancel()
        except TimeoutError:
            return Fault(
                "timeout",
                f"no complete reply within {limit:.3g} s, and the server may still work on it;"
                " raise timeout (--timeout) or lower concurrency (--concurrency)",
            )
        if isinstance(returned, Fault):
            return replace(returned, message=redacted(returned.message, *self.secrets))
        outcome = read_reply(*returned, secrets=self.secrets)
        if isinstance(outcome, Reply):
            server.replied(begun)
            return replace(outcome, created=time.time(), latency=self.clock() - begun)
        return outcome


class _Watch:
    """The end of an attempt: `limit` seconds after it was sent and no longer `queued`."""

    def __init__(
        self,
        patience: asyncio.Timeout,
        begun: float,
        limit: float,
        queued: Callable[[float], float],
    ) -> None:
        self.patience, self.begun, self.limit, self.queued = patience, begun, limit, queued
        self.loop = asyncio.get_running_loop()
        self.timer = self.loop.call_at(begun + limit, self._look)

    def _look(self) -> None:
        due = self.begun + self.queued(self.begun) + self.limit
        if due > self.loop.time():
            self.timer = self.loop.call_at(due, self._look)
        else:
            self.patience.reschedule(due)


def _of_the_same(model: str, reply: Reply) -> Reply | Fault:
    """Return the reply, or a Fault that stops the run if another model gave it."""
    if same_model(model, reply.model):
        return reply
    message = f"you asked for {model!r} and the server reports {reply.model!r}; ask for that name"
    return Fault("another_model", f"{message}, or leave same_model out", 200, "stop")


def chat_body(request: Request) -> dict[str, JSON]:
    """Return the JSON object to send: model, messages and params, in their order.

    Raises RequestFailed (bad_request) for anything but a request for one chat completion.
    """
    problem = None
    if request.kind != "chat":
        problem = f"a request of kind {request.kind!r}; this endpoint answers 'chat'"
    elif request.api is not None:
        problem = (
            f"a request to the API {request.api!r}; this endpoint sends OpenAI's chat requests"
        )
    elif taken := {"model", "messages"} & set(request.params):
        problem = f"{sorted(taken)} in params; give them as the request's own fields"
    elif taken := _CLIENTS & set(request.params):
        problem = f"{sorted(taken)} in params, which are sent and stored; give keys to the endpoint"
    elif request.params.get("stream") or request.params.get("n") not in (None, 1):
        problem = "stream or n in params; a request has one reply, so use `sample` for several"
    if problem:
        raise RequestFailed(f"found {problem}", reason="bad_request", status=None, attempts=0)
    request.key  # noqa: B018 - what JSON cannot hold is refused before anything is sent
    return {"model": request.model, "messages": list(request.messages), **request.params}
