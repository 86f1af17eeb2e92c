"""The store: every reply to every request, kept for ever under the request's key."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmjudge import places
from lmjudge.canonical import JSON
from lmjudge.errors import DamagedStore
from lmjudge.records import (
    Endpoint,
    Failure,
    Record,
    Reply,
    Request,
    check_line,
    reply_in,
    unite,
)
from lmjudge.store import recording
from lmjudge.store.misses import miss, nearest
from lmjudge.store.reading import Reader, look_over, pack

if TYPE_CHECKING:
    import diskcache

Mode = Literal["replay", "record"]
CHUNK = 512
_SEARCHED = 20_000


@dataclass(frozen=True)
class Added:
    """What adding records changed: new keys, known replies, further observations.

    `changed` are the keys whose reply is now another (an earlier one), `refused` what was wrong
    with the records that were left out.
    """

    new: int = 0
    known: int = 0
    observations: int = 0
    changed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __add__(self, other: Added) -> Added:
        return Added(*(getattr(self, name) + getattr(other, name) for name in self.__dict__))


class Store:
    """Every reply to every request, in a folder, under the request's key.

    Without a `path` it is `$LMJUDGE_CACHE`, else the nearest `cache/judgments` upward from here.
    `mode` "replay" only reads, so that nothing can be spent: a miss is an error. "record" asks the
    endpoint for what is missing. LMJUDGE_OFFLINE=1 forces replay for endpoints that use a network.
    `hits`, `misses` and `calls` count what this object was asked for and what it sent.

    Raises NotAStore for a folder that is something else, DamagedStore for a file that was cut off.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, mode: Mode = "replay"
    ) -> None:
        if mode not in ("replay", "record"):
            raise ValueError(f"mode is {mode!r}; expected 'replay' or 'record'")
        self.path = Path(path) if path is not None else places.judgments()
        self.mode: Mode = mode
        self.hits = self.misses = self.calls = 0
        self.damaged: set[str] = set()
        self.reader = Reader(self.path)
        if look_over(self.path):
            self.reader.count()

    def __repr__(self) -> str:
        return (
            f"Store({str(self.path)!r}, mode={self.mode!r}): {self.reader.count()} keys;"
            f" here {self.hits} hits, {self.misses} misses, {self.calls} calls"
        )

    def close(self) -> None:
        """Close the store's file; it opens again at the next need."""
        self.reader.close()

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """The (key, reply) of each request, in the order of the requests, lazily.

        Replies are looked up in bulk; what is missing is handed once to the endpoint when
        recording, and a reply is handed on only after it is safely on the disk. Where a request has
        no reply after all attempts, a Failure stands in its place. Raises Miss when replaying and
        the first missing request is reached, EndpointStopped where no request can succeed.
        """
        offline = os.environ.get("LMJUDGE_OFFLINE") == "1" and getattr(endpoint, "network", True)
        if self.mode == "replay" or offline or endpoint is None:
            return self._replay(requests, offline and self.mode == "record")
        from lmjudge.store.corridor import record

        return record(self, requests, endpoint)

    def _replay(
        self, requests: Iterable[Request], offline: bool
    ) -> Iterator[tuple[str, Reply | Failure]]:
        source = iter(requests)
        while chunk := list(islice(source, CHUNK)):
            found = self.look_up(request.key for request in chunk)
            for place, request in enumerate(chunk):
                if request.key not in found:
                    raise miss(self, chunk[place:], source, offline=offline)
                self.hits += 1
                yield request.key, found[request.key]

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies that the store holds to these keys; damaged ones count as missing."""
        replies = {}
        for key, lines in self.reader.rows(dict.fromkeys(keys)).items():
            try:
                if isinstance(lines, DamagedStore):
                    raise lines
                if check_line(lines[0]) != key:
                    raise DamagedStore(f"the row {key[:12]} holds another key's record", keys=[key])
                replies[key] = reply_in(lines[0])
            except DamagedStore:
                self.damaged.add(key)
        return replies

    def records(self, keys: Iterable[str] | None = None) -> Iterator[Record]:
        """Every record under these keys, or all in the order of keys: the reply, then observations.

        Raises DamagedStore at the first record that is not what was written.
        """
        rows = self.reader.every() if keys is None else iter(self.reader.rows(keys).items())
        for _, lines in rows:
            if isinstance(lines, DamagedStore):
                raise lines
            yield from map(Record.from_line, lines)

    def digest(self, keys: Iterable[str] | None = None) -> str:
        """The SHA-256 over the records of these keys (of all), equal for equal records.

        It is taken over their lines in the order of keys, each followed by a line feed: what
        `lmjudge store export` writes and prints.
        """
        total = hashlib.sha256()
        rows = self.reader.every() if keys is None else sorted(self.reader.rows(keys).items())
        for _, lines in rows:
            if isinstance(lines, DamagedStore):
                raise lines
            for line in lines:
                total.update(line + b"\n")
        return total.hexdigest()

    def add(self, records: Iterable[Record]) -> Added:
        """Keep these records; what that changed. Adding twice, or in another order, is the same."""
        total = Added()
        source = iter(records)
        if not (chunk := list(islice(source, CHUNK))):
            return total
        with recording.recording(self.path) as cache:
            while chunk:
                total += self.commit(cache, chunk)
                chunk = list(islice(source, CHUNK))
        return total

    def commit(self, cache: diskcache.Cache, records: Iterable[Record]) -> Added:
        """Keep these records in one transaction: they are on the disk when it returns."""
        by_key: dict[str, list[Record]] = {}
        for record in records:
            by_key.setdefault(record.request.key, []).append(record)
        new = known = observations = 0
        changed = []
        with recording.transaction(cache):
            rows = self.reader.rows(by_key)
            for key, added in by_key.items():
                held = _salvage(rows.get(key, []))
                united = unite([*held, *added])
                if united != held:
                    cache.set(key, pack(record.line for record in united))
                    self.damaged.discard(key)
                new += not held
                observations += len(united) - max(len(held), 1)
                known += len(added) - (len(united) - len(held))
                if held and not united[0].reply.same_as(held[0].reply):
                    changed.append(key)
        return Added(new, known, observations, tuple(changed))

    def note_attempt(self, key: str, failure: Failure) -> None:
        """Append a failure to the list of attempts beside the store; it is no reply."""
        line = {"time": time.time(), "key": key, **failure.__dict__}
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        file = os.open(self.path / "attempts.jsonl", flags, 0o600)
        try:
            os.write(file, json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)

    def explain(self, request: Request) -> tuple[Request | None, dict[str, tuple[JSON, JSON]]]:
        """The stored request most like this one, and {field: (this, stored)} where they differ.

        The newest 20,000 keys are searched. (None, {}) where the store is empty; an equal request
        differs in nothing.
        """
        return nearest(request, self.reader.newest(_SEARCHED))


def _salvage(lines: list[bytes] | DamagedStore) -> list[Record]:
    if isinstance(lines, DamagedStore):
        return []
    held = []
    for line in lines:
        try:
            held.append(Record.from_line(line))
        except DamagedStore:
            continue
    return held
