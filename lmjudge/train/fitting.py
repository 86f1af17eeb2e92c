"""Run one training with transformers' Trainer: resume, evaluate, and save with a model card.

It imports torch and transformers, so only training imports it.
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers
from safetensors import SafetensorError, safe_open

from lmjudge.canonical import canonical_json
from lmjudge.endpoints.checkpoints import without_bars
from lmjudge.errors import TrainingError
from lmjudge.train.losses import Finite, Fitted, Item

_KINDS = {
    "Pairwise": ("A reward model", "the pairs of {} prompts", "RewardEndpoint"),
    "Classified": ("A judge that is a classifier", "{} showings of votes", "RewardEndpoint"),
    "Answering": ("A fine-tuned answerer", "{} conversations", "LocalEndpoint"),
}


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
    """Train a model, save it with its tokenizer, card and metrics.csv in `out`; return the metrics.

    - `epochs`, `learning_rate`, `weight_decay`: as in transformers.
    - `batch_size`: prompts (votes, conversations) a batch on each device.
    - `accumulate`: batches a step.
    - `warmup`: the share of steps before the cosine schedule.
    - `evaluations`: how often the training is evaluated and saved. The best state stays: the
      highest held-out accuracy, or for answerers the lowest held-out loss.
    - `patience`: ends the training after so many evaluations without a better state.
    - `checkpointing`: computes activations again to save memory.
    - `device`: "cpu" avoids the GPU.
    - `progress`: shows progress bars.

    The training uses bfloat16 if the device has it. The texts of a step have similar lengths.

    After a kill, call it again with the same data, base, seed and options: it resumes from the last
    complete checkpoint. For several GPUs, start your script with `accelerate launch`; `batch_size`
    is then for each GPU. Under FSDP (`accelerate launch --use_fsdp`) each process holds a part of
    the weights, and `out` receives all of them.

    Raises TrainingError if the loss or the weights are not finite, and names the folder of the last
    good checkpoint.
    """
    alike = [how.__name__, seed, digest, epochs, learning_rate, batch_size, accumulate, warmup]
    alike += [weight_decay, evaluations, _state(model), _state(items), _state(held)]
    checkpoints = out / "checkpoints" / hashlib.sha256(canonical_json(alike)).hexdigest()[:12]
    fast = torch.cuda.is_available() and device != "cpu"
    # TrainingArguments starts accelerate, which must not use a GPU if `device` is "cpu".
    args = transformers.TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        gradient_accumulation_steps=accumulate,
        lr_scheduler_type="cosine",
        weight_decay=weight_decay,
        eval_strategy="steps" if held else "no",
        save_strategy="steps",
        save_total_limit=2,
        logging_nan_inf_filter=False,
        bf16=fast and torch.cuda.is_bf16_supported(),
        use_cpu=not fast,
        activation_checkpointing=checkpointing or None,
        remove_unused_columns=False,
        disable_tqdm=not progress,
        report_to="none",
        seed=seed,
        data_seed=seed,
    )
    steps = math.ceil(len(items) / (batch_size * accumulate * args.world_size)) * epochs
    every = max(1, round(steps / evaluations))
    args.eval_steps = args.save_steps = args.logging_steps = every
    args.warmup_steps = round(warmup * steps)
    if held:
        args.load_best_model_at_end = True
        args.metric_for_best_model = f"eval_{how.best}"
        args.greater_is_better = how.best == "accuracy"
    trainer = how(
        model=model,
        args=args,
        train_dataset=items,
        # Sorted by length, so that batches need little padding.
        eval_dataset=sorted(held, key=lambda item: len(str(item["ids"]))) or None,
        data_collator=lambda batch: how.gather(tokenizer, batch),
    )
    adapters = hasattr(model, "merge_and_unload")
    if adapters and trainer.is_fsdp_enabled:
        raise TrainingError(
            "lora does not work under FSDP, where adapters cannot be merged; leave out one of the"
            " two (adapters fit on one GPU if the base does)",
            folder=out,
        )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(Finite(trainer))
    if patience is not None and held:
        trainer.add_callback(transformers.EarlyStoppingCallback(patience))
    with nullcontext() if progress else without_bars():
        trainer.train(resume_from_checkpoint=last_whole(checkpoints))
    metrics = _metrics(trainer.state.log_history)
    trained: Any = trainer.accelerator.unwrap_model(trainer.model)
    state = None
    if trainer.is_fsdp_enabled:
        # Each process holds a part of each weight, so all processes must take part.
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        state = {name: _full(weight) for name, weight in state.items()}
    elif adapters:
        trained = trained.merge_and_unload()
    if trainer.is_world_process_zero():
        with without_bars():
            trained.save_pretrained(out, state_dict=state)
        tokenizer.save_pretrained(out)
        metrics.to_csv(out / "metrics.csv", index=False)
        (out / "README.md").write_text(_card(how, model, items, metrics, digest), encoding="utf-8")
    trainer.accelerator.wait_for_everyone()
    return metrics


def _full(weight: Any) -> Any:
    """Return the full weight, if this process holds only a part or is still receiving it."""
    full = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return full.wait() if hasattr(full, "wait") else full


def last_whole(folder: Path) -> str | None:
    """Return the last complete checkpoint in a folder; None if there is none.

    trainer_state.json is written last, so an unfinished checkpoint has none. Raises TrainingError
    if the folder has several checkpoints and none is complete.
    """
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(checkpoints):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            for weights in path.glob("*.safetensors"):
                with safe_open(weights, "pt"):
                    pass
        except (OSError, ValueError, SafetensorError):
            continue
        return str(path)
    if len(checkpoints) > 1:
        raise TrainingError(
            f"none of the {len(checkpoints)} checkpoints in {folder} is complete; remove the folder"
            " to start again",
            folder=folder,
        )
    return None


def _state(what: Any) -> str:
    """Return a digest of items, or of a model: its config and a sample of each weight."""
    total = hashlib.sha256()
    if isinstance(what, list):
        total.update(json.dumps(what).encode())
        return total.hexdigest()
    total.update(what.config.to_json_string().encode())
    for name, weight in what.named_parameters():
        sample = weight.detach().flatten()[:: max(1, weight.numel() // 1000)]
        total.update(name.encode() + sample.cpu().numpy().tobytes())
    return total.hexdigest()


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
    table = pd.DataFrame(list(by_step.values())).reindex(columns=["step", *names.values()])
    return table[table[["loss", "held_out_accuracy"]].notna().any(axis=1)].reset_index(drop=True)


def _card(
    how: type[Fitted], model: Any, items: list[Item], metrics: pd.DataFrame, digest: str
) -> str:
    title, of, endpoint = _KINDS[how.__name__]
    best = metrics["held_out_loss"].min(), metrics["held_out_accuracy"].max()
    lines = [
        f"# {title}",
        "",
        f"Trained by lmjudge on {of.format(len(items))} (SHA-256 {digest}),",
        f"from a model of type {model.config.model_type}"
        f" with {sum(p.numel() for p in model.parameters()):,} parameters.",
        "Held out: "
        + (
            "nothing."
            if pd.isna(best[0])
            else "loss {:.3f}, accuracy {:.3f} at best.".format(*best)
        ),
        "",
        f"Use it by `lmjudge.{endpoint}` on this folder.",
    ]
    return "\n".join(lines) + "\n"
