"""Count battles: the one pass over the votes that all ratings share.

It reads a frame, or a Parquet file in batches, so that ten million votes need the memory of a
quarter of a million. Strings are coded once; a categorical column is used as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import WINNERS, one_criterion
from lmjudge.stats.grouping import check_columns

Votes: TypeAlias = pd.DataFrame | str | Path
_SIDES = ["model_a", "model_b", "winner"]
_NEED = "ratings need the models, the winners, and the columns that you named"
_BATCH = 1 << 18
NO_VERDICT = 3


@dataclass(frozen=True)
class Battles:
    """Some votes in their order: models by number, `outcome` an index into WINNERS, or 3 for none.

    `rows` is the frame that they were read from.
    """

    a: np.ndarray
    b: np.ndarray
    outcome: np.ndarray
    rows: pd.DataFrame


@dataclass(frozen=True)
class Counts:
    """How often each model met each: all that a rating without clusters needs.

    `wins[i, j]` counts the votes for i over j; `ties` and `missing`, both symmetric, those for
    neither and those without a verdict. The models are in the order of their names.
    """

    models: list[str]
    wins: np.ndarray
    ties: np.ndarray
    missing: np.ndarray

    @property
    def battles(self) -> np.ndarray:
        """The votes with a verdict that each model had a part in."""
        return (self.wins + self.wins.T + self.ties).sum(axis=1)

    @property
    def no_verdict(self) -> np.ndarray:
        """The votes without a verdict that each model had a part in."""
        return self.missing.sum(axis=1)


def read_battles(path: str | Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return the votes of a Parquet file, their models and winners coded as they are read.

    Columns: model_a, model_b and winner (categorical) and those of `columns` (strings categorical
    too). Five bytes a row for the three where there are more than 127 models, so that a frame of
    ten million is at hand in 50 MB. Raises FrameError for columns that the file does not have.
    """
    from pyarrow import parquet

    wanted = list(dict.fromkeys([*_SIDES, *columns]))
    check_columns(parquet.read_schema(path).names, wanted, str(path), _NEED)
    table = parquet.read_table(path, columns=wanted, read_dictionary=wanted)
    return table.unify_dictionaries().to_pandas(ignore_metadata=True, self_destruct=True)


def in_memory(votes: Votes, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return the frame itself, or the coded votes of a file."""
    if not isinstance(votes, pd.DataFrame):
        return read_battles(votes, columns)
    check_columns(
        [str(column) for column in votes.columns], [*_SIDES, *columns], "a votes frame", _NEED
    )
    one_criterion(votes)
    return votes


def batches(votes: Votes, models: dict[str, int], *, timed: bool = False) -> Iterator[Battles]:
    """Yield the votes, coded: a frame in one piece, a file in batches.

    `models` (name to number) takes in every new model as it comes; `timed` asks for a file's column
    `time` where it has one. Raises FrameError for missing columns, winners that are none, and a
    model that is missing or meets itself.
    """
    if isinstance(votes, pd.DataFrame):
        yield code(in_memory(votes), models)
        return
    from pyarrow import parquet

    with parquet.ParquetFile(votes, read_dictionary=_SIDES, memory_map=True) as file:
        names = file.schema_arrow.names
        check_columns(names, _SIDES, str(votes), _NEED)
        columns = [*_SIDES, "time"] if timed and "time" in names else _SIDES
        for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
            yield code(batch.to_pandas(), models)


def code(rows: pd.DataFrame, models: dict[str, int]) -> Battles:
    """Return the votes of a frame, coded; `models` (name to number) takes in those that are new."""
    with ThreadPoolExecutor(3) as pool:  # Arrow hashes strings without the interpreter's lock
        (a, a_names), (b, b_names), (winner, winners) = pool.map(
            lambda column: _codes(rows[column]), _SIDES
        )
    if (a < 0).any() or (b < 0).any():
        bad = rows[(a < 0) | (b < 0)]
        raise FrameError(
            f"{len(bad)} votes lack model_a or model_b; leave them out or name the model", rows=bad
        )
    # The last place, which a missing winner's code of -1 picks, is the verdict that is none.
    as_outcome = [WINNERS.index(name) if name in WINNERS else -1 for name in winners]
    outcome = np.array([*as_outcome, NO_VERDICT], dtype=np.int8)[winner]
    if -1 in as_outcome and (outcome < 0).any():
        bad = rows[outcome < 0]
        raise FrameError(
            f"{len(bad)} votes have a winner such as {bad['winner'].iloc[0]!r}; expected model_a,"
            " model_b, tie (both_bad is a reason, not a winner), or missing",
            rows=bad,
        )
    a = _renumber(a, a_names, models)
    b = _renumber(b, b_names, models)
    same = a == b
    if same.any():
        bad = rows[same]
        raise FrameError(
            f"{len(bad)} votes have {bad['model_a'].iloc[0]!r} on both sides; give the two answers"
            " of one model two names",
            rows=bad,
        )
    return Battles(a, b, outcome, rows)


def count(votes: Votes) -> Counts:
    """Return how often each model met each, from a frame or a Parquet file.

    Raises FrameError as `batches` does, and where no vote has a verdict.
    """
    models: dict[str, int] = {}
    return tally(batches(votes, models), models)


def tally(pieces: Iterable[Battles], models: dict[str, int]) -> Counts:
    """Return how often each model met each in coded votes.

    `models` may grow from piece to piece.
    """
    cube = np.zeros((0, 0, 4), dtype=np.int64)
    for battles in pieces:
        wider = len(models) - len(cube)
        cube = np.pad(cube, ((0, wider), (0, wider), (0, 0)))
        for start in range(0, len(battles.a), _BATCH):  # in pieces that stay in the cache
            piece = slice(start, start + _BATCH)
            cell = battles.a[piece].astype(np.int64)
            cell *= len(models)
            cell += battles.b[piece]
            cell *= 4
            cell += battles.outcome[piece]
            cube += np.bincount(cell, minlength=cube.size).reshape(cube.shape)
    if not cube[:, :, :NO_VERDICT].any():
        raise FrameError(
            f"none of {int(cube.sum())} votes has a verdict; ratings need votes with a winner or a"
            " tie",
            rows=pieces,
        )
    names = sorted(name for name, at in models.items() if cube[at].any() or cube[:, at].any())
    at = np.array([models[name] for name in names])
    cube = cube[np.ix_(at, at)]
    turned = cube.transpose(1, 0, 2)
    return Counts(
        names,
        wins=cube[:, :, 0] + turned[:, :, 1],
        ties=cube[:, :, 2] + turned[:, :, 2],
        missing=cube[:, :, NO_VERDICT] + turned[:, :, NO_VERDICT],
    )


def compiled() -> Any:
    """Return the compiled kernels, or None where numba is not installed."""
    try:
        return import_module("lmjudge.stats.kernels")
    except ImportError:
        return None


def clusters(column: pd.Series) -> np.ndarray:
    """For each row the number of its cluster; a row without one is a cluster of its own.

    Some numbers may be no row's.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu" and len(column):
        least = int(column.min())
        if int(column.max()) - least < 4 * len(column):  # numbers already, or nearly
            small = np.int32 if 4 * len(column) < 2**31 else np.int64
            return np.subtract(column.to_numpy(), least, dtype=small, casting="unsafe")
    codes, values = _codes(column)
    alone = codes < 0
    if alone.any():
        codes = codes.astype(np.int64)
        codes[alone] = len(values) + np.arange(alone.sum())
    return codes


def _codes(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return a number for each row, -1 where it is missing, and what the numbers stand for."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), list(column.cat.categories)
    codes, values = pd.factorize(column)
    return codes, list(values)


def _renumber(codes: np.ndarray, names: list[str], models: dict[str, int]) -> np.ndarray:
    number = np.array([models.setdefault(name, len(models)) for name in names], dtype=np.int32)
    return number[codes] if len(number) else np.zeros(0, dtype=np.int32)
