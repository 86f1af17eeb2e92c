"""Plan a run before it asks: the requests, what the store answers already, and the price."""

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
    """A number that is not known yet: at least `low`, at most `high`, and what to expect.

    `expected` is None where nothing is known to expect it from, `high` where nothing bounds it.
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
    """How many requests a run has, how many of them are distinct, and how many are answered.

    `requests`, `hits` and `misses` count rows, `distinct` and `distinct_misses` keys: a run in
    record mode makes `distinct_misses` calls. Of these, `read` is the tokens of their prompts
    (about; at the store's own ratio to the characters where it has replies to this plan),
    `written` the tokens to be written: low and high are the shortest of the replies that the store
    has to this plan and the longest that the requests allow, expected is these replies' mean.
    `dollars` is what both cost by `price`, None where the price is unknown. `seen` are the tokens
    of these replies: their shares of cached tokens and of thoughts are expected again. `rows` has a
    line a request, with its `key` and `hit`; its other columns are those of the games, scores or
    answers to come, or model and sample. The key of a second turn is missing until the first is
    answered.
    `unguided` counts the questions that a judge who shows reference answers where there are any
    would judge without one, though they are of a category that needs it, `unguided_in` these
    categories. `unjudged` are the turns that no request is about, each with how many rows have it;
    `criteria` is how many verdicts a call gives (0 where it is one), None where it differs.
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
            many = "1 question" if self.unguided == 1 else f"{self.unguided:,} questions"
            text += (
                f"; without a reference answer {many} of {', '.join(self.unguided_in)} would be"
                " judged"
            )
        if self.unjudged:
            named = ", ".join(
                f"turn {turn} of {rows:,} rows" for turn, rows in self.unjudged.items()
            )
            text += f'; not judged: {named} (turns="all", or --turns all, judges them)'
        return text

    __repr__ = __str__

    def by_batch(self) -> Plan:
        """Return the same by OpenAI's Batch API, at its prices.

        These are half, unless the table of prices has others.
        """
        if self.price is None or self.dollars is None:
            return self
        price = self.price.by_batch()
        dollars = _dollars(price, self.read, self.written, self.seen)
        return replace(self, price=price, dollars=dollars)

    def _money(self) -> str:
        if self.dollars is None or self.price is None:
            return "price unknown (give a table of prices)"
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
    """Return the Plan of judging pairings or a lineup, of answering questions, or of requests.

    `asked` is the judge, or the answerer (an Answerer) for a questions frame; requests need none.
    `table` replaces the prices (see `prices`), and `store.shard(1, 4)` as the store plans that part
    alone. Nothing is asked and nothing is written. Raises what `judge_requests` and
    `conversations` raise.
    """
    unguided: dict[str, str] = {}
    unjudged: Mapping[int, int] = {}
    criteria: int | None = 0
    requests: Iterator[tuple[Row, Request | None, Reply | None]]
    if isinstance(asked, Answerer):
        requests = _turns(check(pd.DataFrame(frame), "questions"), asked, store, samples)
    elif not isinstance(frame, pd.DataFrame):
        rows = (({"model": request.model, "sample": request.sample}, request) for request in frame)
        requests = _looked_up(rows, store)
    elif asked is None:
        raise TypeError("plan got a frame and no judge; give the judge that would be asked")
    else:
        judging = judge_requests(frame, asked, orders=orders, turns=turns, samples=samples)
        requests = _looked_up(judging, store)
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
    """Return the category of each question that needs a reference answer and has none.

    Empty for a judge whose prompts all show one, or none of them.
    """
    if len({prompt.needs_reference for prompt in judge.prompts}) < 2:
        return {}
    lacking = frame[frame["category"].isin(NEED_REFERENCE) & frame["reference"].isna()]
    return dict(zip(lacking["question_id"], lacking["category"], strict=True))


def _held(store: Asks, request: Request) -> bool:
    return not isinstance(store, Shard) or store.holds(request)


def _looked_up(
    asked: Iterator[tuple[Row, Request]], store: Asks
) -> Iterator[tuple[Row, Request | None, Reply | None]]:
    mine = (item for item in asked if _held(store, item[1]))
    while some := list(islice(mine, _AT_ONCE)):
        held = store.look_up({request.key for _, request in some})
        for row, request in some:
            yield row, request, held.get(request.key)


def _turns(
    questions: pd.DataFrame, answerer: Answerer, store: Asks, samples: int
) -> Iterator[tuple[Row, Request | None, Reply | None]]:
    """Yield the turns of each conversation, as far as the store knows what was said in it."""
    for conversation in conversations(questions, answerer, samples):
        if not _held(store, conversation.request()):
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
    asked: Iterable[tuple[Row, Request | None, Reply | None]],
    table: Mapping[str, Price],
) -> Plan:
    rows: list[dict[str, Any]] = []
    missed: dict[str, Request] = {}
    later = 0
    ratio = 0.0
    seen: list[Tokens] = []
    for row, request, reply in asked:
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
    # A later turn reads what its conversation has said; without that, at least what a first does.
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
    # A server may count more tokens than it was allowed to write.
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
    """Return the dollars, with the replies' shares of cached tokens and of thoughts."""
    if price is None:
        return None

    def cost(wrote: float | None) -> float | None:
        if wrote is None:
            return None
        of_read, of_written = read / (seen.read or 1.0), wrote / (seen.written or 1.0)
        shares = (seen.cached * of_read, seen.cache_write * of_read, seen.reasoning * of_written)
        return price.of(read, wrote, *shares)

    high = None if written.high is None else price.most(read, written.high)
    return Range(cost(written.low) or 0.0, cost(written.expected), high)
