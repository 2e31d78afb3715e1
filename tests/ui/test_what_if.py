"""The what-if page in a real browser, opened as a file: it plays, is steered, and needs nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from data_scripts.make_what_if import PAGE

pytestmark = pytest.mark.ui
STEP = "Number(document.getElementById('scrub').value)"


@pytest.fixture(scope="module")
def what_if(page: Page) -> Page:
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    return page


@pytest.fixture(scope="module")
def phone(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    yield page
    page.close()


def visit(page: Page, address: str = "") -> None:
    page.goto("about:blank")
    page.goto(f"{PAGE.as_uri()}{address and f'#{address}'}")
    expect(page.locator(".answer").first).not_to_be_empty()


def test_it_plays_by_itself_and_is_steered_by_keyboard(what_if: Page) -> None:
    """One click shows a moving picture; K by an arrow key, a seed by Enter, focus to be seen."""
    page = what_if
    visit(page)
    expect(page.locator(".answer").first).to_contain_text("found the groups in")
    for _ in range(100):  # the page forbids `eval`, by which Playwright would wait
        if page.evaluate(f"{STEP} > 3"):
            break
        page.wait_for_timeout(100)
    assert page.evaluate(f"{STEP} > 3")
    slider = page.get_by_role("slider", name="groups K").first
    slider.focus()
    assert slider.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile("k=2"))
    expect(page.locator(".graph").first.locator(".branch:visible")).to_have_count(2)
    page.keyboard.press("ArrowRight")
    seeds = page.get_by_role("button", name="play seed")
    seeds.nth(1).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("seed=1"))
    expect(seeds.nth(1)).to_be_focused()
    expect(seeds.nth(1)).to_have_attribute("aria-pressed", "true")


def test_two_settings_side_by_side_come_back_from_the_address(what_if: Page) -> None:
    """The same two runs at the same step, standing still, in the words of before."""
    page = what_if
    page.get_by_role("button", name="Compare two settings").click()
    expect(page.locator(".panel:visible")).to_have_count(2)
    for index, value in enumerate(("none", "double")):
        page.get_by_label("spare branches").nth(index).select_option(value)
    expect(page.locator(".answer")).to_have_count(2)
    page.locator("#scrub").focus()
    page.keyboard.press("Home")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    step = page.locator("#step").inner_text().split()[1]
    expect(page).to_have_url(re.compile(f"b.spare=double.*at={step}$"))  # a moment later
    words = [page.locator("#step").inner_text(), *page.locator(".twin, .answer").all_inner_texts()]
    assert words[0] != "step 1 of 900"
    visit(page, page.url.partition("#")[2])
    expect(page.locator("#step")).to_have_text(words[0])
    assert page.locator(".twin, .answer").all_inner_texts() == words[1:]
    expect(page.locator("#play")).to_have_attribute("aria-pressed", "false")


def test_what_was_not_run_says_so_and_leads_to_what_was(what_if: Page) -> None:
    """Nothing is drawn where nothing is recorded; an address with other words is answered."""
    page = what_if
    grid = json.loads(page.locator("#grid").text_content())
    every = (
        f"faces none {k} {tau} {rate}"
        for k in (6, 5, 4) for tau in (10, 0.25, 0.5) for rate in (10, 3, 0.1)
    )  # fmt: skip
    _, _, k, tau, rate = next(name for name in every if name not in grid["cells"]).split()
    visit(page, f"k={k}&tau={tau}&rate={rate}&colour=red&b.k=99")
    expect(page.locator("#strange")).to_contain_text("colour, b.k=99")
    visit(page, f"k={k}&tau={tau}&rate={rate}")
    expect(page.locator(".answer").first).to_have_text("These settings were not run.")
    expect(page.locator(".graph").first).to_be_hidden()
    expect(page.locator("#play")).to_be_disabled()
    page.get_by_role("button", name="Nearest that was run").click()
    expect(page.locator(".graph").first).to_be_visible()
    expect(page.locator(".answer").first).to_contain_text("found the groups in")


def test_nothing_serious_for_axe_in_both_themes(what_if: Page, phone: Page) -> None:
    """Also on a phone, which it fits; who wants no motion sees the end of the run."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    visit(what_if, "k=2&b.spare=double&at=100")
    visit(phone, "data=digits")
    expect(phone.locator("#play")).to_have_attribute("aria-pressed", "false")
    expect(phone.locator("#step")).to_contain_text("step 600 of 600")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    what_if.locator("summary").click()
    for page, theme in ((phone, None), (what_if, "Dark theme"), (what_if, "Light theme")):
        if theme:
            page.get_by_role("button", name=theme).click()
        found = axe.run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
    assert what_if.evaluate("document.documentElement.style.colorScheme") == "light"


def test_no_request_and_no_complaint(what_if: Page) -> None:
    """Only the file itself was read, and the console stayed silent."""
    kinds = ("file:", "data:", "about:")
    assert [url for url in what_if.requests if not url.startswith(kinds)] == []
    assert what_if.complaints == []
