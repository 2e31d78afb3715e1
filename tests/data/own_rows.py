"""A few rows of everything, drawn from a seed: what the tests of own data hand over."""

from __future__ import annotations

import numpy as np
import pandas

N = 60
LINE = np.linspace(-1, 1, N)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, float64 (N, *shape)."""
    return np.random.default_rng(seed).normal(size=(N, *shape))


def draw_bytes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, *shape), dtype=np.uint8)


def ask(seed: int = 1) -> dict[str, np.ndarray]:
    """One task of each kind: two classes by name, four by number, one number."""
    rng = np.random.default_rng(seed)
    return {
        "ill": rng.permutation(np.repeat(["yes", "no"], N // 2)),
        "grade": rng.permutation(np.repeat([1, 2, 3, 4], N // 4)),
        "weight": rng.normal(70, 10, N).round(2),
    }


def make_frame() -> pandas.DataFrame:
    """A table with numbers, yes/no, text and an ordered category."""
    rng = np.random.default_rng(2)
    return pandas.DataFrame(
        {
            "age": rng.integers(18, 80, N),
            "height": rng.normal(1.7, 0.1, N),
            "smoker": rng.permutation(np.repeat([True, False], N // 2)),
            "colour": rng.permutation(np.repeat(["red", "green", "blue"], N // 3)),
            "size": pandas.Categorical(
                rng.permutation(np.repeat(["S", "M", "L"], N // 3)), ["S", "M", "L"], ordered=True
            ),
        }
    )
