"""A notebook opened in JupyterLab, in a real browser, and run by Run All."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="JupyterLab in a browser: chromium is not here"),
    pytest.mark.timeout(280),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with the notebooks, as a user has it."""
    shutil.copytree(ROOT / "nbs", tmp_path / "nbs")
    (tmp_path / "reports").mkdir()
    (tmp_path / "cache" / "judgments").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def lab(project: Path) -> Iterator[str]:
    """The address of a JupyterLab server in that folder."""
    pytest.importorskip("jupyterlab")
    environment = {name: value for name, value in os.environ.items() if name != "LMJUDGE_DATA"}
    environment |= {name: str(project / ".jupyter" / name.lower()) for name in _JUPYTER}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
            *("--ServerApp.port_retries=0", "--IdentityProvider.token=test"),
            *("--LabApp.expose_app_in_browser=True", "--LabApp.news_url=None"),
        ],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            with suppress(OSError):
                urllib.request.urlopen(f"{address}/api/status?token=test", timeout=5).close()
                break
            assert server.poll() is None, "JupyterLab did not start"
            time.sleep(0.3)
        yield f"{address}/lab/tree/nbs/00-start-here.ipynb?token=test"
    finally:
        server.terminate()
        server.wait(timeout=30)


_JUPYTER = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")


def test_run_all_in_jupyterlab_writes_the_bytes_that_papermill_writes(
    project: Path, lab: str
) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        outside: list[str] = []
        page.on("request", lambda request: outside.append(request.url))
        page.goto(lab)
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=90_000)
        page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.status === 'idle'",
            timeout=90_000,
        )
        page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_function(
            """() => window.jupyterapp.shell.currentWidget.content.widgets
                .map(cell => cell.model).filter(model => model.type === 'code')
                .every(model => model.executionCount && model.executionState !== 'running')""",
            timeout=120_000,
        )
        shown = page.evaluate(
            "JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON())"
        )
        browser.close()
    assert '"output_type":"error"' not in shown
    assert not [
        url for url in outside if not re.match(r"(http|ws)://127\.0\.0\.1:|data:|blob:", url)
    ]
    written = (project / "reports" / "simulated" / "00-start-here.csv").read_bytes()

    import papermill

    (project / "again" / "reports").mkdir(parents=True)
    script = (
        "import os, papermill; os.chdir('again');"
        " papermill.execute_notebook('../nbs/00-start-here.ipynb', 'out.ipynb',"
        " progress_bar=False)"
    )
    assert papermill.__version__
    environment = {name: value for name, value in os.environ.items() if name != "LMJUDGE_DATA"}
    environment["LMJUDGE_REPORTS"] = str(project / "again" / "reports")
    subprocess.run([sys.executable, "-c", script], cwd=project, env=environment, check=True)
    again = project / "again" / "reports" / "simulated" / "00-start-here.csv"
    assert again.read_bytes() == written
