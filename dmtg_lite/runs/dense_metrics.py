"""Metrics fed batch by batch: sums stay on the device, and only `compute` brings a number to the
host.

A value is that of all images together, however they fall into batches. Predictions arrive in
natural units (the target's, or logits); undoing a task's center and spread is the caller's. The
definitions of mIoU, of the aligned RMSE and of F1 are ours where they say so: for Table A2 no
recipe is published.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dmtg_lite.core.sealed import find_widest_float
from dmtg_lite.core.tasks import Task


class Metric(Protocol):
    """What every metric here offers."""

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch, without waiting for the device."""

    def compute(self) -> float:
        """The value over everything added.

        Raises:
            ValueError: If nothing added carried a label.
        """
        ...


class ErrorPercent:
    """100 - accuracy in percent: how often the largest logit is not the label's.

    `update` takes logits (B, C) and class numbers (B,), where -1 is no label.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._wrong, self._seen = _zeros(2, device, torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        _check_shape(target, _without_classes(prediction))
        labelled = target >= 0
        self._wrong += ((prediction.argmax(1) != target) & labelled).sum()
        self._seen += labelled.sum()

    def compute(self) -> float:
        return 100 * self._wrong.item() / _at_least_one(self._seen, "image with a label")


class MeanIoU:
    """Mean intersection over union in percent, of the classes that the truth holds at least once.

    `update` takes logits (B, C, H, W) and class numbers (B, H, W), where -1 is no label.
    Intersections and unions are summed over all pixels with a label before they are divided. A
    class that is predicted but never true is no term of the mean; its pixels still count as missed
    for the classes they belong to.

    Source:
        Ours where classes are absent: the released code always divides by 18, Taskonomy's uncertain
        class and absent ones included, so that its best value is 17/18 or less.
    """

    def __init__(self, n_classes: int, device: torch.device | str = "cpu") -> None:
        self._confusion = torch.zeros(
            n_classes, n_classes, dtype=torch.int64, device=device
        )  # truth, guess

    def update(self, prediction: Tensor, target: Tensor) -> None:
        _check_shape(target, _without_classes(prediction))
        labelled = (target >= 0).flatten()
        cell = (
            target.flatten().long().clamp(min=0) * len(self._confusion)
            + prediction.argmax(1).flatten()
        )
        # a bincount that need not ask the device how many bins there are
        self._confusion.view(-1).scatter_add_(0, cell, labelled.long())

    def compute(self) -> float:
        _at_least_one(self._confusion.sum(), "pixel with a label")
        both, true, guessed = self._confusion.diag(), self._confusion.sum(1), self._confusion.sum(0)
        present = true > 0
        iou = (both / (true + guessed - both))[present].tolist()
        return 100 * math.fsum(iou) / len(iou)


class AlignedRMSE:
    """Root mean square error, in the target's unit, of predictions brought to each image's scale
    and shift.

    `update` takes prediction and target (B, 1, H, W); NaN in the target is no label. Scale and
    shift are those of least squares on the image's pixels with a label, so a scale may be negative,
    and a constant prediction becomes the target's mean. The mean square is over all pixels with a
    label of all images.

    Source:
        Ours: Table A2 names the metric, no recipe is published.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._square, self._seen = _zeros(2, device, find_widest_float(device))

    def update(self, prediction: Tensor, target: Tensor) -> None:
        _check_shape(target, prediction.shape)
        labelled = ~target.isnan().flatten(1)  # (B, H * W)
        seen = labelled.sum(1, keepdim=True)  # (B, 1)

        def center(values: Tensor) -> Tensor:
            values = torch.where(labelled, values.flatten(1).to(self._square.dtype), 0)
            return torch.where(
                labelled, values - values.sum(1, keepdim=True) / seen.clamp(min=1), 0
            )

        guess, truth = center(prediction.detach()), center(target)
        power = (guess * guess).sum(1, keepdim=True)
        scale = torch.where(
            power > 0, (guess * truth).sum(1, keepdim=True) / power, 0
        )  # 0 / 0 is not taken
        self._square += (truth - scale * guess).square().sum()
        self._seen += seen.sum()

    def compute(self) -> float:
        return math.sqrt(self._square.item() / _at_least_one(self._seen, "pixel with a label"))


class NormalsUnder30:
    """Percent of surface normals less than 30 degrees away from the true one.

    `update` takes prediction and target (B, 3, H, W), of any length: only directions count, and a
    vector of length 0 points nowhere, so it is never right. NaN in the target is no label.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._close, self._seen = _zeros(2, device, torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        _check_shape(target, prediction.shape)
        cosine = F.cosine_similarity(
            prediction.float(), target.float(), dim=1
        )  # (B, H, W), NaN: no label
        self._close += (cosine > math.cos(math.pi / 6)).sum()
        self._seen += (~target.isnan().any(1)).sum()

    def compute(self) -> float:
        return 100 * self._close.item() / _at_least_one(self._seen, "pixel with a label")


class F1:
    """F1 in percent of the pixels above a threshold: harmonic mean of precision and recall.

    `update` takes prediction and target (B, 1, H, W); NaN in the target is no label. Counts are
    summed over all pixels of all images. Where neither truth nor prediction ever exceeds the
    threshold they agree, and F1 is 100.

    Args:
        threshold: In the target's unit; above it (not at it) a pixel is positive.
        device: Where the counts stay.

    Source:
        Ours: Table A2 names the metric, neither threshold nor recipe is published.
    """

    def __init__(self, threshold: float, device: torch.device | str = "cpu") -> None:
        self._threshold = threshold
        self._both, self._positive, self._seen = _zeros(3, device, torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        _check_shape(target, prediction.shape)
        labelled = ~target.isnan()
        # float: a threshold rounded to half precision would not be the same for the two
        guess = (prediction.float() > self._threshold) & labelled
        truth = target.float() > self._threshold  # False where NaN
        self._both += (guess & truth).sum()
        self._positive += guess.sum() + truth.sum()
        self._seen += labelled.sum()

    def compute(self) -> float:
        _at_least_one(self._seen, "pixel with a label")
        positive = self._positive.item()
        return 200 * self._both.item() / positive if positive else 100.0


def build_metric(task: Task, device: torch.device | str = "cpu") -> Metric:
    """The metric that ``task.metric`` names, with its sums on a device.

    F1 calls a pixel positive from one spread above the task's center on: ours, as no threshold is
    published.
    """
    match task.metric:
        case "error_percent":
            return ErrorPercent(device)
        case "miou":
            return MeanIoU(task.n_outputs, device)
        case "rmse":
            return AlignedRMSE(device)
        case "normals_under_30":
            return NormalsUnder30(device)
        case "f1":
            return F1(task.center + task.spread, device)
    raise ValueError(
        f"no metric {task.metric!r} (task {task.name!r})."
    )  # `Task` refuses other names


def _zeros(n: int, device: torch.device | str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return torch.zeros(n, dtype=dtype, device=device).unbind()


def _without_classes(logits: Tensor) -> torch.Size:
    return logits.shape[:1] + logits.shape[2:]


def _check_shape(target: Tensor, expected: torch.Size) -> None:
    """A target of another shape would be broadcast, and the sums be of something else."""
    if target.shape != expected:
        raise ValueError(
            f"`target` must be {tuple(expected)} to go with its `prediction`, got "
            f"{tuple(target.shape)}."
        )


def _at_least_one(seen: Tensor, what: str) -> float:
    count = seen.item()
    if not count:
        raise ValueError(f"there is nothing to compute: not one {what} was added with `update`.")
    return count
