"""Writing the store's file.

Writing goes through diskcache, and only after schema, triggers and settings were found to be
exactly those that it makes itself. Nothing is ever evicted, and every commit is on the disk before
it counts.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.errors import DamagedStore, NotAStore, ReadOnlyStore, StoreError
from lmjudge.store.claims import claims_of
from lmjudge.store.reading import FILE, LOCK_WAIT, RAW, Reader, check_folder, look_over

if TYPE_CHECKING:
    import diskcache

_INSERT = (
    "INSERT INTO Cache(key, raw, store_time, access_time, access_count, size, mode, value)"
    " VALUES (?, 1, ?, ?, 0, 0, ?, ?)"
)


@contextmanager
def recording(folder: Path) -> Iterator[diskcache.Cache]:
    """The diskcache of the store in `folder`, made if need be, for writing by this thread.

    Raises NotAStore where schema, triggers or settings are not exactly those that it makes itself,
    ReadOnlyStore where the folder cannot be written, StoreError where the disk is full.
    """
    import diskcache

    look_over(folder)
    try:
        _create(folder)
        check_ours(folder)
        made = diskcache.Cache(str(folder), timeout=LOCK_WAIT, disk=_disk(), **_settings())
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise _unwritable(folder, error) from error
    with closing(made):
        yield made
        with suppress(sqlite3.Error):  # fold the log in, so that the file alone is the store
            made._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextmanager
def transaction(cache: diskcache.Cache) -> Iterator[None]:
    """One transaction on the store: all of it is on the disk when this ends, or none of it."""
    import diskcache

    folder = Path(cache.directory)
    try:
        with cache.transact():
            yield
    except diskcache.Timeout as error:
        cache.close()
        raise _unwritable(folder, error.__context__ or error) from error
    except sqlite3.Error as error:
        cache.close()  # rolls back what a failed commit leaves open
        raise _unwritable(folder, error) from error


def insert(cache: diskcache.Cache, rows: Iterable[tuple[str, bytes]]) -> None:
    """Write rows under keys that have none, inside a transaction, as diskcache's `set` does.

    It is one statement for all of them; `set` looks for the key and writes, a row at a time.
    """
    now = time.time()
    cache._con.executemany(_INSERT, ((key, now, now, RAW, value) for key, value in sorted(rows)))


def _unwritable(folder: Path, error: BaseException) -> StoreError:
    text = str(error)
    if isinstance(error, PermissionError) or "readonly" in text or "Read-only" in text:
        return ReadOnlyStore(
            f"the store at {folder} cannot be written ({text}); record into another folder and"
            " merge this store into it",
            path=folder,
        )
    return StoreError(
        f"the store at {folder} could not be written ({text}); what was acknowledged is safe: make"
        " room or wait for the other writer, and run again",
        path=folder,
    )


@cache
def _disk() -> type[diskcache.Disk]:
    import diskcache

    class Disk(diskcache.Disk):
        """Keeps bytes under text keys in the row itself; refuses pickles, files and the rest."""

        def put(self, key: Any) -> tuple[str, bool]:
            if type(key) is not str:
                raise TypeError(f"a key is {key!r}; the store's keys are text")
            return key, True

        def get(self, key: Any, raw: Any) -> str:
            if type(key) is not str or not raw:
                raise DamagedStore(f"a key is {key!r}; the store's keys are text", keys=[str(key)])
            return key

        def store(self, value: Any, read: bool, key: Any = None) -> tuple[Any, ...]:
            if read or type(value) is not bytes:
                raise TypeError(f"a value is a {type(value).__name__}; the store's are bytes")
            return 0, RAW, None, sqlite3.Binary(value)

        def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> bytes:
            if read or mode != RAW or filename is not None or type(value) is not bytes:
                raise DamagedStore("a row is not one that lmjudge writes", keys=[])
            return value

        def remove(self, file_path: Any) -> None:
            """Remove nothing: no row of ours has a file, and a planted name may lie anywhere."""

        def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
            raise TypeError("the store keeps no file beside its own")

    return Disk


def _settings() -> dict[str, Any]:
    # Nothing is ever evicted or culled; every commit is on the disk before it counts; no mmap, in
    # which a file that another process cuts short would kill this one.
    return {
        "eviction_policy": "none",
        "cull_limit": 0,
        "size_limit": 2**62,
        "statistics": 0,
        "tag_index": 0,
        "disk_min_file_size": 2**30,
        "disk_pickle_protocol": 5,
        "sqlite_auto_vacuum": 0,
        "sqlite_cache_size": 8192,
        "sqlite_journal_mode": "wal",
        "sqlite_mmap_size": 0,
        "sqlite_synchronous": 2,
    }


def _make(folder: Path) -> None:
    import diskcache

    diskcache.Cache(str(folder), disk=_disk(), **_settings()).close()


def _create(folder: Path) -> None:
    """Make the store where there is none: beside, then renamed, so that nobody sees half of it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (folder / FILE).exists():
        return
    with claims_of(folder).creation():
        if (folder / FILE).exists():
            return
        beside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
        try:
            _make(beside)
            os.chmod(beside / FILE, 0o600)
            os.replace(beside / FILE, folder / FILE)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def check_ours(folder: Path) -> None:
    """Raise NotAStore unless schema, triggers and settings are those that diskcache makes here.

    Links are refused too.
    """
    check_folder(folder, for_writing=True)
    with closing(Reader(folder)) as reader:
        odd = _schema(reader) ^ _expected()
    if odd:
        names = sorted({f"{row[0]} {row[1]}" for row in odd})
        raise NotAStore(
            f"the store at {folder} was not made by lmjudge alone ({', '.join(names[:3])}); it is"
            " not opened for writing: merge it into a store of your own",
            path=folder,
        )


def _schema(reader: Reader) -> frozenset[tuple[Any, ...]]:
    rows = reader.all("SELECT type, name, tbl_name, sql FROM sqlite_master")
    if not any(row[:2] == ("table", "Settings") for row in rows):
        return frozenset(rows)
    counters = ("count", "size", "hits", "misses")
    settings = [
        row
        for row in reader.all("SELECT key, value FROM Settings")
        if not (row[0] in counters and isinstance(row[1], int))
    ]
    return frozenset(rows) | frozenset(settings)


@cache
def _expected() -> frozenset[tuple[Any, ...]]:
    with tempfile.TemporaryDirectory(prefix="lmjudge-") as name:
        _make(Path(name))
        with closing(Reader(Path(name))) as reader:
            return _schema(reader)
