"""Finished runs as tidy rows beside the paper's: numbers, groups, gains of tasks, costs. Needs pandas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from dmtg_lite.runs.metrics import pair_gains, sum_errors, total
from dmtg_lite.studies.paper.costs import Costs, count_costs
from dmtg_lite.studies.paper.plan import Results, Row, find_runs
from dmtg_lite.studies.paper.setting import Setting
from dmtg_lite.studies.paper.specs import SUITE_OF, TASKS, Spec, describe
from dmtg_lite.studies.tables import tabulate_tasks

if TYPE_CHECKING:
    import pandas as pd


def _measure(run: dict[str, Any]) -> dict[tuple[str, str], float]:
    """Every quantity of a run, by task (or "" for the whole) and name."""
    values = {
        ("", "total_loss"): total(run["task_losses"]),
        ("", "total_error"): sum_errors(run["task_errors"], run["metrics"]),
        ("", "hours"): run["seconds"]["wall"] / 3600,
    }
    values |= {(name, "loss"): loss for name, loss in run["task_losses"].items()}
    values |= {(name, "metric"): error for name, error in run["task_errors"].items()}
    reference = run["reference"]
    if reference is None or run["method"] == "naive":  # nothing to gain over itself
        return values
    loss_gains = pair_gains(run["task_losses"], reference["task_losses"])
    error_gains = pair_gains(run["task_errors"], reference["task_errors"], run["metrics"])
    for quantity, gains in (("norm_gain_loss", loss_gains), ("norm_gain_error", error_gains)):
        values |= {(name, quantity): gain for name, gain in gains.items()}
        values[("", quantity)] = fmean(gains.values())
    values[("", "avg_norm_gain_error")] = values[("", "norm_gain_error")]
    return values


def tabulate_numbers(
    planned: Sequence[Row], spec: Spec, results: Results, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One line a row of the paper, task and quantity: the mean over seeds beside what is printed."""
    names = [task.name for task in TASKS[spec.suite]]
    wanted = [(name, quantity) for name in names for quantity in spec.by_task]
    wanted += [("", quantity) for quantity in spec.quantities]
    rows = []
    for row in planned:
        measured = [_measure(run) for run in find_runs(row, results, seeds)]
        note = "" if measured or row.known else "failed" if row.is_available else "not available"
        for part, quantity in wanted:
            printed = row.paper.get(part, row.paper).get(
                "gflops" if quantity == "gmacs" else quantity
            )
            ours = [values.get((part, quantity), nan) for values in measured]
            ours = [row.known[quantity]] if quantity in row.known else ours
            rows.append(
                _line(
                    row.paper.get("groups", spec.k), row.label, part, quantity, printed, ours, note
                )
            )
    return rows


def _line(
    groups: int | None, label: str, part: str, quantity: str, printed: float | None, ours: Sequence[float],
    note: str = "",
) -> dict[str, Any]:  # fmt: skip
    return {
        "groups": groups, "method": label, "part": part, "quantity": quantity,
        "paper": nan if printed is None else printed, "ours": float(np.mean(ours)) if ours else nan,
        "spread": float(np.std(ours, ddof=1)) if len(ours) > 1 else nan, "seeds": len(ours), "note": note,
    }  # fmt: skip


def add_ratio(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """CelebA-40 over CelebA-9."""
    hours = {row["method"]: row for row in rows}
    printed, ours = (hours["celeba40"][name] / hours["celeba9"][name] for name in ("paper", "ours"))
    return _line(5, "celeba40 / celeba9", "", "ratio", printed, [ours])


def make_frame(table: str, rows: Sequence[dict[str, Any]], is_comparable: bool) -> pd.DataFrame:
    """Tidy rows with what is the same in all; a difference only where it means something."""
    import pandas as pd

    frame = pd.DataFrame([{"comparable": is_comparable, "table": table, **row} for row in rows])
    if "ours" not in frame:
        return frame
    frame["groups"] = frame["groups"].astype("Int64")
    differences = frame["ours"] - frame["paper"] if is_comparable else frame["ours"] * nan
    marks = [
        _mark(table, row, difference) for row, difference in zip(rows, differences, strict=True)
    ]
    frame.insert(frame.columns.get_loc("note"), "difference", differences)
    frame.insert(frame.columns.get_loc("note"), "mark", marks)
    return frame


def _mark(table: str, row: dict[str, Any], difference: float) -> str:
    """Ours against the paper's: "same" in the digits printed, "within spread", "better" or "worse"."""
    quantity = describe(table, row["quantity"], row["part"])
    if isnan(difference) or quantity.higher_is_better is None:
        return ""
    if format(row["ours"], quantity.paper_format) == format(row["paper"], quantity.paper_format):
        return "same"
    if abs(difference) <= row["spread"]:  # never true of one seed, whose spread is nan
        return "within spread"
    return "better" if (difference > 0) == quantity.higher_is_better else "worse"


# ---------------------------------------------------------------------- groups and gains

SERVED = "■"  # the paper's mark of a task in the group that serves it
ELSEWHERE = "□"  # and in another that it was trained in


def mark_groups(
    trained: Sequence[Sequence[str]], served: Sequence[Sequence[str]]
) -> list[dict[str, str]]:
    """The paper's marks: for each trained group ``{task: mark}``.

    Args:
        trained: The groups that were trained; they may overlap.
        served: Who is served by one of them in the end: a partition of the tasks, in the order of
            ``trained``, without groups that serve nobody.
    """
    waiting = [list(group) for group in served]
    marks = []
    for group in trained:
        own = waiting.pop(0) if waiting and set(waiting[0]) <= set(group) else []
        marks.append({name: SERVED if name in own else ELSEWHERE for name in group})
    return marks


def tabulate_groups(
    planned: Sequence[Row], spec: Spec, results: Results, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One line a mark: the paper's cells without a group, the groups inferred from them, and ours."""
    rows = []
    for row in planned:
        line = {"groups": row.k, "method": row.label}
        for task, marks in row.paper["marks"].items():
            rows.append(
                line | {"source": "paper", "seed": None, "group": None, "task": task, "mark": marks}
            )
        for group, tasks in enumerate(row.paper["inferred_groups"] or (), start=1):
            for task in tasks:
                rows.append(
                    line
                    | {
                        "source": "inferred",
                        "seed": None,
                        "group": group,
                        "task": task,
                        "mark": SERVED,
                    }
                )
        for run in find_runs(row, results, seeds):
            own = line | {"source": "ours", "seed": run["seed"]}
            marks = mark_groups(run["trained_groups"], run["groups"])
            rows += [
                own | {"group": group, "task": task, "mark": of_group[task]}
                for task in run["metrics"]  # the order of the suite
                for group, of_group in enumerate(marks, start=1)
                if task in of_group
            ]
    return rows


def tabulate_gains(
    planned: Sequence[Row], spec: Spec, results: Results, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One line a run and task."""
    runs = [run for row in planned for run in find_runs(row, results, seeds)]
    if not runs:
        return []
    table = tabulate_tasks([run["reference"] for run in runs] + runs)
    return table[table["method"] != "naive"].to_dict("records")


# ---------------------------------------------------------------------- costs


def tabulate_costs(
    printed: Sequence[dict[str, Any]], setting: Setting, folder: Path
) -> list[dict[str, Any]]:
    """Table A1: multiply-adds by counting, hours of the finished runs that a folder holds."""
    finished = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    ]
    counted: dict[str, Costs] = {}
    rows = []
    for paper in printed:
        suite, k = SUITE_OF[paper["backbone"]], paper["groups"]
        config = setting.config(suite)
        if suite not in counted:
            shared = 1 if suite == "celeba9" else config.shared
            counted[suite] = count_costs(
                TASKS[suite], setting.image_shape(suite), replace(config, shared=shared)
            )
        costs, label = counted[suite], f"{paper['experiment']}, {config.encoder}"
        for part, method, count in (
            ("HOA", "hoa", costs.hoa),
            ("TAG", "tag", costs.tag),
            ("DMTG", "dmtg", costs.dmtg),
        ):
            hours = _find_hours(finished, setting, suite, method, k)
            rows += [
                _line(k, label, part, "gmacs", paper[f"{method}_gflops"], [count(k) / 1e9]),
                _line(k, label, part, "hours", paper[f"{method}_hours"], hours),
            ]
        share = paper["heads_flops_portion_percent"]
        rows.append(_line(k, label, "heads", "percent", share, [costs.heads_percent]))
    return rows


def _find_hours(
    finished: Sequence[dict[str, Any]], setting: Setting, suite: str, method: str, k: int
) -> list[float]:
    """Wall hours of the runs of this method, K and config, one per seed."""
    dense = TASKS[suite][0].is_dense
    name = ("toy_rooms" if dense else "toy_faces") if setting.is_toy else suite.removesuffix("_vit")
    wanted = json.loads(
        json.dumps(asdict(setting.config(suite)) | {"seed": None})
    )  # tuples are lists there
    return [
        run["seconds"]["wall"] / 3600
        for run in finished
        if (run["method"], run["k"], run["data"]) == (method, k, name)
        and run["config"] | {"seed": None} == wanted
    ]
