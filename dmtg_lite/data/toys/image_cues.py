"""What can be computed from any picture: how much a pixel is a corner, and how much an edge.

Taskonomy's keypoints2d and edge_texture are such responses before any thinning (SURF and Canny
without non-maximum suppression); these are the same ideas, not the same code.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray

# Counts per unit of response, set on drawn rooms so that the means are near those of Taskonomy's
# files (70 of 65535 for keypoints, 1100 for edges).
KEYPOINT_COUNTS = 8_000
EDGE_COUNTS = 36_000


def compute_keypoints(gray: ndarray) -> ndarray:
    """How strongly brightness bends where it bends in all directions: at spots and corners, not at
    edges. The square root of the determinant of the Hessian, 0 where that is negative.

    Brightness from 0 to 1, float (..., H, W) -> uint16 (..., H, W), counts of 65535. The scale
    follows the width of the picture, so small and large pictures of one scene look alike.

    Source:
        Bay et al., SURF (ECCV 2006), with Gaussian derivatives instead of box filters.
    """
    sigma = _scale(gray, per_width=1 / 40)
    xx, yy, xy = (_derive(gray, sigma, *orders) for orders in ((2, 0), (0, 2), (1, 1)))
    response = sigma**2 * np.sqrt(np.maximum(xx * yy - xy**2, 0))  # sigma: at any size alike
    return (KEYPOINT_COUNTS * response + 0.5).clip(0, 65535).astype(np.uint16)


def compute_edges(gray: ndarray) -> ndarray:
    """The length of the gradient of the smoothed picture; the outermost ring of pixels is 0.

    Shapes, units and scale as for keypoints.

    Source:
        Canny (1986), its first stage.
    """
    sigma = _scale(gray, per_width=1 / 100)
    slope = np.hypot(_derive(gray, sigma, 1, 0), _derive(gray, sigma, 0, 1))
    counts = (EDGE_COUNTS * sigma * slope + 0.5).clip(0, 65535).astype(np.uint16)
    counts[..., [0, -1], :] = 0
    counts[..., :, [0, -1]] = 0
    return counts


def _scale(gray: ndarray, per_width: float) -> float:
    """Standard deviation of the smoothing in pixels; a grid cannot hold a Gaussian below 0.7."""
    return max(0.7, gray.shape[-1] * per_width)


def _derive(gray: ndarray, sigma: float, across: int, down: int) -> ndarray:
    """Smooth with a Gaussian and derive 0 to 2 times in either direction; edges repeat."""
    radius = int(np.ceil(3.5 * sigma))
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    spread = (x**2 * kernel).sum()
    bend = (x**2 - spread) * kernel
    # A ramp of slope 1 answers exactly 1 to the second kernel, x squared exactly 2 to the third.
    kernels = (kernel, x * kernel / spread, bend * 2 / (x**2 * bend).sum())
    for axis, order in ((-1, across), (-2, down)):
        padding = [(0, 0)] * gray.ndim
        padding[axis] = (radius, radius)
        padded, result = np.pad(gray, padding, mode="edge"), np.zeros_like(gray)
        for start, weight in enumerate(kernels[order].astype(gray.dtype)):
            at = slice(start, start + gray.shape[axis])
            result += weight * (padded[..., at] if axis == -1 else padded[..., at, :])
        gray = result
    return gray
