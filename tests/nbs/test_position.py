"""Position bias, self-enhancement and repeats: their tables, their planted truth, own judges."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from endpoints import Memory
from loopback import Loopback
from oracle import planted, recovered
from support import written

import lmjudge as lj
from lmjudge.errors import BadRow
from lmjudge.judges.prompts import find_prompts
from lmjudge.printed import as_printed, published, stems
from lmjudge.report import read_table, run
from lmjudge.simulation import KIN, MOVED, TWINS, SimulatedJudge
from lmjudge.simulation.endpoint import _EXAMPLE

ROOT = Path(__file__).parents[2]
OUTCOMES = ["consistent", "biased_first", "biased_second", "mixed"]
# By judge: outcomes of 800 pairs, mixed pairs by the side leant to, single showings won.
PRD: dict[str, tuple[list[int], tuple[int, int], list[float]]] = {
    "gpt-4/prd": ([551, 113, 2, 134], (237, 12), [0.8562, 0.7086, 0.3484, 0.3422, 0.2445]),
    "claude-1/prd": ([439, 28, 220, 113], (74, 287), [0.7711, 0.6703, 0.3992, 0.3289, 0.3305]),
    "gpt-3.5-turbo-0301/prd": (
        [553, 23, 44, 180],
        (121, 126),
        [0.8219, 0.7039, 0.3688, 0.3500, 0.2555],
    ),
}
CONTESTANTS = ["gpt-4", "claude", "vicuna-13b", "gpt-3.5-turbo", "bard"]


def report(stem: str) -> pd.DataFrame:
    """The committed table, by table, row and column."""
    return read_table(ROOT / f"reports/{stem}.csv").set_index(["table", "row", "column"])


# The committed tables (test_notebooks.py builds them anew from the released rows).


@pytest.mark.parametrize("judge", PRD)
def test_every_cell_of_prds_judges(judge: str) -> None:
    table, (outcomes, leans, wins) = report("judge-position-bias")["value"], PRD[judge]
    mixed = table["Released judgments, rule mixed, pairs"][judge]
    assert mixed[OUTCOMES].tolist() == outcomes
    assert mixed["error"] == 0
    percent = table["Released judgments, rule mixed, percent"][judge]
    assert percent[OUTCOMES].tolist() == pytest.approx([k / 8 for k in outcomes])
    lean = table["Released judgments, rule lean, pairs"][judge]
    assert (lean["biased_first"], lean["biased_second"]) == leans
    net = table["Released judgments, rule net, percent"][judge]
    assert net["consistent"] == pytest.approx((outcomes[0] + outcomes[3]) / 8)
    for stem, name in (
        ("judge-position-bias", "Released judgments of PRD, single showings won"),
        ("judge-self-enhancement", "Single showings won, percent"),
    ):
        shown = report(stem)["value"][name]
        found = [shown[model, judge] / 100 for model in CONTESTANTS]
        assert found == pytest.approx(wins, abs=6e-5)


def test_what_gpt4_and_gpt35_said_again() -> None:
    table = report("judge-repeatability")["value"]
    counts = ["requests", "asked again", "another text", "another verdict"]
    shipped, full = table["Asked again"], report("full/judge-repeatability")["value"]["Asked again"]
    assert shipped["GPT-3.5 of PRD"][counts].tolist() == [
        1600,
        160,
        pytest.approx(np.nan, nan_ok=True),
        27,
    ]
    assert shipped["GPT-4's grades", "asked again"] == 9
    assert shipped["GPT-4's grades", "another verdict"] == 0
    assert full["GPT-3.5 of PRD"][counts].tolist() == [1600, 160, 159, 27]
    assert full["GPT-4's pairs"][counts].tolist() == [631, 161, 144, 38]


def test_grades_and_prds_second_run_as_released(published_data: Path) -> None:
    grades = lj.load_judgments("dolphin/original", "scores")
    grades = grades[grades["text"].notna()]
    made = lj.repeatability(grades, key="asked").iloc[0]
    assert (len(grades), made["requests"], made["asked_again"], made["other_verdict"]) == (
        786,
        773,
        9,
        0,
    )
    # The second run, counted with nothing of ours.
    folder = published_data / "prd/vicuna80/ratings-gpt35"
    changed = 0
    for path in folder.glob("answer-*.jsonl"):
        name = path.name.replace("answer-", "answer_").replace("reviewer-three", "reviewer_three")
        two = [
            {
                row["question_id"]: row["score"]
                for row in map(json.loads, file.read_text().split("\n")[:-1])
            }
            for file in (path, folder / name)
        ]
        changed += sum(two[0][at] != two[1][at] for at in two[0])
    assert changed == 27


def test_own_answers_against_the_other_judges(published_data: Path) -> None:
    """Self-preference again, by loops over votes."""
    table = report("judge-self-enhancement")["value"]["Own answers"]
    games = lj.load_judgments("prd/original")
    worth: dict[tuple[str, int, frozenset[str]], dict[str, float]] = {}
    for row in games.itertuples():
        won = {"model_a": row.model_a, "model_b": row.model_b, "tie": None}[row.winner]
        key = (row.judge, row.question_id, frozenset((row.model_a, row.model_b)))
        worth.setdefault(key, {})[row.model_a] = won
    votes = {key: set(said.values()) for key, said in worth.items()}
    me = {"gpt-4/prd": "gpt-4", "claude-1/prd": "claude", "gpt-3.5-turbo-0301/prd": "gpt-3.5-turbo"}
    me |= {"bard/prd": "bard", "vicuna-13b/vicuna": "vicuna-13b"}

    def points(key: tuple[str, int, frozenset[str]], model: str) -> float:
        said = votes[key]
        return 0.5 if len(said) > 1 or None in said else float(model in said)

    for judge, model in me.items():
        keys = [key for key in votes if key[0] == judge and model in key[2]]
        mine = np.mean([points(key, model) for key in keys])
        rest = [other for other in me if other != judge]
        theirs = np.mean([points((o, *key[1:]), model) for key in keys for o in rest])
        row = table[f"{judge} · against judges"]
        assert len(keys) == 320
        assert row["own, percent"] == pytest.approx(100 * mine)
        assert row["others, percent"] == pytest.approx(100 * theirs)
        assert row["difference, points"] == pytest.approx(100 * (mine - theirs))


def test_printed_percentages_are_counts_that_sum_to_n() -> None:
    table = report("judge-position-bias")
    printed = published("judge-position-bias")
    rows: dict[tuple[str, str], list[int]] = {}
    for cell in printed.itertuples():
        ours = table.loc[(cell.table, cell.row, cell.column)]
        if cell.status == "unverified":
            assert ours["basis"] == "unreleased"
            assert pd.isna(ours["value"])
            continue
        assert ours["basis"] == "arithmetic"
        count = ours["value"] * cell.n / 100
        assert count == pytest.approx(round(count))
        assert as_printed(ours["value"], cell.printed, "percent", cell.n) == cell.printed
        assert ours["low"] <= ours["value"] <= ours["high"]
        rows.setdefault((cell.table, cell.row), []).append(round(count))
    whole = {key: sum(counts) for key, counts in rows.items() if len(counts) > 1}
    assert set(whole.values()) == {50, 80}
    assert len(whole) == 6 + 8 + 3 + 3 + 4


# What is planted.


def test_name_bias_has_its_closed_form() -> None:
    """A judge without any other habit, on two samples of a model."""
    p, q = 0.24, 0.13
    judge = SimulatedJudge("j", accuracy=1.0, position_bias=p, name_bias=q, steadied=0.5)
    study = lj.simulate(per_category=1, models=TWINS, judges=(judge,))
    contested = study.plan.contested

    def biased(first: float, second: float) -> tuple[float, float]:
        """Of a clear pair the better side is named but for `first` or `second` places."""
        rest = 1 - first - second
        # The better answer stands first in one order: P(first there) * P(first elsewhere).
        clear = (first + rest) * first, second * (second + rest)
        tied = first * first, second * second
        return tuple((1 - contested) * c + contested * t for c, t in zip(clear, tied, strict=True))

    for prompt, places in {
        "pair": (p + q, 0.0),
        "pair-renamed": (p, q),
        "pair-few-shot": (p / 2 + q, 0.0),
    }.items():
        found = planted(study, "position_bias", judge=f"j/{prompt}", by=()).set_index("outcome")
        both = found["planted"][["biased_first", "biased_second"]].tolist()
        assert both == pytest.approx(biased(*places))
        assert found["planted"].sum() == pytest.approx(1)


def test_scores_in_pairs_and_grades_match_a_million_draws() -> None:
    study = lj.simulate(per_category=1, models=TWINS, judges=MOVED)
    plan, judge, rng = study.plan, MOVED[1], np.random.default_rng(0)
    draws = 1_000_000
    category = rng.integers(6, size=draws)
    points = np.array(TWINS[0].points)[category]
    shared = points + plan.question_spread * rng.standard_normal(draws)
    quality = shared + plan.answer_spread * rng.standard_normal((2, draws))

    def grades(favoured: int) -> np.ndarray:
        habit = rng.random((2, draws)) < abs(judge.position_bias)
        extra = habit * np.array([[favoured == 1], [favoured == 0]])
        latent = quality + judge.leniency + extra + judge.spread * rng.standard_normal((2, draws))
        return np.clip(np.rint(latent), 1, 10)

    # A negative position bias adds to what is shown second: the other twin in the first order.
    orders = [np.sign(grade[0] - grade[1]) for grade in (grades(0), grades(1))]
    spoken = (1 - judge.failure_rate) ** 2
    same = spoken * (orders[0] == orders[1]).mean()
    found = planted(study, "position_bias", judge="sim-linnet/score", by=()).set_index("outcome")
    assert found.loc["consistent", "planted"] == pytest.approx(same, abs=2e-3)
    first = spoken * ((orders[0] == 1) & (orders[1] == -1)).mean()
    assert found.loc["biased_first", "planted"] == pytest.approx(first, abs=2e-3)


def test_no_planted_habit_is_a_published_number() -> None:
    planted = {
        getattr(judge, field.name)
        for judge in (*KIN, *MOVED)
        for field in fields(judge)
        if isinstance(getattr(judge, field.name), float)
    } - {0.0}
    for stem in stems():
        cells = {float(cell) for cell in published(stem)["printed"] if cell.strip("-0.")}
        shares = {round(value, 9) for cell in cells for value in (cell, cell / 100)}
        assert not shares & {round(abs(value), 9) for value in planted}, stem


def test_examples_are_seen_in_the_prompts_that_have_them() -> None:
    lines = (ROOT / "lmjudge/judges/prompts.jsonl").read_text().splitlines()
    with_examples = [
        name
        for name in (json.loads(line)["name"] for line in lines)
        if _EXAMPLE.search(find_prompts(name)[0].system_prompt)
    ]
    assert with_examples == ["pair-few-shot"]


@pytest.mark.slow
def test_habits_are_recovered() -> None:
    study = lj.simulate(3, per_category=20, models=TWINS, judges=MOVED[1:])
    ask: Any = {"store": Memory(), "endpoint": study.endpoint}
    games = {
        prompt: lj.judge_pairs(study.pairings, lj.Judge(prompt, model="sim-linnet"), **ask)
        for prompt in ("pair", "pair-renamed", "score", "pair-few-shot")
    }
    sure = {"level": 0.9999}
    tables = [
        recovered(
            lj.position_bias(played, rule="lean", **sure),
            planted(study, "position_bias", judge=f"sim-linnet/{prompt}", rule="lean"),
        )
        for prompt, played in games.items()
    ]
    names = lj.stats.name_bias(games["pair"], games["pair-renamed"], **sure)
    true = planted(study, "name_bias", judge="sim-linnet")
    tables.append(recovered(names, true, value="difference"))
    study = lj.simulate(3, per_category=10, judges=KIN)
    ask["endpoint"] = study.endpoint
    judged = [
        lj.judge_pairs(study.pairings, lj.Judge("pair", model=name), **ask) for name in study.judges
    ]
    human = study.votes[(study.votes["group"] == "expert") & (study.votes["turn"] == 1)]
    found = lj.self_preference(pd.concat(map(lj.resolve, judged)), human=human, **sure)
    expected = [
        planted(study, "self_preference", judge=f"{name}/pair", against=against)
        for name in study.judges
        for against in ([other for other in study.judges if other != name], ["expert"])
    ]
    tables.append(recovered(found, pd.concat(expected)))
    whole = pd.concat(tables)
    assert len(whole) == 4 * 4 + 5 + 6
    assert (whole["low"] <= whole["planted"]).all()
    assert (whole["planted"] <= whole["high"]).all()


def test_planted_values_follow_the_questions_asked() -> None:
    study = lj.simulate(per_category=2, judges=KIN)
    by_category = planted(study, "position_bias", judge="sim-alder/pair", by="category")
    wide = by_category.pivot(index="outcome", columns="category", values="planted")
    some = lj.subset(study.questions, categories=["maps", "math"], limit=3)
    found = planted(study, "position_bias", judge="sim-alder/pair", by=(), questions=some)
    expected = (2 * wide["maps"] + wide["math"]) / 3
    assert found["planted"].tolist() == pytest.approx(expected.tolist())


# Judges of one's own.


def test_answers_with_several_choices(tmp_path: Path) -> None:
    row = {"question_id": 1, "choices": [{"turns": ["a"]}, {"turns": ["b"]}, {"turns": ["c"]}]}
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row))
    for samples, expected in ((1, ["a"]), (2, ["a", "b"]), (9, ["a", "b", "c"])):
        found = lj.load_answers(path, samples=samples)
        assert [turns[0] for turns in found["turns"]] == expected
        assert found["sample"].tolist() == list(range(len(expected)))
    path.write_text(json.dumps(row | {"choices": [{"turns": ["a"]}, {}]}))
    assert len(lj.load_answers(path)) == 1
    with pytest.raises(BadRow, match="no turns"):
        lj.load_answers(path, samples=2)


def likes_a(body: dict[str, Any]) -> str:
    """A judge who always names A, and grades what stands first higher."""
    prompt = "\n".join(message["content"] for message in body["messages"])
    return "[[8,5]]" if "[[7,4]]" in prompt else "[[7]]" if "[[A]]" not in prompt else "[[A]]"


@pytest.fixture
def mine(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Own questions and two choices of a model's answers, in a project of one's own."""
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    monkeypatch.delenv("LMJUDGE_OFFLINE")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    questions = [
        {"question_id": at, "category": category, "turns": [f"Question {at}?"]}
        for at, category in enumerate(["writing", "writing", "math"])
    ]
    for name, rows in {
        "question.jsonl": questions,
        "answers/mine.jsonl": [
            {"question_id": at, "choices": [{"turns": [f"{at} {n}"]} for n in "xy"]}
            for at in range(3)
        ],
    }.items():
        written(tmp_path / name, *rows)
    return {
        "questions": str(tmp_path / "question.jsonl"),
        "answers": str(tmp_path / "answers/mine.jsonl"),
        "judge": "likes-a",
    }


@pytest.mark.notebooks
def test_your_own_judge_put_to_the_test(
    mine: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loopback(likes_a) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        made = run(["judge-position-bias"], parameters=mine | {"record": "true"})[0]
        assert len(server.calls) == 3 * 2 * 4
    assert made.table.parent.name == "own"
    table = read_table(made.table)
    cells = table[table["basis"] == "own"].set_index(["table", "row", "column"])["value"]
    percent = cells["Your judge, percent"]
    leans = {"pair": "first", "pair-renamed": "second", "score": "first", "pair-few-shot": "first"}
    for (prompt, lean), outcome in product(leans.items(), ["first", "second"]):
        expected = 100.0 if outcome == lean else 0.0
        assert percent[f"likes-a/{prompt}", f"biased_{outcome}"] == expected
    added = cells["What renaming adds, points"]["likes-a"]
    assert (added["biased_first"], added["biased_second"]) == (-100, 100)
    # Replayed, without the server, into the same table.
    again = run(["judge-position-bias"], parameters=mine)[0]
    assert read_table(again.table).equals(table)


@pytest.mark.notebooks
def test_your_own_judge_asked_again(
    mine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = tmp_path / "bench"
    (bench / "model_answer").mkdir(parents=True)
    (tmp_path / "question.jsonl").rename(bench / "question.jsonl")
    for model in "xy":
        rows = [
            {"question_id": at, "model_id": model, "choices": [{"turns": [model]}]}
            for at in range(3)
        ]
        written(bench / f"model_answer/{model}.jsonl", *rows)
    with Loopback(likes_a) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        asked = {"judge": "likes-a", "answers": str(bench), "record": "true"}
        made = run(["judge-repeatability"], parameters=asked)[0]
        assert len(server.calls) == 3 * 2 * 2
    cells = read_table(made.table).set_index(["table", "row", "column"])["value"]
    twice = cells["Your judge"]["likes-a/pair"]
    assert twice["requests"] == twice["asked again"] == 6
    assert twice["another verdict"] == 0


@pytest.mark.notebooks
def test_your_own_judges_who_are_contestants(
    published_data: Path, mine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMJUDGE_DATA", str(published_data))
    judged = [
        {"question_id": at, "model_1": "likes-a", "model_2": "mine", "turn": 1}
        | {"g1_winner": "model_1", "g2_winner": "model_2", "judge": ["likes-a", "pair-v2"]}
        | {"g1_user_prompt": "?", "g2_user_prompt": "?"}
        | {"g1_judgment": "[[A]]", "g2_judgment": "[[A]]"}
        for at in range(3)
    ]
    games = written(tmp_path / "games.jsonl", *judged)
    (name,) = lj.load_judgments(games)["judge"].unique()
    votes = [
        {"question_id": at, "turn": 1, "model_a": "likes-a", "model_b": "mine", "judge": "expert_1"}
        | {"winner": "model_b"}
        for at in range(3)
    ]
    path = written(tmp_path / "votes.jsonl", *votes)
    given = {"judgments": str(games), "votes": str(path)}
    given["own"] = json.dumps({name: "likes-a"})
    made = run(["judge-self-enhancement"], parameters=given)[0]
    cells = read_table(made.table).set_index(["table", "row", "column"])["value"]
    mine_ = cells["Own answers"][f"{name} · against human"]
    # Always A is a tie in every vote: half a win, where people gave none.
    assert (mine_["own, percent"], mine_["others, percent"]) == (50, 0)
    steady = cells["Ties and consistency"][name]
    assert steady["consistent, percent"] == 0
