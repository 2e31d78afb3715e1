"""A `Report` on one page: as text that any terminal shows, and as HTML without a script."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from math import floor, isfinite, isnan, log10
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import NamedTuple

import numpy as np

from dmtg_lite.core.tasks import METRIC_LABELS
from dmtg_lite.files import write_atomically
from dmtg_lite.runs.metrics import compute_interval, relative_error
from dmtg_lite.runs.report import CONTROLS, RULE, Interval, Report

WIDTH = 100  # characters of a line
MANY = 16  # tasks; beyond, a matrix of pairs is no longer read
STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1a1a1a; --faint: #5f5f5f; }
@media (prefers-color-scheme: dark) {
  :root { --page: #111418; --ink: #f0f0f0; --faint: #b0b0b0; }
}
html { background: var(--page); color: var(--ink); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #76767655; white-space: nowrap; }
tr :is(th, td) { text-align: right; }
th { vertical-align: bottom; white-space: normal; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
"""
_OWN_STYLE = """
.dmtg-report .verdict { font-size: 1.3rem; font-weight: 600; }
.dmtg-report tr :is(th, td).name { text-align: left; }
.dmtg-report .warning { border-left: .3rem solid #D55E00; padding-left: .7rem; }
.dmtg-report .faint { color: var(--jp-ui-font-color2, var(--faint)); }
"""


class Section(NamedTuple):
    """A part of the page: a title, lines, a table whose first row are heads, and a note."""

    title: str
    lines: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    note: str = ""
    n_names: int = 1  # columns of the table that are names: to the left; numbers to the right


def render_text(report: Report) -> str:
    """The page for a screen; whatever is not a name of the reader's is ASCII."""
    blocks = [_head(report), f"VERDICT: {_say_verdict(report)}"]
    blocks[1] += "".join(f"\n{_wrap(reason, '  * ')}" for reason in report.reasons)
    blocks += [_wrap(warning, "!! ") for warning in _list_warnings(report)]
    for part in list_sections(report):
        lines = [f"--- {part.title}", *(_wrap(line) for line in part.lines)]
        lines += [align(part.table, part.n_names)] if part.table else []
        lines += [_wrap(part.note)] if part.note else []
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, _wrap(f"The rule. {RULE}")])


def render_html(report: Report) -> str:
    """The same as a piece of HTML; every text is escaped."""
    parts = [f"<h1>{html.escape(_head(report))}</h1>"]
    parts.append(f'<p class="verdict">Verdict: {_say_verdict(report)}</p>')
    parts.append(_list_items(report.reasons))
    parts += [f'<p class="warning">{html.escape(one)}</p>' for one in _list_warnings(report)]
    for part in list_sections(report):
        parts.append(f"<h2>{html.escape(part.title)}</h2>")
        parts += [f"<p>{html.escape(line)}</p>" for line in part.lines]
        parts += [draw_table(part.table, part.n_names, part.title)] if part.table else []
        parts += [f'<p class="faint">{html.escape(part.note)}</p>'] if part.note else []
    parts.append(f'<p class="faint">The rule. {html.escape(RULE)}</p>')
    return f'<style>{_OWN_STYLE}</style><div class="dmtg-report">{"".join(parts)}</div>'


def write_report(report: Report, path: str | Path) -> Path:
    """Write the page; ``.html`` or ``.txt``, or it is refused."""
    path = Path(path)
    if path.suffix not in (".html", ".txt"):
        raise ValueError(f"`path` must end in .html or .txt, got {path}.")
    text = f"{report}\n"
    if path.suffix == ".html":
        text = make_page(_head(report), render_html(report))
    return write_atomically(path, text.encode(errors="replace"))  # half a character is "?"


def make_page(title: str, body: str, *, style: str = "", head: str = "") -> str:
    """One HTML document that needs nothing else; ``body`` is HTML, ``title`` is text."""
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style>{head}</head>"
        f"<body><main>{body}</main></body></html>"
    )


def make_scrollable(table: str, name: str) -> str:
    """A table that a narrow screen scrolls sideways, by keyboard too; ``name`` is text."""
    name = html.escape(name, quote=True)
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{name}">{table}</div>'


# ---------------------------------------------------------------------- what it says


def list_sections(report: Report) -> list[Section]:
    """The page from the groups down, as words."""
    parts = [_show_groups(report), _show_pairs(report), _show_tasks(report), _show_totals(report)]
    return [part for part in [*parts, _show_closings(report), _show_runs(report)] if part]


def _head(report: Report) -> str:
    first, n = report.own[0], len(report.metrics)
    return f"{first['data']}: do its {n} task{'s' * (n != 1)} belong in groups?"


def _say_verdict(report: Report) -> str:
    return "grouping " * (report.verdict != "undecided") + report.verdict


def _list_warnings(report: Report) -> list[str]:
    """What to know before one reads on."""
    warnings = []
    if report.unlearned:
        warnings.append(
            f"Not clearly better than the best constant answer, over all seeds: "
            f"{', '.join(report.unlearned)}. What groups say of tasks that were not learned means "
            "nothing: look at encoder, capacity, lr and steps first."
        )
    return warnings + [f"A run failed. {failed}" for failed in report.failed]


def _show_groups(report: Report) -> Section:
    groups, n_seeds = report.groups, len(report.own)
    lines = [f"{k}: {', '.join(group)}" for k, group in enumerate(groups, start=1)]
    note, planted = "", report.typical["agreement"]
    if n_seeds > 1:
        counts = Counter(len(one["groups"]) for one in report.own)
        numbers = ", ".join(f"{k} in {n}" for k, n in sorted(counts.items()))
        note = (
            f"Those of seed {report.typical['config']['seed']}, the most like all others; exactly "
            f"these in {report.n_same} of {n_seeds} seeds. Number of groups, in so many seeds: "
            f"{numbers}. Mutual agreement {report.agreement:.2f} (1 the same, 0 chance)."
        )
    if planted is not None:
        mean = fmean(one["agreement"] for one in report.own)
        note += f" Agreement with the groups that the data were made with: {mean:.2f}."
    return Section(f"Groups found by {report.method}", lines, note=note.lstrip())


def _show_pairs(report: Report) -> Section | None:
    if len(report.own) < 2 or not 2 < len(report.metrics) <= MANY:
        return None
    names = [name for group in report.groups for name in group]
    rows = [["", *(str(n) for n in range(1, len(names) + 1))]]
    for n, (name, row) in enumerate(zip(names, report.together, strict=True), start=1):
        shares = [f"{100 * share:.0f}" if n != m else "" for m, share in enumerate(row, start=1)]
        rows.append([f"{n} {name}", *shares])
    return Section("Pairs: in how many percent of the seeds two tasks are in one group", (), rows)


def _show_tasks(report: Report) -> Section:
    group_of = {name: k for k, group in enumerate(report.groups, start=1) for name in group}
    rows = [["task", "group", "error in", "constant", *report.methods]]
    for name in sorted(group_of, key=group_of.__getitem__):
        constant, label = report.constant[name], METRIC_LABELS[report.metrics[name]]
        errors = [report.errors(method, name) for method in report.methods]
        digits = count_digits([error.mean for error in errors] + [constant or 0.0])
        told = [_show(error, digits) for error in errors]
        fixed = "-" if constant is None else tell(constant, digits)
        rows.append([name, str(group_of[name]), label.removeprefix("error, "), fixed, *told])
    own = [one for one in report.methods if one in CONTROLS]
    legend = ", ".join(f"{name}: {CONTROLS[name]}" for name in own)
    note = "constant: the best answer that looks at no feature" + f"; {legend}" * bool(own) + "."
    n_seeds = len(report.own)
    seeds = f", mean +- half its 95 % interval over {n_seeds} seeds" if n_seeds > 1 else ""
    n_test = report.own[0]["n_test"]
    return Section(f"Error of every task on {n_test} test rows{seeds}", (), rows, note, 3)


def _show_totals(report: Report) -> Section:
    rows = [["method", "error left, %", "gain of " + report.method, "groups", "cost"]]
    constant = {task: error for task, error in report.constant.items() if error is not None}
    for method in report.methods:
        runs, gain = list(report.select(method).values()), report.gain(method)
        left = [relative_error(one["task_errors"], one["metrics"], constant) for one in runs]
        rows.append(
            [
                method,
                _show(Interval(*compute_interval(np.array(left)), len(left)), 1),
                "-" if not gain.n_seeds else f"{_show(gain, 1)} %",
                f"{fmean(len(one['groups']) for one in runs):.2g}",
                f"{fmean(one['encoder_cost'] for one in runs):.1f}",
            ]
        )
    note = (
        "error left: of the constant answers' total error; gain: by how much the error of "
        f"{report.method} is below it; cost: encoder work in training, of Naive MTL's."
    )
    return Section("All tasks together", (), rows, note)


def _show_closings(report: Report) -> Section | None:
    elbows = {one["config"]["seed"]: one["elbow"] for one in report.own if one.get("elbow")}
    if not elbows:
        return None
    most = max(max(elbow["n_branches"], default=1) for elbow in elbows.values())
    rows = [["seed", *(f"{n} to {n - 1}" for n in range(most, 1, -1)), "K"]]
    for seed, elbow in elbows.items():
        costs = dict(zip(elbow["n_branches"], elbow["costs"], strict=True))
        told = [f"{costs[n]:.3f}" if n in costs else "-" for n in range(most, 1, -1)]
        rows.append([str(seed), *told, str(elbow["n_groups"])])
    note = (
        "By how much the summed training loss rises when one branch fewer is left; K: where that "
        "rises most. Some rise is always the largest: no rise to speak of, no groups."
    )
    return Section("Closing costs", (), rows, note)


def _show_runs(report: Report) -> Section:
    seconds = sum(one["seconds"]["wall"] for one in report.runs if "failed" not in one)
    seeds = ", ".join(str(seed) for seed in report.select(report.method))
    lines = [f"Seeds {seeds} of {report.method}; {seconds:.0f} s of training in all."]
    lines += [note] if (note := report.own[0]["note"]) else []
    note = (
        "Seeds differ in weights, batches and noise, not in the data: what another test set would "
        "say is not in the intervals."
    )
    return Section("What was run", lines, note=f"{note} {_tell_encoders(report)}")


def _tell_encoders(report: Report) -> str:
    """At which capacity gains are measured: in a wide network groups hardly matter."""
    config = report.own[0]["config"]
    told = f"Encoders are {config['encoder']!r} of capacity {config['capacity']}"
    alone = next(iter(report.select("naive").values()), report.own[0])["config"]
    if alone["capacity"] != config["capacity"]:
        return f"{told}, Naive MTL's of {alone['capacity']}, with room for all tasks."
    return (
        f"{told}, Naive MTL's too: one network that is wider may do as well as the groups. Try "
        "methods.naive(data, 1), whose recipe has room for all tasks, or another capacity."
    )


# ---------------------------------------------------------------------- words


def count_digits(values: Iterable[float]) -> int:
    """Decimals that give the largest of some numbers three digits that count; -1: by exponent."""
    largest = max((abs(value) for value in values if isfinite(value)), default=0.0)
    digits = 2 - floor(log10(largest)) if largest > 0 else 1
    return max(0, digits) if -4 < digits < 7 else -1


def tell(value: float, digits: int) -> str:
    """A number with so many decimals, see `count_digits`; a dash for nan."""
    return "-" if isnan(value) else f"{value:.{digits}f}" if digits >= 0 else f"{value:.2e}"


def _show(one: Interval, digits: int) -> str:
    spread = "" if isnan(one.half) else f" +- {tell(one.half, digits)}"
    return tell(one.mean, digits) + spread


def _wrap(text: str, first: str = "") -> str:
    """Lines of the page's width; text without spaces is not cut."""
    return fill(
        text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def align(rows: Sequence[Sequence[str]], n_names: int) -> str:
    """A table of words for a screen: its first columns are names, to the left; numbers follow."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pads = [str.ljust] * n_names + [str.rjust] * (len(widths) - n_names)
    return "\n".join(
        "  ".join(pad(*cell) for pad, cell in zip(pads, zip(row, widths, strict=True), strict=True))
        .rstrip() for row in rows
    )  # fmt: skip


def _list_items(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"


def draw_table(table: Sequence[Sequence[str]], n_names: int, title: str) -> str:
    """Rows of text as an HTML table, its first row heads; see `Section`."""

    def row(cells: Sequence[str], tag: str) -> str:
        looks = [' class="name"' * (n < n_names) for n in range(len(cells))]
        return "".join(
            f"<{tag if cell else 'td'}{look}>{html.escape(cell)}</{tag if cell else 'td'}>"
            for look, cell in zip(looks, cells, strict=True)
        )

    heads, *rows = table
    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    whole = f"<table><thead><tr>{row(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    return make_scrollable(whole, title)
