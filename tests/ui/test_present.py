"""`dmtg-lite present` in a real browser: a notebook as a lecture shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import CELLS, ROOT, Visit
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.ui, pytest.mark.slow]


def find_notebooks() -> list[Path]:
    """What `make present` shows."""
    return sorted(p for n in ("00", "10") for p in (ROOT / "notebooks").glob(f"{n}_*.ipynb"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "dmtg_lite", "present", "--no-browser", "--hide", "seed,spare"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("DMTG_HEADLESS", None)
    with subprocess.Popen(
        [*command, *map(str, find_notebooks())], env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline().strip() for _ in range(3)]
        assert lines[0].startswith("presenting 00_start_here")
        yield lines[1]
        process.terminate()


def test_start_moves_the_matrix_and_only_who_has_the_token_sees_it(
    page: Page, address: str
) -> None:
    """The page of a notebook lives, and shows no code."""
    place, _, token = address.partition("?")
    page.goto(place)
    assert "/login" in page.url
    page.goto(address)
    expect(page.get_by_role("link", name=".ipynb")).to_have_count(len(find_notebooks()))
    name = find_notebooks()[-1].name
    page.goto(f"{place}voila/render/{name}?{token}", wait_until="commit")
    page.wait_for_selector(CELLS, timeout=200_000)
    visit = Visit(page)
    before = visit.heat_map()
    visit.button("Start").first.click()
    expect(visit.state.first).to_contain_text("running", timeout=60_000)  # notebook 10: of two runs
    page.wait_for_function(
        f"before => document.querySelector('{CELLS}').innerText !== before",
        arg=page.locator(CELLS).first.inner_text(),
        timeout=60_000,
    )
    assert visit.heat_map() != before
    expect(page.get_by_text("import pandas")).to_have_count(0)
    if path := os.environ.get("DMTG_SCREENSHOT"):
        page.screenshot(path=Path(path).with_suffix(".present.png"), full_page=True)
