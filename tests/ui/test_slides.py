"""`make slides` in a real browser, opened as a file with no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest
from lab import ROOT
from playwright.sync_api import Browser, expect

pytestmark = pytest.mark.ui

_spec = importlib.util.spec_from_file_location("slides", ROOT / "notebooks" / "tools" / "slides.py")
slides = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(slides)


@pytest.mark.parametrize("stem", ["00_start_here", "01_categorical_pruning"])
def test_slides_need_nothing_and_nothing_is_cut(
    browser: Browser, tmp_path: Path, stem: str
) -> None:
    """A column a heading; no slide higher than the screen; exercises stay with the class."""
    pytest.importorskip("sphinx_revealjs", reason="the extra `slides` is not installed")
    notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    headings = sum(
        cell.source.startswith(("# ", "## ")) and cell.cell_type == "markdown"
        for cell in notebook.cells
    )
    path = tmp_path / f"{stem}.html"
    path.write_text(slides.render(notebook, stem), encoding="utf-8")  # not executed: in a second
    page = browser.new_page(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    expect(page.locator(".slides > section")).to_have_count(headings)
    expect(page.get_by_text("Exercise")).to_have_count(0)
    for key in ("ArrowRight", "ArrowDown"):  # both axes, by keyboard
        before = page.evaluate("location.hash")
        page.keyboard.press(key)
        page.wait_for_function("before => location.hash !== before", arg=before)
    heights = page.evaluate(
        "Reveal.getSlides().map(slide => { Reveal.slide(...Object.values("
        "Reveal.getIndices(slide)).slice(0, 2)); return slide.scrollHeight; })"
    )
    assert max(heights) <= 720
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    page.close()
