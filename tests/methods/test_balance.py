"""What gradient balancing promises: TorchJD's direction for the encoder, nothing else changed."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dmtg_lite import data, methods
from dmtg_lite.cli import main
from dmtg_lite.core.batches import Batches
from dmtg_lite.core.config import TrainConfig
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.core.state import TrainState
from dmtg_lite.core.step import take_step
from dmtg_lite.methods import Saving
from dmtg_lite.methods.balance import AGGREGATORS, Balance, load_aggregator
from dmtg_lite.methods.search.affinity import list_encoder_weights
from dmtg_lite.runs.fit import build_network
from dmtg_lite.runs.run import Run

pytest.importorskip("torchjd", reason="the aggregators are TorchJD's")

FACES = data.toy_faces(size=16, n_train=100, n_val=40, n_test=60)
CONFIG = TrainConfig(encoder="toy", steps=12, pretrain=6, batch_size=16, lr=3e-3)


def step_on(aggregator: str, names: list[str], unlabelled: str = "") -> tuple[TrainState, Tensor]:
    """A run after a step on 50 faces, and the encoder's gradients of all tasks by hand, (N, P)."""
    few = FACES.select(names)
    network = build_network(few, CONFIG)
    images, targets = Batches(few.train, few.tasks, network.device).take(slice(50))
    if unlabelled:
        targets[:, names.index(unlabelled)] = -1
    encoder = list_encoder_weights(network)
    rows = []
    for n in range(len(names)):
        loss = network.compute_loss_matrix(images, targets)[n, 0]
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, encoder)]))
    state = TrainState(network, CONFIG)
    state.backward = Balance(state, load_aggregator(aggregator))
    take_step(state, images, targets, tau=1.0, lr_assignment=0.0)
    return state, torch.stack(rows)


def read_direction(state: TrainState) -> Tensor:
    """What the encoder followed, (P,)."""
    return torch.cat([w.grad.flatten() for w in list_encoder_weights(state.network)])


def remove(gradient: Tensor, other: Tensor) -> Tensor:
    """A gradient without what works against another: its projection beside that one."""
    against = min(float(gradient @ other), 0.0)
    return gradient - against / float(other @ other) * other


def shorten(a: Tensor, b: Tensor) -> Tensor:
    """The shortest vector between two: |t a + (1 - t) b| is least at t = (b - a) b / |b - a|^2."""
    t = float((b - a) @ b) / float((b - a) @ (b - a))
    return a * min(max(t, 0.0), 1.0) + b * (1 - min(max(t, 0.0), 1.0))


BY_HAND = {
    "sum": lambda a, b: a + b,
    "pcgrad": lambda a, b: remove(a, b) + remove(b, a),
    # two gradients: the cone that harms neither is bounded by the same two projections
    "upgrad": lambda a, b: (remove(a, b) + remove(b, a)) / 2,
    "mgda": shorten,
}


@pytest.mark.parametrize("aggregator", BY_HAND)
def test_two_conflicting_gradients_by_numbers(aggregator: str) -> None:
    """(1, 0) and (-1, 1): without their conflict (1/2, 1/2) and (0, 1); shortest (1/5, 2/5)."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    expected = {"sum": [0, 1], "pcgrad": [0.5, 1.5], "upgrad": [0.25, 0.75], "mgda": [0.2, 0.4]}
    expected = torch.tensor(expected[aggregator])
    torch.testing.assert_close(BY_HAND[aggregator](a, b), expected.float())
    found = load_aggregator(aggregator)(torch.stack([a, b]))
    # UPGrad's solver adds 1e-4 to the diagonal of the normed products
    torch.testing.assert_close(found, expected.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("aggregator", BY_HAND)
@pytest.mark.parametrize("other", ["light_hair", "pale_cheeks"])
def test_a_step_follows_the_hand_computed_direction(aggregator: str, other: str) -> None:
    """Of the gradients of our two losses, one at a time: a pair that conflicts, and another."""
    state, (a, b) = step_on(aggregator, ["dark_hair", other])
    assert (a @ b < 0) == (other == "light_hair")
    expected = BY_HAND[aggregator](a, b)
    size = float(expected.norm())
    torch.testing.assert_close(read_direction(state), expected, atol=2e-3 * size, rtol=0)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_sum_is_naive_mtl(normalise: bool) -> None:
    """Heads, memory layout and whatever the objective makes of the losses: all as it was."""
    config = TrainConfig(
        encoder="toy", steps=12, batch_size=16, lr=3e-3, normalise_losses=normalise
    )
    one = methods.naive(FACES, 1, config).network.state_dict()
    two = methods.balance(FACES, 1, config, aggregator="sum").network.state_dict()
    for name, weight in one.items():  # sums in another order: 12 steps of 3e-3 differ by rounding
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=0, msg=name)


def make_stages() -> list[nn.Module]:
    """An encoder of one's own, the first of whose three stages does not learn."""
    torch.manual_seed(0)
    sizes = (3 * 16 * 16, 8, 4, 2)
    stages = [nn.Sequential(nn.Flatten(), nn.Linear(a, b)) for a, b in pairwise(sizes)]
    stages[0].requires_grad_(False)
    return stages


def test_frozen_weights_are_left_alone() -> None:
    """As Naive MTL leaves them, whatever asks for gradients."""
    one = methods.naive(FACES, 1, CONFIG, encoder=make_stages()).network.state_dict()
    two = methods.balance(FACES, 1, CONFIG, encoder=make_stages(), aggregator="sum").network
    for name, weight in one.items():
        torch.testing.assert_close(two.state_dict()[name], weight, atol=1e-5, rtol=0, msg=name)
    for search in (methods.tag, methods.grad_tag):
        assert search(FACES, 2, CONFIG, encoder=make_stages()).groups


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_a_task_without_labels_takes_no_part(aggregator: str) -> None:
    """Three tasks of which one has no label in the batch: the direction of the other two."""
    names = FACES.task_names[:3]
    beside, rows = step_on(aggregator, names, unlabelled=names[1])
    assert not rows[1].any()
    direction = read_direction(beside)
    assert direction.isfinite().all()
    assert direction.any()
    jacobian = rows[[0, 2]]
    with torch.random.fork_rng():  # an order of two, or a mask: that of this seed and step
        torch.manual_seed(derive_seed(0, Stream.BALANCE, 0))
        expected = load_aggregator(aggregator)(jacobian)
    torch.testing.assert_close(direction, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("aggregator", ["pcgrad", "graddrop"])
def test_what_is_drawn_is_drawn_from_the_seed(aggregator: str) -> None:
    """Whatever the caller's stream, which stays where it is; the seed decides."""
    one = methods.balance(FACES, 1, CONFIG, aggregator=aggregator)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    two = methods.balance(FACES, 1, CONFIG, aggregator=aggregator)
    assert torch.equal(torch.get_rng_state(), before)
    assert (one.method, one.task_losses) == (f"balance_{aggregator}", two.task_losses)


def test_a_run_is_continued_where_it_stopped(tmp_path: Path) -> None:
    """Stopped after 7 of 18 steps: the same end as in one go, drawn orders included."""
    whole = methods.balance(FACES, 1, CONFIG, aggregator="pcgrad")

    def prepare(state: TrainState) -> None:
        state.backward, state.n_backward = Balance(state, load_aggregator("pcgrad")), 9

    saving = Saving(tmp_path, every=5)
    run = Run(
        FACES, CONFIG, members=[range(9)], from_scratch=True, prepare=prepare,
        saving=saving.below("balance_pcgrad"), method="balance_pcgrad",
    )  # fmt: skip
    run.train_until(7)
    rest = methods.balance(FACES, 1, CONFIG, aggregator="pcgrad", saving=saving)
    assert rest.task_losses == whole.task_losses
    assert rest.encoder_macs == whole.encoder_macs


def test_nine_backward_passes_are_counted() -> None:
    """A step of Naive MTL is three thirds; nine backward passes and a forward one are nineteen."""
    result = methods.balance(FACES, 1, CONFIG)
    assert result.encoder_cost == pytest.approx(19 / 3)
    assert (result.method, result.groups) == ("balance", [FACES.task_names])


def test_it_is_compared_where_it_is_named() -> None:
    """It needs an extra: no part of what is compared by itself, a name for who asks."""
    from dmtg_lite.experiments import choose_methods, compare

    assert not [name for name in choose_methods(FACES) if "balance" in name]
    names = ["naive", "balance", "balance_pcgrad", "balance_mgda"]
    table = compare(FACES, methods=names, seeds=[0], config=CONFIG)
    assert list(table["method"]) == names
    assert table["total_loss"].nunique() == 4


def test_what_diverges_is_told_as_everywhere(tmp_path: Path) -> None:
    """By the task whose loss it was, not by the solver that was handed nan."""
    config = TrainConfig(encoder="toy", steps=5, batch_size=16, lr=1e30)
    with pytest.raises(FloatingPointError, match=r"the loss of task .* Lower `lr`"):
        methods.balance(FACES, 1, config)


def test_what_is_missing_or_unknown_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """Before any training: the names there are, the command that installs, exit code 2."""
    with pytest.raises(ValueError, match=r"must be one of upgrad, pcgrad, .*, got 'gradnorm'"):
        methods.balance(FACES, 1, CONFIG, aggregator="gradnorm")
    monkeypatch.setitem(sys.modules, "torchjd", None)
    arguments = ["train", "toy_faces", "--method", "balance", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert 'pip install "dmtg-lite[mto]"' in capsys.readouterr().err
