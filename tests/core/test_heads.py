"""What heads promise: N small networks side by side, and a missing label that counts for nothing."""

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


def make_heads(tasks: tuple[Task, ...], *, hidden: int, in_features: int = 6) -> FlatHeads:
    torch.manual_seed(0)
    heads = FlatHeads(in_features, tasks, hidden=hidden)
    torch.nn.init.normal_(heads.linear.bias)
    return heads


def make_batch(
    tasks: tuple[Task, ...], *, n: int = 7, in_features: int = 6
) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    features = torch.randn(n, in_features, generator=rng)
    targets = torch.stack([torch.randint(0, t.n_outputs, (n,), generator=rng) for t in tasks], 1)
    return features, targets  # (B, in_features), (B, N)


def plain_losses(logits: dict[str, Tensor], targets: Tensor) -> Tensor:
    """Oracle: the mean over labelled images, one task at a time; 0 where there is none."""
    losses = []
    for n, own in enumerate(logits.values()):
        seen = targets[:, n] >= 0
        losses.append(F.cross_entropy(own[seen], targets[seen, n]) if seen.any() else own.sum() * 0)
    return torch.stack(losses)


@pytest.mark.parametrize("tasks", [MIXED, PAIRS], ids=["mixed outputs", "pairs"])
def test_hidden_heads_are_small_networks_side_by_side(tasks: tuple[Task, ...]) -> None:
    """Oracle: linear, LeakyReLU 0.1, linear for each task on its own rows of the fused layers."""
    heads = make_heads(tasks, hidden=5)
    features, _ = make_batch(tasks)
    first = zip(heads.hidden.weight.split(5), heads.hidden.bias.split(5), strict=True)
    second = zip(
        heads.linear.weight.split(heads.sizes), heads.linear.bias.split(heads.sizes), strict=True
    )
    logits = heads.split(heads(features))
    for task, (w1, b1), (w2, b2) in zip(tasks, first, second, strict=True):
        expected = F.linear(F.leaky_relu(F.linear(features, w1, b1), 0.1), w2, b2)
        torch.testing.assert_close(logits[task.name], expected)


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("served", [[2, 0], [1], []])
def test_kept_heads_predict_as_before(served: list[int], hidden: int) -> None:
    """Some heads of a branch give the same logits, value for value, and learn on their own copies."""
    heads = make_heads(MIXED, hidden=hidden)
    features, targets = make_batch(MIXED)
    kept = heads.keep(served)
    logits, before = kept.split(kept(features)), heads.split(heads(features))
    assert list(logits) == [MIXED[n].name for n in served]
    for name, own in logits.items():
        torch.testing.assert_close(own, before[name], rtol=1e-6, atol=1e-6)
    if served:
        kept.compute_losses(kept(features), targets[:, served]).sum().backward()
        assert all(weight.grad is not None for weight in kept.parameters())
    assert all(weight.grad is None for weight in heads.parameters())
    assert kept.keep(range(len(served))).state_dict().keys() == heads.state_dict().keys()


def test_hidden_heads_start_bent_at_different_places() -> None:
    """On a single number, 32 units of a head bend at 32 points, half of them between -1 and 1 or so."""
    torch.manual_seed(0)
    heads = FlatHeads(1, PAIRS, hidden=32)
    bends = (-heads.hidden.bias / heads.hidden.weight[:, 0]).detach()
    assert len(bends.unique()) == len(bends) == 4 * 32
    assert 0.3 < (bends.abs() < 1).float().mean() < 0.7
    assert (heads.linear.bias == 0).all()
    for rows in heads.linear.weight.split(heads.sizes):  # Xavier-uniform: a bound for each head
        assert 0.8 * (6 / 34) ** 0.5 < rows.abs().max() <= (6 / 34) ** 0.5


def test_linear_heads_draw_what_they_always_drew() -> None:
    """hidden=0 draws what a linear layer and Xavier draw, no more: seeds keep their meaning."""
    torch.manual_seed(3)
    heads, after = FlatHeads(4, MIXED), torch.rand(1)
    torch.manual_seed(3)
    plain = torch.nn.Linear(4, 10)
    for rows in plain.weight.detach().split([2, 5, 3]):
        torch.nn.init.xavier_uniform_(rows)
    assert torch.equal(heads.linear.weight, plain.weight)
    assert torch.equal(after, torch.rand(1))


def test_hidden_heads_are_counted() -> None:
    """Multiply-adds by hand: 3 numbers into 4 x 5 units, and 5 units into each of 8 outputs."""
    encoder = build_encoder("toy", (3, 16, 16), capacity=3)
    network = GroupedNetwork.naive(PAIRS, encoder, head_hidden=5)
    assert count_macs(network, (3, 16, 16))["heads"] == 3 * 4 * 5 + 8 * 5


def test_negative_hidden_units_are_refused() -> None:
    """0 is linear; less is nothing."""
    with pytest.raises(ValueError, match="`hidden` must be >= 0, got -1"):
        FlatHeads(4, PAIRS, hidden=-1)


# ---------------------------------------------------------------- images without a label


@pytest.mark.parametrize("hidden", [0, 4])
@pytest.mark.parametrize("tasks", [MIXED, PAIRS], ids=["mixed outputs", "pairs"])
def test_losses_are_means_over_labelled_images(tasks: tuple[Task, ...], hidden: int) -> None:
    """Values and gradients of a hand-masked batch, in which one task has no label at all."""
    features, targets = make_batch(tasks)
    targets[::2, 0], targets[:, 1] = -1, -1
    fused, plain = make_heads(tasks, hidden=hidden), make_heads(tasks, hidden=hidden)
    losses = fused.compute_losses(fused(features), targets)
    expected = plain_losses(plain.split(plain(features)), targets)
    torch.testing.assert_close(losses, expected)
    assert losses[1] == 0
    losses.sum().backward()
    expected.sum().backward()
    for (name, own), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, msg=name)
    unseen = fused.linear.weight.grad.split(fused.sizes)[1]
    assert (unseen == 0).all()


@pytest.mark.parametrize("n", [1, 37, 64, 100])
def test_where_every_image_is_labelled_nothing_changes(n: int) -> None:
    """The plain mean, bit for bit: runs recorded before labels could be missing stay what they are."""
    features, targets = make_batch(PAIRS, n=n)
    heads = make_heads(PAIRS, hidden=0)
    logits = heads(features)
    flat = F.cross_entropy(logits.reshape(-1, 2), targets.reshape(-1), reduction="none")
    expected = flat.view(n, -1).mean(0)
    losses = heads.compute_losses(logits, targets)
    assert torch.equal(losses, expected)
    weigh = torch.linspace(0.1, 1.3, len(PAIRS))
    gradients = [
        torch.autograd.grad((x * weigh).sum(), logits, retain_graph=True)
        for x in (losses, expected)
    ]
    assert torch.equal(*(gradient for (gradient,) in gradients))


@pytest.mark.parametrize("tasks", [MIXED, PAIRS], ids=["mixed outputs", "pairs"])
def test_branches_may_be_stacked(tasks: tuple[Task, ...]) -> None:
    """Logits of two branches at once, some labels missing, give each branch its own losses."""
    features, targets = make_batch(tasks)
    targets[::2, 0], targets[:, 1] = -1, -1
    heads = make_heads(tasks, hidden=4)
    both = torch.stack([heads(features), heads(-features)])
    expected = torch.stack([heads.compute_losses(own, targets) for own in both])
    torch.testing.assert_close(heads.compute_losses(both, targets), expected)


def test_evaluation_counts_labelled_images_only() -> None:
    """Loss and error with some labels missing are those of the labelled rows, across batches of 4."""
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
