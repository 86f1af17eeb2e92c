"""Harm done to a store, as often as asked for, and what became of its records.

`tests/store/test_durability.py` does each kind a few times, `benchmarks/reliability.py` many. Every
function works in an empty folder and from a seed, and gives its counts by name; the names in
`NEVER` must be 0.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from loopback import Loopback

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import StoreError
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, disk, exchange

NEVER = (
    *("lost", "wrong", "did not open", "asked again though kept", "calls beyond those in flight"),
    *("damaged", "missing and not told", "taken for whole"),
)
IN_FLIGHT = 16
_KILLS_PER_STORE = 20


def ask(number: int) -> Request:
    return Request("m", [{"role": "user", "content": f"q{number}"}], {"temperature": 0})


def said(number: int) -> str:
    """What is replied to request `number`: some 300 bytes, every 17th time 30,000."""
    rng = random.Random(number)
    return " ".join(str(rng.random()) for _ in range(1500 if number % 17 == 0 else 15))


def record(number: int) -> Record:
    return Record(ask(number), Reply(said(number), "stop", created=float(number)))


def server(delay: float = 0.0) -> Loopback:
    return Loopback(lambda body: said(int(body["messages"][0]["content"][1:])), delay=delay)


def held(folder: Path, numbers: Iterable[int]) -> Counter[str]:
    """How many of these records are right, wrong or lost."""
    wanted = {ask(number).key: number for number in numbers}
    try:
        store = Store(folder)
        found = store.look_up(wanted)
        store.close()
    except StoreError:
        return Counter({"did not open": 1, "lost": len(wanted)})
    wrong = sum(reply.text != said(wanted[key]) for key, reply in found.items())
    lost = len(wanted) - len(found)
    return Counter({"right": len(found) - wrong, "wrong": wrong, "lost": lost, "did not open": 0})


# -- Workers that are killed ----------------------------------------------------------------------


def record_all(folder: str, url: str, acked: str, first: int, shift: float) -> None:
    """Ask for request `first` and all after it; its number goes to `acked` once it is handed on."""
    real = time.time
    time.time = lambda: real() + shift
    store = Store(folder, mode="record")
    endpoint = OpenAIEndpoint(url, concurrency=IN_FLIGHT)
    with open(acked, "ab", buffering=0) as file:
        for number, _ in enumerate(store.ask(map(ask, count(first)), endpoint), first):
            file.write(b"%d\n" % number)


def careless(folder: str, url: str, acked: str, first: int, shift: float) -> None:
    """The control: diskcache as it comes, which does not wait for the disk."""
    import diskcache

    cache = diskcache.Cache(folder)
    with open(acked, "ab", buffering=0) as file:
        for number in count(first):
            cache[ask(number).key] = said(number)
            file.write(b"%d\n" % number)


def nursery() -> None:
    """Fork a worker, or end one, at every line of standard input."""
    # Imported once, for all workers.
    import lmjudge.endpoints.wire
    import lmjudge.store.asker  # noqa: F401

    for line in sys.stdin:
        job, *given = json.loads(line)
        if job == "kill":
            os.kill(given[0], signal.SIGKILL)
            os.waitpid(given[0], 0)
            answer = 0
        elif (answer := os.fork()) == 0:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 2)
                {"record_all": record_all, "careless": careless}[job](*given)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


@contextmanager
def workers(scratch: Path) -> Iterator[Any]:
    """A function that has a nursery do a job, and returns what it answers: the worker's id."""
    code = "import damage; damage.nursery()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def do(*job: Any) -> int:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    with process:
        yield do


def acknowledged(path: Path) -> list[int]:
    """The numbers that a worker was handed; it may have been killed in the middle of a line."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [int(line) for line in lines]


def kills(folder: Path, times: int, seed: int = 0, longest: float = 0.4) -> Counter[str]:
    """Workers that record are killed by SIGKILL, a quarter at any moment from their first on.

    The others are killed once they have been handed a reply.
    """
    rng, total = random.Random(seed), Counter[str]()
    with server(delay=0.005) as served, workers(folder) as do:
        for nth in range(-(-times // _KILLS_PER_STORE)):
            store, acked = folder / f"store-{nth}", folder / f"acked-{nth}"
            served.calls.clear()
            rounds = min(_KILLS_PER_STORE, times - nth * _KILLS_PER_STORE)
            seen = 0
            for _ in range(rounds):
                worker = do("record_all", str(store), served.url, str(acked), seen, 0.0)
                working = rng.random() > 0.25
                while working and max(acknowledged(acked), default=-1) < seen:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0, longest))
                do("kill", worker)
                numbers = acknowledged(acked)
                total.update(held(store, numbers))
                seen = max(numbers, default=-1) + 1
            total["kills"] += rounds
            total["acknowledged"] += seen
            # A run for the rest: it waits for nobody, and asks for nothing that was kept.
            before = len(served.calls)
            kept = held(store, range(seen + IN_FLIGHT))["right"]
            whole = Store(store, mode="record")
            endpoint = OpenAIEndpoint(served.url, concurrency=IN_FLIGHT)
            asked = [reply for _, reply in whole.ask(map(ask, range(seen + IN_FLIGHT)), endpoint)]
            whole.close()
            total["asked again though kept"] += len(served.calls) - before - (len(asked) - kept)
            total["damaged"] += len(exchange.verify(store).damaged)
            distinct = len({call.body["messages"][0]["content"] for call in served.calls})
            repeated = len(served.calls) - distinct
            total["calls repeated"] += repeated
            total["calls beyond those in flight"] += max(0, repeated - rounds * IN_FLIGHT)
    return total


# -- Power that fails -----------------------------------------------------------------------------


@contextmanager
def mounted(what: Path | str, at: Path, *options: str) -> Iterator[Path]:
    """A file system, mounted; OSError where this system does not let us."""
    at.mkdir(exist_ok=True)
    told = subprocess.run(["mount", *options, what, at], capture_output=True, text=True)
    if told.returncode:
        raise OSError(told.stderr.strip() or "cannot be mounted")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def power_cuts(folder: Path, times: int, seed: int = 0, job: str = "record_all") -> Counter[str]:
    """The power fails: what had reached the disk by then is all there is.

    A worker records on a file system of its own in a file; it is frozen, and the file copied
    without a sync, so that what nobody waited for is not in it.
    """
    rng, total = random.Random(seed), Counter[str]()
    disk, copy = folder / "disk.img", folder / "copy.img"
    with open(disk, "wb") as file:
        file.truncate(2**26)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    with (
        mounted(disk, folder / "disk", "-o", "loop") as root,
        server() as served,
        workers(folder) as do,
    ):
        seen = 0
        for nth in range(times):
            acked = folder / f"acked-{nth}"
            worker = do(job, str(root / "store"), served.url, str(acked), seen, 0.0)
            while not acknowledged(acked):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1.5))
            os.kill(worker, signal.SIGSTOP)
            numbers = acknowledged(acked)
            subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
            do("kill", worker)
            seen = numbers[-1] + 1
            total.update(cuts=1, acknowledged=len(numbers))
            with mounted(copy, folder / "copy", "-o", "loop") as after:
                if job == "careless":
                    total["lost"] += len(numbers) - _carelessly_held(after / "store", numbers)
                else:
                    total.update(held(after / "store", numbers))
                    total["damaged"] += len(exchange.verify(after / "store").damaged)
    return total


def _carelessly_held(folder: Path, numbers: list[int]) -> int:
    import diskcache

    try:
        with diskcache.Cache(str(folder)) as cache:
            return sum(cache.get(ask(number).key) == said(number) for number in numbers)
    except (sqlite3.Error, OSError, EOFError):
        return 0


def torn_logs(
    folder: Path, times: int, seed: int = 0, records: int = 60, *, flip: bool = False
) -> Counter[str]:
    """The log ends anywhere, in noise: what was committed before is there, nothing is wrong.

    With `flip` one bit of it is another instead, which ends it there as well.
    """
    rng, total = random.Random(seed), Counter[str]()
    store, log = Store(folder / "store"), folder / "store" / "cache.db-wal"
    with disk.recording(store.path) as cache:
        ends = []
        for number in range(records):
            store.commit(cache, [record(number)])
            ends.append(log.stat().st_size)
        whole, written = (store.path / "cache.db").read_bytes(), log.read_bytes()
    store.close()
    for nth in range(times):
        cut = rng.randint(0, len(written))
        torn = folder / f"torn-{nth}"
        torn.mkdir()
        (torn / "cache.db").write_bytes(whole)
        after = rng.randbytes(rng.randint(0, 9000))
        if flip:
            cut = min(cut, len(written) - 1)
            after = bytes([written[cut] ^ 1 << rng.randrange(8)]) + written[cut + 1 :]
        (torn / "cache.db-wal").write_bytes(written[:cut] + after)
        kept = [number for number, end in enumerate(ends) if end <= cut]
        total.update(held(torn, kept))
        total["wrong"] += held(torn, range(records))["wrong"]
        total["flips" if flip else "cuts"] += 1
        shutil.rmtree(torn)
    return total


# -- Bits that flip, files that are cut off -------------------------------------------------------


def _sealed(folder: Path, records: int) -> Path:
    store = Store(folder / "store")
    store.add(map(record, range(records)))
    store.close()
    return exchange.seal(store.path)


def _named(folder: Path, numbers: Iterable[int]) -> tuple[bool, bool]:
    """Whether verifying tells of damage at all, and of every unread record by its key."""
    wanted = {ask(number).key for number in numbers}
    try:
        store = Store(folder)
        missing = wanted - store.look_up(wanted).keys()
        store.close()
        told = exchange.verify(folder).damaged
    except StoreError:
        return True, False
    return bool(told), missing <= told.keys()


def flips(folder: Path, times: int, seed: int = 0, records: int = 300) -> Counter[str]:
    """One bit of the file is another: no wrong reply; what is missing is told; the rest is read.

    `saved` are the records read of a file that no longer opens, or that hides more than one.
    """
    rng, total = random.Random(seed), Counter[str]()
    path = _sealed(folder, records)
    for nth in range(times):
        place, bit = rng.randrange(path.stat().st_size), 1 << rng.randrange(8)
        with open(path, "r+b") as file:
            (byte,) = os.pread(file.fileno(), 1, place)
            os.pwrite(file.fileno(), bytes([byte ^ bit]), place)
            found = held(path.parent, range(records))
            missing = found["lost"]
            total.update(flips=1, wrong=found["wrong"])
            total["no effect" if not missing else f"{min(missing, 2)} missing"] += 1
            if missing:
                told, by_key = _named(path.parent, range(records))
                total["missing and not told"] += not told
                total[f"{min(missing, 2)} missing: named by key"] += by_key
            if missing > 1:
                into = folder / f"saved-{nth}"
                try:
                    exchange.merge(into, [path.parent])
                    rescued = held(into, range(records))
                except StoreError:
                    rescued = Counter()
                total["wrong"] += rescued["wrong"]
                total["2 missing: all but one saved"] += rescued["right"] >= records - 1
                shutil.rmtree(into, ignore_errors=True)
            os.pwrite(file.fileno(), bytes([byte]), place)
    return total


def _rows(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        return [row for (row,) in file.execute("SELECT value FROM Cache")]


def _page_end(content: bytes, row: bytes) -> int:
    """Where the last page ends that holds a part of a row: a long one lies on several."""
    parts = {content.find(row[at : at + 16]) for at in range(0, len(row) - 16, 16)}
    return max(part // 4096 + 1 for part in parts if part >= 0) * 4096


def truncations(folder: Path, times: int, seed: int = 0, records: int = 300) -> Counter[str]:
    """The file ends early: never taken for whole or empty; what lies before the cut is saved."""
    rng, total = random.Random(seed), Counter[str]()
    content = (path := _sealed(folder, records)).read_bytes()
    ends = [_page_end(content, row) for row in _rows(path)]
    for nth in range(times):
        cut = int(rng.random() * len(content))
        path.write_bytes(content[:cut])
        total["cuts"] += 1
        total["taken for whole"] += not held(path.parent, range(records))["did not open"]
        into = folder / f"saved-{nth}"
        exchange.merge(into, [path.parent])
        rescued = held(into, range(records)) if (into / "cache.db").exists() else Counter()
        total["wrong"] += rescued["wrong"]
        total["records before the cut"] += sum(end <= cut for end in ends)
        total["saved"] += rescued["right"]
        shutil.rmtree(into, ignore_errors=True)
    return total
