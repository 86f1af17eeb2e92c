"""Fetching, against a server on 127.0.0.1 that plays the originals: well, badly, or not at all."""

import hashlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lmjudge.data import SOURCES, File, Source, fetch, find
from lmjudge.data.finding import locked
from lmjudge.errors import DataMissing, WrongHash

GOOD = b'{"question_id": 1}\n{"question_id": 2}\n' * 50
Handler = Callable[[BaseHTTPRequestHandler, int], None]


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"content-length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def good(handler: BaseHTTPRequestHandler, nth: int) -> None:
    send(handler, GOOD)


def wrong(handler: BaseHTTPRequestHandler, nth: int) -> None:
    send(handler, GOOD.replace(b"2", b"3"))


def page(handler: BaseHTTPRequestHandler, nth: int) -> None:
    send(handler, b"<html>please log in</html>")


def gone(handler: BaseHTTPRequestHandler, nth: int) -> None:
    send(handler, b"", 404)


def cut(handler: BaseHTTPRequestHandler, nth: int) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD[:100])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut_once(handler: BaseHTTPRequestHandler, nth: int) -> None:
    (cut if nth == 0 else good)(handler, nth)


def no_length(handler: BaseHTTPRequestHandler, nth: int) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(GOOD[:36])


def chunks(handler: BaseHTTPRequestHandler, nth: int) -> None:
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for part in (GOOD[:70], GOOD[70:]):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


def trickle(handler: BaseHTTPRequestHandler, nth: int) -> None:
    handler.send_response(200)
    handler.send_header("content-length", str(len(GOOD)))
    handler.end_headers()
    try:
        for byte in GOOD:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.02)
    except OSError:
        pass


def silent(handler: BaseHTTPRequestHandler, nth: int) -> None:
    time.sleep(2)


def elsewhere(handler: BaseHTTPRequestHandler, nth: int) -> None:
    send(handler, b"", 302, location="http://elsewhere.invalid/good.jsonl")


def backslash(handler: BaseHTTPRequestHandler, nth: int) -> None:
    """An address that one parser reads as this machine, and another as 127.0.0.2."""
    port = handler.server.server_address[1]
    location = f"http://127.0.0.2:{port}\\@127.0.0.1:{port}/good.jsonl"
    send(handler, b"", 302, location=location)


def user(handler: BaseHTTPRequestHandler, nth: int) -> None:
    port = handler.server.server_address[1]
    send(handler, b"", 302, location=f"http://me:pw@127.0.0.1:{port}/good.jsonl")


def next_door(handler: BaseHTTPRequestHandler, nth: int) -> None:
    send(handler, b"", 302, location="/good.jsonl")


def round_and_round(handler: BaseHTTPRequestHandler, nth: int) -> None:
    send(handler, b"", 302, location=handler.path)


PLAYS: dict[str, Handler] = {
    play.__name__: play
    for play in (
        *(good, wrong, page, gone, cut, cut_once, no_length, chunks, trickle, silent),
        *(elsewhere, backslash, user, next_door, round_and_round),
    )
}


@pytest.fixture
def original() -> Iterator[tuple[str, Counter[str]]]:
    """The address of the originals, and how often each was asked for."""
    asked: Counter[str] = Counter()

    class Plays(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = Path(self.path).stem
            nth, asked[name] = asked[name], asked[name] + 1
            PLAYS[name](self, nth)
            self.close_connection = True

        def end_headers(self) -> None:
            self.send_header("connection", "close")
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Plays)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloads, and nothing else to find."""
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache" / "judgments"))
    return tmp_path / "cache" / "data"


Offer = Callable[..., Source]


@pytest.fixture
def offer(original: tuple[str, Counter[str]], monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Makes a source "loop" of the files that the server plays under these names."""

    def make(*plays: str, sha256: bytes = b"", name: str = "loop", **more: str) -> Source:
        digest = hashlib.sha256(sha256).hexdigest() if sha256 else ""
        files = tuple(File("votes", f"{name}/{p}.jsonl", f"{p}.jsonl", digest) for p in plays)
        source = Source(name, original[0], "MIT", "a page", files=files, **more)
        monkeypatch.setitem(SOURCES, name, source)
        return source

    return make


def one(name: str = "loop", timeout: float = 5.0) -> dict[str, object]:
    table = fetch([name], timeout=timeout, progress=False)
    assert list(table.columns) == ("source status files bytes seconds licence reason".split())
    return table.iloc[0].to_dict()


def left_over(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_source_is_fetched_once_and_then_present(
    cache: Path, offer: Offer, original: tuple[str, Counter[str]]
) -> None:
    source = offer("good", sha256=GOOD)
    with pytest.raises(DataMissing, match="lmjudge fetch loop"):
        find("loop", source.files[0])
    row = one()
    assert (row["status"], row["files"], row["bytes"]) == ("fetched", 1, len(GOOD))
    assert find("loop", "loop/good.jsonl").read_bytes() == GOOD
    assert one()["status"] == "present"
    assert original[1]["good"] == 1
    assert left_over(cache) == ["good.jsonl"]


def test_unknown_hashes_are_locked_at_the_first_download(cache: Path, offer: Offer) -> None:
    offer("good")
    assert one()["status"] == "fetched"
    assert locked()["loop/good.jsonl"]["sha256"] == hashlib.sha256(GOOD).hexdigest()
    path = find("loop", "loop/good.jsonl")
    path.write_bytes(b"{}\n")
    with pytest.raises(WrongHash, match="fetch it anew") as caught:
        find("loop", "loop/good.jsonl")
    assert caught.value.found == hashlib.sha256(b"{}\n").hexdigest()
    assert one()["status"] == "fetched"
    assert path.read_bytes() == GOOD


def test_an_original_that_changed_since_is_refused(cache: Path, offer: Offer) -> None:
    offer("good")
    one()
    lock = locked()
    lock["loop/wrong.jsonl"] = lock["loop/good.jsonl"]
    (cache / "sources.lock").write_text(json.dumps(lock))
    offer("wrong")
    row = one()
    assert row["status"] == "wrong bytes"
    assert "first downloaded" in str(row["reason"])
    assert left_over(cache) == ["good.jsonl", "sources.lock"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("play", "known", "status", "reason"),
    [
        ("wrong", True, "wrong bytes", "nothing was kept"),
        ("cut", True, "failed", "IncompleteRead"),
        ("cut", False, "failed", "IncompleteRead"),
        ("gone", False, "failed", "404"),
        ("page", False, "failed", "no JSON lines"),
        ("no_length", False, "failed", "states no length"),
        ("no_length", True, "wrong bytes", "nothing was kept"),
        ("elsewhere", True, "failed", "not one of its known hosts"),
        ("backslash", True, "failed", "not one of its known hosts"),
        ("user", True, "failed", "not one of its known hosts"),
        ("round_and_round", True, "failed", "redirects without an end"),
        ("trickle", True, "failed", "too slowly"),
        ("silent", True, "unreachable", "127.0.0.1"),
    ],
)
def test_a_bad_download_leaves_nothing_behind(
    cache: Path, offer: Offer, play: str, known: bool, status: str, reason: str
) -> None:
    offer(play, sha256=GOOD if known else b"")
    row = one(timeout={"trickle": 1.0, "silent": 0.5}.get(play, 5.0))
    assert row["status"] == status
    assert reason in str(row["reason"])
    assert left_over(cache) == []


@pytest.mark.parametrize("play", ["cut_once", "chunks", "next_door"])
def test_an_odd_way_to_the_right_bytes_is_taken(cache: Path, offer: Offer, play: str) -> None:
    offer(play, sha256=GOOD)
    row = one()
    assert (row["status"], row["bytes"]) == ("fetched", len(GOOD))
    assert find("loop", f"loop/{play}.jsonl").read_bytes() == GOOD


def test_a_path_cannot_leave_the_folder(cache: Path, offer: Offer) -> None:
    source = offer("good", sha256=GOOD)
    files = (File("votes", "../../out.jsonl", "good.jsonl", source.files[0].sha256),)
    SOURCES["loop"] = Source("loop", source.root, "MIT", "a page", files=files)
    assert "points out of" in str(one()["reason"])
    assert left_over(cache.parent.parent) == []


def test_what_is_out_of_reach_costs_the_timeout_once(
    cache: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        port = full.getsockname()[1]
    for nth in range(8):
        offer("silent", "good", sha256=GOOD, name=f"silent-{nth}")
        files = (File("votes", f"closed-{nth}.jsonl", "x.jsonl"),)
        closed = Source(f"closed-{nth}", f"http://127.0.0.1:{port}", "MIT", "", files=files)
        monkeypatch.setitem(SOURCES, closed.name, closed)
    offer("good", sha256=GOOD)
    start = time.monotonic()
    names = [*(f"{kind}-{nth}" for kind in ("silent", "closed") for nth in range(8)), "loop"]
    table = fetch(names, timeout=0.5, progress=False).set_index("source")
    spent = time.monotonic() - start
    assert (table["status"].drop("loop") == "unreachable").all()
    assert table.loc["loop", "status"] == "fetched"
    assert spent < 8 * 0.5  # sixteen sources at half a second each, one after another, take eight


def test_offline_nothing_is_asked_for(
    cache: Path, offer: Offer, original: tuple[str, Counter[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    offer("good", sha256=GOOD)
    assert "LMJUDGE_OFFLINE" in str(one()["reason"])
    assert not original[1]


def test_a_login_is_named_with_its_command(cache: Path) -> None:
    row = fetch(["chatbot-arena"], progress=False).iloc[0]
    assert row["status"] == "login"
    assert "hf download --repo-type dataset" in row["reason"]
    with pytest.raises(DataMissing, match=r"a login.*hf download") as caught:
        find("chatbot-arena", SOURCES["chatbot-arena"].files[0])
    assert caught.value.source == "chatbot-arena"


def test_unstated_licences_are_never_fetched_unasked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    table = fetch(progress=False)
    assert not table["licence"].eq("none stated").any()
    assert not table["source"].eq("chatbot-arena").any()
    assert {"fastchat", "vicuna-blog", "prd", "dolphin"} <= set(table["source"])
    assert fetch("llama-adapter/mt-bench", progress=False)["licence"].item() == "none stated"


def test_an_unknown_name_is_refused_with_its_neighbours(cache: Path) -> None:
    with pytest.raises(DataMissing, match="vicuna-blog"):
        fetch(["vicuna_blog"], progress=False)
