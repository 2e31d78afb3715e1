"""The pages that the library writes, with a keyboard, a phone, a screen reader, in both themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from dmtg_lite import TrainConfig, cli, data, methods
from dmtg_lite.runs.report import Report
from dmtg_lite.studies.evidence import Verdict, write_verdicts
from dmtg_lite.views import recordings
from dmtg_lite.views.replay import write_replay

pytestmark = pytest.mark.ui
PAGES = ("replay", "report", "tableA1", "evidence")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind, as its own function writes it."""
    folder = tmp_path_factory.mktemp("pages")
    write_replay(recordings.load("spare"), folder / "replay.html")
    few = data.toy_faces(n_train=40, n_val=20, n_test=20, size=16)
    result = methods.naive(few, 1, TrainConfig(encoder="toy", pretrain=1, steps=2))
    Report([result.to_json()]).save(folder / "report.html")
    assert cli.main(["reproduce", "tableA1", "--toy", "--quick", "--out", str(folder)]) == 0
    words = ("Does it gain?", "Table 1", "total error, DMTG minus naive, points")
    claim = Verdict(*words, -3.0, -4.0, -2.0, "holds", "interval below 0", 10)
    write_verdicts([claim], folder, heading="# Seeds 0 to 9")
    return folder


@pytest.fixture(scope="module")
def visitor(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    yield page
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_in_either_theme_and_a_phone_needs_no_scrolling(
    visitor: Page, pages: Path, name: str
) -> None:
    """No violation from moderate on; at 390 pixels only what is in a box of its own scrolls."""
    for theme in ("light", "dark"):
        visitor.emulate_media(color_scheme=theme, reduced_motion="reduce")
        visitor.set_viewport_size({"width": 1280, "height": 800})
        visitor.goto((pages / f"{name}.html").as_uri())
        found = Axe().run(visitor).response["violations"]
        assert [one["id"] for one in found if one["impact"] != "minor"] == []
        visitor.set_viewport_size({"width": 390, "height": 844})
        assert visitor.evaluate("document.documentElement.scrollWidth") <= 390
    expect(visitor.locator("h1")).to_have_count(1)
    expect(visitor.get_by_role("main")).to_have_count(1)
    assert [url for url in visitor.requests if not url.startswith(("file:", "data:"))] == []


def test_the_keyboard_reaches_what_moves_and_one_sees_where_it_is(
    visitor: Page, pages: Path
) -> None:
    """Play, the slider, each choice: in the order of the page, with an outline."""
    visitor.goto((pages / "replay.html").as_uri())
    visitor.keyboard.press("Tab")
    expect(visitor.get_by_role("button", name="Play")).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineWidth"
    assert visitor.evaluate(outline) == "3px"
    visitor.keyboard.press("Tab")
    expect(visitor.get_by_role("slider", name="step of the run")).to_be_focused()
    for name in ("report", "tableA1", "evidence"):  # a table that a phone scrolls sideways
        visitor.goto((pages / f"{name}.html").as_uri())
        visitor.keyboard.press("Tab")
        assert visitor.evaluate("document.activeElement.className") == "scroll"
        assert visitor.evaluate(outline) == "3px"


def test_what_a_picture_shows_stands_there_as_text(visitor: Page, pages: Path) -> None:
    """The groups as lists, a plotted table as the table, and the picture says that it is one."""
    visitor.goto((pages / "replay.html").as_uri())
    groups = visitor.locator("section", has_text="Groups found").locator("li")
    expect(groups).to_have_count(3)
    expect(groups.first).to_contain_text("thin_moustache")
    visitor.goto((pages / "tableA1.html").as_uri())
    picture = visitor.get_by_role("img", name="the numbers of the table above as a picture")
    expect(picture.first).to_be_visible()
    expect(visitor.get_by_role("table").first).to_be_visible()
