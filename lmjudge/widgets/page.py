"""The cases of a browser as one HTML page: whole without scripts, filtered with one of ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmjudge.report.files import in_html, plain
from lmjudge.report.page import whole_page


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
    script = (here / "page.js").read_text(encoding="utf-8") if cases else ""
    sections = "\n".join(_section(case, at) for at, case in enumerate(cases, 1))
    told = f"{judgments:,} judgments on {of:,} cases" + (
        f"; the first {len(cases):,} cases stand here" if len(cases) < of else ""
    )
    body = [f"<h1>{in_html(title)}</h1>"]
    if before := list(before):
        body += [*before, *(['<h2 id="judgments">Judgments</h2>'] if cases else [])]
    if cases:
        body += [f'<p class="soft">{told}.</p>', sections]
    more_style = (here / "page.css").read_text(encoding="utf-8")
    return whole_page(title, body, more_style=more_style, script=script).decode()


def _section(shown: dict[str, Any], at: int) -> str:
    told = {
        "category": [shown["category"]],
        "model": [answer["model"] for answer in shown["answers"]],
        "judge": list(dict.fromkeys(judgment["judge"] for judgment in shown["judgments"])),
        "only": shown["only"],
    }
    data = "".join(
        f' data-{name}="{in_html(chr(10).join(map(plain, values)))}"'
        for name, values in told.items()
    )
    question = "".join(f'<pre class="said">{in_html(turn)}</pre>' for turn in shown["question"])
    reference = "".join(f'<pre class="said">{in_html(turn)}</pre>' for turn in shown["reference"])
    if reference:
        reference = f"<details><summary>Reference answer</summary>{reference}</details>"
    answers = "".join(
        f"<div><h3>{in_html(answer['model'])}</h3>"
        + "".join(f'<pre class="said">{in_html(turn)}</pre>' for turn in answer["turns"])
        + "</div>"
        for answer in shown["answers"]
    )
    judgments = "".join(map(_judgment, shown["judgments"]))
    return (
        f'<section class="case" id="case-{at}"{data}><h2>{in_html(shown["label"])}</h2>'
        f'{question}{reference}<div class="sides">{answers}</div>{judgments}</section>'
    )


def _judgment(judgment: dict[str, Any]) -> str:
    said = "".join(
        f"<mark>{in_html(part)}</mark>" if marked else in_html(part)
        for part, marked in judgment["parts"]
    )
    key = f'<p class="soft">key {in_html(judgment["key"])}</p>' if judgment["key"] else ""
    return (
        f'<div class="judgment"><h3>{in_html(judgment["judge"])}:'
        f" {in_html(judgment['verdict'])}</h3>"
        f'<p class="soft">{in_html(judgment["about"])}</p>'
        + (f'<pre class="said">{said}</pre>' if said else "")
        + f"{key}</div>"
    )
