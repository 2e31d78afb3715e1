"""Many runs as cells of a table: kept in a folder when finished, never run twice, one failure not
the end.

A cell is a method, a number of groups and a seed on given data with a given config.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.files import write_atomically
from dmtg_lite.methods import METHODS, Saving

ONCE = frozenset({"naive", "stl", "planted"})  # methods that do not ask for a number of groups


@dataclass(frozen=True, slots=True)
class Cell:
    """One run to do.

    Args:
        method: A name of `dmtg_lite.methods.METHODS`.
        k: Number of groups; None for a method that needs none.
        config: With the seed of this run.
        data: Key of the data in a call of `run_cells`.
    """

    method: str
    k: int | str | None
    config: TrainConfig
    data: Any = None

    @property
    def seed(self) -> int:
        return self.config.seed

    def name(self, fingerprint: str) -> str:
        """A file name that another setting would not have."""
        text = json.dumps([fingerprint, self.method, self.k, asdict(self.config)], sort_keys=True)
        return f"{self.method}_K{self.k or ''}_seed{self.seed}_{zlib.crc32(text.encode()):08x}"


def make_cells(
    methods: Sequence[str], groups: Iterable[int | str], seeds: Iterable[int], config: TrainConfig
) -> list[Cell]:
    """Methods x numbers of groups x seeds; methods that need no number of groups once a seed."""
    groups, cells = list(groups), []
    for seed in seeds:
        own = replace(config, seed=seed)
        for method in methods:
            cells += [Cell(method, k, own) for k in ([None] if method in ONCE else groups)]
    return cells


def run_cells(
    cells: Sequence[Cell],
    data: TaskData | Callable[[Any], TaskData],
    *,
    folder: str | Path | None = None,
    jobs: int = 1,
    progress: bool = False,
    keep_checkpoints: bool = False,
) -> list[dict[str, Any]]:
    """Run what has not been run, and return the numbers of all.

    Args:
        cells: What to run.
        data: The data of all cells, or a function that makes those of a cell from `Cell.data` (in
            the process that runs it: give a function of a module).
        folder: Where numbers are kept, a JSON file a cell; finished cells found there are read.
        jobs: Processes of one thread each. With one job this process's threads are used.
        progress: Show a progress bar with the time left (needs tqdm).
        keep_checkpoints: Also keep checkpoints below ``folder``, so that a long cell that is killed
            continues where it was. Not worth it for cells of seconds.

    Returns:
        In the order of ``cells``: what `MethodResult.to_json` gives and ``k``; or method, k, seed
            and
        ``failed``, the message, for a cell that raised.
    """
    folder = None if folder is None else Path(folder)
    saving = folder / "checkpoints" if folder is not None and keep_checkpoints else None
    work = [(cell, data, folder, saving) for cell in cells]
    if jobs == 1:
        return [_run_cell(*one) for one in _show(work, len(work), progress)]
    results: dict[int, dict[str, Any]] = {}
    # spawn: a forked child of a process that has used torch's threads can hang
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_run_quietly, *one): index for index, one in enumerate(work)}
        try:
            for future in _show(as_completed(futures), len(work), progress):
                results[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [results[index] for index in range(len(work))]


def _run_quietly(*work: Any) -> dict[str, Any]:
    torch.set_num_threads(1)  # processes share the cores; two threads each would fight for them
    return _run_cell(*work)


_made: dict[
    Any, TaskData
] = {}  # the last data that this process made: cells of a seed follow one another


def _run_cell(
    cell: Cell, data: TaskData | Callable[[Any], TaskData], folder: Path | None, saving: Path | None
) -> dict[str, Any]:
    if not isinstance(data, TaskData):
        key = data, cell.data
        if key not in _made:
            _made.clear()
            _made[key] = data(cell.data)
        data = _made[key]
    name = cell.name(data.fingerprint())
    path = None if folder is None else folder / f"{name}.json"
    if path is not None and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    try:
        result = METHODS[cell.method](
            data, cell.k or len(data.tasks), cell.config, saving=Saving(saving and saving / name)
        )
    except Exception as error:  # noqa: BLE001  one cell must not cost the others their hours
        message = f"{type(error).__name__}: {error}"
        return {"method": cell.method, "k": cell.k, "seed": cell.seed, "failed": message}
    numbers = result.to_json() | {"k": cell.k}
    if path is not None:
        write_atomically(path, json.dumps(numbers, indent=1).encode())
    return numbers


def _show(items: Iterable[Any], count: int, progress: bool) -> Iterable[Any]:
    if not progress:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, total=count, desc="runs", leave=False)
