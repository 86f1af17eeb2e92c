"""Notebooks: `lmjudge run` and papermill's command line over the same ones, in one run.

    python benchmarks/notebooks.py [--repeat N] [STEM ...]

Every way runs the same notebooks of nbs/ as a command of its own, in a folder of its own for
reports, offline, with the same store; before any is measured, all run once, so that compiled code is
in its cache. papermill runs once a notebook, as from a
shell, one after another or two at a time; `lmjudge run` makes the pages and the index besides. The
ways take turns, --repeat times, and the least wall time of each counts; CPU is that of all
processes. "Cells" is what the notebooks' cells took by papermill's own clock, imports among them;
"above" is wall time less cells, by notebook, where one runs at a time. All CSVs must be equal, byte
by byte, whichever way they were made. Prints a table in markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Took:
    wall: float
    cpu: float
    cells: float


def papermill(stems: list[str], home: Path, jobs: int) -> float:
    """What the cells took, by papermill's command line over each notebook."""
    home.mkdir(parents=True, exist_ok=True)

    def one(stem: str) -> float:
        out = home / f"{stem}.ipynb"
        command = [BIN / "papermill", ROOT / f"nbs/{stem}.ipynb", out, "--no-progress-bar"]
        subprocess.run([*command, "-k", "python3"], check=True, capture_output=True)
        cells = json.loads(out.read_bytes())["cells"]
        return sum(cell["metadata"]["papermill"]["duration"] or 0 for cell in cells)

    with ThreadPoolExecutor(jobs) as pool:
        return sum(pool.map(one, stems))


def lmjudge(stems: list[str], home: Path, *options: str) -> float:
    """What the cells took, by `lmjudge run`."""
    command = [BIN / "lmjudge", "run", *stems, *options]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return sum(map(float, re.findall(r"cells ([\d.]+) s", told.stdout)))


# way -> (what runs it, how many at a time)
WAYS = {
    "papermill's command line": lambda *given: papermill(*given, jobs=1),
    "papermill's command line, two at a time": lambda *given: papermill(*given, jobs=2),
    "lmjudge run": lmjudge,
    "lmjudge run --jobs 2": lambda *given: lmjudge(*given, "--jobs", "2"),
    "lmjudge run --changed, nothing changed": lambda *given: lmjudge(*given, "--changed"),
}


def measured(way: str, stems: list[str], home: Path) -> Took:
    # Nothing is changed where the way before it has just run.
    place = home / ("lmjudge run --jobs 2" if "--changed" in way else way)
    os.environ["LMJUDGE_REPORTS"] = str(place)
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    cells = WAYS[way](stems, place)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.perf_counter() - wall, cpu, cells)


def same_bytes(home: Path) -> int:
    """How many CSVs every way wrote, the same bytes each; stops where they differ."""
    made = [
        {path.name: path.read_bytes() for path in (home / way).glob("*.csv")}
        for way in WAYS
        if "--changed" not in way
    ]
    for tables in made:
        tables.pop("sources.csv", None)
    if any(tables != made[0] for tables in made):
        sys.exit(f"the ways wrote different tables: {[sorted(tables) for tables in made]}")
    return len(made[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stems", nargs="*")
    parser.add_argument("--repeat", type=int, default=2)
    given = parser.parse_args()
    stems = given.stems or sorted(path.stem for path in (ROOT / "nbs").glob("*.ipynb"))
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        os.environ |= {"LMJUDGE_OFFLINE": "1", "LMJUDGE_CACHE": str(home / "cache/judgments")}
        os.environ["LMJUDGE_REPORTS"] = str(home / "first")
        lmjudge(stems, home / "first", "--jobs", "2")
        took: dict[str, list[Took]] = {way: [] for way in WAYS}
        for _ in range(given.repeat):
            for way in WAYS:
                took[way].append(measured(way, stems, home))
                print(way, took[way][-1], file=sys.stderr, flush=True)
        tables = same_bytes(home)
    best = {way: min(runs, key=lambda one: one.wall) for way, runs in took.items()}
    first = best["papermill's command line"]
    cpus, load = os.cpu_count(), os.getloadavg()[1]
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    print(
        f"{len(stems)} notebooks; {tables} tables, equal bytes whichever way."
        f" Commit {told.stdout.strip()}, {datetime.now(UTC).date()}; {platform.machine()},"
        f" {cpus} cores, load average {load:.1f} at the end; Python {platform.python_version()}.\n"
    )
    print("| | wall s | CPU s | cells s | above, s a notebook | papermill's is times as long |")
    print("|---|---|---|---|---|---|")
    for way, one in best.items():
        alone = "two at" not in way and "--jobs" not in way and one.cells
        above = f"{(one.wall - one.cells) / len(stems):.2f}" if alone else ""
        cells = f"{one.cells:.1f}" if one.cells else ""
        print(
            f"| {way} | {one.wall:.1f} | {one.cpu:.1f} | {cells} | {above} |"
            f" {first.wall / one.wall:.1f} (CPU {first.cpu / one.cpu:.1f}) |"
        )


if __name__ == "__main__":
    main()
