"""Pages in a real browser: nothing that a model wrote runs, and nothing is loaded from outside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pandas as pd
import pytest
from hostile import AWAY, PAGES as HOSTILE, RUN
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
    new_raw_cell,
)

import lmjudge as lj
from lmjudge.canonical import clean_text
from lmjudge.records import Record, Reply, Request
from lmjudge.report import page_of, write_index

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def visit(chromium: Browser, path: Path, *, policy: bool = True, **how: Any) -> tuple[Page, list]:
    """The page, opened, and what it asked for beside itself; `policy` False removes its CSP."""
    html = path.read_text()
    rules = re.findall(r"<meta [^>]*Content-Security-Policy[^>]*>", html)
    assert len(rules) == 1
    if not policy:
        path = path.with_name(f"open-{path.name}")
        path.write_text(html.replace(rules[0], ""))
    urls: list[str] = []
    page = chromium.new_context(**how).new_page()
    page.on("request", lambda request: urls.append(request.url))
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.goto(path.as_uri())
    for name in ("a", "input", "details", "summary", "td"):
        for element in page.query_selector_all(name)[:60]:
            element.dispatch_event("mouseover")
            element.dispatch_event("focus")
    page.wait_for_timeout(200)
    return page, [url for url in urls if url != path.as_uri() and not url.startswith("data:")]


def hostile_notebook() -> nbformat.NotebookNode:
    """A notebook in which every kind of output, and markdown, holds every hostile text."""
    cells = [new_markdown_cell("# Hostile\n\n" + "\n\n".join(HOSTILE), id="m")]
    for number, text in enumerate(HOSTILE):
        cells.append(new_raw_cell(text, id=f"r{number}"))
        cells.append(new_raw_cell(text, id=f"h{number}", metadata={"raw_mimetype": "text/html"}))
    for number, text in enumerate(HOSTILE):
        table = pd.DataFrame({text: [text], "x": 1})
        data: dict[str, Any] = {"text/plain": text, "text/html": text, "text/markdown": text}
        outputs = [
            *(new_output("display_data", data={kind: text}) for kind in data),
            new_output("display_data", data={"text/html": table.style.to_html()}),
            new_output("display_data", data={"text/html": table.to_html(escape=False)}),
            new_output("display_data", data={"image/svg+xml": text}),
            new_output("display_data", data={"application/javascript": RUN}),
            new_output("display_data", data={"text/latex": text}),
            new_output("display_data", data={"application/json": {text: text}}),
            new_output("display_data", data={"text/vnd.mermaid": text}),
            new_output(
                "display_data",
                data={"image/png": 'x" onerror="' + RUN},
                metadata={"image/png": {"alt": text, "width": '1" onerror="' + RUN}},
            ),
            new_output(
                "display_data",
                data={"text/html": text},
                metadata={"text/html": {"isolated": True}},
            ),
            new_output("execute_result", data=data, execution_count=1),
            new_output("stream", name="stdout", text=f"\x1b[31m{text}"),
            new_output("stream", name="stderr", text=text),
            new_output("error", ename=text, evalue=text, traceback=[text]),
        ]
        cells.append(new_code_cell(f"# {text}", outputs=outputs, id=f"c{number}"))
    return new_notebook(cells=cells, metadata={"title": HOSTILE[0], "widgets": {HOSTILE[0]: {}}})


def test_the_browser_would_tell(chromium: Browser, tmp_path: Path) -> None:
    """What the other tests rest on: here a script runs, and a picture is asked for."""
    path = tmp_path / "page.html"
    path.write_text(f'<meta http-equiv="Content-Security-Policy">{HOSTILE[0]}{HOSTILE[5]}')
    page, outside = visit(chromium, path, policy=False)
    assert page.evaluate("window.fired") == 1
    assert outside == [f"{AWAY}/beacon.png"]


@pytest.mark.parametrize("policy", [True, False])
@pytest.mark.parametrize("source", ["published", "own"])
def test_no_text_of_a_model_runs_in_a_page(
    chromium: Browser, tmp_path: Path, policy: bool, source: str
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(hostile_notebook(), HOSTILE[0], source, HOSTILE[2]))
    page, outside = visit(chromium, path, policy=policy)
    assert page.evaluate("window.fired") is None
    assert outside == []
    assert page.query_selector_all("script, iframe, object, svg, form, link, base, input") == []
    # It is shown nevertheless, as what it is.
    assert RUN in page.inner_text("main")


@pytest.mark.parametrize("policy", [True, False])
def test_no_text_of_a_model_runs_in_the_index(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: bool
) -> None:
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path))
    cells = pd.DataFrame({"table": HOSTILE, "row": HOSTILE, "column": HOSTILE, "value": 1.0})
    for stem, parameters in (("judge-audit", {}), ("judge-audit", {"x": 1}), ("c", None)):
        lj.save_table(cells, stem, parameters=parameters, notes=" ".join(HOSTILE))
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "<img src=x onerror=x>.html").write_text("")
    page, outside = visit(chromium, write_index(), policy=policy)
    assert page.evaluate("window.fired") is None
    assert outside == []
    assert page.query_selector_all("script, iframe, object, svg, form, link, img") == []
    for fold in page.query_selector_all("summary"):
        fold.click()
    assert page.inner_text("main").count(RUN) > 3 * len(HOSTILE)


@pytest.mark.parametrize("policy", [True, False])
def test_no_text_of_a_model_runs_in_the_evidence(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: bool
) -> None:
    """Question, answer, judgment, names and notes behind a cell, all of them hostile."""
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path / "reports"))
    hostile = clean_text("\n".join(HOSTILE))
    store = lj.Store(tmp_path / "store", mode="record")
    request = Request(hostile, [{"role": role, "content": hostile} for role in ("system", "user")])
    store.add(
        [Record(request, Reply(hostile, finish_reason=hostile, reasoning=hostile, model=hostile))]
    )
    row = {
        "question_id": hostile,
        "turn": 1,
        "model": hostile,
        "judge": f"{hostile}/single",
        "score": 1.0,
    }
    rows = pd.DataFrame([row | {"key": request.key, "reason": hostile, "text": hostile}])
    table = lj.cells(rows, hostile, row="model", values={"score": "score"})
    saved = lj.save_table(table, "t", store=store, evidence=rows, by=["model"], notes=hostile)
    pages = sorted((saved.parent / "evidence" / "t").glob("*.html"))
    assert len(pages) == 3
    for path in pages:
        page, outside = visit(chromium, path, policy=policy)
        assert page.evaluate("window.fired") is None
        assert outside == []
        assert page.query_selector_all("script, iframe, object, svg, form, link, img, base") == []
    assert page.inner_text("main").count(RUN) >= len(HOSTILE)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_reads_well_without_scripts(
    chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, scheme: Any
) -> None:
    monkeypatch.setenv("LMJUDGE_REPORTS", str(tmp_path))
    wide = {"table": "T", "row": [f"a-rather-long-name-{i}" for i in range(5)], "column": "c" * 60}
    saved = lj.save_table(pd.DataFrame({**wide, "value": 1.0}), "t")
    figure = lj.bars(lj.read_table(saved), alt="Five bars.")._repr_mimebundle_()
    shown = new_output("execute_result", data=figure[0], metadata=figure[1], execution_count=1)
    notebook_shown = new_notebook(
        cells=[new_markdown_cell("# T"), new_code_cell("x" * 300, outputs=[shown])]
    )
    (tmp_path / "own/t.html").write_text(page_of(notebook_shown, "t", "own"))
    for path in (write_index(), tmp_path / "own/t.html"):
        page, _ = visit(
            chromium,
            path,
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
        )
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.title().endswith("lmjudge")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = (
            page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        )
        assert dark == (scheme == "dark")
        assert contrast(page) >= 4.5
        assert len(page.query_selector_all("main")) == len(page.query_selector_all("h1")) == 1
    image = page.query_selector("img")
    assert image is not None
    assert image.get_attribute("alt") == "Five bars."
    assert image.evaluate("image => image.naturalWidth") > 400
    page.click("nav a")
    assert page.inner_text("h1") == "Tables"


def contrast(page: Page) -> float:
    """The lowest contrast of any text with the ground that it stands on (WCAG 2.2)."""
    return float(
        page.evaluate(
            """() => {
            const light = colour => {
              const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(c => c / 255)
                .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ground = node => {
              const own = node ? getComputedStyle(node).backgroundColor : 'rgb(255, 255, 255)';
              return own === 'rgba(0, 0, 0, 0)' ? ground(node.parentElement) : own;
            };
            let lowest = 21;
            for (const node of document.querySelectorAll('main *')) {
              const texts = [...node.childNodes].filter(child => child.nodeType === 3);
              if (!texts.some(text => text.data.trim())) continue;
              const [one, two] = [getComputedStyle(node).color, ground(node)].map(light);
              lowest = Math.min(lowest, (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05));
            }
            return lowest;
            }"""
        )
    )
