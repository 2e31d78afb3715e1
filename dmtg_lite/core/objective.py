"""What is minimised: the loss matrix times one draw of the assignment, summed (equation 6)."""

from __future__ import annotations

from torch import Tensor


def compute_objective(
    loss_matrix: Tensor,
    assignment: Tensor,
    *,
    normalise_among: Tensor | None = None,
    head_losses: Tensor | None = None,
) -> Tensor:
    """The scalar whose gradient trains encoders, heads and S together.

    Args:
        loss_matrix: L, shape (N, K): the mean loss of every head on the batch.
        assignment: Z, shape (N, K): one draw.
        normalise_among: Heads that exist, bool (N, K): divide each task's loss by its mean over
            them, so that a task with a small loss trains the encoder as much as the others.
            ``None``, the paper: losses as they are.
        head_losses: L again, shape (N, K), with the features held still: every head then learns
            from every batch. ``None``, the paper: the draw weighs heads and encoders alike.

    Source:
        Equation (6), summed over its entries. Both options are ours.
    """
    if normalise_among is not None:
        means = (loss_matrix.detach() * normalise_among).sum(1) / normalise_among.sum(1)  # (N,)
        loss_matrix = loss_matrix / means.clamp_min(1e-12)[:, None]  # a loss may reach 0
    total = (loss_matrix * assignment).sum()
    return total if head_losses is None else total + head_losses.sum()


def compute_task_losses(loss_matrix: Tensor, assignment: Tensor, *, is_fixed: bool) -> Tensor:
    """Loss of each task under a draw: (N, K) twice -> (N,).

    Rows of a draw sum to 1. A task that is in several fixed groups has its mean over them.
    """
    weighed = (loss_matrix * assignment).sum(1)
    return weighed / assignment.sum(1) if is_fixed else weighed
