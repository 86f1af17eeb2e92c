"""What must not matter to any estimator, and what must: order, sides, copies, shards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmjudge.frames import frame, swap
from lmjudge.stats import (
    agreement,
    ceiling,
    compare_judges,
    compare_models,
    kappa,
    majority,
    mean_scores,
    scores_as_votes,
    self_preference,
    win_rates,
)

QUESTIONS = 60


def votes(seed=0, judges="xyz"):
    rng = np.random.default_rng(seed)
    rows = []
    for q in range(QUESTIONS):
        hard = rng.normal()
        for turn in (1, 2):
            for pair in (("m", "n"), ("n", "o")):
                for judge in judges:
                    won = rng.random() < 1 / (1 + np.exp(-hard - 0.3))
                    winner = rng.choice(
                        ["model_a" if won else "model_b", "tie", None], p=[0.7, 0.2, 0.1]
                    )
                    rows.append((q, turn, *pair, judge, winner))
    names = ["question_id", "turn", "model_a", "model_b", "judge", "winner"]
    made = pd.DataFrame(rows, columns=names).assign(group="expert", reason=None, time=None)
    return frame("votes", made.to_dict("list"))


def scores(seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        {"question_id": q, "turn": turn, "model": model, "judge": "j", "sample": 0}
        | {"score": score, "reason": None, "text": "", "key": ""}
        for q in range(QUESTIONS)
        for hard in [rng.normal()]
        for turn in (1, 2)
        for model, more in (("m", 0.4), ("n", 0.0))
        for score in [float(np.clip(np.rint(7 + hard + more + rng.normal()), 1, 10))]
    ]
    return frame("scores", rows)


def split(votes):
    return votes[votes["judge"] == "x"], votes[votes["judge"] != "x"]


ON_VOTES = {
    "win_rates": lambda v: win_rates(v),
    "opponents": lambda v: win_rates(v, pool="opponents"),
    "within": lambda v: agreement(v),
    "between": lambda v: agreement(*split(v)),
    "questions": lambda v: agreement(*split(v), pool="questions"),
    "ceiling": lambda v: ceiling(v),
    "kappa": lambda v: kappa(v),
    "own": lambda v: self_preference(v, own={"x": "m", "y": "n", "z": "o"}),
    "judges": lambda v: compare_judges(v[v["judge"] != "z"], v[v["judge"] == "z"]),
}
ON_SCORES = {"means": mean_scores, "models": compare_models}


@pytest.mark.parametrize("name", [*ON_VOTES, *ON_SCORES])
def test_order_and_sides_do_not_matter(name):
    estimator, given = (ON_VOTES | ON_SCORES)[name], votes() if name in ON_VOTES else scores()
    other = given.sample(frac=1, random_state=3)
    if name in ON_VOTES:
        some = other.index[::2]
        other.loc[some] = swap(other.loc[some])
    pd.testing.assert_frame_equal(estimator(given), estimator(other))


@pytest.mark.parametrize("name", [*ON_VOTES, *ON_SCORES])
def test_whole_questions_copied_narrow_by_the_root_of_two(name):
    estimator, given = (ON_VOTES | ON_SCORES)[name], votes() if name in ON_VOTES else scores()
    copied = given.assign(question_id=given["question_id"] + QUESTIONS)
    once, twice = estimator(given), estimator(pd.concat([given, copied], ignore_index=True))
    ratio = (once["high"] - once["low"]) / (twice["high"] - twice["low"])
    assert ratio.tolist() == pytest.approx([np.sqrt(2)] * len(ratio), rel=0.03)
    value = next(c for c in once if once[c].dtype == float)
    assert twice[value].tolist() == pytest.approx(once[value].tolist())


@pytest.mark.parametrize("name", ["win_rates", "opponents", "within", "between", "judges", "own"])
def test_rows_repeated_inside_their_questions_never_narrow_intervals(name):
    given = votes()
    again = given.assign(turn=given["turn"] + 10)
    once = ON_VOTES[name](given)
    twice = ON_VOTES[name](pd.concat([given, again], ignore_index=True))
    if "model" in once:
        # n meets both others, so that its wins even out within a question: its interval is that of
        # independent rows, the narrowest that shares are given, and more rows narrow it.
        once, twice = once[once["model"] != "n"], twice[twice["model"] != "n"]
    wider = (twice["high"] - twice["low"]) / (once["high"] - once["low"])
    assert wider.between(1 - 1e-9, 1.02).all()


def test_shards_merge_to_the_whole():
    given = votes()
    shards = [given[given["question_id"] % 3 == i] for i in range(3)]
    counts = ["wins", "ties", "losses", "n", "no_verdict"]
    parts = sum(win_rates(shard).set_index("model")[counts] for shard in shards)
    pd.testing.assert_frame_equal(parts, win_rates(given).set_index("model")[counts])
    merged = pd.concat([majority(shard) for shard in shards])
    key = ["question_id", "turn", "model_a", "model_b"]
    both = [made.sort_values(key, ignore_index=True) for made in (merged, majority(given))]
    pd.testing.assert_frame_equal(*both)


def test_a_majority_of_one_is_that_one():
    one = votes(judges="x")
    made = majority(one)
    assert agreement(one, made)["agreement"].iloc[0] == 1
    assert made["winner"].isna().sum() == one["winner"].isna().sum()


def test_grades_and_their_votes_say_the_same():
    said = scores_as_votes(scores())
    means = mean_scores(scores()).set_index("model")["score"]
    rates = win_rates(said).set_index("model")["win_rate"]
    assert (means["m"] > means["n"]) == (rates["m"] > rates["n"])


def test_nothing_one_game_and_all_ties():
    none = frame("votes")
    for name, estimator in ON_VOTES.items():
        if name not in ("judges", "own"):  # which refuse it
            made = estimator(none)
            assert made["n"].sum() == 0, name
    one = votes()[:1].assign(winner="model_a")
    alone = win_rates(one).set_index("model")
    assert alone.loc["m", "win_rate"] == 1
    assert np.isnan(alone.loc["m", "low"])
    assert alone["too_few"].all()
    ties = votes().assign(winner="tie")
    assert agreement(ties)["agreement"].iloc[0] == 1
    assert np.isnan(kappa(ties)["kappa"].iloc[0])
    assert win_rates(ties)["win_rate"].tolist() == [0.5] * 3
    assert win_rates(ties, ties="drop")["n"].tolist() == [0] * 3
    assert ceiling(ties, ties="drop")["n"].tolist() == [0] * 3
