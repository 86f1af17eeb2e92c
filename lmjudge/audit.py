"""Choosing a judge: what it is worth, what moves it, and what it would cost to know better.

    from lmjudge import audit

    audit.plans(pairings, judges, store=store)       # what each question about a judge would cost
    audit.biases(games, answers, human=votes)        # every bias beside ties and failures
    audit.parser_lab(games, ["strict", "fastchat"])  # the same texts under several parsers
    audit.corrected_win_rates(votes, human)          # few human labels, many of a judge
    audit.power(audit.components(games))             # what another question, order or judge buys
    audit.drift(last_month, today)                   # two versions on the same items

nbs/judge-audit.ipynb puts all of it on one page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.judges import Judge, reread
from lmjudge.plan import LooksUp, Plan, plan
from lmjudge.prices import Price, cost, prices
from lmjudge.records import Record
from lmjudge.stats import length_bias, name_bias, position_bias, repeatability, self_preference
from lmjudge.stats.components import components
from lmjudge.stats.corrected import corrected_scores, corrected_win_rates
from lmjudge.stats.correctedratings import corrected_ratings
from lmjudge.stats.drift import drift, flips, moves
from lmjudge.stats.judgeterms import judge_terms
from lmjudge.stats.power import labels_needed, power

__all__ = [
    "biases",
    "call_costs",
    "components",
    "corrected_ratings",
    "corrected_scores",
    "corrected_win_rates",
    "drift",
    "finding",
    "flips",
    "judge_terms",
    "labels_needed",
    "moves",
    "parser_lab",
    "plans",
    "power",
]

_ENDS = ["measure", "value", "unit", "tie_rate", "failure_rate", "too_few", "n", "low", "high"]


class HasRecords(Protocol):
    """The one method of a store that costs need."""

    def records(self, keys: Iterable[str] | None = None) -> Iterable[Record]:
        """Every record under these keys."""
        ...


def parser_lab(frame: pd.DataFrame, parsers: Sequence[str]) -> pd.DataFrame:
    """The same games or scores under each of several parsers, one below the other.

    Judges keep their names and get the parser's at the end (`gpt-4/pair/fastchat`), so that every
    estimator, by judge, shows what the parser changes in it. Two further columns: parser, and
    changed: whether the parsers read this judgment's text differently. Nothing is asked; rows
    without text (failures) are the same under all. Raises PromptError for a parser that does not
    exist or does not read such judgments, FrameError for fewer than two.

    >>> from lmjudge.frames import frame as make
    >>> row = dict(question_id=1, turn=1, model_a="m", model_b="n", judge="j/pair", sample=0,
    ...            winner="model_a", score_a=None, score_b=None, reason=None, key="k")
    >>> lab = parser_lab(make("games", [row | {"text": "[[B]] or not? [[A]] it is, I think."}]),
    ...                  ["strict", "fastchat"])
    >>> lab[["judge", "winner", "reason", "changed"]].values.tolist()[1]
    ['j/pair/fastchat', 'model_a', None, True]
    """
    if len(set(parsers)) < 2:
        raise FrameError(
            f"the parsers are {list(parsers)}; a comparison takes two or more", rows=parsers
        )
    verdict = "winner" if "winner" in frame.columns else "score"
    read = [reread(frame, parser).reset_index(drop=True) for parser in parsers]
    first = read[0][verdict]
    changed = pd.Series(False, first.index)
    for other in read[1:]:
        same = (other[verdict] == first) | (other[verdict].isna() & first.isna())
        changed |= ~same.astype(bool)
    made = [
        part.assign(parser=parser, changed=changed)
        for parser, part in zip(parsers, read, strict=True)
    ]
    return pd.concat(made, ignore_index=True)


def plans(
    pairings: pd.DataFrame,
    judges: Collection[Judge],
    *,
    store: LooksUp,
    renamed: str = "pair-renamed",
    attacks: pd.DataFrame | None = None,
    table: Mapping[str, Price] | None = None,
) -> pd.DataFrame:
    """What each question about each judge would cost, before anything is asked: a row for each.

    asks: "verdicts" (every pair in one order), "position" (the other order as well: also length
    and self-preference need no more than these two), "repeatability" (both orders a second time),
    "name" (both orders under the prompt `renamed`), "verbosity" (the `attacks`, a pairings frame
    as `repetitive_list` makes it, in both orders). What one row has asked, the later rows don't
    pay again; what the store answers is free.

    Columns: judge, asks, requests, answered (in the store), calls, dollars_low, dollars, and
    dollars_high (missing where the price, or the length of a judgment, is unknown). `table`
    replaces the prices. Raises what `judge_requests` raises.
    """
    if not judges:
        raise FrameError("there is no judge to plan for; give one or more", rows=pairings)
    table = prices() if table is None else table
    rows = []
    for judge in judges:
        one = plan(pairings, judge, store=store, orders="given", table=table)
        both = plan(pairings, judge, store=store, table=table)
        again = plan(pairings, judge, store=store, samples=2, table=table)
        named = replace(judge, prompt=renamed, parser="strict")
        asked = [("verdicts", one, None), ("position", both, one), ("repeatability", again, both)]
        asked.append(("name", plan(pairings, named, store=store, table=table), None))
        if attacks is not None:
            usable = attacks[attacks["answer_b"].notna()]
            asked.append(("verbosity", plan(usable, judge, store=store, table=table), None))
        for name, whole, part in asked:
            rows.append({"judge": judge.name, "asks": name, **_beyond(whole, part)})
    return pd.DataFrame(rows)


def _beyond(whole: Plan, part: Plan | None) -> dict[str, float | None]:
    """What a plan asks that another, a part of it, does not."""
    share = 1.0
    if part is not None and whole.distinct_misses:
        share = 1 - part.distinct_misses / whole.distinct_misses
    told = whole.dollars
    cost = [None] * 3 if told is None else [told.low, told.expected, told.high]
    low, expected, high = (None if one is None else share * one for one in cost)
    return {
        "requests": whole.requests - (part.requests if part else 0),
        "answered": whole.hits - (part.hits if part else 0),
        "calls": whole.distinct_misses - (part.distinct_misses if part else 0),
        "dollars_low": low,
        "dollars": expected,
        "dollars_high": high,
    }


def call_costs(
    frame: pd.DataFrame, store: HasRecords, *, table: Mapping[str, Price] | None = None
) -> pd.DataFrame:
    """What a call of each judge has cost: columns judge, calls, dollars, per_call.

    `frame` has games or scores, whose requests and replies the `store` holds; dollars are missing
    where the price of the judge's model is unknown. `table` replaces the prices.
    """
    known = dict(prices() if table is None else table)
    paid = {
        record.request.key: cost(record.request, record.reply, known)
        for record in store.records(frame["key"].dropna().unique())
    }
    rows = frame.dropna(subset="key").drop_duplicates("key")
    rows = rows.assign(dollars=rows["key"].map(paid).astype(float))
    made = rows.groupby("judge")["dollars"].agg(["size", "sum", "mean", "count"]).reset_index()
    made.loc[made["count"] == 0, "sum"] = float("nan")
    names = {"size": "calls", "sum": "dollars", "mean": "per_call"}
    return made.rename(columns=names)[["judge", *names.values()]]


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
    the pairs; `games` in both orders), "odds for twice the words" (with `answers`; held beside the
    `human` votes where there are any), "own answers less others' view" (where a judge is among the
    models, see `self_preference`), "another verdict when asked again" (`again`: games with a column
    `asked` that says which are of one request), "first place, renamed less default" (`renamed`:
    the same pairs with the names exchanged). `votes` are what `games` were resolved to.

    Columns: judge, measure, value, unit ("share" or "odds": no bias is 0, or 1), tie_rate,
    failure_rate (the share of the judge's games without a verdict), too_few, n, low, high,
    no_verdict. A high tie rate can hide a bias; failures can be where it is. Raises what the
    estimators raise.
    """
    parts = [position_bias(games).query("outcome in ('biased_first', 'biased_second')")]
    places = {"biased_first": "prefers the first place", "biased_second": "the second place"}
    places["biased_second"] = f"prefers {places['biased_second']}"
    parts[0] = parts[0].assign(measure=parts[0]["outcome"].map(places), value=parts[0]["share"])
    if answers is not None:
        found = length_bias(votes, answers, human=human)
        parts.append(
            found.assign(measure="odds for twice the words", value=found["odds"], unit="odds")
        )
    models = {*votes["model_a"], *votes["model_b"]}
    is_model = {**{name: str(name).partition("/")[0] for name in votes["judge"]}, **(own or {})}
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
        full = {str(name).partition("/")[0]: name for name in games["judge"]}
        told = "first place, renamed less default"
        parts.append(
            found.assign(judge=found["judge"].map(full), measure=told, value=found["difference"])
        )
    made = pd.concat(parts, ignore_index=True).reindex(columns=["judge", *_ENDS, "no_verdict"])
    read = games[games["winner"].notna()].groupby("judge")["winner"]
    ties = made["judge"].map(read.agg(lambda verdicts: (verdicts == "tie").mean()))
    failed = made["judge"].map(games["winner"].isna().groupby(games["judge"]).mean())
    made["tie_rate"] = made["tie_rate"].fillna(ties)
    made["too_few"] = made["too_few"].fillna(False).astype(bool)
    return made.assign(failure_rate=failed, unit=made["unit"].fillna("share"))


def finding(
    row: Mapping[str, object] | pd.Series,
    says: str,
    *,
    otherwise: str = "",
    null: float | None = None,
    percent: bool = False,
    digits: int = 1,
) -> str:
    """The sentence that a row of an estimate amounts to, with its number, interval and n.

    `says` is a sentence with the row's columns in braces, such as "{judge} agrees with people in
    {agreement:.0%} of votes". Where `null` (no effect: 0 for a difference, 1 for odds) lies in the
    interval the row does not show it, and the sentence is `otherwise`. The interval and n follow in
    brackets, in percent where that is the unit, and "too few to be sure" where the row says so.
    Raises FrameError for a row without a column that the sentence names.

    >>> row = {"judge": "x", "share": 0.25, "low": 0.2, "high": 0.31, "n": 240, "too_few": False}
    >>> finding(row, "{judge} changes its mind in {share:.0%} of pairs", percent=True, digits=0)
    'x changes its mind in 25% of pairs (95 % interval 20 to 31 %, n 240).'
    >>> finding(row, "{judge} is moved", otherwise="{judge} shows no lean", null=0.21)
    'x shows no lean (95 % interval 0.2 to 0.3, n 240).'
    """
    known = dict(row)
    ends = [float(str(known[end])) for end in ("low", "high") if pd.notna(known.get(end))]
    hidden = null is not None and not (len(ends) == 2 and (ends[0] > null or ends[1] < null))
    sentence = (otherwise or says) if hidden else says
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
        more.append(f"95 % interval {low} to {high}{' %' if percent else ''}")
    elif "low" in known:
        more.append("no interval can be given")
    if pd.notna(known.get("n")):
        more.append(f"n {int(float(str(known['n']))):,}")
    if bool(known.get("too_few", False)):
        more.append("too few to be sure")
    return f"{told} ({', '.join(more)})." if more else f"{told}."
