"""Lowest and highest value of each target, measured part by part, to refuse what is constant."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from dmtg_lite.schema import AnyFloat

_ROWS = 4 << 20  # numbers looked at in one go


class Range(TypedDict):
    """Of one target, a number for each of its channels where there are several."""

    lowest: list[AnyFloat]  # infinite where nothing is labelled
    highest: list[AnyFloat]
    n_labelled: int
    n_pixels: int


def measure_range(values: np.ndarray, is_labelled: np.ndarray) -> Range:
    """Range of every channel of ``values`` (..., C) where ``is_labelled`` (...) says so."""
    labelled = values[is_labelled].astype(np.float64)  # (m, C)
    return {
        "lowest": labelled.min(0, initial=np.inf).tolist(),
        "highest": labelled.max(0, initial=-np.inf).tolist(),
        "n_labelled": len(labelled),
        "n_pixels": is_labelled.size,
    }


def join_ranges(a: dict[str, Range], b: dict[str, Range]) -> dict[str, Range]:
    """The ranges of two parts taken together, by target; those of no part at all are empty."""

    def join(one: Range, other: Range) -> Range:
        return {
            "lowest": np.minimum(one["lowest"], other["lowest"]).tolist(),
            "highest": np.maximum(one["highest"], other["highest"]).tolist(),
            "n_labelled": one["n_labelled"] + other["n_labelled"],
            "n_pixels": one["n_pixels"] + other["n_pixels"],
        }

    if a and a.keys() != b.keys():
        raise ValueError(f"the work so far is of {', '.join(a)}, expected {', '.join(b)}.")
    return {name: join(a[name], b[name]) for name in b} if a else b


def check_ranges(ranges: dict[str, Range]) -> None:
    """Refuse a target without a label, or the same everywhere: nothing can be learned from it."""
    for name, found in ranges.items():
        what = f"is the same, {found['lowest']}, at every labelled pixel of"
        if not found["n_labelled"]:
            what = "has no labelled pixel in"
        elif found["lowest"] != found["highest"]:
            continue
        raise ValueError(f"`{name}` {what} the whole set. Fetch its pictures again.")


def check_limits(name: str, values: np.ndarray, lowest: float, highest: float) -> None:
    """Refuse an array with a number outside of its limits, or none but NaN, which is no label."""
    n_rows = max(1, _ROWS // max(1, values[:1].size))
    found = [np.inf, -np.inf]
    for start in range(0, len(values), n_rows):
        part = values[start : start + n_rows]
        part = part.astype(np.float32) if part.dtype == np.float16 else part  # which is slow
        lows, highs = np.fmin.reduce(part, axis=None), np.fmax.reduce(part, axis=None)
        found = [min(found[0], float(lows)), max(found[1], float(highs))]
    if not lowest <= found[0] <= found[1] <= highest:
        what = "no number at all" if found[0] > found[1] else f"{found[0]} to {found[1]}"
        raise ValueError(f"{name} holds {what}, expected {lowest} to {highest}")
