"""Choose a judge by people's votes: which judge agrees, which does not, and what would settle it.

Judges are ranked by their agreement with people, with ties kept. A judge is asked in both orders;
a pair whose verdict changes with the order counts as a tie, so it disagrees with every vote that
names a winner. Dropping ties instead flatters a judge that follows the order: its contradictions
vanish from the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from lmjudge.audit.calls import about_models, as_votes, drifts, versions
from lmjudge.audit.findings import (
    Choice,
    Finding,
    certainty,
    check_judges,
    mostly_silent,
    paired,
    percent,
    recommendation,
    rejection,
    rivals,
    signed,
    unmatched,
)
from lmjudge.audit.gold import choose_by_gold
from lmjudge.audit.grades import choose_grader
from lmjudge.errors import FrameError
from lmjudge.frames import check, never_meet
from lmjudge.stats import agreement, length_bias, position_bias
from lmjudge.stats.grouping import by_name
from lmjudge.stats.interrater import KEY
from lmjudge.stats.probabilities import NAMES, brier_scores, calibration, cascade
from lmjudge.store import Shelf

# From a quarter of the pairs upward, a verdict that changes with the order is warned of.
MANY_FLIPS = 0.25
_ENDS = ("difference", "low", "high")
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


def rank_judges(
    judgments: pd.DataFrame, votes: pd.DataFrame, *, level: float = 0.95
) -> pd.DataFrame:
    """Rank judges by their agreement with people: one row a judge, the best first, then people.

    `judgments` are games (both orders, or one) or votes of several judges. Of `votes` the rows of
    group `llm` are left out: what judges said is not what people said. Only keys (question, turn,
    pair of models) that people voted on count.

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
    judges and people share no key, showing ids of both, and where `votes` are all of judges.
    """
    votes, _ = _decided(check(of_people(votes), "votes"))
    people = by_name(votes)
    judged = by_name(check_judges(judgments)).groupby(KEY, dropna=False)["judge"].nunique()
    common = judged[judged == judgments["judge"].nunique()].index
    among = people[pd.MultiIndex.from_frame(people[KEY]).isin(common) & people["winner"].notna()]
    several = among[among.duplicated(KEY, keep=False)]
    rows = []
    for judge, part in judgments.groupby("judge", sort=True):
        part = on_keys(part, people)
        cast = as_votes(part, both_orders(part))
        met = agreement(cast, votes, level=level).iloc[0]
        repeated = agreement(on_keys(cast, several), several).iloc[0] if len(several) else None
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
    met = agreement(several, distinct=True, level=level).iloc[0] if len(several) else None
    if met is not None and met["n"]:
        row = met[["agreement", "too_few", "n", "low", "high", "no_verdict"]].to_dict()
        row |= {"judge": "people", "guessing": met["random_marginal"], "ties": met["tie_rate_x"]}
        row |= {"repeated": met["agreement"], "repeated_n": met["n"]}
        ranking = pd.concat([ranking, pd.DataFrame([row])])
    return ranking.reindex(columns=_RANKING).reset_index(drop=True)


def choose_judge(
    judgments: pd.DataFrame,
    votes: pd.DataFrame,
    *,
    gold: bool = False,
    answers: pd.DataFrame | None = None,
    prices: Mapping[str, float] | None = None,
    store: Shelf | None = None,
    level: float = 0.95,
) -> Choice:
    """Say which judge to use, which not and why, and what more certainty would take.

    | `judgments` | `votes` | judges are ranked by |
    |---|---|---|
    | games, best in both orders, or votes | people's votes | agreement, see `rank_judges` |
    | games | gold labels, with `gold=True` | pairs right in both orders, see `gold_accuracy` |
    | scores | people's scores | rank correlation, see `rank_graders` |
    | scores | people's scores of two values | kappa of pass and fail, see `pass_rates` |

    `prices` are dollars a call by judge; `answers` (texts, or counts of words) add the bias to
    length; the `store` of the judgments tells which model answered, and when. Games with a
    probability (`preference` or `probability`) get a calibration curve.

    A judge is usable if it is better than a guess, interval included. Two judges whose paired
    difference includes 0 cannot be told apart. Raises FrameError where judges and people share no
    key, and for scores that meet votes.
    """
    _check_names(check_judges(judgments), prices)
    graded = "model_a" not in judgments.columns
    if graded != ("model_a" not in votes.columns):
        kinds = ["scores" if of_scores else "pairs" for of_scores in (graded, not graded)]
        raise FrameError(
            f"the judges gave {kinds[0]} and people gave {kinds[1]}; give two files of one kind, or"
            " turn scores into votes with `scores_as_votes`",
            columns=list(votes.columns),
        )
    if graded:
        choice = choose_grader(judgments, votes, level=level)
    elif gold:
        choice = choose_by_gold(judgments, votes, level=level)
    else:
        choice = _by_votes(judgments, votes, answers, prices, level)
    models, changed = versions(judgments, store=store), drifts(judgments, level=level)
    tables = {**choice.tables, "versions": models}
    if len(changed):
        tables["drift"] = changed
    notes = (*choice.notes, *about_models(models, changed))
    return Choice(choice.findings, tables, notes)


def _by_votes(
    judgments: pd.DataFrame,
    votes: pd.DataFrame,
    answers: pd.DataFrame | None,
    prices: Mapping[str, float] | None,
    level: float,
) -> Choice:
    votes, notes = _decided(of_people(votes))
    ranking = rank_judges(judgments, votes, level=level)
    judges = ranking[ranking["judge"] != "people"].reset_index(drop=True)
    cast = _cast(judgments)
    compared = paired(cast, votes, level)
    judges["usable"] = ~mostly_silent(judges) & (judges["low"] > judges["guessing"])
    usable = judges[judges["usable"]]
    alike = rivals(usable, compared) if len(usable) else []
    findings = [_use(usable, judges, compared, alike, level)]
    if len(usable):
        findings.append(_order(usable.iloc[0]))
    findings += rejection(judges, usable, alike, _why_not)
    findings.append(_people(ranking, usable if len(usable) else judges, alike, level))
    labels, cost = "voted pairs" if alike else "votes", _cost(usable, prices)
    findings += certainty(usable, alike, labels, points=True, cost=cost, table="precision")
    tables = {"ranking": ranking, "compared": compared}
    turned = ranking["flips"].notna() & (ranking["judge"] != "people")
    if turned.any() and "group" not in judgments:
        games = judgments[judgments["judge"].isin(ranking.loc[turned, "judge"])]
        tables["position"] = position_bias(games, level=level)
    if answers is not None:
        tables["length"] = _length(cast, votes, answers, level)
    pairs, voted = by_name(judgments), by_name(votes)
    notes += [
        *unmatched(voted, pairs, KEY, "votes have no judgment of the same two answers"),
        *unmatched(pairs, voted, KEY, "judgments have no vote on the same two answers"),
    ]
    if votes["judge"].isna().any():
        text = "Not all votes name a person, so the intervals do not cover how other people vote."
        notes.append(Finding(text, "ranking"))
    asked_once = judges["flips"].isna()
    if asked_once.any() and not asked_once.all():
        text = (
            f"{', '.join(judges.loc[asked_once, 'judge'])} saw each pair in one order and others in"
            " both, so do not compare their agreement: one order cannot show whether a verdict"
            " follows the position."
        )
        notes.append(Finding(text, "ranking"))
    if any(judgments[name].notna().any() for name in NAMES if name in judgments):
        tables["calibration"] = calibration(judgments, votes, level=level)
        tables["brier"] = brier_scores(judgments, votes, level=level)
        notes += _calibrated(tables["brier"])
    if len(usable):
        tables["precision"] = precision(usable.iloc[0], prices)
    if len(usable) > 1:
        cheap, dear = _cheap_and_dear(usable, prices)
        tables["cascade"] = cascade(
            judgments, votes, cheap=cheap, dear=dear, prices=prices, level=level
        ).assign(cheap=cheap, dear=dear)
        notes += _better_together(tables["cascade"], usable.iloc[0])
    return Choice(tuple(findings), tables, tuple(notes))


def _check_names(judgments: pd.DataFrame, prices: Mapping[str, float] | None) -> None:
    judges = sorted(judgments["judge"].dropna().astype(str).unique())
    if "people" in judges:
        raise FrameError(
            "a judge is named people, which is the name of people's own row; rename the judge",
            rows=judgments,
        )
    unknown = sorted(set(prices or {}) - set(judges))
    if unknown:
        raise FrameError(
            f"there is a price for {', '.join(unknown)}, which is no judge here; the judges are"
            f" {', '.join(judges)}",
            rows=judgments,
        )


def precision(best: pd.Series, prices: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Return how wide a judge's interval of agreement would be with more voted pairs, and the cost.

    `best` is a row of `rank_judges`. Columns: comparisons (with a person's vote), half (half the
    interval, in points), dollars (of the judge's calls in both orders, from `prices`; people's
    votes are not counted).
    """
    half = 50 * (best["high"] - best["low"])
    per_pair = 2 * (prices or {}).get(str(best["judge"]), math.nan)
    rows = [
        (round(best["n"] * times), half / math.sqrt(times), best["n"] * times * per_pair)
        for times in (0.25, 0.5, 1, 2, 4, 8)
    ]
    return pd.DataFrame(rows, columns=["comparisons", "half", "dollars"])


def _cheap_and_dear(usable: pd.DataFrame, prices: Mapping[str, float] | None) -> tuple[str, str]:
    """Return the two judges of a cascade: the best, and the cheapest other or the next best."""
    best, *others = usable["judge"]
    known = {name: price for name, price in (prices or {}).items() if name in others}
    other = min(known, key=lambda name: known[name]) if known else others[0]
    if prices and prices.get(other, 0) > prices.get(best, math.inf):
        return best, other
    return other, best


def _length(
    cast: list[pd.DataFrame], votes: pd.DataFrame, answers: pd.DataFrame, level: float
) -> pd.DataFrame:
    """Return the bias to length of each judge, and of people in the row `people`."""
    every = pd.concat([*cast, votes.assign(judge="people")], ignore_index=True)
    known = every[["model_a", "model_b"]].isin(set(answers["model"])).all(axis=1)
    if not known.any():
        raise FrameError(
            f"the answers are of {', '.join(map(str, answers['model'].unique()[:5]))}, the"
            f" judgments about {', '.join(map(str, every['model_a'].unique()[:5]))}; give the"
            " answers that were judged",
            rows=answers,
        )
    return length_bias(every[known], answers, level=level)


def of_people(votes: pd.DataFrame) -> pd.DataFrame:
    """Return the votes of people; FrameError where all are of LLM judges."""
    if "group" not in votes:
        return votes
    people = votes[votes["group"] != "llm"]
    if len(votes) and people.empty:
        raise FrameError(
            f"all {len(votes):,} votes are of the group llm; give the votes of people", rows=votes
        )
    return people


def _decided(votes: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Return people's votes with a verdict, and a note that counts the others."""
    blank = votes["winner"].isna()
    if not blank.any():
        return votes, []
    if blank.all():
        raise FrameError(
            f"none of the {len(votes):,} votes has a verdict; check the column winner", rows=votes
        )
    text = f"{blank.sum():,} of {len(votes):,} votes have no verdict, so they are left out."
    return votes[~blank], [Finding(text, "ranking")]


def both_orders(part: pd.DataFrame) -> bool:
    """Return whether games show every pair once in each order; False where each was shown once."""
    if "group" in part:
        return False
    pairs = by_name(part).groupby([*KEY, "judge", "sample"], dropna=False)
    pair = pairs["turned"].agg(["size", "sum"])
    both = (pair["size"] == 2) & (pair["sum"] == 1)
    if both.all() or not both.any():
        return bool(both.all())
    samples = pair.index.get_level_values("sample")
    if both[samples == samples.min()].all():  # only repeats lack an order
        raise FrameError(
            f"{int((~both).sum())} judgments of {part['judge'].iloc[0]} repeat another in one order"
            " only; remove the repeats, or judge both orders again",
            rows=pair[~both].reset_index(),
        )
    raise FrameError(
        f"{int((~both).sum())} of {len(pair)} pairs of {part['judge'].iloc[0]} were not shown once"
        " in each order; judge the missing orders, or give the judge's single-order games alone",
        rows=pair[~both].reset_index(),
    )


def on_keys(rows: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """Return the rows (sides in the order of names) on some keys; FrameError where none is."""
    wanted = pd.MultiIndex.from_frame(by_name(keys)[KEY].drop_duplicates())
    met = pd.MultiIndex.from_frame(by_name(rows)[KEY]).isin(wanted)
    if not met.any() and len(rows):
        what = (
            f"The judge {rows['judge'].iloc[0]} and the votes share no question, turn and pair of"
            " models"
        )
        raise never_meet(what, rows, keys)
    return rows[met].reset_index(drop=True)


def _consistency(part: pd.DataFrame, cast: pd.DataFrame) -> dict[str, float]:
    """Return how far a judge's verdicts depend on the order: shares of its pairs."""
    named = cast["winner"].isin(["model_a", "model_b"]).mean()
    if "group" in part:  # votes: what was resolved says where the orders differed
        known = part["reason"].eq("inconsistent").any()
        flips = part["reason"].eq("inconsistent").mean() if known else math.nan
        return {"coverage": named, "flips": flips, "ties": (cast["winner"] == "tie").mean() - flips}
    if not both_orders(part):
        return {"coverage": math.nan, "flips": math.nan, "ties": (part["winner"] == "tie").mean()}
    share = position_bias(part, by=None).set_index("outcome")["share"]
    return {
        "coverage": named,
        "flips": share[["biased_first", "biased_second", "mixed"]].sum(),
        "first": share["biased_first"],
        "second": share["biased_second"],
        "ties": share["consistent"] - named,
    }


def _cast(judgments: pd.DataFrame) -> list[pd.DataFrame]:
    """Return each judge's verdicts as votes, an unresolved pair as a tie."""
    return [as_votes(part, both_orders(part)) for _, part in judgments.groupby("judge", sort=True)]


def _use(
    usable: pd.DataFrame,
    judges: pd.DataFrame,
    compared: pd.DataFrame,
    alike: list[pd.Series],
    level: float,
) -> Finding:
    if usable.empty:
        text = (
            "Use none of these judges: these votes do not show that any of them agrees with people"
            " more often than a guess with the same share of ties."
        )
        return Finding(text, "ranking")
    best, apart = usable.iloc[0], ""
    if alike:
        row = alike[0]
        if pd.notna(row["low"]):
            difference, low, high = (f"{100 * row[name]:+.1f}" for name in _ENDS)
            apart = f"counting every pair once, the difference to {row['other']} is {difference}"
            apart += f" points, {low} to {high}"
        elif row["difference"] == 0:
            apart = f"on {row['n']:,} pairs, {row['other']} agrees with people equally often"
        else:
            apart = f"{row['n']:,} pairs are too few to compare it with {row['other']}"
    others = judges.loc[(judges["judge"] != best["judge"]) & (judges["n"] > 0), "judge"]
    if len(others) and not alike:
        row = signed(compared, best["judge"], others.iloc[0])
        if row["low"] > 0:
            ahead, low, high = (f"{100 * row[name]:.1f}" for name in _ENDS)
            apart = f"{ahead} points more than {row['other']}, {low} to {high}"
    rate = _rate(best, level)
    return recommendation(usable, judges, alike, rate=rate, apart=apart, labels="votes")


def _rate(best: pd.Series, level: float) -> str:
    return (
        f"agrees with people in {percent(best['agreement'])} of {best['n']:,.0f} comparisons"
        f" ({100 * level:.0f} % interval {100 * best['low']:.1f} to {percent(best['high'])})"
    )


def _order(best: pd.Series) -> Finding:
    if math.isnan(best["flips"]):
        text = (
            f"Ask {best['judge']} in both orders first: it was asked in one, so its position bias"
            " is unknown."
        )
    else:
        text = (
            f"Ask {best['judge']} in both orders and count a changed verdict as a tie: the order"
            f" changes it in {percent(best['flips'])} of pairs, and it names a firm winner in"
            f" {percent(best['coverage'])}{_silence(best)}."
        )
    return Finding(text, "ranking")


def _why_not(row: pd.Series) -> list[str]:
    """Return what speaks against a judge: its agreement, and its habits."""
    reasons = [f"{percent(row['agreement'])} agreement"]
    if not row["n"]:
        reasons = ["it gave no verdict on a pair with votes"]
    elif mostly_silent(row):
        asked = row["n"] + row["no_verdict"]
        share = percent(row["no_verdict"] / asked)
        reasons = [f"no verdict in {share} of {asked:,} comparisons"]
    elif pd.isna(row["low"]):
        plural = "" if row["n"] == 1 else "s"
        reasons.append(f"{row['n']:,} comparison{plural}, too few to tell it from a guess")
    elif row["high"] < row["guessing"]:
        reaches = f"less than the {percent(row['guessing'])} of a guess"
        reasons.append(f"{reaches}: see whether its labels are swapped")
    elif not row["usable"]:
        reasons.append(f"a guess reaches {percent(row['guessing'])}")
    places = [place for place in ("first", "second") if row[place] >= MANY_FLIPS]
    for place in places:
        reasons.append(f"prefers the answer shown {place} in {percent(row[place])} of pairs")
    if not places and row["flips"] >= MANY_FLIPS:
        reasons.append(f"the order changes {percent(row['flips'])} of its verdicts")
    if row["ties"] >= 0.9:
        reasons.append(f"calls {percent(row['ties'])} of pairs a tie")
    return reasons


def _silence(best: pd.Series) -> str:
    if not best["no_verdict"]:
        return ""
    asked = best["n"] + best["no_verdict"]
    return f"; it gives no verdict in {percent(best['no_verdict'] / asked)} of comparisons"


def _people(
    ranking: pd.DataFrame, judges: pd.DataFrame, alike: list[pd.Series], level: float
) -> Finding:
    """Return what people reach among themselves; beside judges alike, what the best one reaches."""
    best = judges.iloc[0]
    people = ranking[ranking["judge"] == "people"]
    if people.empty:
        text = "How often people agree with each other is unknown: no pair has two people's votes."
    else:
        row = people.iloc[0]
        plural = "" if row["n"] == 1 else "s"
        text = (
            f"Two people agree in {percent(row['agreement'])} of {row['n']:,.0f}"
            f" comparison{plural} on pairs with several votes"
        )
        if pd.notna(best["repeated"]):
            text += f", and {best['judge']} and a person in {percent(best['repeated'])}"
        text += "."
    if alike:
        text = f"Counting every vote once, {best['judge']} {_rate(best, level)}. {text}"
    return Finding(text, "ranking")


def _cost(usable: pd.DataFrame, prices: Mapping[str, float] | None) -> str:
    """Return the end of a sentence: what a pair costs with the best judge, if that is known."""
    best = "".join(usable["judge"].head(1))
    if not prices or best not in prices:
        return ""
    return f"; a pair in both orders costs ${2 * prices[best]:.4f} with {best}"


def _better_together(table: pd.DataFrame, best: pd.Series) -> list[Finding]:
    """Return the sentence on a cascade that agrees with people more often than the best judge."""
    row = table.loc[table["agreement"].idxmax()]
    if not row["low"] > best["agreement"]:
        return []
    return [
        Finding(
            f"Asking {row['dear']} only where {row['cheap']} is unsure"
            f" ({percent(row['asked'])} of pairs) agrees with people in"
            f" {percent(row['agreement'])} ({percent(row['low'])} to {percent(row['high'])});"
            " confirm it on other votes.",
            "cascade",
        )
    ]


def _calibrated(brier: pd.DataFrame) -> list[Finding]:
    """Return a sentence for each judge on its probabilities."""
    return [
        Finding(
            f"The probabilities of {row['judge']} have a Brier score of {row['brier']:.3f}"
            f" ({row['low']:.3f} to {row['high']:.3f}), where always saying one half has"
            f" {row['guessing']:.3f}.",
            "brier",
        )
        for _, row in brier.iterrows()
    ]
