"""What tests are given: rows as a file, a benchmark as a module, a number of examples."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import settings

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def written(path: Path, *rows: Any) -> Path:
    """The path of a file that holds these rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def benchmark(name: str) -> ModuleType:
    """A script of benchmarks/ as a module, under no name that others could import it by."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def examples(most: int, **others: Any) -> settings:
    """Return Hypothesis settings of `most` examples, or of fewer where the profile has fewer."""
    return settings(max_examples=min(most, settings().max_examples), **others)
