"""The written format: what docs/format.md says, its JSON Schema and its reader hold for exports."""

from __future__ import annotations

import asyncio
import io
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import zstandard
from hypothesis import given, strategies as st
from loopback import Loopback
from support import examples

from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import EndpointStopped, RequestError, RequestFailed
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, exchange

DOCS = Path(__file__).parents[1] / "docs"
READER = DOCS / "read_export.py"
SCHEMA = json.loads((DOCS / "format-1.schema.json").read_bytes())
RECORDED = Path(__file__).parent / "recordings" / "store-0.1"
read = runpy.run_path(str(READER))["records"]


def exported(store: Path, out: Path) -> bytes:
    exchange.export(store, out)
    with out.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def valid(whole: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(whole)


def test_the_reader_has_40_lines_and_nothing_but_the_standard_library() -> None:
    lines = [line for line in READER.read_text().splitlines() if line.strip()]
    assert len(lines) <= 40
    assert [line for line in lines if "import" in line and "lmjudge" in line] == []


def test_an_export_of_the_first_version_fits_the_schema_and_the_reader(tmp_path: Path) -> None:
    data = exported(RECORDED, tmp_path / "all.jsonl.zst")
    lines = [json.loads(line) for line in data.splitlines()]
    assert all(map(valid, lines))
    held = list(Store(RECORDED).records())
    assert [(key, request) for key, request, _ in read(io.BytesIO(data))] == [
        (record.request.key, record.request.as_json()) for record in held
    ]
    said = subprocess.run(
        [sys.executable, "-I", str(READER)], input=data, capture_output=True, check=True
    )
    assert said.stdout.decode() == f"{len(held)} records, all whole\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
TEXT = st.text(max_size=20)
REQUESTS = st.builds(
    Request,
    TEXT,
    st.lists(st.dictionaries(st.sampled_from(["role", "content", "reply"]), JSON), max_size=3),
    st.dictionaries(TEXT, JSON, max_size=3),
    st.integers(0, 3),
    st.none() | TEXT,
    st.sampled_from(["chat", "reward"]),
    st.none() | st.just("anthropic"),
)
REPLIES = st.builds(
    Reply,
    TEXT | st.just('"request":{"sha256":"'),
    finish_reason=st.none() | TEXT,
    logprobs=JSON,
    usage=st.none() | st.dictionaries(TEXT, JSON, max_size=2),
    created=st.none() | st.floats(0, 2e9),
    latency=st.none() | st.floats(0, 1e3),
)


@examples(50)
@given(st.lists(st.builds(Record, REQUESTS, REPLIES), max_size=4), st.randoms())
def test_what_any_store_exports_is_read_and_no_changed_byte_is(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], random: Any
) -> None:
    folder = tmp_path_factory.mktemp("format")
    store = Store(folder / "judgments")
    store.add(records or [Record(Request("m", []), Reply("x"))])
    data = exported(store.path, folder / "all.jsonl.zst")
    assert all(valid(json.loads(line)) for line in data.splitlines())
    held = list(store.records())
    assert [(request, reply) for _, request, reply in read(io.BytesIO(data))] == [
        (json.loads(json.dumps(one.request.as_json())), json.loads(one.line)["reply"])
        for one in held
    ]
    at = random.randrange(len(data) - 1)
    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    with pytest.raises((ValueError, KeyError, TypeError)):
        list(read(io.BytesIO(changed)))
    first = data.index(b"\n") + 1
    with pytest.raises(ValueError, match="does not match the lines before it"):
        list(read(io.BytesIO(data[first:])))


def test_a_request_to_another_api_says_so_and_is_sent_nowhere() -> None:
    message = [{"role": "user", "content": "Hi"}]
    plain, other = Request("m", message), Request("m", message, api="anthropic")
    assert plain.as_json().keys() == other.as_json().keys() - {"api"}
    assert plain.key != other.key
    assert Request.from_json(other.as_json()) == other
    assert Record.from_line(Record(other, Reply("x")).line).request.api == "anthropic"
    with pytest.raises(RequestError, match="found a request of version 1"):
        Request.from_json(plain.as_json() | {"shape": "x"})
    with Loopback() as server:
        failure = _answer(OpenAIEndpoint(server.url), other)
    assert server.calls == []
    assert "a request to the API 'anthropic'" in str(failure)


def _answer(endpoint: OpenAIEndpoint, request: Request) -> Exception:
    async def ask() -> None:
        async with endpoint.session() as answer:
            await answer(request)

    with pytest.raises((RequestFailed, EndpointStopped)) as caught:
        asyncio.run(ask())
    return caught.value


def test_the_page_names_every_field() -> None:
    page = (DOCS / "format.md").read_text(encoding="utf-8")
    for name in ("request", "reply", "record", "end"):
        for field in SCHEMA["$defs"][name]["properties"]:
            assert field in page
    fields = set(Reply.__dataclass_fields__)
    assert set(SCHEMA["$defs"]["reply"]["properties"]) == fields
    assert set(SCHEMA["$defs"]["request"]["properties"]) == {*Request.__dataclass_fields__, "v"}
