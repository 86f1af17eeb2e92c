"""What single grades amount to as votes: the truth of `scores_as_votes` in a simulated study."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np

from lmjudge.simulation.planted import LENGTHS, Plan, SimulatedJudge
from oracle import truth

_REACH, _STEPS, _NODES = 6.0, 241, 20


@lru_cache(maxsize=8)
def single_votes(plan: Plan, judge: SimulatedJudge) -> np.ndarray:
    """The probabilities [kind, state, vote] given the state, of the higher of two single grades.

    A numerical integral over what answers share on a question (Gauss and Hermite) and over each
    answer's own luck (trapezoids): given the state, grades rest on the two qualities alone, as
    which answer is better does. Errors are below 1e-3.
    """
    meetings, strata = truth.meetings(plan), truth.strata()
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    whole = (weights / weights.sum())[:, None, None]
    qualities = [model.quality(*stratum) for model in plan.models for stratum in strata]
    reach = _REACH * plan.answer_spread
    at = np.linspace(min(qualities) - reach, max(qualities) + reach, _STEPS)
    seen = at + plan.question_spread * nodes[:, None]
    # The chance of each grade, [node, grade, quality], of an answer that is long, or the judge's.
    graded = {
        (long, own): truth.grade_chances(judge, seen, long=long, own=own).swapaxes(1, 2)
        for long, own in product((False, True), repeat=2)
    }
    # Of each answer the chance of [grade, (node, quality)], and of the same grade at a lower
    # quality (half of that quality's own counted), by the node's weight.
    parts: dict[tuple[str, tuple[str, int], bool], tuple[np.ndarray, np.ndarray]] = {}
    for model in plan.models:
        for stratum in strata:
            density = np.exp(-(((at - model.quality(*stratum)) / plan.answer_spread) ** 2) / 2)
            for long in (False, True):
                grade = graded[long, model.name == judge.name] * (density / density.sum())
                under = (np.cumsum(grade, axis=2) - grade / 2) * whole
                flat = [part.swapaxes(0, 1).reshape(10, -1) for part in (grade, under)]
                parts[model.name, stratum, long] = flat[0], flat[1]
    votes = np.zeros((len(meetings) * len(strata), len(truth.STATES), 4))
    longest = max(LENGTHS)
    kinds = [(a.name, b.name, stratum) for a, b in meetings for stratum in strata]
    for kind, (a, b, stratum) in enumerate(kinds):
        shares = {}
        for long_a, long_b in product((False, True), repeat=2):
            grade_a, under_a = parts[a, stratum, long_a]
            grade_b, under_b = parts[b, stratum, long_b]
            # [grade of a, grade of b], where a's quality is the higher, and where b's is.
            higher_a, higher_b = grade_a @ under_b.T, under_a @ grade_b.T
            both = {"model_a": higher_a, "model_b": higher_b, "tie": higher_a + higher_b}
            for best, joint in both.items():
                wins = [np.tril(joint, -1).sum(), np.triu(joint, 1).sum(), np.trace(joint)]
                shares[best, long_a, long_b] = np.array(wins) / joint.sum()
        for state, (best, one, two) in enumerate(truth.STATES):
            votes[kind, state, : truth.NONE] = shares[best, one == longest, two == longest]
    votes *= (1 - judge.failure_rate) ** 2
    votes[:, :, truth.NONE] = 1 - votes.sum(-1)
    return votes


def votes_of(plan: Plan, who: str) -> np.ndarray:
    """`truth.votes_of`, or what a judge's grades amount to where its prompt is `single`."""
    if who.partition("/")[2] == "single":
        return single_votes(plan, truth.judge_named(plan, who))
    return truth.votes_of(plan, who)
