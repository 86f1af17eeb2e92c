"""What a judge or a person left out is said, and changes the answer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import lmjudge as lj
from lmjudge.audit import choose_judge, compare_runs
from lmjudge.cli import main
from lmjudge.errors import FrameError

SIDES = {"m": ("model_a", "model_b"), "n": ("model_b", "model_a")}


def _best(number: int) -> str:
    return "mn"[number % 2]


def _judge(folder: Path, name: str, *, asked: int = 40, answered: int = 40) -> pd.DataFrame:
    """Games of a judge that is right on the first pairs and gives no verdict on the others."""
    rows = [
        {
            "question_id": number,
            "model_a": "mn"[turned],
            "model_b": "nm"[turned],
            "judge": name,
            "winner": SIDES[_best(number)][turned] if number <= answered else "",
        }
        for number in range(1, asked + 1)
        for turned in (0, 1)
    ]
    pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)
    return lj.load_judgments(str(folder / f"{name}.csv"), "games")


def _votes(folder: Path, *, ids: str = "{}", voter: str = "ann", times: int = 1) -> pd.DataFrame:
    rows = [
        {
            "question_id": ids.format(number),
            "model_a": "m",
            "model_b": "n",
            "winner": SIDES[_best(number)][0] if number % 10 else "tie",
            "annotator": voter,
        }
        for number in range(1, 41)
        for _ in range(times)
    ]
    pd.DataFrame(rows).to_csv(folder / "people.csv", index=False)
    return lj.load_votes(str(folder / "people.csv"))


def _scores(judge: str, values: list[float | None]) -> pd.DataFrame:
    rows = pd.DataFrame({"question_id": [f"q{n}" for n in range(len(values))], "score": values})
    rows["score"] = rows["score"].astype(float)
    return rows.assign(turn=1, model="m", judge=judge, sample=0, reason=None, text="", key=None)


def test_a_judge_without_most_verdicts_is_not_to_be_used(tmp_path: Path) -> None:
    judges = [_judge(tmp_path, "few", answered=6), _judge(tmp_path, "every")]
    choice = choose_judge(pd.concat(judges, ignore_index=True), _votes(tmp_path))
    assert choice.findings[0].text.startswith("Use every: ")
    assert "few (no verdict in 85.0 % of 40 comparisons)" in str(choice)


def test_no_sentence_says_nan(tmp_path: Path) -> None:
    judges = [_judge(tmp_path, name, answered=n) for name, n in [("none", 0), ("a", 40), ("b", 40)]]
    choice = choose_judge(pd.concat(judges, ignore_index=True), _votes(tmp_path))
    assert "nan" not in str(choice)
    assert "on 40 pairs, b agrees with people equally often" in choice.findings[0].text
    assert "none (it gave no verdict on a pair with votes)" in str(choice)


def test_votes_that_no_judge_was_asked_about_are_counted(tmp_path: Path) -> None:
    choice = choose_judge(_judge(tmp_path, "j"), _votes(tmp_path, ids="{:0>2}"))
    assert (
        "9 of 40 votes have no judgment of the same two answers, so the comparison leaves them out"
        " (the first: question 01, m and n)."
    ) in str(choice)
    assert "18 of 80 judgments have no vote on the same two answers" in str(choice)
    assert "leaves them out" not in str(choose_judge(_judge(tmp_path, "j"), _votes(tmp_path)))


@pytest.mark.parametrize("values", [[1, 2, 3, 4, 5] * 8, [0, 1] * 20])
def test_scores_without_a_counterpart_are_counted(values: list[float]) -> None:
    judge, people = _scores("j", values), _scores("ann", values)
    choice = choose_judge(judge.iloc[3:], people.iloc[:-5])
    assert [note.text for note in choice.notes] == [
        "3 of 35 scores of people have no judge's score of the same answer, so the comparison"
        " leaves them out (the first: question q0, m).",
        "5 of 37 judges' scores have no person's score of the same answer, so the comparison"
        " leaves them out (the first: question q35, m).",
    ]
    assert not choose_judge(judge, people).notes


def test_labels_without_a_judgment_are_counted(tmp_path: Path) -> None:
    gold = _votes(tmp_path)
    gold = gold[gold["winner"] != "tie"]
    choice = choose_judge(_judge(tmp_path, "j", asked=30), gold, gold=True)
    assert "9 of 36 labels have no judgment of the same two answers" in str(choice)
    assert "6 of 60 judgments have no label of the same two answers" in str(choice)


def test_a_person_who_votes_twice_is_not_two_people(tmp_path: Path) -> None:
    choice = choose_judge(_judge(tmp_path, "j"), _votes(tmp_path, times=2))
    assert "people" not in set(choice.ranking["judge"])
    assert "no pair has two people's votes" in str(choice)


def test_names_that_mean_something_else_are_errors(tmp_path: Path) -> None:
    votes = _votes(tmp_path)
    with pytest.raises(FrameError, match="a judge is named people"):
        choose_judge(_judge(tmp_path, "people"), votes)
    with pytest.raises(FrameError, match="price for jj, which is no judge here; the judges are j"):
        choose_judge(_judge(tmp_path, "j"), votes, prices={"jj": 0.1})


def test_own_judgments_need_votes_of_their_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _judge(tmp_path, "j")
    with pytest.raises(SystemExit):
        main(["audit", str(tmp_path / "j.csv")])
    assert (
        "give people's votes or scores on the same items: --votes FILE" in capsys.readouterr().err
    )
    grades = tmp_path / "grades.csv"
    grades.write_text("question_id,model,score\n1,m,3\n2,m,4\n")
    assert main(["audit", str(tmp_path / "j.csv"), "--votes", str(grades)]) == 1
    assert "has scores of single answers" in capsys.readouterr().err


@pytest.mark.parametrize("people", [[1, 2, 3, 4, 5] * 8, [0, 1] * 20])
def test_a_grader_without_grades_is_left_out_with_its_reason(people: list[float]) -> None:
    judges = [
        _scores("every", people),
        _scores("few", [*people[:5], *[None] * 35]),
        _scores("none", [None] * 40),
    ]
    choice = choose_judge(pd.concat(judges, ignore_index=True), _scores("ann", people))
    assert choice.findings[0].text.startswith("Use every: ")
    assert "few (no grade on 35 of 40 answers)" in str(choice)
    assert "none (no grade on 40 of 40 answers)" in str(choice)
    assert "nan" not in str(choice)


def test_a_grader_on_another_scale_is_named(tmp_path: Path) -> None:
    people = [1, 2, 3, 4, 5] * 8
    choice = choose_judge(_scores("wide", [20 * n for n in people]), _scores("ann", people))
    assert "uses another scale (20 to 100, where people use 1 to 5)" in str(choice)


def test_two_runs_say_what_they_leave_out(tmp_path: Path) -> None:
    old, few = _judge(tmp_path, "old"), _judge(tmp_path, "few", asked=30, answered=6)
    text = str(compare_runs(old, few))
    assert "48 judgments without a verdict in one of the runs" in text
    assert "20 that are in one run alone" in text
    nothing = compare_runs(old, _judge(tmp_path, "none", answered=0), _votes(tmp_path))
    assert str(nothing) == (
        "old to none: no judgment has a verdict in both runs, so nothing is compared."
    )
