"""Images with captions, and dense predictions beside the truth.

Pictures may be numpy arrays or tensors, as a `Split` or a network has them; torch is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dmtg_lite.core.tasks import Task, check_unique
from dmtg_lite.views.plots.style import GREY, Trace, apply_style, group_style, load_plotly, to_label

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Classes of Taskonomy's segmentation in the order of their numbers. The colours are those of the
# groups and the ones furthest from these and from each other; none come closer than 17 units of
# CIELAB, be they seen by an eye of three cones or by one that lacks the first or the second.
CLASS_COLOURS = {
    "uncertain": "#000000", "background": "#E6E6E6", "bottle": "#77BB66", "chair": "#0072B2",
    "couch": "#E69F00", "potted plant": "#009E73", "bed": "#CC79A7", "dining table": "#D55E00",
    "toilet": "#56B4E9", "tv": "#110099", "microwave": "#443355", "oven": "#443300",
    "toaster": "#553333", "sink": "#0000FF", "refrigerator": "#7766FF", "book": "#F0E442",
    "clock": "#EEFFAA", "vase": "#000044",
}  # fmt: skip
MAX_SIDE = 128  # pixels: larger pictures are thinned out, or a page would weigh tens of MB
GAP, WIDE_GAP = 0.03, 0.12  # between two pictures and two tasks, in widths of a picture
HEAD, FOOT = 46, 40  # pixels above and below


def plot_images(images: np.ndarray, captions: Sequence[str], *, columns: int = 6) -> go.Figure:
    """Pictures in a grid, each with its caption above, e.g. the tasks whose answer is yes.

    Args:
        images: uint8, shape (n, 3, H, W), or (n, 1, H, W) in grey; a tensor will do.
        captions: n texts; a line break starts a new line.
        columns: Pictures per row.

    Raises:
        ValueError: If the images are of another form, or there is not one caption each.
    """
    images = _check_images(images)
    if len(captions) != len(images):
        raise ValueError(
            f"`captions` must hold one text per image: {len(captions)} for {len(images)} images."
        )
    columns = min(columns, len(images))
    n_rows = -(-len(images) // columns)
    space = 18 * (max(text.count("\n") for text in captions) + 1) + 10  # pixels above each row
    height = n_rows * (150 + space) + 10
    gaps = {"vertical_spacing": min(space / height, 0.99 / max(n_rows - 1, 1))}
    titles = [to_label(text).replace("\n", "<br>") for text in captions]
    gaps |= {"horizontal_spacing": 0.01, "subplot_titles": titles}
    fig = load_plotly().subplots.make_subplots(rows=n_rows, cols=columns, **gaps)
    for n, picture in enumerate(images):
        fig.add_trace(_image_trace(picture), n // columns + 1, n % columns + 1)
    apply_style(fig, height=height).update_annotations(font_size=12)
    fig.update_layout(margin={"l": 0, "r": 0, "t": space, "b": 10}, dragmode=False)
    return fig.update_xaxes(visible=False).update_yaxes(visible=False)


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
        images: As in `plot_images`; a few, as a page holds them all.
        truths: ``{task name: targets}`` of those images, as in ``split.targets``.
        predictions: ``{task name: predictions}``, as a network gives them: (n, n_outputs, H, W), in
            the target's unit, or logits of classes.
        tasks: Dense tasks to show, in this order.
        groups: Task names by group: marks each task with its group's colour.

    Raises:
        ValueError: If a task is not dense, has more than 18 classes, or misses a picture.
    """
    images, tasks = _check_images(images), check_unique(tasks)
    columns = [[_image_trace(_thin(picture)) for picture in images]]
    seen: set[int] = set()  # classes
    for task in tasks:
        named = (("truths", truths), ("predictions", predictions))
        truth, guess = (_thin(_check(task, pictures, n, len(images))) for n, pictures in named)
        columns += _task_traces(task, truth, guess)
        if task.loss == "cross_entropy":
            seen |= {int(k) for k in np.unique(np.stack([truth, guess])) if k >= 0}
    return _lay_out(columns, _titles(tasks, groups or ()), sorted(seen))


def _check_images(images: Any) -> np.ndarray:
    """(n, 3, H, W); what is grey gets the same three times."""
    images = _to_numpy(images)
    is_picture = images.dtype == np.uint8 and images.ndim == 4 and len(images) > 0
    if not is_picture or images.shape[1] not in (1, 3):
        hint = ": choose three channels, images[:, :3]" if is_picture else ""
        raise ValueError(
            "`images` must be uint8 (n, 3, H, W), or (n, 1, H, W) in grey, got "
            f"{images.dtype} of shape {images.shape}{hint}."
        )
    return images.repeat(3 // images.shape[1], axis=1)


def _to_numpy(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor: numpy knows neither gradients nor bfloat16
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def _check(task: Task, pictures: Mapping[str, Any], what: str, n_images: int) -> np.ndarray:
    """A task's pictures: (n, H, W) classes or (n, C, H, W) numbers; NaN where there is no label."""
    is_class = task.loss == "cross_entropy"
    if not task.is_dense:
        raise ValueError(f"task {task.name!r} is not dense: it predicts no picture.")
    if is_class and task.n_outputs > len(CLASS_COLOURS):
        raise ValueError(
            f"task {task.name!r} has {task.n_outputs} classes; there are colours for "
            f"{len(CLASS_COLOURS)}."
        )
    if task.name not in pictures:
        raise ValueError(f"`{what}` has no task {task.name!r}; it has {list(pictures)}.")
    values = _to_numpy(pictures[task.name])
    if is_class and values.ndim == 4:
        values = values.argmax(1)  # logits
    wanted = (n_images,) if is_class else (n_images, task.n_outputs)
    if values.ndim != len(wanted) + 2 or values.shape[:-2] != wanted:
        raise ValueError(
            f"`{what}` of task {task.name!r} must be {n_images} pictures of {task.n_outputs} "
            f"outputs, got shape {values.shape}."
        )
    numbers = values.astype(np.float32)
    if is_class:
        return np.where(values < 0, np.nan, numbers)
    if values.dtype == np.int8:  # unit vectors as a split keeps them
        return np.where(values == -128, np.nan, numbers / 127)
    return numbers


def _thin(pictures: np.ndarray) -> np.ndarray:
    """Pixels of (..., H, W) at even distances, so that no side is longer than `MAX_SIDE`."""
    step = -(-max(pictures.shape[-2:]) // MAX_SIDE)
    return pictures[..., ::step, ::step]


def _image_trace(picture: np.ndarray) -> Trace:
    """A PNG of uint8 (3, H, W)."""
    load_plotly()
    from plotly.express import imshow  # its encoder makes a PNG, with or without Pillow

    pixels = np.ascontiguousarray(picture.transpose(1, 2, 0))
    png = imshow(pixels, binary_string=True, binary_compression_level=9).data[0]["source"]
    return {"type": "image", "hoverinfo": "skip", "source": png}


def _task_traces(task: Task, truth: np.ndarray, guess: np.ndarray) -> list[list[Trace]]:
    """n traces of the truth, and n of the prediction."""
    if task.loss == "cross_entropy":
        return [[_class_trace(classes) for classes in pictures] for pictures in (truth, guess)]
    if task.n_outputs == 3:
        both = (_normal_colours(truth), _normal_colours(guess))
        return [[_image_trace(picture) for picture in pictures] for pictures in both]
    limits = [_range(*pair, task) for pair in zip(truth, guess, strict=True)]
    return [
        [_number_trace(numbers[0], task, *at) for numbers, at in zip(pictures, limits, strict=True)]
        for pictures in (truth, guess)
    ]


def _class_trace(classes: np.ndarray) -> Trace:
    names, colours = list(CLASS_COLOURS), list(CLASS_COLOURS.values())
    edges = np.repeat(np.arange(len(colours) + 1) / len(colours), 2)[1:-1]  # 0, 1/18, 1/18, ..., 1
    scale = [[float(edge), colours[i // 2]] for i, edge in enumerate(edges)]
    text = [["" if np.isnan(k) else names[int(k)] for k in row] for row in classes]
    limits = (-0.5, len(colours) - 0.5)
    return _heat(classes, *limits, scale, "%{text}") | {"text": text}


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


def _number_trace(numbers: np.ndarray, task: Task, low: float, high: float) -> Trace:
    scale, digits = ("Viridis", 2) if task.metric == "rmse" else ("gray", 4)
    return _heat(numbers, low, high, scale, f"%{{z:.{digits}f}}")


def _heat(z: np.ndarray, low: float, high: float, scale: Any, hover: str) -> Trace:
    look = {"colorscale": scale, "showscale": False, "hovertemplate": hover + "<extra></extra>"}
    return {"type": "heatmap", "z": z, "zmin": low, "zmax": high, **look}


def _titles(tasks: Sequence[Task], groups: Sequence[Sequence[str]]) -> list[str]:
    """Names, each after a spot in its group's colour and the number, where there are groups."""
    mark = {
        name: f'<span style="color:{group_style(k)[0]}">&#11044;</span> {k} '
        for k, group in enumerate(groups)
        for name in group
    }
    return [mark.get(task.name, "") + to_label(task.name) for task in tasks]


def _lay_out(columns: list[list[Trace]], titles: list[str], seen: list[int]) -> go.Figure:
    """Every trace on axes of its own: truth and prediction stand close, pixels are square."""
    n_rows, n_tasks = len(columns[0]), len(titles)
    width = 1 + (2 + WIDE_GAP + 3 * GAP) * n_tasks  # in pictures
    side = min(230.0, 1100 / width)  # pixels of a picture, on a page of 1100
    height = n_rows * side * (1 + GAP)
    fig: Any = load_plotly().subplots.make_subplots(
        rows=n_rows,
        cols=1 + 3 * n_tasks,  # the image, then for every task a gap, the truth and the prediction
        specs=[[{}, *[None, {}, {}] * n_tasks] for _ in range(n_rows)],
        subplot_titles=["", *["truth", "predicted"] * n_tasks],
        column_widths=[1, *[WIDE_GAP, 1, 1] * n_tasks],
        horizontal_spacing=GAP / width,
        vertical_spacing=GAP * side / height,
    )
    for n, traces in enumerate(columns):
        for row, trace in enumerate(traces, 1):
            fig.add_trace(trace, row, n + 1 + (n + 1) // 2)
    fig.update_annotations(font_size=11, yshift=-2)
    square = {"visible": False, "constrain": "domain"}
    fig.update_xaxes(square, constraintoward="left")
    fig.update_yaxes(square, constraintoward="top", autorange="reversed")
    fig.for_each_yaxis(lambda axis: axis.update(scaleanchor=axis.anchor))
    at = {"y": 1, "xref": "paper", "yref": "paper", "yshift": 18, "font_size": 14}
    at["xanchor"] = "center"  # left to plotly, words lean towards the middle of the page
    for n, title in enumerate(titles):
        fig.update_xaxes(constraintoward="right", col=3 * n + 3)  # truths lean on predictions
        middle = fig.layout[f"xaxis{2 * n + 2}"].domain[1] + GAP / 2 / width
        fig.add_annotation(at, x=middle, text=title, yanchor="bottom", showarrow=False)
    for label, colour in (list(CLASS_COLOURS.items())[k] for k in seen):
        spot = {
            "color": colour,
            "size": 11,
            "symbol": "square",
            "line": {"width": 1, "color": GREY},
        }
        fig.add_scatter(x=[None], y=[None], mode="markers", name=label, marker=spot)
    apply_style(fig, height=round(height + HEAD + FOOT))
    legend = {"y": 0, "yanchor": "top", "font_size": 12, "itemclick": False}
    fig.update_layout(legend={**legend, "itemdoubleclick": False}, showlegend=bool(seen))
    margin = {"l": 0, "r": 0, "t": HEAD, "b": FOOT}
    return fig.update_layout(plot_bgcolor=GREY, dragmode=False, margin=margin)
