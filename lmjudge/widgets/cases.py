"""What a vote is cast on: a question's turn and two answers to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from lmjudge.frames import check


@dataclass(frozen=True)
class Case:
    """A question's turn and two models' answers to it, the left one first, as a voter sees them."""

    question_id: Any
    turn: int
    question: tuple[str, ...]
    models: tuple[str, str]
    answers: tuple[tuple[str, ...], tuple[str, ...]] | None

    @property
    def pair(self) -> tuple[Any, int, frozenset[str]]:
        """What one vote a voter is cast on, whichever side is which."""
        return self.question_id, self.turn, frozenset(self.models)


def cases_of(pairings: pd.DataFrame, turns: tuple[int, ...]) -> list[Case]:
    """Return the cases of a pairings frame, as many turns of each as both answered."""
    cases = []
    columns = ["question_id", "model_a", "model_b", "question", "answer_a", "answer_b"]
    for of, a, b, asked, said_a, said_b in check(pairings, "pairings")[columns].itertuples(
        index=False, name=None
    ):
        for turn in turns:
            if turn > min(len(asked), len(said_a), len(said_b)):
                continue
            left, right = tuple(said_a[:turn]), tuple(said_b[:turn])
            known = of.item() if hasattr(of, "item") else of
            cases.append(Case(known, turn, tuple(asked[:turn]), (str(a), str(b)), (left, right)))
    return cases
