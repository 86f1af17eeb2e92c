"""Two versions of a judge, or of its prompt, on the same items: what flipped, and where to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import WINNERS, check, never_meet, same_ids
from lmjudge.stats.compare import paired
from lmjudge.stats.grouping import By, by_name, grouped, own_columns, totals, two_models
from lmjudge.stats.intervals import estimate, holm

_NONE = "none"
_TWO = ("before", "after")


def flips(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """How often the second version says otherwise than the first: a row per group of `by`.

    Both are games, or both votes, of one judge in two versions (another model behind the name,
    another prompt, the same asked a month later); items are matched by question, turn, models and,
    in games, order and sample, whatever the judges' names. `by` may name any column of the first
    version, "category", and "before", the verdict that it gave.

    Columns: those of `by`, flipped (items with two readable verdicts that differ), reversed (those
    of them that went from one side to the other), share (flipped over n), too_few, n (items that
    both could read), low, high (clustered by question), lost, found (verdicts that only the first,
    or only the second, could read), no_verdict (items that either could not read). How often one
    version differs from itself is `repeatability`: what is beyond that is drift. Raises FrameError
    for several judges in one frame, items that stand twice, and frames without a common item.
    """
    rows, columns = grouped(_matched(before, after, by, questions), by, questions)
    read = rows["before"].notna() & rows["after"].notna()
    differ = (rows["before"] != rows["after"]) & read
    sides = rows[["before", "after"]].isin(["model_a", "model_b"]).all(axis=1)
    made = estimate(rows, columns, top=differ.astype(float).where(read), share=True, level=level)
    counts = rows.assign(
        flipped=differ,
        reversed=differ & sides,
        lost=rows["before"].notna() & rows["after"].isna(),
        found=rows["before"].isna() & rows["after"].notna(),
    )
    names = ["flipped", "reversed", "lost", "found"]
    made[names] = totals(counts, columns, names)[names].astype(int).to_numpy()
    ends = ["flipped", "reversed", "value", "too_few", "n", "low", "high", "lost", "found"]
    return made[[*columns, *ends, "no_verdict"]].rename(columns={"value": "share"})


def moves(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What became of each verdict: a row a verdict of the first version, a column of the second.

    Rows and columns are model_a, model_b, tie and none; in games model_a is the answer shown first.
    Raises FrameError as `flips` does.
    """
    rows = _matched(before, after).fillna({"before": _NONE, "after": _NONE})
    made = pd.crosstab(rows["before"], rows["after"])
    every = [*WINNERS, _NONE]
    return made.reindex(index=every, columns=every, fill_value=0)


def drift(
    before: pd.DataFrame,
    after: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """What the flips do to each model's win rate and to the rate of ties, item by item.

    A flip moves a number only where more go one way than the other. Columns: those of `by`,
    measure ("ties", "first shown" in games, and "win rate of <model>", ties half), before, after,
    difference (after less before, over items that both could read), better_a, better_b (questions
    on which it rose, or fell), too_few, n, low, high, p_value, p_sign (exact; McNemar's test where
    each question has one item), p_holm, no_verdict. Arguments and errors as in `flips`.
    """
    rows, columns = grouped(_matched(before, after, by, questions), by, questions)
    worth = {"model_a": 1.0, "tie": 0.5, "model_b": 0.0}
    one, two = (rows[name].map(worth).astype(float) for name in ("before", "after"))
    said = [rows[name].eq("tie").where(rows[name].notna()).astype(float) for name in _TWO]
    parts = [rows.assign(measure="ties", one=said[0], two=said[1])]
    if "sample" in before.columns:
        parts.append(rows.assign(measure="first shown", one=one, two=two))
    for side, sign in (("model_a", 1), ("model_b", -1)):
        named = "win rate of " + rows[side].astype(str)
        both = (one, two) if sign == 1 else (1 - one, 1 - two)
        parts.append(rows.assign(measure=named, one=both[0], two=both[1]))
    every = pd.concat(parts, ignore_index=True)
    every["difference"] = every["two"] - every["one"]
    keys = [*columns, "measure"]
    made = paired(every, keys, level)
    # Between two models one's win rate mirrors the other's: one hypothesis, counted once.
    models = sorted({*rows["model_a"], *rows["model_b"]}, key=str)
    if len(models) == 2:
        mirror = made["measure"] == f"win rate of {models[1]}"
        made["p_holm"] = np.nan
        made.loc[~mirror, "p_holm"] = holm(made.loc[~mirror, "p_value"])
        first = made[made["measure"] == f"win rate of {models[0]}"]
        made.loc[mirror, "p_holm"] = first["p_holm"].to_numpy()
    known = every[every["difference"].notna()].groupby(keys, dropna=False)[["one", "two"]].mean()
    made = made.merge(known.reset_index(), on=keys, how="left")
    made = made.rename(columns={"one": "before", "two": "after"})
    ends = [name for name in made.columns if name not in (*keys, *_TWO)]
    return made[[*keys, *_TWO, *ends]]


def _matched(
    before: pd.DataFrame, after: pd.DataFrame, by: By = None, questions: pd.DataFrame | None = None
) -> pd.DataFrame:
    """A row for each item that stands in both: what names it, `by`, before and after."""
    games = "sample" in before.columns
    key = ["question_id", "turn", "model_a", "model_b", *(["sample"] if games else [])]
    more = own_columns(before.assign(before=before["winner"]), by, questions, [*key, "before"])
    sides = []
    name = "games" if games else "votes"
    before, after = same_ids(check(before, name, more), check(after, name, more))
    for frame, kept in ((before, [*key, *more]), (after, key)):
        rows = two_models(frame) if games else by_name(frame)
        if rows["judge"].nunique() > 1:
            raise FrameError(
                f"{rows['judge'].nunique()} judges stand in one frame, such as"
                f" {rows['judge'].iloc[0]}; give one version in each",
                rows=rows,
            )
        twice = rows.duplicated(key, keep=False)
        if twice.any():
            raise FrameError(
                f"{int(twice.sum())} rows are of one item ({', '.join(key)}); number repeats in"
                " `sample`",
                rows=rows[twice],
            )
        sides.append(rows[[*kept, "winner"]])
    both = sides[0].merge(sides[1], on=key, suffixes=("_before", "_after"))
    if both.empty:
        raise never_meet("No item stands in both versions", before, after)
    found = both.rename(columns={"winner_before": "before", "winner_after": "after"})
    return found.assign(
        **{name: found[name].astype(object).replace({np.nan: None}) for name in _TWO}
    )
