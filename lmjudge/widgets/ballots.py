"""The cases that people vote on, and the file of their votes, one durable line a vote."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from lmjudge.errors import BadRow
from lmjudge.frames import check

Vote = dict[str, Any]
_NEEDED = {"question_id", "model_a", "model_b", "judge"}


def read(path: Path) -> list[Vote]:
    """Return the votes in a file, in order; [] if there is no file.

    Ignores a last line that was cut off. Raises BadRow for any other line that is not a vote.
    """
    return _votes(path, path.read_bytes())[0] if path.exists() else []


def append(path: Path, votes: Sequence[Vote], same: Callable[[Vote], object]) -> bool:
    """Append the votes, unless the file has a duplicate of one; return whether it wrote them.

    Two votes are duplicates if `same` returns equal values. The votes are on disk when this
    returns. A lock lets several people vote into one file. A line that was cut off earlier is
    removed first. Raises OSError if the file cannot be written, and then leaves it unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path) as file:
        known = {same(vote) for vote in _repaired(path, file)}
        if known & {same(vote) for vote in votes}:
            return False
        lines = "".join(json.dumps(vote) + "\n" for vote in votes).encode()
        start = file.seek(0, os.SEEK_END)
        try:
            if file.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), start)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def take_back(path: Path, wanted: Callable[[Vote], bool]) -> list[Vote]:
    """Remove the last votes of the file, as long as they are `wanted`; return them."""
    if not path.exists():
        return []
    with _locked(path) as file:
        votes = _repaired(path, file)
        file.seek(0)
        lines = file.read().splitlines(keepends=True)
        taken: list[Vote] = []
        while votes and wanted(votes[-1]):
            taken.insert(0, votes.pop())
            while not lines.pop().strip():
                pass
        if taken:
            os.ftruncate(file.fileno(), sum(map(len, lines)))
            os.fsync(file.fileno())
    return taken


def pair_of(vote: Mapping[str, Any]) -> tuple[Any, int, frozenset[str]]:
    """Return the question, turn and two models of a vote, in either order.

    A voter has one vote for each of these.
    """
    return vote["question_id"], vote.get("turn", 1), frozenset((vote["model_a"], vote["model_b"]))


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _repaired(path: Path, file: IO[bytes]) -> list[Vote]:
    """Remove a last line that was cut off from an open file; return the votes."""
    file.seek(0)
    body = file.read()
    votes, size = _votes(path, body)
    os.ftruncate(file.fileno(), size)
    if size and not body[:size].endswith(b"\n"):
        file.write(b"\n")
    return votes


def _votes(path: Path, body: bytes) -> tuple[list[Vote], int]:
    """Return the votes in the bytes of a file, and the number of bytes in complete lines."""
    votes: list[Vote] = []
    at = 0
    for number, line in enumerate(body.splitlines(keepends=True), 1):
        if line.strip():
            try:
                vote = json.loads(line)
                if not isinstance(vote, dict) or _NEEDED - vote.keys():
                    raise ValueError(f"it lacks one of {', '.join(sorted(_NEEDED))}")
            except (ValueError, RecursionError) as error:
                if at + len(line) == len(body) and not line.endswith(b"\n"):
                    return votes, at
                raise BadRow(
                    f"line {number} of {path} is not a vote ({error}); fix it, or use another file",
                    path=path,
                    line=number,
                ) from error
            if "/" in str(vote["judge"]):  # version 0.1 wrote "voter/criterion"
                vote["judge"], _, vote["criterion"] = str(vote["judge"]).partition("/")
            votes.append(vote)
        at += len(line)
    return votes, at


@dataclass(frozen=True)
class Case:
    """A turn of a question and two models' answers, the left one first, as a voter sees them."""

    question_id: Any
    turn: int
    question: tuple[str, ...]
    models: tuple[str, str]
    answers: tuple[tuple[str, ...], tuple[str, ...]] | None

    @property
    def pair(self) -> tuple[Any, int, frozenset[str]]:
        """The question, the turn and the two models, in either order."""
        return self.question_id, self.turn, frozenset(self.models)


def cases_of(pairings: pd.DataFrame, turns: tuple[int, ...]) -> list[Case]:
    """Return the cases of a pairings frame: each pair at each turn that both models answered."""
    cases = []
    columns = ["question_id", "model_a", "model_b", "question", "answer_a", "answer_b"]
    for identity, a, b, question, answer_a, answer_b in check(pairings, "pairings")[
        columns
    ].itertuples(index=False, name=None):
        for turn in turns:
            if turn > min(len(question), len(answer_a), len(answer_b)):
                continue
            answers = tuple(answer_a[:turn]), tuple(answer_b[:turn])
            question_id = identity.item() if hasattr(identity, "item") else identity
            cases.append(Case(question_id, turn, tuple(question[:turn]), (str(a), str(b)), answers))
    return cases
