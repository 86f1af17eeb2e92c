"""Comparison data: pairs of a better and a worse answer from scores or votes, split by prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from lmjudge.canonical import canonical_json
from lmjudge.errors import FrameError
from lmjudge.frames import check, frame


def pairs_from_scores(scores: pd.DataFrame, lineup: pd.DataFrame) -> pd.DataFrame:
    """Return all pairs of answers to a question that have unequal scores: a pairs frame.

    - `scores`: a scores frame of one judge. Uses the first turn.
    - `lineup`: the answers' texts by question_id, model and sample (see `line_up`).

    The answer with the higher score is `chosen`. Ties and missing scores give no pair. Further
    columns: question_id, model_chosen, model_rejected, margin (in points).

    Raises FrameError for scores of several judges and for an answer that is not in the lineup.

    Source: "Instruction Tuning with GPT-4" (arXiv 2304.03277), section 3: all C(K, 2) pairs.
    """
    check(scores, "scores")
    if scores["judge"].nunique() > 1:
        raise FrameError(
            f"the scores are of {scores['judge'].nunique()} judges; pass those of one judge",
            rows=scores,
        )
    first = scores[(scores["turn"].fillna(1) == 1) & scores["score"].notna()]
    texts = _texts(lineup)
    rows: list[dict[str, Any]] = []
    for question, group in first.groupby("question_id", sort=False):
        graded = [
            (row["score"], row["model"], *_texts_of(texts, question, row["model"], row["sample"]))
            for row in group.to_dict("records")
        ]
        for a, b in combinations(graded, 2):
            if a[0] != b[0]:
                worse, better = sorted((a, b), key=lambda answer: answer[0])
                rows.append(
                    _pair(len(rows), question, better, worse) | {"margin": better[0] - worse[0]}
                )
    return frame("pairs", rows)


def pairs_from_votes(votes: pd.DataFrame, lineup: pd.DataFrame) -> pd.DataFrame:
    """Return a pairs frame from votes: one row for each vote that is not a tie or missing.

    The winner is `chosen`. Uses the first turn, and sample 0 of each answer. Further columns:
    question_id, model_chosen, model_rejected. Raises FrameError for an answer that is not in the
    lineup.
    """
    check(votes, "votes")
    first = votes[(votes["turn"].fillna(1) == 1) & votes["winner"].isin(["model_a", "model_b"])]
    texts = _texts(lineup)
    rows: list[dict[str, Any]] = []
    for vote in first.to_dict("records"):
        names = [vote["model_a"], vote["model_b"]]
        if vote["winner"] == "model_b":
            names.reverse()
        better, worse = (
            (None, name, *_texts_of(texts, vote["question_id"], name, 0)) for name in names
        )
        rows.append(_pair(len(rows), vote["question_id"], better, worse))
    return frame("pairs", rows)


def split_pairs(
    pairs: pd.DataFrame, *, held_out: float = 0.1, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split pairs by prompt: return those to train on and those held out.

    Holds out the share `held_out` of the prompts, at least one: those with the smallest hash of
    seed and prompt. So the split does not depend on the order of the rows. Raises FrameError for
    fewer than two prompts, ValueError for a share that is not between 0 and 1.
    """
    check(pairs, "pairs")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out!r}; expected a share between 0 and 1")
    prompts = sorted(
        pairs["prompt"].unique(),
        key=lambda text: hashlib.sha256(f"{seed}\0{text}".encode()).digest(),
    )
    if len(prompts) < 2:
        raise FrameError(
            f"the pairs have {len(prompts)} prompts; add pairs on others, to hold one prompt out",
            rows=pairs,
        )
    held = pairs["prompt"].isin(prompts[: max(1, round(held_out * len(prompts)))])
    return pairs[~held].reset_index(drop=True), pairs[held].reset_index(drop=True)


def usable(pairs: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the pairs that a model can learn from, and the number left out, by reason."""
    check(pairs, "pairs")
    empty = pairs[["prompt", "chosen", "rejected"]].apply(
        lambda texts: texts.isna() | (texts.astype(str).str.strip() == "")
    )
    blank = empty[["chosen", "rejected"]].any(axis=1)
    equal = ~blank & (pairs["chosen"] == pairs["rejected"])
    no_prompt = ~blank & ~equal & empty["prompt"]
    excluded = {
        "an empty response": int(blank.sum()),
        "equal responses": int(equal.sum()),
        "no prompt": int(no_prompt.sum()),
    }
    return pairs[~(blank | equal | no_prompt)], {k: n for k, n in excluded.items() if n}


def shorten(pairings: pd.DataFrame, words: int) -> pd.DataFrame:
    """Return the pairings or the lineup with every answer cut to its first `words` words.

    Use it for judges with a short context, where cutting the whole prompt would cut only one
    answer. Raises FrameError for fewer than one word, and for a frame without answers.
    """
    sides = [name for name in ("answer", "answer_a", "answer_b") if name in pairings.columns]
    if not sides or words < 1:
        raise FrameError(
            f"found {words} words and the columns {', '.join(map(str, pairings.columns))}; expected"
            " at least one word, and a pairings frame or a lineup",
            columns=sides,
        )

    def cut(turns: Sequence[str]) -> list[str]:
        return [" ".join(text.split()[:words]) for text in turns]

    return pairings.assign(**{name: pairings[name].map(cut) for name in sides})


def digest_of(rows: Iterable[Any]) -> str:
    """Return the SHA-256 of rows of JSON, in order."""
    total = hashlib.sha256()
    for row in rows:
        total.update(canonical_json(row) + b"\n")
    return total.hexdigest()


Answer = tuple[Any, str, str, str]  # score, model, prompt, answer


def _texts(lineup: pd.DataFrame) -> dict[tuple[Any, str, int], tuple[str, str]]:
    check(lineup, "lineup")
    columns = (lineup[name] for name in ("question_id", "model", "sample", "question", "answer"))
    return {
        (question_id, model, int(sample)): (question[0], answer[0])
        for question_id, model, sample, question, answer in zip(*columns, strict=True)
    }


def _texts_of(
    texts: dict[tuple[Any, str, int], tuple[str, str]], question: Any, model: str, sample: int
) -> tuple[str, str]:
    try:
        return texts[question, model, int(sample)]
    except KeyError:
        raise FrameError(
            f"there is no answer of {model!r} (sample {sample}) to question {question!r} in the"
            " lineup; line up the answers that were judged",
            rows=[question, model, sample],
        ) from None


def _pair(number: int, question: Any, better: Answer, worse: Answer) -> dict[str, Any]:
    return {
        "pair_id": number,
        "subset": "all",
        "prompt": better[2],
        "chosen": better[3],
        "rejected": worse[3],
        "question_id": question,
        "model_chosen": better[1],
        "model_rejected": worse[1],
    }
