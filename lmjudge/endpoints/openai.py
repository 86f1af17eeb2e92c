"""Any OpenAI-compatible server: OpenAI, vLLM, llama.cpp, Ollama, OpenRouter and their like.

The openai package sends (see `wire`). What it leaves open is ours: one retry loop with a deadline
for the whole request, one pause that all workers share, one cap on sizes, and the reading of what
came back, so that an error, a web page or a tool call never becomes an answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import os
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from lmjudge.canonical import JSON
from lmjudge.endpoints.replies import Fault, is_told, read_reply, redacted
from lmjudge.errors import EndpointError, EndpointStopped, RequestFailed
from lmjudge.prices import same_model
from lmjudge.records import Attempt, Meter, Reply, Request

if TYPE_CHECKING:
    from lmjudge.endpoints.wire import Post

_LONGEST_BACKOFF = 60.0
_KEY_IN_URL = re.compile(r"(?i)[?&#][^=&]*(key|token|secret|sig|auth)[^=&]*=")
# What the openai package's client takes; in a body it would be stored, and do nothing.
_CLIENTS = {"api_key", "base_url", "extra_body", "extra_headers", "extra_query", "headers"}


@dataclass(frozen=True)
class OpenAIEndpoint:
    """Answers chat requests through an OpenAI-compatible server.

    `base_url` and `api_key` are taken from OPENAI_BASE_URL and OPENAI_API_KEY where they are not
    given; a server on this machine needs no key. `timeout` bounds one attempt, connecting and
    reading included, `deadline` the whole request with its at most `max_attempts` attempts and
    the pauses between them, both in seconds; pauses are random up to `backoff`, doubled at each
    attempt, or as long as the server's Retry-After says, and then all workers pause. An answer
    larger than `max_bytes` is refused (raise it for log-probabilities of long answers). Plain
    http is for this machine only, unless `allow_http`. With `same_model` a reply of another model
    than was asked for, by the server's own word, stops the run (another_model) and is not kept.

    Entering a session raises EndpointStopped without a key and EndpointError for a base URL that
    cannot be used. Answering raises RequestFailed (context_length, content_filter, tool_call,
    too_large, bad_request; after all attempts rate_limited, server_error, timeout, connection,
    bad_reply) or EndpointStopped (unauthorized, forbidden, not_found, quota, redirect,
    rate_limited, unreachable; key_returned, for a reply that holds the key; bad_param, whose
    message names what to drop from params). Both quote at most 500 characters of the server's text,
    never the key.
    """

    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False, kw_only=True)
    concurrency: int = field(default=64, kw_only=True)
    timeout: float = field(default=120.0, kw_only=True)
    deadline: float = field(default=600.0, kw_only=True)
    max_attempts: int = field(default=6, kw_only=True)
    max_bytes: int = field(default=1_000_000, kw_only=True)
    backoff: float = field(default=1.0, kw_only=True)
    allow_http: bool = field(default=False, kw_only=True)
    same_model: bool = field(default=False, kw_only=True)
    network: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("concurrency", "timeout", "deadline", "max_attempts", "max_bytes", "backoff"):
            if not getattr(self, name) > 0:
                raise EndpointError(
                    f"{name} is {getattr(self, name)!r}; expected a number above 0", name=name
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
        """Open a session that tells `meter` of every attempt."""
        url, key = self.target()
        from lmjudge.endpoints.wire import connect

        async with connect(
            url,
            key or "none",
            concurrency=self.concurrency,
            max_bytes=self.max_bytes,
            **client_options(url),
        ) as post:
            yield _Session(self, post, key, meter).answer

    def target(self) -> tuple[str, str]:
        """The base URL and the key, "" where none is needed."""
        url = self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        try:
            parts = urlsplit(url)
            host, whole = parts.hostname, parts.scheme in ("http", "https") and parts.port != 0
        except ValueError:
            host, whole = None, False
        odd = not re.fullmatch("[!-~]+", url) or _KEY_IN_URL.search(url)
        if not host or not whole or "@" in parts.netloc or odd:
            # Only what looks like a host is quoted: a key may have been pasted there.
            named = re.fullmatch(r"(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?[\w/.-]*", url)
            bare = f" ({url[:99]!r} names no http or https)" if named else ""
            raise EndpointError(
                f"the base URL (base_url or OPENAI_BASE_URL) is not one{bare}; expected"
                " https://host/v1, without a name, password or key in it"
            )
        local = _is_loopback(host)
        if parts.scheme == "http" and not local and not self.allow_http:
            raise EndpointError(
                f"the base URL is plain http to {host}, where all on the way can read prompts and"
                " key; use https, or allow_http=True"
            )
        key = (self.api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        if not key and not local:
            raise EndpointStopped(
                f"no API key for {host}; set OPENAI_API_KEY, or give api_key",
                reason="no_key",
                status=None,
            )
        if not (key.isascii() and key.isprintable()):
            raise EndpointStopped(
                "the API key (api_key or OPENAI_API_KEY) holds characters that no key has;"
                " copy it again",
                reason="no_key",
                status=None,
            )
        return url, key


def client_options(url: str) -> dict[str, Any]:
    """Return the options of an HTTP client for a base URL: which proxy it uses, if any.

    A proxy sees all of a plain http request, the key included, so only https uses the
    environment's proxy, and this machine never does.
    """
    import httpx2

    parts = urlsplit(url)
    if parts.scheme != "https":
        # A context that trusts no certificate: loading the real ones takes longer than a reply.
        return {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    # The environment's CA file holds without its proxy too.
    verify = {"verify": httpx2.create_ssl_context()}
    return {"trust_env": not _is_loopback(parts.hostname or ""), **verify}


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Unmetered:
    """A meter that lets every request leave and counts nothing."""

    async def begin(self, request: Request) -> Attempt:
        return Attempt(request)

    def end(self, attempt: Attempt) -> None:
        pass


class _Session:
    """What the workers of one run share: the connection, the pause, and the reason to stop."""

    def __init__(self, endpoint: OpenAIEndpoint, post: Post, key: str, meter: Meter) -> None:
        self.endpoint, self.post, self.key, self.meter = endpoint, post, key, meter
        self.clock = asyncio.get_running_loop().time
        self.resume = -math.inf
        self.stopped: Fault | None = None
        self.stop = asyncio.Event()

    async def answer(self, request: Request) -> Reply:
        """The reply to a request, after as many attempts as it takes and may take."""
        text = json.dumps(chat_body(request), ensure_ascii=False, separators=(",", ":"))
        if is_told(self.key, text):
            message = "found the API key in the request itself; leave it out: requests are stored"
            raise RequestFailed(message, reason="bad_request", status=None, attempts=0)
        body = text.encode()
        ends = self.clock() + self.endpoint.deadline
        fault, attempts, at = Fault("timeout", "the deadline passed in a pause"), 0, -math.inf
        while (
            fault.then == "again"
            and attempts < self.endpoint.max_attempts
            and await self._rest(at, ends)
        ):
            attempts += 1
            attempt = await self.meter.begin(request)
            try:
                outcome = await self._attempt(body, ends)
                if isinstance(outcome, Reply):
                    attempt.reply = outcome
                    if self.endpoint.same_model:
                        outcome = _of_the_same(request.model, outcome)
                else:
                    attempt.usage, attempt.refused = outcome.usage, outcome.refused
                    attempt.reason = outcome.reason
            finally:
                self.meter.end(attempt)
            if isinstance(outcome, Reply):
                return outcome
            fault = self._heeded(outcome, ends)
            longest = min(self.endpoint.backoff * 2 ** (attempts - 1), _LONGEST_BACKOFF)
            at = self.clock() + random.uniform(0, longest)
        if fault.then == "stop" or fault.reason == "unreachable":
            self.stopped = self.stopped or fault
            self.stop.set()
            raise EndpointStopped(fault.message, reason=fault.reason, status=fault.status)
        raise RequestFailed(
            f"{fault.message} (attempts: {attempts})",
            reason=fault.reason,
            status=fault.status,
            attempts=attempts,
        )

    def _heeded(self, fault: Fault, ends: float) -> Fault:
        """The fault, once the pause that it asks for is everyone's; too long a pause is a stop."""
        if fault.wait is None:
            return fault
        if self.clock() + fault.wait <= ends:
            self.resume = max(self.resume, self.clock() + fault.wait)
            return fault
        message = (
            f"the server asks for a pause of {fault.wait:,.0f} s, beyond the deadline of"
            f" {self.endpoint.deadline:g} s; run again after it ({fault.message})"
        )
        return replace(fault, reason="rate_limited", message=message, then="stop")

    async def _rest(self, at: float, ends: float) -> bool:
        """Waits until `at` and for the pause of all; False if the deadline `ends` comes first."""
        while not self.stop.is_set() and (wait := max(at, self.resume) - self.clock()) > 0:
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

    async def _attempt(self, body: bytes, ends: float) -> Reply | Fault:
        begun = self.clock()
        limit = min(self.endpoint.timeout, ends - begun)
        try:
            async with asyncio.timeout(limit):
                returned = await self.post(body)
        except TimeoutError:
            return Fault("timeout", f"no whole reply within {limit:.3g} s")
        if isinstance(returned, Fault):
            return replace(returned, message=redacted(returned.message, self.key))
        outcome = read_reply(*returned, secret=self.key)
        if isinstance(outcome, Reply):
            return replace(outcome, created=time.time(), latency=self.clock() - begun)
        return outcome


def _of_the_same(asked: str, reply: Reply) -> Reply | Fault:
    """The reply, if the model that was asked for gave it; else a Fault that stops the run."""
    if same_model(asked, reply.model):
        return reply
    told = f"the server answered as {reply.model!r} and was asked for {asked!r}; ask for that name"
    return Fault("another_model", f"{told}, or leave same_model out", 200, "stop")


def chat_body(request: Request) -> dict[str, JSON]:
    """The JSON object to send: model, messages and params, in the order they were given.

    Raises RequestFailed (bad_request) for what is no request for one whole chat completion.
    """
    problem = None
    if request.kind != "chat":
        problem = f"a request of kind {request.kind!r}; this endpoint answers 'chat'"
    elif taken := {"model", "messages"} & set(request.params):
        problem = f"{sorted(taken)} in params; give them as the request's own fields"
    elif taken := _CLIENTS & set(request.params):
        problem = f"{sorted(taken)} in params, which are sent and stored; give keys to the endpoint"
    elif request.params.get("stream") or request.params.get("n") not in (None, 1):
        problem = "stream or n in params; one request has one whole reply: use `sample` for draws"
    if problem:
        raise RequestFailed(f"found {problem}", reason="bad_request", status=None, attempts=0)
    request.key  # noqa: B018 - what JSON cannot hold is refused before anything is sent
    return {"model": request.model, "messages": list(request.messages), **request.params}
