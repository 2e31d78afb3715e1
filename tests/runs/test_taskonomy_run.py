"""The whole road: drawn rooms as files, prepared, opened, trained; the same as in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_dense import CONFIG, start
from test_train import assert_same_run

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.data.stand_ins.taskonomy_files import make_fake_taskonomy
from dmtg_lite.data.taskonomy.load import taskonomy
from dmtg_lite.data.taskonomy.prepare import prepare_taskonomy
from dmtg_lite.data.toys.rooms import render_rooms
from dmtg_lite.runs.evaluate import evaluate
from dmtg_lite.runs.fit import fit


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    """Three buildings, one a split, four rooms each, as mapped files."""
    folder: Path = tmp_path_factory.mktemp("taskonomy")
    root = make_fake_taskonomy(folder / "files", buildings=3, views=4, size=32)
    return taskonomy(prepare_taskonomy(root, folder / "prepared", size=32, jobs=1, progress=False))


def in_memory(split: Split) -> Split:
    """The same numbers in tensors of their own."""
    targets = {
        name: target.clone(memory_format=torch.contiguous_format)
        for name, target in split.targets.items()
    }
    return Split(split.images.clone(memory_format=torch.contiguous_format), targets)


def test_a_run_on_files_is_the_run_in_memory(on_disk: TaskData) -> None:
    """Weights, groups and history, bit for bit; and so are losses and errors."""
    parts = {name: in_memory(getattr(on_disk, name)) for name in ("train", "val", "test")}
    there = replace(on_disk, **parts)
    runs = [fit(start(data=data), data, replace(CONFIG, steps=3)) for data in (on_disk, there)]
    assert_same_run(*runs)
    one, other = (evaluate(state.network, on_disk.test) for _, state in runs)
    assert one == other


def test_files_hold_the_rooms_that_were_drawn(on_disk: TaskData) -> None:
    """Nothing is lost but the last digit: 1/512 m, 8 bits of a normal, half precision."""
    # each building draws from a stream of its own; the first of the official train split is the
    # first
    rooms = render_rooms(4, size=32, seed=np.random.default_rng(0).spawn(1)[0])
    assert on_disk.name == "fake_taskonomy5"
    images = on_disk.train.images.permute(0, 2, 3, 1).contiguous()
    assert torch.equal(images, torch.from_numpy(rooms["rgb"]))
    targets = on_disk.train.targets
    depth = targets["depth"][:, 0].float()
    true = torch.from_numpy(rooms["depth"])
    torch.testing.assert_close(depth, true, atol=1 / 512, rtol=2**-10, equal_nan=True)
    ids = torch.from_numpy(rooms["segmentation"]).int()
    assert torch.equal(targets["segmentation"].int(), ids.where(ids > 0, -1))
