"""What the surfaces of drawn rooms look like: a colour for each point of a part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from dmtg_lite.data.toys.room_parts import Part

_ON_FRONT = ("picture", "clock", "screen", "panels")  # the other faces are plain


class Spots(NamedTuple):
    """Points on faces: u, v are metres from a corner, a, b run from -1 to 1 across; all (m,)."""

    u: ndarray
    v: ndarray
    a: ndarray
    b: ndarray
    width: ndarray  # metres, along u


def paint(part: Part, unit: ndarray, face: ndarray) -> ndarray:
    """Colours (3, m) of points ``unit`` (3, m), in half sizes, on faces across ``face`` (m,)."""
    if part.texture not in _PATTERNS:
        return _blend(part, 0.0)
    half, is_side, is_top = part.half, face == 0, face == 2
    width, height = np.where(is_side, half[1], half[0]), np.where(is_top, half[1], half[2])
    a, b = np.where(is_side, unit[1], unit[0]), np.where(is_top, unit[1], unit[2])
    spots = Spots((a + 1) * width, (b + 1) * height, a, b, 2 * width)
    painted = _PATTERNS[part.texture](part, spots)
    painted = painted if painted.ndim == 2 else _blend(part, painted)
    return np.where((face != 1) & (part.texture in _ON_FRONT), _blend(part, 0.0), painted)


def paint_sky(rays: ndarray) -> ndarray:
    """Blue above, hazy at the horizon, a meadow below: (3, n) for rays (3, n)."""
    up = rays[2] / np.sqrt((rays**2).sum(0))
    haze, blue, green = _column(0.9, 0.95, 0.98), _column(0.52, 0.74, 0.95), _column(0.6, 0.72, 0.5)
    above = haze + (blue - haze) * (up * 3).clip(0, 1)
    return above + (green - above) * (0.5 - up * 60).clip(0, 1)


def _column(*values: float) -> ndarray:
    return np.array(values)[:, None]


def _blend(part: Part, share: ndarray | float) -> ndarray:
    """``share`` of a part's accent in its colour, (3, m)."""
    colour, accent = _column(*part.colour), _column(*part.accent)
    return colour + (accent - colour) * share


def _hash(i: ndarray, j: ndarray | float) -> ndarray:
    """A number from 0 to 1 for a pair of cells, the same on every machine."""
    mixed = np.floor(i).astype(np.int64) * 73856093 ^ np.floor(j).astype(np.int64) * 19349663
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) / 0xFFFF


# Each gives the share of the part's accent in its colour, (m,), or colours, (3, m).


def _wall(part: Part, s: Spots) -> ndarray:
    """Plain, striped or in two tones, with a white skirting board."""
    share = s.u / 0.3 % 1 < 0.5 if part.phase < 0.75 else s.v < 0.98
    return np.where(s.v < 0.09, 0.93, _blend(part, share * (part.phase > 0.5)))


def _planks(part: Part, s: Spots) -> ndarray:
    row = np.floor(s.v / 0.16)
    along = s.u + _hash(row, row) * 1.3
    tone = _hash(row, np.floor(along / 1.3))
    grain = 0.05 * np.sin(along * 9 + 6 * tone) * np.sin(s.v * 70 + 9 * tone)
    is_gap = (s.v / 0.16 - row < 0.05) | (along / 1.3 % 1 < 0.012)
    return np.where(is_gap, 0.9, 0.45 * tone + grain)


def _tiles(part: Part, s: Spots) -> ndarray:
    i, j = np.floor(s.u / 0.45), np.floor(s.v / 0.45)
    is_grout = (s.u / 0.45 - i < 0.035) | (s.v / 0.45 - j < 0.035)
    return np.where(is_grout, 0.25, (i + j) % 2 * 0.9 + 0.08 * _hash(i, j))


def _rug(part: Part, s: Spots) -> ndarray:
    edge = np.maximum(np.abs(s.a), np.abs(s.b))
    diamonds = np.abs((s.a * 3) % 1 - 0.5) + np.abs((s.b * 2) % 1 - 0.5) < 0.27
    inner = diamonds if part.phase < 0.5 else (s.b * 4) % 1 < 0.3
    return 0.85 * np.where(edge < 0.82, inner, edge < 0.92)


def _spines(part: Part, s: Spots) -> ndarray:
    """Backs of books side by side, each in its own colour and height."""
    book, shelf = np.floor(s.u / 0.042), part.phase * 1000
    hue = 6.28 * (_hash(book, shelf) + _column(0, 0.35, 0.67))
    cover = 0.42 + 0.3 * _hash(book, shelf + 3) + 0.26 * np.cos(hue)
    is_gap = (s.u / 0.042 - book < 0.1) | (s.b > 0.55 + 0.45 * _hash(book, shelf + 7))
    return np.where(is_gap, 0.3 * cover, cover)


def _picture(part: Part, s: Spots) -> ndarray:
    """A frame, a mat, and hills under a sun."""
    edge, x, y = np.maximum(np.abs(s.a), np.abs(s.b)), s.a / 0.7, s.b / 0.7
    colour, accent, phase = _column(*part.colour), _column(*part.accent), part.phase
    is_near = y < 0.3 * np.sin(3.1 * x + 23 * phase) - 0.7
    is_far = y < 0.35 * np.sin(2.2 * x + 9 * phase) - 0.25
    is_sun = np.hypot(x - 1.2 * (phase - 0.5), y - 0.5) < 0.24
    frame = _column(0.14, 0.14, 0.14) if phase > 0.5 else _column(0.52, 0.38, 0.25)
    layers = [edge > 0.9, edge > 0.72, is_near, is_far, is_sun]
    colours = [frame, _column(0.95, 0.95, 0.95), 0.75 * accent, 0.6 * colour + 0.3]
    return np.select(layers, [*colours, _column(0.98, 0.86, 0.55)], 0.25 * accent + 0.72)


def _clock(part: Part, s: Spots) -> ndarray:
    radius, angle = np.hypot(s.a, s.b), np.arctan2(s.a, s.b)
    is_inked = (radius > 0.66) & (np.abs((angle * 6 / np.pi + 0.5) % 1 - 0.5) < 0.09)
    for turn, reach in ((part.phase * 6.28, 0.45), (part.phase * 75.4, 0.62)):
        x, y = np.sin(turn), np.cos(turn)
        along = s.a * x + s.b * y
        is_inked |= (np.abs(s.a * y - s.b * x) < 0.05) & (along > -0.08) & (along < reach)
    return 1.0 * (is_inked | (radius > 0.84))


def _screen(part: Part, s: Spots) -> ndarray:
    is_inside = (np.abs(s.a) < 0.94) & (np.abs(s.b) < 0.9)
    return is_inside * (0.55 + 0.21 * s.a + 0.175 * s.b)


def _panels(part: Part, s: Spots) -> ndarray:
    """Doors or drawers, half a metre wide, in ``phase`` rows; with knobs unless it is negative."""
    columns, rows = np.maximum(1, np.round(s.width / 0.5)), abs(part.phase)
    x, y = (s.a + 1) / 2 * columns % 1, (s.b + 1) / 2 * rows % 1
    is_gap = np.minimum(x, 1 - x) < 0.012 * columns / s.width
    is_gap |= np.minimum(y, 1 - y) < 0.02 * rows
    is_knob = (np.abs(x - 0.5) < 0.06) & (np.abs(y - 0.8) < 0.03 * part.phase)
    return 0.8 * (is_gap | is_knob)


_PATTERNS = {
    "wood": lambda part, s: 0.2 + 0.2 * np.sin(s.v * 60 + 2 * np.sin(s.u * 5)),
    "speckle": lambda part, s: part.phase * _hash(s.u / 0.04, s.v / 0.04),
    "curtain": lambda part, s: 0.35 + 0.35 * np.sin(s.u * 55),
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
