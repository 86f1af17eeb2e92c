"""Signs of quality in the texts of a study, for models that learn from texts; and other answers.

The study's own texts say nothing of their quality: its judges know it by a word that stands for the
answer. A model that is trained needs a sign that can be learned, and answers that a model gave have
no such word. Both are planted here, and documented, so that what is learned can be held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmjudge.simulation.endpoint import _TOKEN, Fact, SimulatedEndpoint
from lmjudge.simulation.planted import SimulatedJudge
from lmjudge.simulation.study import Study, _token

# Which of these a word of an answer becomes says how good the answer is.
SOUND = ("apt", "exact", "lucid", "sound", "useful", "valid")
LOOSE = ("dull", "empty", "hazy", "loose", "stale", "vague")
SIGNS = 0.7


def signed(study: Study) -> pd.DataFrame:
    """The study's answers with the sign: a share SIGNS of their words are SOUND or LOOSE.

    Each of these is SOUND with the probability (quality - 1) / 9, held within 0.02 and 0.98, where
    the quality is the turn's own: so many words tell it, with the error of a share. Lengths and the
    words that stand for the answers stay, and so does all that the study's judges say of them.
    """
    rng = np.random.default_rng([study.seed, 11])
    turns = [[_signed(study, text, rng) for text in texts] for texts in study.answers["turns"]]
    return study.answers.assign(turns=turns)


def told(
    answers: pd.DataFrame, quality: Sequence[float], judges: Sequence[SimulatedJudge], seed: int
) -> tuple[pd.DataFrame, SimulatedEndpoint]:
    """Answers of any models with a word that stands for each, and an endpoint that judges them.

    `quality` is what each answer is worth (first turns alone), by a rule of one's own.
    """
    facts: dict[str, Fact] = {}
    turns = []
    for row, worth in zip(answers.to_dict("records"), quality, strict=True):
        token = _token(seed, row["question_id"], row["model"], row["sample"])
        text = f"{row['turns'][0]} {token}".strip()
        words = len(text.split())
        facts[token] = Fact(
            row["question_id"], 1, row["model"], float(worth), words, words > 40, False
        )
        turns.append([text])
    return answers.assign(turns=turns), SimulatedEndpoint(seed, tuple(judges), facts)


def by_answer(endpoint: SimulatedEndpoint) -> dict[tuple[Any, int, str], Fact]:
    """Return what is known of each answer by its question, turn and model."""
    return {(fact.question_id, fact.turn, fact.model): fact for fact in endpoint.facts.values()}


def word_of(text: str) -> str:
    """The word that stands for an answer; "" where it has none."""
    found = _TOKEN.search(text)
    return found[0].lower() if found else ""


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
