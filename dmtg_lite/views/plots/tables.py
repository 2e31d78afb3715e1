"""Bars of gains by method or task, which labels go together, and who is good company."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dmtg_lite.runs.metrics import correlate_labels
from dmtg_lite.views.plots.matrix import LOSS_COLOURS
from dmtg_lite.views.plots.style import (
    GREY,
    GROUP_COLOURS,
    Trace,
    make_figure,
    name_ticks,
    to_label,
    write_numbers,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MANY = 16  # tasks; beyond, the bars of several methods would be hairlines
DOWNWARDS = {"autorange": "reversed", "ticksuffix": "  "}
SYMBOLS = "circle diamond square triangle-up cross x star pentagon".split()


def plot_norm_gain(table: pd.DataFrame, *, value: str = "norm_gain_error") -> go.Figure:
    """Bars of NormGain per method: mean over the rows of a method, one dot per row, std as whisker.

    Args:
        table: One row per (method, seed), e.g. what `experiments.compare` returns.
        value: Column with NormGain in percent; greater than 0 is better than Naive MTL.
    """
    gains = _collect(table, ("method",), value)
    names = [to_label(method) for (method,) in gains]
    means = [float(np.mean(values)) for values in gains.values()]
    spreads = [_spread(values) for values in gains.values()]
    bars = {"type": "bar", "orientation": "h", "name": "mean ± std", "x": means, "y": names}
    bars |= {"error_x": {"array": spreads, "color": GREY}, "textfont": {"color": "white"}}
    bars |= {"text": [f"{mean:+.1f} %" for mean in means], "insidetextanchor": "start"}
    bars |= {"textposition": "inside", "marker": {"color": GROUP_COLOURS[0], "opacity": 0.75}}
    dots: Trace = {"type": "scatter", "mode": "markers", "name": "one run"}
    dots["marker"] = {"color": GROUP_COLOURS[1], "size": 8, "symbol": "diamond"}
    dots["x"] = [gain for values in gains.values() for gain in values]
    dots["y"] = np.repeat(names, [len(values) for values in gains.values()]).tolist()
    height, x_axis = max(260, 44 * len(means) + 120), {"title": "NormGain, percent (Naive MTL = 0)"}
    return make_figure([bars, dots], height=height, x=x_axis, y=DOWNWARDS)


def plot_task_gains(
    gains: pd.DataFrame | Mapping[str, Mapping[str, float]],
    *,
    value: str = "gain_error",
    title: str = "gain of every task over Naive MTL",
    is_sorted: bool = True,
) -> go.Figure:
    """Who gains and who pays: the terms of NormGain by task, as in Figure A2, by method.

    Bars, or dots where there are many tasks and several methods. Whiskers are the standard
    deviation over seeds, a dashed line is a method's NormGain: the mean over its tasks.

    Args:
        gains: What `experiments.tabulate_tasks` returns, or ``{method: {task: percent}}``. A method
            that is 0 everywhere is the reference, and not drawn.
        value: Column of the table: ``"gain_error"`` or ``"gain_loss"``.
        is_sorted: Who gains most, on average over the methods, is on top; else the order given.

    Raises:
        ValueError: If a column is missing, or there is no method but the reference.
    """
    if isinstance(gains, Mapping):
        runs = {(m, task): [gain] for m, row in gains.items() for task, gain in row.items()}
    else:
        runs = _collect(gains, ("method", "task"), value)
    moved = {method for (method, _), values in runs.items() if any(values)}
    runs = {key: values for key, values in runs.items() if key[0] in moved}
    if not runs:
        raise ValueError(
            "`gains` has no method with a gain: at least one besides the reference is needed."
        )
    means = {key: float(np.mean(values)) for key, values in runs.items()}
    methods, tasks = (list(dict.fromkeys(names)) for names in zip(*runs, strict=True))
    if is_sorted:
        of_task = {t: np.mean([means[m, t] for m in methods if (m, t) in means]) for t in tasks}
        tasks.sort(key=of_task.__getitem__, reverse=True)
    labels = [to_label(task) for task in tasks]
    are_bars = len(methods) == 1 or len(tasks) <= MANY
    row = max(12.5, min(11.0 * len(methods) + 15 if are_bars else 26.0, 500 / len(tasks)))  # pixels
    words = "percent; right of 0 is better than Naive MTL; dashed: mean over tasks"
    x_axis = {"title": {"text": words, "font": {"size": 13}}}
    y_axis = {"range": [len(tasks) - 0.5, -0.5], **name_ticks(row)}
    fig = make_figure([], title, height=row * len(tasks) + 120, x=x_axis, y=y_axis)
    for k, method in enumerate(methods):
        colour = GROUP_COLOURS[k % 8]
        mean = float(np.mean([means[key] for key in means if key[0] == method]))
        bar = {"type": "bar", "orientation": "h", "marker": {"color": colour, "opacity": 0.75}}
        marker = {"color": colour, "symbol": SYMBOLS[k % 8], "size": 8}
        dot = {"type": "scatter", "mode": "markers", "marker": marker}
        spreads = [_spread(runs.get((method, task), ())) for task in tasks]
        whisker = {"array": spreads, "thickness": 1.2, "width": 0}
        trace: Trace = dict(bar if are_bars else dot, name=f"{to_label(method)}: {mean:+.1f} %")
        trace |= {"y": labels, "x": [means.get((method, task)) for task in tasks]}
        trace["error_x"] = {**whisker, "color": GREY if are_bars else colour}
        trace["hovertemplate"] = f"%{{y}}: %{{x:+.1f}} %<extra>{to_label(method)}</extra>"
        fig.add_trace(trace)
        line = {"color": GREY if len(methods) == 1 else colour, "width": 2, "dash": "dash"}
        fig.add_vline(mean, line=line, layer="above" if are_bars else "below")
    fig.add_vline(0, line={"color": GREY, "width": 1}, layer="below")
    return fig.update_layout(showlegend=True, legend_traceorder="normal")


def _collect(
    table: pd.DataFrame, keys: tuple[str, ...], value: str
) -> dict[tuple[str, ...], list[float]]:
    """Finite numbers of a column by the texts in others: no gain without an error to compare to."""
    missing = [name for name in (*keys, value) if name not in table.columns]
    if missing:
        raise ValueError(f"the table has no column {missing}; it has {list(table.columns)}.")
    numbers: dict[tuple[str, ...], list[float]] = {}
    for *key, number in zip(*(table[name].tolist() for name in (*keys, value)), strict=True):
        if np.isfinite(number):
            numbers.setdefault(tuple(map(str, key)), []).append(number)
    return numbers


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def plot_label_correlation(targets: Mapping[str, np.ndarray]) -> go.Figure:
    """How linked the answers of tasks are, before any training: 1 the same, -1 opposite.

    Args:
        targets: ``{task: values of shape (n,)}``, e.g. ``data.train.targets``: class numbers, -1
            for no label, or floats, nan for none. A pair is compared where both have a label; it
            stays empty if one of them never changes there.
    """
    columns = [np.asarray(values) for values in targets.values()]
    numbers = [np.where((c.dtype.kind != "f") & (c < 0), np.nan, c) for c in columns]
    correlation = correlate_labels(np.stack(numbers))
    names = [to_label(name) for name in targets]
    heat = {"type": "heatmap", "z": np.round(correlation, 2), "x": names, "y": names}  # (N, N)
    heat |= {"zmin": -1, "zmax": 1, "colorscale": "RdBu", "colorbar": {"thickness": 12}}
    heat |= {"xgap": 2, "ygap": 2, "hovertemplate": "%{y}, %{x}: %{z:.2f}<extra></extra>"}
    heat["texttemplate"] = "%{z:.1f}" if len(names) <= 16 else ""
    height = max(320, 22 * len(names) + 200)
    return make_figure(write_numbers(heat), "correlation of the labels", height=height, y=DOWNWARDS)


def plot_affinity(
    matrix: np.ndarray, task_names: Sequence[str], *, title: str = "", is_loss: bool = False
) -> go.Figure:
    """What a search measured before it chose: the row's task beside, or helped by, the column's.

    Signed values have blue for help and red for harm, white is 0; others grow from 0. A task
    beside itself says nothing of company: it has its number, no colour and no say in the scale.

    Args:
        matrix: Shape (N, N).
        task_names: The N names, in row order.
        is_loss: Losses, as HOA measures them: pale is low, as in the live view, and the diagonal,
            a task alone, is a loss like the others.

    Raises:
        ValueError: If the matrix is not (N, N).
    """
    values = np.asarray(matrix, np.float64)
    names = [to_label(name) for name in task_names]
    if values.shape != (len(names), len(names)):
        raise ValueError(f"`matrix` must be ({len(names)}, {len(names)}), got {values.shape}.")
    is_company = np.ones_like(values, bool) if is_loss else ~np.eye(len(names), dtype=bool)
    known = values[is_company & np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if is_loss:
        look = {"zmin": low, "zmax": high, "colorscale": LOSS_COLOURS}
    elif low < 0:  # the same distance from white on both sides
        look = {"zmid": 0, "zmin": -max(-low, high), "zmax": max(-low, high), "colorscale": "RdBu"}
    else:
        look = {"zmin": 0, "zmax": max(high, 1e-6), "colorscale": "Cividis"}
    shown = np.where(is_company, values.round(4), np.nan).astype(object)
    shown[~(is_company & np.isfinite(values))] = None  # NaN does not travel to the browser
    heat = {"type": "heatmap", "x": names, "y": names, "z": shown, "texttemplate": "%{z:.2f}"}
    heat |= {"xgap": 2, "ygap": 2, "colorbar": {"thickness": 12}, **look}
    heat["zmax"] = max(heat["zmax"], heat["zmin"] + 1e-6)
    heat["hovertemplate"] = "%{y} with %{x}: %{z:.3f}<extra></extra>"
    alone = {"type": "scatter", "mode": "text", "x": names, "y": names, "hoverinfo": "skip"}
    alone["text"] = [f"{value:.2f}" for value in np.diag(values)]
    heat, *above = write_numbers(heat)
    traces = [heat, *above] if is_loss else [heat, alone, *above]
    x_axis = {"showgrid": False, "tickangle": -30}
    height = max(320, 34 * len(names) + 170)
    fig = make_figure(traces, title, height=height, x=x_axis, y=DOWNWARDS | {"showgrid": False})
    return fig.update_layout(showlegend=False)
