"""What happens to the live view when its page, its kernel or its cell begins anew.

Whatever it was, the numbers on the page are the session's, or the page says that they are not. The
tests follow one visit in order.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from lab import CELLS, Visit, run_lab
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.ui, pytest.mark.slow]

CODE = (
    "import gc, os, ipywidgets, psutil\n"
    "from dmtg_lite import TrainConfig, data\n"
    "from dmtg_lite.views.live import LiveSession\n"
    "from dmtg_lite.views.widgets import Dashboard\n"
    "faces = data.toy_faces(n_train=100, n_val=20, n_test=20, size=16)\n"
    "config = TrainConfig(encoder='toy', lr=3e-3, lr_assignment=0.1, pretrain=5, steps=300, "
    "batch_size=16)",
    "session = LiveSession(faces, 3, config=config, steps_per_second=None)\nDashboard(session)",
)
NEWEST = "session.history.probabilities[-1]"


@pytest.fixture(scope="module")
def visit(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    home = tmp_path_factory.mktemp("lab")
    (home / "work").mkdir()
    cells = [nbformat.v4.new_code_cell(code) for code in CODE]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, home / "work" / "live.ipynb")
    with run_lab(home) as address:
        visit = Visit(page)
        visit.path = home / "work" / "live.ipynb"
        visit.open(address.format("live.ipynb"))
        visit.run_cells(CODE)
        page.wait_for_selector(CELLS, timeout=120_000)
        yield visit


def save(visit: Visit) -> None:
    visit.page.evaluate("jupyterapp.commands.execute('docmanager:save')")


def expect_the_session(visit: Visit) -> None:
    """Matrix, curves and graph are those of the kernel's session."""
    visit.page.wait_for_selector(CELLS, timeout=60_000)
    visit.wait_for_heat_map(NEWEST)
    expect(visit.state).to_have_text(visit.ask("session.state"))
    n_tasks, n_groups = visit.ask(f"{NEWEST}.shape")
    expect(visit.page.locator(".dmtg-head-graph .edge")).to_have_count(n_tasks * n_groups)
    lines = visit.page.locator(".dmtg-curves figure:first-child > svg path")
    expect(lines).to_have_count(n_groups)
    n_points = min(400, visit.ask("len(session.history)"))
    assert [len(re.findall("[ML]", line.get_attribute("d"))) for line in lines.all()] == (
        [n_points] * n_groups
    )
    expect(visit.page.locator("[data-dmtg-still]:visible")).to_have_count(0)


def test_a_finished_run_saved_and_loaded_again(visit: Visit) -> None:
    """All numbers are there after F5, and scrubbing by one moves them."""
    visit.button("Start").click()
    expect(visit.state).to_have_text("finished", timeout=60_000)
    save(visit)
    visit.reload()
    expect_the_session(visit)
    visit.handle("scrub").focus()
    for key, index in (("Home", 0), ("ArrowRight", 1), ("End", -1)):
        visit.page.keyboard.press(key)
        visit.wait_for_heat_map(f"session.history.probabilities[{index}]")


def test_another_k_saved_and_loaded_again(visit: Visit) -> None:
    """Five columns before F5, five after."""
    for _ in range(2):
        visit.handle("groups K").focus()
        visit.page.keyboard.press("ArrowRight")
    visit.button("Reset").click()
    visit.page.wait_for_function(f"document.querySelectorAll('{CELLS}')[0].cells.length === 6")
    visit.button("Step").click()
    expect(visit.state).to_have_text("paused")
    save(visit)
    visit.reload()
    expect_the_session(visit)
    assert visit.ask(f"{NEWEST}.shape") == [9, 5]


def test_buttons_act_while_a_cell_runs(visit: Visit) -> None:
    """ "Run all" need not be over: a click takes the way beside the cells."""
    if tuple(map(int, metadata.version("ipykernel").split(".")[:2])) >= (7, 4):
        pytest.skip("this ipykernel lets a widget wait for the cell that runs")
    visit.occupy(60)
    visit.button("Reset").click()
    expect(visit.state).to_have_text("idle", timeout=20_000)
    visit.interrupt()
    assert not visit.ask("is_over")


def test_loaded_again_unsaved_while_it_trains(visit: Visit) -> None:
    """The file knows no view: Dashboard(session) in a new cell is the run that went on."""
    visit.ask("setattr(session, 'steps_per_second', 10)")
    visit.button("Start").click()
    visit.ask_until("len(session.history) > 5")
    notebook = nbformat.read(visit.path, as_version=4)
    notebook.cells[1].outputs = []
    nbformat.write(notebook, visit.path)
    visit.reload()
    assert visit.ask("session.state") == "running"
    assert visit.page.locator(CELLS).count() == 0
    visit.page.evaluate(
        """async () => {
            const notebook = jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = 1;
            await jupyterapp.commands.execute("notebook:insert-cell-below");
            notebook.activeCell.model.sharedModel.setSource("Dashboard(session)");
            await jupyterapp.commands.execute("notebook:run-cell");
        }"""
    )
    expect(visit.state).to_have_text("running", timeout=20_000)
    size = visit.ask("len(session.history)")
    visit.ask_until(f"len(session.history) > {size} + 5")
    visit.button("Pause").click()
    expect_the_session(visit)
    visit.page.evaluate("jupyterapp.commands.execute('notebook:delete-cell')")
    expect(visit.state).to_have_count(0)


def test_ten_runs_of_the_cell_leave_nothing_behind(visit: Visit) -> None:
    """Widgets and memory of the kernel, the page's heap and its nodes: within 5 % of before."""
    devtools = visit.page.context.new_cdp_session(visit.page)

    def count() -> dict[str, float]:
        visit.page.wait_for_timeout(1000)
        for _ in range(3):
            devtools.send("HeapProfiler.collectGarbage")
        nodes = devtools.send("Memory.getDOMCounters")
        return {
            "heap": devtools.send("Runtime.getHeapUsage")["usedSize"],
            "memory": visit.ask("gc.collect() and 0 or psutil.Process().memory_info().rss"),
            "widgets": visit.ask("len(ipywidgets.widgets.widget._instances)"),
            "nodes": nodes["nodes"],
            "listeners": nodes["jsEventListeners"],
        }

    def run() -> None:
        visit.run_cells(CODE[1:])
        expect(visit.state).to_have_text("idle", timeout=30_000)
        visit.button("Step").click()
        expect(visit.state).to_have_text("paused", timeout=30_000)

    for _ in range(3):  # what is made once
        run()
    before = count()
    for _ in range(10):
        run()
    after = count()
    print(before, after)
    assert after["widgets"] == before["widgets"]
    names = visit.ask("[thread.name for thread in __import__('threading').enumerate()]")
    assert (names.count("dmtg-train"), names.count("dmtg-paint")) == (1, 1)
    for name, value in after.items():
        assert value < 1.05 * before[name], (name, before, after)
    expect_the_session(visit)


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_a_dead_kernel_is_said(visit: Visit, how: str) -> None:
    """The view does not go on saying "running"; run again, the cell gives a live one."""
    visit.ask("setattr(session, 'steps_per_second', 5)")
    visit.button("Start").click()
    expect(visit.state).to_have_text("running")
    if how == "killed":
        os.kill(visit.ask("os.getpid()"), signal.SIGKILL)
    else:
        visit.page.evaluate(
            "jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
        )
    expect(visit.state).to_have_text("no answer from the kernel", timeout=20_000)
    expect(visit.page.get_by_text("This is its last picture (running)")).to_be_visible()
    visit.wait_for_kernel()
    for dialog in visit.page.locator(".jp-Dialog button.jp-mod-accept").all():
        dialog.click()  # Lab's own word on a kernel that died
    visit.run_cells(CODE)
    expect(visit.state).to_have_text("idle", timeout=60_000)
    visit.button("Step").click()
    expect(visit.state).to_have_text("paused", timeout=30_000)
    expect_the_session(visit)


def test_without_its_kernel_a_still_picture_stands_there(visit: Visit) -> None:
    """Saved, its kernel gone, loaded again: the last numbers and the way back, and no error."""
    visit.ask("setattr(session, 'steps_per_second', None)")
    visit.button("Start").click()
    expect(visit.state).to_have_text("finished", timeout=60_000)
    numbers = visit.heat_map()
    visit.page.wait_for_timeout(1000)
    save(visit)
    visit.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    visit.wait_for_kernel()
    visit.reload()
    still = visit.page.locator("[data-dmtg-still]", has_text="step")
    expect(still).to_be_visible(timeout=30_000)
    expect(still).to_contain_text("finished")
    expect(still).to_contain_text("run this cell again")
    rows = still.locator("tbody tr").all()
    assert [row.locator("td").all_inner_texts() for row in rows] == numbers
    expect(visit.page.get_by_text("Error displaying widget")).to_be_hidden()
    path = os.environ.get("DMTG_SCREENSHOT")
    if path:
        visit.page.screenshot(path=Path(path).with_suffix(".still.png"))
