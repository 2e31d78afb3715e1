"""Scaling of gradients where many meet, so that they do not outgrow the learning rate."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScaleGradient(nn.Module):
    """Identity whose backward pass multiplies the gradient by 1 / sqrt(n).

    n tasks (or branches) that read the same features send back n gradients. Independent ones of
    size g sum to about g * sqrt(n), so that a network with more readers would take longer steps at
    the same learning rate; after scaling it does not. What lies behind the module keeps its full
    gradient.

    Args:
        n: How many gradients are summed here, >= 1; 1 leaves them as they are.

    Raises:
        ValueError: If ``n`` is below 1.

    Source:
        The "representation functions" of Standley et al. (2020) and the DMTG release. There n is
        state of a class, so that networks in one process overwrite each other's, and the scaling
        between branches and heads reads the number of groups where its own number of tasks is
        meant. Here every instance has its own n.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        if n < 1:
            raise ValueError(f"`n` must be >= 1, got {n}. It counts the gradients that are summed.")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        return x if self.n == 1 else _Scale.apply(x, self.n**-0.5)

    def extra_repr(self) -> str:
        return f"n={self.n}"


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(
            x
        )  # a view: returning the input itself would drop this function from the graph

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
