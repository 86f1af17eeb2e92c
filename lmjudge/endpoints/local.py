"""A model on this machine: transformers, chat templates, batches of requests of like length."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lmjudge.errors import EndpointError
from lmjudge.records import Reply, Request

if TYPE_CHECKING:
    from lmjudge.endpoints.causal import Job, Loaded

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


@dataclass(frozen=True)
class LocalEndpoint:
    """Answers chat requests by a causal language model on this machine, greedily or sampled.

    `model` is a folder in transformers' format (safetensors only, nothing in it is run) or a hub
    id, with its `revision`. Requests name the model as `.name` does: with the digest of its files,
    or the hub's commit, so that the key tells one checkpoint from another. `batch_size` answers are
    generated at a time, prompts of like length together; `device` and `dtype` are by default a GPU
    in bfloat16 where there is one, else the CPU in float32; `device_map="auto"` spreads the model
    over several GPUs. `chat_template` replaces the tokenizer's.

    Params understood: temperature, top_p, max_tokens or max_completion_tokens, seed, logprobs,
    top_logprobs. Raises EndpointError for a model that cannot be loaded, EndpointStopped for
    requests of another model or with other params; answering raises RequestFailed
    (context_length, out_of_memory).
    """

    model: str | os.PathLike[str]
    revision: str | None = field(default=None, kw_only=True)
    batch_size: int = field(default=16, kw_only=True)
    device: str | None = field(default=None, kw_only=True)
    device_map: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    chat_template: str | None = field(default=None, kw_only=True, repr=False)
    network: ClassVar[bool] = False

    @property
    def concurrency(self) -> int:
        """Requests taken at a time: several batches, so that like lengths find each other."""
        return 8 * self.batch_size

    @cached_property
    def folder(self) -> Path:
        """Where the model's files lie; a hub's are fetched, unless LMJUDGE_OFFLINE=1."""
        given = Path(self.model)
        if given.is_dir():
            return given
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        try:
            found = snapshot_download(
                os.fspath(self.model),
                revision=self.revision,
                allow_patterns=list(_FILES),
                local_files_only=os.environ.get("LMJUDGE_OFFLINE") == "1",
            )
        except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise EndpointError(
                f"{os.fspath(self.model)!r} is no folder here, and no model that the hub gives"
                f" ({error}); give the folder of a model, or the id of one",
                name="model",
            ) from error
        return Path(found)

    @cached_property
    def name(self) -> str:
        """The model's name in requests: of a folder its name and digest, of a hub id its commit."""
        if not Path(self.model).is_dir():
            return f"{os.fspath(self.model)}@{self.folder.name[:12]}"
        total = hashlib.sha256()
        for path in sorted({path for form in _FILES for path in self.folder.glob(form)}):
            with path.open("rb") as file:
                total.update(
                    f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
                )
        return f"{self.folder.resolve().name}@{total.hexdigest()[:12]}"

    @cached_property
    def _loaded(self) -> Loaded:
        from lmjudge.endpoints.causal import Loaded

        return Loaded(
            self.name,
            self.folder,
            device=self.device,
            device_map=self.device_map,
            dtype=self.dtype,
            chat_template=self.chat_template,
        )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """An async context manager that gives the coroutine function `answer(request)`."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "lmjudge-local") as worker:
            loaded = await loop.run_in_executor(worker, lambda: self._loaded)
            batcher = _Batcher(loaded, self.batch_size, worker)
            task = loop.create_task(batcher.run())
            try:
                yield batcher.answer
            finally:
                batcher.stop.set()
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


class _Batcher:
    """Gathers what waits into batches of like length and bound, and has them answered in turn."""

    def __init__(self, loaded: Loaded, size: int, worker: ThreadPoolExecutor) -> None:
        self.loaded, self.size, self.worker = loaded, size, worker
        self.waiting: list[Job] = []
        self.wake, self.stop = asyncio.Event(), threading.Event()

    async def answer(self, request: Request) -> Reply:
        job = self.loaded.job(request, asyncio.get_running_loop().create_future())
        self.waiting.append(job)
        self.wake.set()
        return await job.reply

    async def run(self) -> None:
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
