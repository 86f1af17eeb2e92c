"""Combine several voters: their majority, the ceiling that they set, and scores as votes."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from lmjudge.frames import COLUMNS, WINNERS, check, in_order
from lmjudge.stats.compare import REPEATED_SCORES, SCORED
from lmjudge.stats.grouping import (
    By,
    by_criterion,
    by_group,
    by_name,
    check_choice,
    check_once,
    grouped,
    how_many,
    on_questions,
    own_columns,
    totals,
)
from lmjudge.stats.interrater import KEY, clusters_of_pairs, comparisons, label_counts
from lmjudge.stats.intervals import ENDS, Cluster, by_question, estimate, noted, people_of, ways


@by_group
def majority(
    votes: pd.DataFrame,
    *,
    by: By = None,
    questions: pd.DataFrame | None = None,
    rule: Literal["tie", "strict", "half"] = "tie",
    judge: str = "majority",
) -> pd.DataFrame:
    """Return the votes of the majority: a votes frame with what most voters said on each key.

    A key is a question, turn and unordered pair of models. Votes without a verdict do not count.
    `rule` decides an even split among the most frequent verdicts:

    - "tie": the split is a tie.
    - "strict": a verdict needs more than half of the votes; otherwise there is none, with the
      reason `no_majority`.
    - "half": one vote for each verdict that shares the lead, so a judge that agrees with one of two
      agrees by half (arXiv 2306.05685, appendix D.3). Use `agreement(..., pool="keys")` with it, so
      that every key weighs the same.

    A key without any verdict has none, with the reason `no_verdict`. Sides are in the order of the
    models' names. With `by`, columns of the frame or "category" with `questions`, each group has
    its own majority. Raises FrameError for votes without a question_id.

    >>> from lmjudge.frames import frame
    >>> said = frame("votes", [
    ...     {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "judge": judge,
    ...      "group": "expert", "winner": winner, "reason": None, "time": None}
    ...     for judge, winner in [("x", "model_a"), ("y", "model_b")]])
    >>> [majority(said, rule=rule)["winner"].tolist() for rule in ("tie", "half")]
    [['tie'], ['model_a', 'model_b']]
    """
    check_choice("rule", rule, "tie", "strict", "half")
    counts = label_counts(check(votes, "votes"), WINNERS, KEY)
    most, total = counts.max(axis=1), counts.sum(axis=1)
    leads = counts.eq(most, axis=0) & (total > 0).to_numpy()[:, None]
    if rule == "strict":
        leads &= (2 * most > total).to_numpy()[:, None]
    elif rule == "tie":
        split = leads.sum(axis=1) > 1
        leads[split] = [winner == "tie" for winner in WINNERS]
    long = leads.stack()
    votes_of_most = long[long].index.to_frame(index=False, name=[*KEY, "winner"])
    none = leads[~leads.any(axis=1)].index.to_frame(index=False, name=KEY)
    none["reason"] = "no_verdict"
    none.loc[(total[~leads.any(axis=1)] > 0).to_numpy(), "reason"] = "no_majority"
    votes_of_most = pd.concat(
        [votes_of_most.assign(reason=None), none.assign(winner=None)], ignore_index=True
    )
    groups = votes["group"].dropna().unique()
    votes_of_most = votes_of_most.assign(
        judge=judge, group=groups[0] if len(groups) == 1 else None, time=None
    )
    votes_of_most = in_order(votes_of_most, KEY).reset_index(drop=True)
    return check(votes_of_most[list(COLUMNS["votes"])], "votes")


@by_criterion
def ceiling(
    votes: pd.DataFrame,
    *,
    by: By = None,
    ties: Literal["keep", "drop"] = "keep",
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the agreement that a judge could reach: a row per group of `by` and measure.

    The measures use keys with two votes or more. With ties="drop", votes for a tie are left out
    first.

    | measure | how often |
    |---|---|
    | pairs | two votes on a key agree, each unordered pair once (the papers' human-human) |
    | left_out | a vote agrees with the majority of the others; even splits count in parts |
    | best | a vote agrees with the most frequent verdict, itself included |

    No judge can exceed "best" on these votes, and none will reach it on others. Columns: those of
    `by` (as in `agreement`), measure, agreement, too_few, n (comparisons, or votes), low, high
    (`cluster` as in `agreement`), no_verdict (votes without a verdict). Raises FrameError for votes
    without a question_id. Source: arXiv 2306.05685, appendix D.3; leaving out: Dubois et al. 2023
    (AlpacaFarm).

    >>> from lmjudge.frames import frame
    >>> said = frame("votes", [
    ...     {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "judge": judge,
    ...      "group": "expert", "winner": winner, "reason": None, "time": None}
    ...     for judge, winner in [("x", "model_a"), ("y", "model_a"), ("z", "model_b")]])
    >>> ceiling(said)["agreement"].round(3).tolist()
    [0.333, 0.333, 0.667]
    """
    check_choice("ties", ties, "keep", "drop")
    alone = own_columns(votes, by, questions, KEY)
    key = [*KEY, *alone]
    oriented = by_name(on_questions(check(votes, "votes", alone)))
    if ties == "drop":
        oriented = oriented[oriented["winner"] != "tie"]
    names = clusters_of_pairs([votes], cluster, by_judge="judge" in alone)
    counts = label_counts(oriented, WINNERS, key)
    counts = counts[counts.sum(axis=1) > 1]
    unread, _ = grouped(oriented[oriented["winner"].isna()], by, questions)
    read = oriented[oriented["winner"].notna()]
    met = comparisons(read, names=names, random=cluster is not None, alone=alone)
    met = met[met["met_s1"] > 0]
    pairs = met.assign(top=met["agreed_s1"], bottom=met["met_s1"])
    cast = read.assign(voter=read["judge"])
    if cluster is None:
        cast["voter"] = cast["voter"].where(people_of(read), None)
    cast = cast.groupby([*key, "winner", "voter"], dropna=False).size().rename("bottom")
    cast = cast.reset_index()
    if "judge" not in alone:
        cast = cast.rename(columns={"voter": "judge"})
    cast = cast[pd.MultiIndex.from_frame(cast[key]).isin(counts.index)]
    worth = pd.DataFrame(0.0, counts.index, WINNERS)
    for winner in WINNERS:
        others = counts.assign(**{winner: counts[winner] - 1})
        leads = others.eq(others.max(axis=1), axis=0)
        worth[winner] = leads[winner] / leads.sum(axis=1)
    leads = counts.eq(counts.max(axis=1), axis=0)
    measures = {"pairs": pairs}
    for measure, share in (("left_out", worth), ("best", leads.div(leads.sum(axis=1), axis=0))):
        verdicts = pd.MultiIndex.from_frame(cast[[*key, "winner"]])
        each = share.stack().reindex(verdicts).to_numpy(float)
        measures[measure] = cast.assign(top=each * cast["bottom"])
    tables = []
    for measure, each in measures.items():
        for name in set(names) - {*each.columns, "judge"}:
            each[name] = each["question_id"].map(by_question(votes, name))
        rows, columns = grouped(each, by, questions)
        part = estimate(
            rows,
            columns,
            top=rows["top"],
            bottom=rows["bottom"],
            squares=rows["top"],
            share=True,
            by_way=ways(rows, names),
            level=level,
            name="agreement",
        )
        part["n"] = totals(rows, columns, ["bottom"])["bottom"].to_numpy()
        tables.append(part.assign(measure=measure))
    result = pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)
    result["no_verdict"] = how_many(unread, columns, result)
    result["n"] = result["n"].astype(int)
    return noted(result[[*columns, "measure", "agreement", *ENDS]], votes)


def scores_as_votes(
    scores: pd.DataFrame, *, delta: float = 0.1, group: str = "llm"
) -> pd.DataFrame:
    """Return votes from single grades: on every pair of models the higher score wins.

    There is a vote for each pair of models that one judge graded on one question, turn and sample.
    Scores no further apart than `delta` are a tie (FastChat's common.py, TIE_DELTA). If a score is
    missing, the vote is missing too, with that score's reason. Sides are in the order of the
    models' names. Raises FrameError for two scores of one model, question, turn, judge and sample.

    >>> from lmjudge.frames import frame
    >>> rows = [{"question_id": 1, "turn": 1, "model": m, "judge": "j", "sample": 0, "score": s,
    ...          "reason": None, "text": "", "key": ""} for m, s in [("n", 7.0), ("m", 9.0)]]
    >>> scores_as_votes(frame("scores", rows))[["model_a", "model_b", "winner"]].values.tolist()
    [['m', 'n', 'model_a']]
    """
    if not delta >= 0:
        raise ValueError(f"delta is {delta!r}; expected a number that is not negative, such as 0.1")
    rows = check(scores, "scores")[[*SCORED, "model", "score", "reason"]]
    check_once(rows, [*SCORED, "model"], REPEATED_SCORES)
    both = rows.merge(rows, on=SCORED, suffixes=("_a", "_b"))
    both = both[both["model_a"] < both["model_b"]].reset_index(drop=True)
    gap = both["score_a"].astype(float) - both["score_b"].astype(float)
    winner = pd.Series("tie", both.index, dtype=object)
    winner = winner.mask(gap > delta, "model_a").mask(gap < -delta, "model_b")
    lost = both["reason_a"].where(both["score_a"].isna(), both["reason_b"])
    table = both.assign(
        winner=winner.where(gap.notna(), None),
        reason=lost.where(gap.isna(), None),
        group=group,
        time=float("nan"),
    )
    return check(table[list(COLUMNS["votes"])], "votes")
