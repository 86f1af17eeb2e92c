"""Questions, answers and pairs of answers from whatever file they stand in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.data import SOURCES, load_answers, load_questions
from lmjudge.data.reading import Row, bad_row, files_of
from lmjudge.data.sources import original, plain
from lmjudge.errors import DataError
from lmjudge.formats.rows import Ids, PathLike, question_of, rows_of, text_of, texts_of
from lmjudge.frames import frame, with_input

_SIDES = {
    "answer_a": ("answer_a", "output_1", "response_a"),
    "answer_b": ("answer_b", "output_2", "response_b"),
    "model_a": ("model_a", "generator_1"),
    "model_b": ("model_b", "generator_2"),
}


def read_questions(source: PathLike, references: PathLike | None = None) -> pd.DataFrame:
    """The questions in a file, or of a published source: a questions frame.

    A row has `turns`, or its question as `question`, `prompt`, `instruction` or `text` (and `input`
    beside it); `question_id` or `uid`, else its id is made of its text (see `Ids`); `category` or
    `dataset`, or none. `reference` is a list of texts, or one; `references`, a file of answers,
    takes its place. A folder is read as FastChat keeps it (`load_questions`). Raises DataError and
    BadRow for what cannot be read, and for a question_id that stands twice.
    """
    if plain(source) in SOURCES or Path(source).is_dir():
        made = load_questions(original(source))
    else:
        made = frame("questions", list(_questions(Path(source)).values()))
    if references is None:
        return made
    known = read_answers([references])
    known = known[known["sample"] == 0].drop_duplicates("question_id")
    guides = dict(zip(known["question_id"], known["turns"], strict=True))
    return made.assign(reference=[guides.get(one) for one in made["question_id"]])


def _questions(path: Path) -> dict[Any, Row]:
    ids, rows = Ids(), {}
    for line, row in rows_of(path):
        turns, question_id = question_of(row), ids.of(row)
        if turns is None:
            told = f"has no question; it has {', '.join(map(str, row))}: name it question or prompt"
            raise bad_row(path, line, told)
        if question_id in rows:
            raise bad_row(path, line, f"repeats the question {question_id}")
        rows[question_id] = {
            "question_id": question_id,
            "category": _category(row),
            "turns": turns,
            "reference": texts_of(row["reference"]) if row.get("reference") else None,
        }
        if row.get("input"):
            rows[question_id]["input"] = str(row["input"])
    return rows


def read_answers(sources: Iterable[PathLike]) -> pd.DataFrame:
    """The answers in files and folders, or of published sources, all together: an answers frame.

    Read are FastChat's rows (`choices`), the Vicuna blog's (`text`), AlpacaEval's outputs,
    Arena-Hard's (`messages`), and tables of question_id, model and `answer` or `output`. The model
    is the row's model_id, model or generator, else the file's name; a choice's `index` is its
    sample. Raises DataError and BadRow for what cannot be read, and BadRow for a model that answers
    a question twice in one sample, in one file or in two.
    """
    seen: dict[tuple[Any, ...], Path] = {}
    rows: list[Row] = []
    published = []
    for source in sources:
        if plain(source) in SOURCES:
            published.append(load_answers(original(source)))
            continue
        folder = Path(source)
        files = [path for path, _ in files_of(folder, "answers")] if folder.is_dir() else [folder]
        for path in files:
            for line, row in _answers(path):
                whose = (row["question_id"], row["model"], row["sample"])
                if whose in seen:
                    told = f"answers the question {whose[0]} as {whose[1]!r} a second time"
                    where = "" if seen[whose] == path else f" (first in {seen[whose]})"
                    raise bad_row(path, line, f"{told}{where}; keep one of the two")
                seen[whose] = path
                rows.append(row)
    made = frame("answers", rows)
    return pd.concat([made, *published], ignore_index=True) if published else made


def _answers(path: Path) -> Iterator[tuple[int, Row]]:
    ids = Ids()
    for line, row in rows_of(path):
        named = [row[name] for name in ("model_id", "model", "generator") if row.get(name)]
        model = named[0] if named else path.stem
        question_id = ids.of(row | {"text": None}, str(model))
        choices = list(_choices(row))
        if question_id is None or not choices or any(turns is None for _, turns in choices):
            told = "is no answer; expected a question's id or text, and choices, output or answer"
            raise bad_row(path, line, f"{told} (it has {', '.join(map(str, row))})")
        if not isinstance(model, str) or any(sample is None for sample, _ in choices):
            raise bad_row(path, line, "names its model by no text, or its sample by no number")
        listed = row["choices"] if isinstance(row.get("choices"), list) else [row]
        for (sample, turns), choice in zip(choices, listed, strict=False):
            answer = {"question_id": question_id, "model": model, "turns": turns, "sample": sample}
            if isinstance(choice, dict) and "finish_reason" in choice:
                answer["finish_reason"] = choice["finish_reason"]
            yield line, answer


def _choices(row: Row) -> Iterator[tuple[int | None, list[str] | None]]:
    """Each (sample, turns) of a row, None where they are no number, or not texts."""
    if isinstance(row.get("choices"), list):
        for place, choice in enumerate(row["choices"]):
            known = choice if isinstance(choice, dict) else {}
            yield _number(known.get("index", place)), texts_of(known.get("turns"))
    elif isinstance(row.get("messages"), list):
        told = [one for one in row["messages"] if isinstance(one, dict)]
        yield 0, texts_of([one.get("content") for one in told if one.get("role") == "assistant"])
    else:
        said = [row[name] for name in ("answer", "output", "turns", "text") if row.get(name)]
        yield _number(row.get("sample") or 0), texts_of(said[0]) if said else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _category(row: Row) -> str | None:
    return text_of(row.get("category", row.get("dataset"))) or None


def read_pairings(path: PathLike) -> pd.DataFrame:
    """Pairs of answers from one file, a row a pair: a pairings frame, to be judged as it is.

    A row has a question as in `read_questions`, answer_a and answer_b (AlpacaEval: output_1 and
    output_2), and may have model_a and model_b (generator_1 ...; else "a" and "b"), question_id,
    category and reference. A question may come in several rows if its models differ; the same pair
    again is the next `sample`. Raises DataError and BadRow for what cannot be read.
    """
    seen: dict[tuple[Any, ...], int] = {}
    rows = []
    for line, row in rows_of(path):
        found = {
            name: next((text_of(row[one]) for one in given if row.get(one) is not None), None)
            for name, given in _SIDES.items()
        }
        question, question_id = question_of(row), Ids().of(row)
        lacks = [name for name in ("answer_a", "answer_b") if found[name] is None]
        lacks += [] if question else ["question"]
        if lacks or question is None:
            raise bad_row(Path(path), line, f"lacks {', '.join(lacks)}; it has {', '.join(row)}")
        question = with_input(question, str(row.get("input") or ""))
        pair = (question_id, found["model_a"] or "a", found["model_b"] or "b")
        if pair[1] == pair[2]:
            raise DataError(f"line {line} of {path} sets {pair[1]!r} against itself", path=path)
        seen[pair] = seen.get(pair, -1) + 1
        rows.append(
            dict(zip(("question_id", "model_a", "model_b"), pair, strict=True))
            | {
                "category": _category(row),
                "sample": seen[pair],
                "question": question,
                "reference": texts_of(row["reference"]) if row.get("reference") else None,
                "answer_a": [found["answer_a"]],
                "answer_b": [found["answer_b"]],
            }
        )
    return frame("pairings", rows)
