"""Output layers. A branch's linear heads are one fused matrix product, whatever N is.

Dense decoders for pictures are not here yet: a dense task is refused with a clear error.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtg_lite.tasks import Task


class LinearHeads(nn.Module):
    """The classification heads of one branch, fused into a single `nn.Linear`.

    Args:
        in_features: Width of the branch's output.
        tasks: The tasks this branch serves, in row order; possibly none.

    Raises:
        ValueError: If a task is not a classification.
    """

    def __init__(self, in_features: int, tasks: Sequence[Task]) -> None:
        super().__init__()
        for task in tasks:
            kind = (task.loss, task.metric, task.is_dense)
            if kind != ("cross_entropy", "error_percent", False) or task.n_outputs < 2:
                raise ValueError(
                    f"task {task.name!r} (loss {task.loss!r}, metric {task.metric!r}, dense {task.is_dense}, "
                    f"{task.n_outputs} outputs) cannot be served by a linear head; linear heads serve "
                    "classifications of 2 or more classes with cross-entropy and error_percent."
                )
        self.tasks = tuple(tasks)
        self.sizes = [task.n_outputs for task in tasks]
        self.linear = nn.Linear(in_features, sum(self.sizes))
        # per head, as if each were its own layer: Xavier-uniform and zero bias (both releases)
        for rows in self.linear.weight.detach().split(self.sizes):
            nn.init.xavier_uniform_(rows)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of all heads side by side: (B, in_features) -> (B, sum of n_outputs), float32."""
        return self.linear(features).float()

    def split(self, logits: Tensor) -> dict[str, Tensor]:
        """Name the columns: {task name: (B, n_outputs)}."""
        parts = logits.split(self.sizes, dim=-1)
        return {task.name: part for task, part in zip(self.tasks, parts, strict=True)}

    def compute_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of every head, mean over the batch.

        Args:
            logits: (B, sum of n_outputs), from `forward`.
            targets: int64 class numbers, (B, number of tasks served).

        Returns:
            Shape (number of tasks served,).
        """
        if len(set(self.sizes)) == 1:  # the common case: one kernel, not one per task
            flat = logits.reshape(-1, self.sizes[0])  # (B * tasks, n_outputs)
            losses = F.cross_entropy(flat, targets.reshape(-1), reduction="none")
            return losses.view(len(logits), -1).mean(0)
        parts = logits.split(self.sizes, dim=-1)
        return torch.stack([F.cross_entropy(part, targets[:, n]) for n, part in enumerate(parts)])

    @torch.no_grad()
    def keep(self, served: Sequence[int]) -> LinearHeads:
        """New heads for the tasks at these positions only, with copies of their rows."""
        kept = deepcopy(self)  # not a new one, whose weights would be drawn in vain
        kept.tasks = tuple(self.tasks[n] for n in served)
        kept.sizes = [task.n_outputs for task in kept.tasks]
        rows_of = torch.arange(sum(self.sizes), device=self.linear.weight.device).split(self.sizes)
        rows = torch.cat([rows_of[0][:0], *(rows_of[n] for n in served)])  # possibly none
        kept.linear.weight = nn.Parameter(self.linear.weight[rows])
        kept.linear.bias = nn.Parameter(self.linear.bias[rows])
        kept.linear.out_features = len(rows)
        return kept
