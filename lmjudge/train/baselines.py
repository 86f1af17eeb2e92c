"""Baselines for trained models: rewards and votes that need little or no training."""

from __future__ import annotations

import pandas as pd

from lmjudge.frames import WINNERS, check, frame, swap


def longer_rewards(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return a rewards frame in which the longer answer, by words, has the higher reward."""
    check(pairs, "pairs")
    chosen, rejected = (
        pairs[side].map(lambda text: float(len(text.split()))) for side in ("chosen", "rejected")
    )
    return _rewards(pairs, "longer wins", chosen, rejected)


def word_rewards(train: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return a rewards frame of a logistic regression on the words in the answers of `train`.

    This is a Bradley-Terry model of bags of words. Its features are 1 + log of each word's count,
    scaled to length one, for words in at least two answers. It is fitted with scikit-learn's
    defaults to the differences within pairs, each in both directions. Needs scikit-learn.
    """
    import numpy as np
    from scipy.sparse import vstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    for rows in (train, pairs):
        check(rows, "pairs")
    words = TfidfVectorizer(use_idf=False, sublinear_tf=True, min_df=2)
    words.fit([*train["chosen"], *train["rejected"]])
    difference = words.transform(train["chosen"]) - words.transform(train["rejected"])
    sides = np.repeat([1, 0], difference.shape[0])
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(vstack([difference, -difference]), sides)
    chosen, rejected = (
        pd.Series(words.transform(pairs[side]) @ model.coef_[0], index=pairs.index)
        for side in ("chosen", "rejected")
    )
    return _rewards(pairs, "bag of words", chosen, rejected)


def longer_votes(pairings: pd.DataFrame) -> pd.DataFrame:
    """Return the votes of a judge that prefers the longer first answer; equal lengths are ties."""
    check(pairings, "pairings")
    words = [pairings[f"answer_{side}"].map(lambda turns: len(turns[0].split())) for side in "ab"]
    winner = pd.Series("tie", pairings.index, dtype=object)
    winner = winner.mask(words[0] > words[1], "model_a").mask(words[0] < words[1], "model_b")
    return _votes(pairings, "longer wins", winner)


def majority_votes(votes: pd.DataFrame, pairings: pd.DataFrame) -> pd.DataFrame:
    """Return the votes of a judge that gives every pairing the most frequent verdict of `votes`.

    The verdicts are counted with the two models in the order of their names. Equal counts go to the
    first of model_a, model_b, tie.
    """
    for rows, name in ((votes, "votes"), (pairings, "pairings")):
        check(rows, name)
    verdicts = votes["winner"].where(votes["model_a"] < votes["model_b"], swap(votes)["winner"])
    most = max(WINNERS, key=lambda winner: int((verdicts == winner).sum()))
    other = {"model_a": "model_b", "model_b": "model_a"}.get(most, most)
    in_order = pairings["model_a"] < pairings["model_b"]
    winner = pd.Series(most, pairings.index, dtype=object).where(in_order, other)
    return _votes(pairings, "majority class", winner)


def _votes(pairings: pd.DataFrame, judge: str, winner: pd.Series) -> pd.DataFrame:
    rest = {"turn": 1, "judge": judge, "group": "llm", "reason": None, "time": float("nan")}
    votes = pairings[["question_id", "model_a", "model_b"]].assign(winner=winner, **rest)
    return frame("votes", votes.reset_index(drop=True))


def _rewards(
    pairs: pd.DataFrame, name: str, chosen: pd.Series, rejected: pd.Series
) -> pd.DataFrame:
    rewards = pairs[["pair_id", "subset"]].assign(
        model=name, reward_chosen=chosen, reward_rejected=rejected
    )
    return frame("rewards", rewards.reset_index(drop=True))
