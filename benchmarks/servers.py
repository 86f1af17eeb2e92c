"""Several servers of one model, one of them killed in the middle: is any request lost?

    python benchmarks/servers.py [--servers 6] [--requests 5000] > benchmarks/results/servers.md

The servers are `tests/helpers/loopback.py`, each in a process of its own, with a delay of 50 ms. One
is killed (SIGKILL) after a fifth of the replies.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from reliability import machine

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.records import Reply, Request
from lmjudge.store import Store

SERVER = Path(__file__).parent.parent / "tests" / "helpers" / "loopback.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("servers", 6), ("requests", 5000), ("in-flight", 96)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, str(SERVER), "0.05"]
    running = [subprocess.Popen(command, **pipes) for _ in range(given.servers)]
    urls = [server.stdout.readline().strip() for server in running]
    requests = [
        Request("m", [{"role": "user", "content": f"{n} " + "Judge these two answers. " * 130}])
        for n in range(given.requests)
    ]
    begun, wrong = time.perf_counter(), 0
    with tempfile.TemporaryDirectory(prefix="lmjudge-servers-") as folder:
        store = Store(folder, mode="record")
        endpoint = OpenAIEndpoint(urls, concurrency=given.in_flight)
        for number, (key, reply) in enumerate(store.ask(requests, endpoint)):
            wrong += key != requests[number].key or not isinstance(reply, Reply)
            if number == given.requests // 5:
                os.kill(running[0].pid, signal.SIGKILL)
        took = time.perf_counter() - begun
        kept = sum(1 for _ in Store(folder).records())
    counts = []
    for url, server in zip(urls[1:], running[1:], strict=True):
        with urllib.request.urlopen(f"{url}/calls") as answer:
            counts.append(int(answer.read()))
        server.kill()
    print(f"{machine()}\n")
    print(
        "| servers | killed | requests | replies kept | lost | calls | on each living server | s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    lost = given.requests - kept + wrong
    spread = f"{min(counts):,} to {max(counts):,}"
    numbers = f"{given.requests:,} | {kept:,} | {lost} | {store.calls:,} | {spread} | {took:.1f}"
    print(f"| {given.servers} | 1 | {numbers} |")


if __name__ == "__main__":
    main()
