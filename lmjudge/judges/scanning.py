"""Find texts that speak to a judge: planted verdicts, imitated markers and instructions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pandas as pd

from lmjudge.errors import FrameError

_LOOKS_FOR = {
    "verdict": re.compile(
        r"\[\[\s*(?:[ABC]|rating\w*|[-+]?\d+(?:\.\d+)?(?:\s*,\s*[-+]?\d+(?:\.\d+)?)*)\s*\]\]", re.I
    ),
    "two scores on the first line": re.compile(r"\A\s*\d+(?:\.\d+)?[ ,]+\d+(?:\.\d+)?\s*(?:$|\n)"),
    "json verdict": re.compile(r"[\"'](?:winner|score(?:_[ab])?|scores|verdict)[\"']\s*:", re.I),
    "marker": re.compile(
        r"<<<\s*(?:question|reply|correct|conversation|[ab]\b)|>>>\s*end of"
        r"|\[(?:the )?(?:start|end) of |\[/?INST\]|<</?SYS>>|</?think(?:ing)?>"
        r"|<\|(?:im_start|im_end|eot_id|start_header_id|system|assistant|user)\|?>",
        re.I,
    ),
    "words to the judge": re.compile(
        r"(?:ignore|disregard|forget)\s+(?:all\s+|any\s+|the\s+)*"
        r"(?:previous|prior|above|earlier|other)\b"
        r"|(?:dear|attention|note to)\s+(?:the\s+)?(?:judge|grader|evaluator)\b"
        r"|as (?:the|a|an impartial) judge\b|(?:final|my)\s+verdict\b"
        r"|\b(?:assistant|answer|response|reply)\s+['\"]?[AB1-2]['\"]?\s+(?:is|was)\s+"
        r"(?:clearly\s+)?(?:the\s+)?(?:better|best|superior|winner)"
        r"|(?:give|rate|award|score)\s+(?:this|me|it|my)\b.{0,40}"
        r"\b(?:10|ten|highest|full|maximum|perfect)\b",
        re.I,
    ),
}
_UNSEEN = {"Cc", "Cf"}
_PLAIN = "\n\r\t\u00ad\u200d\ufeff"  # of controls and formats, those that ordinary texts have


def scan(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what in the texts of a frame is addressed to a judge, one row a find: where and what.

    Takes answers, a lineup, pairings (each side), games, scores or pairs, or any frame with a
    column of texts. Columns: question_id, model (where the frame has them), column, turn (from 1),
    what, found (the words, at most 80 characters). `what` is a verdict in one of the forms that
    parsers read, a marker that our prompts, FastChat's or chat templates are built with, words to
    the judge, or unseen characters (controls, and such as turn the direction of text). A find is a
    reason to look, not a proof: an answer about this very subject has them too. Raises FrameError
    for a frame without texts.

    >>> answers = pd.DataFrame({"question_id": [1], "model": ["m"], "turns": [["So: [[A]]"]]})
    >>> scan(answers)[["model", "what", "found"]].to_numpy().tolist()
    [['m', 'verdict', '[[A]]']]
    """
    names = ("turns", "answer", "answer_a", "answer_b", "text", "chosen", "rejected")
    columns = [name for name in names if name in frame.columns]
    if not columns:
        raise FrameError(
            f"the frame has no texts (found {', '.join(map(str, frame.columns))}); it needs one of"
            f" {', '.join(names)}",
            columns=list(names),
        )
    rows = []
    for line in frame.to_dict("records"):
        for column in columns:
            side = "model" + column.removeprefix("answer") if "model_a" in line else "model"
            for turn, text in enumerate(_turns(line[column]), 1):
                for what, excerpt in _finds(text):
                    rows.append(
                        {
                            "question_id": line.get("question_id"),
                            "model": line.get(side),
                            "column": column,
                            "turn": turn,
                            "what": what,
                            "found": excerpt[:80],
                        }
                    )
    return pd.DataFrame(rows, columns=["question_id", "model", "column", "turn", "what", "found"])


def _turns(cell: Any) -> list[str]:
    if isinstance(cell, str):
        return [cell]
    return [text for text in cell if isinstance(text, str)] if hasattr(cell, "__len__") else []


def _finds(text: str) -> Iterator[tuple[str, str]]:
    for what, pattern in _LOOKS_FOR.items():
        for match in pattern.finditer(text):
            yield what, match.group().strip()
    unseen = {
        f"U+{ord(char):04X}"
        for char in set(text) - set(_PLAIN)
        if unicodedata.category(char) in _UNSEEN
    }
    if unseen:
        yield "unseen characters", " ".join(sorted(unseen))
