"""The answer to "which judge?": each kind of judge gets the right sentences."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmjudge as lj
from lmjudge.audit import Choice, choose_judge, rank_judges
from lmjudge.cli import main
from lmjudge.errors import FrameError
from lmjudge.widgets.choice import choice_markdown

QUESTIONS = 120
MODELS = ["alpha", "beta", "gamma"]
OTHER = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}


def _pairs() -> pd.DataFrame:
    rows = [
        (f"q{number}", 1, a, b)
        for number in range(QUESTIONS)
        for a, b in [("alpha", "beta"), ("alpha", "gamma"), ("beta", "gamma")]
    ]
    return pd.DataFrame(rows, columns=["question_id", "turn", "model_a", "model_b"])


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """Three people a pair: each says what is true in four cases of five, else something else."""
    random = np.random.default_rng(7)
    truth = random.choice(["model_a", "model_b", "tie"], len(_pairs()), p=[0.5, 0.35, 0.15])
    votes = []
    for person in ("ann", "bob", "cai"):
        other = random.choice(["model_a", "model_b", "tie"], len(truth))
        winner = np.where(random.random(len(truth)) < 0.8, truth, other)
        votes.append(_pairs().assign(judge=person, winner=winner, truth=truth))
    made = pd.concat(votes, ignore_index=True)
    return made.assign(group="crowd", reason=None, time=None)


def _games(judge: str, first_order: np.ndarray, second_order: np.ndarray) -> pd.DataFrame:
    """Games in both orders; both verdicts are given from the side of the first order."""
    first = _pairs().assign(winner=first_order)
    turned = _pairs().rename(columns={"model_a": "model_b", "model_b": "model_a"})
    turned["winner"] = [OTHER[winner] for winner in second_order]
    games = pd.concat([first, turned], ignore_index=True)
    more = {"sample": 0, "score_a": None, "score_b": None, "reason": None, "text": "", "key": None}
    return games.assign(judge=judge, **more)


def _person(people: pd.DataFrame, judge: str, seed: int) -> pd.DataFrame:
    """Games of a judge that errs as people do, alike in both orders."""
    random = np.random.default_rng(seed)
    truth = people[people["judge"] == "ann"]["truth"].to_numpy()
    other = random.choice(["model_a", "model_b", "tie"], len(truth))
    winner = np.where(random.random(len(truth)) < 0.8, truth, other)
    return _games(judge, winner, winner)


def _always_first(judge: str = "first") -> pd.DataFrame:
    a, b = (np.full(len(_pairs()), side) for side in ("model_a", "model_b"))
    return _games(judge, a, b)


def _coin(judge: str = "coin") -> pd.DataFrame:
    random = np.random.default_rng(3)
    sides = random.choice(["model_a", "model_b"], (2, len(_pairs())))
    return _games(judge, sides[0], sides[1])


def test_a_judge_that_always_prefers_the_first_answer_is_not_to_be_used(
    people: pd.DataFrame,
) -> None:
    choice = choose_judge(_always_first(), people)
    row = choice.ranking.iloc[0]
    assert (row["flips"], row["first"], row["coverage"]) == (1.0, 1.0, 0.0)
    assert row["agreement"] == pytest.approx((people["winner"] == "tie").mean())
    assert row["agreement"] == pytest.approx(row["guessing"])
    assert str(choice).startswith("Use none of these judges")
    assert "first (" in str(choice)
    assert "prefers the answer shown first in 100.0 % of pairs" in str(choice)


def test_a_judge_that_always_says_tie_is_not_to_be_used(people: pd.DataFrame) -> None:
    ties = np.full(len(_pairs()), "tie")
    choice = choose_judge(_games("constant", ties, ties), people)
    assert choice.ranking["ties"].iloc[0] == 1.0
    assert choice.ranking["flips"].iloc[0] == 0.0
    assert str(choice).startswith("Use none of these judges")
    assert "calls 100.0 % of pairs a tie" in str(choice)


def test_a_coin_is_not_to_be_used(people: pd.DataFrame) -> None:
    choice = choose_judge(_coin(), people)
    assert str(choice).startswith("Use none of these judges")
    assert choice.ranking["flips"].iloc[0] == pytest.approx(0.5, abs=0.1)


def audit_row(choice: Choice, best: str, other: str) -> str:
    """How far the best judge is ahead of another, counting every pair once."""
    rows = choice.compared.set_index(["judge_a", "judge_b"])["difference"]
    ahead = abs(rows.get((best, other), rows.get((other, best))))
    return f"{100 * ahead:.1f} points more than {other}"


def test_a_judge_equal_to_people_is_to_be_used(people: pd.DataFrame) -> None:
    judges = [_person(people, "good", 1), _always_first(), _coin()]
    choice = choose_judge(pd.concat(judges, ignore_index=True), people, prices={"good": 0.002})
    ranking = choice.ranking.set_index("judge")
    assert ranking.index[0] == "good"
    assert ranking.loc["good", "low"] < ranking.loc["people", "agreement"]
    assert ranking.loc["good", "high"] > ranking.loc["people", "agreement"]
    use, order, reject, among, more = choice.findings
    assert use.text.startswith("Use good: it agrees with people in ")
    compared = audit_row(choice, "good", choice.ranking["judge"].iloc[1])
    assert f", more than any other judge here ({compared}, " in use.text
    assert "the order changes it in 0.0 % of pairs" in order.text
    assert "first (" in reject.text
    assert "coin (" in reject.text
    assert "Two people agree in" in among.text
    assert "1,080 comparisons" in among.text  # three pairs of people on each of 360 pairs
    assert "; a pair in both orders costs $0.0040 with good." in more.text


def test_two_judges_alike_cannot_be_told_apart(people: pd.DataFrame) -> None:
    judges = [_person(people, "one", 1), _person(people, "two", 2)]
    choice = choose_judge(pd.concat(judges, ignore_index=True), people)
    assert "these votes cannot tell them apart" in choice.findings[0].text
    assert choice.findings[0].table == "compared"
    assert "Do not use" not in str(choice)
    assert "voted pairs" in choice.findings[-1].text


def test_one_order_alone_hides_position_bias(people: pd.DataFrame) -> None:
    games = _person(people, "good", 1)
    choice = choose_judge(games[: len(_pairs())], people)
    assert np.isnan(choice.ranking["flips"].iloc[0])
    assert "its position bias is unknown" in choice.findings[1].text


def test_agreement_among_people_is_unknown_where_nobody_voted_twice(people: pd.DataFrame) -> None:
    ann = people[people["judge"] == "ann"]
    choice = choose_judge(_person(people, "good", 1), ann)
    assert "people" not in set(choice.ranking["judge"])
    assert any("no pair has two people's votes" in found.text for found in choice.findings)


def test_judges_and_people_who_meet_nowhere_are_an_error_with_ids_of_both(
    people: pd.DataFrame,
) -> None:
    games = _person(people, "good", 1)
    games["question_id"] = "other-" + games["question_id"]
    with pytest.raises(FrameError, match=r"other-q0.*q0"):
        rank_judges(games, people)


def test_the_answer_is_at_most_five_sentences_with_numbers(people: pd.DataFrame) -> None:
    judges = [_person(people, "one", 1), _person(people, "two", 2), _coin(), _always_first()]
    choice = choose_judge(pd.concat(judges, ignore_index=True), people)
    assert len(choice.findings) <= 5
    assert {found.table for found in choice.findings} <= {"ranking", "compared", "precision"}


@pytest.mark.slow
def test_the_shell_gives_the_same_answer_from_files_as_people_keep_them(
    people: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = [_person(people, "good", 1), _always_first(), _coin()]
    games = pd.concat(judged, ignore_index=True)
    named = ["question_id", "model_a", "model_b", "judge", "winner"]
    paths = [tmp_path / "first.csv", tmp_path / "rest.jsonl"]
    first = games["judge"] == "first"
    games.loc[first, named].to_csv(paths[0], index=False)
    games.loc[~first, named].to_json(paths[1], orient="records", lines=True)
    votes = tmp_path / "people.csv"
    renamed = {"model_a": "left", "winner": "better"}
    people[named].rename(columns=renamed).to_csv(votes, index=False)
    page, text = tmp_path / "page.html", tmp_path / "page.md"
    command = ["audit", "--judgments", *map(str, paths), "--votes", str(votes)]
    with pytest.raises(SystemExit):
        main([*command, "--out", "page.pdf"])
    assert main([*command, "--out", str(page)]) == 1  # nothing says which column is which
    assert "left" in capsys.readouterr().err
    people[named].to_csv(votes, index=False)
    for out in (page, text):
        assert main([*command, "--out", str(out)]) == 0
    direct = choose_judge(games, people)
    printed = capsys.readouterr().out
    for finding in direct.findings:
        assert f"- {finding.text}" in printed
        assert escape(finding.text) in page.read_text(encoding="utf-8")
    assert "| good | " in text.read_text(encoding="utf-8")


def test_the_shell_answers_for_prd_by_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    assert main(["audit"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("- Use gpt-4/prd or gpt-3.5-turbo-0301/prd: these votes cannot")
    assert "0.515 0.479 0.550 1760" in printed


@pytest.mark.slow
def test_verdicts_of_judges_among_the_votes_do_not_count_as_people() -> None:
    votes = lj.load_votes("prd")
    people = votes[votes["group"] == "crowd"]
    assert str(choose_judge(lj.load_judgments("prd"), votes)) == str(
        choose_judge(lj.load_judgments("prd"), people)
    )
    with pytest.raises(FrameError, match="4,000 votes are of the group llm"):
        choose_judge(lj.load_judgments("prd"), votes[votes["group"] == "llm"])


def test_every_column_of_an_audit_is_explained(people: pd.DataFrame) -> None:
    choice = choose_judge(pd.concat([_person(people, "good", 1), _always_first()]), people)
    told = choice_markdown(choice).partition("## Columns\n")[2]
    obvious = {"judge", "judge_a", "judge_b", "agreement_a", "agreement_b", "n", "high", "outcome"}
    obvious |= {"pairs", "share", "comparisons", "dollars", "cheap", "dear", "model", "last"}
    for name, table in choice.tables.items():
        for column in set(table.dropna(axis=1, how="all")) - obvious:
            assert f"- {column.replace('_', ' ')}: " in told, (name, column)
