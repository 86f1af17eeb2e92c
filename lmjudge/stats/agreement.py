"""How often judges agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import WINNERS, check, never_meet, same_ids
from lmjudge.stats.grouping import By, by_name, grouped, on_questions, totals
from lmjudge.stats.intervals import estimate

KEY = ["question_id", "turn", "model_a", "model_b"]
SETTINGS: dict[str, Literal["keep", "drop"]] = {"S1": "keep", "S2": "drop"}
_COUNTS = [*WINNERS, "missing"]


def agreement(
    votes_x: pd.DataFrame,
    votes_y: pd.DataFrame | None = None,
    *,
    by: By = None,
    ties: Literal["keep", "drop"] = "keep",
    pool: Literal["votes", "questions", "keys"] = "votes",
    distinct: bool = False,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """How often two groups of votes agree, or the votes of one group among themselves.

    Compared are votes on one key: question, turn and unordered pair of models, whichever side
    each was shown on. Between two groups every vote of one meets every vote of the other; within
    one, every unordered pair of votes meets once, also two of one judge, as in FastChat's
    compute_agreement, unless `distinct` leaves out comparisons of a judge with itself.

    `ties`: "keep" (the papers' S1: a tie agrees with a tie alone) or "drop" (S2: comparisons in
    which either vote is a tie are left out). `pool`: "votes" pools all comparisons (the released
    script), "questions" takes the mean over questions (the paper's words: a randomly selected
    question), "keys" the mean over keys. `by` may name question_id, turn, model_a, model_b (the
    pair, in the order of the names), "category", and "judge": that of `votes_x`, each as if its
    votes were given alone. Votes without a judge are of voters unnamed: each counts as its own
    voter, and by="judge" gives them one row together.

    Columns: those of `by`, agreement, agreed (comparisons), ties (comparisons in which either vote
    is a tie), tie_rate_x, tie_rate_y (the share of comparisons in which the one's, or the other's,
    vote is a tie), random_uniform (what two judges who guess would reach), random_marginal (what
    two who guess with these tie rates would reach; which side is A carries no meaning, so sides are
    even), too_few (an interval to be careful with: fewer than 20 questions, or than ten effective
    comparisons on the rarer side), n (comparisons), low, high (clustered by question), no_verdict
    (comparisons in which a verdict is missing; left out). Raises FrameError for votes without a
    question_id, for a model against itself, and for two groups without a common key. Source: arXiv
    2306.05685, section 4.1 and Table 5.

    >>> from lmjudge.frames import frame
    >>> votes = frame("votes", [
    ...     {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "judge": judge,
    ...      "group": "expert", "winner": winner, "reason": None, "time": None}
    ...     for judge, winner in [("x", "model_a"), ("y", "model_a"), ("z", "model_b")]])
    >>> agreement(votes)[["agreed", "n"]]
       agreed  n
    0       1  3
    """
    if ties not in ("keep", "drop") or pool not in ("votes", "questions", "keys"):
        raise ValueError(
            f"ties is {ties!r} and pool {pool!r}; expected ties 'keep' or 'drop', and pool"
            " 'votes', 'questions' or 'keys'"
        )
    key = [*KEY, "judge"] if "judge" in ([by] if isinstance(by, str) else by or ()) else KEY
    if votes_y is None:
        keys = _within(votes_x, distinct, key)
    else:
        keys = _between(votes_x, votes_y, distinct, key)
    rows, columns = grouped(keys.reset_index(), by, questions)
    met, agreed = ("met_s2", "agreed_s2") if ties == "drop" else ("met_s1", "agreed_s1")
    weights = [*keys.columns]
    sums = totals(rows, columns, weights)
    if pool == "questions":
        wanted = list(dict.fromkeys([*columns, "question_id"]))
        rows = rows.groupby(wanted, dropna=False)[weights].sum().reset_index()
    some = rows[met] > 0
    share = rows[agreed].where(some)
    if pool == "votes":
        made = estimate(
            rows, columns, top=share, bottom=rows[met], squares=share, share=True, level=level
        )
    else:
        made = estimate(rows, columns, top=share / rows[met].where(some), share=True, level=level)
    tie = sums[["tie_x", "tie_y"]].div(sums["met_s1"].where(sums["met_s1"] > 0), axis=0)
    marginal = tie["tie_x"] * tie["tie_y"] + (1 - tie["tie_x"]) * (1 - tie["tie_y"]) / 2
    return made[columns].assign(
        agreement=made["value"],
        agreed=sums[agreed].astype(int),
        ties=(sums["met_s1"] - sums["met_s2"]).astype(int),
        tie_rate_x=tie["tie_x"],
        tie_rate_y=tie["tie_y"],
        random_uniform=1 / 2 if ties == "drop" else 1 / 3,
        random_marginal=1 / 2 if ties == "drop" else marginal,
        too_few=made["too_few"],
        n=sums[met].astype(int),
        low=made["low"],
        high=made["high"],
        no_verdict=sums["missed"].astype(int),
    )


def agreements(
    voters: Mapping[str, pd.DataFrame],
    *,
    within: Collection[str] = (),
    by: By = None,
    pool: Literal["votes", "questions", "keys"] = "votes",
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """How often every two kinds of judges agree, with ties (S1) and without (S2).

    `voters` are votes frames by the name of their kind; `within` names the kinds whose votes are
    also compared among themselves. Columns: x, y (the two, in the order given), setting ("S1" or
    "S2"), and those of `agreement`, whose arguments the others are. Raises FrameError as it does.
    Source: arXiv 2306.05685, Tables 5 and 6.

    >>> from lmjudge.frames import frame
    >>> said = {name: frame("votes", [
    ...     {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "judge": name,
    ...      "group": "expert", "winner": winner, "reason": None, "time": None}])
    ...     for name, winner in [("x", "model_a"), ("y", "tie"), ("z", "model_a")]}
    >>> agreements(said)[["x", "y", "setting", "agreed", "n"]].query("n > 0").values.tolist()
    [['x', 'y', 'S1', 0, 1], ['x', 'z', 'S1', 1, 1], ['x', 'z', 'S2', 1, 1], ['y', 'z', 'S1', 0, 1]]
    """
    if unknown := [name for name in within if name not in voters]:
        raise FrameError(
            f"`within` names {', '.join(unknown)}; there are votes of {', '.join(voters)}",
            columns=unknown,
        )
    made = []
    for x, y in combinations_with_replacement(voters, 2):
        if x == y and x not in within:
            continue
        other = None if x == y else voters[y]
        for setting, ties in SETTINGS.items():
            part = agreement(
                voters[x], other, by=by, ties=ties, pool=pool, questions=questions, level=level
            )
            part.insert(0, "x", x)
            part.insert(1, "y", y)
            part.insert(2, "setting", setting)
            made.append(part)
    return pd.concat(made, ignore_index=True)


def agreement_by_gap(
    votes_x: pd.DataFrame,
    votes_y: pd.DataFrame,
    *,
    by: By = None,
    ties: Literal["keep", "drop"] = "drop",
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """How often two groups of votes agree on each pair of models, and how far apart the two are.

    The gap is that of the votes that agree is measured against, `votes_y` (the humans'): the share
    of their votes on the pair that one model won, less the share that the other won; with
    ties="drop" of those with a winner. The paper does not print how it took the gap. Columns:
    model_a, model_b, those of `by` (turn, category), gap (not negative), gap_n (votes), and those
    of `agreement`, in the order of the gaps. Raises FrameError as `agreement` does. Source: arXiv
    2306.05685, Figure 2.
    """
    rows, more = grouped(by_name(check(votes_y, "votes", by)), by, questions)
    columns = list(dict.fromkeys(["model_a", "model_b", *more]))
    met = agreement(votes_x, votes_y, by=columns, ties=ties, questions=questions, level=level)
    rows = rows[rows["winner"].notna() & ~((ties == "drop") & (rows["winner"] == "tie"))]
    rows = rows.assign(gap=(rows["winner"] == "model_a") * 1.0 - (rows["winner"] == "model_b"))
    gaps = rows.groupby(columns, dropna=False)["gap"].agg(["mean", "size"]).reset_index()
    gaps = gaps.rename(columns={"mean": "gap", "size": "gap_n"}).assign(gap=gaps["mean"].abs())
    made = met.merge(gaps, on=columns, how="left").sort_values("gap", ignore_index=True)
    ends = [name for name in met.columns if name not in columns]
    return made[[*columns, "gap", "gap_n", *ends]]


def met_by_judge(votes_x: pd.DataFrame, votes_y: pd.DataFrame) -> pd.DataFrame:
    """For each common key and judge of x what comes of its votes meeting each of y."""
    votes_x, votes_y = same_ids(check(votes_x, "votes"), check(votes_y, "votes"))
    met = _meet(_sum(_verdicts(votes_x), [*KEY, "judge"]), _sum(_verdicts(votes_y), KEY))
    if met.empty and len(votes_x) and len(votes_y):
        raise never_meet("The judges' and the others' votes share no key", votes_x, votes_y)
    return met


def _between(
    votes_x: pd.DataFrame, votes_y: pd.DataFrame, distinct: bool, key: list[str]
) -> pd.DataFrame:
    """For each common key (and judge of x, where `key` has it) each vote of x meets each of y."""
    votes_x, votes_y = same_ids(check(votes_x, "votes"), check(votes_y, "votes"))
    x, y = _verdicts(votes_x), _verdicts(votes_y)
    met = _meet(_sum(x, key), _sum(y, KEY))
    if met.empty and len(x) and len(y):
        what = f"The {len(x)} and the {len(y)} votes share no question, turn and pair of models"
        raise never_meet(what, votes_x, votes_y)
    if distinct:
        x, y = (_sum(rows[_named(rows)], [*KEY, "judge"]) for rows in (x, y))
        same = _sum(_meet(x, y), key)
        met = met - same.reindex(met.index, fill_value=0)
    return met


def _within(votes: pd.DataFrame, distinct: bool, key: list[str]) -> pd.DataFrame:
    """For each key what comes of each unordered pair of its votes."""
    x = _verdicts(votes)
    everyone = _sum(x, key)
    same = x
    if distinct:  # two votes without a judge are of two voters
        same = pd.concat([_sum(x[_named(x)], [*KEY, "judge"]), x[~_named(x)]])
    # All ordered pairs, less each vote's (or judge's) with itself, are each unordered pair twice; a
    # tie and another vote are then a half of tie_x and a half of tie_y, for either may be called x.
    return (_products(everyone, everyone) - _sum(_products(same, same), key)) / 2


def _named(counts: pd.DataFrame) -> np.ndarray:
    """Return which rows have a judge in their index."""
    return counts.index.get_level_values("judge").notna()


def _verdicts(votes: pd.DataFrame) -> pd.DataFrame:
    """A row per vote, indexed by its key and judge: 1 in the column of its verdict, else 0."""
    oriented = by_name(on_questions(check(votes, "votes"))[[*KEY, "judge", "winner"]])
    one = {winner: oriented["winner"] == winner for winner in WINNERS}
    made = pd.DataFrame({**one, "missing": oriented["winner"].isna()}).astype("int64")
    made.index = pd.MultiIndex.from_frame(oriented[[*KEY, "judge"]])
    return made


def _sum(counts: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    return counts.groupby(level=key, dropna=False, sort=True).sum()


def _meet(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """Return what comes of each row of x meeting y under its key; x may have a judge beside it."""
    at = y.index.get_indexer(x.index.droplevel([*range(y.index.nlevels, x.index.nlevels)]))
    x, theirs = x[at >= 0], y.iloc[at[at >= 0]]
    theirs.index = x.index
    return _products(x, theirs)


def _products(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """What comes of each vote counted in a row of x meeting each of the same row of y."""
    a, b, tie = WINNERS
    sides_x, sides_y = x[a] + x[b], y[a] + y[b]
    all_x, all_y = sides_x + x[tie], sides_y + y[tie]
    on_sides = x[a] * y[a] + x[b] * y[b]
    return pd.DataFrame(
        {
            "met_s1": all_x * all_y,
            "met_s2": sides_x * sides_y,
            "agreed_s1": on_sides + x[tie] * y[tie],
            "agreed_s2": on_sides,
            "tie_x": x[tie] * all_y,
            "tie_y": all_x * y[tie],
            "missed": (all_x + x["missing"]) * (all_y + y["missing"]) - all_x * all_y,
        }
    )
