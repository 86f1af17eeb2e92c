"""An endpoint that stops before a run makes more calls or spends more than you allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lmjudge.errors import EndpointStopped, PriceError
from lmjudge.prices import Price, charge, dearest, longest, price_of, prices
from lmjudge.records import Attempt, Endpoint, Meter, Reply, Request, metered


@dataclass
class Used:
    """Calls begun and dollars spent so far."""

    calls: int = 0
    dollars: float = 0.0


@dataclass(frozen=True)
class Budget:
    """An endpoint in front of another, which answers while `calls` and `dollars` last.

    Every attempt counts, retries too. A call begins only if the money spent, the highest cost of
    the calls in flight (with the longest reply that they allow) and its own highest cost fit into
    `dollars`. Otherwise it waits for the calls in flight. If they do not free enough, the run
    stops. Replies that you paid for are kept, and the same run with a new budget goes on.

    The cost of a call follows from the server's count of tokens (`prices.charge`). A call that
    broke off counts with its highest cost. A server that charges more than that can exceed
    `dollars` by the calls in flight at most. All runs through one budget share it.

    Answering raises EndpointStopped (reason "budget") when it is used up, and PriceError for a
    model whose price is unknown, or a request without a bound on its length.
    """

    endpoint: Endpoint
    dollars: float | None = None
    calls: int | None = None
    table: Mapping[str, Price] | None = field(default=None, repr=False)
    used: Used = field(default_factory=Used, init=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("dollars", "calls"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is {value!r}; expected a number from 0 up, or None")

    @property
    def concurrency(self) -> int:
        """Return how many requests the endpoint behind it takes at a time."""
        return self.endpoint.concurrency

    @property
    def network(self) -> bool:
        """Return whether the endpoint behind it makes network calls."""
        return self.endpoint.network

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """Open a session: an async context manager that gives `answer(request)`."""
        async with metered(self.endpoint, _Purse(self)) as answer:
            yield answer

    @asynccontextmanager
    async def metered_session(
        self, meter: Meter
    ) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """Open a session in which `meter` counts every attempt too."""
        async with metered(self.endpoint, _Purse(self, meter)) as answer:
            yield answer


class _Purse:
    """The budget of one session: what is spent, and the highest cost of the calls in flight."""

    def __init__(self, budget: Budget, outer: Meter | None = None) -> None:
        self.budget, self.outer, self.used = budget, outer, budget.used
        self.table = dict(prices() if budget.table is None else budget.table)
        self.changed = asyncio.Event()
        self.held, self.flying = 0.0, 0

    async def begin(self, request: Request) -> Attempt:
        """Wait until a call fits into the budget, then count it."""
        most = self._most(request)
        while why := self._in_the_way(most):
            if self.flying == 0:
                raise EndpointStopped(
                    f"the budget is used up: {why}. The replies are kept; run again with a new"
                    " budget to go on.",
                    reason="budget",
                    status=None,
                )
            self.changed.clear()
            await self.changed.wait()
        self.held += most
        self.flying += 1
        self.used.calls += 1
        if self.outer is None:
            return Attempt(request)
        try:
            return await self.outer.begin(request)
        except BaseException:
            self.used.calls -= 1
            self._land(most)
            raise

    def end(self, attempt: Attempt) -> None:
        """Count the cost of a call, and wake those that wait."""
        self.used.calls += attempt.count - 1
        self.used.dollars += charge(attempt, self.table) or 0.0
        if self.outer is not None:
            self.outer.end(attempt)
        self._land(self._most(attempt.request))

    def _land(self, most: float) -> None:
        self.held -= most
        self.flying -= 1
        self.changed.set()

    def _in_the_way(self, most: float) -> str | None:
        calls, dollars = self.budget.calls, self.budget.dollars
        if calls is not None and self.used.calls >= calls:
            return f"{calls:,} of {calls:,} calls made"
        if dollars is not None and self.used.dollars + self.held + most > dollars:
            limit = f"{dollars:,.2f}" if round(dollars, 2) == dollars else f"{dollars:,.4f}"
            return (
                f"${self.used.dollars:,.4f} of ${limit} spent, and the next call may cost"
                f" ${most:,.4f}"
            )
        return None

    def _most(self, request: Request) -> float:
        if self.budget.dollars is None:
            return 0.0
        price = price_of(request.model, self.table)
        if price is None or longest(request) is None:
            lacks, give = "sets no limit to its replies' length", "a max_tokens"
            if price is None:
                lacks = "has no price"
                give = "its price in a CSV of model, input, output and date (LMJUDGE_PRICES)"
            raise PriceError(
                f"{request.model} {lacks}, which a budget in dollars needs; give {give}, or a"
                " number of calls (--max-calls) instead",
                model=request.model,
            )
        return dearest(request, price)
