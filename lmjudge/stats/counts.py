"""What counts alone amount to, as where a paper printed them and released no rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.stats.intervals import check_level


def shares(
    counts: pd.DataFrame, *, count: str = "count", n: str = "n", level: float = 0.95
) -> pd.DataFrame:
    """The frame with the share that each count is of its n: columns share, n, low, high added.

    Shares and intervals are fractions; the intervals are Wilson's (1927), as if the n had been
    drawn independently: a count says nothing of its clusters, so they are the least that is
    uncertain. A missing count or n, or an n of zero, gives missing values. Raises FrameError for
    missing columns, counts that are negative or above their n, and counts that are not whole.

    >>> shares(pd.DataFrame({"count": [14], "n": [20]})).round(3)[["share", "low", "high"]]
       share    low   high
    0    0.7  0.481  0.855
    """
    from statsmodels.stats.proportion import proportion_confint

    missing = [name for name in (count, n) if name not in counts.columns]
    if missing:
        raise FrameError(
            f"the counts lack {', '.join(missing)} (found {', '.join(map(str, counts.columns))});"
            " name the columns by `count` and `n`",
            columns=missing,
        )
    check_level(level)
    made, of = (counts[name].to_numpy(float, na_value=np.nan) for name in (count, n))
    known = np.isfinite(made) & np.isfinite(of)
    whole = (made >= 0) & (made <= of) & (made == np.floor(made)) & (of == np.floor(of))
    if not whole[known].all():
        bad = counts[known & ~whole]
        raise FrameError(
            f"{len(bad)} rows have a count that is no whole number from 0 to its n, such as"
            f" {bad[count].iloc[0]} of {bad[n].iloc[0]}; give counts, not percentages",
            rows=bad,
        )
    known &= of > 0
    share, low, high = (np.full(len(counts), np.nan) for _ in range(3))
    share[known] = made[known] / of[known]
    low[known], high[known] = proportion_confint(
        made[known], of[known], alpha=1 - level, method="wilson"
    )
    # The formula leaves rounding where the interval ends at 0 or 1.
    low[known & (made == 0)], high[known & (made == of)] = 0.0, 1.0
    rest = counts.drop(columns=[n])
    return rest.assign(share=share, n=counts[n], low=low, high=high)
