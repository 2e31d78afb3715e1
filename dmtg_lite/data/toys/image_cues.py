"""Two things that can be computed from any picture: how much a pixel is a corner, and how much an
edge.

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
    edges.

    The square root of the determinant of the Hessian, that is the geometric mean of the two
    principal curvatures, and 0 where the determinant is negative.

    Args:
        gray: Brightness from 0 to 1, float, shape (..., H, W).

    Returns:
        uint16, shape (..., H, W), counts of 65535. The scale follows the width of the picture, so
        small and large pictures of one scene look alike.

    Source:
        Bay et al., SURF (ECCV 2006), with Gaussian derivatives instead of box filters.
    """
    sigma = _scale(gray, per_width=1 / 40)
    xx = _filter(_filter(gray, sigma, -1, 2), sigma, -2, 0)
    yy = _filter(_filter(gray, sigma, -1, 0), sigma, -2, 2)
    xy = _filter(_filter(gray, sigma, -1, 1), sigma, -2, 1)
    response = sigma**2 * np.sqrt(
        np.maximum(xx * yy - xy**2, 0)
    )  # sigma: large pictures respond alike
    return (KEYPOINT_COUNTS * response + 0.5).clip(0, 65535).astype(np.uint16)


def compute_edges(gray: ndarray) -> ndarray:
    """The length of the gradient of the smoothed picture; the outermost ring of pixels is 0.

    Args:
        gray: Brightness from 0 to 1, float, shape (..., H, W).

    Returns:
        uint16, shape (..., H, W), counts of 65535; the scale follows the width as for keypoints.

    Source:
        Canny (1986), its first stage.
    """
    sigma = _scale(gray, per_width=1 / 100)
    across = _filter(_filter(gray, sigma, -1, 1), sigma, -2, 0)
    down = _filter(_filter(gray, sigma, -1, 0), sigma, -2, 1)
    response = EDGE_COUNTS * sigma * np.hypot(across, down)
    counts = (response + 0.5).clip(0, 65535).astype(np.uint16)
    counts[..., [0, -1], :] = 0
    counts[..., :, [0, -1]] = 0
    return counts


def _scale(gray: ndarray, per_width: float) -> float:
    """Standard deviation of the smoothing in pixels; below 0.7 a pixel grid cannot hold a Gaussian."""
    return max(0.7, gray.shape[-1] * per_width)


def _filter(picture: ndarray, sigma: float, axis: int, order: int) -> ndarray:
    """Smooth along an axis with a Gaussian (order 0) or its first or second derivative; edges repeat."""
    radius = int(np.ceil(3.5 * sigma))
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    if order == 1:
        kernel = x * kernel / (x**2 * kernel).sum()  # a ramp of slope 1 answers exactly 1
    elif order == 2:
        kernel = (x**2 - (x**2 * kernel).sum()) * kernel  # flat and ramps: 0
        kernel *= 2 / (x**2 * kernel).sum()  # x squared answers exactly 2
    width = picture.shape[axis]
    padding = [(0, 0)] * picture.ndim
    padding[axis] = (radius, radius)
    padded = np.pad(picture, padding, mode="edge")
    result = np.zeros_like(picture)
    window = [slice(None)] * picture.ndim
    for start, weight in enumerate(kernel.astype(picture.dtype)):
        window[axis] = slice(start, start + width)
        result += weight * padded[tuple(window)]
    return result
