"""Prices of every kind of token, the tables they are read from, and a run beside its plan."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from loopback import Loopback, chat
from support import examples

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import PriceError
from lmjudge.planning import plan
from lmjudge.prices import Price, Tokens, cost, prices, tokens
from lmjudge.records import Reply, Request
from lmjudge.store import Store

ASK = Request("m", [{"role": "user", "content": "Why?"}], {"max_tokens": 800})

# How servers tell of the same call, and the tokens that it took.
USAGES: dict[str, tuple[dict[str, Any], Tokens]] = {
    "openai": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 250},
        },
        Tokens(1000, 300, 600, 0, 250),
    ),
    "openai, responses": (
        {
            "input_tokens": 1000,
            "output_tokens": 300,
            "input_tokens_details": {"cached_tokens": 600},
            "output_tokens_details": {"reasoning_tokens": 250},
        },
        Tokens(1000, 300, 600, 0, 250),
    ),
    "anthropic": (
        {
            "input_tokens": 100,
            "cache_read_input_tokens": 600,
            "cache_creation_input_tokens": 300,
            "output_tokens": 50,
        },
        Tokens(1000, 50, 600, 300, 0),
    ),
    "litellm": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "cache_read_input_tokens": 600,
            "cache_creation_input_tokens": 300,
        },
        Tokens(1000, 50, 600, 300, 0),
    ),
    "deepseek": (
        {"prompt_tokens": 1000, "prompt_cache_hit_tokens": 600, "completion_tokens": 50},
        Tokens(1000, 50, 600, 0, 0),
    ),
    "moonshot": (
        {"prompt_tokens": 1000, "cached_tokens": 600, "completion_tokens": 50},
        Tokens(1000, 50, 600, 0, 0),
    ),
    "xai, the thought beside": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "total_tokens": 1300,
            "completion_tokens_details": {"reasoning_tokens": 250},
        },
        Tokens(1000, 300, 0, 0, 250),
    ),
    "gemini, the thought in the total alone": (
        {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1300},
        Tokens(1000, 300, 0, 0, 250),
    ),
    "nulls": (
        {"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": None},
        Tokens(1000, 50),
    ),
}


@pytest.mark.parametrize("name", USAGES)
def test_every_spelling_of_usage_is_read(name: str) -> None:
    usage, expected = USAGES[name]
    assert tokens(ASK, Reply("x", usage=usage)) == expected
    assert tokens(ASK, usage=usage) == expected


def test_each_kind_of_token_has_its_price() -> None:
    price = Price("m", 10, 40, cached=1, cache_write=12.5, reasoning=60)
    usage = {"prompt_tokens": 1000, "cached_tokens": 600, "cache_creation_input_tokens": 300}
    usage |= {"completion_tokens": 300, "reasoning_tokens": 250}
    # By hand: 100 plain, 600 cached, 300 written to the cache, 50 said, 250 thought.
    by_hand = (100 * 10 + 600 * 1 + 300 * 12.5 + 50 * 40 + 250 * 60) / 1e6
    assert cost(ASK, Reply("x", usage=usage), {"m": price}) == pytest.approx(by_hand)
    assert price.most(1000, 300) == pytest.approx((1000 * 12.5 + 300 * 60) / 1e6)
    half = price.by_batch()
    assert (half.input, half.output, half.reasoning, half.cached) == (5, 20, 30, None)
    assert Price("m", 10, 40, batch_input=4, batch_output=15).by_batch().of(1e6, 1e6) == 19
    assert "prices: $10 in, $1 cached, $12.5 cache write, $40 out, $60 reasoning" in str(price)


COUNTS = st.floats(0, 1e6) | st.none() | st.booleans() | st.text(max_size=2)


@examples(200)
@given(
    st.dictionaries(
        st.sampled_from(sorted({name for usage, _ in USAGES.values() for name in usage})),
        COUNTS | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), COUNTS),
    )
)
def test_whatever_usage_says_parts_are_within_their_whole(usage: dict[str, Any]) -> None:
    counted = tokens(ASK, Reply("x", usage=usage))
    assert min(counted) >= 0
    assert counted.cached + counted.cache_write <= counted.read * (1 + 1e-9)
    assert counted.reasoning <= counted.written
    price = Price("m", 10, 40, cached=1, cache_write=12.5, reasoning=60)
    assert 0 <= price.of(*counted) <= price.most(counted.read, counted.written) * (1 + 1e-9) + 1e-12


def test_the_communitys_table_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model_prices_and_context_window.json"
    table = {
        "sample_spec": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "mode": "chat"},
        "acme/judge": {
            "input_cost_per_token": 3e-06,
            "output_cost_per_token": 1.5e-05,
            "cache_read_input_token_cost": 3e-07,
            "cache_creation_input_token_cost": 3.75e-06,
            "output_cost_per_reasoning_token": 2e-05,
            "input_cost_per_token_batches": 1e-06,
            "output_cost_per_token_batches": 7e-06,
            "max_tokens": 8192,
            "mode": "chat",
        },
        "drawing": {"output_cost_per_image": 0.04, "mode": "image_generation"},
    }
    path.write_text(json.dumps(table))
    os.utime(path, (1_770_000_000, 1_770_000_000))
    monkeypatch.setenv("LMJUDGE_PRICES", str(path))
    [(model, price)] = prices().items()
    assert model == "acme/judge"
    numbers = (price.input, price.output, price.cached, price.cache_write, price.reasoning)
    assert numbers == pytest.approx((3, 15, 0.3, 3.75, 20))
    assert (price.batch_input, price.batch_output) == pytest.approx((1, 7))
    assert (price.date, price.table) == ("2026-02-02", path.name)
    for bad in (
        "[]",
        "{}",
        '{"m": 3}',
        '{"m": {"input_cost_per_token": -1, "output_cost_per_token": 1}}',
    ):
        path.write_text(bad)
        with pytest.raises(PriceError, match="cannot be read as prices"):
            prices()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,output\nm,3\n", "row 1 has no input;|row 1 has no input\\)"),
        ("model,input,output\nm,1,2\nn,1\n", "row 2 has no output"),
        ("model,input,output\n,1,2\n", "row 1 has no model"),
        ("model;input;output\nm;1;2\n", "row 1 has no model and no input and no output"),
        ("model,input,output\nm,NaN,2\n", "m costs nan and 2.0"),
        ("model,input,output\nm,$1.50,2\n", "could not convert string to float"),
    ],
)
def test_a_table_with_a_price_missing_names_its_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "prices.csv").write_text(text)
    with pytest.raises(PriceError, match=said):
        prices(tmp_path / "prices.csv")


def test_dated_models_that_cost_more_than_their_successor_have_a_price_of_their_own() -> None:
    costs = {name: prices()[f"gpt-3.5-turbo-{name}"].input for name in ("0301", "0613", "1106")}
    assert costs == {"0301": 1.5, "0613": 1.5, "1106": 1.0}


def test_the_bundled_table_is_dated_and_small() -> None:
    table = prices()
    assert len(table) < 50
    assert all(price.date and price.table == "lmjudge's table" for price in table.values())
    assert all(price.cached is None or price.cached < price.input for price in table.values())


def _served(body: dict[str, Any]) -> dict[str, Any]:
    """A reply with a thought, of which a part of the prompt was in the server's cache."""
    number = int(body["messages"][0]["content"].split()[0])
    thought = 150 + number * 37 % 100
    written = thought + 20 + number % 7
    usage = {
        "prompt_tokens": 900 + number % 11,
        "completion_tokens": written,
        "prompt_tokens_details": {"cached_tokens": 512 if number % 4 else 0},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    return chat("[[7]]") | {"usage": usage}


def test_a_recorded_run_lands_on_its_plan(tmp_path: Path) -> None:
    price = Price("m", 10, 40, "2026-01", cached=1, reasoning=30, table="own.csv")
    requests = [
        Request("m", [{"role": "user", "content": f"{n} " + "word " * 700}], {"max_tokens": 400})
        for n in range(200)
    ]
    table = tmp_path / "own.csv"
    table.write_text("model,input,output,cached,reasoning,date\nm,10,40,1,30,2026-01\n")
    assert prices(table) == {"m": price}
    store = Store(tmp_path / "judgments", mode="record")
    with Loopback(answer=_served) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMJUDGE_PRICES", str(table))
        endpoint = OpenAIEndpoint(server.url)
        list(store.ask(requests[:20], endpoint))  # a pilot, from which the plan knows the shares
        planned = plan(requests, store=store)
        assert "prices of 2026-01 (own.csv): $10 in, $1 cached, $40 out" in str(planned)
        before = store.spent
        list(store.ask(requests, endpoint))
    assert planned.dollars is not None
    spent = (store.spent or 0.0) - (before or 0.0)
    assert spent == pytest.approx(planned.dollars.expected, rel=0.1)
    assert planned.dollars.low <= spent <= (planned.dollars.high or 0)
    # By the plain prices of input and output alone the same run would be far off.
    plain = planned.read * 10 / 1e6 + (planned.written.expected or 0) * 40 / 1e6
    assert abs(plain - spent) > 0.1 * spent
