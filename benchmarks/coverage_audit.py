"""How often the intervals of lmjudge.audit hold the truth, and how far its estimates are off it.

    python benchmarks/coverage_audit.py --studies 1000 --seeds 60 > benchmarks/results/coverage-audit.md

Two kinds of truth: the simulated study (`lj.simulate`), of whose questions a third, drawn at
random, keep their human votes; and studies drawn here from the law that an estimator assumes.
Seeds are counted from 0 and not chosen.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
from coverage import Memory
from oracle import planted

import lmjudge as lj
from lmjudge import audit
from lmjudge.stats.corrected import tuned


def means(rng: np.random.Generator, studies: int) -> Iterator[dict]:
    """Means of few human labels and many of a judge: how good the judge is, how many are labelled."""
    for skill in (0.0, 0.5, 0.9):
        for labelled, questions, share in ((20, 100, 0.6), (40, 400, 0.6), (40, 400, 0.85)):
            for _ in range(studies):
                # Four keys a question; y and f share the question and, with `skill`, the key.
                easy = rng.normal(0, 0.5, questions).repeat(4)
                key = rng.normal(0, 1, questions * 4)
                cut = np.sqrt(1.25) * _normal_quantile(share)
                y = (cut + easy + key > 0) * 1.0
                other = skill * key + np.sqrt(1 - skill**2) * rng.normal(0, 1, len(key))
                f = (0.4 + cut + easy * (skill > 0) + other > 0) * 1.0
                f[rng.random(len(f)) < 0.03] = np.nan
                number = np.arange(questions).repeat(4)
                made = tuned(np.where(number < labelled, y, np.nan), f, number)
                low, high = interval(made)
                yield {
                    "what": f"share {share}, judge's skill {skill}, {labelled} of {questions}",
                    "off": made.value - share,
                    "human_off": made.human - share,
                    "held": low <= share <= high,
                    "gain": made.human_variance / made.variance,
                }


def interval(made: object) -> tuple[float, float]:
    """The interval of a share, as corrected_win_rates makes it."""
    from lmjudge.stats.corrected import _shares

    found = _shares(made, 0.95)
    return found["low"], found["high"]


def _normal_quantile(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(share))


def study(seed: int) -> Iterator[dict]:
    """Win rates and ratings of the simulated study's experts, from a third of their questions."""
    made = lj.simulate(seed)
    rng = np.random.default_rng(seed)
    human = made.votes.query("group == 'expert' and turn == 1")
    few = rng.choice(made.questions["question_id"], 20, replace=False)
    human = human[human["question_id"].isin(few)]
    ask = {"store": Memory(), "endpoint": made.endpoint}
    for name in made.judges:
        votes = lj.resolve(lj.judge_pairs(made.pairings, lj.Judge("pair", model=name), **ask))
        for what, found, value, quantity in (
            ("win rate", audit.corrected_win_rates(votes, human), "win_rate", "win_rates"),
            ("rating", audit.corrected_ratings(votes, human), "rating", "bradley_terry"),
        ):
            true = planted(made, quantity, voters="expert")
            raw = "judge_rate" if value == "win_rate" else "judge_rating"
            alone = "human_rate" if value == "win_rate" else "human_rating"
            for row in found.merge(true, on="model").to_dict("records"):
                yield {
                    "what": f"study: {what}, by way of {name}",
                    "off": row[value] - row["planted"],
                    "human_off": row[alone] - row["planted"],
                    "judge_off": abs(row[raw] - row["planted"]),
                    "held": row["low"] <= row["planted"] <= row["high"],
                    "gain": row["effective"] / row["n_human"],
                }


def noise(rng: np.random.Generator, studies: int) -> Iterator[dict]:
    """Variance components of wins whose chance depends on question, sample and order."""
    truth = {"question": 0.04, "answers": 0.02, "order": 0.01, "draw": 0.25 - 0.07}
    for _ in range(studies):
        games = planted_games(rng, 60, truth)
        found = audit.components(games, draws=2).set_index("source")
        for source, true in truth.items():
            yield {
                "what": f"component: {source}",
                "off": found.loc[source, "variance"] - true,
                "held": found.loc[source, "low"] <= true <= found.loc[source, "high"],
            }


def planted_games(
    rng: np.random.Generator, questions: int, truth: dict[str, float]
) -> pd.DataFrame:
    """Games of x and y by one judge: two samples, two orders, two draws; chances are 1/2 and signs
    of each source's size, so that its variance is exactly the planted one."""
    rows = []
    sign = {name: np.sqrt(truth[name]) for name in ("question", "answers", "order")}
    for question in range(questions):
        for sample in range(2):
            if sample == 0:
                base = sign["question"] * rng.choice([-1, 1])
            item = base + sign["answers"] * rng.choice([-1, 1])
            for order in range(2):
                chance = 0.5 + item + sign["order"] * rng.choice([-1, 1])
                for draw in range(2):
                    won = rng.random() < chance
                    a, b = ("x", "y") if order == 0 else ("y", "x")
                    winner = "model_a" if won == (order == 0) else "model_b"
                    rows.append((question, a, b, 2 * sample + draw, winner))
    names = ["question_id", "model_a", "model_b", "sample", "winner"]
    made = pd.DataFrame(rows, columns=names)
    empty = dict.fromkeys(["score_a", "score_b", "reason", "text", "key"])
    return made.assign(turn=1, judge="j", **empty)


def terms(rng: np.random.Generator, studies: int) -> Iterator[dict]:
    """Ratings and leans of games drawn from the model itself."""
    strength = {"m1": 0.0, "m2": 0.4, "m3": -0.6, "judge": 0.2}
    lean, own = {"judge/pair": 0.5, "other/pair": -0.3}, 0.7
    for _ in range(studies):
        rows = []
        for question in range(40):
            for a in strength:
                for b in strength:
                    for name in lean:
                        mine = (a == "judge") - (b == "judge") if name == "judge/pair" else 0
                        odds = strength[a] - strength[b] + lean[name] + own * mine
                        if a != b:
                            won = rng.random() < 1 / (1 + np.exp(-odds))
                            rows.append((question, a, b, name, "model_a" if won else "model_b"))
        names = ["question_id", "model_a", "model_b", "judge", "winner"]
        empty = dict.fromkeys(["score_a", "score_b", "reason", "text", "key"])
        games = pd.DataFrame(rows, columns=names).assign(turn=1, sample=0, **empty)
        found = audit.judge_terms(games, anchor="m1", scale=np.log(10), initial=0)
        found = found.set_index(["kind", "name"])
        true = {("rating", name): value for name, value in strength.items() if name != "m1"}
        true |= {("position", name): np.exp(value) for name, value in lean.items()}
        true["own", "judge/pair"] = np.exp(own)
        for key, value in true.items():
            row = found.loc[[key]].iloc[0]
            yield {
                "what": f"terms: {key[0]}",
                "off": row["value"] - value,
                "held": row["low"] <= value <= row["high"],
            }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--components", action="store_true", help="the components alone")
    args = parser.parse_args()
    start, rng = time.monotonic(), np.random.default_rng(0)
    rows = [] if args.components else [*means(rng, args.studies)]
    rows += noise(rng, args.studies // 10)
    if not args.components:
        rows += terms(rng, args.studies // 10)
    for seed in range(0 if args.components else args.seeds):
        rows += study(seed)
    found = pd.DataFrame(rows).groupby("what", sort=False)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    print("# Choosing a judge: bias and coverage of nominal 95 % intervals\n")
    print(f"`python benchmarks/coverage_audit.py --studies {args.studies} --seeds {args.seeds}`,")
    print(f"commit {commit.stdout.strip()}, {(time.monotonic() - start) / 60:.0f} minutes.\n")
    print("`off`: mean of the estimate less the truth, and its standard error over the studies;")
    print("`human off`: root mean square error of the human labels alone, `root`: of the corrected")
    print("estimate; `judge off`: mean absolute error of the judge's votes taken as they are.")
    print("`gain`: median factor by which the humans' labels seem to be multiplied.\n")
    print("| what | n | held | off | ± | root | human off | judge off | gain |")
    print("|---|---|---|---|---|---|---|---|---|")
    for what, part in found:
        off, root = part["off"].mean(), np.sqrt((part["off"] ** 2).mean())
        error = part["off"].std() / np.sqrt(len(part))
        part = part.reindex(columns=[*part.columns, *{"human_off", "judge_off", "gain"} - {*part}])
        more = [np.sqrt((part["human_off"] ** 2).mean()), part["judge_off"].mean()]
        told = ["" if np.isnan(one) else f"{one:.4f}" for one in more]
        gain = part["gain"].median()
        told.append("" if np.isnan(gain) else f"{gain:.2f}")
        held = 100 * part["held"].mean()
        print(
            f"| {what} | {len(part)} | {held:.1f} | {off:.4f} | {error:.4f} | {root:.4f} |", end=""
        )
        print(f" {' | '.join(told)} |")


if __name__ == "__main__":
    main()
