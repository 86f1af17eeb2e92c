"""A causal language model in memory: requests as tokens, batches generated, replies read.

Heavy to import: only an open session of a local endpoint imports it. Rows end by themselves and
others take their places (`rows`), but for models that remember more than keys and values (state
space models, convolutions, their hybrids): these transformers' own `generate` runs, by batches.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lmjudge.canonical import clean_text
from lmjudge.endpoints.batching import Give, Job, Take, in_batches
from lmjudge.endpoints.checkpoints import READING, loading_errors, without_bars
from lmjudge.endpoints.rows import Draws, Rows
from lmjudge.errors import EndpointError, EndpointStopped, RequestFailed
from lmjudge.records import Reply, Request

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
