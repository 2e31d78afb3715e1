"""The losses of the paper, task by task, as sums that batches can add up.

Mean losses of fused heads are in `heads`; the sums serve dense tasks and evaluation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dmtg_lite.core.tasks import Task

_SHIFTS = [(dy, dx) for dy in range(3) for dx in range(3)]  # by at most one pixel, both ways


def sum_loss(task: Task, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of a head's prediction as (sum, count); sum / count is the mean over everything
    labelled.

    Args:
        task: Says which loss, and its weight; an l1 loss is in units of the task's ``spread``.
        prediction: Logits (B, n_outputs) or (B, n_outputs, H, W), or numbers in the task's own
            unit, (B, 1) or (B, C, H, W).
        target: Class numbers (B,) or (B, H, W) with -1 where there is no label; or numbers (B,) or
            (B, C, H, W) in the task's own unit with nan.

    Returns:
        Two scalars. Counted are labels; of an l1 loss single numbers, so 3 a pixel of a normal; of
        the tolerant one pictures.

    Source:
        Section 4.1: cross-entropy and l1. The released code divides l1 of depth and normals by all
        pixels, labelled or not, so that a picture with a large window counts less; here every
        labelled pixel counts the same. ``"tolerant_l1"`` is the released code's "rotate" option.
    """
    total, count = _sum_unweighted(task, prediction, target)
    return total * task.weight, count


def _sum_unweighted(task: Task, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if task.loss == "cross_entropy":
        total = F.cross_entropy(prediction, target, ignore_index=-1, reduction="sum")
        return total, (target >= 0).sum()
    has_label = ~target.isnan()
    if task.is_number:
        total = compute_each(task.loss, prediction / task.spread, target / task.spread).sum()
        return total, has_label.sum()
    # 0 in place of nan before any arithmetic: a nan times 0 would poison the gradient
    target = target.nan_to_num()
    if task.loss == "l1":
        return ((prediction - target).abs() * has_label).sum() / task.spread, has_label.sum()
    inner = (..., slice(1, -1), slice(1, -1))
    target, has_label = target[inner], has_label[inner]
    height, width = target.shape[-2:]
    counts = has_label.sum((1, 2, 3))  # (B,)
    shifted = [
        ((prediction[..., dy : dy + height, dx : dx + width] - target).abs() * has_label).sum(
            (1, 2, 3)
        )
        for dy, dx in _SHIFTS
    ]  # 9 x (B,)
    return (torch.stack(shifted).amin(0) / counts.clamp_min(1)).sum() / task.spread, (
        counts > 0
    ).sum()


def compute_each(loss: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of every row, 0 where there is no label.

    Args:
        loss: ``"cross_entropy"``, ``"l1"`` or ``"squared"``.
        outputs: Logits (..., n_outputs), or numbers (..., 1) in the unit of the loss.
        targets: Class numbers (...), -1 where there is no label, or numbers, nan where there is
            none. Class numbers among numbers are floats, with nan too.

    Returns:
        Shape (...).
    """
    if loss == "cross_entropy":
        flat = F.cross_entropy(
            outputs.flatten(0, -2), to_classes(targets).flatten(), ignore_index=-1, reduction="none"
        )
        return flat.view(targets.shape)
    # 0 in place of nan before any arithmetic, as above
    gap = (outputs.squeeze(-1) - targets.nan_to_num()) * ~targets.isnan()
    return gap.abs() if loss == "l1" else gap.square()


def to_classes(targets: Tensor) -> Tensor:
    """Class numbers out of a batch that holds numbers too: int64, -1 where there is no label."""
    return targets.nan_to_num(nan=-1.0).long() if targets.is_floating_point() else targets


def find_labels(targets: Tensor) -> Tensor:
    """Where there is a label: not nan among numbers, not -1 among class numbers."""
    return ~targets.isnan() if targets.is_floating_point() else targets >= 0
