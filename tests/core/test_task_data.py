"""What `TaskData` refuses, so that no run stumbles over it hours later."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dmtg_lite import Task, TrainConfig, data
from dmtg_lite.core.batches import Batches
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.data import Split
from dmtg_lite.runs.fit import build_network

FACES = data.toy_faces(n_train=8, n_val=4, n_test=4)
NAME = FACES.task_names[0]


def with_target(target: torch.Tensor) -> data.TaskData:
    return replace(FACES, test=replace(FACES.test, targets=FACES.test.targets | {NAME: target}))


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (torch.tensor([0, 1, 2, 0]), "class numbers from 0 to 1, .* got 0 to 2"),
        (torch.tensor([0, -2, 1, 0]), "-1 where a row carries no label, got -2 to 1"),
        (torch.tensor([-1, -1, -1, -1]), "not one row carries a label"),
        (torch.tensor([1, -1, 1, -1]), "Number the two classes 0 and 1"),
        (torch.zeros(4, 1, dtype=torch.int64), "must be one class number a row, shape"),
    ],
)
def test_bad_targets_are_refused(target: torch.Tensor, complaint: str) -> None:
    """The error names the target and the split."""
    with pytest.raises(ValueError, match=f"'{NAME}' of split `test` .*{complaint}"):
        with_target(target)


def test_an_image_may_carry_no_label() -> None:
    """-1 among the labels is a missing label."""
    assert with_target(torch.tensor([0, -1, 1, -1])).test.targets[NAME].min() == -1


def test_an_empty_split_is_refused() -> None:
    """Nothing can be trained or measured on no images."""
    with pytest.raises(ValueError, match="`features` is empty"):
        Split(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), {})


def test_a_look_at_data_is_one_line() -> None:
    """Typing the name of a data set shows its size, not its pixels."""
    assert len(repr(FACES).splitlines()) == 1
    assert "9 tasks" in repr(FACES)
    assert len(repr(FACES.train)) < 100


def test_a_weight_is_times_the_loss_of_its_task_and_of_no_other() -> None:
    """In the loss matrix and where losses are evaluated; a run on such data is another run."""
    heavy = FACES.weigh({NAME: 100.0})
    network = build_network(FACES, TrainConfig(encoder="toy", steps=1))
    weighed = build_network(heavy, TrainConfig(encoder="toy", steps=1))
    weighed.load_state_dict(network.state_dict())
    features, targets = Batches(FACES.train, FACES.tasks, torch.device("cpu")).take(slice(0, 8))
    before, after = (one.compute_loss_matrix(features, targets) for one in (network, weighed))
    expected = before * torch.tensor([100.0] + [1.0] * 8)[:, None]
    torch.testing.assert_close(after, expected)
    assert sum_loss(Task("a", weight=3.0), torch.zeros(2, 2), torch.tensor([0, 1]))[0] == (
        pytest.approx(3 * 2 * math.log(2))
    )
    assert heavy.fingerprint() != FACES.fingerprint() == heavy.weigh({NAME: 1}).fingerprint()
    assert heavy.tasks[0] == replace(FACES.tasks[0], weight=100)


def test_only_tasks_that_are_there_have_a_weight() -> None:
    """A name that is misspelt would leave its loss as it was, unseen."""
    with pytest.raises(ValueError, match=r"unknown tasks \['hair'\]; 'toy_faces' has"):
        FACES.weigh({"hair": 2.0})
