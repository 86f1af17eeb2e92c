"""Where the noise of judging comes from, and what one more of each would take away.

What a game is worth to one of its two models varies, around the mean of its judge and order, from
question to question, from one sample of the answers to the next, from judge to judge, from one
order to the other, and from draw to draw of one and the same request. Each is one variance, found
from all pairs of games that share what stands above it and differ in what it names: half the mean
squared difference (Henderson's first method; Searle, Casella and McCulloch 1992, chapter 5). Such
moments are unbiased without any distribution, also where games are missing, and can be negative,
which means: none to be seen.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check
from lmjudge.stats.grouping import by_name

SOURCES = ("draw", "order", "judge", "answers", "question")


def components(games: pd.DataFrame, *, draws: int = 1, level: float = 0.95) -> pd.DataFrame:
    """The variance of what a game is worth (win 1, tie 1/2, loss 0), by where it comes from.

    Sources, from the innermost: draw (the same request again), order (which answer stands first),
    judge, answers (other samples of both models' answers), question. What never varies here (one
    draw, one order, one judge, one sample) can't be told apart from the next source, which then
    holds it: its variance is missing. The mean of each judge, order and pair of models is taken
    off first, so that a judge's lean to a place is no noise. `draws` says how many draws of the
    judge stand for each sample of the answers (the `samples=` of `judge_pairs`).

    Columns: source, variance, share (of those that are known), n (pairs of games it rests on), low,
    high (delete-one-question jackknife), no_verdict (games; left out). Raises FrameError for games
    on fewer than three questions.
    """
    from scipy.special import stdtrit

    if draws < 1:
        raise ValueError(f"draws is {draws!r}; expected how often each was asked, 1 or more")
    shown = by_name(check(games, "games"))
    worth = shown["winner"].map({"model_a": 1.0, "tie": 0.5, "model_b": 0.0}).astype(float)
    rows = shown.assign(worth=worth, answers=shown["sample"].astype(int) // draws)[worth.notna()]
    meeting = ["model_a", "model_b", "turn"]
    number, found = pd.factorize(rows["question_id"])
    if len(found) < 3:
        raise FrameError(
            f"the games with a verdict are on {len(found)} questions; variances between questions"
            " take three or more",
            rows=games,
        )
    centre = rows.groupby([*meeting, "judge", "turned"], dropna=False)["worth"].transform("mean")
    rows = rows.assign(worth=rows["worth"] - centre, question=number)
    nested = [
        [*meeting, "question", "answers", "judge", "turned"],
        [*meeting, "question", "answers", "judge"],
        [*meeting, "question", "answers"],
        [*meeting, "question"],
    ]
    squares, pairs = _within(rows, nested, len(found))
    whole = _split(squares.sum(axis=1), pairs.sum(axis=1), rows, meeting, None)
    left = np.array(
        [
            _split(
                squares.sum(axis=1) - squares[:, q],
                pairs.sum(axis=1) - pairs[:, q],
                rows,
                meeting,
                q,
            )[0]
            for q in range(len(found))
        ]
    )
    count = len(found)
    error = np.sqrt((count - 1) / count * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    half = stdtrit(count - 1, (1 + level) / 2) * error
    variance, number_of = whole
    return pd.DataFrame(
        {
            "source": SOURCES,
            "variance": variance,
            "share": np.maximum(variance, 0) / np.nansum(np.maximum(variance, 0)),
            "n": number_of,
            "low": variance - half,
            "high": variance + half,
            "no_verdict": int(worth.isna().sum()),
        }
    )


def _pairs(parts: pd.Series, sizes: pd.Series, squares: pd.Series) -> tuple[pd.Series, pd.Series]:
    """The sum of half the squared differences of all pairs in each part, and how many there are."""
    return (sizes * squares - parts**2) / 2, sizes * (sizes - 1) / 2


def _within(
    rows: pd.DataFrame, nested: list[list[str]], questions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Arrays [level, question]: half squared differences, and pairs, that each level adds."""
    squares, pairs = [], []
    for columns in nested:
        made = rows.assign(square=rows["worth"] ** 2).groupby(columns, dropna=False)
        sums = made.agg(total=("worth", "sum"), size=("worth", "size"), square=("square", "sum"))
        half, many = _pairs(sums["total"], sums["size"], sums["square"])
        owner = sums.index.get_level_values("question").to_numpy()
        squares.append(np.bincount(owner, half, questions))
        pairs.append(np.bincount(owner, many, questions))
    return np.diff(squares, axis=0, prepend=0), np.diff(pairs, axis=0, prepend=0)


def _split(
    squares: np.ndarray,
    pairs: np.ndarray,
    rows: pd.DataFrame,
    meeting: list[str],
    without: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The variance of each source, and the pairs that it rests on, without one question."""
    kept = rows if without is None else rows[rows["question"] != without]
    made = kept.assign(square=kept["worth"] ** 2).groupby(meeting, dropna=False)
    sums = made.agg(total=("worth", "sum"), size=("worth", "size"), square=("square", "sum"))
    half, many = _pairs(sums["total"], sums["size"], sums["square"])
    squares = np.append(squares, half.sum() - squares.sum())
    pairs = np.append(pairs, many.sum() - pairs.sum())
    variances, before = np.full(len(SOURCES), np.nan), 0.0
    for at in range(len(SOURCES)):
        if pairs[at] > 0:
            reached = squares[at] / pairs[at]
            variances[at], before = reached - before, reached
    return variances, pairs.astype(int)
