"""What the dashboard draws itself: only traits here, the drawing is in the .js beside.

Every picture is a function of its synced traits, so a page that is loaded again, or a second view,
shows what the kernel has. The replay page shares the drawing of all but the status.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from dmtg_lite.runs.history import History, compute_entropy
from dmtg_lite.views.plots import MATRICES, compute_matrix
from dmtg_lite.views.plots.curves import (
    decimate,
    entropy_lines,
    loss_lines,
    probability_lines,
    running_mean,
    validation_lines,
)
from dmtg_lite.views.plots.dashboard import curve_titles
from dmtg_lite.views.widgets.words import WORDS

HERE = Path(__file__).parent
RUN_PICTURES = ("probabilities", "entropy", "loss")  # what small multiples show


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _module(name: str) -> str:
    """What a browser loads: one text, since a module cannot import from a notebook."""
    return _read("common.js") + _read(name)


class HeadGraph(anywidget.AnyWidget):
    """Who trains whom, as a picture that can be watched.

    Args:
        tasks: N task names.
        probabilities: (N, K) as nested lists: softmax(S) or E[Z]; exactly 0 is a head that is gone,
            which disappears. Set it with `show`.
        closed: Numbers of the branches that have closed: a dashed ghost stays in their place.
        sorted: Whether settled tasks gather next to their group.
        finished: Whether training is over, so that pruning can be looked at.
        pruned: Whether a finished run is drawn with the best head of every task alone. A task that
            is not settled stays hollow then, with its percentage.
    """

    _esm = _module("head_graph.js")
    _css = _read("widgets.css")

    tasks = traitlets.List(traitlets.Unicode()).tag(sync=True)
    probabilities = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)
    closed = traitlets.List(traitlets.Int()).tag(sync=True)
    sorted = traitlets.Bool(True).tag(sync=True)
    finished = traitlets.Bool(False).tag(sync=True)
    pruned = traitlets.Bool(False).tag(sync=True)
    help = traitlets.Unicode(WORDS["head_graph"]).tag(sync=True)

    def show(self, matrix: np.ndarray, closed: Sequence[int] = (), finished: bool = False) -> None:
        """Show an (N, K) matrix; three decimals travel, and what is there never rounds to gone."""
        matrix = np.nan_to_num(np.asarray(matrix, np.float64))
        rows = np.where(matrix > 0, np.maximum(matrix.round(3), 0.001), 0.0).tolist()
        with self.hold_sync():  # one message: edges must not leave before their branch closes
            self.closed, self.finished, self.probabilities = list(closed), finished, rows


class Matrix(anywidget.AnyWidget):
    """An (N, K) picture as a table, with a choice of what it shows.

    Args:
        value: What is chosen: probabilities, E[Z] or loss.
        sorted: Whether settled rows gather by group, as in the head graph.
        arrows: Whether arrows say how S moves.
        has_losses: Whether losses can be chosen; an old recording holds none.
        has_choice: Whether there is anything to choose.
        shown: Tasks, numbers and the rest in one piece, so that they fit; set it with `show`.
    """

    _esm = _module("matrix.js")
    _css = _read("widgets.css")

    value = traitlets.Enum(MATRICES, MATRICES[0]).tag(sync=True)
    sorted = traitlets.Bool(True).tag(sync=True)
    arrows = traitlets.Bool(False).tag(sync=True)
    has_losses = traitlets.Bool(True).tag(sync=True)
    has_choice = traitlets.Bool(True).tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    help = traitlets.Unicode(WORDS["matrix"]).tag(sync=True)
    help_sorted = traitlets.Unicode(WORDS["sorted"]).tag(sync=True)
    help_arrows = traitlets.Unicode(WORDS["arrows"]).tag(sync=True)

    def show(
        self,
        matrix: np.ndarray,
        tasks: Sequence[str],
        closed: Sequence[int] = (),
        *,
        title: str = "",
        loss_range: float | None = None,
        weights: np.ndarray | None = None,
        changed: Sequence[int] = (),
        movement: np.ndarray | None = None,
    ) -> None:
        """Show an (N, K) matrix; NaN, and all of a closed branch, is a head that is not there.

        Args:
            matrix, tasks, closed: What is shown; names of its rows; columns without heads.
            title: Stands above it.
            loss_range: Makes its numbers losses: the darkest shade is so far above a row's best.
            weights: (N, K), whose largest gives a row its place, where the numbers are losses.
            changed: Rows with a new winner: a mark in its cell.
            movement: (N, K) of -1 to 1: arrows.
        """
        matrix = np.asarray(matrix, np.float64)
        gone = np.isnan(matrix) | np.isin(np.arange(matrix.shape[1]), closed)
        shown: dict[str, Any] = {"tasks": list(tasks), "numbers": _to_lists(matrix, gone)}
        shown |= {"title": title, "closed": list(closed), "is_loss": loss_range is not None}
        shown |= {"changed": list(changed), "loss_range": max(loss_range or 0.0, 1e-6)}
        for name, extra in (("weights", weights), ("movement", movement)):
            if extra is not None:
                shown[name] = np.nan_to_num(extra).astype(np.float64).round(3).tolist()
        self.shown = shown


class Triangle(anywidget.AnyWidget):
    """The path of every task between three groups.

    Args:
        shown: Paths and the task in bold; set it with `show`.
    """

    _esm = _module("triangle.js")
    _css = _read("widgets.css")

    shown = traitlets.Dict().tag(sync=True)
    help = traitlets.Unicode(WORDS["triangle"]).tag(sync=True)

    def show(self, history: History, index: int, task: str) -> None:
        """Show the paths of a run with K = 3 up to one of its records."""
        rows = decimate(index + 1, max(12, 1200 // max(1, history.n_tasks)))
        start = np.full((1, history.n_tasks, 3), 1 / 3)
        p = history.probabilities[rows] if len(history) else start[:0]
        paths = np.concatenate([start, p]).astype(np.float64).round(3)  # (T', N, 3)
        tasks = [
            {"name": name, "path": paths[:, n].tolist()}
            for n, name in enumerate(history.task_names)
        ]
        self.shown = {"tasks": tasks, "task": task}


class Slider(anywidget.AnyWidget):
    """One of a short list, or of the numbers from 0 to ``max``, by a slider with a name.

    Args:
        value: What is chosen.
        options: Pairs of words and value; empty: numbers.
        max: Largest number.
        text: What a screen reader says in place of the number.
        description, help: Its name, and what is behind its "?".
    """

    _esm = _module("slider.js")
    _css = _read("widgets.css")

    description = traitlets.Unicode("").tag(sync=True)
    options = traitlets.List().tag(sync=True)
    value = traitlets.Any(0).tag(sync=True)
    max = traitlets.Int(1).tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    help = traitlets.Unicode("").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._said: list[Any] = []  # the newest of what came ahead of `value`
        self.on_msg(lambda _widget, content, _buffers: self._said.append(content["value"]))
        self.observe(lambda _change: self._said.clear(), "value")

    @property
    def newest(self) -> Any:
        """What a command has to go by: what the page showed when its button was clicked.

        ipywidgets holds a second change of `value` back until the kernel has answered the first,
        but never a click, which so arrives before it.
        """
        return self._said[-1] if self._said else self.value

    @property
    def index(self) -> int:
        """Place of the value among the options."""
        return [value for _, value in self.options].index(self.value)

    @index.setter
    def index(self, at: int) -> None:
        self.value = self.options[at][1]

    @property
    def label(self) -> str:
        """The words of the option that is chosen."""
        return self.options[self.index][0]

    @label.setter
    def label(self, words: str) -> None:
        self.value = dict(self.options)[words]


class Present(anywidget.AnyWidget):
    """A button that shows the view on the whole screen, in large type."""

    _esm = _module("present.js")
    _css = _read("widgets.css")

    help = traitlets.Unicode(WORDS["present"]).tag(sync=True)


class Curves(anywidget.AnyWidget):
    """Probabilities of a task, losses and entropy over the steps, with a line at the step in view.

    Where the run looked at the validation split, its loss is beside the others and its error
    is below.

    Args:
        shown: Charts and their lines in one piece; set it with `show`.
        drawn: The number of the picture that a browser has drawn last, see ``shown["frame"]``.
    """

    _esm = _module("curves.js")
    _css = _read("widgets.css")

    shown = traitlets.Dict().tag(sync=True)
    drawn = traitlets.Int(0).tag(sync=True)
    help = traitlets.Unicode(WORDS["curves"]).tag(sync=True)

    def show(
        self,
        history: History,
        index: int,
        task: str,
        n_steps: int | None = None,
        pretraining: Sequence[tuple[int, float]] = (),
    ) -> bool:
        """Show a run and mark one of its records; whether that is another picture than before.

        The axis grows with the run. As long as it has no record, the loss of the Naive MTL that is
        ``pretraining``, pairs of step and mean loss, is there to watch.
        """
        if pretraining and not len(history):
            return self._show(_draw_pretraining(pretraining))
        return self._show(_draw_run(history, index, task, n_steps))

    def _show(self, shown: dict[str, Any]) -> bool:
        before = self.shown.get("frame", 0)
        if shown | {"frame": before} == self.shown:
            return False
        self.shown = shown | {"frame": before + 1}
        return True


def _draw_pretraining(losses: Sequence[tuple[int, float]]) -> dict[str, Any]:
    rows = decimate(len(losses), 200)
    steps, values = zip(*(losses[row] for row in rows), strict=True)
    y = running_mean(np.array(values), 5).astype(np.float64).round(4).tolist()
    title = f"loss of one encoder for all tasks, step {steps[-1]}"
    chart = {"title": title, "lines": [{"y": y, "width": 3.5}], "top": 1.05 * max(y)}
    end = max(1.25 * steps[-1], 20)
    return {"charts": [chart], "steps": list(steps), "at": steps[-1], "end": end, "closings": []}


def _draw_run(history: History, index: int, task: str, n_steps: int | None) -> dict[str, Any]:
    history = copy(history)  # as long as it is now: it grows, and lines share their steps
    losses, (entropy, ceiling) = loss_lines(history, task), entropy_lines(history)
    dotted = {"dotted": True, "stairs": True, "width": 1.5}
    p = [_line(line, k=k) for k, line in enumerate(probability_lines(history, task))]
    charts: list[dict[str, Any]] = [
        {"top": 1.03, "lines": p},
        {"lines": [_line(line, width=line["line"]["width"]) for line in losses]},
        {"top": 1.05, "lines": [_line(entropy)]},
    ]
    if history.closings:
        charts[2]["lines"].append(_line(ceiling, **dotted))
    for chart, title in zip(charts, curve_titles(history, task), strict=True):
        chart["title"] = title
    if len(history.validation_steps):
        loss, error = (
            _line(line, dotted=True, width=2.5, steps=line["x"].astype(int).tolist())
            for line in validation_lines(history, task)
        )
        charts[1]["lines"].append(loss)
        charts.append({"title": f"validation error: {task}", "lines": [error]})
    for chart in (charts[1], *charts[3:]):
        values = [v for line in chart["lines"] for v in line["y"] if v is not None]
        chart["top"] = 1.05 * max(values, default=1.0) or 1.0
    steps = np.asarray(entropy["x"]).astype(int).tolist()
    now, last = (int(history.steps[i]) for i in (index, -1)) if len(history) else (0, 1)
    shown = {"charts": charts, "steps": steps, "at": now, "end": _find_end(last, n_steps)}
    shown["closings"] = [closing["step"] for closing in history.closings]
    return shown


def _find_end(last: int, n_steps: int | None) -> int:
    """Where the step axis ends: a fifth more than there is, up to the whole run."""
    return min(max(6 * last // 5, 50), max(n_steps or last, 1))


def _line(trace: dict[str, Any], **style: Any) -> dict[str, Any]:
    """A line of `plots.curves` as it travels."""
    y = np.asarray(trace["y"], np.float64)
    return {"y": _to_lists(y.round(4), ~np.isfinite(y)), **style}


def _to_lists(values: np.ndarray, gone: np.ndarray) -> list[Any]:
    """As JSON has them: None where there is nothing, since it knows no NaN."""
    boxed = values.astype(object)
    boxed[gone] = None
    return boxed.tolist()


class Runs(anywidget.AnyWidget):
    """Several runs side by side on the same axes, chosen by check boxes; a click opens one.

    Args:
        names: Of all runs there are.
        chosen: Of those in view.
        opened: Of the one that was clicked; empty: none.
        what: What is drawn of each: its probabilities, or a line over the steps.
        shown: By name: state, and numbers or line; set it with `show`.
    """

    _esm = _module("runs.js")
    _css = _read("widgets.css")

    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    chosen = traitlets.List(traitlets.Unicode()).tag(sync=True)
    opened = traitlets.Unicode("").tag(sync=True)
    what = traitlets.Enum(RUN_PICTURES, RUN_PICTURES[0]).tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)

    def show(self, histories: dict[str, History], words: dict[str, str], n_steps: int) -> None:
        """Show a picture of each, with words below its name; lines end at ``n_steps``."""
        plots = {name: self._draw(copy(history)) for name, history in histories.items()}
        highest = max(
            (max(plot["y"], default=0) for plot in plots.values() if "y" in plot), default=0
        )
        top = 1.05 * highest if self.what == "loss" and highest else 1.05
        for name, plot in plots.items():
            plot["words"] = words[name]
        self.shown = {"plots": plots, "end": max(n_steps, 1), "top": top}

    def _draw(self, history: History) -> dict[str, Any]:
        if self.what == "probabilities":
            numbers = np.nan_to_num(compute_matrix(history)).round(2).tolist()
            return {"numbers": numbers, "tasks": history.task_names}
        rows = decimate(len(history), 200)
        y = compute_entropy(history.probabilities[rows])
        if self.what == "loss":
            y = running_mean(history.task_losses, rows=rows).mean(1)
        is_known = np.isfinite(y)
        x = history.steps[rows][is_known]
        return {"x": x.tolist(), "y": y[is_known].astype(np.float64).round(4).tolist()}


class Status(anywidget.AnyWidget):
    """What the run does, in words, and whether the kernel is still heard.

    Args:
        value: The words.
        beat: Another number every few seconds: a view that misses it says so, because it would go
            on showing "running" after its kernel was restarted.
        still: Name of the still picture that stands in for the view where it is not alive.
        family: Model ids of all widgets of the view, for the browser to forget what is gone.
    """

    _esm = _module("status.js")
    _css = _read("widgets.css") + _read("dashboard.css")

    value = traitlets.Unicode("").tag(sync=True)
    beat = traitlets.Int(0).tag(sync=True)
    still = traitlets.Unicode("").tag(sync=True)
    family = traitlets.List(traitlets.Unicode()).tag(sync=True)
