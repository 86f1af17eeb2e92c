"""Count, verify, export, merge and seal stores.

An export is a compressed file with the lines of all records, by key and the reply of each key
first. Its last line has their count and SHA-256. Equal stores give equal bytes. Merging is a set
union: commutative, associative, idempotent.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zstandard

from lmjudge.errors import ChangedReplies, DamagedStore, NotAStore, StoreError
from lmjudge.places import replacing
from lmjudge.records import Record, reply_in, unite
from lmjudge.store import dataset
from lmjudge.store.disk import (
    FILE,
    LARGEST,
    LOCK_WAIT,
    OF_A_KEY,
    Reader,
    check_ours,
    check_plain,
    look_over,
    request_in,
    unwritable,
)
from lmjudge.store.shelf import Added, Shelf

_LAST = b'{"lmjudge_export":1,'
_NAMED = 1000  # damaged records to name at most; all are counted
_REFUSED = 100  # refused records to name at most; all are counted
_LONGEST = 200  # characters of a name in the counts
_WINDOW = 2**25  # bytes of memory that a compressed file may ask for


@dataclass(frozen=True)
class Verified:
    """The result of `verify`: counts, the digest of the sound records, and the damaged ones.

    `damage` counts the damaged rows, and `damaged` has the reasons of the first thousand.
    """

    keys: int
    records: int
    observations: int
    digest: str
    damaged: dict[str, str]
    damage: int


def stats(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return counts of a store: keys, records, observations, bytes; keys by model and provider.

    The provider of imported records is the name of the published source; your own calls have none.
    `served` counts replies of another model than you asked for, by the server's name.
    """
    folder = _existing(path)
    models: Counter[str] = Counter()
    providers: Counter[str] = Counter()
    served: Counter[str] = Counter()
    records = keys = damaged = 0
    with closing(Reader(folder)) as reader:
        for _, lines in reader.every():
            keys += 1
            try:
                if isinstance(lines, DamagedStore):
                    raise lines
                request, served_model = request_in(lines[0]), reply_in(lines[0]).model
            except DamagedStore:
                damaged += 1
                continue
            records += len(lines)
            model = request.model[:_LONGEST]
            models[model] += 1
            if served_model not in (None, request.model):
                served[f"{model} as {str(served_model)[:_LONGEST]}"] += 1
            providers[(request.provider or "none")[:_LONGEST]] += 1
    return {
        "path": str(folder),
        "keys": keys,
        "records": records,
        "observations": records - (keys - damaged),
        "damaged": damaged,
        "attempts": _line_feeds(folder / "attempts.jsonl"),
        "bytes": sum(item.stat().st_size for item in folder.iterdir() if item.is_file()),
        "models": dict(models.most_common()),
        "providers": dict(providers.most_common()),
        "served": dict(served.most_common()),
    }


def verify(path: str | os.PathLike[str]) -> Verified:
    """Check every record: its SHA-256, the key of its request, and its place.

    Changes nothing. Raises NotAStore for a folder without a store, DamagedStore for a store that
    does not open.
    """
    damaged: dict[str, str] = {}
    keys = sound = records = damage = 0
    digest = hashlib.sha256()

    def name(key: str, why: str) -> None:
        nonlocal damage
        damage += 1
        if len(damaged) < _NAMED:
            damaged[key] = why

    with closing(Reader(_existing(path))) as reader:
        try:
            for (state,) in reader.all("PRAGMA integrity_check"):
                if state != "ok":
                    name(f"(file) {state}", "SQLite's integrity check")
            odd = f"SELECT substr(key, 1, 99) FROM Cache WHERE NOT ({OF_A_KEY}) LIMIT {_NAMED}"
            for (key,) in reader.all(odd):
                name(repr(key), "a key that lmjudge does not write")
        except DamagedStore as error:
            name("(file)", str(error))
        for key, lines in reader.every():
            keys += 1
            try:
                row = _checked(key, lines)
            except DamagedStore as error:
                name(key, str(error))
                continue
            sound += 1
            records += len(row)
            for record in row:
                digest.update(record.line + b"\n")
    return Verified(keys, records, records - sound, digest.hexdigest(), damaged, damage)


@dataclass(frozen=True)
class Exported:
    """The content of an export: number of records, SHA-256 of their lines, records by provider.

    `left_out` counts the others by provider. That of your own calls is None, unless you named one.
    """

    records: int
    sha256: str
    providers: dict[str | None, int]
    left_out: dict[str | None, int]


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    without: Collection[str] = (),
    allows: Callable[[str | None], bool] = lambda provider: True,
    keys: Collection[str] | None = None,
) -> Exported:
    """Write the records of a store to the file `out` (.jsonl.zst); return what it holds.

    Takes all records or those of `keys`, without the providers in `without` and those that `allows`
    returns False for. Writes the complete file or none. Raises DamagedStore for a damaged record,
    StoreError for a provider without records and for keys that the store lacks.
    """
    target = Path(out)
    if target.is_dir() or not target.parent.is_dir():
        raise StoreError(
            f"cannot write {target}: {'it is a folder' if target.is_dir() else 'no folder'}"
            f" {'' if target.is_dir() else target.parent}; give a file in a folder that exists",
            path=target,
        )
    digest = hashlib.sha256()
    taken, left_out = Counter[str | None](), Counter[str | None]()
    try:
        with (
            replacing(target, 0o600) as file,
            zstandard.ZstdCompressor(level=9).stream_writer(file, closefd=False) as writer,
        ):
            for record in _chosen(path, target, taken, left_out, without, allows, keys):
                digest.update(record.line + b"\n")
                writer.write(record.line + b"\n")
            last = f'"records":{taken.total()},"sha256":"{digest.hexdigest()}"}}\n'
            writer.write(_LAST + last.encode())
    except OSError as error:
        raise StoreError(
            f"cannot write {target} ({error.strerror}); free some space, or choose another place",
            path=target,
        ) from error
    return Exported(taken.total(), digest.hexdigest(), dict(taken), dict(left_out))


def export_dataset(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    licence: Callable[[str | None], str],
    without: Collection[str] = (),
    allows: Callable[[str | None], bool] = lambda provider: True,
    keys: Collection[str] | None = None,
) -> Exported:
    """Write the records of a store as a data set to the folder `out`; return what it holds.

    Takes records as `export` does. `licence` returns a provider's licence for the card. Writes the
    complete folder or none. Raises what `export` raises, and StoreError for a folder with files.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(
            f"{target} exists and is not empty; give the name of a new folder", path=target
        )
    digest = hashlib.sha256()
    taken, left_out = Counter[str | None](), Counter[str | None]()

    def hashed() -> Iterator[Record]:
        for record in _chosen(path, target, taken, left_out, without, allows, keys):
            digest.update(record.line + b"\n")
            yield record

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            dataset_folder = Path(folder) / "made"
            (dataset_folder / "data").mkdir(parents=True)
            dataset.write(dataset_folder / "data", hashed())
            result = Exported(taken.total(), digest.hexdigest(), dict(taken), dict(left_out))
            card = dataset.card(target.name, result.sha256, taken, left_out, licence)
            (dataset_folder / "README.md").write_text(card, encoding="utf-8")
            if target.is_dir():
                target.rmdir()
            shutil.move(dataset_folder, target)
    except OSError as error:
        raise StoreError(
            f"cannot write {target} ({error.strerror}); free some space, or choose another place",
            path=target,
        ) from error
    return result


def _chosen(
    path: str | os.PathLike[str],
    target: Path,
    taken: Counter[str | None],
    left_out: Counter[str | None],
    without: Collection[str],
    allows: Callable[[str | None], bool],
    keys: Collection[str] | None,
) -> Iterator[Record]:
    """Yield the records to export; count them and the others by provider."""
    unseen, missing = set(without), set(() if keys is None else keys)
    with closing(Reader(_existing(path))) as reader:
        for key, lines in reader.every() if keys is None else reader.rows(keys):
            missing.discard(key)
            for record in _checked(key, lines):
                provider = record.request.provider
                if provider in without or not allows(provider):
                    unseen.discard(str(provider))
                    left_out[provider] += 1
                    continue
                taken[provider] += 1
                yield record
    if unseen:
        raise StoreError(
            f"no record has the provider {sorted(unseen)[0]!r}, so nothing was written; `lmjudge"
            " store stats` lists the providers",
            path=target,
        )
    if missing:
        raise StoreError(
            f"{len(missing):,} of {len(set(keys or ())):,} records are not in the store"
            f" {path}, the first of key {min(missing)[:12]}. Name the store that the rows"
            " came from.",
            path=Path(path),
        )


def merge(
    into: str | os.PathLike[str],
    sources: Iterable[str | os.PathLike[str]],
    *,
    accept_changed: bool = False,
) -> dict[str, Added]:
    """Add the records of other stores and exports to a store; return {source: what changed}.

    Checks every record; a record that fails is left out and named in `refused`. An export that does
    not end in its count and SHA-256 is left out completely. Raises ChangedReplies and writes
    nothing if a reply in the store would change; `accept_changed` keeps the earliest reply.
    """
    paths = [Path(source) for source in sources]
    with closing(Shelf(into)) as shelf:
        changed: set[str] = set()
        for path in paths:
            changed |= shelf.would_change(_Incoming(path).lines())
        if changed and not accept_changed:
            keys = sorted(changed)
            raise ChangedReplies(
                f"{len(keys):,} replies of the store {shelf.path} would change, the first of key"
                f" {keys[0]}, so nothing was written; --accept-changed keeps the earlier replies",
                path=shelf.path,
                keys=keys,
            )
        done: dict[str, Added] = {}
        for path in paths:
            incoming = _Incoming(path)
            added = shelf.add(incoming)
            done[str(path)] = added + Added(
                refused=tuple(incoming.refused), refusals=incoming.refusals
            )
    return done


def seal(path: str | os.PathLike[str]) -> Path:
    """Fold the log into the store's file, for read-only media; return the file.

    Recording into the store again unseals it. Raises StoreError if a process has it open.
    """
    folder = _existing(path)
    check_ours(folder)
    try:
        with closing(sqlite3.connect(folder / FILE, timeout=5, isolation_level=None)) as opened:
            busy = opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            journal = opened.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
    except sqlite3.Error as error:
        if "locked" not in str(error):
            raise unwritable(folder, error) from error
        raise _in_use(folder, str(error)) from error
    if busy or journal != "delete":
        raise _in_use(folder, f"its journal is {journal}")
    return folder / FILE


def _in_use(folder: Path, why: str) -> StoreError:
    return StoreError(
        f"the store at {folder} is in use and was not sealed ({why}); close every notebook and"
        f" process that has it open and try again (waited {LOCK_WAIT / 12:.0f} s)",
        path=folder,
    )


def _existing(path: str | os.PathLike[str]) -> Path:
    folder = Path(path)
    if not look_over(folder):
        raise NotAStore(f"no store at {folder}; give the folder that holds {FILE}", path=folder)
    return folder


def _line_feeds(path: Path) -> int:
    if not check_plain(path):
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(partial(file.read, 2**20), b""))


def _checked(key: str, lines: list[bytes] | DamagedStore) -> list[Record]:
    """Return the records of one row; DamagedStore unless each is sound and of this key."""
    if isinstance(lines, DamagedStore):
        raise lines
    row = [Record.from_line(line) for line in lines]
    if any(record.request.key != key for record in row) or unite(row) != row:
        raise DamagedStore(
            f"the row {key[:12]} does not hold the records of its key in order and without repeats",
            keys=[key],
        )
    return row


class _Incoming:
    """The records of a store or an export, each checked, and the refused ones."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.refused: list[str] = []
        self.refusals = 0

    def __iter__(self) -> Iterator[Record]:
        for line in self.lines():
            try:
                yield Record.from_line(line)
            except DamagedStore as error:
                self._refuse(error)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of all records that can be read, unchecked."""
        if shards := dataset.shards_in(self.source):
            for shard in shards:
                yield from dataset.lines_in(shard)
            return
        if not self.source.is_dir():
            yield from _from_export(self.source)
            return
        with closing(Reader(_existing(self.source), cut_off=True)) as reader:
            rows = reader.every()
            while True:
                try:
                    _, lines = next(rows)
                except StopIteration:
                    return
                except DamagedStore as error:  # in the index
                    self._refuse(error)
                    rows = reader.salvaged()
                    continue
                if isinstance(lines, DamagedStore):
                    self._refuse(lines)
                else:
                    yield from lines

    def _refuse(self, error: DamagedStore) -> None:
        self.refusals += 1
        if self.refusals <= _REFUSED:
            self.refused.append(str(error))


def _from_export(path: Path) -> Iterator[bytes]:
    """Yield the lines of an export; DamagedStore if the last line does not match the others."""
    total, count, last = hashlib.sha256(), 0, b""
    for line in _lines(path):
        if last:
            total.update(last + b"\n")
            count += 1
            yield last
        last = line
    if last != _LAST + f'"records":{count},"sha256":"{total.hexdigest()}"}}'.encode():
        raise DamagedStore(
            f"{path} is not a complete export: its last line does not hold the count ({count}) and"
            " SHA-256 of the others; export or copy it again",
            path=path,
            keys=[],
        )


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a compressed file, each of limited size."""
    rest = bytearray()
    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    try:
        with open(path, "rb") as file, unpacker.stream_reader(file) as reader:
            while block := reader.read(2**20):
                start, *more = block.split(b"\n")
                rest += start
                for line in more:
                    yield bytes(rest)
                    rest = bytearray(line)
                if len(rest) > LARGEST:
                    message = f"{path} has a line of over {LARGEST} bytes, so it is not an export"
                    raise DamagedStore(message, path=path, keys=[])
    except FileNotFoundError as error:
        raise NotAStore(f"no store and no export at {path}; check the path", path=path) from error
    except OSError as error:
        raise StoreError(f"cannot read {path} ({error.strerror})", path=path) from error
    except zstandard.ZstdError as error:
        raise DamagedStore(
            f"{path} is not an export, or was cut off ({error}); export or copy it again",
            path=path,
            keys=[],
        ) from error
    if rest:
        yield bytes(rest)
