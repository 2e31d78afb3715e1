"""What rooms are made of: solids with a colour, a texture and a class of Taskonomy, and how to move
them. Furniture made of them is `room_furniture`, a room full of it `room_scene`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple, TypeAlias

CLASSES = (
    "uncertain", "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table",
    "toilet", "tv", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
UNCERTAIN, BACKGROUND = 0, 1
BOX, CONE, BALL = range(3)  # a cone is cut off at the top: an upright cylinder for taper 1
TEXTURES = (  # what they look like is `room_paint`
    "plain", "glow", "wood", "speckle", "wall", "planks", "tiles", "rug", "curtain", "spines",
    "picture", "clock", "screen", "panels",
)  # fmt: skip
Colour: TypeAlias = tuple[float, float, float]
Point: TypeAlias = tuple[float, float, float]
Bounds: TypeAlias = tuple[float, float, float, float, float, float]  # low x, y, z, high x, y, z

WHITE, CREAM, CHROME = (0.95, 0.94, 0.92), (0.93, 0.90, 0.83), (0.74, 0.76, 0.78)
STEEL, BLACK, GREEN = (0.66, 0.68, 0.71), (0.07, 0.07, 0.09), (0.36, 0.55, 0.28)


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
    texture: int
    yaw: float
    taper: float
    phase: float


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
    parts: tuple[Part, ...]
    windows: tuple[Window, ...]
    lamp: Point
    camera: Camera


class Palette(NamedTuple):
    """Colours that go together."""

    wall: Colour
    fabric: Colour
    accent: Colour
    wood: Colour


PALETTES = (
    Palette((0.93, 0.91, 0.87), (0.45, 0.56, 0.62), (0.88, 0.66, 0.31), (0.77, 0.60, 0.42)),
    Palette((0.82, 0.86, 0.79), (0.36, 0.47, 0.41), (0.84, 0.55, 0.42), (0.66, 0.47, 0.31)),
    Palette((0.95, 0.88, 0.84), (0.70, 0.42, 0.40), (0.34, 0.43, 0.49), (0.59, 0.41, 0.28)),
    Palette((0.84, 0.88, 0.92), (0.20, 0.29, 0.44), (0.87, 0.71, 0.36), (0.71, 0.54, 0.37)),
    Palette((0.96, 0.93, 0.88), (0.60, 0.52, 0.44), (0.36, 0.55, 0.52), (0.47, 0.33, 0.24)),
    Palette((0.70, 0.79, 0.79), (0.84, 0.77, 0.66), (0.81, 0.43, 0.29), (0.63, 0.45, 0.30)),
    Palette((0.88, 0.86, 0.91), (0.50, 0.43, 0.58), (0.89, 0.74, 0.43), (0.74, 0.59, 0.44)),
    Palette((0.96, 0.91, 0.79), (0.29, 0.46, 0.52), (0.78, 0.38, 0.28), (0.69, 0.50, 0.34)),
)


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
    centre = (at[0], at[1], at[2] + half[2])
    accent = accent or dark(colour, 0.45)
    looks = (CLASSES.index(name), TEXTURES.index(texture), yaw, taper, phase)
    return Part(shape, centre, half, colour, accent, *looks)


box, cone, ball = (partial(solid, shape) for shape in (BOX, CONE, BALL))


def place_shell(size: Point) -> list[tuple[Point, Point]]:
    """Where the first six boxes of a room of this size stand, and how large they are."""
    w, d, h = size
    thick, half = 0.2, 0.1
    sides = [((x, d / 2, 0), (thick, d, h)) for x in (-half, w + half)]
    ends = [((w / 2, y, 0), (w + 1, thick, h)) for y in (-half, d + half)]
    levels = [((w / 2, d / 2, z), (w + 1, d + 1, thick)) for z in (-thick, h)]
    return [*sides, *ends, *levels]


def moved(parts: list[Part], x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> list[Part]:
    """The parts turned about the vertical axis through the origin, then shifted."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    result = []
    for part in parts:
        a, b, c = part.centre
        centre = (cos * a - sin * b + x, sin * a + cos * b + y, c + z)
        result.append(part._replace(centre=centre, yaw=part.yaw + yaw))
    return result


def bounds(parts: list[Part]) -> Bounds:
    """The smallest upright box that holds the parts."""
    around = []
    for part in parts:
        wide, deep, high = part.half
        around.append(turned((-wide, -deep, -high, wide, deep, high), *part.centre, part.yaw))
    x0, y0, z0, x1, y1, z1 = zip(*around, strict=True)
    return min(x0), min(y0), min(z0), max(x1), max(y1), max(z1)


def turned(place: Bounds, x: float, y: float, z: float, yaw: float) -> Bounds:
    """The box around a box that `moved` has turned and shifted."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    along, up = (place[0] + place[3]) / 2, (place[1] + place[4]) / 2
    wide, deep = (place[3] - place[0]) / 2, (place[4] - place[1]) / 2
    x, y = x + cos * along - sin * up, y + sin * along + cos * up
    wide, deep = abs(cos) * wide + abs(sin) * deep, abs(sin) * wide + abs(cos) * deep
    return x - wide, y - deep, place[2] + z, x + wide, y + deep, place[5] + z
