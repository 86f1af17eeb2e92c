"""Plant signs of quality in a study's texts, for models that learn from texts.

The study's own texts show nothing of their quality: its judges know it by a word that identifies
the answer. A model in training needs a sign that it can learn. It is planted here and documented,
so that you can compare it with what the model learned.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.simulation.endpoint import _TOKEN
from lmjudge.simulation.study import Study

# Which of these a word of an answer becomes says how good the answer is.
SOUND = ("apt", "exact", "lucid", "sound", "useful", "valid")
LOOSE = ("dull", "empty", "hazy", "loose", "stale", "vague")
SIGNS = 0.7


def signed(study: Study) -> pd.DataFrame:
    """Return the study's answers with the sign: a share SIGNS of their words are SOUND or LOOSE.

    Each of these is SOUND with the probability (quality - 1) / 9, held within 0.02 and 0.98, where
    the quality is the turn's own: so many words tell it, with the error of a share. Lengths and the
    words that stand for the answers stay, and so does all that the study's judges say of them.
    """
    rng = np.random.default_rng([study.seed, 11])
    turns = [[_signed(study, text, rng) for text in texts] for texts in study.answers["turns"]]
    return study.answers.assign(turns=turns)


def word_of(text: str) -> str:
    """Return the word that stands for an answer; "" where it has none."""
    match = _TOKEN.search(text)
    return match[0].lower() if match else ""


def _signed(study: Study, text: str, rng: np.random.Generator) -> str:
    fact = study.endpoint.facts.get(word_of(text))
    quality = fact.quality if fact else 5.5
    chance = min(0.98, max(0.02, (quality - 1) / 9))
    words = text.split()
    for at, word in enumerate(words):
        if not _TOKEN.search(word) and rng.random() < SIGNS:
            signs = SOUND if rng.random() < chance else LOOSE
            words[at] = signs[int(rng.integers(len(signs)))]
    return " ".join(words)
