"""The notebooks of MT-bench on files laid out as the public originals are, against plain loops."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import originals as made
import pandas as pd
import pytest
from cells import run_cells
from loopback import Loopback
from oracle import truth
from oracle.grades import single_votes
from support import written

import lmjudge as lj
from lmjudge.data.finding import fetched
from lmjudge.errors import BadRow, DataError, DataMissing, FrameError
from lmjudge.frames import frame
from lmjudge.report import read_table

Keyed = dict[tuple[Any, ...], list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return made.released(tmp_path, monkeypatch)


def keyed(rows: list[dict[str, Any]], of: str = "") -> Keyed:
    """Votes by question, turn and pair, as the released script has them: the winner's name."""
    found: Keyed = defaultdict(list)
    for row in rows:
        if row["judge"].startswith(of):
            key = (row["question_id"], row["turn"], *sorted((row["model_a"], row["model_b"])))
            found[key].append("tie" if "tie" in row["winner"] else row[row["winner"]])
    return found


def by_grades(rows: list[dict[str, Any]]) -> Keyed:
    found: Keyed = defaultdict(list)
    for one, two in combinations(rows, 2):
        if (one["question_id"], one["turn"]) != (two["question_id"], two["turn"]):
            continue
        if -1 in (one["score"], two["score"]):
            continue
        gap = one["score"] - two["score"]
        best = one if gap > 0 else two
        key = (one["question_id"], one["turn"], *sorted((one["model"], two["model"])))
        found[key].append("tie" if abs(gap) <= 0.1 else best["model"])
    return found


def share(x: Keyed, y: Keyed | None, turn: int, ties: bool) -> tuple[float, int]:
    """The percentage that agree and the number of comparisons, counted one by one."""
    agreed = []
    for key, votes in x.items():
        if key[1] != turn:
            continue
        met = combinations(votes, 2) if y is None else product(votes, y.get(key, []))
        agreed += [a == b for a, b in met if ties or "tie" not in (a, b)]
    return 100 * float(np.mean(agreed)), len(agreed)


def votes_of(folder: Path, path: str) -> list[dict[str, Any]]:
    return pd.read_parquet(folder / path).to_dict("records")


def graded(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / made.GRADES).read_text().splitlines()]


ORIGINALS = {
    "votes": "mt-bench-human/original",
    "pairwise": "mt-bench-gpt4/original",
    "grades": "mt-bench/original",
}


@pytest.mark.notebooks
def test_every_cell_of_table_5_from_files_as_they_were_released(folder: Path) -> None:
    names = run_cells("mtbench-agreement", until="", **ORIGINALS)
    assert names["saved"] == folder / "reports/full/mtbench-agreement.csv"
    table = read_table(names["saved"]).set_index(["table", "row", "column"]).sort_index()
    human = keyed(votes_of(folder, made.HUMAN), "expert")
    voters = {"G4-Pair": keyed(votes_of(folder, made.GPT4)), "G4-Single": by_grades(graded(folder))}
    voters["Human"] = human
    for (x, y), turn, ties in product(
        [*combinations(voters, 2), ("Human", "Human")], (1, 2), (True, False)
    ):
        cell = table.loc[f"Table 5, turn {turn}", x, f"{'S1' if ties else 'S2'}/{y}"]
        value, n = share(voters[x], voters[y] if x != y else None, turn, ties)
        assert (cell["n"], cell["basis"]) == (n, "rows")
        assert cell["value"] == pytest.approx(value)
    assert set(table.index.get_level_values(0)) >= {"Table 13, turn 1", "Table 13, turn 2"}
    author = keyed(votes_of(folder, made.HUMAN), "author")
    cell = table.loc["Table 13, turn 2", "G4-Pair", "S1/Author"]
    assert (cell["value"], cell["n"]) == pytest.approx(share(voters["G4-Pair"], author, 2, True))
    # Figure 2: one pair, by hand.
    pair = ("claude-v1", "gpt-4")
    one, two = (
        {key: votes for key, votes in part.items() if key[2:] == pair}
        for part in (voters["G4-Pair"], human)
    )
    cell = table.loc["Figure 2, G4-Pair and Human, turn 1", "/".join(pair), "S2/G4-Pair"]
    assert (cell["value"], cell["n"]) == pytest.approx(share(one, two, 1, False))


@pytest.mark.notebooks
def test_grades_that_lack_a_model_are_not_the_papers_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.released(tmp_path, monkeypatch, graded=[*made.MODELS[:-1], "vicuna-13b-v1.3"])
    table = read_table(run_cells("mtbench-agreement", **ORIGINALS)["saved"])
    five = table[table["table"] == "Table 5, turn 1"]
    assert set(five["row"]) == {"G4-Pair", "G4-Single without vicuna-13b-v1.2", "Human"}
    computed = table[table["value"].notna()]
    assert not computed["column"].str.endswith("/G4-Single").any()


@pytest.mark.notebooks
@pytest.mark.parametrize("parameters", [{"pairwise": made.GPT4}, {"grades": made.GRADES}])
def test_own_files_meet_the_released_votes_as_ones_own(
    folder: Path, parameters: dict[str, str]
) -> None:
    given = {name: str(folder / path) for name, path in parameters.items()}
    saved = run_cells("mtbench-agreement", votes=ORIGINALS["votes"], **given)["saved"]
    assert saved.parent.name == "own"
    table = read_table(saved)
    assert set(table.loc[table["value"].notna(), "basis"]) == {"own"}


@pytest.mark.notebooks
def test_votes_of_another_group_are_ones_own(folder: Path) -> None:
    # Others' votes than the experts' are no cell of the paper's.
    authors = run_cells("02-reproduce-a-paper", group="author")
    assert authors["saved"].parent.name == "own"


def verdict(body: dict[str, Any]) -> str:
    """A judge that believes what the answers of the last turn say of themselves."""
    said = re.findall(r"quality=(\d)", body["messages"][-1]["content"])
    a, b = int(said[len(said) // 2 - 1]), int(said[-1])
    return f"Read. [[{'A' if a > b else 'B' if b > a else 'C'}]]"


@pytest.mark.notebooks
def test_a_judge_of_ones_own_is_asked_about_what_the_voters_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    human = keyed(votes_of(folder, made.HUMAN))
    with Loopback(answer=verdict) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        own = {"judge": "mine", "answers": "mt-bench-human/original", "votes": ORIGINALS["votes"]}
        names = run_cells("mtbench-agreement", record=True, **own)
        assert len(server.calls) == 2 * len({(q, *pair) for q, _, *pair in human}) * 2
        assert len(server.calls) == names["store"].calls
    table = read_table(names["saved"]).set_index(["table", "row", "column"]).sort_index()
    mine: Keyed = {}
    for key in human:
        said = {model: made.quality(key[0], key[1], model) for model in key[2:]}
        best = max(said, key=lambda model: said[model])
        mine[key] = ["tie" if len(set(said.values())) == 1 else best]
    experts = keyed(votes_of(folder, made.HUMAN), "expert")
    for turn in (1, 2):
        cell = table.loc[f"Your judge, turn {turn}", "mine/pair", "S1/Human"]
        assert cell["basis"] == "own"
        assert (cell["value"], cell["n"]) == pytest.approx(share(mine, experts, turn, True))


@pytest.mark.notebooks
def test_every_cell_of_table_7_in_every_reading(folder: Path) -> None:
    names = run_cells("mtbench-winrates", crowd="chatbot-arena/original", **ORIGINALS)
    assert names["saved"] == folder / "reports/full/mtbench-winrates.csv"
    table = read_table(names["saved"]).set_index(["table", "row", "column"])["value"].sort_index()
    called = names["NAMES"]
    voters = {"Human": keyed(votes_of(folder, made.HUMAN), "expert")}
    voters |= {
        "G4-Pair": keyed(votes_of(folder, made.GPT4)),
        "G4-Single": by_grades(graded(folder)),
    }
    seen = 0
    for by, turns, ties in product(voters, ((1,), (1, 2)), (True, False)):
        won: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
        for (question, turn, *pair), votes in voters[by].items():
            for winner, (model, other) in product(votes, (pair, pair[::-1])):
                if turn in turns and (ties or winner != "tie"):
                    won[made.CATEGORIES[question], model, other].append(winner == model)
        title = f"Table 7, by {by}, turn {' and '.join(map(str, turns))}, with"
        title += " ties" if ties else "out ties"
        for category, model in {key[:2] for key in won}:
            rates = [np.mean(wins) for key, wins in won.items() if key[:2] == (category, model)]
            found = table[title, called[model], category]
            assert found == pytest.approx(100 * np.mean(rates))
            seen += 1
    assert seen > 250
    assert {"Figure 4, with ties", "Figure 4, without ties"} <= set(table.index.get_level_values(0))


@pytest.mark.notebooks
def test_the_leaderboards_rows_where_the_public_space_is_at_hand(
    published_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in published_data.rglob("*"):
        if path.is_file():
            at = tmp_path / "data" / path.relative_to(published_data)
            at.parent.mkdir(parents=True, exist_ok=True)
            at.symlink_to(path)
    models = ["gpt-4", "gpt-3.5-turbo", "vicuna-13b-v1.3", "palm-2-chat-bison-001"]
    rows = made.grades(np.random.default_rng(3), models)
    written(tmp_path / "data" / made.GRADES, *rows)
    monkeypatch.setenv("LMJUDGE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache/judgments"))
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    saved = run_cells("mtbench-scores", grades="mt-bench/original")["saved"]
    assert saved == tmp_path / "reports/full/mtbench-scores.csv"
    table = read_table(saved)
    table = table.set_index(["table", "row", "column"]).sort_index()
    by_turn: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        if row["score"] != -1:
            by_turn[row["model"], row["turn"]].append(row["score"])
    first, second = (np.mean(by_turn["palm-2-chat-bison-001", turn]) for turn in (1, 2))
    found = table.loc["Table 2", "PaLM2-Chat-Bison"]["value"]
    assert found[["turn1", "turn2", "difference"]].tolist() == pytest.approx(
        [first, second, second - first]
    )
    # The mean over rows, not over turns: a call of GPT-4's first turn failed.
    every = by_turn["gpt-4", 1] + by_turn["gpt-4", 2]
    for title in ("Table 1", "Table 8"):
        cell = table.loc[title, "GPT-4", "mt_bench"]
        assert (cell["value"], cell["n"], cell["no_verdict"]) == (
            pytest.approx(np.mean(every)),
            9,
            1,
        )
    assert set(table.loc["Table 8"]["basis"]) == {"rows"}
    assert "Vicuna-13B (all)" in table.loc["Table 8"].index


@pytest.mark.notebooks
def test_own_grades_beside_own_benchmarks(folder: Path) -> None:
    results = {
        "results": {
            "mmlu": {"alias": "mmlu", "acc,none": 0.4421, "acc_stderr,none": 0.004},
            "mmlu_anatomy": {"acc,none": 0.3, "acc_stderr,none": 0.04},
            "truthfulqa_mc1": {"acc,none": 0.31, "acc_stderr,none": "N/A"},
        },
        "n-samples": {"mmlu": {"original": 14042, "effective": 14042}},
        "config": {"model_args": "pretrained=somebody/alpaca-13b,dtype=bfloat16"},
    }
    path = folder / "run/results_2026-01-01.json"
    path.parent.mkdir()
    path.write_text(json.dumps(results))
    own = {"grades": str(folder / made.GRADES), "lm_eval": str(path.parent)}
    table = read_table(run_cells("mtbench-scores", **own)["saved"])
    table = table.set_index(["table", "row", "column"]).sort_index()
    eight = table.loc["Your models", "Alpaca-13B"]
    assert eight["value"][["mmlu", "truthfulqa"]].tolist() == pytest.approx([44.21, 31])
    assert eight.loc["mmlu", ["low", "high"]].tolist() == pytest.approx([43.426, 44.994], abs=1e-3)
    assert eight.loc["mt_bench", "n"] == 9
    assert set(table["basis"]) == {"own"}


@pytest.mark.notebooks
def test_a_judge_of_ones_own_grades(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Loopback(answer=lambda body: "Well. [[7]]") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        names = run_cells(
            "mtbench-scores",
            judge="mine",
            answers=str(folder / made.HUMAN),
            record=True,
        )
        assert len(server.calls) == len(made.CATEGORIES) * len(made.MODELS) * 2
    assert names["saved"].parent.name == "own"
    table = read_table(names["saved"]).query("table == 'Grades by mine/single'")
    assert table["value"].tolist() == [7.0] * len(made.MODELS)
    assert set(table["basis"]) == {"own"}


def test_results_files_of_both_of_the_harnesss_forms(tmp_path: Path) -> None:
    old = {"results": {"truthfulqa_mc": {"mc1": 0.3, "mc1_stderr": 0.01, "mc2": 0.4}}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old | {"config": {"model_args": None}}))
    found = lj.load_judgments(path)
    assert found[["model", "category", "criterion", "score"]].values.tolist() == [
        ["old", "truthfulqa_mc", "mc1", 0.3],
        ["old", "truthfulqa_mc", "mc2", 0.4],
    ]
    assert found["low"].tolist()[0] == pytest.approx(0.2804, abs=1e-4)
    assert np.isnan(found["low"].tolist()[1])
    for text, problem in (("{}", "no layout"), ("[1]", "expected a JSON object"), ("{", "JSON")):
        path.write_text(text)
        with pytest.raises(DataError, match=problem):
            lj.load_judgments(path)


def test_means_from_the_radars_notebook_and_from_json(tmp_path: Path) -> None:
    trace = '"name":"M-1","r":[9.5,2,9.5],"subplot":"polar","theta":["Writing","STEM","Writing"]'
    cell = {"outputs": [{"data": {"text/html": ["<script>Plotly({", trace, "})"]}}]}
    path = tmp_path / "radar_plot.ipynb"
    path.write_text(json.dumps({"cells": [{"source": []}, cell], "nbformat": 4}))
    as_json = tmp_path / "means.json"
    as_json.write_text('{"M-1": {"Writing": 9.5, "STEM": 2}}')
    expected = [["M-1", "writing", 9.5], ["M-1", "stem", 2.0]]
    for file in (path, as_json):
        means = lj.load_judgments(file)
        assert means[["model", "category", "score"]].values.tolist() == expected
    as_json.write_text('{"note": "none"}')
    with pytest.raises(DataError, match="no layout"):
        lj.load_judgments(as_json)


def test_the_authors_means_amount_to_the_printed_scores(published_data: Path) -> None:
    means = lj.load_judgments("mt-bench-radar").groupby("model")["score"].mean()
    printed = lj.published("mtbench-scores").query("table == 'Table 1' and column == 'mt_bench'")
    both = printed.set_index("row")["printed"].astype(float).to_frame().join(means, how="inner")
    assert len(both) == 7
    assert (both["score"].round(2) == both["printed"]).all()


def test_which_sources_are_fetched(folder: Path) -> None:
    assert not fetched("mt-bench")
    assert not fetched("vicuna-blog")
    assert fetched("mt-bench-gpt4")
    assert fetched("chatbot-arena")
    with pytest.raises(DataMissing, match="is not a source, and no such path"):
        fetched("mt-bensh")


def test_conversations_are_questions_and_answers(folder: Path, tmp_path: Path) -> None:
    questions, answers = (
        lj.load_questions("mt-bench-human/original"),
        lj.load_answers("mt-bench-human/original"),
    )
    assert set(questions["question_id"]) == set(map(str, made.CATEGORIES))
    assert questions["turns"].str.len().eq(2).all()
    assert len(answers) == len(made.CATEGORIES) * len(made.MODELS)
    assert lj.load_answers(folder / made.HUMAN, models=["gpt-4"])["model"].unique() == ["gpt-4"]
    with pytest.raises(DataMissing, match="no answers of 'gpt-5'"):
        lj.load_answers("mt-bench-human/original", models=["gpt-5"])
    assert set(lj.load_questions("chatbot-arena")["category"]) == {"English", "German"}
    good = made.vote(81, 1, ["m", "n"], "tie", "expert_1") | {
        "conversation_a": [{"content": "Q", "role": "user"}, {"content": "A", "role": "assistant"}],
        "conversation_b": [{"content": "Q", "role": "user"}, {"content": "B", "role": "assistant"}],
    }
    changed = [{"content": "Q", "role": "user"}, {"content": "other", "role": "assistant"}]
    for row, problem in (
        (good | {"conversation_a": changed}, "another text"),
        (good | {"conversation_b": good["conversation_b"][1:]}, "user and assistant in turn"),
        (
            good | {"conversation_b": [{"content": "Q", "who": "user"}]},
            "user and assistant in turn",
        ),
    ):
        path = tmp_path / "talk.parquet"
        pd.DataFrame([good]).to_parquet(path)
        assert len(lj.load_answers(path)) == 2
        pd.DataFrame([good, row] if "who" not in str(row) else [row]).to_parquet(path)
        with pytest.raises(BadRow, match=problem):
            lj.load_answers(path)


def test_own_pairwise_judgments_are_votes(folder: Path, tmp_path: Path) -> None:
    row = {"question_id": 81, "model_1": "m", "model_2": "n", "judge": ["gpt-4", "pair-v2"]}
    row |= {f"g{n}_user_prompt": "x" for n in (1, 2)} | {"turn": 1, "tstamp": 1.0}
    row |= {"g1_judgment": "[[A]]", "g2_judgment": "[[B]]"}
    path = written(tmp_path / "gpt-4_pair.jsonl", row)
    votes = lj.load_votes(path)
    assert votes[["model_a", "model_b", "winner", "group"]].values.tolist() == [
        ["m", "n", "model_a", "llm"]
    ]


def test_only_pairs_that_were_voted_on(folder: Path) -> None:
    questions, answers = (
        lj.load_questions("mt-bench-human/original"),
        lj.load_answers("mt-bench-human/original"),
    )
    votes = lj.load_votes("mt-bench-human/original")
    pairings = lj.pair_up(questions, answers, voted=votes)
    found = {
        (q, *sorted(two)) for q, *two in pairings[["question_id", "model_a", "model_b"]].values
    }
    wanted = {(q, *sorted(two)) for q, *two in votes[["question_id", "model_a", "model_b"]].values}
    assert found == wanted
    assert len(pairings) == len(found)
    assert lj.pair_up(questions, answers, voted=votes[:0]).empty


def test_agreements_name_only_kinds_that_there_are() -> None:
    row = {"question_id": 1, "turn": 1, "model_a": "m", "model_b": "n", "judge": "j"}
    votes = frame("votes", [row | {"group": "llm", "winner": "tie", "reason": None, "time": None}])
    assert lj.agreements({"x": votes, "y": votes})["setting"].tolist() == ["S1", "S2"]
    assert len(lj.agreements({"x": votes, "y": votes}, within=["x"])) == 4
    with pytest.raises(FrameError, match="names z; there are votes of x"):
        lj.agreements({"x": votes}, within=["z"])


def test_the_truth_of_grades_as_votes_against_draws() -> None:
    plan = lj.simulate(0, per_category=1).plan
    judge, rng, n = plan.judges[1], np.random.default_rng(5), 200_000
    kinds, _ = truth.comparisons(plan)
    known = {model.name: model for model in plan.models}
    votes = single_votes(plan, judge)
    assert np.allclose(votes.sum(-1), 1)
    for kind, state in ((0, 2), (17, 13), (55, 26), (40, 8)):
        row, (best, *lengths) = kinds.iloc[kind], truth.STATES[state]
        shared, grades, qualities = rng.standard_normal(n) * plan.question_spread, [], []
        for name, length in zip((row.model_a, row.model_b), lengths, strict=True):
            model = known[name]
            luck = rng.standard_normal(n) * plan.answer_spread
            qualities.append(model.quality(row.category, row.turn) + shared + luck)
            points, chances = zip(
                *judge.extra_points(0, length == 1.57, name == judge.name), strict=True
            )
            seen = qualities[-1] + rng.choice(points, n, p=chances)
            grades.append(np.clip(np.rint(seen + rng.standard_normal(n) * judge.spread), 1, 10))
        better = qualities[0] - qualities[1]
        here = {"model_a": better > 0, "model_b": better < 0, "tie": better == better}[best]
        gap = (grades[0] - grades[1])[here]
        drawn = np.array([(gap > 0).mean(), (gap < 0).mean(), (gap == 0).mean()])
        expected = votes[kind, state, :3] / (1 - judge.failure_rate) ** 2
        assert drawn == pytest.approx(expected, abs=5 / np.sqrt(here.sum()))
