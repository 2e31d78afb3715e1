"""What workers promise without any: who has which GPU, what is refused, what is sent."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch

from dmtg_lite import cli, data
from dmtg_lite.core.mapped import as_mapped, map_array
from dmtg_lite.data import Split
from dmtg_lite.runs import jobs as module
from dmtg_lite.runs.jobs import Workers, as_workers, list_gpus, run_jobs, share_gpus
from dmtg_lite.studies.suites import Opener


@pytest.mark.parametrize(
    ("visible", "n_workers", "expected"),
    [
        (["0", "1"], 4, ["0", "1", "0", "1"]),
        (["3", "5", "7"], 2, ["3", "5"]),
        (["GPU-8f", "GPU-2a"], 3, ["GPU-8f", "GPU-2a", "GPU-8f"]),
        ([], 2, [None, None]),
    ],
)
def test_workers_take_the_visible_gpus_in_turn(visible, n_workers, expected) -> None:
    """Whatever they are called, and none twice before all were given once."""
    assert share_gpus(visible, n_workers) == expected


def test_the_visible_gpus_are_those_that_cuda_was_told_of(monkeypatch) -> None:
    """CUDA_VISIBLE_DEVICES where it is set, all that torch counts where it is not."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8f")
    assert list_gpus() == ["2", "GPU-8f"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert list_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert list_gpus() == ["0", "1", "2"]


def test_a_gpu_each_follows_from_the_device() -> None:
    """One where data lie on a GPU, none else; what is asked for is left; one GPU is refused."""
    two = as_workers(2)
    assert [two.on_device(name).gpus for name in ("cpu", "cuda", "cuda:0")] == [0, 1, 1]
    assert replace(two, gpus=0.5).on_device("cuda").gpus == 0.5
    assert as_workers(1).on_device("cuda:1") == as_workers(1)  # this process: nothing to share
    with pytest.raises(ValueError, match=r"'cuda:1' is one GPU.*CUDA_VISIBLE_DEVICES=1"):
        two.on_device("cuda:1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"jobs": 0}, "`jobs` must be a whole number >= 1, got 0"),
        ({"on": "slurm"}, '`on` must be "processes" or "ray", got \'slurm\''),
        ({"cpus": 0}, "`cpus` must be a whole number >= 1, or a part of one, got 0"),
        ({"cpus": 1.5}, "or a part of one, got 1.5"),
        ({"gpus": 2}, "`gpus` must be from 0 to 1, since a run trains on one GPU, got 2"),
        ({"gpus": float("nan")}, "`gpus` must be from 0 to 1"),
        ({"address": "auto"}, 'does not go with on="processes"'),
        ({"on": "ray", "address": "auto", "jobs": 2}, "does not go with jobs=2"),
    ],
)
def test_workers_that_cannot_be_are_refused(options, words) -> None:
    with pytest.raises(ValueError, match=words):
        Workers(**options)


def test_no_ray_is_said_in_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    """With the command that mends it, before anything trains."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    command = ["compare", "toy_faces", "--on", "ray", "--steps", "2", "--pretrain", "1"]
    assert cli.main([*command, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].endswith('which is not installed. Run: pip install "dmtg-lite[cluster]"')


def read_gpu(_: int) -> tuple[str | None, int]:
    return os.environ.get("CUDA_VISIBLE_DEVICES"), torch.get_num_threads()


@pytest.mark.slow
def test_each_process_sees_its_own_gpu(monkeypatch) -> None:
    """Two processes, three GPUs by name: one each, and as many threads as were asked for."""
    monkeypatch.setattr(module, "list_gpus", lambda: ["4", "6", "7"])
    found = run_jobs(read_gpu, [(n,) for n in range(8)], jobs=Workers(jobs=2, cpus=2, gpus=1))
    assert set(found) <= {("4", 2), ("6", 2)}


# ---------------------------------------------------------------------- what is sent


def test_commands_hand_workers_how_to_open_data(tmp_path: Path, monkeypatch) -> None:
    """The name of a suite and its options for each run, not a picture."""
    sent = []

    def spread(_, work, *, jobs, lost, **__):
        sent.extend(work)
        return [lost(*one, reason="nobody trains here") for one in work]

    monkeypatch.setattr("dmtg_lite.studies.cells.run_jobs", spread)
    command = ["compare", "toy_faces", "--methods", "stl", "--jobs", "2", "--seed", "4"]
    assert cli.main([*command, "--out", str(tmp_path)]) == 2  # since no run gave numbers
    assert {opener for _, opener, *_ in sent} == {Opener("toy_faces", seed=4)}
    assert len(pickle.dumps(sent)) < 20_000
    assert len(sent) == 6


@pytest.fixture
def mapped(tmp_path: Path) -> data.TaskData:
    """Pictures that lie in a file, as those of a prepared folder do: 3 MB, last axis first."""
    faces = data.toy_faces(n_train=700, n_val=100, n_test=200)
    parts = (faces.train, faces.val, faces.test)
    pictures = torch.cat([part.features for part in parts]).permute(0, 2, 3, 1).contiguous()
    np.save(tmp_path / "images.npy", pictures.numpy())
    images = as_mapped(map_array(tmp_path / "images.npy", "c")).permute(0, 3, 1, 2)
    splits = zip(images.split([700, 100, 200]), parts, strict=True)
    train, val, test = (Split(own, part.targets) for own, part in splits)
    return replace(faces, train=train, val=val, test=test)


@pytest.mark.parametrize("dumps", [pickle.dumps, ForkingPickler.dumps])
def test_mapped_features_are_sent_as_their_place(dumps, mapped: data.TaskData) -> None:
    """Less than a tenth of their bytes, labels included; and the very same data arrive."""
    some = mapped.select(mapped.task_names[:2]).stream_to("cpu")
    some = replace(some, train=some.train.subset(slice(1, None, 3)))  # a view of a view
    sent = dumps(some)
    assert len(sent) < mapped.train.features.nbytes / 10
    there = pickle.loads(sent)
    assert there.fingerprint() == some.fingerprint()
    for name in ("train", "val", "test"):
        own, other = getattr(some, name).features, getattr(there, name).features
        assert own.equal(other)
        assert own.stride() == other.stride()
        assert own.data_ptr() != other.data_ptr()  # mapped anew, not shared by accident


def test_what_was_written_to_is_sent_itself(mapped: data.TaskData) -> None:
    """A change stays in memory, so that the file would be something else."""
    mapped.train.features[0, 0, 0, 0] += 1
    sent = pickle.dumps(mapped)
    assert len(sent) > mapped.train.features.nbytes
    assert pickle.loads(sent).train.features.equal(mapped.train.features)


def test_a_file_that_is_another_is_refused(mapped: data.TaskData, tmp_path: Path) -> None:
    """Gone, shorter or of another type: named, with what all machines need."""
    sent = pickle.dumps(mapped)
    np.save(tmp_path / "images.npy", np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"images.npy holds 36 bytes .* for a worker"):
        pickle.loads(sent)
    (tmp_path / "images.npy").unlink()
    with pytest.raises(ValueError, match=r"images.npy cannot be opened by a worker .* same path"):
        pickle.loads(sent)


def test_memory_that_is_used_again_is_not_taken_for_a_file(tmp_path: Path) -> None:
    """What is known of a mapped array goes with it."""
    from dmtg_lite.core.mapped import _FILES, find_place

    np.save(tmp_path / "a.npy", np.arange(9.0))
    before = len(_FILES)
    view = as_mapped(map_array(tmp_path / "a.npy", "c"))[3:]
    assert find_place(view) is not None
    assert find_place(torch.zeros(3)) is None
    del view
    assert len(_FILES) == before
