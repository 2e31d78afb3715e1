"""What rooms are made of: solids with a colour, a texture and a class of Taskonomy, and how to move
them. Furniture made of them is `room_furniture`, a room full of it `room_scene`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy import ndarray

CLASSES = (
    "uncertain", "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table",
    "toilet", "tv", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
UNCERTAIN, BACKGROUND = 0, 1
BOX, CONE, BALL = range(3)  # a cone is cut off at the top: an upright cylinder for taper 1
Point: TypeAlias = tuple[float, float, float]
Colour: TypeAlias = tuple[float, float, float]


class Part(NamedTuple):
    """One solid, in metres: half sizes along its own axes, turned by ``yaw`` about the vertical.

    ``taper`` is the radius of a cone at the top over that at the bottom; ``phase`` varies a
    texture: it is the rows of panels, the strength of speckles, else any number from 0 to 1.
    """

    shape: int
    centre: Point
    half: Point
    colour: Colour
    accent: Colour
    class_id: int
    texture: str  # see `room_paint`
    yaw: float
    taper: float
    phase: float


# Of arrays of parts: `np.array(parts, PART)["centre"]` is (parts, 3).
_TYPES = ("i8", "3f4", "3f4", "3f4", "3f4", "i8", "U9", "f4", "f4", "f4")
PART = np.dtype(list(zip(Part._fields, _TYPES, strict=True)))


class Window(NamedTuple):
    """A hole in a wall, by number (`Room`); ``low`` and ``high`` are (along, up) in metres."""

    wall: int
    low: tuple[float, float]
    high: tuple[float, float]


class Camera(NamedTuple):
    """Position in metres; yaw from +x towards +y, pitch upwards and field of view in radians."""

    position: Point
    yaw: float
    pitch: float
    fov: float


class Room(NamedTuple):
    """Space from (0, 0, 0) to ``size`` = (width, depth, height) in metres, z up, seen from inside.

    The first six ``parts`` are boxes around it: the walls x = 0, x = width, y = 0, y = depth, the
    floor and the ceiling.
    """

    size: Point
    parts: list[Part]
    windows: list[Window]
    lamp: Point
    camera: Camera


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of ``second`` in ``first``."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def dark(colour: Colour, share: float) -> Colour:
    return mix(colour, (0.08, 0.06, 0.06), share)


def light(colour: Colour, share: float) -> Colour:
    return mix(colour, (1.0, 0.98, 0.96), share)


def solid(
    shape: int,
    at: Point,
    size: Point,
    colour: Colour,
    name: str = "background",
    texture: str = "plain",
    *,
    accent: Colour | None = None,
    yaw: float = 0.0,
    taper: float = 1.0,
    phase: float = 0.2,
) -> Part:
    """A solid of full ``size`` (x, y, z) that stands on ``at``, the middle of its bottom."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    centre, accent = (at[0], at[1], at[2] + half[2]), accent or dark(colour, 0.45)
    looks = (CLASSES.index(name), texture, yaw, taper, phase)
    return Part(shape, centre, half, colour, accent, *looks)


box, cone, ball = (partial(solid, shape) for shape in (BOX, CONE, BALL))


def place_shell(size: Point) -> list[tuple[Point, Point]]:
    """Where the first six boxes of a room of this size stand, and how large they are."""
    w, d, h = size
    sides = [((x, d / 2, 0), (0.2, d, h)) for x in (-0.1, w + 0.1)]
    ends = [((w / 2, y, 0), (w + 1, 0.2, h)) for y in (-0.1, d + 0.1)]
    levels = [((w / 2, d / 2, z), (w + 1, d + 1, 0.2)) for z in (-0.2, h)]
    return [*sides, *ends, *levels]


def moved(parts: list[Part], x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> list[Part]:
    """The parts turned about the vertical axis through the origin, then shifted."""
    cos, sin, result = math.cos(yaw), math.sin(yaw), []
    for part in parts:
        a, b, c = part.centre
        centre = (cos * a - sin * b + x, sin * a + cos * b + y, c + z)
        result.append(part._replace(centre=centre, yaw=part.yaw + yaw))
    return result


def bounds(parts: list[Part]) -> ndarray:
    """The smallest upright box that holds the parts: (2, 3), its low and its high corner."""
    corners = []
    for part in parts:
        (x, y, z), (w, d, h) = part.centre, part.half
        cos, sin = abs(math.cos(part.yaw)), abs(math.sin(part.yaw))
        w, d = cos * w + sin * d, sin * w + cos * d
        corners += [(x - w, y - d, z - h), (x + w, y + d, z + h)]
    return np.array([np.min(corners, axis=0), np.max(corners, axis=0)])
