"""Make the shipped rows again from the released files: `python -m lmjudge.data.rows [folder]`."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lmjudge.data import (
    load_answers,
    load_judgments,
    load_questions,
    load_votes,
)
from lmjudge.data.finding import find
from lmjudge.data.rows import FOLDER, TEXTS
from lmjudge.data.votes import people

_ORDER = {
    "games": ["question_id", "turn", "model_a", "model_b", "judge", "sample"],
    "scores": ["question_id", "turn", "model", "judge", "sample"],
    "votes": ["question_id", "turn", "model_a", "model_b", "judge", "winner"],
    "means": ["model", "category"],
    "questions": ["question_id"],
    "answers": ["question_id", "model", "sample", "turn"],
}
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*(?:[-*+]|\d+[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each shipped file's name and rows, made of the released files."""
    for source in ("vicuna-blog", "prd"):
        yield f"{source}.games", load_judgments(f"{source}/original", "games")
        yield f"{source}.questions", load_questions(f"{source}/original")
        yield f"{source}.answers", figures(load_answers(f"{source}/original"))
    yield "prd.votes", people("prd")
    # The copy of the first turn, whose bytes are at hand; the Parquet file of both may not be.
    copy = find("mt-bench-human", "mt_bench_human_judgments/human_judgments_turn1.jsonl")
    yield "mt-bench-human.votes", load_votes(copy)
    yield "llmfao.votes", load_votes("llmfao/original")


def figures(answers: pd.DataFrame) -> pd.DataFrame:
    """Return what is counted in each turn of the answers: a row a turn.

    Words are what white space separates. Markdown is counted outside of code blocks.
    """
    rows = []
    for answer in answers.to_dict("records"):
        for turn, text in enumerate(answer["turns"], 1):
            prose = _CODE.sub("", text)
            rows.append(
                {
                    **{name: answer[name] for name in ("question_id", "model", "sample")},
                    "turn": turn,
                    "words": len(text.split()),
                    "characters": len(text),
                    "headings": len(_HEADING.findall(prose)),
                    "items": len(_ITEM.findall(prose)),
                    "bold": len(_BOLD.findall(prose)),
                }
            )
    return pd.DataFrame(rows)


def content(name: str, table: pd.DataFrame) -> bytes:
    """Return a table as the bytes of its file: without texts, sorted, one row a line."""
    kind = name.rpartition(".")[2]
    table = table.drop(columns=[*TEXTS[kind], "scores", "asked"], errors="ignore")
    table = table.sort_values(_ORDER[kind], kind="stable", na_position="last")
    return table.to_csv(index=False, lineterminator="\n").encode("utf-8")


def write(folder: Path) -> None:
    """Write all files and their SHA256SUMS into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = []
    for name, table in sorted(tables(), key=lambda item: item[0]):
        made = content(name, table)
        (folder / f"{name}.csv").write_bytes(made)
        sums.append(f"{hashlib.sha256(made).hexdigest()}  {name}.csv\n")
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
