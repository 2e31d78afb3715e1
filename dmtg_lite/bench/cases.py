"""What is measured: the toy step and the paper's networks, on made-up data in the right shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dmtg_lite.bench.plain import PlainModel, plain_steps
from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.tasks import CELEBA_9, CELEBA_40, TASKONOMY_5, Task
from dmtg_lite.runs.fit import branch_out, build_network, train_steps
from dmtg_lite.runs.presets import PAPER, TOY

PLAIN = "plain"
VARIANTS: dict[str, dict[str, Any]] = {  # and how the config of each differs from the case's
    PLAIN: {},
    "ours": {},
    "ours bfloat16": {"precision": "bfloat16"},
    "ours graph": {"cuda_graph": True},  # on a GPU only
}


@dataclass(frozen=True, slots=True)
class Case:
    """One step to measure.

    Args:
        name: As the command calls it.
        tasks: The N tasks.
        n_groups: K, how many groups.
        config: Its recipe, without schedules; branches are shaken apart, so that they differ.
        side: Of the pictures, in pixels.
        batch_sizes: B on a GPU, on a CPU, and to see quickly that it runs.
    """

    name: str
    tasks: tuple[Task, ...]
    n_groups: int
    config: TrainConfig
    side: int
    batch_sizes: tuple[int, int, int]

    def settle(self, device: torch.device, *, is_quick: bool) -> Case:
        """The case with the batch size that suits a device."""
        sizes = dict(zip(("cuda", "cpu", "quick"), self.batch_sizes, strict=True))
        size = sizes["quick" if is_quick else "cpu" if device.type == "cpu" else "cuda"]
        config = replace(self.config, batch_size=size)
        side = min(self.side, 64) if is_quick else self.side
        return replace(self, config=config, side=side)


def _make_case(
    name: str, tasks: Sequence[Task], k: int, config: TrainConfig, side: int, *sizes: int
) -> Case:
    gpu, cpu, quick = sizes
    config = replace(config, schedule="constant", epochs=None, steps=10**6, pretrain=0, jitter=0.1)
    return Case(name, tuple(tasks), k, config, side, (gpu, cpu, quick))


_TOY_TASKS = [Task(f"t{n}") for n in range(9)]
CASES = {
    case.name: case
    for case in (
        _make_case("toy", _TOY_TASKS, 3, TOY["faces_plain"], 32, 64, 64, 64),
        _make_case("celeba9_k2", CELEBA_9, 2, PAPER["celeba9"], 64, 256, 64, 8),
        _make_case("celeba9_k3", CELEBA_9, 3, PAPER["celeba9"], 64, 256, 64, 8),
        _make_case("celeba9_k4", CELEBA_9, 4, PAPER["celeba9"], 64, 256, 64, 8),
        _make_case("celeba40_k5", CELEBA_40, 5, PAPER["celeba40"], 64, 256, 64, 8),
        _make_case("taskonomy5_k3", TASKONOMY_5, 3, PAPER["taskonomy5"], 256, 16, 2, 2),
    )
}


def make_data(case: Case, batch_size: int | None = None) -> TaskData:
    """As many random pictures as one batch holds, so that both formulations see the same ones."""
    rng, n = torch.Generator().manual_seed(0), batch_size or case.config.batch_size
    shape = (n, 3, case.side, case.side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
    targets = {task.name: _draw_target(task, n, case.side, rng) for task in case.tasks}
    split = Split(images, targets)
    return TaskData("random pixels", case.tasks, split, split, split)


def _draw_target(task: Task, n: int, side: int, rng: torch.Generator) -> Tensor:
    if not task.is_dense:
        return torch.randint(0, task.n_outputs, (n,), generator=rng)
    if task.loss == "cross_entropy":
        return torch.randint(1, task.n_outputs, (n, side, side), generator=rng).to(torch.int8)
    drawn = torch.randn(n, task.n_outputs, side, side, generator=rng)
    if task.n_outputs == 3:  # components of unit vectors, times 127
        return F.normalize(drawn, dim=1).mul(127).to(torch.int8)
    return (task.center + task.spread * drawn).half()


def make_network(case: Case, data: TaskData) -> GroupedNetwork:
    """K branches, on the device of the data."""
    return branch_out(build_network(data, case.config), case.n_groups, case.config)


def make_steps(case: Case, variant: str, data: TaskData) -> Iterator[float | Tensor]:
    """One optimisation step per `next()`, giving the total loss, as a number or still on its
    device."""
    config = replace(case.config, **VARIANTS[variant])
    network = make_network(case, data)
    if variant != PLAIN:
        return (record.task_losses.sum() for record in train_steps(network, data, config))
    images, targets = Batches(data.train, data.tasks, data.device).take(slice(None))
    images = images.float().div(255).contiguous()  # as a loader hands them over
    seed, tau = derive_seed(config.seed, Stream.NOISE), config.tau_at(0)
    return plain_steps(PlainModel(network), images, targets, tau=tau, lr=config.lr, seed=seed)


def compare_losses(case: Case) -> float:
    """Relative difference of a total loss in both formulations, of a few pictures on the CPU."""
    data = make_data(case, 2)
    network = make_network(case, data)
    images, targets = Batches(data.train, data.tasks, data.device).take(slice(None))
    with torch.no_grad():
        tau = case.config.tau_at(0)
        z = network.assignment.sample(tau, generator=torch.Generator().manual_seed(1))
        ours = (network.train().compute_loss_matrix(images, targets) * z).sum()
        noise = torch.Generator().manual_seed(1)
        plain = PlainModel(network).train()
        theirs, _ = plain.forward(images.float().div(255), targets, tau, noise)
    return abs(float(ours / theirs) - 1)
