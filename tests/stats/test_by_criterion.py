"""by="criterion": each criterion is estimated as if it were alone, by every estimator with `by`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lmjudge import stats
from lmjudge.errors import FrameError
from lmjudge.frames import resolve

WINNERS = ["model_a", "model_b", "tie"]


def games(criteria: tuple[str, ...] = ("clear", "kind")) -> pd.DataFrame:
    """Games of two judges in both orders, on 25 questions and each criterion."""
    draw = np.random.default_rng(7)
    rows = [
        {"question_id": q, "turn": 1, "model_a": a, "model_b": b, "judge": judge, "criterion": c}
        for q in range(25)
        for a, b in (("x", "y"), ("y", "x"))
        for judge in ("j/pair", "k/pair")
        for c in criteria
    ]
    made = pd.DataFrame(rows).assign(sample=0, score_a=np.nan, score_b=np.nan, reason=None)
    return made.assign(text="t", key="k", winner=draw.choice(WINNERS, len(made), p=[0.5, 0.3, 0.2]))


def scores() -> pd.DataFrame:
    rows = games().rename(columns={"model_a": "model"}).drop(columns=["model_b", "winner"])
    rows = rows.drop(columns=["score_a", "score_b"])
    return rows.assign(score=np.random.default_rng(8).integers(1, 11, len(rows)).astype(float))


GAMES, SCORES = games(), scores()
VOTES = resolve(GAMES)
PEOPLE = VOTES.assign(judge="expert_" + VOTES["judge"].str[0], group="expert")
ANSWERS = pd.DataFrame(
    {"question_id": [q for q in range(25) for _ in "xy"], "model": ["x", "y"] * 25, "sample": 0}
).assign(turns=[[f"{'w ' * (n % 7 + 1)}"] for n in range(50)])
BY = {
    "agreement": lambda by, of: stats.agreement(of(VOTES), of(PEOPLE), by=by),
    "kappa": lambda by, of: stats.kappa(
        of(VOTES[VOTES["judge"] == "j/pair"]), of(PEOPLE[PEOPLE["judge"] == "expert_k"]), by=by
    ),
    "ceiling": lambda by, of: stats.ceiling(of(PEOPLE), by=by),
    "compare_judges": lambda by, of: stats.compare_judges(of(VOTES), of(PEOPLE), by=by),
    "compare_models": lambda by, of: stats.compare_models(
        of(SCORES[SCORES["judge"] == "j/pair"]), baseline="x", by=by
    ),
    "position_bias": lambda by, of: stats.position_bias(of(GAMES), by=by),
    "repeatability": lambda by, of: stats.repeatability(of(GAMES), by=by),
    "length_bias": lambda by, of: stats.length_bias(of(VOTES), ANSWERS, by=by),
    "win_rates": lambda by, of: stats.win_rates(of(VOTES), by=by),
    "vote_shares": lambda by, of: stats.vote_shares(of(VOTES), by=by),
    "mean_scores": lambda by, of: stats.mean_scores(of(SCORES), by=by),
    "weighted_win_rates": lambda by, of: stats.weighted_win_rates(
        of(GAMES.assign(label="A>>B")), by=by
    ),
}


@pytest.mark.filterwarnings("ignore::lmjudge.errors.OrderFlips")
@pytest.mark.parametrize("estimate", BY.values(), ids=BY)
def test_each_criterion_is_estimated_as_if_it_were_alone(
    estimate: Callable[..., pd.DataFrame],
) -> None:
    together = estimate("criterion", lambda frame: frame)
    assert together["criterion"].drop_duplicates().tolist() == ["clear", "kind"]
    with pytest.raises(FrameError, match="about 2 criteria"):
        estimate([], lambda frame: frame)
    for criterion in ("clear", "kind"):

        def alone(frame: pd.DataFrame, of: str = criterion) -> pd.DataFrame:
            return frame[frame["criterion"] == of]

        part = together[together["criterion"] == criterion].drop(columns="criterion")
        pd.testing.assert_frame_equal(
            part.reset_index(drop=True),
            estimate([], alone).reset_index(drop=True),
            check_dtype=False,
        )


def test_peoples_one_vote_meets_every_criterion_and_strangers_none() -> None:
    people = PEOPLE[PEOPLE["criterion"] == "clear"].drop(columns="criterion")
    found = stats.agreement(VOTES, people, by=["judge", "criterion"])
    assert found[["judge", "criterion"]].values.tolist() == [
        [judge, criterion] for criterion in ("clear", "kind") for judge in ("j/pair", "k/pair")
    ]
    with pytest.raises(FrameError, match="no criterion in common"):
        stats.agreement(VOTES, PEOPLE.assign(criterion="wit"), by="criterion")
