"""MTG-Net: learn from a few trials which tasks gain together, choose groups by the prediction."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.door import method
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.methods.search.meta_learner import MAX_TASKS, GainTable, learn_gains
from dmtg_lite.methods.search.selection import Candidate, check_selectable, select_groups
from dmtg_lite.methods.search.trials import are_stacked, try_groups
from dmtg_lite.runs.jobs import as_workers, held, run_jobs
from dmtg_lite.runs.result import MethodResult, Stopwatch
from dmtg_lite.runs.saving import UNSAVED, Saving

_PROMISING = 400  # combinations to choose from where not all are listed


@method
def mtg_net(
    data: TaskData,
    n_groups: int,
    config: TrainConfig,
    *,
    saving: Saving = UNSAVED,
    n_rounds: int | None = None,
) -> MethodResult:
    """Train some combinations of tasks, learn to predict the gains of all, select, retrain.

    A gain is the relative fall of a task's validation loss against its own single-task network;
    what is trained next is the meta-learner's choice, see `meta_learner.learn_gains`. The at most
    ``n_groups`` groups with the highest sum of each task's best gain, measured or predicted, are
    chosen exactly; a task alone gains 0. They may overlap, and are trained from scratch. Of more
    than 12 tasks only a sample of groups is looked at, some grown from each task by the prediction,
    and the choice is made among the 400 that promise most: a heuristic.

    Args:
        data, n_groups, config, saving: As for every method.
        n_rounds: Combinations to train beside single tasks and all together; ``None``: N(N-1)/2,
            as many as HOA has pairs.

    Source:
        Song et al., Efficient and Effective Multi-task Grouping via Meta Learning on Task
        Combinations (NeurIPS 2022).
    """
    stopwatch, names = Stopwatch(), data.task_names
    check_selectable(names, n_groups)
    own = saving.below("mtg_net")
    singles = [[name] for name in names]
    losses, spent = try_groups(data, singles, config, saving=own, label="singles")
    alone = losses.diagonal()  # (N,)

    def trial(combination: tuple[int, ...], saving: Saving) -> tuple[Any, ...]:
        group, label = [names[n] for n in combination], "_".join(map(str, ("trial", *combination)))
        return data, [group], config, saving, label

    tried: dict[tuple[int, ...], tuple[Tensor, int]] = {}

    def spread(combinations: list[tuple[int, ...]]) -> None:
        if len(combinations) == 1:
            return
        work = [trial(one, own.apart()) for one in combinations]
        found = run_jobs(_try, work, jobs=workers, progress=own.progress, label="trials")
        tried.update(zip(combinations, found, strict=True))

    def walk(combinations: list[tuple[int, ...]]) -> None:
        """Side by side in one network, where that is cheaper than apart."""
        groups = [[names[n] for n in one] for one in combinations]
        losses, macs = try_groups(data, groups, config, saving=own, label=f"walk{len(tried)}_")
        costs = [macs, *[0] * (len(groups) - 1)]
        tried.update(zip(combinations, zip(losses.split(1, 1), costs, strict=True), strict=True))

    def measure(combination: tuple[int, ...]) -> list[float]:
        nonlocal spent
        losses, macs = tried.get(combination) or _try(*trial(combination, own))
        spent += macs
        rows = list(combination)
        return ((alone[rows] - losses[rows, 0]) / alone[rows]).tolist()

    with held(as_workers(own.jobs).on_device(data.device)) as workers:
        announce = None if workers.is_here else spread
        announce = walk if are_stacked(data, config) else announce
        table = learn_gains(measure, len(names), n_rounds, seed=config.seed, announce=announce)
    chosen = select_groups(_list_candidates(table, names), n_groups, maximise=True)
    result = train_groups(
        data, chosen.groups, config, method="mtg_net", from_scratch=True,
        saving=saving, spent=spent, stopwatch=stopwatch,
    )  # fmt: skip
    return replace(result, n_trials=int(table.is_measured.sum()))


def _try(
    data: TaskData, groups: list[list[str]], config: TrainConfig, saving: Saving, label: str
) -> tuple[Tensor, int]:
    return try_groups(data, groups, config, saving=saving, label=label)


def _list_candidates(table: GainTable, names: list[str]) -> list[Candidate]:
    """All combinations; of more than 12 tasks those that promise most, and all tasks together."""
    rows = torch.arange(len(table.masks))
    if len(names) > MAX_TASKS:
        promise = table.gains.clamp_min(0.0).nansum(1)
        is_kept = table.masks.sum(1).eq(1) | table.masks.all(1)
        is_kept[promise.argsort(descending=True, stable=True)[:_PROMISING]] = True
        rows = rows[is_kept]
    candidates = []
    for mask, gains in zip(table.masks[rows].tolist(), table.gains[rows].tolist(), strict=True):
        scores = {name: gain for name, gain, is_in in zip(names, gains, mask, strict=True) if is_in}
        candidates.append(Candidate(tuple(scores), scores))
    return candidates
