"""Ray casting of a drawn room with numpy: what its camera sees, and exact depth, normals and classes.

Every solid is hit exactly (slabs for boxes, a quadratic for ellipsoids and cones); nothing is a mesh.
No randomness: the same room gives the same picture, at any size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from dmtg_lite.data.room_scene import BACKGROUND, BOX, CONE, ELLIPSOID, TEXTURE, UNCERTAIN, Camera, Room

BLOCK = 8192  # rays cast at once: their arrays stay in the cache
LAMP_RADIUS = 0.28  # metres; four points on this circle make shadows soft
EDGE = 14 / 255  # neighbours that differ by more are drawn again with four rays a pixel
_QUARTER = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])  # in pixels
_FRONT_ONLY = [
    TEXTURE[name] for name in ("picture", "clock", "screen", "doors", "drawers", "fridge", "oven", "panels")
]
_TINY = 1e-9


class Solids(NamedTuple):
    """The parts of a room as arrays, P of them."""

    shape: ndarray  # (P,)
    centre: ndarray  # (P, 3)
    half: ndarray  # (P, 3)
    turn: ndarray  # (P, 2), cos and sin of the yaw
    taper: ndarray  # (P,)
    radius: ndarray  # (P,), of the sphere around it


def camera_axes(camera: Camera) -> ndarray:
    """Rows right, down and back (towards the camera) as unit vectors of the room, shape (3, 3).

    These are the axes of Taskonomy's normals: a wall seen squarely has the normal (0, 0, 1), a floor has
    a negative second component, and a left-right flip negates the first.

    Source:
        Axes as the authors of Omnidata state them (+x right, +y down, +z from the screen to the viewer):
        https://github.com/EPFL-VILAB/omnidata/issues/13
    """
    cos, sin = np.cos(camera.yaw), np.sin(camera.yaw)
    tilt, lift = np.cos(camera.pitch), np.sin(camera.pitch)
    forward = np.array([cos * tilt, sin * tilt, lift])
    right = np.array([sin, -cos, 0.0])
    return np.stack([right, np.cross(forward, right), -forward])


def camera_rays(camera: Camera, pixels: ndarray, size: int) -> ndarray:
    """Directions (M, 3) through points (M, 2) = (column, row) of a picture of ``size`` pixels.

    The middle of the first pixel is (0.5, 0.5). Directions advance by 1 m of depth: z-depth is the ray's
    parameter.
    """
    scale = 2 * np.tan(camera.fov / 2) / size
    across = (pixels - size / 2) * scale  # (M, 2), right and down
    right, down, back = camera_axes(camera)
    return across[:, :1] * right + across[:, 1:] * down - back


def render_room(room: Room, *, size: int) -> dict[str, ndarray]:
    """Look at a room.

    Args:
        room: What to look at.
        size: Height and width in pixels.

    Returns:
        ``rgb`` uint8 (H, W, 3); ``depth`` float32 (H, W), z-depth in metres; ``normal`` float32
        (H, W, 3), unit vectors in the axes of `camera_axes`; ``segmentation`` uint8 (H, W), Taskonomy's
        class 0 to 17. Depth and normal are NaN and the class is 0 (uncertain) where a window shows the
        sky. Edges of rgb are smooth; the other three belong to the ray through the middle of a pixel.
    """
    solids = _pack(room)
    rows, columns = np.divmod(np.arange(size * size), size)
    middles = np.stack([columns, rows], 1) + 0.5  # (HW, 2)
    blocks = [
        _look(room, solids, camera_rays(room.camera, middles[start : start + BLOCK], size))
        for start in range(0, size * size, BLOCK)
    ]
    colour, depth, normal, classes = (np.concatenate(values) for values in zip(*blocks, strict=True))
    colour = colour.reshape(size, size, 3)
    picture, rough = colour.reshape(-1, 3), np.flatnonzero(_find_edges(colour))
    for start in range(0, len(rough), BLOCK // 4):
        chosen = rough[start : start + BLOCK // 4]
        points = (middles[chosen, None] + _QUARTER).reshape(-1, 2)
        finer = _look(room, solids, camera_rays(room.camera, points, size))[0]
        picture[chosen] = finer.reshape(-1, 4, 3).mean(1)
    normal = normal @ camera_axes(room.camera).T
    return {
        "rgb": (picture * 255 + 0.5).clip(0, 255).astype(np.uint8).reshape(size, size, 3),
        "depth": depth.astype(np.float32).reshape(size, size),
        "normal": normal.astype(np.float32).reshape(size, size, 3),
        "segmentation": classes.astype(np.uint8).reshape(size, size),
    }


def _find_edges(colour: ndarray) -> ndarray:
    """Which pixels differ from a neighbour: bool (H, W)."""
    rough = np.zeros(colour.shape[:2], bool)
    for axis in (0, 1):
        step = np.abs(np.diff(colour, axis=axis)).max(2) > EDGE
        first, second = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        rough[first] |= step
        rough[second] |= step
    return rough


def _pack(room: Room) -> Solids:
    shape, centre, half, yaw, taper = (
        np.array([getattr(part, name) for part in room.parts], float)
        for name in ("shape", "centre", "half", "yaw", "taper")
    )
    wide = np.where(shape[:, None] == CONE, half * np.maximum(1, taper)[:, None], half)
    wide[:, 2] = half[:, 2]
    radius = np.where(shape == BOX, np.linalg.norm(wide, axis=1), 0)
    radius = np.where(shape == CONE, np.hypot(wide[:, :2].max(1), wide[:, 2]), radius)
    radius = np.where(shape == ELLIPSOID, wide.max(1), radius)
    return Solids(shape, centre, half, np.stack([np.cos(yaw), np.sin(yaw)], 1), taper, radius)


# ---- hitting -------------------------------------------------------------------------------------------


def _candidates(
    origin: ndarray, direction: ndarray, solids: Solids, margin: float
) -> tuple[ndarray, ndarray]:
    """Pairs (ray, part) whose bounding sphere, wider by ``margin``, is hit: two index arrays.

    Origin and direction are (n, 3) or, the same for all rays, (3,).
    """
    origin, direction = origin.astype(np.float32), direction.astype(np.float32)
    centre = solids.centre.astype(np.float32).T  # (3, P)
    length = (direction**2).sum(-1, keepdims=True)
    along = direction @ centre - (origin * direction).sum(-1, keepdims=True)  # (n, P)
    apart = (origin**2).sum(-1, keepdims=True) - 2 * (origin @ centre) + (centre**2).sum(0)  # squared
    reach = ((solids.radius + margin) ** 2 + 1e-3).astype(np.float32)
    near = (apart - along * np.abs(along) / length < reach) | (apart < reach)  # squares of signed lengths
    return np.nonzero(near)


def _hit(origin: ndarray, direction: ndarray, solids: Solids, part: ndarray) -> ndarray:
    """Where ray i enters solid ``part[i]``: its parameter, (m,); infinite if it misses."""
    origin, direction = (
        _to_unit(origin - solids.centre[part], solids, part),
        _to_unit(direction, solids, part),
    )
    direction[direction == 0] = _TINY
    entry = np.full(len(part), np.inf)
    for shape, hit in ((BOX, _hit_box), (ELLIPSOID, _hit_ball), (CONE, _hit_cone)):
        rows = np.flatnonzero(solids.shape[part] == shape)
        if len(rows):
            entry[rows] = hit(origin[rows], direction[rows], solids.taper[part[rows]])
    return entry


def _to_unit(vector: ndarray, solids: Solids, part: ndarray) -> ndarray:
    """Into a solid's own axes, in units of its half sizes: (m, 3)."""
    cos, sin = solids.turn[part].T
    turned = np.empty_like(vector)
    turned[:, 0] = cos * vector[:, 0] + sin * vector[:, 1]
    turned[:, 1] = cos * vector[:, 1] - sin * vector[:, 0]
    turned[:, 2] = vector[:, 2]
    return np.divide(turned, solids.half[part], out=turned)


def _hit_box(origin: ndarray, direction: ndarray, taper: ndarray) -> ndarray:
    """The box from -1 to 1 between three pairs of planes."""
    middle, reach = -origin / direction, np.abs(1 / direction)
    enter, leave = (middle - reach).max(1), (middle + reach).min(1)
    return np.where((enter < leave) & (enter > 0), enter, np.inf)


def _hit_ball(origin: ndarray, direction: ndarray, taper: ndarray) -> ndarray:
    """The ball of radius 1."""
    square = (direction**2).sum(1)
    half = (origin * direction).sum(1)
    inside = half**2 - square * ((origin**2).sum(1) - 1)
    entry = (-half - np.sqrt(np.maximum(inside, 0))) / square
    return np.where((inside > 0) & (entry > 0), entry, np.inf)


def _hit_cone(origin: ndarray, direction: ndarray, taper: ndarray) -> ndarray:
    """Radius 1 at z = -1 and ``taper`` at z = 1, closed by two discs."""
    level, slope = (taper + 1) / 2, (taper - 1) / 2
    (ox, oy, oz), (dx, dy, dz) = origin.T, direction.T
    radius = level + slope * oz  # at the origin's height
    square = dx**2 + dy**2 - (slope * dz) ** 2
    square = np.where(np.abs(square) < _TINY, _TINY, square)
    half = ox * dx + oy * dy - slope * dz * radius
    inside = half**2 - square * (ox**2 + oy**2 - radius**2)
    root = np.sqrt(np.maximum(inside, 0))
    entry = np.full(len(taper), np.inf)
    for sign in (-1, 1):
        side = (-half + sign * root) / square
        z = oz + side * dz
        good = (inside > 0) & (side > 0) & (np.abs(z) <= 1) & (level + slope * z >= 0)
        entry = np.minimum(entry, np.where(good, side, np.inf))
    for z, limit in ((-1, 1), (1, taper)):
        disc = (z - oz) / dz
        good = (disc > 0) & ((ox + disc * dx) ** 2 + (oy + disc * dy) ** 2 <= limit**2)
        entry = np.minimum(entry, np.where(good, disc, np.inf))
    return entry


def _normal_of(point: ndarray, solids: Solids, part: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """For points on solids: normals (m, 3) in the room, points in unit coordinates, and which axis they face.

    The axis is that of a box's face; of round solids it is 2 on the lids of a cone and 1 elsewhere.
    """
    unit = _to_unit(point - solids.centre[part], solids, part)
    shape = solids.shape[part]
    slope = (solids.taper[part] - 1) / 2
    normal = unit.copy()  # of a ball
    is_cone, is_box = shape == CONE, shape == BOX
    radius = (solids.taper[part] + 1) / 2 + slope * unit[:, 2]
    lid = np.abs(unit[:, 2]) > 1 - 1e-7
    normal[:, 2] = np.where(is_cone, np.where(lid, np.sign(unit[:, 2]), -slope * radius), normal[:, 2])
    normal[:, :2] *= 1 - (is_cone & lid)[:, None]
    face = np.abs(unit).argmax(1)
    flat = np.zeros_like(unit)
    flat[np.arange(len(part)), face] = np.sign(unit[np.arange(len(part)), face])
    normal = np.where(is_box[:, None], flat, normal) / solids.half[part]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    cos, sin = solids.turn[part].T
    x, y = normal[:, 0].copy(), normal[:, 1].copy()
    normal[:, 0], normal[:, 1] = cos * x - sin * y, sin * x + cos * y
    return normal, unit, np.where(is_box, face, np.where(is_cone & lid, 2, 1))


# ---- looking -------------------------------------------------------------------------------------------


def _look(room: Room, solids: Solids, direction: ndarray) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Colours (n, 3) from 0 to 1, z-depths (n,), normals (n, 3) in the room and classes (n,) of rays."""
    n, size, eye = len(direction), np.array(room.size), np.array(room.camera.position)
    direction = np.where(direction == 0, _TINY, direction)
    exits = (np.where(direction > 0, size, 0) - eye) / direction  # (n, 3), from the room's box
    axis = exits.argmin(1)
    depth = exits[np.arange(n), axis]
    wall = 2 * axis + (direction[np.arange(n), axis] > 0)

    ray, part = _candidates(eye, direction, solids, 0)
    entry = np.full((n, len(room.parts)), np.inf)
    entry[ray, part] = _hit(np.broadcast_to(eye, (len(ray), 3)), direction[ray], solids, part)
    nearest = entry.argmin(1)
    is_part = entry[np.arange(n), nearest] < depth
    depth = np.where(is_part, entry[np.arange(n), nearest], depth)
    point = eye + depth[:, None] * direction

    normal = np.zeros((n, 3))
    normal[np.arange(n), axis] = np.where(wall % 2, -1, 1)
    albedo, glow = np.empty((n, 3)), np.zeros(n, bool)
    shell = np.flatnonzero(~is_part)
    albedo[shell] = _paint_shell(room, point[shell], wall[shell])
    hits = np.flatnonzero(is_part)
    normal[hits], unit, face = _normal_of(point[hits], solids, nearest[hits])
    albedo[hits], glow[hits] = _paint_parts(room, solids, nearest[hits], unit, face)

    classes = np.where(is_part, np.array([part.class_id for part in room.parts])[nearest], BACKGROUND)
    is_sky = ~is_part & _is_window(room, point, wall)
    colour = albedo * _light(room, solids, point, normal, glow | is_sky)
    colour = np.where(is_sky[:, None], _sky(direction), colour).clip(0, 1)
    depth[is_sky], normal[is_sky], classes[is_sky] = np.nan, np.nan, UNCERTAIN
    return colour, depth, normal, classes


def _is_window(room: Room, point: ndarray, wall: ndarray) -> ndarray:
    inside = np.zeros(len(point), bool)
    for window in room.windows:
        along = point[:, [1 - window.axis, 2]]
        inside |= (
            (wall == 2 * window.axis + window.side)
            & (along > window.low).all(1)
            & (along < window.high).all(1)
        )
    return inside


def _sky(direction: ndarray) -> ndarray:
    """Blue above, hazy at the horizon, a meadow below."""
    up = (direction[:, 2:] / np.linalg.norm(direction, axis=1, keepdims=True)).clip(-1, 1)
    haze, blue, green = (
        np.array([0.90, 0.95, 0.98]),
        np.array([0.52, 0.74, 0.95]),
        np.array([0.60, 0.72, 0.50]),
    )
    above = haze + (blue - haze) * (up * 3).clip(0, 1)
    return above + (green - above) * (0.5 - up * 60).clip(0, 1)


def _light(room: Room, solids: Solids, point: ndarray, normal: ndarray, is_bright: ndarray) -> ndarray:
    """How much light falls on points: (n, 1). Sky and ground light, dimmer in corners, and a lamp with shadows."""
    lamp, size = np.array(room.lamp) - [0, 0, 0.45], np.array(room.size)
    ambient = 0.52 + 0.10 * normal[:, 2] + 0.05 * normal[:, 0] - 0.03 * normal[:, 1]
    for axis in range(3):  # walls, floor and ceiling take light from each other near the edges
        for distance in (point[:, axis], size[axis] - point[:, axis]):
            facing = 1 - np.abs(normal[:, axis])
            ambient *= 1 - 0.22 * facing * np.exp(-np.maximum(distance, 0) / 0.22)
    to_lamp = lamp - point
    square = (to_lamp**2).sum(1)
    slant = (to_lamp * normal).sum(1) / np.sqrt(square)
    direct = 0.66 * (0.25 + 0.75 * slant) * (slant > 0) / (0.55 + square / 9)
    lit = np.flatnonzero((slant > 0) & ~is_bright)
    start = point[lit] + 2e-3 * normal[lit]
    ray, part = _candidates(start, lamp - start, solids, LAMP_RADIUS)
    casts = np.array([p.texture not in (TEXTURE["glow"], TEXTURE["rug"]) for p in room.parts])
    ray, part = ray[casts[part]], part[casts[part]]
    seen = np.zeros(len(lit))
    for angle in np.arange(4) * np.pi / 2 + 0.4:
        target = lamp + LAMP_RADIUS * np.array([np.cos(angle), np.sin(angle), 0])
        blocked = np.zeros(len(lit), bool)
        blocked[ray[_hit(start[ray], target - start[ray], solids, part) < 1]] = True
        seen += ~blocked / 4
    direct[lit] *= seen
    return np.where(is_bright, 1.0, ambient + direct)[:, None]


# ---- painting ------------------------------------------------------------------------------------------


def _paint_shell(room: Room, point: ndarray, wall: ndarray) -> ndarray:
    """Colours (m, 3) of walls, floor and ceiling, with white skirting boards."""
    axis = wall // 2
    u = np.where(axis == 0, point[:, 1], point[:, 0])
    v = np.where(axis == 2, point[:, 1], point[:, 2])
    texture, colour, accent = (
        np.array([getattr(s, name) for s in room.surfaces])[wall] for name in ("texture", "colour", "accent")
    )
    share = _pattern(texture, u, v, u, v, np.zeros(len(u)))
    painted = colour + (accent - colour) * share[:, None]
    return np.where(((axis < 2) & (v < 0.09))[:, None], 0.93, painted)


def _paint_parts(
    room: Room, solids: Solids, part: ndarray, unit: ndarray, face: ndarray
) -> tuple[ndarray, ndarray]:
    """Colours (m, 3) of points on solids, and which of them shine by themselves."""
    texture, colour, accent, phase = (
        np.array([getattr(p, name) for p in room.parts])[part]
        for name in ("texture", "colour", "accent", "phase")
    )
    first, second = np.where(face == 0, 1, 0), np.where(face == 2, 1, 2)
    rows = np.arange(len(part))
    a, b = unit[rows, first], unit[rows, second]  # from -1 to 1 across the face
    half = solids.half[part]
    shown = np.where(np.isin(texture, _FRONT_ONLY) & (face != 1), 0, texture)
    share = _pattern(shown, (a + 1) * half[rows, first], (b + 1) * half[rows, second], a, b, phase)
    painted = colour + (accent - colour) * share[:, None]
    for name, repaint in (("picture", _paint_picture), ("spines", _paint_spines)):
        rows = np.flatnonzero(shown == TEXTURE[name])
        if len(rows):
            u = (a[rows] + 1) * half[rows, first[rows]]
            painted[rows] = repaint(painted[rows], accent[rows], a[rows], b[rows], u, phase[rows])
    return painted, texture == TEXTURE["glow"]


def _hash(i: ndarray, j: ndarray | int = 0) -> ndarray:
    """A number from 0 to 1 for a pair of whole numbers, the same everywhere."""
    mixed = (np.floor(i).astype(np.int64) * 73856093) ^ (
        np.floor(j).astype(np.int64) * 19349663 if isinstance(j, ndarray) else j * 83492791
    )
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) / 0xFFFF


def _pattern(texture: ndarray, u: ndarray, v: ndarray, a: ndarray, b: ndarray, phase: ndarray) -> ndarray:
    """The share of the accent colour at points of textured faces: (m,).

    u and v are metres from a corner of the face, a and b run from -1 to 1 across it.
    """
    share = np.zeros(len(texture))
    for number in np.unique(texture):
        if number in _SHARES:
            rows = np.flatnonzero(texture == number)
            share[rows] = _SHARES[number](u[rows], v[rows], a[rows], b[rows], phase[rows])
    return share


def _planks(u, v, a, b, phase):
    row = np.floor(v / 0.16)
    along = u + _hash(row) * 1.3
    tone = _hash(row, np.floor(along / 1.3))
    grain = 0.1 * np.sin(along * 9 + 6 * tone) * np.sin(v * 70 + 9 * tone)
    gap = (v / 0.16 - row < 0.05) | (np.abs(along / 1.3 % 1) < 0.008)
    return np.where(gap, 0.9, 0.45 * tone + grain * 0.5)


def _tiles(u, v, a, b, phase):
    i, j = np.floor(u / 0.45), np.floor(v / 0.45)
    grout = (u / 0.45 - i < 0.035) | (v / 0.45 - j < 0.035)
    return np.where(grout, -0.0, 0.0) + np.where(grout, 0.25, (i + j) % 2 * 0.9 + 0.08 * _hash(i, j))


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
    n = np.maximum(1, np.round(u.max() / 0.5)) if len(u) else 1
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
    TEXTURE["wood"]: lambda u, v, a, b, phase: -0.12 - 0.12 * np.sin(v * 60 + 2 * np.sin(u * 5)),
    TEXTURE["fabric"]: lambda u, v, a, b, phase: 0.10 * _hash(u / 0.03, np.floor(v / 0.03)) - 0.05,
    TEXTURE["leaves"]: lambda u, v, a, b, phase: _hash(u / 0.05, np.floor(v / 0.05)),
    TEXTURE["planks"]: _planks,
    TEXTURE["tiles"]: _tiles,
    TEXTURE["carpet"]: lambda u, v, a, b, phase: 0.3 * _hash(u / 0.04, np.floor(v / 0.04)),
    TEXTURE["stripes"]: lambda u, v, a, b, phase: ((u / 0.3) % 1 < 0.5).astype(float),
    TEXTURE["two_tone"]: lambda u, v, a, b, phase: np.where(np.abs(v - 0.98) < 0.025, -0.6, (v < 0.98) * 1.0),
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
    sun = np.hypot(x - 1.2 * (phase - 0.5), y - 0.5) < 0.24
    inside = np.where(sun[:, None], [0.98, 0.86, 0.55], 0.25 * accent + 0.72)
    inside = np.where((y < hill)[:, None], 0.6 * painted + 0.3, inside)
    inside = np.where((y < near)[:, None], 0.75 * accent, inside)
    sheen = painted + 0.12 * ((a + b) > 0.3)[:, None]
    inside = np.where((phase < 0)[:, None], sheen, inside)
    mat = ((edge > 0.72) & (phase >= 0))[:, None]
    frame = np.where((phase > 0.5)[:, None], 0.14, [0.52, 0.38, 0.25])
    return np.where((edge > 0.9)[:, None], frame, np.where(mat, 0.95, inside))


def _paint_spines(painted, accent, a, b, u, phase):
    """Backs of books side by side, each in its own colour."""
    book = np.floor(u / 0.042)
    seed = np.floor(phase * 1000)
    tones = np.array(
        [[0.68, 0.22, 0.20], [0.20, 0.34, 0.52], [0.86, 0.74, 0.46], [0.28, 0.44, 0.34], [0.90, 0.88, 0.82],
         [0.42, 0.28, 0.42], [0.84, 0.50, 0.26], [0.24, 0.25, 0.30]]
    )  # fmt: skip
    colour = tones[(_hash(book, seed) * 7.999).astype(int)]
    gap = (u / 0.042 - book < 0.1) | (b > 0.55 + 0.45 * _hash(book, seed + 7))
    band = np.abs(b - 0.3) < 0.07
    return np.where(gap[:, None], 0.3 * colour, np.where(band[:, None], 0.5 * colour + 0.4, colour))
