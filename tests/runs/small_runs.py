"""Small data and runs that the files of this folder share: whole images and pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.tasks import TASKONOMY_5, Task
from dmtg_lite.runs.checkpoint import pack
from dmtg_lite.runs.fit import branch_out, build_network, fit
from dmtg_lite.runs.history import History

CONFIG = TrainConfig(encoder="toy", steps=12, batch_size=16, lr=1e-2, lr_assignment=0.1)
DENSE_CONFIG = TrainConfig(
    steps=8, batch_size=4, lr=1e-3, lr_assignment=0.1, encoder="xception_small", tau=4.0
)
Run = tuple[History, TrainState]


def make_data(n_tasks: int = 4, *, size: int = 8) -> TaskData:
    """Random images; task n asks whether one half of one colour is bright."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        images = rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8)
        bright = [images[:, k % 3, k % size :].mean((1, 2)) > 127 for k in range(n_tasks)]
        targets = {f"t{k}": torch.from_numpy(own.astype(np.int64)) for k, own in enumerate(bright)}
        return Split(torch.from_numpy(images), targets)

    tasks = tuple(Task(f"t{k}") for k in range(n_tasks))
    return TaskData("pictures", tasks, split(70), split(40), split(33))


def make_pictures(*, size: int = 16, seed: int = 0) -> TaskData:
    """Noise with dense targets that depend on it, in the prepared sets' dtypes, with holes."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        images = torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8))
        gray = images.float().mean(1, keepdim=True) / 255
        hole = torch.from_numpy(rng.random((n, 1, size, size)) < 0.1)
        normal = F.normalize(images.float() - 127, dim=1).mul(127).round()
        targets = {
            "depth": (5 * gray).masked_fill(hole, torch.nan).half(),
            "normal": normal.masked_fill(hole, -128).to(torch.int8),
            "segmentation": (1 + gray[:, 0] * 4).masked_fill(hole[:, 0], -1).to(torch.int8),
            "keypoints": (gray / 500).half(),
            "edges": (gray / 50).half(),
        }
        return Split(images, targets)

    return TaskData("pictures", TASKONOMY_5, split(10), split(6), split(5))


DATA, PICTURES = make_data(), make_pictures()


def start(
    config: TrainConfig = CONFIG, *, n_groups: int | str = 3, data: TaskData = DATA
) -> GroupedNetwork:
    """A learned network from an untrained Naive MTL one, in the layout the library trains in."""
    return branch_out(build_network(data, config), n_groups, config)


def run(
    config: TrainConfig = CONFIG, *, n_groups: int | str = 3, data: TaskData = DATA, **options
) -> Run:
    return fit(start(config, n_groups=n_groups, data=data), data, config, **options)


def settle(network: GroupedNetwork, group_of: list[int], certainty: float = 30.0) -> GroupedNetwork:
    """The same network, its tasks sure of their groups."""
    with torch.no_grad():
        network.assignment.logits[torch.arange(len(group_of)), torch.tensor(group_of)] = certainty
    return network


def stack_targets(data: TaskData, rows: Tensor | slice) -> Tensor:
    """Class numbers of training images, (B, N)."""
    return torch.stack([data.train.targets[name][rows] for name in data.task_names], 1)


def list_batches(config: TrainConfig, n_steps: int, *, n: int = 70) -> list[Tensor]:
    """Rows of every step: each epoch shuffles anew and gives as many whole batches as fit."""
    rows: list[Tensor] = []
    while len(rows) < n_steps:
        epoch = len(rows) // (n // config.batch_size)
        rng = torch.Generator().manual_seed(derive_seed(config.seed, Stream.ORDER, epoch))
        rows += torch.randperm(n, generator=rng).split(config.batch_size)[: n // config.batch_size]
    return rows[:n_steps]


def assert_equal(one, other) -> None:
    """Bit for bit, of tensors in any containers."""
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def assert_same_run(one: Run, other: Run) -> None:
    """Weights, S, optimiser, noise and history, bit for bit."""
    (tensors, meta), (others, other_meta) = pack(one[1]), pack(other[1])
    assert_equal(tensors, others)
    assert meta == other_meta
    for name in History.ARRAYS:
        np.testing.assert_array_equal(getattr(one[0], name), getattr(other[0], name), err_msg=name)
    assert (one[0].closings, one[0].elbow) == (other[0].closings, other[0].elbow)
