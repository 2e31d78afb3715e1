"""The two ends of grouping: everything together (Naive MTL) and everything apart (STL)."""

from __future__ import annotations

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.door import method
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.runs.result import MethodResult
from dmtg_lite.runs.saving import UNSAVED, Saving


@method
def naive(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """Naive MTL: one encoder for all tasks, trained as long as DMTG with its pretraining.

    ``n_groups`` is ignored: there is one group. The reference of every NormGain (section 4.1).
    """
    return train_groups(
        data, [data.task_names], config, method="naive", from_scratch=True, saving=saving
    )


@method
def stl(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """STL: one encoder per task, from scratch; ``n_groups`` is ignored: there are N groups.

    N encoders are not a fair price for K groups, but in error they are the hard baseline.
    """
    groups = [[name] for name in data.task_names]
    return train_groups(data, groups, config, method="stl", from_scratch=True, saving=saving)
