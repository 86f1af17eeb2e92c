"""Where the noise of judging comes from, and what one more of each would take away.

What a game is worth to one of its two models varies, around the mean of its judge and order, from
question to question, from one sample of the answers to the next, from judge to judge, from one
order to the other, and from draw to draw of one and the same request. Each is one variance, found
from all pairs of games that share what stands above it and differ in what it names: half the mean
squared difference (Henderson's first method; Searle, Casella and McCulloch 1992, chapter 5). Such
moments are unbiased without any distribution, also where games are missing (but for what the means
taken off cost `order`: one part in as many as there are items), and can be negative, which means:
none to be seen.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check
from lmjudge.stats.grouping import by_name, on_questions, worth_of
from lmjudge.stats.intervals import t_quantile

SOURCES = ("draw", "order", "judge", "answers", "question", "leaning")
_NESTED = SOURCES[:5]


def components(games: pd.DataFrame, *, draws: int = 1, level: float = 0.95) -> pd.DataFrame:
    """The variance of what a game is worth (win 1, tie 1/2, loss 0), by where it comes from.

    Sources, from the innermost: draw (the same request again), order (which answer stands first),
    judge, answers (other samples of both models' answers), question. What never varies here (one
    draw, one order, one judge, one sample) can't be told apart from the next source, which then
    holds it: its variance is missing. The mean of each judge, order and pair of models is taken
    off first. How far judges differ in it is the source leaning: what they like of a model, which
    no number of questions takes out; it is missing with one judge, and has no interval. A judge's
    lean to a place is no noise, nor is it skill: `order_flips` says in
    which share of the pairs judged in both orders the verdict changed with it. `draws` says how
    many draws of the judge stand for each sample of the answers (the `samples=` of `judge_pairs`).

    Columns: source, variance, share (of those that are known), n (pairs of games it rests on; of
    leaning, pairs of judges), low, high (delete-one-question jackknife), no_verdict (games; left
    out), order_flips (the same in every row; missing where no pair was judged in both orders).
    Raises FrameError for games on fewer than three questions.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws!r}; expected how often each was asked, 1 or more")
    shown = by_name(on_questions(check(games, "games")))
    worth = worth_of(shown["winner"])
    rows = shown.assign(worth=worth, answers=shown["sample"].astype(int) // draws)[worth.notna()]
    meeting = ["model_a", "model_b", "turn"]
    number, found = pd.factorize(rows["question_id"])
    if len(found) < 3:
        raise FrameError(
            f"the games with a verdict are on {len(found)} questions; variances between questions"
            " take three or more",
            rows=games,
        )
    leaning, judges = _leaning(rows, meeting)
    centre = rows.groupby([*meeting, "judge", "turned"], dropna=False)["worth"].transform("mean")
    rows = rows.assign(worth=rows["worth"] - centre, question=number)
    nested = [
        [*meeting, "question", "answers", "judge", "turned"],
        [*meeting, "question", "answers", "judge"],
        [*meeting, "question", "answers"],
        [*meeting, "question"],
    ]
    count = len(found)
    squares, pairs = _within(rows, nested, count)
    sums = _sums(rows, meeting, count)
    whole = _split(squares.sum(axis=1, keepdims=True), pairs.sum(axis=1, keepdims=True), sums, 0)
    # Each column is what remains without one question.
    left, _ = _split(
        squares.sum(axis=1, keepdims=True) - squares,
        pairs.sum(axis=1, keepdims=True) - pairs,
        sums,
        1,
    )
    spread = ((left - left.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    error = np.sqrt((count - 1) / count * spread)
    half = t_quantile(np.array(count - 1), level) * error
    variance = np.append(whole[0][:, 0], leaning)
    half = np.append(half, np.nan)
    number_of = np.append(whole[1][:, 0].round().astype(int), judges)
    known = np.maximum(variance, 0)
    return pd.DataFrame(
        {
            "source": SOURCES,
            "variance": variance,
            "share": known / (np.nansum(known) or np.nan),
            "n": number_of,
            "low": variance - half,
            "high": variance + half,
            "no_verdict": int(worth.isna().sum()),
            "order_flips": _flipped(rows.assign(worth=worth)),
        }
    )


def _leaning(rows: pd.DataFrame, meeting: list[str]) -> tuple[float, int]:
    """The variance between judges of their mean worth of a meeting, and the pairs of judges.

    Of the mean squares between judges and of their residuals (two-way, a question a row), over the
    questions that all judges of a meeting judged.
    """
    total, pairs = 0.0, 0
    for _, part in rows.groupby(meeting, dropna=False):
        by = part.groupby(["question_id", "judge"], dropna=False)["worth"].mean().unstack("judge")
        known = by.dropna().to_numpy()
        questions, judges = known.shape
        if questions < 2 or judges < 2:
            continue
        residual = known - known.mean(axis=0) - known.mean(axis=1, keepdims=True) + known.mean()
        within = (residual**2).sum() / ((questions - 1) * (judges - 1))
        pairs += judges * (judges - 1) // 2
        found = known.mean(axis=0).var(ddof=1) - within / questions
        total += found * (judges * (judges - 1) // 2)
    return (total / pairs if pairs else np.nan), pairs


def _flipped(rows: pd.DataFrame) -> float:
    """The share of the pairs judged in both orders whose mean verdicts in the two differ."""
    pair = ["question_id", "turn", "model_a", "model_b", "judge", "sample"]
    by_order = rows.groupby([*pair, "turned"], dropna=False)["worth"].mean().unstack("turned")
    both = by_order.dropna()
    return float((both[False] != both[True]).mean()) if both.shape[1] == 2 else np.nan


def _pairs(
    total: np.ndarray, size: np.ndarray, square: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of half the squared differences of all pairs in each part, and how many there are."""
    return (size * square - total**2) / 2, size * (size - 1) / 2


def _within(
    rows: pd.DataFrame, nested: list[list[str]], questions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Arrays [level, question]: half squared differences, and pairs, that each level adds."""
    squares, pairs = [], []
    for columns in nested:
        part = rows.groupby(columns, dropna=False).ngroup().to_numpy()
        total, size, square = (
            np.bincount(part, weight) for weight in (rows["worth"], None, rows["worth"] ** 2)
        )
        owner = np.zeros(len(total), dtype=int)
        owner[part] = rows["question"]
        half, many = _pairs(total, size, square)
        squares.append(np.bincount(owner, half, questions))
        pairs.append(np.bincount(owner, many, questions))
    return np.diff(squares, axis=0, prepend=0), np.diff(pairs, axis=0, prepend=0)


def _sums(rows: pd.DataFrame, meeting: list[str], questions: int) -> np.ndarray:
    """An array [3, meeting, question] of what the worths sum to, how many they are, and squares."""
    part = rows.groupby(meeting, dropna=False).ngroup().to_numpy()
    cell, shape = part * questions + rows["question"].to_numpy(), (part.max() + 1, questions)
    weights = (rows["worth"], np.ones(len(rows)), rows["worth"] ** 2)
    made = [np.bincount(cell, weight, shape[0] * questions).reshape(shape) for weight in weights]
    return np.array(made)


def _split(
    squares: np.ndarray, pairs: np.ndarray, sums: np.ndarray, without: int
) -> tuple[np.ndarray, np.ndarray]:
    """The variance of each source, and the pairs that it rests on: a column for all questions, or
    one without each."""
    kept = sums.sum(axis=2, keepdims=True) - without * sums[:, :, : sums.shape[2] if without else 1]
    half, many = (part.sum(axis=0) for part in _pairs(*kept))
    squares = np.vstack([squares, half - squares.sum(axis=0)])
    pairs = np.vstack([pairs, many - pairs.sum(axis=0)])
    variances, before = np.full(squares.shape, np.nan), np.zeros(squares.shape[1])
    for at in range(len(_NESTED)):
        there = pairs[at] > 0.5
        reached = np.divide(squares[at], pairs[at], out=before.copy(), where=there)
        variances[at] = np.where(there, reached - before, np.nan)
        before = reached
    return variances, pairs
