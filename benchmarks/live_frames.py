"""How many pictures a second a browser shows of a large run: forty tasks, ten groups, played.

In JupyterLab and a real Chromium, from a made-up history; at most five a second are sent. Printed
as JSON: pictures and animation frames a second, and what the page's main thread spent on a picture,
in ms. It needs the test extra and Chromium.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "ui"))
from conftest import FLAGS
from lab import CELLS, Visit, run_lab

CODE = """import numpy as np
from dmtg_lite.runs.history import History
from dmtg_lite.views.widgets import Dashboard
T, N, K = {records}, {tasks}, {groups}
rng = np.random.default_rng(0)
S = np.cumsum(rng.normal(0, 0.02, (T // 50, N, K)), 0).repeat(50, 0)
p = np.exp(S) / np.exp(S).sum(-1, keepdims=True)
losses = rng.uniform(0.2, 0.7, p.shape)
history = History([f"a_task_name_{{n}}" for n in range(N)], K)
ones = np.ones(len(p))
history.append(np.arange(1, len(p) + 1), p, losses.mean(-1), ones, ones, losses)
view = Dashboard(history)
view"""
COUNT = """async (seconds) => {
    const table = document.querySelector(".dmtg-heat"), start = performance.now();
    let shown = table.textContent, pictures = 0, frames = 0;
    while (performance.now() - start < 1000 * seconds) {
        await new Promise(requestAnimationFrame);
        frames++;
        if (table.textContent !== shown) pictures++;
        shown = table.textContent;
    }
    return [pictures, frames];
}"""
SPENT = {"script": "ScriptDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--groups", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    chosen = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp())
    (home / "work").mkdir()
    code = CODE.format(records=chosen.records, tasks=chosen.tasks, groups=chosen.groups)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, home / "work" / "large.ipynb")
    with run_lab(home) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chosen.chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        visit = Visit(page)
        visit.open(address.format("large.ipynb"))
        page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
        visit.run_cells(("Dashboard(history)",))
        page.wait_for_selector(CELLS, timeout=120_000)
        page.wait_for_timeout(4000)  # the page loads and draws all of it
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")

        def read() -> dict[str, float]:
            metrics = devtools.send("Performance.getMetrics")["metrics"]
            return {metric["name"]: metric["value"] for metric in metrics}

        before = read()
        page.locator("button", has_text="Play the past").click()
        pictures, frames = page.evaluate(COUNT, chosen.seconds)
        after = read()
        figures = {
            f"{word}_ms": round(1000 * (after[name] - before[name]) / max(pictures, 1))
            for word, name in SPENT.items()
        }
        rates = {"pictures": pictures, "animation": frames}
        rates = {name: round(n / chosen.seconds, 1) for name, n in rates.items()}
        print(json.dumps(rates | figures))


if __name__ == "__main__":
    main()
