"""How often win rates hold where a few questions, or a few people, have most of the votes.

    python benchmarks/coverage_uneven.py

prints benchmarks/results/coverage-uneven.md, in about ten minutes. A question has four votes or
from 1 to 40 (Zipf's law with exponent 1.7); a person votes on eight questions or on from 3 to all
(exponent 1.5). Votes are independent; or the votes on a question share its chance of a win, from a
beta distribution with its mean and a sum of 2; or the votes of a person share a taste (a normal
distribution of log odds with sd 1 or 2). `--studies` sets how many studies a cell has.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

import lmjudge as lj

MOST = 40  # votes on a question


def by_questions(
    rng: np.random.Generator, studies: int, questions: int, share: float, alike: bool, uneven: bool
) -> pd.DataFrame:
    """Votes of unnamed people on two models a study."""
    total = studies * questions
    count = np.minimum(rng.zipf(1.7, total), MOST) if uneven else np.full(total, 4)
    chance = rng.beta(2 * share, 2 - 2 * share, total) if alike else np.full(total, share)
    question = np.repeat(np.arange(total), count)
    return votes(question // questions, question, chance[question], rng)


def by_people(
    rng: np.random.Generator, studies: int, people: int, middle: float, sd: float, uneven: bool
) -> pd.DataFrame:
    """Votes of named people with tastes, on two models a study and 80 questions."""
    total, questions = studies * people, 80
    count = np.minimum(2 + rng.zipf(1.5, total), questions) if uneven else np.full(total, 8)
    chance = expit(rng.normal(middle, sd, total))
    person = np.repeat(np.arange(total), count)
    of = np.concatenate([rng.permutation(questions)[:some] for some in count])
    study = person // people
    return votes(study, study * questions + of, chance[person], rng).assign(
        judge=np.char.add("p", person.astype(str))
    )


def votes(
    study: np.ndarray, question: np.ndarray, chance: np.ndarray, rng: np.random.Generator
) -> pd.DataFrame:
    names = {"model_a": np.char.add("x", study.astype(str)), "model_b": "y", "turn": 1}
    winner = np.where(rng.random(len(study)) < chance, "model_a", "model_b")
    further = {"judge": None, "group": "crowd", "reason": None, "time": None}
    return pd.DataFrame({"question_id": question, **names, **further, "winner": winner})


def cell(rows: pd.DataFrame, truth: float) -> dict[str, float]:
    """How often the interval holds the truth, in %, and the share of studies with a flag."""
    found = lj.win_rates(rows) if rows["judge"].isna().all() else crossed(rows)
    found = found[found["model"] != "y"]
    held = (found["low"] <= truth) & (truth <= found["high"])
    return {"held %": 100 * held.mean(), "flagged %": 100 * found["too_few"].mean()}


def crossed(rows: pd.DataFrame) -> pd.DataFrame:
    """Win rates of each study alone: what clusters voters are depends on the study."""
    return pd.concat([lj.win_rates(part) for _, part in rows.groupby("model_a")])


def table(studies: int) -> pd.DataFrame:
    rng, rows = np.random.default_rng(11), []
    for uneven in (True, False):
        size = "1 to 40 a question" if uneven else "4 a question"
        for alike in (True, False):
            for share in (0.5, 0.8, 0.9, 0.95):
                for questions in (20, 50, 100, 200):
                    drawn = by_questions(rng, studies, questions, share, alike, uneven)
                    kind = "alike on a question" if alike else "independent"
                    key = {"votes": size, "which are": kind, "clusters": questions}
                    rows.append(key | {"win rate": share} | cell(drawn, share))
        size = "3 to 80 a person" if uneven else "8 a person"
        for people in (20, 40, 100):
            for middle, sd in ((0.0, 1.0), (2.0, 1.0), (2.5, 2.0)):
                truth = quad(lambda z, m=middle, s=sd: expit(m + s * z) * norm.pdf(z), -8, 8)[0]
                drawn = by_people(rng, max(studies // 4, 1), people, middle, sd, uneven)
                key = {"votes": size, "which are": f"of one taste, sd {sd:g}", "clusters": people}
                rows.append(key | {"win rate": truth} | cell(drawn, truth))
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    found = table(parser.parse_args().studies)
    short = found[found["held %"] < 93]
    flagged = found["flagged %"] > 50
    print("# Win rates where a few questions or people have most of the votes\n")
    print(
        f"{len(found)} cells, {flagged.sum()} flagged (most of their studies are); {len(short)}"
        f" hold in less than 93 % of studies, and {(short['flagged %'] > 50).sum()} of these are"
        " flagged. Cells of people have a quarter of the studies.\n"
    )
    print(found.to_markdown(index=False, floatfmt=("", "", "", ".2f", ".1f", ".0f")))


if __name__ == "__main__":
    main()
