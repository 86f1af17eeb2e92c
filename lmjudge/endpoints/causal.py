"""A causal language model in memory: requests as tokens, rows generated side by side, replies read.

Heavy to import: only an open session of a local endpoint imports it. A batch that is generated as a
whole runs until its longest reply ends. Here a row that has ended is dropped, and what waits is
read in beside the others: what the model remembers of each (keys and values, a padded tensor a
layer) is cut and joined to fit. Models that remember more than that (state space models,
convolutions, their hybrids) run transformers' own `generate`, by batches. Draws are exact samples
that depend on the request alone: each row has a random generator of its own, and adds its Gumbel
noise to the logits (the Gumbel-max trick; Maddison, Tarlow and Minka 2014) before the greatest is
taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lmjudge.canonical import clean_text
from lmjudge.endpoints.checkpoints import (
    READING,
    Give,
    Job,
    Take,
    in_batches,
    loading_errors,
    without_bars,
)
from lmjudge.errors import EndpointError, EndpointStopped, RequestFailed
from lmjudge.records import Reply, Request


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


_KNOWN = set(
    "temperature top_p max_tokens max_completion_tokens seed logprobs top_logprobs".split()
)


class Loaded:
    """A model and its tokenizer in memory."""

    tokenizer: Any
    model: Any

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        device: str | None = None,
        device_map: str | None = None,
        dtype: str | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.name = name
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, **READING, padding_side="left"
            )
            with without_bars():
                model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                    folder,
                    **READING,
                    use_safetensors=True,
                    dtype=getattr(torch, dtype),
                    device_map=device_map,
                )
        except loading_errors() as error:
            raise EndpointError(
                f"{folder} cannot be loaded as a language model ({error}); expected transformers'"
                " format with safetensors, and a dtype such as float32",
                name="model",
            ) from error
        self.model = (model if device_map else model.to(device)).eval()
        if chat_template:
            self.tokenizer.chat_template = chat_template
        if not self.tokenizer.chat_template:
            raise EndpointError(
                f"the tokenizer of {folder} has no chat template; give one as chat_template",
                name="chat_template",
            )
        ends = self.model.generation_config.eos_token_id
        self.ends = [ends] if isinstance(ends, int) else list(ends or [self.tokenizer.eos_token_id])
        pad = self.tokenizer.pad_token_id
        self.pad = self.ends[0] if pad is None else pad
        config = self.model.config.get_text_config()
        kept = transformers.DynamicCache(config=config).layers
        self.by_rows = all(
            type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in kept
        )
        self.context = getattr(config, "max_position_embeddings", None) or 1_000_000
        self.made_by = (
            f"transformers {transformers.__version__}, torch {torch.__version__}, {dtype}"
        )

    def job(self, request: Request, reply: asyncio.Future[Reply]) -> Job:
        """The request in tokens; EndpointStopped, RequestFailed where it cannot be answered."""
        params = dict(request.params)
        problem = None
        if request.kind != "chat":
            problem = f"a request of kind {request.kind!r}; this endpoint answers 'chat'"
        elif request.api is not None:
            problem = f"a request to the API {request.api!r}; this endpoint answers OpenAI's chat"
        elif request.model != self.name:
            problem = f"the model {request.model!r}; this endpoint answers as {self.name!r}"
        elif params.keys() - _KNOWN:
            problem = f"the params {sorted(params.keys() - _KNOWN)}; known are {sorted(_KNOWN)}"
        if problem:
            raise EndpointStopped(f"found {problem}", reason="bad_request", status=None)
        text = self.tokenizer.apply_chat_template(
            [dict(message) for message in request.messages],
            tokenize=False,
            add_generation_prompt=True,
        )
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        asked = params.get("max_tokens", params.get("max_completion_tokens", 1024))
        room = self.context - len(ids)
        if room < 1:
            raise RequestFailed(
                f"the prompt has {len(ids):,} tokens and the model's context {self.context:,};"
                " shorten it, or take a model of a longer context",
                reason="context_length",
                status=None,
                attempts=1,
            )
        return Job(ids, min(int(asked), room), params, request.sample, reply)

    def work(self, size: int, take: Take, give: Give, stop: threading.Event) -> None:
        """Answer what waits: as a row ends, the next is read in; out of memory, fewer at a time."""
        if not self.by_rows:
            in_batches(self.generate, size, take, give, stop)
            return
        rows, again = Rows(self.model, self.pad, self.ends, self._odds), list[Job]()
        new: list[Job] = []
        while not stop.is_set():
            try:
                free = size - len(rows.rows)
                # Reading one prompt takes about as long as a step of all rows: a few at a time.
                if not rows.rows or 4 * free >= size:
                    new, again = again[:free], again[free:]
                    new += take(free - len(new))
                if new:
                    rows.join(new)
                    new = []
                elif rows.rows:
                    rows.step()
                else:
                    return
            except torch.OutOfMemoryError as error:
                tried = [row.job for row in rows.rows] + new
                rows = Rows(self.model, self.pad, self.ends, self._odds)
                new = []
                if size == 1:
                    give(tried.pop(), _out_of_memory(error))
                again = tried + again
                size = max(size // 2, 1)
            for row in rows.ended():
                took = time.monotonic() - row.begun
                told = row.told if row.job.params.get("logprobs") else None
                give(row.job, self._reply(row.job, row.tokens, took, told))

    def generate(self, batch: list[Job], stop: threading.Event) -> list[Reply | RequestFailed]:
        """The replies to a batch, by transformers' generate; out of memory, those to its halves."""
        try:
            return list(self._generate(batch, stop))
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                return [_out_of_memory(error)]
        half = len(batch) // 2
        return self.generate(batch[:half], stop) + self.generate(batch[half:], stop)

    def _generate(self, batch: list[Job], stop: threading.Event) -> list[Reply]:
        begun, width = time.monotonic(), max(len(job.ids) for job in batch)
        device = self.model.device
        rows = [[self.pad] * (width - len(job.ids)) + job.ids for job in batch]
        ids = torch.tensor(rows, device=device)
        lengths = torch.tensor([[len(job.ids)] for job in batch], device=device)
        mask = (torch.arange(width, device=device)[None] >= width - lengths).long()
        wants = any(job.params.get("logprobs") for job in batch)
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=max(job.longest for job in batch),
                    eos_token_id=self.ends,
                    pad_token_id=self.pad,
                    return_dict_in_generate=True,
                    output_logits=wants,
                ),
                logits_processor=[Draws([(job.params, job.sample) for job in batch], device)],
                stopping_criteria=StoppingCriteriaList([Stop(batch, width, stop)]),
            )
        took = time.monotonic() - begun
        new = made.sequences[:, width:].tolist()
        return [
            self._reply(
                job,
                new[at],
                took,
                [
                    self._odds(step[at].float(), token, job.params)
                    for step, token in zip(made.logits, new[at], strict=False)
                ]
                if job.params.get("logprobs")
                else None,
            )
            for at, job in enumerate(batch)
        ]

    def _reply(self, job: Job, new: list[int], took: float, logprobs: Any) -> Reply:
        ended = next((at for at, token in enumerate(new) if token in self.ends), None)
        kept = new[: job.longest] if ended is None else new[: min(ended, job.longest)]
        return Reply(
            text=clean_text(self.tokenizer.decode(kept, skip_special_tokens=True)),
            finish_reason="stop" if ended is not None and ended < job.longest else "length",
            logprobs=None if logprobs is None else {"content": logprobs[: len(kept)]},
            usage={"prompt_tokens": len(job.ids), "completion_tokens": len(kept)},
            model=self.name,
            fingerprint=self.made_by,
            created=time.time(),
            latency=took,
        )

    def _odds(self, logits: torch.Tensor, token: int, params: Mapping[str, Any]) -> dict[str, Any]:
        """A token's log-probability and its likeliest rivals', as OpenAI's servers give them."""
        odds = torch.log_softmax(logits, dim=-1)
        best = torch.topk(odds, int(params.get("top_logprobs", 0)))
        rivals = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        told = {"top_logprobs": [self._told(one, odd) for one, odd in rivals]}
        return self._told(token, float(odds[token])) | told

    def _told(self, token: int, odds: float) -> dict[str, Any]:
        return {"token": clean_text(self.tokenizer.decode([token])), "logprob": max(odds, -9999.0)}


class Stop(StoppingCriteria):
    """Ends each row of a batch at its own bound, and all of them once an event is set."""

    def __init__(self, batch: list[Job], width: int, event: threading.Event) -> None:
        self.bounds, self.event = [width + job.longest for job in batch], event

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Whether each row is done."""
        done = [self.event.is_set() or input_ids.shape[1] >= bound for bound in self.bounds]
        return torch.tensor(done, device=input_ids.device)


def _out_of_memory(error: BaseException) -> RequestFailed:
    return RequestFailed(
        f"memory does not hold a prompt and its reply ({str(error)[:200]}); take a shorter"
        " max_tokens or another device",
        reason="out_of_memory",
        status=None,
        attempts=1,
    )
