from __future__ import annotations

import hashlib
import json
import math

import pytest
import rfc8785
from hypothesis import given, strategies as st

from lmjudge.canonical import canonical_json, clean_text
from lmjudge.errors import DamagedStore, RequestError
from lmjudge.records import (
    Record,
    Reply,
    Request,
    check_line,
    reply_in,
    unite,
)

floats = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**53) + 1, 2**53 - 1)
text = st.text(st.characters(codec="utf-8"))
plain = st.recursive(
    st.none() | st.booleans() | whole | floats | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
replies = st.builds(
    Reply,
    text=st.sampled_from(["A", "B", "[[A]]"]),
    finish_reason=st.sampled_from([None, "stop"]),
    created=st.none() | st.integers(0, 3).map(float),
    latency=st.none() | st.just(0.5),
)


def ask(content: str = "Which is better?", **params: object) -> Request:
    messages = [{"role": "system", "content": "Judge."}, {"role": "user", "content": content}]
    return Request("gpt-4-0613", messages, params)


def test_two_literal_keys() -> None:
    """What somebody paid for lies under these keys: no refactoring may change them."""
    request = ask(temperature=0.0, max_tokens=2048)
    assert request.key == "ca142a5803b539e8eae7afe90f056d94cb7ea2985e8d23bc4a97177eda11a134"
    other = Request(
        "Qwen/qwen2.5-7b",
        [{"role": "user", "content": 'Grüße, 世界 🌍 \n\t"\\\u2028'}],
        {"temperature": 0.7, "top_p": 1e-7, "seed": 7, "stop": None},
        sample=3,
        provider="mt-bench",
    )
    assert other.key == "6e9064d206a15f073be3db80864979c93bfaf8292ba08ef970db8e1b1ad81216"


@given(plain)
def test_canonical_json_is_rfc8785(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(floats)
def test_numbers_are_written_as_rfc8785_writes_them(value: float) -> None:
    assert canonical_json([value]) == rfc8785.dumps([value])


@given(plain)
def test_canonical_json_reads_back_as_itself(value: object) -> None:
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def test_large_floats_read_back_and_large_integers_are_refused() -> None:
    assert canonical_json(1e16) == b"10000000000000000" == canonical_json(10**16)
    assert canonical_json(2.0**60) == b"1152921504606847000"
    record = Record(ask(seed=1e16), Reply("A"))
    assert Record.from_line(record.line) == record
    for value in (2**53 + 1, 2**60, 10**21):
        with pytest.raises(RequestError, match="beyond 2"):
            canonical_json([value])


def test_temperature_0_and_0_0_are_one_key() -> None:
    assert ask(temperature=0).key == ask(temperature=0.0).key == ask(temperature=-0.0).key
    assert ask(temperature=1).key == ask(temperature=1.0).key != ask(temperature=True).key


@given(st.permutations(["temperature", "max_tokens", "seed", "top_p"]))
def test_order_of_fields_is_not_in_the_key(names: list[str]) -> None:
    assert ask(**dict.fromkeys(names, 1)).key == ask(**dict.fromkeys(sorted(names), 1)).key


def test_every_field_is_in_the_key() -> None:
    base = ask(temperature=0)
    same = base.as_json()
    for name, other in {
        "model": "gpt-4",
        "messages": [{"role": "user", "content": "Which is better?"}],
        "params": {"temperature": 0.1},
        "sample": 1,
        "provider": "mt-bench",
        "kind": "reward",
    }.items():
        assert Request.from_json({**same, name: other}).key != base.key, name
    assert Request.from_json(same) == base


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (2**53 + 1, "beyond 2"),
        ({1: 2}, "keys are text"),
        ({"a": {3, 4}}, "a set"),
        (b"bytes", "a bytes"),
        ("\ud800", "surrogate"),
        (["é", "\udfff", 1e-7], "surrogate"),
    ],
)
def test_what_json_cannot_hold_is_refused(value: object, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        canonical_json(value)
    assert hasattr(caught.value, "value")


def test_requests_of_other_kinds_are_refused() -> None:
    with pytest.raises(RequestError, match="sample"):
        Request("m", [], sample="1")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="version"):
        Request.from_json({**ask().as_json(), "v": 2})
    with pytest.raises(RequestError, match="version"):
        Request.from_json({**ask().as_json(), "base_url": "http://elsewhere"})


@given(st.text())
def test_cleaned_text_can_be_kept(hostile: str) -> None:
    cleaned = clean_text(hostile)
    cleaned.encode()
    canonical_json(cleaned)
    assert clean_text(cleaned) == cleaned
    if not any("\ud800" <= c <= "\udfff" for c in hostile):
        assert cleaned == hostile


@given(texts, replies)
def test_a_line_is_json_that_holds_its_record(content: str, reply: Reply) -> None:
    record = Record(ask(content), reply)
    assert Record.from_line(record.line) == record
    assert reply_in(record.line) == reply
    assert check_line(record.line) == record.request.key
    read = json.loads(record.line)
    assert read.pop("sha256") == record.digest == hashlib.sha256(canonical_json(read)).hexdigest()
    assert b"\n" not in record.line


@given(texts, replies, st.data())
def test_no_flipped_bit_passes(content: str, reply: Reply, data: st.DataObject) -> None:
    line = Record(ask(content), reply).line
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    broken = bytearray(line)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedStore):
        check_line(bytes(broken))


def test_a_record_under_a_key_that_is_not_its_own_is_refused() -> None:
    body = Record(ask("one"), Reply("A")).line[:-77] + b"}"
    forged = body.replace(ask("one").key.encode(), ask("two").key.encode())
    line = forged[:-1] + b',"sha256":"%s"}' % hashlib.sha256(forged).hexdigest().encode()
    assert check_line(line) == ask("two").key
    with pytest.raises(DamagedStore, match="another request"):
        Record.from_line(line)


def test_a_newer_reply_is_read_by_this_version() -> None:
    line = Record(ask(), Reply("A")).line
    body = line[:-77].replace(b'"text":"A"', b'"text":"A","thoughts":"x"') + b"}"
    newer = body[:-1] + b',"sha256":"%s"}' % hashlib.sha256(body).hexdigest().encode()
    check_line(newer)
    assert reply_in(newer) == Reply("A")


@pytest.mark.parametrize(
    "reply",
    [b"{}", b'{"finish_reason":"stop"}', b'{"text":7}', b'{"created":"x","text":"A"}', b"[]", b"?"],
)
def test_a_planted_reply_that_is_none_is_damage(reply: bytes) -> None:
    """Its SHA-256 holds, and there is nothing in it that could be handed on."""
    body = Record(ask(), Reply("A")).line[:-77].replace(b'{"text":"A"}', reply) + b"}"
    line = body[:-1] + b',"sha256":"%s"}' % hashlib.sha256(body).hexdigest().encode()
    assert check_line(line) == ask().key
    with pytest.raises(DamagedStore, match="holds no valid reply"):
        reply_in(line)
    with pytest.raises(DamagedStore):
        Record.from_line(line)


@given(st.lists(replies, max_size=5), st.lists(replies, max_size=5), st.randoms())
def test_union_is_a_union(replies_a: list[Reply], replies_b: list[Reply], random: object) -> None:
    a, b = ([Record(ask(), reply) for reply in some] for some in (replies_a, replies_b))
    united = unite([*a, *b])
    assert united == unite([*unite(b), *unite(a)]) == unite([*united, *united])
    shuffled = [*a, *b]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert unite(shuffled) == united
    contents = [(r.reply.text, r.reply.finish_reason) for r in united]
    assert (
        len(set(contents))
        == len(contents)
        == len({(r.text, r.finish_reason) for r in replies_a + replies_b})
    )
    if united:
        ages = [-1.0 if r.reply.created is None else r.reply.created for r in [*a, *b]]
        first = united[0].reply.created
        assert (-1.0 if first is None else first) == min(ages)
