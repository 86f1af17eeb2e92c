"""What the README shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from loopback import Loopback

import lmjudge as lj
from lmjudge.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:```\n(.*?)```)?", README, re.DOTALL)


def block(with_text: str) -> tuple[str, str]:
    (found,) = [(code, printed) for code, printed in BLOCKS if with_text in code]
    return found


def last_value(code: str, names: dict[str, object]) -> object:
    """The value of the last statement, as a notebook shows it."""
    import ast

    tree = ast.parse(code)
    *before, last = tree.body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(before, []), "README", "exec"), names)
    return eval(compile(ast.Expression(last.value), "README", "eval"), names)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_first_example_prints_what_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, printed = block("rank_judges")
    names: dict[str, object] = {}
    shown = last_value(code, names)
    assert isinstance(shown, pd.DataFrame)
    assert shown.to_string().split() == printed.split()
    (quoted,) = re.findall(r"```sh\nlmjudge audit\n```\n```\n(.*?)```", README, re.DOTALL)
    monkeypatch.delenv("LMJUDGE_DATA", raising=False)
    assert main(["audit"]) == 0
    sentences = [line for line in capsys.readouterr().out.splitlines() if line.startswith("- ")]
    assert quoted.split() == " ".join(sentences[:5]).split()


def test_the_published_numbers_stand_beside_those_of_the_kept_tables() -> None:
    cells = {
        "total of Vicuna-13B against Alpaca-13B": (
            "vicuna-scores",
            "Table 2",
            "Alpaca-13B",
            "vicuna",
        ),
        "quality relative to ChatGPT": (
            "vicuna-scores",
            "Figure 1",
            "Vicuna-13B",
            "relative_quality",
        ),
        "as good as ChatGPT": ("vicuna-scores", "Text", "ChatGPT", "vicuna_wins_or_ties"),
        "with ties": ("mtbench-agreement", "Table 5, turn 1", "Human", "S1/Human"),
        "without ties": ("mtbench-agreement", "Table 5, turn 1", "Human", "S2/Human"),
    }
    rows = re.findall(r"^\| (?:Vicuna|MT-bench).*\|$", README, re.MULTILINE)
    assert len(rows) == len(cells)
    for row, (words, (stem, *where)) in zip(rows, cells.items(), strict=True):
        assert words in row
        kept = lj.compare(lj.read_table(ROOT / "reports" / f"{stem}.csv"), stem)
        cell = kept.set_index(["table", "row", "column"]).loc[tuple(where)]
        printed, ours = (part.strip() for part in row.strip("|").split("|")[2:])
        assert float(printed.removesuffix(" %")) == float(cell["printed"])
        interval = f" ({cell['low']:.0f} to {cell['high']:.0f})" if cell["low"] > 0 else ""
        unit = " %" if printed.endswith("%") else ""
        assert ours == f"{cell['value']:.0f}{unit}{interval}"


def test_a_judge_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = lj.simulate(0, per_category=1)
    lj.save(study.questions, "questions.jsonl")
    lj.save(study.answers, "model_answer", "fastchat")
    model = study.answers["model"].iloc[0]
    with Loopback(answer=lambda body: "Both are fine.\n[[C]]") as server:
        code = block("OpenAIEndpoint")[0].replace("http://localhost:8000/v1", server.url)
        code = code.replace("my-old-model", model)
        shown = last_value(code, {"lj": lj})
        assert shown["ties"].tolist() == shown["n"].tolist()  # type: ignore[index]
        assert len(server.calls) == 2 * shown["n"].sum()  # type: ignore[index]


def test_the_readme_takes_a_minute() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) <= 600


def test_the_two_commands_are_there() -> None:
    for name in ("reproduce", "run-tests"):
        assert f"./{name} " in README
        assert (ROOT / name).stat().st_mode & 0o111


def test_every_file_that_is_linked_is_there() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            # The site makes these pages when it is built, which is a test of its own.
            made = link == "cli.md" or link.startswith(("api/", "notebooks/"))
            if "://" not in link and not made:
                assert (document.parent / link).exists(), f"{document.name}: {link}"
