"""The arena's battles as votes: who met whom, who won, when, and whether the names were hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from lmjudge.data.reading import SourceOrPath, bad_row
from lmjudge.errors import DataError, DataMissing
from lmjudge.frames import COLUMNS

_SIDES = ["model_a", "model_b", "winner"]
_KNOWN = [*_SIDES, "win", "judge", "turn", "anony", "language", "tstamp", "question_id"]
# The arena's days begin and end where it was run.
_HERE = "US/Pacific"
_WINNERS = {
    "model_a": "model_a",
    "model_b": "model_b",
    "tie": "tie",
    "tie (bothbad)": "tie",
}


def load_battles(path: SourceOrPath) -> pd.DataFrame:
    """The battles in a file of one's own as the arena releases them, oldest first: a votes frame.

    Read are its `clean_battle_*.json` (a JSON array, or JSON lines) and Parquet files of the same
    columns, such as the released conversations: model_a, model_b, winner (`win` until May 2023;
    "tie (bothbad)" is a tie whose reason is both_bad), and where they are there judge, turn (how
    often question and answer went to and fro), tstamp (seconds), anony and language. Nothing is
    filtered: the further columns anony (whether the models' names were hidden; without the column
    they were), language and day ("2023-05-22", at the arena's place, Pacific time) let the caller.

    Raises DataMissing where nothing is at `path`, DataError for a file that cannot be read or lacks
    columns, BadRow for a row with another winner or anony, with a model against itself or without a
    model. Source: FastChat, `clean_battle_data.py`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataMissing(
            f"no file is at {path}; give the path of a file of battles", source="own", path=path
        )
    rows = _rows(path)
    if "winner" not in rows and "win" in rows:
        rows = rows.rename(columns={"win": "winner"})
    if missing := [name for name in _SIDES if name not in rows]:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; battles have model_a, model_b and winner",
            path=path,
            columns=missing,
        )
    _check(rows, path)
    made = rows.reindex(columns=list(COLUMNS["votes"])).assign(
        turn=rows.get("turn", 1),
        group="crowd",
        winner=rows["winner"].map(_WINNERS),
        reason=rows["winner"].map({"tie (bothbad)": "both_bad"}).astype(object),
        time=pd.to_numeric(rows.get("tstamp", pd.Series(float("nan"), rows.index))).astype(float),
        anony=_hidden(rows["anony"], path) if "anony" in rows else True,
        language=rows.get("language"),
    )
    when = pd.to_datetime(made["time"], unit="s", utc=True).dt.tz_convert(_HERE)
    made["day"] = when.dt.strftime("%Y-%m-%d")
    return made.sort_values("time", kind="stable", ignore_index=True)


def _hidden(anony: pd.Series, path: Path) -> pd.Series:
    """Whether the names were hidden, from booleans, 0 and 1, or their texts."""
    texts = anony.astype(str).str.strip().str.lower()
    read = texts.map(
        {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    )
    if read.isna().any():
        at = int(read.isna().to_numpy().argmax())
        raise bad_row(path, at + 1, f"has anony {anony.iloc[at]!r}; expected true or false")
    return read.astype(bool)


def _rows(path: Path) -> pd.DataFrame:
    """The known columns of the file; DataError where it is none of battles."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            there = pq.read_schema(path).names
            rows = pd.read_parquet(path, columns=[name for name in _KNOWN if name in there])
        else:
            text = path.read_text(encoding="utf-8")
            if text.lstrip()[:1] == "[":
                told = json.loads(text)
            else:
                told = [json.loads(line) for line in text.splitlines() if line.strip()]
            rows = pd.DataFrame(told)
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is neither JSON nor Parquet of battles ({error})", path=path
        ) from error
    if rows.empty:
        raise DataError(f"{path} has no rows; expected at least one battle", path=path)
    return rows[[name for name in _KNOWN if name in rows]]


def _check(rows: pd.DataFrame, path: Path) -> None:
    """BadRow for the first row that is no battle of two models with a known winner."""
    known = rows["winner"].isin(list(_WINNERS))
    named = rows["model_a"].notna() & rows["model_b"].notna()
    apart = rows["model_a"] != rows["model_b"]
    for good, problem in (
        (known, f"another winner than {', '.join(_WINNERS)}"),
        (named, "no name for one of its models"),
        (apart, "one model on both sides"),
    ):
        if not good.all():
            at = int((~good.to_numpy()).argmax())
            shown = rows.iloc[at][_SIDES].to_dict()
            raise bad_row(path, at + 1, f"({shown}) has {problem} ({int((~good).sum())} such)")
