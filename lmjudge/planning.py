"""Plan a run before it makes a call: requests, stored replies, tokens and price."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import pandas as pd

from lmjudge.frames import check
from lmjudge.generation import Answerer, conversations
from lmjudge.judges import Judge, judge_requests
from lmjudge.judges.judging import Orders, Row, Turns, unjudged_turns
from lmjudge.judges.prompts import NEED_REFERENCE
from lmjudge.prices import Price, Tokens, longest, price_of, prices, tokens
from lmjudge.records import Asks, Reply, Request
from lmjudge.shown import as_table
from lmjudge.store import Shard

_AT_ONCE = 500


@dataclass(frozen=True)
class Range:
    """A number that is not known yet: at least `low`, probably `expected`, at most `high`.

    `expected` is None without stored replies to estimate it from, `high` without an upper bound.
    """

    low: float
    expected: float | None
    high: float | None

    def shown(self, form: str) -> str:
        """Return the three as text: "low / expected / high"."""
        numbers = (self.low, self.expected, self.high)
        return " / ".join(
            "unknown" if number is None else form.format(number) for number in numbers
        )


@dataclass(frozen=True)
class Plan:
    """The calls that a run would make, their tokens and their price.

    | field | meaning |
    |---|---|
    | `requests`, `hits`, `misses` | rows: all, answered in the store, not answered |
    | `distinct` | distinct keys among the requests |
    | `distinct_misses` | distinct keys without a reply: the calls of a run in record mode |
    | `read` | prompt tokens of these calls, estimated from characters and stored replies |
    | `written` | reply tokens: low and expected are the shortest and the mean stored reply |
    | `dollars` | US dollars at `price`; None if the price is unknown |
    | `seen` | tokens of the stored replies, for the shares of cached and reasoning tokens |
    | `rows` | one row a request: `key`, `hit`, and the columns that identify it |
    | `unguided` | questions of a category that needs a reference answer and that have none |
    | `unguided_in` | the categories of these questions |
    | `unjudged` | {turn: rows that have this turn}, for turns that no request is about |
    | `criteria` | criteria in one call: 0 without criteria, None if questions differ |

    The high value of `written` is the token limit of the requests. The key of a second turn is
    missing until the first turn has a reply.
    """

    title: str
    requests: int
    distinct: int
    hits: int
    misses: int
    distinct_misses: int
    read: float
    written: Range
    dollars: Range | None
    price: Price | None
    rows: pd.DataFrame = field(repr=False, compare=False)
    unguided: int = 0
    unguided_in: tuple[str, ...] = ()
    unjudged: Mapping[int, int] = field(default_factory=dict)
    seen: Tokens = field(default=Tokens(0.0, 0.0), repr=False)
    criteria: int | None = 0

    def __str__(self) -> str:
        each = (
            "the criteria of each question"
            if self.criteria is None
            else f"{self.criteria} criteria"
        )
        text = (
            f"{self.title}: {self.requests:,} requests ({self.distinct:,} distinct),"
            f" {self.hits:,} answered in the store, {self.misses:,} not:"
            f" {self.distinct_misses:,} calls to make"
            + ("" if self.criteria == 0 else f", {each} in a call")
        )
        if self.distinct_misses:
            text += (
                f"; about {self.read:,.0f} tokens to read, {self.written.shown('{:,.0f}')}"
                f" tokens to write (low / expected / high); {self._money()}"
            )
        if self.unguided:
            questions = "1 question" if self.unguided == 1 else f"{self.unguided:,} questions"
            text += (
                f"; {questions} of {', '.join(self.unguided_in)} would be judged without a"
                " reference answer"
            )
        if self.unjudged:
            left_out = ", ".join(
                f"turn {turn} of {rows:,} rows" for turn, rows in self.unjudged.items()
            )
            text += f'; not judged: {left_out} (turns="all", or --turns all, judges them)'
        return text

    __repr__ = __str__

    def by_batch(self) -> Plan:
        """Return the plan at the prices of OpenAI's Batch API (half, or the table's)."""
        if self.price is None or self.dollars is None:
            return self
        price = self.price.by_batch()
        dollars = _dollars(price, self.read, self.written, self.seen)
        return replace(self, price=price, dollars=dollars)

    def _money(self) -> str:
        if self.dollars is None or self.price is None:
            return "price unknown (set LMJUDGE_PRICES to a table of prices)"
        return f"{self.dollars.shown('${:,.2f}')}, {self.price}"

    def _repr_html_(self) -> str:
        cells: dict[str, object] = {
            "requests": f"{self.requests:,}",
            "distinct": f"{self.distinct:,}",
            "answered in the store": f"{self.hits:,}",
            "not answered": f"{self.misses:,}",
            "calls to make": f"{self.distinct_misses:,}",
        }
        if self.distinct_misses:
            cells["tokens to read, about"] = f"{self.read:,.0f}"
            cells["tokens to write: low / expected / high"] = self.written.shown("{:,.0f}")
            cells["price: low / expected / high"] = self._money()
        if self.unguided:
            cells["judged without the reference they need"] = f"{self.unguided:,} questions"
        if self.criteria != 0:
            cells["criteria in a call"] = (
                "each question's" if self.criteria is None else self.criteria
            )
        if self.unjudged:
            cells["rows whose turn is not judged"] = ", ".join(
                f"turn {turn}: {rows:,}" for turn, rows in self.unjudged.items()
            )
        return as_table(self.title, cells)


def plan(
    frame: pd.DataFrame | Iterable[Request],
    asked: Judge | Answerer | None = None,
    *,
    store: Asks,
    orders: Orders = "both",
    turns: Turns = (1,),
    samples: int = 1,
    table: Mapping[str, Price] | None = None,
) -> Plan:
    """Return the Plan of a run, without making a call or writing anything.

    - `frame`: pairings or a lineup to judge, questions to answer, or plain requests.
    - `asked`: the Judge, or the Answerer for a questions frame; None for requests.
    - `store`: its replies count as answered. Pass `store.shard(1, 4)` to plan only that shard.
    - `orders`, `turns`, `samples`: as in `judge_requests` and `generate`.
    - `table`: prices by model, instead of `prices()`.

    Raises TypeError for a frame without `asked`, and what `judge_requests` and `conversations`
    raise.
    """
    unguided: dict[str, str] = {}
    unjudged: Mapping[int, int] = {}
    criteria: int | None = 0
    requests: Iterator[tuple[Row, Request | None, Reply | None]]
    if isinstance(asked, Answerer):
        requests = _planned_turns(check(pd.DataFrame(frame), "questions"), asked, store, samples)
    elif not isinstance(frame, pd.DataFrame):
        rows = (({"model": request.model, "sample": request.sample}, request) for request in frame)
        requests = _with_replies(rows, store)
    elif asked is None:
        raise TypeError("plan got a frame but no judge; pass the Judge or Answerer of the run")
    else:
        judging = judge_requests(frame, asked, orders=orders, turns=turns, samples=samples)
        requests = _with_replies(judging, store)
        unguided = _unguided(frame, asked)
        unjudged = unjudged_turns(frame, asked, turns)
        criteria = None if isinstance(asked.criteria, str) else len(asked.criteria)
    title = "requests" if asked is None else asked.name
    estimate = _plan(title, requests, dict(prices() if table is None else table))
    kinds = tuple(sorted(set(unguided.values())))
    return replace(
        estimate,
        unguided=len(unguided),
        unguided_in=kinds,
        unjudged=unjudged,
        criteria=criteria,
    )


def _unguided(frame: pd.DataFrame, judge: Judge) -> dict[str, str]:
    """Return {question: category} of questions that need a reference answer and have none.

    Empty if all prompts of the judge show a reference answer, or none does.
    """
    if len({prompt.needs_reference for prompt in judge.prompts}) < 2:
        return {}
    lacking = frame[frame["category"].isin(NEED_REFERENCE) & frame["reference"].isna()]
    return dict(zip(lacking["question_id"], lacking["category"], strict=True))


def _in_shard(store: Asks, request: Request) -> bool:
    return not isinstance(store, Shard) or store.holds(request)


def _with_replies(
    requests: Iterator[tuple[Row, Request]], store: Asks
) -> Iterator[tuple[Row, Request | None, Reply | None]]:
    planned = (item for item in requests if _in_shard(store, item[1]))
    while batch := list(islice(planned, _AT_ONCE)):
        replies = store.look_up({request.key for _, request in batch})
        for row, request in batch:
            yield row, request, replies.get(request.key)


def _planned_turns(
    questions: pd.DataFrame, answerer: Answerer, store: Asks, samples: int
) -> Iterator[tuple[Row, Request | None, Reply | None]]:
    """Yield the turns of each conversation; a turn after a missing reply has no request yet."""
    for conversation in conversations(questions, answerer, samples):
        if not _in_shard(store, conversation.request()):
            continue
        row = {
            "question_id": conversation.question["question_id"],
            "model": answerer.name,
            "sample": conversation.sample,
        }
        known = True
        for turn in range(1, len(conversation.question["turns"]) + 1):
            request = conversation.request() if known else None
            reply = store.look_up([request.key]).get(request.key) if request else None
            yield row | {"turn": turn}, request, reply
            if known and reply is not None and request is not None:
                conversation.take(request.key, reply)
                if conversation.failure is not None:
                    break
            known = known and reply is not None


def _plan(
    title: str,
    requests: Iterable[tuple[Row, Request | None, Reply | None]],
    table: Mapping[str, Price],
) -> Plan:
    rows: list[dict[str, Any]] = []
    missed: dict[str, Request] = {}
    later = 0
    ratio = 0.0
    seen: list[Tokens] = []
    for row, request, reply in requests:
        key = None if request is None else request.key
        rows.append(row | {"key": key, "hit": reply is not None})
        if request is None:
            later += 1
        elif reply is None:
            missed[request.key] = request
        else:
            seen.append(tokens(request, reply))
            ratio += tokens(request).read
    calls = len(missed) + later
    each = [tokens(request).read for request in missed.values()]
    known = Tokens(*map(sum, zip(*seen, strict=True))) if seen else Tokens(0.0, 0.0)
    lengths = [reply.written for reply in seen]
    # The prompt of a later turn is not known yet. It is at least as long as that of a first turn.
    to_read = (sum(each) + later * (sum(each) / len(each) if each else 0.0)) * (
        known.read / ratio if ratio else 1.0
    )
    bounds = {longest(request) for request in missed.values()}
    most = (
        None
        if None in bounds or not bounds
        else max(bound for bound in bounds if bound is not None)
    )
    high = None if most is None and calls else calls * (most or 0.0)
    # A server may count more tokens than the request allows.
    low, mean = (
        calls * (length if most is None else min(length, most))
        for length in (min(lengths, default=0.0), sum(lengths) / max(len(lengths), 1))
    )
    written = Range(low, mean if lengths or not calls else None, high)
    models = {request.model for request in missed.values()}
    price = price_of(models.pop(), dict(table)) if len(models) == 1 else None
    hits = sum(row["hit"] for row in rows)
    return Plan(
        title,
        len(rows),
        len({row["key"] for row in rows if row["key"]}) + later,
        hits,
        len(rows) - hits,
        calls,
        to_read,
        written,
        _dollars(price, to_read, written, known),
        price,
        pd.DataFrame(rows) if rows else pd.DataFrame({"key": [], "hit": []}),
        seen=known,
    )


def _dollars(price: Price | None, read: float, written: Range, seen: Tokens) -> Range | None:
    """Return the dollars, with the same shares of cached and reasoning tokens as in `seen`."""
    if price is None:
        return None

    def cost(count: float | None) -> float | None:
        if count is None:
            return None
        of_read, of_written = read / (seen.read or 1.0), count / (seen.written or 1.0)
        shares = (seen.cached * of_read, seen.cache_write * of_read, seen.reasoning * of_written)
        return price.of(read, count, *shares)

    high = None if written.high is None else price.most(read, written.high)
    return Range(cost(written.low) or 0.0, cost(written.expected), high)
