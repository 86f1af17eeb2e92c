"""How often 95 % intervals hold what was planted of judges' habits: names, examples, themselves.

    python benchmarks/coverage_habits.py --seeds 100 > benchmarks/results/coverage-habits.md

As `coverage.py`, for the studies of judge-position-bias (two samples of a model, four prompts),
judge-self-enhancement (judges that are contestants) and judge-repeatability (grades asked again).
The first run, of seeds 0 to 99, is the one that counts: seeds are not chosen.
"""

from __future__ import annotations

import argparse
import sys

import pandas as pd
from coverage import Memory, report, summary
from oracle import planted, recovered

import lmjudge as lj
from lmjudge.simulation import KIN, MOVED, TWINS

PROMPTS = ("pair", "pair-renamed", "score", "pair-few-shot")


def cells(seed: int, per_category: int = 10) -> pd.DataFrame:
    """Every planted value beside what one study recovers: table, row, planted, low, high ..."""
    found: list[pd.DataFrame] = []
    study = lj.simulate(seed, per_category=per_category, models=TWINS, judges=MOVED)
    ask = {"store": Memory(), "endpoint": study.endpoint}
    for name in study.judges:
        judges = [lj.Judge(prompt, model=name) for prompt in PROMPTS]
        games = [lj.judge_pairs(study.pairings, judge, **ask) for judge in judges]
        for judge, played in zip(judges, games, strict=True):
            for rule in ("mixed", "lean", "net"):
                made = lj.position_bias(played, rule=rule)
                true = planted(study, "position_bias", judge=judge.name, rule=rule)
                found.append(recovered(made, true, f"position, {rule}"))
        true = planted(study, "name_bias", judge=name)
        names = lj.stats.name_bias(games[0], games[1])
        found.append(recovered(names, true, "renaming adds", value="difference"))
    study = lj.simulate(seed, per_category=per_category, judges=KIN)
    ask = {"store": Memory(), "endpoint": study.endpoint}
    judges = [lj.Judge("pair", model=name) for name in study.judges]
    votes = pd.concat([lj.resolve(lj.judge_pairs(study.pairings, one, **ask)) for one in judges])
    human = study.votes[(study.votes["group"] == "expert") & (study.votes["turn"] == 1)]
    made = lj.self_preference(votes, human=human)
    true = [
        planted(study, "self_preference", judge=one.name, against=against)
        for one in judges
        for against in ([other.model for other in judges if other != one], ["expert"])
    ]
    found.append(recovered(made, pd.concat(true), "own answers"))
    single = lj.Judge("single", model=study.judges[0])
    lineup = lj.line_up(study.questions, study.answers)
    grades = lj.judge_answers(lineup, single, samples=2, **ask)
    grades["asked"] = grades.groupby(["question_id", "turn", "model"]).ngroup()
    true = planted(study, "repeatability", judge=single.name, kind="scores")
    found.append(recovered(lj.repeatability(grades, key="asked"), true, "another grade"))
    return pd.concat(found, ignore_index=True).assign(seed=seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--per-category", type=int, default=10)
    given = parser.parse_args()
    made = summary(pd.concat([cells(seed, given.per_category) for seed in range(given.seeds)]))
    print(report(made, given.per_category).replace("coverage.py", "coverage_habits.py"))
    return int(not made["fits"].all())


if __name__ == "__main__":
    sys.exit(main())
