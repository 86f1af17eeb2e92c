"""The shelf: the records that lie in a folder, looked up in bulk and added to."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.errors import DamagedStore, UnknownRecord
from lmjudge.prices import Price, charge, same_model
from lmjudge.records import Attempt, Failure, Record, Reply, Request, check_line, reply_in, unite
from lmjudge.store import recording
from lmjudge.store.reading import Reader, check_plain, look_over, open_plain, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    import diskcache

CHUNK = 512


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


class Shelf:
    """The records in a folder; what was asked of it and sent is counted.

    Raises NotAStore for a folder that is something else, DamagedStore for a file that was cut off.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.hits = self.misses = self.requests = self.calls = self.kept = 0
        self.failures: Counter[str] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.last_failure: Failure | None = None
        self.served: Counter[str] = Counter()
        self.spent: float | None = 0.0
        self.damaged: set[str] = set()
        self.reader = Reader(self.path)
        if look_over(self.path):
            self.reader.all("SELECT 1 FROM Cache LIMIT 1")  # it opens, or says why not

    def close(self) -> None:
        """Close the store's file; it opens again at the next need."""
        self.reader.close()

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
        for key, lines in rows:
            if isinstance(lines, DamagedStore):
                raise lines
            for record in map(Record.from_line, lines):
                if record.request.key != key:
                    raise DamagedStore(f"the row {key[:12]} holds another key's record", keys=[key])
                yield record

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
            fresh = {}
            for key, added in by_key.items():
                held = _salvage(rows.get(key, []))
                united = unite([*held, *added])
                if united != held:
                    row = pack(record.line for record in united)
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
            recording.insert(cache, fresh.items())
        return Added(new, known, observations, tuple(changed))

    def count_kept(self, request: Request, reply: Reply) -> None:
        """Count a reply as `kept`; one of another model than asked for, into `served`."""
        self.kept += 1
        if not same_model(request.model, reply.model):
            self.served[f"{request.model} as {reply.model}"] += 1

    def charge(self, attempt: Attempt, table: Mapping[str, Price]) -> None:
        """Count an attempt that ended, and what it may have cost: None once a price is unknown.

        An attempt that gave no reply is counted by its reason in `unanswered`.
        """
        self.calls += attempt.count - 1
        if attempt.reply is None:
            self.unanswered[attempt.reason or "interrupted"] += max(attempt.count, 0)
        dollars = charge(attempt, table)
        self.spent = None if dollars is None or self.spent is None else self.spent + dollars

    def told(self) -> str:
        """What was answered from here, what failed, and what the calls cost, in a few words."""
        spent = "price unknown" if self.spent is None else f"${self.spent:,.4f}"
        return f"{self.hits} from the store, {self.failures.total()} failed, {spent}"

    def note_attempt(self, key: str, failure: Failure) -> None:
        """Append a failure to `attempts.jsonl` beside the store; it is no reply."""
        self.failures[failure.reason] += 1
        self.last_failure = failure
        self.note("attempts.jsonl", {"time": time.time(), "key": key, **failure.__dict__})

    def note(self, name: str, line: Mapping[str, Any], *, sync: bool = False) -> None:
        """Append a line of JSON to a file beside the records; with `sync` it is on the disk then.

        Raises NotAStore where that file is a link; with `sync` also for a stranger's store.
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        if sync and look_over(self.path):
            recording.check_ours(self.path)
        file = open_plain(self.path / name, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(file).st_size
            cut_short = size and os.pread(file, 1, size - 1) != b"\n"  # by a full disk, or a kill
            os.write(file, b"\n" * bool(cut_short) + json.dumps(line).encode() + b"\n")
            if sync:
                os.fsync(file)
        finally:
            os.close(file)

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of JSON in a file beside the records, without those cut short."""
        path, found = self.path / name, []
        for line in path.read_bytes().splitlines() if check_plain(path) else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [note for note in found if isinstance(note, dict)]


def _salvage(lines: list[bytes] | DamagedStore) -> list[Record]:
    if isinstance(lines, DamagedStore):
        return []
    held = []
    for line in lines:
        try:
            held.append(Record.from_line(line))
        except UnknownRecord:
            raise  # whole, and another version's: never written over
        except DamagedStore:
            continue
    return held
