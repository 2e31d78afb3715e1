"""The config of whoever gives none: chosen from the data by one rule, and printed."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from dmtg_lite.core.checks import check_kind
from dmtg_lite.core.config import NGroups, TrainConfig, as_n_groups
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.tasks import Task
from dmtg_lite.encoders import Own, use
from dmtg_lite.runs.presets import TOY

_ENCODERS = {1: "mlp", 2: "attention_pool", 3: "convnet"}  # by the dimensions of a row
_MOST_NUMBERS = 16  # that one task is granted, however many classes it has
_MOST_CAPACITY = 64
_MOST_ROWS = 5000  # that factors are counted on
_LAST_CLOSING = 700  # of 900 steps: a group needs some of them for itself


def choose_recipe(data: TaskData, n_groups: NGroups = "auto") -> TrainConfig:
    """The recipe for these data: what ``config=None`` means everywhere.

    * Data that the library draws keep their preset of `experiments.TOY`; dense tasks of any other
      data have that of the rooms. (`experiments.PAPER` needs days of a GPU: ask for it by name.)
    * All else is trained as the toy faces are: spare branches, S by SGD, heads that all learn from
      every batch, 100 + 900 steps.
    * Encoder: ``"mlp"`` for tables and embeddings (D,), ``"attention_pool"`` for sequences (L, D),
      ``"convnet"`` for pictures (C, H, W).
    * Capacity, the width of a branch's bottleneck: as many numbers in all K branches together as
      the training labels have factors, and no branch fewer than the most demanding task needs
      alone: one of C classes C - 1 (at most 16), any other 1. With K ``"auto"``: just that. So of K
      branches none has room for all tasks: if it had, groups would not matter, as in the sweep of
      notebook 8. Factors are counted by Kaiser's rule: eigenvalues above 1 of the labels'
      correlation matrix. That is a guess from labels alone. Wider networks may have lower errors,
      and then less to gain from groups: compare ``replace(config, capacity=...)``.
    * With K = 1, as Naive MTL asked for alone: as many numbers as all tasks need together (at most
      64), so that a network for all has room for all.
    * Batches: 64 rows; of more than 6,400 training rows a hundredth of them, up to 1,024.

    Args:
        data: The tasks and their features; only the training split is looked at.
        n_groups: K, or ``"auto"``.

    Source:
        H. F. Kaiser, The application of electronic computers to factor analysis (1960). The rest
        is ours; how often it finds planted groups is in docs/measurements.md.
    """
    n_groups = as_n_groups(n_groups)
    if data.reader is None and (own := TOY.get(data.name.removeprefix("toy_"))):
        return own
    if data.tasks[0].is_dense:
        return TOY["rooms"]
    config = replace(
        TOY["faces"],
        encoder=_ENCODERS[len(data.feature_shape)],
        capacity=_choose_capacity(data, n_groups),
        batch_size=_choose_batch(len(data.train)),
    )
    return _close_in_time(config, n_groups, len(data.tasks))


def settle_config(
    data: TaskData, n_groups: NGroups, config: TrainConfig | None, encoder: str | Own | None = None
) -> TrainConfig:
    """The config given, or the recipe; with another encoder where one is given.

    A recipe is printed, as the line that gives the same run again.
    """
    settled = choose_recipe(data, n_groups) if config is None else config
    check_kind("config", settled, TrainConfig, "e.g. experiments.TOY['faces'], or None")
    if encoder is not None:
        settled = replace(settled, encoder=use(encoder))
    if config is None:
        print(f"config = {settled}")
    return settled


def _choose_capacity(data: TaskData, n_groups: NGroups) -> int:
    needs = [1 if task.is_number else task.n_outputs - 1 for task in data.tasks]
    if n_groups == 1:
        return min(sum(needs), _MOST_CAPACITY)
    need = max(needs)
    shared = 1 if n_groups == "auto" else ceil(count_factors(data.train, data.tasks) / n_groups)
    return min(max(min(need, _MOST_NUMBERS), shared), _MOST_CAPACITY)


def count_factors(split: Split, tasks: tuple[Task, ...]) -> int:
    """Eigenvalues above 1 of the correlation matrix of labels: how many things they are about.

    A task that goes with no other has an eigenvalue of 1 but for chance, and counts or not.

    A task of C > 2 classes is C columns, one a class. A label that is missing counts as the mean of
    its column, so that tasks of different rows are not correlated.
    """
    every = max(1, ceil(len(split) / _MOST_ROWS))
    columns = []
    for task in tasks:
        target = split.targets[task.name][::every].cpu().numpy().astype(np.float64)
        if task.is_number:
            columns.append(target)
            continue
        for one in range(1 if task.n_outputs == 2 else 0, task.n_outputs):
            columns.append(np.where(target < 0, np.nan, target == one))
    table = np.stack(columns, 1)  # (n, columns)
    there = ~np.isnan(table)
    mean = np.where(there, table, 0).sum(0) / there.sum(0).clip(1)
    table = np.where(there, table - mean, 0)
    table = table[:, table.any(0)]  # what never changes is about nothing
    table /= np.sqrt(np.square(table).mean(0))
    above = np.linalg.eigvalsh(table.T @ table / len(table)) > 1 + 1e-9
    return max(1, int(above.sum()))


def _choose_batch(n_rows: int) -> int:
    return 2 ** min(10, max(6, (n_rows // 100).bit_length() - 1))


def _close_in_time(config: TrainConfig, n_groups: NGroups, n_tasks: int) -> TrainConfig:
    """More branches close faster, so that groups are final some steps before the end."""
    n_branches, n_spare = config.count_branches(n_groups, n_tasks)
    n_closings = n_branches - 1 if n_spare is None else n_spare
    spare = config.spare
    if n_closings < 2 or spare.close_from + (n_closings - 1) * spare.close_every <= _LAST_CLOSING:
        return config
    every = max(1, (_LAST_CLOSING - spare.close_from) // (n_closings - 1))
    return replace(config, spare=replace(spare, close_every=every))
