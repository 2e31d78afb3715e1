"""What the camera of a drawn room sees: colours, and exact depth, normals and classes.

A part at a time is met by rays: slabs for boxes, a quadratic for round ones. Vectors are columns,
(3, n). What surfaces look like is `room_paint`.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from dmtg_lite.data.toys.room_paint import paint, paint_sky
from dmtg_lite.data.toys.room_parts import BALL, BOX, CONE, PART, UNCERTAIN, Camera, Room

TINY = np.float32(1e-9)  # in place of 0, to divide by
LAMP_RADIUS = 0.28  # metres; a point on either side makes shadows soft
THIN = 0.043  # metres; rugs, frames and boards below that cast no shadow
EDGE = 32 / 255  # neighbours that differ by more are drawn again with four rays a pixel
_QUARTERS = np.array([[-1, 3, 1, -3], [-3, -1, 3, 1]]) / 8  # (2, 4), in pixels from the middle


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
    return np.where(rays == 0, TINY, rays)


def render_room(room: Room, *, size: int) -> dict[str, ndarray]:
    """Look at a room, in pictures of ``size`` pixels a side.

    Returns:
        ``rgb`` uint8 (H, W, 3); ``depth`` float32 (H, W), z-depth in metres; ``normal`` float32
        (H, W, 3), unit vectors in the axes of `camera_axes`; ``segmentation`` uint8 (H, W),
        Taskonomy's class 0 to 17. Depth and normal are NaN and the class is 0 (uncertain) where a
        window shows the sky. Edges of rgb are smooth; the other three belong to the ray through the
        middle of a pixel.
    """
    middles = np.stack(np.divmod(np.arange(size * size), size)[::-1]) + 0.5  # (2, HW)
    colour, depth, normal, classes = _look(room, camera_rays(room.camera, middles, size))
    rough = np.flatnonzero(_find_edges(colour.reshape(3, size, size)))
    points = (middles[:, rough, None] + _QUARTERS[:, None]).reshape(2, -1)
    finer = _look(room, camera_rays(room.camera, points, size))[0]
    colour[:, rough] = finer.reshape(3, -1, 4).mean(2)
    return {
        "rgb": (colour * 255 + 0.5).astype(np.uint8).T.reshape(size, size, 3),
        "depth": depth.astype(np.float32).reshape(size, size),
        "normal": (camera_axes(room.camera) @ normal).astype(np.float32).T.reshape(size, size, 3),
        "segmentation": classes.astype(np.uint8).reshape(size, size),
    }


def _find_edges(colour: ndarray) -> ndarray:
    """Which pixels of a picture (3, H, W) differ from a neighbour: bool (H, W)."""
    across = np.pad((np.abs(np.diff(colour, axis=2)) > EDGE).any(0), ((0, 0), (1, 1)))
    down = np.pad((np.abs(np.diff(colour, axis=1)) > EDGE).any(0), ((1, 1), (0, 0)))
    return across[:, 1:] | across[:, :-1] | down[1:] | down[:-1]


def _look(room: Room, rays: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Colours (3, n) from 0 to 1, z-depths (n,), normals (3, n) in the room and classes (n,)."""
    eye, size = (np.array(v, np.float32)[:, None] for v in (room.camera.position, room.size))
    parts = np.array(room.parts, PART)
    exits = (np.where(rays > 0, size, 0) - eye) / rays  # from the space that the shell surrounds
    axis, depth = exits.argmin(0), exits.min(0)
    seen = 2 * axis + (np.take_along_axis(rays, axis[None], 0)[0] > 0)
    entry, part, ray = cast(parts[6:], eye, rays)
    np.minimum.at(depth, ray, entry)
    is_first = entry == depth[ray]
    seen[ray[is_first]] = 6 + part[is_first]
    point = eye + depth * rays
    own = parts[seen]
    unit = _to_unit(parts, seen, point - own["centre"].T)
    normal, face = _find_normal(own, unit)
    is_sky = np.zeros(len(seen), bool)
    for wall, low, high in room.windows:
        along, up = point[1 - wall // 2], point[2]
        is_sky |= (
            (seen == wall) & (low[0] < along) & (along < high[0]) & (low[1] < up) & (up < high[1])
        )
    colour = np.empty_like(rays)
    for k in np.unique(seen):
        rows = np.flatnonzero(seen == k)
        colour[:, rows] = paint(room.parts[k], unit[:, rows], face[rows])
    glows = is_sky | (own["texture"] == "glow")
    colour *= np.where(glows, 1, _light(room, parts, point, normal))
    colour = np.where(is_sky, paint_sky(rays), colour).clip(0, 1)
    depth[is_sky], normal[:, is_sky] = np.nan, np.nan
    return colour, depth, normal, np.where(is_sky, UNCERTAIN, own["class_id"])


def _light(room: Room, parts: ndarray, point: ndarray, normal: ndarray) -> ndarray:
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
    is_caster = (parts["half"].min(1) > THIN / 2) & (parts["texture"] != "glow")
    casters = parts[6:][is_caster[6:]]
    lit = np.flatnonzero(slant > 0)
    start, full = (point + 2e-3 * normal)[:, lit], direct.copy()
    for side in (-1, 1):
        spot = lamp + side * LAMP_RADIUS * np.array([[0.92], [0.39], [0]], np.float32)
        entry, _, ray = cast(casters, spot, start - spot)
        is_dark = np.isin(np.arange(len(lit)), ray[entry < 1])
        direct[lit] -= is_dark * full[lit] / 2
    return ambient + direct


# ---------------------------------------------------------------------- rays and solids


def cast(parts: ndarray, apex: ndarray, rays: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Where rays (3, n) from an apex (3, 1) enter parts (P,): entries as shares of rays, infinite
    where a part is missed; parts; rays. All (m,): only the m pairs are tried in which the ray comes
    into the ball around the part."""
    way, half = parts["centre"].T - apex, parts["half"].T  # (3, P)
    wide = half * np.maximum(1, parts["taper"])
    along = way.T @ (rays / np.sqrt((rays**2).sum(0)))  # (P, n)
    beside = (way**2).sum(0) - (wide[:2] ** 2).sum(0) - half[2] ** 2
    least = np.where(beside > 0, np.sqrt(np.abs(beside)), -np.inf)  # from inside the ball: all
    is_near = along > least[:, None]
    part = np.repeat(np.arange(len(parts)), np.count_nonzero(is_near, 1))
    ray = np.flatnonzero(is_near) - part * rays.shape[1]  # much faster than np.nonzero
    each = np.arange(len(parts))
    start, rays = _to_unit(parts, each, -way)[:, part], _to_unit(parts, part, rays[:, ray])
    entry, rows = _enter_box(start, rays), np.flatnonzero(parts["shape"][part] != BOX)
    entry[rows] = _enter_round(parts[part[rows]], start[:, rows], rays[:, rows])
    return entry, part, ray


def _to_unit(parts: ndarray, part: ndarray, vector: ndarray) -> ndarray:
    """Turn vectors (3, m) into the axes of parts (m,) and measure them in their half sizes."""
    (x, y, z), yaw, half = vector, parts["yaw"], parts["half"].T
    frame = np.stack([np.cos(yaw), np.sin(yaw), -np.sin(yaw), np.cos(yaw), np.ones_like(yaw)])
    a, b, c, d, e = np.take(frame / half[[0, 0, 1, 1, 2]], part, -1)
    return np.stack([a * x + b * y, c * x + d * y, e * z])


def _profile(parts: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """(A, B, C): round parts have x^2 + y^2 = A + B z + C z^2 in their half sizes."""
    level, slope = (parts["taper"] + 1) / 2, (parts["taper"] - 1) / 2
    return level**2, 2 * level * slope, np.where(parts["shape"] == BALL, -1, slope**2)


def _enter_box(start: ndarray, way: ndarray) -> ndarray:
    """Where rays (3, m) enter the box from -1 to 1 between three pairs of planes: (m,)."""
    inverse = 1 / np.where(way == 0, TINY, way)
    middle, reach = -start * inverse, np.abs(inverse)
    first, last = (middle - reach).max(0), (middle + reach).min(0)
    return np.where((first < last) & (first > 0), first, np.inf)


def _enter_round(parts: ndarray, start: ndarray, way: ndarray) -> ndarray:
    """Where rays (3, m) enter round parts (m,), closed by discs at z = -1 and z = 1: (m,)."""
    way = np.where(way == 0, TINY, way)
    closest = -(start * way).sum(0) / (way**2).sum(0)  # numbers are small around there
    (x, y, z), (dx, dy, dz), (a, b, c) = start + closest * way, way, _profile(parts)
    low, high = (-z - np.sign(dz)) / dz, (-z + np.sign(dz)) / dz  # between the planes of the discs
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


def _find_normal(parts: ndarray, unit: ndarray) -> tuple[ndarray, ndarray]:
    """Of points (3, m) on parts (m,), in half sizes: normals (3, m) in the room, axes of faces
    (m,): of round parts it is 2 on the lids of a cone and 1 elsewhere."""
    (x, y, z), (a, b, c), half = unit, _profile(parts), parts["half"].T
    is_box, is_cone = parts["shape"] == BOX, parts["shape"] == CONE
    off_side = (x**2 + y**2 - a - b * z - c * z**2) * half[0]
    is_lid = is_cone & ((np.abs(z) - 1) * half[2] > off_side)
    face = np.where(is_box, np.abs(unit).argmax(0), np.where(is_lid, 2, 1))
    flat = np.sign(unit) * (np.arange(3)[:, None] == face)
    steep = np.where(is_box | is_lid, flat, np.stack([x, y, -b / 2 - c * z]))
    (x, y, z), cos, sin = steep / half, np.cos(parts["yaw"]), np.sin(parts["yaw"])
    normal = np.stack([cos * x - sin * y, sin * x + cos * y, z])  # stretched the other way round
    return normal / np.sqrt((normal**2).sum(0)), face
