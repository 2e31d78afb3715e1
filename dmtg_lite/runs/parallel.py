"""One run in several processes: torchrun starts them, DistributedDataParallel averages gradients.

All ranks take the same steps, each with its own rows of every batch; what is decided between two
steps is decided by numbers that all of them have. Files are the first rank's alone. Without
torchrun the world is of one process, and nothing here does anything.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dmtg_lite.core.batches import Targets, count_labels
from dmtg_lite.core.record import Knobs
from dmtg_lite.core.state import TrainState, follow_objective
from dmtg_lite.runs.batch_norm import share_batch_norm

if TYPE_CHECKING:
    from dmtg_lite.runs.fit import Watch

_Any = TypeVar("_Any")
_leaving = threading.Lock()
_TIMEOUT = timedelta(minutes=10)  # that one rank may be busy by itself, e.g. writing a checkpoint
_KEPT = (
    "What was saved is kept: the same command with --resume goes on, in as many processes as you "
    "like."
)


@dataclass(frozen=True, slots=True)
class World:
    """The processes that share a run, seen from one of them: number ``rank`` of ``size``.

    All ranks call the same methods in the same order; a rank that does not leaves the others
    waiting.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True for the one that reads and writes files, and for a process by itself."""
        return self.rank == 0

    def first(self, compute: Callable[[], _Any]) -> _Any:
        """What the first rank computes, on all of them; where that fails, its error."""
        if self.size == 1:
            return compute()
        answer: list[Any] = [None, None]
        if self.is_first:
            try:
                answer[0] = compute()
            except Exception as error:  # noqa: BLE001  the others must not wait for an answer
                answer[1] = error
        dist.broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def add(self, *sums: Tensor) -> None:
        """Replace each tensor by its sum over all ranks, the same bits on every one."""
        if self.size > 1:
            for own in sums:
                dist.all_reduce(own)

    def cut(self, n_rows: int) -> range:
        """This rank's part of ``n_rows`` rows that are looked at once."""
        return range(n_rows * self.rank // self.size, n_rows * (self.rank + 1) // self.size)

    def check_alike(self, **facts: Any) -> None:
        """Refuse to go on where ranks differ in what must be the same.

        Raises:
            ValueError: On all ranks, with the name and both values.
        """
        if self.size == 1:
            return
        all_facts: list[Any] = [None] * self.size
        dist.all_gather_object(all_facts, facts)
        for rank, found in enumerate(all_facts):
            for name, value in found.items():
                if value != all_facts[0][name]:
                    raise ValueError(
                        f"the processes of this run differ in `{name}`: {all_facts[0][name]} in "
                        f"the first, {value} in number {rank}. Start all of them with the same "
                        "command, data and versions."
                    )

    def share(self, state: TrainState, n_rows: int) -> None:
        """Let a state take its steps together with those of the other ranks.

        Args:
            state: The same on every rank; the first one's weights are taken.
            n_rows: Of the training split.

        Raises:
            ValueError: If a rank would be without rows, or a step cannot be shared.
        """
        if self.size == 1:
            return
        _check_device(state.network.device)
        least = min(state.config.batch_size, n_rows)
        if least < self.size:
            raise ValueError(
                f"a batch of {least} rows cannot be shared by {self.size} processes: `batch_size` "
                "counts the rows of all together. Raise it, or start fewer."
            )
        if state.backward is not follow_objective:
            raise ValueError(
                "this method combines the gradients of single tasks, which is not shared by "
                "processes: start it without torchrun."
            )
        share_batch_norm(state.network)
        state.share = (self.rank, self.size)
        state.program = SharedProgram(self, state)

    def watch(self, own: Watch) -> Watch:
        """A watch of the first rank that all others obey."""
        return own if self.size == 1 else _SharedWatch(self, own)

    def check_in_step(self, state: TrainState) -> None:
        """Refuse to go on where steps, draws of Z or S have parted."""
        if self.size > 1:
            logits = state.network.assignment.masked_logits().detach().cpu()
            noise = zlib.crc32(state.noise.get_state().numpy().data)
            logits = zlib.crc32(logits.contiguous().numpy().data)
            self.check_alike(step=state.step, noise=noise, assignment=logits)


class _SharedWatch:
    """What the first rank is asked before a step, and the knobs as it says that they stand.

    A pause is many short answers, so that the others wait for nothing long.
    """

    def __init__(self, world: World, own: Watch) -> None:
        self._world, self._own, self.knobs, self.turns = world, own, Knobs(), own.turns
        self.begin, self.count, self.log = own.begin, own.count, own.log
        self.turn, self.tell, self.show = own.turn, own.tell, own.show

    def may_step(self, step: int) -> bool:
        def ask() -> tuple[bool, float | None, float | None]:
            may, knobs = self._own.may_step(step), self._own.knobs
            return may, knobs.tau, knobs.lr_assignment

        may, self.knobs.tau, self.knobs.lr_assignment = self._world.first(ask)
        return may

    def wait(self) -> None:
        if self._world.is_first:
            self._own.wait()


class _Losses(nn.Module):
    """What DistributedDataParallel wraps: losses as a function of all weights but S, whose gradient
    every rank has whole."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)  # and no buffers, which nobody has to send

    def forward(self, compute: Callable[..., Any], inputs: Tensor, targets: Targets) -> Any:
        return compute(inputs, targets)


class SharedProgram:
    """The loss matrix of the batch of all ranks: its values everywhere, its gradient in parts.

    A mean over the labelled rows of all is the ranks' means weighed by their counts of labels, so
    one message of (N, K + 1) numbers a step is enough. Every rank then has the same L, and makes
    the same objective and the same gradient of S of it.
    """

    def __init__(self, world: World, state: TrainState) -> None:
        self._world, self._state, self.layout = world, state, state.network.layout
        self._weights: Any = None
        self._wrapped: nn.Module | None = None
        self._is_new = True

    def compute_loss_matrix(self, inputs: Tensor, targets: Targets) -> Tensor:
        """As `GroupedNetwork.compute_loss_matrix`, of the rows of all ranks."""
        own = self._wrap()(self._state.network.compute_loss_matrix, inputs, targets)
        return self._settle([own], targets)[0]

    def compute_split_losses(self, inputs: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """As `GroupedNetwork.compute_split_losses`, of the rows of all ranks."""
        both = self._wrap()(self._state.network.compute_split_losses, inputs, targets)
        held, free = self._settle(both, targets)
        return held, free

    def undo(self) -> None:
        """Nothing: the weights are the network's own all the time."""

    def _settle(self, parts: Sequence[Tensor], targets: Targets) -> list[Tensor]:
        """From this rank's matrices, equal in value, to those of all."""
        own, size = parts[0].detach(), self._world.size
        counts = count_labels(targets, self._state.network.tasks).to(own.dtype)[:, None]  # (N, 1)
        sums = torch.cat([own * counts, counts], dim=1)  # (N, K + 1)
        self._world.add(sums)
        n_labels = sums[:, -1:].clamp_min(1)
        together = sums[:, :-1] / n_labels  # L over the rows of all ranks
        weighed = [part * (counts * size / n_labels) for part in parts]  # means over ranks to be
        return [part - part.detach() + together for part in weighed]  # that value, our gradient

    def _wrap(self) -> nn.Module:
        """Anew wherever weights have left: then the optimiser has another list of them."""
        weights = self._state.optimizers["weights"].param_groups[0]["params"]
        if self._wrapped is None or weights is not self._weights:
            self._weights, self._is_new, self._wrapped = weights, True, None  # memory first
            self._wrapped = nn.parallel.DistributedDataParallel(_Losses(weights))
        elif self._is_new:  # after one step
            self._is_new = False
            _check_all_used(self._state)
        return self._wrapped


def _check_all_used(state: TrainState) -> None:
    """Every weight has a part in every L, but in an encoder of a reader's own: all ranks would have
    to look for those without at every step."""
    named = state.network.named_parameters()
    unused = [name for name, one in named if one.requires_grad and one.grad is None]
    if unused:
        raise ValueError(
            f"{len(unused)} weights of the network get no gradient ({unused[0]}, ...), which "
            "processes cannot share: freeze them with requires_grad_(False), or take them out."
        )


def _check_device(device: torch.device) -> None:
    """Each process has a GPU of its own, or all are on CPUs."""
    if device.type == "cpu":
        return
    own = int(os.environ.get("LOCAL_RANK", 0))
    if device.type != "cuda" or device.index != own:
        raise ValueError(
            f"process {own} of this machine would train on {device}: under torchrun give --device "
            "cuda, of which each takes its own, or cpu."
        )


_world = World()


def world() -> World:
    """The processes that take part in what runs now: one, but inside of `joined`."""
    return _world


@contextmanager
def joined() -> Iterator[World]:
    """Be one of the processes that torchrun started, if it did.

    Inside, "cuda" is the GPU of this process, and only the first one prints and warns.

    Where another process of the run ends before its time, this one says so in one line and ends
    too.
    """
    global _world
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield _world
        return
    _take_device()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    before = _world
    with _last_words():
        try:
            dist.init_process_group(backend, timeout=_TIMEOUT)
            _world = World(dist.get_rank(), dist.get_world_size())
            with nullcontext() if _world.is_first else _silent():
                yield _world
            dist.barrier()  # whoever is done early leaves no other in the middle of a sum
        except RuntimeError as error:
            if not _is_of_network(error):
                raise
            why = f"another process of this run has ended, or was not heard of for {_TIMEOUT}"
            _leave(why, code=2)
        finally:
            _world = before
            if dist.is_initialized():
                dist.destroy_process_group()


@contextmanager
def _silent() -> Iterator[None]:
    """What all processes would say alike the first one says. Errors are everybody's own."""
    with ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings(action="ignore"))
        undo.enter_context(
            redirect_stdout(undo.enter_context(open(os.devnull, "w", encoding="utf-8")))
        )
        logging.disable(logging.WARNING)
        undo.callback(logging.disable, logging.NOTSET)
        yield


@contextmanager
def _last_words() -> Iterator[None]:
    """When one process ends, torchrun ends the others by SIGTERM: let them say so.

    From a thread, since the main one may wait for a device or for the process that has ended.
    """
    # Windows wakes nobody through a pipe, and its processes are not ended by a signal
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)

    def watch() -> None:
        while told := os.read(read, 1):  # the number of a signal; nothing at the end
            if told[0] == signal.SIGTERM:
                why = "ended by SIGTERM, as torchrun does when another process of a run has ended"
                _leave(why, code=128 + signal.SIGTERM)

    thread = threading.Thread(target=watch, name="dmtg-signals", daemon=True)
    thread.start()
    handler, wakeup = signal.signal(signal.SIGTERM, lambda *_: None), signal.set_wakeup_fd(write)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, handler)
        os.close(write)
        thread.join()
        os.close(read)


def _leave(why: str, *, code: int) -> NoReturn:
    """Say one line, whichever thread comes first, and end."""
    with _leaving:
        print(f"dmtg-lite: {why}. {_KEPT}", file=sys.stderr, flush=True)
        os._exit(code)


def _take_device() -> None:
    if torch.cuda.is_available():
        own, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own >= there:
            raise ValueError(
                f"process {own + 1} of this machine finds {there} GPUs: start as many with "
                "--nproc-per-node, or hide the GPUs (CUDA_VISIBLE_DEVICES=) to train on CPUs."
            )
        torch.cuda.set_device(own)


def _is_of_network(error: RuntimeError) -> bool:
    """Torch's own kind, or one of gloo's, which is a plain RuntimeError."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
