"""What happens between two steps and is not the paper's step: schedules, pruning, closings,
cost."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, isfinite

from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.record import StepRecord, Validation
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.step import Between
from dmtg_lite.runs.cost import CountCost
from dmtg_lite.runs.cutting import drop_pruned, prune_below
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.spare import CloseSpare, check_closings

_PLATEAU_PATIENCE = 3  # epochs; the paper states none
_MILESTONE = 15  # epochs between halvings of the released code's schedule
_PRUNE_EVERY = 25  # steps between looks at `pruning.below`


def choose_callbacks(
    state: TrainState, data: TaskData, n_steps: int, *, validate_every: int = 0
) -> list[Between]:
    """What the config asks for, in the order in which it happens.

    Args:
        validate_every: Steps between looks at the validation split; 0: none but those that a
            plateau decides on, which are one an epoch whatever is said here.

    Raises:
        ValueError: If the run is too short to close all spare branches.
    """
    network, config = state.network, state.config
    if network.n_groups == network.n_opened:
        check_closings(config, network.n_groups, network.n_spare, n_steps)
    callbacks: list[Between] = [CountCost(data)]
    if network.n_spare != 0:
        callbacks.append(CloseSpare(data))
    if config.pruning.below and not network.assignment.is_fixed:
        callbacks.append(prune_heads)
    if config.schedule != "constant":
        callbacks.append(Schedule(data, n_steps))
    if validate_every and config.schedule != "plateau":
        callbacks.append(Validate(data, validate_every))
    return callbacks


def choose_validation(data: TaskData, config: TrainConfig, n_steps: int) -> int:
    """Steps between looks that cost a twentieth of the run at most, and are fifty at most.

    A look is a forward pass over the split, a third of as many steps.
    """
    steps = len(data.val) / min(config.batch_size, len(data.train)) / 3
    return max(1, n_steps // 50, ceil(20 * steps))


def validate(state: TrainState, data: TaskData) -> Validation:
    """Look at the validation split between two steps; nothing is drawn, nothing changes."""
    seen = evaluate(
        state.network, data.val, precision=state.config.precision, allow_unlabelled=True
    )
    state.network.train()
    return Validation(list(seen.losses.values()), list(seen.errors.values()))


class Validate:
    """Looks at the validation split every so many steps, for whoever watches: nothing decides on
    it."""

    def __init__(self, data: TaskData, every: int) -> None:
        self._data, self._every = data, every

    def __call__(self, state: TrainState, record: StepRecord) -> StepRecord:
        if state.step % self._every:
            return record
        return replace(record, validation=validate(state, self._data))


def prune_heads(state: TrainState, record: StepRecord) -> StepRecord:
    """Every 25 steps, drop the heads whose probability has fallen below
    ``config.pruning.below``."""
    network, pruning = state.network, state.config.pruning
    waits = network.n_spare != 0  # a task may still need the head it hardly uses
    waits |= record.closing is not None or record.elbow is not None  # only just
    if waits or state.step < pruning.start or state.step % _PRUNE_EVERY:
        return record
    prune_below(network.assignment, pruning.below)
    drop_pruned(state)
    return replace(record, probabilities=network.widen(network.assignment.probabilities()))


class Schedule:
    """Moves the learning rates at the end of an epoch, but of the last one."""

    def __init__(self, data: TaskData, n_steps: int) -> None:
        self._data, self._n_steps = data, n_steps

    def __call__(self, state: TrainState, record: StepRecord) -> StepRecord:
        epoch, rest = divmod(state.step, state.config.steps_per_epoch(len(self._data.train)))
        if rest or state.step >= self._n_steps:
            return record
        if state.config.schedule == "multistep":
            state.lr_scale = 0.5 ** (epoch // _MILESTONE)
        else:
            record = replace(record, validation=self._watch_plateau(state, epoch))
        return record

    def _watch_plateau(self, state: TrainState, epoch: int) -> Validation:
        seen = validate(state, self._data)
        for name, loss in zip(self._data.task_names, seen.losses, strict=True):
            if not isfinite(loss):
                raise FloatingPointError(
                    f"the validation loss of task {name!r} is {loss} after epoch {epoch}. "
                    "Lower `lr`, or check that the validation split carries its labels."
                )
        val_loss = sum(seen.losses)
        if val_loss < state.best_val_loss:
            state.best_val_loss, state.bad_epochs = val_loss, 0
        else:
            state.bad_epochs += 1
        if state.bad_epochs > _PLATEAU_PATIENCE:
            state.lr_scale, state.bad_epochs = state.lr_scale / 2, 0
        return seen
