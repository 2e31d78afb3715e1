"""The other family: one encoder for all tasks, and their gradients negotiated at every step.

Nothing is grouped. The encoder follows an aggregation of the N gradients of the tasks instead of
their sum; heads learn from their own task's loss, as in Naive MTL. The aggregators are TorchJD's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.seeds import Stream, derive_seed, drawing
from dmtg_lite.core.state import TrainState
from dmtg_lite.methods.door import method
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.methods.search.affinity import list_encoder_weights
from dmtg_lite.runs.result import MethodResult
from dmtg_lite.runs.saving import UNSAVED, Saving

Aggregator = Callable[[Tensor], Tensor]
"""From the Jacobian, one gradient a row, (N, P), to the direction that is taken, (P,)."""

# Our names and TorchJD's. Those that remember earlier steps are left out: a checkpoint would not.
AGGREGATORS = {
    "upgrad": "UPGrad",
    "pcgrad": "PCGrad",
    "mgda": "MGDA",
    "imtl_g": "IMTLG",
    "aligned_mtl": "AlignedMTL",
    "dualproj": "DualProj",
    "graddrop": "GradDrop",
    "sum": "Sum",
}


@method
def balance(
    data: TaskData,
    n_groups: int,
    config: TrainConfig,
    *,
    saving: Saving = UNSAVED,
    aggregator: str = "upgrad",
) -> MethodResult:
    """Naive MTL whose shared weights follow an aggregation of the N task gradients.

    The aggregation goes to Adam in place of the gradient of the total, so that its length hardly
    matters and its direction does. A task without a label in the batch has no gradient and takes no
    part. A step costs N backward passes, and is counted so: (1 + 2 N) / 3 steps of Naive MTL.

    Args:
        n_groups: Ignored: there is one group.
        aggregator: A name of `AGGREGATORS`; ``"sum"`` is Naive MTL, at the price of the others.

    Raises:
        ImportError: If TorchJD, or the solver that two aggregators need, is not installed.

    Source:
        UPGrad: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization (2024). PCGrad:
        Yu et al., Gradient Surgery for Multi-Task Learning (NeurIPS 2020). MGDA: Desideri (2012),
        as in Sener and Koltun (NeurIPS 2018). TorchJD names the others'.
    """
    aggregate = load_aggregator(aggregator)

    def prepare(state: TrainState) -> None:
        state.backward = Balance(state, aggregate)
        state.n_backward = len(data.tasks)

    name = "balance" if aggregator == "upgrad" else f"balance_{aggregator}"
    return train_groups(
        data, [data.task_names], config, method=name, from_scratch=True, prepare=prepare,
        saving=saving,
    )  # fmt: skip


def load_aggregator(name: str) -> Aggregator:
    """TorchJD's aggregator of this name.

    Raises:
        ValueError: If there is none.
        ImportError: If TorchJD or what it needs is missing.
    """
    if name not in AGGREGATORS:
        raise ValueError(f"`aggregator` must be one of {', '.join(AGGREGATORS)}, got {name!r}.")
    try:
        from torchjd import aggregation

        return getattr(aggregation, AGGREGATORS[name])()
    except ImportError as error:
        raise ImportError(
            f"The aggregator {name!r} comes from TorchJD, which is not installed, or not with its "
            'solver. Run: pip install "dmtg-lite[mto]"'
        ) from error


class Balance:
    """Gradients of a step: the encoder's by an aggregator, the heads' as they are.

    Args:
        state: Of the run; seed and step decide what an aggregator draws.
        aggregate: See `Aggregator`.
    """

    def __init__(self, state: TrainState, aggregate: Aggregator) -> None:
        network = state.network
        self._state, self._aggregate = state, aggregate
        self._encoder = list_encoder_weights(network)
        self._heads = [weight for head in network.heads for weight in head.parameters()]

    def __call__(self, total: Tensor, loss_matrix: Tensor) -> None:
        """Fill ``.grad`` of all weights, as ``total.backward()`` would.

        What the objective makes of the losses is kept: row n of the Jacobian is the gradient of
        the part of ``total`` that comes from task n.
        """

        def differentiate(weights: Sequence[Tensor], shares: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(
                loss_matrix, weights, shares, retain_graph=True, materialize_grads=True
            )

        (shares,) = torch.autograd.grad(total, loss_matrix, retain_graph=True)  # (N, K)
        for weight, gradient in zip(self._heads, differentiate(self._heads, shares), strict=True):
            _set_gradient(weight, gradient)
        rows = []
        for n in range(len(shares)):
            own = torch.zeros_like(shares)
            own[n] = shares[n]
            rows.append(torch.cat([g.flatten() for g in differentiate(self._encoder, own)]))
        direction = self._combine(torch.stack(rows))
        parts = direction.split([weight.numel() for weight in self._encoder])
        for weight, part in zip(self._encoder, parts, strict=True):
            _set_gradient(weight, part)

    @torch.no_grad()
    def _combine(self, jacobian: Tensor) -> Tensor:
        """The aggregation of (N, P), of the rows that are not 0: (P,)."""
        jacobian = jacobian[jacobian.any(1)]
        if not len(jacobian) or not jacobian.isfinite().all():  # the run says what has diverged
            return jacobian.sum(0)
        seed = derive_seed(self._state.seed, Stream.BALANCE, self._state.step)
        with drawing(seed, jacobian.device):  # some draw an order or a mask: of the run's own seed
            return self._aggregate(jacobian)


def _set_gradient(weight: Tensor, gradient: Tensor) -> None:
    """As a backward pass leaves it: fused Adam walks raw memory, so it lies as the weight does."""
    weight.grad = torch.empty_like(weight).copy_(gradient.view(weight.shape))
