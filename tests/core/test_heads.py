"""What heads promise: N small networks side by side; a missing label counts for nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dmtg_lite.core.heads import FlatHeads
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.tasks import Task
from dmtg_lite.data import Split
from dmtg_lite.encoders import build_encoder
from dmtg_lite.runs.evaluate import evaluate

MIXED = (Task("a", 2), Task("b", 5), Task("c", 3))
PAIRS = tuple(Task(name) for name in "abcd")
both_suites = pytest.mark.parametrize("tasks", [MIXED, PAIRS], ids=["mixed outputs", "pairs"])


def make_heads(tasks: tuple[Task, ...], *, hidden: int) -> FlatHeads:
    torch.manual_seed(0)
    heads = FlatHeads(6, tasks, hidden=hidden)
    torch.nn.init.normal_(heads.linear.bias)
    return heads


def make_batch(tasks: tuple[Task, ...], *, n: int = 7) -> tuple[Tensor, Tensor]:
    """Features (B, 6) and targets (B, N)."""
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(n, 6, generator=rng)
    return features, torch.stack(
        [torch.randint(0, task.n_outputs, (n,), generator=rng) for task in tasks], 1
    )


def make_holes(tasks: tuple[Task, ...]) -> tuple[Tensor, Tensor]:
    """The same with every other label of task 0 missing, and all of task 1."""
    features, targets = make_batch(tasks)
    targets[::2, 0], targets[:, 1] = -1, -1
    return features, targets


def plain_losses(logits: dict[str, Tensor], targets: Tensor) -> Tensor:
    """Oracle: the mean over labelled images, one task at a time; 0 where there is none."""
    losses = []
    for own, target in zip(logits.values(), targets.T, strict=True):
        seen = target >= 0
        losses.append(F.cross_entropy(own[seen], target[seen]) if seen.any() else own.sum() * 0)
    return torch.stack(losses)


@both_suites
def test_hidden_heads_are_small_networks_side_by_side(tasks: tuple[Task, ...]) -> None:
    """Oracle: linear, LeakyReLU 0.1, linear of each task on its own rows of the fused layers."""
    heads = make_heads(tasks, hidden=5)
    features, _ = make_batch(tasks)
    first, second = heads.hidden, heads.linear
    w1, b1, w2, b2 = (
        first.weight.split(5),
        first.bias.split(5),
        second.weight.split(heads.sizes),
        second.bias.split(heads.sizes),
    )
    for n, logits in enumerate(heads.split(heads(features)).values()):
        expected = F.linear(F.leaky_relu(F.linear(features, w1[n], b1[n]), 0.1), w2[n], b2[n])
        torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("served", [[2, 0], [1], []])
def test_kept_heads_predict_as_before(served: list[int], hidden: int) -> None:
    """Some heads of a branch give the same logits, and learn on copies of their own."""
    heads = make_heads(MIXED, hidden=hidden)
    features, targets = make_batch(MIXED)
    kept = heads.keep(served)
    logits, before = kept.split(kept(features)), heads.split(heads(features))
    expected = {MIXED[n].name: before[MIXED[n].name] for n in served}
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)
    if served:
        kept.compute_losses(kept(features), targets[:, served]).sum().backward()
        assert all(weight.grad is not None for weight in kept.parameters())
    assert all(weight.grad is None for weight in heads.parameters())
    assert kept.keep(range(len(served))).state_dict().keys() == heads.state_dict().keys()


def test_hidden_heads_start_bent_at_different_places() -> None:
    """On a single number 32 units of a head bend at 32 points, about half of them in -1 to 1."""
    torch.manual_seed(0)
    heads = FlatHeads(1, PAIRS, hidden=32)
    bends = (-heads.hidden.bias / heads.hidden.weight[:, 0]).detach()
    assert len(bends.unique()) == len(bends) == 4 * 32
    assert 0.3 < (bends.abs() < 1).float().mean() < 0.7


def test_linear_heads_draw_what_they_always_drew() -> None:
    """What a linear layer and Xavier per head draw, no more: seeds keep their meaning."""
    torch.manual_seed(3)
    heads, after = FlatHeads(4, MIXED), torch.rand(1)
    torch.manual_seed(3)
    plain = torch.nn.Linear(4, 10)
    for rows in plain.weight.detach().split([2, 5, 3]):
        torch.nn.init.xavier_uniform_(rows)
    assert torch.equal(heads.linear.weight, plain.weight)
    assert (heads.linear.bias == 0).all()
    assert torch.equal(after, torch.rand(1))


def test_hidden_heads_are_counted() -> None:
    """Multiply-adds by hand: 3 numbers into 4 x 5 units, and 5 units into each of 8 outputs."""
    encoder = build_encoder("toy", (3, 16, 16), capacity=3)
    network = GroupedNetwork.naive(PAIRS, encoder, head_hidden=5)
    assert count_macs(network, (3, 16, 16))["heads"] == 3 * 4 * 5 + 8 * 5
    with pytest.raises(ValueError, match="`hidden` must be >= 0, got -1"):
        FlatHeads(4, PAIRS, hidden=-1)


# ---------------------------------------------------------------- images without a label
@pytest.mark.parametrize("hidden", [0, 4])
@both_suites
def test_losses_are_means_over_labelled_images(tasks: tuple[Task, ...], hidden: int) -> None:
    """Values and gradients of a hand-masked batch, in which one task has no label at all."""
    features, targets = make_holes(tasks)
    heads = make_heads(tasks, hidden=hidden)
    losses = heads.compute_losses(heads(features), targets)
    expected = plain_losses(heads.split(heads(features)), targets)
    torch.testing.assert_close(losses, expected)
    assert losses[1] == 0
    own, other = (
        torch.autograd.grad(x.sum(), list(heads.parameters())) for x in (losses, expected)
    )
    torch.testing.assert_close(own, other)


@pytest.mark.parametrize("n", [1, 37, 100])
def test_where_every_image_is_labelled_nothing_changes(n: int) -> None:
    """The plain mean, bit for bit: runs recorded before labels could be missing stay the same."""
    features, targets = make_batch(PAIRS, n=n)
    heads = make_heads(PAIRS, hidden=0)
    logits = heads(features)
    flat = F.cross_entropy(logits.reshape(-1, 2), targets.reshape(-1), reduction="none")
    both = heads.compute_losses(logits, targets), flat.view(n, -1).mean(0)
    assert torch.equal(*both)
    pull = torch.linspace(0.1, 1.3, len(PAIRS))
    gradients = [torch.autograd.grad((x * pull).sum(), logits, retain_graph=True) for x in both]
    assert torch.equal(gradients[0][0], gradients[1][0])


@both_suites
def test_branches_may_be_stacked(tasks: tuple[Task, ...]) -> None:
    """Logits of two branches at once, some labels missing, give each branch its own losses."""
    features, targets = make_holes(tasks)
    heads = make_heads(tasks, hidden=4)
    both = torch.stack([heads(features), heads(-features)])
    expected = torch.stack([heads.compute_losses(own, targets) for own in both])
    torch.testing.assert_close(heads.compute_losses(both, targets), expected)


def test_evaluation_counts_labelled_images_only() -> None:
    """Loss and error with labels missing are those of the labelled rows, across batches of 4."""
    torch.manual_seed(0)
    network = GroupedNetwork.naive(PAIRS, build_encoder("toy", (3, 16, 16), capacity=2))
    images = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8)
    truth = torch.randint(0, 2, (10,))
    masked = torch.where(torch.arange(10) % 3 == 0, -1, truth)
    whole = dict.fromkeys("abcd", truth)
    found = evaluate(network, Split(images, {**whole, "b": masked}), batch_size=4)
    labelled = evaluate(network, Split(images, whole).subset(masked >= 0))
    everything = evaluate(network, Split(images, whole))
    assert found.losses["b"] == pytest.approx(labelled.losses["b"], rel=1e-6)
    assert found.errors["b"] == pytest.approx(labelled.errors["b"])
    assert found.losses["a"] == pytest.approx(everything.losses["a"], rel=1e-6)
