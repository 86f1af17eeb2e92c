"""A judge that misbehaves, through the whole path: server, endpoint, store, games, table.

`ROWS` is the list of what goes wrong, each row with the faults that play it; what a fault is on the
wire stands in `loopback.py`. Pauses, deadlines, sizes and keys have their own tests, without a
store, in `test_openai.py`; a run that several processes share in
`tests/store/test_processes.py`.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loopback import FAILS, FAULTS, STOPS, TRANSIENT, Loopback, always, chat

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import EndpointStopped
from lmjudge.frames import line_up, pair_up, resolve
from lmjudge.generation import generate
from lmjudge.judges import Judge, judge_answers, judge_pairs, judge_requests
from lmjudge.records import Reply
from lmjudge.stats.wins import win_rates
from lmjudge.store import Store, exchange

AGAIN = "asked again, in the end a typed failure; the others go on"
STOP = "the run stops at the first, nothing is stored, it goes on when the fault is gone"
FAIL = "one attempt, a typed failure, the server's words never a judgment"
READ = "a reply, kept as it came; what is no verdict is typed"
ROWS: dict[str, tuple[str, list[str]]] = {
    "429, Retry-After in seconds, as a date, none": (
        AGAIN,
        ["429", "429-seconds", "429-date", "429-ms"],
    ),
    "429, Retry-After beyond the deadline": (STOP, ["far", "far-date"]),
    "no quota left": (STOP, ["quota", "402"]),
    "408, 409, 425, 5xx": (
        AGAIN,
        ["408", "409", "425", "500", "500-html", "502", "503", "504", "529"],
    ),
    "wrong key, forbidden, unknown model": (STOP, ["401", "401-in-200", "403", "404"]),
    "a redirect": (STOP, ["redirect", "301"]),
    "nothing comes, or a byte at a time": (AGAIN, ["hang", "slow-head", "slow-body"]),
    "reset, closed, cut": (
        AGAIN,
        [
            *("reset", "closed", "reset-in-head", "closed-in-head", "not-http", "cut-body"),
            *("reset-body", "cut-chunk", "bad-chunk", "cut-json", "cut-gzip", "bad-gzip"),
        ],
    ),
    "200 and no chat completion": (
        AGAIN,
        [
            *("bad-json", "not-utf8", "empty", "204", "html", "sse", "array", "deep-json"),
            *("deep-usage", "no-choices", "choices-null", "message-null", "content-null"),
            *("content-number", "error-in-200", "error-choice", "502-in-200"),
        ],
    ),
    "context too long": (FAIL, ["context", "context-vllm"]),
    "content filter": (FAIL, ["filter"]),
    "a parameter that the server refuses": (FAIL, ["400", "422"]),
    "a tool call": (FAIL, ["tool-call"]),
    "too large, a bomb, without end": (
        FAIL,
        ["huge", "huge-error", "bomb", "bomb-error", "endless"],
    ),
    "refusal, filter, nothing, cut off": (
        READ,
        [
            *("null", "thought alone", "a part unknown", "cut by the window", "cut unheard of"),
            *("prohibited", "whole in capitals", "cut by number", "whole in another spelling"),
            *(
                "refused",
                "filtered",
                "silent",
                "cut off",
                "cut off after a quote",
                "cut in thought",
            ),
        ],
    ),
    "several verdicts, quoted verdicts": (
        READ,
        ["two", "two lines", "quoted", "quoted, then given", "thought, then given"],
    ),
    "scores that are none": (
        READ,
        ["eleven", "endless digits", "08", "see [1]", "minus one", "no usage", "half a pair"],
    ),
}
# What a judge may say, under which prompt, and what is read in it: a winner, a score or a reason.
SAID: dict[str, tuple[dict[str, Any], str, str | float]] = {
    "refused": (chat(None, refusal="I would rather not [[A]]."), "pair", "refusal"),
    "filtered": (chat("So [[A]]", "content_filter"), "pair", "content_filter"),
    "silent": (chat(""), "pair", "no_verdict"),
    "null": (chat(None), "pair", "no_verdict"),
    "thought alone": (chat(None, reasoning_content="[[A]]"), "pair", "no_verdict"),
    "a part unknown": (
        chat([{"type": "reasoning", "summary": [{"text": "[[A]]"}]}, {"text": "So\n[[B]]"}]),
        "pair",
        "model_b",
    ),
    "cut off": (chat("Both are", "length"), "pair", "truncated"),
    "cut off after a quote": (chat('It ends in "\n[[B]]', "length"), "pair", "truncated"),
    "cut by the window": (
        chat("It ends in\n[[B]]", "model_context_window_exceeded"),
        "pair",
        "truncated",
    ),
    "cut unheard of": (chat("It ends in\n[[B]]", "lost_interest"), "pair", "truncated"),
    "prohibited": (chat("It ends in\n[[B]]", "PROHIBITED_CONTENT"), "pair", "content_filter"),
    "cut by number": (chat("It ends in\n[[B]]", 2), "pair", "truncated"),
    "whole in another spelling": (chat("So\n[[B]]", "FinishReason.STOP"), "pair", "model_b"),
    "whole in capitals": (chat("It ends in\n[[B]]", "STOP"), "pair", "model_b"),
    "cut in thought": (chat("<think>Say [[A]]\n[[A]]"), "pair", "no_verdict"),
    "two": (chat("[[A]] or [[B]]"), "pair", "ambiguous"),
    "two lines": (chat("[[A]]\nNo: [[B]]"), "pair", "model_b"),
    "quoted": (chat('B says "the verdict is [[B]]".\nI do not know.'), "pair", "no_verdict"),
    "quoted, then given": (chat('B says "[[A]]".\n[[B]]'), "pair", "model_b"),
    "thought, then given": (chat("<think>[[A]]</think>\n[[C]]"), "pair", "tie"),
    "eleven": (chat("Rating: [[11]]"), "single", "out_of_range"),
    "endless digits": (chat(f"Rating: [[1{'0' * 5000}]]"), "single", "out_of_range"),
    "08": (chat("Rating: [[08]]"), "single", 8.0),
    "see [1]": (chat("Good, see [1]"), "single", "no_verdict"),
    "minus one": (chat("Rating: [[-1]]"), "single", "out_of_range"),
    "no usage": ({**chat("Rating: [[7]]"), "usage": None}, "single", 7.0),
    "half a pair": (chat("\ud83d Rating: [[3]]"), "single", 3.0),
}
MODELS = ("x", "y", "z")


def test_every_fault_and_every_saying_stands_in_one_row() -> None:
    listed = Counter(name for _, names in ROWS.values() for name in names)
    assert set(listed.values()) == {1}
    assert set(listed) == FAULTS.keys() | SAID.keys()


def pairings(count: int) -> pd.DataFrame:
    questions = pd.DataFrame(
        {
            "question_id": range(count),
            "category": "writing",
            "turns": [[f"Write {n}."] for n in range(count)],
            "reference": None,
        }
    )
    answers = [
        {"question_id": n, "model": model, "turns": [f"{model} wrote {n}."], "sample": 0}
        for model in MODELS
        for n in range(count)
    ]
    return pair_up(questions, pd.DataFrame(answers))


def verdict(body: dict[str, Any]) -> str:
    """A judgment that depends on the request alone."""
    drawn = random.Random(json.dumps(body)).choice(["[[A]]", "[[B]]", "[[C]]", "I cannot say."])
    return f"Because.\n{drawn}"


def judged(folder: Path, url: str, count: int, **options: Any) -> pd.DataFrame:
    given = {"timeout": 20.0, "backoff": 0.01, "concurrency": 8, **options}
    store = Store(folder, mode="record")
    try:
        return judge_pairs(
            pairings(count), Judge("pair", "j"), store=store, endpoint=OpenAIEndpoint(url, **given)
        )
    finally:
        store.close()


def tables(games: pd.DataFrame) -> bytes:
    votes = resolve(games)
    return "\n".join(table.to_csv() for table in (games, votes, win_rates(votes))).encode()


def keys_in(folder: Path) -> int:
    return Store(folder).reader.count()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_tables_under_a_shuffle_of_transient_faults_are_the_fault_free_ones(
    tmp_path: Path, seed: int
) -> None:
    with Loopback(verdict) as server:
        expected = tables(judged(tmp_path / "fault-free", server.url, 20))
        bodies = sorted(json.dumps(call.body) for call in server.calls)
    assert len(bodies) == 120
    shuffle = random.Random(seed)
    shuffle.shuffle(bodies)
    played = dict(zip(bodies, cycle(TRANSIENT), strict=False))
    twice = {body for body in bodies if shuffle.random() < 0.2}

    def script(body: dict[str, Any], nth: int) -> str | None:
        whole = json.dumps(body)
        return played[whole] if nth < 1 + (whole in twice) else None

    with Loopback(verdict, script=script) as server:
        games = judged(tmp_path / "faults", server.url, 20, timeout=1.5, concurrency=32)
        assert len(server.calls) == 2 * len(bodies) + len(twice)
    assert tables(games) == expected
    assert set(played.values()) == TRANSIENT.keys()
    assert not (tmp_path / "faults" / "attempts.jsonl").exists()


def test_faults_for_ever_are_typed_rows_and_the_rest_is_judged(tmp_path: Path) -> None:
    names = [
        name for name in TRANSIENT if name not in ROWS["nothing comes, or a byte at a time"][1]
    ]
    names += FAILS
    asked = [request for _, request in judge_requests(pairings(10), Judge("pair", "j"))]
    said = [json.dumps(list(request.messages)) for request in asked]
    played = dict(zip(said, names, strict=False))
    assert len(played) == len(names) < len(said)
    with Loopback(verdict) as server:
        server.script = lambda body, nth: played.get(json.dumps(body["messages"]))
        games = judged(tmp_path, server.url, 10, max_attempts=2)
        wanted = len(said) - len(FAILS) + (len(names) - len(FAILS))
        assert len(server.calls) == wanted + len(FAILS)
        failed = games["text"].isna()
        assert failed.sum() == len(names)
        for name, reason in zip(names, games["reason"], strict=False):
            typed = {"rate_limited", "server_error", "connection", "bad_reply"}
            assert reason in ({FAILS[name][0]} if name in FAILS else typed), name
        assert games.loc[failed, "winner"].isna().all()
        assert keys_in(tmp_path) == len(said) - len(names)
        attempts = [
            json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()
        ]
        assert Counter(one["reason"] for one in attempts) == Counter(games["reason"][failed])
        assert any("log in" in one["message"] for one in attempts)
        # Every table says how many rows had no verdict; none of them is a number.
        rates = win_rates(resolve(games))
        assert rates["no_verdict"].sum() > 0
        # The run again asks for what failed, and for nothing else.
        before, server.script = len(server.calls), None
        whole = judged(tmp_path, server.url, 10)
        assert len(server.calls) - before == len(names)
    assert whole["text"].notna().all()


def test_a_byte_at_a_time_does_not_outlast_the_deadline(tmp_path: Path) -> None:
    slow = cycle(ROWS["nothing comes, or a byte at a time"][1])
    with Loopback(verdict, script=lambda body, nth: next(slow)) as server:
        games = judged(tmp_path, server.url, 1, timeout=0.4, deadline=1.0)
    assert set(games["reason"]) == {"timeout"}
    assert keys_in(tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STOPS)
def test_a_fault_that_stops_stops_at_the_first_and_goes_on_later(tmp_path: Path, name: str) -> None:
    with Loopback(verdict) as server:
        judged(tmp_path, server.url, 1)
        before, server.script = len(server.calls), always(name)
        with pytest.raises(EndpointStopped) as stopped:
            judged(tmp_path, server.url, 20)
        assert stopped.value.reason == STOPS[name][0]
        assert len(server.calls) - before <= 8
        assert keys_in(tmp_path) == before
        server.calls.clear()
        server.script = None
        assert judged(tmp_path, server.url, 20)["text"].notna().all()
        assert len(server.calls) == 120 - before


@pytest.mark.parametrize("name", SAID)
def test_what_is_no_verdict_is_typed_and_never_one(tmp_path: Path, name: str) -> None:
    said, prompt, expected = SAID[name]
    judge = Judge(prompt, "j")
    with Loopback(lambda body: said) as server:
        store, endpoint = Store(tmp_path, mode="record"), OpenAIEndpoint(server.url)
        if prompt == "pair":
            made = judge_pairs(
                pairings(1)[:1], judge, store=store, endpoint=endpoint, orders="given"
            )
        else:
            lines = pairings(1)[:1].rename(columns={"model_a": "model", "answer_a": "answer"})
            made = judge_answers(lines, judge, store=store, endpoint=endpoint)
        assert len(server.calls) == 1
    [row] = made.to_dict("records")
    read = row.get("winner") if prompt == "pair" else row["score"]
    if expected in ("model_a", "model_b", "tie") or isinstance(expected, float):
        assert (read, row["reason"]) == (expected, None)
    else:
        assert pd.isna(read)
        assert row["reason"] == expected
    [record] = Store(tmp_path).records()
    assert record.reply.text == row["text"]


def test_a_model_that_failed_to_answer_is_never_judged(tmp_path: Path) -> None:
    questions = pd.DataFrame(
        {"question_id": [1, 2], "category": "c", "turns": [["one"], ["two"]], "reference": None}
    )
    script = lambda body, nth: "filter" if "two" in json.dumps(body) else None  # noqa: E731
    with Loopback(script=script) as server:
        store = Store(tmp_path, mode="record")
        answers = generate(questions, "m", store=store, endpoint=OpenAIEndpoint(server.url))
        assert list(answers["reason"].fillna("")) == ["", "content_filter"]
        assert list(line_up(questions, answers)["question_id"]) == [1]
        before = len(server.calls)
        judge_answers(
            line_up(questions, answers),
            Judge("single", "j"),
            store=store,
            endpoint=OpenAIEndpoint(server.url),
        )
        assert len(server.calls) == before + 1


def test_another_model_than_was_asked_for_is_told(tmp_path: Path) -> None:
    with Loopback(verdict) as server:
        with pytest.raises(EndpointStopped, match="the server reports 'served-model'") as stopped:
            judged(tmp_path, server.url, 1, same_model=True)
        assert stopped.value.reason == "another_model"
        assert keys_in(tmp_path) == 0
        judged(tmp_path, server.url, 1)
    assert exchange.stats(tmp_path)["served"] == {"j as served-model": 6}
    assert all(
        isinstance(record.reply, Reply) and record.reply.model == "served-model"
        for record in Store(tmp_path).records()
    )
