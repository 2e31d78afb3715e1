"""A run gives the same numbers whatever torch settings its caller has, and gives them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import CONFIG, DENSE_CONFIG, make_data, make_pictures

from dmtg_lite import data as library
from dmtg_lite import methods, train_steps
from dmtg_lite.core import sealed as module
from dmtg_lite.core.config import Spare
from dmtg_lite.core.sealed import choose_threads, sealed
from dmtg_lite.methods import MethodResult
from dmtg_lite.methods.search import meta_learner
from dmtg_lite.runs.fit import branch_out, build_network

DATA = make_data()
SPARE = replace(CONFIG, pretrain=4, spare=Spare(branches=1, close_from=4), jitter=0.01)


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


AMBIENT: dict[str, Callable[[], AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "default_dtype": default_dtype,
    "default_device": default_device,
}
METHODS: dict[str, Callable[[], MethodResult]] = {
    "dmtg": lambda: methods.dmtg(DATA, 2, SPARE),
    "naive": lambda: methods.naive(DATA, 1, CONFIG),
    "hoa": lambda: methods.hoa(DATA, 2, CONFIG),
    "tag": lambda: methods.tag(DATA, 2, CONFIG),
    "mtg_net": lambda: methods.mtg_net(DATA, 2, CONFIG, n_rounds=1),
    "prune_finetune": lambda: methods.prune_finetune(DATA, 2, replace(CONFIG, pretrain=2)),
    "dense": lambda: methods.dmtg(make_pictures(), 2, DENSE_CONFIG),
}


@pytest.fixture(autouse=True)
def short_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether MTG-Net's learner learns much is not asked here."""
    monkeypatch.setattr(meta_learner, "_EPOCHS", 3)


@pytest.fixture(scope="module")
def plain() -> dict[str, MethodResult]:
    return {}


@pytest.mark.parametrize(
    ("method", "ambient"),
    [
        *[("dmtg", ambient) for ambient in AMBIENT],
        ("naive", "default_device"),
        ("hoa", "default_dtype"),
        ("hoa", "default_device"),
        ("tag", "autocast"),
        ("tag", "inference_mode"),
        ("mtg_net", "inference_mode"),
        ("mtg_net", "default_device"),
        ("prune_finetune", "inference_mode"),
        ("dense", "autocast"),
    ],
)
def test_a_method_gives_the_same_numbers(
    method: str, ambient: str, plain: dict[str, MethodResult]
) -> None:
    """Weights, losses and errors bit for bit."""
    expected = plain.setdefault(method, METHODS[method]())
    with AMBIENT[ambient]():
        result = METHODS[method]()
    assert result.task_losses == expected.task_losses
    assert result.task_errors == expected.task_errors
    for own, other in zip(result.network.parameters(), expected.network.parameters(), strict=True):
        assert own.dtype == torch.float32
        assert np.array_equal(own.detach().numpy(), other.detach().numpy())


@pytest.mark.parametrize("ambient", AMBIENT)
def test_the_generator_gives_the_same_steps_and_the_settings_back(ambient: str) -> None:
    """Between two steps the caller's settings stand."""

    def losses() -> list[list[float]]:
        network = branch_out(build_network(DATA, CONFIG), 2, CONFIG)
        found = []
        for record in train_steps(network, DATA, CONFIG):
            now = settings()
            assert now == before
            found.append(record.task_losses.tolist())
        return found

    before = settings()
    expected = losses()
    with AMBIENT[ambient]():
        before = settings()
        assert losses() == expected


def settings() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )


@pytest.mark.parametrize("ambient", AMBIENT)
def test_toy_data_are_the_same(ambient: str) -> None:
    """Drawn images, and what is trained on them."""

    def draw() -> list[str]:
        small = {"n_train": 16, "n_val": 4, "n_test": 4}
        made = [library.toy_faces(**small), library.toy_rooms(**small), library.digits()]
        return [one.fingerprint() for one in made]

    expected = draw()
    with AMBIENT[ambient]():
        assert draw() == expected


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_little_work_gets_one_thread_and_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In steps and evaluation; the log says so. A failure on the way changes nothing."""
    network = branch_out(build_network(DATA, CONFIG), 2, CONFIG)
    seen = []
    monkeypatch.setattr(
        network, "compute_loss_matrix", lambda *_: seen.append(torch.get_num_threads())
    )
    monkeypatch.setenv("DMTG_PLAIN", "1")  # the form that asks the network itself
    steps = train_steps(network, DATA, CONFIG)
    module._say.cache_clear()  # said once a process
    with caplog.at_level("INFO", logger="dmtg_lite"), pytest.raises(TypeError):
        next(steps)
    assert seen == [1]
    assert torch.get_num_threads() == 2
    assert "1 of 2 threads" in caplog.text


@pytest.mark.usefixtures("two_threads")
def test_much_work_gets_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """And never more than the caller has."""
    network = build_network(DATA, CONFIG)
    assert choose_threads(network, DATA.feature_shape, 16) == 1
    assert choose_threads(network, DATA.feature_shape, 10**9) == 2
    with sealed(1):
        assert choose_threads(network, DATA.feature_shape, 10**9) == 1
