"""A graphed step is the step: on the CPU with a tape for a graph; with a GPU in `test_cuda.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_runs import CONFIG, DATA, PICTURES, assert_equal, start
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dmtg_lite import TaskData, TrainConfig
from dmtg_lite.core.config import HeadOptions, Pruning, Spare
from dmtg_lite.core.record import Knobs
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.step import take_steps
from dmtg_lite.runs import graph as module
from dmtg_lite.runs.between import choose_callbacks
from dmtg_lite.runs.fit import train_steps
from dmtg_lite.runs.graph import GraphedStep, choose_learn

# rates that float32 holds as they are, as do their halves
BASE = replace(CONFIG, lr=2**-7, lr_assignment=2**-3, steps=16, jitter=0.01)
DENSE = replace(BASE, encoder="xception_small", batch_size=4, steps=8, tau=4.0, lr=2**-10)


@pytest.fixture(autouse=True)
def plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a graph is made of; the stacked form rounds otherwise."""
    monkeypatch.setenv("DMTG_PLAIN", "1")


class Tape(TorchDispatchMode):
    """Every kernel of a call, to be done again in the same memory: what a CUDA graph holds."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        assert name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"), name
        result = func(*args, **(kwargs or {}))
        self.kernels.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():  # kernels know no gradients
            self._replay()

    def _replay(self) -> None:
        for func, args, kwargs, made in self.kernels:
            if func.is_view:
                continue  # it sees what lies there now
            again = func(*args, **kwargs)
            if not func._schema.is_mutable:
                for own, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(own, Tensor) and own.data_ptr() != new.data_ptr():
                        own.copy_(new)


class Capture:
    """A tape for a graph. As on a GPU, what is captured is not done."""

    def __init__(self, state: TrainState) -> None:
        self.state, self.n_made = state, 0

    def __call__(self, call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.n_made += 1
        moments = [entry for one in self.state.optimizers.values() for entry in one.state.values()]
        memory = [*self.state.network.parameters(), *self.state.network.buffers()]
        memory += [value for entry in moments for value in entry.values()]
        before = [one.detach().clone() for one in memory]
        with Tape() as tape:
            seen = call()
        with torch.no_grad():
            for own, old in zip(memory, before, strict=True):
                own.copy_(old)
            for one in seen:
                one.fill_(torch.nan)  # nothing is there before a replay
        return tape.replay, seen


def train(config: TrainConfig, data: TaskData, *, graphed: bool) -> tuple[Any, ...]:
    """Losses, matrices and weights of a run, how often a graph was made, and all records."""
    state = TrainState(start(config, data=data), config)
    capture, knobs, records = Capture(state), Knobs(), []
    how = {"learn": GraphedStep(capture)} if graphed else {}
    callbacks = choose_callbacks(state, data, config.steps)
    for record in take_steps(state, data, config.steps, knobs=knobs, between=callbacks, **how):
        records.append(record)
        if record.step == 9:
            knobs.tau, knobs.lr_assignment = 0.5, 2**-5
    seen = [(one.task_losses, one.loss_matrix, one.probabilities) for one in records]
    return seen, dict(state.network.state_dict()), capture.n_made, records


CASES: dict[str, tuple[dict, TaskData, int]] = {
    "plain": ({}, DATA, 1),
    "annealed": ({"tau": (4.0, 0.5), "estimator": "straight_through"}, DATA, 1),
    "softmax": ({"estimator": "softmax", "normalise_losses": True}, DATA, 1),
    "closing": (
        {"spare": Spare(branches=1, close_from=6), "heads": HeadOptions(train_all=True)},
        DATA,
        2,
    ),
    "sgd": ({"optimiser_assignment": "sgd", "heads": HeadOptions(hidden=4)}, DATA, 1),
    "multistep": (
        {"schedule": "multistep", "steps": None, "epochs": 16, "batch_size": 70, "lr": 0.5},
        DATA,
        1,
    ),
    "resnet": ({"encoder": "resnet", "precision": "bfloat16", "steps": 6}, DATA, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_gives_the_same_run(case: str) -> None:
    """Bit for bit, though tau, rates and noise change; made anew when a branch has closed."""
    change, data, n_graphs = CASES[case]
    config = replace(BASE, **change)
    config = replace(config, steps=config.steps or 16, epochs=None)
    *expected, _, records = train(config, data, graphed=False)
    *found, n_made, graphed = train(config, data, graphed=True)
    assert_equal(found, expected)
    assert n_made == n_graphs
    told = [(one.step, one.tau, one.lr_assignment, one.closing) for one in graphed]
    assert told == [(one.step, one.tau, one.lr_assignment, one.closing) for one in records]


@pytest.mark.slow
def test_a_graph_is_made_anew_when_decoders_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of dense tasks, whose heads are let go of one by one."""
    monkeypatch.setattr("dmtg_lite.runs.between._PRUNE_EVERY", 5)
    config = replace(DENSE, steps=10, pruning=Pruning(below=0.32, start=1), lr_assignment=2.0)
    *expected, _, _ = train(config, PICTURES, graphed=False)
    *found, n_made, _ = train(config, PICTURES, graphed=True)
    assert_equal(found, expected)
    assert n_made == 2


def test_optimisers_are_as_before_after_a_capture() -> None:
    """Rates are numbers again, or a checkpoint and a schedule would find tensors."""
    state = TrainState(start(BASE), BASE)
    list(take_steps(state, DATA, 5, learn=GraphedStep(Capture(state))))
    groups = [one.param_groups[0] for one in state.optimizers.values()]
    assert [group["lr"] for group in groups] == [2**-7, 2**-3]
    assert not any(group["capturable"] for group in groups)


def test_what_cannot_be_captured_is_taken_as_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    """Said once; the run is the same."""

    def refuse(call: Callable[[], Any]) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    expected = list(train_steps(start(BASE), DATA, BASE))
    state = TrainState(start(BASE), BASE)
    with caplog.at_level(logging.WARNING, "dmtg_lite"):
        found = list(take_steps(state, DATA, 16, learn=GraphedStep(refuse)))
    assert_equal(*([one.task_losses for one in run] for run in (found, expected)))
    assert caplog.text.count("no CUDA graph: operation not permitted") == 1


def test_a_graph_is_asked_for_and_there_must_be_a_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else steps are taken as they come, and the log says why."""
    state = TrainState(start(), CONFIG)
    assert choose_learn(state) is module.learn
    state.config = replace(CONFIG, cuda_graph=True)
    with caplog.at_level(logging.WARNING, "dmtg_lite"):
        assert choose_learn(state) is module.learn
    assert "the network is on cpu" in caplog.text
    assert module._find_obstacle(state)
    monkeypatch.setattr(type(state.network), "device", torch.device("cuda:0"))
    assert not module._find_obstacle(state)
    state.backward = lambda total, losses: None
    assert "gradients" in module._find_obstacle(state)


def test_a_run_with_a_graph_is_the_run_without(tmp_path) -> None:
    """A checkpoint of the one goes on as the other: the option decides on no number."""
    from small_runs import assert_same_run, run

    path, asked = tmp_path / "run.safetensors", replace(CONFIG, cuda_graph=True)
    run(CONFIG, stop_at=5, checkpoint=path)
    found = run(asked, checkpoint=path)
    assert_same_run(found, run(CONFIG))
