"""One POST to an OpenAI-compatible server, and all that came back, whatever it was.

The openai package sends, over its aiohttp transport; it neither retries nor follows redirects
here, and no body grows beyond a cap, be it an answer, an error or a few kilobytes that unzip to
gigabytes. Heavy to import: only an endpoint's open session imports it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import aiohttp
import httpx2
import openai

from lmjudge.endpoints.network import Network
from lmjudge.endpoints.replies import Fault

if TYPE_CHECKING:
    from lmjudge.endpoints.openai import OpenAIEndpoint


class Returned(NamedTuple):
    """What a server sent back: decoded from its content encoding, not read yet."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Post: TypeAlias = Callable[[bytes], Awaitable[Returned | Fault]]


@asynccontextmanager
async def connect(
    endpoint: OpenAIEndpoint, base_url: str, api_key: str, network: Network
) -> AsyncIterator[Post]:
    """Yield a coroutine function that posts a chat request and returns what came back.

    It returns a Fault where no whole response did.
    """
    max_bytes = endpoint.max_bytes
    # No limit on time here: the SDK's is per read, so one byte a second would outlast it.
    http = openai.DefaultAioHttpClient(
        timeout=None,
        limits=httpx2.Limits(max_connections=endpoint.concurrency),
        **network.options,
    )
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=api_key or "none", http_client=http
    ) as client:
        # The SDK says what is sent where; sending it by client.post would cost as much again, and
        # would read error bodies of any size.
        url = client.base_url.copy_with(path=client.base_url.path + "chat/completions")
        headers = httpx2.Headers(http.headers)
        authorization = client.auth_headers if api_key or not endpoint.headers else {}
        for name, value in (client.default_headers | authorization).items():
            if isinstance(value, str):
                headers[name] = value
        if not authorization:
            headers.pop("authorization", None)
        headers.update(endpoint.headers)

        async def post(body: bytes) -> Returned | Fault:
            request = httpx2.Request("POST", url, headers=headers, content=body)
            try:
                response = await http.send(request, stream=True, follow_redirects=False)
                try:
                    content = bytearray()
                    async for piece in response.aiter_bytes():
                        content += piece
                        if len(content) > max_bytes:
                            message = f"more than {max_bytes:,} bytes came back (max_bytes)"
                            return Fault("too_large", message, response.status_code, "fail")
                finally:
                    await response.aclose()
            except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
                return _cut_short(error, base_url, network.proxy_named_by)
            return Returned(response.status_code, response.headers, bytes(content))

        yield post


def _cut_short(error: BaseException, base_url: str, proxy_named_by: str) -> Fault:
    """Return the fault under the transport's error, which calls a reset connection a time-out."""
    if isinstance(error, httpx2.HTTPError) and error.__cause__:
        error = error.__cause__
    text = f"({type(error).__name__}: {str(error)[:300]})"
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        message = (
            f"the proxy of {proxy_named_by} gave no way to {base_url}; start it, unset the"
            f" variable, or add the server's host to NO_PROXY {text}"
        )
        return Fault("unreachable", message, refused=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        advice = "start the server, or check the base URL"
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            advice = "give the file of its authority as ca_file (--ca-file)"
        message = f"nothing answers at {base_url}; {advice} {text}"
        return Fault("unreachable", message, refused=True)
    return Fault("connection", f"no whole reply came back {text}")
