"""Running methods side by side: by name, all at once, or as a table that can be continued."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmtg_lite.core.config import NGroups, TrainConfig, as_n_groups
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods import METHODS, MethodResult
from dmtg_lite.methods.recipe import settle_config
from dmtg_lite.runs.jobs import Workers, as_workers, run_jobs
from dmtg_lite.studies.cells import Cell, make_cells, run_cells
from dmtg_lite.studies.tables import tabulate

if TYPE_CHECKING:
    import pandas as pd

BASICS = tuple(
    name for name, method in METHODS.items() if not (method.searches or method.is_asked_for)
)
"""Methods that need no search of their own, nor an extra: what is compared unless more is asked
for."""


def run_method(
    data: TaskData,
    method: str,
    n_groups: NGroups,
    config: TrainConfig | None = None,
    *,
    seed: int | None = None,
) -> MethodResult:
    """Run one method by name.

    Raises:
        ValueError: If there is no such method; the message lists them.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {sorted(METHODS)}.")
    config = settle_config(data, n_groups, config)
    return METHODS[method](data, n_groups, config if seed is None else replace(config, seed=seed))


def choose_methods(data: TaskData) -> list[str]:
    """The `BASICS` that these data allow: `planted` only where those groups are known."""
    return [name for name in BASICS if data.planted_groups or not METHODS[name].needs_planted]


def run_all(
    data: TaskData,
    methods: Sequence[str],
    n_groups: NGroups,
    config: TrainConfig | None,
    seeds: Iterable[int],
    *,
    jobs: int | Workers = 1,
    progress: bool = False,
) -> list[MethodResult]:
    """Run every method with every seed on the same images, and keep networks and histories too.

    Args:
        data, config: The tasks and their images; a preset, in which each run has its own seed;
            ``None``: the recipe for these data.
        methods: Names from `METHODS`.
        n_groups: K, or ``"auto"`` for methods that find it or need none; see `Method`.
        seeds: One run per seed and method.
        jobs, progress: As in `cells.run_cells`. The number of threads (not of processes) can change
            the last digits of a sum.

    Returns:
        Results in the order of ``seeds``, then ``methods``.
    """
    config = settle_config(data, n_groups, config)
    _check(data, methods, [n_groups], config)
    work = [
        (data, name, n_groups, replace(config, seed=seed)) for seed in seeds for name in methods
    ]
    workers = as_workers(jobs).on_device(data.device)
    function = run_method if workers.is_here else _run_elsewhere
    return run_jobs(function, work, jobs=workers, progress=progress)


def _run_elsewhere(*asked: Any) -> MethodResult:
    """With a network that comes back from whatever GPU the worker had."""
    result = run_method(*asked)
    result.network.cpu()
    return result


def _check(
    data: TaskData, methods: Sequence[str], groups: Sequence[NGroups], config: TrainConfig
) -> None:
    """Refuse what would be refused anyway, before any training."""
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"unknown methods {unknown}; there are {sorted(METHODS)}.")
    for name in methods:
        for n_groups in groups:
            METHODS[name].check(data, n_groups, config)


def plan_comparison(
    data: TaskData,
    methods: Sequence[str] | None,
    groups: Sequence[NGroups],
    seeds: Iterable[int],
    config: TrainConfig,
) -> list[Cell]:
    """Checked cells: methods x groups x seeds, and Naive MTL as the reference.

    What a method cannot be asked for is no reason not to run the others: such cells stay, and
    `run_cells` reports them as failed; see `find_refused`.

    Raises:
        ValueError: If a method is unknown, or nothing but the reference could run.
    """
    names = list(methods or choose_methods(data))
    names = names if "naive" in names else ["naive", *names]
    _check(data, [name for name in names if name not in METHODS] or ["naive"], groups, config)
    cells = make_cells(names, groups, seeds, config)
    refused = find_refused(cells, data)
    asked = [cell for cell in cells if cell.method != "naive"]
    if asked and len(refused) == len(asked):
        raise ValueError(next(iter(refused.values())))
    return cells


def find_refused(cells: Sequence[Cell], data: TaskData) -> dict[Cell, str]:
    """The cells whose method cannot be asked for that on these data, and why."""
    refused = {}
    for cell in cells:
        try:
            METHODS[cell.method].check(data, cell.k or len(data.tasks), cell.config)
        except ValueError as error:
            refused[cell] = str(error)
    return refused


def compare(
    data: TaskData,
    *,
    methods: Sequence[str] | str | None = None,
    n_groups: NGroups | Sequence[NGroups] = 3,
    seeds: Iterable[int] = range(3),
    config: TrainConfig | None = None,
    folder: str | Path | None = None,
    jobs: int | Workers = 1,
    progress: bool = False,
    keep_checkpoints: bool = False,
) -> pd.DataFrame:
    """Methods x numbers of groups x seeds on the same data, as one tidy table (see `tabulate`).

    Args:
        data: The tasks and their data.
        methods: Names from `METHODS`; Naive MTL is added, as the reference of every gain.
            ``None``: the `BASICS` that the data allow.
        n_groups: K, or several.
        seeds: One run per seed, method and K.
        config: ``None``: the recipe for these data and the largest K; see `recipe.choose_recipe`.
        folder, jobs, progress, keep_checkpoints: See `cells.run_cells`.

    Returns:
        One row per run; a run that failed, or that its method cannot be asked for, says so in
        ``note``, and the others are there.

    Raises:
        ValueError: If a method is unknown, or nothing but the reference could run.
    """
    if isinstance(n_groups, str) or not isinstance(n_groups, Iterable):
        n_groups = [n_groups]
    groups: list[NGroups] = [as_n_groups(k) for k in n_groups]
    methods = [methods] if isinstance(methods, str) else methods
    config = settle_config(data, find_largest(groups), config)
    cells = plan_comparison(data, methods, groups, seeds, config)
    results = run_cells(
        cells, data, folder=folder, jobs=jobs, progress=progress, keep_checkpoints=keep_checkpoints
    )
    return tabulate(results)


def find_largest(groups: Sequence[NGroups]) -> NGroups:
    """The K that one recipe for several is chosen for."""
    return "auto" if "auto" in groups else max((k for k in groups if k != "auto"), default=1)
