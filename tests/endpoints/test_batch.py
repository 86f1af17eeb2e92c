"""Batches: what a store lacks goes out once, comes back into it, and however often it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_server import Server, refused, result, serving

from lmjudge.endpoints import batch
from lmjudge.endpoints.batch import Collected, collect_batch, export_batch, submit_batch
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import BadRow, DataError, EndpointStopped, RequestFailed
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store


@pytest.fixture(autouse=True)
def _a_proxy_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch goes through a proxy to a server on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")


def ask(text: str, model: str = "m", **fields: Any) -> Request:
    message = {"role": "user", "content": text}
    return Request(model, [message], {"temperature": 0.0, "max_tokens": 5}, **fields)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_a_batch_goes_out_and_comes_back_into_the_store(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "judgments"), tmp_path / "batch.jsonl"
    asked = [ask("one"), ask("two \u2028 {x}"), ask("long"), ask("two \u2028 {x}", sample=1)]
    held = Record(ask("held"), Reply("yes", created=5.0))
    store.add([held])
    assert export_batch([held.request, *asked, asked[0]], store, file) == [file]
    assert [row["custom_id"] for row in lines(file)] == [request.key for request in asked]
    assert lines(file)[0]["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "one"}],
        "temperature": 0.0,
        "max_tokens": 5,
    }
    server = Server()
    with serving(server) as endpoint:
        with pytest.raises(DataError, match="was not sent from the store"):
            collect_batch(file, store, endpoint)
        name = submit_batch(file, store, endpoint)
        assert submit_batch(file, store, endpoint) == name
        assert server.posts == ["/v1/files", "/v1/batches"]
        assert server.files["file-0"] == file.read_bytes()
        assert collect_batch(file, store, endpoint) == Collected("validating", open=4)
        server.work(server.batches[name], fail="long")
        came = collect_batch(file, store, endpoint)
        assert came == Collected("completed", new=3, failed={"context_length": 1})
        again = collect_batch(file, store, endpoint)
        assert again == Collected("completed", known=3, failed={"context_length": 1})
    texts = {key: reply.text for key, reply in store.ask(asked[:2] + asked[3:])}
    assert [texts[request.key] for request in asked[:2]] == ["re: one", "re: two \u2028 {x}"]
    (record,) = store.records([asked[0].key])
    assert record.reply.created == 1_700_000_000.0
    assert record.reply.model == "m-1"
    attempts = lines(store.path / "attempts.jsonl")
    assert [(one["key"], one["reason"]) for one in attempts] == [(asked[2].key, "context_length")]
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"canary" not in kept

    rest = tmp_path / "rest.jsonl"
    assert export_batch(asked, store, rest) == [rest]
    assert [row["custom_id"] for row in lines(rest)] == [asked[2].key]
    with pytest.raises(DataError, match="exists; collect that batch"):
        export_batch(asked, store, rest)
    assert export_batch(asked[:2], store, tmp_path / "none.jsonl") == []
    assert not (tmp_path / "none.jsonl").exists()


def test_downloaded_results_are_read_in_any_order_and_any_number_of_times(tmp_path: Path) -> None:
    asked = [ask(str(n), provider="east" if n % 2 else None) for n in range(6)]
    file, store = tmp_path / "b.jsonl", Store(tmp_path / "judgments")
    export_batch(asked, store, file)
    expired = {"custom_id": asked[5].key, "response": None}
    expired |= {"error": {"code": "batch_expired", "message": "too late"}}
    rows = [
        result(asked[3].key, "three"),
        result("0" * 64, "nobody asked"),
        "{not json",
        result(asked[0].key, "zero"),
        expired,
        refused(asked[1].key, 401, {"message": "no sk-abcdef"}),
        {"custom_id": asked[2].key, "response": {"status_code": 200, "body": {"choices": []}}},
    ]
    done = write(tmp_path / "done.jsonl", rows)
    failed = {
        "not_asked": 1,
        "bad_reply": 2,
        "batch_expired": 1,
        "unauthorized": 1,
    }
    came = collect_batch(file, store, results=[done])
    assert came == Collected("read", new=2, failed=failed, open=1)
    assert collect_batch(file, store, results=[done]) == Collected("read", 0, 2, failed, 1)
    attempts = lines(store.path / "attempts.jsonl")
    assert len(attempts) == 3
    assert "sk-abcdef" not in json.dumps(attempts)
    assert len(export_batch(asked, store, tmp_path / "again.jsonl")) == 1
    assert len(lines(tmp_path / "again.jsonl")) == 4

    other = Store(tmp_path / "other")
    collect_batch(file, other, results=[write(tmp_path / "turned.jsonl", rows[::-1])])
    assert other.digest() == store.digest()


def test_a_file_is_of_one_model_and_within_what_a_batch_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_REQUESTS", 2)
    asked = [ask(str(n), model) for n in range(3) for model in ("a", "b")]
    files = export_batch(asked, Store(tmp_path / "s"), tmp_path / "x.jsonl")
    assert [path.name for path in files] == ["x.jsonl", "x-2.jsonl", "x-3.jsonl", "x-4.jsonl"]
    models = [[row["body"]["model"] for row in lines(path)] for path in files]
    assert models == [["a", "a"], ["b", "b"], ["a"], ["b"]]
    assert {row["custom_id"] for path in files for row in lines(path)} == {r.key for r in asked}
    monkeypatch.setattr(batch, "MOST_BYTES", 300)
    files = export_batch([ask("x" * 90, "a"), ask("y" * 90, "a")], Store("none"), tmp_path / "y")
    assert [path.name for path in files] == ["y", "y-2"]


def test_what_cannot_go_out_leaves_no_file(tmp_path: Path) -> None:
    odd = Request("m", [{"role": "user", "content": "x"}], {"stream": True})
    with pytest.raises(RequestFailed, match="stream"):
        export_batch([ask("1", sample=2), odd], Store(tmp_path / "s"), tmp_path / "x.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_changed_is_told_by_its_key(tmp_path: Path) -> None:
    file, store = tmp_path / "x.jsonl", Store(tmp_path / "s")
    export_batch([ask("one"), ask("two")], store, file)
    file.write_text(file.read_text().replace('"two"', '"too"'))
    done = write(tmp_path / "done.jsonl", [result(ask("two").key, "2")])
    with pytest.raises(BadRow, match="its request has another key") as told:
        collect_batch(file, store, results=[done])
    assert told.value.line == 2


def test_a_batch_that_was_taken_is_found_again_and_not_sent_twice(tmp_path: Path) -> None:
    file, store, server = tmp_path / "x.jsonl", Store(tmp_path / "s"), Server()
    export_batch([ask("one")], store, file)
    with serving(server) as endpoint:
        server.forget_reply = True
        with pytest.raises(EndpointStopped):
            submit_batch(file, store, endpoint)
        assert server.posts == ["/v1/files", "/v1/batches"]
        server.forget_reply = False
        assert submit_batch(file, store, endpoint) == "batch_0"
        assert len(server.posts) == 2
        with (store.path / "batches.jsonl").open("ab") as notes:
            notes.write(b'{"sha256": "cut sh')  # by a full disk
        assert submit_batch(file, store, endpoint) == "batch_0"
        server.batches["batch_0"] |= {
            "status": "failed",
            "errors": {"object": "list", "data": [{"code": "invalid_json", "message": "line 1"}]},
        }
        with pytest.raises(EndpointStopped, match="invalid_json: line 1") as told:
            collect_batch(file, store, endpoint)
        assert told.value.reason == "batch_failed"
        assert submit_batch(file, store, endpoint) == "batch_1"
        server.batches["batch_1"]["status"] = "expired"
        assert submit_batch(file, store, endpoint) == "batch_2"
        server.work(server.batches["batch_2"])
        server.batches["batch_2"]["status"] = "expired"  # and answered in part: collected first
        assert submit_batch(file, store, endpoint) == "batch_2"
        assert collect_batch(file, store, endpoint) == Collected("expired", new=1)
        server.batches.clear()  # another account's key, say
        assert submit_batch(file, store, endpoint) == "batch_0"


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (401, {}, b'{"error": {"message": "Incorrect key: sk-canary"}}', "unauthorized"),
        (404, {}, b"<html>", "not_found"),
        (307, {"location": "http://127.0.0.1:9/v1"}, b"", "redirect"),
    ],
)
def test_a_server_that_refuses_stops_it(
    tmp_path: Path, status: int, headers: dict[str, str], body: bytes, reason: str
) -> None:
    file, store, server = tmp_path / "x.jsonl", Store(tmp_path / "s"), Server()
    export_batch([ask("one")], store, file)
    server.refuse = (status, headers, body)
    with serving(server) as endpoint, pytest.raises(EndpointStopped) as told:
        submit_batch(file, store, endpoint)
    assert told.value.reason == reason
    assert "canary" not in str(told.value)
    assert not store.path.exists()


def test_a_closed_port_is_said(tmp_path: Path) -> None:
    file, store = tmp_path / "x.jsonl", Store(tmp_path / "s")
    export_batch([ask("one")], store, file)
    with pytest.raises(EndpointStopped, match=r"127\.0\.0\.1:9/v1") as told:
        submit_batch(file, store, OpenAIEndpoint("http://127.0.0.1:9/v1"))
    assert told.value.reason == "unreachable"
