"""What a run would ask, and what of it the store already answers, before anything is asked."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import pandas as pd

from lmjudge.judges import Judge, judge_requests
from lmjudge.judges.judging import Orders, Row
from lmjudge.records import Reply, Request

_AT_ONCE = 500


class LooksUp(Protocol):
    """The one method of a store that planning needs."""

    def look_up(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies to those of the keys that the store holds."""
        ...


@dataclass(frozen=True)
class Plan:
    """How many requests a run has, how many of them are distinct, and how many are answered.

    `requests`, `hits` and `misses` count rows, `distinct` and `distinct_misses` keys: a run in
    record mode makes `distinct_misses` calls. `rows` has a line a request, with its `key` and
    `hit`; its other columns are those of the games or scores to come, or model and sample.
    """

    title: str
    requests: int
    distinct: int
    hits: int
    misses: int
    distinct_misses: int
    rows: pd.DataFrame = field(repr=False, compare=False)

    def __str__(self) -> str:
        return (
            f"{self.title}: {self.requests:,} requests ({self.distinct:,} distinct),"
            f" {self.hits:,} answered in the store, {self.misses:,} not:"
            f" {self.distinct_misses:,} calls to make"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = {
            "requests": self.requests,
            "distinct": self.distinct,
            "answered in the store": self.hits,
            "not answered": self.misses,
            "calls to make": self.distinct_misses,
        }
        head = "".join(f'<th scope="col">{name}</th>' for name in cells)
        body = "".join(f"<td>{count:,}</td>" for count in cells.values())
        return (
            f"<table><caption>{html.escape(self.title)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody><tr>{body}</tr></tbody></table>"
        )


def plan(
    frame: pd.DataFrame | Iterable[Request],
    judge: Judge | None = None,
    *,
    store: LooksUp,
    orders: Orders = "both",
    turns: tuple[int, ...] = (1,),
    samples: int = 1,
) -> Plan:
    """The Plan of judging a pairings frame or a lineup, or of any requests (without a judge).

    Nothing is asked and nothing is written. Raises what `judge_requests` raises.
    """
    asked: Iterator[tuple[Row, Request]]
    if isinstance(frame, pd.DataFrame):
        if judge is None:
            raise TypeError("plan got a frame and no judge; give the judge that would be asked")
        asked = judge_requests(frame, judge, orders=orders, turns=turns, samples=samples)
    else:
        asked = (({"model": one.model, "sample": one.sample}, one) for one in frame)
    rows: list[dict[str, Any]] = []
    while some := [row | {"key": request.key} for row, request in islice(asked, _AT_ONCE)]:
        held = store.look_up({row["key"] for row in some})
        rows += [row | {"hit": row["key"] in held} for row in some]
    made = pd.DataFrame(rows) if rows else pd.DataFrame({"key": [], "hit": []})
    missed = {row["key"] for row in rows if not row["hit"]}
    hits = sum(row["hit"] for row in rows)
    return Plan(
        judge.name if judge else "requests",
        len(rows),
        len({row["key"] for row in rows}),
        hits,
        len(rows) - hits,
        len(missed),
        made,
    )
