"""Furniture from simple solids, standing at the origin with its back at y = 0 and its front towards
+y. Where it stands in a room is `room_scene`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator

from dmtg_lite.data.toys.room_parts import Colour, Part, ball, box, cone, dark, light, mix, moved

WHITE, CREAM, CHROME = (0.95, 0.94, 0.92), (0.93, 0.90, 0.83), (0.74, 0.76, 0.78)
STEEL, BLACK, GREEN = (0.66, 0.68, 0.71), (0.07, 0.07, 0.09), (0.36, 0.55, 0.28)
T = TypeVar("T")
Parts = list[Part]


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


def pick(rng: Generator, *choices: T) -> T:
    return choices[rng.integers(len(choices))]


def draw_legs(w: float, d: float, h: float, thick: float, colour: Colour, name: str) -> Parts:
    """Four legs at the corners of a footprint that begins at y = 0."""
    xs, ys = (thick / 2 - w / 2, w / 2 - thick / 2), (thick / 2, d - thick / 2)
    return [box((x, y, 0), (thick, thick, h), colour, name) for x in xs for y in ys]


def draw_bottle(rng: Generator, look: Palette) -> Parts:
    glass = pick(rng, (0.16, 0.36, 0.24), (0.42, 0.24, 0.12), (0.30, 0.48, 0.60))
    shoulder = cone((0, 0, 0.19), (0.09, 0.09, 0.06), glass, "bottle", taper=0.35)
    neck = cone((0, 0, 0.25), (0.035, 0.035, 0.08), dark(glass, 0.4), "bottle")
    return [cone((0, 0, 0), (0.09, 0.09, 0.19), glass, "bottle"), shoulder, neck]


def draw_vase(rng: Generator, look: Palette) -> Parts:
    glaze = pick(rng, look.accent, light(look.fabric, 0.3), (0.25, 0.42, 0.66), CREAM)
    w, h = rng.uniform(0.13, 0.2), rng.uniform(0.18, 0.28)
    neck = cone((0, 0, 0.85 * h), (0.4 * w, 0.4 * w, 0.4 * h), glaze, "vase", taper=1.5)
    return [ball((0, 0, 0), (w, w, h), glaze, "vase"), neck]


def draw_books(rng: Generator, look: Palette) -> Parts:
    """A small pile, lying."""
    parts = []
    for i in range(rng.integers(2, 5)):
        cover = pick(rng, look.accent, look.fabric, (0.70, 0.20, 0.20), (0.16, 0.30, 0.50))
        size = (rng.uniform(0.2, 0.27), rng.uniform(0.15, 0.2), 0.04)
        parts.append(box((0, 0, 0.04 * i), size, cover, "book", yaw=rng.uniform(-0.3, 0.3)))
    return parts


def draw_plant(rng: Generator, look: Palette, scale: float = 0.4) -> Parts:
    name, pot = "potted plant", pick(rng, look.accent, WHITE, (0.72, 0.42, 0.30))
    w, stem = 0.225 * scale, (0.36, 0.26, 0.16)
    parts = [
        cone((0, 0, 0), (w, w, 0.3 * scale), pot, name, taper=1.33),
        cone((0, 0, 0.3 * scale), (0.04, 0.04, 0.3 * scale), stem, name),
    ]
    for _ in range(rng.integers(5, 8)):
        angle, out, up = rng.uniform(0, 6.3), rng.uniform(0.05, 0.24), rng.uniform(0.35, 0.95)
        w, h = scale * rng.uniform(0.22, 0.38), scale * rng.uniform(0.18, 0.36)
        tone = mix(GREEN, (0.16, 0.32, 0.16), rng.uniform(0, 0.7))
        at = (scale * out * np.cos(angle), scale * out * np.sin(angle), scale * up)
        parts.append(ball(at, (w, w, h), tone, name, "speckle", phase=0.8))
    return parts


def draw_floor_plant(rng: Generator, look: Palette) -> Parts:
    return moved(draw_plant(rng, look, rng.uniform(0.95, 1.35)), 0, 0.3)


def draw_things(rng: Generator, look: Palette, chance: float, width: float) -> Parts:
    """A few small things on a surface of this width, around the origin."""
    parts = []
    for x in np.linspace(-0.5, 0.5, max(2, int(width / 0.35))) * (width - 0.3):
        if rng.random() < chance:
            thing = pick(rng, draw_bottle, draw_vase, draw_books, draw_plant)(rng, look)
            parts += moved(thing, x + rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06))
    return parts


def draw_chair(rng: Generator, look: Palette) -> Parts:
    frame, seat = dark(look.wood, 0.2), mix(look.accent, look.wood, 0.3)
    return [
        *draw_legs(0.44, 0.44, 0.44, 0.045, frame, "chair"),
        box((0, 0.22, 0.43), (0.44, 0.44, 0.06), seat, "chair", "speckle"),
        box((0, 0.03, 0.49), (0.04, 0.04, 0.24), frame, "chair"),
        box((0, 0.03, 0.66), (0.44, 0.05, 0.26), seat, "chair", "speckle"),
    ]


def draw_couch(rng: Generator, look: Palette) -> Parts:
    name, seats, cloth = "couch", int(rng.integers(2, 4)), look.fabric
    w, soft = 0.7 * seats + 0.4, light(cloth, 0.1)
    parts = [
        *draw_legs(w, 0.92, 0.12, 0.06, dark(look.wood, 0.3), name),
        box((0, 0.46, 0.1), (w, 0.92, 0.2), dark(cloth, 0.12), name, "speckle"),
        box((0, 0.12, 0.3), (w, 0.24, 0.52), cloth, name, "speckle"),
    ]
    for x in 0.7 * np.arange(seats) - 0.35 * (seats - 1):
        parts.append(box((x, 0.58, 0.3), (0.67, 0.66, 0.17), soft, name, "speckle"))
        parts.append(box((x, 0.3, 0.46), (0.66, 0.16, 0.42), soft, name, "speckle"))
    for side in (-1, 1):
        arm, at = side * (w / 2 - 0.1), (side * (w / 2 - 0.38), 0.43, 0.46)
        parts.append(box((arm, 0.46, 0.3), (0.2, 0.92, 0.3), cloth, name, "speckle"))
        if rng.random() < 0.75:
            pillow = pick(rng, look.accent, CREAM)
            parts.append(ball(at, (0.44, 0.16, 0.38), pillow, name, "speckle"))
    return parts


def draw_bed(rng: Generator, look: Palette) -> Parts:
    name, w = "bed", pick(rng, 1.0, 1.5, 1.7)
    duvet = mix(look.fabric, WHITE, pick(rng, 0.15, 0.6))
    parts = [
        box((0, 0.04, 0), (w + 0.1, 0.08, 1.0), look.wood, name, "wood"),
        box((0, 1.02, 0.1), (w + 0.06, 2.04, 0.2), look.wood, name, "wood"),
        box((0, 1.04, 0.3), (w, 2.0, 0.2), WHITE, name),
        box((0, 1.31, 0.34), (w + 0.05, 1.43, 0.21), duvet, name, "speckle"),
        box((0, 1.7, 0.36), (w + 0.07, 0.45, 0.21), look.accent, name, "speckle"),
    ]
    for x in (0,) if w < 1.2 else (-w / 4, w / 4):
        parts.append(ball((x, 0.34, 0.46), (0.62, 0.42, 0.2), WHITE, name, "speckle"))
    return parts


def draw_table(rng: Generator, look: Palette, size: tuple[float, ...] = (1.1, 0.6, 0.42)) -> Parts:
    """A low one unless told, with things on it."""
    (w, d, h), name = size, "dining table"
    return [
        *draw_legs(w - 0.1, d - 0.1, h - 0.04, 0.06, dark(look.wood, 0.15), name),
        box((0, d / 2 - 0.05, h - 0.04), (w, d, 0.05), look.wood, name, "wood"),
        *moved(draw_things(rng, look, 0.5, w), 0, d / 2, h + 0.01),
    ]


def draw_dining_set(rng: Generator, look: Palette) -> Parts:
    """A table with chairs on both long sides, about 2 m deep."""
    w = rng.uniform(1.3, 1.9)
    parts = moved(draw_table(rng, look, (w, 0.85, 0.75)), 0, 0.55)
    for x in np.linspace(-0.5, 0.5, 2 + (w > 1.6)) * (w - 0.65):
        for y, yaw in ((0.12, 0), (1.83, np.pi)):
            parts += moved(draw_chair(rng, look), x, y, yaw=yaw + rng.uniform(-0.15, 0.15))
    return parts


def draw_television(rng: Generator, look: Palette) -> Parts:
    """On a low board."""
    w, wood, glass = rng.uniform(1.4, 1.8), light(look.wood, 0.2), (0.2, 0.27, 0.38)
    return [
        box((0, 0.22, 0), (w, 0.44, 0.48), wood, texture="panels", phase=1),
        box((0, 0.16, 0.48), (w * 0.28, 0.18, 0.02), BLACK, "tv"),
        box((0, 0.14, 0.5), (0.08, 0.04, 0.06), BLACK, "tv"),
        box((0, 0.16, 0.56), (0.7 * w, 0.05, 0.42 * w), BLACK, "tv", "screen", accent=glass),
    ]


def draw_wardrobe(rng: Generator, look: Palette) -> Parts:
    colour, w = pick(rng, WHITE, look.wood, light(look.wood, 0.45)), rng.uniform(1.1, 1.7)
    return [box((0, 0.29, 0), (w, 0.58, 2.05), colour, texture="panels", phase=1)]


def draw_chest(rng: Generator, look: Palette) -> Parts:
    """A chest of drawers with things on it."""
    w, h, colour = rng.uniform(0.8, 1.2), rng.uniform(0.75, 0.95), pick(rng, WHITE, look.wood)
    body = box((0, 0.22, 0), (w, 0.44, h), colour, texture="panels", phase=3)
    return [body, *moved(draw_things(rng, look, 0.75, w), 0, 0.22, h)]


def draw_bookcase(rng: Generator, look: Palette) -> Parts:
    w, h = rng.uniform(0.8, 1.2), rng.uniform(1.7, 2.1)
    wood, levels = pick(rng, look.wood, WHITE, dark(look.wood, 0.3)), np.linspace(0.04, h - 0.03, 6)
    parts = [box((0, 0.015, 0), (w, 0.03, h), dark(wood, 0.25))]
    parts += [box((x, 0.16, 0), (0.03, 0.32, h), wood) for x in (0.015 - w / 2, w / 2 - 0.015)]
    parts += [box((0, 0.16, z), (w, 0.32, 0.03), wood) for z in levels]
    for z in levels[:-1] + 0.03:
        filled, side = rng.uniform(0.45, 0.95) * (w - 0.08), pick(rng, -1, 1)
        at, size = (side * (w - 0.08 - filled) / 2, 0.14, z), (filled, 0.2, rng.uniform(0.2, 0.26))
        parts.append(box(at, size, look.accent, "book", "spines", phase=rng.random()))
        if filled < 0.65 * w:
            parts += moved(draw_vase(rng, look), side * (0.2 - w / 2), 0.17, z)
    return parts


def draw_door(rng: Generator, look: Palette) -> Parts:
    colour = pick(rng, WHITE, light(look.wood, 0.1))
    return [
        box((0, 0.02, 0), (1.04, 0.04, 2.12), light(colour, 0.3)),
        box((0, 0.03, 0), (0.9, 0.05, 2.04), colour, texture="panels", phase=-3),
        ball((0.36, 0.09, 1.0), (0.07, 0.07, 0.07), CHROME),
    ]


def draw_refrigerator(rng: Generator, look: Palette) -> Parts:
    name, colour, h = "refrigerator", pick(rng, STEEL, light(STEEL, 0.6)), rng.uniform(1.7, 1.9)
    parts = [box((0, 0.34, 0), (0.7, 0.68, h), colour, name)]
    for z, tall in ((0, 0.6 * h), (0.61 * h, 0.39 * h)):  # two doors
        parts.append(box((0, 0.69, z + 0.01), (0.7, 0.02, tall - 0.02), colour, name))
        grip = dark(colour, 0.4)
        parts.append(box((0.27, 0.71, z + 0.3 * tall), (0.03, 0.04, 0.4 * tall), grip, name))
    return parts


def draw_machine(rng: Generator, look: Palette) -> Parts:
    """A microwave or a toaster."""
    if rng.random() < 0.4:
        body, glass = dark(STEEL, 0.25), (0.2, 0.2, 0.22)
        return [box((0, 0, 0), (0.52, 0.36, 0.3), body, "microwave", "screen", accent=glass)]
    body = pick(rng, CHROME, (0.75, 0.18, 0.16), look.accent)
    slots = [box((0, y, 0.2), (0.22, 0.035, 0.015), BLACK, "toaster") for y in (-0.045, 0.045)]
    return [box((0, 0, 0.01), (0.3, 0.2, 0.2), body, "toaster"), *slots]


def draw_counter(rng: Generator, look: Palette) -> Parts:
    """A kitchen line: worktop with sink, oven and small machines, perhaps cabinets above."""
    front = pick(rng, WHITE, mix(look.fabric, WHITE, 0.25), look.wood)
    top = pick(rng, dark(look.wood, 0.1), (0.30, 0.30, 0.32), CREAM)
    parts = [box((0, 0.31, 0.87), (2.74, 0.63, 0.04), top)]
    has_cabinets = rng.random() < 0.75
    for x, unit in zip((-1.02, -0.34, 0.34, 1.02), rng.permutation(4), strict=True):
        if unit == 0:
            parts += moved(draw_oven(), x, 0.31)
        else:
            parts.append(box((x, 0.31, 0), (0.68, 0.61, 0.87), front, texture="panels", phase=1))
        if unit == 1:
            parts.append(box((x, 0.32, 0.9), (0.56, 0.46, 0.035), CHROME, "sink"))
            parts.append(box((x, 0.34, 0.9), (0.46, 0.34, 0.038), dark(CHROME, 0.45), "sink"))
            parts += moved(draw_tap(), x, 0.1, 0.9)
        elif unit > 1:
            parts += moved(draw_machine(rng, look), x, 0.3, 0.91)
        if has_cabinets:
            parts.append(box((x, 0.17, 1.5), (0.68, 0.34, 0.65), front, texture="panels", phase=1))
    return parts


def draw_oven() -> Parts:
    return [
        box((0, 0, 0), (0.68, 0.61, 0.87), STEEL, "oven"),
        box((0, 0.31, 0.15), (0.54, 0.02, 0.45), BLACK, "oven", "screen"),
        box((0, 0.33, 0.66), (0.54, 0.03, 0.03), dark(STEEL, 0.4), "oven"),
        box((0, 0.01, 0.91), (0.6, 0.52, 0.012), BLACK, "oven"),
    ]


def draw_tap() -> Parts:
    pipe = cone((0, 0, 0), (0.04, 0.04, 0.22), CHROME, "sink")
    return [pipe, box((0, 0.08, 0.2), (0.035, 0.2, 0.035), CHROME, "sink")]


def draw_washbasin(rng: Generator, look: Palette) -> Parts:
    """With a mirror above it."""
    return [
        cone((0, 0.22, 0), (0.2, 0.2, 0.72), WHITE, "sink"),
        cone((0, 0.25, 0.7), (0.34, 0.3, 0.17), WHITE, "sink", taper=1.8),
        cone((0, 0.26, 0.86), (0.5, 0.42, 0.014), (0.72, 0.78, 0.80), "sink"),
        *moved(draw_tap(), 0, 0.05, 0.86),
        box((0, 0.015, 1.22), (0.66, 0.03, 0.8), look.wood),
        box((0, 0.03, 1.25), (0.6, 0.02, 0.74), (0.78, 0.86, 0.9)),
    ]


def draw_toilet(rng: Generator, look: Palette) -> Parts:
    return [
        box((0, 0.1, 0.4), (0.42, 0.2, 0.4), WHITE, "toilet"),
        cone((0, 0.4, 0), (0.28, 0.36, 0.36), WHITE, "toilet", taper=1.35),
        cone((0, 0.42, 0.36), (0.42, 0.54, 0.05), light(WHITE, 0.6), "toilet"),
        box((0, 0.18, 0), (0.26, 0.34, 0.4), WHITE, "toilet"),
    ]


def draw_bathtub(rng: Generator, look: Palette) -> Parts:
    tub = box((0, 0.38, 0), (1.7, 0.76, 0.56), WHITE)
    return [tub, box((0, 0.38, 0.55), (1.54, 0.6, 0.014), (0.66, 0.80, 0.86))]


# ---------------------------------------------------------------------- on walls, floor and ceiling


def draw_picture(rng: Generator, look: Palette) -> Parts:
    size = (rng.uniform(0.5, 1.1), 0.04, rng.uniform(0.45, 0.8))
    hills, near = pick(rng, (look.accent, look.fabric), (look.fabric, look.accent))
    at = (0, 0.02, 1.65 - size[2] / 2)
    return [box(at, size, hills, texture="picture", accent=near, phase=rng.random())]


def draw_clock(rng: Generator, look: Palette) -> Parts:
    w, rim = rng.uniform(0.3, 0.45), pick(rng, BLACK, dark(look.wood, 0.3))
    face = (w, 0.07, w)
    return [ball((0, 0.03, 1.5), face, WHITE, "clock", "clock", accent=rim, phase=rng.random())]


def draw_rug(rng: Generator, look: Palette, w: float, d: float) -> Parts:
    """Round or not; it lies around the origin."""
    base = pick(rng, light(look.fabric, 0.45), light(look.accent, 0.4), CREAM)
    accent = pick(rng, look.accent, look.fabric)
    draw, size = (cone, (d, d, 0.015)) if rng.random() < 0.25 else (box, (w, d, 0.015))
    return [draw((0, 0, 0), size, base, texture="rug", accent=accent, phase=rng.random())]


def draw_window(rng: Generator, look: Palette, low: float, high: float, w: float) -> Parts:
    """The white frame of an opening from ``low`` to ``high``, perhaps with curtains."""
    bar, h = 0.06, high - low
    parts = [box((x, 0.02, low), (bar, 0.04, h), WHITE) for x in (-w / 2, 0, w / 2)]
    for z in (low - bar, low + h * 0.62, high):
        parts.append(box((0, 0.02, z), (w + 2 * bar, 0.04, bar), WHITE))
    if rng.random() < 0.6:
        cloth = mix(look.accent, look.wall, rng.uniform(0.2, 0.7))
        for x in (-w / 2 - 0.12, w / 2 + 0.12):
            parts.append(box((x, 0.1, 0.05), (0.42, 0.08, high + 0.1), cloth, texture="curtain"))
        parts.append(box((0, 0.1, high + 0.13), (w + 0.9, 0.03, 0.03), dark(look.wood, 0.3)))
    return parts


def draw_lamp(rng: Generator) -> Parts:
    """It hangs down from the origin."""
    w, drop, bright = rng.uniform(0.3, 0.5), rng.uniform(0.15, 0.4), (1.0, 0.96, 0.86)
    cord = cone((0, 0, -drop), (0.03, 0.03, drop), bright, texture="glow")
    return [cord, cone((0, 0, -drop - 0.2), (w, w, 0.2), bright, texture="glow", taper=0.6)]
