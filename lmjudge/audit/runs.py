"""Compare runs of a judge: two versions, several parsers, or a run and its requirements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from lmjudge.audit.calls import about_models, as_votes, call_costs, versions
from lmjudge.audit.choice import both_orders, of_people, on_keys
from lmjudge.audit.findings import Choice, Finding, check_judges, percent
from lmjudge.errors import FrameError
from lmjudge.frames import never_meet, same_ids, without_labels
from lmjudge.judges import reread
from lmjudge.stats import agreement, compare_judges
from lmjudge.stats.bias import in_both_orders
from lmjudge.stats.compare import drift, flips, paired
from lmjudge.stats.grading import KEY as GRADED, compare_graders, score_agreement
from lmjudge.stats.intervals import estimate
from lmjudge.store import Shelf

# Measures of drift as they stand in a sentence.
_MEASURES = {"ties": "share of ties", "first shown": "win rate of the answer shown first"}


def compare_runs(
    old: pd.DataFrame,
    new: pd.DataFrame,
    votes: pd.DataFrame | None = None,
    *,
    store: Shelf | None = None,
    level: float = 0.95,
) -> Choice:
    """Say what a new run of a judge changed: flips, agreement with people, drift and cost.

    Both are games, votes or scores. Judges are matched by name; where each run has one judge, those
    two, whatever their names. With `votes` (people's votes, or scores) the paired difference in
    agreement with people is told, with the `store` of both what calls cost and which model
    answered.

    Tables: "flips" (a row a judge), "drift" (measures before and after, with p values), "agreement"
    (with `votes`), "cost" (with `store`), "versions". Raises FrameError for runs of different
    kinds, and where no judge, or no item, is in both.
    """
    if ("model_a" in old.columns) != ("model_a" in new.columns):
        raise FrameError(
            "one run has scores and the other compares pairs; give two runs of one kind",
            columns=list(new.columns),
        )
    pairs = _by_judge(check_judges(old), check_judges(new))
    tables: dict[str, pd.DataFrame] = {}
    if "model_a" in old.columns:
        tables["flips"] = pd.concat(
            [
                flips(before, after, level=level).assign(judge=judge)
                for judge, before, after in pairs
            ]
        )
        tables["drift"] = pd.concat(
            [
                drift(before, after, level=level).assign(judge=judge)
                for judge, before, after in pairs
            ]
        )
    else:
        tables["flips"], tables["drift"] = _score_changes(pairs, level)
    tables["flips"]["one_run"] = [_in_one_run(before, after) for _, before, after in pairs]
    for name in ("flips", "drift"):
        table = tables[name].reset_index(drop=True)
        tables[name] = table[["judge", *table.columns.drop("judge")]]
    if votes is not None:
        tables["agreement"] = _agreements(pairs, of_people(votes), level)
    both = [old.assign(judge=_named(old, "old")), new.assign(judge=_named(new, "new"))]
    if store is not None:
        tables["cost"] = pd.concat([call_costs(run, store) for run in both], ignore_index=True)
    models = [
        versions(run, store=store).assign(run=name) for run, name in ((old, "old"), (new, "new"))
    ]
    tables["versions"] = pd.concat(models, ignore_index=True)
    findings = _sentences(tables, level)
    notes = about_models(tables["versions"].drop_duplicates("judge"), pd.DataFrame())
    return Choice(tuple(findings), tables, tuple(notes))


def gate(
    judgments: pd.DataFrame,
    votes: pd.DataFrame | None = None,
    *,
    min_agreement: float | None = None,
    max_position_bias: float | None = None,
    max_no_verdict: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Hold each judge against thresholds: a row a judge and check, with `passed`.

    | check | what | passes if |
    |---|---|---|
    | agreement | with people's votes, ties kept; of scores the rank correlation | low >= minimum |
    | position bias | pairs in which one place wins in both orders | high <= maximum |
    | no verdict | judgments without a verdict | high <= maximum |

    The end of the interval is compared, so that a small sample does not pass by luck; a value
    without an interval does not pass, except 0 judgments without a verdict, whose interval is
    Wilson's. Columns: judge, check, value, low, high, n, threshold, passed. Raises FrameError where
    no threshold is given, for agreement without `votes`, and for the position bias of scores or of
    one order.
    """
    if min_agreement is None and max_position_bias is None and max_no_verdict is None:
        raise FrameError(
            "there is nothing to check; give min_agreement, max_position_bias or max_no_verdict",
            columns=[],
        )
    if min_agreement is not None and votes is None:
        raise FrameError("min_agreement needs people's votes; give `votes`", columns=[])
    scores = "model_a" not in judgments.columns
    if scores and max_position_bias is not None:
        raise FrameError(
            "scores of single answers have no position bias; leave max_position_bias out",
            columns=list(judgments.columns),
        )
    rows = []
    for judge, part in check_judges(judgments).groupby("judge", sort=True):
        if min_agreement is not None and votes is not None:
            rows.append(
                (judge, "agreement", _agreement(part, of_people(votes), level), min_agreement, 1)
            )
        if max_position_bias is not None:
            rows.append((judge, "position bias", _position(part, level), max_position_bias, -1))
        if max_no_verdict is not None:
            part = without_labels(part)
            lost = part["score" if scores else "winner"].isna().astype(float)
            share = estimate(part, ["judge"], top=lost, share=True, level=level).iloc[0]
            rows.append((judge, "no verdict", share, max_no_verdict, -1))
    table = []
    for judge, check, value, threshold, sign in rows:
        end = value["low"] if sign > 0 else value["high"]
        passed = bool(sign * (end - threshold) >= 0) if pd.notna(end) else False
        ends = (value["value"], value["low"], value["high"], int(value["n"]))
        table.append((judge, check, *ends, threshold, passed))
    columns = "judge check value low high n threshold passed".split()
    return pd.DataFrame(table, columns=columns)


def _agreement(part: pd.DataFrame, votes: pd.DataFrame, level: float) -> pd.Series:
    if "model_a" not in part.columns:
        table = score_agreement(part, votes, level=level).set_index("measure")
        correlation = table.loc["spearman"].copy()
        if correlation["value"] > 1 - 1e-9:  # nothing varies about a judge equal to people
            correlation["low"] = correlation["high"] = correlation["value"]
        return correlation
    part = on_keys(part, votes)
    cast = as_votes(part, both_orders(part))
    return agreement(cast, votes, level=level).iloc[0].rename({"agreement": "value"})


def _position(part: pd.DataFrame, level: float) -> pd.Series:
    if "group" in part.columns or not both_orders(part):
        raise FrameError(
            f"{part['judge'].iloc[0]} judged each pair in one order, so its position bias is"
            " unknown; judge both orders, or leave max_position_bias out",
            rows=part,
        )
    pairs, outcomes = in_both_orders(part)
    biased = (outcomes["biased_first"] | outcomes["biased_second"]).astype(float)
    bias = estimate(pairs, ["judge"], top=biased.where(~outcomes["error"]), share=True, level=level)
    return bias.iloc[0]


def _named(run: pd.DataFrame, name: str) -> pd.Series:
    return name + ": " + run["judge"].astype(str)


def _by_judge(old: pd.DataFrame, new: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    one, two = (dict(tuple(run.groupby("judge", sort=True))) for run in (old, new))
    if len(one) == len(two) == 1:
        (before, first), (after, second) = *one.items(), *two.items()
        name = str(after) if before == after else f"{before} to {after}"
        return [(name, first, second)]
    common = [name for name in one if name in two]
    if not common:
        raise FrameError(
            f"no judge is in both runs: the old one has {', '.join(map(str, one))}, the new one"
            f" {', '.join(map(str, two))}; give runs of one judge each, or name judges alike",
            rows=new,
        )
    return [(str(name), one[name], two[name]) for name in common]


def _score_changes(
    pairs: list[tuple[str, pd.DataFrame, pd.DataFrame]], level: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how many scores changed, and each model's mean before and after."""
    rows = []
    for judge, earlier, later in pairs:
        earlier, later = same_ids(earlier, later)
        key = [*GRADED, "sample"]
        both = earlier[[*key, "score"]].merge(
            later[[*key, "score"]], on=key, suffixes=("_old", "_new")
        )
        if both.empty:
            raise never_meet("No answer was graded in both runs", earlier, later)
        rows.append(both.assign(judge=judge))
    every = pd.concat(rows, ignore_index=True)
    before, after = every["score_old"].astype(float), every["score_new"].astype(float)
    every["difference"] = after - before
    changed = (every["difference"] != 0).astype(float).where(every["difference"].notna())
    share = estimate(every, ["judge"], top=changed, share=True, level=level)
    share = share.rename(columns={"value": "share"})
    share["flipped"] = (share["share"] * share["n"]).round().astype("Int64")
    share = share[["judge", "flipped", "share", "too_few", "n", "low", "high", "no_verdict"]]
    every["measure"] = "mean score of " + every["model"].astype(str)
    measures = pd.concat([every.assign(measure="mean score"), every], ignore_index=True)
    moved = paired(measures, ["judge", "measure"], level)
    known = measures[measures["difference"].notna()].groupby(["judge", "measure"])
    means = known[["score_old", "score_new"]].mean().reset_index()
    moved = moved.merge(means.rename(columns={"score_old": "before", "score_new": "after"}))
    first = ["judge", "measure", "before", "after"]
    return share, moved[[*first, *moved.columns.drop(first)]]


def _in_one_run(one: pd.DataFrame, two: pd.DataFrame) -> int:
    """Return how many judgments have no item of the other run."""
    one, two = same_ids(one, two)
    sides = ["model_a", "model_b"] if "model_a" in one.columns else ["model"]
    key = [
        name for name in ("question_id", "turn", *sides, "sample") if name in one and name in two
    ]
    met = one[key].merge(two[key], on=key, how="outer", indicator=True)["_merge"]
    return int((met != "both").sum())


def _agreements(
    pairs: list[tuple[str, pd.DataFrame, pd.DataFrame]], votes: pd.DataFrame, level: float
) -> pd.DataFrame:
    rows = []
    for judge, before, after in pairs:
        runs = [after.assign(judge="new"), before.assign(judge="old")]
        if not all(run["winner" if "winner" in run else "score"].notna().any() for run in runs):
            continue
        if "model_a" in before.columns:
            kept = [on_keys(run, votes) for run in runs]
            cast = [as_votes(run, both_orders(run)) for run in kept]
            compared = compare_judges(pd.concat(cast, ignore_index=True), votes, level=level)
            names = {"agreement_a": "after", "agreement_b": "before"}
        else:
            compared = compare_graders(pd.concat(runs, ignore_index=True), votes, level=level)
            names = {"value_a": "after", "value_b": "before"}
        rows.append(compared.rename(columns=names).assign(judge=judge))
    columns = "judge before after difference too_few n low high no_verdict".split()
    table = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
    return table[columns]


def _sentences(tables: dict[str, pd.DataFrame], level: float) -> list[Finding]:
    """Return sentences on each judge, the most changed first, and one on the price of a call."""
    findings = []
    several = len(tables["flips"]) > 1
    for _, changed in tables["flips"].sort_values("share", ascending=False).iterrows():
        for found in _of_judge(changed, tables, level):
            unnamed = several and not found.text.startswith(f"{changed['judge']}: ")
            lower = f"{changed['judge']}: {found.text[0].lower()}{found.text[1:]}"
            findings.append(replace(found, text=lower) if unnamed else found)
    if "cost" in tables and tables["cost"]["per_call"].notna().any():
        by_run = tables["cost"].assign(run=tables["cost"]["judge"].str.partition(": ")[0])
        spent = by_run.groupby("run")[["dollars", "calls"]].sum()
        each = spent["dollars"] / spent["calls"]
        findings.append(
            Finding(
                f"A call cost ${each.get('old', math.nan):.5f} before and"
                f" ${each.get('new', math.nan):.5f} now.",
                "cost",
            )
        )
    return findings


def _of_judge(
    changed: pd.Series, tables: dict[str, pd.DataFrame], level: float
) -> Iterator[Finding]:
    """Yield sentences on a judge's flips, its agreement with people, and its drift."""
    judge = changed["judge"]
    left = {
        "judgments without a verdict in one of the runs": changed["no_verdict"],
        "that are in one run alone": changed["one_run"],
    }
    left_out = " and ".join(f"{n:,} {which}" for which, n in left.items() if n)
    if not changed["n"]:
        text = f"{judge}: no judgment has a verdict in both runs, so nothing is compared"
        yield Finding(f"{text}.", "flips")
        return
    text = f"{judge}: {percent(changed['share'])} of {changed['n']:,} judgments changed"
    text += _ends(changed, level)
    if "reversed" in changed and changed["flipped"]:
        text += f", {changed['reversed']:,} of them from one side to the other"
    yield Finding(f"{text}.", "flips")
    if left_out:
        yield Finding(f"{judge}: left out are {left_out}.", "flips")
    if "agreement" in tables and judge in set(tables["agreement"]["judge"]):
        row = tables["agreement"].set_index("judge").loc[judge]
        moved = f"agreement with people went from {row['before']:.3f} to {row['after']:.3f}"
        unclear = not (row["low"] > 0 or row["high"] < 0)
        unclear_note = ", which these votes cannot tell from no change" if unclear else ""
        apart = "" if pd.isna(row["low"]) else f" ({row['low']:+.3f} to {row['high']:+.3f})"
        text = f"Its {moved}, a difference of {row['difference']:+.3f}{apart}{unclear_note}."
        yield Finding(text, "agreement")
    own = tables["drift"][tables["drift"]["judge"] == judge]
    if own["difference"].isna().all():
        return
    sure = own[own["p_holm"] < 1 - level]
    shown = sure if len(sure) else own
    top = shown.loc[shown["difference"].abs().idxmax()]
    moved = f"from {top['before']:.3f} to {top['after']:.3f}"
    measure = _MEASURES.get(top["measure"], top["measure"])
    if len(sure):
        most = f"the most of {len(sure)} changes" if len(sure) > 1 else "a change"
        text = f"The {measure} went {moved}, {most} beyond chance."
    elif top["difference"]:
        text = f"Nothing moved beyond chance. The largest change is in the {measure}: {moved}."
    else:
        text = "No rate moved."
    yield Finding(text, "drift")


def _ends(row: pd.Series, level: float) -> str:
    if pd.isna(row["low"]):
        return ""
    return f" ({100 * level:.0f} % interval {100 * row['low']:.1f} to {percent(row['high'])})"


def parser_lab(frame: pd.DataFrame, parsers: Sequence[str]) -> pd.DataFrame:
    """Return the same games or scores under each of several parsers, one below the other.

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
    tables = [
        part.assign(parser=parser, changed=changed)
        for parser, part in zip(parsers, read, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)
