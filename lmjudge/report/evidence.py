"""The evidence behind each cell of a table: its judgments, and a digest of their records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge.errors import ReportError
from lmjudge.frames import in_order
from lmjudge.places import reports
from lmjudge.records import Record
from lmjudge.report.checking import card_of, saved_tables
from lmjudge.report.files import as_json, page, plain, write
from lmjudge.store import Store

_SHOWN = "question_id turn model model_a model_b judge sample winner score_a score_b score reason"
_OURS = ("rows", "own", "demo")
_TEXTS_A_PAGE, _LINES_A_PAGE = 50, 1000

Records = Mapping[str, Sequence[Record]]


def records_of(store: Store, keys: Iterable[str]) -> dict[str, list[Record]]:
    """Return the store's records by key, the reply first, without keys that the store lacks."""
    records: dict[str, list[Record]] = {}
    for record in store.records(keys):
        records.setdefault(record.request.key, []).append(record)
    return records


def gather(
    table: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str], records: Records
) -> dict[str, Any]:
    """Return the evidence of a table's cells as plain JSON: rows, sets of rows, each cell's set.

    The rows behind a cell are those that equal its group (its `of`, from `cells`) in the columns
    `by`; the two models of a pair may be in either order. A value that no row has is ignored.
    Raises ReportError if `rows` lacks `key` or a column of `by`.
    """
    if lacking := sorted({"key", *by} - set(rows.columns)):
        raise ReportError(
            f"the evidence lacks {', '.join(lacking)}; it has {', '.join(map(str, rows.columns))}",
            name="evidence",
        )
    names = [name for name in _SHOWN.split() if name in rows.columns]
    cells_as_text = rows[[*names, "key"]].astype("string").fillna("").reset_index(drop=True)
    order = in_order(cells_as_text, list(cells_as_text.columns)).index
    texts = rows[list(by)].astype("string").fillna("").reset_index(drop=True).loc[order]
    cells_as_text, texts = (
        cells_as_text.loc[order].reset_index(drop=True),
        texts.reset_index(drop=True),
    )
    known = {name: set(texts[name]) for name in by}
    sets: dict[tuple[int, ...], dict[str, Any]] = {}
    keys: dict[tuple[Any, ...], str] = {}
    cells = []
    for cell in table.to_dict("records"):
        if cell["basis"] not in _OURS:
            continue
        group = cell.get("of") if isinstance(cell.get("of"), tuple) else ()
        where = tuple((name, item) for name, item in group if item in known.get(name, ()))
        if where not in keys:
            chosen = tuple(map(int, _among(texts, dict(where))))
            digest = digest_of({cells_as_text["key"][row] for row in chosen}, records)
            # The digest covers only rows with a record; the page's name covers all rows.
            name = hashlib.sha256(as_json([digest, chosen])).hexdigest()[:12]
            sets.setdefault(chosen, {"page": name, "digest": digest, "rows": list(chosen)})
            keys[where] = sets[chosen]["page"]
        cells.append([cell["table"], cell["row"], cell["column"], keys[where]])
    return {"rows": cells_as_text.to_dict("records"), "sets": list(sets.values()), "cells": cells}


def _among(texts: pd.DataFrame, where: dict[str, str]) -> pd.Index:
    """Return the index of the rows with these values; a pair's models may be in either order."""
    matches = pd.Series(True, index=texts.index)
    pair = {"model_a", "model_b"} <= set(where)
    if pair:
        first, second = where["model_a"], where["model_b"]
        a, b = texts["model_a"], texts["model_b"]
        matches &= ((a == first) & (b == second)) | ((a == second) & (b == first))
    for name, item in where.items():
        if not (pair and name in ("model_a", "model_b")):
            matches &= texts[name] == item
    return texts.index[matches]


def digest_of(keys: Iterable[str], records: Records) -> str:
    """Return what `Store.digest` returns for these keys, from records that are loaded already."""
    total = hashlib.sha256()
    for key in sorted(keys):
        for record in records.get(key, ()):
            total.update(record.line + b"\n")
    return total.hexdigest()


def write_evidence(path: Path, evidence: dict[str, Any], records: Records) -> str:
    """Write the evidence and its pages beside a table's CSV; return the evidence's SHA-256.

    Older pages are removed.
    """
    body = as_json(evidence)
    write(path.with_suffix(".evidence.json"), body)
    folder = path.parent / "evidence" / path.stem
    pages = render(path, evidence, records)
    for old in folder.glob("*.html"):
        if old.name not in pages:
            old.unlink()
    for name, html in pages.items():
        write(folder / name, html)
    return hashlib.sha256(body).hexdigest()


def evidence_of(table: Path) -> dict[str, Any] | None:
    """Return the evidence beside a table's CSV; None if there is none for this table."""
    path, card = table.with_suffix(".evidence.json"), card_of(table)
    if card is None or not path.exists():
        return None
    body = path.read_bytes()
    if card.get("evidence") != hashlib.sha256(body).hexdigest():
        return None
    evidence: dict[str, Any] = json.loads(body)
    return evidence


def check_evidence(stems: Iterable[str] | None = None, store: Store | None = None) -> pd.DataFrame:
    """Compute each table's evidence again from the store, and compare it with the saved evidence.

    Columns: stem, cells (how many lead to evidence), judgments (how many rows), and wrong: a list
    of digests and pages that differ, and of cells without evidence. Tables without evidence are
    left out: those that were not computed here, and those whose rows have no record.

    `stems` selects tables; None takes all. Raises ReportError for a stem that has no CSV.
    """
    opened = Store() if store is None else store
    tables = [table for place in ("published", "full", "own") for table in saved_tables(place)]
    chosen = {table.stem for table in tables} if stems is None else set(stems)
    if unknown := sorted(chosen - {table.stem for table in tables}):
        raise ReportError(
            f"there is no table {unknown[0]}.csv in {reports()}; create it with lmjudge run"
            f" {unknown[0]}",
            name=unknown[0],
        )
    results = []
    for table in tables:
        path = table.path
        if table.stem not in chosen or table.card is None or not table.card.get("evidence"):
            continue
        evidence = evidence_of(path) or {"rows": [], "sets": [], "cells": []}
        records = records_of(opened, {row["key"] for row in evidence["rows"]})
        wrong = [
            row["page"]
            for row in evidence["sets"]
            if row["digest"]
            != digest_of({evidence["rows"][at]["key"] for at in row["rows"]}, records)
        ]
        for name, body in render(path, evidence, records).items():
            saved = path.parent / "evidence" / path.stem / name
            if not saved.exists() or saved.read_bytes() != body:
                wrong.append(name)
        ours = table.table[table.table["basis"].isin(_OURS)]
        cells = ours[["table", "row", "column"]].itertuples(index=False, name=None)
        linked = {tuple(cell[:3]) for cell in evidence["cells"]}
        wrong += [" / ".join(cell) for cell in cells if cell not in linked]
        results.append((table.stem, len(linked), len(evidence["rows"]), wrong))
    return pd.DataFrame(results, columns=["stem", "cells", "judgments", "wrong"])


def render(table: Path, evidence: dict[str, Any], records: Records) -> dict[str, bytes]:
    """Return the pages of a table's evidence by name: the cells, each set of rows, the judgments.

    Each page links to the index, to the table's entry there and to the cells.
    """
    pages: dict[str, bytes] = {}
    rows, stem = evidence["rows"], table.stem
    place = {
        "stem": stem,
        "up": "../../index.html" if table.parent == reports() else "../../../index.html",
        "entry": f"own-{stem}" if table.parent.name == "own" else stem,
    }

    def add(name: str, template: str, heading: str, **values: Any) -> None:
        title = f"{heading}: {stem}"
        body = page(f"evidence/{template}.html.j2", title, heading=heading, **place, **values)
        pages[name] = body.encode()

    counts = {row_set["page"]: len(row_set["rows"]) for row_set in evidence["sets"]}
    cells = [[*cell, counts[cell[-1]]] for cell in evidence["cells"]]
    add("index.html", "cells", "Evidence", cells=cells)
    cells_of: dict[str, list[str]] = {}
    for *cell, set_page in evidence["cells"]:
        cells_of.setdefault(set_page, []).append(" / ".join(map(plain, cell)))
    for row_set in evidence["sets"]:
        titles, at_rows = cells_of[row_set["page"]], row_set["rows"]
        more = f" and {len(titles) - 1} more cells" if len(titles) > 1 else ""
        chunks = range(0, max(len(at_rows), 1), _LINES_A_PAGE)
        names = [f"{row_set['page']}{f'-{n + 1}' if n else ''}.html" for n in range(len(chunks))]
        counts_and_pages = {"count": len(at_rows), "pages": names}
        shared = counts_and_pages | {"cells": titles, "digest": row_set["digest"]}
        for name, first in zip(names, chunks, strict=True):
            lines = [_line(rows[at], at) for at in at_rows[first : first + _LINES_A_PAGE]]
            heading = f"Judgments behind {titles[0]}{more}"
            add(name, "rows", heading, lines=lines, **shared)
    for first in range(0, len(rows), _TEXTS_A_PAGE):
        shown = enumerate(rows[first : first + _TEXTS_A_PAGE], first)
        judgments = [_line(row, at) | _judgment(row, records) for at, row in shown]
        name = f"judgments-{first // _TEXTS_A_PAGE + 1}.html"
        add(name, "judgments", "Judgments", judgments=judgments)
    return pages


def _line(row: dict[str, str], at: int) -> dict[str, Any]:
    """Return one line about a judgment: the address of its text, its subject and its verdict."""
    turn, draw = row.get("turn", ""), row.get("sample", "")
    question = f"Question {row.get('question_id', '')}{f', turn {turn}' if turn else ''}"
    names = ("model_a", "model_b") if row.get("model_a") else ("model",)
    return {
        "at": at,
        "address": f"judgments-{at // _TEXTS_A_PAGE + 1}.html#j{at}",
        "asked": question + (f", sample {draw}" if draw not in ("", "0") else ""),
        "shown": " and ".join(row[name] for name in names if row.get(name)),
        "judge": row.get("judge", ""),
        "verdict": _verdict(row),
        "key": row["key"],
    }


def _judgment(row: dict[str, str], records: Records) -> dict[str, Any]:
    """Return what the store has about a judgment: its request, licence and replies."""
    stored = records.get(row["key"], ())
    request = stored[0].request if stored else None
    return {
        "request": request,
        "params": json.dumps(request.params) if request else "",
        "licence": _licence(request.provider) if request else "",
        "replies": [record.reply.text for record in stored],
    }


def _licence(provider: str | None) -> str:
    from lmjudge.data import SOURCES

    return SOURCES[provider].licence if provider in SOURCES else ""


def _verdict(row: dict[str, str]) -> str:
    scores = [row[name] for name in ("score", "score_a", "score_b") if row.get(name)]
    winner = row.get("winner", "")
    parts = [row.get(winner, winner), " and ".join(scores), row.get("reason", "")]
    return ", ".join(item for item in parts if item) or "none"
