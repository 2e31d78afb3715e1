"""Heads that answer with a picture: one decoder per task, for a branch that ends in a map of
features.

The same interface as `heads.Heads`. A decoder costs about as much as a tenth of an encoder, so
here, unlike there, a head that is not needed is better not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from dmtg_lite.core.decoders import Decoder
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.core.tasks import Task


class DenseHeads(nn.Module):
    """The decoders of one branch.

    Args:
        in_features: Channels of the branch's output.
        widths: Of the decoder, each doubling the resolution; see `decoders.Decoder`.
        tasks: The dense tasks this branch serves, in row order; possibly none.

    Raises:
        ValueError: If a task is not dense.

    Source:
        The released code's decoder, one per task and branch.
    """

    def __init__(self, in_features: int, widths: Sequence[int], tasks: Sequence[Task]) -> None:
        super().__init__()
        for task in tasks:
            if not task.is_dense:
                raise ValueError(
                    f"task {task.name!r} is a classification of whole images, and this encoder "
                    "ends in a map "
                    "of features for dense tasks. Choose an encoder with flat features, such as "
                    "'resnet'."
                )
        self.tasks = tuple(tasks)
        self.decoders = nn.ModuleList(
            Decoder(in_features, widths, task.n_outputs) for task in tasks
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """Predictions of all heads: (B, in_features, h, w) -> for each task (B, n_outputs, H, W),
        float32.

        Logits, or numbers in the task's own unit.
        """
        outputs = [decoder(features).float() for decoder in self.decoders]
        return [
            output if task.loss == "cross_entropy" else output * task.spread + task.center
            for task, output in zip(self.tasks, outputs, strict=True)
        ]

    def split(self, predictions: Sequence[Tensor]) -> dict[str, Tensor]:
        """Predictions by task name."""
        return {task.name: own for task, own in zip(self.tasks, predictions, strict=True)}

    def compute_losses(self, predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Mean loss of every head over what carries a label in the batch.

        Args:
            predictions: From `forward`.
            targets: One tensor for each task served, as `data.batches.decode` gives it.

        Returns:
            Shape (number of tasks served,), at least one; 0 where nothing carries a label.
        """
        losses = []
        for task, own, target in zip(self.tasks, predictions, targets, strict=True):
            total, count = sum_loss(task, own, target)
            losses.append(total / count.clamp_min(1))
        return torch.stack(losses)

    def keep(self, served: Sequence[int]) -> DenseHeads:
        """New heads for the tasks at these positions only, with copies of their weights."""
        kept = DenseHeads.__new__(
            DenseHeads
        )  # not by __init__, whose weights would be drawn in vain
        nn.Module.__init__(kept)
        kept.tasks = tuple(self.tasks[n] for n in served)
        kept.decoders = nn.ModuleList(deepcopy(self.decoders[n]) for n in served)
        return kept.train(self.training)

    def drop(self, gone: Sequence[int]) -> list[nn.Parameter]:
        """Let go of the tasks at these positions; the weights that left, for the optimiser to forget."""
        left = [weight for n in gone for weight in self.decoders[n].parameters()]
        stay = [n for n in range(len(self.tasks)) if n not in gone]
        self.tasks = tuple(self.tasks[n] for n in stay)
        self.decoders = nn.ModuleList(self.decoders[n] for n in stay)
        return left
