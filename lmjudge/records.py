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
    """One request to a model: everything that can change its reply.

    - `messages`: mappings of "role" and "content", exactly as sent.
    - `params`: the sampling fields, exactly as sent.
    - `sample`: numbers repeated draws of one request, from 0.
    - `provider`: separates servers, or dates, that serve different models under one name.
    - `api`: the form of a request that is not in OpenAI's chat form, such as "anthropic". No
      endpoint of lmjudge sends these.

    Raises RequestError for a model or kind that is not text, and a sample that is no integer.

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
    """A model's reply: its text, and what the server reports about it.

    `created` is in seconds since 1970 (None if unknown), `latency` in seconds. `model` and
    `fingerprint` are the server's names. A reply is never an error message: a failed request gives
    a `Failure`, which has no key in the store.
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
        """Return whether text, finish reason, refusal and log-probabilities are equal."""
        return self._content == other._content

    @property
    def _content(self) -> tuple[Any, ...]:
        return (self.text, self.finish_reason, self.refusal, self.logprobs)


@lru_cache(maxsize=256)
def ending_word(finish_reason: str | None) -> str:
    """Return how a reply ended, in the same spelling for all servers; "" if unknown.

    >>> ending_word("FinishReason.MAX_TOKENS"), ending_word("content-filter"), ending_word(None)
    ('max_tokens', 'content_filter', '')
    """
    words = re.sub(r"[^a-z0-9]+", "_", (finish_reason or "").lower()).strip("_")
    return words.removeprefix("finishreason_").removeprefix("finish_reason_")


@dataclass(frozen=True)
class Failure:
    """Why a request has no reply after all its attempts."""

    reason: str
    message: str
    status: int | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Record:
    """A request and a reply to it, stored as one line of JSON."""

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

        Raises DamagedStore if they do not match, UnknownRecord for a newer lmjudge's format.
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
                f"this lmjudge cannot read the record {key[:12]} ({error}); update lmjudge if a"
                " newer version wrote it, otherwise leave it out",
                keys=[key],
            ) from error
        raise DamagedStore(
            f"the record under {key[:12]} answers another request, of key"
            f" {record.request.key[:12]}; leave it out",
            keys=[key],
        )


def check_line(line: bytes) -> str:
    """Return the key in a record's line after checking the line's SHA-256.

    Raises DamagedStore if it does not match.
    """
    key = line[len(_KEY_PREFIX) : len(_KEY_PREFIX) + 64].decode("ascii", "replace")
    digest = ""
    if line.startswith(_KEY_PREFIX):  # another file's line may have millions of bytes to hash
        digest = hashlib.sha256(line[:-_DIGEST_LENGTH] + b"}").hexdigest()
    if line[-_DIGEST_LENGTH:] != b'%s%s"}' % (_DIGEST_PREFIX, digest.encode()):
        raise DamagedStore(
            f"the record {key[:12]!r} does not match its SHA-256. Recording sends its request"
            " again; `lmjudge store verify` lists all such records",
            keys=[key],
        )
    return key


def reply_in(line: bytes) -> Reply:
    """Return the reply in a line that passed `check_line`, without parsing the request.

    Raises DamagedStore for a reply without text or with a field of the wrong type.
    """
    try:
        fields, _ = _decoder.raw_decode(line[_REPLY_AT:].decode())
    except (ValueError, RecursionError):
        fields = None
    _sound(fields, line)
    try:
        return Reply(**fields)
    except TypeError:  # a newer lmjudge may store more fields of a reply
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
    """Return the records of one key without repeats, with the reply first.

    Two replies are repeats if text, finish reason, refusal and log-probabilities are equal; the
    earlier one stays. The reply is the earliest record, and the digest decides between equal times.
    This rule makes merging commutative, associative and idempotent. An unknown time counts as
    earlier than any known time.
    """
    sources = list(records)
    united: list[Record] = []
    alike: dict[tuple[Any, ...], list[Record]] = {}  # compares only within these, to be faster
    for record in sorted(sources, key=_age) if len(sources) > 1 else sources:
        reply = record.reply
        earlier = alike.setdefault((reply.text, reply.finish_reason, reply.refusal), [])
        if not any(reply.same_as(other.reply) for other in earlier):
            earlier.append(record)
            united.append(record)
    return united


def _age(record: Record) -> tuple[float, str]:
    created = record.reply.created
    return (-math.inf if created is None else created, record.digest)


@dataclass
class Attempt:
    """One attempt at a request: how it ended, and the tokens that the server counted.

    - `usage`: the server's token counts, for a response without a usable reply.
    - `reason`: why there is no reply.
    - `refused`: True if the server charges nothing (an error status, or no connection).
    - `count`: the number of attempts that this one stands for.
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

    If the endpoint is not `Metered`, a request counts as one attempt, or as its failure's number.
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
    """An object that answers requests: two properties and one method.

    - `session()`: an async context manager, entered once a run inside the run's event loop. It
      gives the coroutine function that answers one request, and closes what it opened on exit.
    - `concurrency`: the number of requests that may be in flight.
    - `network`: False for an endpoint that makes no network call. It also works under
      LMJUDGE_OFFLINE=1.

    Answering raises RequestFailed if this request has no reply, EndpointStopped if no request can
    have one.
    """

    # Properties, because the type checker then accepts a frozen dataclass as an endpoint.
    @property
    def concurrency(self) -> int:
        """Return the number of requests that may be in flight."""
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
        """Yield (key, reply) for every request, in order."""
        ...

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies by key, without the keys that have none."""
        ...
