"""A causal language model in memory: requests as tokens, batches generated, replies read.

Heavy to import: only an open session of a local endpoint imports it. Draws are exact samples that
depend on the request alone, not on the batch it happened to be in: each row has a random generator
of its own, and adds its Gumbel noise to the logits (the Gumbel-max trick; Maddison, Tarlow and
Minka 2014) before the greatest is taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    TopPLogitsWarper,
)

from lmjudge.canonical import clean_text
from lmjudge.endpoints.batching import Job
from lmjudge.endpoints.checkpoints import loading_errors, without_bars
from lmjudge.errors import EndpointError, EndpointStopped, RequestFailed
from lmjudge.records import Reply, Request

_KNOWN = {
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "logprobs",
    "top_logprobs",
}


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
                folder, local_files_only=True, padding_side="left"
            )
            with without_bars():
                model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                    folder,
                    local_files_only=True,
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

    def generate(self, batch: list[Job], stop: threading.Event) -> list[Reply | RequestFailed]:
        """The replies to a batch; out of memory, those to its halves."""
        try:
            return list(self._generate(batch, stop))
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                return [
                    RequestFailed(
                        f"memory does not hold {len(batch[0].ids):,} tokens and their reply"
                        f" ({str(error)[:200]}); take a shorter max_tokens or another device",
                        reason="out_of_memory",
                        status=None,
                        attempts=1,
                    )
                ]
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
                    max_new_tokens=batch[0].longest,
                    eos_token_id=self.ends,
                    pad_token_id=self.pad,
                    return_dict_in_generate=True,
                    output_logits=wants,
                ),
                logits_processor=[Draws([(job.params, job.sample) for job in batch], device)],
                stopping_criteria=StoppingCriteriaList([Stop(stop)]),
            )
        took = time.monotonic() - begun
        new = made.sequences[:, width:].cpu()
        return [
            self._reply(job, new[at].tolist(), took, self._logprobs(job, at, made.logits, new[at]))
            for at, job in enumerate(batch)
        ]

    def _reply(self, job: Job, new: list[int], took: float, logprobs: Any) -> Reply:
        ended = next((at for at, token in enumerate(new) if token in self.ends), None)
        kept = new[: job.longest] if ended is None else new[:ended]
        return Reply(
            text=clean_text(self.tokenizer.decode(kept, skip_special_tokens=True)),
            finish_reason="length" if ended is None else "stop",
            logprobs=None if logprobs is None else {"content": logprobs[: len(kept)]},
            usage={"prompt_tokens": len(job.ids), "completion_tokens": len(kept)},
            model=self.name,
            fingerprint=self.made_by,
            created=time.time(),
            latency=took,
        )

    def _logprobs(self, job: Job, at: int, logits: Any, new: torch.Tensor) -> Any:
        """Each token's log-probability and its likeliest rivals', as OpenAI's servers give them."""
        if not job.params.get("logprobs"):
            return None
        content = []
        for step, token in zip(logits, new, strict=False):
            odds = torch.log_softmax(step[at].float(), dim=-1)
            best = torch.topk(odds, int(job.params.get("top_logprobs", 0)))
            content.append(
                self._told(int(token), float(odds[token]))
                | {
                    "top_logprobs": [
                        self._told(int(one), float(odd))
                        for odd, one in zip(best.values, best.indices, strict=True)
                    ]
                }
            )
        return content

    def _told(self, token: int, odds: float) -> dict[str, Any]:
        return {"token": clean_text(self.tokenizer.decode([token])), "logprob": max(odds, -9999.0)}


class Draws(LogitsProcessor):
    """Turns logits so that the greatest in each row is that row's draw.

    A row is (params, sample): temperature 0 (or none) leaves its logits as they are; else they are
    divided by it, cut to the nucleus `top_p`, and added to Gumbel noise whose generator starts from
    the row's seed and sample alone.
    """

    def __init__(self, rows: Sequence[tuple[Mapping[str, Any], int]], device: torch.device) -> None:
        self.rows = []
        for at, (params, sample) in enumerate(rows):
            temperature = float(params.get("temperature", 1.0) or 0.0)
            if temperature > 0:
                named = f"{params.get('seed', 0)}:{sample}".encode()
                start = int.from_bytes(hashlib.sha256(named).digest()[:7])
                generator = torch.Generator(device).manual_seed(start)
                top_p = float(params.get("top_p", 1.0))
                self.rows.append((at, temperature, top_p, generator))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores, each sampled row's replaced by what its draw is the greatest of."""
        scores = scores.float().clone()
        for at, temperature, top_p, generator in self.rows:
            row = scores[at : at + 1] / temperature
            if top_p < 1:
                row = TopPLogitsWarper(top_p)(input_ids[at : at + 1], row)
            uniform = torch.rand(row.shape, generator=generator, device=row.device)
            scores[at] = (row - torch.log(-torch.log(uniform.clamp_min(1e-38))))[0]
        return scores


class Stop(StoppingCriteria):
    """Ends a generation between two tokens, once an event is set."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Whether each row is done."""
        return torch.full((len(input_ids),), self.event.is_set(), device=input_ids.device)
