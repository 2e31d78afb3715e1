"""What every data set looks like to the rest of the library: three splits of features and targets.

Features are pictures, uint8 until a batch is drawn, or floats of any shape: tables, embeddings,
sequences. No DataLoader, no worker processes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dmtg_lite.core.arrays import as_classes, as_tensor
from dmtg_lite.core.checks import describe
from dmtg_lite.core.columns import as_array
from dmtg_lite.core.devices import GIB, as_device, measure_free_memory
from dmtg_lite.core.mapped import pack, unpack
from dmtg_lite.core.reading import Reader
from dmtg_lite.core.tasks import Task, check_unique

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, repr=False)
class Split:
    """Features and their targets.

    Args:
        features: Pictures, uint8 (n, C, H, W); or floats, kept as float32: pictures, sequences
            (n, L, D), tables and embeddings (n, D). A tensor, possibly memory-mapped and of any
            memory layout, or an array of numpy.
        targets: ``{task name: tensor}``, or arrays, columns or lists. Of whole rows, (n,): class
            numbers, or numbers in the task's unit. Classes of pixels: int8 (n, H, W). Numbers of
            pixels: float16 (n, C, H, W) in the task's unit; or int8, the components of unit vectors
            times 127. Where there is no label (-1 of classes; nan; -128), neither losses nor errors
            count the row or pixel. `TaskData` keeps classes as int64 and numbers as float32.

    Raises:
        ValueError: If the features have another form, there is none, or a target has another
            length.
    """

    features: Tensor
    targets: dict[str, Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _as_features(self.features))
        targets = {
            name: as_tensor(f"targets[{name!r}]", value) for name, value in self.targets.items()
        }
        object.__setattr__(self, "targets", targets)
        for name, target in targets.items():
            if len(target) != len(self):
                raise ValueError(
                    f"target {name!r} has {len(target)} rows for {len(self)} "
                    f"{_name_rows(self.features)}; every one needs one target per task."
                )

    def __reduce__(self) -> tuple[Any, ...]:
        """What goes to another process: of mapped features their place in the file."""
        targets = {name: pack(target) for name, target in self.targets.items()}
        return _open_split, (pack(self.features), targets)

    @property
    def images(self) -> Tensor:
        """The features, by the name that pictures have."""
        return self.features

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        shape, rows = tuple(self.features.shape[1:]), _name_rows(self.features)
        return f"Split({len(self)} {rows} of {shape}, {len(self.targets)} targets)"

    def subset(self, rows: Tensor | slice) -> Split:
        """The same split with only these rows."""
        return Split(
            self.features[rows], {name: target[rows] for name, target in self.targets.items()}
        )

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device; nothing is copied when it is there already."""
        device = as_device(device)
        return Split(
            self.features.to(device),
            {name: target.to(device) for name, target in self.targets.items()},
        )


def _open_split(features: Any, targets: dict[str, Any]) -> Split:
    return Split(unpack(features), {name: unpack(target) for name, target in targets.items()})


@dataclass(frozen=True, slots=True, repr=False)
class TaskData:
    """A suite of N tasks with train, validation and test rows.

    Args:
        name: Short name, e.g. ``"toy_faces"``.
        tasks: The N tasks, in the order of the rows of every (N, K) matrix.
        train, val, test: The splits; selection uses val, tables use test.
        planted_groups: The true groups as lists of task names where they are known, else None.
        note: One sentence on where the data come from, shown beside results.
        streamed_to: Device that batches are copied to, if not the one the features lie on; see
            `stream_to`.
        reader: How features come from a table or pictures of the reader's own, kept so that
            predictions can be made of new ones; None where features are all there is.

    Raises:
        ValueError: If a split lacks a task or any label of it, a class number is out of range, a
            target is of another type or shape, only some tasks are dense, the splits' features are
            of different shapes, or the planted groups are not a partition of the tasks. Values of
            features and of dense targets are not looked at: they may lie in a mapped file.
    """

    name: str
    tasks: tuple[Task, ...]
    train: Split
    val: Split
    test: Split
    planted_groups: list[list[str]] | None = None
    note: str = ""
    streamed_to: torch.device | None = None
    reader: Reader | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", check_unique(self.tasks))
        if len({task.is_dense for task in self.tasks}) > 1:
            dense = [task.name for task in self.tasks if task.is_dense]
            raise ValueError(
                f"`tasks` must be all dense or none, got {dense} among {self.task_names}."
            )
        for split_name in SPLITS:
            object.__setattr__(self, split_name, self._settle(split_name))
        self._check_shapes()
        if self.planted_groups is not None:
            planted = sorted(name for group in self.planted_groups for name in group)
            if planted != sorted(self.task_names):
                raise ValueError(
                    f"`planted_groups` must name every task once, got {planted} for tasks "
                    f"{sorted(self.task_names)}."
                )

    def _check_shapes(self) -> None:
        shapes = {part.features.shape[1:] for part in (self.train, self.val, self.test)}
        if len(shapes) > 1:
            raise ValueError(
                f"the splits of {self.name!r} have rows of different shapes: "
                f"{sorted(map(tuple, shapes))}."
            )

    def _settle(self, split_name: str) -> Split:
        """A split with its targets checked, and kept as losses want them."""
        split = getattr(self, split_name)
        missing = [name for name in self.task_names if name not in split.targets]
        if missing:
            raise ValueError(f"split `{split_name}` of {self.name!r} has no target for {missing}.")
        settled = {}
        for task in self.tasks:
            where = f"target {task.name!r} of split `{split_name}`"
            own = settled[task.name] = as_target(split.targets[task.name], task, where)
            if task.is_dense:
                _check_picture(own, task, split.features, where)
            elif task.is_number:
                _check_numbers(own, where)
            else:
                _check_classes(own, task, where)
        return Split(split.features, split.targets | settled)

    def __repr__(self) -> str:
        return (
            f"TaskData({self.name}: {len(self.tasks)} tasks, {_name_rows(self.train.features)} "
            f"{self.feature_shape}, "
            f"{len(self.train)} train, {len(self.val)} val, {len(self.test)} test; {self.note})"
        )

    def fingerprint(self) -> str:
        """A line that tells data sets apart: name, size, and a checksum of tasks, targets and some
        features.

        Pictures are many, and may lie in a file: of those the first 16 of each task and split must
        do. Of floats, such as a table, every number counts.
        """
        weights = {t.name: t.weight for t in self.tasks if t.weight != 1}
        content = repr(self.tasks).encode() + (repr(weights).encode() if weights else b"")
        for split in (self.train, self.val, self.test):
            n_targets = 16 if self.tasks[0].is_dense else len(split)
            parts = [split.targets[name][:n_targets] for name in self.task_names]
            content += b"".join(part.cpu().contiguous().numpy().tobytes() for part in parts)
            content += _sum_up(split.features) + str(len(split)).encode()
        features = self.train.features
        shape = "x".join(map(str, features.shape))
        rows = _name_rows(features)
        return f"{self.name} ({shape} {rows}, checksum {zlib.crc32(content):08x})"

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self.tasks]

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Of one row: (C, H, W) of pictures, (L, D) of sequences, (D,) of tables."""
        return tuple(self.train.features.shape[1:])

    def select(self, names: Sequence[str] | str) -> TaskData:
        """The same rows with only the named tasks, in the order given."""
        names = [names] if isinstance(names, str) else names
        self._check_names(names)
        by_name = {task.name: task for task in self.tasks}
        planted = self.planted_groups and [
            kept for group in self.planted_groups if (kept := [n for n in group if n in names])
        ]
        return replace(self, tasks=tuple(by_name[name] for name in names), planted_groups=planted)

    def _check_names(self, names: Iterable[str]) -> None:
        if unknown := [name for name in names if name not in self.task_names]:
            raise ValueError(f"unknown tasks {unknown}; {self.name!r} has {self.task_names}.")

    @property
    def device(self) -> torch.device:
        """Where networks are trained: where the features lie, or are streamed to."""
        return self.streamed_to or self.train.features.device

    def weigh(self, weights: Mapping[str, float]) -> TaskData:
        """The same data with other weights of these tasks' losses, ``{task name: weight}``.

        A loss of 100 times the size is what a number is that nobody standardised.

        Raises:
            ValueError: If there is no such task, or a weight is not > 0.
        """
        self._check_names(weights)
        tasks = tuple(replace(t, weight=weights.get(t.name, t.weight)) for t in self.tasks)
        return replace(self, tasks=tasks)

    def stream_to(self, device: torch.device | str) -> TaskData:
        """The same data for training on a device that cannot hold it: only batches are copied
        there."""
        return replace(self, streamed_to=as_device(device))

    def to(self, device: torch.device | str) -> TaskData:
        """The same data with all three splits on a device: of CelebA, as bytes, 2.5 GB.

        Raises:
            ValueError: If the device cannot be used, or a GPU has no room for them.
        """
        device = as_device(device)
        needed, free = self.count_bytes(device), measure_free_memory(device)
        if device.type == "cuda" and free is not None and needed > free:
            raise ValueError(
                f"the data of {self.name!r} take {needed / GIB:.1f} GiB and {device} has "
                f"{free / GIB:.1f} GiB free: `stream_to` copies a batch at a time instead."
            )
        return replace(
            self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device)
        )

    def count_bytes(self, device: torch.device) -> int:
        """Memory that they would take on a device, beyond what lies there already."""
        splits = (self.train, self.val, self.test)
        tensors = [one for split in splits for one in (split.features, *split.targets.values())]
        return sum(one.nbytes for one in tensors if one.device != device)


def as_target(target: Tensor, task: Task, where: str = "") -> Tensor:
    """A target as losses want it: class numbers int64, numbers a row float32; pictures as stored.

    Raises:
        ValueError: If numbers of classes are not whole.
    """
    if task.is_dense:
        return target
    return target.float() if task.is_number else as_classes(where or task.name, target)


def _name_rows(features: Tensor) -> str:
    return "images" if features.ndim == 4 else "rows"


def _sum_up(features: Tensor) -> bytes:
    """What of the features a fingerprint sees."""
    if not features.is_floating_point():
        return features[:16].cpu().contiguous().numpy().tobytes()
    return b"%08x" % zlib.crc32(features.cpu().contiguous().numpy().data)


def _as_features(given: Any) -> Tensor:
    """Features as a tensor, or a word on how theirs differ from ours."""
    features = as_array("features", given)
    if features.is_floating_point():
        features = features.float()  # the same tensor where it is float32
        fits = features.ndim in (2, 3, 4)
    else:
        fits = features.dtype == torch.uint8 and features.ndim == 4 and not _is_last(features)
    if fits and not features.numel():
        raise ValueError("`features` is empty: every split needs at least one row.")
    if fits:
        return features
    hint = "data.from_arrays reads tables and pictures of other forms"
    if _is_last(features):
        hint = "bring the channels forward: features.transpose(0, 3, 1, 2) in numpy"
    elif features.dtype == torch.uint8 and features.ndim == 3:
        hint = "grey pictures are (n, 1, H, W): features[:, None]"
    raise ValueError(
        "`features` must be pictures, uint8 (n, C, H, W), or floats: (n, D), (n, L, D) or "
        f"(n, C, H, W); got {describe(given)}; {hint}."
    )


def _is_last(features: Tensor) -> bool:
    """Channels that stand where a picture's width should."""
    return features.ndim == 4 and features.shape[-1] in (1, 3, 4) and features.shape[1] > 4


def _check_picture(target: Tensor, task: Task, features: Tensor, where: str) -> None:
    """Refuse what no loss could read; the values themselves may lie in a file."""
    size = tuple(features.shape[-2:])
    if task.loss == "cross_entropy":
        fits, shape = target.dtype == torch.int8, (len(features), *size)
        wanted = f"int8 {shape}"
    else:
        shape = (len(features), task.n_outputs, *size)
        fits = target.dtype in (torch.float16, torch.float32, torch.int8)
        wanted = f"float16 or int8 {shape}"
    if not fits or tuple(target.shape) != shape:
        raise ValueError(f"{where} must be {wanted}, got {describe(target)}.")


def _check_numbers(target: Tensor, where: str) -> None:
    """Refuse numbers that no loss can be made of."""
    if target.ndim != 1:
        raise ValueError(f"{where} must be one number a row, shape (n,), got {describe(target)}.")
    if target.isinf().any():
        raise ValueError(
            f"{where} is infinite in {int(target.isinf().sum())} rows; nan says that a row carries "
            "no label."
        )
    if target.isnan().all():
        raise ValueError(f"{where} is nan throughout: not one row carries a label.")


def _check_classes(target: Tensor, task: Task, where: str) -> None:
    """Refuse class numbers that a loss would stumble over hours later, or not at all."""
    if target.ndim != 1:
        raise ValueError(
            f"{where} must be one class number a row, shape (n,), got {describe(target)}."
        )
    lowest, highest = int(target.min()), int(target.max())
    if lowest < -1 or highest >= task.n_outputs:
        raise ValueError(
            f"{where} must hold class numbers from 0 to {task.n_outputs - 1}, or -1 where a row "
            f"carries no label, got {lowest} to {highest}."
        )
    if highest == -1:
        raise ValueError(
            f"{where} is -1 throughout: not one row carries a label. Leave the task out."
        )
    is_named = bool(task.classes)  # by whoever numbered them, who knows what -1 means
    if lowest == -1 and task.n_outputs == 2 and not is_named and not (target == 0).any():
        raise ValueError(
            f"{where} holds only 1 and -1, and -1 means that a row carries no label. Number the "
            "two classes 0 and 1; if 1 is all there is, leave the task out."
        )
