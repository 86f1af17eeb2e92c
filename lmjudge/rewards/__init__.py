"""Reward models, and judges that are trained: pairs, training, rewards through the store, ranks."""

from lmjudge.rewards.pairs import pairs_from_scores, pairs_from_votes, split_pairs
from lmjudge.rewards.ranking import reward_answers, reward_pairs
from lmjudge.rewards.training import Training, shorten, train_judge, train_reward_model

__all__ = [
    "Training",
    "pairs_from_scores",
    "pairs_from_votes",
    "reward_answers",
    "reward_pairs",
    "shorten",
    "split_pairs",
    "train_judge",
    "train_reward_model",
]
