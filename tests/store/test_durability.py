"""Nothing that was acknowledged is lost: each kind of harm a few times, and what happens once.

`benchmarks/reliability.py` does the first part a thousand times. Eight processes on one store are
in `test_processes.py`, a stranger's store and damaged pages in `test_folder.py`,
read-only media, sealed or not, in `test_exchange.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import damage
import pytest
from damage import ask, held, mounted, record, said, server, workers
from endpoints import Echo

import lmjudge
from lmjudge.endpoints.openai import OpenAIEndpoint
from lmjudge.errors import DamagedStore, StoreError, UnknownRecord
from lmjudge.records import Record, Reply
from lmjudge.store import Store, exchange

pytestmark = pytest.mark.kill


def nothing_is_lost(counts: Counter[str]) -> None:
    assert not {name: counts[name] for name in damage.NEVER if counts[name]}


# -- A few of a thousand --------------------------------------------------------------------------


def test_20_workers_are_killed_at_any_moment(tmp_path: Path) -> None:
    counts = damage.kills(tmp_path, 20, longest=0.2)
    nothing_is_lost(counts)
    assert counts["kills"] == 20
    assert counts["acknowledged"] > 0


def test_the_power_fails(tmp_path: Path) -> None:
    try:
        counts = damage.power_cuts(tmp_path, 2)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system in a file: {error}")
    nothing_is_lost(counts)
    assert counts["acknowledged"] > 0


@pytest.mark.parametrize("flip", [False, True])
def test_the_log_ends_anywhere(tmp_path: Path, flip: bool) -> None:
    nothing_is_lost(damage.torn_logs(tmp_path, 10, flip=flip))


def test_a_bit_flips(tmp_path: Path) -> None:
    counts = damage.flips(tmp_path, 15, records=100)
    nothing_is_lost(counts)
    assert counts["1 missing"] > counts["2 missing"]


def test_a_file_is_cut_off_and_what_can_be_read_is_saved(tmp_path: Path) -> None:
    counts = damage.truncations(tmp_path, 8, records=200)
    nothing_is_lost(counts)
    assert counts["saved"] >= 0.98 * counts["records before the cut"] > 0


# -- Once each ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with mounted("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", "size=2m") as root:
            yield root
    except OSError as error:
        pytest.skip(f"a small disk: {error}")


def test_a_full_disk_stops_the_run_and_what_was_acknowledged_can_be_read(small_disk: Path) -> None:
    folder, handed = small_disk / "store", []
    with server() as served:
        endpoint = OpenAIEndpoint(served.url, concurrency=damage.IN_FLIGHT)
        store = Store(folder, mode="record")
        replies = enumerate(store.ask(map(ask, range(5000)), endpoint))
        with pytest.raises(StoreError, match="free some space") as told:
            handed.extend(number for number, _ in replies)
        assert str(folder) in str(told.value)
        assert held(folder, handed)["right"] == len(handed) > 0
        store.close()
        subprocess.run(["mount", "-o", "remount,size=40m", small_disk], check=True)
        before = len(served.calls)
        kept = held(folder, range(1000))["right"]
        assert len(list(Store(folder, mode="record").ask(map(ask, range(1000)), endpoint))) == 1000
        assert len(served.calls) - before == 1000 - kept
    assert exchange.verify(folder).damaged == {}


def test_a_clock_ten_years_off_changes_nothing(tmp_path: Path) -> None:
    decade = 3653 * 86400.0
    with server() as served, workers(tmp_path) as do:
        first = 0
        for shift in (decade, -decade, 0.0):
            acked = tmp_path / f"acked{shift}"
            worker = do("record_all", str(tmp_path / "s"), served.url, str(acked), first, shift)
            while len(damage.acknowledged(acked)) < 20:
                time.sleep(0.01)
            do("kill", worker)
            first = damage.acknowledged(acked)[-1] + 1
        # Requests that a killed worker had sent may reach the server after it died.
        before = -1
        while before != len(served.calls):
            before = len(served.calls)
            time.sleep(1)
        assert held(tmp_path / "s", range(first))["right"] == first
        store = Store(tmp_path / "s", mode="record")
        endpoint = OpenAIEndpoint(served.url)
        assert [reply.text for _, reply in store.ask(map(ask, range(first)), endpoint)] == [
            said(number) for number in range(first)
        ]
        assert len(served.calls) == before
    years = {round((one.reply.created - time.time()) / decade) for one in store.records()}
    assert years == {1, -1, 0}
    assert exchange.verify(store.path).damaged == {}


def test_the_earliest_reply_is_the_reply_whatever_the_clock_says(tmp_path: Path) -> None:
    late, early = (
        Record(ask(1), Reply(text, created=at)) for text, at in (("2036", 2), ("2016", 1))
    )
    for name, order in (("a", [late, early]), ("b", [early, late])):
        store = Store(tmp_path / name)
        for one in order:
            store.add([one])
        assert store.look_up([ask(1).key])[ask(1).key].text == "2016"
    assert Store(tmp_path / "a").digest() == Store(tmp_path / "b").digest()


@pytest.mark.parametrize(
    "name",
    ["with spaces", "caf\u00e9 \u5224\u65ad \U0001f9d1", "100%41?mode=rwc#x&'\"", "a;b\\c\nd"],
)
def test_a_path_of_any_characters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "store"
    store = Store(folder, mode="record")
    replies = [reply for _, reply in store.ask(map(ask, range(5)), Echo())]
    store.add(map(record, range(5, 10)))
    store.close()
    exchange.seal(folder)
    exchange.export(folder, tmp_path / name / "all.zst")
    merged = exchange.merge(tmp_path / name / "merged", [tmp_path / name / "all.zst", folder])
    assert [added.new for added in merged.values()] == [10, 0]
    assert [reply for _, reply in Store(folder).ask(map(ask, range(5)))] == replies
    assert exchange.verify(tmp_path / name / "merged").digest == exchange.verify(folder).digest
    assert {path.name for path in tmp_path.iterdir()} == {name}


_NEWER = """
import sys
from damage import ask, record, said
from lmjudge.records import Record, Reply
from lmjudge.store import Store, exchange
told, folder = sys.argv[1:]
store = Store(folder)
if told == "write":
    store.add([Record(ask(n), Reply(said(n), "stop", created=float(n), mood="calm"))
               for n in range(5)])
    store.add([record(n) for n in range(5, 10)])
else:
    found = store.look_up(ask(n).key for n in range(15))
    assert [found[ask(n).key].text for n in range(15)] == [said(n) for n in range(15)]
    assert exchange.verify(folder).damaged == {}
    assert {r.reply.mood for r in store.records()} == {"calm", None}
"""


def test_two_versions_of_the_package_on_one_store(tmp_path: Path) -> None:
    """A newer one, made here, that keeps more of a reply than this one knows."""
    source = Path(lmjudge.__file__).parent
    copied = shutil.ignore_patterns("__pycache__", "nbs", "published", "report")
    shutil.copytree(source, tmp_path / "newer" / "lmjudge", ignore=copied)
    records = tmp_path / "newer" / "lmjudge" / "records.py"
    text = records.read_text()
    field = "    latency: float | None = None\n"
    assert text.count(field) == 1
    records.write_text(text.replace(field, field + "    mood: str | None = None\n"))
    folder = tmp_path / "store"

    def newer(told: str) -> None:
        paths = f"{tmp_path / 'newer'}:{Path(damage.__file__).parent}"
        command = [sys.executable, "-c", _NEWER, told, str(folder)]
        subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONPATH": paths})

    newer("write")
    store = Store(folder, mode="record")
    assert held(folder, range(10))["right"] == 10
    endpoint = Echo()
    assert len(list(store.ask(map(ask, range(10)), endpoint))) == 10
    assert endpoint.asked == []
    store.add(map(record, range(10, 15)))
    # What it doesn't know it names, leaves as it is, and doesn't export as if it were all.
    unknown = exchange.verify(folder).damaged
    assert unknown.keys() == {ask(number).key for number in range(5)}
    assert all("update" in why for why in unknown.values())
    with pytest.raises(UnknownRecord, match="update lmjudge"):
        store.add([Record(ask(0), Reply("another", created=0.0))])
    with pytest.raises(DamagedStore, match="update lmjudge"):
        exchange.export(folder, tmp_path / "all.zst")
    assert len(exchange.merge(tmp_path / "merged", [folder])[str(folder)].refused) == 5
    store.close()
    newer("read")
