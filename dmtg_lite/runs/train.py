"""The training loop: a generator that takes one optimisation step per `next()`, and its callers.

Run, Pause, Step, a progress bar, a live view, a checkpoint and a test are all callers of
`train_steps`. The loop never prints, plots, waits, or asks the device for a value, except between
two
steps: at the end of an epoch, where a branch closes, and at a look at ``prune_below``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.batches import Batches, Lookahead
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.network import GroupedNetwork, count_macs
from dmtg_lite.encoders import build_encoder
from dmtg_lite.runs.checkpoint import load_checkpoint, save_checkpoint
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.history import History
from dmtg_lite.runs.spare import check_closings, close_branch
from dmtg_lite.runs.state import TrainState, derive_seed

_PLATEAU_PATIENCE = 3  # epochs; the paper states none
_MILESTONE = 15  # epochs between halvings of the released code's schedule
_PRUNE_EVERY = 25  # steps between looks at prune_below
_MAX_RECORDS = 5000  # about as many as a history keeps of a long run


@dataclass(slots=True)
class Knobs:
    """What may be turned while a run goes on; each field is read once per step. None: as configured."""

    tau: float | None = None
    lr_assignment: float | None = None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimisation step, as detached tensors that stay on their device.

    M counts all branches that were ever open: the columns of those that have closed are 0.

    Attributes:
        closing: If a branch closed after this step: ``step``, its number ``branch``, its ``cost``,
            the ``branches`` that were open, what closing each would have cost (``costs``) and where
            tasks ``moved``.
    """

    step: int  # 1 for the first
    task_losses: Tensor  # (N,), under the drawn assignment
    loss_matrix: Tensor  # (N, M)
    probabilities: Tensor  # (N, M), softmax(S) after the step
    tau: float
    lr_assignment: float
    closing: dict[str, Any] | None = None


def build_network(
    data: TaskData, config: TrainConfig, *, seed: int | None = None
) -> GroupedNetwork:
    """A freshly initialised Naive MTL network for this data, on the data's device."""
    with torch.random.fork_rng(devices=[]):  # leave the caller's random stream alone
        torch.manual_seed(derive_seed(config.seed if seed is None else seed, 0))
        encoder = build_encoder(
            config.encoder, data.image_shape, capacity=config.capacity, pretrained=config.pretrained
        )
        network = GroupedNetwork.naive(
            data.tasks,
            encoder,
            shared=config.shared,
            head_hidden=config.head_hidden,
            scale_gradients=config.scale_gradients,
        )
    if config.train_all_heads and encoder.decoder:
        raise ValueError(
            "`train_all_heads` computes every head twice, which suits light heads, not the "
            "decoders of dense "
            "tasks. Leave it False."
        )
    return network.to(data.device, memory_format=torch.channels_last)


class _Order:
    """Rows of every batch: each epoch shuffles anew, from seed and epoch alone.

    So a resumed run draws the same, and the batch of the next step can be fetched ahead.
    """

    def __init__(self, n_images: int, config: TrainConfig, seed: int, device: torch.device) -> None:
        self._n_images, self._seed, self._device = n_images, seed, device
        self._batch_size, self._per_epoch = config.batch_size, config.steps_per_epoch(n_images)
        self._epoch, self._rows = -1, torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        epoch, batch = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            shuffle = torch.Generator().manual_seed(derive_seed(self._seed, 2, epoch))
            self._rows = torch.randperm(self._n_images, generator=shuffle).to(self._device)
            self._epoch = epoch
        return self._rows[batch * self._batch_size : (batch + 1) * self._batch_size]


def train_steps(
    network: GroupedNetwork,
    data: TaskData,
    config: TrainConfig,
    *,
    n_steps: int | None = None,
    knobs: Knobs | None = None,
    seed: int | None = None,
    state: TrainState | None = None,
) -> Iterator[StepRecord]:
    """Train in place, one optimisation step per `next()`; stopping early is simply not asking
    again.

    Args:
        network: Learned or fixed assignment; both take the same path.
        data: On the same device as the network, or streamed to it (`TaskData.stream_to`).
        config: See `TrainConfig`.
        n_steps: Steps in the whole run; ``None``: what the config says after pretraining.
        knobs: Temperature and learning rate of S to turn while the run goes on.
        seed: Seed of batches and noise; ``None``: the config's.
        state: Where to start, for a resumed run; ``None``: at the beginning.

    Yields:
        One `StepRecord` per step.

    Source:
        Sections 3.3 and 3.4: weights and S are optimised together, on the training loss, by one
        optimiser, with one draw of Z per step.
    """
    state = state or TrainState(network, config, seed=seed)
    knobs = knobs or Knobs()
    split, network, assignment = data.train, state.network, state.network.assignment
    batches = Batches(split, data.tasks, network.device)
    rows_of = _Order(len(split), config, state.seed, split.images.device)
    n_steps = config.count_steps(len(split))[1] if n_steps is None else n_steps
    per_epoch = config.steps_per_epoch(len(split))

    def count_batch_macs() -> int:
        return count_macs(network, data.image_shape)["encoder"] * min(config.batch_size, len(split))

    batch_macs = count_batch_macs()
    if network.n_groups == network.n_opened:
        check_closings(config, network.n_groups, network.n_spare, n_steps)
    train_all_heads = (
        config.train_all_heads and not assignment.is_fixed
    )  # a fixed task has one head anyway
    device_type, use_bfloat16 = network.device.type, config.precision == "bfloat16"
    network.train()
    with Lookahead(batches, rows_of) as ahead:
        while state.step < n_steps:
            epoch, batch = divmod(state.step, per_epoch)
            if epoch and not batch:
                _end_epoch(state, data, epoch)
            images, targets = ahead.take(state.step)  # (B, 3, H, W), and (B, N) or N tensors
            tau, lr_assignment = (
                knobs.tau,
                knobs.lr_assignment,
            )  # read once: another thread may turn them
            tau = config.tau_at(state.step / max(n_steps - 1, 1)) if tau is None else tau
            lr_assignment = state.lr_assignment() if lr_assignment is None else lr_assignment
            state.set_lr(config.lr, lr_assignment)

            with torch.enable_grad():
                with torch.autocast(device_type, torch.bfloat16, enabled=use_bfloat16):
                    if train_all_heads:
                        loss_matrix, head_losses = network.compute_split_losses(images, targets)
                    else:
                        loss_matrix = network.compute_loss_matrix(images, targets)  # L, (N, K)
                z = assignment.sample(
                    tau, estimator=config.estimator, generator=state.noise
                )  # Z, (N, K)
                if config.normalise_losses:
                    heads = assignment.active  # those that exist: a fixed grouping has one a row
                    means = (loss_matrix.detach() * heads).sum(1) / heads.sum(1)  # (N,)
                    total = (
                        loss_matrix / means.clamp_min(1e-12)[:, None] * z
                    ).sum()  # a loss may reach 0
                else:
                    total = (loss_matrix * z).sum()  # equation (6), summed over its entries
                if train_all_heads:
                    total = total + head_losses.sum()
                for optimizer in state.optimizers.values():
                    optimizer.zero_grad(set_to_none=True)
                total.backward()
            for optimizer in state.optimizers.values():
                optimizer.step()
            state.step += 1
            state.encoder_macs += batch_macs
            loss_matrix, z = loss_matrix.detach(), z.detach()
            # rows of Z sum to 1, but for a task that is in several fixed groups: its mean over them
            task_losses = (loss_matrix * z).sum(1) / (z.sum(1) if assignment.is_fixed else 1)
            loss_matrix, closing = network.widen(loss_matrix), None
            since = state.step - config.close_from
            if network.n_spare != 0 and since >= 0 and since % config.close_every == 0:
                closing = close_branch(state, batches, batch_macs)
                batch_macs = count_batch_macs()
            elif (
                config.prune_below
                and not assignment.is_fixed
                and network.n_spare
                == 0  # before that a task may still need the head it hardly uses
                and state.step >= config.prune_from
                and state.step % _PRUNE_EVERY == 0
            ):
                assignment.prune_below(config.prune_below)
                if state.drop_pruned():
                    batch_macs = count_batch_macs()
            yield StepRecord(
                state.step, task_losses, loss_matrix, network.widen(assignment.probabilities()),
                tau, lr_assignment * state.lr_scale, closing,
            )  # fmt: skip


def _end_epoch(state: TrainState, data: TaskData, epoch: int) -> None:
    """Move the learning-rate schedule, which may ask for the validation loss."""
    if state.config.schedule == "multistep":
        state.lr_scale = 0.5 ** (epoch // _MILESTONE)
    elif state.config.schedule == "plateau":
        losses = evaluate(state.network, data.val, with_errors=False).losses
        if bad := [name for name, loss in losses.items() if not isfinite(loss)]:
            raise FloatingPointError(
                f"the validation loss of task {bad[0]!r} is {losses[bad[0]]} after epoch {epoch}. "
                "Lower `lr`, or check that the validation split carries its labels."
            )
        val_loss = sum(losses.values())
        state.network.train()
        if val_loss < state.best_val_loss:
            state.best_val_loss, state.bad_epochs = val_loss, 0
        else:
            state.bad_epochs += 1
        if state.bad_epochs > _PLATEAU_PATIENCE:
            state.lr_scale, state.bad_epochs = state.lr_scale / 2, 0


def record_to_history(history: History, records: Sequence[StepRecord]) -> None:
    """Append records to a history: one transfer per array, however many records.

    Raises:
        FloatingPointError: If a loss is not finite; the message names step, task and tau.
    """
    if not records:
        return
    task_losses = torch.stack([record.task_losses for record in records]).cpu().numpy()  # (M, N)
    history.append(
        np.array([record.step for record in records]),
        torch.stack([record.probabilities for record in records]).cpu().numpy(),
        task_losses,
        np.array([record.tau for record in records]),
        np.array([record.lr_assignment for record in records]),
    )
    if closings := [record.closing for record in records if record.closing]:
        history.meta["closings"] = [*history.meta.get("closings", []), *closings]
    for record, losses in zip(records, task_losses, strict=True):
        _check_finite(record, losses, history.task_names)


def _check_finite(record: StepRecord, losses: np.ndarray, task_names: Sequence[str]) -> None:
    bad = ~np.isfinite(losses)  # (N,)
    if bad.any():
        raise FloatingPointError(
            f"the loss of task {task_names[bad.argmax()]!r} is {losses[bad.argmax()]} at step "
            f"{record.step} "
            f"(tau {record.tau:g}). Lower `lr`, or check the images and labels."
        )


def fit(
    network: GroupedNetwork,
    data: TaskData,
    config: TrainConfig,
    *,
    n_steps: int | None = None,
    stop_at: int | None = None,
    seed: int | None = None,
    run: tuple[History, TrainState] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    record_every: int | None = None,
    progress: str | None = None,
) -> tuple[History, TrainState]:
    """Train and record it, to the end or to a stop on the way.

    Args:
        network, data, config, n_steps, seed: As for `train_steps`.
        stop_at: Step to stop at; ``None``: ``n_steps``.
        run: What an earlier call for the same network returned, to go on from there.
        checkpoint: File to save to and, if it is there already, to continue from: the run then ends
            with the same weights and history, bit for bit on a CPU. A finished one returns at once.
        checkpoint_every: Steps between saves; there is always one at the end.
        record_every: Steps between records of the history; the last step is always recorded.
            ``None``: every step, thinned in long runs to about 5,000 records, so that checkpoints
                stay small.
        progress: Label of a progress bar (needs tqdm); ``None``: silent.

    Returns:
        The history, and the final state (``state.network`` is ``network``, trained).

    Raises:
        FloatingPointError: If a loss stops being finite.
        ValueError: If the checkpoint belongs to another run, or an interval is below 1.
    """
    n_steps = config.count_steps(len(data.train))[1] if n_steps is None else n_steps
    stop_at = n_steps if stop_at is None else stop_at
    record_every = max(1, n_steps // _MAX_RECORDS) if record_every is None else record_every
    if checkpoint_every < 1 or record_every < 1:
        raise ValueError(
            f"`checkpoint_every` and `record_every` must be >= 1, got {checkpoint_every} and "
            f"{record_every}."
        )
    if run is None:
        run = History(data.task_names, network.n_opened), TrainState(network, config, seed=seed)
    history, state = run
    fingerprint = data.fingerprint()
    if not state.step and checkpoint is not None and Path(checkpoint).exists():
        tensors, meta = load_checkpoint(checkpoint)
        if meta.get("data") != fingerprint:
            raise ValueError(
                f"the checkpoint {checkpoint} was made on {meta.get('data')}; this run has "
                f"{fingerprint}. "
                "Resume with the same data, or start in a new folder."
            )
        state.restore(tensors, meta)
        history.append(*(tensors[f"history.{name}"].numpy() for name in History.ARRAYS))
        if state.closings:
            history.meta["closings"] = list(state.closings)
    pending: list[StepRecord] = []

    def save(last: StepRecord) -> None:
        record_to_history(history, pending)
        pending.clear()
        _check_finite(last, last.task_losses.cpu().numpy(), data.task_names)  # it may be unrecorded
        if checkpoint is not None:
            arrays = {
                f"history.{name}": torch.tensor(getattr(history, name)) for name in History.ARRAYS
            }
            save_checkpoint(
                checkpoint, state.to_tensors() | arrays, state.to_meta() | {"data": fingerprint}
            )

    steps = train_steps(network, data, config, n_steps=n_steps, state=state)
    steps = islice(steps, max(stop_at - state.step, 0))
    for record in _with_progress(steps, progress, state.step, stop_at):
        if record.step % record_every == 0 or record.step == stop_at or record.closing:
            pending.append(record)
        if record.step % checkpoint_every == 0 or record.step == stop_at:
            save(record)
    if state.elbow is not None:
        history.meta["elbow"] = state.elbow
    return history, state


def _with_progress(
    steps: Iterator[StepRecord], label: str | None, start: int, n_steps: int
) -> Iterator[StepRecord]:
    if label is None:
        return steps
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError('a progress bar needs tqdm: pip install "dmtg-lite[data]".') from error
    return tqdm(steps, desc=label, initial=start, total=n_steps, leave=False)


def pretrain(
    data: TaskData, config: TrainConfig, *, seed: int | None = None, checkpoint: str | Path | None = None,
    checkpoint_every: int = 500, progress: str | None = None,
) -> tuple[GroupedNetwork, TrainState]:  # fmt: skip
    """Train the Naive MTL network whose copies every grouping starts from (section 4.1)."""
    network = build_network(data, config, seed=seed)
    n_steps = config.count_steps(len(data.train))[0]
    _, state = fit(
        network, data, config, n_steps=n_steps, seed=derive_seed(config.seed if seed is None else seed, 3),
        checkpoint=checkpoint, checkpoint_every=checkpoint_every, progress=progress,
    )  # fmt: skip
    return network, state


def branch_out(
    naive: GroupedNetwork, n_groups: int | str, config: TrainConfig, *, seed: int | None = None
) -> GroupedNetwork:
    """Copies of a pretrained Naive MTL network with a learned assignment, S = 1/K.

    K copies, and ``config.spare_branches`` more that training will close again; see
    `TrainConfig.count_branches`.
    """
    n_branches, n_spare = config.count_branches(n_groups, len(naive.tasks))
    generator = torch.Generator().manual_seed(derive_seed(config.seed if seed is None else seed, 7))
    network = naive.branch_out(n_branches, jitter=config.jitter, generator=generator)
    network.n_spare = n_spare
    return network
