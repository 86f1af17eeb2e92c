"""Choose a judge by gold labels: how often it is right in both orders, and in one only."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.audit.findings import (
    Choice,
    Finding,
    certainty,
    paired,
    percent,
    recommendation,
    rejection,
    rivals,
    unmatched,
)
from lmjudge.frames import resolve
from lmjudge.stats.grouping import by_name
from lmjudge.stats.interrater import KEY, gold_accuracy

_SUBSETS = ("subset", "source", "category")


def choose_by_gold(games: pd.DataFrame, gold: pd.DataFrame, *, level: float = 0.95) -> Choice:
    """Say which judge finds the better answer most often, whichever order it is shown in.

    A subset is what the column `subset`, `source` or `category` of the labels, or of the games,
    names.
    """
    ranking = gold_accuracy(games, gold, level=level)
    ranking["guessing"] = np.where(ranking["lucky"].isna(), 0.5, 0.25)
    ranking = ranking.sort_values(["accuracy", "judge"], ascending=[False, True])
    ranking = ranking.reset_index(drop=True)
    one_order = set(ranking.loc[ranking["lucky"].isna(), "judge"])
    cast = [
        resolve(part, "given" if judge in one_order else "tie")
        for judge, part in games.groupby("judge", sort=True)
    ]
    tables = {"ranking": ranking, "compared": paired(cast, gold, level)}
    named = next((n for n in _SUBSETS if n in gold.columns or n in games.columns), None)
    if named is not None:
        subsets = gold_accuracy(games, gold, by=named, level=level)
        tables["subsets"] = subsets.rename(columns={named: "subset"})
    usable = ranking[ranking["low"] > ranking["guessing"]]
    alike = rivals(usable, tables["compared"]) if len(usable) else []
    findings = [_use(usable, ranking, alike, level)]
    shown = usable if len(usable) else ranking
    findings.append(_luck(shown.iloc[0]))
    findings += _weakest(tables.get("subsets"), shown["judge"].iloc[0])
    findings += rejection(ranking, usable, alike, _why_not)
    findings += certainty(usable, alike, "labelled pairs", points=True)
    pairs, labels = by_name(games), by_name(gold)
    notes = (
        *unmatched(labels, pairs, KEY, "labels have no judgment of the same two answers"),
        *unmatched(pairs, labels, KEY, "judgments have no label of the same two answers"),
    )
    return Choice(tuple(findings[:5]), tables, notes)


def _use(
    usable: pd.DataFrame, ranking: pd.DataFrame, alike: list[pd.Series], level: float
) -> Finding:
    if usable.empty:
        best = ranking.iloc[0]
        return Finding(
            f"Use none of these judges: the best, {best['judge']}, finds the better answer in"
            f" {percent(best['accuracy'])} of {best['n']:,} pairs, where a coin finds"
            f" {percent(best['guessing'])}.",
            "ranking",
        )
    best = usable.iloc[0]
    orders = "in both orders " if pd.notna(best["lucky"]) else ""
    rate = (
        f"finds the better answer {orders}in {percent(best['accuracy'])} of {best['n']:,} pairs"
        f" ({100 * level:.0f} % interval {100 * best['low']:.1f} to {percent(best['high'])};"
        f" a coin: {percent(best['guessing'])})"
    )
    apart = ""
    if alike:
        row = alike[0]
        apart = (
            f"{best['judge']} {rate}, and {row['other']} differs by"
            f" {100 * row['difference']:+.1f} points, {100 * row['low']:+.1f} to"
            f" {100 * row['high']:+.1f}"
        )
    return recommendation(usable, ranking, alike, rate=rate, apart=apart, labels="labels")


def _luck(best: pd.Series) -> Finding:
    if pd.isna(best["lucky"]):
        return Finding(
            f"Ask {best['judge']} in both orders first: in one order nothing tells a judge that"
            " knows from a lucky one.",
            "ranking",
        )
    return Finding(
        f"Taken one by one, its verdicts are right in {percent(best['single'])}; in"
        f" {percent(best['lucky'])} of pairs one order alone is right, which is luck, and in"
        f" {percent(best['wrong'])} both are wrong.",
        "ranking",
    )


def _weakest(subsets: pd.DataFrame | None, judge: str) -> list[Finding]:
    if subsets is None or subsets["subset"].nunique() < 2:
        return []
    own = subsets[subsets["judge"] == judge].sort_values("accuracy")
    least, most = own.iloc[0], own.iloc[-1]
    return [
        Finding(
            f"{judge} is weakest on {least['subset']} ({percent(least['accuracy'])} of"
            f" {least['n']:,} pairs) and strongest on {most['subset']}"
            f" ({percent(most['accuracy'])} of {most['n']:,}).",
            "subsets",
        )
    ]


def _why_not(row: pd.Series) -> list[str]:
    reasons = [f"{percent(row['accuracy'])} right"]
    if row["lucky"] >= 0.4:
        reasons.append(f"{percent(row['lucky'])} by luck of the order")
    if row["wrong"] >= 0.4:
        reasons.append(f"{percent(row['wrong'])} wrong in both orders")
    return reasons
