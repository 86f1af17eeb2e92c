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
    """Fine-tune a causal language model on conversations; serve it with `LocalEndpoint(out)`.

    - `lineup`: one conversation a row, the turns of a question and of its answer (see `line_up`).
    - `base`: a folder or hub id in transformers' format. A base without a chat template gets one of
      lmjudge's, which is saved with the model.
    - `out`: the folder of the trained model.
    - `held_out`: a lineup on other questions, for evaluation.
    - `longest`: the most tokens of a training example (default: the model's context; Vicuna used
      2048). A longer conversation is split between exchanges. A single exchange that is too long
      loses its end, and `truncated` counts it.
    - `attention`: as in transformers ("sdpa", "flash_attention_2").
    - `lora`: the rank of LoRA adapters to train instead of the weights; merged when saved.
    - `options`: as in `fit`; use checkpointing=True for long conversations.

    The loss covers only the assistant's tokens and the mark that ends its turn. `excluded` counts
    exchanges without an answer, and those whose answer would be cut off entirely.

    Raises TrainingError for questions that are in both lineups, and if no example remains.

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
    """Return conversations as tokens, the number of exchanges cut, and those left out by reason.

    Each item has `ids` and `said`, of at most `longest` tokens. `said` is 1 for the assistant's
    tokens and 0 for the others.
    """
    check(lineup, "lineup")
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE
    items: list[Item] = []
    cut = 0
    excluded = {"no answer": 0, "no room for an answer": 0}
    for question, answer in zip(lineup["question"], lineup["answer"], strict=True):
        exchanges = list(zip(question, answer, strict=False))
        complete = [
            exchange
            for exchange in exchanges
            if all(isinstance(text, str) and text for text in exchange)
        ]
        excluded["no answer"] += len(exchanges) - len(complete)
        for part in _parts(complete, tokenizer, longest):
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
    """Return the tokens of a conversation, and for each token 1 if it is the assistant's, else 0.

    The assistant's tokens include the mark that ends its turn, and a token that joins the
    template's last space to the answer's first word. Raises FrameError for a chat template that
    changes the text before an answer when it adds the answer.
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
                "the tokenizer's chat template changes the text before an answer when it adds the"
                " answer; use a tokenizer whose template appends it",
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
    """Split the exchanges into parts of at most `longest` tokens; a longer exchange is one part."""
    parts: list[list[tuple[str, str]]] = []
    for exchange in exchanges:
        if parts and len(tokens_said(tokenizer, [*parts[-1], exchange])[0]) <= longest:
            parts[-1].append(exchange)
        else:
            parts.append([exchange])
    return parts
