"""Spare branches close by the loss matrix, and everything that knew the branch lets go of it at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from test_train import DATA, assert_same_run, make_data, start

from dmtg_lite import methods
from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.network import GroupedNetwork
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.runs import spare
from dmtg_lite.runs.cutting import close_branch
from dmtg_lite.runs.fit import build_network, continue_fit, continue_steps, fit
from dmtg_lite.runs.spare import (
    compute_closing_costs,
    find_next_best,
    imagine_closings,
    read_n_groups,
)
from dmtg_lite.views.live import LiveSession

# opens 2 x 2 branches and closes one after step 6, one after step 9
CONFIG = TrainConfig(
    steps=14,
    batch_size=16,
    lr=1e-2,
    lr_assignment=0.1,
    spare=Spare(branches="double", close_from=6, close_every=3),
)
SGD = replace(CONFIG, optimiser_assignment="sgd", lr_assignment=1.0, normalise_losses=True)

# tasks a, b live in branch 0, of which branch 1 is a copy; c and d have branch 2 to themselves, e
# is in 3
L = torch.tensor(
    [
        [0.10, 0.11, 0.70, 0.60],
        [0.20, 0.20, 0.70, 0.60],
        [0.70, 0.70, 0.05, 0.60],
        [0.70, 0.70, 0.10, 0.65],
        [0.60, 0.60, 0.60, 0.50],
    ]
)
GROUP_OF = torch.tensor([0, 0, 2, 2, 3])


def run(config: TrainConfig = CONFIG, n_groups: int | str = 2, **kwargs):
    return fit(start(config, n_groups=n_groups), DATA, config, **kwargs)


# ---------------------------------------------------------------------- the rule, on hand-made
# matrices
def test_costs_by_hand() -> None:
    """What the tasks of each branch lose at their next best one; a branch without tasks costs nothing."""
    expected = [0.01 + 0.00, 0.0, 0.55 + 0.55, 0.10]
    torch.testing.assert_close(compute_closing_costs(L, GROUP_OF), torch.tensor(expected))


def test_a_duplicate_closes_first_and_the_irreplaceable_branch_last() -> None:
    """An empty copy, then the branch of one mildly attached task; two branches remain that both matter."""
    elbow = imagine_closings(L, GROUP_OF)
    assert elbow["n_branches"] == [4, 3, 2]
    assert elbow["branches"][:2] == [
        1,
        3,
    ]  # the copy without tasks, then the branch that is hardly needed
    assert elbow["branches"][2] == 0  # never 2, where two tasks would be lost
    # c and d stay in 2; a, b (0.10, 0.20) and e (0.60 by now) leave 0 for 2, where e is as well off
    np.testing.assert_allclose(elbow["costs"], [0.0, 0.10, 0.60 + 0.50 + 0.0], atol=1e-6)
    assert elbow["n_groups"] == 2


def test_a_copy_with_tasks_is_as_cheap_as_one_without() -> None:
    """Two copies that share a group's tasks: either may go, at the cost of the difference between them."""
    costs = compute_closing_costs(L, torch.tensor([0, 1, 2, 2, 3]))
    torch.testing.assert_close(costs[:2], torch.tensor([0.01, 0.0]))


def test_a_branch_whose_tasks_are_better_off_elsewhere_has_a_negative_cost() -> None:
    """S may still cling to a branch that another has overtaken."""
    assert compute_closing_costs(L, torch.tensor([3, 0, 2, 2, 3]))[3] == pytest.approx(-0.5 + 0.1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(2, 6))
def test_costs_are_the_loops_of_the_formula(seed: int, n_tasks: int, n_groups: int) -> None:
    """Against a loop over branches, tasks and alternatives, on any matrix and assignment."""
    rng = np.random.default_rng(seed)
    matrix, group_of = rng.random((n_tasks, n_groups)), rng.integers(0, n_groups, n_tasks)
    expected = [
        sum(
            min(matrix[i, j] for j in range(n_groups) if j != k) - matrix[i, k]
            for i in range(n_tasks)
            if group_of[i] == k
        )
        for k in range(n_groups)
    ]
    costs = compute_closing_costs(torch.from_numpy(matrix), torch.from_numpy(group_of))
    np.testing.assert_allclose(costs, expected, atol=1e-12)
    for k in range(n_groups):
        order = [j for j in np.argsort(matrix, axis=1)[0] if j != k]
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
def test_the_number_of_groups_is_where_the_cost_rises_most(
    costs: list[float], n_groups: int
) -> None:
    """K = branches open before the first dear closing."""
    assert read_n_groups(costs) == n_groups


@pytest.mark.parametrize(
    ("matrix", "group_of", "words"),
    [
        (torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), "the last branch cannot close"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), "must have shape"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), "each of the 3 tasks"),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), "from 0 to 1"),
    ],
)
def test_nonsense_is_refused(matrix: torch.Tensor, group_of: torch.Tensor, words: str) -> None:
    """By a message that says what was expected."""
    with pytest.raises(ValueError, match=words):
        compute_closing_costs(matrix, group_of)


# ---------------------------------------------------------------------- the network
def make_network(n_branches: int = 4) -> GroupedNetwork:
    network = build_network(DATA, CONFIG).branch_out(n_branches, jitter=0.5)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        network.assignment.logits.copy_(torch.randn(4, n_branches, generator=generator))
    return network


@pytest.mark.parametrize("branch", range(4))
def test_the_other_branches_do_not_notice(branch: int) -> None:
    """Losses of the branches that stay are the same numbers; tasks move as told and no others do."""
    network = make_network()
    state = TrainState(network, CONFIG)
    images = DATA.train.images[:16]
    targets = torch.stack([DATA.train.targets[name] for name in DATA.task_names], 1)[:16]
    before, s = (
        network.compute_loss_matrix(images, targets),
        network.assignment.logits.detach().clone(),
    )
    group_of, next_best = network.assignment.group_of(), find_next_best(before.detach(), branch)
    close_branch(state, branch, next_best)
    kept = [k for k in range(4) if k != branch]
    assert network.branch_ids == kept
    torch.testing.assert_close(
        network.compute_loss_matrix(images, targets), before[:, kept], rtol=0, atol=0
    )
    expected = torch.where(group_of == branch, next_best, group_of)
    assert [network.branch_ids[k] for k in network.assignment.group_of()] == expected.tolist()
    stayed = group_of != branch
    assert torch.equal(network.assignment.logits[stayed], s[stayed][:, kept])
    for n in (~stayed).nonzero().flatten().tolist():  # S[i, j] = max(S[i, j], S[i, k])
        s[n, next_best[n]] = max(s[n, next_best[n]], s[n, branch])
        assert torch.equal(network.assignment.logits[n], s[n, kept])
    torch.testing.assert_close(network.assignment.probabilities().sum(1), torch.ones(4))


def test_columns_keep_their_numbers() -> None:
    """Widened, an open branch stands where it was opened, and a closed one reads 0."""
    network = make_network()
    state = TrainState(network, CONFIG)
    close_branch(state, 1, torch.zeros(4, dtype=torch.long))
    close_branch(state, 2, torch.zeros(4, dtype=torch.long))  # by now the one opened as number 3
    assert network.branch_ids == [0, 2]
    wide = network.widen(torch.tensor([[1.0, 2.0]] * 4))
    assert wide.tolist() == [[1.0, 0.0, 2.0, 0.0]] * 4


def test_a_network_with_closed_branches_predicts_and_prunes() -> None:
    """Pruning afterwards gives the same predictions from N heads."""
    network = make_network().eval()
    close_branch(TrainState(network, CONFIG), 0, torch.ones(4, dtype=torch.long))
    images = DATA.test.images
    for name, logits in network.prune()(images).items():
        torch.testing.assert_close(logits, network(images)[name])
    assert (
        count_macs(network, DATA.image_shape)["branches"]
        == 3 * count_macs(build_network(DATA, CONFIG), DATA.image_shape)["branches"]
    )


def test_a_branch_that_cannot_close_is_refused() -> None:
    """The last one, and one whose tasks have no head elsewhere."""
    with pytest.raises(ValueError, match="the last branch cannot close"):
        close_branch(
            TrainState(build_network(DATA, CONFIG), CONFIG), 0, torch.zeros(4, dtype=torch.long)
        )
    fixed = build_network(DATA, CONFIG).branch_out(2, group_of=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="task 't0' cannot move from branch 0 to 1"):
        close_branch(TrainState(fixed, CONFIG), 0, torch.ones(4, dtype=torch.long))
    network = make_network()
    state = TrainState(network, CONFIG)
    own = int(network.assignment.group_of()[0])
    for index, next_best in ((-1, torch.zeros(4)), (4, torch.zeros(4)), (0, torch.zeros(3))):
        with pytest.raises(ValueError, match="`index` must be 0 to 3"):
            close_branch(state, index, next_best.long())
    with pytest.raises(ValueError, match=f"cannot move from branch {own} to 9"):
        close_branch(state, own, torch.full((4,), 9))
    assert network.n_groups == 4


def test_split_losses_are_one_matrix_with_two_gradients() -> None:
    """Equal values; one teaches encoders alone, the other heads alone, and every head as if Z were 1."""
    network = make_network()
    state = TrainState(network, CONFIG)
    images = DATA.train.images[:16]
    targets = torch.stack([DATA.train.targets[name] for name in DATA.task_names], 1)[:16]
    z = torch.rand(4, 4, generator=torch.Generator().manual_seed(1))
    plain = network.compute_loss_matrix(images, targets)
    encoders = [*network.stem.parameters(), *network.branches.parameters()]
    heads = list(network.heads.parameters())
    expected = [
        *torch.autograd.grad((plain * z).sum(), encoders, retain_graph=True),
        *torch.autograd.grad(plain.sum(), heads),
    ]
    held, free = network.compute_split_losses(images, targets)
    torch.testing.assert_close(held, plain)
    torch.testing.assert_close(free, plain)
    network.zero_grad()
    ((held * z).sum() + free.sum()).backward()
    for weight, gradient in zip([*encoders, *heads], expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


# ---------------------------------------------------------------------- while training
def check_optimizers(state: TrainState) -> None:
    """They hold the network's weights, all of them, nothing else, with memories of the same shape."""
    held = [
        w for o in state.optimizers.values() for group in o.param_groups for w in group["params"]
    ]
    assert {id(w) for w in held} == {id(w) for w in state.network.parameters()}
    assert len(held) == len(set(map(id, held)))
    for optimizer in state.optimizers.values():
        assert {id(w) for w in optimizer.state} <= {id(w) for w in held}
        for weight, memory in optimizer.state.items():
            assert all(value.shape in (weight.shape, torch.Size([])) for value in memory.values())


@pytest.mark.parametrize(
    "config", [CONFIG, SGD, replace(CONFIG, heads=HeadOptions(train_all=True))]
)
def test_weights_s_and_optimiser_memory_leave_together(config: TrainConfig) -> None:
    """After a closing the optimisers hold what is open, and remember for it just what they did before."""
    network = start(config, n_groups=2)
    state = TrainState(network, config)
    steps = continue_steps(state, DATA, config.steps)
    for _ in range(5):
        next(steps)
    logits = network.assignment.logits
    weights = state.optimizers["weights"].state
    memory = {id(w): {name: value.clone() for name, value in m.items()} for w, m in weights.items()}
    of_s = {
        name: value.clone() for name, value in state.optimizers["assignment"].state[logits].items()
    }
    close_branch(state, 1, torch.zeros(4, dtype=torch.long))
    check_optimizers(state)
    for weight, kept in weights.items():
        for name, value in kept.items():
            assert torch.equal(value, memory[id(weight)][name])
    (after,) = state.optimizers["assignment"].state.values()
    for name, value in after.items():
        assert torch.equal(value, of_s[name][:, [0, 2, 3]] if value.ndim else of_s[name])
    for _ in steps:  # and the run goes on to its end
        check_optimizers(state)
    assert network.n_groups == 2


def test_branches_close_on_time_until_k_remain() -> None:
    """4 -> 3 after step 6, 3 -> 2 after step 9; a closed column is 0 from its record on."""
    history, state = run()
    assert [(c["step"], len(c["branches"])) for c in history.closings] == [(6, 4), (9, 3)]
    assert (history.n_groups, state.network.n_groups, state.network.n_spare) == (4, 2, 0)
    open_ = (history.probabilities > 0).any(1)  # (T, M)
    assert open_.sum(1).tolist() == [4] * 5 + [3] * 3 + [2] * 6
    for closing in history.closings:
        assert not open_[closing["step"] - 1 :, closing["branch"]].any()
        assert open_[: closing["step"] - 1, closing["branch"]].all()
        cheapest = closing["branches"][int(np.argmin(closing["costs"]))]
        assert (closing["branch"], closing["cost"]) == (cheapest, min(closing["costs"]))
    np.testing.assert_allclose(history.probabilities.sum(2), 1, atol=1e-6)
    assert json.loads(json.dumps(history.closings)) == history.closings
    assert history.elbow["n_branches"] == [4, 3, 2]


def test_thinned_records_keep_every_closing() -> None:
    """A history with every fifth record still shows when a branch closed."""
    history, _ = run(record_every=5)
    assert history.steps.tolist() == [5, 6, 9, 10, 14]
    assert [closing["step"] for closing in history.closings] == [6, 9]


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        SGD,
        replace(SGD, heads=HeadOptions(train_all=True), spare=replace(SGD.spare, rule="random")),
    ],
)
@pytest.mark.parametrize("stop_at", [5, 6, 7, 9, 11])
def test_stop_and_resume_across_a_closing_is_bit_for_bit(
    config: TrainConfig, stop_at: int, tmp_path: Path
) -> None:
    """Stopped before, at or after a closing, then continued from the file by a fresh process's objects."""
    path = tmp_path / "run.safetensors"
    run(config, stop_at=stop_at, checkpoint=path)
    resumed, whole = run(config, checkpoint=path), run(config)
    assert_same_run(resumed, whole)
    assert (resumed[0].closings, resumed[0].elbow) == (whole[0].closings, whole[0].elbow)


@pytest.mark.parametrize("stop_at", [5, 6, 8, 12])
def test_a_run_that_finds_k_resumes_bit_for_bit(stop_at: int, tmp_path: Path) -> None:
    """Also when it stops before K is known."""
    path = tmp_path / "run.safetensors"
    run(CONFIG, "auto", stop_at=stop_at, checkpoint=path)
    assert_same_run(run(CONFIG, "auto", checkpoint=path), run(CONFIG, "auto"))


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
    """6 steps with 4 branches, 3 with 3, 5 with 2, and two looks at 64 images for a third of a step each."""
    _, state = run()
    one = count_macs(build_network(DATA, CONFIG), DATA.image_shape)["encoder"] * 16
    assert (
        state.encoder_macs
        == (6 * 4 + 3 * 3 + 5 * 2) * one + (4 * 4 * one) // 3 + (4 * 3 * one) // 3
    )


def test_the_control_closes_at_random() -> None:
    """Over seeds it does not always take the branch that is missed least."""
    closings = [
        run(replace(CONFIG, spare=replace(CONFIG.spare, rule="random"), seed=seed))[0].closings
        for seed in range(6)
    ]
    cheapest = [
        c["branches"][int(np.argmin(c["costs"]))] == c["branch"] for run_ in closings for c in run_
    ]
    assert 0 < sum(cheapest) < len(cheapest)


def test_a_run_too_short_to_close_them_all_is_refused() -> None:
    """With the step of the last closing, before any training; K to be found by several runs likewise."""
    for refused in (
        lambda: run(replace(CONFIG, steps=8)),
        lambda: methods.dmtg(DATA, 2, replace(CONFIG, steps=8, pretrain=10**9)),
        lambda: LiveSession(DATA, 2, config=replace(CONFIG, steps=8), name="short"),
    ):
        with pytest.raises(
            ValueError, match=r"2 branches are to close, the last after step 9 .* has 8 steps"
        ):
            refused()
    with pytest.raises(ValueError, match="do not go together"):
        methods.dmtg(DATA, "auto", replace(CONFIG, restarts=Restarts(n=2), pretrain=10**9))


def test_heads_are_pruned_only_when_all_spare_branches_are_closed() -> None:
    """Not at step 25, when a task may still need the head it hardly uses; at step 50."""
    config = replace(
        CONFIG,
        steps=52,
        pruning=Pruning(below=0.49, start=1),
        lr_assignment=0.5,
        spare=replace(CONFIG.spare, close_from=30),
    )
    history, state = run(config)
    assert [closing["step"] for closing in history.closings] == [30, 33]
    gone = (history.probabilities == 0).sum(2)  # (T, N): heads that a task has lost, of four
    assert (gone[:29] == 0).all()
    assert (gone[32:49] == 2).all()  # those of the closed branches
    assert (gone[49:] > 2).any()


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("encoder", ["toy", "resnet"])
def test_a_closing_is_what_the_losses_say(encoder: str, normalise: bool) -> None:
    """Costs, choice and moves of a real run against losses computed here, image by image.

    A run whose first closing comes a step later is the same run up to there.
    """
    config = replace(CONFIG, encoder=encoder, normalise_losses=normalise, lr_assignment=0.5)
    history, _ = run(config)
    first = history.closings[0]
    _, before = run(replace(config, spare=replace(config.spare, close_from=7)), stop_at=6)
    network = before.network.eval()
    order = torch.randperm(
        70, generator=torch.Generator().manual_seed(derive_seed(before.seed, Stream.PROBE))
    )[:64]
    images = DATA.train.images[order].to(memory_format=torch.channels_last)
    matrix = np.empty((4, 4))
    with torch.no_grad():
        for k in range(4):
            features = network.branches[k](network.stem(images / 255))
            named = network.heads[k].split(network.heads[k](features))
            for n, name in enumerate(DATA.task_names):
                matrix[n, k] = F.cross_entropy(named[name], DATA.train.targets[name][order])
    if normalise:
        matrix /= matrix.mean(1, keepdims=True)
    group_of = network.assignment.logits.detach().numpy().argmax(1)
    costs, heirs = np.zeros(4), {}
    for n, own in enumerate(group_of):
        heirs[n] = min((k for k in range(4) if k != own), key=lambda k, n=n: matrix[n, k])
        costs[own] += matrix[n, heirs[n]] - matrix[n, own]
    np.testing.assert_allclose(first["costs"], costs, atol=2e-5)
    assert first["branch"] == costs.argmin()
    moved = {
        name: heirs[n] for n, name in enumerate(DATA.task_names) if group_of[n] == first["branch"]
    }
    assert first["moved"] == moved


def test_a_probe_weighs_images_by_their_labels() -> None:
    """A batch in which nobody carries a task's label says nothing about that task."""
    labels = {name: values.clone() for name, values in DATA.train.targets.items()}
    labels["t0"][torch.randperm(70, generator=torch.Generator().manual_seed(0))[:66]] = -1
    data = replace(DATA, train=replace(DATA.train, targets=labels))
    network = start(CONFIG, n_groups=2)
    state = TrainState(network, CONFIG)
    targets = torch.stack([labels[name] for name in data.task_names], 1)
    found = spare.CloseSpare(data)._probe(state)
    rows = torch.randperm(
        70, generator=torch.Generator().manual_seed(derive_seed(state.seed, Stream.PROBE))
    )[:64]
    rows = rows[targets[rows, 0] >= 0]
    alone = network.compute_loss_matrix(data.train.images[rows], targets[rows]).detach()
    torch.testing.assert_close(found[0], alone[0])


def test_a_loss_that_is_no_number_closes_nothing() -> None:
    """The run stops with a task's name: the encoder has carried it on to others."""
    network = start(CONFIG, n_groups=2)
    with torch.no_grad():
        network.heads[0].linear.bias[2] = torch.nan  # of task t1
    state = TrainState(network, replace(CONFIG, lr=0.0, lr_assignment=0.0))
    with pytest.raises(FloatingPointError, match=r"the loss of task 't\d' is not finite at step 6"):
        for _ in continue_steps(state, DATA, state.config.steps):
            pass


def test_another_k_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Both open four branches, and still one run must not continue as the other."""
    methods.dmtg(DATA, 2, CONFIG, saving=methods.Saving(tmp_path))
    for other in (3, "auto"):
        with pytest.raises(ValueError, match="branches to close=2"):
            methods.dmtg(DATA, other, CONFIG, saving=methods.Saving(tmp_path))


def test_training_goes_on_with_a_network_that_has_closed_branches() -> None:
    """A new run of it records the closed columns as 0."""
    _, state = run()
    history, _ = fit(state.network, DATA, replace(CONFIG, steps=3))
    assert history.probabilities.shape == (3, 4, 4)
    assert ((history.probabilities > 0).any(1).sum(1) == 2).all()


# ---------------------------------------------------------------------- the config and the method
@pytest.mark.parametrize(
    ("spare", "n_groups", "n_tasks", "expected"),
    [
        (0, 3, 9, (3, 0)),
        ("double", 3, 9, (6, 3)),
        ("double", 3, 5, (5, 2)),  # never more branches than tasks
        ("double", 9, 4, (9, 0)),
        (2, 3, 9, (5, 2)),
        ("double", "auto", 9, (9, None)),
        (0, "auto", 40, (12, None)),
        (5, "auto", 40, (6, None)),
    ],
)
def test_how_many_branches_are_opened(spare, n_groups, n_tasks, expected) -> None:
    """K and the spare ones."""
    assert TrainConfig(spare=Spare(branches=spare)).count_branches(n_groups, n_tasks) == expected


@pytest.mark.parametrize("n_groups", [0, -1, "three", 2.5, True, None])
def test_a_number_of_groups_that_is_none_is_refused(n_groups) -> None:
    """Before the pretraining, not after."""
    with pytest.raises(ValueError, match="`n_groups` must be >= 1"):
        methods.dmtg(DATA, n_groups, CONFIG)


def test_auto_reads_k_off_the_costs_and_trains_with_it() -> None:
    """The result has at most the K that its own closing costs say."""
    result = methods.dmtg(
        make_data(6), "auto", replace(CONFIG, steps=30, spare=replace(CONFIG.spare, branches=4))
    )
    elbow, closings = result.elbow, result.closings
    assert elbow["n_branches"] == [5, 4, 3, 2]
    assert read_n_groups(elbow["costs"]) == elbow["n_groups"]
    assert 5 - len(closings) == elbow["n_groups"] >= len(result.groups)
