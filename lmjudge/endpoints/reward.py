"""A reward model, or a judge that is a classifier, on this machine: an endpoint for the store."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmjudge.endpoints.batching import Model, OnThisMachine


@dataclass(frozen=True)
class RewardEndpoint(OnThisMachine):
    """Scores texts by a sequence classifier on this machine, batches of like length at a time.

    With one output it is a reward model and answers requests of kind "reward": the messages are
    the prompt and, last, the response, and the reply's text is the reward. With three it is a judge
    and answers chat requests by [[A]], [[B]] or [[C]], with the three log-probabilities. `model` is
    a folder in transformers' format (safetensors only) or a hub id with its `revision`; requests
    name it as `.name` does, with the digest of its files or the hub's commit. What is longer than
    the model reads loses its beginning, and `usage` counts the tokens lost.

    Raises EndpointError for a model that cannot be loaded, EndpointStopped for requests of another.
    """

    batch_size: int = field(default=32, kw_only=True)

    @property
    def concurrency(self) -> int:
        """Requests taken at a time: many batches, so that like lengths find each other."""
        return 32 * self.batch_size

    def _load(self) -> Model:
        from lmjudge.endpoints.scorer import Scorer

        return Scorer(self.name, self.folder, device=self.device, dtype=self.dtype)
