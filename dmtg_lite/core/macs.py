"""What a network costs: multiply-adds, counted by running it once."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dmtg_lite.core.network import GroupedNetwork

_counted: WeakKeyDictionary[GroupedNetwork, tuple[tuple, dict[str, int]]] = WeakKeyDictionary()


def count_macs(network: GroupedNetwork, feature_shape: Sequence[int]) -> dict[str, int]:
    """Multiply-adds of one row through each part: counted once, and again when heads have left.

    Args:
        network: Any grouped network.
        feature_shape: Of one row: (C, H, W), (L, D) or (D,).

    Returns:
        ``{"stem", "branches", "heads", "encoder", "total"}``: stem, all K branches, all heads,
        stem + branches, and everything. Convolutions and matrix products only, as the paper's
        Table A1 counts them (its "FLOPs" are multiply-adds).
    """
    what = (*feature_shape, *(tuple(task.name for task in head.tasks) for head in network.heads))
    known = _counted.get(network)
    if known is None or known[0] != what:
        known = _counted[network] = what, _count(network, feature_shape)
    return known[1]


@torch.no_grad()
def _count(network: GroupedNetwork, feature_shape: Sequence[int]) -> dict[str, int]:
    was_training = network.training
    network.eval()  # a counting pass must not move batch-norm statistics

    def run(module: nn.Module, x: Tensor) -> tuple[Tensor, int]:
        # the fused attention of a CPU has no count: ask for the one made of matrix products
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            y = module(x)
        return y, counter.get_total_flops() // 2

    shared, stem = run(network.stem, torch.zeros(1, *feature_shape, device=network.device))
    branches = heads = 0
    for branch, head in zip(network.branches, network.heads, strict=True):
        features, macs = run(branch, shared)
        branches += macs
        heads += run(head, features)[1]
    network.train(was_training)
    encoder = stem + branches
    return {
        "stem": stem,
        "branches": branches,
        "heads": heads,
        "encoder": encoder,
        "total": encoder + heads,
    }
