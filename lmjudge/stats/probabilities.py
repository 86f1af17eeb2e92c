"""Judges that give probabilities: calibration, scores of forecasts, and where they suffice.

A game has the probability that its model_a is better, in `preference` (see `weigh`) or
`probability`; a score has the probability of a pass, in `probability`. Games of both orders are put
in one order of the sides and averaged. People's verdict is their mean: 1, 1/2 for a tie, 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, never_meet, resolve, same_ids
from lmjudge.stats.grading import KEY as GRADED, labelled_passes
from lmjudge.stats.grouping import by_name, on_questions, worth_of
from lmjudge.stats.interrater import KEY, agreement
from lmjudge.stats.intervals import ENDS, estimate

NAMES = ("probability", "preference")


def calibration(
    judged: pd.DataFrame, people: pd.DataFrame, *, bins: int = 10, level: float = 0.95
) -> pd.DataFrame:
    """Compare probabilities with what people said, in bins: a row a judge and bin that has rows.

    `judged` are games or scores with probabilities, `people` votes, or scores of two values. Of
    games each pair counts once from each side, so that the curve does not depend on names. Columns:
    judge, bin (the middle), predicted (mean probability), observed (what people said), too_few, n
    (pairs or answers), low, high (of observed, clustered by question), no_verdict (rows without a
    probability). A calibrated judge has predicted = observed.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; expected one or more")
    rows = forecasts(judged, people)
    lost = rows["probability"].isna().groupby(rows["judge"]).sum()
    rows = rows[rows["probability"].notna()]
    if "model_a" in rows.columns:
        turned = rows.assign(probability=1 - rows["probability"], people=1 - rows["people"])
        rows = pd.concat([rows, turned], ignore_index=True)
    at = np.minimum((rows["probability"] * bins).astype(int), bins - 1)
    rows = rows.assign(bin=((at + 0.5) / bins).round(6))
    keys = ["judge", "bin"]
    table = estimate(rows, keys, top=rows["people"], share=True, level=level, name="observed")
    table["no_verdict"] = table["judge"].map(lost).astype(int)
    table = table.merge(rows.groupby(keys)["probability"].mean().rename("predicted"), on=keys)
    return table[[*keys, "predicted", "observed", *ENDS]]


def brier_scores(
    judged: pd.DataFrame, people: pd.DataFrame, *, level: float = 0.95
) -> pd.DataFrame:
    """Return each judge's mean squared error of its probabilities: 0 is perfect, 1/4 a coin's.

    Columns: judge, brier, guessing (the score of one constant guess: a half between two models, the
    labels' own share for passes), skill (1 - brier / guessing), too_few, n, low, high (of brier,
    clustered by question), no_verdict. Source: Brier 1950.
    """
    rows = forecasts(judged, people)
    squared = (rows["probability"] - rows["people"]) ** 2
    table = estimate(rows, ["judge"], top=squared, level=level, name="brier")
    known = rows[rows["probability"].notna()]
    pairs = "model_a" in rows.columns
    guess = 0.5 if pairs else known.groupby("judge")["people"].transform("mean")
    guessing = ((known["people"] - guess) ** 2).groupby(known["judge"]).mean()
    table["guessing"] = table["judge"].map(guessing)
    table["skill"] = 1 - table["brier"] / table["guessing"].where(table["guessing"] > 0)
    return table[["judge", "brier", "guessing", "skill", *ENDS]]


def cascade(
    games: pd.DataFrame,
    people: pd.DataFrame,
    *,
    cheap: str,
    dear: str,
    prices: Mapping[str, float] | None = None,
    steps: int = 10,
    level: float = 0.95,
) -> pd.DataFrame:
    """Let a cheap judge decide where it is sure and a dear one the rest: agreement against cost.

    How sure the cheap judge is of a pair is how far its probability is from a half, averaged over
    the orders; without probabilities it is sure where both orders name the same winner. Only pairs
    that both judged count. Rows go from the cheap judge alone (`asked` 0) to the dear one alone
    (`asked` 1); with probabilities there are at most `steps` between them.

    Columns: asked (share of pairs that the dear judge decides), sure (the least that the cheap
    judge's sureness must be), dollars (a pair, from `prices` of a call by judge; missing without),
    agreement (with people's votes, ties kept), too_few, n, low, high, no_verdict. A threshold
    chosen from this table is chosen on these votes: confirm it on others. Raises FrameError for an
    unknown judge.
    """
    parts = {}
    for judge in (cheap, dear):
        part = games[games["judge"] == judge]
        if part.empty:
            known = ", ".join(map(str, games["judge"].unique()))
            raise FrameError(f"no game of the judge {judge!r}; judges here: {known}", rows=games)
        parts[judge] = part
    named = next((name for name in NAMES if name in games.columns), None)
    cast = {judge: _resolved(part).set_index(KEY) for judge, part in parts.items()}
    both = cast[cheap].index.intersection(cast[dear].index)
    if both.empty:
        raise never_meet("No pair was judged by both", parts[cheap], parts[dear])
    low, high = (votes.loc[both] for votes in (cast[cheap], cast[dear]))
    if named is None or parts[cheap][named].isna().all():
        sure = low["winner"].isin(["model_a", "model_b"]).astype(float)
    else:
        mean = _averaged(parts[cheap], named).set_index(KEY)["probability"]
        sure = (2 * (mean.reindex(both) - 0.5).abs()).fillna(0.0)
    levels = np.unique(sure)
    if len(levels) > steps:
        levels = np.unique(np.quantile(sure, np.linspace(0, 1, steps + 1)))
    rows = []
    calls = {judge: len(part) / by_name(part).groupby(KEY).ngroups for judge, part in parts.items()}
    for least in [*levels, np.inf]:
        asks = (sure < least).to_numpy()
        winner = np.where(asks, high["winner"], low["winner"])
        votes = low.assign(winner=winner, judge="cascade", group="llm").reset_index()
        met = agreement(votes, people, level=level).iloc[0]
        share = float(asks.mean())
        price = np.nan
        if prices is not None and cheap in prices and dear in prices:
            own = 0.0 if np.isinf(least) else prices[cheap] * calls[cheap]
            price = own + share * prices[dear] * calls[dear]
        rows.append({"asked": share, "sure": least, "dollars": price, **met[["agreement", *ENDS]]})
    table = pd.DataFrame(rows)
    # A higher threshold that asks no more than the one before says nothing new.
    table["sure"] = table["sure"].where(np.isfinite(table["sure"]))
    last = table["asked"] == 1
    keep = ~table.duplicated("asked") & ~last
    keep |= table.index == table.index[-1]
    return table[keep].reset_index(drop=True)


def forecasts(judged: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    """Return a row a judge and pair (or answer) that people voted on: probability and people.

    Raises FrameError where there is no column of probabilities, for a value outside 0 to 1, and
    where judges and people share no key.
    """
    named = next((name for name in NAMES if name in judged.columns), None)
    if named is None:
        raise FrameError(
            "there is no column of probabilities; expected `probability`, or `preference` as"
            " `weigh` adds it",
            columns=list(judged.columns),
        )
    values = judged[named].astype(float)
    outside = values.notna() & ~values.between(0, 1)
    if outside.any():
        raise FrameError(
            f"{int(outside.sum())} rows have a {named} such as {values[outside].iloc[0]:g};"
            " expected a probability from 0 to 1",
            rows=judged[outside],
        )
    if "model_a" not in judged.columns:
        scores = judged.assign(score=values)
        rows = labelled_passes(scores, people)
        return rows.rename(columns={"said": "probability", "human": "people"})[
            ["judge", *GRADED, "probability", "people"]
        ]
    judged, people = same_ids(judged, check(people, "votes"))
    averages = _averaged(judged, named)
    shown = by_name(on_questions(people))
    worth = shown.assign(people=worth_of(shown["winner"])).groupby(KEY, dropna=False)["people"]
    rows = averages.merge(worth.mean().dropna().reset_index(), on=KEY)
    if rows.empty:
        raise never_meet("No pair has a probability and a person's vote", judged, people)
    return rows


def _averaged(games: pd.DataFrame, named: str) -> pd.DataFrame:
    """Return each judge's mean probability of model_a on a pair, sides in the order of names."""
    shown = by_name(on_questions(games))
    p = games[named].astype(float).to_numpy()
    shown = shown.assign(probability=np.where(shown["turned"], 1 - p, p))
    return shown.groupby(["judge", *KEY], dropna=False)["probability"].mean().reset_index()


def _resolved(part: pd.DataFrame) -> pd.DataFrame:
    """Return one vote a pair, sides in the order of names; games of both orders are resolved."""
    votes = part
    if "group" not in part.columns:
        pairs = by_name(part).groupby(KEY, dropna=False)["turned"].nunique()
        votes = resolve(part, "tie" if (pairs == 2).all() else "given")
    return by_name(votes).drop(columns="turned").drop_duplicates(KEY)
