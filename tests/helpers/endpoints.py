"""Endpoints for tests: real implementations of the protocol that call nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from lmjudge.errors import EndpointStopped, RequestFailed
from lmjudge.records import Reply, Request


@dataclass
class Echo:
    """Replies with the last message, after `delay` seconds; notes which keys it was asked for."""

    concurrency: int = 16
    network: bool = False
    delay: float = 0.0
    fail: frozenset[str] = frozenset()
    stop_after: int | None = None
    asked: list[str] = field(default_factory=list)
    answered: int = 0
    open: int = 0
    most_in_flight: int = 0
    in_flight: int = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        self.open += 1
        try:
            yield self.answer
        finally:
            self.open -= 1

    async def answer(self, request: Request) -> Reply:
        self.asked.append(request.key)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay)
        finally:
            self.in_flight -= 1
        if self.stop_after is not None and len(self.asked) > self.stop_after:
            raise EndpointStopped("no more money; top up", reason="quota", status=429)
        text = list(request.messages)[-1]["content"]
        if text in self.fail:
            raise RequestFailed("filtered", reason="content_filter", status=400, attempts=1)
        self.answered += 1
        return Reply(f"echo {text}", finish_reason="stop", created=1.0, model="echo")


class Memory:
    """What judging needs of a store, without a disk: it asks what replies at once."""

    def ask(self, requests: Any, endpoint: Any = None) -> Any:
        for request in requests:
            yield request.key, endpoint.reply(request)
