"""An executed notebook as an HTML page by nbconvert, with no network: its pictures are there."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from lab import ROOT
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.ui, pytest.mark.slow]

CODE = (
    "from dmtg_lite.views import plots, recordings\nrun = recordings.load('good')",
    "plots.plot_history(run)",
    "from dmtg_lite.views.widgets import Dashboard, TauExplorer\nDashboard(run)",
    "plots.plot_entropy(run)",
    "TauExplorer([[2.0, 0.0], [0.0, 1.0]])",
)


@pytest.mark.parametrize("with_widgets", [False, True], ids=["saved by Lab", "by nbconvert"])
def test_every_still_is_on_the_page(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_widgets: bool
) -> None:
    """Two plotly figures are drawn; in place of the live views stand their last numbers."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [nbformat.v4.new_code_cell(code) for code in CODE]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=90, kernel_name="python3", store_widget_state=with_widgets
    ).execute()
    page_text, _ = HTMLExporter().from_notebook_node(notebook)
    (tmp_path / "page.html").write_text(page_text, encoding="utf-8")
    assert len(page_text) < 4_000_000

    context = browser.new_context(offline=True)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri(), wait_until="domcontentloaded")
    expect(page.locator(".js-plotly-plot .main-svg:first-child")).to_have_count(2, timeout=30_000)
    stills = page.locator("[data-dmtg-still]")
    expect(stills).to_have_count(2)
    assert stills.locator("table").count() == 1 + 3
    expect(stills.first).to_contain_text("recorded · step 900 of 900")
    expect(page.get_by_text("VBox(")).to_have_count(0)
    errors = [error for error in errors if "require" not in error]  # nbconvert's own, from afar
    assert errors == []
    context.close()
