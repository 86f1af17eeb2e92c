"""Every number that the works printed is shown by a stem, or said why not.

published_keys.csv has a line for each table that shows (a part of) a key, and one for what no stem
shows, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lmjudge.printed import as_printed, published, stems
from lmjudge.report import notebooks, read_table

KEYS = pd.read_csv(Path(__file__).with_name("published_keys.csv"), dtype=str, keep_default_na=False)


@pytest.fixture
def reference(published_data: Path) -> dict[str, Any]:
    """The numbers by key, as they were gathered from the works."""
    path = published_data.parent / "reference" / "published.json"
    if not path.exists():
        pytest.skip("published numbers by key: no reference/published.json beside LMJUDGE_DATA")
    return json.loads(path.read_text(encoding="utf-8"))


def shown(key: str) -> pd.DataFrame:
    """The published cells of the tables that show a key."""
    lines = KEYS[(KEYS["key"] == key) & (KEYS["table"] != "")]
    parts = [
        published(stem).query("table == @table")
        for stem, table in zip(lines["stem"], lines["table"], strict=True)
    ]
    return pd.concat([published(stems()[0]).head(0), *parts])


def number(value: object) -> Decimal | None:
    """The value as a number, or None for words ("1T")."""
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None


def at(values: Any, row: int, column: int) -> Any:
    """What stands at a place: of a number for all, a list of rows, or a table."""
    if isinstance(values, list):
        values = values[row]
        return values[column] if isinstance(values, list) else values
    return values


def entries(entry: dict[str, Any]) -> Iterator[tuple[str, str, Decimal, set[int], bool]]:
    """Each number of a key: row, column, value, the n it may have, whether it is verified."""
    for i, row in enumerate(entry["rows"]):
        for j, column in enumerate(entry["columns"]):
            value = number(entry["values"][i][j])
            if value is None:
                continue
            may = {at(entry["n"], i, j)}
            if "n" in entry["columns"]:
                may.add(entry["values"][i][entry["columns"].index("n")])
            sure = entry["verified"] or bool(at(entry.get("verified_cells", 0), i, j))
            yield row.partition(" [")[0], column, value, may - {None}, sure


def test_every_line_names_a_table_or_a_reason() -> None:
    assert (KEYS["key"] != "").all()
    assert not KEYS.duplicated().any()
    for line in KEYS.itertuples():
        assert (line.table != "") != (line.why != ""), f"{line.key}: a table, or why there is none"
        if line.table:
            assert line.stem in stems(), f"{line.key}: no published/{line.stem}.csv"
            assert line.table in set(published(line.stem)["table"]), f"{line.key}: {line.table}"


@pytest.mark.parametrize("stem", stems())
def test_every_published_table_is_of_a_key_or_of_a_text(stem: str) -> None:
    known = set(KEYS.loc[KEYS["stem"] == stem, "table"])
    others = set(published(stem)["table"]) - known
    assert all(title == "Text" or title.startswith("Text, ") for title in others)


def test_no_key_is_missing_and_none_is_made_up(reference: dict[str, Any]) -> None:
    assert set(KEYS["key"]) == set(reference)


@pytest.mark.slow
def test_every_number_stands_with_its_digits(reference: dict[str, Any]) -> None:
    missing = []
    for key, entry in reference.items():
        cells = shown(key)
        if not isinstance(entry["values"], list) or cells.empty:
            continue
        for row, column, value, may, sure in entries(entry):
            names = [(row, column), (column, row)]
            found = cells[
                [pair in names for pair in zip(cells["row"], cells["column"], strict=True)]
            ]
            same = found[[Decimal(printed) == value for printed in found["printed"]]]
            if same.empty:
                missing.append((key, row, column, value, found["printed"].tolist()))
            for cell in same.itertuples():
                wrong = not pd.isna(cell.n) and bool(may) and cell.n not in may
                if wrong or (cell.status == "unverified") == sure:
                    missing.append((key, row, column, cell.n, cell.status))
    assert not missing


def test_tables_of_single_numbers_hold_no_other(reference: dict[str, Any]) -> None:
    for key, entry in reference.items():
        if isinstance(entry["values"], dict):
            told = {number(value) for value in entry["values"].values()}
            assert {Decimal(printed) for printed in shown(key)["printed"]} <= told


def test_totals_by_category_are_those_counted_by_others(reference: dict[str, Any]) -> None:
    saved = read_table(Path(__file__).parents[2] / "reports/vicuna-scores.csv")
    cells = saved.set_index(["table", "row", "column"])["value"]
    counted = [
        (key, entry) for key, entry in reference.items() if key.startswith("vicuna.by_category")
    ]
    assert len(counted) == 4
    for key, entry in counted:
        table = f"Against {key.partition('by_category_')[2]}, by category"
        for row, column, value, _, _ in entries(entry):
            assert cells[table, row, column.removesuffix("_total")] == float(value)


def test_counts_are_behind_the_percentages(reference: dict[str, Any]) -> None:
    for key, entry in reference.items():
        for i, counts in enumerate(entry.get("counts", [])):
            cells = shown(key).set_index(["row", "column"])
            for column, count in zip(entry["columns"], counts, strict=True):
                cell = cells.loc[(entry["rows"][i], column)]
                share = 100 * count / entry["n"]
                assert (
                    as_printed(share, cell["printed"], cell["rounding"], cell["n"])
                    == cell["printed"]
                )


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("vicuna-scores", "eight categories of ten|have nine|entered the scores|one order only"),
        ("mtbench-agreement", "first version|fourth|randomly selected question|pools"),
        ("mtbench-agreement", "Table 5 (v1), turn 1"),
        ("gpt4llm-scores", "233:707|259:724|another opponent|118 %|110 %"),
        ("gpt4llm-scores", "Figure 5(c), authors' notebook"),
        ("gpt4llm-reward", "minus sign is missing"),
        ("gpt4llm-data", "119 scores are 0"),
        ("arena-elo", "K = 32 and then 4|5,929"),
    ],
)
def test_where_a_work_disagrees_with_itself_it_is_said(stem: str, words: str) -> None:
    cells = json.loads(notebooks()[stem].read_text(encoding="utf-8"))["cells"]
    told = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    told += [*published(stem)["table"].unique()]
    for word in words.split("|"):
        assert word in " ".join(" ".join(told).split()), word
