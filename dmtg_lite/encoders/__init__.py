"""Encoders: image to features, as a list of stages so that sharing the first m is a slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dmtg_lite.core.encoder import Encoder
from dmtg_lite.encoders.pretrained import load_pretrained, save_encoder
from dmtg_lite.encoders.resnet import resnet
from dmtg_lite.encoders.toy import toy
from dmtg_lite.encoders.vit import vit_base, vit_small
from dmtg_lite.encoders.xception import xception, xception_small

ENCODERS: dict[str, Callable[..., Encoder]] = {
    build.__name__: build for build in (resnet, toy, vit_base, vit_small, xception, xception_small)
}


def build_encoder(
    name: str,
    image_shape: tuple[int, int, int],
    *,
    capacity: int,
    pretrained: str | Path | None = None,
) -> Encoder:
    """Build an encoder by name.

    Args:
        name: ``"resnet"`` (the paper's on CelebA), ``"xception"`` and ``"vit_base"`` (the paper's
            on Taskonomy), ``"xception_small"`` and ``"vit_small"`` (their siblings for 64x64
            pictures on a CPU), or ``"toy"``.
        image_shape: (3, H, W) of the images it will see.
        capacity: Numbers at the bottleneck of the toy encoder; ignored by the others.
        pretrained: A local safetensors file to start from, see `load_pretrained`.

    Raises:
        FileNotFoundError: If ``pretrained`` is not there.
        ValueError: If the name is unknown, or image size or ``pretrained`` do not fit it.
    """
    if name not in ENCODERS:
        raise ValueError(f"`encoder` must be one of {sorted(ENCODERS)}, got {name!r}.")
    encoder = ENCODERS[name](image_shape, capacity=capacity)
    if pretrained is not None:
        load_pretrained(encoder, pretrained)
    return encoder


__all__ = [
    "ENCODERS", "Encoder", "build_encoder", "load_pretrained", "resnet", "save_encoder", "toy",
    "vit_base", "vit_small", "xception", "xception_small",
]  # fmt: skip
