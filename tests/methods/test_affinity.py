"""What affinities promise: the formulas, by hand; a run not disturbed; clusters that follow."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dmtg_lite import data, methods
from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.encoder import Encoder
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.tasks import Task
from dmtg_lite.data import TaskData
from dmtg_lite.methods.search.affinity import (
    cluster_affinity,
    compute_gradient_cosine,
    compute_lookahead,
    gradient_cosine,
    label_correlation,
    tag_affinity,
)
from dmtg_lite.runs.fit import build_network, train_steps

FACES = data.toy_faces(n_train=200, n_val=20, n_test=20)
CONFIG = TrainConfig(encoder="toy", steps=8, pretrain=5, batch_size=32, lr=3e-3)
RUNS = [tag_affinity, gradient_cosine]

# --- a network small enough for paper: feature f = w . x, logit difference of task n = d_n f + c_n

W = np.array([0.3, -0.5, 0.2])
X = np.array([[1.0, 0.0, 0.5], [0.2, 0.8, 0.4], [0.6, 0.1, 0.9], [0.0, 1.0, 0.3]])  # (B=4, 3)
Y = np.array([[1, 0], [0, 1], [1, 1], [0, 1]])  # (B, N=2)
D, C = np.array([1.5, -0.7]), np.array([0.1, 0.4])  # (N,)


def linear_network() -> GroupedNetwork:
    """W, D and C as a Naive MTL network of two tasks."""
    encoder = Encoder([nn.Sequential(nn.Flatten(), nn.Linear(3, 1, bias=False))], 1)
    network = GroupedNetwork.naive([Task("one"), Task("two")], encoder)
    with torch.no_grad():
        network.branches[0][0][1].weight.copy_(torch.tensor(W)[None])
        network.heads[0].linear.weight.copy_(torch.tensor([0, D[0], 0, D[1]])[:, None])
        network.heads[0].linear.bias.copy_(torch.tensor([0, C[0], 0, C[1]]))
    return network


def linear_batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(X, dtype=torch.float32)[:, :, None, None], torch.tensor(Y)


def loss_by_hand(w: np.ndarray) -> np.ndarray:
    """Two-class cross-entropy of both tasks: mean of log(1 + e^u) - y u, u = d f + c. (N,)"""
    u = (X @ w)[:, None] * D + C  # (B, N)
    return (np.log1p(np.exp(u)) - Y * u).mean(0)


def slopes_by_hand() -> np.ndarray:
    """Their gradients by w: mean of (sigmoid(u) - y) d x. (N, 3)"""
    u = (X @ W)[:, None] * D + C
    error = 1 / (1 + np.exp(-u)) - Y  # (B, N)
    return np.stack([(error[:, n, None] * D[n] * X).mean(0) for n in (0, 1)])


@pytest.mark.parametrize("lr", [0.1, 1.0])
def test_tag_affinity_is_the_papers_formula(lr: float) -> None:
    """Two linear tasks, in closed form: row i is the step on i, column j the loss of j."""
    before, slopes = loss_by_hand(W), slopes_by_hand()
    expected = [
        [1 - loss_by_hand(W - lr * slopes[i])[j] / before[j] for j in (0, 1)] for i in (0, 1)
    ]
    found = compute_lookahead(linear_network(), *linear_batch(), lr=lr)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=0)
    assert abs(expected[0][1] - expected[1][0]) > 5e-4  # the two directions differ


def test_gradient_cosine_is_that_of_the_encoder() -> None:
    """The angle between the gradients by w, in closed form; heads do not count."""
    one, two = slopes_by_hand()
    expected = one @ two / math.sqrt((one @ one) * (two @ two))
    found = compute_gradient_cosine(linear_network(), *linear_batch())
    np.testing.assert_allclose(found, [[1, expected], [expected, 1]], atol=1e-6, rtol=0)


def test_signs_and_scale_of_the_measures() -> None:
    """The same labels agree (1), opposite ones oppose (-1); a small step is of first order."""
    network, (images, targets) = linear_network(), linear_batch()
    slopes, before, lr = slopes_by_hand(), loss_by_hand(W), 1e-2
    first_order = lr * slopes @ slopes.T / before  # column j over L_j
    np.testing.assert_allclose(
        compute_lookahead(network, images, targets, lr=lr), first_order, rtol=0.02
    )
    with torch.no_grad():  # both heads alike and undecided: the labels alone make the gradients
        network.heads[0].linear.weight.copy_(torch.tensor([[0.0], [1], [0], [1]]))
        network.heads[0].linear.bias.zero_()
        network.branches[0][0][1].weight.zero_()
    same, opposite = targets[:, [0, 0]], torch.stack([targets[:, 0], 1 - targets[:, 0]], dim=1)
    assert compute_gradient_cosine(network, images, same)[0, 1] == pytest.approx(1)
    assert compute_gradient_cosine(network, images, opposite)[0, 1] == pytest.approx(-1)
    assert compute_lookahead(network, images, opposite, lr=0.1)[0, 1] < 0


def test_only_observed_labels_count() -> None:
    """With gaps, each task's loss and gradient are over its own images; without any, nan."""
    network, (images, targets) = linear_network(), linear_batch()
    targets = targets.clone()
    targets[:2, 0] = targets[2:, 1] = -1  # no image has both labels
    u = (X @ W)[:, None] * D + C
    error = 1 / (1 + np.exp(-u)) - Y
    one, two = (
        (error[rows, n, None] * D[n] * X[rows]).mean(0) for n, rows in ((0, [2, 3]), (1, [0, 1]))
    )

    def loss_of_two(w: np.ndarray) -> float:
        u = X[:2] @ w * D[1] + C[1]
        return (np.log1p(np.exp(u)) - Y[:2, 1] * u).mean()

    expected = 1 - loss_of_two(W - 0.5 * one) / loss_of_two(W)
    assert compute_lookahead(network, images, targets, lr=0.5)[0, 1] == pytest.approx(
        expected, abs=1e-6
    )
    expected = one @ two / math.sqrt((one @ one) * (two @ two))
    assert compute_gradient_cosine(network, images, targets)[0, 1] == pytest.approx(
        expected, abs=1e-6
    )
    targets[:, 1] = -1
    for found in (
        compute_lookahead(network, images, targets, lr=0.5),
        compute_gradient_cosine(network, images, targets),
    ):
        assert found.isnan().tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("measure", RUNS)
def test_a_run_skips_tasks_that_a_batch_does_not_show(measure: Callable) -> None:
    """Three images a batch, tasks on different ones: every pair still gets a mean, or an error."""
    shown = torch.arange(200) % 2
    targets = {
        name: torch.where(shown == n % 2, FACES.train.targets[name], -1)
        for n, name in enumerate(FACES.task_names)
    }
    faces = replace(FACES, train=replace(FACES.train, targets=targets))
    found = measure(faces, replace(CONFIG, batch_size=3), every=1).matrix
    assert found.isfinite().all()
    with pytest.raises(FloatingPointError, match=r"affinity of 'dark_hair' to .* is nan"):
        measure(faces, replace(CONFIG, batch_size=1), every=1)


@pytest.mark.parametrize("measure", RUNS)
def test_measuring_leaves_the_run_alone(measure: Callable) -> None:
    """Weights, batch norm's statistics and torch's stream are those of Naive MTL, bit for bit."""
    faces = data.toy_faces(n_train=16, n_val=10, n_test=10, size=16)
    config = replace(CONFIG, encoder="resnet", steps=2, pretrain=1, batch_size=8)
    alone = methods.naive(faces, 1, config).network.state_dict()
    stream = torch.get_rng_state()
    found = measure(faces, config, every=1)
    assert torch.equal(torch.get_rng_state(), stream)
    beside = found.network.state_dict()
    assert any("running_mean" in name for name in alone)
    assert alone.keys() == beside.keys()
    for name, value in alone.items():
        assert torch.equal(value, beside[name]), name
    again = measure(faces, config, every=1)
    assert torch.equal(found.matrix, again.matrix)


@pytest.mark.parametrize(
    "compute", [compute_gradient_cosine, lambda *args: compute_lookahead(*args, lr=0.1)]
)
def test_one_measurement_changes_nothing(compute: Callable) -> None:
    """Neither weights, nor gradients, nor batch norm's running averages."""
    network = build_network(FACES, replace(CONFIG, encoder="resnet"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    targets = torch.stack([FACES.train.targets[name] for name in FACES.task_names], dim=1)
    compute(network, FACES.train.images[:2], targets[:2])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    assert network.training


def measure_by_hand(steps_measured: list[int], lr: float) -> torch.Tensor:
    """Mean lookahead over these steps of a run in which every batch is the whole training split."""
    config = replace(CONFIG, batch_size=200)
    network = build_network(FACES, config)
    targets = torch.stack([FACES.train.targets[name] for name in FACES.task_names], dim=1)
    steps = train_steps(
        network, FACES, config, n_steps=13, seed=derive_seed(config.seed, Stream.TRAINING)
    )
    found = []
    for step in range(13):
        if step in steps_measured:
            found.append(compute_lookahead(network, FACES.train.images, targets, lr=lr))
        next(steps)
    return torch.stack(found).mean(0)


def test_a_run_is_the_mean_over_its_measurements() -> None:
    """Every 5 of 13 steps is before steps 1, 6 and 11; at the run's rate, and over it if asked."""
    expected = measure_by_hand([0, 5, 10], CONFIG.lr)
    config = replace(CONFIG, batch_size=200)
    found = tag_affinity(FACES, config, every=5)
    # order of summation in a shuffled batch: float32 losses differ in the last places
    torch.testing.assert_close(found.matrix, expected, atol=1e-6, rtol=0)
    over_lr = tag_affinity(FACES, config, every=5, divide_by_lr=True)
    torch.testing.assert_close(over_lr.matrix, found.matrix / config.lr)


def test_cost_counts_every_pass() -> None:
    """A step is 1, a forward pass 1/3 and a backward pass 2/3 of it."""
    step = count_macs(build_network(FACES, CONFIG), FACES.feature_shape)["encoder"] * 32
    # 13 steps; measured before steps 1, 6, 11: one forward, 9 backward, and with TAG 9 more forward
    assert tag_affinity(FACES, CONFIG, every=5).encoder_macs == pytest.approx(
        step * (13 + 3 * 28 / 3)
    )
    assert gradient_cosine(FACES, CONFIG, every=5).encoder_macs == pytest.approx(
        step * (13 + 3 * 19 / 3)
    )


# --- labels


def labelled(labels: np.ndarray) -> TaskData:
    """What `label_correlation` reads of a data set, -1 included."""
    names = [f"task_{n}" for n in range(labels.shape[1])]
    targets = {name: torch.tensor(column) for name, column in zip(names, labels.T, strict=True)}
    return SimpleNamespace(
        train=SimpleNamespace(targets=targets),
        task_names=names,
        tasks=[Task(name) for name in names],
    )


def test_label_correlation_is_numpys_on_the_images_seen_by_both() -> None:
    """Each pair on its own subset, absolute values, diagonal 1."""
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 5)) + 0.6 * rng.random((300, 1)) > 0.8).astype(np.int64)
    labels[:, 1] = 1 - labels[:, 1]  # one of them anticorrelated
    labels[rng.random(labels.shape) < 0.3] = -1
    found = label_correlation(labelled(labels))
    for i in range(5):
        for j in range(i):
            both = (labels[:, i] >= 0) & (labels[:, j] >= 0)
            expected = abs(np.corrcoef(labels[both, i], labels[both, j])[0, 1])
            assert found[i, j] == found[j, i] == pytest.approx(expected, abs=1e-12)
    assert (found.diagonal() == 1).all()


def test_label_correlation_without_evidence_is_zero() -> None:
    """Never observed together, constant, or constant where both are observed."""
    labels = np.array([[0, -1, 1, 0], [1, -1, 1, 0], [-1, 0, 1, 0], [-1, 1, 1, 1]])
    expected = np.eye(4)
    expected[1, 3] = expected[3, 1] = 1  # both (0, 1) on the last two images
    np.testing.assert_array_equal(label_correlation(labelled(labels)), expected)


# --- clusters

NAMES = ["a", "b", "c", "d", "e", "f"]
BLOCKS = [["a", "d"], ["b", "e"], ["c", "f"]]


def block_matrix(within: float, between: float) -> torch.Tensor:
    same = torch.tensor([[i % 3 == j % 3 for j in range(6)] for i in range(6)])
    return torch.where(same, within, between)


@pytest.mark.parametrize(
    ("within", "between"), [(0.9, 0.1), (1.0, 0.0), (1e-5, -1e-2), (50.0, 10.0)]
)
def test_blocks_are_found_at_any_scale(within: float, between: float) -> None:
    """Also where nothing ties the blocks, and where they harm each other."""
    assert sorted(cluster_affinity(block_matrix(within, between), 3, NAMES)) == BLOCKS


def test_direction_and_diagonal_do_not_count() -> None:
    """The mean of both directions does: one triangle says as much as two."""
    matrix = block_matrix(0.9, 0.1)
    one_sided = matrix.clone()
    one_sided[0, 1], one_sided[1, 0] = 5.0, -4.9  # a helps b far less than b harms a: mean 0.05
    for same in (2 * matrix.triu(1), matrix - 100 * torch.eye(6), one_sided):
        assert sorted(cluster_affinity(same, 3, NAMES)) == BLOCKS


def test_clusters_are_a_partition_for_every_k() -> None:
    """From one group to N, the same each time."""
    matrix = label_correlation(FACES)
    for k in (1, 4, 9):
        groups = cluster_affinity(matrix, k, FACES.task_names)
        assert len(groups) == k
        assert sorted(name for group in groups for name in group) == sorted(FACES.task_names)
        assert groups == cluster_affinity(matrix, k, FACES.task_names)


def test_labels_of_toy_faces_give_the_planted_groups() -> None:
    """No network is needed there: a baseline for faces with correlated labels."""
    groups = cluster_affinity(label_correlation(FACES), 3, FACES.task_names)
    assert sorted(map(sorted, groups)) == sorted(map(sorted, FACES.planted_groups))


# --- refusals


@pytest.mark.parametrize("measure", RUNS)
@pytest.mark.parametrize("every", [0, 2.5, True])
def test_a_bad_interval_is_refused(measure: Callable, every: object) -> None:
    with pytest.raises(ValueError, match="`every` must be a whole number >= 1"):
        measure(FACES, CONFIG, every=every)


def test_what_cannot_be_measured_is_refused() -> None:
    """A step of no length has no effect; tasks that share no encoder have no affinity in it."""
    with pytest.raises(ValueError, match="`lr` is 0"):
        tag_affinity(FACES, replace(CONFIG, lr=0.0))
    with pytest.raises(ValueError, match="one branch, this has 2"):
        compute_lookahead(linear_network().branch_out(2), *linear_batch(), lr=0.1)


def test_a_step_ahead_that_overflows_is_not_left_out() -> None:
    """Its affinity is minus infinity, not a gap; and no mean is made of it."""
    assert (compute_lookahead(linear_network(), *linear_batch(), lr=1e39) == -torch.inf).any()
    with pytest.raises(FloatingPointError, match="is -inf after 1 measurements"):
        tag_affinity(FACES, replace(CONFIG, lr=1e30, steps=1, pretrain=0), every=1)


def test_a_run_that_diverges_is_refused() -> None:
    """Not a matrix of nan."""
    with pytest.raises(FloatingPointError, match="training diverged"):
        gradient_cosine(FACES, replace(CONFIG, lr=1e30), every=1)


@pytest.mark.parametrize(
    ("matrix", "n_groups", "match"),
    [
        (torch.zeros(6, 5), 3, r"shape \(6, 6\) for 6 tasks, got shape \(6, 5\)"),
        (torch.full((6, 6), torch.nan), 3, "36 entries not finite"),
        (torch.eye(6), 3, "no positive affinity"),
        (-block_matrix(0.9, 0.1), 3, "no positive affinity"),
        (block_matrix(0.9, 0.1), 0, "`n_groups` must be a whole number >= 1, got 0"),
        (block_matrix(0.9, 0.1), 7, "`n_groups` must be a whole number from 1 to 6, got 7"),
    ],
)
def test_what_cannot_be_clustered_is_refused(
    matrix: torch.Tensor, n_groups: int, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        cluster_affinity(matrix, n_groups, NAMES)


def test_clustering_names_the_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r'pip install "dmtg-lite\[data\]"'):
        cluster_affinity(block_matrix(0.9, 0.1), 3, NAMES)


def test_one_gradient_is_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty gradients of a large encoder would not fit: one is let go before the next but one."""
    many = data.toy_faces(n_tasks=16, n_groups=4, size=16, n_train=40, n_val=20, n_test=20)
    network = build_network(many, CONFIG)
    alive, most, grad = [], [], torch.autograd.grad

    def watch(*given, **more):
        found = grad(*given, **more)
        alive.append(weakref.ref(found[0]))
        most.append(sum(ref() is not None for ref in alive))
        return found

    monkeypatch.setattr(torch.autograd, "grad", watch)
    compute_lookahead(
        network,
        *Batches(many.train, many.tasks, torch.device("cpu")).take(torch.arange(8)),
        lr=0.01,
    )
    assert len(most) == 16
    assert max(most) <= 2
