"""What every data set looks like to the rest of the library: three splits of uint8 images.

Images stay uint8 until a batch is drawn; no DataLoader, no worker processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dmtg_lite.core.arrays import as_device, as_labels, as_tensor
from dmtg_lite.core.checks import describe
from dmtg_lite.core.tasks import Task, check_unique


@dataclass(frozen=True, slots=True, repr=False)
class Split:
    """Images and their targets.

    Args:
        images: uint8, shape (n, 3, H, W); may be a memory-mapped tensor of any memory layout, or
            an array of numpy.
        targets: ``{task name: tensor}``, or arrays, columns or lists. Classes of whole images:
            whole numbers (n,), kept as int64. Classes of pixels: int8 (n, H, W). Numbers of pixels:
            float16 (n, C, H, W) in the task's unit; or int8, the components of unit vectors times
            127. Where there is no label (-1; nan; -128), neither losses nor errors count the image
            or pixel.

    Raises:
        ValueError: If the images are not uint8 (n, 3, H, W), there is none, or a target has another
            length.
    """

    images: Tensor
    targets: dict[str, Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", _as_images(self.images))
        targets = {
            name: as_labels(f"targets[{name!r}]", value) for name, value in self.targets.items()
        }
        object.__setattr__(self, "targets", targets)
        for name, target in targets.items():
            if len(target) != len(self.images):
                raise ValueError(
                    f"target {name!r} has {len(target)} rows for {len(self.images)} images; every "
                    "image needs one target per task."
                )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = tuple(self.images.shape[1:])
        return f"Split({len(self)} images of {shape}, {len(self.targets)} targets)"

    def subset(self, rows: Tensor | slice) -> Split:
        """The same split with only these rows."""
        return Split(
            self.images[rows], {name: target[rows] for name, target in self.targets.items()}
        )

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device; nothing is copied when it is there already."""
        device = as_device(device)
        return Split(
            self.images.to(device),
            {name: target.to(device) for name, target in self.targets.items()},
        )


@dataclass(frozen=True, slots=True, repr=False)
class TaskData:
    """A suite of N tasks with train, validation and test images.

    Args:
        name: Short name, e.g. ``"toy_faces"``.
        tasks: The N tasks, in the order of the rows of every (N, K) matrix.
        train, val, test: The splits; selection uses val, tables use test.
        planted_groups: The true groups as lists of task names where they are known, else None.
        note: One sentence on where the images come from, shown beside results.
        streamed_to: Device that batches are copied to, if not the one the images lie on; see
            `stream_to`.

    Raises:
        ValueError: If a split lacks a task or any label of it, a class number is out of range, a
            target is of another type or shape, only some tasks are dense, or the planted groups are
            not a partition of the tasks. Values of pictures are not looked at: they may lie in a
            mapped file.
    """

    name: str
    tasks: tuple[Task, ...]
    train: Split
    val: Split
    test: Split
    planted_groups: list[list[str]] | None = None
    note: str = ""
    streamed_to: torch.device | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", check_unique(self.tasks))
        if len({task.is_dense for task in self.tasks}) > 1:
            dense = [task.name for task in self.tasks if task.is_dense]
            raise ValueError(
                f"`tasks` must be all dense or none, got {dense} among {self.task_names}."
            )
        for split_name in ("train", "val", "test"):
            self._check_split(getattr(self, split_name), split_name)
        if self.planted_groups is not None:
            planted = sorted(name for group in self.planted_groups for name in group)
            if planted != sorted(self.task_names):
                raise ValueError(
                    f"`planted_groups` must name every task once, got {planted} for tasks "
                    f"{sorted(self.task_names)}."
                )

    def _check_split(self, split: Split, split_name: str) -> None:
        missing = [name for name in self.task_names if name not in split.targets]
        if missing:
            raise ValueError(f"split `{split_name}` of {self.name!r} has no target for {missing}.")
        for task in self.tasks:
            if task.is_dense:
                _check_picture(split.targets[task.name], task, split.images, split_name)
            elif task.loss == "cross_entropy":
                _check_classes(split.targets[task.name], task, split_name)

    def __repr__(self) -> str:
        return (
            f"TaskData({self.name}: {len(self.tasks)} tasks, images {self.image_shape}, "
            f"{len(self.train)} train, {len(self.val)} val, {len(self.test)} test; {self.note})"
        )

    def fingerprint(self) -> str:
        """A line that tells data sets apart: name, size, and a checksum of tasks, targets and some
        images.

        Pictures are many, and may lie in a file: of those the first 16 of each task and split must
        do.
        """
        content = repr(self.tasks).encode()
        for split in (self.train, self.val, self.test):
            n_targets = 16 if self.tasks[0].is_dense else len(split)
            parts = [split.targets[name][:n_targets] for name in self.task_names]
            content += b"".join(part.cpu().contiguous().numpy().tobytes() for part in parts)
            content += (
                split.images[:16].cpu().contiguous().numpy().tobytes() + str(len(split)).encode()
            )
        shape = "x".join(map(str, self.train.images.shape))
        return f"{self.name} ({shape} images, checksum {zlib.crc32(content):08x})"

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self.tasks]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(3, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def select(self, names: Sequence[str] | str) -> TaskData:
        """The same images with only the named tasks, in the order given."""
        names = [names] if isinstance(names, str) else names
        unknown = [name for name in names if name not in self.task_names]
        if unknown:
            raise ValueError(f"unknown tasks {unknown}; {self.name!r} has {self.task_names}.")
        by_name = {task.name: task for task in self.tasks}
        planted = self.planted_groups and [
            kept for group in self.planted_groups if (kept := [n for n in group if n in names])
        ]
        return replace(self, tasks=tuple(by_name[name] for name in names), planted_groups=planted)

    @property
    def device(self) -> torch.device:
        """Where networks are trained: where the images lie, unless they are streamed elsewhere."""
        return self.streamed_to or self.train.images.device

    def stream_to(self, device: torch.device | str) -> TaskData:
        """The same data for training on a device that cannot hold it: only batches are copied
        there."""
        return replace(self, streamed_to=as_device(device))

    def to(self, device: torch.device | str) -> TaskData:
        """The same data with all three splits on a device."""
        return replace(
            self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device)
        )


def _as_images(given: Any) -> Tensor:
    """Images as a tensor, or a word on how theirs differ from ours."""
    images = as_tensor("images", given)
    if images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] == 3:
        if not len(images):
            raise ValueError("`images` is empty: every split needs at least one image.")
        return images
    hint = "uint8 holds brightness from 0 to 255"
    if images.ndim == 4 and images.shape[-1] == 3:
        hint = "bring the channels forward: images.transpose(0, 3, 1, 2) in numpy"
    elif images.ndim == 3:
        hint = "grey pictures: repeat the channel three times"
    elif images.is_floating_point():
        hint = "numbers from 0 to 1 become uint8 by (255 * images).round()"
    raise ValueError(
        f"`images` must be uint8 of shape (n, 3, H, W), got {describe(given)}; {hint}."
    )


def _check_picture(target: Tensor, task: Task, images: Tensor, split_name: str) -> None:
    """Refuse what no loss could read; the values themselves may lie in a file."""
    size = tuple(images.shape[-2:])
    if task.loss == "cross_entropy":
        fits, shape = target.dtype == torch.int8, (len(images), *size)
        wanted = f"int8 {shape}"
    else:
        shape = (len(images), task.n_outputs, *size)
        fits, wanted = (
            target.dtype in (torch.float16, torch.float32, torch.int8),
            f"float16 or int8 {shape}",
        )
    if not fits or tuple(target.shape) != shape:
        raise ValueError(
            f"target {task.name!r} of split `{split_name}` must be {wanted}, got "
            f"{describe(target)}."
        )


def _check_classes(target: Tensor, task: Task, split_name: str) -> None:
    """Refuse class numbers that a loss would stumble over hours later, or not at all."""
    where = f"target {task.name!r} of split `{split_name}`"
    if target.dtype != torch.int64 or target.ndim != 1:
        raise ValueError(
            f"{where} must be one class number an image, shape (n,), got {describe(target)}."
        )
    lowest, highest = int(target.min()), int(target.max())
    if lowest < -1 or highest >= task.n_outputs:
        raise ValueError(
            f"{where} must hold class numbers from 0 to {task.n_outputs - 1}, or -1 where an image "
            f"carries no label, got {lowest} to {highest}."
        )
    if highest == -1:
        raise ValueError(
            f"{where} is -1 throughout: not one image carries a label. Leave the task out."
        )
    if lowest == -1 and task.n_outputs == 2 and not (target == 0).any():
        raise ValueError(
            f"{where} holds only 1 and -1, and -1 means that an image carries no label. Number the "
            "two classes 0 and 1; if 1 is all there is, leave the task out."
        )
