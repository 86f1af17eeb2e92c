"""Judges against gold labels: which are right whichever order the answers are shown in?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, never_meet, same_ids
from lmjudge.stats.agreement import KEY
from lmjudge.stats.grouping import By, by_name, grouped, on_questions
from lmjudge.stats.intervals import estimate


def gold_accuracy(
    games: pd.DataFrame, gold: pd.DataFrame, *, by: By = None, level: float = 0.95
) -> pd.DataFrame:
    """Return how often each judge finds the better answer, in one order and in both.

    `games` are in both orders, or one; `gold` are votes, the label of each pair (labels that are a
    tie or missing do not count). `by` names columns of `gold` or of `games`, such as `source`, or a
    subset's.

    | column | unit | meaning |
    |---|---|---|
    | accuracy | share | pairs whose two verdicts are both right; with one order, its verdicts |
    | single | share | right verdicts, each game by itself |
    | net | share | pairs with more right than wrong verdicts: a tie beside a right one is right |
    | wrong | share | pairs whose two verdicts name the worse answer: consistent, and wrong |
    | lucky | share | pairs of which one verdict is right and one is not |

    Two judges can have the same `single`: a consistent one has it as `accuracy` too, a lucky one
    loses half of `lucky`. A coin has single 1/2 and accuracy 1/4. Columns: judge, those of `by`,
    accuracy, single, net, wrong, lucky, too_few, n (pairs), low, high (of accuracy, clustered by
    question), no_verdict (pairs with a verdict missing). Raises FrameError for two labels of one
    pair that differ, and where games and labels share no pair.
    """
    games, gold = same_ids(check(games, "games"), check(gold, "votes"))
    labels = by_name(on_questions(gold))
    labels = labels[labels["winner"].isin(["model_a", "model_b"])]
    twice = labels.groupby(KEY, dropna=False)["winner"].transform("nunique") > 1
    if twice.any():
        raise FrameError(
            f"{int(twice.sum())} gold labels contradict another label of their pair; give one label"
            " a pair, or compare with `agreement`",
            rows=labels[twice],
        )
    columns = [by] if isinstance(by, str) else list(by or ())
    labels = labels.drop_duplicates(KEY)
    own = [name for name in columns if name in labels.columns]
    shown = by_name(on_questions(games))
    rest = [name for name in columns if name not in own]
    grouped(shown, rest, None)
    met = shown[[*KEY, "judge", "sample", "turned", "winner", *rest]].merge(
        labels[[*KEY, "winner", *own]], on=KEY, suffixes=("", "_gold")
    )
    if met.empty:
        raise never_meet("No pair has a verdict and a gold label", games, gold)
    right = met["winner"] == met["winner_gold"]
    worse = met["winner"].isin(["model_a", "model_b"]) & ~right
    met = met.assign(right=right, worse=worse, games=1, lost=met["winner"].isna())
    pair = ["judge", *columns, *KEY, "sample"]
    counts = ["right", "worse", "games", "lost", "turned"]
    pairs = met.groupby(pair, dropna=False)[counts].sum().reset_index()
    n = pairs["games"]
    known = pairs["lost"] == 0
    one_order = (pairs["turned"] == 0) | (pairs["turned"] == n)
    shares = {
        "accuracy": (pairs["right"] == n).astype(float),
        "single": pairs["right"] / n,
        "net": (pairs["right"] > pairs["worse"]).astype(float),
        "wrong": (pairs["worse"] == n).astype(float).where(~one_order),
        "lucky": ((pairs["right"] > 0) & (pairs["right"] < n)).astype(float).where(~one_order),
    }
    table = pairs.assign(**{name: share.where(known) for name, share in shares.items()})
    made = estimate(table, ["judge", *columns], top=table["accuracy"], share=True, level=level)
    means = table.groupby(["judge", *columns], dropna=False)[list(shares)].mean().reset_index()
    made = made.drop(columns="value").merge(means, on=["judge", *columns])
    made = made.replace({np.inf: np.nan})
    ends = ["too_few", "n", "low", "high", "no_verdict"]
    return made[["judge", *columns, *shares, *ends]]
