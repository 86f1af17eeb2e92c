"""How often judges agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import WINNERS, check, never_meet, same_ids
from lmjudge.stats.grouping import (
    By,
    by_criterion,
    by_name,
    grouped,
    on_questions,
    own_columns,
    totals,
)
from lmjudge.stats.intervals import (
    Cluster,
    by_question,
    cluster_names,
    estimate,
    noted,
    people_of,
    voters_repeat,
    ways,
)

KEY = ["question_id", "turn", "model_a", "model_b"]
SETTINGS: dict[str, Literal["keep", "drop"]] = {"S1": "keep", "S2": "drop"}
_COUNTS = [*WINNERS, "missing"]
# What comes of votes meeting votes: comparisons with ties and without, those that agree, those in
# which the one's or the other's vote is a tie, and those without a verdict.
COMPARED = ["met_s1", "met_s2", "agreed_s1", "agreed_s2", "tie_x", "tie_y", "missed"]


@by_criterion
def agreement(
    votes_x: pd.DataFrame,
    votes_y: pd.DataFrame | None = None,
    *,
    by: By = None,
    ties: Literal["keep", "drop"] = "keep",
    pool: Literal["votes", "questions", "keys"] = "votes",
    distinct: bool = False,
    cluster: Cluster = None,
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
    pair, in the order of the names), "category" (with `questions`), and any other column of
    `votes_x`, such as judge or language: its votes with each value as if they were given alone.
    Votes without a judge are of voters unnamed: each counts as its own voter, and by="judge" gives
    them one row together.

    `cluster` names what the comparisons are clustered by: one column, or two that cross. By default
    it is the question, crossed with the voters where people are named and vote on several
    questions; a comparison belongs to both its voters (a dyadic-robust variance). Judges that are
    language models (group "llm") are fixed. Where voters are unnamed, intervals say nothing of how
    other voters would differ, and `attrs["not_covered"]` says so.

    Columns: those of `by`, agreement, agreed (comparisons), ties (comparisons in which either vote
    is a tie), tie_rate_x, tie_rate_y (the share of comparisons in which the one's, or the other's,
    vote is a tie), random_uniform (what two judges who guess would reach), random_marginal (what
    two who guess with these tie rates would reach; which side is A carries no meaning, so sides are
    even), too_few (an interval to be careful with: fewer than 20 questions, or than ten effective
    comparisons on the rarer side), n (comparisons), low, high, no_verdict
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
    frames = [votes_x] if votes_y is None else [votes_x, votes_y]
    alone = own_columns(votes_x, by, questions, KEY)
    names = clusters_of_pairs(frames, cluster, by_judge="judge" in alone)
    met = comparisons(
        *frames, distinct=distinct, names=names, random=cluster is not None, alone=alone
    )
    rows, columns = grouped(met, by, questions)
    bottom, agreed = ("met_s2", "agreed_s2") if ties == "drop" else ("met_s1", "agreed_s1")
    sums = totals(rows, columns, COMPARED)
    unit = {"votes": None, "questions": [*columns, "question_id"], "keys": [*columns, *KEY]}[pool]
    made = estimate(
        rows,
        columns,
        **_weighed(rows, agreed, bottom, unit),
        share=True,
        by_way=ways(rows, names),
        level=level,
    )
    tie = sums[["tie_x", "tie_y"]].div(sums["met_s1"].where(sums["met_s1"] > 0), axis=0)
    marginal = tie["tie_x"] * tie["tie_y"] + (1 - tie["tie_x"]) * (1 - tie["tie_y"]) / 2
    found = made[columns].assign(
        agreement=made["value"],
        agreed=sums[agreed].round().astype(int),
        ties=(sums["met_s1"] - sums["met_s2"]).astype(int),
        tie_rate_x=tie["tie_x"],
        tie_rate_y=tie["tie_y"],
        random_uniform=1 / 2 if ties == "drop" else 1 / 3,
        random_marginal=1 / 2 if ties == "drop" else marginal,
        too_few=made["too_few"],
        n=sums[bottom].astype(int),
        low=made["low"],
        high=made["high"],
        no_verdict=sums["missed"].astype(int),
    )
    return noted(found, *frames)


def agreements(
    voters: Mapping[str, pd.DataFrame],
    *,
    within: Collection[str] = (),
    by: By = None,
    pool: Literal["votes", "questions", "keys"] = "votes",
    cluster: Cluster = None,
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
                voters[x],
                other,
                by=by,
                ties=ties,
                pool=pool,
                cluster=cluster,
                questions=questions,
                level=level,
            )
            part.insert(0, "x", x)
            part.insert(1, "y", y)
            part.insert(2, "setting", setting)
            made.append(part)
    return pd.concat(made, ignore_index=True)


@by_criterion
def agreement_by_gap(
    votes_x: pd.DataFrame,
    votes_y: pd.DataFrame,
    *,
    by: By = None,
    ties: Literal["keep", "drop"] = "drop",
    cluster: Cluster = None,
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
    met = agreement(
        votes_x,
        votes_y,
        by=columns,
        ties=ties,
        cluster=cluster,
        questions=questions,
        level=level,
    )
    rows = rows[rows["winner"].notna() & ~((ties == "drop") & (rows["winner"] == "tie"))]
    rows = rows.assign(gap=(rows["winner"] == "model_a") * 1.0 - (rows["winner"] == "model_b"))
    gaps = rows.groupby(columns, dropna=False)["gap"].agg(["mean", "size"]).reset_index()
    gaps = gaps.rename(columns={"mean": "gap", "size": "gap_n"}).assign(gap=gaps["mean"].abs())
    made = met.merge(gaps, on=columns, how="left").sort_values("gap", ignore_index=True)
    ends = [name for name in met.columns if name not in columns]
    return made[[*columns, "gap", "gap_n", *ends]]


def clusters_of_pairs(
    frames: Sequence[pd.DataFrame], cluster: Cluster, *, by_judge: bool = False
) -> list[str]:
    """The names of the clusters of pairs of votes: by default those of any of the frames.

    With `by_judge` each judge of the first frame is taken alone, and is no sample of voters.
    """
    if cluster is None:
        people = any(map(voters_repeat, frames[1:] if by_judge else frames))
        return ["question_id", *(["judge"] if people else [])]
    return cluster_names(frames[0], cluster)


def comparisons(
    votes_x: pd.DataFrame,
    votes_y: pd.DataFrame | None = None,
    *,
    distinct: bool = False,
    names: Sequence[str] = ("question_id",),
    random: bool = False,
    alone: Sequence[str] = (),
) -> pd.DataFrame:
    """Each vote of x with each of y on its key; of x alone each unordered pair of its votes.

    A row per key and values of `alone`, further columns of x: its votes with each are taken alone.
    Where `names`, the clusters, hold "judge", also per two judges, judge_x and judge_y: the voters
    voter_x and voter_y are those of them that are people, or, if `random`, all. Raises FrameError
    for two groups without a common key, and for a cluster that varies within a question.
    """
    by = ["criterion"] if "criterion" in alone else []
    frames = [check(votes_x, "votes", by)]
    frames += [] if votes_y is None else [check(votes_y, "votes")]
    frames = same_ids(*frames)
    by_judge = "judge" in alone
    by_voter = "judge" in names and (len(frames) == 2 or not by_judge)
    more = [name for name in alone if name != "judge"]
    x = _verdicts(frames[0], more)
    y = None if len(frames) == 1 else _verdicts(frames[1])
    if by_voter:
        met = _pairs_of_voters(
            _sum(x, [*KEY, "judge", *more]),
            None if y is None else _sum(y, [*KEY, "judge"]),
            distinct=distinct,
        )
        if y is None:
            met = pd.concat([met, _own(x, [*KEY, "judge", *more], distinct)], ignore_index=True)
        met = met.assign(judge=met["judge_x"])
    else:
        key = [*KEY, *alone]
        met = _within(x, distinct, key) if y is None else _between(x, y, distinct, key)
        met = met.reset_index()
    if met.empty and len(frames) == 2 and all(map(len, frames)):
        sizes = [len(rows) for rows in frames]
        what = f"The {sizes[0]} and the {sizes[1]} votes share no question, turn and pair of models"
        raise never_meet(what, *frames)
    if by_voter:
        people = {name for rows in frames for name in rows.loc[people_of(rows), "judge"].unique()}
        for side in "xy":
            judge = met[f"judge_{side}"]
            met[f"voter_{side}"] = judge if random else judge.where(judge.isin(people), None)
        if by_judge:  # each judge of x is taken alone
            met["voter_x"] = None
    for name in set(names) - {"judge", *met.columns}:
        met[name] = met["question_id"].map(by_question(frames[0], name))
    return met


def _weighed(
    rows: pd.DataFrame, agreed: str, met: str, unit: list[str] | None
) -> dict[str, pd.Series]:
    """What `estimate` takes: comparisons weigh alike, or those of each unit together as one."""
    top, bottom = rows[agreed].where(rows[met] > 0).astype(float), rows[met].astype(float)
    if unit is None:
        return {"top": top, "bottom": bottom, "squares": top}
    keys = [rows[name] for name in dict.fromkeys(unit)]
    of = bottom.groupby(keys, dropna=False).transform("sum")
    of = of.where(of > 0)
    share = top.groupby(keys, dropna=False).transform("sum") / of
    weight = bottom / of
    return {"top": top / of, "bottom": weight, "squares": weight * share**2}


def _between(x: pd.DataFrame, y: pd.DataFrame, distinct: bool, key: list[str]) -> pd.DataFrame:
    """For each common key (and further names in `key`, of x) each vote of x meets each of y."""
    met = _meet(_sum(x, key), _sum(y, KEY))
    if distinct:
        named = [*KEY, "judge"]
        more = [name for name in key if name not in named]
        same = _meet(_sum(x[_named(x)], [*named, *more]), _sum(y[_named(y)], named))
        met = met - _sum(same, key).reindex(met.index, fill_value=0)
    return met


def _within(x: pd.DataFrame, distinct: bool, key: list[str]) -> pd.DataFrame:
    """For each key what comes of each unordered pair of its votes."""
    everyone = _sum(x, key)
    same = x
    if distinct:  # two votes without a judge are of two voters
        same = pd.concat([_sum(x[_named(x)], list(x.index.names)), x[~_named(x)]])
    # All ordered pairs, less each vote's (or judge's) with itself, are each unordered pair twice; a
    # tie and another vote are then a half of tie_x and a half of tie_y, for either may be called x.
    return (_products(everyone, everyone) - _sum(_products(same, same), key)) / 2


def _named(counts: pd.DataFrame) -> np.ndarray:
    """Return which rows have a judge in their index."""
    return counts.index.get_level_values("judge").notna()


def _pairs_of_voters(
    x: pd.DataFrame, y: pd.DataFrame | None = None, *, distinct: bool = False
) -> pd.DataFrame:
    """What comes of the votes of each two voters on a key; of x alone each two of its voters."""
    sides = [x, x if y is None else y]
    places = [
        counts.index.to_frame(index=False)
        .rename(columns={"judge": f"judge_{side}"})
        .assign(**{f"place_{side}": range(len(counts))})
        for counts, side in zip(sides, "xy", strict=True)
    ]
    both = places[0].merge(places[1])  # on the key, and what else x is taken apart by
    if y is None:
        both = both[both["place_x"] < both["place_y"]]
    met = [
        counts.iloc[both[f"place_{side}"].to_numpy()].set_axis(both.index)
        for counts, side in zip(sides, "xy", strict=True)
    ]
    made = _products(*met)
    if y is not None and distinct:
        made = made.mask(both["judge_x"] == both["judge_y"], 0)
    if y is None:  # either may be called x
        half = (made["tie_x"] + made["tie_y"]) / 2
        made = made.assign(tie_x=half, tie_y=half)
    return pd.concat([both.drop(columns=["place_x", "place_y"]), made], axis=1)


def _own(alone: pd.DataFrame, key: list[str], distinct: bool) -> pd.DataFrame:
    """What comes of each two votes of one voter on a key; if `distinct`, of unnamed ones alone."""
    if distinct:
        alone = alone[~_named(alone)]
    together = _sum(alone, key)
    made = (_products(together, together) - _sum(_products(alone, alone), key)) / 2
    made = made[(made != 0).any(axis=1)].reset_index()
    return made.rename(columns={"judge": "judge_x"}).assign(judge_y=made["judge"])


def _verdicts(votes: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """A row per vote, by its key, judge and `more`: 1 in the column of its verdict, else 0."""
    oriented = by_name(on_questions(votes)[[*KEY, "judge", *more, "winner"]])
    one = {winner: oriented["winner"] == winner for winner in WINNERS}
    made = pd.DataFrame({**one, "missing": oriented["winner"].isna()}).astype("int64")
    made.index = pd.MultiIndex.from_frame(oriented[[*KEY, "judge", *more]])
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
