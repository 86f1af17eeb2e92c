"""Claims: which key somebody is asking for at this moment.

A claim is a byte-range lock on one file, at an offset read off the key, so that a killed asker's
claims fall free with it; a row or a lock file would stay behind. Such locks belong to a process,
and closing any descriptor of the file drops them all: so each process opens the file once, never
closes it, and keeps its own list for its threads.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lmjudge.store.reading import open_plain

_OPEN: dict[tuple[int, str], Claims] = {}
_OPEN_LOCK = threading.Lock()
_CREATION = 2**62  # past every key's offset


def claims_of(folder: Path) -> Claims:
    """The claims of this process on the store in `folder`; the folder must exist."""
    path = os.path.join(os.path.realpath(folder), "claims")
    with _OPEN_LOCK:
        known = _OPEN.get((os.getpid(), path))
        if known is None or not known.is_current():
            known = _OPEN[(os.getpid(), path)] = Claims(path)
        return known


class Claims:
    """The claims of one process on one store."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = open_plain(Path(path), os.O_RDWR)
        self._mine: set[int] = set()
        self._lock = threading.Lock()
        self._creating = threading.Lock()

    def is_current(self) -> bool:
        """Whether the open file is still the one that lies at the path."""
        try:
            return os.path.samestat(os.fstat(self._file), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def take(self, key: str) -> bool:
        """Whether the claim to ask for `key` is now ours; False where somebody has it already."""
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
        """Give the claims to `keys` up."""
        with self._lock:
            for offset in {int(key[:15], 16) for key in keys} & self._mine:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, offset)
                self._mine.discard(offset)

    @contextmanager
    def creation(self) -> Iterator[None]:
        """Alone, among threads and processes, for the time of creating the store."""
        with self._creating:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _CREATION)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _CREATION)
