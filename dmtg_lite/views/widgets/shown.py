"""What a notebook shows of a run: the live view, and a still picture where that cannot live.

A page without widgets (GitHub, nbconvert, a notebook opened without its kernel) has only what was
saved, so every view leaves a table of its numbers beside itself, which the live view hides.

A cell that is run again takes over the widgets of the run before: JupyterLab (4.6) keeps whatever
belongs to a widget in memory, closed or not, for as long as its kernel lives.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import ipywidgets as widgets
from IPython.display import display
from plotly.colors import sample_colorscale, unlabel_rgb

from dmtg_lite.views.plots.matrix import LOSS_COLOURS
from dmtg_lite.views.plots.style import ink_on
from dmtg_lite.views.widgets.anywidgets import Status

# In JupyterLab: no "Error displaying widget" above the picture that stands in for it.
HIDE_ERROR = (
    "<style>.jp-OutputArea-child:not(:has(.jupyter-widgets)):has(+ .jp-OutputArea-child "
    "[data-dmtg-still]) { display: none }</style>"
)
_shown: dict[tuple[type, str], Shown] = {}  # by kind and name


class Shown:
    """Something with a ``widget``, shown as a cell's last line and replaced by the next of a name.

    Args:
        name: Another one of the same kind and name takes the place, and the widgets, of this one.
    """

    widget: widgets.Widget
    state: Status  # in the page, it hides the still picture and lets go of what has left

    def __init__(self, name: str) -> None:
        self.name, self._still = name, f"dmtg-{uuid4().hex[:12]}"
        self._drawn_still, self._is_displayed = "", False
        self._widgets: dict[str, Any] = {}  # by role
        self._inherited: dict[str, Any] = {}
        self._undo: list[Callable[[], object]] = []  # what ties the widgets to this object
        if previous := _shown.get((type(self), name)):
            previous.stop()
            self._inherited, self._still = previous._widgets, previous._still

    def _make(
        self, role: str, kind: type, *, layout: Any = None, style: Any = None, **traits: Any
    ) -> Any:
        """The widget of a role: inherited, or else made; either way with these traits.

        A role has one layout and one style for ever, so they are only given to a new one.
        """
        widget = self._inherited.get(role)
        if not isinstance(widget, kind) or getattr(widget, "comm", None) is None:
            once = {"layout": layout or {}} | ({} if style is None else {"style": style})
            widget = kind(**once, **traits)
        else:
            for name, value in traits.items():  # options and limits stand before their value
                setattr(widget, name, value)
            del self._inherited[role]
        self._widgets[role] = widget
        return widget

    def _show(self, widget: widgets.Widget) -> None:
        """Make this the whole, and close what was inherited in vain."""
        self.widget = widget
        parts = _list_parts(self._widgets.values())
        self.state.family = [part.model_id for part in parts]
        _shown[type(self), self.name] = self
        self._drop(self._inherited)

    def _observe(self, widget: Any, act: Callable[[Any], object], name: str = "value") -> None:
        widget.observe(act, names=name)
        self._undo.append(lambda: widget.unobserve(act, names=name))

    def _on_click(self, button: widgets.Button, act: Callable[[Any], object]) -> None:
        button.on_click(act)
        self._undo.append(lambda: button.on_click(act, remove=True))

    def draw_still(self) -> str:
        """The picture for pages without widgets, as HTML."""
        raise NotImplementedError

    def stop(self) -> None:
        """Leave the widgets to somebody else."""
        while self._undo:
            self._undo.pop()()

    def close(self) -> None:
        """Remove the widgets, unless another one of the name has them by now."""
        self.stop()
        if _shown.get((type(self), self.name)) is self:
            del _shown[type(self), self.name]
            self._drop(self._widgets)

    def _drop(self, family: dict[str, Any]) -> None:
        for part in _list_parts(family.values()):
            part.close()
        family.clear()

    def _repr_mimebundle_(self, **arguments: Any) -> Any:
        return self.widget._repr_mimebundle_(**arguments)

    def _ipython_display_(self) -> None:
        bundle = self._repr_mimebundle_()
        words = {"text/plain": repr(self), "text/html": ""}  # for pages that cannot show the rest
        display(bundle | words, raw=True)
        self._drawn_still, self._is_displayed = self.draw_still(), True
        display(self._bundle_still(), raw=True, display_id=self._still)

    def _renew_still(self) -> None:
        """Bring the still picture in the notebook up to date, if it is another one."""
        if self._is_displayed and (still := self.draw_still()) != self._drawn_still:
            self._drawn_still = still
            display(self._bundle_still(), raw=True, display_id=self._still, update=True)

    def _bundle_still(self) -> dict[str, str]:
        body = f'{HIDE_ERROR}<div data-dmtg-still="{self._still}">{self._drawn_still}</div>'
        return {"text/html": body, "text/plain": repr(self)}


def _list_parts(family: Iterable[Any]) -> list[widgets.Widget]:
    """Widgets with their layouts and styles, which ``close()`` alone leaves in the kernel."""
    parts = [(one, one.layout, getattr(one, "style", None)) for one in family]
    return [part for three in parts for part in three if part is not None]


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
    ink = ink_on(unlabel_rgb(fill))
    return f'<td style="background:{fill};color:{ink}">{number:.2f}</td>'
