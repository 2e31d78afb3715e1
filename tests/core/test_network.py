"""What the grouped network promises: the paper's sizes, the loss matrix, pruning without loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtg_lite.core.heads import FlatHeads
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.tasks import CELEBA_9, CELEBA_40, TASKONOMY_5, Task
from dmtg_lite.encoders import build_encoder, resnet, toy

MIXED = (Task("a", 2), Task("b", 5), Task("c", 3))
both_encoders = pytest.mark.parametrize("encoder", ["toy", "resnet"])
shared_or_not = pytest.mark.parametrize("shared", [0, 1])


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make_batch(n: int, tasks: tuple[Task, ...] = MIXED, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images uint8 (B, 3, 16, 16) and targets (B, N)."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=rng)
    targets = [torch.randint(0, task.n_outputs, (n,), generator=rng) for task in tasks]
    return images, torch.stack(targets, 1)


def make_naive(
    tasks: tuple[Task, ...] = MIXED, *, encoder: str = "toy", shared: int = 0
) -> GroupedNetwork:
    torch.manual_seed(0)
    built = build_encoder(encoder, (3, 16, 16), capacity=3)
    return GroupedNetwork.naive(tasks, built, shared=shared)


def make_learned(**kwargs) -> GroupedNetwork:
    """Three branches that differ, and logits that favour another group for every task."""
    rng = torch.Generator().manual_seed(1)
    network = make_naive(**kwargs).branch_out(3, jitter=0.5, generator=rng)
    with torch.no_grad():
        network.assignment.logits.copy_(torch.randn(len(network.tasks), 3, generator=rng))
    return network


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_equal(one, other) -> None:
    """Bit for bit, of tensors in any containers."""
    torch.testing.assert_close(one, other, rtol=0, atol=0)


# ---------------------------------------------------------------- the paper's CelebA network
def test_parameters_of_the_paper_network() -> None:
    """From the layer table by hand: 335,058 for Naive MTL with 9 heads, 1,227,920 with 40."""
    encoder = resnet()
    assert [count(stage) for stage in encoder.stages] == [1_856, 73_984]
    assert encoder.out_features == 14_400
    assert count(GroupedNetwork.naive(CELEBA_9, resnet())) == 335_058 == 75_840 + 9 * 28_802
    assert count(GroupedNetwork.naive(CELEBA_40, resnet())) == 1_227_920 == 75_840 + 40 * 28_802


@pytest.mark.parametrize(
    ("n_groups", "separate", "shared"), [(2, 0.156, 0.149), (3, 0.235, 0.220), (4, 0.313, 0.292)]
)
def test_sizes_grow_with_the_groups(n_groups: int, separate: float, shared: float) -> None:
    """K copies of everything and N x K logits; a shared first stage is there once.

    Multiply-adds in thousand millions; Table A1 prints 0.15, 0.22 and 0.29.
    """
    for m, gmacs in ((0, separate), (1, shared)):
        network = GroupedNetwork.naive(CELEBA_9, resnet(), shared=m).branch_out(n_groups)
        assert count(network) == n_groups * (335_058 + 9) - m * (n_groups - 1) * 1_856
        total = count_macs(network, (3, 64, 64))["total"]
        assert total / 1e9 == pytest.approx(gmacs, abs=0.0005)


@pytest.mark.parametrize(("tasks", "millions"), [(CELEBA_9, 78.19), (CELEBA_40, 79.08)])
def test_macs_of_the_paper_network(tasks: tuple[Task, ...], millions: float) -> None:
    """By hand: 3x3 convolutions at 64x64 and 31x31, and 14,400 x 2 a head."""
    encoder, heads = 27 * 64 * 64 * 64 + 2 * 9 * 64 * 64 * 31 * 31, len(tasks) * 14_400 * 2
    network = GroupedNetwork.naive(tasks, resnet())
    before = copy_of(network)
    macs = count_macs(network, (3, 64, 64))
    assert macs == {
        "stem": 0, "branches": encoder, "heads": heads, "encoder": encoder,
        "total": encoder + heads,
    }  # fmt: skip
    assert macs["total"] / 1e6 == pytest.approx(millions, abs=0.005)
    assert network.training  # counting leaves the network alone, batch-norm statistics included
    assert_equal(copy_of(network), before)


class PlainResNet(nn.Module):
    """The same encoder as the layer table has it: ReLU, then pool; nothing in place."""

    def __init__(self) -> None:
        super().__init__()
        conv_norm = [
            (nn.Conv2d(i, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)) for i in (3, 64, 64)
        ]
        self.pairs = nn.ModuleList(nn.Sequential(*pair) for pair in conv_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.pairs[0](x)), 3, 2)
        y = self.pairs[2](F.relu(self.pairs[1](x)))
        return F.avg_pool2d(F.relu(x + y), 2).flatten(1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pooling_before_relu_is_exact(memory_format: torch.memory_format) -> None:
    """Value for value the plain network's features, statistics and gradients."""
    torch.manual_seed(0)
    encoder, plain = resnet((3, 21, 24)), PlainResNet()
    ours = nn.Sequential(*encoder.stages)
    plain.load_state_dict(dict(zip(plain.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.rand(5, 3, 21, 24).to(memory_format=memory_format)
    features, expected = ours(x), plain(x)
    assert features.shape == (5, encoder.out_features)
    assert torch.equal(features, expected)
    assert_equal(list(ours.buffers()), list(plain.buffers()))
    pull = torch.randn(expected.shape)
    own = torch.autograd.grad((features * pull).sum(), list(ours.parameters()))
    other = torch.autograd.grad((expected * pull).sum(), list(plain.parameters()))
    torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- the loss matrix
@pytest.mark.parametrize("tasks", [MIXED, CELEBA_9], ids=["mixed outputs", "nine pairs"])
@both_encoders
def test_loss_matrix_is_a_plain_double_loop(tasks: tuple[Task, ...], encoder: str) -> None:
    """Oracle: F.cross_entropy of head n on branch k, one at a time."""
    network = make_learned(tasks=tasks, encoder=encoder)
    images, targets = make_batch(7, tasks)
    expected = torch.empty(len(tasks), 3)
    for k in range(3):
        logits = network.heads[k].linear(network.branches[k](images.float() / 255))
        for n, part in enumerate(logits.split([task.n_outputs for task in tasks], 1)):
            expected[n, k] = F.cross_entropy(part, targets[:, n])
    matrix = network.compute_loss_matrix(images, targets)
    torch.testing.assert_close(matrix, expected, rtol=1e-5, atol=1e-6)


def test_a_head_that_is_not_there_has_loss_zero() -> None:
    """A fixed grouping fills one entry a row, with the value Naive MTL has before training."""
    naive = make_naive()
    network = naive.branch_out(2, group_of=[1, 0, 1])
    assert [[task.name for task in head.tasks] for head in network.heads] == [["b"], ["a", "c"]]
    matrix = network.compute_loss_matrix(*make_batch(6))
    assert (matrix != 0).tolist() == [[False, True], [True, False], [False, True]]
    torch.testing.assert_close(matrix.sum(1), naive.compute_loss_matrix(*make_batch(6))[:, 0])


def test_images_as_bytes_or_as_fractions() -> None:
    """uint8 0..255 and float 0..1 are the same picture."""
    network, (images, _) = make_learned().eval(), make_batch(4)
    torch.testing.assert_close(network(images), network(images.float() / 255))


@shared_or_not
@both_encoders
def test_tied_branches_give_the_logits_no_gradient(encoder: str, shared: int) -> None:
    """Identical branches have identical losses, so S gets a zero gradient, up to rounding.

    dtotal/ds_nk = z_nk (L_nk - sum_m z_nm L_nm) / tau, and rows of z sum to 1: only the noise that
    the weights received differently can separate branches, from the second step on.
    """
    network = make_naive(encoder=encoder, shared=shared).branch_out(3)
    matrix = network.compute_loss_matrix(*make_batch(8))
    assert torch.equal(matrix, matrix[:, :1].expand(3, 3))
    z = network.assignment.sample(2.5, generator=torch.Generator().manual_seed(0))
    (matrix * z).sum().backward()
    # losses are about 1.5; float32 has 7 digits
    assert network.assignment.logits.grad.abs().max() < 1e-6
    first, second, _ = (next(branch.parameters()).grad for branch in network.branches)
    assert not torch.equal(first, second)  # while the weights part at once


# ---------------------------------------------------------------- copying and pruning
@shared_or_not
def test_branches_are_copies_that_share_nothing(shared: int) -> None:
    """Every branch starts as Naive MTL, bit for bit, and changing one changes no other."""
    naive = make_naive(shared=shared)
    network = naive.branch_out(3)
    assert len(network.stem) == shared
    for branch, head in zip(network.branches, network.heads, strict=True):
        assert_equal(copy_of(branch), copy_of(naive.branches[0]))
        assert_equal(copy_of(head), copy_of(naive.heads[0]))
    pointers = [p.data_ptr() for p in [*network.parameters(), *naive.parameters()]]
    assert len(set(pointers)) == len(pointers)


def test_jitter_is_relative_and_seeded() -> None:
    """Copies differ by the asked fraction of each tensor's spread; same generator, same noise."""
    naive = make_naive()
    first, again = (
        naive.branch_out(2, jitter=0.1, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    assert_equal(copy_of(first), copy_of(again))
    one, other, old = (b[1][1].weight for b in [*first.branches, naive.branches[0]])
    assert ((one - old).std() / old.std()).item() == pytest.approx(0.1, rel=0.1)
    assert not torch.equal(one, other)


@both_encoders
@shared_or_not
def test_the_pruned_network_predicts_what_the_full_one_did(encoder: str, shared: int) -> None:
    """N heads give the same predictions; looking draws nothing from torch's random stream.

    A matrix product of fewer columns may add in another order: 1e-6 of values of about 1.
    """
    full = make_learned(tasks=CELEBA_9, encoder=encoder, shared=shared)
    full.compute_loss_matrix(*make_batch(16, CELEBA_9))  # statistics that are not 0 and 1
    full.eval()
    stream, names = torch.get_rng_state(), [task.name for task in CELEBA_9]
    pruned = full.prune()
    assert torch.equal(torch.get_rng_state(), stream)
    assert sum(len(head.tasks) for head in pruned.heads) == 9
    assert pruned.n_groups == len(set(full.assignment.group_of().tolist()))
    assert pruned.assignment.groups(names) == full.assignment.groups(names)
    images, _ = make_batch(10, seed=3)
    before, after = full(images), pruned(images)
    assert list(before) == list(after) == names
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    assert_equal(pruned.prune()(images), after)


def test_empty_branches_are_gone_and_the_full_network_stays() -> None:
    """All tasks in one group: one branch predicts the same; the original is untouched."""
    full = make_learned().eval()
    with torch.no_grad():
        full.assignment.logits[:, 2] = 9.0
    before, pruned = copy_of(full), full.prune()
    assert pruned.n_groups == 1
    assert not pruned.training
    images, _ = make_batch(4)
    assert_equal(pruned(images), full(images))
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.zero_()
    assert_equal(copy_of(full), before)


def test_a_group_that_serves_nobody_is_allowed() -> None:
    """A fixed grouping may leave a branch empty; it has no heads and pruning removes it."""
    network = make_naive().branch_out(3, group_of=[0, 2, 2])
    assert [len(head.tasks) for head in network.heads] == [1, 0, 2]
    images, targets = make_batch(4)
    network.compute_loss_matrix(images, targets).sum().backward()
    assert list(network(images)) == ["a", "b", "c"]
    assert network.prune().n_groups == 2


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: make_naive(shared=3), r"`shared` must be in 0\.\.2"),
        (lambda: make_naive().branch_out(2).branch_out(2), "only a network with one branch"),
        (lambda: FlatHeads(4, TASKONOMY_5), r"'depth' .* cannot be served: heads on flat"),
        (lambda: build_encoder("vgg", (3, 64, 64), capacity=1), "`encoder` must be one of"),
        (lambda: resnet((3, 4, 64)), "at least 8x8"),
        (lambda: toy((3, 30, 32)), "divisible by 4"),
        (lambda: make_naive((Task("a"), Task("a"))), "more than once"),
    ],
)
def test_a_bad_network_is_refused(build, complaint: str) -> None:
    """No stage left, branching out twice, dense tasks on heads, unknown encoder, odd sizes."""
    with pytest.raises(ValueError, match=complaint):
        build()
