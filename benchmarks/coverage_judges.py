"""How often default 95 % intervals hold the truth where language models judge and lean to models.

    python benchmarks/coverage_judges.py [--studies 1000] [--peers PYTHON]

Fills in what benchmarks/results/judges-*.json lack, one file a cell, a hundred studies at a time. A
study has questions; three judges vote on all of them, and on some also people with tastes (five of so many voters each). A
judge's log odds are the lead, what it likes of a model (`leaning`, the standard deviation between
judges), and what the question does, which people see too. Judges are fixed: the truths of their own
votes are given their leanings. Corrected win rates are the people's, whatever the judge likes. With
--peers, a Python that has GLIDE and CJE, their intervals for the same corrected win rate are
counted too (coverage_peers.py).

A second study of four judges that are themselves the four models, on all pairs: how often
self_preference finds one where judges merely like different models, and ratings of their votes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
from coverage_crossed import (
    LEAD,
    QUESTION,
    RESULTS,
    SIDES,
    STRENGTHS,
    add,
    best_fit,
    chance,
    frame_of,
    held,
    integral,
    logistic,
    who_votes,
)

import lmjudge as lj
from lmjudge import audit

# Questions, of these with human votes, voters; five of them vote on each.
DESIGNS = [(40, 20, 20), (80, 40, 20), (200, 40, 40)]
TASTES, LEANINGS = (0.0, 1.0), (0.0, 0.5, 1.0)
JUDGES = 3
PART = 100


def agreeing(lead: float, taste: float) -> float:
    """How often a judge with this lead agrees with a person."""

    def both(question: np.ndarray) -> np.ndarray:
        judge = logistic(lead + question)
        person = integral(lambda like: logistic(LEAD + question[:, None] + taste * like))
        return judge * person + (1 - judge) * (1 - person)

    return float(integral(lambda node: both(QUESTION * node)))


def of_pair(
    rng: np.random.Generator, studies: int, design: tuple[int, int, int], taste: float, lean: float
) -> tuple[dict[str, dict[str, float]], np.ndarray, np.ndarray]:
    """What studies of x and y count, and the human and the first judge's label by question."""
    questions, labelled, voters = design
    does = QUESTION * rng.normal(size=(studies, questions, 1))
    leads = LEAD + lean * rng.normal(size=(studies, JUDGES))
    said = (rng.random((*does.shape[:2], JUDGES)) > logistic(leads[:, None] + does)).astype(int)
    voter = who_votes(rng, studies, (labelled, voters, 5))
    like = taste * rng.normal(size=(studies, voters))
    liked = like[np.arange(studies)[:, None, None], voter]
    vote = (rng.random(voter.shape) > logistic(LEAD + liked + does[:, :labelled])).astype(int)
    two = {"model_a": "x", "model_b": "y"}
    study, at, judge = (part.ravel() for part in np.indices(said.shape))
    names = np.array([f"j{at}" for at in range(JUDGES)])
    machine = frame_of(study, at, names[judge], **two, winner=SIDES[said.ravel()])
    machine = machine.assign(group="llm")
    study, at, _ = (part.ravel() for part in np.indices(voter.shape))
    person = np.array([f"v{at}" for at in range(voters)])[voter.ravel()]
    people = frame_of(study, at, person, **two, winner=SIDES[vote.ravel()])
    first = machine[machine["judge"] == "j0"]
    same = np.array([[agreeing(lead, taste) for lead in row[:2]] for row in leads])
    wins = np.array([chance(lead, 0) for lead in leads[:, 0]])
    # Corrected win rates have no `by`: each study is a judge of its own, on questions of its own.
    apart = [
        votes.assign(question_id=votes["turn"] * questions + votes["question_id"])
        for votes in (first.assign(judge=first["turn"]), people)
    ]
    corrected = audit.corrected_win_rates(*(votes.assign(turn=1) for votes in apart))
    corrected = corrected[corrected["model"] == "x"]
    judges = lj.compare_judges(machine[machine["judge"] != "j2"], people, by="turn")
    counts = {
        "win rate of a judge": held(lj.win_rates(first, by="turn").query("model == 'x'"), wins),
        "agreement with a judge": held(lj.agreement(first, people, by="turn"), same[:, 0]),
        "compare judges": held(judges, same[:, 0] - same[:, 1]),
        "corrected win rate": {
            **held(corrected, chance(LEAD, taste)),
            "width": float((corrected["high"] - corrected["low"]).sum()),
        },
    }
    human = np.full((studies, questions), np.nan)
    human[:, :labelled] = 1 - vote.mean(axis=2)
    return counts, human, 1.0 - said[:, :, 0]


def of_contestants(
    rng: np.random.Generator, questions: int, leaning: float
) -> dict[str, dict[str, int]]:
    """A study whose judges are the four models: self-preference where there is none, and ratings."""
    models = len(STRENGTHS)
    names = np.array([f"m{at}" for at in range(models)])
    pairs = np.array(list(combinations(range(models), 2)))
    does = QUESTION * rng.normal(size=(questions, 1, models))
    like = leaning * rng.normal(size=(models, models))
    worth = STRENGTHS + like + does
    gap = worth[..., pairs[:, 0]] - worth[..., pairs[:, 1]]
    winner = SIDES[(rng.random(gap.shape) > logistic(gap)).astype(int)]
    at, judge, pair = (part.ravel() for part in np.indices(gap.shape))
    sides = {"model_a": names[pairs[pair, 0]], "model_b": names[pairs[pair, 1]]}
    votes = frame_of(1, at, names[judge], **sides, winner=winner.ravel()).assign(group="llm")
    found = lj.self_preference(votes).query("judge == 'm0'")
    seen = STRENGTHS + like
    wanted = [
        np.mean([chance(gap, np.sqrt(2) * QUESTION, 0) for gap in seen[:, i] - seen[:, j]])
        for i, j in pairs
    ]
    rated = lj.bradley_terry(votes, initial=0, scale=1.0, base=np.e).query("model == 'm0'")
    p_value = found["p_value"]
    return {
        "self-preference, none there: not found": {
            "studies": len(p_value),
            "held": int((p_value >= 0.05).sum()),
            "missing": int(p_value.isna().sum()),
            "flagged": int(found["too_few"].sum()),
        },
        "rating by judges": held(rated, best_fit(wanted)[0]),
    }


def run(
    design: tuple[int, int, int], taste: float, leaning: float, part: range, peers: str | None
) -> dict[str, dict[str, float]]:
    """The counts of some of a cell's studies, by number: the same in any order of the parts."""
    seed = [2027, *design, int(10 * taste), int(10 * leaning), part.start]
    rng = np.random.default_rng(seed)
    total: dict[str, dict[str, float]] = {}
    counts, human, judge = of_pair(rng, len(part), design, taste, leaning)
    add(total, counts)
    if taste == 0:
        for _ in range(len(part) * 2 // 5):
            add(total, of_contestants(rng, design[0], leaning))
    if peers:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "studies.npz")
            np.savez(path, human=human, judge=judge, truth=chance(LEAD, taste))
            script = str(Path(__file__).with_name("coverage_peers.py"))
            done = subprocess.run([peers, script, path], capture_output=True, text=True, check=True)
        for name, found in json.loads(done.stdout.splitlines()[-1]).items():
            total[f"corrected win rate, {name}"] = found
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--peers", metavar="PYTHON")
    asked = parser.parse_args()
    cells = [(d, t, leaning) for leaning in LEANINGS[::-1] for t in TASTES for d in DESIGNS]
    # A hundred studies of every cell, then the next hundred: what is stopped early has all cells.
    for start in range(0, asked.studies, PART):
        for design, taste, leaning in cells:
            path = RESULTS / f"judges-{'-'.join(map(str, design))}-{taste}-{leaning}.json"
            cell = dict(zip(("questions", "labelled", "voters"), design, strict=True))
            cell |= {"taste": taste, "leaning": leaning, "studies": 0, "quantities": {}}
            if path.exists():
                cell = json.loads(path.read_text())
            if cell["studies"] != start:
                continue
            part = range(start, start + PART)
            add(cell["quantities"], run(design, taste, leaning, part, asked.peers))
            cell["studies"] = part.stop
            new = path.with_suffix(".part")
            new.write_text(json.dumps(cell, indent=1) + "\n")
            new.replace(path)
            print(path.name, part.stop, flush=True)


if __name__ == "__main__":
    main()
