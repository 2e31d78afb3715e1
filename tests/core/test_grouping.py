"""What the categorical pruning core promises, checked on plain tensors: no data, no network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from dmtg_lite.core.assignment import Assignment, sample_assignment
from dmtg_lite.core.groups import compute_agreement, groups_from_labels, labels_from_groups
from dmtg_lite.runs.cutting import prune_below

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])  # (N=2, K=3)
NAMES = ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(("estimator", "hard"), [("gumbel", False), ("straight_through", True)])
@pytest.mark.parametrize("tau", [0.1, 2.5, 10.0])
def test_same_noise_same_draw_as_torch(estimator: str, hard: bool, tau: float) -> None:
    """Oracle: with the same seed, torch's own gumbel_softmax gives the same matrix."""
    torch.manual_seed(0)
    expected = F.gumbel_softmax(LOGITS, tau, hard=hard)
    torch.manual_seed(0)
    drawn = sample_assignment(LOGITS, tau, estimator=estimator)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(drawn.sum(-1), torch.ones(2))


@pytest.mark.parametrize(("estimator", "hard"), [("gumbel", False), ("straight_through", True)])
def test_same_gradient_as_torch(estimator: str, hard: bool) -> None:
    """Oracle: the gradient of a weighted sum of the draw is that of torch's gumbel_softmax."""
    weights = torch.arange(6.0).view(2, 3)
    gradients = []
    for draw in (
        lambda s: F.gumbel_softmax(s, 0.7, hard=hard),
        lambda s: sample_assignment(s, 0.7, estimator=estimator),
    ):
        torch.manual_seed(1)
        logits = LOGITS.clone().requires_grad_()
        (draw(logits) * weights).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_gradient_of_the_logits_is_the_closed_form() -> None:
    """By hand: d total / d s_nk = z_nk (L_nk - sum_m z_nm L_nm) / tau, for the noise of the draw."""
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(5, 4, dtype=torch.float64, generator=rng).requires_grad_()
    losses = torch.rand(5, 4, dtype=torch.float64, generator=rng)
    z = sample_assignment(logits, 2.5, generator=rng)
    (losses * z).sum().backward()
    with torch.no_grad():
        expected = z * (losses - (z * losses).sum(-1, keepdim=True)) / 2.5
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("tau", [0.5, 2.5])
def test_gradient_of_the_logits_agrees_with_finite_differences(tau: float) -> None:
    """Oracle: torch's gradcheck in float64, with the noise held by a seed."""
    logits = LOGITS.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: sample_assignment(s, tau, generator=torch.Generator().manual_seed(5)), (logits,)
    )


@pytest.mark.parametrize("estimator", ["gumbel", "straight_through"])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_tau_does_not_change_which_group_wins(tau: float, estimator: str) -> None:
    """Gumbel-max: winners follow softmax(logits) at every tau. Standard error here < 0.004."""
    rng = torch.Generator().manual_seed(0)
    draws = sample_assignment(LOGITS.repeat(20_000, 1), tau, estimator=estimator, generator=rng)
    winners = F.one_hot(draws.argmax(-1), 3).float().reshape(20_000, 2, 3).mean(0)
    torch.testing.assert_close(winners, LOGITS.softmax(-1), atol=0.02, rtol=0)


def test_a_high_tau_flattens_a_draw_and_a_low_one_sharpens_it() -> None:
    """At tau 0.01 the largest entry of a row is nearly 1, at tau 1000 nearly 1/K."""
    rng = torch.Generator().manual_seed(0)
    largest = {
        tau: sample_assignment(torch.zeros(500, 4), tau, generator=rng).amax(-1).mean()
        for tau in (0.01, 1000)
    }
    assert largest[0.01] > 0.98
    assert abs(largest[1000] - 0.25) < 0.01


def test_the_softmax_estimator_draws_nothing() -> None:
    """Without noise the assignment is softmax(S) at any tau, and no random number is used."""
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    drawn = sample_assignment(LOGITS, 7.0, estimator="softmax", generator=rng)
    assert torch.equal(drawn, LOGITS.softmax(-1))
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("estimator", ["gumbel", "straight_through", "softmax"])
def test_a_pruned_head_has_no_weight_and_no_gradient(estimator: str) -> None:
    """-inf in S means exactly 0 in Z and in the gradient, never NaN, also where one head is left."""
    logits = torch.tensor(
        [[1.0, -torch.inf, 0.5], [-torch.inf, -torch.inf, 2.0]], requires_grad=True
    )
    z = sample_assignment(
        logits, 0.3, estimator=estimator, generator=torch.Generator().manual_seed(0)
    )
    (z * torch.tensor([[3.0, 5.0, 1.0], [1.0, 2.0, 9.0]])).sum().backward()
    pruned = torch.isinf(logits.detach())
    assert (z[pruned] == 0).all()
    assert (logits.grad[pruned] == 0).all()
    assert z.isfinite().all()
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(z.sum(-1), torch.ones(2))
    torch.testing.assert_close(z[1, 2], torch.tensor(1.0))


@pytest.mark.parametrize("tau", [0, -1, float("nan")])
def test_a_tau_that_is_not_positive_is_refused(tau: float) -> None:
    """The message says what tau must be."""
    with pytest.raises(ValueError, match="`tau` must be > 0, got"):
        sample_assignment(LOGITS, tau)


def test_other_bad_arguments_are_refused() -> None:
    """One row instead of S, and an estimator that does not exist."""
    with pytest.raises(
        ValueError, match=r"`logits` must have shape \(n_tasks, n_groups\), got \(3,\)"
    ):
        sample_assignment(LOGITS[0], 1.0)
    with pytest.raises(ValueError, match="`estimator` must be one of"):
        sample_assignment(LOGITS, 1.0, estimator="gumble")


def test_a_learned_assignment_starts_undecided() -> None:
    """S = 1/K everywhere, one learnable parameter, all heads there."""
    assignment = Assignment(3, 4)
    assert not assignment.is_fixed
    assert assignment.logits.requires_grad
    assert (assignment.logits == 0.25).all()
    torch.testing.assert_close(assignment.probabilities(), torch.full((3, 4), 0.25))
    assert not assignment.probabilities().requires_grad


def test_a_fixed_assignment_is_its_one_hot_rows_and_draws_nothing() -> None:
    """Nothing to learn, no noise used, exactly 0 and 1."""
    assignment = Assignment(3, 2, group_of=[1, 0, 1])
    assert assignment.is_fixed
    assert list(assignment.parameters()) == []
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    one_hot = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(assignment.sample(2.5, generator=rng), one_hot)
    assert torch.equal(assignment.probabilities(), one_hot)
    assert torch.equal(rng.get_state(), before)
    assert assignment.group_of().tolist() == [1, 0, 1]
    assert assignment.groups(["x", "y", "z"]) == [["y"], ["x", "z"]]


def test_pruning_while_training_keeps_the_winner_and_is_final() -> None:
    """A head below the threshold goes and stays away, whatever S does later; a row is never empty."""
    assignment = Assignment(2, 3)
    with torch.no_grad():
        assignment.logits.copy_(torch.tensor([[4.0, 0.0, 0.0], [0.1, 0.0, 0.0]]))
    prune_below(assignment, 0.9)  # row 1 has no probability above 0.9: only its winner stays
    assert assignment.active.tolist() == [[True, False, False], [True, False, False]]
    with torch.no_grad():
        assignment.logits[0] = torch.tensor([0.0, 9.0, 9.0])
    prune_below(assignment, 0.0)
    assert assignment.probabilities().tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert assignment.group_of().tolist() == [0, 0]
    assignment.sample(1.0).sum().backward()
    assert torch.isfinite(assignment.logits.grad).all()


def test_pruning_below_zero_changes_nothing() -> None:
    """Threshold 0 keeps every head."""
    assignment = Assignment(2, 3)
    prune_below(assignment, 0.0)
    assert assignment.active.all()


@pytest.mark.parametrize("group_of", [[0], [0, 2], [0, -1], [0, 1, 1]])
def test_a_bad_fixed_assignment_is_refused(group_of: list[int]) -> None:
    """Too short, too long, or a group that does not exist."""
    with pytest.raises(ValueError, match=r"`group_of` must hold 2 integers in 0\.\.1"):
        Assignment(2, 2, group_of=group_of)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0)])
def test_an_empty_assignment_is_refused(shape: tuple[int, int]) -> None:
    """N and K are at least 1."""
    with pytest.raises(ValueError, match="must be >= 1"):
        Assignment(*shape)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
@settings(deadline=None)
def test_groups_and_labels_are_two_forms_of_one_thing(labels: list[int]) -> None:
    """There and back: the same tasks are together, groups are never empty, labels count from 0."""
    names = NAMES[: len(labels)]
    groups = groups_from_labels(labels, names)
    assert sorted(name for group in groups for name in group) == names
    assert all(groups)
    back = labels_from_groups(groups, names)
    assert sorted(set(back)) == list(range(len(groups)))
    assert [[a == b for a in labels] for b in labels] == [[a == b for a in back] for b in back]


def test_labels_and_groups_refuse_what_is_no_partition() -> None:
    """A task missing, named twice or unknown; one label too few."""
    for groups in ([["a"]], [["a", "b"], ["b"]], [["a", "c"]]):
        with pytest.raises(ValueError, match="`groups` must name each of the 2 tasks"):
            labels_from_groups(groups, ["a", "b"])
    with pytest.raises(ValueError, match="1 labels for 2 tasks"):
        groups_from_labels([0], ["a", "b"])


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n)] * 2)
    )
)
@settings(deadline=None, max_examples=200)
def test_agreement_is_the_adjusted_rand_index(labels: tuple[list[int], list[int]]) -> None:
    """Oracle: scikit-learn's adjusted_rand_score on random partitions, trivial ones included."""
    names = [f"task{n}" for n in range(len(labels[0]))]
    ours = compute_agreement(*(groups_from_labels(own, names) for own in labels))
    np.testing.assert_allclose(ours, adjusted_rand_score(*labels), atol=1e-12)


def test_agreement_ignores_order_and_refuses_other_tasks() -> None:
    """Neither the order of groups nor of tasks counts; two different suites cannot agree."""
    assert compute_agreement([["a", "b"], ["c"]], [["c"], ["b", "a"]]) == 1.0
    with pytest.raises(ValueError, match="same tasks, each once"):
        compute_agreement([["a", "b"]], [["a"], ["c"]])
