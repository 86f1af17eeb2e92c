"""A demo study: questions, answers, human votes and judges with known habits, drawn from a seed.

    study = lj.simulate(seed=0)
    judge = lj.Judge("pair", model=study.judges[0])
    games = lj.judge_pairs(study.pairings, judge, store=study.store(), endpoint=study.endpoint)

No model and no person said anything in it. Its tables have the basis "demo" and never stand beside
a paper's number.
"""

from __future__ import annotations

from lmjudge.simulation.planted import (
    JUDGES,
    KIN,
    MODELS,
    MOVED,
    TWINS,
    VOTERS,
    Plan,
    SimulatedJudge,
    SimulatedModel,
    Voters,
)
from lmjudge.simulation.study import Study, build

__all__ = [
    "JUDGES",
    "KIN",
    "MODELS",
    "MOVED",
    "TWINS",
    "VOTERS",
    "Plan",
    "SimulatedJudge",
    "SimulatedModel",
    "Study",
    "Voters",
    "simulate",
]


def simulate(
    seed: int = 0,
    *,
    per_category: int = 10,
    models: tuple[SimulatedModel, ...] = MODELS,
    judges: tuple[SimulatedJudge, ...] = JUDGES,
    voters: tuple[Voters, ...] = VOTERS,
    baseline: str | None = None,
) -> Study:
    """Return the simulated study of a seed: frames, an endpoint that judges them, and the truth.

    Its questions fall in six categories, `per_category` each; one category has one turn, two have
    reference answers. The same arguments give the same bytes in every process. All pairs of models
    meet, or each meets the `baseline`. Nothing in it was said by a model or a person. Raises
    ValueError for rates that are no shares and for a baseline that is none of the models.

    >>> study = simulate(seed=0, per_category=1)
    >>> study.judges
    ('sim-heron', 'sim-cedar')
    >>> len(study.questions), len(study.answers), study.answers["model"].nunique()
    (6, 30, 5)
    """
    return build(seed, Plan(per_category, tuple(models), tuple(judges), tuple(voters), baseline))
