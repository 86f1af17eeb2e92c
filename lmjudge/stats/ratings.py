"""Bradley-Terry ratings, and the shape that all ratings share."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError, InfiniteRating
from lmjudge.stats import resampling, sandwich
from lmjudge.stats.battles import Counts, Votes, batches, code, in_memory, tally
from lmjudge.stats.intervals import t_quantile
from lmjudge.stats.strengths import Fit, Ties, fit

Anchor = tuple[str, float] | None


def bradley_terry(
    votes: Votes,
    *,
    ties: Ties = "half",
    cluster: str | None = None,
    n_boot: int = 0,
    seed: int = 0,
    ridge: float = 0.0,
    anchor: Anchor = None,
    scale: float = 400,
    base: float = 10,
    initial: float = 1000,
    level: float = 0.95,
) -> pd.DataFrame:
    """Each model's rating by maximum likelihood, best first, with its interval and rank.

    `votes` is a frame or the path of a Parquet file; model_a, model_b and winner are read. The odds
    of one model over another are base ** (difference / scale). `ties` are half a win for each
    ("half"), or an outcome of their own ("davidson", Davidson 1970). The mean of the finite ratings
    is `initial`; an `anchor` (model, rating) shifts ratings and intervals alike for display: the
    widths remain those of ratings against the mean.

    Intervals are the sandwich's, robust to votes that are not as the model says, at `level`; with
    `n_boot` rounds they are percentiles of a bootstrap. `cluster` names a column (question_id,
    judge) whose rows are resampled, or counted as independent, only together; Student's quantile
    has one degree of freedom fewer than there are clusters. `ridge` takes ridge/2 times the sum of
    squared strengths (natural log-odds) from the likelihood, and makes every rating finite.

    Columns: model, rating, low, high, n (votes with a verdict), no_verdict, rank (1 + the number of
    models whose low is above this one's high). A model that only won or only lost has an infinite
    rating, half an interval, and is named in an InfiniteRating warning. Raises FrameError for
    groups of models that cannot be compared, unknown winners, self-play, and votes of which none
    has a verdict. Source: Chiang et al., arXiv 2403.04132, section 4.

    >>> votes = pd.DataFrame({"model_a": ["x"] * 10, "model_b": ["y"] * 10,
    ...                       "winner": ["model_a"] * 7 + ["model_b"] * 3})
    >>> rated = bradley_terry(votes)
    >>> rated["rating"].round(1).tolist()       # 400 / ln 10 * ln(7 / 3) = 147.2 apart
    [1073.6, 926.4]
    """
    if ties not in ("half", "davidson"):
        raise ValueError(f"ties is {ties!r}; expected 'half' or 'davidson'")
    if n_boot < 0:
        raise ValueError(f"n_boot is {n_boot!r}; expected a number of rounds, or 0 for none")
    names: dict[str, int] = {}
    if cluster is None:
        counts, rows = tally(batches(votes, names), names), None
    else:
        coded = code(in_memory(votes, [cluster]), names)
        counts = tally([coded], names)
        rows = sandwich.Rows.of(coded, cluster, names, counts.models)
    fitted = fit(counts, ties=ties, ridge=ridge)
    low, high = _limits(fitted.strength)
    if n_boot:
        rounds = resampling.bootstrap(
            fitted,
            [counts.models[at] for at in fitted.rated],
            rounds=n_boot,
            seed=seed,
            ridge=ridge,
            rows=rows,
        )
        low[fitted.rated], high[fitted.rated] = percentiles(rounds, level)
    else:
        meat, clusters = sandwich.of_clusters(fitted, rows) if rows else sandwich.of_battles(fitted)
        half = sandwich.errors(fitted, meat, clusters) * student(clusters, level)
        finite = fitted.strength[fitted.rated]
        low[fitted.rated], high[fitted.rated] = finite - half, finite + half
    _warn(counts, fitted)
    return rating_frame(
        counts, fitted.strength, low, high, anchor=anchor, scale=scale, base=base, initial=initial
    )


def rating_frame(
    counts: Counts,
    strength: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    anchor: Anchor,
    scale: float,
    base: float,
    initial: float,
) -> pd.DataFrame:
    """Strengths (natural log-odds, mean zero) as the frame of ratings, best first."""
    per_unit = scale / np.log(base)
    made = pd.DataFrame({"model": counts.models, "rating": initial + per_unit * strength})
    made["low"], made["high"] = initial + per_unit * low, initial + per_unit * high
    if anchor is not None:
        at = made["model"] == anchor[0]
        if not np.isfinite(made.loc[at, "rating"]).any():
            raise FrameError(
                f"the anchor {anchor[0]!r} has no finite rating here; the models are"
                f" {counts.models}",
                rows=made,
            )
        made[["rating", "low", "high"]] += anchor[1] - made.loc[at, "rating"].iloc[0]
    made["n"] = counts.battles
    made["no_verdict"] = counts.no_verdict
    made["rank"] = ranks(made["low"], made["high"])
    return made.sort_values(["rating", "model"], ascending=[False, True], ignore_index=True)


def ranks(low: pd.Series, high: pd.Series) -> pd.Series:
    """1 + the number of models whose low is above this one's high; missing where high is."""
    sure = np.sort(low.to_numpy(float)[low.notna()])
    above = len(sure) - np.searchsorted(sure, high.to_numpy(float), side="right")
    return pd.Series(above + 1, index=low.index, dtype="Int64").where(high.notna())


def percentiles(rounds: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The central `level` of each row of rounds; what is missing in a round counts as anything."""
    tail = (1 - level) / 2
    if np.isfinite(rounds).all():
        low, high = np.quantile(rounds, [tail, 1 - tail], axis=1)
        return low, high
    missing = np.isnan(rounds)
    low = np.quantile(np.where(missing, -np.inf, rounds), tail, axis=1, method="lower")
    high = np.quantile(np.where(missing, np.inf, rounds), 1 - tail, axis=1, method="higher")
    return low, high


def student(clusters: int, level: float) -> float:
    """Student's quantile for an interval at `level` from so many clusters."""
    return float(t_quantile(np.array(clusters - 1.0), level))


def _limits(strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intervals before any is known: an infinite strength is its own farther limit."""
    nothing = np.full(len(strength), np.nan)
    return np.where(strength == -np.inf, strength, nothing), np.where(
        strength == np.inf, strength, nothing
    )


def _warn(counts: Counts, fitted: Fit) -> None:
    for sign, what in ((np.inf, "never lost to"), (-np.inf, "never won against")):
        names = [counts.models[at] for at in np.flatnonzero(fitted.strength == sign)]
        if names:
            warnings.warn(
                InfiniteRating(
                    f"{', '.join(names)} {what} the {len(fitted.rated)} models that could be"
                    f" rated: the rating is {sign}; ridge= makes it finite",
                    models=names,
                ),
                stacklevel=3,
            )
