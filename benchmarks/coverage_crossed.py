"""How often default 95 % intervals hold the truth where voters have tastes; rank sets too.

    python benchmarks/coverage_crossed.py [--studies 1000]   # runs what benchmarks/results/ lacks
    python benchmarks/coverage_crossed.py --page   # writes the tables of results/ and docs/

A study has questions, and people of whom a few vote on each. A vote's log odds for the first model
are its lead, what the voter likes of the two models (`taste`, the standard deviation), and what the
question does to them (standard deviation 1). Truths are integrals. Studies are drawn by cell, each
cell from its own seed, and each cell has a file of counts, so that a run can be stopped at any time.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

import lmjudge as lj

# Else numba, which looks for a package named coverage, finds this folder's coverage.py.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
# Questions, voters, and how many vote on each question.
DESIGNS = [
    (20, 20, 5),
    (40, 20, 5),
    (80, 20, 5),
    (20, 40, 5),
    (80, 40, 5),
    (200, 65, 5),
    (80, 5, 5),
    (13, 124, 20),
]
TASTES = [0.0, 0.5, 1.0]
LEAD, QUESTION = 0.5, 1.0
STRENGTHS = np.array([0.9, 0.3, -0.3, -0.9])
SIDES = np.array(["model_a", "model_b"], dtype=object)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def integral(of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The mean of a function of a standard normal number, which is its last dimension."""
    return of(_NODES) @ _WEIGHTS


def chance(lead: float, taste: float, question: float = QUESTION) -> float:
    """The probability that the first of two models wins a vote."""
    return float(integral(lambda node: logistic(lead + np.hypot(taste, question) * node)))


def agreeing(taste: float) -> float:
    """The probability that two voters agree on a question."""
    at = LEAD + QUESTION * _NODES
    given = logistic(at[:, None] + taste * _NODES[None]) @ _WEIGHTS
    return float(_WEIGHTS @ (given**2 + (1 - given) ** 2))


def fitted(taste: float) -> np.ndarray:
    """The strengths that fit the expected votes best: what a rating estimates."""
    spread = np.sqrt(2)  # both models' tastes, and both models' effects of the question
    return best_fit(
        [
            chance(one - two, spread * taste, spread * QUESTION)
            for one, two in combinations(STRENGTHS, 2)
        ]
    )


def best_fit(wanted: Sequence[float]) -> np.ndarray:
    """The strengths that fit the chance of a win in each pair of models best."""
    beta = np.zeros(len(STRENGTHS))
    pairs = list(combinations(range(len(beta)), 2))
    for _ in range(50):
        score, information = np.zeros(len(beta)), np.full((len(beta),) * 2, 1 / len(beta))
        for (i, j), p in zip(pairs, wanted, strict=True):
            expected = logistic(beta[i] - beta[j])
            step = np.zeros(len(beta))
            step[i], step[j] = 1, -1
            score += (p - expected) * step
            information += expected * (1 - expected) * np.outer(step, step)
        change = np.linalg.solve(information, score)
        beta = beta + change
        if np.abs(change).max() < 1e-12:
            break
    return beta


def who_votes(rng: np.random.Generator, studies: int, design: tuple[int, int, int]) -> np.ndarray:
    """The voters of each question, (studies, questions, each)."""
    questions, voters, each = design
    if each == voters:
        return np.broadcast_to(np.arange(voters), (studies, questions, each))
    return rng.random((studies, questions, voters)).argsort(axis=2)[:, :, :each]


def frame_of(
    study: np.ndarray, question: np.ndarray, voter: np.ndarray, **more: object
) -> pd.DataFrame:
    made = {"question_id": question, "turn": study, "judge": voter, "group": "crowd"}
    return pd.DataFrame({**made, **more, "reason": np.nan, "time": np.nan})


def votes_of(rng: np.random.Generator, studies: int, design: tuple, taste: float) -> pd.DataFrame:
    """Votes on x and y, one study a turn."""
    voter = who_votes(rng, studies, design)
    study, question, _ = np.indices(voter.shape)
    like = taste * rng.normal(size=(studies, design[1]))
    odds = LEAD + like[study, voter] + QUESTION * rng.normal(size=voter.shape[:2])[..., None]
    winner = SIDES[(rng.random(voter.shape) > logistic(odds)).astype(int)]
    parts = (part.ravel() for part in (study, question, voter))
    return frame_of(*parts, model_a="x", model_b="y", winner=winner.ravel())


def battles_of(
    rng: np.random.Generator, design: tuple, taste: float, strengths: np.ndarray
) -> pd.DataFrame:
    """One study's votes on pairs of several models."""
    voter = who_votes(rng, 1, design)[0]
    models = len(strengths)
    question, _ = np.indices(voter.shape)
    a = rng.integers(0, models, voter.shape)
    b = (a + rng.integers(1, models, voter.shape)) % models
    like = taste * rng.normal(size=(design[1], models))
    does = QUESTION * rng.normal(size=(design[0], models))
    worth = strengths + like[voter] + does[question]
    gap = np.take_along_axis(worth, a[..., None], 2) - np.take_along_axis(worth, b[..., None], 2)
    winner = SIDES[(rng.random(voter.shape) > logistic(gap[..., 0])).astype(int)]
    names = np.array([f"m{at}" for at in range(models)])
    parts = (part.ravel() for part in (np.zeros_like(voter), question, voter))
    sides = {"model_a": names[a].ravel(), "model_b": names[b].ravel()}
    return frame_of(*parts, **sides, winner=winner.ravel())


def held(found: pd.DataFrame, truth: float | np.ndarray) -> dict[str, int]:
    """How many intervals hold the truth, are missing, are flagged."""
    low, high = found["low"].to_numpy(float), found["high"].to_numpy(float)
    return {
        "studies": len(found),
        "held": int(((low <= truth) & (truth <= high)).sum()),
        "missing": int((np.isnan(low) | np.isnan(high)).sum()),
        "flagged": int(found["too_few"].sum()) if "too_few" in found else 0,
    }


def by_turn(votes: pd.DataFrame, taste: float) -> dict[str, Callable[[], dict[str, int]]]:
    """The estimates that one call makes for all studies."""
    x, y = "model_a", "model_b"
    p, same = chance(LEAD, taste), agreeing(taste)
    judge = votes.drop_duplicates(["turn", "question_id"]).assign(group="llm")
    # Two judges that say x, and y, whatever they see: their agreement differs by 2 p - 1.
    judges = pd.concat([judge.assign(judge=-1, winner=x), judge.assign(judge=-2, winner=y)])
    alpha = 1 - (1 - same) / (2 * p * (1 - p))

    def wins(**how: str) -> dict[str, int]:
        return held(lj.win_rates(votes, by="turn", **how).query("model == 'x'"), p)

    def named() -> pd.DataFrame:
        return lj.kappa(votes, by="turn", coefficient="alpha", sides="named")

    return {
        "win rate": wins,
        "win rate, by question alone": lambda: wins(cluster="question_id"),
        "vote share": lambda: held(
            lj.stats.vote_shares(votes, by="turn").query("outcome == 'model_a'"), p
        ),
        "agreement of voters": lambda: held(lj.agreement(votes, by="turn"), same),
        "agreement with a judge": lambda: held(
            lj.agreement(judges[judges["judge"] == -1], votes, by="turn"), p
        ),
        "ceiling, pairs": lambda: held(
            lj.ceiling(votes, by="turn").query("measure == 'pairs'"), same
        ),
        "kappa": lambda: held(lj.kappa(votes, by="turn"), 2 * same - 1),
        "alpha, sides named": lambda: held(named(), alpha),
        "compare judges": lambda: held(lj.compare_judges(judges, votes, by="turn"), 1 - 2 * p),
    }


def one_study(rng: np.random.Generator, design: tuple, taste: float) -> dict[str, dict[str, int]]:
    """The ratings of one study, and of one of ten equal models."""
    truth = fitted(taste)
    rows = battles_of(rng, design, taste, STRENGTHS)
    how = {"scale": 1.0, "base": np.e}
    rated = lj.bradley_terry(rows, initial=0, **how).set_index("model")
    names = [f"m{at}" for at in range(len(truth))]
    first = rated.loc[["m0"]]
    joint = rated.loc[names].rename(columns={"low": "one_low", "high": "one_high"})
    joint = joint.rename(columns={"joint_low": "low", "joint_high": "high"})
    together = held(joint, truth)
    differences = lj.stats.rating_differences(rows, **how)
    apart = differences[(differences["model_a"] == "m0") & (differences["model_b"] == "m1")]
    turned = differences[(differences["model_a"] == "m1") & (differences["model_b"] == "m0")]
    gap = truth[0] - truth[1]
    equal = lj.bradley_terry(battles_of(rng, design, taste, np.zeros(10)), **how)
    leader = equal.iloc[:1]
    ranks = equal["rank_low"].gt(1).any() or equal["rank_high"].lt(10).any()
    few = int(equal["too_few"].all())
    return {
        "rating": held(first, truth[0]),
        "all ratings, jointly": {
            "studies": 1,
            "held": int(together["held"] == len(truth)),
            "missing": int(together["missing"] > 0),
            "flagged": int(together["flagged"] == len(truth)),
        },
        "difference of ratings": held(apart, gap) if len(apart) else held(turned, -gap),
        "rank sets of ten equal models": {
            "studies": 1,
            "held": int(not ranks),
            "missing": 0,
            "flagged": few,
        },
        "the leader of ten equal models, joint": {
            "studies": 1,
            "held": int((leader["joint_low"] <= 1000).all()),
            "missing": 0,
            "flagged": few,
        },
    }


def add(total: dict[str, dict[str, float]], counts: dict[str, dict[str, float]]) -> None:
    """Adds counts to a cell's."""
    for name, found in counts.items():
        into = total.setdefault(name, dict.fromkeys(found, 0))
        for key, value in found.items():
            into[key] += value


def run(
    design: tuple[int, int, int], taste: float, studies: int, there: Collection[str] = ()
) -> dict[str, object]:
    """The counts of one cell: of the quantities that are not `there` already."""
    began = time.perf_counter()
    rng = np.random.default_rng([2026, *design, int(10 * taste)])
    total: dict[str, dict[str, float]] = {}
    size = max(20, 8000 // (design[0] * design[2]))
    for start in range(0, studies, size):
        votes = votes_of(rng, min(size, studies - start), design, taste)
        for name, estimated in by_turn(votes, taste).items():
            if name not in there:
                add(total, {name: estimated()})
    if "rating" not in there:
        for _ in range(studies):
            add(total, one_study(rng, design, taste))
    cell = {"questions": design[0], "voters": design[1], "each": design[2], "taste": taste}
    return {**cell, "seconds": round(time.perf_counter() - began), "quantities": total}


_INTRODUCTION = """\
# Coverage where voters have tastes and judges lean to models

How many of 100 default 95 % intervals hold the truth. Simulated data throughout. One standard error is
0.7 points of 1,000 studies, 2.2 points of 100. Each cell has a file here: `crossed-*.json`
(`benchmarks/coverage_crossed.py`) and `judges-*.json` (`benchmarks/coverage_judges.py`); the scripts fill
in cells that are missing. The script's docstring says how studies are drawn. `flagged`: studies in which
the estimate says `too_few`. [docs/coverage.md](../../docs/coverage.md) sums the tables up.
"""


def results() -> pd.DataFrame:
    """What the files say: a row a cell and quantity."""
    rows = []
    for path in sorted([*RESULTS.glob("crossed-*.json"), *RESULTS.glob("judges-*.json")]):
        cell = json.loads(path.read_text())
        cell["grid"] = path.name.partition("-")[0]
        for name, found in cell.pop("quantities").items():
            rows.append({**cell, "quantity": name, **found})
    table = pd.DataFrame(rows)
    table["percent"] = 100 * table["held"] / table["studies"]
    table["flag"] = table["flagged"] > 0.5 * table["studies"]
    return table


def summary() -> str:
    """A row a quantity, as Markdown: in how many cells, how often held, and where flagged."""
    lines = ["| quantity | cells | least % | median % | most % | flagged cells |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for (grid, name), part in results().groupby(["grid", "quantity"], sort=False):
        ends = part["percent"].min(), part["percent"].median(), part["percent"].max()
        shown = " | ".join(f"{end:.1f}" for end in ends)
        where = {"crossed": "people", "judges": "judges"}[grid]
        lines.append(f"| {where}: {name} | {len(part)} | {shown} | {int(part['flag'].sum())} |")
    return "\n".join(lines)


def page() -> str:
    """What the files say, as Markdown: a table a quantity."""
    table = results()
    lines = [_INTRODUCTION]
    for (grid, name), part in table.groupby(["grid", "quantity"], sort=False):
        second = {"crossed": "voters", "judges": "leaning"}[grid]
        lines += [
            f"## {name}",
            "",
            f"| questions | {second} | taste | studies | held % | flagged % |",
        ]
        lines.append("|---:|---:|---:|---:|---:|---:|")
        part = part.sort_values(["questions", second, "taste"])
        for row in part.to_dict("records"):
            flagged = 100 * row["flagged"] / row["studies"]
            lines.append(
                f"| {row['questions']} | {row[second]} | {row['taste']} | {row['studies']} |"
                f" {row['percent']:.1f} | {flagged:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--only", type=int, nargs="*", help="cells by number")
    parser.add_argument("--add", action="store_true", help="quantities to the cells that there are")
    asked = parser.parse_args()
    if asked.page:
        (RESULTS / "coverage-crossed.md").write_text(page() + "\n")
        text = PAGE.read_text()
        table = re.search(r"\| quantity \| cells .*?\n(?=\n)", text, re.DOTALL)
        PAGE.write_text(text.replace(table[0], summary() + "\n"))
        return
    RESULTS.mkdir(exist_ok=True)
    cells = [(design, taste) for taste in (1.0, 0.5, 0.0) for design in DESIGNS]
    for at, (design, taste) in enumerate(cells):
        path = RESULTS / f"crossed-{'-'.join(map(str, design))}-{taste}.json"
        cell = json.loads(path.read_text()) if path.exists() else {"quantities": {}}
        there = cell["quantities"]
        if path.exists() != asked.add or (asked.only and at not in asked.only):
            continue
        found = run(design, taste, asked.studies, there)
        if not found["quantities"]:
            continue
        found["quantities"] = there | found["quantities"]
        part = path.with_suffix(".part")
        part.write_text(json.dumps(cell | found, indent=1) + "\n")
        part.replace(path)
        print(path.name, found["seconds"], "s", flush=True)


if __name__ == "__main__":
    main()
