"""Ray casting of a drawn room with numpy: colours, and exact depth, normals and classes.

Solids are hit exactly (slabs for boxes, a quadratic for round ones). Vectors are columns, shape
(3, n): numpy works along the long axis then. What surfaces look like is `room_paint`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from dmtg_lite.data.toys.room_paint import paint, paint_sky
from dmtg_lite.data.toys.room_parts import BALL, BOX, TEXTURES, UNCERTAIN, Camera, Part, Room

BLOCK = 8192  # rays cast at once: their arrays stay in the cache
LAMP_RADIUS = 0.28  # metres; four points on this circle make shadows soft
THIN = 0.043  # metres; rugs, frames and boards below that cast no shadow
EDGE = 32 / 255  # neighbours that differ by more are drawn again with four rays a pixel
_QUARTER = np.array([[-1, 3, 1, -3], [-3, -1, 3, 1]]) / 8  # (2, 4), in pixels
_CORNERS = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), np.float32).reshape(3, 8, 1)  # of a box
_TINY = np.float32(1e-9)


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
    frame: ndarray  # (5, P), `_to_unit`
    profile: ndarray  # (3, P), A, B, C: round ones have x^2 + y^2 = A + B z + C z^2 in their units

    def take(self, part: ndarray) -> Solids:
        return Solids(*(np.take(values, part, -1) for values in self))

    def corners(self) -> ndarray:
        """Of the boxes around the solids, (3, 8, P)."""
        wide, cos, sin = np.maximum(1, self.taper), np.cos(self.yaw), np.sin(self.yaw)
        x, y, z = _CORNERS * (self.half * [wide, wide, np.ones_like(wide)])[:, None]
        return self.centre[:, None] + np.stack([cos * x - sin * y, sin * x + cos * y, z])


def _pack(parts: tuple[Part, ...]) -> Solids:
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


def _to_unit(frame: ndarray, vector: ndarray) -> ndarray:
    """Turn vectors (3, m) into the axes of solids and measure them in their half sizes."""
    x, y, z = vector
    return np.stack([frame[0] * x + frame[1] * y, frame[2] * x + frame[3] * y, frame[4] * z])


def _length(vector: ndarray) -> ndarray:
    return np.sqrt((vector**2).sum(0))


def camera_axes(camera: Camera) -> ndarray:
    """Rows right, down and back (towards the camera) as unit vectors of the room, shape (3, 3).

    These are the axes of Taskonomy's normals: a wall seen squarely has the normal (0, 0, 1), a
    floor has a negative second component, and a left-right flip negates the first.

    Source:
        Axes as the authors of Omnidata state them (+x right, +y down, +z from the screen to the
        viewer): https://github.com/EPFL-VILAB/omnidata/issues/13
    """
    cos, sin = np.cos(camera.yaw), np.sin(camera.yaw)
    tilt, lift = np.cos(camera.pitch), np.sin(camera.pitch)
    forward = np.array([cos * tilt, sin * tilt, lift])
    right = np.array([sin, -cos, 0.0])
    return np.stack([right, np.cross(forward, right), -forward])


def camera_rays(camera: Camera, pixels: ndarray, size: int) -> ndarray:
    """Directions (3, n) through points (2, n) = (column, row) of a picture of ``size`` pixels.

    The middle of the first pixel is (0.5, 0.5). A direction advances by 1 m of depth: z-depth is
    the parameter of a ray.
    """
    across = (pixels - size / 2) * (2 * np.tan(camera.fov / 2) / size)  # right and down
    right, down, back = camera_axes(camera)[:, :, None]
    rays = (across[0] * right + across[1] * down - back).astype(np.float32)
    rays[rays == 0] = _TINY
    return rays


def render_room(room: Room, *, size: int) -> dict[str, ndarray]:
    """Look at a room.

    Args:
        room: What to look at.
        size: Height and width in pixels.

    Returns:
        ``rgb`` uint8 (H, W, 3); ``depth`` float32 (H, W), z-depth in metres; ``normal`` float32
        (H, W, 3), unit vectors in the axes of `camera_axes`; ``segmentation`` uint8 (H, W),
        Taskonomy's class 0 to 17. Depth and normal are NaN and the class is 0 (uncertain) where a
        window shows the sky. Edges of rgb are smooth; the other three belong to the ray through the
        middle of a pixel.
    """
    solids = _pack(room.parts)
    middles = np.stack(np.divmod(np.arange(size * size), size)[::-1]) + 0.5  # (2, HW)
    blocks = [
        _look(
            room,
            solids,
            camera_rays(room.camera, middles[:, start : start + BLOCK], size),
            is_fine=False,
        )
        for start in range(0, size * size, BLOCK)
    ]
    colour, depth, normal, classes = (np.concatenate(a, -1) for a in zip(*blocks, strict=True))
    rough = np.flatnonzero(_find_edges(colour.reshape(3, size, size)))
    for start in range(0, len(rough), BLOCK // 4):
        chosen = rough[start : start + BLOCK // 4]
        points = (middles[:, chosen, None] + _QUARTER[:, None]).reshape(2, -1)
        finer = _look(room, solids, camera_rays(room.camera, points, size), is_fine=True)[0]
        colour[:, chosen] = finer.reshape(3, -1, 4).mean(2)
    normal = camera_axes(room.camera).astype(np.float32) @ normal
    return {
        "rgb": (colour * 255 + 0.5).astype(np.uint8).T.reshape(size, size, 3),
        "depth": depth.reshape(size, size),
        "normal": np.ascontiguousarray(normal.T).reshape(size, size, 3),
        "segmentation": classes.astype(np.uint8).reshape(size, size),
    }


def _find_edges(colour: ndarray) -> ndarray:
    """Which pixels of a picture (3, H, W) differ from a neighbour: bool (H, W)."""
    rough = np.zeros(colour.shape[1:], bool)
    across = (np.abs(np.diff(colour, axis=2)) > EDGE).any(0)
    down = (np.abs(np.diff(colour, axis=1)) > EDGE).any(0)
    rough[:, 1:] |= across
    rough[:, :-1] |= across
    rough[1:] |= down
    rough[:-1] |= down
    return rough


def _look(
    room: Room, solids: Solids, rays: ndarray, *, is_fine: bool
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Colours (3, n) from 0 to 1, z-depths (n,), normals (3, n) in the room and classes (n,)."""
    eye, size = (np.array(v, np.float32)[:, None] for v in (room.camera.position, room.size))
    exits = (np.where(rays > 0, size, 0) - eye) / rays  # from the space that the shell surrounds
    axis, depth = exits.argmin(0), exits.min(0)
    part = 2 * axis + (np.take_along_axis(rays, axis[None], 0)[0] > 0)
    entry, solid, ray = _cast(solids.take(np.arange(6, len(solids.shape))), eye, rays)
    np.minimum.at(depth, ray, entry)
    first = np.flatnonzero(entry == depth[ray])
    part[ray[first]] = 6 + solid[first]
    point = eye + depth * rays
    own = solids.take(part)
    unit = _to_unit(own.frame, point - own.centre)
    normal, face = _find_normal(own, unit)
    is_sky = np.zeros(len(part), bool)
    for wall, low, high in room.windows:
        along, up = point[1 - wall // 2], point[2]
        is_sky |= (
            (part == wall) & (low[0] < along) & (along < high[0]) & (low[1] < up) & (up < high[1])
        )
    is_bright = is_sky | (own.texture == TEXTURES.index("glow"))
    colour = paint(own.texture, own.phase, own.colour, own.accent, own.half, unit, face)
    colour *= _light(room, solids, point, normal, is_bright, is_fine)
    colour = np.where(is_sky, paint_sky(rays), colour).clip(0, 1)
    depth[is_sky], normal[:, is_sky] = np.nan, np.nan
    return colour, depth, normal, np.where(is_sky, UNCERTAIN, own.class_id)


def _cast(solids: Solids, apex: ndarray, rays: ndarray) -> tuple[ndarray, ndarray, ndarray]:
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
    start = np.take(_to_unit(solids.frame, apex - solids.centre), solid, -1)
    way = _to_unit(np.take(solids.frame, solid, -1), np.take(rays, ray, -1))
    way[way == 0] = _TINY
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
    square = np.where(np.abs(square) < _TINY, _TINY, square)
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


def _find_normal(solids: Solids, unit: ndarray) -> tuple[ndarray, ndarray]:
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


def _light(
    room: Room, solids: Solids, point: ndarray, normal: ndarray, is_bright: ndarray, is_fine: bool
) -> ndarray:
    """How much light falls on points, (n,): from all sides, less in corners, and from a lamp."""
    ambient = 0.52 + 0.10 * normal[2] + 0.05 * normal[0] - 0.03 * normal[1]
    for axis, extent in enumerate(room.size):  # surfaces that meet take light from each other
        edge = np.minimum(point[axis], extent - point[axis])
        ambient *= 1 - 0.22 * (1 - np.abs(normal[axis])) * np.exp(np.minimum(-edge, 0) / 0.22)
    x, y, z = room.lamp
    lamp = np.array([[x], [y], [z - 0.45]], np.float32)
    to_lamp = lamp - point
    square = (to_lamp**2).sum(0)
    slant = (to_lamp * normal).sum(0) / np.sqrt(square)
    direct = 0.62 * (0.25 + 0.75 * slant) * (slant > 0) / (0.7 + square / 9)
    lit = np.flatnonzero((slant > 0) & ~is_bright)
    direct[lit] *= _see_lamp(
        solids, lamp, np.take(point + 2e-3 * normal, lit, -1), lit % 4, is_fine=is_fine
    )
    return np.where(is_bright, 1, ambient + direct)


def _see_lamp(
    solids: Solids, lamp: ndarray, point: ndarray, spot: ndarray, *, is_fine: bool
) -> ndarray:
    """The share of the lamp, four spots on a ring, that points (3, n) see: (n,).

    Two spots each; if fine one, their own: four rays of one pixel together see all.
    """
    is_caster = (solids.half.min(0) > THIN / 2) & (solids.texture != TEXTURES.index("glow"))
    casters = solids.take(6 + np.flatnonzero(is_caster[6:]))
    share = np.ones(point.shape[1], np.float32)
    for k in range(4) if is_fine else (0, 2):
        rows = np.flatnonzero(spot == k) if is_fine else np.arange(len(share))
        angle = k * np.pi / 2 + 0.4
        source = lamp + LAMP_RADIUS * np.array([[np.cos(angle)], [np.sin(angle)], [0]], np.float32)
        entry, _, ray = _cast(casters, source, np.take(point, rows, -1) - source)
        is_dark = np.zeros(len(rows), bool)
        is_dark[ray[entry < 1]] = True
        share[rows] -= is_dark * np.float32(1 if is_fine else 0.5)
    return share
