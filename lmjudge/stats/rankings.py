"""What ratings and votes say of pairs: won, expected to be won, and told apart."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.stats.battles import Votes, count
from lmjudge.stats.intervals import wilson


def win_fractions(
    votes: Votes, *, ties: Literal["drop", "half"] = "drop", level: float = 0.95
) -> pd.DataFrame:
    """The share of its battles with each other model that each model won: a row an ordered pair.

    `ties` are not counted ("drop", the arena's matrix) or half a win. Columns: model_a, model_b,
    wins, ties, losses (of model_a), win_fraction, n, low, high (Wilson's, as if the votes were
    independent; conservative for halves), no_verdict. Pairs that never met have no row; those that
    only tied a missing fraction, where ties are dropped. `pivot(index="model_a",
    columns="model_b", values="win_fraction")` makes it square. Raises FrameError as
    `bradley_terry`. Source: the arena's posts of May 2023.
    """
    if ties not in ("drop", "half"):
        raise ValueError(f"ties is {ties!r}; expected 'drop' or 'half'")
    counts = count(votes)
    met = counts.wins + counts.wins.T + counts.ties + counts.missing > 0
    i, j = np.nonzero(met)
    made = pd.DataFrame(
        {"model_a": np.array(counts.models)[i], "model_b": np.array(counts.models)[j]}
    )
    made["wins"], made["ties"], made["losses"] = (
        counts.wins[i, j],
        counts.ties[i, j],
        counts.wins[j, i],
    )
    half = ties == "half"
    worth = made["wins"] + half * made["ties"] / 2
    n = made["wins"] + made["losses"] + half * made["ties"]
    made["win_fraction"] = worth / n.where(n > 0)
    made["n"] = n
    made["low"], made["high"] = wilson(worth.to_numpy(float), n.to_numpy(float), level=level)
    made["no_verdict"] = counts.missing[i, j]
    return made


def predicted_wins(ratings: pd.DataFrame, *, scale: float = 400, base: float = 10) -> pd.DataFrame:
    """What each model is expected to win of its battles with each other: a row an ordered pair.

    `ratings` has the columns model and rating; `scale` and `base` are those that they were made
    with. Columns: model_a, model_b, win_rate (a tie counts as half); missing between two that are
    both infinite. Raises FrameError without those columns, or with a model named twice.

    >>> ratings = pd.DataFrame({"model": ["x", "y"], "rating": [1200.0, 800.0]})
    >>> predicted_wins(ratings)["win_rate"].round(3).tolist()
    [0.909, 0.091]
    """
    _check(ratings, ["model", "rating"])
    rating = ratings["rating"].to_numpy(float)
    i, j = np.nonzero(~np.eye(len(rating), dtype=bool))
    names = ratings["model"].to_numpy()
    made = pd.DataFrame({"model_a": names[i], "model_b": names[j]})
    with np.errstate(invalid="ignore", over="ignore"):
        made["win_rate"] = 1 / (1 + base ** ((rating[j] - rating[i]) / scale))
    return made


def separability(ratings: pd.DataFrame) -> pd.DataFrame:
    """The share of pairs of models whose intervals don't overlap: one row.

    Columns: separable, pairs, separability (missing with one model). A missing limit separates
    nothing. Raises FrameError without the columns model, low, high. Source: Arena-Hard, arXiv
    2406.11939, section 3.
    """
    _check(ratings, ["model", "low", "high"])
    low, high = ratings["low"].to_numpy(float), ratings["high"].to_numpy(float)
    separable = int((low[:, None] > high[None, :]).sum())
    pairs = len(ratings) * (len(ratings) - 1) // 2
    return pd.DataFrame(
        {
            "separable": [separable],
            "pairs": [pairs],
            "separability": [separable / pairs if pairs else np.nan],
        }
    )


def _check(ratings: pd.DataFrame, wanted: list[str]) -> None:
    missing = [column for column in wanted if column not in ratings.columns]
    if missing:
        raise FrameError(
            f"a frame of ratings lacks {', '.join(missing)} (found"
            f" {', '.join(map(str, ratings.columns))}); give what a rating function returned",
            columns=missing,
        )
    if ratings["model"].duplicated().any():
        raise FrameError(
            "a model has two ratings here; give one table of ratings at a time",
            rows=ratings[ratings["model"].duplicated(keep=False)],
        )
