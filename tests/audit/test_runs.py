"""Two runs beside each other, and the gate: in Python and in the shell, end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmjudge as lj
from lmjudge import audit
from lmjudge.cli import main
from lmjudge.errors import FrameError

N = 150
OTHER = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}


def games(judge: str, winners: list[str], second: list[str] | None = None) -> pd.DataFrame:
    """Games of x and y in both orders; both verdicts are given from the first order's side."""
    rows = []
    for question, (one, two) in enumerate(zip(winners, second or winners, strict=True)):
        rows.append((question, "x", "y", one))
        rows.append((question, "y", "x", OTHER[two]))
    frame = pd.DataFrame(rows, columns=["question_id", "model_a", "model_b", "winner"])
    empty = dict.fromkeys(("score_a", "score_b", "reason", "text", "key"))
    return frame.assign(turn=1, judge=judge, sample=0, **empty)


@pytest.fixture(scope="module")
def truth() -> list[str]:
    return list(np.random.default_rng(0).choice(["model_a", "model_b"], N))


@pytest.fixture(scope="module")
def people(truth: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame({"question_id": range(N), "model_a": "x", "model_b": "y"})
    more = {"turn": 1, "judge": "ann", "group": "crowd", "reason": None, "time": None}
    return frame.assign(winner=truth, **more)


def wrong(truth: list[str], share: float) -> list[str]:
    """The truth, turned round on the first share of questions."""
    return [OTHER[w] if at < share * N else w for at, w in enumerate(truth)]


def test_a_gate_compares_the_end_of_the_interval_and_not_the_value(
    truth: list[str], people: pd.DataFrame
) -> None:
    frame = games("j", wrong(truth, 0.2))
    checks = audit.gate(
        frame, people, min_agreement=0.7, max_position_bias=0.1, max_no_verdict=0.1
    ).set_index("check")
    assert checks.loc["agreement", "value"] == pytest.approx(0.8)
    assert checks["passed"].tolist() == [True, True, True]
    met = lj.agreement(lj.resolve(frame), people).iloc[0]
    assert checks.loc["agreement", "low"] == met["low"]
    strict = audit.gate(frame, people, min_agreement=0.78).iloc[0]
    assert (strict["value"] > 0.78, strict["low"] < 0.78, strict["passed"]) == (True, True, False)
    few = audit.gate(frame[:20], people, min_agreement=0.7, max_no_verdict=0.1)
    assert few["passed"].tolist() == [False, False]  # too few to be sure of anything


def test_a_gate_counts_places_and_missing_verdicts(truth: list[str], people: pd.DataFrame) -> None:
    turned = wrong(truth, 0.2)  # the second order says otherwise on a fifth
    frame = games("j", truth, turned)
    first = [(one, two) for one, two in zip(truth, turned, strict=True) if one != two]
    bias = audit.gate(frame, max_position_bias=0.1).iloc[0]
    assert bias["value"] == pytest.approx(len(first) / N)
    assert not bias["passed"]
    frame.loc[:5, ["winner", "reason"]] = [None, "no_verdict"]
    lost = audit.gate(frame, max_no_verdict=0.02).iloc[0]
    assert (lost["value"], lost["n"], lost["passed"]) == (6 / (2 * N), 2 * N, False)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "nothing to check"),
        ({"min_agreement": 0.5}, "needs people's votes"),
    ],
)
def test_a_gate_says_what_it_lacks(truth: list[str], options: dict[str, float], told: str) -> None:
    with pytest.raises(FrameError, match=told):
        audit.gate(games("j", truth), **options)


def test_a_gate_cannot_check_the_position_bias_of_one_order(truth: list[str]) -> None:
    with pytest.raises(FrameError, match="one order"):
        audit.gate(games("j", truth)[::2], max_position_bias=0.1)


def saved(folder: Path, name: str, frame: pd.DataFrame) -> str:
    path = folder / name
    lj.save(frame, path)
    return str(path)


def test_the_shell_gates_with_its_exit_status(
    truth: list[str], people: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = saved(tmp_path, "judged.jsonl", games("j", wrong(truth, 0.1)))
    votes = tmp_path / "people.csv"
    people[["question_id", "model_a", "model_b", "judge", "winner"]].to_csv(votes, index=False)
    command = ["gate", judged, "--votes", str(votes), "--max-position-bias", "0.1"]
    out = tmp_path / "gate.md"
    assert main([*command, "--min-agreement", "0.7", "--max-no-verdict", "0.05"]) == 0
    assert "every check passed" in capsys.readouterr().out
    assert main([*command, "--min-agreement", "0.95", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 checks failed" in printed
    assert out.read_text(encoding="utf-8").splitlines()[2].endswith("| NO |")
    for wrong_usage in (
        ["gate", judged],
        ["gate", judged, "--min-agreement", "0.7"],
        ["gate", judged, "--min-agreement", "70"],
        [*command, "--out", "gate.html"],
    ):
        with pytest.raises(SystemExit):
            main(wrong_usage)


def test_a_committed_store_is_replayed_and_gated_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CI job of the how-to page: record once, then judge and gate offline."""
    study = lj.simulate(2, per_category=1)
    store = study.store(tmp_path / "store")
    model = study.judges[0]
    pairs, judged = tmp_path / "pairs.csv", str(tmp_path / "judged.jsonl")
    shown = ("question", "answer_a", "answer_b")
    texts = {name: [turns[0] for turns in study.pairings[name]] for name in shown}
    study.pairings[["question_id", "model_a", "model_b"]].assign(**texts).to_csv(pairs, index=False)
    judge = lj.Judge("pair", model=model, params={"temperature": 0, "max_tokens": 2048})
    lj.judge_pairs(lj.load_pairings(pairs), judge, store=store, endpoint=study.endpoint)
    monkeypatch.setenv("LMJUDGE_OFFLINE", "1")
    asks = ["judge", str(pairs), "--mode", "pairs", "--judge", model]
    assert main([*asks, "--store", str(tmp_path / "store"), "--out", judged]) == 0
    human = study.votes[(study.votes["turn"] == 1) & (study.votes["group"] == "expert")]
    votes = tmp_path / "people.csv"
    human[["question_id", "model_a", "model_b", "judge", "winner"]].to_csv(votes, index=False)
    command = ["gate", judged, "--votes", str(votes), "--max-no-verdict", "0.5"]
    assert main([*command, "--min-agreement", "0.1"]) == 0
    assert main([*command, "--min-agreement", "0.99"]) == 1
    capsys.readouterr()


def test_two_runs_are_compared_by_what_flipped_and_what_it_did(
    truth: list[str], people: pd.DataFrame
) -> None:
    old, new = games("j", wrong(truth, 0.1)), games("j", wrong(truth, 0.3))
    choice = audit.compare_runs(old, new, people)
    flips = choice.tables["flips"].iloc[0]
    assert (flips["flipped"], flips["reversed"], flips["n"]) == (0.2 * 2 * N, 0.2 * 2 * N, 2 * N)
    row = choice.tables["agreement"].iloc[0]
    assert row[["before", "after", "difference"]].tolist() == pytest.approx([0.9, 0.7, -0.2])
    assert row["high"] < 0
    changed, agreed, *_ = (found.text for found in choice.findings)
    assert changed.startswith("j: 20.0 % of 300 judgments changed (95 % interval ")
    assert "60 of them from one side to the other" in changed
    assert "went from 0.900 to 0.700, a difference of -0.200" in agreed
    assert "cannot tell" not in agreed


def test_runs_alike_are_not_told_apart(truth: list[str], people: pd.DataFrame) -> None:
    near = wrong(truth, 0.1)
    near[-1] = OTHER[near[-1]]
    choice = audit.compare_runs(games("a", wrong(truth, 0.1)), games("b", near), people)
    text = str(choice)
    assert "a to b: 0.7 % of 300 judgments changed" in text
    assert "which these votes cannot tell from no change" in text
    assert "Nothing moved beyond chance" in text
    same = audit.compare_runs(games("a", truth), games("a", truth))
    assert same.tables["flips"]["flipped"].tolist() == [0]
    assert "No rate moved." in str(same)


def graded(judge: str, score: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"question_id": range(N), "model": "x", "score": score.astype(float)})
    more = {"turn": 1, "sample": 0, "reason": None, "text": "", "key": None}
    return frame.assign(judge=judge, **more)


def test_runs_of_scores_are_compared_answer_by_answer() -> None:
    rng = np.random.default_rng(3)
    people = rng.integers(1, 10, N)
    old = np.clip(people + rng.integers(-1, 2, N), 1, 10)
    choice = audit.compare_runs(
        graded("j", old), graded("j", old + (np.arange(N) % 2)), graded("ann", people)
    )
    flips = choice.tables["flips"].iloc[0]
    assert flips["share"] == pytest.approx(0.5)
    moved = choice.tables["drift"].set_index("measure").loc["mean score"]
    assert moved["difference"] == pytest.approx(0.5)
    assert "The mean score" in str(choice)
    assert "the most of 2 changes beyond chance" in str(choice)
    assert choice.tables["agreement"]["n"].tolist() == [N]
    checks = audit.gate(graded("j", old), graded("ann", people), min_agreement=0.8)
    assert checks["passed"].tolist() == [True]


def test_runs_of_other_judges_or_kinds_are_an_error(truth: list[str]) -> None:
    two = pd.concat([games("a", truth), games("b", truth)])
    with pytest.raises(FrameError, match="no judge is in both runs"):
        audit.compare_runs(two, two.assign(judge=two["judge"] + "2"))
    with pytest.raises(FrameError, match="two runs of one kind"):
        audit.compare_runs(two, graded("a", np.ones(N)))


def test_the_shell_compares_two_runs_and_writes_a_page(
    truth: list[str], people: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = saved(tmp_path, "old.jsonl", games("j", wrong(truth, 0.1)))
    new = saved(tmp_path, "new.jsonl", games("j", wrong(truth, 0.3)))
    votes = tmp_path / "people.csv"
    people[["question_id", "model_a", "model_b", "judge", "winner"]].to_csv(votes, index=False)
    for name in ("page.html", "page.md"):
        out = tmp_path / name
        assert main(["compare", old, new, "--votes", str(votes), "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("- j: 20.0 % of 300 judgments changed")
        text = out.read_text(encoding="utf-8")
        assert "20.0 % of 300 judgments changed" in text
        assert "Two runs of a judge" in text


def test_costs_and_models_of_two_runs_come_from_their_store(tmp_path: Path) -> None:
    study = lj.simulate(4, per_category=1)
    store = study.store(tmp_path / "store")
    judges = [lj.Judge("pair", model=name) for name in study.judges[:2]]
    old, new = (
        lj.judge_pairs(study.pairings, judge, store=store, endpoint=study.endpoint)
        for judge in judges
    )
    choice = audit.compare_runs(old, new, store=store)
    assert choice.tables["cost"]["calls"].tolist() == [len(old), len(new)]
    assert choice.tables["versions"]["run"].tolist() == ["old", "new"]


def test_each_judge_of_two_runs_has_its_own_sentences(
    truth: list[str], people: pd.DataFrame
) -> None:
    old = pd.concat([games("steady", truth), games("worse", wrong(truth, 0.1))])
    tied = ["tie" if n % 5 == 0 else side for n, side in enumerate(wrong(truth, 0.1))]
    new = pd.concat([games("steady", truth), games("worse", tied)])
    told = [found.text for found in audit.compare_runs(old, new, people).findings]
    assert [text.partition(":")[0] for text in told] == ["worse"] * 3 + ["steady"] * 3
    assert told[1].startswith("worse: its agreement with people went from 0.900 to 0.")
    assert told[2] == "worse: the share of ties went from 0.000 to 0.200, a change beyond chance."
    assert told[4].endswith("which these votes cannot tell from no change.")
    assert told[5] == "steady: no rate moved."
