"""Send one POST to an OpenAI-compatible server and return its response.

aiohttp sends. It does not retry a POST or follow redirects here, and no body exceeds a limit,
packed or unpacked. Heavy to import: only an endpoint's open session imports it.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from lmjudge.endpoints.network import Network
from lmjudge.endpoints.replies import Fault, text_so_far


class Returned(NamedTuple):
    """A response, decompressed and not parsed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


_EXPLANATION = 5.0  # seconds to wait for the text of a refusal, whose status is known

Post: TypeAlias = Callable[[bytes], Awaitable[Returned | Fault]]


@asynccontextmanager
async def connect(
    base_url: str,
    api_key: str,
    network: Network,
    *,
    headers: Mapping[str, str],
    connections: int,
    max_bytes: int,
    heard: Callable[[str], None] | None = None,
) -> AsyncIterator[Post]:
    """Yield a coroutine function that posts a chat request and returns what came back.

    It returns a Fault where no whole response did. `heard` gets the text of a streamed reply so
    far, ten times a second at most.
    """
    parts = urlsplit(base_url)
    path = f"{parts.path.rstrip('/')}/chat/completions"
    address = URL(parts._replace(path=path).geturl(), encoded=True)
    # With each request: what a session has by default, aiohttp tells the proxy too.
    sent = CIMultiDict(_headers(api_key, headers))
    if heard is not None:
        sent["Accept-Encoding"] = "identity"  # a compressed stream is read at its end only
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=network.tls),
        request_class=_OnCleanConnection,
        timeout=aiohttp.ClientTimeout(),  # the endpoint's own limit is for the whole request
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=network.proxy,
    ) as session:

        async def post(body: bytes) -> Returned | Fault:
            try:
                async with session.post(
                    address, data=body, headers=sent, allow_redirects=False
                ) as response:
                    return await _returned(response, max_bytes, heard)
            except _UnaskedReply:
                return await post(body)  # nothing was sent; each try closes one connection
            except (aiohttp.ClientError, OSError) as error:
                return _cut_short(error, base_url, network.proxy_named_by)

        yield post


async def _returned(
    response: aiohttp.ClientResponse, max_bytes: int, heard: Callable[[str], None] | None
) -> Returned | Fault:
    """Return a response. A refusal counts by its status, even if its explanation is damaged."""
    refusal = 300 <= response.status < 500
    content, heard_at = bytearray(), time.monotonic()
    try:
        async with asyncio.timeout(_EXPLANATION if refusal else None):
            async for piece in response.content.iter_any():
                content += piece
                if heard is not None and time.monotonic() - heard_at > 0.1:
                    heard(text_so_far(bytes(content)))
                    heard_at = time.monotonic()
                if len(content) > max_bytes:
                    break
    except (aiohttp.ClientError, OSError):
        if response.status < 300:
            raise
    try:
        data = _decoded(bytes(content), response.headers.get("content-encoding", ""), max_bytes)
    except zlib.error as error:
        if response.status < 300:
            message = (
                f"the compressed reply is damaged ({error}); turn compression off in the server"
            )
            return Fault("bad_reply", message, response.status, alike="damaged")
        data = b""
    if len(data) > max_bytes and not refusal:
        return _too_large(max_bytes, response.status)
    return Returned(response.status, response.headers, data[:max_bytes])


class _UnaskedReply(aiohttp.ClientConnectionError):
    """A kept connection holds a reply that no request asked for."""


class _OnCleanConnection(aiohttp.ClientRequest):
    """A request that refuses a connection on which something already waits.

    A server that replies twice, or says 408 to an idle connection, would else answer the next
    request with that.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is not None and conn.protocol.should_close:
            raise _UnaskedReply
        return await super().send(conn)


def _headers(api_key: str, own: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request: those of the openai package, and the endpoint's own."""
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Content-Type": "application/json",
        "User-Agent": f"lmjudge/{version('lmjudge')}",
    }
    if api_key or not own:
        headers["Authorization"] = f"Bearer {api_key or 'none'}"
    for name, variable in (("Organization", "OPENAI_ORG_ID"), ("Project", "OPENAI_PROJECT_ID")):
        if value := os.environ.get(variable):
            headers[f"OpenAI-{name}"] = value
    replaced = {name.lower() for name in own}
    return {name: item for name, item in headers.items() if name.lower() not in replaced} | {**own}


def _decoded(body: bytes, codings: str, most: int) -> bytes:
    """Return at most one byte over `most` of a body; zlib.error if its compression is damaged.

    Codings that are not asked for leave the body as it is: some servers name a character set.
    """
    for coding in reversed(re.findall(r"[^\s,]+", codings.lower())):
        if coding in ("gzip", "x-gzip", "deflate") and body:
            body = _unpacked(body, coding, most)
    return body


def _unpacked(body: bytes, coding: str, most: int) -> bytes:
    raw = coding == "deflate" and body[0] & 15 != 8  # without zlib's header
    data, members = b"", True
    while members:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS if raw else 32 + zlib.MAX_WBITS)
        data += unpacker.decompress(body, most + 1 - len(data))
        if not unpacker.eof and len(data) <= most:
            raise zlib.error("it was cut off")
        body = unpacker.unused_data
        members = len(data) <= most and body.startswith(b"\x1f\x8b")
    return data


def _too_large(max_bytes: int, status: int) -> Fault:
    return Fault(
        "too_large", f"more than {max_bytes:,} bytes came back (max_bytes)", status, "fail"
    )


def _cut_short(error: Exception, base_url: str, proxy_named_by: str) -> Fault:
    """Return the fault under the transport's error."""
    text = f"({type(error).__name__}: {str(error)[:300]})"
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        message = (
            f"the proxy of {proxy_named_by} does not reach {base_url}; start it, unset the"
            f" variable, or add the server's host to NO_PROXY {text}"
        )
        return Fault("unreachable", message, refused=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        advice = "start the server, or check the base URL"
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            advice = "give the file of its authority as ca_file (--ca-file)"
        message = f"no server answers at {base_url}; {advice} {text}"
        return Fault("unreachable", message, refused=True)
    return Fault("connection", f"the connection broke before the reply was complete {text}")
