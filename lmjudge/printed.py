"""The numbers that papers printed, one CSV per stem, and the digit-by-digit comparison with ours.

Only numbers from a paper, a blog post or its figures are here. `printed` is text, so that its
digits show its precision. `status` says where a number was read:

- printed: in the authors' text, slides or repository
- figure: measured in the authors' figure
- copy: in someone else's transcription of the paper
- recomputed: not read, but computed from the authors' rows or their exact shares
- unverified: quoted from memory, in no source that can be checked

Pages show the last two but never compare them. `rounding` says how the authors rounded:

- half-even: format(value, ".1f")
- half-up: int(value + 0.5)
- percent: k / n * 100 in floats, then half-even (23 of 80 is 28.7)
- ratio: a share with two more decimals, shown in percent
- truncated: digits cut off
- trimmed 2: two decimals, trailing zeros dropped (6 for 6.00)

A printed plus sign is kept. If a work gives a table twice with different numbers, there are two
tables here, each with its title and version.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from importlib.resources import files
from math import isclose
from typing import Any

import pandas as pd

from lmjudge.errors import DataMissing, ReportError

TABLE_COLUMNS = tuple("table row column value n low high too_few no_verdict basis".split())
BASES = ("rows", "arithmetic", "unreleased", "own", "demo")
STATUSES = ("printed", "figure", "copy", "recomputed", "unverified")

_FOLDER = files("lmjudge") / "published"
_CELL = ["table", "row", "column"]
_BY_DIGITS = {"truncated": ROUND_DOWN, "half-up": ROUND_HALF_UP}


def stems() -> list[str]:
    """Return the stems that have a published table, sorted."""
    return sorted(
        entry.name.removesuffix(".csv")
        for entry in _FOLDER.iterdir()
        if entry.name.endswith(".csv")
    )


def published(stem: str) -> pd.DataFrame:
    """Return the published cells of a stem, one cell a row.

    Columns: table, row, column, printed (text), n (missing if the paper gives none), work,
    version, status, rounding. Raises DataMissing for a stem without a published table.

    >>> published("vicuna-scores").loc[0, ["table", "row", "column", "printed"]].tolist()
    ['Table 2', 'LLaMA-13B', 'baseline', '513.0']
    """
    if stem not in stems():
        raise DataMissing(
            f"no paper printed a table for {stem!r}; published are {', '.join(stems())}",
            source=stem,
        )
    with _FOLDER.joinpath(f"{stem}.csv").open(encoding="utf-8") as lines:
        cells = pd.read_csv(lines, dtype=str, keep_default_na=False)
    cells["n"] = pd.to_numeric(cells["n"].replace("", None)).astype("Int64")
    return cells


def compare(table: pd.DataFrame, stem: str) -> pd.DataFrame:
    """Return a table beside the published cells of its stem, then the cells that it lacks.

    `table` has the columns table, row, column, value (in the paper's units), n, low, high,
    no_verdict, basis, and optionally too_few. These columns are added:

    | column | meaning |
    |---|---|
    | printed, n_printed, status | the published number, its n, and where it was read |
    | ours_printed | our value, rounded as the paper rounds |
    | same | whether ours_printed and printed have the same digits |
    | same_n | whether n and n_printed are equal |
    | difference | our value minus the printed number |

    `same` and `same_n` are missing without a value or a printed number, for the statuses recomputed
    and unverified, and for every basis except rows. `difference` is missing for these two statuses
    and for the basis unreleased.

    Raises ReportError for missing columns, a repeated cell and an unknown basis, DataMissing for a
    stem without a published table.
    """
    return beside(table, published(stem), name=stem)


def beside(table: pd.DataFrame, cells: pd.DataFrame, *, name: str) -> pd.DataFrame:
    """Return what `compare` returns, for published cells that are loaded already."""
    missing = [name for name in TABLE_COLUMNS if name not in (*table.columns, "too_few")]
    if missing:
        raise ReportError(
            f"the table {name} lacks {', '.join(missing)}; a table has {', '.join(TABLE_COLUMNS)}",
            name=name,
        )
    unknown = sorted(set(table["basis"].dropna()) - set(BASES))
    if unknown or table["basis"].isna().any():
        raise ReportError(
            f"the table {name} has cells of basis {unknown or 'missing'}; each is one of"
            f" {', '.join(BASES)}",
            name=name,
        )
    twice = table[table.duplicated(_CELL)]
    if len(twice):
        raise ReportError(
            f"the table {name} has the cell {twice[_CELL].iloc[0].tolist()} twice; give each once",
            name=name,
        )
    ours, theirs = table.set_index(_CELL), cells.set_index(_CELL)
    order = ours.index.append(theirs.index[~theirs.index.isin(ours.index)])
    both = ours.reindex(order)
    if "too_few" in both:
        both["too_few"] = both["too_few"].astype("boolean")
    rows = theirs.reindex(order)
    both[["printed", "n_printed", "status"]] = rows[["printed", "n", "status"]]
    both_known = both["value"].notna() & rows["printed"].notna()
    both["ours_printed"] = pd.Series(
        [
            as_printed(value, printed, rounding, n) if known else None
            for known, value, printed, rounding, n in zip(
                both_known, both["value"], rows["printed"], rows["rounding"], both["n"], strict=True
            )
        ],
        index=order,
        dtype="str",
    )
    verified = both_known & ~rows["status"].isin(STATUSES[3:])
    compared = verified & (both["basis"] == "rows")
    same = both["ours_printed"] == both["printed"]
    both["same"] = same.astype("boolean").where(compared)
    known_n = compared & both["n"].notna() & both["n_printed"].notna()
    both["same_n"] = (both["n"].astype("Int64") == both["n_printed"]).where(known_n)
    difference = both["value"] - pd.to_numeric(both["printed"])
    both["difference"] = difference.where(verified & (both["basis"] != "unreleased"))
    return both.reset_index()


def as_printed(value: float, printed: str, rounding: str, n: Any = None) -> str:
    """Return our value with as many digits as the printed one, rounded as its source rounds.

    Raises ValueError for an unknown `rounding`.

    >>> as_printed(28.75, "28.7", "percent", n=80)
    '28.7'
    >>> as_printed(666.5, "667", "half-even")
    '666'
    >>> as_printed(5.999, "6", "trimmed 2")
    '6'
    """
    rule, _, digits = rounding.partition(" ")
    decimals = int(digits) if digits else len(printed.partition(".")[2])
    if rule in ("percent", "ratio") and not pd.isna(n) and n > 0:
        hits = round(value * n / 100)
        # A mean of shares is not k / n and stays unchanged.
        if isclose(hits, value * n / 100, abs_tol=1e-6):
            value = hits / n * 100 if rule == "percent" else hits / n
        elif rule == "ratio":
            value = value / 100
    elif rule == "ratio":
        value = value / 100
    if rule == "ratio":
        text = format(Decimal(format(value, f".{decimals + 2}f")) * 100, f".{decimals}f")
    elif rule in _BY_DIGITS:
        digit = Decimal(1).scaleb(-decimals)
        text = format(Decimal(repr(float(value))).quantize(digit, _BY_DIGITS[rule]), "f")
    elif rule in ("half-even", "percent", "trimmed"):
        text = format(value, f".{decimals}f")
        if rule == "trimmed" and "." in text:
            text = text.rstrip("0").rstrip(".")
    else:
        raise ValueError(
            f"rounding is {rounding!r}; expected half-even, half-up, percent, ratio, truncated or"
            " trimmed"
        )
    text = text.removeprefix("-") if float(text) == 0 else text
    return f"+{text}" if printed.startswith("+") and value > 0 else text
