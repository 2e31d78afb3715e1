"""Encoders of a reader's own: a module, a list of stages, or a function that builds either.

What K copies of an encoder need is checked by one dry run: features of a form that heads read, and
copies that share nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from dmtg_lite.core.checks import describe
from dmtg_lite.core.encoder import Encoder

Own = nn.Module | Sequence[nn.Module] | Encoder
Build = Callable[..., Own]


def name_of(encoder: Own) -> str:
    """A name that the same architecture always has, and another one not: ``ConvNet-1c291ca3``."""
    stages = encoder.stages if isinstance(encoder, Encoder) else encoder
    kind = type(stages).__name__ if isinstance(stages, nn.Module) else "stages"
    return f"{kind}-{zlib.crc32(repr(stages).encode()):08x}"


def make_builder(name: str, given: Own | Build) -> Callable[..., Encoder]:
    """A function as those of `encoders.ENCODERS`: ``(image_shape, *, capacity) -> Encoder``.

    A module is copied with the weights it has; a function is called anew for each network, and may
    take ``image_shape`` and ``capacity``.
    """

    def build(image_shape: tuple[int, int, int], *, capacity: int) -> Encoder:
        if isinstance(given, (nn.Module, Sequence, Encoder)) or not callable(given):
            return as_encoder(given, image_shape, name=name)
        known = {"image_shape": image_shape, "capacity": capacity}
        asked = {key: known[key] for key in signature(given).parameters if key in known}
        return as_encoder(given(**asked), image_shape, name=name)

    return build


def as_encoder(given: Own, image_shape: Sequence[int], *, name: str = "encoder") -> Encoder:
    """A copy of a module, or of a list of stages, with the width of its features.

    Args:
        given: From images (B, 3, H, W), float32 from 0 to 1, to features (B, D); or to a map
            (B, D, H / 2^m, W / 2^m) for dense tasks. A list's first stages may be shared.
        image_shape: (3, H, W).
        name: For messages.

    Raises:
        ValueError: If it is no such thing, has nothing to learn, or its copies share weights.
    """
    if isinstance(given, Encoder):
        return replace(given, stages=list(_copy(name, nn.ModuleList(given.stages))))
    stages: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    if not stages or not all(isinstance(stage, nn.Module) for stage in stages):
        raise ValueError(
            f"`{name}` must be a torch module or a list of them, got {describe(given)}."
        )
    stages = [*nn.ModuleList(_copy(name, nn.ModuleList(stages)))]
    features = _try(name, stages, image_shape)
    if features.ndim == 2:
        return Encoder(stages, features.shape[1])
    return Encoder(stages, features.shape[1], _plan_decoder(name, features, image_shape))


def _copy(name: str, stages: nn.ModuleList) -> nn.ModuleList:
    """Each branch gets a copy: one that shares nothing with the others."""
    try:
        copy = deepcopy(stages)
    except Exception as error:
        raise ValueError(
            f"`{name}` cannot be copied, and every branch needs a copy: {error}. Tensors that were "
            "computed with gradients, locks and files are better made in `forward`."
        ) from error
    shared = {id(one) for one in (*stages.parameters(), *stages.buffers())}
    if any(id(one) in shared for one in (*copy.parameters(), *copy.buffers())):
        raise ValueError(f"`{name}`: its copies share weights or buffers, so branches would too.")
    return copy


def _try(name: str, stages: list[nn.Module], image_shape: Sequence[int]) -> Tensor:
    """Features of two images; lazy layers learn their sizes."""
    images = torch.linspace(0, 1, 2 * int(torch.Size(image_shape).numel())).view(2, *image_shape)
    network = nn.Sequential(*stages)
    were = [module.training for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            features = network(images)
    except Exception as error:
        raise ValueError(
            f"`{name}` does not take images {tuple(image_shape)}: {type(error).__name__}: {error}"
        ) from error
    for module, was in zip(network.modules(), were, strict=True):
        module.training = was
    if not (isinstance(features, Tensor) and features.ndim in (2, 4) and len(features) == 2):
        raise ValueError(
            f"`{name}` must give features (B, D), or a map (B, D, H, W) for dense tasks; for two "
            f"images of {tuple(image_shape)} it gave {describe(features)}. nn.Flatten() at its end "
            "makes vectors."
        )
    if features.dtype != torch.float32:
        raise ValueError(f"`{name}` must give float32, as its weights are, got {features.dtype}.")
    if not any(weight.requires_grad for weight in network.parameters()):
        raise ValueError(f"`{name}` has no weights to train, so that groups would be all alike.")
    return features


def _plan_decoder(name: str, features: Tensor, image_shape: Sequence[int]) -> tuple[int, ...]:
    """Widths of a decoder that doubles a map until it is as large as the image."""
    size, (height, width) = tuple(features.shape[-2:]), image_shape[-2:]
    n_doublings = (height // size[0]).bit_length() - 1
    if n_doublings < 1 or (size[0] << n_doublings, size[1] << n_doublings) != (height, width):
        raise ValueError(
            f"`{name}` gives maps of {size[0]}x{size[1]} for images of {height}x{width}: a decoder "
            "doubles them until they fit, so they must be 2, 4, 8, ... times smaller. "
            "nn.Flatten() at its end makes vectors, for tasks of whole images."
        )
    return tuple(max(8, features.shape[1] >> n) for n in range(1, n_doublings + 1))
