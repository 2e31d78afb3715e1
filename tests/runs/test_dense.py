"""Dense tasks end to end: losses by hand, one loop for pictures and classes, decoders that leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_train import CONFIG as FLAT_CONFIG
from test_train import DATA as FLAT
from test_train import assert_same_run

from dmtg_lite import methods
from dmtg_lite.core.batches import Batches, Lookahead, count_labels, decode
from dmtg_lite.core.config import HeadOptions, Pruning, TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.tasks import TASKONOMY_5, Task, make_tolerant
from dmtg_lite.methods.search.affinity import label_correlation
from dmtg_lite.runs.checkpoint import pack
from dmtg_lite.runs.dense_metrics import build_metric
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import branch_out, build_network, continue_steps, fit

CONFIG = TrainConfig(
    steps=8, batch_size=4, lr=1e-3, lr_assignment=0.1, encoder="xception_small", tau=4.0
)
DEPTH, NORMAL, SEGMENTATION, KEYPOINTS, EDGES = TASKONOMY_5


def make_pictures(*, n: int = 10, size: int = 16, seed: int = 0) -> TaskData:
    """Noise with targets that depend on it, in the dtypes of the prepared sets, and holes without labels."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        images = torch.from_numpy(rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8))
        gray = images.float().mean(1, keepdim=True) / 255
        hole = torch.from_numpy(rng.random((n, 1, size, size)) < 0.1)
        normal = F.normalize(images.float() - 127, dim=1).mul(127).round()
        targets = {
            "depth": (5 * gray).masked_fill(hole, torch.nan).half(),
            "normal": normal.masked_fill(hole, -128).to(torch.int8),
            "segmentation": (1 + gray[:, 0] * 4).masked_fill(hole[:, 0], -1).to(torch.int8),
            "keypoints": (gray / 500).half(),
            "edges": (gray / 50).half(),
        }
        return Split(images, targets)

    return TaskData("pictures", TASKONOMY_5, split(n), split(6), split(5))


DATA = make_pictures()


def start(
    config: TrainConfig = CONFIG, *, n_groups: int = 3, data: TaskData = DATA
) -> GroupedNetwork:
    return branch_out(build_network(data, config), n_groups, config)


def settle(network: GroupedNetwork, group_of: list[int], certainty: float = 30.0) -> None:
    """Make the tasks sure of their groups."""
    with torch.no_grad():
        network.assignment.logits[torch.arange(len(group_of)), torch.tensor(group_of)] = certainty


# ---------------------------------------------------------------------- losses
def test_l1_by_hand_skips_what_has_no_label() -> None:
    """|1 - 2| + |3 - 0| over two labelled pixels of four, in units of the spread."""
    task = replace(DEPTH, center=7.0, spread=2.0)
    target = torch.tensor([[[[2.0, torch.nan], [torch.nan, 0.0]]]])
    prediction = (
        torch.tensor([[[[1.0, 9.0], [torch.inf, 3.0]]]]).nan_to_num(posinf=50.0).requires_grad_()
    )
    total, count = sum_loss(task, prediction, target)
    assert (total.item(), count.item()) == (2.0, 2)
    total.backward()
    assert prediction.grad.tolist() == [[[[-0.5, 0.0], [0.0, 0.5]]]]  # and none of them is nan


def test_cross_entropy_skips_what_has_no_label() -> None:
    """Oracle: torch's own mean over the labelled pixels."""
    logits, ids = torch.randn(2, 18, 3, 3), torch.randint(-1, 18, (2, 3, 3))
    total, count = sum_loss(SEGMENTATION, logits, ids)
    torch.testing.assert_close(total / count, F.cross_entropy(logits, ids, ignore_index=-1))


@pytest.mark.parametrize("shift", [(0, 0), (1, -1), (-1, 1), (1, 0)])
def test_the_tolerant_loss_forgives_one_pixel_and_no_more(shift: tuple[int, int]) -> None:
    """A picture moved by a pixel costs nothing; by two it does. Each picture finds its own shift."""
    task = replace(DEPTH, loss="tolerant_l1")
    target = torch.rand(2, 1, 8, 8)
    moved = torch.stack([target[0].roll(shift, (-2, -1)), target[1]])
    total, count = sum_loss(task, moved, target)
    assert (total.item(), count.item()) == (pytest.approx(0.0), 2)
    assert sum_loss(task, target.roll((2, 0), (-2, -1)), target)[0] > 0.1
    # and never more than the plain loss on the pixels it looks at
    plain = (moved - target).abs()[..., 1:-1, 1:-1].mean((1, 2, 3)).sum() / task.spread
    assert total <= plain + 1e-6


def test_a_tolerant_picture_without_labels_does_not_count() -> None:
    target = torch.rand(2, 1, 6, 6)
    target[1] = torch.nan
    prediction = torch.rand(2, 1, 6, 6, requires_grad=True)
    task = replace(DEPTH, loss="tolerant_l1")
    total, count = sum_loss(task, prediction, target)
    assert count == 1
    torch.testing.assert_close(total, sum_loss(task, prediction[:1], target[:1])[0])
    total.backward()
    assert prediction.grad.isfinite().all()


def test_decode_gives_back_numbers_and_holes() -> None:
    """-128 is no label, 127 is 1; half precision becomes single; ids become int64."""
    normal = torch.tensor([127, 0, -127, -128], dtype=torch.int8).view(1, 1, 2, 2)
    torch.testing.assert_close(
        decode(NORMAL, normal).flatten(), torch.tensor([1.0, 0.0, -1.0, torch.nan]), equal_nan=True
    )
    assert decode(DEPTH, torch.ones(1, 1, 2, 2).half()).dtype == torch.float32
    assert decode(SEGMENTATION, torch.tensor([[[-1, 17]]], dtype=torch.int8)).tolist() == [
        [[-1, 17]]
    ]
    _, targets = Batches(DATA.train, TASKONOMY_5, torch.device("cpu")).take(slice(0, 3))
    holes = int((DATA.train.targets["depth"][:3]).isnan().sum())
    seen = 768 - holes
    assert count_labels(targets, TASKONOMY_5).tolist() == [seen, 3 * seen, seen, 768, 768]
    tolerant = make_tolerant(TASKONOMY_5)  # counts pictures
    assert count_labels(targets, tolerant).tolist() == [3, 3, seen, 768, 768]


# ---------------------------------------------------------------------- the network and the loop
def test_the_loss_matrix_is_each_heads_own_loss() -> None:
    """Entry (n, k) by hand from branch k and its decoder n; 0 without a head."""
    network = start(replace(CONFIG, jitter=0.3))
    network.heads[1].drop([1, 3])
    network.index()
    images, targets = Batches(DATA.train, TASKONOMY_5, network.device).take(slice(0, 4))
    found = network.compute_loss_matrix(images, targets)
    assert found.shape == (5, 3)
    for k, kept in enumerate([[0, 1, 2, 3, 4], [0, 2, 4], [0, 1, 2, 3, 4]]):
        features = network.branches[k](images.float() / 255)
        for n in range(5):
            if n not in kept:
                assert found[n, k] == 0
                continue
            output = network.heads[k].decoders[kept.index(n)](features)
            task = TASKONOMY_5[n]
            target = (targets[n] - task.center) / task.spread if n != 2 else targets[n]
            if n == 2:
                expected = F.cross_entropy(output, target, ignore_index=-1)
            else:
                expected = (output - target).abs()[~target.isnan()].mean()
            torch.testing.assert_close(found[n, k], expected, rtol=1e-4, atol=1e-5)


def test_predictions_come_in_the_tasks_own_unit() -> None:
    """A decoder that says 0 means the centre: 2.93 m of depth."""
    network = start()
    with torch.no_grad():
        for head in network.heads:
            for weight in head.decoders[0].parameters():
                weight.zero_()
    depth = network.eval()(DATA.test.images)["depth"]
    torch.testing.assert_close(depth, torch.full_like(depth, 1500 / 512))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_evaluate_does_not_depend_on_batches(batch_size: int) -> None:
    """Losses over all labels, errors by the task's metric on everything at once (the oracle)."""
    network = start(replace(CONFIG, jitter=0.3))
    settle(network, [0, 1, 2, 0, 1])
    result = evaluate(network, DATA.test, batch_size=batch_size)
    predictions = network.prune().eval()(DATA.test.images)
    for n, task in enumerate(TASKONOMY_5):
        target = decode(task, DATA.test.targets[task.name])
        total, count = sum_loss(task, predictions[task.name], target)
        assert result.losses[task.name] == pytest.approx((total / count).item(), rel=1e-4), n
        metric = build_metric(task)
        metric.update(predictions[task.name], target)
        assert result.errors[task.name] == pytest.approx(metric.compute(), rel=1e-4, abs=1e-6)
    assert evaluate(network, DATA.test, with_errors=False).errors == {}


def test_every_method_trains_on_pictures() -> None:
    """One loop, one result; gains turn round for scores; no sum of metres and percent."""
    config = replace(CONFIG, steps=25, lr=1e-2)  # long enough to predict a class that is there
    results = {
        name: methods.METHODS[name](DATA, 2, config) for name in ("naive", "stl", "random", "dmtg")
    }
    assert [len(result.groups) for result in results.values()][:3] == [1, 5, 2]
    for result in results.values():
        assert np.isfinite([*result.task_losses.values(), *result.task_errors.values()]).all()
        assert np.isnan(result.total_error)
        assert "total error" not in repr(result)
    naive, dmtg = results["naive"], results["dmtg"]
    losses, errors = dmtg.loss_gains(naive), dmtg.error_gains(naive)
    for task in TASKONOMY_5:
        name = task.name
        assert losses[name] == pytest.approx(
            100 * (1 - dmtg.task_losses[name] / naive.task_losses[name])
        )
        change = 100 * (dmtg.task_errors[name] / naive.task_errors[name] - 1)
        assert errors[name] == pytest.approx(-change if name == "depth" else change)


# ---------------------------------------------------------------------- batches from elsewhere
@pytest.mark.parametrize("data", [FLAT, DATA], ids=["classes", "pictures"])
def test_fetching_ahead_changes_nothing(data: TaskData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread hands over what indexing gives, over epochs: the run is the same bit for bit."""
    config = replace(CONFIG if data is DATA else FLAT_CONFIG, steps=6)
    direct = fit(start(config, data=data), data, config)
    taken = []

    class Ahead(Lookahead):
        def __init__(self, batches: Batches, rows_of) -> None:
            super().__init__(batches, rows_of, ahead=True)

        def take(self, step: int):
            taken.append(step)
            return super().take(step)

    monkeypatch.setattr("dmtg_lite.core.step.Lookahead", Ahead)
    assert_same_run(fit(start(config, data=data), data, config), direct)
    assert taken == list(range(6))


def test_streamed_data_names_its_device_and_moves_nothing() -> None:
    """Networks go where batches go; the images stay."""
    there = DATA.stream_to("meta")
    assert there.device.type == "meta"
    assert DATA.device.type == there.train.images.device.type == "cpu"
    assert (
        Batches(there.train, TASKONOMY_5, there.device).take(slice(0, 2))[0].device.type == "meta"
    )


def test_a_lookahead_ends_its_thread() -> None:
    """Also when a run is left in the middle."""
    batches = Batches(FLAT.train, FLAT.tasks, torch.device("cpu"))
    with Lookahead(batches, lambda step: torch.tensor([step]), ahead=True) as ahead:
        thread = ahead._thread
        assert torch.equal(ahead.take(3)[0], FLAT.train.images[3:4])
        assert torch.equal(ahead.take(9)[0], FLAT.train.images[9:10])  # not the one it expected
    with pytest.raises(RuntimeError, match="shutdown"):
        thread.submit(print)


# ---------------------------------------------------------------------- heads that leave
PRUNING = replace(CONFIG, pruning=Pruning(below=0.2, start=1), steps=60, lr_assignment=0.0)


def test_pruned_decoders_are_gone_and_the_rest_goes_on() -> None:
    """After the look at step 25: a decoder a task, no empty branch; Adam remembers the others' averages."""
    network = start(PRUNING)
    settle(network, [0, 0, 2, 2, 2])
    state = TrainState(network, PRUNING)
    steps = continue_steps(state, DATA, PRUNING.steps)
    for _ in range(24):
        next(steps)
    assert [len(head.tasks) for head in network.heads] == [5, 5, 5]
    optimizer = state.optimizers["weights"]
    stays = next(network.heads[2].decoders[3].parameters())
    macs = state.encoder_macs
    record = next(steps)
    assert record.step == 25
    assert [[task.name for task in head.tasks] for head in network.heads] == [
        ["depth", "normal"],
        ["segmentation", "keypoints", "edges"],
    ]
    assert network.branch_ids == [0, 2]
    assert record.probabilities.shape == (5, 3)
    assert (record.probabilities[:, 1] == 0).all()
    assert optimizer.state[stays]["step"] == 25  # counted on, not afresh
    known = {id(weight) for weight in network.parameters()} - {id(network.assignment.logits)}
    assert {id(weight) for weight in optimizer.param_groups[0]["params"]} == known
    assert {id(weight) for weight in optimizer.state} == known
    spent = state.encoder_macs - macs
    next(steps)
    assert state.encoder_macs - macs - spent == pytest.approx(
        spent * 2 / 3
    )  # two branches of three
    for record in steps:
        assert record.task_losses.isfinite().all()


def test_pruning_that_finds_nothing_changes_nothing() -> None:
    """A threshold nobody falls below gives the unpruned run, bit for bit."""
    config = replace(
        PRUNING, pruning=replace(PRUNING.pruning, below=1e-6), steps=30, lr_assignment=0.05
    )
    plain = replace(config, pruning=replace(config.pruning, below=0.0))
    one, other = fit(start(config), DATA, config), fit(start(plain), DATA, plain)
    for name, tensor in pack(one[1])[0].items():
        assert torch.equal(tensor, pack(other[1])[0][name]), name


def test_settled_tasks_learn_the_same_with_fewer_heads() -> None:
    """With probabilities of exactly 1 the heads that leave had no weight: losses stay what they were."""
    config = replace(PRUNING, steps=30, estimator="softmax")
    losses = []
    for prune_below in (0.0, 0.2):
        one = replace(config, pruning=replace(config.pruning, below=prune_below))
        network = start(one)
        settle(network, [0, 0, 2, 2, 2], certainty=200.0)
        history, _ = fit(network, DATA, one)
        losses.append(history.task_losses)
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_a_run_with_fewer_heads_resumes_bit_for_bit(tmp_path: Path) -> None:
    """Checkpoints remember which decoders and branches are left."""

    def begin() -> GroupedNetwork:
        network = start(PRUNING)
        settle(network, [0, 0, 2, 2, 2])
        return network

    whole = fit(begin(), DATA, PRUNING)
    path = tmp_path / "run.safetensors"
    fit(begin(), DATA, PRUNING, stop_at=40, checkpoint=path)
    assert_same_run(fit(begin(), DATA, PRUNING, checkpoint=path), whole)


def test_empty_branches_of_light_heads_leave_too() -> None:
    """Linear heads stay whole, since cutting them saves nothing; a branch nobody uses is not run."""
    config = replace(FLAT_CONFIG, pruning=Pruning(below=0.2, start=1), steps=26)
    network = branch_out(build_network(FLAT, config), 3, config)
    settle(network, [0, 0, 2, 2])
    _, state = fit(network, FLAT, config)
    assert network.branch_ids == [0, 2]
    assert [len(head.tasks) for head in network.heads] == [4, 4]
    assert pack(state)[1]["heads"] == [[0, 1, 2, 3]] * 2


# ---------------------------------------------------------------------- what is refused
def test_what_does_not_fit_is_refused() -> None:
    """Tasks and encoders of different kinds, pictures of another type or size, heads computed twice."""
    with pytest.raises(ValueError, match=r"'depth' .* cannot be served"):
        build_network(DATA, replace(CONFIG, encoder="resnet"))
    with pytest.raises(ValueError, match="'t0' is a classification of whole images"):
        build_network(FLAT, CONFIG)
    with pytest.raises(ValueError, match="suits light heads"):
        build_network(DATA, replace(CONFIG, heads=HeadOptions(train_all=True)))
    with pytest.raises(ValueError, match=r"`tasks` must be all dense or none, got \['depth'\]"):
        replace(DATA, tasks=(Task("t"), DEPTH))
    for name, wrong in (
        ("depth", DATA.train.targets["depth"].double()),
        ("depth", DATA.train.targets["depth"][..., :8]),
        ("segmentation", DATA.train.targets["segmentation"].long()),
        ("normal", DATA.train.targets["normal"][:, :1]),
    ):
        split = Split(DATA.train.images, DATA.train.targets | {name: wrong})
        with pytest.raises(
            ValueError, match=f"target '{name}' of split `train` must be (int8|float16)"
        ):
            replace(DATA, train=split)
    with pytest.raises(ValueError, match="a picture for each task"):
        label_correlation(DATA)
    with pytest.raises(ValueError, match="`spread` of task 'x' must be > 0"):
        Task("x", spread=0.0)


def test_fingerprints_tell_pictures_apart() -> None:
    assert (
        DATA.fingerprint() == make_pictures().fingerprint() != make_pictures(seed=1).fingerprint()
    )
    tolerant = replace(DATA, tasks=make_tolerant(DATA.tasks))  # another loss is another run
    shorter = replace(DATA, test=DATA.test.subset(slice(0, 4)))
    assert len({one.fingerprint() for one in (DATA, tolerant, shorter)}) == 3


def test_a_validation_split_without_labels_stops_the_run() -> None:
    """After the first epoch, with the task's name: a plateau of nan would halve the rate in silence."""
    blank = DATA.val.targets | {"depth": torch.full_like(DATA.val.targets["depth"], torch.nan)}
    data = replace(DATA, val=Split(DATA.val.images, blank))
    config = replace(CONFIG, schedule="plateau", batch_size=5)
    with pytest.raises(
        FloatingPointError, match="the validation loss of task 'depth' is nan after epoch 1"
    ):
        fit(start(config, data=data), data, config)
