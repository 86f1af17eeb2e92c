"""A study with known truth: questions, answers, human votes and judges with planted habits.

What a notebook does with it:

    study = lj.simulate(seed=0)
    judge = lj.Judge("pair", model=study.judges[0])
    games = lj.judge_pairs(study.pairings, judge, store=study.store(), endpoint=study.endpoint)
    found = lj.position_bias(games)
    table = recovered(found, study.planted("position_bias", judge=judge.name))
    lj.save_table(table, "judge-position", source="simulated")

All of it is called simulated wherever it is shown; it never stands beside a paper's number.
"""

from __future__ import annotations

from collections.abc import Collection

from lmjudge.simulate.planted import (
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
from lmjudge.simulate.quantities import recovered
from lmjudge.simulate.study import Study, build

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
    "contestants",
    "recovered",
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
    """The simulated study of a seed: frames, an endpoint that judges them, and the truth.

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


def contestants(names: Collection[str] = ()) -> tuple[SimulatedModel, ...]:
    """The MODELS of these names, in their own order; without names all of them.

    Raises ValueError for a name that is none of theirs, and for fewer than two: nothing meets.

    >>> [model.name for model in contestants(["sim-cedar", "sim-alder"])]
    ['sim-alder', 'sim-cedar']
    """
    kept = tuple(model for model in MODELS if model.name in names or not names)
    if len(kept) < max(2, len(set(names))):
        raise ValueError(
            f"models are {', '.join(names)}; expected two or more of the simulated study's:"
            f" {', '.join(model.name for model in MODELS)}"
        )
    return kept
