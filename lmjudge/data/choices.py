"""Raters' choices on a scale of five as votes: the two on each side are one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lmjudge.data.reading import SourceOrPath, bad_row, read_lines
from lmjudge.errors import DataError
from lmjudge.frames import COLUMNS

_SIDES = ("model_a", "model_a", "tie", "model_b", "model_b")
_NEEDED = ("question_id", "criterion", "model_a", "model_b", "choice")


def load_choices(path: SourceOrPath) -> pd.DataFrame:
    """The choices in a file of one's own (CSV or JSON lines), as votes by criterion: a votes frame.

    A row has question_id, criterion (a name), model_a, model_b, choice and perhaps judge. The
    choice is 1 to 5: 1 and 2 are model_a, 3 a tie, 4 and 5 model_b (the first two and the last two
    of five options merged, as GPT-4-LLM's raters' were), or empty: a vote without a verdict, reason
    no_verdict. The further columns are criterion and choice. Raises DataError for a file that lacks
    these columns, BadRow for another choice. Source: arXiv 2304.03277, section 4.1 and Figure 3.
    """
    path = Path(path)
    if path.suffix == ".csv":
        rows, first = pd.read_csv(path), 2
    else:
        rows, first = pd.DataFrame([row for _, row in read_lines(path, {})]), 1
    if missing := [name for name in _NEEDED if name not in rows]:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; choices have {', '.join(_NEEDED)}",
            path=path,
            columns=missing,
        )
    choice = pd.to_numeric(rows["choice"], errors="coerce").where(rows["choice"].notna())
    odd = rows["choice"].notna() & ~choice.isin(range(1, 6))
    if odd.any():
        at = int(odd.to_numpy().argmax())
        problem = f"has choice = {rows['choice'].iloc[at]!r}; expected a number from 1 to 5"
        raise bad_row(path, at + first, problem)
    verdicts = {number + 1: side for number, side in enumerate(_SIDES)}
    return rows.reindex(columns=list(COLUMNS["votes"])).assign(
        turn=1,
        group="crowd",
        winner=choice.map(verdicts),
        reason=choice.isna().map({True: "no_verdict", False: None}),
        criterion=rows["criterion"].astype(str),
        choice=choice,
    )
