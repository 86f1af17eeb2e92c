"""Tables side by side with the papers, and where a table is saved."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hostile import CELLS, PAGES
from hypothesis import given, strategies as st

import lmjudge as lj
from lmjudge.errors import ReportError
from lmjudge.report import check, page_of, read_table, typeset
from lmjudge.report.page import clean_html

DEFAULTS = {"votes": "mt-bench-human", "seed": 0}


def cell(value: float | None = 513.0, **changes: object) -> pd.DataFrame:
    """One cell of the Vicuna blog's Table 2, as printed unless it is changed."""
    known = {"table": "Table 2", "row": "LLaMA-13B", "column": "baseline", "value": value, "n": 80}
    return pd.DataFrame([known | changes])


@pytest.fixture
def nbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packaged notebook `mtbench-agreement` with two parameters, and a reports folder."""
    source = (
        'votes: str = "mt-bench-human"  # votes\ngrades: str = ""  # grades\nseed: int = 0  # s'
    )
    code = {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}}
    path = tmp_path / "mtbench-agreement.ipynb"
    path.write_text(json.dumps({"cells": [code]}))
    monkeypatch.setattr("lmjudge.places.notebooks", lambda: {path.stem: path})
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "shown", "kind"),
    [
        ({}, "513.0 =", "same"),
        ({"value": 513.04}, "513.0 =", "same"),
        ({"value": 514.0}, "514.0 ≠", "differs"),
        ({"n": 79}, "513.0, n 79 ≠", "differs"),
        ({"low": 500.0, "high": 526.0}, "513.0 (500.0 to 526.0) =", "same"),
        ({"low": 5.0, "high": 526.0, "too_few": True}, "513.0 (5.0 to 526.0)* =", "same"),
        ({"basis": "arithmetic"}, "513.0 (=)", "arithmetic"),
        ({"basis": "arithmetic", "value": 1.0}, "1.0 (≠)", "arithmetic"),
        ({"basis": "unreleased", "value": None}, "no rows", "unreleased"),
        ({"basis": "own"}, "513.0", "own"),
        ({"value": None}, "–", "missing"),
    ],
)
def test_a_cell_says_by_sign_and_class_how_it_compares(
    changes: dict[str, object], shown: str, kind: str
) -> None:
    table = lj.side_by_side(cell(**changes), "vicuna-scores")
    assert table.iloc[0, 0] == shown
    assert table.iloc[1, 0].startswith("513.0")
    assert table.kinds[0][0] == kind
    assert f'<td class="{kind}">{shown}</td>' in clean_html(table._repr_html_())
    assert shown.replace("*", "\\*") in typeset(read_back(table, changes), "markdown", STEM)


STEM = "vicuna-scores"


def read_back(table: pd.DataFrame, changes: dict[str, object]) -> pd.DataFrame:
    """The same cell as `read_table` gives it."""
    missing = {"low": None, "high": None, "too_few": False, "no_verdict": None, "basis": "rows"}
    return pd.DataFrame([missing | cell(**changes).iloc[0].to_dict()])


def test_rows_and_columns_stand_as_the_paper_has_them() -> None:
    rows = ["ChatGPT", "LLaMA-13B", "Mine"]
    ours = pd.concat([cell(row=row, column=column) for row in rows for column in ("x", "vicuna")])
    table = lj.side_by_side(ours, STEM)
    assert table.columns.tolist() == ["baseline", "vicuna", "x"]
    names = ["LLaMA-13B", "Alpaca-13B", "Bard", "ChatGPT"]
    order = [item for name in names for item in (name, "printed")]
    assert table.index.tolist() == [*order, "Mine"]
    assert not table.isna().any(axis=None)
    assert table.loc["Mine", "baseline"] == ""
    assert table.legend.startswith("≠ differs from the printed number · – not computed")


def test_unconfirmed_numbers_stand_beside_nothing() -> None:
    ours = cell(81.0, table="Table 13, turn 1", row="Human", column="S1/Human-M")
    table = lj.side_by_side(ours, "mtbench-agreement")
    assert table.shape == (1, 1)
    assert table.iloc[0, 0] == "81"


def test_several_tables_stand_one_below_the_other() -> None:
    both = pd.concat([cell(), cell(68.0, table="Figure 1", column="relative_quality")])
    table = lj.side_by_side(both, STEM)
    assert ("Figure 1", "LLaMA-13B") in table.index
    assert "<th colspan=" in clean_html(table._repr_html_())
    assert type(table.head(2)) is pd.DataFrame


def test_no_table_is_cut() -> None:
    long = "a name of a model that is longer than what pandas shows of any text in a column"
    ours = pd.concat([cell(row=f"{long} {i}", column=f"c{i % 30}") for i in range(200)])
    table = lj.side_by_side(ours, "my-own")
    assert "..." not in table._repr_html_() + repr(table)
    assert f"{long} 199" in table._repr_html_()


@given(st.text(max_size=30) | st.sampled_from([*PAGES, *CELLS]))
def test_no_name_is_obeyed_in_a_table(text: str) -> None:
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.append(tag)

    ours = cell(table=text, row=text, column=text)
    Tags().feed(lj.side_by_side(ours, "my-own")._repr_html_())
    assert set(tags) == {"style", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}


def test_names_scale_and_basis_of_cells() -> None:
    frame = pd.DataFrame({"model": ["a", "b"], "share": [0.5, 0.2], "low": 0.1, "high": 0.9})
    shown = lj.cells(
        frame, "T", row="model", values="share", names={"a": "A"}, scale=100, basis="demo"
    )
    assert shown["row"].tolist() == ["A", "b"]
    assert shown[["value", "low", "high"]].to_numpy().tolist() == [[50, 10, 90], [20, 10, 90]]
    assert set(shown["basis"]) == {"demo"}


@pytest.mark.parametrize(
    ("parameters", "place", "basis"),
    [
        ({}, "", "rows"),
        (DEFAULTS, "", "rows"),
        (DEFAULTS | {"votes": "mt-bench-human/original"}, "full", "rows"),
        (DEFAULTS | {"grades": "mt-bench/original"}, "full", "rows"),
        (DEFAULTS | {"votes": "prd/original"}, "own", "rows"),
        (DEFAULTS | {"votes": "mt-bench-human/original", "seed": 1}, "own", "rows"),
        (DEFAULTS | {"seed": 3}, "own", "rows"),
        (DEFAULTS | {"unknown": 1}, "own", "rows"),
        (DEFAULTS | {"votes": "votes.jsonl"}, "own", "own"),
    ],
)
def test_parameters_decide_the_place_and_files_the_basis(
    nbs: Path,
    monkeypatch: pytest.MonkeyPatch,
    parameters: dict[str, object],
    place: str,
    basis: str,
) -> None:
    monkeypatch.chdir(nbs)
    (nbs / "votes.jsonl").write_text("{}")
    path = lj.save_table([cell(), cell(column="x")], "mtbench-agreement", parameters=parameters)
    assert path.parent == nbs / "reports" / place
    assert (path.stem == "mtbench-agreement") == (place != "own")
    assert set(read_table(path)["basis"]) == {basis}
    card = json.loads(path.with_suffix(".run.json").read_bytes())
    changed = {name: value for name, value in parameters.items() if DEFAULTS.get(name) != value}
    assert card["parameters"] == changed


def test_no_table_replaces_one_of_other_parameters_or_files(
    nbs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(nbs)
    votes = nbs / "votes.jsonl"
    saved = set()
    for seed in (1, 2, 1):
        for text in ("{}", "[]", "{}"):
            votes.write_text(text)
            parameters = {"votes": "votes.jsonl", "seed": seed}
            saved.add(lj.save_table(cell(), "mtbench-agreement", parameters=parameters))
    assert len(saved) == 4
    folder = nbs / "folder"
    folder.mkdir()
    before = lj.save_table(cell(), "mtbench-agreement", parameters={"votes": "folder"})
    (folder / "a.jsonl").write_text("{}")
    assert lj.save_table(cell(), "mtbench-agreement", parameters={"votes": "folder"}) != before


def test_a_packaged_stem_needs_its_parameters_and_your_own_needs_none(nbs: Path) -> None:
    with pytest.raises(ReportError, match="parameters=dict"):
        lj.save_table(cell(), "mtbench-agreement")
    path = lj.save_table(cell(), "mine")
    assert path == nbs / "reports/own/mine.csv"
    assert set(read_table(path)["basis"]) == {"own"}
    assert lj.save_table(cell(), "mine", parameters={"seed": 1}) != path


def test_a_demo_judge_is_saved_as_one_and_never_under_a_papers_title(nbs: Path) -> None:
    path = lj.save_table(cell(table="Demo", basis="demo"), "mtbench-agreement", parameters=DEFAULTS)
    assert set(read_table(path)["basis"]) == {"demo"}
    with pytest.raises(ReportError, match="title of a paper's"):
        lj.save_table(cell(basis="demo"), "mtbench-agreement", parameters=DEFAULTS)


def test_full_runs_are_checked_and_noted_beside_their_tables(nbs: Path) -> None:
    human = {"table": "Table 5, turn 1", "row": "Human", "column": "S1/Human", "n": 721}
    for source, value in (("mt-bench-human", 63.0), ("mt-bench-human/original", 64.0)):
        lj.save_table(cell(value, **human), "mtbench-agreement", parameters={"votes": source})
    checked = check()
    assert checked[["place", "same"]].to_numpy().tolist() == [["published", True], ["full", False]]
    noted = (nbs / "reports/full/sources.csv").read_text()
    assert "lmjudge run mtbench-agreement -p votes=mt-bench-human/original" in noted


def test_a_secret_in_a_parameter_is_kept_nowhere(
    nbs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "a-rather-secret-text")
    url = "https://x.example/a-rather-secret-text"
    path = lj.save_table(cell(), "mtbench-agreement", parameters={"votes": url})
    assert "a-rather-secret-text" not in path.with_suffix(".run.json").read_text()


def test_code_is_folded_in_a_page() -> None:
    from nbformat.v4 import new_code_cell, new_notebook

    page = page_of(new_notebook(cells=[new_code_cell("x = 1")]), "t", None)
    assert '<details class="fold"><summary>Code</summary>' in page
