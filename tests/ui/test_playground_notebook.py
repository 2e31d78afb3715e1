"""Notebook 10 in a real JupyterLab: two runs start, move on the same axes, and give a link.

The tests follow one visit in order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import ROOT, Visit, run_lab
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.ui, pytest.mark.slow]

NOTEBOOK = ROOT / "notebooks" / "10_playground.ipynb"
BOTH = "min(len(one.history) for one in play.sessions.values())"


@pytest.fixture(scope="module")
def visit(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    home = tmp_path_factory.mktemp("lab")
    (home / "work").mkdir()
    shutil.copy(NOTEBOOK, home / "work" / "10.ipynb")
    shutil.copytree(NOTEBOOK.parent / "img", home / "work" / "img")  # its picture
    page.set_viewport_size({"width": 1280, "height": 800})
    with run_lab(home) as address:
        visit = Visit(page)
        visit.open(address.format("10.ipynb"))
        page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
        visit.run_cells(("import check", "Playground()"))
        page.wait_for_selector(".dmtg-form select", timeout=60_000)
        yield visit


def test_a_setting_is_chosen_by_keyboard_and_is_in_line_and_link(visit: Visit) -> None:
    """A list has a name; what differs is marked; the explanation opens in its place."""
    chosen = visit.page.get_by_label("groups K of run B", exact=True)
    chosen.focus()
    visit.page.keyboard.press("ArrowDown")  # from 2 to 3, as in run A
    visit.ask_until("play.settings['B'].n_groups == 3")
    visit.page.keyboard.press("4")
    visit.ask_until("'b.k=4' in play.link.value")
    assert "b = methods.dmtg(data.toy_faces(size=16), n_groups=4" in visit.ask("play.lines.value")
    expect(visit.page.locator(".dmtg-form .differs", has_text="≠")).to_have_count(1)
    ask = visit.page.get_by_label("what is groups K?")
    ask.focus()
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_text("How many groups there may be")).to_be_visible()
    visit.page.keyboard.press("Enter")


def test_both_runs_start_and_move_on_the_same_axes(visit: Visit) -> None:
    """One click; a line of each in both charts, over the same steps."""
    visit.button("Start both").click()
    visit.ask_until(f"{BOTH} > 30", 120)
    charts = visit.page.locator(".dmtg-overlay figure")
    expect(charts).to_have_count(2)
    for chart in charts.all():
        expect(chart.locator("svg path")).to_have_count(2)
    before = charts.first.locator("path").last.get_attribute("d")
    visit.ask_until(f"{BOTH} > 60", 60)
    expect(charts.first.locator("path").last).not_to_have_attribute("d", before)
    visit.button("Pause").click()
    visit.ask_until("play.state.value == 'A: paused · B: paused'")


def test_a_link_that_is_pasted_sets_the_form(visit: Visit) -> None:
    """And a bad one is said, in words on the page."""
    field = visit.page.get_by_label("as a link")
    field.fill("what_if.html#k=9")
    field.press("Enter")
    expect(visit.page.get_by_role("alert")).to_contain_text("the link says k=9")
    field.fill("what_if.html#k=2&spare=double&tau=10&b.k=5")
    field.press("Enter")
    expect(visit.page.get_by_label("groups K of run B", exact=True)).to_have_value("5")
    expect(visit.page.get_by_role("alert")).to_have_count(0)


def test_it_is_accessible_and_nothing_complained(visit: Visit, tmp_path: Path) -> None:
    """axe-core finds next to nothing in either theme; DMTG_SCREENSHOT: where a picture is kept."""
    for theme in ("Dark", "Light"):
        change = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})"
        visit.page.evaluate(change, f"JupyterLab {theme}")
        is_light = str(theme == "Light").lower()
        body = f'body[data-jp-theme-light="{is_light}"]'
        visit.page.wait_for_selector(body, state="attached")
        found = Axe().run(visit.page, context=".jp-OutputArea:has(.dmtg-form)").response
        grave = [one["id"] for one in found["violations"] if one["impact"] != "minor"]
        assert not grave, (theme, found["violations"])
    assert visit.page.complaints == []
    visit.page.locator(".dmtg-form").scroll_into_view_if_needed()
    visit.page.screenshot(path=os.environ.get("DMTG_SCREENSHOT") or tmp_path / "playground.png")
