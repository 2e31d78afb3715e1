"""Furniture from simple solids, standing at the origin with its back at y = 0 and its front towards
+y.

Where it stands in a room is `room_scene`.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from dmtg_lite.data.toys.room_parts import (
    BLACK,
    BOX,
    CHROME,
    CONE,
    CREAM,
    ELLIPSOID,
    GREEN,
    STEEL,
    WHITE,
    Colour,
    Palette,
    Part,
    dark,
    footprint,
    light,
    mix,
    moved,
    solid,
)


def _legs(
    width: float, depth: float, height: float, thick: float, colour: Colour, name: str
) -> list[Part]:
    """Four legs at the corners of a footprint that begins at y = 0."""
    xs, ys = (thick / 2 - width / 2, width / 2 - thick / 2), (thick / 2, depth - thick / 2)
    return [solid(BOX, (x, y, 0), (thick, thick, height), colour, name) for x in xs for y in ys]


def draw_bottle(rng: Generator, look: Palette) -> list[Part]:
    glass = ((0.16, 0.36, 0.24), (0.42, 0.24, 0.12), (0.30, 0.48, 0.60))[rng.integers(3)]
    wide = rng.uniform(0.075, 0.1)
    return [
        solid(CONE, (0, 0, 0), (wide, wide, 0.19), glass, "bottle"),
        solid(CONE, (0, 0, 0.19), (wide, wide, 0.06), glass, "bottle", taper=0.35),
        solid(CONE, (0, 0, 0.25), (0.035, 0.035, 0.08), dark(glass, 0.4), "bottle"),
    ]


def draw_vase(rng: Generator, look: Palette) -> list[Part]:
    glaze = (look.accent, light(look.fabric, 0.3), (0.25, 0.42, 0.66), CREAM)[rng.integers(4)]
    wide, tall = rng.uniform(0.13, 0.2), rng.uniform(0.18, 0.28)
    return [
        solid(ELLIPSOID, (0, 0, 0), (wide, wide, tall), glaze, "vase"),
        solid(
            CONE,
            (0, 0, tall * 0.85),
            (wide * 0.4, wide * 0.4, tall * 0.4),
            glaze,
            "vase",
            taper=1.5,
        ),
    ]


def draw_books(rng: Generator, look: Palette) -> list[Part]:
    """A small pile, lying."""
    parts, z = [], 0.0
    for _ in range(rng.integers(2, 5)):
        cover = (look.accent, look.fabric, (0.70, 0.20, 0.20), (0.16, 0.30, 0.50))[rng.integers(4)]
        size = (rng.uniform(0.2, 0.27), rng.uniform(0.15, 0.2), rng.uniform(0.03, 0.05))
        parts.append(solid(BOX, (0, 0, z), size, cover, "book", yaw=rng.uniform(-0.3, 0.3)))
        z += size[2]
    return parts


def draw_plant(rng: Generator, look: Palette, scale: float = 1.0) -> list[Part]:
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
        parts.append(
            solid(ELLIPSOID, at, size, tone, name, texture="leaves", accent=dark(tone, 0.35))
        )
    return parts


def draw_small_things(rng: Generator, look: Palette, chance: float, width: float) -> list[Part]:
    """A few small things on a surface of this width, around the origin."""
    makers = (draw_bottle, draw_vase, draw_books, lambda rng, look: draw_plant(rng, look, 0.4))
    places = np.linspace(-0.5, 0.5, max(2, int(width / 0.35)))[:, None] * [width - 0.3, 0]
    parts: list[Part] = []
    for x, y in places + rng.uniform(-0.06, 0.06, places.shape):
        if rng.random() < chance:
            parts += moved(makers[rng.integers(4)](rng, look), x, y)
    return parts


def draw_chair(rng: Generator, look: Palette) -> list[Part]:
    colour = dark(look.wood, 0.2)
    seat, w, d = mix(look.accent, look.wood, 0.3), 0.44, 0.44
    return [
        *_legs(w, d, 0.44, 0.045, colour, "chair"),
        solid(BOX, (0, d / 2, 0.43), (w, d, 0.06), seat, "chair", texture="fabric"),
        solid(BOX, (0, 0.03, 0.49), (0.04, 0.04, 0.24), colour, "chair"),
        solid(BOX, (0, 0.03, 0.66), (w, 0.05, 0.26), seat, "chair", texture="fabric"),
    ]


def draw_couch(rng: Generator, look: Palette) -> list[Part]:
    name, seats = "couch", int(rng.integers(2, 4))
    cloth, w, d = look.fabric, 0.7 * seats + 0.4, 0.92
    parts = _legs(w, d, 0.12, 0.06, dark(look.wood, 0.3), name)
    parts += [
        solid(BOX, (0, d / 2, 0.1), (w, d, 0.2), dark(cloth, 0.12), name, texture="fabric"),
        solid(BOX, (0, 0.12, 0.3), (w, 0.24, 0.52), cloth, name, texture="fabric"),
        *(
            solid(
                BOX, (s * (w / 2 - 0.1), d / 2, 0.3), (0.2, d, 0.3), cloth, name, texture="fabric"
            )
            for s in (-1, 1)
        ),
    ]
    for i in range(seats):
        x = (i - (seats - 1) / 2) * 0.7
        cushion = light(cloth, 0.1)
        parts.append(
            solid(BOX, (x, 0.58, 0.3), (0.67, 0.66, 0.17), cushion, name, texture="fabric")
        )
        parts.append(
            solid(BOX, (x, 0.3, 0.46), (0.66, 0.16, 0.42), cushion, name, texture="fabric")
        )
    for side in (-1, 1):
        if rng.random() < 0.75:
            x, pillow = side * (w / 2 - 0.38), (look.accent, CREAM)[rng.integers(2)]
            parts.append(
                solid(
                    ELLIPSOID, (x, 0.43, 0.46), (0.44, 0.16, 0.38), pillow, name, texture="fabric"
                )
            )
    return parts


def draw_table(
    rng: Generator, look: Palette, w: float, d: float, h: float, chance: float
) -> list[Part]:
    name, grain = "dining table", dark(look.wood, 0.6)
    return [
        *_legs(w - 0.1, d - 0.1, h - 0.04, 0.06, dark(look.wood, 0.15), name),
        solid(
            BOX,
            (0, d / 2 - 0.05, h - 0.04),
            (w, d, 0.05),
            look.wood,
            name,
            texture="wood",
            accent=grain,
        ),
        *moved(draw_small_things(rng, look, chance, w), 0, d / 2, h + 0.01),
    ]


def draw_low_table(rng: Generator, look: Palette) -> list[Part]:
    return draw_table(rng, look, rng.uniform(0.9, 1.2), 0.6, 0.42, 0.6)


def draw_dining_set(rng: Generator, look: Palette) -> list[Part]:
    """A table with chairs on both long sides, about 2 m deep."""
    w = rng.uniform(1.3, 1.9)
    parts = moved(draw_table(rng, look, w, 0.85, 0.75, 0.5), 0, 0.55)
    for x in np.linspace(-0.5, 0.5, 2 + (w > 1.6)) * (w - 0.65):
        turn = rng.uniform(-0.15, 0.15, 2)
        parts += moved(draw_chair(rng, look), x, 0.12, yaw=turn[0])
        parts += moved(draw_chair(rng, look), x, 1.83, yaw=np.pi + turn[1])
    return parts


def draw_desk(rng: Generator, look: Palette) -> list[Part]:
    parts = draw_table(rng, look, 1.3, 0.65, 0.74, 0.4)
    parts += moved(draw_television(rng, look, 0.62), -0.1, 0.1, 0.75)
    return parts + moved(draw_chair(rng, look), 0.1, 1.25, yaw=np.pi + rng.uniform(-0.6, 0.6))


def draw_television(rng: Generator, look: Palette, w: float) -> list[Part]:
    foot, h = 0.06, 0.6 * w
    return [
        solid(BOX, (0, 0.1, 0), (w * 0.4, 0.18, 0.02), BLACK, "tv"),
        solid(BOX, (0, 0.08, 0.02), (0.08, 0.04, foot), BLACK, "tv"),
        solid(BOX, (0, 0.1, 0.02 + foot), (w, 0.05, h), BLACK, "tv", texture="screen",
              accent=(0.20, 0.27, 0.38), phase=rng.uniform(0, 1)),
    ]  # fmt: skip


def draw_television_stand(rng: Generator, look: Palette) -> list[Part]:
    w, wood = rng.uniform(1.4, 1.8), light(look.wood, 0.2)
    body = solid(
        BOX,
        (0, 0.22, 0.06),
        (w, 0.44, 0.42),
        wood,
        texture="doors",
        accent=dark(wood, 0.4),
        phase=3,
    )
    parts = [body, *_legs(w, 0.4, 0.06, 0.05, dark(wood, 0.5), "background")]
    return parts + moved(draw_television(rng, look, rng.uniform(0.95, 1.25)), 0, 0.06, 0.48)


def draw_bed(rng: Generator, look: Palette) -> list[Part]:
    name, w, d = "bed", (1.0, 1.5, 1.7)[rng.integers(3)], 2.05
    duvet, grain = mix(look.fabric, WHITE, (0.15, 0.6)[rng.integers(2)]), dark(look.wood, 0.6)
    parts = [
        solid(
            BOX, (0, 0.04, 0), (w + 0.1, 0.08, 1.0), look.wood, name, texture="wood", accent=grain
        ),
        solid(
            BOX, (0, d / 2, 0.1), (w + 0.06, d, 0.2), look.wood, name, texture="wood", accent=grain
        ),
        solid(BOX, (0, d / 2 + 0.02, 0.3), (w, d - 0.06, 0.2), WHITE, name),
        solid(BOX, (0, d * 0.64, 0.34), (w + 0.05, d * 0.7, 0.21), duvet, name, texture="fabric"),
        solid(
            BOX,
            (0, d * 0.83, 0.36),
            (w + 0.07, d * 0.22, 0.21),
            look.accent,
            name,
            texture="fabric",
        ),
    ]
    for x in (0,) if w < 1.2 else (-w / 4, w / 4):
        parts.append(
            solid(ELLIPSOID, (x, 0.34, 0.46), (0.62, 0.42, 0.2), WHITE, name, texture="fabric")
        )
    return parts


def draw_table_lamp(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(CONE, (0, 0, 0), (0.12, 0.12, 0.26), mix(look.accent, WHITE, 0.2), taper=0.4),
        solid(CONE, (0, 0, 0.24), (0.28, 0.28, 0.2), (1.0, 0.93, 0.78), texture="glow", taper=0.65),
    ]


def draw_nightstand(rng: Generator, look: Palette) -> list[Part]:
    wood = light(look.wood, 0.1)
    body = solid(
        BOX, (0, 0.2, 0), (0.45, 0.4, 0.5), wood, texture="drawers", accent=dark(wood, 0.45)
    )
    parts = [body, *moved(draw_table_lamp(rng, look), -0.08, 0.16, 0.5)]
    return parts + moved((draw_books, draw_bottle)[rng.integers(2)](rng, look), 0.12, 0.25, 0.5)


def draw_bed_with_nightstands(rng: Generator, look: Palette) -> list[Part]:
    parts = draw_bed(rng, look)
    beside = footprint(parts)[2] + 0.27
    for side in (-1, 1):
        if rng.random() < 0.7:
            parts += moved(draw_nightstand(rng, look), side * beside, 0)
    return parts


def draw_wardrobe(rng: Generator, look: Palette) -> list[Part]:
    colour = (WHITE, look.wood, light(look.wood, 0.45))[rng.integers(3)]
    size = (rng.uniform(1.1, 1.7), 0.58, rng.uniform(1.95, 2.15))
    return [
        solid(
            BOX,
            (0, 0.29, 0),
            size,
            colour,
            texture="doors",
            accent=dark(colour, 0.4),
            phase=size[0] / 0.5,
        )
    ]


def draw_chest(rng: Generator, look: Palette) -> list[Part]:
    """A chest of drawers with things on it."""
    w, h, colour = (
        rng.uniform(0.8, 1.2),
        rng.uniform(0.75, 0.95),
        (WHITE, look.wood)[rng.integers(2)],
    )
    body = solid(
        BOX, (0, 0.22, 0), (w, 0.44, h), colour, texture="drawers", accent=dark(colour, 0.4)
    )
    return [body, *moved(draw_small_things(rng, look, 0.75, w), 0, 0.22, h)]


def draw_bookcase(rng: Generator, look: Palette) -> list[Part]:
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
            parts += moved(
                (draw_vase, draw_vase, draw_bottle)[rng.integers(3)](rng, look), gap, 0.17, z
            )
    return parts


def draw_floor_lamp(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(CONE, (0, 0.2, 0), (0.3, 0.3, 0.03), BLACK),
        solid(CONE, (0, 0.2, 0), (0.035, 0.035, 1.4), BLACK),
        solid(
            CONE, (0, 0.2, 1.35), (0.42, 0.42, 0.28), (1.0, 0.94, 0.80), texture="glow", taper=0.7
        ),
    ]


def draw_floor_plant(rng: Generator, look: Palette) -> list[Part]:
    return moved(draw_plant(rng, look, rng.uniform(0.95, 1.35)), 0, 0.3)


def draw_refrigerator(rng: Generator, look: Palette) -> list[Part]:
    name, colour = "refrigerator", (STEEL, light(STEEL, 0.6))[rng.integers(2)]
    w, h = rng.uniform(0.65, 0.8), rng.uniform(1.7, 1.9)
    return [
        solid(
            BOX,
            (0, 0.34, 0),
            (w, 0.68, h),
            colour,
            name,
            texture="fridge",
            accent=dark(colour, 0.5),
        ),
        solid(BOX, (w * 0.38, 0.7, h * 0.48), (0.03, 0.04, 0.42), dark(colour, 0.35), name),
        solid(BOX, (w * 0.38, 0.7, h * 0.18), (0.03, 0.04, 0.35), dark(colour, 0.35), name),
    ]


def draw_counter(rng: Generator, look: Palette) -> list[Part]:
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
            parts.append(
                solid(BOX, (x, 0.3, 0), (0.68, 0.6, 0.87), front, texture="doors", accent=line)
            )
        if unit == "sink":
            parts += [
                solid(BOX, (x, 0.32, 0.9), (0.56, 0.46, 0.035), CHROME, "sink"),
                solid(BOX, (x, 0.34, 0.9), (0.46, 0.34, 0.038), dark(CHROME, 0.45), "sink"),
                solid(CONE, (x, 0.1, 0.9), (0.04, 0.04, 0.28), CHROME, "sink"),
                solid(BOX, (x, 0.18, 1.15), (0.035, 0.2, 0.035), CHROME, "sink"),
            ]
        elif unit == "doors":
            maker = (draw_microwave, draw_toaster, draw_toaster, draw_bottle)[rng.integers(4)]
            parts += moved(maker(rng, look), x, 0.3, 0.91)
    parts.append(solid(BOX, (0, 0.31, 0.87), (w + 0.02, 0.63, 0.04), top))
    if rng.random() < 0.75:
        for i in range(len(units)):
            x = (i + 0.5) * 0.68 - w / 2
            parts.append(
                solid(BOX, (x, 0.17, 1.5), (0.68, 0.34, 0.65), front, texture="doors", accent=line)
            )
    return parts


def draw_microwave(rng: Generator, look: Palette) -> list[Part]:
    body = dark(STEEL, 0.25)
    return [
        solid(BOX, (0, 0, 0), (0.52, 0.36, 0.3), body, "microwave", texture="screen", accent=BLACK)
    ]


def draw_toaster(rng: Generator, look: Palette) -> list[Part]:
    body = (CHROME, (0.75, 0.18, 0.16), look.accent)[rng.integers(3)]
    return [
        solid(BOX, (0, 0, 0.01), (0.3, 0.2, 0.2), body, "toaster"),
        *(solid(BOX, (0, y, 0.2), (0.22, 0.035, 0.015), BLACK, "toaster") for y in (-0.045, 0.045)),
    ]


def draw_toilet(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(BOX, (0, 0.1, 0.4), (0.42, 0.2, 0.4), WHITE, "toilet"),
        solid(CONE, (0, 0.4, 0), (0.28, 0.36, 0.36), WHITE, "toilet", taper=1.35),
        solid(CONE, (0, 0.42, 0.36), (0.42, 0.54, 0.05), light(WHITE, 0.6), "toilet"),
        solid(BOX, (0, 0.18, 0), (0.26, 0.34, 0.4), WHITE, "toilet"),
    ]


def draw_washbasin(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(CONE, (0, 0.22, 0), (0.2, 0.2, 0.72), WHITE, "sink"),
        solid(CONE, (0, 0.25, 0.7), (0.34, 0.3, 0.17), WHITE, "sink", taper=1.8),
        solid(CONE, (0, 0.26, 0.86), (0.5, 0.42, 0.014), (0.72, 0.78, 0.80), "sink"),
        solid(CONE, (0, 0.05, 0.86), (0.04, 0.04, 0.16), CHROME, "sink"),
        solid(BOX, (0, 0.12, 0.99), (0.03, 0.16, 0.03), CHROME, "sink"),
        solid(BOX, (0, 0.02, 1.25), (0.62, 0.03, 0.75), light((0.70, 0.80, 0.84), 0.2), texture="picture",
              accent=(0.80, 0.88, 0.90), phase=-1.0),
    ]  # fmt: skip


def draw_bathtub(rng: Generator, look: Palette) -> list[Part]:
    return [
        solid(BOX, (0, 0.38, 0), (1.7, 0.76, 0.56), WHITE),
        solid(BOX, (0, 0.38, 0.55), (1.54, 0.6, 0.014), (0.66, 0.80, 0.86)),
    ]


def draw_picture(rng: Generator, look: Palette) -> list[Part]:
    w, h = rng.uniform(0.5, 1.1), rng.uniform(0.45, 0.8)
    colours = (look.accent, look.fabric) if rng.random() < 0.5 else (look.fabric, look.accent)
    return [solid(BOX, (0, 0.02, -h / 2), (w, 0.04, h), colours[0], texture="picture", accent=colours[1],
                  phase=rng.uniform(0, 1))]  # fmt: skip


def draw_clock(rng: Generator, look: Palette) -> list[Part]:
    wide = rng.uniform(0.3, 0.45)
    rim = (BLACK, dark(look.wood, 0.3))[rng.integers(2)]
    return [solid(ELLIPSOID, (0, 0.01, -wide / 2), (wide, 0.07, wide), WHITE, "clock", texture="clock",
                  accent=rim, phase=rng.uniform(0, 1))]  # fmt: skip


def draw_shelf(rng: Generator, look: Palette) -> list[Part]:
    """A board on the wall with books."""
    w = rng.uniform(0.7, 1.1)
    filled = rng.uniform(0.4, 0.8) * w
    return [
        solid(BOX, (0, 0.12, 0), (w, 0.24, 0.03), look.wood),
        solid(BOX, ((filled - w) / 2 + 0.02, 0.11, 0.03), (filled, 0.17, 0.23), look.accent, "book",
              texture="spines", accent=look.fabric, phase=rng.uniform(0, 1)),
        *moved(draw_vase(rng, look), w / 2 - 0.12, 0.12, 0.03),
    ]  # fmt: skip


def draw_door(rng: Generator, look: Palette) -> list[Part]:
    colour = (WHITE, light(look.wood, 0.1))[rng.integers(2)]
    return [
        solid(BOX, (0, 0.02, 0), (1.04, 0.04, 2.12), light(colour, 0.3)),
        solid(
            BOX, (0, 0.03, 0), (0.9, 0.05, 2.04), colour, texture="panels", accent=dark(colour, 0.3)
        ),
        solid(ELLIPSOID, (0.36, 0.09, 1.0), (0.07, 0.07, 0.07), CHROME),
    ]


def draw_rug(rng: Generator, look: Palette, w: float, d: float) -> list[Part]:
    """Round or not; it lies around the origin."""
    shape = CONE if rng.random() < 0.25 else BOX
    size = (d, d, 0.015) if shape == CONE else (w, d, 0.015)
    base = (light(look.fabric, 0.45), light(look.accent, 0.4), CREAM)[rng.integers(3)]
    accent = (look.accent, look.fabric)[rng.integers(2)]
    return [
        solid(shape, (0, 0, 0), size, base, texture="rug", accent=accent, phase=rng.uniform(0, 1))
    ]
