"""Imports go down only, and what is light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import lmjudge

ROOT = Path(lmjudge.__file__).parent
HEAVY = {
    "aiohttp",
    "anywidget",
    "datasets",
    "diskcache",
    "ipywidgets",
    "matplotlib",
    "nbconvert",
    "openai",
    "pandas",
    "papermill",
    "requests",
    "scipy",
    "statsmodels",
    "torch",
    "transformers",
}


def test_imports_go_down_only_and_form_no_cycle() -> None:
    """The contracts are in pyproject.toml; `lint-imports` prints what breaks one."""
    tool = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run([tool, "--no-cache"], cwd=ROOT.parent, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def loaded_by(code: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in told.stdout.splitlines()[-1].split()}


def test_importing_lmjudge_loads_nothing_heavy() -> None:
    assert not loaded_by("import lmjudge") & HEAVY


def test_without_torch_the_rewards_are_there_and_training_says_what_it_needs() -> None:
    code = """
for name in ("torch", "transformers", "accelerate", "datasets", "sklearn"):
    sys.modules[name] = None
import pandas as pd
import lmjudge as lj
import lmjudge.audit, lmjudge.data, lmjudge.generation, lmjudge.judges, lmjudge.report
import lmjudge.train, lmjudge.widgets
frame, told = pd.DataFrame(), []
for ask in (
    lambda: lj.train.train_reward_model(frame, base="b", out="o"),
    lambda: lj.train.train_judge(frame, frame, base="b", out="o"),
    lambda: lj.train.train_answerer(frame, base="b", out="o"),
    lambda: lj.LocalEndpoint(".")._loaded,
    lambda: lj.RewardEndpoint("some/model").name,
):
    try: ask()
    except lj.errors.EndpointError as error: told.append(".[train]" in str(error))
assert told == [True] * 5, told
"""
    assert "lmjudge" in loaded_by(code)


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"from lmjudge.cli import main\ntry: main({words})\nexcept SystemExit: pass"
    assert not loaded_by(code) & HEAVY


def test_every_public_name_is_there() -> None:
    for name in lmjudge.__all__:
        assert getattr(lmjudge, name) is not None, name
    assert set(dir(lmjudge)) >= set(lmjudge.__all__)


def test_editors_complete_the_public_names_and_no_module_bears_one() -> None:
    stub = ast.parse((ROOT / "__init__.pyi").read_text())
    written = [
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(written) == sorted(lmjudge.__all__)
    functions = {name for name in written if not isinstance(getattr(lmjudge, name), ModuleType)}
    assert len(functions) <= 65
    assert not functions & {path.stem for path in ROOT.iterdir() if path.name[0] != "_"} - {
        "published"
    }
    assert not (ROOT / "published" / "__init__.py").exists()  # it holds tables only


def test_nothing_can_run_what_a_stranger_wrote() -> None:
    """No unpickling, evaluating or trusting of remote code anywhere in the package."""
    forbidden = {"eval", "exec", "pickle", "dill", "joblib", "marshal", "shelve", "literal_eval"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = (
                node.func.id
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                else ""
            )
            assert called not in forbidden, f"{path}: {called}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                assert not names & forbidden, f"{path}: {names}"
            if isinstance(node, ast.keyword):
                assert node.arg not in ("trust_remote_code", "allow_pickle", "weights_only"), path
            if isinstance(node, ast.Attribute):
                assert not node.attr.endswith(("_pickle", "unpack_archive", "extractall")), path
                of = node.value.id if isinstance(node.value, ast.Name) else ""
                assert (of, node.attr) not in {(name, "load") for name in ("torch", "np", "yaml")}
            if isinstance(node, ast.Dict):
                for name, item in zip(node.keys, node.values, strict=True):
                    if name and ast.unparse(name) == "'trust_remote_code'":
                        assert ast.unparse(item) == "False", path
