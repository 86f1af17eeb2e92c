"""Saves the tables that notebooks write: one CSV a stem, placed by its source, and a run card."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.errors import DataMissing
from lmjudge.places import reports
from lmjudge.prices import cost, prices
from lmjudge.report.evidence import Records, digest_of, gather, records_of, write_evidence
from lmjudge.report.files import as_json, read_csv, to_csv, write
from lmjudge.report.tables import FLAGGED, PLACES, checked
from lmjudge.report.typeset import write_typeset
from lmjudge.store import Store

_PACKAGES = ("lmjudge", "numpy", "pandas", "scipy", "statsmodels", "matplotlib", "openai")


def save_table(
    table: pd.DataFrame,
    stem: str,
    *,
    source: str,
    sources: Iterable[str] = (),
    store: Store | None = None,
    keys: Iterable[str] = (),
    notes: str = "",
    part: bool = False,
    evidence: pd.DataFrame | None = None,
    by: Iterable[str] = (),
) -> Path:
    """The path of the CSV written: `table` in long form, in the place that its `source` has.

    `table` has table, row, column and value, and where there are any n, low, high, too_few,
    no_verdict, basis (by default "rows", "own" or "simulated", as the source is) and, in a
    simulated table, planted. Place: <stem>.csv in the reports folder for "published", below it own/
    or simulated/. Equal tables give equal bytes: cells in their order, numbers to ten significant
    digits, and text that a spreadsheet would run as a formula led by an apostrophe. A run card
    beside it (<stem>.run.json) tells the `sources`' files with their hashes, what the `store` was
    asked, the digest of its records under `keys` (themselves in <stem>.keys), and the versions;
    `notes` stand on the page. <stem>.tex and <stem>.md are the table, typeset. A published table of
    new bytes gets its rows in sources.csv. With `part`, a choice of the published rows, it is one's
    own. With `evidence`, the games or scores that the table rests on, each cell leads to pages of
    its judgments (evidence/<stem>/): those rows that are of the cell's group in the columns `by`,
    all rows where it has none; `keys` are theirs.

    Raises ReportError, with nothing written, for a stem, source, basis or table that does not fit.
    """
    folder = reports()
    if part and source == "published":
        source = "own"
        table = table.assign(table="A choice of rows: " + table["table"], basis="own")
    whole = checked(table.drop(columns="of", errors="ignore"), stem, source)
    written = whole.assign(too_few=whole["too_few"].map({True: FLAGGED}))
    body = to_csv([list(written.columns), *written.itertuples(index=False)])
    files = _hashes(sources)
    given = keys if evidence is None else evidence["key"]
    used = sorted({key for key in given if isinstance(key, str)})
    records = {} if store is None else records_of(store, used)
    behind = None
    if evidence is not None:
        groups = whole.assign(of=list(table["of"]) if "of" in table else None)
        behind = gather(groups, evidence, list(by), records)
    card = {
        "stem": stem,
        "source": source,
        "table_sha256": hashlib.sha256(body).hexdigest(),
        "sources": files,
        "notes": notes,
        "versions": versions(),
        "store": None if store is None else _asked(store, used, records),
    }
    path = folder / PLACES[source] / f"{stem}.csv"
    changed = not path.exists() or path.read_bytes() != body
    write(path, body)
    write_typeset(path, whole)
    if behind is not None:
        card["evidence"] = write_evidence(path, behind, records)
    write(path.with_suffix(".run.json"), as_json(card))
    write(path.with_suffix(".keys"), "".join(f"{key}\n" for key in used).encode())
    if source == "published" and changed:
        _note_sources(folder, stem, files)
    return path


def _asked(store: Store, used: list[str], records: Records) -> dict[str, Any]:
    """What the store was asked and what that cost, and what asking all of it anew would cost.

    Dollars are None where a price is unknown.
    """
    known = prices()
    costs = [cost(held[0].request, held[0].reply, known) for held in records.values()]
    return {
        "spent": store.spent,
        "rerun": None if None in costs else round(sum(item or 0.0 for item in costs), 4),
        "hits": store.hits,
        "misses": store.misses,
        "calls": store.calls,
        "requests": len(used),
        "digest": digest_of(used, records) if used else None,
    }


def _hashes(sources: Iterable[str]) -> dict[str, dict[str, str]]:
    """The SHA-256 of every file that each source is read from here, as {source: {file: sha256}}."""
    from lmjudge.data import SOURCES, find

    found: dict[str, dict[str, str]] = {}
    for name in sorted(sources):
        found[name] = {}
        for file in SOURCES[name].files:
            try:
                path = find(name, file)
            except DataMissing:
                continue
            found[name][file.path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _note_sources(folder: Path, stem: str, files: Mapping[str, Mapping[str, str]]) -> None:
    """Writes what a published table came from into sources.csv, in place of what stood there."""
    header = ["stem", "source", "file", "sha256", "command", "date"]
    path = folder / "sources.csv"
    made = (f"lmjudge run {stem} --source published", datetime.now(UTC).date().isoformat())
    new = [
        (stem, source, file, sha256, *made)
        for source, hashes in files.items()
        for file, sha256 in hashes.items()
    ] or [(stem, "", "", "", *made)]
    # Notebooks that run at the same time add to the one file: the folder is their lock.
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = read_csv(path).itertuples(index=False, name=None) if path.exists() else ()
        rows = sorted([*(row for row in kept if row[0] != stem), *new])
        write(path, to_csv([header, *rows]))
    finally:
        os.close(lock)


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """The versions of Python and of these packages, by default those that every table rests on."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
