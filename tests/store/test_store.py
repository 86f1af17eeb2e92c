from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from endpoints import Echo

import lmjudge as lj
from lmjudge.errors import EndpointStopped, Miss
from lmjudge.records import Failure, Record, Reply, Request
from lmjudge.store import Store


def ask(text: str, **params: object) -> Request:
    return Request("m", [{"role": "user", "content": text}], params or {"temperature": 0.0})


def many(count: int, start: int = 0) -> list[Request]:
    return [ask(f"question {number}") for number in range(start, start + count)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "a store, größe", mode="record")


# ---- recording


def test_each_request_is_asked_once_and_replayed_in_order(store: Store) -> None:
    endpoint = Echo(concurrency=8)
    requests = [*many(700), *many(50), *many(30, 10)]
    recorded = list(store.ask(iter(requests), endpoint))
    assert [key for key, _ in recorded] == [request.key for request in requests]
    assert sorted(endpoint.asked) == sorted({request.key for request in requests})
    assert endpoint.most_in_flight <= 8
    assert endpoint.open == 0
    assert (store.hits, store.misses, store.calls) == (80, 700, 700)
    again = Store(store.path, mode="record")
    assert list(again.ask(requests, endpoint)) == recorded
    assert (again.hits, again.misses, again.calls) == (780, 0, 0)
    assert list(Store(store.path).ask(requests)) == recorded


def test_replies_come_in_order_though_the_first_is_the_slowest(store: Store) -> None:
    class Slow(Echo):
        async def answer(self, request: Request) -> Reply:
            await asyncio.sleep(0.2 if "question 0" in str(request.messages) else 0)
            return await super().answer(request)

    keys = [key for key, _ in store.ask(many(100), Slow())]
    assert keys == [request.key for request in many(100)]


def test_a_reply_is_handed_on_only_after_it_is_kept(store: Store) -> None:
    for key, reply in store.ask(many(40), Echo(delay=0.001)):
        assert Store(store.path).look_up([key]) == {key: reply}


def test_samples_of_one_request_are_kept_apart(store: Store) -> None:
    draws = [Request("m", [{"role": "user", "content": "q"}], sample=k) for k in range(3)]
    endpoint = Echo()
    list(store.ask(draws, endpoint))
    assert len(endpoint.asked) == len({request.key for request in draws}) == 3


def test_a_failure_stands_in_the_place_of_its_reply_and_is_not_stored(store: Store) -> None:
    endpoint = Echo(fail=frozenset({"question 3"}))
    results = [result for _, result in store.ask(many(6), endpoint)]
    assert [type(result) for result in results] == [*[Reply] * 3, Failure, *[Reply] * 2]
    assert results[3] == Failure("content_filter", "filtered", 400, 1)
    assert store.look_up([many(1, 3)[0].key]) == {}
    lines = (store.path / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["content_filter"]
    list(store.ask(many(6), endpoint))
    assert len(endpoint.asked) == 7  # only the failed one is asked for again


def test_a_stopped_endpoint_stops_the_run_and_what_was_paid_for_is_kept(store: Store) -> None:
    endpoint = Echo(concurrency=4, delay=0.002, stop_after=20)
    with pytest.raises(EndpointStopped, match="no more money"):
        list(store.ask(many(100), endpoint))
    assert len(endpoint.asked) <= 20 + 4
    kept = store.look_up(request.key for request in many(100))
    assert len(kept) == endpoint.answered == 20
    endpoint.stop_after = None
    list(store.ask(many(100), endpoint))
    assert len(store.look_up(request.key for request in many(100))) == 100


def test_a_stop_that_waits_for_replies_in_flight_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow(Echo):
        async def answer(self, request: Request) -> Reply:
            if request.messages[0]["content"] == "1":
                raise EndpointStopped("no more money", reason="quota", status=429)
            return await super().answer(request)

    monkeypatch.setattr("lmjudge.store.asker._SILENCE", 0.05)
    requests = [Request("m", [{"role": "user", "content": str(n)}]) for n in range(4)]
    store = Store(tmp_path / "s", mode="record")
    with pytest.raises(EndpointStopped):
        list(store.ask(requests, Slow(delay=0.3)))
    assert capsys.readouterr().err.count("stopping, 3 replies in flight") == 1
    assert store.kept == 3


def test_what_is_in_flight_when_a_run_stops_is_kept(store: Store) -> None:
    """The server works on, and charges for, what it has: three replies come after the stop."""

    class Stopping(Echo):
        async def answer(self, request: Request) -> Reply:
            first = not self.asked
            reply = await super().answer(request)
            if first:
                while self.most_in_flight < 4:
                    await asyncio.sleep(0.001)
                raise EndpointStopped("no more money", reason="quota", status=402)
            await asyncio.sleep(0.3)
            return reply

    endpoint = Stopping(concurrency=4)
    with pytest.raises(EndpointStopped, match="no more money"):
        list(store.ask(many(100), endpoint))
    assert len(endpoint.asked) == 4
    assert set(store.look_up(r.key for r in many(100))) == set(endpoint.asked[1:])


class Odd(Echo):
    """An endpoint of somebody's own, one of whose replies no store can keep."""

    def __init__(self, odd: Any) -> None:
        super().__init__()
        self.odd = odd

    async def answer(self, request: Request) -> Reply:
        reply = await super().answer(request)
        return self.odd if reply.text.endswith(" 3") else reply


@pytest.mark.parametrize(
    "odd",
    [
        Reply("half a pair \ud800"),
        Reply("x", usage={"tokens": float("inf")}),
        Reply("x", usage={"tokens": 2**70}),
        Reply("x", created="yesterday"),  # type: ignore[arg-type]
        Reply(None),  # type: ignore[arg-type]
        Reply("x" * 2**23),
        "no reply",
    ],
    ids="surrogate infinite integer created none long text".split(),
)
def test_one_odd_reply_loses_no_other(store: Store, odd: Any) -> None:
    endpoint = Odd(odd)
    outcomes = [outcome for _, outcome in store.ask(many(8), endpoint)]
    assert [isinstance(one, Reply) for one in outcomes] == [n != 3 for n in range(8)]
    assert outcomes[3].reason == "bad_reply"
    assert len(list(Store(store.path).records())) == 7
    assert len(endpoint.asked) == 8


def test_a_fault_in_an_endpoint_is_raised_as_it_is(store: Store) -> None:
    class Broken(Echo):
        async def answer(self, request: Request) -> Reply:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        list(store.ask(many(3), Broken()))


def test_leaving_early_leaves_nothing_behind(store: Store) -> None:
    before = threading.active_count()
    endpoint = Echo(concurrency=4, delay=0.01)
    asking = store.ask(many(5000), endpoint)
    next(asking)
    asking.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert endpoint.open == endpoint.in_flight == 0
    assert len(endpoint.asked) < 100
    other = Echo()
    list(store.ask(many(100), other))  # no claim was left behind
    assert set(endpoint.asked) | set(other.asked) == {request.key for request in many(100)}


def test_asking_works_under_a_running_loop(store: Store) -> None:
    async def cell() -> list[object]:
        return list(store.ask(many(20), Echo()))

    assert len(asyncio.run(cell())) == 20


def test_threads_that_ask_for_the_same_make_one_call_each(store: Store) -> None:
    endpoint = Echo(concurrency=8, delay=0.002)
    results: list[object] = []

    def work() -> None:
        results.append(list(Store(store.path, mode="record").ask(many(150), endpoint)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(endpoint.asked) == 150
    assert all(result == results[0] for result in results)
    assert len(results) == 6


def test_requests_are_read_lazily(store: Store) -> None:
    read = 0

    def endless() -> object:
        nonlocal read
        while True:
            read += 1
            yield ask(f"question {read}")

    asking = store.ask(endless(), Echo(concurrency=4))  # type: ignore[arg-type]
    for _ in range(10):
        next(asking)
    asking.close()  # type: ignore[attr-defined]
    assert read < 10_000


# ---- replaying


def test_replay_calls_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Echo()
    with pytest.raises(Miss):
        list(Store(store.path).ask(many(1), endpoint))
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    endpoint.network = True
    with pytest.raises(Miss, match="unset LMJUDGE_OFFLINE"):
        list(store.ask(many(1), endpoint))
    assert endpoint.asked == []
    endpoint.network = False
    assert len(list(store.ask(many(1), endpoint))) == 1


def test_a_miss_tells_what_is_missing_and_what_came_nearest(store: Store) -> None:
    list(store.ask(many(10), Echo()))
    asked = [*many(5), ask("question 3", temperature=0.7), *many(2), *many(150, 50)]
    replay = Store(store.path)
    replies = replay.ask(asked)
    assert [next(replies)[0] for _ in range(5)] == [request.key for request in many(5)]
    with pytest.raises(Miss) as caught:
        next(replies)
    miss = caught.value
    assert miss.count == 151
    assert miss.tokens == sum(len(r.messages[0]["content"]) for r in [*asked[5:6], *asked[8:]]) // 4
    assert len(miss.requests) == 100
    assert miss.requests[0] == asked[5]
    assert miss.nearest == many(1, 3)[0]
    assert miss.differences == {"params.temperature": (0.7, 0)}
    assert "params.temperature: 0.7 asked, 0 stored" in str(miss)
    assert "lj.plan" in str(miss)
    assert (replay.hits, replay.misses) == (5, 151)


def test_explain_finds_the_nearest_request(store: Store) -> None:
    assert store.explain(ask("x")) == (None, {})
    list(store.ask([ask("the cat sat on the mat"), ask("quite another thing")], Echo()))
    nearest, differences = store.explain(ask("the cat sat on a mat"))
    assert nearest == ask("the cat sat on the mat")
    assert set(differences) == {"messages[0].content"}
    assert store.explain(ask("quite another thing")) == (ask("quite another thing"), {})


def test_the_mode_is_spelled_right() -> None:
    with pytest.raises(ValueError, match="'replay' or 'record'"):
        Store(mode="reply")  # type: ignore[arg-type]


def test_recording_without_an_endpoint_is_a_miss(store: Store) -> None:
    with pytest.raises(Miss, match="pass `endpoint=`"):
        list(store.ask(many(1)))


# ---- adding


def test_the_reply_is_the_earliest_whatever_the_order(store: Store, tmp_path: Path) -> None:
    records = [
        Record(ask("q"), Reply("late", created=5.0)),
        Record(ask("q"), Reply("early", created=2.0)),
        Record(ask("q"), Reply("late", created=4.0)),
    ]
    added = store.add(records[:1])
    assert (added.new, added.known, added.observations, added.changed) == (1, 0, 0, ())
    added = store.add(records[1:])
    assert (added.new, added.known, added.observations) == (0, 1, 1)
    assert added.changed == (ask("q").key,)
    assert store.add(records) == type(added)(known=3)
    other = Store(tmp_path / "other")
    other.add(reversed(records))
    assert [r.reply for r in other.records()] == [records[1].reply, records[2].reply]
    assert other.digest() == store.digest()
    assert next(store.ask([ask("q")]))[1] == records[1].reply


def test_the_digest_is_of_the_records_asked_for(store: Store) -> None:
    list(store.ask(many(5), Echo()))
    keys = [request.key for request in many(5)]
    assert store.digest(keys) == store.digest(reversed(keys)) == store.digest()
    assert store.digest(keys[:4]) != store.digest(keys)


# ---- where it lies


def test_the_nearest_cache_is_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nbs" / "cache").mkdir(parents=True)
    (tmp_path / "nbs" / "cache" / "theirs.txt").touch()
    monkeypatch.chdir(tmp_path / "nbs")
    assert lj.Store().path == tmp_path / "nbs" / "lmjudge-cache" / "judgments"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "LMJUDGE.TAG").touch()
    assert lj.Store().path == tmp_path / "cache" / "judgments"
    list(Store(tmp_path / "nbs" / "cache" / "judgments", mode="record").ask(many(1), Echo()))
    assert lj.Store().path == tmp_path / "nbs" / "cache" / "judgments"
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "elsewhere"))
    assert lj.Store().path == tmp_path / "elsewhere"


def test_the_folder_is_for_its_owner_alone(store: Store) -> None:
    list(store.ask(many(1), Echo(fail=frozenset({"question 0"}))))
    assert os.stat(store.path).st_mode & 0o077 == 0
    for item in store.path.iterdir():
        assert os.stat(item).st_mode & 0o077 == 0, item
    assert not [name for name in os.listdir(store.path) if name.startswith(".")]


def test_what_the_file_is_set_to(store: Store) -> None:
    store.add([Record(ask("q"), Reply("a"))])
    connection = sqlite3.connect(store.path / "cache.db")
    settings = dict(connection.execute("SELECT key, value FROM Settings"))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert settings["eviction_policy"] == "none"
    assert settings["cull_limit"] == 0
    assert settings["sqlite_synchronous"] == 2


def test_a_sharded_store_asks_each_request_once(tmp_path: Path) -> None:
    study = lj.simulate(0, per_category=1)
    judge = lj.Judge("pair", study.judges[0])
    whole = lj.judge_pairs(study.pairings, judge, store=study.store(), endpoint=study.endpoint)
    parts = []
    for part in (1, 2, 3):
        with closing(lj.Store(tmp_path / str(part), mode="record")) as store:
            games = lj.judge_pairs(
                study.pairings, judge, store=store.shard(part, 3), endpoint=study.endpoint
            )
            assert len(games) == len(whole)
            parts.append(games[games["reason"] != "other_shard"])
            assert store.calls == parts[-1]["key"].nunique()
    joined = pd.concat(parts).sort_index()
    assert joined.index.is_unique
    assert joined["text"].tolist() == whole["text"].tolist()
    with pytest.raises(ValueError, match="part is 4 of 3"):
        store.shard(4, 3)
