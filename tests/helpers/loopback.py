"""A chat-completions server on 127.0.0.1, with scripted faults: what our tests call.

    with Loopback(script=once("reset")) as server:
        OpenAIEndpoint(server.url) ...
        server.calls        # every request that arrived whole, in order

It counts exactly, can delay, and is reached by URL from any number of processes (`GET
<url>/calls` gives the count as text). Its answer depends on the request alone. `python
tests/helpers/loopback.py 0.05` serves with a delay of 50 ms until its standard input ends.
"""

import asyncio
import gzip
import hashlib
import json
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

CUT, RESET = "cut", "reset"
Part = bytes | float | str


@dataclass(frozen=True)
class Call:
    """One request that arrived: `nth` counts from 0 the arrivals of this very body."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    nth: int
    at: float = field(default_factory=time.monotonic)


def echo(body: dict[str, Any]) -> str:
    """An answer that depends on the request alone."""
    return "echo " + hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]


def http(status: int, body: bytes | str | dict[str, Any], **headers: str) -> bytes:
    """A whole HTTP response."""
    kind = "application/json"
    if isinstance(body, dict):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    head = {"content-type": kind, "content-length": str(len(body))}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chat(content: Any, finish_reason: str | None = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion of one choice."""
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 1,
        "model": "served-model",
        "system_fingerprint": "fp_loopback",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish_reason,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }


def error(message: str, code: str | None = None, kind: str = "error") -> dict[str, Any]:
    """An error object as OpenAI's servers write it."""
    return {"error": {"message": message, "type": kind, "code": code, "param": None}}


def _bomb() -> bytes:
    return gzip.compress(bytes(60_000_000), 9)


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_GOOD = json.dumps(chat("never whole")).encode()

# What each fault puts on the wire: bytes, pauses in seconds, and how the connection ends.
TRANSIENT: dict[str, Sequence[Part]] = {
    "408": [http(408, error("too slow"))],
    "409": [http(409, error("conflict"))],
    "425": [http(425, error("too early"))],
    "429": [http(429, error("slow down", "rate_limit_exceeded"))],
    "429-seconds": [http(429, error("slow down"), retry_after="0")],
    "429-date": [http(429, error("slow down"), retry_after=formatdate(0, usegmt=True))],
    "429-ms": [http(429, error("slow down"), retry_after_ms="20")],
    "500": [http(500, error("oops"))],
    "500-html": [http(500, "<html>oops</html>", content_type="text/html")],
    "502": [http(502, "")],
    "503": [http(503, error("busy"), retry_after="0")],
    "504": [http(504, "upstream")],
    "529": [http(529, error("overloaded", kind="overloaded_error"))],
    "reset": [RESET],
    "closed": [CUT],
    "reset-in-head": [b"HTTP/1.1 200 OK\r\ncont", RESET],
    "closed-in-head": [b"HTTP/1.1 200 OK\r\ncont", CUT],
    "not-http": [b"SSH-2.0-OpenSSH_9.2\r\n", CUT],
    "cut-body": [_HEAD + b"content-length: 999\r\n\r\n" + _GOOD[:40], CUT],
    "reset-body": [_HEAD + b"content-length: 999\r\n\r\n" + _GOOD[:40], 0.01, RESET],
    "cut-chunk": [_HEAD + b"transfer-encoding: chunked\r\n\r\n40\r\n" + _GOOD[:30], CUT],
    "bad-chunk": [_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", CUT],
    "cut-json": [http(200, _GOOD[:60])],
    "bad-json": [http(200, "{'choices': nope}")],
    "not-utf8": [http(200, b'{"choices": "\xff\xfe"}')],
    "bad-gzip": [http(200, _GOOD, content_encoding="gzip")],
    "cut-gzip": [http(200, gzip.compress(_GOOD)[:50], content_encoding="gzip")],
    "empty": [http(200, "")],
    "204": [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "html": [http(200, "<html>log in</html>", content_type="text/html")],
    "sse": [http(200, "data: {}\n\ndata: [DONE]\n\n", content_type="text/event-stream")],
    "array": [http(200, "[]")],
    "deep-json": [http(200, "[" * 200_000)],
    "deep-usage": [
        http(200, json.dumps(chat("x"))[:-1] + ',"usage":' + "[" * 400 + "]" * 400 + "}")
    ],
    "no-choices": [http(200, {**chat("x"), "choices": []})],
    "choices-null": [http(200, {**chat("x"), "choices": None})],
    "message-null": [http(200, {**chat("x"), "choices": [{"index": 0, "message": None}]})],
    "content-null": [http(200, chat(None, None))],
    "content-number": [http(200, chat(7))],
    "error-in-200": [http(200, error("overloaded", kind="server_error"))],
    "error-choice": [http(200, chat("half an ans", "error"))],
    "502-in-200": [http(200, {"error": {"code": 502, "message": "provider died"}})],
    "hang": [60.0],
    "slow-head": [b"HTTP", *[0.2, b"/"] * 99],
    "slow-body": [_HEAD + b"content-length: 999\r\n\r\n", *[0.2, b" "] * 99],
}
STOPS: dict[str, tuple[str, Sequence[Part]]] = {
    "401": ("unauthorized", [http(401, error("bad key", "invalid_api_key"))]),
    "402": ("quota", [http(402, error("pay"))]),
    "403": ("forbidden", [http(403, error("not for you"))]),
    "404": ("not_found", [http(404, error("no such model", "model_not_found"))]),
    "quota": ("quota", [http(429, error("no credit", "insufficient_quota"))]),
    "401-in-200": ("unauthorized", [http(200, {"error": {"code": 401, "message": "who?"}})]),
    "far": ("rate_limited", [http(429, error("tomorrow"), retry_after="86400")]),
    "far-date": (
        "rate_limited",
        [http(503, "", retry_after=formatdate(time.time() + 86400, usegmt=True))],
    ),
    "redirect": ("redirect", [http(307, "", location="http://example.invalid/v1")]),
    "301": ("redirect", [http(301, "", location="/v2/chat/completions")]),
}
FAILS: dict[str, tuple[str, Sequence[Part]]] = {
    "context": ("context_length", [http(400, error("too long", "context_length_exceeded"))]),
    "context-vllm": (
        "context_length",
        [http(400, {"message": "This model's maximum context length is 4096 tokens."})],
    ),
    "filter": ("content_filter", [http(400, error("no", "content_filter"))]),
    "400": ("bad_request", [http(400, error("temperature is not supported"))]),
    "422": ("bad_request", [http(422, "not JSON")]),
    "tool-call": (
        "tool_call",
        [http(200, chat(None, "tool_calls", tool_calls=[{"function": {"arguments": "[[A]]"}}]))],
    ),
    "huge": ("too_large", [http(200, chat("x" * 3_000_000))]),
    "huge-error": ("too_large", [http(500, "x" * 3_000_000)]),
    "bomb": ("too_large", [http(200, _bomb(), content_encoding="gzip")]),
    "bomb-error": ("too_large", [http(500, _bomb(), content_encoding="gzip")]),
    "endless": ("too_large", [_HEAD + b"\r\n", *[b" " * 100_000] * 30, CUT]),
}
FAULTS = {**TRANSIENT, **{name: parts for name, (_, parts) in (STOPS | FAILS).items()}}

Script = Callable[[dict[str, Any], int], "str | Sequence[Part] | None"]


def once(fault: str | Sequence[Part]) -> Script:
    """A script that plays the fault to the first arrival of each body."""
    return lambda body, nth: fault if nth == 0 else None


def always(fault: str | Sequence[Part]) -> Script:
    """A script that plays the fault to every arrival."""
    return lambda body, nth: fault


class Loopback:
    """The server, running in a thread between `with` and its end.

    `answer(body)` gives the text of a good reply, or a whole completion as a dict; `script(body,
    nth)` the name of a fault, the parts of one, or None for a good reply; `delay` is in seconds;
    with a `certificate` it speaks https. `port` 0 is any that is free.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], str | dict[str, Any]] = echo,
        script: Script | None = None,
        delay: float = 0.0,
        certificate: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.answer, self.script, self.delay = answer, script, delay
        self.certificate, self.port = certificate, port
        self.calls: list[Call] = []
        self.in_flight = self.busiest = 0
        self._seen: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "Loopback":
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        scheme = "https" if self.certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self._done = asyncio.Event()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._connection, sock=self._listener, ssl=self.certificate
        )
        await self._done.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serves one request; whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if head[0].startswith("GET"):
            writer.write(http(200, str(len(self.calls))))
            return True
        authorization = next((line for line in head if line.lower().startswith("authori")), "")
        headers["authorization"] = authorization.partition(": ")[2]
        body = json.loads(raw)
        nth = self._seen[raw]
        self._seen[raw] += 1
        self.calls.append(Call(head[0].split(" ")[1], body, headers, nth))
        self.in_flight += 1
        self.busiest = max(self.busiest, self.in_flight)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            fault = self.script(body, nth) if self.script else None
            if fault is None:
                said = self.answer(body)
                fault = [http(200, said if isinstance(said, dict) else chat(said))]
            return await self._play(FAULTS[fault] if isinstance(fault, str) else fault, writer)
        finally:
            self.in_flight -= 1

    async def _play(self, parts: Sequence[Part], writer: asyncio.StreamWriter) -> bool:
        for part in parts:
            if isinstance(part, bytes):
                writer.write(part)
                await writer.drain()
            elif part == RESET:
                # Lingering for no time makes the close a reset.
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
                return False
            elif part == CUT:
                writer.close()
                await writer.wait_closed()
                return False
            else:
                await asyncio.sleep(part)
        return True


if __name__ == "__main__":
    with Loopback(delay=float(sys.argv[1]) if len(sys.argv) > 1 else 0.0) as running:
        sys.stdout.write(running.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()
