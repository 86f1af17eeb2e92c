"""The verdicts that ship with lmjudge: figures of released rows, without their texts.

`<source>.<kind>.csv` beside this module holds the rows of one frame: `games`, `scores`, `votes`,
`questions` (ids and categories) or `answers` (words, characters and Markdown counts of
each turn). `SHA256SUMS` lists the files; `NOTICE` has each licence and citation.
`python -m lmjudge.data.rows` makes them all again from the released files.
"""

from __future__ import annotations

import hashlib
import io
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.data.sources import source_name
from lmjudge.errors import WrongHash
from lmjudge.frames import frame

FOLDER = Path(__file__).parent
# Columns that no file holds: texts stay with their authors, and votes ship without their times.
TEXTS = {
    "games": ("text",),
    "scores": ("text",),
    "votes": ("time",),
    "questions": ("turns", "reference"),
    "answers": ("turns",),
}
_NUMBERS = (
    "turn sample score score_a score_b published_a published_b words characters headings items bold"
).split()


def shipped(source: Any, kind: str) -> pd.DataFrame | None:
    """Return the rows of a source that ship with lmjudge; None where none of this kind do.

    `kind` is "games", "scores", "votes", "questions" or "answers". Columns are those of
    the frame; texts (`text`, `turns`, `reference`) and `time` are missing throughout. An answers
    frame has a row for each turn, with `turn`, `words`, `characters`, `headings`, `items` (of
    lists) and `bold`. `asked` is the request's key without its provider where rows of two sources
    share it, else `key`. `attrs["source"]` is the source's name. None for `<name>/original`, and
    for anything that is no source's name. Raises WrongHash for a changed file.

    >>> shipped("vicuna-blog", "games")["question_id"].nunique()
    80
    >>> shipped("vicuna-blog/original", "games") is None
    True
    """
    name = source_name(source)
    path = FOLDER / f"{str(name).replace('/', '-')}.{kind}.csv"
    if name is None or str(source) != name or path.name not in digests():
        return None
    content = path.read_bytes()
    expected, digest = digests()[path.name], hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise WrongHash(
            f"{path} has the SHA-256 {digest}, not {expected} as shipped; reinstall lmjudge, or"
            " restore the file",
            path=path,
            expected=expected,
            found=digest,
        )
    return _read(content, kind, name)


def sources(kind: str | None = None) -> list[str]:
    """Return the names of the sources that ship rows, or rows of this kind, sorted."""
    parts = [name.removesuffix(".csv").rpartition(".") for name in digests()]
    return sorted({stem for stem, _, kind_of_file in parts if kind in (None, kind_of_file)})


@cache
def digests() -> dict[str, str]:
    """Return the SHA-256 of each shipped file by its name."""
    lines = (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _read(content: bytes, kind: str, source: str) -> pd.DataFrame:
    """Return the rows of a file as the frame of its kind."""
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=str)
    table = table.where(table != "")
    for name in table.columns:
        if name in _NUMBERS:
            table[name] = pd.to_numeric(table[name])
    for name in TEXTS[kind]:
        table[name] = float("nan") if name == "time" else None
    if "published" in table and kind == "scores":
        table["published"] = pd.to_numeric(table["published"])
    if "key" in table.columns:
        table["asked"] = table["asked"].fillna(table["key"]) if "asked" in table else table["key"]
    rows = frame(kind, table)
    rows.attrs["source"] = source
    return rows
