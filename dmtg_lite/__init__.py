"""See multi-task grouping happen: the public names of the library, loaded on first use.

No code lives here. Names load lazily so that recorded runs, plots and replay pages open without
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "CELEBA_9",
    "CELEBA_40",
    "TASKONOMY_5",
    "Assignment",
    "GroupedNetwork",
    "HeadOptions",
    "History",
    "Pruning",
    "Restarts",
    "Spare",
    "Task",
    "TaskData",
    "TrainConfig",
    "data",
    "experiments",
    "fit",
    "load_result",
    "methods",
    "norm_gain",
    "sample_assignment",
    "train_steps",
]

_HOME = {  # public name -> the module that defines it; the names not listed are modules themselves
    "Task": "core.tasks",
    "CELEBA_9": "core.tasks",
    "CELEBA_40": "core.tasks",
    "TASKONOMY_5": "core.tasks",
    "TaskData": "core.data",
    "Assignment": "core.assignment",
    "sample_assignment": "core.assignment",
    "GroupedNetwork": "core.network",
    "TrainConfig": "core.config",
    "Spare": "core.config",
    "Restarts": "core.config",
    "Pruning": "core.config",
    "HeadOptions": "core.config",
    "train_steps": "runs.fit",
    "fit": "runs.fit",
    "History": "runs.history",
    "load_result": "runs.load",
    "norm_gain": "runs.metrics",
}

if TYPE_CHECKING:  # what `__getattr__` does, for editors and type checkers
    from dmtg_lite import data, experiments, methods
    from dmtg_lite.core.assignment import Assignment, sample_assignment
    from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
    from dmtg_lite.core.data import TaskData
    from dmtg_lite.core.network import GroupedNetwork
    from dmtg_lite.core.tasks import CELEBA_9, CELEBA_40, TASKONOMY_5, Task
    from dmtg_lite.runs.fit import fit, train_steps
    from dmtg_lite.runs.history import History
    from dmtg_lite.runs.load import load_result
    from dmtg_lite.runs.metrics import norm_gain


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'dmtg_lite' has no attribute {name!r}; it offers {__all__}.")
    if name in _HOME:
        value = getattr(import_module(f"dmtg_lite.{_HOME[name]}"), name)
    else:
        value = import_module(f"dmtg_lite.{name}")
    globals()[name] = value  # the next use is an ordinary lookup
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
