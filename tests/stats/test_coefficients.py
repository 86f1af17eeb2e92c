"""Coefficients of agreement: printed tables, peers' implementations, what must not matter."""

from __future__ import annotations

from itertools import product

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa, fleiss_kappa
from support import examples

from lmjudge.errors import FrameError
from lmjudge.frames import frame, swap
from lmjudge.stats import agreement, kappa

few = examples(15)
LABELS = ["model_a", "model_b", "tie", None]


def votes(table, judges="0123456789"):
    """Votes from a table of label numbers: a row per key, a column per judge; 3 is no verdict."""
    rows = [
        {"question_id": q, "turn": 1, "model_a": "m", "model_b": "n", "judge": judge}
        | {"group": "expert", "winner": LABELS[label], "reason": None, "time": None}
        for q, labels in enumerate(table)
        for judge, label in zip(judges, labels, strict=False)
    ]
    return frame("votes", rows)


def value(*frames, **more):
    return kappa(*frames, sides="named", **more)["kappa"].iloc[0]


def two(counts):
    """Two judges' votes from the table of how often each said what."""
    pairs = [pair for pair, n in np.ndenumerate(np.asarray(counts)) for _ in range(n)]
    return votes([[a] for a, _ in pairs]), votes([[b] for _, b in pairs])


def test_cohens_kappa_of_a_known_table_and_its_large_sample_error():
    # 20, 5, 10, 15 of 50: observed 0.70, expected 0.50, kappa 0.40.
    x, y = two([[20, 5], [10, 15]])
    found = kappa(x, y, sides="named").iloc[0]
    assert (found["observed"], found["expected"]) == pytest.approx((0.7, 0.5))
    assert found["kappa"] == pytest.approx(0.4)
    known = cohens_kappa(np.array([[20, 5], [10, 15]]))
    assert (found["low"], found["high"]) == pytest.approx(
        (known.kappa_low, known.kappa_upp), abs=0.05
    )


def test_fleiss_kappa_of_the_printed_table():
    # Ten subjects, fourteen raters, five categories, kappa 0.210 (Wikipedia, "Fleiss' kappa").
    # Votes have three labels, so that statsmodels, which meets it, is met on its last three pooled.
    five = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(np.array(five)) == pytest.approx(0.210, abs=5e-4)
    three = np.array([[a, b, c + d + e] for a, b, c, d, e in five])
    table = [np.repeat([0, 1, 2], row).tolist() for row in three]
    found = value(votes(table, judges="abcdefghijklmn"))
    assert found == pytest.approx(fleiss_kappa(three), abs=1e-12)


def test_krippendorffs_alpha_of_the_printed_example():
    # The example with two observers and ten units of two values in Krippendorff (2011): 0.095.
    one, two_ = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    found = value(votes(list(zip(one, two_, strict=True))), coefficient="alpha")
    assert found == pytest.approx(0.095, abs=5e-4)


def test_ac1_of_the_printed_example():
    # Gwet's example of the paradox: 118 of 125 agreed; AC1 0.941 where kappa is below nothing.
    x, y = two([[118, 5], [2, 0]])
    assert value(x, y, coefficient="ac1", ties="drop") == pytest.approx(0.941, abs=5e-4)
    assert value(x, y, ties="drop") == pytest.approx(-0.0234, abs=5e-4)


tables = st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=25)


@few
@given(tables)
def test_alpha_is_that_of_the_krippendorff_package(table):
    labels = np.where(np.equal(table, 3), np.nan, table).T
    units = np.isfinite(labels).sum(axis=0) > 1
    if len(np.unique(labels[:, units][np.isfinite(labels[:, units])])) < 2:
        return
    wanted = krippendorff.alpha(labels, level_of_measurement="nominal")
    assert value(votes(table), coefficient="alpha") == pytest.approx(wanted, abs=1e-8)


@few
@given(tables)
def test_cohen_is_scikit_learns_and_fleiss_statsmodels(table):
    table = np.minimum(table, 2)
    x, y = votes(table[:, :1]), votes(table[:, 1:2])
    if len(np.unique(table[:, :2])) > 1:
        wanted = cohen_kappa_score(table[:, 0], table[:, 1])
        assert value(x, y) == pytest.approx(wanted, abs=1e-8, nan_ok=True)
    if len(np.unique(table)) > 1:
        counts = np.stack([(table == label).sum(axis=1) for label in range(3)], axis=1)
        assert value(votes(table)) == pytest.approx(fleiss_kappa(counts), abs=1e-8)


@few
@given(tables, st.sampled_from(["fleiss", "ac1", "alpha"]), st.sampled_from(["keep", "drop"]))
def test_names_sides_and_order_do_not_matter(table, coefficient, ties):
    x = votes(table)
    more = {"coefficient": coefficient, "ties": ties}
    once = kappa(x, **more)
    pd.testing.assert_frame_equal(once, kappa(swap(x).sample(frac=1, random_state=1), **more))
    other = x.replace({"model_a": {"m": "z"}})
    pd.testing.assert_frame_equal(once, kappa(other, **more))


def test_even_sides_expect_what_agreement_calls_random():
    rng = np.random.default_rng(1)
    x, y = votes(rng.choice(3, (50, 1))), votes(rng.choice(3, (50, 1)))
    found, met = kappa(x, y).iloc[0], agreement(x, y).iloc[0]
    assert found["observed"] == pytest.approx(met["agreement"])
    assert found["expected"] == pytest.approx(met["random_marginal"])


@pytest.mark.parametrize("coefficient", ["fleiss", "ac1", "alpha"])
def test_copying_questions_narrows_by_the_root_of_two(coefficient):
    rng = np.random.default_rng(2)
    table = rng.choice(3, (60, 3), p=[0.6, 0.2, 0.2])
    once = kappa(votes(table), coefficient=coefficient).iloc[0]
    twice = kappa(votes(np.vstack([table, table])), coefficient=coefficient).iloc[0]
    assert twice["kappa"] == pytest.approx(once["kappa"], abs=0.01)
    ratio = (once["high"] - once["low"]) / (twice["high"] - twice["low"])
    assert ratio == pytest.approx(np.sqrt(2), rel=0.03)
    inside = votes(table).assign(turn=2)
    both = kappa(pd.concat([votes(table), inside]), coefficient=coefficient).iloc[0]
    assert both["high"] - both["low"] == pytest.approx(once["high"] - once["low"], rel=0.02)


def test_a_jackknife_by_hand():
    rng = np.random.default_rng(3)
    table = rng.choice(3, (15, 3), p=[0.6, 0.2, 0.2])
    whole = kappa(votes(table)).iloc[0]
    left = [kappa(votes(np.delete(table, q, axis=0)))["kappa"].iloc[0] for q in range(15)]
    error = np.sqrt(14 / 15 * ((np.array(left) - whole["kappa"]) ** 2).sum())
    half = (whole["high"] - whole["low"]) / 2
    assert half == pytest.approx(2.145 * error, rel=0.15)  # Student's quantile, 14 degrees


def test_what_cannot_be_known_is_missing():
    same = kappa(votes([[0, 0]] * 8), sides="named").iloc[0]
    assert np.isnan(same["kappa"])
    even = kappa(votes([[0, 0]] * 8)).iloc[0]
    assert even["kappa"] == 1
    assert 0 < even["low"] < 1
    assert even["high"] == 1
    assert even["too_few"]
    none = kappa(frame("votes")).iloc[0]
    assert none["n"] == 0
    assert np.isnan(none["kappa"])
    alone = kappa(votes([[0, 1], [0, 3], [3, 3]])).iloc[0]
    assert (alone["n"], alone["no_verdict"]) == (1, 3)
    assert np.isnan(alone["low"])


def test_by_turn_and_bad_votes():
    x = pd.concat([votes([[0, 0], [1, 0]]), votes([[2, 3], [1, 1]]).assign(turn=2)])
    found = kappa(x, by="turn")
    assert found["turn"].tolist() == [1, 2]
    assert found["no_verdict"].tolist() == [0, 1]
    with pytest.raises(FrameError, match="several votes in one frame"):
        kappa(x, x)
    with pytest.raises(FrameError, match="share no question"):
        kappa(votes([[0]]), votes([[0]]).assign(turn=2))
    with pytest.raises(FrameError, match="no question_id"):
        kappa(x.assign(question_id=None))
    with pytest.raises(ValueError, match="between two judges"):
        kappa(x, coefficient="cohen")
    with pytest.raises(
        ValueError, match="coefficient is 'kappa'; expected 'cohen', 'fleiss', 'ac1' or 'alpha'"
    ):
        kappa(x, coefficient="kappa")


@pytest.mark.slow
def test_intervals_cover():
    rng = np.random.default_rng(7)
    # The same three labels for everybody with chance one half, else at random: Fleiss' 1/4.
    held = dict.fromkeys(("fleiss", "alpha"), 0)
    studies = 120
    for _ in range(studies):
        shared = rng.choice(3, (40, 1))
        own = rng.choice(3, (40, 3))
        x = votes(np.where(rng.random((40, 3)) < 0.5, shared, own))
        for coefficient in held:
            found = kappa(x, coefficient=coefficient, sides="named").iloc[0]
            held[coefficient] += found["low"] <= 0.25 <= found["high"]
    assert all(0.9 <= count / studies <= 0.995 for count in held.values()), held


def test_a_null_judge_agrees_by_chance():
    rng = np.random.default_rng(9)
    x = votes(rng.choice(3, (400, 1)))
    for q, j in product(range(2), range(2)):
        found = kappa(
            x, votes(rng.choice(3, (400, 1), p=[0.6 - q / 5, 0.2 + j / 5, 0.2 + q / 5 - j / 5]))
        ).iloc[0]
        assert found["low"] - 0.03 < 0 < found["high"] + 0.03
