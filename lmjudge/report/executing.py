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
# Where a cell raised a warning: a file of this machine, named for its process.
_CELL_FILE = re.compile(r"^\S*[/\\]ipykernel_\d+[/\\]\d+\.py:\d+: ", re.M)
# The states of a progress bar, which tell times.
_BAR = re.compile(r"\r[^\r\n]*\d%\|[^\r\n]*\[\d+:\d\d[^\r\n]*\]")


@dataclass(frozen=True)
class Run:
    """One notebook's run: the CSV and the page it wrote, or the error it ended in.

    `seconds` is what its cells took; `skipped` says that it did not run, being `unchanged`.
    """

    stem: str
    source: str | None = None
    table: Path | None = None
    page: Path | None = None
    error: str | None = None
    seconds: float = 0.0
    skipped: bool = False


def execute(stem: str, path: str, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> Run:
    """Run the notebook at `path` and return its table, the executed notebook and a page.

    Papermill executes it, in a kernel of its own. `inputs` goes into the run card beside the
    parameters, for `unchanged` to look at. Whatever raises is the run's `error`.
    """
    try:
        done, error, table = _executed(stem, Path(path), parameters)
        if done is None:
            return Run(stem, error=error)
        return _kept(stem, done, error, table, parameters, inputs)
    except Exception as failure:
        return Run(stem, error=_not_run(failure))


def _not_run(failure: Exception) -> str:
    message = f"could not be run: {type(failure).__name__}: {plain(failure)[:500]}"
    return str(without_secrets(message))


def _executed(
    stem: str, path: Path, parameters: Mapping[str, Any]
) -> tuple[NotebookNode | None, str | None, Path | None]:
    """Return the executed notebook, if it was begun, why it failed, and the table that it wrote."""
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
            # Papermill fills braces in paths with parameters.
            str(out).replace("{", "{{").replace("}", "}}"),
            parameters=dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            config=Config({"KernelManager": _transport(scratch)}),
            record_timing=False,
            # A kernel that is told to stop reports the interrupt as an error of its own.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
        try:
            try:
                run()
            except RuntimeError as failure:
                # Another process took a port between its choice and its use: no cell has run.
                if not re.search("died before replying|respond in 60", str(failure)):
                    raise
                run()
        except PapermillExecutionError as failure:
            starts = plain(failure.source.strip().partition("\n")[0])[:60]
            message = f"{failure.ename}: {plain(failure.evalue)[:500]}"
            error = without_secrets(f"cell {failure.cell_index + 1} ({starts}) failed: {message}")
        except Exception as failure:
            error = _not_run(failure)
        done = nbformat.read(out, as_version=4) if out.exists() else None
    wrote = [table for table, stamp in _cards(stem).items() if stamp != before.get(table)]
    return done, error, wrote[-1] if wrote else None


def _transport(folder: str) -> dict[str, str]:
    """Return how papermill speaks to a kernel: by sockets in a folder, else by TCP.

    A TCP port is chosen before it is used, and another process may take it in between. The path of
    a socket has at most 107 bytes, and Windows has none.
    """
    sockets = os.path.join(folder, "kernel")
    if os.name == "posix" and len(os.fsencode(sockets)) < 100:
        return {"transport": "ipc", "ip": sockets}
    # ipykernel warns of TCP without encryption unless it may choose for itself.
    return {"transport_encryption": "auto"}


def _kept(
    stem: str,
    done: NotebookNode,
    error: str | None,
    table: Path | None,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> Run:
    """Write an executed notebook and its page beside its table, or into failed/."""
    import nbformat

    source = paths_of(stem)[table] if table else None
    timed = (cell.metadata.get("papermill", {}) for cell in done.cells)
    seconds = sum(times.get("duration") or 0.0 for times in timed)
    done = _tidied(done, parameters)
    failed = reports() / "failed" / f"{stem}.html"
    page = failed
    if not error:
        page = (table or reports() / PLACES["own"] / f"{stem}.csv").with_suffix(".html")
    write(page.with_suffix(".ipynb"), (nbformat.writes(done) + "\n").encode())
    if table is not None and not error:
        card = table.with_suffix(".run.json")
        facts = json.loads(card.read_bytes()) | {"inputs": dict(inputs)}
        facts["parameters"] = facts["parameters"] or dict(parameters)
        write(card, as_json(facts))
    write(page, page_of(done, page.stem, source, error).encode())
    if not error:
        for old in (failed, failed.with_suffix(".ipynb")):
            old.unlink(missing_ok=True)
    if error or source is None:
        return Run(stem, source, page=page, error=error, seconds=seconds)
    return Run(stem, source, table, page, seconds=seconds)


def _cards(stem: str) -> dict[Path, tuple[int, int]]:
    """Return the stem's tables that have a run card, with its stamp: a new card is a new file."""
    stamps = {}
    for path in paths_of(stem):
        card = path.with_suffix(".run.json")
        if card.exists():
            stamps[path] = (card.stat().st_ino, card.stat().st_mtime_ns)
    return stamps


def _tidied(notebook: NotebookNode, parameters: Mapping[str, Any]) -> NotebookNode:
    """Return the executed notebook without times, local paths, secrets and live widgets."""
    import nbformat

    notebook.metadata["papermill"] = {"parameters": dict(parameters)}
    # A widget has no kernel any more to speak to, and its ids are others in each run.
    notebook.metadata.pop("widgets", None)
    for number, cell in enumerate(notebook.cells):
        kept = []
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            if output.output_type == "stream":
                output["text"] = _CELL_FILE.sub("", _BAR.sub("", output["text"]))
            if output.get("text", "is there").strip():
                kept.append(output)
            elif kept and kept[-1].get("name") == output["name"]:
                kept[-1]["text"] += output["text"]  # a clock cut the end of a line off
        if cell.cell_type == "code":
            cell["outputs"] = kept
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        if tags and "injected-parameters" in tags:
            cell["id"] = f"injected-{number}"
    return nbformat.from_dict(without_secrets(notebook))


def without_secrets(value: Any) -> Any:
    """Return the JSON value with every secret in its texts blacked out.

    Pictures are left as they are.
    """
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
    """Return the environment's secrets by their names, in every spelling, longest first."""
    values = {
        spelling
        for name, value in os.environ.items()
        if SECRET_NAME.search(name) and len(value) > 7
        for spelling in spellings(value)
    }
    return sorted(values, key=len, reverse=True)
