"""Compute the rewards of pairs and of answers, through the store."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lmjudge.endpoints.local import RewardEndpoint
from lmjudge.frames import check, frame
from lmjudge.records import Asks, Failure, Reply, Request


def reward_pairs(pairs: pd.DataFrame, model: RewardEndpoint | str, *, store: Asks) -> pd.DataFrame:
    """Return the rewards of both responses of each pair: a rewards frame, one row a pair.

    `model` is the endpoint that scores responses which the store lacks, or only its name, to
    replay. Columns: pair_id, subset, model, reward_chosen, reward_rejected (missing if scoring
    failed), truncated (tokens cut from both responses). Raises what the store raises.
    """
    check(pairs, "pairs")
    name, endpoint = _name_and_endpoint(model)

    def requests() -> Iterator[Request]:
        for prompt, *responses in zip(
            pairs["prompt"], pairs["chosen"], pairs["rejected"], strict=True
        ):
            yield from (reward_request(name, prompt, response) for response in responses)

    rewards = [_reward(reply) for _, reply in store.ask(requests(), endpoint)]
    chosen, rejected = rewards[0::2], rewards[1::2]
    rows = [
        {
            "pair_id": pair_id,
            "subset": subset,
            "model": name,
            "reward_chosen": better[0],
            "reward_rejected": worse[0],
            "truncated": better[1] + worse[1],
        }
        for pair_id, subset, better, worse in zip(
            pairs["pair_id"], pairs["subset"], chosen, rejected, strict=True
        )
    ]
    return frame("rewards", rows)


def reward_answers(
    lineup: pd.DataFrame, model: RewardEndpoint | str, *, store: Asks
) -> pd.DataFrame:
    """Return the reward of each answer in a lineup, in the first turn.

    `model` is as in `reward_pairs`. Columns: question_id, model, sample, reward_model, reward
    (missing if scoring failed), truncated (tokens cut), key. Raises what the store raises.
    `rank_samples` ranks the answers by these rewards.
    """
    check(lineup, "lineup")
    name, endpoint = _name_and_endpoint(model)
    requests = (
        reward_request(name, question[0], answer[0])
        for question, answer in zip(lineup["question"], lineup["answer"], strict=True)
    )
    rewards = [(key, *_reward(reply)) for key, reply in store.ask(requests, endpoint)]
    table = lineup[["question_id", "model", "sample"]].reset_index(drop=True)
    return table.assign(
        reward_model=name,
        reward=pd.Series([reward for _, reward, _ in rewards], dtype=float),
        truncated=pd.Series([cut for *_, cut in rewards], dtype=int),
        key=[key for key, *_ in rewards],
    )


def reward_request(name: str, prompt: str, response: str) -> Request:
    """Return the request for the reward of a response to a prompt."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return Request(name, messages, kind="reward")


def _name_and_endpoint(model: RewardEndpoint | str) -> tuple[str, RewardEndpoint | None]:
    return (model, None) if isinstance(model, str) else (model.name, model)


def _reward(reply: Reply | Failure) -> tuple[float, int]:
    """Return the reward and the number of tokens that were cut."""
    if isinstance(reply, Failure):
        return float("nan"), 0
    cut = (reply.usage or {}).get("truncated_tokens")
    return float(reply.text), cut if isinstance(cut, int) else 0
