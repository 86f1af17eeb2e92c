"""Notebooks in processes of their own: as in Jupyter, apart from each other, skipped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import pytest
from notebooks import notebook

import lmjudge as lj
from lmjudge import places
from lmjudge.data import SOURCES
from lmjudge.errors import ReportError
from lmjudge.records import Record, Reply, Request
from lmjudge.report import Run, run
from lmjudge.report.unchanged import inputs, surroundings, unchanged

pytestmark = pytest.mark.notebooks

# What a notebook can tell of its process and show: each cell must be the same as in Jupyter.
SHOWN = [
    "print('a'); import sys; print('b', file=sys.stderr); print('c')",
    "import os\n_ = os.write(1, b'below Python\\n')\nsys.stdout.flush()",
    "__name__, sys.argv[0], sys.path[:2], os.getcwd(), os.environ.get('MPLBACKEND')",
    "import pandas as pd\npd.DataFrame({'x': [1.5, 2.0]})",
    "from IPython.display import HTML, clear_output, display\nshown = display(HTML('<b>1</b>'),"
    " display_id='one')\nshown.update(HTML('<b>2</b>'))",
    "print('gone')\nclear_output()\nprint('left')",
    "import matplotlib, matplotlib.pyplot as plt\nprint(matplotlib.get_backend())\n"
    "plt.plot([1, 2, 3])",
    "import matplotlib.figure\nfigure = matplotlib.figure.Figure()\n"
    "_ = figure.subplots().plot([1])\nfigure",
    "import asyncio\nawait asyncio.sleep(0)\nasyncio.get_running_loop().is_running()",
    "import warnings\nwarnings.warn('careful')",
    "from tqdm.auto import tqdm\ntqdm.__module__",
    "import subprocess\nsubprocess.run(['echo', 'x'], capture_output=True).stdout",
    "import threading, signal\n[t.name for t in threading.enumerate()], signal.getsignal(2)",
    "%who str",
    "get_ipython().history_manager.hist_file, pd.get_option('display.width')",
]
POLLUTES = """
import builtins, os, random, sys, warnings
import matplotlib, numpy as np, pandas as pd
import lmjudge as lj
pd.set_option("display.max_rows", 1); matplotlib.rcParams["lines.linewidth"] = 99
np.random.seed(1); random.seed(1); np.set_printoptions(precision=1)
os.environ["LMJUDGE_OFFLINE"] = "0"; os.environ["POLLUTED"] = "1"; os.chdir("/")
warnings.simplefilter("ignore"); sys.path.insert(0, "/nowhere"); sys.setrecursionlimit(5000)
lj.save_table = pd.DataFrame.sum = builtins.sorted = None; sys.modules["json"] = None
"""
TELLS = """
import builtins, os, sys, warnings
import lmjudge as lj, matplotlib, numpy as np, pandas as pd
[pd.get_option("display.max_rows"), matplotlib.rcParams["lines.linewidth"], os.getcwd(), sys.path,
 np.get_printoptions()["precision"], sorted(os.environ), sys.getrecursionlimit(),
 sorted(sys.modules), sys.modules["json"], len(warnings.filters), callable(lj.save_table),
 callable(pd.DataFrame.sum)]
"""
SPEAKS = "import json, ipykernel\njson.loads(ipykernel.get_connection_info())['transport']"
DRAWS = "import random\n[random.random(), np.random.random(), os.urandom(4).hex()]"
MEETS = """
import pathlib, time
mine, yours = ("a", "b") if flag else ("b", "a")
pathlib.Path(mine).touch()
until = time.monotonic() + 200
while not pathlib.Path(yours).exists():
    if time.monotonic() > until: raise TimeoutError(yours)
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which these notebooks ran two at a time, in one run."""
    home = tmp_path_factory.mktemp("project")
    (home / "reports").mkdir()
    notebook(home / "meets-a.ipynb", MEETS.replace("flag", "True"))
    notebook(home / "meets-b.ipynb", MEETS.replace("flag", "False"))
    notebook(home / "told-before.ipynb", TELLS, DRAWS)
    notebook(home / "pollutes.ipynb", POLLUTES)
    notebook(home / "killed.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    notebook(home / "shown.ipynb", *SHOWN)
    notebook(home / "told-after.ipynb", TELLS, DRAWS)
    notebook(home / "speaks.ipynb", SPEAKS)
    names = "meets-a meets-b told-before pollutes killed shown told-after speaks".split()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        with pytest.raises(ReportError) as failed:
            run([f"{name}.ipynb" for name in names], jobs=2)
    runs = {ended.stem: ended for ended in failed.value.runs}
    assert list(runs) == names
    (home / "errors.json").write_text(
        json.dumps({ended.stem: ended.error for ended in runs.values()})
    )
    return home


def outputs(notebook: nbformat.NotebookNode) -> list[str]:
    """Each cell's outputs as text, without what differs from process to process, or with time.

    A kernel sends what is printed when a clock says so, in parts: first what was, then the rest.
    """
    shown = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        streams, rest = {"stdout": "", "stderr": ""}, []
        for output in cell.outputs:
            if output.output_type == "stream":
                streams[output.name] += output.text
            else:
                rest.append(output)
        shown.append(json.dumps([streams, rest], indent=1, sort_keys=True))
    return [re.sub(r"0x[0-9a-f]{8,}|ipykernel_\d+|Thread-\d+", "...", text) for text in shown]


def executed(home: Path, stem: str) -> nbformat.NotebookNode:
    return nbformat.read(home / f"reports/own/{stem}.ipynb", as_version=4)


def test_outputs_are_those_of_an_ordinary_kernel(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbclient import NotebookClient

    from lmjudge.report.executing import _cleaned

    monkeypatch.chdir(home)
    usual = nbformat.read(home / "shown.ipynb", as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        NotebookClient(usual, kernel_name="python3").execute()
    ours = outputs(executed(home, "shown"))
    assert len(ours) == len(SHOWN) + 1
    for source, mine, other in zip(["", *SHOWN], ours, outputs(_cleaned(usual, {})), strict=True):
        assert mine == other, source


def test_what_one_notebook_pollutes_another_does_not_find(home: Path) -> None:
    before, after = (outputs(executed(home, f"told-{when}")) for when in ("before", "after"))
    assert "POLLUTED" not in before[1]
    assert before[1] == after[1]
    # Each draws its own numbers: forked processes would else all draw the same.
    assert before[2] != after[2]


def test_one_that_dies_ends_no_other_and_two_run_at_a_time(home: Path) -> None:
    errors = json.loads((home / "errors.json").read_text())
    assert "kernel" in errors.pop("killed").lower()
    assert set(errors.values()) == {None}


def test_a_kernel_takes_no_port_that_another_process_may_take(home: Path) -> None:
    assert "ipc" in outputs(executed(home, "speaks"))[1]


def test_a_path_too_long_for_a_socket_is_met_over_tcp() -> None:
    from lmjudge.report.executing import _transport

    assert _transport("/tmp/short")["transport"] == "ipc"
    assert "transport" not in _transport("/tmp/" + "long" * 25)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_it_is_stopped(tmp_path: Path, number: int) -> None:
    sleeps = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\n"
    notebook(tmp_path / "own.ipynb", sleeps + "time.sleep(300)")
    command = [sys.executable, "-m", "lmjudge", "run", "own.ipynb"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    how = {"cwd": tmp_path, "env": {**os.environ, "TMPDIR": str(scratch)}}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **how) as running:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert running.poll() is None
            time.sleep(0.05)
        kernel = int((tmp_path / "pid").read_text())
        below = [kernel, *parents(kernel, running.pid)]
        assert len(below) == 3  # the kernel, its worker and the process that both are forked from
        running.send_signal(number)
        assert running.wait(60) == (130 if number == signal.SIGINT else -number)
        for process in below:
            while Path(f"/proc/{process}").exists() and "Z" not in state(process):
                time.sleep(0.05)
        # Neither the half-run notebook nor the kernel's connection file is left.
        assert not [path for path in scratch.rglob("*") if path.is_file()]
        errors = running.stderr.read() if running.stderr else ""
        assert ("lmjudge: interrupted" in errors) == (number == signal.SIGINT)


def state(process: int) -> list[str]:
    """The fields of /proc/<process>/stat after its name: its state, its parent, ..."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def parents(process: int, until: int) -> list[int]:
    processes = []
    while (process := int(state(process)[1])) not in (until, 1):
        processes.append(process)
    return processes


def odd_notebooks(folder: Path) -> list[Path]:
    """Notebooks that another program left, each to be run or to end in an error of its own."""
    for name in ("braces-{x}/in-braces", "{x}", "*", "no-language", "no-metadata", "no-minor"):
        (folder / name).parent.mkdir(exist_ok=True)
        notebook(folder / f"{name}.ipynb", "n")

    def change(name: str, edit: Callable[[dict[str, Any]], object]) -> None:
        path = folder / f"{name}.ipynb"
        body = json.loads(path.read_bytes())
        edit(body)
        path.write_text(json.dumps(body))

    change("no-language", lambda body: body["metadata"].clear())
    change("no-minor", lambda body: body.pop("nbformat_minor"))
    change("no-metadata", lambda body: [part.pop("metadata") for part in (body, body["cells"][2])])
    cell = {"cell_type": "code", "input": ["n = 7\n", "n"], "language": "python", "outputs": []}
    old = {"metadata": {"name": "old"}, "nbformat": 3, "nbformat_minor": 0}
    old["worksheets"] = [{"cells": [{**cell, "metadata": {}, "collapsed": False}]}]
    (folder / "version-3.ipynb").write_text(json.dumps(old))
    return sorted(path for path in folder.rglob("*.ipynb") if "reports" not in path.parts)


def test_whatever_a_notebook_is_its_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    failed = tmp_path / "reports/failed"
    failed.mkdir(parents=True)
    places.mark(tmp_path / "reports")
    for other in ("other.html", "other.ipynb", "no-minor.html", "*.html"):
        (failed / other).touch()
    paths = odd_notebooks(tmp_path)
    runs = run([str(path) for path in paths], parameters={"n": 8}, jobs=2)
    assert [ended.stem for ended in runs] == [path.stem for path in paths]
    assert {ended.error for ended in runs} == {None}
    for ended in runs:
        assert "7" if ended.stem == "version-3" else "8" in ended.page.read_text()
    assert sorted(path.name for path in failed.iterdir()) == ["other.html", "other.ipynb"]


def test_an_error_outside_of_cells_is_the_runs_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_REPORTS", "reports")
    (tmp_path / "reports").write_text("a file, where the folder belongs")
    notebook(tmp_path / "own.ipynb", "1")
    with pytest.raises(ReportError, match="reports"):
        run(["own.ipynb"])
    # What papermill cannot take raises before a kernel is launched.
    (tmp_path / "reports").unlink()
    path = notebook(tmp_path / "odd.ipynb", "1")
    body = json.loads(path.read_bytes())
    body["cells"][2]["cell_type"] = "nonsense"
    path.write_text(json.dumps(body))
    with pytest.raises(ReportError) as caught:
        run(["own.ipynb", "odd.ipynb"], jobs=2)
    (odd,) = caught.value.failed
    assert odd.stem == "odd"
    assert "nonsense" in odd.error


@pytest.mark.parametrize(
    "body",
    [
        *("", "1", "[]", "\0", "[" * 99_999, '{"nbformat": 3}', '{"nbformat": "x"}'),
        *('{"cells": 1}', '{"cells": [{"source": []}]}', '{"cells": [{"cell_type": "code"}]}'),
        '{"nbformat": 99, "cells": []}',
        '{"cells": [{"cell_type": "markdown", "source": "\\ud800"}]}',
    ],
)
def test_a_file_that_is_no_notebook_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.ipynb").write_text(body)
    with pytest.raises(ReportError, match=r"own\.ipynb is not a notebook that lmjudge can read"):
        run(["own.ipynb"])


def test_two_notebooks_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        notebook(tmp_path / folder / "same.ipynb", "1")
    with pytest.raises(ReportError, match=r"a/same\.ipynb and b/same\.ipynb have the same name"):
        run(["a/same.ipynb", "b/same.ipynb"])
    for odd in ("{1, 2}", "b'x'", "1e999", "(" * 9999):
        path = notebook(tmp_path / "none.ipynb", "1")
        path.write_text(path.read_text().replace("n: int = 3  # a number", "n = None"))
        if odd.startswith("("):
            (ended,) = run(["none.ipynb"], parameters={"n": odd})  # no literal: it is text
            assert ended.error is None
        else:
            with pytest.raises(ReportError, match="which JSON cannot hold"):
                run(["none.ipynb"], parameters={"n": odd})


SAVES = """
import json, pathlib
import lmjudge as lj, pandas as pd
from lmjudge.records import Request
store = lj.Store()
request = Request("m", [{"role": "user", "content": "q"}])
(key, reply), = store.ask([request])
cells = pd.DataFrame({"table": "T", "row": [reply.text], "column": "x", "value": [n]})
lj.save_table(cells, "own", store=store, keys=[key])
"""


def test_what_is_unchanged_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "judgments"))
    released = tmp_path / "data" / SOURCES["vicuna-blog"].files[0].path
    released.parent.mkdir(parents=True)
    (tmp_path / "reports").mkdir()
    (tmp_path / "votes").mkdir()
    (tmp_path / "votes/one.jsonl").write_text("1")
    (tmp_path / "prices.csv").write_text("model,input,output,date\nm,1,1,2026-01-01\n")
    monkeypatch.setenv("LMJUDGE_PRICES", str(tmp_path / "prices.csv"))
    path = notebook(tmp_path / "own.ipynb", SAVES)
    request = Request("m", [{"role": "user", "content": "q"}])
    with closing(lj.Store()) as store:
        store.add([Record(request, Reply("late", created=2.0))])
    defaults = {"name": "votes"}

    def again(**parameters: Any) -> bool:
        """Whether `run(changed=True)` would run it."""
        typed = defaults | parameters
        return unchanged("own", surroundings() | inputs(path, typed, ["x"])) is None

    assert again()
    run(["own.ipynb"], parameters=defaults)
    reported: list[Run] = []
    (skipped,) = run(["own.ipynb"], parameters=defaults, changed=True, each=reported.append)
    assert reported == [skipped]
    assert skipped.skipped
    assert (
        skipped.page == Path("reports/own/own.html")
        or skipped.page == tmp_path / "reports/own/own.html"
    )
    assert again(n=4)
    # A prompt's text is no path, however long it is.
    assert again(name="Which is better? {answer_a} or {answer_b}. " * 200)
    here = [tmp_path / name for name in ("votes/one.jsonl", "prices.csv", "reports/own/own.csv")]
    for file in (path, released, *here):
        before = file.read_bytes() if file.exists() else None
        changed = (before or b"").replace(b"save_table(cells", b"save_table(cells.copy()") + b" "
        file.write_bytes(changed)
        assert again(), file
        if before is None:
            file.unlink()
        else:
            file.write_bytes(before)
        assert not again(), file
    # Outputs that Jupyter left in a notebook change nothing.
    opened = nbformat.read(path, as_version=4)
    opened.cells[2].execution_count = 7
    nbformat.write(opened, path)
    assert not again()
    with closing(lj.Store()) as store:
        store.add([Record(Request("m", []), Reply("of another request"))])
        assert not again()
        store.add([Record(request, Reply("early", created=1.0))])
    assert again()
    (anew,) = run(["own.ipynb"], parameters=defaults, changed=True)
    assert not anew.skipped
    assert "T,early,x,3," in (tmp_path / "reports/own/own.csv").read_text()
    assert not again()
    # After a failure its page is there: it runs until it succeeds.
    (tmp_path / "reports/failed").mkdir()
    (tmp_path / "reports/failed/own.html").touch()
    assert again()


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_what_a_killed_worker_left_is_cleared_away(tmp_path: Path) -> None:
    """Its half-run notebook holds whatever secrets its cells printed."""
    code = "import sys, pathlib, time; from lmjudge.report.warm import _scratch\n"
    code += "print(_scratch(pathlib.Path(sys.argv[1])), flush=True); time.sleep(60)"
    folders = []
    with (
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as first,
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as second,
    ):
        for worker in (first, second):
            assert worker.stdout is not None
            folders.append(Path(worker.stdout.readline().decode().strip()))
            (folders[-1] / "executed.ipynb").write_text("a secret")
        second.kill()
        second.wait()
        subprocess.run([sys.executable, "-c", code.split("; time")[0], tmp_path], check=True)
        assert folders[0].exists()
        assert not folders[1].exists()
        first.kill()
