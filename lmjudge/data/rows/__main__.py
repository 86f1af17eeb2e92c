"""Make the shipped rows again from the released files: `python -m lmjudge.data.rows [folder]`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lmjudge.data import (
    answers_from_judgments,
    load_answers,
    load_judgments,
    load_questions,
    load_votes,
)
from lmjudge.data.finding import find
from lmjudge.data.loading import people
from lmjudge.data.rows import FOLDER, TEXTS
from lmjudge.frames import COLUMNS, in_order
from lmjudge.stats.text import text_counts

_ORDER = {
    "games": ["question_id", "turn", "model_a", "model_b", "judge", "sample"],
    "scores": ["question_id", "turn", "model", "judge", "sample"],
    "votes": ["question_id", "turn", "model_a", "model_b", "judge", "winner"],
    "questions": ["question_id"],
    "answers": ["question_id", "model", "sample", "turn"],
}
# What ships beside the columns of games and scores; an answers table holds counts instead.
_BESIDE = ("category", "prompt", "origin", "published", "published_a", "published_b", "asked")


def tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each shipped file's name and rows, made of the released files."""
    for source in ("vicuna-blog", "prd", "prd-again", "dolphin", "routellm"):
        yield f"{source}.questions", load_questions(f"{source}/original")
        recovered = source == "routellm"
        load = answers_from_judgments if recovered else load_answers
        yield f"{source}.answers", text_counts(load(f"{source}/original"))
    yield "vicuna-blog.games", load_judgments("vicuna-blog/original").drop(columns="asked")
    games = {name: load_judgments(f"{name}/original") for name in ("prd", "prd-again")}
    # What both runs were asked has one `asked`; of the rest `key` says as much.
    shared = {*games["prd"]["asked"].dropna()} & {*games["prd-again"]["asked"]}
    for source, rows in games.items():
        yield f"{source}.games", rows.assign(asked=rows["asked"].where(rows["asked"].isin(shared)))
    for source in ("dolphin", "routellm"):
        yield f"{source}.scores", load_judgments(f"{source}/original").drop(columns="asked")
    yield "prd.votes", people("prd/original")
    # The copy of the first turn: the Parquet file of both turns has other bytes.
    copy = find("mt-bench-human", "mt_bench_human_judgments/human_judgments_turn1.jsonl")
    votes = load_votes(copy)
    yield "mt-bench-human.votes", votes
    yield "mt-bench-human.questions", load_questions("mt-bench")
    answers = load_answers("mt-bench")
    yield "mt-bench-human.answers", text_counts(answers[answers["model"].isin({*votes["model_a"]})])
    yield "llmfao.votes", load_votes("llmfao/original")
    yield "mt-bench-radar.scores", load_judgments("mt-bench-radar/original")


def content(name: str, table: pd.DataFrame) -> bytes:
    """Return a table as the bytes of its file: without texts, sorted, one row a line."""
    kind = name.rpartition(".")[2]
    if kind in ("games", "scores", "votes", "questions"):
        table = table[[n for n in dict.fromkeys((*COLUMNS[kind], *_BESIDE)) if n in table.columns]]
    table = table.drop(columns=[*TEXTS[kind]], errors="ignore")
    if table["question_id"].notna().any():  # the radar's models and axes have an order
        table = in_order(table, _ORDER[kind])
    return table.to_csv(index=False, lineterminator="\n").encode("utf-8")


def write(folder: Path) -> None:
    """Write all files and their SHA256SUMS into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = []
    for name, table in sorted(tables(), key=lambda item: item[0]):
        body = content(name, table)
        (folder / f"{name}.csv").write_bytes(body)
        sums.append(f"{hashlib.sha256(body).hexdigest()}  {name}.csv\n")
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
