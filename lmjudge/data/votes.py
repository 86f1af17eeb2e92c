"""Votes as frames: human, crowd and judges' votes as their authors released them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

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
    """The votes of a source, or of a file of one's own: a votes frame.

    Read are human votes as "mt-bench-human" has them (parquet or JSON lines; `group` is "expert" or
    "author" by the judge's name, else "crowd"), GPT-4's ("mt-bench-gpt4", group "llm"), and crowd
    votes as "llmfao" has them (left, right, winner); a CSV of one's own has question_id, model_a,
    model_b, winner, judge and, where it matters, turn. Pairwise judgments in both orders ("prd", or
    a file of one's own as FastChat writes it) give the votes that `resolve` makes of them. A tie
    that stood for something else says so in `reason`: `both_bad`, `inconsistent`. Raises
    DataMissing, BadRow and DataError as the others do.
    """
    own = own_path(source)
    if not own and not source_named(os.fspath(source)).having("votes"):
        return resolve(load_judgments(source, "games"))
    files = files_of(source, "votes")
    if own and all(_judged(path) for path, _ in files):
        return resolve(load_judgments(source, "games"))
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
