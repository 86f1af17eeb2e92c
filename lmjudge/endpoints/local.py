"""A model on this machine: transformers, chat templates, many replies in the making at a time."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lmjudge.endpoints.batching import batched
from lmjudge.endpoints.checkpoints import folder_of, name_of, need_torch
from lmjudge.records import Reply, Request

if TYPE_CHECKING:
    from lmjudge.endpoints.causal import Loaded


@dataclass(frozen=True)
class LocalEndpoint:
    """Answers chat requests by a causal language model on this machine, greedily or sampled.

    `model` is a folder in transformers' format (safetensors only, nothing in it is run) or a hub
    id, with its `revision`. Requests name the model as `.name` does: with the digest of its files,
    or the hub's commit, so that the key tells one checkpoint from another. `batch_size` answers are
    generated at a time, and as one ends the next takes its place; `device` and `dtype` are by
    default a GPU in bfloat16 where there is one, else the CPU in float32; `device_map="auto"`
    spreads the model over several GPUs. `chat_template` replaces the tokenizer's.

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
        """Requests taken at a time: more than a batch, so that like lengths find each other."""
        return 8 * self.batch_size

    @cached_property
    def folder(self) -> Path:
        """Where the model's files lie; a hub's are fetched, unless LMJUDGE_OFFLINE=1."""
        return folder_of(self.model, self.revision)

    @cached_property
    def name(self) -> str:
        """The model's name in requests: of a folder its name and digest, of a hub id its commit."""
        return name_of(self.model, self.folder)

    @cached_property
    def _loaded(self) -> Loaded:
        need_torch()
        from lmjudge.endpoints.causal import Loaded

        return Loaded(
            self.name,
            self.folder,
            device=self.device,
            device_map=self.device_map,
            dtype=self.dtype,
            chat_template=self.chat_template,
        )

    def session(self) -> AbstractAsyncContextManager[Callable[[Request], Awaitable[Reply]]]:
        """An async context manager that gives the coroutine function `answer(request)`."""
        return batched(lambda: self._loaded, self.batch_size)
