"""A key goes to its server and nowhere else: not to the disk, a page, a log or a screen."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import canary
import pytest
from canary import KEY, found_in, tells
from loopback import Loopback, always, chat, error, http

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.endpoints.batch import export_batch
from lmjudge.endpoints.budget import Budget
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.endpoints.replies import Fault, read_reply
from lmjudge.errors import EndpointError, EndpointStopped
from lmjudge.records import Record, Reply, Request
from lmjudge.report import check_evidence, write_index
from lmjudge.store import exchange


def ask(text: str, **params: Any) -> Request:
    return Request("gpt-4o", [{"role": "user", "content": text}], params)


def test_a_planted_key_would_be_found(tmp_path: Path) -> None:
    """What the other tests rest on: in every spelling, in rows, exports and packed files."""
    for number, (name, text) in enumerate(canary.encoded().items()):
        assert tells(f"some text, {text}, and more".encode()), name
        store = lj.Store(tmp_path / "store", mode="record")
        store.add([Record(ask(str(number)), Reply(f"it is {text}." + "x" * 500))])
        store.close()
        assert any("cache.db" in where for where in found_in(tmp_path / "store")), name
    exchange.export(tmp_path / "store", tmp_path / "all.jsonl.zst")
    (tmp_path / "log.gz").write_bytes(gzip.compress(KEY[-20:].encode()))
    found = {Path(where.partition(" (")[0]).name for where in found_in(tmp_path)}
    assert {"all.jsonl.zst", "log.gz"} <= found


@pytest.mark.slow
def test_the_key_is_found_nowhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A whole study with a server that sends the key back in all its errors, in every spelling."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.chdir(tmp_path)
    for name in ("reports", "judgments"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "judgments"))
    spelled = " and ".join(canary.encoded().values())
    echoed = error(f"Authorization: Bearer {KEY}; {spelled}; {'.' * 450} {KEY}", KEY, KEY)
    whole = lj.simulate(0)
    questions = lj.subset(whole.questions, limit=3)
    answers = whole.answers[whole.answers["question_id"].isin(questions["question_id"])]
    broken = questions["turns"].iloc[0][0]
    answered = threading.Event()

    def script(body: dict[str, Any], nth: int) -> list[bytes] | None:
        if nth == 0:
            return [http(503, echoed, retry_after="0", location=f"http://x/?key={KEY}")]
        if broken not in str(body):
            answered.set()
            return None
        # Refusals before the first reply would stop the run.
        if not answered.is_set():
            return [http(503, echoed, retry_after="1")]
        time.sleep(0.5)
        return [http(400, echoed)]

    with Loopback(lambda body: "So it is.\n[[7]]", script=script) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        endpoint = OpenAIEndpoint(backoff=0.01)
        judge = lj.Judge("single", model="gpt-4o")
        lineup = lj.line_up(questions, answers)
        with closing(lj.Store(mode="record")) as store:
            scores = lj.judge_answers(lineup, judge, store=store, endpoint=endpoint)
            assert store.failures["bad_request"] > 0
            table = lj.cells(
                lj.mean_scores(scores, by=["model"]), "T", row="model", values={"score": "score"}
            )
            lj.save_table(table, "t", store=store, evidence=scores, by=["model"])
            seen: list[object] = [
                *(endpoint, Budget(endpoint, calls=1), judge, store, scores, vars(store)),
                *(one._repr_html_() for one in (judge, store)),
            ]
            export_batch([ask("a batch's")], store, tmp_path / "batch.jsonl")
        write_index()
        assert not check_evidence()["wrong"].map(bool).any()
        lj.save(answers, tmp_path / "answers.jsonl", "fastchat")
        questions.to_json(tmp_path / "questions.jsonl", orient="records", lines=True)
        for command in (
            "judge questions.jsonl answers.jsonl --judge gpt-4o --concurrency 4 --out s.csv",
            "plan judge questions.jsonl answers.jsonl --judge gpt-4o-mini",
            "store export all.jsonl.zst",
            "store merge all.jsonl.zst",
            "store stats",
        ):
            main(command.split())
        for status in (401, 404):
            with Loopback(script=always([http(status, echoed)])) as other:
                monkeypatch.setenv("OPENAI_BASE_URL", other.url)
                assert main("generate questions.jsonl --model gpt-4o".split()) == 1
        assert all(call.headers["authorization"] == f"Bearer {KEY}" for call in server.calls)
        assert (tmp_path / "judgments" / "attempts.jsonl").stat().st_size
    told = capfd.readouterr()
    seen += [told.out, told.err, caplog.text]
    for one in seen:
        assert not tells(f"{one!r} {one}".encode()), f"{type(one)}"
    assert found_in(tmp_path) == set()


def told_in(field: str, said: str) -> dict[str, Any]:
    """A whole chat completion in which `field` holds `said`."""
    reply = chat("[[A]]")
    choice = reply["choices"][0]
    tokens = [{"token": said[n : n + 3], "logprob": -0.1} for n in range(0, len(said), 3)]
    bytes_ = [{"token": "?", "bytes": list(item["token"].encode())} for item in tokens]
    if field == "text":
        choice["message"]["content"] = f"The headers are: {said}."
    elif field == "reasoning":
        choice["message"]["reasoning_content"] = said
    elif field == "finish_reason":
        choice["finish_reason"] = said
    elif field == "logprobs":
        choice["logprobs"] = {"content": tokens}
    elif field == "bytes":
        choice["logprobs"] = {"content": bytes_}
    elif field == "a name in usage":
        reply["usage"] = {"details": [{said: 1}]}
    else:
        reply[field] = said
    return reply


@pytest.mark.parametrize(
    "field",
    [
        "text",
        "reasoning",
        "model",
        "finish_reason",
        "logprobs",
        "bytes",
        "system_fingerprint",
        "a name in usage",
    ],
)
def test_a_reply_that_holds_the_key_stops_the_run(tmp_path: Path, field: str) -> None:
    """A proxy that shows what it was sent: what it shows is not kept, wherever it stands."""
    store = lj.Store(tmp_path / "store", mode="record")
    with Loopback(lambda body: told_in(field, f"Bearer {KEY}")) as server:
        endpoint = OpenAIEndpoint(server.url, api_key=KEY)
        with pytest.raises(EndpointStopped, match="change the key") as told:
            list(store.ask([ask("1")], endpoint))
    assert told.value.reason == "key_returned"
    assert not tells(repr(told.value).encode())
    assert found_in(tmp_path) == set()


SPELLED = {
    **canary.encoded(),
    "backwards": KEY[::-1],
    "in escaped JSON": json.dumps({"k": KEY}).replace("/", "\\/"),
    "in upper-case hex": KEY.encode().hex().upper(),
    "in hex with spaces": KEY.encode().hex(" "),
    "in a URL with small letters": quote(KEY, safe="").replace("%2F", "%2f"),
}


@pytest.mark.parametrize("name", SPELLED)
@pytest.mark.parametrize("field", ["text", "system_fingerprint"])
def test_no_spelling_of_the_key_is_kept(name: str, field: str) -> None:
    body = json.dumps(told_in(field, SPELLED[name])).encode()
    outcome = read_reply(200, {}, body, secrets=[KEY])
    assert isinstance(outcome, Fault)
    assert outcome.reason == "key_returned"
    assert isinstance(read_reply(200, {}, body, secrets=["another" * 5]), Reply)


@pytest.mark.parametrize("key", ["lm-studio", "EMPTY", "x"])
def test_a_word_in_the_place_of_a_key_may_be_said(tmp_path: Path, key: str) -> None:
    store = lj.Store(tmp_path / "store", mode="record")
    with Loopback(lambda body: f"I run in {key}, with a {key}.") as server:
        [(_, reply)] = store.ask([ask(key)], OpenAIEndpoint(server.url, api_key=key))
    assert reply.text.startswith("I run")


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: ask("hi", api_key="another-key-0123456789"),
        lambda: ask("hi", extra_headers={"Authorization": "Bearer another-key"}),
        lambda: ask(f"my key is {KEY}"),
        lambda: ask("hi", user=KEY),
    ],
)
def test_a_request_that_holds_a_key_is_not_sent(
    tmp_path: Path, request_of: Callable[[], Request]
) -> None:
    store = lj.Store(tmp_path / "store", mode="record")
    with Loopback() as server:
        [(_, outcome)] = store.ask([request_of()], OpenAIEndpoint(server.url, api_key=KEY))
    assert outcome.reason == "bad_request"
    assert not server.calls
    assert found_in(tmp_path) == set()


@pytest.mark.parametrize(
    "url", [f"https://host/v1?key={KEY}", f"https://me:{KEY}@host/v1", f"sk-{KEY}", f"x#{KEY}"]
)
def test_a_key_in_the_base_url_is_refused_unsaid(url: str) -> None:
    with pytest.raises(EndpointError) as told:
        OpenAIEndpoint(url, api_key="k").target()
    assert not tells(str(told.value).encode())
