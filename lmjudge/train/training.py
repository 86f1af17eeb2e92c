"""Train a reward model on pairs, or a classifier as a judge on votes. Both can resume."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.endpoints.checkpoints import need_torch
from lmjudge.errors import FrameError, TrainingError
from lmjudge.frames import check
from lmjudge.judges import Judge, judge_requests
from lmjudge.train.bases import open_base
from lmjudge.train.pairs import digest_of, split_pairs, usable

Item = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """What a training made: the model's folder, its metrics, and what it was trained on.

    `metrics` has a row an evaluation: step, epoch, loss (on what was trained on since the last),
    held_out_loss, held_out_accuracy and n, how many pairs (or votes) were held out. `excluded`
    counts what was left out, by reason, `truncated` the texts that were cut to the model's context,
    and `digest` is the SHA-256 of the rows trained on.
    """

    folder: Path
    metrics: pd.DataFrame = field(repr=False)
    trained_on: int
    held_out: int
    excluded: Mapping[str, int]
    truncated: int
    digest: str


def train_reward_model(
    pairs: pd.DataFrame,
    *,
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    held_out: float | pd.DataFrame = 0.1,
    longest: int | None = None,
    seed: int = 0,
    attention: str | None = None,
    lora: int | None = None,
    **options: Any,
) -> Training:
    """Return the Training of a reward model that prefers the chosen response to the rejected one.

    Minimises the mean over prompts of the mean over their pairs of -log sigmoid(r_chosen -
    r_rejected). `pairs` is a pairs frame; all pairs of a prompt are in one batch, in which each
    response is read once. `base` is a folder or hub id in transformers' format (weights, or a
    config alone for random ones) that has a sequence-classification form, such as OPT. `held_out`
    is a share of the prompts, or a pairs frame. What is longer than `longest` tokens (by default
    the model's context) loses the beginning of its prompt. `attention` is transformers' ("sdpa",
    "flash_attention_2"), `lora` the rank of adapters that are trained in place of the weights, and
    merged when saved. `options` are those of `fit`. Raises TrainingError for data that nothing can
    be learned from, a base that cannot be used, and a loss that is no number.

    Source: "Instruction Tuning with GPT-4" (arXiv 2304.03277), section 3, whose printed formula
    lacks the minus; one batch a prompt: "Training language models to follow instructions with
    human feedback" (arXiv 2203.02155), section 3.5.
    """
    need_torch()
    from lmjudge.train.fitting import fit
    from lmjudge.train.losses import Pairwise

    folder = Path(out)
    kept, excluded = usable(pairs)
    if kept["prompt"].nunique() < (1 if isinstance(held_out, pd.DataFrame) else 2):
        raise TrainingError(
            f"of {len(pairs)} pairs, {len(kept)} on {kept['prompt'].nunique()} prompts can be"
            f" learned from (left out: {excluded or 'none'}); give pairs on two prompts or more",
            folder=folder,
        )
    if isinstance(held_out, pd.DataFrame):
        train, held = kept, usable(held_out)[0]
        known = set(train["prompt"]) & set(held["prompt"])
        if known:
            raise TrainingError(
                f"{len(known)} prompts are both trained on and held out; split by prompt, as"
                " split_pairs does",
                folder=folder,
            )
    else:
        train, held = split_pairs(kept, held_out=held_out, seed=seed)
    model, tokenizer, most = open_base(
        base, outputs=1, longest=longest, seed=seed, attention=attention, lora=lora
    )
    (items, cut), (held_items, _) = (prompt_items(some, tokenizer, most) for some in (train, held))
    digest = digest_of(train[["prompt", "chosen", "rejected"]].to_numpy().tolist())
    metrics = fit(
        Pairwise, model, tokenizer, items, held_items, folder, seed=seed, digest=digest, **options
    )
    return Training(folder, metrics, len(train), len(held), excluded, cut, digest)


def prompt_items(pairs: pd.DataFrame, tokenizer: Any, longest: int) -> tuple[list[Item], int]:
    """Return each prompt's responses as tokens, cut to fit, and its pairs as places among them."""
    from lmjudge.endpoints.scorer import encode

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


def train_judge(
    votes: pd.DataFrame,
    pairings: pd.DataFrame,
    *,
    base: str | os.PathLike[str],
    out: str | os.PathLike[str],
    prompt: str = "pair-plain",
    held_out: pd.DataFrame | None = None,
    longest: int | None = None,
    seed: int = 0,
    attention: str | None = None,
    lora: int | None = None,
    **options: Any,
) -> Training:
    """Return the Training of a judge that classifies: first better, second better, or a tie.

    `votes` is a votes frame, `pairings` (see `pair_up`) has the texts that were voted on, in either
    order; every vote is learned from in both orders. What the model reads is the `prompt` as a
    Judge fills it, so that `Judge(prompt, model=endpoint.name)` with `RewardEndpoint(out)` is the
    judge (your own template goes there with `output_format="[[A]]"`). `held_out` are votes on
    other questions, by which training is followed and ended. The rest is as for
    `train_reward_model`. Raises FrameError for votes on pairs that have no pairing.

    Source: "Judging LLM-as-a-Judge" (arXiv 2306.05685), appendix F and Table 15: three classes.
    """
    need_torch()
    from lmjudge.train.fitting import fit
    from lmjudge.train.losses import Classified

    folder = Path(out)
    if held_out is not None and set(votes["question_id"]) & set(held_out["question_id"]):
        raise TrainingError(
            "some questions are both trained on and held out; split votes by question_id",
            folder=folder,
        )
    model, tokenizer, most = open_base(
        base, outputs=3, longest=longest, seed=seed, attention=attention, lora=lora
    )
    # A classifier need not be asked for a letter.
    judge = Judge(prompt, "being trained", output_format="[[A]]" if "{" in prompt else None)
    parts = [_vote_items(some, pairings, judge, tokenizer, most) for some in (votes, held_out)]
    (items, cut, excluded), (held_items, _, _) = parts
    if sum(any(item["votes"][at] for item in items) for at in range(3)) < 2:
        raise TrainingError(
            f"the {len(votes)} votes to learn from all say the same; give votes of two kinds",
            folder=folder,
        )
    digest = digest_of([item["ids"], item["votes"]] for item in items)
    metrics = fit(
        Classified, model, tokenizer, items, held_items, folder, seed=seed, digest=digest, **options
    )
    return Training(folder, metrics, len(items), len(held_items), excluded, cut, digest)


def _vote_items(
    votes: pd.DataFrame | None,
    pairings: pd.DataFrame,
    judge: Judge,
    tokenizer: Any,
    longest: int,
) -> tuple[list[Item], int, dict[str, int]]:
    """Return each voted pair in both orders, as tokens cut to fit and votes by class.

    A text that many voted on is one item: it is read once, and weighs as many.
    """
    from lmjudge.endpoints.scorer import encode

    if votes is None:
        return [], 0, {}
    check(votes, "votes")
    known = votes[votes["winner"].notna() & (votes["turn"].fillna(1) == 1)]
    shown: dict[tuple[Any, str, str], tuple[list[int], int]] = {}
    unique = pairings.drop_duplicates(["question_id", "model_a", "model_b"])
    for row, request in judge_requests(unique, judge):
        text = "\n\n".join(str(message["content"]) for message in request.messages)
        shown[row["question_id"], row["model_a"], row["model_b"]] = encode(
            tokenizer, text, "", longest
        )
    classes = {"model_a": 0, "model_b": 1, "tie": 2}
    other = {0: 1, 1: 0, 2: 2}
    counts: dict[tuple[Any, str, str], list[int]] = {}
    for vote in known.to_dict("records"):
        label = classes[vote["winner"]]
        for a, b, what in (
            (vote["model_a"], vote["model_b"], label),
            (vote["model_b"], vote["model_a"], other[label]),
        ):
            showing = vote["question_id"], a, b
            if showing not in shown:
                raise FrameError(
                    f"no pairing has {a!r} and {b!r} on question {vote['question_id']!r}; pair up"
                    " the answers that were voted on",
                    rows=vote,
                )
            counts.setdefault(showing, [0, 0, 0])[what] += 1
    items = [{"ids": shown[of][0], "votes": by_class} for of, by_class in counts.items()]
    cut = sum(shown[of][1] > 0 for of in counts)
    left = len(votes) - len(known)
    return items, cut, {"no verdict, or a later turn": left} if left else {}
