"""What judges and voters make of a study's signed answers, in expectation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.frames import WINNERS, check
from lmjudge.simulation import SimulatedJudge, Study
from lmjudge.simulation.endpoint import SimulatedEndpoint
from lmjudge.simulation.signs import by_answer, word_of
from oracle.truth import grade_chances


def expected_agreement(
    study: Study, votes: pd.DataFrame, group: str, *, drawn: bool = False
) -> pd.DataFrame:
    """How often a voter of the group agrees with these votes, in expectation: S1 and S2.

    `votes` are on first turns of the study's answers. With `drawn` only the pairs that they are on
    count, and it is how often two voters of the group agree on these. Columns: ties ("keep",
    "drop"), planted.
    """
    voters = next(voters for voters in study.plan.voters if voters.group == group)
    facts = by_answer(study.endpoint)
    sums = np.zeros(4)  # agreeing and comparable, with ties and without
    for row in check(votes, "votes").to_dict("records"):
        a, b = (facts[row["question_id"], 1, row[f"model_{side}"]] for side in "ab")
        theirs = voters.choices(a.best(b))
        mine = theirs if drawn else {row["winner"]: 1.0}
        for place, kept in ((0, WINNERS), (2, WINNERS[:2])):
            both = sum(mine.get(side, 0.0) * theirs[side] for side in kept)
            met = sum(mine.get(s, 0.0) for s in kept) * sum(theirs[s] for s in kept)
            sums[place : place + 2] += both, met
    shares = np.divide(sums[::2], sums[1::2], out=np.full(2, np.nan), where=sums[1::2] > 0)
    return pd.DataFrame({"ties": ["keep", "drop"], "planted": shares})


def expected_totals(study: Study, pairings: pd.DataFrame, *, orders: str = "both") -> pd.DataFrame:
    """What model_a's grades total in percent of model_b's, in expectation, by the first judge.

    `pairings` are of first turns of the study's answers, known by their words, whatever model they
    are said to be of: a model's sample, or a rank. Both are graded in one judgment. Columns:
    model_a, model_b, planted.
    """
    who, grades = study.plan.judges[0], np.arange(1, 11)
    places = (1, -1) if orders == "both" else (1,)
    made = pairings[["model_a", "model_b"]].copy()
    for side, turn in (("a", 1), ("b", -1)):
        facts = [study.endpoint.facts[word_of(turns[0])] for turns in pairings[f"answer_{side}"]]
        made[side] = [
            sum(
                float(
                    grade_chances(who, np.array(f.quality), first=turn * place, long=f.long)
                    @ grades
                )
                for place in places
            )
            for f in facts
        ]
    sums = made.groupby(["model_a", "model_b"])[["a", "b"]].sum()
    return (100 * sums["a"] / sums["b"]).rename("planted").reset_index()


def expected_wins(
    endpoint: SimulatedEndpoint, judge: SimulatedJudge, pairings: pd.DataFrame
) -> pd.DataFrame:
    """What model_a's win rate over model_b is, in expectation, once both orders are resolved.

    Ties count half and missing verdicts not at all. Columns: model_a, model_b, planted.
    """
    facts = by_answer(endpoint)
    sums: dict[tuple[str, str], np.ndarray] = {}
    for row in pairings.to_dict("records"):
        a, b = (facts[row["question_id"], 1, row[f"model_{side}"]] for side in "ab")
        first, second = judge.in_both_orders(a.best(b), a.words - b.words, None)
        read = (1 - first[None]) * (1 - second[None])
        wins, losses = (first[side] * second[side] for side in WINNERS[:2])
        pair = sums.setdefault((row["model_a"], row["model_b"]), np.zeros(2))
        pair += (wins + read - losses) / 2, read
    return pd.DataFrame(
        [{"model_a": a, "model_b": b, "planted": top / of} for (a, b), (top, of) in sums.items()]
    )
