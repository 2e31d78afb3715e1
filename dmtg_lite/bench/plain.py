"""The plain formulation of a step, to be compared with: from the paper's and the released code's
description.

K x N separate heads and losses, `.item()` on each, ReLU before pooling, NCHW, Adam as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtg_lite.core.batches import Targets, pick_target
from dmtg_lite.core.heads import FlatHeads, Heads
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.encoders.resnet import ResidualBlock


class PlainResNet(nn.Module):
    """conv-BN-ReLU-maxpool, one residual block, avgpool, flatten: 3x64x64 -> 14,400."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        of = {
            kind: nn.ModuleList(_copy(one) for one in branch.modules() if isinstance(one, kind))
            for kind in (nn.Conv2d, nn.BatchNorm2d)
        }
        self.convs, self.norms = of[nn.Conv2d], of[nn.BatchNorm2d]

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norms[0](self.convs[0](x))), 3, 2)
        y = F.relu(self.norms[1](self.convs[1](x)))
        y = self.norms[2](self.convs[2](y))
        return F.avg_pool2d(F.relu(x + y), 2, 2).flatten(1)


class PlainModel(nn.Module):
    """Stem, K encoders, K x N separate heads, S; the weights are copies of a network's.

    Args:
        network: With all K x N heads.
    """

    def __init__(self, network: GroupedNetwork) -> None:
        super().__init__()
        self.tasks = network.tasks
        self.stem = _copy(network.stem)
        self.encoders = nn.ModuleList(_build_encoder(branch) for branch in network.branches)
        self.heads = nn.ModuleList(nn.ModuleList(_split_heads(head)) for head in network.heads)
        self.logits = nn.Parameter(cast("Tensor", network.assignment.logits).detach().clone())

    def forward(
        self, inputs: Tensor, targets: Targets, tau: float, noise: torch.Generator
    ) -> tuple[Tensor, dict[tuple[int, int], float]]:
        """The total loss of one step, and all K x N losses read on the host, as the released loop
        does."""
        shared = self.stem(inputs)
        features = [encoder(shared) for encoder in self.encoders]
        where = self.logits.device
        gumbel = -torch.empty(self.logits.shape).exponential_(generator=noise).log().to(where)
        z = torch.softmax((self.logits + gumbel) / tau, dim=-1)
        total, shown = torch.zeros((), device=where), {}
        for n, task in enumerate(self.tasks):
            target = pick_target(targets, n, task)
            for k, feature in enumerate(features):
                output = cast("nn.ModuleList", self.heads[k])[n](feature)
                if task.is_dense and task.loss != "cross_entropy":
                    output = output * task.spread + task.center
                losses, count = sum_loss(task, output, target)
                loss = losses / count.clamp_min(1)
                shown[n, k] = loss.item()
                total = total + z[n, k] * loss
        return total, shown


def plain_steps(
    model: PlainModel, inputs: Tensor, targets: Targets, *, tau: float, lr: float, seed: int
) -> Iterator[float]:
    """Train step by step: Adam on weights and S together, and a look at every loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    noise = torch.Generator().manual_seed(seed)
    model.train()
    while True:
        total, _ = model(inputs, targets, tau, noise)
        if torch.isnan(total):
            raise FloatingPointError("the loss is not a number")
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield total.item()


def _build_encoder(branch: nn.Module) -> nn.Module:
    is_resnet = any(isinstance(one, ResidualBlock) for one in branch.modules())
    return PlainResNet(branch) if is_resnet else _copy(branch)


def _split_heads(heads: Heads) -> Sequence[nn.Module]:
    """A head a task, with a copy of its weights."""
    if not isinstance(heads, FlatHeads):
        return [_copy(decoder) for decoder in cast("nn.ModuleList", heads.decoders)]
    linear, made = heads.linear, []
    parts = zip(linear.weight.split(heads.sizes), linear.bias.split(heads.sizes), strict=True)
    for weight, bias in parts:
        own = nn.Linear(linear.in_features, len(bias), device=weight.device)
        own.load_state_dict({"weight": weight, "bias": bias})
        made.append(own)
    return made


def _copy(module: nn.Module) -> nn.Module:
    layout: dict[str, Any] = {"memory_format": torch.contiguous_format}
    return deepcopy(module).to(**layout)
