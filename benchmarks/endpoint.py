"""Calls per second: our endpoint beside the openai package's own clients, one server, one run.

    python benchmarks/endpoint.py [calls] [in flight] [server's delay in seconds]

The server is `tests/loopback.py` in a process of its own. The ways take turns, `ROUNDS` times
over; each line is the best round, and its ratio to the plain AsyncOpenAI client. Only ratios
mean something on a busy machine.
"""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import httpx2
import openai

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.records import Request

ROUNDS = 3
SERVER = Path(__file__).parent.parent / "tests" / "loopback.py"
PARAMS = {"temperature": 0.0, "max_tokens": 512}


def messages(number):
    return [{"role": "user", "content": f"{number} " + "Judge these two answers. " * 130}]


async def ours(url, numbers, in_flight):
    async with OpenAIEndpoint(url, concurrency=in_flight).session() as answer:
        await workers(in_flight, numbers, lambda n: answer(Request("m", messages(n), PARAMS)))


async def with_client(url, numbers, in_flight, http_client):
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=http_client
    ) as client:
        await workers(
            in_flight,
            numbers,
            lambda n: client.chat.completions.create(model="m", messages=messages(n), **PARAMS),
        )


async def plain(url, numbers, in_flight):
    await with_client(url, numbers, in_flight, None)


async def over_aiohttp(url, numbers, in_flight):
    client = openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=in_flight))
    await with_client(url, numbers, in_flight, client)


async def bare_aiohttp(url, numbers, in_flight):
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(number):
            body = {"model": "m", "messages": messages(number), **PARAMS}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        await workers(in_flight, numbers, one)


async def workers(in_flight, numbers, call):
    left = iter(numbers)

    async def work():
        for number in left:
            await call(number)

    await asyncio.gather(*[work() for _ in range(in_flight)])


def main(calls=1000, in_flight=128, delay=0.05):
    ways = {
        "AsyncOpenAI": plain,
        "AsyncOpenAI over aiohttp": over_aiohttp,
        "OpenAIEndpoint": ours,
        "aiohttp alone": bare_aiohttp,
    }
    best = dict.fromkeys(ways, 0.0)
    server = subprocess.Popen(
        [sys.executable, str(SERVER), str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        url = server.stdout.readline().strip()
        for way in ways.values():
            asyncio.run(way(url, range(in_flight), in_flight))
        for _ in range(ROUNDS):
            for name, way in ways.items():
                begun = time.perf_counter()
                asyncio.run(way(url, range(calls), in_flight))
                best[name] = max(best[name], calls / (time.perf_counter() - begun))
    print(f"{calls} calls, {in_flight} in flight, {delay} s each; the best of {ROUNDS} rounds")
    for name, rate in best.items():
        print(f"{name:26} {rate:7.0f} calls/s {rate / best['AsyncOpenAI']:6.1f}x")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*map(int, given[:2]), *map(float, given[2:]))
