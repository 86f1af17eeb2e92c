"""The notebook on wrong answers to math questions, and what is planted for it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from endpoints import Memory
from oracle import planted
from support import written

import lmjudge as lj
from lmjudge.report import read_table, run
from lmjudge.simulation import SimulatedJudge

PROMPTS = {"default": "pair-general", "cot": "pair-chain-of-thought", "reference": "pair-reference"}
WREN = SimulatedJudge(
    "wren", 0.64, position_bias=0.12, verbosity_bias=0.09, reasoned=0.79, guided=0.92
)


def failures(study, judge):
    """The estimate of the notebook: one less the agreement with the labels that tell."""
    pairs = lj.subset(study.pairings, categories=["math"])
    games = lj.judge_pairs(pairs, judge, store=Memory(), endpoint=study.endpoint)
    truth = lj.scores_as_votes(study.labels)
    found = lj.agreement(lj.resolve(games, "given"), truth[truth["winner"] != "tie"]).iloc[0]
    return 1 - found["high"], 1 - found["agreement"], 1 - found["low"]


@pytest.mark.slow
def test_the_planted_failures_are_found_under_each_prompt():
    held, every = [], {name: [] for name in PROMPTS}
    for seed in range(5):
        study = lj.simulate(seed, per_category=15, judges=(WREN,))
        for name, prompt in PROMPTS.items():
            judge = lj.Judge(prompt, model="wren")
            true = planted(study, "wrong_preferred", judge=judge.name)["planted"].item()
            low, value, high = failures(study, judge)
            held.append(low < true < high)
            every[name].append(value - true)
    assert sum(held) >= 12
    assert all(abs(np.mean(errors)) < 0.06 for errors in every.values())


def test_what_is_planted_has_its_closed_form():
    # Without a liking for length neither who is right nor the order matters in the mean.
    judge = SimulatedJudge("j", 0.7, position_bias=-0.2, tie_rate=0.1, failure_rate=0.3, guided=0.9)
    study = lj.simulate(0, per_category=1, judges=(judge,))
    for prompt, accuracy in {"pair-general": 0.7, "pair-reference": 0.9}.items():
        true = planted(study, "wrong_preferred", judge=f"j/{prompt}")["planted"].item()
        assert true == pytest.approx(1 - (0.7 * accuracy + 0.2 / 2))


def test_labels_tell_the_better_answer():
    study = lj.simulate(4, per_category=6)
    truth = lj.scores_as_votes(study.labels)
    truth = truth[truth["winner"] != "tie"]
    facts = {(f.question_id, f.turn, f.model): f for f in study.endpoint.facts.values()}
    assert len(truth) > 50
    for row in truth.itertuples():
        a, b = (facts[row.question_id, row.turn, model] for model in (row.model_a, row.model_b))
        assert a.best(b) == row.winner
        assert not a.contested


@dataclass(frozen=True)
class OnlyByReference:
    """A judge that sees a mistake (the word wrong) where a solution is shown, and else likes A."""

    concurrency: int = 1
    network: bool = False

    @asynccontextmanager
    async def session(self):
        async def answer(request):
            shown = request.messages[-1]["content"]
            mistaken = "wrong" in shown.partition("ASSISTANT B")[0]
            letter = "B" if mistaken and "CORRECT SOLUTION" in shown else "A"
            if "step by step" in request.messages[0]["content"]:
                letter = "C"
            return lj.Reply(f"[[{letter}]]", finish_reason="stop")

        yield answer


@pytest.mark.notebooks
def test_the_notebook_with_a_judge_and_labels_of_ones_own(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine, folder = tmp_path / "mine", tmp_path / "mine/reference_answer"
    folder.mkdir(parents=True)

    ids = range(1, 6)
    asked = [{"question_id": n, "category": "math", "turns": [f"{n} + 1?"]} for n in ids]
    written(mine / "question.jsonl", *asked)
    right = {"x": [1, 1, 1, 0, 1], "y": [0, 1, 0, 0, 0]}
    for model, marks in {**right, "reference_answer/gpt-4": [1] * 5}.items():
        texts = [f"It is {n + 1}." if ok else "A wrong one." for n, ok in enumerate(marks, 1)]
        rows = [
            {"question_id": n, "choices": [{"turns": [text]}]}
            for n, text in zip(ids, texts, strict=True)
        ]
        written(mine / f"{model}.jsonl", *rows)
    labels = pd.DataFrame(
        [
            {"question_id": n, "model": model, "right": mark}
            for model, marks in right.items()
            for n, mark in zip(ids, marks, strict=True)
        ]
    )
    labels.to_csv(tmp_path / "labels.csv", index=False)
    (tmp_path / "answers").mkdir()
    for model in right:
        (mine / f"{model}.jsonl").rename(tmp_path / f"answers/{model}.jsonl")
    questions = lj.load_questions(mine)
    pairs = lj.pair_up(questions, lj.load_answers(tmp_path / "answers"))
    store = lj.Store(tmp_path / "judgments", mode="record")
    for prompt in PROMPTS.values():
        judge = lj.Judge(prompt, model="own")
        lj.judge_pairs(pairs, judge, store=store, endpoint=OnlyByReference())
    given = {
        "labels": str(tmp_path / "labels.csv"),
        "answers": str(tmp_path / "answers"),
        "questions": str(mine),
        "judge": "own",
    }
    made = run(["judge-math"], parameters=given)[0]
    assert made.table.parent.name == "own"
    table = read_table(made.table).set_index("table").loc["Your judge"]
    table = table.set_index(["row", "column"])
    assert set(table["basis"]) == {"own"}
    # On three of the five questions one answer alone is right; each is judged in both orders.
    assert set(table["n"]) == {6}
    assert table.loc["failures", "value"].to_dict() == {"default": 3, "cot": 6, "reference": 0}
    assert table.loc["rate", "value"].to_dict() == {"default": 50, "cot": 100, "reference": 0}


@pytest.mark.notebooks
def test_the_notebook_shows_the_printed_counts_with_their_intervals(place, monkeypatch):
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    monkeypatch.chdir(place)
    made = run(["judge-math"])[0]
    table = read_table(made.table).set_index(["row", "column"])
    assert set(table["basis"]) == {"arithmetic"}
    ends = table.loc["rate", ["low", "high"]].round(1).values.tolist()
    assert ends == [[48.1, 85.5], [14.5, 51.9], [5.2, 36.0]]
    asked = json.loads(made.table.with_suffix(".run.json").read_bytes())["store"]
    assert asked["calls"] == 0
