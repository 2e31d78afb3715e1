"""What the camera of a drawn room sees: colours, and exact depth, normals and classes.

Where rays hit is `room_solids`, what surfaces look like `room_paint`.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from dmtg_lite.data.toys.room_paint import paint, paint_sky
from dmtg_lite.data.toys.room_parts import TEXTURES, UNCERTAIN, Camera, Room
from dmtg_lite.data.toys.room_solids import TINY, Solids, cast, find_normal, pack, to_unit

BLOCK = 8192  # rays cast at once: their arrays stay in the cache
LAMP_RADIUS = 0.28  # metres; four points on this circle make shadows soft
THIN = 0.043  # metres; rugs, frames and boards below that cast no shadow
EDGE = 32 / 255  # neighbours that differ by more are drawn again with four rays a pixel
_QUARTER = np.array([[-1, 3, 1, -3], [-3, -1, 3, 1]]) / 8  # (2, 4), in pixels


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
    rays[rays == 0] = TINY
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
    solids = pack(room.parts)
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
    across = np.pad((np.abs(np.diff(colour, axis=2)) > EDGE).any(0), ((0, 0), (1, 1)))
    down = np.pad((np.abs(np.diff(colour, axis=1)) > EDGE).any(0), ((1, 1), (0, 0)))
    return across[:, 1:] | across[:, :-1] | down[1:] | down[:-1]


def _look(
    room: Room, solids: Solids, rays: ndarray, *, is_fine: bool
) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Colours (3, n) from 0 to 1, z-depths (n,), normals (3, n) in the room and classes (n,)."""
    eye, size = (np.array(v, np.float32)[:, None] for v in (room.camera.position, room.size))
    exits = (np.where(rays > 0, size, 0) - eye) / rays  # from the space that the shell surrounds
    axis, depth = exits.argmin(0), exits.min(0)
    part = 2 * axis + (np.take_along_axis(rays, axis[None], 0)[0] > 0)
    entry, solid, ray = cast(solids.take(np.arange(6, len(solids.shape))), eye, rays)
    np.minimum.at(depth, ray, entry)
    first = np.flatnonzero(entry == depth[ray])
    part[ray[first]] = 6 + solid[first]
    point = eye + depth * rays
    own = solids.take(part)
    unit = to_unit(own.frame, point - own.centre)
    normal, face = find_normal(own, unit)
    is_sky = np.zeros(len(part), bool)
    for wall, low, high in room.windows:
        along, up = point[1 - wall // 2], point[2]
        is_sky |= (
            (part == wall) & (low[0] < along) & (along < high[0]) & (low[1] < up) & (up < high[1])
        )
    is_bright = is_sky | (own.texture == TEXTURES.index("glow"))
    colour = paint(own, unit, face)
    colour *= _light(room, solids, point, normal, is_bright, is_fine)
    colour = np.where(is_sky, paint_sky(rays), colour).clip(0, 1)
    depth[is_sky], normal[:, is_sky] = np.nan, np.nan
    return colour, depth, normal, np.where(is_sky, UNCERTAIN, own.class_id)


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
        entry, _, ray = cast(casters, source, np.take(point, rows, -1) - source)
        is_dark = np.zeros(len(rows), bool)
        is_dark[ray[entry < 1]] = True
        share[rows] -= is_dark * np.float32(1 if is_fine else 0.5)
    return share
