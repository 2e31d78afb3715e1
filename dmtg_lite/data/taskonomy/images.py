"""The six PNGs of one Taskonomy view in, arrays of the wanted size out.

Pixels without a label never enter an average, and class ids are never averaged. The published
pipelines resize everything bilinearly, which invents classes and mixes "no depth" into depth.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

import numpy as np

from dmtg_lite.data.taskonomy.arrays import NO_CLASS, NO_NORMAL

if TYPE_CHECKING:
    from PIL import Image

FAKE_MARK = (
    "dmtg_lite toy rooms"  # in a text chunk of every picture that `make_toy_taskonomy.py` drew
)
PER_METRE = 512  # depth is in 1/512 m
NO_DEPTH = 8192  # 16 m; 65535 means that there is no geometry
MOST = 65535  # of a 16-bit picture
HIGHEST_CLASS = 17
_UNIT_LENGTH = (0.9, 1.1)  # of the median normal
_SHORTEST = 0.1  # averages of normals below it have no direction
_LARGEST = 4096  # pixels a side
_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_RGB, _CLASSES, _COUNTS = (8, 2), (8, 0), (16, 0)  # bits, colour type
_EXPECTED = {
    "rgb": _RGB,
    "depth_zbuffer": _COUNTS,
    "normal": _RGB,
    "segment_semantic": _CLASSES,
    "keypoints2d": _COUNTS,
    "edge_texture": _COUNTS,
}


def prepare_view(
    pictures: dict[str, tuple[str, bytes]], source_size: int, size: int
) -> dict[str, np.ndarray]:
    """Decode the pictures of one view and shrink them; the arrays are those of
    `taskonomy_arrays.row_types`.

    Args:
        pictures: Name and PNG bytes of each of the six domains.
        source_size: Pixels a side that every picture must have.
        size: Pixels a side of the result, at most ``source_size``; if equal, nothing is resampled.

    Raises:
        ValueError: If a picture is broken, of another kind or size, or holds impossible values.
    """
    image = {domain: _open(*picture, domain, source_size) for domain, picture in pictures.items()}
    raw = np.asarray(image["depth_zbuffer"])
    is_valid = raw < NO_DEPTH
    return {
        "rgb.npy": np.asarray(_resize(image["rgb"], size)),
        "depth.npy": shrink_depth(raw, size),
        "normal.npy": shrink_normals(
            _check_normals(image["normal"], is_valid, pictures), is_valid, size
        ),
        "segmentation.npy": shrink_classes(
            _check_classes(image["segment_semantic"], pictures), size
        ),
        "keypoints.npy": shrink_counts(np.asarray(image["keypoints2d"]), size),
        "edges.npy": shrink_counts(np.asarray(image["edge_texture"]), size),
    }


# ---- shrinking -----------------------------------------------------------------------------------


def shrink_depth(raw: np.ndarray, size: int) -> np.ndarray:
    """Metres from 1/512 m, averaged over valid pixels: integers (H, H) to float16 (size, size).

    NaN where less than half of the weight lies on pixels nearer than 16 m.
    """
    is_valid = raw < NO_DEPTH
    mean, has_label = _mean_of_valid(raw[..., None].astype(np.float32), is_valid, size)
    return np.where(has_label, mean[..., 0] / PER_METRE, np.nan).astype(np.float16)


def shrink_normals(colours: np.ndarray, is_valid: np.ndarray, size: int) -> np.ndarray:
    """Unit vectors from colours, averaged over valid pixels: uint8 (H, H, 3) to int8 (size, size,
    3).

    A component is stored as 127 times its value, and -128 where less than half of the weight is
    valid or where the normals of a pixel cancel.
    """
    vectors = colours.astype(np.float32) * np.float32(2 / 255) - 1
    mean, has_label = _mean_of_valid(vectors, is_valid, size)
    length = np.sqrt((mean * mean).sum(-1, keepdims=True))
    has_label = has_label[..., None] & (length > _SHORTEST)
    unit = mean / np.where(has_label, length, 1)
    return np.where(has_label, np.rint(127 * unit), NO_NORMAL).astype(np.int8)


def shrink_classes(ids: np.ndarray, size: int) -> np.ndarray:
    """The class of the nearest pixel: uint8 (H, H) to int8 (size, size); 0, "uncertain", becomes -1."""
    nearest = (2 * np.arange(size) + 1) * len(ids) // (2 * size)  # pixel that holds the centre
    near = ids[np.ix_(nearest, nearest)].astype(np.int8)
    return np.where(near == 0, np.int8(NO_CLASS), near)


def shrink_counts(raw: np.ndarray, size: int) -> np.ndarray:
    """Fractions of 65535, averaged: integers (H, H) to float16 (size, size)."""
    return (_resize_numbers(raw.astype(np.float32), size) / MOST).astype(np.float16)


def _mean_of_valid(
    values: np.ndarray, is_valid: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean over the valid pixels (size, size, C), and where they have half of the weight."""
    if size == len(values):
        return values, is_valid
    weight = _resize_numbers(is_valid.astype(np.float32), size)  # (size, size), 0 to 1
    sums = [_resize_numbers(channel * is_valid, size) for channel in np.moveaxis(values, -1, 0)]
    mean = np.stack(sums, -1) / np.maximum(weight, 1e-6)[..., None]
    return mean, weight > 0.5 - 1e-4  # weights are float32


def _resize_numbers(channel: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    if size == len(channel):
        return channel
    return np.asarray(_resize(Image.fromarray(np.ascontiguousarray(channel, np.float32)), size))


def _resize(image: Image.Image, size: int) -> Image.Image:
    """Pillow's bilinear filter, which averages over the pixels that an output pixel covers."""
    from PIL import Image

    return image if image.width == size else image.resize((size, size), Image.Resampling.BILINEAR)


# ---- decoding and its checks ---------------------------------------------------------------------


def side_of(name: str, data: bytes) -> int:
    """Pixels a side of a square PNG, from its first bytes."""
    width, height, _, _ = _header(name, data)
    if width != height or width > _LARGEST:
        raise ValueError(
            f"{name} is {width} x {height} pixels, expected a square of at most {_LARGEST}."
        )
    return width


def is_fake(data: bytes) -> bool:
    """True for a picture that `make_toy_taskonomy.py` drew."""
    return FAKE_MARK.encode() in data


def _header(name: str, data: bytes) -> tuple[int, int, int, int]:
    """Width, height, bits and colour type."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 33:
        kind = "an HTML page" if data.lstrip()[:1] == b"<" else f"no PNG ({len(data)} bytes)"
        raise ValueError(f"{name} is {kind}, expected a PNG. Fetch it again.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return width, height, data[24], data[25]


def _open(name: str, data: bytes, domain: str, source_size: int) -> Image.Image:
    from PIL import Image  # the caller checked that it is installed

    width, height, bits, kind = _header(name, data)
    if (bits, kind) != _EXPECTED[domain]:
        want_bits, want_kind = _EXPECTED[domain]
        raise ValueError(
            f"{name} is {bits}-bit {_KINDS.get(kind, kind)}, expected {want_bits}-bit "
            f"{_KINDS[want_kind]}. "
            "Fetch the original file; a copy saved by another program may have lost numbers."
        )
    if (width, height) != (source_size, source_size):
        raise ValueError(
            f"{name} is {width} x {height} pixels, expected {source_size} x {source_size} as the "
            "first "
            "picture: all must be squares of one size. Fetch the missing size or take the file "
            "away."
        )
    try:
        _check_sums(data)
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{name} is no complete PNG ({len(data)} bytes; {error}). Fetch it again and repeat "
            "the command."
        ) from None
    return image


def _check_sums(data: bytes) -> None:
    """Walk the chunks to the last one; Pillow itself does not look at the checksums of pixels."""
    view, start = memoryview(data), 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        if end > len(data):
            break
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ValueError("a checksum is wrong")
        if view[start + 4 : start + 8] == b"IEND":
            return
        start = end
    raise ValueError("cut short")


def _check_classes(image: Image.Image, pictures: dict[str, tuple[str, bytes]]) -> np.ndarray:
    ids = np.asarray(image)
    if ids.max() > HIGHEST_CLASS:
        raise ValueError(
            f"{pictures['segment_semantic'][0]} has the class id {ids.max()}, expected 0 to "
            f"{HIGHEST_CLASS}. "
            "Fetch segment_semantic of Taskonomy; other data sets number their classes differently."
        )
    return ids


def _check_normals(
    image: Image.Image, is_valid: np.ndarray, pictures: dict[str, tuple[str, bytes]]
) -> np.ndarray:
    colours = np.asarray(image)
    if is_valid.any():
        vectors = colours[is_valid].astype(np.float32) * np.float32(2 / 255) - 1  # (m, 3)
        length = float(np.median(np.sqrt((vectors * vectors).sum(-1))))
        if not _UNIT_LENGTH[0] <= length <= _UNIT_LENGTH[1]:
            raise ValueError(
                f"{pictures['normal'][0]} has normals of median length {length:.2f}, expected 1: "
                "the colours "
                "are no normals. Fetch the original file."
            )
    return colours
