"""Habits planted in judges and found again; none planted and none found: many simulated studies.

    python benchmarks/coverage_bias.py --seeds 100 --processes 2

prints benchmarks/results/coverage-bias.md. Each seed makes two studies: one whose three judges have
habits (a place, a name, length, their own answers move them), and one in which the same judges have
none and differ in nothing else. All go through prompts and parsers, as in coverage.py. Beside them
win rates at equal length and the effect of length itself come from votes drawn as the regression
says, so that their truth is known exactly. Exit status 1 where an interval held its planted value
less or more often than a 99.9 % binomial band around 95 % allows, or where the mean estimate is
farther from it than 3.3 of its standard errors.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from coverage import Memory, summary
from oracle import planted, recovered

import lmjudge as lj
from lmjudge.frames import frame
from lmjudge.simulation import JUDGES, KIN, MODELS, MOVED, Study
from lmjudge.stats.bias import in_both_orders
from lmjudge.stats.intervals import estimate

NONE = {"position_bias": 0.0, "verbosity_bias": 0.0, "self_preference": 0.0, "name_bias": 0.0}
# sim-cedar, sim-alder and sim-linnet; of the models only the first four, to be done sooner.
MOVED_JUDGES = (JUDGES[1], replace(KIN[1], verbosity_bias=0.26), MOVED[1])
# Alike in all else: judges who only discern more or less than others differ from them too.
EVEN_JUDGES = tuple(replace(JUDGES[0], name=judge.name, **NONE) for judge in MOVED_JUDGES)
EVEN, LENGTH = 0.4, 0.9  # log odds at equal length, and from there to one that is longer by far


def cells(seed: int, per_category: int = 10) -> pd.DataFrame:
    """Every planted value beside what the studies of a seed recover."""
    study = partial(lj.simulate, seed, per_category=per_category, models=MODELS[:4])
    every = [
        *of_study(study(judges=MOVED_JUDGES), "planted"),
        *of_study(study(judges=EVEN_JUDGES), "nothing"),
        *of_lengths(np.random.default_rng(seed), 6 * per_category, LENGTH, "planted"),
        *of_lengths(np.random.default_rng([seed, 1]), 6 * per_category, 0.0, "nothing"),
    ]
    return pd.concat(every, ignore_index=True).assign(seed=seed)


def of_study(study: Study, what: str) -> Iterable[pd.DataFrame]:
    """A table's rows for every habit of the judges of a study."""
    ask = {"store": Memory(), "endpoint": study.endpoint}
    games = {
        name: lj.judge_pairs(study.pairings, lj.Judge("pair", model=name), **ask)
        for name in study.judges
    }
    votes = pd.concat([lj.resolve(shown) for shown in games.values()])
    first_turn = study.votes[study.votes["turn"] == 1]
    experts = first_turn[first_turn["group"] == "expert"]

    def see(quantity: str, found: pd.DataFrame, value: str, **cut: object) -> pd.DataFrame:
        name = f"{what}: {quantity}, {cut.get('judge') or cut.get('voters')}"
        return recovered(found, planted(study, quantity, **cut), name, value=value)

    for name, shown in games.items():
        yield see("position_bias", lj.position_bias(shown), "share", judge=f"{name}/pair")
        yield first_less_second(study, shown, f"{what}: position_bias, {name}/pair")
        mine = votes[votes["judge"] == f"{name}/pair"]
        yield logged(see("length_bias", lj.length_bias(mine, study.answers), "odds", voters=name))
    last = study.judges[-1]
    renamed = lj.judge_pairs(study.pairings, lj.Judge("pair-renamed", model=last), **ask)
    yield see("name_bias", lj.stats.name_bias(games[last], renamed), "difference", judge=last)
    owns = lj.self_preference(votes, human=experts)
    for name in study.judges[:-1]:
        others = [other for other in study.judges if other != name]
        for against in (others, ["expert"]):
            yield see("self_preference", owns, "difference", judge=f"{name}/pair", against=against)


def first_less_second(study: Study, games: pd.DataFrame, name: str) -> pd.DataFrame:
    """How much oftener the first answer was preferred both times than the second."""
    pairs, outcomes = in_both_orders(games)
    gap = outcomes["biased_first"] * 1.0 - outcomes["biased_second"]
    judge = games["judge"].iloc[0]
    true = planted(study, "position_bias", judge=judge).set_index("outcome")["planted"]
    return estimate(pairs, [], top=gap)[["value", "n", "low", "high", "no_verdict"]].assign(
        table=name,
        row="first less second",
        planted=true["biased_first"] - true["biased_second"],
    )


def of_lengths(
    rng: np.random.Generator, questions: int, effect: float, what: str
) -> Iterable[pd.DataFrame]:
    """Win rates at equal length, and the effect of length, from votes drawn as they are modelled.

    A question's two turns have one latent normal in common, so that its votes go together while
    each is exactly as likely as the regression says.
    """
    from scipy.stats import norm

    words = np.maximum(rng.normal([160, 130], 40, (questions, 2, 2)).round(), 1)
    latent = np.sqrt(0.5) * (rng.normal(size=(questions, 1)) + rng.normal(size=(questions, 2)))
    gap = words[:, :, 0] - words[:, :, 1]
    odds = {
        "equal_length_win_rates": EVEN + effect * np.tanh(gap / np.hypot(40, 40)),
        "length_bias": EVEN + effect * np.log2(words[:, :, 0] / words[:, :, 1]),
    }
    answers = frame(
        "answers",
        [
            {"question_id": q, "model": model, "sample": 0}
            | {"turns": [" ".join(["word"] * int(n)) for n in words[q, :, at]]}
            for q in range(questions)
            for at, model in enumerate("mn")
        ],
    )
    for quantity, log_odds in odds.items():
        won = norm.cdf(latent) < 1 / (1 + np.exp(-log_odds))
        votes = frame(
            "votes",
            [
                {"question_id": q, "turn": turn + 1, "model_a": "m", "model_b": "n", "judge": "j"}
                | {"winner": "model_a" if won[q, turn] else "model_b", "group": "llm"}
                | {"reason": None, "time": None}
                for q in range(questions)
                for turn in (0, 1)
            ],
        )
        if quantity == "length_bias":
            made = lj.length_bias(votes, answers).assign(planted=np.exp(effect))
            yield logged(made.assign(table=f"{what}: length_bias, drawn", row="m / n"))
        else:
            made = lj.stats.equal_length_win_rates(votes, answers, baseline="n")
            made = made.assign(planted=1 / (1 + np.exp(-EVEN)), value=made["controlled"])
            yield made.assign(table=f"{what}: {quantity}, drawn", row="m against n")


def logged(made: pd.DataFrame) -> pd.DataFrame:
    """Odds as their logarithms, whose mean is what a mean is of."""
    if "odds" in made:
        made = made.assign(value=made["odds"])
    ends = ["value", "low", "high", "planted"]
    return made.assign(**np.log(made[ends].astype(float)))


def recovery(every: pd.DataFrame) -> pd.DataFrame:
    """A row per quantity: as coverage.summary, with the mean estimate and its standard error."""
    made = summary(every)
    groups = every.groupby(["table", "row"], sort=False)["value"]
    made["mean"], made["error"] = groups.mean().to_numpy(), groups.sem().to_numpy()
    made["fits"] &= made["bias"].abs() < 3.3
    return made


def report(made: pd.DataFrame, per_category: int, head: str) -> str:
    """What was planted and what was found, as Markdown."""
    null = made[made["table"].str.startswith("nothing") & made["planted"].abs().lt(1e-9)]
    kinds = null.groupby(null["table"].str.extract(r": (\w+)", expand=False))[
        ["held", "seeds"]
    ].sum()
    lines = [
        "# Habits planted and found again; none planted and none found",
        "",
        f"Simulated data throughout: {made['seeds'].max()} seeds from 0 on, {6 * per_category}"
        " questions a study; made by",
        f"`python benchmarks/coverage_bias.py --per-category {per_category}`, {head}.",
        "",
        f"{len(made)} quantities; {(~made['fits']).sum()} outside their bands (99.9 % for the number"
        " of intervals that held, 3.3",
        "standard errors for the mean). Effects of length are logarithms of odds for a doubling of"
        " the length.",
        "Where nothing is planted the outcomes of position_bias still have shares, because judges"
        " err; its",
        "effect is the share preferred when shown first less that when second.",
        "",
        "| nothing planted | intervals | exclude nothing |",
        "|---|---|---|",
        *(
            f"| {row.Index} | {row.seeds} | {1 - row.held / row.seeds:.1%} |"
            for row in kinds.itertuples()
        ),
        f"| all | {kinds['seeds'].sum()} | {1 - kinds['held'].sum() / kinds['seeds'].sum():.1%} |",
        "",
        "| quantity | row | planted | mean estimate | its error | off, in errors | held | fits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.table} | {row.row} | {row.planted:.4f} | {row.mean:.4f} | {row.error:.4f}"
        f" | {row.bias:+.1f} | {row.held}/{row.seeds} | {'yes' if row.fits else '**no**'} |"
        for row in made.itertuples()
    ]
    return "\n".join(lines)


def main() -> int:
    from coverage_grid import commit

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--per-category", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="CSV of what is done: not run again")
    given = parser.parse_args()
    every = pd.read_csv(given.rows) if given.rows and given.rows.exists() else pd.DataFrame()
    left = sorted(set(range(given.seeds)) - set(every.get("seed", [])))
    with ProcessPoolExecutor(given.processes) as pool:
        for found in pool.map(partial(cells, per_category=given.per_category), left):
            every = pd.concat([every, found], ignore_index=True)
            if given.rows:
                every.to_csv(given.rows, index=False)
    made = recovery(every)
    print(report(made, given.per_category, f"{time.strftime('%Y-%m-%d')}, commit {commit()}"))
    return int(not made["fits"].all())


if __name__ == "__main__":
    sys.exit(main())
