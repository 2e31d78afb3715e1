"""What only a GPU can show: `pytest -m cuda`. Everything here skips where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it products may differ

import pytest
import torch
from small_runs import CONFIG, PICTURES, make_data, start

from dmtg_lite import TaskData, TrainConfig, methods
from dmtg_lite.core.batches import Batches, Lookahead, Order
from dmtg_lite.core.config import HeadOptions, Spare
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import continue_steps, fit

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
BASE = replace(CONFIG, steps=40, encoder="resnet", jitter=0.1, lr=1e-3)
CASES = {
    "plain": BASE,
    "closing": replace(BASE, spare=Spare(branches=1, close_from=12)),
    "sgd": replace(
        BASE, optimiser_assignment="sgd", heads=HeadOptions(train_all=True), tau=(4.0, 1.0)
    ),
    "bfloat16": replace(BASE, precision="bfloat16"),
}


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def data() -> TaskData:
    return make_data(9, size=16)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """float32 is float32, so that runs may be compared."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def list_losses(config: TrainConfig, data: TaskData) -> torch.Tensor:
    state = TrainState(start(config, data=data), config)
    return torch.stack([one.task_losses for one in continue_steps(state, data, config.steps)]).cpu()


@pytest.mark.parametrize("case", CASES)
def test_a_graph_gives_the_same_losses(case: str, data: TaskData) -> None:
    """As steps taken kernel by kernel, through a closing; and no warning that there was none."""
    there, config = data.to("cuda"), CASES[case]
    eager = list_losses(config, there)
    graphed = list_losses(replace(config, cuda_graph=True), there)
    tolerance = 0.1 if case == "bfloat16" else 2e-3
    torch.testing.assert_close(graphed, eager, rtol=tolerance, atol=tolerance)


def test_a_graph_is_made(data: TaskData, caplog: pytest.LogCaptureFixture) -> None:
    """Or the test above compares a run with itself."""
    there = data.to("cuda")
    with caplog.at_level("WARNING", "dmtg_lite"):
        list_losses(replace(BASE, cuda_graph=True), there)
    assert "no CUDA graph" not in caplog.text


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("case", CASES)
def test_a_step_waits_for_nothing(case: str, data: TaskData) -> None:
    """By torch's own watch, which knows copies and events too; closings are outside."""
    there, config = data.to("cuda"), replace(CASES[case], spare=Spare())
    state = TrainState(start(config, data=there), config)
    steps = continue_steps(state, there, config.steps)
    next(steps)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):  # a shuffle of an epoch is copied there once, between these
            next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_streamed_data_give_the_same_run(data: TaskData) -> None:
    """Fetched ahead through pinned memory on one stream, or all on the device.

    Bit for bit, where the kernels are: a batch written over while a step reads it shows at once.
    """
    config = replace(BASE, batch_size=4)
    with deterministic():
        whole, again = (list_losses(config, data.to("cuda")) for _ in range(2))
        assert torch.equal(whole, again), "kernels that repeat themselves"
        assert torch.equal(list_losses(config, data.stream_to("cuda")), whole)


def test_streamed_pictures_are_the_same_batches() -> None:
    """Dense targets too; a step of theirs adds up in no fixed order: batches are compared."""
    there, streamed = PICTURES.to("cuda"), PICTURES.stream_to("cuda")
    config, busy = replace(CONFIG, batch_size=4), torch.ones(2000, 2000, device="cuda")

    def order(one: TaskData) -> Order:
        return Order(len(one.train), config, 0, one.train.features.device)

    resident = Batches(there.train, there.tasks, there.device)
    fetched = Batches(streamed.train, streamed.tasks, streamed.device)
    assert fetched.is_elsewhere
    rows = order(there)
    with Lookahead(fetched, order(streamed)) as ahead:
        for step in range(60):
            busy = (busy @ busy).clamp(-1, 1)  # as a step would: the next copy runs beside it
            (features, targets), (own, labels) = resident.take(rows(step)), ahead.take(step)
            assert torch.equal(own, features)
            for one, other in zip(targets, labels, strict=True):
                torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True)


def test_the_callers_generator_goes_on(data: TaskData) -> None:
    there = data.to("cuda")
    torch.cuda.manual_seed(5)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(5)
    methods.dmtg(there, 2, replace(BASE, steps=5))
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_a_checkpoint_goes_on_on_the_other_device(data: TaskData, tmp_path: Path) -> None:
    """Begun here, ended there: about the losses of one that stayed."""
    path, config = tmp_path / "run.safetensors", replace(BASE, steps=12)
    expected, _ = fit(start(config, data=data), data, config)
    fit(start(config, data=data), data, config, stop_at=6, checkpoint=path)
    there = data.to("cuda")
    found, state = fit(start(config, data=there), there, config, checkpoint=path)
    assert state.step == 12
    torch.testing.assert_close(
        *(torch.tensor(one.task_losses) for one in (found, expected)), rtol=1e-2, atol=1e-2
    )


def test_evaluation_agrees_with_the_cpu(data: TaskData) -> None:
    network = start(BASE, data=data)
    expected = evaluate(network, data.test).losses
    assert evaluate(network.to("cuda"), data.to("cuda").test).losses == pytest.approx(
        expected, rel=1e-4
    )
