"""Estimators: functions from frames to a frame whose last columns are n, low, high, no_verdict.

Frames are given by position, everything else by keyword. The keywords are the same everywhere:

- `by` names the columns to group by, and `questions` has the categories for by="category".
- `ties` says how ties count.
- `level` is the level of the intervals.

`n` counts the rows that an estimate rests on, `no_verdict` those left out without a verdict.
"""

from lmjudge.stats.aggregation import ceiling, majority, scores_as_votes
from lmjudge.stats.battles import read_battles
from lmjudge.stats.bias import (
    attack_failures,
    length_bias,
    name_bias,
    position_bias,
    repeatability,
    self_preference,
)
from lmjudge.stats.compare import compare_judges, compare_models
from lmjudge.stats.interrater import agreement, agreement_by_gap, agreements, kappa
from lmjudge.stats.ratings import (
    bradley_terry,
    elo,
    elo_bootstrap,
    predicted_wins,
    rating_differences,
    separability,
    win_fractions,
)
from lmjudge.stats.rewards import rank_samples, ranking_accuracy, reward_calibration, reward_length
from lmjudge.stats.scores import label_shares, mean_scores, relative_quality, score_totals
from lmjudge.stats.style import style_effects, style_ratings
from lmjudge.stats.text import (
    length_histogram,
    rouge_l,
    style_counts,
    verb_objects,
    word_counts,
)
from lmjudge.stats.wins import (
    equal_length_win_rates,
    shares,
    vote_shares,
    weighted_win_rates,
    win_rate_bounds,
    win_rates,
)

__all__ = [
    "agreement",
    "agreement_by_gap",
    "agreements",
    "attack_failures",
    "bradley_terry",
    "ceiling",
    "compare_judges",
    "compare_models",
    "elo",
    "elo_bootstrap",
    "equal_length_win_rates",
    "kappa",
    "label_shares",
    "length_bias",
    "length_histogram",
    "majority",
    "mean_scores",
    "name_bias",
    "position_bias",
    "predicted_wins",
    "rank_samples",
    "ranking_accuracy",
    "rating_differences",
    "read_battles",
    "relative_quality",
    "repeatability",
    "reward_calibration",
    "reward_length",
    "rouge_l",
    "score_totals",
    "scores_as_votes",
    "self_preference",
    "separability",
    "shares",
    "style_counts",
    "style_effects",
    "style_ratings",
    "verb_objects",
    "vote_shares",
    "weighted_win_rates",
    "win_fractions",
    "win_rate_bounds",
    "win_rates",
    "word_counts",
]
