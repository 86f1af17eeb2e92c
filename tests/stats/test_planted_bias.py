"""Planted habits are found, and none where none are: benchmarks/coverage_bias.py, small."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
from support import benchmark

pytestmark = pytest.mark.slow

SEEDS = range(3)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "coverage", benchmark("coverage"))
        bias = benchmark("coverage_bias")
        every = pd.concat([bias.cells(seed, per_category=2) for seed in SEEDS])
        return bias.recovery(every)


def test_intervals_hold_what_is_planted(found):
    assert found["seeds"].unique().tolist() == [len(SEEDS)]
    assert found["held"].sum() / found["seeds"].sum() > 0.9


def test_where_nothing_is_planted_nothing_is_found(found):
    null = found[found["table"].str.startswith("nothing") & (found["planted"].abs() < 1e-9)]
    kinds = ("position_bias", "length_bias", "name_bias", "self_preference")
    assert all(null["table"].str.contains(kind).any() for kind in kinds)
    assert null["held"].sum() / null["seeds"].sum() > 0.85


def test_what_is_planted_is_found(found):
    planted = found[found["table"].str.startswith("planted") & (found["planted"].abs() > 0.1)]
    assert (planted["mean"] * planted["planted"] > 0).all()
    assert (planted["bias"].abs() < 6).mean() > 0.9
