"""What rooms are made of: solids with a colour, a texture and a class of Taskonomy, and how to move
them.

Furniture made of them is `room_furniture`, a room full of it `room_scene`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

UNCERTAIN, BACKGROUND = 0, 1
CLASSES = (
    "uncertain", "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
CLASS = {name: number for number, name in enumerate(CLASSES)}
BOX, ELLIPSOID, CONE = range(3)  # a cone is cut off at the top: an upright cylinder for taper 1
# A texture is one number per surface point that mixes `colour` and `accent`, see `room_render`.
TEXTURES = (
    "plain", "glow", "wood", "fabric", "leaves", "planks", "tiles", "carpet", "stripes", "two_tone", "rug",
    "picture", "clock", "screen", "doors", "drawers", "fridge", "oven", "spines", "curtain", "panels",
)  # fmt: skip
TEXTURE = {name: number for number, name in enumerate(TEXTURES)}
Colour = tuple[float, float, float]
Point = tuple[float, float, float]
Rectangle = tuple[float, float, float, float]  # low x, low y, high x, high y

WHITE, CREAM, CHROME = (0.95, 0.94, 0.92), (0.93, 0.90, 0.83), (0.74, 0.76, 0.78)
STEEL, BLACK, GREEN = (0.66, 0.68, 0.71), (0.07, 0.07, 0.09), (0.30, 0.52, 0.27)
CLEARANCE = 0.85  # metres around the camera without furniture


class Part(NamedTuple):
    """One solid, in metres: half sizes along its own axes, turned by ``yaw`` about the vertical.

    ``taper`` is the radius of a cone at the top over that at the bottom; ``phase`` varies a
    texture, and for doors it is their number.
    """

    shape: int
    centre: Point
    half: Point
    colour: Colour
    class_id: int = BACKGROUND
    accent: Colour = WHITE
    texture: int = 0
    yaw: float = 0.0
    taper: float = 1.0
    phase: float = 0.0


class Surface(NamedTuple):
    """How a floor or a wall is painted."""

    colour: Colour
    accent: Colour
    texture: int = 0


class Window(NamedTuple):
    """A hole in the wall that ``axis`` and ``side`` name; ``low`` and ``high`` are (along, up) in metres."""

    axis: int
    side: int
    low: tuple[float, float]
    high: tuple[float, float]


class Camera(NamedTuple):
    """Position in metres; yaw from +x towards +y, pitch upwards and field of view, all in radians."""

    position: Point
    yaw: float
    pitch: float
    fov: float


class Room(NamedTuple):
    """A box from (0, 0, 0) to ``size`` = (width, depth, height) in metres, z up, seen from inside.

    ``surfaces`` are those of the walls x = 0, x = width, y = 0, y = depth, the floor and the
    ceiling.
    """

    size: Point
    surfaces: tuple[Surface, ...]
    windows: tuple[Window, ...]
    parts: tuple[Part, ...]
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
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


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
    *,
    texture: str = "plain",
    accent: Colour = WHITE,
    yaw: float = 0.0,
    taper: float = 1.0,
    phase: float = 0.0,
) -> Part:
    """A solid of full ``size`` (x, y, z) that stands on ``at``, the middle of its bottom."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    centre = (at[0], at[1], at[2] + half[2])
    return Part(
        shape, centre, half, colour, CLASS[name], accent, TEXTURE[texture], yaw, taper, phase
    )


def moved(parts: list[Part], x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> list[Part]:
    """The parts turned about the vertical axis through the origin, then shifted."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return [
        part._replace(
            centre=(
                cos * part.centre[0] - sin * part.centre[1] + x,
                sin * part.centre[0] + cos * part.centre[1] + y,
                part.centre[2] + z,
            ),
            yaw=part.yaw + yaw,
        )
        for part in parts
    ]


def footprint(parts: list[Part]) -> Rectangle:
    """The smallest rectangle (x, y, x, y) that holds the parts seen from above."""
    places = [
        turned((-part.half[0], -part.half[1], *part.half[:2]), *part.centre, part.yaw)
        for part in parts
    ]
    low_x, low_y, high_x, high_y = zip(*places, strict=True)
    return min(low_x), min(low_y), max(high_x), max(high_y)


def turned(place: Rectangle, x: float, y: float, z: float, yaw: float) -> Rectangle:
    """The rectangle around a rectangle that `moved` has turned and shifted."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    along, up = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
    wide, deep = (place[2] - place[0]) / 2, (place[3] - place[1]) / 2
    x, y = x + cos * along - sin * up, y + sin * along + cos * up
    wide, deep = abs(cos) * wide + abs(sin) * deep, abs(sin) * wide + abs(cos) * deep
    return x - wide, y - deep, x + wide, y + deep
