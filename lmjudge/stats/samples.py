"""Several samples of one model's answers: ranked by rewards."""

from __future__ import annotations

import pandas as pd

from lmjudge.errors import FrameError
from lmjudge.frames import check

_KEY = ["question_id", "model", "sample"]


def rank_samples(answers: pd.DataFrame, rewards: pd.DataFrame) -> pd.DataFrame:
    """The answers with `reward` and `rank`: 1 is the highest reward among a model's samples.

    `rewards` has question_id, model, sample and reward. Ranks are within question and model; of
    equal rewards the lower sample comes first. Group r of the paper's Figure 4 (a, b) is the
    answers of rank r. Raises FrameError for missing columns, an answer without a reward (or with a
    reward that is no number), and for answers or rewards that stand twice. Source: arXiv
    2304.03277, section 4.2.

    >>> answers = pd.DataFrame({"question_id": 1, "model": "m", "turns": [["a"], ["b"], ["c"]],
    ...                         "sample": [0, 1, 2]})
    >>> rewards = answers.drop(columns="turns").assign(reward=[0.1, 2.0, -1.0])
    >>> rank_samples(answers, rewards)["rank"].tolist()
    [2, 1, 3]
    """
    answers = check(answers, "answers")
    if missing := [name for name in (*_KEY, "reward") if name not in rewards.columns]:
        raise FrameError(
            f"the rewards lack {', '.join(missing)}; they have {', '.join(map(str, rewards))}",
            columns=missing,
        )
    for frame in (answers, rewards):
        if (twice := frame.duplicated(_KEY)).any():
            raise FrameError(
                f"{int(twice.sum())} rows repeat a question, model and sample; give each once",
                rows=frame[twice],
            )
    known = rewards[_KEY].assign(reward=pd.to_numeric(rewards["reward"], errors="coerce"))
    ranked = answers.drop(columns="reward", errors="ignore").merge(known, how="left", on=_KEY)
    lost = ranked[~ranked["reward"].abs().lt(float("inf"))]
    if len(lost):
        raise FrameError(
            f"{len(lost)} of {len(ranked)} answers have no reward, such as {lost['model'].iloc[0]}"
            f" on question {lost['question_id'].iloc[0]}; give each answer its number",
            rows=lost,
        )
    order = ranked.sort_values(["reward", "sample"], ascending=[False, True], kind="stable")
    ranked["rank"] = order.groupby(["question_id", "model"], dropna=False).cumcount() + 1
    return ranked
