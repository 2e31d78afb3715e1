"""`from_dataset`: the items of a map-style torch Dataset, read once, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import numpy as np
from torch import Tensor

from dmtg_lite.core.checks import describe
from dmtg_lite.core.columns import as_array
from dmtg_lite.core.data import TaskData
from dmtg_lite.data.own.from_arrays import Options, from_arrays
from dmtg_lite.data.own.splits import SPLITS

_ITEM = "An item must be (features, targets), targets a dict, an array or one label"


def from_dataset(dataset: Any, **more: Unpack[Options]) -> TaskData:
    """The items of a map-style Dataset as data that every method takes.

    Every item is read once, in order, into memory: what augments at random is seen in one version.

    Args:
        dataset: Has a length and items ``(features, targets)``: features of one shape, as a tensor,
            an array or a picture of Pillow; targets a dict, one label, or one value a task. Or
            three of them, ``{"train": ..., "val": ..., "test": ...}``.
        more: As of `from_arrays`.

    Raises:
        ValueError: If items are something else, or `from_arrays` refuses what they hold.
    """
    if isinstance(dataset, Mapping):
        if set(dataset) != set(SPLITS):
            raise ValueError(f"`dataset` must name train, val and test, got {list(dataset)}.")
        if more.get("splits") is not None:
            raise ValueError("`splits` is said twice: by three datasets, and as an argument.")
        sizes = [_count(f"dataset[{name!r}]", dataset[name]) for name in SPLITS]
        more["splits"] = np.repeat(SPLITS, sizes)
        items = (item for name in SPLITS for item in _read_items(dataset[name]))
        n_items = sum(sizes)
    else:
        n_items = _count("dataset", dataset)
        items = _read_items(dataset)
    return from_arrays(*_gather(items, n_items), **more)


def _count(name: str, dataset: Any) -> int:
    """How many items there are."""
    try:
        n_items = len(dataset)
        if n_items:
            dataset[0]
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(
            f"`{name}` must be a map-style Dataset, with a length and items by number, got "
            f"{describe(dataset)}. Of an iterable one pass list(dataset); of a DataLoader .dataset."
        ) from error
    if not n_items:
        raise ValueError(f"`{name}` is empty.")
    return n_items


def _read_items(dataset: Any) -> Iterator[tuple[Any, Any]]:
    for index in range(len(dataset)):
        item = dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(f"item {index} of `dataset` is {describe(item)}. {_ITEM}.")
        yield item[0], item[1]


def _gather(items: Iterator[tuple[Any, Any]], n_items: int) -> tuple[np.ndarray, Any]:
    """Features as one array, filled item by item, and targets as columns or as one array."""
    features: np.ndarray | None = None
    rows: list[Any] = []
    for index, (feature, target) in enumerate(items):
        array = as_array(
            f"features of item {index}",
            np.asarray(feature) if not isinstance(feature, Tensor) else feature,
        )
        array = array.float().numpy() if array.is_floating_point() else array.numpy()
        if features is None:
            features = np.empty((n_items, *array.shape), array.dtype)
        if array.shape != features.shape[1:] or array.dtype != features.dtype:
            raise ValueError(
                f"features of item {index} of `dataset` are {describe(array)}, those of item 0 "
                f"{describe(features[0])}: they must all be alike. Resize or pad them."
            )
        features[index] = array
        rows.append(target)
    assert features is not None  # there is at least one item
    names = set(rows[0]) if isinstance(rows[0], Mapping) else None
    for index, row in enumerate(rows):
        if (set(row) if isinstance(row, Mapping) else None) != names:
            raise ValueError(
                f"targets of item {index} of `dataset` are {describe(row)}, those of item 0 "
                f"{describe(rows[0])}: name the same tasks, nan or None where there is no label."
            )
    return features, {name: [row[name] for row in rows] for name in rows[0]} if names else rows
