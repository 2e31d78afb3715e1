"""Output layers. A branch's heads are one or two fused products, whatever N is.

Dense decoders for pictures are not here yet: a dense task is refused with a clear error.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtg_lite.core.tasks import Task


class Heads(nn.Module):
    """The classification heads of one branch, fused: linear, or with a hidden layer each.

    A linear head on a single number can only cut it once. With ``hidden`` units of its own
    (LeakyReLU 0.1) it can cut several times, so that tasks share a number without agreeing on a
    cut.

    Args:
        in_features: Width of the branch's output.
        tasks: The tasks this branch serves, in row order; possibly none.
        hidden: Hidden units of every head; 0: linear.

    Raises:
        ValueError: If a task is not a classification, or ``hidden`` is negative.

    Source:
        Linear heads: the paper's CelebA network. Hidden units are ours.
    """

    def __init__(self, in_features: int, tasks: Sequence[Task], *, hidden: int = 0) -> None:
        super().__init__()
        for task in tasks:
            kind = (task.loss, task.metric, task.is_dense)
            if kind != ("cross_entropy", "error_percent", False) or task.n_outputs < 2:
                raise ValueError(
                    f"task {task.name!r} (loss {task.loss!r}, metric {task.metric!r}, dense "
                    f"{task.is_dense}, "
                    f"{task.n_outputs} outputs) cannot be served: heads serve classifications "
                    "of 2 or more classes with cross-entropy and error_percent."
                )
        if hidden < 0:
            raise ValueError(f"`hidden` must be >= 0, got {hidden}. 0 means linear heads.")
        # torch's own start: biases as wide as the weights, so that the units of a head bend at
        # different places even of a single number. With zero biases all would bend at 0.
        self.hidden = nn.Linear(in_features, len(tasks) * hidden) if hidden else None
        self.linear = nn.Linear(hidden or in_features, sum(task.n_outputs for task in tasks))
        self._serve(tasks)
        # per head, as if each were its own layer: Xavier-uniform and zero bias (both releases)
        for rows in self.linear.weight.detach().split(self.sizes):
            nn.init.xavier_uniform_(rows)
        nn.init.zeros_(self.linear.bias)

    def _serve(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.sizes = [task.n_outputs for task in tasks]
        task_of = torch.arange(len(tasks)).repeat_interleave(
            torch.tensor(self.sizes, dtype=torch.long)
        )
        self.register_buffer("_task_of", task_of.to(self.linear.weight.device), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of all heads side by side: (B, in_features) -> (B, sum of n_outputs), float32."""
        if self.hidden is None:
            return self.linear(features).float()
        units = F.leaky_relu(self.hidden(features), 0.1)  # (B, N * hidden)
        units = units.unflatten(1, (len(self.tasks), self.linear.in_features))
        weight = self.linear.weight  # (sum of n_outputs, hidden)
        if len(set(self.sizes)) == 1:  # the common case: no copy of the units for each output
            weight = weight.unflatten(0, (-1, self.sizes[0]))
            logits = torch.einsum("bnh,noh->bno", units, weight).flatten(1)
        else:
            logits = torch.einsum("boh,oh->bo", units.index_select(1, self._task_of), weight)
        return (logits + self.linear.bias).float()

    def split(self, logits: Tensor) -> dict[str, Tensor]:
        """Name the columns: {task name: (B, n_outputs)}."""
        parts = logits.split(self.sizes, dim=-1)
        return {task.name: part for task, part in zip(self.tasks, parts, strict=True)}

    def compute_losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of every head, mean over those images of the batch that carry its label.

        Args:
            logits: (..., B, sum of n_outputs), from `forward`; leading dimensions are branches that
                serve the same tasks.
            targets: int64 class numbers, (B, number of tasks served); -1: no label.

        Returns:
            Shape (..., number of tasks served); 0, without a gradient, where no image carries the
            label.
        """
        targets = targets.expand(*logits.shape[:-1], -1)  # (..., B, tasks)
        if len(set(self.sizes)) == 1:  # the common case: one kernel, not one per task
            losses = _compute_cross_entropy(logits.unflatten(-1, (-1, self.sizes[0])), targets)
        else:
            parts = logits.split(self.sizes, dim=-1)
            columns = [
                _compute_cross_entropy(part, targets[..., n]) for n, part in enumerate(parts)
            ]
            losses = torch.stack(columns, dim=-1)
        return losses.sum(-2) / (targets >= 0).sum(-2).clamp_min(1)

    @torch.no_grad()
    def keep(self, served: Sequence[int]) -> Heads:
        """New heads for the tasks at these positions only, with copies of their rows."""
        kept = deepcopy(self)  # not a new one, whose weights would be drawn in vain
        kept._serve([self.tasks[n] for n in served])
        _keep_rows(kept.linear, self.sizes, served)
        if kept.hidden is not None:
            units = self.linear.in_features
            _keep_rows(kept.hidden, [units] * len(self.tasks), served)
        return kept


def _compute_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Without reduction and for any leading shape, 0 where there is no label: (..., n_outputs) -> (...)."""
    flat = F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=-1, reduction="none"
    )
    return flat.view(targets.shape)


def _keep_rows(layer: nn.Linear, sizes: Sequence[int], served: Sequence[int]) -> None:
    """Cut a fused layer down to the rows of the tasks served, in place; ``sizes`` are those before."""
    rows = torch.arange(sum(sizes), device=layer.weight.device)
    rows_of = rows.split(sizes)
    rows = torch.cat([rows[:0], *(rows_of[n] for n in served)])  # possibly none
    layer.weight, layer.bias = nn.Parameter(layer.weight[rows]), nn.Parameter(layer.bias[rows])
    layer.out_features = len(rows)
