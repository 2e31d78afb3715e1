"""See multi-task grouping happen: the public names of the library, loaded on first use.

No code lives here. Names load lazily so that recorded runs, plots and replay pages open without
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {  # public name -> the module that defines it; the names not listed are modules themselves
    "CELEBA_9": "core.tasks",
    "CELEBA_40": "core.tasks",
    "METRIC_LABELS": "core.tasks",
    "TASKONOMY_5": "core.tasks",
    "Task": "core.tasks",
    "TaskData": "core.data",
    "Assignment": "core.assignment",
    "sample_assignment": "core.assignment",
    "GroupedNetwork": "core.network",
    "HeadOptions": "core.config",
    "Pruning": "core.config",
    "Restarts": "core.config",
    "Spare": "core.config",
    "TrainConfig": "core.config",
    "TrainState": "core.state",
    "compute_agreement": "core.groups",
    "count_macs": "core.macs",
    "decode": "core.batches",
    "sum_loss": "core.losses",
    "History": "runs.history",
    "branch_out": "runs.fit",
    "build_network": "runs.fit",
    "compute_closing_costs": "runs.spare",
    "compute_mean_assignment": "runs.history",
    "drop_pruned": "runs.cutting",
    "evaluate": "runs.evaluate",
    "fit": "runs.fit",
    "imagine_closings": "runs.spare",
    "load_result": "runs.load",
    "norm_gain": "runs.metrics",
    "pretrain": "runs.run",
    "prune_below": "runs.cutting",
    "read_n_groups": "runs.spare",
    "train_steps": "runs.fit",
}

__all__ = [
    "CELEBA_9", "CELEBA_40", "METRIC_LABELS", "TASKONOMY_5", "Assignment", "GroupedNetwork",
    "HeadOptions", "History", "Pruning", "Restarts", "Spare", "Task", "TaskData", "TrainConfig",
    "TrainState", "branch_out", "build_network", "compute_agreement", "compute_closing_costs",
    "compute_mean_assignment", "count_macs", "course", "data", "decode", "drop_pruned",
    "encoders", "evaluate", "experiments", "fit", "imagine_closings", "load_result", "methods",
    "norm_gain", "pretrain", "prune_below", "read_n_groups", "sample_assignment", "sum_loss",
    "train_steps", "views",
]  # fmt: skip

if TYPE_CHECKING:  # what `__getattr__` does, for editors and type checkers
    from dmtg_lite import course, data, encoders, experiments, methods, views
    from dmtg_lite.core.assignment import Assignment, sample_assignment
    from dmtg_lite.core.batches import decode
    from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
    from dmtg_lite.core.data import TaskData
    from dmtg_lite.core.groups import compute_agreement
    from dmtg_lite.core.losses import sum_loss
    from dmtg_lite.core.macs import count_macs
    from dmtg_lite.core.network import GroupedNetwork
    from dmtg_lite.core.state import TrainState
    from dmtg_lite.core.tasks import CELEBA_9, CELEBA_40, METRIC_LABELS, TASKONOMY_5, Task
    from dmtg_lite.runs.cutting import drop_pruned, prune_below
    from dmtg_lite.runs.evaluate import evaluate
    from dmtg_lite.runs.fit import branch_out, build_network, fit, train_steps
    from dmtg_lite.runs.history import History, compute_mean_assignment
    from dmtg_lite.runs.load import load_result
    from dmtg_lite.runs.metrics import norm_gain
    from dmtg_lite.runs.run import pretrain
    from dmtg_lite.runs.spare import compute_closing_costs, imagine_closings, read_n_groups


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
