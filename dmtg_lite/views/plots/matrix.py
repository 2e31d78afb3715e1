"""The (N, K) pictures: assignment probabilities, mean weights, losses of heads, and one draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from dmtg_lite.runs.history import History, compute_mean_assignment
from dmtg_lite.views.plots.curves import WINDOW, check_records, decimate
from dmtg_lite.views.plots.style import (
    GREY,
    Trace,
    apply_style,
    load_plotly,
    make_figure,
    name_ticks,
    to_label,
    write_numbers,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

Matrix = Literal["probabilities", "E[Z]", "loss"]  # what an (N, K) picture of a run shows
MATRICES: tuple[Matrix, ...] = get_args(Matrix)
# Pale is the row's best, dark costs most: one hue, so that no eye takes it for a probability
LOSS_COLOURS = "#FFEFE0 #FDCFA5 #F8A566 #E0742E #B04A12 #7A2C08 #471500".split()
TEMPERATURE_TITLES = (
    "one draw Z", "mean weight E[Z] of 1000 draws", "softmax(S): who wins a draw",
)  # fmt: skip
# numbers fit above any column; "category" keeps plotly from reading them as a scale
GROUP_AXIS: Trace = {"type": "category", "showgrid": False}
GROUP_AXIS["title"] = {"text": "group", "standoff": 4, "font": {"size": 13}}


def plot_assignment(
    matrix: np.ndarray,
    task_names: Sequence[str],
    *,
    title: str = "assignment probabilities",
    closed: Sequence[int] = (),
) -> go.Figure:
    """Heat map of an (N, K) assignment: tasks are rows, groups are columns, colours from 0 to 1.

    Args:
        matrix: Shape (N, K): softmax(S), a draw Z or its mean E[Z].
        task_names: The N names, in row order.
        closed: Branches that have closed: hatched, where an empty group shows zeros.

    Raises:
        ValueError: If the number of names is not N.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or len(matrix) != len(task_names):
        raise ValueError(
            f"`matrix` must be (N, K) with one row per task name, got {matrix.shape} "
            f"for {len(task_names)} names."
        )
    return _plot(weight_traces(matrix, task_names, closed), title, closed)


def plot_history(
    history: History, *, index: int = -1, matrix: Matrix = "probabilities"
) -> go.Figure:
    """Heat map of one record of a run: who is in which group at that step, or at what loss.

    Args:
        history: A run with at least one record.
        index: Record number; -1 is the last.
        matrix: Softmax(S), the mean weight at the record's temperature, or the loss of each head
            (see `compute_matrix`): a task's best branch is pale and bold, its worst the darkest.
    """
    check_records(history)
    title = f"{matrix} at step {history.steps[index]}"
    return _plot(matrix_traces(history, index, matrix), title, history.closed_branches(index))


def compute_matrix(
    history: History, index: int = -1, matrix: Matrix = "probabilities"
) -> np.ndarray:
    """What a picture of one record shows, shape (N, K), float32.

    Before the first record, probabilities are 1/K. Losses are means over the last 20 records, as
    single batches are noisy, and NaN where there is no head any more.

    Raises:
        ValueError: If the recording holds no losses.
    """
    if matrix not in MATRICES:
        raise ValueError(f"`matrix` must be one of {MATRICES}, got {matrix!r}.")
    if matrix == "loss" and not history.has_loss_matrices:
        raise ValueError("this recording holds no losses: it was made before they were kept.")
    if not len(history):
        unknown = np.nan if matrix == "loss" else 1 / history.n_groups
        return np.full((history.n_tasks, history.n_groups), unknown, np.float32)
    if matrix == "loss":
        end = range(len(history))[index] + 1
        return _finite(history.loss_matrices[max(0, end - WINDOW) : end]).mean(0)
    p = history.probabilities[index]
    return (
        p
        if matrix == "probabilities"
        else compute_mean_assignment(p, float(history.tau[index]), n_draws=500)
    )


def find_changed(history: History, index: int = -1) -> list[int]:
    """Rows whose winner has changed within the last 20 records."""
    end = range(len(history))[index] + 1 if len(history) else 0
    winners = history.probabilities[max(0, end - WINDOW) : end].argmax(-1)  # (T', N)
    return np.flatnonzero((winners != winners[-1:]).any(0)).tolist()


def compute_movement(history: History, index: int = -1) -> np.ndarray:
    """How S has moved in the last 20 records, (N, K), as a share of the fastest of the run so far.

    Probabilities say S but for a number a row, so rows are centred, which changes nothing where S
    follows its gradient: that sums to 0 in each row. Under plain SGD this is the gradient,
    downhill, times its rate. 0 where there is no head.
    """
    moved = np.zeros((history.n_tasks, history.n_groups))
    if len(history) < 2:
        return moved
    ends = np.append(decimate(len(history)), range(len(history))[index])
    now = history.probabilities[ends].astype(np.float64)
    before = history.probabilities[(ends - WINDOW).clip(0)].astype(np.float64)
    there = (now > 0) & (before > 0)
    logs = np.log(np.where(there, now, 1)) - np.log(np.where(there, before, 1))  # (T', N, K)
    mean = logs.sum(-1, keepdims=True) / there.sum(-1, keepdims=True).clip(1)
    moved = np.where(there, logs - mean, 0)
    fastest = np.quantile(np.abs(moved).max((1, 2)), 0.95)
    return np.clip(moved[-1] / max(fastest, 1e-9), -1, 1)


def compute_loss_range(history: History) -> float:
    """How far above its row's best a loss gets (95 % quantile): the darkest shade.

    One number for all steps and tasks, because the S of every task moves by these differences.
    """
    losses = _finite(history.loss_matrices[decimate(len(history))])
    above = (losses - np.fmin.reduce(losses, axis=-1, keepdims=True)).ravel()
    above = above[~np.isnan(above)]
    return float(np.quantile(above, 0.95)) if len(above) else 0.0


def _finite(losses: np.ndarray) -> np.ndarray:
    """From float16, where a loss out of range is infinite; nan stays."""
    return np.minimum(losses.astype(np.float32), np.finfo(np.float16).max)


def matrix_traces(history: History, index: int, matrix: Matrix) -> tuple[Trace, Trace]:
    """Heat map and hatching of one record, as traces."""
    values = compute_matrix(history, index, matrix)
    if matrix == "loss":
        return _loss_traces(values, history.task_names, compute_loss_range(history))
    return weight_traces(values, history.task_names, history.closed_branches(index))


def weight_traces(
    matrix: np.ndarray, task_names: Sequence[str], closed: Sequence[int] = ()
) -> tuple[Trace, Trace]:
    """Numbers from 0 to 1; a closed branch has no cells at all, but strokes."""
    is_closed = np.isin(np.arange(matrix.shape[1]), closed) & np.ones_like(matrix, bool)
    look = {"colorscale": "Cividis", "text": None}
    look["hovertemplate"] = "%{y}, group %{x}: %{z:.3f}<extra></extra>"
    z = np.round(matrix.astype(np.float64), 4)
    return _make_traces(z, is_closed, task_names, "%{z:.2f}", look)


def _loss_traces(
    losses: np.ndarray, task_names: Sequence[str], highest: float
) -> tuple[Trace, Trace]:
    """Shades from 0, the row's best, to 1; in the cells the losses themselves.

    A shade is the root of the difference: the small ones that decide early are seen, and the large
    ones of a settled run, when a branch forgets the tasks of others, do not hide them.
    """
    best = np.fmin.reduce(losses, axis=-1, keepdims=True)  # (N, 1)
    shade = np.sqrt(np.clip((losses - best) / max(highest, 1e-6), 0, 1)).round(3)
    text = [
        [f"<b>{loss:.2f}</b>" if loss == low else f"{loss:.2f}" for loss in row]
        for row, low in zip(losses, best, strict=True)
    ]
    look = {"colorscale": LOSS_COLOURS, "text": text}
    look["hovertemplate"] = "%{y}, group %{x}: loss %{text}<extra></extra>"
    return _make_traces(shade, np.isnan(losses), task_names, "%{text}", look)


def _make_traces(
    z: np.ndarray, gone: np.ndarray, task_names: Sequence[str], number: str, look: Trace
) -> tuple[Trace, Trace]:
    """A heat map on the scale from 0 to 1, and strokes where there is no head."""
    n_tasks, n_groups = z.shape
    groups, labels = [str(k) for k in range(n_groups)], [to_label(name) for name in task_names]
    if gone.any():  # None travels to the browser, NaN does not
        z = z.astype(object)
        z[gone] = None
    heat = {"type": "heatmap", "z": z, "x": groups, "y": labels, "zmin": 0, "zmax": 1, **look}
    heat |= {"xgap": 2, "ygap": 2, "showscale": False}
    heat["texttemplate"] = number if n_tasks <= 16 and n_groups <= 8 else ""  # if it fits a cell
    rows, columns = np.nonzero(gone) if not gone.all() else np.empty((2, 0), int)
    hatch = {"type": "scatter", "mode": "markers", "showlegend": False, "opacity": 0.6}
    hatch |= {"x": [groups[k] for k in columns], "y": [labels[n] for n in rows]}
    hatch["marker"] = {"symbol": "line-ne", "size": 10, "line": {"width": 1.5, "color": GREY}}
    hatch["hovertemplate"] = "%{y} has no head in branch %{x}<extra></extra>"
    return heat, hatch


def group_title(closed: Sequence[int]) -> str:
    return "group ( / : closed)" if len(closed) else "group"


def _plot(traces: tuple[Trace, Trace], title: str, closed: Sequence[int]) -> go.Figure:
    heat, hatch = traces
    n_tasks = len(heat["y"])
    row = max(12.5, min(22.0, 500 / max(n_tasks, 1)))  # pixels: forty rows still fit a screen
    y_axis = {"autorange": "reversed", "showgrid": False, **name_ticks(row)}
    is_loss = heat["text"] is not None
    bar = {"showscale": not is_loss, "colorbar": {"title": {"text": "weight"}, "thickness": 12}}
    heat, *above = write_numbers(heat | bar)
    shown = [heat, *([hatch] if hatch["x"] else []), *above]
    height = max(300.0, row * n_tasks + 120)
    fig = make_figure(shown, title, height=height, x=GROUP_AXIS, y=y_axis)
    return fig.update_xaxes(title_text=group_title(closed))


def compute_temperature_views(
    logits: ArrayLike, tau: float, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One draw Z at ``tau``, the mean weight E[Z] at ``tau``, and softmax(S): three (N, K).

    Raises:
        ValueError: If ``logits`` is not (N, K) or ``tau`` <= 0.
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2:
        raise ValueError(f"`logits` must have shape (N, K), got {logits.shape}.")
    if not tau > 0:
        raise ValueError(f"`tau` must be > 0, got {tau}.")

    def softmax(scores: np.ndarray) -> np.ndarray:
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)

    noise = np.random.default_rng(seed).gumbel(size=logits.shape)  # the same at every tau
    draw, probabilities = softmax((logits + noise) / tau), softmax(logits)
    mean = compute_mean_assignment(probabilities, tau)
    return draw.round(4), mean.round(4), probabilities.round(4)


def name_tasks(task_names: Sequence[str] | None, n_tasks: int) -> list[str]:
    """The names given, or "task 0" and so on."""
    names = [f"task {n}" for n in range(n_tasks)] if task_names is None else list(task_names)
    if len(names) != n_tasks:
        raise ValueError(f"`task_names` must hold {n_tasks} names, got {len(names)}.")
    return names


def plot_temperature(
    logits: ArrayLike, tau: float, *, task_names: Sequence[str] | None = None, seed: int = 0
) -> go.Figure:
    """One draw, the mean of many draws, and softmax(S), as three heat maps.

    Args:
        logits: S, shape (N, K).
        tau: Temperature, > 0.
        task_names: N names; "task 0" and so on by default.
        seed: Of the noise; the same seed gives the same noise at every tau.

    Raises:
        ValueError: If ``logits`` is not (N, K), ``tau`` <= 0 or the names are not N.
    """
    views = compute_temperature_views(logits, tau, seed=seed)
    names = name_tasks(task_names, len(views[0]))
    fig = load_plotly().subplots.make_subplots(
        rows=1,
        cols=3,
        subplot_titles=TEMPERATURE_TITLES,
        shared_yaxes=True,
        horizontal_spacing=0.04,
    )
    for column, view in enumerate(views, 1):
        for trace in write_numbers(weight_traces(view, names)[0]):
            fig.add_trace(trace, 1, column)
    apply_style(fig, height=max(230, 26 * len(names) + 110)).update_annotations(font_size=14)
    fig.update_yaxes(autorange="reversed", ticksuffix="  ", showgrid=False)
    return fig.update_xaxes(GROUP_AXIS)
