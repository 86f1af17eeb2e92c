"""A stranger's store and export that unpack to gigabytes: 200 MB and a minute are enough."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from lmjudge.errors import DamagedStore
from lmjudge.records import Record, Reply, Request
from lmjudge.store import Store, exchange
from lmjudge.store.disk import LARGEST, pack

_MOST_MEMORY = 200_000  # KiB
_MOST_SECONDS = 60  # of the processor
_ACT = """
import sys, time
from lmjudge.cli import main
code = main(sys.argv[1:])
print(round(time.process_time()))
with open("/proc/self/status") as file:  # getrusage counts the parent's memory at the fork
    print(code, *(line.split()[1] for line in file if line.startswith("VmHWM")))
"""


def asked(text: str) -> Request:
    return Request("m", [{"role": "user", "content": text}])


def largest(text: str, letter: str) -> Record:
    """A record as large as may be; one letter may make each of them take four bytes in memory."""
    request = asked(text)
    room = LARGEST - 1000 if letter.isascii() else LARGEST // 4 - 1000
    return Record(request, Reply(letter + "x" * room, created=1.0))


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc"
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a few megabytes that unpacks to some 600 MB, beside 20 good records."""
    store = Store(tmp_path_factory.mktemp("hostile") / "store")
    store.add(Record(asked(f"good {n}"), Reply("fine", created=1.0)) for n in range(20))
    store.close()
    rows: list[tuple[str, object]] = [
        (asked(letter).key, pack([largest(letter, letter).line], ""))
        for letter in ("x", "\u00e9", "\U0001f9d1")
    ]
    rows += [(asked(f"zeros {n}").key, zstandard.compress(bytes(LARGEST))) for n in range(60)]
    rows += [(asked(f"lines {n}").key, zstandard.compress(b"\n" * LARGEST)) for n in range(8)]
    named = Record(Request("n" * (LARGEST - 2000), []), Reply("x"))
    rows += [(named.request.key, pack([named.line], ""))]
    said = Record(asked("said"), Reply("x", model="s" * (LARGEST - 2000)))
    rows += [(said.request.key, pack([said.line], ""))]
    with closing(sqlite3.connect(store.path / "cache.db")) as file:
        sql = "INSERT INTO Cache(key, raw, store_time, mode, value) VALUES (?, 1, 0, 1, ?)"
        file.executemany(sql, rows)
        blob = "UPDATE Cache SET {} = zeroblob(100000000) WHERE key = ?"
        file.execute(blob.format("value"), (asked("good 0").key,))
        file.execute(blob.format("tag"), (asked("zeros 1").key,))
        values = "(zeroblob(9000000), 1, 0, 1, 'x')"
        file.execute(f"INSERT INTO Cache(key, raw, store_time, mode, value) VALUES {values}")
        file.commit()
    with (store.path / "attempts.jsonl").open("wb") as file:
        file.truncate(10**9)
    return store.path


def acted(*words: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _ACT, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    *said, seconds, last = done.stdout.splitlines()
    code, peak = map(int, last.split())
    assert peak < _MOST_MEMORY, (words, peak)
    assert int(seconds) < _MOST_SECONDS, words
    assert len(done.stdout) + len(done.stderr) < 1_000_000
    return code, "\n".join([*said, done.stderr])


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["stats", "verify", "merge", "explain"])
def test_a_strangers_store_of_bombs(hostile: Path, tmp_path: Path, deed: str) -> None:
    words: list[str | Path] = ["store", "--store", hostile, deed]
    if deed == "merge":
        words = ["store", "--store", tmp_path / "mine", "merge", hostile]
    if deed == "explain":
        (tmp_path / "q.json").write_text(json.dumps(asked("good 3").as_json()))
        words.append(tmp_path / "q.json")
    code, said = acted(*words)
    assert code == {"stats": 0, "explain": 0}.get(deed, 1), said
    if deed == "merge":
        assert exchange.verify(tmp_path / "mine").damaged == {}
        assert (
            len(Store(tmp_path / "mine").look_up(asked(f"good {n}").key for n in range(20))) == 19
        )


def packed(path: Path, lines: list[bytes], times: int) -> Path:
    """An export of these lines many times over, whose last line holds for all of them."""
    total, part = hashlib.sha256(), b"".join(line + b"\n" for line in lines)
    with zstandard.open(path, "wb") as file:
        for _ in range(times):
            total.update(part)
            file.write(part)
        count = len(lines) * times
        file.write(
            b'{"lmjudge_export":1,"records":%d,"sha256":"%s"}' % (count, total.hexdigest().encode())
        )
    return path


def test_an_export_of_millions_of_bad_lines(tmp_path: Path) -> None:
    path = packed(tmp_path / "bad.zst", [b"x"] * 1000, 3000)
    assert path.stat().st_size < 20_000
    code, said = acted("store", "--store", tmp_path / "mine", "merge", path)
    assert code == 1
    assert "nothing is merged" in said


@pytest.mark.slow
def test_an_export_of_large_records(tmp_path: Path) -> None:
    lines = [largest(f"q{n}", "x\U0001f9d1"[n % 2]).line for n in range(16)]
    code, said = acted(
        "store", "--store", tmp_path / "mine", "merge", packed(tmp_path / "large.zst", lines, 1)
    )
    assert code == 0, said
    assert "16 new" in said
    assert acted("store", "--store", tmp_path / "mine", "verify")[0] == 0


def test_the_first_hundred_refusals_are_told_and_all_are_counted(tmp_path: Path) -> None:
    good = Record(asked("good"), Reply("x"))
    path = packed(tmp_path / "bad.zst", [good.line, *[b'{"key":"%d"}' % n for n in range(999)]], 1)
    added = exchange.merge(tmp_path / "mine", [path])[str(path)]
    assert (added.new, added.refusals, len(added.refused)) == (1, 999, 100)
    code, said = acted("store", "--store", tmp_path / "mine", "merge", path)
    assert code == 1
    assert "999 refused" in said
    assert "refused: 899 more" in said


def test_a_window_of_a_gigabyte_is_not_opened(tmp_path: Path) -> None:
    size = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    (tmp_path / "w.zst").write_bytes(
        zstandard.ZstdCompressor(compression_params=size).compressobj().compress(b"x" * 2**20)
    )
    with pytest.raises(DamagedStore, match="not an export"):
        exchange.merge(tmp_path / "mine", [tmp_path / "w.zst"])
    assert not os.path.exists(tmp_path / "mine")


_READ = """
import sys
import lmjudge as lj
from lmjudge.errors import DataError
try:
    print("read", len(lj.load_votes(sys.argv[1])))
except DataError as error:
    print("refused", error)
with open("/proc/self/status") as file:
    print(*(line.split()[1] for line in file if line.startswith("VmHWM")))
"""


def bomb(kind: str) -> bytes:
    """A file of under a megabyte that unpacks to a gigabyte or more."""
    text, times = b'{"model_a": "m", "model_b": "n", "winner": "tie"}\n' * 20_000, 1000
    held = io.BytesIO()
    if kind == "gzip":
        with gzip.open(held, "wb") as packed:
            for _ in range(times // 10):  # it takes a megabyte for a gigabyte
                packed.write(text)
    elif kind == "zstd":
        with zstandard.ZstdCompressor().stream_writer(held, closefd=False) as writer:
            for _ in range(times):
                writer.write(text)
    elif kind == "eval":
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", '{"eval": {}}')
            archive.writestr("samples/1.json", b" " * 200_000_000)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        count = 20_000
        names = pa.array(["z" * 1_000_000 if kind == "parquet" else "z"])
        column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), names)
        rows = {"model_a": column, "model_b": column, "winner": column}
        if kind == "many parquet rows":
            rows = {"winner": pa.nulls(20_000_000, pa.int32())}
        pq.write_table(pa.table(rows), held, compression="zstd")
    return held.getvalue()


@pytest.mark.parametrize("kind", ["gzip", "zstd", "eval", "parquet", "many parquet rows"])
def test_a_packed_file_of_rows_is_not_unpacked_beyond_the_memory(tmp_path: Path, kind: str) -> None:
    body = bomb(kind)
    assert len(body) < 1_000_000
    (tmp_path / "votes").write_bytes(body)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _READ, tmp_path / "votes"],
        capture_output=True,
        text=True,
        check=True,
    )
    said, peak = done.stdout.splitlines()
    assert said.startswith("refused"), said
    assert "it unpacks to over" in said
    assert int(peak) < _MOST_MEMORY, peak
