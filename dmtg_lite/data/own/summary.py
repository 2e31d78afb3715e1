"""The line that says what was understood."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from dmtg_lite.core.columns import name_value
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.losses import find_labels
from dmtg_lite.core.reading import Reader
from dmtg_lite.core.tasks import Task
from dmtg_lite.data.own.splits import SPLITS


def summarise(data: TaskData, reader: Reader, n_rows: int) -> TaskData:
    """The same data with a note: kind of features, kinds of tasks, what is missing or rare."""
    parts = [_describe_features(data, reader), _describe_tasks(data)]
    used = sum(len(getattr(data, split)) for split in SPLITS)
    if used < n_rows:
        parts.append(f"{n_rows - used} rows are in no split")
    parts += [_describe_missing(data), _describe_rarest(data)]
    return replace(data, note="; ".join(filter(None, parts)))


def say(data: TaskData) -> TaskData:
    """Print the line, where a notebook shows it; whatever names the screen can show."""
    sizes = ", ".join(f"{len(getattr(data, split)):,} {split}" for split in SPLITS)
    line = f"{data.name}: {sizes}; {data.note}"
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))
    return data


def _describe_features(data: TaskData, reader: Reader) -> str:
    shape = " x ".join(map(str, data.feature_shape))
    if reader.kind == "table":
        kinds = [column.kind for column in reader.columns]
        counts = ", ".join(
            f"{kinds.count(kind)} {kind}"
            for kind in ("number", "yes/no", "category")
            if kind in kinds
        )
        return f"a table of {len(kinds)} columns ({counts}) as {shape} features"
    kept = "uint8 as given" if reader.is_uint8 else "standardised"
    return f"{reader.kind} of {shape} (read as {reader.layout}, {kept})"


def _describe_tasks(data: TaskData) -> str:
    kinds = [_name_kind(task) for task in data.tasks]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    return f"{len(kinds)} task{'s' * (len(kinds) > 1)}: {counts}"


def _name_kind(task: Task) -> str:
    if task.is_number:
        return f"number ({task.loss})"
    return "yes/no" if task.n_outputs == 2 else f"of {task.n_outputs} classes"


def _describe_missing(data: TaskData) -> str:
    targets = [getattr(data, split).targets for split in SPLITS]
    missing = {
        name: sum(int((~find_labels(one[name])).sum()) for one in targets)
        for name in data.task_names
    }
    total = sum(missing.values())
    if not total:
        return "no label missing"
    most = max(missing, key=missing.__getitem__)
    return f"missing labels: {total:,}, most of {most!r} ({missing[most]:,})"


def _describe_rarest(data: TaskData) -> str:
    found = []
    for task in data.tasks:
        if not task.is_number:
            numbers = data.train.targets[task.name].numpy()
            counts = np.bincount(numbers[numbers >= 0], minlength=task.n_outputs)
            found.append((int(counts.min()), task.name, task.classes[int(counts.argmin())]))
    if not found:
        return ""
    count, name, rarest = min(found, key=lambda one: one[0])
    return f"rarest class: {name}={name_value(rarest)}, {count:,} rows of train"
