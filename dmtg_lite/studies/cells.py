"""Many runs as cells of a table: kept in a folder when finished, never run twice, one failure not
the end."""

from __future__ import annotations

import json
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from dmtg_lite.core.config import NGroups, TrainConfig, list_decisive
from dmtg_lite.core.data import TaskData
from dmtg_lite.files import check_writable, write_atomically
from dmtg_lite.methods import METHODS, Saving, UnlearnedWarning
from dmtg_lite.runs.jobs import Workers, as_workers, run_jobs
from dmtg_lite.runs.load import read_numbers
from dmtg_lite.schema import FieldError

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
    jobs: int | Workers = 1,
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
        jobs: Processes of one thread each; with one job this process's threads are used. Or
            `Workers`: how many, where, and what each may take.
        progress: Show a progress bar with the time left (needs tqdm), and what was set aside.
        keep_checkpoints: Also keep a run folder of each cell below ``folder``, with checkpoints, so
            that a long cell can be watched, and one that is killed continues where it was. Not
            worth it for cells of seconds.
    """
    # now, not after the first hours; workers may stand elsewhere
    folder = None if folder is None else check_writable(folder).absolute()
    workers = as_workers(jobs)
    if isinstance(data, TaskData):
        workers = workers.on_device(data.device)
    work = [(cell, data, folder, keep_checkpoints) for cell in cells]
    results = run_jobs(_run_cell, work, jobs=workers, progress=progress, lost=_report_lost)
    for one in results:
        if progress and "set_aside" in one:
            print(one["set_aside"], file=sys.stderr)
    return results


def _run_cell(
    cell: Cell,
    data: TaskData | Callable[[Any], TaskData],
    folder: Path | None,
    keep_checkpoints: bool,
) -> Numbers:
    if folder and not folder.is_dir():  # `run_cells` made it, on whatever machine that was
        raise FileNotFoundError(f"no folder {folder} here: workers need one that all machines see.")
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
        return _report_failed(cell, f"{type(error).__name__}: {error}") | more
    numbers = result.to_json() | {"k": cell.k, "fingerprint": fingerprint}
    if path is not None:
        write_atomically(path, json.dumps(numbers, indent=1).encode())
    return numbers | more


def _report_failed(cell: Cell, message: str) -> Numbers:
    return {"method": cell.method, "k": cell.k, "seed": cell.seed, "failed": message}


def _report_lost(cell: Cell, *_: Any, reason: str) -> Numbers:
    """Of a cell that took all its workers with it."""
    return _report_failed(cell, reason)


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
