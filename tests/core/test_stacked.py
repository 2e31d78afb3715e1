"""The stacked form of a network gives what the plain form gives, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import HeadOptions, Spare, TrainConfig
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.stacked import Stack, can_stack
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.tasks import Task
from dmtg_lite.encoders import register
from dmtg_lite.runs.fit import branch_out, build_network, continue_steps

CONFIG = TrainConfig(
    encoder="toy", steps=300, batch_size=16, lr=3e-3, lr_assignment=0.1, jitter=0.1
)
TRAIN_ALL = replace(
    CONFIG,
    heads=HeadOptions(train_all=True),
    spare=Spare(branches=3, close_from=20, close_every=10),
    optimiser_assignment="sgd",
    normalise_losses=True,
)


def make_data(n_tasks: int = 5, *, with_number: bool = False) -> TaskData:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (80, 3, 8, 8), generator=rng, dtype=torch.uint8)
    targets: dict[str, Tensor] = {
        f"t{n}": torch.randint(-1, 2, (80,), generator=rng) for n in range(n_tasks)
    }
    tasks = [Task(name) for name in targets]
    if with_number:
        tasks.append(Task("number", 1, "l1", "mae", center=120.0, spread=20.0))
        targets["number"] = images.float().mean((1, 2, 3))
    split = Split(images, targets)
    return TaskData("random pixels", tuple(tasks), split, split, split)


DATA, MIXED = make_data(), make_data(with_number=True)


class AsDouble(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


def follow(
    build: Callable[[], GroupedNetwork], data: TaskData, config: TrainConfig, n_steps: int
) -> tuple[Tensor, TrainState]:
    """All losses of every step, and the state after it."""
    state = TrainState(build(), config)
    records = list(continue_steps(state, data, n_steps))
    return torch.stack([record.loss_matrix.nan_to_num().double() for record in records]), state


def in_both_forms(monkeypatch: pytest.MonkeyPatch, *arguments) -> list[tuple[Tensor, TrainState]]:
    stacked = follow(*arguments)
    monkeypatch.setenv("DMTG_PLAIN", "1")
    return [stacked, follow(*arguments)]


def learned(config: TrainConfig, data: TaskData) -> GroupedNetwork:
    return branch_out(build_network(data, config), 3, config)


def fixed(config: TrainConfig, data: TaskData) -> GroupedNetwork:
    """Single tasks, then pairs of any: as a walk of trial networks has them."""
    n_tasks = len(data.tasks)
    members = [[n] for n in range(n_tasks)] + [[0, n_tasks - 1], [1, 3]]
    return build_network(data, config).branch_out(len(members), members=members)


@pytest.mark.parametrize(
    ("data", "config", "n_steps"),
    [
        (DATA, TRAIN_ALL, 60),
        (MIXED, replace(CONFIG, heads=HeadOptions(hidden=3)), 20),
        pytest.param(DATA, TRAIN_ALL, 400, marks=pytest.mark.slow),
    ],
    ids=["closings", "a number", "hundreds of steps"],
)
def test_in_double_precision_losses_are_the_same(
    monkeypatch: pytest.MonkeyPatch, data: TaskData, config: TrainConfig, n_steps: int
) -> None:
    """With branches that close on the way; but for the order of addition."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # heads answer in single precision

    def build() -> GroupedNetwork:
        network = learned(config, data).double()
        network.stem = nn.Sequential(AsDouble())
        return network

    (losses, state), (plain, other) = in_both_forms(monkeypatch, build, data, config, n_steps)
    assert state.network.branch_ids == other.network.branch_ids
    assert losses.shape == plain.shape
    torch.testing.assert_close(losses, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("build", [learned, fixed])
@pytest.mark.parametrize("norm", [[], [nn.BatchNorm1d(8)]], ids=["linear", "batch norm"])
def test_in_single_precision_they_part_by_rounding_alone(
    monkeypatch: pytest.MonkeyPatch, norm: Sequence[nn.Module], build
) -> None:
    """1e-5 over 20 steps; later Adam makes steps of roundings."""
    layers = [nn.Flatten(), nn.Linear(192, 8), *norm, nn.GELU(), nn.Dropout(0.0), nn.Linear(8, 2)]
    register("small", nn.Sequential(*layers))
    config = replace(TRAIN_ALL, encoder="small", spare=Spare())
    data = DATA.weigh({"t1": 2.0})  # so that heads of single tasks are not all of one form
    arguments = (lambda: build(config, data), data, config, 20)
    (losses, state), (plain, other) = in_both_forms(monkeypatch, *arguments)
    assert not torch.equal(losses, plain)  # two forms indeed
    torch.testing.assert_close(losses, plain, rtol=0, atol=1e-5)
    found, wanted = (dict(one.network.named_buffers()) for one in (state, other))
    for name in wanted:  # the mean moves with a bias, of which batch norm leaves only roundings
        if name.endswith("running_var"):
            torch.testing.assert_close(found[name], wanted[name])


def test_the_plain_form_comes_back_as_it_was() -> None:
    """Weights, optimisers and what they remember: each its own memory, laid out as before."""
    state = TrainState(learned(CONFIG, DATA), CONFIG)
    steps = continue_steps(state, DATA, 100)
    next(steps)
    assert state.program is not state.network
    state.unstack()
    kept = {name: value.clone() for name, value in state.network.state_dict().items()}
    layouts = [weight.stride() for weight in learned(CONFIG, DATA).parameters()]
    assert [weight.stride() for weight in state.network.parameters()] == layouts
    memory = {
        own: {k: v.clone() for k, v in m.items()}
        for own, m in state.optimizers["weights"].state.items()
    }
    weights = [w for w in state.network.parameters() if w is not state.network.assignment.logits]
    assert set(memory) == set(weights)
    Stack([state])
    state.unstack()
    for name, value in state.network.state_dict().items():
        assert torch.equal(value, kept[name])
    for own, entry in state.optimizers["weights"].state.items():
        assert own.untyped_storage().nbytes() == own.nbytes
        assert all(torch.equal(value, memory[own][name]) for name, value in entry.items())
        assert entry["exp_avg"].stride() == own.stride()


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize(
    "layers",
    [
        [Doubled(), nn.Flatten(), nn.Linear(192, 2)],
        [nn.Conv2d(3, 4, 2), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(144, 2)],
        [nn.Conv2d(3, 6, 2, groups=3), nn.Flatten(), nn.Linear(294, 2)],
        [nn.Flatten(), nn.Dropout(), nn.Linear(192, 2)],
    ],
)
def test_anything_else_keeps_the_plain_form(layers: list[nn.Module]) -> None:
    """Modules of one's own, a convolution behind another, layers that draw before the branches."""
    register("other", nn.Sequential(*layers))
    config = replace(CONFIG, encoder="other")
    state = TrainState(learned(config, DATA), config)
    assert not can_stack(state, DATA.feature_shape)
    next(continue_steps(state, DATA, 2))
    assert state.program is state.network


def test_what_trains_otherwise_keeps_the_plain_form(monkeypatch: pytest.MonkeyPatch) -> None:
    def stacks(config: TrainConfig) -> bool:
        return can_stack(TrainState(learned(config, DATA), config), DATA.feature_shape)

    assert stacks(CONFIG)
    assert not stacks(replace(CONFIG, precision="bfloat16"))
    assert not stacks(replace(CONFIG, cuda_graph=True))
    assert not stacks(replace(CONFIG, batch_size=10**7))  # not small
    alone = TrainState(build_network(DATA, CONFIG), CONFIG)
    assert not can_stack(alone, DATA.feature_shape)
    state = TrainState(learned(CONFIG, DATA), CONFIG)
    state.backward = lambda total, loss_matrix: total.backward()
    assert not can_stack(state, DATA.feature_shape)
    monkeypatch.setenv("DMTG_PLAIN", "1")
    assert not stacks(CONFIG)


@pytest.mark.parametrize("is_split", [False, True])
def test_two_runs_in_one_stack_lose_what_each_loses_alone(is_split: bool) -> None:
    """Other weights and other rows in each."""
    states = []
    for seed in range(2):
        network = branch_out(build_network(DATA, CONFIG, seed=seed), 3, CONFIG, seed=seed)
        states.append(TrainState(network, CONFIG))
    inputs = [DATA.train.features[:16], DATA.train.features[40:56]]
    batches = Batches(DATA.train, DATA.tasks, DATA.device)
    targets = [batches.take(slice(n, n + 16))[1] for n in (0, 40)]
    name = "compute_split_losses" if is_split else "compute_loss_matrix"
    pairs = zip(states, inputs, targets, strict=True)
    alone = [getattr(state.network, name)(x, y) for state, x, y in pairs]
    together = Stack(states).compute(inputs, targets, is_split=is_split)
    for one, both in zip(alone, together, strict=True):
        one = one if is_split else (one,)
        assert len(one) == len(both)
        for plain, stacked in zip(one, both, strict=True):
            torch.testing.assert_close(stacked, plain)
    states[0].unstack()
    assert all(state.program is state.network for state in states)
