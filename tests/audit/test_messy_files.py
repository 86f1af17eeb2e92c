"""Twelve small files as people write them: each gives an answer, or an error that says how."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmjudge.cli import main

FILES = Path(__file__).parent / "files"
SIDES = ["--column", "model_a=left", "--column", "model_b=right"]
NUMBERS = ["--label", "1=model_a", "--label", "2=model_b", "--label", "0=tie"]
NAMED = ["--column", "question_id=id", *SIDES, "--column", "winner=better", "--column", "judge=who"]
WON = "- Use gpt-x: it agrees with people in {} % of {} comparisons"


@pytest.mark.parametrize(
    ("judged", "votes", "options", "first"),
    [
        ("judge.jsonl", "01-semicolons.csv", [], WON.format(87.5, 40)),
        ("judge.jsonl", "02-names.csv", [], WON.format(87.5, 40)),
        ("judge.jsonl", "03-letters.csv", [], WON.format(87.5, 40)),
        ("judge.jsonl", "04-numbers.csv", [*NAMED, *NUMBERS], WON.format(87.5, 40)),
        ("judge.jsonl", "05-floats.tsv", [], WON.format(87.5, 40)),
        ("judge.jsonl", "06-sides.csv", [], WON.format(87.5, 40)),
        ("judge.jsonl", "07-gaps.csv", [], WON.format(83.8, 37)),
        ("judge.jsonl", "08-two-people.csv", [], WON.format(86.2, 80)),
        ("scores.jsonl", "09-scores.csv", [], "- Use gpt-x: it ranks answers as people do"),
        (
            "scores.jsonl",
            "10-words.csv",
            ["--column", "score=verdict"],
            "- Use gpt-x: it agrees with people on 90.0 % of 20 answers",
        ),
        (
            "flags.jsonl",
            "11-zero-one.csv",
            [],
            "- Use gpt-x: it agrees with people on 95.0 % of 40 answers (kappa 0.90",
        ),
        (
            "judge.jsonl",
            "12-gold.jsonl.gz",
            ["--gold"],
            "- Use gpt-x: it finds the better answer in both orders in 91.4 % of 35 pairs",
        ),
    ],
)
def test_files_as_people_write_them_give_the_answer(
    judged: str, votes: str, options: list[str], first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(FILES / judged), "--votes", str(FILES / votes), *options]) == 0
    assert capsys.readouterr().out.startswith(first)


@pytest.mark.parametrize(
    ("judged", "votes", "told"),
    [
        ("judge.jsonl", "04-numbers.csv", "Say which column is which"),
        ("scores.jsonl", "10-words.csv", "Say which column is which"),
        ("judge.jsonl", "09-scores.csv", "question_id, model, score, judge"),
        ("scores.jsonl", "01-semicolons.csv", "holds no scores"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_it_has(
    judged: str, votes: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(FILES / judged), "--votes", str(FILES / votes)]) == 1
    assert told in capsys.readouterr().err
