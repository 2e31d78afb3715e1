"""Random furnished rooms as lists of simple solids, each with a colour, a texture and a class of Taskonomy.

What is in a room and where; looking at it is `room_render`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

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

    ``taper`` is the radius of a cone at the top over that at the bottom; ``phase`` varies a texture, and for
    doors it is their number.
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

    ``surfaces`` are those of the walls x = 0, x = width, y = 0, y = depth, the floor and the ceiling.
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


_PALETTES = (
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


# ---- solids and furniture, standing at the origin with the back at y = 0 and the front towards +y -------


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
    return Part(shape, centre, half, colour, CLASS[name], accent, TEXTURE[texture], yaw, taper, phase)


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


def _legs(width: float, depth: float, height: float, thick: float, colour: Colour, name: str) -> list[Part]:
    """Four legs at the corners of a footprint that begins at y = 0."""
    xs, ys = (thick / 2 - width / 2, width / 2 - thick / 2), (thick / 2, depth - thick / 2)
    return [solid(BOX, (x, y, 0), (thick, thick, height), colour, name) for x in xs for y in ys]


def _bottle(rng: Generator, look: Palette) -> list[Part]:
    glass = ((0.16, 0.36, 0.24), (0.42, 0.24, 0.12), (0.30, 0.48, 0.60))[rng.integers(3)]
    wide = rng.uniform(0.075, 0.1)
    return [
        solid(CONE, (0, 0, 0), (wide, wide, 0.19), glass, "bottle"),
        solid(CONE, (0, 0, 0.19), (wide, wide, 0.06), glass, "bottle", taper=0.35),
        solid(CONE, (0, 0, 0.25), (0.035, 0.035, 0.08), dark(glass, 0.4), "bottle"),
    ]


def _vase(rng: Generator, look: Palette) -> list[Part]:
    glaze = (look.accent, light(look.fabric, 0.3), (0.25, 0.42, 0.66), CREAM)[rng.integers(4)]
    wide, tall = rng.uniform(0.13, 0.2), rng.uniform(0.18, 0.28)
    return [
        solid(ELLIPSOID, (0, 0, 0), (wide, wide, tall), glaze, "vase"),
        solid(CONE, (0, 0, tall * 0.85), (wide * 0.4, wide * 0.4, tall * 0.4), glaze, "vase", taper=1.5),
    ]


def _books(rng: Generator, look: Palette) -> list[Part]:
    """A small pile, lying."""
    parts, z = [], 0.0
    for _ in range(rng.integers(2, 5)):
        cover = (look.accent, look.fabric, (0.70, 0.20, 0.20), (0.16, 0.30, 0.50))[rng.integers(4)]
        size = (rng.uniform(0.2, 0.27), rng.uniform(0.15, 0.2), rng.uniform(0.03, 0.05))
        parts.append(solid(BOX, (0, 0, z), size, cover, "book", yaw=rng.uniform(-0.3, 0.3)))
        z += size[2]
    return parts


def _plant(rng: Generator, look: Palette, scale: float = 1.0) -> list[Part]:
    name, pot = "potted plant", (look.accent, WHITE, (0.72, 0.42, 0.30))[rng.integers(3)]
    wide, tall = 0.30 * scale, 0.30 * scale
    parts = [solid(CONE, (0, 0, 0), (wide * 0.75, wide * 0.75, tall), pot, name, taper=1.33)]
    parts.append(solid(CONE, (0, 0, tall), (0.04, 0.04, 0.3 * scale), (0.36, 0.26, 0.16), name))
    green = mix(GREEN, (0.45, 0.60, 0.30), rng.uniform(0, 1))
    for _ in range(rng.integers(5, 8)):
        angle, out, up = rng.uniform(0, 6.3), rng.uniform(0.05, 0.24), rng.uniform(0.35, 0.95)
        at = (scale * out * np.cos(angle), scale * out * np.sin(angle), scale * up)
        size = tuple(scale * rng.uniform((0.22, 0.22, 0.18), (0.38, 0.38, 0.36)))
        tone = mix(green, (0.16, 0.32, 0.16), rng.uniform(0, 0.6))
        parts.append(solid(ELLIPSOID, at, size, tone, name, texture="leaves", accent=dark(tone, 0.35)))
    return parts


def _small_things(rng: Generator, look: Palette, chance: float, width: float) -> list[Part]:
    """A few small things on a surface of this width, around the origin."""
    makers = (_bottle, _vase, _books, lambda rng, look: _plant(rng, look, 0.4))
    places = np.linspace(-0.5, 0.5, max(2, int(width / 0.35)))[:, None] * [width - 0.3, 0]
    parts: list[Part] = []
    for x, y in places + rng.uniform(-0.06, 0.06, places.shape):
        if rng.random() < chance:
            parts += moved(makers[rng.integers(4)](rng, look), x, y)
    return parts


def _chair(rng: Generator, look: Palette) -> list[Part]:
    colour = dark(look.wood, 0.2)
    seat, w, d = mix(look.accent, look.wood, 0.3), 0.44, 0.44
    return [
        *_legs(w, d, 0.44, 0.045, colour, "chair"),
        solid(BOX, (0, d / 2, 0.43), (w, d, 0.06), seat, "chair", texture="fabric"),
        solid(BOX, (0, 0.03, 0.49), (0.04, 0.04, 0.24), colour, "chair"),
        solid(BOX, (0, 0.03, 0.66), (w, 0.05, 0.26), seat, "chair", texture="fabric"),
    ]


def _couch(rng: Generator, look: Palette) -> list[Part]:
    name, seats = "couch", int(rng.integers(2, 4))
    cloth, w, d = look.fabric, 0.7 * seats + 0.4, 0.92
    parts = _legs(w, d, 0.12, 0.06, dark(look.wood, 0.3), name)
    parts += [
        solid(BOX, (0, d / 2, 0.1), (w, d, 0.2), dark(cloth, 0.12), name, texture="fabric"),
        solid(BOX, (0, 0.12, 0.3), (w, 0.24, 0.52), cloth, name, texture="fabric"),
        *(solid(BOX, (s * (w / 2 - 0.1), d / 2, 0.3), (0.2, d, 0.3), cloth, name, texture="fabric")
          for s in (-1, 1)),
    ]  # fmt: skip
    for i in range(seats):
        x = (i - (seats - 1) / 2) * 0.7
        cushion = light(cloth, 0.1)
        parts.append(solid(BOX, (x, 0.58, 0.3), (0.67, 0.66, 0.17), cushion, name, texture="fabric"))
        parts.append(solid(BOX, (x, 0.3, 0.46), (0.66, 0.16, 0.42), cushion, name, texture="fabric"))
    for side in (-1, 1):
        if rng.random() < 0.75:
            x, pillow = side * (w / 2 - 0.38), (look.accent, CREAM)[rng.integers(2)]
            parts.append(
                solid(ELLIPSOID, (x, 0.43, 0.46), (0.44, 0.16, 0.38), pillow, name, texture="fabric")
            )
    return parts


def _table(rng: Generator, look: Palette, w: float, d: float, h: float, chance: float) -> list[Part]:
    name, grain = "dining table", dark(look.wood, 0.6)
    return [
        *_legs(w - 0.1, d - 0.1, h - 0.04, 0.06, dark(look.wood, 0.15), name),
        solid(BOX, (0, d / 2 - 0.05, h - 0.04), (w, d, 0.05), look.wood, name, texture="wood", accent=grain),
        *moved(_small_things(rng, look, chance, w), 0, d / 2, h + 0.01),
    ]


def _low_table(rng: Generator, look: Palette) -> list[Part]:
    return _table(rng, look, rng.uniform(0.9, 1.2), 0.6, 0.42, 0.6)


def _dining_set(rng: Generator, look: Palette) -> list[Part]:
    """A table with chairs on both long sides, about 2 m deep."""
    w = rng.uniform(1.3, 1.9)
    parts = moved(_table(rng, look, w, 0.85, 0.75, 0.5), 0, 0.55)
    for x in np.linspace(-0.5, 0.5, 2 + (w > 1.6)) * (w - 0.65):
        turn = rng.uniform(-0.15, 0.15, 2)
        parts += moved(_chair(rng, look), x, 0.12, yaw=turn[0])
        parts += moved(_chair(rng, look), x, 1.83, yaw=np.pi + turn[1])
    return parts


def _desk(rng: Generator, look: Palette) -> list[Part]:
    parts = _table(rng, look, 1.3, 0.65, 0.74, 0.4)
    parts += moved(_television(rng, look, 0.62), -0.1, 0.1, 0.75)
    return parts + moved(_chair(rng, look), 0.1, 1.25, yaw=np.pi + rng.uniform(-0.6, 0.6))


def _television(rng: Generator, look: Palette, w: float) -> list[Part]:
    foot, h = 0.06, 0.6 * w
    return [
        solid(BOX, (0, 0.1, 0), (w * 0.4, 0.18, 0.02), BLACK, "tv"),
        solid(BOX, (0, 0.08, 0.02), (0.08, 0.04, foot), BLACK, "tv"),
        solid(BOX, (0, 0.1, 0.02 + foot), (w, 0.05, h), BLACK, "tv", texture="screen",
              accent=(0.20, 0.27, 0.38), phase=rng.uniform(0, 1)),
    ]  # fmt: skip


def _television_stand(rng: Generator, look: Palette) -> list[Part]:
    w, wood = rng.uniform(1.4, 1.8), light(look.wood, 0.2)
    body = solid(
        BOX, (0, 0.22, 0.06), (w, 0.44, 0.42), wood, texture="doors", accent=dark(wood, 0.4), phase=3
    )
    parts = [body, *_legs(w, 0.4, 0.06, 0.05, dark(wood, 0.5), "background")]
    return parts + moved(_television(rng, look, rng.uniform(0.95, 1.25)), 0, 0.06, 0.48)


def _bed(rng: Generator, look: Palette) -> list[Part]:
    name, w, d = "bed", (1.0, 1.5, 1.7)[rng.integers(3)], 2.05
    duvet, grain = mix(look.fabric, WHITE, (0.15, 0.6)[rng.integers(2)]), dark(look.wood, 0.6)
    parts = [
        solid(BOX, (0, 0.04, 0), (w + 0.1, 0.08, 1.0), look.wood, name, texture="wood", accent=grain),
        solid(BOX, (0, d / 2, 0.1), (w + 0.06, d, 0.2), look.wood, name, texture="wood", accent=grain),
        solid(BOX, (0, d / 2 + 0.02, 0.3), (w, d - 0.06, 0.2), WHITE, name),
        solid(BOX, (0, d * 0.64, 0.34), (w + 0.05, d * 0.7, 0.21), duvet, name, texture="fabric"),
        solid(BOX, (0, d * 0.83, 0.36), (w + 0.07, d * 0.22, 0.21), look.accent, name, texture="fabric"),
    ]
    for x in (0,) if w < 1.2 else (-w / 4, w / 4):
        parts.append(solid(ELLIPSOID, (x, 0.34, 0.46), (0.62, 0.42, 0.2), WHITE, name, texture="fabric"))
    return parts


def _table_lamp(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(CONE, (0, 0, 0), (0.12, 0.12, 0.26), mix(look.accent, WHITE, 0.2), taper=0.4),
        solid(CONE, (0, 0, 0.24), (0.28, 0.28, 0.2), (1.0, 0.93, 0.78), texture="glow", taper=0.65),
    ]


def _nightstand(rng: Generator, look: Palette) -> list[Part]:
    wood = light(look.wood, 0.1)
    body = solid(BOX, (0, 0.2, 0), (0.45, 0.4, 0.5), wood, texture="drawers", accent=dark(wood, 0.45))
    parts = [body, *moved(_table_lamp(rng, look), -0.08, 0.16, 0.5)]
    return parts + moved((_books, _bottle)[rng.integers(2)](rng, look), 0.12, 0.25, 0.5)


def _bed_with_nightstands(rng: Generator, look: Palette) -> list[Part]:
    parts = _bed(rng, look)
    beside = footprint(parts)[2] + 0.27
    for side in (-1, 1):
        if rng.random() < 0.7:
            parts += moved(_nightstand(rng, look), side * beside, 0)
    return parts


def _wardrobe(rng: Generator, look: Palette) -> list[Part]:
    colour = (WHITE, look.wood, light(look.wood, 0.45))[rng.integers(3)]
    size = (rng.uniform(1.1, 1.7), 0.58, rng.uniform(1.95, 2.15))
    return [
        solid(BOX, (0, 0.29, 0), size, colour, texture="doors", accent=dark(colour, 0.4), phase=size[0] / 0.5)
    ]


def _chest(rng: Generator, look: Palette) -> list[Part]:
    """A chest of drawers with things on it."""
    w, h, colour = rng.uniform(0.8, 1.2), rng.uniform(0.75, 0.95), (WHITE, look.wood)[rng.integers(2)]
    body = solid(BOX, (0, 0.22, 0), (w, 0.44, h), colour, texture="drawers", accent=dark(colour, 0.4))
    return [body, *moved(_small_things(rng, look, 0.75, w), 0, 0.22, h)]


def _bookcase(rng: Generator, look: Palette) -> list[Part]:
    w, d, h, n = rng.uniform(0.8, 1.2), 0.32, rng.uniform(1.7, 2.1), 5
    wood = (look.wood, WHITE, dark(look.wood, 0.3))[rng.integers(3)]
    parts = [solid(BOX, (0, 0.015, 0), (w, 0.03, h), dark(wood, 0.25))]
    parts += [solid(BOX, (s * (w / 2 - 0.015), d / 2, 0), (0.03, d, h), wood) for s in (-1, 1)]
    for z in np.linspace(0.04, h - 0.03, n + 1):
        parts.append(solid(BOX, (0, d / 2, z), (w, d, 0.03), wood))
    for z in np.linspace(0.04, h - 0.03, n + 1)[:-1] + 0.03:
        filled = rng.uniform(0.45, 0.95) * (w - 0.08)
        left = rng.random() < 0.5
        x = (filled - w + 0.08) / 2 * (1 if left else -1)
        size = (filled, 0.2, rng.uniform(0.2, 0.26))
        parts.append(solid(BOX, (x, 0.14, z), size, look.accent, "book", texture="spines",
                           accent=look.fabric, phase=rng.uniform(0, 1)))  # fmt: skip
        if filled < 0.65 * w:
            gap = (w / 2 - 0.2) * (1 if left else -1)
            parts += moved((_vase, _vase, _bottle)[rng.integers(3)](rng, look), gap, 0.17, z)
    return parts


def _floor_lamp(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(CONE, (0, 0.2, 0), (0.3, 0.3, 0.03), BLACK),
        solid(CONE, (0, 0.2, 0), (0.035, 0.035, 1.4), BLACK),
        solid(CONE, (0, 0.2, 1.35), (0.42, 0.42, 0.28), (1.0, 0.94, 0.80), texture="glow", taper=0.7),
    ]


def _floor_plant(rng: Generator, look: Palette) -> list[Part]:
    return moved(_plant(rng, look, rng.uniform(0.95, 1.35)), 0, 0.3)


def _refrigerator(rng: Generator, look: Palette) -> list[Part]:
    name, colour = "refrigerator", (STEEL, light(STEEL, 0.6))[rng.integers(2)]
    w, h = rng.uniform(0.65, 0.8), rng.uniform(1.7, 1.9)
    return [
        solid(BOX, (0, 0.34, 0), (w, 0.68, h), colour, name, texture="fridge", accent=dark(colour, 0.5)),
        solid(BOX, (w * 0.38, 0.7, h * 0.48), (0.03, 0.04, 0.42), dark(colour, 0.35), name),
        solid(BOX, (w * 0.38, 0.7, h * 0.18), (0.03, 0.04, 0.35), dark(colour, 0.35), name),
    ]


def _counter(rng: Generator, look: Palette) -> list[Part]:
    """A kitchen line: base cabinets and a worktop with sink, oven and small machines, cabinets above."""
    front = (WHITE, mix(look.fabric, WHITE, 0.25), look.wood)[rng.integers(3)]
    top, line = (dark(look.wood, 0.1), (0.30, 0.30, 0.32), CREAM)[rng.integers(3)], dark(front, 0.4)
    parts: list[Part] = []
    units = ["doors", "sink", "oven", "doors"]
    rng.shuffle(units)
    w = 0.68 * len(units)
    for i, unit in enumerate(units):
        x = (i + 0.5) * 0.68 - w / 2
        if unit == "oven":
            parts.append(solid(BOX, (x, 0.31, 0), (0.68, 0.62, 0.87), STEEL, "oven", texture="oven",
                               accent=BLACK))  # fmt: skip
            parts.append(solid(BOX, (x, 0.32, 0.91), (0.6, 0.52, 0.012), BLACK, "oven"))
        else:
            parts.append(solid(BOX, (x, 0.3, 0), (0.68, 0.6, 0.87), front, texture="doors", accent=line))
        if unit == "sink":
            parts += [
                solid(BOX, (x, 0.32, 0.9), (0.56, 0.46, 0.035), CHROME, "sink"),
                solid(BOX, (x, 0.34, 0.9), (0.46, 0.34, 0.038), dark(CHROME, 0.45), "sink"),
                solid(CONE, (x, 0.1, 0.9), (0.04, 0.04, 0.28), CHROME, "sink"),
                solid(BOX, (x, 0.18, 1.15), (0.035, 0.2, 0.035), CHROME, "sink"),
            ]
        elif unit == "doors":
            maker = (_microwave, _toaster, _toaster, _bottle)[rng.integers(4)]
            parts += moved(maker(rng, look), x, 0.3, 0.91)
    parts.append(solid(BOX, (0, 0.31, 0.87), (w + 0.02, 0.63, 0.04), top))
    if rng.random() < 0.75:
        for i in range(len(units)):
            x = (i + 0.5) * 0.68 - w / 2
            parts.append(solid(BOX, (x, 0.17, 1.5), (0.68, 0.34, 0.65), front, texture="doors", accent=line))
    return parts


def _microwave(rng: Generator, look: Palette) -> list[Part]:
    body = dark(STEEL, 0.25)
    return [solid(BOX, (0, 0, 0), (0.52, 0.36, 0.3), body, "microwave", texture="screen", accent=BLACK)]


def _toaster(rng: Generator, look: Palette) -> list[Part]:
    body = (CHROME, (0.75, 0.18, 0.16), look.accent)[rng.integers(3)]
    return [
        solid(BOX, (0, 0, 0.01), (0.3, 0.2, 0.2), body, "toaster"),
        *(solid(BOX, (0, y, 0.2), (0.22, 0.035, 0.015), BLACK, "toaster") for y in (-0.045, 0.045)),
    ]


def _toilet(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(BOX, (0, 0.1, 0.4), (0.42, 0.2, 0.4), WHITE, "toilet"),
        solid(CONE, (0, 0.4, 0), (0.28, 0.36, 0.36), WHITE, "toilet", taper=1.35),
        solid(CONE, (0, 0.42, 0.36), (0.42, 0.54, 0.05), light(WHITE, 0.6), "toilet"),
        solid(BOX, (0, 0.18, 0), (0.26, 0.34, 0.4), WHITE, "toilet"),
    ]


def _washbasin(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(CONE, (0, 0.22, 0), (0.2, 0.2, 0.72), WHITE, "sink"),
        solid(CONE, (0, 0.25, 0.7), (0.34, 0.3, 0.17), WHITE, "sink", taper=1.8),
        solid(CONE, (0, 0.26, 0.86), (0.5, 0.42, 0.014), (0.72, 0.78, 0.80), "sink"),
        solid(CONE, (0, 0.05, 0.86), (0.04, 0.04, 0.16), CHROME, "sink"),
        solid(BOX, (0, 0.12, 0.99), (0.03, 0.16, 0.03), CHROME, "sink"),
        solid(BOX, (0, 0.02, 1.25), (0.62, 0.03, 0.75), light((0.70, 0.80, 0.84), 0.2), texture="picture",
              accent=(0.80, 0.88, 0.90), phase=-1.0),
    ]  # fmt: skip


def _bathtub(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(BOX, (0, 0.38, 0), (1.7, 0.76, 0.56), WHITE),
        solid(BOX, (0, 0.38, 0.55), (1.54, 0.6, 0.014), (0.66, 0.80, 0.86)),
    ]


def _picture(rng: Generator, look: Palette) -> list[Part]:
    w, h = rng.uniform(0.5, 1.1), rng.uniform(0.45, 0.8)
    colours = (look.accent, look.fabric) if rng.random() < 0.5 else (look.fabric, look.accent)
    return [solid(BOX, (0, 0.02, -h / 2), (w, 0.04, h), colours[0], texture="picture", accent=colours[1],
                  phase=rng.uniform(0, 1))]  # fmt: skip


def _clock(rng: Generator, look: Palette) -> list[Part]:
    wide = rng.uniform(0.3, 0.45)
    rim = (BLACK, dark(look.wood, 0.3))[rng.integers(2)]
    return [solid(ELLIPSOID, (0, 0.01, -wide / 2), (wide, 0.07, wide), WHITE, "clock", texture="clock",
                  accent=rim, phase=rng.uniform(0, 1))]  # fmt: skip


def _shelf(rng: Generator, look: Palette) -> list[Part]:
    """A board on the wall with books."""
    w = rng.uniform(0.7, 1.1)
    filled = rng.uniform(0.4, 0.8) * w
    return [
        solid(BOX, (0, 0.12, 0), (w, 0.24, 0.03), look.wood),
        solid(BOX, ((filled - w) / 2 + 0.02, 0.11, 0.03), (filled, 0.17, 0.23), look.accent, "book",
              texture="spines", accent=look.fabric, phase=rng.uniform(0, 1)),
        *moved(_vase(rng, look), w / 2 - 0.12, 0.12, 0.03),
    ]  # fmt: skip


def _door(rng: Generator, look: Palette) -> list[Part]:
    colour = (WHITE, light(look.wood, 0.1))[rng.integers(2)]
    return [
        solid(BOX, (0, 0.02, 0), (1.04, 0.04, 2.12), light(colour, 0.3)),
        solid(BOX, (0, 0.03, 0), (0.9, 0.05, 2.04), colour, texture="panels", accent=dark(colour, 0.3)),
        solid(ELLIPSOID, (0.36, 0.09, 1.0), (0.07, 0.07, 0.07), CHROME),
    ]


def _rug(rng: Generator, look: Palette, w: float, d: float) -> list[Part]:
    """Round or not; it lies around the origin."""
    shape = CONE if rng.random() < 0.25 else BOX
    size = (d, d, 0.015) if shape == CONE else (w, d, 0.015)
    base = (light(look.fabric, 0.45), light(look.accent, 0.4), CREAM)[rng.integers(3)]
    accent = (look.accent, look.fabric)[rng.integers(2)]
    return [solid(shape, (0, 0, 0), size, base, texture="rug", accent=accent, phase=rng.uniform(0, 1))]


# ---- a room --------------------------------------------------------------------------------------------

Maker = Callable[[Generator, Palette], list[Part]]
# What stands in the middle or along the walls, in the order of placing; a chance each.
_ROOMS: dict[str, tuple[tuple[Maker, ...], tuple[tuple[Maker, float], ...]]] = {
    "living room": (
        (_low_table,),
        (
            (_couch, 1.0), (_television_stand, 0.9), (_bookcase, 0.8), (_couch, 0.4), (_floor_plant, 0.9),
            (_floor_lamp, 0.7), (_chest, 0.6), (_door, 0.6), (_floor_plant, 0.4),
        ),
    ),
    "bedroom": (
        (),
        (
            (_bed_with_nightstands, 1.0), (_wardrobe, 0.9), (_desk, 0.6), (_chest, 0.8), (_bookcase, 0.5),
            (_floor_plant, 0.7), (_chair, 0.5), (_door, 0.6),
        ),
    ),
    "kitchen": (
        (_dining_set,),
        (
            (_counter, 1.0), (_refrigerator, 1.0), (_chest, 0.5), (_floor_plant, 0.5), (_door, 0.7),
            (_chair, 0.5),
        ),
    ),
    "dining room": (
        (_dining_set,),
        (
            (_chest, 0.9), (_bookcase, 0.7), (_floor_plant, 0.9), (_couch, 0.5), (_floor_lamp, 0.5),
            (_door, 0.6), (_chair, 0.5),
        ),
    ),
    "study": (
        (),
        (
            (_desk, 1.0), (_bookcase, 1.0), (_bookcase, 0.8), (_couch, 0.7), (_floor_plant, 0.8),
            (_floor_lamp, 0.6), (_chair, 0.5), (_door, 0.5),
        ),
    ),
    "bathroom": (
        (),
        (
            (_washbasin, 1.0), (_toilet, 1.0), (_bathtub, 0.9), (_floor_plant, 0.5), (_chest, 0.4),
            (_door, 0.6),
        ),
    ),
}  # fmt: skip
_ODDS = {
    "living room": 0.28,
    "bedroom": 0.2,
    "kitchen": 0.2,
    "dining room": 0.12,
    "study": 0.1,
    "bathroom": 0.1,
}
# Turn of furniture whose back is at the wall x = 0, x = width, y = 0, y = depth.
_TURN = (-math.pi / 2, math.pi / 2, 0.0, math.pi)


def draw_room(rng: Generator) -> Room:
    """Furnish a random room and put a camera into it.

    Args:
        rng: Source of everything; the same state gives the same room.

    Returns:
        A room of 3 to 7 m by 3 to 7 m; the camera is at eye height near one wall and looks across.
    """
    kind = rng.choice(list(_ODDS), p=list(_ODDS.values()))
    most = 4.5 if kind == "bathroom" else 6.9
    size = (
        3.1 + (most - 3.1) * rng.beta(1.3, 2),
        3.1 + (most - 3.1) * rng.beta(1.3, 2),
        rng.uniform(2.4, 2.8),
    )
    look = _PALETTES[rng.integers(len(_PALETTES))]
    camera, behind = _place_camera(rng, size)
    plan = _Plan(rng, size, look, camera, behind)
    middle, along = _ROOMS[kind]
    for _ in range(rng.choice(3, p=(0.25, 0.45, 0.3))):
        plan.add_window()
    for maker in middle:
        plan.stand_in_middle(maker)
    for maker, chance in along:
        if rng.random() < chance:
            plan.stand_at_wall(maker)
    for _ in range(rng.integers(2, 5)):
        plan.hang((_picture, _picture, _clock, _shelf)[rng.integers(4)])
    lamp = (size[0] * rng.uniform(0.4, 0.6), size[1] * rng.uniform(0.4, 0.6), size[2])
    plan.parts += moved(_ceiling_lamp(rng, look), *lamp)
    surfaces = _paint_shell(rng, look, is_tiled=kind in ("kitchen", "bathroom"))
    camera = _turn_to_objects(rng, camera, plan.parts)
    return Room(size, surfaces, tuple(plan.windows), tuple(plan.parts), lamp, camera)


def _place_camera(rng: Generator, size: Point) -> tuple[Camera, int]:
    """A camera before a random wall, looking squarely across the room; also the number of that wall."""
    behind = int(rng.integers(4))
    axis, side = divmod(behind, 2)
    back, along = rng.uniform(0.25, 0.5), size[1 - axis] * rng.uniform(0.25, 0.75)
    across = size[axis] - back if side else back
    x, y = (across, along) if axis == 0 else (along, across)
    yaw = _TURN[behind] + math.pi / 2  # furniture with its back at this wall faces the same way
    pitch, fov = math.radians(rng.uniform(-16, -3)), math.radians(rng.uniform(60, 75))
    return Camera((x, y, rng.uniform(1.35, 1.65)), yaw, pitch, fov), behind


def _turn_to_objects(rng: Generator, camera: Camera, parts: list[Part]) -> Camera:
    """Turn the camera by at most 40 degrees, about to the middle of what has a class of its own."""
    centres = [part.centre for part in parts if part.class_id > BACKGROUND]
    if not centres:
        return camera
    x, y, _ = (sum(values) / len(centres) for values in zip(*centres, strict=True))
    towards = math.atan2(y - camera.position[1], x - camera.position[0]) + rng.uniform(-0.25, 0.25)
    turn = (towards - camera.yaw + math.pi) % (2 * math.pi) - math.pi
    return camera._replace(yaw=camera.yaw + max(-0.7, min(0.7, turn)))


def _paint_shell(rng: Generator, look: Palette, *, is_tiled: bool) -> tuple[Surface, ...]:
    """Walls alike but one in a stronger colour perhaps; a floor of wood, tiles or carpet; a white ceiling."""
    wall, strong = look.wall, mix(look.wall, look.fabric, rng.uniform(0.25, 0.6))
    style = TEXTURE[str(rng.choice(["plain", "stripes", "two_tone"], p=[0.5, 0.25, 0.25]))]
    walls = [Surface(wall, mix(wall, look.fabric, 0.22), style if rng.random() < 0.8 else 0)] * 4
    if rng.random() < 0.5:
        walls[rng.integers(4)] = Surface(strong, mix(strong, wall, 0.25), style)
    floors = ("tiles", "tiles", "planks") if is_tiled else ("planks", "planks", "carpet")
    floor = floors[rng.integers(3)]
    if floor == "tiles":
        base = (CREAM, (0.78, 0.78, 0.76), (0.80, 0.72, 0.62))[rng.integers(3)]
        ground = Surface(base, (mix(base, look.fabric, 0.35), base)[rng.integers(2)], TEXTURE[floor])
    elif floor == "carpet":
        ground = Surface(mix(look.fabric, CREAM, 0.55), dark(look.fabric, 0.1), TEXTURE[floor])
    else:
        ground = Surface(light(look.wood, rng.uniform(0, 0.2)), dark(look.wood, 0.3), TEXTURE[floor])
    return (*walls, ground, Surface((0.96, 0.95, 0.93), WHITE))


def _ceiling_lamp(rng: Generator, look: Palette) -> list[Part]:
    """Hangs from the origin; it does not stand in its own light."""
    drop = rng.uniform(0.15, 0.4)
    wide = rng.uniform(0.3, 0.5)
    shade = (1.0, 0.96, 0.86)
    return [
        solid(CONE, (0, 0, -drop), (0.03, 0.03, drop), shade, texture="glow"),
        solid(CONE, (0, 0, -drop - 0.2), (wide, wide, 0.2), shade, texture="glow", taper=0.6),
    ]


class _Plan:
    """What stands where so far; finds free places by trying."""

    def __init__(self, rng: Generator, size: Point, look: Palette, camera: Camera, behind: int) -> None:
        self.rng, self.size, self.look = rng, size, look
        self.parts: list[Part] = []
        self.windows: list[Window] = []
        x, y, _ = camera.position
        self.taken = [(x - CLEARANCE, y - CLEARANCE, x + CLEARANCE, y + CLEARANCE)]  # on the floor
        self.hung: list[list[tuple[float, float]]] = [[], [], [], []]  # (from, to) along each wall
        across = behind ^ 1
        # The camera sees the wall across and parts of the two beside it, but never the one behind.
        self.walls = [across, across, *(wall for wall in range(4) if wall // 2 != behind // 2)]

    def _wall_frame(self, wall: int, along: float) -> tuple[float, float, float, float]:
        """(x, y, z, yaw) of something whose back is at a wall, for `moved`."""
        axis, side = divmod(wall, 2)
        at = [0.0, 0.0]
        at[axis], at[1 - axis] = side * self.size[axis], along
        return at[0], at[1], 0.0, _TURN[wall]

    def _is_inside(self, place: Rectangle) -> bool:
        x0, y0, x1, y1 = place
        return min(x0, y0) > -0.01 and x1 < self.size[0] + 0.01 and y1 < self.size[1] + 0.01

    def _is_free(self, place: Rectangle, margin: float) -> bool:
        x0, y0, x1, y1 = place
        return self._is_inside(place) and all(
            x1 + margin < a0 or a1 + margin < x0 or y1 + margin < b0 or b1 + margin < y0
            for a0, b0, a1, b1 in self.taken
        )

    def stand_at_wall(self, maker: Maker) -> None:
        """Put it somewhere along a wall, or leave it out if there is no room in ten tries."""
        parts = maker(self.rng, self.look)
        place = low, _, high, _ = footprint(parts)
        half = (high - low) / 2
        is_tall = max(part.centre[2] + part.half[2] for part in parts) > 1.0
        for _ in range(10):
            wall = self.walls[self.rng.integers(4)]
            length = self.size[1 - wall // 2]
            if 2 * half > length - 0.1:
                continue
            along = self.rng.uniform(half, length - half)
            frame = self._wall_frame(wall, along)
            here = turned(place, *frame)
            if self._is_free(here, 0.06) and not (is_tall and not self._is_wall_free(wall, along, half)):
                self.parts += moved(parts, *frame)
                self.taken.append(here)
                if is_tall:
                    self.hung[wall].append((along - half, along + half))
                return

    def stand_in_middle(self, maker: Maker) -> None:
        """Put it near the middle, turned along the room, on a rug perhaps."""
        parts = maker(self.rng, self.look)
        low, front, high, back = footprint(parts)
        parts = moved(parts, 0, -(front + back) / 2)
        place = footprint(parts)
        for _ in range(10):
            x, y = (length * self.rng.uniform(0.35, 0.65) for length in self.size[:2])
            frame = (x, y, 0.0, self.rng.integers(2) * math.pi / 2 + self.rng.uniform(-0.12, 0.12))
            here = turned(place, *frame)
            if self._is_free(here, 0.1):
                rug = _rug(self.rng, self.look, high - low + 0.9, back - front + 0.7)
                if self.rng.random() < 0.75 and self._is_inside(turned(footprint(rug), *frame)):
                    self.parts += moved(rug, *frame)
                self.parts += moved(parts, *frame)
                self.taken.append(here)
                return

    def _is_wall_free(self, wall: int, along: float, half: float) -> bool:
        return all(along + half < a or b < along - half for a, b in self.hung[wall])

    def hang(self, maker: Maker) -> None:
        """Hang it on a wall at about eye height where nothing tall stands."""
        parts = maker(self.rng, self.look)
        low, _, high, _ = footprint(parts)
        half = (high - low) / 2 + 0.1
        for _ in range(8):
            wall = self.walls[self.rng.integers(4)]
            along = self.rng.uniform(half, self.size[1 - wall // 2] - half)
            if self._is_wall_free(wall, along, half):
                parts = moved(parts, 0, 0, self.rng.uniform(1.55, 1.75))
                self.parts += moved(parts, *self._wall_frame(wall, along))
                self.hung[wall].append((along - half, along + half))
                return

    def add_window(self) -> None:
        """Cut a window into a wall, with a white frame and perhaps curtains."""
        wall = self.walls[self.rng.integers(4)]
        length = self.size[1 - wall // 2]
        w = self.rng.uniform(0.8, min(1.6, length - 1.4))
        along = self.rng.uniform(w / 2 + 0.5, length - w / 2 - 0.5)
        low, high = self.rng.uniform(0.85, 1.0), self.size[2] - self.rng.uniform(0.3, 0.5)
        if not self._is_wall_free(wall, along, w / 2 + 0.45):
            return
        axis, side = divmod(wall, 2)
        self.windows.append(Window(axis, side, (along - w / 2, low), (along + w / 2, high)))
        bar, h = 0.06, high - low
        parts = [
            solid(BOX, (0, 0.02, low - bar), (w + 2 * bar, 0.04, bar), WHITE),
            solid(BOX, (0, 0.02, high), (w + 2 * bar, 0.04, bar), WHITE),
            solid(BOX, (0, 0.05, low - bar), (w + 0.16, 0.1, 0.03), WHITE),
            *(solid(BOX, (side * (w + bar) / 2, 0.02, low), (bar, 0.04, h), WHITE) for side in (-1, 0, 1)),
            solid(BOX, (0, 0.02, low + h * 0.62), (w, 0.03, bar * 0.7), WHITE),
        ]  # fmt: skip
        if self.rng.random() < 0.6:
            cloth = mix(self.look.accent, self.look.wall, self.rng.uniform(0.2, 0.7))
            for s in (-1, 1):
                parts.append(solid(BOX, (s * (w / 2 + 0.12), 0.1, 0.05), (0.42, 0.08, high + 0.1), cloth,
                                   texture="curtain", accent=dark(cloth, 0.3)))  # fmt: skip
            parts.append(solid(BOX, (0, 0.1, high + 0.13), (w + 0.9, 0.03, 0.03), dark(self.look.wood, 0.3)))
        self.parts += moved(parts, *self._wall_frame(wall, along))
        self.hung[wall].append((along - w / 2 - 0.35, along + w / 2 + 0.35))


def footprint(parts: list[Part]) -> Rectangle:
    """The smallest rectangle (x, y, x, y) that holds the parts seen from above."""
    places = [
        turned((-part.half[0], -part.half[1], *part.half[:2]), *part.centre, part.yaw) for part in parts
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
