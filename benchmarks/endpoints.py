"""Calls per second and memory: our endpoint and store beside the openai package's own clients.

    python benchmarks/endpoints.py [--calls 1000] [--rounds 3] [--flat 100000] > table.md

The server is `tests/helpers/loopback.py` in a process of its own, with a delay of 50 ms; 128 requests are in
flight. The ways take turns; each line is the best of the rounds. "FastChat's way" is what its
gen_judgment.py does with --parallel: the openai package's plain client in threads, each reply
appended to a file of JSON lines. Only ratios mean something on a busy machine. Then --flat requests
go through the store, and the memory of this process is looked at ten times.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import aiohttp
import httpx2
import openai
from reliability import machine

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.records import Request
from lmjudge.store import Store

SERVER = Path(__file__).parent.parent / "tests" / "helpers" / "loopback.py"
PARAMS = {"temperature": 0.0, "max_tokens": 512}
fresh = count()


def messages(number):
    return [{"role": "user", "content": f"{number} " + "Judge these two answers. " * 130}]


def fastchat(url, numbers, in_flight, folder):
    """The openai client in threads; a line in a file for each reply, and no word to the disk."""
    lock = threading.Lock()
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)

    def one(number):
        reply = client.chat.completions.create(model="m", messages=messages(number), **PARAMS)
        line = {"n": number, "judgment": reply.choices[0].message.content, "tstamp": time.time()}
        with lock, open(folder / "judgments.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    with ThreadPoolExecutor(in_flight) as pool:
        list(pool.map(one, numbers))
    client.close()


def through_the_store(url, numbers, in_flight, folder):
    store = Store(folder / f"store-{next(fresh)}", mode="record")
    requests = (Request("m", messages(n), PARAMS) for n in numbers)
    assert sum(1 for _ in store.ask(requests, OpenAIEndpoint(url, concurrency=in_flight)))
    store.close()


async def in_turn(call, numbers, in_flight):
    left = iter(numbers)

    async def work():
        for number in left:
            await call(number)

    await asyncio.gather(*[work() for _ in range(in_flight)])


async def without_the_store(url, numbers, in_flight):
    async with OpenAIEndpoint(url, concurrency=in_flight).session() as answer:
        await in_turn(lambda n: answer(Request("m", messages(n), PARAMS)), numbers, in_flight)


async def async_openai(url, numbers, in_flight, over_aiohttp=False):
    http = None
    if over_aiohttp:
        http = openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=in_flight))
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=http
    ) as client:
        create = partial(client.chat.completions.create, model="m", **PARAMS)
        await in_turn(lambda n: create(messages=messages(n)), numbers, in_flight)


async def bare_aiohttp(url, numbers, in_flight):
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(number):
            body = {"model": "m", "messages": messages(number), **PARAMS}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        await in_turn(one, numbers, in_flight)


def resident():
    """Megabytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def flat(url, requests, in_flight, folder):
    print(f"\n| requests through the store, of {requests:,} | MB in memory | calls/s so far |")
    print("|---|---|---|")
    store, begun = Store(folder / "flat", mode="record"), time.perf_counter()
    asked = (Request("m", messages(n), PARAMS) for n in range(requests))
    for number, _ in enumerate(store.ask(asked, OpenAIEndpoint(url, concurrency=in_flight)), 1):
        if number % (requests // 10) == 0:
            rate = number / (time.perf_counter() - begun)
            print(f"| {number:,} | {resident():.0f} | {rate:,.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("calls", 1000), ("rounds", 3), ("in-flight", 128), ("flat", 100_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--delay", type=float, default=0.05, help="of the server, in seconds")
    given = parser.parse_args()
    ways = {
        "FastChat's way: openai in threads, JSON lines": fastchat,
        "AsyncOpenAI": lambda *args: asyncio.run(async_openai(*args[:3])),
        "AsyncOpenAI over aiohttp": lambda *args: asyncio.run(async_openai(*args[:3], True)),
        "OpenAIEndpoint, store off": lambda *args: asyncio.run(without_the_store(*args[:3])),
        "OpenAIEndpoint, store on": through_the_store,
        "aiohttp alone, replies unread": lambda *args: asyncio.run(bare_aiohttp(*args[:3])),
    }
    best, used = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, float("inf"))
    print(f"{machine()}\n", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="lmjudge-endpoints-") as name,
        subprocess.Popen(
            [sys.executable, str(SERVER), str(given.delay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        folder, url = Path(name), server.stdout.readline().strip()
        for way in ways.values():
            way(url, range(given.in_flight), given.in_flight, folder)
        for _ in range(given.rounds):
            for name, way in ways.items():
                begun, busy = time.perf_counter(), time.process_time()
                way(url, range(given.calls), given.in_flight, folder)
                best[name] = max(best[name], given.calls / (time.perf_counter() - begun))
                used[name] = min(used[name], (time.process_time() - busy) / given.calls)
        print(
            f"{given.calls:,} calls, {given.in_flight} in flight, the server answers after"
            f" {given.delay * 1000:.0f} ms; the best of {given.rounds} rounds\n"
        )
        print("| way | calls/s | to FastChat's way | CPU ms a call |\n|---|---|---|---|")
        peer = best[next(iter(ways))]
        for name, rate in best.items():
            print(f"| {name} | {rate:,.0f} | {rate / peer:.1f}x | {1000 * used[name]:.2f} |")
        if given.flat:
            flat(url, given.flat, given.in_flight, folder)


if __name__ == "__main__":
    main()
