"""Fine-tune an answerer: conversations as tokens, with loss on the assistant's tokens only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.endpoints.checkpoints import need_torch
from lmjudge.errors import FrameError, TrainingError
from lmjudge.frames import check
from lmjudge.train.bases import TEMPLATE, open_base
from lmjudge.train.pairs import digest_of
from lmjudge.train.training import Item, Training


def train_answerer(
    lineup: pd.DataFrame,
    *,
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    held_out: pd.DataFrame | None = None,
    longest: int | None = None,
    seed: int = 0,
    attention: str | None = None,
    lora: int | None = None,
    **options: Any,
) -> Training:
    """Return the Training of a causal language model on conversations, for `LocalEndpoint(out)`.

    `lineup` (see `line_up`) has a conversation a row: the turns of its question, and of its answer;
    `held_out` is another, on other questions. The loss is on the tokens that the assistant said,
    and the mark that ends its turn, alone. A conversation that is longer than `longest` tokens (by
    default the model's context; Vicuna's was 2048) is split between two exchanges, and a single
    exchange that is too long loses its end: `truncated` counts those, `excluded` the exchanges
    without an answer, or of whose answer nothing would be left. A base without a chat template gets
    one of our own words, saved with it. `attention` is transformers' ("sdpa", "flash_attention_2"),
    `lora` the rank of adapters that are trained in place of the weights, and merged when saved.
    `options` are those of `fit`, with checkpointing=True for long conversations. Raises
    TrainingError where nothing is left to learn from.

    Source: the Vicuna blog post (2023-03-30), "Training".
    """
    need_torch()
    from lmjudge.train.fitting import fit
    from lmjudge.train.losses import Answering

    if held_out is not None and set(lineup["question_id"]) & set(held_out["question_id"]):
        raise TrainingError(
            "some questions are both trained on and held out; split conversations by question_id",
            folder=Path(out),
        )
    model, tokenizer, most = open_base(
        base, outputs=0, longest=longest, seed=seed, attention=attention, lora=lora
    )
    items, cut, excluded = conversation_items(lineup, tokenizer, most)
    held = [] if held_out is None else conversation_items(held_out, tokenizer, most)[0]
    if not items:
        raise TrainingError(
            f"nothing can be learned from {len(lineup)} conversations (left out: {excluded});"
            " give questions with answers that fit the model's context",
            folder=Path(out),
        )
    digest = digest_of([item["ids"], item["said"]] for item in items)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    metrics = fit(
        Answering, model, tokenizer, items, held, Path(out), seed=seed, digest=digest, **options
    )
    return Training(Path(out), metrics, len(items), len(held), excluded, cut, digest)


def conversation_items(
    lineup: pd.DataFrame, tokenizer: Any, longest: int
) -> tuple[list[Item], int, dict[str, int]]:
    """Return conversations as tokens, and for each token whether the assistant said it.

    Items have `ids` and `said` (1 or 0, one a token), and none is longer than `longest`. The second
    is how many exchanges were cut, the third how many were left out, by reason.
    """
    check(lineup, "lineup")
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
    items: list[Item] = []
    cut = 0
    excluded = {"no answer": 0, "no room for an answer": 0}
    for question, answer in zip(lineup["question"], lineup["answer"], strict=True):
        exchanges = list(zip(question, answer, strict=False))
        kept = [two for two in exchanges if all(isinstance(text, str) and text for text in two)]
        excluded["no answer"] += len(exchanges) - len(kept)
        for part in _parts(kept, tokenizer, longest):
            ids, weights = tokens_said(tokenizer, part)
            cut += len(ids) > longest
            if sum(weights[1:longest]):
                items.append({"ids": ids[:longest], "said": weights[:longest]})
            else:
                excluded["no room for an answer"] += 1
    return items, cut, {why: count for why, count in excluded.items() if count}


def tokens_said(
    tokenizer: Any, exchanges: Sequence[tuple[str, str]]
) -> tuple[list[int], list[int]]:
    """Return the tokens of a conversation, and for each 1 where the assistant said it, else 0.

    What it said ends with the mark that ends its turn. A token that joins the template's last space
    to the answer's first word is the assistant's. Raises FrameError for a chat template under which
    an answer changes what stands before it, so that nothing says where it begins.
    """
    messages: list[dict[str, str]] = []
    spans, text = [], ""
    for asked, answered in exchanges:
        messages.append({"role": "user", "content": asked})
        before = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        messages.append({"role": "assistant", "content": answered})
        grown = tokenizer.apply_chat_template(messages, tokenize=False)
        if not (before.startswith(text) and grown.startswith(before)):
            raise FrameError(
                "the tokenizer's chat template does not add an answer to the end of what stands"
                " before it; give a tokenizer whose template does",
                rows=messages,
            )
        text, end = grown, len(grown)
        if (mark := grown.rfind(tokenizer.eos_token)) >= len(before):
            end = mark + len(tokenizer.eos_token)
        spans.append((len(before), end))
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    weights = [
        int(
            any(
                start < stop <= last and stop > first and not text[start:first].strip()
                for first, last in spans
            )
        )
        for start, stop in coded["offset_mapping"]
    ]
    return list(coded["input_ids"]), weights


def _parts(
    exchanges: list[tuple[str, str]], tokenizer: Any, longest: int
) -> list[list[tuple[str, str]]]:
    """Return the exchanges in as few runs as fit.

    One that does not fit alone is a run of its own.
    """
    parts: list[list[tuple[str, str]]] = []
    for two in exchanges:
        if parts and len(tokens_said(tokenizer, [*parts[-1], two])[0]) <= longest:
            parts[-1].append(two)
        else:
            parts.append([two])
    return parts
