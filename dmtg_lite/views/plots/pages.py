"""Figures that keep their picture when a notebook becomes a page, e.g. by nbconvert.

JupyterLab draws a figure from its JSON; a page cannot, and would have nothing there. So a figure
also carries the little HTML that draws it, and the first one of a notebook plotly.js itself
(packed, 2 MB), because nothing is fetched from elsewhere.
"""

from __future__ import annotations

import base64
import gzip
from typing import Any, ClassVar
from uuid import uuid4

from plotly.io import renderers
from plotly.io.base_renderers import MimetypeRenderer
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

NAME = "dmtg_page"
LIBRARY = """<script>window.dmtgPlotly = (async () => {
  const packed = Uint8Array.from(atob("%s"), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).text();
  document.head.appendChild(Object.assign(document.createElement("script"), { text }));
})();</script>"""
FIGURE = """<div id="%(name)s"></div><script>window.addEventListener("load", async () => {
  const place = document.getElementById("%(name)s"), { data, layout } = %(figure)s;
  await window.dmtgPlotly;
  if (window.Plotly) Plotly.newPlot(place, data, layout, { responsive: true, displaylogo: false });
  else place.textContent = "A figure is missing: restart the kernel, run all cells, save again.";
});</script>"""


class PageRenderer(MimetypeRenderer):
    """A figure as HTML; that of the first cell to show one holds the library, run again or not."""

    holder: ClassVar[tuple[Any, Any] | None] = None  # the cell with the library, and its last run

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, str]:
        figure = (to_json_plotly(fig_dict) or "{}").replace("<", "\\u003c")
        page = FIGURE % {"name": f"dmtg-{uuid4().hex}", "figure": figure}
        cell, run = _find_cell()
        holder = self.holder
        if holder is None or (cell is not None and cell == holder[0] and run != holder[1]):
            PageRenderer.holder = cell, run  # plotly draws with copies of a renderer
            packed = gzip.compress(get_plotlyjs().encode(), mtime=0)
            page = LIBRARY % base64.b64encode(packed).decode() + page
        return {"text/html": page}


def _find_cell() -> tuple[Any, Any]:
    """Identity and execution count of the cell that is running, as far as they are known."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None, None
    return kernel.get_parent("shell").get("metadata", {}).get("cellId"), shell.execution_count


def keep_pictures() -> None:
    """Make figures of a Jupyter notebook survive; where somebody chose a renderer, it stays."""
    if NAME not in renderers:
        renderers[NAME] = PageRenderer()
    if renderers.default == "plotly_mimetype":  # what plotly chooses in Jupyter by itself
        renderers.default = f"plotly_mimetype+{NAME}"
