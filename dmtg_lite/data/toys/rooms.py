"""Drawn rooms with the five tasks of Taskonomy: depth, normals and classes are exact because the
rooms are solids; keypoints and edges are computed from the picture, as Taskonomy's are.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy import ndarray

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import TASKONOMY_5
from dmtg_lite.data.toys.image_cues import compute_edges, compute_keypoints
from dmtg_lite.data.toys.room_render import render_room
from dmtg_lite.data.toys.room_scene import draw_room


@sealed()
def toy_rooms(
    *, n_train: int = 1000, n_val: int = 100, n_test: int = 300, size: int = 64, seed: int = 0
) -> TaskData:
    """Draw furnished rooms, each seen once, with depth, normals, classes, keypoints and edges.

    Args:
        n_train, n_val, n_test: Rooms per split, independent draws; more of one changes no other.
        size: Height and width in pixels, 16 to 512. The rooms do not depend on it.
        seed: Same seed, same rooms.

    Returns:
        Data without planted groups. Images uint8 (n, 3, H, W). Depth in metres, keypoints and edges
        as shares of 65535: float16 (n, 1, H, W); normal: int8 (n, 3, H, W), 127 times the
        component; segmentation: int8 (n, H, W), Taskonomy's class 1 to 17. Where a window shows the
        sky there is no label: depth is NaN, normal is -128 and segmentation -1.
    """
    for name, count in {"n_train": n_train, "n_val": n_val, "n_test": n_test}.items():
        if count < 1:
            raise ValueError(f"`{name}` must be >= 1, got {count}.")
    streams = np.random.default_rng(seed).spawn(3)
    train, val, test = (
        _as_split(render_rooms(n, size=size, seed=stream))
        for n, stream in zip((n_train, n_val, n_test), streams, strict=True)
    )
    note = f"Rooms drawn by a program ({size} x {size}, seed {seed}), not Taskonomy's photographs."
    return TaskData("toy_rooms", TASKONOMY_5, train, val, test, note=note)


def render_rooms(n: int, *, size: int, seed: int | np.random.Generator) -> dict[str, ndarray]:
    """Draw n rooms and everything a file of Taskonomy would hold about them.

    Args:
        n: Rooms, >= 1.
        size: Height and width in pixels, 16 to 512.
        seed: Seed or generator of the rooms; a generator moves on, so calls continue a stream.

    Returns:
        ``rgb`` uint8 (n, H, W, 3); ``depth`` float32 (n, H, W) in metres and ``normal`` float32
        (n, H, W, 3), NaN at windows; ``segmentation`` uint8 (n, H, W), 0 at windows; ``keypoints``
        and ``edges`` uint16 (n, H, W).
    """
    if n < 1:
        raise ValueError(f"`n` must be >= 1 room, got {n}.")
    if not 16 <= size <= 512:
        raise ValueError(f"`size` must be 16 to 512 pixels, got {size}.")
    rng = np.random.default_rng(seed)
    views = [render_room(draw_room(rng), size=size) for _ in range(n)]
    rooms = {name: np.stack([view[name] for view in views]) for name in views[0]}
    gray = rooms["rgb"] @ (np.array([0.299, 0.587, 0.114], np.float32) / 255)  # (n, H, W)
    return rooms | {"keypoints": compute_keypoints(gray), "edges": compute_edges(gray)}


def _as_split(rooms: dict[str, ndarray]) -> Split:
    """Raw arrays in the types a split keeps them in."""
    normal = np.where(np.isnan(rooms["normal"]), -128, np.round(127 * rooms["normal"]))
    classes = rooms["segmentation"].astype(np.int8)
    targets = {
        "depth": rooms["depth"].astype(np.float16)[:, None],
        "normal": normal.astype(np.int8).transpose(0, 3, 1, 2),
        "segmentation": np.where(classes == 0, np.int8(-1), classes),
    }
    for name in ("keypoints", "edges"):
        targets[name] = (rooms[name] / np.float32(65535)).astype(np.float16)[:, None]
    images = torch.from_numpy(rooms["rgb"].transpose(0, 3, 1, 2)).contiguous()
    return Split(images, {name: torch.from_numpy(a).contiguous() for name, a in targets.items()})
