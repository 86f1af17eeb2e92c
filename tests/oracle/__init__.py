"""What a study with known truth should give: closed forms, held against every estimator.

A test or a benchmark puts an estimate beside it:

    study = lj.simulate(seed=0)
    games = lj.judge_pairs(study.pairings, judge, store=study.store(), endpoint=study.endpoint)
    recovered(lj.position_bias(games), planted(study, "position_bias", judge=judge.name))
"""

from oracle.quantities import everything, planted, recovered

__all__ = ["everything", "planted", "recovered"]
