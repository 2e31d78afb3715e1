"""Running methods side by side: by name, all at once, or as a table that can be continued.

What one method does is in `dmtg_lite.methods`, presets are in `presets`, tables in `tables`; all
three can be reached from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods import METHODS, MethodResult, draw_groups
from dmtg_lite.runs.presets import PAPER, TOY
from dmtg_lite.studies.cells import Cell, make_cells, run_cells
from dmtg_lite.studies.tables import summarise, tabulate, tabulate_tasks

if TYPE_CHECKING:
    import pandas as pd

BASICS = ("naive", "stl", "random", "planted", "dmtg")
"""Methods that need no search of their own: what is compared unless more is asked for."""


def run_method(
    data: TaskData,
    method: str,
    n_groups: int | str,
    config: TrainConfig,
    *,
    seed: int | None = None,
) -> MethodResult:
    """Run one method by name.

    Raises:
        ValueError: If there is no such method; the message lists them.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; there are {sorted(METHODS)}.")
    if seed is not None:
        config = replace(config, seed=seed)
    return METHODS[method](data, n_groups, config)


def choose_methods(data: TaskData) -> list[str]:
    """The `BASICS` that these data allow: `planted` only where those groups are known."""
    return [name for name in BASICS if name != "planted" or data.planted_groups]


def _run_quietly(job: tuple[TaskData, str, int, TrainConfig]) -> MethodResult:
    torch.set_num_threads(1)  # processes share the cores; two threads each would fight for them
    return run_method(*job)


def run_all(
    data: TaskData,
    methods: Sequence[str],
    n_groups: int | str,
    config: TrainConfig,
    seeds: Iterable[int],
    *,
    jobs: int = 1,
    progress: bool = False,
) -> list[MethodResult]:
    """Run every method with every seed on the same images.

    Args:
        data: The tasks and their images.
        methods: Names from `dmtg_lite.methods.METHODS`.
        n_groups: K, or ``"auto"`` for methods that find it (`dmtg`) or need none.
        config: The preset; each run gets its own seed.
        seeds: One run per seed and method.
        jobs: Processes of one thread each. With one job this process's threads are used; the number
            of threads (not of processes) can change the last digits of a sum.
        progress: Show a progress bar (needs tqdm).

    Returns:
        Results in the order of ``seeds``, then ``methods``.
    """
    _check(data, methods, [n_groups], config)
    cells = [
        (data, name, n_groups, replace(config, seed=seed)) for seed in seeds for name in methods
    ]
    if jobs == 1:
        return list(_with_progress((run_method(*cell) for cell in cells), len(cells), progress))
    # spawn: a forked child of a process that has used torch's threads can hang
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(_with_progress(pool.map(_run_quietly, cells), len(cells), progress))


def _with_progress(
    results: Iterable[MethodResult], total_: int, show: bool
) -> Iterable[MethodResult]:
    if not show:
        return results
    from tqdm.auto import tqdm

    return tqdm(results, total=total_, desc="runs", leave=False)


def _check(
    data: TaskData, methods: Sequence[str], groups: Sequence[int | str], config: TrainConfig
) -> None:
    """Refuse what would be refused anyway, before any training."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"unknown methods {unknown}; there are {sorted(METHODS)}.")
    for n_groups in groups:
        config.count_branches(n_groups, len(data.tasks))
        if n_groups == "auto" and not set(methods) <= {"naive", "stl", "planted", *_FINDS_K}:
            others = sorted(set(methods) - {"naive", "stl", "planted", *_FINDS_K})
            raise ValueError(f'methods {others} need a number of groups; "auto" is for `dmtg`.')
        if "random" in methods:
            draw_groups(data.task_names, n_groups, seed=0)
    if "planted" in methods and data.planted_groups is None:
        raise ValueError(
            f"{data.name!r} has no planted groups; leave `planted` out of the methods."
        )


_FINDS_K = ("dmtg", "two_shot", "two_shot_pretrained", "prune_finetune")


def plan_comparison(
    data: TaskData,
    methods: Sequence[str] | None,
    groups: Sequence[int | str],
    seeds: Iterable[int],
    config: TrainConfig,
) -> list[Cell]:
    """The cells of a comparison, checked: methods x groups x seeds, and Naive MTL as the reference."""
    names = list(methods or choose_methods(data))
    names = names if "naive" in names else ["naive", *names]
    _check(data, names, groups, config)
    return make_cells(names, groups, seeds, config)


def compare(
    data: TaskData,
    *,
    methods: Sequence[str] | None = None,
    n_groups: int | str | Sequence[int | str] = 3,
    seeds: Iterable[int] = range(3),
    config: TrainConfig | None = None,
    folder: str | Path | None = None,
    jobs: int = 1,
    progress: bool = False,
    keep_checkpoints: bool = False,
) -> pd.DataFrame:
    """Methods x numbers of groups x seeds on the same data, as one tidy table (see `tabulate`).

    Args:
        data: The tasks and their images.
        methods: Names from `dmtg_lite.methods.METHODS`; Naive MTL is added, as the reference of
            every gain. ``None``: the `BASICS` that the data allow.
        n_groups: K, or several.
        seeds: One run per seed, method and K.
        config: ``None``: the toy preset of these data.
        folder: Where finished runs are kept; a comparison that was killed continues from there.
        jobs: Processes of one thread each.
        progress: Show a progress bar with the time left.
        keep_checkpoints: Continue also inside a run; see `cells.run_cells`.

    Returns:
        One row per run; a run that failed says so in ``note``, and the others are there.

    Raises:
        ValueError: If a method is unknown or cannot be asked for that, or Naive MTL itself failed.
    """
    config = TOY.get(data.name.removeprefix("toy_"), TOY["faces"]) if config is None else config
    groups = [n_groups] if isinstance(n_groups, (int, str)) else list(n_groups)
    cells = plan_comparison(data, methods, groups, seeds, config)
    return tabulate(
        run_cells(
            cells,
            data,
            folder=folder,
            jobs=jobs,
            progress=progress,
            keep_checkpoints=keep_checkpoints,
        )
    )


__all__ = [
    "BASICS", "PAPER", "TOY", "choose_methods", "compare", "plan_comparison", "run_all", "run_method",
    "summarise", "tabulate", "tabulate_tasks",
]  # fmt: skip
