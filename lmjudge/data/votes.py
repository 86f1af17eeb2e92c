"""Votes as frames: human, crowd and judges' votes as their authors released them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lmjudge.data.finding import place
from lmjudge.data.judgments import load_judgments
from lmjudge.data.reading import (
    Row,
    SourceOrPath,
    bad_row,
    files_of,
    own_path,
    read_lines,
    read_table,
)
from lmjudge.data.rows import shipped
from lmjudge.data.showings import CHOICES, PAIRWISE
from lmjudge.data.sources import source_named
from lmjudge.frames import COLUMNS, frame, resolve

# Winners as the files have them: ours, and the reason that goes with it.
_WINNERS = {
    "model_a": ("model_a", None),
    "model_b": ("model_b", None),
    "tie": ("tie", None),
    "tie (bothbad)": ("tie", "both_bad"),
    "tie (inconsistent)": ("tie", "inconsistent"),
    "left": ("model_a", None),
    "right": ("model_b", None),
}
_VOTE = ("question_id", "model_a", "model_b", "winner", "judge")
_CROWD = {"prompt": "question_id", "left": "model_a", "right": "model_b", "worker": "judge"}
_GROUPS = {"expert": "expert", "author": "author", "gpt-4": "llm", "gpt4": "llm"}


def load_votes(source: SourceOrPath) -> pd.DataFrame:
    """Load the votes of a source, or of your own file: a votes frame.

    A source's name reads the rows that ship with lmjudge, where they do ("mt-bench-human", "prd",
    "llmfao", "vicuna-blog"); `<name>/original` reads the fetched files.

    Read are human votes as "mt-bench-human" has them (parquet or JSON lines; `group` is "expert" or
    "author" by the judge's name, else "crowd"), GPT-4's ("mt-bench-gpt4", group "llm"), and crowd
    votes as "llmfao" has them (left, right, winner); a CSV of one's own has question_id, model_a,
    model_b, winner, judge and, where it matters, turn. Pairwise judgments in both orders ("prd", or
    a file of one's own as FastChat writes it) give the votes that `resolve` makes of them. A tie
    that stood for something else says so in `reason`: `both_bad`, `inconsistent`. Raises
    DataMissing, BadRow and DataError as the others do.
    """
    own = own_path(source)
    if own:
        files = files_of(source, "votes")
        if all(_judged(path) for path, _ in files):
            return resolve(load_judgments(source, "games"))
        return _votes(files)
    entry = source_named(os.fspath(source))
    said = people(source) if entry.having("votes") else None
    if said is not None and not any(map(entry.having, PAIRWISE)):
        return said
    games = load_judgments(source, "games")
    # A verdict that the source's authors entered by hand counts, as they counted it.
    judged = resolve(
        games.assign(
            winner=games["published"].where(games["published"].notna(), games["winner"]),
            reason=games["reason"].where(games["published"].isna()),
        )
    )
    return judged if said is None else pd.concat([judged, said], ignore_index=True)


def people(source: SourceOrPath) -> pd.DataFrame:
    """Return the votes in a source's own files of votes, without those that judgments amount to.

    PRD's people are unnamed: each verdict is a vote whose `judge` is missing, on the sides as they
    were shown.
    """
    rows = shipped(source, "votes")
    if rows is not None:
        return rows
    entry = source_named(os.fspath(source))
    files = place(entry.name, "votes")
    if entry.having("threeclass"):
        return _reviewed(files, {Path(file.path).stem: file.model for file in entry.files})
    return _votes(files)


def _reviewed(files: list[tuple[Path, str]], models: dict[str, str]) -> pd.DataFrame:
    """Return the votes in PRD's files, whose names say which answers were shown: 1, 2, 3 = tie."""
    rows = []
    for path, _ in files:
        shown = path.stem.partition("-human-")[0].split("-vs-")
        model_a, model_b = (models.get(part, part.removeprefix("answer_")) for part in shown)
        for line, row in read_lines(path, {"question_id": (int, str), "score": int}):
            if row["score"] not in CHOICES:
                raise bad_row(path, line, f"has score = {row['score']!r}; expected 1, 2 or 3")
            rows.append(
                {
                    "question_id": row["question_id"],
                    "turn": 1,
                    "model_a": model_a,
                    "model_b": model_b,
                    "judge": None,
                    "group": "crowd",
                    "winner": CHOICES[row["score"]],
                    "reason": None,
                    "time": None,
                }
            )
    return frame("votes", rows).astype({"time": float})


def _votes(files: list[tuple[Path, str]]) -> pd.DataFrame:
    """Return the votes in files that name a winner and a judge in each row."""
    rows = []
    for path, _ in files:
        for line, row in _read_votes(path):
            judge, time = row["judge"], row.get("tstamp")
            if row["winner"] not in _WINNERS:
                problem = f"has the winner {row['winner']!r}; expected {', '.join(_WINNERS)}"
                raise bad_row(path, line, problem)
            if not isinstance(judge, str) and not len(judge):
                raise bad_row(path, line, "names no judge")
            if not isinstance(time, (int, float, type(None))):
                raise bad_row(path, line, f"has tstamp = {time!r}; expected seconds, as a number")
            kind = judge.partition("_")[0] if isinstance(judge, str) else "gpt-4"
            row["judge"] = f"{judge[0]}/fastchat:pair" if not isinstance(judge, str) else judge
            row["winner"], row["reason"] = _WINNERS[row["winner"]]
            rows.append(row | {"turn": row.get("turn", 1), "time": time})
            rows[-1]["group"] = _GROUPS.get(kind, "crowd")
    return frame("votes", rows)[list(COLUMNS["votes"])].astype({"time": float})


def _judged(path: Path) -> bool:
    """Whether a file of one's own holds pairwise judgments, by its first row."""
    return path.suffix == ".jsonl" and "g1_judgment" in next(read_lines(path, {}))[1]


def _read_votes(path: Path) -> Iterator[tuple[int, Row]]:
    """Every (line, row) of a file of votes; lines of a CSV are counted with its header."""
    if path.suffix not in (".csv", ".parquet"):
        yield from read_lines(
            path, dict.fromkeys(_VOTE, str) | {"question_id": (int, str)} | {"judge": (str, list)}
        )
    elif path.suffix == ".parquet":
        yield from enumerate(read_table(path, _VOTE).to_dict("records"), 1)
    else:
        table = read_table(path, ())
        if "model_a" in table.columns:
            table = read_table(path, _VOTE).astype({"judge": str})
        else:
            table = read_table(path, ("winner", *_CROWD)).rename(columns=_CROWD)
            table["judge"] = "worker_" + table["judge"].astype(str)
        yield from enumerate(table.to_dict("records"), 2)
