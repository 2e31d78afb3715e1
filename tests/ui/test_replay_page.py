"""The replay page in a real browser, opened as a file: it moves, and needs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from dmtg_lite.core.record import Closing
from dmtg_lite.runs.history import About, History
from dmtg_lite.views.replay import write_replay

pytestmark = pytest.mark.ui
N_STEPS = 50
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def replay(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Page:
    logits = np.linspace(0, 6, N_STEPS)[:, None, None] * np.eye(3)[[2, 0, 1, 2]]  # (T, 4, 3)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    history = History([EVIL, "hair", "beard", "hat"], 3, about=About(title="A run"))
    steps = np.arange(1, N_STEPS + 1)
    losses = np.linspace(1, 0.2, N_STEPS)[:, None] * np.ones(4)
    matrices = losses[:, :, None] + (1 - p)  # a head's loss is higher where the probability is low
    matrices[:, 1, 2] = np.nan
    history.append(steps, p, losses, np.full(N_STEPS, 2.5), np.full(N_STEPS, 0.1), matrices)
    history.about.groups = history.groups()
    path = write_replay(history, tmp_path_factory.mktemp("replay") / "run.html")
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(Path(path).as_uri())
    return page


def cell(page: Page, row: int, column: int) -> float:
    return float(page.locator("#heat tbody tr").nth(row).locator("td").nth(column).inner_text())


def n_edges(page: Page) -> int:
    return page.locator(".dmtg-head-graph .edge:visible").count()


def test_it_opens_at_the_end_as_trained_or_pruned(replay: Page) -> None:
    """The last frame can be pruned to what was found: one edge per task, of 12."""
    expect(replay.locator("#step")).to_contain_text("step 50 of 50")
    assert cell(replay, 0, 2) > 0.98
    assert n_edges(replay) == 12
    label = replay.locator(".dmtg-head-graph").get_attribute("aria-label")
    assert "group 0: hair" in label
    choose(replay, "pruned")
    expect(replay.locator(".dmtg-head-graph .edge:visible")).to_have_count(4)
    assert replay.locator(".undecided").count() == 0
    assert "→ 2" in replay.locator(".percent").all_text_contents()


def test_pruning_hides_no_doubt(browser: Browser, tmp_path: Path) -> None:
    """A finished run in which nothing is decided: thin edges, hollow dots, their percentages."""
    history = History(["hair", "hat"], 3)
    p = np.full((3, 2, 3), 1 / 3)
    p[:, 1] = [0.1, 0.85, 0.05]
    history.append(np.arange(1, 4), p, np.ones((3, 2)), np.ones(3), np.ones(3))
    history.about.groups = history.groups()
    page = browser.new_page()
    page.goto(write_replay(history, tmp_path / "run.html").as_uri())
    for choice, percents, n_hollow in (
        ("as trained", ["0: 33%", "1: 85%"], 1),
        ("pruned", ["→ 0: 33%", "→ 1: 85%"], 2),
    ):
        choose(page, choice)
        expect(page.locator(".percent")).to_have_text(percents)
        expect(page.locator(".undecided")).to_have_count(n_hollow)
    widths = [float(e.get_attribute("stroke-width")) for e in page.locator(".edge:visible").all()]
    assert max(widths[:1]) < 0.5 * max(widths)
    scrub_to(page, 1)  # before the end there is nothing to prune
    expect(page.get_by_role("radio", name="pruned")).to_be_hidden()
    expect(page.locator(".dmtg-head-graph .edge:visible")).to_have_count(6)
    page.close()


def test_keyboard_moves_through_the_run(replay: Page) -> None:
    """Home, arrows and End work wherever the focus is, and on the slider itself."""
    replay.locator("h1").click()
    replay.keyboard.press("Home")
    expect(replay.locator("#step")).to_contain_text("step 1 of 50")
    assert abs(cell(replay, 0, 2) - 1 / 3) < 0.01
    expect(replay.locator(".dmtg-head-graph .edge:visible")).to_have_count(12)
    replay.keyboard.press("ArrowRight")
    expect(replay.locator("#step")).to_contain_text("step 2 of 50")
    replay.locator("#scrub").focus()
    replay.keyboard.press("ArrowRight")
    expect(replay.locator("#step")).to_contain_text("step 3 of 50")
    replay.keyboard.press("End")
    expect(replay.locator("#step")).to_contain_text("step 50 of 50")


def test_play_runs_from_the_start_and_stops_at_the_end(replay: Page) -> None:
    """The button is a toggle that releases itself."""
    replay.get_by_role("button", name="Play").click()
    expect(replay.locator("#play")).to_have_attribute("aria-pressed", "true")
    expect(replay.locator("#step")).to_contain_text("step 50 of 50", timeout=20_000)
    expect(replay.locator("#play")).to_have_attribute("aria-pressed", "false")


def choose(page: Page, matrix: str) -> None:
    page.get_by_role("radio", name=matrix, exact=True).check()


def test_the_toggle_shows_probabilities_mean_weights_or_losses(replay: Page) -> None:
    """At tau 2.5 a settled task still trains other branches; the lowest loss is bold and pale."""
    replay.locator("h1").click()
    replay.keyboard.press("End")
    replay.keyboard.press("ArrowLeft")
    settled = cell(replay, 0, 2)
    expect(replay.locator(".dmtg-head-graph .edge:visible")).to_have_count(12)
    choose(replay, "E[Z]")
    assert cell(replay, 0, 2) < settled - 0.1
    choose(replay, "loss")
    row = replay.locator("#heat tbody tr").first.locator("td")
    np.testing.assert_allclose(cell(replay, 0, 2), 0.39, atol=0.02)  # of 20 records, by hand
    assert cell(replay, 0, 0) > 1
    assert [node.get_attribute("class") for node in row.all()] == ["", "", "best"]
    light = [sum(map(int, re.findall(r"\d+", node.evaluate("n => n.style.background"))))
             for node in row.all()]  # fmt: skip
    assert light[2] > light[0]
    expect(replay.locator("#heat td.closed")).to_have_count(1)  # no head there
    assert n_edges(replay) == 12  # the head graph goes on showing probabilities
    choose(replay, "probabilities")
    assert cell(replay, 0, 2) == settled
    expect(replay.locator("#heat td.closed")).to_have_count(0)


def test_markup_in_a_task_name_is_shown_as_text(replay: Page) -> None:
    """It appears in heat map, head graph and groups, and no picture is loaded from it."""
    assert replay.locator("#heat tbody th").first.inner_text() == EVIL
    assert replay.locator("img").count() == 0


def test_dark_theme_is_dark(replay: Page) -> None:
    """The page follows the system's theme."""
    replay.emulate_media(color_scheme="dark")
    background = replay.evaluate("getComputedStyle(document.body).backgroundColor")
    replay.emulate_media(color_scheme="light")
    assert background == "rgb(17, 20, 24)"


def test_no_request_and_no_complaint(replay: Page) -> None:
    """Only the file itself was read, and the console stayed silent."""
    assert [url for url in replay.requests if not url.startswith(("file:", "data:"))] == []
    assert replay.complaints == []


@pytest.fixture(scope="module")
def closing_replay(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """40 steps of three branches; 1 closes at step 21, and `beard` moves from it to branch 0."""
    p = np.full((40, 4, 3), 0.01)
    for n, k in enumerate([0, 0, 1, 2]):
        p[:, n, k] = 0.98
    p[20:, 2] = [0.98, 0.0, 0.02]
    p[20:, :, 1] = 0
    history = History(["hair", "hat", "beard", "nose"], 3, about=About(title="A closing"))
    history.append(
        np.arange(1, 41), p / p.sum(-1, keepdims=True), np.ones((40, 4)), np.ones(40), np.ones(40)
    )
    costs = {"cost": 0.1, "costs": [2.0, 0.1, 1.0], "branches": [0, 1, 2]}
    history.tell(Closing(step=21, branch=1, moved={"beard": 0}, **costs), None)
    history.about.groups, history.has_loss_matrices = history.groups(), False
    page = browser.new_page(viewport={"width": 1240, "height": 800}, reduced_motion="no-preference")
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(write_replay(history, tmp_path_factory.mktemp("closing") / "run.html").as_uri())
    yield page
    page.close()


def scrub_to(page: Page, frame: int) -> None:
    page.locator("#scrub").evaluate(
        "(s, t) => { s.value = t; s.dispatchEvent(new Event('input')); }", frame
    )


def test_a_closing_is_seen(closing_replay: Page) -> None:
    """Before: three nodes. After: a ghost in its place, hatched cells, the task elsewhere."""
    page = closing_replay
    branches, ghosts = page.locator(".branch:visible"), page.locator(".ghost:visible")
    beard = page.locator("g", has=page.locator("text.task", has_text="beard")).last.locator(
        ".percent"
    )
    scrub_to(page, 19)
    expect(branches).to_have_count(3)
    expect(ghosts).to_have_count(0)
    expect(beard).to_have_text("1: 98%")
    expect(page.locator("#step")).to_contain_text("3 of 3 branches open")
    scrub_to(page, 20)
    expect(branches).to_have_count(2)
    expect(ghosts).to_have_count(1)
    expect(ghosts).to_have_text("1")
    expect(beard).to_have_text("0: 98%")
    expect(page.locator(".dmtg-head-graph .edge:visible")).to_have_count(8)
    expect(page.locator("#step")).to_contain_text("2 of 3 branches open")
    expect(page.locator("#heat td.closed")).to_have_count(4)
    expect(page.get_by_role("radio", name="loss")).to_be_disabled()  # an old run has none
    expect(page.get_by_text("this recording holds no losses")).to_be_visible()
    assert "closed: group 1" in page.locator(".dmtg-head-graph").get_attribute("aria-label")
    expect(page.locator("#curves figure").first.locator(".closing")).to_have_count(1)
    scrub_to(page, 5)  # the past has it open
    expect(branches).to_have_count(3)
    expect(page.locator("#heat td.closed")).to_have_count(0)
    assert page.complaints == []


def test_a_closing_fades_unless_motion_is_unwanted(closing_replay: Page) -> None:
    """Part of a ghost is seen on the way; who asks for reduced motion sees the end at once."""
    page = closing_replay
    at_once = """(s, t) => {
        s.value = t; s.dispatchEvent(new Event('input'));
        return Number(document.querySelectorAll('.ghost')[1].getAttribute('opacity'));
    }"""
    scrub = page.locator("#scrub")
    scrub_to(page, 19)
    expect(page.locator(".ghost:visible")).to_have_count(0)
    assert scrub.evaluate(at_once, 20) == 0  # the fading begins with the next frame
    expect(page.locator(".branch:visible")).to_have_count(2)
    page.emulate_media(reduced_motion="reduce")
    scrub_to(page, 19)
    assert scrub.evaluate(at_once, 20) == 1
    assert page.complaints == []


def test_forty_tasks_and_five_groups_fit_a_laptop(browser: Browser, tmp_path: Path) -> None:
    """At 1280 x 800 every row of graph and table is on the screen, and no name on the next."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(5, 0.3), (2, 40))
    history = History([f"A_task_named_{n}" for n in range(40)], 5)
    history.append(np.arange(2), p, np.ones((2, 40)), np.ones(2), np.ones(2))
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(write_replay(history, tmp_path / "run.html").as_uri())
    page.wait_for_timeout(500)  # rows move a third of a second
    for rows in ("#heat tbody th", ".dmtg-head-graph .task"):
        boxes = [row.bounding_box() for row in page.locator(rows).all()]
        tops = sorted(box["y"] for box in boxes)
        assert tops[-1] + boxes[0]["height"] <= 800
        assert min(b - a for a, b in pairwise(tops)) > 12
    letters = page.locator(".dmtg-head-graph .task").first.evaluate(
        "node => parseFloat(node.getAttribute('font-size')) * node.getScreenCTM().d"
    )
    assert letters > 10
    # tasks of one group are neighbours, and so are the undecided
    labels = page.locator(".dmtg-head-graph g:has(> .task)").all()
    labels.sort(key=lambda row: row.bounding_box()["y"])
    blocks = [
        "?" if row.locator(".undecided").count() else row.locator(".percent").text_content()[0]
        for row in labels
    ]
    runs = [block for n, block in enumerate(blocks) if n == 0 or blocks[n - 1] != block]
    assert len(runs) == len(set(runs))
    page.close()
