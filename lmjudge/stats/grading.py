"""Compare judges that grade one answer with people's grades of the same answers.

A judge and people share a key: question, turn and model. Several grades on a key by one judge, or
by people, are averaged first. Correlations and coefficients have intervals from the jackknife over
questions; means and shares are clustered by question. People who grade several questions are not
treated as clusters here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check, same_ids
from lmjudge.stats.corrected import beside, corrected_shares, tuned
from lmjudge.stats.grouping import check_choice, on_questions
from lmjudge.stats.intervals import (
    ENDS,
    FEW_CLUSTERS,
    estimate,
    t_interval,
    t_quantile,
)

KEY = ["question_id", "turn", "model"]
_GROUPS = 200  # clusters of the jackknife; of more questions several are left out together
_LEVELS = 10
_ESTIMATES = ("judge alone", "people alone", "Rogan-Gladen", "prediction-powered")
_MEASURES = ("spearman", "kendall", "weighted kappa", "icc", "mean error")


def score_agreement(
    scores: pd.DataFrame,
    human: pd.DataFrame | None = None,
    *,
    weights: Literal["quadratic", "linear"] = "quadratic",
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare each judge's grades with people's: a row per judge and measure.

    Both are scores frames. Without `human`, the rows named `people` compare every two graders of
    one answer in `scores` with each other.

    | measure | meaning |
    |---|---|
    | spearman, kendall | rank correlation (Kendall's tau-b): 1 for the same order of the answers |
    | weighted kappa | agreement beyond chance on one scale, errors weighted by their square |
    | icc | intraclass correlation, absolute agreement of single grades: ICC(2,1) |
    | mean error | judge less people, in points of the scale |

    Columns: judge, measure, value, too_few (fewer than 20 questions), n (answers), low, high,
    no_verdict (answers without a grade of the judge). Values are missing if a judge gives every
    answer the same grade, intervals if nothing varies. weighted kappa, icc and mean error need
    judges and people on one scale. Raises FrameError if both share no answer. Source: Cohen 1968;
    Shrout and Fleiss 1979; intervals by Fisher's z with the jackknife's error.
    """
    tables: list[pd.DataFrame] = []
    columns = ["judge", "measure", "value", *ENDS]
    if human is None:
        pairs = _every_two(on_questions(check(scores, "scores")))
        parts = [("people", pairs, 0)] if len(pairs) else []
    else:
        rows = graded(scores, human)
        parts = [
            (str(judge), part[part["said"].notna()], int(part["said"].isna().sum()))
            for judge, part in rows.groupby("judge", sort=True)
        ]
    for judge, part, lost in parts:
        if part.empty:
            empty = {"judge": judge, "measure": _MEASURES, "value": np.nan, "too_few": True, "n": 0}
            tables.append(
                pd.DataFrame({**empty, "low": np.nan, "high": np.nan, "no_verdict": lost})
            )
            continue
        x, y = part["said"].to_numpy(float), part["human"].to_numpy(float)
        jackknife = _Jackknife.of(part, lambda x, y: _coefficients(x, y, weights), x, y)
        low, high = jackknife.by_fisher(level)
        error = estimate(
            part.assign(judge=judge), ["judge"], top=part["said"] - part["human"], level=level
        ).iloc[0]
        measures = {
            "judge": judge,
            "measure": _MEASURES,
            "value": [*jackknife.value, error["value"]],
            "too_few": jackknife.clusters < FEW_CLUSTERS,
            "n": len(part) if human is not None else len(part) // 2,
            "low": [*low, error["low"]],
            "high": [*high, error["high"]],
            "no_verdict": lost,
        }
        tables.append(pd.DataFrame(measures))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    table.attrs["level"] = level
    return table


def compare_graders(
    scores: pd.DataFrame,
    human: pd.DataFrame,
    *,
    measure: str = "spearman",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the difference of every two judges in their agreement with people.

    Answers that both graded count. `measure` is one of the coefficients of `score_agreement`.
    Columns: judge_a, judge_b, value_a, value_b, difference (a - b), too_few, n (answers), low, high
    (Student's, with the jackknife's error over questions), no_verdict (answers without the grade of
    one).
    """
    coefficients: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "spearman": _spearman,
        "kendall": _kendall,
        "weighted kappa": _kappa,
        "icc": _icc,
    }
    check_choice("measure", measure, *coefficients)
    of = coefficients[measure]
    wide = _side_by_side(graded(scores, human))
    judges = [name for name in wide.columns if name not in (*KEY, "human")]
    tables = []
    for place, first in enumerate(judges):
        for two in judges[place + 1 :]:
            part = wide[wide[first].notna() & wide[two].notna()]

            def both(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> np.ndarray:
                first, two = of(a, y), of(b, y)
                return np.array([first, two, first - two])

            columns = [part[name].to_numpy(float) for name in (first, two, "human")]
            jackknife = _Jackknife.of(part, both, *columns)
            low, high = t_interval(
                jackknife.value[2:], jackknife.variance[2:], jackknife.dof[2:], level=level
            )
            few = jackknife.clusters < FEW_CLUSTERS
            ends = (few, len(part), low[0], high[0], len(wide) - len(part))
            tables.append((first, two, *jackknife.value, *ends))
    names = "judge_a judge_b value_a value_b difference too_few n low high no_verdict".split()
    table = pd.DataFrame(tables, columns=names)
    table.attrs["level"] = level
    return table


def score_levels(
    scores: pd.DataFrame,
    human: pd.DataFrame,
    *,
    of: Literal["human", "judge"] = "human",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return each judge's mean error at each level of people's grades, or of its own.

    `of="human"` shows how the judge grades answers that people find bad or good. `of="judge"` is
    its calibration: what people give where the judge gives this level. Levels are whole points;
    more than ten become ten bins of equal width, named by their middle. Columns: judge, level,
    judge_score, human_score (means), error (judge less people), too_few, n, low, high (of error),
    no_verdict.
    """
    check_choice("of", of, "human", "judge")
    rows = graded(scores, human)
    lost = rows[rows["said"].isna()].groupby("judge").size()
    rows = rows[rows["said"].notna()].copy()
    rows["level"] = _level(rows["human" if of == "human" else "said"])
    keys = ["judge", "level"]
    rows = rows.rename(columns={"said": "judge_score", "human": "human_score"})
    error = rows["judge_score"] - rows["human_score"]
    table = estimate(rows, keys, top=error, level=level).drop(columns="error")
    table = table.rename(columns={"value": "error"})
    means = rows.groupby(keys)[["judge_score", "human_score"]].mean().reset_index()
    table["no_verdict"] = table["judge"].map(lost).fillna(0).astype(int)
    table = table.merge(means, on=keys)
    return table[[*keys, "judge_score", "human_score", "error", *ENDS]]


def pass_rates(
    scores: pd.DataFrame,
    human: pd.DataFrame,
    *,
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Compare each judge with people's pass or fail: a row per judge and measure.

    `human` has two values; the greater is a pass. A judge passes an answer from its threshold on.
    If a judge gives two values, the greater is its threshold. Otherwise the threshold is the one
    with the greatest true less false positive rate on one half of the questions, and the table
    reports the other half. `thresholds` fixes it, and then all questions count. The halves come
    from a hash of `seed` and question_id.

    Columns: judge, measure ("accuracy", "true positive rate", "false positive rate", "kappa"),
    value, threshold, too_few, n (answers of the measure), low, high, no_verdict.
    """
    rows = labelled_passes(scores, human)
    tables = []
    for judge, every in rows.groupby("judge", sort=True):
        lost = int(every["said"].isna().sum())
        part = every[every["said"].notna()]
        if thresholds is not None and judge in thresholds:
            threshold = float(thresholds[str(judge)])
        elif part["said"].nunique() <= 2:
            threshold = float(part["said"].max())
        else:
            first = part["question_id"].map(lambda name: in_first_half(name, seed))
            threshold = best_threshold(part[first])
            part = part[~first]
        part = part.assign(passes=(part["said"] >= threshold).astype(float))
        alike = (part["passes"] == part["human"]).astype(float)
        for measure, kept, top in (
            ("accuracy", part, alike),
            ("true positive rate", part[part["human"] == 1], part["passes"]),
            ("false positive rate", part[part["human"] == 0], part["passes"]),
        ):
            rates = estimate(kept, ["judge"], top=top[kept.index], share=True, level=level)
            row = rates.iloc[0] if len(rates) else pd.Series({"n": 0, "too_few": True})
            ends = (row.get("too_few"), row["n"], row.get("low"), row.get("high"), lost)
            tables.append((judge, measure, row.get("value", np.nan), threshold, *ends))
        x, y = part["passes"].to_numpy(float), part["human"].to_numpy(float)
        beyond = _Jackknife.of(part, lambda x, y: np.array([_kappa(x, y)]), x, y)
        low, high = beyond.by_fisher(level)
        ends = (beyond.clusters < FEW_CLUSTERS, len(part), low[0], high[0], lost)
        tables.append((judge, "kappa", beyond.value[0], threshold, *ends))
    columns = "judge measure value threshold too_few n low high no_verdict".split()
    return pd.DataFrame(tables, columns=columns)


def pass_shares(
    scores: pd.DataFrame,
    human: pd.DataFrame,
    *,
    thresholds: Mapping[str, float],
    level: float = 0.95,
) -> pd.DataFrame:
    """Estimate the share of answers that people would pass, in four ways for each judge.

    The judge graded all answers, people a random part of them.

    | estimate | meaning |
    |---|---|
    | judge alone | the judge's share of passes |
    | people alone | the share of the labelled answers |
    | Rogan-Gladen | the judge's share, corrected by its true and false positive rates |
    | prediction-powered | the judge's share, corrected by its error on the labelled answers |

    Rogan-Gladen is missing if both rates are equal, because the judge then says nothing. Columns:
    judge, estimate, value, too_few, n (answers), n_human (labelled), low, high, no_verdict (answers
    without the judge's grade). Variances are clustered by question. Source: Rogan and Gladen 1978;
    Angelopoulos, Duchi and Zrnic 2023 (arXiv 2311.01453).
    """
    rows = labelled_passes(scores, human, unlabelled=True)
    tables = []
    for judge, every in rows.groupby("judge", sort=True):
        part = every[every["said"].notna()]
        if part.empty:
            empty = {"judge": judge, "estimate": _ESTIMATES, "value": np.nan, "too_few": True}
            empty |= {"n": 0, "n_human": 0, "low": np.nan, "high": np.nan}
            tables.append(pd.DataFrame({**empty, "no_verdict": len(every)}))
            continue
        f = (part["said"] >= thresholds[str(judge)]).to_numpy(float)
        y = part["human"].to_numpy(float)
        number = pd.factorize(part["question_id"])[0]
        both = tuned(y, f, number)
        rate, variance = rogan_gladen(f, y, number)
        value, low, high, _ = corrected_shares(
            np.array([both.human, rate, both.value]),
            np.array([both.human_variance, variance, both.variance]),
            both.clusters,
            both.clusters - np.array([1.0, 1.0, 2.0]),
            len(f),
            level=level,
        )
        judged = estimate(part, ["judge"], top=pd.Series(f, part.index), share=True, level=level)
        alone = judged.iloc[0]
        few = (both.clusters < FEW_CLUSTERS) | ~np.isfinite(value)
        table = {
            "judge": judge,
            "estimate": _ESTIMATES,
            "value": [alone["value"], *value],
            "too_few": [alone["too_few"], *few],
            "n": len(f),
            "n_human": both.n_human,
            "low": [alone["low"], *low],
            "high": [alone["high"], *high],
            "no_verdict": len(every) - len(part),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def rogan_gladen(judge: np.ndarray, human: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Return the share of passes that `judge` amounts to, corrected by its errors; its variance.

    Both are 0 and 1; `human` is missing where nobody labelled. The estimate is
    (p - F) / (S - F), with p the judge's share, S and F its true and false positive rates.

    >>> judge = np.array([1, 1, 0, 0, 1, 0, 1, 1])
    >>> human = np.array([1, 0, 0, 1, 1, 0, np.nan, np.nan])
    >>> round(rogan_gladen(judge, human, np.arange(8))[0], 3)
    0.875
    """
    f, known = np.asarray(judge, float), np.isfinite(human)
    good, bad = known & (human == 1), known & (human == 0)
    if not (good.any() and bad.any()):
        return np.nan, np.nan
    share, true, false = f.mean(), f[good].mean(), f[bad].mean()
    gap = true - false
    if abs(gap) < 1e-12:
        return np.nan, np.nan
    value = (share - false) / gap
    pull = (f - share) / len(f)
    pull = pull - value * np.where(good, f - true, 0) / good.sum()
    pull = (pull - (1 - value) * np.where(bad, f - false, 0) / bad.sum()) / gap
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], pull)
    clusters = len(np.unique(np.asarray(cluster)[known]))
    if clusters < 2:
        return float(value), np.nan
    return float(value), float(sums @ sums * clusters / (clusters - 1))


def best_threshold(rows: pd.DataFrame) -> float:
    """Return the score in `said` with the greatest true less false positive rate on `human`.

    Of several it returns the least. Raises FrameError if people passed all answers, or none.
    """
    judged, human = rows["said"].to_numpy(float), rows["human"].to_numpy(float)
    if not ((human == 1).any() and (human == 0).any()):
        raise FrameError(
            f"people passed {int((human == 1).sum())} of {len(rows)} answers in one half of the"
            " questions; label some of each, or give `thresholds`",
            rows=rows,
        )
    levels = np.unique(judged)
    passes = judged[None, :] >= levels[:, None]
    gap = passes[:, human == 1].mean(axis=1) - passes[:, human == 0].mean(axis=1)
    return float(levels[int(np.argmax(np.round(gap, 12)))])


def icc(ratings: np.ndarray) -> float:
    """Return ICC(2,1) of a table of answers by graders: absolute agreement of single grades.

    Source: Shrout and Fleiss 1979, whose example this is.

    >>> ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8],
    ...                     [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    >>> round(icc(ratings), 2)
    0.29
    """
    n, k = ratings.shape
    mean = ratings.mean()
    rows = k * ((ratings.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((ratings.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    rest = ratings - ratings.mean(axis=1, keepdims=True) - ratings.mean(axis=0) + mean
    error = (rest**2).sum() / ((n - 1) * (k - 1))
    below = rows + (k - 1) * error + k * (columns - error) / n
    return float((rows - error) / below) if below > 1e-12 else np.nan


def graded(scores: pd.DataFrame, human: pd.DataFrame, *, unlabelled: bool = False) -> pd.DataFrame:
    """Return a row for each judge and answer that people graded: judge, the key, said and human.

    `said` is missing where the judge was asked and gave no grade, `human` for the answers that
    people did not grade, if `unlabelled`. Raises FrameError where both
    share no answer.
    """
    scores, human = same_ids(
        on_questions(check(scores, "scores")), on_questions(check(human, "scores"))
    )
    rows = beside(scores, human, KEY, "score")
    return rows if unlabelled else rows[rows["human"].notna()].reset_index(drop=True)


def labelled_passes(
    scores: pd.DataFrame, human: pd.DataFrame, *, unlabelled: bool = False
) -> pd.DataFrame:
    """Return `graded` with people's two values as 0 and 1; if `unlabelled`, unlabelled answers too.

    Several people's labels of one answer count as what most of them say, a draw as a pass. Raises
    FrameError for grades of more than two values.
    """
    values = np.sort(human["score"].dropna().astype(float).unique())
    if len(values) != 2:
        raise FrameError(
            f"people's labels have {len(values)} values ({', '.join(map(str, values[:5]))});"
            " expected two, for fail and pass",
            rows=human,
        )
    passes = (human["score"].astype(float) == values[1]).astype(float)
    human = human.assign(score=passes.where(human["score"].notna()))
    rows = graded(scores, human, unlabelled=unlabelled)
    labels = (rows["human"] >= 0.5).astype(float)
    return rows.assign(human=labels.where(rows["human"].notna()))


def _every_two(scores: pd.DataFrame) -> pd.DataFrame:
    """Return every two grades of one answer by different graders, in both directions."""
    known = scores[scores["score"].notna()].astype({"score": float})
    known = known.reset_index(drop=True)
    known["place"] = known.index
    both = known[[*KEY, "judge", "score", "place"]].merge(
        known[[*KEY, "judge", "score", "place"]], on=KEY, suffixes=("", "_other")
    )
    named = both["judge"].notna() & (both["judge"] == both["judge_other"])
    both = both[(both["place"] != both["place_other"]) & ~named]
    return both.rename(columns={"score": "said", "score_other": "human"}).reset_index(drop=True)


def _side_by_side(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each answer, with each judge's grade beside people's."""
    wide = rows.pivot_table(
        index=[*KEY, "human"], columns="judge", values="said", dropna=False, observed=True
    )
    wide = wide.reindex(columns=sorted(rows["judge"].unique())).reset_index()
    return wide[wide["human"].notna()].dropna(
        subset=[name for name in wide.columns if name not in (*KEY, "human")], how="all"
    )


def _coefficients(
    x: np.ndarray, y: np.ndarray, weights: Literal["quadratic", "linear"]
) -> np.ndarray:
    """Return Spearman's and Kendall's correlation, the weighted kappa and the ICC."""
    return np.array([_spearman(x, y), _kendall(x, y), _kappa(x, y, weights), _icc(x, y)])


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.stats import rankdata

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    one, two = (ranks - ranks.mean() for ranks in (rankdata(x), rankdata(y)))
    return float(one @ two / np.sqrt((one @ one) * (two @ two)))


def _kendall(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.stats import kendalltau

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(kendalltau(x, y).statistic)


def _icc(x: np.ndarray, y: np.ndarray) -> float:
    return icc(np.column_stack([x, y])) if len(x) > 1 else np.nan


def _kappa(
    x: np.ndarray, y: np.ndarray, weights: Literal["quadratic", "linear"] = "quadratic"
) -> float:
    """Return Cohen's weighted kappa; grades need not be whole numbers."""
    if weights == "linear":
        ours, of = np.unique(x, return_counts=True)
        theirs, by = np.unique(y, return_counts=True)
        seen = np.abs(x - y).sum()
        chance = of @ np.abs(np.subtract.outer(ours, theirs)) @ by / max(len(x), 1)
    else:
        seen = ((x - y) ** 2).sum()
        chance = (x**2).sum() + (y**2).sum() - 2 * x.sum() * y.sum() / max(len(x), 1)
    return float(1 - seen / chance) if chance > 1e-12 else np.nan


class _Jackknife:
    """Values of a function of columns, and their variances by leaving out each question in turn."""

    def __init__(self, value: np.ndarray, variance: np.ndarray, clusters: int) -> None:
        self.value, self.variance, self.clusters = value, variance, clusters
        self.dof = np.full(len(value), clusters - 1.0)

    @classmethod
    def of(
        cls, rows: pd.DataFrame, function: Callable[..., np.ndarray], *columns: np.ndarray
    ) -> _Jackknife:
        """Evaluate `function` on the columns, and without each question of `rows`."""
        number = pd.factorize(rows["question_id"])[0]
        clusters = int(number.max(initial=-1)) + 1
        group = number % min(max(clusters, 1), _GROUPS)
        value = function(*columns)
        count = int(group.max(initial=-1)) + 1
        if count < 2:
            return cls(value, np.full(len(value), np.nan), clusters)
        less = np.array(
            [
                function(*(column[group != left_out] for column in columns))
                for left_out in range(count)
            ]
        )
        variance = ((less - less.mean(axis=0)) ** 2).sum(axis=0) * (count - 1) / count
        return cls(value, variance, min(clusters, count))

    def by_fisher(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of intervals that stay in -1 to 1; missing where nothing varies."""
        inside = np.abs(self.value) < 1 - 1e-12
        r = np.where(inside, self.value, np.nan)
        error = np.sqrt(np.where(self.variance > 1e-24, self.variance, np.nan)) / (1 - r**2)
        half = t_quantile(self.dof, level) * error
        return np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)


def _level(values: pd.Series) -> pd.Series:
    """Return the level of each grade: whole points, or the middles of ten bins of equal width."""
    rounded = values.round()
    if rounded.nunique() <= _LEVELS and (values.max() - values.min()) >= 1:
        return rounded
    low, high = values.min(), values.max()
    if low == high:
        return values
    width = (high - low) / _LEVELS
    at = np.minimum(((values - low) / width).astype(int), _LEVELS - 1)
    return (low + width * (at + 0.5)).round(6)


def in_first_half(question: object, seed: int = 0) -> bool:
    """Return whether a question is in the half on which thresholds are chosen."""
    return hashlib.sha256(f"{seed}:{question}".encode()).digest()[0] < 128
