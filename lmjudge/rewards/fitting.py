"""transformers' Trainer as this package needs it: losses, evaluation, resuming, what is saved.

Heavy to import: only training imports it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from torch.nn import functional
from transformers.trainer_utils import get_last_checkpoint

from lmjudge.endpoints.checkpoints import loading_errors
from lmjudge.endpoints.scorer import encode, longest_of
from lmjudge.errors import TrainingError

Item = dict[str, Any]


def open_base(
    base: str | os.PathLike[str], *, outputs: int, longest: int | None, seed: int
) -> tuple[Any, Any, int]:
    """A sequence classifier with so many outputs, its tokenizer, and the most tokens it reads."""
    transformers.set_seed(seed)
    local = Path(base).is_dir()
    weights = not local or bool(list(Path(base).glob("*.safetensors")))
    try:
        config = transformers.AutoConfig.from_pretrained(base, local_files_only=local)
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(base, local_files_only=local)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        config.num_labels, config.pad_token_id = outputs, tokenizer.pad_token_id
        kind: Any = transformers.AutoModelForSequenceClassification
        model = (
            kind.from_pretrained(
                base,
                config=config,
                local_files_only=local,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
            )
            if weights
            else kind.from_config(config)
        )
    except loading_errors() as error:
        raise TrainingError(
            f"{os.fspath(base)} cannot be trained from ({error}); expected a folder or hub id in"
            " transformers' format whose model classifies sequences, such as OPT",
            folder=Path(base),
        ) from error
    most = longest_of(model, tokenizer)
    return model.float(), tokenizer, most if longest is None else min(longest, most)


def prompt_items(pairs: pd.DataFrame, tokenizer: Any, longest: int) -> tuple[list[Item], int]:
    """Each prompt's responses as tokens, once each, and its pairs as places among them."""
    items, cut = [], 0
    for prompt, some in pairs.groupby("prompt", sort=False):
        places: dict[str, int] = {}
        for text in [*some["chosen"], *some["rejected"]]:
            places.setdefault(text, len(places))
        coded = [encode(tokenizer, prompt, text, longest) for text in places]
        cut += sum(lost > 0 for _, lost in coded)
        items.append(
            {
                "ids": [ids for ids, _ in coded],
                "better": [places[text] for text in some["chosen"]],
                "worse": [places[text] for text in some["rejected"]],
            }
        )
    return items, cut


class Fitted(transformers.Trainer):
    """A Trainer over items of ours: collated by `gather`, followed by loss and accuracy."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch; TrainingError where it is no number."""
        loss, _, _ = self.judged(model, inputs)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step}; lower the learning"
                f" rate: the last good checkpoint is in {self.args.output_dir}",
                folder=Path(str(self.args.output_dir)),
            )
        return (loss, {}) if return_outputs else loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss and the accuracy on all that is held out."""
        model: Any = self.model
        model.eval()
        lost = right = count = 0.0
        with torch.inference_mode():
            for batch in self.get_eval_dataloader():
                loss, good, n = self.judged(model, self._prepare_inputs(batch))
                lost, right, count = lost + float(loss) * n, right + good, count + n
        metrics = {"eval_loss": lost / count, "eval_accuracy": right / count, "eval_n": count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def judged(self, model: Any, inputs: Any) -> tuple[torch.Tensor, float, int]:
        """The loss of a batch, how many of it are right, and of how many."""
        raise NotImplementedError

    @staticmethod
    def gather(tokenizer: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Items as a batch."""
        raise NotImplementedError


class Pairwise(Fitted):
    """The pairwise ranking loss: each prompt weighs one, whatever pairs it has."""

    def judged(self, model: Any, inputs: Any) -> tuple[torch.Tensor, float, int]:
        """The loss of a batch, how many pairs the rewards order rightly, and of how many."""
        better, worse, weight = (inputs[name] for name in ("better", "worse", "weight"))
        rewards = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).logits[:, 0]
        margin = rewards.float()[better] - rewards.float()[worse]
        loss = -(weight * functional.logsigmoid(margin)).sum()
        return loss, float((margin > 0).sum()), len(margin)

    @staticmethod
    def gather(tokenizer: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Prompts as a batch: all their responses, and their pairs as places in it."""
        batch = _padded(tokenizer, [ids for item in items for ids in item["ids"]])
        better, worse, weight, start = [], [], [], 0
        for item in items:
            better += [start + at for at in item["better"]]
            worse += [start + at for at in item["worse"]]
            weight += [1 / (len(items) * len(item["better"]))] * len(item["better"])
            start += len(item["ids"])
        return batch | {
            "better": torch.tensor(better),
            "worse": torch.tensor(worse),
            "weight": torch.tensor(weight),
        }


class Classified(Fitted):
    """Cross-entropy over the classes of a verdict."""

    def judged(self, model: Any, inputs: Any) -> tuple[torch.Tensor, float, int]:
        """The loss of a batch, how many classes are right, and of how many."""
        made = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        label = inputs["label"]
        right = (made.logits.argmax(dim=-1) == label).sum()
        return functional.cross_entropy(made.logits.float(), label), float(right), len(label)

    @staticmethod
    def gather(tokenizer: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Votes as a batch."""
        batch = _padded(tokenizer, [item["ids"] for item in items])
        return batch | {"label": torch.tensor([item["label"] for item in items])}


def _padded(tokenizer: Any, ids: list[list[int]]) -> dict[str, torch.Tensor]:
    return dict(tokenizer.pad({"input_ids": ids}, padding=True, return_tensors="pt"))


def fit(
    how: type[Fitted],
    model: Any,
    tokenizer: Any,
    items: list[Item],
    held: list[Item],
    out: Path,
    *,
    seed: int,
    digest: str,
    epochs: float = 1.0,
    learning_rate: float = 1e-5,
    batch_size: int = 8,
    accumulate: int = 1,
    warmup: float = 0.03,
    weight_decay: float = 0.0,
    evaluations: int = 10,
    patience: int | None = None,
    checkpointing: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The metrics of a training; model, tokenizer, card and metrics.csv are then in `out`.

    `batch_size` prompts (or votes) on each device, `accumulate` batches a step, a cosine schedule
    after `warmup` of the steps, bfloat16 where the device has it. It is evaluated and saved so many
    times; the state with the best held-out accuracy is kept, and `patience` evaluations without a
    better one end it. A training that was killed goes on from its last checkpoint, when called
    again with the same data. Several GPUs or processes: `accelerate launch` the script that calls.
    """
    checkpoints = out / "checkpoints" / digest[:12]
    steps = math.ceil(len(items) / (batch_size * accumulate)) * epochs
    every = max(1, round(steps / evaluations))
    fast = torch.cuda.is_available() and device != "cpu"
    args = transformers.TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        gradient_accumulation_steps=accumulate,
        warmup_steps=round(warmup * steps),
        lr_scheduler_type="cosine",
        weight_decay=weight_decay,
        eval_strategy="steps" if held else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=every,
        logging_nan_inf_filter=False,
        load_best_model_at_end=bool(held),
        metric_for_best_model="eval_accuracy" if held else None,
        greater_is_better=True if held else None,
        bf16=fast and torch.cuda.is_bf16_supported(),
        use_cpu=not fast,
        activation_checkpointing=checkpointing or None,
        remove_unused_columns=False,
        disable_tqdm=not progress,
        report_to="none",
        seed=seed,
        data_seed=seed,
    )
    trainer = how(
        model=model,
        args=args,
        train_dataset=items,
        eval_dataset=held or None,
        data_collator=lambda some: how.gather(tokenizer, some),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    if patience is not None and held:
        trainer.add_callback(transformers.EarlyStoppingCallback(patience))
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    metrics = _metrics(trainer.state.log_history)
    if trainer.is_world_process_zero():
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(out)
        tokenizer.save_pretrained(out)
        metrics.to_csv(out / "metrics.csv", index=False)
        (out / "README.md").write_text(_card(how, model, items, held, metrics, digest))
    trainer.accelerator.wait_for_everyone()
    return metrics


def _metrics(history: list[dict[str, float]]) -> pd.DataFrame:
    by_step: dict[float, dict[str, float]] = {}
    names = {
        "epoch": "epoch",
        "loss": "loss",
        "eval_loss": "held_out_loss",
        "eval_accuracy": "held_out_accuracy",
        "eval_n": "n",
    }
    for line in history:
        row = by_step.setdefault(line["step"], {"step": line["step"]})
        row.update({names[name]: value for name, value in line.items() if name in names})
    made = pd.DataFrame(list(by_step.values())).reindex(columns=["step", *names.values()])
    return made[made[["loss", "held_out_accuracy"]].notna().any(axis=1)].reset_index(drop=True)


def _card(
    how: type[Fitted],
    model: Any,
    items: list[Item],
    held: list[Item],
    metrics: pd.DataFrame,
    digest: str,
) -> str:
    reward = how is Pairwise
    best = metrics["held_out_accuracy"].max() if held else None
    lines = [
        "# A reward model" if reward else "# A judge that is a classifier",
        "",
        "Trained by lmjudge on "
        + (f"the pairs of {len(items)} prompts" if reward else f"{len(items)} showings of votes")
        + f" (SHA-256 {digest}),",
        f"from a model of type {model.config.model_type}"
        f" with {sum(p.numel() for p in model.parameters()):,} parameters.",
        "Held-out accuracy: " + ("nothing was held out." if best is None else f"{best:.3f}."),
        "",
        "Score with `lmjudge.RewardEndpoint` on this folder.",
    ]
    return "\n".join(lines) + "\n"
