"""Random furnished rooms: what stands, hangs and opens where, and where one looks from.

Looking at them is `room_render`.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from dmtg_lite.data.toys import room_furniture as furniture
from dmtg_lite.data.toys.room_furniture import CREAM, PALETTES, WHITE, Palette, pick
from dmtg_lite.data.toys.room_parts import (
    BACKGROUND,
    Camera,
    Part,
    Point,
    Room,
    Window,
    bounds,
    box,
    dark,
    light,
    mix,
    moved,
    place_shell,
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
_TURN = (-np.pi / 2, np.pi / 2, 0.0, np.pi)


def draw_room(rng: Generator) -> Room:
    """Furnish a random room of 3 to 7 m by 3 to 7 m; the camera is at eye height near one wall and
    looks across. The same state of ``rng`` gives the same room.
    """
    kind = rng.choice(list(_KINDS), p=[odds for odds, _, _ in _KINDS.values()])
    _, middle, along = _KINDS[kind]
    most = 4.5 if kind == "bathroom" else 6.9
    wide, deep = 3.1 + (most - 3.1) * rng.beta(1.3, 2, 2)
    size, look = (wide, deep, rng.uniform(2.4, 2.8)), pick(rng, *PALETTES)
    behind = int(rng.integers(4))
    at = _along_wall(size, behind, rng.uniform(0.25, 0.75), rng.uniform(0.25, 0.5))
    pitch, fov = np.radians(rng.uniform(-16, -3)), np.radians(rng.uniform(60, 75))
    eye = (*at, rng.uniform(1.35, 1.65))
    plan = _Plan(rng, size, look, behind, eye)
    for _ in range(rng.choice(3, p=(0.25, 0.45, 0.3))):
        plan.add_window()
    for name in middle.split():
        plan.stand_in_middle(_draw(name, rng, look))
    for i, name in enumerate(along.split()):
        if i == 0 or rng.random() < 0.75:
            plan.put_at_wall(_draw(name, rng, look))
    for _ in range(rng.integers(2, 5)):
        plan.put_at_wall(_draw(pick(rng, "picture", "picture", "clock"), rng, look))
    lamp = (wide * rng.uniform(0.4, 0.6), deep * rng.uniform(0.4, 0.6), size[2])
    plan.parts += moved(furniture.draw_lamp(rng), *lamp)
    yaw = _turn_to_objects(rng, eye, _TURN[behind] + np.pi / 2, plan.parts)
    shell = _build_shell(rng, size, look, is_tiled=kind in ("kitchen", "bathroom"))
    return Room(size, [*shell, *plan.parts], plan.windows, lamp, Camera(eye, yaw, pitch, fov))


def _draw(name: str, rng: Generator, look: Palette) -> list[Part]:
    return getattr(furniture, f"draw_{name}")(rng, look)


def _along_wall(size: Point, wall: int, share: float, back: float = 0.0) -> tuple[float, float]:
    """(x, y) at a share of a wall's length, so far away from it."""
    axis, side = divmod(wall, 2)
    across, along = size[axis] - back if side else back, size[1 - axis] * share
    return (across, along) if axis == 0 else (along, across)


def _turn_to_objects(rng: Generator, eye: Point, yaw: float, parts: list[Part]) -> float:
    """Turn the view by at most 40 degrees, about to the middle of what has a class of its own."""
    centres = [part.centre for part in parts if part.class_id > BACKGROUND]
    if not centres:
        return yaw
    x, y, _ = np.mean(centres, axis=0) - eye
    towards = np.arctan2(y, x) + rng.uniform(-0.25, 0.25)
    return yaw + np.clip((towards - yaw + np.pi) % (2 * np.pi) - np.pi, -0.7, 0.7)


def _build_shell(rng: Generator, size: Point, look: Palette, *, is_tiled: bool) -> list[Part]:
    """Walls alike but one in a stronger colour perhaps; a floor of wood, tiles or carpet."""
    style = rng.random()
    walls = [(look.wall, "wall", mix(look.wall, look.fabric, 0.22))] * 4
    if rng.random() < 0.5:
        strong = mix(look.wall, look.fabric, rng.uniform(0.25, 0.6))
        walls[rng.integers(4)] = (strong, "wall", mix(strong, look.wall, 0.25))
    base = pick(rng, CREAM, (0.78, 0.78, 0.76), (0.80, 0.72, 0.62))
    planks = (light(look.wood, rng.uniform(0, 0.2)), "planks", dark(look.wood, 0.3))
    tiles = (base, "tiles", mix(base, look.fabric, 0.35))
    carpet = (mix(look.fabric, CREAM, 0.55), "speckle", dark(look.fabric, 0.1))
    floor = pick(rng, *([tiles, tiles, planks] if is_tiled else [planks, planks, carpet]))
    looks = [*walls, floor, ((0.96, 0.95, 0.93), "plain", WHITE)]
    return [
        box(*place, colour, texture=texture, accent=accent, phase=style)
        for place, (colour, texture, accent) in zip(place_shell(size), looks, strict=True)
    ]


class _Plan:
    """What stands where so far; finds free places by trying."""

    def __init__(self, rng: Generator, size: Point, look: Palette, behind: int, eye: Point) -> None:
        self.rng, self.size, self.look = rng, size, look
        self.parts: list[Part] = []
        self.windows: list[Window] = []
        around = np.array([[-CLEARANCE, -CLEARANCE, -3], [CLEARANCE, CLEARANCE, 0.5]])
        self.taken = [around + eye]  # (low, high) corners
        # The camera sees the wall across and parts of the two beside it, but never the one behind.
        across = behind ^ 1
        self.walls = [across, across, *(wall for wall in range(4) if wall // 2 != behind // 2)]

    def _is_inside(self, place: ndarray) -> bool:
        low, high = place[:, :2]
        return low.min() > -0.01 and (high < np.array(self.size[:2]) + 0.01).all()

    def _try(self, parts: list[Part], margin: float) -> bool:
        """Put parts where they are, if they do not stick out and nothing else is there."""
        place, taken = bounds(parts), np.array(self.taken)  # (2, 3), (n, 2, 3)
        gaps = np.maximum(taken[:, 0] - place[1], place[0] - taken[:, 1])  # along x, y, z
        is_free = self._is_inside(place) and (gaps > (margin, margin, 0)).any(1).all()
        if is_free:
            self.parts += parts
            self.taken.append(place)
        return is_free

    def put_at_wall(self, parts: list[Part]) -> tuple[int, float] | None:
        """Put it somewhere along a wall, or leave it out if there is no room in ten tries: the
        wall, and where along it the middle is, in metres."""
        half = bounds(parts)[1, 0]
        for _ in range(10):
            wall = pick(self.rng, *self.walls)
            length = self.size[1 - wall // 2]
            share = self.rng.uniform(half / length, max(half / length, 1 - half / length))
            x, y = _along_wall(self.size, wall, share)
            if self._try(moved(parts, x, y, yaw=_TURN[wall]), 0.06):
                return wall, share * length
        return None

    def stand_in_middle(self, parts: list[Part]) -> None:
        """Put it near the middle, turned along the room, on a rug perhaps."""
        (x0, y0, _), (x1, y1, _) = bounds(parts)
        parts = moved(parts, 0, -(y0 + y1) / 2)
        rug = furniture.draw_rug(self.rng, self.look, x1 - x0 + 0.9, y1 - y0 + 0.7)
        for _ in range(10):
            x, y = self.size[:2] * self.rng.uniform(0.35, 0.65, 2)
            turn = self.rng.integers(2) * np.pi / 2 + self.rng.uniform(-0.12, 0.12)
            if self._try(moved(parts, x, y, yaw=turn), 0.1):
                rug = moved(rug, x, y, yaw=turn)
                self.parts += rug if self._is_inside(bounds(rug)) else []
                return

    def add_window(self) -> None:
        """Cut a window into a wall, with a white frame and perhaps curtains."""
        w, low = self.rng.uniform(0.8, 1.6), self.rng.uniform(0.85, 1.0)
        high = self.size[2] - self.rng.uniform(0.3, 0.5)
        found = self.put_at_wall(furniture.draw_window(self.rng, self.look, low, high, w))
        if found:
            wall, along = found
            self.windows.append(Window(wall, (along - w / 2, low), (along + w / 2, high)))
