"""Which judgments are worth a look: judges disagree, an order flips, no verdict was read."""

from __future__ import annotations

import numpy as np
import pandas as pd

ONLY = {
    "differ": "judges disagree",
    "flips": "the order flips the verdict",
    "missing": "no verdict",
}
APART = 2.0  # points between two judges' mean scores of one answer that count as disagreement


def marks(judged: pd.DataFrame, case_of: np.ndarray) -> dict[str, np.ndarray]:
    """For each of ONLY which rows of games or scores belong to it; `case_of` numbers their cases.

    Judges disagree on a case where two of them, each by all that it said of it (a tie where its own
    games differ), favour different models, or give one answer scores two points apart. An order
    flips a verdict where one judge's games of one sample differ.
    """
    rows = judged.assign(case=case_of)
    if "model_a" not in rows.columns:
        mean = rows.groupby(["case", "model", "judge"], sort=False)["score"].mean()
        by_answer = mean.groupby(level=["case", "model"])
        apart = (by_answer.max() - by_answer.min()) >= APART
        differ = apart.reindex(pd.MultiIndex.from_frame(rows[["case", "model"]])).to_numpy()
        none = np.zeros(len(rows), dtype=bool)
        return {"differ": differ, "flips": none, "missing": rows["score"].isna().to_numpy()}
    won = rows["winner"].astype(object)
    for side in ("model_a", "model_b"):
        # Marked as a model, for one may be called "tie".
        won = won.mask(rows["winner"] == side, "model " + rows[side].astype(str))
    rows["won"] = won
    of_judge = rows.groupby(["case", "judge"], sort=False)["won"].transform("nunique")
    verdict = won.mask(won.notna() & (of_judge > 1), "tie")
    of_orders = rows.groupby(["case", "judge", "sample"], sort=False, dropna=False)["won"]
    return {
        "differ": (verdict.groupby(case_of).transform("nunique") > 1).to_numpy(),
        "flips": (of_orders.transform("nunique") > 1).to_numpy(),
        "missing": rows["winner"].isna().to_numpy(),
    }
