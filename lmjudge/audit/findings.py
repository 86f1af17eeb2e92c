"""The result of an audit: sentences, each with the table that it rests on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import same_ids
from lmjudge.stats import compare_judges
from lmjudge.stats.components import labels_needed


@dataclass(frozen=True)
class Finding:
    """One sentence of the answer, and the name of the table that it rests on."""

    text: str
    table: str


@dataclass(frozen=True)
class Choice:
    """An answer in sentences, the tables that they rest on, and notes.

    `tables` has "ranking" and "compared" (the paired differences of every two judges), and what the
    kind of judge allows: position, length, calibration, cascade, precision, subsets, versions. A
    note is about a judge's model: it is retired, or another one answered.
    """

    findings: tuple[Finding, ...]
    tables: Mapping[str, pd.DataFrame]
    notes: tuple[Finding, ...] = field(default=())

    @property
    def ranking(self) -> pd.DataFrame:
        """The judges, the best first, then people."""
        return self.tables["ranking"]

    @property
    def compared(self) -> pd.DataFrame:
        """The paired difference of every two judges."""
        return self.tables["compared"]

    def __str__(self) -> str:
        return "\n".join(finding.text for finding in (*self.findings, *self.notes))

    def _repr_html_(self) -> str:
        sentences = (*self.findings, *self.notes)
        return f"<ul>{''.join(f'<li>{escape(finding.text)}</li>' for finding in sentences)}</ul>"


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f} %"


def several(names: list[str]) -> str:
    """Return names as a list in a sentence.

    >>> several(["a", "b", "c"])
    'a, b or c'
    """
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def signed(compared: pd.DataFrame, best: str, other: str) -> pd.Series:
    """Return the row that compares two judges, its difference signed as best less other."""
    for a, b, sign in ((best, other, 1), (other, best, -1)):
        row = compared[(compared["judge_a"] == a) & (compared["judge_b"] == b)]
        if len(row):
            row = row.iloc[0].copy()
            low, high = sorted([sign * row["low"], sign * row["high"]])
            row["difference"], row["low"], row["high"] = sign * row["difference"], low, high
            row["other"] = other
            return row
    raise FrameError(f"{best} and {other} were not compared", rows=compared)


def rivals(usable: pd.DataFrame, compared: pd.DataFrame) -> list[pd.Series]:
    """Return the usable judges that the data cannot tell from the best one."""
    best, *others = usable["judge"]
    rows = [signed(compared, best, name) for name in others]
    return [row for row in rows if not row["low"] > 0 and abs(row["difference"]) >= 0]


def paired(cast: list[pd.DataFrame], votes: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the paired difference of every two judges' votes, and the labels that settle it."""
    if len(cast) < 2:
        return pd.DataFrame(columns=["judge_a", "judge_b", "difference", "low", "high", "n"])
    judges = pd.concat(cast, ignore_index=True)
    return with_needed(compare_judges(judges, votes, level=level), level)


def with_needed(compared: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return paired differences with the labels that would settle each: `needed` and `more`."""
    needed = labels_needed(compared, level=level)[["judge_a", "judge_b", "needed", "more"]]
    return compared.merge(needed, on=["judge_a", "judge_b"])


def unmatched(rows: pd.DataFrame, others: pd.DataFrame, key: list[str], text: str) -> list[Finding]:
    """Return the note on rows whose question, turn and models the others lack."""
    rows, others = same_ids(rows, others)
    matched = pd.MultiIndex.from_frame(rows[key]).isin(pd.MultiIndex.from_frame(others[key]))
    if matched.all():
        return []
    first = rows[~matched].iloc[0]
    models = " and ".join(str(first[name]) for name in key if name.startswith("model"))
    return [
        Finding(
            f"{(~matched).sum():,} of {len(rows):,} {text}, so the comparison leaves them out"
            f" (the first: question {first['question_id']}, {models}).",
            "ranking",
        )
    ]


def check_judges(judgments: pd.DataFrame) -> pd.DataFrame:
    """Return the judgments as they are; FrameError for none, and for rows that name no judge."""
    if "judge" not in judgments.columns:
        raise FrameError(
            f"the judgments have no column judge (found {', '.join(map(str, judgments.columns))});"
            " read files with `load_judgments`, or add it",
            columns=["judge"],
        )
    unnamed = judgments["judge"].isna()
    if unnamed.any():
        raise FrameError(
            f"{unnamed.sum():,} of {len(judgments):,} judgments name no judge; fill in the column"
            " judge, or map another column to it (--column judge=...)",
            rows=judgments[unnamed],
        )
    if judgments.empty:
        raise FrameError("there are no judgments; check the file and its filters", rows=judgments)
    return judgments


def mostly_silent(ranking: pd.DataFrame | pd.Series) -> Any:
    """Return whether a judge gave no verdict or grade on most items: for each row, or for one."""
    return ranking["no_verdict"] > ranking["n"]


def recommendation(
    usable: pd.DataFrame,
    judges: pd.DataFrame,
    alike: list[pd.Series],
    *,
    rate: str,
    apart: str,
    labels: str,
    more: str = "more",
) -> Finding:
    """Return the sentence on which judge to use, or which ones, if the labels cannot tell.

    `rate` says what the best judge does, `apart` how far its first rival is from it.
    """
    best = usable["judge"].iloc[0]
    if alike:
        names = several([best, *(row["other"] for row in alike)])
        return Finding(f"Use {names}: these {labels} cannot tell them apart ({apart}).", "compared")
    than = f", {more} than any other judge here" if len(judges) > 1 else ""
    than += f" ({apart})" if than and apart else ""
    return Finding(f"Use {best}: it {rate}{than}.", "ranking")


def rejection(
    judges: pd.DataFrame,
    usable: pd.DataFrame,
    alike: list[pd.Series],
    reasons: Callable[[pd.Series], list[str]],
) -> list[Finding]:
    """Return the sentence on the judges that are neither the best nor as good, with reasons."""
    good = {*usable["judge"].head(1), *(row["other"] for row in alike)}
    rejected = [row for _, row in judges.iterrows() if row["judge"] not in good]
    named = ", ".join(f"{row['judge']} ({'; '.join(reasons(row))})" for row in rejected)
    return [Finding(f"Do not use {named}.", "ranking")] if rejected else []


def certainty(
    usable: pd.DataFrame,
    alike: list[pd.Series],
    labels: str,
    *,
    points: bool = False,
    cost: str = "",
    table: str = "ranking",
) -> list[Finding]:
    """Return the sentence on what more labels would settle.

    The width of the interval is told in percentage points for shares (`points`), else as it is.
    """
    if usable.empty:
        return []
    best = usable.iloc[0]
    if alike:
        return [Finding(f"{_settles(best['judge'], alike[0], labels)}{cost}.", "compared")]
    if pd.isna(best["low"]):
        return []
    half = (best["high"] - best["low"]) / 2
    width = f"{100 * half:.1f} points" if points else f"{half:.2f}"
    text = f"Four times the {labels} would halve the interval of ±{width}{cost}."
    return [Finding(text, table)]


def _settles(best: str, row: pd.Series, what: str) -> str:
    """Return the sentence on how much more data would tell the best judge from a rival."""
    more = row["more"]
    if math.isnan(more):
        return f"These {what} show no difference between {best} and {row['other']}: choose by price"
    if more > 10_000:
        return (
            f"To tell {best} from {row['other']} would take more than 10,000 further {what}:"
            " choose by price"
        )
    return (
        f"About {max(more, 1):,.0f} more {what} would tell {best} from {row['other']}, if the"
        " true difference is the one measured here"
    )
