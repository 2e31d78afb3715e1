"""`dmtg-lite watch` in a real browser: a page on this machine alone, behind a token."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import CELLS, ROOT, Visit
from playwright.sync_api import Page, expect

from dmtg_lite.runs.folder_writer import FolderWriter
from dmtg_lite.runs.history import History
from dmtg_lite.views import recordings

pytestmark = [pytest.mark.ui, pytest.mark.slow]


def write_run(folder: Path, recording: History) -> None:
    """A folder as a run leaves it that was recorded."""
    facts = {
        "format": "dmtg-folder/1", "id": folder.name, "method": "dmtg", "n_groups": 3,
        "n_branches": recording.n_groups, "n_steps": 900, "n_pretraining": 0,
        "task_names": recording.task_names, "config": {"tau": 2.5, "lr": 0.003},
        "config_line": recording.about.config, "seed": 0, "data": "toy faces", "fingerprint": "",
        "note": "", "planted_groups": None, "versions": {}, "machine": "", "started": "",
        "world_size": 1,
    }  # fmt: skip
    with FolderWriter(folder, facts) as writer:
        writer.begin(recording.slice(stop=300), 0)
        writer.count(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the address that it says."""
    runs = tmp_path_factory.mktemp("watch") / "runs; echo <b>of 'mine'</b> $(id)"
    for name in ("good", "failed"):
        write_run(runs / name, recordings.load(name))
    command = [sys.executable, "-m", "dmtg_lite", "watch", str(runs), "--no-browser"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=runs, env=env, stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline().strip() for _ in range(3)]
    assert lines[0] == f"watching {runs} at"
    yield process, lines[1]
    process.kill()
    process.wait()
    process.stdout.close()


def test_without_the_token_there_is_nothing_to_see(page: Page, server) -> None:
    """Port and address are not enough."""
    address = server[1]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
    page.goto(address.partition("?")[0])
    assert "/login" in page.url
    page.goto(address[:-1] + ("a" if address[-1] != "a" else "b"))
    assert "/login" in page.url


def test_several_runs_and_one_of_them(page: Page, server) -> None:
    """Pictures side by side, one of them opened by a click, one less by its check box."""
    page.goto(server[1])
    cards = page.locator(".dmtg-plots figure")
    expect(cards).to_have_count(2, timeout=60_000)
    expect(cards.first.locator("rect")).to_have_count(9 * 3)
    expect(page.locator(CELLS)).to_have_count(0)
    page.get_by_role("button", name="good").click()
    expect(page.locator(CELLS)).to_have_count(9)
    visit = Visit(page)
    last = recordings.load("good").probabilities[299]
    assert visit.heat_map() == [[f"{p:.2f}" for p in row] for row in last]
    page.get_by_role("checkbox", name="failed").uncheck()
    expect(cards).to_have_count(1)
    page.get_by_role("radio", name="entropy").check()
    expect(cards.locator("path")).to_have_count(1)
    expect(visit.button("Pause")).to_be_disabled()
    if path := os.environ.get("DMTG_SCREENSHOT"):
        page.screenshot(path=Path(path).with_suffix(".watch.png"), full_page=True)


def test_it_asks_nobody_else(page: Page, server) -> None:
    """Nothing is fetched from another host: voila's template would, and is refused."""
    refused = [text for text in page.complaints if "failed: http" in text]
    assert all("jsdelivr" in text for text in refused), refused
    assert [text for text in page.complaints if "dmtg" in text.lower()] == []


def test_ctrl_c_ends_it(server) -> None:
    """With 130, as of every command, and the server goes with it."""
    process, address = server
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    port = address.partition("127.0.0.1:")[2].partition("/")[0]
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(port)), timeout=2)
