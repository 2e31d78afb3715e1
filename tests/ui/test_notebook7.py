"""The first notebook in Notebook 7, which has no dock and no file browser: the same view, alive."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lab import CELLS, ROOT, Visit, run_lab
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.ui, pytest.mark.slow]


def test_start_moves_the_matrix(page: Page, tmp_path: Path) -> None:
    """Start trains, the numbers on the page are the session's, and Pause rests them."""
    (tmp_path / "work").mkdir()
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", tmp_path / "work" / "00.ipynb")
    with run_lab(tmp_path, app="notebook") as address:
        visit = Visit(page)
        visit.open(address.format("00.ipynb"))
        visit.run_cells(("from dataclasses", "faces = data", "Dashboard(session)"))
        page.wait_for_selector(CELLS, timeout=120_000)
        before = visit.heat_map()
        visit.button("Start").click()
        expect(visit.state).to_have_text("running", timeout=60_000)
        visit.ask_until("len(session.history) > 5")
        visit.button("Pause").click()
        expect(visit.state).to_have_text("paused")
        visit.wait_for_heat_map("session.history.probabilities[-1]")
        assert visit.heat_map() != before
