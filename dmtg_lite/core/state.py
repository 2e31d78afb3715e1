"""Everything a run is between two steps: the one owner of network, config, seed and optimisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from dmtg_lite.core.batches import Targets
from dmtg_lite.core.config import Optimiser, TrainConfig
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed

Backward = Callable[[Tensor, Tensor], None]
"""Makes gradients of the objective and of the loss matrix, (N, K), that it was made of."""


def follow_objective(total: Tensor, loss_matrix: Tensor) -> None:
    """The gradient of the objective itself, for all weights: the paper's way."""
    total.backward()


class Program(Protocol):
    """Whatever computes the losses of a step: a network, or its stacked form (`core.stacked`)."""

    layout: torch.memory_format  # of pictures, as its convolutions want them

    def compute_loss_matrix(self, inputs: Tensor, targets: Targets) -> Tensor: ...

    def compute_split_losses(self, inputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor]: ...

    def undo(self) -> None: ...


class TrainState:
    """A run between two steps, and so everything a checkpoint holds.

    Args:
        network: Trained in place.
        config: As given by the user.
        seed: Seed of batches and noise; ``None``: the config's.

    Attributes:
        step: Steps taken.
        program: What computes the losses of a step: the network, its stacked form, or what shares
            it with other processes (`runs.parallel`).
        optimizers: By what they train, since S may have another rule and rate than the weights.
        noise: Generator of the Gumbel noise, on the CPU: draws and checkpoints are every device's.
        lr_scale: What the schedule has made of both rates.
        encoder_macs: Multiply-adds of encoder forward passes so far.
        share: Of which rows of a batch a step is: every m-th from the i-th on, (i, m). Of all, but
            where several processes share a run.
        backward, n_backward: How a step makes gradients, and in how many backward passes.
    """

    def __init__(
        self, network: GroupedNetwork, config: TrainConfig, *, seed: int | None = None
    ) -> None:
        self.network = network
        self.program: Program | GroupedNetwork = network
        self.config = config
        self.seed = config.seed if seed is None else seed
        self.step = 0
        self.encoder_macs = 0
        self.share: tuple[int, int] = (0, 1)
        self.backward: Backward = follow_objective
        self.n_backward = 1
        self.noise = torch.Generator().manual_seed(derive_seed(self.seed, Stream.NOISE))
        logits = network.assignment.logits
        weights = [p for p in network.parameters() if p is not logits]
        self.optimizers = {"weights": build_optimizer("adam", weights, config.lr)}
        if logits is not None:
            rule, rate = config.optimiser_assignment, self.lr_assignment()
            self.optimizers["assignment"] = build_optimizer(rule, [logits], rate)
        self.lr_scale = 1.0
        self.best_val_loss, self.bad_epochs = float("inf"), 0  # what a plateau remembers
        # what a run must have in common with the one it continues
        self.heads_at_start = [[task.name for task in head.tasks] for head in network.heads]
        self.spare_at_start = network.n_spare

    def lr_assignment(self) -> float:
        """Configured learning rate of S before any schedule."""
        own = self.config.lr_assignment
        return self.config.lr if own is None else own

    def zero_grad(self) -> None:
        """Drop all gradients; an optimiser's own way takes a good part of a small step."""
        for optimizer in self.optimizers.values():
            for weight in optimizer.param_groups[0]["params"]:
                weight.grad = None

    def set_lr(self, lr: float, lr_assignment: float) -> None:
        """Rates of the coming step, before the schedule."""
        for optimizer, rate in zip(self.optimizers.values(), (lr, lr_assignment), strict=False):
            optimizer.param_groups[0]["lr"] = rate * self.lr_scale

    def unstack(self) -> None:
        """Bring network and optimisers back to their plain form, if they are in another."""
        if self.program is not self.network:
            cast("Program", self.program).undo()


def build_optimizer(rule: Optimiser, weights: Sequence[Tensor], lr: float) -> torch.optim.Optimizer:
    if rule == "adam":
        return torch.optim.Adam(weights, lr=lr, fused=True)
    return torch.optim.SGD(weights, lr=lr, momentum=0.9, fused=True)
