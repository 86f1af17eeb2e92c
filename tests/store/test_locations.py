"""Where a store may lie, and what becomes of it on disks that are full, locked or odd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from endpoints import Echo

from lmjudge.errors import NotAStore, StoreError
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, exchange


def ask(number: int) -> Request:
    return Request("m", [{"role": "user", "content": f"q{number}"}])


def some(count: int) -> list[Record]:
    return [Record(ask(n), Reply(f"reply {n} " * 30)) for n in range(count)]


def keys(count: int) -> list[str]:
    return [record.request.key for record in some(count)]


def python(code: str, *words: str | Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- paths


def test_another_working_folder_is_no_other_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store, endpoint = Store("judgments", mode="record"), Echo()
    list(store.ask(map(ask, range(5)), endpoint))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    list(store.ask(map(ask, range(5)), endpoint))
    assert len(endpoint.asked) == 5
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    "name",
    ["$HOME", "${HOME}", "~", "~root", "a#b?c", "%41%", "with spaces", "caf\u00e9", b"\xff\xfe"],
    ids=ascii,
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_path_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | bytes, relative: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    named = os.fsdecode(name)
    store = Store(named if relative else tmp_path / named, mode="record")
    list(store.ask(map(ask, range(3)), Echo()))
    store.close()
    exchange.seal(store.path)
    assert os.listdir(tmp_path) == [named]
    assert "cache.db" in os.listdir(tmp_path / named)
    assert len(Store(tmp_path / named).look_up(keys(3))) == 3
    assert exchange.verify(tmp_path / named).records == 3


def test_a_path_too_long_for_sqlite_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="bytes, and SQLite opens none"):
        Store(tmp_path.joinpath(*["n" * 100] * 5), mode="record")
    long = os.path.join(tmp_path, *["n" * 100] * 3)
    store = Store(os.path.join(long, "n" * (479 - len(long))), mode="record")
    assert len(str(store.path)) == 480
    store.add(some(3))
    assert len(Store(store.path).look_up(keys(3))) == 3


def test_a_folder_in_the_files_place_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "cache.db").mkdir()
    with pytest.raises(NotAStore, match="no plain file"):
        Store(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_folder_that_may_not_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    Store(tmp_path / "store").add(some(3))
    (tmp_path / "store").chmod(0)
    try:
        with pytest.raises(StoreError, match="permissions"):
            Store(tmp_path / "store")
    finally:
        (tmp_path / "store").chmod(0o700)


# ---- full disks

_FULL = """
import resource, signal, sys
from lmjudge.errors import DamagedStore, StoreError
from lmjudge.store import Store, exchange
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
try:
    print(len(Store(sys.argv[1]).look_up(sys.argv[3].split())))
except DamagedStore as error:
    print("damaged", error)
except StoreError as error:
    print("told", error)
try:
    exchange.export(sys.argv[1], sys.argv[2])
except StoreError as error:
    print("told", error)
"""


def test_a_store_is_read_where_nothing_more_can_be_written(tmp_path: Path) -> None:
    """No file can grow: there is no room for cache.db-shm, nor for an export."""
    store = Store(tmp_path / "store")
    store.add(some(20))
    store.close()
    (store.path / "cache.db-shm").unlink(missing_ok=True)
    out = tmp_path / "out.zst"
    read, exported = python(_FULL, store.path, out, " ".join(keys(20))).splitlines()
    assert read == "20"
    assert exported.startswith(f"told cannot write {out}")
    assert not [path for path in tmp_path.iterdir() if path != store.path]


_LOGGED = """
import os, shutil, sys
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, disk
store = Store(sys.argv[1])
with disk.recording(store.path) as cache:
    store.commit(cache, [Record(Request("m", [{"role": "user", "content": f"q{n}"}]), Reply("x"))
                         for n in range(20)])
    os.mkdir(sys.argv[2])
    for name in ("cache.db", "cache.db-wal"):
        shutil.copy(store.path / name, sys.argv[2])
"""


def test_a_log_that_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    python(_LOGGED, tmp_path / "store", tmp_path / "copy")
    read, _ = python(_FULL, tmp_path / "copy", tmp_path / "o.zst", " ".join(keys(20))).splitlines()
    assert read.startswith("told")
    assert "cannot be read now" in read
    assert len(Store(tmp_path / "copy").look_up(keys(20))) == 20  # once there is room


# ---- locks

_SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
static int pretend(const char *name, int file, int command, void *argument) {
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
    if (command == F_SETLK || command == F_SETLKW) return 0;
    return real(file, command, argument);
}
int fcntl(int file, int command, ...) {
    va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest);
    return pretend("fcntl", file, command, argument);
}
int fcntl64(int file, int command, ...) {
    va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest);
    return pretend("fcntl64", file, command, argument);
}
"""
_RECORD = """
import sys
sys.path.insert(0, sys.argv[2])
from endpoints import Echo
from lmjudge.errors import StoreError
from lmjudge.records import Request
from lmjudge.store import Store
endpoint = Echo()
try:
    store = Store(sys.argv[1], mode="record")
    print(len(list(store.ask([Request("m", [{"content": "q"}])], endpoint))))
except StoreError as error:
    print(type(error).__name__, error)
print(len(endpoint.asked))
"""
HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler, to make locks that are none")
def test_locks_that_lock_nobody_out_are_found_before_the_first_call(tmp_path: Path) -> None:
    (tmp_path / "shim.c").write_text(_SHIM)
    library = tmp_path / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    said = python(_RECORD, tmp_path / "store", HELPERS, LD_PRELOAD=str(library)).splitlines()
    assert said[0].startswith("StoreError the file system of")
    assert "local disk" in said[0]
    assert said[1] == "0"
    assert python(_RECORD, tmp_path / "good", HELPERS).split() == ["1", "1"]


def test_where_no_process_can_be_started_recording_goes_on(tmp_path: Path) -> None:
    """As in a program that embeds Python, and knows no path of an interpreter."""
    embedded = "import sys; sys.executable = '/none'\n"
    assert python(embedded + _RECORD, tmp_path / "store", HELPERS).split() == ["1", "1"]


def test_without_posix_locks_a_store_is_read_and_not_written(tmp_path: Path) -> None:
    """As on Windows, which has no fcntl."""
    Store(tmp_path / "store").add(some(3))
    without = "import sys; sys.modules['fcntl'] = None\n"
    said = python(without + _RECORD, tmp_path / "store", HELPERS).splitlines()
    assert said[0].startswith("ReadOnlyStore nothing can be recorded at")
    assert "WSL" in said[0]
    read = "from lmjudge.store import Store\nprint(len(Store(sys.argv[1]).look_up(sys.argv[2:])))"
    assert python(without + read, tmp_path / "store", *keys(3)).split() == ["3"]


# ---- what killed processes leave


def test_what_the_killed_left_is_cleared_away(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", mode="record")
    for fresh in (True, False):
        (store.path / ".new-left").mkdir(parents=True)
        (store.path / ".new-left" / "cache.db").touch()
        store.add(some(3) if fresh else some(4))
        assert not list(store.path.glob(".new-*"))
    left, held = tmp_path / ".out.zst.1.part", tmp_path / ".out.zst.2.part"
    left.touch()
    held.touch()
    hold = "import fcntl, sys, time\nfile = open(sys.argv[1])\nfcntl.flock(file, fcntl.LOCK_EX)\n"
    with subprocess.Popen(
        [sys.executable, "-c", hold + "print(1, flush=True); time.sleep(60)", str(held)],
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        exchange.export(store.path, tmp_path / "out.zst")
        holder.kill()
    assert {path.name for path in tmp_path.iterdir()} == {"store", "out.zst", held.name}


_WRITES = """
import pathlib, sys
from lmjudge.places import replacing
with replacing(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print(1, flush=True)
    sys.stdin.read()
"""


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    from lmjudge.places import replacing

    target = tmp_path / "a [b].csv"
    target.write_bytes(b"before")
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        assert len(os.listdir(tmp_path)) == 2
        killed.kill()
    assert target.read_bytes() == b"before"

    def fail() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.listdir(tmp_path) == [target.name]
    assert target.read_bytes() == b"before"
    with replacing(target) as file:
        file.write(b"after")
    assert os.listdir(tmp_path) == [target.name]
    assert target.read_bytes() == b"after"
