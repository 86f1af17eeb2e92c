"""Write reports: escaped text, CSV and JSON with the same bytes each time, and atomic files."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lmjudge import places
from lmjudge.canonical import clean_text
from lmjudge.errors import ReportError

if TYPE_CHECKING:
    from jinja2 import Environment

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def plain(text: object) -> str:
    r"""Return the text on one line, without control characters: safe in a terminal and in a cell.

    >>> plain("a\x1b[2Jb\nc")
    'a [2Jb c'
    """
    return _CONTROL.sub(" ", clean_text(str(text)))


def fill(template: str, **values: Any) -> str:
    """Fill a template of templates/; escape every text that is not marked as safe."""
    return str(_templates().get_template(template).render(values))


def page(
    template: str, title: str, *, more_style: str = "", script: str = "", **values: Any
) -> str:
    """Fill a template that extends base.html.j2, as a page that loads nothing.

    Its content security policy allows only this script, by its hash.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    look = f"{style()}\n{more_style}"
    return fill(template, title=title, style=look, script=script, script_digest=digest, **values)


@cache
def style() -> str:
    """Return the style sheet that every page includes."""
    return (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Control characters become U+FFFD.
        finalize=lambda item: _UNSEEN.sub("\ufffd", item) if type(item) is str else item,
    )
    templates.filters |= {"plain": plain, "number": number}
    return templates


def number(item: Any) -> str:
    """Return a number with four digits, integers and large ones in full; "" if missing.

    >>> number(8.340625), number(52002), number(None)
    ('8.341', '52002', '')
    """
    if item is None or pd.isna(item):
        return ""
    return f"{item:.0f}" if float(item).is_integer() or abs(item) >= 1000 else f"{item:.4g}"


def read_csv(path: Path) -> pd.DataFrame:
    """Return the text cells of a CSV that `to_csv` wrote, without the apostrophes of formulas."""
    cells = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    return cells.map(lambda cell: cell[1:] if re.match(rf"'{_FORMULA.pattern}", cell) else cell)


def to_csv(rows: Iterable[Iterable[object]]) -> bytes:
    r"""Return the rows as CSV bytes (UTF-8, LF), with an apostrophe before each formula.

    >>> to_csv([["row", "value"], ["=1+1", 0.5], ["-3", float("nan")]])
    b"row,value\n'=1+1,0.5\n-3,\n"
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[_cell(item) for item in row] for row in rows])
    return out.getvalue().encode()


def write(path: Path, body: bytes) -> None:
    """Write a file in one step, never a part of it. Raises ReportError if it cannot be written."""
    try:
        places.write(path, body)
    except OSError as error:
        raise ReportError(
            f"{path} cannot be written ({error.strerror}); set LMJUDGE_REPORTS to another folder",
            name=str(path),
        ) from error


def claim_reports() -> Path:
    """Mark the reports folder as lmjudge's, and return it.

    Raises ReportError if it cannot be written, or if it has an index.html of another program (there
    is no marker).
    """
    folder = places.reports()
    try:
        foreign = not (folder / places.MARKER).exists() and (folder / "index.html").exists()
        if not foreign:
            places.mark(folder)
    except OSError as error:
        raise ReportError(
            f"{folder} cannot be written ({error.strerror}); set LMJUDGE_REPORTS to another folder",
            name=str(folder),
        ) from error
    if foreign:
        raise ReportError(
            f"{folder} has an index.html that lmjudge did not write. Set LMJUDGE_REPORTS to another"
            " folder, or move the page away.",
            name=str(folder),
        )
    return folder


def as_json(value: Any) -> bytes:
    """Return the value as indented JSON bytes with sorted names."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _cell(item: object) -> str:
    if item is None or item is pd.NA or (isinstance(item, float) and math.isnan(item)):
        return ""
    if isinstance(item, float):
        return f"{item:.10g}"
    text = plain(item)
    if _FORMULA.match(text):
        try:
            float(text)
        except ValueError:
            return f"'{text}"
    return text
