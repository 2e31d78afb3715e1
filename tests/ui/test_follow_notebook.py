"""Two processes: `dmtg-lite train` in one, a notebook that follows it in the other, in a browser.

The tests follow one run in order: it begins, it is steered, it is killed, it goes on, it ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from lab import ROOT, Visit, run_lab
from playwright.sync_api import Page, expect

from dmtg_lite.runs.folder import RunFolder

pytestmark = [pytest.mark.ui, pytest.mark.clock, pytest.mark.slow]

N_STEPS = 1200  # so that what is turned and pressed has some seconds
TRAIN = (
    f"train toy_faces --steps {N_STEPS} --pretrain 100 --batch-size 16 --capacity 1 "
    "--spare-branches 0 --lr-assignment 1.0 --checkpoint-every 50 --out"
).split()
CODE = "from dmtg_lite.views.widgets import Dashboard\nview = Dashboard.follow('run')"


class Trained:
    """The folder, and the process that trains in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        command = [sys.executable, "-m", "dmtg_lite", *TRAIN, str(self.folder), *more]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(self.folder.parent / "train.log", "ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    work = tmp_path_factory.mktemp("lab") / "work"
    work.mkdir()
    trained = Trained(work / "run")
    yield trained
    if trained.process:
        trained.process.kill()
        trained.process.wait()


@pytest.fixture(scope="module")
def visit(page: Page, trained: Trained) -> Iterator[Visit]:
    cells = [nbformat.v4.new_code_cell(f"{CODE}\nview")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, trained.folder.parent / "follow.ipynb")
    with run_lab(trained.folder.parents[1]) as address:
        visit = Visit(page)
        visit.open(address.format("follow.ipynb"))
        visit.run_cells((CODE,))
        yield visit


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it is so."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never came true"
        time.sleep(0.02)
    return time.monotonic() - started


def test_before_the_run_the_view_waits_for_it(visit: Visit, trained: Trained) -> None:
    """The folder is named; then the run is there, and rests where a note asked it to."""
    expect(visit.state).to_have_text("waiting for a run in run", timeout=60_000)
    trained.start()
    until((trained.folder / "run.json").exists, 60)
    trained.run.leave_note(command="pause")  # while it pretrains
    expect(visit.state).to_have_text("paused", timeout=60_000)
    expect(visit.button("Pause")).to_be_enabled()


def test_a_step_is_on_the_page_within_two_seconds(visit: Visit, trained: Trained) -> None:
    """From the click that asks for it to the heat map of that step; the best of three."""
    still, delays = visit.heat_map(), []
    visit.button("Start").click()
    until(lambda: trained.run.step > 20, 30)
    visit.button("Pause").click()
    expect(visit.state).to_have_text("paused", timeout=10_000)
    caption = visit.page.locator(".dmtg-heat caption")
    for step in range(trained.run.step + 1, trained.run.step + 4):
        visit.button("Step").click()
        title = f"probabilities · step {step}"
        delays.append(until(lambda: caption.inner_text() == title, 20))  # noqa: B023
    print(delays)
    assert min(delays) < 2
    assert visit.heat_map() != still
    visit.wait_for_heat_map("view.history.probabilities[-1]")


def test_tau_turned_in_the_browser_is_in_the_history_from_a_later_step_on(
    visit: Visit, trained: Trained
) -> None:
    """By keyboard while it trains; ``turns.json`` says the step, and so does the view."""
    before = trained.run.step
    visit.button("Start").click()
    expect(visit.state).to_have_text("running", timeout=10_000)
    visit.handle("temperature tau").focus()
    visit.page.keyboard.press("ArrowRight")
    until(lambda: len(trained.run.turns) > 0, 10)
    visit.button("Pause").click()
    expect(visit.state).to_have_text("paused", timeout=10_000)
    run = trained.run
    (turn,) = run.turns
    assert turn["step"] > before
    until(lambda: trained.run.history.steps[-1] == trained.run.step, 5)
    taus = trained.run.history.tau
    assert set(taus[: turn["step"] - 1].tolist()) == {2.5}
    assert set(taus[turn["step"] - 1 :].tolist()) == {4.0}
    assert f"tau turned to 4 at step {turn['step']}" in visit.ask("view.config_line.value")


def test_paused_it_takes_no_step(visit: Visit, trained: Trained) -> None:
    """Neither in its folder nor on the page."""
    step, before = trained.run.step, visit.heat_map()
    assert step < N_STEPS
    time.sleep(1.5)
    assert (trained.run.step, visit.heat_map()) == (step, before)


def test_killed_it_is_said_to_be_silent_and_resumed_it_is_followed_on(
    visit: Visit, trained: Trained
) -> None:
    """SIGKILL while it trains: the page says so within 10 s, and moves on with ``--resume``."""
    visit.button("Start").click()
    until(lambda: trained.run.state == "running", 10)
    trained.process.send_signal(signal.SIGKILL)
    trained.process.wait()
    died_at = trained.run.step
    assert died_at < N_STEPS
    expect(visit.state).to_have_text("stopped responding", timeout=10_000)
    expect(visit.words("--resume goes on")).to_be_visible()
    expect(visit.button("Start")).to_be_disabled()
    trained.start("--resume")
    expect(visit.state).to_have_text("finished", timeout=120_000)
    expect(visit.words(f"step {N_STEPS} of {N_STEPS}")).to_be_visible()
    visit.wait_for_heat_map("view.history.probabilities[-1]")
    assert trained.process.wait(120) == 0


def test_its_weights_are_those_of_an_undisturbed_run_with_the_same_turns(
    trained: Trained, tmp_path: Path
) -> None:
    """Bit for bit; the turns are told to the other one beforehand."""
    other = Trained(tmp_path / "run")
    other.folder.mkdir()
    shutil.copy(trained.folder / "turns.json", other.folder)
    other.start()
    assert other.process.wait(120) == 0
    weights = [one.folder.joinpath("network.safetensors").read_bytes() for one in (trained, other)]
    assert weights[0] == weights[1]
    assert trained.run.turns == other.run.turns
    assert (trained.run.history.tau == other.run.history.tau).all()


def test_afterwards_it_is_the_replay(visit: Visit) -> None:
    """Nobody is there to pause, the past can be scrubbed, and nothing complained."""
    expect(visit.button("Pause")).to_be_disabled()
    visit.handle("scrub").focus()
    visit.page.keyboard.press("Home")
    visit.wait_for_heat_map("view.history.probabilities[0]")
    if path := os.environ.get("DMTG_SCREENSHOT"):
        visit.page.screenshot(path=Path(path).with_suffix(".follow.png"))
    assert [text for text in visit.page.complaints if "dmtg" in text.lower()] == []
