"""Random furnished rooms: what stands, hangs and opens where, and where one looks from.

Looking at them is `room_render`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from numpy.random import Generator

from dmtg_lite.data.toys import room_furniture as furniture
from dmtg_lite.data.toys.room_furniture import pick
from dmtg_lite.data.toys.room_parts import (
    BACKGROUND,
    CREAM,
    PALETTES,
    WHITE,
    Bounds,
    Camera,
    Palette,
    Part,
    Point,
    Room,
    Window,
    bounds,
    box,
    cone,
    dark,
    light,
    mix,
    moved,
    place_shell,
    turned,
)

CLEARANCE = 0.85  # metres around the camera without furniture
# How often; what stands in the middle; what along the walls: the first always, the others mostly.
_KINDS = {
    "living room": (0.34, "table", "couch television bookcase couch floor_plant chest door"),
    "bedroom": (0.22, "", "bed wardrobe chest bookcase floor_plant chair television door"),
    "kitchen": (0.22, "dining_set", "counter refrigerator chest floor_plant door chair"),
    "dining room": (0.1, "dining_set", "chest bookcase floor_plant couch door chair"),
    "bathroom": (0.12, "", "toilet washbasin bathtub floor_plant chest door"),
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
    kind = rng.choice(list(_KINDS), p=[odds for odds, _, _ in _KINDS.values()])
    _, middle, along = _KINDS[kind]
    most = 4.5 if kind == "bathroom" else 6.9
    wide, deep = 3.1 + (most - 3.1) * rng.beta(1.3, 2, 2)
    size = (wide, deep, rng.uniform(2.4, 2.8))
    look = pick(rng, *PALETTES)
    camera, behind = _place_camera(rng, size)
    plan = _Plan(rng, size, look, camera, behind)
    for _ in range(rng.choice(3, p=(0.25, 0.45, 0.3))):
        plan.add_window()
    for name in middle.split():
        plan.stand_in_middle(_maker(name)(rng, look))
    for i, name in enumerate(along.split()):
        if i == 0 or rng.random() < 0.75:
            plan.put_at_wall(_maker(name)(rng, look))
    for _ in range(rng.integers(2, 5)):
        plan.put_at_wall(_maker(pick(rng, "picture", "picture", "clock"))(rng, look))
    lamp = (wide * rng.uniform(0.4, 0.6), deep * rng.uniform(0.4, 0.6), size[2])
    w, drop, bright = rng.uniform(0.3, 0.5), rng.uniform(0.15, 0.4), (1.0, 0.96, 0.86)
    cord = cone((0, 0, -drop), (0.03, 0.03, drop), bright, texture="glow")
    shade = cone((0, 0, -drop - 0.2), (w, w, 0.2), bright, texture="glow", taper=0.6)
    plan.parts += moved([cord, shade], *lamp)
    camera = _turn_to_objects(rng, camera, plan.parts)
    shell = _build_shell(rng, size, look, is_tiled=kind in ("kitchen", "bathroom"))
    return Room(size, (*shell, *plan.parts), tuple(plan.windows), lamp, camera)


def _maker(name: str) -> Callable[[Generator, Palette], list[Part]]:
    return getattr(furniture, f"draw_{name}")


def _place_camera(rng: Generator, size: Point) -> tuple[Camera, int]:
    """A camera before a random wall, looking squarely across; also the number of that wall."""
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


def _build_shell(rng: Generator, size: Point, look: Palette, *, is_tiled: bool) -> list[Part]:
    """Walls alike but one in a stronger colour perhaps; a floor of wood, tiles or carpet."""
    style = rng.random()
    walls = [(look.wall, mix(look.wall, look.fabric, 0.22))] * 4  # colour and accent
    if rng.random() < 0.5:
        strong = mix(look.wall, look.fabric, rng.uniform(0.25, 0.6))
        walls[rng.integers(4)] = (strong, mix(strong, look.wall, 0.25))
    base = pick(rng, CREAM, (0.78, 0.78, 0.76), (0.80, 0.72, 0.62))
    ground = {
        "planks": (light(look.wood, rng.uniform(0, 0.2)), dark(look.wood, 0.3)),
        "tiles": (base, mix(base, look.fabric, 0.35)),
        "speckle": (mix(look.fabric, CREAM, 0.55), dark(look.fabric, 0.1)),
    }
    floor = pick(rng, *("tiles tiles planks" if is_tiled else "planks planks speckle").split())
    colours = [*walls, ground[floor], ((0.96, 0.95, 0.93), WHITE)]
    return [
        box(*place, colour, texture=texture, accent=accent, phase=style)
        for place, (colour, accent), texture in zip(
            place_shell(size), colours, (*["wall"] * 4, floor, "plain"), strict=True
        )
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
        self.taken: list[Bounds] = [
            (x - CLEARANCE, y - CLEARANCE, 0, x + CLEARANCE, y + CLEARANCE, 2)
        ]
        across = behind ^ 1
        # The camera sees the wall across and parts of the two beside it, but never the one behind.
        self.walls = [across, across, *(wall for wall in range(4) if wall // 2 != behind // 2)]

    def _is_inside(self, place: Bounds) -> bool:
        x0, y0, _, x1, y1, _ = place
        return min(x0, y0) > -0.01 and x1 < self.size[0] + 0.01 and y1 < self.size[1] + 0.01

    def _is_free(self, place: Bounds, margin: float) -> bool:
        x0, y0, z0, x1, y1, z1 = place
        return self._is_inside(place) and all(
            x1 + margin < a0 or a1 + margin < x0 or y1 + margin < b0 or b1 + margin < y0
            or z1 < c0 or c1 < z0
            for a0, b0, c0, a1, b1, c1 in self.taken
        )  # fmt: skip

    def _find_at_wall(self, place: Bounds) -> tuple[int, float] | None:
        """A wall and how far along it there is room for something with its back at y = 0."""
        half = (place[3] - place[0]) / 2
        for _ in range(10):
            wall = pick(self.rng, *self.walls)
            length = self.size[1 - wall // 2]
            if 2 * half < length:
                along = self.rng.uniform(half, length - half)
                here = turned(place, *self._wall_frame(wall, along))
                if self._is_free(here, 0.06):
                    self.taken.append(here)
                    return wall, along
        return None

    def _wall_frame(self, wall: int, along: float) -> tuple[float, float, float, float]:
        """(x, y, z, yaw) of something whose back is at a wall, for `moved`."""
        axis, side = divmod(wall, 2)
        across = side * self.size[axis]
        x, y = (across, along) if axis == 0 else (along, across)
        return x, y, 0.0, _TURN[wall]

    def put_at_wall(self, parts: list[Part]) -> None:
        """Put it somewhere along a wall, or leave it out if there is no room in ten tries."""
        found = self._find_at_wall(bounds(parts))
        if found:
            self.parts += moved(parts, *self._wall_frame(*found))

    def stand_in_middle(self, parts: list[Part]) -> None:
        """Put it near the middle, turned along the room, on a rug perhaps."""
        x0, y0, _, x1, y1, _ = bounds(parts)
        parts = moved(parts, 0, -(y0 + y1) / 2)
        rug = furniture.draw_rug(self.rng, self.look, x1 - x0 + 0.9, y1 - y0 + 0.7)
        for _ in range(10):
            x, y = (length * self.rng.uniform(0.35, 0.65) for length in self.size[:2])
            frame = (x, y, 0.0, self.rng.integers(2) * math.pi / 2 + self.rng.uniform(-0.12, 0.12))
            here = turned(bounds(parts), *frame)
            if self._is_free(here, 0.1):
                if self._is_inside(turned(bounds(rug), *frame)):
                    self.parts += moved(rug, *frame)
                self.parts += moved(parts, *frame)
                self.taken.append(here)
                return

    def add_window(self) -> None:
        """Cut a window into a wall, with a white frame and perhaps curtains."""
        w, low = self.rng.uniform(0.8, 1.6), self.rng.uniform(0.85, 1.0)
        high = self.size[2] - self.rng.uniform(0.3, 0.5)
        found = self._find_at_wall((-w / 2 - 0.45, 0, 1.05, w / 2 + 0.45, 0.1, high))
        if not found:
            return
        wall, along = found
        self.windows.append(Window(wall, (along - w / 2, low), (along + w / 2, high)))
        bar, h = 0.06, high - low
        parts = [
            box((0, 0.02, z), (w + 2 * bar, 0.04, bar), WHITE)
            for z in (low - bar, low + h * 0.62, high)
        ]
        parts += [box((x, 0.02, low), (bar, 0.04, h), WHITE) for x in (-w / 2, 0, w / 2)]
        parts.append(box((0, 0.05, low - bar), (w + 0.16, 0.1, 0.03), WHITE))
        if self.rng.random() < 0.6:
            cloth = mix(self.look.accent, self.look.wall, self.rng.uniform(0.2, 0.7))
            for x in (-w / 2 - 0.12, w / 2 + 0.12):
                size = (0.42, 0.08, high + 0.1)
                parts.append(box((x, 0.1, 0.05), size, cloth, texture="curtain"))
            rod = dark(self.look.wood, 0.3)
            parts.append(box((0, 0.1, high + 0.13), (w + 0.9, 0.03, 0.03), rod))
        self.parts += moved(parts, *self._wall_frame(wall, along))
