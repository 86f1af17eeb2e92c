"""transformers' Trainer with our batches, losses and evaluation.

It imports torch and transformers, so only training imports it. Every loss is a weighted sum
divided by the sum of the weights, over all batches of a step and all processes. So the split of a
step into batches and processes does not change the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional

from lmjudge.errors import TrainingError

Item = dict[str, Any]
Judged = tuple[torch.Tensor, float, int]  # weighted loss, number right, number of all


class ByLength(torch.utils.data.Sampler[int]):
    """Draw the order of items from the seed and the epoch, with similar lengths in each step.

    Similar lengths need little padding. The order of the steps is random, and each epoch draws the
    items of a step again.
    """

    def __init__(self, items: Sequence[Item], step: int, seed: int) -> None:
        self.lengths, self.step, self.seed, self.epoch = list(map(tokens_of, items)), step, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(len(self), generator=generator).tolist()
        window = 50 * self.step
        steps: list[list[int]] = []
        for start in range(0, len(order), window):
            items = sorted(order[start : start + window], key=self.lengths.__getitem__)
            steps += [items[at : at + self.step] for at in range(0, len(items), self.step)]
        # A short step comes last, so that the batches before it are full.
        short = [step for step in steps if len(step) < self.step]
        full = [step for step in steps if len(step) == self.step]
        for at in torch.randperm(len(full), generator=generator).tolist():
            yield from full[at]
        for step in short:
            yield from step


def tokens_of(item: Item) -> int:
    """Return the number of tokens in the longest text of an item."""
    ids = item["ids"]
    return len(ids) if isinstance(ids[0], int) else max(map(len, ids))


class Fitted(transformers.Trainer):
    """A Trainer over lmjudge's items: `gather` makes batches, `judged` gives loss and accuracy."""

    loss_is_scaled_for_ga = True
    # The best state has the lowest "loss" or the highest "accuracy".
    best = "accuracy"

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """Return the batches of a step, and the sum of their weights in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        weight = torch.stack([batch["weight"].sum() for batch in batches] or [torch.zeros(())])
        return batches, self.accelerator.reduce(weight.sum().float().to(device), "sum")

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps
        seed = self.args.data_seed or 0
        return ByLength(self.train_dataset, step * self.args.world_size, seed)  # type: ignore[arg-type]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the batch's part of the step's loss. Raises TrainingError if it is not finite."""
        total, _, _ = self.judged(model, inputs)
        # accelerate averages gradients over processes, but the loss is a sum.
        loss = total * self.accelerator.num_processes / num_items_in_batch
        if not torch.isfinite(loss):
            raise self.broken(f"the loss is {loss.item()}")
        return (loss, {}) if return_outputs else loss

    def broken(self, what: str) -> TrainingError:
        """Return the error for a loss or weights that are not finite."""
        folder = Path(str(self.args.output_dir))
        return TrainingError(
            f"{what} at step {self.state.global_step}; lower the learning rate. The last good"
            f" checkpoint is in {folder}",
            folder=folder,
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return loss and accuracy on the held-out rows, which are split among the processes."""
        sharded = self.is_fsdp_enabled
        model: Any = self.model_wrapped if sharded else self.model
        model.eval()
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        held_out: Any = self.eval_dataset
        items: list[Item] = held_out[process::processes]
        sums = torch.zeros(4, dtype=torch.float64, device=self.args.device)
        size = self.args.per_device_eval_batch_size
        starts = [*range(0, len(items), size)]
        if sharded:  # every process must take part in each forward pass, so all need equal counts
            starts += [-1] * (math.ceil(math.ceil(len(held_out) / processes) / size) - len(starts))
        with torch.no_grad(), self.accelerator.autocast():
            for at in starts:
                chosen = items[at : at + size] if at >= 0 else held_out[:1]
                batch = self._prepare_inputs(self.data_collator(chosen))
                loss, right, count = self.judged(model, batch)
                if at < 0:
                    continue
                weight = float(batch["weight"].sum())
                sums += torch.tensor([float(loss), weight, right, count]).to(sums)
        total, weight, right, count = self.accelerator.reduce(sums, "sum").tolist()
        if not total < float("inf"):
            raise self.broken(f"the held-out loss is {total}")
        metrics = {"eval_loss": total / weight, "eval_accuracy": right / count, "eval_n": count}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def judged(self, model: Any, inputs: Any) -> Judged:
        """Return the weighted loss of a batch, the number right, and the number of all."""
        raise NotImplementedError

    @staticmethod
    def gather(tokenizer: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Return items as a batch."""
        raise NotImplementedError


class Finite(transformers.TrainerCallback):
    """Stop the training before it saves weights that are not finite."""

    def __init__(self, trainer: Fitted) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise TrainingError if the weights about to be saved are not finite."""
        model: Any = self.trainer.model
        if not control.should_save:
            return
        broken = torch.zeros((), device=args.device)
        for weight in model.parameters():
            local = weight.to_local() if hasattr(weight, "to_local") else weight
            broken += (~torch.isfinite(local)).any().float()
        # Each process may hold only a part of the weights; the sum makes all of them raise.
        if self.trainer.accelerator.reduce(broken, "sum") > 0:
            raise self.trainer.broken("the weights are not finite")


class Pairwise(Fitted):
    """The pairwise ranking loss: each prompt has weight 1, regardless of its number of pairs."""

    def judged(self, model: Any, inputs: Any) -> Judged:
        """Return the loss of a batch, the number of pairs ordered correctly, and of all pairs."""
        rewards = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).logits[:, 0]
        margin = rewards.float()[inputs["better"]] - rewards.float()[inputs["worse"]]
        loss = -(inputs["weight"] * functional.logsigmoid(margin)).sum()
        return loss, float((margin > 0).sum()), len(margin)

    @staticmethod
    def gather(tokenizer: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Return prompts as a batch: all responses, and the pairs as indices of responses."""
        batch = _padded(tokenizer, [ids for item in items for ids in item["ids"]])
        better, worse, weight, start = [], [], [], 0
        for item in items:
            better += [start + at for at in item["better"]]
            worse += [start + at for at in item["worse"]]
            weight += [1 / len(item["better"])] * len(item["better"])
            start += len(item["ids"])
        return batch | {
            "better": torch.tensor(better),
            "worse": torch.tensor(worse),
            "weight": torch.tensor(weight),
        }


class Classified(Fitted):
    """Cross-entropy over the classes of a verdict, weighted by the number of votes."""

    def judged(self, model: Any, inputs: Any) -> Judged:
        """Return the loss of a batch, the votes for the most likely classes, and all votes."""
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        votes = inputs["votes"]
        loss = -(votes * functional.log_softmax(output.logits.float(), dim=-1)).sum()
        right = votes.gather(1, output.logits.argmax(dim=-1, keepdim=True)).sum()
        return loss, float(right), int(votes.sum())

    @staticmethod
    def gather(tokenizer: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Return showings as a batch; `votes` counts the votes for each class."""
        batch = _padded(tokenizer, [item["ids"] for item in items])
        votes = torch.tensor([item["votes"] for item in items], dtype=torch.float32)
        return batch | {"votes": votes, "weight": votes.sum(dim=1)}


class Answering(Fitted):
    """Cross-entropy of the next token, over the assistant's tokens."""

    best = "loss"

    def judged(self, model: Any, inputs: Any) -> Judged:
        """Return the loss of a batch, the assistant's tokens predicted, and all of these tokens."""
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        said = inputs["weight"][:, 1:].bool()
        logits, label = output.logits[:, :-1][said].float(), inputs["input_ids"][:, 1:][said]
        loss = functional.cross_entropy(logits, label, reduction="sum")
        return loss, float((logits.argmax(dim=-1) == label).sum()), len(label)

    @staticmethod
    def gather(tokenizer: Any, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Return conversations as a padded batch; `weight` is 1 for the assistant's tokens."""
        batch = _padded(tokenizer, [item["ids"] for item in items])
        weight = torch.zeros(batch["input_ids"].shape)
        for row, item in enumerate(items):
            # The first token has no token before it that could predict it.
            weight[row, 1 : len(item["ids"])] = torch.tensor(item["said"][1:], dtype=torch.float32)
        return batch | {"weight": weight}


def _padded(tokenizer: Any, ids: list[list[int]]) -> dict[str, torch.Tensor]:
    longest, pad = max(map(len, ids)), tokenizer.pad_token_id
    rows = [tokens + [pad] * (longest - len(tokens)) for tokens in ids]
    mask = [[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in ids]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}
