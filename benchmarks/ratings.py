"""Ratings: ours and the peers on the same seeded battles, one process each.

    python benchmarks/ratings.py [--size small|mid|big] [--only WORD] [--arena PYTHON]
    python benchmarks/ratings.py [--size small|mid|big] --in-turn

Battles are simulated (27K x 20 models, 1.7M x 130, 10M x 200; 26 % ties, uneven popularity) and
handed over as a frame of strings in memory; "codes" are the same frame with categorical columns.
Imports, reading and making the frame are not counted, and compiled code comes from its cache. A
line is the best of as many repeats as fit in five seconds, at most fifteen; "memory" is the
process's peak above what it held with the frame loaded (worker processes not counted). Peers that would take
hours are given fewer rounds or rows and extrapolated linearly, which the line says. "FastChat" is
its published method (`rating_systems.py`), written out in ratings_peers.py. arena-rank needs a
Python of its own (`pip install arena-rank` there), named by --arena; its second, warm fit counts.
CPU seconds are those of all threads and processes. Every process has OPENBLAS_NUM_THREADS=1:
BLAS's threads wait for one another on a busy machine. --in-turn runs the plain sandwich, the one
by question and the one two ways in turn in one process, so that other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import ratings_peers as peers

import lmjudge
from lmjudge import stats

# Else numba, which looks for a package named coverage, finds this folder's coverage.py.
sys.path.remove(str(Path(__file__).parent))

ROOT = str(Path(lmjudge.__file__).parents[1])
SIZES = {"small": (27_000, 20), "mid": (1_700_000, 130), "big": (10_000_000, 200)}
STYLE = ["tokens", "headers", "lists", "bold"]
CODED = dict.fromkeys(["model_a", "model_b", "winner"], "category")


def ours(function, **arguments):
    return lambda frame, path: (function(frame, **arguments), 1)


def from_file(frame, path):
    return stats.bradley_terry(path, cluster=()), 1


# workload -> who -> (how it is given its battles, what it runs, sizes it runs at); ours first.
ALL, SMALL = ("small", "mid", "big"), ("small",)
WORK = {
    "Elo, one pass": {
        "lmjudge": ("strings", ours(stats.elo), ALL),
        "lmjudge, codes": ("codes", ours(stats.elo), ALL),
        "FastChat": ("strings", peers.fastchat_elo, ALL),
        "evalica": ("strings", peers.evalica_elo, ALL),
    },
    "Elo, bootstrap of 1,000": {
        "lmjudge": ("strings", ours(stats.elo_bootstrap), ("small", "mid")),
        "FastChat": ("strings", peers.fastchat_elo_bootstrap, ("small", "mid")),
    },
    "Bradley-Terry": {
        "lmjudge": ("strings", ours(stats.bradley_terry), ALL),
        "lmjudge, codes": ("codes", ours(stats.bradley_terry), ALL),
        "lmjudge, Parquet file": ("file", from_file, ALL),
        "choix, quickest matrix": ("strings", peers.choix_fit, ALL),
        "choix, matrix by crosstab": ("strings", peers.choix_crosstab, ALL),
        "choix, pairs": ("strings", peers.choix_pairs, ("small", "mid")),
        "FastChat": ("strings", peers.fastchat_fit, ALL),
        "evalica": ("strings", peers.evalica_fit, ALL),
    },
    "Bradley-Terry and sandwich": {
        "lmjudge": ("strings", ours(stats.bradley_terry), ALL),
        "lmjudge, codes": ("codes", ours(stats.bradley_terry), ALL),
        "lmjudge, by question": ("strings", ours(stats.bradley_terry, cluster="question_id"), ALL),
        "lmjudge, by question, codes": (
            "codes",
            ours(stats.bradley_terry, cluster="question_id"),
            ALL,
        ),
        "arena-rank": ("strings", peers.arena_sandwich, ALL),
        "statsmodels": ("strings", peers.statsmodels_sandwich, SMALL),
    },
    "Bradley-Terry, bootstrap of 1,000": {
        "lmjudge": ("strings", ours(stats.bradley_terry, n_boot=1000), ALL),
        "lmjudge, codes": ("codes", ours(stats.bradley_terry, n_boot=1000), ALL),
        "FastChat": ("strings", peers.fastchat_bootstrap, ALL),
    },
    "Style control, 4 covariates": {
        "lmjudge": ("strings", ours(stats.style_ratings, covariates=STYLE), ALL),
        "lmjudge, codes": ("codes", ours(stats.style_ratings, covariates=STYLE), ALL),
        "FastChat": ("strings", peers.fastchat_style, ALL),
    },
}
# How far (in rating points) a peer's ratings may be from ours, and its widths (as a share).
NEAR = {
    "FastChat": 0.5,  # it stops short of the optimum
    "evalica": 0.2,  # at its own tolerance
    "choix": 1e-3,
    "arena-rank": 0.5,  # single steps of its own, and a ridge
    "statsmodels": 1e-4,
    "Style control, 4 covariates": 3.0,  # FastChat's centres the covariates and has a ridge
    "Elo, bootstrap of 1,000": 5.0,  # medians of other draws
    "Bradley-Terry, bootstrap of 1,000": 10.0,  # means of few rounds
}
FAR: list[str] = []


def battles(rows, models):
    rng = np.random.default_rng(2026)
    popular = rng.dirichlet(np.full(models, 2.0))
    a, b = rng.choice(models, (2, rows), p=popular)
    b = np.where(a == b, (b + 1) % models, b)
    strength = rng.normal(0, 0.6, models)
    won = rng.random(rows) < 1 / (1 + np.exp(strength[b] - strength[a]))
    winner = np.where(rng.random(rows) < 0.26, 2, np.where(won, 0, 1)).astype(np.int8)
    names = [f"company-{at % 17}/model-{at:03d}-chat" for at in range(models)]
    made = {"model_a": pd.Categorical.from_codes(a, names)}
    made["model_b"] = pd.Categorical.from_codes(b, names)
    made["winner"] = pd.Categorical.from_codes(winner, ["model_a", "model_b", "tie"])
    made["question_id"] = rng.integers(0, rows // 8, rows)
    for name, mean in zip(STYLE, (300, 3, 6, 4), strict=True):
        for side in "ab":
            made[f"{name}_{side}"] = (rng.gamma(2, mean / 2, rows)).astype(np.int32)
    return pd.DataFrame(made)


def in_turn(size):
    """What the sandwich costs by question, and by question and voter, over the plain one.

    All in turn in one process, from strings.
    """
    frame = battles(*SIZES[size]).astype(dict.fromkeys(CODED, "str"))
    frame["judge"] = np.random.default_rng(1).integers(0, len(frame) // 50 + 2, len(frame))
    ways = {"plain": (), "by question": "question_id", "two ways": ("question_id", "judge")}
    took = {name: [] for name in ways}
    for repeat in range(26):
        for name, cluster in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            stats.bradley_terry(frame, cluster=cluster)
            if repeat:  # the first of each compiles
                took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    plain = np.array(took.pop("plain"))
    for name, times in took.items():
        clustered = np.array(times)
        low, middle, high = np.quantile(clustered / plain, [0.25, 0.5, 0.75], axis=0)
        least = clustered.min(axis=0) / plain.min(axis=0)
        for at, what in enumerate(("wall", "CPU")):
            print(
                f"{what}: {name} {middle[at]:.2f} times the plain sandwich (quartiles"
                f" {low[at]:.2f} to {high[at]:.2f} of {len(plain)}; best over best {least[at]:.2f})"
            )


def memory(name):
    """VmRSS (held now) or VmHWM (the most so far) of this process, in MB; Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def job(path, size, work, who):
    """Runs in a process of its own: seconds, memory and ratings, as JSON."""
    how, run, _ = WORK[work][who]
    frame = None
    if how != "file":
        columns = [*CODED, "question_id"] if "question" in who else list(CODED)
        columns += [f"{name}_{side}" for name in STYLE for side in "ab"] if "Style" in work else []
        frame = pd.read_parquet(path, columns=columns)
        if how == "strings":
            frame = frame.astype(dict.fromkeys(CODED, "str"))
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what is held now
    begun = memory("VmRSS")
    best, used, begin = np.inf, 0.0, time.perf_counter()
    for repeat in range(15):
        if repeat > (who == "arena-rank") and time.perf_counter() - begin > 5:
            break
        before, cpu = time.perf_counter(), sum(os.times()[:4])
        found, times = run(frame, path)
        wall = time.perf_counter() - before
        if wall < best:
            best, used = wall, sum(os.times()[:4]) - cpu
    found = found.set_index("model").sort_index()
    value = found.iloc[:, 0]
    limits = [name for name in found if name in ("low", "spread_low")]
    width = (found[limits[0].replace("low", "high")] - found[limits[0]]) if limits else None
    told = {
        "seconds": best * times,
        "cpu": used * times,
        "times": times,
        "memory": memory("VmHWM") - begun,
        "value": (value - (0 if "Elo" in work else value.mean())).tolist(),
        "width": None if width is None else width.tolist(),
    }
    print(json.dumps(told))


def agrees(work, who, told, first):
    """How far a peer is from ours, an error if too far; and its mean width over ours."""
    off = float(np.abs(np.array(told["value"]) - np.array(first["value"])).max())
    near = NEAR.get(work, NEAR.get(who.partition(",")[0], 1e-6))
    if who.startswith("lmjudge"):
        near = 1e-6
    if off > near:  # never so for what is missing: a peer that rated some of the rows only
        FAR.append(f"{work}: {who} is {off} away from ours")
    if told["width"] is None or first["width"] is None:
        return off, np.nan
    return off, float(np.mean(told["width"]) / np.mean(first["width"]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", default="")
    parser.add_argument("--arena", metavar="PYTHON")
    parser.add_argument("--in-turn", action="store_true")
    parser.add_argument("--job", nargs=3)
    arguments = parser.parse_args()
    if arguments.in_turn:
        in_turn(arguments.size)
        return
    if arguments.job:
        path, work, who = arguments.job
        job(path, arguments.size, work, who)
        return
    rows, models = SIZES[arguments.size]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"### {rows:,} battles x {models} models\n")
    print(
        f"{time.strftime('%Y-%m-%d')}, lmjudge {lmjudge.__version__} at {commit},"
        f" {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()},"
        f" pandas {pd.__version__}, numpy {np.__version__}; load average at the start"
        f" {os.getloadavg()[0]:.1f}, so that the machine was"
        f" {'busy with other work: read ratios' if os.getloadavg()[0] > 0.7 else 'quiet'}.\n"
    )
    print(
        "| workload | who | seconds | CPU s | memory MB | times ours | times ours, CPU |"
        " points off | width |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    few = battles(*SIZES["small"])  # what numba has to compile, it compiles here
    stats.elo(few)
    stats.elo_bootstrap(few, n_boot=1)
    stats.bradley_terry(few, cluster="question_id")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "battles.parquet")
        battles(rows, models).to_parquet(path, row_group_size=1 << 18)
        for work, parties in WORK.items():
            first = None
            for who, (_, _, sizes) in parties.items():
                if arguments.size not in sizes or arguments.only not in work:
                    continue
                if who == "arena-rank" and not arguments.arena:
                    print(f"| {work} | arena-rank: left out, no --arena ||||||||")
                    continue
                python = arguments.arena if who == "arena-rank" else sys.executable
                done = subprocess.run(
                    [python, __file__, "--size", arguments.size, "--job", path, work, who],
                    capture_output=True,
                    text=True,
                    env={**os.environ, "PYTHONPATH": ROOT, "OPENBLAS_NUM_THREADS": "1"},
                )
                if done.returncode:
                    raise SystemExit(done.stderr)
                told = json.loads(done.stdout)
                first = first or told
                off, width = agrees(work, who, told, first)
                note = f" (extrapolated from 1/{told['times']:.0f})" if told["times"] > 1 else ""
                print(
                    f"| {work} | {who}{note} | {told['seconds']:.4g} | {told['cpu']:.3g} |"
                    f" {told['memory']:.0f} | {told['seconds'] / first['seconds']:.2f} |"
                    f" {told['cpu'] / max(first['cpu'], 0.01):.2f} |"
                    f" {off:.1e} | {width:.3f} |".replace("nan", "–"),
                    flush=True,
                )
    print("Disagreements: " + ("; ".join(FAR) or "none") + ".\n")
    if FAR:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
