"""Requests to a model in this process, gathered into batches of like length by one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from lmjudge.errors import RequestFailed
from lmjudge.records import Reply, Request


@dataclass(eq=False)
class Job:
    """A request as a model takes it, and where its reply is awaited.

    `ids` are its tokens, `longest` the bound on the tokens of its reply.
    """

    ids: list[int]
    longest: int
    params: Mapping[str, Any]
    sample: int
    reply: asyncio.Future[Reply]


class Model(Protocol):
    """What answers batches of jobs."""

    def job(self, request: Request, reply: asyncio.Future[Reply]) -> Job:
        """The request as a job."""
        ...

    def generate(self, batch: list[Job], stop: threading.Event) -> list[Reply | RequestFailed]:
        """The replies to a batch, in its order."""
        ...


@asynccontextmanager
async def batched(
    load: Callable[[], Model], size: int
) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
    """An async context manager that gives the coroutine function `answer(request)`."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, "lmjudge-model") as worker:
        batcher = Batcher(await loop.run_in_executor(worker, load), size, worker)
        task = loop.create_task(batcher.run())
        try:
            yield batcher.answer
        finally:
            batcher.stop.set()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Batcher:
    """Gathers what waits into batches of like length and bound, and has them answered in turn."""

    def __init__(self, loaded: Model, size: int, worker: ThreadPoolExecutor) -> None:
        self.loaded, self.size, self.worker = loaded, size, worker
        self.waiting: list[Job] = []
        self.wake, self.stop = asyncio.Event(), threading.Event()

    async def answer(self, request: Request) -> Reply:
        """The reply to a request, once the batch that it is in is done."""
        job = self.loaded.job(request, asyncio.get_running_loop().create_future())
        self.waiting.append(job)
        self.wake.set()
        return await job.reply

    async def run(self) -> None:
        """Answers what waits, batch after batch, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self.wake.wait()
            await asyncio.sleep(0.002)  # all that came together is then here
            self.wake.clear()
            while self.waiting:
                batch = self._next()
                try:
                    replies = await loop.run_in_executor(
                        self.worker, self.loaded.generate, batch, self.stop
                    )
                except Exception as error:
                    for job in batch:
                        if not job.reply.done():
                            job.reply.set_exception(error)
                    continue
                for job, reply in zip(batch, replies, strict=True):
                    if not job.reply.done():
                        if isinstance(reply, Reply):
                            job.reply.set_result(reply)
                        else:
                            job.reply.set_exception(reply)

    def _next(self) -> list[Job]:
        """The longest that wait, first: what is short of memory is so at the start."""
        self.waiting = [job for job in self.waiting if not job.reply.done()]
        self.waiting.sort(key=lambda job: (job.longest, len(job.ids)), reverse=True)
        size = next(
            (at for at, job in enumerate(self.waiting) if job.longest != self.waiting[0].longest),
            len(self.waiting),
        )
        size = min(size, self.size)
        batch, self.waiting = self.waiting[:size], self.waiting[size:]
        return batch
