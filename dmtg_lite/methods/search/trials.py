"""Trial networks: train many groups side by side, read each task's validation loss in each.

A trial is a branch of a grouped network without stem: twelve cost one walk through the data, see
the same batches and start from the same weights. With a plateau schedule they share their rate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.stacked import can_stack
from dmtg_lite.core.state import TrainState
from dmtg_lite.methods.fixed import find_members
from dmtg_lite.runs.evaluate import evaluate_heads
from dmtg_lite.runs.fit import build_network, fit
from dmtg_lite.runs.jobs import as_workers, run_jobs
from dmtg_lite.runs.saving import UNSAVED, Matrix, Saving

_AT_ONCE = 12  # branches in memory
_log = logging.getLogger("dmtg_lite")

Measured = tuple[Matrix, int]  # losses (N, G) as lists, encoder multiply-adds
Compute = Callable[[], Measured]


@sealed()
def try_groups(
    data: TaskData,
    groups: Sequence[Sequence[str]],
    config: TrainConfig,
    *,
    saving: Saving = UNSAVED,
    label: str = "trials",
) -> tuple[Tensor, int]:
    """Train a network for each group from scratch, pretraining and main steps together.

    Args:
        data: The tasks and their data.
        groups: Any lists of task names, overlapping or not.
        config: Its ``shared`` has no effect: every group is a network of its own.
        saving: What a group of twelve gave is kept there, its checkpoint only until then.
        label: Of progress bar and checkpoints: another one for each call of a method.

    Returns:
        Mean validation losses, float64 of shape (N, G), nan where a group lacks the task; and
        encoder multiply-adds spent.
    """
    workers = as_workers(saving.jobs).on_device(data.device)
    firsts = range(0, len(groups), _AT_ONCE)

    def train_all() -> Measured:
        """Twelve by twelve, each kept when done: an interruption costs those at work at most."""
        parts, n_trained, started = [], 0, perf_counter()
        for first in firsts:
            left = _say_time_left(label, first, len(groups), perf_counter() - started, n_trained)
            done = saving.path(f"{label}{first}_losses.json")
            n_trained += _AT_ONCE * (done is None or not done.exists())
            parts.append(_try_twelve(data, groups, config, saving, label, first, left))
        return _join(parts)

    def spread_all() -> Measured:
        """The same, twelve by each worker."""
        work = [(data, groups, config, saving.apart(), label, first) for first in firsts]
        how: dict[str, Any] = {"jobs": workers, "progress": saving.progress, "label": label}
        return _join(run_jobs(_try_twelve, work, **how))

    compute = train_all if workers.is_here else spread_all
    if len(firsts) == 1:
        compute = partial(_train, data, groups, config, saving, label, 0)
    losses, spent = _remember(data, groups, config, saving, label, compute)
    saving.discard(f"{label}0")
    return torch.tensor(losses, dtype=torch.float64), spent


def are_stacked(data: TaskData, config: TrainConfig) -> bool:
    """Whether trials in one walk are one program (`core.stacked`), and so cheaper than apart."""
    config, everybody = replace(config, shared=0), range(len(data.tasks))
    two = build_network(data, config).branch_out(2, members=[everybody, everybody])
    return can_stack(TrainState(two, config), data.feature_shape)


def _try_twelve(
    data: TaskData,
    groups: Sequence[Sequence[str]],
    config: TrainConfig,
    saving: Saving,
    label: str,
    first: int,
    left: str = "",
) -> Measured:
    """Twelve of the groups, from a first one on; what they gave is kept, their checkpoint not."""
    some, name = groups[first : first + _AT_ONCE], f"{label}{first}"
    compute = partial(_train, data, groups, config, saving, label, first, left)
    measured = _remember(data, some, config, saving, name, compute)
    saving.discard(name)
    return measured


def _remember(
    data: TaskData,
    groups: Sequence[Sequence[str]],
    config: TrainConfig,
    saving: Saving,
    name: str,
    compute: Compute,
) -> Measured:
    known = [[task in group for group in groups] for task in data.task_names]
    basis = f"{data.fingerprint()}, {config}"
    return saving.remember(f"{name}_losses", basis, compute, is_known=known)


def _join(parts: Sequence[Measured]) -> Measured:
    rows = zip(*(matrix for matrix, _ in parts), strict=True)
    return [list(chain(*row)) for row in rows], sum(macs for _, macs in parts)


def _say_time_left(label: str, first: int, count: int, seconds: float, n_trained: int) -> str:
    """For the progress bar, and once for the log: how long the rest takes, by those trained now."""
    if not n_trained:
        return ""
    minutes = seconds / n_trained * (count - first) / 60
    words = f"about {minutes:.0f} min left" if minutes >= 1.5 else "a minute left"
    if n_trained == _AT_ONCE:
        _log.info("%s: %d of %d networks trained, %s", label, first, count, words)
    return f", {words}"


def _train(
    data: TaskData,
    groups: Sequence[Sequence[str]],
    config: TrainConfig,
    saving: Saving,
    label: str,
    first: int,
    left: str = "",
) -> Measured:
    """Train twelve of the groups, which are in memory side by side."""
    n_groups, groups = len(groups), groups[first : first + _AT_ONCE]
    shown = f"{label} {first + 1}-{first + len(groups)} of {n_groups}{left}"
    run = saving.of(f"{label}{first}", shown)
    n_steps = sum(config.count_steps(len(data.train)))
    config, seed = replace(config, shared=0), derive_seed(config.seed, Stream.TRAINING)
    losses = torch.full((len(data.tasks), len(groups)), torch.nan, dtype=torch.float64)
    names = [name for name in data.task_names if any(name in group for group in groups)]
    part = data.select(names)
    network = build_network(part, config)
    network = network.branch_out(len(groups), members=find_members(groups, names))
    _, state = fit(network, part, config, n_steps=n_steps, seed=seed, **run)
    matrix = evaluate_heads(network, Batches(part.val, network.tasks, network.device))
    matrix = matrix.masked_fill(~network.assignment.active, torch.nan).cpu().double()
    losses[[data.task_names.index(name) for name in names]] = matrix
    return losses.tolist(), state.encoder_macs
