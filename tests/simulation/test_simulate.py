from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracle import planted, recovered
from support import benchmark

import lmjudge as lj
from lmjudge.errors import EndpointStopped
from lmjudge.simulation import JUDGES, MODELS, SimulatedJudge, Study, Voters

ROOT = Path(__file__).parents[2]


COVERAGE = benchmark("coverage")


@pytest.fixture(scope="module")
def small() -> Study:
    return lj.simulate(seed=5, per_category=2)


# The corridor: rendered prompts, a real store, the parsers.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "turns"), [("pair", (1, 2)), ("score", (1,)), ("single", (1, 2))]
)
def test_the_whole_corridor(small, tmp_path, prompt, turns):
    judge = lj.Judge(prompt, model=small.judges[0])
    rows = small.pairings if judge.pairwise else lj.line_up(small.questions, small.answers)
    play = lj.judge_pairs if judge.pairwise else lj.judge_answers
    store = small.store(tmp_path / "store")
    first = play(rows, judge, store=store, endpoint=small.endpoint, turns=turns)
    assert store.calls == len(first) > 0
    again = small.store(tmp_path / "store")
    pd.testing.assert_frame_equal(
        play(rows, judge, store=again, endpoint=small.endpoint, turns=turns), first
    )
    assert again.calls == 0
    replayed = play(rows, judge, store=lj.Store(tmp_path / "store"), turns=turns)
    pd.testing.assert_frame_equal(replayed, first)
    # What benchmarks/coverage.py runs on, so that its 100 seeds stand for the corridor.
    memory = COVERAGE.Memory()
    pd.testing.assert_frame_equal(
        play(rows, judge, store=memory, endpoint=small.endpoint, turns=turns), first
    )
    assert first["reason"].dropna().isin(["no_verdict", "truncated"]).all()
    assert first["winner" if judge.pairwise else "score"].notna().mean() > 0.8


def test_generating_many_grades_and_json_can_be_tried_offline(small, tmp_path):
    """The models give their answers; every form of verdict is the same judge's, habits and all."""
    store = small.store(tmp_path / "store")
    asked = {"store": store, "endpoint": small.endpoint}
    for model in ("sim-alder", "sim-cedar"):  # the second is a judge too
        made = lj.generate(small.questions, model, **asked)
        theirs = small.answers[small.answers["model"] == model]
        assert made["turns"].tolist() == theirs["turns"].tolist()
    lines = lj.line_up(small.questions, small.answers)
    rates = {}
    for prompt in ("pair-json", "score-json", "single-json", "many", "many-json"):
        parser = "json" if "json" in prompt else "strict"
        judge = lj.Judge(prompt, small.judges[0], parser)
        play = lj.judge_pairs if judge.pairwise else lj.judge_answers
        rows = play(small.pairings.head(30) if judge.pairwise else lines, judge, **asked)
        read = rows[
            "winner" if prompt == "pair-json" else "score_a" if "score_a" in rows else "score"
        ]
        rates[prompt] = read.notna().mean()
        assert rows["reason"].dropna().isin(["no_verdict", "truncated"]).all()
        if prompt == "many":
            by_model = rows.groupby("model")["score"].mean()
            assert by_model["sim-alder"] > by_model["sim-elder"] + 1
    assert min(rates.values()) > 0.8
    with pytest.raises(EndpointStopped, match="shows 0 answers"):
        lj.generate(small.questions, "gpt-4", **asked)


def test_verdicts_depend_neither_on_order_nor_on_concurrency(small, tmp_path):
    judge = lj.Judge("pair", model=small.judges[1])
    games = lj.judge_pairs(
        small.pairings, judge, store=small.store(tmp_path / "a"), endpoint=small.endpoint
    )
    one_by_one = replace(small.endpoint, concurrency=1)
    turned = lj.judge_pairs(
        small.pairings[::-1], judge, store=small.store(tmp_path / "b"), endpoint=one_by_one
    )
    both = (frame.sort_values("key", ignore_index=True) for frame in (games, turned))
    pd.testing.assert_frame_equal(*both)


def test_the_store_lies_beside_the_paid_one(monkeypatch, tmp_path, small):
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache" / "judgments"))
    assert small.store().path == tmp_path / "cache" / "simulated"
    assert small.store().mode == "record"


@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_in_every_process(tmp_path):
    code = """
import hashlib, tempfile, lmjudge as lj
study = lj.simulate(seed=3, per_category=1)
made = [study.questions, study.answers, study.votes]
store = study.store(tempfile.mkdtemp())
for prompt in ("pair", "score"):
    judge = lj.Judge(prompt, model=study.judges[0])
    made.append(lj.judge_pairs(study.pairings, judge, store=store, endpoint=study.endpoint))
print(hashlib.sha256("".join(frame.to_json() for frame in made).encode()).hexdigest())
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "4321")
    }
    assert len(said) == 1


def test_seeds_differ_and_so_do_their_requests(small):
    other = lj.simulate(seed=6, per_category=2)
    assert not small.votes["winner"].equals(other.votes["winner"])
    assert not set(small.endpoint.facts) & set(other.endpoint.facts)


# What a prompt shows, and how the endpoint reads it.


def test_answers_name_no_model_and_each_turn_holds_one_token(small):
    turns = [text for answer in small.answers["turns"] for text in answer]
    tokens = [token for text in turns for token in re.findall("q[a-z2-7]{16}", text.lower())]
    assert len(tokens) == len(turns) == len(set(tokens)) == len(small.endpoint.facts)
    assert not any(model.name[4:] in text.lower() for text in turns for model in MODELS)


TEMPLATES = {
    "letters": (
        "Which is better?\n{answer_a}\n----\n{answer_b}\nEnd in [[A]], [[B]] or [[C]].",
        "[[A]]",
    ),
    "exchanged": (
        "Assistant B said {answer_a}, assistant A said {answer_b}. End in [[A]], [[B]] or [[C]].",
        "[[B]]",
    ),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_sure_judge_is_read_right_from_any_template(template):
    sure = SimulatedJudge("sure", accuracy=1.0)
    study = lj.simulate(seed=1, per_category=1, judges=(sure,))
    text, form = TEMPLATES[template]
    judge = lj.Judge(text, model="sure", output_format=form)
    games = lj.judge_pairs(study.pairings, judge, store=COVERAGE.Memory(), endpoint=study.endpoint)
    facts = {(f.question_id, f.turn, f.model): f for f in study.endpoint.facts.values()}
    for game in games.itertuples():
        shown = (facts[game.question_id, 1, model] for model in (game.model_a, game.model_b))
        assert game.winner == next(shown).best(next(shown))


def test_two_grades_come_on_the_first_line_where_no_brackets_are_asked_for(small):
    turns = small.answers["turns"]
    prompt = f"Give two scores.\n{turns[0][0]}\n{turns[1][0]}"
    asked = lj.Request("sim-heron", [{"role": "user", "content": prompt}])
    assert re.match(r"\d+ \d+\n", small.endpoint.reply(asked).text)


@pytest.mark.parametrize("name", ["fastchat:pair", "fastchat:single"])
def test_fastchat_prompts_are_understood(published_data, small, name):
    judge = lj.Judge(name, model="sim-heron", parser="fastchat")
    ask = {"store": COVERAGE.Memory(), "endpoint": small.endpoint, "turns": (1, 2)}
    if judge.pairwise:
        verdicts = lj.judge_pairs(small.pairings, judge, **ask)["winner"]
    else:
        lineup = lj.line_up(small.questions, small.answers)
        verdicts = lj.judge_answers(lineup, judge, **ask)["score"]
    assert verdicts.notna().mean() > 0.9


# Planted habits.


def _games(judge: SimulatedJudge, samples: int = 1) -> tuple[Study, pd.DataFrame]:
    study = lj.simulate(seed=2, per_category=3, judges=(judge,))
    pair = lj.Judge("pair", model=judge.name)
    ask = {"store": COVERAGE.Memory(), "endpoint": study.endpoint, "samples": samples}
    return study, lj.judge_pairs(study.pairings, pair, **ask)


@pytest.mark.parametrize(
    ("habit", "outcome"),
    [
        ({"position_bias": 1.0}, "biased_first"),
        ({"position_bias": -1.0}, "biased_second"),
        ({"tie_rate": 1.0}, "consistent"),
        ({"verbosity_bias": 1.0}, "consistent"),
        ({"failure_rate": 1.0}, "error"),
        ({"accuracy": 1.0}, "consistent"),
    ],
)
def test_one_habit_alone_is_exact(habit, outcome):
    judge = SimulatedJudge("only", **{"accuracy": 1.0} | habit)
    study, games = _games(judge)
    found = lj.position_bias(games, by=())
    both = recovered(found, planted(study, "position_bias", judge="only", by=()))
    assert dict(zip(both["row"], both["value"], strict=True))[outcome] == pytest.approx(1)
    assert np.allclose(both["value"], both["planted"])


def test_samples_differ_by_the_repeat_noise_alone():
    _, still = _games(SimulatedJudge("j", 0.6, failure_rate=0.3, repeat_noise=0.0), samples=2)
    games = still.groupby(["question_id", "model_a", "model_b"])["winner"]
    assert (games.nunique(dropna=False) == 1).all()
    study, noisy = _games(SimulatedJudge("j", 0.6, repeat_noise=1.0), samples=2)
    share = noisy.groupby(["question_id", "model_a", "model_b"])["winner"].nunique().gt(1).mean()
    assert 0.2 < share < 0.7
    assert 0.2 < planted(study, "repeatability", judge="j")["planted"][0] < 0.7


def test_planted_request_failures_are_rows_with_a_reason_and_are_never_stored(tmp_path):
    judge = replace(JUDGES[0], request_failure_rate=0.3)
    study = lj.simulate(seed=0, per_category=1, judges=(judge,))
    store = study.store(tmp_path / "store")
    games = lj.judge_pairs(
        study.pairings, lj.Judge("pair", model=judge.name), store=store, endpoint=study.endpoint
    )
    failed = games["reason"] == "server_error"
    assert 0.1 < failed.mean() < 0.5
    assert games.loc[failed, ["winner", "text"]].isna().all(axis=None)
    assert len(list(store.records())) == (~failed).sum()


# Bad input.


def test_bad_plans_and_questions_are_refused(small):
    with pytest.raises(ValueError, match="leave something to judge"):
        SimulatedJudge("greedy", 0.5, position_bias=0.6, tie_rate=0.6)
    with pytest.raises(ValueError, match=r"accuracy of 'odd' is 1\.2"):
        SimulatedJudge("odd", 1.2)
    with pytest.raises(ValueError, match="'nobody' is none of the models"):
        lj.simulate(baseline="nobody")
    with pytest.raises(ValueError, match="'gpt' is no judge of this study"):
        planted(small, "win_rates", voters="gpt")
    with pytest.raises(ValueError, match="known are mean_scores"):
        planted(small, "elo")
    with pytest.raises(ValueError, match="planted values meet"):
        recovered(
            lj.win_rates(small.votes[small.votes["model_a"] == "sim-alder"]),
            planted(small, "win_rates", voters="expert", by="turn"),
        )


@pytest.mark.parametrize("model", ["sim-heron", "gpt-4"])
def test_a_prompt_of_another_study_stops_the_run(small, model):
    foreign = hashlib.sha256(b"another").hexdigest()
    asked = lj.Request(model, [{"role": "user", "content": f"Judge {foreign}. [[A]]"}])
    with pytest.raises(EndpointStopped, match="simulated study of seed 5"):
        small.endpoint.reply(asked)


def test_voters_have_tastes_and_judges_lean_to_models(tmp_path: Path) -> None:
    """What is planted is held, and voters with tastes widen the interval."""
    voters = (Voters("crowd", pool=24, each=4, noise=0.2, taste=0.5),)
    fond = replace(JUDGES[0], leaning=0.3, likes=("sim-elder", "sim-dogwood"))
    study = lj.simulate(5, per_category=12, voters=voters, judges=(fond,))
    rates = lj.win_rates(study.votes)
    true = planted(study, "win_rates", voters="crowd", turns=(1, 2)).set_index("model")["planted"]
    held = [row.low <= true[row.model] <= row.high for row in rates.itertuples()]
    assert sum(held) >= len(held) - 1
    agreed = lj.agreement(study.votes[study.votes["turn"] == 1]).iloc[0]
    truth = planted(study, "agreement", voters=("crowd", "crowd"), ties="keep").iloc[0]
    assert agreed["low"] <= truth["planted"] <= agreed["high"]
    wide, narrow = (
        lj.win_rates(study.votes, cluster=cluster).eval("high - low").mean()
        for cluster in (None, "question_id")
    )
    assert wide > 1.3 * narrow
    with closing(study.store(tmp_path / "store")) as store:
        games = lj.judge_pairs(
            study.pairings, lj.Judge("pair", fond.name), store=store, endpoint=study.endpoint
        )
    judged = lj.win_rates(lj.resolve(games)).set_index("model")
    leant = planted(study, "win_rates", voters=fond.name).set_index("model")["planted"]
    plain = lj.simulate(5, per_category=12, judges=(replace(fond, leaning=0.0),))
    without = planted(plain, "win_rates", voters=fond.name).set_index("model")["planted"]
    assert leant["sim-elder"] > without["sim-elder"] + 0.05
    assert judged.loc["sim-elder", "low"] <= leant["sim-elder"] <= judged.loc["sim-elder", "high"]
    with pytest.raises(ValueError, match="leave something to judge"):
        replace(fond, leaning=1.0)
