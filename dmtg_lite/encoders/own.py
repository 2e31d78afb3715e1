"""Encoders of a reader's own: a module, a list of stages, or a function that builds either.

What K copies of an encoder need is checked by one dry run: features of a form that heads read, and
copies that share nothing.
"""

from __future__ import annotations

import builtins
import sys
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
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
    """A function as those of `encoders.ENCODERS`: ``(feature_shape, *, capacity) -> Encoder``.

    A module is copied with the weights it has; a function is called anew for each network, and may
    take ``feature_shape`` and ``capacity``.
    """
    return partial(_build, name, given)  # no closure: it can be sent to another process


def _build(
    name: str, given: Own | Build, feature_shape: tuple[int, ...], *, capacity: int
) -> Encoder:
    if isinstance(given, (nn.Module, Sequence, Encoder)) or not callable(given):
        return as_encoder(given, feature_shape, name=name)
    known = {"feature_shape": feature_shape, "image_shape": feature_shape, "capacity": capacity}
    asked = {key: known[key] for key in signature(given).parameters if key in known}
    return as_encoder(given(**asked), feature_shape, name=name)


def find_homeless(build: Any) -> str:
    """Of what a builder holds the class or function that no other process could import, if any.

    Such are those of a notebook, and all that was defined inside a function.
    """
    if isinstance(build, partial):
        return next(filter(None, map(find_homeless, (build.func, *build.args))), "")
    if isinstance(build, (Encoder, list, tuple)):
        parts = build.stages if isinstance(build, Encoder) else build
        return next(filter(None, map(find_homeless, parts)), "")
    if isinstance(build, nn.Module):
        kinds: list[Any] = [type(module) for module in build.modules()]
    else:
        kinds = [build] if callable(build) else []
    for kind in kinds:
        home: Any = sys.modules.get(getattr(kind, "__module__", ""))
        found = home if hasattr(home, "__file__") or home is builtins else None
        for part in getattr(kind, "__qualname__", "?").split("."):
            found = getattr(found, part, None)
        if found is not kind:
            return getattr(kind, "__qualname__", repr(kind))
    return ""


def as_encoder(given: Own, feature_shape: Sequence[int], *, name: str = "encoder") -> Encoder:
    """A copy of a module, or of a list of stages, with the width of its features.

    Args:
        given: From a batch as the data have it, float32 (pictures (B, C, H, W) from 0 to 1, tables
            (B, D), sequences (B, L, D)), to features (B, D'); or from pictures to a map
            (B, D', H / 2^m, W / 2^m) for dense tasks. A list's first stages may be shared.
        feature_shape: Of one row.
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
    features = _try(name, stages, feature_shape)
    if features.ndim == 2:
        return Encoder(stages, features.shape[1])
    return Encoder(stages, features.shape[1], _plan_decoder(name, features, feature_shape))


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


def _try(name: str, stages: list[nn.Module], feature_shape: Sequence[int]) -> Tensor:
    """Features of two rows; lazy layers learn their sizes."""
    rows = torch.linspace(0, 1, 2 * int(torch.Size(feature_shape).numel()))
    network = nn.Sequential(*stages)
    were = [module.training for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            features = network(rows.view(2, *feature_shape))
    except Exception as error:
        raise ValueError(
            f"`{name}` does not take rows of {tuple(feature_shape)}: {type(error).__name__}: "
            f"{error}"
        ) from error
    for module, was in zip(network.modules(), were, strict=True):
        module.training = was
    fits = (2, 4) if len(feature_shape) == 3 else (2,)
    if not (isinstance(features, Tensor) and features.ndim in fits and len(features) == 2):
        a_map = ", or a map (B, D, H, W) for dense tasks" if 4 in fits else ""
        raise ValueError(
            f"`{name}` must give features (B, D){a_map}; for two "
            f"rows of {tuple(feature_shape)} it gave {describe(features)}. nn.Flatten() at its end "
            "makes vectors."
        )
    if features.dtype != torch.float32:
        raise ValueError(f"`{name}` must give float32, as its weights are, got {features.dtype}.")
    if not any(weight.requires_grad for weight in network.parameters()):
        raise ValueError(f"`{name}` has no weights to train, so that groups would be all alike.")
    return features


def _plan_decoder(name: str, features: Tensor, feature_shape: Sequence[int]) -> tuple[int, ...]:
    """Widths of a decoder that doubles a map until it is as large as the image."""
    size, (height, width) = tuple(features.shape[-2:]), feature_shape[-2:]
    n_doublings = (height // size[0]).bit_length() - 1
    if n_doublings < 1 or (size[0] << n_doublings, size[1] << n_doublings) != (height, width):
        raise ValueError(
            f"`{name}` gives maps of {size[0]}x{size[1]} for images of {height}x{width}: a decoder "
            "doubles them until they fit, so they must be 2, 4, 8, ... times smaller. "
            "nn.Flatten() at its end makes vectors, for tasks of whole images."
        )
    return tuple(max(8, features.shape[1] >> n) for n in range(1, n_doublings + 1))
