"""Own files through the shell and through Python: the same numbers, and no silent loss."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmjudge as lj
from lmjudge import audit
from lmjudge.cli import main
from lmjudge.errors import DataError, DataMissing, FrameError, PromptError

SIDES = [("m", "n"), ("n", "m")]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two judges in both orders on 40 questions in columns of one's own, and people's votes."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(5)
    games, votes = [], []
    for item in range(40):
        better = "mn"[item % 3 == 0]
        votes.append({"question_id": f"q{item}", "model_a": "m", "model_b": "n", "judge": "ann"})
        votes[-1]["winner"] = better
        for judge, sure in (("good", 0.9), ("poor", 0.3)):
            for left, right in SIDES:
                won = better if draw.random() < sure else left
                games.append({"prompt_id": f"q{item}", "left_model": left, "right_model": right})
                games[-1] |= {"rater": judge, "preferred": "left" if won == left else "right"}
    pd.DataFrame(games).to_csv("games.csv", index=False)
    pd.DataFrame(votes).to_csv("votes.csv", index=False)
    return tmp_path


COLUMNS = {
    "question_id": "prompt_id",
    "model_a": "left_model",
    "model_b": "right_model",
    "judge": "rater",
    "winner": "preferred",
}
MAPPED = [part for ours, theirs in COLUMNS.items() for part in ("--column", f"{ours}={theirs}")]


def test_python_and_the_shell_give_the_same_numbers(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged, people = lj.load_judgments("games.csv", columns=COLUMNS), lj.load_votes("votes.csv")
    assert "sample" in judged
    assert "group" not in judged
    ranking = audit.choose_judge(judged, people).tables["ranking"].set_index("judge")
    assert ranking.loc["good", "n"] == 40
    assert ranking.loc["poor", "flips"] > 0.3
    assert main(["audit", "games.csv", "--votes", "votes.csv", *MAPPED]) == 0
    shown = capsys.readouterr().out
    assert (
        f"Use good: it agrees with people in {100 * ranking.loc['good', 'agreement']:.1f} %"
        in shown
    )
    table = audit.gate(judged, people, min_agreement=0.5).set_index("judge")
    assert (
        main(["gate", "games.csv", "--votes", "votes.csv", "--min-agreement", "0.5", *MAPPED]) == 1
    )
    assert f"| {table.loc['poor', 'value']:.4g} |" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::lmjudge.errors.OrderFlips")
def test_show_resolves_both_orders_by_its_rule(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {}
    for rule in ("tie", "net"):
        assert main(["show", "games.csv", "--baseline", "n", "--rule", rule, *MAPPED]) == 0
        shown[rule] = capsys.readouterr().out
        assert " 40 " in shown[rule]
        assert " 80 " not in shown[rule]
    assert shown["tie"] != shown["net"]


def test_a_file_without_a_judge_gives_it_its_name(mine: Path) -> None:
    games = pd.read_csv("games.csv")
    one = games[games["rater"] == "good"].drop(columns="rater")
    one.to_csv("grader.v2.csv", index=False)
    columns = {ours: theirs for ours, theirs in COLUMNS.items() if ours != "judge"}
    assert set(lj.load_judgments("grader.v2.csv", columns=columns)["judge"]) == {"grader"}
    assert lj.load_judgments(one, columns=columns)["judge"].isna().all()


def test_judgments_without_a_judge_pass_no_gate(mine: Path) -> None:
    games = lj.load_judgments("games.csv", columns=COLUMNS)
    people = lj.load_votes("votes.csv")
    half = games.assign(judge=games["judge"].where(games.index % 2 == 0))
    for judged, what in (
        (half, "80 of 160 judgments name no judge"),
        (games.drop(columns="judge"), "have no column judge"),
        (games[:0], "there are no judgments"),
    ):
        with pytest.raises(FrameError, match=what):
            audit.gate(judged, people, min_agreement=0.1)
        with pytest.raises(FrameError, match=what):
            audit.choose_judge(judged, people)
        with pytest.raises(FrameError, match=what):
            audit.compare_runs(judged, games)


def test_peoples_blank_votes_are_not_the_judges_silence(mine: Path) -> None:
    games = lj.load_judgments("games.csv", columns=COLUMNS)
    people = lj.load_votes("votes.csv")
    blank = people.assign(winner=people["winner"].where(people.index % 4 > 0))
    choice = audit.choose_judge(games, blank)
    texts = " ".join(finding.text for finding in (*choice.findings, *choice.notes))
    assert "gives no verdict" not in texts
    assert "10 of 40 votes have no verdict, so they are left out." in texts
    kept = audit.choose_judge(games, people[people.index % 4 > 0])
    columns = ["judge", "agreement", "n", "no_verdict"]
    pd.testing.assert_frame_equal(
        choice.tables["ranking"][columns], kept.tables["ranking"][columns]
    )
    with pytest.raises(FrameError, match="none of the 40 votes has a verdict"):
        audit.choose_judge(games, people.assign(winner=None))


def test_no_command_writes_over_what_it_reads(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("games.csv").read_bytes()
    Path("a.html").write_text("votes")
    for command in (
        ["show", "games.csv", "--out", "games.csv"],
        ["audit", "games.csv", "--votes", "a.html", "--out", "./a.html"],
    ):
        with pytest.raises(SystemExit):
            main([*command, *MAPPED])
        assert "is a file that this command reads" in capsys.readouterr().err
    assert Path("games.csv").read_bytes() == before


def test_a_file_given_twice_and_repeated_rows_are_told(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"games\.csv is given twice"):
        lj.load_judgments(["games.csv", "./games.csv"], columns=COLUMNS)
    games = pd.read_csv("games.csv")
    pd.concat([games, games[games["rater"] == "good"]]).to_csv("more.csv", index=False)
    assert main(["audit", "more.csv", "--votes", "votes.csv", *MAPPED]) == 0
    assert "80 of 240 judgments repeat another" in capsys.readouterr().out


def test_what_no_file_has_is_refused(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [part.replace("judge=rater", "judge=ratr") for part in MAPPED]
    for more, what in (
        (wrong, "no file has the column 'ratr' of --column judge=ratr"),
        ([*MAPPED, "--column", "time=when"], "no file has the column 'when'"),
        ([*MAPPED, "--label", "lft=model_a"], "no row has a verdict that --label names: lft"),
    ):
        try:
            code = main(["audit", "games.csv", "--votes", "votes.csv", *more])
        except SystemExit as stopped:
            code = stopped.code  # type: ignore[assignment]
        assert code
        assert what in capsys.readouterr().err


def test_two_files_name_one_column_differently(mine: Path) -> None:
    pd.read_csv("votes.csv").rename(columns={"question_id": "item"}).to_csv("v.csv", index=False)
    more = ["--column", "question_id=item"]
    assert main(["audit", "games.csv", "--votes", "v.csv", *MAPPED, *more]) == 0


def test_an_unknown_table_is_told_all_that_it_lacks(mine: Path) -> None:
    with pytest.raises(DataError) as caught:
        lj.load_judgments("games.csv", columns={"question_id": "prompt_id", "judge": "rater"})
    assert "votes lacks model_a, model_b, winner|win" in str(caught.value)
    assert "--column model_a=left_model --column model_b=right_model --column winner=" in str(
        caught.value
    )


def test_a_page_of_votes_shows_what_was_voted_on(mine: Path) -> None:
    lj.save(
        pd.DataFrame({"question_id": [f"q{n}" for n in range(40)], "category": None}).assign(
            turns=[[f"question {n}"] for n in range(40)], reference=None
        ),
        "questions.jsonl",
    )
    command = ["show", "votes.csv", "--html", "page.html", "--questions", "questions.jsonl"]
    assert main(command) == 0
    page = Path("page.html").read_text()
    assert page.count('<section class="case"') == 40
    assert "question 7" in page


def test_a_question_is_known_by_its_prompt_id() -> None:
    rows = pd.DataFrame({"prompt_id": ["q00"], "question": ["Why?"]})
    assert lj.load_questions(rows)["question_id"].tolist() == ["q00"]


def test_repeats_in_one_order_are_called_repeats(mine: Path) -> None:
    games = lj.load_judgments("games.csv", columns=COLUMNS)
    three = games[games["judge"] == "good"].iloc[[0, 2, 4]].assign(sample=1)
    with pytest.raises(FrameError, match="3 judgments of good repeat another in one order only"):
        audit.choose_judge(pd.concat([games, three]), lj.load_votes("votes.csv"))
    with pytest.raises(FrameError, match="1 of 40 pairs of good were not shown once in each order"):
        audit.choose_judge(games.drop(index=games.index[0]), lj.load_votes("votes.csv"))


def test_what_holds_no_judgments_is_said(mine: Path) -> None:
    notebook = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    Path("mine.ipynb").write_text(notebook)
    with pytest.raises(DataError, match=r"mine\.ipynb holds no games or scores or votes"):
        lj.load_judgments("mine.ipynb")
    with pytest.raises(DataMissing, match=r"https://example\.com/x\.csv is not read: download"):
        lj.load_judgments("https://example.com/x.csv")
    with pytest.raises(PromptError, match=r"no prompt .pare.; the nearest of .* are pair"):
        lj.Judge("pare", model="m")


def test_a_judge_of_one_order_is_not_compared_in_silence(mine: Path) -> None:
    games, people = lj.load_judgments("games.csv", columns=COLUMNS), lj.load_votes("votes.csv")
    once = (games["judge"] == "poor") & (games["model_a"] == "n")
    notes = " ".join(note.text for note in audit.choose_judge(games[~once], people).notes)
    assert "poor saw each pair in one order and others in both" in notes
    notes = " ".join(note.text for note in audit.choose_judge(games, people).notes)
    assert "in one order and others" not in notes


def without(name: str) -> list[str]:
    """The options that map the columns of games.csv, but one."""
    kept = {ours: theirs for ours, theirs in COLUMNS.items() if ours != name}
    return [part for ours, theirs in kept.items() for part in ("--column", f"{ours}={theirs}")]


def test_judges_that_no_column_names_are_not_merged_in_silence(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "games.csv", *without("judge")]) == 0
    told = capsys.readouterr().out
    assert "80 of 160 judgments repeat another" in told
    assert "each file counts as one judge: 'games'" in told
    assert "name it: --column judge=rater" in told
    assert main(["show", "games.csv", *MAPPED]) == 0
    assert "counts as" not in capsys.readouterr().out


def test_rows_without_a_question_are_told(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.read_csv("games.csv").rename(columns={"prompt_id": "item"}).to_csv("games.csv", index=False)
    assert main(["show", "games.csv", *without("question_id")]) == 1
    told = capsys.readouterr()
    assert "160 of 160 rows have no question_id, so nothing says which are on one" in told.out
    assert "160 of 160 games have no question_id" in told.err
    assert "--column question_id=..." in told.err


def test_a_column_of_the_other_file_is_asked_for(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.read_csv("votes.csv").rename(columns={"model_a": "one"}).to_csv("votes.csv", index=False)
    assert main(["audit", "games.csv", "--votes", "votes.csv", *MAPPED]) == 1
    told = capsys.readouterr().err
    assert "votes.csv has no column 'prompt_id'; it has question_id, one," in told
    assert "repeat --column with this file's name for it" in told


def test_scores_and_votes_do_not_meet(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"question_id": ["q1"], "model": ["m"], "judge": ["j"], "score": [7]}
    pd.DataFrame(scores).to_csv("scores.csv", index=False)
    assert main(["audit", "scores.csv", "--votes", "votes.csv"]) == 1
    assert "votes.csv holds no scores; it holds votes" in capsys.readouterr().err


def test_a_closed_pipe_leaves_the_file_written(mine: Path) -> None:
    words = ["audit", "games.csv", "--votes", "votes.csv", *MAPPED, "--out", "answer.md"]
    command = shlex.join([sys.executable, "-m", "lmjudge", *words])
    subprocess.run(f"{command} | true", shell=True, check=True, timeout=120)
    assert Path("answer.md").read_text().startswith("# Choose a judge")
