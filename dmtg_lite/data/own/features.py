"""Learning a `Reader` from the training rows: layout, kinds of columns, means and categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dmtg_lite.core.checks import check_choice
from dmtg_lite.core.columns import Columns, find_missing, list_categories, name_value
from dmtg_lite.core.reading import (
    Column,
    Layout,
    Reader,
    bring_channels_forward,
    check_finite,
    tell_missing,
)
from dmtg_lite.data.own.texts import check_categories

Impute = Literal["mean"]
_LAYOUTS = {2: ["ND"], 3: ["NLD", "NHW"], 4: ["NCHW", "NHWC"]}
_AT_ONCE = 1 << 24  # numbers of an array that are looked at together
_MOST_CHANNELS = 4  # of what anybody would call a picture without a second look


def number_texts(columns: Columns, table: Any) -> list[np.ndarray]:
    """Text columns as class numbers (n,), -1 where there is none, so that the training split can be
    given every category.

    Raises:
        ValueError: If a column is no set of categories.
    """
    numbered = []
    for name, values in columns.items():
        missing = find_missing(values)
        is_category = list_categories(table, name) is not None
        if is_category or isinstance(next(iter(values[~missing]), None), str):
            texts = np.array([name_value(value) for value in values.tolist()])
            counts = Counter(texts[~missing].tolist())
            check_categories(f"column {name!r}", counts, may_be_numbers=is_category)
            numbers = np.unique(texts, return_inverse=True)[1].reshape(-1)
            numbered.append(np.where(missing, -1, numbers))
    return numbered


def learn_table(
    columns: Columns, rows: np.ndarray | slice, table: Any, impute: Impute | None
) -> Reader:
    """What the training rows of a table say.

    Args:
        columns: Its plain columns.
        rows: The training rows.
        table: As it was given: a pandas column may say itself that it is a category.

    Raises:
        ValueError: If a column is no feature; the message says why.
    """
    return Reader(
        "table",
        columns=[
            _learn_column(name, values[rows], list_categories(table, name) is not None, impute)
            for name, values in columns.items()
        ],
        impute=impute is not None,
    )


def _learn_column(name: str, values: np.ndarray, is_category: bool, impute: Any) -> Column:
    known = values[~find_missing(values)]
    if not len(known):
        raise ValueError(f"column {name!r} has no value in the training split: leave it out.")
    if is_category or isinstance(known[0], str):
        counts = Counter(name_value(value) for value in known.tolist())
        categories = sorted(counts)
        shares = [counts[one] / len(known) for one in categories]
        return Column(name, "category", categories=categories, fill=shares if impute else None)
    if values.dtype.kind != "f":
        share = float(np.mean(known.astype(np.float64)))
        return Column(name, "yes/no", fill=[share] if impute else None)
    center, spread = _measure(f"column {name!r}", lambda: iter([known[:, None]]))
    return Column(name, "number", center[0], spread[0], fill=[0.0] if impute else None)


def learn_array(features: Tensor, rows: Any, layout: Layout, impute: Impute | None) -> Reader:
    """What the training rows of an array say, a part of them at a time."""
    shape = list(features.shape[1:])
    if is_kept(features, layout):
        return Reader(layout, shape, is_uint8=True)

    def parts() -> Iterator[np.ndarray]:
        for chunk in np.array_split(np.arange(len(features))[rows], _count_parts(features)):
            part = bring_channels_forward(features[chunk], layout)
            part = part.movedim(1, -1) if part.ndim == 4 else part
            yield part.reshape(-1, part.shape[-1]).double().numpy()

    center, spread = _measure("`features`", parts)
    return Reader(layout, shape, center=center, spread=spread, impute=impute is not None)


def is_kept(features: Tensor, layout: Layout) -> bool:
    """Whether an array is kept as it is: pictures of brightness 0 to 255."""
    return features.dtype == torch.uint8 and layout not in ("ND", "NLD")


def check_table(columns: Columns, impute: Impute | None) -> None:
    """Refuse missing values unless they are imputed, and infinite ones.

    Raises:
        ValueError: With column and row.
    """
    for name, values in columns.items():
        missing = find_missing(values)
        if missing.all():
            raise ValueError(f"column {name!r} has no value at all: leave it out.")
        if missing.any() and not impute:
            raise ValueError(tell_missing(name, missing))
        if values.dtype.kind == "f":
            check_finite(f"column {name!r}", values, may_miss=True)


def check_array(features: Tensor, impute: Impute | None) -> None:
    """The same of an array, a part of it at a time."""
    if features.is_floating_point():
        start = 0
        for part in features.tensor_split(_count_parts(features)):
            check_finite("`features`", part.double().numpy(), may_miss=bool(impute), first=start)
            start += len(part)


def _count_parts(features: Tensor) -> int:
    return -(-features.numel() // _AT_ONCE)


def _measure(
    name: str, parts: Callable[[], Iterator[np.ndarray]]
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every column of some parts; 1 where all values are equal."""
    count = sum((~np.isnan(part)).sum(0) for part in parts())
    if not np.all(count):
        raise ValueError(f"{name} has a feature without any value in the training split.")
    center = np.asarray(sum(np.nansum(part, 0) for part in parts())) / count
    if not np.all(np.abs(center) < 1e100):
        raise ValueError(f"{name} holds numbers beyond 1e100: rescale it, or take logarithms.")
    squares = np.asarray(sum(np.nansum((part - center) ** 2, 0) for part in parts()))
    spread = np.sqrt(squares / count)
    # what differs by no more than rounding is constant
    spread[spread <= 1e-12 * np.abs(center)] = 1.0
    return center.tolist(), spread.tolist()


def choose_layout(features: Tensor, said: Layout | None) -> Layout:
    """What an array is, by its type and shape, or as it was said.

    Two axes: vectors. Three: grey pictures if uint8; sequences if there are negative numbers and
    the two lengths differ. Four: pictures, whose channels are the axis of at most 4, or the one
    that is less than half the other.

    Raises:
        ValueError: If it could be either, or nothing that is known.
    """
    shape, allowed = tuple(features.shape), _LAYOUTS.get(features.ndim, [])
    if not allowed:
        raise ValueError(
            f"`features` must have 2 axes (vectors), 3 (sequences, grey pictures) or 4 (pictures), "
            f"got shape {shape}. One feature: features[:, None]; videos: embed them first."
        )
    if said is not None:
        check_choice(f"layout` for features of shape `{shape}", said, allowed)
        return said
    if 0 in shape:
        raise ValueError(f"`features` is empty: its shape is {shape}.")
    found = _guess(features, shape[1:])
    if found is None:
        what = (
            "channels may be in front or behind"
            if len(shape) == 4
            else "grey pictures (n, H, W) or sequences (n, L, D)"
        )
        raise ValueError(
            f"`features` of shape {shape} could be read in two ways: {what}. Say layout="
            f"{allowed[0]!r} or layout={allowed[1]!r}."
        )
    return found


def _guess(features: Tensor, row: Sequence[int]) -> Layout | None:
    if len(row) == 1:
        return "ND"
    if len(row) == 2:
        if features.dtype == torch.uint8:
            return "NHW"
        return "NLD" if row[0] != row[1] and bool((features < 0).any()) else None
    first, last = row[0], row[-1]
    pairs: list[tuple[int, int, Layout]] = [(first, last, "NCHW"), (last, first, "NHWC")]
    for channels, other, layout in pairs:
        if other > _MOST_CHANNELS and (channels <= _MOST_CHANNELS or 2 * channels < other):
            return layout
    return None
