"""Numbers that others computed: category means as released, and benchmarks' results files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.data.finding import place
from lmjudge.data.loading import own_path
from lmjudge.data.rows import shipped
from lmjudge.errors import DataError, DataMissing

# A trace of the radar figure as plotly writes it into a notebook's HTML; the first point closes it.
_TRACE = re.compile(r'"name":"([^"]+)","r":(\[[^\]]*\]).*?"theta":(\[[^\]]*\])')


def load_means(source: str | os.PathLike[str] = "mt-bench-radar") -> pd.DataFrame:
    """The mean grades that a radar figure shows: model, category (lower case), score.

    Read are the notebook of FastChat that draws MT-bench's radar (the figure's own data, in its
    output) and a JSON object {model: {category: mean}}. Raises DataMissing where it is not here,
    DataError for a file that holds no such means.
    """
    if (rows := shipped(source, "means")) is not None:
        return rows
    own = own_path(source)
    path = own or place(os.fspath(source), "means")[0][0]
    held = _read(path)
    if path.suffix == ".ipynb":
        outputs = [out for cell in held.get("cells", []) for out in cell.get("outputs", [])]
        pages = ["".join(out.get("data", {}).get("text/html", "")) for out in outputs]
        held = {
            name: dict(zip(json.loads(around), json.loads(means), strict=True))
            for page in pages
            for name, means, around in _TRACE.findall(page)
        }
    rows = [
        {"model": model, "category": category.lower(), "score": score}
        for model, means in held.items()
        if isinstance(means, dict)
        for category, score in means.items()
        if isinstance(score, (int, float))
    ]
    if not rows:
        raise DataError(
            f"{path} holds no means; expected FastChat's radar notebook, or a JSON object"
            ' {"model": {"category": 7.5}}',
            path=path,
        )
    return pd.DataFrame(rows)


def load_lm_eval(path: str | os.PathLike[str]) -> pd.DataFrame:
    """What a results file of lm-evaluation-harness says: model, task, metric, value, n, low, high.

    A row per task and metric; `metric` is without the filter's name ("acc" for "acc,none"), `model`
    the last part of the name under which the harness ran it. low and high are 95 % by the
    harness's own standard error, n the questions asked; they are missing where it states none.
    `path` is its results_*.json, or the folder of one run, in which the newest counts. Raises
    DataMissing where nothing is there, DataError for a file without results.
    """
    path = Path(path)
    files = sorted(path.rglob("results*.json")) if path.is_dir() else [path]
    if not files or not files[-1].is_file():
        raise DataMissing(
            f"no results of lm-evaluation-harness are at {path}; give its results_*.json",
            source="own",
            path=path,
        )
    path, held = files[-1], _read(files[-1])
    if not isinstance(held.get("results"), dict) or not held["results"]:
        raise DataError(
            f"{path} has no results, only {', '.join(held) or 'nothing'}; expected a results_*.json"
            " of lm-evaluation-harness",
            path=path,
        )
    config = held.get("config") or {}
    ran = dict(re.findall(r"(\w+)=([^,]+)", str(config.get("model_args") or "")))
    name = held.get("model_name") or ran.get("pretrained") or ran.get("model") or path.stem
    rows = []
    for task, found in held["results"].items():
        asked = (held.get("n-samples") or {}).get(task) or {}
        for metric, value in found.items():
            kind, comma, how = metric.partition(",")
            if kind.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = found.get(f"{kind}_stderr{comma}{how}")
            reach = 1.959964 * error if isinstance(error, (int, float)) else float("nan")
            rows.append(
                {
                    "model": str(name).rstrip("/").rpartition("/")[2],
                    "task": task,
                    "metric": kind,
                    "value": float(value),
                    "n": asked.get("effective"),
                    "low": value - reach,
                    "high": value + reach,
                }
            )
    return pd.DataFrame(rows).astype({"n": "Int64"})


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); get the file again", path=path) from error
    if not isinstance(held, dict):
        raise DataError(f"{path} holds a {type(held).__name__}; expected an object", path=path)
    return held
