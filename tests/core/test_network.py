"""What the grouped network promises: the paper's sizes, the (N, K) loss matrix, and pruning without loss."""

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
ENCODER_PARAMETERS, NAIVE_9, NAIVE_40 = (
    75_840,
    335_058,
    1_227_920,
)  # counted from the layer table by hand


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make_images(n: int, *, size: int = 16, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=rng)


def make_targets(n: int, tasks: tuple[Task, ...], *, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, t.n_outputs, (n,), generator=rng) for t in tasks], 1)


def make_naive(
    tasks: tuple[Task, ...] = MIXED, *, encoder: str = "toy", size: int = 16, shared: int = 0
) -> GroupedNetwork:
    torch.manual_seed(0)
    return GroupedNetwork.naive(
        tasks, build_encoder(encoder, (3, size, size), capacity=3), shared=shared
    )


def make_learned(n_groups: int = 3, **kwargs) -> GroupedNetwork:
    """Branches that differ, and logits that favour another group for every task."""
    rng = torch.Generator().manual_seed(1)
    network = make_naive(**kwargs).branch_out(n_groups, jitter=0.5, generator=rng)
    with torch.no_grad():
        network.assignment.logits.copy_(torch.randn(len(network.tasks), n_groups, generator=rng))
    return network


# ---------------------------------------------------------------- sizes of the paper's CelebA
# network


def test_parameters_of_the_paper_network() -> None:
    """Encoder 75,840; Naive MTL 335,058 with 9 heads of 28,802, and 1,227,920 with 40."""
    encoder = resnet()
    assert [count(stage) for stage in encoder.stages] == [1_856, 73_984]
    assert sum(map(count, encoder.stages)) == ENCODER_PARAMETERS
    assert encoder.out_features == 14_400
    assert (
        count(GroupedNetwork.naive(CELEBA_9, resnet()))
        == NAIVE_9
        == ENCODER_PARAMETERS + 9 * 28_802
    )
    assert (
        count(GroupedNetwork.naive(CELEBA_40, resnet()))
        == NAIVE_40
        == ENCODER_PARAMETERS + 40 * 28_802
    )


@pytest.mark.parametrize("n_groups", [2, 3, 4])
def test_parameters_of_a_learned_network(n_groups: int) -> None:
    """K copies of everything, and N x K logits; a shared first stage is there once."""
    learned = GroupedNetwork.naive(CELEBA_9, resnet()).branch_out(n_groups)
    assert count(learned) == n_groups * NAIVE_9 + 9 * n_groups
    shared = GroupedNetwork.naive(CELEBA_9, resnet(), shared=1).branch_out(n_groups)
    assert count(shared) == count(learned) - (n_groups - 1) * 1_856


def test_macs_of_the_paper_network() -> None:
    """By hand: 3x3 convolutions at 64x64 and 31x31, and 14,400 x 2 a head; 78.19 and 79.08 million in all."""
    first, block, head = 27 * 64 * 64 * 64, 2 * 9 * 64 * 64 * 31 * 31, 14_400 * 2
    for tasks, millions in ((CELEBA_9, 78.19), (CELEBA_40, 79.08)):
        macs = count_macs(GroupedNetwork.naive(tasks, resnet()), (3, 64, 64))
        assert macs == {
            "stem": 0,
            "branches": first + block,
            "heads": len(tasks) * head,
            "encoder": first + block,
            "total": first + block + len(tasks) * head,
        }
        assert macs["total"] / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(
    ("n_groups", "separate", "shared"), [(2, 0.156, 0.149), (3, 0.235, 0.220), (4, 0.313, 0.292)]
)
def test_macs_grow_with_the_groups(n_groups: int, separate: float, shared: float) -> None:
    """In thousand millions, with and without a shared first stage; Table A1 prints 0.15, 0.22 and 0.29."""
    for m, expected in ((0, separate), (1, shared)):
        network = GroupedNetwork.naive(CELEBA_9, resnet(), shared=m).branch_out(n_groups)
        assert count_macs(network, (3, 64, 64))["total"] / 1e9 == pytest.approx(
            expected, abs=0.0005
        )


def test_counting_leaves_the_network_alone() -> None:
    """Batch-norm statistics and the training mode are what they were."""
    network = make_naive(encoder="resnet")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_macs(network, (3, 16, 16))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class PlainResNet(nn.Module):
    """The same encoder written down as the layer table has it: ReLU, then pool; nothing in place."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, 64, 3, padding=1, bias=False) for i in (3, 64, 64))
        self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.norms[0](self.convs[0](x))), 3, 2)
        y = F.relu(self.norms[1](self.convs[1](x)))
        y = self.norms[2](self.convs[2](y))
        return F.avg_pool2d(F.relu(x + y), 2).flatten(1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pooling_before_relu_is_exact(memory_format: torch.memory_format) -> None:
    """Value for value the plain network's features, statistics and gradients"""
    torch.manual_seed(0)
    encoder, plain = resnet((3, 21, 24)), PlainResNet()
    ours = nn.Sequential(*encoder.stages)
    for own, other in zip(ours.state_dict().values(), [*_in_order(plain)], strict=True):
        other.copy_(own)
    x = torch.rand(5, 3, 21, 24).to(memory_format=memory_format)
    features, expected = ours(x), plain(x)
    assert features.shape == (5, encoder.out_features)
    assert torch.equal(features, expected)
    weights = torch.randn(expected.shape)
    (features * weights).sum().backward()
    (expected * weights).sum().backward()
    others = [
        p
        for pair in zip(plain.convs, plain.norms, strict=True)
        for m in pair
        for p in m.parameters()
    ]
    for own, other in zip(ours.parameters(), others, strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)
    for own, other in zip(ours.buffers(), plain.norms.buffers(), strict=True):
        assert torch.equal(own, other)


def _in_order(plain: PlainResNet):
    """The plain network's tensors in the order of the stages': conv, then its norm."""
    for conv, norm in zip(plain.convs, plain.norms, strict=True):
        yield conv.weight.detach()
        yield from (value.detach() for value in norm.state_dict(keep_vars=True).values())


def test_weights_start_as_both_releases_start_them() -> None:
    """Xavier-uniform per head, so its bound does not depend on how many heads are fused; zero biases."""
    torch.manual_seed(0)
    heads = FlatHeads(100, MIXED)
    for rows, task in zip(heads.linear.weight.split([2, 5, 3]), MIXED, strict=True):
        bound = (6 / (100 + task.n_outputs)) ** 0.5
        assert 0.9 * bound < rows.abs().max() <= bound
    assert (heads.linear.bias == 0).all()


# ---------------------------------------------------------------- the loss matrix


@pytest.mark.parametrize("tasks", [MIXED, CELEBA_9], ids=["mixed outputs", "nine pairs"])
@pytest.mark.parametrize("encoder", ["toy", "resnet"])
def test_loss_matrix_is_a_plain_double_loop(tasks: tuple[Task, ...], encoder: str) -> None:
    """Oracle: F.cross_entropy of head n on branch k, one at a time."""
    network = make_learned(tasks=tasks, encoder=encoder)
    images, targets = make_images(7), make_targets(7, tasks)
    matrix = network.compute_loss_matrix(images, targets)
    assert matrix.shape == (len(tasks), 3)
    for k in range(3):
        features = network.branches[k](images.float() / 255)
        linear, first = network.heads[k].linear, 0
        for n, task in enumerate(tasks):
            rows = slice(first, first := first + task.n_outputs)
            logits = features @ linear.weight[rows].T + linear.bias[rows]
            torch.testing.assert_close(
                matrix[n, k], F.cross_entropy(logits, targets[:, n]), rtol=1e-5, atol=1e-6
            )


def test_a_head_that_is_not_there_has_loss_zero() -> None:
    """A fixed grouping fills one entry a row, with the very value Naive MTL has before training."""
    naive = make_naive()
    network = naive.branch_out(2, group_of=[1, 0, 1])
    assert [[task.name for task in head.tasks] for head in network.heads] == [["b"], ["a", "c"]]
    images, targets = make_images(6), make_targets(6, MIXED)
    matrix = network.compute_loss_matrix(images, targets)
    assert [[value != 0 for value in row] for row in matrix.tolist()] == [
        [False, True],
        [True, False],
        [False, True],
    ]
    torch.testing.assert_close(matrix.sum(1), naive.compute_loss_matrix(images, targets)[:, 0])


def test_images_as_bytes_or_as_fractions() -> None:
    """uint8 0..255 and float 0..1 are the same picture."""
    network, images = make_learned().eval(), make_images(4)
    for one, other in zip(
        network(images).values(), network(images.float() / 255).values(), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shared", [0, 1])
@pytest.mark.parametrize("encoder", ["toy", "resnet"])
def test_tied_branches_give_the_logits_no_gradient(encoder: str, shared: int) -> None:
    """Identical branches have identical losses, so any draw gives S a zero gradient, up to
    rounding.

    dtotal/ds_nk = z_nk (L_nk - sum_m z_nm L_nm) / tau, and rows of z sum to 1: only the noise that
    the weights received differently can separate branches, from the second step on.
    """
    network = make_naive(encoder=encoder, shared=shared).branch_out(3)
    matrix = network.compute_loss_matrix(make_images(8), make_targets(8, MIXED))
    assert torch.equal(matrix, matrix[:, :1].expand(3, 3))
    z = network.assignment.sample(2.5, generator=torch.Generator().manual_seed(0))
    (matrix * z).sum().backward()
    assert (
        network.assignment.logits.grad.abs().max() < 1e-6
    )  # losses are about 1.5; float32 has 7 digits
    first, second, _ = (next(branch.parameters()).grad for branch in network.branches)
    assert not torch.equal(first, second)  # while the weights part at once


def test_task_order_does_not_matter() -> None:
    """Permuting tasks, heads and targets permutes the rows of the loss matrix and nothing else."""
    network, order = make_learned(), [2, 0, 1]
    tasks = tuple(MIXED[n] for n in order)
    assignment = make_naive(tasks).branch_out(3).assignment
    permuted = GroupedNetwork(
        tasks,
        network.stem,
        network.branches,
        [head.keep(order) for head in network.heads],
        assignment,
    )
    images, targets = make_images(5), make_targets(5, MIXED)
    torch.testing.assert_close(
        permuted.compute_loss_matrix(images, targets[:, order]),
        network.compute_loss_matrix(images, targets)[order],
    )


# ---------------------------------------------------------------- copying and pruning


@pytest.mark.parametrize("shared", [0, 1])
def test_branches_are_copies_that_share_nothing(shared: int) -> None:
    """Every branch starts as Naive MTL, bit for bit, and changing one changes no other."""
    naive = make_naive(shared=shared)
    network = naive.branch_out(3)
    assert len(network.stem) == shared
    for branch, head in zip(network.branches, network.heads, strict=True):
        for own, other in zip(branch.parameters(), naive.branches[0].parameters(), strict=True):
            assert torch.equal(own, other)
        assert torch.equal(head.linear.weight, naive.heads[0].linear.weight)
    pointers = [p.data_ptr() for p in [*network.parameters(), *naive.parameters()]]
    assert len(set(pointers)) == len(pointers)


def test_jitter_is_relative_and_seeded() -> None:
    """Copies differ by the asked fraction of each tensor's own spread; the same generator, the same noise."""
    naive = make_naive()
    first, again = (
        naive.branch_out(2, jitter=0.1, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    for own, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(own, other)
    weight, old = first.branches[0][1][1].weight, naive.branches[0][1][1].weight
    assert ((weight - old).std() / old.std()).item() == pytest.approx(0.1, rel=0.1)
    assert not torch.equal(first.branches[0][1][1].weight, first.branches[1][1][1].weight)


@pytest.mark.parametrize("encoder", ["toy", "resnet"])
@pytest.mark.parametrize("shared", [0, 1])
def test_the_pruned_network_predicts_what_the_full_one_did(encoder: str, shared: int) -> None:
    """The one-hot assignment, bit for bit where a branch keeps all heads, else to float32 rounding.

    A matrix product of fewer columns may add in another order: 1e-6 of values of about 1.
    """
    full = make_learned(tasks=CELEBA_9, encoder=encoder, shared=shared)
    full.compute_loss_matrix(
        make_images(16), make_targets(16, CELEBA_9)
    )  # statistics that are not 0 and 1
    full.eval()
    images = make_images(10, seed=3)
    pruned = full.prune()
    group_of = full.assignment.group_of().tolist()
    assert sum(len(head.tasks) for head in pruned.heads) == 9
    assert pruned.n_groups == len(set(group_of))
    assert pruned.assignment.groups([t.name for t in CELEBA_9]) == full.assignment.groups(
        [t.name for t in CELEBA_9]
    )
    before, after = full(images), pruned(images)
    assert list(before) == list(after) == [task.name for task in CELEBA_9]
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-6)
    again = pruned.prune()(images)
    assert all(torch.equal(again[name], after[name]) for name in after)


def test_empty_branches_are_gone_and_the_full_network_stays() -> None:
    """All tasks in one group: one branch is left, its predictions bit for bit; the original is untouched."""
    full = make_learned().eval()
    with torch.no_grad():
        full.assignment.logits[:, 2] = 9.0
    state = {name: value.clone() for name, value in full.state_dict().items()}
    pruned = full.prune()
    assert pruned.n_groups == 1
    assert not pruned.training
    images = make_images(4)
    for name, value in full(images).items():
        assert torch.equal(pruned(images)[name], value)
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.zero_()
    assert all(torch.equal(value, state[name]) for name, value in full.state_dict().items())


def test_pruning_and_copying_leave_the_random_stream_alone() -> None:
    """Looking at a network draws nothing from torch's global generator."""
    network = make_learned()
    before = torch.get_rng_state()
    network.prune()
    make_before = torch.get_rng_state()
    assert torch.equal(before, make_before)


def test_a_group_that_serves_nobody_is_allowed() -> None:
    """A fixed grouping may leave a branch empty; it has no heads and pruning removes it."""
    network = make_naive().branch_out(3, group_of=[0, 2, 2])
    assert [len(head.tasks) for head in network.heads] == [1, 0, 2]
    images, targets = make_images(4), make_targets(4, MIXED)
    network.compute_loss_matrix(images, targets).sum().backward()
    assert list(network(images)) == ["a", "b", "c"]
    assert network.prune().n_groups == 2


# ---------------------------------------------------------------- errors


def test_bad_networks_are_refused() -> None:
    """No stage left, branching out twice, dense tasks on heads, unknown encoder, odd sizes."""
    with pytest.raises(ValueError, match=r"`shared` must be in 0\.\.2"):
        make_naive(shared=3)
    with pytest.raises(ValueError, match="only a network with one branch"):
        make_naive().branch_out(2).branch_out(2)
    with pytest.raises(ValueError, match=r"'depth' .* cannot be served: heads serve class"):
        FlatHeads(4, TASKONOMY_5)
    with pytest.raises(ValueError, match="`encoder` must be one of"):
        build_encoder("vgg", (3, 64, 64), capacity=1)
    with pytest.raises(ValueError, match="at least 8x8"):
        resnet((3, 4, 64))
    with pytest.raises(ValueError, match="divisible by 4"):
        toy((3, 30, 32))
    with pytest.raises(ValueError, match="more than once"):
        make_naive((Task("a"), Task("a")))
