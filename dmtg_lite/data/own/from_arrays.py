"""`from_arrays`: features and targets in whatever form, to three splits that can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, TypedDict, get_args

import numpy as np
from torch import Tensor

from dmtg_lite.core.checks import as_whole, check_choice, check_kind, describe
from dmtg_lite.core.columns import Columns, as_frame, as_raw, is_table
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.reading import Layout, Reader
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import Task
from dmtg_lite.data.own.features import (
    Impute,
    choose_layout,
    learn_array,
    learn_table,
    number_texts,
)
from dmtg_lite.data.own.kinds import Answers, Kind, understand
from dmtg_lite.data.own.leaks import check_leaks
from dmtg_lite.data.own.splits import SPLITS, Rows, cut_in_order, split_rows
from dmtg_lite.data.own.summary import say, summarise
from dmtg_lite.data.own.target_columns import order_of, read_targets
from dmtg_lite.data.own.targets import METRICS, NumberLoss, settle


class Options(TypedDict, total=False):
    """What may be said of data besides features and targets; see `from_arrays`."""

    tasks: Sequence[str | Task] | Mapping[str, Kind | Task] | None
    splits: Any
    groups: Any
    layout: Layout | None
    impute: Impute | None
    no_label: Any
    loss: NumberLoss
    seed: int
    name: str


@sealed()
def from_arrays(
    features: Any,
    targets: Any,
    *,
    tasks: Sequence[str | Task] | Mapping[str, Kind | Task] | None = None,
    splits: Any = None,
    groups: Any = None,
    layout: Layout | None = None,
    impute: Impute | None = None,
    no_label: Any = (),
    loss: NumberLoss = "l1",
    seed: int = 0,
    name: str = "mine",
) -> TaskData:
    """Your own features and targets as data that every method takes.

    Says in one line what it understood; what is doubtful is refused. ``docs/own_data.md`` has the
    table of forms and of refusals.

    Args:
        features: A pandas DataFrame, dict of columns or structured array: a table of numbers,
            yes/no and text, which becomes one-hot. Or an array, tensor or lists: vectors (n, D),
            sequences (n, L, D), pictures (n, H, W), (n, H, W, C) or (n, C, H, W). Pictures of uint8
            stay so, mapped files stay mapped; all other numbers are standardised by mean and
            standard deviation of the training split.
        targets: ``{name: column}``, a DataFrame, or an array (n,) or (n, tasks): yes/no, names or
            numbers of classes, real numbers; None and nan: no label.
        tasks: Names, of columns or of those to take; or ``{name: kind}``, ``"yes/no"``,
            ``"classes"`` or ``"number"`` where the rule (`kinds.is_class_like`) would be wrong; or
            `Task`s.
        splits: See `splits.split_rows`. ``None``: 60, 20 and 20 % by ``seed``, every class in the
            training split; a mapped file is cut in the order of its rows, since shuffling would
            copy it. A name: that column of the features.
        groups: One value a row; rows of equal values stay in one split. A name: that column of the
            features.
        layout: Of an array, where its shape could be read in two ways.
        impute: ``"mean"``: a missing feature, or a category never seen, becomes the mean over the
            training split. ``None``: it is refused.
        no_label: Values of targets that mean "no label" too, such as -1 or "?".
        loss: Of numbers: ``"l1"``, the error is the mean absolute one; ``"squared"``, the root of
            the mean squared one.
        seed: Of the deal.

    Returns:
        Data whose ``reader`` reads new raw features, and whose tasks know their classes, and center
        and spread of numbers.

    Raises:
        ValueError: If something is doubtful; the message says what to do.
    """
    check_choice("loss", loss, list(METRICS))
    if impute is not None:
        check_choice("impute", impute, get_args(Impute))
    check_kind("name", name, str, 'e.g. "mine"')
    seed = as_whole("seed", seed, 0)
    features = as_frame(features, "x0")
    many = targets.values() if isinstance(targets, Mapping) else [targets]
    for one in (*many, splits, groups):
        _check_index(features, one)
    raw = as_raw("features", features)
    raw, splits = _take_column("splits", splits, raw)
    raw, groups = _take_column("groups", groups, raw)
    n_rows = _count_rows(raw)
    texts: list[np.ndarray] = []
    if isinstance(raw, dict):
        if layout is not None:
            raise ValueError(f"`layout` is for arrays, and these are columns: {list(raw)[:10]}.")
        texts = number_texts(raw, features)
    else:
        layout = choose_layout(raw, layout)
    answers = _understand(targets, tasks, no_label)
    _check_against(raw, n_rows, answers)
    labels = [one.values for one in answers if one.classes] + texts
    if splits is None and groups is None and is_mapped(features) and _stays(raw):
        rows = cut_in_order(n_rows)
    else:
        rows = split_rows(splits, n_rows, labels, groups, seed)
    reader = _learn(raw, features, rows["train"], layout, impute)
    settled = [settle(one, rows, loss) for one in answers]
    parts = {split: _take(raw, reader, rows[split]) for split in SPLITS}
    if reader.kind in ("table", "vectors"):
        _check_leaks(reader, parts, rows, settled)
    train, val, test = (
        Split(parts[split], {task.name: values[rows[split]] for task, values in settled})
        for split in SPLITS
    )
    tasks = tuple(task for task, _ in settled)
    data = TaskData(name, tasks, train, val, test, reader=reader)
    return say(summarise(data, reader, n_rows))


def is_mapped(value: Any) -> bool:
    """Whether an array of numpy lies in a file."""
    while value is not None and not isinstance(value, np.memmap):
        value = getattr(value, "base", None)
    return value is not None


def _stays(raw: Tensor | Columns) -> bool:
    """Whether features are kept as they are, so that a mapped file can stay one."""
    return isinstance(raw, Tensor) and raw.ndim > 2 and str(raw.dtype) == "torch.uint8"


def _take_column(name: str, value: Any, raw: Tensor | Columns) -> tuple[Tensor | Columns, Any]:
    """A column of the table that is no feature, where a name stands for it."""
    if not isinstance(value, str):
        return raw, value
    if not isinstance(raw, dict) or value not in raw:
        found = list(raw)[:20] if isinstance(raw, dict) else "no named columns"
        raise ValueError(f"`{name}` is {value!r}, no column of `features`, which has {found}.")
    return {key: column for key, column in raw.items() if key != value}, raw[value]


def _understand(targets: Any, tasks: Any, no_label: Any) -> list[Answers]:
    no_label = [no_label] if isinstance(no_label, str | Number) else no_label
    is_list = isinstance(no_label, list | tuple | set)
    if not is_list or not all(isinstance(one, str | Number) for one in no_label):
        raise ValueError(f"`no_label` must be values such as -1 or '?', got {describe(no_label)}.")
    columns, wishes = read_targets(targets, tasks)
    return [
        understand(name, column, wishes[name], order_of(targets, name), list(no_label))
        for name, column in columns.items()
    ]


def _count_rows(raw: Tensor | Columns) -> int:
    if isinstance(raw, dict) and not raw:
        raise ValueError("`features` has no columns.")
    n_rows = len(next(iter(raw.values())) if isinstance(raw, dict) else raw)
    if n_rows < len(SPLITS):
        what = f"has {n_rows} rows: at least one for each split is needed"
        raise ValueError(f"`features` {what if n_rows else 'is empty'}.")
    return n_rows


def _check_against(raw: Tensor | Columns, n_rows: int, answers: Sequence[Answers]) -> None:
    """Refuse targets of other rows, and those that are columns of the features."""
    for one in answers:
        if len(one.values) != n_rows:
            raise ValueError(
                f"target {one.name!r} has {len(one.values)} rows, the features have {n_rows}: "
                "every row needs one answer a task (nan: none). An array of targets is (n, tasks)."
            )
    both = [one.name for one in answers if isinstance(raw, dict) and one.name in raw]
    if both:
        raise ValueError(
            f"`features` still has the column {both[0]!r}, which is a target: "
            f"features.drop(columns={both[:10]})."
        )


def _check_index(features: Any, other: Any) -> None:
    """Refuse rows of pandas that are in another order, or are other rows."""
    is_pandas = hasattr(features, "iloc") and hasattr(other, "iloc")
    if is_pandas and len(features) == len(other) and not features.index.equals(other.index):
        raise ValueError(
            "`features` and `targets` (or splits, groups) have different indexes: are these the "
            "same rows in the same order? targets.loc[features.index] puts them so; "
            "reset_index(drop=True) on both says that they are."
        )


def _learn(raw: Any, given: Any, rows: Rows, layout: Any, impute: Impute | None) -> Reader:
    if isinstance(raw, dict):
        return learn_table(raw, rows, given if is_table(given) else None, impute)
    return learn_array(raw, rows, layout, impute)


def _take(raw: Tensor | Columns, reader: Reader, rows: Rows) -> Tensor:
    if isinstance(raw, dict):
        return reader.read({name: column[rows] for name, column in raw.items()})
    return reader.read(raw[rows])


def _check_leaks(
    reader: Reader,
    parts: Mapping[str, Tensor],
    rows: Mapping[str, Rows],
    settled: Sequence[tuple[Task, Tensor]],
) -> None:
    features = np.concatenate([parts[split].numpy() for split in SPLITS])
    if (features == features[0]).all():
        raise ValueError("`features` has the same values in every row: there is nothing to see.")
    names = reader.feature_names or [f"x{k}" for k in range(features.shape[1])]
    targets = {
        task.name: np.concatenate([values[rows[split]].numpy() for split in SPLITS])
        for task, values in settled
    }
    check_leaks(features, names, targets)
