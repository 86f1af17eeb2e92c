"""Win rates and shares of outcomes from votes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import WINNERS, check, in_order
from lmjudge.stats.bias import order_flips
from lmjudge.stats.grouping import (
    By,
    by_group,
    by_name,
    check_choice,
    check_columns,
    from_both_sides,
    grouped,
    totals,
    two_models,
    worth_of,
)
from lmjudge.stats.intervals import (
    ENDS,
    Cluster,
    check_level,
    cluster_names,
    estimate,
    noted,
    wilson,
)
from lmjudge.stats.regression import clustered_logit, words_per_vote


def win_rates(
    votes: pd.DataFrame,
    *,
    baseline: str | None = None,
    by: By = None,
    ties: Literal["half", "drop", "keep"] = "half",
    pool: Literal["votes", "opponents"] = "votes",
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's win rate over all its votes, or only over those against the baseline.

    - `ties`: "half" counts a tie as half a win (FastChat's win_rate_adjusted), "keep" as a vote
      without a win (its win_rate), and "drop" not at all.
    - `pool`: "votes" pools all votes, so opponents weigh by how often they were met. "opponents"
      takes the mean over opponents of the win rate against each (the papers' average win rate).
    - `cluster` names one column that votes are clustered by, or two that cross. The default is the
      question, crossed with the voters where people are named and vote on several questions. Where
      they are unnamed, intervals do not cover other voters, and `attrs["not_covered"]` says so.

    Columns: those of `by`, model, wins, ties, losses, win_rate, too_few (fewer than 20 questions,
    or than five effective votes on the rarer side), n (votes counted), low, high, no_verdict. Votes
    from games in both orders (see `resolve`) add order_flips, the pairs whose verdict changed with
    the order. The baseline has no row.

    Warns OrderFlips of judges whose verdict changed in a quarter of their pairs or more, because
    part of their ties and win rates is position, not quality. Raises FrameError for a baseline that
    never played, a model that meets itself, or a frame, `by` or `cluster` that does not fit.
    Source: FastChat's show_result.py; arXiv 2306.05685, section 4.3 and Table 7.
    """
    check_choice("ties", ties, "half", "drop", "keep")
    check_choice("pool", pool, "votes", "opponents")
    rows, columns = grouped(two_models(check(votes, "votes", by)), by, questions)
    flip = order_flips(rows)
    counted = ["wins", "ties", "losses", *(["order_flips"] if flip is not None else [])]
    rows = from_both_sides(rows.assign(order_flips=flip), baseline)
    columns = [*columns, "model"]
    tie = rows["winner"] == "tie"
    rows = rows.assign(
        wins=rows["winner"] == "model_a", ties=tie, losses=rows["winner"] == "model_b"
    )
    worth = rows["wins"] + (0.5 if ties == "half" else 0.0) * tie
    worth = worth.where(rows["winner"].notna() & ~(tie & (ties == "drop")))
    counts = totals(rows, columns, counted)[counted].astype(int)
    weighed = {"top": worth}
    if pool == "opponents":
        weighed = _even_opponents(rows.assign(worth=worth), columns)
    names = cluster_names(rows, cluster, by=columns)
    table = estimate(
        rows, columns, **weighed, share=True, cluster=names, level=level, name="win_rate"
    )
    table[counted] = counts.to_numpy()
    if ties == "drop":
        table["no_verdict"] -= table["ties"]
    return noted(table[[*columns, *counted, "win_rate", *ENDS]], votes)


def win_rate_bounds(
    votes: pd.DataFrame,
    *,
    baseline: str | None = None,
    by: By = None,
    ties: Literal["half", "drop", "keep"] = "half",
) -> pd.DataFrame:
    """Return each model's win rate with its missing verdicts lost, left out, and won.

    Win rates leave missing verdicts out, as if they were missing at random; but failures are more
    frequent for long or odd answers. Arguments are as in `win_rates`. Columns: those of `by`,
    model, worst (every missing verdict a loss), win_rate (as observed), best (every one a win), n,
    no_verdict. These are bounds for the votes at hand, not intervals. Raises FrameError as
    `win_rates` does. Source: Manski 2003, Partial Identification of Probability Distributions,
    chapter 1.

    >>> votes = pd.DataFrame({"question_id": range(4), "turn": 1, "model_a": "x", "model_b": "y",
    ...     "judge": "j", "group": "llm", "reason": None, "time": 0.0,
    ...     "winner": ["model_a", "model_a", "model_b", None]})
    >>> win_rate_bounds(votes)[["model", "worst", "win_rate", "best"]].round(2).values.tolist()
    [['x', 0.5, 0.67, 0.75], ['y', 0.25, 0.33, 0.5]]
    """
    observed = win_rates(votes, baseline=baseline, by=by, ties=ties)
    names = [*observed.columns[: list(observed.columns).index("model") + 1]]
    sum_of_wins = observed["win_rate"].fillna(0) * observed["n"]
    total = (observed["n"] + observed["no_verdict"]).where(lambda n: n > 0)
    return observed[names].assign(
        worst=sum_of_wins / total,
        win_rate=observed["win_rate"],
        best=(sum_of_wins + observed["no_verdict"]) / total,
        n=observed["n"],
        no_verdict=observed["no_verdict"],
    )


def vote_shares(
    votes: pd.DataFrame,
    *,
    by: By = None,
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the shares of votes on each pair of models: for each model, and for a tie.

    The two models are in the order of their names, from whichever side they were shown. Columns:
    those of `by`, model_a, model_b, outcome (model_a, model_b, tie), count, share, too_few, n
    (votes with a verdict), low, high, no_verdict. `cluster` is as in `win_rates`. Raises FrameError
    for a frame, `by` or `cluster` that does not fit. Source: arXiv 2304.03277, Figure 3.

    >>> votes = pd.DataFrame({"question_id": [1, 2, 3], "turn": 1, "model_a": ["y", "x", "x"],
    ...     "model_b": ["x", "y", "y"], "judge": "j", "group": "crowd", "reason": None, "time": 0.0,
    ...     "winner": ["model_a", "tie", "model_b"]})
    >>> vote_shares(votes)["count"].tolist()
    [0, 2, 1]
    """
    rows, columns = grouped(check(votes, "votes", by), by, questions)
    rows = by_name(rows)
    columns = list(dict.fromkeys([*columns, "model_a", "model_b"]))
    names = cluster_names(rows, cluster, by=columns)
    parts = []
    for outcome in WINNERS:
        top = (rows["winner"] == outcome).astype(float).where(rows["winner"].notna())
        part = estimate(
            rows, columns, top=top, share=True, cluster=names, level=level, name="share"
        )
        parts.append(part.assign(outcome=outcome))
    table = in_order(pd.concat(parts, ignore_index=True), columns).reset_index(drop=True)
    table["count"] = (table["share"] * table["n"]).round().astype("Int64")
    return noted(table[[*columns, "outcome", "count", "share", *ENDS]], votes)


def _even_opponents(rows: pd.DataFrame, columns: list[str]) -> dict[str, pd.Series]:
    """Return top, bottom and squares for `estimate`, so that each opponent weighs the same."""
    known = rows[rows["worth"].notna()]
    keys = [known[name] for name in columns]
    per_model = known.groupby(columns, dropna=False)
    against = known.groupby([*columns, "model_b"], dropna=False)["worth"]
    rate, met = against.transform("mean"), against.transform("size")
    opponents = per_model["model_b"].transform("nunique")
    bottom = per_model["worth"].transform("size") / (opponents * met)
    total = (rate * bottom).groupby(keys, dropna=False).transform("sum")
    total = total / bottom.groupby(keys, dropna=False).transform("sum")
    # Each opponent's own rate is what its votes vary about: the opponents met are not a sample.
    pull = bottom * (known["worth"] - rate)
    sums = {
        "top": pull + bottom * total,
        "bottom": bottom,
        "squares": pull**2 + bottom * total**2,
    }
    return {name: part.reindex(rows.index) for name, part in sums.items()}


def weighted_win_rates(
    votes: pd.DataFrame,
    *,
    baseline: str | None = None,
    by: By = None,
    cluster: Cluster = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return win rates in which verdicts count by how sure or how strong they are.

    | frame | column | a verdict counts |
    | --- | --- | --- |
    | votes of AlpacaEval | `preference`, 1 (the first) to 2 (the second), 0 a tie | by its share |
    | games after `weigh` | `preference`, 0 to 1 (model_a) | by its share |
    | games with five labels | `label` or `verdict`, such as A>>B | `A>>B` as three wins |

    Columns: those of `by`, model, win_rate, discrete (every verdict counts once, a tie half),
    standard_error (of win_rate, clustered by question; of one vote a question it is AlpacaEval's),
    too_few, n, low, high, no_verdict (rows without a verdict or a weight: left out). Raises
    FrameError for a frame without these columns, and for a baseline that never played. Source:
    AlpacaEval's `weighted_alpaca_eval_gpt4_turbo`; Arena-Hard-Auto's `show_result.py`.
    """
    kind = "votes" if "group" in votes.columns else "games"
    rows = two_models(check(votes, kind, by))
    strength = next((name for name in ("label", "verdict") if name in rows.columns), None)
    if "preference" in rows.columns:
        preference = rows["preference"].astype(float)
        worth = (2 - preference.where(preference > 0, 1.5)) if kind == "votes" else preference
        weight = pd.Series(1.0, rows.index)
    elif strength is not None:
        worth = worth_of(rows["winner"])
        strong = rows[strength].astype(str).str.contains(">>|<<")
        weight = pd.Series(np.where(strong, 3.0, 1.0), rows.index)
    else:
        raise FrameError(
            "the verdicts have no weights: no column preference, label or verdict; weigh the games"
            " with lj.weigh, judge with the prompt 'pair-five', or take lj.win_rates",
            columns=["preference", "label"],
        )
    rows = rows.assign(worth_a=worth, worth_b=1 - worth, weight=weight)
    rows, columns = grouped(from_both_sides(rows, baseline), by, None)
    columns = [*columns, "model"]
    names = cluster_names(rows, cluster, by=columns)
    top, bottom = rows["worth_a"] * rows["weight"], rows["weight"]
    table = estimate(
        rows, columns, top=top, bottom=bottom, cluster=names, level=level, name="win_rate"
    )
    plain = estimate(rows, columns, top=worth_of(rows["winner"]), cluster=names, level=level)
    table = table.assign(discrete=plain["value"], standard_error=table["error"])
    return table[[*columns, "win_rate", "discrete", "standard_error", *ENDS]]


@by_group
def equal_length_win_rates(
    votes: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    baseline: str,
    by: By = None,
    questions: pd.DataFrame | None = None,
    ties: Literal["half", "drop"] = "half",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's win rate against the baseline, predicted for answers of equal length.

    For each model a logistic regression predicts the vote from tanh of the difference in words,
    divided by its standard deviation over the model's votes. The win rate is the prediction at a
    difference of zero. `answers` is an answers frame of one sample, whose words at the vote's turn
    are counted. With `by`, columns of the frame or "category" with `questions`, each group has its
    own regression.

    This is not AlpacaEval's length-controlled win rate (LC), and its values differ much. It counts
    words, LC counts characters; and it has no difficulty of each instruction, no baselines that
    game the length, and no penalty chosen by cross-validation (Dubois et al., arXiv 2404.04475).

    | column | unit | meaning |
    |---|---|---|
    | win_rate | share | not controlled |
    | controlled, low, high | share | at equal length, clustered by question (CR2) |
    | length_effect | log odds | from equal length to an answer that is much longer |
    | words, words_baseline | words | mean per vote |
    | tie_rate | share | ties |
    | too_few | | fewer than 20 questions |

    The columns of `by` and model come first, n (votes) and no_verdict are as elsewhere. controlled,
    low and high are missing if the votes do not determine them: all one way, fewer than two
    questions, or separated by length. Raises FrameError for answers that are missing and a baseline
    that never played.
    """
    check_choice("ties", ties, "half", "drop")
    from scipy.special import expit

    rows = from_both_sides(two_models(check(votes, "votes")), baseline)
    words = words_per_vote(rows.rename(columns={"model": "model_a"}), answers)
    rows = rows.assign(**{side: words[side] for side in words})
    tables = []
    for model, mine in rows.groupby("model", sort=True):
        read = mine[mine["winner"].notna()]
        tie = read["winner"] == "tie"
        used = read[~tie] if ties == "drop" else read
        won = worth_of(used["winner"])
        gap = used["words_a"] - used["words_b"]
        spread = gap.std(ddof=0)
        design = pd.DataFrame({"even": 1.0}, index=used.index)
        if spread > 0:
            design["longer"] = np.tanh(gap / spread)
        fit = clustered_logit(design, won, used["question_id"], level=level)
        fit.loc[fit["error"].isna(), ["value", "low", "high"]] = np.nan  # one question says nothing
        logit = fit.loc["even"]
        tables.append(
            {
                "model": model,
                "win_rate": won.mean(),
                "controlled": expit(logit["value"]),
                "length_effect": fit["value"].get("longer", np.nan),
                "words": used["words_a"].mean(),
                "words_baseline": used["words_b"].mean(),
                "tie_rate": tie.mean(),
                "too_few": logit["too_few"],
                "n": len(used),
                "low": expit(logit["low"]),
                "high": expit(logit["high"]),
                "no_verdict": len(mine) - len(read),
            }
        )
    return pd.DataFrame(tables)


def shares(
    counts: pd.DataFrame, *, count: str = "count", n: str = "n", level: float = 0.95
) -> pd.DataFrame:
    """Return the frame with each count's share of its n, as columns share, n, low, high.

    Shares and intervals are fractions. The intervals are Wilson's (1927), as if all n had been
    drawn independently. A count says nothing of its clusters, so the true uncertainty is at least
    that. A missing count or n, or an n of zero, gives missing values. Raises FrameError for missing
    columns, and for counts that are negative, above their n, or not whole.

    >>> shares(pd.DataFrame({"count": [14], "n": [20]})).round(3)[["share", "low", "high"]]
       share    low   high
    0    0.7  0.481  0.855
    """
    there = list(counts.columns)
    check_columns(there, (count, n), "the table", "name the columns by `count` and `n`")
    check_level(level)
    top, of = (counts[name].to_numpy(float, na_value=np.nan) for name in (count, n))
    known = np.isfinite(top) & np.isfinite(of)
    valid = (top >= 0) & (top <= of) & (top == np.floor(top)) & (of == np.floor(of))
    if not valid[known].all():
        bad = counts[known & ~valid]
        raise FrameError(
            f"{len(bad)} rows have a count that is no whole number from 0 to its n, such as"
            f" {bad[count].iloc[0]} of {bad[n].iloc[0]}; give counts, not percentages",
            rows=bad,
        )
    known &= of > 0
    top, of = np.where(known, top, np.nan), np.where(known, of, np.nan)
    low, high = wilson(top, of, level=level)
    # The formula leaves rounding where the interval ends at 0 or 1.
    low[known & (top == 0)], high[known & (top == of)] = 0.0, 1.0
    rest = counts.drop(columns=[n])
    return rest.assign(share=top / of, n=counts[n], low=low, high=high)
