"""The two parts of the dashboard that the replay page shares: only traits here, drawing is in .js.

The head graph: K branches, N tasks, and edges that fade as probability leaves them. The toggle:
what the (N, K) picture shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from dmtg_lite.views.plots import MATRICES

HERE = Path(__file__).parent


class HeadGraph(anywidget.AnyWidget):
    """Who trains whom, as a picture that can be watched.

    Args:
        tasks: N task names.
        probabilities: (N, K) as nested lists: softmax(S) or E[Z]; exactly 0 is a pruned head, which
            disappears. Set it with `show`.
        closed: Numbers of the branches that have closed: a dashed ghost stays in their place.
        sorted: Whether settled tasks gather next to their group.
    """

    _esm = (HERE / "head_graph.js").read_text(encoding="utf-8")
    _css = (HERE / "head_graph.css").read_text(encoding="utf-8")

    tasks = traitlets.List(traitlets.Unicode()).tag(sync=True)
    probabilities = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    closed = traitlets.List(traitlets.Int()).tag(sync=True)
    sorted = traitlets.Bool(True).tag(sync=True)

    def show(self, matrix: np.ndarray, closed: Sequence[int] = ()) -> None:
        """Show an (N, K) matrix; three decimals travel, and what is there never rounds to gone."""
        matrix = np.nan_to_num(np.asarray(matrix, np.float64))
        rows = np.where(matrix > 0, np.maximum(matrix.round(3), 0.001), 0.0).tolist()
        with self.hold_sync():  # one message: edges must not leave before their branch closes
            self.closed, self.probabilities = list(closed), rows


class MatrixToggle(anywidget.AnyWidget):
    """Probabilities, E[Z] or loss; the last cannot be chosen where a recording holds none."""

    _esm = (HERE / "matrix_toggle.js").read_text(encoding="utf-8")
    _css = (HERE / "matrix_toggle.css").read_text(encoding="utf-8")

    value = traitlets.Enum(MATRICES, MATRICES[0]).tag(sync=True)
    has_losses = traitlets.Bool(True).tag(sync=True)
