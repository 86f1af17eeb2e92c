"""Agreement of judges: with each other, beyond chance, and with gold labels."""

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
    check_choice,
    grouped,
    how_many,
    on_questions,
    own_columns,
    totals,
)
from lmjudge.stats.intervals import (
    ENDS,
    FEW_CLUSTERS,
    FEW_ROWS,
    Cluster,
    by_question,
    cluster_names,
    crossed,
    estimate,
    groups,
    noted,
    people_of,
    share_interval,
    skewed,
    voters_repeat,
    ways,
)

KEY = ["question_id", "turn", "model_a", "model_b"]
SETTINGS: dict[str, Literal["keep", "drop"]] = {"S1": "keep", "S2": "drop"}
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
    """Return how often two groups of votes agree, or the votes of one group with each other.

    Votes are compared on one key: question, turn and unordered pair of models, whichever side each
    was shown on. Between two groups, every vote of one meets every vote of the other. Within one,
    every unordered pair of votes meets once, also two of one judge, as in FastChat's
    compute_agreement; `distinct` leaves out comparisons of a judge with itself.

    - `ties`: "keep" is the papers' S1, in which a tie agrees only with a tie. "drop" is S2, which
      leaves out comparisons with a tie.
    - `pool`: "votes" pools all comparisons (the released script), "questions" takes the mean over
      questions (the paper's words: a randomly selected question), "keys" the mean over keys.
    - `by` can name question_id, turn, model_a, model_b (the pair, in the order of the names),
      "category" (with `questions`), and any other column of `votes_x`. Each of its values is
      estimated as if it were alone. Votes without a judge are unnamed voters: each counts as a
      voter of its own, and by="judge" gives them one row together.
    - `cluster` names one column that comparisons are clustered by, or two that cross. The default
      is the question, crossed with the voters where people are named and vote on several questions.
      A comparison belongs to both its voters (a dyadic-robust variance). Language models (group
      "llm") are fixed. Where voters are unnamed, intervals do not cover other voters, and
      `attrs["not_covered"]` says so.

    | column | unit | meaning |
    |---|---|---|
    | agreement | share | comparisons that agree |
    | agreed | count | the same |
    | ties | count | comparisons with a tie in either vote |
    | tie_rate_x, tie_rate_y | share | comparisons with a tie in the vote of x, or of y |
    | random_uniform | share | what two judges who guess would reach |
    | random_marginal | share | what two who guess with these tie rates would reach, sides even |
    | too_few | | fewer than 20 questions, or five effective comparisons on the rarer side |
    | n | count | comparisons |
    | low, high | share | interval of agreement |
    | no_verdict | count | comparisons with a missing verdict; left out |

    The columns of `by` come first. Raises FrameError for votes without a question_id, for a model
    against itself, and for two groups without a common key. Source: arXiv 2306.05685, section 4.1
    and Table 5.

    >>> from lmjudge.frames import frame
    >>> votes = frame("votes", [
    ...     {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "judge": judge,
    ...      "group": "expert", "winner": winner, "reason": None, "time": None}
    ...     for judge, winner in [("x", "model_a"), ("y", "model_a"), ("z", "model_b")]])
    >>> agreement(votes)[["agreed", "n"]]
       agreed  n
    0       1  3
    """
    check_choice("ties", ties, "keep", "drop")
    check_choice("pool", pool, "votes", "questions", "keys")
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
    estimates = estimate(
        rows,
        columns,
        **_weighed(rows, agreed, bottom, unit),
        share=True,
        by_way=ways(rows, names),
        level=level,
    )
    tie = sums[["tie_x", "tie_y"]].div(sums["met_s1"].where(sums["met_s1"] > 0), axis=0)
    marginal = tie["tie_x"] * tie["tie_y"] + (1 - tie["tie_x"]) * (1 - tie["tie_y"]) / 2
    table = estimates[columns].assign(
        agreement=estimates["value"],
        agreed=sums[agreed].round().astype(int),
        ties=(sums["met_s1"] - sums["met_s2"]).astype(int),
        tie_rate_x=tie["tie_x"],
        tie_rate_y=tie["tie_y"],
        random_uniform=1 / 2 if ties == "drop" else 1 / 3,
        random_marginal=1 / 2 if ties == "drop" else marginal,
        too_few=estimates["too_few"],
        n=sums[bottom].astype(int),
        low=estimates["low"],
        high=estimates["high"],
        no_verdict=sums["missed"].astype(int),
    )
    return noted(table, *frames)


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
    """Return how often every two kinds of judges agree, with ties (S1) and without (S2).

    `voters` are votes frames by the name of their kind. `within` names the kinds whose votes are
    also compared with each other. Columns: x, y (in the order given), setting ("S1" or "S2"), and
    those of `agreement`, which also has the other arguments and errors. Source: arXiv 2306.05685,
    Tables 5 and 6.

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
    tables = []
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
            tables.append(part)
    return pd.concat(tables, ignore_index=True)


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
    """Return how often two groups agree on each pair of models, by how far apart the models are.

    The gap comes from `votes_y` (the humans'): the share of their votes on the pair that one model
    won, less the share that the other won; with ties="drop", of those with a winner. The paper does
    not print how it took the gap. Columns: model_a, model_b, those of `by` (turn, category), gap
    (not negative), gap_n (votes), and those of `agreement`, in the order of the gaps. Raises
    FrameError as `agreement` does. Source: arXiv 2306.05685, Figure 2.
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
    table = met.merge(gaps, on=columns, how="left").sort_values("gap", ignore_index=True)
    ends = [name for name in met.columns if name not in columns]
    return table[[*columns, "gap", "gap_n", *ends]]


def clusters_of_pairs(
    frames: Sequence[pd.DataFrame], cluster: Cluster, *, by_judge: bool = False
) -> list[str]:
    """Return the names of the clusters of pairs of votes: by default those of any of the frames.

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
    """Return each vote of x with each of y on its key, or of x alone each unordered pair.

    There is a row per key and per value of `alone`, further columns of x whose values are compared
    only with themselves. If `names`, the clusters, contain "judge", there is a row per two judges
    too, judge_x and judge_y. voter_x and voter_y are those of them that are people, or all if
    `random`. Raises FrameError for two groups without a common key, and for a cluster that varies
    within a question.
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
    """Return the arguments for `estimate`: comparisons count alike, or each unit's as one."""
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
    """Compare each vote of x with each of y on every common key (and the columns in `key`)."""
    met = _meet(_sum(x, key), _sum(y, KEY))
    if distinct:
        named = [*KEY, "judge"]
        more = [name for name in key if name not in named]
        same = _meet(_sum(x[_named(x)], [*named, *more]), _sum(y[_named(y)], named))
        met = met - _sum(same, key).reindex(met.index, fill_value=0)
    return met


def _within(x: pd.DataFrame, distinct: bool, key: list[str]) -> pd.DataFrame:
    """Compare every two votes on each key."""
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
    """Return the agreement of every two voters on a key: one of x and one of y, or both of x."""
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
    pairs = _products(*met)
    if y is not None and distinct:
        pairs = pairs.mask(both["judge_x"] == both["judge_y"], 0)
    if y is None:  # either may be called x
        half = (pairs["tie_x"] + pairs["tie_y"]) / 2
        pairs = pairs.assign(tie_x=half, tie_y=half)
    return pd.concat([both.drop(columns=["place_x", "place_y"]), pairs], axis=1)


def _own(alone: pd.DataFrame, key: list[str], distinct: bool) -> pd.DataFrame:
    """Return the comparisons of every two votes of one voter on a key.

    With `distinct`, of unnamed voters only.
    """
    if distinct:
        alone = alone[~_named(alone)]
    together = _sum(alone, key)
    pairs = (_products(together, together) - _sum(_products(alone, alone), key)) / 2
    pairs = pairs[(pairs != 0).any(axis=1)].reset_index()
    return pairs.rename(columns={"judge": "judge_x"}).assign(judge_y=pairs["judge"])


def _verdicts(votes: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Return a row for each vote by key, judge and `more`, with 1 in the column of its verdict."""
    oriented = by_name(on_questions(votes)[[*KEY, "judge", *more, "winner"]])
    indicators = {winner: oriented["winner"] == winner for winner in WINNERS}
    counts = pd.DataFrame({**indicators, "missing": oriented["winner"].isna()}).astype("int64")
    counts.index = pd.MultiIndex.from_frame(oriented[[*KEY, "judge", *more]])
    return counts


def label_counts(votes: pd.DataFrame, labels: Sequence[str], key: list[str]) -> pd.DataFrame:
    """Return how many votes each key has for each label; keys without any are there, with zeros."""
    more = [name for name in key if name not in (*KEY, "judge")]
    return _sum(_verdicts(votes, more), key)[list(labels)]


def _sum(counts: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    return counts.groupby(level=key, dropna=False, sort=True).sum()


def _meet(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons of each row of x with the rows of y on its key."""
    at = y.index.get_indexer(x.index.droplevel([*range(y.index.nlevels, x.index.nlevels)]))
    x, theirs = x[at >= 0], y.iloc[at[at >= 0]]
    theirs.index = x.index
    return _products(x, theirs)


def _products(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons of each vote counted in a row of x with each in the same row of y."""
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


def gold_accuracy(
    games: pd.DataFrame, gold: pd.DataFrame, *, by: By = None, level: float = 0.95
) -> pd.DataFrame:
    """Return how often each judge finds the better answer, in one order and in both.

    `games` are in both orders, or one. `gold` are votes with the label of each pair; labels that
    are a tie or missing do not count. `by` names columns of `gold` or of `games`, such as `source`.

    | column | unit | meaning |
    |---|---|---|
    | accuracy | share | pairs with two right verdicts; in one order, right verdicts |
    | single | share | right verdicts, each game by itself |
    | net | share | pairs with more right than wrong verdicts: a tie and a right one is right |
    | wrong | share | pairs whose two verdicts name the worse answer: consistent, and wrong |
    | lucky | share | pairs with one right verdict and one other |

    Two judges can have the same `single`: a consistent one has the same `accuracy`, a lucky one
    loses half of `lucky`. A coin has single 1/2 and accuracy 1/4. Columns: judge, those of `by`,
    accuracy, single, net, wrong, lucky, too_few, n (pairs), low, high (of accuracy, clustered by
    question), no_verdict (pairs with a missing verdict). Raises FrameError for two labels of one
    pair that differ, and if games and labels share no pair.
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
    estimates = estimate(table, ["judge", *columns], top=table["accuracy"], share=True, level=level)
    means = table.groupby(["judge", *columns], dropna=False)[list(shares)].mean().reset_index()
    estimates = estimates.merge(means, on=["judge", *columns])
    return estimates[["judge", *columns, *shares, *ENDS]]


Coefficient = Literal["cohen", "fleiss", "ac1", "alpha"]


@by_criterion
def kappa(
    votes_x: pd.DataFrame,
    votes_y: pd.DataFrame | None = None,
    *,
    coefficient: Coefficient | None = None,
    by: By = None,
    ties: Literal["keep", "drop"] = "keep",
    sides: Literal["even", "named"] = "even",
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return agreement beyond chance: (observed - expected) / (1 - expected).

    | coefficient | votes |
    |---|---|
    | "cohen" | two frames with one vote a key each; the default for two |
    | "fleiss" | any number a key, after Gwet 2014 if it varies; the default for one frame |
    | "ac1" | Gwet's; one frame, or two as one |
    | "alpha" | Krippendorff's, nominal; keys with one vote do not count |

    With ties="drop", votes for a tie count as missing. Which model of a pair is first has no
    meaning, so sides="even" takes the chance of both sides to be the same. sides="named" uses the
    votes after each pair is put in the order of its names, as tables of labels are usually read.

    Columns: those of `by` (as in `agreement`), coefficient, kappa, observed, expected, tie_rate,
    votes (readable, on keys that count), too_few, n (keys with two votes or more), low, high,
    no_verdict (votes without a verdict). kappa is missing if chance alone would always agree.
    too_few is True with fewer than 20 questions, or than five effective keys on the rarer side. If
    chance agrees more often than not, it is also True with fewer than ten keys on which chance
    disagrees, or too few for how unevenly they pull.

    Intervals come from the jackknife over questions, crossed with that over voters where people are
    named and vote on several questions (`cluster`, as in `agreement`). They have Wilson's form on
    the scale of the observed agreement, at the expected agreement that was estimated. Raises
    FrameError for votes without a question_id and, for Cohen's, for a key with two votes in one
    frame. Source: Cohen 1960; Fleiss 1971; Gwet 2008 and 2014; Krippendorff 2004, chapter 11.

    >>> from lmjudge.frames import frame
    >>> votes = frame("votes", [
    ...     {"question_id": q, "turn": 1, "model_a": "m", "model_b": "n", "judge": judge,
    ...      "group": "expert", "winner": winner, "reason": None, "time": None}
    ...     for q, two in enumerate(["aa", "ab", "bb"]) for judge, side in zip("xy", two)
    ...     for winner in ["model_" + side]])
    >>> kappa(votes)[["coefficient", "observed", "expected", "n"]].values.tolist()
    [['fleiss', 0.6666666666666666, 0.5, 3]]
    """
    of = coefficient or ("fleiss" if votes_y is None else "cohen")
    check_choice("coefficient", of, "cohen", "fleiss", "ac1", "alpha")
    check_choice("ties", ties, "keep", "drop")
    check_choice("sides", sides, "even", "named")
    if of == "cohen" and votes_y is None:
        raise ValueError("Cohen's kappa is between two judges; give the second one's votes too")
    labels = WINNERS if ties == "keep" else WINNERS[:2]
    alone = own_columns(votes_x, by, questions, KEY)
    key = [*KEY, *alone]
    frames = [votes_x] if votes_y is None else [votes_x, votes_y]
    names = clusters_of_pairs(frames, cluster, by_judge="judge" in alone)
    frames = _in_parts(frames, alone)
    counts = [label_counts(votes, labels, key) for votes in frames]
    if of == "cohen":
        parts = _cohen(*counts)
        if all(map(len, counts)) and not counts[0].index.isin(counts[1].index).any():
            what = "The two judges' votes share no question, turn and pair of models"
            raise never_meet(what, *frames)
    else:
        merged = pd.concat(counts).groupby(level=key, dropna=False, sort=True).sum()
        parts = _many(merged, len(labels), of)
    rows, columns = grouped(parts.index.to_frame(index=False), by, questions)
    keys, group = groups(rows, columns)
    count = len(keys)
    for name in set(names) - {*rows.columns, "judge"}:
        rows[name] = rows["question_id"].map(by_question(frames[0], name))
    table = parts.to_numpy(float)
    total = np.column_stack([np.bincount(group, column, count) for column in table.T])
    entries = [(group, table, ways(rows, names[0])[0])]
    if len(names) == 2:
        cast = frames[1:] if "judge" in alone else frames
        at, voter, part = _by_voter(cast, counts, labels, of, parts, random=cluster is not None)
        if names[1] != "judge":
            at, voter, part = np.arange(len(rows)), ways(rows, names[1])[0], table
        both = crossed(entries[0][2][at], voter)
        entries += [(group[at], part, voter), (group[at], part, both)]
    with np.errstate(invalid="ignore", divide="ignore"):
        observed, expected = _two(total, of, len(labels), sides)
        value = 1 - (1 - observed) / (1 - expected)
        jackknives: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        for owner_of, part, code in entries:
            cells, cell = np.unique(
                owner_of * (int(code.max(initial=0)) + 1) + code, return_inverse=True
            )
            owner = cells // (int(code.max(initial=0)) + 1)
            apart = np.column_stack([np.bincount(cell, column, len(cells)) for column in part.T])
            clusters = np.bincount(owner, minlength=count)
            less_o, less_e = _two(total[owner] - apart, of, len(labels), sides)
            moved = (1 - less_o) / (1 - less_e) - (1 - value)[owner]
            lost = ~np.isfinite(moved)  # without this one nothing is left to estimate from
            # Leaving out a share h of the comparisons moves the value by 1 / (1 - h) too much: h is
            # 1 / C of C clusters alike, and twice the share of the votes that a voter has.
            rest = ((clusters - 1) / clusters)[owner]
            if jackknives:
                sides_of = 1 if of == "cohen" else 2
                rest = np.clip(1 - sides_of * apart[:, -2] / total[owner, -2], 0, 1)
            spread = np.bincount(owner, np.where(lost, 0, moved**2 * rest), count)
            spread = np.where(np.bincount(owner, lost, count) > 0, np.nan, spread)
            jackknives.append((spread, clusters, owner, np.where(lost, 0, moved)))
        variance, clusters = jackknives[0][:2]
        if len(jackknives) == 3:
            one, two, cross = (spread for spread, *_ in jackknives)
            # A pair of votes is in both its voters' part, so that theirs alone is no lower bound.
            variance = np.maximum(one + two - cross, np.maximum(one, two) if of == "cohen" else one)
            clusters = np.minimum(clusters, jackknives[1][1])
        off = 1 - expected
        scaled = np.where(variance < 1e-24, 0, variance * off**2)
        low, high = share_interval(observed, scaled, clusters, clusters - 1.0, level=level)
        rarer = np.minimum(observed, 1 - observed)
        few = ~(rarer * observed * (1 - observed) / scaled >= FEW_ROWS)
        # Where chance agrees oftener than not, what it disagrees on is rare, and known poorly.
        rare = ~(total[:, -1] * off / 2 >= 10) | skewed(jackknives[0][2], jackknives[0][3], count)
        few |= (~(off >= 0.5 - 1e-9) & rare) | (clusters < FEW_CLUSTERS)
        known = np.isfinite(value) & ~np.isnan(scaled)
        low, high = (np.where(known, 1 - (1 - end) / off, np.nan) for end in (low, high))
    unread = pd.concat([by_name(votes)[lambda rows: rows["winner"].isna()] for votes in frames])
    result = keys.assign(
        coefficient=of,
        kappa=value,
        observed=observed,
        expected=expected,
        tie_rate=total[:, -3] / np.where(total[:, -2] > 0, total[:, -2], np.nan),
        votes=total[:, -2].astype(int),
        too_few=few,
        n=total[:, -1].astype(int),
        low=low,
        high=high,
        no_verdict=how_many(grouped(unread, by, questions)[0], columns, keys),
    )
    return noted(result, votes_x if votes_y is None else votes_y)


def _in_parts(frames: list[pd.DataFrame], alone: list[str]) -> list[pd.DataFrame]:
    """Return the votes with their voters, y's once for each part of x that `alone` makes.

    Each judge of x is compared with all votes of y, each other part with those on its questions.
    """
    x, *rest = same_ids(check(frames[0], "votes", alone), *(check(y, "votes") for y in frames[1:]))
    x = x.assign(voter=x["judge"])
    if not rest:
        return [x]
    y = rest[0].assign(voter=rest[0]["judge"])
    if alone:
        y = y.drop(columns=alone, errors="ignore").merge(x[alone].drop_duplicates(), how="cross")
        of_question = ["question_id", *(name for name in alone if name != "judge")]
        y = y.merge(x[of_question].drop_duplicates()) if len(of_question) > 1 else y
    return [x, y]


def _by_voter(
    frames: list[pd.DataFrame],
    counts: list[pd.DataFrame],
    labels: tuple[str, ...],
    of: Coefficient,
    parts: pd.DataFrame,
    *,
    random: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what each voter adds to each key: place in `parts`, the voter's number, sums."""
    key = list(parts.index.names)
    votes = pd.concat(frames, ignore_index=True)
    votes = votes[random | people_of(votes.assign(judge=votes["voter"]))]
    cast = label_counts(votes, labels, [*key, "voter"])
    cast = cast[cast.sum(axis=1) > 0]
    at = parts.index.get_indexer(cast.index.droplevel("voter"))
    cast, at = cast[at >= 0], at[at >= 0]
    voter = pd.factorize(cast.index.get_level_values("voter"))[0]
    if of == "cohen":  # without one of its two votes a key says nothing
        return at, voter, parts.to_numpy(float)[at]
    every = pd.concat(counts).groupby(level=key, dropna=False, sort=True).sum()
    left = every.loc[parts.index].iloc[at].reset_index(drop=True)
    left = left - cast.to_numpy()
    rest = _many(left, len(labels), of).reindex(left.index, fill_value=0)
    return at, voter, parts.to_numpy(float)[at] - rest.to_numpy(float)


def _cohen(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """Return what each key adds to Cohen's kappa: agreements, margins; ties, votes and keys."""
    for counts in (x, y):
        twice = counts[counts.sum(axis=1) > 1]
        if len(twice):
            raise FrameError(
                f"{len(twice)} keys have several votes in one frame, such as {twice.index[0]};"
                " Cohen's kappa is between two judges with one vote each: choose one judge, take"
                " `majority`, or another coefficient",
                rows=twice,
            )
    common = x.index.intersection(y.index)
    x, y = x.loc[common], y.loc[common]
    both = (x.sum(axis=1) == 1) & (y.sum(axis=1) == 1)
    x, y = x[both], y[both]
    sums = pd.DataFrame({"agreed": (x * y).sum(axis=1)}, index=x.index)
    sums = sums.join(x.add_prefix("x_")).join(y.add_prefix("y_"))
    tie = (x["tie"] + y["tie"]) if "tie" in x else 0
    return sums.assign(ties=tie, votes=2, keys=1)


def _many(counts: pd.DataFrame, labels: int, of: Coefficient) -> pd.DataFrame:
    """Return what each key adds for many raters: agreements, margin, weight; ties, votes, keys."""
    votes = counts.sum(axis=1)
    if of == "alpha":
        counts, votes = counts[votes > 1], votes[votes > 1]
    else:
        counts, votes = counts[votes > 0], votes[votes > 0]
    several = votes > 1
    pairs = (counts * (counts - 1)).sum(axis=1)
    apart = votes - 1 if of == "alpha" else votes * (votes - 1)
    sums = pd.DataFrame({"agreed": (pairs / apart.where(several, 1)).where(several, 0.0)})
    margin = counts if of == "alpha" else counts.div(votes, axis=0)
    sums = sums.join(margin.add_prefix("m_")).assign(weight=votes if of == "alpha" else 1)
    tie = counts.get("tie", 0)
    return sums.assign(ties=tie, votes=votes, keys=several.astype(int))


def _two(
    total: np.ndarray, of: Coefficient, labels: int, sides: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the observed and the expected agreement from sums over keys."""

    def margin(start: int) -> np.ndarray:
        part = total[:, start : start + labels].copy()
        if sides == "even":
            part[:, :2] = part[:, :2].mean(axis=1, keepdims=True)
        return part

    keys = total[:, -1]
    if of == "cohen":
        x, y = margin(1), margin(1 + labels)
        return total[:, 0] / keys, (x * y).sum(axis=1) / keys**2
    counts, weight = margin(1), total[:, 1 + labels]
    if of == "alpha":
        return total[:, 0] / weight, (counts * (counts - 1)).sum(axis=1) / (weight * (weight - 1))
    share = counts / weight[:, None]
    if of == "ac1":
        return total[:, 0] / keys, (share * (1 - share)).sum(axis=1) / (labels - 1)
    return total[:, 0] / keys, (share**2).sum(axis=1)
