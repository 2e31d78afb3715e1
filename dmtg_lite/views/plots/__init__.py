"""Pictures of a run or of a results table, as plotly figures that also print to PDF.

Nothing here trains or reads disk. Every widget of `dmtg_lite.views.widgets` has its static twin
here; `make_dashboard` and `update_dashboard` serve the live figure and the still one alike.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dmtg_lite.runs.history import (
    History,
    compute_entropy,
    compute_is_open,
    compute_mean_assignment,
)
from dmtg_lite.runs.metrics import correlate_labels

if TYPE_CHECKING:  # plotly is an extra: loaded where a figure is made
    import pandas as pd
    import plotly.graph_objects as go

# Okabe-Ito in an order that keeps neighbours apart; grey for black and yellow last, because the
# figures must be readable on a white and on a dark page. Dashes and labels repeat what colour says.
GROUP_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#767676",
    "#F0E442",
)
GROUP_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "6px,2px", "2px,6px")
GREY = "#767676"  # readable on white and on black
MAX_POINTS = 400  # per line: beyond this a browser spends its time, not its pixels
WEIGHTS = ("softmax(S)", "E[Z]")


def load_plotly() -> Any:
    try:
        import plotly.graph_objects
        import plotly.subplots
    except ImportError as error:
        raise ImportError('plots need plotly: pip install "dmtg-lite[notebook]"') from error
    return plotly


def to_label(name: str) -> str:
    """A task name as plotly shows it: plotly reads a little HTML in every label."""
    return html.escape(str(name), quote=False)


def decimate(n_records: int, max_points: int = MAX_POINTS) -> np.ndarray:
    """At most ``max_points`` record numbers, evenly spaced, first and last included."""
    return np.unique(
        np.linspace(0, max(n_records - 1, 0), min(n_records, max_points)).astype(np.int32)
    )


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last ``window`` values (of fewer at the start), shape kept, along axis 0."""
    total = np.cumsum(np.asarray(values, np.float64), axis=0)
    total[window:] = total[window:] - total[:-window]
    count = np.minimum(np.arange(1, len(total) + 1), window).reshape(-1, *[1] * (total.ndim - 1))
    return (total / count).astype(np.float32)


def apply_style(fig: go.Figure, title: str = "", height: int | None = None) -> go.Figure:
    fig.update_layout(
        title={"text": title, "font_size": 15},
        height=height,
        font={"color": GREY, "size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        uirevision="kept",
        margin={"l": 10, "r": 10, "t": 60 if title else 30, "b": 10},
        legend=ABOVE,
    )
    grid = "rgba(118,118,118,.25)"
    fig.update_xaxes(gridcolor=grid, zeroline=False, automargin=True, linecolor=grid)
    fig.update_yaxes(gridcolor=grid, zeroline=False, automargin=True, linecolor=grid)
    return fig


def group_style(group: int) -> tuple[str, str]:
    """Colour and dash of a group, the same in every picture of it; 64 groups in all have different pairs."""
    return GROUP_COLOURS[group % 8], GROUP_DASHES[(group + 5 * (group // 8)) % 8]


ABOVE = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}  # where a legend goes
BESIDE = {"orientation": "v", "y": 1.0, "yanchor": "top", "x": 1.02}


def _line(group: int, **more: Any) -> dict[str, Any]:
    colour, dash = group_style(group)
    return {"color": colour, "dash": dash, "width": 2.5, **more}


def _heat(
    matrix: np.ndarray, task_names: Sequence[str], closed: Sequence[int] = ()
) -> dict[str, Any]:
    """z, x, y of a heat map whose first row is on top; a closed branch has no cells at all."""
    n_tasks, n_groups = matrix.shape
    z = np.round(matrix.astype(np.float64), 4)
    if len(closed):
        z = z.astype(object)  # None travels to the browser, NaN does not
        z[:, closed] = None
    return {
        "z": z,
        "x": [str(k) for k in range(n_groups)],
        "y": [to_label(name) for name in task_names],
        # smaller cells cannot hold numbers
        "texttemplate": "%{z:.2f}" if n_tasks <= 16 and n_groups <= 8 else "",
    }


def name_ticks(row: float) -> dict[str, Any]:
    """Every task's name, in letters that fit a row of so many pixels."""
    return {"dtick": 1, "tickfont": {"size": min(13.0, 0.86 * row)}}


def _hatch(closed: Sequence[int], task_names: Sequence[str]) -> dict[str, Any]:
    """Strokes through the column of a closed branch: no colour of the scale, so no weight."""
    columns, rows = np.meshgrid(np.asarray(closed, int), np.arange(len(task_names)))
    return {
        "x": [str(k) for k in columns.ravel()],
        "y": [to_label(task_names[n]) for n in rows.ravel()],
    }


HATCH = {
    "type": "scatter",
    "mode": "markers",
    "showlegend": False,
    "opacity": 0.6,
    "marker": {"symbol": "line-ne", "size": 10, "line": {"width": 1.5, "color": GREY}},
    "hovertemplate": "branch %{x} is closed<extra></extra>",
}


def _group_title(closed: Sequence[int]) -> str:
    return "group ( / : closed)" if len(closed) else "group"


def _mark_closings(fig: go.Figure, history: History) -> None:
    """A thin line through a picture over time at every closing, with the branch's number on top."""
    for closing in history.closings:
        number = {
            "text": str(closing["branch"]),
            "font_size": 11,
            "xanchor": "center",
            "yanchor": "bottom",
            "y": 1,
        }
        fig.add_vline(
            closing["step"], line={"color": GREY, "width": 1, "dash": "dot"}, annotation=number
        )


def _closings_title(history: History) -> str:
    return "; dotted: a branch closes" if history.closings else ""


HEATMAP = {
    "type": "heatmap", "colorscale": "Cividis", "zmin": 0, "zmax": 1, "xgap": 2, "ygap": 2,
    "hovertemplate": "%{y}, group %{x}: %{z:.3f}<extra></extra>",
}  # fmt: skip


# numbers, not words: they fit above any column; "category" keeps plotly from reading them as a
# scale
GROUP_AXIS = {"type": "category", "title": {"text": "group", "standoff": 4, "font": {"size": 13}}}


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
        title: Shown above.
        closed: Numbers of the branches that have closed: hatched, where an empty group shows zeros.

    Raises:
        ValueError: If the number of names is not N.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or len(matrix) != len(task_names):
        raise ValueError(
            f"`matrix` must be (N, K) with one row per task name, got {matrix.shape} "
            f"for {len(task_names)} names."
        )
    go = load_plotly().graph_objects
    bar = {"title": {"text": "weight"}, "thickness": 12}
    fig = go.Figure({**HEATMAP, **_heat(matrix, task_names, closed), "colorbar": bar})
    if len(closed):
        fig.add_trace({**HATCH, **_hatch(closed, task_names)})
    row = max(
        12.5, min(22.0, 500 / max(len(task_names), 1))
    )  # pixels: forty rows still fit a screen
    fig.update_yaxes(autorange="reversed", ticksuffix="  ", **name_ticks(row))
    fig.update_xaxes(**GROUP_AXIS).update_xaxes(title_text=_group_title(closed))
    apply_style(fig, title, height=max(300, row * len(task_names) + 120))
    return fig.update_yaxes(showgrid=False).update_xaxes(showgrid=False)


def _check_records(history: History) -> None:
    if not len(history):
        raise ValueError("`history` has no records yet; train at least one step first.")


def plot_history(history: History, *, index: int = -1, weights: str = "softmax(S)") -> go.Figure:
    """Heat map of one record of a run: who is in which group at that step.

    Args:
        history: A run with at least one record.
        index: Record number; -1 is the last.
        weights: ``"softmax(S)"`` or ``"E[Z]"``, the mean weight at the record's temperature.
    """
    _check_records(history)
    matrix = compute_weights(history, index, weights)
    return plot_assignment(
        matrix,
        history.task_names,
        title=f"{weights} at step {history.steps[index]}",
        closed=history.closed_branches(index),
    )


def compute_weights(history: History, index: int = -1, weights: str = "softmax(S)") -> np.ndarray:
    """softmax(S) or E[Z] of one record, shape (N, K); 1/K everywhere before the first record."""
    if weights not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {WEIGHTS}, got {weights!r}.")
    if not len(history):
        return np.full((history.n_tasks, history.n_groups), 1 / history.n_groups, np.float32)
    probabilities = history.probabilities[index]
    if weights == "softmax(S)":
        return probabilities
    return compute_mean_assignment(probabilities, float(history.tau[index]), n_draws=500)


def plot_probabilities(history: History, task: str) -> go.Figure:
    """How one task makes up its mind: its probability of each group over time, K lines.

    The line of a spare branch ends where the branch closes.
    """
    row, rows = _row_of(history, task), decimate(len(history))
    go = load_plotly().graph_objects
    fig = go.Figure()
    closed_at = {closing["branch"]: closing["step"] for closing in history.closings}
    lines = _probability_lines(history.probabilities[rows], row)
    for k, line in enumerate(lines):
        fig.add_scatter(
            x=history.steps[rows],
            y=line,
            mode="lines",
            line=_line(k),
            name=f"group {k}" + (f", closed at {closed_at[k]}" if k in closed_at else ""),
        )
    fig.update_yaxes(range=[0, 1.02], title="probability")
    fig.update_xaxes(title="step")
    _mark_closings(fig, history)
    apply_style(fig, f"probabilities of {to_label(task)}{_closings_title(history)}", height=360)
    return fig.update_layout(legend=BESIDE) if history.n_groups > 6 or history.closings else fig


def _probability_lines(probabilities: np.ndarray, row: int) -> np.ndarray:
    """(K, T) of one task, from (T, N, K): NaN, which draws no line, where the branch is closed."""
    return np.where(
        compute_is_open(probabilities), probabilities[:, row], np.float32(np.nan)
    ).T.copy()


def plot_task_losses(history: History, *, window: int = 20) -> go.Figure:
    """Training loss of every task over time (running mean), coloured by the task's last group."""
    _check_records(history)
    rows, go = decimate(len(history)), load_plotly().graph_objects
    smooth = running_mean(history.task_losses, window)[rows]  # (T', N)
    group_of = history.probabilities[-1].argmax(-1)  # (N,)
    fig = go.Figure()
    for n, name in enumerate(history.task_names):
        k = int(group_of[n])
        fig.add_scatter(
            x=history.steps[rows],
            y=smooth[:, n],
            mode="lines",
            line=_line(k, width=1.5),
            name=f"{to_label(name)} ({k})",
        )
    fig.update_yaxes(rangemode="tozero", title="loss")
    fig.update_xaxes(title="step")
    _mark_closings(fig, history)
    title = (
        f"task losses, mean of {window} records; in brackets the group{_closings_title(history)}"
    )
    apply_style(fig, title, height=420)
    return fig.update_layout(legend=BESIDE)


def plot_entropy(history: History) -> go.Figure:
    """How undecided the tasks are: 1 is uniform over all branches, 0 is one group each.

    The unit stays the log of all branches when spare ones close; a dotted line shows the most that
    the open ones allow, so that a fall by closing is not taken for a decision.
    """
    rows, go = decimate(len(history)), load_plotly().graph_objects
    entropy, most = _entropy_lines(history.probabilities[rows])
    steps = history.steps[rows]
    fig = go.Figure(
        go.Scatter(x=steps, y=entropy, mode="lines", line=_line(6, dash="solid"), showlegend=False)
    )
    if history.closings:
        fig.add_scatter(
            x=steps, y=most, mode="lines", line=CEILING, name="the most that open branches allow"
        )
    fig.update_yaxes(range=[0, 1.05], title="mean entropy / log K")
    fig.update_xaxes(title="step")
    _mark_closings(fig, history)
    return apply_style(fig, "entropy of the assignment", height=320)


CEILING = {"color": GREY, "dash": "dot", "width": 1.5, "shape": "hv"}


def _entropy_lines(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entropy and the most it can be, both (T,) and in units of log K, from (T, N, K)."""
    n_open = compute_is_open(probabilities).sum(-1).clip(1)
    most = np.log(n_open) / max(np.log(probabilities.shape[-1]), 1e-12)
    return compute_entropy(probabilities).astype(np.float32), most.astype(np.float32)


def plot_closing_costs(history: History) -> go.Figure:
    """What closing one branch more costs: cheap while spare ones are left, dear below the number of
    groups.

    Bars in a branch's colour are closings of the run; grey ones were only imagined, nothing trained
    in between. The dotted line marks the K after which the cost rises most: K as the run itself
        says it.
    Costs are in the unit of the trained loss: fractions of a task's own where ``normalise_losses``
        is on.

    Args:
        history: A run with closings, an elbow or both.

    Raises:
        ValueError: If the run has neither.
    """
    elbow = history.elbow
    done = {len(closing["branches"]): closing for closing in history.closings}
    costs = dict(zip(elbow["n_branches"], elbow["costs"], strict=True)) if elbow else {}
    for n_open, closing in done.items():
        costs[n_open] = closing["cost"]
    if not costs:
        raise ValueError(
            "`history` has no closings: the run opened no spare branches. Train with "
            'TrainConfig(spare=Spare(branches="double"), ...), or with n_groups="auto".'
        )
    imagined = [n for n in costs if n not in done]
    fig = load_plotly().graph_objects.Figure()
    if done:
        branches = [closing["branch"] for closing in done.values()]
        fig.add_bar(
            x=list(done), y=[costs[n] for n in done], name="closed", width=0.7, showlegend=False,
            marker={"color": [group_style(k)[0] for k in branches], "line": {"color": GREY, "width": 1}},
            text=[f"{costs[n]:.2f}<br>branch {k}" for n, k in zip(done, branches, strict=True)],
            hovertext=[f"step {closing['step']}" for closing in done.values()],
        )  # fmt: skip
    if imagined:
        fig.add_bar(
            x=imagined,
            y=[costs[n] for n in imagined],
            name="imagined, not done",
            width=0.7,
            marker={"color": "rgba(118,118,118,.3)", "line": {"color": GREY, "width": 1}},
            text=[f"{costs[n]:.2f}" for n in imagined],
            showlegend=False,
        )
    fig.update_traces(textposition="outside", cliponaxis=False, textfont={"size": 12})
    title = "what closing one branch more costs" + ("; grey: imagined" if done and imagined else "")
    if elbow:
        k = elbow["n_groups"]
        side = "left" if k == max(costs) else "right"
        side = {"align": side, "xanchor": side, "xshift": 6 if side == "left" else -6}
        fig.add_vline(k + 0.5, line={"color": GREY, "width": 1.5, "dash": "dot"})
        fig.add_annotation(
            x=k + 0.5, y=1, yref="paper", yanchor="top", showarrow=False, font={"size": 13},
            text=f"<b>K = {k}</b><br>the cost rises most here", **side,
        )  # fmt: skip
    order = sorted(costs, reverse=True)
    fig.update_xaxes(
        title="branches open: before → after",
        range=[max(order) + 0.6, min(order) - 0.6],
        tickvals=order,
        ticktext=[f"{n} → {n - 1}" for n in order],
    )
    bottom, top = min(0.0, *costs.values()), max(1e-3, *costs.values())
    headroom = (top - bottom) * 0.35  # for the words
    fig.update_yaxes(title="cost (summed training loss)", range=[1.2 * bottom, top + headroom])
    return apply_style(fig, title, height=360)


def plot_norm_gain(
    table: pd.DataFrame, *, value: str = "norm_gain_error", method: str = "method"
) -> go.Figure:
    """Bars of NormGain per method: mean over the rows of a method, one dot per row, std as whisker.

    Args:
        table: One row per (method, seed), e.g. what `experiments.compare` returns.
        value: Column with NormGain in percent; greater than 0 is better than Naive MTL.
        method: Column with the method's name.

    Raises:
        ValueError: If a column is missing.
    """
    missing = [name for name in (method, value) if name not in table.columns]
    if missing:
        raise ValueError(f"`table` has no column {missing}; it has {list(table.columns)}.")
    go = load_plotly().graph_objects
    grouped = table.groupby(method, sort=False)[value]
    means, stds = grouped.mean(), grouped.std().fillna(0.0)
    names = [to_label(name) for name in means.index]
    fig = go.Figure()
    fig.add_bar(
        y=names, x=means.to_numpy(), orientation="h", marker={"color": GROUP_COLOURS[0], "opacity": 0.75},
        error_x={"array": stds.to_numpy(), "color": GREY}, name="mean ± std",
        text=[f"{mean:+.1f} %" for mean in means], textposition="inside", insidetextanchor="start",
        textfont={"color": "white"},
    )  # fmt: skip
    fig.add_scatter(
        y=[to_label(name) for name in table[method]],
        x=table[value],
        mode="markers",
        name="one run",
        marker={"color": GROUP_COLOURS[1], "size": 8, "symbol": "diamond"},
    )
    fig.update_yaxes(autorange="reversed", ticksuffix="  ")
    fig.update_xaxes(title="NormGain, percent (Naive MTL = 0)")
    return apply_style(fig, height=max(260, 44 * len(means) + 120))


def compute_temperature_views(
    logits: np.ndarray, tau: float, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One draw Z at ``tau``, the mean weight E[Z] at ``tau``, and softmax(S): three (N, K)
    matrices.

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
    probabilities = softmax(logits)
    views = (
        softmax((logits + noise) / tau),
        compute_mean_assignment(probabilities, tau),
        probabilities,
    )
    return tuple(view.round(4) for view in views)


def plot_temperature(
    logits: np.ndarray, tau: float, *, task_names: Sequence[str] | None = None, seed: int = 0
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
    names = [f"task {n}" for n in range(len(views[0]))] if task_names is None else list(task_names)
    if len(names) != len(views[0]):
        raise ValueError(f"`task_names` must hold {len(views[0])} names, got {len(names)}.")
    titles = ("one draw Z", "mean weight E[Z] of 1000 draws", "softmax(S): who wins a draw")
    fig = load_plotly().subplots.make_subplots(
        rows=1, cols=3, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04
    )
    for column, view in enumerate(views, 1):
        fig.add_trace({**HEATMAP, **_heat(view, names), "showscale": False}, 1, column)
    fig.update_yaxes(autorange="reversed", ticksuffix="  ")
    apply_style(fig, height=max(230, 26 * len(names) + 110))
    fig.update_annotations(font_size=14)
    return fig.update_yaxes(showgrid=False).update_xaxes(showgrid=False, **GROUP_AXIS)


LEGEND = {
    **ABOVE,
    "y": 0.995,
    "x": 0.505,
}  # of the dashboard: between the right title and its curves


def make_dashboard(n_groups: int = 8) -> go.Figure:
    """The empty combined figure: heat map on the left; probabilities, losses, entropy on the right.

    Fill it with `update_dashboard`; wrap it in a `FigureWidget` to make it live. It holds lines for
    at least 8 groups, so that a run with another K is shown by the same figure. Its traces: the
        heat
    map; a line a group; mean loss, the task's loss, entropy; hatching of closed branches, and the
    most entropy that the open ones allow.
    """
    plotly = load_plotly()
    fig = plotly.subplots.make_subplots(
        rows=3, cols=2, specs=[[{"rowspan": 3}, {}], [None, {}], [None, {}]], shared_xaxes=True,
        subplot_titles=(" ", " ", " ", " "), vertical_spacing=0.1, horizontal_spacing=0.09,
        column_widths=[0.46, 0.54], row_heights=[0.4, 0.33, 0.27],
    )  # fmt: skip
    fig.add_trace({**HEATMAP, "showscale": False}, 1, 1)
    for k in range(max(8, n_groups)):
        fig.add_scatter(mode="lines", name=str(k), line=_line(k), visible=False, row=1, col=2)
    for dash, width in (("solid", 3.5), ("solid", 1.2)):  # mean of all tasks, then the chosen task
        fig.add_scatter(
            mode="lines",
            line={"color": GREY, "dash": dash, "width": width},
            showlegend=False,
            row=2,
            col=2,
        )
    fig.add_scatter(
        mode="lines", line={"color": GREY, "width": 2.5}, showlegend=False, row=3, col=2
    )
    fig.add_trace(HATCH, 1, 1)
    fig.add_scatter(mode="lines", line=CEILING, showlegend=False, hoverinfo="skip", row=3, col=2)
    apply_style(fig, height=480)
    fig.update_layout(margin={"l": 10, "r": 10, "t": 58, "b": 10}, hovermode="x", dragmode="zoom")
    fig.update_layout(
        legend={**LEGEND, "font_size": 12, "title": {"text": "group", "font_size": 12}}
    )
    fig.update_yaxes(autorange="reversed", ticksuffix=" ", row=1, col=1, showgrid=False)
    fig.update_xaxes(showgrid=False, **GROUP_AXIS, row=1, col=1)
    fig.update_yaxes(range=[0, 1.03], row=1, col=2)
    fig.update_yaxes(rangemode="tozero", row=2, col=2)
    fig.update_yaxes(range=[0, 1.05], row=3, col=2)
    fig.update_xaxes(title={"text": "step", "standoff": 4, "font": {"size": 13}}, row=3, col=2)
    fig.layout.shapes = _step_lines(0.0, {"color": GREY, "width": 1})
    for note, x in zip(fig.layout.annotations, (0.0, 0.51, 0.51, 0.51), strict=True):
        note.update(xanchor="left", x=x, font_size=13)
    fig.layout.annotations[1].update(yshift=22)  # the legend sits between this title and its curves
    fig.layout.annotations[0].update(yshift=22)
    return fig


def _step_lines(step: float, line: dict[str, Any]) -> list[dict[str, Any]]:
    """A vertical line at a step, through all three curves of the dashboard."""
    return [
        {
            "type": "line", "xref": f"x{axis}", "yref": f"y{axis} domain", "line": line,
            "x0": step, "x1": step, "y0": 0, "y1": 1,
        }
        for axis in (2, 3, 4)
    ]  # fmt: skip


def update_dashboard(
    fig: go.Figure, history: History, *, index: int = -1, task: str | None = None,
    weights: str = "softmax(S)", n_steps: int | None = None,
) -> None:  # fmt: skip
    """Show one record of a run in a figure of `make_dashboard`, as one message to the browser.

    Args:
        fig: A Figure or FigureWidget.
        history: The run; may be empty.
        index: The record shown in the heat map; the curves show the whole run.
        task: Whose probabilities and loss to draw; the first task by default.
        weights: ``"softmax(S)"`` or ``"E[Z]"``, for the heat map.
        n_steps: Where the step axis ends; the last record by default.
    """
    task = history.task_names[0] if task is None else task
    row, n_groups, size = _row_of(history, task), history.n_groups, len(history)
    rows = decimate(size)
    steps = history.steps[rows].astype(np.float32)
    probabilities = history.probabilities[rows]  # (T', N, K)
    losses = history.task_losses[:size]
    losses = np.stack([losses.mean(1), losses[:, row]]) if size else np.empty((2, 0))
    now = float(history.steps[index]) if size else 0.0
    closed = history.closed_branches(index)
    heat, *shown, mean_loss, task_loss, entropy, hatch, ceiling = fig.data
    with fig.batch_update():
        heat.update(_heat(compute_weights(history, index, weights), history.task_names, closed))
        hatch.update(_hatch(closed, history.task_names))
        fig.layout.xaxis.title.text = _group_title(closed)
        values = _probability_lines(probabilities, row)
        for k, line in enumerate(shown):
            line.visible = k < n_groups
            if k < n_groups:
                line.x, line.y = steps, values[k]
        for line, values in ((mean_loss, losses[0]), (task_loss, losses[1])):
            line.x, line.y = steps, running_mean(values, 20)[rows]
        entropy.x, ceiling.x = steps, steps
        entropy.y, ceiling.y = _entropy_lines(probabilities)
        ceiling.visible = bool(history.closings)
        end = n_steps or (float(steps[-1]) if size else 1.0)
        for axis in (fig.layout.xaxis2, fig.layout.xaxis3, fig.layout.xaxis4):
            axis.range = [0, end]
        shapes = _step_lines(now, {"color": GREY, "width": 1})
        for closing in history.closings:
            shapes += _step_lines(closing["step"], {"color": GREY, "width": 1, "dash": "dot"})
        fig.layout.shapes = shapes
        label = "E[Z], mean weight at tau" if weights == "E[Z]" else "softmax(S)"
        titles = (
            f"{label} · step {now:.0f}",
            f"probability of each group: {to_label(task)}",
            f"loss: all tasks (thick), {to_label(task)} (thin)",
            "entropy: 0 settled"
            + ("; dotted: most possible" if history.closings else ", 1 undecided"),
        )
        for note, title in zip(fig.layout.annotations, titles, strict=True):
            note.text = title
        fig.layout.height = height = dashboard_height(history.n_tasks)
        fig.layout.yaxis.update(name_ticks((height - 90) / history.n_tasks))
        fig.layout.legend.update(
            BESIDE if n_groups > 4 else LEGEND
        )  # one row above the curves, or a column


def dashboard_height(n_tasks: int) -> int:
    """Pixels: nine tasks fit a laptop's screen with the controls, forty without, and keep readable labels."""
    return max(440, 13 * n_tasks + 90)


def plot_dashboard(
    history: History, *, index: int = -1, task: str | None = None, weights: str = "softmax(S)"
) -> go.Figure:
    """The live view's figure as a still one; arguments as in `update_dashboard`."""
    fig = make_dashboard(history.n_groups)
    update_dashboard(fig, history, index=index, task=task, weights=weights)
    return fig


def _row_of(history: History, task: str) -> int:
    if task not in history.task_names:
        raise ValueError(f"unknown `task` {task!r}; this run has {history.task_names}.")
    return history.task_names.index(task)


def plot_images(images: np.ndarray, captions: Sequence[str], *, columns: int = 6) -> go.Figure:
    """Pictures in a grid, each with its caption above, e.g. the tasks whose answer is yes.

    Args:
        images: uint8, shape (n, 3, H, W); a tensor will do.
        captions: n texts; a line break starts a new line.
        columns: Pictures per row.

    Raises:
        ValueError: If the images are not uint8 (n, 3, H, W), or there is not one caption each.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"`images` must be uint8 (n, 3, H, W), got {images.dtype} of shape {images.shape}."
        )
    if len(captions) != len(images):
        raise ValueError(
            f"`captions` must hold one text per image: {len(captions)} for {len(images)} images."
        )
    plotly, go = load_plotly(), load_plotly().graph_objects
    from plotly.express import (
        imshow,
    )  # its encoder makes a PNG of each picture, with or without Pillow

    columns = min(columns, len(images))
    n_rows, n_lines = (
        -(-len(images) // columns),
        max(caption.count("\n") for caption in captions) + 1,
    )
    texts = ["<br>".join(to_label(line) for line in caption.split("\n")) for caption in captions]
    space = 18 * n_lines + 10  # pixels above each row
    height = n_rows * (150 + space) + 10
    fig = plotly.subplots.make_subplots(
        rows=n_rows,
        cols=columns,
        subplot_titles=texts,
        horizontal_spacing=0.01,
        vertical_spacing=min(space / height, 0.99 / max(n_rows - 1, 1)),
    )
    for n, picture in enumerate(images.transpose(0, 2, 3, 1)):
        source = imshow(picture, binary_string=True).data[0].source
        fig.add_trace(go.Image(source=source, hoverinfo="skip"), n // columns + 1, n % columns + 1)
    apply_style(fig, height=height)
    fig.update_layout(margin={"l": 0, "r": 0, "t": space, "b": 10}, dragmode=False)
    fig.update_xaxes(visible=False).update_yaxes(visible=False)
    return fig.update_annotations(font_size=12)


def plot_label_correlation(targets: Mapping[str, np.ndarray]) -> go.Figure:
    """How linked the answers of tasks are, before any training: -1 opposite, 0 unrelated, 1 the
    same.

    Args:
        targets: ``{task: 0/1 labels of shape (n,)}``, -1 for no label, e.g. ``data.train.targets``.
            A pair is compared where both have a label; it stays empty if one of them never changes
            there.
    """
    correlation = correlate_labels(
        np.stack([np.asarray(values) for values in targets.values()])
    )  # (N, N)
    names = [to_label(name) for name in targets]
    go = load_plotly().graph_objects
    fig = go.Figure({
        "type": "heatmap", "z": np.round(correlation, 2), "x": names, "y": names, "zmin": -1, "zmax": 1,
        "colorscale": "RdBu", "texttemplate": "%{z:.1f}" if len(names) <= 16 else "", "xgap": 2, "ygap": 2,
        "hovertemplate": "%{y}, %{x}: %{z:.2f}<extra></extra>", "colorbar": {"thickness": 12},
    })  # fmt: skip
    fig.update_yaxes(autorange="reversed", ticksuffix="  ")
    return apply_style(fig, "correlation of the labels", height=max(320, 22 * len(names) + 200))
