"""Two-shot: learn the groups with DMTG, then train them again (Table 4), or go on with what it
left."""

from __future__ import annotations

from torch import nn

from dmtg_lite.core.assignment import Assignment
from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.methods.dmtg import dmtg
from dmtg_lite.methods.door import method
from dmtg_lite.methods.fixed import train_groups
from dmtg_lite.runs.fit import fit
from dmtg_lite.runs.result import MethodResult, Stopwatch, make_result
from dmtg_lite.runs.saving import UNSAVED, Saving


@method
def two_shot(
    data: TaskData, n_groups: NGroups, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """DMTG's groups trained from scratch, for pretraining and main steps together (Table 4)."""
    return _retrain("two_shot", data, n_groups, config, saving, from_scratch=True)


@method
def two_shot_pretrained(
    data: TaskData, n_groups: NGroups, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """DMTG's groups, trained again from the pretrained Naive MTL weights (Table 4)."""
    return _retrain("two_shot_pretrained", data, n_groups, config, saving, from_scratch=False)


@method
def prune_finetune(
    data: TaskData, n_groups: NGroups, config: TrainConfig, *, saving: Saving = UNSAVED
) -> MethodResult:
    """DMTG, then each group's branch and heads trained on by themselves, one group after the other.

    Source:
        Not in the paper: the released code has such a stage, and its test configs use it. There the
        stem, if there is one, is frozen with its batch norm, and so it is here. How long it lasts
        is not known: here every group gets as many steps as the pretraining had.
    """
    stopwatch, saving = Stopwatch(), saving.below("prune_finetune")
    found = dmtg(data, n_groups, config, saving=saving.aside("dmtg"))
    network, spent = found.network, found.encoder_macs
    n_steps = max(1, config.count_steps(len(data.train))[0])
    for k, group in enumerate(found.groups):
        part, assignment = data.select(group), Assignment(len(group), 1, group_of=[0] * len(group))
        own = [network.branches[k]], [network.heads[k]]
        alone = GroupedNetwork(part.tasks, _Frozen(network.stem), *own, assignment)
        seed = derive_seed(config.seed, Stream.FINETUNING, k)
        run = saving.of(f"group{k}", f"finetuning {k + 1}/{len(found.groups)}")
        _, state = fit(alone.to(network.device), part, config, n_steps=n_steps, seed=seed, **run)
        spent += state.encoder_macs
    network.index()  # its heads have stood in networks of fewer tasks
    return make_result(
        "prune_finetune", data, config, network, found.history,
        encoder_macs=spent, stopwatch=stopwatch, saving=saving,
    )  # fmt: skip


class _Frozen(nn.Module):
    """A stem that neither learns nor updates its batch-norm statistics."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem.eval()

    def train(self, mode: bool = True) -> _Frozen:  # torch's signature
        return self

    def forward(self, x):
        return self.stem(x).detach()


def _retrain(
    method: str,
    data: TaskData,
    n_groups: NGroups,
    config: TrainConfig,
    saving: Saving,
    *,
    from_scratch: bool,
) -> MethodResult:
    stopwatch = Stopwatch()
    found = dmtg(data, n_groups, config, saving=saving.below(method).aside("dmtg"))
    return train_groups(
        data, found.groups, config, method=method, from_scratch=from_scratch,
        saving=saving, spent=found.encoder_macs, stopwatch=stopwatch,
    )  # fmt: skip
