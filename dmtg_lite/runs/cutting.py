"""Taking branches and heads out of a network in training, and out of what its optimisers remember.

What stays is not touched: no average of a weight that stays starts afresh.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dmtg_lite.core.assignment import Assignment
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.state import TrainState


def close_branch(state: TrainState, index: int, next_best: Tensor) -> None:
    """Take a branch out for good, with its heads and its column of S; its tasks move on.

    S keeps each moved task's wish: at its new group it is at least what it was at the old one.

    Args:
        state: Between two steps.
        index: Position of the branch among those still open.
        next_best: Where each task goes if it must, int64 of shape (N,): positions as ``index``.

    Raises:
        ValueError: If it is the last branch or none, or one lacks a head it would have to take.
    """
    state.unstack()
    network, old = state.network, state.network.assignment.logits
    _check(network, index, next_best)
    gone = [*network.branches[index].parameters(), *network.heads[index].parameters()]
    _move_tasks(network, index, next_best.to(network.device))
    del network.branches[index], network.heads[index], network.branch_ids[index]
    network.index()
    if network.n_spare:
        network.n_spare -= 1
    _forget(state, gone)
    new = network.assignment.logits
    if old is not None and new is not None:
        _replace_logits(state, old, new, index)


@torch.no_grad()
def prune_below(assignment: Assignment, threshold: float) -> None:
    """Drop heads whose probability fell below ``threshold``; the winner of a row always stays.

    Stays on the device: no value travels to the host. The paper prunes once, at the end.
    """
    probabilities = assignment.probabilities()  # (N, K)
    winner = torch.zeros_like(assignment.active)
    winner = winner.scatter_(-1, probabilities.argmax(-1, keepdim=True), True)
    assignment.active &= (probabilities >= threshold) | winner


def drop_pruned(state: TrainState) -> None:
    """Let go of what `prune_below` has left unused: decoders, and branches without a head.

    Asks the device which heads are left.
    """
    drop_heads(state)
    network = state.network
    anywhere = torch.zeros(len(network.tasks), dtype=torch.long)  # no task has to move
    used = network.assignment.active.any(0).tolist()
    for k in reversed([k for k, is_used in enumerate(used) if not is_used]):
        close_branch(state, k, anywhere)


def drop_heads(state: TrainState) -> None:
    """Let go of the decoders that are not active any more, but of no branch."""
    state.unstack()
    network, gone = state.network, []
    for k, head in enumerate(network.heads):
        active = network.assignment.active[:, k].tolist()
        gone += head.drop([place for place, n in enumerate(head.served) if not active[n]])
    if gone:
        network.index()
        _forget(state, gone)


def drop_column(matrix: Tensor, column: int) -> Tensor:
    """A copy of a (N, K) matrix without one column: (N, K-1)."""
    return torch.cat([matrix[:, :column], matrix[:, column + 1 :]], dim=1)


def _check(network: GroupedNetwork, index: int, next_best: Tensor) -> None:
    if network.n_groups == 1:
        raise ValueError("the last branch cannot close: its tasks would have nowhere to go.")
    if not 0 <= index < network.n_groups or next_best.shape != (len(network.tasks),):
        raise ValueError(
            f"`index` must be 0 to {network.n_groups - 1} and `next_best` hold a branch for each "
            f"of the {len(network.tasks)} tasks, got {index} and shape {tuple(next_best.shape)}."
        )
    for n in (network.assignment.group_of() == index).nonzero().flatten().tolist():
        heir = int(next_best[n])
        is_open = 0 <= heir < network.n_groups and heir != index
        if not is_open or n not in network.heads[heir].served:
            raise ValueError(
                f"task {network.tasks[n].name!r} cannot move from branch {index} to {heir}, which "
                "has no head for it. Only a network with all K x N heads can close branches."
            )


@torch.no_grad()
def _move_tasks(network: GroupedNetwork, group: int, next_best: Tensor) -> None:
    """Give the tasks of a group to their next best one, and take its column out of S."""
    assignment = network.assignment
    moved = (assignment.group_of() == group).nonzero().flatten()
    heirs, logits = next_best[moved], assignment.logits
    if logits is not None:
        logits[moved, heirs] = torch.maximum(logits[moved, heirs], logits[moved, group])
        assignment.logits = nn.Parameter(drop_column(logits, group))
    assignment.active[moved, heirs] = True
    assignment.active = drop_column(assignment.active, group)


def _forget(state: TrainState, gone: Sequence[nn.Parameter]) -> None:
    """Take weights that left the network out of the optimiser, with all it remembers of them."""
    weights, left = state.optimizers["weights"], {id(weight) for weight in gone}
    for weight in gone:
        weights.state.pop(weight, None)
    group = weights.param_groups[0]
    group["params"] = [weight for weight in group["params"] if id(weight) not in left]


def _replace_logits(state: TrainState, old: nn.Parameter, new: nn.Parameter, column: int) -> None:
    """Let the optimiser of S go on with one column less."""
    optimizer = state.optimizers["assignment"]
    optimizer.param_groups[0]["params"] = [new]
    optimizer.state[new] = {
        name: drop_column(value, column) if value.shape == old.shape else value  # Adam also counts
        for name, value in optimizer.state.pop(old, {}).items()
    }
