"""Which rows train, validate and test: said by the user, or dealt by a seed.

Dealing is iterative stratification: rare classes first, each row to the split that lacks most.

Source:
    K. Sechidis, G. Tsoumakas and I. Vlahavas, On the stratification of multi-label data (ECML PKDD
    2011), with groups of rows as units and whole classes left to chance where they are common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dmtg_lite.core.checks import as_number, describe
from dmtg_lite.core.columns import as_column, find_missing, name_value
from dmtg_lite.core.data import SPLITS

Rows: TypeAlias = np.ndarray | slice
DEFAULT = (0.6, 0.2, 0.2)
_WORDS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
_RARE = 100  # rows of a class: of those with more, chance gives every split its share
_HINT = (
    "Give three fractions (0.6, 0.2, 0.2), a column of 'train', 'val' and 'test', or "
    "{'train': rows, 'val': rows, 'test': rows}"
)


def split_rows(
    splits: Any, n_rows: int, labels: Sequence[np.ndarray], groups: Any, seed: int
) -> dict[str, Rows]:
    """The rows of each split, in their order; a slice where they lie one after another.

    Args:
        splits: ``None``: fractions 0.6, 0.2, 0.2; three fractions; one word a row; or the rows
            themselves, as numbers, masks or slices, by name or three in a row.
        labels: Class numbers (n,), -1 where there is none: every class goes to train first.
        groups: One value a row; rows of equal values stay together. ``None``: each by itself.

    Raises:
        ValueError: If it is none of these, rows are in two splits, or a split would be empty.
    """
    fractions = DEFAULT if splits is None else _as_fractions(splits)
    if fractions is None:
        chosen = _read_splits(splits, n_rows)
        if groups is not None:
            _check_together(chosen, _number_groups(groups, n_rows))
    else:
        unit_of = np.arange(n_rows) if groups is None else _number_groups(groups, n_rows)
        chosen = _deal(unit_of, fractions, labels, seed)
    if empty := [name for name in SPLITS if not len(chosen[name])]:
        of = "" if groups is None else f" in {len(set(_number_groups(groups, n_rows)))} groups"
        raise ValueError(f"split `{empty[0]}` has no rows, of {n_rows}{of}. {_HINT}.")
    return {name: _as_slice(rows) for name, rows in chosen.items()}


def cut_in_order(n_rows: int) -> dict[str, Rows]:
    """The default fractions without shuffling, as slices."""
    ends = np.rint(np.cumsum((0, *DEFAULT)) * n_rows).astype(int).tolist()
    return {name: slice(*ends[k : k + 2]) for k, name in enumerate(SPLITS)}


def _as_fractions(splits: Any) -> tuple[float, ...] | None:
    shape = (len(splits),) if isinstance(splits, list | tuple) else getattr(splits, "shape", ())
    if shape != (3,):
        return None
    numbers = [as_number(one) for one in splits]
    if any(number is None for number in numbers):
        return None
    fractions = tuple(float(number) for number in numbers if number is not None)
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions of `splits` must be > 0 and add up to 1, got {fractions}.")
    return fractions


def _read_splits(splits: Any, n_rows: int) -> dict[str, np.ndarray]:
    """What the user says of each row, or the rows of each split."""
    is_three = isinstance(splits, list | tuple) and len(splits) == 3
    if isinstance(splits, Mapping) or (is_three and not isinstance(splits[0], str)):
        named = splits if isinstance(splits, Mapping) else dict(zip(SPLITS, splits, strict=True))
        chosen = {_WORDS.get(name, name): _as_rows(rows, n_rows) for name, rows in named.items()}
        if len(chosen) != len(named) or set(chosen) != set(SPLITS):
            raise ValueError(f"`splits` must name train, val and test, got {list(named)}. {_HINT}.")
        every = np.concatenate(list(chosen.values()))
        if len(np.unique(every)) != len(every):
            numbers, counts = np.unique(every, return_counts=True)
            raise ValueError(
                f"row {numbers[counts > 1][0]} is twice in `splits`: a row must be in one split."
            )
        return chosen
    if isinstance(splits, str | int | float):
        raise ValueError(f"`splits` must be one word a row, got {describe(splits)}. {_HINT}.")
    column = as_column("`splits`", splits)
    if len(column) != n_rows:
        raise ValueError(f"`splits` has {len(column)} values for {n_rows} rows. {_HINT}.")
    words = np.array([name_value(value).lower().strip() for value in column.tolist()])
    words = np.array([_WORDS.get(word, word) for word in words.tolist()])
    if strange := sorted(set(words.tolist()) - set(SPLITS)):
        raise ValueError(
            f"`splits` must hold 'train', 'val' or 'test', got {strange[:3]}. {_HINT}."
        )
    return {name: np.flatnonzero(words == name) for name in SPLITS}


def _as_rows(rows: Any, n_rows: int) -> np.ndarray:
    """Row numbers, whether given so, as a mask or as a slice."""
    if isinstance(rows, slice):
        return np.arange(n_rows)[rows]
    column = as_column("`splits`", rows)
    if column.dtype.kind == "b" and len(column) == n_rows:
        return np.flatnonzero(column)
    is_whole = column.dtype.kind == "f" and bool((column == np.rint(column)).all())
    if not is_whole or (len(column) and not 0 <= column.min() <= column.max() < n_rows):
        raise ValueError(
            f"rows in `splits` must be whole numbers from 0 to {n_rows - 1}, got {describe(rows)}."
        )
    return np.sort(column.astype(np.int64))


def _number_groups(groups: Any, n_rows: int) -> np.ndarray:
    """Numbers 0, 1, ... (n,), equal where rows belong together."""
    column = as_column("`groups`", groups)
    if len(column) != n_rows or find_missing(column).any():
        raise ValueError(
            f"`groups` must be one value for each of {n_rows} rows, none missing, got "
            f"{describe(groups)}."
        )
    return np.unique(column.astype(str), return_inverse=True)[1].reshape(-1)


def _check_together(chosen: dict[str, np.ndarray], unit_of: np.ndarray) -> None:
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := set(unit_of[chosen[first]]) & set(unit_of[chosen[second]]):
            row = int(np.flatnonzero(unit_of == min(both))[0])
            raise ValueError(
                f"`splits` puts rows of one group (that of row {row}) into {first} and {second}: "
                "rows that belong together must stay together. Leave `splits` or `groups` out."
            )


def _deal(
    unit_of: np.ndarray, fractions: tuple[float, ...], labels: Sequence[np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """Deal units, which are rows or groups of them, so that rare classes are everywhere."""
    sizes = np.bincount(unit_of)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    split_of = np.full(len(sizes), -1)
    places = range(len(SPLITS))

    def deal(units: np.ndarray, weights: np.ndarray) -> None:
        """Each unit to the split that lacks most of what they are counted by, then most rows."""
        lacks, lacks_rows = (
            [float(share * w.sum() - w[split_of == k].sum()) for k, share in enumerate(fractions)]
            for w in (weights, sizes)
        )
        waiting = units[split_of[units] < 0]
        dealt = []
        for weight, size in zip(weights[waiting].tolist(), sizes[waiting].tolist(), strict=True):
            if weights is sizes:  # the same, faster: nearly all rows
                split = lacks.index(max(lacks))
            else:
                split = max(places, key=lambda k: (round(lacks[k], 6), lacks_rows[k]))
            lacks[split] -= weight
            lacks_rows[split] -= size
            dealt.append(split)
        split_of[waiting] = dealt

    rare = [
        (int(count), labels_of_task == k)
        for labels_of_task in labels
        for k, count in enumerate(np.bincount(labels_of_task[labels_of_task >= 0]))
        if 0 < count <= _RARE
    ]
    for _, has_it in sorted(rare, key=lambda one: one[0]):
        weights = np.bincount(unit_of[has_it], minlength=len(sizes))
        deal(shuffled[weights[shuffled] > 0], weights)
    deal(shuffled, sizes)
    for _, has_it in rare:  # where a rarer class took all its rows elsewhere
        units = unit_of[has_it]
        if (split_of[units] != 0).all():
            split_of[units[0]] = 0
    return {name: np.flatnonzero(split_of[unit_of] == k) for k, name in enumerate(SPLITS)}


def _as_slice(rows: np.ndarray) -> Rows:
    """Rows that lie one after another as a slice, which copies nothing."""
    start, stop = int(rows[0]), int(rows[-1]) + 1
    return slice(start, stop) if stop - start == len(rows) else rows
