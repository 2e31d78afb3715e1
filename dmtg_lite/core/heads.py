"""Output layers: one family, a branch's heads behind one interface, whatever the tasks are.

Heads that answer with classes or a number are here, fused: one or two products whatever N is. Those
of dense tasks, a decoder each, are in `dense`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from dmtg_lite.core.losses import compute_each, find_labels
from dmtg_lite.core.tasks import Task, check_flat


class Heads(nn.Module, ABC):
    """The heads of one branch. A head's place is its number among them, its row its task's in L.

    What `forward` returns is the family's own business; `split` and `compute_losses` read it.
    """

    is_fused: ClassVar[bool] = False  # those of several branches may be computed at once
    tasks: tuple[Task, ...]  # served, in row order; possibly none
    served: list[int]  # the row of the head at each place
    rows: Tensor  # the same as a buffer, so that no step copies it to the device

    def place(self, row_of: dict[str, int]) -> None:
        """Give every head the row that its task has in the network's loss matrix L."""
        self.served = [row_of[task.name] for task in self.tasks]
        device = next(self.parameters()).device if self.served else None
        rows = torch.tensor(self.served, dtype=torch.long, device=device)
        self.register_buffer("rows", rows, persistent=False)

    @abstractmethod
    def split(self, outputs: Any) -> dict[str, Tensor]:
        """What `forward` returned, by task: logits, or numbers in the task's own unit."""

    @abstractmethod
    def compute_losses(self, outputs: Any, targets: Any) -> Tensor:
        """Mean loss of every head over what carries a label in the batch, 0 where nothing does.

        ``outputs`` from `forward`, ``targets`` from `pick` -> shape (number of tasks served,).
        """

    @abstractmethod
    def pick(self, targets: Any) -> Any:
        """Of a batch's targets those of the tasks served."""

    @abstractmethod
    def keep(self, places: Sequence[int]) -> Self:
        """New heads for the tasks at these places only, with copies of their weights."""

    def drop(self, places: Sequence[int]) -> list[nn.Parameter]:
        """Let go of heads; the weights that left. Fused heads stay: cutting them costs more."""
        return []

    def hold(self, features: Tensor) -> Any:
        """`forward` with the weights held still: gradients reach the features only."""
        held = {name: weight.detach() for name, weight in self.named_parameters()}
        return functional_call(self, held, (features,))


class FlatHeads(Heads):
    """Heads of whole rows, classes or one number each, fused: linear, or with a hidden layer.

    A linear head on a single number can only cut it once. With ``hidden`` units of its own
    (LeakyReLU 0.1) it can cut several times, so that tasks share a number but not a cut.
    Linear heads, ``hidden=0``, are the paper's CelebA network; hidden units are ours.
    """

    is_fused = True
    _place_of: Tensor  # of each output: the place of the head that it belongs to
    _units: Tensor  # (3, tasks): center and spread of what a loss of numbers sees; its weight

    def __init__(self, in_features: int, tasks: Sequence[Task], *, hidden: int = 0) -> None:
        super().__init__()
        for task in tasks:
            check_flat(task)
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
        place_of = torch.arange(len(tasks)).repeat_interleave(torch.tensor(self.sizes).long())
        device = self.linear.weight.device
        self.register_buffer("_place_of", place_of.to(device), persistent=False)
        units = [(*((t.center, t.spread) if t.is_number else (0.0, 1.0)), t.weight) for t in tasks]
        units = torch.tensor(units, device=device).view(-1, 3).T
        self.register_buffer("_units", units, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, and numbers in spreads from the center, side by side, float32.

        (B, in_features) -> (B, sum of n_outputs).
        """
        if self.hidden is None:
            return self.linear(features).float()
        units = F.leaky_relu(self.hidden(features), 0.1)  # (B, N * hidden)
        units = units.unflatten(1, (len(self.tasks), self.linear.in_features))
        weight = self.linear.weight  # (sum of n_outputs, hidden)
        if len(set(self.sizes)) == 1:  # the common case: no copy of the units for each output
            weight = weight.unflatten(0, (-1, self.sizes[0]))
            logits = torch.einsum("bnh,noh->bno", units, weight).flatten(1)
        else:
            logits = torch.einsum("boh,oh->bo", units.index_select(1, self._place_of), weight)
        return (logits + self.linear.bias).float()

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        parts = zip(self.tasks, outputs.split(self.sizes, dim=-1), strict=True)  # (B, n_outputs)
        return {t.name: part * t.spread + t.center if t.is_number else part for t, part in parts}

    def pick(self, targets: Tensor) -> Tensor:
        return targets.index_select(1, self.rows)

    def compute_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over those rows of the batch that carry the label.

        Args:
            outputs: (..., B, sum of n_outputs) of `forward`; leading dimensions are branches.
            targets: int64 class numbers, (B, number of tasks served), -1: no label; float32 where
                some are numbers, nan: no label.
        """
        if targets.is_floating_point():
            targets = (targets - self._units[0]) / self._units[1]
        n_labels = find_labels(targets).sum(-2).clamp_min(1)
        targets = targets.expand(*outputs.shape[:-1], -1)  # (..., B, tasks)
        if len({(task.loss, task.n_outputs) for task in self.tasks}) == 1:  # one kernel for all
            parts = outputs.unflatten(-1, (-1, self.sizes[0]))
            losses = compute_each(self.tasks[0].loss, parts, targets)
        else:
            parts = zip(self.tasks, outputs.split(self.sizes, -1), targets.unbind(-1), strict=True)
            losses = torch.stack([compute_each(t.loss, p, own) for t, p, own in parts], dim=-1)
        return losses.sum(-2) / n_labels * self._units[2]

    @torch.no_grad()
    def keep(self, places: Sequence[int]) -> Self:
        kept = deepcopy(self)  # not a new one, whose weights would be drawn in vain
        kept._serve([self.tasks[n] for n in places])
        _keep_rows(kept.linear, self.sizes, places)
        if kept.hidden is not None:
            _keep_rows(kept.hidden, [self.linear.in_features] * len(self.tasks), places)
        return kept


def stack_losses(heads: Sequence[Heads], outputs: Sequence[Any], targets: Any, n: int) -> Tensor:
    """The loss matrix of N = ``n`` tasks from what all heads of K branches say: L, (N, K).

    0 where a branch has no head for a task.
    """
    if all(head.is_fused and len(head.tasks) == n for head in heads):  # one kernel for all K
        return heads[0].compute_losses(torch.stack(list(outputs)), targets).T.contiguous()
    columns = []
    for head, output in zip(heads, outputs, strict=True):
        column = torch.zeros(n, device=head.rows.device)
        if head.served:
            losses = head.compute_losses(output, head.pick(targets))
            column = column.index_copy(0, head.rows, losses)
        columns.append(column)
    return torch.stack(columns, dim=1)


def _keep_rows(layer: nn.Linear, sizes: Sequence[int], places: Sequence[int]) -> None:
    """Cut a fused layer down to the outputs of the heads at these places, in place."""
    rows = torch.arange(sum(sizes), device=layer.weight.device)
    rows_of = rows.split(list(sizes))
    rows = torch.cat([rows[:0], *(rows_of[n] for n in places)])  # possibly none
    layer.weight, layer.bias = nn.Parameter(layer.weight[rows]), nn.Parameter(layer.bias[rows])
    layer.out_features = len(rows)
