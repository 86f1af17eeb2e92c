"""A notebook opened in JupyterLab, in a real browser, and run by Run All."""

from __future__ import annotations

import json
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
from typing import TYPE_CHECKING

import nbformat
import pytest
from hostile import PAGES
from loopback import Loopback, error, http
from nbformat.v4 import new_code_cell, new_notebook

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.timeout(280), pytest.mark.notebooks]


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the notebooks, as a user has it."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "nbs", folder / "nbs")
    for name in ("reports", "cache"):
        (folder / name).mkdir()
        shutil.copy(ROOT / name / "LMJUDGE.TAG", folder / name)
    return folder


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
        yield f"{address}/lab/tree/nbs/{{}}?token=test"
    finally:
        server.terminate()
        try:  # once its kernels have ended, JupyterLab may wait for a thread of its own for ever
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


_JUPYTER = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")


def foreign(asked: list[str]) -> list[str]:
    """What was asked for elsewhere than at the server."""
    return [url for url in asked if not re.match(r"(http|ws)://127\.0\.0\.1:|data:|blob:", url)]


def opened(page: Page, address: str) -> None:
    """Open a notebook and wait for its kernel."""
    page.goto(address)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=90_000)
    page.wait_for_function(
        "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
        "?.status === 'idle'",
        timeout=90_000,
    )


def run_all(page: Page, address: str) -> None:
    """Open a notebook, run all of its cells, and wait until they have run."""
    opened(page, address)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
            .map(cell => cell.model).filter(model => model.type === 'code')
            .every(model => model.executionCount && model.executionState !== 'running')""",
        timeout=120_000,
    )


def test_run_all_in_jupyterlab_writes_the_bytes_that_papermill_writes(
    project: Path, lab: str, chromium: Browser
) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url))
    run_all(page, lab.format("00-start-here.ipynb"))
    shown = page.evaluate(
        "JSON.stringify(window.jupyterapp.shell.currentWidget.content.model.toJSON())"
    )
    page.close()
    assert '"output_type":"error"' not in shown
    assert not foreign(outside)
    written = (project / "reports" / "00-start-here.csv").read_bytes()

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
    again = project / "again" / "reports" / "00-start-here.csv"
    assert again.read_bytes() == written


WIDGETS = """import json
import lmjudge as lj
hostile = "\\n".join(json.load(open("hostile.json")))
study = lj.simulate(0)
pairings = lj.subset(study.pairings, limit=2)
judge = lj.Judge("pair", model=study.judges[0])
games = lj.judge_pairs(pairings, judge, store=study.store("store"), endpoint=study.endpoint)
answers = study.answers.assign(turns=[[hostile] for _ in range(len(study.answers))])
lj.browse(games, questions=study.questions, answers=answers)
---
shown = [[hostile] for _ in range(len(pairings))]
lj.vote(pairings.assign(answer_a=shown, answer_b=shown), voter="ann", path="votes.jsonl")"""


def test_browsing_and_voting_in_jupyterlab(project: Path, lab: str, chromium: Browser) -> None:
    """Filter, vote by key, undo, reload the page and go on; nothing that a model wrote runs."""
    pytest.importorskip("anywidget")

    cells = [new_code_cell(source, id=f"c{n}") for n, source in enumerate(WIDGETS.split("\n---\n"))]
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), project / "nbs" / "widgets.ipynb")
    (project / "nbs" / "hostile.json").write_text(json.dumps(PAGES))
    votes = project / "nbs" / "votes.jsonl"
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url))
    run_all(page, lab.format("widgets.ipynb"))
    panels = page.locator(".lmj")
    panels.nth(1).wait_for()
    browse, ballot = panels.nth(0), panels.nth(1)
    before = browse.get_by_role("status").inner_text()
    browse.locator("select[name=model]").select_option(index=1)
    page.wait_for_function(
        "before => document.querySelector('.lmj [role=status]').innerText !== before",
        arg=before,
    )
    assert browse.locator("mark").count() > 0

    def told(text: str) -> None:
        page.locator(".lmj strong[role=status]", has_text=text).wait_for()

    ballot.focus()
    for key, after in (("a", "1 of"), ("b", "2 of"), ("u", "1 of")):
        page.keyboard.press(key)
        told(after)
    # "a" and "b" insert cells where JupyterLab hears them.
    assert page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length") == 2
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    opened(page, lab.format("widgets.ipynb"))
    told("1 of")
    page.locator(".lmj").nth(1).focus()
    page.keyboard.press("t")
    told("2 of")
    assert page.evaluate("window.fired") is None
    assert page.locator(".lmj").locator("script, img, iframe, svg, object").count() == 0
    page.close()
    assert not foreign(outside)
    assert [json.loads(line)["winner"] for line in votes.read_text().splitlines()] == [
        "model_a",
        "tie",
    ]


ARENA = """import lmjudge as lj
live = {name: lj.OpenAIEndpoint("URL") for name in ("model-one", "model-two")}
lj.arena(None, live, store=lj.Store("store", mode="record"), voter="ann", path="arena/ann.jsonl")"""


def streamed(body: dict, nth: int) -> list[str | float]:
    """Return a reply in six pieces, 0.3 s apart; refuse a secret, and once what is down."""
    asked = body["messages"][-1]["content"]
    if "secret" in asked:
        return [http(400, error("no"))]
    if "down" in asked and nth == 0:
        return [http(401, error("your key model-one is no good"))]
    words = [f"word{at} " for at in range(5)] + [asked]
    pieces = [f"data: {json.dumps({'choices': [{'delta': {'content': w}}]})}\n\n" for w in words]
    end = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    size = len("".join(pieces) + end)
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {size}\r\n\r\n"
    return [head.encode(), *(part for one in pieces for part in (one.encode(), 0.3)), end.encode()]


def test_an_arena_in_jupyterlab(project: Path, lab: str, chromium: Browser) -> None:
    """Type prompts, see both answers come, go on, vote by key and button, end the session."""
    pytest.importorskip("anywidget")
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3"}}
    votes = project / "nbs" / "arena" / "ann.jsonl"
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    panel, prompt = page.locator(".lmj"), page.get_by_label("Prompt")
    tie = panel.get_by_role("button", name="tie (t)")

    def cast(kept: int) -> list[dict]:
        panel.locator("strong[role=status]", has_text=f"{kept} voted on").wait_for()
        return [json.loads(line) for line in votes.read_text().splitlines()]

    with Loopback(script=streamed) as server:
        cells = [new_code_cell(ARENA.replace("URL", server.url), id="c0")]
        nbformat.write(new_notebook(cells=cells, metadata=kernel), project / "nbs" / "arena.ipynb")
        run_all(page, lab.format("arena.ipynb"))
        panel.get_by_role("button", name="Ask both").click()  # nothing is asked without a prompt
        prompt.fill("Is rain wet?")
        prompt.press("Control+Enter")
        panel.get_by_text("Both are answering").wait_for()
        page.wait_for_function(
            """() => { const texts = [...document.querySelectorAll(".lmj-answer .lmj-said")];
                return texts.length === 2 && texts.every(one => one.innerText.startsWith("word0"))
                  && texts.some(one => !one.innerText.includes("rain")); }"""
        )
        assert tie.count() == 0
        tie.wait_for()
        for said in panel.locator(".lmj-answer .lmj-said").all():
            assert said.inner_text().endswith("Is rain wet?")
        prompt.fill("tell the secret")
        panel.get_by_role("button", name="Continue with both").click()
        panel.get_by_role("alert").get_by_text("was removed (bad_request)").wait_for()
        prompt.fill("At a bus stop?")
        panel.get_by_role("button", name="Continue with both").click()
        panel.get_by_text("Both are answering").wait_for()
        tie.wait_for()
        assert panel.get_by_role("alert").count() == 0
        assert panel.locator(".lmj-answer .lmj-said").count() == 4
        assert "model-" not in panel.inner_text()
        panel.focus()
        page.keyboard.press("a")
        (vote,) = cast(1)
        assert (vote["turn"], vote["winner"], vote["judge"]) == (2, "model_a", "ann")
        for kept, (asked, key) in enumerate({"Fog?": "b", "Ice?": "t", "Is it down?": "x"}.items()):
            prompt.fill(asked)
            panel.get_by_role("button", name="Ask both").click()
            if asked == "Is it down?":
                panel.get_by_role("alert").get_by_text("cannot be asked (unauthorized)").wait_for()
                assert "model-one" not in panel.inner_text()
                panel.get_by_role("button", name="Try again").click()
            tie.wait_for()
            panel.focus()
            page.keyboard.press(key)
            kept_votes = cast(kept + 2)
        winners = ["model_a", "model_b", "tie", "tie (bothbad)"]
        assert [one["winner"] for one in kept_votes] == winners
        panel.get_by_role("button", name="End and name the models").click()
        panel.get_by_role("cell", name="model-one").first.wait_for()
    # "a", "b" and "x" insert and cut cells where JupyterLab hears them.
    assert page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length") == 1
    page.close()
