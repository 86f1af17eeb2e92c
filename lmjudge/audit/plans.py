"""What knowing more about a judge would cost, and what its calls have cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.judges import Judge
from lmjudge.plan import LooksUp, Plan, plan
from lmjudge.prices import Price, cost, prices
from lmjudge.records import Record


class HasRecords(Protocol):
    """The one method of a store that costs need."""

    def records(self, keys: Iterable[str] | None = None) -> Iterable[Record]:
        """Every record under these keys."""
        ...


def plans(
    pairings: pd.DataFrame,
    judges: Collection[Judge],
    *,
    store: LooksUp,
    renamed: str = "pair-renamed",
    attacks: pd.DataFrame | None = None,
    table: Mapping[str, Price] | None = None,
) -> pd.DataFrame:
    """What each question about each judge would cost, before anything is asked: a row for each.

    asks: "verdicts" (every pair in one order), "position" (the other order as well: also length
    and self-preference need no more than these two), "repeatability" (both orders a second time),
    "name" (both orders under the prompt `renamed`), "verbosity" (the `attacks`, a pairings frame
    as `repetitive_list` makes it, in both orders). What one row has asked, the later rows don't
    pay again; what the store answers is free.

    Columns: judge, asks, requests, answered (in the store), calls, dollars_low, dollars, and
    dollars_high (missing where the price, or the length of a judgment, is unknown). `table`
    replaces the prices. Raises what `judge_requests` raises.
    """
    if not judges:
        raise FrameError("there is no judge to plan for; give one or more", rows=pairings)
    table = prices() if table is None else table
    rows = []
    for judge in judges:
        one = plan(pairings, judge, store=store, orders="given", table=table)
        both = plan(pairings, judge, store=store, table=table)
        again = plan(pairings, judge, store=store, samples=2, table=table)
        named = replace(judge, prompt=renamed, parser="strict")
        asked = [("verdicts", one, None), ("position", both, one), ("repeatability", again, both)]
        asked.append(("name", plan(pairings, named, store=store, table=table), None))
        if attacks is not None:
            usable = attacks[attacks["answer_b"].notna()]
            asked.append(("verbosity", plan(usable, judge, store=store, table=table), None))
        for name, whole, part in asked:
            rows.append({"judge": judge.name, "asks": name, **_beyond(whole, part)})
    return pd.DataFrame(rows)


def _beyond(whole: Plan, part: Plan | None) -> dict[str, float | None]:
    """What a plan asks that another, a part of it, does not."""
    share = 1.0
    if part is not None and whole.distinct_misses:
        share = 1 - part.distinct_misses / whole.distinct_misses
    told = whole.dollars
    cost = [None] * 3 if told is None else [told.low, told.expected, told.high]
    low, expected, high = (None if one is None else share * one for one in cost)
    return {
        "requests": whole.requests - (part.requests if part else 0),
        "answered": whole.hits - (part.hits if part else 0),
        "calls": whole.distinct_misses - (part.distinct_misses if part else 0),
        "dollars_low": low,
        "dollars": expected,
        "dollars_high": high,
    }


def call_costs(
    frame: pd.DataFrame, store: HasRecords, *, table: Mapping[str, Price] | None = None
) -> pd.DataFrame:
    """What a call of each judge has cost: columns judge, calls, dollars, per_call.

    `frame` has games or scores, whose requests and replies the `store` holds; dollars are missing
    where the price of the judge's model is unknown. A call that two judges share (two parsers of
    one text) is in both rows. `table` replaces the prices.
    """
    known = dict(prices() if table is None else table)
    paid = {
        record.request.key: cost(record.request, record.reply, known)
        for record in store.records(frame["key"].dropna().unique())
    }
    rows = frame.dropna(subset="key").drop_duplicates(["judge", "key"])
    rows = rows.assign(dollars=rows["key"].map(paid).astype(float))
    made = rows.groupby("judge")["dollars"].agg(["size", "sum", "mean", "count"]).reset_index()
    made.loc[made["count"] == 0, "sum"] = float("nan")
    names = {"size": "calls", "sum": "dollars", "mean": "per_call"}
    return made.rename(columns=names)[["judge", *names.values()]]
