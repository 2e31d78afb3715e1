"""Metrics fed batch by batch: sums stay on the device, and only `compute` brings a number to the
host.

A value is that of all images together, however they fall into batches. Predictions arrive in
natural units (the target's, or logits); undoing a task's center and spread is the caller's. The
definitions of mIoU, of the aligned RMSE and of F1 are ours where they say so: for Table A2 no
recipe is published.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dmtg_lite.core.devices import place_sums
from dmtg_lite.core.tasks import Task


class Metric(ABC):
    """What every metric here offers; a kind of metric says what it sums and what the sums say."""

    n_sums = 2  # the last one counts what carried a label
    is_counting = True  # all of them do
    of_classes = False  # predictions are logits, with an axis of classes that the target lacks
    counted = "pixel"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        dtype, place = torch.int64, device
        if not self.is_counting:
            dtype, place = torch.float64, place_sums(device)
        self.sums = torch.zeros(self.n_sums, dtype=dtype, device=place)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add one batch, without waiting for the device."""
        shape = prediction.shape
        expected = shape[:1] + shape[2:] if self.of_classes else shape
        if target.shape != expected:  # it would be broadcast, and the sums be of something else
            raise ValueError(
                f"`target` must be {tuple(expected)} to go with its `prediction`, got "
                f"{tuple(target.shape)}."
            )
        place = self.sums.device  # where it was made, but for a device without float64
        self.sums += torch.hstack(tuple(self.sum(prediction.to(place), target.to(place))))

    def compute(self) -> float:
        """The value over everything added; refused if none of it carried a label."""
        *sums, seen = self.sums.tolist()
        if not seen:
            raise ValueError(
                f"there is nothing to compute: not one {self.counted} with a label was added with "
                "`update`."
            )
        return self.read(sums, seen)

    @abstractmethod
    def sum(self, prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        """The sums over a batch."""

    def read(self, sums: list[float], seen: float) -> float:
        """What the sums over all batches say."""
        return 100 * sums[0] / seen


class ErrorPercent(Metric):
    """100 - accuracy in percent: how often the largest logit is not the label's.

    `update` takes logits (B, C) and class numbers (B,), where -1 is no label.
    """

    of_classes, counted = True, "image"

    def sum(self, prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        labelled = target >= 0
        return ((prediction.argmax(1) != target) & labelled).sum(), labelled.sum()


class MeanIoU(Metric):
    """Mean intersection over union in percent, of the classes that the truth holds at least once.

    `update` takes logits (B, C, H, W) and class numbers (B, H, W), where -1 is no label.
    Intersections and unions are summed over all pixels with a label before they are divided. A
    class that is predicted but never true is no term of the mean; its pixels still count as missed
    for the classes they belong to.

    Source:
        Ours where classes are absent: the released code always divides by 18, Taskonomy's uncertain
        class and absent ones included, so that its best value is 17/18 or less.
    """

    of_classes = True

    def __init__(self, n_classes: int, device: torch.device | str = "cpu") -> None:
        self._n_classes, self.n_sums = n_classes, n_classes**2 + 1  # truth by guess
        super().__init__(device)

    def sum(self, prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        labelled, truth = (target >= 0).flatten(), target.flatten().long().clamp(min=0)
        cell = truth * self._n_classes + prediction.argmax(1).flatten()
        # a bincount that need not ask the device how many bins there are
        counts = torch.zeros(self.n_sums - 1, dtype=torch.int64, device=cell.device)
        return counts.scatter_add_(0, cell, labelled.long()), labelled.sum()

    def read(self, sums: list[float], seen: float) -> float:
        confusion = torch.tensor(sums).view(self._n_classes, -1)
        both, true, guessed = confusion.diag(), confusion.sum(1), confusion.sum(0)
        iou = (both / (true + guessed - both))[true > 0].tolist()
        return 100 * math.fsum(iou) / len(iou)


class AlignedRMSE(Metric):
    """Root mean square error, in the target's unit, of predictions brought to each image's scale
    and shift.

    `update` takes prediction and target (B, 1, H, W); NaN in the target is no label. Scale and
    shift are those of least squares on the image's pixels with a label, so a scale may be negative,
    and a constant prediction becomes the target's mean. The mean square is over all pixels with a
    label of all images.

    Source:
        Ours: Table A2 names the metric, no recipe is published.
    """

    is_counting = False

    def sum(self, prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        labelled = ~target.isnan().flatten(1)  # (B, H * W)
        seen = labelled.sum(1, keepdim=True)  # (B, 1)

        def center(values: Tensor) -> Tensor:
            values = torch.where(labelled, values.flatten(1).to(self.sums.dtype), 0)
            mean = values.sum(1, keepdim=True) / seen.clamp(min=1)
            return torch.where(labelled, values - mean, 0)

        guess, truth = center(prediction.detach()), center(target)
        power = (guess * guess).sum(1, keepdim=True)
        # 0 / 0 is not taken
        scale = torch.where(power > 0, (guess * truth).sum(1, keepdim=True) / power, 0)
        return (truth - scale * guess).square().sum(), seen.sum()

    def read(self, sums: list[float], seen: float) -> float:
        return math.sqrt(sums[0] / seen)


class NormalsUnder30(Metric):
    """Percent of surface normals less than 30 degrees away from the true one.

    `update` takes prediction and target (B, 3, H, W), of any length: only directions count, and a
    vector of length 0 points nowhere, so it is never right. NaN in the target is no label.
    """

    def sum(self, prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        # (B, H, W), NaN: no label
        cosine = F.cosine_similarity(prediction.float(), target.float(), dim=1)
        return (cosine > math.cos(math.pi / 6)).sum(), (~target.isnan().any(1)).sum()


class F1(Metric):
    """F1 in percent of the pixels above a threshold: harmonic mean of precision and recall.

    `update` takes prediction and target (B, 1, H, W); NaN in the target is no label. Counts are
    summed over all pixels of all images. Where neither truth nor prediction ever exceeds the
    threshold they agree, and F1 is 100. The threshold is in the target's unit; above it (not at it)
    a pixel is positive.

    Source:
        Ours: Table A2 names the metric, neither threshold nor recipe is published.
    """

    n_sums = 3

    def __init__(self, threshold: float, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self._threshold = threshold

    def sum(self, prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        labelled = ~target.isnan()
        # float: a threshold rounded to half precision would not be the same for the two
        guess = (prediction.float() > self._threshold) & labelled
        truth = target.float() > self._threshold  # False where NaN
        return (guess & truth).sum(), guess.sum() + truth.sum(), labelled.sum()

    def read(self, sums: list[float], seen: float) -> float:
        both, positive = sums
        return 200 * both / positive if positive else 100.0


class MeanError(Metric):
    """Mean distance of numbers from the truth, in the target's unit; or the root mean square.

    `update` takes prediction (B, 1) and target (B,); NaN in the target is no label.
    """

    is_counting = False
    of_classes = True  # of one class, as it were
    counted = "row"

    def __init__(self, *, is_squared: bool, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        self._is_squared = is_squared

    def sum(self, prediction: Tensor, target: Tensor) -> Sequence[Tensor]:
        wide = self.sums.dtype
        gap = (prediction[:, 0].to(wide) - target.nan_to_num().to(wide)).abs() * ~target.isnan()
        return (gap.square() if self._is_squared else gap).sum(), (~target.isnan()).sum()

    def read(self, sums: list[float], seen: float) -> float:
        mean = sums[0] / seen
        return math.sqrt(mean) if self._is_squared else mean


def build_metric(task: Task, device: torch.device | str = "cpu") -> Metric:
    """The metric that ``task.metric`` names, with its sums on a device.

    F1 calls a pixel positive from one spread above the task's center on: ours, as no threshold is
    published.
    """
    if task.metric == "miou":
        return MeanIoU(task.n_outputs, device)
    if task.metric == "f1":
        return F1(task.center + task.spread, device)
    if task.metric in ("mae", "rms_error"):
        return MeanError(is_squared=task.metric == "rms_error", device=device)
    kinds = {"error_percent": ErrorPercent, "rmse": AlignedRMSE, "normals_under_30": NormalsUnder30}
    return kinds[task.metric](device)
