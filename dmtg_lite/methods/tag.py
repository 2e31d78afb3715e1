"""TAG and its kin: affinities from one Naive MTL run, and the groups that they make best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.door import method
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.methods.search.affinity import Affinity, gradient_cosine, tag_affinity
from dmtg_lite.methods.search.columns import select_by_pairs
from dmtg_lite.methods.search.linearised import linearised_affinity
from dmtg_lite.methods.search.selection import check_selectable
from dmtg_lite.runs.result import MethodResult, Stopwatch
from dmtg_lite.runs.saving import UNSAVED, Saving


@method
def tag(
    data: TaskData,
    n_groups: int,
    config: TrainConfig,
    *,
    saving: Saving = UNSAVED,
    every: int = 10,
    divide_by_lr: bool = False,
) -> MethodResult:
    """Inter-task affinities by lookahead, the best groups by their mean, retrained from scratch.

    A task's score in a group is the mean affinity of the others' steps to it; the at most
    ``n_groups`` groups with the highest sum of each task's best score are chosen, exactly up to 15
    tasks (see `select_by_pairs`). No task is left alone unless nothing else serves it. Groups may
    overlap. ``every`` and ``divide_by_lr`` are those of `tag_affinity`.

    Source:
        Fifty et al. (2021), sections 3 and 4; `affinity.tag_affinity` has the formula.
    """
    stopwatch = Stopwatch()
    measure = partial(tag_affinity, data, config, every=every, divide_by_lr=divide_by_lr)
    return _train_best("tag", data, n_groups, config, measure, saving, stopwatch)


@method
def cosine(
    data: TaskData, n_groups: int, config: TrainConfig, *, saving: Saving = UNSAVED, every: int = 10
) -> MethodResult:
    """TAG's own baseline: the same selection by the cosine between two tasks' gradients."""
    stopwatch = Stopwatch()
    measure = partial(gradient_cosine, data, config, every=every)
    return _train_best("cosine", data, n_groups, config, measure, saving, stopwatch)


@method
def grad_tag(
    data: TaskData,
    n_groups: int,
    config: TrainConfig,
    *,
    saving: Saving = UNSAVED,
    n_steps: int | None = None,
    n_directions: int = 32,
    n_rows: int = 256,
) -> MethodResult:
    """Grad-TAG's affinities: what pairs would gain if the trained network were tuned for them.

    The same selection as `tag`, of the estimates of `linearised_affinity`, whose are the last three
    arguments. Nothing is trained for an estimate but one Naive MTL network.

    Source:
        Li, Sharma and Zhang (KDD 2024), who cluster by a semi-definite programme instead.
    """
    stopwatch = Stopwatch()
    measure = partial(
        linearised_affinity, data, config,
        n_steps=n_steps, n_directions=n_directions, n_rows=n_rows,
    )  # fmt: skip
    return _train_best("grad_tag", data, n_groups, config, measure, saving, stopwatch)


def _train_best(
    method: str,
    data: TaskData,
    n_groups: int,
    config: TrainConfig,
    measure: Callable[[], Affinity],
    saving: Saving,
    stopwatch: Stopwatch,
) -> MethodResult:
    check_selectable(data.task_names, n_groups)

    def look() -> tuple[list[list[float]], int]:
        found = measure()
        return found.matrix.T.double().tolist(), found.encoder_macs  # [a][b]: effect of b on a

    is_known = [[True] * len(data.tasks)] * len(data.tasks)
    basis = f"{data.fingerprint()}, {config}"
    values, spent = saving.below(method).remember("affinity", basis, look, is_known)
    chosen = select_by_pairs(
        np.array(values), data.task_names, n_groups, singles="never", maximise=True
    )
    result = train_groups(
        data, chosen.groups, config, method=method, from_scratch=True,
        saving=saving, spent=spent, stopwatch=stopwatch,
    )  # fmt: skip
    return replace(result, affinity=values)
