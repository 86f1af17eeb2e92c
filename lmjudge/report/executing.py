"""Execute one notebook with papermill and write its page."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lmjudge.endpoints.replies import spellings
from lmjudge.places import reports
from lmjudge.report.checking import paths_of
from lmjudge.report.files import as_json, plain, write
from lmjudge.report.notebook import read_notebook
from lmjudge.report.page import page_of, quiet
from lmjudge.report.tables import PLACES

if TYPE_CHECKING:
    from nbformat import NotebookNode

SECRET_NAME = re.compile(r"(api_?key|secret|passw|credential|bearer|auth)|(^|_)(key|token)$", re.I)
SECRET_TEXT = re.compile(
    r"\b(sk-[\w-]{16,}|hf_\w{16,}|gh[opsu]_\w{16,}|AIza[\w-]{30,}|AKIA[0-9A-Z]{16})|\bBearer\s+[\w.~+/=-]{8,}"
    r"|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"  # a password in an address
)
# The place of a warning: a file of this machine, named after its process.
_CELL_FILE = re.compile(r"^\S*[/\\]ipykernel_\d+[/\\]\d+\.py:\d+: ", re.M)
# The states of a progress bar, which contain times.
_BAR = re.compile(r"\r[^\r\n]*\d%\|[^\r\n]*\[\d+:\d\d[^\r\n]*\]")


@dataclass(frozen=True)
class Run:
    """The run of one notebook: the CSV and the page that it wrote, or its error.

    `seconds` is the time that its cells took. `skipped` is True if it did not run, because nothing
    changed.
    """

    stem: str
    source: str | None = None
    table: Path | None = None
    page: Path | None = None
    error: str | None = None
    seconds: float = 0.0
    skipped: bool = False


def execute(stem: str, path: str, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> Run:
    """Run the notebook at `path` with papermill in a new kernel, and write its page.

    `inputs` goes into the run card, for `unchanged`. An exception becomes the run's `error`.
    """
    try:
        notebook, error, table = _executed(stem, Path(path), parameters)
        if notebook is None:
            return Run(stem, error=error)
        return _saved(stem, notebook, error, table, parameters, inputs)
    except Exception as failure:
        return Run(stem, error=_not_run(failure))


def _not_run(failure: Exception) -> str:
    message = f"could not be run: {type(failure).__name__}: {plain(failure)[:500]}"
    return str(without_secrets(message))


def _executed(
    stem: str, path: Path, parameters: Mapping[str, Any]
) -> tuple[NotebookNode | None, str | None, Path | None]:
    """Return the executed notebook (None if it did not start), its error and its table."""
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    before = _cards(stem)
    error = None
    with TemporaryDirectory() as scratch, quiet():
        out = Path(scratch) / "executed.ipynb"
        run = partial(
            papermill.execute_notebook,
            nbformat.from_dict(read_notebook(path)),
            # Papermill would replace braces in paths by parameters.
            str(out).replace("{", "{{").replace("}", "}}"),
            parameters=dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            config=Config({"KernelManager": _transport(scratch)}),
            record_timing=False,
            # A kernel that stops would log the interrupt as an error.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
        try:
            try:
                run()
            except RuntimeError as failure:
                # Another process took the chosen port before its use. No cell has run yet.
                if not re.search("died before replying|respond in 60", str(failure)):
                    raise
                run()
        except PapermillExecutionError as failure:
            starts = plain(failure.source.strip().partition("\n")[0])[:60]
            message = f"{failure.ename}: {plain(failure.evalue)[:500]}"
            error = without_secrets(f"cell {failure.cell_index + 1} ({starts}) failed: {message}")
        except Exception as failure:
            error = _not_run(failure)
        executed = nbformat.read(out, as_version=4) if out.exists() else None
    written = [table for table, stamp in _cards(stem).items() if stamp != before.get(table)]
    return executed, error, written[-1] if written else None


def _transport(folder: str) -> dict[str, str]:
    """Return the options for papermill's connection to a kernel: sockets in a folder, else TCP.

    Between the choice of a TCP port and its use, another process may take it. A socket's path has
    at most 107 bytes, and Windows has no such sockets.
    """
    sockets = os.path.join(folder, "kernel")
    if os.name == "posix" and len(os.fsencode(sockets)) < 100:
        return {"transport": "ipc", "ip": sockets}
    # With "auto", ipykernel does not warn about TCP without encryption.
    return {"transport_encryption": "auto"}


def _saved(
    stem: str,
    executed: NotebookNode,
    error: str | None,
    table: Path | None,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> Run:
    """Write an executed notebook and its page beside its table, or into failed/."""
    import nbformat

    source = paths_of(stem)[table] if table else None
    timings = (cell.metadata.get("papermill", {}) for cell in executed.cells)
    seconds = sum(timing.get("duration") or 0.0 for timing in timings)
    executed = _cleaned(executed, parameters)
    failed = reports() / "failed" / f"{stem}.html"
    page = failed
    if not error:
        page = (table or reports() / PLACES["own"] / f"{stem}.csv").with_suffix(".html")
    write(page.with_suffix(".ipynb"), (nbformat.writes(executed) + "\n").encode())
    if table is not None and not error:
        card = table.with_suffix(".run.json")
        facts = json.loads(card.read_bytes()) | {"inputs": dict(inputs)}
        facts["parameters"] = facts["parameters"] or dict(parameters)
        write(card, as_json(facts))
    write(page, page_of(executed, page.stem, source, error).encode())
    if not error:
        for old in (failed, failed.with_suffix(".ipynb")):
            old.unlink(missing_ok=True)
    if error or source is None:
        return Run(stem, source, page=page, error=error, seconds=seconds)
    return Run(stem, source, table, page, seconds=seconds)


def _cards(stem: str) -> dict[Path, tuple[int, int]]:
    """Return the stem's tables that have a run card, each with the card's inode and time."""
    stamps = {}
    for path in paths_of(stem):
        card = path.with_suffix(".run.json")
        if card.exists():
            stamps[path] = (card.stat().st_ino, card.stat().st_mtime_ns)
    return stamps


def _cleaned(notebook: NotebookNode, parameters: Mapping[str, Any]) -> NotebookNode:
    """Return the executed notebook without times, local paths, secrets and live widgets."""
    import nbformat

    notebook.metadata["papermill"] = {"parameters": dict(parameters)}
    # Widgets no longer have a kernel, and their ids change with each run.
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(notebook.cells):
        outputs = []
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            if output.output_type == "stream":
                output["text"] = _CELL_FILE.sub("", _BAR.sub("", output["text"]))
            if output.get("text", "is there").strip():
                outputs.append(output)
            elif outputs and outputs[-1].get("name") == output["name"]:
                outputs[-1]["text"] += output["text"]  # a line's end that came as its own output
        if cell.cell_type == "code":
            cell["outputs"] = outputs
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        if tags and "injected-parameters" in tags:
            cell["id"] = f"injected-{number}"
    return nbformat.from_dict(without_secrets(notebook))


def without_secrets(value: Any) -> Any:
    """Return the JSON value with every secret in its texts replaced; pictures are unchanged."""
    if isinstance(value, str):
        for secret in secrets():
            value = value.replace(secret, "[secret]")
        return SECRET_TEXT.sub("[secret]", value)
    if isinstance(value, Mapping):
        return {
            name: item if name.startswith("image/") and "svg" not in name else without_secrets(item)
            for name, item in value.items()
        }
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def secrets() -> list[str]:
    """Return the values of environment variables named like secrets, in every spelling.

    The longest come first.
    """
    values = {
        spelling
        for name, value in os.environ.items()
        if SECRET_NAME.search(name) and len(value) > 7
        for spelling in spellings(value)
    }
    return sorted(values, key=len, reverse=True)
