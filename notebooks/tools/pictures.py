"""One picture for each notebook, of what it shows when run, and the lines at its top that show it.

    make pictures                                   # notebooks run as far as their picture
    python notebooks/tools/pictures.py --only 00    # one of them
    python notebooks/tools/pictures.py --cells      # only the lines, e.g. after the site has moved

A picture is a screenshot of a figure; where the notebook is about the live view, of a recorded
run. `make notebooks` must follow.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import plotly
from nbclient import NotebookClient
from playwright.sync_api import Page, sync_playwright

SOURCES = Path(__file__).resolve().parent.parent
ROOT = SOURCES.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "site")]

import executed

from dmtg_lite.views import recordings
from dmtg_lite.views.replay import render_replay

# which figure of a notebook, counted from 0; or which recording, at which part of its run
CHOSEN: dict[str, int | tuple[str, float]] = {
    "00": ("good", 0.1), "02": ("good", 0.05), "08": ("spare", 0.55), "10": ("roomy", 0.2)
}  # fmt: skip
NOT_REAL = {"03": "faces are drawn, NOT CelebA", "05": "faces are drawn, NOT CelebA"}
NOT_REAL |= {"04": "rooms are drawn, NOT TASKONOMY"}
WIDTH = 860
PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
PAGE = """<!doctype html><meta charset="utf-8"><title>x</title>
<style>body { margin: 0; width: %(width)dpx; background: #fff; }</style>
%(figure)s<script src="%(plotly)s"></script><script>
const place = document.querySelector(".dmtg-figure");
const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
Object.assign(layout, { width: %(width)d, paper_bgcolor: "#fff", plot_bgcolor: "#fff" });
layout.font = { ...layout.font, color: "#333" };
Plotly.newPlot(place, data, layout, { staticPlot: true }).then(() => { document.title = "drawn"; });
</script>"""
CELL = """ [markdown] tags=["picture"]
# ![{alt}](img/{stem}.png)
#
# *From a real run{but}. [How it looks when run]({link})*
"""


def run_to_figure(path: Path, number: int) -> dict:
    """A figure of a notebook, which runs as far as that."""
    notebook, figures = executed.read(path), []
    client = NotebookClient(notebook, timeout=executed.TIMEOUT, extra_arguments=executed.QUIET)
    with tempfile.TemporaryDirectory() as folder, client.setup_kernel(cwd=folder):
        for i, cell in enumerate(notebook.cells):
            client.execute_cell(cell, i)
            bundles = [output.get("data", {}) for output in cell.get("outputs", [])]
            figures += [one[executed.FIGURE] for one in bundles if executed.FIGURE in one]
            if len(figures) > number:
                return figures[number]
    raise SystemExit(f"{path.name} has {len(figures)} figures; CHOSEN asks for {number}.")


@contextmanager
def open_page(text: str, width: int = WIDTH) -> Iterator[Page]:
    """A page in Chromium."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "page.html"
        file.write_text(text, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 1000})
        page.goto(file.as_uri())
        yield page
        browser.close()


def photograph(figure: dict, path: Path) -> None:
    """Write a figure as a PNG on white, which is readable on a dark page too."""
    words = {"width": WIDTH, "figure": executed.draw(figure), "plotly": PLOTLY.as_uri()}
    with open_page(PAGE % words) as page:
        page.wait_for_function("document.title === 'drawn'")
        page.locator(".dmtg-figure").screenshot(path=path)


def photograph_recording(name: str, part: float, path: Path) -> None:
    """Write what the replay page of a recording shows at a part of its run (0 to 1)."""
    with open_page(render_replay(recordings.load(name)), 1100) as page:
        page.evaluate(
            "part => { scrub.value = part * scrub.max; scrub.dispatchEvent(new Event('input')) }",
            part,
        )
        page.wait_for_timeout(1500)  # the order of the tasks moves into place
        page.locator("main").screenshot(path=path)


def draw(path: Path, picture: Path) -> None:
    """Write the picture of a notebook."""
    chosen = CHOSEN.get(executed.number_of(path), 0)
    if isinstance(chosen, tuple):
        photograph_recording(*chosen, picture)
    else:
        photograph(run_to_figure(path, chosen), picture)


def find_link(stem: str) -> str:
    """Where the notebook is shown as it looks when run: on the site, once that has an address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    address = project.get("urls", {}).get("site")
    return f"{address.rstrip('/')}/notebooks/{stem}.html" if address else "img/README.md"


def write_cell(path: Path) -> None:
    """The picture and its line as the second cell of a source; one that is there is replaced."""
    first, *rest = path.read_text(encoding="utf-8").split("\n# %%")
    if rest[0].startswith(' [markdown] tags=["picture"]'):
        del rest[0]
    title = re.search(r"^# # (.+)", first, re.MULTILINE)[1]
    but = NOT_REAL.get(executed.number_of(path))
    words = {"alt": f"What it shows: {title}", "but": f"; {but}" if but else ""}
    cell = CELL.format(**words, stem=path.stem, link=find_link(path.stem))
    path.write_text("\n# %%".join([first, cell, *rest]), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw the pictures at the top of the notebooks.")
    parser.add_argument("--only", nargs="+", metavar="NN", help="notebooks (all)")
    parser.add_argument("--cells", action="store_true", help="write the cells, draw nothing")
    told = parser.parse_args(arguments)
    os.environ |= {"DMTG_HEADLESS": "1", "PYTHONPATH": str(ROOT)}
    for path in sorted(SOURCES.glob("[0-9]*.py")):
        if told.only and executed.number_of(path) not in told.only:
            continue
        if not told.cells:
            picture = SOURCES / "img" / f"{path.stem}.png"
            draw(path, picture)
            print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")
        write_cell(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
