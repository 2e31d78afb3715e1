"""The live view in a real JupyterLab: what a person does there reaches the loop, and shows.

The tests follow one visit in order: run all, Start, turn, Pause, Step, scrub, Reset, run again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import CELLS, ROOT, Visit, run_lab
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.ui, pytest.mark.clock, pytest.mark.slow]

FORTY = """forty = data.toy_faces(n_tasks=40, n_groups=5, n_train=50, n_val=9, n_test=9)
session = views.LiveSession(forty, 5, config=views.WATCHABLE)
views.Dashboard(session)"""
NOTEBOOK = ROOT / "notebooks" / "00_start_here.ipynb"


@pytest.fixture(scope="module")
def visit(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    home = tmp_path_factory.mktemp("lab")
    (home / "work").mkdir()
    shutil.copy(NOTEBOOK, home / "work" / "00.ipynb")
    shutil.copytree(NOTEBOOK.parent / "img", home / "work" / "img")  # its picture
    with run_lab(home) as address:
        visit = Visit(page)
        visit.open(address.format("00.ipynb"))
        page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for_selector(CELLS, timeout=120_000)
        page.wait_for_selector(".dmtg-head-graph .edge", timeout=60_000, state="attached")
        yield visit


def test_start_moves_heat_map_and_head_graph(visit: Visit) -> None:
    """Start trains, and the pictures move with it."""
    expect(visit.state).to_have_text("idle")
    before = visit.heat_map()
    edge = visit.page.locator(".dmtg-head-graph .edge").first
    opacity = edge.get_attribute("stroke-opacity")
    visit.ask("setattr(session, 'steps_per_second', 25)")
    visit.button("Start").click()
    expect(visit.state).to_have_text("running", timeout=60_000)
    visit.ask_until("len(session.history) > 20")
    assert visit.heat_map() != before
    expect(edge).not_to_have_attribute("stroke-opacity", opacity)


def test_tau_moved_by_keyboard_reaches_loop_and_recording(visit: Visit) -> None:
    """An arrow key on the slider changes the temperature of the steps that follow, at once."""
    before = visit.ask("float(session.history.tau[-1])")
    visit.handle("temperature tau").focus()
    visit.page.keyboard.press("ArrowRight")
    visit.ask_until(f"float(session.history.tau[-1]) > {before}")
    assert visit.ask("session.state") == "running"
    assert visit.ask("sorted(set(session.history.tau.tolist()))[0]") == pytest.approx(before)


def test_learning_rate_of_s_moved_by_keyboard(visit: Visit) -> None:
    """The other knob, likewise."""
    before = visit.ask("float(session.history.lr_assignment[-1])")
    visit.handle("learning rate of S").focus()
    visit.page.keyboard.press("ArrowLeft")
    visit.ask_until(f"float(session.history.lr_assignment[-1]) < {before}")


def test_pause_within_half_a_second(visit: Visit) -> None:
    """From the click to the word on the page; the best of three, for busy machines."""
    delays = []
    for _ in range(3):
        delays.append(
            visit.page.evaluate(
                """async () => {
                    const find = (text) => [...document.querySelectorAll("button.widget-button")]
                        .find((button) => button.textContent.includes(text));
                    const started = performance.now();
                    find("Pause").click();
                    while (document.querySelector('b.dmtg-state').textContent !== "paused") {
                        await new Promise((next) => setTimeout(next, 5));
                        if (performance.now() - started > 10_000) break;
                    }
                    return (performance.now() - started) / 1000;
                }"""
            )
        )
        size = visit.ask("len(session.history)")
        time.sleep(0.3)
        assert visit.ask("len(session.history)") == size
        visit.button("Start").click()
        expect(visit.state).to_have_text("running")
    visit.button("Pause").click()
    expect(visit.state).to_have_text("paused")
    print(f"pause seen after {delays} s")
    assert min(delays) < 0.5


def test_step_is_one_step(visit: Visit) -> None:
    """One click, one record more, and the page says which."""
    size = visit.ask("len(session.history)")
    visit.button("Step").click()
    expect(visit.words(f"step {size + 1} of {size + 1}")).to_be_visible()
    assert visit.ask("len(session.history)") == size + 1
    assert visit.ask("session.state") == "paused"


def test_scrub_shows_the_past(visit: Visit) -> None:
    """Home on the slider shows step 1, where nothing is decided; End returns to the newest step."""
    newest = visit.heat_map()
    visit.handle("scrub").focus()
    visit.page.keyboard.press("Home")
    expect(visit.words("step 1 of")).to_be_visible()
    visit.wait_for_heat_map("session.history.probabilities[0]")
    assert visit.heat_map() != newest
    visit.handle("scrub").focus()
    visit.page.keyboard.press("End")
    size = visit.ask("len(session.history)")
    expect(visit.words(f"step {size} of {size}")).to_be_visible()
    visit.wait_for_heat_map("session.history.probabilities[-1]")


def test_the_toggle_shows_mean_weights_and_losses(visit: Visit) -> None:
    """E[Z] and loss each show other numbers of the same step; losses as they were recorded."""
    shown = visit.heat_map()
    for choice, numbers in (
        ("E[Z]", "plots.compute_matrix(session.history, -1, 'E[Z]')"),
        ("loss", "session.history.loss_matrices[-20:].astype('float32').mean(0)"),
        ("probabilities", "session.history.probabilities[-1]"),
    ):
        visit.page.get_by_role("radio", name=choice, exact=True).check()
        visit.wait_for_heat_map(numbers)
        assert (visit.heat_map() == shown) == (choice == "probabilities")


def test_reset_with_another_k(visit: Visit) -> None:
    """K moves by keyboard, acts at Reset, and the next run starts without pretraining."""
    visit.handle("groups K").focus()
    visit.page.keyboard.press("ArrowRight")
    visit.button("Reset").click()
    expect(visit.state).to_have_text("idle")
    visit.page.wait_for_function(f"document.querySelectorAll('{CELLS}')[0].cells.length === 5")
    visit.button("Step").click()
    expect(visit.state).to_have_text("paused", timeout=3000)
    assert visit.ask("session.history.probabilities.shape") == [1, 9, 4]


def test_reset_with_spare_branches(visit: Visit) -> None:
    """Chosen from the list, they are there after Reset, twice K, and gone when not wanted."""
    choice = visit.page.locator(".widget-dropdown", has_text="spare branches").locator("select")
    before = choice.input_value()
    nodes = visit.page.locator(".dmtg-head-graph .branch:visible")
    choice.select_option("as many as K")
    visit.button("Reset").click()
    expect(nodes).to_have_count(8)
    expect(visit.words("K=4, 8 of 8 branches open")).to_be_visible()
    choice.select_option("none")
    visit.button("Reset").click()
    expect(nodes).to_have_count(4)
    choice.select_option(before)
    visit.button("Step").click()  # the next test wants a record
    expect(visit.state).to_have_text("paused", timeout=3000)


def test_words_behind_a_question_mark(visit: Visit) -> None:
    """Reached by keyboard, opened by Enter, gone with Escape; it says what the control is."""
    ask = visit.page.get_by_role("button", name="what is temperature tau?")
    told = visit.page.locator(".dmtg-told:popover-open")
    ask.focus()
    visit.page.keyboard.press("Enter")
    expect(told).to_contain_text("how evenly a draw spreads a task")
    visit.page.keyboard.press("Escape")
    expect(told).to_have_count(0)
    expect(ask).to_be_focused()


def test_rows_gather_by_group_or_stay(visit: Visit) -> None:
    """Table and graph have one order, by group; unticked, that of the data. A list says it too."""
    visit.ask("setattr(session, 'steps_per_second', None)")
    visit.button("Start").click()
    expect(visit.state).to_have_text("finished", timeout=60_000)
    visit.wait_for_heat_map("session.history.probabilities[-1]")

    def read(rows: str) -> list[str]:
        boxes = [(row.bounding_box()["y"], row.text_content()) for row in rows_of(rows)]
        return [text for _, text in sorted(boxes)]

    def rows_of(rows: str) -> list:
        return visit.page.locator(rows).all()

    by_group = visit.page.get_by_role("checkbox", name="by group")
    visit.page.wait_for_timeout(500)  # rows move a third of a second
    graph = read(".dmtg-head-graph .task")
    assert read(".dmtg-heat tbody th") == graph
    by_group.uncheck()
    visit.page.wait_for_timeout(1000)
    names = visit.ask("session.history.task_names")
    assert read(".dmtg-heat tbody th") == read(".dmtg-head-graph .task") == names != graph
    by_group.check()
    said = visit.page.get_by_role("group", name="groups as a list").locator("li")
    said = "\n".join(said.all_text_contents())
    for k, group in enumerate(visit.ask("session.history.groups()")):
        assert all(name in said for name in group), (k, said)


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_axe_finds_nothing_and_focus_is_seen(visit: Visit, theme: str) -> None:
    """Nothing serious in either theme; Tab goes through all controls, each with an outline."""
    page = visit.page
    page.evaluate(
        "(theme) => jupyterapp.commands.execute('apputils:change-theme', {theme})",
        f"JupyterLab {theme}",
    )
    page.wait_for_timeout(1000)
    found = Axe().run(page, context=".dmtg-dashboard").response["violations"]
    assert [one for one in found if one["impact"] in ("serious", "critical")] == []
    visit.button("Start").focus()
    for key in ("Tab", "Shift+Tab"):  # by keyboard: a mouse needs no outline
        page.keyboard.press(key)
    seen = []
    for _ in range(40):
        name, outline, is_inside = page.evaluate(
            """() => {
                const one = document.activeElement, look = getComputedStyle(one);
                const own = one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent;
                const width = look.outlineStyle === "none" ? 0 : parseFloat(look.outlineWidth);
                const isInside = one.closest(".dmtg-dashboard") !== null;
                return [(own ?? one.textContent).trim(), width, isInside];
            }"""
        )
        if not is_inside:
            break
        seen.append(name)
        assert outline >= 2, name
        page.keyboard.press("Tab")
    for name in ("Start", "Pause", "Step", "Reset", "temperature tau", "probabilities", "Present",
                 "what is the matrix?", "Play the past", "scrub"):  # fmt: skip
        assert any(one.startswith(name) for one in seen), (name, seen)


def test_it_speaks_once_a_second_at_most(visit: Visit) -> None:
    """However often the state changes, and it never speaks numbers."""
    times = visit.page.evaluate(
        """async () => {
            const times = [], spoken = document.querySelector('[role="status"]');
            const watch = new MutationObserver(() => times.push(performance.now()));
            watch.observe(spoken, { childList: true, characterData: true, subtree: true });
            const find = (text) => [...document.querySelectorAll("button.widget-button")]
                .find((button) => button.textContent.includes(text));
            for (let i = 0; i < 8; i++) {
                find(i % 2 ? "Pause" : "Start").click();
                await new Promise((next) => setTimeout(next, 400));
            }
            watch.disconnect();
            return times;
        }"""
    )
    assert times
    assert min([b - a for a, b in pairwise(times)], default=1000) > 950


def test_the_whole_screen_in_large_letters(visit: Visit) -> None:
    """On a projector the matrix has about 60 % of it, in letters of 22 pixels or more."""
    page = visit.page
    page.set_viewport_size({"width": 1920, "height": 1080})
    page.get_by_role("button", name="Present", exact=True).click()
    page.wait_for_function("document.fullscreenElement !== null")
    page.wait_for_timeout(500)
    box = page.locator(".dmtg-matrix").bounding_box()
    assert 0.5 < box["width"] * box["height"] / (1920 * 1080) < 0.7
    for part in (".dmtg-heat td", ".dmtg-heat tbody th", ".dmtg-state", "button.widget-button"):
        size = page.locator(part).first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
        assert size >= 22, part
    assert (
        page.locator(".dmtg-head-graph .task").first.evaluate(
            "e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().d"
        )
        >= 20
    )
    page.set_viewport_size({"width": 1280, "height": 800})  # controls break into more lines here
    numbers = page.locator(".dmtg-words > :nth-child(2)")
    numbers.evaluate("e => (e.textContent += ' longer'.repeat(25))")
    back, pictures = page.locator(".dmtg-present"), page.locator(".dmtg-pictures")
    box = back.bounding_box()
    assert box["y"] + box["height"] <= pictures.bounding_box()["y"]  # not on the heads' "pruned"
    back.click()
    page.wait_for_function("document.fullscreenElement === null")


def test_no_complaint_and_a_picture(visit: Visit, tmp_path: Path) -> None:
    """The console stayed silent; DMTG_SCREENSHOT says where to keep the picture."""
    assert visit.page.complaints == []
    path = Path(os.environ.get("DMTG_SCREENSHOT") or tmp_path / "live_view.png")
    visit.button("Start").click()
    visit.ask_until("int((session.history.probabilities[-1:].max(-1) > 0.6).sum()) > 5", 60)
    visit.page.locator(".jp-OutputArea-output", has=visit.state).screenshot(path=path)
    assert path.stat().st_size > 10_000


def test_running_the_cell_again_leaves_one_thread_each(visit: Visit) -> None:
    """Three times, while it trains: one training thread, one painting thread, one view."""
    for _ in range(3):
        visit.run_cells(("LiveSession(", "Dashboard("))
        visit.page.wait_for_function(
            "jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
        )
        expect(visit.state).to_have_text("idle", timeout=60_000)
        visit.button("Start").click()
        visit.ask_until("len(session.history) > 5", 60)
    names = visit.ask("[thread.name for thread in __import__('threading').enumerate()]")
    assert (names.count("dmtg-train"), names.count("dmtg-paint")) == (1, 1)
    visit.button("Pause").click()
    expect(visit.state).to_have_text("paused")


@pytest.mark.parametrize("n_tasks", [9, 40])
def test_it_fits_a_laptop_without_scrolling(visit: Visit, n_tasks: int) -> None:
    """1280 x 800, the file browser closed: controls in two rows, all rows and the scrub bar."""
    page = visit.page
    page.set_viewport_size({"width": 1280, "height": 800})
    if n_tasks == 40:  # the view of the same name shows another session
        visit.ask("exec('" + FORTY.replace("\n", "; ") + "')")
    page.wait_for_function(f"document.querySelectorAll('{CELLS}').length === {n_tasks}")
    view = page.locator(".dmtg-dashboard")
    view.evaluate("view => view.scrollIntoView({ block: 'end' })")
    page.wait_for_timeout(500)
    outer, inner = page.locator(".jp-WindowedPanel-outer").bounding_box(), view.bounding_box()
    assert inner["height"] <= outer["height"]
    assert inner["x"] + inner["width"] <= outer["x"] + outer["width"]
    assert (
        page.locator(".dmtg-controls-0, .dmtg-controls-1").evaluate_all(
            "rows => rows.reduce((sum, row) => sum + row.getBoundingClientRect().height, 0)"
        )
        < 80
    )
    for part in (".dmtg-heat tbody tr", ".dmtg-head-graph .task", ".dmtg-time"):
        boxes = [one.bounding_box() for one in page.locator(part).all()]
        assert max(box["y"] + box["height"] for box in boxes) <= inner["y"] + inner["height"] + 1
    tops = sorted(row.bounding_box()["y"] for row in page.locator(CELLS).all())
    assert min(b - a for a, b in pairwise(tops)) > 9


def test_still_no_complaint(visit: Visit) -> None:
    """Also not after the old views were taken off the page in mid-training."""
    assert visit.page.complaints == []
