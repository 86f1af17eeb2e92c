"""Show an object in a notebook cell as a small table, with every text escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape


def as_table(title: object, rows: Mapping[str, object]) -> str:
    """Return an HTML table of names and values under a title; a long value is cut.

    JupyterLab does not turn its dollar signs into formulas.

    >>> as_table("<b>", {"n": "1 < 2"}).partition("<caption>")[2]
    '&lt;b&gt;</caption><tr><th scope="row">n</th><td>1 &lt; 2</td></tr></table>'
    """
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(_short(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table class="mathjax_ignore"><caption>{escape(_short(title))}</caption>{body}</table>'


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 500 else f"{text[:500]} …"
