"""A training step as one CUDA graph: hundreds of launches become one. Off unless asked for.

A graph does the same to the same memory every time. So whatever differs from step to step (batch,
noise, tau, rates) is copied into tensors that stay where they are, what comes out is copied before
the next replay writes over it, and when a branch closes or a head leaves the graph is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dmtg_lite.core.batches import Targets
from dmtg_lite.core.state import TrainState, follow_objective
from dmtg_lite.core.step import Learn, learn
from dmtg_lite.runs.parallel import world

_log = logging.getLogger("dmtg_lite")
_WARM_UP = 3  # steps before a capture, in which libraries and optimisers set themselves up

Seen = tuple[Tensor, Tensor, Tensor]
Capture = Callable[[Callable[[], Seen]], tuple[Callable[[], None], Seen]]
"""Makes a graph of a call, without doing it: how to replay it, and where its results will lie."""


def choose_learn(state: TrainState) -> Learn:
    """`learn` itself, or as a graph where the config asks for one and there can be one."""
    if not state.config.cuda_graph:
        return learn
    obstacle = _find_obstacle(state)
    if obstacle:
        _log.warning("no CUDA graph: %s. Steps are taken kernel by kernel.", obstacle)
        return learn
    stream = torch.cuda.Stream(state.network.device)
    return GraphedStep(CudaCapture(stream), BesideStream(stream))


def _find_obstacle(state: TrainState) -> str:
    if state.network.device.type != "cuda":
        return f"the network is on {state.network.device}"
    if state.backward is not follow_objective:
        return "this method's gradients depend on values that the host reads"
    if world().size > 1:
        return "several processes share the run"
    return ""


class BesideStream:
    """`learn` as it comes, on a stream of its own, as a capture wants the steps before it."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def __call__(self, *arguments: Any) -> Seen:
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            seen = learn(*arguments)
        here.wait_stream(self._stream)
        for one in seen:
            one.record_stream(here)
        return seen


class CudaCapture:
    """See `Capture`."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    def __call__(self, call: Callable[[], Seen]) -> tuple[Callable[[], None], Seen]:
        graph = torch.cuda.CUDAGraph()
        # another thread may copy the next batch meanwhile, which is no business of this graph
        how = {"stream": self._stream, "capture_error_mode": "thread_local"}
        with torch.cuda.device(self._stream.device), torch.cuda.graph(graph, **how):
            seen = call()
        return graph.replay, seen


class GraphedStep:
    """Does what `learn` does: some steps as they come, then by a graph.

    Args:
        capture: Makes the graph.
        warm_up: Takes the steps before it.
    """

    def __init__(self, capture: Capture, warm_up: Learn = learn) -> None:
        self._capture, self._warm_up = capture, warm_up
        self._form: Any = None
        self._n_to_warm, self._graph = 0, None
        self._is_refused = False

    def __call__(
        self, state: TrainState, inputs: Tensor, targets: Targets, tau: float, gumbel: Tensor | None
    ) -> Seen:
        """One step; see `learn`. Results are copies, which later steps leave alone."""
        form = _describe_form(state, [inputs, *_list(targets)])
        if form != self._form:  # the first step, or a branch or a head has left
            self._form, self._n_to_warm, self._graph = form, _WARM_UP, None
        if self._n_to_warm or self._is_refused:
            self._n_to_warm = max(self._n_to_warm - 1, 0)
            return self._warm_up(state, inputs, targets, tau, gumbel)
        if self._graph is None:
            try:
                self._graph = _Graph(self._capture, state, inputs, targets, gumbel)
            except RuntimeError as error:
                _log.warning("no CUDA graph: %s. Steps go on kernel by kernel.", error)
                self._is_refused = True
                return self(state, inputs, targets, tau, gumbel)
        return self._graph.replay(state, inputs, targets, tau, gumbel)


class _Graph:
    """One graph, and the memory that it reads."""

    def __init__(
        self,
        capture: Capture,
        state: TrainState,
        inputs: Tensor,
        targets: Targets,
        gumbel: Tensor | None,
    ) -> None:
        device = state.network.device
        self._inputs, self._targets = inputs.clone(), [one.clone() for one in _list(targets)]
        self._gumbel = None if gumbel is None else gumbel.clone()
        self._tau = torch.ones((), device=device)
        self._rates = [torch.zeros((), device=device) for _ in state.optimizers]
        held = self._targets if isinstance(targets, list) else self._targets[0]
        with _rates_as_tensors(state, self._rates):
            self._run, self._seen = capture(
                lambda: learn(state, self._inputs, held, self._tau, self._gumbel)
            )

    def replay(
        self, state: TrainState, inputs: Tensor, targets: Targets, tau: float, gumbel: Tensor | None
    ) -> Seen:
        self._inputs.copy_(inputs)
        for own, given in zip(self._targets, _list(targets), strict=True):
            own.copy_(given)
        if self._gumbel is not None and gumbel is not None:
            self._gumbel.copy_(gumbel)
        self._tau.fill_(tau)
        for own, optimizer in zip(self._rates, state.optimizers.values(), strict=True):
            own.fill_(optimizer.param_groups[0]["lr"])
        self._run()
        task_losses, loss_matrix, probabilities = (one.clone() for one in self._seen)
        return task_losses, loss_matrix, probabilities


@contextmanager
def _rates_as_tensors(state: TrainState, rates: list[Tensor]) -> Iterator[None]:
    """Optimisers that read their rates from memory, and know that they are being captured."""
    groups = [optimizer.param_groups[0] for optimizer in state.optimizers.values()]
    before = [{"lr": group["lr"], "capturable": False} for group in groups]
    try:
        for group, rate in zip(groups, rates, strict=True):
            group |= {"lr": rate, "capturable": True}
        yield
    finally:
        for group, own in zip(groups, before, strict=True):
            group |= own


def _describe_form(state: TrainState, tensors: list[Tensor]) -> Any:
    """What a graph is made for: which branches and heads there are, and the form of a batch."""
    network = state.network
    heads = [list(head.served) for head in network.heads]
    return list(network.branch_ids), heads, [(one.shape, one.dtype) for one in tensors]


def _list(targets: Targets) -> list[Tensor]:
    return targets if isinstance(targets, list) else [targets]
