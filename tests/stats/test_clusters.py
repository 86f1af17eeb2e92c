"""Crossed clusters and pairs of voters: variances against sums over all pairs of comparisons."""

from __future__ import annotations

import json
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit
from support import benchmark

import lmjudge as lj
from lmjudge.errors import FrameError
from lmjudge.frames import frame
from lmjudge.stats.intervals import cluster_names

SIDES = ["model_a", "model_b", "tie", None]


def drawn(seed: int, voters: int = 7, questions: int = 24, group: str = "crowd") -> pd.DataFrame:
    """Votes of named people with tastes, some missing, on two models of three a question."""
    rng = np.random.default_rng(seed)
    taste = rng.normal(size=(voters, 3))
    rows = []
    for question in range(questions):
        a, b = rng.permutation(3)[:2]
        for voter in rng.permutation(voters)[: rng.integers(2, voters + 1)]:
            gap = rng.normal() + taste[voter, a] - taste[voter, b]
            said = 3 if rng.random() < 0.1 else 2 if abs(gap) < 0.2 else int(gap < 0)
            rows.append((question, "xyz"[a], "xyz"[b], f"{group}{voter}", group, SIDES[said]))
    names = ["question_id", "model_a", "model_b", "judge", "group", "winner"]
    empty = {"turn": 1, "reason": None, "time": None}
    return frame("votes", pd.DataFrame(rows, columns=names).assign(**empty))


def compared(
    x: pd.DataFrame, y: pd.DataFrame | None
) -> list[tuple[int, set[str], float, frozenset[str]]]:
    """The question, the voters, the agreement and the models of each comparison, one by one."""
    sides = [rows.to_dict("records") for rows in (x, x if y is None else y)]
    pairs = combinations(sides[0], 2) if y is None else product(*sides)
    made = []
    for one, two in pairs:
        same = {one["model_a"], one["model_b"]} == {two["model_a"], two["model_b"]}
        if not same or one["question_id"] != two["question_id"]:
            continue
        if pd.isna(one["winner"]) or pd.isna(two["winner"]):
            continue
        named = [row.get(row["winner"], "tie") for row in (one, two)]
        people = {row["judge"] for row in (one, two) if row["group"] != "llm"}
        pair = frozenset((one["model_a"], one["model_b"]))
        made.append((one["question_id"], people, float(named[0] == named[1]), pair))
    return made


def by_loops(met: list[tuple[int, set[str], float, frozenset[str]]]) -> tuple[float, float]:
    """The variance, crossed of questions and voters, and the least of its degrees of freedom."""
    n = len(met)
    value = sum(agreed for _, _, agreed, _ in met) / n

    def total(label: object) -> tuple[float, float]:
        """The sum of squared pulls of clusters over 1 - share, and Satterthwaite's degrees."""
        parts: dict[object, list[float]] = {}
        for at, (question, people, agreed, _) in enumerate(met):
            for name in label(at, question, people):
                parts.setdefault(name, []).append(agreed - value)
        if not parts:
            return 0.0, np.nan
        squares = sum((sum(part) / n) ** 2 / (1 - len(part) / n) for part in parts.values())
        pairs = [a * b for part in parts.values() for a, b in combinations(part, 2)]
        rows = [a for part in parts.values() for a in part]
        alike = float(np.clip(np.mean(pairs or [0.0]) / np.mean(np.square(rows)), 0, 1))
        k = np.array([len(part) for part in parts.values()])
        h = k / k.sum()
        varies = np.diag(k * (1 - alike) + alike * k**2)
        apart = np.eye(len(k)) - np.outer(h, np.ones(len(k)))
        form = apart.T @ np.diag(1 / (1 - h)) @ apart @ varies
        return squares, np.trace(form) ** 2 / np.trace(form @ form)

    def two(people: set[str]) -> list[object]:
        return [frozenset(people)] if len(people) == 2 else []

    question, dof_q = total(lambda at, q, p: [q])
    voter, dof_v = total(lambda at, q, p: p or [at])
    dyad, _ = total(lambda at, q, p: two(p))
    within, _ = total(lambda at, q, p: [(q, name) for name in p] or [(q, at)])
    both, _ = total(lambda at, q, p: [(q, name) for name in two(p)])
    crossed = question + (voter - dyad) - (within - both)
    return max(crossed, question, voter - dyad), min(dof_q, dof_v)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["within", "people", "judge"])
def test_agreement_has_the_dyadic_variance_of_its_pairs_of_voters(seed: int, kind: str) -> None:
    x = drawn(seed)
    y = {"within": None, "people": drawn(seed + 50, group="expert"), "judge": None}[kind]
    if kind == "judge":
        y = (
            drawn(seed + 90, voters=2)
            .query("judge == 'crowd0'")
            .assign(judge="gpt-4/pair", group="llm")
        )
    met = compared(x, y)
    found = lj.agreement(x, y).iloc[0]
    variance, dof = by_loops(met)
    p = found["agreement"]
    assert p == pytest.approx(np.mean([agreed for _, _, agreed, _ in met]), abs=1e-12)
    rows = pd.DataFrame({"agreed": [row[2] for row in met], "pair": [row[3] for row in met]})
    apart = rows["agreed"] - rows.groupby("pair")["agreed"].transform("mean")
    n = p * (1 - p) / max(variance, (apart**2).sum() / len(met) ** 2)
    n *= (stats.norm.ppf(0.975) / stats.t.ppf(0.975, dof)) ** 2
    z = stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert found["low"] == pytest.approx(middle - half, abs=1e-8)
    assert found["high"] == pytest.approx(middle + half, abs=1e-8)


def test_clusters_are_questions_and_people_who_vote_often() -> None:
    votes = drawn(1)
    assert cluster_names(votes) == ["question_id", "judge"]
    assert cluster_names(votes, by=["judge"]) == ["question_id"]
    assert cluster_names(votes.assign(group="llm")) == ["question_id"]
    assert cluster_names(votes.assign(judge=None)) == ["question_id"]
    once = votes.assign(judge=[f"v{at}" for at in range(len(votes))])
    assert cluster_names(once) == ["question_id"]
    assert cluster_names(drawn(1, voters=4)) == ["question_id"]
    assert cluster_names(votes, "judge") == ["judge"]
    with pytest.raises(FrameError, match="expected one or two"):
        cluster_names(votes, ["question_id", "judge", "turn"])


ESTIMATORS = {
    "agreement": lambda v, **how: lj.agreement(v, **how),
    "kappa": lambda v, **how: lj.kappa(v, **how),
    "alpha": lambda v, **how: lj.kappa(v, coefficient="alpha", **how),
    "ceiling": lambda v, **how: lj.ceiling(v, **how),
    "win_rates": lambda v, **how: lj.win_rates(v, **how),
    "vote_shares": lambda v, **how: lj.stats.vote_shares(v, **how),
    "compare_judges": lambda v, **how: lj.compare_judges(_judges(v), v, **how),
}


def _judges(votes: pd.DataFrame) -> pd.DataFrame:
    keys = votes.drop_duplicates("question_id").assign(group="llm")
    said = [["model_a", "tie", "model_b"][at % 3] for at in range(len(keys))]
    return pd.concat(
        [keys.assign(judge="i/p", winner="model_a"), keys.assign(judge="j/p", winner=said)]
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_voters_widen_intervals_and_move_nothing_else(name: str) -> None:
    votes = drawn(3, voters=9, questions=40)
    by_question = ESTIMATORS[name](votes, cluster="question_id")
    crossed = ESTIMATORS[name](votes)
    named = ESTIMATORS[name](votes, cluster=["question_id", "judge"])
    ends = ["low", "high", "too_few", "p_value", "p_holm"]
    same = [column for column in crossed.columns if column not in ends]
    pd.testing.assert_frame_equal(by_question[same], crossed[same])
    if name != "compare_judges":  # the judges there are fixed unless they are named as clusters
        pd.testing.assert_frame_equal(crossed, named)
    wide, narrow = (made["high"] - made["low"] for made in (crossed, by_question))
    assert (wide >= narrow - 1e-9).all()
    assert (wide > 1.02 * narrow).any()
    passages = votes.assign(passage=votes["question_id"] // 2)
    assert len(ESTIMATORS[name](passages, cluster="passage")) == len(crossed)
    with pytest.raises(FrameError, match="expected one or two"):
        ESTIMATORS[name](votes, cluster="nothing")


@pytest.mark.slow
def test_intervals_hold_where_voters_have_tastes() -> None:
    """Seven voters with tastes on forty questions: by question 60 of 100 hold, crossed 90."""
    rng = np.random.default_rng(0)
    held = {"question_id": 0, None: 0}
    for _ in range(150):
        taste = rng.normal(size=(12, 1))
        odds = 0.3 + taste + 0.7 * rng.normal(size=(1, 40))
        won = rng.random((12, 40)) < 1 / (1 + np.exp(-odds))
        voter, question = (part.ravel() for part in np.indices(won.shape))
        winner = np.where(won.ravel(), "model_a", "model_b")
        votes = pd.DataFrame(
            {"question_id": question, "judge": voter.astype(str), "winner": winner}
        )
        votes = votes.assign(
            turn=1, model_a="x", model_b="y", group="crowd", reason=None, time=None
        )
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        true = weights @ (1 / (1 + np.exp(-(0.3 + np.hypot(1, 0.7) * nodes)))) / weights.sum()
        for cluster in held:
            row = lj.win_rates(votes, cluster=cluster).iloc[0]
            held[cluster] += row["low"] <= true <= row["high"]
    assert held[None] >= 0.9 * 150
    assert held["question_id"] < 0.7 * 150


def test_kept_results_hold_where_voters_have_tastes() -> None:
    """Every default interval holds 93 of 100 or more, or says too_few; page and files agree."""
    crossed = benchmark("coverage_crossed")
    files = sorted(crossed.RESULTS.glob("crossed-*.json"))
    assert files
    for path in files:
        for name, found in json.loads(path.read_text())["quantities"].items():
            assert found["missing"] == 0, (path.name, name)
            flagged = found["flagged"] > 0.5 * found["studies"]
            if name not in ("win rate, by question alone", "alpha, sides named") and not flagged:
                assert found["held"] >= 0.93 * found["studies"], (path.name, name)
    assert (crossed.RESULTS / "coverage-crossed.md").read_text() == crossed.page() + "\n"
    page = (crossed.RESULTS.parents[1] / "docs" / "coverage.md").read_text()
    assert crossed.summary() in page


@pytest.mark.slow
def test_a_cell_of_the_crossed_grid_is_counted() -> None:
    crossed = benchmark("coverage_crossed")
    cell = crossed.run((20, 20, 5), 0.5, 20)
    assert {found["studies"] for found in cell["quantities"].values()} == {20}
    assert cell["quantities"]["win rate"]["held"] >= 16
    truth = quad(lambda z: stats.norm.pdf(z) * (expit(0.5 + z) ** 2 + expit(-0.5 - z) ** 2), -9, 9)
    assert crossed.agreeing(0.0) == pytest.approx(truth[0], abs=1e-8)
    assert crossed.fitted(0.0)[0] == pytest.approx(-crossed.fitted(0.0)[3], abs=1e-9)


@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_voters_who_vote_several_times_on_a_question_count_once_there(
    ties: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled sums of questions, voters and both are those of the plain ones."""
    pytest.importorskip("numba")
    votes = pd.concat([drawn(seed, questions=30) for seed in range(4)], ignore_index=True)
    assert votes.duplicated(["question_id", "judge"]).mean() > 0.3
    fast = lj.bradley_terry(votes, ties=ties)
    monkeypatch.setattr("lmjudge.stats.sandwich.compiled", lambda: None)
    pd.testing.assert_frame_equal(lj.bradley_terry(votes, ties=ties), fast, rtol=1e-9)


def test_a_bootstrap_draws_questions_and_voters() -> None:
    votes = pd.concat([drawn(seed, voters=12, questions=40) for seed in range(3)])
    width = {}
    for cluster in ("question_id", "judge", ["question_id", "judge"]):
        made = lj.bradley_terry(votes, cluster=cluster, n_boot=400)
        plain = lj.bradley_terry(votes, cluster=cluster)
        width[str(cluster)] = (made["high"] - made["low"]).mean()
        again = lj.bradley_terry(votes, cluster=cluster, n_boot=400)
        pd.testing.assert_frame_equal(made, again)
        ratio = width[str(cluster)] / (plain["high"] - plain["low"]).mean()
        assert 0.75 < ratio < 1.45, (cluster, ratio)
    both = width.pop("['question_id', 'judge']")
    assert both > 1.05 * max(width.values())
    default = lj.bradley_terry(votes, n_boot=400)
    assert (default["high"] - default["low"]).mean() == pytest.approx(both)


def test_tables_say_that_unnamed_voters_are_not_covered() -> None:
    votes = drawn(3, voters=9, questions=40)
    rates = {**ESTIMATORS, "bradley_terry": lj.bradley_terry}
    for name, estimate in rates.items():
        if name == "compare_judges":
            continue
        assert "not_covered" not in estimate(votes).attrs, name
        assert "not_covered" not in estimate(votes.assign(judge=None, group="llm")).attrs, name
        found = estimate(votes.assign(judge=None))
        assert found.attrs["not_covered"] == "other voters: votes name none", name
