"""Tiny language models, made on the spot: folders that transformers reads; and pairs to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def tiny_tokenizer(texts: list[str] | None = None):  # type: ignore[no-untyped-def]
    """A byte-level tokenizer trained on a few texts, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts or ["a few words, and some more of them"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.chat_template = TEMPLATE
    return fast


def tiny_model(folder: Path, seed: int = 0, context: int = 512, tokenizer: Any = None) -> Path:
    """The folder, with a random Llama of 64 dimensions in it, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = tokenizer or tiny_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=context,
        initializer_range=0.3,  # else every next token is as likely as any other
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_opt(folder: Path, texts: list[str] | None = None, context: int = 256) -> Path:
    """The folder, with the configuration (no weights) of a small OPT in it, and a tokenizer."""
    from transformers import OPTConfig

    tokenizer = tiny_tokenizer(texts)
    tokenizer.chat_template = None
    OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        dropout=0.0,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        architectures=["OPTForSequenceClassification"],
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_judge(folder: Path, seed: int = 0, context: int = 4096) -> Path:
    """The folder, with a model in it that replies to our prompts with a verdict: a die.

    Nothing is learned: its template ends in a mark that says whether the prompt wants a letter or a
    number, and its weights are set so that a verdict of that kind follows, and then the end. Which
    verdict it is depends on the whole prompt, by chance.
    """
    import torch
    from transformers import AutoModelForCausalLM

    letters, numbers = [f"[[{letter}]]" for letter in "ABC"], [f"[[{n}]]" for n in range(1, 11)]
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([*letters, *numbers, "<letter>", "<number>"])
    mark = "{{ '<letter>' if '[[A]]' in messages[0]['content'] else '<number>' }}"
    tokenizer.chat_template = TEMPLATE.replace("<s>assistant: ", mark)
    tiny_model(folder, seed, context, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        read, write = model.model.embed_tokens.weight, model.lm_head.weight
        for layer in model.model.layers:  # three dimensions are left to the marks alone
            layer.self_attn.o_proj.weight[:3] = 0
            layer.mlp.down_proj.weight[:3] = 0
        read[:, :3] = 0
        write[:] = 0
        follows = {"<letter>": letters, "<number>": numbers}
        for at, (marked, verdicts) in enumerate(follows.items()):
            read[tokenizer.convert_tokens_to_ids(marked), at] = 10
            for verdict in tokenizer.convert_tokens_to_ids(verdicts):
                write[verdict, at] = 20
                write[verdict, 3:] = 0.3 * torch.randn(61, generator=draw)
                read[verdict, 2] = 10
        write[tokenizer.eos_token_id, 2] = 20
    model.save_pretrained(folder)
    return folder


def made_pairs(count: int, responses: int = 2) -> pd.DataFrame:
    """Prompts with responses of which the one with more of the word `good` is better."""
    rows = []
    for at in range(count):
        texts = [" ".join(["good"] * (k + 1) + ["bad"] * (responses - k)) for k in range(responses)]
        rows += [
            {"prompt": f"task {at}", "chosen": texts[j], "rejected": texts[i]}
            for j in range(responses)
            for i in range(j)
        ]
    return pd.DataFrame(rows).assign(pair_id=range(len(rows)), subset="s")
