"""Dense tasks end to end: losses by hand, one loop for all tasks, decoders that leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
import torch.nn.functional as F
from small_runs import DENSE_CONFIG as CONFIG
from small_runs import PICTURES as DATA
from small_runs import assert_equal, assert_same_run, make_pictures, settle

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
from dmtg_lite.runs.fit import build_network, continue_steps, fit

FLAT, CPU = small_runs.DATA, torch.device("cpu")
DEPTH, NORMAL, SEGMENTATION, KEYPOINTS, EDGES = TASKONOMY_5
TOLERANT = replace(DEPTH, loss="tolerant_l1")


def start(config: TrainConfig = CONFIG, **options) -> GroupedNetwork:
    return small_runs.start(config, **{"data": DATA, **options})


# ---------------------------------------------------------------- losses
def test_l1_by_hand_skips_what_has_no_label() -> None:
    """|1 - 2| + |3 - 0| over two labelled pixels of four, in units of the spread."""
    task, nan = replace(DEPTH, center=7.0, spread=2.0), torch.nan
    target = torch.tensor([[[[2.0, nan], [nan, 0.0]]]])
    prediction = torch.tensor([[[[1.0, 9.0], [50.0, 3.0]]]], requires_grad=True)
    total, count = sum_loss(task, prediction, target)
    assert (total.item(), count.item()) == (2.0, 2)
    total.backward()
    assert prediction.grad.tolist() == [[[[-0.5, 0.0], [0.0, 0.5]]]]  # and none of them is nan


@pytest.mark.parametrize("shift", [(0, 0), (1, -1), (-1, 1), (1, 0)])
def test_the_tolerant_loss_forgives_one_pixel_and_no_more(shift: tuple[int, int]) -> None:
    """A picture moved by a pixel costs nothing, by two it does; each picture finds its shift."""
    target = torch.rand(2, 1, 8, 8)
    moved = torch.stack([target[0].roll(shift, (-2, -1)), target[1]])
    total, count = sum_loss(TOLERANT, moved, target)
    assert (total.item(), count.item()) == (pytest.approx(0.0), 2)
    assert sum_loss(TOLERANT, target.roll((2, 0), (-2, -1)), target)[0] > 0.1
    # and never more than the plain loss on the pixels it looks at
    other = target.flip(-1)
    plain = (other - target).abs()[..., 1:-1, 1:-1].mean((1, 2, 3)).sum() / DEPTH.spread
    assert sum_loss(TOLERANT, other, target)[0] <= plain


def test_a_tolerant_picture_without_labels_does_not_count() -> None:
    target, prediction = torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 6, requires_grad=True)
    target[1] = torch.nan
    total, count = sum_loss(TOLERANT, prediction, target)
    assert count == 1
    torch.testing.assert_close(total, sum_loss(TOLERANT, prediction[:1], target[:1])[0])
    total.backward()
    assert prediction.grad.isfinite().all()


def test_decode_gives_back_numbers_and_holes() -> None:
    """-128 is no label, 127 is 1; half precision becomes single; ids become int64."""
    normal = torch.tensor([127, 0, -127, -128], dtype=torch.int8).view(1, 1, 2, 2)
    assert_equal(decode(NORMAL, normal).flatten(), torch.tensor([1.0, 0.0, -1.0, torch.nan]))
    assert decode(DEPTH, torch.ones(1, 1, 2, 2).half()).dtype == torch.float32
    ids = torch.tensor([[[-1, 17]]])
    assert_equal(decode(SEGMENTATION, ids.to(torch.int8)), ids)


def test_labels_are_counted_as_the_losses_count() -> None:
    """Single numbers where there is a label; of a tolerant loss pictures."""
    _, targets = Batches(DATA.train, TASKONOMY_5, CPU).take(slice(0, 3))
    seen = 768 - int(DATA.train.targets["depth"][:3].isnan().sum())
    assert count_labels(targets, TASKONOMY_5).tolist() == [seen, 3 * seen, seen, 768, 768]
    assert count_labels(targets, make_tolerant(TASKONOMY_5)).tolist() == [3, 3, seen, 768, 768]


# ---------------------------------------------------------------- the network and the loop
def test_the_loss_matrix_is_each_heads_own_loss() -> None:
    """Entry (n, k) by hand from branch k and its decoder n; 0 without a head."""
    network = start(replace(CONFIG, jitter=0.3))
    network.heads[1].drop([1, 3])
    network.index()
    images, targets = Batches(DATA.train, TASKONOMY_5, CPU).take(slice(0, 4))
    expected = torch.zeros(5, 3)
    for k, head in enumerate(network.heads):
        features = network.branches[k](images.float() / 255)
        for task, decoder in zip(head.tasks, head.decoders, strict=True):
            n = TASKONOMY_5.index(task)
            output, target = decoder(features), targets[n]
            if task is SEGMENTATION:
                expected[n, k] = F.cross_entropy(output, target, ignore_index=-1)
            else:
                misses = output - (target - task.center) / task.spread
                expected[n, k] = misses.abs()[~target.isnan()].mean()
    assert (expected == 0).nonzero().tolist() == [[1, 1], [3, 1]]
    found = network.compute_loss_matrix(images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_predictions_come_in_the_tasks_own_unit() -> None:
    """A decoder that says 0 means the centre: 2.93 m of depth."""
    network = start()
    with torch.no_grad():
        for weight in [w for head in network.heads for w in head.decoders[0].parameters()]:
            weight.zero_()
    depth = network.eval()(DATA.test.images)["depth"]
    torch.testing.assert_close(depth, torch.full_like(depth, 1500 / 512))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_evaluate_does_not_depend_on_batches(batch_size: int) -> None:
    """Losses over all labels, errors by the task's metric on everything at once (the oracle)."""
    network = settle(start(replace(CONFIG, jitter=0.3)), [0, 1, 2, 0, 1])
    result = evaluate(network, DATA.test, batch_size=batch_size)
    predictions = network.prune().eval()(DATA.test.images)
    for task in TASKONOMY_5:
        name, metric = task.name, build_metric(task)
        target = decode(task, DATA.test.targets[name])
        total, count = sum_loss(task, predictions[name], target)
        assert result.losses[name] == pytest.approx((total / count).item(), rel=1e-4)
        metric.update(predictions[name], target)
        assert result.errors[name] == pytest.approx(metric.compute(), rel=1e-4, abs=1e-6)
    assert evaluate(network, DATA.test, with_errors=False).errors == {}


def test_every_method_trains_on_pictures() -> None:
    """One loop, one result; gains turn round for scores; no sum of metres and percent."""
    config = replace(CONFIG, steps=25, lr=1e-2)  # long enough to predict a class that is there
    naive, stl, drawn, dmtg = (
        methods.METHODS[name](DATA, 2, config) for name in ("naive", "stl", "random", "dmtg")
    )
    assert (len(naive.groups), len(stl.groups), len(drawn.groups)) == (1, 5, 2)
    for result in (naive, stl, drawn, dmtg):
        assert np.isfinite([*result.task_losses.values(), *result.task_errors.values()]).all()
        assert np.isnan(result.total_error)
        assert "total error" not in repr(result)
    losses, errors = dmtg.loss_gains(naive), dmtg.error_gains(naive)
    for name in DATA.task_names:
        ratio = dmtg.task_losses[name] / naive.task_losses[name]
        assert losses[name] == pytest.approx(100 * (1 - ratio))
        change = 100 * (dmtg.task_errors[name] / naive.task_errors[name] - 1)
        assert errors[name] == pytest.approx(-change if name == "depth" else change)


# ---------------------------------------------------------------- batches from elsewhere
@pytest.mark.parametrize("data", [FLAT, DATA], ids=["classes", "pictures"])
def test_fetching_ahead_changes_nothing(data: TaskData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread hands over what indexing gives, over epochs: the run is the same bit for bit."""
    config = replace(CONFIG if data is DATA else small_runs.CONFIG, steps=6)
    direct, taken = small_runs.run(config, data=data), []

    class Ahead(Lookahead):
        def __init__(self, batches: Batches, rows_of) -> None:
            super().__init__(batches, rows_of, ahead=True)

        def take(self, step: int):
            taken.append(step)
            return super().take(step)

    monkeypatch.setattr("dmtg_lite.core.step.Lookahead", Ahead)
    assert_same_run(small_runs.run(config, data=data), direct)
    assert taken == list(range(6))


def test_streamed_data_names_its_device_and_moves_nothing() -> None:
    """Networks go where batches go; the images stay."""
    there = replace(DATA, streamed_to=torch.device("meta"))
    assert there.device.type == "meta"
    assert DATA.device.type == there.train.images.device.type == "cpu"
    images, _ = Batches(there.train, TASKONOMY_5, there.device).take(slice(0, 2))
    assert images.device.type == "meta"


def test_a_lookahead_ends_its_thread() -> None:
    """Also when a run is left in the middle."""
    batches = Batches(FLAT.train, FLAT.tasks, CPU)
    with Lookahead(batches, lambda step: torch.tensor([step]), ahead=True) as ahead:
        thread = ahead._thread
        for step in (3, 9):  # 9 is not the one it expects
            assert torch.equal(ahead.take(step)[0], FLAT.train.images[step : step + 1])
    with pytest.raises(RuntimeError, match="shutdown"):
        thread.submit(print)


# ---------------------------------------------------------------- heads that leave
PRUNING = replace(CONFIG, pruning=Pruning(below=0.2, start=1), steps=7, lr_assignment=0.0)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at what to prune comes every 5 steps instead of 25."""
    monkeypatch.setattr("dmtg_lite.runs.between._PRUNE_EVERY", 5)


def settled(config: TrainConfig = PRUNING, certainty: float = 30.0) -> GroupedNetwork:
    """Two tasks in group 0, three in group 2."""
    return settle(start(config), [0, 0, 2, 2, 2], certainty)


def test_pruned_decoders_are_gone_and_the_rest_goes_on(soon: None) -> None:
    """After the look at step 5 a decoder a task, no empty branch; Adam's averages go on."""
    network = settled()
    state = TrainState(network, PRUNING)
    steps = continue_steps(state, DATA, PRUNING.steps)
    for _ in range(4):
        next(steps)
    assert [len(head.tasks) for head in network.heads] == [5, 5, 5]
    weights, macs = state.optimizers["weights"], [state.encoder_macs]
    stays = next(network.heads[2].decoders[3].parameters())
    record = next(steps)
    assert [head.served for head in network.heads] == [[0, 1], [2, 3, 4]]
    assert network.branch_ids == [0, 2]
    assert record.probabilities.shape == (5, 3)
    assert (record.probabilities[:, 1] == 0).all()
    assert weights.state[stays]["step"] == 5  # counted on, not afresh
    known = {id(weight) for weight in network.parameters()} - {id(network.assignment.logits)}
    assert {id(weight) for weight in weights.param_groups[0]["params"]} == known
    assert {id(weight) for weight in weights.state} == known
    macs.append(state.encoder_macs)
    assert next(steps).task_losses.isfinite().all()
    macs.append(state.encoder_macs)
    before, after = np.diff(macs)
    assert after == pytest.approx(before * 2 / 3)  # two branches of three


def test_pruning_that_finds_nothing_changes_nothing() -> None:
    """A threshold nobody falls below gives the unpruned run, bit for bit."""
    plain = replace(small_runs.CONFIG, steps=26)
    config = replace(plain, pruning=Pruning(below=1e-6, start=1))
    one, other = (small_runs.run(own)[1] for own in (config, plain))
    assert_equal(pack(one)[0], pack(other)[0])


def test_settled_tasks_learn_the_same_with_fewer_heads(soon: None) -> None:
    """With probabilities of exactly 1 the heads that leave had no weight: the losses stay."""
    losses = []
    for pruning in (PRUNING.pruning, Pruning()):
        config = replace(PRUNING, estimator="softmax", pruning=pruning)
        history, _ = fit(settled(config, certainty=200.0), DATA, config)
        losses.append(history.task_losses)
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_a_run_with_fewer_heads_resumes_bit_for_bit(soon: None, tmp_path: Path) -> None:
    """Checkpoints remember which decoders and branches are left."""
    whole, path = fit(settled(), DATA, PRUNING), tmp_path / "run.safetensors"
    fit(settled(), DATA, PRUNING, stop_at=6, checkpoint=path)
    assert_same_run(fit(settled(), DATA, PRUNING, checkpoint=path), whole)


def test_empty_branches_of_light_heads_leave_too() -> None:
    """Linear heads stay whole, since cutting them saves nothing; an unused branch is not run."""
    config = replace(small_runs.CONFIG, pruning=PRUNING.pruning, steps=26)
    _, state = fit(settle(start(config, data=FLAT), [0, 0, 2, 2]), FLAT, config)
    assert state.network.branch_ids == [0, 2]
    assert pack(state)[1]["heads"] == [[0, 1, 2, 3]] * 2


# ---------------------------------------------------------------- what is refused
def with_train(**targets: torch.Tensor) -> TaskData:
    return replace(DATA, train=Split(DATA.train.images, DATA.train.targets | targets))


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (
            lambda: build_network(DATA, replace(CONFIG, encoder="resnet")),
            r"'depth' .* cannot be served",
        ),
        (lambda: build_network(FLAT, CONFIG), "'t0' is a classification of whole images"),
        (
            lambda: build_network(DATA, replace(CONFIG, heads=HeadOptions(train_all=True))),
            "suits light heads",
        ),
        (lambda: replace(DATA, tasks=(Task("t"), DEPTH)), r"all dense or none, got \['depth'\]"),
        (lambda: label_correlation(DATA), "a picture for each task"),
        (lambda: Task("x", spread=0.0), "`spread` of task 'x' must be > 0"),
    ],
)
def test_what_does_not_fit_is_refused(build, complaint: str) -> None:
    """Tasks and encoders of different kinds, heads computed twice, no spread."""
    with pytest.raises(ValueError, match=complaint):
        build()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("depth", lambda target: target.double()),
        ("depth", lambda target: target[..., :8]),
        ("segmentation", lambda target: target.long()),
        ("normal", lambda target: target[:, :1]),
    ],
)
def test_pictures_of_another_type_or_size_are_refused(name: str, damage) -> None:
    """By the name of task and split, with what is wanted."""
    complaint = f"target '{name}' of split `train` must be (int8|float16)"
    with pytest.raises(ValueError, match=complaint):
        with_train(**{name: damage(DATA.train.targets[name])})


def test_fingerprints_tell_pictures_apart() -> None:
    """The same for the same; another for other pictures, another loss or fewer images."""
    assert DATA.fingerprint() == make_pictures().fingerprint()
    others = [
        make_pictures(seed=1),
        replace(DATA, tasks=make_tolerant(DATA.tasks)),
        replace(DATA, test=DATA.test.subset(slice(0, 4))),
    ]
    assert len({one.fingerprint() for one in [DATA, *others]}) == 4


def test_a_validation_split_without_labels_stops_the_run() -> None:
    """After the first epoch, by name: a plateau of nan would halve the rate in silence."""
    blank = torch.full_like(DATA.val.targets["depth"], torch.nan)
    val = Split(DATA.val.images, DATA.val.targets | {"depth": blank})
    complaint = "the validation loss of task 'depth' is nan after epoch 1"
    with pytest.raises(FloatingPointError, match=complaint):
        small_runs.run(
            replace(CONFIG, schedule="plateau", batch_size=5), data=replace(DATA, val=val)
        )
