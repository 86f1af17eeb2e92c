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
    """Return a rewards frame of a logistic regression on which words the answers of `train` have.

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


def longer_votes(pairings: pd.DataFrame) -> pd.DataFrame:
    """Return a votes frame by a judge that takes the longer first answer.

    It is a tie where both are as long.
    """
    check(pairings, "pairings")
    words = [pairings[f"answer_{side}"].map(lambda turns: len(turns[0].split())) for side in "ab"]
    winner = pd.Series("tie", pairings.index, dtype=object)
    winner = winner.mask(words[0] > words[1], "model_a").mask(words[0] < words[1], "model_b")
    return _votes(pairings, "longer wins", winner)


def majority_votes(votes: pd.DataFrame, pairings: pd.DataFrame) -> pd.DataFrame:
    """Return a votes frame by a judge that says of all pairings what most of the `votes` say.

    Sides are those in the order of the models' names; ties in number go to the first of model_a,
    model_b, tie.
    """
    for some, name in ((votes, "votes"), (pairings, "pairings")):
        check(some, name)
    verdicts = votes["winner"].where(votes["model_a"] < votes["model_b"], swap(votes)["winner"])
    most = max(WINNERS, key=lambda winner: int((verdicts == winner).sum()))
    other = {"model_a": "model_b", "model_b": "model_a"}.get(most, most)
    named = pairings["model_a"] < pairings["model_b"]
    winner = pd.Series(most, pairings.index, dtype=object).where(named, other)
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
