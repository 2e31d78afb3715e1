"""Encoders for tables, sequences and pictures of any size: what goes in, what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from dmtg_lite import Task, TaskData, TrainConfig, methods
from dmtg_lite.data import Split
from dmtg_lite.encoders import ENCODERS, build_encoder, mlp, register

SHAPES = {
    "convnet": [(1, 1, 1), (1, 8, 8), (3, 5, 7), (4, 33, 64), (2, 3, 200), (3, 100, 100)],
    "attention_pool": [(1, 1), (20, 3), (7, 65)],
    "mlp": [(1,), (103,), (20, 3), (3, 9, 9)],
}
CONFIG = TrainConfig(steps=3, pretrain=2, batch_size=8)


def make_rows(shape: tuple[int, ...], n: int = 32) -> TaskData:
    rng = torch.Generator().manual_seed(0)

    def split() -> Split:
        features = torch.randn(n, *shape, generator=rng)
        label = (features.flatten(1).sum(1) > 0).long()
        return Split(features, {"a": label, "b": 1 - label, "c": features.flatten(1)[:, 0]})

    tasks = (Task("a"), Task("b"), Task("c", 1, "squared", "rms_error"))
    return TaskData("rows", tasks, split(), split(), split())


@pytest.mark.parametrize(
    ("name", "shape"), [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]
)
@pytest.mark.parametrize("capacity", [1, 5])
def test_every_shape_ends_in_the_bottleneck(name: str, shape: tuple, capacity: int) -> None:
    """Whatever the sizes and channels; every weight learns, and stages can be shared."""
    torch.manual_seed(0)
    encoder = build_encoder(name, shape, capacity=capacity)
    rows = torch.randn(6, *shape)
    features = nn.Sequential(*encoder.stages)(rows)
    assert features.shape == (6, capacity) == (6, encoder.out_features)
    features.square().sum().backward()
    for stage in encoder.stages[-1].parameters():
        assert stage.grad is not None
    assert len(encoder.stages) >= 3


@pytest.mark.parametrize("name", SHAPES)
def test_a_method_trains_with_it_and_shares_its_first_stage(name: str) -> None:
    rows = make_rows(SHAPES[name][1])
    config = TrainConfig(steps=3, pretrain=2, batch_size=8, encoder=name, shared=1)
    result = methods.dmtg(rows, 2, config)
    assert len(result.network.stem) == 1
    assert set(result.task_losses) == {"a", "b", "c"}


def test_an_encoder_for_another_kind_of_rows_is_refused() -> None:
    """By name, with the ones that fit."""
    for name, shape in [("resnet", (5,)), ("convnet", (5, 4)), ("attention_pool", (3, 8, 8))]:
        with pytest.raises(ValueError, match=f"`encoder` '{name}' is for .*'mlp' is for tables"):
            build_encoder(name, shape, capacity=1)


def test_the_sizes_of_the_perceptron_are_options() -> None:
    """Depth 0 is linear; no batch norm, other widths."""
    assert [type(stage) for stage in mlp((5,), capacity=2, depth=0).stages] == [nn.Linear]
    plain = mlp((5,), capacity=2, width=7, depth=3, dropout=0.1, batch_norm=False)
    kinds = [type(module) for stage in plain.stages for module in stage.modules()]
    assert len(plain.stages) == 4
    assert nn.BatchNorm1d not in kinds
    assert plain.stages[2][0].weight.shape == (7, 7)


def test_batches_of_one_row_are_refused_where_batch_norm_is() -> None:
    """Before training; without batch norm they are fine."""
    rows = make_rows((5,))
    one = TrainConfig(steps=2, batch_size=1, encoder="mlp")
    with pytest.raises(ValueError, match=r"cannot learn from batches of one row.*batch_size"):
        methods.naive(rows, 1, one)
    ENCODERS.pop("plain", None)
    register("plain", lambda feature_shape: mlp(feature_shape, batch_norm=False))
    try:
        methods.naive(rows, 1, TrainConfig(steps=2, batch_size=1, encoder="plain"))
    finally:
        del ENCODERS["plain"]


def test_the_page_on_own_data_shows_encoders_that_run() -> None:
    """A wider perceptron and a list of stages, as they stand."""
    page = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    code = next(block for block in blocks if "def wide" in block)
    before = dict(ENCODERS)
    exec(compile(code, "own_data.md", "exec"), {})
    ENCODERS.clear()
    ENCODERS.update(before)
