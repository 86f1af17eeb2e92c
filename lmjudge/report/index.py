"""The page that puts all tables together: ours beside the published, planted beside recovered."""

from __future__ import annotations

import hashlib
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from lmjudge import places
from lmjudge.places import reports
from lmjudge.published import published, stems as published_stems
from lmjudge.report.card import facts
from lmjudge.report.checking import (
    COMPARED,
    Saved,
    compared,
    largest_difference,
    readable_tables,
    source_notes,
)
from lmjudge.report.evidence import evidence_of
from lmjudge.report.files import as_json, number, plain, write
from lmjudge.report.page import whole_page
from lmjudge.report.tables import PLACES

_LONG = 16
_NAMES = ("Row", "Column")
_TEXTS = (*_NAMES, "Recomputed", "As printed")
_NOT_COMPARED = {
    "recomputed": "counted from the authors' rows, printed nowhere: not compared",
    "unverified": "unverified: not compared",
}
_FOLLOWS = "consistent with its own totals"
_NOT_HERE = (
    '<p class="banner">Where it says “by the maintainers”, the released rows are not at hand here:'
    " the table is the one kept in git, with the files that it was computed from. What ran here in"
    ' its place is the <a href="#self-test">self-test on the simulated study</a>. With the rows'
    " (<code>lmjudge fetch</code>, or LMJUDGE_DATA) the tables are recomputed here.</p>"
)
_NONE = (
    '<p class="soft">None of them is from released rows yet: <code>lmjudge fetch</code> gets those,'
    " then <code>lmjudge run</code>.</p>"
)


def write_index() -> Path:
    """The path of reports/index.html, written from the tables that lie in the reports folder.

    First what was recomputed from released rows, here or by the maintainers, then tables of one's
    own files, then the self-test on the simulated study. A CSV that is no table is left out, and
    told of at the top. Equal tables and run cards give equal bytes. manifest.json beside it has
    each table's run card and the SHA-256 of its files.
    """
    found = {place: readable_tables(place) for place in PLACES}
    strange = [errors for _, errors in found.values()]
    shipped, full, own, simulated = (tables for tables, _ in found.values())
    fuller = {one.stem: one for one in full}
    rows = [fuller.get(one.stem, one) for one in shipped]
    rows += [one for one in full if one.stem not in {other.stem for other in shipped}]
    titles = places.titles()
    title = "Reproduced tables" if rows else "Tables"
    failed = [page.stem for page in sorted((reports() / "failed").glob("*.html"))]
    body = [f"<h1>{title}</h1>"]
    if failed:
        many = "1 run" if len(failed) == 1 else f"{len(failed)} runs"
        links = ", ".join(_link(f"failed/{stem}.html", stem) for stem in failed)
        body.append(f'<p class="banner warn"><strong>{many} failed</strong>: {links}</p>')
    for error in chain(*strange):
        body.append(f'<p class="banner warn"><strong>left out</strong>: {escape(str(error))}</p>')
    if rows:
        body += [
            "<p>Each table is computed by a notebook from the rows that its authors released, and"
            " stands beside the numbers that they printed. Every cell says what it rests on.</p>",
            *([_NOT_HERE] if simulated and not all(one.here for one in rows) else []),
            _overview(rows, titles, failed),
            "<h2>Recomputed from released rows</h2>",
            *(_section(one, titles) for one in rows),
        ]
    else:
        body.append(_NONE)
    if own:
        body += ["<h2>From your own files</h2>", *(_section(one, titles) for one in own)]
    if simulated:
        inside, told = map(sum, zip(*(_inside(one.table) for one in simulated), strict=True))
        body += [
            '<h2 id="self-test">Self-test: the simulated study</h2>',
            '<p class="banner"><strong>No model and no person said anything in it.</strong> The'
            " same notebooks run on a study whose truth was planted, and must recover it:"
            f" {inside} of {told} planted values lie inside their 95 % intervals (of intervals that"
            " hold, one in twenty misses by chance).</p>",
            *(_section(one, titles) for one in simulated),
        ]
    path = reports() / "index.html"
    write(path, whole_page(title, body))
    write(reports() / "manifest.json", as_json(_manifest([*rows, *own, *simulated])))
    return path


def _manifest(tables: list[Saved]) -> dict[str, Any]:
    """Of each table that was computed here: what its run card tells, and its files' SHA-256."""
    told = {}
    for one in tables:
        if one.card is not None:
            ends = (".csv", ".html", ".ipynb", ".md", ".tex")
            files = [one.path.with_suffix(end) for end in ends]
            files += sorted((one.path.parent / "evidence" / one.stem).glob("*.html"))
            outputs = {
                file.relative_to(reports()).as_posix(): hashlib.sha256(
                    file.read_bytes()
                ).hexdigest()
                for file in files
                if file.exists()
            }
            told[f"{one.source}/{one.stem}"] = one.card | {"outputs": outputs}
    return told


def _overview(rows: list[Saved], titles: dict[str, str], failed: list[str]) -> str:
    lines = []
    for one in rows:
        cells = compared(one)
        elsewhere = "run failed here" if one.stem in failed else "by the maintainers"
        lines.append(
            f'<tr><td class="title">{_link(f"#{one.stem}", titles.get(one.stem, one.stem))}</td>'
            f'<td class="name">{"here" if one.here else elsewhere}</td>'
            f'<td class="name">{_verdict(cells)}</td>{_figure(largest_difference(cells))}</tr>'
        )
    heads = ["Table", "Recomputed", "As printed", "Off by"]
    told = "<p class=soft>Off by: the largest difference, in units of the last printed digit.</p>"
    return told + _html_table("", heads, lines)


def _verdict(cells: pd.DataFrame) -> str:
    """How many of the cells that are compared are as printed; else, how many are consistent."""
    told = cells[cells["same"].notna()]
    equal, what = told["same"] & told["same_n"].fillna(True), "cells"
    if told.empty:
        follows = cells[(cells["basis"] == "arithmetic") & cells["difference"].notna()]
        if follows.empty:
            return '<span class="soft">none compared</span>'
        equal, what = follows["ours_printed"] == follows["printed"], _FOLLOWS
    kind = "good" if equal.all() else "bad"
    return f'<span class="{kind}">{int(equal.sum())} of {len(equal)} {what}</span>'


def _section(one: Saved, titles: dict[str, str]) -> str:
    title = titles.get(one.stem, one.stem)
    if one.source == "simulated":
        title = f"Self-test of {one.stem}"
    cells = compared(one)
    missing = int(one.table["no_verdict"].fillna(0).max())
    parts = [
        f'<section class="stem" id="{one.source}-{escape(one.stem)}">'
        if one.source not in COMPARED
        else f'<section class="stem" id="{escape(one.stem)}">',
        f"<h3>{escape(title)}</h3>",
        f'<p class="soft">{" · ".join(_facts(one, cells, missing))}</p>',
    ]
    if one.card and one.card["notes"]:
        parts.append(f"<p>{escape(one.card['notes'])}</p>")
    parts += [
        f'<p class="soft">{escape(note)}</p>'
        for note in source_notes(row["source"] for row in one.files)
    ]
    parts += [_table(name, part, one) for name, part in cells.groupby("table", sort=False)]
    parts += [_provenance(one), "</section>"]
    return "\n".join(parts)


def _facts(one: Saved, cells: pd.DataFrame, missing: int) -> list[str]:
    facts = []
    if one.path.with_suffix(".html").exists():
        facts.append(_link(one.address(f"{one.stem}.html"), "page with code and figures"))
    if one.card and one.card.get("evidence"):
        behind = one.address(f"evidence/{one.stem}/index.html")
        facts.append(_link(behind, "the judgments behind each cell"))
    facts.append(_link(one.address(one.path.name), "CSV"))
    if one.source in COMPARED and one.stem in published_stems():
        works = published(one.stem)[["work", "version"]].drop_duplicates()
        facts += [escape(f"{work}, {version}") for work, version in works.itertuples(index=False)]
        if largest := number(largest_difference(cells)):
            facts.append(f"largest difference {largest} of the last printed digit")
    if one.source == "simulated":
        facts.append(
            "planted value inside its interval in {} of {} cells".format(*_inside(one.table))
        )
    told = f"up to {missing}" if missing else "none"
    facts.append(f"rows left out of a cell for want of a verdict: {told}")
    if one.table["too_few"].any():
        facts.append("*: an interval from too few questions or verdicts to be sure of")
    return facts


def _inside(table: pd.DataFrame) -> tuple[int, int]:
    """In how many cells the planted value lies inside the interval, and of how many."""
    if "planted" not in table.columns:
        return 0, 0
    held = table[table["planted"].notna() & table["low"].notna()]
    return int(held["planted"].between(held["low"], held["high"]).sum()), len(held)


def _table(name: Any, cells: pd.DataFrame, one: Saved) -> str:
    """One table's cells as HTML, ours beside the published or the planted; folded where long."""
    simulated = "planted" in cells.columns
    behind = evidence_of(one.path)
    led = {tuple(cell[:3]): cell[3] for cell in behind["cells"]} if behind else {}
    below = one.address(f"evidence/{one.stem}")
    mine = int(cells["value"].notna().sum())
    beside = simulated or cells["printed"].notna().any()
    heads = [*_NAMES, "Published"]
    if mine:
        heads = [*_NAMES, "Recovered" if simulated else "Ours"]
        heads += ["Planted" if simulated else "Published", "Difference"] if beside else []
        heads += ["95 % interval", "n", "No verdict"]
    lines = []
    for cell in cells.to_dict("records"):
        told = [f'<td class="name">{_text(cell[name.lower()])}</td>' for name in _NAMES]
        if mine:
            ends = [number(cell[end]) for end in ("low", "high")]
            to = led.get((cell["table"], cell["row"], cell["column"]))
            value = number(cell["value"])
            told.append(f"<td>{_link(f'{below}/{to}.html', value) if to else value}</td>")
            told.append(_other(cell, simulated) if beside else "")
            few = "*" if cell["too_few"] is True else ""
            told += [f"<td>{' to '.join(ends) + few if ends[0] else ''}</td>"]
            told += [_figure(cell["n"]), _figure(cell["no_verdict"])]
        else:
            told.append(f"<td>{_text(cell['printed'])}</td>")
        lines.append(f"<tr>{''.join(told)}<td>{_badge(cell['basis'], one)}</td></tr>")
    made = _html_table(f"<caption>{_text(name)}</caption>", [*heads, "Basis"], lines)
    if mine and len(cells) <= _LONG:
        return made
    says = f"{mine} cells" if mine == len(cells) else f"{mine} of {len(cells)} cells are ours"
    summary = f"{_text(name)}: {says if mine else 'published alone'}"
    return f"<details><summary>{summary}</summary>{made}</details>"


def _html_table(caption: str, heads: list[str], lines: list[str]) -> str:
    """Rows under their heads, scrolling by themselves on a narrow screen."""
    head = "".join(
        f'<th scope="col"{" class=name" if item in _TEXTS else ""}>{item}</th>' for item in heads
    )
    return (
        f'<div class="wide" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead><tbody>'
        f"{''.join(lines)}</tbody></table></div>"
    )


def _other(cell: dict[str, Any], simulated: bool) -> str:
    """The number beside ours and the difference, as two cells."""
    if simulated:
        return _figure(cell["planted"]) + _figure(cell["value"] - cell["planted"])
    if pd.isna(cell["printed"]):
        return "<td></td><td></td>"
    beside = number(cell["difference"])
    if cell["status"] in _NOT_COMPARED:
        beside = f'<span class="soft">{_NOT_COMPARED[cell["status"]]}</span>'
    elif cell["basis"] == "arithmetic" and beside:
        good = cell["ours_printed"] == cell["printed"]
        told = _FOLLOWS if good else f"not {_FOLLOWS}"
        beside += f' <span class="{"good" if good else "bad"}">{told}</span>'
    elif not pd.isna(cell["same"]):
        same_n = pd.isna(cell["same_n"]) or cell["same_n"]
        good = cell["same"] and same_n
        beside += (
            f' <span class="{"good" if good else "bad"}">{"same" if good else "differs"}</span>'
        )
        beside += "" if same_n else f" (n {number(cell['n_printed'])} printed)"
    return f"<td>{_text(cell['printed'])}</td><td>{beside}</td>"


def _badge(basis: Any, one: Saved) -> str:
    """What the cell rests on; rows that are not at hand here are the maintainers' word."""
    if pd.isna(basis):
        return '<span class="badge">published alone</span>'
    shown = "rows, maintainers" if basis == "rows" and not one.here else str(basis)
    return f'<span class="badge {escape(str(basis).split(",")[0])}">{escape(shown)}</span>'


def _provenance(one: Saved) -> str:
    """Where the table came from: its sources' hashes, the store, the versions; or sources.csv."""
    items = [(f"{row['source']}: {row['file']}", row["sha256"]) for row in one.files]
    items += facts(one.card) if one.card else []
    for row in one.files[:1]:
        items = [(name, row[name]) for name in ("command", "date") if name in row] + items
    if not items:
        return ""
    told = "".join(f"<dt>{_text(name)}</dt><dd>{_text(item)}</dd>" for name, item in items)
    summary = "Where it comes from" if one.here else "Where the maintainers had it from"
    return f"<details><summary>{summary}</summary><dl>{told}</dl></details>"


def _link(address: str, text: str) -> str:
    return f'<a href="{escape(address)}">{_text(text)}</a>'


def _text(item: Any) -> str:
    return escape(plain(item))


def _figure(item: Any) -> str:
    return f"<td>{number(item)}</td>"
