"""Biases of a judge: order, repetition, length, its own answers, and names."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError, OrderFlips
from lmjudge.frames import check, never_meet, same_ids
from lmjudge.stats.compare import paired
from lmjudge.stats.grouping import (
    By,
    by_criterion,
    by_group,
    by_name,
    check_choice,
    check_once,
    grouped,
    model_of,
    on_questions,
    own_columns,
    totals,
    worth_of,
)
from lmjudge.stats.interrater import KEY
from lmjudge.stats.intervals import (
    ENDS,
    Cluster,
    by_question,
    cluster_names,
    estimate,
    groups,
    holm,
    two_sided,
)
from lmjudge.stats.regression import clustered_logit, words_per_vote

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
    """Return what happens to pairs judged in both orders: a row per group of `by` and outcome.

    | outcome | the two verdicts |
    |---|---|
    | consistent | are the same |
    | biased_first, biased_second | prefer the answer shown first, or second, both times |
    | mixed | are a side in one order and a tie in the other |
    | error | are not both there |

    `rule` places mixed pairs: "mixed" keeps them apart, "net" counts them as consistent, and "lean"
    gives them to the position that they lean to. The papers must have used "lean", because their
    columns sum to n without mixed pairs. `by` can name any column of the frame ("model_a" and
    "model_b" are the pair, in the order of the names) and "category".

    Columns: those of `by`, outcome, pairs, share (of all pairs, errors included, as in the papers),
    tie_rate (share of ties among the readable games), too_few, n (pairs), low, high (of the share,
    clustered by question or by `cluster`), no_verdict (pairs with a missing verdict; they are in n
    as errors). Raises FrameError for a pair that was not shown once in each order. Source: arXiv
    2306.05685, Table 2.
    """
    check_choice("rule", rule, "mixed", "lean", "net")
    pairs, outcomes = in_both_orders(games, rule, own_columns(games, by, questions, PAIR))
    names = ["question_id"] if cluster is None else cluster_names(games, cluster)
    for name in set(names) - set(pairs.columns):
        pairs[name] = pairs["question_id"].map(by_question(games, name))
    rows, columns = grouped(pairs, by, questions)
    readable = estimate(rows, columns, top=pairs["tie"], bottom=2 - pairs["missing"], level=level)
    tables = []
    for outcome, fits in outcomes.items():
        part = estimate(
            rows, columns, top=fits, share=True, cluster=names, level=level, name="share"
        )
        part["outcome"], part["tie_rate"] = outcome, readable["value"]
        part["pairs"] = (part["share"] * part["n"]).fillna(0).round().astype(int)
        tables.append(part)
    shares = pd.concat(tables)
    shares["no_verdict"] = tables[-1]["pairs"].reindex(shares.index)
    shares = shares.sort_index(kind="stable").reset_index(drop=True)
    return shares[[*columns, "outcome", "pairs", "share", "tie_rate", *ENDS]]


def in_both_orders(
    games: pd.DataFrame,
    rule: Literal["mixed", "lean", "net"] = "mixed",
    more: Sequence[str] = (),
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Return a row per pair shown in both orders, and a mask of the pairs for each outcome.

    Columns: those that identify a pair (sides in the order of the models' names), `more`, and
    counts of the pair's two games: won by the answer shown first or second (first, second), won by
    model_a or model_b (won_a, won_b), tied (tie), and without a verdict (missing). Raises
    FrameError for a pair that was not shown once in each order.
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


def order_flips(votes: pd.DataFrame) -> pd.Series | None:
    """Return whether the order changed the verdict on each pair: 1, 0, or missing if unknown.

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
    """Return how often a judge that was asked the same again gave another verdict.

    The frame has games or scores with several rows of a judge for one request. `key` names the
    column that identifies the request. `by` can name columns of the frame, "category", and
    "verdict", which is the verdict of the request's first row.

    | column | meaning |
    |---|---|
    | requests | requests of the group |
    | asked_again | those with two rows or more |
    | different_text | asked again, with texts that differ; missing if the frame has no texts |
    | other_verdict | asked again, with readable verdicts that differ |
    | share | other_verdict divided by n |
    | n | requests asked again with two readable verdicts or more |
    | no_verdict | requests asked again without two |

    There are also too_few, low and high (clustered by question). Raises FrameError for rows without
    a key and for a frame that has neither games nor scores.
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
    request = rows.groupby([key, "judge"], sort=False, dropna=False).ngroup().rename("request")
    requests = rows.groupby(request, sort=False)
    asked = rows.assign(request=request).drop_duplicates("request")
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
    top = changed.astype(float).where(readable)
    table = estimate(asked, columns, top=top, share=True, level=level, name="share")
    table[counted] = totals(asked, columns, counted)[counted].to_numpy()
    table["no_verdict"] = table["asked_again"] - table["n"]
    if frame["text"].isna().all() and frame[verdict].notna().any():
        table["different_text"] = float("nan")  # shipped rows hold no texts to compare
    return table[[*columns, *counted, "share", *ENDS]]


@by_criterion
def attack_failures(
    games: pd.DataFrame,
    *,
    padded: Collection[str],
    by: By = ("judge",),
    rule: Literal["both", "either"] = "both",
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how often a judge prefers a padded answer to the answer that it was made from.

    `padded` names the models with padded answers. Each meets its original in both orders. A judge
    fails if it prefers the padded answer in "both" orders, or in "either" (`failed`); the paper
    prints counts of 23 without saying which it counted.

    Columns: those of `by`, failed, failed_once (preferred in one order only), failure_rate,
    tie_rate (of the readable games), too_few, n (pairs), low, high, no_verdict (pairs with a
    missing verdict; left out). Raises FrameError if not exactly one side is padded, or a pair was
    not shown in both orders. Source: arXiv 2306.05685, Table 3 (the repetitive-list attack).
    """
    check_choice("rule", rule, "both", "either")
    pairs, outcomes = in_both_orders(games, more=own_columns(games, by, questions, PAIR))
    a, b = pairs["model_a"].isin(padded), pairs["model_b"].isin(padded)
    odd = pairs[a == b]
    if len(odd):
        raise FrameError(
            f"{len(odd)} pairs have {'two padded answers' if a[odd.index[0]] else 'none padded'},"
            f" such as {odd['model_a'].iloc[0]} and {odd['model_b'].iloc[0]}; `padded` names the"
            " models whose answers are padded, and each meets its original",
            rows=odd,
        )
    wins = pairs["won_a"].where(a, pairs["won_b"])
    read = ~outcomes["error"]
    counted = pairs.assign(failed=(wins == 2) & read, failed_once=(wins == 1) & read)
    rows, columns = grouped(counted, by, questions)
    fails = wins >= (2 if rule == "both" else 1)
    top = (fails * 1.0).where(read)
    table = estimate(rows, columns, top=top, share=True, level=level, name="failure_rate")
    readable = estimate(rows, columns, top=pairs["tie"], bottom=2 - pairs["missing"], level=level)
    table["tie_rate"] = readable["value"]
    names = ["failed", "failed_once"]
    table[names] = totals(rows, columns, names)[names].to_numpy()
    return table[[*columns, *names, "failure_rate", "tie_rate", *ENDS]]


@by_criterion
def length_bias(
    votes: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    human: pd.DataFrame | None = None,
    by: By = ("judge",),
    ties: Literal["half", "drop"] = "half",
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the factor on the odds of winning when an answer is twice as long as the other.

    It comes from a logistic regression of the votes on the logarithm of the ratio of words, with a
    constant for each pair of models, which holds their quality equal. A factor of 1 means that
    length has no effect. With `human` votes, their preference on the same key is held equal too,
    and keys without one are left out. That removes the advantage that long answers really have, as
    far as votes show it. Pairs of models that one of them always won are left out, because they say
    nothing about length.

    | column | meaning |
    |---|---|
    | odds | the factor |
    | longer_wins | share of decided votes that the longer answer won, with nothing held equal |
    | tie_rate | share of ties |
    | too_few | fewer than 20 questions |
    | n | votes in the regression |
    | low, high | interval of the odds, clustered by question (CR2) |

    The columns of `by` come first, no_verdict last. odds, low and high are missing if the votes do
    not determine them. Raises FrameError for votes on answers that are not in `answers`.
    """
    check_choice("ties", ties, "half", "drop")
    rows = by_name(check(votes, "votes")).reset_index(drop=True)
    words = words_per_vote(rows, answers).clip(lower=1)
    rows = rows.drop(columns="human", errors="ignore").assign(
        words_a=words["words_a"],
        words_b=words["words_b"],
        ratio=np.log2(words["words_a"] / words["words_b"]),
        won=worth_of(rows["winner"]),
        two=rows["model_a"].astype(str) + " / " + rows["model_b"].astype(str),
    )
    held: list[str] = []
    if human is not None:
        rows, human_votes = same_ids(rows, by_name(check(human, "votes")))
        human_votes = human_votes.assign(human=worth_of(human_votes["winner"]) - 0.5)
        liked = human_votes.groupby(KEY, dropna=False)["human"].mean().reset_index()
        rows, held = rows.merge(liked, on=KEY, how="left"), ["human"]
    rows, columns = grouped(rows, by, questions)
    keys, number = groups(rows, columns)
    tables = []
    for place, part in rows.groupby(number):
        read = part[part["winner"].notna()]
        tie = read["winner"] == "tie"
        longer = read[~tie & (read["ratio"] != 0)]
        used = read[~tie] if ties == "drop" else read
        used = used[used[held].notna().all(axis=1)]
        rate = used.groupby("two")["won"].transform("mean")
        used = used[(rate > 0) & (rate < 1)]
        design = pd.get_dummies(used["two"], dtype=float).assign(**used[["ratio", *held]])
        fit = clustered_logit(design, used["won"], used["question_id"], level=level)
        effect = fit.loc["ratio"]
        tables.append(
            {
                **keys.loc[place],
                "odds": np.exp(effect["value"]),
                "longer_wins": ((longer["ratio"] > 0) == (longer["won"] == 1)).mean(),
                "tie_rate": tie.mean(),
                "too_few": effect["too_few"],
                "n": len(used),
                "low": np.exp(effect["low"]),
                "high": np.exp(effect["high"]),
                "no_verdict": len(part) - len(read),
            }
        )
    return pd.DataFrame(tables)


@by_group
def self_preference(
    votes: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    human: pd.DataFrame | None = None,
    own: Mapping[str, str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how much more often judges prefer their own answers than others prefer them.

    A judge's win rate for its own model (ties are half a win) is compared, key by key, with the
    mean win rate from judges that are other models ("judges") and from the `human` votes ("human").
    `own` maps each judge's name to its model; without it, a judge `gpt-4/pair` is the model
    `gpt-4`. With `by`, columns of the frame or "category" with `questions`, each group is compared
    alone. A judge that is only better or worse at judging also differs from the others, so read
    this beside `agreement`.

    Judges also differ in how much they like models that are nobody's own. The interval and p_sign
    are about these judges on other questions. p_value tests whether a judge leans to its own model
    more than judges lean to such other models. It is missing if no judge judged two models beside
    its own, because then nothing separates taste from self-preference.

    Columns: those of `by`, judge, model, against, own (win rate), other, difference, tie_rate (the
    judge's), other_tie_rate, too_few, n (keys that both voted on), low, high (of the difference,
    clustered by question), p_value, p_sign, p_holm, no_verdict (keys without a verdict of either).
    Raises FrameError for votes without a question_id, and if no judge's own model was voted on.
    Source: arXiv 2306.05685, section 3.3 and Figure 3.
    """
    rows = by_name(on_questions(check(votes, "votes")))
    taking = set(rows["model_a"]) | set(rows["model_b"])
    named = {judge: model_of(judge, taking) for judge in rows["judge"].unique()}
    is_model = {**named, **(own or {})}
    model = rows["judge"].map(is_model)
    people = None
    if human is not None:
        rows, people = same_ids(rows, by_name(check(human, "votes")))
    groups = {"judges": rows.assign(as_model=model)}
    if people is not None:
        groups["human"] = people.assign(as_model=None)
    tables = []
    for judge in sorted(set(rows["judge"][model.isin(taking)]), key=str):
        me = is_model[judge]
        mine = _of_own(rows[rows["judge"] == judge], me)
        for against, theirs in groups.items():
            others = _of_own(theirs[theirs["as_model"] != me], me)
            both = mine.merge(others, on=KEY, suffixes=("", "_other"))
            if both.empty:
                continue
            both["difference"] = both["worth"] - both["worth_other"]
            both = both.assign(judge=judge, model=me, against=against)
            known = both[both["difference"].notna()]
            tables.append(
                both.assign(
                    own=known["worth"].mean(),
                    other=known["worth_other"].mean(),
                    tie_rate=known["tie"].mean(),
                    other_tie_rate=known["tie_other"].mean(),
                )
            )
    if not tables:
        raise FrameError(
            f"no judge's own answers were voted on by it and by others; judges are the models"
            f" {sorted(set(is_model.values()))}, models here {sorted(taking)}: say in `own` which"
            " model each judge is",
            rows=votes,
        )
    firsts = ["judge", "model", "against", "own", "other"]
    ties = ["tie_rate", "other_tie_rate"]
    differences = paired(pd.concat(tables, ignore_index=True), [*firsts, *ties], level)
    for against, theirs in groups.items():
        here = differences["against"] == against
        error, dof = _taste(rows.assign(as_model=model.to_numpy()), theirs, is_model, against)
        differences.loc[here, "p_value"] = two_sided(
            differences.loc[here, "difference"].to_numpy(), np.full(here.sum(), error), dof
        )
    differences["p_holm"] = holm(differences["p_value"])
    ends = ["too_few", "n", "low", "high", "p_value", "p_sign", "p_holm", "no_verdict"]
    return differences[[*firsts, "difference", *ties, *ends]]


@by_group
def name_bias(
    games: pd.DataFrame,
    renamed: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return what changes if the assistants get other names: a row per judge model and outcome.

    `games` and `renamed` have the same pairs, judged in both orders under two prompts with
    different names for the assistants. Judges are matched by their model (`model/prompt`). Outcomes
    are those of `position_bias`; `by` and `questions` are as in `self_preference`.

    Columns: those of `by`, judge, outcome, share, share_renamed, difference (renamed less default),
    tie_rate, tie_rate_renamed (of the readable games), too_few, n (pairs in both), low, high (of
    the difference, clustered by question), p_value, p_sign, p_holm, no_verdict (pairs with a
    missing verdict under either prompt; they are in n as errors). Source: arXiv 2306.05685, Table 2
    ("default" and "rename").
    """
    sides = []
    for shown in same_ids(check(games, "games"), check(renamed, "games")):
        pairs, outcomes = in_both_orders(shown)
        names = pairs["judge"].map(model_of)
        sides.append(pairs.assign(judge=names, **{f"is_{k}": v for k, v in outcomes.items()}))
    for side in sides:
        prompts = "rows are of several prompts of one judge model in one frame; give one in each"
        check_once(side, PAIR, prompts)
    both = sides[0].merge(sides[1], on=PAIR, suffixes=("", "_renamed"))
    if both.empty and len(sides[0]):
        raise never_meet("No pair of one judge model stands in both frames", games, renamed)
    both["error"] = (both["missing"] + both["missing_renamed"]) > 0
    tables = []
    for outcome in ("consistent", "biased_first", "biased_second", "mixed", "error"):
        one, two = both[f"is_{outcome}"] * 1.0, both[f"is_{outcome}_renamed"] * 1.0
        tables.append(
            both.assign(outcome=outcome, share=one, share_renamed=two, difference=two - one)
        )
    rows = pd.concat(tables, ignore_index=True)
    keys = ["judge", "outcome"]
    differences = paired(rows, keys, level).drop(columns="no_verdict")
    sums = rows.groupby(keys)[["tie", "tie_renamed", "missing", "missing_renamed"]].sum()
    games = 2 * rows.groupby(keys).size()
    more = rows.groupby(keys)[["share", "share_renamed"]].mean()
    more["tie_rate"] = sums["tie"] / (games - sums["missing"])
    more["tie_rate_renamed"] = sums["tie_renamed"] / (games - sums["missing_renamed"])
    more["no_verdict"] = rows.groupby(keys)["error"].sum()
    differences = differences.merge(more.reset_index(), on=keys)
    shares = ["share", "share_renamed", "difference", "tie_rate", "tie_rate_renamed"]
    ends = ["too_few", "n", "low", "high", "p_value", "p_sign", "p_holm", "no_verdict"]
    return differences[[*keys, *shares, *ends]]


def _taste(
    rows: pd.DataFrame, theirs: pd.DataFrame, is_model: Mapping[str, str], against: str
) -> tuple[float, float]:
    """Return how far judges lean to models that are not their own, and the degrees of freedom.

    A judge's leaning to a model is its mean vote on the keys on which its own model takes no part.
    The spread of these leanings, noise of the questions included, is the standard error of one. The
    leanings of a judge to M models sum to about 0, so they count as M - 1.
    """
    mine, said = (
        part.assign(worth=worth_of(part["winner"]))
        .groupby([*KEY, "judge"], dropna=False)["worth"]
        .agg(["sum", "count"])
        for part in (rows, theirs)
    )
    others = said.groupby(level=KEY, dropna=False).sum().reindex(mine.index.droplevel("judge"))
    others = others.set_axis(mine.index) - said.reindex(mine.index, fill_value=0)
    gap = mine["sum"] / mine["count"] - others["sum"] / others["count"]
    leant = gap.rename("gap").reset_index()
    me = leant["judge"].map(is_model)
    leant = leant[(leant["model_a"] != me) & (leant["model_b"] != me) & leant["gap"].notna()]
    sides = [leant.assign(model=leant["model_a"]), leant.assign(model=leant["model_b"])]
    sides[1]["gap"] *= -1
    leanings = pd.concat(sides).groupby(["judge", "model"])["gap"].mean()
    by_judge = leanings.pow(2).groupby(level="judge").agg(["sum", "size"])
    by_judge = by_judge[by_judge["size"] > 1]
    size = by_judge["size"]
    squares = float((by_judge["sum"] * ((size - 1) / size) ** 2).sum())
    dof, judges = float((size - 1).sum()), rows["judge"].unique()
    if not dof:
        return np.nan, np.nan
    usual = float(size.mean())
    # Of J judges each is compared with the others' mean: together they are worth J - 1.
    worth = dof if against == "human" else dof * (len(judges) - 1) / len(judges)
    return float(np.sqrt(squares / dof * (usual + 1) / usual)), max(worth, 1.0)


def _of_own(votes: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the mean vote for the model on each key on which it takes part."""
    rows = votes[(votes["model_a"] == model) | (votes["model_b"] == model)]
    worth = worth_of(rows["winner"])
    worth = worth.where(rows["model_a"] == model, 1 - worth)
    tie = (rows["winner"] == "tie").where(rows["winner"].notna())
    rows = rows[KEY].assign(worth=worth, tie=tie.astype(float))
    return rows.groupby(KEY, dropna=False)[["worth", "tie"]].mean().reset_index()
