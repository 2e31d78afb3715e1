"""The course's other live views: Notebook 7, which has no dock and no file browser, and in Lab the
notebooks on CelebA and on closing branches. (00 in Lab is `test_live_notebook`, 10 has its own.)"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import CELLS, ROOT, Visit, run_lab
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.ui, pytest.mark.slow]

UNTIL_THE_VIEW = {  # words of the cells that the view needs
    "00_start_here": ("from dataclasses", "faces = data", "Dashboard(session)"),
    "03_celeba9": (
        "import pandas", "from dmtg_lite", "places = [", "temporary =", "has_gpu =", "preset = exp",
        "in_earnest = has_gpu", "Dashboard(session)",
    ),
    "08_finding_groups": ("from dataclasses", "from dmtg_lite", "Dashboard(session)"),
}  # fmt: skip


def copy_notebooks(home: Path, *stems: str) -> None:
    (home / "work").mkdir()
    for stem in stems:
        shutil.copy(ROOT / "notebooks" / f"{stem}.ipynb", home / "work")


def open_view(page: Page, address: str, stem: str) -> Visit:
    """The notebook in a page, run as far as its live view."""
    visit = Visit(page)
    visit.open(address.format(f"{stem}.ipynb") + "&reset")  # no other notebook open behind it
    visit.run_cells(UNTIL_THE_VIEW[stem])
    page.wait_for_selector(CELLS, timeout=120_000, state="attached")
    page.evaluate(  # Lab hides what is off the screen
        "const it = jupyterapp.shell.currentWidget.content;"
        "it.scrollToItem(it.activeCellIndex, 'start')"
    )
    expect(page.locator(CELLS).first).to_be_visible()
    return visit


def see_it_move(visit: Visit) -> None:
    """Start trains, the numbers on the page are the session's, and Pause rests them."""
    before = visit.heat_map()
    visit.button("Start").click()
    expect(visit.state).to_have_text("running", timeout=60_000)
    visit.ask_until("len(session.history) > 5")
    visit.button("Pause").click()
    expect(visit.state).to_have_text("paused")
    visit.wait_for_heat_map("session.history.probabilities[-1]")
    assert visit.heat_map() != before


def test_start_moves_the_matrix_in_notebook_7(page: Page, tmp_path: Path) -> None:
    copy_notebooks(tmp_path, "00_start_here")
    with run_lab(tmp_path, app="notebook") as address:
        see_it_move(open_view(page, address, "00_start_here"))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("lab")
    copy_notebooks(home, "03_celeba9", "08_finding_groups")
    with run_lab(home) as address:
        yield address


def test_celebas_tasks_move(page: Page, lab: str) -> None:
    """Nine attributes of fake faces, which the page says are fake."""
    visit = open_view(page, lab, "03_celeba9")
    expect(page.get_by_text("FAKE, NOT CelebA").first).to_be_attached()
    assert visit.page.locator(f"{CELLS} th", has_text="Wearing_Hat").count() == 1
    see_it_move(visit)


def test_branches_close_before_ones_eyes(page: Page, lab: str) -> None:
    """Six columns with numbers, and three when it is over; closed ones stay as zeros."""
    visit = open_view(page, lab, "08_finding_groups")
    assert {len(row) for row in visit.heat_map()} == {6}
    visit.ask("setattr(session, 'steps_per_second', None)")
    visit.button("Start").click()
    expect(visit.state).to_have_text("finished", timeout=90_000)
    assert visit.ask("len(session.history.closings)") == 3
    visit.wait_for_heat_map("session.history.probabilities[-1]")
    columns = zip(*visit.heat_map(), strict=True)
    assert sum(set(column) != {"0.00"} for column in columns) == 3
