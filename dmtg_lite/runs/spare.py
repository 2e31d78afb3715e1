"""Spare branches: which one is missed least, and how it closes between two steps.

Not in the paper, which prunes heads; this prunes branches, by the same (N, K) matrix of losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.arrays import as_floats, as_tensor
from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.record import Closing, Elbow, StepRecord
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.cost import count_batch_macs
from dmtg_lite.runs.cutting import close_branch, drop_column
from dmtg_lite.runs.evaluate import evaluate_heads

_PROBE_IMAGES = 1024  # that say which branch is missed least


def compute_closing_costs(loss_matrix: Tensor, group_of: Tensor) -> Tensor:
    """How much every branch would be missed if it closed now.

        cost_k = sum over the tasks i in k of (min over j != k of L_ij) - L_ik

    A duplicate costs about 0, since the other copy serves its tasks as well; so does an empty
    branch. A branch that alone can serve its tasks is dear. Negative: its tasks are better off
    elsewhere.

    Args:
        loss_matrix: L, shape (N, K): mean training loss of every head, K >= 2.
        group_of: Branch of each task, int64 of shape (N,).

    Returns:
        Shape (K,), in the unit of the losses.

    Raises:
        ValueError: If the shapes do not fit or there is one branch only.

    Source:
        Ours. The matrix is L of equation (4).

    Example:
        >>> matrix = torch.tensor([[0.1, 0.7, 0.7], [0.7, 0.2, 0.3]])
        >>> compute_closing_costs(matrix, torch.tensor([0, 1]))
        tensor([0.6000, 0.1000, 0.0000])
    """
    loss_matrix, group_of = _as_tensors(loss_matrix, group_of)
    own = loss_matrix.gather(1, group_of[:, None])[:, 0]  # (N,)
    second = loss_matrix.scatter(1, group_of[:, None], torch.inf).amin(1)  # (N,)
    return torch.zeros(loss_matrix.shape[1], dtype=loss_matrix.dtype).index_add(
        0, group_of, second - own
    )


def find_next_best(loss_matrix: Tensor, branch: int) -> Tensor:
    """The branch that would serve each task best if ``branch`` closed: int64 of shape (N,)."""
    without = as_floats("loss_matrix", loss_matrix).clone()
    without[:, branch] = torch.inf
    return without.argmin(1)


def imagine_closings(loss_matrix: Tensor, group_of: Tensor) -> Elbow:
    """Close the branch missed least, again and again, on paper: nothing is trained in between.

    Args:
        loss_matrix: L, shape (N, M).
        group_of: Branch of each task, int64 of shape (N,).
    """
    loss_matrix, group_of = as_floats("loss_matrix", loss_matrix), as_tensor("group_of", group_of)
    open_ = list(range(loss_matrix.shape[1]))
    n_branches, branches, costs = [], [], []
    while len(open_) > 1:
        cost = compute_closing_costs(loss_matrix, group_of)
        branch = int(cost.argmin())
        n_branches.append(len(open_))
        branches.append(open_.pop(branch))
        costs.append(float(cost[branch]))
        group_of = torch.where(group_of == branch, find_next_best(loss_matrix, branch), group_of)
        group_of = group_of - (group_of > branch).long()  # the branches behind it move up
        loss_matrix = drop_column(loss_matrix, branch)
    return {
        "n_branches": n_branches,
        "branches": branches,
        "costs": costs,
        "n_groups": read_n_groups(costs),
    }


def read_n_groups(costs: Sequence[float]) -> int:
    """The number of groups that closing costs point to: where the cost rises most.

    Args:
        costs: Of the closings from M to M-1, ..., from 2 to 1 branches: M-1 numbers.

    Returns:
        K: the number of branches that were open before the first dear closing. M where the first
        closing is the one that costs; 1 for an empty sequence. The rule cannot say 1 otherwise:
        some rise is always the largest, so look at the costs themselves before believing in two
        groups. Of equal rises the last counts: the fewest groups.
    """
    steps = [0.0, *(max(cost, 0.0) for cost in costs)]
    rises = [after - before for before, after in pairwise(steps)]
    if not rises:
        return 1
    return len(costs) + 1 - max(range(len(rises)), key=lambda index: (rises[index], index))


def _as_tensors(loss_matrix: Any, group_of: Any) -> tuple[Tensor, Tensor]:
    loss_matrix = as_floats("loss_matrix", loss_matrix)
    group_of = as_tensor("group_of", group_of).long()
    if loss_matrix.ndim != 2 or loss_matrix.shape[1] < 2:
        raise ValueError(
            "`loss_matrix` must have shape (n_tasks, n_groups) with 2 groups or more, got "
            f"{tuple(loss_matrix.shape)}; the last branch cannot close."
        )
    if group_of.shape != loss_matrix.shape[:1]:
        raise ValueError(
            f"`group_of` must hold one branch for each of the {len(loss_matrix)} tasks, got shape "
            f"{tuple(group_of.shape)}."
        )
    if len(group_of) and not 0 <= int(group_of.min()) <= int(group_of.max()) < loss_matrix.shape[1]:
        raise ValueError(
            f"`group_of` must hold numbers from 0 to {loss_matrix.shape[1] - 1}, got "
            f"{group_of.tolist()}."
        )
    return loss_matrix, group_of


def check_closings(config: TrainConfig, n_branches: int, n_spare: int | None, n_steps: int) -> None:
    """Refuse a run that would end with spare branches still open.

    Args:
        config: Says when branches close.
        n_branches, n_spare: As `TrainConfig.count_branches` gives them; None: perhaps all but one.
        n_steps: Of the run, without pretraining.

    Raises:
        ValueError: With the step at which the last one would close.
    """
    n_closings = n_branches - 1 if n_spare is None else n_spare
    last = config.spare.close_from + (n_closings - 1) * config.spare.close_every
    if n_closings and last > n_steps:
        raise ValueError(
            f"{n_closings} branches are to close, the last after step {last} (`spare.close_from` "
            f"{config.spare.close_from}, one every {config.spare.close_every}), but the run has "
            f"{n_steps} steps. Train longer, close earlier or more often, or open fewer "
            "`spare.branches`."
        )


class CloseSpare:
    """Closes one spare branch after another, and settles K first where the costs are to say it.

    Called between two steps. A closing asks the device for values, which no ordinary step does.

    Args:
        data: Its training rows tell which branch is missed least.

    Raises:
        FloatingPointError: If a loss is not finite, so that no branch can be called missed least.
    """

    def __init__(self, data: TaskData) -> None:
        self._data = data

    def __call__(self, state: TrainState, record: StepRecord) -> StepRecord:
        network, spare = state.network, state.config.spare
        since = state.step - spare.close_from
        if network.n_spare == 0 or since < 0 or since % spare.close_every:
            return record
        matrix, group_of = self._probe(state), network.assignment.group_of().cpu()
        elbow = None if since else imagine_closings(matrix, group_of)  # at the first look
        if network.n_spare is None and elbow:
            network.n_spare = network.n_groups - elbow["n_groups"]
        closing = None
        if network.n_spare:
            closing = _close(state, matrix, group_of)
        probabilities = network.widen(network.assignment.probabilities())
        return replace(record, probabilities=probabilities, closing=closing, elbow=elbow)

    @torch.no_grad()
    def _probe(self, state: TrainState) -> Tensor:
        """Mean loss matrix over about a thousand training rows, always the same: (N, K), CPU."""
        network, config = state.network, state.config
        batches = Batches(self._data.train, network.tasks, network.device)
        size = min(config.batch_size, len(batches))
        n_batches = max(1, min(_PROBE_IMAGES, len(batches)) // size)
        shuffle = torch.Generator().manual_seed(derive_seed(state.seed, Stream.PROBE))
        rows = torch.randperm(len(batches), generator=shuffle)[: n_batches * size]
        parts = rows.to(batches.split.features.device).split(size)
        bfloat16 = config.precision == "bfloat16"
        with torch.autocast(network.device.type, torch.bfloat16, enabled=bfloat16):
            matrix = evaluate_heads(network, batches, parts)
        network.train()
        # forward only: a third of a training step
        state.encoder_macs += n_batches * count_batch_macs(state, self._data) // 3
        if config.normalise_losses:  # as the loss that is trained
            matrix = matrix / matrix.mean(1, keepdim=True).clamp_min(1e-12)
        if not matrix.isfinite().all():
            bad = network.tasks[int((~matrix.isfinite()).any(1).nonzero()[0])].name
            raise FloatingPointError(
                f"the loss of task {bad!r} is not finite at step {state.step}, where a branch is "
                "to close. Lower `lr`, or check features and labels."
            )
        return matrix.cpu()


def _close(state: TrainState, matrix: Tensor, group_of: Tensor) -> Closing:
    """Close the branch that the rule says, and tell of it."""
    network = state.network
    costs = compute_closing_costs(matrix, group_of)
    if state.config.spare.rule == "random":
        rng = np.random.default_rng(derive_seed(state.seed, Stream.CLOSING, state.step))
        index = int(rng.integers(network.n_groups))
    else:
        index = int(costs.argmin())
    next_best, opened = find_next_best(matrix, index), list(network.branch_ids)
    close_branch(state, index, next_best)
    return {
        "step": state.step,
        "branch": opened[index],
        "cost": float(costs[index]),
        "branches": opened,
        "costs": costs.tolist(),
        "moved": {
            task.name: opened[int(next_best[n])]
            for n, task in enumerate(network.tasks)
            if group_of[n] == index
        },
    }
