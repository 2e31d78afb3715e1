"""What closing spare branches cost, from as many as were opened down to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        history: A run with ``meta["closings"]``, ``meta["elbow"]`` or both.

    Raises:
        ValueError: If the run has neither.
    """
    elbow = history.meta.get("elbow") or {}
    done = {len(closing["branches"]): closing for closing in history.closings}
    costs = dict(zip(elbow.get("n_branches", ()), elbow.get("costs", ()), strict=True))
    costs |= {n_open: closing["cost"] for n_open, closing in done.items()}
    if not costs:
        raise ValueError(
            "`history` has no closings: the run opened no spare branches. Train with "
            'TrainConfig(spare_branches="double", ...), or with n_groups="auto".'
        )
    imagined = [n for n in costs if n not in done]
    branches = [closing["branch"] for closing in done.values()]
    bars = [
        {
            "x": list(done),
            "marker": {"color": [group_style(k)[0] for k in branches]},
            "text": [f"{costs[n]:.2f}<br>branch {k}" for n, k in zip(done, branches, strict=True)],
            "hovertext": [f"step {closing['step']}" for closing in done.values()],
        },
        {
            "x": imagined,
            "marker": {"color": "rgba(118,118,118,.3)"},
            "text": [f"{costs[n]:.2f}" for n in imagined],
        },
    ]
    for bar in bars:
        bar |= {"type": "bar", "y": [costs[n] for n in bar["x"]], "width": 0.7}
        bar |= {"textposition": "outside", "cliponaxis": False, "textfont": {"size": 12}}
        bar["marker"]["line"] = {"color": GREY, "width": 1}
    order = sorted(costs, reverse=True)
    bottom, top = min(0.0, *costs.values()), max(1e-3, *costs.values())
    fig = make_figure(
        [bar for bar in bars if bar["x"]],
        "what closing one branch more costs" + ("; grey: imagined" if done and imagined else ""),
        height=360,
        x={
            "title": "branches open: before → after",
            "range": [order[0] + 0.6, order[-1] - 0.6],
            "tickvals": order,
            "ticktext": [f"{n} → {n - 1}" for n in order],
        },
        y={  # with room for the words above
            "title": "cost (summed training loss)",
            "range": [1.2 * bottom, top + (top - bottom) * 0.35],
        },
    )
    if elbow:
        k, note = elbow["n_groups"], f"<b>K = {elbow['n_groups']}</b><br>the cost rises most here"
        fig.add_vline(k + 0.5, line={"color": GREY, "width": 1.5, "dash": "dot"})
        side, shift = ("left", 6) if k == order[0] else ("right", -6)
        at = {"x": k + 0.5, "y": 1, "yref": "paper", "yanchor": "top", "xanchor": side}
        at |= {"xshift": shift, "align": side, "font": {"size": 13}, "showarrow": False}
        fig.add_annotation({"text": note} | at)
    return fig.update_layout(showlegend=False)
