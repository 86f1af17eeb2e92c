"""The sources of published data: their licences and the files that they released.

Two tables beside this module list them.

- `sources.csv`: the source's name (also the `provider` of records imported from it), its root (the
  address before each file's, with the revision), licence and home page; `bench`, the FastChat
  questions that it uses if it has none; `asks`, what it requires before a download.
- `files.csv`: the file's role, its model (the one that answered or judged), its path in
  `$LMJUDGE_DATA`, its address and, where known, its SHA-256. A file without an address is another
  copy of the files of its role.

Roles are questions, references, prompts, answers, votes and templates; scores, games, reviews and
threeclass for judgments; instructions and pairs for training data; and rouge for published means.
"""

from __future__ import annotations

import csv
import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmjudge.errors import DataMissing

_OPEN = ("Apache-2.0", "CC-BY-4.0", "MIT")


@dataclass(frozen=True)
class File:
    """One released file: its `role`, `path` here, `url` from the source's root, and SHA-256."""

    role: str
    path: str
    url: str = ""
    sha256: str = ""
    model: str = ""


@dataclass(frozen=True)
class Source:
    """One published source, and its files."""

    name: str
    root: str
    licence: str
    homepage: str
    bench: str = ""
    asks: str = ""
    note: str = ""
    files: tuple[File, ...] = ()

    @property
    def by_default(self) -> bool:
        """Whether `fetch` gets it unasked: it is open, and its licence is stated."""
        return not self.asks and self.licence != "none stated"

    @property
    def may_be_passed_on(self) -> bool:
        """Return whether its licence lets anyone pass its rows on, for any use, without a login."""
        return not self.asks and self.licence in _OPEN

    def having(self, role: str) -> tuple[File, ...]:
        """Return the files of one role, in order."""
        return tuple(file for file in self.files if file.role == role)


def _rows(name: str) -> list[dict[str, str]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _read_sources() -> dict[str, Source]:
    files: dict[str, list[File]] = {}
    for row in _rows("files.csv"):
        files.setdefault(row.pop("source"), []).append(File(**row))
    rows = _rows("sources.csv")
    return {row["name"]: Source(**row, files=tuple(files[row["name"]])) for row in rows}


SOURCES: dict[str, Source] = _read_sources()


def source_name(source: Any) -> str | None:
    """Return the source that a name means, also with "/original" after it; None for anything else.

    >>> source_name("prd/original"), source_name("llama-adapter/mt-bench"), source_name("own.csv")
    ('prd', 'llama-adapter/mt-bench', None)
    """
    if not isinstance(source, (str, os.PathLike)):
        return None
    name = os.fspath(source).removesuffix("/original")
    return name if name in SOURCES else None


def original(source: Any) -> Any:
    """Return what reads a source's released files: `<name>/original`; anything else as it is."""
    name = source_name(source)
    return f"{name}/original" if name else source


def source_named(source: Any) -> Source:
    """Return the source of that name; DataMissing for another name, with those most like it."""
    if (known := source_name(source)) is not None:
        return SOURCES[known]
    name = os.fspath(source)
    near = difflib.get_close_matches(name, SOURCES, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"sources: {', '.join(SOURCES)}"
    raise DataMissing(
        f"{name!r} is not a source, and no such path exists; {hint}",
        source=name,
        path=Path(name),
    )
