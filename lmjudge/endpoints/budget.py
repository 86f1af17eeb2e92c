"""An endpoint that stops before more is asked, or spent, than was allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lmjudge.errors import EndpointStopped, PriceError
from lmjudge.prices import Price, longest, price_of, prices, tokens
from lmjudge.records import Endpoint, Reply, Request


@dataclass
class Used:
    """What was spent of a budget so far: calls begun, and dollars."""

    calls: int = 0
    dollars: float = 0.0


@dataclass(frozen=True)
class Budget:
    """An endpoint in front of another, which answers while `calls` and `dollars` last.

    A request is let through only if all that is spent, all that is in flight at its dearest (the
    longest reply that it may have) and the request itself are within `dollars`; if what is in
    flight is in the way, it waits for it, and so it does before it stops: what is paid for is kept,
    and the same run with a new budget goes on. Spent is what the server's own count of tokens
    costs; of a failed call, its prompt. One budget is spent once, over all that is asked through
    it. Answering raises EndpointStopped (reason "budget") when it is used up, and PriceError for a
    model whose price is unknown, or a request without a bound on its length.
    """

    endpoint: Endpoint
    dollars: float | None = None
    calls: int | None = None
    table: Mapping[str, Price] | None = field(default=None, repr=False)
    used: Used = field(default_factory=Used, init=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("dollars", "calls"):
            given = getattr(self, name)
            if given is not None and not given >= 0:
                raise ValueError(f"{name} is {given!r}; expected a number from 0 up, or None")

    @property
    def concurrency(self) -> int:
        """How many requests the endpoint behind it takes at a time."""
        return self.endpoint.concurrency

    @property
    def network(self) -> bool:
        """Whether the endpoint behind it calls anybody."""
        return self.endpoint.network

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """An async context manager that gives the coroutine function `answer(request)`."""
        async with self.endpoint.session() as answer:
            yield _Purse(self, answer).answer


class _Purse:
    """What a session may still have to spend for what is in flight, beside what is used."""

    def __init__(self, budget: Budget, ask: Callable[[Request], Awaitable[Reply]]) -> None:
        self.budget, self.ask = budget, ask
        self.table = dict(prices() if budget.table is None else budget.table)
        self.changed = asyncio.Condition()
        self.used, self.held, self.flying = budget.used, 0.0, 0

    async def answer(self, request: Request) -> Reply:
        price, dearest = self._dearest(request)
        await self._let_through(dearest)
        reply = None
        try:
            reply = await self.ask(request)
            return reply
        finally:
            async with self.changed:
                self.held -= dearest
                self.flying -= 1
                if price is not None:
                    self.used.dollars += price.of(*tokens(request, reply))
                self.changed.notify_all()

    async def _let_through(self, dearest: float) -> None:
        async with self.changed:
            while why := self._in_the_way(dearest):
                if self.flying == 0:
                    raise EndpointStopped(
                        f"the budget is used up: {why}; what was answered is kept, and the same run"
                        " with a new budget goes on",
                        reason="budget",
                        status=None,
                    )
                await self.changed.wait()
            self.held += dearest
            self.used.calls += 1
            self.flying += 1

    def _in_the_way(self, dearest: float) -> str | None:
        calls, dollars = self.budget.calls, self.budget.dollars
        if calls is not None and self.used.calls >= calls:
            return f"{calls:,} calls are made, as many as were allowed"
        if dollars is not None and self.used.dollars + self.held + dearest > dollars:
            given = f"{dollars:,.2f}" if round(dollars, 2) == dollars else f"{dollars:,.4f}"
            return (
                f"${self.used.dollars:,.4f} are spent of ${given}, and the next call may cost"
                f" ${dearest:,.4f}"
            )
        return None

    def _dearest(self, request: Request) -> tuple[Price | None, float]:
        price = price_of(request.model, self.table)
        if self.budget.dollars is None:
            return price, 0.0
        bound = longest(request)
        if price is None or bound is None:
            lacks, give = "sets no bound on its replies' length", "a max_tokens"
            if price is None:
                lacks = "has no price"
                give = "its price in a CSV of model, input, output and date (LMJUDGE_PRICES)"
            raise PriceError(
                f"{request.model} {lacks}, so that a budget in dollars cannot be kept; give {give},"
                " or a number of calls (--max-calls) instead",
                model=request.model,
            )
        read, _ = tokens(request)
        return price, price.of(2 * read, bound)  # dense text has up to twice the tokens
