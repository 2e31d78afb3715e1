"""What the meta-learner promises: absent tasks are absent, combinations are asked for as described.

And on published gains it predicts better than a mean does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from math import inf, nan
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dmtg_lite.methods.search import meta_learner
from dmtg_lite.methods.search.meta_learner import (
    GainTable,
    MetaLearners,
    choose_next,
    fit_meta_learners,
    learn_gains,
    list_combinations,
    sample_combinations,
)

MASKS = list_combinations(4)  # (15, 4)


def make_learner(n_tasks: int = 4, n_learners: int = 1, *, width: int = 8) -> MetaLearners:
    """Not fitted; its embeddings are far apart, so that tasks differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = MetaLearners(n_tasks, n_learners, width=width).double()
        torch.nn.init.normal_(learner.tasks)
    return learner.requires_grad_(False)


def rows_of(masks: Tensor) -> list[tuple[int, ...]]:
    return [tuple(mask.nonzero()[:, 0].tolist()) for mask in masks]


def give_zeros(group: tuple[int, ...]) -> list[float]:
    return [0.0] * len(group)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One learner, hardly trained: for promises that hold for any."""
    monkeypatch.setattr(meta_learner, "_EPOCHS", 3)
    monkeypatch.setattr(meta_learner, "_N_LEARNERS", 1)


# --- the network


def test_renamed_tasks_gain_the_same() -> None:
    """Tasks have no order: permuting embeddings and masks permutes the predictions."""
    learner, renamed, order = make_learner(), make_learner(), [2, 0, 3, 1]
    renamed.tasks.copy_(learner.tasks[:, order])
    expected = learner.predict(MASKS)[:, order]
    torch.testing.assert_close(renamed.predict(MASKS[:, order]), expected, equal_nan=True)
    assert learner.predict(MASKS).nan_to_num().std() > 0.1  # there is something to permute


def test_absent_tasks_have_no_part() -> None:
    """To the last bit: what an absent task is changes nothing. It might as well not exist."""
    mask = torch.tensor([[True, False, True, False]])
    learner, other, smaller = make_learner(), make_learner(), make_learner(2)
    other.tasks[:, [1, 3]] = torch.tensor([[100.0], [-7.0]], dtype=torch.float64)
    found = learner.predict(mask)[mask]
    assert torch.equal(other.predict(mask)[mask], found)
    smaller.load_state_dict({**learner.state_dict(), "tasks": learner.tasks[:, [0, 2]]})
    torch.testing.assert_close(smaller.predict(torch.tensor([[True, True]]))[0], found)
    assert learner.predict(mask)[~mask].isnan().all()


def test_learners_side_by_side_know_nothing_of_each_other() -> None:
    """Three at once are three alone, and a prediction is their mean."""
    three, alone = make_learner(n_learners=3), []
    for k in range(3):
        one = make_learner()
        one.load_state_dict({name: own[k : k + 1] for name, own in three.state_dict().items()})
        alone.append(one.predict(MASKS))
    torch.testing.assert_close(three(MASKS), torch.stack(alone), equal_nan=True)
    torch.testing.assert_close(three.predict(MASKS), sum(alone) / 3, equal_nan=True)
    assert not torch.equal(alone[0][MASKS], alone[1][MASKS])


def test_attention_is_torchs_own() -> None:
    """Oracle: torch's scaled dot product attention, with scores over sqrt(d) and over 0.2.

    Of every combination: in that of one task it listens to itself.
    """
    learner = make_learner(width=16)
    layer, tokens = learner.layers[0], learner.tasks[:, None].expand(-1, len(MASKS), -1, -1)
    heard = F.scaled_dot_product_attention(
        layer.ask(tokens),
        tokens,
        layer.hear(tokens),
        attn_mask=MASKS[:, None, :].expand(-1, 4, -1),
        scale=1 / (16**0.5 * 0.2),
    )
    expected = F.layer_norm(tokens + heard, (16,))
    thought = F.linear(expected, layer.think.weight[0].T, layer.think.bias[0, 0])
    expected = F.layer_norm(expected + layer.say(thought.relu()), (16,))
    torch.testing.assert_close(layer(tokens, MASKS)[:, MASKS], expected[:, MASKS])


# --- fitting


@pytest.mark.usefixtures("quick")
def test_a_fit_is_its_seeds() -> None:
    """One seed, one learner; another seed, another. The caller's stream goes on as it was."""
    gains = torch.linspace(-1, 1, 60).view(15, 4)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (
        fit_meta_learners(MASKS, gains, seed=s).predict(MASKS)[MASKS] for s in (1, 1, 2)
    )
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.usefixtures("quick")
def test_gains_of_absent_tasks_are_not_read() -> None:
    """Zeros, nan or anything outside the mask: the same learner."""
    gains = torch.linspace(-1, 1, 60).view(15, 4)
    one = fit_meta_learners(MASKS, gains, seed=0)
    other = fit_meta_learners(MASKS, gains.where(MASKS, nan), seed=0)
    assert torch.equal(one.predict(MASKS)[MASKS], other.predict(MASKS)[MASKS])


def test_friends_and_foes_are_found() -> None:
    """Two camps, each task gains from its own and loses by the others: a third tells the rest.

    A mean is wrong by the spread of the gains. Four draws of the known groups left 0.49 to 0.68 of
    that error, chance would leave all of it: 0.8 is the bound.
    """
    camp = torch.tensor([1.0, 1, 1, -1, -1, -1], dtype=torch.float64)
    masks = list_combinations(6)
    friends = masks.double() @ torch.outer(camp, camp) - 1  # less foes; the task itself left out
    gains = 0.3 * friends / (masks.sum(1, keepdim=True) - 1).clamp_min(1)
    order = torch.randperm(len(masks), generator=torch.Generator().manual_seed(0))
    known, rest = order[:21], order[21:]
    learners = fit_meta_learners(masks[known], gains[known], seed=0, n_learners=4)
    predicted = learners.predict(masks[rest])
    present = masks[rest]
    error = (predicted - gains[rest])[present].abs().mean()
    error_of_mean = (gains[rest][present] - gains[known][masks[known]].mean()).abs().mean()
    assert error < 0.8 * error_of_mean


def test_ten_times_the_gains_are_ten_times_the_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Percents or shares: the unit of the gains decides nothing. All zeros are learnt as zeros."""
    gains = torch.linspace(-1, 1, 60).view(15, 4).double()
    nothing = fit_meta_learners(MASKS, 0 * gains, seed=0).predict(MASKS)[MASKS]
    monkeypatch.setattr(meta_learner, "_EPOCHS", 20)
    one = fit_meta_learners(MASKS, gains, seed=0).predict(MASKS)[MASKS]
    ten = fit_meta_learners(MASKS, 10 * gains, seed=0).predict(MASKS)[MASKS]
    torch.testing.assert_close(ten, 10 * one, rtol=1e-6, atol=1e-6)
    assert nothing.abs().mean() < 0.01


# --- which combination comes next

TRIPLE = list_combinations(3)  # 0, 1, 2, 01, 02, 12, 012
SINGLES = TRIPLE.sum(1) == 1
PREDICTED = torch.tensor(
    [
        [9.0, nan, nan], [nan, 9.0, nan], [nan, nan, 9.0],  # singles, known anyway
        [0.1, 0.5, nan], [-0.4, nan, 0.2], [nan, -0.6, 0.1], [0.3, 0.3, 0.3],
    ]
)  # fmt: skip


def test_tasks_take_turns_and_ask_where_they_expect_most() -> None:
    """By hand: |gain|, not gain; only combinations with the task in it; never a known one."""
    known = SINGLES.clone()
    assert [choose_next(TRIPLE, PREDICTED, known, n) for n in range(4)] == [4, 5, 6, 4]
    known[4] = True
    assert choose_next(TRIPLE, PREDICTED, known, 0) == 6
    known[[3, 6]] = True  # nothing left to ask for task 0, so task 1 asks in its place
    assert choose_next(TRIPLE, PREDICTED, known, 0) == 5
    with pytest.raises(ValueError, match="all are known"):
        choose_next(TRIPLE, PREDICTED, torch.ones(7, dtype=torch.bool), 0)
    # of equals the first, so that the same predictions lead to the same questions
    assert choose_next(TRIPLE, torch.zeros(7, 3), SINGLES, 1) == 3


# --- the loop


def test_the_loop_asks_in_the_described_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hand-made predictor: all tasks first, then as the table above says, refitted each round."""
    fitted_on = []

    def fit(masks: Tensor, gains: Tensor, *, seed: int, n_learners: int) -> SimpleNamespace:
        fitted_on.append(rows_of(masks))
        return SimpleNamespace(predict=lambda masks: PREDICTED.double())

    monkeypatch.setattr(meta_learner, "fit_meta_learners", fit)
    asked = []

    def measure(group: tuple[int, ...]) -> list[float]:
        asked.append(group)
        return [0.7] * len(group)

    table = learn_gains(measure, 3, 2, seed=0)
    assert asked == [(0, 1, 2), (0, 2), (1, 2)]
    singles = [(0,), (1,), (2,)]
    assert [sorted(rows) for rows in fitted_on] == [sorted(singles + asked[:n]) for n in (1, 2, 3)]
    assert table.is_measured.tolist() == [False, False, False, False, True, True, True]
    expected = [
        [0, nan, nan], [nan, 0, nan], [nan, nan, 0],
        [0.1, 0.5, nan], [0.7, nan, 0.7], [nan, 0.7, 0.7], [0.7, 0.7, 0.7],
    ]  # fmt: skip
    torch.testing.assert_close(table.gains, torch.tensor(expected).double(), equal_nan=True)


@pytest.mark.usefixtures("quick")
def test_no_combination_is_asked_for_twice() -> None:
    """More rounds than combinations: each of two tasks or more exactly once."""
    asked = []

    def measure(group: tuple[int, ...]) -> list[float]:
        asked.append(group)
        return [0.1 * len(group) * (task - 1) for task in group]

    table = learn_gains(measure, 4, 100, seed=0)
    assert sorted(asked) == sorted(row for row in rows_of(MASKS) if len(row) > 1)
    assert asked[0] == (0, 1, 2, 3)
    assert table.is_measured.tolist() == [len(row) > 1 for row in rows_of(MASKS)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "n_tasks, n_rounds, n_asked", [(2, None, 1), (3, None, 4), (4, None, 7), (3, 0, 1)]
)
def test_the_default_costs_what_pairs_cost(
    n_tasks: int, n_rounds: int | None, n_asked: int
) -> None:
    """N(N-1)/2 rounds beside the group of all, which comes first; two tasks have no other group."""
    table = learn_gains(give_zeros, n_tasks, n_rounds, seed=0)
    assert int(table.is_measured.sum()) == n_asked
    assert table.is_measured[-1]


@pytest.mark.usefixtures("quick")
def test_what_was_measured_stays() -> None:
    """Measured gains to the last bit, 0 for singles, else a prediction; nan for the absent."""
    measured = {}

    def measure(group: tuple[int, ...]) -> list[float]:
        measured[group] = [1 / 3 - 0.1 * task for task in group]
        return measured[group]

    table = learn_gains(measure, 4, 3, seed=0)
    assert torch.equal(table.masks, MASKS)
    assert torch.equal(table.gains.isfinite(), MASKS)
    assert torch.equal(table.gains.isnan(), ~MASKS)
    for row, group in enumerate(rows_of(MASKS)):
        gains = table.gains[row, MASKS[row]].tolist()
        assert bool(table.is_measured[row]) == (group in measured)
        if group in measured:
            assert gains == measured[group]
        elif len(group) == 1:
            assert gains == [0.0]
    assert table.gains.dtype == torch.float64


@pytest.mark.usefixtures("quick")
def test_a_loop_is_its_seeds() -> None:
    """The same seed and the same answers: the same table."""

    def measure(group: tuple[int, ...]) -> list[float]:
        return [0.1 * task - 0.05 * len(group) for task in group]

    one, same, other = (learn_gains(measure, 4, 1, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.is_measured, same.is_measured)
    assert torch.equal(one.gains[MASKS], same.gains[MASKS])
    assert not torch.equal(one.gains[MASKS], other.gains[MASKS])


@pytest.mark.usefixtures("quick")
def test_learners_start_anew_when_a_fifth_more_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, 5 tasks: 6 combinations are known at first, and 16 in the end, whatever was before.

    Each time from another start.
    """
    fitted, seeds, fit = [], [], meta_learner.fit_meta_learners

    def count(masks: Tensor, gains: Tensor, *, seed: int, n_learners: int) -> MetaLearners:
        fitted.append(len(masks))
        seeds.append(seed)
        return fit(masks, gains, seed=seed, n_learners=n_learners)

    monkeypatch.setattr(meta_learner, "fit_meta_learners", count)
    learn_gains(give_zeros, 5, seed=0)
    assert fitted == [6, 8, 10, 12, 15, 16]
    assert len(set(seeds)) == len(seeds)


# --- more tasks than can be listed


def test_a_sample_has_small_combinations_and_some_of_every_size() -> None:
    """Fourteen tasks: all singles and pairs, larger ones, all together at the end; none twice."""
    masks = sample_combinations(14, seed=0)
    sizes = masks.sum(1)
    assert [int((sizes == n).sum()) for n in (1, 2, 14)] == [14, 91, 1]
    assert bool(masks[-1].all())
    assert len(torch.unique(masks, dim=0)) == len(masks)
    assert set(sizes.tolist()) == set(range(1, 15))
    assert torch.equal(masks, sample_combinations(14, seed=0))
    with pytest.raises(ValueError, match=r"from 1 to 12, got 13: N tasks have 2\^N - 1 comb"):
        list_combinations(13)


@pytest.mark.usefixtures("quick")
def test_more_than_twelve_tasks_are_sampled() -> None:
    """What was measured stays, the rest is predicted, and combinations are grown at the end."""
    asked = []

    def measure(group: tuple[int, ...]) -> list[float]:
        asked.append(group)
        return [0.1 * task - 0.5 for task in group]

    table = learn_gains(measure, 14, 4, seed=0)
    assert len(table.masks) > len(sample_combinations(14, seed=0))
    assert len(torch.unique(table.masks, dim=0)) == len(table.masks)
    assert len(asked) == 5
    assert set(asked) == set(rows_of(table.masks[table.is_measured]))
    assert torch.equal(table.gains.isfinite(), table.masks)


def test_growth_takes_who_adds_most() -> None:
    """By hand: a learner that counts the even tasks takes them first."""

    def predict(masks: Tensor) -> Tensor:
        return (masks * torch.tensor([1.0, 0, 1, 0, 1])).double().where(masks, nan)

    learners = SimpleNamespace(predict=predict, tasks=torch.zeros(1, 5, 8))
    grown = rows_of(meta_learner._grow(learners))
    assert (0, 2, 4) in grown
    assert (0, 1, 2, 4) in grown
    assert (0, 1, 3) not in grown


# --- what is refused


@pytest.mark.parametrize("answer", [[0.1], [0.1, nan, 0.2], [0.1, inf, 0.2], 0.5])
def test_an_answer_that_is_no_gain_for_each_task_is_refused(answer: Sequence[float]) -> None:
    with pytest.raises(ValueError, match=r"a finite gain for each of the tasks \(0, 1, 2\), got"):
        learn_gains(lambda group: answer, 3, seed=0)


@pytest.mark.parametrize(
    "n_tasks, n_rounds, message",
    [
        (0, None, "a whole number >= 1, got 0"),
        (1, None, "one task has nobody to gain from"),
        (3, -1, "`n_rounds` must be a whole number >= 0 or None, got -1"),
        (3, 1.5, "got 1.5"),
    ],
)
def test_a_loop_refuses_what_it_cannot_do(n_tasks: int, n_rounds: int | None, message: str) -> None:
    """Before anything is measured."""

    def measure(group: tuple[int, ...]) -> list[float]:
        raise AssertionError("measured too early")

    with pytest.raises(ValueError, match=message):
        learn_gains(measure, n_tasks, n_rounds, seed=0)


# --- the published gains of five Taskonomy tasks: all 31 combinations, to check predictions by

PUBLISHED = json.loads((Path(__file__).parent / "mtgnet_taskonomy_gains.json").read_text())
GAINS = {
    tuple(map(PUBLISHED["tasks"].index, row["tasks"])): row["gains"] for row in PUBLISHED["groups"]
}
TASKONOMY = list_combinations(5)
TRUE = torch.full(TASKONOMY.shape, nan, dtype=torch.float64)
for _mask, _row in zip(TASKONOMY, TRUE, strict=True):
    _row[_mask] = torch.tensor(GAINS[tuple(_mask.nonzero()[:, 0].tolist())], dtype=torch.float64)
ORACLE = PUBLISHED["oracle_mean_gain_of_3_groups"]


def gain_of_best_three(predicted: Tensor) -> float:
    """Mean true gain of the three groups that promise most, each task in the one best for it."""
    promised = predicted.nan_to_num(-99.0)
    triples = torch.tensor(list(combinations(range(len(promised)), 3)))  # (4495, 3)
    best = promised[triples].amax(1).sum(1).argmax()
    served_by = triples[best][promised[triples[best]].argmax(0)]  # (N,)
    return float(TRUE[served_by, torch.arange(5)].mean())


def compute_errors(table: GainTable) -> tuple[float, float]:
    """Mean absolute error on what is not known: of predictions, and of the mean of the known."""
    is_known = table.is_measured | (TASKONOMY.sum(1) == 1)
    unknown = TASKONOMY & ~is_known[:, None]
    mean = TRUE[TASKONOMY & is_known[:, None]].mean()
    errors = (table.gains - TRUE)[unknown], TRUE[unknown] - mean
    return float(errors[0].abs().mean()), float(errors[1].abs().mean())


def test_the_published_figures_are_whole() -> None:
    """31 combinations, and three groups chosen with all gains known reach the published oracle."""
    assert len(GAINS) == 31
    assert gain_of_best_three(TRUE) == pytest.approx(ORACLE, abs=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_published_gains_are_learnt_from_eleven_groups() -> None:
    """From 11 of 26 it predicts the others better than a mean, and nearly finds the oracle's.

    Better by about a tenth: three gains near -1 that nothing foretells make a third of any error.
    Near: 8 % below in the median on one processor, 13 % on another, whose sums round otherwise and
    lead to other questions; measuring the ten pairs and choosing among what was measured gives 11 %
    below. None of the seeds took part in choosing a default.
    """
    tables = [learn_gains(GAINS.__getitem__, 5, seed=seed) for seed in range(3)]
    for error, error_of_mean in map(compute_errors, tables):
        assert error < error_of_mean
    assert median(gain_of_best_three(table.gains) for table in tables) > 0.85 * ORACLE
