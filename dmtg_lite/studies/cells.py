"""Many runs as cells of a table: kept in a folder when finished, never run twice, one failure not
the end. The one place where processes are started."""

from __future__ import annotations

import json
import signal
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import count
from multiprocessing import active_children, current_process, get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from dmtg_lite.core.checks import as_whole
from dmtg_lite.core.config import NGroups, TrainConfig, list_decisive
from dmtg_lite.core.data import TaskData
from dmtg_lite.encoders import ENCODERS, list_own
from dmtg_lite.encoders.own import find_homeless
from dmtg_lite.files import check_writable, write_atomically
from dmtg_lite.methods import METHODS, Saving, UnlearnedWarning
from dmtg_lite.runs.load import read_numbers
from dmtg_lite.schema import FieldError

T = TypeVar("T")
Numbers = dict[str, Any]
"""What `MethodResult.to_json` gives, ``k`` and ``fingerprint``; or method, k, seed and ``failed``,
the message. ``set_aside`` where a damaged file stood in the way: what became of it."""


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
        config = list_decisive(asdict(self.config))
        text = json.dumps([fingerprint, self.method, self.k, config], sort_keys=True)
        return f"{self.method}_K{self.k or ''}_seed{self.seed}_{zlib.crc32(text.encode()):08x}"


def make_cells(
    methods: Sequence[str], groups: Iterable[NGroups], seeds: Iterable[int], config: TrainConfig
) -> list[Cell]:
    """Methods x numbers of groups x seeds; methods that need no number of groups once a seed."""
    groups = list(groups)
    if not isinstance(seeds, Iterable):
        raise ValueError(f"`seeds` must be several numbers, e.g. range(3), got {seeds!r}.")
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
        folder: Where numbers are kept, a JSON file a cell; finished cells found there are read. One
            that is damaged, or another's, is set aside under another name and run again.
        jobs: Processes of one thread each. With one job this process's threads are used.
        progress: Show a progress bar with the time left (needs tqdm), and what was set aside.
        keep_checkpoints: Also keep a run folder of each cell below ``folder``, with checkpoints, so
            that a long cell can be watched, and one that is killed continues where it was. Not
            worth it for cells of seconds.
    """
    folder = None if folder is None else check_writable(folder)  # now, not after the first hours
    work = [(cell, data, folder, keep_checkpoints) for cell in cells]
    results = run_jobs(_run_cell, work, jobs=jobs, progress=progress)
    for one in results:
        if progress and "set_aside" in one:
            print(one["set_aside"], file=sys.stderr)
    return results


def run_jobs(
    function: Callable[..., T], work: Sequence[tuple[Any, ...]], *, jobs: int, progress: bool
) -> list[T]:
    """What a function gives for each tuple of arguments, in order; an error ends it all."""
    jobs = as_whole("jobs", jobs, 1)
    if jobs == 1:
        return [function(*arguments) for arguments in _show(work, len(work), progress)]
    if getattr(current_process(), "_inheriting", False):  # a child that reads the caller's script
        sys.exit(1)  # and would start children of its own; its parent says what to write
    others = set(active_children())
    # spawn: a forked child of a process that has used torch's threads can hang
    start = {"initializer": _start_worker, "initargs": (_pack_encoders(),)}
    with ProcessPoolExecutor(jobs, get_context("spawn"), **start) as pool:
        try:  # an interrupt may come while workers are being started
            futures = [pool.submit(function, *arguments) for arguments in work]
            for future in _show(as_completed(futures), len(work), progress):
                future.result()
        except BrokenProcessPool:
            raise ChildProcessError(
                f"`jobs={jobs}`: a worker process ended before its work. In a script, put the call "
                'below `if __name__ == "__main__":`, since each worker reads the script anew; or '
                "memory ran out: use fewer jobs."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:  # or we would wait for their hours
                worker.terminate()
            raise
    return [future.result() for future in futures]


def _start_worker(encoders: dict[str, Any]) -> None:
    """One thread, since processes share the cores; an end without words at Ctrl-C; encoders."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ENCODERS.update(encoders)


def _pack_encoders() -> dict[str, Any]:
    """A reader's own encoders for other processes; of those that cannot go there, why."""
    return {
        name: partial(_refuse, name, homeless) if (homeless := find_homeless(build)) else build
        for name, build in list_own().items()
    }


def _refuse(name: str, homeless: str, *_: Any, **__: Any) -> Any:
    raise ValueError(
        f"`encoder` {name!r} cannot be sent to other processes, as they cannot import {homeless}: "
        "define it in a file and import it from there, at the file's top level; or take jobs=1."
    )


def _run_cell(
    cell: Cell,
    data: TaskData | Callable[[Any], TaskData],
    folder: Path | None,
    keep_checkpoints: bool,
) -> Numbers:
    data = data if isinstance(data, TaskData) else _make_data(data, cell.data)
    fingerprint, k = data.fingerprint(), cell.k or len(data.tasks)
    name, more = cell.name(fingerprint), {}
    path = None if folder is None else folder / f"{name}.json"
    if path is not None and path.exists():
        try:
            return _read_cell(path, cell, data, fingerprint)
        except ValueError as error:  # its hours are lost, and must not cost those of the others
            more = {"set_aside": f"{error} Kept as {_set_aside(path).name}, and run again."}
    kept = folder / "checkpoints" / name if folder and keep_checkpoints else None
    saving = Saving(kept, runs=kept)
    try:
        METHODS[cell.method].check(data, k, cell.config)
        with warnings.catch_warnings():  # of many runs the table says it, or the report
            warnings.simplefilter("ignore", UnlearnedWarning)
            result = METHODS[cell.method](data, k, cell.config, saving=saving)
    except Exception as error:  # noqa: BLE001  one cell must not cost the others their hours
        message = f"{type(error).__name__}: {error}"
        return {"method": cell.method, "k": cell.k, "seed": cell.seed, "failed": message} | more
    numbers = result.to_json() | {"k": cell.k, "fingerprint": fingerprint}
    if path is not None:
        write_atomically(path, json.dumps(numbers, indent=1).encode())
    return numbers | more


def _read_cell(path: Path, cell: Cell, data: TaskData, fingerprint: str) -> Numbers:
    """The numbers of a finished cell, if they are those of this cell on these data.

    Raises:
        FieldError: If they are damaged, or were copied from another cell; file and field are named.
    """
    numbers = read_numbers(path)
    own = {
        "method": cell.method,
        "k": cell.k,
        # tuples are lists there
        "config": json.loads(json.dumps(list_decisive(asdict(cell.config)))),
        "metrics": {task.name: task.metric for task in data.tasks},
        "data": data.name,
    }
    if "fingerprint" in numbers:  # which older versions did not keep
        own["fingerprint"] = fingerprint
    found = numbers | {"config": list_decisive(numbers["config"])}
    for field, value in own.items():
        if found.get(field) != value:
            raise FieldError(f"{path}: `{field}` is that of another run.")
    return numbers


def _set_aside(path: Path) -> Path:
    """Give a file that cannot be used a name that no file has; its new path."""
    names = (path.with_name(f"{path.name}.damaged{n}") for n in count(1))
    return path.rename(next(name for name in names if not name.exists()))


@lru_cache(maxsize=1)  # cells of a seed follow one another
def _make_data(make: Callable[[Any], TaskData], key: Any) -> TaskData:
    return make(key)


def _show(items: Iterable[T], count: int, progress: bool) -> Iterable[T]:
    if not progress:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, total=count, desc="runs", leave=False)
