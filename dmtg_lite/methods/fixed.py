"""Training a grouping that somebody hands over: the shared body of every baseline.

Naive MTL, STL, random and planted groups differ only in which grouping they hand over.
"""

from __future__ import annotations

from collections.abc import Sequence

from dmtg_lite.config import TrainConfig
from dmtg_lite.data.task_data import TaskData
from dmtg_lite.grouping import labels_from_groups
from dmtg_lite.methods.result import MethodResult, Stopwatch, make_result
from dmtg_lite.methods.saving import UNSAVED, Saving
from dmtg_lite.state import derive_seed
from dmtg_lite.train import build_network, fit, pretrain


def train_groups(
    data: TaskData,
    groups: Sequence[Sequence[str]],
    config: TrainConfig,
    *,
    method: str = "fixed",
    from_scratch: bool = False,
    saving: Saving = UNSAVED,
) -> MethodResult:
    """Train one branch per group, each task in its own group only.

    Args:
        data: The tasks and their images.
        groups: A partition of the task names.
        config: ``restarts``, ``tau`` and whatever else concerns S has no effect here.
        method: Name in the result.
        from_scratch: Start from random weights and train for pretraining and main steps together;
            otherwise start, like DMTG, from copies of the pretrained Naive MTL network.
        saving: Checkpoints and progress bar.

    Raises:
        ValueError: If the groups are not a partition of the tasks, or one is empty.
    """
    stopwatch = Stopwatch()
    group_of = labels_from_groups(groups, data.task_names)
    if not all(groups):
        raise ValueError(f"`groups` holds an empty group: {[list(group) for group in groups]}. Leave it out.")
    saving = saving.below(method)
    before, after = config.count_steps(len(data.train))
    encoder_macs = 0
    if from_scratch or not before:
        naive, n_steps = build_network(data, config), before + after
    else:
        naive, state = pretrain(data, config, **saving.of("pretrain", "pretraining"))
        encoder_macs, n_steps = state.encoder_macs, after
    network = naive.branch_out(len(groups), group_of=group_of)
    history, state = fit(
        network, data, config, n_steps=n_steps, seed=derive_seed(config.seed, 4), **saving.of("main", method)
    )
    return make_result(
        method, data, config, network, history,
        encoder_macs=encoder_macs + state.encoder_macs, stopwatch=stopwatch,
    )  # fmt: skip
