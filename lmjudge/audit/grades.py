"""Choose a judge that grades single answers, by people's scores or their pass and fail labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from lmjudge.audit.findings import (
    Choice,
    Finding,
    certainty,
    check_judges,
    mostly_silent,
    percent,
    recommendation,
    rejection,
    rivals,
    unmatched,
    with_needed,
)
from lmjudge.stats.grading import (
    KEY,
    compare_graders,
    graded,
    in_first_half,
    pass_rates,
    pass_shares,
    score_agreement,
    score_levels,
)

_BINARY = 2
_RANKS = {"spearman": "spearman", "kendall": "kendall", "weighted kappa": "kappa", "icc": "icc"}


def choose_grader(scores: pd.DataFrame, human: pd.DataFrame, *, level: float = 0.95) -> Choice:
    """Say which grader to use: by rank correlation with people's scores, or kappa with labels."""
    by = _by_labels if human["score"].dropna().nunique() <= _BINARY else _by_scores
    notes = (
        *unmatched(human, scores, KEY, "scores of people have no judge's score of the same answer"),
        *unmatched(scores, human, KEY, "judges' scores have no person's score of the same answer"),
    )
    return replace(by(scores, human, level), notes=notes)


def rank_graders(scores: pd.DataFrame, human: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Rank judges by the rank correlation of their scores with people's, the best first.

    Columns: judge, spearman, kendall, kappa (quadratic weights), icc, error (judge less people, in
    points), error_low, error_high, levels (distinct scores of the judge), too_few, n (answers),
    low, high (of spearman), no_verdict. The last row, `people`, compares every two people who
    graded one answer; it is left out where there are none. Raises FrameError where both share no
    answer.
    """
    table = score_agreement(check_judges(scores), human, level=level)
    people = score_agreement(human, level=level)
    distinct = scores.groupby("judge")["score"].nunique()
    rows = []
    for judge, part in pd.concat([table, people]).groupby("judge", sort=True):
        by = part.set_index("measure")
        row = {"judge": judge, **{short: by.loc[name, "value"] for name, short in _RANKS.items()}}
        row |= {"error": by.loc["mean error", "value"], "levels": distinct.get(judge, np.nan)}
        row |= {f"error_{end}": by.loc["mean error", end] for end in ("low", "high")}
        ends = ["too_few", "n", "low", "high", "no_verdict"]
        rows.append(row | by.loc["spearman", ends].to_dict())
    ranking = pd.DataFrame(rows)
    ranking["last"] = ranking["judge"] == "people"
    order = {"by": ["last", "spearman", "judge"], "ascending": [True, False, True]}
    columns = "judge spearman kendall kappa icc error error_low error_high levels".split()
    columns += ["too_few", "n", "low", "high", "no_verdict"]
    return ranking.sort_values(**order)[columns].reset_index(drop=True)


def _by_scores(scores: pd.DataFrame, human: pd.DataFrame, level: float) -> Choice:
    ranking = rank_graders(scores, human, level=level)
    judges = ranking[ranking["judge"] != "people"]
    exact = judges["spearman"] > 1 - 1e-9
    usable = judges[((judges["low"] > 0) | exact) & ~mostly_silent(judges)]
    compared = with_needed(compare_graders(scores, human, measure="spearman", level=level), level)
    alike = rivals(usable, compared) if len(usable) else []
    met = graded(scores, human)
    findings = [_use_score(usable, judges, alike, level)]
    if len(usable):
        findings.append(_scale(usable.iloc[0], met))
    findings += rejection(judges, usable, alike, _why_not_score)
    findings.append(_people_score(ranking))
    findings += certainty(usable, alike, "graded answers")
    tables = {
        "ranking": ranking,
        "compared": compared,
        "levels": score_levels(scores, human, level=level),
        "calibration": score_levels(scores, human, of="judge", level=level),
    }
    return Choice(tuple(findings), tables)


def _by_labels(scores: pd.DataFrame, human: pd.DataFrame, level: float) -> Choice:
    rates = pass_rates(scores, human, level=level)
    wide = rates.pivot_table(index="judge", columns="measure", values="value", dropna=False)
    accuracy = rates[rates["measure"] == "accuracy"].set_index("judge")
    kappa = rates[rates["measure"] == "kappa"].set_index("judge")
    ranks = score_agreement(scores, human, level=level)
    ranks = ranks[ranks["measure"] == "spearman"].set_index("judge")
    ranks["reversed"] = (ranks["high"].fillna(ranks["value"]) < 0) & (ranks["value"] < 0)
    names = {"true positive rate": "true_positive", "false positive rate": "false_positive"}
    ranking = wide.rename(columns=names).assign(
        threshold=accuracy["threshold"],
        spearman=ranks["value"],
        reversed=ranks["reversed"],
        levels=scores.groupby("judge")["score"].nunique(),
        too_few=kappa["too_few"],
        n=kappa["n"],
        low=kappa["low"],
        high=kappa["high"],
        no_verdict=kappa["no_verdict"],
    )
    columns = (
        "accuracy kappa true_positive false_positive threshold spearman reversed levels".split()
    )
    ranking = ranking.reindex(columns=[*columns, "too_few", "n", "low", "high", "no_verdict"])
    ranking = ranking.reset_index().sort_values(["kappa", "judge"], ascending=[False, True])
    ranking = ranking.reset_index(drop=True)
    thresholds = ranking.set_index("judge")["threshold"].to_dict()
    exact = ranking["kappa"] > 1 - 1e-9
    usable = ranking[((ranking["low"] > 0) | exact) & ~mostly_silent(ranking)]
    passes = scores.assign(
        score=(scores["score"] >= scores["judge"].map(thresholds))
        .astype(float)
        .where(scores["score"].notna())
    )
    if (ranking["levels"] > _BINARY).any():  # a threshold was chosen on the other half
        passes = passes[~passes["question_id"].map(in_first_half)]
    values = np.sort(human["score"].dropna().unique())
    labels = human.assign(
        score=(human["score"] == values[-1]).astype(float).where(human["score"].notna())
    )
    compared = with_needed(
        compare_graders(passes, labels, measure="weighted kappa", level=level), level
    )
    alike = rivals(usable, compared) if len(usable) else []
    shares = pass_shares(scores, human, thresholds=thresholds, level=level)
    findings = [_use_label(usable, ranking, alike, level)]
    if len(usable):
        findings.append(_rates(usable.iloc[0], shares))
    findings += rejection(ranking, usable, alike, _why_not_label)
    findings.append(_people_label(labels))
    findings += certainty(usable, alike, "labelled answers")
    tables = {"ranking": ranking, "compared": compared, "rates": rates, "shares": shares}
    return Choice(tuple(findings), tables)


def _interval(row: pd.Series, level: float) -> str:
    if pd.isna(row["low"]):
        return "no interval: nothing varies"
    return f"{100 * level:.0f} % interval {row['low']:.2f} to {row['high']:.2f}"


def _apart(row: pd.Series) -> str:
    if pd.isna(row["low"]):
        return f"{row['difference']:+.2f}"
    return f"{row['difference']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"


def _use_score(
    usable: pd.DataFrame, judges: pd.DataFrame, alike: list[pd.Series], level: float
) -> Finding:
    if usable.empty:
        text = (
            "Use none of these judges: none ranks answers as people do more closely than chance"
            " would."
        )
        return Finding(text, "ranking")
    best = usable.iloc[0]
    seen = (
        f"rank correlation {best['spearman']:.2f}, {_interval(best, level)}, {best['n']:,} answers"
    )
    apart = ""
    if alike:
        other, difference = alike[0]["other"], _apart(alike[0])
        apart = f"{best['judge']}: {seen}; {other} differs by {difference}"
    return recommendation(
        usable,
        judges,
        alike,
        rate=f"ranks answers as people do ({seen})",
        apart=apart,
        labels="scores",
        more="more closely",
    )


def _silence(row: pd.Series) -> str:
    asked = int(row["n"] + row["no_verdict"])
    return f"no grade on {row['no_verdict']:,} of {asked:,} answers"


def _scale(best: pd.Series, met: pd.DataFrame) -> Finding:
    own = met[(met["judge"] == best["judge"]) & met["said"].notna()]
    span, said = np.ptp(own["human"]), np.ptp(own["said"])
    lost = f"; {_silence(best)}" if best["no_verdict"] else ""
    if not 0.5 <= said / span <= 2:
        (low, high), (least, most) = (
            (own[name].min(), own[name].max()) for name in ("said", "human")
        )
        return Finding(
            f"{best['judge']} uses another scale ({low:.4g} to {high:.4g}, where people use"
            f" {least:.4g} to {most:.4g}): rescale it, or use its scores to compare models"
            f" only{lost}.",
            "levels",
        )
    error, low, high = best["error"], best["error_low"], best["error_high"]
    known = pd.notna(low)
    off = (abs(error) > 1e-9) if not known else (low > 0 or high < 0)
    ends = f" ({low:.1f} to {high:.1f})" if known else ""
    if off and abs(error) >= 0.05 * span:
        side = "above" if error > 0 else "below"
        return Finding(
            f"{best['judge']} scores {abs(error):.1f} points {side} people{ends}: take the"
            f" difference off, or use its scores to compare models only (weighted kappa"
            f" {best['kappa']:.2f}){lost}.",
            "levels",
        )
    return Finding(
        f"{best['judge']} uses people's scale: its mean error is {error:+.1f} points{ends}, its"
        f" weighted kappa {best['kappa']:.2f} and its intraclass correlation"
        f" {best['icc']:.2f}{lost}.",
        "levels",
    )


def _why_not_score(row: pd.Series) -> list[str]:
    if mostly_silent(row):
        return [_silence(row)]
    if row["levels"] <= 1:
        return ["gives every answer the same score"]
    correlation = f"rank correlation {row['spearman']:.2f}"
    if row["spearman"] < 0 and not row["high"] >= 0:
        return [
            "ranks answers the other way round",
            f"{correlation}: see whether its scale is reversed",
        ]
    return [correlation]


def _people_score(ranking: pd.DataFrame) -> Finding:
    people = ranking[ranking["judge"] == "people"]
    if people.empty:
        text = "How closely people agree is unknown: no answer has two people's scores."
        return Finding(text, "ranking")
    row = people.iloc[0]
    return Finding(
        f"Two people rank answers alike with a correlation of {row['spearman']:.2f} on"
        f" {row['n']:,} pairs of scores of one answer.",
        "ranking",
    )


def _use_label(
    usable: pd.DataFrame, ranking: pd.DataFrame, alike: list[pd.Series], level: float
) -> Finding:
    if usable.empty:
        text = "Use none of these judges: none tells passes from fails better than chance would."
        return Finding(text, "ranking")
    best = usable.iloc[0]
    rate = (
        f"agrees with people on {percent(best['accuracy'])} of {best['n']:,} answers (kappa"
        f" {best['kappa']:.2f}, {_interval(best, level)})"
    )
    apart = ""
    if alike:
        apart = (
            f"{best['judge']} {rate}, and the kappa of {alike[0]['other']} differs by"
            f" {_apart(alike[0])}"
        )
    return recommendation(usable, ranking, alike, rate=rate, apart=apart, labels="labels")


def _rates(best: pd.Series, shares: pd.DataFrame) -> Finding:
    own = shares[shares["judge"] == best["judge"]].set_index("estimate")["value"]
    start = (
        f"Count its scores from {best['threshold']:g} on as a pass, a threshold chosen on one half"
        " of the questions and measured on the other: it"
        if best["levels"] > _BINARY
        else f"{best['judge']}"
    )
    text = (
        f"{start} passes {percent(best['true_positive'])} of what people pass and"
        f" {percent(best['false_positive'])} of what they fail"
    )
    alone, corrected = own["judge alone"], own["prediction-powered"]
    if abs(corrected - alone) >= 0.005:
        text += f", so correct its share of passes ({percent(alone)} becomes {percent(corrected)})"
    if best["no_verdict"]:
        text += f"; {_silence(best)}"
    return Finding(f"{text}.", "shares")


def _why_not_label(row: pd.Series) -> list[str]:
    if mostly_silent(row):
        return [_silence(row)]
    if row["levels"] <= 1:
        return ["gives every answer the same verdict"]
    if row["reversed"]:
        return ["passes what people fail: see whether its scale is reversed"]
    return [f"kappa {row['kappa']:.2f}"]


def _people_label(labels: pd.DataFrame) -> Finding:
    among = score_agreement(labels)
    if among.empty:
        text = "How often people agree is unknown: no answer has two people's labels."
        return Finding(text, "ranking")
    row = among.set_index("measure").loc["weighted kappa"]
    return Finding(
        f"Two people's labels agree with a kappa of {row['value']:.2f} on {row['n']:,} pairs of"
        " labels of one answer.",
        "ranking",
    )
