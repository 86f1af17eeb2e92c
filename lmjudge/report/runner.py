"""Run notebooks with papermill, each in its own processes, and write a page for each."""

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
    """Return the project's notebooks by stem; ReportError where there are none."""
    if paths := places.notebooks():
        return paths
    raise ReportError(
        "no notebooks were found beside the package or in it; reinstall lmjudge, or give the path"
        " of a notebook",
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

    `stems` name notebooks of the project, or are paths of your own (*.ipynb); None means all.
    Each of `parameters` must be one of some
    notebook's that is run, and is given to those that have it; text is read as the type that its
    default has. With `full` each notebook reads the original files of its sources, where they were
    fetched; notebooks without any are left out. Every notebook has processes of its own, so that
    nothing which one does changes what another finds; up to `jobs` run at a time (on Linux;
    elsewhere one). A notebook that fails does not keep the others from running. With `changed` only
    those run whose cells, parameters, files, data, records, code or versions are not those of the
    table that lies there; the others are `skipped`. `each` is called with every run as it ends.

    Raises ReportError before anything runs for an unknown notebook, an unknown or misspelt
    parameter, or one that looks like a secret; and at the end where notebooks failed, with all
    `runs` and the `failed` among them.
    """
    chosen = _chosen(stems)
    known = {stem: notebook_parameters(path) for stem, path in chosen.items()}
    given = dict(parameters or {})
    _refuse_unknown(given, known)
    _refuse_secrets(given)
    originals = {stem: _originals(path) for stem, path in chosen.items()} if full else {}
    if full:
        chosen = {stem: path for stem, path in chosen.items() if originals[stem]}
    around = surroundings()
    runs: dict[str, Run] = {}
    tasks = []
    for stem, path in chosen.items():
        typed = originals.get(stem, {}) | {
            name: _typed(name, value, known[stem][name])
            for name, value in given.items()
            if name in known[stem]
        }
        _refuse_unwritable(typed)
        defaults = map(literal, known[stem].values())
        rests_on = around | inputs(path, typed, defaults)
        if changed and (left := unchanged(stem, rests_on)):
            runs[stem] = left
            if each is not None:
                each(left)
        else:
            task = {"stem": stem, "path": str(path), "parameters": typed, "inputs": rests_on}
            tasks.append(task)
    if jobs > 1:  # what trains a model takes longest: begun last, it would end alone
        tasks.sort(key=lambda task: b"train_" not in chosen[str(task["stem"])].read_bytes())
    if tasks:
        claim_reports()
    with closing(_executed(tasks, jobs)) as ending:
        for done in ending:
            runs[done.stem] = done
            if each is not None:
                each(done)
    ordered = [runs[stem] for stem in chosen]
    failed = [done for done in ordered if done.error]
    if failed:
        raise ReportError(
            "; ".join(f"{done.stem}: {done.error}" for done in failed),
            name=failed[0].stem,
            runs=ordered,
            failed=failed,
        )
    return ordered


def _originals(path: Path) -> dict[str, Any]:
    """Return the parameters of a full run: the sources' original files, of those fetched here.

    A notebook names them in its metadata; else they are its parameters that name a source.
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
    """Yield the runs, as they end."""
    # Elsewhere a process that has loaded so much cannot be forked, or not at all.
    if sys.platform != "linux":
        yield from (execute(**task) for task in tasks)
    elif tasks:
        yield from _forked(tasks, jobs)


def _forked(tasks: list[dict[str, Any]], jobs: int) -> Generator[Run]:
    """Yield the runs, as they end; if the iteration ends before, no process of theirs is left."""
    given = {"tasks": tasks, "jobs": jobs, "environment": dict(os.environ), "folder": os.getcwd()}
    with _ONE_AT_A_TIME:
        server = _server(os.getpid())
        asks, tells = cast("IO[bytes]", server.stdin), cast("IO[bytes]", server.stdout)
        try:
            asks.write(json.dumps(given).encode() + b"\n")
            asks.flush()
            for _ in tasks:
                if not (line := tells.readline()):
                    raise ReportError(
                        "the process that notebooks are forked from ended by itself, with exit"
                        f" code {server.wait()}; what it said stands above: run again",
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
    """Return the process that this one's notebooks are forked from; it stays for the next run."""
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
                f"{other} and {path} have the same name, and so would their pages and tables."
                " Rename one of them.",
                name=path.stem,
            )
    return chosen


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error: the names that a misspelt one resembles, else all names.

    >>> nearest("vicuna-score", ["judge-math", "vicuna-scores"])
    'did you mean vicuna-scores?'
    """
    if near := difflib.get_close_matches(name, names := list(known), n=3):
        return f"did you mean {' or '.join(near)}?"
    return f"there are {', '.join(names)}" if names else "there are none"


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> None:
    names = dict.fromkeys(name for parameters in known.values() for name in parameters)
    for name in given:
        if name not in names:
            raise ReportError(
                f"no notebook has the parameter {name!r}; {nearest(name, names)}",
                name=name,
            )


def _refuse_secrets(given: Mapping[str, Any]) -> None:
    """Papermill writes parameters into the notebook in five places, so none may be a key."""
    for name, value in given.items():
        text = str(value)
        if (
            SECRET_NAME.search(name)
            or SECRET_TEXT.search(text)
            or any(secret in text for secret in secrets())
        ):
            raise ReportError(
                f"parameter {name!r} looks like a secret, and parameters are written into reports;"
                " give keys by the environment",
                name=name,
            )


def _typed(name: str, value: Any, default: str) -> Any:
    """Return the value as the type of the notebook's default literal."""
    meant = literal(default)
    if meant == default and isinstance(meant, str):
        return value
    kind = type(meant)
    if not isinstance(value, str) or kind is str:
        read: Any = value
    elif kind is bool and value.lower() in ("true", "false"):
        read = value.lower() == "true"
    else:
        read = literal(value)
        if kind is list and isinstance(read, str):
            with suppress(ValueError):
                read = json.loads(value)
    if kind is float and type(read) is int:
        read = float(read)
    if kind not in (type(read), type(None)):
        example = """'["a", "b"]'""" if kind is list else default
        raise ReportError(
            f"parameter {name} is {value!r}; expected {kind.__name__}, such as {example}", name=name
        )
    return read


def _refuse_unwritable(given: Mapping[str, Any]) -> None:
    """Parameters go into the notebook and the run card, so each must be JSON."""
    for name, value in given.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportError(
                f"parameter {name} is {value!r}, which JSON cannot hold ({error}). Pass text, a"
                " number, true or false, or a list of these.",
                name=name,
            ) from error
