"""What moves a judge besides the answers: the order they are shown in, and being asked again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import pandas as pd

from lmjudge.errors import FrameError, OrderFlips
from lmjudge.frames import check
from lmjudge.stats.grouping import By, by_criterion, by_name, grouped, own_columns, totals
from lmjudge.stats.intervals import Cluster, by_question, cluster_names, estimate

PAIR = ["question_id", "turn", "model_a", "model_b", "judge", "sample"]
# A judge that says one of two sides at random in half of its verdicts flips a quarter of pairs.
MANY_FLIPS = 0.25


@by_criterion
def position_bias(
    games: pd.DataFrame,
    *,
    by: By = ("judge",),
    rule: Literal["mixed", "lean", "net"] = "mixed",
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """What becomes of pairs judged in both orders: a row per group of `by` and outcome.

    Outcomes: consistent (the same verdict in both orders), biased_first and biased_second (the
    answer shown first, or second, preferred both times), mixed (a side in one order and a tie in
    the other), error (a verdict is missing in either order). `rule` says where mixed pairs go:
    "mixed" keeps them apart, "lean" gives them to the position leant to (what the papers must have
    done, whose columns sum to n without them), "net" counts them as consistent, for that side.
    `by` may name any column of the frame (model_a and model_b: the pair, in the order of the
    names) and "category".

    Columns: those of `by`, outcome, pairs, share (of all pairs, errors among them, as in the
    papers), tie_rate (share of the readable games called a tie), too_few, n (pairs), low, high (of
    the share, clustered by question, or by `cluster`), no_verdict (pairs in which a verdict is
    missing: counted in n, as the outcome error). Raises FrameError where a pair was not shown once
    in each order. Source: arXiv 2306.05685, Table 2.
    """
    if rule not in ("mixed", "lean", "net"):
        raise ValueError(f"rule is {rule!r}; expected 'mixed', 'lean' or 'net'")
    pairs, outcomes = in_both_orders(games, rule, own_columns(games, by, questions, PAIR))
    names = ["question_id"] if cluster is None else cluster_names(games, cluster)
    for name in set(names) - set(pairs.columns):
        pairs[name] = pairs["question_id"].map(by_question(games, name))
    rows, columns = grouped(pairs, by, questions)
    readable = estimate(rows, columns, top=pairs["tie"], bottom=2 - pairs["missing"], level=level)
    made = []
    for outcome, fits in outcomes.items():
        part = estimate(rows, columns, top=fits, share=True, cluster=names, level=level)
        part["outcome"], part["tie_rate"] = outcome, readable["value"]
        part["pairs"] = (part["value"] * part["n"]).fillna(0).round().astype(int)
        made.append(part)
    whole = pd.concat(made)
    whole["no_verdict"] = made[-1]["pairs"].reindex(whole.index)
    ends = ["outcome", "pairs", "value", "tie_rate", "too_few", "n", "low", "high", "no_verdict"]
    whole = whole.sort_index(kind="stable").reset_index(drop=True)
    return whole[[*columns, *ends]].rename(columns={"value": "share"})


def in_both_orders(
    games: pd.DataFrame,
    rule: Literal["mixed", "lean", "net"] = "mixed",
    more: Sequence[str] = (),
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """A row per pair of answers shown in both orders, and which of them have each outcome.

    The pairs' columns: those that name a pair (sides in the order of the models' names), `more`, in
    how many of its two games the answer shown first, shown second, of model_a, of model_b won
    (first, second, won_a, won_b), in how many there was a tie, and no verdict (tie, missing).
    Raises FrameError where a pair was not shown once in each order.
    """
    key = [*PAIR, *more]
    shown = by_name(check(games, "games", more)[[*key, "winner"]])
    seen = shown[key].assign(
        # The verdict as shown: model_a stands first in its own game.
        first=games["winner"] == "model_a",
        second=games["winner"] == "model_b",
        won_a=shown["winner"] == "model_a",
        won_b=shown["winner"] == "model_b",
        tie=games["winner"] == "tie",
        missing=games["winner"].isna(),
        turned=shown["turned"],
        games=1,
    )
    pairs = seen.groupby(key, dropna=False, sort=True).sum().reset_index()
    odd = pairs[(pairs["games"] != 2) | (pairs["turned"] != 1)]
    if len(odd):
        raise FrameError(
            f"{len(odd)} pairs were not shown once in each order, such as"
            f" {odd['model_a'].iloc[0]} and {odd['model_b'].iloc[0]} on question"
            f" {odd['question_id'].iloc[0]} ({odd['games'].iloc[0]} games); judge both orders, and"
            " number repeats in `sample`",
            rows=odd,
        )
    first, second, tie = pairs["first"], pairs["second"], pairs["tie"]
    error = pairs["missing"] > 0
    outcomes = {
        "consistent": ((first == 1) & (second == 1)) | (tie == 2),
        "biased_first": first == 2,
        "biased_second": second == 2,
        "mixed": (tie == 1) & ~error,
        "error": error,
    }
    if rule == "lean":
        mixed = outcomes.pop("mixed")
        outcomes["biased_first"] |= mixed & (first == 1)
        outcomes["biased_second"] |= mixed & (second == 1)
    elif rule == "net":
        outcomes["consistent"] |= outcomes.pop("mixed")
    return pairs, outcomes


def flips_with_order(
    games: pd.DataFrame, *, by: By = ("judge",), level: float = 0.95
) -> pd.DataFrame:
    """How often the verdict on a pair changes with the order: a row per group of `by`.

    Columns: those of `by`, order_flips (pairs), share, too_few, n (pairs with a verdict in both
    orders), low, high (clustered by question), no_verdict. Raises FrameError where a pair was not
    shown once in each order.
    """
    pairs, outcomes = in_both_orders(games, more=own_columns(games, by, None, PAIR))
    rows, columns = grouped(pairs, by, None)
    flip = (~outcomes["consistent"]).astype(float).where(~outcomes["error"])
    made = estimate(rows, columns, top=flip, share=True, level=level)
    made["order_flips"] = (made["value"] * made["n"]).fillna(0).round().astype(int)
    ends = ["order_flips", "value", "too_few", "n", "low", "high", "no_verdict"]
    return made[[*columns, *ends]].rename(columns={"value": "share"})


def order_flips(votes: pd.DataFrame) -> pd.Series | None:
    """Whether the verdict on each pair changed with the order: 1, 0, or missing where unknown.

    None where no vote says so (see `resolve`). Warns OrderFlips of judges whose verdict changed in
    a quarter of their pairs or more.
    """
    if "order_flip" not in votes.columns or votes["order_flip"].isna().all():
        return None
    flip = votes["order_flip"].astype(object).map({True: 1.0, False: 0.0}).astype(float)
    by_judge = flip.groupby(votes["judge"], dropna=False, sort=True).agg(["sum", "count"])
    often = by_judge[by_judge["sum"] >= MANY_FLIPS * by_judge["count"].where(by_judge["count"] > 0)]
    if len(often):
        counts = [
            f"{judge} ({int(flips)} of {int(pairs)} pairs)"
            for judge, flips, pairs in often.itertuples()
        ]
        warnings.warn(
            OrderFlips(
                f"The verdict changes with the order of the answers: {', '.join(counts)}. Part"
                " of their ties and win rates is position, not quality.",
                judges=[str(judge) for judge in often.index],
            ),
            stacklevel=3,
        )
    return flip


@by_criterion
def repeatability(
    frame: pd.DataFrame,
    *,
    by: By = None,
    key: str = "key",
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """How often a judge who was asked the same again said something else.

    Takes games or scores that hold several rows of a judge under one request; `key` names the
    column that says which rows are of one request. `by` may name columns of the frame, "category",
    and "verdict": the verdict that the request's first row holds.

    Columns: those of `by`, requests, asked_again, different_text and other_verdict (requests asked
    again whose texts, or whose readable verdicts, are not all the same; different_text is missing
    where the frame holds no texts), share (other_verdict
    over n), too_few, n (requests asked again with two readable verdicts or more), low, high
    (clustered by question), no_verdict (requests asked again without two). Raises FrameError for
    rows without a key and for a frame that is neither.
    """
    verdict = "winner" if "winner" in frame.columns else "score"
    name = "games" if verdict == "winner" else "scores"
    frame = check(frame, name)
    if key not in frame.columns:
        raise FrameError(
            f"there is no column {key!r}; `key` names the one that says which rows are of one"
            f" request (found {', '.join(map(str, frame.columns))})",
            columns=[key],
        )
    if frame[key].isna().any():
        raise FrameError(
            f"{int(frame[key].isna().sum())} rows have no {key}, so nothing says what was asked;"
            " leave them out",
            rows=frame[frame[key].isna()],
        )
    rows, columns = grouped(frame.assign(verdict=frame[verdict]), by, questions)
    # One request under two judges' names was read by two parsers, not asked again.
    one = rows.groupby([key, "judge"], sort=False, dropna=False).ngroup().rename("request")
    requests = rows.groupby(one, sort=False)
    asked = rows.assign(request=one).drop_duplicates("request")
    key, asked = "request", asked[list(dict.fromkeys(["request", "question_id", *columns]))]
    again = asked[key].map(requests.size()) > 1
    readable = asked[key].map(requests["verdict"].count()) > 1
    changed = asked[key].map(requests["verdict"].nunique()) > 1
    asked = asked.assign(
        requests=1,
        asked_again=again,
        different_text=asked[key].map(requests["text"].nunique()) > 1,
        other_verdict=changed,
    )
    counted = ["requests", "asked_again", "different_text", "other_verdict"]
    made = estimate(
        asked, columns, top=changed.astype(float).where(readable), share=True, level=level
    )
    made[counted] = totals(asked, columns, counted)[counted].to_numpy()
    made["no_verdict"] = made["asked_again"] - made["n"]
    if frame["text"].isna().all() and frame[verdict].notna().any():
        made["different_text"] = float("nan")  # shipped rows hold no texts to compare
    ends = [*counted, "value", "too_few", "n", "low", "high", "no_verdict"]
    return made[[*columns, *ends]].rename(columns={"value": "share"})
