"""Data that are no pictures: tables, sequences, numbers to predict, and suites that mix them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtg_lite import Task, TaskData, TrainConfig, encoders, load_result, methods
from dmtg_lite.core.batches import Batches
from dmtg_lite.core.heads import FlatHeads
from dmtg_lite.data import Split
from dmtg_lite.runs.dense_metrics import MeanError
from dmtg_lite.runs.evaluate import evaluate, evaluate_constant
from dmtg_lite.runs.fit import build_network
from dmtg_lite.runs.metrics import correlate_labels

YES_NO = Task("yes", classes=("no", "yes"))
KIND = Task("kind", 3)
SIZE = Task("size", 1, "l1", "mae", center=50.0, spread=10.0)
AGE = Task("age", 1, "squared", "rms_error", center=3.0, spread=2.0)
MIXED = (YES_NO, SIZE, KIND, AGE)
CONFIG = TrainConfig(
    encoder="toy", steps=30, pretrain=20, lr=1e-2, lr_assignment=3e-2, batch_size=32
)


def make_split(n: int, seed: int, shape: tuple[int, ...] = (6,)) -> Split:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, *shape)).astype(np.float32)
    first = features.reshape(n, -1)[:, 0]
    size, age = 50 + 10 * first, 3 - 2 * first
    size[::5], age[1::7] = np.nan, np.nan
    kind = np.digitize(first, [-0.5, 0.5]).astype(np.int64)
    kind[::6] = -1
    return Split(features, {"yes": first > 0, "size": size, "kind": kind, "age": age})


def make_data(shape: tuple[int, ...] = (6,), tasks: tuple[Task, ...] = MIXED) -> TaskData:
    splits = {name: make_split(n, n, shape) for name, n in (("train", 200), ("val", 50))}
    return TaskData("mixed", tasks, **splits, test=make_split(60, 9, shape))


class Pool(nn.Module):
    """(B, L, D) -> (B, D), or (B, C, H, W) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1) if x.ndim == 3 else x.mean((2, 3))


def test_targets_are_kept_as_losses_want_them() -> None:
    """Yes and no as class numbers, numbers as float32; a whole number to predict stays a number."""
    data = make_data()
    kinds = {name: target.dtype for name, target in data.train.targets.items()}
    assert kinds == {
        "yes": torch.int64, "size": torch.float32, "kind": torch.int64, "age": torch.float32
    }  # fmt: skip
    counts = Split(torch.rand(3, 2), {"age": [-1, 0, 7]})
    alone = TaskData("counts", (AGE,), counts, counts, counts)
    assert alone.train.targets["age"].tolist() == [-1.0, 0.0, 7.0]
    assert data.feature_shape == (6,)
    assert "rows (6,)" in repr(data)


def test_a_batch_of_classes_and_numbers() -> None:
    """One float tensor, nan where there is no label of either kind."""
    data = make_data()
    features, targets = Batches(data.train, data.tasks, torch.device("cpu")).take(slice(0, 8))
    assert isinstance(targets, Tensor)
    assert features.shape == (8, 6)
    assert targets.dtype == torch.float32
    assert targets.isnan().nonzero().tolist() == [[0, 1], [0, 2], [1, 3], [5, 1], [6, 2]]


def test_losses_of_a_mixed_suite_by_hand() -> None:
    """Cross-entropy, l1 and squares in spreads, each a mean over the rows that carry a label."""
    torch.manual_seed(0)
    heads = FlatHeads(6, MIXED)
    heads.place({task.name: n for n, task in enumerate(MIXED)})
    data = make_data()
    features, targets = Batches(data.train, data.tasks, torch.device("cpu")).take(slice(0, 50))
    outputs = heads(features)
    losses = heads.compute_losses(outputs, heads.pick(targets))
    own, part = heads.split(outputs), data.train.subset(slice(0, 50)).targets
    size, age = part["size"], part["age"]
    expected = [
        F.cross_entropy(own["yes"], part["yes"]),
        ((own["size"][:, 0] - size).abs() / 10).nanmean(),
        F.cross_entropy(own["kind"], part["kind"], ignore_index=-1),
        (((own["age"][:, 0] - age) / 2) ** 2).nanmean(),
    ]
    torch.testing.assert_close(losses, torch.stack(expected))
    assert (
        torch.stack(list(torch.autograd.grad(losses.sum(), heads.linear.weight))).isfinite().all()
    )


@pytest.mark.parametrize("tasks", [(SIZE, replace(SIZE, name="age", spread=2.0)), MIXED])
def test_fused_losses_are_those_of_each_branch(tasks: tuple[Task, ...]) -> None:
    """All branches at once, one kernel for all numbers, or a task at a time: the same numbers."""
    data, config = make_data(tasks=tasks), replace(CONFIG, encoder="linear")
    encoders.register("linear", lambda: nn.Linear(6, 4))
    network = build_network(data, config).branch_out(3)
    network.branches[1][0].weight.data += 0.3
    features, targets = Batches(data.train, data.tasks, torch.device("cpu")).take(slice(0, 64))
    matrix = network.compute_loss_matrix(features, targets)
    for k in range(3):
        alone = network.heads[k]
        column = alone.compute_losses(alone(network.branches[k](features)), alone.pick(targets))
        torch.testing.assert_close(matrix[:, k], column)


@pytest.mark.parametrize(
    ("shape", "encoder"),
    [
        ((6,), nn.Sequential(nn.Linear(6, 8), nn.ReLU())),
        ((5, 4), [Pool(), nn.Linear(4, 8)]),
        ((1, 7, 9), nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), Pool())),
    ],
)
def test_every_form_of_features_trains_and_comes_back(shape, encoder, tmp_path) -> None:
    """Methods, closing branches included; saved and loaded, the network predicts the same."""
    data = make_data(shape)
    result = methods.dmtg(data, 2, CONFIG, encoder=encoder)
    assert sorted(name for group in result.groups for name in group) == sorted(data.task_names)
    assert all(math.isfinite(loss) for loss in result.task_losses.values())
    assert math.isnan(result.total_error)  # percent and units of the user's make no sum
    back = load_result(result.save(tmp_path))
    assert back.feature_shape == shape
    assert back.tasks == data.tasks
    assert back.tasks[0].classes == ("no", "yes")
    assert back.constant_errors == result.constant_errors
    for name, own in result.network(data.test.features).items():
        assert own.equal(back.network(data.test.features)[name])


def test_numbers_are_learnt_in_their_own_unit() -> None:
    """All four are read off the first feature, and a linear encoder finds it."""
    data = make_data()
    result = methods.naive(data, 1, replace(CONFIG, steps=300), encoder=nn.Linear(6, 8))
    constant = result.constant_errors
    for name in ("size", "age"):
        assert result.task_errors[name] < 0.2 * constant[name]
    prediction = result.network(data.test.features)["size"][:, 0].detach()
    target = data.test.targets["size"]
    assert result.task_errors["size"] == pytest.approx(
        float((prediction - target).abs().nanmean()), rel=1e-5
    )


def test_a_constant_answer_by_hand() -> None:
    """Median and mean of train, the most frequent class; judged on test."""
    train = Split(
        torch.rand(4, 2), {"yes": [1, 1, 1, 0], "size": [0, 10, 20, np.nan], "age": [1, 2, 3, 6]}
    )
    test = Split(torch.rand(2, 2), {"yes": [0, 1], "size": [0, 20], "age": [3, 5]})
    found = evaluate_constant(TaskData("t", (YES_NO, SIZE, AGE), train, train, test))
    assert found.errors == pytest.approx({"yes": 50.0, "size": 10.0, "age": math.sqrt(2)})
    assert found.losses["size"] == pytest.approx(1.0)
    assert found.losses["age"] == pytest.approx(2 / 4)
    assert found.losses["yes"] == pytest.approx(-(math.log(3.5 / 5) + math.log(1.5 / 5)) / 2)


def test_errors_do_not_depend_on_batches() -> None:
    """Rows without a label fall where they may."""
    data = make_data()
    encoders.register("linear", lambda: nn.Linear(6, 4))
    network = build_network(data, replace(CONFIG, encoder="linear"))
    whole, parts = (evaluate(network, data.test, batch_size=size) for size in (60, 7))
    assert whole.errors == pytest.approx(parts.errors)
    assert whole.losses == pytest.approx(parts.losses)


def test_mean_errors_by_hand() -> None:
    """Over rows with a label only."""
    prediction, target = torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([4.0, -2.0, math.nan])
    for is_squared, expected in ((False, 3.5), (True, math.sqrt(12.5))):
        metric = MeanError(is_squared=is_squared)
        metric.update(prediction, target)
        assert metric.compute() == pytest.approx(expected)


def test_numbers_correlate_where_both_are_known() -> None:
    """Negative ones too; -1 is a missing label among class numbers only."""
    labels = np.array([[1.0, -1.0, 2.0, np.nan], [2.0, -2.0, 4.0, 5.0]])
    assert correlate_labels(labels)[0, 1] == pytest.approx(1.0)
    assert np.isnan(correlate_labels(np.array([[1, -1], [0, 1]]))[0, 1])


@pytest.mark.parametrize(
    ("targets", "complaint"),
    [
        ({"size": [1.0, math.inf, 2.0]}, "`train` is infinite in 1 rows"),
        ({"size": [math.nan] * 3}, "`train` is nan throughout"),
        ({"size": [[1.0], [2.0], [3.0]]}, r"one number a row, shape \(n,\)"),
        ({"size": [1.0, 2.0]}, "has 2 rows for 3 rows"),
    ],
)
def test_numbers_no_loss_can_be_made_of_are_refused(targets, complaint) -> None:
    """The message names target and split."""

    def make() -> None:
        split = Split(torch.rand(3, 2), targets)
        TaskData("t", (SIZE,), split, split, split)

    with pytest.raises(ValueError, match=complaint):
        make()


def test_splits_have_one_form() -> None:
    """A column more in test is a mistake."""
    splits = [Split(torch.rand(3, d), {"size": [1.0, 2.0, 3.0]}) for d in (2, 2, 3)]
    with pytest.raises(ValueError, match="rows of different shapes"):
        TaskData("t", (SIZE,), *splits)


@pytest.mark.parametrize("classes", [("a",), ("a", "a"), ("a", None), ("a", ["b"])])
def test_names_of_classes_are_one_for_each(classes) -> None:
    """Two different plain values for two classes."""
    with pytest.raises(ValueError, match="`classes` of task 'yes' must be 2 different"):
        Task("yes", classes=classes)


def test_a_table_needs_another_encoder_than_pictures() -> None:
    """The default of old says so instead of a message from deep inside."""
    with pytest.raises(ValueError, match="'toy' is for pictures"):
        methods.naive(make_data(), 1, replace(CONFIG, encoder="toy"))
