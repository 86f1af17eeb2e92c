"""Choosing a judge by gold labels: right in both orders, or right by luck?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.audit.findings import Choice, Finding, percent, rivals, settles, several
from lmjudge.frames import resolve
from lmjudge.stats import compare_judges
from lmjudge.stats.agreement import gold_accuracy
from lmjudge.stats.components import labels_needed

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
    tables = {"ranking": ranking, "compared": _compared(games, gold, ranking, level)}
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
    findings += _reject(ranking, usable, alike)
    findings += _more(usable, alike)
    return Choice(tuple(findings[:5]), tables)


def _compared(
    games: pd.DataFrame, gold: pd.DataFrame, ranking: pd.DataFrame, level: float
) -> pd.DataFrame:
    if len(ranking) < 2:
        return pd.DataFrame(columns=["judge_a", "judge_b", "difference", "low", "high", "n"])
    one_order = set(ranking.loc[ranking["lucky"].isna(), "judge"])
    cast = [
        resolve(part, "given" if judge in one_order else "tie")
        for judge, part in games.groupby("judge", sort=True)
    ]
    compared = compare_judges(pd.concat(cast, ignore_index=True), gold, level=level)
    needed = labels_needed(compared, level=level)[["judge_a", "judge_b", "needed", "more"]]
    return compared.merge(needed, on=["judge_a", "judge_b"])


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
    seen = (
        f"finds the better answer {orders}in {percent(best['accuracy'])} of {best['n']:,} pairs"
        f" ({100 * level:.0f} % interval {100 * best['low']:.1f} to {percent(best['high'])};"
        f" a coin: {percent(best['guessing'])})"
    )
    if alike:
        names = several([best["judge"], *(row["other"] for row in alike)])
        row = alike[0]
        return Finding(
            f"Use {names}: these labels cannot tell them apart; {best['judge']} {seen}, and"
            f" {row['other']} differs by {100 * row['difference']:+.1f} points"
            f" ({100 * row['low']:+.1f} to {100 * row['high']:+.1f}).",
            "compared",
        )
    more = ", more than any other judge here" if len(ranking) > 1 else ""
    return Finding(f"Use {best['judge']}: it {seen}{more}.", "ranking")


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


def _reject(ranking: pd.DataFrame, usable: pd.DataFrame, alike: list[pd.Series]) -> list[Finding]:
    kept = {*usable["judge"].head(1), *(row["other"] for row in alike)}
    parts = []
    for _, row in ranking.iterrows():
        if row["judge"] not in kept:
            reasons = [f"{percent(row['accuracy'])} right"]
            if row["lucky"] >= 0.4:
                reasons.append(f"{percent(row['lucky'])} by luck of the order")
            if row["wrong"] >= 0.4:
                reasons.append(f"{percent(row['wrong'])} wrong in both orders")
            parts.append(f"{row['judge']} ({', '.join(reasons)})")
    return [Finding(f"Do not use {', '.join(parts)}.", "ranking")] if parts else []


def _more(usable: pd.DataFrame, alike: list[pd.Series]) -> list[Finding]:
    if usable.empty:
        return []
    best = usable.iloc[0]
    if alike:
        return [Finding(f"{settles(best['judge'], alike[0], 'labelled pairs')}.", "compared")]
    half = 50 * (best["high"] - best["low"])
    text = f"Four times the labelled pairs would halve the interval of ±{half:.1f} points."
    return [Finding(text, "ranking")]
