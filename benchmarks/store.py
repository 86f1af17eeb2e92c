"""The store beside what peers keep judgments in, on the same records, in one run.

    python benchmarks/store.py [RECORDS]

Peers: diskcache as it comes (pickled values, one get or set a call: what dspy and lighteval keep),
a file per call (what Inspect AI does, here with JSON in place of pickles), and JSON lines read into
a dict (FastChat, AlpacaEval). Read the ratios; seconds are this machine's.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import diskcache

from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store

_WORDS = [f"word{n}" for n in range(3000)]


def made(count: int) -> list[Record]:
    rng = random.Random(0)
    return [
        Record(
            Request(
                "gpt-4",
                [
                    {"role": "system", "content": "Judge the answer. " * 12},
                    {"role": "user", "content": f"{n} " + " ".join(rng.choices(_WORDS, k=120))},
                ],
                {"temperature": 0, "max_tokens": 2048},
            ),
            Reply(" ".join(rng.choices(_WORDS, k=100)) + "\n[[A]]", "stop", created=float(n)),
        )
        for n in range(count)
    ]


def timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def size(folder: Path) -> float:
    return sum(item.stat().st_size for item in folder.rglob("*") if item.is_file()) / 1e6


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    records = made(count)
    plain = [
        (r.request.key, {"request": r.request.as_json(), "reply": r.reply.as_json()})
        for r in records
    ]
    requests = [Request(r.request.model, r.request.messages, r.request.params) for r in records]
    one = records[0].request
    few = made(count + 200)[count:]
    folder = Path(tempfile.mkdtemp(prefix="lmjudge-bench-"))
    rows: list[tuple[str, str, float, int]] = []

    store = Store(folder / "ours")
    rows.append(("import", "lmjudge", timed(lambda: store.add(records)), count))
    cache = diskcache.Cache(str(folder / "diskcache"))
    rows.append(("import", "diskcache", timed(lambda: [cache.set(k, v) for k, v in plain]), count))
    files = folder / "files"
    files.mkdir()

    def write_files() -> None:
        for key, value in plain:
            (files / key).write_text(json.dumps(value))

    rows.append(("import", "a file per call", timed(write_files), count))
    lines = folder / "lines"
    lines.mkdir()

    def write_lines() -> None:
        with open(lines / "all.jsonl", "w") as file:
            file.writelines(json.dumps({"key": k, **v}) + "\n" for k, v in plain)
            file.flush()
            os.fsync(file.fileno())

    rows.append(("import", "JSON lines", timed(write_lines), count))

    replay = Store(folder / "ours")
    rows.append(
        ("replay, keys computed", "lmjudge", timed(lambda: list(replay.ask(requests))), count)
    )

    def keyed(look: Callable[[str], object]) -> Callable[[], object]:
        return lambda: [
            look(hashlib.sha256(json.dumps(r.as_json(), sort_keys=True).encode()).hexdigest())
            for r in requests
        ]

    known = dict(plain)
    by_peer = {
        hashlib.sha256(json.dumps(r.as_json(), sort_keys=True).encode()).hexdigest(): r.key
        for r in requests
    }
    rows.append(
        ("replay, keys computed", "diskcache", timed(keyed(lambda k: cache[by_peer[k]])), count)
    )
    rows.append(
        (
            "replay, keys computed",
            "a file per call",
            timed(keyed(lambda k: json.loads((files / by_peer[k]).read_text()))),
            count,
        )
    )

    def read_lines() -> None:
        with open(lines / "all.jsonl") as file:
            held = {row["key"]: row for row in map(json.loads, file)}
        keyed(lambda k: held[by_peer[k]])()

    rows.append(("replay, keys computed", "JSON lines", timed(read_lines), count))

    again = Store(folder / "ours")
    rows.append(("open to first hit", "lmjudge", timed(lambda: again.look_up([one.key])), 1))
    rows.append(
        (
            "open to first hit",
            "diskcache",
            timed(lambda: diskcache.Cache(str(folder / "diskcache"))[one.key]),
            1,
        )
    )
    rows.append(("open to first hit", "JSON lines", timed(read_lines), 1))

    from lmjudge.store import recording

    with recording.recording(store.path) as opened:
        rows.append(
            (
                "one insert, on the disk",
                "lmjudge",
                timed(lambda: [store.commit(opened, [r]) for r in few]),
                len(few),
            )
        )
    full = diskcache.Cache(str(folder / "full"), sqlite_synchronous=2)
    rows.append(
        (
            "one insert, on the disk",
            "diskcache, synchronous=FULL",
            timed(lambda: [full.set(r.request.key, r.reply.as_json()) for r in few]),
            len(few),
        )
    )
    assert all(known[r.request.key]["reply"]["text"] == r.reply.text for r in records[:100])

    print(f"{count:,} records; Python {platform.python_version()}, {os.cpu_count()} cores\n")
    print("| what | who | microseconds each | ours is faster by |\n|---|---|---|---|")
    ours = {what: seconds / n for what, who, seconds, n in rows if who == "lmjudge"}
    for what, who, seconds, n in rows:
        ratio = "" if who == "lmjudge" else f"{seconds / n / ours[what]:.1f}x"
        print(f"| {what} | {who} | {1e6 * seconds / n:,.1f} | {ratio} |")
    print("\n| on the disk | MB |\n|---|---|")
    for name in ("ours", "diskcache", "files", "lines"):
        print(f"| {name} | {size(folder / name):.1f} |")
    for opened_cache in (cache, full):
        opened_cache.close()
    store.close()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
