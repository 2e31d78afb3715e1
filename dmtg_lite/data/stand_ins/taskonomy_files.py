"""A fake Taskonomy in the formats and folders of the real one, to be prepared and trained on.

The rooms are drawn: nothing in it is Taskonomy but byte formats, folder layouts and names of
buildings. Every picture says so in a text chunk, and so does README.txt.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy import ndarray

from dmtg_lite.core.checks import as_whole
from dmtg_lite.data.stand_ins.new_folder import new_folder
from dmtg_lite.data.taskonomy.images import FAKE_MARK, PER_METRE
from dmtg_lite.data.toys.rooms import render_rooms

Layout: TypeAlias = Literal["omnitools", "standley", "raw", "tars", "compressed", "single"]
# Where a view of a building lies below the root, for the ways that are met.
LAYOUTS: dict[Layout, str] = {
    "omnitools": "{domain}/taskonomy/{building}",
    "standley": "{domain}/{building}",
    "raw": "{building}_{domain}/{domain}",
    "tars": "{building}_{domain}.tar",
    "compressed": "{domain}__taskonomy__{building}.tar",
    "single": "{domain}",
}
# Buildings of the official tiny split, in turn from its train, train, val and test part.
BUILDINGS = (
    "hanson", "wiconisco", "ihlen", "merom", "klickitat", "corozal", "muleshoe", "onaga",
    "leonardo", "collierville", "uvalda", "marstons", "newfields", "markleeville", "noxapater",
    "pinesdale", "lakeville", "darden", "mcdade", "cosmos", "benevolence", "pomaria", "tolstoy",
    "shelbyville", "allensville",
)  # fmt: skip
NO_DEPTH, NO_NORMAL = 65535, 128
_MARK = (
    "FAKE (drawn rooms, not Taskonomy). A program made the pictures and labels in this folder.\n"
    "File formats, folders and names of buildings are those of Taskonomy, and nothing else is.\n"
)


def make_fake_taskonomy(
    out: str | Path,
    *,
    layout: Layout = "omnitools",
    buildings: int | None = None,
    views: int = 8,
    size: int = 512,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Write drawn rooms as the six domains of Taskonomy into the new folder ``out``.

    Args:
        out: Folder to make; it may exist if it is empty.
        layout: ``"omnitools"``, ``"standley"``, ``"raw"`` (tars unpacked), ``"tars"``,
            ``"compressed"`` (tars as omnitools calls them) or ``"single"`` (one building without a
            folder of its own). All hold the same bytes.
        buildings: How many, 1 to 25; the first are one each of the official tiny train, val and
            test split. ``None``: 1 for ``"single"``, else 6.
        views: Rooms per building, >= 1.
        size: Height and width in pixels; Taskonomy's is 512.
        seed: Same seed, same rooms.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument is wrong or ``out`` holds something already.
        ImportError: If Pillow or tqdm (extra ``data``) is missing.
    """
    out = Path(out).absolute()
    buildings = (1 if layout == "single" else 6) if buildings is None else buildings
    if layout not in LAYOUTS:
        raise ValueError(f"`layout` must be one of {tuple(LAYOUTS)}, got {layout!r}.")
    if not 1 <= buildings <= len(BUILDINGS):
        raise ValueError(f"`buildings` must be 1 to {len(BUILDINGS)}, got {buildings}.")
    if layout == "single" and buildings != 1:
        raise ValueError(
            f"`buildings` must be 1 for layout 'single', got {buildings}. Choose another layout."
        )
    if views < 1:
        raise ValueError(f"`views` must be >= 1, got {views}.")
    seed = as_whole("seed", seed, 0)
    mark, total = ("README.txt", _MARK), buildings * views
    with new_folder(out, mark=mark, total=total, unit="view", progress=progress) as (folder, tick):
        streams = np.random.default_rng(seed).spawn(len(BUILDINGS))
        for building, rng in zip(BUILDINGS[:buildings], streams, strict=False):
            for view in range(views):
                room = render_rooms(1, size=size, seed=rng)
                pixels = encode_view({name: values[0] for name, values in room.items()})
                stem = f"point_{view // 2}_view_{view % 2}_domain"
                for domain, values in pixels.items():
                    # The one domain whose files are named otherwise.
                    suffix = domain.replace("segment_semantic", "segmentsemantic")
                    place = folder / LAYOUTS[layout].format(domain=domain, building=building)
                    _write(place, domain, f"{stem}_{suffix}.png", encode_png(values))
                tick()
    return out


def encode_view(room: dict[str, ndarray]) -> dict[str, ndarray]:
    """The pixels of the six files of one view, as `render_rooms` gives it without the first axis.

    Depth in 1/512 m, 65535 where there is none; normals as 255 (n + 1) / 2, (128, 128, 128) where
    there is none; classes, keypoints and edges as they are.
    """
    is_open = np.isnan(room["depth"])
    depth = np.where(is_open, NO_DEPTH, np.round(np.nan_to_num(room["depth"]) * PER_METRE))
    normal = np.round(255 * (np.nan_to_num(room["normal"]) + 1) / 2)
    return {
        "rgb": room["rgb"],
        "depth_zbuffer": depth.astype(np.uint16),
        "normal": np.where(is_open[..., None], NO_NORMAL, normal).astype(np.uint8),
        "segment_semantic": room["segmentation"],
        "keypoints2d": room["keypoints"],
        "edge_texture": room["edges"],
    }


def encode_png(pixels: ndarray) -> bytes:
    """A PNG of 8-bit RGB, 8-bit gray or 16-bit gray, as the array says, marked as fake."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    mark, buffer = PngInfo(), io.BytesIO()
    mark.add_text("Comment", FAKE_MARK)
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=mark)
    return buffer.getvalue()


def _write(place: Path, domain: str, name: str, content: bytes) -> None:
    """One file into a folder, or into the tar at this place."""
    if place.suffix != ".tar":
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
        return
    entry = tarfile.TarInfo(f"{domain}/{name}")
    entry.size = len(content)
    with tarfile.open(place, "a") as archive:
        archive.addfile(entry, io.BytesIO(content))
