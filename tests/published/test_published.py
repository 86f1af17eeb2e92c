"""What the papers printed, and ours held against it."""

from __future__ import annotations

import pandas as pd
import pytest

from lmjudge.errors import DataMissing, ReportError
from lmjudge.printed import (
    STATUSES,
    as_printed,
    beside,
    compare,
    published,
    stems,
)


@pytest.mark.parametrize("stem", stems())
def test_published_files_are_well_formed(stem):
    cells = published(stem)
    names = "table row column printed n work version status rounding"
    assert list(cells.columns) == names.split()
    assert not cells.duplicated(["table", "row", "column"]).any()
    assert cells["status"].isin(STATUSES).all()
    assert (cells[["table", "row", "column", "work", "version"]] != "").all(axis=None)
    for cell in cells.itertuples():
        assert as_printed(float(cell.printed), cell.printed, cell.rounding) == cell.printed


def ours(stem, basis="rows"):
    """A table that says what the paper says, as a stand-in for a computed one."""
    cells = published(stem)
    return cells[["table", "row", "column"]].assign(
        value=cells["printed"].astype(float),
        n=cells["n"].astype("Float64").astype(float),
        low=None,
        high=None,
        no_verdict=0,
        basis=basis,
    )


@pytest.mark.parametrize("stem", stems())
def test_one_wrong_digit_is_found_and_nothing_else(stem):
    table, cells = ours(stem), published(stem)
    found = compare(table, stem)
    assert found["same"].dropna().all()
    decimals = cells["printed"].str.partition(".")[2].str.len()
    at = found.index[found["same"].notna() & (decimals < 10)][-1]
    last = float(cells.loc[at, "printed"][-1])
    table.loc[at, "value"] += (1 if last < 9 else -1) * 10.0 ** -decimals[at]
    found = compare(table, stem)
    assert found.index[found["same"] == False].tolist() == [at]  # noqa: E712
    assert abs(found.loc[at, "difference"]) == pytest.approx(10.0 ** -decimals[at])


def test_only_rows_are_held_against_what_was_printed():
    cells = published("arena-agreement")
    for basis in ("arithmetic", "unreleased", "own", "demo"):
        assert compare(ours("arena-agreement", basis), "arena-agreement")["same"].isna().all()
    assert compare(ours("arena-agreement", "rows"), "arena-agreement")["same"].all()
    for status, compared in zip(STATUSES, (True, True, True, False, False), strict=True):
        table = beside(ours("arena-agreement"), cells.assign(status=status), name="x")
        assert table["same"].notna().all() == compared
        assert table["same"].isna().all() != compared
        assert (table["ours_printed"] == table["printed"]).all()
        assert table["difference"].notna().all() == compared
        assert table["difference"].isna().all() != compared
    assert (
        compare(ours("arena-agreement", "unreleased"), "arena-agreement")["difference"].isna().all()
    )


def test_what_one_side_lacks_stays_visible():
    table = ours("vicuna-scores")
    extra = table.iloc[[0]].assign(row="my-model")
    found = compare(pd.concat([extra, table.iloc[3:]]), "vicuna-scores")
    assert found.loc[0, "row"] == "my-model"
    assert pd.isna(found.loc[0, "printed"])
    assert pd.isna(found.loc[0, "same"])
    assert found["value"].iloc[-3:].isna().all()
    assert found["printed"].iloc[-3:].tolist() == ["513.0", "694.0", "583.0"]
    assert found["same"].iloc[-3:].isna().all()
    assert len(found) == len(table) + 1


def test_another_n_is_said():
    table = ours("mtbench-agreement")
    table.loc[0, "n"] += 1
    found = compare(table, "mtbench-agreement")
    assert found.index[found["same_n"] == False].tolist() == [0]  # noqa: E712
    assert compare(ours("mtbench-scores"), "mtbench-scores")["same_n"].isna().all()


def test_bad_tables_are_refused():
    table = ours("vicuna-scores")
    with pytest.raises(ReportError, match="lacks value, basis"):
        compare(table.drop(columns=["value", "basis"]), "vicuna-scores")
    with pytest.raises(ReportError, match=r"cell \['Table 2', 'LLaMA-13B', 'baseline'\] twice"):
        compare(pd.concat([table, table]), "vicuna-scores")
    with pytest.raises(ReportError, match=r"basis \['guessed'\]"):
        compare(table.assign(basis="guessed"), "vicuna-scores")
    with pytest.raises(DataMissing, match="no paper printed a table for 'vicuna'"):
        compare(table, "vicuna")


@pytest.mark.parametrize(
    ("value", "printed", "rounding", "n", "wanted"),
    [
        (23 / 80 * 100, "28.7", "percent", 80, "28.7"),
        (100 * 23 / 80, "28.7", "percent", 80, "28.7"),
        (100 * 23 / 80, "28.7", "percent", None, "28.8"),
        (37 / 80 * 100, "46.2", "percent", 80, "46.2"),
        (9 / 80 * 100, "11.2", "percent", 80, "11.2"),
        (64.1170, "64.1", "percent", 721, "64.1"),
        (100 * 454 / 721, "63", "ratio", 721, "63"),
        (100 * 388 / 479, "81", "ratio", 479, "81"),
        (54.5, "55", "ratio", 200, "55"),
        (54.5, "55", "half-even", 200, "54"),
        (54.5, "55", "ratio", None, "55"),
        (666.5, "666", "half-even", None, "666"),
        (667.5, "668", "half-even", None, "668"),
        (0.0699, "0.0699", "truncated", None, "0.0699"),
        (0.06999, "0.0699", "truncated", None, "0.0699"),
        (-0.1178, "-0.117", "truncated", None, "-0.117"),
        (0.41651 - 0.36025, "+0.0562", "truncated", None, "+0.0562"),
        (-0.0001, "+0.0562", "truncated", None, "-0.0001"),
        (1068.5, "1069", "half-up", None, "1069"),
        (1068.5, "1069", "half-even", None, "1068"),
        (1068.4999, "1069", "half-up", None, "1068"),
        (100 * 593 / 745.5, "80", "half-even", None, "80"),
        (100 * 409 / 704, "58.10", "percent", 704, "58.10"),
        (6.0, "6", "trimmed 2", None, "6"),
        (7.904, "7.9", "trimmed 2", None, "7.9"),
        (10.0, "10", "trimmed 2", None, "10"),
        (-0.001, "0.00", "half-even", None, "0.00"),
        (float("nan"), "0.00", "half-even", None, "nan"),
    ],
)
def test_rounding_as_the_sources_did(value, printed, rounding, n, wanted):
    assert as_printed(value, printed, rounding, n) == wanted


def test_an_unknown_rounding_is_refused():
    with pytest.raises(ValueError, match="expected half-even, half-up"):
        as_printed(1.0, "1", "up")
