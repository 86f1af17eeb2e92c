"""The commands that train reward models, classifiers as judges, and answerers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.cli.options import count, number
from lmjudge.cli.saying import say

if TYPE_CHECKING:
    import pandas as pd

    from lmjudge.train import Training

TRAINING = """\
examples:
  lmjudge train reward --base facebook/opt-1.3b --data alpaca-pairs/original --out reward
  lmjudge train judge --base all-MiniLM-L6-v2 --data prd/original --out judge
  lmjudge train answerer --base llama-7b --data sharegpt.json --out vicuna --checkpointing
  accelerate launch --num_processes 4 -m lmjudge train answerer --base llama-7b --data sharegpt.json
                                       --out vicuna --attention flash_attention_2 --lora 16

To go on after a stop, run the same command again: training starts at its last checkpoint.
"""


def arguments(verb: Any, verbs: Any) -> None:
    """Add `lmjudge train` and its three kinds."""
    train = verb("train", None, "Train a reward model, a judge or an answerer.", verbs, TRAINING)
    kinds = train.add_subparsers(metavar="kind", required=True)
    for name, call, says, data in (
        (
            "reward",
            reward,
            "Train a reward model on pairs.",
            "pairs of a chosen and a rejected text",
        ),
        ("judge", judge, "Train a judge that is a classifier, on votes.", "votes on answers"),
        (
            "answerer",
            answerer,
            "Fine-tune a model on answers.",
            "conversations (ShareGPT's, Alpaca's or others')",
        ),
    ):
        parser = verb(name, call, says, kinds)
        parser.add_argument("--base", required=True, help="Folder or hub id of the model to train.")
        parser.add_argument("--data", required=True, help=f"File of {data}, or a source's name.")
        parser.add_argument("--out", required=True, type=Path, help="Folder for the trained model.")
        if name == "judge":
            parser.add_argument("--questions", help="Questions (default: those beside --data).")
            parser.add_argument("--answers", nargs="+", help="Answers (default: beside --data).")
        _steps(parser.add_argument_group("training"))
        _machine(parser.add_argument_group("memory and device"))


def _steps(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=float, default=1.0, help="Passes over --data (default: 1).")
    group.add_argument(
        "--learning-rate", type=float, default=1e-5, help="Learning rate (default: 1e-5)."
    )
    group.add_argument(
        "--batch-size", type=count, default=8, help="Rows at a time per process (default: 8)."
    )
    group.add_argument("--accumulate", type=count, default=1, help="Batches per step (default: 1).")
    group.add_argument(
        "--held-out",
        type=number("a share between 0 and 1, such as 0.1", lambda value: 0 < value < 1),
        default=0.1,
        metavar="SHARE",
        help="Share of the questions to hold out (default: 0.1).",
    )
    group.add_argument(
        "--longest", type=count, default=2048, help="Maximum tokens of a text (default: 2048)."
    )
    group.add_argument(
        "--evaluations", type=count, default=10, help="Number of evaluations (default: 10)."
    )
    group.add_argument("--seed", type=int, default=0, help="Seed (default: 0).")


def _machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--attention",
        choices=("sdpa", "flash_attention_2", "eager"),
        help="Implementation of attention (default: sdpa, where the model has it).",
    )
    group.add_argument(
        "--checkpointing",
        action="store_true",
        help="Compute activations again instead of keeping them: less memory, more time.",
    )
    group.add_argument(
        "--lora", type=count, metavar="RANK", help="Train LoRA adapters of this rank (peft)."
    )
    group.add_argument("--device", choices=("cpu",), help="Train on the CPU, even beside a GPU.")


def reward(parsed: argparse.Namespace) -> int:
    """Train a reward model on pairs."""
    from lmjudge.data import load_pairs
    from lmjudge.train import train_reward_model

    pairs = load_pairs(parsed.data)
    return _report(train_reward_model(pairs, held_out=parsed.held_out, **_options(parsed)))


def judge(parsed: argparse.Namespace) -> int:
    """Train a judge on votes, or on judgments, a game each."""
    from lmjudge.data import load_answers, load_judgments, load_pairings, load_questions
    from lmjudge.frames import pair_up
    from lmjudge.train import train_judge

    votes = load_judgments(parsed.data)
    if "score" in votes:
        parsed.wrong(f"--data {parsed.data} holds scores; give votes or games")
    votes = votes.assign(**{name: None for name in ("group", "time") if name not in votes})
    if parsed.questions or parsed.answers or not Path(parsed.data).is_file():
        questions = load_questions(parsed.questions or parsed.data)
        answers = load_answers(parsed.answers or parsed.data)
        pairings = pair_up(questions, answers, voted=votes)
    else:
        pairings = load_pairings(parsed.data)
    known = votes["question_id"].isin(pairings["question_id"])
    held = _held(votes[known], parsed.held_out, parsed.seed)
    fitted, held_out = votes[known][~held], votes[known][held]
    return _report(train_judge(fitted, pairings, held_out=held_out, **_options(parsed)))


def answerer(parsed: argparse.Namespace) -> int:
    """Fine-tune a model on conversations."""
    from lmjudge.data import load_answers, load_questions
    from lmjudge.frames import line_up
    from lmjudge.train import train_answerer

    lineup = line_up(load_questions(parsed.data), load_answers(parsed.data, samples=None))
    held = _held(lineup, parsed.held_out, parsed.seed)
    return _report(train_answerer(lineup[~held], held_out=lineup[held], **_options(parsed)))


def _options(parsed: argparse.Namespace) -> dict[str, Any]:
    names = "base out epochs learning_rate batch_size accumulate longest evaluations attention"
    names += " checkpointing lora seed device"
    return {name: getattr(parsed, name) for name in names.split()}


def _held(rows: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Return which rows are on held-out questions, at least one question."""
    questions = rows["question_id"].drop_duplicates()
    test = questions.sample(n=max(1, round(share * len(questions))), random_state=seed)
    return rows["question_id"].isin(test)


def _report(training: Training) -> int:
    """Print the result of the training, in the first process only."""
    import os

    if os.environ.get("RANK", "0") == "0":
        left = ", ".join(f"{reason} {n:,}" for reason, n in training.excluded.items())
        say(
            f"trained on {training.trained_on:,}, held out {training.held_out:,}, cut"
            f" {training.truncated:,}{f', left out: {left}' if left else ''}"
        )
        for line in training.metrics.round(4).to_string(index=False).splitlines():
            say(line)
        say(f"written: {training.folder}")
    return 0
