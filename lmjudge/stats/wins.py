"""Win rates from votes."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, swap
from lmjudge.stats.grouping import By, grouped
from lmjudge.stats.intervals import estimate


def win_rates(
    votes: pd.DataFrame,
    *,
    baseline: str | None = None,
    by: By = None,
    ties: Literal["half", "drop", "keep"] = "half",
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Each model's win rate over all its votes, or over those against the baseline alone.

    `ties` says what a tie is worth: "half" a win (FastChat's win_rate_adjusted), "keep" no win but
    a vote (its win_rate), "drop" not counted. Columns: those of `by`, model, wins, ties, losses,
    win_rate, n (votes counted), low, high (clustered by question), no_verdict. The baseline has no
    row. Votes are pooled: opponents weigh as often as they were met. Raises FrameError for a
    baseline that never played, or a frame or `by` that does not fit.
    """
    if ties not in ("half", "drop", "keep"):
        raise ValueError(f"ties is {ties!r}; expected 'half', 'drop' or 'keep'")
    rows, columns = grouped(check(votes, "votes"), by, questions)
    rows = pd.concat([rows, swap(rows)], ignore_index=True)
    if baseline is not None:
        rows = rows[rows["model_b"] == baseline]
        if rows.empty:
            raise FrameError(
                f"no vote on the baseline {baseline!r}; models here:"
                f" {sorted(set(votes['model_a']) | set(votes['model_b']))}",
                rows=votes,
            )
    rows = rows.rename(columns={"model_a": "model"})
    columns = [*columns, "model"]
    tie = rows["winner"] == "tie"
    rows = rows.assign(
        wins=rows["winner"] == "model_a", ties=tie, losses=rows["winner"] == "model_b"
    )
    worth = rows["wins"] + (0.5 if ties == "half" else 0.0) * tie
    counts = rows.groupby(columns, dropna=False, sort=True)[["wins", "ties", "losses"]].sum()
    made = estimate(
        rows,
        columns,
        top=worth.where(rows["winner"].notna() & ~(tie & (ties == "drop"))),
        share=True,
        level=level,
    ).rename(columns={"value": "win_rate"})
    made[["wins", "ties", "losses"]] = counts.to_numpy()
    if ties == "drop":
        made["no_verdict"] -= made["ties"]
    ends = ["wins", "ties", "losses", "win_rate", "n", "low", "high", "no_verdict"]
    return made[[*columns, *ends]]
