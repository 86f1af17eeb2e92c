"""The store beside what peers keep judgments in: the same records, one run, one disk.

    python benchmarks/store.py [--records 20000] [--million 1000000] [--inspect PYTHON] > table.md

Peers: diskcache as it comes (pickles, one set or get a call, no word to the disk), raw sqlite (the
record as JSON text under its SHA-256, write-ahead log, synchronous=FULL), FastChat's JSON lines read
into a dict, and Inspect AI's model cache (`cache_store`, `cache_fetch`: a pickle a call), run by the
Python that --inspect names where it is not installed here. Ours checks every record's SHA-256 as it
is read and is on the disk when written; of the peers only raw sqlite is the latter, none the former.
Each line is the best of the rounds; seconds of the processor are what counts on a busy machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import diskcache
from reliability import machine

from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, disk

GROUP = 64
_WORDS = [f"word{n}" for n in range(3000)]
_INSPECT = """
import json, sys, time
from inspect_ai.model import CachePolicy, ChatMessageSystem, ChatMessageUser, GenerateConfig, ModelOutput
from inspect_ai.model._cache import CacheEntry, cache_fetch, cache_store
import inspect_ai
rows = [json.loads(line) for line in open(sys.argv[1])]
def entries():
    for row in rows:
        system, user = row["messages"]
        yield row["text"], CacheEntry(
            base_url=None, config=GenerateConfig(temperature=0.0, max_tokens=2048), model="gpt-4",
            input=[ChatMessageSystem(content=system["content"]), ChatMessageUser(content=user["content"])],
            policy=CachePolicy(), tool_choice=None, tools=[])
def took(act):
    begun, busy = time.perf_counter(), time.process_time()
    assert act()
    return time.perf_counter() - begun, time.process_time() - busy
write = took(lambda: all(cache_store(e, ModelOutput.from_content("gpt-4", text)) for text, e in entries()))
read = took(lambda: all(cache_fetch(e).completion == text for text, e in entries()))
print(json.dumps([inspect_ai.__version__, write, read]))
"""


def made(first: int, count: int, words: int = 100) -> Iterable[Record]:
    """Records of some 1.9 KB of JSON each, or of fewer words."""
    rng = random.Random(first)
    for n in range(first, first + count):
        system = {"role": "system", "content": "Judge the answer. " * 12}
        user = {"role": "user", "content": f"{n} " + " ".join(rng.choices(_WORDS, k=words))}
        request = Request("gpt-4", [system, user], {"temperature": 0, "max_tokens": 2048})
        reply = Reply(" ".join(rng.choices(_WORDS, k=words)) + "\n[[A]]", "stop", created=float(n))
        yield Record(request, reply)


def anew(records: list[Record]) -> list[Record]:
    """The same records with nothing worked out yet."""
    return [Record(requested(one.request), one.reply) for one in records]


def requested(one: Request) -> Request:
    return Request(one.model, one.messages, one.params)


def as_text(one: Record) -> tuple[str, str]:
    """The record as anybody would keep it: JSON, under the SHA-256 of the request's."""
    request = one.request.as_json()
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return key, json.dumps({"request": request, "reply": one.reply.as_json()})


class Sqlite:
    """Raw sqlite, with what makes a commit durable."""

    def __init__(self, path: Path) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = wal", "synchronous = full"):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.execute("CREATE TABLE kept (key TEXT UNIQUE, value TEXT)")

    def write(self, records: list[Record]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT INTO kept VALUES (?, ?)", map(as_text, records))
        self.db.execute("COMMIT")

    def read(self, requests: list[Request]) -> list[str]:
        keys = [
            hashlib.sha256(json.dumps(r.as_json(), sort_keys=True).encode()).hexdigest()
            for r in requests
        ]
        sql = "SELECT value FROM kept WHERE key IN (SELECT value FROM json_each(?))"
        found = []
        for at in range(0, len(keys), 512):
            rows = self.db.execute(sql, (json.dumps(keys[at : at + 512]),))
            found += [json.loads(text)["reply"]["text"] for (text,) in rows]
        return found


class Table:
    """The best seconds, of the clock and of the processor, by what and who."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[float, float, int]] = {}

    def time(self, what: str, who: str, count: int, act: Callable[[], object]) -> None:
        begun, busy = time.perf_counter(), time.process_time()
        act()
        self.add(what, who, count, time.perf_counter() - begun, time.process_time() - busy)

    def add(self, what: str, who: str, count: int, wall: float, busy: float) -> None:
        best = self.rows.get((what, who), (float("inf"), float("inf"), count))
        self.rows[what, who] = (min(best[0], wall), min(best[1], busy), count)

    def show(self) -> None:
        print("| what | who | a second | a second of the processor | ours takes, of theirs |")
        print("|---|---|---|---|---|")
        for (what, who), (wall, busy, count) in self.rows.items():
            ours = self.rows.get((what, "lmjudge"))
            ratio = (
                "" if who == "lmjudge" or not ours else f"{ours[0] / ours[2] / (wall / count):.2f}"
            )
            ratio += f" ({ours[1] / ours[2] / (busy / count):.2f})" if ratio else ""
            print(f"| {what} | {who} | {count / wall:,.0f} | {count / busy:,.0f} | {ratio} |")


def rounds_of(records: list[Record], few: list[Record], folder: Path, table: Table) -> None:
    """One round of everything, in a folder of its own."""
    requests, texts = [one.request for one in records], [one.reply.text for one in records]
    count, asked = len(records), "replay, requests given"
    store = Store(folder / "ours")
    fresh = anew(records)
    table.time("import", "lmjudge", count, lambda: store.add(fresh))
    raw = Sqlite(folder / "raw.db")
    table.time("import", "raw sqlite, one transaction", count, lambda: raw.write(anew(records)))
    cache = diskcache.Cache(str(folder / "diskcache"))
    table.time(
        "import",
        "diskcache, not durable",
        count,
        lambda: [cache.set(as_text(one)[0], one.reply.as_json()) for one in anew(records)],
    )

    def write_lines() -> None:
        with open(folder / "all.jsonl", "w") as file:
            for one in anew(records):
                file.write("{}\t{}\n".format(*as_text(one)))

    table.time("import", "JSON lines, not durable", count, write_lines)

    keys = [one.key for one in requests]
    told: list[str] = []

    def bulk() -> None:
        found = Store(folder / "ours").look_up(keys)
        told[:] = [found[key].text for key in keys]

    table.time("verified replies, keys given", "lmjudge", count, bulk)
    assert told == texts
    again = list(map(requested, requests))
    replay = Store(folder / "ours")
    table.time(asked, "lmjudge", count, lambda: [r.text for _, r in replay.ask(again)])
    table.time(asked, "raw sqlite", count, lambda: raw.read(requests))
    by_key = [(as_text(one)[0], one) for one in records]
    table.time(
        asked, "diskcache", count, lambda: [cache[as_text(one)[0]]["text"] for _, one in by_key]
    )

    def read_lines() -> None:
        with open(folder / "all.jsonl") as file:
            held = {line[:64]: json.loads(line[65:]) for line in file}
        assert all(held[as_text(one)[0]]["reply"]["text"] for one in records)

    table.time(asked, "JSON lines", count, read_lines)

    name = f"durable writes, {GROUP} at a time"
    groups = [few[at : at + GROUP] for at in range(0, len(few), GROUP)]
    single = few[: 4 * GROUP]
    with disk.recording(store.path) as opened:
        mine = [anew(group) for group in groups]
        table.time(
            name, "lmjudge", len(few), lambda: [store.commit(opened, group) for group in mine]
        )
    table.time(name, "raw sqlite", len(few), lambda: [raw.write(anew(group)) for group in groups])
    one_by_one = Store(folder / "singly")
    one_by_one.add(records[:1])
    with disk.recording(one_by_one.path) as opened:
        ours = [[one] for one in anew(single)]
        table.time(
            "durable writes, singly",
            "lmjudge",
            len(single),
            lambda: [one_by_one.commit(opened, group) for group in ours],
        )
    other = Sqlite(folder / "singly.db")
    table.time(
        "durable writes, singly",
        "raw sqlite",
        len(single),
        lambda: [other.write([one]) for one in anew(single)],
    )
    for opened_file in (store, one_by_one, replay, cache, raw.db, other.db):
        opened_file.close()


def inspect_ai(python: str, records: list[Record], folder: Path, table: Table) -> str:
    """Inspect AI's cache on the same records; what to say of it."""
    rows = folder / "rows.jsonl"
    lines = [
        json.dumps({"messages": list(one.request.messages), "text": one.reply.text})
        for one in records
    ]
    rows.write_text("\n".join(lines))
    done = subprocess.run(
        [python, "-c", _INSPECT, rows],
        env={**os.environ, "INSPECT_CACHE_DIR": str(folder / "inspect"), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return f"Inspect AI left out: {(done.stderr.splitlines() or ['?'])[-1]}"
    version, write, read = json.loads(done.stdout)
    table.add("import", "Inspect AI, not durable", len(records), *write)
    table.add("replay, requests given", "Inspect AI", len(records), *read)
    return f"Inspect AI {version}"


def million(folder: Path, count: int) -> None:
    """How long a store of `count` records takes from being opened to its first hit."""
    store, begun = Store(folder / "million"), time.perf_counter()
    for first in range(0, count, 50_000):
        store.add(made(first, min(50_000, count - first), 10))
    store.close()
    built = time.perf_counter() - begun
    path, took = folder / "million" / "cache.db", {"warm": [], "cold": []}
    key = next(iter(made(0, 1, 10))).request.key
    for how in ("cold", "warm") * 3:
        if how == "cold":
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        opened = Store(folder / "million")
        assert opened.look_up([key])
        took[how].append(time.perf_counter() - begun)
        opened.close()
    print(
        f"\nA store of {count:,} records ({path.stat().st_size / 1e6:,.0f} MB, built in"
        f" {built:,.0f} s, the making of the records included): opened to the first hit in"
        f" {min(took['warm']):.3f} s, {min(took['cold']):.3f} s with its file out of memory."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("records", 20_000), ("million", 1_000_000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--inspect", default=sys.executable, help="a Python with inspect_ai")
    given = parser.parse_args()
    print(f"{machine()}\n", flush=True)
    records = list(made(0, given.records))
    few = list(made(given.records, 16 * GROUP))
    table, note = Table(), ""
    folder = Path(tempfile.mkdtemp(prefix="lmjudge-store-"))
    try:
        for nth in range(given.rounds):
            (part := folder / str(nth)).mkdir()
            rounds_of(records, few, part, table)
            note = inspect_ai(given.inspect, records, part, table)
            shutil.rmtree(part)
        if given.rounds:
            print(f"{given.records:,} records, best of {given.rounds} rounds; {note}.\n")
            table.show()
        if given.million:
            million(folder, given.million)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
