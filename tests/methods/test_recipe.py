"""What `config=None` means: a recipe chosen from the data by a stated rule, and printed."""

from __future__ import annotations

import warnings
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch

from dmtg_lite import Task, TaskData, TrainConfig, data, methods
from dmtg_lite.core.config import Spare
from dmtg_lite.data import Split
from dmtg_lite.experiments import TOY, compare, run_all
from dmtg_lite.methods import METHODS, choose_recipe
from dmtg_lite.methods import recipe as recipe_module
from dmtg_lite.methods.recipe import count_factors

RNG = np.random.default_rng(0)


def make_data(
    columns: dict, tasks: tuple[Task, ...] = (), shape: tuple[int, ...] = (4,)
) -> TaskData:
    """The same rows three times; only labels and shapes matter here."""
    n = len(next(iter(columns.values())))
    split = Split(torch.zeros(n, *shape), columns)
    return TaskData("mine", tasks or tuple(map(Task, columns)), split, split, split)


def make_labels(n_factors: int, n_tasks: int, n: int = 2000) -> dict:
    """Cuts of factors at other levels: task i is about factor i modulo ``n_factors``."""
    factors = np.random.default_rng(0).standard_normal((n, n_factors))
    levels = [-0.6, 0.0, 0.6]
    return {f"t{i}": factors[:, i % n_factors] > levels[i // n_factors % 3] for i in range(n_tasks)}


@pytest.mark.parametrize(("n_factors", "n_tasks"), [(1, 4), (2, 6), (3, 9), (3, 12), (5, 15)])
def test_factors_of_labels_are_counted(n_factors: int, n_tasks: int) -> None:
    """Yes/no tasks that are cuts of so many independent numbers; also with holes in them."""
    columns = make_labels(n_factors, n_tasks)
    own = make_data(columns)
    assert count_factors(own.train, own.tasks) == n_factors
    holes = {
        name: np.where(RNG.random(len(column)) < 0.3, -1, column)
        for name, column in columns.items()
    }
    own = make_data(holes)
    assert count_factors(own.train, own.tasks) == n_factors


def test_classes_are_as_many_columns_and_numbers_one() -> None:
    """Ten classes are nine directions; a number, and its double, are one factor."""
    classes = np.arange(3000) % 10
    own = make_data({"digit": classes}, (Task("digit", 10),))
    assert count_factors(own.train, own.tasks) == 9
    x, z = RNG.standard_normal((2, 500)).astype(np.float32)
    numbers = tuple(Task(name, 1, "l1", "mae") for name in "abcd")
    own = make_data({"a": x, "b": 2 * x + 1, "c": z, "d": 1 - z}, numbers)
    assert count_factors(own.train, own.tasks) == 2


def test_labels_that_never_change_or_meet_count_nothing() -> None:
    """A number that is always 3, a task alone, and tasks that no row has both of."""
    x, first = RNG.standard_normal(100), np.arange(100) < 50
    columns = {"a": np.where(first, x, np.nan), "b": np.where(first, np.nan, x), "c": 3 + 0 * x}
    own = make_data(columns, tuple(Task(name, 1, "l1", "mae") for name in "abc"))
    for tasks in ("a", "b", "c", "ac", "abc"):
        assert count_factors(own.train, own.select(list(tasks)).tasks) == 1


@pytest.mark.parametrize(
    ("n_groups", "capacity"), [(1, 18), (2, 3), (3, 2), (4, 2), (6, 1), (12, 1), ("auto", 1)]
)
def test_branches_together_carry_what_labels_are_about(n_groups, capacity: int) -> None:
    """Six factors among K branches, rounded up; one network for all has room for 18 tasks."""
    assert choose_recipe(make_data(make_labels(6, 18)), n_groups).capacity == capacity


@pytest.mark.parametrize(("n_classes", "capacity"), [(2, 1), (3, 2), (10, 9), (50, 16)])
def test_no_branch_is_too_narrow_for_one_task(n_classes: int, capacity: int) -> None:
    own = make_data({"a": RNG.integers(0, n_classes, 400)}, (Task("a", n_classes),))
    assert choose_recipe(own, "auto").capacity == capacity


@pytest.mark.parametrize(
    ("shape", "encoder"),
    [((7,), "mlp"), ((7, 3), "attention_pool"), ((1, 8, 8), "convnet"), ((4, 9, 31), "convnet")],
)
def test_rows_say_which_encoder(shape: tuple, encoder: str) -> None:
    assert choose_recipe(make_data({"a": np.arange(40) % 2}, shape=shape), 2).encoder == encoder


@pytest.mark.parametrize(
    ("n_rows", "batch"), [(30, 64), (6_400, 64), (12_900, 128), (60_000, 512), (10**6, 1024)]
)
def test_batches_grow_with_the_rows(n_rows: int, batch: int) -> None:
    assert recipe_module._choose_batch(n_rows) == batch


def test_drawn_data_keep_their_presets_and_a_readers_own_do_not() -> None:
    """By name, but data of that name from `from_arrays` are the reader's own."""
    faces = data.toy_faces(n_train=40, n_val=10, n_test=10)
    assert choose_recipe(faces, 3) == TOY["faces"]
    assert choose_recipe(data.digits(), 3) == TOY["digits"]
    rooms = data.toy_rooms(n_train=4, n_val=2, n_test=2)
    assert choose_recipe(rooms, 3) == choose_recipe(replace(rooms, name="mine"), 3) == TOY["rooms"]
    own = data.from_arrays(RNG.standard_normal((60, 3)), {"a": np.arange(60) % 2}, name="digits")
    assert choose_recipe(own, 3).encoder == "mlp"


def test_many_branches_close_before_the_end() -> None:
    """The last one after step 700 of 900, whatever K; a run can be asked for it."""
    own = make_data(make_labels(6, 60, 300))
    for n_groups in (2, 7, 20, 30, "auto"):
        config = choose_recipe(own, n_groups)
        n_branches, n_spare = config.count_branches(n_groups, 60)
        n_closings = n_branches - 1 if n_spare is None else n_spare
        assert config.spare.close_from + (n_closings - 1) * config.spare.close_every <= 700
    assert choose_recipe(own, 3).spare == Spare(branches="double")


def test_every_method_takes_none_and_prints_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """What is printed gives the same run again; an encoder of one's own is in it."""
    own = make_data(make_labels(2, 4, 80), shape=(1, 8, 8))
    short = TrainConfig(steps=3, pretrain=2, encoder="convnet")
    monkeypatch.setattr(recipe_module, "choose_recipe", lambda data, n_groups: short)
    result = methods.naive(own, 1)
    line = capsys.readouterr().out
    assert line == f"config = {short}\n"
    scope: dict = {"TrainConfig": TrainConfig}
    exec(line, scope)
    assert methods.naive(own, 1, scope["config"]).task_losses == result.task_losses
    assert not capsys.readouterr().out
    assert methods.dmtg(own, 2, encoder="mlp").config == replace(short, encoder="mlp")
    assert "encoder='mlp'" in capsys.readouterr().out
    assert methods.train_groups(own, [own.task_names]).config == short
    assert METHODS["random"](own, 2).config == short
    assert run_all(own, ["naive"], 2, None, [1])[0].config == replace(short, seed=1)
    table = compare(own, methods=["random"], n_groups=[2, 3], seeds=[0])
    assert list(table["method"]) == ["naive", "random", "random"]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_no_method_needs_a_config(method) -> None:
    config = signature(method.train).parameters["config"]
    assert config.default is None
    assert "None" in str(config.annotation)


def make_learnable(n: int = 300) -> TaskData:
    """One task that a table tells, one that nothing tells, and a number of either kind."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    coin, noise = rng.random(n) < 0.5, rng.standard_normal(n)
    targets = {"told": x[:, 0] > 0, "coin": coin, "sum": x.sum(1), "noise": noise}
    numbers = [Task("sum", 1, "l1", "mae"), Task("noise", 1, "squared", "rms_error")]
    split = Split(x, targets)
    other = Split(x[::-1].copy(), {name: column[::-1].copy() for name, column in targets.items()})
    shuffled = {name: rng.permutation(other.targets[name]) for name in ("coin", "noise")}
    test = Split(other.features, other.targets | shuffled)
    return TaskData("mine", (Task("told"), Task("coin"), *numbers), split, other, test)


def test_a_task_that_was_not_learned_is_warned_of_at_the_callers_line() -> None:
    """Those that nothing tells, and no other; the message says where to look."""
    own, config = make_learnable(), TrainConfig(lr=0.01, steps=60, encoder="mlp", capacity=4)
    with pytest.warns(methods.UnlearnedWarning, match="naive answers 2 of 4 tasks") as seen:
        result = methods.naive(own, 1, config)
    assert result.unlearned == ["coin", "noise"]
    assert "(coin, noise)" in str(seen[0].message)
    assert "encoder, capacity, lr and steps" in str(seen[0].message)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        methods.naive(own.select(["told", "sum"]), 1, config)


def test_a_loss_below_the_constants_counts_as_learned() -> None:
    """Of a rare class the constant's error is hard to beat, its loss is not."""
    result = methods.naive(make_learnable(), 1, TrainConfig(steps=2, encoder="mlp"))
    same = dict.fromkeys(result.task_errors, 1.0)
    constant = {"constant_errors": same, "constant_losses": same, "task_errors": same}
    below = {"told": 0.9, "coin": 1.0, "sum": 1.1, "noise": 1.0}
    assert replace(result, task_losses=below, **constant).unlearned == ["coin", "sum", "noise"]
    assert not replace(result, constant_errors={}, constant_losses={}).unlearned


def test_one_network_for_all_has_room_for_all() -> None:
    """Also for a task that goes with no other, which counts as a factor by chance only."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(200, 3))
        answers = {"a": rows[:, 0] > 0, "w": rows[:, 0] + 0.1 * rng.normal(size=200)}
        answers["alone"] = rng.integers(0, 4, 200)
        assert choose_recipe(data.from_arrays(rows, answers, seed=seed), 1).capacity == 1 + 1 + 3


@pytest.mark.parametrize("name", ["dmtg", "stl", "random"])
def test_a_missing_k_is_asked_for(name: str) -> None:
    """In words, not as an argument of a function inside."""
    faces = data.toy_faces(n_train=20, n_val=10, n_test=10)
    with pytest.raises(ValueError, match=r"`n_groups` must be a whole number .*\(data, 3\)"):
        METHODS[name].train(faces)
