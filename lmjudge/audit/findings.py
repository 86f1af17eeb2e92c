"""A row of an estimate as a sentence."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lmjudge.errors import FrameError


def finding(
    row: Mapping[str, object] | pd.Series,
    says: str,
    *,
    otherwise: str = "",
    unknown: str = "",
    null: float | None = None,
    percent: bool = False,
    digits: int = 1,
    level: float | None = None,
) -> str:
    """The sentence that a row of an estimate amounts to, with its number, interval and n.

    `says` is a sentence with the row's columns in braces, such as "{judge} agrees with people in
    {agreement:.0%} of votes". Where `null` (no effect: 0 for a difference, 1 for odds) lies in the
    interval the row does not show it, and the sentence is `otherwise`. The interval and n follow in
    brackets, in percent where that is the unit, and "too few to be sure" where the row says so.
    Without an interval a row shows neither an effect nor that there is none: the sentence is then
    `unknown`, by default that the value cannot be estimated. `level` is that of the
    interval: by default the one that a row of a frame carries, else 0.95. Raises FrameError for a
    row without a column that the sentence names.

    >>> row = {"judge": "x", "share": 0.25, "low": 0.2, "high": 0.31, "n": 240, "too_few": False}
    >>> finding(row, "{judge} changes its mind in {share:.0%} of pairs", percent=True, digits=0)
    'x changes its mind in 25% of pairs (95 % interval 20 to 31 %, n 240).'
    >>> finding(row, "{judge} is moved", otherwise="{judge} shows no lean", null=0.21)
    'x shows no lean (95 % interval 0.2 to 0.3, n 240).'
    """
    if level is None:  # a row of a frame carries the level of its interval
        level = float(row.attrs.get("level", 0.95)) if isinstance(row, pd.Series) else 0.95
    known = dict(row)
    ends = [float(str(known[end])) for end in ("low", "high") if pd.notna(known.get(end))]
    hidden = null is not None and not (len(ends) == 2 and (ends[0] > null or ends[1] < null))
    sentence = (otherwise or says) if hidden else says
    if null is not None and len(ends) < 2:
        names = ", ".join(value for value in known.values() if isinstance(value, str))
        sentence = unknown or f"{names}: this cannot be estimated".replace("{", "").replace("}", "")
    try:
        told = sentence.format(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise FrameError(
            f"the sentence {sentence!r} does not fit the row ({type(error).__name__}: {error});"
            f" its columns are {', '.join(map(str, known))}",
            columns=list(known),
        ) from error
    more = []
    if len(ends) == 2:
        low, high = (f"{(100 if percent else 1) * end:.{digits}f}" for end in ends)
        more.append(f"{100 * level:g} % interval {low} to {high}{' %' if percent else ''}")
    elif "low" in known:
        more.append("no interval can be given")
    if pd.notna(known.get("n")):
        more.append(f"n {int(float(str(known['n']))):,}")
    if bool(known.get("too_few", False)):
        more.append("too few to be sure")
    return f"{told} ({', '.join(more)})." if more else f"{told}."
