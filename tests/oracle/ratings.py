"""What ratings and shares of votes are in truth: of the votes that a study would give for ever."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmjudge.simulation.planted import Plan
from oracle import truth
from oracle.truth import TIE, A, B, By, listed, ratio


def bradley_terry(
    plan: Plan,
    *,
    voters: str,
    turns: Sequence[int] = (1,),
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
) -> pd.DataFrame:
    """Each model's rating by the votes expected of a group, a tie half a win; `initial` on average.

    The voters do not vote as Bradley and Terry say; the truth is the model's best fit to them,
    found by Zermelo's iteration (1929).
    """
    met = _expected(plan, voters, turns)
    names = [model.name for model in plan.models]
    at = {name: number for number, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for row in met.itertuples():
        wins[at[row.model_a], at[row.model_b]] += row.won + row.tied / 2
        wins[at[row.model_b], at[row.model_a]] += row.lost + row.tied / 2
    strength, before = np.ones(len(names)), np.full(len(names), np.inf)
    while np.abs(np.log(strength) - before).max() > 1e-12:
        before = np.log(strength)
        pairs = (wins + wins.T) / (strength[:, None] + strength)
        strength = wins.sum(1) / pairs.sum(1)
        strength /= np.exp(np.log(strength).mean())
    rating = initial + scale / np.log(base) * np.log(strength)
    return pd.DataFrame({"model": names, "planted": rating})


def win_fractions(
    plan: Plan, *, voters: str, ties: str = "drop", turns: Sequence[int] = (1,)
) -> pd.DataFrame:
    """The share of its votes against each other that each model wins, a row an ordered pair."""
    met = _expected(plan, voters, turns)
    turned = met.rename(
        columns={"model_a": "model_b", "model_b": "model_a", "won": "lost", "lost": "won"}
    )
    rows = pd.concat([met, turned])
    half = rows["tied"] * (ties == "half")
    rows = rows.assign(top=rows["won"] + half / 2, bottom=rows["won"] + rows["lost"] + half)
    return ratio(rows, ["model_a", "model_b"])


def vote_shares(
    plan: Plan, *, voters: str, by: By = (), turns: Sequence[int] = (1,)
) -> pd.DataFrame:
    """The share of each outcome in a group's votes on each pair, its models by name."""
    met = _expected(plan, voters, turns)
    turn = met["model_a"] > met["model_b"]
    met[["model_a", "model_b", "won", "lost"]] = met[["model_a", "model_b", "won", "lost"]].where(
        ~turn, met[["model_b", "model_a", "lost", "won"]].to_numpy()
    )
    whole = met["won"] + met["lost"] + met["tied"]
    sides = {"model_a": met["won"], "model_b": met["lost"], "tie": met["tied"]}
    rows = pd.concat(
        [met.assign(outcome=name, top=top, bottom=whole) for name, top in sides.items()]
    )
    return ratio(rows, [*listed(by), "model_a", "model_b", "outcome"])


def _expected(plan: Plan, voters: str, turns: Sequence[int]) -> pd.DataFrame:
    """Every kind of comparison with the chances that model_a won it, lost it, and tied."""
    kinds, chances = truth.comparisons(plan)
    votes = (chances[:, :, None] * truth.human_votes(plan, voters)).sum(1)
    made = kinds.assign(won=votes[:, A], lost=votes[:, B], tied=votes[:, TIE])
    return made[made["turn"].isin(turns)].reset_index(drop=True)
