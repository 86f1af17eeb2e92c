"""Requests, replies and records, and the key that joins them.

A request is plain JSON. Its key is the SHA-256 of its canonical JSON (RFC 8785), so the key holds
everything that can change the reply, exactly as sent, and nothing else: no API key, base URL,
timeout, parser, price or date. A record is one line of JSON, with the same bytes in the store and
in its exports. It ends in a SHA-256 of everything before it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Protocol, runtime_checkable

from lmjudge.canonical import JSON, canonical_json
from lmjudge.errors import DamagedStore, EndpointError, RequestError, UnknownRecord

_KEY_PREFIX = b'{"key":"'
_REPLY_PREFIX = b'","reply":'
_DIGEST_PREFIX = b',"sha256":"'
_DIGEST_LENGTH = len(_DIGEST_PREFIX) + 64 + len(b'"}')
_REPLY_AT = len(_KEY_PREFIX) + 64 + len(_REPLY_PREFIX)
_decoder = json.JSONDecoder()
_KINDS: dict[str, Any] = {
    "text": str,
    "finish_reason": str,
    "refusal": str,
    "usage": dict,
    "created": (int, float),
}


@dataclass(frozen=True)
class Request:
    """One request to a model: all that can change its reply.

    `messages` are {"role", "content"} mappings and `params` the sampling fields, both exactly as
    sent. `sample` numbers repeated draws of one request; `provider` separates two servers
    or dates that serve different things under one model name. `api` is set only if
    the request was sent in another form than OpenAI's chat requests, such as "anthropic": then
    messages and params are that form's own, and no endpoint of lmjudge sends it.

    >>> ask = Request("gpt-4", [{"role": "user", "content": "Hi"}], {"temperature": 0.0})
    >>> ask.key == Request("gpt-4", [{"content": "Hi", "role": "user"}], {"temperature": 0}).key
    True
    """

    model: str
    messages: Sequence[Mapping[str, JSON]]
    params: Mapping[str, JSON] = field(default_factory=dict)
    sample: int = 0
    provider: str | None = None
    kind: str = "chat"
    api: str | None = None

    def __post_init__(self) -> None:
        for name, wanted in (("model", str), ("kind", str), ("sample", int)):
            if not isinstance(getattr(self, name), wanted) or isinstance(getattr(self, name), bool):
                raise RequestError(
                    f"{name} is {getattr(self, name)!r}; expected {wanted.__name__}",
                    value=getattr(self, name),
                    path=f"$.{name}",
                )
        object.__setattr__(self, "messages", tuple(dict(message) for message in self.messages))
        object.__setattr__(self, "params", dict(self.params))

    @cached_property
    def canonical(self) -> bytes:
        """Return the canonical JSON whose SHA-256 is the key."""
        return canonical_json(self.as_json())

    @cached_property
    def key(self) -> str:
        """Return the lower-case hex SHA-256 of the canonical JSON: 64 characters."""
        return hashlib.sha256(self.canonical).hexdigest()

    def as_json(self) -> dict[str, JSON]:
        """Return the request as a plain JSON object.

        Contains `provider` and `api` only if they are set.
        """
        fields: dict[str, JSON] = {
            "v": 1,
            "kind": self.kind,
            "model": self.model,
            "messages": list(self.messages),
            "params": dict(self.params),
            "sample": self.sample,
        }
        for name in ("provider", "api"):
            if getattr(self, name) is not None:
                fields[name] = getattr(self, name)
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, JSON]) -> Request:
        """Return the request that a JSON object describes.

        Raises RequestError for an object of another version.
        """
        needed = {"v", "kind", "model", "messages", "params", "sample"}
        further = set(fields) - needed
        if fields.get("v") != 1 or needed - set(fields) or further - {"provider", "api"}:
            raise RequestError(
                f"found a request of version {fields.get('v')!r} with the fields {sorted(fields)};"
                " expected version 1 with kind, model, messages, params, sample; update lmjudge",
                value=fields,
                path="$",
            )
        return cls(**{name: item for name, item in fields.items() if name != "v"})

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and self.key == other.key


@dataclass(frozen=True)
class Reply:
    """A reply: the text, and what the server states about it.

    `created` is in seconds since 1970 (None where unknown), `latency` in seconds; `model` and
    `fingerprint` are the server's. A reply is never an error message: a failed
    request gives a `Failure`, which is not stored under a key.
    """

    text: str
    finish_reason: str | None = None
    refusal: str | None = None
    logprobs: JSON = None
    usage: Mapping[str, JSON] | None = None
    model: str | None = None
    fingerprint: str | None = None
    reasoning: str | None = None
    created: float | None = None
    latency: float | None = None

    def as_json(self) -> dict[str, JSON]:
        """Return the reply as a plain JSON object, without the fields that are None."""
        return {name: item for name, item in self.__dict__.items() if item is not None}

    def same_as(self, other: Reply) -> bool:
        """Return whether both say the same: text, finish reason, refusal and log-probabilities."""
        return self._content == other._content

    @property
    def _content(self) -> tuple[Any, ...]:
        return (self.text, self.finish_reason, self.refusal, self.logprobs)


@lru_cache(maxsize=256)
def ending_word(finish_reason: str | None) -> str:
    """Return how a reply ended, in one spelling for all servers, "" if unknown.

    >>> ending_word("FinishReason.MAX_TOKENS"), ending_word("content-filter"), ending_word(None)
    ('max_tokens', 'content_filter', '')
    """
    words = re.sub(r"[^a-z0-9]+", "_", (finish_reason or "").lower()).strip("_")
    return words.removeprefix("finishreason_").removeprefix("finish_reason_")


@dataclass(frozen=True)
class Failure:
    """Why a request has no reply, after all attempts at it."""

    reason: str
    message: str
    status: int | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Record:
    """A request, a reply to it, and the one line of JSON that keeps both."""

    request: Request
    reply: Reply

    @cached_property
    def line(self) -> bytes:
        """Return the record as canonical JSON that ends in a SHA-256 over the rest."""
        body = b'{"key":"%s","reply":%s,"request":%s}' % (
            self.request.key.encode(),
            canonical_json(self.reply.as_json()),
            self.request.canonical,
        )
        return b'%s,"sha256":"%s"}' % (body[:-1], hashlib.sha256(body).hexdigest().encode())

    @property
    def digest(self) -> str:
        """Return the SHA-256 at the end of the line."""
        return self.line[-66:-2].decode()

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Return the record in a line; check its digest, request and key.

        Raises DamagedStore where they do not hold together, UnknownRecord for a newer lmjudge's.
        """
        key = check_line(line)
        try:
            fields = json.loads(line)
            _sound(fields["reply"], line)
            record = cls(Request.from_json(fields["request"]), Reply(**fields["reply"]))
            if record.request.key == key and record.line == line:
                return record
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UnknownRecord(
                f"the record {key[:12]} has a form unknown to this lmjudge ({error}); update"
                " lmjudge if a newer one wrote it, else leave it out",
                keys=[key],
            ) from error
        raise DamagedStore(
            f"the record under {key[:12]} answers another request, of key"
            f" {record.request.key[:12]}; leave it out",
            keys=[key],
        )


def check_line(line: bytes) -> str:
    """Return the key in a record's line, once the line's SHA-256 holds.

    DamagedStore if it does not.
    """
    key = line[len(_KEY_PREFIX) : len(_KEY_PREFIX) + 64].decode("ascii", "replace")
    digest = ""
    if line.startswith(_KEY_PREFIX):  # else it is not hashed: a stranger's zeros are millions
        digest = hashlib.sha256(line[:-_DIGEST_LENGTH] + b"}").hexdigest()
    if line[-_DIGEST_LENGTH:] != b'%s%s"}' % (_DIGEST_PREFIX, digest.encode()):
        raise DamagedStore(
            f"a record (of key {key[:12]!r}) does not match its SHA-256; it is asked for again when"
            " recording, and `lmjudge store verify` names every such record",
            keys=[key],
        )
    return key


def reply_in(line: bytes) -> Reply:
    """Return the reply in a line that `check_line` has passed; the request is not parsed.

    Raises DamagedStore where what stands there is no reply: no text, or a field that is no such.
    """
    try:
        fields, _ = _decoder.raw_decode(line[_REPLY_AT:].decode())
    except (ValueError, RecursionError):
        fields = None
    _sound(fields, line)
    try:
        return Reply(**fields)
    except TypeError:  # a newer lmjudge may keep more of a reply than this one knows
        return Reply(
            **{name: fields[name] for name in Reply.__dataclass_fields__ if name in fields}
        )


def _sound(reply: Any, line: bytes) -> None:
    if not (
        isinstance(reply, dict)
        and "text" in reply
        and all(isinstance(reply[name], kind) for name, kind in _KINDS.items() if name in reply)
    ):
        key = line[len(_KEY_PREFIX) : len(_KEY_PREFIX) + 64].decode("ascii", "replace")
        message = f"the record {key[:12]} holds no valid reply and counts as missing"
        raise DamagedStore(message, keys=[key])


def unite(records: Iterable[Record]) -> list[Record]:
    """Return the records of one key without repeats, the reply first.

    Two replies are the same if text, finish reason, refusal and log-probabilities are; of the same
    the earliest stays. The reply is the earliest of all, ties by digest: a rule that makes merging
    commutative, associative and idempotent. An unknown time counts as earlier than any known one.
    """
    sources = list(records)
    united: list[Record] = []
    alike: dict[tuple[Any, ...], list[Record]] = {}  # only these are compared, to be faster
    for record in sorted(sources, key=_age) if len(sources) > 1 else sources:
        reply = record.reply
        kept = alike.setdefault((reply.text, reply.finish_reason, reply.refusal), [])
        if not any(reply.same_as(other.reply) for other in kept):
            kept.append(record)
            united.append(record)
    return united


def _age(record: Record) -> tuple[float, str]:
    created = record.reply.created
    return (-math.inf if created is None else created, record.digest)


@dataclass
class Attempt:
    """One attempt at a request: how it ended, and the tokens that the server counts.

    `usage` is the count in a response without a reply, and `reason` why there is none. `refused` is
    True if the server charges nothing, after an error or without a connection. `count` is the
    number of attempts that this one stands for.
    """

    request: Request
    reply: Reply | None = None
    usage: Mapping[str, JSON] | None = None
    reason: str | None = None
    refused: bool = False
    count: int = 1


class Meter(Protocol):
    """A counter of attempts, called before and after each."""

    async def begin(self, request: Request) -> Attempt:
        """Allow an attempt, or raise EndpointStopped."""
        ...

    def end(self, attempt: Attempt) -> None:
        """Count an attempt that ended, cancelled ones included."""
        ...


@runtime_checkable
class Metered(Protocol):
    """An endpoint that may retry, and reports each attempt to a meter."""

    def metered_session(
        self, meter: Meter
    ) -> AbstractAsyncContextManager[Callable[[Request], Awaitable[Reply]]]:
        """Open a session as `Endpoint.session` does; the meter counts every attempt."""
        ...


@asynccontextmanager
async def metered(
    endpoint: Endpoint, meter: Meter
) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
    """Open an endpoint's session in which the meter counts each attempt.

    Without a `Metered` endpoint a request counts as one attempt, or as many as its failure says.
    """
    if isinstance(endpoint, Metered):
        async with endpoint.metered_session(meter) as answer:
            yield answer
        return
    async with endpoint.session() as ask:

        async def counted(request: Request) -> Reply:
            attempt = await meter.begin(request)
            try:
                attempt.reply = await ask(request)
                return attempt.reply
            except EndpointError as failure:
                attempt.reason = getattr(failure, "reason", None)
                attempt.refused = (getattr(failure, "status", None) or 0) >= 400
                attempt.count = getattr(failure, "attempts", 1)
                raise
            finally:
                meter.end(attempt)

        yield counted


class Endpoint(Protocol):
    """An object that answers requests: one class with one method.

    `session` is entered once a run, inside the run's event loop, and gives the coroutine function
    that answers one request; what it opens (connections, a batcher) it closes when left. At most
    `concurrency` requests are in flight. `network` is False for an endpoint that calls nobody: it
    may answer under LMJUDGE_OFFLINE=1. An answer raises RequestFailed where this request has no
    reply, EndpointStopped where none can have one.
    """

    # Properties, so that a frozen dataclass is an endpoint to the type checker too.
    @property
    def concurrency(self) -> int:
        """Return how many requests may be in flight."""
        ...

    @property
    def network(self) -> bool:
        """Return whether it makes network calls."""
        ...

    def session(self) -> AbstractAsyncContextManager[Callable[[Request], Awaitable[Reply]]]:
        """Return an async context manager that gives the coroutine function `answer(request)`."""
        ...


class Asks(Protocol):
    """A store, or a part of one."""

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """Yield (key, reply) for every request, in their order."""
        ...

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the replies to those of the keys that the store holds."""
        ...
