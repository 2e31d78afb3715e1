"""Trial networks: train many groups side by side, read each task's validation loss in each.

A trial is a branch of a grouped network without stem: twelve cost one walk through the data, see
the same batches and start from the same weights. With a plateau schedule they share their rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.methods.fixed import find_members
from dmtg_lite.runs.evaluate import evaluate_heads
from dmtg_lite.runs.fit import build_network, fit
from dmtg_lite.runs.saving import UNSAVED, Saving

_AT_ONCE = 12  # branches in memory


@sealed()
def try_groups(
    data: TaskData,
    groups: Sequence[Sequence[str]],
    config: TrainConfig,
    *,
    saving: Saving = UNSAVED,
    label: str = "trials",
) -> tuple[Tensor, int]:
    """Train a network for each group from scratch, pretraining and main steps together.

    Args:
        data: The tasks and their data.
        groups: Any lists of task names, overlapping or not.
        config: Its ``shared`` has no effect: every group is a network of its own.
        label: Of progress bar and checkpoints: another one for each call of a method.

    Returns:
        Mean validation losses, float64 of shape (N, G), nan where a group lacks the task; and
        encoder multiply-adds spent.
    """
    losses, spent = saving.remember(
        f"{label}_losses",
        f"{data.fingerprint()}, {config}",
        lambda: _train(data, groups, config, saving, label),
        is_known=[[name in group for group in groups] for name in data.task_names],
    )
    return torch.tensor(losses, dtype=torch.float64), spent


def _train(
    data: TaskData, groups: Sequence[Sequence[str]], config: TrainConfig, saving: Saving, label: str
) -> tuple[list[list[float]], int]:
    n_steps = sum(config.count_steps(len(data.train)))
    config, seed = replace(config, shared=0), derive_seed(config.seed, Stream.TRAINING)
    losses = torch.full((len(data.tasks), len(groups)), torch.nan, dtype=torch.float64)
    spent = 0
    for first in range(0, len(groups), _AT_ONCE):
        some = groups[first : first + _AT_ONCE]
        names = [name for name in data.task_names if any(name in group for group in some)]
        part = data.select(names)
        members, last = find_members(some, names), first + len(some)
        network = build_network(part, config).branch_out(len(some), members=members)
        run = saving.of(f"{label}{first}", f"{label} {first + 1}-{last} of {len(groups)}")
        _, state = fit(network, part, config, n_steps=n_steps, seed=seed, **run)
        spent += state.encoder_macs
        matrix = evaluate_heads(network, Batches(part.val, network.tasks, network.device))
        matrix = matrix.masked_fill(~network.assignment.active, torch.nan).cpu().double()
        rows = [data.task_names.index(name) for name in names]
        losses[rows, first:last] = matrix
    return losses.tolist(), spent
