"""The six PNGs of one Taskonomy view in, arrays of the wanted size out.

Pixels without a label never enter an average, and class ids are never averaged. The published
pipelines resize everything bilinearly, which invents classes and mixes "no depth" into depth.
"""

from __future__ import annotations

import struct

import numpy as np

from dmtg_lite.data.foreign_files import (
    PERHAPS_TEXT,
    BrokenFile,
    load_picture,
    name_content,
    open_picture,
)
from dmtg_lite.data.taskonomy.arrays import NO_CLASS, NO_NORMAL

FAKE_MARK = (
    "dmtg_lite toy rooms"  # in a text chunk of each picture that `make_toy_taskonomy.py` drew
)
PER_METRE = 512  # depth is in 1/512 m
NO_DEPTH = 8192  # 16 m; 65535 means that there is no geometry
MOST = 65535  # of a 16-bit picture
HIGHEST_CLASS = 17
_UNIT_LENGTH = (0.9, 1.1)  # of the median normal
_SHORTEST = 0.1  # averages of normals below it have no direction
_LARGEST = 4096  # pixels a side
_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_EXPECTED = {
    "rgb": "8-bit RGB",
    "depth_zbuffer": "16-bit grey",
    "normal": "8-bit RGB",
    "segment_semantic": "8-bit grey",
    "keypoints2d": "16-bit grey",
    "edge_texture": "16-bit grey",
}


def prepare_view(
    pictures: dict[str, tuple[str, bytes]], source_size: int, size: int
) -> dict[str, np.ndarray]:
    """Decode the pictures of one view and shrink them; the arrays are those of `arrays.row_types`.

    Args:
        pictures: Name and PNG bytes of each of the six domains, ``source_size`` pixels a side.
        size: Pixels a side of the result, at most ``source_size``; if equal, nothing is resampled.

    Raises:
        BrokenFile: If a picture is damaged.
        ValueError: If one is of another kind or size, or holds impossible values: other data.
    """
    raw = {domain: _decode(*picture, domain, source_size) for domain, picture in pictures.items()}
    is_valid = raw["depth_zbuffer"] < NO_DEPTH
    _check_normals(pictures["normal"][0], raw["normal"][is_valid])
    highest = raw["segment_semantic"].max()
    if highest > HIGHEST_CLASS:
        raise ValueError(
            f"{pictures['segment_semantic'][0]} has the class id {highest}, expected 0 to "
            f"{HIGHEST_CLASS}. Fetch segment_semantic of Taskonomy; other data sets number their "
            "classes differently."
        )
    return {
        "rgb.npy": _resize(raw["rgb"], size),
        "depth.npy": shrink_depth(raw["depth_zbuffer"], size),
        "normal.npy": shrink_normals(raw["normal"], is_valid, size),
        "segmentation.npy": shrink_classes(raw["segment_semantic"], size),
        "keypoints.npy": shrink_counts(raw["keypoints2d"], size),
        "edges.npy": shrink_counts(raw["edge_texture"], size),
    }


# ---- shrinking -----------------------------------------------------------------------------------


def shrink_depth(raw: np.ndarray, size: int) -> np.ndarray:
    """Metres from 1/512 m, averaged over valid pixels: integers (H, H) to float16 (size, size).

    NaN where less than half of the weight lies on pixels nearer than 16 m.
    """
    mean, has_label = _mean_of_valid(raw[..., None].astype(np.float32), raw < NO_DEPTH, size)
    return np.where(has_label, mean[..., 0] / PER_METRE, np.nan).astype(np.float16)


def shrink_normals(colours: np.ndarray, is_valid: np.ndarray, size: int) -> np.ndarray:
    """Unit vectors of colours, averaged over valid pixels: uint8 (H, H, 3) to int8 (size, size, 3).

    A component is stored as 127 times its value, and -128 where less than half of the weight is
    valid or where the normals of a pixel cancel.
    """
    mean, has_label = _mean_of_valid(_vectors(colours), is_valid, size)
    length = np.sqrt((mean * mean).sum(-1, keepdims=True))
    has_label = has_label[..., None] & (length > _SHORTEST)
    unit = mean / np.where(has_label, length, 1)
    return np.where(has_label, np.rint(127 * unit), NO_NORMAL).astype(np.int8)


def shrink_classes(ids: np.ndarray, size: int) -> np.ndarray:
    """The class of the nearest pixel: uint8 (H, H) to int8 (size, size); 0, uncertain, to -1."""
    nearest = (2 * np.arange(size) + 1) * len(ids) // (2 * size)  # pixel that holds the centre
    near = ids[np.ix_(nearest, nearest)].astype(np.int8)
    return np.where(near == 0, np.int8(NO_CLASS), near)


def shrink_counts(raw: np.ndarray, size: int) -> np.ndarray:
    """Fractions of 65535, averaged: integers (H, H) to float16 (size, size)."""
    return (_resize(raw.astype(np.float32), size) / MOST).astype(np.float16)


def _mean_of_valid(
    values: np.ndarray, is_valid: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the valid pixels (size, size, C), and where they have half of the weight."""
    weight = _resize(is_valid.astype(np.float32), size)  # (size, size), 0 to 1
    sums = [_resize(channel * is_valid, size) for channel in np.moveaxis(values, -1, 0)]
    mean = np.stack(sums, -1) / np.maximum(weight, 1e-6)[..., None]
    return mean, weight > 0.5 - 1e-4  # weights are float32


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """Pillow's bilinear filter, which averages over the pixels that an output pixel covers."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))  # float32 (H, H) or uint8 (H, H, 3)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _vectors(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.float32) * np.float32(2 / 255) - 1


# ---- decoding and its checks ---------------------------------------------------------------------


def side_of(name: str, data: bytes) -> int:
    """Pixels a side of a square PNG, from its first bytes."""
    width, height, _ = _header(name, data)
    if width != height or width > _LARGEST:
        raise ValueError(
            f"{name} is {width} x {height} pixels, expected a square of at most {_LARGEST}."
        )
    return width


def is_fake(data: bytes) -> bool:
    """True for a picture that `make_toy_taskonomy.py` drew."""
    return FAKE_MARK.encode() in data


def _header(name: str, data: bytes) -> tuple[int, int, str]:
    """Width, height, and bits and colours, which Pillow's modes do not tell apart."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 33:
        kind = name_content(data)
        kind = f"no PNG ({len(data)} bytes)" if kind in ("a PNG", "empty", PERHAPS_TEXT) else kind
        raise BrokenFile(f"{name} is {kind}, expected a PNG. Fetch it again.")
    width, height, bits, colours = struct.unpack(">IIBB", data[16:26])
    return width, height, f"{bits}-bit {_KINDS.get(colours, colours)}"


def _decode(name: str, data: bytes, domain: str, source_size: int) -> np.ndarray:
    width, height, kind = _header(name, data)
    if kind != _EXPECTED[domain]:
        raise ValueError(
            f"{name} is {kind}, expected {_EXPECTED[domain]}. "
            "Fetch the original file; a copy saved by another program may have lost numbers."
        )
    if (width, height) != (source_size, source_size):
        raise ValueError(
            f"{name} is {width} x {height} pixels, expected {source_size} x {source_size} as the "
            "first picture: all must be squares of one size. Fetch the missing size or take the "
            "file away."
        )
    return np.asarray(load_picture(name, data, open_picture(name, data, ["PNG"])))


def _check_normals(name: str, colours: np.ndarray) -> None:
    """Refuse colours (m, 3) that are no unit vectors."""
    length = float(np.median(np.linalg.norm(_vectors(colours), axis=-1))) if len(colours) else 1.0
    if not _UNIT_LENGTH[0] <= length <= _UNIT_LENGTH[1]:
        raise ValueError(
            f"{name} has normals of median length {length:.2f}, expected 1: the colours are no "
            "normals. Fetch the original file."
        )
