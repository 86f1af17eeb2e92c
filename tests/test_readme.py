"""What the README shows works as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from loopback import Loopback

import lmjudge as lj
from lmjudge.errors import ReportError
from lmjudge.published import TABLE_COLUMNS
from lmjudge.report.readme import table_of_tables, write_readme

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


def test_the_first_example_prints_what_it_says(published_data: Path) -> None:
    code, printed = block("mt-bench-human")
    shown = last_value(code, {})
    assert isinstance(shown, pd.DataFrame)
    assert shown.to_string().split() == printed.split()


def test_judging_again_in_replay(published_data: Path) -> None:
    plan = last_value(block('"dolphin"')[0], {"lj": lj})
    assert (plan.requests, plan.hits, plan.misses) == (800, 787, 13)  # type: ignore[attr-defined]


def test_a_judge_of_ones_own() -> None:
    study = lj.simulate(0, per_category=1)
    model = study.answers["model"].iloc[0]
    with Loopback(answer=lambda body: "Both are fine.\n[[C]]") as server:
        code = block("OpenAIEndpoint")[0].replace("http://localhost:8000/v1", server.url)
        code = code.replace("my-old-model", model)
        names = {"lj": lj, "questions": study.questions, "answers": study.answers}
        shown = last_value(code, names)
        assert set(shown["winner"]) == {"tie"}  # type: ignore[index]
        assert len(server.calls) == len(shown)  # type: ignore[arg-type]


def test_the_simulated_example() -> None:
    assert len(last_value(block("lj.simulate")[0], {"lj": lj})) > 0  # type: ignore[arg-type]


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


def test_the_table_of_tables_is_what_the_csvs_say(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README, encoding="utf-8")
    write_readme(readme, ROOT / "reports")
    again = "run python -m lmjudge.report.readme and commit the README with the reports"
    assert readme.read_text(encoding="utf-8") == README, again
    readme.write_text("# No place for it", encoding="utf-8")
    with pytest.raises(ReportError, match="lacks the lines <!-- tables"):
        write_readme(readme, ROOT / "reports")


def test_the_table_of_tables_without_any_of_ours(tmp_path: Path) -> None:
    lines = table_of_tables(tmp_path).splitlines()
    alone = [line for line in lines if line.startswith("| `mtbench-agreement`")]
    assert "6 unverified |  |" in alone[0]
    assert all("published alone |" in line for line in lines[2:])


def test_the_table_of_tables_tells_what_is_held_against_what(tmp_path: Path) -> None:
    rows = [
        # Counted from the authors' rows, printed nowhere.
        ("Figure 3", "Bard", "tie", 10.0, "rows"),
        ("Figure 1", "Bard", "relative_quality", 93.3, "arithmetic"),
        ("Figure 1", "ChatGPT", "relative_quality", 99.0, "arithmetic"),
        ("Table 2", "Bard", "vicuna", 655.5, "rows"),
        ("Table 2", "Bard", "baseline", 665.0, "rows"),
    ]
    names = ["table", "row", "column", "value", "basis"]
    whole = pd.DataFrame(rows, columns=names).assign(n=80, no_verdict=0)
    whole.reindex(columns=list(TABLE_COLUMNS)).to_csv(tmp_path / "vicuna-scores.csv", index=False)
    lines = [line for line in table_of_tables(tmp_path).splitlines() if "`vicuna" in line]
    told = {line.split(" | ")[1].rpartition(", ")[2]: line.split(" | ")[3] for line in lines}
    assert told["Table 2"] == "655.5, 665.0 (1 of 2 as printed)"
    assert told["Figure 1"] == "1 of 2 consistent with its own numbers"
    assert told["Figure 3"] == "10 (not compared)"
    assert told["Text"] == ""
