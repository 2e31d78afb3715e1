"""What finished runs say, as tidy rows beside the paper's: numbers, groups, gains, costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from dmtg_lite.core.config import list_decisive
from dmtg_lite.runs.load import read_numbers
from dmtg_lite.runs.metrics import sum_errors, total
from dmtg_lite.studies.cells import Numbers
from dmtg_lite.studies.paper.costs import Costs, count_costs
from dmtg_lite.studies.paper.runs import Results, Row, Setting, find_runs
from dmtg_lite.studies.paper.specs import SUITE_OF, TASKS, Spec, describe
from dmtg_lite.studies.tables import compute_gains, tabulate_tasks

if TYPE_CHECKING:
    import pandas as pd

Line = dict[str, Any]  # of the tidy table
SERVED = "■"  # the paper's mark of a task in the group that serves it
ELSEWHERE = "□"  # and in another that it was trained in


def tabulate_numbers(rows: Sequence[Row], spec: Spec, results: Results) -> list[Line]:
    """A line a row of the paper, task and quantity: the mean over seeds beside what is printed."""
    names = [task.name for task in TASKS[spec.suite]]
    wanted = [*product(names, spec.by_task), *product([""], spec.quantities)]
    lines = []
    for row in rows:
        measured = [_measure(*pair) for pair in find_runs(row, results)]
        note = "" if measured or row.known else "failed"
        for part, quantity in wanted:
            printed = row.paper.get(part, row.paper)
            printed = printed.get("gflops" if quantity == "gmacs" else quantity)
            ours = [values.get((part, quantity), nan) for values in measured]
            ours = [row.known[quantity]] if quantity in row.known else ours
            k = row.paper.get("groups", spec.k)
            lines.append(_line(k, row.label, part, quantity, printed, ours, note))
    return lines


def _measure(run: Numbers, reference: Numbers | None) -> dict[tuple[str, str], float]:
    """Every quantity of a run, by task (or "" for the whole) and name."""
    by_task = {"loss": run["task_losses"], "metric": run["task_errors"]}
    values = {
        ("", "total_loss"): total(run["task_losses"]),
        ("", "total_error"): sum_errors(run["task_errors"], run["metrics"]),
        ("", "hours"): run["seconds"]["wall"] / 3600,
    }
    if reference is not None and run["method"] != "naive":  # nothing to gain over itself
        gains = compute_gains(run, reference)
        by_task["norm_gain_error"], by_task["norm_gain_loss"] = gains
        for quantity in ("norm_gain_error", "norm_gain_loss"):
            values["", quantity] = fmean(by_task[quantity].values())
    return values | {(name, q): v for q, own in by_task.items() for name, v in own.items()}


def _line(
    k: int | None,
    label: str,
    part: str,
    quantity: str,
    printed: float | None,
    ours: Sequence[float],
    note: str = "",
) -> Line:
    return {
        "groups": k, "method": label, "part": part, "quantity": quantity,
        "paper": nan if printed is None else printed,
        "ours": float(np.mean(ours)) if ours else nan,
        "spread": float(np.std(ours, ddof=1)) if len(ours) > 1 else nan,
        "seeds": len(ours), "note": note,
    }  # fmt: skip


def add_ratio(lines: Sequence[Line]) -> Line:
    """CelebA-40 over CelebA-9."""
    hours = {line["method"]: line for line in lines}
    printed, ours = (hours["celeba40"][name] / hours["celeba9"][name] for name in ("paper", "ours"))
    return _line(5, "celeba40 / celeba9", "", "ratio", printed, [ours])


def make_frame(table: str, lines: Sequence[Line], is_comparable: bool) -> pd.DataFrame:
    """Tidy lines with what is the same in all; a difference only where it means something."""
    import pandas as pd

    rows = [{"comparable": is_comparable, "table": table, **line} for line in lines]
    if "ours" not in rows[0]:
        return pd.DataFrame(rows)
    for row in rows:
        row["difference"] = row["ours"] - row["paper"] if is_comparable else nan
        row["mark"] = _mark(table, row)
        row["note"] = row.pop("note")  # the last column
    return pd.DataFrame(rows).astype({"groups": "Int64"})


def _mark(table: str, row: Line) -> str:
    """Ours against the paper's: "same" in the digits printed, "within spread", better or worse."""
    how = describe(table, row["quantity"], row["part"])
    if isnan(row["difference"]) or how.higher_is_better is None:
        return ""
    if format(row["ours"], how.paper_format) == format(row["paper"], how.paper_format):
        return "same"
    if abs(row["difference"]) <= row["spread"]:  # never true of one seed, whose spread is nan
        return "within spread"
    return "better" if (row["difference"] > 0) == how.higher_is_better else "worse"


# ---------------------------------------------------------------------- groups and gains


def mark_groups(
    trained: Sequence[Sequence[str]], served: Sequence[Sequence[str]]
) -> list[dict[str, str]]:
    """The paper's marks: for each trained group ``{task: mark}``.

    Trained groups may overlap; ``served`` is who is served by one of them in the end: a partition
    of the tasks, in the order of ``trained``, without groups that serve nobody.
    """
    waiting = [list(group) for group in served]
    marks = []
    for group in trained:
        own = waiting.pop(0) if waiting and set(waiting[0]) <= set(group) else []
        marks.append({name: SERVED if name in own else ELSEWHERE for name in group})
    return marks


def tabulate_groups(rows: Sequence[Row], spec: Spec, results: Results) -> list[Line]:
    """A line a mark: the paper's cells without a group, groups inferred from them, and ours."""
    lines = []
    for row in rows:
        found = [("paper", None, None, *mark) for mark in row.paper["marks"].items()]
        inferred = enumerate(row.paper["inferred_groups"] or [], start=1)
        found += [("inferred", None, n, task, SERVED) for n, own in inferred for task in own]
        for run, _ in find_runs(row, results):
            groups = list(enumerate(mark_groups(run["trained_groups"], run["groups"]), start=1))
            seed, order = run["config"]["seed"], run["metrics"]  # of the tasks in the suite
            found += [("ours", seed, n, t, own[t]) for t in order for n, own in groups if t in own]
        names = ("source", "seed", "group", "task", "mark")
        of_row = {"groups": row.cell.k, "method": row.label}
        lines += [of_row | dict(zip(names, mark, strict=True)) for mark in found]
    return lines


def tabulate_gains(rows: Sequence[Row], spec: Spec, results: Results) -> list[Line]:
    """A line a run and task."""
    pairs = [pair for row in rows for pair in find_runs(row, results)]
    table = tabulate_tasks([one for pair in pairs for one in pair if one is not None])
    return [line for line in table.to_dict("records") if line["method"] != "naive"]


# ---------------------------------------------------------------------- costs


def tabulate_costs(printed: Sequence[Line], setting: Setting, folder: Path) -> list[Line]:
    """Table A1: multiply-adds by counting, hours of the finished runs that a folder holds."""
    finished = [read_numbers(path) for path in sorted(folder.glob("*.json"))]

    @cache
    def count(suite: str) -> Costs:
        config = setting.config(suite)
        shared = 1 if suite == "celeba9" else config.shared
        shape = setting.image_shape(suite)
        return count_costs(TASKS[suite], shape, replace(config, shared=shared))

    lines = []
    for paper in printed:
        suite, k = SUITE_OF[paper["backbone"]], paper["groups"]
        costs = count(suite)
        label = f"{paper['experiment']}, {setting.config(suite).encoder}"
        counted = {"hoa": costs.hoa(k), "tag": costs.tag(k), "dmtg": costs.dmtg(k)}
        for method, macs in counted.items():
            hours = _find_hours(finished, setting, suite, method, k)
            gflops, part = paper[f"{method}_gflops"], method.upper()
            lines.append(_line(k, label, part, "gmacs", gflops, [macs / 1e9]))
            lines.append(_line(k, label, part, "hours", paper[f"{method}_hours"], hours))
        share, ours = paper["heads_flops_portion_percent"], 100 * costs.heads / costs.naive
        lines.append(_line(k, label, "heads", "percent", share, [ours]))
    return lines


def _find_hours(
    finished: Sequence[Numbers], setting: Setting, suite: str, method: str, k: int
) -> list[float]:
    """Wall hours of the runs of this method, K and config, one per seed."""
    name = suite.removesuffix("_vit")
    if setting.is_toy:
        name = "toy_rooms" if TASKS[suite][0].is_dense else "toy_faces"
    config = list_decisive(asdict(setting.config(suite)))
    config = json.loads(json.dumps(config))  # tuples are lists there
    return [
        run["seconds"]["wall"] / 3600
        for run in finished
        if (run["method"], run.get("k"), run["data"]) == (method, k, name)
        and list_decisive(run["config"]) | {"seed": config["seed"]} == config
    ]
