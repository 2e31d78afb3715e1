"""Soft shapes painted with numpy, on many pictures at once. What to paint is `faces`, and
`stand_ins.celeba`.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike


def column(values: ArrayLike) -> ndarray:
    """One number a picture, (n, 1, 1)."""
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def mix(first: ArrayLike, second: ArrayLike, share: ArrayLike) -> ndarray:
    """Colours between two, (n, 3, 1, 1)."""
    first, second = (np.asarray(c, np.float32).reshape(-1, 3, 1, 1) for c in (first, second))
    return first + (second - first) * column(share)[:, None]


class Canvas:
    """Pictures, float32 (n, 3, H, W), painted from back to front.

    A shape is an array that broadcasts to (H, W): roughly the distance to an edge, negative inside.
    Away from the middle shapes come in pairs, left and right.

    Args:
        x, y: Where the columns (W,) and rows (H,) of pixels are; y points down.
        pixels: The background; painted over in place.
    """

    def __init__(self, x: ndarray, y: ndarray, pixels: ndarray, *, pixel: float) -> None:
        self.x, self.y, self.side = x[None, :], y[:, None], np.abs(x[None, :])
        self.pixels, self.pixel = pixels, pixel

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> ndarray:
        u = self.side if cx else self.x
        return (np.hypot((u - cx) / rx, (self.y - cy) / ry) - 1) * min(rx, ry)

    def pill(self, cx: float, cy: float, half: float) -> ndarray:
        """Distance to a horizontal line from cx - half to cx + half; exact, so it may grow."""
        u = self.side if cx else self.x
        return np.hypot(np.maximum(np.abs(u - cx) - half, 0), self.y - cy)

    def lens(self, cx: float, cy: float, half: float, tall: float, bend: float = 0.0) -> ndarray:
        """A leaf with tips at cx - half and cx + half, which lie lower by ``bend``."""
        u = np.abs((self.side if cx else self.x) - cx)
        q = (u / half) ** 2
        return np.maximum(np.abs(self.y - cy - bend * q) - tall * (1 - q), u - half)

    def line(self, x0: float, y0: float, x1: float, y1: float) -> ndarray:
        """Distance to a line on the right, and to its mirror image."""
        dx, dy = x1 - x0, y1 - y0
        share = ((self.side - x0) * dx + (self.y - y0) * dy) / (dx**2 + dy**2)
        share = share.clip(0, 1)
        return np.hypot(self.side - x0 - share * dx, self.y - y0 - share * dy)

    def paint(
        self,
        colour: ArrayLike,
        opacity: ArrayLike,
        *shapes: tuple[ndarray, ArrayLike],
        blur: float = 0.0,
    ) -> None:
        """Blend a colour into the overlap of shapes, each grown by so much; edges are a pixel or
        ``blur`` soft. Colour (n, 3, 1, 1), opacity and growth (n,), or one for all."""
        edge = max(self.pixel, blur)
        size = self.pixels.shape[2:]
        touched = np.ones(size, bool)
        for distance, growth in shapes:
            touched &= distance < np.max(growth) + edge
        if not touched.any():
            return
        rows, columns = (np.flatnonzero(touched.any(axis)) for axis in (1, 0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask = column(opacity)
        for distance, growth in shapes:
            distance = np.broadcast_to(distance, size)[window]
            mask = mask * ((column(growth) - distance) / edge + 0.5).clip(0, 1)
        under = self.pixels[(slice(None), slice(None), *window)]
        under += mask[:, None] * (colour - under)
