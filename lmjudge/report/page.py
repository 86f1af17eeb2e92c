"""Turn an executed notebook into one HTML page that loads nothing and runs no script."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmjudge.places import reports
from lmjudge.report.checking import COMPARED, card_of, source_notes
from lmjudge.report.files import style
from lmjudge.report.tables import PLACES

if TYPE_CHECKING:
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode


def page_of(notebook: NotebookNode, stem: str, source: str | None, error: str | None = None) -> str:
    """Return the executed notebook as one HTML page that loads nothing and runs nothing.

    Notes on the sources of a published table come first. The run card, and a link to the judgments
    behind the cells, come last.
    """
    from nbconvert.exporters.templateexporter import TemplateExporter
    from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter
    from nbformat import NotebookNode

    place = PLACES.get(source or "") if not error else None
    card = None if place is None else card_of(reports() / place / f"{stem}.csv")
    resources = {
        "notes": source_notes(card["sources"]) if card and source in COMPARED else [],
        "card": facts(card) if card else [],
        "files": [
            (f"{name}: {file}", sha256)
            for name, files in (card["sources"] if card else {}).items()
            for file, sha256 in files.items()
        ],
        "evidence": f"evidence/{stem}/index.html" if card and card.get("evidence") else "",
        "stem": stem,
        "source": source,
        "error": error,
        "up": "" if source == "published" and not error else "../",
        "style": style(),
        "metadata": {"name": stem},
    }
    # Widgets need scripts, and nbconvert fails on parts of their state.
    bare = NotebookNode({**notebook, "metadata": {"language_info": {"name": "python"}}})
    with quiet():
        exporter = _exporter()
        shown = WidgetsDataTypeFilter(notebook_metadata={}, parent=exporter, resources=resources)
        exporter.register_filter("filter_data_type", shown)
        # HTMLExporter's method would parse the page again, for things that our template has.
        html, _ = TemplateExporter.from_notebook_node(exporter, bare, resources=resources)
    return str(html)


@cache
def _exporter() -> HTMLExporter:
    from nbconvert import HTMLExporter
    from nbconvert.filters import Highlight2HTML

    return HTMLExporter(
        template_name="page",
        extra_template_basedirs=[str(Path(__file__).parent / "templates")],
        sanitize_html=True,
        exclude_anchor_links=True,
        # Pygments escapes the code that it highlights.
        filters={"clean_html": clean_html, "highlight_code": Highlight2HTML("python")},
    )


_TAGS = frozenset(
    "a b blockquote br caption code dd div dl dt em h1 h2 h3 h4 hr i li ol p pre span strong sub"
    " sup table tbody td tfoot th thead tr ul".split()
)
_OTHER_TAG = re.compile(rf"<(?!!--|/?(?:{'|'.join(sorted(_TAGS))})(?=[\s/>]))", re.I)


def clean_html(html: object) -> str:
    """Return HTML with only the tags of text and tables; other tags become visible text.

    Only the attributes colspan, rowspan, class and href stay, so nothing loads or runs.

    >>> clean_html("<b>bold</b> <script>alert(1)</script> <a href='javascript:x' onclick='y'>z</a>")
    '<b>bold</b> &lt;script&gt;alert(1)&lt;/script&gt; <a>z</a>'
    """
    import nh3

    # pandas puts a style sheet before each table.
    text = re.sub(r"<style\b[^>]*>[^<]*</style>", "", str(html), flags=re.I)
    # The classes of highlighted code and of side_by_side carry colours.
    attributes = {name: {"class"} for name in ("span", "div", "table", "tr", "p")}
    attributes |= {name: {"class", "colspan", "rowspan"} for name in ("td", "th")}
    attributes["a"] = {"href"}
    return nh3.clean(
        _OTHER_TAG.sub("&lt;", text),  # nh3 would drop other tags, and with them a model's text
        tags=set(_TAGS),
        attributes=attributes,
        url_schemes={"http", "https", "mailto"},
        link_rel=None,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the logs and warnings of papermill and nbconvert; lmjudge reports errors once."""
    loggers = [logging.getLogger(name) for name in ("papermill", "traitlets", "nbconvert")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a run card as (name, value): store, money, parameters, versions, digests.

    >>> card = {"stem": "t", "table_sha256": "ab" * 32, "versions": {"lmjudge": "1"}, "store": None}
    >>> facts(card)[-1]
    ('cite as', 'lmjudge 1, table t, SHA-256 abababababab')
    """
    lines = []
    if usage := card["store"]:
        lines.append(("store", "{hits} hits, {misses} misses, {calls} calls".format(**usage)))
        if usage["digest"]:
            lines.append((f"digest of {usage['requests']} requests' records", usage["digest"]))
        if "spent" in usage:
            lines.append(("spent in this run", _dollars(usage["spent"])))
            if usage["requests"]:
                lines.append(("the same without the store", _dollars(usage["rerun"])))
            if usage["requests"] and None not in (usage["spent"], usage["rerun"]):
                lines.append(("saved", _dollars(max(usage["rerun"] - usage["spent"], 0.0))))
    if "parameters" in card:
        options = "".join(f" -p {name}={value}" for name, value in card["parameters"].items())
        lines.append(("command", f"lmjudge run {card['stem']}{options}"))
    versions, digest = card["versions"], card["table_sha256"]
    lines.append(("versions", ", ".join(f"{name} {versions[name]}" for name in versions)))
    lines.append(("SHA-256 of the CSV", digest))
    cited = f"lmjudge {versions.get('lmjudge', '')}, table {card['stem']}, SHA-256 {digest[:12]}"
    return [*lines, ("cite as", cited)]


def _dollars(amount: float | None) -> str:
    """Return an amount at list prices as text; an unknown amount is "unknown", not zero."""
    return "unknown (a price is not known)" if amount is None else f"${amount:,.2f} at list prices"
