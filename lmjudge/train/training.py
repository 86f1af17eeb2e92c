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
    """The result of a training.

    - `folder`: the folder of the trained model.
    - `metrics`: one row an evaluation, with step, epoch, loss (on the training rows since the last
      evaluation), held_out_loss, held_out_accuracy and n (held-out pairs or votes).
    - `trained_on`, `held_out`: the numbers of pairs, showings or conversations.
    - `excluded`: the rows left out, counted by reason.
    - `truncated`: the number of texts cut to the model's context.
    - `digest`: the SHA-256 of the training rows.
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
    """Train a reward model that prefers the chosen response of each pair to the rejected one.

    - `pairs`: a pairs frame. All pairs of a prompt are in one batch, which reads each response
      once.
    - `base`: a folder or hub id in transformers' format (weights, or only a config for random
      weights) with a sequence-classification form, such as OPT.
    - `out`: the folder of the trained model, for `RewardEndpoint(out)`.
    - `held_out`: the share of prompts to hold out, or a pairs frame on other prompts.
    - `longest`: the most tokens of prompt and response (default: the model's context). A longer
      text loses the beginning of its prompt.
    - `attention`: as in transformers ("sdpa", "flash_attention_2").
    - `lora`: the rank of LoRA adapters to train instead of the weights; merged when saved.
    - `options`: as in `fit`.

    The loss is -log sigmoid(r_chosen - r_rejected), averaged over the pairs of a prompt and then
    over prompts.

    Raises TrainingError for pairs on fewer than two prompts, prompts that are also held out, an
    unusable base, and a loss that is not finite.

    Source: "Instruction Tuning with GPT-4" (arXiv 2304.03277), section 3, whose printed formula
    lacks the minus; one batch a prompt: "Training language models to follow instructions with
    human feedback" (arXiv 2203.02155), section 3.5.
    """
    need_torch()
    from lmjudge.train.fitting import fit
    from lmjudge.train.losses import Pairwise

    folder = Path(out)
    learnable, excluded = usable(pairs)
    if learnable["prompt"].nunique() < (1 if isinstance(held_out, pd.DataFrame) else 2):
        raise TrainingError(
            f"{len(learnable)} of {len(pairs)} pairs are usable, on"
            f" {learnable['prompt'].nunique()} prompts (left out: {excluded or 'none'}); give"
            " usable pairs on two prompts or more",
            folder=folder,
        )
    if isinstance(held_out, pd.DataFrame):
        train, held = learnable, usable(held_out)[0]
        known = set(train["prompt"]) & set(held["prompt"])
        if known:
            raise TrainingError(
                f"{len(known)} prompts are both trained on and held out; split by prompt, as"
                " split_pairs does",
                folder=folder,
            )
    else:
        train, held = split_pairs(learnable, held_out=held_out, seed=seed)
    model, tokenizer, most = open_base(
        base, outputs=1, longest=longest, seed=seed, attention=attention, lora=lora
    )
    (items, cut), (held_items, _) = (prompt_items(rows, tokenizer, most) for rows in (train, held))
    digest = digest_of(train[["prompt", "chosen", "rejected"]].to_numpy().tolist())
    metrics = fit(
        Pairwise, model, tokenizer, items, held_items, folder, seed=seed, digest=digest, **options
    )
    return Training(folder, metrics, len(train), len(held), excluded, cut, digest)


def prompt_items(pairs: pd.DataFrame, tokenizer: Any, longest: int) -> tuple[list[Item], int]:
    """Return each prompt's responses as tokens, with its pairs as indices; count the texts cut."""
    from lmjudge.endpoints.scorer import encode

    items, cut = [], 0
    for prompt, group in pairs.groupby("prompt", sort=False):
        places: dict[str, int] = {}
        for text in [*group["chosen"], *group["rejected"]]:
            places.setdefault(text, len(places))
        coded = [encode(tokenizer, prompt, text, longest) for text in places]
        cut += sum(lost > 0 for _, lost in coded)
        items.append(
            {
                "ids": [ids for ids, _ in coded],
                "better": [places[text] for text in group["chosen"]],
                "worse": [places[text] for text in group["rejected"]],
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
    """Train a judge that classifies a pair: first better, second better, or a tie.

    - `votes`: a votes frame. The judge learns each vote in both orders.
    - `pairings`: the texts of the pairs voted on, in either order (see `pair_up`).
    - `prompt`: the name of a prompt, or your own template. The model reads it as a Judge fills it.
    - `held_out`: votes on other questions, for evaluation.
    - the other parameters: as in `train_reward_model`.

    Use the judge as `Judge(prompt, model=endpoint.name)` with `endpoint = RewardEndpoint(out)`; add
    `output_format="[[A]]"` for your own template.

    Raises FrameError for votes on pairs without a pairing, TrainingError for questions that are
    also held out and for votes that are all equal.

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
    # A classifier's own template does not have to ask for [[A]].
    judge = Judge(prompt, "being trained", output_format="[[A]]" if "{" in prompt else None)
    parts = [_vote_items(rows, pairings, judge, tokenizer, most) for rows in (votes, held_out)]
    (items, cut, excluded), (held_items, _, _) = parts
    if sum(any(item["votes"][at] for item in items) for at in range(3)) < 2:
        raise TrainingError(
            f"the {len(votes)} training votes all say the same; add votes with another winner",
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
    """Return each voted pair in both orders as tokens, with its votes by class.

    A pair with several votes is one item with that weight. Also returns the number of texts cut and
    the votes left out by reason.
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
                    f"no pairing has {a!r} and {b!r} on question {vote['question_id']!r}; pass"
                    " pair_up of the answers that were voted on",
                    rows=vote,
                )
            counts.setdefault(showing, [0, 0, 0])[what] += 1
    items = [{"ids": shown[pair][0], "votes": by_class} for pair, by_class in counts.items()]
    cut = sum(shown[pair][1] > 0 for pair in counts)
    left_out = len(votes) - len(known)
    return items, cut, {"no verdict, or a later turn": left_out} if left_out else {}
