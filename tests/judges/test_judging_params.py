"""Params that a server will not take, and addresses where none is: said once, and said clearly."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pandas as pd
import pytest
from loopback import Loopback, chat, http

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.endpoints.replies import Fault, read_reply
from lmjudge.errors import EndpointError, EndpointStopped
from lmjudge.judges import RESPONSE_FORMATS, Judge, judge_answers
from lmjudge.store import Store


def error(message: str, param: str | None = None, code: str | None = None) -> bytes:
    whole = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return json.dumps({"error": whole}).encode()


TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_c' instead."
)
HEAT = "Unsupported value: 'temperature' does not support 0 with this model. Only 1 is supported."


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (error(TOKENS, "max_tokens", "unsupported_parameter"), "'max_tokens'"),
        (error(TOKENS), "'max_tokens'"),
        (error(HEAT, "temperature", "unsupported_value"), "'temperature'"),
        (error("Unrecognized request argument supplied: reasoning_effort"), "'reasoning_effort'"),
        (error("Unknown parameter: 'top_logprob'.", code="unknown_parameter"), "'top_logprob'"),
        (error("Invalid schema", "response_format"), "'response_format'"),
        (error("no", "reasoning.effort", "unsupported_value"), "'reasoning.effort'"),
    ],
)
def test_a_param_that_no_request_could_have_stops_the_run(body: bytes, named: str) -> None:
    fault = read_reply(400, {}, body)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.then, fault.status) == ("bad_param", "stop", 400)
    assert f"refuses the param {named} as sent" in fault.message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (error("'messages' must contain the word 'json'", "messages"), "bad_request"),
        (error("Invalid content", "messages.[0].content"), "bad_request"),
        (error("max_tokens is too large: 9", "max_tokens"), "bad_request"),
        (error("This model's maximum context length is 9", "max_tokens"), "context_length"),
        (error("flagged", "prompt", "content_filter"), "content_filter"),
        (error("something is wrong"), "bad_request"),
    ],
)
def test_what_one_request_is_blamed_for_fails_alone(body: bytes, reason: str) -> None:
    fault = read_reply(400, {}, body)
    assert isinstance(fault, Fault)
    assert (fault.reason, fault.then) == (reason, "fail")


def lineup(count: int) -> pd.DataFrame:
    rows = [
        {
            "question_id": n,
            "category": "writing",
            "model": "m",
            "sample": 0,
            "question": [f"Question {n}?"],
            "reference": None,
            "answer": [f"Answer {n}."],
        }
        for n in range(count)
    ]
    return pd.DataFrame(rows)


def test_a_model_that_reasons_is_judged_with_its_own_params(tmp_path: Path) -> None:
    """The server refuses temperature and max_tokens, as models that reason do."""

    def script(body: dict, nth: int) -> list[bytes] | None:
        for param, said in (("max_tokens", TOKENS), ("temperature", HEAT)):
            if param in body:
                return [http(400, error(said, param))]
        return None

    def answer(body: dict) -> dict:
        return chat("<think>It is a [[2]].</think>\nFine.\n[[9]]")

    store = Store(tmp_path / "judgments", mode="record")
    with Loopback(answer, script) as server:
        endpoint = OpenAIEndpoint(server.url, concurrency=1)
        how = {"store": store, "endpoint": endpoint}
        with pytest.raises(EndpointStopped, match="'max_tokens' as sent") as stopped:
            judge_answers(lineup(20), Judge("single", "o"), **how)
        assert stopped.value.reason == "bad_param"
        assert len(server.calls) == 1
        params = {"max_completion_tokens": 900, "reasoning_effort": "low"}
        low = judge_answers(lineup(3), Judge("single", "o", params=params), **how)
        assert list(low["score"]) == [9.0] * 3
        assert set(server.calls[-1].body) == {"model", "messages", *params}
        high = Judge("single", "o", params=params | {"reasoning_effort": "high"})
        assert set(judge_answers(lineup(3), high, **how)["key"]).isdisjoint(low["key"])
        assert store.calls == 7


def test_a_schema_goes_out_as_it_is_and_its_verdict_is_read(tmp_path: Path) -> None:
    shape = RESPONSE_FORMATS["single-json"]
    judge = Judge("single-json", "j", parser="json", params={"response_format": shape})
    with Loopback(lambda body: '{"reasoning": "Well.", "score": 7.5}') as server:
        scores = judge_answers(
            lineup(1),
            judge,
            store=Store(tmp_path / "judgments", mode="record"),
            endpoint=OpenAIEndpoint(server.url),
        )
        assert server.calls[0].body["response_format"] == shape
        properties = server.calls[0].body["response_format"]["json_schema"]["schema"]["properties"]
        assert list(properties) == ["reasoning", "score"]
    assert list(scores["score"]) == [7.5]
    assert list(scores["judge"]) == ["j/single-json"]


def test_addresses_without_a_server_or_a_scheme_are_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    store = Store(tmp_path / "judgments", mode="record")
    closed = OpenAIEndpoint(url, max_attempts=1)
    with pytest.raises(EndpointStopped, match=f"no server answers at {url}; start the server"):
        judge_answers(lineup(1), Judge("single", "j"), store=store, endpoint=closed)
    bare = OpenAIEndpoint("localhost:8000/v1")
    with pytest.raises(EndpointError, match=r"\('localhost:8000/v1' names no http or https\)"):
        judge_answers(lineup(1), Judge("single", "j"), store=store, endpoint=bare)
    secret = OpenAIEndpoint("me:secret@localhost/v1")
    with pytest.raises(EndpointError) as told:
        judge_answers(lineup(1), Judge("single", "j"), store=store, endpoint=secret)
    assert "secret" not in str(told.value)
