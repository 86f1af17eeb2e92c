"""Every bias of a judge on one table, and the control that knows nothing but length."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lmjudge.stats import (
    length_bias,
    name_bias,
    position_bias,
    repeatability,
    scores_as_votes,
    self_preference,
)
from lmjudge.stats.bias import flips_with_order
from lmjudge.stats.grouping import model_of
from lmjudge.stats.text import text_counts

_ENDS = ["measure", "value", "unit", "tie_rate", "failure_rate", "order_flips", "too_few", "n"]


def longer_wins(answers: pd.DataFrame, *, judge: str = "longer answer") -> pd.DataFrame:
    """The votes of a "judge" that prefers the answer with more words: the control for all others.

    On first turns, between every two models; answers that were never given are left out. What a
    judge adds to it is what it has read.
    """
    said = text_counts(answers, ["words"]).query("turn == 1")
    empty = dict.fromkeys(("reason", "text", "key"))
    return scores_as_votes(said.assign(judge=judge, score=said["words"].astype(float), **empty))


def biases(
    games: pd.DataFrame,
    answers: pd.DataFrame | None = None,
    *,
    votes: pd.DataFrame,
    human: pd.DataFrame | None = None,
    again: pd.DataFrame | None = None,
    renamed: pd.DataFrame | None = None,
    own: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Every bias that these games can show, beside ties and failures: a row a judge and measure.

    Measures: "prefers the first place" and "prefers the second place" (both orders alike, shares of
    the pairs; `games` in both orders), "changes with the order" (the share of the pairs whose two
    verdicts differ, with their number in `order_flips`), "odds for twice the words" (with
    `answers`; held beside the `human` votes where there are any), "own answers less others' view"
    (where a judge is among the models, see `self_preference`), "another verdict when asked again"
    (`again`: games with a column `asked` that says which are of one request), "first place, renamed
    less default" (`renamed`: the same pairs with the names exchanged). `votes` are what `games`
    were resolved to.

    Columns: judge, measure, value, unit ("share" or "odds": no bias is 0, or 1), tie_rate,
    failure_rate (the share of the judge's games without a verdict), order_flips, too_few, n, low,
    high, no_verdict. A high tie rate can hide a bias; failures can be where it is. Raises what the
    estimators raise.
    """
    parts = [position_bias(games).query("outcome in ('biased_first', 'biased_second')")]
    flips = flips_with_order(games)
    parts.append(flips.assign(measure="changes with the order", value=flips["share"]))
    places = {"biased_first": "prefers the first place", "biased_second": "the second place"}
    places["biased_second"] = f"prefers {places['biased_second']}"
    parts[0] = parts[0].assign(measure=parts[0]["outcome"].map(places), value=parts[0]["share"])
    if answers is not None:
        found = length_bias(votes, answers, human=human)
        parts.append(
            found.assign(measure="odds for twice the words", value=found["odds"], unit="odds")
        )
    models = {*votes["model_a"], *votes["model_b"]}
    is_model = {**{name: model_of(name, models) for name in votes["judge"]}, **(own or {})}
    others = votes["judge"].nunique() > 1 or human is not None
    if others and models & {is_model[name] for name in votes["judge"]}:
        found = self_preference(votes, human=human, own=own)
        told = "own answers less others' view (" + found["against"].astype(str) + ")"
        parts.append(found.assign(measure=told, value=found["difference"]))
    if again is not None:
        found = repeatability(again, by="judge", key="asked")
        found = found.assign(measure="another verdict when asked again", value=found["share"])
        parts.append(found)
    if renamed is not None:
        found = name_bias(games, renamed).query("outcome == 'biased_first'")
        full = {model_of(name): name for name in games["judge"]}
        told = "first place, renamed less default"
        parts.append(
            found.assign(judge=found["judge"].map(full), measure=told, value=found["difference"])
        )
    made = pd.concat(parts, ignore_index=True).reindex(
        columns=["judge", *_ENDS, "low", "high", "no_verdict"]
    )
    read = games[games["winner"].notna()].groupby("judge")["winner"]
    ties = made["judge"].map(read.agg(lambda verdicts: (verdicts == "tie").mean()))
    failed = made["judge"].map(games["winner"].isna().groupby(games["judge"]).mean())
    made["tie_rate"] = made["tie_rate"].fillna(ties)
    made["unit"] = made["unit"].astype(object)
    made["too_few"] = made["too_few"].fillna(False).astype(bool)
    return made.assign(
        failure_rate=failed, unit=made["unit"].where(made["unit"] == "odds", "share")
    )
