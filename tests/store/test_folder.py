"""A store folder that is something else, a stranger's, damaged, full or read-only."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from endpoints import Echo
from hypothesis import HealthCheck, given, strategies as st
from support import examples

from lmjudge.errors import DamagedStore, Miss, NotAStore, StoreError
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, exchange
from lmjudge.store.disk import LARGEST, pack


def some(count: int) -> list[Record]:
    return [
        Record(Request("m", [{"role": "user", "content": f"q{n}"}]), Reply(f"reply {n} " * 30))
        for n in range(count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", mode="record")
    store.add(some(60))
    return store


def change(store: Store, sql: str, values: tuple[object, ...] = ()) -> None:
    connection = sqlite3.connect(store.path / "cache.db")
    connection.execute(sql, values)
    connection.commit()
    connection.close()


# ---- something else


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(NotAStore, match=r"thesis\.tex"):
        Store(tmp_path, mode="record")
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotAStore, match="is a file"):
        Store(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"SQLite", b"x" * 9000])
def test_a_cut_off_or_foreign_file_is_not_an_empty_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache.db").write_bytes(content)
    with pytest.raises(DamagedStore, match=r"cache\.db"):
        Store(tmp_path)
    with pytest.raises(DamagedStore):
        Store(tmp_path, mode="record")
    assert (tmp_path / "cache.db").read_bytes() == content


def test_a_missing_folder_is_an_empty_store_that_replay_does_not_make(tmp_path: Path) -> None:
    replay = Store(tmp_path / "none")
    with pytest.raises(Miss, match="the store is empty"):
        list(replay.ask([some(1)[0].request]))
    assert not (tmp_path / "none").exists()


# ---- a stranger's


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_pickles_and_side_files_are_never_opened(store: Store, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(marker))
    keys = [record.request.key for record in some(6)]
    (tmp_path / "secret").write_text("secret")
    change(store, "UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (bomb, keys[0]))
    for key, mode in ((keys[1], 2), (keys[2], 3)):
        change(
            store,
            "UPDATE Cache SET mode = ?, filename = '../secret', value = NULL WHERE key = ?",
            (mode, key),
        )
    change(store, "UPDATE Cache SET filename = '../secret' WHERE key = ?", (keys[3],))
    change(
        store,
        "INSERT INTO Cache(key, raw, store_time, mode, value) VALUES (?, 0, 0, 1, ?)",
        (bomb, b"x"),
    )
    assert set(store.look_up(keys)) == set(keys[4:])
    assert store.damaged == set(keys[:4])
    assert set(exchange.verify(store.path).damaged) >= set(keys[:4])
    assert len(exchange.verify(store.path).damaged) == 5
    list(store.ask([record.request for record in some(6)], Echo()))
    exchange.merge(tmp_path / "mine", [store.path])
    assert not marker.exists()
    assert (tmp_path / "secret").read_text() == "secret"
    assert len(store.look_up(keys)) == 6


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON Cache BEGIN DELETE FROM Cache; END",
        "CREATE TABLE more (x)",
        "UPDATE Settings SET value = 'least-recently-stored' WHERE key = 'eviction_policy'",
        "UPDATE Settings SET value = 10 WHERE key = 'cull_limit'",
        "INSERT INTO Settings VALUES ('sqlite_temp_store_directory', '/tmp')",
        "UPDATE Settings SET value = 0 WHERE key = 'sqlite_synchronous'",
        "DROP TABLE Settings",
        "DROP INDEX Cache_key_raw",
    ],
)
def test_a_strangers_store_is_read_and_merged_but_never_opened_for_writing(
    store: Store, tmp_path: Path, sql: str
) -> None:
    change(store, sql)
    assert len(store.look_up(record.request.key for record in some(60))) == 60
    endpoint = Echo()
    with pytest.raises(NotAStore, match="merge it"):
        list(store.ask([some(61)[60].request], endpoint))
    with pytest.raises(NotAStore, match="merge it"):
        store.add(some(61))
    with pytest.raises(NotAStore, match="merge it"):
        exchange.seal(store.path)
    assert endpoint.asked == []
    added = exchange.merge(tmp_path / "mine", [store.path])[str(store.path)]
    assert added.new == 60


OURS = "cache.db cache.db-wal cache.db-shm cache.db-journal claims attempts.jsonl batches.jsonl"


@pytest.mark.parametrize("name", OURS.split())
@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_in_a_strangers_folder_is_refused_and_not_followed(
    store: Store, tmp_path: Path, name: str, dangling: bool
) -> None:
    target = tmp_path / "bashrc"
    if not dangling:
        target.write_bytes(b"mine\n")
    store.close()
    (store.path / name).unlink(missing_ok=True)
    (store.path / name).symlink_to(target)
    acts = (
        lambda: Store(store.path),
        lambda: list(store.ask([some(61)[60].request], Echo(fail=frozenset({"q60"})))),
        lambda: store.add(some(61)),
        lambda: exchange.seal(store.path),
        lambda: exchange.merge(store.path, [store.path]),
        lambda: store.note(name, {"id": "batch"}, sync=True),
    )
    for act in acts:
        with pytest.raises(NotAStore, match="is a link"):
            act()
    assert target.read_bytes() == b"mine\n" if not dangling else not target.exists()


@pytest.mark.parametrize("name", ["claims", "attempts.jsonl", "cache.db"])
def test_a_file_of_two_names_is_read_and_not_written(
    store: Store, tmp_path: Path, name: str
) -> None:
    store.close()
    (store.path / name).touch()
    os.link(store.path / name, tmp_path / "bashrc")
    before = (tmp_path / "bashrc").read_bytes()
    assert len(Store(store.path).look_up(record.request.key for record in some(60))) == 60
    with pytest.raises(NotAStore, match="hard link"):
        list(store.ask([some(61)[60].request], Echo(fail=frozenset({"q60"}))))
    assert (tmp_path / "bashrc").read_bytes() == before


@pytest.mark.parametrize("name", ["cache.db", "claims", "cache.db-wal"])
def test_a_pipe_in_a_strangers_folder_is_refused_at_once(store: Store, name: str) -> None:
    store.close()
    (store.path / name).unlink(missing_ok=True)
    os.mkfifo(store.path / name)
    with pytest.raises(NotAStore, match="no plain file"):
        Store(store.path)
    with pytest.raises(NotAStore, match="no plain file"):
        exchange.verify(store.path)


def test_a_batch_is_not_noted_in_a_strangers_store(store: Store) -> None:
    change(store, "CREATE TABLE more (x)")
    with pytest.raises(NotAStore, match="merge it"):
        store.note("batches.jsonl", {"id": "batch"}, sync=True)
    assert not (store.path / "batches.jsonl").exists()


def test_a_view_in_the_place_of_the_rows_is_no_store(store: Store) -> None:
    change(store, "ALTER TABLE Cache RENAME TO Rows")
    change(store, "CREATE VIEW Cache AS SELECT * FROM Rows")
    with pytest.raises(DamagedStore):
        Store(store.path)


def test_a_row_that_unpacks_without_end_is_damaged(store: Store) -> None:
    import zstandard

    key = some(1)[0].request.key
    bomb = zstandard.compress(b"\0" * (LARGEST + 1))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 2**20)
    for row in (bomb, unsized, b"", b"junk"):
        change(store, "UPDATE Cache SET value = ? WHERE key = ?", (row, key))
        assert store.look_up([key]) == {}
    assert set(exchange.verify(store.path).damaged) == {key}


# ---- damaged


def test_a_damaged_record_is_asked_for_again_and_the_others_are_read(store: Store) -> None:
    keys = [record.request.key for record in some(60)]
    from test_exchange import spoil

    spoil(store.path, keys[5])
    assert len(store.look_up(keys)) == 59
    replay = Store(store.path)
    with pytest.raises(Miss, match="1 records are damaged"):
        list(replay.ask([record.request for record in some(60)]))
    endpoint = Echo()
    assert len(list(store.ask([record.request for record in some(60)], endpoint))) == 60
    assert endpoint.asked == [keys[5]]
    assert exchange.verify(store.path).damaged == {}


def signed(request: str) -> bytes:
    """A record's line whose SHA-256 holds, with something else where the request stands."""
    key = some(1)[0].request.key
    body = f'{{"key":"{key}","reply":{{"text":"x"}},"request":{request}}}'.encode()
    return body[:-1] + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'


@pytest.mark.parametrize(
    "line",
    [b"junk", signed("[]"), signed('{"v":9,"model":[1],"messages":7}'), signed("[" * 9999)],
    ids=["no JSON", "no object", "a newer version's", "deep"],
)
def test_no_record_hides_the_others(store: Store, tmp_path: Path, line: bytes) -> None:
    key = some(1)[0].request.key
    change(store, "UPDATE Cache SET value = ? WHERE key = ?", (pack([line], key), key))
    assert set(exchange.verify(store.path).damaged) == {key}
    told = exchange.stats(store.path)
    assert (told["keys"], told["records"], told["damaged"]) == (60, 59, 1)
    with pytest.raises(Miss, match="the nearest stored request differs in model"):
        list(Store(store.path).ask([Request("n", some(2)[1].request.messages)]))
    added = exchange.merge(tmp_path / "mine", [store.path])[str(store.path)]
    assert (added.new, len(added.refused)) == (59, 1)


def test_a_record_under_anothers_key_is_not_handed_out(store: Store) -> None:
    one, two = some(2)
    change(
        store,
        "UPDATE Cache SET value = ? WHERE key = ?",
        (pack([two.line], one.request.key), one.request.key),
    )
    with pytest.raises(DamagedStore, match="another key's record"):
        list(store.records([one.request.key]))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("pristine") / "store")
    store.add(some(60))
    store.close()
    exchange.seal(store.path)
    return store.path / "cache.db"


@examples(100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_flipped_bit_of_the_file_gives_a_wrong_reply(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(pristine.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "cache.db").write_bytes(content)
    right = {record.request.key: record.reply for record in some(60)}
    try:
        found = Store(folder).look_up(right)
    except StoreError:
        return
    finally:
        shutil.rmtree(folder)
    assert found.items() <= right.items()


def test_verify_and_merge_get_past_a_damaged_page(pristine: Path, tmp_path: Path) -> None:
    content = bytearray(pristine.read_bytes())
    right = {record.request.key: record for record in some(60)}
    (tmp_path / "store").mkdir()
    for page in range(8, len(content) // 4096 - 2):
        broken = bytearray(content)
        broken[page * 4096 : page * 4096 + 8] = b"\xff" * 8
        (tmp_path / "store" / "cache.db").write_bytes(broken)
        verified = exchange.verify(tmp_path / "store")
        if len(verified.damaged) > 1 and verified.keys == 60:
            break
    assert 0 < verified.records < 60
    done = exchange.merge(tmp_path / "saved", [tmp_path / "store"])[str(tmp_path / "store")]
    assert done.new == verified.records
    assert len(done.refused) == 60 - verified.records
    assert all(right[r.request.key] == r for r in Store(tmp_path / "saved").records())


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_detected(pristine: Path, tmp_path: Path, part: float) -> None:
    content = pristine.read_bytes()
    (tmp_path / "cache.db").write_bytes(content[: int(part * len(content))])
    with pytest.raises(StoreError):
        Store(tmp_path).look_up(record.request.key for record in some(60))


# ---- full


_FULL = """
import resource, signal, sys
from lmjudge.errors import StoreError
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(sys.argv[1], mode="record")
def some(a, b):
    return [Record(Request("m", [{"role": "user", "content": f"q{n}"}]),
            Reply(str(n) + "".join(map(chr, range(33, 4000))))) for n in range(a, b)]
store.add(some(0, 100))
kept = 100
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
try:
    for n in range(100, 2000, 10):
        store.add(some(n, n + 10))
        kept = n + 10
except StoreError as error:
    assert sys.argv[1] in str(error) and "free some space" in str(error), error
    held = store.look_up(r.request.key for r in some(0, 2000))
    assert len(held) >= kept, (len(held), kept)
    print("told", kept)
"""


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FULL, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("told"), done.stderr
    kept = int(done.stdout.split()[1])
    assert exchange.verify(folder).damaged == {}
    assert exchange.verify(folder).records >= kept


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    endpoint = Echo()
    with pytest.raises(StoreError):
        list(Store(tmp_path / "file" / "store", mode="record").ask([some(1)[0].request], endpoint))
    assert endpoint.asked == []
