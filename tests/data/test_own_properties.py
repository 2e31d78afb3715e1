"""What holds of own data whatever their shapes, types and values are."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutators import mutate_json
from own_rows import N, ask, draw, make_frame

from dmtg_lite import data
from dmtg_lite.core.data import TaskData
from dmtg_lite.core.reading import Reader
from dmtg_lite.data.own import features as own_features
from dmtg_lite.data.own.kinds import is_class_like
from dmtg_lite.data.own.splits import SPLITS, split_rows
from dmtg_lite.schema import check_value

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CHANCE = ("is the target 'y'", "same values in every row")  # what drawn features may be
TYPES = ["float16", "float32", "float64", ">f8", "int8", "int32", "uint8", "uint16", "bool"]


def join(made: TaskData, what: str | None = None) -> torch.Tensor:
    """All three splits, one after another."""
    parts = [getattr(made, split) for split in SPLITS]
    return torch.cat([one.features if what is None else one.targets[what] for one in parts])


def deal(n_rows: int) -> list[range]:
    """Rows of three splits, in order, so that what went in can be found again."""
    return [range(n_rows - 4), range(n_rows - 4, n_rows - 2), range(n_rows - 2, n_rows)]


@st.composite
def given_arrays(draw_: st.DrawFn) -> tuple[np.ndarray, str]:
    """Numbers of any type and shape with the layout they are meant in, 12 to 20 rows."""
    layout = draw_(st.sampled_from(["ND", "NLD", "NHW", "NHWC", "NCHW"]))
    shape = draw_(st.tuples(*[st.integers(1, 7)] * (len(layout) - 1)))
    if shape[-1] in (1, 3, 4) and layout == "NCHW":
        shape = (*shape[:-1], 5)  # where channels would be behind
    dtype = np.dtype(draw_(st.sampled_from(TYPES)))
    limits = {"min_value": -100, "max_value": 100} if dtype.kind == "f" else {}
    values = arrays.from_dtype(dtype, allow_nan=False, allow_infinity=False, **limits)
    rows = draw_(st.integers(12, 20))
    return draw_(arrays.arrays(dtype, (rows, *shape), elements=values)), layout


@FEW
@given(given_arrays())
def test_rows_read_again_are_the_rows_of_the_splits(case: tuple[np.ndarray, Any]) -> None:
    """Bit for bit, all at once or one by one, also by a reader that was on disk."""
    features, layout = case
    answers = np.arange(len(features)) % 2
    try:
        made = data.from_arrays(features, {"y": answers}, layout=layout, splits=deal(len(features)))
    except ValueError as error:  # a feature may be the target by chance
        if not any(words in str(error) for words in CHANCE):
            raise
        return
    assert made.reader is not None
    plain = json.loads(json.dumps(asdict(made.reader)))
    check_value(plain, Reader)
    again = Reader.from_json(plain)
    assert again == made.reader
    whole = again.read(features)
    assert torch.equal(whole, join(made))
    assert torch.equal(torch.cat([again.read(features[k : k + 1]) for k in range(5)]), whole[:5])
    if whole.is_floating_point():
        train = made.train.features.double()
        axes = [
            axis for axis in range(train.ndim) if axis != (1 if train.ndim == 4 else train.ndim - 1)
        ]
        assert train.mean(axes).abs().max() < 1e-5
        spread = train.std(axes, correction=0)
        assert ((spread < 1e-5) | ((spread - 1).abs() < 1e-4)).all()


@st.composite
def given_columns(draw_: st.DrawFn) -> dict[str, list[Any]]:
    """A table of up to four columns, in Python's own values, with holes."""
    rows = draw_(st.integers(12, 20))
    kinds = [
        st.floats(-1e6, 1e6, width=32),
        st.integers(-1000, 1000),
        st.booleans(),
        st.sampled_from(["a", "b", "ä", "x y"]),
    ]
    columns = {}
    for k, kind in enumerate(draw_(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))):
        values = draw_(st.lists(st.none() | kind, min_size=rows, max_size=rows))
        first = draw_(kind)  # a value in the training split
        columns[f"c{k}"] = [first, *values[1:]]
    return columns


@FEW
@given(given_columns())
def test_a_table_is_the_same_from_pandas_dict_and_file(columns: dict[str, list[Any]]) -> None:
    """In any order of columns, with others beside them; holes become the mean."""
    n_rows = len(next(iter(columns.values())))
    answers = {"y": [k % 2 for k in range(n_rows)]}
    try:
        made = data.from_arrays(columns, answers, splits=deal(n_rows), impute="mean")
    except ValueError as error:
        if not any(words in str(error) for words in CHANCE):
            raise
        return
    reader = made.reader
    assert reader is not None
    frame = pandas.DataFrame({"other": [0] * n_rows, **dict(reversed(columns.items()))})
    assert torch.equal(reader.read(frame), join(made))
    assert torch.equal(reader.read(frame.convert_dtypes()), join(made))
    assert made.feature_shape == (len(reader.feature_names),)
    assert join(made).isfinite().all()


CLASSES = st.sampled_from([
    ["no", "yes"], ["a", "b", "ä"], [0, 1], [1, 2, 3], [-3, 7], [True, False], [0.0, 1.0]
])  # fmt: skip


@FEW
@given(CLASSES, st.integers(0, 3), st.booleans())
def test_classes_come_back_as_they_were_called(classes: list[Any], seed: int, holes: bool) -> None:
    """`task.classes[number]` is what was handed over; a hole is -1."""
    rng = np.random.default_rng(seed)
    given_: list[Any] = [classes[k] for k in rng.permutation(np.arange(N) % len(classes))]
    if holes:
        given_ = [None if k % 7 == 0 else value for k, value in enumerate(given_)]
    made = data.from_arrays(draw(3), {"y": given_}, splits=deal(N))
    task = made.tasks[0]
    back = [None if k < 0 else task.classes[k] for k in join(made, "y").tolist()]
    assert back == given_
    assert all(type(one) in (str, int, bool) for one in task.classes)


@FEW
@given(
    arrays.arrays(np.float64, N, elements=st.floats(-1e4, 1e4)), st.sampled_from(["l1", "squared"])
)
def test_numbers_stay_in_their_unit(values: np.ndarray, loss: Any) -> None:
    """Center and spread are those of the training rows."""
    values[::9] = np.nan
    values[1:4] = (0.25, 1.75, -3.5)
    made = data.from_arrays(draw(3), {"y": values}, loss=loss, splits=deal(N))
    task, known = made.tasks[0], values[: N - 4][~np.isnan(values[: N - 4])]
    np.testing.assert_array_equal(join(made, "y").numpy(), values.astype(np.float32))
    assert (task.loss, task.n_outputs) == (loss, 1)
    assert (task.center, task.spread) == pytest.approx((known.mean(), known.std()))


@FEW
@given(
    st.integers(3, 60),
    st.lists(st.integers(1, 12), max_size=3),
    st.none() | st.integers(3, 10),
    st.integers(0, 5),
)
def test_a_deal_is_fair(n_rows: int, n_classes: list[int], n_groups: int | None, seed: int) -> None:
    """Every row once, groups whole, every class in train, and the same again from the seed."""
    rng = np.random.default_rng(seed)
    labels = [rng.integers(-1, k, n_rows) for k in n_classes]
    groups = None if n_groups is None else np.arange(n_rows) % n_groups
    try:
        rows = split_rows(None, n_rows, labels, groups, seed)
    except ValueError as error:
        if "has no rows" not in str(error):
            raise
        return
    again = split_rows(None, n_rows, labels, groups, seed)
    dealt = {name: np.arange(n_rows)[rows[name]] for name in SPLITS}
    assert sorted(np.concatenate(list(dealt.values())).tolist()) == list(range(n_rows))
    for name in SPLITS:
        np.testing.assert_array_equal(dealt[name], np.arange(n_rows)[again[name]])
    for own in labels:
        assert set(own) - {-1} <= set(own[dealt["train"]])
    if groups is not None:
        owners = [set(groups[dealt[name]]) for name in SPLITS]
        assert sum(map(len, owners)) == len(set(groups))


def test_a_rare_class_is_in_every_split() -> None:
    """Five rows of 500: three train, one validates, one tests; at every seed, and sizes hold."""
    labels = np.zeros(500, int)
    labels[::100] = 1
    for seed in range(8):
        rows = split_rows(None, 500, [labels], None, seed)
        assert [int(labels[rows[name]].sum()) for name in SPLITS] == [3, 1, 1]
        assert [len(labels[rows[name]]) for name in SPLITS] == [300, 100, 100]


def test_many_rare_classes_leave_the_sizes_as_they_are() -> None:
    """Twenty classes of three rows: ties go to the split that lacks rows."""
    rows = split_rows(None, 60, [np.arange(60) % 20], None, 0)
    assert [len(np.arange(60)[rows[name]]) for name in SPLITS] == [40, 10, 10]


def test_another_seed_deals_otherwise() -> None:
    """The same rows in other splits."""
    first, other = (data.from_arrays(draw(3), ask(), seed=seed) for seed in (0, 1))
    assert not torch.equal(first.test.features, other.test.features)


def test_a_large_array_is_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same means, and the row's own number in a message."""
    features = draw(3, 6, 8)
    whole = data.from_arrays(features, ask()).reader
    monkeypatch.setattr(own_features, "_AT_ONCE", 1000)
    parted = data.from_arrays(features, ask()).reader
    assert whole is not None
    assert parted is not None
    assert parted.center == pytest.approx(whole.center)
    assert parted.spread == pytest.approx(whole.spread)
    features[50, 1, 1, 1] = np.nan
    with pytest.raises(ValueError, match=r"that are nan \(first in row 50\)"):
        data.from_arrays(features, ask())


def test_a_table_with_one_other_number_is_another_table() -> None:
    """Finished runs in a folder are of the same data only if all of them are."""
    features = draw(3)
    before = data.from_arrays(features, ask(), splits=deal(N)).fingerprint()
    features[50, 1] += 0.01
    assert data.from_arrays(features, ask(), splits=deal(N)).fingerprint() != before


@pytest.mark.parametrize(
    ("values", "are_classes"),
    [
        ([0.0, 1.0] * 5, True),
        ([0.0, 0.5] * 5, False),
        ([1, 2, 3, 4, 5] * 5, True),
        (range(20), False),  # one row each
        (list(range(20)) * 5, True),
        (list(range(21)) * 50, False),  # an age, a count
    ],
)
def test_the_rule_for_numbers(values: Any, are_classes: bool) -> None:
    """Whole, at most 20 of them, five rows each: classes."""
    assert is_class_like(np.array(values, float)) is are_classes


def test_what_is_said_goes_before_the_rule() -> None:
    """By a word, or by a task."""
    targets = {"grade": ask()["grade"], "age": np.arange(N) // 2, "ill": ask()["ill"]}
    made = data.from_arrays(draw(3), targets, tasks={"grade": "number", "age": "classes"})
    assert [task.is_number for task in made.tasks] == [True, False, False]
    assert made.tasks[1].classes == tuple(range(30))


def test_classes_of_pandas_keep_their_order() -> None:
    """Small before large, whatever the alphabet says; those that do not occur are none."""
    sizes = pandas.Categorical(["S", "L", "M"] * 20, ["XS", "S", "M", "L"], ordered=True)
    for targets in ({"size": sizes}, pandas.DataFrame({"size": sizes}), pandas.Series(sizes)):
        assert data.from_arrays(draw(3), targets).tasks[0].classes == ("S", "M", "L")


def test_columns_can_be_splits_and_groups() -> None:
    """They are no features then."""
    frame = make_frame()
    frame["fold"] = np.repeat(["train", "valid", "test"], N // 3)
    frame["patient"] = np.arange(N) // 4
    made = data.from_arrays(frame, ask(), splits="fold", groups="patient")
    assert made.feature_shape == (9,)
    assert [len(getattr(made, split)) for split in SPLITS] == [20, 20, 20]
    dealt = data.from_arrays(frame.drop(columns="fold"), ask(), groups="patient")
    assert [len(getattr(dealt, split)) for split in SPLITS] == [36, 12, 12]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="age"), "lacks the columns 'age'; it has 'height'"),
        (lambda f: f.rename(columns={"age": "years"}), "lacks the columns 'age'"),
        (lambda f: f.assign(colour="violet"), "'violet', which the training split does not have"),
        (lambda f: f.assign(age="old"), "column 'age' must hold numbers, got text: 'old'"),
        (lambda f: f.assign(smoker=2), "column 'smoker' must hold yes/no, got 2"),
        (lambda f: f.assign(age=None), "column 'age' misses 60 of 60 values"),
        (lambda f: f.assign(age=np.inf), "infinite"),
        (lambda f: f.to_numpy()[:, :3], "must have 5 columns"),
    ],
)
def test_a_table_of_another_form_is_not_read(change: Any, words: str) -> None:
    """The message names the column."""
    reader = data.from_arrays(make_frame(), ask()).reader
    assert reader is not None
    with pytest.raises(ValueError, match=words) as error:
        reader.read(change(make_frame()))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("features", "raw", "words"),
    [
        (draw(5), draw(6), r"must have shape \(n, 5\), got \(60, 6\)"),
        (draw(5), draw(5)[0], r"A single row is features\[None\]"),
        (draw(8, 9), draw(8, 8), r"\(n, 8, 9\)"),
        (np.zeros((N, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3)), "must be uint8, 0 to 255"),
        (draw(8, 8, 3), np.zeros((2, 8, 8, 3), np.uint8), "another type than uint8"),
        (draw(5), draw(5) * np.nan, "nan"),
        (draw(5), [["a"] * 5], "must hold numbers"),
    ],
)
def test_an_array_of_another_form_is_not_read(features: Any, raw: Any, words: str) -> None:
    """Shapes, and brightness against floats."""
    reader = data.from_arrays(features, ask()).reader
    assert reader is not None
    with pytest.raises(ValueError, match=words):
        reader.read(raw)


def test_an_unknown_category_is_the_mean_where_that_is_said() -> None:
    """As a missing value is: the shares of the categories over the training split."""
    reader = data.from_arrays(make_frame(), ask(), impute="mean").reader
    assert reader is not None
    read = reader.read(make_frame().assign(colour="violet"))
    names = reader.feature_names
    shares = read[:, [names.index(f"colour={one}") for one in ("blue", "green", "red")]]
    assert torch.allclose(shares.sum(1), torch.ones(N))
    assert (shares == shares[0]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"layout": "table"},
        {"shape": [5, 5]},
        {"center": [0.0]},
        {"spread": [0.0] * 5},
        {"columns": [{"name": "a", "kind": "category"}]},
        {"columns": [{"name": "a", "kind": "number", "spread": 0.0}]},
        {"columns": [{"name": "a", "kind": "number", "fill": [0.0, 1.0]}]},
    ],
)
def test_a_reader_whose_parts_do_not_fit_is_refused(change: dict[str, Any]) -> None:
    """What a schema cannot see."""
    reader = data.from_arrays(draw(5), ask()).reader
    assert reader is not None
    with pytest.raises(ValueError, match=r"layout|center|spread|categories|fill"):
        Reader.from_json(asdict(reader) | change)


@pytest.mark.parametrize("kind", ["table", "vectors", "pictures"])
def test_a_reader_that_was_damaged_on_disk_is_refused_or_reads(kind: str) -> None:
    """Retyped, dropped, renamed, nested: one line, or numbers of the right number of rows."""
    raw = {"table": make_frame(), "vectors": draw(5), "pictures": draw(3, 4, 5)}[kind]
    reader = data.from_arrays(raw, ask()).reader
    assert reader is not None
    refused = 0
    for seed in range(150):
        plain = mutate_json(asdict(reader), seed)
        try:
            check_value(plain, Reader)
            read = Reader.from_json(plain).read(raw)
        except ValueError as error:
            check_line(error)
            refused += 1
        else:
            assert len(read) == N, seed
            assert read.dtype in (torch.float32, torch.uint8), seed
    assert refused > 50


def check_line(error: Exception) -> None:
    assert "\n" not in str(error)
