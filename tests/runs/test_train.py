"""What the training loop promises: the paper's step and what may happen between two steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_runs import CONFIG, DATA, assert_equal, list_batches, make_data, run, start
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from dmtg_lite.core.config import HeadOptions, Pruning, Spare, TrainConfig
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.record import Knobs
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.step import take_steps
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import branch_out, build_network, continue_steps, fit, train_steps
from dmtg_lite.runs.history import History
from dmtg_lite.runs.run import pretrain


def get_images(rows: Tensor) -> Tensor:
    x = DATA.train.images[rows].float() * (1 / 255)
    return x.contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------- the step is the paper's
def plain_run(
    config: TrainConfig, network: GroupedNetwork, k: int, names: list[str], n_steps: int
) -> tuple[nn.Module, list[list[float]]]:
    """Branch k alone, as anyone would write it: nn.Linear, F.cross_entropy a task, Adam."""
    linear = nn.Linear(*reversed(network.heads[k].linear.weight.shape))
    linear.load_state_dict(network.heads[k].linear.state_dict())
    model = nn.Sequential(network.branches[k], linear).train()  # plain torch layers only
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    losses = []
    for rows in list_batches(config, n_steps):
        parts = model(get_images(rows)).split(2, dim=1)
        pairs = list(zip(parts, [DATA.train.targets[name][rows] for name in names], strict=True))
        each = torch.stack([F.cross_entropy(*pair) for pair in pairs])
        # the same numbers, added up image by image for all tasks at once
        by_image = [F.cross_entropy(*pair, reduction="none").detach() for pair in pairs]
        losses.append(torch.stack(by_image, 1).mean(0).tolist())
        torch.testing.assert_close(torch.tensor(losses[-1]), each.detach(), rtol=1e-6, atol=0)
        optimizer.zero_grad()
        each.sum().backward()
        optimizer.step()
    return model, losses


@pytest.mark.parametrize("encoder", ["toy", "resnet"])
@pytest.mark.parametrize("groups", [[0, 0, 0, 0], [0, 1, 2, 3]], ids=["naive", "stl"])
def test_a_fixed_grouping_is_plain_training(
    groups: list[int], encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One group *is* Naive MTL, a diagonal *is* STL: plain loops bit for bit.

    A mean over a batch depends in its last digit on the order of addition: the plain losses are
    taken both image by image, for equality, and as F.cross_entropy's own mean within 1e-6.
    """
    monkeypatch.setenv("DMTG_PLAIN", "1")  # the stacked form is the same but for rounding
    config = replace(CONFIG, encoder=encoder)
    fixed, plain = (
        build_network(DATA, config).branch_out(max(groups) + 1, group_of=groups) for _ in range(2)
    )
    history, _ = fit(fixed, DATA, config, n_steps=9)
    for k, (branch, head) in enumerate(zip(fixed.branches, fixed.heads, strict=True)):
        names = [task.name for task in head.tasks]
        (other, linear), losses = plain_run(config, plain, k, names, 9)
        assert_equal(dict(branch.state_dict()), dict(other.state_dict()))
        assert_equal(dict(head.linear.state_dict()), dict(linear.state_dict()))
        np.testing.assert_array_equal(
            history.task_losses[:, head.served], np.array(losses, np.float32)
        )


@pytest.mark.parametrize("tau", [2.5, 0.5])
def test_learned_steps_are_the_papers(tau: float) -> None:
    """Oracle by hand: one Gumbel draw, total = sum of L * Z, one Adam on weights and S together."""
    # jitter: the S gradient of tied branches is rounding alone, which Adam blows up to a full step
    config = replace(CONFIG, tau=tau, lr_assignment=None, jitter=0.3)
    network, plain = start(config), start(config)
    assert (network.assignment.logits == 1 / 3).all()
    history, _ = fit(network, DATA, config, n_steps=5)
    logits = torch.full((4, 3), 1 / 3, requires_grad=True)
    modules = nn.ModuleList(
        nn.Sequential(branch, head.linear)
        for branch, head in zip(plain.branches, plain.heads, strict=True)
    )
    optimizer = torch.optim.Adam([*modules.parameters(), logits], lr=config.lr)
    noise = torch.Generator().manual_seed(derive_seed(config.seed, Stream.NOISE))
    for step, rows in enumerate(list_batches(config, 5)):
        gumbel = -torch.empty(4, 3).exponential_(generator=noise).log()
        z = torch.softmax((logits + gumbel) / tau, 1)
        outputs = [model(get_images(rows)).split(2, dim=1) for model in modules]
        each = [
            torch.stack(
                [F.cross_entropy(out[n], DATA.train.targets[name][rows]) for out in outputs]
            )
            for n, name in enumerate(DATA.task_names)
        ]
        task_losses = (z * torch.stack(each)).sum(1)
        optimizer.zero_grad()
        task_losses.sum().backward()
        optimizer.step()
        # float32 in another order of addition, five Adam steps deep
        own, other = history.task_losses[step], task_losses.detach().numpy()
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)
        own, other = history.probabilities[step], logits.detach().softmax(1).numpy()
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-4)


class Syncs(TorchDispatchMode):
    """Remembers the kernels that make the host wait for a value."""

    WAITS = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        self.waits += [name] * (name.removeprefix("aten::") in self.WAITS)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"estimator": "straight_through", "schedule": "multistep"},
        {"tau": (10.0, 0.1), "precision": "bfloat16"},
        {"normalise_losses": True, "pruning": Pruning(below=0.2, start=1)},
    ],
    ids=str,
)
def test_a_step_never_waits_for_the_device(change: dict) -> None:
    """No value travels to the host and nothing branches on data, in 30 steps, several epochs."""
    data, config = make_data(9), replace(CONFIG, **change, steps=30)
    steps = train_steps(start(config, data=data), data, config)
    next(steps)  # Adam sets itself up in its first step
    with Syncs() as mode:
        assert len(list(steps)) == 29
    assert mode.waits == []


def test_images_stay_channels_last_to_the_last_convolution() -> None:
    """The layout that makes a CPU step fast is not lost on the way through pools and norms."""
    network, layouts = start(replace(CONFIG, encoder="resnet")), []

    def note(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        if module.training:  # not while multiply-adds are counted
            layouts.extend(x.is_contiguous(memory_format=torch.channels_last) for x in (*args, out))

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)):
            module.register_forward_hook(note)
    next(train_steps(network, DATA, CONFIG))
    assert layouts == [True] * 2 * 3 * 7


# ---------------------------------------------------------------- between two steps
def test_callbacks_are_all_that_is_not_the_papers() -> None:
    """Bare steps leave rates, heads and branches alone, whatever the config; a run does not."""
    config = replace(
        CONFIG,
        steps=30,
        batch_size=70,
        schedule="multistep",
        pruning=Pruning(below=0.3, start=1),
        spare=Spare(branches=1, close_from=6),
        lr_assignment=0.5,
    )
    bare = TrainState(start(config), config)
    records = list(take_steps(bare, DATA, config.steps))
    assert {record.lr_assignment for record in records} == {0.5}
    assert not any(record.closing or record.elbow for record in records)
    assert (bare.network.n_groups, bare.network.n_spare, bare.encoder_macs) == (4, 1, 0)
    assert bare.network.assignment.active.all()

    whole = TrainState(start(config), config)
    records = list(continue_steps(whole, DATA, config.steps))
    assert {record.lr_assignment for record in records} == {0.5, 0.25}
    assert [record.step for record in records if record.closing] == [6]
    assert (whole.network.n_groups <= 3, whole.network.n_spare) == (True, 0)
    assert whole.encoder_macs > 0
    assert not whole.network.assignment.active.all()


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


def test_loss_matrices_are_the_losses_of_every_head() -> None:
    """With K = 1 they are the task losses, to float16; nan where a fixed grouping has no head."""
    naive, _ = fit(build_network(DATA, CONFIG), DATA, CONFIG, n_steps=3)
    np.testing.assert_array_equal(
        naive.loss_matrices[:, :, 0], naive.task_losses.astype(np.float16)
    )
    fixed = build_network(DATA, CONFIG).branch_out(2, group_of=[0, 1, 1, 0])
    matrices = fit(fixed, DATA, CONFIG, n_steps=3)[0].loss_matrices
    here = [[True, False], [False, True], [False, True], [True, False]]
    assert (np.isfinite(matrices) == here).all()
    assert np.isfinite(run(n_steps=3)[0].loss_matrices).all()


def test_knobs_act_at_the_next_step() -> None:
    """Turned between two steps, seen and recorded in the second."""
    knobs = Knobs()
    steps = train_steps(start(), DATA, CONFIG, knobs=knobs)
    assert next(steps).tau == 2.5
    knobs.tau, knobs.lr_assignment = 0.5, 0.0
    second, third = next(steps), next(steps)
    assert (second.tau, second.lr_assignment) == (0.5, 0.0)
    assert torch.equal(third.probabilities, second.probabilities)


# ---------------------------------------------------------------- options
# 40 steps, at a rate at which validation losses jump
BASE = replace(CONFIG, steps=40, lr_assignment=0.3, lr=0.2, batch_size=35)


@pytest.fixture(scope="module")
def base() -> History:
    return run(BASE)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 0.5}, {"tau": (2.5, 0.5)}, {"estimator": "straight_through"},
        {"estimator": "softmax"}, {"lr": 1e-3}, {"lr_assignment": None}, {"batch_size": 8},
        {"shared": 1}, {"normalise_losses": True}, {"pruning": Pruning(below=0.3, start=1)},
        {"jitter": 0.1}, {"encoder": "resnet"}, {"capacity": 2}, {"precision": "bfloat16"},
        {"seed": 1}, {"schedule": "plateau"}, {"schedule": "multistep"},
        {"optimiser_assignment": "sgd"}, {"heads": HeadOptions(train_all=True)},
        {"heads": HeadOptions(hidden=4)},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_has_an_effect(change: dict, base: History) -> None:
    """Changing one field alone gives another run."""
    assert not np.array_equal(run(replace(BASE, **change))[0].task_losses, base.task_losses)


def test_a_plateau_is_one_of_the_validation_loss() -> None:
    """Validation labels that contradict the training ones get worse at once: rates are halved."""
    config = replace(CONFIG, schedule="plateau", steps=None, epochs=12, batch_size=35, lr=1e-3)
    opposite = {name: 1 - target for name, target in DATA.train.targets.items()}
    same, worse = (
        run(config, data=replace(DATA, val=val))[0].lr_assignment[-1]
        for val in (DATA.train, replace(DATA.train, targets=opposite))
    )
    assert same > worse


def test_rates_halve_on_a_plateau_and_on_milestones() -> None:
    """A loss that cannot improve: every fourth bad epoch in a row halves. Or every 15 epochs."""
    config = replace(
        CONFIG, lr=0.0, schedule="plateau", steps=None, epochs=11, batch_size=35, lr_assignment=1.0
    )
    network = start(replace(config, estimator="softmax"))
    with torch.no_grad():
        network.assignment.logits[:, 0] = 50.0  # decided: S moves, its winner does not
    history, _ = fit(network, DATA, replace(config, estimator="softmax"))
    per_epoch = history.lr_assignment[::2].tolist()  # two batches an epoch
    assert per_epoch == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    steps, _ = run(replace(config, schedule="multistep", epochs=31, batch_size=70))
    assert steps.lr_assignment.tolist() == [1.0] * 15 + [0.5] * 15 + [0.25]


def test_encoder_passes_are_counted() -> None:
    """Steps x batch x multiply-adds of an image through stem and K branches."""
    conv, hidden, last = 8 * 3 * 16 * 4, 32 * 8 * 4, 32  # toy encoder at 8x8: 4 patches
    assert run()[1].encoder_macs == 12 * 16 * 3 * (conv + hidden + last)
    shared = run(replace(CONFIG, shared=1))[1]
    assert shared.encoder_macs == 12 * 16 * (conv + 3 * (hidden + last))


def test_pretraining_is_naive_mtl_and_branches_start_from_it() -> None:
    """As many steps as the config says, one branch, and K copies of what came out."""
    config = replace(CONFIG, pretrain=5)
    naive, state = pretrain(DATA, config)
    assert (naive.n_groups, state.step) == (1, 5)
    old = list(naive.branches[0].parameters())
    for branch in branch_out(naive, 3, config).branches:
        own = list(branch.parameters())
        assert_equal(own, old)
        assert [weight.stride() for weight in own] == [weight.stride() for weight in old]


def test_evaluate_by_hand() -> None:
    """Every image counts once, whatever the batches; each task is read from its winning branch."""
    network, group_of = start(replace(CONFIG, jitter=0.5)), [2, 0, 1, 2]
    with torch.no_grad():
        network.assignment.logits[range(4), group_of] = 3.0
    result = evaluate(network, DATA.test, batch_size=10)
    assert not network.training
    images = DATA.test.images.float() / 255
    for n, (name, k) in enumerate(zip(DATA.task_names, group_of, strict=True)):
        logits = network.heads[k].linear(network.branches[k](images))[:, 2 * n : 2 * n + 2].detach()
        truth = DATA.test.targets[name]
        assert result.losses[name] == pytest.approx(F.cross_entropy(logits, truth).item(), rel=1e-5)
        wrong = int((logits.argmax(1) != truth).sum())
        assert result.errors[name] == pytest.approx(100 * wrong / 33)
