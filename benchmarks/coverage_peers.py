"""The intervals of GLIDE and CJE on studies that coverage_judges.py drew: an environment of its own.

    PYTHON benchmarks/coverage_peers.py STUDIES.npz

where PYTHON has `glide-py` and `cje-eval` (their own releases, called as their documents show).
STUDIES.npz holds human (studies, questions; missing where nobody voted), judge (the same shape)
and truth. Prints counts by package as JSON. GLIDE takes the means of questions as its clusters.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version

import numpy as np


def glide(human: np.ndarray, judge: np.ndarray) -> tuple[float, float]:
    from glide.estimators import ClusteredPPIMeanEstimator

    found = ClusteredPPIMeanEstimator().estimate(human, judge, np.arange(len(human)))
    return found.confidence_interval.lower_bound, found.confidence_interval.upper_bound


def cje(human: np.ndarray, judge: np.ndarray) -> tuple[float, float]:
    from cje import analyze_dataset

    rows = [
        {"prompt_id": str(at), "judge_score": float(said)}
        | ({} if np.isnan(label) else {"oracle_label": float(label)})
        for at, (said, label) in enumerate(zip(judge, human, strict=True))
    ]
    low, high = analyze_dataset(fresh_draws_data={"x": rows}).confidence_interval(0.05)
    return float(low[0]), float(high[0])


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    studies = np.load(sys.argv[1])
    told = {}
    for package, of, peer in (("glide-py", "GLIDE", glide), ("cje-eval", "CJE", cje)):
        counts = {"studies": 0, "held": 0, "missing": 0, "flagged": 0, "width": 0.0}
        for human, judge in zip(studies["human"], studies["judge"], strict=True):
            try:
                low, high = peer(human, judge)
            except ValueError:  # it refuses the study
                low = high = np.nan
            counts["studies"] += 1
            counts["held"] += int(low <= studies["truth"] <= high)
            counts["missing"] += int(np.isnan(low) or np.isnan(high))
            counts["width"] += float(np.nan_to_num(high - low))
        try:
            name = f"{of} {version(package)}"
        except PackageNotFoundError:  # an unpacked wheel
            name = of
        told[name] = counts
    print(json.dumps(told))


if __name__ == "__main__":
    main()
