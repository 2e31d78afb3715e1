"""What all tests share: one thread each, and a word on whether there is a browser.

No data and no networks: a test file builds its own, so that it can be read alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads; child processes inherit it

import pytest
import torch

# toy networks are slower with more, and sums of one thread repeat bit for bit
torch.set_num_threads(1)

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)


def pytest_report_header() -> str:
    """Say before the first test whether the ui tests run."""
    if CHROMIUM is None:
        return "chromium: not found, so the browser tests (marker `ui`) skip"
    return f"chromium: {CHROMIUM}, so the browser tests (marker `ui`) run"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it again at the end, where it is read, if they did not."""
    if CHROMIUM is None:
        terminalreporter.write_line("No Chromium on this machine: the browser tests were skipped.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if CHROMIUM is None and item.get_closest_marker("ui"):
            item.add_marker(pytest.mark.skip(reason="no Chromium; on Debian: apt install chromium"))


@pytest.fixture(scope="module")
def quick_learners() -> Iterator[None]:
    """MTG-Net learns for a moment only: what it learns is `test_meta_learner`'s business."""
    from dmtg_lite.methods.search import meta_learner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_learner, "_EPOCHS", 3)
        patch.setattr(meta_learner, "_N_LEARNERS", 1)
        yield


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that Playwright may launch; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium; on Debian: apt install chromium")
    return CHROMIUM
