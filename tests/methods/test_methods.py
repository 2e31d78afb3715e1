"""What every method promises: one kind of result, counted cost, the grouping that it says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import chain, combinations
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from dmtg_lite import data, methods
from dmtg_lite.core.config import Restarts, TrainConfig
from dmtg_lite.core.macs import count_macs
from dmtg_lite.core.seeds import Stream, derive_seed
from dmtg_lite.data import TaskData
from dmtg_lite.methods import METHODS, MethodResult, Saving, draw_groups, train_groups
from dmtg_lite.methods.fixed import find_members
from dmtg_lite.methods.search import trials
from dmtg_lite.methods.search.affinity import tag_affinity
from dmtg_lite.methods.search.trials import try_groups
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import build_network, fit
from dmtg_lite.runs.history import History
from dmtg_lite.runs.metrics import norm_gain, total

FACES = data.toy_faces(size=16, n_train=100, n_val=40, n_test=60)
OTHER_FACES = data.toy_faces(size=16, n_train=100, n_val=40, n_test=60, seed=1)
CONFIG = TrainConfig(encoder="toy", steps=12, pretrain=6, batch_size=16, lr=3e-3, lr_assignment=0.1)
N_STEPS = 6 + 12  # of Naive MTL: pretraining and training
TESTED = METHODS | {"mtg_net": partial(methods.mtg_net, n_rounds=3)}  # of 36
each_method = pytest.mark.parametrize("name", TESTED)


NAIVE_MACS = methods.naive(FACES, 1, CONFIG).encoder_macs


pytestmark = pytest.mark.usefixtures("quick_learners")


@pytest.fixture(scope="module")
def results(quick_learners: None) -> dict[str, MethodResult]:
    return {name: method(FACES, 3, CONFIG) for name, method in TESTED.items()}


def assert_equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """The same weights, bit for bit."""
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


def sort(groups: list[list[str]]) -> list[list[str]]:
    return sorted(map(sorted, groups))


def assert_same(one: MethodResult, other: MethodResult) -> None:
    """Everything but the time it took."""
    first, second = ({**r.to_json(), "seconds": None} for r in (one, other))
    assert first == second
    assert_equal(one.network, other.network)
    np.testing.assert_array_equal(one.history.task_losses, other.history.task_losses)


@each_method
def test_a_result_is_consistent(results: dict[str, MethodResult], name: str) -> None:
    """Groups partition the tasks; numbers and recorded groups are those of the pruned network."""
    result = results[name]
    assert result.method == name
    assert sorted(task for group in result.groups for task in group) == sorted(FACES.task_names)
    assert all(result.groups)
    assert result.network.n_groups == len(result.groups)
    assert sum(len(head.tasks) for head in result.network.heads) == 9
    assert list(result.task_losses) == list(result.task_errors) == FACES.task_names
    again = evaluate(result.network, FACES.test)
    assert (again.losses, again.errors) == (result.task_losses, result.task_errors)
    assert result.train_loss == total(evaluate(result.network, FACES.train).losses)
    assert result.history.about.groups == result.groups
    if sum(map(len, result.trained_groups)) == 9:  # of overlapping ones it shows both homes
        assert sort(result.history.groups()) == sort(result.groups)
    assert set(result.network(FACES.test.images[:2])) == set(FACES.task_names)
    assert result.seconds["cpu"] > 0
    assert f"MethodResult({name}: " in repr(result)


@each_method
def test_another_seed_gives_another_result(results: dict[str, MethodResult], name: str) -> None:
    """The same one gives the same result, as `test_checkpoints_change_nothing` says."""
    assert TESTED[name](FACES, 3, replace(CONFIG, seed=1)).train_loss != results[name].train_loss


def test_the_baselines_are_the_groupings_they_claim(results: dict[str, MethodResult]) -> None:
    """All together, all apart, the planted ones; with them the agreement that goes with it."""
    assert results["naive"].groups == [FACES.task_names]
    assert results["stl"].groups == [[name] for name in FACES.task_names]
    assert results["planted"].groups == FACES.planted_groups
    assert results["planted"].agreement == 1.0
    assert results["naive"].agreement == results["stl"].agreement == 0.0
    assert sorted(map(len, results["random"].groups)) == [3, 3, 3]


def test_encoder_cost_is_counted(results: dict[str, MethodResult]) -> None:
    """By hand, in Naive MTL's 18 steps: 9 branches cost 9; 3 after pretraining (6 + 36) / 18."""
    assert results["naive"].encoder_cost == 1.0
    assert results["stl"].encoder_cost == 9.0
    for name in ("random", "planted", "dmtg"):
        assert results[name].encoder_cost == pytest.approx((6 + 3 * 12) / N_STEPS)
    assert methods.naive(FACES, 5, CONFIG).encoder_cost == 1.0


def test_restarts_multiply_the_cost_and_a_stem_counts_once() -> None:
    """Two whole runs cost twice, one dropped half way what it ran; a shared stage is run once."""
    twice = methods.dmtg(FACES, 2, replace(CONFIG, restarts=Restarts(n=2)))
    assert twice.encoder_cost == pytest.approx(2 * (6 + 2 * 12) / N_STEPS)
    halved = methods.dmtg(FACES, 2, replace(CONFIG, restarts=Restarts(n=4, halve_every=6)))
    assert halved.encoder_passes == pytest.approx(4 * 6 + 3 * 2 * 6 + 2 * 12)
    shared = methods.random_groups(FACES, 3, replace(CONFIG, shared=1))
    macs = count_macs(shared.network, FACES.feature_shape)
    stem, branch = macs["stem"], macs["branches"] / 3
    passes = 6 + 12 * (stem + 3 * branch) / (stem + branch)
    assert shared.encoder_cost == pytest.approx(passes / N_STEPS)


def test_the_best_restart_is_chosen_by_its_training_loss() -> None:
    """The kept run has the lowest; without planted groups the choice is the same."""
    config = replace(CONFIG, restarts=Restarts(n=3))
    result = methods.dmtg(FACES, 3, config)
    assert len({entry["train_loss"] for entry in result.restarts}) == 3  # each starts anew
    best = min(result.restarts, key=lambda entry: entry["train_loss"])
    assert best["train_loss"] == pytest.approx(result.train_loss, rel=1e-6)
    assert best["groups"] == result.groups
    hidden = methods.dmtg(replace(FACES, planted_groups=None), 3, config)
    assert hidden.agreement is None
    assert (hidden.groups, hidden.train_loss) == (result.groups, result.train_loss)


# of each of eight restarts: its training loss at the first, second and third look
LOSSES = [(5, 0, 0), (2, 3, 0), (7, 0, 0), (1, 4, 0), (6, 0, 0), (3, 0, 0), (4, 0, 0), (9, 0, 0)]


class FakeRun:
    """A restart whose training losses are written down above; its agreement says the opposite."""

    made: ClassVar[list[FakeRun]] = []

    def __init__(
        self, data: TaskData, n_groups: int, config: TrainConfig, restart: int, *rest: object
    ) -> None:
        self.restart, self.stops = restart, []
        self.run = SimpleNamespace(n_steps=30, network=restart, history=None, encoder_macs=0)
        self.made.append(self)

    def train_until(self, step: int) -> None:
        self.train_loss = LOSSES[self.restart][len(self.stops)]
        self.stops.append(step)

    def describe(self) -> dict:
        return {"agreement": self.train_loss}


@pytest.mark.parametrize(("halve_every", "kept"), [(0, 3), (10, 1)])
def test_restarts_are_kept_by_training_loss_alone(
    halve_every: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the end: the lowest of eight. Halving: 3 and 1 go on after 10 steps, 1 after 20."""
    module = sys.modules["dmtg_lite.methods.dmtg"]
    monkeypatch.setattr(module, "_Restart", FakeRun)
    monkeypatch.setattr(module, "train_together", lambda runs, step: False)
    monkeypatch.setattr(FakeRun, "made", [])

    def make_result(*given, **_):
        return SimpleNamespace(network=given[3], method="dmtg", warn_unlearned=lambda **_: None)

    monkeypatch.setattr(module, "make_result", make_result)
    config = replace(CONFIG, steps=30, restarts=Restarts(n=8, halve_every=halve_every))
    assert methods.dmtg(FACES, 3, config).network == kept
    if halve_every:
        expected = {r: [10] for r in range(8)} | {1: [10, 20, 30], 3: [10, 20]}
        assert {run.restart: run.stops for run in FakeRun.made} == expected


def test_nothing_long_happens_without_a_bar(capsys: pytest.CaptureFixture) -> None:
    """The evaluation at the end too, which takes minutes on all of CelebA; and none unasked."""
    methods.naive(FACES, 1, CONFIG, saving=Saving(progress=True))
    bars = capsys.readouterr().err
    for label in ("naive:", "naive: test:", "naive: training rows, once more:"):
        assert label in bars
    methods.naive(FACES, 1, CONFIG)
    assert capsys.readouterr().err == ""


def test_test_images_have_no_influence_on_training() -> None:
    """With other test and validation images the network is the same, bit for bit."""
    other = replace(FACES, test=FACES.val, val=FACES.test)
    one, two = (methods.dmtg(data, 2, CONFIG).network for data in (FACES, other))
    assert_equal(one, two)


@pytest.mark.parametrize(("n_tasks", "n_groups"), [(9, 3), (9, 4), (5, 5), (7, 1), (40, 5)])
def test_random_groups_are_balanced_and_seeded(n_tasks: int, n_groups: int) -> None:
    """Sizes differ by at most one; the same seed draws the same; no seed is like all others."""
    names = [f"t{n}" for n in range(n_tasks)]
    groups = draw_groups(names, n_groups, seed=0)
    sizes = [len(group) for group in groups]
    assert len(groups) == n_groups
    assert max(sizes) - min(sizes) <= 1
    assert sorted(name for group in groups for name in group) == sorted(names)
    assert draw_groups(names, n_groups, seed=0) == groups
    if n_groups not in (1, n_tasks):
        assert len({str(draw_groups(names, n_groups, seed=seed)) for seed in range(5)}) == 5


def test_random_groups_are_fair() -> None:
    """Over 400 seeds any two of six tasks meet about one time in five. Standard error 0.02."""
    meetings = Counter(
        tuple(sorted(group))
        for seed in range(400)
        for group in draw_groups(list("abcdef"), 3, seed=seed)
    )
    assert len(meetings) == 15
    assert all(abs(count / 400 - 0.2) < 0.08 for count in meetings.values())


def test_any_grouping_can_be_trained() -> None:
    """Handed over by somebody; a task left out, twice in one or unknown is refused by name."""
    groups = [FACES.task_names[:2], FACES.task_names[2:]]
    result = train_groups(FACES, groups, CONFIG, method="mine")
    assert (result.method, result.groups) == ("mine", groups)
    for wrong in ([FACES.task_names[:2]], [[*FACES.task_names, "nose"]]):
        with pytest.raises(ValueError, match="must name every one of the tasks"):
            train_groups(FACES, wrong, CONFIG)
    for wrong in ([FACES.task_names, []], [[*FACES.task_names, FACES.task_names[0]]]):
        with pytest.raises(ValueError, match="no empty group and no task twice"):
            train_groups(FACES, wrong, CONFIG)


def test_overlapping_groups_are_served_by_validation() -> None:
    """A task of two groups has two heads, and the better one on validation stays: by hand."""
    names = FACES.task_names
    groups = [names[:6], names[3:]]
    result = train_groups(FACES, groups, CONFIG, from_scratch=True)
    assert result.trained_groups == groups
    network = build_network(FACES, CONFIG).branch_out(2, members=find_members(groups, names))
    seed = derive_seed(CONFIG.seed, Stream.TRAINING)
    _, state = fit(network, FACES, CONFIG, n_steps=N_STEPS, seed=seed)
    assert result.encoder_macs == state.encoder_macs
    network.eval()
    stacked = torch.stack([FACES.val.targets[name] for name in names], 1)
    losses = network.compute_loss_matrix(FACES.val.images, stacked).detach()
    for n, name in enumerate(names):
        home = 0 if n < 3 else 1 if n > 5 else int(losses[n].argmin())
        assert name in result.groups[home]
    trials, _ = try_groups(FACES, groups, CONFIG)  # the same networks, all losses kept
    torch.testing.assert_close(trials[:6, 0], losses[:6, 0].double(), rtol=1e-4, atol=1e-5)
    assert trials[6:, 0].isnan().all()


def test_trials_are_networks_of_their_own() -> None:
    """Fourteen in two walks, twelve and two: a task's loss where it is, nan where it is not."""
    names = FACES.task_names
    groups = [*map(list, combinations(names[:5], 2)), *([name] for name in names[:4])]
    losses, spent = try_groups(FACES, groups, CONFIG)
    assert losses.shape == (9, 14)
    assert spent == 14 * NAIVE_MACS
    for column, group in enumerate(groups):
        assert [names[n] for n in (~losses[:, column].isnan()).nonzero().flatten()] == group
    again, _ = try_groups(FACES, groups[12:], CONFIG)  # beside others or not, a network is the same
    torch.testing.assert_close(again, losses[:, 12:], equal_nan=True)


def fake_trials(monkeypatch: pytest.MonkeyPatch, method: str, names: list[str], loss) -> None:
    """Let a method measure ``loss(task, group)`` instead of training."""

    def fake(data, groups, config, **_):
        rows = [[loss(name, g) if name in g else np.nan for g in groups] for name in names]
        return torch.tensor(rows, dtype=torch.float64), 0

    monkeypatch.setattr(import_module(f"dmtg_lite.methods.{method}"), "try_groups", fake)


def test_hoa_finds_the_truth_if_pairs_are_the_whole_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tasks whose loss in a group is the mean of its pairs: no set of groups is better."""
    three = FACES.select(FACES.task_names[:3])
    rng, names = np.random.default_rng(0), three.task_names
    for _ in range(5):
        truth = rng.uniform(0.1, 0.9, (3, 3))

        def loss(task: str, group: tuple[str, ...], truth: np.ndarray = truth) -> float:
            n = names.index(task)
            others = [names.index(other) for other in group if other != task] or [n]
            return float(truth[n, others].mean())

        def add_up(chosen, loss=loss) -> float:
            return sum(min(loss(name, g) for g in chosen if name in g) for name in names)

        fake_trials(monkeypatch, "hoa", names, loss)
        result = methods.hoa(three, 2, replace(CONFIG, steps=1, pretrain=0))
        subsets = [s for size in (1, 2, 3) for s in combinations(names, size)]
        choices = [chosen for size in (1, 2) for chosen in combinations(subsets, size)]
        best = min(add_up(chosen) for chosen in choices if set(chain(*chosen)) == set(names))
        assert add_up(result.trained_groups) == pytest.approx(best)


def test_tag_keeps_no_task_alone() -> None:
    """Two groups for nine tasks: all have company; the matrix says what b does to a."""
    result = methods.tag(FACES, 2, CONFIG)
    assert all(len(group) > 1 for group in result.trained_groups)
    matrix = np.array(result.affinity)
    measured = tag_affinity(FACES, CONFIG)
    np.testing.assert_allclose(matrix, measured.matrix.T.double().numpy())
    assert result.encoder_macs == measured.encoder_macs + 2 * NAIVE_MACS


def test_two_shot_trains_the_groups_of_dmtg_again(results: dict[str, MethodResult]) -> None:
    """The same groups, other weights; the cost is both runs'."""
    found = results["dmtg"]
    for name in ("two_shot", "two_shot_pretrained", "prune_finetune"):
        assert sort(results[name].groups) == sort(found.groups)
        assert results[name].task_losses != found.task_losses
    again = train_groups(FACES, found.groups, CONFIG, from_scratch=True)
    assert results["two_shot"].task_losses == again.task_losses
    assert results["two_shot"].encoder_macs == found.encoder_macs + again.encoder_macs
    extra = results["prune_finetune"].encoder_passes - found.encoder_passes
    assert extra == pytest.approx(6 * len(found.groups))  # as long as the pretraining, each


def test_finetuning_leaves_the_stem_alone() -> None:
    """Shared weights and batch-norm statistics stay; branches and heads move."""
    config = replace(CONFIG, shared=1, encoder="resnet", batch_size=8, steps=3, pretrain=1)
    found, after = methods.dmtg(FACES, 2, config), methods.prune_finetune(FACES, 2, config)
    before, now = found.network.state_dict(), after.network.state_dict()
    for name, value in before.items():
        same = torch.equal(value, now[name])
        assert same if name.startswith("stem.") or name == "assignment.active" else not same, name


def test_what_cannot_be_done_is_refused() -> None:
    """Planted groups of real data, no groups, more random groups than tasks."""
    digits = data.digits()
    with pytest.raises(ValueError, match="has no planted groups"):
        methods.planted(digits, 3, CONFIG)
    with pytest.raises(ValueError, match="must be a whole number >= 1"):
        methods.dmtg(FACES, 0, CONFIG)
    with pytest.raises(ValueError, match=r"`n_groups` must be in 1\.\.9"):
        methods.random_groups(FACES, 10, CONFIG)


def test_norm_gain_pairs_tasks_by_name(results: dict[str, MethodResult]) -> None:
    """Another order of the same tasks changes nothing; other tasks are refused."""
    dmtg, naive = results["dmtg"], results["naive"]
    shuffled = replace(naive, task_errors=dict(reversed(naive.task_errors.items())))
    assert dmtg.norm_gain_error(shuffled) == pytest.approx(dmtg.norm_gain_error(naive))
    expected = norm_gain(list(dmtg.task_losses.values()), list(naive.task_losses.values()))
    assert dmtg.norm_gain_loss(naive) == pytest.approx(expected)
    with pytest.raises(ValueError, match="of different tasks"):
        dmtg.norm_gain_error(replace(naive, task_errors={"other": 1.0}))


def test_a_result_is_saved_whole(results: dict[str, MethodResult], tmp_path: Path) -> None:
    """Three files: numbers as JSON, the recorded run, the weights."""
    folder = results["dmtg"].save(tmp_path / "out")
    assert {p.name for p in folder.iterdir()} == {"network.safetensors", "result.json", "run.npz"}
    numbers = json.loads((folder / "result.json").read_text())
    assert numbers["task_errors"] == results["dmtg"].task_errors
    assert TrainConfig.from_json(numbers["config"]) == CONFIG
    assert History.load(folder / "run.npz").about.groups == results["dmtg"].groups


@each_method
def test_checkpoints_change_nothing(results, name: str, tmp_path: Path) -> None:
    """With checkpoints, and again from the finished ones: the same result, cost included."""
    for _ in range(2):
        result = TESTED[name](FACES, 3, CONFIG, saving=Saving(tmp_path, every=5))
        assert_same(result, results[name])


def test_another_grouping_does_not_continue_these_checkpoints(tmp_path: Path) -> None:
    """Another of the same K in the same folder: refused, though every tensor would fit."""
    names = FACES.task_names
    one, other = ([names[:4], names[4:]], [names[:3], names[3:]])
    train_groups(FACES, one, CONFIG, saving=Saving(tmp_path))
    with pytest.raises(ValueError, match=r"K=2 with \[4, 5\] heads.*start in a new folder"):
        train_groups(FACES, other, CONFIG, saving=Saving(tmp_path))


def test_other_data_do_not_continue_these_checkpoints(results, tmp_path: Path) -> None:
    """The same suite with other images is another run; another method has a folder of its own."""
    methods.naive(FACES, 1, CONFIG, saving=Saving(tmp_path))
    with pytest.raises(ValueError, match="Resume with the same data"):
        methods.naive(OTHER_FACES, 1, CONFIG, saving=Saving(tmp_path))
    assert_same(methods.stl(FACES, 1, CONFIG, saving=Saving(tmp_path)), results["stl"])


def test_mtg_net_pays_for_what_it_measures(results: dict[str, MethodResult]) -> None:
    """Nine singles, all together, three more combinations, and the groups it chose: by hand."""
    result = results["mtg_net"]
    assert result.n_trials == 4
    assert result.encoder_macs == (9 + 4 + len(result.trained_groups)) * NAIVE_MACS


def test_mtg_net_takes_the_best_of_gains_it_has_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three tasks gain from each other, the third loses: with all measured, the truth."""
    three = FACES.select(FACES.task_names[:3])
    a, b, c = three.task_names
    losses = {(a,): [1.0], (b,): [1.0], (c,): [1.0], (a, b): [0.5, 0.6], (a, c): [1.2, 1.3],
              (b, c): [1.1, 1.2], (a, b, c): [0.9, 0.9, 1.5]}  # fmt: skip

    def loss(task: str, group: list[str]) -> float:
        return losses[tuple(group)][list(group).index(task)]

    fake_trials(monkeypatch, "mtg_net", three.task_names, loss)
    result = methods.mtg_net(three, 2, replace(CONFIG, steps=1, pretrain=0))
    assert sorted(map(tuple, result.trained_groups)) == [(a, b), (c,)]


def test_a_search_is_remembered_with_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed, it reads what it measured; under other settings it is refused, not mixed in."""
    first = methods.tag(FACES, 2, CONFIG, saving=Saving(tmp_path))

    def measure_again(*_, **__):
        raise AssertionError("it has been measured")

    monkeypatch.setattr(import_module("dmtg_lite.methods.tag"), "tag_affinity", measure_again)
    assert_same(methods.tag(FACES, 2, CONFIG, saving=Saving(tmp_path)), first)
    with pytest.raises(ValueError, match=r"affinity\.json was made with .* start in a new folder"):
        methods.tag(FACES, 2, replace(CONFIG, lr=0.01), saving=Saving(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "this must be an object, got"),
        ("null", "this must be an object, got None"),
        ("[" * 10_000, "this is no JSON that can be read"),
        ('{"settings": "SETTINGS"}', "`value` is missing"),
        (
            '{"settings": "SETTINGS", "value": [[["1"]], 3]}',
            r"`value\[0\]\[0\]\[0\]` must be a num",
        ),
        ('{"settings": "SETTINGS", "value": [[[1.0, NaN]], 3]}', r"`value\[0\]` must be 2 x 3 num"),
        ('{"settings": "SETTINGS", "value": [[], -1]}', r"`value\[1\]` must be a whole number"),
    ],
    ids=lambda text: text[:30],
)
def test_what_was_remembered_must_be_what_was_measured(
    content: str, words: str, tmp_path: Path
) -> None:
    """HOA's losses, from a file that somebody else made: refused by file and field."""
    two = FACES.select(FACES.task_names[:2])
    path = tmp_path / "hoa" / "pairs_losses.json"
    path.parent.mkdir()
    path.write_text(content.replace("SETTINGS", f"{two.fingerprint()}, {CONFIG}"))
    with pytest.raises(ValueError, match=rf"pairs_losses\.json: {words}"):
        methods.hoa(two, 2, CONFIG, saving=Saving(tmp_path))


@pytest.mark.parametrize("name", ["hoa", "tag", "cosine", "mtg_net"])
def test_no_groups_are_refused_before_any_training(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said at once, not after the pairs are trained."""
    monkeypatch.setattr("dmtg_lite.runs.fit.continue_steps", None)
    with pytest.raises(ValueError, match="`n_groups` must be a whole number >= 1"):
        METHODS[name](FACES, 0, CONFIG)


@pytest.mark.parametrize(("name", "n_trials"), [("hoa", 136), ("tag", None), ("mtg_net", 18)])
def test_sixteen_tasks_are_searched_like_nine(name: str, n_trials: int | None) -> None:
    """More than can be listed: groups that serve all, every network counted."""
    many = data.toy_faces(n_tasks=16, n_groups=4, size=16, n_train=40, n_val=20, n_test=20)
    config = replace(CONFIG, steps=2, pretrain=0)
    method = METHODS[name] if name != "mtg_net" else partial(methods.mtg_net, n_rounds=1)
    result = method(many, 4, config)
    assert sorted(chain(*result.groups)) == sorted(many.task_names)
    assert 1 <= len(result.trained_groups) <= 4
    if n_trials:
        expected = n_trials + len(result.trained_groups)
        assert result.encoder_cost == pytest.approx(expected)


def test_an_interrupted_search_trains_no_pair_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed in the second dozen of 21 networks: the first is remembered, its checkpoint gone.

    And while they train, the log says how long the rest takes.
    """
    six, config = FACES.select(FACES.task_names[:6]), replace(CONFIG, steps=2, pretrain=0)
    groups = [[name] for name in six.task_names] + [
        list(pair) for pair in combinations(six.task_names, 2)
    ]
    expected, spent = try_groups(six, groups, config)
    trained = []

    def count(network, *given, **more):
        trained.append(network.n_groups)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return fit(network, *given, **more)

    monkeypatch.setattr(trials, "fit", count)
    caplog.set_level("INFO", logger="dmtg_lite")
    with pytest.raises(KeyboardInterrupt):
        try_groups(six, groups, config, saving=Saving(tmp_path), label="pairs")
    assert "pairs: 12 of 21 networks trained, a minute left" in caplog.text
    # what they gave, and the run folder of their walk
    assert {path.name for path in tmp_path.iterdir()} == {"pairs0_losses.json", "pairs0"}
    losses, macs = try_groups(six, groups, config, saving=Saving(tmp_path), label="pairs")
    assert trained == [12, 9, 9]
    torch.testing.assert_close(losses, expected, rtol=0, atol=0, equal_nan=True)
    assert macs == spent
    assert not list(tmp_path.glob("*.safetensors"))
    try_groups(six, groups, config, saving=Saving(tmp_path), label="pairs")
    assert trained == [12, 9, 9]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_learners")
def test_parts_of_a_method_in_two_processes_give_what_one_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MTG-Net's trials, and five restarts of which three end early: bit for bit.

    In one process restarts train as one program, which rounds otherwise: see test_together.
    """
    module = sys.modules["dmtg_lite.methods.dmtg"]
    monkeypatch.setattr(module, "train_together", lambda runs, step: False)
    faces = data.toy_faces(n_tasks=4, n_groups=2, n_train=100, n_val=40, n_test=40)
    config = TrainConfig(encoder="toy", steps=6, pretrain=3, batch_size=16)
    several = replace(config, restarts=Restarts(n=5, halve_every=3))
    for ask in (partial(methods.mtg_net, n_rounds=4), partial(methods.dmtg, config=several)):
        how = {"n_groups": 2, "config": config} | ask.keywords
        alone, spread = ask(faces, **how), ask(faces, **how, saving=Saving(jobs=2))
        assert spread.to_json() | {"seconds": 0} == alone.to_json() | {"seconds": 0}
        weights = zip(spread.network.parameters(), alone.network.parameters(), strict=True)
        assert all(one.equal(other) for one, other in weights)
