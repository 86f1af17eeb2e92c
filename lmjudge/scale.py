"""Local models on many GPUs and machines: Ray Data's actors answer, the driver alone writes.

The first step beyond one process is vLLM behind OpenAIEndpoint's `base_url`, the second
`Store.shard` in a job array; this is for a Ray cluster that is there already.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from lmjudge.errors import EndpointError, RequestFailed
from lmjudge.records import Endpoint, Failure, Record, Request
from lmjudge.store import Added, Shelf


class _Actor:
    """Holds an endpoint, and through it a model, and answers batches of requests."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def __call__(self, batch: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        requests = [Request.from_json(json.loads(text)) for text in batch["request"]]
        return {"outcome": asyncio.run(self._answers(requests))}

    async def _answers(self, requests: list[Request]) -> list[str]:
        async with self.endpoint.session() as answer:

            async def one(request: Request) -> str:
                try:
                    return Record(request, await answer(request)).line.decode()
                except RequestFailed as error:
                    facts = {
                        name: getattr(error, name) for name in ("reason", "status", "attempts")
                    }
                    return json.dumps({"failed": request.key, "message": str(error), **facts})

            return list(await asyncio.gather(*map(one, requests)))


def answer_all(
    requests: Iterable[Request],
    endpoint: Any,
    *,
    store: Shelf,
    workers: int = 1,
    gpus: float = 0,
) -> Added:
    """Return what it changed in `store` that Ray's actors answered the requests that it lacked.

    Each of `workers` actors holds `endpoint` (a LocalEndpoint, a RewardEndpoint; its model a folder
    that all machines see, or a hub id) on `gpus` GPUs and takes `endpoint.concurrency` requests at
    a time. This process adds their replies as they arrive, and notes failures: `generate`,
    `judge_pairs`, `reward_pairs` then find them in the store. Raises EndpointError for an endpoint
    that calls a server, and where Ray is not installed; what stops an actor stops all.
    """
    if endpoint.network:
        raise EndpointError(
            f"{type(endpoint).__name__} calls a server; ask the store with it, without Ray's actors"
        )
    try:
        import ray.data
    except ImportError as error:
        raise EndpointError("Ray is not installed; pip install 'ray[data]'") from error
    wanted = {request.key: request.canonical.decode() for request in requests}
    held, total = store.look_up(wanted), Added()
    rows = [{"request": text} for key, text in wanted.items() if key not in held]
    if not rows:
        return total
    size = endpoint.concurrency
    answered = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // size)).map_batches(
        _Actor,
        fn_constructor_args=[replace(endpoint)],  # without a model that is loaded here
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
        batch_size=size,
    )
    for batch in answered.iter_batches(batch_size=None):
        lines = [str(line) for line in batch["outcome"]]
        records = [Record.from_line(line.encode()) for line in lines if line.startswith('{"key"')]
        total += store.add(records)
        for line in lines:
            if not line.startswith('{"key"'):
                facts = json.loads(line)
                store.note_attempt(facts.pop("failed"), Failure(**facts))
    return total
