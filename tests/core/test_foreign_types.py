"""Numbers and arrays of numpy, pandas and torch are as good as Python's own."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dmtg_lite import data, methods, sample_assignment
from dmtg_lite.core.config import HeadOptions, Pruning, Restarts, Spare, TrainConfig
from dmtg_lite.core.tasks import Task
from dmtg_lite.data import Split
from dmtg_lite.experiments import compare
from dmtg_lite.methods.search.affinity import cluster_affinity
from dmtg_lite.runs.fit import build_network
from dmtg_lite.runs.spare import compute_closing_costs, imagine_closings

FACES = data.toy_faces(n_train=48, n_val=8, n_test=8)
NAME = FACES.task_names[0]
CONFIG = TrainConfig(encoder="toy", steps=2, batch_size=16)


@pytest.mark.parametrize("whole", [np.int64(2), np.uint8(2), torch.tensor(2), np.array(2)])
def test_whole_numbers_of_other_libraries_are_taken(whole: Any) -> None:
    """The config is the same, prints the same and saves as JSON."""
    given = TrainConfig(
        seed=whole,
        steps=whole,
        shared=whole,
        spare=Spare(branches=whole),
        restarts=Restarts(n=whole),
        heads=HeadOptions(hidden=whole),
        pruning=Pruning(start=whole),
    )
    plain = TrainConfig(
        seed=2,
        steps=2,
        shared=2,
        spare=Spare(branches=2),
        restarts=Restarts(n=2),
        heads=HeadOptions(hidden=2),
        pruning=Pruning(start=2),
    )
    assert repr(given) == repr(plain)
    assert TrainConfig.from_json(json.loads(json.dumps(asdict(given)))) == plain


@pytest.mark.parametrize("half", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5)])
def test_numbers_of_other_libraries_are_taken(half: Any) -> None:
    """Rates, temperatures, thresholds."""
    given = TrainConfig(lr=half, tau=(half, 1), jitter=half, pruning=Pruning(below=half))
    assert given == TrainConfig(lr=0.5, tau=(0.5, 1), jitter=0.5, pruning=Pruning(below=0.5))
    assert repr(given) == repr(TrainConfig(**json_of(given)))


def json_of(config: TrainConfig) -> dict[str, Any]:
    return {"lr": 0.5, "tau": (0.5, 1), "jitter": 0.5, "pruning": config.pruning}


@pytest.mark.parametrize(
    "wrong", [True, np.bool_(True), torch.tensor(True), 2.0, np.float64(2), "2", None, [2], [2, 2]]
)
def test_what_is_no_whole_number_is_refused(wrong: Any) -> None:
    """A float is no number of steps, even a whole one; the message shows what was given."""
    with pytest.raises(ValueError, match="`seed` must be a whole number >= 0, got "):
        TrainConfig(seed=wrong)
    with pytest.raises(ValueError, match="`n_groups` must be a whole number >= 1"):
        methods.dmtg(FACES, wrong, CONFIG)


@pytest.mark.parametrize(
    "wrong", [True, np.bool_(True), "0.1", [0.1], torch.ones(2), np.nan, torch.tensor(np.inf)]
)
def test_what_is_no_number_is_refused(wrong: Any) -> None:
    """A tensor of several is described, not printed over many lines."""
    with pytest.raises(ValueError, match=r"`lr` must be a finite number >= 0, got .{1,90}$"):
        TrainConfig(lr=wrong)


def test_k_may_be_numpys() -> None:
    """In methods and in comparisons, alone and as an array."""
    result = methods.dmtg(FACES, np.int64(2), CONFIG)
    assert len(result.groups) <= 2
    table = compare(FACES, methods=["random"], n_groups=np.arange(2, 4), seeds=[0], config=CONFIG)
    assert sorted(table["K"].dropna() if "K" in table else table["k"].dropna()) == [2, 3]
    one = compare(FACES, methods=["random"], n_groups=np.int64(2), seeds=[0], config=CONFIG)
    assert len(one) == 2  # with Naive MTL


@pytest.mark.parametrize(
    "make",
    [
        lambda labels: labels.numpy(),
        lambda labels: labels.numpy().astype(np.int8),
        lambda labels: labels.numpy().astype(np.uint16),
        lambda labels: labels.numpy().astype(bool),
        lambda labels: labels.numpy().astype(np.float32),
        lambda labels: labels.tolist(),
        lambda labels: labels.bool(),
        lambda labels: pd.Series(labels.numpy()),
        lambda labels: pd.Series(labels.numpy()).astype("Int64"),
        lambda labels: pd.Series(labels.numpy()).astype("boolean"),
    ],
)
def test_labels_come_in_any_type(make: Any) -> None:
    """And are kept as the one that losses want."""
    targets = FACES.test.targets
    split = Split(FACES.test.images.numpy(), targets | {NAME: make(targets[NAME])})
    assert split.images.dtype == torch.uint8
    settled = replace(FACES, test=split)
    assert settled.test.targets[NAME].dtype == torch.int64
    assert settled.test.targets[NAME].equal(targets[NAME])
    assert settled.fingerprint() == FACES.fingerprint()


def test_a_missing_label_is_minus_one() -> None:
    """Of whatever type: nan of numpy, NA of pandas."""
    labels = FACES.test.targets[NAME].numpy().astype(np.float64)
    labels[3] = np.nan
    for given in (labels, pd.Series(labels), pd.Series(labels).astype("Int64")):
        split = Split(FACES.test.images, FACES.test.targets | {NAME: given})
        assert replace(FACES, test=split).test.targets[NAME][3] == -1


def test_a_mapped_array_is_not_copied(tmp_path: Any) -> None:
    """Images of a data set larger than memory stay in their file."""
    path = tmp_path / "images.npy"
    np.save(path, FACES.test.images.numpy())
    mapped = np.load(path, mmap_mode="r")
    split = Split(mapped, FACES.test.targets)
    assert split.images.data_ptr() == mapped.ctypes.data


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), r"numpy.ndarray of uint8 and shape .*transpose"),
        (np.zeros((4, 8, 8), np.uint8), r"features\[:, None\]"),
        (np.zeros((4, 9), np.uint8), "data.from_arrays"),
        (np.zeros((4, 3, 8, 8), np.int64), "data.from_arrays"),
        (torch.rand(4), r"torch.Tensor of float32 and shape \(4,\)"),
        (pd.DataFrame({"a": ["x"]}), "pandas.DataFrame"),
        ("faces.png", "got 'faces.png'"),
        ([[1], [1, 2]], "rows of one shape"),
        (torch.eye(4).to_sparse(), "dense"),
        (torch.rand(4, 2, device="meta"), "with values"),
    ],
)
def test_images_of_another_form_are_told_the_way(images: Any, complaint: str) -> None:
    """What was given, and what to do with it."""
    with pytest.raises(ValueError, match=f"`features` must be .*{complaint}"):
        Split(images, {})


def test_features_leave_their_graph_and_their_mask() -> None:
    """Two steps on them are two; what is masked is missing, not a number."""
    split = Split(torch.rand(4, 2, requires_grad=True) * 2, {"a": np.ma.array([1, 2, 3, 4])})
    assert not split.features.requires_grad
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    assert Split(np.eye(3), {"a": masked}).targets["a"].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("labels", [["yes", "no"], pd.Series(["a", "b"]), [None, 1]])
def test_labels_that_are_no_numbers_are_refused(labels: Any) -> None:
    """The message names the target."""
    with pytest.raises(ValueError, match=r"`targets\['a'\]` must"):
        Split(np.zeros((2, 3, 8, 8), np.uint8), {"a": labels})


def test_classes_are_whole() -> None:
    """A fraction is no class number, though it may be a number to predict."""
    labels = torch.full((len(FACES.test),), 0.5)
    split = Split(FACES.test.images, FACES.test.targets | {NAME: labels})
    with pytest.raises(ValueError, match=f"target '{NAME}' of split `test`.* whole class numbers"):
        replace(FACES, test=split)


def test_a_draw_takes_numpy_and_lists() -> None:
    """Logits of a plot or a table are drawn from like those of a network."""
    for logits in (np.array([[50.0, 0.0]]), [[50.0, 0.0]]):
        assert sample_assignment(logits, 1.0).round().tolist() == [[1.0, 0.0]]
    with pytest.raises(ValueError, match="`logits` must be a tensor"):
        sample_assignment([["a"]], 1.0)  # pyright: ignore[reportArgumentType]


def test_closing_costs_take_numpy_and_lists() -> None:
    """A matrix of losses somebody measured elsewhere."""
    matrix, groups = [[0.1, 0.7, 0.7], [0.7, 0.2, 0.3]], [0, 1]
    expected = compute_closing_costs(torch.tensor(matrix), torch.tensor(groups))
    for own in (matrix, np.array(matrix, np.float32)):
        costs = compute_closing_costs(own, np.array(groups))
        torch.testing.assert_close(costs.float(), expected)
        assert imagine_closings(own, groups)["n_groups"] == 2
    assert cluster_affinity(np.eye(3) + 0.5, 3, list("abc")) == [["a"], ["b"], ["c"]]


def test_a_network_takes_numpy_and_floats() -> None:
    """The same predictions; whole numbers of another type than uint8 have no scale."""
    network = build_network(FACES, CONFIG).eval()
    images = FACES.test.images
    expected = network(images)[NAME]
    assert network(images.numpy())[NAME].equal(expected)
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(network(images.to(dtype) / 255)[NAME], expected)
    with pytest.raises(ValueError, match="`inputs` must be uint8, or floats"):
        network(images.long())


@pytest.mark.parametrize("tau", ["1", None, np.nan, 0, -1, [1]])
def test_a_draw_refuses_what_is_no_temperature(tau: Any) -> None:
    with pytest.raises(ValueError, match="`tau` must be > 0"):
        sample_assignment(torch.zeros(2, 2), tau)


@pytest.mark.parametrize("device", ["gpu", "meta", "privateuseone", "cuda:99", None, 3.5])
def test_a_device_that_is_none_here_is_refused(device: Any) -> None:
    """Before anything is copied to it, by name."""
    for move in (FACES.to, FACES.stream_to, FACES.train.to):
        with pytest.raises(ValueError, match=r"`device` .* cannot be used here"):
            move(device)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"name": 3}, "`name` of a task must be a text"),
        ({"n_outputs": 2.0}, "`n_outputs` of task `a` must be a whole number >= 1"),
        ({"spread": "1"}, "`spread` of task 'a' must be > 0"),
        ({"weight": 0}, "`weight` of task 'a' must be > 0, got 0"),
        ({"center": np.nan}, "`center` of task 'a' must be a number"),
    ],
)
def test_a_task_of_another_form_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Task(**{"name": "a"} | given)


def test_tasks_take_numbers_of_other_libraries_and_lists_of_tasks() -> None:
    """And a single name where a list of names is meant."""
    assert Task("a", np.int64(3), spread=np.float32(0.5)) == Task("a", 3, spread=0.5)
    whole = replace(FACES, tasks=list(FACES.tasks))
    assert whole.tasks == FACES.tasks
    assert FACES.select(NAME).task_names == [NAME]
    with pytest.raises(ValueError, match=r"`tasks` must hold Task\(...\) only, got 'a'"):
        replace(FACES, tasks=["a"])
