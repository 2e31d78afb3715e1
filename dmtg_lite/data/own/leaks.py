"""Features that give a target away: the same column under another name, scale or sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LEAST = 5  # rows of the rarer side: fewer agree by chance
_EQUAL = 1 - 1e-9  # a correlation that is 1 but for rounding


def check_leaks(features: np.ndarray, names: Sequence[str], targets: dict[str, np.ndarray]) -> None:
    """Refuse a feature that is a target, or one class of it, up to scale and sign.

    Args:
        features: As the network sees them, (n, D).
        targets: Class numbers with -1, or numbers with nan, (n,) each.

    Raises:
        ValueError: With both names.
    """
    for name, values in targets.items():
        known = values >= 0 if values.dtype.kind == "i" else ~np.isnan(values)
        wanted = _list_codes(values[known])
        if not len(wanted):
            continue
        rows = np.flatnonzero(known)
        few = rows[:: max(1, len(rows) // 500)]  # the others only if these agree
        candidates = _find_equal(features[few], values[few], np.arange(features.shape[1]))
        if len(candidates):
            candidates = _find_equal(features[rows], values[rows], candidates)
        for index in candidates:
            raise ValueError(
                f"feature {names[index]!r} is the target {name!r}, up to scale and sign: nothing "
                "would have to be learned. Leave this column out of the features."
            )


def _list_codes(values: np.ndarray) -> list[np.ndarray]:
    """A target as columns: as it is, and each class against the others."""
    if values.dtype.kind != "i":
        return [values] if len(values) >= _LEAST else []
    counts = np.bincount(values)
    fair = [k for k, count in enumerate(counts) if _LEAST <= count <= len(values) - _LEAST]
    columns = [values == k for k in fair]
    return [*columns, values] if fair else []


def _find_equal(features: np.ndarray, values: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Those of some features that correlate perfectly with a target or one class of it."""
    found = np.zeros(len(which), bool)
    centred = features[:, which].astype(np.float64)
    centred -= centred.mean(0)
    norms = np.sqrt((centred**2).sum(0))
    for code in _list_codes(values):
        code = code.astype(np.float64) - code.mean()
        correlation = np.abs(code @ centred)
        scale = norms * np.sqrt((code**2).sum())
        found |= (scale > 0) & (correlation >= _EQUAL * scale)
    return which[found]
