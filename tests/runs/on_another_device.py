"""On another device a run is the same run: proved without one, on a device that is none.

What only a GPU can show is in `test_cuda.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from elsewhere import NAME, Elsewhere
from small_runs import (
    CONFIG,
    DENSE_CONFIG,
    assert_equal,
    assert_same_run,
    make_data,
    make_pictures,
    start,
)

from dmtg_lite import TaskData, methods
from dmtg_lite.cli import main
from dmtg_lite.core import batches as batches_module
from dmtg_lite.core import devices
from dmtg_lite.core.batches import Lookahead
from dmtg_lite.core.config import HeadOptions, Pruning, Spare
from dmtg_lite.core.devices import as_device, describe_arithmetic, place_sums
from dmtg_lite.core.seeds import drawing
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.step import take_steps
from dmtg_lite.methods import MethodResult
from dmtg_lite.runs.checkpoint import load_checkpoint, save_checkpoint
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import fit, train_steps
from dmtg_lite.runs.presets import PAPER, TOY
from dmtg_lite.studies import suites

DATA, PICTURES = make_data(), make_pictures()
SHORT = replace(CONFIG, steps=4)
SPARE = replace(SHORT, pretrain=2, spare=Spare(branches=1, close_from=2), jitter=0.01)
PRUNING = replace(DENSE_CONFIG, steps=3, pruning=Pruning(below=0.3, start=1), lr_assignment=2.0)
PLATEAU = replace(SHORT, schedule="plateau", steps=None, epochs=2, batch_size=35)
METHODS: dict[str, tuple[TaskData, Callable[[TaskData], MethodResult]]] = {
    "closing": (DATA, lambda data: methods.dmtg(data, 2, SPARE)),
    "auto": (DATA, lambda data: methods.dmtg(data, "auto", SPARE)),
    "pictures": (PICTURES, lambda data: methods.dmtg(data, 2, PRUNING)),
    "plateau": (DATA, lambda data: methods.dmtg(data, 2, PLATEAU)),
    "tag": (DATA, lambda data: methods.tag(data, 2, SHORT)),
    "hoa": (DATA.select(["t0", "t1"]), lambda data: methods.hoa(data, 2, SHORT)),
    "finetuned": (DATA, lambda data: methods.prune_finetune(data, 2, replace(SHORT, pretrain=2))),
}
slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is as poor as Apple's."""
    monkeypatch.setattr(devices, "_WITHOUT_FLOAT64", {NAME})


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=slow if name == "pictures" else ()) for name in METHODS]
)
def test_a_method_gives_the_same_numbers_there(method: str) -> None:
    """Bit for bit; no tensor is made on the wrong device, no float64 on this one."""
    data, train = METHODS[method]
    expected = train(data)
    with Elsewhere():
        result = train(data.to(NAME))
        assert result.network.device.type == NAME
    assert result.task_losses == expected.task_losses
    assert result.task_errors == expected.task_errors
    assert result.groups == expected.groups
    np.testing.assert_array_equal(result.history.probabilities, expected.history.probabilities)


def test_streamed_batches_give_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features stay here; batches go there ahead of their step, in evaluation too."""
    fetch = Lookahead._take

    def take(self: Lookahead, rows):
        with Elsewhere():  # a mode is its thread's own
            return fetch(self, rows)

    monkeypatch.setattr(Lookahead, "_take", take)
    expected = methods.dmtg(DATA, 2, SHORT)
    with Elsewhere():
        streamed = DATA.stream_to(NAME)
        result = methods.dmtg(streamed, 2, SHORT)
        assert result.network.device.type == NAME
        assert streamed.train.features.device.type == "cpu"
    assert result.task_losses == expected.task_losses
    assert result.task_errors == expected.task_errors


@pytest.mark.parametrize("first", [NAME, "cpu"])
def test_a_checkpoint_moves_between_devices(first: str, tmp_path: Path) -> None:
    """Begun on one, ended on the other: weights, noise and history bit for bit as on one alone."""
    path, config = tmp_path / "run.safetensors", replace(SHORT, jitter=0.01)
    expected = fit(start(config), DATA, config)
    with Elsewhere():
        for device, stop_at in ((first, 2), ({NAME: "cpu", "cpu": NAME}[first], None)):
            data = DATA.to(device)
            network = start(config, data=data)
            found = fit(network, data, config, stop_at=stop_at, checkpoint=path)
            state = found[1]
            state.network.to("cpu")
            for optimizer in state.optimizers.values():  # to be compared
                for entry in optimizer.state.values():
                    entry |= {name: value.cpu() for name, value in entry.items()}
        assert_same_run(found, expected)


def test_the_noise_of_an_older_gpu_run_is_refused(tmp_path: Path) -> None:
    """Whose generator was another kind, on the GPU: by the name of what does not fit."""
    path = tmp_path / "run.safetensors"
    fit(start(SHORT), DATA, SHORT, stop_at=2, checkpoint=path)
    tensors, meta = load_checkpoint(path)
    save_checkpoint(path, tensors | {"noise": torch.zeros(16, dtype=torch.uint8)}, meta)
    with pytest.raises(ValueError, match=r"`noise` must be .* Delete it"):
        fit(start(SHORT), DATA, SHORT, checkpoint=path)


ALL = {**PAPER, **{f"toy {name}": config for name, config in TOY.items()}}
SMALL = {"xception": "xception_small", "vit_base": "vit_small"}


@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=slow if ALL[name].batch_size == 16 else ()) for name in ALL]
)
def test_a_step_of_a_preset_waits_for_nothing(preset: str) -> None:
    """From the batch to the record, optimisers included; closings and pruning are outside.

    With small siblings of the large encoders, on small pictures.
    """
    config, is_dense = ALL[preset], "taskonomy" in preset or "rooms" in preset
    encoder = SMALL.get(config.encoder, config.encoder)
    shared = min(config.shared, 1)
    config = replace(config, encoder=encoder, shared=shared, batch_size=4, steps=2, epochs=None)
    config = replace(config, pretrain=0, spare=Spare())
    data = make_pictures(size=32) if is_dense else make_data(4)
    with Elsewhere() as there:
        data = data.to(NAME)
        state = TrainState(start(config, data=data), config)
        steps = take_steps(state, data, 2)
        next(steps)  # Adam sets itself up in its first step
        there.waits.clear()
        assert len(list(steps)) == 1
        assert there.waits == []


@pytest.mark.parametrize(
    "change",
    [
        {"estimator": "straight_through", "normalise_losses": True},
        {"heads": HeadOptions(train_all=True, hidden=4), "optimiser_assignment": "sgd"},
        {"tau": (10.0, 0.1), "estimator": "softmax"},
    ],
    ids=str,
)
def test_no_option_makes_a_step_wait(change: dict) -> None:
    """Nor does it matter that heads have left."""
    config = replace(SHORT, **change)
    with Elsewhere() as there:
        data = DATA.to(NAME)
        network = start(config, data=data)
        network.assignment.active[0, 1] = False
        steps = train_steps(network, data, config)
        next(steps)
        there.waits.clear()
        list(steps)
        assert there.waits == []


def test_precision_of_evaluation_is_asked_for() -> None:
    """bfloat16 layers give about the same losses, and not the same bits."""
    network = start(replace(CONFIG, encoder="resnet", jitter=0.1))
    exact, coarse = (
        list(evaluate(network, DATA.val, precision=precision).losses.values())
        for precision in ("float32", "bfloat16")
    )
    assert coarse != exact
    assert coarse == pytest.approx(exact, rel=0.05)


# ---------------------------------------------------------------- a GPU's own ways, with stand-ins
def test_one_stream_serves_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is pooled by stream: a new one a batch would keep as many pools."""
    cuda, device = MagicMock(), torch.device("cuda:0")
    monkeypatch.setattr(batches_module.torch, "cuda", cuda)
    batches_module._find_stream.cache_clear()
    fake = MagicMock(is_elsewhere=True, device=device)
    fake.take.side_effect = lambda rows: (MagicMock(name=f"{rows}"), [MagicMock(), MagicMock()])
    for _ in range(2):  # two runs
        with Lookahead(fake, lambda step: torch.tensor([step])) as ahead:
            for step in range(4):
                features, targets = ahead.take(step)
                for tensor in (features, *targets):
                    tensor.record_stream.assert_called_once_with(cuda.current_stream(device))
    cuda.Stream.assert_called_once_with(device)
    batches_module._find_stream.cache_clear()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rows_are_gathered_into_pinned_memory(
    layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows in the same layout, by one copy; the memory is torch's to keep."""
    asked, real = [], torch.empty_like

    def empty_like(tensor, **options):
        asked.append(options.pop("pin_memory"))
        return real(tensor, **options)

    monkeypatch.setattr(batches_module.torch, "empty_like", empty_like)
    stored = torch.randint(0, 256, (7, 3, 4, 5), dtype=torch.uint8).contiguous(memory_format=layout)
    rows = torch.tensor([5, 0, 3])
    gathered = batches_module._gather_pinned(stored, rows)
    assert asked == [True]
    assert_equal(gathered, stored[rows])
    assert gathered.is_contiguous(memory_format=layout)


def test_a_step_leaves_the_callers_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the CPU and of the network's own GPU; no other is touched. Stand-ins are CPU's."""
    others = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    monkeypatch.setattr(torch.cuda, "default_generators", tuple(others))
    before = [one.get_state() for one in (torch.default_generator, *others)]
    drawn = []
    for _ in range(2):
        with drawing(5, torch.device("cuda:1")):
            drawn.append((torch.rand(2), torch.rand(2, generator=others[1])))
            assert_equal(others[0].get_state(), before[1])
    assert_equal(*drawn)
    assert_equal([one.get_state() for one in (torch.default_generator, *others)], before)


# ---------------------------------------------------------------- which device
@pytest.mark.parametrize(
    ("there", "works", "expected"),
    [
        (("cuda", "mps"), ("cuda", "mps"), "cuda"),
        (("cuda", "mps"), ("mps",), "mps"),  # the driver is too old for this torch
        (("mps",), ("mps",), "mps"),
        ((), (), "cpu"),
    ],
)
def test_auto_is_the_best_device_that_works(
    there: tuple[str], works: tuple[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def try_(device):
        if device not in works:
            raise RuntimeError("no")
        return torch.device(device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    monkeypatch.setattr(devices, "_try", try_)
    assert as_device("auto").type == expected


def test_data_go_to_auto_and_refuse_a_full_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """By how much they are too many, and what to do; streamed data ask for no room."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert DATA.to("auto").device.type == DATA.stream_to("auto").device.type in ("cpu", "mps")
    monkeypatch.setattr("dmtg_lite.core.data.as_device", torch.device)
    monkeypatch.setattr("dmtg_lite.core.data.measure_free_memory", lambda device: 1000)
    with pytest.raises(ValueError, match=r"cuda:0 has 0\.0 GiB free: `stream_to` copies"):
        DATA.to("cuda:0")
    assert DATA.count_bytes(torch.device("cpu")) == 0
    images = 143 * 3 * 8 * 8
    assert DATA.count_bytes(torch.device("cuda:0")) == images + 143 * 4 * 8


def test_a_suite_that_does_not_fit_beside_its_network_is_streamed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so; on a CPU nothing moves."""
    monkeypatch.setattr("dmtg_lite.core.data.as_device", torch.device)
    monkeypatch.setattr(suites, "measure_free_memory", lambda device: 1000)
    with caplog.at_level("INFO", "dmtg_lite"):
        placed = suites._place(DATA, torch.device("cuda:0"))
    assert placed.streamed_to == torch.device("cuda:0")
    assert placed.train.features.device.type == "cpu"
    assert "they are streamed" in caplog.text
    assert suites._place(DATA, torch.device("cpu")).streamed_to is None


def test_a_command_says_which_device_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Where one is asked for; before anything is read."""
    monkeypatch.setattr(devices, "_find", lambda name: None)
    for given, said in ((["--device", "auto"], "device: cpu ("), ([], "")):
        assert main(["train", "celeba9", "--out", str(tmp_path), *given]) == 2
        assert capsys.readouterr().out.startswith(said)


def test_sums_are_float64_everywhere() -> None:
    assert place_sums("mps" if "mps" in devices._WITHOUT_FLOAT64 else NAME).type == "cpu"
    assert place_sums("cuda:1") == torch.device("cuda:1")


def test_the_arithmetic_of_a_gpu_is_told() -> None:
    """Torch's own defaults: float32 convolutions are TF32 there."""
    told = describe_arithmetic()
    assert "convolutions in TF32, products in float32" in told
    assert "deterministic off" in told
