"""Many processes on one store: one call a request, and claims that die with their holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from loopback import Loopback, always, http

from lmjudge.records import Reply, Request
from lmjudge.store import Store, exchange

pytestmark = pytest.mark.kill

_WORKER = """
import sys
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.records import Reply, Request
from lmjudge.store import Store

folder, url, count, concurrency = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
requests = [Request("m", [{"role": "user", "content": f"q{n}"}]) for n in range(count)]
store = Store(folder, mode="record")
replies = [reply for _, reply in store.ask(requests, OpenAIEndpoint(url, concurrency=concurrency))]
assert all(isinstance(reply, Reply) for reply in replies)
print(len(replies), store.calls)
"""


def _start(folder: Path, url: str, count: int, concurrency: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _WORKER, folder, url, str(count), str(concurrency)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _asked(server: Loopback) -> Counter[str]:
    return Counter(call.body["messages"][0]["content"] for call in server.calls)


def test_8_processes_that_ask_for_the_same_5000_requests_make_5000_calls(tmp_path: Path) -> None:
    with Loopback(answer=lambda body: "echo " + body["messages"][0]["content"]) as server:
        workers = [_start(tmp_path / "store", server.url, 5000, 16) for _ in range(8)]
        told = [worker.communicate(timeout=280) for worker in workers]
        assert not [error for _, error in told if "Error" in error or "Warning" in error]
        assert [out.split()[0] for out, _ in told] == ["5000"] * 8
        assert len(server.calls) == 5000
        assert set(_asked(server).values()) == {1}
        assert sum(int(out.split()[1]) for out, _ in told) == 5000
    requests = [Request("m", [{"role": "user", "content": f"q{n}"}]) for n in range(5000)]
    replayed = [reply for _, reply in Store(tmp_path / "store").ask(requests)]
    assert all(isinstance(reply, Reply) for reply in replayed)
    assert [reply.text for reply in replayed] == [f"echo q{n}" for n in range(5000)]  # type: ignore[union-attr]
    assert exchange.verify(tmp_path / "store").damaged == {}


@pytest.mark.parametrize("killed", [1, 3])
def test_after_kill_9_only_the_calls_in_flight_are_made_again(tmp_path: Path, killed: int) -> None:
    with Loopback(delay=0.05) as server:
        workers = [_start(tmp_path / "store", server.url, 800, 8) for _ in range(4)]
        while len(server.calls) < 100:
            time.sleep(0.01)
            assert all(worker.poll() is None for worker in workers)
        for worker in workers[:killed]:
            os.kill(worker.pid, signal.SIGKILL)
        told = [worker.communicate(timeout=120) for worker in workers]
        assert [out.split()[0] for out, _ in told[killed:]] == ["800"] * (4 - killed)
        assert len(_asked(server)) == 800
        assert len(server.calls) - 800 <= 8 * killed
        before = len(server.calls)
        again = _start(tmp_path / "store", server.url, 800, 8)
        assert again.communicate(timeout=60)[0] == "800 0\n"
        assert len(server.calls) == before
    assert exchange.verify(tmp_path / "store").damaged == {}


_INTERRUPTED = """
import os, signal, sys, threading
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.records import Request
from lmjudge.store import Store

requests = (Request("m", [{"role": "user", "content": f"q{n}"}]) for n in range(100_000))
store = Store(sys.argv[1], mode="record")
for after in sys.argv[3:]:
    threading.Timer(float(after), os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for _ in store.ask(requests, OpenAIEndpoint(sys.argv[2], concurrency=8)):
        pass
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""


def _interrupted(path: Path, server: Loopback, *after: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", _INTERRUPTED, path, server.url, *after],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_an_interrupt_keeps_the_replies_in_flight(tmp_path: Path) -> None:
    with Loopback(delay=5.0) as server:
        done = _interrupted(tmp_path / "store", server, "1.5")
        assert done.stdout == "interrupted 1\n"
        assert done.stderr.startswith(
            "stopping, 8 replies in flight (interrupt again to drop them):"
        )
        assert done.stderr.count("\n") == 1
        assert len(server.calls) == 8
        server.delay = 0.0
        again = _start(tmp_path / "store", server.url, 8, 8)
        assert again.communicate(timeout=60)[0] == "8 0\n"


def test_a_second_interrupt_returns_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with Loopback(delay=30.0) as server:
        done = _interrupted(tmp_path / "store", server, "1.5", "2.0")
        assert (done.stdout, done.stderr) == ("interrupted 1\n", "")
        server.delay = 0.0
        again = _start(tmp_path / "store", server.url, 8, 8)
        assert again.communicate(timeout=60)[0] == "8 8\n"


def test_an_interrupt_waits_for_no_further_attempt(tmp_path: Path) -> None:
    with Loopback(script=always([http(429, "{}", retry_after="30")])) as server:
        done = _interrupted(tmp_path / "store", server, "1.5")
        assert (done.stdout, len(server.calls)) == ("interrupted 1\n", 8)
