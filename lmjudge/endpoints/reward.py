"""A reward model, or a judge that is a classifier, on this machine: an endpoint for the store."""

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
    from lmjudge.endpoints.scorer import Scorer


@dataclass(frozen=True)
class RewardEndpoint:
    """Scores texts by a sequence classifier on this machine, batches of like length at a time.

    With one output it is a reward model and answers requests of kind "reward": the messages are
    the prompt and, last, the response, and the reply's text is the reward. With three it is a judge
    and answers chat requests by [[A]], [[B]] or [[C]], with the three log-probabilities. `model` is
    a folder in transformers' format (safetensors only) or a hub id with its `revision`; requests
    name it as `.name` does, with the digest of its files or the hub's commit. What is longer than
    the model reads loses its beginning, and `usage` counts the tokens lost.

    Raises EndpointError for a model that cannot be loaded, EndpointStopped for requests of another.
    """

    model: str | os.PathLike[str]
    revision: str | None = field(default=None, kw_only=True)
    batch_size: int = field(default=32, kw_only=True)
    device: str | None = field(default=None, kw_only=True)
    dtype: str | None = field(default=None, kw_only=True)
    network: ClassVar[bool] = False

    @property
    def concurrency(self) -> int:
        """Requests taken at a time: many batches, so that like lengths find each other."""
        return 32 * self.batch_size

    @cached_property
    def folder(self) -> Path:
        """Where the model's files lie; a hub's are fetched, unless LMJUDGE_OFFLINE=1."""
        return folder_of(self.model, self.revision)

    @cached_property
    def name(self) -> str:
        """The model's name in requests: of a folder its name and digest, of a hub id its commit."""
        return name_of(self.model, self.folder)

    @cached_property
    def _loaded(self) -> Scorer:
        need_torch()
        from lmjudge.endpoints.scorer import Scorer

        return Scorer(self.name, self.folder, device=self.device, dtype=self.dtype)

    def session(self) -> AbstractAsyncContextManager[Callable[[Request], Awaitable[Reply]]]:
        """An async context manager that gives the coroutine function `answer(request)`."""
        return batched(lambda: self._loaded, self.batch_size)
