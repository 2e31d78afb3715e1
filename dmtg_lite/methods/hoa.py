"""HOA: which tasks should be learned together, judged from pairs (Standley et al., ICML 2020)."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.door import method
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.methods.search.columns import select_by_pairs
from dmtg_lite.methods.search.selection import check_selectable
from dmtg_lite.methods.search.trials import try_groups
from dmtg_lite.runs.result import MethodResult, Stopwatch
from dmtg_lite.runs.saving import UNSAVED, Saving


@method
def hoa(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """Higher-order approximation: train single tasks and pairs, estimate groups, select, retrain.

    A task's loss in a larger group is estimated as the mean of its validation losses in that
    group's pairs. The at most ``n_groups`` groups with the lowest sum of each task's best estimate
    are chosen, exactly up to 15 tasks (see `select_by_pairs`); they may overlap, and are trained
    from scratch.

    Source:
        Standley et al. (2020), section 5; as a baseline in the paper's tables. They add single-task
        nets of half the size at half the cost; here every group costs 1. Larger groups than the
        chosen ones are never trained, so the estimate is all there is.
    """
    check_selectable(data.task_names, n_groups)
    stopwatch = Stopwatch()
    values, spent = measure_pairs(data, config, saving=saving.below("hoa"))
    chosen = select_by_pairs(values.numpy(), data.task_names, n_groups, singles="diagonal")
    result = train_groups(
        data, chosen.groups, config, method="hoa", from_scratch=True,
        saving=saving, spent=spent, stopwatch=stopwatch,
    )  # fmt: skip
    return replace(result, affinity=values.tolist())


def measure_pairs(
    data: TaskData, config: TrainConfig, *, saving: Saving = UNSAVED
) -> tuple[Tensor, int]:
    """Validation losses of every task beside every other: [a, b] is a's loss in the pair {a, b}.

    Returns:
        float64 (N, N), the diagonal alone; and encoder multiply-adds spent on N(N+1)/2 networks.
    """
    names = data.task_names
    pairs = list(combinations(range(len(names)), 2))
    groups = [[name] for name in names] + [[names[a], names[b]] for a, b in pairs]
    losses, spent = try_groups(data, groups, config, saving=saving, label="pairs")
    values = torch.diag(losses[:, : len(names)].diagonal())
    for column, (a, b) in enumerate(pairs, start=len(names)):
        values[a, b], values[b, a] = losses[a, column], losses[b, column]
    return values, spent
