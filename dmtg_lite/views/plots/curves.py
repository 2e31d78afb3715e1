"""Lines over the steps of a run: probabilities of a task, losses, entropy; closings mark them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dmtg_lite.runs.history import History, compute_entropy, compute_is_open
from dmtg_lite.views.plots.style import BESIDE, GREY, group_line, make_figure, to_label

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_POINTS = 400  # per line: beyond this a browser spends its time, not its pixels
WINDOW = 20  # records: a loss is shown as the mean of so many
_LEAP = 0.05  # of a probability, from record to record


def decimate(n_records: int, max_points: int = MAX_POINTS) -> np.ndarray:
    """At most ``max_points`` record numbers, evenly spaced, first and last included."""
    rows = np.linspace(0, max(n_records - 1, 0), min(n_records, max_points))
    return np.unique(rows.astype(np.int32))


def pace(history: History, n_frames: int) -> np.ndarray:
    """At most ``n_frames`` record numbers for a film: more of them where probabilities move.

    A third of the frames is spread evenly, the rest by how far rows move from record to record, so
    that a run that settles in its first sixth does not do so in a sixth of the time. A leap, as
    where a branch closes, is two frames, however far it goes. First and last are included.
    """
    n = len(history)
    if n <= n_frames:
        return decimate(n)
    moved = np.abs(np.diff(history.probabilities[:n], axis=0)).max((1, 2)).astype(np.float64)
    moved = moved.clip(max=_LEAP)
    clock = np.concatenate([[0], np.cumsum(moved / max(moved.sum(), 1e-12))])
    clock = (2 * clock + np.linspace(0, 1, n)) / 3  # of 0 to 1
    rows = np.interp(np.linspace(0, clock[-1], n_frames), clock, np.arange(n))
    return np.unique(rows.round().astype(np.int32))


def running_mean(
    values: np.ndarray, window: int = WINDOW, rows: np.ndarray | None = None
) -> np.ndarray:
    """Mean of the last ``window`` values (of fewer at the start) along axis 0, shape kept.

    With ``rows`` at those records alone, at a cost that does not grow with their number.
    """
    rows = np.arange(len(values)) if rows is None else rows
    back = rows[:, None] - np.arange(window)  # (T', window): negative before the first record
    known = (back >= 0).reshape(*back.shape, *[1] * (values.ndim - 1))
    seen = np.where(known, values[back.clip(0)], 0).sum(1, dtype=np.float64)
    return (seen / known.sum(1)).astype(np.float32)


def plot_probabilities(history: History, task: str) -> go.Figure:
    """How one task makes up its mind: its probability of each group over time, K lines.

    The line of a spare branch ends where the branch closes.
    """
    closed = {c["branch"]: f", closed at {c['step']}" for c in history.closings}
    lines = probability_lines(history, task)
    names = [{"name": f"group {k}{closed.get(k, '')}"} for k in range(history.n_groups)]
    fig = _plot_lines(
        history,
        [line | name for line, name in zip(lines, names, strict=True)],
        f"probabilities of {to_label(task)}",
        {"range": [0, 1.02], "title": "probability"},
        360,
    )
    return fig.update_layout(legend=BESIDE) if history.n_groups > 6 or closed else fig


def plot_task_losses(history: History, *, window: int = WINDOW) -> go.Figure:
    """Training loss of every task over time (running mean), coloured by the task's last group.

    Dotted: the loss on the validation split, where the run looked at it.
    """
    check_records(history)
    rows = decimate(len(history))
    smooth = running_mean(history.task_losses, window, rows)  # (T', N)
    group_of = history.probabilities[-1].argmax(-1).tolist()  # (N,)
    lines = [
        _line(history.steps[rows], values, group_line(k, 1.5), name=f"{to_label(name)} ({k})")
        for name, values, k in zip(history.task_names, smooth.T, group_of, strict=True)
    ]
    title = f"task losses, mean of {window} records; in brackets the group"
    if len(history.validation_steps):
        lines += [
            validation_lines(history, name)[0]
            | {"line": {**group_line(k, 1.5), "dash": "dot"}, "showlegend": False}
            for name, k in zip(history.task_names, group_of, strict=True)
        ]
        title += "; dotted: validation"
    fig = _plot_lines(history, lines, title, {"rangemode": "tozero", "title": "loss"}, 420)
    return fig.update_layout(legend=BESIDE)


def plot_entropy(history: History) -> go.Figure:
    """How undecided the tasks are: 1 is uniform over all branches, 0 is one group each.

    The unit stays the log of all branches when spare ones close; a dotted line shows the most that
    the open ones allow, so that a fall by closing is not taken for a decision.
    """
    entropy, most = entropy_lines(history)
    lines = [entropy, most] if history.closings else [entropy]
    y_axis = {"range": [0, 1.05], "title": "mean entropy / log K"}
    return _plot_lines(history, lines, "entropy of the assignment", y_axis, 320)


def probability_lines(history: History, task: str) -> list[dict[str, Any]]:
    """K traces of one task: no line where the branch is closed."""
    row, rows = find_task(history, task), decimate(len(history))
    p = history.probabilities[rows]
    of_task = np.where(compute_is_open(p), p[:, row], np.nan)  # (T', K)
    return [
        _line(history.steps[rows], of_task[:, k], group_line(k), name=str(k))
        for k in range(history.n_groups)
    ]


def loss_lines(history: History, task: str) -> list[dict[str, Any]]:
    """Two traces: the mean loss of all tasks (thick) and the loss of one (thin)."""
    row, rows = find_task(history, task), decimate(len(history))
    smooth = running_mean(history.task_losses, rows=rows)  # (T', N)
    return [
        _line(history.steps[rows], values, {"color": GREY, "width": width})
        for values, width in ((smooth.mean(1), 3.5), (smooth[:, row], 1.2))
    ]


def validation_lines(history: History, task: str) -> list[dict[str, Any]]:
    """Two traces of a task, loss and error on the validation split; empty where it was not seen."""
    row, seen = find_task(history, task), history.validation_steps
    rows = decimate(len(seen))
    dotted = {"color": GREY, "width": 2.5, "dash": "dot"}
    return [
        _line(seen[rows], values[rows, row], dotted, name=f"validation {what}")
        for what, values in (
            ("loss", history.validation_losses),
            ("error", history.validation_errors),
        )
    ]


def entropy_lines(history: History) -> list[dict[str, Any]]:
    """Two traces: the mean entropy of the rows and the most it can be, in units of log K."""
    rows = decimate(len(history))
    p, steps = history.probabilities[rows], history.steps[rows]
    most = np.log(compute_is_open(p).sum(-1).clip(1)) / max(np.log(history.n_groups), 1e-12)
    ceiling = {"color": GREY, "dash": "dot", "width": 1.5, "shape": "hv"}
    return [
        _line(steps, compute_entropy(p), {"color": GREY, "width": 2.5}, showlegend=False),
        _line(steps, most, ceiling, name="the most that open branches allow"),
    ]


def find_task(history: History, task: str) -> int:
    if task not in history.task_names:
        raise ValueError(f"unknown `task` {task!r}; this run has {history.task_names}.")
    return history.task_names.index(task)


def check_records(history: History) -> None:
    if not len(history):
        raise ValueError("`history` has no records yet; train at least one step first.")


def _line(
    steps: np.ndarray, values: np.ndarray, line: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """One trace; float32 travels to a browser as it lies in memory."""
    x, y = steps.astype(np.float32), values.astype(np.float32)
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, **more}


def _plot_lines(
    history: History, lines: list[dict[str, Any]], title: str, y_axis: dict[str, Any], height: int
) -> go.Figure:
    """Lines over steps, with a thin one and the branch's number on top at every closing."""
    title += "; dotted: a branch closes" if history.closings else ""
    fig = make_figure(lines, title, height=height, x={"title": "step"}, y=y_axis)
    for closing in history.closings:
        text, at = str(closing["branch"]), {"xanchor": "center", "yanchor": "bottom", "y": 1}
        dotted = {"color": GREY, "width": 1, "dash": "dot"}
        fig.add_vline(closing["step"], line=dotted, annotation={"text": text, "font_size": 11} | at)
    return fig
