"""The question of whoever has tasks: do mine belong in groups? Runs what an answer needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dmtg_lite.core.checks import describe
from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.recipe import choose_recipe, settle_config
from dmtg_lite.runs.jobs import Workers
from dmtg_lite.runs.metrics import load_scipy_stats
from dmtg_lite.runs.report import Report
from dmtg_lite.runs.run import Run
from dmtg_lite.studies.cells import Cell, run_cells
from dmtg_lite.studies.compare import plan_comparison


def report(
    data: TaskData,
    n_groups: NGroups = "auto",
    *,
    seeds: Iterable[int] = range(5),
    config: TrainConfig | None = None,
    methods: Sequence[str] = ("naive", "stl", "random"),
    folder: str | Path | None = None,
    jobs: int | Workers = 1,
    progress: bool = False,
) -> Report:
    """Train DMTG and what it must be measured against, and judge by a stated rule.

    Per seed one run of DMTG, Naive MTL (one network for all tasks), STL (a network for each) and
    of random groups, as many as DMTG found with that seed: branches alone are capacity, which the
    groups must beat.

    Args:
        data: The tasks and their features.
        n_groups: K, or ``"auto"``: read off the closing costs.
        seeds: One run per seed and method: three or more for a verdict.
        config: ``None``: the recipe for these data and K, and for Naive MTL the one that it has
            alone, with room for all tasks: else groups would win by their encoders being small.
        methods: What stands beside DMTG; without ``"stl"`` many tasks are cheaper.
        folder, jobs, progress: See `cells.run_cells`; with a folder a report that was interrupted
            goes on, and one that was finished is read.

    Returns:
        A `Report`: ``print`` it, show it in a notebook, or `Report.save` it as a page.

    Raises:
        ValueError: If the data have fewer than two tasks, or DMTG cannot be asked for that.
        ImportError: If scipy is not there.
    """
    if len(data.tasks) < 2:
        raise ValueError(f"`data` has one task, {data.task_names}: there is nothing to group.")
    if not isinstance(seeds, Iterable):
        raise ValueError(f"`seeds` must be several, e.g. range(5), got {describe(seeds)}.")
    seeds = list(seeds)
    first = [name for name in methods if name != "random"]
    alone = config or choose_recipe(data, 1)  # of Naive MTL
    config = settle_config(data, n_groups, config)
    # what is wrong is said here, not after hours of what DMTG is compared with
    load_scipy_stats()
    Run(data, config, n_groups)
    cells = [
        replace(cell, config=replace(alone, seed=cell.config.seed))
        if cell.method == "naive"
        else cell
        for cell in plan_comparison(data, [*first, "dmtg"], [n_groups], seeds, config)
    ]
    how: dict[str, Any] = {"folder": folder, "jobs": jobs, "progress": progress}
    runs = run_cells(cells, data, **how)
    found = {
        one["config"]["seed"]: len(one["groups"])
        for one in runs
        if one["method"] == "dmtg" and "failed" not in one
    }
    if "random" in methods:
        more = [Cell("random", k, replace(config, seed=seed)) for seed, k in found.items()]
        runs += run_cells(more, data, **how)
    return Report(runs)
