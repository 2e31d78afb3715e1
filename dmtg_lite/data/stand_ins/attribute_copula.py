"""Random 0/1 attributes with CelebA's positive rates and correlations: a thresholded Gaussian.

Only aggregate statistics of CelebA's training split are used (``celeba_attribute_stats.json``); no
label row of CelebA is in them or comes out. What the attributes look like is `fake_celeba`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from statistics import NormalDist

import numpy as np


def load_statistics() -> dict[str, np.ndarray | list[str]]:
    """``names`` (40), ``positive_rate`` (40,) and ``correlation`` (40, 40) of the attributes."""
    raw = json.loads(
        files("dmtg_lite.data.stand_ins").joinpath("celeba_attribute_stats.json").read_text()
    )
    return {
        "names": raw["names"],
        "positive_rate": np.array(raw["positive_rate"]),
        "correlation": np.array(raw["correlation"]),
    }


def solve_latent_correlation(positive_rate: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Correlations of the Gaussian whose signs have the given rates and correlations.

    For each pair, P(both positive) grows with the latent correlation sin(t) and is
    p q + 1/(2 pi) times the integral from 0 to t of exp(-(a^2 + b^2 - 2 a b sin u) / (2 cos^2 u))
    du,
    so t is found by bisection. Pairs solved one by one need not fit together: negative
    eigenvalues are set to 0 and the diagonal to 1 again, which moves the correlations a little.

    Args:
        positive_rate: (A,), between 0 and 1.
        correlation: Of the 0/1 variables, shape (A, A).

    Returns:
        Positive semi-definite correlation matrix, shape (A, A).
    """
    p = np.asarray(positive_rate)
    cut = np.array([NormalDist().inv_cdf(rate) for rate in p])  # attribute = normal < cut
    a, b = cut[:, None], cut[None, :]
    spread = np.sqrt(p * (1 - p))
    wanted = correlation * np.outer(spread, spread)  # P(both) - p q
    nodes, weights = np.polynomial.legendre.leggauss(32)

    def excess(t: np.ndarray) -> np.ndarray:
        u = t[..., None] * (nodes + 1) / 2
        density = np.exp(
            -((a**2 + b**2)[..., None] - 2 * (a * b)[..., None] * np.sin(u)) / (2 * np.cos(u) ** 2)
        )
        return (density * weights).sum(-1) * t / 2 / (2 * np.pi)

    low, high = np.full(wanted.shape, -1.55), np.full(wanted.shape, 1.55)  # arcsin of +-0.9998
    for _ in range(24):
        middle = (low + high) / 2
        is_below = excess(middle) < wanted
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    latent = np.sin((low + high) / 2)
    np.fill_diagonal(latent, 1.0)
    values, vectors = np.linalg.eigh((latent + latent.T) / 2)
    latent = (vectors * values.clip(0)) @ vectors.T
    scale = np.sqrt(np.diag(latent))
    return latent / np.outer(scale, scale)


@lru_cache(maxsize=1)
def _celeba() -> tuple[np.ndarray, np.ndarray]:
    statistics = load_statistics()
    latent = solve_latent_correlation(statistics["positive_rate"], statistics["correlation"])
    values, vectors = np.linalg.eigh(latent)
    factor = vectors * np.sqrt(values.clip(0))  # (40, 40): factor @ normal has this covariance
    return factor, np.array([NormalDist().inv_cdf(rate) for rate in statistics["positive_rate"]])


def sample_attributes(n: int, *, seed: int = 0) -> np.ndarray:
    """Draw ``n`` rows of the 40 attributes: uint8 (n, 40) of 0 and 1, columns in the official
    order.

    Rates are CelebA's within sampling noise; correlations within about 0.1 (measured in
    ``tests/test_fake_celeba.py``).
    """
    factor, cut = _celeba()
    normal = np.random.default_rng(seed).standard_normal((n, len(cut)))
    return (normal @ factor.T < cut).astype(np.uint8)
