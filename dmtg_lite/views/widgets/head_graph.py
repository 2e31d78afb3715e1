"""The head graph: K branches, N tasks, and edges that fade as probability leaves them.

Only traits here; drawing is in head_graph.js, which the replay page uses too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets

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
        with self.hold_sync():  # one message: edges must not leave before their branch closes
            self.closed = list(closed)
            self.probabilities = to_rows(matrix)


def to_rows(matrix: np.ndarray) -> list[list[float]]:
    """(N, K) as nested lists of three decimals that keep 0 for pruned heads alone."""
    matrix = np.nan_to_num(np.asarray(matrix, np.float64))
    return np.where(matrix > 0, np.maximum(matrix.round(3), 0.001), 0.0).tolist()
