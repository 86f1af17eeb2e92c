"""Compute rewards of pairs and of answers through the store; `rank_samples` ranks the answers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lmjudge.endpoints.local import RewardEndpoint
from lmjudge.frames import check, frame
from lmjudge.records import Asks, Failure, Reply, Request


def reward_pairs(pairs: pd.DataFrame, model: RewardEndpoint | str, *, store: Asks) -> pd.DataFrame:
    """Yield the rewards of both responses of each pair: a rewards frame, one row a pair.

    `model` is the endpoint that scores what the store lacks, or, to replay, the name that it had.
    Columns: pair_id, subset, model, reward_chosen, reward_rejected (missing where scoring failed),
    and truncated, the tokens that were lost of both. Raises what the store raises.
    """
    check(pairs, "pairs")
    name, endpoint = _who(model)

    def requests() -> Iterator[Request]:
        for prompt, *responses in zip(
            pairs["prompt"], pairs["chosen"], pairs["rejected"], strict=True
        ):
            yield from (reward_request(name, prompt, response) for response in responses)

    got = [_read(reply) for _, reply in store.ask(requests(), endpoint)]
    chosen, rejected = got[0::2], got[1::2]
    rows = [
        {
            "pair_id": pair_id,
            "subset": subset,
            "model": name,
            "reward_chosen": one[0],
            "reward_rejected": two[0],
            "truncated": one[1] + two[1],
        }
        for pair_id, subset, one, two in zip(
            pairs["pair_id"], pairs["subset"], chosen, rejected, strict=True
        )
    ]
    return frame("rewards", rows)


def reward_answers(
    lineup: pd.DataFrame, model: RewardEndpoint | str, *, store: Asks
) -> pd.DataFrame:
    """Return the reward of each answer of a lineup, to its question's first turn.

    Columns: question_id, model, sample, reward_model, reward (missing where scoring failed),
    truncated (tokens lost), key. Raises what the store raises.
    """
    check(lineup, "lineup")
    name, endpoint = _who(model)
    asked = (
        reward_request(name, question[0], answer[0])
        for question, answer in zip(lineup["question"], lineup["answer"], strict=True)
    )
    got = [(key, *_read(reply)) for key, reply in store.ask(asked, endpoint)]
    table = lineup[["question_id", "model", "sample"]].reset_index(drop=True)
    return table.assign(
        reward_model=name,
        reward=pd.Series([reward for _, reward, _ in got], dtype=float),
        truncated=pd.Series([cut for *_, cut in got], dtype=int),
        key=[key for key, *_ in got],
    )


def reward_request(name: str, prompt: str, response: str) -> Request:
    """Return the request for the reward of a response to a prompt."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return Request(name, messages, kind="reward")


def _who(model: RewardEndpoint | str) -> tuple[str, RewardEndpoint | None]:
    return (model, None) if isinstance(model, str) else (model.name, model)


def _read(reply: Reply | Failure) -> tuple[float, int]:
    if isinstance(reply, Failure):
        return float("nan"), 0
    lost = (reply.usage or {}).get("truncated_tokens")
    return float(reply.text), lost if isinstance(lost, int) else 0
