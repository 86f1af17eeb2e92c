"""Several servers of one model: the calls are shared, and none is lost with a server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import loopback
import pandas as pd
import pytest
from loopback import Loopback, always, error, http

import lmjudge as lj
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import EndpointError, EndpointStopped
from lmjudge.records import Reply, Request
from lmjudge.store import Store


def requests(count: int) -> list[Request]:
    return [Request("m", [{"role": "user", "content": str(n)}]) for n in range(count)]


def asked(store: Store, endpoint: OpenAIEndpoint, count: int) -> list[object]:
    return [outcome for _, outcome in store.ask(requests(count), endpoint)]


@contextmanager
def workers(count: int) -> Iterator[tuple[list[str], list[subprocess.Popen[str]]]]:
    """Servers in processes of their own, which answer after 10 ms."""
    command = [sys.executable, loopback.__file__, "0.01"]
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(count)
        ]
        urls = [worker.stdout.readline().strip() for worker in running if worker.stdout]
        try:
            yield urls, running
        finally:
            for worker in running:
                worker.kill()


@pytest.mark.kill
def test_a_worker_that_is_killed_loses_no_request(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    with workers(3) as (urls, running):
        endpoint = OpenAIEndpoint(urls, concurrency=24, backoff=0.1)
        replies = []
        for number, (key, reply) in enumerate(store.ask(requests(600), endpoint)):
            replies.append((key, reply))
            if number == 100:
                os.kill(running[0].pid, signal.SIGKILL)
    assert [key for key, _ in replies] == [request.key for request in requests(600)]
    assert all(isinstance(reply, Reply) and reply.text for _, reply in replies)
    assert store.failures.total() == 0
    assert len(list(Store(store.path).records())) == 600  # one reply a key
    # Only what was in flight at the killed worker, and tries whether it is back, are repeated.
    assert 600 <= store.calls <= 600 + 24 + 20


def test_the_least_busy_server_gets_the_next_call(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    with Loopback(delay=0.2) as slow, Loopback(delay=0.01) as fast:
        endpoint = OpenAIEndpoint(f"{slow.url}, {fast.url}", concurrency=4)
        assert len(asked(store, endpoint, 40)) == 40
    assert len(slow.calls) + len(fast.calls) == 40
    assert len(fast.calls) > 2 * len(slow.calls) > 0


def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with Loopback(delay=0.02) as first:
        back = None
        endpoint = OpenAIEndpoint(
            [first.url, f"http://127.0.0.1:{port}/v1"], concurrency=4, backoff=0.05
        )
        with ExitStack() as stack:
            for number, _ in enumerate(store.ask(requests(200), endpoint)):
                if number == 40:
                    assert len(first.calls) >= 40
                    back = stack.enter_context(Loopback(delay=0.02, port=port))
                time.sleep(0.001)
        assert back is not None
        assert len(back.calls) > 10
        assert (
            len({call.body["messages"][0]["content"] for call in first.calls + back.calls}) == 200
        )
    assert store.failures.total() == 0


@pytest.mark.parametrize("fault", ["503", "reset", "cut-body", "429-far"])
def test_what_one_server_cannot_answer_another_does(tmp_path: Path, fault: str) -> None:
    parts = fault
    if fault == "429-far":
        parts = [http(429, error("later"), retry_after="60")]
    store = Store(tmp_path / "judgments", mode="record")
    with Loopback(script=always(parts)) as ill, Loopback() as well:
        endpoint = OpenAIEndpoint([ill.url, well.url], concurrency=8, deadline=20, backoff=0.2)
        replies = asked(store, endpoint, 60)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert len(well.calls) == 60
    assert 0 < len(ill.calls) <= 8 + 8  # the first, and tries whether it is back


def test_where_all_are_dead_the_run_stops(tmp_path: Path) -> None:
    urls = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            urls.append(f"http://127.0.0.1:{reserved.getsockname()[1]}/v1")
    endpoint = OpenAIEndpoint(urls, concurrency=4, backoff=0.001)
    with pytest.raises(EndpointStopped, match="no server answers at"):
        asked(Store(tmp_path / "judgments", mode="record"), endpoint, 8)


def test_base_urls_are_a_list_or_a_text_with_commas() -> None:
    one, two = "http://localhost:1/v1", "http://localhost:2/v1"
    expected = [(one, ""), (two, "")]
    for base in (f"{one},{two}", f"{one},{two},", f"{one}, {two}", [one, two], (one, two, one)):
        endpoint = OpenAIEndpoint(base)
        assert endpoint.targets() == expected
        assert hash(endpoint) == hash(OpenAIEndpoint(base))
        with pytest.raises(EndpointError, match="base_url names 2 servers; batches go to one"):
            endpoint.target()
    assert OpenAIEndpoint(one).target() == (one, "")
    with pytest.raises(EndpointError, match="is not valid"):
        OpenAIEndpoint([one, "nowhere"]).targets()
    with pytest.raises(EndpointStopped, match=r"no API key for api\.host"):
        OpenAIEndpoint([one, "https://api.host/v1"]).targets()


def test_the_command_line_shares_calls_among_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmjudge.cli import main

    monkeypatch.chdir(tmp_path)
    rows = [{"question_id": n, "category": "c", "turns": [f"Why {n}?"]} for n in range(20)]
    lj.save(lj.load_questions(pd.DataFrame(rows)), "q.jsonl")
    with Loopback(delay=0.02) as first, Loopback(delay=0.02) as second:
        both = f"{first.url},{second.url}"
        command = ["generate", "q.jsonl", "--model", "m", "--base-url", both, "--store", "s"]
        assert main([*command, "--out", "answers"]) == 0
        judge = ["judge", "q.jsonl", "answers", "--judge", "j", "--base-url", both]
        assert main([*judge, "--store", "s", "--out", "scores.jsonl"]) in (0, 1)
        assert min(len(first.calls), len(second.calls)) >= 10
        assert len(first.calls) + len(second.calls) == 40
