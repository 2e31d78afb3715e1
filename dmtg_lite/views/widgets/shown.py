"""What a notebook shows of a run: the live view, and a still picture where that cannot live.

A page without widgets (GitHub, nbconvert, a notebook opened without its kernel) has only what was
saved, so every view leaves a table of its numbers beside itself, which the live view hides.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import ipywidgets as widgets
from IPython.display import display
from plotly.colors import sample_colorscale

from dmtg_lite.views.plots.matrix import LOSS_COLOURS

# In JupyterLab: no "Error displaying widget" above the picture that stands in for it.
HIDE_ERROR = (
    "<style>.jp-OutputArea-child:not(:has(.jupyter-widgets)):has(+ .jp-OutputArea-child "
    "[data-dmtg-still]) { display: none }</style>"
)
_shown: dict[tuple[type, str], Shown] = {}  # by kind and name


class Shown:
    """Something with a ``widget``, shown as a cell's last line; the same cell run again replaces it.

    Args:
        name: Making another one of the same kind and name closes this one.
    """

    widget: widgets.Widget

    def __init__(self, name: str) -> None:
        if previous := _shown.pop((type(self), name), None):
            previous.close()
            previous._renew_still("")  # the picture goes where the live view goes
        self.name, self._still, self._drawn_still = name, f"dmtg-{uuid4().hex[:12]}", ""
        self._displayed = False
        _shown[type(self), name] = self

    def draw_still(self) -> str:
        """The picture for pages without widgets, as HTML."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove the widgets, with the layouts and styles that they hold."""
        for widget in _family([self.widget, *vars(self).values()]):
            widget.close()
        if _shown.get((type(self), self.name)) is self:
            del _shown[type(self), self.name]

    def _repr_mimebundle_(self, **arguments: Any) -> Any:
        return self.widget._repr_mimebundle_(**arguments)

    def _ipython_display_(self) -> None:
        bundle = self._repr_mimebundle_()
        words = {"text/plain": repr(self), "text/html": ""}  # for pages that cannot show the rest
        display(bundle | words, raw=True)
        self._drawn_still, self._displayed = self.draw_still(), True
        display(self._bundle_still(), raw=True, display_id=self._still)

    def _renew_still(self, still: str | None = None) -> None:
        """Bring the still picture in the notebook up to date, if it is another one."""
        still = self.draw_still() if still is None else still
        if self._displayed and still != self._drawn_still:
            self._drawn_still = still
            display(self._bundle_still(), raw=True, display_id=self._still, update=True)

    def _bundle_still(self) -> dict[str, str]:
        body = f'{HIDE_ERROR}<div data-dmtg-still="{self._still}">{self._drawn_still}</div>'
        return {"text/html": body, "text/plain": repr(self)}


def _family(todo: Sequence[Any]) -> list[widgets.Widget]:
    """The widgets among some values, and all that hang on them: children, layouts, styles."""
    family, todo = {}, list(todo)
    while todo:
        value = todo.pop()
        if isinstance(value, (list, tuple)):
            todo += value
        elif isinstance(value, widgets.Widget) and value.comm and value.model_id not in family:
            family[value.model_id] = value
            todo += [getattr(value, name) for name in value.keys]
    return list(family.values())


def draw_table(shown: dict[str, Any]) -> str:
    """What `Matrix` shows, as a table of HTML alone: its colours are written into the cells."""
    heads = "".join(f"<th>group {k}</th>" for k in range(len(shown["numbers"][0])))
    rows = ""
    for task, numbers in zip(shown["tasks"], shown["numbers"], strict=True):
        best = min((number for number in numbers if number is not None), default=0.0)
        cells = "".join(_draw_cell(number, best, shown) for number in numbers)
        rows += f"<tr><th>{html.escape(task)}</th>{cells}</tr>"
    title = f"<caption>{html.escape(shown['title'])}</caption>"
    return f"<table>{title}<thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _draw_cell(number: float | None, best: float, shown: dict[str, Any]) -> str:
    if number is None:
        return "<td>&ndash;</td>"
    scale, shade = "Cividis", min(1.0, max(0.0, number))
    if shown["is_loss"]:
        scale, shade = LOSS_COLOURS, min(1.0, (number - best) / shown["loss_range"]) ** 0.5
    fill = sample_colorscale(scale, [shade])[0]
    ink = "#fff" if (shade < 0.5) != shown["is_loss"] else "#000"
    return f'<td style="background:{fill};color:{ink}">{number:.2f}</td>'
