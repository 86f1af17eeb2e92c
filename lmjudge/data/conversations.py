"""Questions and answers that votes were cast on, where conversations were released with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.data.finding import place
from lmjudge.data.reading import SourceOrPath, bad_row, own_path, read_table
from lmjudge.data.sources import source_named
from lmjudge.frames import frame

_COLUMNS = ("question_id", "model_a", "model_b", "conversation_a", "conversation_b")


def conversations_of(source: SourceOrPath, role: str) -> list[Path]:
    """The parquet files of votes that stand in for a source's files of a role; none where it has
    such files. Raises as `place` does."""
    own = own_path(source)
    if own:
        return [own] if own.suffix == ".parquet" else []
    entry = source_named(os.fspath(source))
    if entry.bench or entry.having(role):
        return []
    votes = place(entry.name, "votes") if entry.having("votes") else []
    return [path for path, _ in votes if path.suffix == ".parquet"]


def talked(paths: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The questions and the answers in files of votes with conversations: two frames.

    Of one question the longest conversation counts, for a vote on a first turn may stand beside the
    whole. Raises BadRow where a conversation is none, or where one model gave two different answers
    to one question, or two users asked differently under one question_id.
    """
    asked: dict[Any, dict[str, Any]] = {}
    said: dict[tuple[Any, str], list[str]] = {}
    for path in paths:
        table = read_table(path, _COLUMNS, also=("language",))
        for number, row in enumerate(table.to_dict("records"), 1):
            key = row["question_id"]
            for side in ("a", "b"):
                turns, answers = _turns(path, number, row[f"conversation_{side}"])
                known = asked.setdefault(
                    key,
                    {
                        "question_id": key,
                        "category": row.get("language"),
                        "turns": [],
                        "reference": None,
                    },
                )
                whose = (key, row[f"model_{side}"])
                known["turns"] = _longer(path, number, known["turns"], turns)
                said[whose] = _longer(path, number, said.get(whose, []), answers)
    rows = [
        {"question_id": key, "model": model, "turns": turns, "sample": 0}
        for (key, model), turns in said.items()
    ]
    return frame("questions", list(asked.values())), frame("answers", rows)


def _turns(path: Path, number: int, talk: Any) -> tuple[list[str], list[str]]:
    """What the user and what the model said in turn; BadRow for what is no such conversation."""
    try:
        roles = [message["role"] for message in talk]
        texts = [message["content"] for message in talk]
    except (TypeError, KeyError) as error:
        problem = f"has a conversation that is no list of role and content ({error!r})"
        raise bad_row(path, number, problem) from error
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise bad_row(path, number, f"has the roles {roles}; expected user, assistant in turn")
    return texts[::2], texts[1::2]


def _longer(path: Path, number: int, known: list[str], found: list[str]) -> list[str]:
    if any(a != b for a, b in zip(known, found, strict=False)):
        problem = "has another text where the same question or answer stood in a row before"
        raise bad_row(path, number, problem)
    return max(known, found, key=len)
