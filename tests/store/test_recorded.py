"""A store that lmjudge 0.1.0 recorded replays with no miss."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loopback import Loopback
from recorded import INPUT_STEPS, STEPS, WITH_INPUT, Asked, key_digests

import lmjudge as lj
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import DataMissing, Miss
from lmjudge.store import exchange

DATA = Path(__file__).parents[1] / "recordings"
KEYS = pd.read_csv(DATA / "keys-0.1.csv")
# What 0.1.0 printed when it exported the store.
RECORDS = 441
SHA256 = "5d1394eb8c03229c2413ead9f2a48930d5e03bd41a7232b60989aee3262343a1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the store's folder."""
    return Path(shutil.copytree(DATA / "store-0.1", tmp_path / "store"))


class Noted:
    """A store that notes the keys that it is asked for."""

    def __init__(self, store: lj.Store) -> None:
        self.store = store
        self.keys: set[str] = set()

    def ask(self, requests: Any, endpoint: Any = None) -> Iterator[Any]:
        for key, reply in self.store.ask(requests, endpoint):
            self.keys.add(key)
            yield key, reply


@pytest.mark.parametrize("name", [name for name in STEPS if "command" not in name])
def test_every_request_of_0_1_is_a_hit(folder: Path, tmp_path: Path, name: str) -> None:
    with closing(lj.Store(folder)) as store:
        STEPS[name](Asked(store, None, "", tmp_path))
        assert store.misses == 0
        assert store.hits > 0


@pytest.mark.parametrize("name", INPUT_STEPS)
def test_a_question_with_an_input_is_the_exception(folder: Path, tmp_path: Path, name: str) -> None:
    """Since 0.1.1 a judge sees the input of a question, so the request has another key."""
    with closing(lj.Store(folder)) as store, pytest.raises(Miss) as caught:
        INPUT_STEPS[name](Asked(store, None, "", tmp_path))
    requests = caught.value.requests
    assert requests
    assert all("odd one out.\\n\\npear, plum, spoon" in str(one.messages) for one in requests)


def test_the_command_line_of_0_1_calls_nobody(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    with closing(lj.Store(folder)) as store, Loopback() as server:
        for name, step in STEPS.items():
            if "command" in name:
                step(Asked(store, None, server.url, tmp_path / "files"))
        assert not server.calls


def test_all_records_of_0_1_are_asked_for(folder: Path, tmp_path: Path) -> None:
    """The steps ask for every key, so none can be lost by asking for less."""
    with closing(lj.Store(folder)) as store:
        noted = Noted(store)
        for name, step in STEPS.items():
            if "command" not in name:
                step(Asked(noted, None, "", tmp_path))
        kept = {record.request.key for record in store.records()}
        others = list(store.records(kept - noted.keys))
    without_input = [
        one for one in others if WITH_INPUT[0]["turns"][0] in str(one.request.messages)
    ]
    commands = {one.request.model for one in others if one not in without_input}
    assert len(kept) == RECORDS - 1
    assert noted.keys <= kept
    assert (len(others), len(without_input)) == (89, 13)
    assert commands == {"made-up-1", "judge-4", "judge-5"}


def test_the_store_of_0_1_is_read_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    found = exchange.verify(folder)
    assert (found.keys, found.records, found.observations) == (RECORDS - 1, RECORDS, 1)
    assert not found.damaged
    exported = exchange.export(folder, tmp_path / "all.jsonl.zst")
    assert (exported.records, exported.sha256) == (RECORDS, SHA256)
    exchange.merge(tmp_path / "again", [tmp_path / "all.jsonl.zst"])
    with closing(lj.Store(tmp_path / "again")) as store:
        assert store.digest() == SHA256


def test_the_store_of_0_1_can_be_added_to(folder: Path) -> None:
    question = pd.DataFrame(
        [{"question_id": 9, "category": "new", "turns": ["New?"], "reference": None}]
    )
    with closing(lj.Store(folder, mode="record")) as store, Loopback() as server:
        lj.generate(question, "made-up-9", store=store, endpoint=OpenAIEndpoint(server.url))
        assert store.calls == 1
    assert exchange.verify(folder).keys == RECORDS


@pytest.mark.parametrize("name", KEYS["source"].unique())
def test_published_judgments_keep_the_keys_of_0_1(published_data: Path, name: str) -> None:
    try:
        found = key_digests(name)
    except DataMissing as missing:
        pytest.skip(str(missing))
    expected = KEYS[KEYS["source"] == name].reset_index(drop=True)
    known = found[found["judge"].isin(expected["judge"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, expected, check_dtype=False)
