"""What is installed: one version, and pins with hashes that agree with the constraints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import lmjudge

ROOT = Path(__file__).parents[1]


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([\w.+!-]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {re.sub("[-_.]+", "-", package).lower(): version for package, version in found}


def test_one_version_is_written_in_three_places() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == lmjudge.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_pins_with_hashes_agree_with_the_constraints() -> None:
    locked, tested = pins("requirements.lock"), pins("constraints.txt")
    assert len(locked.keys() & tested.keys()) > 200
    assert {name: tested[name] for name in locked.keys() & tested.keys()} == {
        name: version for name, version in locked.items() if name in tested
    }
    text = (ROOT / "requirements.lock").read_text()
    assert len(re.findall(r"^[\w.-]+==[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)) == len(
        re.findall(r"^[\w.-]+==", text, re.MULTILINE)
    )
    assert not re.search("https?:|file:", text)
