"""Groups that nobody learned: drawn at random (the paper's RG), or planted in the data."""

from __future__ import annotations

import torch

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.methods.door import method
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.runs.result import MethodResult
from dmtg_lite.runs.saving import UNSAVED, Saving


def draw_groups(task_names: list[str], n_groups: int, *, seed: int) -> list[list[str]]:
    """A balanced random partition: sizes differ by at most one, the same for the same seed.

    Raises:
        ValueError: If ``n_groups`` is not in 1..N.
    """
    if not 1 <= n_groups <= len(task_names):
        raise ValueError(
            f"`n_groups` must be in 1..{len(task_names)} for balanced groups of {len(task_names)} "
            f"tasks, got {n_groups}."
        )
    rng = torch.Generator().manual_seed(derive_seed(seed, Stream.GROUPS))
    order = torch.randperm(len(task_names), generator=rng).tolist()
    return [[task_names[n] for n in sorted(order[k::n_groups])] for k in range(n_groups)]


@method
def random_groups(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """Random groups (RG in the paper), balanced; another seed draws other groups."""
    groups = draw_groups(data.task_names, n_groups, seed=config.seed)
    return train_groups(data, groups, config, method="random", saving=saving)


@method
def planted(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """The groups the data were made with: an oracle that no method may look at.

    Raises:
        ValueError: If the data have no planted groups; ``n_groups`` is ignored otherwise.
    """
    if data.planted_groups is None:
        raise ValueError(
            f"{data.name!r} has no planted groups: nobody knows the true groups of real data."
        )
    return train_groups(data, data.planted_groups, config, method="planted", saving=saving)
