"""What is doubtful is refused, in one line that says what to do; nothing is guessed.

One row a refusal; ``docs/own_data.md`` lists the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from own_rows import N, ask, draw, draw_bytes, make_frame
from torch.utils.data import TensorDataset

from dmtg_lite import Task, data
from dmtg_lite.data.own.from_arrays import Options

FRAME = make_frame()
IDS = [f"row {k}" for k in range(N)]
HALF = np.repeat([0, 1], N // 2)
PLACES = np.repeat(["train", "val", "test"], N // 3)


def put(values: Any, *places: tuple[int, Any]) -> Any:
    """The same array with other values in some rows."""
    values = np.array(values)
    for row, value in places:
        values[row] = value
    return values


# features, targets, options, what the message must say
REFUSED: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    # ---- features
    "nan in an array": (put(draw(5), (3, np.nan)), ask(), {},
                        r"5 values that are nan \(first in row 3\): say impute=\"mean\""),
    "nan in a table": ({"a": put(draw(), (40, np.nan))}, ask(), {"splits": PLACES},
                       r"misses 1 of 60 values \(first in row 40\)\. Say impute=\"mean\""),
    "infinite": (put(draw(5), (3, np.inf)), ask(), {}, "that are infinite"),
    "infinite in a table": ({"a": put(draw(), (7, -np.inf))}, ask(), {}, "that are infinite"),
    "complex": (draw(5) * 1j, ask(), {}, "complex numbers: pass real ones"),
    "complex tensor": (torch.tensor(draw(5) * 1j), ask(), {}, "complex numbers: pass real ones"),
    "dates": ({"day": np.arange(N).astype("M8[D]")}, ask(), {}, "dates: pass numbers instead"),
    "dates of pandas": (pandas.DataFrame({"d": pandas.date_range("2020", periods=N)}), ask(), {},
                        "dates: pass numbers instead"),
    "bytes as text": ({"a": np.array([b"x", b"y"] * (N // 2))}, ask(), {}, "bytes: decode them"),
    "texts": ([f"a sentence {k}" for k in range(N)], ask(), {}, "texts embedded"),
    "objects": ({"a": [object()] * N}, ask(), {}, "it holds object"),
    "numbers and text": ({"a": [1, "?"] * (N // 2)}, ask(), {}, "pandas.to_numeric"),
    "numbers as text": (pandas.DataFrame({"a": [str(k) for k in range(N)]}), ask(), {},
                        "text where numbers are due"),
    "decimal commas": (pandas.DataFrame({"a": ["1,5", "2,5", "?"] * (N // 3)}), ask(), {},
                       r"reads as numbers, such as '1,5', but for '\?'"),
    "an id": (pandas.DataFrame({"id": IDS}), ask(), {}, "60 different values in 60|an id"),
    "a column without values": ({"a": [None] * N, "b": draw()}, ask(), {}, "has no value"),
    "no column": ({}, ask(), {}, "has no columns"),
    "unequal lengths": ({"a": [1, 2], "b": [1]}, ask(), {}, "equal lengths"),
    "two columns of a name": (pandas.concat([FRAME, FRAME], axis=1), ask(), {},
                              "more than one column 'age'"),
    "names that are no text": (pandas.DataFrame({("a", "b"): draw()}), ask(), {},
                               "names of columns in `features` must be text"),
    "one axis": (draw(), ask(), {}, r"features\[:, None\]"),
    "five axes": (draw(2, 2, 2, 2), ask(), {}, "videos"),
    "grey or a sequence": (abs(draw(8, 9)), ask(), {}, "Say layout='NLD' or layout='NHW'"),
    "channels where": (draw_bytes(4, 8, 4), ask(), {}, "Say layout='NCHW' or layout='NHWC'"),
    "another layout": (draw(8, 9), ask(), {"layout": "NCHW"}, "must be one of .'NLD', 'NHW'"),
    "all rows alike": (np.ones((N, 3)), ask(), {}, "same values in every row"),
    "empty": (np.empty((0, 3)), {"a": []}, {}, "empty"),
    "no feature": (np.empty((N, 0)), ask(), {}, "empty"),
    "one row": (draw(5)[:1], [1], {}, "1 rows"),
    "of several sizes": ([np.zeros((4, 4)), np.zeros((5, 4))] * (N // 2), ask(), {},
                         "must be rows of one shape"),
    "list of dicts": ([{"a": 1}] * N, ask(), {}, r"pandas.DataFrame\(features\)"),
    "sparse": (scipy.sparse.eye(N, 5, format="csr"), ask(), {}, r"toarray\(\)"),
    "sparse tensor": (torch.eye(N).to_sparse(), ask(), {}, "dense"),
    "on no device": (torch.empty(N, 5, device="meta"), ask(), {}, "with values"),
    "huge": (draw(5) * 1e200, ask(), {}, "beyond 1e100"),
    "a number alone": (3, ask(), {}, "features"),
    "nothing": (None, ask(), {}, "features"),
    # ---- a feature that is a target
    "the target by name": (FRAME, FRAME[["smoker"]], {}, r"drop\(columns=\['smoker'\]\)"),
    "the target by another name": (FRAME.rename(columns={"smoker": "s"}), FRAME["smoker"], {},
                                   "feature 's' is the target 'smoker'"),
    "the target rescaled": (np.stack([draw(), 3 - 2 * draw(seed=1)], 1), {"y": draw(seed=1)}, {},
                            "feature 'x1' is the target 'y'"),
    "a class one-hot": (FRAME, {"col": FRAME["colour"].tolist()}, {}, "feature 'colour=blue' is"),
    # ---- targets
    "constant": (draw(5), [1] * N, {}, r"constant over the training split \(1\)"),
    "constant number": (draw(5), {"y": [0.5] * N}, {}, "constant over the training split"),
    "constant in train": (draw(5), {"y": HALF}, {"splits": [range(20), range(20, 40),
                                                            range(40, N)]}, "constant over"),
    "class in test only": (draw(5), {"y": np.repeat(list("abac"), N // 4)}, {
        "splits": [range(40), range(40, 45), range(45, N)]},
        "class 'c' occurs in the test split, not in the training split"),
    "an id as target": (draw(5), IDS, {}, "60 different values in 60 rows"),
    "numbers as text for target": (draw(5), [f"{k}.5" for k in range(N)], {},
                                   "pandas.to_numeric"),
    "mixed target": (draw(5), {"y": [1, "a"] * (N // 2)}, {}, "number .* and text"),
    "no value": (draw(5), {"y": [None] * N}, {}, "no value at all"),
    "no value in train": (draw(5), {"y": [None] * 40 + [0.5] * 20}, {"splits": PLACES},
                          "no value in the training split"),
    "no value in test": (draw(5), {"y": [0.5, 1.5] * 20 + [None] * 20}, {"splits": PLACES},
                         "split `test` is nan throughout"),
    "infinite target": (draw(5), {"y": put(draw(), (4, np.inf))}, {}, "first in row 4"),
    "-1 beside 0": (draw(5), np.tile([-1, 0, 1], N // 3), {}, r"Say no_label=\[-1\]"),
    "-100 beside 0": (draw(5), np.tile([-100, 0, 1], N // 3), {}, "-100 beside 0"),
    "beyond float32": (draw(5), {"t": 1.7e9 + draw()}, {}, "float32 cannot hold"),
    "lengths differ": (draw(5), ask()["grade"][:50], {}, "has 50 rows, the features have 60"),
    "turned": (draw(5), draw(3).T, {}, r"is \(n, tasks\)"),
    "one-hot": (draw(5), {"y": np.eye(3)[np.arange(N) % 3]}, {}, r"argmax\(1\)"),
    "three axes": (draw(5), draw(3, 3), {}, r"an array \(n,\) or \(n, tasks\)"),
    "no target": (draw(5), {}, {}, "`targets` is empty"),
    "target of dates": (draw(5), {"y": np.arange(N).astype("M8[D]")}, {}, "dates"),
    "other rows of pandas": (FRAME, pandas.DataFrame(ask()).sample(frac=1, random_state=0), {},
                             "different indexes"),
    "splits of other rows": (FRAME, ask(), {"splits": pandas.Series(PLACES)[::-1]},
                             "different indexes"),
    "a layout of a table": (FRAME, ask(), {"layout": "ND"}, "is for arrays"),
    # ---- tasks
    "a name twice": (draw(5), draw(2), {"tasks": ["a", "a"]}, "more than once"),
    "too few names": (draw(5), draw(3), {"tasks": ["a", "b"]}, "names 2 tasks"),
    "an unknown name": (draw(5), ask(), {"tasks": ["sick"]}, "`tasks` names"),
    "an unknown kind": (draw(5), ask(), {"tasks": {"ill": "binary"}}, "of .'yes/no', 'classes'"),
    "three are no yes/no": (draw(5), ask(), {"tasks": {"grade": "yes/no"}}, "must be yes/no"),
    "text is no number": (draw(5), ask(), {"tasks": {"ill": "number"}}, "text where numbers"),
    "another class": (draw(5), ask(), {"tasks": [Task("ill", classes=("no", "maybe"))]},
                      "holds 'yes', none of its classes"),
    "another number of classes": (draw(5), ask(), {"tasks": [Task("grade", 3)]},
                                  "n_outputs=3, but the training split has 4"),
    "a dense task": (draw(5), ask(), {"tasks": [Task("grade", 4, is_dense=True)]}, "is dense"),
    "a loss": (draw(5), ask(), {"loss": "huber"}, "`loss` must be one of"),
    "impute": (draw(5), ask(), {"impute": "median"}, "`impute` must be one of"),
    "a seed": (draw(5), ask(), {"seed": -1}, "`seed` must be a whole number"),
    # ---- splits and groups
    "two fractions": (draw(5), ask(), {"splits": (0.8, 0.2)}, "three fractions"),
    "fractions above 1": (draw(5), ask(), {"splits": (0.8, 0.2, 0.2)}, "add up to 1"),
    "a fraction of none": (draw(5), ask(), {"splits": (0.8, 0.2, 0)}, "must be > 0"),
    "one fraction": (draw(5), ask(), {"splits": 0.8}, "`splits` must be"),
    "another word": (draw(5), ask(), {"splits": ["train", "holdout"] * (N // 2)}, "'holdout'"),
    "too few words": (draw(5), ask(), {"splits": ["train"] * 5}, "5 values for 60 rows"),
    "a row twice": (draw(5), ask(), {"splits": [range(40), range(39, 50), range(50, N)]},
                    "row 39 is twice"),
    "a row too far": (draw(5), ask(), {"splits": [range(40), range(40, 50), range(50, 99)]},
                      "from 0 to 59"),
    "no test": (draw(5), ask(), {"splits": {"train": range(40), "val": range(40, N)}},
                "must name train, val and test"),
    "an empty split": (draw(5), ask(), {"splits": ["train"] * 40 + ["val"] * 20},
                       "split `test` has no rows"),
    "no such column": (FRAME, ask(), {"splits": "fold"}, "no column of `features`"),
    "no columns at all": (draw(5), ask(), {"groups": "patient"}, "no named columns"),
    "two groups": (draw(5), ask(), {"groups": HALF}, "of 60 in 2 groups"),
    "a group in two splits": (draw(5), ask(), {"splits": PLACES, "groups": HALF},
                              "rows that belong together must stay together"),
    "a row without group": (draw(5), ask(), {"groups": [None] + [1, 2, 3] * 19 + [1, 2]},
                            "none missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_way_out(case: str, capsys: pytest.CaptureFixture) -> None:
    """One line of ASCII, never "must be X, got X"; and nothing is printed as understood."""
    features, targets, options, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        data.from_arrays(features, targets, **options)
    message = str(error.value)
    assert "\n" not in message
    assert message.isascii()
    assert len(message) < 500
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (iter([(1, 2)]), "must be a map-style Dataset"),
        ([], "`dataset` is empty"),
        ([(np.zeros(2), 1, 2)], "item 0 of `dataset` is .array"),
        ([(np.zeros(2), 1), (np.zeros(3), 1)], "features of item 1"),
        ([(np.zeros(2), {"a": 1}), (np.zeros(2), {"b": 1})], "targets of item 1"),
        ([(np.zeros(2), {"a": 1}), (np.zeros(2), 1)], "targets of item 1"),
        ({"train": [], "test": []}, "must name train, val and test"),
        (draw(5)[0], "item 0 of `dataset`"),
    ],
)
def test_a_dataset_of_other_things_is_refused(dataset: Any, words: str) -> None:
    """The message names the item."""
    with pytest.raises(ValueError, match=words):
        data.from_dataset(dataset)


def test_splits_are_said_once() -> None:
    """Three datasets are the splits."""
    part = TensorDataset(torch.rand(9, 2), torch.arange(9) % 2)
    with pytest.raises(ValueError, match="`splits` is said twice"):
        data.from_dataset({"train": part, "val": part, "test": part}, splits=(0.6, 0.2, 0.2))


ODD: list[Any] = [
    None, 0, 1.5, "", "x", b"x", [], {}, (), set(), object(), float, np.float32, len, Ellipsis,
    slice(3), iter([1]), np.nan, np.array(3), np.array([]), np.zeros((0, 0)), torch.tensor(1.0),
    [[]], [None] * N, [[None]] * N, [object()] * N, [(1, 2), (3,)] * (N // 2), [torch.rand(2)] * N,
    memoryview(b"abc"), bytearray(b"abc"), range(N), np.random.default_rng(0),
    torch.nn.Linear(2, 2), pandas.DataFrame(), pandas.DataFrame(index=range(N)),
    pandas.Series(dtype=float),
    pandas.MultiIndex.from_product([range(2), range(N // 2)]), pandas.DataFrame({1.5: [1] * N}),
    pandas.DataFrame({"a": pandas.cut(np.arange(N), 3)}), {"a": {"b": 1}}, {"a": 5}, {"a": "text"},
    {"a": [2**70] * N}, {"a": np.ma.masked_array(np.arange(N), np.arange(N) % 5 == 0)},
    np.zeros(N, [("a", "f4", (2,))]), scipy.sparse.random(N, 4), torch.rand(N, 3).to_sparse(),
    np.full((N, 2), 1e38), draw(3) * 1e-300, ["a", None] * (N // 2), [pandas.NA] * N, Task("a"),
]  # fmt: skip
OPTIONS = tuple(Options.__annotations__)


@pytest.mark.parametrize("argument", ["features", "targets", "column", *OPTIONS])
def test_whatever_an_argument_is_nothing_else_is_raised(argument: str) -> None:
    """A ValueError of one line, or data of finite numbers; fifty odd objects each."""
    for odd in ODD:
        features = odd if argument == "features" else draw(5)
        targets = odd if argument == "targets" else {"y": odd} if argument == "column" else ask()
        more = {argument: odd} if argument in OPTIONS else {}
        try:
            made = data.from_arrays(features, targets, **more)
        except ValueError as error:
            assert_line(error)
        else:
            assert made.train.features.isfinite().all()


def assert_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 500
