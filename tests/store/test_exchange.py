from __future__ import annotations

import gc
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, strategies as st
from support import examples

from lmjudge.cli import main
from lmjudge.errors import ChangedReplies, DamagedStore, NotAStore, ReadOnlyStore, StoreError
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, exchange
from lmjudge.store.disk import LARGEST, MOST

contents = st.sampled_from(["q1", "q2", "q3"])
replies = st.builds(
    Reply, text=st.sampled_from(["A", "B", "C"]), created=st.none() | st.integers(0, 3).map(float)
)
records = st.lists(
    st.builds(
        lambda content, reply: Record(Request("m", [{"role": "user", "content": content}]), reply),
        contents,
        replies,
    ),
    max_size=8,
)


def some(count: int, text: str = "reply") -> list[Record]:
    return [
        Record(Request("m", [{"role": "user", "content": f"q{n}"}]), Reply(f"{text} {n}"))
        for n in range(count)
    ]


@pytest.mark.slow
@examples(5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records, records, records)
def test_merging_is_set_union(
    tmp_path_factory: pytest.TempPathFactory,
    one: list[Record],
    two: list[Record],
    three: list[Record],
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    parts = []
    for number, part in enumerate((one, two, three)):
        Store(folder / str(number)).add([*part, *some(1)])
        parts.append(folder / str(number))
    for into, sources in (
        ("ab", parts[:2]),
        ("ab-c", [folder / "ab", parts[2]]),
        ("cba", [*reversed(parts), parts[1]]),
    ):
        exchange.merge(folder / into, sources)  # into a new store: no reply of it can change
    outs = []
    for name in ("ab-c", "cba"):
        outs.append(exchange.export(folder / name, folder / f"{name}.jsonl.zst"))
    assert outs[0] == outs[1]
    assert (folder / "ab-c.jsonl.zst").read_bytes() == (folder / "cba.jsonl.zst").read_bytes()
    assert (
        exchange.verify(folder / "cba").digest == outs[0].sha256 == Store(folder / "cba").digest()
    )
    assert exchange.verify(folder / "cba").damaged == {}


def test_export_and_merge_give_the_same_bytes(tmp_path: Path) -> None:
    Store(tmp_path / "one").add(some(1500))
    exported = exchange.export(tmp_path / "one", tmp_path / "one.jsonl.zst")
    assert exported.records == 1500
    done = exchange.merge(tmp_path / "two", [tmp_path / "one.jsonl.zst"])
    assert done[str(tmp_path / "one.jsonl.zst")].new == 1500
    assert exchange.export(tmp_path / "two", tmp_path / "2.zst") == exported
    assert (tmp_path / "one.jsonl.zst").read_bytes() == (tmp_path / "2.zst").read_bytes()
    again = exchange.merge(tmp_path / "two", [tmp_path / "one", tmp_path / "2.zst"])
    assert all(added.known == 1500 and not added.new for added in again.values())


def test_an_export_leaves_out_what_may_not_be_passed_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = some(1)[0].request
    theirs = [replace(asked, provider=name) for name in ("unlicensed", "open")]
    Store(tmp_path / "s").add(Record(one, Reply("their words")) for one in (asked, *theirs))
    words = ["store", "--store", str(tmp_path / "s"), "export", str(tmp_path / "some.zst")]
    assert main([*words, "--without", "unlicensed"]) == 0
    exchange.merge(tmp_path / "t", [tmp_path / "some.zst"])
    kept = {record.request.provider for record in Store(tmp_path / "t").records()}
    assert kept == {None, "open"}
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main([*words[:-1], str(tmp_path / "no.zst"), "--without", "unlicenced"]) == 1
    assert "no record has the provider 'unlicenced'" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_export_says_whose_records_it_holds_and_public_keeps_what_is_not_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [None, "mt-bench", "llama-adapter/mt-bench", "chatbot-arena", "alpaca", "own:hers"]
    asked = [replace(one.request, provider=name) for name in names for one in some(2)]
    Store(tmp_path / "s").add(Record(one, Reply("words")) for one in asked)
    words = ["store", "--store", str(tmp_path / "s"), "export"]
    assert main([*words, str(tmp_path / "whole.zst")]) == 0
    told = capsys.readouterr().out
    for line in (
        "  2 of your own calls (your own licence)",
        "  2 of mt-bench (licence Apache-2.0)",
        "  2 of llama-adapter/mt-bench (licence none stated; do not pass it on",
        "  2 of own:hers (an imported file, licence unknown; do not pass it on",
        "12 records in",
    ):
        assert line in told
    assert main([*words, str(tmp_path / "public.zst"), "--public"]) == 0
    told = capsys.readouterr().out
    assert "  left out: 2 of chatbot-arena" in told
    assert "4 records in" in told
    exchange.merge(tmp_path / "t", [tmp_path / "public.zst"])
    assert {r.request.provider for r in Store(tmp_path / "t").records()} == {None, "mt-bench"}


def test_an_export_of_what_some_rows_rest_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(tmp_path / "s").add([*some(9), *some(1, "again")])
    keys = [record.request.key for record in some(9)]
    rows = [
        {"key": keys[0], "asked": keys[8]},
        {"key": None, "g1_key": keys[1], "g2_key": keys[2]},
        {"choices": [{"keys": [keys[3], keys[0]]}]},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["store", "--store", str(tmp_path / "s"), "export", str(tmp_path / "out.zst")]
    assert main([*words, "--only", str(tmp_path / "rows.jsonl")]) == 0
    assert "5 records in" in capsys.readouterr().out  # keys[0] has an observation too
    exchange.merge(tmp_path / "t", [tmp_path / "out.zst"])
    assert {record.request.key for record in Store(tmp_path / "t").records()} == set(keys[:4])
    assert exchange.verify(tmp_path / "t").damaged == {}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"key": "f" * 64}))
    assert main([*words, "--force", "--only", str(tmp_path / "rows.jsonl")]) == 1
    assert "1 of 1 records are not in the store" in capsys.readouterr().err
    (tmp_path / "rows.jsonl").write_text(json.dumps({"turns": ["x"]}))
    assert main([*words, "--force", "--only", str(tmp_path / "rows.jsonl")]) == 1
    assert "names a record" in capsys.readouterr().err


@pytest.mark.slow
@examples(8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records, records)
def test_every_merge_that_completes_is_commutative_and_changes_no_reply(
    tmp_path_factory: pytest.TempPathFactory, one: list[Record], two: list[Record]
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    digests = set()
    for nth, (mine, hers) in enumerate(((one, two), (two, one))):
        Store(folder / f"mine{nth}").add([*mine, *some(1)])
        Store(folder / f"hers{nth}").add([*hers, *some(1)])
        digest = Store(folder / f"mine{nth}").digest()
        held = Store(folder / f"mine{nth}").look_up(one.request.key for one in (*mine, *some(1)))
        changed = None
        try:
            exchange.merge(folder / f"mine{nth}", [folder / f"hers{nth}"])
        except ChangedReplies as error:
            changed = error.keys
        if changed is not None:
            assert Store(folder / f"mine{nth}").digest() == digest
            done = exchange.merge(
                folder / f"mine{nth}", [folder / f"hers{nth}"], accept_changed=True
            )
            assert sorted(done[str(folder / f"hers{nth}")].changed) == changed
        else:
            after = Store(folder / f"mine{nth}").look_up(held)
            assert all(after[key].same_as(held[key]) for key in held)
        digests.add(exchange.verify(folder / f"mine{nth}").digest)
    assert len(digests) == 1


@pytest.mark.parametrize("created", [None, -1.0, 1.0])
def test_a_merge_that_would_change_a_reply_writes_nothing_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], created: float | None
) -> None:
    request = some(1)[0].request
    Store(tmp_path / "mine").add([Record(request, Reply("mine", created=2.0))])
    Store(tmp_path / "hers").add([Record(request, Reply("hers", created=created)), *some(9)[1:]])
    exchange.export(tmp_path / "hers", tmp_path / "hers.zst")
    digest = Store(tmp_path / "mine").digest()
    for source in ("hers", "hers.zst"):
        words = ["store", "--store", str(tmp_path / "mine"), "merge", str(tmp_path / source)]
        assert main(words) == 1
        told = capsys.readouterr()
        assert f"would change: {request.key}" in told.out
        assert "nothing was written" in told.err
        assert Store(tmp_path / "mine").digest() == digest
    assert main([*words, "--accept-changed"]) == 0
    assert f"changed: {request.key}" in capsys.readouterr().out
    assert Store(tmp_path / "mine").look_up([request.key])[request.key].text == "hers"
    assert [record.reply.text for record in Store(tmp_path / "mine").records([request.key])] == [
        "hers",
        "mine",
    ]


def test_of_two_sources_the_earlier_reply_is_taken_unasked(tmp_path: Path) -> None:
    request = some(1)[0].request
    for name, created in (("one", 2.0), ("two", 1.0)):
        Store(tmp_path / name).add([Record(request, Reply(name, created=created))])
    exchange.merge(tmp_path / "mine", [tmp_path / "one", tmp_path / "two"])
    assert Store(tmp_path / "mine").look_up([request.key])[request.key].text == "two"


def test_no_row_outgrows_its_limit(tmp_path: Path) -> None:
    """A small export of large observations: the own reply stays, and stays readable."""
    request = some(1)[0].request
    for limit in ("bytes", "replies"):
        mine = Store(tmp_path / limit)
        mine.add([Record(request, Reply("mine", created=0.0))])
        count, size = (MOST, 9) if limit == "replies" else (9, LARGEST // 8)
        for part in (0, 1):
            path = tmp_path / f"{limit}-{part}"
            many = range(part * count // 2, (part + 1) * count // 2 + 1)
            Store(path).add(Record(request, Reply(f"{n} " + "x" * size, created=1.0)) for n in many)
        exchange.merge(mine.path, [tmp_path / f"{limit}-0"])
        with pytest.raises(StoreError, match="a store keeps at most"):
            exchange.merge(mine.path, [tmp_path / f"{limit}-1"])
        assert mine.look_up([request.key])[request.key].text == "mine"
        assert exchange.verify(mine.path).damaged == {}


def test_stats_count(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.add([*some(3), *some(2, "another")])
    told = exchange.stats(store.path)
    assert (told["keys"], told["records"], told["observations"]) == (3, 5, 2)
    assert told["models"] == {"m": 3}
    assert told["attempts"] == 0


@pytest.mark.parametrize("cut", [1, 20, 300])
def test_a_cut_export_is_not_taken(tmp_path: Path, cut: int) -> None:
    Store(tmp_path / "one").add(some(50))
    whole = tmp_path / "one.jsonl.zst"
    exchange.export(tmp_path / "one", whole)
    whole.write_bytes(whole.read_bytes()[:-cut])
    with pytest.raises(DamagedStore, match="export"):
        exchange.merge(tmp_path / "two", [whole])
    assert not (tmp_path / "two" / "cache.db").exists()


def test_an_export_of_lies_is_refused(tmp_path: Path) -> None:
    import hashlib

    import zstandard

    good, other = some(2)
    forged = other.line.replace(b"reply 1", b"reply 7")
    lines = [good.line, forged, b"not a record at all", b'{"key":"\xff'.ljust(90)]
    total = hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()
    last = f'{{"lmjudge_export":1,"records":{len(lines)},"sha256":"{total}"}}'.encode()
    (tmp_path / "x.zst").write_bytes(zstandard.compress(b"\n".join([*lines, last])))
    added = exchange.merge(tmp_path / "mine", [tmp_path / "x.zst"])[str(tmp_path / "x.zst")]
    assert added.new == 1
    assert len(added.refused) == 3
    assert list(Store(tmp_path / "mine").records()) == [good]


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n")
    with pytest.raises(DamagedStore, match="not an export"):
        exchange.merge(tmp_path / "s", [tmp_path / "text"])
    with pytest.raises(NotAStore, match="no store and no export"):
        exchange.merge(tmp_path / "s", [tmp_path / "nothing"])
    # A few kilobytes that would fill the memory.
    (tmp_path / "bomb").write_bytes(zstandard.compress(bytes(LARGEST + 2**20)))
    with pytest.raises(DamagedStore, match=f"a line of over {LARGEST} bytes"):
        exchange.merge(tmp_path / "s", [tmp_path / "bomb"])
    for act in (exchange.verify, exchange.stats, exchange.seal):
        with pytest.raises(NotAStore, match="no store"):
            act(tmp_path / "s")


def test_an_export_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.add(some(20))
    spoil(store.path, some(20)[7].request.key)
    with pytest.raises(DamagedStore):
        exchange.export(store.path, tmp_path / "out.zst")
    assert os.listdir(tmp_path) == ["s"]


def spoil(folder: Path, key: str) -> None:
    import sqlite3

    connection = sqlite3.connect(folder / "cache.db")
    (row,) = connection.execute("SELECT value FROM Cache WHERE key = ?", (key,)).fetchone()
    flipped = bytearray(row)
    flipped[len(flipped) // 2] ^= 4
    connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (bytes(flipped), key))
    connection.commit()
    connection.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody, root included, can write to: fill `tmp_path / "inside"` first."""
    inside, seen = tmp_path / "inside", tmp_path / "read-only"
    inside.mkdir()
    seen.mkdir()
    told = subprocess.run(
        f"mount --bind '{inside}' '{seen}' && mount -o remount,ro,bind '{seen}'",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode:
        pytest.skip(f"a read-only mount: {told.stderr.strip()}")
    yield seen
    subprocess.run(["umount", "--lazy", seen], check=True)


def test_a_store_that_nobody_holds_any_more_is_sealed(tmp_path: Path) -> None:
    gc.disable()
    try:
        Store(tmp_path / "store").add(some(3))
        assert Store(tmp_path / "store").digest()
        assert exchange.seal(tmp_path / "store").exists()
    finally:
        gc.enable()


def test_a_sealed_store_is_read_from_read_only_media(tmp_path: Path, read_only: Path) -> None:
    store = Store(tmp_path / "inside" / "store")
    store.add(some(10))
    store.close()
    exchange.seal(store.path)
    assert not (store.path / "cache.db-wal").exists()
    before = sorted(os.listdir(store.path))
    sealed = Store(read_only / "store", mode="record")
    asked = [record.request for record in some(10)]
    assert [reply.text for _, reply in sealed.ask(asked)] == [r.reply.text for r in some(10)]  # type: ignore[union-attr]
    assert exchange.verify(sealed.path).records == 10
    with pytest.raises(StoreError, match="cannot write"):
        sealed.add(some(11))
    assert sorted(os.listdir(store.path)) == before
    sealed.close()


def test_sealing_a_read_only_store_says_that_it_is_read_only(
    tmp_path: Path, read_only: Path
) -> None:
    store = Store(tmp_path / "inside" / "store")
    store.add(some(3))
    store.close()
    with pytest.raises(ReadOnlyStore, match="cannot write"):
        exchange.seal(read_only / "store")


def test_a_closed_store_is_read_from_read_only_media(tmp_path: Path, read_only: Path) -> None:
    store = Store(tmp_path / "inside" / "store")
    store.add(some(10))
    closed = Store(read_only / "store")
    assert len(closed.look_up(r.request.key for r in some(10))) == 10
    closed.close()


def test_an_unsealed_copy_with_its_log_is_not_read_as_if_it_were_whole(
    tmp_path: Path, read_only: Path
) -> None:
    store = Store(tmp_path / "store")
    store.add(some(3))
    store.look_up([some(1)[0].request.key])
    from lmjudge.store import disk

    with disk.recording(store.path) as cache:
        store.commit(cache, some(10))
        (tmp_path / "inside" / "store").mkdir()
        for name in ("cache.db", "cache.db-wal"):
            (tmp_path / "inside" / "store" / name).write_bytes((store.path / name).read_bytes())
    with pytest.raises(StoreError, match="lmjudge store seal"):
        Store(read_only / "store")


def test_recording_goes_on_after_sealing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.add(some(2))
    store.close()
    exchange.seal(store.path)
    store.add(some(5))
    assert exchange.verify(store.path).records == 5


def test_a_store_in_use_is_not_sealed(tmp_path: Path) -> None:
    import sqlite3

    store = Store(tmp_path / "store")
    store.add(some(2))
    other = sqlite3.connect(store.path / "cache.db")
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM Cache").fetchall()
    with pytest.raises(StoreError, match="in use"):
        exchange.seal(store.path)
    other.close()


def test_an_export_goes_to_a_file_in_a_folder_that_exists(tmp_path: Path) -> None:
    Store(tmp_path / "s").add(some(3))
    for out in (tmp_path, tmp_path / "none" / "e.zst"):
        with pytest.raises(StoreError, match="cannot write"):
            exchange.export(tmp_path / "s", out)
    assert os.listdir(tmp_path) == ["s"]


def test_an_export_is_lines_of_json(tmp_path: Path) -> None:
    import zstandard

    Store(tmp_path / "s").add(some(3))
    exchange.export(tmp_path / "s", tmp_path / "e.zst")
    with zstandard.open(tmp_path / "e.zst", "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    assert [set(line) for line in lines[:-1]] == [{"key", "reply", "request", "sha256"}] * 3
    assert [line["key"] for line in lines[:-1]] == sorted(line["key"] for line in lines[:-1])
    assert lines[-1]["records"] == 3
