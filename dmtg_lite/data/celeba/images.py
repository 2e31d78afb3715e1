"""One CelebA JPEG in, 64 x 64 pixels out: full decoding, then TensorFlow's bilinear resize.

The resize is the one of the paper's pipeline, which differs from Pillow's on purpose.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from torch.nn import functional as F

WIDTH, HEIGHT = 178, 218  # of every official aligned image
SIZE = 64
FAKE_COMMENT = b"FAKE: a drawn face, not CelebA"  # in each JPEG that `make_toy_celeba.py` writes


def resize_bilinear(image: np.ndarray) -> np.ndarray:
    """Resize to 64 x 64 as ``tf.image.resize`` does: bilinear, no antialiasing; uint8 (H, W, 3).

    Each output pixel mixes the 2 x 2 source pixels around its centre; detail in between is skipped,
    not averaged. 178 and 218 over 64 are exact in float32, so the one loss is rounding to uint8,
    half to even.

    Source:
        DMTG's preprocess_celeba.py resizes with ``tf.image.resize`` and its defaults (half-pixel
        centres, ``antialias=False``) and keeps float32; uint8 costs at most half a grey level.
    """
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]  # (1, 3, H, W)
    small = F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return small[0].permute(1, 2, 0).round().byte().numpy()


def decode(name: str, data: bytes, *, antialias: bool = False) -> np.ndarray:
    """Decode one official JPEG and shrink it to uint8 (64, 64, 3).

    Args:
        name: What to call the image in an error.
        data: The bytes of the file.
        antialias: Use Pillow's antialiased bilinear filter instead of the paper's plain one.

    Raises:
        ValueError: If it is no RGB JPEG of 178 x 218 pixels, or is cut short.
    """
    from PIL import Image  # the caller checked that it is installed

    try:
        if b"\xff\xd9" not in data:  # Pillow pads a cut file when another library told it to
            raise OSError("no end marker")
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if image.size != (WIDTH, HEIGHT) or image.mode != "RGB":
                found = f"{image.width} x {image.height} {image.mode}"
                raise ValueError(f"image {name} is {found}, expected {WIDTH} x {HEIGHT} RGB.")
            if antialias:
                return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
            return resize_bilinear(np.asarray(image))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"image {name} is no complete JPEG ({len(data)} bytes; {error}). Fetch it again."
        ) from None


def is_fake(data: bytes) -> bool:
    """True for a JPEG that `make_toy_celeba.py` drew."""
    return FAKE_COMMENT in data[:1024]
