"""The site as a reader meets it, from a folder: one page of each kind, both themes, desk and phone.

A small one: Sphinx takes a second a page, so it gets three.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Browser, expect

from dmtg_lite.views.plots import plot_assignment

pytestmark = pytest.mark.ui

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("site_build", ROOT / "docs" / "site" / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)

KEPT = ("index.md", "notebooks/00_start_here.ipynb", "api/core.rst")
INDEX = "\n\n```{toctree}\nnotebooks/00_start_here\napi/core\n```\n"
API = "core\n====\n\n.. automodule:: dmtg_lite.core.objective\n"


def make_notebook() -> nbformat.NotebookNode:
    """A course page with all that one has: equation, figure, table, still, folded solution."""
    figure = plot_assignment([[0.9, 0.1], [0.2, 0.8]], ["dark_hair", "red_cheeks"], title="Z")
    table = '<table class="dataframe"><thead><tr><th>x</th></tr></thead></table>'
    outputs = [
        new_output("display_data", {build.executed.FIGURE: figure.to_plotly_json()}),
        new_output("execute_result", {"text/html": table}),
        new_output("stream", name="stdout", text="settled " * 40),
    ]
    cells = [
        new_markdown_cell(
            "# 0 · A title\n\n$$\\bar{Z}_{nk} = \\frac{e^{S_{nk}}}{\\sum_j e^{S_{nj}}}$$"
        ),
        new_code_cell("plots.plot_assignment(probabilities)", outputs=outputs),
        new_code_cell("my_groups = 1", metadata={"tags": ["solution"]}),
    ]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": build.executed.KERNEL})
    notebook.metadata["site"] = {"on": "2026-11-26", "seconds": 7}
    return build.executed.dress(notebook, "1.0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    source, html = folder / "source", folder / "html"
    build.lay_out(source, [], folder / "cache")
    for path in [p for kind in ("*.md", "*.rst", "*.ipynb") for p in source.rglob(kind)]:
        if path.relative_to(source).as_posix() not in KEPT:
            path.unlink()
    front = (source / "index.md").read_text("utf-8").partition("**Where next?**")[0]
    (source / "index.md").write_text(front + INDEX, encoding="utf-8")
    nbformat.write(make_notebook(), source / KEPT[1])
    (source / "api" / "core.rst").write_text(API)
    build.build(source, html)
    assert build.links.find_faults(html) == []
    return html


@pytest.mark.slow
def test_pages_are_accessible_in_both_themes_and_fit_a_phone(site: Path, browser: Browser) -> None:
    """axe-core finds nothing serious, nothing leaves the folder, nothing is wider than a phone.

    Figures are drawn in letters that the theme makes readable, and again when it changes.
    """
    axe, found, requests = Axe(), [], []
    for theme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=theme)
        page = context.new_page()
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        for kind in ("index", "notebooks/00_start_here", "api/core"):
            page.goto((site / f"{kind}.html").as_uri())
            if kind.startswith("notebooks"):
                page.wait_for_selector(".dmtg-figure svg")
                assert page.locator("math mfrac").count() == 1
                assert not page.locator("text=my_groups = 1").is_visible()
            for rule in axe.run(page).response["violations"]:
                if rule["impact"] in ("serious", "critical"):
                    found.append((theme, kind, rule["id"], rule["nodes"][0]["html"][:200]))
            page.set_viewport_size({"width": 390, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, kind
            page.set_viewport_size({"width": 1280, "height": 800})
        context.close()
    assert not found
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)


@pytest.mark.slow
def test_the_page_in_the_frame_follows_the_button(site: Path, browser: Browser) -> None:
    """From files, which know nothing of each other; it starts in the theme of the page around.

    And its frame is as high as it is.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    page.goto((site / "index.html").as_uri())
    inside = page.frame_locator(".front-page").locator("#theme")
    button = page.locator(".theme-toggle >> visible=true").first
    expect(inside).to_have_text("Light theme")  # is offered
    for offered in ("Dark theme", "Light theme", "Light theme", "Dark theme"):
        button.click()  # light, dark, the system's, light
        expect(inside).to_have_text(offered)
    page.reload()
    expect(inside).to_have_text("Dark theme")
    needed = page.frames[1].evaluate("document.body.offsetHeight")
    assert needed > 1000
    page.wait_for_function(  # nothing of it has to be scrolled to in its frame
        f"document.querySelector('.front-page').clientHeight >= {needed}"
    )
    page.close()
