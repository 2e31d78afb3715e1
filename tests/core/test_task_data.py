"""What `TaskData` refuses, so that no run stumbles over it hours later."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dmtg_lite import data
from dmtg_lite.data import Split

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
