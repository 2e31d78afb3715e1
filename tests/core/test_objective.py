"""What is minimised, by hand on 2 x 2 matrices."""

from __future__ import annotations

import torch

from dmtg_lite.core.objective import compute_objective, compute_task_losses

L = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
Z = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
ALL = torch.ones(2, 2, dtype=torch.bool)


def minimise(
    losses: torch.Tensor = L, draw: torch.Tensor = Z, **options
) -> tuple[float, list[list[float]], list[list[float]]]:
    """The objective, and its gradients with respect to L and Z."""
    losses, draw = losses.clone().requires_grad_(), draw.clone().requires_grad_()
    total = compute_objective(losses, draw, **options)
    return total.item(), *(g.tolist() for g in torch.autograd.grad(total, [losses, draw]))


def test_plain_it_is_the_sum_of_the_products() -> None:
    """Equation (6): Z weighs what the losses teach, L what the draw teaches."""
    assert minimise() == (0.25 + 2.25 + 1 + 3, Z.tolist(), L.tolist())


def test_normalised_each_row_is_divided_by_its_mean() -> None:
    """Means 2 and 4; the divisor carries no gradient, so L still learns by Z, divided."""
    total, by_losses, by_draw = minimise(normalise_among=ALL)
    assert total == 0.125 + 1.125 + 0.25 + 0.75
    assert by_losses == [[0.125, 0.375], [0.125, 0.125]]
    assert by_draw == [[0.5, 1.5], [0.5, 1.5]]


def test_the_mean_is_over_the_heads_that_exist() -> None:
    """Without its second head the mean of row 1 is 2, not 1 and not 4."""
    active = torch.tensor([[True, True], [True, False]])
    lone = torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert minimise(*lone, normalise_among=active)[0] == 1.25 + 1


def test_a_fixed_row_of_one_head_counts_1_and_still_moves_weights() -> None:
    """Divided by itself; the gradient is that of log L."""
    one_hot = torch.eye(2)
    total, by_losses, _ = minimise(draw=one_hot, normalise_among=one_hot.bool())
    assert total == 2
    torch.testing.assert_close(torch.tensor(by_losses), torch.diag(torch.tensor([1.0, 1 / 6])))


def test_a_loss_of_zero_is_not_divided_by_zero() -> None:
    total, by_losses, _ = minimise(torch.zeros(2, 2), normalise_among=ALL)
    assert total == 0
    assert torch.tensor(by_losses).isfinite().all()


def test_head_losses_count_in_full_beside_the_draw() -> None:
    """Every head learns by 1, whatever Z says; normalising leaves them as they are."""
    heads = L.clone().requires_grad_()
    total = compute_objective(L, Z, head_losses=heads)
    assert total == 6.5 + 12
    assert torch.autograd.grad(total, heads)[0].tolist() == [[1, 1], [1, 1]]
    assert compute_objective(L, Z, normalise_among=ALL, head_losses=heads) == 2.25 + 12


def test_task_losses_are_rows_weighed_by_the_draw() -> None:
    """A task in two fixed groups has the mean of both losses, not their sum."""
    assert compute_task_losses(L, Z, is_fixed=False).tolist() == [2.5, 4.0]
    members = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert compute_task_losses(L, members, is_fixed=True).tolist() == [2.0, 6.0]
