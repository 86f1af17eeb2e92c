"""The base model of a training: a folder or hub id in transformers' format, or a small new model.

Its functions import transformers, so only training calls them.
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

# A chat template for tokenizers that have none. A line break precedes an answer: a space would
# form one token with the answer's first word.
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
    """Return a model, its tokenizer, and the most tokens that it reads.

    - `outputs`: 0 for a causal language model, otherwise the outputs of a sequence classifier. Its
      head is new if the base has none of this size.
    - `attention`: "sdpa", "flash_attention_2", "eager", or None for transformers' default.
    - `lora`: the rank of LoRA adapters to train instead of the linear weights.

    Raises TrainingError for an unusable base, weights that do not fit its config, an attention that
    is not available, and `lora` without peft.
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
        options = {"attn_implementation": attention} if attention else {}
        if list(folder.glob("*.safetensors")):
            with without_bars():
                model, loading = kind.from_pretrained(
                    folder,
                    config=config,
                    **READING,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,
                    **options,
                    output_loading_info=True,
                )
            _refuse_another_shape(folder, model, loading)
        else:
            model = kind.from_config(config, **options)
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
    """Return the model with LoRA adapters of this rank on all linear layers except the head."""
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
        warnings.simplefilter("ignore", FutureWarning)  # peft uses an old name of transformers
        return peft.get_peft_model(model, adapters)


def _refuse_another_shape(folder: Path, model: Any, loading: dict[str, Any]) -> None:
    """Raise TrainingError if the saved weights do not fit the config, apart from the head."""
    body = f"{model.base_model_prefix}."
    count = sum(name.startswith(body) for name, _ in model.named_parameters())
    mismatched = [str(key[0]) for key in loading["mismatched_keys"] if str(key[0]).startswith(body)]
    absent = [str(key) for key in loading["missing_keys"] if str(key).startswith(body)]
    if mismatched or 2 * len(absent) > count:
        raise TrainingError(
            f"{folder} holds weights of another shape than its config.json says, such as"
            f" {(mismatched or absent)[0]}; use the config that they were saved with",
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
    """Write a small new base model into a folder, with a tokenizer for these texts; return it.

    Use it to try training on any machine.

    - `texts`: the texts to train on. The tokenizer is a byte-level BPE of these texts only.
    - `family`: "opt" for classifiers saves only a config; training starts from random weights.
      "llama" for answerers also saves random weights and a chat template, so that the base can
      answer.
    - `vocabulary`, `context`: tokens. `width`: the size of the hidden layers. `layers`: their
      number.
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
