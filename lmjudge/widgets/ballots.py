"""The cases that people vote on, and the file of votes, in which each line is durable."""

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
    """Return the votes of a file, in order; none where there is no file.

    A last line that was cut off is no vote. Raises BadRow for any other line that is none.
    """
    return _votes(path, path.read_bytes())[0] if path.exists() else []


def append(path: Path, votes: Sequence[Vote], same: Callable[[Vote], object]) -> bool:
    """Write all votes, or none if the file has one the `same` as; return whether they were written.

    They are on the disk when this returns. The file is locked meanwhile, so that several may vote
    into it; a line that was cut off before is taken away first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path) as file:
        known = {same(vote) for vote in _mended(path, file)}
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
    """Return the votes taken off the end of the file: as many of the last as are `wanted`."""
    if not path.exists():
        return []
    with _locked(path) as file:
        votes = _mended(path, file)
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
    """Return what one vote a voter is cast on.

    It is the question, the turn and the two models, in either order.
    """
    return vote["question_id"], vote.get("turn", 1), frozenset((vote["model_a"], vote["model_b"]))


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _mended(path: Path, file: IO[bytes]) -> list[Vote]:
    """Return the votes of a file open for writing, whose last line then is whole."""
    file.seek(0)
    body = file.read()
    votes, size = _votes(path, body)
    os.ftruncate(file.fileno(), size)
    if size and not body[:size].endswith(b"\n"):
        file.write(b"\n")
    return votes


def _votes(path: Path, body: bytes) -> tuple[list[Vote], int]:
    """Return the votes in the bytes of a file, and how many of the bytes are whole lines."""
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
                    f"line {number} of {path} is no vote ({error}); mend it, or vote into another"
                    " file",
                    path=path,
                    line=number,
                ) from error
            if "/" in str(vote["judge"]):  # as version 0.1 named a voter on a criterion
                vote["judge"], _, vote["criterion"] = str(vote["judge"]).partition("/")
            votes.append(vote)
        at += len(line)
    return votes, at


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
