"""Mean scores, totals of two-score games, and one model's score relative to another's."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, swap
from lmjudge.stats.grouping import By, by_group, check_baseline, grouped, totals, two_models
from lmjudge.stats.intervals import ENDS, FEW_CLUSTERS, Cluster, cluster_names, estimate, t_interval


def mean_scores(
    scores: pd.DataFrame,
    *,
    by: By = ("model",),
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the mean score of each group of `by`.

    The mean is over rows. It is not the mean of the turns' means, which differs if one turn lost
    rows. Rows without a score are left out and counted, as FastChat's show_result does with -1.
    `by` can name any column of the frame (model, turn, judge ...) and "category"; name "judge" if
    the frame has several. Intervals are clustered by question, or by the one or two columns in
    `cluster`. Columns: those of `by`, score, too_few, n, low, high, no_verdict. Raises FrameError
    for a frame or a `by` that does not fit.

    >>> from lmjudge.frames import frame
    >>> rows = [{"question_id": q, "turn": 1, "model": "m", "judge": "j", "sample": 0,
    ...          "score": s, "reason": None, "text": "", "key": ""}
    ...         for q, s in [(1, 7.0), (2, 9.0), (3, None)]]
    >>> mean_scores(frame("scores", rows))[["model", "score", "n", "no_verdict"]]
      model  score  n  no_verdict
    0     m    8.0  2           1
    """
    rows, columns = grouped(check(scores, "scores", by), by, questions)
    names = cluster_names(rows, cluster, by=columns)
    table = estimate(rows, columns, top=rows["score"], cluster=names, level=level, name="score")
    return table[[*columns, "score", *ENDS]]


def label_shares(
    judged: pd.DataFrame,
    *,
    by: By = ("criterion",),
    cluster: Cluster = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how often each label was given.

    Columns: those of `by`, label, share, too_few, n, low, high, no_verdict.

    For criteria with `labels=`, whose verdicts have neither score nor order, and for words on a
    scale. `judged` are scores or games; n counts the rows of the group with a label. Intervals and
    errors as in `mean_scores`. A label that a group never got is not in the table.

    >>> from lmjudge.frames import frame
    >>> rows = [{"question_id": q, "turn": 1, "model": "m", "judge": "j", "sample": 0,
    ...          "score": None, "reason": None, "text": "", "key": "", "criterion": "topic",
    ...          "label": label}
    ...         for q, label in enumerate(["news", "news", "sport", "news"])]
    >>> label_shares(frame("scores", rows))[["label", "share", "n"]].values.tolist()
    [['news', 0.75, 4], ['sport', 0.25, 4]]
    """
    rows = check(judged, "games" if "model_a" in judged.columns else "scores", by)
    if "label" not in rows.columns:
        raise FrameError(
            "the frame has no column label; judge with a criterion that has labels= or a scale of"
            " words",
            columns=["label"],
        )
    labels = rows["label"]
    rows, columns = grouped(rows.drop(columns="label"), by, questions)
    groups = rows[columns].agg(tuple, axis=1) if columns else pd.Series(0, rows.index)
    tables = []
    for label in sorted(labels.dropna().unique()):
        within = rows[groups.isin(groups[labels == label])]
        given = (labels == label).astype(float).where(labels.notna())[within.index]
        names = cluster_names(within, cluster, by=columns)
        table = estimate(within, columns, top=given, share=True, cluster=names, level=level)
        tables.append(table.assign(label=label))
    result = pd.concat(tables) if tables else pd.DataFrame(columns=[*columns, "label", "value"])
    result = result.rename(columns={"value": "share"}).sort_values([*columns, "label"])
    ends = ["label", "share", "too_few", "n", "low", "high", "no_verdict"]
    return result.reindex(columns=[*columns, *ends]).reset_index(drop=True)


def score_totals(
    games: pd.DataFrame,
    *,
    baseline: str | None = None,
    by: By = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the totals of both sides of two-score games: a row per pair of models and group.

    With a `baseline`, only its games count, and it is model_b; without one, sides are as shown.
    Columns: model_a, model_b, those of `by`, total_a, total_b, wins_a, ties, wins_b (games with the
    higher score on one side, or equal scores), relative (100 * total_a / total_b), too_few, n
    (games), low, high (of relative, clustered by question), no_verdict (games with a missing score;
    left out of everything). Source: the Vicuna blog's Table 2 and Figure 3 (30 March 2023).
    """
    rows, columns = grouped(_against(check(games, "games", by), baseline), by, questions)
    columns = list(dict.fromkeys(["model_a", "model_b", *columns]))
    a, b = rows["score_a"].astype(float), rows["score_b"].astype(float)
    known = a.notna() & b.notna()
    rows = rows.assign(
        total_a=a.where(known),
        total_b=b.where(known),
        wins_a=(a > b) & known,
        ties=(a == b) & known,
        wins_b=(a < b) & known,
    )
    counted = ["total_a", "total_b", "wins_a", "ties", "wins_b"]
    ratio = estimate(
        rows, columns, top=rows["total_a"], bottom=rows["total_b"], level=level, name="relative"
    )
    ratio[["relative", "low", "high"]] *= 100
    ratio[counted] = totals(rows, columns, counted)[counted]
    return ratio[[*columns, *counted, "relative", *ENDS]]


@by_group
def relative_quality(
    games: pd.DataFrame,
    *,
    baseline: str,
    via: str,
    by: By = None,
    questions: pd.DataFrame | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's scores in percent of the baseline's, through a model that all met.

    A model's value is (its total / via's total, in their games) x (via's total / the baseline's, in
    theirs). The value of `via` is the second factor, and the baseline's is 100 by definition,
    without an interval. With `by`, columns of the frame or "category" with `questions`, each group
    has its own values. Columns: those of `by`, model, relative, too_few (fewer than 20 questions),
    n (games of the model, for `via` those with the baseline), low, high, no_verdict. The interval
    includes both factors' variance question by question, because they share the questions. Raises
    FrameError if `via` and the baseline never met. Source: the Vicuna blog's Figure 1.
    """
    against = _against(check(games, "games"), via)
    if baseline not in set(against["model_a"]):
        raise FrameError(
            f"no game of {baseline!r} against {via!r}; the models that met {via!r} are"
            f" {sorted(set(against['model_a']))}",
            rows=against,
        )
    known = against[against["score_a"].notna() & against["score_b"].notna()]
    met, read = against["model_a"].value_counts(), known["model_a"].value_counts()
    lost = met.sub(read, fill_value=0)
    anchor, step = _ratio(known[known["model_a"] == baseline])
    anchor = anchor or np.nan  # of a baseline whose scores are all 0 there are no percent
    rows = []
    for model in [*sorted(set(against["model_a"])), via]:
        mine = known[known["model_a"] == (baseline if model == via else model)]
        value, pull = 1 / anchor, -step / anchor**2
        if model != via:
            own, own_pull = _ratio(mine)
            pull = (own_pull / anchor).add(-step * own / anchor**2, fill_value=0)
            value = own / anchor
        clusters = np.array([len(pull)])
        spread = (pull**2).sum() * clusters / np.maximum(clusters - 1, 1)
        low, high = t_interval(np.array([value]), spread, clusters - 1, level=level)
        fixed = model == baseline
        rows.append(
            {
                "model": model,
                "relative": 100.0 if fixed else 100 * value,
                "too_few": not fixed and len(pull) < FEW_CLUSTERS,
                "n": len(mine),
                "low": np.nan if fixed else 100 * low[0],
                "high": np.nan if fixed else 100 * high[0],
                "no_verdict": int(lost[baseline if model == via else model]),
            }
        )
    return pd.DataFrame(rows).sort_values("relative", kind="stable", ignore_index=True)


def _against(games: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return the games with the baseline as model_b; without a baseline, all games as shown."""
    games = two_models(games)
    if baseline is None:
        return games
    check_baseline(baseline, games, "game of")
    first, second = games["model_a"] == baseline, games["model_b"] == baseline
    return games.where(~first, swap(games))[first | second] if first.any() else games[second]


def _ratio(games: pd.DataFrame) -> tuple[float, pd.Series]:
    """Return the first side's total over the second's, and how much each question moves it."""
    totals = games.groupby("question_id", dropna=False)[["score_a", "score_b"]].sum()
    total = totals["score_b"].sum() or np.nan
    ratio = totals["score_a"].sum() / total
    return ratio, (totals["score_a"] - ratio * totals["score_b"]) / total
