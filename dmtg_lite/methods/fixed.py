"""Training a grouping that somebody hands over: the shared body of every baseline.

Naive MTL, STL, random and planted groups are here; HOA, TAG and MTG-Net hand over what they select.
Groups may overlap; then validation says who serves whom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.methods.door import method
from dmtg_lite.methods.recipe import settle_config
from dmtg_lite.runs.evaluate import evaluate_heads
from dmtg_lite.runs.result import MethodResult, Stopwatch, make_result
from dmtg_lite.runs.run import Run
from dmtg_lite.runs.saving import UNSAVED, Saving


@sealed()
def train_groups(
    data: TaskData,
    groups: Sequence[Sequence[str]],
    config: TrainConfig | None = None,
    *,
    method: str = "fixed",
    from_scratch: bool = False,
    prepare: Callable[[TrainState], None] = lambda state: None,
    saving: Saving = UNSAVED,
    spent: int = 0,
    stopwatch: Stopwatch | None = None,
) -> MethodResult:
    """Train one branch per group, each with heads for its own tasks only.

    A task of several groups has a head in each; after training it is served by the one with the
    lowest *validation* loss, and a branch that then serves nobody leaves.

    Args:
        data: The tasks and their data.
        groups: Lists of task names; every task in at least one.
        config: ``restarts``, ``tau`` and whatever else concerns S has no effect here. ``None``: the
            recipe for these data.
        method: Name in the result.
        from_scratch: Start from random weights and train for pretraining and main steps together;
            otherwise start, like DMTG, from copies of the pretrained Naive MTL network.
        prepare: Called with the state before training: how a method changes the step.
        saving: Checkpoints and progress bar.
        spent: Encoder multiply-adds that finding the groups took, for the cost.
        stopwatch: Started when that began.

    """
    stopwatch = stopwatch or Stopwatch()
    config = settle_config(data, max(1, len(groups)), config)
    run = Run(
        data, config, members=find_members(groups, data.task_names), from_scratch=from_scratch,
        prepare=prepare, saving=saving.below(method), method=method,
    )  # fmt: skip
    run.train_until()
    network = run.network
    active = network.assignment.active
    if int(active.sum()) > len(data.tasks):
        losses = evaluate_heads(network, Batches(data.val, network.tasks, network.device))
        best = losses.masked_fill(~active, torch.inf).argmin(1, keepdim=True)
        active &= torch.zeros_like(active).scatter_(1, best, True)
    return make_result(
        method, data, config, network, run.history, encoder_macs=spent + run.encoder_macs,
        stopwatch=stopwatch, trained_groups=[list(group) for group in groups],
        saving=saving,
    )  # fmt: skip


def find_members(groups: Sequence[Sequence[str]], task_names: Sequence[str]) -> list[list[int]]:
    """Row numbers of every group's tasks."""
    row_of = {name: n for n, name in enumerate(task_names)}
    names = [name for group in groups for name in group]
    if not all(groups) or any(len(set(group)) != len(group) for group in groups):
        raise ValueError(
            "`groups` must hold no empty group and no task twice in one, got "
            f"{[list(g) for g in groups]}."
        )
    if set(names) != set(task_names):
        raise ValueError(
            f"`groups` must name every one of the tasks {list(task_names)} and no other, got "
            f"{[list(group) for group in groups]}."
        )
    return [[row_of[name] for name in group] for group in groups]


@method
def naive(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """Naive MTL: one encoder for all tasks, trained as long as DMTG with its pretraining.

    ``n_groups`` is ignored: there is one group. The reference of every NormGain (section 4.1).
    """
    return train_groups(
        data, [data.task_names], config, method="naive", from_scratch=True, saving=saving
    )


@method
def stl(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """STL: one encoder per task, from scratch; ``n_groups`` is ignored: there are N groups.

    N encoders are not a fair price for K groups, but in error they are the hard baseline.
    """
    groups = [[name] for name in data.task_names]
    return train_groups(data, groups, config, method="stl", from_scratch=True, saving=saving)


def draw_groups(task_names: list[str], n_groups: int, *, seed: int) -> list[list[str]]:
    """A balanced random partition: sizes differ by at most one, the same for the same seed."""
    if not 1 <= n_groups <= len(task_names):
        raise ValueError(
            f"`n_groups` must be in 1..{len(task_names)} for balanced groups of {len(task_names)} "
            f"tasks, got {n_groups}."
        )
    rng = torch.Generator().manual_seed(derive_seed(seed, Stream.GROUPS))
    order = torch.randperm(len(task_names), generator=rng).tolist()
    return [[task_names[n] for n in sorted(order[k::n_groups])] for k in range(n_groups)]


@method
def random_groups(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """Random groups (RG in the paper), balanced; another seed draws other groups."""
    groups = draw_groups(data.task_names, n_groups, seed=config.seed)
    return train_groups(data, groups, config, method="random", saving=saving)


@method
def planted(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """The groups the data were made with, an oracle no method may look at; no ``n_groups``."""
    if data.planted_groups is None:
        raise ValueError(
            f"{data.name!r} has no planted groups: nobody knows the true groups of real data."
        )
    return train_groups(data, data.planted_groups, config, method="planted", saving=saving)
