"""Ten minutes of a run in the live view, in JupyterLab and a real Chromium: does anything grow?

What is compared was counted after the first minute (the history is still short, all is loaded) and
at the end, each time after a collection of garbage in page and kernel. It needs the test extra and
Chromium; the numbers of the last run are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from playwright.sync_api import CDPSession, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "ui"))
from conftest import FLAGS
from lab import CELLS, Visit, run_lab

CODE = (
    "import gc, threading, ipywidgets\n"
    "from pathlib import Path\n"
    "from dataclasses import replace\n"
    "from dmtg_lite import data\n"
    "from dmtg_lite.views.live import WATCHABLE, LiveSession\n"
    "from dmtg_lite.views.widgets import Dashboard\n"
    "faces = data.toy_faces(n_tasks=9, n_groups=3, seed=0)\n"
    "config = replace(WATCHABLE, steps=100_000, pretrain=50)\n"
    "def read_memory():\n"
    "    gc.collect()\n"
    "    words = Path('/proc/self/status').read_text().split('VmRSS:')[1]\n"
    "    return int(words.split()[0]) / 1024",
    "session = LiveSession(faces, 3, config=config, steps_per_second=30)\nDashboard(session)",
)
WATCHED = (  # frames that the page draws, counted there
    "window.drawn = 0; new MutationObserver(() => window.drawn++).observe("
    "document.querySelector('.dmtg-curves'), {childList: true})"
)


def count(visit: Visit, devtools: CDPSession) -> dict[str, float]:
    for _ in range(3):
        devtools.send("HeapProfiler.collectGarbage")
    names = "[thread.name for thread in threading.enumerate()]"
    threads = visit.ask(names)
    return {
        "heap_mb": round(devtools.send("Runtime.getHeapUsage")["usedSize"] / 2**20, 1),
        "nodes": devtools.send("Memory.getDOMCounters")["nodes"],
        "kernel_mb": round(visit.ask("read_memory()"), 1),
        "widgets": visit.ask("len(ipywidgets.widgets.widget._instances)"),
        "training_threads": threads.count("dmtg-train"),
        "painting_threads": threads.count("dmtg-paint"),
        "records": visit.ask("len(session.history)"),
        "frames": visit.page.evaluate("window.drawn"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        os.makedirs(Path(home) / "work")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CODE])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, Path(home) / "work" / "live.ipynb")
        with run_lab(Path(home)) as address:
            browser = playwright.chromium.launch(executable_path=args.chromium, args=list(FLAGS))
            visit = Visit(browser.new_page(viewport={"width": 1280, "height": 800}))
            visit.page.set_default_timeout(180_000)
            visit.open(address.format("live.ipynb"))
            visit.run_cells(CODE)
            visit.page.wait_for_selector(CELLS)
            visit.page.evaluate(WATCHED)
            devtools = visit.page.context.new_cdp_session(visit.page)
            visit.button("Start").click()
            visit.ask_until("len(session.history) > 20", 180)
            began = time.monotonic()
            visit.page.wait_for_timeout(min(60, 30 * args.minutes) * 1000)
            before = count(visit, devtools)
            while time.monotonic() - began < 60 * args.minutes:
                visit.page.wait_for_timeout(5000)
            after = count(visit, devtools)
            browser.close()
    grown = {
        name: round(100 * (after[name] / before[name] - 1), 1) for name in ("heap_mb", "kernel_mb")
    }
    print(json.dumps({"before": before, "after": after, "grown_percent": grown}, indent=1))


if __name__ == "__main__":
    main()
