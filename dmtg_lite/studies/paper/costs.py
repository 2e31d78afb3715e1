"""Multiply-adds of one image through everything a method trains, as Table A1 counts them: parts of
a Naive MTL network are counted, the rest is arithmetic. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.tasks import Task
from dmtg_lite.encoders import build_encoder


@dataclass(frozen=True, slots=True)
class Costs:
    """Multiply-adds: of the shared stem, of one branch, of all N heads of one branch."""

    n_tasks: int
    stem: int
    branch: int
    heads: int

    @property
    def naive(self) -> int:
        """One whole network with N heads."""
        return self.stem + self.branch + self.heads

    def dmtg(self, n_groups: int) -> int:
        """One stem, K branches, each with all N heads."""
        return self.stem + n_groups * (self.branch + self.heads)

    def tag(self, n_groups: int) -> int:
        """One network of all tasks, then K encoders with one head a task."""
        return self.naive + n_groups * (self.stem + self.branch) + self.heads

    def hoa(self, n_groups: int) -> int:
        """A network for every pair of tasks, then K encoders with one head a task.

        The N single networks, which HOA needs too, are left out, as in the paper's (36 + K).
        """
        encoder = self.stem + self.branch
        pairs = comb(self.n_tasks, 2) * encoder + (self.n_tasks - 1) * self.heads
        return pairs + n_groups * encoder + self.heads


def count_costs(
    tasks: Sequence[Task], image_shape: tuple[int, int, int], config: TrainConfig
) -> Costs:
    """Count the parts of the network that a config describes, for images of (3, H, W)."""
    encoder = build_encoder(config.encoder, image_shape, capacity=config.capacity)
    network = GroupedNetwork.naive(
        tasks, encoder, shared=config.shared, head_hidden=config.heads.hidden
    )
    macs = count_macs(network, image_shape)
    return Costs(len(tasks), macs["stem"], macs["branches"], macs["heads"])
