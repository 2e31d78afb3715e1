"""A small drawing board over Pillow: smooth shapes, lines and soft spots in face coordinates.

It knows nothing about faces; what to draw is `fake_celeba`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from dmtg_lite.data.celeba.images import HEIGHT, WIDTH

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SCALE = 2  # drawn larger, then averaged: smooth edges
CENTRE = (89.0, 111.0)  # between the eyes, where CelebA's alignment puts them
Colour = tuple[int, int, int]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """``share`` of ``b`` in ``a``."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def dark(colour: Colour, share: float) -> Colour:
    return mix(colour, (20, 12, 16), share)


def light(colour: Colour, share: float) -> Colour:
    return mix(colour, (255, 250, 244), share)


def smooth(points: np.ndarray, *, closed: bool = True, rounds: int = 3) -> np.ndarray:
    """Cut corners (Chaikin): a few control points (m, 2) become a smooth outline."""
    for _ in range(rounds):
        after = np.roll(points, -1, 0) if closed else points[1:]
        before = points if closed else points[:-1]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], 1).reshape(
            -1, 2
        )
        points = cut if closed else np.concatenate([points[:1], cut, points[-1:]])
    return points


def mirror(right: list[tuple[float, float]]) -> np.ndarray:
    """A symmetric outline from its right half, top to bottom."""
    half = np.array(right, float)
    left = half[::-1] * (-1, 1)
    return np.concatenate([half, left])


@lru_cache(maxsize=64)
def _soft_disc(width: int, height: int, strength: int) -> Image.Image:
    from PIL import Image

    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return Image.fromarray((strength * np.clip(1 - x**2 - y**2, 0, 1) ** 1.2).astype(np.uint8))


class Canvas:
    """A drawing in face coordinates: pixels of the final image, origin between the eyes."""

    def __init__(self, top: Colour, bottom: Colour) -> None:
        from PIL import Image, ImageDraw

        ends = np.array([top, bottom], np.uint8)[:, None]
        self.image = Image.fromarray(ends).resize(
            (WIDTH * SCALE, HEIGHT * SCALE), Image.Resampling.BILINEAR
        )
        self.pen: ImageDraw.ImageDraw = ImageDraw.Draw(self.image)

    def place(self, points: np.ndarray) -> list[float]:
        return ((np.asarray(points, float) + CENTRE) * SCALE).ravel().tolist()

    def shape(self, points: np.ndarray | list, colour: Colour, *, rounds: int = 3) -> None:
        self.pen.polygon(self.place(smooth(np.asarray(points, float), rounds=rounds)), fill=colour)

    def line(self, points: np.ndarray | list, colour: Colour, width: float) -> None:
        curve = smooth(np.asarray(points, float), closed=False)
        self.pen.line(
            self.place(curve), fill=colour, width=max(1, round(width * SCALE)), joint="curve"
        )

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour | None, *,
                outline: Colour | None = None, width: float = 0) -> None:  # fmt: skip
        box = self.place(np.array([[x - rx, y - ry], [x + rx, y + ry]]))
        self.pen.ellipse(box, fill=colour, outline=outline, width=round(width * SCALE))

    def glow(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, strength: float
    ) -> None:
        """A soft spot, ``strength`` of ``colour`` in its middle."""
        mask = _soft_disc(2 * round(rx) * SCALE, 2 * round(ry) * SCALE, round(255 * strength))
        corner = ((np.array([x, y]) + CENTRE) * SCALE - np.array(mask.size) / 2).round().astype(int)
        self.image.paste(colour, tuple(corner.tolist()), mask)
