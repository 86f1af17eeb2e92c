"""Build the documentation site: `sphinx-build -W docs docs/_build`. Needs no network."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
REPORTS = HERE / "_reports"  # the notebooks as they ran for this site
sys.path.insert(0, str(HERE.parent))

import lmjudge  # noqa: E402
from lmjudge import cli  # noqa: E402

project = "lmjudge"
author = copyright = "The lmjudge developers"
version = release = lmjudge.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
html_theme = "furo"
html_title = f"lmjudge {version}"
html_extra_path = ["llms.txt"]
exclude_patterns = ["_build", "_reports", "jupyter_execute", "*.py"]
nb_execution_mode = "off"  # notebooks are copied as they ran
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
suppress_warnings = ["mystnb.unknown_mime_type"]

# Each topic of the API is one page, made here at each build so that no name is forgotten.
TOPICS = {
    "data": "Reading and writing files",
    "frames": "Frames",
    "records": "Requests, replies, records",
    "store": "The store",
    "endpoints": "Endpoints",
    "generation": "Generating answers",
    "judges": "Judging",
    "planning": "Plans",
    "simulation": "Simulated studies",
    "stats": "Estimators",
    "audit": "Choosing a judge",
    "printed": "Published numbers",
    "report": "Tables, figures, reports",
    "train": "Training and rewards",
    "widgets": "In JupyterLab",
    "errors": "Errors",
}


def names_by_topic() -> dict[str, list[str]]:
    """Return the public names under each topic: those of `lj.*`, then those of topic modules."""
    names: dict[str, list[str]] = {}
    for name in lmjudge.__all__:
        item = getattr(lmjudge, name)
        if not isinstance(item, ModuleType):
            names.setdefault(item.__module__.split(".")[1], []).append(f"lmjudge.{name}")
    for path in ("data", "stats", "audit", "train", "errors", "report.figures"):
        module = import_module(f"lmjudge.{path}")
        public = getattr(module, "__all__", None) or [
            name
            for name, item in vars(module).items()
            if callable(item) and item.__module__ == module.__name__ and name[0] != "_"
        ]
        names.setdefault(path.partition(".")[0], []).extend(
            f"lmjudge.{path}.{name}"
            for name in public
            if name not in lmjudge.__all__ and callable(getattr(module, name))
        )
    return names


def write_pages(app: Any) -> None:
    """Write the API pages, the command line's page and the notebooks into the source folder."""
    api = HERE / "api"
    api.mkdir(exist_ok=True)
    topics = names_by_topic()
    for page in api.glob("*.md"):
        if page.stem not in topics:
            page.unlink()
    for topic, names in topics.items():
        lines = [f"# {TOPICS.get(topic, topic)}", ""]
        for name in names:
            item = getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
            kind = "class" if isinstance(item, type) else "function"
            members = "   :members:\n   :exclude-members: __init__\n" if kind == "class" else ""
            lines += ["```{eval-rst}", f".. auto{kind}:: {name}", f"{members}```", ""]
        _write(api / f"{topic}.md", "\n".join(lines))
    _write(HERE / "cli.md", _command_line())
    run_notebooks()
    (HERE / "notebooks").mkdir(exist_ok=True)
    for notebook in sorted(REPORTS.glob("*.ipynb")):
        _write(HERE / "notebooks" / notebook.name, notebook.read_text(encoding="utf-8"))
    _write(HERE / "gallery.md", _gallery())


def run_notebooks() -> None:
    """Run the notebooks on the rows that ship, those that changed since the last build."""
    surroundings = {name: value for name, value in os.environ.items() if name != "LMJUDGE_DATA"}
    surroundings |= {"LMJUDGE_REPORTS": str(REPORTS), "LMJUDGE_CACHE": str(REPORTS / "judgments")}
    surroundings |= {"LMJUDGE_OFFLINE": "1"}
    command = [sys.executable, "-m", "lmjudge", "run", "--jobs", "2", "--changed"]
    subprocess.run(command, env=surroundings, check=True, stdout=subprocess.DEVNULL)


def _gallery() -> str:
    """Return a page with each notebook's title, figures and tables; write its pictures."""
    (HERE / "gallery").mkdir(exist_ok=True)
    lines = ["# Gallery", "", "Each title opens the notebook that makes the table or figure.", ""]
    for notebook in sorted(REPORTS.glob("*.ipynb")):
        cells = json.loads(notebook.read_bytes())["cells"]
        title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
        lines += [f"## [{title}](notebooks/{notebook.name})", ""]
        outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
        pictures = [data for data in outputs if "image/png" in data]
        for number, data in enumerate(pictures):
            picture = HERE / "gallery" / f"{notebook.stem}-{number}.png"
            picture.write_bytes(b64decode("".join(data["image/png"])))
            lines += [f"```{{image}} gallery/{picture.name}", ":width: 360px", "```", ""]
        tables = pd.read_csv(REPORTS / f"{notebook.stem}.csv")["table"].unique()
        lines += [*(f"- {table}" for table in tables), ""]
    return "\n".join(lines)


def _write(path: Path, text: str) -> None:
    """Write a page where it changed, so that a second build reads only what is new."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _command_line() -> str:
    """Return every command's help as one page."""
    parser = cli._parser()
    lines = ["# Command line", "", "```text", parser.format_help().rstrip(), "```", ""]
    for command, verb in _verbs(parser, "lmjudge"):
        lines += [f"## {command}", "", "```text", verb.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _verbs(parser: Any, prefix: str) -> list[tuple[str, Any]]:
    verbs = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                verbs += [(f"{prefix} {name}", verb), *_verbs(verb, f"{prefix} {name}")]
    return verbs


def to_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn the Markdown tables and links of a docstring into reStructuredText."""
    made: list[str] = []
    table = False
    for line in lines:
        if line.startswith("|"):
            row = [cell.strip() for cell in line.strip("|").split("|")]
            if not table:
                made += [".. list-table::", "   :header-rows: 1", ""]
            table = True
            if not all(set(cell) <= set("-: ") for cell in row) or not any(row):
                made += [f"   {'* ' if not at else '  '}- {cell}" for at, cell in enumerate(row)]
            continue
        if table:
            made.append("")
        table = False
        line = re.sub(r"\[([^\]]+)\]\((https?://[^)]+)\)", r"`\1 <\2>`__", line)
        made.append(
            re.sub(r"(?<![\w`*])\*\*?(\w+)(?!\*)", lambda m: m[0].replace("*", r"\*"), line)
        )
    lines[:] = made


def setup(app: Any) -> None:
    """Connect the pages made at each build and the docstrings' Markdown."""
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", to_rst)
