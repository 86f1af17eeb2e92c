"""The wheel: what it holds, and a report made from it alone, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("lmjudge/report/templates", "lmjudge/data/rows", "lmjudge/published", "nbs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which a wheel of this checkout was unpacked."""
    pytest.importorskip("hatchling", reason="pip install hatchling, to build the wheel")
    made = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", made]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = made.glob("*.whl")
    zipfile.ZipFile(built).extractall(made / "site")
    return made / "site"


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_the_notebooks(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "lmjudge", "nbs"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert all(any(name.startswith(folder) for name in tracked) for folder in NEEDED)
    inside = [f"lmjudge/{name}" if name.startswith("nbs/") else name for name in tracked]
    assert [name for name in inside if not (wheel / name).is_file()] == []


@pytest.mark.slow
@pytest.mark.notebooks
def test_the_wheel_alone_makes_the_committed_tables_offline(wheel: Path, tmp_path: Path) -> None:
    stems = ["vicuna-scores", "mtbench-agreement"]
    around = {name: value for name, value in os.environ.items() if not name.startswith("LMJUDGE_")}
    around |= {"PYTHONPATH": str(wheel), "LMJUDGE_OFFLINE": "1"}
    python = [sys.executable, "-m", "lmjudge"]
    subprocess.run([*python, "run", *stems], cwd=tmp_path, env=around, check=True, timeout=250)
    where = [sys.executable, "-c", "import lmjudge; print(lmjudge.__file__)"]
    source = subprocess.run(where, cwd=tmp_path, env=around, capture_output=True, text=True)
    assert Path(source.stdout.strip()).is_relative_to(wheel)
    for stem in stems:
        ours = (tmp_path / "reports" / f"{stem}.csv").read_bytes()
        assert ours == (ROOT / "reports" / f"{stem}.csv").read_bytes(), stem
        assert (tmp_path / "reports" / f"{stem}.html").is_file()
