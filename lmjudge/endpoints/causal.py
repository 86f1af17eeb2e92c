"""A causal language model in memory: encode requests, generate in batches, and read replies.

Heavy to import: only an open session of a local endpoint imports it. Draws are exact samples that
depend on the request alone: each row of a batch has its own random generator and adds its own
Gumbel noise to the logits before the maximum is taken (the Gumbel-max trick; Maddison, Tarlow and
Minka 2014).
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
from lmjudge.endpoints.checkpoints import READING, Job, loading_errors, without_bars
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
        """Return the scores of a row, with the noise of its draw."""
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
        """Return the scores, with the noise of the draw in each sampled row."""
        return torch.stack([d.of(row) for d, row in zip(self.rows, scores.float(), strict=True)])


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
        self.context = getattr(config, "max_position_embeddings", None) or 1_000_000
        self.made_by = (
            f"transformers {transformers.__version__}, torch {torch.__version__}, {dtype}"
        )

    def job(self, request: Request, reply: asyncio.Future[Reply]) -> Job:
        """Return the request as tokens; EndpointStopped or RequestFailed if it has no answer."""
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
        limit = params.get("max_tokens", params.get("max_completion_tokens", 1024))
        room = self.context - len(ids)
        if room < 1:
            raise RequestFailed(
                f"the prompt has {len(ids):,} tokens and the model's context {self.context:,};"
                " shorten it, or take a model of a longer context",
                reason="context_length",
                status=None,
                attempts=1,
            )
        return Job(ids, min(int(limit), room), params, request.sample, reply)

    def generate(self, batch: list[Job], stop: threading.Event) -> list[Reply | RequestFailed]:
        """Return the replies to a batch. Out of memory, generate its halves."""
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
            output = self.model.generate(
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
        new = output.sequences[:, width:].tolist()
        return [
            self._reply(
                job,
                new[at],
                took,
                [
                    self._odds(step[at].float(), token, job.params)
                    for step, token in zip(output.logits, new[at], strict=False)
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
        """Return log-probabilities of a token and its rivals, in the form of OpenAI's servers."""
        odds = torch.log_softmax(logits, dim=-1)
        best = torch.topk(odds, int(params.get("top_logprobs", 0)))
        rivals = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        top = [self._logprob(rival, odd) for rival, odd in rivals]
        return self._logprob(token, float(odds[token])) | {"top_logprobs": top}

    def _logprob(self, token: int, odds: float) -> dict[str, Any]:
        return {"token": clean_text(self.tokenizer.decode([token])), "logprob": max(odds, -9999.0)}


class Stop(StoppingCriteria):
    """Ends each row of a batch at its own bound, and all of them once an event is set."""

    def __init__(self, batch: list[Job], width: int, event: threading.Event) -> None:
        self.bounds, self.event = [width + job.longest for job in batch], event

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return whether each row is done."""
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
