"""The page of an audit as a person sees it: short, readable on a phone, each sentence linked."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

import lmjudge as lj
from lmjudge import audit
from lmjudge.widgets.choice import choice_page

SCREEN = 900


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of PRD with all that it can show."""
    prices = {"gpt-4/prd": 0.03, "gpt-3.5-turbo-0301/prd": 0.001}
    games, people = lj.load_judgments("prd"), lj.load_votes("prd")
    choice = audit.choose_judge(games, people, answers=lj.load_answers("prd"), prices=prices)
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(choice_page(choice), encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_takes_at_most_four_screens_and_fits_a_phone(
    chromium: Browser, page: Path, scheme: str
) -> None:
    for width in (1300, 390):
        context = chromium.new_context(
            viewport={"width": width, "height": SCREEN}, color_scheme=scheme
        )
        shown = context.new_page()
        shown.goto(page.as_uri())
        if width == 1300:
            assert shown.evaluate("document.documentElement.scrollHeight") <= 4 * SCREEN
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        headings = shown.locator("h3").all_inner_texts()
        assert headings == [
            "Agreement with people",
            "Position",
            "Length",
            "Precision against cost",
            "A cascade",
        ]
        assert shown.locator("details[open]").count() == 0
        context.close()


def test_each_sentence_opens_the_table_that_it_rests_on(chromium: Browser, page: Path) -> None:
    shown = chromium.new_page(viewport={"width": 1300, "height": SCREEN})
    shown.goto(page.as_uri())
    links = shown.locator("ul.findings a")
    assert links.count() == 5
    for at in range(links.count()):
        name = str(links.nth(at).get_attribute("href")).removeprefix("#")
        links.nth(at).click()
        assert shown.locator(f"#{name} table").is_visible()
    shown.close()
