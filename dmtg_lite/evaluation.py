"""Loss and error of every task on a split, each served by its most probable group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dmtg_lite.data.task_data import Split
from dmtg_lite.network import GroupedNetwork


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Mean loss and error of each task on a split: ``{task name: value}``, errors in percent."""

    losses: dict[str, float]
    errors: dict[str, float]


@torch.no_grad()
def evaluate(network: GroupedNetwork, split: Split, *, batch_size: int = 512) -> Evaluation:
    """Loss and error of every task, each served by its most probable group.

    Leaves the network in evaluation mode. Means over all images that carry the task's label, however
    they fall into batches.
    """
    pruned = network.prune().eval()  # only the N heads that count
    network.eval()
    names = [task.name for task in network.tasks]
    targets = torch.stack([split.targets[name] for name in names], dim=1)  # (n, N)
    losses = torch.zeros(len(names), dtype=torch.float64, device=network.device)
    wrong = torch.zeros_like(losses)
    for start in range(0, len(split), batch_size):
        images = split.images[start : start + batch_size]
        truth = targets[start : start + batch_size]  # (B, N)
        predictions = pruned(images)
        for n, name in enumerate(names):
            logits = predictions[name]
            losses[n] += F.cross_entropy(logits, truth[:, n], ignore_index=-1, reduction="sum")
            wrong[n] += ((logits.argmax(-1) != truth[:, n]) & (truth[:, n] >= 0)).sum()
    labelled = (targets >= 0).sum(0)  # (N,)
    mean_losses, errors = (losses / labelled).tolist(), (100 * wrong / labelled).tolist()
    return Evaluation(dict(zip(names, mean_losses, strict=True)), dict(zip(names, errors, strict=True)))
