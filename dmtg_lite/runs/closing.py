"""Which branch is missed least: the rule by which spare branches close, read off one loss matrix.

Not in the paper, which prunes heads; this prunes branches, by the same (N, K) matrix of losses.
Plain
tensors only: taking a branch out of a network is `network`'s business, when to do it `train`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dmtg_lite.core.assignment import drop_column


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
        >>> compute_closing_costs(torch.tensor([[0.1, 0.7, 0.7], [0.7, 0.2, 0.3]]), torch.tensor([0, 1]))
        tensor([0.6000, 0.1000, 0.0000])
    """
    _check(loss_matrix, group_of)
    own = loss_matrix.gather(1, group_of[:, None])[:, 0]  # (N,)
    second = loss_matrix.scatter(1, group_of[:, None], torch.inf).amin(1)  # (N,)
    return torch.zeros(loss_matrix.shape[1], dtype=loss_matrix.dtype).index_add(
        0, group_of, second - own
    )


def find_next_best(loss_matrix: Tensor, branch: int) -> Tensor:
    """The branch that would serve each task best if ``branch`` closed: int64 of shape (N,)."""
    without = loss_matrix.clone()
    without[:, branch] = torch.inf
    return without.argmin(1)


@dataclass(frozen=True, slots=True)
class Elbow:
    """What closing branch after branch down to one would cost.

    Args:
        n_branches: Branches open before each closing: M, M-1, ..., 2.
        branches: Which one closes each time, by its column in the matrix with all M.
        costs: Cost of the closing from each of them, in the unit of the losses.
        n_groups: K as the costs say it: see `read_n_groups`.
    """

    n_branches: list[int]
    branches: list[int]
    costs: list[float]
    n_groups: int


def imagine_closings(loss_matrix: Tensor, group_of: Tensor) -> Elbow:
    """Close the branch missed least, again and again, on paper: nothing is trained in between.

    Args:
        loss_matrix: L, shape (N, M).
        group_of: Branch of each task, int64 of shape (N,).
    """
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
    return Elbow(n_branches, branches, costs, read_n_groups(costs))


def read_n_groups(costs: Sequence[float]) -> int:
    """The number of groups that closing costs point to: where the cost rises most.

    Args:
        costs: Of the closings from M to M-1, ..., from 2 to 1 branches: M-1 numbers.

    Returns:
        K: the number of branches that were open before the first dear closing. M where the very
            first
        closing is the one that costs; 1 for an empty sequence. The rule cannot say 1 otherwise:
        some rise is always the largest, so look at the costs themselves before believing in two
        groups.
        Of equal rises the last counts: the fewest groups.
    """
    steps = [0.0, *(max(cost, 0.0) for cost in costs)]
    rises = [after - before for before, after in pairwise(steps)]
    if not rises:
        return 1
    return len(costs) + 1 - max(range(len(rises)), key=lambda index: (rises[index], index))


def _check(loss_matrix: Tensor, group_of: Tensor) -> None:
    if loss_matrix.ndim != 2 or loss_matrix.shape[1] < 2:
        raise ValueError(
            f"`loss_matrix` must have shape (n_tasks, n_groups) with 2 groups or more, "
            f"got {tuple(loss_matrix.shape)}; the last branch cannot close."
        )
    if group_of.shape != loss_matrix.shape[:1]:
        raise ValueError(
            f"`group_of` must hold one branch for each of the {len(loss_matrix)} tasks, "
            f"got shape {tuple(group_of.shape)}."
        )
    if len(group_of) and not 0 <= int(group_of.min()) <= int(group_of.max()) < loss_matrix.shape[1]:
        raise ValueError(
            f"`group_of` must hold numbers from 0 to {loss_matrix.shape[1] - 1}, got "
            f"{group_of.tolist()}."
        )
