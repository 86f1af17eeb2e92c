"""The store's file: safe reads, durable writes, and one asker per key.

Reading goes through sqlite3 with `mode=ro` and never constructs diskcache, which would rewrite
settings, wait for writers, and obey the settings and triggers of a stranger's file. Writing goes
through diskcache, after a check that schema, triggers and settings are exactly those that it makes
itself. Nothing is ever evicted, and every commit is on the disk before it counts. A row is a key
and the compressed lines of that key's records, the reply first.

A claim says that someone asks for a key now. It is a byte-range lock on one file, at an offset
computed from the key, so the claims of a killed process are released with it; a row or a lock file
would stay behind. Such locks belong to a process, and closing any descriptor of the file releases
them all. So each process opens the file once, never closes it, and keeps a list of claims for its
threads.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import islice, takewhile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import quote

import zstandard

try:
    import fcntl
except ImportError:  # Windows: a store is read there, and not written
    fcntl = None  # type: ignore[assignment]

from lmjudge.errors import DamagedStore, NotAStore, ReadOnlyStore, StoreError
from lmjudge.records import Request

if TYPE_CHECKING:
    import diskcache

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
LARGEST = 2**23  # bytes of one row: decompressed, and as Python holds its text
MOST = 1000  # records of one row
_HELD = 2**23  # bytes of rows that a reader holds at one time, decompressed
_PAGE = 1000  # rows that one query is for
RAW = 1  # diskcache's mode of a value that stands in the row as it is
# A key that a row of ours has; the length is counted in bytes, past any NUL.
OF_A_KEY = "raw = 1 AND typeof(key) = 'text' AND length(CAST(key AS BLOB)) = 64"
_local = threading.local()
_inherited: list[sqlite3.Connection] = []
LOCK_WAIT = 60.0  # seconds
_LONGEST_PATH = 480  # bytes of a folder's path: SQLite opens no file of over 512
# What SQLite says of the disk, the locks and the memory. All else that it says is about the file.
_SHORT_READ = sqlite3.SQLITE_IOERR_SHORT_READ
_OF_THE_DISK = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}


def check_size(data: bytes, count: int, key: str) -> None:
    """Raise StoreError for a row that would hold too many records, or too large ones."""
    if count > MOST or _in_memory(data) > LARGEST:
        raise StoreError(
            f"{count:,} replies to the request {key[:12]} take {_in_memory(data):,} bytes; a store"
            f" keeps at most {MOST:,}, in {LARGEST:,} bytes. Leave some of them out."
        )


def pack(lines: Iterable[bytes], key: str) -> bytes:
    """Return the bytes of a row that holds these records' lines; StoreError for too large a row."""
    every = list(lines)
    data = b"\n".join(every)
    check_size(data, len(every), key)
    return _codec("compressor", lambda: zstandard.ZstdCompressor(level=3)).compress(data)


def unpack(row: Any, key: str) -> list[bytes]:
    """Return the lines in a row's bytes; DamagedStore where they are no such bytes, or too many."""
    data, problem = b"", ""
    try:
        if not 0 < zstandard.frame_content_size(row) <= LARGEST:
            raise ValueError(f"a row of undeclared size, or of over {LARGEST} bytes")
        data = _codec("decompressor", zstandard.ZstdDecompressor).decompress(row)
        if data.count(b"\n") >= MOST:
            raise ValueError(f"a row of over {MOST} records")
        if _in_memory(data) > LARGEST:
            raise ValueError(f"a row whose text takes over {LARGEST} bytes")
    except (zstandard.ZstdError, TypeError, ValueError) as error:
        problem = str(error)
        data = b""  # which the error's traceback would hold
    if problem:
        raise DamagedStore(
            f"cannot read the row of key {key[:12]} ({problem}); recording asks for it again",
            keys=[key],
        )
    return data.split(b"\n")


def _in_memory(data: bytes) -> int:
    """Return how many bytes the text in these bytes takes, or fewer where it is far from many.

    One letter beyond the ASCII ones makes Python hold each letter in two or four bytes.
    """
    few = len(data) <= LARGEST // 4 or data.isascii()
    return len(data) if few else sys.getsizeof(data.decode("utf-8", "replace"))


def _size(row: tuple[Any, ...]) -> int:
    """Return the bytes that a row takes, decompressed where it says how many that is."""
    value = row[-1]
    if not isinstance(value, bytes):
        return len(value) if isinstance(value, str) else 0
    try:
        declared = zstandard.frame_content_size(value)
    except zstandard.ZstdError:
        declared = 0
    return len(value) + (declared if declared <= LARGEST else 0)


def request_in(line: bytes) -> Request:
    """Return the request in a record's line; DamagedStore for a form unknown to this lmjudge."""
    try:
        return Request.from_json(json.loads(line.decode())["request"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = f"a record holds a request of an unknown form ({type(error).__name__})"
        raise DamagedStore(message, keys=[]) from error


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
    """Return whether a store's file lies in `folder`; NotAStore where something else does.

    Raises StoreError for a folder that cannot be opened.
    """
    if (long := len(os.fsencode(folder))) > _LONGEST_PATH:
        raise StoreError(
            f"the path of the store takes {long} bytes, and SQLite opens none of over"
            f" {_LONGEST_PATH}. Choose a shorter one: {str(folder)[:80]}...",
            path=folder,
        )
    try:
        if not folder.exists():
            return False
        if not folder.is_dir():
            raise NotAStore(f"{folder} is a file; a store is a folder", path=folder)
        check_folder(folder)
        names = set(os.listdir(folder))
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be opened ({error.strerror}). Check its path and its"
            " permissions.",
            path=folder,
        ) from error
    if FILE in names:
        return True
    foreign = sorted(name for name in names - OURS - {"README.md"} if not name.startswith("."))
    if foreign:
        raise NotAStore(
            f"{folder} is not a store: it holds {', '.join(foreign[:3])} and no {FILE}; give an"
            " empty or a new folder",
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

    def rows(self, keys: Iterable[str]) -> Iterator[tuple[str, list[bytes] | DamagedStore]]:
        """Yield (key, its lines or what is wrong with them) for each key that has a row, by key."""
        rest = iter(sorted(set(keys)))
        while some := list(islice(rest, _PAGE)):
            for part, rows in self._parts(some, "key"):
                if isinstance(rows, DamagedStore):
                    problem = f"the page of the row {part[0][:12]} is damaged"
                    yield part[0], DamagedStore(problem, keys=part)
                else:
                    yield from _lines_of(sorted(rows, key=itemgetter(0)))

    def every(self) -> Iterator[tuple[str, list[bytes] | DamagedStore]]:
        """Yield every row in the order of keys, as (key, its lines or what is wrong with them)."""
        # The keys come from the index alone, so that a damaged page of rows hides no others.
        sql = f"SELECT key FROM Cache WHERE {OF_A_KEY} AND key > ? ORDER BY key LIMIT {_PAGE}"
        last = ""
        while keys := [key for (key,) in self.all(sql, (last,))]:
            waiting = iter(keys)
            for key, lines in self.rows(keys):
                for gone in takewhile(key.__ne__, waiting):
                    yield gone, DamagedStore("the row has gone", keys=[gone])
                yield key, lines
            for gone in waiting:
                yield gone, DamagedStore("the row has gone", keys=[gone])
            last = keys[-1]

    def salvaged(self) -> Iterator[tuple[str, list[bytes] | DamagedStore]]:
        """Yield every row that can be read without the index, in the order of writing, as `every`.

        One DamagedStore at the end says that not all could, where pages are lost.
        """
        # Rows are numbered from 1 without gaps, and none takes fewer bytes than a key.
        end, lost = os.stat(self.folder / FILE).st_size // 64, False
        with suppress(DamagedStore):
            counts = self.all("SELECT value FROM Settings WHERE key = 'count' LIMIT 1")
            end = min([end, *(n for (n,) in counts if isinstance(n, int))])
        for first in range(1, end + 1, _PAGE):
            numbers = list(range(first, min(first + _PAGE, end + 1)))
            for _, rows in self._parts(numbers, "rowid"):
                lost |= isinstance(rows, DamagedStore)
                yield from () if isinstance(rows, DamagedStore) else _lines_of(rows)
        if lost:
            yield "", DamagedStore("the rows that lay on lost pages are gone", keys=[])

    def newest(self, count: int) -> Iterator[list[bytes]]:
        """Yield the lines of the rows written last, newest first; damaged rows are passed over."""
        sql = f"SELECT rowid FROM Cache WHERE {OF_A_KEY} ORDER BY rowid DESC LIMIT ?"
        rest = (number for (number,) in self.all(sql, (count,)))
        while some := list(islice(rest, _PAGE)):
            for _, rows in self._parts(some, "rowid"):
                if not isinstance(rows, DamagedStore):
                    for _, lines in _lines_of(sorted(rows, key=itemgetter(1), reverse=True)):
                        if isinstance(lines, list):
                            yield lines

    def _parts(
        self, wanted: list[Any], column: str
    ) -> Iterator[tuple[list[Any], list[tuple[Any, ...]] | DamagedStore]]:
        """Yield parts of `wanted`, values of a column, each with its rows or what is wrong.

        What does not fit into the memory, or cannot be read, is halved until it does: a few
        kilobytes of a stranger's may unpack to gigabytes, and a damaged page hides its rows alone.
        """
        sql = (
            "SELECT key, rowid, mode, filename IS NULL, value FROM Cache"
            f" WHERE {OF_A_KEY} AND {column} IN (SELECT value FROM json_each(?)) LIMIT ?"
        )
        parts = [wanted]
        while parts:
            part = parts.pop()
            values = (json.dumps(part), len(part))
            try:
                rows = self.all(sql, values, most=_HELD if len(part) > 1 else None)
            except DamagedStore as error:
                if len(part) == 1:
                    yield part, error
                    continue
                rows = None
            if rows is None:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
            else:
                yield part, rows

    def count(self) -> int:
        """Return the number of keys in the store."""
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

    @overload
    def all(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]: ...

    @overload
    def all(self, sql: str, values: tuple[Any, ...], *, most: int | None) -> list[Any] | None: ...

    def all(
        self, sql: str, values: tuple[Any, ...] = (), *, most: int | None = None
    ) -> list[Any] | None:
        """Return all rows of a SELECT, none where there is no file; None for over `most` bytes."""
        with self._lock:
            if not self._open() or self._connection is None:
                return []
            try:
                with closing(self._connection.cursor()) as cursor:
                    rows, size = [], 0
                    for row in cursor.execute(sql, values):
                        rows.append(row)
                        size += 0 if most is None else _size(row)
                        if most is not None and size > most:
                            return None
                    return rows
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise self._fault(error) from error

    def _fault(self, error: Exception) -> StoreError:
        """Return what an error of SQLite's says: of the disk and its locks, or of the file."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        # A page beyond the end is the file's fault. So is, when saving what can be, any other page.
        missing = code & 0xFF == sqlite3.SQLITE_IOERR and self.cut_off
        if code & 0xFF in _OF_THE_DISK and code != _SHORT_READ and not missing:
            return StoreError(
                f"the store at {self.folder} cannot be read now ({error}). Try again, free some"
                " space, or copy the folder to a local disk.",
                path=self.folder,
            )
        return DamagedStore(
            f"the file {self.folder / FILE} is damaged ({error}); run `lmjudge store"
            f" --path {self.folder} verify`, and merge what can be read into a new store",
            path=self.folder,
            keys=[],
        )

    def _open(self) -> bool:
        path = self.folder / FILE
        with self._lock:
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            here = (os.getpid(), status.st_dev, status.st_ino)
            # A file that is read without its locks is opened again once it has changed.
            alone = (*here, status.st_mtime_ns, status.st_size)
            if self._connection is not None and self._opened in (here, alone):
                return True
            self.close()
            check_folder(self.folder)  # SQLite writes to cache.db-shm even where it only reads
            logs = [self.folder / f"{FILE}{end}" for end in ("-wal", "-journal")]
            logged = any(log.exists() and log.stat().st_size for log in logs)
            if os.access(self.folder, os.W_OK):
                try:
                    pages, page = self._connect("mode=ro", here)
                except DamagedStore:
                    raise
                except StoreError:
                    if logged:
                        raise
                    # A full disk has no room for cache.db-shm, others refuse locks. Without a log
                    # the file alone is the store.
                    pages, page = self._connect("mode=ro&immutable=1", alone)
            elif logged:
                raise ReadOnlyStore(
                    f"the store at {self.folder} was copied to a read-only place with its log"
                    " beside it; run `lmjudge store seal` on the original and copy it again",
                    path=self.folder,
                )
            else:
                pages, page = self._connect("mode=ro&immutable=1", alone)
            log = self.folder / f"{FILE}-wal"
            in_log = log.exists() and log.stat().st_size > 0
            short = os.stat(path).st_size < pages * page and not in_log
            if not pages or (short and not self.cut_off):
                self.close()
                raise DamagedStore(
                    f"{path} ({status.st_size} bytes) is not a complete store: it was cut off, or"
                    " is of another program. Restore a copy, or move it away and merge it into a"
                    " new store.",
                    path=self.folder,
                    keys=[],
                )
            return True

    def _connect(self, flags: str, opened: tuple[Any, ...]) -> tuple[int, int]:
        """Open the file; return its pages and their size, no pages where it has no table Cache."""
        self._connection = sqlite3.connect(
            f"file:{quote(os.fsencode((self.folder / FILE).absolute()))}?{flags}",
            uri=True,
            timeout=LOCK_WAIT,
            isolation_level=None,
            check_same_thread=False,
        )
        self._opened = opened
        try:
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST + 2**16)
            self.all("PRAGMA trusted_schema = OFF")
            if self.cut_off:  # else SQLite opens no file that is shorter than it says
                self.all("PRAGMA writable_schema = ON")
            table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'Cache'"
            rows = self.all(table)
            ((pages,),), ((page,),) = self.all("PRAGMA page_count"), self.all("PRAGMA page_size")
        except StoreError:
            self.close()
            raise
        return pages if rows else 0, page


def _lines_of(
    rows: Iterable[tuple[Any, ...]],
) -> Iterator[tuple[str, list[bytes] | DamagedStore]]:
    for key, _, mode, no_file, value in rows:
        if mode != RAW or not no_file:
            message = f"the row {key!r} is not one that lmjudge writes"
            yield key, DamagedStore(message, keys=[key])
            continue
        try:
            yield key, unpack(value, key)
        except DamagedStore as error:
            yield key, error.with_traceback(None)


_OPEN: dict[tuple[int, str], Claims] = {}
_OPEN_LOCK = threading.Lock()
_CREATION = 2**62  # past every key's offset
_TESTED = 2**62 + 1
_TAKEN = 77  # the exit code of a process that got a lock which another holds
_TAKES = f"""
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(sys.argv[2]))
except OSError:
    sys.exit(0)
sys.exit({_TAKEN})
"""
_EXCLUDES: set[int] = set()  # the devices whose locks were tested


def check_locks(folder: Path) -> None:
    """Raise StoreError where the file system grants one lock to two processes: once a device.

    Some network file systems do, and calls would be paid for twice and records lost.
    """
    device = os.stat(folder).st_dev
    if device in _EXCLUDES:
        return
    if not claims_of(folder).exclude():
        raise StoreError(
            f"the file system of {folder} grants one lock to two processes, so you would pay for"
            " calls twice. Record into a store on a local disk, and merge it.",
            path=folder,
        )
    _EXCLUDES.add(device)


def claims_of(folder: Path) -> Claims:
    """Return the claims of this process on the store in `folder`, which must exist."""
    path = os.path.join(os.path.realpath(folder), "claims")
    with _OPEN_LOCK:
        known = _OPEN.get((os.getpid(), path))
        if known is None or not known.is_current():
            known = _OPEN[(os.getpid(), path)] = Claims(path)
        return known


class Claims:
    """The claims of one process on one store."""

    def __init__(self, path: str) -> None:
        if fcntl is None:
            raise ReadOnlyStore(
                f"nothing can be recorded at {os.path.dirname(path)}: Windows lacks the locks that"
                " keep a call from being paid for twice. Record under Linux, macOS or WSL.",
                path=Path(path).parent,
            )
        self._path = path
        self._file = open_plain(Path(path), os.O_RDWR)
        self._mine: set[int] = set()
        self._lock = threading.Lock()
        self._creating = threading.Lock()

    def is_current(self) -> bool:
        """Return whether the open file is still the file at the path."""
        try:
            return os.path.samestat(os.fstat(self._file), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def take(self, key: str) -> bool:
        """Claim `key`; return False if another thread or process has it."""
        offset = int(key[:15], 16)
        with self._lock:
            if offset in self._mine:
                return False
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except (BlockingIOError, PermissionError):
                return False
            self._mine.add(offset)
            return True

    def drop(self, keys: Iterable[str]) -> None:
        """Drop the claims to `keys`."""
        with self._lock:
            for offset in {int(key[:15], 16) for key in keys} & self._mine:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, offset)
                self._mine.discard(offset)

    @contextmanager
    def alone(self, offset: int = _CREATION) -> Iterator[None]:
        """Hold the lock for creating or testing the store, among threads and processes."""
        with self._creating:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, offset)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, offset)

    def exclude(self) -> bool:
        """Return whether a lock of this process keeps another from having it.

        True also where no other process can be started to try.
        """
        command = [sys.executable, "-I", "-S", "-c", _TAKES, self._path, str(_TESTED)]
        with self.alone(_TESTED):
            try:
                code = subprocess.run(command, capture_output=True, timeout=LOCK_WAIT).returncode
            except (OSError, subprocess.TimeoutExpired):
                return True
        return code != _TAKEN


_NEW = ".new-"  # a folder in which a store is made
_INSERT = (
    "INSERT INTO Cache(key, raw, store_time, access_time, access_count, size, mode, value)"
    " VALUES (?, 1, ?, ?, 0, 0, ?, ?)"
)


@contextmanager
def recording(folder: Path) -> Iterator[diskcache.Cache]:
    """Open the diskcache of the store in `folder` for writing by this thread; create it if new.

    Raises NotAStore where schema, triggers or settings are not exactly those that it makes itself,
    ReadOnlyStore where the folder cannot be written (on Windows always), StoreError where the disk
    is full, or its locks are none.
    """
    import diskcache

    look_over(folder)
    try:
        _create(folder)
        check_ours(folder)
        check_locks(folder)
        path = _Verbatim(folder)
        cache = diskcache.Cache(path, timeout=LOCK_WAIT, disk=_disk(), **_settings())
    except (OSError, sqlite3.Error, diskcache.Timeout) as error:
        raise unwritable(folder, error) from error
    with closing(cache):
        yield cache
        with suppress(sqlite3.Error):  # fold the log in, so that the file alone is the store
            cache._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextmanager
def transaction(cache: diskcache.Cache) -> Iterator[None]:
    """Run one transaction: at its end, all of it is on the disk or none."""
    import diskcache

    folder = Path(str.__str__(cache.directory))
    try:
        with cache.transact():
            yield
    except diskcache.Timeout as error:
        cache.close()
        raise unwritable(folder, error.__context__ or error) from error
    except sqlite3.Error as error:
        cache.close()  # rolls back what a failed commit leaves open
        raise unwritable(folder, error) from error


def insert(cache: diskcache.Cache, rows: Iterable[tuple[str, bytes]]) -> None:
    """Write rows under keys that have none, inside a transaction, as diskcache's `set` does.

    It is one statement for all of them; `set` looks for the key and writes, a row at a time.
    """
    now = time.time()
    cache._con.executemany(_INSERT, ((key, now, now, RAW, value) for key, value in sorted(rows)))


def unwritable(folder: Path, error: BaseException) -> StoreError:
    """Return the error of a store that cannot be written."""
    text = str(error)
    if isinstance(error, PermissionError) or "readonly" in text or "Read-only" in text:
        return ReadOnlyStore(
            f"cannot write the store at {folder} ({text}); record into another folder and merge"
            " this store into it",
            path=folder,
        )
    return StoreError(
        f"cannot write the store at {folder} ({text}). Stored replies are safe: free some space or"
        " wait for the other writer, and run again.",
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

    diskcache.Cache(_Verbatim(folder), disk=_disk(), **_settings()).close()


class _Verbatim(str):
    """A path that diskcache takes as it is: it would put a variable's value for `$HOME` in it."""

    def __str__(self) -> str:
        return self

    def __contains__(self, part: object) -> bool:
        return part not in ("$", "%") and str.__contains__(self, str(part))


def _create(folder: Path) -> None:
    """Make the store where there is none: beside, then renamed, so that nobody sees half of it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    left = list(folder.glob(f"{_NEW}*"))
    if (folder / FILE).exists() and not left:
        return
    with claims_of(folder).alone():
        for path in left:  # whoever made it was killed: he would hold the lock
            shutil.rmtree(path, ignore_errors=True)
        if (folder / FILE).exists():
            return
        beside = Path(tempfile.mkdtemp(prefix=_NEW, dir=folder))
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
    # Cut short and few, so that a stranger's schema fills no memory: one of ours is shorter.
    parts = ", ".join(f"substr({name}, 1, 2000)" for name in ("type", "name", "tbl_name", "sql"))
    rows = reader.all(f"SELECT {parts} FROM sqlite_master LIMIT 100")
    if not any(row[:2] == ("table", "Settings") for row in rows):
        return frozenset(rows)
    counters = ("count", "size", "hits", "misses")
    value = "iif(typeof(value) IN ('text', 'blob'), substr(value, 1, 200), value)"
    settings = [
        row
        for row in reader.all(f"SELECT substr(key, 1, 200), {value} FROM Settings LIMIT 100")
        if not (row[0] in counters and isinstance(row[1], int))
    ]
    return frozenset(rows) | frozenset(settings)


@cache
def _expected() -> frozenset[tuple[Any, ...]]:
    with tempfile.TemporaryDirectory(prefix="lmjudge-") as name:
        _make(Path(name))
        with closing(Reader(Path(name))) as reader:
            return _schema(reader)
