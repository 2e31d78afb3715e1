"""Random furnished rooms: what stands, hangs and opens where, and where one looks from.

Looking at them is `room_render`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from numpy.random import Generator

from dmtg_lite.data.toys.room_furniture import (
    draw_bathtub,
    draw_bed_with_nightstands,
    draw_bookcase,
    draw_chair,
    draw_chest,
    draw_clock,
    draw_couch,
    draw_counter,
    draw_desk,
    draw_dining_set,
    draw_door,
    draw_floor_lamp,
    draw_floor_plant,
    draw_low_table,
    draw_picture,
    draw_refrigerator,
    draw_rug,
    draw_shelf,
    draw_television_stand,
    draw_toilet,
    draw_wardrobe,
    draw_washbasin,
)
from dmtg_lite.data.toys.room_parts import (
    BACKGROUND,
    BOX,
    CLEARANCE,
    CONE,
    CREAM,
    PALETTES,
    TEXTURE,
    WHITE,
    Camera,
    Palette,
    Part,
    Point,
    Rectangle,
    Room,
    Surface,
    Window,
    dark,
    footprint,
    light,
    mix,
    moved,
    solid,
    turned,
)

Maker = Callable[[Generator, Palette], list[Part]]
# What stands in the middle or along the walls, in the order of placing; a chance each.
_ROOMS: dict[str, tuple[tuple[Maker, ...], tuple[tuple[Maker, float], ...]]] = {
    "living room": (
        (draw_low_table,),
        (
            (draw_couch, 1.0), (draw_television_stand, 0.9), (draw_bookcase, 0.8),
            (draw_couch, 0.4), (draw_floor_plant, 0.9),
            (draw_floor_lamp, 0.7), (draw_chest, 0.6), (draw_door, 0.6), (draw_floor_plant, 0.4),
        ),
    ),
    "bedroom": (
        (),
        (
            (draw_bed_with_nightstands, 1.0), (draw_wardrobe, 0.9), (draw_desk, 0.6),
            (draw_chest, 0.8), (draw_bookcase, 0.5),
            (draw_floor_plant, 0.7), (draw_chair, 0.5), (draw_door, 0.6),
        ),
    ),
    "kitchen": (
        (draw_dining_set,),
        (
            (draw_counter, 1.0), (draw_refrigerator, 1.0), (draw_chest, 0.5),
            (draw_floor_plant, 0.5), (draw_door, 0.7),
            (draw_chair, 0.5),
        ),
    ),
    "dining room": (
        (draw_dining_set,),
        (
            (draw_chest, 0.9), (draw_bookcase, 0.7), (draw_floor_plant, 0.9),
            (draw_couch, 0.5), (draw_floor_lamp, 0.5),
            (draw_door, 0.6), (draw_chair, 0.5),
        ),
    ),
    "study": (
        (),
        (
            (draw_desk, 1.0), (draw_bookcase, 1.0), (draw_bookcase, 0.8),
            (draw_couch, 0.7), (draw_floor_plant, 0.8),
            (draw_floor_lamp, 0.6), (draw_chair, 0.5), (draw_door, 0.5),
        ),
    ),
    "bathroom": (
        (),
        (
            (draw_washbasin, 1.0), (draw_toilet, 1.0), (draw_bathtub, 0.9),
            (draw_floor_plant, 0.5), (draw_chest, 0.4),
            (draw_door, 0.6),
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
    look = PALETTES[rng.integers(len(PALETTES))]
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
        plan.hang((draw_picture, draw_picture, draw_clock, draw_shelf)[rng.integers(4)])
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
        ground = Surface(
            base, (mix(base, look.fabric, 0.35), base)[rng.integers(2)], TEXTURE[floor]
        )
    elif floor == "carpet":
        ground = Surface(mix(look.fabric, CREAM, 0.55), dark(look.fabric, 0.1), TEXTURE[floor])
    else:
        ground = Surface(
            light(look.wood, rng.uniform(0, 0.2)), dark(look.wood, 0.3), TEXTURE[floor]
        )
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

    def __init__(
        self, rng: Generator, size: Point, look: Palette, camera: Camera, behind: int
    ) -> None:
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
            if self._is_free(here, 0.06) and not (
                is_tall and not self._is_wall_free(wall, along, half)
            ):
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
                rug = draw_rug(self.rng, self.look, high - low + 0.9, back - front + 0.7)
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
            *(
                solid(BOX, (side * (w + bar) / 2, 0.02, low), (bar, 0.04, h), WHITE)
                for side in (-1, 0, 1)
            ),
            solid(BOX, (0, 0.02, low + h * 0.62), (w, 0.03, bar * 0.7), WHITE),
        ]
        if self.rng.random() < 0.6:
            cloth = mix(self.look.accent, self.look.wall, self.rng.uniform(0.2, 0.7))
            for s in (-1, 1):
                parts.append(solid(BOX, (s * (w / 2 + 0.12), 0.1, 0.05), (0.42, 0.08, high + 0.1), cloth,
                                   texture="curtain", accent=dark(cloth, 0.3)))  # fmt: skip
            parts.append(
                solid(BOX, (0, 0.1, high + 0.13), (w + 0.9, 0.03, 0.03), dark(self.look.wood, 0.3))
            )
        self.parts += moved(parts, *self._wall_frame(wall, along))
        self.hung[wall].append((along - w / 2 - 0.35, along + w / 2 + 0.35))
