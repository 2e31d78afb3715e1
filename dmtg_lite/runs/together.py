"""Runs that differ in their seeds alone, trained as one program: restarts of a small network.

Here R runs take their steps at once: their branches are one stack (`core.stacked`), their S one
matrix of R times N rows, and `core.step.learn` does for all of them what it does for one. Each run
keeps its own rows, noise, callbacks and history, and loses what it would lose alone, but for
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from dmtg_lite.core.assignment import Assignment
from dmtg_lite.core.batches import Batches, Lookahead, Order, Targets
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.memory import keep_freed_memory
from dmtg_lite.core.record import StepRecord
from dmtg_lite.core.sealed import choose_threads, sealed
from dmtg_lite.core.stacked import Row, Stack, can_stack
from dmtg_lite.core.state import Program, TrainState, build_optimizer, follow_objective
from dmtg_lite.core.step import learn
from dmtg_lite.runs.between import choose_callbacks
from dmtg_lite.runs.fit import Recorder, Unwatched, count_record_every
from dmtg_lite.runs.history import History
from dmtg_lite.runs.progress import with_progress
from dmtg_lite.runs.run import Run

_FLUSH_EVERY = 500  # steps between looks whether every loss is finite


def train_together(runs: Sequence[Run], step: int) -> bool:
    """Bring runs to a step at once, if that can be; `Run.train_until` then finds them there.

    It can if nothing is kept of them on the way, all have a stacked form, and stay alike: no
    schedule, no pruning, no dropout. Cells of a comparison are not trained so: their numbers must
    not depend on which of them were there already.

    Args:
        runs: Of the same data and config, standing at the same step; each has its own seed.
        step: Where to stop.

    Returns:
        False if they are to be trained one by one.
    """
    if len(runs) < 2 or not all(_is_free(run) for run in runs):
        return False
    first, data = runs[0], runs[0].data
    if first.state is None:
        naive = [run.start_pretraining() for run in runs]
        if not _have_one_form(naive, data):
            return False
        scratch = [History(data.task_names, 1) for _ in runs]
        _take_steps(naive, scratch, data, first.n_pretraining, first.n_pretraining)
        for run, state in zip(runs, naive, strict=True):
            run.start_training(state)
    states = [cast("TrainState", run.state) for run in runs]
    if not _have_one_form(states, data):
        return False
    histories = [run.history for run in runs]
    label = f"{first.method}, {len(runs)} at once" if first.saving.progress else None
    _take_steps(states, histories, data, first.n_steps, min(step, first.n_steps), label)
    return True


def _is_free(run: Run) -> bool:
    """Whether nobody waits for this run on its way."""
    saving, config = run.saving, run.config
    is_kept = saving.folder is not None or saving.loggers or saving.validate_every
    may_part = config.schedule != "constant" or config.pruning.below or run.n_groups == "auto"
    return not (is_kept or may_part)


def _have_one_form(states: Sequence[TrainState], data: TaskData) -> bool:
    suits = all(can_stack(state, data.feature_shape, n_runs=len(states)) for state in states)
    layers = [layer for state in states for layer in state.network.modules()]
    return suits and not any(isinstance(layer, nn.Dropout) for layer in layers)


def _take_steps(
    states: Sequence[TrainState],
    histories: Sequence[History],
    data: TaskData,
    n_steps: int,
    stop_at: int,
    label: str | None = None,
) -> None:
    """`fit.continue_fit` of all of them."""
    every = count_record_every(n_steps)
    recorders = [Recorder(history, every, Unwatched()) for history in histories]
    callbacks = [choose_callbacks(state, data, n_steps) for state in states]
    start, network = states[0].step, states[0].network
    if network.device.type == "cpu":
        keep_freed_memory()
    n_threads = choose_threads(network, data.feature_shape, states[0].config.batch_size)
    with ExitStack() as stack:
        stack.enter_context(sealed(n_threads))
        ahead = [stack.enter_context(_start_batches(state, data)) for state in states]
        for step in with_progress(range(start + 1, stop_at + 1), label, stop_at, start=start):
            together = cast("Together", states[0].program)
            if not isinstance(together, Together):  # at first, and where branches closed
                together = Together(states)
            records = together.take_step([each.take(step - 1) for each in ahead], n_steps)
            for state, acts, recorder, record in zip(
                states, callbacks, recorders, records, strict=True
            ):
                for act in acts:
                    record = act(state, record)
                recorder.take(record, is_kept=step == stop_at)
            if step % _FLUSH_EVERY == 0:
                _flush(recorders)
        _flush(recorders)
        states[0].unstack()


def _flush(recorders: Sequence[Recorder]) -> None:
    for recorder in recorders:
        recorder.flush()


def _start_batches(state: TrainState, data: TaskData) -> Lookahead:
    split = data.train
    batches = Batches(split, data.tasks, state.network.device)
    batches.layout = Stack.layout
    return Lookahead(batches, Order(len(split), state.config, state.seed, split.features.device))


class Together:
    """R states between two steps as the one that `learn` asks for, of R times N tasks.

    Args:
        states: Of one config, at the same step, in their plain form.
    """

    backward = staticmethod(follow_objective)

    def __init__(self, states: Sequence[TrainState]) -> None:
        self.states, self.config = states, states[0].config
        self.stack = Stack(states)
        self.program = self.network = self
        self.device, self.n_groups = states[0].network.device, states[0].network.n_groups
        self.assignment, self._row = _join_assignments([s.network.assignment for s in states])
        self._plain = [state.optimizers for state in states]
        self.optimizers = {"weights": states[0].optimizers["weights"]}
        if self._row is not None:
            self.optimizers["assignment"] = self._join_optimizers(self._row)
        for state in states:
            state.program = cast("Program", self)  # of whom a state asks `undo` alone

    def _join_optimizers(self, row: Row) -> torch.optim.Optimizer:
        """One for the S of all, which goes on from theirs."""
        theirs = [plain["assignment"] for plain in self._plain]
        logits = cast("Tensor", self.assignment.logits)
        rate = theirs[0].param_groups[0]["lr"]
        optimizer = build_optimizer(self.config.optimiser_assignment, [logits], rate)
        memory = {own: entry for each in theirs for own, entry in each.state.items()}
        if row.owns[0] in memory:
            gathered = row.gather(memory)
            optimizer.state[logits] = {
                name: value.flatten(0, 1) if value.ndim else value
                for name, value in gathered.items()
            }
        return optimizer

    def undo(self) -> None:
        """Every run by itself again."""
        if self._row is not None:
            logits = cast("Tensor", self.assignment.logits)
            memory = self.optimizers["assignment"].state.get(logits, {})
            self._row.undo()
            apart = self._row.scatter(
                {
                    name: value.unflatten(0, (len(self.states), -1)) if value.ndim else value
                    for name, value in memory.items()
                }
            )
            for plain, own in zip(self._plain, self._row.owns, strict=True):
                plain["assignment"].state[own] = apart[own]
        self.stack.undo()

    def take_step(
        self, batches: Sequence[tuple[Tensor, Targets]], n_steps: int
    ) -> list[StepRecord]:
        """One step of every run, each on its own batch."""
        step, config = self.states[0].step, self.config
        tau, rate = config.tau_at(step / max(n_steps - 1, 1)), self.states[0].lr_assignment()
        for optimizer, lr in zip(self.optimizers.values(), (config.lr, rate), strict=False):
            optimizer.param_groups[0]["lr"] = lr
        inputs, targets = zip(*batches, strict=True)
        state = cast("TrainState", self)
        seen = learn(state, cast("Any", inputs), cast("Any", targets), tau, self._draw_noise())
        parts = [joined.chunk(len(self.states)) for joined in seen]
        records = []
        for own, losses, matrix, now in zip(self.states, *parts, strict=True):
            own.step += 1
            wide = own.network.widen(matrix, torch.nan), own.network.widen(now)
            records.append(StepRecord(own.step, losses, *wide, tau, rate))
        return records

    def _draw_noise(self) -> Tensor | None:
        each = [
            s.network.assignment.draw_noise(self.config.estimator, s.noise) for s in self.states
        ]
        return None if each[0] is None else torch.cat(cast("list[Tensor]", each))

    # what `learn` asks of a state, its network and its program

    def zero_grad(self) -> None:
        TrainState.zero_grad(cast("TrainState", self))

    def widen(self, matrix: Tensor, fill: float = 0.0) -> Tensor:
        """Each run does, when its part is recorded."""
        return matrix

    def compute_loss_matrix(self, inputs: Sequence[Tensor], targets: Sequence[Targets]) -> Tensor:
        """R batches -> L of all, (R * N, K)."""
        return torch.cat([own for (own,) in self.stack.compute(inputs, targets)])

    def compute_split_losses(
        self, inputs: Sequence[Tensor], targets: Sequence[Targets]
    ) -> tuple[Tensor, Tensor]:
        """R batches -> both of all, (R * N, K)."""
        held, free = zip(*self.stack.compute(inputs, targets, is_split=True), strict=True)
        return torch.cat(held), torch.cat(free)


def _join_assignments(each: Sequence[Assignment]) -> tuple[Assignment, Row | None]:
    """Of R times N tasks, (R * N, K); where S is learned, each run's is a view of it."""
    n_groups = each[0].active.shape[1]
    active = torch.cat([own.active for own in each])
    if each[0].is_fixed:
        joined = Assignment(len(active), n_groups, group_of=[0] * len(active))
        joined.active = active
        return joined, None
    row = Row(each, "logits")
    joined = Assignment(len(active), n_groups)
    joined.logits, joined.active = nn.Parameter(row.all.data.flatten(0, 1)), active
    return joined, row
