"""How a user's raw features become numbers for a network, learned once and kept with the data.

A `Reader` is plain JSON-able data: which columns there are, of which kind, what is subtracted and
divided by. It is made from the training split in `dmtg_lite.data.own`; a result keeps it, so that
new raw features can be predicted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.checks import describe
from dmtg_lite.core.columns import Columns, as_array, as_columns, find_missing, is_table, name_value

ColumnKind = Literal["number", "yes/no", "category"]
Layout = Literal["table", "ND", "NLD", "NHW", "NHWC", "NCHW"]
_KINDS = {"table": "table", "ND": "vectors", "NLD": "sequences"}
_ROWS_AT_ONCE = 4096  # of a large array, so that no second one of float64 is needed


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, and the numbers that become of it.

    Args:
        name: As the table has it.
        kind: ``"number"``: (value - center) / spread; ``"yes/no"``: 0 or 1; ``"category"``: one
            column of 0 and 1 for each.
        center, spread: Mean and standard deviation of a number over the training split.
        categories: What occurs there, as text, in the order of its columns.
        fill: What stands for a missing value, or a category never seen, after encoding: the mean
            over the training split. ``None``: it is refused.
    """

    name: str
    kind: ColumnKind
    center: float = 0.0
    spread: float = 1.0
    categories: list[str] = field(default_factory=list)
    fill: list[float] | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.center) and isfinite(self.spread) and self.spread > 0):
            raise ValueError(f"`spread` of column {self.name!r} must be > 0, got {self.spread}.")
        if (self.kind == "category") != bool(self.categories):
            raise ValueError(f"column {self.name!r} of kind {self.kind!r} needs its categories.")
        if self.fill is not None and len(self.fill) != len(self.feature_names):
            raise ValueError(f"`fill` of column {self.name!r} must be one number a feature.")

    @property
    def feature_names(self) -> list[str]:
        """What the numbers are called: "age", or "colour=red" and "colour=blue"."""
        return [f"{self.name}={one}" for one in self.categories] or [self.name]

    def encode(self, values: np.ndarray) -> np.ndarray:
        """The features of a plain column, float32 (n, number of `feature_names`).

        Raises:
            ValueError: If it holds another kind of values, or a missing, infinite or unknown one.
        """
        missing = find_missing(values)
        if self.kind == "category":
            encoded = self._encode_categories(values, missing)
        else:
            encoded = self._encode_numbers(values, missing)
        if missing.any():
            if self.fill is None:
                raise ValueError(tell_missing(self.name, missing))
            encoded[missing] = self.fill
        with np.errstate(over="ignore"):  # a number that is far from all others, and said so below
            features = encoded.astype(np.float32)
        check_finite(f"column {self.name!r}, standardised,", features)
        return features

    def _encode_numbers(self, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
        known = values[~missing]
        if any(isinstance(value, str) for value in known[:1]):
            raise ValueError(f"column {self.name!r} must hold numbers, got text: {known[0]!r}.")
        known = known.astype(np.float64)
        check_finite(f"column {self.name!r}", known)
        if self.kind == "yes/no" and not np.isin(known, (0, 1)).all():
            raise ValueError(
                f"column {self.name!r} must hold yes/no, got {known[known != 0][0]:g}."
            )
        encoded = np.zeros((len(values), 1))
        encoded[~missing, 0] = (known - self.center) / self.spread
        return encoded

    def _encode_categories(self, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """One-hot columns; what was never seen is missing too, where that is allowed."""
        place = {name: index for index, name in enumerate(self.categories)}
        rows = np.flatnonzero(~missing)
        places = np.array(
            [place.get(name_value(value), -1) for value in values[rows].tolist()], int
        )
        if (places < 0).any():
            unknown = name_value(values[rows[places < 0][0]])
            if self.fill is None:
                raise ValueError(
                    f"column {self.name!r} holds {unknown!r}, which the training split does not "
                    f"have; it has {_list(self.categories)}. Merge rare categories, or say "
                    'impute="mean" when the data are made.'
                )
            missing[rows[places < 0]] = True
        encoded = np.zeros((len(values), len(self.categories)))
        encoded[rows[places >= 0], places[places >= 0]] = 1
        return encoded


@dataclass(frozen=True, slots=True)
class Reader:
    """What raw features must look like, and how they become the ``features`` of a `Split`.

    Args:
        layout: ``"table"`` of named columns; or an array of this shape: ``"ND"`` vectors, ``"NLD"``
            sequences, ``"NHW"``, ``"NHWC"``, ``"NCHW"`` pictures.
        shape: Of one row of an array, as it is handed over; [] of a table.
        columns: Of a table.
        is_uint8: Pictures of brightness 0 to 255, kept as they are: the network divides by 255.
        center, spread: Of every other array: mean and standard deviation of each feature or
            channel over the training split.
        impute: Whether a missing number (nan) of an array becomes that mean; else it is refused.
    """

    layout: Layout
    shape: list[int] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    is_uint8: bool = False
    center: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    impute: bool = False

    def __post_init__(self) -> None:
        is_array = self.layout != "table"
        if is_array == bool(self.columns) or len(self.shape) != is_array * (len(self.layout) - 1):
            raise ValueError(f"a reader of layout {self.layout!r} needs its columns or its shape.")
        size = (is_array and not self.is_uint8) * self.count_channels()
        if len(self.center) != size or len(self.spread) != size or min(self.spread, default=1) <= 0:
            raise ValueError(f"`center` and `spread` of a reader must be {size} numbers, > 0.")

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The reader that ``dataclasses.asdict`` turned into JSON, its types checked by a schema.

        Raises:
            ValueError: If parts of it do not fit each other.
        """
        columns = [_make(Column, column) for column in plain.get("columns", ())]
        return _make(cls, {**plain, "columns": columns})

    @property
    def kind(self) -> str:
        """``"table"``, ``"vectors"``, ``"sequences"`` or ``"pictures"``."""
        return _KINDS.get(self.layout, "pictures")

    @property
    def feature_names(self) -> list[str]:
        """Of a table: what the D features are called; [] of arrays."""
        return [name for column in self.columns for name in column.feature_names]

    def count_channels(self) -> int:
        """Of an array: how many features or channels have a mean of their own."""
        by_layout = {"NHW": 1, "NCHW": self.shape[0] if self.shape else 0}
        return by_layout.get(self.layout, self.shape[-1] if self.shape else 0)

    def read(self, raw: Any) -> Tensor:
        """Raw features as the network takes them, (n, ...); as many rows as are given.

        Args:
            raw: What the data were made from, or new rows of it: a table with the same columns (in
                any order, others are not looked at), or an array of the same shape.

        Raises:
            ValueError: If it is something else; the message says what, and where.
        """
        if self.layout == "table":
            return self._read_table(raw)
        features = as_array("features", raw).cpu()
        if list(features.shape[1:]) != self.shape or not features.ndim:
            one = " A single row is features[None]." if list(features.shape) == self.shape else ""
            raise ValueError(
                f"`features` must have shape (n, {', '.join(map(str, self.shape))}), got "
                f"{tuple(features.shape)}.{one}"
            )
        self._check_type(features)
        features = bring_channels_forward(features, self.layout)
        return features if self.is_uint8 else self._standardise(features)

    def _read_table(self, raw: Any) -> Tensor:
        names = [column.name for column in self.columns]
        columns: Columns = as_columns("features", raw, None if is_table(raw) else names)
        if missing := [name for name in names if name not in columns]:
            raise ValueError(
                f"`features` lacks the columns {_list(missing)}; it has {_list(list(columns))}."
            )
        encoded = [column.encode(columns[column.name]) for column in self.columns]
        return torch.from_numpy(np.concatenate(encoded, axis=1))

    def _check_type(self, features: Tensor) -> None:
        """Brightness from 0 to 255 and floats are not the same unit."""
        if self.is_uint8 and features.dtype != torch.uint8:
            hint = "Floats from 0 to 1 become uint8 by (255 * x).round()"
        elif not self.is_uint8 and features.dtype == torch.uint8 and self.kind == "pictures":
            hint = "Give them the scale that these had"
        else:
            return
        wanted = "uint8, 0 to 255" if self.is_uint8 else "of another type than uint8"
        raise ValueError(
            f"`features` must be {wanted}, as those were that the data were made from, got "
            f"{describe(features)}. {hint}."
        )

    def _standardise(self, features: Tensor) -> Tensor:
        """(x - center) / spread of each channel, in float64, kept as float32."""
        form = shape_of_channels(features)
        center = torch.tensor(self.center, dtype=torch.float64, device="cpu").reshape(form)
        spread = torch.tensor(self.spread, dtype=torch.float64, device="cpu").reshape(form)
        out = torch.empty(features.shape, dtype=torch.float32, device="cpu")
        for start in range(0, len(features), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            part = (features[rows].double() - center) / spread
            if self.impute:
                part = torch.where(part.isnan(), 0.0, part)
            out[rows] = part
        if not out.isfinite().all():
            check_finite("`features`", features.double().numpy(), may_miss=self.impute)
        return out


def _make(kind: Any, plain: Mapping[str, Any]) -> Any:
    """A dataclass of what has its fields' names; what a later version may write besides is left."""
    return kind(**{own.name: plain[own.name] for own in fields(kind) if own.name in plain})


def bring_channels_forward(features: Tensor, layout: str) -> Tensor:
    """Pictures as (n, C, H, W), a view; everything else as it is."""
    if layout == "NHW":
        return features[:, None]
    return features.permute(0, 3, 1, 2) if layout == "NHWC" else features


def shape_of_channels(features: Tensor) -> tuple[int, ...]:
    """How one number a channel lies beside features: channels are axis 1 of pictures, else last."""
    return (-1, 1, 1) if features.ndim == 4 else (-1,)


def tell_missing(name: str, missing: np.ndarray) -> str:
    """What to do about missing values of a column."""
    return (
        f"column {name!r} misses {missing.sum()} of {len(missing)} values (first in row "
        f'{missing.argmax()}). Say impute="mean" when the data are made, or leave out these rows '
        "or the column."
    )


def check_finite(name: str, values: np.ndarray, *, may_miss: bool = False, first: int = 0) -> None:
    """Refuse infinite numbers, and missing ones unless they may be.

    Args:
        first: Number of the first row.

    Raises:
        ValueError: With the first row that has one.
    """
    for is_bad, what, advice in (
        (np.isnan(values), "nan", 'say impute="mean" when the data are made, or leave them out'),
        (np.isinf(values), "infinite", "find out where they come from; to leave them out, put nan"),
    ):
        if is_bad.any() and not (may_miss and what == "nan"):
            row = first + int(np.nonzero(is_bad)[0][0])
            raise ValueError(
                f"{name} holds {is_bad.sum()} values that are {what} (first in row {row}): "
                f"{advice}."
            )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(repr, names[:8])) + more
