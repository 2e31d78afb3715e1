"""What the temperature does to one draw and to the mean of many, under a slider.

numpy only, and no training; the still twin is `dmtg_lite.views.plots.plot_temperature`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
from numpy.typing import ArrayLike

from dmtg_lite.views.plots import compute_temperature_views
from dmtg_lite.views.plots.matrix import TEMPERATURE_TITLES, name_tasks
from dmtg_lite.views.widgets.anywidgets import Matrix, Slider, Status
from dmtg_lite.views.widgets.shown import Shown, draw_table

TAUS = (0.1, 0.25, 0.5, 1.0, 2.5, 4.0, 10.0)


class TauExplorer(Shown):
    """One draw Z, the mean weight E[Z] and softmax(S), side by side; the slider changes tau alone.

    The noise is the same at every tau, so what changes is due to tau; the button draws new noise.

    Args:
        logits, task_names, seed: As for `plot_temperature`.
        tau: Where the slider starts; one of 0.1, 0.25, 0.5, 1, 2.5, 4, 10.
        name: Another explorer of the same name takes this one's place.
    """

    def __init__(
        self,
        logits: ArrayLike,
        *,
        task_names: Sequence[str] | None = None,
        tau: float = 1.0,
        seed: int = 0,
        name: str = "default",
    ) -> None:
        if tau not in TAUS:
            raise ValueError(f"`tau` must be one of {TAUS}, got {tau}.")
        self._logits, self._seed = np.asarray(logits, np.float64), seed
        views = compute_temperature_views(self._logits, tau, seed=seed)
        self._tasks = name_tasks(task_names, len(views[0]))
        super().__init__(name)
        flex: dict[str, Any] = {
            "layout": {"flex": "1 1 260px"},
            "has_choice": False,
            "sorted": False,
        }
        self.matrices = [self._make(f"matrix {n}", Matrix, **flex) for n in range(len(views))]
        options = [(f"{value:g}", value) for value in TAUS]
        self.tau = self._make(
            "tau", Slider, description="temperature tau", options=options, value=tau
        )
        words: dict[str, Any] = {"description": "New noise", "icon": "refresh"}
        self.noise = self._make("noise", widgets.Button, **words)
        self.state = self._make("state", Status, still=self._still)
        self._redraw()
        self._observe(self.tau, self._redraw)
        self._on_click(self.noise, self._draw_again)
        wrap = {"width": "100%", "flex_flow": "row wrap", "grid_gap": "0 18px"}
        wrap["overflow"] = "visible"  # a box that scrolls would have to take the keyboard
        box = self._make("box", widgets.Box, children=self.matrices, layout=wrap)
        row = self._make("row", widgets.HBox, children=[self.tau, self.noise, self.state])
        self._show(self._make("all", widgets.VBox, children=[row, box]))

    def draw_still(self) -> str:
        return "".join(draw_table(matrix.shown) for matrix in self.matrices)

    def _draw_again(self, _button: widgets.Button) -> None:
        self._seed += 1
        self._redraw()

    def _redraw(self, _change: object = None) -> None:
        views = compute_temperature_views(self._logits, self.tau.value, seed=self._seed)
        for matrix, view, title in zip(self.matrices, views, TEMPERATURE_TITLES, strict=True):
            matrix.show(view, self._tasks, title=title)
        self._renew_still()
