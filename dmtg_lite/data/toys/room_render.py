"""Ray casting of a drawn room with numpy: what its camera sees, and exact depth, normals and
classes.

Every solid is hit exactly (slabs for boxes, a quadratic for ellipsoids and cones); nothing is a
mesh.
No randomness: the same room gives the same picture, at any size. Vectors are columns, shape (3, n):
    numpy
works along the long axis then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from dmtg_lite.data.toys.room_parts import (
    BACKGROUND,
    BOX,
    CONE,
    TEXTURE,
    UNCERTAIN,
    Camera,
    Part,
    Room,
)

BLOCK = 8192  # rays cast at once: their arrays stay in the cache
LAMP_RADIUS = 0.28  # metres; four points on this circle make shadows soft
THIN = 0.043  # metres; rugs, frames and boards below that cast no shadow
EDGE = 20 / 255  # neighbours that differ by more are drawn again with four rays a pixel
_QUARTER = np.array(
    [[-0.125, 0.375, 0.125, -0.375], [-0.375, -0.125, 0.375, 0.125]]
)  # (2, 4), in pixels
_CORNERS = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), np.float32).reshape(3, 8, 1)  # of a box
_ON_FRONT = ("picture", "clock", "screen", "doors", "drawers", "fridge", "oven", "panels")
_IS_ON_FRONT = np.isin(np.arange(len(TEXTURE)), [TEXTURE[name] for name in _ON_FRONT])
_TINY = np.float32(1e-9)


class Solids(NamedTuple):
    """The parts of a room as arrays of P, ordered by shape."""

    shape: ndarray  # (P,)
    centre: ndarray  # (3, P)
    half: ndarray  # (3, P)
    colour: ndarray  # (3, P)
    class_id: ndarray  # (P,)
    accent: ndarray  # (3, P)
    texture: ndarray  # (P,)
    yaw: ndarray  # (P,)
    taper: ndarray  # (P,)
    phase: ndarray  # (P,)

    def corners(self) -> ndarray:
        """Of the boxes around the solids, (3, 8, P)."""
        wide = np.where(self.shape == CONE, np.maximum(1, self.taper), 1)
        offset = _CORNERS * (self.half * [wide, wide, np.ones_like(wide)])[:, None]
        return self.centre[:, None] + _turn(offset, self.yaw)

    def to_unit(self, vector: ndarray, part: ndarray) -> ndarray:
        """Turn vectors (3, m) into the axes of their solids and measure them in half sizes."""
        return _turn(vector, -self.yaw[part]) / _take(self.half, part)


def _take(columns: ndarray, rows: ndarray) -> ndarray:
    """``columns[..., rows]``, several times faster."""
    return np.take(columns, rows, axis=-1)


def _turn(vector: ndarray, yaw: ndarray) -> ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack(
        [cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1], vector[2]]
    )


def _pack(parts: tuple[Part, ...]) -> Solids:
    columns = zip(*sorted(parts, key=lambda part: part.shape), strict=True)
    whole = ("shape", "class_id", "texture")
    return Solids(
        *(
            np.array(column, np.int64 if name in whole else np.float32).T
            for name, column in zip(Part._fields, columns, strict=True)
        )
    )


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
        the
    parameter of a ray.
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
        _look(room, solids, camera_rays(room.camera, middles[:, start : start + BLOCK], size), 4)
        for start in range(0, size * size, BLOCK)
    ]
    colour, depth, normal, classes = (
        np.concatenate(values, -1) for values in zip(*blocks, strict=True)
    )
    rough = np.flatnonzero(_find_edges(colour.reshape(3, size, size)))
    for start in range(0, len(rough), BLOCK // 4):
        chosen = rough[start : start + BLOCK // 4]
        points = (middles[:, chosen, None] + _QUARTER[:, None]).reshape(2, -1)
        finer = _look(room, solids, camera_rays(room.camera, points, size), 1)[0]
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


# ---- hitting
# -------------------------------------------------------------------------------------------


def _near_pairs(
    unit: ndarray, apex: ndarray, solids: Solids, wider: float = 0
) -> tuple[ndarray, ndarray]:
    """Rays and the solids they may hit: two index arrays, ordered by solid.

    Seen from the apex (3,) every solid lies in a cone around the directions of its corners; a ray
    from there, of unit direction (3, n), is near when it runs inside. ``wider`` adds metres to the
    solids.
    """
    corners = solids.corners() - apex[:, None, None]
    length = np.sqrt((corners**2).sum(0))
    corners /= length
    axis = corners.mean(1)
    axis /= np.sqrt((axis**2).sum(0))
    angle = (
        np.arccos((axis[:, None] * corners).sum(0).min(0).clip(-1, 1))
        + 1e-3
        + wider / length.min(0)
    )
    cosine = np.where(angle < np.pi / 2, np.cos(angle), -2)  # too close to tell: every ray
    near = axis.T @ unit > cosine[:, None]  # (P, n)
    return np.divmod(np.flatnonzero(near.ravel()), unit.shape[1])[::-1]


def _enter(origin: ndarray, direction: ndarray, solids: Solids, part: ndarray) -> ndarray:
    """Where rays (3, m) in units of their solids, ordered by shape, enter them: (m,), infinite if not."""
    entry = np.empty(len(part), np.float32)
    direction = np.where(direction == 0, _TINY, direction)
    ends = np.searchsorted(solids.shape[part], range(4))
    for first, last, hit in zip(ends, ends[1:], (_hit_box, _hit_ball, _hit_cone), strict=False):
        rows = slice(first, last)
        entry[rows] = hit(origin[:, rows], direction[:, rows], solids.taper[part[rows]])
    return entry


def _hit_box(origin: ndarray, direction: ndarray, taper: ndarray) -> ndarray:
    """The box from -1 to 1 between three pairs of planes."""
    inverse = 1 / direction
    middle, reach = -origin * inverse, np.abs(inverse)
    enter, leave = (middle - reach).max(0), (middle + reach).min(0)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


def _hit_ball(origin: ndarray, direction: ndarray, taper: ndarray) -> ndarray:
    """The ball of radius 1, from the point of the ray that is closest to its middle."""
    square = (direction**2).sum(0)
    closest = -(origin * direction).sum(0) / square
    inside = 1 - ((origin + closest * direction) ** 2).sum(0)
    entry = closest - np.sqrt(np.maximum(inside, 0) / square)
    return np.where((inside > 0) & (entry > 0), entry, np.inf)


def _hit_cone(origin: ndarray, direction: ndarray, taper: ndarray) -> ndarray:
    """Radius 1 at z = -1 and ``taper`` at z = 1, closed by two discs."""
    level, slope = (taper + 1) / 2, (taper - 1) / 2
    dx, dy, dz = direction
    closest = -(origin[0] * dx + origin[1] * dy) / (
        dx**2 + dy**2
    )  # to the axis: keeps numbers small
    x, y, z = origin + closest * direction
    radius = level + slope * z
    square = dx**2 + dy**2 - (slope * dz) ** 2
    square = np.where(np.abs(square) < _TINY, _TINY, square)
    half = x * dx + y * dy - slope * dz * radius
    inside = half**2 - square * (x**2 + y**2 - radius**2)
    root = np.sqrt(np.maximum(inside, 0))
    entry = np.full(len(taper), np.inf, np.float32)
    for step in ((-half - root) / square, (-half + root) / square):
        height = z + step * dz
        good = (
            (inside > 0)
            & (closest + step > 0)
            & (np.abs(height) <= 1)
            & (level + slope * height >= 0)
        )
        entry = np.where(good, np.minimum(entry, closest + step), entry)
    for height, limit in ((-1, 1), (1, taper)):
        step = (height - z) / dz
        good = (closest + step > 0) & ((x + step * dx) ** 2 + (y + step * dy) ** 2 <= limit**2)
        entry = np.where(good, np.minimum(entry, closest + step), entry)
    return entry


def _normal_of(unit: ndarray, solids: Solids, part: ndarray) -> tuple[ndarray, ndarray]:
    """Of points (3, m) on solids, in their units: normals (3, m) in the room, and the axes of their
    faces.

    The axis is that of a box's face; of round solids it is 2 on the lids of a cone and 1 elsewhere.
    """
    shape, taper = solids.shape[part], solids.taper[part]
    is_box, is_cone = shape == BOX, shape == CONE
    is_lid = is_cone & (np.abs(unit[2]) > 1 - 1e-5)
    face = np.abs(unit).argmax(0)
    face = np.where(is_box, face, np.where(is_lid, 2, 1))
    slope = (taper - 1) / 2
    normal = unit.copy()  # right for a ball
    normal[2] = np.where(is_cone, -slope * (slope + 1 + slope * unit[2]), unit[2])
    is_flat = is_box | is_lid
    flat = np.sign(unit) * (np.arange(3)[:, None] == face)
    normal = np.where(is_flat, flat, normal) / _take(solids.half, part)
    normal /= np.sqrt((normal**2).sum(0))
    return _turn(normal, solids.yaw[part]), face


# ---- looking
# -------------------------------------------------------------------------------------------


def _look(
    room: Room, solids: Solids, direction: ndarray, n_spots: int
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Colours (3, n) from 0 to 1, z-depths (n,), normals (3, n) in the room and classes (n,) of
    rays.

    Each looks at ``n_spots`` of the four spots of the lamp.
    """
    n = direction.shape[1]
    eye, size = (np.array(v, np.float32) for v in (room.camera.position, room.size))
    exits = (
        np.where(direction > 0, size[:, None], 0) - eye[:, None]
    ) / direction  # from the room's box
    axis = exits.argmin(0)
    depth = exits.min(0)
    wall = 2 * axis + (direction[axis, np.arange(n)] > 0)

    ray, part = _near_pairs(direction / np.sqrt((direction**2).sum(0)), eye, solids)
    origin = solids.to_unit(eye[:, None] - solids.centre, np.arange(len(solids.shape)))
    entry = _enter(_take(origin, part), solids.to_unit(_take(direction, ray), part), solids, part)
    np.minimum.at(depth, ray, entry)
    nearest = np.full(n, -1)
    first = np.flatnonzero(entry == depth[ray])
    nearest[ray[first]] = part[first]
    point = eye[:, None] + depth * direction

    shell, hits = np.flatnonzero(nearest < 0), np.flatnonzero(nearest >= 0)
    part = nearest[hits]
    unit = solids.to_unit(_take(point, hits) - _take(solids.centre, part), part)
    normal, albedo, is_bright = (
        np.zeros((3, n), np.float32),
        np.empty((3, n), np.float32),
        np.zeros(n, bool),
    )
    normal[axis[shell], shell] = 1 - 2 * (wall[shell] % 2)
    albedo[:, shell] = _paint_shell(room, _take(point, shell), wall[shell])
    normal[:, hits], face = _normal_of(unit, solids, part)
    albedo[:, hits] = _paint_parts(solids, part, unit, face)
    is_bright[hits] = solids.texture[part] == TEXTURE["glow"]
    classes = np.full(n, BACKGROUND)
    classes[hits] = solids.class_id[part]

    is_sky = (nearest < 0) & _is_window(room, point, wall)
    colour = albedo * _light(room, solids, point, normal, is_bright | is_sky, n_spots)
    colour = np.where(is_sky, _sky(direction), colour).clip(0, 1)
    depth[is_sky], normal[:, is_sky], classes[is_sky] = np.nan, np.nan, UNCERTAIN
    return colour, depth, normal, classes


def _is_window(room: Room, point: ndarray, wall: ndarray) -> ndarray:
    inside = np.zeros(point.shape[1], bool)
    for window in room.windows:
        along, up = point[1 - window.axis], point[2]
        inside |= (
            (wall == 2 * window.axis + window.side)
            & (along > window.low[0])
            & (along < window.high[0])
            & (up > window.low[1])
            & (up < window.high[1])
        )
    return inside


def _column(*values: float) -> ndarray:
    return np.array(values, np.float32)[:, None]


def _sky(direction: ndarray) -> ndarray:
    """Blue above, hazy at the horizon, a meadow below."""
    up = direction[2] / np.sqrt((direction**2).sum(0))
    haze, blue, green = (
        _column(0.90, 0.95, 0.98),
        _column(0.52, 0.74, 0.95),
        _column(0.60, 0.72, 0.50),
    )
    above = haze + (blue - haze) * (up * 3).clip(0, 1)
    return above + (green - above) * (0.5 - up * 60).clip(0, 1)


def _light(
    room: Room, solids: Solids, point: ndarray, normal: ndarray, is_bright: ndarray, n_spots: int
) -> ndarray:
    """How much light falls on points, (n,): from all sides, less in corners, and from a lamp."""
    ambient = 0.52 + 0.10 * normal[2] + 0.05 * normal[0] - 0.03 * normal[1]
    for axis, extent in enumerate(room.size):  # surfaces that meet take light from each other
        edge = np.minimum(point[axis], extent - point[axis])
        ambient *= 1 - 0.22 * (1 - np.abs(normal[axis])) * np.exp(np.minimum(-edge, 0) / 0.22)
    lamp = np.array(room.lamp, np.float32) - np.float32([0, 0, 0.45])
    to_lamp = lamp[:, None] - point
    square = (to_lamp**2).sum(0)
    slant = (to_lamp * normal).sum(0) / np.sqrt(square)
    direct = 0.62 * (0.25 + 0.75 * slant) * (slant > 0) / (0.7 + square / 9)
    lit = np.flatnonzero((slant > 0) & ~is_bright)
    direct[lit] *= _see_lamp(solids, lamp, _take(point + 2e-3 * normal, lit), lit % 4, n_spots)
    return np.where(is_bright, 1, ambient + direct)


def _see_lamp(
    solids: Solids, lamp: ndarray, point: ndarray, spot: ndarray, n_spots: int
) -> ndarray:
    """The share of the lamp, four spots on a ring, that points (3, n) see: (n,).

    A point looks at ``n_spots`` of them from its own ``spot`` on: four rays of one pixel, with one
        spot
    each, see all four.
    """
    is_caster = (solids.half.min(0) > THIN / 2) & (solids.texture != TEXTURE["glow"])
    casters = Solids(*(values[..., is_caster] for values in solids))
    offset = point - lamp[:, None]
    distance = np.sqrt((offset**2).sum(0))
    ray, part = _near_pairs(offset / distance, lamp, casters, LAMP_RADIUS)
    centre, corner = casters.centre, casters.corners()[:, 0]
    reach = np.sqrt(((centre - lamp[:, None]) ** 2).sum(0)) - np.sqrt(
        ((corner - centre) ** 2).sum(0)
    )
    before = reach[part] < distance[ray]  # what is farther than the point cannot stand in its light
    ray, part = ray[before], part[before]
    start = casters.to_unit(_take(point, ray) - _take(centre, part), part)
    angle = np.arange(4) * np.pi / 2 + 0.4
    spots = lamp[:, None] + LAMP_RADIUS * np.float32([np.cos(angle), np.sin(angle), 0 * angle])
    every = np.tile(np.arange(len(reach)), (4, 1))  # (4, P)
    spots = casters.to_unit(spots[:, :, None] - centre[:, None], every).reshape(3, -1)  # (3, 4 P)
    share = np.ones(point.shape[1], np.float32)
    for k in range(n_spots):
        direction = _take(spots, (spot[ray] + k) % 4 * len(reach) + part) - start
        is_blocked = np.zeros(len(share), bool)
        is_blocked[ray[_enter(start, direction, casters, part) < 1]] = True
        share -= is_blocked / np.float32(n_spots)
    return share


# ---- painting
# ------------------------------------------------------------------------------------------


def _paint_shell(room: Room, point: ndarray, wall: ndarray) -> ndarray:
    """Colours (3, m) of walls, floor and ceiling, with white skirting boards."""
    axis = wall // 2
    u = np.where(axis == 0, point[1], point[0])
    v = np.where(axis == 2, point[1], point[2])
    colour, accent, texture = (
        np.array(values, np.float32).T for values in zip(*room.surfaces, strict=True)
    )
    share = _pattern(texture[wall], u, v, u, v, np.zeros_like(u))
    painted = _take(colour, wall) + _take(accent - colour, wall) * share
    return np.where((axis < 2) & (v < 0.09), 0.93, painted)


def _paint_parts(solids: Solids, part: ndarray, unit: ndarray, face: ndarray) -> ndarray:
    """Colours (3, m) of points on solids."""
    texture, phase, half = solids.texture[part], solids.phase[part], _take(solids.half, part)
    texture = np.where(_IS_ON_FRONT[texture] & (face != 1), 0, texture)
    a, b = np.where(face == 0, unit[1], unit[0]), np.where(face == 2, unit[1], unit[2])
    u = (a + 1) * np.where(face == 0, half[1], half[0])  # metres from a corner of the face
    v = (b + 1) * np.where(face == 2, half[1], half[2])
    accent, painted = _take(solids.accent, part), _take(solids.colour, part)
    painted += (accent - painted) * _pattern(texture, u, v, a, b, phase)
    for name, repaint in (("picture", _paint_picture), ("spines", _paint_spines)):
        rows = np.flatnonzero(texture == TEXTURE[name])
        if len(rows):
            painted[:, rows] = repaint(
                painted[:, rows], accent[:, rows], a[rows], b[rows], u[rows], phase[rows]
            )
    return painted


def _hash(i: ndarray, j: ndarray) -> ndarray:
    """A number from 0 to 1 for a pair of cells, the same on every machine."""
    mixed = np.floor(i).astype(np.int64) * 73856093 ^ np.floor(j).astype(np.int64) * 19349663
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) * np.float32(1 / 0xFFFF)


def _pattern(
    texture: ndarray, u: ndarray, v: ndarray, a: ndarray, b: ndarray, phase: ndarray
) -> ndarray:
    """The share of the accent colour at points of textured faces: (m,).

    u and v are metres from a corner of the face, a and b run from -1 to 1 across it.
    """
    share = np.zeros(len(texture), np.float32)
    for number in np.unique(texture):
        if number in _SHARES:
            rows = np.flatnonzero(texture == number)
            share[rows] = _SHARES[number](u[rows], v[rows], a[rows], b[rows], phase[rows])
    return share


def _planks(u, v, a, b, phase):
    row = np.floor(v / 0.16)
    along = u + _hash(row, row) * 1.3
    tone = _hash(row, np.floor(along / 1.3))
    grain = 0.1 * np.sin(along * 9 + 6 * tone) * np.sin(v * 70 + 9 * tone)
    gap = (v / 0.16 - row < 0.05) | (np.abs(along / 1.3 % 1) < 0.008)
    return np.where(gap, 0.9, 0.45 * tone + grain * 0.5)


def _tiles(u, v, a, b, phase):
    i, j = np.floor(u / 0.45), np.floor(v / 0.45)
    grout = (u / 0.45 - i < 0.035) | (v / 0.45 - j < 0.035)
    return np.where(grout, 0.25, (i + j) % 2 * 0.9 + 0.08 * _hash(i, j))


def _rug_pattern(u, v, a, b, phase):
    edge = np.maximum(np.abs(a), np.abs(b))
    border = (edge > 0.82) & (edge < 0.92)
    style = np.floor(phase * 3)
    diamonds = np.abs((a * 3) % 1 - 0.5) + np.abs((b * 2) % 1 - 0.5) < 0.27
    rings = (np.hypot(a, b) * 3.5) % 1 < 0.3
    bands = (b * 4) % 1 < 0.3
    motif = np.select([style == 0, style == 1], [diamonds, rings], bands)
    return np.where(border | (motif & (edge < 0.82)), 0.85, 0.0)


def _doors(u, v, a, b, phase):
    n = np.maximum(1, np.round(phase))  # of doors side by side
    cell = ((a + 1) / 2 * n) % 1
    gap = (np.minimum(cell, 1 - cell) < 0.012 * n) | (np.abs(b) > 0.985)
    knob = (np.abs(np.minimum(cell, 1 - cell) - 0.08 * n / 2) < 0.018 * n) & (np.abs(b) < 0.14)
    return np.where(gap, 0.75, np.where(knob, 1.0, 0.0))


def _drawers(u, v, a, b, phase):
    cell = ((b + 1) / 2 * 3) % 1
    gap = (cell < 0.05) | (np.abs(a) > 0.975)
    knob = (np.abs(cell - 0.5) < 0.09) & (np.abs(np.abs(a) - 0.4) < 0.1)
    return np.where(gap, 0.7, np.where(knob, 1.0, 0.0))


def _clock_face(u, v, a, b, phase):
    radius, angle = np.hypot(a, b), np.arctan2(a, b)
    rim = radius > 0.84
    ticks = (radius > 0.66) & (np.abs((angle * 6 / np.pi + 0.5) % 1 - 0.5) < 0.09)
    hands = np.zeros(len(a), bool)
    for turn, reach in ((phase * 6.28, 0.45), (phase * 75.4, 0.62)):
        x, y = np.sin(turn), np.cos(turn)
        along, off = a * x + b * y, np.abs(a * y - b * x)
        hands |= (off < 0.05) & (along > -0.08) & (along < reach)
    return (rim | ticks | hands).astype(float)


def _screen(u, v, a, b, phase):
    inside = (np.abs(a) < 0.94) & (np.abs(b) < 0.9)
    return np.where(inside, 0.55 + 0.35 * (0.6 * a + 0.5 * b), 0.0)


def _panels(u, v, a, b, phase):
    x, y = np.abs(a), np.abs((b + 0.1) * 1.05)
    frames = (x > 0.58) & (x < 0.66) & (np.abs(y - 0.5) < 0.37)
    frames |= (x < 0.66) & (np.abs(np.abs(y - 0.5) - 0.36) < 0.02)
    return np.where(frames, 0.55, 0.0)


def _oven_front(u, v, a, b, phase):
    glass = (np.abs(a) < 0.78) & (b > -0.72) & (b < 0.32)
    bar = (np.abs(a) < 0.8) & (np.abs(b - 0.46) < 0.035)
    knobs = (np.abs((a * 2.5) % 1 - 0.5) < 0.17) & (np.abs(b - 0.78) < 0.08)
    return np.where(glass, 0.92, np.where(bar | knobs, 0.7, 0.0))


_SHARES = {
    TEXTURE["wood"]: lambda u, v, a, b, phase: 0.16 + 0.16 * np.sin(v * 60 + 2 * np.sin(u * 5)),
    TEXTURE["fabric"]: lambda u, v, a, b, phase: 0.08 * _hash(u / 0.03, v / 0.03),
    TEXTURE["leaves"]: lambda u, v, a, b, phase: _hash(u / 0.05, v / 0.05),
    TEXTURE["planks"]: _planks,
    TEXTURE["tiles"]: _tiles,
    TEXTURE["carpet"]: lambda u, v, a, b, phase: 0.16 * _hash(u / 0.03, v / 0.03),
    TEXTURE["stripes"]: lambda u, v, a, b, phase: ((u / 0.3) % 1 < 0.5).astype(float),
    TEXTURE["two_tone"]: lambda u, v, a, b, phase: np.where(
        np.abs(v - 0.98) < 0.025, -0.6, (v < 0.98) * 1.0
    ),
    TEXTURE["rug"]: _rug_pattern,
    TEXTURE["clock"]: _clock_face,
    TEXTURE["screen"]: _screen,
    TEXTURE["doors"]: _doors,
    TEXTURE["drawers"]: _drawers,
    TEXTURE["fridge"]: lambda u, v, a, b, phase: np.where(np.abs(b - 0.24) < 0.012, 0.9, 0.0),
    TEXTURE["oven"]: _oven_front,
    TEXTURE["curtain"]: lambda u, v, a, b, phase: 0.5 + 0.5 * np.sin(u * 55),
    TEXTURE["panels"]: _panels,
}


def _paint_picture(painted, accent, a, b, u, phase):
    """A frame, a mat, and hills under a sun; a mirror where the phase is negative."""
    edge = np.maximum(np.abs(a), np.abs(b))
    x, y = a / 0.7, b / 0.7
    hill = 0.35 * np.sin(2.2 * x + 9 * phase) - 0.25
    near = 0.3 * np.sin(3.1 * x + 23 * phase) - 0.7
    is_sun = np.hypot(x - 1.2 * (phase - 0.5), y - 0.5) < 0.24
    inside = np.where(is_sun, _column(0.98, 0.86, 0.55), 0.25 * accent + 0.72)
    inside = np.where(y < hill, 0.6 * painted + 0.3, inside)
    inside = np.where(y < near, 0.75 * accent, inside)
    inside = np.where(phase < 0, painted + 0.12 * (a + b > 0.3), inside)
    inside = np.where((edge > 0.72) & (phase >= 0), 0.95, inside)
    frame = np.where(phase > 0.5, 0.14, _column(0.52, 0.38, 0.25))
    return np.where(edge > 0.9, frame, inside)


_SPINES = np.array(
    [
        [0.68, 0.20, 0.86, 0.28, 0.90, 0.42, 0.84, 0.24],
        [0.22, 0.34, 0.74, 0.44, 0.88, 0.28, 0.50, 0.25],
        [0.20, 0.52, 0.46, 0.34, 0.82, 0.42, 0.26, 0.30],
    ]
)


def _paint_spines(painted, accent, a, b, u, phase):
    """Backs of books side by side, each in its own colour and height."""
    book, seed = np.floor(u / 0.042), np.floor(phase * 1000)
    colour = _SPINES[:, (_hash(book, seed) * 7.999).astype(int)]
    is_gap = (u / 0.042 - book < 0.1) | (b > 0.55 + 0.45 * _hash(book, seed + 7))
    return np.where(
        is_gap, 0.3 * colour, np.where(np.abs(b - 0.3) < 0.07, 0.5 * colour + 0.4, colour)
    )
