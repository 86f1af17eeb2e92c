"""lmjudge doctor: what is here, what is wrong, and what mends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from canary import KEY

from lmjudge.cli import main


@contextmanager
def server(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each GET with a status; its URL and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers['authorization']}")
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=[0.02])
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}/v1", asked
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    return tmp_path


def test_nothing_is_wrong_in_an_empty_folder_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for text in (
        "lmjudge    0.",
        "Python 3.",
        f"{here}/cache/judgments (empty)",
        "prd",
        "OPENAI_API_KEY is not set",
        "nothing is wrong",
    ):
        assert text in out
    assert list(here.iterdir()) == []


def test_the_store_of_the_option_is_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--store", "elsewhere"]) == 0
    assert "store      elsewhere (empty)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "state", "fault"),
    [
        (200, "answers and accepts the key", ""),
        (404, "answers, but lists no models", ""),
        (401, "status 401", "refuses the key; set OPENAI_API_KEY"),
        (500, "status 500", "check OPENAI_BASE_URL"),
    ],
)
def test_the_server_is_asked_once_and_the_key_is_not_shown(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    state: str,
    fault: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with server(status) as (url, asked):
        assert main(["doctor", "--base-url", url]) == bool(fault)
    out = capsys.readouterr().out
    assert asked == [f"/v1/models Bearer {KEY}"]
    assert f"{url}: {state}" in out
    assert ("wrong: server: " in out) == bool(fault)
    assert fault in out
    assert KEY not in out


def test_each_fault_names_what_mends_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "file").touch()
    (here / "store").mkdir()
    (here / "store" / "cache.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    (here / "prices.csv").write_text("neither,nor\n")
    monkeypatch.setenv("LMJUDGE_REPORTS", str(here / "file" / "reports"))
    monkeypatch.setenv("LMJUDGE_CACHE", str(here / "store"))
    monkeypatch.setenv("LMJUDGE_DATA", str(here / "nowhere"))
    monkeypatch.setenv("LMJUDGE_PRICES", str(here / "prices.csv"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert main(["doctor"]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: ")]
    names = [line.split()[1] for line in wrong]
    assert names == ["store:", "reports:", "data:", "prices:", "server:"]
    assert "set LMJUDGE_REPORTS" in wrong[1]
    assert "which is no folder; unset it" in wrong[2]
    assert "does not answer" in wrong[4]
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    main(["doctor"])
    assert "not asked (LMJUDGE_OFFLINE=1)" in capsys.readouterr().out
