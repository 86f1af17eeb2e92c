"""Bradley-Terry ratings that are the humans', from few of their labels and many of a judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lmjudge.stats.agreement import KEY
from lmjudge.stats.corrected import Cast, cast_on, labelled, voters_of
from lmjudge.stats.intervals import FEW_CLUSTERS, Cluster, t_interval


def corrected_ratings(
    votes: pd.DataFrame,
    human: pd.DataFrame,
    *,
    cluster: Cluster = None,
    scale: float = 400,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Each model's rating with the humans, by way of each judge: best first within a judge.

    What `corrected_win_rates` does to a mean is done here to the score equations of the
    Bradley-Terry fit: their human part over the labelled keys, less weight times the judge's there,
    plus weight times the judge's over all keys; the weight, between 0 and 1, makes the ratings'
    variances together least. Ratings are on the scale of Elo, their mean is `initial`.

    Columns: judge, model, judge_rating (the judge's votes alone, all keys), human_rating (the
    humans' alone), rating (corrected), weight, n_human (keys with human votes), effective (how many
    such keys the humans alone would have needed), too_few (fewer than 20 labelled questions), n
    (keys), low, high (of rating; `cluster` as in
    `corrected_win_rates`), no_verdict (keys without the judge's
    verdict: they pull neither way). Ratings are missing where the labels don't give one: a model
    that only won or lost, or was not labelled. Raises FrameError where both share no key. Source:
    Angelopoulos, Duchi and Zrnic 2023 (arXiv 2311.01453), section 6, for generalised linear models.
    """
    unit = scale / np.log(10)
    made = []
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
        one = pd.DataFrame(
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
        made.append(one.sort_values("rating", ascending=False, kind="stable"))
    return pd.concat(made, ignore_index=True)


@dataclass(frozen=True)
class _Fit:
    """Strengths whose mean is 0, and their variances."""

    beta: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class _Data:
    """The keys of a judge: the design, both labels (missing where there is none), the questions."""

    design: np.ndarray
    human: np.ndarray
    said: np.ndarray
    question: np.ndarray
    cast: Cast | None = None

    @classmethod
    def of(cls, part: pd.DataFrame, models: list[str], cast: Cast | None) -> _Data:
        """The keys of one judge, coded."""
        rows, place = np.arange(len(part)), {model: at for at, model in enumerate(models)}
        design = np.zeros((len(part), len(models)))
        design[rows, part["model_a"].map(place)] = 1.0
        design[rows, part["model_b"].map(place)] = -1.0
        human, said = part["human"].to_numpy(float), part["said"].to_numpy(float)
        return cls(design, human, said, pd.factorize(part["question_id"])[0], cast)

    def of_judge(self) -> _Data:
        """The same keys as if what the judge said were the humans' labels."""
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
        """The strengths that solve the corrected score equations; missing where nothing does."""
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
        """The scores of `fit` at the labelled keys, a row for each human vote."""
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
        """The weight between 0 and 1 with the least variance, at the fit of another."""
        fitted = self.fit(start).beta
        if not np.isfinite(fitted).all():
            return 0.0
        u, v, slope, other = self.pulls(fitted)
        bread = np.linalg.pinv(slope - start * other + 1 / len(fitted))
        mine, error = u @ bread, v @ bread
        spread = float((error**2).sum())
        return float(np.clip((mine * error).sum() / spread, 0, 1)) if spread > 1e-24 else 0.0
