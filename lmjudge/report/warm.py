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
# The imports of notebooks and papermill. Kernels import tqdm.auto and pyplot themselves, because
# both look at import for the notebook that they run in.
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
    """Run the notebooks named in each line of stdin, and write a line to stdout as each ends.

    When stdin ends, all processes end.
    """
    stdin, stdout = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    _import_ahead()
    while line := stdin.readline():
        for outcome in _run(json.loads(line), stdin):
            print(outcome, file=stdout, flush=True)


def _run(batch: dict[str, Any], stdin: Any) -> Iterator[str]:
    """Yield the outcome of each worker as it ends."""
    waiting = deque(batch["tasks"])
    running: dict[Any, tuple[str, ForkProcess]] = {}
    while waiting or running:
        while waiting and len(running) < batch["jobs"]:
            task = waiting.popleft()
            receiver, sender = _FORK.Pipe(duplex=False)
            arguments = (sender, task, batch["environment"], batch["folder"])
            process = _FORK.Process(target=_work, args=arguments)
            process.start()
            sender.close()
            running[receiver] = (task["stem"], process)
        ready_ones: list[Any] = connection.wait([stdin, *running])
        for ready in ready_ones:
            if ready is stdin:
                os.killpg(0, signal.SIGTERM)
            stem, process = running.pop(ready)
            with ready:
                try:
                    outcome = ready.recv_bytes().decode()
                except EOFError:
                    process.join()
                    error = f"its process ended with exit code {process.exitcode}"
                    outcome = json.dumps({"stem": stem, "error": error})
            process.join()
            yield outcome


def _import_ahead() -> None:
    """Import slow modules as a kernel would, and write one page to fill caches."""
    # The first is a kernel's setting; the second silences a warning of the debugger.
    ahead = {"MPLBACKEND": _INLINE, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    added = ahead.keys() - os.environ.keys()
    os.environ.update({name: ahead[name] for name in added})
    # With JupyterLab installed, jsonschema imports this module: two seconds, for URL formats that
    # no notebook's schema uses.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    import_module("jsonschema")
    del sys.modules["rfc3987_syntax"]
    for name in _AHEAD.split():
        import_module(name)
    for name in added:
        del os.environ[name]
    _make_a_page()
    gc.collect()
    gc.freeze()  # forked processes share objects that the collector does not touch


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
    """A forked kernel with the methods of Popen that a provisioner calls."""

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
    """Launch a kernel of this Python by waking the forked one; launch any other as usual."""

    waiting: tuple[_Kernel, connection.Connection] | None = None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Launch the kernel and return its connection."""
        ours = [sys.executable, "-m", "ipykernel_launcher"]
        if Forked.waiting is None or cmd[:3] != ours:
            return await super().launch_kernel(cmd, **kwargs)
        (kernel, wake), Forked.waiting = Forked.waiting, None
        self.process = cast("Popen[bytes]", kernel)
        self.pid = self.pgid = kernel.pid
        self.cwd = kwargs.get("cwd") or os.getcwd()
        wake.send_bytes(json.dumps([cmd[3:], kwargs["env"], str(self.cwd)]).encode())
        return self.connection_info


def _work(
    sender: connection.Connection, task: dict[str, Any], environment: dict[str, str], folder: str
) -> None:
    """Execute one notebook in this worker, and send its Run."""
    from lmjudge.report.executing import execute

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    wake, wake_receiver = _FORK.Pipe()
    kernel = _Kernel(target=_kernel, args=(wake_receiver, wake, sender))
    kernel.start()

    # The unfinished notebook and the connection file are removed with the worker, however it ends.
    tempfile.tempdir = None
    scratch = tempfile.tempdir = str(_scratch(Path(tempfile.gettempdir())))

    def end(*_: object) -> None:
        kernel.kill()
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    signal.signal(signal.SIGTERM, end)
    Forked.waiting = (kernel, wake)
    factory = KernelProvisionerFactory.instance()
    usual = factory.default_provisioner_name
    factory.provisioners[usual] = EntryPoint(usual, f"{__name__}:Forked", factory.GROUP_NAME)
    try:
        finished = execute(**task)
    finally:  # otherwise this process and its kernel would wait for each other
        kernel.kill()
        shutil.rmtree(scratch, ignore_errors=True)
    sender.send_bytes(json.dumps(vars(finished), default=str).encode())


def _scratch(folder: Path) -> Path:
    """Create a temporary folder, and remove those of killed workers.

    A worker holds a lock on the file `lock` in its folder while it runs.
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


def _kernel(wake: connection.Connection, *others: connection.Connection) -> None:
    """Wait until the kernel is launched, then do what `python -m ipykernel_launcher` does."""
    import ipykernel_launcher
    import numpy as np
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    for other in others:
        other.close()
    try:
        arguments, environment, folder = json.loads(wake.recv_bytes())
    except EOFError:
        return
    wake.close()
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
