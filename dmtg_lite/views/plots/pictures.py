"""Pictures of dense predictions beside the truth, and of the gain of every task, as plotly figures.

Nothing here trains or reads disk. Pictures may be numpy arrays or tensors, as a `Split` or a
network has them; torch itself is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dmtg_lite.core.tasks import Task, check_unique
from dmtg_lite.views.plots import (
    GREY,
    GROUP_COLOURS,
    apply_style,
    group_style,
    load_plotly,
    name_ticks,
    to_label,
)

if TYPE_CHECKING:  # extras: loaded where a figure is made
    import pandas as pd
    import plotly.graph_objects as go

# Classes of Taskonomy's segmentation in the order of their numbers. The colours are those of the
# groups and the ones furthest from these and from each other; none come closer than 17 units of
# CIELAB, be they seen by an eye of three cones or by one that lacks the first or the second.
CLASS_COLOURS = {
    "uncertain": "#000000", "background": "#E6E6E6", "bottle": "#77BB66", "chair": "#0072B2",
    "couch": "#E69F00", "potted plant": "#009E73", "bed": "#CC79A7", "dining table": "#D55E00",
    "toilet": "#56B4E9", "tv": "#110099", "microwave": "#443355", "oven": "#443300", "toaster": "#553333",
    "sink": "#0000FF", "refrigerator": "#7766FF", "book": "#F0E442", "clock": "#EEFFAA", "vase": "#000044",
}  # fmt: skip
MAX_SIDE = 128  # pixels: larger pictures are thinned out, or a page would weigh tens of MB
MANY = 16  # tasks; beyond, the bars of several methods would be hairlines
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")


def plot_predictions(
    images: Any,
    truths: Mapping[str, Any],
    predictions: Mapping[str, Any],
    tasks: Sequence[Task],
    *,
    groups: Sequence[Sequence[str]] | None = None,
) -> go.Figure:
    """A row per image: the image, then for every task its truth beside what was predicted.

    Depth is coloured, over the truth's range in both pictures; a normal's three components are red,
    green and blue; classes have fixed colours, named by the legend and where the pointer is;
    keypoints and edges are grey. Grey stands for no label.

    Args:
        images: uint8, shape (n, 3, H, W); a few, as a page holds them all.
        truths: ``{task name: targets}`` of those images, as in ``split.targets``.
        predictions: ``{task name: predictions}``, as a network gives them: (n, n_outputs, H, W), in
            the target's unit, or logits of classes.
        tasks: Dense tasks to show, in this order.
        groups: Task names by group, e.g. ``result.groups``: marks each task with its group's
            colour.

    Raises:
        ValueError: If a task is not dense, has more than 18 classes, or misses a picture.
    """
    images, tasks = _to_numpy(images), check_unique(tasks)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(
            f"`images` must be uint8 (n, 3, H, W), got {images.dtype} of shape {images.shape}."
        )
    n_images = len(images)
    columns = [("", [_picture_traces(images)])]  # title and, per picture side by side, n traces
    seen: set[int] = set()
    for task in tasks:
        truth = _check(task, truths, "truths", n_images)
        guess = _check(task, predictions, "predictions", n_images)
        columns.append((task.name, _task_traces(task, truth, guess, seen)))
    return _lay_out(columns, n_images, _group_marks(groups), seen)


def _to_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor: numpy knows neither gradients nor bfloat16
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def _check(task: Task, pictures: Mapping[str, Any], what: str, n_images: int) -> np.ndarray:
    """A task's pictures, (n, H, W) of classes or (n, C, H, W) of numbers; NaN where there is no label."""
    if not task.is_dense:
        raise ValueError(f"task {task.name!r} is not dense: it predicts no picture.")
    if task.loss == "cross_entropy" and task.n_outputs > len(CLASS_COLOURS):
        raise ValueError(
            f"task {task.name!r} has {task.n_outputs} classes; there are colours for "
            f"{len(CLASS_COLOURS)}."
        )
    if task.name not in pictures:
        raise ValueError(f"`{what}` has no task {task.name!r}; it has {list(pictures)}.")
    values = _to_numpy(pictures[task.name])
    if task.loss == "cross_entropy" and values.ndim == 4:
        values = values.argmax(1)  # logits
    wanted = 3 if task.loss == "cross_entropy" else 4
    if (
        values.ndim != wanted
        or len(values) != n_images
        or (wanted == 4 and values.shape[1] != task.n_outputs)
    ):
        raise ValueError(
            f"`{what}` of task {task.name!r} must be {n_images} pictures of {task.n_outputs} "
            "outputs, "
            f"got shape {values.shape}."
        )
    numbers = values.astype(np.float32)
    if wanted == 3:
        return np.where(values < 0, np.nan, numbers)
    if values.dtype == np.int8:  # unit vectors as a split keeps them
        return np.where(values == -128, np.nan, numbers / 127)
    return numbers


def _thin(pictures: np.ndarray) -> np.ndarray:
    """Pixels of (..., H, W) at even distances, so that no side is longer than `MAX_SIDE`."""
    step = -(-max(pictures.shape[-2:]) // MAX_SIDE)
    return pictures[..., ::step, ::step]


def _picture_traces(pictures: np.ndarray) -> list[dict[str, Any]]:
    """PNGs of uint8 (n, 3, H, W)."""
    load_plotly()
    from plotly.express import imshow  # its encoder makes a PNG, with or without Pillow

    return [
        {
            "type": "image",
            "hoverinfo": "skip",
            "source": imshow(picture, binary_string=True, binary_compression_level=9)
            .data[0]
            .source,
        }
        for picture in np.ascontiguousarray(_thin(pictures).transpose(0, 2, 3, 1))
    ]


def _task_traces(
    task: Task, truth: np.ndarray, guess: np.ndarray, seen: set[int]
) -> list[list[dict[str, Any]]]:
    """n traces of the truth, and n of the prediction; adds the classes they show to ``seen``."""
    if task.loss == "cross_entropy":
        seen.update(int(k) for k in np.unique(np.stack([_thin(truth), _thin(guess)])) if k >= 0)
        return [
            [_class_trace(picture) for picture in _thin(pictures)] for pictures in (truth, guess)
        ]
    if task.n_outputs == 3:
        return [_picture_traces(_normal_colours(pictures)) for pictures in (truth, guess)]
    truth, guess = _thin(truth)[:, 0], _thin(guess)[:, 0]
    ranges = [_range(picture, other, task) for picture, other in zip(truth, guess, strict=True)]
    return [
        [
            _number_trace(picture, task, limits)
            for picture, limits in zip(pictures, ranges, strict=True)
        ]
        for pictures in (truth, guess)
    ]


def _class_trace(classes: np.ndarray) -> dict[str, Any]:
    names, colours = list(CLASS_COLOURS), list(CLASS_COLOURS.values())
    edges = np.repeat(np.arange(len(colours) + 1) / len(colours), 2)[1:-1]  # 0, 1/18, 1/18, ..., 1
    text = [["" if np.isnan(k) else names[int(k)] for k in row] for row in classes]
    return {
        "type": "heatmap", "z": classes, "zmin": -0.5, "zmax": len(colours) - 0.5, "text": text,
        "colorscale": [[float(edge), colours[i // 2]] for i, edge in enumerate(edges)],
        "showscale": False, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _normal_colours(normals: np.ndarray) -> np.ndarray:
    """uint8 (n, 3, H, W) as Taskonomy's files hold normals; grey where there is no label."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    colours = np.round(255 * (normals / np.maximum(length, 1e-6) + 1) / 2)
    return np.where(np.isnan(length), int(GREY[1:3], 16), colours).astype(np.uint8)


def _range(truth: np.ndarray, guess: np.ndarray, task: Task) -> tuple[float, float]:
    """Lowest and highest number with a colour of its own, of both pictures."""
    known = truth[~np.isnan(truth)] if not np.isnan(truth).all() else guess
    if task.metric == "rmse":
        return float(known.min()), float(max(known.max(), known.min() + 1e-6))
    return 0.0, float(max(np.quantile(known, 0.99), 1e-6))  # responses: few are large


def _number_trace(numbers: np.ndarray, task: Task, limits: tuple[float, float]) -> dict[str, Any]:
    is_depth = task.metric == "rmse"
    return {
        "type": "heatmap",
        "z": numbers,
        "zmin": limits[0],
        "zmax": limits[1],
        "showscale": False,
        "colorscale": "Viridis" if is_depth else [[0, "#000000"], [1, "#FFFFFF"]],
        "hovertemplate": f"%{{z:{'.2f' if is_depth else '.4f'}}}<extra></extra>",
    }


def _group_marks(groups: Sequence[Sequence[str]] | None) -> dict[str, str]:
    """A spot in the group's colour and the group's number, by task name."""
    return {
        name: f'<span style="color:{group_style(k)[0]}">&#11044;</span> {k}'
        for k, group in enumerate(groups or ())
        for name in group
    }


GAP, WIDE_GAP = 0.04, 0.16  # between two pictures and two tasks, in widths of a picture
HEAD, FOOT = 46, 40  # pixels above and below


def _lay_out(
    columns: list[tuple[str, list[list[dict[str, Any]]]]],
    n_rows: int,
    marks: dict[str, str],
    seen: set[int],
) -> go.Figure:
    """Every trace on axes of its own: truth and prediction stand close, pixels are square."""
    fig = load_plotly().graph_objects.Figure()
    width = sum(len(pair) * (1 + GAP) + WIDE_GAP for _, pair in columns)  # in pictures
    side = min(230.0, 1100 / width)  # pixels of a picture, on a page of 1100
    left, n = 0.0, 0
    for name, pair in columns:
        for i, traces in enumerate(pair):
            for row, trace in enumerate(traces):
                n += 1
                fig.add_trace({**trace, "xaxis": f"x{n}", "yaxis": f"y{n}"})
                square = {"visible": False, "constrain": "domain"}
                fig.layout[f"xaxis{n}"] = square | {
                    "domain": [(left + i * (1 + GAP)) / width, (left + i * (1 + GAP) + 1) / width],
                    "anchor": f"y{n}",
                    "constraintoward": "left" if i else "right",
                }
                fig.layout[f"yaxis{n}"] = square | {
                    "domain": [1 - (row + 1 / (1 + GAP)) / n_rows, 1 - row / n_rows],
                    "autorange": "reversed",
                    "anchor": f"x{n}",
                    "scaleanchor": f"x{n}",
                    "constraintoward": "top",
                }
                if name and not row:
                    _note(fig, f"x{n} domain", 0.5, ("truth", "predicted")[i], 11, 2)
        if name:
            title = f"{marks[name]} {to_label(name)}" if name in marks else to_label(name)
            _note(fig, "paper", (left + 1 + GAP / 2) / width, title, 14, 18)
        left += len(pair) * (1 + GAP) + WIDE_GAP
    for k in sorted(seen):
        label, colour = list(CLASS_COLOURS.items())[k]
        fig.add_scatter(
            x=[None], y=[None], mode="markers", name=label, showlegend=True,
            marker={"color": colour, "size": 11, "symbol": "square", "line": {"width": 1, "color": GREY}},
        )  # fmt: skip
    apply_style(fig, height=round(n_rows * side * (1 + GAP) + HEAD + FOOT))
    return fig.update_layout(
        plot_bgcolor=GREY, dragmode=False, margin={"l": 0, "r": 0, "t": HEAD, "b": FOOT},
        legend={"orientation": "h", "y": 0, "yanchor": "top", "x": 0, "font_size": 12, "itemclick": False,
                "itemdoubleclick": False},
        xaxis={"visible": False}, yaxis={"visible": False},  # of the legend's entries
    )  # fmt: skip


def _note(fig: go.Figure, xref: str, x: float, text: str, size: int, shift: int) -> None:
    fig.add_annotation(
        xref=xref, x=x, yref="paper", y=1, xanchor="center", yanchor="bottom", yshift=shift, text=text,
        showarrow=False, font_size=size,
    )  # fmt: skip


def plot_task_gains(
    gains: pd.DataFrame | Mapping[str, Mapping[str, float]],
    *,
    value: str = "gain_error",
    title: str = "gain of every task over Naive MTL",
    is_sorted: bool = True,
) -> go.Figure:
    """Who gains and who pays: the terms of NormGain by task, as in Figure A2, for one or several
    methods.

    Bars, or dots where there are many tasks and several methods. Whiskers are the standard
    deviation over seeds, a dashed line is a method's NormGain: the mean over its tasks.

    Args:
        gains: What `experiments.tabulate_tasks` returns, or ``{method: {task: percent}}``. A method
            that is 0 everywhere is the reference, and not drawn.
        value: Column of the table: ``"gain_error"`` or ``"gain_loss"``.
        title: Shown above.
        is_sorted: The task that gains most, on average over the methods, is on top; otherwise the
            order given.

    Raises:
        ValueError: If a column is missing, or there is no method but the reference.
    """
    means, spreads, tasks = _gains_by_method(gains, value)
    if is_sorted:
        overall = {
            task: np.nanmean([gain.get(task, np.nan) for gain in means.values()]) for task in tasks
        }
        tasks.sort(key=overall.__getitem__, reverse=True)
    fig, names = load_plotly().graph_objects.Figure(), [to_label(task) for task in tasks]
    are_bars = len(means) == 1 or len(tasks) <= MANY
    for k, (method, gain) in enumerate(means.items()):
        colour, mean = GROUP_COLOURS[k % 8], float(np.mean(list(gain.values())))
        spread = {
            "array": [spreads[method].get(task) for task in tasks],
            "thickness": 1.2,
            "width": 0,
        }
        bar = {"type": "bar", "orientation": "h", "marker": {"color": colour, "opacity": 0.75}}
        dot = {
            "type": "scatter",
            "mode": "markers",
            "marker": {"color": colour, "symbol": SYMBOLS[k % 8], "size": 8},
        }
        fig.add_trace(
            {
                **(bar if are_bars else dot),
                "y": names,
                "x": [gain.get(task) for task in tasks],
                "error_x": {**spread, "color": GREY if are_bars else colour},
                "name": f"{to_label(method)}: {mean:+.1f} %",
                "hovertemplate": f"%{{y}}: %{{x:+.1f}} %<extra>{to_label(method)}</extra>",
            }
        )
        line = {"color": GREY if len(means) == 1 else colour, "width": 2, "dash": "dash"}
        fig.add_vline(mean, line=line, layer="above" if are_bars else "below")
    fig.add_vline(0, line={"color": GREY, "width": 1}, layer="below")
    row = max(12.5, min(11.0 * len(means) + 15 if are_bars else 26.0, 500 / len(tasks)))  # pixels
    fig.update_yaxes(range=[len(tasks) - 0.5, -0.5], ticksuffix="  ", **name_ticks(row))
    fig.update_xaxes(
        title={"text": "percent; right of 0 is better than Naive MTL; dashed: mean over tasks"}
    )
    fig.update_xaxes(title_font_size=13)
    apply_style(fig, title, height=round(row * len(tasks) + 120))
    return fig.update_layout(showlegend=True, legend_traceorder="normal")


def _gains_by_method(
    gains: pd.DataFrame | Mapping[str, Mapping[str, float]], value: str
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]], list[str]]:
    """Mean and spread over the rows of a method and a task, and all tasks; without the reference."""
    if isinstance(gains, Mapping):
        cells = [
            (method, task, gain)
            for method, by_task in gains.items()
            for task, gain in by_task.items()
        ]
    else:
        missing = [name for name in ("method", "task", value) if name not in gains.columns]
        if missing:
            raise ValueError(f"`gains` has no column {missing}; it has {list(gains.columns)}.")
        cells = zip(gains["method"], gains["task"], gains[value], strict=True)
    values: dict[str, dict[str, list[float]]] = {}
    for method, task, gain in cells:
        if np.isfinite(gain):  # nan: no gain without an error of the reference
            values.setdefault(str(method), {}).setdefault(str(task), []).append(float(gain))
    values = {
        method: by_task for method, by_task in values.items() if any(map(any, by_task.values()))
    }
    if not values:
        raise ValueError(
            "`gains` has no method with a gain: at least one besides the reference is needed."
        )
    means = {
        method: {t: float(np.mean(v)) for t, v in by_task.items()}
        for method, by_task in values.items()
    }
    spreads = {
        method: {t: float(np.std(v, ddof=1)) for t, v in by_task.items() if len(v) > 1}
        for method, by_task in values.items()
    }
    return (
        means,
        spreads,
        list(dict.fromkeys(task for by_task in values.values() for task in by_task)),
    )
