"""A store as a data set: written, loaded by `datasets`, and merged back."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmjudge as lj
from lmjudge.cli import main
from lmjudge.errors import StoreError
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, dataset, exchange

datasets = pytest.importorskip("datasets")


def some(count: int, provider: str | None = None) -> list[Record]:
    return [
        Record(
            Request("m", [{"role": "user", "content": f"Say {n} \N{SNOWMAN}"}], provider=provider),
            Reply(f"reply {n}\n", usage={"prompt_tokens": n}, finish_reason="stop", created=1.5),
        )
        for n in range(count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    kept = Store(tmp_path / "s", mode="record")
    kept.add([*some(7), *some(3, "prd"), *some(2, "chatbot-arena"), *some(1, "own:x.jsonl-1")])
    return kept


def test_a_data_set_is_loaded_and_merged(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dataset, "_OF_A_SHARD", 4)
    out = tmp_path / "made"
    assert main(["store", "--store", str(store.path), "export", str(out), "--parquet"]) == 0
    told = capsys.readouterr().out
    # What may not be passed on stays here, unless you say --no-public.
    assert "left out: 2 of chatbot-arena" in told
    assert "left out: 1 of own:x.jsonl-1" in told
    names = [path.name for path in sorted((out / "data").iterdir())]
    assert names == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    card = (out / "README.md").read_text()
    assert "| prd | 3 | licence MIT |" in card
    assert "| calls of the owner | 7 |" in card
    assert "2 of chatbot-arena" in card
    rows = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == list(dataset.COLUMNS)
    kept = {r.request.key: r for r in [*some(7), *some(3, "prd")]}
    assert {row["key"]: row["text"] for row in rows} == {
        key: record.reply.text for key, record in kept.items()
    }
    added = exchange.merge(tmp_path / "t", [out])[str(out)]
    assert (added.new, added.refusals) == (10, 0)
    merged = Store(tmp_path / "t")
    assert {r.line for r in merged.records()} == {r.line for r in kept.values()}
    assert merged.digest() in card
    assert main(["store", "--store", str(store.path), "export", str(out), "--parquet"]) == 1
    words = ["store", "--store", str(store.path), "export", str(tmp_path / "all"), "--parquet"]
    assert main([*words, "--no-public"]) == 0
    exchange.merge(tmp_path / "u", [tmp_path / "all"])
    assert Store(tmp_path / "u").digest() == store.digest()


def test_a_store_is_a_data_set_whose_files_are_merged(store: Store, tmp_path: Path) -> None:
    rows = lj.data.to_dataset(store)
    assert rows.column_names == list(dataset.COLUMNS)
    assert len(rows) == 13
    path = tmp_path / "rows.parquet"
    rows.to_parquet(path)
    exchange.merge(tmp_path / "t", [path])
    assert Store(tmp_path / "t").digest() == store.digest()
    assert len(lj.data.to_dataset(Store(tmp_path / "t"))) == 13
    (tmp_path / "empty").mkdir()
    empty = Store(tmp_path / "empty" / "s", mode="record")
    empty.add([])
    assert lj.data.to_dataset(empty).column_names == list(dataset.COLUMNS)


def test_a_changed_row_is_refused(store: Store, tmp_path: Path) -> None:
    rows = lj.data.to_dataset(store)
    spoilt = rows.map(lambda row: {"reply": row["reply"].replace("reply 3", "reply 4")})
    spoilt.to_parquet(tmp_path / "rows.parquet")
    (added,) = exchange.merge(tmp_path / "t", [tmp_path / "rows.parquet"]).values()
    assert (added.new, added.refusals) == (12, 1)
    lj.data.to_dataset(lj.load_votes("prd")).to_parquet(tmp_path / "votes.parquet")
    with pytest.raises(StoreError, match="not a data set of records"):
        exchange.merge(tmp_path / "u", [tmp_path / "votes.parquet"])
