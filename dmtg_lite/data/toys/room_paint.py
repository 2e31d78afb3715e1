"""What the surfaces of drawn rooms look like: a colour for each point of a solid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from dmtg_lite.data.toys.room_parts import TEXTURES
from dmtg_lite.data.toys.room_solids import Solids

_ON_FRONT = [TEXTURES.index(name) for name in ("picture", "clock", "screen", "panels")]


class Spots(NamedTuple):
    """Points on faces: u, v are metres from a corner, a, b run from -1 to 1 across; all (m,)."""

    phase: ndarray
    colour: ndarray  # (3, m)
    accent: ndarray  # (3, m)
    u: ndarray
    v: ndarray
    a: ndarray
    b: ndarray
    width: ndarray  # metres, along u

    def mix(self, share: ndarray | float) -> ndarray:
        """``share`` of the accent in the colour, (3, m)."""
        return self.colour + (self.accent - self.colour) * share


def _column(*values: float) -> ndarray:
    return np.array(values, np.float32)[:, None]


def paint_sky(rays: ndarray) -> ndarray:
    """Blue above, hazy at the horizon, a meadow below: (3, n) for rays (3, n)."""
    up = rays[2] / np.sqrt((rays**2).sum(0))
    haze, blue, green = _column(0.9, 0.95, 0.98), _column(0.52, 0.74, 0.95), _column(0.6, 0.72, 0.5)
    above = haze + (blue - haze) * (up * 3).clip(0, 1)
    return above + (green - above) * (0.5 - up * 60).clip(0, 1)


def paint(solids: Solids, unit: ndarray, face: ndarray) -> ndarray:
    """Colours (3, m) of points ``unit`` (3, m), in half sizes of their solids, on the faces across
    axes ``face`` (m,)."""
    is_on_front = np.isin(solids.texture, _ON_FRONT)
    texture = np.where(is_on_front & (face != 1), 0, solids.texture)
    is_side, is_top, half = face == 0, face == 2, solids.half
    width, height = np.where(is_side, half[1], half[0]), np.where(is_top, half[1], half[2])
    a, b = np.where(is_side, unit[1], unit[0]), np.where(is_top, unit[1], unit[2])
    looks = (solids.phase, solids.colour, solids.accent)
    spots = Spots(*looks, (a + 1) * width, (b + 1) * height, a, b, 2 * width)
    painted = solids.colour.copy()
    for number in np.unique(texture):
        if TEXTURES[number] in _PATTERNS:
            rows = np.flatnonzero(texture == number)
            chosen = Spots(*(np.take(values, rows, -1) for values in spots))
            painted[:, rows] = _PATTERNS[TEXTURES[number]](chosen)
    return painted


def _hash(i: ndarray, j: ndarray) -> ndarray:
    """A number from 0 to 1 for a pair of cells, the same on every machine."""
    mixed = np.floor(i).astype(np.int64) * 73856093 ^ np.floor(j).astype(np.int64) * 19349663
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) * np.float32(1 / 0xFFFF)


def _wall(s: Spots) -> ndarray:
    """Plain, striped or in two tones, with a white skirting board."""
    stripes, two_tone = s.u / 0.3 % 1 < 0.5, s.v < 0.98
    share = np.select([s.phase < 0.5, s.phase < 0.75], [np.zeros(len(s.u)), stripes], two_tone)
    return np.where(s.v < 0.09, np.float32(0.93), s.mix(share))


def _planks(s: Spots) -> ndarray:
    row = np.floor(s.v / 0.16)
    along = s.u + _hash(row, row) * 1.3
    tone = _hash(row, np.floor(along / 1.3))
    grain = 0.05 * np.sin(along * 9 + 6 * tone) * np.sin(s.v * 70 + 9 * tone)
    is_gap = (s.v / 0.16 - row < 0.05) | (along / 1.3 % 1 < 0.012)
    return s.mix(np.where(is_gap, 0.9, 0.45 * tone + grain))


def _tiles(s: Spots) -> ndarray:
    i, j = np.floor(s.u / 0.45), np.floor(s.v / 0.45)
    is_grout = (s.u / 0.45 - i < 0.035) | (s.v / 0.45 - j < 0.035)
    return s.mix(np.where(is_grout, 0.25, (i + j) % 2 * 0.9 + 0.08 * _hash(i, j)))


def _rug(s: Spots) -> ndarray:
    edge = np.maximum(np.abs(s.a), np.abs(s.b))
    diamonds = np.abs((s.a * 3) % 1 - 0.5) + np.abs((s.b * 2) % 1 - 0.5) < 0.27
    bands = (s.b * 4) % 1 < 0.3
    is_inked = np.where(edge < 0.82, np.where(s.phase < 0.5, diamonds, bands), edge < 0.92)
    return s.mix(0.85 * is_inked)


def _spines(s: Spots) -> ndarray:
    """Backs of books side by side, each in its own colour and height."""
    book, shelf = np.floor(s.u / 0.042), s.phase * 1000
    hue = 6.28 * (_hash(book, shelf) + _column(0, 0.35, 0.67))
    cover = (0.42 + 0.3 * _hash(book, shelf + 3) + 0.26 * np.cos(hue)).astype(np.float32)
    is_gap = (s.u / 0.042 - book < 0.1) | (s.b > 0.55 + 0.45 * _hash(book, shelf + 7))
    is_label = np.abs(s.b - 0.3) < 0.07
    return np.where(is_gap, 0.3 * cover, np.where(is_label, 0.5 * cover + 0.4, cover))


def _picture(s: Spots) -> ndarray:
    """A frame, a mat, and hills under a sun."""
    edge, x, y = np.maximum(np.abs(s.a), np.abs(s.b)), s.a / 0.7, s.b / 0.7
    far = y < 0.35 * np.sin(2.2 * x + 9 * s.phase) - 0.25
    near = y < 0.3 * np.sin(3.1 * x + 23 * s.phase) - 0.7
    is_sun = np.hypot(x - 1.2 * (s.phase - 0.5), y - 0.5) < 0.24
    inside = np.where(is_sun, _column(0.98, 0.86, 0.55), 0.25 * s.accent + 0.72)
    inside = np.where(near, 0.75 * s.accent, np.where(far, 0.6 * s.colour + 0.3, inside))
    frame = np.where(s.phase > 0.5, np.float32(0.14), _column(0.52, 0.38, 0.25))
    return np.where(edge > 0.9, frame, np.where(edge > 0.72, np.float32(0.95), inside))


def _clock(s: Spots) -> ndarray:
    radius, angle = np.hypot(s.a, s.b), np.arctan2(s.a, s.b)
    is_inked = (radius > 0.66) & (np.abs((angle * 6 / np.pi + 0.5) % 1 - 0.5) < 0.09)
    for turn, reach in ((s.phase * 6.28, 0.45), (s.phase * 75.4, 0.62)):
        x, y = np.sin(turn), np.cos(turn)
        along = s.a * x + s.b * y
        is_inked |= (np.abs(s.a * y - s.b * x) < 0.05) & (along > -0.08) & (along < reach)
    return s.mix(1.0 * (is_inked | (radius > 0.84)))


def _screen(s: Spots) -> ndarray:
    is_inside = (np.abs(s.a) < 0.94) & (np.abs(s.b) < 0.9)
    return s.mix(np.where(is_inside, 0.55 + 0.35 * (0.6 * s.a + 0.5 * s.b), 0))


def _panels(s: Spots) -> ndarray:
    """Doors or drawers, half a metre wide, in ``phase`` rows; with knobs unless it is negative."""
    columns = np.maximum(1, np.round(s.width / 0.5))
    x, y = (s.a + 1) / 2 * columns % 1, (s.b + 1) / 2 * np.abs(s.phase) % 1
    is_gap = np.minimum(x, 1 - x) < 0.012 * columns / s.width
    is_gap |= np.minimum(y, 1 - y) < 0.02 * np.abs(s.phase)
    is_knob = (np.abs(x - 0.5) < 0.06) & (np.abs(y - 0.8) < 0.03 * s.phase)
    return s.mix(np.where(is_gap | is_knob, 0.8, 0))


_PATTERNS = {
    "wood": lambda s: s.mix(0.2 + 0.2 * np.sin(s.v * 60 + 2 * np.sin(s.u * 5))),
    "speckle": lambda s: s.mix(s.phase * _hash(s.u / 0.04, s.v / 0.04)),
    "curtain": lambda s: s.mix(0.35 + 0.35 * np.sin(s.u * 55)),
    "wall": _wall,
    "planks": _planks,
    "tiles": _tiles,
    "rug": _rug,
    "spines": _spines,
    "picture": _picture,
    "clock": _clock,
    "screen": _screen,
    "panels": _panels,
}
