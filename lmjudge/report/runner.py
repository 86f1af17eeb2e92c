"""Runs notebooks by papermill, in this process, and makes a page of each."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lmjudge.errors import ReportError
from lmjudge.places import reports
from lmjudge.report.files import as_json, plain, write
from lmjudge.report.page import page_of, quiet
from lmjudge.report.tables import PLACES

if TYPE_CHECKING:
    from nbformat import NotebookNode

_SECRET_NAME = re.compile(r"(api_?key|secret|passw|credential|bearer|auth)|(^|_)(key|token)$", re.I)
_SECRET_TEXT = re.compile(
    r"\b(sk-[\w-]{16,}|hf_\w{16,}|gh[opsu]_\w{16,}|AIza[\w-]{30,}|AKIA[0-9A-Z]{16})|\bBearer\s+[\w.~+/=-]{8,}"
)


@dataclass(frozen=True)
class Run:
    """One notebook's run: the CSV and the page it wrote, or the error it ended in."""

    stem: str
    source: str | None = None
    table: Path | None = None
    page: Path | None = None
    error: str | None = None


def notebooks() -> dict[str, Path]:
    """The project's notebooks by stem: of the installed package, else of the checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "nbs", package.parent / "nbs"):
        if found := {path.stem: path for path in sorted(folder.glob("*.ipynb"))}:
            return found
    raise ReportError(
        f"no notebooks were found in {package / 'nbs'} or {package.parent / 'nbs'}; reinstall"
        " lmjudge, or give the path of a notebook",
        name="nbs",
    )


def run(
    stems: Iterable[str] | None = None,
    *,
    source: str = "auto",
    parameters: Mapping[str, Any] | None = None,
    each: Callable[[Run], object] | None = None,
) -> list[Run]:
    """What each notebook wrote: its table, the executed notebook and a page, in the reports folder.

    `stems` name notebooks of the project, or are paths of one's own (*.ipynb); None means all.
    `source` is given to those that have that parameter. Each of `parameters` must be one of some
    notebook's that is run, and is given to those that have it; text is read as the type that its
    default has. A notebook that fails does not keep the others from running; `each` is told of
    every run as it ends.

    Raises ReportError before anything runs for an unknown notebook, an unknown or misspelt
    parameter, or one that looks like a secret; and at the end where notebooks failed, with all
    `runs` and the `failed` among them.
    """
    chosen = _chosen(stems)
    known = {stem: _parameters(path) for stem, path in chosen.items()}
    given = dict(parameters or {})
    _refuse_unknown(given, known)
    _refuse_secrets(given)
    if source not in ("auto", "published", "simulated"):
        raise ReportError(
            f"source is {source!r}; expected auto, published or simulated", name="source"
        )
    runs = []
    for stem, path in chosen.items():
        wanted = {"source": source} if source != "auto" else {}
        wanted |= given
        typed = {
            name: _typed(name, value, known[stem][name])
            for name, value in wanted.items()
            if name in known[stem]
        }
        runs.append(_run_one(stem, path, typed))
        if each is not None:
            each(runs[-1])
    failed = [one for one in runs if one.error]
    if failed:
        raise ReportError(
            "; ".join(f"{one.stem}: {one.error}" for one in failed),
            name=failed[0].stem,
            runs=runs,
            failed=failed,
        )
    return runs


def _chosen(stems: Iterable[str] | None) -> dict[str, Path]:
    if stems is None:
        return notebooks()
    chosen = {}
    for stem in stems:
        path = Path(stem) if stem.endswith(".ipynb") else notebooks().get(stem)
        if path is None or not path.is_file():
            raise ReportError(
                f"there is no notebook {stem!r}; there are {', '.join(notebooks())}", name=stem
            )
        chosen[path.stem] = path
    return chosen


def _parameters(path: Path) -> dict[str, str]:
    """The literals of the notebook's parameters cell by name, as papermill reads them."""
    import papermill

    with quiet():
        try:
            found = papermill.inspect_notebook(path)
        except (ValueError, KeyError, AttributeError) as error:
            raise ReportError(
                f"{path.name} is not a notebook that papermill can read ({error})", name=path.stem
            ) from error
    return {name: item["default"] for name, item in found.items()}


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Mapping[str, str]]) -> None:
    for name in given:
        if not any(name in names for names in known.values()):
            lists = "; ".join(f"{stem}: {', '.join(names)}" for stem, names in known.items())
            raise ReportError(f"no notebook has the parameter {name!r}; known: {lists}", name=name)


def _refuse_secrets(given: Mapping[str, Any]) -> None:
    """Papermill writes parameters into the notebook in five places, so none may be a key."""
    for name, value in given.items():
        text = str(value)
        if (
            _SECRET_NAME.search(name)
            or _SECRET_TEXT.search(text)
            or any(secret in text for secret in _secrets())
        ):
            raise ReportError(
                f"parameter {name!r} looks like a secret, and parameters are written into reports;"
                " give keys by the environment",
                name=name,
            )


def _secrets() -> list[str]:
    """The values of environment variables that are named like secrets, the longest first."""
    found = {
        value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) > 7
    }
    return sorted(found, key=len, reverse=True)


def _typed(name: str, value: Any, default: str) -> Any:
    """The value as the type of the notebook's default literal."""
    try:
        kind = type(ast.literal_eval(default))
    except (ValueError, SyntaxError):
        return value
    if not isinstance(value, str) or kind is str:
        read: Any = value
    elif kind is bool and value.lower() in ("true", "false"):
        read = value.lower() == "true"
    else:
        try:
            read = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            read = value
    if kind is float and type(read) is int:
        read = float(read)
    if kind not in (type(read), type(None)):
        raise ReportError(
            f"parameter {name} is {value!r}; expected {kind.__name__}, such as {default}", name=name
        )
    return read


def _run_one(stem: str, path: Path, parameters: Mapping[str, Any]) -> Run:
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    before = _cards(stem)
    error = None
    with TemporaryDirectory() as scratch, quiet():
        out = Path(scratch) / f"{stem}.ipynb"
        try:
            papermill.execute_notebook(
                path,
                out,
                parameters=dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                # ipykernel warns of TCP without encryption unless it may choose for itself.
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
                record_timing=False,
                # A kernel that is told to stop reports the interrupt as an error of its own.
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
        except PapermillExecutionError as failure:
            starts = plain(failure.source.strip().partition("\n")[0])[:60]
            told = f"{failure.ename}: {plain(failure.evalue)[:500]}"
            error = _without_secrets(f"cell {failure.cell_index + 1} ({starts}) failed: {told}")
        except (RuntimeError, OSError, ValueError) as failure:
            error = f"could not be run: {type(failure).__name__}: {plain(failure)[:500]}"
        done = nbformat.read(out, as_version=4) if out.exists() else None
    wrote = [place for place, stamp in _cards(stem).items() if stamp != before[place]]
    source = wrote[-1] if wrote else None
    if done is None:
        return Run(stem, error=error)
    done = _tidied(done, parameters)
    folder = reports() / ("failed" if error else PLACES[source or "own"])
    write(folder / f"{stem}.ipynb", (nbformat.writes(done) + "\n").encode())
    page = folder / f"{stem}.html"
    write(page, page_of(done, stem, source, error).encode())
    if not error:
        for old in (reports() / "failed").glob(f"{stem}.*"):
            old.unlink()
    if error or source is None:
        return Run(stem, source, page=page, error=error)
    card = folder / f"{stem}.run.json"
    write(card, as_json(json.loads(card.read_bytes()) | {"parameters": dict(parameters)}))
    return Run(stem, source, folder / f"{stem}.csv", page)


def _cards(stem: str) -> dict[str, tuple[int, int] | None]:
    """Which run cards of the stem lie in each place: a card written anew is another file."""
    found: dict[str, tuple[int, int] | None] = {}
    for source, place in PLACES.items():
        path = reports() / place / f"{stem}.run.json"
        found[source] = (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None
    return found


def _tidied(notebook: NotebookNode, parameters: Mapping[str, Any]) -> NotebookNode:
    """The executed notebook without times, paths of this machine and secrets."""
    import nbformat

    notebook.metadata["papermill"] = {"parameters": dict(parameters)}
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        if tags and "injected-parameters" in tags:
            cell["id"] = f"injected-{number}"
    return nbformat.from_dict(_without_secrets(notebook))


def _without_secrets(value: Any) -> Any:
    """The JSON value with every secret in its texts blacked out; pictures are left as they are."""
    if isinstance(value, str):
        for secret in _secrets():
            value = value.replace(secret, "[secret]")
        return _SECRET_TEXT.sub("[secret]", value)
    if isinstance(value, Mapping):
        return {
            name: item if name.startswith("image/") else _without_secrets(item)
            for name, item in value.items()
        }
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
