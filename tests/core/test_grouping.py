"""What the draw, the assignment and groupings promise, on plain tensors: no data, no network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from dmtg_lite.core.assignment import ESTIMATORS, Assignment, sample_assignment
from dmtg_lite.core.groups import compute_agreement, groups_from_labels, labels_from_groups
from dmtg_lite.runs.cutting import prune_below

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])  # (N=2, K=3)
HARD = [("gumbel", False), ("straight_through", True)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("estimator", "hard"), HARD)
@pytest.mark.parametrize("tau", [0.1, 2.5, 10.0])
def test_same_noise_same_draw_and_gradient_as_torch(estimator, hard: bool, tau: float) -> None:
    """Oracle: with the same seed, torch's own gumbel_softmax."""
    drawn, gradients = [], []
    for draw in (
        lambda s: F.gumbel_softmax(s, tau, hard=hard),
        lambda s: sample_assignment(s, tau, estimator=estimator),
    ):
        torch.manual_seed(0)
        logits = LOGITS.clone().requires_grad_()
        drawn.append(draw(logits))
        (drawn[-1] * torch.arange(6.0).view(2, 3)).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(drawn[1], drawn[0], rtol=0, atol=1e-7)
    torch.testing.assert_close(drawn[1].sum(-1), torch.ones(2))
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("estimator", ["gumbel", "straight_through"])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_tau_does_not_change_which_group_wins(tau: float, estimator) -> None:
    """Gumbel-max: winners follow softmax(logits) at every tau. Standard error here < 0.004."""
    many = LOGITS.repeat(20_000, 1)
    draws = sample_assignment(many, tau, estimator=estimator, generator=seeded())
    winners = F.one_hot(draws.argmax(-1), 3).float().reshape(20_000, 2, 3).mean(0)
    torch.testing.assert_close(winners, LOGITS.softmax(-1), atol=0.02, rtol=0)


def test_the_softmax_estimator_draws_nothing() -> None:
    """Without noise the assignment is softmax(S) at any tau, and no random number is used."""
    rng = seeded()
    drawn = sample_assignment(LOGITS, 7.0, estimator="softmax", generator=rng)
    assert torch.equal(drawn, LOGITS.softmax(-1))
    assert torch.equal(rng.get_state(), seeded().get_state())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_pruned_head_has_no_weight_and_no_gradient(estimator) -> None:
    """-inf in S means exactly 0 in Z and in the gradient, never NaN, also with one head left."""
    inf = torch.inf
    logits = torch.tensor([[1.0, -inf, 0.5], [-inf, -inf, 2.0]], requires_grad=True)
    z = sample_assignment(logits, 0.3, estimator=estimator, generator=seeded())
    (z * torch.tensor([[3.0, 5.0, 1.0], [1.0, 2.0, 9.0]])).sum().backward()
    pruned = logits.detach().isinf()
    assert (z[pruned] == 0).all()
    assert (logits.grad[pruned] == 0).all()
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(z.sum(-1), torch.ones(2))
    assert z[1, 2].item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((LOGITS, 0), "`tau` must be > 0, got"),
        ((LOGITS, -1), "`tau` must be > 0, got"),
        ((LOGITS, float("nan")), "`tau` must be > 0, got"),
        ((LOGITS[0], 1.0), r"`logits` must have shape \(n_tasks, n_groups\), got .* shape \(3,\)"),
    ],
)
def test_a_bad_draw_is_refused(arguments: tuple, complaint: str) -> None:
    """No temperature, one row instead of S, and an estimator that does not exist."""
    with pytest.raises(ValueError, match=complaint):
        sample_assignment(*arguments)
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
    assignment, rng = Assignment(3, 2, group_of=[1, 0, 1]), seeded()
    assert assignment.is_fixed
    assert list(assignment.parameters()) == []
    one_hot = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert torch.equal(assignment.sample(2.5, generator=rng), one_hot)
    assert torch.equal(assignment.probabilities(), one_hot)
    assert torch.equal(rng.get_state(), seeded().get_state())
    assert assignment.group_of().tolist() == [1, 0, 1]
    assert assignment.groups(["x", "y", "z"]) == [["y"], ["x", "z"]]


def test_pruning_while_training_keeps_the_winner_and_is_final() -> None:
    """A head below the threshold goes for good, whatever S does later; a row is never empty."""
    assignment = Assignment(2, 3)
    prune_below(assignment, 0.0)  # threshold 0 keeps every head
    assert assignment.active.all()
    with torch.no_grad():
        assignment.logits.copy_(torch.tensor([[4.0, 0.0, 0.0], [0.1, 0.0, 0.0]]))
    prune_below(assignment, 0.9)  # row 1 has no probability above 0.9: only its winner stays
    assert assignment.active.tolist() == [[True, False, False]] * 2
    with torch.no_grad():
        assignment.logits[0] = torch.tensor([0.0, 9.0, 9.0])
    prune_below(assignment, 0.0)
    assert assignment.probabilities().tolist() == [[1.0, 0.0, 0.0]] * 2
    assignment.sample(1.0).sum().backward()
    assert assignment.logits.grad.isfinite().all()


@pytest.mark.parametrize("group_of", [[0], [0, 2], [0, -1], [0, 1, 1]])
def test_a_bad_assignment_is_refused(group_of: list[int]) -> None:
    """Too short, too long, or a group that does not exist; N and K are at least 1."""
    with pytest.raises(ValueError, match=r"`group_of` must hold 2 integers in 0\.\.1"):
        Assignment(2, 2, group_of=group_of)
    for shape in ((0, 2), (2, 0)):
        with pytest.raises(ValueError, match="must be a whole number >= 1"):
            Assignment(*shape)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([[0, 1]], "`members` must hold 2 lists"),
        ([[0], [2]], r"integers in 0\.\.1"),
        ([[0], [0]], "leaves task 1 without a group"),
    ],
)
def test_bad_members_are_refused(members: list[list[int]], complaint: str) -> None:
    """Groups may overlap, but there are K of them, and every task is in one."""
    assert Assignment(2, 2, members=[[0, 1], [1]]).active.tolist() == [[True, False], [True, True]]
    with pytest.raises(ValueError, match=complaint):
        Assignment(2, 2, members=members)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
@settings(deadline=None)
def test_groups_and_labels_are_two_forms_of_one_thing(labels: list[int]) -> None:
    """There and back: the same tasks together, no empty group, labels count from 0."""
    names = list("abcdef")[: len(labels)]
    groups = groups_from_labels(labels, names)
    assert sorted(name for group in groups for name in group) == names
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


LABELS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n)] * 2)
)


@given(LABELS)
@settings(deadline=None, max_examples=100)
def test_agreement_is_the_adjusted_rand_index(labels: tuple[list[int], list[int]]) -> None:
    """Oracle: scikit-learn's adjusted_rand_score, trivial partitions included."""
    names = [f"task{n}" for n in range(len(labels[0]))]
    ours = compute_agreement(*(groups_from_labels(own, names) for own in labels))
    np.testing.assert_allclose(ours, adjusted_rand_score(*labels), atol=1e-12)


def test_agreement_ignores_order_and_refuses_other_tasks() -> None:
    """Neither the order of groups nor of tasks counts; two different suites cannot agree."""
    assert compute_agreement([["a", "b"], ["c"]], [["c"], ["b", "a"]]) == 1.0
    with pytest.raises(ValueError, match="same tasks, each once"):
        compute_agreement([["a", "b"]], [["a"], ["c"]])
