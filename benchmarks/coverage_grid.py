"""How often 95 % intervals hold the truth, over a grid of simulated studies; usual scripts too.

    python benchmarks/coverage_grid.py --studies 4000 --processes 2 > benchmarks/results/coverage-grid.md

Each study has questions of four comparisons each (of two where there are 500), judged by three
voters who, given the question and the comparison, vote independently: a voter's log odds for
the first side are `lean + spread * question + 1.5 * comparison`, both standard normal. Ties and
missing verdicts come at random. Scores are 1-10, `7 (or 9.3) + spread * question + noise`, rounded
and clipped. All truths are integrals, none is simulated. Estimates are made by the public
functions, with the studies as turns, so that one call makes a few hundred of them.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

import lmjudge as lj

GRID = {
    "questions": (20, 80, 500),
    "spread": (0.0, 1.0, 2.0),
    "ties": (0.0, 0.3),
    "missing": (0.0, 0.1),
    "lean": (0.5, 3.5),
}
VOTERS, OWN = 3, 1.5
LABELS = np.array(["model_a", "model_b", "tie", None], dtype=object)
NAN = float("nan")


def each(questions: float) -> int:
    """How many comparisons a question has."""
    return 4 if questions < 500 else 2


def truths(spread: float, ties: float, lean: float) -> dict[str, float]:
    """The true value of every quantity, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    p = 1 / (1 + np.exp(-(lean + np.hypot(spread, OWN) * nodes)))
    wins, same = weights @ p, weights @ (p**2 + (1 - p) ** 2)
    agree = (1 - ties) ** 2 * same + ties**2
    labels = np.array([(1 - ties) * wins, (1 - ties) * (1 - wins), ties])
    chance, uneven = (labels**2).sum(), (labels * (1 - labels)).sum() / 2
    first, second = mean_score(spread, lean), mean_score(spread, 0.0)
    return {
        "mean score": first,
        "ratio of totals": 100 * first / second,
        "win rate, ties half": (1 - ties) * wins + ties / 2,
        "win rate, ties dropped": wins,
        "agreement, pooled": agree,
        "agreement, S2": same,
        "agreement, per question": agree,
        "Cohen's kappa": (agree - chance) / (1 - chance),
        "Fleiss' kappa": (agree - chance) / (1 - chance),
        "Krippendorff's alpha": (agree - chance) / (1 - chance),
        "Gwet's AC1": (agree - uneven) / (1 - uneven),
        "compare judges": 0.0,
    }


def mean_score(spread: float, lean: float) -> float:
    from scipy.stats import norm

    middle, wide = (9.3 if lean > 1 else 7.0), np.hypot(spread, 1.0)
    # P(rounded and clipped score > k) for k = 1 ... 9, summed.
    return 1 + norm.sf((np.arange(1, 10) + 0.5 - middle) / wide).sum()


def frames(
    rng: np.random.Generator, studies: int, cell: dict[str, float]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The votes and the two-score games of so many studies, one a turn; names are numbers."""
    questions = int(cell["questions"])
    shape = (studies, questions, each(questions), VOTERS)
    study, question, key, voter = (part.ravel() for part in np.indices(shape, dtype=np.int32))
    hard = rng.normal(size=(studies, questions, 1, 1))
    odds = cell["lean"] + cell["spread"] * hard + OWN * rng.normal(size=(*shape[:3], 1))
    label = np.where(rng.random(shape) < 1 / (1 + np.exp(-odds)), 0, 1)
    label = np.where(rng.random(shape) < cell["ties"], 2, label)
    label = np.where(rng.random(shape) < cell["missing"], 3, label).ravel()
    votes = pd.DataFrame(
        {
            "question_id": question,
            "turn": study,
            "model_a": 0,
            "model_b": key + 1,
            "judge": voter,
            "group": 0,
            "winner": pd.array(LABELS[label], dtype="str"),
            "reason": NAN,
            "time": NAN,
        }
    )
    study, question, key = (part.ravel() for part in np.indices(shape[:3], dtype=np.int32))
    grades = {}
    for side, lean in (("a", cell["lean"]), ("b", 0.0)):
        middle = 9.3 if lean > 1 else 7.0
        raw = middle + cell["spread"] * hard[..., 0] + rng.normal(size=shape[:3])
        lost = rng.random(shape[:3]) < cell["missing"]
        grades[f"score_{side}"] = np.where(lost, np.nan, np.clip(np.rint(raw), 1, 10)).ravel()
    games = pd.DataFrame(
        {"question_id": question, "turn": study, "model_a": 0, "model_b": 1, "judge": 0}
        | {"sample": key, "winner": pd.array([None], dtype="str").repeat(len(key)), **grades}
        | {"reason": NAN, "text": NAN, "key": NAN}
    )
    return votes, games


def estimates(
    votes: pd.DataFrame, games: pd.DataFrame
) -> dict[str, tuple[Callable[[], pd.DataFrame], str]]:
    """How to make every estimate with an interval, and the name of its column."""
    by_voter = [votes[votes["judge"] == voter] for voter in range(VOTERS)]
    judge, rest = by_voter[0], votes[votes["judge"] > 0]
    scores = games.rename(columns={"model_a": "model", "score_a": "score"})
    agree = partial(lj.agreement, judge, rest, by="turn")
    beyond = partial(lj.kappa, by="turn", sides="named")

    def win_rate(**ties: str) -> pd.DataFrame:
        return lj.win_rates(judge, by="turn", **ties).query("model == 0")

    return {
        "mean score": (partial(lj.mean_scores, scores, by="turn"), "score"),
        "ratio of totals": (partial(lj.score_totals, games, by="turn"), "relative"),
        "win rate, ties half": (win_rate, "win_rate"),
        "win rate, ties dropped": (partial(win_rate, ties="drop"), "win_rate"),
        "agreement, pooled": (agree, "agreement"),
        "agreement, S2": (partial(agree, ties="drop"), "agreement"),
        "agreement, per question": (partial(agree, pool="questions"), "agreement"),
        "Cohen's kappa": (partial(beyond, *by_voter[:2]), "kappa"),
        "Fleiss' kappa": (partial(beyond, votes), "kappa"),
        "Krippendorff's alpha": (partial(beyond, votes, coefficient="alpha"), "kappa"),
        "Gwet's AC1": (partial(beyond, votes, coefficient="ac1"), "kappa"),
        "compare judges": (
            partial(lj.compare_judges, votes[votes["judge"] < 2], by_voter[2], by="turn"),
            "difference",
        ),
    }


def usual(
    rng: np.random.Generator, judge: pd.DataFrame, studies: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The intervals of a win rate that scripts print: the games' standard error, and bootstraps."""
    known = judge[judge["winner"].notna()]
    counts = np.column_stack(
        [
            np.bincount(known["turn"][(known["winner"] == label).to_numpy()], minlength=studies)
            for label in LABELS[:3]
        ]
    )
    n, worth = counts.sum(axis=1), np.array([1, 0, 0.5])
    value = counts @ worth / n
    error = np.sqrt((counts @ worth**2 / n - value**2) / (n - 1))
    made = {"win rate: standard error of the games": (value - 1.96 * error, value + 1.96 * error)}
    share = counts / n[:, None]
    for name, rounds, ends in (
        ("win rate: arena-hard's 100 bootstraps, 5-95 %", 100, (5, 95)),
        ("win rate: 1,000 bootstraps of games, 2.5-97.5 %", 1000, (2.5, 97.5)),
    ):
        drawn = rng.multinomial(np.repeat(n, rounds), np.repeat(share, rounds, axis=0))
        rates = (drawn @ worth).reshape(studies, rounds) / n[:, None]
        made[name] = tuple(np.percentile(rates, ends, axis=1))
    return made


def run(cell: dict[str, float], studies: int, seed: int, only: str = "") -> pd.DataFrame:
    """A row per quantity: how many studies' intervals held, were missing, were flagged."""
    began = time.perf_counter()
    number = list(product(*GRID.values())).index(tuple(cell.values()))
    rng = np.random.default_rng([seed, number])
    true = truths(cell["spread"], cell["ties"], cell["lean"])
    rows = []
    size = max(50, 160_000 // int(cell["questions"] * each(cell["questions"]) * VOTERS))
    for start in range(0, studies, size):
        count = min(size, studies - start)
        votes, games = frames(rng, count, cell)
        for name, (make, column) in estimates(votes, games).items():
            if only not in name:
                continue
            found = make()
            few = found["too_few"].to_numpy(bool) if "too_few" in found else np.zeros(count, bool)
            low, high = found["low"].to_numpy(), found["high"].to_numpy()
            rows.append(_count(name, low, high, true[name], few, found[column].to_numpy()))
        if only:
            continue
        truth = true["win rate, ties half"]
        for name, (low, high) in usual(rng, votes[votes["judge"] == 0], count).items():
            rows.append(_count(name, low, high, truth, np.zeros(count, bool), low * 0 + truth))
    made = pd.DataFrame(rows).groupby("quantity", sort=False).sum().reset_index()
    rarer = {name: min(value, 1 - value) for name, value in true.items()}
    votes_in = cell["questions"] * each(cell["questions"]) * (1 - cell["missing"])
    shares = made["quantity"].str.startswith(("win rate", "agreement"))
    made["minority"] = made["quantity"].map(rarer).fillna(rarer["win rate, ties half"]) * votes_in
    made["minority"] = made["minority"].where(shares)
    return made.assign(**cell, seconds=time.perf_counter() - began, commit=commit())


@cache
def commit() -> str:
    """The commit that the library was at when this began."""
    told = subprocess.run(
        ["git", "-C", str(Path(lj.__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def _count(
    name: str, low: np.ndarray, high: np.ndarray, truth: float, few: np.ndarray, value: np.ndarray
) -> dict[str, object]:
    none = np.isnan(low) | np.isnan(high)
    held = ~none & (low <= truth) & (truth <= high)
    return {
        "quantity": name,
        "studies": len(low),
        "none": none.sum(),
        "held": held.sum(),
        "flagged": few.sum(),
        "clear": (~few & ~none).sum(),
        "held_clear": (held & ~few).sum(),
        "off": np.nansum(value - truth),
        "width": np.nansum(high - low),
    }


def cells(questions: tuple[int, ...]) -> list[dict[str, float]]:
    every = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    return [cell for cell in every if cell["questions"] in questions]


def judged(made: pd.DataFrame) -> pd.DataFrame:
    """The table with shares, and what is said of each cell."""
    made = made.assign(
        coverage=made["held"] / (made["studies"] - made["none"]).replace(0, np.nan),
        unflagged=made["held_clear"] / made["clear"].where(made["clear"] >= 400),
    )
    usual_scripts = made["quantity"].str.contains(":")
    share = made["coverage"]
    made["said"] = "holds"
    made.loc[share > 0.97, "said"] = "conservative"
    made.loc[share < 0.935, "said"] = "low"
    excused = (made["flagged"] / made["studies"] >= 0.5) | (made["unflagged"] >= 0.93)
    excused &= share < 0.93
    made.loc[excused, "said"] = "low, flagged as too few"
    made.loc[(share < 0.93) & ~excused, "said"] = "FAILS"
    made.loc[usual_scripts, "said"] = "usual script"
    return made


def floors(made: pd.DataFrame) -> list[str]:
    """What the whole table amounts to, in words."""
    ours = made[made["said"] != "usual script"]
    shares, low = ours[ours["minority"] >= 10], ours[ours["coverage"] < 0.93]
    least = (low["flagged"] / low["studies"]).min()
    return [
        f"Of {len(shares)} cells of shares with ten minority votes or more expected"
        f" {(shares['coverage'] < 0.935).sum()} hold less often than 93.5 %, and"
        f" {(shares['coverage'] > 0.97).sum()} more often than 97 %. Of all {len(ours)} cells"
        f" {len(low)} hold less than 93 %; in each of these at least {least:.0%} of the estimates"
        " are flagged.",
    ]


def page(made: pd.DataFrame) -> str:
    studies, least = int(made["studies"].max()), int(made["studies"].min())
    seconds = made.drop_duplicates([*GRID, "seconds"])["seconds"].sum()
    commits = ", ".join(sorted(set(made["commit"])))
    out = [
        "# Coverage of nominal 95 % intervals over a grid of simulated studies",
        "",
        f"`python benchmarks/coverage_grid.py --studies {studies}`, {date.today()},",
        f"commit {commits}, {seconds / 60:.0f} minutes of one busy core;",
        f"{least} studies a cell or more, so that the standard error of a coverage of 95 %",
        f"is {100 * (0.95 * 0.05 / least) ** 0.5:.1f} points.",
        "",
        *(__doc__ or "").split("\n\n")[2].splitlines(),
        "",
        "`held`: of the intervals that there are, how many hold the truth. `flagged`: estimates"
        " with `too_few`. `unflagged`: coverage of the others, where there are 400 or more."
        " `minority`: votes expected on the rarer side, for shares. `off`: mean of the estimate"
        " less the truth. Holds: 93.5 to 97 %; conservative: above; low: 93 to 93.5 %;"
        " flagged: below 93 %, but at least half of the estimates are flagged, or those that are"
        " not hold at 93 % or more; fails: below 93 % otherwise.",
        "",
        *floors(made),
        "",
        "## By quantity",
        "",
        "| quantity | cells | least | median | most | holds | conservative | low | flagged"
        " | fails |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, part in made.groupby("quantity", sort=False):
        said = part["said"].value_counts()
        names = ("holds", "conservative", "low", "low, flagged as too few", "FAILS")
        counts = " | ".join(str(said.get(one, 0)) for one in names)
        share = 100 * part["coverage"]
        out.append(
            f"| {name} | {len(part)} | {share.min():.1f} | {share.median():.1f}"
            f" | {share.max():.1f} | {counts} |"
        )
    ours = made[made["said"] != "usual script"]
    for head, part in (
        ("Cells that do not lie between 93.5 and 97 %", ours[ours["said"] != "holds"]),
        (
            "Cells whose estimates without a flag hold less than 93 %, whatever all of them do:"
            " which are not flagged depends on the same votes",
            ours[ours["unflagged"] < 0.93],
        ),
        ("Every cell", made),
    ):
        out += ["", f"## {head}", "", *table(part)]
    return "\n".join(out)


def table(made: pd.DataFrame) -> list[str]:
    """The lines of a table of cells."""
    heads = (
        "quantity questions spread ties missing lean minority held flagged unflagged none off width"
    )
    out = [f"| {' | '.join(heads.split())} | |", "|" + "---|" * 14]
    for row in made.itertuples():
        least = "" if np.isnan(row.minority) else f"{row.minority:.0f}"
        clear = "" if np.isnan(row.unflagged) else f"{100 * row.unflagged:.1f}"
        parts = [
            *(row.quantity, f"{row.questions:.0f}", f"{row.spread:.0f}", row.ties, row.missing),
            *(row.lean, least, f"{100 * row.coverage:.1f}", f"{row.flagged / row.studies:.0%}"),
            *(clear, f"{row.none / row.studies:.1%}", f"{row.off / row.studies:+.4f}"),
            *(f"{row.width / row.studies:.4f}", row.said),
        ]
        out.append(f"| {' | '.join(map(str, parts))} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--questions", type=int, nargs="+", default=GRID["questions"])
    parser.add_argument("--only", default="", help="the quantities with this in their name")
    parser.add_argument("--rows", type=Path, help="CSV of counts: cells in it are not run again")
    given = parser.parse_args()
    done = pd.read_csv(given.rows) if given.rows and given.rows.exists() else pd.DataFrame()
    left = cells(tuple(given.questions))
    if len(done):
        seen = set(done[list(GRID)].astype(float).itertuples(index=False, name=None))
        left = [cell for cell in left if tuple(map(float, cell.values())) not in seen]
    commit()
    one = partial(run, studies=given.studies, seed=given.seed, only=given.only)
    with ProcessPoolExecutor(given.processes) as pool:
        for made in pool.map(one, left):
            done = pd.concat([done, made], ignore_index=True)
            if given.rows:
                done.to_csv(given.rows, index=False)
    print(page(judged(done).sort_values(["quantity", *GRID], kind="stable")))


if __name__ == "__main__":
    main()
