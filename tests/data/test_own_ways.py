"""The ways in which people hand data over: each works, or says what to do.

The whole way through where it works: features, targets, three splits, and what is printed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from own_rows import N, ask, draw, draw_bytes, make_frame
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

from dmtg_lite import Spare, TrainConfig, data, load_result, methods
from dmtg_lite.core.data import TaskData
from dmtg_lite.methods.recipe import choose_recipe

SPLITS = ("train", "val", "test")
DIGITS = np.arange(N) % 10


def with_holes(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Missing values in every column, in nullable types where there are some."""
    frame = frame.astype({"age": "Int64", "smoker": "boolean"})
    for row, column in enumerate(frame.columns):
        frame.loc[row * 3, column] = None
    return frame


def make_tasks(n_tasks: int) -> np.ndarray:
    """Yes/no answers, (N, n_tasks)."""
    return np.random.default_rng(3).random((N, n_tasks)) < 0.5


# name: features, targets, options, shape of one row of features, part of what is printed
WAYS = {
    "numpy vectors": (draw(5), ask(), {}, (5,), "vectors of 5 (read as ND, standardised)"),
    "lists of lists": (draw(5).tolist(), DIGITS.tolist(), {}, (5,), "1 of 10 classes"),
    "float16 numpy": (draw(5).astype(np.float16), ask(), {}, (5,), "vectors of 5"),
    "float16 tensor": (torch.tensor(draw(5)).half(), ask(), {}, (5,), "vectors of 5"),
    "bfloat16 tensor": (torch.tensor(draw(5)).bfloat16(), ask(), {}, (5,), "vectors of 5"),
    "float64 tensor": (torch.tensor(draw(5)), ask(), {}, (5,), "vectors of 5"),
    "tensor with a graph": (torch.ones(5, requires_grad=True) * torch.tensor(draw(5)), ask(), {},
                            (5,), "vectors of 5"),
    "big-endian numpy": (draw(5).astype(">f4"), ask(), {}, (5,), "vectors of 5"),
    "reversed numpy": (draw(5)[::-1], ask(), {}, (5,), "vectors of 5"),
    "whole numbers": (draw_bytes(5).astype(np.int16), ask(), {}, (5,), "vectors of 5"),
    "list of tensors": (list(torch.tensor(draw(5))), ask(), {}, (5,), "vectors of 5"),
    "grey, bytes": (draw_bytes(8, 8), ask(), {}, (1, 8, 8), "read as NHW, uint8 as given"),
    "grey, floats": (draw(8, 8), ask(), {"layout": "NHW"}, (1, 8, 8), "NHW, standardised"),
    "colour, behind": (draw_bytes(8, 8, 3), ask(), {}, (3, 8, 8), "read as NHWC"),
    "colour, in front": (draw_bytes(3, 8, 8), ask(), {}, (3, 8, 8), "read as NCHW"),
    "RGBA": (draw_bytes(8, 8, 4), ask(), {}, (4, 8, 8), "read as NHWC"),
    "not square": (draw_bytes(6, 9, 3), ask(), {}, (3, 6, 9), "read as NHWC"),
    "twelve bands": (draw_bytes(12, 32, 30), ask(), {}, (12, 32, 30), "read as NCHW"),
    "float pictures": (torch.tensor(draw(3, 8, 8)), ask(), {}, (3, 8, 8), "NCHW, standardised"),
    "list of pictures": (list(draw_bytes(8, 9)), ask(), {}, (1, 8, 9), "read as NHW"),
    "sequences": (draw(7, 4), ask(), {}, (7, 4), "sequences of 7 x 4 (read as NLD"),
    "pandas": (make_frame(), pandas.DataFrame(ask()), {}, (9,),
               "5 columns (2 number, 1 yes/no, 2 category) as 9 features"),
    "pandas with holes": (with_holes(make_frame()), ask(), {"impute": "mean"}, (9,), "5 columns"),
    "pandas of numbers only": (pandas.DataFrame(draw(5)), ask(), {}, (5,), "(5 number)"),
    "dict of columns": ({"a": list(draw()), "b": torch.arange(N)}, ask(), {}, (2,), "2 columns"),
    "structured array": (make_frame()[["age", "height"]].to_records(index=False), ask(), {},
                         (2,), "(2 number)"),
    "objects of numpy": (make_frame().to_numpy(), ask(), {}, (9,), "2 category"),
    "one Series": (make_frame()["age"], ask(), {}, (1,), "1 columns (1 number)"),
    "one task, a list": (draw(5), ["a", "b"] * (N // 2), {}, (5,), "1 task: 1 yes/no"),
    "one task, a Series": (draw(5), pandas.Series(DIGITS, name="digit"), {}, (5,), "digit=0"),
    "one task, (n, 1)": (draw(5), DIGITS[:, None], {"tasks": ["digit"]}, (5,), "digit=0"),
    "targets as a tensor": (draw(5), torch.tensor(make_tasks(3)), {"tasks": ["a", "b", "c"]},
                            (5,), "3 tasks: 3 yes/no"),
    "nullable targets": (draw(5), pandas.DataFrame(
        {"a": pandas.array([1, 0, None] * (N // 3), "Int64"),
         "b": pandas.array([True, None, False] * (N // 3), "boolean")}), {}, (5,),
        "missing labels: 40"),
    "-1 for no label": (draw(5), np.tile([-1, 0, 1], N // 3), {"no_label": -1}, (5,), "yes/no"),
    "hundred tasks": (draw(5), make_tasks(100), {}, (5,), "100 tasks: 100 yes/no"),
    "two hundred features": (draw(200), ask(), {}, (200,), "vectors of 200"),
    "thirty rows": (draw(5)[:30], DIGITS[:30] % 3, {}, (5,), "17 train, 7 val, 6 test"),
    "squared error": (draw(5), {"w": draw()}, {"loss": "squared"}, (5,), "1 number (squared)"),
}  # fmt: skip


def check(made: TaskData, shape: tuple[int, ...], n_rows: int) -> None:
    """Three splits of the right form, which a network can take."""
    parts = [getattr(made, split) for split in SPLITS]
    assert sum(map(len, parts)) == n_rows
    assert made.feature_shape == shape
    for part in parts:
        assert part.features.dtype in (torch.uint8, torch.float32)
        assert not part.features.is_floating_point() or part.features.isfinite().all()


@pytest.mark.parametrize("way", WAYS)
def test_a_way_works(way: str, capsys: pytest.CaptureFixture) -> None:
    """It is understood as it was meant, and says so in one line of ASCII."""
    features, targets, options, shape, words = WAYS[way]
    made = data.from_arrays(features, targets, **options)
    check(made, shape, len(features) if not isinstance(features, dict) else N)
    said = capsys.readouterr().out
    assert words in said
    assert said.count("\n") == 1
    assert said.isascii()


def test_a_mapped_file_stays_mapped(tmp_path: Path) -> None:
    """Its pages are read when a batch is drawn: no split has memory of its own, channels forward
    or not."""
    for shape in ((8, 8, 3), (3, 8, 8), (8, 8)):
        np.save(tmp_path / "pictures.npy", draw_bytes(*shape))
        pictures = np.load(tmp_path / "pictures.npy", mmap_mode="r")
        made = data.from_arrays(pictures, {"digit": DIGITS})
        whole = torch.from_numpy(np.load(tmp_path / "pictures.npy", mmap_mode="c"))
        first = np.asarray(pictures).__array_interface__["data"][0]
        for split in SPLITS:
            start = getattr(made, split).features.data_ptr()
            assert first <= start < first + pictures.nbytes
        assert made.reader is not None
        assert torch.equal(made.reader.read(whole)[:36], made.train.features)


def test_a_mapped_file_is_shuffled_where_it_is_said(tmp_path: Path) -> None:
    """Fractions are dealt by the seed as always, which copies."""
    np.save(tmp_path / "pictures.npy", draw_bytes(8, 8))
    pictures = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    made = data.from_arrays(pictures, {"d": DIGITS}, splits=(0.6, 0.2, 0.2))
    plain = data.from_arrays(draw_bytes(8, 8), {"d": DIGITS})
    assert torch.equal(made.train.features, plain.train.features)


class Pairs(Dataset):
    """Items (picture, dict of answers), as people write them."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, object]]:
        return draw_bytes(8, 9, 3)[index], {"digit": int(DIGITS[index]), "ink": index / 7}


def test_a_dataset_of_dicts() -> None:
    """Each item is read once; answers keep their names."""
    made = data.from_dataset(Pairs(), name="pairs")
    check(made, (3, 8, 9), N)
    assert [task.name for task in made.tasks] == ["digit", "ink"]
    assert made.tasks[0].classes == tuple(range(10))
    assert made.tasks[1].is_number


def test_a_dataset_of_tensors() -> None:
    """One label, or one a task."""
    features = torch.tensor(draw(5)).float()
    one = data.from_dataset(TensorDataset(features, torch.tensor(DIGITS)))
    assert one.tasks[0].n_outputs == 10
    two = data.from_dataset(TensorDataset(features, torch.tensor(make_tasks(2))), tasks=["a", "b"])
    assert two.task_names == ["a", "b"]
    check(two, (5,), N)


def test_three_datasets_are_three_splits() -> None:
    """As torchvision has them: train=True and train=False."""
    whole = TensorDataset(torch.tensor(draw(5)).float(), torch.tensor(DIGITS))
    parts = [torch.utils.data.Subset(whole, range(k, k + 20)) for k in (0, 20, 40)]
    made = data.from_dataset(dict(zip(SPLITS, parts, strict=True)))
    again = data.from_dataset(ConcatDataset(parts), splits=[range(20), range(20, 40), range(40, N)])
    assert [len(getattr(made, split)) for split in SPLITS] == [20, 20, 20]
    assert torch.equal(made.val.features, again.val.features)


def test_what_came_in_trains_and_comes_back() -> None:
    """A table with categories and missing values, classes and a number, by DMTG."""
    frame, answers = with_holes(make_frame()), pandas.DataFrame(ask())
    answers.loc[::7, "weight"] = np.nan
    made = data.from_arrays(frame, answers, impute="mean")
    encoder = nn.Sequential(nn.Linear(made.feature_shape[0], 8), nn.ReLU())
    result = methods.dmtg(made, 2, TrainConfig(steps=4, pretrain=2), encoder=encoder)
    assert set(result.task_errors) == set(answers)
    assert all(np.isfinite(list(result.task_errors.values())))


def test_pandas_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays and dicts work where it is not installed."""
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    made = data.from_arrays({"a": draw().tolist(), "b": ["x", "y"] * (N // 2)}, ask())
    assert made.feature_shape == (3,)


@pytest.mark.parametrize("world", ["float64", "inference", "autocast", "device"])
def test_the_callers_world_changes_nothing(world: str) -> None:
    """The same numbers whatever torch's defaults are."""
    plain = data.from_arrays(make_frame(), ask())
    before = torch.get_default_dtype()
    try:
        if world == "float64":
            torch.set_default_dtype(torch.float64)
        contexts = {
            "inference": torch.inference_mode(),
            "autocast": torch.autocast("cpu"),
            "device": torch.device("meta"),
        }
        with contexts.get(world, torch.enable_grad()):
            other = data.from_arrays(make_frame(), ask())
            assert other.reader is not None
            again = other.reader.read(make_frame())
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(plain.train.features, other.train.features)
    assert plain.train.targets.keys() == other.train.targets.keys()
    assert again.dtype == torch.float32
    assert other.fingerprint() == plain.fingerprint()


def test_a_saved_result_reads_new_rows(tmp_path: Path) -> None:
    """Without the data, from raw rows, in the words and the unit of the targets."""
    made = data.from_arrays(draw_bytes(8, 8), ask())
    result = methods.naive(made, 1, TrainConfig(encoder="toy", steps=3, capacity=4))
    again = load_result(result.save(tmp_path / "run"))
    assert again.reader == made.reader
    told = again.predict(draw_bytes(8, 8)[:5])
    pandas.testing.assert_frame_equal(told, result.predict(draw_bytes(8, 8)[:5]))
    assert set(told["ill"]) <= {"yes", "no"}
    assert set(told["grade"]) <= {1, 2, 3, 4}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:.*constant")  # two steps teach nothing
def test_a_way_trains_by_its_recipe(way: str) -> None:
    """No config, no encoder is said; answers come back for raw rows."""
    features, targets, options, _, _ = WAYS[way]
    made = data.from_arrays(features, targets, **options)
    config = replace(choose_recipe(made, 2), steps=2, pretrain=1, spare=Spare())
    result = methods.dmtg(made, 2, config)
    told = result.predict(features)
    assert list(told) == made.task_names
    assert len(told) == sum(len(getattr(made, split)) for split in SPLITS)
