"""Where rays hit solids, exactly: slabs for boxes, a quadratic for round ones.

Vectors are columns, shape (3, n): numpy works along the long axis then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from dmtg_lite.data.toys.room_parts import BALL, BOX, Part

_CORNERS = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), np.float32).reshape(3, 8, 1)  # of a box
TINY = np.float32(1e-9)


class Solids(NamedTuple):
    """The parts of a room, boxes first, as arrays of P; measures are float32."""

    shape: ndarray  # (P,)
    centre: ndarray  # (3, P)
    half: ndarray  # (3, P)
    colour: ndarray  # (3, P)
    accent: ndarray  # (3, P)
    class_id: ndarray  # (P,)
    texture: ndarray  # (P,)
    yaw: ndarray  # (P,)
    taper: ndarray  # (P,)
    phase: ndarray  # (P,)
    frame: ndarray  # (5, P), `to_unit`
    profile: ndarray  # (3, P), A, B, C: round ones have x^2 + y^2 = A + B z + C z^2 in their units

    def take(self, part: ndarray) -> Solids:
        return Solids(*(np.take(values, part, -1) for values in self))

    def corners(self) -> ndarray:
        """Of the boxes around the solids, (3, 8, P)."""
        wide, cos, sin = np.maximum(1, self.taper), np.cos(self.yaw), np.sin(self.yaw)
        x, y, z = _CORNERS * (self.half * [wide, wide, np.ones_like(wide)])[:, None]
        return self.centre[:, None] + np.stack([cos * x - sin * y, sin * x + cos * y, z])


def pack(parts: tuple[Part, ...]) -> Solids:
    columns = zip(*sorted(parts, key=lambda part: part.shape), strict=True)  # the shell stays first
    arrays = (np.array(column).T for column in columns)
    arrays = [a if a.dtype == np.int64 else a.astype(np.float32) for a in arrays]
    shape, _, half, *_, yaw, taper, _ = arrays
    cos, sin, one = np.cos(yaw), np.sin(yaw), np.ones_like(yaw)
    frame = np.stack([cos, sin, -sin, cos, one]) / half[[0, 0, 1, 1, 2]]
    level, slope = (taper + 1) / 2, (taper - 1) / 2
    profile = np.stack([level**2, 2 * level * slope, np.where(shape == BALL, -one, slope**2)])
    named = dict(zip(Part._fields, arrays, strict=True))
    return Solids(**named, frame=frame, profile=profile)


def to_unit(frame: ndarray, vector: ndarray) -> ndarray:
    """Turn vectors (3, m) into the axes of solids and measure them in their half sizes."""
    x, y, z = vector
    return np.stack([frame[0] * x + frame[1] * y, frame[2] * x + frame[3] * y, frame[4] * z])


def _length(vector: ndarray) -> ndarray:
    return np.sqrt((vector**2).sum(0))


def cast(solids: Solids, apex: ndarray, rays: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Where rays (3, n) from an apex (3, 1) enter solids: entries as shares of rays, solids, rays.

    Seen from the apex a solid lies in a cone around the directions of its corners: only the m pairs
    of a solid and a ray inside are tried. All (m,), ordered by solid; infinite where it is missed.
    """
    corners = solids.corners() - apex[:, None]  # (3, 8, P)
    corners /= _length(corners)
    axis = corners.mean(1)
    axis /= _length(axis)
    angle = np.arccos((axis[:, None] * corners).sum(0).min(0).clip(-1, 1)) + 1e-3
    cosine = np.where(angle < np.pi / 2, np.cos(angle), -2)  # too close to tell: every ray
    is_near = axis.T @ (rays / _length(rays)) > cosine[:, None]  # (P, n)
    solid = np.repeat(np.arange(len(angle)), np.count_nonzero(is_near, 1))
    ray = np.flatnonzero(is_near) - solid * rays.shape[1]
    start = np.take(to_unit(solids.frame, apex - solids.centre), solid, -1)
    way = to_unit(np.take(solids.frame, solid, -1), np.take(rays, ray, -1))
    way[way == 0] = TINY
    n = np.searchsorted(solid, np.searchsorted(solids.shape, BOX, "right"))  # pairs with a box
    boxes = _enter_box(start[:, :n], way[:, :n])
    profile = np.take(solids.profile, solid[n:], -1)
    rounds = _enter_round(start[:, n:], way[:, n:], profile)
    return np.concatenate([boxes, rounds]), solid, ray


def _enter_box(start: ndarray, way: ndarray) -> ndarray:
    """Where rays (3, m) enter the box from -1 to 1 between three pairs of planes: (m,)."""
    inverse = 1 / way
    middle, reach = -start * inverse, np.abs(inverse)
    first, last = (middle - reach).max(0), (middle + reach).min(0)
    return np.where((first < last) & (first > 0), first, np.inf)


def _enter_round(start: ndarray, way: ndarray, profile: ndarray) -> ndarray:
    """Where rays (3, m) enter solids of revolution, closed by discs at z = -1 and z = 1: (m,)."""
    closest = -(start * way).sum(0) / (way**2).sum(0)  # numbers are small around there
    x, y, z = start + closest * way
    dx, dy, dz = way
    low, high = (-z - np.sign(dz)) / dz, (-z + np.sign(dz)) / dz  # between the planes of the discs
    a, b, c = profile
    square = dx**2 + dy**2 - c * dz**2  # of square t^2 + 2 linear t + rest = 0
    square = np.where(np.abs(square) < TINY, TINY, square)
    linear = x * dx + y * dy - (b / 2 + c * z) * dz
    rest = x**2 + y**2 - a - b * z - c * z**2
    inside = linear**2 - square * rest
    root = np.copysign(np.sqrt(np.maximum(inside, 0)), square)
    side = (-linear - root) / square
    side = np.where(side > low, side, (root - linear) / square)
    is_lid = (square * low + 2 * linear) * low + rest < 0
    is_hit = is_lid | ((inside > 0) & (low < side) & (side < high))
    first = np.where(is_lid, low, side) + closest
    return np.where(is_hit & (first > 0), first, np.inf)


def find_normal(solids: Solids, unit: ndarray) -> tuple[ndarray, ndarray]:
    """Of points (3, m) on solids, in their units: normals (3, m) in the room, axes of faces (m,).

    The axis is that of a box's face; of round solids it is 2 on the lids of a cone and 1 elsewhere.
    """
    a, b, c = solids.profile
    x, y, z = unit
    is_box, is_ball = solids.shape == BOX, solids.shape == BALL
    off_side = (x**2 + y**2 - a - b * z - c * z**2) * solids.half[0]
    is_lid = ~is_ball & ((np.abs(z) - 1) * solids.half[2] > off_side)
    face = np.where(is_box, np.abs(unit).argmax(0), np.where(is_lid, 2, 1))
    flat = np.sign(unit) * (np.arange(3)[:, None] == face)
    x, y, z = np.where(is_box | is_lid, flat, np.stack([x, y, -b / 2 - c * z]))
    frame = solids.frame  # a gradient turns and stretches the other way round
    normal = np.stack([frame[0] * x + frame[2] * y, frame[1] * x + frame[3] * y, frame[4] * z])
    return normal / _length(normal), face
