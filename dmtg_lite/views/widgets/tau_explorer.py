"""What the temperature does to one draw and to the mean of many, under a slider.

numpy only, and no training; the still twin is `dmtg_lite.views.plots.plot_temperature`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from dmtg_lite.views.plots import compute_temperature_views, plot_temperature

TAUS = (0.1, 0.25, 0.5, 1.0, 2.5, 4.0, 10.0)


class TauExplorer:
    """One draw Z, the mean weight E[Z] and softmax(S), side by side; the slider changes tau alone.

    The noise is the same at every tau, so what changes is due to tau; the button draws new noise.

    Args:
        logits, task_names, seed: As for `plot_temperature`.
        tau: Where the slider starts; one of 0.1, 0.25, 0.5, 1, 2.5, 4, 10.
    """

    def __init__(
        self,
        logits: ArrayLike,
        *,
        task_names: Sequence[str] | None = None,
        tau: float = 1.0,
        seed: int = 0,
    ) -> None:
        if tau not in TAUS:
            raise ValueError(f"`tau` must be one of {TAUS}, got {tau}.")
        self._logits, self._seed = np.asarray(logits, np.float64), seed
        still = plot_temperature(self._logits, tau, task_names=task_names, seed=seed)
        self.figure = go.FigureWidget(still)
        self.figure._config = {**self.figure._config, "responsive": True, "displaylogo": False}
        words = {"description": "temperature tau", "style": {"description_width": "initial"}}
        options, layout = [(f"{value:g}", value) for value in TAUS], widgets.Layout(width="420px")
        self.tau = widgets.SelectionSlider(options=options, value=tau, layout=layout, **words)
        self.noise = widgets.Button(description="New noise", icon="refresh")
        self.tau.observe(self._redraw, names="value")
        self.noise.on_click(self._draw_again)
        box = widgets.Box([self.figure], layout=widgets.Layout(width="100%"))
        self.widget = widgets.VBox([widgets.HBox([self.tau, self.noise]), box])

    def _repr_mimebundle_(self, **arguments: Any) -> Any:
        return self.widget._repr_mimebundle_(**arguments)

    def _draw_again(self, _button: widgets.Button) -> None:
        self._seed += 1
        self._redraw(None)

    def _redraw(self, _change: object) -> None:
        views = compute_temperature_views(self._logits, self.tau.value, seed=self._seed)
        with self.figure.batch_update():  # one message to the browser
            traces: Any = self.figure.data
            for trace, matrix in zip(traces, views, strict=True):
                trace["z"] = matrix
