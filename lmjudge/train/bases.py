"""The start of a training: a folder or hub id in transformers' format, or a small new model.

Heavy to use: only training calls it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from lmjudge.endpoints.checkpoints import (
    READING,
    folder_of,
    loading_errors,
    longest_of,
    without_bars,
)
from lmjudge.errors import EndpointError, TrainingError

# The turns of a conversation in our own words, for tokenizers that have no chat template. What
# comes before an answer ends a line: a space would be one token with the answer's first word.
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper }}:\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}\n\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:\n{% endif %}"
)


def open_base(
    base: str | os.PathLike[str],
    *,
    outputs: int,
    longest: int | None,
    seed: int,
    attention: str | None = None,
    lora: int | None = None,
) -> tuple[Any, Any, int]:
    """Return a model with so many outputs, its tokenizer, and the most tokens it reads.

    With 0 outputs it is a causal language model, else a sequence classifier, whose head is new
    where the base has none of this size. `attention` is how transformers computes it ("sdpa",
    "flash_attention_2", "eager"; None takes its default), `lora` the rank of the adapters that are
    trained in place of all linear weights. Raises TrainingError for what is no such base, for
    weights of another shape than its config says, for an attention that is not available, and
    where peft is missing.
    """
    import transformers

    transformers.set_seed(seed)
    kind: Any = (
        transformers.AutoModelForSequenceClassification
        if outputs
        else transformers.AutoModelForCausalLM
    )
    unusable: tuple[type[Exception], ...] = (EndpointError, ImportError, *loading_errors())
    try:
        folder = Path(base) if Path(base).is_dir() else folder_of(base)
        config = transformers.AutoConfig.from_pretrained(folder, **READING)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, **READING)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        config.pad_token_id = tokenizer.pad_token_id
        if outputs:
            config.num_labels = outputs
        how = {"attn_implementation": attention} if attention else {}
        if list(folder.glob("*.safetensors")):
            with without_bars():
                model, loading = kind.from_pretrained(
                    folder,
                    config=config,
                    **READING,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,
                    **how,
                    output_loading_info=True,
                )
            _refuse_another_shape(folder, model, loading)
        else:
            model = kind.from_config(config, **how)
    except TrainingError:
        raise
    except unusable as error:
        raise TrainingError(
            f"{os.fspath(base)} cannot be trained from ({error}); expected a folder or hub id in"
            " transformers' format, such as OPT, and an attention that is installed",
            folder=Path(base),
        ) from error
    most = longest_of(model, tokenizer)
    if lora:
        model = _with_adapters(model, outputs, lora)
    return model.float(), tokenizer, most if longest is None else min(longest, most)


def _with_adapters(model: Any, outputs: int, rank: int) -> Any:
    """Return the model with LoRA adapters of this rank on all linear layers but its head."""
    try:
        import peft
    except ImportError as error:
        raise TrainingError(
            "lora needs peft, which is not installed: pip install 'lmjudge[lora]'", folder=Path()
        ) from error
    task = peft.TaskType.SEQ_CLS if outputs else peft.TaskType.CAUSAL_LM
    adapters = peft.LoraConfig(
        task_type=task, r=rank, lora_alpha=2 * rank, target_modules="all-linear"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        return peft.get_peft_model(model, adapters)


def _refuse_another_shape(folder: Path, model: Any, loading: dict[str, Any]) -> None:
    """TrainingError where more than a head is new: the weights are then not this model's."""
    body = f"{model.base_model_prefix}."
    of = sum(name.startswith(body) for name, _ in model.named_parameters())
    lost = [str(key[0]) for key in loading["mismatched_keys"] if str(key[0]).startswith(body)]
    absent = [str(key) for key in loading["missing_keys"] if str(key).startswith(body)]
    if lost or 2 * len(absent) > of:
        raise TrainingError(
            f"{folder} holds weights of another shape than its config.json says, such as"
            f" {(lost or absent)[0]}; give the config that they were saved with",
            folder=folder,
        )


def new_base(
    folder: str | os.PathLike[str],
    texts: Iterable[str],
    *,
    family: Literal["opt", "llama"] = "opt",
    vocabulary: int = 2000,
    width: int = 64,
    layers: int = 2,
    context: int = 512,
    seed: int = 0,
) -> Path:
    """Return the folder, with a small model in it, and a tokenizer learned from these texts.

    For trying things on any machine. The tokenizer is a byte-level BPE of `texts` alone, so give
    those that are trained on. Of "opt", for classifiers, there is the config alone, and a training
    starts from random weights; of "llama", for answerers, random weights too, and a chat template,
    so that the base answers as well.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=context,
    )
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 32),
        "max_position_embeddings": context,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    if family == "opt":
        more: dict[str, Any] = {"word_embed_proj_dim": width, "ffn_dim": 4 * width, "dropout": 0.0}
        OPTConfig(**shape, **more).save_pretrained(folder)
    else:
        with torch.random.fork_rng(devices=[]), without_bars():
            torch.manual_seed(seed)
            config = LlamaConfig(**shape, intermediate_size=4 * width)
            LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return Path(folder)
