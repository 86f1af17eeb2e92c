"""Agreement beyond chance: Cohen's and Fleiss' kappa, Gwet's AC1, Krippendorff's alpha."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import WINNERS, check, never_meet, same_ids
from lmjudge.stats.agreement import KEY, clusters_of_pairs
from lmjudge.stats.grouping import (
    By,
    by_criterion,
    by_name,
    grouped,
    how_many,
    on_questions,
    own_columns,
)
from lmjudge.stats.intervals import (
    FEW_CLUSTERS,
    Cluster,
    by_question,
    crossed,
    groups,
    noted,
    people_of,
    share_interval,
    skewed,
    ways,
)

Coefficient = Literal["cohen", "fleiss", "ac1", "alpha"]
_NAMES = ("cohen", "fleiss", "ac1", "alpha")


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
    """How far votes agree beyond chance: (observed - expected) / (1 - expected).

    `coefficient`: "cohen" (two frames, one vote a key in each: the default for two), "fleiss" (any
    number of votes a key, after Gwet 2014 where keys differ in it: the default for one frame),
    "ac1" (Gwet's) or "alpha" (Krippendorff's, nominal; keys with one vote don't count). The last
    three take one frame, or two as one. With ties="drop" votes for a tie count as missing.

    `sides`: which model is a pair's first carries no meaning, so "even" takes the chance of either
    side to be the same, whatever the models are called; "named" takes the votes as they are after
    each pair is put in the order of its names, as tables of labels are usually read.

    Columns: those of `by`, coefficient, kappa, observed, expected, tie_rate, votes (readable, on
    keys that count), too_few (fewer than ten effective keys on the rarer side or than 20 questions;
    where chance agrees oftener than not also fewer than ten keys on which chance disagrees, or too
    few for how unevenly they pull), n (keys with two votes or more), low, high, no_verdict (votes
    without a verdict). Intervals are from the
    jackknife over questions, crossed with that over voters where people are named and vote on
    several questions (`cluster`, as in `agreement`), in Wilson's form on the scale of the observed
    agreement, at the expected agreement that was found. kappa is missing where chance alone would
    agree always. `by` may name what it may in `agreement`: any column of `votes_x`, such as judge,
    its votes with each value as if they were given alone. Raises FrameError for votes without a
    question_id, and, for Cohen's, for a key with two votes in one frame.

    Source: Cohen 1960; Fleiss 1971; Gwet 2008 and 2014; Krippendorff 2004, chapter 11.

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
    if of not in _NAMES or ties not in ("keep", "drop") or sides not in ("even", "named"):
        raise ValueError(
            f"coefficient is {coefficient!r}, ties {ties!r} and sides {sides!r}; expected"
            f" coefficient {', '.join(map(repr, _NAMES))}, ties 'keep' or 'drop', sides 'even' or"
            " 'named'"
        )
    if of == "cohen" and votes_y is None:
        raise ValueError("Cohen's kappa is between two judges; give the second one's votes too")
    labels = WINNERS if ties == "keep" else WINNERS[:2]
    alone = own_columns(votes_x, by, questions, KEY)
    key = [*KEY, *alone]
    frames = [votes_x] if votes_y is None else [votes_x, votes_y]
    names = clusters_of_pairs(frames, cluster, by_judge="judge" in alone)
    frames = _in_parts(frames, alone)
    counts = [_counts(votes, labels, key) for votes in frames]
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
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
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
            if found:
                sides_of = 1 if of == "cohen" else 2
                rest = np.clip(1 - sides_of * apart[:, -2] / total[owner, -2], 0, 1)
            spread = np.bincount(owner, np.where(lost, 0, moved**2 * rest), count)
            spread = np.where(np.bincount(owner, lost, count) > 0, np.nan, spread)
            found.append((spread, clusters, owner, np.where(lost, 0, moved)))
        variance, clusters = found[0][:2]
        if len(found) == 3:
            one, two, cross = (spread for spread, *_ in found)
            # A pair of votes is in both its voters' part, so that theirs alone is no lower bound.
            variance = np.maximum(one + two - cross, np.maximum(one, two) if of == "cohen" else one)
            clusters = np.minimum(clusters, found[1][1])
        off = 1 - expected
        scaled = np.where(variance < 1e-24, 0, variance * off**2)
        low, high = share_interval(observed, scaled, clusters, clusters - 1.0, level=level)
        rarer = np.minimum(observed, 1 - observed)
        few = ~(rarer * observed * (1 - observed) / scaled >= 10)
        # Where chance agrees oftener than not, what it disagrees on is rare, and known poorly.
        rare = ~(total[:, -1] * off / 2 >= 10) | skewed(found[0][2], found[0][3], count)
        few |= (~(off >= 0.5 - 1e-9) & rare) | (clusters < FEW_CLUSTERS)
        known = np.isfinite(value) & ~np.isnan(scaled)
        low, high = (np.where(known, 1 - (1 - end) / off, np.nan) for end in (low, high))
    unread = pd.concat([by_name(votes)[lambda rows: rows["winner"].isna()] for votes in frames])
    made = keys.assign(
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
    return noted(made, votes_x if votes_y is None else votes_y)


def _in_parts(frames: list[pd.DataFrame], alone: list[str]) -> list[pd.DataFrame]:
    """The votes, who cast each in `voter`, and y's once for each part of x that `alone` makes.

    Each judge of x meets all votes of y, each other part those on its questions.
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
    """What each voter adds to each key: the key's place in `parts`, the voter's code, the parts."""
    key = list(parts.index.names)
    votes = pd.concat(frames, ignore_index=True)
    votes = votes[random | people_of(votes.assign(judge=votes["voter"]))]
    cast = _counts(votes, labels, [*key, "voter"])
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


def _counts(votes: pd.DataFrame, labels: tuple[str, ...], key: list[str]) -> pd.DataFrame:
    """How many votes each key has for each label."""
    oriented = by_name(on_questions(votes))
    one = pd.DataFrame({label: oriented["winner"] == label for label in labels}).astype("int64")
    one.index = pd.MultiIndex.from_frame(oriented[key])
    return one.groupby(level=key, dropna=False, sort=True).sum()


def _cohen(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """What each key adds: agreed, both margins; then ties, votes and keys."""
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
    made = pd.DataFrame({"agreed": (x * y).sum(axis=1)}, index=x.index)
    made = made.join(x.add_prefix("x_")).join(y.add_prefix("y_"))
    tie = (x["tie"] + y["tie"]) if "tie" in x else 0
    return made.assign(ties=tie, votes=2, keys=1)


def _many(counts: pd.DataFrame, labels: int, of: Coefficient) -> pd.DataFrame:
    """What each key adds: agreed, the margin and its weight; then ties, votes and keys."""
    votes = counts.sum(axis=1)
    if of == "alpha":
        counts, votes = counts[votes > 1], votes[votes > 1]
    else:
        counts, votes = counts[votes > 0], votes[votes > 0]
    several = votes > 1
    pairs = (counts * (counts - 1)).sum(axis=1)
    apart = votes - 1 if of == "alpha" else votes * (votes - 1)
    made = pd.DataFrame({"agreed": (pairs / apart.where(several, 1)).where(several, 0.0)})
    margin = counts if of == "alpha" else counts.div(votes, axis=0)
    made = made.join(margin.add_prefix("m_")).assign(weight=votes if of == "alpha" else 1)
    tie = counts.get("tie", 0)
    return made.assign(ties=tie, votes=votes, keys=several.astype(int))


def _two(
    total: np.ndarray, of: Coefficient, labels: int, sides: str
) -> tuple[np.ndarray, np.ndarray]:
    """The observed and the expected agreement that sums over keys amount to."""

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
