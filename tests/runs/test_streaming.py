"""What the streaming metrics promise: by hand, as other libraries, however batches fall."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from torch import Tensor

from dmtg_lite.core.tasks import CELEBA_9, TASKONOMY_5, Task
from dmtg_lite.runs.dense_metrics import (
    F1,
    AlignedRMSE,
    MeanIoU,
    Metric,
    NormalsUnder30,
    build_metric,
)

TASKS = (CELEBA_9[0], *TASKONOMY_5)
each_task = pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])


def logits_of(classes: Tensor, n_classes: int) -> Tensor:
    """(B, C) or (B, C, H, W) whose largest entry is at the classes given."""
    return torch.nn.functional.one_hot(classes, n_classes).movedim(-1, 1).float()


def picture(*rows: list[float]) -> Tensor:
    """One image of one channel, (1, 1, H, W)."""
    return torch.tensor(rows)[None, None]


def compute(metric: Metric, prediction: Tensor, target: Tensor) -> float:
    metric.update(prediction, target)
    return metric.compute()


def draw(task: Task, n: int = 7, size: int = 6) -> tuple[Tensor, Tensor]:
    """Random predictions and targets of a task, some labels missing."""
    rng = torch.Generator().manual_seed(3)
    shape = (n, size, size) if task.is_dense else (n,)
    if task.loss == "cross_entropy":
        prediction = torch.randn(n, task.n_outputs, *shape[1:], generator=rng)
        return prediction, torch.randint(-1, task.n_outputs, shape, generator=rng)
    prediction, target = task.center + task.spread * 2 * torch.randn(
        2, n, task.n_outputs, size, size, generator=rng
    )
    missing = torch.rand(n, 1, size, size, generator=rng) < 0.3
    return prediction, target.masked_fill(missing, nan)


def test_mean_iou_leaves_out_absent_classes_and_counts_class_0_as_wrong() -> None:
    """Perfect is 100 however few classes occur; a class that is never true is a miss."""
    truth = torch.tensor([[[1, 1], [2, 2]]])
    assert compute(MeanIoU(18), logits_of(truth, 18), truth) == 100.0
    guess = torch.tensor([[[1, 0], [2, 2]]])
    assert compute(MeanIoU(18), logits_of(guess, 18), truth) == 75.0


def test_aligned_rmse_of_a_constant_is_the_spread_of_the_target() -> None:
    """Scale 0 and the mean as shift: the standard deviation is left; no division by 0."""
    target = picture([0.1, 0.7, 2.0], [5.0, nan, 1.1])
    deviation = np.nanstd(target.numpy())
    assert compute(AlignedRMSE(), torch.full_like(target, 0.1), target) == pytest.approx(deviation)


def test_aligned_rmse_passes_over_images_without_a_label() -> None:
    """An image that is NaN throughout changes nothing, whatever was predicted for it."""
    prediction, target = picture([1.0, 2.0], [4.0, 8.0]), picture([3.0, 1.0], [5.0, 2.0])
    alone = compute(AlignedRMSE(), prediction, target)
    both = torch.cat([prediction, prediction]), torch.cat([target, torch.full_like(target, nan)])
    assert compute(AlignedRMSE(), *both) == alone


def test_normals_by_hand() -> None:
    """Turned by 0, 29 and 31 degrees, and no label: two of three, whatever their length."""
    angles = torch.deg2rad(torch.tensor([0.0, 29.0, 31.0, 0.0]))
    prediction = 3 * torch.stack([angles.sin(), 0 * angles, angles.cos()]).reshape(1, 3, 2, 2)
    target = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).repeat(1, 1, 2, 2)
    target[..., 1, 1] = nan
    assert compute(NormalsUnder30(), prediction, target) == pytest.approx(200 / 3)
    assert compute(NormalsUnder30(), 0 * prediction, target) == 0.0


def test_f1_by_hand() -> None:
    """One hit, one miss, one false alarm; at the threshold is not above it. No positives agree."""
    prediction = picture([0.9, 0.1, 0.9], [0.9, 0.5, 0.0])
    target = picture([0.9, 0.9, nan], [0.1, 0.5, 0.0])
    assert compute(F1(0.5), prediction, target) == 50.0
    nothing = torch.zeros(1, 1, 2, 2)
    assert compute(F1(0.5), nothing, nothing) == 100.0
    assert compute(F1(0.5), nothing + 1, nothing) == 0.0
    assert compute(F1(0.5), nothing, nothing + 1) == 0.0


def test_f1_of_half_precision_keeps_the_threshold() -> None:
    """A target of half precision is above a threshold that would round up to it."""
    target = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float16)
    threshold = target.item() - 1e-6
    assert not (target > threshold).any()  # what torch says in half precision
    assert compute(F1(threshold), torch.zeros(1, 1, 1, 1), target) == 0.0
    assert compute(F1(threshold), target.float(), target) == 100.0


def test_accuracy_iou_and_f1_are_those_of_scikit_learn() -> None:
    """Oracle, on random pictures in which labels are missing."""
    face, _, _, segmentation, keypoints, _ = TASKS
    logits, truth = draw(face)
    seen = truth >= 0
    accuracy = accuracy_score(truth[seen], logits.argmax(1)[seen])
    assert compute(build_metric(face), logits, truth) == pytest.approx(100 - 100 * accuracy)

    logits, truth = draw(segmentation)
    truth[truth > 11] = 4  # some classes are predicted but never true
    seen = truth >= 0
    present = truth[seen].unique().tolist()
    iou = jaccard_score(truth[seen], logits.argmax(1)[seen], labels=present, average="macro")
    assert compute(build_metric(segmentation), logits, truth) == pytest.approx(100 * iou)

    guess, truth = draw(keypoints)
    seen, threshold = ~truth.isnan(), keypoints.center + keypoints.spread
    f1 = f1_score(truth[seen] > threshold, guess[seen] > threshold)
    assert compute(build_metric(keypoints), guess, truth) == pytest.approx(100 * f1)


def test_alignment_is_least_squares() -> None:
    """Oracle: numpy's lstsq, image by image."""
    prediction, target = draw(TASKONOMY_5[0])
    residuals = []
    for guess, truth in zip(prediction.double(), target.double(), strict=True):
        x, y = guess[~truth.isnan()].numpy(), truth[~truth.isnan()].numpy()
        design = np.stack([x, np.ones_like(x)], axis=1)
        residuals.append(y - design @ np.linalg.lstsq(design, y, rcond=None)[0])
    rmse = np.sqrt(np.mean(np.concatenate(residuals) ** 2))
    assert compute(AlignedRMSE(), prediction, target) == pytest.approx(rmse, rel=1e-9)


@each_task
@settings(max_examples=10, deadline=None)
@given(cuts=st.sets(st.integers(1, 6)))
def test_batches_do_not_matter(task: Task, cuts: set[int]) -> None:
    """Seven images in one batch, in seven, or anything between give the same number."""
    prediction, target = draw(task)
    metric, ends = build_metric(task), sorted(cuts)
    for start, end in zip([0, *ends], [*ends, 7], strict=True):
        metric.update(prediction[start:end], target[start:end])
    # sums of floats depend on their order, in the last digits of float64
    whole = compute(build_metric(task), prediction, target)
    assert metric.compute() == pytest.approx(whole, rel=1e-12)


@each_task
def test_a_perfect_prediction_has_the_best_value(task: Task) -> None:
    """No error, or 100 percent, for the task's own target as prediction."""
    _, target = draw(task)
    is_l1 = task.loss == "l1"
    prediction = target.nan_to_num() if is_l1 else logits_of(target.clamp(min=0), task.n_outputs)
    best = 100.0 if task.higher_is_better else 0.0
    assert compute(build_metric(task), prediction, target) == pytest.approx(best, abs=1e-6)


@each_task
def test_update_never_waits_for_the_device(task: Task) -> None:
    """Tensors of the meta device have no values: whatever reads one raises."""
    prediction, target = draw(task)
    metric = build_metric(task, "meta")
    metric.update(prediction.to("meta"), target.to("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        metric.compute()


def test_update_keeps_no_graph() -> None:
    """Predictions that carry gradients are not kept alive by a sum."""
    metric = AlignedRMSE()
    metric.update(torch.rand(1, 1, 2, 2, requires_grad=True), torch.rand(1, 1, 2, 2))
    assert not metric.sums.requires_grad


@each_task
def test_nothing_seen_is_refused(task: Task) -> None:
    """No label, no number: before any batch, and after one without labels."""
    metric, (prediction, target) = build_metric(task), draw(task)
    blank = torch.full_like(target, nan if target.is_floating_point() else -1)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"not one .* with a label was added"):
            metric.compute()
        metric.update(prediction, blank)


@each_task
def test_a_target_of_another_shape_is_refused(task: Task) -> None:
    """It would be broadcast in silence."""
    prediction, target = draw(task)
    for wrong in (target[:1], target[:, None]):
        with pytest.raises(ValueError, match="`target` must be"):
            build_metric(task).update(prediction, wrong)
