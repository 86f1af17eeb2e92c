"""Instruction data as frames: answered instructions, scores that a judge gave, pairs of answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lmjudge.canonical import clean_text
from lmjudge.data.reading import Row, SourceOrPath, bad_row, files_of, read_lines
from lmjudge.errors import DataError
from lmjudge.frames import frame, with_input


def load_instructions(source: SourceOrPath) -> pd.DataFrame:
    """The answered instructions of a source, or of a file of one's own in Alpaca's format.

    Columns: question_id (the row's place in its file, from 0), model, instruction, input ("" for
    none), answer, and reference where rows have a `label`. The format is a JSON array, or JSON
    lines, of objects with instruction, input and output; the model of a file of one's own is its
    name. Raises DataMissing for what is not here,
    BadRow for a row without these texts. Source: Stanford Alpaca; arXiv 2304.03277, section 2.
    """
    rows = []
    for path, model in files_of(source, "instructions"):
        for number, row in _rows(path):
            texts = {name: row.get(name, "") for name in ("instruction", "input", "output")}
            if not row.get("instruction") or not all(isinstance(t, str) for t in texts.values()):
                problem = f"has {', '.join(row)}; expected texts in instruction, input and output"
                raise bad_row(path, number, problem)
            answer = texts.pop("output")
            rows.append({"question_id": number - 1, "model": model, **texts, "answer": answer})
            if "label" in row:
                rows[-1]["reference"] = str(row["label"])
    return pd.DataFrame(rows)


def load_scores(source: SourceOrPath = "gpt4llm") -> pd.DataFrame:
    """The scores of a released list a model, as a scores frame.

    A list names its model and nothing else: neither the question nor the judge's text is known, and
    the lists of different models do not match row by row (their lengths differ). Half points and
    zeros stay as released. Raises DataMissing for what is not here, DataError for a file that is
    no such object of lists. Source: arXiv 2304.03277, Figure 2.
    """
    rows = []
    for path, judge in files_of(source, "score-lists"):
        lists = _json(path)
        if not isinstance(lists, dict):
            raise DataError(f"{path} is no JSON object of lists of scores", path=path)
        for model, scores in lists.items():
            if not isinstance(scores, list) or not all(_is_score(score) for score in scores):
                raise DataError(f"{path} has no list of numbers for {model!r}", path=path)
            known = {"question_id": None, "turn": 1, "model": model, "judge": judge, "sample": 0}
            rest = {"reason": None, "text": None, "key": None}
            rows += [known | {"score": float(score)} | rest for score in scores]
    return frame("scores", rows)


def load_pairs(source: SourceOrPath) -> pd.DataFrame:
    """The comparison pairs of a source, or of a file of one's own: a pairs frame.

    A row has `prompt`, `chosen` and `rejected`, or `instruction`, `input` and `output`, a list of
    the better and the worse answer; `pair_id` is its place in the file, from 0, and `subset` the
    row's own, else the file's name. Raises DataMissing for what is not here and BadRow for a row of
    neither form. Source: arXiv 2304.03277, section 3; TRL and RewardBench for the other names.
    """
    rows = []
    for path, _ in files_of(source, "pairs"):
        for number, row in _rows(path):
            output = row.get("output")
            if isinstance(output, list) and len(output) == 2:
                prompt = with_input([row.get("instruction") or ""], row.get("input"))[0]
                texts = dict(zip(("prompt", "chosen", "rejected"), (prompt, *output), strict=True))
            else:
                texts = {name: row.get(name) for name in ("prompt", "chosen", "rejected")}
            if not all(isinstance(text, str) for text in texts.values()) or not texts["prompt"]:
                problem = f"has {', '.join(row)}; expected prompt, chosen and rejected, or"
                raise bad_row(path, number, f"{problem} instruction, input and two outputs")
            named = {"pair_id": number - 1, "subset": row.get("subset", path.stem)}
            rows.append(named | texts)
    return frame("pairs", rows)


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Each (number from 1, row) of a JSON array of objects, or of JSON lines."""
    if path.suffix == ".jsonl":
        yield from read_lines(path, {})
        return
    rows = _json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} is no JSON array with rows in it; expected objects", path=path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise bad_row(path, number, f"holds a {type(row).__name__}; expected a JSON object")
        yield number, row


def _json(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
        # Half surrogates stand as escapes in some releases; no store or table can hold them.
        return json.loads(text, object_pairs_hook=_cleaned if "\\ud" in text.lower() else None)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not JSON ({error}); mend it, or get it again", path=path
        ) from error


def _cleaned(items: list[tuple[str, object]]) -> Row:
    return {name: clean_text(value) if isinstance(value, str) else value for name, value in items}


def _is_score(score: object) -> bool:
    return isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score)
