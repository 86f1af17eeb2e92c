"""Rows of text in the making, side by side: each ends by itself, and another takes its place.

A batch that is generated as a whole runs until its longest reply ends. Here a row that has ended is
dropped, and what waits is read in beside the others: what the model remembers of each (keys and
values, a padded tensor a layer) is cut and joined to fit. Draws are exact samples that depend on
the request alone: each row has a random generator of its own, and adds its Gumbel noise to the
logits (the Gumbel-max trick; Maddison, Tarlow and Minka 2014) before the greatest is taken.
"""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache, LogitsProcessor, TopPLogitsWarper

from lmjudge.endpoints.batching import Job


class Draw:
    """Turns the logits of a row so that the greatest is its draw.

    Temperature 0 (or none) leaves them as they are; else they are divided by it, cut to the nucleus
    `top_p`, and added to Gumbel noise whose generator starts from the seed and the sample alone.
    """

    def __init__(self, params: Mapping[str, Any], sample: int, device: torch.device) -> None:
        self.temperature = float(params.get("temperature", 1.0) or 0.0)
        self.top_p = float(params.get("top_p", 1.0))
        named = f"{params.get('seed', 0)}:{sample}".encode()
        start = int.from_bytes(hashlib.sha256(named).digest()[:7])
        self.generator = torch.Generator(device).manual_seed(start)

    def of(self, scores: torch.Tensor) -> torch.Tensor:
        """The scores of the row, by what its draw is the greatest of."""
        if not self.temperature > 0:
            return scores
        row = scores[None] / self.temperature
        if self.top_p < 1:
            row = TopPLogitsWarper(self.top_p)(row, row)
        uniform = torch.rand(row.shape, generator=self.generator, device=row.device)
        return (row - torch.log(-torch.log(uniform.clamp_min(1e-38))))[0]


class Draws(LogitsProcessor):
    """The draws of the rows of a batch, each (params, sample), for transformers' generate."""

    def __init__(self, rows: Sequence[tuple[Mapping[str, Any], int]], device: torch.device) -> None:
        self.rows = [Draw(params, sample, device) for params, sample in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores, each sampled row's replaced by what its draw is the greatest of."""
        return torch.stack([d.of(row) for d, row in zip(self.rows, scores.float(), strict=True)])


class Row:
    """A reply in the making: its tokens so far, and what was told of each where that is asked."""

    def __init__(self, job: Job, device: torch.device) -> None:
        self.job, self.begun = job, time.monotonic()
        self.draw = Draw(job.params, job.sample, device)
        self.tokens: list[int] = []
        self.told: list[Any] = []


class Rows:
    """The rows that a model works on, and what it remembers of them.

    `odds(logits, token, params)` tells what is to be told of a token.
    """

    def __init__(self, model: Any, pad: int, ends: Sequence[int], odds: Any) -> None:
        self.model, self.pad, self.ends, self.odds = model, pad, set(ends), odds
        self.device = model.device
        self.rows: list[Row] = []
        self.cache = DynamicCache()
        self.mask = torch.zeros((0, 0), dtype=torch.long, device=self.device)
        known = inspect.signature(model.forward).parameters
        self.last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.placed = "position_ids" in known

    def join(self, jobs: Sequence[Job]) -> None:
        """Read prompts in beside the rows that are there, and take the first token of each."""
        width = max(len(job.ids) for job in jobs)
        ids = [[self.pad] * (width - len(job.ids)) + job.ids for job in jobs]
        lengths = torch.tensor([[len(job.ids)] for job in jobs], device=self.device)
        mask = (torch.arange(width, device=self.device)[None] >= width - lengths).long()
        cache, new = DynamicCache(), [Row(job, self.device) for job in jobs]
        logits = self._forward(torch.tensor(ids, device=self.device), mask, cache)
        if self.rows:
            both = max(width, self.mask.shape[1])
            for layer, other in zip(self.cache.layers, cache.layers, strict=True):
                for name in ("keys", "values"):
                    parts = [_widened(getattr(one, name), both) for one in (layer, other)]
                    setattr(layer, name, torch.cat(parts))
            parts = [_widened(one[..., None], both)[..., 0] for one in (self.mask, mask)]
            self.mask = torch.cat(parts)
        else:
            self.cache, self.mask = cache, mask
        self.rows += new
        self._take(new, logits)

    def step(self) -> None:
        """Take the next token of every row."""
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self.device)
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.rows), 1))], dim=1)
        self._take(self.rows, self._forward(ids, self.mask, self.cache))

    def ended(self) -> list[Row]:
        """The rows that have ended, which are dropped."""
        over = [
            row.tokens[-1] in self.ends or len(row.tokens) >= row.job.longest for row in self.rows
        ]
        gone = [row for row, end in zip(self.rows, over, strict=True) if end]
        if gone:
            self.rows = [row for row, end in zip(self.rows, over, strict=True) if not end]
            stay = [at for at, end in enumerate(over) if not end]
            left = torch.tensor(stay, dtype=torch.long, device=self.device)
            self.mask = self.mask[left]
            cut = int(self.mask.argmax(dim=1).min()) if self.rows else 0
            self.mask = self.mask[:, cut:]
            for layer in self.cache.layers:
                for name in ("keys", "values"):
                    held = getattr(layer, name)
                    setattr(layer, name, held[left.to(held.device), :, cut:])
        return gone

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> torch.Tensor:
        places = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        with torch.inference_mode():
            made = self.model(
                input_ids=ids,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                **self.last,
                **({"position_ids": places} if self.placed else {}),
            )
        return made.logits[:, -1].to(self.device).float()

    def _take(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        scores = torch.stack([row.draw.of(one) for row, one in zip(rows, logits, strict=True)])
        for at, (row, token) in enumerate(zip(rows, scores.argmax(dim=-1).tolist(), strict=True)):
            row.tokens.append(token)
            if row.job.params.get("logprobs"):
                row.told.append(self.odds(logits[at], token, row.job.params))


def _widened(held: torch.Tensor, width: int) -> torch.Tensor:
    """What is held of rows, its last dimension but one filled up with zeros on the left."""
    return torch.nn.functional.pad(held, (0, 0, width - held.shape[-2], 0))
