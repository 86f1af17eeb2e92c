from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from loopback import Loopback

if TYPE_CHECKING:
    from playwright.sync_api import Browser

collect_ignore = ["helpers/inspect_task.py"]  # runs on an interpreter that has inspect-ai

# On a busy machine an example takes as long as it takes: no test is one of time.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", parent=settings.get_profile("ours"), max_examples=10)
settings.load_profile("ours")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that opens a browser."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(autouse=True)
def _nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's store, keys or settings."""
    for name in ("LMJUDGE_CACHE", "LMJUDGE_OFFLINE", "LMJUDGE_REPORTS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store and reports of its own, where nothing is fetched and no model asked."""
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "judgments"))
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A server that commands ask; it answers by the test module's `answer`."""
    with Loopback(answer=request.module.answer) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


@pytest.fixture
def published_data() -> Path:
    """The folder of published rows; the test is skipped where LMJUDGE_DATA is unset."""
    folder = os.environ.get("LMJUDGE_DATA")
    if not folder:
        pytest.skip("published rows: LMJUDGE_DATA is unset")
    return Path(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, that asks nobody for anything; the test is skipped where it is not."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("pages in a browser: chromium is not here")
    from playwright.sync_api import sync_playwright

    flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync".split()
    flags += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()
