"""What a trained model has to beat: rewards that need no training, or hardly any."""

from __future__ import annotations

import pandas as pd

from lmjudge.frames import check, frame


def longer_rewards(pairs: pd.DataFrame) -> pd.DataFrame:
    """A rewards frame in which an answer's reward is its number of words: the longer one wins."""
    check(pairs, "pairs")
    chosen, rejected = (
        pairs[side].map(lambda text: float(len(text.split()))) for side in ("chosen", "rejected")
    )
    return _rewards(pairs, "longer wins", chosen, rejected)


def word_rewards(train: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """A rewards frame of a logistic regression on which words the answers of `train` have.

    The reward is linear in 1 + log of each word's count (words of two pairs or more), scaled to
    length one, and is fitted, with scikit-learn's defaults, to the differences within pairs, each
    in both directions: the Bradley-Terry model of bags of words. Needs scikit-learn.
    """
    import numpy as np
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    for some in (train, pairs):
        check(some, "pairs")
    words = TfidfVectorizer(use_idf=False, sublinear_tf=True, min_df=2)
    words.fit([*train["chosen"], *train["rejected"]])
    apart = words.transform(train["chosen"]) - words.transform(train["rejected"])
    sides = np.repeat([1, 0], apart.shape[0])
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(vstack([apart, -apart]), sides)
    chosen, rejected = (
        pd.Series(words.transform(pairs[side]) @ model.coef_[0], index=pairs.index)
        for side in ("chosen", "rejected")
    )
    return _rewards(pairs, "bag of words", chosen, rejected)


def _rewards(
    pairs: pd.DataFrame, name: str, chosen: pd.Series, rejected: pd.Series
) -> pd.DataFrame:
    made = pairs[["pair_id", "subset"]].assign(
        model=name, reward_chosen=chosen, reward_rejected=rejected
    )
    return frame("rewards", made.reset_index(drop=True))
