"""What an audit says: sentences, each resting on a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import pandas as pd

from lmjudge.errors import FrameError


@dataclass(frozen=True)
class Finding:
    """One sentence of the answer, and the name of the table that it rests on."""

    text: str
    table: str


@dataclass(frozen=True)
class Choice:
    """Which judge to use: at most five sentences, the tables that they rest on, and notes.

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
        said = (*self.findings, *self.notes)
        return f"<ul>{''.join(f'<li>{escape(finding.text)}</li>' for finding in said)}</ul>"


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


def settles(best: str, row: pd.Series, what: str) -> str:
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
        f"About {max(more, 1):,.0f} more {what} would tell {best} from {row['other']}, if they"
        " truly differ by what was seen"
    )
