"""Loss and error of every task on a split, each served by its most probable group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dmtg_lite.core.batches import Batches, count_labels
from dmtg_lite.core.data import Split
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.runs.dense_metrics import build_metric


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean loss and error of each task on a split: ``{task name: value}``.

    An error is in the unit of the task's metric: percent of images, or mIoU, RMSE, ... of dense
    tasks, where more may be better (`Task.higher_is_better`).
    """

    losses: dict[str, float]
    errors: dict[str, float]


@torch.no_grad()
def evaluate_heads(
    network: GroupedNetwork, batches: Batches, parts: Iterable[Tensor | slice] | None = None
) -> Tensor:
    """Mean loss of every head: the loss matrix (N, K) over many batches, each counted by its
    labels.

    Leaves the network in evaluation mode. 0 where a branch has no head for a task.

    Args:
        network: Any grouped network.
        batches: Of the split to look at.
        parts: Rows of each batch; ``None``: the whole split.
    """
    size = 16 if batches.is_dense else 512
    parts = parts or (slice(start, start + size) for start in range(0, len(batches), size))
    network.eval()
    total, n_labels = torch.zeros(2, 1, dtype=torch.float64, device=network.device)
    for part in parts:
        images, targets = batches.take(part)
        own = count_labels(targets, batches.tasks)[:, None]  # of each task in this batch, (N, 1)
        total = total + network.compute_loss_matrix(images, targets) * own
        n_labels = n_labels + own
    return (total / n_labels.clamp_min(1)).float()


@torch.no_grad()
def evaluate(
    network: GroupedNetwork,
    split: Split,
    *,
    batch_size: int | None = None,
    with_errors: bool = True,
) -> Evaluation:
    """Loss and error of every task, each served by its most probable group.

    Leaves the network in evaluation mode. Over all labels of the split, however they fall into
    batches.

    Args:
        network: Any grouped network.
        split: On its device, or elsewhere: batches are copied.
        batch_size: Images at a time; ``None``: 512, or 16 of dense tasks.
        with_errors: False leaves ``errors`` empty and saves their time.
    """
    pruned = network.prune().eval()  # only the N heads that count
    network.eval()
    batches = Batches(split, network.tasks, network.device)
    batch_size = batch_size or (16 if batches.is_dense else 512)
    names = [task.name for task in network.tasks]
    losses = torch.zeros(len(names), 2, dtype=torch.float64, device=network.device)  # sum, count
    metrics = [build_metric(task, network.device) for task in network.tasks]
    for start in range(0, len(split), batch_size):
        images, targets = batches.take(slice(start, start + batch_size))
        predictions = pruned(images)
        for n, task in enumerate(network.tasks):
            target = targets[:, n] if isinstance(targets, Tensor) else targets[n]
            losses[n] += torch.stack(sum_loss(task, predictions[task.name], target))
            if with_errors:
                metrics[n].update(predictions[task.name], target)
    mean_losses = (losses[:, 0] / losses[:, 1]).tolist()
    errors = [metric.compute() for metric in metrics] if with_errors else []
    return Evaluation(
        dict(zip(names, mean_losses, strict=True)), dict(zip(names, errors, strict=False))
    )
