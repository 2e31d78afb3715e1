"""Batch norm over the rows of all ranks: torch's on GPUs, and its equal on CPUs.

So a batch is normalised as one process would normalise the whole of it, however many share it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def share_batch_norm(network: nn.Module) -> None:
    """Replace each batch norm by one of all ranks, with the same weights and statistics."""
    is_cpu = all(weight.device.type == "cpu" for weight in network.parameters())
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                shared = _SharedBatchNorm.of(child) if is_cpu else _convert(child)
                module.add_module(name, shared)


def _convert(own: nn.Module) -> nn.Module:
    return nn.SyncBatchNorm.convert_sync_batchnorm(own)


class _SharedBatchNorm(_BatchNorm):
    """What `nn.SyncBatchNorm` is, which refuses inputs on a CPU."""

    @classmethod
    def of(cls, own: _BatchNorm) -> _BatchNorm:
        """A batch norm that shares all tensors with ``own``."""
        shared = cls.__new__(cls)
        vars(shared).update(vars(own))
        return shared

    def _check_input_dim(self, input: Tensor) -> None:  # whatever ``own`` took
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        features = wide.transpose(0, 1).flatten(1)  # (C, rows and places)
        count = features.new_full((1,), features.shape[1])
        sums: Tensor = _Sum.apply(torch.cat([features.sum(1), count]))
        mean, n = sums[:-1] / sums[-1], sums[-1].detach()
        shape = (1, -1, *[1] * (input.ndim - 2))
        centered = wide - mean.view(shape)
        squares: Tensor = _Sum.apply(centered.square().transpose(0, 1).flatten(1).sum(1))
        variance = squares / n
        self._track(mean.detach(), variance.detach() * n / (n - 1).clamp_min(1))
        normal = centered * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """As torch does: the variance that enters is the unbiased one."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None  # beside the other two
        self.num_batches_tracked += 1
        rate = self.momentum
        if rate is None:  # the mean over all batches
            rate = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


class _Sum(torch.autograd.Function):
    """The sum over all ranks. Its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, *gradients)
