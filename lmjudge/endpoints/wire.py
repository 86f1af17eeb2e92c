"""One POST to an OpenAI-compatible server, and all that came back, whatever it was.

The openai package sends, over its aiohttp transport; it neither retries nor follows redirects
here, and no body grows beyond a cap, be it an answer, an error or a few kilobytes that unzip to
gigabytes. Heavy to import: only an endpoint's open session imports it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import aiohttp
import httpx2
import openai

from lmjudge.endpoints.replies import Fault


class Returned(NamedTuple):
    """What a server sent back: decoded from its content encoding, not read yet."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _TooLarge(Exception):
    """A body that is not read further."""


Post: TypeAlias = Callable[[bytes], Awaitable[Returned | Fault]]


class _Bounded(openai.DefaultAioHttpClient):
    """A client that reads at most `max_bytes` of any body and follows no redirect."""

    max_bytes: int

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        options |= {"stream": True, "follow_redirects": False}
        response = await super().send(request, **options)
        body = bytearray()
        try:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > self.max_bytes:
                    raise _TooLarge
        finally:
            await response.aclose()
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return httpx2.Response(
            response.status_code, headers=headers, content=bytes(body), request=request
        )


@asynccontextmanager
async def connect(
    base_url: str, api_key: str, *, concurrency: int, max_bytes: int
) -> AsyncIterator[Post]:
    """A coroutine function that posts a chat request: what came back, a Fault if nothing whole."""
    # No limit on time here: the SDK's is per read, so one byte a second would outlast it.
    http = _Bounded(timeout=None, limits=httpx2.Limits(max_connections=concurrency))
    http.max_bytes = max_bytes
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key=api_key, max_retries=0, timeout=None, http_client=http
    ) as client:

        async def post(body: bytes) -> Returned | Fault:
            try:
                response = await client.post(
                    "/chat/completions", cast_to=httpx2.Response, content=body
                )
            except openai.APIStatusError as error:
                response = error.response
            except _TooLarge:
                message = f"more than {max_bytes:,} bytes came back (max_bytes)"
                return Fault("too_large", message, then="fail")
            except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
                return _cut_short(error)
            return Returned(response.status_code, response.headers, response.content)

        yield post


def _cut_short(error: BaseException) -> Fault:
    """The fault that lies under the SDK's error, which calls a reset connection a time-out."""
    while isinstance(error, (openai.OpenAIError, httpx2.HTTPError)) and error.__cause__:
        error = error.__cause__
    refused = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ClientProxyConnectionError))
    return Fault(
        "unreachable" if refused else "connection",
        f"no whole reply came back ({type(error).__name__}: {str(error)[:300]})",
    )
