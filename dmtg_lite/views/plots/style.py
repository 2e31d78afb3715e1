"""Colours, letters and axes that all pictures share; what they show is in the modules beside."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

Trace = dict[str, Any]  # what plotly takes for one

if TYPE_CHECKING:  # plotly is an extra: loaded where a figure is made
    import plotly.graph_objects as go

# Okabe-Ito in an order that keeps neighbours apart; grey for black and yellow last, because the
# figures must be readable on a white and on a dark page. Dashes and labels repeat what colour says.
GROUP_COLOURS = tuple("#0072B2 #E69F00 #009E73 #CC79A7 #56B4E9 #D55E00 #767676 #F0E442".split())
GROUP_DASHES = tuple("solid dash dot dashdot longdash longdashdot 6px,2px 2px,6px".split())
GREY = "#767676"  # readable on white and on black
ABOVE = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}  # where a legend goes
BESIDE = {"orientation": "v", "y": 1.0, "yanchor": "top", "x": 1.02}


def compute_contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """Contrast of two colours, red, green and blue of 0 to 255 each: 1 to 21 (WCAG 2.2)."""

    def light(colour: Sequence[float]) -> float:
        parts = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


def ink_on(colour: Sequence[float]) -> str:
    """Black or white, whichever is read better; its contrast is never below 4.58."""
    white, black = (compute_contrast(colour, (ink,) * 3) for ink in (255, 0))
    return "#fff" if white > black else "#000"


def write_numbers(heat: Trace) -> list[Trace]:
    """A heat map with white numbers, and above it, where they are needed, cells with black ones.

    A trace has one ink, and what plotly chooses by itself is as faint as 3 : 1 on middle shades.
    """
    if not heat["texttemplate"]:
        return [heat]
    from plotly.colors import sample_colorscale, unlabel_rgb

    z = np.asarray(heat["z"], object).astype(np.float64)  # nan where there is no cell
    share = np.clip((z - heat["zmin"]) / (heat["zmax"] - heat["zmin"]), 0, 1)
    fills = sample_colorscale(heat["colorscale"], np.nan_to_num(share).ravel())
    inks = np.array([ink_on(unlabel_rgb(fill)) for fill in fills]).reshape(z.shape)
    is_black = (inks == "#000") & ~np.isnan(z)
    white = heat | {"textfont": {"color": "#fff"}}
    if not is_black.any():
        return [white]
    z = z.astype(object)
    z[~is_black] = None
    black = heat | {"z": z.tolist(), "textfont": {"color": "#000"}}
    if heat.get("text") is not None:
        black["text"] = np.where(is_black, heat["text"], "").tolist()
    return [white, black | {"showscale": False, "hoverongaps": False}]


def load_plotly() -> Any:
    try:
        import plotly.graph_objects
        import plotly.subplots
    except ImportError as error:
        raise ImportError('plots need plotly: pip install "dmtg-lite[notebook]"') from error
    from dmtg_lite.views.plots.pages import keep_pictures

    keep_pictures()
    return plotly


def to_label(name: str) -> str:
    """A task name as plotly shows it: plotly reads a little HTML in every label."""
    return html.escape(str(name), quote=False)


def group_style(group: int) -> tuple[str, str]:
    """Colour and dash of a group, the same in every picture; 64 groups have different pairs."""
    return GROUP_COLOURS[group % 8], GROUP_DASHES[(group + 5 * (group // 8)) % 8]


def group_line(group: int, width: float = 2.5) -> dict[str, Any]:
    colour, dash = group_style(group)
    return {"color": colour, "dash": dash, "width": width}


def name_ticks(row: float) -> dict[str, Any]:
    """Every task's name, first task on top, in letters that fit a row of so many pixels."""
    return {"dtick": 1, "ticksuffix": "  ", "tickfont": {"size": min(13.0, 0.86 * row)}}


def make_figure(
    traces: Iterable[Trace], title: str = "", *, height: float, x: Trace | None = None, y: Trace
) -> go.Figure:
    """A figure with one pair of axes, in the common style."""
    fig = load_plotly().graph_objects.Figure(list(traces))
    return apply_style(fig.update_xaxes(x).update_yaxes(y), title, round(height))


def apply_style(fig: go.Figure, title: str = "", height: int | None = None) -> go.Figure:
    clear, grid = "rgba(0,0,0,0)", "rgba(118,118,118,.25)"
    fig.update_layout(
        title={"text": title, "font_size": 15},
        height=height,
        font={"color": GREY, "size": 13},
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        uirevision="kept",
        margin={"l": 10, "r": 10, "t": 60 if title else 30, "b": 10},
        modebar={"remove": ["sendChartToCloud"]},  # nothing is uploaded from here
        legend=ABOVE,
    )
    axis = {"gridcolor": grid, "zeroline": False, "automargin": True, "linecolor": grid}
    return fig.update_xaxes(axis).update_yaxes(axis)
