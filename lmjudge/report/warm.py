"""A server process with the slow imports done, which forks a fresh process per notebook (Linux).

It has one thread, and only imports, forks and waits. For each notebook it forks a worker, in which
papermill executes the notebook. The worker forks a kernel, which waits until papermill launches it.
So notebooks share no state, and none waits for slow imports.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint
from multiprocessing import connection, get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from subprocess import Popen
from typing import Any, cast

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

_FORK = get_context("fork")
# What notebooks and papermill import. tqdm.auto and pyplot are left to the kernels: at their import
# both look for the notebook that they are in.
_AHEAD = (
    "lmjudge.data lmjudge.judges lmjudge.planning lmjudge.printed lmjudge.simulation lmjudge.stats"
    " lmjudge.store scipy.sparse.csgraph scipy.stats statsmodels.stats.multitest"
    " statsmodels.stats.proportion statsmodels.genmod.generalized_linear_model"
    " matplotlib.figure matplotlib.backends.backend_agg pandas.io.formats.html pyarrow.parquet"
    " diskcache zstandard nh3 nbconvert papermill lmjudge.report.executing"
    " ipykernel.ipkernel ipykernel.kernelapp ipykernel.debugger ipykernel_launcher pdb"
    " tornado.platform.asyncio"
)
_SCRATCH = "lmjudge-run-"  # a worker's temporary folder
_INLINE = "module://matplotlib_inline.backend_inline"


def serve() -> None:
    """Run the notebooks that a line of stdin names; a line on stdout as each ends; then the next.

    When stdin ends, so does every process here.
    """
    stdin, stdout = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    _import_ahead()
    while line := stdin.readline():
        for done in _run(json.loads(line), stdin):
            print(done, file=stdout, flush=True)


def _run(given: dict[str, Any], stdin: Any) -> Iterator[str]:
    """Yield what the workers told, as they end."""
    waiting = deque(given["tasks"])
    running: dict[Any, tuple[str, ForkProcess]] = {}
    while waiting or running:
        while waiting and len(running) < given["jobs"]:
            task = waiting.popleft()
            told, tells = _FORK.Pipe(duplex=False)
            around = (given["environment"], given["folder"])
            process = _FORK.Process(target=_work, args=(tells, task, *around))
            process.start()
            tells.close()
            running[told] = (task["stem"], process)
        waited: list[Any] = connection.wait([stdin, *running])
        for ready in waited:
            if ready is stdin:
                os.killpg(0, signal.SIGTERM)
            stem, process = running.pop(ready)
            with ready:
                try:
                    done = ready.recv_bytes().decode()
                except EOFError:
                    process.join()
                    error = f"its process ended with exit code {process.exitcode}"
                    done = json.dumps({"stem": stem, "error": error})
            process.join()
            yield done


def _import_ahead() -> None:
    """Import what is slow to import, as a kernel would, and make a page, which fills caches."""
    # As a kernel has it; and the debugger is not to say on the terminal what it could not do here.
    ahead = {"MPLBACKEND": _INLINE, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    added = ahead.keys() - os.environ.keys()
    os.environ.update({name: ahead[name] for name in added})
    # jsonschema imports it where JupyterLab brought it: two seconds, for formats of addresses that
    # no notebook's schema has.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    import_module("jsonschema")
    del sys.modules["rfc3987_syntax"]
    for name in _AHEAD.split():
        import_module(name)
    for name in added:
        del os.environ[name]
    _make_a_page()
    gc.collect()
    gc.freeze()  # what the collector leaves alone stays shared by the forked processes


def _make_a_page() -> None:
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
    from PIL import Image

    from lmjudge.report.page import page_of

    shown = {"text/plain": "x", "text/html": "<table><tr><td>1</td></tr></table>"}
    outputs = [new_output("stream", text="1"), new_output("display_data", data=shown)]
    cells = [new_markdown_cell("# A\n\n- `b` *c* [d](e)"), new_code_cell("1 + 1", outputs=outputs)]
    notebook = nbformat.reads(nbformat.writes(new_notebook(cells=cells)), as_version=4)
    page_of(notebook, "example", None)
    Image.preinit()


class _Kernel(ForkProcess):
    """A forked kernel, as a provisioner speaks to it: like a Popen."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        if self.is_alive():
            os.kill(int(self.pid or 0), number)


class Forked(LocalProvisioner):
    """Launches a kernel of this Python by waking the forked one; any other as usual."""

    waiting: tuple[_Kernel, connection.Connection] | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Return the kernel's connection, once it is launched."""
        ours = [sys.executable, "-m", "ipykernel_launcher"]
        if Forked.waiting is None or cmd[:3] != ours:
            return await super().launch_kernel(cmd, **kwargs)
        (kernel, wakes), Forked.waiting = Forked.waiting, None
        self.process = cast("Popen[bytes]", kernel)
        self.pid = self.pgid = kernel.pid
        self.cwd = kwargs.get("cwd") or os.getcwd()
        wakes.send_bytes(json.dumps([cmd[3:], kwargs["env"], str(self.cwd)]).encode())
        return self.connection_info


def _work(
    tells: connection.Connection, task: dict[str, Any], environment: dict[str, str], folder: str
) -> None:
    """Execute one notebook, as a worker, and send what came of it."""
    from lmjudge.report.executing import execute

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    wakes, woken = _FORK.Pipe()
    kernel = _Kernel(target=_kernel, args=(woken, wakes, tells))
    kernel.start()

    # The half-run notebook and the kernel's connection file go with the worker, however it ends.
    tempfile.tempdir = None
    scratch = tempfile.tempdir = str(_scratch(Path(tempfile.gettempdir())))

    def end(*_: object) -> None:
        kernel.kill()
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    signal.signal(signal.SIGTERM, end)
    Forked.waiting = (kernel, wakes)
    factory = KernelProvisionerFactory.instance()
    usual = factory.default_provisioner_name
    factory.provisioners[usual] = EntryPoint(usual, f"{__name__}:Forked", factory.GROUP_NAME)
    try:
        done = execute(**task)
    finally:  # else this process would wait for a kernel that waits for it
        kernel.kill()
        shutil.rmtree(scratch, ignore_errors=True)
    tells.send_bytes(json.dumps(vars(done), default=str).encode())


def _scratch(folder: Path) -> Path:
    """Make a temporary folder, and clear away those of workers that were killed.

    A worker holds a lock on the file `lock` in its folder for as long as it lives.
    """
    for left in folder.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            mine = left.lstat().st_uid == os.geteuid() and not left.is_symlink()
            with (left / "lock").open("rb") as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if mine:
                    shutil.rmtree(left)
    new = Path(tempfile.mkdtemp(prefix="lmjudge-new-", dir=folder))
    lock = os.open(new / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return new.rename(new.with_name(new.name.replace("lmjudge-new-", _SCRATCH)))


def _kernel(woken: connection.Connection, *others: connection.Connection) -> None:
    """Wait until the kernel is launched, then be as `python -m ipykernel_launcher` is."""
    import ipykernel_launcher
    import numpy as np
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    for other in others:
        other.close()
    try:
        arguments, environment, folder = json.loads(woken.recv_bytes())
    except EOFError:
        return
    woken.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [ipykernel_launcher.__file__, *arguments]
    if sys.path[0] == "":
        del sys.path[0]
    np.random.seed()  # noqa: NPY002 (forked processes would all draw the same numbers)
    try:
        IPKernelApp.launch_instance(arguments, parent_handle=os.getppid())
    finally:
        atexit._run_exitfuncs()
