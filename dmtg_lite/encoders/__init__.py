"""Encoders: image to features, as a list of stages so that sharing the first m is a slice."""

from __future__ import annotations

from collections.abc import Callable

from dmtg_lite.encoders.encoder import Encoder
from dmtg_lite.encoders.resnet import resnet
from dmtg_lite.encoders.toy import toy
from dmtg_lite.encoders.xception import xception, xception_small

ENCODERS: dict[str, Callable[..., Encoder]] = {
    "resnet": resnet,
    "toy": toy,
    "xception": xception,
    "xception_small": xception_small,
}


def build_encoder(name: str, image_shape: tuple[int, int, int], *, capacity: int) -> Encoder:
    """Build an encoder by name.

    Args:
        name: ``"resnet"`` (the paper's CelebA network), ``"xception"`` (the paper's Taskonomy network),
            ``"xception_small"`` (its sibling for a CPU) or ``"toy"``.
        image_shape: (3, H, W) of the images it will see.
        capacity: Numbers at the bottleneck of the toy encoder; ignored by the paper's networks.

    Raises:
        ValueError: If the name is unknown or the image size does not suit the encoder.
    """
    if name not in ENCODERS:
        raise ValueError(f"`encoder` must be one of {sorted(ENCODERS)}, got {name!r}.")
    return ENCODERS[name](image_shape, capacity=capacity)


__all__ = ["ENCODERS", "Encoder", "build_encoder", "resnet", "toy", "xception", "xception_small"]
