"""The records in a folder: lookup, counts, parts of a store, and the error for a miss."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice, takewhile
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmjudge.canonical import JSON
from lmjudge.errors import DamagedStore, Miss, UnknownRecord
from lmjudge.prices import Price, charge, prompt_was_cut, same_model
from lmjudge.records import (
    Asks,
    Attempt,
    Endpoint,
    Failure,
    Record,
    Reply,
    Request,
    check_line,
    reply_in,
    unite,
)
from lmjudge.store.disk import (
    Reader,
    check_ours,
    check_plain,
    insert,
    look_over,
    open_plain,
    pack,
    recording,
    request_in,
    transaction,
    unwritable,
)

if TYPE_CHECKING:
    import diskcache

Item = TypeVar("Item")

CHUNK = 512
_COMMITTED = 2**22  # bytes of records that one commit takes
_FORGED = 10_000  # a merge stops after this many lines that are not records
_NOTED = 2**24  # bytes of a file of notes that are read: over 50,000 batches


@dataclass(frozen=True)
class Added:
    """Counts of added records: new keys, known replies, further observations.

    `changed` are the keys whose reply is now an earlier one. `refusals` counts the records that
    were left out, and `refused` has the reasons of the first hundred.
    """

    new: int = 0
    known: int = 0
    observations: int = 0
    changed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    refusals: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(*(getattr(self, name) + getattr(other, name) for name in self.__dict__))


class Shelf:
    """The records in a folder, with counts of look-ups and calls.

    Raises NotAStore for a folder of other files, DamagedStore for a file that was cut off.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()  # wherever the working folder is later
        self.hits = self.misses = self.requests = self.calls = self.kept = 0
        self.failures: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.last_failure: Failure | None = None
        self.served: Counter[str] = Counter()
        self.cut_prompts = 0
        self.spent: float | None = 0.0
        self.damaged: set[str] = set()
        self.reader = Reader(self.path)
        if look_over(self.path):
            self.reader.all("SELECT 1 FROM Cache LIMIT 1")  # raises if it does not open

    def close(self) -> None:
        """Close the store's file; it opens again at the next need."""
        self.reader.close()

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies to these keys; damaged ones count as missing."""
        replies = {}
        for key, lines in self.reader.rows(keys):
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
        rows = self.reader.every() if keys is None else self.reader.rows(keys)
        for key, lines in rows:
            if isinstance(lines, DamagedStore):
                raise lines
            for record in map(Record.from_line, lines):
                if record.request.key != key:
                    raise DamagedStore(f"the row {key[:12]} holds another key's record", keys=[key])
                yield record

    def digest(self, keys: Iterable[str] | None = None) -> str:
        """Return the SHA-256 over the records of these keys (default: all).

        It covers their lines by key, each followed by a line feed, as `lmjudge store export`
        writes and prints them.
        """
        total = hashlib.sha256()
        rows = self.reader.every() if keys is None else self.reader.rows(keys)
        for _, lines in rows:
            if isinstance(lines, DamagedStore):
                raise lines
            for line in lines:
                total.update(line + b"\n")
        return total.hexdigest()

    def add(self, records: Iterable[Record]) -> Added:
        """Add records; return what changed. Order and repeats make no difference.

        Raises StoreError for a key with more than 1,000 replies, or with more than 8 MiB of them.
        """
        total = Added()
        portions = _portions(records, lambda record: len(record.line))
        if not (first := next(portions, None)):
            return total
        with recording(self.path) as cache:
            for portion in chain([first], portions):
                total += self.commit(cache, portion)
        return total

    def would_change(self, lines: Iterable[bytes]) -> set[str]:
        """Return the keys whose reply would change if the records in these lines were added.

        Adds none. Raises DamagedStore for over 10,000 lines that are not records.
        """
        changed: set[str] = set()
        forged = 0
        for portion in _portions(lines, len):
            by_key: dict[str, list[bytes]] = {}
            for line in portion:
                try:
                    by_key.setdefault(check_line(line), []).append(line)
                except DamagedStore:
                    forged += 1
            if forged > _FORGED:
                message = f"over {_FORGED:,} lines are not records, so nothing is merged"
                raise DamagedStore(message, keys=[])
            for key, row in self.reader.rows(by_key):
                if held := _salvage(row):
                    reply = unite([held[0], *_salvage(by_key[key])])[0].reply
                    if not reply.same_as(held[0].reply):
                        changed.add(key)
        return changed

    def commit(self, cache: diskcache.Cache, records: Iterable[Record]) -> Added:
        """Add records in one transaction, which is on the disk at return."""
        by_key: dict[str, list[Record]] = {}
        for record in records:
            by_key.setdefault(record.request.key, []).append(record)
        new = known = observations = 0
        changed = []
        with transaction(cache):
            rows = dict(self.reader.rows(by_key))
            fresh = {}
            for key, added in by_key.items():
                held = _salvage(rows.get(key, []))
                united = unite([*held, *added])
                if united != held:
                    row = pack((record.line for record in united), key)
                    if key in rows:
                        cache.set(key, row)
                    else:
                        fresh[key] = row
                    self.damaged.discard(key)
                new += not held
                observations += len(united) - max(len(held), 1)
                known += len(added) - (len(united) - len(held))
                if held and not united[0].reply.same_as(held[0].reply):
                    changed.append(key)
            insert(cache, fresh.items())
        return Added(new, known, observations, tuple(changed))

    def count_kept(self, request: Request, reply: Reply) -> None:
        """Count a reply in `kept`, and in `served` and `cut_prompts` where it belongs.

        `served`: another model than you asked for. `cut_prompts`: the server cut the prompt.
        """
        self.kept += 1
        self.cut_prompts += prompt_was_cut(request, reply)
        if not same_model(request.model, reply.model):
            self.served[f"{request.model} as {reply.model}"] += 1

    def charge(self, attempt: Attempt, table: Mapping[str, Price]) -> None:
        """Add the cost of an attempt to `spent` (None once a price is unknown).

        Count an attempt without a reply by its reason in `unanswered`.
        """
        self.calls += attempt.count - 1
        if attempt.reply is None:
            self.unanswered[attempt.reason or "interrupted"] += max(attempt.count, 0)
        dollars = charge(attempt, table)
        self.spent = None if dollars is None or self.spent is None else self.spent + dollars

    def summary(self) -> str:
        """Return hits, failures and cost in a few words."""
        spent = "price unknown" if self.spent is None else f"${self.spent:,.4f}"
        return f"{self.hits} from the store, {self.failures.total()} failed, {spent}"

    def note_attempt(self, key: str, failure: Failure) -> None:
        """Append a failure to `attempts.jsonl` beside the store."""
        self.failures[failure.reason] += 1
        self.last_failure = failure
        self.note("attempts.jsonl", {"time": time.time(), "key": key, **failure.__dict__})

    def note(self, name: str, line: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append a line of JSON to a file beside the records; with `sync`, wait for the disk.

        Raises NotAStore if that file is a link; with `sync` also for a store of other software.
        """
        if sync and look_over(self.path):
            check_ours(self.path)
        try:
            self._append(name, json.dumps(line).encode(), sync)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _append(self, name: str, line: bytes, sync: bool) -> None:
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        file = open_plain(self.path / name, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(file).st_size
            cut_short = size and os.pread(file, 1, size - 1) != b"\n"  # by a full disk, or a kill
            os.write(file, b"\n" * bool(cut_short) + line + b"\n")
            if sync:
                os.fsync(file)
        finally:
            os.close(file)

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of JSON at the end of a file beside the records, but those cut short."""
        path, lines = self.path / name, []
        if not check_plain(path):
            return []
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _NOTED))
            for line in file.read(_NOTED).splitlines():
                with suppress(ValueError, RecursionError):
                    lines.append(json.loads(line))
        return [note for note in lines if isinstance(note, dict)]


def _portions(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the items in portions that fit one commit and the memory."""
    portion: list[Item] = []
    total = 0
    for item in items:
        portion.append(item)
        total += size(item)
        if len(portion) == CHUNK or total > _COMMITTED:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion


def _salvage(lines: list[bytes] | DamagedStore) -> list[Record]:
    if isinstance(lines, DamagedStore):
        return []
    held = []
    for line in lines:
        try:
            held.append(Record.from_line(line))
        except UnknownRecord:
            raise  # sound, of another version: never overwritten
        except DamagedStore:
            continue
    return held


@dataclass(frozen=True)
class Counted(Iterator[Item]):
    """An iterator with its expected number of items, for a progress bar.

    >>> from operator import length_hint
    >>> length_hint(Counted(iter("abc"), 3)), list(Counted(iter("abc"), 3))
    (3, ['a', 'b', 'c'])
    """

    items: Iterator[Item]
    count: int

    def __iter__(self) -> Iterator[Item]:
        return self.items

    def __next__(self) -> Item:
        return next(self.items)

    def __length_hint__(self) -> int:
        return self.count


@dataclass(frozen=True)
class Shard:
    """One part of a store's requests; requests of other parts are Failures (`other_shard`).

    The key of a conversation's first turn decides its part, so a conversation stays in one part.
    Raises ValueError for a part outside 1 to `of`.
    """

    store: Asks
    part: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.part <= self.of:
            raise ValueError(f"part is {self.part} of {self.of}; expected one of 1 to {self.of}")

    def holds(self, request: Request) -> bool:
        """Return whether a request is in this part."""
        first = tuple(takewhile(lambda message: message["role"] != "assistant", request.messages))
        begun = request if len(first) == len(request.messages) else replace(request, messages=first)
        return int(begun.key[:16], 16) % self.of == self.part - 1

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies to these keys, of any part."""
        return self.store.look_up(keys)

    def ask(
        self, requests: Iterable[Request], endpoint: Endpoint | None = None
    ) -> Iterator[tuple[str, Reply | Failure]]:
        """Yield the (key, reply) of each request in order, a Failure for other parts."""
        order: deque[str | None] = deque()
        other = Failure("other_shard", f"not in part {self.part} of {self.of}", attempts=0)

        def mine() -> Iterator[Request]:
            for request in requests:
                order.append(None if self.holds(request) else request.key)
                if order[-1] is None:
                    yield request

        about = length_hint(requests) // self.of
        for answered in self.store.ask(Counted(mine(), about), endpoint):
            while (key := order.popleft()) is not None:
                yield key, other
            yield answered
        for key in order:
            yield str(key), other


_SHOWN = 100


def miss(
    shelf: Shelf,
    nearby: tuple[Request | None, dict[str, tuple[JSON, JSON]]],
    rest: list[Request],
    source: Iterator[Request],
    *,
    offline: bool,
) -> Miss:
    """Return the Miss of a replay whose request `rest[0]` has no reply; count the other misses.

    `nearby` is the stored request nearest to it, and the fields that differ.
    """
    first: dict[str, Request] = {}
    count = characters = 0
    while rest:
        replies = shelf.look_up(request.key for request in rest)
        for request in rest:
            if request.key not in replies:
                count += 1
                characters += sum(len(str(m.get("content", ""))) for m in request.messages)
                if len(first) < _SHOWN:
                    first.setdefault(request.key, request)
        rest = list(islice(source, CHUNK))
    shelf.misses += count
    requests = list(first.values())
    stored, differences = nearby
    way = "pass `endpoint=` and open lj.Store(mode='record') (in a notebook, set `record`)"
    if offline:
        way = "unset LMJUDGE_OFFLINE"
    # The remedy comes first: the differences may be long, and be cut off.
    message = (
        f"{count} requests (about {characters // 4} prompt tokens) are not in the store"
        f" {shelf.path}. To send them, {way}; lj.plan lists them. The first is for"
        f" {requests[0].model} (key {requests[0].key[:12]})"
    )
    if shelf.damaged:
        message += f", {len(shelf.damaged)} records are damaged"
    if stored is None:
        message += ", and the store is empty"
    else:
        shown = "; ".join(
            f"{name}: {_short(sent)} asked, {_short(stored_value)} stored"
            for name, (sent, stored_value) in list(differences.items())[:4]
        )
        message += f", and the nearest stored request differs in {shown or 'nothing'}"
    return Miss(
        message,
        path=shelf.path,
        count=count,
        tokens=characters // 4,
        requests=requests,
        nearest=stored,
        differences=differences,
    )


def nearest(
    request: Request, rows: Iterable[list[bytes]]
) -> tuple[Request | None, dict[str, tuple[JSON, JSON]]]:
    """Return the nearest request in these rows, and {field: (this, stored)} that differ."""
    fields_sent = _fields(request.as_json())
    least, best = float("inf"), None
    for lines in rows:
        try:
            stored = request_in(lines[0])
        except DamagedStore:
            continue
        far = _distance(fields_sent, _fields(stored.as_json()))
        if far < least:
            least, best = far, stored
    if best is None:
        return None, {}
    fields = _fields(best.as_json())
    differences = {
        name: (fields_sent.get(name), fields.get(name))
        for name in sorted(fields_sent.keys() | fields.keys())
        if fields_sent.get(name) != fields.get(name)
    }
    return best, differences


def _fields(value: Mapping[str, JSON], at: str = "") -> dict[str, JSON]:
    """Flatten a request to {dotted name: plain value}."""
    flat: dict[str, JSON] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            flat |= _fields(item, f"{at}{name}.")
        elif name == "messages":
            for place, message in enumerate(item):
                flat |= _fields(message, f"messages[{place}].")
        else:
            flat[f"{at}{name}"] = item
    return flat


def _distance(first: dict[str, JSON], second: dict[str, JSON]) -> float:
    far = 0.0
    for name in first.keys() | second.keys():
        a, b = first.get(name), second.get(name)
        if a != b:
            if isinstance(a, str) and isinstance(b, str) and name.startswith("messages"):
                far += 1 - _alike(a, b)
            else:
                far += 1
    return far


def _alike(a: str, b: str) -> float:
    """Return the share of the longer text that both have at the beginning or the end, 0 to 1."""
    shorter = min(len(a), len(b))
    begin = _longest(shorter, lambda n: a[:n] == b[:n])
    end = _longest(shorter - begin, lambda n: not n or a[-n:] == b[-n:])
    return (begin + end) / max(len(a), len(b))


def _longest(most: int, holds: Callable[[int], bool]) -> int:
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if holds(middle) else (least, middle - 1)
    return least


def _short(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"
