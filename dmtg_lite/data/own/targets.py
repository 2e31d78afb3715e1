"""Tasks and their targets as the training rows have them: names of classes, center and spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.checks import describe
from dmtg_lite.core.columns import name_value
from dmtg_lite.core.tasks import Task
from dmtg_lite.data.own.kinds import Answers
from dmtg_lite.data.own.splits import SPLITS, Rows

NumberLoss = Literal["l1", "squared"]
METRICS = {"l1": "mae", "squared": "rms_error"}


def settle(answers: Answers, rows: Mapping[str, Rows], loss: NumberLoss) -> tuple[Task, Tensor]:
    """The task as its training rows have it, and its targets, (n,): int64 or float32.

    Raises:
        ValueError: If it is constant there, or a class occurs elsewhere only.
    """
    if answers.classes:
        return _settle_classes(answers, rows)
    values = answers.values[rows["train"]]
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError(f"target {answers.name!r} has no value in the training split.")
    _check_varies(answers.name, values)
    center, spread = float(values.mean()), float(values.std())
    if spread < 1e-5 * np.abs(values).max() or np.abs(values).max() > 1e30:
        raise ValueError(
            f"target {answers.name!r} is {center:g} with a spread of {spread:g}, which float32 "
            "cannot hold: subtract the mean, or change its unit."
        )
    task = answers.wish
    if not isinstance(task, Task):
        task = Task(answers.name, 1, loss, METRICS[loss])
    if (task.center, task.spread) == (0, 1):  # nothing was said of them
        task = replace(task, center=center, spread=spread)
    return task, torch.from_numpy(answers.values.astype(np.float32))


def _settle_classes(answers: Answers, rows: Mapping[str, Rows]) -> tuple[Task, Tensor]:
    name, classes, wish = answers.name, answers.classes, answers.wish
    counts = {
        split: np.bincount(numbers[numbers >= 0], minlength=len(classes))
        for split in SPLITS
        for numbers in [answers.values[rows[split]]]
    }
    if not counts["train"].any():
        raise ValueError(f"target {name!r} has no value in the training split.")
    is_told = isinstance(wish, Task) and bool(wish.classes)
    kept = np.flatnonzero(counts["train"] > 0) if not is_told else np.arange(len(classes))
    _check_varies(name, np.flatnonzero(counts["train"]), [classes[k] for k in kept])
    for split in SPLITS[1:]:
        only = np.flatnonzero((counts[split] > 0) & (counts["train"] == 0))
        if len(only):
            raise ValueError(
                f"target {name!r}: class {name_value(classes[only[0]])!r} occurs in the {split} "
                "split, not in the training split. Merge it with another, drop its rows, or deal "
                "rows otherwise (`splits`, `groups`, `seed`)."
            )
    if wish == "yes/no" and len(kept) != 2:
        found = [classes[k] for k in kept[:5]]
        raise ValueError(f"target {name!r} must be yes/no, got {len(kept)} classes: {found}.")
    if isinstance(wish, Task) and wish.n_outputs != len(kept):
        raise ValueError(
            f"task {name!r} has n_outputs={wish.n_outputs}, but the training split has "
            f"{len(kept)} classes: {[classes[k] for k in kept[:10]]}. Say them all: "
            "Task(..., classes=(...))."
        )
    number_of = np.full(len(classes) + 1, -1)  # the last: no label stays -1
    number_of[kept] = np.arange(len(kept))
    named = tuple(classes[k] for k in kept)
    task = (
        replace(wish, classes=named)
        if isinstance(wish, Task)
        else Task(name, len(named), classes=named)
    )
    return task, torch.from_numpy(number_of[answers.values].astype(np.int64))


def _check_varies(name: str, values: np.ndarray, classes: Sequence[Any] | None = None) -> None:
    if len(np.unique(values)) < 2:
        what = describe(values[0] if classes is None else classes[0])
        raise ValueError(
            f"target {name!r} is constant over the training split ({what}): there is nothing to "
            "learn. Leave the task out, or deal rows otherwise (`splits`, `seed`)."
        )
