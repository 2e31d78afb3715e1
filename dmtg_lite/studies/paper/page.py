"""What a reproduced table looks like: on a screen, as CSV, and as one HTML page with pictures of
the same numbers. Nothing here trains."""

from __future__ import annotations

import html
import re
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import TYPE_CHECKING

from dmtg_lite.files import write_atomically
from dmtg_lite.runs.report_page import make_page, make_scrollable
from dmtg_lite.studies.paper.measure import SERVED
from dmtg_lite.studies.paper.reproduction import Reproduction
from dmtg_lite.studies.paper.specs import describe, load_paper
from dmtg_lite.studies.tables import NAMES, align, write_table
from dmtg_lite.views import plots
from dmtg_lite.views.plots import GREY, GROUP_COLOURS, apply_style, group_style

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Sheet = tuple[str, "pd.DataFrame", "pd.DataFrame | None"]
"""A title, which may be empty; a table of words; and the rows to draw below it, or None."""


def name_table(table: str) -> str:
    """``"tableA1"`` -> ``"Table A1"``."""
    return re.sub("^(table|figure|appendix)", lambda word: f"{word[0].capitalize()} ", table)


def render_text(result: Reproduction) -> str:
    """The table for a screen: title, banner, sheets, notes."""
    blocks = [f"{name_table(result.table)}. {result.title}"]
    if result.banner:
        blocks.append(fill(result.banner, 100, initial_indent="!! ", subsequent_indent="!! "))
    blocks += [f"{title}\n{align(words)}".lstrip() for title, words, _ in make_sheets(result)]
    notes = [fill(n, 100, initial_indent="* ", subsequent_indent="  ") for n in result.notes]
    return "\n\n".join([*blocks, "\n".join(notes)])


def write_reproduction(result: Reproduction, out: str | Path) -> list[Path]:
    """Write ``<table>.csv`` and ``<table>.html`` into a folder, atomically; the two paths."""
    out = Path(out)
    return [
        write_table(result.frame, out / f"{result.table}.csv"),
        write_atomically(out / f"{result.table}.html", render_page(result).encode()),
    ]


# ---------------------------------------------------------------------- sheets of words


def make_sheets(result: Reproduction) -> list[Sheet]:
    """The numbers of a reproduction as words, the same on a screen and in a page."""
    if result.kind == "gains":
        return [(*_list_gains(result.frame), result.frame)]
    if result.kind != "groups":
        parts = result.frame.groupby("part", sort=False)
        return [(str(part), _list_numbers(rows, result), rows) for part, rows in parts]
    sheets: list[Sheet] = []
    for _, of_k in result.frame.groupby("groups", sort=False):
        methods = [_list_marks(own) for _, own in of_k.groupby("method", sort=False)]
        # one picture for all methods of a K
        sheets += [(*one, of_k if one is methods[-1] else None) for one in methods]
    return sheets


def _list_numbers(rows: pd.DataFrame, result: Reproduction) -> pd.DataFrame:
    """A line a row of the paper's; of every quantity its number, ours, and the difference."""
    import pandas as pd

    name = "strategy" if result.table == "tableA3" else "method"
    blocks = []
    for quantity, own in rows.groupby("quantity", sort=False):
        how = describe(result.table, str(quantity), rows["part"].iloc[0])
        paper = f"{how.label}: " + ("paper" if result.is_comparable else "(paper)")
        block: dict[str, list[str]] = {paper: [], "ours": [], "difference": []}
        for row in own.to_dict("records"):
            printed = _number(row["paper"], how.paper_format)
            ours = _number(row["ours"], how.format)
            ours += "" if isnan(row["spread"]) else f" ± {_number(row['spread'], how.format)}"
            difference = _number(row["difference"], how.format, sign="+")
            block[paper].append(printed if result.is_comparable else f"({printed})")
            block["ours"].append(row["note"] or ours)
            block["difference"].append(f"{difference} {row['mark']}".strip())
        k = ["-" if pd.isna(k) else str(k) for k in own["groups"]]
        index = pd.MultiIndex.from_arrays([k, own["method"]], names=["K", name])
        words = pd.DataFrame(block, index=index)
        blocks.append(words if result.is_comparable else words.drop(columns="difference"))
    # a row that lacks a quantity is filled up
    return pd.concat(blocks, axis=1).fillna("-").reset_index()


def _number(value: float, how: str, *, sign: str = "") -> str:
    return "-" if isnan(value) else format(value, f"{sign}z{how}")  # z: no minus before a zero


def _list_marks(own: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """A row a task: the paper's marks, what they were inferred to be, our groups of one seed."""
    shown = _show_first_seed(own)
    names = zip(shown["source"], shown["group"], strict=True)
    columns = ["paper, any group" if g != g else f"{source} {g:.0f}" for source, g in names]
    marks = shown.assign(column=columns).pivot(index="task", columns="column", values="mark")
    # the paper's, inferred ones, ours; tasks in the order in which the table has them
    order = sorted(set(columns), key=lambda name: ("pio".index(name[0]), name))
    marks = marks.reindex(index=own["task"].unique(), columns=order).fillna("")
    marks = marks.rename_axis(columns=None)
    title = f"K = {own['groups'].iloc[0]}, {own['method'].iloc[0]}"
    title += "" if "ours" in set(own["source"]) else ": no run of ours"
    return title, marks.reset_index()


def _show_first_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """The paper's lines, and of ours those of one seed."""
    return frame.loc[frame["seed"].isna() | (frame["seed"] == frame["seed"].min())]


def _list_gains(frame: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Tasks by their mean gain over seeds."""
    import pandas as pd

    grouped = frame.groupby("task", sort=False)["gain_error"]
    gains = pd.DataFrame(grouped.agg(["mean", "std"])).sort_values(by="mean", ascending=False)
    mean, spread = gains["mean"].tolist(), gains["std"].tolist()
    words = {
        "task": gains.index,
        "NormGain_E %: ours": [_number(value, ".2f", sign="+") for value in mean],
        "spread": [_number(value, ".2f") for value in spread],
    }
    title = f"{sum(gain > 0 for gain in mean)} of {len(mean)} tasks gain; mean {fmean(mean):+.2f} %"
    return f"{title} (the paper: most of 40 tasks gain)", pd.DataFrame(words)


# ---------------------------------------------------------------------- pictures


def _plot(rows: pd.DataFrame, result: Reproduction) -> go.Figure | None:
    if result.kind == "gains":
        return plots.plot_task_gains(rows, title="")
    return _plot_groups(rows) if result.kind == "groups" else _plot_numbers(rows, result)


def _plot_numbers(rows: pd.DataFrame, result: Reproduction) -> go.Figure | None:
    """An axis a quantity: ours as dots with whiskers; the paper's as diamonds where comparable."""
    import pandas as pd
    import plotly.express as px

    if not len(rows["ours"].dropna()):
        return None
    lines = [
        html.escape(method if pd.isna(k) else f"{method}, K = {k}")
        for method, k in zip(rows["method"], rows["groups"], strict=True)
    ]
    how = [describe(result.table, name, rows["part"].iloc[0]) for name in rows["quantity"]]
    rows = rows.assign(line=lines, label=[one.label for one in how])
    ours = rows.assign(value=rows["ours"], whose="ours")
    paper = rows.assign(value=rows["paper"], whose="paper", spread=nan)
    n_lines, styles = len(set(lines)), {"ours": GROUP_COLOURS[0], "paper": GREY}
    fig = px.scatter(
        pd.concat([paper, ours]) if result.is_comparable else ours, x="value", y="line",
        error_x="spread", color="whose", color_discrete_map=styles, symbol="whose",
        symbol_map={"ours": "circle", "paper": "diamond-open"}, facet_col="label",
        facet_col_spacing=0.04, category_orders={"line": list(dict.fromkeys(lines))},
        labels={"whose": "", "line": ""},
    )  # fmt: skip
    fig.update_traces(marker_size=10, error_x={"thickness": 1.5, "width": 0})
    fig.update_traces(marker={"size": 11, "line_width": 2}, selector={"name": "paper"})
    fig.update_annotations(text="")  # the quantity stands below its axis instead
    for n, label in enumerate(dict.fromkeys(rows["label"]), start=1):
        fig.update_xaxes(matches=None, title={"text": label, "font_size": 13}, col=n)
    fig.update_yaxes(range=[-0.5, n_lines - 0.5], ticksuffix="  ", dtick=1)
    return apply_style(fig, height=26 * n_lines + 110)


def _plot_groups(of_k: pd.DataFrame) -> go.Figure | None:
    """Our groups of one K, a panel a method: tasks are rows, groups are columns."""
    import plotly.express as px

    ours = _show_first_seed(of_k)
    ours = ours.loc[ours["source"] == "ours"]
    if not len(ours):
        return None
    tasks, n_groups = list(dict.fromkeys(ours["task"])), int(of_k["groups"].iloc[0])
    fig = px.scatter(
        ours.astype({"group": int}).astype({"group": str}), x="group", y="task", color="group",
        color_discrete_map={str(n + 1): group_style(n)[0] for n in range(n_groups)}, symbol="mark",
        symbol_map={SERVED: "square"}, symbol_sequence=["square-open"], facet_col="method",
        facet_col_spacing=0.03, labels={"task": ""},
        category_orders={"task": tasks, "group": [str(n + 1) for n in range(n_groups)]},
    )  # fmt: skip
    fig.update_traces(marker={"size": 15, "line_width": 2}, showlegend=False)
    fig.for_each_annotation(lambda note: note.update(text=note.text.partition("=")[2]))
    fig.update_yaxes(range=[-0.5, len(tasks) - 0.5], ticksuffix="  ", dtick=1)
    return apply_style(fig, height=28 * len(tasks) + 120)


# ---------------------------------------------------------------------- page

_OWN_STYLE = """
.banner { border: 2px solid #D55E00; border-radius: .4rem; padding: .6rem 1rem; font-weight: 600; }
li, footer { color: var(--faint); }
figure { margin: 1rem 0; overflow: hidden; }
figure text { fill: var(--ink) !important; }
"""


def render_page(result: Reproduction) -> str:
    """One HTML page that needs nothing else: banner, sheets, pictures, notes."""
    plots.load_plotly()
    from plotly.offline import get_plotlyjs

    name, style = name_table(result.table), _OWN_STYLE
    parts = [f"<h1>{name}, reproduced</h1>", f"<p>{html.escape(result.title)}</p>"]
    if result.banner:
        parts.append(f'<p class="banner" role="alert">{html.escape(result.banner)}</p>')
    for n, (title, words, rows) in enumerate(make_sheets(result)):
        parts += [f"<h2>{html.escape(title)}</h2>"] if title else []
        table = words.to_html(index=False, border=0, table_id=f"sheet{n}", justify="unset")
        parts.append(make_scrollable(table, title or name))
        style += _style_columns(f"#sheet{n}", words, result)
        if rows is not None and (figure := _plot(rows, result)) is not None:
            config = {"responsive": True, "displayModeBar": False}
            how = {"full_html": False, "include_plotlyjs": False, "config": config}
            drawn = figure.to_html(div_id=f"picture{n}", **how)
            about = f"{title or name}: the numbers of the table above as a picture"
            label = html.escape(about, quote=True)
            parts.append(f'<figure role="img" aria-label="{label}">{drawn}</figure>')
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.notes)
    parts.append(f"<h2>Notes</h2><ul>{notes}</ul>")
    parts.append(f"<footer>The paper: {html.escape(load_paper()['source'])}</footer>")
    script = f"<script>{get_plotlyjs()}</script>"
    return make_page(f"{name}, reproduced", "".join(parts), style=style, head=script)


def _style_columns(sheet: str, words: pd.DataFrame, result: Reproduction) -> str:
    """Names to the left; the paper's numbers grey, and slanted where they are not comparable."""
    style = ""
    for n, name in enumerate(words.columns, start=1):
        look = "text-align: left;" if name in NAMES else ""
        if "paper" in name or "inferred" in name:
            look = "color: var(--faint);" + ("" if result.is_comparable else " font-style: italic;")
        style += f"{sheet} :is(th, td):nth-child({n}) {{ {look} }}\n" if look else ""
    return style
