"""A budget holds whatever the server answers: every sending counts, and every usage told."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from loopback import CUT, Loopback, always, chat, error, http
from support import examples

from lmjudge.endpoints.budget import Budget
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import EndpointStopped, PriceError
from lmjudge.prices import Price
from lmjudge.records import Reply, Request
from lmjudge.store import Store

TABLE = {"m": Price("m", 1e6, 1e6)}  # a dollar a token
LONGEST = 5
QUESTION = "12 character"
DEAREST = 2 * len(QUESTION) / 4 + LONGEST
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n"


def requests(count: int) -> list[Request]:
    message = [{"role": "user", "content": QUESTION}]
    return [Request("m", message, {"max_tokens": LONGEST}, sample) for sample in range(count)]


def whole(read: float, written: float, **changes: Any) -> bytes:
    usage = {"prompt_tokens": read, "completion_tokens": written}
    return http(200, chat("x") | {"usage": usage} | changes)


def ask(budget: Budget, *asked: Request) -> list[Any]:
    async def run() -> list[Any]:
        free = asyncio.Semaphore(budget.concurrency)

        async def one(answer: Any, request: Request) -> Reply:
            async with free:
                return await answer(request)

        async with budget.session() as answer:
            return await asyncio.gather(
                *[one(answer, request) for request in asked], return_exceptions=True
            )

    return asyncio.run(run())


# What a server may do with a call, and the dollars that it charges for it.
HONEST: dict[str, tuple[list[Any], float]] = {
    "a reply": ([whole(3, 5)], 8),
    "a short reply": ([whole(3, 1)], 4),
    "a reply with status 201": ([whole(3, 5).replace(b" 200 ", b" 201 ", 1)], 8),
    "a reply that says little": ([whole(3, 2, choices=[{"message": {"content": ""}}])], 5),
    "no usage": ([http(200, chat("x") | {"usage": None})], 3.25),
    "usage by other names": ([whole(0, 0, usage={"input_tokens": 6, "output_tokens": 5})], 11),
    "no choice": ([whole(6, 5, choices=[])], 11),
    "counts as text": ([whole(0, 0, usage={"prompt_tokens": "6", "completion_tokens": "5"})], 11),
    "a total alone": ([whole(0, 0, usage={"total_tokens": 11})], 11),
    "a total and the prompt": ([whole(0, 0, usage={"prompt_tokens": 6, "total_tokens": 11})], 11),
    "no choice, and a total": ([whole(0, 0, usage={"total_tokens": 11}, choices=[])], 11),
    "no choice, and no count": ([whole(0, 0, usage={"prompt_tokens": None}, choices=[])], 11),
    "no choice, and the prompt": ([whole(0, 0, usage={"prompt_tokens": 6}, choices=[])], 11),
    "an error in the middle of a thought": (
        [http(200, {"choices": [{"message": {"reasoning": "x"}, "error": {"message": "died"}}]})],
        11,
    ),
    "a number for content": ([whole(6, 5, choices=[{"message": {"content": 7}}])], 11),
    "a tool call": ([whole(3, 5, choices=[{"message": {"tool_calls": [{}]}}])], 8),
    "broken off": (
        [whole(3, 5, choices=[{"message": {"content": "x"}, "finish_reason": "error"}])],
        8,
    ),
    "an error with usage": ([whole(3, 5, error={"message": "died"})], 8),
    "an error in the middle": (
        [http(200, {"choices": [{"message": {"content": "x"}, "error": {"message": "died"}}]})],
        11,
    ),
    "not JSON": ([http(200, "<html>")], 11),
    "cut, and charged for": ([HEAD + b"{", CUT], 11),
    "closed, and charged for": ([CUT], 11),
    "busy": ([http(429, error("slow down"))], 0),
    "down": ([http(503, "")], 0),
    "refused": ([http(400, error("odd"))], 0),
}
DEAR: dict[str, tuple[list[Any], float]] = {
    "ten times the bound": ([whole(60, 50)], 110),
    "unfit and dear": ([whole(60, 50, choices=[])], 110),
}


@examples(100)
@given(
    st.lists(st.sampled_from(sorted(HONEST)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.floats(0, 150),
    st.integers(0, 20) | st.none(),
)
def test_no_server_that_keeps_to_the_bound_exceeds_a_budget(
    names: list[str], concurrency: int, dollars: float, calls: int | None
) -> None:
    _holds(HONEST, names, concurrency, dollars, calls, over=0)


@examples(100)
@given(
    st.lists(st.sampled_from(sorted(HONEST | DEAR)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.floats(0, 150),
    st.integers(0, 20) | st.none(),
)
def test_no_server_exceeds_a_budget_by_more_than_the_calls_in_flight(
    names: list[str], concurrency: int, dollars: float, calls: int | None
) -> None:
    _holds(HONEST | DEAR, names, concurrency, dollars, calls, over=concurrency * 110)


def _holds(
    behaviours: dict[str, tuple[list[Any], float]],
    names: list[str],
    concurrency: int,
    dollars: float,
    calls: int | None,
    over: float,
) -> None:
    turn, charged = itertools.cycle(names), 0.0

    def script(body: dict[str, Any], nth: int) -> list[Any]:
        nonlocal charged
        parts, price = behaviours[next(turn)]
        charged += price
        return parts

    with Loopback(script=script) as server:
        endpoint = OpenAIEndpoint(server.url, concurrency=concurrency, backoff=1e-4)
        budget = Budget(endpoint, dollars=dollars, calls=calls, table=TABLE)
        outcomes = ask(budget, *requests(12))
        sent = len(server.calls)
    assert budget.used.calls == sent <= (sent if calls is None else calls)
    assert charged <= dollars + over + 1e-6
    assert charged <= budget.used.dollars + 1e-6
    stopped = [one for one in outcomes if isinstance(one, EndpointStopped)]
    if sent and any(one.reason == "budget" for one in stopped):
        left = dollars - budget.used.dollars
        assert left < DEAREST or sent == calls


@pytest.mark.parametrize(
    ("options", "most"), [({"calls": 2}, 2), ({"dollars": 0.10}, 1)], ids=["calls", "dollars"]
)
def test_unfit_replies_that_were_paid_for_end_a_budget(
    tmp_path: Path, options: dict[str, Any], most: int
) -> None:
    """Six questions of 2,500 tokens a reply: $2.34 left once, told as $0."""
    usage = {"prompt_tokens": 500, "completion_tokens": 2000}
    unfit = [http(200, chat(7) | {"usage": usage})]
    table = {"m": Price("m", 10, 30)}
    with Loopback(script=always(unfit)) as server:
        store = Store(tmp_path / "judgments", mode="record")
        endpoint = OpenAIEndpoint(server.url, backoff=0.01)
        asked = [
            Request("m", [{"role": "user", "content": str(at)}], {"max_tokens": 2000})
            for at in range(6)
        ]
        budget = Budget(endpoint, table=table, **options)
        with pytest.raises(EndpointStopped, match="budget is used up"):
            list(store.ask(asked, budget))
        assert len(server.calls) == budget.used.calls == store.calls == most
    assert budget.used.dollars == pytest.approx(most * 0.065)
    assert store.unanswered["bad_reply"] == most


def test_a_prompt_of_dense_characters_is_held_at_what_it_may_cost() -> None:
    """A Chinese character is a token or more; a letter is a quarter of one."""
    text = "\u8bc4\u4ef7\u8fd9\u4e24\u4e2a\u56de\u7b54\u3002" * 5
    request = Request("m", [{"role": "user", "content": text}], {"max_tokens": LONGEST})
    with Loopback(script=always([whole(1.2 * len(text), 5)])) as server:
        budget = Budget(OpenAIEndpoint(server.url), dollars=50, table=TABLE)
        [stopped] = ask(budget, request)
        assert (stopped.reason, len(server.calls)) == ("budget", 0)
        budget = Budget(OpenAIEndpoint(server.url), dollars=66, table=TABLE)
        assert isinstance(ask(budget, request)[0], Reply)
    assert budget.used.dollars == pytest.approx(53)


@pytest.mark.parametrize("bound", [-1, 0])
def test_a_limit_that_limits_nothing_is_none(bound: int) -> None:
    """llama.cpp takes -1 for no limit; it once lowered what a call may cost below nothing."""
    with Loopback(script=always([whole(60, 50)])) as server:
        budget = Budget(OpenAIEndpoint(server.url), dollars=1, table=TABLE)
        [problem] = ask(budget, Request("m", [], {"max_tokens": bound}))
    assert (type(problem), len(server.calls)) == (PriceError, 0)


def test_two_budgets_hold_together(tmp_path: Path) -> None:
    with Loopback(script=always("503")) as server:
        inner = Budget(OpenAIEndpoint(server.url, backoff=0.01), calls=4)
        outer = Budget(inner, dollars=50, table=TABLE)
        store = Store(tmp_path / "judgments", mode="record")
        with pytest.raises(EndpointStopped, match="4 of 4 calls made"):
            list(store.ask(requests(3), outer))
        assert len(server.calls) == store.calls == 4
    assert (inner.used.calls, outer.used.calls, outer.used.dollars) == (4, 4, 0)
