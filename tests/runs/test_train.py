"""What the training loop promises: the paper's step, one run per seed, and nothing lost on a stop."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dmtg_lite.core.assignment import ESTIMATORS
from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.record import Knobs
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.tasks import Task
from dmtg_lite.experiments import PAPER, TOY
from dmtg_lite.runs.checkpoint import FORMAT, load_checkpoint, pack, save_checkpoint
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import (
    branch_out,
    build_network,
    continue_fit,
    continue_steps,
    fit,
    train_steps,
)
from dmtg_lite.runs.history import History
from dmtg_lite.runs.run import pretrain

CONFIG = TrainConfig(steps=12, batch_size=16, lr=1e-2, lr_assignment=0.1)


def make_data(n_tasks: int = 4, *, n: int = 70, size: int = 8, seed: int = 0) -> TaskData:
    """Random pictures; task n asks whether one half of one colour is bright."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        images = rng.integers(0, 256, (n, 3, size, size), dtype=np.uint8)
        targets = {
            f"t{k}": torch.from_numpy(
                (images[:, k % 3, k % size :].mean((1, 2)) > 127).astype(np.int64)
            )
            for k in range(n_tasks)
        }
        return Split(torch.from_numpy(images), targets)

    return TaskData(
        "pictures", tuple(Task(f"t{k}") for k in range(n_tasks)), split(n), split(40), split(33)
    )


DATA = make_data()


def start(
    config: TrainConfig = CONFIG, *, n_groups: int = 3, data: TaskData = DATA
) -> GroupedNetwork:
    """A learned network from an untrained Naive MTL one, in the layout the library trains in."""
    return branch_out(build_network(data, config), n_groups, config)


def run(config: TrainConfig = CONFIG, **kwargs) -> tuple[History, TrainState]:
    return fit(start(config), DATA, config, **kwargs)


def assert_same_run(one: tuple[History, TrainState], other: tuple[History, TrainState]) -> None:
    """Weights, S, optimiser, noise and history, bit for bit."""
    first, second = pack(one[1])[0], pack(other[1])[0]
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    assert pack(one[1])[1] == pack(other[1])[1]
    for name in History.ARRAYS:
        np.testing.assert_array_equal(getattr(one[0], name), getattr(other[0], name), err_msg=name)


def batches(
    config: TrainConfig, n_steps: int, *, data: TaskData = DATA, seed: int | None = None
) -> list[Tensor]:
    """Rows of every step: each epoch shuffles anew and gives as many whole batches as fit."""
    n, rows = len(data.train), []
    while len(rows) < n_steps:
        epoch_seed = derive_seed(
            config.seed if seed is None else seed, 2, len(rows) // (n // config.batch_size)
        )
        order = torch.randperm(n, generator=torch.Generator().manual_seed(epoch_seed))
        rows += order[: n - n % config.batch_size].split(config.batch_size)
    return rows[:n_steps]


# ---------------------------------------------------------------- the step is the paper's


def plain_run(
    config: TrainConfig, network: GroupedNetwork, k: int, names: list[str], n_steps: int
) -> tuple[nn.Module, list]:
    """Branch k alone, as anyone would write it: nn.Sequential, nn.Linear, F.cross_entropy a task, Adam."""
    encoder = network.branches[k]  # a copy of plain torch layers: nothing of the library runs below
    linear = nn.Linear(*reversed(network.heads[k].linear.weight.shape))
    linear.load_state_dict(network.heads[k].linear.state_dict())
    model = nn.Sequential(encoder, linear).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    losses = []
    for rows in batches(config, n_steps):
        x = (DATA.train.images[rows].float() * (1 / 255)).contiguous(
            memory_format=torch.channels_last
        )
        logits = model(x)
        parts, targets = logits.split(2, dim=1), [DATA.train.targets[name][rows] for name in names]
        each = [F.cross_entropy(part, target) for part, target in zip(parts, targets, strict=True)]
        optimizer.zero_grad()
        sum(each).backward()
        optimizer.step()
        # the same numbers, added up image by image for all tasks at once
        per_image = torch.stack(
            [
                F.cross_entropy(p.detach(), t, reduction="none")
                for p, t in zip(parts, targets, strict=True)
            ],
            1,
        )
        losses.append(per_image.mean(0).tolist())
        torch.testing.assert_close(
            torch.tensor(losses[-1]), torch.stack(each).detach(), rtol=1e-6, atol=0
        )
    return model, losses


@pytest.mark.parametrize("encoder", ["toy", "resnet"])
@pytest.mark.parametrize("groups", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["naive", "stl"])
def test_a_fixed_grouping_is_plain_training(groups: list[int], encoder: str) -> None:
    """One group *is* Naive MTL, a diagonal *is* STL: weights and losses of plain loops, bit for
    bit.

    A mean over a batch depends in its last digit on the order of addition, so the plain losses are
    taken
    both ways: image by image for equality, and F.cross_entropy's own mean within 1e-6.
    """
    config = replace(CONFIG, encoder=encoder)
    fixed = build_network(DATA, config).branch_out(max(groups) + 1, group_of=groups)
    plain = build_network(DATA, config).branch_out(max(groups) + 1, group_of=groups)
    history, _ = fit(fixed, DATA, config, n_steps=9)
    for k, (branch, head) in enumerate(zip(fixed.branches, fixed.heads, strict=True)):
        names = [task.name for task in head.tasks]
        (encoder_, linear), losses = plain_run(config, plain, k, names, 9)
        for own, other in zip(
            branch.state_dict().values(), encoder_.state_dict().values(), strict=True
        ):
            assert torch.equal(own, other)
        assert torch.equal(head.linear.weight, linear.weight)
        assert torch.equal(head.linear.bias, linear.bias)
        rows = [DATA.task_names.index(name) for name in names]
        np.testing.assert_array_equal(history.task_losses[:, rows], np.array(losses, np.float32))


@pytest.mark.parametrize("tau", [2.5, 0.5])
def test_learned_steps_are_the_papers(tau: float) -> None:
    """Oracle by hand: one Gumbel draw, total = sum of L * Z, one Adam on weights and S together."""
    # jitter: the S gradient of tied branches is rounding alone, which Adam would blow up to a full
    # step
    config = replace(CONFIG, tau=tau, lr_assignment=None, jitter=0.3)
    network, plain = start(config), start(config)
    assert (network.assignment.logits == 1 / 3).all()
    history, _ = fit(network, DATA, config, n_steps=5)
    logits = torch.full((4, 3), 1 / 3, requires_grad=True)
    modules = nn.ModuleList([*plain.branches, *(head.linear for head in plain.heads)])
    optimizer = torch.optim.Adam([*modules.parameters(), logits], lr=config.lr)
    noise = torch.Generator().manual_seed(derive_seed(config.seed, Stream.NOISE))
    for step, rows in enumerate(batches(config, 5)):
        x = (DATA.train.images[rows].float() / 255).contiguous(memory_format=torch.channels_last)
        gumbel = -torch.empty(4, 3).exponential_(generator=noise).log()
        z = torch.softmax((logits + gumbel) / tau, 1)
        features = [branch(x) for branch in modules[:3]]
        total, row_losses = 0.0, []
        for n, name in enumerate(DATA.task_names):
            each = torch.stack(
                [
                    F.cross_entropy(linear(f)[:, 2 * n : 2 * n + 2], DATA.train.targets[name][rows])
                    for f, linear in zip(features, modules[3:], strict=True)
                ]
            )
            row_losses.append((z[n] * each).sum().item())
            total = total + (z[n] * each).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        # float32 in another order of addition, five Adam steps deep
        np.testing.assert_allclose(history.task_losses[step], row_losses, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            history.probabilities[step], logits.detach().softmax(1).numpy(), rtol=1e-3, atol=1e-4
        )


def test_adam_never_moves_the_logits_further_than_its_rate() -> None:
    """Why S needs a rate of its own in a short run: at most about the learning rate a step."""
    network = start()
    before = network.assignment.logits.detach().clone()
    fit(network, DATA, CONFIG, n_steps=1)
    moved = (network.assignment.logits.detach() - before).abs().max().item()
    assert moved <= CONFIG.lr_assignment * 1.001


class Syncs(TorchDispatchMode):
    """Remembers the kernels that ran and which of them make the host wait for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name in (
            "aten::_local_scalar_dense",
            "aten::item",
            "aten::nonzero",
            "aten::equal",
            "aten::is_nonzero",
        ):
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


OPTIONS = {
    "plain": {},
    "straight_through": {"estimator": "straight_through"},
    "annealed": {"tau": (10.0, 0.1)},
    "normalised": {"normalise_losses": True},
    "pruned": {"pruning": Pruning(below=0.2, start=1)},
    "bfloat16": {"precision": "bfloat16"},
    "multistep": {"schedule": "multistep"},
}


@pytest.mark.parametrize("shape", [(9, 3), (40, 5)], ids=["9x3", "40x5"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_step_never_waits_for_the_device(shape: tuple[int, int], option: str) -> None:
    """No value travels to the host and nothing branches on data, over 30 steps and several epochs."""
    data = make_data(shape[0])
    config = replace(CONFIG, **OPTIONS[option], steps=30)
    steps = train_steps(start(config, n_groups=shape[1], data=data), data, config)
    next(steps)  # Adam sets itself up in its first step
    with Syncs() as mode:
        for _ in range(29):
            next(steps)
    assert mode.waits == []


def test_images_stay_channels_last_to_the_last_convolution() -> None:
    """The layout that makes a CPU step fast is not lost on the way through pools and norms."""
    config = replace(CONFIG, encoder="resnet")
    network, layouts = start(config), []

    def note(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        if module.training:  # not while multiply-adds are counted
            layouts.append(
                all(x.is_contiguous(memory_format=torch.channels_last) for x in (*args, out))
            )

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)):
            module.register_forward_hook(note)
    next(train_steps(network, DATA, config))
    assert len(layouts) == 3 * 7
    assert all(layouts)


# ---------------------------------------------------------------- seeds, stops and resumes


def test_the_same_seed_is_the_same_run() -> None:
    """Bit for bit, whatever the caller did to torch's global generator; another seed is another run."""
    torch.manual_seed(1)
    first = run()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert_same_run(first, run())
    assert torch.equal(torch.get_rng_state(), state)
    other, _ = run(replace(CONFIG, seed=1))
    assert not np.array_equal(first[0].task_losses, other.task_losses)


RESUMED = {
    "toy": {},
    "resnet": {"encoder": "resnet"},
    "bfloat16": {"precision": "bfloat16"},
    "shared": {"encoder": "resnet", "shared": 1},
    "plateau": {"schedule": "plateau", "lr": 0.3},
    "annealed": {"tau": (5.0, 0.5)},
    "multistep": {"schedule": "multistep", "batch_size": 70, "steps": 20},
    "hidden": {"heads": HeadOptions(hidden=4)},
    "two rules": {
        "optimiser_assignment": "sgd",
        "heads": HeadOptions(train_all=True),
        "encoder": "resnet",
    },
    "pruned": {"pruning": Pruning(below=0.3, start=1), "steps": 30, "lr_assignment": 0.5},
}


@pytest.mark.parametrize("option", RESUMED)
def test_a_resumed_run_is_the_uninterrupted_one(option: str, tmp_path: Path) -> None:
    """Stopped after any step and continued from its file by a new process's objects: bit for bit."""
    config = replace(CONFIG, **RESUMED[option])
    whole = run(config)
    stops = {"pruned": [1, 25, 26], "multistep": [14, 15, 16]}.get(
        option, [1, 4, 9]
    )  # 4: an epoch ends
    for stop in stops:
        path = tmp_path / f"{stop}.safetensors"
        run(config, stop_at=stop, checkpoint=path)
        assert load_checkpoint(path)[1]["step"] == stop
        assert_same_run(run(config, checkpoint=path), whole)
    if option == "pruned":
        assert not whole[1].network.assignment.active.all()


def test_a_chain_of_stops_and_a_finished_run(tmp_path: Path) -> None:
    """Every step its own process; a finished run returns at once and changes nothing."""
    whole, path = run(), tmp_path / "run.safetensors"
    for stop in range(1, 13):
        last = run(stop_at=stop, checkpoint=path)
    assert_same_run(last, whole)
    assert_same_run(run(checkpoint=path), whole)


def test_a_run_goes_on_in_memory() -> None:
    """Stop, look, go on: the same as never having stopped."""
    network = start()
    history, state = fit(network, DATA, CONFIG, stop_at=7)
    assert len(history) == 7
    evaluate(network, DATA.val)
    continue_fit(history, state, DATA, CONFIG.steps)
    assert_same_run((history, state), run())


def test_how_often_it_is_saved_changes_nothing(tmp_path: Path) -> None:
    """Neither the checkpoints' interval nor having any."""
    assert_same_run(run(checkpoint=tmp_path / "a.safetensors", checkpoint_every=5), run())


def test_the_loop_may_be_left_and_entered_at_any_step() -> None:
    """The generator is its caller's: stopping is not asking again, and a state carries on."""
    network = start()
    state = TrainState(network, CONFIG)
    for _, record in zip(range(5), continue_steps(state, DATA, CONFIG.steps), strict=False):
        assert not record.task_losses.requires_grad
        assert not record.probabilities.requires_grad
    assert [record.step for record in continue_steps(state, DATA, CONFIG.steps)] == list(
        range(6, 13)
    )
    history, whole = run()
    for name, value in pack(whole)[0].items():
        assert torch.equal(pack(state)[0][name], value), name
    assert history.steps.tolist() == list(range(1, 13))


@pytest.mark.parametrize(
    "change",
    [{"lr": 0.5}, {"seed": 3}, {"tau": (5.0, 1.0)}, {"steps": 13}],
    ids=lambda change: next(iter(change)),
)
def test_a_checkpoint_of_another_config_is_refused(change: dict, tmp_path: Path) -> None:
    """The message names what differs, with both values."""
    path, other = tmp_path / "run.safetensors", replace(CONFIG, **change)
    run(stop_at=4, checkpoint=path)
    name, value = next(iter(change.items()))
    with pytest.raises(ValueError, match=f"was made with {name}=.*; this run has {name}=") as error:
        fit(start(other), DATA, other, checkpoint=path)
    assert str(list(value) if isinstance(value, tuple) else value) in str(error.value)


@pytest.mark.parametrize("group_of", [None, [0, 0, 1, 1]])
def test_a_checkpoint_of_another_grouping_is_refused(
    group_of: list[int] | None, tmp_path: Path
) -> None:
    """Another K, and other groups of the same sizes, whose tensors would fit."""
    path, naive = tmp_path / "run.safetensors", build_network(DATA, CONFIG)
    fit(naive.branch_out(2, group_of=[0, 1, 0, 1]), DATA, CONFIG, stop_at=2, checkpoint=path)
    other = naive.branch_out(3 if group_of is None else 2, group_of=group_of)
    with pytest.raises(
        ValueError, match=r"was made with K=2 with \[2, 2\] heads.*; this run has K="
    ):
        fit(other, DATA, CONFIG, checkpoint=path)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "foreign"])
def test_a_damaged_checkpoint_is_refused(damage: str, tmp_path: Path) -> None:
    """With the file's name, before anything of the network has changed."""
    path = tmp_path / "run.safetensors"
    run(stop_at=2, checkpoint=path)
    content = path.read_bytes()
    if damage == "foreign":
        save_checkpoint(path, {"x": torch.ones(2)}, {})
        content = path.read_bytes().replace(FORMAT.encode(), b"dmtg-checkpoint/9")
    path.write_bytes(
        {"garbage": b"no", "truncated": content[:-9], "empty": b"", "foreign": content}[damage]
    )
    network = start()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"run\.safetensors is not a checkpoint of this version"):
        fit(network, DATA, CONFIG, checkpoint=path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_checkpoint_is_no_pickle(tmp_path: Path) -> None:
    """Tensors of any layout and type and plain JSON come back as they were; no temporary file is left."""
    tensors = {
        "half": torch.ones(2, dtype=torch.bfloat16),
        "flag": torch.tensor([True, False]),
        "none": torch.empty(0, 3),
        "one": torch.tensor(3.0),
        "layout": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    }
    save_checkpoint(tmp_path / "deep" / "x.safetensors", tensors, {"a": [1, None, "é"]})
    loaded, meta = load_checkpoint(tmp_path / "deep" / "x.safetensors")
    assert meta == {"a": [1, None, "é"]}
    assert all(
        torch.equal(loaded[name], value) and loaded[name].dtype == value.dtype
        for name, value in tensors.items()
    )
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.safetensors"]
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nothing")


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    """Naming task, step and tau, and without a checkpoint of the ruin."""
    network, path = start(), tmp_path / "run.safetensors"
    with torch.no_grad():  # every branch's head of t1
        for head in network.heads:
            head.linear.weight[2:4] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"task 't1' is nan at step 1 \(tau 2\.5\)\. Lower `lr`"
    ):
        fit(network, DATA, CONFIG, checkpoint=path, record_every=5, checkpoint_every=1)
    assert not path.exists()  # though step 1 is not to be recorded


def test_history_holds_every_recorded_step() -> None:
    """Each step by default, every fifth and the last on request, with tau and rate as used."""
    config = replace(CONFIG, tau=(4.0, 1.0))
    history, _ = run(config)
    assert history.steps.tolist() == list(range(1, 13))
    np.testing.assert_allclose(history.tau, 4.0 * 0.25 ** (np.arange(12) / 11), rtol=1e-6)
    np.testing.assert_allclose(history.lr_assignment, 0.1)
    every, _ = run(config, record_every=5)
    assert every.steps.tolist() == [5, 10, 12]
    np.testing.assert_array_equal(every.task_losses, history.task_losses[[4, 9, 11]])


def test_knobs_act_at_the_next_step() -> None:
    """Turned between two steps, seen and recorded in the second."""
    knobs = Knobs()
    steps = train_steps(start(), DATA, CONFIG, knobs=knobs)
    assert next(steps).tau == 2.5
    knobs.tau, knobs.lr_assignment = 0.5, 0.0
    second = next(steps)
    assert (second.tau, second.lr_assignment) == (0.5, 0.0)
    third = next(steps)
    assert torch.equal(third.probabilities, second.probabilities)


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 0.5}, {"tau": (2.5, 0.5)}, {"estimator": "straight_through"}, {"estimator": "softmax"},
        {"lr": 1e-3}, {"lr_assignment": None}, {"batch_size": 8}, {"shared": 1},
        {"normalise_losses": True}, {"pruning": Pruning(below=0.3, start=1)}, {"jitter": 0.1},
        {"encoder": "resnet"}, {"capacity": 2}, {"precision": "bfloat16"}, {"seed": 1},
        {"schedule": "plateau"}, {"schedule": "multistep"}, {"optimiser_assignment": "sgd"},
        {"heads": HeadOptions(train_all=True)}, {"heads": HeadOptions(hidden=4)},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_has_an_effect(change: dict) -> None:
    """Changing one field alone gives another run (40 steps, a rate at which validation losses jump)."""
    base = replace(CONFIG, steps=40, lr_assignment=0.3, lr=0.2, batch_size=35)
    runs = [run(config)[0] for config in (base, replace(base, **change))]
    assert not np.array_equal(runs[0].task_losses, runs[1].task_losses)


def test_options_are_off_in_the_papers_presets() -> None:
    """Each deviation from the paper has a name, and its preset does not use it."""
    for suite, preset in PAPER.items():
        off = TrainConfig()
        ours = "restarts spare heads pruning normalise_losses jitter precision pretrained"
        for name in (*ours.split(), "estimator", "optimiser_assignment"):
            assert getattr(preset, name) == getattr(off, name), name
        assert (off.restarts.n, off.spare.branches, off.heads, off.pruning.below) == (
            1,
            0,
            HeadOptions(hidden=0, train_all=False),
            0.0,
        )
        assert (off.normalise_losses, off.jitter, off.precision) == (False, 0.0, "float32")
        assert (off.estimator, off.optimiser_assignment) == ("gumbel", "adam")
        assert (preset.lr_assignment, preset.schedule, preset.epochs) == (None, "plateau", 100)
        own = (preset.tau, preset.lr, preset.encoder, preset.shared)
        assert own == {
            "celeba9": (2.5, 8e-4, "resnet", 0), "celeba40": (2.5, 8e-4, "resnet", 0),
            "taskonomy5": (4.0, 1e-4, "xception", 6), "taskonomy5_vit": (4.0, 1e-4, "vit_base", 7),
        }[suite]  # fmt: skip


def test_normalised_losses_by_hand() -> None:
    """2 x 2: each row is divided by its mean over the branches; the gradient of S follows."""
    data = make_data(2)
    config = replace(
        CONFIG, normalise_losses=True, optimiser_assignment="sgd", lr=0.0, lr_assignment=1.0
    )
    network = branch_out(build_network(data, config), 2, replace(config, jitter=0.5))
    before = network.assignment.logits.detach().clone()
    rows = batches(config, 1, data=data)[0]
    targets = torch.stack([data.train.targets[name][rows] for name in data.task_names], 1)
    losses = network.compute_loss_matrix(data.train.images[rows], targets).detach()
    fit(network, data, config, n_steps=1)
    noise = torch.Generator().manual_seed(derive_seed(config.seed, Stream.NOISE))
    z = torch.softmax((before - torch.empty(2, 2).exponential_(generator=noise).log()) / 2.5, 1)
    scaled = torch.stack([row / ((row[0] + row[1]) / 2) for row in losses])
    gradient = z * (scaled - (z * scaled).sum(1, keepdim=True)) / 2.5
    torch.testing.assert_close(
        network.assignment.logits.detach(), before - gradient, rtol=1e-4, atol=1e-6
    )


def test_a_task_without_loss_does_not_break_normalising() -> None:
    """A loss of exactly 0 is divided by a small number, not by 0."""
    data = make_data(2)
    constant = {name: torch.zeros_like(target) for name, target in data.train.targets.items()}
    data = replace(data, train=replace(data.train, targets=constant))
    config = replace(CONFIG, normalise_losses=True, lr=0.0, lr_assignment=0.0)
    network = branch_out(build_network(data, config), 2, config)
    with torch.no_grad():
        for head in network.heads:
            head.linear.bias.copy_(torch.tensor([200.0, -200.0]).repeat(2))
    history, _ = fit(network, data, config, n_steps=2)
    assert (history.task_losses == 0).all()


def test_a_plateau_is_one_of_the_validation_loss() -> None:
    """Validation labels that contradict the training ones get worse from the start: the rates are halved."""
    config = replace(CONFIG, schedule="plateau", steps=None, epochs=12, batch_size=35, lr=1e-3)
    opposite = {name: 1 - target for name, target in DATA.train.targets.items()}
    last_rate = []
    for val in (DATA.train, replace(DATA.train, targets=opposite)):
        data = replace(DATA, val=val)
        history, _ = fit(start(config, data=data), data, config)
        last_rate.append(history.lr_assignment[-1])
    assert last_rate[0] > last_rate[1]


def test_rates_halve_on_a_plateau_and_on_milestones() -> None:
    """A rate of 0 cannot improve: every fourth bad epoch in a row halves. Milestones: every 15 epochs."""
    config = replace(
        CONFIG,
        lr=0.0,
        schedule="plateau",
        steps=None,
        epochs=11,
        batch_size=35,
        estimator="softmax",
    )
    network, data = start(config), DATA
    for module in network.modules():  # nothing may move, batch statistics included
        assert not isinstance(module, nn.BatchNorm2d)
    config = replace(config, lr_assignment=1.0)
    with torch.no_grad():
        network.assignment.logits[:, 0] = 50.0  # decided: S moves, its winner does not
    history, _ = fit(network, data, config)
    per_epoch = history.lr_assignment[::2].tolist()  # two batches an epoch
    assert per_epoch == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    steps = fit(
        start(), DATA, replace(CONFIG, schedule="multistep", steps=None, epochs=31, batch_size=70)
    )[0]
    expected = [0.1] * 15 + [0.05] * 15 + [0.025]
    np.testing.assert_allclose(steps.lr_assignment, expected, rtol=1e-6)


def test_epochs_are_whole_batches() -> None:
    """70 images in batches of 16: 4 steps an epoch; a batch larger than the data is all of it."""
    config = TrainConfig(epochs=3, pretrain=2, batch_size=16)
    assert config.count_steps(70) == (8, 12)
    assert TrainConfig(steps=7, pretrain=2).count_steps(70) == (2, 7)
    assert TrainConfig(epochs=3, batch_size=256).count_steps(70) == (0, 3)
    with pytest.raises(ValueError, match="neither `steps` nor `epochs`"):
        TrainConfig().count_steps(70)
    seen = torch.cat(batches(config, 4))
    assert len(set(seen.tolist())) == 64


def test_tau_schedule() -> None:
    """Geometric from start to end; a number stays."""
    config = TrainConfig(tau=(100.0, 4.0))
    assert config.tau_at(0.0) == 100.0
    assert config.tau_at(0.5) == pytest.approx(20.0)
    assert config.tau_at(1.0) == pytest.approx(4.0)
    assert TrainConfig(tau=3).tau_at(0.7) == 3.0


def test_encoder_passes_are_counted() -> None:
    """Steps x batch x multiply-adds of an image through stem and K branches."""
    conv, hidden, last = 8 * 3 * 16 * 4, 32 * 8 * 4, 32  # toy encoder at 8x8: 4 patches
    assert run()[1].encoder_macs == 12 * 16 * 3 * (conv + hidden + last)
    config = replace(CONFIG, shared=1)
    assert run(config)[1].encoder_macs == 12 * 16 * (conv + 3 * (hidden + last))


def test_pretraining_is_naive_mtl_and_branches_start_from_it() -> None:
    """As many steps as the config says, one branch, and K copies of what came out."""
    config = replace(CONFIG, pretrain=5)
    naive, state = pretrain(DATA, config)
    assert (naive.n_groups, state.step) == (1, 5)
    network = branch_out(naive, 3, config)
    for branch in network.branches:
        for own, other in zip(branch.parameters(), naive.branches[0].parameters(), strict=True):
            assert torch.equal(own, other)
            assert own.stride() == other.stride()


def test_evaluate_by_hand() -> None:
    """Every image counts once, whatever the batches; each task is read from its winning branch."""
    network = start(replace(CONFIG, jitter=0.5))
    with torch.no_grad():
        network.assignment.logits[torch.arange(4), torch.tensor([2, 0, 1, 2])] = 3.0
    result = evaluate(network, DATA.test, batch_size=10)
    assert not network.training
    images = DATA.test.images.float() / 255
    for n, (name, k) in enumerate(zip(DATA.task_names, [2, 0, 1, 2], strict=True)):
        logits = network.heads[k].linear(network.branches[k](images))[:, 2 * n : 2 * n + 2].detach()
        truth = DATA.test.targets[name]
        assert result.losses[name] == pytest.approx(F.cross_entropy(logits, truth).item(), rel=1e-5)
        wrong = sum(
            int(guess) != int(true) for guess, true in zip(logits.argmax(1), truth, strict=True)
        )
        assert result.errors[name] == pytest.approx(100 * wrong / 33)
    with pytest.raises(ValueError, match="is empty"):
        evaluate(network, DATA.test.subset(slice(0, 0)))


# ---------------------------------------------------------------- the config


BAD = {
    "tau": [0, -1.0, float("nan"), float("inf"), (1.0,), (1.0, 2.0, 3.0), (1.0, 0.0), "2.5", None, True],
    "estimator": ["gumble", None], "lr": [-1.0, float("nan"), "0.1", None], "lr_assignment": [-1.0, "0.1"],
    "schedule": ["cosine"], "steps": [0, 1.5, True], "epochs": [0, -1, "3"],
    "pretrain": [-1, 0.5, None], "batch_size": [0, 2.0, None], "shared": [-1], "restarts": [0, None],
    "normalise_losses": ["yes", 1], "pruning": [0.1, None],
    "jitter": [-1.0, float("inf"), "x"], "encoder": ["", None], "capacity": [0], "precision": ["float16"],
    "seed": [-1, 0.5, None], "optimiser_assignment": ["adamw", 3, None], "spare": [2, "double", None], "heads": [32, None],
    "pretrained": ["", 3],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=str
)
def test_a_bad_field_is_refused_by_name(name: str, value: object) -> None:
    """A ValueError that names the field and shows what was given."""
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        TrainConfig(**{name: value})


BAD_GROUPED = {
    Restarts: {"n": [0, None], "halve_every": [-1]},
    Spare: {
        "branches": [-1, 1.5, None, "twice"], "close_from": [0, 2.0], "close_every": [0, None],
        "rule": ["first", None],
    },
    Pruning: {"below": [-0.1, 1.0, float("nan"), "x"], "start": [-1]},
    HeadOptions: {"hidden": [-1, 0.5], "train_all": ["yes", 1]},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_GROUPED, ids=lambda kind: kind.__name__)
def test_a_bad_option_of_a_group_is_refused_by_name(kind: type) -> None:
    """With the name of its group, and the table forgets none."""
    assert set(BAD_GROUPED[kind]) == {field.name for field in fields(kind)}
    for name, values in BAD_GROUPED[kind].items():
        for value in values:
            with pytest.raises(ValueError, match=rf"`\w+\.{name}` must be"):
                kind(**{name: value})


def paste(node: ast.expr) -> object:
    """What a printed line says: calls of the config's classes with literals in them."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    kinds = {kind.__name__: kind for kind in (TrainConfig, *BAD_GROUPED)}
    return kinds[node.func.id](**{entry.arg: paste(entry.value) for entry in node.keywords})


def test_every_field_is_checked() -> None:
    """The table above forgets none; and steps and epochs exclude each other."""
    assert set(BAD) == {field.name for field in fields(TrainConfig)}
    with pytest.raises(ValueError, match="give `steps` or `epochs`, not both"):
        TrainConfig(steps=1, epochs=1)


@pytest.mark.parametrize(
    "config",
    [*PAPER.values(), *TOY.values(), CONFIG, TrainConfig(), TrainConfig(tau=(9.0, 0.5), steps=3)],
)
def test_the_config_prints_as_a_line_to_paste(config: TrainConfig) -> None:
    """Only what differs from the default: read back it is the same config, and from JSON too."""
    line = repr(config)
    assert "\n" not in line
    assert paste(ast.parse(line, mode="eval").body) == config
    assert TrainConfig.from_json(json.loads(json.dumps(asdict(config)))) == config


def test_a_flat_config_of_old_is_read() -> None:
    """What earlier versions wrote, field by field, is the same config grouped."""
    old = {
        "tau": [9.0, 0.5], "optimiser": "adam", "optimiser_assignment": None, "steps": 3,
        "restarts": 8, "halve_every": 250, "spare_branches": "double", "close_from": 300,
        "close_every": 20, "close_rule": "random", "train_all_heads": True, "head_hidden": 32,
        "scale_gradients": False, "prune_below": 0.1, "prune_from": 5,
    }  # fmt: skip
    assert TrainConfig.from_json(old) == TrainConfig(
        tau=(9.0, 0.5),
        steps=3,
        restarts=Restarts(n=8, halve_every=250),
        spare=Spare(branches="double", close_from=300, close_every=20, rule="random"),
        heads=HeadOptions(hidden=32, train_all=True),
        pruning=Pruning(below=0.1, start=5),
    )
    with pytest.raises(ValueError, match="`optimiser='sgd'` is no longer offered"):
        TrainConfig.from_json({"optimiser": "sgd"})
    with pytest.raises(ValueError, match=r"unknown settings \['tua'\]"):
        TrainConfig.from_json({"tua": 1.0})


def test_estimators_are_those_of_the_core() -> None:
    """Each of them trains."""
    for estimator in ESTIMATORS:
        history, _ = run(replace(CONFIG, estimator=estimator), n_steps=2)
        assert len(history) == 2
