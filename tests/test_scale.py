"""Ray's actors hold the model, the driver alone writes the store: two workers on this machine.

Left out where Ray is not installed (pip install -e ".[ray]"); it takes a minute.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import EndpointError
from lmjudge.records import Reply, Request
from lmjudge.scale import answer_all
from lmjudge.store import Store

pytestmark = pytest.mark.train


def test_a_server_is_not_asked_by_actors(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="calls a server"):
        answer_all([], OpenAIEndpoint("http://127.0.0.1:9/v1"), store=Store(tmp_path))


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_workers_answer_what_the_store_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: no actors answered")
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from tiny import tiny_model
    from transformers import AutoModelForSequenceClassification

    from lmjudge.endpoints.local import LocalEndpoint, RewardEndpoint

    endpoint = LocalEndpoint(tiny_model(tmp_path / "tiny"), device="cpu", batch_size=1)
    params = {"temperature": 0, "max_tokens": 6}
    requests = [
        Request(endpoint.name, [{"role": "user", "content": f"count to {n}"}], params)
        for n in range(20)
    ]
    too_long = Request(endpoint.name, [{"role": "user", "content": "word " * 2000}], params)
    alone = list(Store(tmp_path / "alone", mode="record").ask(requests, endpoint))
    AutoModelForSequenceClassification.from_pretrained(
        tiny_model(tmp_path / "reward"), num_labels=1
    ).save_pretrained(tmp_path / "reward")
    rewards = RewardEndpoint(tmp_path / "reward", device="cpu", batch_size=1)
    scored = [Request(rewards.name, one.messages, kind="reward") for one in requests]
    store = Store(tmp_path / "store", mode="record")
    store.add(Store(tmp_path / "alone").records([requests[0].key]))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is left in the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "200")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200_000_000,
        _node_ip_address="127.0.0.1",
    )
    try:
        done = answer_all([*requests, too_long], endpoint, store=store, workers=2)
        assert (done.new, done.known) == (19, 0)
        assert store.failures == {"context_length": 1}
        assert answer_all(requests, endpoint, store=store, workers=2).new == 0
        assert answer_all(scored, rewards, store=store, workers=2).new == 20
    finally:
        ray.shutdown()
    for (key, reply), (other, said) in zip(Store(store.path).ask(requests), alone, strict=True):
        assert key == other
        assert isinstance(reply, Reply)
        assert isinstance(said, Reply)
        assert reply.same_as(said)
