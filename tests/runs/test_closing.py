"""Spare branches close by the loss matrix, and everything that knew the branch lets go of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small_runs import DATA, assert_equal, assert_same_run, make_data, stack_targets, start
from torch import Tensor

from dmtg_lite import methods
from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs import spare
from dmtg_lite.runs.cutting import close_branch
from dmtg_lite.runs.fit import build_network, continue_fit, continue_steps, fit
from dmtg_lite.runs.history import History
from dmtg_lite.runs.spare import (
    compute_closing_costs,
    find_next_best,
    imagine_closings,
    read_n_groups,
)
from dmtg_lite.views.live import LiveSession

# opens 2 x 2 branches and closes one after step 6, one after step 9
CONFIG = replace(
    small_runs.CONFIG, steps=14, spare=Spare(branches="double", close_from=6, close_every=3)
)
SGD = replace(CONFIG, optimiser_assignment="sgd", lr_assignment=1.0, normalise_losses=True)
RANDOM = replace(CONFIG, spare=replace(CONFIG.spare, rule="random"))
TRAIN_ALL = HeadOptions(train_all=True)

# a, b live in branch 0, of which 1 is a copy; c and d have 2 to themselves, e is in 3
L = torch.tensor(
    [
        [0.10, 0.11, 0.70, 0.60],
        [0.20, 0.20, 0.70, 0.60],
        [0.70, 0.70, 0.05, 0.60],
        [0.70, 0.70, 0.10, 0.65],
        [0.60, 0.60, 0.60, 0.50],
    ]
)


def run(config: TrainConfig = CONFIG, n_groups: int | str = 2, **options) -> small_runs.Run:
    return small_runs.run(config, n_groups=n_groups, **options)


def all_to(branch: int) -> Tensor:
    return torch.full((4,), branch)


# ---------------------------------------------------------------- the rule, on matrices by hand
@pytest.mark.parametrize(
    ("group_of", "expected"),
    [
        ([0, 0, 2, 2, 3], [0.01 + 0.00, 0.0, 0.55 + 0.55, 0.10]),  # without tasks: nothing
        ([0, 1, 2, 2, 3], [0.01, 0.0, 0.55 + 0.55, 0.10]),  # a copy with tasks is as cheap
        ([3, 0, 2, 2, 3], [0.0, 0.0, 0.55 + 0.55, -0.5 + 0.1]),  # overtaken: negative
    ],
)
def test_costs_by_hand(group_of: list[int], expected: list[float]) -> None:
    """What the tasks of each branch lose at their next best one."""
    costs = compute_closing_costs(L, torch.tensor(group_of))
    torch.testing.assert_close(costs, torch.tensor(expected))


def test_a_duplicate_closes_first_and_the_irreplaceable_branch_last() -> None:
    """The copy without tasks, then the branch hardly needed; never 2, which c and d would miss."""
    elbow = imagine_closings(L, torch.tensor([0, 0, 2, 2, 3]))
    assert elbow["n_branches"] == [4, 3, 2]
    assert elbow["branches"] == [1, 3, 0]
    # a, b (0.10, 0.20) and e (0.60 by now) leave 0 for 2, where e is as well off
    np.testing.assert_allclose(elbow["costs"], [0.0, 0.10, 0.60 + 0.50 + 0.0], atol=1e-6)
    assert elbow["n_groups"] == 2


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(2, 6))
def test_costs_are_the_loops_of_the_formula(seed: int, n_tasks: int, n_groups: int) -> None:
    """Against a loop over branches, tasks and alternatives, on any matrix and assignment."""
    rng = np.random.default_rng(seed)
    matrix, group_of = rng.random((n_tasks, n_groups)), rng.integers(0, n_groups, n_tasks)
    expected = np.zeros(n_groups)
    for row, own in zip(matrix, group_of, strict=True):
        expected[own] += min(np.delete(row, own)) - row[own]
    costs = compute_closing_costs(torch.from_numpy(matrix), torch.from_numpy(group_of))
    np.testing.assert_allclose(costs, expected, atol=1e-12)
    for k in range(n_groups):
        order = [j for j in matrix[0].argsort() if j != k]
        assert find_next_best(torch.from_numpy(matrix), k)[0] == order[0]


@pytest.mark.parametrize(
    ("costs", "n_groups"),
    [
        ([0, 0, 0.01, 0.04, 0.17, 0.23, 1.13, 1.23], 3),  # 9 -> 1
        ([0.0, 0.0, 0.9], 2),
        ([0.8, 0.9], 3),  # nothing to spare: the first closing already costs
        ([-0.4, 0.1, 0.5], 2),  # a gain is no reason to stop earlier
        ([], 1),
        ([0.0, 0.0, 0.0], 2),  # nothing costs anything: the fewest
    ],
)
def test_the_number_of_groups_is_where_the_cost_rises_most(costs, n_groups: int) -> None:
    """K = branches open before the first dear closing."""
    assert read_n_groups(costs) == n_groups


@pytest.mark.parametrize(
    ("matrix", "group_of", "complaint"),
    [
        (torch.zeros(3, 1), [0, 0, 0], "the last branch cannot close"),
        (torch.zeros(3), [0, 0, 0], "must have shape"),
        (torch.zeros(3, 2), [0, 0], "each of the 3 tasks"),
        (torch.zeros(3, 2), [0, 1, 2], "from 0 to 1"),
    ],
)
def test_nonsense_is_refused(matrix: Tensor, group_of: list[int], complaint: str) -> None:
    """By a message that says what was expected."""
    with pytest.raises(ValueError, match=complaint):
        compute_closing_costs(matrix, torch.tensor(group_of))


# ---------------------------------------------------------------- the network
def make_state() -> TrainState:
    """Four branches that differ, and random logits."""
    network = build_network(DATA, CONFIG).branch_out(4, jitter=0.5)
    with torch.no_grad():
        network.assignment.logits.normal_(generator=torch.Generator().manual_seed(0))
    return TrainState(network, CONFIG)


IMAGES, TARGETS = DATA.train.images[:16], stack_targets(DATA, slice(16))


@pytest.mark.parametrize("branch", range(4))
def test_the_other_branches_do_not_notice(branch: int) -> None:
    """Losses of those that stay are the same numbers; tasks move as told and no others do."""
    state = make_state()
    network = state.network
    before = network.compute_loss_matrix(IMAGES, TARGETS).detach()
    group_of, next_best = network.assignment.group_of(), find_next_best(before, branch)
    s = network.assignment.logits.detach().clone()
    close_branch(state, branch, next_best)
    kept = [k for k in range(4) if k != branch]
    assert network.branch_ids == kept
    assert_equal(network.compute_loss_matrix(IMAGES, TARGETS).detach(), before[:, kept])
    moved = group_of == branch
    expected = torch.where(moved, next_best, group_of)
    assert [kept[k] for k in network.assignment.group_of()] == expected.tolist()
    for n in moved.nonzero().flatten():  # S[i, j] = max(S[i, j], S[i, k])
        s[n, next_best[n]] = max(s[n, next_best[n]], s[n, branch])
    assert_equal(network.assignment.logits.detach(), s[:, kept])
    torch.testing.assert_close(network.assignment.probabilities().sum(1), torch.ones(4))


def test_a_network_with_closed_branches_predicts_and_prunes() -> None:
    """Widened, a branch stands where it was opened; pruned, N heads predict the same."""
    state = make_state()
    close_branch(state, 1, all_to(0))
    close_branch(state, 2, all_to(0))  # by now the one opened as number 3
    network = state.network.eval()
    assert network.branch_ids == [0, 2]
    wide = network.widen(torch.tensor([[1.0, 2.0]] * 4))
    assert wide.tolist() == [[1.0, 0.0, 2.0, 0.0]] * 4
    torch.testing.assert_close(network.prune()(IMAGES), network(IMAGES))
    one = count_macs(build_network(DATA, CONFIG), DATA.feature_shape)["branches"]
    assert count_macs(network, DATA.feature_shape)["branches"] == 2 * one


def test_a_branch_that_cannot_close_is_refused() -> None:
    """The last one, one that is not there, and one whose tasks have no head elsewhere."""
    naive = build_network(DATA, CONFIG)
    with pytest.raises(ValueError, match="the last branch cannot close"):
        close_branch(TrainState(naive, CONFIG), 0, all_to(0))
    fixed = naive.branch_out(2, group_of=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="task 't0' cannot move from branch 0 to 1"):
        close_branch(TrainState(fixed, CONFIG), 0, all_to(1))
    state = make_state()
    for index, next_best in ((-1, all_to(0)), (4, all_to(0)), (0, all_to(0)[:3])):
        with pytest.raises(ValueError, match="`index` must be 0 to 3"):
            close_branch(state, index, next_best)
    own = int(state.network.assignment.group_of()[0])
    with pytest.raises(ValueError, match=f"cannot move from branch {own} to 9"):
        close_branch(state, own, all_to(9))
    assert state.network.n_groups == 4


def test_split_losses_are_one_matrix_with_two_gradients() -> None:
    """One teaches encoders alone, the other heads alone, and every head as if Z were 1."""
    network = make_state().network
    z = torch.rand(4, 4, generator=torch.Generator().manual_seed(1))
    encoders = [*network.stem.parameters(), *network.branches.parameters()]
    heads = list(network.heads.parameters())
    plain = network.compute_loss_matrix(IMAGES, TARGETS)
    expected = [
        *torch.autograd.grad((plain * z).sum(), encoders, retain_graph=True),
        *torch.autograd.grad(plain.sum(), heads),
    ]
    held, free = network.compute_split_losses(IMAGES, TARGETS)
    torch.testing.assert_close([held, free], [plain, plain])
    found = torch.autograd.grad((held * z).sum() + free.sum(), [*encoders, *heads])
    torch.testing.assert_close(list(found), expected)


# ---------------------------------------------------------------- while training
def check_optimizers(state: TrainState) -> None:
    """They hold the network's weights, each once, with memories of the same shape."""
    optimizers = state.optimizers.values()
    held = [w for optimizer in optimizers for w in optimizer.param_groups[0]["params"]]
    assert sorted(map(id, held)) == sorted(map(id, state.network.parameters()))
    for weight, memory in [entry for optimizer in optimizers for entry in optimizer.state.items()]:
        assert id(weight) in map(id, held)
        assert all(value.shape in (weight.shape, torch.Size([])) for value in memory.values())


@pytest.mark.parametrize("config", [CONFIG, SGD, replace(CONFIG, heads=TRAIN_ALL)])
def test_weights_s_and_optimiser_memory_leave_together(config: TrainConfig) -> None:
    """The optimisers hold what is open, and remember for it just what they did before."""
    state = TrainState(start(config, n_groups=2), config)
    steps = continue_steps(state, DATA, config.steps)
    for _ in range(5):
        next(steps)
    state.unstack()

    def remember(trains: str) -> dict[int, dict[str, Tensor]]:
        memory = state.optimizers[trains].state
        return {id(w): {name: v.clone() for name, v in m.items()} for w, m in memory.items()}

    weights, (of_s,) = remember("weights"), remember("assignment").values()
    close_branch(state, 1, all_to(0))
    check_optimizers(state)
    for weight, memory in remember("weights").items():
        assert_equal(memory, weights[weight])
    (after,) = remember("assignment").values()
    assert_equal(after, {name: v[:, [0, 2, 3]] if v.ndim else v for name, v in of_s.items()})
    for _ in steps:  # and the run goes on to its end
        state.unstack()
        check_optimizers(state)
    assert state.network.n_groups == 2


def test_branches_close_on_time_until_k_remain() -> None:
    """4 -> 3 after step 6, 3 -> 2 after step 9; a closed column is empty from its record on."""
    history, state = run()
    assert [(c["step"], len(c["branches"])) for c in history.closings] == [(6, 4), (9, 3)]
    assert (history.n_groups, state.network.n_groups, state.network.n_spare) == (4, 2, 0)
    is_open = (history.probabilities > 0).any(1)  # (T, M)
    assert is_open.sum(1).tolist() == [4] * 5 + [3] * 3 + [2] * 6
    for closing in history.closings:
        step, branch = closing["step"], closing["branch"]
        assert not is_open[step - 1 :, branch].any()
        assert is_open[: step - 1, branch].all()
        # the step of the closing was still taken with it
        assert np.isnan(history.loss_matrices[step:, :, branch]).all()
        assert np.isfinite(history.loss_matrices[:step, :, branch]).all()
        cheapest = closing["branches"][int(np.argmin(closing["costs"]))]
        assert (branch, closing["cost"]) == (cheapest, min(closing["costs"]))
    np.testing.assert_allclose(history.probabilities.sum(2), 1, atol=1e-6)
    assert json.loads(json.dumps(history.closings)) == history.closings
    assert history.elbow["n_branches"] == [4, 3, 2]


def test_thinned_records_keep_every_closing() -> None:
    """A history with every fifth record still shows when a branch closed."""
    history, _ = run(record_every=5)
    assert history.steps.tolist() == [5, 6, 9, 10, 14]
    assert [closing["step"] for closing in history.closings] == [6, 9]


@pytest.mark.parametrize(
    ("config", "n_groups"),
    [(CONFIG, 2), (SGD, 2), (replace(RANDOM, heads=TRAIN_ALL), 2), (CONFIG, "auto")],
)
def test_stop_and_resume_across_a_closing_is_bit_for_bit(config, n_groups, tmp_path: Path) -> None:
    """Stopped before, at or after a closing, or before K is known, and continued from the file."""
    whole = run(config, n_groups)
    for stop_at in (5, 6, 7, 9, 11):
        path = tmp_path / f"{stop_at}.safetensors"
        run(config, n_groups, stop_at=stop_at, checkpoint=path)
        assert_same_run(run(config, n_groups, checkpoint=path), whole)


def test_the_choice_depends_on_seed_and_data_alone() -> None:
    """Not on torch's or numpy's global streams, nor on how the run is cut into calls."""
    first = run()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002  the global stream is the point
    second = run(stop_at=7)
    continue_fit(*second, DATA, CONFIG.steps)
    assert_same_run(first, second)
    others = [run(replace(CONFIG, seed=seed))[0].closings for seed in range(1, 4)]
    assert any(other != first[0].closings for other in others)


def test_every_encoder_pass_is_counted() -> None:
    """6 steps of 4 branches, 3 of 3, 5 of 2; two looks at 64 images, each a third of 4 steps."""
    one = count_macs(build_network(DATA, CONFIG), DATA.feature_shape)["encoder"] * 16
    looks = (4 * 4 * one) // 3 + (4 * 3 * one) // 3
    assert run()[1].encoder_macs == (6 * 4 + 3 * 3 + 5 * 2) * one + looks


def test_the_control_closes_at_random() -> None:
    """Over seeds it does not always take the branch that is missed least."""
    closings = [c for seed in range(6) for c in run(replace(RANDOM, seed=seed))[0].closings]
    cheapest = [c["cost"] == min(c["costs"]) for c in closings]
    assert 0 < sum(cheapest) < len(cheapest)


SHORT = replace(CONFIG, steps=8, pretrain=10**9)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: run(SHORT),
        lambda: methods.dmtg(DATA, 2, SHORT),
        lambda: LiveSession(DATA, 2, config=SHORT, name="short"),
    ],
)
def test_a_run_too_short_to_close_them_all_is_refused(refused) -> None:
    """With the step of the last closing, before any training."""
    complaint = r"2 branches are to close, the last after step 9 .* has 8 steps"
    with pytest.raises(ValueError, match=complaint):
        refused()


@pytest.mark.parametrize("n_groups", [0, -1, "three", 2.5, True, None])
def test_a_number_of_groups_that_is_none_is_refused(n_groups) -> None:
    """Before the pretraining, not after; and K is not found by several runs."""
    with pytest.raises(ValueError, match="`n_groups` must be a whole number >= 1"):
        methods.dmtg(DATA, n_groups, SHORT)
    with pytest.raises(ValueError, match="do not go together"):
        methods.dmtg(DATA, "auto", replace(SHORT, restarts=Restarts(n=2)))


def test_heads_are_pruned_only_when_all_spare_branches_are_closed() -> None:
    """Not at step 25, when a task may still need the head it hardly uses; at step 50."""
    config = replace(
        CONFIG,
        steps=52,
        pruning=Pruning(below=0.49, start=1),
        lr_assignment=0.5,
        spare=replace(CONFIG.spare, close_from=30),
    )
    history, _ = run(config)
    assert [closing["step"] for closing in history.closings] == [30, 33]
    gone = (history.probabilities == 0).sum(2)  # (T, N): heads that a task has lost, of four
    assert (gone[:29] == 0).all()
    assert (gone[32:49] == 2).all()  # those of the closed branches
    assert (gone[49:] > 2).any()


def draw_probe(state: TrainState) -> Tensor:
    """The 64 training images that say which branch is missed least."""
    rng = torch.Generator().manual_seed(derive_seed(state.seed, Stream.PROBE))
    return torch.randperm(70, generator=rng)[:64]


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("encoder", ["toy", "resnet"])
def test_a_closing_is_what_the_losses_say(encoder: str, normalise: bool) -> None:
    """Costs, choice and moves of a real run against losses computed here, image by image.

    A run whose first closing comes a step later is the same run up to there.
    """
    config = replace(CONFIG, encoder=encoder, normalise_losses=normalise, lr_assignment=0.5)
    first = run(config)[0].closings[0]
    _, before = run(replace(config, spare=replace(config.spare, close_from=7)), stop_at=6)
    network: GroupedNetwork = before.network.eval()
    rows = draw_probe(before)
    images = DATA.train.images[rows].to(memory_format=torch.channels_last)
    matrix = np.empty((4, 4))
    for k in range(4):
        logits = network.heads[k].linear(network.branches[k](images / 255)).detach().split(2, dim=1)
        for n, name in enumerate(DATA.task_names):
            matrix[n, k] = F.cross_entropy(logits[n], DATA.train.targets[name][rows])
    if normalise:
        matrix /= matrix.mean(1, keepdims=True)
    group_of = network.assignment.logits.detach().numpy().argmax(1)
    costs, heirs = np.zeros(4), {}
    for n, own in enumerate(group_of):
        heirs[n] = min((k for k in range(4) if k != own), key=lambda k, n=n: matrix[n, k])
        costs[own] += matrix[n, heirs[n]] - matrix[n, own]
    np.testing.assert_allclose(first["costs"], costs, atol=2e-5)
    assert first["branch"] == costs.argmin()
    assert first["moved"] == {f"t{n}": heirs[n] for n in range(4) if group_of[n] == costs.argmin()}


def test_a_probe_weighs_images_by_their_labels() -> None:
    """A batch in which nobody carries a task's label says nothing about that task."""
    labels = DATA.train.targets | {"t0": DATA.train.targets["t0"].clone()}
    labels["t0"][torch.randperm(70, generator=torch.Generator().manual_seed(0))[:66]] = -1
    data = replace(DATA, train=replace(DATA.train, targets=labels))
    state = TrainState(start(CONFIG, n_groups=2), CONFIG)
    found = spare.CloseSpare(data)._probe(state)
    rows = draw_probe(state)
    rows = rows[labels["t0"][rows] >= 0]
    images, targets = data.train.images[rows], stack_targets(data, rows)
    torch.testing.assert_close(
        found[0], state.network.compute_loss_matrix(images, targets)[0].detach()
    )


def test_a_loss_that_is_no_number_closes_nothing() -> None:
    """The run stops with a task's name: the encoder has carried it on to others."""
    config = replace(CONFIG, lr=0.0, lr_assignment=0.0)
    network = start(config, n_groups=2)
    with torch.no_grad():
        network.heads[0].linear.bias[2] = torch.nan  # of task t1
    complaint = r"the loss of task 't\d' is not finite at step 6"
    with pytest.raises(FloatingPointError, match=complaint):
        list(continue_steps(TrainState(network, config), DATA, config.steps))


def test_another_k_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Both open four branches, and still one run must not continue as the other."""
    methods.dmtg(DATA, 2, CONFIG, saving=methods.Saving(tmp_path))
    for other in (3, "auto"):
        with pytest.raises(ValueError, match="was made with K=2; this run has K="):
            methods.dmtg(DATA, other, CONFIG, saving=methods.Saving(tmp_path))


def test_training_goes_on_with_a_network_that_has_closed_branches() -> None:
    """A new run of it records the closed columns as 0."""
    history: History = fit(run()[1].network, DATA, replace(CONFIG, steps=3))[0]
    assert history.probabilities.shape == (3, 4, 4)
    assert ((history.probabilities > 0).any(1).sum(1) == 2).all()


def test_auto_reads_k_off_the_costs_and_trains_with_it() -> None:
    """The result has at most the K that its own closing costs say."""
    config = replace(CONFIG, steps=30, spare=replace(CONFIG.spare, branches=4))
    result = methods.dmtg(make_data(6), "auto", config)
    elbow = result.elbow
    assert elbow["n_branches"] == [5, 4, 3, 2]
    assert read_n_groups(elbow["costs"]) == elbow["n_groups"]
    assert 5 - len(result.closings) == elbow["n_groups"] >= len(result.groups)
