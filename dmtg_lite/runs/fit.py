"""Training and recording it: to the end, to a stop on the way, and on from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from dmtg_lite.core.config import NGroups, TrainConfig
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.memory import keep_freed_memory
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.record import Knobs, StepRecord
from dmtg_lite.core.sealed import choose_threads, sealed
from dmtg_lite.core.seeds import Stream, derive_seed, drawing
from dmtg_lite.core.stacked import Stack, can_stack
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.step import take_steps
from dmtg_lite.core.tasks import Task
from dmtg_lite.encoders import build_encoder
from dmtg_lite.runs.between import choose_callbacks
from dmtg_lite.runs.checkpoint import restore_run, save_run
from dmtg_lite.runs.folder import CHECKPOINTS, State
from dmtg_lite.runs.folder_writer import FolderWriter, describe_run
from dmtg_lite.runs.graph import choose_learn
from dmtg_lite.runs.history import History
from dmtg_lite.runs.loggers import Log, Logger, as_log
from dmtg_lite.runs.parallel import world
from dmtg_lite.runs.progress import with_progress

_MAX_RECORDS = 5000  # about as many as a history keeps of a long run


@sealed()
def build_network(
    data: TaskData, config: TrainConfig, *, seed: int | None = None
) -> GroupedNetwork:
    """A freshly initialised Naive MTL network for this data, on the data's device."""
    network = build_naive(data.tasks, data.feature_shape, config, seed=seed)
    if min(config.batch_size, len(data.train)) == 1:
        _check_one_row(network, data)
    return network.to(data.device)


@torch.no_grad()
def _check_one_row(network: GroupedNetwork, data: TaskData) -> None:
    """Refuse batches of one row where a layer needs several, as batch norm does."""
    with drawing(0):
        try:
            deepcopy(network).train()(data.train.features[:1].cpu())
        except ValueError as error:
            raise ValueError(
                f"the encoder cannot learn from batches of one row: {error}. Raise `batch_size`, "
                "give more training rows, or take an encoder without batch norm."
            ) from error


def build_naive(
    tasks: Sequence[Task],
    feature_shape: tuple[int, ...],
    config: TrainConfig,
    *,
    seed: int | None = None,
) -> GroupedNetwork:
    """The same for tasks and rows of some shape, on the CPU."""
    with drawing(derive_seed(config.seed if seed is None else seed, Stream.WEIGHTS)):
        encoder = build_encoder(
            config.encoder, feature_shape, capacity=config.capacity, pretrained=config.pretrained
        )
        network = GroupedNetwork.naive(
            tasks, encoder, shared=config.shared, head_hidden=config.heads.hidden
        )
    if config.heads.train_all and encoder.decoder:
        raise ValueError(
            "`heads.train_all` computes every head twice, which suits light heads, not the "
            "decoders of dense tasks. Leave it False."
        )
    if not any(weight.requires_grad for weight in network.branches[0].parameters()):
        raise ValueError(
            f"`shared={config.shared}` leaves the branches nothing to train, so that groups would "
            f"be all alike: the encoder has {len(encoder.stages)} stages, share fewer."
        )
    # pyright knows no memory format of modules
    layout: dict[str, Any] = {"memory_format": torch.channels_last}
    return network.to(**layout)


@sealed()
def branch_out(
    naive: GroupedNetwork, n_groups: NGroups, config: TrainConfig, *, seed: int | None = None
) -> GroupedNetwork:
    """Copies of a pretrained Naive MTL network with a learned assignment, S = 1/K.

    K copies, and spare ones that training will close again; see `TrainConfig.count_branches`.
    """
    n_branches, n_spare = config.count_branches(n_groups, len(naive.tasks))
    generator = torch.Generator()
    generator.manual_seed(derive_seed(config.seed if seed is None else seed, Stream.JITTER))
    network = naive.branch_out(n_branches, jitter=config.jitter, generator=generator)
    network.n_spare = n_spare
    return network


def train_steps(
    network: GroupedNetwork,
    data: TaskData,
    config: TrainConfig,
    *,
    n_steps: int | None = None,
    knobs: Knobs | None = None,
    seed: int | None = None,
) -> Iterator[StepRecord]:
    """Train in place, one optimisation step per `next()`, with all that the config asks for.

    Args:
        network: Learned or fixed assignment; both take the same path.
        data: On the same device as the network, or streamed to it (`TaskData.stream_to`).
        config: See `TrainConfig`.
        n_steps: Steps in the whole run; ``None``: what the config says after pretraining.
        knobs: Temperature and learning rate of S to turn while the run goes on.
        seed: Seed of batches and noise; ``None``: the config's.

    Yields:
        One `StepRecord` per step; `core.step` has the step itself.
    """
    state = TrainState(network, config, seed=seed)
    n_steps = config.count_steps(len(data.train))[1] if n_steps is None else n_steps
    yield from continue_steps(state, data, n_steps, knobs=knobs)


def continue_steps(
    state: TrainState,
    data: TaskData,
    n_steps: int,
    *,
    knobs: Knobs | None = None,
    validate_every: int = 0,
) -> Iterator[StepRecord]:
    """The same from where a state stands, which owns network, config and seed.

    ``validate_every`` is that of `fit`.
    """
    world().share(state, len(data.train))
    callbacks = choose_callbacks(state, data, n_steps, validate_every=validate_every)
    how = {"knobs": knobs, "between": callbacks, "learn": choose_learn(state)}
    steps = take_steps(state, data, n_steps, **how)
    n_threads = choose_threads(state.network, data.feature_shape, state.config.batch_size)
    opened: list[int] = []
    is_stacked = False
    if state.network.device.type == "cpu":
        keep_freed_memory()
    rank = world().rank
    while True:
        # a step at a time: between two, the caller's settings and random numbers are back
        path = (state.step, rank) if rank else (state.step,)  # ranks drop units of their own rows
        seed = derive_seed(state.seed, Stream.LAYERS, *path)
        with sealed(n_threads), drawing(seed, state.network.device):
            if opened != state.network.branch_ids:  # at first, and where branches closed
                opened = list(state.network.branch_ids)
                is_stacked = can_stack(state, data.feature_shape)
            if is_stacked and state.program is state.network and state.step < n_steps:
                Stack([state])
            record = next(steps, None)
            if state.step >= n_steps:
                state.unstack()
        if record is None:
            return
        yield record


@sealed()
def fit(
    network: GroupedNetwork,
    data: TaskData,
    config: TrainConfig,
    *,
    n_steps: int | None = None,
    stop_at: int | None = None,
    seed: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    record_every: int | None = None,
    validate_every: int = 0,
    progress: str | None = None,
    folder: str | Path | None = None,
    loggers: Iterable[Logger] | Log = (),
) -> tuple[History, TrainState]:
    """Train and record it, to the end or to a stop on the way.

    Args:
        network, data, config, n_steps, seed: As for `train_steps`.
        stop_at: Step to stop at; ``None``: ``n_steps``.
        checkpoint: File to save to and, if it is there already, to continue from: the run then ends
            with the same weights and history, bit for bit on a CPU. A finished one returns at once.
        checkpoint_every: Steps between saves; there is always one at the end.
        record_every: Steps between records of the history; the last step is always recorded.
            ``None``: every step, thinned in long runs to about 5,000 records.
        validate_every: Steps between looks at loss and error on the validation split, kept in the
            history; 0: none but those that a plateau decides on, one an epoch.
        progress: Label of a progress bar (needs tqdm); ``None``: silent.
        folder: Run folder (see `runs.folder`), from which others can watch and steer the run; its
            checkpoints, where ``checkpoint`` names no other file, go below it.
        loggers: Functions that hear of records as they reach the history; see `runs.loggers`.

    Returns:
        The history, and the final state (``state.network`` is ``network``, trained).

    Raises:
        FloatingPointError: If a loss stops being finite.
        ValueError: If checkpoint or folder belong to another run, or an interval is below 1.
    """
    n_steps = config.count_steps(len(data.train))[1] if n_steps is None else n_steps
    history = History(data.task_names, network.n_opened)
    state = TrainState(network, config, seed=seed)
    facts: dict[str, Any] = {"method": "fit", "n_groups": network.n_groups, "seed": state.seed}
    facts |= {"n_branches": network.n_opened, "n_steps": n_steps, "n_pretraining": 0}
    if folder is not None and checkpoint is None:
        checkpoint = Path(folder) / CHECKPOINTS / "main.safetensors"
    with open_folder(folder, data, config, **facts) as watch:
        continue_fit(
            history,
            state,
            data,
            n_steps,
            stop_at=stop_at,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            record_every=record_every,
            validate_every=validate_every,
            progress=progress,
            watch=watch,
            loggers=as_log(loggers, folder),
        )
    return history, state


class Watch(Protocol):
    """What a loop tells of itself and asks before a step: a `FolderWriter` does, see there."""

    knobs: Knobs
    turns: list[dict[str, Any]]  # of the knobs, see `runs.folder.Turn`

    def begin(self, history: History | None, step: int) -> None: ...
    def may_step(self, step: int) -> bool: ...
    def wait(self) -> None: ...
    def turn(self, step: int, asked: Mapping[str, float | None]) -> None: ...
    def count(self, step: int) -> bool: ...
    def show(self, newest: History) -> None: ...
    def tell(self, state: State, pretrained: int, error: str) -> None: ...
    def log(self, event: str) -> None: ...


class Unwatched:
    """Nobody looks, and every step may be taken."""

    def __init__(self) -> None:
        self.knobs = Knobs()
        self.turns: list[dict[str, Any]] = []

    def begin(self, history: History | None, step: int) -> None:
        self.knobs.tau = self.knobs.lr_assignment = None

    def may_step(self, step: int) -> bool:
        return True

    def wait(self) -> None:
        pass

    def turn(self, step: int, asked: Mapping[str, float | None]) -> None:
        for name, value in asked.items():
            setattr(self.knobs, name, value)

    def count(self, step: int) -> bool:
        return False

    def show(self, newest: History) -> None:
        pass

    def tell(self, state: State, pretrained: int, error: str) -> None:
        pass

    def log(self, event: str) -> None:
        pass


@contextmanager
def open_folder(
    folder: str | Path | None, data: TaskData, config: TrainConfig, **facts: Any
) -> Iterator[Watch]:
    """A run folder for a block, or nothing; ``facts`` are those of `describe_run`."""
    if folder is None:
        yield Unwatched()
        return
    about = describe_run(data, config, world_size=world().size, **facts)
    with FolderWriter(folder, about) if world().is_first else nullcontext(Unwatched()) as watch:
        yield world().watch(watch)


def continue_fit(
    history: History,
    state: TrainState,
    data: TaskData,
    n_steps: int,
    *,
    stop_at: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    record_every: int | None = None,
    validate_every: int = 0,
    progress: str | None = None,
    watch: Watch | None = None,
    is_pretraining: bool = False,
    loggers: Iterable[Logger] | Log = (),
) -> None:
    """`fit` from where a state and its history stand; see there."""
    stop_at = n_steps if stop_at is None else min(stop_at, n_steps)
    record_every = count_record_every(n_steps) if record_every is None else record_every
    watch = watch or Unwatched()
    if checkpoint_every < 1 or record_every < 1:
        raise ValueError(
            f"`checkpoint_every` and `record_every` must be >= 1, got {checkpoint_every} and "
            f"{record_every}."
        )
    fingerprint = data.fingerprint()
    world().check_alike(data=fingerprint, config=str(state.config), seed=state.seed)
    if not state.step and checkpoint is not None and world().first(Path(checkpoint).exists):
        restore_run(checkpoint, state, history, fingerprint, n_steps)
    watch.begin(None if is_pretraining else history, state.step)
    recorder = Recorder(history, record_every, watch)
    steps = continue_steps(state, data, n_steps, knobs=watch.knobs, validate_every=validate_every)
    with as_log(loggers).begin(history) as log:

        def flush() -> None:
            recorder.flush()
            log.tell(history, state.encoder_macs)

        due = range(state.step + 1, stop_at + 1)
        for step in with_progress(due, progress, stop_at, start=state.step):
            while not watch.may_step(step):
                flush()
                watch.wait()
            record = next(steps)
            recorder.take(record, is_kept=step == stop_at)
            is_saved = step % checkpoint_every == 0 or step == stop_at
            if watch.count(step) or is_saved:
                flush()
            if is_saved:
                # recorded or not
                _check_finite(record, record.task_losses.cpu().numpy(), data.task_names)
                world().check_in_step(state)
                if checkpoint is not None and world().is_first:
                    save_run(checkpoint, state, history, fingerprint)
    state.unstack()


class Recorder:
    """Records on their way into a history: thinned, and handed over many at once.

    Args:
        history: Where they go.
        every: Steps from one record to the next; a closing or a look at validation is always kept.
        watch: Is shown the newest record where it is not kept: whoever follows a run of slow steps
            sees it all the same.
    """

    def __init__(self, history: History, every: int, watch: Watch) -> None:
        self._history, self._every, self._watch = history, every, watch
        self._pending: list[StepRecord] = []
        self._newest: StepRecord | None = None

    def take(self, record: StepRecord, *, is_kept: bool = False) -> None:
        """One more step."""
        if record.closing:
            self._watch.log(f"step {record.step}: branch {record.closing['branch']} closed")
        is_told = record.closing or record.elbow or record.validation
        if is_kept or is_told or record.step % self._every == 0:
            self._pending.append(record)
            self._newest = None
        else:
            self._newest = record

    def flush(self) -> None:
        """Hand over what is there; raises what `record_to_history` does."""
        records, self._pending = self._pending, []
        record_to_history(self._history, records)
        if self._newest is not None:
            newest, self._newest = self._newest, None
            shown = self._history.slice(stop=0)
            record_to_history(shown, [newest])
            self._watch.show(shown)


def count_record_every(n_steps: int) -> int:
    """Steps from one record of a history to the next, so that it has about 5,000."""
    return max(1, n_steps // _MAX_RECORDS)


def record_to_history(history: History, records: Sequence[StepRecord]) -> None:
    """Append records to a history: one transfer per array, however many records.

    Raises:
        FloatingPointError: If a loss is not finite; the message names step, task and tau.
    """
    if not records:
        return

    def gather(name: str) -> np.ndarray:
        return torch.stack([getattr(record, name) for record in records]).cpu().numpy()

    task_losses = gather("task_losses")  # (M, N)
    for record in records:  # before the records, with which whoever reads takes them over
        history.tell(record.closing, record.elbow)
        if record.validation is not None:
            history.tell_validation(record.step, record.validation.losses, record.validation.errors)
    history.append(
        np.array([record.step for record in records]),
        gather("probabilities"),
        task_losses,
        np.array([record.tau for record in records]),
        np.array([record.lr_assignment for record in records]),
        gather("loss_matrix"),
    )
    for record, losses in zip(records, task_losses, strict=True):
        _check_finite(record, losses, history.task_names)


def _check_finite(record: StepRecord, losses: np.ndarray, task_names: Sequence[str]) -> None:
    if not np.isfinite(losses).all():  # (N,)
        bad = int(np.isfinite(losses).argmin())
        raise FloatingPointError(
            f"the loss of task {task_names[bad]!r} is {losses[bad]} at step {record.step} (tau "
            f"{record.tau:g}). Lower `lr`, or check features and labels."
        )
