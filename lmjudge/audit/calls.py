"""Facts about a judge's calls: retired models, the model that answered, versions and cost."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import combinations
from pathlib import Path

import pandas as pd

from lmjudge.audit.findings import Finding, percent
from lmjudge.frames import resolve
from lmjudge.prices import Price, cost, prices, same_model
from lmjudge.records import Record
from lmjudge.stats.compare import flips
from lmjudge.stats.grouping import model_of
from lmjudge.store import Shelf

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})(-preview)?$")


def call_costs(
    frame: pd.DataFrame, store: Shelf, *, table: Mapping[str, Price] | None = None
) -> pd.DataFrame:
    """Return what a call of each judge has cost: columns judge, calls, dollars, per_call.

    `frame` has games or scores, whose requests and replies the `store` holds; dollars are missing
    where the price of the judge's model is unknown. A call that two judges share (two parsers of
    one text) is in both rows. `table` replaces the prices.
    """
    known = dict(prices() if table is None else table)
    paid = {
        record.request.key: cost(record.request, record.reply, known)
        for record in store.records(frame["key"].dropna().unique())
    }
    rows = frame.dropna(subset="key").drop_duplicates(["judge", "key"])
    rows = rows.assign(dollars=rows["key"].map(paid).astype(float))
    costs = rows.groupby("judge")["dollars"].agg(["size", "sum", "mean", "count"]).reset_index()
    costs.loc[costs["count"] == 0, "sum"] = float("nan")
    names = {"size": "calls", "sum": "dollars", "mean": "per_call"}
    return costs.rename(columns=names)[["judge", *names.values()]]


def retired(model: str) -> date | None:
    """Return the day on which a provider retires a hosted model; None where none is known.

    The day may lie ahead: no table or page depends on the date of its making. The package holds
    the days that providers had announced at its release.

    >>> retired("gpt-3.5-turbo-0301"), retired("my-model")
    (datetime.date(2024, 9, 13), None)
    """
    file = Path(__file__).with_name("retired.csv")
    with file.open(newline="", encoding="utf-8") as lines:
        dates = {row["model"]: date.fromisoformat(row["date"]) for row in csv.DictReader(lines)}
    return dates.get(model.rpartition("/")[2])


def versions(judgments: pd.DataFrame, *, store: Shelf | None = None) -> pd.DataFrame:
    """Return what is known of each judge's model: when is it retired, and did another one answer?

    Columns: judge, model, retired (a day, or missing), served, first, last. With the `store` that
    holds the judgments' records, `served` are other names by which servers answered, with their
    counts, and `first` and `last` the days of the calls.
    """
    records: dict[str, Record] = {}
    if store is not None and "key" in judgments:
        replies = store.records(judgments["key"].dropna().unique())
        records = {record.request.key: record for record in replies}
    rows = []
    for judge, part in judgments.groupby("judge", sort=True):
        model = model_of(judge)
        own = [records[key] for key in part.get("key", pd.Series()).dropna() if key in records]
        other = pd.Series(
            [
                str(record.reply.model)
                for record in own
                if not same_model(record.request.model, record.reply.model)
            ],
            dtype=object,
        ).value_counts()
        days = sorted(
            datetime.fromtimestamp(record.reply.created, UTC).date()
            for record in own
            if record.reply.created
        )
        rows.append(
            {
                "judge": judge,
                "model": model,
                "retired": retired(model),
                "served": ", ".join(f"{name} ({n:,})" for name, n in other.items()) or None,
                "first": days[0] if days else None,
                "last": days[-1] if days else None,
            }
        )
    return pd.DataFrame(rows)


def drifts(judgments: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Compare every two versions of one judge: names that differ in the model's date alone.

    Columns: before, after (by name), share (of items with another verdict), too_few, n, low, high,
    no_verdict. Empty where no judge has two versions, and for scores.
    """
    columns = ["before", "after", "share", "too_few", "n", "low", "high", "no_verdict"]
    rows = []
    if "model_a" in judgments.columns:
        parts = dict(tuple(judgments.groupby("judge", sort=True)))
        for former, latter in combinations(parts, 2):
            if _undated(former) == _undated(latter):
                flip = flips(parts[former], parts[latter], level=level).iloc[0]
                rows.append({"before": former, "after": latter, **flip[columns[2:]].to_dict()})
    return pd.DataFrame(rows, columns=columns)


def about_models(table: pd.DataFrame, changed: pd.DataFrame) -> list[Finding]:
    """Return the sentences on judges whose model has a last day, was another or changed version."""
    notes = []
    gone = table[table["retired"].notna()]
    if len(gone):
        named = ", ".join(f"{row['model']} ({row['retired']})" for _, row in gone.iterrows())
        notes.append(Finding(f"Days on which providers retire these models: {named}.", "versions"))
    for _, row in table[table["served"].notna()].iterrows():
        text = f"The server answered calls of {row['judge']} as {row['served']}."
        notes.append(Finding(text, "versions"))
    for _, row in changed.iterrows():
        ends = "" if pd.isna(row["low"]) else f" ({percent(row['low'])} to {percent(row['high'])})"
        notes.append(
            Finding(
                f"{row['before']} and {row['after']} are two versions of one judge: they differ in"
                f" {percent(row['share'])} of {row['n']:,} verdicts{ends}.",
                "drift",
            )
        )
    return notes


def _undated(judge: str) -> str:
    """Return the judge's name without the date in its model's name."""
    model = model_of(judge)
    return _DATE.sub("", model) + judge[len(model) :]


def as_votes(part: pd.DataFrame, both: bool) -> pd.DataFrame:
    """Return the votes that one judge's games amount to; votes as they are."""
    return part if "group" in part else resolve(part, "tie" if both else "given")
