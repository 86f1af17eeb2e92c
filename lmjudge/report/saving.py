"""Save a notebook's tables: one CSV a stem and a run card, in a folder that fits the parameters."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lmjudge import places
from lmjudge.errors import DataMissing, ReportError
from lmjudge.places import reports
from lmjudge.prices import cost, prices
from lmjudge.report.evidence import Records, digest_of, gather, records_of, write_evidence
from lmjudge.report.executing import without_secrets
from lmjudge.report.files import as_json, claim_reports, read_csv, to_csv, write
from lmjudge.report.notebook import literal, notebook_parameters
from lmjudge.report.tables import FLAGGED, PLACES, checked
from lmjudge.report.typeset import write_typeset
from lmjudge.store import Store

_PACKAGES = ("lmjudge", "numpy", "pandas", "scipy", "statsmodels", "matplotlib", "openai")
ORIGINAL = "/original"


@dataclass(frozen=True)
class Destination:
    """Where a table goes: the CSV's path, its place (a key of PLACES), and its cells' basis.

    `changed` holds the parameters that differ from the notebook's defaults.
    """

    path: Path
    place: str
    basis: str
    changed: Mapping[str, Any]


def save_table(
    tables: pd.DataFrame | Iterable[pd.DataFrame],
    stem: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    sources: Iterable[str] = (),
    store: Store | None = None,
    keys: Iterable[str] = (),
    notes: str = "",
    evidence: pd.DataFrame | None = None,
    by: Iterable[str] = (),
) -> Path:
    """Save tables in long form as one CSV in the reports folder; return its path.

    - `tables`: frames of `cells`, with table, row, column, value, and optionally n, low, high,
      too_few, no_verdict, basis.
    - `stem`: the file's name, usually the notebook's: lower-case words joined by hyphens.
    - `parameters`: the notebook's parameters.
    - `sources`: sources that the table uses besides those in `parameters`.
    - `store`: adds hits, misses, calls and cost to the run card.
    - `keys`: the keys of the records behind the table.
    - `notes`: a sentence for the table's entry in the index.
    - `evidence`: the games or scores behind the table; replaces `keys`. Each cell then gets pages
      of its judgments (evidence/<stem>/), with the texts from the store. Shipped rows have no
      texts, so they give no pages.
    - `by`: the columns in which the rows behind a cell equal its group; without them, all rows.

    The place of the CSV depends on the parameters:

    | parameters | CSV |
    |---|---|
    | the defaults of lmjudge's notebook `stem` | <stem>.csv |
    | only sources changed, to "<source>/original" | full/<stem>.csv |
    | anything else, or a stem of your own | own/<stem>-<digest>.csv |
    | none, and a stem of your own | own/<stem>.csv |

    The digest covers the parameters and the files that they name, so a table never replaces one
    with other parameters. A cell without a basis gets "rows", or "own" if a parameter names a file
    or the stem is your own.

    Beside the CSV are <stem>.tex, <stem>.md, <stem>.keys and the run card <stem>.run.json:
    parameters, the files read with their SHA-256, store, digest of the records and versions. Equal
    tables give equal bytes: numbers have ten significant digits, and an apostrophe precedes text
    that a spreadsheet would run as a formula.

    Raises ReportError, before it writes anything, for an invalid stem, basis or table.
    """
    frames = [tables] if isinstance(tables, pd.DataFrame) else list(tables)
    table = pd.concat(frames, ignore_index=True)
    to = _destination(stem, parameters)
    names = [*sources, *_sources_in(parameters or {})]
    cells = checked(table.drop(columns="of", errors="ignore"), stem, to.basis)
    written = cells.assign(too_few=cells["too_few"].map({True: FLAGGED}))
    body = to_csv([list(written.columns), *written.itertuples(index=False)])
    hashes = _hashes(names)
    behind_keys = keys if evidence is None else evidence["key"]
    used = sorted({key for key in behind_keys if isinstance(key, str)})
    originals = [name for name in names if name.endswith(ORIGINAL)]
    if evidence is not None and originals:
        store = Store() if store is None else store
        _store_texts(originals, "scores" if "model" in evidence else "games", store)
    records = {} if store is None else records_of(store, used)
    behind = None
    if evidence is not None and records:
        groups = cells.assign(of=list(table["of"]) if "of" in table else None)
        behind = gather(groups, evidence, list(by), records)
    card = {
        "stem": stem,
        "source": to.place,
        "parameters": without_secrets(dict(to.changed)),
        "table_sha256": hashlib.sha256(body).hexdigest(),
        "sources": hashes,
        "notes": notes,
        "versions": versions(),
        "store": None if store is None else _store_usage(store, used, records),
    }
    path = to.path
    claim_reports()
    write(path, body)
    write_typeset(path, cells, stem if to.place in ("published", "full") else None)
    if behind is not None:
        card["evidence"] = write_evidence(path, behind, records)
    write(path.with_suffix(".run.json"), as_json(card))
    write(path.with_suffix(".keys"), "".join(f"{key}\n" for key in used).encode())
    if to.place in ("published", "full"):
        _note_sources(to, stem, hashes)
    return path


def _destination(stem: str, parameters: Mapping[str, Any] | None) -> Destination:
    """Return where a table of these parameters goes."""
    from lmjudge.data import SOURCES

    packaged = places.notebooks().get(stem)
    if packaged is not None and parameters is None:
        raise ReportError(
            f"{stem} is a packaged notebook: pass its parameters=dict(...), or choose another stem",
            name=stem,
        )
    values = dict(parameters or {})
    sources = {} if packaged is None else notebook_parameters(packaged)
    defaults = {name: literal(source) for name, source in sources.items()}
    changed = {
        name: value
        for name, value in values.items()
        if name not in defaults or defaults[name] != value
    }
    named = {
        item: _content(Path(item))
        for value in values.values()
        for item in (value if isinstance(value, list | tuple) else [value])
        if isinstance(item, str) and item and item not in SOURCES and Path(item).exists()
    }
    folder = reports()
    basis = "rows" if packaged is not None and not named else "own"
    if packaged is not None and not changed:
        return Destination(folder / f"{stem}.csv", "published", basis, {})
    full = all(
        isinstance(value, str)
        and value.endswith(ORIGINAL)
        and (source := value.removesuffix(ORIGINAL)) in SOURCES
        and defaults.get(name) in ("", source)
        for name, value in changed.items()
    )
    if packaged is not None and full:
        return Destination(folder / PLACES["full"] / f"{stem}.csv", "full", basis, changed)
    digest = hashlib.sha256(as_json([values, sorted(named.values())])).hexdigest()[:8]
    name = f"{stem}-{digest}.csv" if values else f"{stem}.csv"
    return Destination(folder / PLACES["own"] / name, "own", basis, changed)


def _content(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files below a folder with their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    below = sorted(file for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(
        as_json([[file.relative_to(path).as_posix(), _content(file)] for file in below])
    ).hexdigest()


def _store_texts(sources: Iterable[str], kind: Literal["scores", "games"], store: Store) -> None:
    """Store the judgments of this kind from the sources' original files that are here."""
    from lmjudge.data import import_judgments

    for source in sources:
        with suppress(DataMissing):
            import_judgments(source, store=store, kind=kind)


def _sources_in(parameters: Mapping[str, Any]) -> list[str]:
    """Return the sources that the parameters name, in the same spelling."""
    from lmjudge.data import SOURCES

    texts = [value for value in parameters.values() if isinstance(value, str)]
    return [text for text in texts if text.removesuffix(ORIGINAL) in SOURCES]


def _store_usage(store: Store, used: list[str], records: Records) -> dict[str, Any]:
    """Return the store's counts, the dollars spent, and the dollars to send all requests again.

    Dollars are None if a price is unknown.
    """
    known = prices()
    costs = [cost(stored[0].request, stored[0].reply, known) for stored in records.values()]
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
    """Return {source: {file: SHA-256}} for the files that each source is read from.

    A source's plain name reads the shipped rows if there are any.
    """
    from lmjudge.data import SOURCES, find
    from lmjudge.data.rows import digests

    hashes: dict[str, dict[str, str]] = {}
    for name in sorted(set(sources)):
        source = name.removesuffix(ORIGINAL)
        prefix = f"{source.replace('/', '-')}."
        shipped = {file: sha256 for file, sha256 in digests().items() if file.startswith(prefix)}
        if name == source and shipped:
            hashes[source] = {f"rows/{file}": sha256 for file, sha256 in sorted(shipped.items())}
            continue
        hashes[source] = {}
        for file in SOURCES[source].files:
            try:
                path = find(source, file)
            except DataMissing:
                continue
            hashes[source][file.path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def _note_sources(to: Destination, stem: str, hashes: Mapping[str, Mapping[str, str]]) -> None:
    """Write a table's files and command into sources.csv beside it, replacing its earlier lines."""
    header = ["stem", "source", "file", "sha256", "command"]
    folder = to.path.parent
    path = folder / "sources.csv"
    changed = without_secrets(dict(to.changed))
    options = "".join(f" -p {name}={value}" for name, value in changed.items())
    command = f"lmjudge run {stem}{options}"  # no date, so that another run gives the same bytes
    new = [
        (stem, source, file, sha256, command)
        for source, files in hashes.items()
        for file, sha256 in files.items()
    ] or [(stem, "", "", "", command)]
    # Notebooks that run at the same time add to this file, so they lock its folder.
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = read_csv(path).itertuples(index=False, name=None) if path.exists() else ()
        rows = sorted([*(row[: len(header)] for row in old if row[0] != stem), *new])
        write(path, to_csv([header, *rows]))
    finally:
        os.close(lock)


def versions(packages: Iterable[str] = _PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of these packages, by default those that tables need."""
    by_name = {"python": platform.python_version()}
    for package in packages:
        try:
            by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return by_name
