"""The step of section 3.3, and the loop that takes one per `next()`.

Run, Pause, Step, a progress bar, a live view, a checkpoint and a test are callers of `take_steps`;
what is not the paper's, and the schedules, are callbacks between two steps. The loop never prints,
plots or waits, and asks the device for no value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dmtg_lite.core.batches import Batches, Lookahead, Order, Targets
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.objective import compute_objective, compute_task_losses
from dmtg_lite.core.record import Knobs, StepRecord
from dmtg_lite.core.state import TrainState

Between = Callable[[TrainState, StepRecord], StepRecord]
"""Called after a step; may change the run, and returns the record with what it did."""


def learn(
    state: TrainState, inputs: Tensor, targets: Targets, tau: float | Tensor, gumbel: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Section 3.3: losses of all heads, one draw, one step of weights and S together.

    All of it is the device's work and none of it reads a value, so that a graph can hold it.
    Returns task losses (N,), loss matrix and probabilities (N, K), of all branches ever open.
    """
    network, assignment, config = state.network, state.network.assignment, state.config
    bfloat16, head_losses = config.precision == "bfloat16", None
    with torch.enable_grad():
        with torch.autocast(network.device.type, torch.bfloat16, enabled=bfloat16):
            if config.heads.train_all and not assignment.is_fixed:  # fixed: one head a task anyway
                loss_matrix, head_losses = state.program.compute_split_losses(inputs, targets)
            else:
                loss_matrix = state.program.compute_loss_matrix(inputs, targets)  # L, (N, K)
        z = assignment.sample(tau, estimator=config.estimator, generator=gumbel)  # Z, (N, K)
        among = assignment.active if config.normalise_losses else None
        total = compute_objective(loss_matrix, z, normalise_among=among, head_losses=head_losses)
        state.zero_grad()
        state.backward(total, loss_matrix)
    for optimizer in state.optimizers.values():
        optimizer.step()
    loss_matrix, z = loss_matrix.detach(), z.detach()
    return (
        compute_task_losses(loss_matrix, z, is_fixed=assignment.is_fixed),
        network.widen(loss_matrix.masked_fill(~assignment.active, torch.nan), torch.nan),
        network.widen(assignment.probabilities()),
    )


Learn = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""`learn`, or what does the same, such as a graph of it."""


def take_step(
    state: TrainState,
    inputs: Tensor,
    targets: Targets,
    *,
    tau: float,
    lr_assignment: float,
    learn: Learn = learn,
) -> StepRecord:
    """One step on a batch, (B, ...) and (B, N), or a tensor for each dense task; ``lr_assignment``
    is the rate of S before the schedule scales it."""
    state.set_lr(state.config.lr, lr_assignment)
    gumbel = state.network.assignment.draw_noise(state.config.estimator, state.noise)
    seen = learn(state, inputs, targets, tau, gumbel)
    state.step += 1
    return StepRecord(state.step, *seen, tau, lr_assignment * state.lr_scale)


def take_steps(
    state: TrainState,
    data: TaskData,
    n_steps: int,
    *,
    knobs: Knobs | None = None,
    between: Sequence[Between] = (),
    learn: Learn = learn,
) -> Iterator[StepRecord]:
    """Train in place, one step per `next()`; stopping early is simply not asking again.

    Args:
        state: Owns network, config and seed; a resumed one goes on where it stands.
        data: On the same device as the network, or streamed to it (`TaskData.stream_to`).
        n_steps: Steps in the whole run.
        knobs: Temperature and learning rate of S to turn while the run goes on.
        between: What happens between two steps, in this order.
        learn: How the device does its part: as it comes, or as a graph (`runs.graph`).

    Source:
        Sections 3.3 and 3.4: weights and S are optimised together, on the training loss, with one
        draw of Z per step.
    """
    knobs, split, config = knobs or Knobs(), data.train, state.config
    batches = Batches(split, data.tasks, state.network.device)
    rows_of = Order(len(split), config, state.seed, split.features.device, share=state.share)
    state.network.train()
    with Lookahead(batches, rows_of) as ahead:
        while state.step < n_steps:
            batches.layout = state.program.layout  # of the form that it has by now
            inputs, targets = ahead.take(state.step)  # (B, ...), and (B, N) or N tensors
            tau, rate = knobs.tau, knobs.lr_assignment  # read once: another thread may turn them
            tau = config.tau_at(state.step / max(n_steps - 1, 1)) if tau is None else tau
            rate = state.lr_assignment() if rate is None else rate
            record = take_step(state, inputs, targets, tau=tau, lr_assignment=rate, learn=learn)
            for act in between:
                record = act(state, record)
            yield record
