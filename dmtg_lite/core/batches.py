"""Batches: rows of a split as the network wants them, on its device, the next one fetched ahead.

Features stay where they are, in memory, on the device or in a mapped file; no DataLoader, no worker
processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import Split, as_target
from dmtg_lite.core.losses import find_labels, to_classes
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.tasks import Task

Targets = Tensor | list[Tensor]
"""A batch's targets: int64 class numbers (B, N), -1 without a label; float32 (B, N), nan without
one, where some tasks are numbers; a list of N tensors of dense tasks."""

Batch = tuple[Tensor, Targets]


class Batches:
    """Rows of a split on a device.

    Args:
        split: Features and targets, anywhere.
        tasks: The N tasks, in row order: all dense, or none.
        device: Where batches are wanted.
    """

    def __init__(self, split: Split, tasks: Sequence[Task], device: torch.device) -> None:
        self.split, self.tasks, self.device = split, tuple(tasks), device
        self.is_dense = self.tasks[0].is_dense
        self.layout = torch.channels_last  # of pictures
        stored = [as_target(split.targets[task.name], task) for task in self.tasks]
        self._stored = stored if self.is_dense else [stack_targets(stored)]  # or one (n, N)

    def __len__(self) -> int:
        return len(self.split)

    @property
    def is_elsewhere(self) -> bool:
        """True if the features lie on another device than the one they are wanted on."""
        return self.split.features.device != self.device

    def take(self, rows: Tensor | slice) -> Batch:
        """Features (B, ...), pictures (B, C, H, W) channels_last, and their targets.

        Dense targets come as `decode` gives them: float32 with nan, or int64 with -1, where there
        is no label.
        """
        features = self._fetch(self.split.features, rows)
        if features.ndim == 4:
            features = features.contiguous(memory_format=self.layout)
        stored = [self._fetch(target, rows) for target in self._stored]
        if not self.is_dense:
            return features, stored[0]
        return features, [decode(task, own) for task, own in zip(self.tasks, stored, strict=True)]

    def _fetch(self, stored: Tensor, rows: Tensor | slice) -> Tensor:
        if not self.is_elsewhere:
            return _pick_rows(stored, rows)
        if self.device.type != "cuda":  # only there it is safe not to wait for a copy
            return stored[rows].to(self.device)
        return _gather_pinned(stored, rows).to(self.device, non_blocking=True)


def _gather_pinned(stored: Tensor, rows: Tensor | slice) -> Tensor:
    """Rows, copied once: into memory that a GPU reads beside a training step.

    Torch keeps such memory when it is let go of, and hands it out again once the copy is done.
    """
    if isinstance(rows, slice):
        return stored[rows].pin_memory()
    pinned = torch.empty_like(stored[: len(rows)], pin_memory=True)
    return torch.index_select(stored, 0, rows, out=pinned)


def _pick_rows(tensor: Tensor, rows: Tensor | slice) -> Tensor:
    """``tensor[rows]``, which takes longer in its general form."""
    return tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows)


def decode(task: Task, target: Tensor) -> Tensor:
    """A stored dense target as numbers to learn from; nan or -1 where a pixel carries no label.

    Args:
        task: A dense task.
        target: int8 (B, H, W) of class numbers; float16 (B, C, H, W) in natural units; or int8
            (B, C, H, W) of components in 1/127, -128 without a label.

    Returns:
        int64 (B, H, W), or float32 (B, C, H, W).
    """
    if task.loss == "cross_entropy":
        return target.long()
    if target.dtype == torch.int8:
        return (target.float() / 127).masked_fill(target == -128, torch.nan)
    return target.float()


def stack_targets(columns: Sequence[Tensor]) -> Tensor:
    """Targets of whole rows side by side: (n, N); where some are numbers class numbers are too."""
    if any(column.is_floating_point() for column in columns):
        columns = [
            column if column.is_floating_point()
            else column.float().masked_fill(column < 0, torch.nan)
            for column in columns
        ]  # fmt: skip
    return torch.stack(list(columns), dim=1)


def pick_target(targets: Targets, n: int, task: Task) -> Tensor:
    """One task's targets out of a batch, class numbers as such."""
    if not isinstance(targets, Tensor):
        return targets[n]
    return targets[:, n] if task.is_number else to_classes(targets[:, n])


def count_labels(targets: Targets, tasks: Sequence[Task]) -> Tensor:
    """How much of a batch each task's mean loss is over: (N,), in rows or in single numbers of a
    picture.

    As `losses.sum_loss` counts: a tolerant loss is a mean over pictures.
    """
    if isinstance(targets, Tensor):
        return find_labels(targets).sum(0)
    counts = []
    for task, target in zip(tasks, targets, strict=True):
        has_label = find_labels(target)
        if task.loss == "tolerant_l1":
            has_label = has_label[..., 1:-1, 1:-1].flatten(1).any(1)
        counts.append(has_label.sum())
    return torch.stack(counts)


class Order:
    """Rows of every batch: each epoch shuffles anew, from seed and epoch alone.

    So a resumed run draws the same, and the batch of the next step can be fetched ahead.

    Args:
        n_rows, config, seed: Of the run.
        device: Of the features.
        share: (i, m): of each batch every m-th row, from the i-th on.
    """

    def __init__(
        self,
        n_rows: int,
        config: TrainConfig,
        seed: int,
        device: torch.device,
        *,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._n_rows, self._seed, self._device = n_rows, seed, device
        self._batch_size, self._per_epoch = config.batch_size, config.steps_per_epoch(n_rows)
        self._share, self._epoch, self._rows = share, -1, torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        epoch, batch = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            shuffle = torch.Generator().manual_seed(derive_seed(self._seed, Stream.ORDER, epoch))
            on_gpu = self._device.type == "cuda"  # whose copy no step waits for
            rows = torch.randperm(self._n_rows, generator=shuffle, pin_memory=on_gpu)
            self._rows = rows.to(self._device, non_blocking=on_gpu)
            self._epoch = epoch
        first, every = self._share
        return self._rows[batch * self._batch_size : (batch + 1) * self._batch_size][first::every]


class Lookahead:
    """Batches by step number, the next one already under way where the features lie elsewhere.

    Args:
        batches: Where rows are taken from.
        rows_of: Rows of a step, counted from 0; called in the caller's thread.
        ahead: Fetch ahead in a thread; ``None``: if the features lie on another device.
        end: How many steps there are, if none is to be fetched beyond.
    """

    def __init__(
        self,
        batches: Batches,
        rows_of: Callable[[int], Tensor | slice],
        *,
        ahead: bool | None = None,
        end: int | None = None,
    ) -> None:
        self._batches, self._rows_of, self._end = batches, rows_of, end
        ahead = batches.is_elsewhere if ahead is None else ahead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dmtg-batches") if ahead else None
        self._next: tuple[int, Future[Batch]] | None = None

    def __enter__(self) -> Lookahead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def take(self, step: int) -> Batch:
        """The batch of this step; the one of the next step begins to be fetched."""
        if self._thread is None:
            return self._batches.take(self._rows_of(step))
        there = self._next
        if there is None or there[0] != step:
            there = step, self._submit(self._thread, step)
        batch = there[1].result()
        has_next = self._end is None or step + 1 < self._end
        self._next = (step + 1, self._submit(self._thread, step + 1)) if has_next else None
        if self._batches.device.type == "cuda":
            _hand_over(batch, torch.cuda.current_stream(self._batches.device))
        return batch

    def _submit(self, thread: ThreadPoolExecutor, step: int) -> Future[Batch]:
        return thread.submit(self._take, self._rows_of(step))

    def _take(self, rows: Tensor | slice) -> Batch:
        if self._batches.device.type != "cuda":
            return self._batches.take(rows)
        stream = _find_stream(self._batches.device)
        with torch.cuda.stream(stream):
            batch = self._batches.take(rows)
        stream.synchronize()  # waits in this thread, not in the training loop
        return batch


def look_ahead(batches: Batches, parts: Iterable[Tensor | slice]) -> Iterator[Batch]:
    """Batches of these rows, each fetched while the one before is looked at."""
    rows = list(parts)
    with Lookahead(batches, rows.__getitem__, end=len(rows)) as ahead:
        yield from map(ahead.take, range(len(rows)))


def _hand_over(batch: Batch, stream: torch.cuda.Stream) -> None:
    """Keep the memory of a batch, made on the thread's stream, until this one has used it."""
    features, targets = batch
    for tensor in [features, *([targets] if isinstance(targets, Tensor) else targets)]:
        tensor.record_stream(stream)


@lru_cache  # one for good: the memory of a device is pooled by stream
def _find_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
