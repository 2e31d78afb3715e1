"""Solve for the Gaussian whose signs have CelebA's positive rates and correlations, and store it
beside them.

For each pair, P(both positive) grows with the correlation of the Gaussian, so that is found by
bisection. Pairs solved one by one need not fit together: negative eigenvalues are set to 0 and the
diagonal to 1 again, which moves the correlations a little.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

import dmtg_lite.data.stand_ins as stand_ins


def solve_latent_correlation(positive_rate: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """Rates (A,) between 0 and 1 and correlations (A, A) of 0/1 variables, to correlations of the
    Gaussian, positive semi-definite, (A, A)."""
    cut, spread = norm.ppf(positive_rate), np.sqrt(positive_rate * (1 - positive_rate))
    latent = np.eye(len(cut))
    for a, b in combinations(range(len(cut)), 2):
        both = correlation[a, b] * spread[a] * spread[b] + positive_rate[a] * positive_rate[b]

        def excess(r: float, cuts: np.ndarray = cut[[a, b]], both: float = both) -> float:
            return float(multivariate_normal.cdf(cuts, cov=[[1, r], [r, 1]])) - both

        ends = -0.9998, 0.9998  # pairs that exclude each other ask for more than there is
        is_inside = excess(ends[0]) < 0 < excess(ends[1])
        latent[a, b] = brentq(excess, *ends) if is_inside else ends[int(excess(ends[1]) <= 0)]
        latent[b, a] = latent[a, b]
    values, vectors = np.linalg.eigh(latent)
    latent = (vectors * values.clip(0)) @ vectors.T
    scale = np.sqrt(np.diag(latent))
    return latent / np.outer(scale, scale)


def main() -> None:
    path = Path(stand_ins.__file__).with_name("celeba_attributes.npz")
    with np.load(path, allow_pickle=False) as arrays:
        rate, correlation = arrays["positive_rate"], arrays["correlation"]
    values, vectors = np.linalg.eigh(solve_latent_correlation(rate, correlation))
    factor = vectors * np.sqrt(values.clip(0))  # factor @ normal has this covariance
    np.savez_compressed(path, positive_rate=rate, correlation=correlation, factor=factor)


if __name__ == "__main__":
    main()
