"""The plan of a run: counts of rows and keys, and what the store already answers."""

from pathlib import Path

import pandas as pd
import pytest
from endpoints import Echo
from loopback import Loopback

from lmjudge.endpoints.budget import Budget
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import EndpointStopped, FrameError, PriceError
from lmjudge.frames import line_up
from lmjudge.generation import Answerer, generate
from lmjudge.judges import Judge, judge_requests
from lmjudge.planning import plan
from lmjudge.prices import Price, cost, price_of, prices
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store


def lineup(*texts: str) -> pd.DataFrame:
    questions = pd.DataFrame(
        {"question_id": [1], "category": ["writing"], "turns": [["Q"]], "reference": [None]}
    )
    answers = pd.DataFrame(
        [
            {"question_id": 1, "model": f"m{i}", "turns": [text], "sample": 0}
            for i, text in enumerate(texts)
        ]
    )
    return line_up(questions, answers)


def test_rows_and_keys_hits_and_misses(tmp_path: Path) -> None:
    """Twin answers are two rows and one call."""
    frame, judge = lineup("a", "b", "b", "c", "c"), Judge("single", "<b>j</b>")
    store = Store(tmp_path / "judgments")
    (_, first), (_, second), *_ = judge_requests(frame, judge)
    store.add([Record(first, Reply("[[1]]")), Record(second, Reply("[[2]]"))])
    planned = plan(frame, judge, store=store)
    assert (planned.requests, planned.distinct) == (5, 3)
    assert (planned.hits, planned.misses, planned.distinct_misses) == (3, 2, 1)
    assert list(planned.rows["hit"]) == [True, True, True, False, False]
    assert list(planned.rows["model"]) == ["m0", "m1", "m2", "m3", "m4"]
    assert planned.rows["key"][0] == first.key
    assert repr(planned).startswith(
        "<b>j</b>/single: 5 requests (3 distinct), 3 answered in the store, 2 not: 1 calls to make;"
    )
    assert repr(planned).endswith("price unknown (set LMJUDGE_PRICES to a table of prices)")
    assert "&lt;b&gt;j" in planned._repr_html_()
    assert "<b>" not in planned._repr_html_()
    # JupyterLab would read what is between two dollar signs as a formula.
    assert planned._repr_html_().startswith('<table class="mathjax_ignore">')
    assert (store.hits, store.misses, store.calls) == (0, 0, 0)


def test_plain_requests_are_planned_without_a_judge(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments")
    requests = [Request("m", [{"role": "user", "content": str(i % 600)}]) for i in range(1200)]
    store.add([Record(requests[0], Reply("x"))])
    planned = plan(iter(requests), store=store)
    assert (planned.requests, planned.distinct) == (1200, 600)
    assert (planned.hits, planned.misses, planned.distinct_misses) == (2, 1198, 599)


def test_nothing_to_ask_and_no_judge(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments")
    assert plan([], store=store).requests == 0
    assert plan(lineup("a").head(0), Judge("single", "j"), store=store).rows.empty
    assert not (tmp_path / "judgments").exists()
    with pytest.raises(TypeError, match="no judge"):
        plan(lineup("a"), store=store)


def told(read: int, wrote: int, text: str = "x") -> Reply:
    return Reply(text, usage={"prompt_tokens": read, "completion_tokens": wrote})


def test_tokens_and_dollars_come_from_the_stores_own_lengths(tmp_path: Path) -> None:
    """The prompts' ratio of tokens to characters, and the replies' lengths, are the store's."""
    store = Store(tmp_path / "judgments")
    requests = [
        Request("gpt-4", [{"role": "user", "content": "c" * 400}], {"max_tokens": 50}, sample)
        for sample in range(4)
    ]
    store.add([Record(requests[0], told(200, 10)), Record(requests[1], told(200, 30))])
    planned = plan(requests, store=store)
    assert planned.read == 400  # 400 characters read as 200 tokens, twice
    assert (planned.written.low, planned.written.expected, planned.written.high) == (20, 40, 100)
    assert planned.dollars is not None
    assert planned.dollars.expected == pytest.approx(400 * 30e-6 + 40 * 60e-6)
    assert "$0.01 / $0.01 / $0.02, prices of 2025-08" in repr(planned)
    half = planned.by_batch()
    assert half.dollars is not None
    assert half.dollars.expected == pytest.approx(planned.dollars.expected / 2)
    assert (half.read, half.written) == (planned.read, planned.written)
    own = plan(requests, store=store, table={"gpt-4": Price("gpt-4", 0, 1e6)})
    assert own.dollars is not None
    assert own.dollars.high == 100


def test_nothing_known_is_unknown_and_not_zero(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments")
    planned = plan([Request("mine", [{"role": "user", "content": "c" * 40}])], store=store)
    assert planned.dollars is None
    assert (planned.written.expected, planned.written.high) == (None, None)
    assert "0 / unknown / unknown tokens to write" in repr(planned)
    assert cost(Request("mine", []), told(1, 1)) is None


def test_a_shard_is_planned_as_it_is_asked(tmp_path: Path) -> None:
    questions = pd.DataFrame(
        [
            {"question_id": at, "category": "c", "turns": [f"q{at}", "more"], "reference": None}
            for at in range(12)
        ]
    )
    store = Store(tmp_path / "judgments", mode="record")
    planned = [plan(questions, Answerer("m"), store=store.shard(part, 2)) for part in (1, 2)]
    assert sum(shard_plan.requests for shard_plan in planned) == 24
    assert min(shard_plan.requests for shard_plan in planned) > 0
    made = generate(questions, Answerer("m"), store=store.shard(1, 2), endpoint=Echo())
    assert made["turns"].notna().sum() * 2 == planned[0].requests == store.calls
    frame, judge = line_up(questions, made), Judge("single", "j")
    parts = [plan(frame, judge, store=store.shard(part, 2)).requests for part in (1, 2)]
    assert sum(parts) == len(frame)


def test_references_that_are_missing_are_told(tmp_path: Path) -> None:
    """Of a family that shows them where there are any; a prompt that needs them is refused."""
    frame, store = lineup("a", "b").assign(category="math"), Store(tmp_path / "judgments")
    planned = plan(frame, Judge("single", "j"), store=store)
    assert planned.unguided == 1
    assert "1 question of math would be judged without a reference answer" in str(planned)
    assert "1 questions" in planned._repr_html_()
    referenced = frame.assign(reference=[["4"]] * 2)
    assert plan(referenced, Judge("single", "j"), store=store).unguided == 0
    with pytest.raises(FrameError, match=r"have no text for \{ref_answer_1\}, a reference answer"):
        plan(frame, Judge("single-reference", "j"), store=store)


def test_answers_are_planned_turn_by_turn(tmp_path: Path) -> None:
    """A second turn's request is not known before the first is answered, but it is counted."""
    questions = pd.DataFrame(
        {
            "question_id": [1, 2],
            "category": "writing",
            "turns": [["a", "b"], ["c"]],
            "reference": None,
        }
    )
    store, answerer = Store(tmp_path / "judgments", mode="record"), Answerer("m")
    planned = plan(questions, answerer, store=store)
    assert (planned.requests, planned.distinct_misses) == (3, 3)
    assert planned.rows["key"].isna().tolist() == [False, True, False]
    with pytest.raises(EndpointStopped, match="budget is used up: 2 of 2 calls"):
        generate(questions, answerer, store=store, endpoint=Budget(Echo(), calls=2))
    planned = plan(questions, answerer, store=store)
    assert (planned.hits, planned.distinct_misses, store.calls) == (2, 1, 2)
    generate(questions, answerer, store=store, endpoint=Budget(Echo(), calls=1))
    assert plan(questions, answerer, store=store).misses == 0
    assert store.calls == 3


def test_a_budget_stops_before_it_is_overspent(tmp_path: Path) -> None:
    """A reply may cost up to $5 and costs $3: of $20, four and then two are let in."""
    table = {"m": Price("m", 0, 1e6)}
    requests = [
        Request("m", [{"role": "user", "content": str(at)}], {"max_tokens": 5}) for at in range(30)
    ]
    store = Store(tmp_path / "judgments", mode="record")

    def answer(body: dict) -> dict:
        from loopback import chat

        return chat("x") | {"usage": {"prompt_tokens": 1, "completion_tokens": 3}}

    with Loopback(answer=answer, delay=0.02) as server:
        endpoint = Budget(OpenAIEndpoint(server.url), dollars=20, table=table)
        with pytest.raises(EndpointStopped, match=r"\$18.0000 of \$20.00 spent") as stopped:
            list(store.ask(requests, endpoint))
        assert stopped.value.reason == "budget"
        assert len(server.calls) == store.calls == 6
        assert server.busiest <= 4
        assert len(store.look_up(request.key for request in requests)) == 6
        assert sum(cost(r.request, r.reply, table) or 0 for r in store.records()) == 18
        with pytest.raises(EndpointStopped):
            list(store.ask(requests, endpoint))
        assert len(server.calls) == 6


def test_a_budget_needs_a_price_and_a_bound(tmp_path: Path) -> None:
    store = Store(tmp_path / "judgments", mode="record")
    ask = [{"role": "user", "content": "x"}]
    with pytest.raises(PriceError, match="mine has no price"):
        list(store.ask([Request("mine", ask, {"max_tokens": 5})], Budget(Echo(), dollars=1)))
    with pytest.raises(PriceError, match="sets no limit"):
        list(store.ask([Request("gpt-4", ask)], Budget(Echo(), dollars=1)))
    with pytest.raises(ValueError, match="dollars is -1"):
        Budget(Echo(), dollars=-1)


def test_prices_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "prices.csv"
    own.write_text("model,input,output\nmine,1,2\n")
    monkeypatch.setenv("LMJUDGE_PRICES", str(own))
    assert prices() == {"mine": Price("mine", 1, 2)}
    assert price_of("mine-2025-01-31") == Price("mine", 1, 2)
    assert price_of("gpt-4") is None
    own.write_text("model,input\nmine,free\n")
    with pytest.raises(PriceError, match="expected a CSV of model, input, output"):
        prices()
