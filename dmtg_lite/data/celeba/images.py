"""One CelebA image in, 64 x 64 pixels out: full decoding, then TensorFlow's bilinear resize.

The resize is the one of the paper's pipeline, which differs from Pillow's on purpose.
"""

from __future__ import annotations

import numpy as np

from dmtg_lite.data.foreign_files import load_picture, open_picture

WIDTH, HEIGHT = 178, 218  # of every official aligned image
SIZE = 64
FAKE_COMMENT = b"FAKE: a drawn face, not CelebA"  # in each image that `make_toy_celeba.py` writes


def _axis(n_in: int) -> tuple[np.ndarray, np.ndarray]:
    """Source pixels, left then right neighbours (2 * SIZE,), and the right one's weight (SIZE,)."""
    centre = (np.arange(SIZE) + 0.5) * n_in / SIZE - 0.5  # half-pixel centres
    left = np.floor(centre).astype(np.intp)
    both = np.concatenate([left, np.minimum(left + 1, n_in - 1)])
    return both, (centre - left).astype(np.float32)


_ROWS, _DOWN = _axis(HEIGHT)
_PIXELS, _RIGHT = _axis(WIDTH)
_COLUMNS = (_PIXELS[:, None] * 3 + np.arange(3)).ravel()  # of a row of interleaved RGB


def resize_bilinear(image: np.ndarray) -> np.ndarray:
    """Resize uint8 (218, 178, 3) to (64, 64, 3) as ``tf.image.resize``: bilinear, no antialiasing.

    Each output pixel mixes the 2 x 2 source pixels around its centre, so only those are gathered,
    which is faster than ``F.interpolate``; weights are exact in float32, rounding is half to even.

    Source:
        DMTG's preprocess_celeba.py resizes with ``tf.image.resize`` and its defaults (half-pixel
        centres, ``antialias=False``) and keeps float32; uint8 costs at most half a grey level.
    """
    rows = image.take(_ROWS, 0).reshape(2 * SIZE, WIDTH * 3)
    corners = rows.take(_COLUMNS, 1).reshape(2, SIZE, 2, SIZE, 3).astype(np.float32)
    left, right = corners[:, :, 0], corners[:, :, 1]  # (2, SIZE, SIZE, 3): upper and lower rows
    upper, lower = left + (right - left) * _RIGHT[:, None]
    return np.rint(upper + (lower - upper) * _DOWN[:, None, None]).astype(np.uint8)


def decode(name: str, data: bytes, *, antialias: bool = False) -> np.ndarray:
    """Decode one aligned image and shrink it to uint8 (64, 64, 3).

    Args:
        name: What to call the image in an error.
        data: The bytes of the file: JPEG as the official ones, or PNG or WebP as in some copies.
        antialias: Use Pillow's antialiased bilinear filter instead of the paper's plain one.

    Raises:
        ValueError: If it is no RGB picture of 178 x 218 pixels, or is damaged.
    """
    from PIL import Image  # the caller checked that it is installed

    image = open_picture(f"image {name}", data, ["JPEG", "PNG", "WEBP"])
    if image.size != (WIDTH, HEIGHT) or image.mode != "RGB":
        found = f"{image.width} x {image.height} {image.mode}"
        raise ValueError(
            f"image {name} is {found}, expected {WIDTH} x {HEIGHT} RGB: the aligned and cropped "
            "images, as they come."
        )
    load_picture(f"image {name}", data, image)
    if antialias:
        return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    return resize_bilinear(np.asarray(image))


def is_fake(data: bytes) -> bool:
    """True for an image that `make_toy_celeba.py` drew."""
    return FAKE_COMMENT in data
