"""What `result.predict` promises: the reader's words and units, the same numbers wherever it runs,
and a clear word on features of another form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mutators import mutate_json
from small_runs import DENSE_CONFIG, PICTURES
from torch import nn

from dmtg_lite import Task, TaskData, TrainConfig, data, load_result, methods
from dmtg_lite.data import Split
from dmtg_lite.runs.result import MethodResult

TASKS = (
    Task("bright", classes=("no", "yes")),
    Task("level", 3, classes=(10, 20, 30)),
    Task("parts", 4),
    Task("price", 1, "l1", "mae", center=5000.0, spread=900.0),
    Task("age", 1, "squared", "rms_error", center=40.0, spread=12.0),
)
CONFIG = TrainConfig(
    encoder="toy", steps=6, pretrain=4, batch_size=16, lr=1e-2, lr_assignment=0.1, capacity=4
)
NEW_PROCESS = """
import sys, numpy
from dmtg_lite import load_result
raw, result = numpy.load(sys.argv[2]), load_result(sys.argv[1])
for path, probabilities in zip(sys.argv[3:], (False, True)):
    told = result.predict(raw, probabilities=probabilities)
    numpy.savez(path, *(numpy.array(told[name].tolist()) for name in told))
"""


def make_split(n: int, seed: int) -> Split:
    """Small pictures, and what can be asked of their mean brightness."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    mean = pictures.mean((1, 2, 3))
    targets = {
        "bright": mean > 127,
        "level": np.digitize(mean, [122, 132]),
        "parts": (mean * 10).astype(int) % 4,
        "price": 40 * mean,
        "age": np.where(mean > 120, 60 - mean / 10, np.nan),
    }
    return Split(pictures, targets)


DATA = TaskData("mine", TASKS, make_split(64, 0), make_split(32, 1), make_split(40, 2))
RAW = make_split(700, 3).features.numpy()  # more than a batch


@pytest.fixture(scope="module")
def result() -> MethodResult:
    return methods.dmtg(DATA, 2, CONFIG)


def test_answers_are_in_the_words_and_units_of_the_data(result: MethodResult) -> None:
    """A column a task: names where they are known, class numbers where not, numbers in units."""
    told = result.predict(RAW)
    assert list(told.columns) == [task.name for task in TASKS]
    assert told.index.tolist() == list(range(700))
    assert set(told["bright"]) <= {"no", "yes"}
    assert set(told["level"]) <= {10, 20, 30}
    assert set(told["parts"]) <= set(range(4))
    with torch.no_grad():
        outputs = result.network(torch.from_numpy(RAW[:512]))
    assert told["price"][:512].tolist() == outputs["price"][:, 0].tolist()
    assert 1000 < told["price"].mean() < 9000
    wanted = [(10, 20, 30)[k] for k in outputs["level"].argmax(1)]
    assert told["level"][:512].tolist() == wanted


def test_predictions_on_test_are_those_that_were_scored(result: MethodResult) -> None:
    """By hand from the table: percent of rows, and mean absolute error in the unit."""
    told = result.predict(DATA.test.features)
    truth = DATA.test.targets
    wrong = (told["bright"].to_numpy() == "yes") != (truth["bright"].numpy() == 1)
    assert 100 * wrong.mean() == pytest.approx(result.task_errors["bright"])
    far = np.abs(told["price"].to_numpy() - truth["price"].numpy())
    assert far.mean() == pytest.approx(result.task_errors["price"], rel=1e-5)


def test_probabilities_by_class(result: MethodResult) -> None:
    """Two levels of columns, task and class; rows sum to 1; numbers have none."""
    told = result.predict(RAW, probabilities=True)
    assert list(told.columns) == [
        ("bright", "no"), ("bright", "yes"), ("level", 10), ("level", 20), ("level", 30),
        ("parts", 0), ("parts", 1), ("parts", 2), ("parts", 3),
    ]  # fmt: skip
    for task in ("bright", "level", "parts"):
        np.testing.assert_allclose(told[task].sum(axis=1), 1, atol=1e-6)
        best = told[task].idxmax(axis=1).tolist()
        assert best == result.predict(RAW)[task].tolist()
    numbers = methods.naive(DATA.select(["price", "age"]), 1, CONFIG)
    with pytest.raises(ValueError, match="for tasks of classes, and here all are numbers"):
        numbers.predict(RAW, probabilities=True)


def make_table(n: int, seed: int) -> pd.DataFrame:
    """Customers as a spreadsheet has them: a number with holes, yes/no and a text."""
    rng = np.random.default_rng(seed)
    age = rng.normal(45, 12, n)
    age[::11] = np.nan
    city = rng.choice(["Rome", "Oslo", "Bern"], n)
    index = [f"customer {k}" for k in range(n)]
    return pd.DataFrame({"age": age, "city": city, "member": rng.random(n) > 0.5}, index=index)


@pytest.fixture(scope="module")
def customers() -> MethodResult:
    table = make_table(300, 0)
    price = 1200.0 + 10 * table["age"].fillna(45) + 150 * (table["city"] == "Oslo")
    buys = table["member"].map({True: "buys", False: "leaves"})
    buys.iloc[::20] = "leaves"  # or the column would be the target
    mine = data.from_arrays(table, {"buys": buys, "price": price}, impute="mean", name="customers")
    width = mine.feature_shape[0]
    encoder = nn.Sequential(nn.Linear(width, 8), nn.ReLU())
    return methods.naive(mine, 1, replace(CONFIG, steps=150), encoder=encoder)


def test_a_table_is_read_as_the_one_of_the_training(
    customers: MethodResult, tmp_path: Path
) -> None:
    """Saved and loaded: new rows under their index, columns in any order, more of them too."""
    rows = make_table(40, 1)
    told = customers.predict(rows)
    assert told.index.tolist() == rows.index.tolist()
    assert (told["buys"] == rows["member"].map({True: "buys", False: "leaves"})).mean() > 0.9
    assert abs(told["price"].mean() - 1700) < 200
    back = load_result(customers.save(tmp_path))
    assert back.reader == customers.reader
    again = back.predict(rows.assign(more=1)[["more", "city", "age", "member"]])
    pd.testing.assert_frame_equal(told, again, check_exact=True)
    one = back.predict(rows.iloc[[7]])
    np.testing.assert_allclose(one["price"], told["price"].iloc[[7]], rtol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows.drop(columns="city"), "`features` lacks the columns 'city'"),
        (lambda rows: rows.assign(age="old"), "column 'age' must hold numbers, got text"),
        (lambda rows: rows.assign(age=np.inf), "column 'age' holds 40 values that are infinite"),
        (lambda rows: rows.to_numpy()[:, :2], "`features`"),
        (lambda rows: rows.iloc[:0], "`features` is empty"),
        (lambda rows: None, "`features`"),
    ],
)
def test_a_table_of_another_form_is_refused(
    spoil: Callable, words: str, customers: MethodResult
) -> None:
    with pytest.raises(ValueError, match=words) as error:
        customers.predict(spoil(make_table(40, 1)))
    assert "\n" not in str(error.value)


def test_a_damaged_reader_is_refused_or_harmless(customers: MethodResult, tmp_path: Path) -> None:
    """A hundred times another value of it in ``result.json``: one line, or a table of answers."""
    folder = customers.save(tmp_path / "customers")
    path, refused = folder / "result.json", []
    numbers = json.loads(path.read_text())
    for seed in range(100):
        damaged = numbers | {"reader": mutate_json(numbers["reader"], seed)}
        path.write_text(json.dumps(damaged))
        try:
            told = load_result(folder).predict(make_table(9, 1))
        except ValueError as error:
            refused.append(str(error))
        else:
            assert told.shape == (9, 2)
    assert len(refused) > 50
    assert not [words for words in refused if "\n" in words]


def test_the_world_around_does_not_matter(result: MethodResult) -> None:
    """Training mode, default dtype, autocast, inference mode: the same numbers."""
    told = result.predict(RAW)
    result.network.train()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            again = result.predict(RAW)
    finally:
        torch.set_default_dtype(torch.float32)
    pd.testing.assert_frame_equal(told, again, check_exact=True)
    assert not result.network.training


def test_another_process_without_the_data_predicts_the_same(
    result: MethodResult, tmp_path: Path
) -> None:
    """Saved, loaded where nothing but the folder and raw rows are: equal bit for bit."""
    folder = result.save(tmp_path / "mine")
    np.save(tmp_path / "raw.npy", RAW)
    told = [str(tmp_path / name) for name in ("told.npz", "shares.npz")]
    command = [sys.executable, "-c", NEW_PROCESS, str(folder), str(tmp_path / "raw.npy"), *told]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], env=dict(os.environ))
    for path, probabilities in zip(told, (False, True), strict=True):
        here = result.predict(RAW, probabilities=probabilities)
        with np.load(path) as there:
            assert len(there.files) == len(here.columns)
            for file, name in zip(there.files, here, strict=True):
                np.testing.assert_array_equal(there[file], np.array(here[name].tolist()))
    assert load_result(folder).tasks == TASKS


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (RAW[:, :, :7], r"rows of shape \(1, 8, 8\), as in the training on 'mine', got 700 of "),
        (RAW[0], "`features` must be pictures, uint8"),
        (RAW[:0], "`features` is empty"),
        (RAW.astype(np.int64), "`features` must be pictures, uint8"),
        ([["a"]], "`features` must hold numbers, got .a. in"),
        (None, "`features` must be"),
    ],
)
def test_features_of_another_form_are_refused(
    features: object, words: str, result: MethodResult
) -> None:
    with pytest.raises(ValueError, match=words) as error:
        result.predict(features)
    assert "\n" not in str(error.value)


def test_pictures_are_not_put_into_a_table() -> None:
    result = methods.naive(PICTURES, 1, replace(DENSE_CONFIG, steps=1))
    with pytest.raises(ValueError, match=r"'depth' predicts a picture .*`result\.network"):
        result.predict(PICTURES.test.features)
