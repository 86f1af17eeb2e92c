"""Few human labels and many of a judge: estimates that are the humans', with narrower intervals.

On the keys (question, turn and what was judged) that both labelled, the judge's error is measured;
on all that the judge labelled, its mean is taken; the error is taken off. With y the humans' label,
f the judge's and L the labelled keys, the estimate is

    mean of y over L - weight * (mean of f over L - mean of f over all),

and the weight is that which makes its variance least: 0 for a judge that says nothing about the
humans, about 1 for one that says what they say. So a bad judge costs nothing and biases nothing; it
does not help either. Source: Angelopoulos, Duchi and Zrnic 2023, "PPI++: Efficient
prediction-powered inference" (arXiv 2311.01453); the weight is that of classical double sampling
(Cochran 1977, section 12.6), where the labelled keys are among all. Variances are of questions'
pulls, with C / (C - 2) for C labelled questions and Student's quantile with C - 2.

What it rests on: the labelled questions are drawn at random from all that the judge saw. Labels of
the easy half, or of the latest week alone, correct nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, never_meet, same_ids, swap
from lmjudge.stats.agreement import KEY
from lmjudge.stats.grouping import on_questions, two_models, worth_of
from lmjudge.stats.intervals import FEW_CLUSTERS, share_interval, t_interval


@dataclass(frozen=True)
class Corrected:
    """One estimate: the humans' mean, the judge's, the corrected, its weight, and variances."""

    human: float
    judged: float
    value: float
    weight: float
    variance: float
    human_variance: float
    n_human: int
    n: int
    clusters: int


def tuned(human: np.ndarray, judge: np.ndarray, cluster: np.ndarray) -> Corrected:
    """The mean of `human` over all keys, from its labels on some (missing elsewhere).

    `judge` is the judge's label of every key; where it is missing it says nothing, and pulls
    neither way. Missing with fewer than three labelled clusters.

    >>> judge = np.array([1, 0, 1, 0, 1, 1, 1, 0.0])
    >>> made = tuned(np.where(np.arange(8) < 4, judge, np.nan), judge, np.arange(8))
    >>> made.human, made.judged, round(made.value, 3), round(made.weight, 3)
    (0.5, 0.625, 0.633, 1.067)
    """
    known = np.isfinite(human)
    said = np.isfinite(judge)
    n, mine = int(known.sum()), int(known.sum()) or 1
    f = np.where(said, judge, judge[said].mean() if said.any() else 0.0)
    y = np.where(known, human, 0.0)
    mean, judged_there = y.sum() / mine, f[known].sum() / mine
    judged = float(f.mean()) if len(f) else np.nan
    u = np.where(known, y - mean, 0.0) / mine
    v = np.where(known, f - judged_there, 0.0) / mine - (f - judged) / max(len(f), 1)
    _, number = np.unique(cluster, return_inverse=True)
    pull, error = np.bincount(number, u), np.bincount(number, v)
    clusters = len(np.unique(number[known]))
    spread = float(error @ error)
    weight = float(pull @ error) / spread if spread > 1e-24 else 0.0
    rest = pull - weight * error
    enough = clusters > 2
    return Corrected(
        human=float(mean) if n else np.nan,
        judged=judged,
        value=float(mean - weight * (judged_there - judged)) if n else np.nan,
        weight=weight,
        variance=float(rest @ rest) * clusters / (clusters - 2) if enough else np.nan,
        human_variance=float(pull @ pull) * clusters / (clusters - 1) if enough else np.nan,
        n_human=n,
        n=len(f),
        clusters=clusters,
    )


def corrected_win_rates(
    votes: pd.DataFrame,
    human: pd.DataFrame,
    *,
    baseline: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Each model's win rate with the humans, by way of each judge: a row a judge and model.

    `votes` are the judges' (`resolve`), `human` the humans' on some of the same keys (question,
    turn, pair of models). A tie is half a win; every key weighs the same, whoever voted on it how
    often; a key that only humans voted on is left out. With a `baseline`, against it alone.

    Columns: judge, model, judge_rate (the judge's votes taken as they are), human_rate (the humans'
    votes alone), human_low, human_high, win_rate (corrected), weight (of the judge), n_human (keys
    with human votes), effective (how many such keys the humans alone would have needed for this
    interval), per_vote (how many human keys one key of the judge's alone is worth), too_few (fewer
    than 20 labelled questions, or ten effective keys on the rarer side), n (keys), low, high (of
    win_rate), no_verdict (keys without the judge's verdict: they pull neither way). Raises
    FrameError where both share no key. Source: arXiv 2311.01453.
    """
    rows = _per_model(votes, human, baseline)
    made = []
    for (judge, model), part in rows.groupby(["judge", "model"], sort=True):
        one = _of(part, "human", "said")
        made.append({"judge": judge, "model": model, **_shares(one, level)})
        made[-1]["no_verdict"] = int(part["said"].isna().sum())
    found = pd.DataFrame(made)
    return found[
        "judge model judge_rate human_rate human_low human_high win_rate weight n_human effective"
        " per_vote too_few n low high no_verdict".split()
    ]


def corrected_scores(
    scores: pd.DataFrame, human: pd.DataFrame, *, level: float = 0.95
) -> pd.DataFrame:
    """Each model's mean score with the humans, by way of each judge: a row a judge and model.

    Both are scores frames; a key is a question, turn and model, on which several scores of one
    judge (or of humans) are averaged. Columns and errors as in `corrected_win_rates`, with
    judge_score, human_score and score for its rates. The scales need not be the same: a judge who
    is a point too kind is corrected by that point. Source: arXiv 2311.01453.
    """
    key = ["question_id", "turn", "model"]
    scores, human = same_ids(on_questions(check(scores, "scores")), check(human, "scores"))
    given = human.groupby(key, dropna=False)["score"].mean()
    said = scores.groupby(["judge", *key], dropna=False)["score"].mean()
    rows = (
        said.rename("said")
        .reset_index()
        .merge(given.rename("human").reset_index(), on=key, how="left")
    )
    _meets(rows, scores, human)
    made = []
    for (judge, model), part in rows.groupby(["judge", "model"], sort=True):
        one = _of(part, "human", "said")
        dof = np.array([one.clusters - 2.0, one.clusters - 1.0])
        value = np.array([one.value, one.human])
        low, high = t_interval(
            value, np.array([one.variance, one.human_variance]), dof, level=level
        )
        made.append(
            {
                "judge": judge,
                "model": model,
                "judge_score": one.judged,
                "human_score": one.human,
                "human_low": low[1],
                "human_high": high[1],
                "score": one.value,
                "weight": one.weight,
                "n_human": one.n_human,
                **_worth(one),
                "too_few": one.clusters < FEW_CLUSTERS,
                "n": one.n,
                "low": low[0],
                "high": high[0],
                "no_verdict": int(part["said"].isna().sum()),
            }
        )
    return pd.DataFrame(made)


def labelled(votes: pd.DataFrame, human: pd.DataFrame) -> pd.DataFrame:
    """A row for every key of each judge's votes: `said`, what its votes are worth to model_a, and
    `human`, what the humans' are (missing where none voted). Sides as `by_name` has them.

    Raises FrameError where both share no key.
    """
    votes, human = same_ids(on_questions(check(votes, "votes")), check(human, "votes"))
    given = _worths(human, KEY).rename("human").reset_index()
    said = _worths(votes, ["judge", *KEY]).rename("said").reset_index()
    rows = said.merge(given, on=KEY, how="left")
    _meets(rows, votes, human)
    return rows


def _worths(votes: pd.DataFrame, key: list[str]) -> pd.Series:
    """What the votes on each key are worth to model_a, on average; sides in the names' order."""
    rows = two_models(votes)
    turned = rows["model_a"] > rows["model_b"]
    rows = rows.where(~turned, swap(rows))
    rows = rows.assign(worth=worth_of(rows["winner"]))
    return rows.groupby(key, dropna=False)["worth"].mean()


def _per_model(votes: pd.DataFrame, human: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Every key of `labelled` from both sides: model, other, human and said."""
    rows = labelled(votes, human)
    sides = [
        rows.assign(model=rows["model_a"], other=rows["model_b"]),
        rows.assign(
            model=rows["model_b"],
            other=rows["model_a"],
            human=1 - rows["human"],
            said=1 - rows["said"],
        ),
    ]
    both = pd.concat(sides, ignore_index=True)
    if baseline is None:
        return both
    models = sorted(set(both["model"]))
    if baseline not in models:
        raise FrameError(f"no vote on the baseline {baseline!r}; models here: {models}", rows=votes)
    return both[both["other"] == baseline]


def _meets(rows: pd.DataFrame, said: pd.DataFrame, human: pd.DataFrame) -> None:
    if not rows["human"].notna().any():
        what = f"The humans' labels are on none of the {len(rows)} keys that the judges labelled"
        raise never_meet(what, said, human)


def _of(part: pd.DataFrame, human: str, said: str) -> Corrected:
    return tuned(
        part[human].to_numpy(float),
        part[said].to_numpy(float),
        pd.factorize(part["question_id"])[0],
    )


def _shares(one: Corrected, level: float) -> dict[str, object]:
    """The columns of a share; what is corrected beyond 0 or 1 is cut there."""
    value = np.clip([one.value, one.human], 0, 1)
    variance = np.array([one.variance, one.human_variance])
    clusters = np.array([one.clusters, one.clusters])
    dof = np.array([one.clusters - 2.0, one.clusters - 1.0])
    # At 0 or 1 a corrected share still varies; the nearest share inside says how much.
    inside = np.clip(value, 0.5 / max(one.n, 1), 1 - 0.5 / max(one.n, 1))
    low, high = share_interval(inside, variance, clusters, dof, level=level)
    low, high = np.minimum(low, value), np.maximum(high, value)
    rarer = min(value[0], 1 - value[0]) * inside[0] * (1 - inside[0]) / max(one.variance, 1e-12)
    return {
        "judge_rate": one.judged,
        "human_rate": one.human,
        "human_low": low[1],
        "human_high": high[1],
        "win_rate": value[0],
        "weight": one.weight,
        "n_human": one.n_human,
        **_worth(one),
        "too_few": not (one.clusters >= FEW_CLUSTERS and rarer >= 10),
        "n": one.n,
        "low": low[0],
        "high": high[0],
    }


def _worth(one: Corrected) -> dict[str, float]:
    """How many labelled keys the humans alone would have needed, and what a judge's is worth.

    The variances are estimates; a judge's key that seems to be worth less than nothing is worth 0.
    """
    varies = one.variance > 0
    effective = one.n_human * one.human_variance / one.variance if varies else np.nan
    more = one.n - one.n_human
    return {
        "effective": effective,
        "per_vote": max(effective - one.n_human, 0.0) / more if more else np.nan,
    }
