"""Notebooks as slides: each executed once, one HTML file that opens from a disk with no network.

Which cell is a slide follows from what it is, so the notebooks carry no marks for it: a heading
begins a column, whatever else is worth showing lies below it, and setup and exercises are left out.
Run: python notebooks/tools/slides.py --out FOLDER 00 01
"""

from __future__ import annotations

import argparse
import os
import sys
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from dmtg_lite.files import write_atomically

TOOLS = Path(__file__).parent
LEFT_OUT = {"setup", "exercise", "check", "solution", "picture"}
EXERCISE = "### Exercise"  # from here on a cell of prose is for the class, not for the screen


def choose_slides(notebook: NotebookNode) -> NotebookNode:
    """A copy whose cells say what they are on the slides, and without exercises."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        kind = "subslide"
        if cell.cell_type == "markdown":
            cell.source = cell.source.partition(EXERCISE)[0].strip()
            kind = "slide" if cell.source.startswith(("# ", "## ")) else kind
        if LEFT_OUT & set(cell.metadata.get("tags", ())) or not cell.source:
            kind = "skip"
        cell.metadata["slideshow"] = {"slide_type": kind}
    return copy


def find_reveal() -> dict[str, str]:
    """reveal.js, its style and a theme, as text; its wheel is there for these files only.

    Raises:
        ModuleNotFoundError: If the package that carries them is not installed.
    """
    spec = find_spec("sphinx_revealjs")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError('slides need sphinx-revealjs: pip install "dmtg-lite[slides]"')
    dist = Path(spec.origin).parent / "_static" / "revealjs" / "dist"
    css = [(dist / name).read_text(encoding="utf-8") for name in ("reveal.css", "theme/white.css")]
    own = [line for text in css for line in text.splitlines() if not line.startswith("@import")]
    return {"css": "\n".join(own), "js": (dist / "reveal.js").read_text(encoding="utf-8")}


def execute(source: Path) -> NotebookNode:
    """A notebook with its outputs; live views train to their end, as nobody presses Start."""
    notebook = nbformat.read(source, as_version=4)
    where = {"metadata": {"path": str(source.parent)}}
    how = {"timeout": 600, "kernel_name": "python3", "store_widget_state": False}
    NotebookClient(notebook, resources=where, **how).execute()
    return notebook


def render(notebook: NotebookNode, title: str) -> str:
    """The slides of an executed notebook as one HTML page that needs nothing else."""
    exporter = SlidesExporter(
        template_name="slides_offline",
        extra_template_basedirs=[str(TOOLS)],
        reveal_url_prefix="data:text/css,",
    )
    resources = {"reveal_files": find_reveal(), "metadata": {"name": title}}
    page, _ = exporter.from_notebook_node(choose_slides(notebook), resources=resources)
    return page


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write notebooks as slides.")
    parser.add_argument("--out", required=True, type=Path, help="folder for the pages")
    parser.add_argument("numbers", nargs="+", help="of notebooks, as 00")
    chosen = parser.parse_args(arguments)
    find_reveal()  # before minutes are spent
    os.environ["DMTG_HEADLESS"] = "1"
    package = str(TOOLS.parents[1])  # a kernel stands in the notebook's folder
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.getenv("PYTHONPATH"))))
    for number in chosen.numbers:
        found = sorted(TOOLS.parent.glob(f"{number}_*.ipynb"))
        if len(found) != 1:
            parser.error(f"no notebook {number!r}: give numbers, as 00.")
        page = render(execute(found[0]), found[0].stem)
        path = write_atomically(chosen.out / f"{found[0].stem}.html", page.encode())
        print(f"slides written to {path}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
