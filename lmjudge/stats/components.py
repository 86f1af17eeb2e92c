"""Split the variance of judgments into its sources, and plan the power of a study.

The worth of a game to one of its models varies around the mean of its judge and order. The sources
are the question, the sample of the answers, the judge, the order, and the draw of one and the same
request. Each variance is half the mean squared difference of all pairs of games that share every
source above it and differ in it (Henderson's first method; Searle, Casella and McCulloch 1992,
chapter 5). Such moments are unbiased for any distribution, also with games missing, except that the
means taken off cost `order` one part in as many as there are items. They can be negative, which
means that none is visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check
from lmjudge.stats.grouping import by_name, check_columns, on_questions, worth_of
from lmjudge.stats.intervals import t_quantile

SOURCES = ("draw", "order", "judge", "answers", "question", "leaning")
_NESTED = SOURCES[:5]


def components(games: pd.DataFrame, *, draws: int = 1, level: float = 0.95) -> pd.DataFrame:
    """Return the variance of a game's worth (win 1, tie 1/2, loss 0), by its source.

    | source | what varies |
    |---|---|
    | draw | the same request, asked again |
    | order | which answer is shown first |
    | judge | the judge |
    | answers | other samples of both models' answers |
    | question | the question |
    | leaning | how much judges differ in their mean for a pair of models |

    A source that never varies here (one draw, one order, one judge, one sample) has a missing
    variance; the next source contains it. The mean of each judge, order and pair of models is
    subtracted first. More questions do not reduce leaning; it is missing with one judge and has no
    interval. `draws` says how many draws of the judge each sample of the answers has (the
    `samples=` of `judge_pairs`).

    Columns: source, variance, share (of the known variances), n (pairs of games, or of judges for
    leaning), low, high (delete-one-question jackknife), no_verdict (games; left out), order_flips
    (the share of pairs judged in both orders whose verdict changed; the same in every row, and
    missing without such pairs). A judge's lean to a position is neither noise nor skill. Raises
    FrameError for games on fewer than three questions.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws!r}; expected how often each was asked, 1 or more")
    shown = by_name(on_questions(check(games, "games")))
    worth = worth_of(shown["winner"])
    rows = shown.assign(worth=worth, answers=shown["sample"].astype(int) // draws)[worth.notna()]
    meeting = ["model_a", "model_b", "turn"]
    number, questions_seen = pd.factorize(rows["question_id"])
    if len(questions_seen) < 3:
        raise FrameError(
            f"the games with a verdict are on {len(questions_seen)} questions; variances between"
            " questions take three or more",
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
    count = len(questions_seen)
    squares, pairs = _within(rows, nested, count)
    sums = _sums(rows, meeting, count)
    estimate = _split(squares.sum(axis=1, keepdims=True), pairs.sum(axis=1, keepdims=True), sums, 0)
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
    variance = np.append(estimate[0][:, 0], leaning)
    half = np.append(half, np.nan)
    number_of = np.append(estimate[1][:, 0].round().astype(int), judges)
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
    """Return the variance between judges of their mean vote on two models, and the pairs of judges.

    It follows from the mean squares between judges and of the residuals (two-way, with a question
    in each row), on the questions that all judges of these two models judged.
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
        variance = known.mean(axis=0).var(ddof=1) - within / questions
        total += variance * (judges * (judges - 1) // 2)
    return (total / pairs if pairs else np.nan), pairs


def _flipped(rows: pd.DataFrame) -> float:
    """Return the share of pairs judged in both orders whose mean verdict the order changes."""
    pair = ["question_id", "turn", "model_a", "model_b", "judge", "sample"]
    by_order = rows.groupby([*pair, "turned"], dropna=False)["worth"].mean().unstack("turned")
    both = by_order.dropna()
    return float((both[False] != both[True]).mean()) if both.shape[1] == 2 else np.nan


def _pairs(
    total: np.ndarray, size: np.ndarray, square: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the halved squared differences of all pairs in each part, summed, and their number."""
    return (size * square - total**2) / 2, size * (size - 1) / 2


def _within(
    rows: pd.DataFrame, nested: list[list[str]], questions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return arrays [level, question] of half squared differences and of pairs, by level."""
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
    """Return an array [3, pair of models, question]: sum, count and sum of squares of the votes."""
    part = rows.groupby(meeting, dropna=False).ngroup().to_numpy()
    cell, shape = part * questions + rows["question"].to_numpy(), (part.max() + 1, questions)
    weights = (rows["worth"], np.ones(len(rows)), rows["worth"] ** 2)
    sums = [np.bincount(cell, weight, shape[0] * questions).reshape(shape) for weight in weights]
    return np.array(sums)


def _split(
    squares: np.ndarray, pairs: np.ndarray, sums: np.ndarray, without: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each source, and the number of pairs behind it.

    With one column it is for all questions; with many, each leaves one question out.
    """
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


# A judge that follows the order in a share f of its verdicts, and says one of two sides at random
# in the others, flips f + (1 - f) / 2 of its pairs: three quarters where f is a half.
FOLLOWS_ORDER = 0.75
# Differences of means that are equal but for floating-point sums.
_NO_DIFFERENCE = 1e-9


def power(
    variances: pd.DataFrame,
    *,
    questions: Sequence[int] = (80,),
    answers: Sequence[int] = (1,),
    judges: Sequence[int] = (1,),
    orders: Sequence[int] = (1, 2),
    draws: Sequence[int] = (1, 2),
    per_call: float | None = None,
    per_answer: float = 0.0,
    chance: float = 0.8,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the smallest gap that each design can detect, and its cost: a row per combination.

    `variances` is the result of `components`. Gaps are tested at 1 - `level`, two-sided. The
    variance of a win rate over n questions is

        (question + (answers + (judge + (order + draw / draws) / orders) / judges) / answers) / n

    plus leaning / judges, which more questions do not reduce. Without a leaning in `variances` (one
    judge) it is 0, and the result says nothing about other judges. With one order, the judge's lean
    to a position is in every win rate too, and more questions do not remove it.

    | column | unit | meaning |
    |---|---|---|
    | questions, answers, judges, orders, draws | counts | the design |
    | error | share | standard error of the win rate |
    | smallest_gap | share | distance from one half, found with probability `chance` |
    | calls | count | calls of judges |
    | dollars | $ | `per_call` for calls and `per_answer` for answers (two a question and sample) |
    | information | ratio | 1 / error**2 per dollar, or per call; the best design has 1 |

    error, smallest_gap and information are missing if no verdict varied, or if `order_flips` is
    three quarters or more: such a judge follows the order in at least half of its verdicts, and its
    small variance is no power. Rows are in the order given. Raises ValueError for an impossible
    design. Source: Cochran 1977, sections 10.6 and 11.9.

    >>> found = pd.DataFrame({"source": ["draw", "order", "judge", "answers", "question"],
    ...                       "variance": [0.04, np.nan, np.nan, np.nan, 0.12]})
    >>> made = power(found, questions=[100], orders=[1], draws=[1, 4])
    >>> made[["error", "smallest_gap", "calls"]].round(3).values.tolist()
    [[0.04, 0.112, 100.0], [0.036, 0.101, 400.0]]
    """
    part = _variances(variances)
    flips = variances["order_flips"].max() if "order_flips" in variances.columns else np.nan
    powerless = sum(part.values()) == 0 or flips >= FOLLOWS_ORDER
    rows = []
    for n, s, j, o, r in product(questions, answers, judges, orders, draws):
        if min(n, s, j, o, r) < 1 or o > 2:
            raise ValueError(
                f"a design has {n} questions, {s} answers, {j} judges, {o} orders and {r} draws;"
                " expected one or more of each, and one or two orders"
            )
        draw = part["order"] + part["draw"] / r
        each = part["question"] + (part["answers"] + (part["judge"] + draw / o) / j) / s
        calls = n * s * j * o * r
        dollars = None if per_call is None else calls * per_call + 2 * n * s * per_answer
        error = np.nan if powerless else np.sqrt(each / n + part["leaning"] / j)
        rows.append((n, s, j, o, r, error, calls, dollars))
    names = ["questions", "answers", "judges", "orders", "draws", "error", "calls", "dollars"]
    table = pd.DataFrame(rows, columns=names).astype({"error": float, "dollars": float})
    table.insert(6, "smallest_gap", table["error"] * _reach(chance, level))
    spent = table["calls"] if per_call is None else table["dollars"]
    with np.errstate(divide="ignore", invalid="ignore"):
        bought = 1 / (table["error"] ** 2 * spent)
    return table.assign(information=bought / bought.max())


def labels_needed(
    compared: pd.DataFrame, *, chance: float = 0.8, level: float | None = None
) -> pd.DataFrame:
    """Return how many more human labels would tell each two judges (or models) apart.

    `compared` is the result of `compare_judges` or `compare_models`, at its `level`. With the
    number needed, an interval excludes 0 with probability `chance`, on average over the possible
    true differences (assurance; O'Hagan, Stevens and Campbell 2005). These are normal about the
    measured difference, shrunk by the factor d**2 / (d**2 + error**2), because differences that
    stand out in a pilot are too large on average.

    Columns: those before difference in `compared`; difference, n, low, high, needed (labels in
    all), more (beyond n; 0 if they suffice), at_best (needed if the true difference is the end of
    its interval farthest from 0). Numbers are missing without an interval or a difference (below
    1e-9).

    >>> seen = pd.DataFrame({"judge_a": ["x"], "judge_b": ["y"], "difference": [0.08], "n": [100],
    ...                      "low": [0.02], "high": [0.14]})
    >>> labels_needed(seen)[["needed", "more", "at_best"]].astype(int).values.tolist()
    [[223, 123, 38]]
    """
    needs = ["difference", "n", "low", "high"]
    do = "give what compare_judges or compare_models returned"
    check_columns(list(compared.columns), needs, "the comparison", do)
    from scipy.stats import norm

    level = compared.attrs.get("level", 0.95) if level is None else level
    reach, edge = _reach(chance, level), norm.ppf((1 + level) / 2)
    width = (compared["high"] - compared["low"]) / 2
    error = width / edge
    seen = compared["difference"].where(compared["difference"].abs() > _NO_DIFFERENCE).abs()
    needed = np.ceil(compared["n"] * _assured(seen, error, chance, edge))
    farthest = compared[["low", "high"]].abs().max(axis=1)
    firsts = list(compared.columns[: list(compared.columns).index("difference")])
    return compared[[*firsts, *needs]].assign(
        needed=needed,
        more=(needed - compared["n"]).clip(lower=0),
        at_best=np.ceil(compared["n"] * (reach * error / farthest) ** 2),
    )


def _assured(seen: pd.Series, error: pd.Series, chance: float, edge: float) -> np.ndarray:
    """Return the factor of labels at which an interval excludes 0 with this chance."""
    from scipy.special import ndtr

    nodes, weights = np.polynomial.hermite_e.hermegauss(81)
    weights = weights / weights.sum()
    z = (seen / error).to_numpy(float)[:, None]
    shrunk = z**2 / (z**2 + 1)
    true = z * shrunk + np.sqrt(shrunk) * nodes  # in errors of the study that there is
    low, high = np.full(len(z), -10.0), np.full(len(z), 40.0)  # of the logarithm
    for _ in range(60):
        middle = (low + high) / 2
        gap = true * np.exp(middle / 2)[:, None]
        enough = (ndtr(gap - edge) + ndtr(-gap - edge)) @ weights >= chance
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(np.isfinite(z[:, 0]), np.exp(high), np.nan)


def _reach(chance: float, level: float) -> float:
    """Return how many standard errors a difference must measure to be found with this chance."""
    if not (0 < chance < 1 and 0 < level < 1):
        raise ValueError(
            f"chance is {chance!r} and level {level!r}; expected numbers between 0 and 1, such as"
            " 0.8 and 0.95"
        )
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2) + norm.ppf(chance))


def _variances(means: pd.DataFrame) -> dict[str, float]:
    """Return the variance of each source, 0 where it is missing or negative."""
    needed = set(SOURCES) - {"leaning"}
    there = set(means["source"]) if {"source", "variance"} <= set(means.columns) else set()
    if there - {"leaning"} != needed:
        raise FrameError(
            f"variances come from {', '.join(SOURCES)}, one row each; give what `components` found",
            columns=list(means.columns),
        )
    known = means.set_index("source")["variance"].astype(float)
    known = known.reindex(list(SOURCES)).fillna(0.0)
    return {str(name): max(value, 0.0) for name, value in known.items()}
