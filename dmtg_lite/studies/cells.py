"""Many runs as cells of a table: kept in a folder when finished, never run twice, one failure not
the end. The one place where processes are started."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import current_process, get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.files import write_atomically
from dmtg_lite.methods import METHODS, Saving

T = TypeVar("T")
Numbers = dict[str, Any]
"""What `MethodResult.to_json` gives and ``k``; or method, k, seed and ``failed``, the message."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run to do.

    Args:
        method: A name of `METHODS`.
        k: Number of groups; None for a method that needs none.
        config: With the seed of this run.
        data: Key of the data in a call of `run_cells`.
    """

    method: str
    k: NGroups | None
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
    methods: Sequence[str], groups: Iterable[NGroups], seeds: Iterable[int], config: TrainConfig
) -> list[Cell]:
    """Methods x numbers of groups x seeds; methods that need no number of groups once a seed."""
    groups = list(groups)
    return [
        Cell(name, k, replace(config, seed=seed))
        for seed in seeds
        for name in methods
        for k in (groups if METHODS[name].needs_k else [None])
    ]


def run_cells(
    cells: Sequence[Cell],
    data: TaskData | Callable[[Any], TaskData],
    *,
    folder: str | Path | None = None,
    jobs: int = 1,
    progress: bool = False,
    keep_checkpoints: bool = False,
) -> list[Numbers]:
    """Run what has not been run, and return the numbers of all, in the order of ``cells``.

    Args:
        cells: What to run.
        data: The data of all cells, or a function that makes those of a cell from `Cell.data` (in
            the process that runs it: give a function of a module).
        folder: Where numbers are kept, a JSON file a cell; finished cells found there are read.
        jobs: Processes of one thread each. With one job this process's threads are used.
        progress: Show a progress bar with the time left (needs tqdm).
        keep_checkpoints: Also keep checkpoints below ``folder``, so that a long cell that is killed
            continues where it was. Not worth it for cells of seconds.
    """
    folder = None if folder is None else Path(folder)
    work = [(cell, data, folder, keep_checkpoints) for cell in cells]
    return run_jobs(_run_cell, work, jobs=jobs, progress=progress)


def run_jobs(
    function: Callable[..., T], work: Sequence[tuple[Any, ...]], *, jobs: int, progress: bool
) -> list[T]:
    """What a function gives for each tuple of arguments, in order; an error ends it all."""
    if jobs == 1:
        return [function(*arguments) for arguments in _show(work, len(work), progress)]
    if getattr(current_process(), "_inheriting", False):  # a child that reads the caller's script
        sys.exit(1)  # and would start children of its own; its parent says what to write
    # spawn: a forked child of a process that has used torch's threads can hang;
    # one thread each: processes share the cores
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        futures = [pool.submit(function, *arguments) for arguments in work]
        try:
            for future in _show(as_completed(futures), len(work), progress):
                future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                f"`jobs={jobs}`: a worker process ended before its work. In a script, put the call "
                'below `if __name__ == "__main__":`, since each worker reads the script anew; or '
                "memory ran out: use fewer jobs."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _run_cell(
    cell: Cell,
    data: TaskData | Callable[[Any], TaskData],
    folder: Path | None,
    keep_checkpoints: bool,
) -> Numbers:
    data = data if isinstance(data, TaskData) else _make_data(data, cell.data)
    name = cell.name(data.fingerprint())
    path = None if folder is None else folder / f"{name}.json"
    if path is not None and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    saving = Saving(folder / "checkpoints" / name if folder and keep_checkpoints else None)
    try:
        result = METHODS[cell.method](data, cell.k or len(data.tasks), cell.config, saving=saving)
    except Exception as error:  # noqa: BLE001  one cell must not cost the others their hours
        message = f"{type(error).__name__}: {error}"
        return {"method": cell.method, "k": cell.k, "seed": cell.seed, "failed": message}
    numbers = result.to_json() | {"k": cell.k}
    if path is not None:
        write_atomically(path, json.dumps(numbers, indent=1).encode())
    return numbers


@lru_cache(maxsize=1)  # cells of a seed follow one another
def _make_data(make: Callable[[Any], TaskData], key: Any) -> TaskData:
    return make(key)


def _show(items: Iterable[T], count: int, progress: bool) -> Iterable[T]:
    if not progress:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, total=count, desc="runs", leave=False)
