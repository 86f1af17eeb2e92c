"""Endpoints that run a model on this machine: one answers and judges, one gives rewards."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmjudge.endpoints.checkpoints import Model, OnThisMachine


@dataclass(frozen=True)
class LocalEndpoint(OnThisMachine):
    """Answers chat requests by a causal language model on this machine, greedily or sampled.

    `model` is a folder in transformers' format (safetensors only, nothing in it is run) or a hub
    id, with its `revision`. Requests name the model as `.name` does: with the digest of its files,
    or the hub's commit, so that the key tells one checkpoint from another. `batch_size` answers of
    like length are generated at a time; a server such as vLLM is faster where replies end at very
    different lengths. `device` and `dtype` are by default a GPU in bfloat16 where there is one,
    else the CPU in float32; `device_map="auto"`
    spreads the model over several GPUs. `chat_template` replaces the tokenizer's; it is not part of
    `.name`, so give requests under another template another `provider`.

    Params understood: temperature, top_p, max_tokens or max_completion_tokens, seed, logprobs,
    top_logprobs. Raises EndpointError for a model that cannot be loaded, EndpointStopped for
    requests of another model or with other params; answering raises RequestFailed
    (context_length, out_of_memory).
    """

    device_map: str | None = field(default=None, kw_only=True)
    chat_template: str | None = field(default=None, kw_only=True, repr=False)

    @property
    def concurrency(self) -> int:
        """Return how many requests it takes at a time: several batches, to group equal lengths."""
        return 8 * self.batch_size

    def _load(self) -> Model:
        from lmjudge.endpoints.causal import Loaded

        return Loaded(
            self.name,
            self.folder,
            device=self.device,
            device_map=self.device_map,
            dtype=self.dtype,
            chat_template=self.chat_template,
        )


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
        """Return how many requests it takes at a time: many batches, to group equal lengths."""
        return 32 * self.batch_size

    def _load(self) -> Model:
        from lmjudge.endpoints.scorer import Scorer

        return Scorer(self.name, self.folder, device=self.device, dtype=self.dtype)
