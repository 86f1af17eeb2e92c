"""Combine a few human labels with many of a judge's: the humans' estimate, with narrower intervals.

The judge's error is measured on the keys (question, turn and what was judged) that both labelled,
and subtracted from the judge's mean over all keys. With y the humans' label, f the judge's and L
the labelled keys, the estimate is

    mean of y over L - weight * (mean of f over L - mean of f over all).

The weight minimises its variance. It is 0 for a judge unrelated to the humans and about 1 for one
that repeats them, so a bad judge costs nothing, biases nothing and does not help. Source:
Angelopoulos, Duchi and Zrnic 2023, "PPI++: Efficient prediction-powered inference" (arXiv
2311.01453); the weight is that of classical double sampling (Cochran 1977, section 12.6), in which
the labelled keys are among all. Variances are clustered by question, with C / (C - 2) for C
labelled questions and Student's quantile with C - 2 degrees of freedom. Where people are named and
vote on several questions, they are crossed with the voters (see `intervals`).

It requires that the labelled questions are a random sample of all that the judge saw. Labels of the
easy half, or of the latest week alone, correct nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, never_meet, same_ids
from lmjudge.stats.grouping import by_name, check_baseline, on_questions, worth_of
from lmjudge.stats.interrater import KEY
from lmjudge.stats.intervals import (
    FEW_CLUSTERS,
    Cluster,
    cluster_names,
    share_interval,
    t_interval,
)


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


@dataclass(frozen=True)
class Cast:
    """The humans' votes one by one: the place of the key, the voter, its worth, its share of it."""

    key: np.ndarray
    voter: np.ndarray
    worth: np.ndarray
    share: np.ndarray

    def crossed(
        self, by_question: np.ndarray, pulls: np.ndarray, question: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Return the variance crossed with these pulls of voters, and the number of voters.

        `pulls` has a row for each vote here, `question` the question of each key.
        """
        spreads = [by_question]
        both = question[self.key] * (int(self.voter.max(initial=0)) + 1) + self.voter
        for way in (self.voter, both):
            codes = np.unique(way, return_inverse=True)[1]
            count = int(codes.max(initial=-1)) + 1
            sums = np.zeros((count, *pulls.shape[1:]))
            np.add.at(sums, codes, pulls)
            spreads.append((sums**2).sum(axis=0) * count / max(count - 1, 1))
        one, two, cross = spreads
        voters = len(np.unique(self.voter))
        return np.maximum(one + two - cross, np.maximum(one, two)), voters


def tuned(
    human: np.ndarray, judge: np.ndarray, cluster: np.ndarray, cast: Cast | None = None
) -> Corrected:
    """Return the mean of `human` over all keys, estimated from its labels on some.

    `human` is missing elsewhere. `judge` is the judge's label of every key. Where it is missing,
    the key has the judge's mean. The estimate is missing with fewer than three labelled clusters.

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
    variance = float(rest @ rest) * clusters / (clusters - 2) if enough else np.nan
    human_variance = float(pull @ pull) * clusters / (clusters - 1) if enough else np.nan
    if cast is not None and enough:
        mine_of = cast.share * (cast.worth - mean) / mine
        theirs = cast.share * v[cast.key]
        spread_of, voters = cast.crossed(np.array(variance), mine_of - weight * theirs, number)
        alone, _ = cast.crossed(np.array(human_variance), mine_of, number)
        variance, human_variance = float(spread_of), float(alone)
        clusters = min(clusters, voters)
    return Corrected(
        human=float(mean) if n else np.nan,
        judged=judged,
        value=float(mean - weight * (judged_there - judged)) if n else np.nan,
        weight=weight,
        variance=variance,
        human_variance=human_variance,
        n_human=n,
        n=len(f),
        clusters=clusters,
    )


def corrected_win_rates(
    votes: pd.DataFrame,
    human: pd.DataFrame,
    *,
    baseline: str | None = None,
    cluster: Cluster = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's win rate with the humans, corrected by each judge's votes.

    `votes` are the judges' (`resolve`), `human` the humans' on some of the same keys (question,
    turn, pair of models). A tie is half a win. Every key weighs the same, however many people voted
    on it; a key that only humans voted on is left out. With a `baseline`, only its games count.
    `cluster` is "question_id", or that and "judge" (the humans), the default if five or more are
    named and vote on several questions.

    | column | unit | meaning |
    |---|---|---|
    | judge_rate | share | win rate by the judge's votes alone |
    | human_rate, human_low, human_high | share | by the humans' votes alone |
    | win_rate, low, high | share | corrected |
    | weight | | weight of the judge |
    | n_human | keys | with human votes |
    | effective | keys | that the humans alone would have needed for this interval |
    | per_vote | keys | of the humans that one key of the judge is worth |
    | n | keys | all |
    | no_verdict | keys | without the judge's verdict; they count as its mean |

    judge and model come first. too_few is True with fewer than 20 labelled questions, or ten
    effective keys on the rarer side. Raises FrameError if both share no key. Source: arXiv
    2311.01453.
    """
    rows = _per_model(votes, human, baseline)
    cast = voters_of(human, KEY, cluster)
    return _estimates(rows, cast, KEY, "win_rate", level)


def corrected_scores(
    scores: pd.DataFrame,
    human: pd.DataFrame,
    *,
    cluster: Cluster = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's mean score with people, corrected by each judge's scores.

    Both are scores frames. A key is a question, turn and model; several scores on a key by one
    judge, or by humans, are averaged. Columns and errors are as in `corrected_win_rates`, with
    judge_score, human_score and score for its rates. Scores do not say who is a person, so humans
    are clusters only if `cluster` names "judge" too. The scales can differ: a judge who is a point
    too kind is corrected by that point. Source: arXiv 2311.01453.
    """
    key = ["question_id", "turn", "model"]
    scores, human = same_ids(on_questions(check(scores, "scores")), check(human, "scores"))
    rows = beside(scores, human, key, "score")
    cast = voters_of(human.assign(worth=human["score"].astype(float)), key, cluster)
    return _estimates(rows, cast, key, "score", level)


def _estimates(
    rows: pd.DataFrame, cast: pd.DataFrame | None, key: list[str], name: str, level: float
) -> pd.DataFrame:
    """Return a row a judge and model: its estimate, a share or a mean score, and its basis."""
    measure = name.removeprefix("win_")
    estimates = []
    for (judge, model), part in rows.groupby(["judge", "model"], sort=True):
        share = tuned(
            part["human"].to_numpy(float),
            part["said"].to_numpy(float),
            pd.factorize(part["question_id"])[0],
            None if cast is None else cast_on(part, cast, key),
        )
        value = np.array([share.value, share.human])
        variance = np.array([share.variance, share.human_variance])
        dof = np.array([share.clusters - 2.0, share.clusters - 1.0])
        few = share.clusters < FEW_CLUSTERS
        if measure == "rate":
            value, low, high, rarer = corrected_shares(
                value, variance, share.clusters, dof, share.n, level=level
            )
            few |= not rarer[0] >= 10
        else:
            low, high = t_interval(value, variance, dof, level=level)
        estimates.append(
            {
                "judge": judge,
                "model": model,
                f"judge_{measure}": share.judged,
                f"human_{measure}": share.human,
                "human_low": low[1],
                "human_high": high[1],
                name: value[0],
                "weight": share.weight,
                "n_human": share.n_human,
                **_worth(share),
                "too_few": few,
                "n": share.n,
                "low": low[0],
                "high": high[0],
                "no_verdict": int(part["said"].isna().sum()),
            }
        )
    return pd.DataFrame(estimates)


def labelled(votes: pd.DataFrame, human: pd.DataFrame) -> pd.DataFrame:
    """Return a row for every key of each judge's votes: the judge's worth and people's.

    `said` is what the judge's votes are worth to model_a, `human` what people's are (missing
    without votes). Sides are as `by_name` has them.

    Raises FrameError where both share no key.
    """
    votes, human = same_ids(on_questions(check(votes, "votes")), check(human, "votes"))
    sides = (by_name(frame) for frame in (votes, human))
    said, given = (rows.assign(worth=worth_of(rows["winner"])) for rows in sides)
    return beside(said, given, KEY, "worth")


def beside(said: pd.DataFrame, human: pd.DataFrame, key: list[str], value: str) -> pd.DataFrame:
    """Return each judge's mean `value` on each key, `said`, beside people's, `human`.

    `human` is missing where no person gave a value.

    Raises FrameError where both share no key.
    """
    means = human.groupby(key, dropna=False)[value].mean().rename("human").reset_index()
    rows = said.groupby(["judge", *key], dropna=False)[value].mean().rename("said").reset_index()
    rows = rows.merge(means, on=key, how="left").astype({"said": float, "human": float})
    if not rows["human"].notna().any():
        what = f"The humans' labels are on none of the {len(rows)} keys that the judges labelled"
        raise never_meet(what, said, human)
    return rows


def _per_model(votes: pd.DataFrame, human: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return each key of `labelled` once for each of its models: model, other, human, said."""
    rows = labelled(votes, human)
    sides = [
        rows.assign(model=rows["model_a"], other=rows["model_b"]),
        rows.assign(
            turned=True,
            model=rows["model_b"],
            other=rows["model_a"],
            human=1 - rows["human"],
            said=1 - rows["said"],
        ),
    ]
    both = pd.concat(sides, ignore_index=True)
    if baseline is None:
        return both
    check_baseline(baseline, rows, "vote on")
    return both[both["other"] == baseline]


def voters_of(human: pd.DataFrame, key: list[str], cluster: Cluster) -> pd.DataFrame | None:
    """Return each person's worth on each key and its share; None if people are no sample.

    Raises FrameError for clusters other than the question, or it and the judge.
    """
    names = cluster_names(human, cluster)
    if names not in (["question_id"], ["question_id", "judge"]):
        raise FrameError(
            f"`cluster` is {names}; corrected estimates take question_id, or question_id and judge",
            columns=names,
        )
    if len(names) == 1:
        return None
    rows = human
    if "worth" not in rows.columns:
        rows = by_name(check(human, "votes"))
        rows = rows.assign(worth=worth_of(rows["winner"]))
    rows = rows[rows["worth"].notna()]
    cast = rows.groupby([*key, "judge"], dropna=False)["worth"].agg(["mean", "size"]).reset_index()
    cast["share"] = cast["size"] / cast.groupby(key, dropna=False)["size"].transform("sum")
    return cast.rename(columns={"mean": "worth", "judge": "voter"})


def cast_on(part: pd.DataFrame, cast: pd.DataFrame, key: list[str] = KEY) -> Cast:
    """Return the humans' votes on some keys; from the other side where the key is `turned`."""
    turned = part["turned"] if "turned" in part.columns else False
    places = part[key].assign(place=np.arange(len(part)), turned=turned)
    met = places.merge(cast, on=key)
    worth = met["worth"].where(met["turned"].fillna(False) != True, 1 - met["worth"])  # noqa: E712
    return Cast(
        met["place"].to_numpy(),
        pd.factorize(met["voter"])[0],
        worth.to_numpy(float),
        met["share"].to_numpy(float),
    )


def corrected_shares(
    value: np.ndarray,
    variance: np.ndarray,
    clusters: int,
    dof: np.ndarray,
    n: int,
    *,
    level: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return shares cut at 0 and 1, their intervals, and the effective rows on the rarer side."""
    value = np.clip(value, 0, 1)
    # At 0 or 1 a corrected share still varies; the nearest share inside says how much.
    inside = np.clip(value, 0.5 / max(n, 1), 1 - 0.5 / max(n, 1))
    low, high = share_interval(
        inside, variance, np.full(len(value), float(clusters)), dof, level=level
    )
    rarer = np.minimum(value, 1 - value) * inside * (1 - inside) / np.maximum(variance, 1e-12)
    return value, np.minimum(low, value), np.maximum(high, value), rarer


def _worth(corrected: Corrected) -> dict[str, float]:
    """Return how many labels people alone would have needed, and how many a judgment replaces.

    The variances are estimates; where a judgment seems to replace fewer than 0 labels, it is 0.
    """
    varies = corrected.variance > 0
    effective = (
        corrected.n_human * corrected.human_variance / corrected.variance if varies else np.nan
    )
    more = corrected.n - corrected.n_human
    return {
        "effective": effective,
        "per_vote": max(effective - corrected.n_human, 0.0) / more if more else np.nan,
    }


def corrected_ratings(
    votes: pd.DataFrame,
    human: pd.DataFrame,
    *,
    cluster: Cluster = None,
    scale: float = 400,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each model's rating with the humans, corrected by each judge, best first.

    The correction of `corrected_win_rates` is applied to the score equations of the Bradley-Terry
    fit: their human part over the labelled keys, less weight times the judge's part there, plus
    weight times the judge's part over all keys. The weight, between 0 and 1, minimises the sum of
    the ratings' variances. Ratings are on the scale of Elo, and their mean is `initial`.

    Columns: judge, model, judge_rating (the judge's votes alone, all keys), human_rating (the
    humans' alone), rating (corrected), weight, n_human (keys with human votes), effective (keys
    that the humans alone would have needed), too_few (fewer than 20 labelled questions), n (keys),
    low, high (of rating; `cluster` as in `corrected_win_rates`), no_verdict (keys without the
    judge's verdict). Ratings are missing if the labels do not determine them: a model that only won
    or only lost, or was not labelled. Raises FrameError if both share no key. Source: Angelopoulos,
    Duchi and Zrnic 2023 (arXiv 2311.01453), section 6, for generalised linear models.
    """
    unit = scale / np.log(10)
    tables = []
    cast = voters_of(human, KEY, cluster)
    for judge, part in labelled(votes, human).groupby("judge", sort=True):
        models = sorted({*part["model_a"], *part["model_b"]}, key=str)
        data = _Data.of(part, models, None if cast is None else cast_on(part, cast))
        alone = data.fit(0.0)
        weight = data.weigh(0.5)
        both = data.fit(weight)
        dof = np.full(len(models), data.least - 2.0)
        low, high = t_interval(unit * both.beta, unit**2 * both.variance, dof, level=level)
        spread = both.variance.sum()
        gain = alone.variance.sum() / spread if spread > 0 else np.nan
        table = pd.DataFrame(
            {
                "judge": judge,
                "model": models,
                "judge_rating": initial + unit * data.of_judge().fit(0.0).beta,
                "human_rating": initial + unit * alone.beta,
                "rating": initial + unit * both.beta,
                "weight": weight,
                "n_human": data.labels,
                "effective": data.labels * gain,
                "too_few": data.least < FEW_CLUSTERS,
                "n": len(part),
                "low": initial + low,
                "high": initial + high,
                "no_verdict": int(part["said"].isna().sum()),
            }
        )
        tables.append(table.sort_values("rating", ascending=False, kind="stable"))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _Fit:
    """Strengths whose mean is 0, and their variances."""

    beta: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class _Data:
    """The keys of a judge: the design, both labels (missing if unlabelled) and the questions."""

    design: np.ndarray
    human: np.ndarray
    said: np.ndarray
    question: np.ndarray
    cast: Cast | None = None

    @classmethod
    def of(cls, part: pd.DataFrame, models: list[str], cast: Cast | None) -> _Data:
        """Return the keys of one judge, coded."""
        rows, place = np.arange(len(part)), {model: at for at, model in enumerate(models)}
        design = np.zeros((len(part), len(models)))
        design[rows, part["model_a"].map(place)] = 1.0
        design[rows, part["model_b"].map(place)] = -1.0
        human, said = part["human"].to_numpy(float), part["said"].to_numpy(float)
        return cls(design, human, said, pd.factorize(part["question_id"])[0], cast)

    def of_judge(self) -> _Data:
        """Return the same keys as if what the judge said were the humans' labels."""
        return _Data(self.design, self.said, self.said, self.question)

    @property
    def labels(self) -> int:
        """How many keys have a human label."""
        return int(np.isfinite(self.human).sum())

    @property
    def clusters(self) -> int:
        """How many questions have a human label."""
        return len(np.unique(self.question[np.isfinite(self.human)]))

    @property
    def least(self) -> int:
        """The fewest clusters: labelled questions, or the voters crossed with them."""
        if self.cast is None:
            return self.clusters
        return min(self.clusters, len(np.unique(self.cast.voter)))

    def pulls(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """By question, the humans' scores and the judge's error in them; and both slopes."""
        mean = 1 / (1 + np.exp(-self.design @ beta))
        known, said = np.isfinite(self.human), np.isfinite(self.said)
        labelled = known / max(known.sum(), 1)
        between = (labelled - 1 / len(known)) * said
        u = labelled * np.where(known, mean - self.human, 0.0)
        v = between * np.where(said, mean - self.said, 0.0)
        count = int(self.question.max(initial=0)) + 1
        sums = []
        for pull in (u, v):
            total = np.zeros((count, self.design.shape[1]))
            np.add.at(total, self.question, pull[:, None] * self.design)
            sums.append(total)
        flat = mean * (1 - mean)
        slopes = [self.design.T @ (self.design * (w * flat)[:, None]) for w in (labelled, between)]
        return sums[0], sums[1], slopes[0], slopes[1]

    def fit(self, weight: float) -> _Fit:
        """Return the strengths that solve the corrected score equations.

        They are missing where nothing does.
        """
        size = self.design.shape[1]
        none = np.full(size, np.nan)
        beta = np.zeros(size)
        for _ in range(50):
            u, v, slope, other = self.pulls(beta)
            information = slope - weight * other + 1 / size
            if np.linalg.cond(information) > 1e8:
                return _Fit(none, none)
            step = np.linalg.solve(information, (u - weight * v).sum(axis=0))
            beta = beta - step
            if np.abs(beta).max() > 25:
                return _Fit(none, none)
            if np.abs(step).max() < 1e-9:
                break
        else:
            return _Fit(none, none)
        u, v, slope, other = self.pulls(beta)
        bread = np.linalg.inv(slope - weight * other + 1 / size)
        pull = (u - weight * v) @ bread
        few = self.clusters - size
        variance = (pull**2).sum(axis=0) * self.clusters / few if few > 0 else none
        if self.cast is not None and few > 0:
            variance, _ = self.cast.crossed(
                variance, self._by_vote(beta, weight) @ bread, self.question
            )
        return _Fit(beta - beta.mean(), variance)

    def _by_vote(self, beta: np.ndarray, weight: float) -> np.ndarray:
        """Return the scores of `fit` at the labelled keys, a row for each human vote."""
        cast = self.cast
        if cast is None:
            return np.zeros((0, len(beta)))
        at, share = cast.key, cast.share
        mean = 1 / (1 + np.exp(-self.design[at] @ beta))
        said = np.isfinite(self.said[at])
        labelled = 1 / max(self.labels, 1)
        mine = labelled * (mean - cast.worth)
        theirs = (labelled - 1 / len(self.said)) * np.where(said, mean - self.said[at], 0.0)
        return (share * (mine - weight * theirs))[:, None] * self.design[at]

    def weigh(self, start: float) -> float:
        """Return the weight between 0 and 1 with the least variance, at the fit of another."""
        fitted = self.fit(start).beta
        if not np.isfinite(fitted).all():
            return 0.0
        u, v, slope, other = self.pulls(fitted)
        bread = np.linalg.pinv(slope - start * other + 1 / len(fitted))
        mine, error = u @ bread, v @ bread
        spread = float((error**2).sum())
        return float(np.clip((mine * error).sum() / spread, 0, 1)) if spread > 1e-24 else 0.0
