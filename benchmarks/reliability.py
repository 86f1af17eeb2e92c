"""The long reliability run: what tests/store/test_durability.py does a few times, done many times over.

    python benchmarks/reliability.py [--times 1000] [--cuts 20] [--jobs 4] > table.md

Kills 1,000 recording workers, cuts the power 20 times (a file system in a file: needs root and
loop devices on Linux), flips 1,000 single bits of the file and 1,000 of its log, tears 1,000
logs and truncates 100 files. What must never be is counted; the exit code is 1 where it was. What
is harmed once (full disk, read-only media, clocks, names, versions) is in the tests.
benchmarks/results/reliability.md keeps the output.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
import damage  # noqa: E402


def machine() -> str:
    """What a figure here was measured on, and with what beside it."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    kinds = [line for line in told.splitlines() if line.startswith("model name")]
    return (
        f"{time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip()}, Python"
        f" {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores"
        f" ({kinds[0].partition(': ')[2].strip() if kinds else platform.machine()}), load"
        f" {os.getloadavg()[0]:.1f}"
    )


def shared_out(act, folder: Path, times: int, jobs: int) -> Counter[str]:
    """The counts of `times` harms, done side by side in folders and from seeds of their own."""

    def part(job: int) -> Counter[str]:
        (folder / str(job)).mkdir()
        return act(folder / str(job), len(range(job, times, jobs)), seed=job)

    total = Counter[str]()
    with ThreadPoolExecutor(jobs) as pool:
        for counts in pool.map(part, range(jobs)):
            total.update(counts)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--only", default="", help="kinds of harm, with commas between")
    given = parser.parse_args()
    kinds = {
        "kill -9 while recording": (damage.kills, given.times, given.jobs),
        "power cut": (damage.power_cuts, given.cuts, 1),
        "power cut (control: diskcache as it comes)": (
            partial(damage.power_cuts, job="careless"),
            given.cuts,
            1,
        ),
        "log torn anywhere": (damage.torn_logs, given.times, 1),
        "bit flip in the log": (partial(damage.torn_logs, flip=True), given.times, 1),
        "bit flip": (damage.flips, given.times, 1),
        "file cut off": (damage.truncations, given.times // 10, 1),
    }
    print(f"{machine()}\n", flush=True)
    print("| harm | times | minutes | must never be | what was counted |\n|---|---|---|---|---|")
    bad = 0
    for name, (act, times, jobs) in kinds.items():
        if given.only and name not in given.only.split(","):
            continue
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lmjudge-reliability-") as folder:
            try:
                counts = shared_out(act, Path(folder), times, jobs)
            except OSError as error:
                print(f"| {name} | 0 | | | left out: {error} |", flush=True)
                continue
        found = {what: counts.pop(what, 0) for what in damage.NEVER if what in counts}
        bad += sum(found.values()) if "control" not in name else 0
        never = ", ".join(f"{what} {number:,}" for what, number in found.items())
        told = ", ".join(f"{what} {number:,}" for what, number in sorted(counts.items()))
        minutes = (time.monotonic() - begun) / 60
        print(f"| {name} | {times:,} | {minutes:.1f} | {never} | {told} |", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
