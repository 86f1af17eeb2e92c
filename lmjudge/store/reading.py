"""Reading the store's file.

Reading goes through sqlite3 with `mode=ro` and never constructs diskcache, which would rewrite
settings, wait behind writers and do what a stranger's settings and triggers say. A row is a key
and the compressed lines of that key's records, the reply first.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import zstandard

from lmjudge.errors import DamagedStore, NotAStore, ReadOnlyStore, StoreError
from lmjudge.records import Request

FILE = "cache.db"
OURS = {
    FILE,
    "cache.db-wal",
    "cache.db-shm",
    "cache.db-journal",
    "claims",
    "attempts.jsonl",
    "batches.jsonl",
}
LARGEST = 2**27  # bytes of one row, decompressed
RAW = 1  # diskcache's mode of a value that stands in the row as it is
_local = threading.local()
_inherited: list[sqlite3.Connection] = []
LOCK_WAIT = 60.0  # seconds


def pack(lines: Iterable[bytes]) -> bytes:
    """The bytes of a row that holds these records' lines."""
    return _codec("compressor", lambda: zstandard.ZstdCompressor(level=3)).compress(
        b"\n".join(lines)
    )


def unpack(row: Any, key: str) -> list[bytes]:
    """The lines in a row's bytes; DamagedStore where they are not such bytes, or too many."""
    try:
        if not 0 < zstandard.frame_content_size(row) <= LARGEST:
            raise ValueError(f"a row of undeclared size, or of over {LARGEST} bytes")
        data = _codec("decompressor", zstandard.ZstdDecompressor).decompress(row)
    except (zstandard.ZstdError, TypeError, ValueError) as error:
        raise DamagedStore(
            f"the row of key {key[:12]} cannot be read ({error}); it is asked for again when"
            " recording",
            keys=[key],
        ) from error
    return data.split(b"\n")


def request_in(line: bytes) -> Request:
    """The request in a record's line; DamagedStore where there is none that this lmjudge knows."""
    try:
        return Request.from_json(json.loads(line)["request"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        told = f"a record holds no request that this lmjudge knows ({type(error).__name__})"
        raise DamagedStore(told, keys=[]) from error


def _codec(name: str, make: Any) -> Any:
    if not hasattr(_local, name):  # zstandard's objects may not be shared by threads
        setattr(_local, name, make())
    return getattr(_local, name)


def check_plain(path: Path, *, for_writing: bool = False) -> bool:
    """Return whether a file of a store is there; NotAStore where it is a link, or no plain file.

    A folder from elsewhere can hold a link to any file of yours, which writing would change.
    Reading takes a file of two names (a hard link); writing does not.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    problem = None
    if stat.S_ISLNK(status.st_mode):
        problem = "is a link"
    elif not stat.S_ISREG(status.st_mode):
        problem = "is no plain file"
    elif for_writing and status.st_nlink > 1:
        problem = "has a second name (a hard link), under which it would change too"
    if problem:
        raise NotAStore(
            f"{path} {problem}. Delete it, or put a plain copy in its place.", path=path.parent
        )
    return True


def open_plain(path: Path, flags: int) -> int:
    """Return a descriptor of a store's file, made if need be; NotAStore as `check_plain`.

    On POSIX the system also refuses a link that appears after the check (O_NOFOLLOW). Windows has
    no such flag.
    """
    check_plain(path, for_writing=True)
    flags |= os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o600)


def check_folder(folder: Path, *, for_writing: bool = False) -> None:
    """Raise NotAStore where a file of the store in `folder` is one that `check_plain` refuses."""
    for name in sorted(OURS):
        check_plain(folder / name, for_writing=for_writing)


def look_over(folder: Path) -> bool:
    """Return whether a store's file lies in `folder`; NotAStore where something else does."""
    if folder.exists() and not folder.is_dir():
        raise NotAStore(f"{folder} is a file; a store is a folder", path=folder)
    if not folder.exists():
        return False
    check_folder(folder)
    names = set(os.listdir(folder))
    if FILE in names:
        return True
    foreign = sorted(name for name in names - OURS - {"README.md"} if not name.startswith("."))
    if foreign:
        raise NotAStore(
            f"{folder} is no store: it holds {', '.join(foreign[:3])} and no {FILE}; give an empty"
            " or a new folder",
            path=folder,
        )
    return False


class Reader:
    """Reads the rows of the store in a folder; opens the file at the first need, read-only.

    `cut_off` opens a file that was cut off too, for what can still be read of it.
    """

    def __init__(self, folder: Path, *, cut_off: bool = False) -> None:
        self.folder, self.cut_off = folder, cut_off
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[Any, ...] = ()

    def rows(self, keys: Iterable[str]) -> dict[str, list[bytes] | DamagedStore]:
        """The lines under each key that has a row; in place of lines, what is wrong with them."""
        wanted = list(keys)
        if not wanted or not self._open():
            return {}
        sql = (
            "SELECT key, mode, filename, value FROM Cache"
            " WHERE raw = 1 AND key IN (SELECT value FROM json_each(?))"
        )
        try:
            found = self.all(sql, (json.dumps(wanted),))
        except DamagedStore:
            if len(wanted) == 1:
                told = f"the page of the row {wanted[0][:12]} is damaged"
                return {wanted[0]: DamagedStore(told, keys=wanted)}
            halves = wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]
            return {**self.rows(halves[0]), **self.rows(halves[1])}
        return {row[0]: _lines_of(row) for row in found}

    def under(self, keys: Iterable[str]) -> Iterator[tuple[str, list[bytes] | DamagedStore]]:
        """Yield the rows of these keys that the store has, in the order of keys, as `every`."""
        rest = iter(sorted(set(keys)))
        while some := list(islice(rest, 1000)):
            yield from sorted(self.rows(some).items(), key=itemgetter(0))

    def every(self) -> Iterator[tuple[str, list[bytes] | DamagedStore]]:
        """Every row in the order of keys, as (key, its lines or what is wrong with them)."""
        # The keys come from the index alone, so that a damaged page of rows hides no others.
        sql = (
            "SELECT key FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND key > ?"
            " ORDER BY key LIMIT 1000"
        )
        last = ""
        while keys := [key for (key,) in self.all(sql, (last,))]:
            found = self.rows(keys)
            for key in keys:
                yield key, found.get(key, DamagedStore("the row has gone", keys=[key]))
            last = keys[-1]

    def salvaged(self) -> Iterator[tuple[str, list[bytes] | DamagedStore]]:
        """Every row that can be read without the index, in the order of writing, as `every` does.

        One DamagedStore at the end says that not all could, where pages are lost.
        """
        sql = (
            "SELECT key, mode, filename, value FROM Cache"
            " WHERE rowid BETWEEN ? AND ? AND raw = 1 AND typeof(key) = 'text'"
        )
        # Rows are numbered from 1 without gaps, and none takes fewer bytes than a key.
        end, lost = os.stat(self.folder / FILE).st_size // 64, False
        with suppress(DamagedStore):
            told = self.all("SELECT value FROM Settings WHERE key = 'count'")
            end = min([end, *(n for (n,) in told if isinstance(n, int))])
        ranges = [(first, min(first + 999, end)) for first in range(1, end + 1, 1000)][::-1]
        while ranges:
            first, last = ranges.pop()
            try:
                yield from ((row[0], _lines_of(row)) for row in self.all(sql, (first, last)))
            except DamagedStore:
                half = (first + last) // 2
                lost = True
                ranges += [(half + 1, last), (first, half)] if first < last else []
        if lost:
            yield "", DamagedStore("the rows that lay on lost pages are gone", keys=[])

    def newest(self, count: int) -> Iterator[list[bytes]]:
        """The lines of the rows written last, newest first; damaged rows are passed over."""
        sql = "SELECT key, mode, filename, value FROM Cache WHERE raw = 1 ORDER BY rowid DESC"
        for row in self.all(f"{sql} LIMIT ?", (count,)):
            lines = _lines_of(row)
            if isinstance(lines, list):
                yield lines

    def count(self) -> int:
        """How many keys the store holds."""
        return self.all("SELECT count(*) FROM Cache")[0][0] if self._open() else 0

    def close(self) -> None:
        """Close the file; it opens again at the next need."""
        with self._lock:
            held, self._connection = self._connection, None
            if held is not None and self._opened[0] == os.getpid():
                held.close()
            elif held is not None:
                _inherited.append(held)  # closing it would be the parent's business

    def __del__(self) -> None:
        # sqlite3's connections refer to themselves: left to the collector, one would hold its file
        # for as long as nothing is collected, and the store could not be sealed.
        self.close()

    def all(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a SELECT; an empty list where there is no file."""
        with self._lock:
            if not self._open() or self._connection is None:
                return []
            try:
                return self._connection.execute(sql, values).fetchall()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if "locked" in str(error) or "unable to open" in str(error):
                    raise StoreError(
                        f"the store at {self.folder} cannot be read now ({error}); try again, or"
                        " copy it to a local disk",
                        path=self.folder,
                    ) from error
                raise DamagedStore(
                    f"the file {self.folder / FILE} is damaged ({error}); run `lmjudge store"
                    f" --path {self.folder} verify`, and merge what can be read into a new store",
                    path=self.folder,
                    keys=[],
                ) from error

    def _open(self) -> bool:
        path = self.folder / FILE
        with self._lock:
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            here = (os.getpid(), status.st_dev, status.st_ino)
            if self._connection is not None and self._opened == here:
                return True
            self.close()
            check_folder(self.folder)  # SQLite writes to cache.db-shm even where it only reads
            flags = "mode=ro"
            if not os.access(self.folder, os.W_OK):
                logs = [self.folder / f"{FILE}{end}" for end in ("-wal", "-journal")]
                if any(log.exists() and log.stat().st_size for log in logs):
                    raise ReadOnlyStore(
                        f"the store at {self.folder} was copied to a read-only place with its log"
                        " beside it; run `lmjudge store seal` on the original and copy it again",
                        path=self.folder,
                    )
                flags += "&immutable=1"
            self._connection = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?{flags}",
                uri=True,
                timeout=LOCK_WAIT,
                isolation_level=None,
                check_same_thread=False,
            )
            self._opened = here
            try:
                self.all("PRAGMA trusted_schema = OFF")
                if self.cut_off:  # else SQLite opens no file that is shorter than it says
                    self.all("PRAGMA writable_schema = ON")
                tables = self.all(
                    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'Cache'"
                )
                ((pages,),), ((page,),) = (
                    self.all("PRAGMA page_count"),
                    self.all("PRAGMA page_size"),
                )
            except StoreError:
                self.close()
                raise
            log = self.folder / f"{FILE}-wal"
            in_log = log.exists() and log.stat().st_size > 0
            short = os.stat(path).st_size < pages * page and not in_log
            if not tables or (short and not self.cut_off):
                self.close()
                raise DamagedStore(
                    f"{path} ({status.st_size} bytes) is no whole store: it was cut off, or is"
                    " another program's; restore a copy, or move it away to begin anew and merge"
                    " what can be read of it",
                    path=self.folder,
                    keys=[],
                )
            return True


def _lines_of(row: tuple[Any, ...]) -> list[bytes] | DamagedStore:
    key, mode, filename, value = row
    if mode != RAW or filename is not None:
        return DamagedStore(f"the row {key!r} is not one that lmjudge writes", keys=[str(key)])
    try:
        return unpack(value, str(key))
    except DamagedStore as error:
        return error
