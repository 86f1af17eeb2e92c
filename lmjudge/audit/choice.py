"""Choosing a judge: which one agrees with people, which one does not, and what would settle it.

Judges are ranked by their agreement with people, with ties kept. A judge is asked in both orders;
a pair whose verdict changes with the order counts as a tie, so it disagrees with every vote that
names a winner. Dropping ties instead flatters a judge that follows the order: its contradictions
vanish from the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, resolve
from lmjudge.stats import agreement, compare_judges, position_bias
from lmjudge.stats.agreement import KEY
from lmjudge.stats.grouping import by_name
from lmjudge.stats.power import labels_needed

# From a quarter of the pairs upward, a verdict that changes with the order is warned of.
MANY_FLIPS = 0.25
_RANKING = [
    "judge",
    "agreement",
    "guessing",
    "coverage",
    "flips",
    "first",
    "second",
    "ties",
    "repeated",
    "repeated_n",
    "too_few",
    "n",
    "low",
    "high",
    "no_verdict",
]


@dataclass(frozen=True)
class Finding:
    """One sentence of the answer, and the name of the table that it rests on."""

    text: str
    table: str


@dataclass(frozen=True)
class Choice:
    """Which judge to use: sentences, and the tables that they rest on.

    `findings` are at most five. `ranking` is that of `rank_judges`, `compared` the paired
    differences of `compare_judges` with the labels that would settle each.
    """

    findings: tuple[Finding, ...]
    ranking: pd.DataFrame
    compared: pd.DataFrame

    def __str__(self) -> str:
        return "\n".join(finding.text for finding in self.findings)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(finding.text)}</li>" for finding in self.findings)
        return f"<ul>{items}</ul>"


def rank_judges(
    judgments: pd.DataFrame, votes: pd.DataFrame, *, level: float = 0.95
) -> pd.DataFrame:
    """Rank judges by their agreement with people: one row a judge, the best first, then people.

    `judgments` are games (both orders, or one) or votes of several judges; `votes` are people's.
    Only keys (question, turn, pair of models) that people voted on count.

    | column | unit | meaning |
    |---|---|---|
    | agreement | share | comparisons of the judge's verdict with a person's vote that agree |
    | guessing | share | what a guess with this judge's share of ties would reach |
    | coverage | share | pairs for which the judge names a winner that the order does not change |
    | flips | share | pairs whose verdict changes with the order; missing if one order was played |
    | first, second | share | pairs in which the answer shown first, or second, wins both times |
    | ties | share | pairs called a tie in both orders |
    | repeated, repeated_n | share, n | agreement on the keys with several people's votes |
    | n, low, high, no_verdict | | comparisons, interval of `agreement`, comparisons left out |

    The last row, `people`, compares people's votes with each other on the keys that have several
    and that every judge judged; it is left out where there is none. Raises FrameError where
    judges and people share no key, showing ids of both.
    """
    people = by_name(check(votes, "votes"))
    judged = by_name(judgments).groupby(KEY, dropna=False)["judge"].nunique()
    common = judged[judged == judgments["judge"].nunique()].index
    among = people[pd.MultiIndex.from_frame(people[KEY]).isin(common) & people["winner"].notna()]
    several = among[among.duplicated(KEY, keep=False)]
    rows = []
    for judge, part in judgments.groupby("judge", sort=True):
        part = _on(part, people)
        cast = _cast(part)
        met = agreement(cast, votes, level=level).iloc[0]
        repeated = agreement(_on(cast, several), several).iloc[0] if len(several) else None
        rows.append(
            {
                "judge": judge,
                **met[["agreement", "too_few", "n", "low", "high", "no_verdict"]],
                "guessing": met["random_marginal"],
                **_consistency(part, cast),
                "repeated": math.nan if repeated is None else repeated["agreement"],
                "repeated_n": 0 if repeated is None else repeated["n"],
            }
        )
    ranking = pd.DataFrame(rows).sort_values(["agreement", "judge"], ascending=[False, True])
    if len(several):
        met = agreement(several, level=level).iloc[0]
        row = met[["agreement", "too_few", "n", "low", "high", "no_verdict"]].to_dict()
        row |= {"judge": "people", "guessing": met["random_marginal"], "ties": met["tie_rate_x"]}
        row |= {"repeated": met["agreement"], "repeated_n": met["n"]}
        ranking = pd.concat([ranking, pd.DataFrame([row])])
    return ranking.reindex(columns=_RANKING).reset_index(drop=True)


def choose_judge(
    judgments: pd.DataFrame,
    votes: pd.DataFrame,
    *,
    prices: Mapping[str, float] | None = None,
    level: float = 0.95,
) -> Choice:
    """Say which judge to use, which not and why, and what more certainty would take.

    `judgments` are games in both orders (or votes) of one judge or several, `votes` people's.
    `prices` are dollars a call by judge. A judge is usable if its agreement with people is above
    what guessing with its share of ties would reach, interval included. Two judges whose paired
    difference includes 0 cannot be told apart. Raises FrameError as `rank_judges` does.
    """
    ranking = rank_judges(judgments, votes, level=level)
    judges = ranking[ranking["judge"] != "people"].reset_index(drop=True)
    compared = _compared(judgments, votes, list(judges["judge"]), level)
    useless = judges["low"].isna() | (judges["low"] <= judges["guessing"])
    usable = judges[~useless]
    rivals = _rivals(usable, compared) if len(usable) else []
    findings: list[Finding | None] = [_use(usable, judges, rivals, level)]
    if len(usable):
        findings.append(_order(usable.iloc[0]))
    rejected = pd.concat([judges[useless], usable.iloc[1:]])
    if len(rejected):
        findings.append(_reject(rejected, set(judges.loc[useless, "judge"]), usable, rivals))
    findings.append(_people(ranking, usable if len(usable) else judges))
    findings.append(_certainty(usable, rivals, prices))
    return Choice(tuple(found for found in findings if found), ranking, compared)


def _both_orders(part: pd.DataFrame) -> bool:
    """Whether games show every pair once in each order; False where each was shown once."""
    pairs = by_name(part).groupby([*KEY, "judge", "sample"], dropna=False)
    pair = pairs["turned"].agg(["size", "sum"])
    both = (pair["size"] == 2) & (pair["sum"] == 1)
    if both.all() or not both.any():
        return bool(both.all())
    raise FrameError(
        f"{int((~both).sum())} of {len(pair)} pairs of {part['judge'].iloc[0]} were not shown once"
        " in each order; judge the missing orders, or give the judge's single-order games alone",
        rows=pair[~both].reset_index(),
    )


def _cast(part: pd.DataFrame) -> pd.DataFrame:
    """Return the votes that one judge's games amount to; votes as they are."""
    return part if "group" in part else resolve(part, "tie" if _both_orders(part) else "given")


def _on(rows: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """The rows (sides in the order of names) on some keys; FrameError where none is."""
    wanted = pd.MultiIndex.from_frame(keys[KEY].drop_duplicates())
    met = pd.MultiIndex.from_frame(by_name(rows)[KEY]).isin(wanted)
    if not met.any() and len(rows):
        ours, theirs = (frame[KEY].iloc[0].tolist() for frame in (rows, keys))
        raise FrameError(
            f"the judge {rows['judge'].iloc[0]} and the votes share no question, turn and pair of"
            f" models. A verdict is on {ours}, a vote on {theirs}: write them alike",
            rows=rows,
        )
    return rows[met].reset_index(drop=True)


def _consistency(part: pd.DataFrame, cast: pd.DataFrame) -> dict[str, float]:
    """How far a judge's verdicts depend on the order: shares of its pairs."""
    named = cast["winner"].isin(["model_a", "model_b"]).mean()
    if "group" in part:  # votes: what was resolved says where the orders differed
        known = part["reason"].eq("inconsistent").any()
        flips = part["reason"].eq("inconsistent").mean() if known else math.nan
        return {"coverage": named, "flips": flips, "ties": (cast["winner"] == "tie").mean() - flips}
    if not _both_orders(part):
        return {"coverage": math.nan, "flips": math.nan, "ties": (part["winner"] == "tie").mean()}
    share = position_bias(part, by=None).set_index("outcome")["share"]
    return {
        "coverage": named,
        "flips": share[["biased_first", "biased_second", "mixed"]].sum(),
        "first": share["biased_first"],
        "second": share["biased_second"],
        "ties": share["consistent"] - named,
    }


def _compared(
    judgments: pd.DataFrame, votes: pd.DataFrame, order: list[str], level: float
) -> pd.DataFrame:
    """The paired difference of every two judges, and the labels that would settle it."""
    if len(order) < 2:
        return pd.DataFrame(columns=["judge_a", "judge_b", "difference", "low", "high", "n"])
    cast = [_cast(part) for _, part in judgments.groupby("judge", sort=True)]
    compared = compare_judges(pd.concat(cast, ignore_index=True), votes, level=level)
    needed = labels_needed(compared, level=level)[["judge_a", "judge_b", "needed", "more"]]
    return compared.merge(needed, on=["judge_a", "judge_b"])


def _difference(compared: pd.DataFrame, best: str, other: str) -> pd.Series:
    """The row that compares two judges, signed as best less other."""
    for a, b, sign in ((best, other, 1), (other, best, -1)):
        row = compared[(compared["judge_a"] == a) & (compared["judge_b"] == b)]
        if len(row):
            row = row.iloc[0].copy()
            low, high = sorted([sign * row["low"], sign * row["high"]])
            row["difference"], row["low"], row["high"] = sign * row["difference"], low, high
            return row
    raise FrameError(f"{best} and {other} were not compared", rows=compared)


def _rivals(usable: pd.DataFrame, compared: pd.DataFrame) -> list[pd.Series]:
    """The usable judges that these votes cannot tell from the best one."""
    rows = [_difference(compared, usable["judge"].iloc[0], name) for name in usable["judge"][1:]]
    return [row for row in rows if not row["low"] > 0]


def _other(row: pd.Series, best: str) -> str:
    return str(row["judge_b"] if row["judge_a"] == best else row["judge_a"])


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _use(
    usable: pd.DataFrame, judges: pd.DataFrame, rivals: list[pd.Series], level: float
) -> Finding:
    if usable.empty:
        text = (
            "Use none of these judges: none agrees with people more often than a guess with the"
            " same share of ties would."
        )
        return Finding(text, "ranking")
    best = usable.iloc[0]
    rate = (
        f"{best['judge']} agrees with people in {_percent(best['agreement'])} of {best['n']:,.0f}"
        f" comparisons ({100 * level:.0f} % interval {100 * best['low']:.1f} to"
        f" {_percent(best['high'])})"
    )
    if not rivals:
        more = ", more than any other judge here" if len(judges) > 1 else ""
        return Finding(
            f"Use {best['judge']}: {rate.replace(best['judge'], 'it', 1)}{more}.", "ranking"
        )
    names = " or ".join([best["judge"], *(_other(row, best["judge"]) for row in rivals)])
    row = rivals[0]
    text = (
        f"Use {names}: these votes cannot tell them apart. {rate}; the difference to"
        f" {_other(row, best['judge'])} is {100 * row['difference']:+.1f} points"
        f" ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})."
    )
    return Finding(text, "compared")


def _order(best: pd.Series) -> Finding:
    if math.isnan(best["flips"]):
        text = (
            f"Ask {best['judge']} in both orders first: it was asked in one, so its position bias"
            " is unknown."
        )
    else:
        text = (
            f"Ask {best['judge']} in both orders and count a changed verdict as a tie: the order"
            f" changes it in {_percent(best['flips'])} of pairs, and it names a firm winner in"
            f" {_percent(best['coverage'])}."
        )
    return Finding(text, "ranking")


def _reject(
    rejected: pd.DataFrame, useless: set[str], usable: pd.DataFrame, rivals: list[pd.Series]
) -> Finding | None:
    alike = {_other(row, usable["judge"].iloc[0]) for row in rivals}
    parts = []
    for _, row in rejected.iterrows():
        if row["judge"] in alike:
            continue
        reasons = [f"{_percent(row['agreement'])} agreement"]
        if row["judge"] in useless:
            reasons.append(f"a guess reaches {_percent(row['guessing'])}")
        places = [place for place in ("first", "second") if row[place] >= MANY_FLIPS]
        for place in places:
            share = _percent(row[place])
            reasons.append(f"prefers the answer shown {place} in {share} of pairs")
        if not places and row["flips"] >= MANY_FLIPS:
            reasons.append(f"the order changes {_percent(row['flips'])} of its verdicts")
        if row["ties"] >= 0.9:
            reasons.append(f"calls {_percent(row['ties'])} of pairs a tie")
        parts.append(f"{row['judge']} ({'; '.join(reasons)})")
    return Finding(f"Do not use {', '.join(parts)}.", "ranking") if parts else None


def _people(ranking: pd.DataFrame, judges: pd.DataFrame) -> Finding:
    people = ranking[ranking["judge"] == "people"]
    if people.empty:
        text = "How often people agree with each other is unknown: no pair has two people's votes."
        return Finding(text, "ranking")
    row, best = people.iloc[0], judges.iloc[0]
    text = (
        f"Two people agree in {_percent(row['agreement'])} of {row['n']:,.0f} comparisons on pairs"
        f" with several votes; on these pairs {best['judge']} and a person agree in"
        f" {_percent(best['repeated'])}."
    )
    return Finding(text, "ranking")


def _certainty(
    usable: pd.DataFrame, rivals: list[pd.Series], prices: Mapping[str, float] | None
) -> Finding | None:
    if usable.empty:
        return None
    best = usable.iloc[0]
    cost = ""
    if prices and best["judge"] in prices:
        dollars = 2 * prices[best["judge"]]
        cost = f" A pair in both orders costs ${dollars:.4f} with {best['judge']}."
    if not rivals:
        half = 50 * (best["high"] - best["low"])
        text = f"Four times the votes would halve the interval of ±{half:.1f} points.{cost}"
        return Finding(text, "ranking")
    other, more = _other(rivals[0], best["judge"]), rivals[0]["more"]
    if math.isnan(more) or more > 10_000:
        text = (
            f"To tell {best['judge']} from {other} would take more than 10,000 further voted pairs:"
            f" choose by price.{cost}"
        )
    else:
        text = (
            f"About {max(more, 1):,.0f} more voted pairs would tell {best['judge']} from {other},"
            f" if they truly differ by what was seen.{cost}"
        )
    return Finding(text, "compared")
