"""Features as they were handed over, row by row: a table by columns, or an array."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from dmtg_lite.core.columns import Columns, as_raw
from dmtg_lite.core.reading import Layout, Reader
from dmtg_lite.data.own.features import (
    Impute,
    check_array,
    check_table,
    choose_layout,
    is_kept,
    learn_array,
    learn_table,
    number_texts,
)
from dmtg_lite.data.own.splits import SPLITS, Rows


@dataclass(frozen=True, slots=True)
class Table:
    """Plain columns by name.

    Args:
        given: As it was handed over: a pandas column may say itself that it is a category.
    """

    columns: Columns
    given: Any
    stays_mapped = False

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def take(self, rows: Rows) -> Columns:
        return {name: column[rows] for name, column in self.columns.items()}

    def check(self, impute: Impute | None) -> list[np.ndarray]:
        """Refuse what cannot be used; the text columns as class numbers."""
        check_table(self.columns, impute)
        return number_texts(self.columns, self.given)

    def learn(self, rows: Rows, impute: Impute | None) -> Reader:
        return learn_table(self.columns, rows, self.given, impute)


@dataclass(frozen=True, slots=True)
class Array:
    """Rows of one shape.

    Args:
        stays_mapped: Whether they lie in a file, and are kept as they are.
    """

    values: Tensor
    layout: Layout
    stays_mapped: bool

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Rows) -> Tensor:
        return self.values[rows]

    def check(self, impute: Impute | None) -> list[np.ndarray]:
        check_array(self.values, impute)
        return []

    def learn(self, rows: Rows, impute: Impute | None) -> Reader:
        return learn_array(self.values, rows, self.layout, impute)


RowsGiven: TypeAlias = Table | Array


def as_rows(
    features: Any, layout: Layout | None, **columns: Any
) -> tuple[RowsGiven, dict[str, Any]]:
    """Features by rows, and what some of their columns hold that are none.

    Args:
        layout: Of an array, see `choose_layout`.
        columns: Of each the name of a column, which is taken out of the table; all else comes back
            as it is.

    Raises:
        ValueError: If there are fewer than three rows, no features, or no such column.
    """
    raw = as_raw("features", features)
    named = {name: value for name, value in columns.items() if isinstance(value, str)}
    for name, value in named.items():
        if not isinstance(raw, dict) or value not in raw:
            found = list(raw)[:20] if isinstance(raw, dict) else "no named columns"
            raise ValueError(f"`{name}` is {value!r}, no column of `features`, which has {found}.")
    if isinstance(raw, dict):
        columns |= {name: raw[value] for name, value in named.items()}
        raw = {name: own for name, own in raw.items() if name not in named.values()}
    return _check_rows(raw, features, layout), columns


def _check_rows(raw: Tensor | Columns, given: Any, layout: Layout | None) -> RowsGiven:
    if isinstance(raw, dict) and not raw:
        raise ValueError("`features` has no columns.")
    if isinstance(raw, dict) and layout is not None:
        raise ValueError(f"`layout` is for arrays, and these are columns: {list(raw)[:10]}.")
    n_rows = len(next(iter(raw.values())) if isinstance(raw, dict) else raw)
    if n_rows < len(SPLITS):
        what = f"has {n_rows} rows: at least one for each split is needed"
        raise ValueError(f"`features` {what if n_rows else 'is empty'}.")
    if isinstance(raw, dict):
        return Table(raw, given)
    layout = choose_layout(raw, layout)
    return Array(raw, layout, is_kept(raw, layout) and _is_mapped(given))


def _is_mapped(value: Any) -> bool:
    """Whether an array of numpy lies in a file."""
    while value is not None and not isinstance(value, np.memmap):
        value = getattr(value, "base", None)
    return value is not None
