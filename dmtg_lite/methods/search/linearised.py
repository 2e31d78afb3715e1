"""Fine-tuning without training: a network that is made linear in its encoder, where it stands.

With W* the encoder's weights and P a few random directions of them, every output is
z(W* + P v) = z(W*) + G v to first order, and tuning it for any group of tasks is a regression in v.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import sqrt

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from dmtg_lite.core.checks import as_whole
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.tasks import Task
from dmtg_lite.methods.search.affinity import Affinity
from dmtg_lite.runs.fit import build_network, continue_steps

_AT_ONCE = 256  # rows in one pass
_RIDGE = 1e-4  # times |v|^2: keeps a fit from running away where it separates all rows
_MOST_STEPS = 50  # of L-BFGS


@dataclass(frozen=True, slots=True)
class Linearised:
    """The outputs of some rows to first order in v, float64 on the CPU.

    Args:
        tasks: The N tasks.
        outputs: ``{task: z(W*)}``, (n, n_outputs) each, as a network's `forward` gives them.
        slopes: ``{task: G}``, (n, n_outputs, d) each.
        targets: ``{task: targets}``, (n,) each.
    """

    tasks: tuple[Task, ...]
    outputs: dict[str, Tensor]
    slopes: dict[str, Tensor]
    targets: dict[str, Tensor]

    def compute_losses(self, v: Tensor, which: Sequence[int] | None = None) -> Tensor:
        """Mean loss of tasks (``None``: all), by number, with the encoder at W* + P v."""
        losses = []
        for task in self.tasks if which is None else [self.tasks[n] for n in which]:
            outputs = self.outputs[task.name] + self.slopes[task.name] @ v
            total, count = sum_loss(task, outputs, self.targets[task.name])
            losses.append(total / count)
        return torch.stack(losses)

    def tune(self, which: Sequence[int]) -> Tensor:
        """The v, (d,), at which the mean loss of these tasks is least: a convex problem."""
        slopes = self.slopes[self.tasks[0].name]
        v = torch.zeros(slopes.shape[-1], dtype=slopes.dtype, requires_grad=True)
        solver = torch.optim.LBFGS([v], max_iter=_MOST_STEPS, line_search_fn="strong_wolfe")

        def evaluate() -> Tensor:
            solver.zero_grad()
            objective = self.compute_losses(v, which).mean() + _RIDGE * v @ v
            objective.backward()
            return objective

        solver.step(evaluate)  # pyright: ignore[reportArgumentType]  # torch: float, takes a tensor
        return v.detach()


@torch.no_grad()
def linearise(
    network: GroupedNetwork, split: Split, rows: Tensor, n_directions: int, seed: int
) -> Linearised:
    """Rows of a split through a network, in evaluation mode; it stays as it is.

    A gradient projected on a random direction is the derivative along it, so no gradient is
    computed: one pass forward that carries derivatives gives those of all tasks.

    Args:
        n_directions: d. Directions are normal with variance 1 / d, so that products of projected
            gradients are those of the gradients on average (Johnson and Lindenstrauss).
        seed: Of the directions: the same for every split.
    """
    rng = torch.Generator().manual_seed(seed)
    encoder = {
        name: weight.detach()
        for name, weight in network.named_parameters()
        if name.startswith(("stem.", "branches.")) and weight.requires_grad
    }
    parts = [split.features[some].to(network.device) for some in rows.split(_AT_ONCE)]
    was_training = network.training
    network.eval()
    outputs, slopes = {}, []
    for _ in range(n_directions):
        direction = {
            name: (torch.randn(weight.shape, generator=rng) / sqrt(n_directions)).to(weight)
            for name, weight in encoder.items()
        }
        with warnings.catch_warnings():  # torch's own, when it first loads forward derivatives
            warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
            found = [
                jvp(lambda at, x=x: functional_call(network, at, (x,)), (encoder,), (direction,))
                for x in parts
            ]
        outputs, slope = (_join([one[k] for one in found]) for k in (0, 1))
        slopes.append(slope)
    network.train(was_training)
    stacked = {name: torch.stack([one[name] for one in slopes], -1) for name in outputs}
    targets = {name: split.targets[name][rows].cpu() for name in outputs}
    return Linearised(network.tasks, outputs, stacked, targets)


def _join(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([one[name] for one in parts]).cpu().double() for name in parts[0]}


@sealed()
def linearised_affinity(
    data: TaskData,
    config: TrainConfig,
    *,
    n_steps: int | None = None,
    n_directions: int = 32,
    n_rows: int = 256,
) -> Affinity:
    """Affinity of every pair, as if a Naive MTL network had been fine-tuned for it.

    Z[i, j] = 1 - L_j(tuned for i and j) / L_j(as trained), on validation rows; the diagonal is what
    j gains on its own. The tuning is `Linearised.tune` on training rows.

    Args:
        config: As for `methods.naive`, whose run this is.
        n_steps: Length of the run; ``None``: the whole. The longer it is, the less is left to tune:
            a network that serves all tasks says nothing of who shares what.
        n_directions, n_rows: Of the projection, and most rows of each split that are looked at.

    Raises:
        ValueError: If tasks are dense, or one has no label among the rows.

    Source:
        Grad-TAG: Li, Sharma and Zhang, Scalable Multitask Learning Using Gradient-based Estimation
        of Task Affinity (KDD 2024). They average over random sets of tasks, where these are pairs;
        linearise heads too; and cluster by a semi-definite programme.
    """
    if data.tasks[0].is_dense:
        raise ValueError(
            f"{data.name!r} has a picture for each task, whose every pixel would be a row of the "
            "regression. `gradient_cosine` and `tag_affinity` serve dense tasks."
        )
    n_directions = as_whole("n_directions", n_directions, 1)
    n_rows = as_whole("n_rows", n_rows, 1)
    whole = sum(config.count_steps(len(data.train)))
    n_steps = whole if n_steps is None else as_whole("n_steps", n_steps, 0)
    network = build_network(data, config)
    state = TrainState(network, config, seed=derive_seed(config.seed, Stream.TRAINING))
    for _ in continue_steps(state, data, n_steps):
        pass
    looks, n_seen = [], 0
    rng = torch.Generator().manual_seed(derive_seed(config.seed, Stream.AFFINITY))
    for split in (data.train, data.val):
        rows = torch.randperm(len(split), generator=rng)[:n_rows].to(split.features.device)
        seed = derive_seed(config.seed, Stream.AFFINITY, 1)
        looks.append(linearise(network, split, rows, n_directions, seed))
        n_seen += len(rows)
    matrix = _compare_pairs(*looks)
    # a pass that carries derivatives costs three forward ones, as much as a training step
    macs = count_macs(network, data.feature_shape)["encoder"] * n_seen * n_directions
    return Affinity(matrix, network, state.encoder_macs + macs)


def _compare_pairs(train: Linearised, val: Linearised) -> Tensor:
    """The relative gain of j in row i, column j: (N, N)."""
    n_tasks = len(train.tasks)
    still = torch.zeros(next(iter(train.slopes.values())).shape[-1], dtype=torch.float64)
    before = val.compute_losses(still)  # (N,)
    if not torch.isfinite(before + train.compute_losses(still)).all():
        raise ValueError(
            "a task has no label among the rows looked at, or its loss is not finite: raise "
            "`n_rows`, or lower `lr`."
        )
    matrix = torch.zeros(n_tasks, n_tasks, dtype=torch.float64)
    for i, j in combinations_with_replacement(range(n_tasks), 2):
        after = val.compute_losses(train.tune([i, j] if i != j else [i]))
        gain = 1 - after / before
        matrix[i, j], matrix[j, i] = gain[j], gain[i]
    return matrix
