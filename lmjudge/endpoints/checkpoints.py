"""Checkpoints on this machine: find them, load them, and form batches of requests.

One thread answers all waiting requests, those of similar length together. Light to import: only an
open session imports torch and transformers (`causal`, `scorer`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lmjudge.errors import EndpointError, RequestFailed
from lmjudge.records import Reply, Request

# How all is read: nothing more is fetched, no code beside a model runs, and nobody is asked whether
# it may.
READING: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


def need_torch() -> None:
    """Raise EndpointError if torch or transformers is not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise EndpointError(
            f"{error.name} is not installed, and a model on this machine needs it;"
            ' pip install -e ".[train]"',
            name="train",
        ) from error


def loading_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that transformers raises for files that are not a sound model."""
    from safetensors import SafetensorError

    return (OSError, ValueError, RuntimeError, KeyError, AttributeError, SafetensorError)


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the progress bars of transformers meanwhile."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def longest_of(model: Any, tokenizer: Any) -> int:
    """Return the maximum tokens of a prompt: the least of the model's and the tokenizer's."""
    config = model.config.get_text_config()
    longest = getattr(config, "max_position_embeddings", None) or 1_000_000
    return int(min(longest, tokenizer.model_max_length))


def folder_of(model: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the folder of a model's files: the folder itself, or the hub's cache of an id.

    They are fetched, if need be, unless LMJUDGE_OFFLINE=1. Raises EndpointError for what is
    neither, and for weights that are not safetensors (others are pickled, and reading them runs
    what is in them).
    """
    folder = Path(model)
    if not folder.is_dir():
        need_torch()
        from huggingface_hub import snapshot_download

        try:
            downloaded = snapshot_download(
                os.fspath(model),
                revision=revision,
                allow_patterns=list(FILES),
                local_files_only=os.environ.get("LMJUDGE_OFFLINE") == "1",
            )
        except (OSError, ValueError) as error:  # the hub's own errors are of these kinds
            raise EndpointError(
                f"{os.fspath(model)!r} is not a folder or a model of the hub"
                f" ({error}); give the folder of a model, or the id of one",
                name="model",
            ) from error
        folder = Path(downloaded)
    if not list(folder.glob("*.safetensors")):
        raise EndpointError(
            f"{folder} holds no *.safetensors, and pickled weights (*.bin) are not read, since a"
            f" pickle can run code; convert a model that you trust: {_converting(folder)}",
            name="model",
        )
    return folder


def _converting(folder: Path) -> str:
    """Return a command that writes a language model again, with safetensors, beside its folder."""
    old, new = str(folder), f"{folder}-safetensors"
    code = "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T"
    code += "".join(f"; {of}.from_pretrained({old!r}).save_pretrained({new!r})" for of in "MT")
    return f"python -c {shlex.quote(code)}"


def name_of(model: str | os.PathLike[str], folder: Path) -> str:
    """Return the name of a checkpoint: a folder's with its digest, a hub id with its commit.

    The digest is over the names and contents of what transformers reads.
    """
    if not Path(model).is_dir():
        return f"{os.fspath(model)}@{folder.name[:12]}"
    total = hashlib.sha256()
    for path in sorted({path for form in FILES for path in folder.glob(form)}):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name}\0{content}\n".encode())
    return f"{folder.resolve().name}@{total.hexdigest()[:12]}"


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
    """What answers jobs, a batch at a time, in a thread of its own."""

    def job(self, request: Request, reply: asyncio.Future[Reply]) -> Job:
        """Return the request as a job."""
        ...

    def generate(self, batch: list[Job], stop: threading.Event) -> list[Reply | RequestFailed]:
        """Return the replies to a batch; they may be cut short once `stop` is set."""
        ...


@dataclass(frozen=True)
class OnThisMachine:
    """An endpoint whose model is in this process, loaded when it is first asked."""

    model: str | os.PathLike[str]
    revision: str | None = field(default=None, kw_only=True)
    batch_size: int = field(default=16, kw_only=True)
    device: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    network: ClassVar[bool] = False

    @cached_property
    def folder(self) -> Path:
        """Return the folder of the model's files; download a hub's unless LMJUDGE_OFFLINE=1."""
        return folder_of(self.model, self.revision)

    @cached_property
    def name(self) -> str:
        """Return the model's name in requests, as `name_of`."""
        return name_of(self.model, self.folder)

    @cached_property
    def _loaded(self) -> Model:
        need_torch()
        return self._load()

    def _load(self) -> Model:
        raise NotImplementedError

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Callable[[Request], Awaitable[Reply]]]:
        """Return an async context manager that gives the coroutine function `answer(request)`."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "lmjudge-model") as worker:
            loaded = await loop.run_in_executor(worker, lambda: self._loaded)
            batcher = Batcher(loaded, self.batch_size, worker)
            task = loop.create_task(batcher.run())
            try:
                yield batcher.answer
            finally:
                batcher.stop.set()
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


class Batcher:
    """Batch the waiting requests by length, and return each reply to its request."""

    def __init__(self, loaded: Model, size: int, worker: ThreadPoolExecutor) -> None:
        self.loaded, self.size, self.worker = loaded, size, worker
        self.waiting: list[Job] = []
        self.wake, self.stop = asyncio.Event(), threading.Event()
        self.loop = asyncio.get_running_loop()

    async def answer(self, request: Request) -> Reply:
        """Return the reply to a request, once the model has generated it."""
        job = self.loaded.job(request, self.loop.create_future())
        self.waiting.append(job)
        self.wake.set()
        return await job.reply

    async def run(self) -> None:
        """Answer what waits, batch after batch, until cancelled.

        The longest come first, so that what is short of memory is so at the start. What arrives
        meanwhile waits for the next round: it would share a batch with others' shortest.
        """
        while True:
            await self.wake.wait()
            await asyncio.sleep(0.002)  # all that came together is then here
            self.wake.clear()
            jobs, self.waiting = self.waiting, []
            jobs.sort(key=lambda job: (job.longest, len(job.ids)), reverse=True)
            for first in range(0, len(jobs), self.size):
                batch = [job for job in jobs[first : first + self.size] if not job.reply.done()]
                if batch:
                    await self._answer(batch)

    async def _answer(self, batch: list[Job]) -> None:
        replies: Sequence[Reply | Exception]
        try:
            replies = await self.loop.run_in_executor(
                self.worker, self.loaded.generate, batch, self.stop
            )
        except Exception as error:
            replies = [error] * len(batch)
        for job, reply in zip(batch, replies, strict=True):
            _settle(job, reply)


def _settle(job: Job, reply: Reply | Exception) -> None:
    if job.reply.done():
        return
    if isinstance(reply, Exception):
        job.reply.set_exception(reply)
    else:
        job.reply.set_result(reply)
