"""Run notebooks with papermill, each in separate processes, and write a page for each."""

from __future__ import annotations

import atexit
import difflib
import json
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Lock
from typing import IO, Any, cast

from lmjudge import places
from lmjudge.errors import ReportError
from lmjudge.report.executing import SECRET_NAME, SECRET_TEXT, Run, execute, secrets
from lmjudge.report.files import claim_reports
from lmjudge.report.notebook import literal, notebook_parameters, read_notebook
from lmjudge.report.saving import ORIGINAL
from lmjudge.report.unchanged import inputs, surroundings, unchanged

_ONE_AT_A_TIME = Lock()


def notebooks() -> dict[str, Path]:
    """Return lmjudge's notebooks by stem. Raises ReportError if there are none."""
    if paths := places.notebooks():
        return paths
    raise ReportError(
        "lmjudge's notebooks are not installed; reinstall lmjudge, or pass the path of a notebook",
        name="nbs",
    )


def run(
    stems: Iterable[str] | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    full: bool = False,
    jobs: int = 1,
    changed: bool = False,
    each: Callable[[Run], object] | None = None,
) -> list[Run]:
    """Run notebooks; each writes its table, the executed notebook and a page.

    - `stems`: names of lmjudge's notebooks, or paths of your own (*.ipynb); None runs all of
      lmjudge's.
    - `parameters`: each goes to the notebooks that have it; at least one must. Text is converted to
      the type of the parameter's default.
    - `full`: read the original files of the sources that were fetched, instead of the shipped rows.
      Notebooks without such a source are left out.
    - `jobs`: the number of notebooks that run at a time (on Linux; elsewhere one).
    - `changed`: skip a notebook if its cells, parameters, files, data, records, code and versions
      are those of the existing table.
    - `each`: called with every Run when it ends.

    Notebooks run in separate processes and share no state. If one fails, the others still run.

    Raises ReportError before anything runs for an unknown notebook or parameter, and for a
    parameter that looks like a secret. Raises it at the end if notebooks failed, with all `runs`
    and the `failed` ones.
    """
    chosen = _chosen(stems)
    known = {stem: notebook_parameters(path) for stem, path in chosen.items()}
    values = dict(parameters or {})
    _refuse_unknown(values, known)
    _refuse_secrets(values)
    originals = {stem: _originals(path) for stem, path in chosen.items()} if full else {}
    if full:
        chosen = {stem: path for stem, path in chosen.items() if originals[stem]}
    around = surroundings()
    runs: dict[str, Run] = {}
    tasks = []
    for stem, path in chosen.items():
        typed = originals.get(stem, {}) | {
            name: _typed(name, value, known[stem][name])
            for name, value in values.items()
            if name in known[stem]
        }
        _refuse_unwritable(typed)
        defaults = map(literal, known[stem].values())
        rests_on = around | inputs(path, typed, defaults)
        if changed and (skipped := unchanged(stem, rests_on)):
            runs[stem] = skipped
            if each is not None:
                each(skipped)
        else:
            task = {"stem": stem, "path": str(path), "parameters": typed, "inputs": rests_on}
            tasks.append(task)
    if jobs > 1:  # start the training notebooks first, because they take longest
        tasks.sort(key=lambda task: b"train_" not in chosen[str(task["stem"])].read_bytes())
    if tasks:
        claim_reports()
    with closing(_executed(tasks, jobs)) as ended:
        for ended_run in ended:
            runs[ended_run.stem] = ended_run
            if each is not None:
                each(ended_run)
    ordered = [runs[stem] for stem in chosen]
    failed = [ended_run for ended_run in ordered if ended_run.error]
    if failed:
        raise ReportError(
            "; ".join(f"{ended_run.stem}: {ended_run.error}" for ended_run in failed),
            name=failed[0].stem,
            runs=ordered,
            failed=failed,
        )
    return ordered


def _originals(path: Path) -> dict[str, Any]:
    """Return the parameters of a full run: the original files of the sources fetched here.

    The notebook's metadata names them; without it, they are the parameters that name a source.
    """
    from lmjudge.data import SOURCES
    from lmjudge.data.finding import fetched

    metadata = read_notebook(path)["metadata"]
    sources = {name: literal(value) for name, value in notebook_parameters(path).items()}
    full = metadata.get("lmjudge", {}).get("full") or {
        name: f"{source}{ORIGINAL}"
        for name, source in sources.items()
        if isinstance(source, str) and source in SOURCES
    }
    return {name: value for name, value in full.items() if fetched(value.removesuffix(ORIGINAL))}


def _executed(tasks: list[dict[str, Any]], jobs: int) -> Generator[Run]:
    """Yield the runs as they end."""
    # Other systems cannot fork, or not safely from a process with so many libraries loaded.
    if sys.platform != "linux":
        yield from (execute(**task) for task in tasks)
    elif tasks:
        yield from _forked(tasks, jobs)


def _forked(tasks: list[dict[str, Any]], jobs: int) -> Generator[Run]:
    """Yield the runs as they end; if the iteration stops early, end their processes."""
    batch = {"tasks": tasks, "jobs": jobs, "environment": dict(os.environ), "folder": os.getcwd()}
    with _ONE_AT_A_TIME:
        server = _server(os.getpid())
        to_server, from_server = cast("IO[bytes]", server.stdin), cast("IO[bytes]", server.stdout)
        try:
            to_server.write(json.dumps(batch).encode() + b"\n")
            to_server.flush()
            for _ in tasks:
                if not (line := from_server.readline()):
                    raise ReportError(
                        "the process that starts notebooks ended with exit code"
                        f" {server.wait()}; see its output above, and run again",
                        name=tasks[0]["stem"],
                    )
                facts = json.loads(line)
                paths = {name: Path(facts[name]) for name in ("table", "page") if facts.get(name)}
                yield Run(**facts | paths)
        except BaseException:
            _server.cache_clear()
            _end(server)
            raise


@cache
def _server(process: int) -> Popen[bytes]:
    """Return the process from which notebooks are forked; it stays for the next run."""
    command = [sys.executable, "-c", "from lmjudge.report import warm; warm.serve()"]
    server = Popen(command, stdin=PIPE, stdout=PIPE, start_new_session=True)
    atexit.register(lambda: _end(server) if os.getpid() == process else None)
    return server


def _end(server: Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with server:  # closes its pipes and waits for it
        return


def _chosen(stems: Iterable[str] | None) -> dict[str, Path]:
    if stems is None:
        return notebooks()
    chosen: dict[str, Path] = {}
    for stem in stems:
        path = Path(stem) if stem.endswith(".ipynb") else notebooks().get(stem)
        if path is None or not path.is_file():
            raise ReportError(
                f"there is no notebook {stem!r}; {nearest(stem, notebooks())}", name=stem
            )
        other = chosen.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            raise ReportError(
                f"{other} and {path} have the same name, so their tables would overwrite each"
                " other. Rename one of them.",
                name=path.stem,
            )
    return chosen


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error: names similar to an unknown one, or else all names.

    >>> nearest("vicuna-score", ["judge-math", "vicuna-scores"])
    'did you mean vicuna-scores?'
    """
    if near := difflib.get_close_matches(name, names := list(known), n=3):
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(names)}" if names else "there are none"


def _refuse_unknown(values: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> None:
    names = dict.fromkeys(name for parameters in known.values() for name in parameters)
    for name in values:
        if name not in names:
            raise ReportError(
                f"no notebook has the parameter {name!r}; {nearest(name, names)}",
                name=name,
            )


def _refuse_secrets(values: Mapping[str, Any]) -> None:
    """Raise ReportError for a secret, because papermill writes parameters into the notebook."""
    for name, value in values.items():
        text = str(value)
        if (
            SECRET_NAME.search(name)
            or SECRET_TEXT.search(text)
            or any(secret in text for secret in secrets())
        ):
            raise ReportError(
                f"parameter {name!r} looks like a secret, and parameters are written into reports;"
                " pass keys in environment variables",
                name=name,
            )


def _typed(name: str, value: Any, default: str) -> Any:
    """Return the value converted to the type of the notebook's default literal."""
    default_value = literal(default)
    if default_value == default and isinstance(default_value, str):
        return value
    kind = type(default_value)
    if not isinstance(value, str) or kind is str:
        converted: Any = value
    elif kind is bool and value.lower() in ("true", "false"):
        converted = value.lower() == "true"
    else:
        converted = literal(value)
        if kind is list and isinstance(converted, str):
            with suppress(ValueError):
                converted = json.loads(value)
    if kind is float and type(converted) is int:
        converted = float(converted)
    if kind not in (type(converted), type(None)):
        example = """'["a", "b"]'""" if kind is list else default
        raise ReportError(
            f"parameter {name} is {value!r}; expected {kind.__name__}, such as {example}", name=name
        )
    return converted


def _refuse_unwritable(values: Mapping[str, Any]) -> None:
    """Raise ReportError for a value that JSON cannot hold: notebook and run card are JSON."""
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportError(
                f"parameter {name} is {value!r}, which JSON cannot hold ({error}). Pass text, a"
                " number, true or false, or a list of these.",
                name=name,
            ) from error
