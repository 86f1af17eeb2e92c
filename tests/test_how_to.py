"""Each page of docs/how-to runs as it stands, and prints what it says.

A block ```text right after a block of commands or of Python is what that block prints. The folder
holds the files that the pages name: questions, answers of two models, judgments and votes, and
the files that a page shows. A server on loopback plays the models.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loopback import Loopback
from support import written

import lmjudge as lj
from lmjudge.cli import _parser, main

# The transcript runs on `transformers serve` in tests/endpoints/test_serve.py.
PAGES = [
    page
    for page in sorted((Path(__file__).parents[1] / "docs/how-to").glob("*.md"))
    if page.stem not in {"index", "transcript"}
]
BLOCK = re.compile(r"```(sh|python)\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)
# A block that names one of these needs a network, weights or files of others: it is only parsed.
ELSEWHERE = (
    "fetch",
    "--local",
    "batch submit",
    "hf://",
    "dolphin",
    "my-table",
    "--recipe",
    "gpu1",
    "import serve",
)
ELSEWHERE += ("run.eval", "samples_gsm8k")
# A file that a page shows: its name ends the sentence before the block.
SHOWN = re.compile(r"`([\w-]+\.(?:jsonl?|txt))`[^`]*?:\n\n```(?:json)?\n(.*?)```", re.DOTALL)
TURNS = {"haiku": "Write a haiku about rain.", "lamp": "Greet a ship.", "square": "What is 12²?"}


def reply(body: dict[str, Any]) -> str:
    """Return a verdict for a judge's request, else an answer; the same for the same request."""
    text = json.dumps(body)
    digit = sum(text.encode()) % 5
    if "<<< CRITERIA" in text:
        shown = body["messages"][-1]["content"].partition(">>> END OF CRITERIA")[0]
        names = re.findall(r"^(\w+)(?::.*)?\n\(verdict", shown, re.MULTILINE)
        said: dict[str, Any] = {"tone": ["rude", "neutral", "polite"][digit % 3]}
        said |= {"safe": "cannot assess" if digit == 4 else "pass"}
        verdicts = {name: said.get(name, digit + 1) for name in names}
        return json.dumps({"explanation": "It is clear.", "verdicts": verdicts})
    if "[[A>>B]]" in text:
        return f"Both are short. [[{['A>>B', 'A>B', 'A=B', 'B>A', 'B>>A'][digit]}]]"
    if "[[A]]" in text:
        return f"Both are short. [[{'ABABC'[digit]}]]"
    if "[[" in text:
        return f"It is clear. Rating: [[{digit + 1}]]"
    return f"An answer of {body['model']}, number {digit}."


def quiet(*words: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(words) == 0, words


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Loopback(reply) as server:
        yield server.url


@pytest.fixture
def folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the files that the pages name, and point to the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("LMJUDGE_CACHE", str(tmp_path / "cache/judgments"))
    rows = [
        {"question_id": name, "category": "all", "turns": [turn]} for name, turn in TURNS.items()
    ]
    written(tmp_path / "questions.jsonl", *rows)
    for model in ("old", "new"):
        quiet(
            "generate", "questions.jsonl", "--model", model, "--out", f"model_answer/{model}.jsonl"
        )
    for judge, name in [("judge-1", "old.jsonl"), ("judge-2", "new.jsonl")]:
        asked = ("judge", "questions.jsonl", "model_answer", "--judge", judge)
        quiet(*asked, "--mode", "pairwise-all", "--out", name)
    both = (tmp_path / "old.jsonl").read_bytes() + (tmp_path / "new.jsonl").read_bytes()
    for name in ("judgments.jsonl", "judgments-pairwise-all.jsonl"):
        (tmp_path / name).write_bytes(both)
    votes = [
        [name, "old", "new", winner, voter]
        for voter in ("ann", "ben")
        for name, winner in zip(TURNS, ("model_b", "tie", "model_a"), strict=True)
    ]
    columns = ["question_id", "model_a", "model_b", "winner", "judge"]
    cast = pd.DataFrame(votes, columns=columns)
    for name in ("votes.csv", "people.csv"):
        cast.to_csv(tmp_path / name, index=False)
    cast.to_json(tmp_path / "my-votes.jsonl", orient="records", lines=True)
    theirs = {"model_a": "left_model", "model_b": "right_model", "winner": "preferred"}
    cast.rename(columns={"question_id": "item", "judge": "rater"} | theirs).to_csv(
        tmp_path / "raters.csv", index=False
    )
    games = lj.load_judgments(tmp_path / "old.jsonl")[[*columns]]
    names = {"question_id": "item", "model_a": "first", "model_b": "second", "judge": "llm"}
    games.rename(columns=names | {"winner": "verdict"}).to_json(
        tmp_path / "verdicts.jsonl", orient="records", lines=True
    )
    (tmp_path / "reports").symlink_to(Path(__file__).parents[1] / "reports")
    return tmp_path


def lines(code: str) -> list[str]:
    """Return a block's commands, each on one line."""
    return code.replace("\\\n", " ").splitlines()


def run(kind: str, code: str, names: dict[str, Any]) -> str:
    """Run a block as a shell or a notebook would, and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if kind == "sh":
            for command in lines(code):
                if not command.startswith("export "):
                    program, *words = shlex.split(command)
                    assert program == "lmjudge"
                    assert main(words) in ({0, 1} if words[0] == "gate" else {0}), command
        else:
            *before, last = ast.parse(code).body
            exec(compile(ast.Module(before, []), "page", "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "page", "eval"), names)
                print(value if value is not None else "")
            else:
                exec(compile(ast.Module([last], []), "page", "exec"), names)
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs_and_prints_what_it_says(page: Path, folder: Path) -> None:
    games = lj.load_judgments("judgments-pairwise-all.jsonl")
    names = {"lj": lj, "games": games, "questions": lj.load_questions("questions.jsonl")}
    names["answers"] = lj.load_answers("model_answer")
    for file, text in SHOWN.findall(page.read_text(encoding="utf-8")):
        Path(file).write_text(text, encoding="utf-8")
    for kind, code, expected in BLOCK.findall(page.read_text(encoding="utf-8")):
        if any(word in code for word in ELSEWHERE):
            if kind == "sh":
                for command in lines(code):
                    assert callable(_parser().parse_args(shlex.split(command)[1:]).call)
            continue
        printed = run(kind, code, names)
        if expected:
            assert printed.split() == expected.split()
