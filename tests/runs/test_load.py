"""A result saved is a result that can be loaded: its network predicts as before, its numbers are
the same, and what does not belong together is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from small_runs import CONFIG, DATA, DENSE_CONFIG, PICTURES, assert_equal
from torch import nn

from dmtg_lite import methods
from dmtg_lite.core.config import HeadOptions
from dmtg_lite.core.tasks import make_tolerant
from dmtg_lite.encoders import ENCODERS
from dmtg_lite.methods import METHODS, Saving
from dmtg_lite.runs.load import load_result, read_numbers
from dmtg_lite.runs.result import MethodResult

SHORT = replace(CONFIG, steps=4, pretrain=2)
GONE = object()
NEW_PROCESS = """
import sys, numpy, torch
from dmtg_lite import load_result
images = torch.from_numpy(numpy.load(sys.argv[2]))
with torch.no_grad():
    told = load_result(sys.argv[1]).network(images)
numpy.savez(sys.argv[3], **{name: values.numpy() for name, values in told.items()})
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[MethodResult, Path]:
    result = METHODS["dmtg"](DATA, 3, SHORT)
    return result, result.save(tmp_path_factory.mktemp("saved") / "dmtg")


def predict(result: MethodResult, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return result.network(images)


def test_a_loaded_result_says_what_the_saved_one_said(saved: tuple[MethodResult, Path]) -> None:
    """Predictions bit for bit, every number, groups, history and the line that is printed."""
    result, folder = saved
    back = load_result(folder)
    assert_equal(predict(back, DATA.test.images), predict(result, DATA.test.images))
    assert not back.network.training
    for name in {f.name for f in fields(result)} - {"history", "network"}:
        assert getattr(back, name) == getattr(result, name), name
    assert back.history.about == result.history.about
    assert back.history.steps.tolist() == result.history.steps.tolist()
    assert (repr(back), back.tasks, back.metrics) == (repr(result), result.tasks, result.metrics)
    assert back.norm_gain_loss(result) == 0


def test_the_callers_torch_settings_do_not_matter(saved: tuple[MethodResult, Path]) -> None:
    result, folder = saved
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            back = load_result(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_equal(predict(back, DATA.test.images), predict(result, DATA.test.images))


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("stl", {}),
        ("two_shot", {"shared": 1, "heads": HeadOptions(hidden=4)}),
        ("prune_finetune", {"shared": 2}),
        ("naive", {"encoder": "resnet", "steps": 1, "pretrain": 0, "tau": (5.0, 0.5)}),
    ],
)
def test_whatever_the_method_it_can_be_loaded(method: str, change: dict, tmp_path: Path) -> None:
    result = METHODS[method](DATA, 2, replace(SHORT, **change))
    back = load_result(result.save(tmp_path))
    assert_equal(predict(back, DATA.test.images), predict(result, DATA.test.images))
    assert back.config == result.config


def test_pictures_come_back_in_their_unit(tmp_path: Path) -> None:
    """Decoders, centre and spread of the tasks, and their losses."""
    data = replace(PICTURES, tasks=make_tolerant(PICTURES.tasks))
    result = METHODS["dmtg"](data, 2, replace(DENSE_CONFIG, steps=1))
    back = load_result(result.save(tmp_path))
    assert back.tasks == data.tasks
    assert_equal(predict(back, data.test.images), predict(result, data.test.images))


class Own(nn.Module):
    """A reader's encoder: a mask of -inf, a weight that no step uses, one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = nn.Linear(3 * 8 * 8, 6)
        self.unused = nn.Linear(2, 2)
        self.fixed = nn.Parameter(torch.ones(6), requires_grad=False)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.pixels(images.flatten(1))) * self.fixed


def test_an_encoder_of_ones_own_is_resumed_and_loaded(tmp_path: Path) -> None:
    """Under its name; in a process that does not know it, the message says what to write."""
    own, saving = {"encoder": Own()}, Saving(tmp_path / "checkpoints", every=1)
    result = methods.dmtg(DATA, 2, SHORT, saving=saving, **own)
    again = methods.dmtg(DATA, 2, SHORT, saving=saving, **own)
    assert_equal(again.network.state_dict(), result.network.state_dict())
    back = load_result(result.save(tmp_path / "result"))
    assert_equal(predict(back, DATA.test.images), predict(result, DATA.test.images))
    del ENCODERS[result.config.encoder]
    with pytest.raises(ValueError, match=r"one of your own, say so first: .*register\('Own-"):
        load_result(tmp_path / "result")


def test_another_process_needs_no_data(saved: tuple[MethodResult, Path], tmp_path: Path) -> None:
    """The folder may have moved, and nothing but it and the images is there."""
    import numpy as np

    result, folder = saved
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    np.save(tmp_path / "images.npy", DATA.test.images.numpy())
    told = tmp_path / "told.npz"
    arguments = [str(moved), str(tmp_path / "images.npy"), str(told)]
    command = [sys.executable, "-c", NEW_PROCESS, *arguments]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], env=dict(os.environ))
    with np.load(told) as file:
        for name, values in predict(result, DATA.test.images).items():
            np.testing.assert_array_equal(file[name], values.numpy())


def test_the_page_on_saved_runs_is_right(saved: tuple[MethodResult, Path], tmp_path: Path) -> None:
    """Its lines run as they stand, beside a folder of the name that they use."""
    root = Path(__file__).parents[2]
    text = (root / "docs" / "saved_runs.md").read_text("utf-8")
    code = "".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    shutil.copytree(saved[1], tmp_path / "runs" / "mine")
    code = f"images = __import__('torch').zeros(2, 3, 8, 8)\n{code}"
    command, paths = [sys.executable, "-W", "error", "-c", code], {"PYTHONPATH": str(root)}
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | paths)


@pytest.fixture
def folder(saved: tuple[MethodResult, Path], tmp_path: Path) -> Path:
    """A copy of its own to spoil."""
    return shutil.copytree(saved[1], tmp_path / "result")


def rewrite(folder: Path, **change: object) -> None:
    """Other values in ``result.json``; `GONE` takes one out."""
    numbers = json.loads((folder / "result.json").read_text())
    numbers = {name: one for name, one in (numbers | change).items() if one is not GONE}
    (folder / "result.json").write_text(json.dumps(numbers))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": GONE}, r"result\.json: `method` is missing"),
        ({"groups": "abc"}, r"result\.json: `groups` must be a list, got 'abc'"),
        ({"groups": [["t0", "t1"]]}, "`groups` must name each task of `metrics`"),
        ({"task_errors": {"t0": None}}, r"`task_errors\['t0'\]` must be a number, got None"),
        ({"seconds": {"wall": 1}}, r"`seconds\.cpu` is missing"),
        ({"n_test": -3}, "`n_test` must be a whole number >= 0, got -3"),
        ({"final_probabilities": [[1.0], [0.5, 0.5]]}, "must have 4 rows of one length"),
        ({"config": {"lr": "fast"}}, r"describes no network: .*`lr` must be"),
        ({"config": {"encoder": "mine"}}, "describes no network: `encoder` must be one of"),
        ({"feature_shape": [3, 12, 12]}, "must be torch.float32 of shape"),
        ({"network": "0" * 64}, "belongs to another result"),
        ({"tasks": GONE, "feature_shape": GONE}, "a version that did not keep what a network"),
    ],
)
def test_a_result_that_is_not_right_is_refused(change: dict, words: str, folder: Path) -> None:
    """One line with the file and what is wrong in it."""
    rewrite(folder, **change)
    with pytest.raises(ValueError, match=words) as error:
        load_result(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_files_of_two_results_do_not_mix(folder: Path, tmp_path: Path) -> None:
    """Weights of another run of the same shape, a recording of other tasks, or one file missing."""
    other = METHODS["dmtg"](DATA.select(["t0", "t1", "t2"]), 3, SHORT).save(tmp_path / "other")
    for name in ("network.safetensors", "run.npz"):
        mine = (folder / name).read_bytes()
        shutil.copy(other / name, folder / name)
        with pytest.raises(ValueError, match=f"{name} belongs to another result"):
            load_result(folder)
        (folder / name).write_bytes(mine)
    (folder / "network.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no network at .*network\.safetensors"):
        load_result(folder)


def test_one_flipped_bit_in_a_weight_is_noticed(folder: Path) -> None:
    path = folder / "network.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"network\.safetensors is not a network .*checksum"):
        load_result(folder)


def test_numbers_of_older_versions_are_read(folder: Path) -> None:
    """Without what came later; a table needs no network."""
    newer = ("tasks", "feature_shape", "network", "affinity", "n_trials")
    rewrite(folder, **dict.fromkeys(newer, GONE))
    assert read_numbers(folder / "result.json")["method"] == "dmtg"


def test_a_result_of_an_older_version_is_as_good(tmp_path: Path) -> None:
    """Written by commit f16b9fb, when all data were pictures and no answer constant.

    It loads, predicts what was printed then, reports, and is saved as results are today.
    """
    old = Path(__file__).parent / "older_result"
    assert "image_shape" in json.loads((old / "result.json").read_text())
    back = load_result(old)
    told = predict(back, DATA.test.images[:3])
    expected = [[-0.0295, 0.1103], [-0.0311, 0.0880], [-0.0288, 0.1191]]
    torch.testing.assert_close(told["t0"], torch.tensor(expected), atol=1e-4, rtol=0)
    assert back.feature_shape == (3, 8, 8)
    assert back.predict(DATA.test.images[:3])["t0"].tolist() == [1, 1, 1]  # of names it told none
    assert back.constant_errors == {}
    text = str(back.report())
    assert "VERDICT: undecided" in text
    assert re.search(r"^t0 +\d +% +- +36\.4$", text, re.MULTILINE), text
    again = load_result(back.save(tmp_path))
    assert_equal(predict(again, DATA.test.images), predict(back, DATA.test.images))


@pytest.mark.parametrize("path", ["nowhere", "result.json"])
def test_a_path_that_is_no_folder_says_what_to_pass(tmp_path: Path, path: str) -> None:
    """The folder, not a file in it."""
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="pass the folder that a result was saved into"):
        load_result(tmp_path / path)
