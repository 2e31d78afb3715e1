"""What closing spare branches cost, from as many as were opened down to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dmtg_lite.runs.history import History
from dmtg_lite.views.plots.style import GREY, group_style, make_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go


def plot_closing_costs(history: History) -> go.Figure:
    """What closing one branch more costs: little while spare ones are left, then much.

    Bars in a branch's colour are closings of the run; grey ones were only imagined, nothing trained
    in between. The dotted line marks the K after which the cost rises most: K as the run says it.
    Costs are in the unit of the trained loss: fractions of a task's own under ``normalise_losses``.

    Args:
        history: A run with closings, an elbow or both.

    Raises:
        ValueError: If the run has neither.
    """
    elbow = history.elbow
    done = {len(closing["branches"]): closing for closing in history.closings}
    costs = dict(zip(elbow["n_branches"], elbow["costs"], strict=True)) if elbow else {}
    costs |= {n_open: closing["cost"] for n_open, closing in done.items()}
    if not costs:
        raise ValueError(
            "`history` has no closings: the run opened no spare branches. Train with "
            'TrainConfig(spare=Spare(branches="double"), ...), or with n_groups="auto".'
        )
    imagined = [n for n in costs if n not in done]
    branches = [closing["branch"] for closing in done.values()]
    steps = [f"step {closing['step']}" for closing in done.values()]
    words = [f"{costs[n]:.2f}<br>branch {k}" for n, k in zip(done, branches, strict=True)]
    bars = [
        _bars(costs, list(done), words, [group_style(k)[0] for k in branches], hovertext=steps),
        _bars(costs, imagined, [f"{costs[n]:.2f}" for n in imagined], "rgba(118,118,118,.3)"),
    ]
    order = sorted(costs, reverse=True)
    x_axis = {"title": "branches open: before → after", "tickvals": order}
    x_axis |= {"range": [order[0] + 0.6, order[-1] - 0.6]}
    x_axis |= {"ticktext": [f"{n} → {n - 1}" for n in order]}
    bottom, top = min(0.0, *costs.values()), max(1e-3, *costs.values())
    limits = [1.2 * bottom, top + (top - bottom) * 0.35]  # with room for the words above
    y_axis = {"title": "cost (summed training loss)", "range": limits}
    title = "what closing one branch more costs" + ("; grey: imagined" if done and imagined else "")
    fig = make_figure([bar for bar in bars if bar["x"]], title, height=360, x=x_axis, y=y_axis)
    if elbow:
        k, note = elbow["n_groups"], f"<b>K = {elbow['n_groups']}</b><br>the cost rises most here"
        fig.add_vline(k + 0.5, line={"color": GREY, "width": 1.5, "dash": "dot"})
        side, shift = ("left", 6) if k == order[0] else ("right", -6)
        at = {"x": k + 0.5, "y": 1, "yref": "paper", "yanchor": "top", "xanchor": side}
        at |= {"xshift": shift, "align": side, "font": {"size": 13}, "showarrow": False}
        fig.add_annotation({"text": note} | at)
    return fig.update_layout(showlegend=False)


def _bars(
    costs: dict[int, float], which: list[int], words: list[str], colour: Any, **more: Any
) -> dict[str, Any]:
    bars = {"type": "bar", "x": which, "y": [costs[n] for n in which], "width": 0.7, "text": words}
    bars |= {"textposition": "outside", "cliponaxis": False, "textfont": {"size": 12}, **more}
    return bars | {"marker": {"color": colour, "line": {"color": GREY, "width": 1}}}
