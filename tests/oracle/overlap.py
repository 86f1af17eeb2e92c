"""Answers that have a planted share of a reference's words, for what is measured by overlap."""

from __future__ import annotations

import numpy as np
import pandas as pd

# The references' lengths in words by group, and the share of words that each model has of them.
LENGTHS = {"0-2": (1, 2), "3-5": (3, 4, 5), "6-10": (6, 8, 10), "10>": (11, 17, 26)}
SHARED = {
    "sim-alder": (0.62, 0.55, 0.47, 0.36),
    "sim-birch": (0.28, 0.33, 0.41, 0.45),
    "sim-cedar": (0.45, 0.39, 0.52, 0.57),
}


def overlapping(seed: int = 0, *, each: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Answers beside their references, and the truth: the expected ROUGE-L by length and model.

    The answers have columns question_id, length (the reference's group), model, reference, answer;
    the truth has length, model and planted, with the length ALL for all together. Each group has
    `each` questions. Every word of a reference stands in it once; an answer keeps each of them with
    the planted chance and has a word of its own in the place of each other, so that its ROUGE-L is
    the share that it kept. The same seed gives the same frames.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for group, (length, sizes) in enumerate(LENGTHS.items()):
        for number in range(each):
            words = [f"w{at}" for at in range(sizes[number % len(sizes)])]
            question = {"question_id": group * each + number, "length": length}
            for model, chances in SHARED.items():
                kept = rng.random(len(words)) < chances[group]
                said = [
                    word if keep else f"x{word}" for word, keep in zip(words, kept, strict=True)
                ]
                texts = {"reference": " ".join(words), "answer": " ".join(said)}
                rows.append({**question, "model": model, **texts})
    planted = [
        {"length": length, "model": model, "planted": chance}
        for model, chances in SHARED.items()
        for length, chance in zip((*LENGTHS, "ALL"), (*chances, np.mean(chances)), strict=True)
    ]
    return pd.DataFrame(rows), pd.DataFrame(planted)
