"""The combined figure of a run: the (N, K) picture and three curves, live or still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmtg_lite.runs.history import History
from dmtg_lite.views.plots.curves import (
    entropy_lines,
    loss_lines,
    probability_lines,
    validation_lines,
)
from dmtg_lite.views.plots.matrix import GROUP_AXIS, Matrix, group_title, matrix_traces
from dmtg_lite.views.plots.style import (
    ABOVE,
    BESIDE,
    GREY,
    apply_style,
    load_plotly,
    name_ticks,
    to_label,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOVING = frozenset("x y z text texttemplate hovertemplate colorscale".split())  # the rest is style
LEGEND = {**ABOVE, "y": 0.995, "x": 0.505}  # between the right title and its curves


def make_dashboard(n_groups: int = 8) -> go.Figure:
    """The empty combined figure: heat map on the left; probabilities, losses, entropy on the right.

    Fill it with `update_dashboard`. It holds lines for at least 8 groups, so that a run with
    another K is shown by the same figure.
    """
    grid: dict[str, Any] = {"rows": 3, "cols": 2, "shared_xaxes": True, "subplot_titles": [" "] * 4}
    grid |= {"specs": [[{"rowspan": 3}, {}], [None, {}], [None, {}]], "column_widths": [0.46, 0.54]}
    grid |= {"row_heights": [0.4, 0.33, 0.27], "vertical_spacing": 0.1, "horizontal_spacing": 0.09}
    fig: Any = load_plotly().subplots.make_subplots(**grid)
    empty = History(["task"], max(8, n_groups))
    for row, col, trace in _traces(empty, -1, "task", "probabilities"):
        fig.add_trace(trace, row, col)
    apply_style(fig, height=480)
    small = {"font_size": 12, "title": {"text": "group", "font_size": 12}}
    margin = {"l": 10, "r": 10, "t": 58, "b": 10}
    fig.update_layout(margin=margin, hovermode="x", dragmode="zoom", legend={**LEGEND, **small})
    fig.update_yaxes(autorange="reversed", showgrid=False, row=1, col=1)
    fig.update_xaxes(GROUP_AXIS, row=1, col=1)
    fig.update_yaxes(range=[0, 1.03], row=1, col=2)
    fig.update_yaxes(rangemode="tozero", row=2, col=2)
    fig.update_yaxes(range=[0, 1.05], row=3, col=2)
    fig.update_xaxes(title={"text": "step", "standoff": 4, "font": {"size": 13}}, row=3, col=2)
    for note, x, shift in zip(
        fig.layout.annotations, (0, 0.51, 0.51, 0.51), (22, 22, 0, 0), strict=True
    ):
        note.update(xanchor="left", x=x, font_size=13, yshift=shift)
    return fig


def update_dashboard(
    fig: go.Figure,
    history: History,
    *,
    index: int = -1,
    task: str | None = None,
    matrix: Matrix = "probabilities",
    n_steps: int | None = None,
) -> None:
    """Show one record of a run in a figure of `make_dashboard`.

    Args:
        fig: The figure.
        history: The run; may be empty.
        index: The record shown in the heat map; the curves show the whole run.
        task: Whose probabilities and loss to draw; the first task by default.
        matrix: What the heat map shows, as in `plot_history`.
        n_steps: Where the step axis ends; the last record by default.
    """
    task = history.task_names[0] if task is None else task
    now, last = (float(history.steps[i]) for i in (index, -1)) if len(history) else (0.0, 1.0)
    closed = history.closed_branches(index)
    traces = _traces(history, index, task, matrix)
    layout: Any = fig.layout
    titles = [f"{matrix} · step {now:.0f}", *curve_titles(history, to_label(task))]
    height = dashboard_height(history.n_tasks)
    shapes = _step_lines(now, "solid")
    for closing in history.closings:
        shapes += _step_lines(closing["step"], "dot")
    with fig.batch_update():
        shown: Any = fig.data  # plotly's own type of it is none of ours
        for trace, (_, _, new) in zip(shown, traces, strict=False):
            trace.visible = new.get("visible", True)
            for name in MOVING & new.keys():
                trace[name] = new[name]
        for line in shown[len(traces) :]:  # of groups that another run had
            line.visible = False
        for axis in (layout.xaxis2, layout.xaxis3, layout.xaxis4):
            axis.range = [0, n_steps or last]
        for note, title in zip(layout.annotations, titles, strict=True):
            note.text = title
        layout.shapes, layout.height = shapes, height
        layout.xaxis.title.text = group_title(closed)
        layout.yaxis.update(name_ticks((height - 90) / history.n_tasks))
        layout.legend.update(BESIDE if history.n_groups > 4 else LEGEND)  # a column, or one row


def curve_titles(history: History, label: str) -> tuple[str, str, str]:
    """What stands above the three charts of a task."""
    ceiling_words = "; dotted: most possible" if history.closings else ", 1 undecided"
    validation_words = ", dotted: validation" if len(history.validation_steps) else ""
    return (
        f"probability of each group: {label}",
        f"loss: all tasks (thick), {label} (thin{validation_words})",
        f"entropy: 0 settled{ceiling_words}",
    )


def dashboard_height(n_tasks: int) -> int:
    """Pixels: nine tasks fit a laptop's screen with the controls, forty without; all are named."""
    return max(440, 13 * n_tasks + 90)


def _traces(
    history: History, index: int, task: str, matrix: Matrix
) -> list[tuple[int, int, dict[str, Any]]]:
    """Row, column and trace: heat map, hatching, two losses, two entropies, a line per group."""
    heat, hatch = matrix_traces(history, index, matrix)
    losses, (entropy, ceiling) = loss_lines(history, task), entropy_lines(history)
    silent = {"showlegend": False, "hoverinfo": "skip", "visible": bool(history.closings)}
    return [
        (1, 1, heat),
        (1, 1, hatch),
        *((2, 2, line | {"showlegend": False}) for line in losses),
        (2, 2, validation_lines(history, task)[0] | {"showlegend": False}),
        (3, 2, entropy),
        (3, 2, ceiling | silent),
        *((1, 2, line) for line in probability_lines(history, task)),
    ]


def _step_lines(step: float, dash: str) -> list[dict[str, Any]]:
    """A vertical line at a step, through all three curves."""
    line = {"color": GREY, "width": 1, "dash": dash}
    at = {"type": "line", "x0": step, "x1": step, "y0": 0, "y1": 1, "line": line}
    return [at | {"xref": f"x{axis}", "yref": f"y{axis} domain"} for axis in (2, 3, 4)]


def plot_dashboard(
    history: History, *, index: int = -1, task: str | None = None, matrix: Matrix = "probabilities"
) -> go.Figure:
    """The live view's figure as a still one; arguments as in `update_dashboard`."""
    fig = make_dashboard(history.n_groups)
    update_dashboard(fig, history, index=index, task=task, matrix=matrix)
    return fig
