from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracle import everything, planted, recovered
from scipy.stats import norm
from support import benchmark

import lmjudge as lj
from lmjudge.printed import TABLE_COLUMNS, published, stems
from lmjudge.simulation import JUDGES, MODELS, VOTERS, SimulatedJudge, Study
from lmjudge.simulation.planted import CATEGORIES

ROOT = Path(__file__).parents[2]


COVERAGE = benchmark("coverage")


@pytest.fixture(scope="module")
def small() -> Study:
    return lj.simulate(seed=5, per_category=2)


def test_human_agreement_has_its_closed_form(small):
    noise, contested = VOTERS[0].noise, small.plan.contested
    s1 = (1 - noise) ** 2 + noise**2 / 2
    clear = (1 - contested) * ((1 - noise) ** 2 + noise**2 / 4)
    s2 = (clear + contested * noise**2 / 2) / (
        (1 - contested) * (1 - noise / 2) ** 2 + contested * noise**2
    )
    for ties, expected in (("keep", s1), ("drop", s2)):
        found = planted(small, "agreement", voters=("expert", "expert"), ties=ties)
        assert found["planted"].tolist() == pytest.approx([expected], abs=1e-12)


def test_win_rates_of_a_sure_judge_have_their_closed_form():
    study = lj.simulate(seed=0, per_category=1, models=MODELS[:2], judges=(SimulatedJudge("j", 1),))
    plan = study.plan
    gaps = np.subtract(MODELS[0].points, MODELS[1].points)
    wins = norm.cdf(gaps / (np.sqrt(2) * plan.answer_spread)).mean()
    expected = (1 - plan.contested) * wins + plan.contested / 2
    found = planted(study, "win_rates", voters="j")
    assert found["planted"].tolist() == pytest.approx([expected, 1 - expected])


def test_expected_grades_match_numeric_integration(small):
    judge = replace(JUDGES[0], verbosity_bias=0.0)
    study = lj.simulate(seed=0, per_category=1, judges=(judge,))
    found = planted(study, "mean_scores", judge=judge.name, by=["model", "category"])
    plan = study.plan
    spread = np.sqrt(plan.question_spread**2 + plan.answer_spread**2 + judge.spread**2)
    grid = np.linspace(-9, 9, 200_001)
    weight = norm.pdf(grid) * (grid[1] - grid[0])
    for row in found.itertuples():
        model = next(model for model in MODELS if model.name == row.model)
        latent = model.points[CATEGORIES.index(row.category)] + judge.leniency + spread * grid
        expected = (np.clip(np.rint(latent), 1, 10) * weight).sum()
        assert row.planted == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_a_large_study_finds_the_truth():
    study = lj.simulate(seed=11, per_category=30)
    ask = {"store": COVERAGE.Memory(), "endpoint": study.endpoint}
    games = [
        lj.judge_pairs(study.pairings, lj.Judge("pair", model=name), **ask) for name in study.judges
    ]
    votes = [lj.resolve(played) for played in games]
    sure = {"level": 0.99999}
    one, two = study.judges
    both = [
        recovered(lj.agreement(*votes, **sure), planted(study, "agreement", voters=(one, two))),
        *(
            recovered(
                lj.position_bias(played, by=(), **sure),
                planted(study, "position_bias", judge=name, by=()),
            )
            for name, played in zip(study.judges, games, strict=True)
        ),
        *(
            recovered(lj.win_rates(vote, **sure), planted(study, "win_rates", voters=name))
            for name, vote in zip(study.judges, votes, strict=True)
        ),
    ]
    whole = pd.concat(both)
    assert (whole["low"] < whole["planted"]).all()
    assert (whole["planted"] < whole["high"]).all()


@pytest.mark.slow
def test_intervals_hold_the_planted_values():
    made = COVERAGE.coverage(range(5), per_category=4)
    assert len(made) > 200
    assert made["fits"].all(), made[~made["fits"]].to_string()
    assert 0.93 < made["held"].sum() / made["seeds"].sum() < 0.99


# Nothing planted was published.

LIKE = {  # what is measured in the units of a published table, and by what factor
    "mtbench-agreement": {"agreement": 100},
    "mtbench-scores": {"mean_scores": 1},
    "vicuna-scores": {"score_totals": 1, "relative_quality": 1},
}


def test_no_planted_value_is_a_published_one():
    study = lj.simulate()
    inputs = [
        float(value)
        for planted in (*study.plan.models, *study.plan.judges, *study.plan.voters, study.plan)
        for field in fields(planted)
        for value in np.atleast_1d(np.array(getattr(planted, field.name), dtype=object))
        if isinstance(value, float) and value
    ]
    grades = {f"{float(cell):.2f}" for cell in published("mtbench-scores")["printed"]}
    assert not grades & {f"{points:.2f}" for model in MODELS for points in model.points}
    truth = everything(study)
    for stem in stems():
        printed = published(stem)["printed"]
        # Of one or two digits, some number is printed somewhere: that says nothing.
        exact = {float(cell) for cell in printed if len(cell.strip("+-0.").replace(".", "")) > 2}
        shares = {value for cell in exact for value in (cell, cell / 100 if cell <= 100 else cell)}
        same = shares & {value for value in inputs if value != 1}
        assert len(same) < 3 + len(printed) // 50, (stem, same)  # among hundreds, chance
        for quantity, factor in LIKE.get(stem, {}).items():
            values = truth.loc[truth["quantity"] == quantity, "value"] * factor
            for cell in printed:
                digits = 2 if stem == "mtbench-scores" else len(cell.partition(".")[2])
                near = {f"{v:.{digits}f}" for v in values}
                assert digits < 2 or f"{float(cell):.{digits}f}" not in near, cell


def test_tables_say_simulated_and_bear_no_papers_title(small):
    found = planted(small, "win_rates", voters="expert")
    votes = small.votes[(small.votes["group"] == "expert") & (small.votes["turn"] == 1)]
    table = recovered(lj.win_rates(votes), found)
    assert set(table["basis"]) == {"simulated"}
    titles = {title for stem in stems() for title in published(stem)["table"]}
    assert not titles & set(table["table"])
    assert list(table.columns) == [*TABLE_COLUMNS, "planted", "of"]


def test_the_truth_at_a_glance(small):
    truth = everything(small)
    assert list(truth.columns) == ["quantity", "row", "column", "value", "how"]
    assert truth["value"].notna().all()
    assert not truth.duplicated(["quantity", "row", "column"]).any()
