"""A reward model, or a classifier as a judge, in memory: encode texts and score batches.

Heavy to import: only an open session of a reward endpoint, and training, import it.
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

from lmjudge.endpoints.checkpoints import READING, Job, loading_errors, longest_of, without_bars
from lmjudge.errors import EndpointError, EndpointStopped, RequestFailed
from lmjudge.records import Reply, Request

# The classes of a judge that is a classifier, in the order of its outputs.
VERDICTS = ("[[A]]", "[[B]]", "[[C]]")


def encode(tokenizer: Any, prompt: str, response: str, longest: int) -> tuple[list[int], int]:
    """Return the tokens of a prompt and its response, and the number of tokens cut off.

    A chat template is used where the tokenizer has one, else the prompt, an empty line, the
    response and the end of the text. Too long a text loses the beginning of its prompt, but for the
    token that an encoder such as BERT reads its verdict from; only a response that is too long
    alone loses its end.
    """
    start: list[int] = []
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        before = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        text = tokenizer.apply_chat_template(
            [*messages, {"role": "assistant", "content": response}], tokenize=False
        )
        after = text[len(before) :] if text.startswith(before) else response
        first, last = (
            tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            for text in (before, after)
        )
    else:
        first = tokenizer(f"{prompt}\n\n", verbose=False)["input_ids"]
        ends = [
            tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        ]
        if first[-1:] == ends:
            first = first[:-1]
        if first[:1] == [tokenizer.cls_token_id]:
            start, first = first[:1], first[1:]
        last = tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"] + ends
    room = longest - len(start)
    cut = max(0, len(first) + len(last) - room)
    if len(last) >= room:
        return start + last[:room], cut
    return start + first[max(0, len(first) - (room - len(last))) :] + last, cut


class Scorer:
    """A sequence classifier and its tokenizer in memory: one output, or the three VERDICTS."""

    def __init__(self, name: str, folder: Path, *, device: str | None, dtype: str | None) -> None:
        self.name = name
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **READING)
            with without_bars():
                model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
                    folder, **READING, use_safetensors=True, dtype=getattr(torch, dtype)
                )
        except loading_errors() as error:
            raise EndpointError(
                f"cannot load {folder} as a reward model ({error}); expected a sequence"
                " classifier in transformers' format with safetensors",
                name="model",
            ) from error
        if model.config.num_labels not in (1, len(VERDICTS)):
            raise EndpointError(
                f"the model in {folder} has {model.config.num_labels} outputs; a reward model has"
                " one, a judge that is a classifier three",
                name="model",
            )
        self.model = model.to(device).eval()
        self.kind = "reward" if model.config.num_labels == 1 else "chat"
        self.longest = longest_of(model, self.tokenizer)
        self.made_by = (
            f"transformers {transformers.__version__}, torch {torch.__version__}, {dtype}"
        )

    def job(self, request: Request, reply: asyncio.Future[Reply]) -> Job:
        """Return the request as tokens; EndpointStopped for another model or kind."""
        if (request.kind, request.model) != (self.kind, self.name):
            raise EndpointStopped(
                f"found a request of kind {request.kind!r} for the model {request.model!r}; this"
                f" endpoint answers {self.kind!r} as {self.name!r}",
                reason="bad_request",
                status=None,
            )
        texts = [str(message["content"]) for message in request.messages]
        if self.kind == "reward":
            ids, cut = encode(self.tokenizer, "\n\n".join(texts[:-1]), texts[-1], self.longest)
        else:
            ids, cut = encode(self.tokenizer, "\n\n".join(texts), "", self.longest)
        return Job(ids, 0, {"truncated_tokens": cut}, request.sample, reply)

    def generate(self, batch: list[Job], stop: threading.Event) -> list[Reply | RequestFailed]:
        """Return the rewards or verdicts of a batch. Out of memory, score its halves."""
        begun = time.monotonic()
        padded = self.tokenizer.pad(
            {"input_ids": [job.ids for job in batch]}, padding=True, return_tensors="pt"
        ).to(self.model.device)
        try:
            with torch.inference_mode():
                logits = self.model(**padded).logits.float().cpu()
        except torch.OutOfMemoryError as error:
            if len(batch) > 1:
                half = len(batch) // 2
                return self.generate(batch[:half], stop) + self.generate(batch[half:], stop)
            message = f"memory does not hold {len(batch[0].ids):,} tokens ({str(error)[:200]})"
            return [RequestFailed(message, reason="out_of_memory", status=None, attempts=1)]
        took = time.monotonic() - begun
        return [
            Reply(
                **self._fields(row),
                finish_reason="stop",
                usage={"prompt_tokens": len(job.ids), **job.params},
                model=self.name,
                fingerprint=self.made_by,
                created=time.time(),
                latency=took,
            )
            for job, row in zip(batch, logits, strict=True)
        ]

    def _fields(self, row: torch.Tensor) -> Mapping[str, Any]:
        if self.kind == "reward":
            return {"text": f"{float(row[0]):.6g}"}
        odds = torch.log_softmax(row, dim=-1).tolist()
        order = sorted(zip(odds, VERDICTS, strict=True), reverse=True)
        ranked = [{"token": verdict, "logprob": round(logprob, 6)} for logprob, verdict in order]
        return {
            "text": ranked[0]["token"],
            "logprobs": {"content": [ranked[0] | {"top_logprobs": ranked}]},
        }
