"""Which targets are classes and which are numbers, and what classes are called: from all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from dmtg_lite.core.checks import check_choice
from dmtg_lite.core.columns import find_missing
from dmtg_lite.core.tasks import Task
from dmtg_lite.data.own.texts import MOST_CLASSES, advise_numbers, reads_as_number

Kind = Literal["yes/no", "classes", "number"]
Wish: TypeAlias = Task | Kind | None
_MOST_NUMBERED = 20  # different whole numbers that are classes if nothing is said
_ROWS_A_CLASS = 5  # and how many rows each of them has, on average


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers to one task.

    Args:
        classes: Every class that occurs, in order; () of a number.
        values: Class numbers, int64 (n,), -1 where there is none; or float64 with nan.
        wish: What was said of the task.
    """

    name: str
    classes: tuple[Any, ...]
    values: np.ndarray
    wish: Wish


def is_class_like(values: np.ndarray) -> bool:
    """Whether numbers that nothing is said of are classes: **the rule**.

    They are if all are whole, at most 20 differ, and each occurs in five rows on average. Anything
    else, such as 0.5 or an age in years, is a number.
    """
    different = np.unique(values)
    is_whole = bool((different == np.rint(different)).all())
    return is_whole and len(different) <= min(_MOST_NUMBERED, len(values) // _ROWS_A_CLASS)


def understand(
    name: str, column: np.ndarray, wish: Wish, order: list[Any] | None, no_label: Sequence[Any]
) -> Answers:
    """One task from all its rows: classes or numbers?

    Args:
        order: Of the classes, where a pandas column has one.
        no_label: Values that mean "no label", besides what is missing.

    Raises:
        ValueError: If it is doubtful what values mean.
    """
    column, kind = _drop_labels(column, no_label), _as_kind(name, wish)
    known = column[~find_missing(column)]
    if not len(known):
        raise ValueError(f"target {name!r} has no value at all: leave the task out.")
    is_numeric = column.dtype.kind == "f"
    if is_numeric and np.isinf(known).any():
        row = int(np.isinf(column).argmax())
        raise ValueError(f"target {name!r} holds infinite numbers (first in row {row}).")
    if kind is None:
        kind = "classes" if not is_numeric or order or is_class_like(known) else "number"
    if kind == "number":
        if isinstance(known[0], str):
            raise ValueError(
                f"target {name!r} is text where numbers are due, such as {known[0]!r}: "
                "pandas.to_numeric(column, errors='coerce')."
            )
        return Answers(name, (), column.astype(np.float64), wish)
    if wish is None and is_numeric and 0 in known and set(known.tolist()) & {-1.0, -100.0}:
        raise ValueError(
            f"target {name!r} holds {'-1' if -1.0 in known else '-100'} beside 0: a class, or no "
            f"label? Say no_label=[-1] (or [-100]), or tasks={{{name!r}: 'classes'}}."
        )
    return _number_classes(name, column, wish, order)


def _as_kind(name: str, wish: Wish) -> Kind | None:
    if isinstance(wish, Task):
        if wish.is_dense:
            raise ValueError(f"task {name!r} is dense: make its TaskData of Splits yourself.")
        return "classes" if wish.loss == "cross_entropy" else "number"
    if wish is not None:
        check_choice(f"tasks[{name!r}]", wish, get_args(Kind))
    return wish


def _drop_labels(column: np.ndarray, no_label: Sequence[Any]) -> np.ndarray:
    """The same with missing values in place of those that mean it."""
    is_none = np.zeros(len(column), bool)
    for one in no_label:
        if isinstance(one, str) == (column.dtype.kind == "O"):
            is_none |= column == one
    if not is_none.any():
        return column
    column = column.astype(object if column.dtype.kind == "b" else column.dtype, copy=True)
    column[is_none] = np.nan if column.dtype.kind == "f" else None
    return column


def _number_classes(name: str, column: np.ndarray, wish: Wish, order: list[Any] | None) -> Answers:
    """Classes in order, and which of them each row has."""
    known = ~find_missing(column)
    different, codes = np.unique(column[known], return_inverse=True)
    found = [_as_class(value) for value in different.tolist()]
    if isinstance(wish, Task) and wish.classes:
        classes = list(wish.classes)
    elif order:
        classes = [_as_class(one) for one in order if _as_class(one) in found]
    else:
        classes = found
    if strange := [value for value in found if value not in classes]:
        raise ValueError(f"target {name!r} holds {strange[0]!r}, none of its classes {classes}.")
    n_rows = len(codes)
    if not isinstance(wish, Task) and len(found) > min(MOST_CLASSES, max(10, n_rows // 2)):
        hint = f" They read as numbers: {advise_numbers(str(classes[0]))}."
        raise ValueError(
            f"target {name!r} has {len(found)} different values in {n_rows} rows, such as "
            f"{classes[0]!r}: an id, not classes? Leave it out, or merge rare ones."
            + hint
            * all(reads_as_number(str(one)) for one in classes)
        )
    numbers = np.full(len(column), -1)
    numbers[known] = np.array([classes.index(value) for value in found])[codes.reshape(-1)]
    return Answers(name, tuple(classes), numbers, wish)


def _as_class(value: Any) -> Any:
    """A class as it is called: text, bool, int where it is whole."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
