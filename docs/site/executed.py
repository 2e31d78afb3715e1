"""The notebooks as the site shows them: executed once, then dressed for a page without a kernel.

What a run printed and drew is kept by jupyter-cache, by the notebook's code, in a folder by the
library's: change either, and the notebook runs anew. Words may change freely.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import tempfile
from collections.abc import Callable
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from nbformat import NotebookNode

LIVE = "application/vnd.jupyter.widget-view+json"
FIGURE = "application/vnd.plotly.v1+json"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
TIMEOUT = 600  # seconds a cell; a busy machine needs more than the 90 of a whole notebook
# a warning as Python prints it: where on this machine, what, and the line of code that led to it
WARNING = re.compile(r"^\S+\.py:\d+: (?=\w+Warning: )(.*)\n(?:  .*\n?)?", re.MULTILINE)
PLOT, PAGE = 115, 825  # pixels: of a plot in a row, so that its name fits; of a row on a desk
QUIET = ["--IPKernelApp.log_level=40"]  # ipykernel 7.4 warns of TCP at every start


def number_of(path: Path) -> str:
    """How a notebook is called in commands: ``"08"``, ``"08b"``."""
    return path.stem.partition("_")[0]


def hash_library(package: Path) -> str:
    """What the outputs depend on beside the notebook: every file of the library."""
    files = (p for p in sorted(package.rglob("*")) if p.is_file() and p.suffix != ".pyc")
    together = hashlib.sha256()
    for path in files:
        together.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return together.hexdigest()[:12]


def open_cache(folder: Path, package: Path) -> Any:
    """The cache of the library as it is now; those of what it was are thrown away."""
    own = folder / hash_library(package)
    for other in folder.glob("*"):
        if other != own:
            shutil.rmtree(other)
    own.mkdir(parents=True, exist_ok=True)
    return get_cache(str(own))


def read(path: Path) -> NotebookNode:
    """A notebook from its source, without outputs."""
    notebook = jupytext.read(path)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return notebook


def execute(path: Path, cache: Any, say: Callable[[str], None] = print) -> NotebookNode:
    """A notebook with its outputs: out of the cache, or run now as "Run all" runs it.

    Its ``metadata.site`` says when it ran and for how many seconds.

    Raises:
        RuntimeError: If a cell fails; the message ends with the kernel's traceback.
    """
    notebook = read(path)
    try:
        number, notebook = cache.merge_match_into_notebook(notebook)
        known = cache.get_cache_record(number).data
    except KeyError:
        with tempfile.TemporaryDirectory() as folder:  # what a notebook writes is not kept
            leave_out = shutil.ignore_patterns(".*", "*.ipynb", "prepared", "runs")
            shutil.copytree(path.parent, folder, ignore=leave_out, dirs_exist_ok=True)
            done = single_nb_execution(
                notebook, folder, TIMEOUT, allow_errors=False, extra_arguments=QUIET
            )
        if done.err is not None:
            raise RuntimeError(f"{path.name} does not run: {done.exc_string}") from done.err
        known = {"seconds": done.time, "on": date.today().isoformat()}
        say(f"{path.stem}: executed in {done.time:.0f} s")
        bundle = CacheBundleIn(notebook, path.name, data=known)
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    notebook.metadata["site"] = known
    return notebook


def dress(notebook: NotebookNode, version: str) -> NotebookNode:
    """A copy for the site: figures that draw themselves, stills for widgets, folded solutions."""
    copy = deepcopy(notebook)
    ran = copy.metadata.pop("site", None)
    if ran:  # then it shows more than the picture that stands for it elsewhere
        copy.cells = [cell for cell in copy.cells if "picture" not in _tags(cell)]
    for cell in copy.cells:
        if "picture" in _tags(cell):  # its line leads to this very page
            cell.source = cell.source.partition("\n\n")[0]
        if cell.cell_type != "code":
            continue
        if "solution" in _tags(cell):
            cell.metadata["tags"] = [*_tags(cell), "hide-input"]
            words = {"code_prompt_show": "Show a solution", "code_prompt_hide": "Hide the solution"}
            cell.metadata["mystnb"] = words
        cell.outputs = [_dress_output(output) for output in cell.outputs if not _is_live(output)]
    copy.cells.insert(1, nbformat.v4.new_markdown_cell(_say_when(ran, version)))
    return copy


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _is_live(output: NotebookNode) -> bool:
    """A widget, which is dead without a kernel; its still picture is the output beside it."""
    return LIVE in output.get("data", {}) and not output.data.get("text/html")


def _dress_output(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    if output.get("name") == "stderr":
        output.text = WARNING.sub(r"\1\n", output.text)
    if FIGURE in data:
        output.data = nbformat.from_dict({"text/html": draw(data[FIGURE])})
    else:
        data.pop(LIVE, None)
    return output


def draw(figure: dict[str, Any]) -> str:
    """A place for a figure with its numbers in it; `site.js` draws it in the page's colours."""
    layout = figure["layout"]
    title = (layout.get("title") or {}).get("text") or "figure"
    numbers = json.dumps({"data": figure["data"], "layout": layout}, separators=(",", ":"))
    height = layout.get("height") or 450
    in_a_row = {str(axis.get("domain")) for name, axis in layout.items() if name[:5] == "xaxis"}
    width = min(PAGE, PLOT * len(in_a_row))
    wide = f";min-width:{width}px" if width > 540 else ""
    safe = numbers.replace("<", "\\u003c")  # no name in it ends the script
    return (
        f'<div class="dmtg-figure" role="img" aria-label="{html.escape(str(title))}" '
        f'style="min-height:{height}px{wide}"></div><script type="application/json">{safe}</script>'
    )


def _say_when(ran: dict[str, Any] | None, version: str) -> str:
    if ran is None:
        return (
            ":::{admonition} Not executed here\n:class: caution\n"
            "These pages were built quickly: this notebook is shown from its source, without what "
            "it prints and draws.\n:::"
        )
    return (
        f":::{{admonition}} Executed\nOn {ran['on']} with dmtg_lite {version}, from top to bottom "
        f"in {ran['seconds']:.0f} s, exercises open. Live views stand still here as a table; "
        "`make lab` opens the notebook itself.\n:::"
    )
