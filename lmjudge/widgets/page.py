"""The cases of a browser as one HTML page: whole without scripts, filtered with one of ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmjudge.report import files


def page(
    cases: list[dict[str, Any]],
    judgments: int,
    of: int,
    *,
    title: str = "Judgments",
    before: Iterable[str] = (),
) -> str:
    """Return cases of a browser as a page that loads nothing: those given, the first of `of`.

    `before` is HTML that stands above them. The one script, whose hash is the only one that the
    page's policy lets run, puts a search and filters above the cases and takes them from their
    attributes.
    """
    here = Path(__file__).parent
    return files.page(
        "judgments.html.j2",
        title,
        more_style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8") if cases else "",
        cases=cases,
        judgments=judgments,
        of=of,
        before=list(before),
    )
