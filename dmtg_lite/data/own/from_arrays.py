"""`from_arrays`: features and targets in whatever form, to three splits that can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, TypedDict, get_args

import numpy as np
from torch import Tensor

from dmtg_lite.core.checks import as_whole, check_choice, check_kind, describe
from dmtg_lite.core.columns import as_frame
from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.reading import Layout, Reader
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import Task
from dmtg_lite.data.own.features import Impute
from dmtg_lite.data.own.kinds import Answers, Kind, understand
from dmtg_lite.data.own.leaks import check_leaks
from dmtg_lite.data.own.rows import RowsGiven, Table, as_rows
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
            `Task` objects.
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
    own, said = as_rows(features, layout, splits=splits, groups=groups)
    texts = own.check(impute)
    answers = _understand(targets, tasks, no_label)
    _check_against(own, answers)
    if splits is None and groups is None and own.stays_mapped:
        rows = cut_in_order(len(own))
    else:
        labels = [one.values for one in answers if one.classes] + texts
        rows = split_rows(said["splits"], len(own), labels, said["groups"], seed)
    reader = own.learn(rows["train"], impute)
    settled = [settle(one, rows, loss) for one in answers]
    parts = {split: reader.read(own.take(rows[split])) for split in SPLITS}
    if reader.kind in ("table", "vectors"):
        _check_leaks(reader, parts, rows, settled)
    train, val, test = (
        Split(parts[split], {task.name: values[rows[split]] for task, values in settled})
        for split in SPLITS
    )
    tasks = tuple(task for task, _ in settled)
    data = TaskData(name, tasks, train, val, test, reader=reader)
    return say(summarise(data, reader, len(own)))


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


def _check_against(own: RowsGiven, answers: Sequence[Answers]) -> None:
    """Refuse targets of other rows, and those that are columns of the features."""
    for one in answers:
        if len(one.values) != len(own):
            raise ValueError(
                f"target {one.name!r} has {len(one.values)} rows, the features have {len(own)}: "
                "every row needs one answer a task (nan: none). An array of targets is (n, tasks)."
            )
    columns = own.columns if isinstance(own, Table) else {}
    if both := [one.name for one in answers if one.name in columns]:
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
