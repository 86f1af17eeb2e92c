"""The OpenAI endpoint against a real server on this machine that plays every fault we know."""

import asyncio
import gc
import gzip
import json
import logging
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
import urllib.request
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given, strategies as st
from loopback import (
    CUT,
    FAILS,
    FAULTS,
    STOPS,
    TRANSIENT,
    Loopback,
    always,
    chat,
    echo,
    error,
    http,
    once,
)
from support import examples

from lmjudge.endpoints.budget import Budget
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.endpoints.replies import Fault, read_reply, retry_after
from lmjudge.errors import EndpointError, EndpointStopped, LmjudgeError, RequestError, RequestFailed
from lmjudge.prices import Price
from lmjudge.records import Record, Reply, Request

SLOW = {"hang", "slow-head", "slow-body"}
KEY = "canary/7Q+d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def question(text="What is 2 + 2?", **params):
    return Request("asked-model", [{"role": "user", "content": text}], params)


def endpoint(url, **options):
    return OpenAIEndpoint(url, **{"api_key": KEY, "timeout": 20.0, "backoff": 0.01, **options})


def ask(point, *requests):
    """What each request came to, a reply or an error, all asked at once in one session."""

    async def run():
        async with point.session() as answer:
            outcomes = await asyncio.gather(*map(answer, requests), return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return outcomes

    return asyncio.run(run())


def name_of(body):
    """The fault that a request asks for: the word that its question begins with."""
    return body["messages"][0]["content"].split()[0]


# -- A reply --------------------------------------------------------------------------------------


def test_sends_model_messages_and_params_only_and_in_order():
    schema = {"reasoning": {"type": "string"}, "answer": {"type": "string"}}
    request = Request(
        "m",
        [{"role": "user", "content": "caf\u00e9 \u4f60"}],
        {"temperature": 0.0, "response_format": {"z": schema, "a": 1}},
        sample=3,
        provider="p",
    )
    with Loopback() as server:
        [reply] = ask(endpoint(server.url), request)
    [call] = server.calls
    expected = {
        "model": "m",
        "messages": [{"role": "user", "content": "caf\u00e9 \u4f60"}],
        "temperature": 0.0,
        "response_format": {"z": schema, "a": 1},
    }
    assert json.dumps(call.body) == json.dumps(expected)
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert reply.text == echo(expected)
    assert (reply.finish_reason, reply.model) == ("stop", "served-model")
    assert reply.fingerprint == "fp_loopback"
    assert reply.usage["total_tokens"] == 8
    assert abs(reply.created - time.time()) < 60
    assert 0 < reply.latency < 60


def test_keeps_all_that_was_told():
    said = chat("half \ud83d pair", "length", reasoning_content="let me see")
    said["choices"][0]["logprobs"] = {
        "content": [{"token": "\udce9", "logprob": float("-inf"), "top": [1e999, 10**30, True]}]
    }
    del said["usage"]
    with Loopback(answer=lambda body: said) as server:
        [reply] = ask(endpoint(server.url), question())
    assert reply.text == "half \ufffd pair"
    assert (reply.finish_reason, reply.reasoning, reply.usage) == ("length", "let me see", None)
    [token] = reply.logprobs["content"]
    assert token["token"] == "\ufffd"
    assert token["logprob"] == "-Infinity"
    assert token["top"] == ["Infinity", str(10**30), True]
    record = Record(question(), reply)
    assert Record.from_line(record.line).reply == reply


@pytest.mark.parametrize(
    ("said", "text", "finish", "refusal"),
    [
        (chat(None, "stop", refusal="I won't."), "", "stop", "I won't."),
        (chat(None, "content_filter"), "", "content_filter", None),
        (chat(None, "length", reasoning="hm"), "", "length", None),
        (chat("", "stop"), "", "stop", None),
        (chat(None, "stop"), "", "stop", None),
        (chat(None, "network lost"), "", "network lost", None),
        (chat(None, None, reasoning="hm"), "", None, None),
        (chat("words", "tool_calls", tool_calls=[{}]), "words", "tool_calls", None),
        (chat("words", None), "words", None, None),
    ],
)
def test_replies_that_say_little_are_still_replies(said, text, finish, refusal):
    with Loopback(answer=lambda body: said) as server:
        [reply] = ask(endpoint(server.url), question())
    assert (reply.text, reply.finish_reason, reply.refusal) == (text, finish, refusal)
    assert len(server.calls) == 1


def test_the_server_counts_for_other_processes():
    with Loopback() as server:
        ask(endpoint(server.url), *[question(str(i)) for i in range(3)])
        with urllib.request.urlopen(f"{server.url}/calls") as counted:
            assert counted.read() == b"3"


def test_keeps_to_its_concurrency():
    with Loopback(delay=0.02) as server:
        replies = ask(endpoint(server.url, concurrency=4), *[question(str(i)) for i in range(20)])
    assert len({reply.text for reply in replies}) == 20
    assert 1 < server.busiest <= 4


# -- Transient faults -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unfaulted():
    with Loopback() as server:
        return ask(endpoint(server.url), question())[0]


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_transient_fault_is_recovered(name, unfaulted):
    with Loopback(script=once(name)) as server:
        [reply] = ask(endpoint(server.url, timeout=0.7 if name in SLOW else 20), question())
    assert reply.same_as(unfaulted)
    assert len(server.calls) == 2


@pytest.mark.slow
def test_transient_faults_all_at_once_change_no_reply():
    requests = [question(f"{name} {i}") for i in range(3) for name in TRANSIENT]
    with Loopback() as server:
        expected = ask(endpoint(server.url), *requests)
    script = lambda body, nth: name_of(body) if nth == 0 else None  # noqa: E731
    with Loopback(script=script) as server:
        replies = ask(endpoint(server.url, timeout=3), *requests)
    assert all(isinstance(reply, Reply) for reply in replies), replies
    assert all(reply.same_as(other) for reply, other in zip(replies, expected, strict=True))
    assert len(server.calls) == 2 * len(requests)


def test_transient_faults_for_ever_fail_typed_and_bounded_and_others_go_on():
    names = [name for name in TRANSIENT if name not in SLOW]
    requests = [question(f"{name} for ever") for name in names] + [question("fine")]
    script = lambda body, nth: name_of(body) if name_of(body) in FAULTS else None  # noqa: E731
    with Loopback(script=script) as server:
        *failed, fine = ask(endpoint(server.url, max_attempts=3), *requests)
    assert isinstance(fine, Reply)
    assert len(server.calls) == 3 * len(failed) + 1
    kinds = {"rate_limited", "server_error", "connection", "bad_reply"}
    for name, failure in zip(names, failed, strict=True):
        assert isinstance(failure, RequestFailed), (name, failure)
        assert failure.attempts == 3
        assert failure.reason in kinds
    by_name = dict(zip(names, failed, strict=True))
    assert (by_name["429"].reason, by_name["429"].status) == ("rate_limited", 429)
    assert (by_name["529"].reason, by_name["529"].status) == ("server_error", 529)
    assert by_name["reset"].reason == "connection"
    assert "log in" in str(by_name["html"])


def test_nobody_listening_stops_the_run():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    [stopped] = ask(endpoint(url, max_attempts=2), question())
    assert isinstance(stopped, EndpointStopped)
    assert stopped.reason == "unreachable"


@pytest.mark.parametrize("fault", ["503", "hang", "slow-head", "slow-body"])
def test_the_deadline_ends_a_request(fault):
    with Loopback(script=always(fault)) as server:
        begun = time.monotonic()
        [failure] = ask(
            endpoint(server.url, deadline=0.6, timeout=0.25, max_attempts=10**6), question()
        )
        assert time.monotonic() - begun < 5
    assert isinstance(failure, RequestFailed)
    assert failure.reason == ("server_error" if fault == "503" else "timeout")
    assert 2 <= failure.attempts == len(server.calls)


def test_the_deadline_ends_an_attempt_too():
    with Loopback(script=always("hang")) as server:
        begun = time.monotonic()
        [failure] = ask(endpoint(server.url, deadline=0.3), question())
        assert time.monotonic() - begun < 10
    assert (failure.reason, failure.attempts) == ("timeout", 1)


# -- Pauses ---------------------------------------------------------------------------------------


def test_a_pause_is_everyones():
    async def run(point):
        async with point.session() as answer:
            first = asyncio.create_task(answer(question("first")))
            while not server.calls:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            return await asyncio.gather(first, *[answer(question(str(i))) for i in range(8)])

    busy = [http(429, error("slow down"), retry_after_ms="700")]
    script = lambda body, nth: busy if name_of(body) == "first" and nth == 0 else None  # noqa: E731
    with Loopback(script=script) as server:
        asyncio.run(run(endpoint(server.url)))
    told, *later = server.calls
    assert len(later) == 9
    assert min(call.at for call in later) - told.at >= 0.7


@pytest.mark.parametrize("status", [429, 503])
def test_seconds_are_waited_for(status):
    with Loopback(script=once([http(status, "", retry_after="1")])) as server:
        ask(endpoint(server.url), question())
    assert server.calls[1].at - server.calls[0].at >= 1


def test_a_date_is_waited_for():
    until = int(time.time()) + 2
    busy = [http(429, "", retry_after=formatdate(until, usegmt=True))]
    with Loopback(script=once(busy)) as server:
        [reply] = ask(endpoint(server.url), question())
    assert reply.created >= until


def test_a_stop_ends_the_pause():
    pause = [http(429, "", retry_after="60")]
    late = [0.3, http(401, "")]
    script = lambda body, nth: pause if name_of(body) == "first" else late  # noqa: E731

    async def run(point):
        async with point.session() as answer, asyncio.timeout(20):
            both = [answer(question(name)) for name in ("first", "second")]
            return await asyncio.gather(*both, return_exceptions=True)

    with Loopback(script=script) as server:
        outcomes = asyncio.run(run(endpoint(server.url)))
    assert [stopped.reason for stopped in outcomes] == ["unauthorized"] * 2
    assert len(server.calls) == 2


@given(st.integers(0, 10**9), st.sampled_from([("retry-after", 1), ("retry-after-ms", 1000)]))
def test_retry_after_in_seconds(number, form):
    name, unit = form
    assert retry_after({name: f" {number} "}, now=5.0) == number / unit
    assert retry_after({name: f"-{number}"}, now=5.0) is None


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.integers(-(10**6), 10**6))
def test_retry_after_as_a_date(when, ahead):
    when = when.replace(microsecond=0, tzinfo=UTC)
    now = (when - timedelta(seconds=ahead)).timestamp()
    assert retry_after({"retry-after": format_datetime(when, usegmt=True)}, now) == max(0, ahead)


@given(st.text(), st.text())
def test_retry_after_of_anything(seconds, milliseconds):
    found = retry_after({"retry-after": seconds, "retry-after-ms": milliseconds}, now=0.0)
    assert found is None or found >= 0


def test_retry_after_prefers_milliseconds_and_reads_dates_without_a_zone_as_utc():
    assert retry_after({"retry-after": "9", "retry-after-ms": "1500"}, now=0.0) == 1.5
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:07 -0000"}, now=0.0) == 7
    assert retry_after({"retry-after": "9" * 999}, now=0.0) == float("inf")
    assert retry_after({}, now=0.0) is None


# -- Faults that stop the run, faults of one request ----------------------------------------------


@pytest.mark.parametrize("name", STOPS)
def test_a_stop_fault_stops_all_with_one_request_a_worker(name):
    async def run(point):
        async with point.session() as answer:
            free = asyncio.Semaphore(4)

            async def work(request):
                async with free:
                    return await answer(request)

            return await asyncio.gather(
                *[work(question(str(i))) for i in range(20)], return_exceptions=True
            )

    with Loopback(script=always(name)) as server:
        outcomes = asyncio.run(run(endpoint(server.url)))
    assert len(server.calls) <= 4
    assert all(isinstance(stopped, EndpointStopped) for stopped in outcomes)
    assert {stopped.reason for stopped in outcomes} == {STOPS[name][0]}


def test_a_prompt_is_never_sent_on():
    with Loopback() as elsewhere:
        away = [http(307, "", location=elsewhere.url + "/chat/completions")]
        with Loopback(script=always(away)) as server:
            [stopped] = ask(endpoint(server.url), question())
        assert stopped.reason == "redirect"
        assert elsewhere.url in str(stopped)
        assert (len(server.calls), len(elsewhere.calls)) == (1, 0)


@pytest.mark.parametrize("name", FAILS)
def test_a_fault_of_one_request_is_typed_after_one_attempt(name):
    with Loopback(script=always(name)) as server:
        [failure] = ask(endpoint(server.url), question())
    assert isinstance(failure, RequestFailed)
    assert (failure.reason, failure.attempts) == (FAILS[name][0], 1)
    assert len(server.calls) == 1


def test_bombs_stay_small_in_memory():
    with Loopback(script=always("bomb")) as server:
        ask(endpoint(server.url), question("what is imported is imported now"))
        tracemalloc.start()
        try:
            ask(endpoint(server.url), *[question(str(i)) for i in range(4)])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 30_000_000


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("m", [], kind="embedding"), "embedding"),
        (question(stream=True), "stream"),
        (question(n=2), "sample"),
        (question(model="other"), "model"),
    ],
)
def test_what_it_cannot_send_fails_before_any_call(request_, says):
    with Loopback() as server:
        [failure] = ask(endpoint(server.url), request_)
    assert isinstance(failure, RequestFailed)
    assert (failure.reason, failure.attempts) == ("bad_request", 0)
    assert says in str(failure)
    assert not server.calls


def test_what_json_cannot_hold_fails_before_any_call():
    with Loopback() as server:
        outcomes = ask(endpoint(server.url), question("\ud83d"), question(temperature=float("nan")))
    assert all(isinstance(outcome, RequestError) for outcome in outcomes)
    assert not server.calls


# -- Keys and addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 307, 400, 401, 404, 429, 500])
def test_the_key_stands_nowhere(status, caplog):
    caplog.set_level(logging.DEBUG)
    echoed = f"Authorization: Bearer {KEY} and {KEY}, or sk-proj-another; " + "." * 450 + KEY
    script = always([http(status, error(echoed, echoed), location=f"http://x/?key={KEY}")])
    with Loopback(script=script) as server:
        point = endpoint(server.url, max_attempts=2)
        [raised] = ask(point, question())
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert raised.__cause__ is None
    assert raised.__context__ is None
    with_locals = traceback.TracebackException.from_exception(raised, capture_locals=True)
    seen = [
        str(raised),
        repr(raised),
        repr(vars(raised)),
        "".join(with_locals.format()),
        repr(pickle.loads(pickle.dumps(raised))),
        repr(point),
        caplog.text,
    ]
    for text in seen:
        assert KEY[:12] not in text
        assert "sk-proj" not in text
    assert "[key]" in str(raised)


@given(
    st.sampled_from([200, 204, 301, 400, 401, 403, 429, 500]),
    st.binary() | st.text().map(str.encode) | st.just(KEY.encode() * 40),
)
def test_any_bytes_are_read(status, body):
    found = read_reply(status, {"location": KEY}, body, secrets=[KEY])
    assert isinstance(found, Fault)
    assert KEY not in found.message


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@examples(200)
@given(
    st.sampled_from([200, 200, 400, 500]),
    st.fixed_dictionaries(
        {
            "choices": _json
            | st.lists(
                st.fixed_dictionaries(
                    {
                        "message": _json
                        | st.fixed_dictionaries(
                            {"content": st.text() | _json, "refusal": _json, "reasoning": _json}
                        ),
                        "finish_reason": _json,
                        "logprobs": _json,
                    }
                ),
                max_size=2,
            )
        },
        optional={"usage": _json, "model": _json, "error": _json, "system_fingerprint": _json},
    ),
)
def test_any_json_is_read_and_every_reply_can_be_stored(status, body):
    found = read_reply(status, {}, json.dumps(body).encode())
    assert isinstance(found, (Reply, Fault))
    if isinstance(found, Reply):
        assert status == 200
        error = body.get("error")  # one whose fields are all empty is none
        assert not any(error.values()) if isinstance(error, dict) else not error
        assert Record.from_line(Record(question(), found).line).reply == found


@pytest.mark.parametrize(
    ("parts", "text", "reasoning"),
    [
        ([{"type": "text", "text": "So\n"}, {"type": "text", "text": "[[A]]"}], "So\n[[A]]", None),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "[[B]]?"}]},
                {"type": "text", "text": "[[A]]"},
            ],
            "[[A]]",
            "[[B]]?",
        ),
        ([{"type": "thinking", "thinking": "hm"}], "", "hm"),
        (
            [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "[[B]]?"}]},
                {"type": "text", "text": "[[A]]"},
            ],
            "[[A]]",
            "[[B]]?",
        ),
        (["So\n", "[[A]]"], "So\n[[A]]", None),
        ({"winner": "A", "why": "caf\u00e9"}, '{"winner": "A", "why": "caf\u00e9"}', None),
        ({"type": "text", "text": "[[A]]"}, "[[A]]", None),
        ([{"text": "[[A]]"}, {"type": "citation", "text": "no"}], "[[A]]", None),
        ([{"type": "output_text", "text": "[[A]]"}, {"type": "image_url"}], "[[A]]", None),
        ([], "", None),
        ([{"type": "image_url", "image_url": {}}], "", None),
        ([{"type": "text", "text": 7}], "", None),
        ([7], None, None),
        (7, None, None),
    ],
)
def test_an_answer_in_parts_is_one_text_and_its_reasoning_none_of_it(parts, text, reasoning):
    whole = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    found = read_reply(200, {}, json.dumps(whole).encode())
    if text is None:
        assert isinstance(found, Fault)
    else:
        assert (found.text, found.reasoning) == (text, reasoning)


CONTEXT = ("context_length", "fail")
STREAMED = [
    {"model": "m-1", "choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"reasoning_content": "[[B]]"}}]},
    {"choices": [{"delta": {"reasoning_content": "?"}}]},
    {"choices": [{"delta": {"content": "So\n"}, "finish_reason": None}]},
    {"choices": [{"delta": {"content": "[[A]]"}}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 7}},
]


def test_streamed_pieces_are_one_reply():
    lines = [f"data: {json.dumps(piece)}\r\n\r\n" for piece in STREAMED]
    stream = ": ping\n\n" + "".join(lines) + "data: [DONE]\n\n"
    reply = read_reply(200, {}, stream.encode())
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("So\n[[A]]", "[[B]]?", "stop")
    assert (reply.model, reply.usage) == ("m-1", {"prompt_tokens": 7})
    cut = read_reply(200, {}, "".join(lines[:5]).encode())
    assert (cut.reason, cut.then) == ("bad_reply", "again")
    assert "broke the reply off" in cut.message
    died = read_reply(200, {}, b'data: {"error": {"code": 402, "message": "pay"}}\n\n')
    assert (died.reason, died.then) == ("quota", "stop")


IN_PARTS = [
    {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"text": "[[B]]"}]}]}}]},
    {"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"text": "?"}]}]}}]},
    {"choices": [{"delta": {"content": [{"type": "text", "text": "So\n"}]}}]},
    {"choices": [{"delta": {"content": "[["}, "logprobs": {"content": [{"token": "[["}]}}]},
    {"choices": [{"delta": {"content": "A]]"}, "logprobs": {"content": [{"token": "A]]"}]}}]},
    {"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]},
]


def test_streamed_lists_of_parts_lose_none():
    stream = "".join(f"data: {json.dumps(piece)}\n\n" for piece in IN_PARTS)
    reply = read_reply(200, {}, stream.encode())
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("So\n[[A]]", "[[B]]?", "stop")
    assert reply.logprobs == {"content": [{"token": "[["}, {"token": "A]]"}]}
    texts = 'data: {"choices": [{"text": "So "}]}\n\ndata: {"choices": [{"text": "it"}]}\n\n'
    assert read_reply(200, {}, f"{texts}data: [DONE]\n\n".encode()).text == "So it"


def streamed(*pieces, end="[DONE]"):
    """A stream of these events; a text is what stands after `data:` in one."""
    texts = [piece if isinstance(piece, str) else json.dumps(piece) for piece in pieces]
    return "".join(f"data: {text}\n\n" for text in [*texts, end] if text)


def piece(content=None, finish=None, index=0):
    return {"choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish}]}


SO, VERDICT, STOP = piece("So "), piece("[[A]]"), piece(None, "stop")
REPEATED = {"index": 0, "message": {"content": "So [[A]]"}, "finish_reason": "stop"}
UNUSUAL_STREAMS = {
    "events of several lines": "".join(
        "".join(f"data: {line}\n" for line in json.dumps(part, indent=1).splitlines()) + "\n"
        for part in (SO, VERDICT, STOP)
    ),
    "a byte order mark": "\ufeff" + streamed(SO, VERDICT, STOP),
    "another choice between": streamed(SO, piece("No [[B]]", "length", 1), VERDICT, STOP),
    "another choice first": streamed(piece("No [[B]]", "stop", 1), SO, VERDICT, STOP),
    "the whole message at the end": streamed(SO, VERDICT, {"choices": [REPEATED]}),
    "the whole message beside no delta": streamed(
        SO, VERDICT, {"choices": [REPEATED | {"delta": {}}]}
    ),
    "a piece cut off after the ending": streamed(SO, VERDICT, STOP, '{"usage": {"pro', end=""),
}


@pytest.mark.parametrize("name", UNUSUAL_STREAMS)
def test_a_stream_of_an_unusual_form_is_one_reply(name):
    reply = read_reply(200, {}, UNUSUAL_STREAMS[name].encode())
    assert (reply.text, reply.finish_reason) == ("So [[A]]", "stop")


@pytest.mark.parametrize(
    "stream",
    [
        streamed(piece("I would not say "), '{"choices": [{"del', VERDICT, STOP),
        streamed(VERDICT) + 'event: error\ndata: {"message": "overloaded"}\n\ndata: [DONE]\n\n',
        streamed(VERDICT, {"type": "error", "message": "overloaded"}),
        streamed(VERDICT, {"object": "error", "message": "overloaded"}),
        streamed(VERDICT, end="") + "event: error\ndata: overloaded\n\n",
    ],
)
def test_no_verdict_is_read_from_a_stream_with_a_hole_or_an_error(stream):
    fault = read_reply(200, {}, stream.encode())
    assert (fault.reason, fault.then, fault.refused) == ("bad_reply", "again", False)


def test_an_empty_usage_at_the_end_of_a_stream_hides_none():
    usage = {"prompt_tokens": 10, "completion_tokens": 20}
    stream = streamed(VERDICT, STOP | {"usage": usage}, {"choices": [], "usage": {}})
    assert read_reply(200, {}, stream.encode()).usage == usage


@pytest.mark.parametrize("field", ["content", "reasoning_content", "tool_calls"])
def test_whatever_came_before_an_error_may_be_charged_for(field):
    message = {"role": "assistant", "content": None, field: "hm"}
    body = {"choices": [{"message": message, "error": {"message": "provider died"}}]}
    fault = read_reply(200, {}, json.dumps(body).encode())
    assert (fault.reason, fault.refused) == ("bad_reply", False)


@pytest.mark.parametrize("begun", [True, False])
def test_an_error_in_the_middle_of_a_reply_may_be_charged_for(begun):
    piece = json.dumps({"choices": [{"delta": {"content": "So" if begun else ""}}]})
    stream = f'data: {piece}\n\ndata: {{"error": {{"message": "provider died"}}}}\n\n'
    fault = read_reply(200, {}, stream.encode())
    assert (fault.reason, fault.refused) == ("bad_reply", not begun)


@pytest.mark.parametrize(
    "said", [{"delta": {"content": "[[A]]"}}, {"message": "[[A]]"}, {"text": "[[A]]"}]
)
def test_a_text_in_another_place_than_a_message_is_read(said):
    whole = {"choices": [said | {"finish_reason": "stop"}]}
    assert read_reply(200, {}, json.dumps(whole).encode()).text == "[[A]]"


@pytest.mark.parametrize(
    "field",
    [
        {"reasoning_content": "[[B]]?"},
        {"reasoning": "[[B]]?"},
        {"reasoning": {"summary": ["[[B]]", "?"]}},
        {"reasoning_details": [{"type": "reasoning.text", "text": "[[B]]?"}]},
        {"reasoning_content": "", "thinking": "[[B]]?"},
    ],
)
@pytest.mark.parametrize("content", [None, "", "[[A]]"])
def test_reasoning_beside_any_content_is_kept(field, content):
    whole = {"choices": [{"message": {"content": content} | field, "finish_reason": "stop"}]}
    reply = read_reply(200, {}, json.dumps(whole).encode())
    assert (reply.text, reply.reasoning) == (content or "", "[[B]]?")


@pytest.mark.parametrize(
    ("body", "reason", "then"),
    [
        ({"object": "error", "message": "maximum context length is 9", "code": 40303}, *CONTEXT),
        ({"message": "no credit", "code": 402}, "quota", "stop"),
        ({"msg": "busy", "code": 503}, "server_error", "again"),
        ({"detail": "something"}, "bad_reply", "again"),
    ],
)
def test_an_error_told_as_a_bare_object_with_status_200_is_an_error(body, reason, then):
    fault = read_reply(200, {}, json.dumps(body).encode())
    assert (fault.reason, fault.then, fault.refused) == (reason, then, True)


@pytest.mark.parametrize(
    "ended",
    [
        *("error", "ERROR", "abort", "insufficient_system_resource", "network_error"),
        *("network-error", "FinishReason.ERROR"),
    ],
)
def test_what_the_server_gave_up_in_the_middle_is_asked_again_and_counted(ended):
    choice = {"message": {"content": "B says [[B]]"}, "finish_reason": ended}
    whole = {"choices": [choice], "usage": {"prompt_tokens": 3}}
    fault = read_reply(200, {}, json.dumps(whole).encode())
    assert (fault.reason, fault.then, fault.usage) == ("bad_reply", "again", {"prompt_tokens": 3})
    with Loopback(script=always([http(200, whole)])) as server:
        [failure] = ask(endpoint(server.url), question())
    assert (failure.reason, failure.attempts, len(server.calls)) == ("bad_reply", 3, 3)
    assert "B says" in str(failure)


@pytest.mark.parametrize(
    ("error_", "finish", "expected"),
    [
        ({"code": 402, "message": "pay"}, "stop", ("quota", "stop")),
        ({"code": 502, "message": "provider died"}, "stop", ("server_error", "again")),
        ({"message": "died"}, "error", ("bad_reply", "again")),
    ],
)
def test_an_error_inside_the_choice_is_an_error(error_, finish, expected):
    choice = {"message": {"content": "half [[9]]"}, "finish_reason": finish, "error": error_}
    fault = read_reply(200, {}, json.dumps({"choices": [choice]}).encode())
    assert (fault.reason, fault.then) == expected


WHOLE = json.dumps(chat("Paris")).encode()
ZIPPED = {"content_encoding": "gzip"}
WRAPPED = {
    "201": http(201, WHOLE),
    "206": http(206, WHOLE),
    "an empty error": http(200, chat("Paris") | {"error": {"message": "", "code": None}}),
    "half a character": http(200, WHOLE.replace(b"loopback", b"\xe4\xb8", 1)),
    "gzip in two members": http(200, gzip.compress(WHOLE[:9]) + gzip.compress(WHOLE[9:]), **ZIPPED),
    "comments before it": http(200, b": PROCESSING\n\n: PROCESSING\n\n" + WHOLE),
    "raw control characters": http(200, WHOLE.replace(b"loopback", b"loop\n\tback", 1)),
    "a list": http(200, b"[" + WHOLE + b"]"),
    "choices out of order": http(
        200, chat("Paris") | {"choices": [{"index": 1, "text": "Rome"}, *chat("Paris")["choices"]]}
    ),
    "one choice without a list": http(
        200, chat("Paris") | {"choices": chat("Paris")["choices"][0]}
    ),
    "nothing before the choice": http(
        200, chat("Paris") | {"choices": [None, *chat("Paris")["choices"]]}
    ),
    "an empty coding": http(200, WHOLE, content_encoding=""),
    "a character set as coding": http(200, WHOLE, content_encoding="utf-8"),
    "identity and gzip": http(200, gzip.compress(WHOLE), content_encoding="identity, gzip"),
    "gzip twice": http(200, gzip.compress(gzip.compress(WHOLE)), content_encoding="gzip, gzip"),
    "gzip and padding": http(200, gzip.compress(WHOLE) + bytes(8), **ZIPPED),
}


def test_a_key_of_one_letter_blanks_no_error():
    with Loopback(script=always("401")) as server:
        [stop] = ask(endpoint(server.url, api_key="k"), question())
    assert "bad key" in str(stop)


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_a_reply_in_an_odd_wrapping_is_kept(wrapping):
    with Loopback(script=always([WRAPPED[wrapping]])) as server:
        [reply] = ask(endpoint(server.url), question())
    assert (reply.text, len(server.calls)) == ("Paris", 1)


# -- Words that servers have for it ---------------------------------------------------------------

REFUSALS = {
    "anthropic": (
        error("`temperature` is deprecated for this model.", None, "invalid_request_error"),
        "'temperature'",
    ),
    "mistral": (
        {
            "object": "error",
            "message": {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "seed"],
                        "msg": "Extra inputs are not permitted",
                        "input": 0,
                    }
                ]
            },
            "type": "invalid_request_error",
        },
        "'seed'",
    ),
    "fastapi": (
        {"detail": [{"loc": ["body", "logprobs"], "msg": "value is not a valid boolean"}]},
        "'logprobs'",
    ),
    "xai": (
        {
            "code": "Client specified an invalid argument",
            "error": "Model grok-4 does not support parameter presencePenalty.",
        },
        "'presencePenalty'",
    ),
    "xai, on this model": (
        {"code": "invalid", "error": "Argument not supported on this model: stop"},
        "'stop'",
    ),
    "gemini": (
        [{"error": {"code": 400, "message": 'Invalid JSON payload. Unknown name "seed": Cannot'}}],
        "'seed'",
    ),
}


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_param_stops_the_run_and_is_named(name, status):
    body, named = REFUSALS[name]
    fault = read_reply(status, {}, json.dumps(body).encode())
    assert (fault.reason, fault.then) == ("bad_param", "stop")
    assert f"the param {named} as sent" in fault.message


@pytest.mark.parametrize(
    "words",
    [
        "This model only support stream mode, please enable the stream parameter",
        "The model qwq only supports streaming",
        "parameter stream must be true for this model",
    ],
)
def test_a_server_that_only_streams_stops_the_run(words):
    fault = read_reply(400, {}, json.dumps(error(words)).encode())
    assert (fault.reason, fault.then) == ("bad_request", "stop")
    assert "only streams" in fault.message


TOO_LONG = {
    "gemini": (400, error("The input token count (120) exceeds the maximum number of tokens")),
    "anthropic": (400, error("prompt is too long: 210000 tokens > 200000 maximum")),
    "bedrock": (400, error("Input is too long for requested model.")),
    "openrouter": (
        400,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": '{"message":"This model\'s maximum context length is 4096"}'},
            }
        },
    ),
    "lm studio": (
        200,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However,"
            " the model is loaded with context length of only 4096 tokens"
        },
    ),
    "llama.cpp": (500, error("the request exceeds the available context size")),
    "groq": (413, error("Request too large for model: Limit 6000", "rate_limit_exceeded")),
    "openai": (429, error("Request too large for gpt-4 on tokens per min (TPM): Limit 10000")),
    "xai": (400, {"error": "This model's maximum prompt length is 131072"}),
    "vllm": (400, error("The prompt (length 9) is longer than the maximum model length of 4")),
    "mistral": (400, {"message": "Prompt contains 9 tokens, too large for model with 4"}),
    "dashscope": (400, error("Range of input length should be [1, 30720]")),
    "gpt-5": (400, error("Input tokens exceed the configured limit of 272000 tokens.")),
    "openai, a string": (
        400,
        error("Invalid 'input': string too long.", "string_above_max_length"),
    ),
    "fastchat": (200, {"object": "error", "message": "This model's maximum context length is 9"}),
    "nginx": (413, "<h1>413 Request Entity Too Large</h1>"),
    "tgi": (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096."}),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_prompt_too_long_is_typed_after_one_attempt(name):
    status, body = TOO_LONG[name]
    with Loopback(script=always([http(status, body)])) as server:
        [failure] = ask(endpoint(server.url), question())
    assert (failure.reason, len(server.calls)) == ("context_length", 1)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (
            {
                "error": {
                    "code": 429,
                    "message": "Quota exceeded for metric",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {"@type": "type.googleapis.com/google.rpc.Help"},
                        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "19s"},
                    ],
                }
            },
            19,
        ),
        (error("Rate limit reached. Please try again in 20s. Visit"), 20),
        (error("Please try again in 6m0s."), 360),
        (error("Please retry in 12.5s."), 12.5),
        (error("Please retry after 17 seconds."), 17),
        (error("try again in 250ms"), 0.25),
        (error("Wait for 2 minutes 3 seconds"), 123),
        ({"message": "limited", "retry_after": 1.5}, 1.5),
        ({"message": "limited", "retry_after_ms": 250}, 0.25),
        (error("Rate limit resets in 3h"), 10800),
        (error("slow down, 20 requests a second"), None),
    ],
)
def test_a_wait_told_in_the_body_is_read(body, seconds):
    for whole in (body, [body]):
        fault = read_reply(429, {}, json.dumps(whole).encode())
        if whole is body or "error" in body:
            assert (fault.reason, fault.then, fault.wait) == ("rate_limited", "again", seconds)


def test_a_wait_told_in_plain_words_or_with_units_is_read():
    assert read_reply(429, {}, b"Too many requests, try again in 1m5s").wait == 65
    assert read_reply(429, {}, b"<html>try again in 1m5s</html>").wait is None
    waits = [retry_after({"retry-after": text}, 0.0) for text in ("2s", "1m30s", "250ms", "1h 1s")]
    assert waits == [2, 90, 0.25, 3601]


def test_a_wait_told_in_the_body_is_waited_for():
    with Loopback(script=once([http(429, error("Please try again in 400ms."))])) as server:
        [reply] = ask(endpoint(server.url), question())
    assert isinstance(reply, Reply)
    assert server.calls[1].at - server.calls[0].at >= 0.4


def test_a_server_that_answers_a_few_a_second_answers_all():
    """Three a window of a second, told in the body alone: two attempts a request are enough."""
    windows = {}
    said = error("Quota exceeded. Please retry in 1s.")

    def script(body, nth):
        window = int(time.monotonic())
        windows[window] = windows.get(window, 0) + 1
        return [http(429, said)] if windows[window] > 3 else None

    with Loopback(script=script) as server:
        outcomes = ask(endpoint(server.url, max_attempts=2), *[question(str(i)) for i in range(9)])
    assert [type(outcome) for outcome in outcomes] == [Reply] * 9


@pytest.mark.parametrize(
    "body",
    [
        {
            "error": {
                "code": 429,
                "message": "You exceeded your current quota",
                "details": [
                    {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]},
                    {"retryDelay": "19s"},
                ],
            }
        },
        error("Rate limit reached on requests per day (RPD): try again in 7m12s"),
        error("Daily limit of free models reached"),
        error("100 requests per 24 hours"),
        error("Your monthly limit is reached"),
    ],
)
def test_a_quota_of_a_day_stops_the_run(body):
    fault = read_reply(429, {}, json.dumps(body).encode())
    assert (fault.reason, fault.then) == ("quota", "stop")
    assert "run again when it is renewed" in fault.message


# -- A handful alike ------------------------------------------------------------------------------


def in_turn(point, count):
    """What each of so many requests came to, four at a time."""

    async def run():
        async with point.session() as answer:
            free = asyncio.Semaphore(4)

            async def work(request):
                async with free:
                    return await answer(request)

            asked = [question(f"question {i}") for i in range(count)]
            return await asyncio.gather(*map(work, asked), return_exceptions=True)

    return asyncio.run(run())


@pytest.mark.parametrize("status", [400, 406, 422])
def test_the_same_refusal_of_the_first_requests_stops_the_run(status):
    script = lambda body, nth: [http(status, error(f"odd {name_of(body)} (id {nth}7)"))]  # noqa: E731
    with Loopback(script=script) as server:
        outcomes = in_turn(endpoint(server.url), 40)
    assert len(server.calls) <= 8
    reasons = {(type(outcome), outcome.reason) for outcome in outcomes}
    assert reasons == {(RequestFailed, "bad_request"), (EndpointStopped, "bad_request")}
    assert "the server refused 3 requests in a row" in str(outcomes[-1])
    assert "odd question" in str(outcomes[-1])


def word_for(body):
    """A word of letters that depends on the request."""
    return "".join(chr(97 + ord(letter) % 26) for letter in echo(body)[5:])


ECHOES = {
    "the prompt": {"detail": [{"msg": "odd value", "loc": ["body", "messages"], "input": "%s"}]},
    "an id": {"error": {"request_id": "%s", "message": "odd value"}},
}


@pytest.mark.parametrize("name", ECHOES)
def test_what_a_refusal_echoes_makes_it_no_other(name):
    script = lambda body, nth: [http(422, json.dumps(ECHOES[name]) % word_for(body))]  # noqa: E731
    with Loopback(script=script) as server:
        *_, stop = in_turn(endpoint(server.url), 40)
    assert (type(stop), len(server.calls) <= 8) == (EndpointStopped, True)
    assert "the server refused 3 requests in a row" in str(stop)


def test_ten_refusals_in_any_words_before_the_first_reply_stop_the_run():
    with Loopback(script=lambda body, nth: [http(400, error(word_for(body)))]) as server:
        *_, stop = in_turn(endpoint(server.url), 40)
    assert (type(stop), len(server.calls) <= 14) == (EndpointStopped, True)
    assert "the server refused 10 requests in a row" in str(stop)


@pytest.mark.parametrize("status", [401, 403, 404, 307])
@pytest.mark.parametrize(
    "body",
    [
        http(200, b"", content_encoding="gzip"),
        http(200, b"\x0b\x02\x80abc", content_encoding="br"),
        http(200, b"{}", content_encoding="gzip"),
        http(200, "<html>" + "x" * 1_500_000),
        [http(200, error("no"), content_length="500"), CUT],
    ],
    ids=["empty gzip", "br", "bad gzip", "large", "cut off"],
)
def test_a_refusal_stops_the_run_though_its_explanation_cannot_be_read(status, body):
    first, *rest = body if isinstance(body, list) else [body]
    parts = [first.replace(b" 200 ", f" {status} ".encode(), 1), *rest]
    with Loopback(script=always(parts)) as server:
        [stop] = ask(endpoint(server.url), question())
    assert (type(stop), stop.status, len(server.calls)) == (EndpointStopped, status, 1)


def test_a_refusal_stops_the_run_though_its_explanation_never_ends(monkeypatch):
    monkeypatch.setattr("lmjudge.endpoints.wire._EXPLANATION", 0.2)
    parts = [http(401, error("no"), content_length="500"), 60.0]
    with Loopback(script=always(parts)) as server:
        [stop] = ask(endpoint(server.url), question())
    assert (stop.reason, len(server.calls)) == ("unauthorized", 1)


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_error_that_cannot_be_read_costs_nothing(status):
    packed = http(status, b"\x1f\x8b no gzip", content_encoding="gzip")
    with Loopback(script=always([packed])) as server:
        budget = Budget(endpoint(server.url, max_attempts=2), table={"m": Price("m", 1, 1)})
        [failure] = ask(budget, Request("m", [], {"max_tokens": 9}))
    assert (failure.reason, failure.status, budget.used.dollars) == ("server_error", status, 0)


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_a_reply_in_a_compression_that_nobody_asked_for_stops_the_run(coding):
    packed = [http(200, b"\x0b\x02\x80abc", content_encoding=coding)]
    with Loopback(script=always(packed)) as server:
        *_, stop = in_turn(endpoint(server.url), 40)
    assert len(server.calls) <= 3 * 8
    assert (stop.reason, type(stop)) == ("bad_reply", EndpointStopped)
    assert f"compressed as {coding!r}" in str(stop)


def test_replies_broken_off_stop_the_run_whatever_their_texts():
    script = lambda body, nth: [http(200, chat(word_for(body), "network_error"))]  # noqa: E731
    with Loopback(script=script) as server:
        *_, stop = in_turn(endpoint(server.url), 40)
    assert len(server.calls) <= 3 * 8
    assert "unfit reply came to 5 requests in a row" in str(stop)


def test_refusals_of_single_requests_stop_nothing():
    """A reply came first: what is refused after it is refused for itself."""
    script = lambda body, nth: None if "n 0" in str(body) else "400"  # noqa: E731
    with Loopback(script=script) as server:
        point = endpoint(server.url, concurrency=1)

        async def run():
            async with point.session() as answer:
                asked = [answer(question(f"question {i}")) for i in range(9)]
                return [(await asyncio.gather(one, return_exceptions=True))[0] for one in asked]

        first, *others = asyncio.run(run())
    assert isinstance(first, Reply)
    assert [other.reason for other in others] == ["bad_request"] * 8


@pytest.mark.parametrize("body", [chat(7), "<html>Log in</html>", {"choices": []}])
def test_a_handful_of_alike_unfit_replies_stops_the_run(body):
    def script(asked, nth):
        said = body if isinstance(body, str) else body | {"id": f"chatcmpl-{nth}{len(str(asked))}"}
        return [http(200, said)]

    with Loopback(script=script) as server:
        outcomes = in_turn(endpoint(server.url, max_attempts=6), 40)
    assert len(server.calls) <= 3 * 8
    assert outcomes[-1].reason == "bad_reply"
    assert isinstance(outcomes[-1], EndpointStopped)
    assert "unfit reply came to 5 requests in a row" in str(outcomes[-1])


# -- Slow servers ---------------------------------------------------------------------------------


def test_a_server_with_one_slot_answers_all_though_its_queue_is_longer_than_the_timeout():
    """40 questions of 40 ms each, all sent at once: the last waits four timeouts."""

    def answer(body):
        time.sleep(0.04)  # in the server's own thread: nothing else is answered meanwhile
        return echo(body)

    with Loopback(answer) as server:
        point = endpoint(server.url, timeout=0.4, deadline=0.8)
        outcomes = ask(point, *[question(str(i)) for i in range(40)])
        assert [type(outcome) for outcome in outcomes] == [Reply] * 40
        assert len(server.calls) == 40


def test_a_request_that_hangs_among_others_times_out_all_the_same():
    script = lambda body, nth: "hang" if name_of(body) == "hangs" and nth == 0 else None  # noqa: E731
    with Loopback(script=script, delay=0.02) as server:
        point = endpoint(server.url, timeout=0.5, concurrency=4)

        async def run():
            async with point.session() as answer, asyncio.timeout(10):
                hung = asyncio.create_task(answer(question("hangs")))
                while not hung.done():
                    await answer(question(str(len(server.calls))))
                return hung.result()

        assert isinstance(asyncio.run(run()), Reply)
        hangs = [call.at for call in server.calls if name_of(call.body) == "hangs"]
    assert len(hangs) == 2
    assert hangs[1] - hangs[0] < 2


def test_a_timeout_names_what_to_change():
    with Loopback(script=always("hang")) as server:
        [failure] = ask(endpoint(server.url, timeout=0.1, max_attempts=1), question())
    assert "may still work on it" in str(failure)
    assert "--timeout" in str(failure)
    assert "--concurrency" in str(failure)


def test_an_unset_key_is_one_clear_error(monkeypatch):
    for base_url in (None, "https://example.invalid/v1"):
        with pytest.raises(EndpointStopped, match="OPENAI_API_KEY") as caught:
            ask(OpenAIEndpoint(base_url), question())
        assert caught.value.reason == "no_key"
    monkeypatch.setenv("OPENAI_API_KEY", "caf\u00e9 " + KEY)
    with pytest.raises(EndpointStopped, match="OPENAI_API_KEY") as caught:
        ask(OpenAIEndpoint(), question())
    assert KEY not in str(caught.value)


def test_this_machine_needs_no_key_and_the_environment_is_read(monkeypatch):
    with Loopback() as server:
        ask(OpenAIEndpoint(server.url.replace("127.0.0.1", "localhost")), question())
        monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        ask(OpenAIEndpoint(), question())
    assert [call.headers["authorization"] for call in server.calls] == [
        "Bearer none",
        f"Bearer {KEY}",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_no_proxy_sees_a_request_to_this_machine(monkeypatch, name, host):
    with Loopback() as proxy, Loopback() as server:
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        [reply] = ask(endpoint(server.url.replace("127.0.0.1", host)), question())
    assert isinstance(reply, Reply)
    assert (len(proxy.calls), len(server.calls)) == (0, 1)


def test_no_proxy_sees_a_plain_http_request(monkeypatch):
    with Loopback() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        [stopped] = ask(
            endpoint("http://lmjudge.invalid/v1", allow_http=True, max_attempts=1), question()
        )
    assert stopped.reason == "unreachable"
    assert not proxy.calls


@pytest.mark.parametrize("end", ["", "/", "/?api-version=preview"])
def test_the_route_stands_under_the_base_url(end):
    with Loopback() as server:
        ask(endpoint(server.url + end), question())
    assert server.calls[0].path == "/v1/chat/completions" + end.strip("/")


@pytest.mark.parametrize(
    "base_url",
    [
        "http://example.invalid/v1",
        "https://example.invalid/v1/chat/completions",
        "http://127.0.0.1.example.invalid/v1",
        "http://127.1/v1",
        f"https://user:{KEY}@example.invalid/v1",
        "example.invalid/v1",
        "file:///etc/passwd",
        "https:///v1",
        "https://example.invalid:port/v1",
        "https://exa mple.invalid/v1",
        "https://[::1/v1",
    ],
)
def test_an_address_that_cannot_be_used_is_one_clear_error(base_url):
    with pytest.raises(EndpointError, match="base URL") as caught:
        ask(OpenAIEndpoint(base_url, api_key=KEY), question())
    assert KEY not in str(caught.value)


def test_plain_http_where_it_is_allowed():
    with Loopback() as server:
        other = f"http://{socket.gethostname()}/v1"
        with pytest.raises(EndpointError, match=r"allow_http=True \(--allow-http\)"):
            OpenAIEndpoint(other, api_key=KEY).target()
        assert OpenAIEndpoint(other, api_key=KEY, allow_http=True).target() == (other, KEY)
        # What a server prints as its address is this machine: no key, no word is needed.
        [reply] = ask(OpenAIEndpoint(server.url.replace("127.0.0.1", "0.0.0.0")), question())
    assert isinstance(reply, Reply)
    assert OpenAIEndpoint("http://[::]:8000/v1").target()[0] == "http://[::1]:8000/v1"


@pytest.mark.parametrize("form", ["{}", "http://{}"])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_is_down_is_named(monkeypatch, name, form):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(name, form.format(f"127.0.0.1:{taken.getsockname()[1]}"))
    [stopped] = ask(endpoint("https://lmjudge.invalid/v1", max_attempts=1), question())
    assert stopped.reason == "unreachable"
    assert f"the proxy of {name} does not reach" in str(stopped)
    assert "NO_PROXY" in str(stopped)


def test_a_proxy_sees_the_host_and_nothing_else(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        heads = []

        def refuse():
            connection, _ = proxy.accept()
            with connection:
                heads.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        [stopped] = ask(endpoint("https://lmjudge.invalid/v1", max_attempts=1), question())
        thread.join()
    assert heads[0].startswith(b"CONNECT lmjudge.invalid:443 ")
    assert KEY.encode() not in heads[0]
    assert "the proxy of HTTPS_PROXY does not reach" in str(stopped)


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTPS_PROXY"])
def test_a_proxy_that_cannot_be_used_is_one_clear_error(monkeypatch, name):
    monkeypatch.setenv(name, "socks://user:secret@127.0.0.1:1080")
    with pytest.raises(EndpointError, match=f"the proxy of {name} uses socks://") as caught:
        ask(endpoint("https://lmjudge.invalid/v1"), question())
    assert "secret" not in str(caught.value)
    assert "NO_PROXY" in str(caught.value)
    with Loopback() as server:  # which no proxy concerns
        assert isinstance(ask(endpoint(server.url), question())[0], Reply)
    monkeypatch.setenv("NO_PROXY", "lmjudge.invalid")
    [stopped] = ask(endpoint("https://lmjudge.invalid/v1", max_attempts=1), question())
    assert stopped.reason == "unreachable"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate of 127.0.0.1 that signs itself, and a server's context with it."""
    folder = tmp_path_factory.mktemp("authority")
    made = subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2"
        " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1",
        shell=True,
        cwd=folder,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl makes no certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


def test_a_ca_file_is_trusted_and_without_it_none_is(monkeypatch, authority):
    path, context = authority
    with Loopback(certificate=context) as server:
        [reply] = ask(endpoint(server.url, ca_file=path), question())
        assert isinstance(reply, Reply)
        [stopped] = ask(endpoint(server.url, max_attempts=1), question())
        assert stopped.reason == "unreachable"
        assert "--ca-file" in str(stopped)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert isinstance(ask(endpoint(server.url), question())[0], Reply)
    assert len(server.calls) == 2


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_ca_file_that_gives_nothing_is_one_clear_error(monkeypatch, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(EndpointError, match="ca_file gives no certificates") as caught:
        ask(endpoint("https://lmjudge.invalid/v1", ca_file=path), question())
    assert "ca.pem" in str(caught.value)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(EndpointError, match="SSL_CERT_FILE gives no certificates"):
        ask(endpoint("https://lmjudge.invalid/v1"), question())


def test_headers_are_sent_and_are_secret():
    secret = "another-canary-of-a-header-4711"
    echoed = [http(400, error(f"what is {secret}?"))]
    with Loopback(script=lambda body, nth: echoed if "echo" in str(body) else None) as server:
        point = OpenAIEndpoint(server.url, headers={"api-key": secret, "x-short": "1"})
        reply, failure, kept = ask(
            point, question(), question("echo 1"), question(f"my header is {secret}")
        )
    assert isinstance(reply, Reply)
    head = server.calls[0].headers
    assert (head["api-key"], head["x-short"]) == (secret, "1")
    assert head["authorization"] == ""  # it has a key of its own
    assert secret not in repr(point)
    assert secret not in str(failure)
    assert "[key]" in str(failure)
    assert (kept.reason, kept.attempts) == ("bad_request", 0)
    assert OpenAIEndpoint("https://lmjudge.invalid", headers={"api-key": secret}).target()[1] == ""


@pytest.mark.parametrize(("name", "value"), [("a b", "x"), ("x", "a\r\nb: c"), ("x", "\u00e9")])
def test_a_header_that_cannot_be_sent_is_one_clear_error(name, value):
    with pytest.raises(EndpointError, match="cannot be sent"):
        OpenAIEndpoint(headers={name: value})


@pytest.mark.parametrize("name", ["concurrency", "timeout", "deadline", "max_attempts"])
def test_limits_are_above_zero(name):
    with pytest.raises(LmjudgeError, match=name):
        OpenAIEndpoint(**{name: 0})


# -- Nothing left behind --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang", "slow-head", "slow-body", "429-far"])
def test_cancelled_in_the_middle_leaves_nothing(fault):
    parts = [http(429, "", retry_after="60")] if fault == "429-far" else fault

    async def run():
        async with endpoint(server.url).session() as answer:
            tasks = [asyncio.create_task(answer(question(str(i)))) for i in range(5)]
            while len(server.calls) < 5:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with Loopback(script=always(parts)) as server:
        asyncio.run(run())
    gc.collect()
    assert len(server.calls) == 5


def test_connections_are_kept_and_a_closed_one_is_replaced():
    replies = iter(range(100))
    good = http(200, chat("x"))
    script = lambda body, nth: [good, CUT] if next(replies) % 2 else None  # noqa: E731

    async def run():
        async with endpoint(server.url).session() as answer:
            return [await answer(question(str(i))) for i in range(10)]

    with Loopback(script=script) as server:
        assert len(asyncio.run(run())) == 10


def test_a_reply_that_no_request_asked_for_answers_none():
    stray = [0.05, http(200, chat("stray"))]
    script = lambda body, nth: [http(200, chat(name_of(body))), *stray]  # noqa: E731

    async def run():
        async with endpoint(server.url).session() as answer:
            texts = []
            for name in "abc":
                texts.append((await answer(question(name))).text)
                await asyncio.sleep(0.15)
            return texts

    with Loopback(script=script) as server:
        assert asyncio.run(run()) == ["a", "b", "c"]
    assert len(server.calls) == 3


def test_nothing_heavy_is_imported_before_a_session():
    code = (
        "import sys, lmjudge.endpoints.openai as o; o.OpenAIEndpoint('http://localhost/v1');"
        "sys.exit(bool({'openai', 'httpx2', 'aiohttp', 'httpx'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
