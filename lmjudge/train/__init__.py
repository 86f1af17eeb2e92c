"""Train reward models, judges and answerers: pairs, training, rewards and baselines."""

from lmjudge.train.answering import train_answerer
from lmjudge.train.baselines import (
    longer_rewards,
    longer_votes,
    majority_votes,
    word_rewards,
)
from lmjudge.train.bases import new_base
from lmjudge.train.pairs import (
    pairs_from_scores,
    pairs_from_votes,
    shorten,
    split_pairs,
)
from lmjudge.train.ranking import reward_answers, reward_pairs
from lmjudge.train.training import Training, train_judge, train_reward_model

__all__ = [
    "Training",
    "longer_rewards",
    "longer_votes",
    "majority_votes",
    "new_base",
    "pairs_from_scores",
    "pairs_from_votes",
    "reward_answers",
    "reward_pairs",
    "shorten",
    "split_pairs",
    "train_answerer",
    "train_judge",
    "train_reward_model",
    "word_rewards",
]
