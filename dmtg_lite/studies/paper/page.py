"""What a reproduced table looks like: on a screen, as CSV, and as one HTML page. Nothing here
trains.

Text and page are laid out once, as sheets of words; the page adds plotly's pictures of the same
numbers.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dmtg_lite.files import write_atomically
from dmtg_lite.studies.paper.measure import SERVED
from dmtg_lite.studies.paper.reproduction import Reproduction
from dmtg_lite.studies.paper.specs import describe, load_paper
from dmtg_lite.views.plots import (
    GREY,
    GROUP_COLOURS,
    apply_style,
    group_style,
    load_plotly,
    plot_task_gains,
    to_label,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of words, the same on a screen and in a page.

    Args:
        title: Above it; may be empty.
        head: Names of the columns.
        rows: As many words each as there are columns.
        of_paper: Columns that hold the paper's numbers.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    of_paper: frozenset[int] = frozenset()


NAMES = ("method", "strategy", "task")  # columns of words, the others hold numbers


def name_table(table: str) -> str:
    """``"tableA1"`` -> ``"Table A1"``."""
    for word in ("table", "figure", "appendix"):
        if table.startswith(word):
            return f"{word.capitalize()} {table.removeprefix(word)}"
    raise ValueError(f"`table` must start with table, figure or appendix, got {table!r}.")


def say_doubts(result: Reproduction) -> str:
    """The banner: empty where numbers may be compared."""
    if result.is_comparable:
        return ""
    return "NOT COMPARABLE with the paper's numbers: " + "; ".join(result.doubts) + "."


def render_text(result: Reproduction) -> str:
    """The table for a screen: title, banner, sheets, notes."""
    blocks = [f"{name_table(result.table)}. {result.title}"]
    if not result.is_comparable:
        blocks.append(fill(say_doubts(result), 100, initial_indent="!! ", subsequent_indent="!! "))
    blocks += [_align(sheet) for sheet in make_sheets(result)]
    blocks.append(
        "\n".join(
            fill(note, 100, initial_indent="* ", subsequent_indent="  ") for note in result.notes
        )
    )
    return "\n\n".join(blocks)


def write_reproduction(result: Reproduction, out: str | Path) -> list[Path]:
    """Write ``<table>.csv`` and ``<table>.html`` into a folder, atomically.

    Returns:
        The two paths. ``comparable`` is the first column of the CSV.
    """
    out = Path(out)
    csv = result.frame.to_csv(index=False)
    return [
        write_atomically(out / f"{result.table}.csv", csv.encode()),
        write_atomically(out / f"{result.table}.html", render_page(result).encode()),
    ]


# ---------------------------------------------------------------------- sheets


def make_sheets(result: Reproduction) -> list[Sheet]:
    """The numbers of a reproduction as words."""
    if result.kind == "groups":
        return _group_sheets(result.frame)
    if result.kind == "gains":
        return _gain_sheets(result.frame)
    return [_number_sheet(part, rows, result) for part, rows in _by_part(result.frame)]


def _by_part(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return list(frame.groupby("part", sort=False))


def _number_sheet(part: str, rows: pd.DataFrame, result: Reproduction) -> Sheet:
    """A line a row of the paper's; of every quantity the paper's number, ours, and the difference."""
    head, of_paper = ["K", "strategy" if result.table == "tableA3" else "method"], set()
    lines: dict[tuple[str, str], list[str]] = {}
    for quantity, own in rows.groupby("quantity", sort=False):
        how = describe(result.table, quantity, part)
        of_paper.add(len(head))
        if result.is_comparable:
            head += [f"{how.label}: paper", "ours", "difference"]
        else:
            head += [f"{how.label}: (paper)", "ours"]
        for row in own.to_dict("records"):
            ours = _number(row["ours"], how.format)
            ours += "" if isnan(row["spread"]) else f" ± {_number(row['spread'], how.format)}"
            printed = _number(row["paper"], how.paper_format)
            words = [printed if result.is_comparable else f"({printed})", row["note"] or ours]
            if result.is_comparable:
                words.append(
                    f"{_number(row['difference'], how.format, sign='+')} {row['mark']}".strip()
                )
            lines.setdefault((_groups(row["groups"]), row["method"]), []).extend(words)
    width = len(head) - 2  # a row that lacks a quantity is filled up
    words = [[*key, *cells, *["-"] * (width - len(cells))] for key, cells in lines.items()]
    return Sheet(part, head, words, frozenset(of_paper))


def _groups(k: Any) -> str:
    import pandas as pd

    return "-" if pd.isna(k) else str(int(k))


def _number(value: float, how: str, *, sign: str = "") -> str:
    return "-" if isnan(value) else format(value, f"{sign}z{how}")  # z: no minus before a zero


def _group_sheets(frame: pd.DataFrame) -> list[Sheet]:
    """One sheet a K and method, a row a task: the paper's marks, then our groups of the first seed."""
    sheets = []
    for (k, method), own in frame.groupby(["groups", "method"], sort=False):
        inferred, ours = own[own["source"] == "inferred"], _first_seed(own)
        paper = own[own["source"] == "paper"]
        columns = [("paper, any group", _marks(paper))]
        for name, source in (("inferred", inferred), ("ours", ours)):
            columns += [
                (f"{name} {int(group)}", _marks(marks)) for group, marks in source.groupby("group")
            ]
        rows = [
            [task, *(marks.get(task, "") for _, marks in columns)] for task in own["task"].unique()
        ]
        of_paper = frozenset(
            n for n, (name, _) in enumerate(columns, start=1) if "ours" not in name
        )
        title = f"K = {k}, {method}" + ("" if len(ours) else ": no run of ours")
        sheets.append(Sheet(title, ["task", *(name for name, _ in columns)], rows, of_paper))
    return sheets


def _marks(lines: pd.DataFrame) -> dict[str, str]:
    return dict(zip(lines["task"], lines["mark"], strict=True))


def _first_seed(frame: pd.DataFrame) -> pd.DataFrame:
    ours = frame[frame["source"] == "ours"]
    return ours[ours["seed"] == ours["seed"].min()]


def _gain_sheets(frame: pd.DataFrame) -> list[Sheet]:
    """Tasks by their mean gain over seeds."""
    gains = frame.groupby("task", sort=False)["gain_error"].agg(["mean", "std"])
    gains = gains.sort_values("mean", ascending=False)
    rows = [
        [task, _number(row["mean"], ".2f", sign="+"), _number(row["std"], ".2f")]
        for task, row in gains.iterrows()
    ]
    title = (
        f"{(gains['mean'] > 0).sum()} of {len(gains)} tasks gain; mean "
        f"{gains['mean'].mean():+.2f} % "
        "(the paper: most of 40 tasks gain)"
    )
    return [Sheet(title, ["task", "NormGain_E %: ours", "spread"], rows)]


def _align(sheet: Sheet) -> str:
    """Columns side by side; words left, numbers right."""
    widths = [max(map(len, column)) for column in zip(sheet.head, *sheet.rows, strict=True)]
    n_names = 1 + max(n for n, word in enumerate(sheet.head) if word in NAMES)
    lines = []
    for row in [sheet.head, *sheet.rows]:
        words = [
            word.ljust(width) if n < n_names else word.rjust(width)
            for n, (word, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(words).rstrip())
    return "\n".join([*([f"{sheet.title}"] if sheet.title else []), *lines])


# ---------------------------------------------------------------------- pictures


def make_figures(result: Reproduction) -> list[go.Figure | None]:
    """A picture under each sheet, or None; those of groups show all methods of a K, under the last one's."""
    if result.kind == "groups":
        figures: list[go.Figure | None] = []
        for _, of_k in result.frame.groupby("groups", sort=False):
            figures += [None] * (of_k["method"].nunique() - 1) + [_plot_groups(of_k)]
        return figures
    if result.kind == "gains":
        return [plot_task_gains(result.frame, title="")]
    return [_plot_numbers(part, rows, result) for part, rows in _by_part(result.frame)]


def _plot_numbers(part: str, rows: pd.DataFrame, result: Reproduction) -> go.Figure | None:
    """One axis a quantity: ours as dots with whiskers, the paper's as hollow diamonds where that
    means
    anything."""
    if rows["ours"].isna().all():
        return None
    plotly = load_plotly()
    quantities = list(rows["quantity"].unique())
    fig = plotly.subplots.make_subplots(
        1, len(quantities), shared_yaxes=True, horizontal_spacing=0.04
    )
    n_lines = 0
    for column, quantity in enumerate(quantities, start=1):
        own, how = rows[rows["quantity"] == quantity], describe(result.table, quantity, part)
        lines = [
            to_label(f"{method}, K = {_groups(k)}" if _groups(k) != "-" else method)
            for method, k in zip(own["method"], own["groups"], strict=True)
        ]
        n_lines = max(n_lines, len(lines))
        if result.is_comparable:
            fig.add_scatter(
                x=own["paper"], y=lines, mode="markers", name="paper", showlegend=column == 1, row=1,
                col=column,
                marker={"symbol": "diamond-open", "size": 11, "color": GREY, "line": {"width": 2}},
                hovertemplate=f"%{{y}}: %{{x:{how.format}}}<extra>paper</extra>",
            )  # fmt: skip
        fig.add_scatter(
            x=own["ours"], y=lines, mode="markers", name="ours", showlegend=column == 1, row=1, col=column,
            marker={"size": 10, "color": GROUP_COLOURS[0]},
            error_x={"array": own["spread"], "color": GROUP_COLOURS[0], "thickness": 1.5, "width": 0},
            hovertemplate=f"%{{y}}: %{{x:{how.format}}}<extra>ours</extra>",
        )  # fmt: skip
        fig.update_xaxes(title={"text": how.label, "font_size": 13}, row=1, col=column)
    fig.update_yaxes(range=[n_lines - 0.5, -0.5], ticksuffix="  ", dtick=1)
    return apply_style(fig, height=26 * n_lines + 110)


def _plot_groups(of_k: pd.DataFrame) -> go.Figure | None:
    """Our groups of one K, a panel a method: tasks are rows, groups are columns."""
    ours, n_groups = _first_seed(of_k), int(of_k["groups"].iloc[0])
    methods, shown = list(ours["method"].unique()), set(ours["task"])
    tasks = [to_label(task) for task in of_k["task"].unique() if task in shown]
    if not methods:
        return None
    fig = load_plotly().subplots.make_subplots(
        1, len(methods), shared_yaxes=True, subplot_titles=methods, horizontal_spacing=0.03
    )
    for column, method in enumerate(methods, start=1):
        own = ours[ours["method"] == method]
        colours = [group_style(int(group) - 1)[0] for group in own["group"]]
        symbols = ["square" if mark == SERVED else "square-open" for mark in own["mark"]]
        fig.add_scatter(
            x=own["group"], y=[to_label(task) for task in own["task"]], mode="markers", row=1, col=column,
            marker={"size": 15, "color": colours, "symbol": symbols, "line": {"width": 2}}, showlegend=False,
            hovertemplate="%{y}, group %{x}<extra></extra>",
        )  # fmt: skip
        fig.update_xaxes(range=[0.5, n_groups + 0.5], dtick=1, title="group", row=1, col=column)
    fig.update_yaxes(
        categoryorder="array",
        categoryarray=tasks,
        range=[len(tasks) - 0.5, -0.5],
        ticksuffix="  ",
        dtick=1,
    )
    apply_style(fig, height=28 * len(tasks) + 120)
    return fig.update_annotations(font_size=14)


# ---------------------------------------------------------------------- page

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.banner { border: 2px solid #D55E00; border-radius: .4rem; padding: .6rem 1rem; font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #76767655; white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; }
th.name, td.name { text-align: left; }
.paper { color: #767676; }
.strange { font-style: italic; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
li, footer { color: #767676; }
"""


def render_page(result: Reproduction) -> str:
    """One HTML page that needs nothing else: banner, sheets, pictures, notes."""
    load_plotly()
    from plotly.offline import get_plotlyjs

    name = name_table(result.table)
    parts = [f"<h1>{name}, reproduced</h1>", f"<p>{html.escape(result.title)}</p>"]
    if not result.is_comparable:
        parts.append(f'<p class="banner" role="alert">{html.escape(say_doubts(result))}</p>')
    for n, (sheet, figure) in enumerate(
        zip(make_sheets(result), make_figures(result), strict=True)
    ):
        parts.append(_render_sheet(sheet, result))
        if figure is not None:
            options = {
                "full_html": False,
                "include_plotlyjs": False,
                "config": {"responsive": True},
            }
            parts.append(figure.to_html(div_id=f"picture{n}", **options))
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.notes)
    parts.append(f"<h2>Notes</h2><ul>{notes}</ul>")
    parts.append(f"<footer>The paper: {html.escape(load_paper()['source'])}</footer>")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{name}</title>'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _render_sheet(sheet: Sheet, result: Reproduction) -> str:
    strange = "" if result.is_comparable else " strange"

    def cell(word: str, column: int, tag: str = "td") -> str:
        kind = f"paper{strange}" if column in sheet.of_paper else ""
        kind += " name" if sheet.head[column] in NAMES else ""
        return f'<{tag} class="{kind.strip()}">{html.escape(word)}</{tag}>'

    head = "".join(cell(word, n, "th") for n, word in enumerate(sheet.head))
    body = "".join(
        "<tr>" + "".join(cell(word, n) for n, word in enumerate(words)) + "</tr>"
        for words in sheet.rows
    )
    title = f"<h2>{html.escape(sheet.title)}</h2>" if sheet.title else ""
    return f'{title}<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
