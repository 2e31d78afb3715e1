"""Lowest and highest value of each target, measured part by part, to refuse what is constant."""

from __future__ import annotations

import numpy as np


def measure_range(values: np.ndarray, is_labelled: np.ndarray) -> dict:
    """Range of every channel of ``values`` (..., C) where ``is_labelled`` (...) says so."""
    labelled = values[is_labelled].astype(np.float64)  # (m, C)
    return {
        "lowest": labelled.min(0, initial=np.inf).tolist(),
        "highest": labelled.max(0, initial=-np.inf).tolist(),
        "n_labelled": len(labelled),
        "n_pixels": is_labelled.size,
    }


def join_ranges(a: dict[str, dict], b: dict[str, dict]) -> dict[str, dict]:
    """The ranges of two parts taken together, by target; those of no part at all are empty."""

    def join(one: dict, other: dict) -> dict:
        return {
            "lowest": np.minimum(one["lowest"], other["lowest"]).tolist(),
            "highest": np.maximum(one["highest"], other["highest"]).tolist(),
            "n_labelled": one["n_labelled"] + other["n_labelled"],
            "n_pixels": one["n_pixels"] + other["n_pixels"],
        }

    return {name: join(a[name], b[name]) for name in b} if a else b


def check_ranges(ranges: dict[str, dict]) -> None:
    """Refuse a target without a label, or the same everywhere: nothing can be learned from it."""
    for name, found in ranges.items():
        what = f"is the same, {found['lowest']}, at every labelled pixel of"
        if not found["n_labelled"]:
            what = "has no labelled pixel in"
        elif found["lowest"] != found["highest"]:
            continue
        raise ValueError(f"`{name}` {what} the whole set. Fetch its pictures again.")
