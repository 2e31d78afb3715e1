"""Encoders: a row to features, as a list of stages so that sharing the first m is a slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dmtg_lite.core.encoder import Encoder
from dmtg_lite.encoders.own import Build, Own, as_encoder, make_builder, name_of
from dmtg_lite.encoders.plain import attention_pool, convnet, mlp
from dmtg_lite.encoders.pretrained import load_pretrained, save_encoder
from dmtg_lite.encoders.resnet import resnet
from dmtg_lite.encoders.toy import toy
from dmtg_lite.encoders.vit import vit_base, vit_small
from dmtg_lite.encoders.xception import xception, xception_small

_PICTURES = (convnet, resnet, toy, vit_base, vit_small, xception, xception_small)
ENCODERS: dict[str, Callable[..., Encoder]] = {
    build.__name__: build for build in (*_PICTURES, attention_pool, mlp)
}
_BUILT_IN = frozenset(ENCODERS)
_TAKES: dict[str, tuple[str, int]] = {
    build.__name__: ("pictures (C, H, W)", 3) for build in _PICTURES
}
_TAKES["attention_pool"] = ("sequences (L, D)", 2)  # and "mlp" takes whatever comes


def register(name: str, encoder: Own | Build) -> str:
    """Give an encoder of your own a name, which configs, checkpoints and results then hold.

    Args:
        name: Returned; another call with it replaces the encoder, unless it is one of the library.
        encoder: A module, a list of stages (so that ``shared=m`` is a slice), or a function that
            builds either, and may take ``feature_shape`` and ``capacity``.

    Raises:
        ValueError: If the name is one of the library's, or no text.

    Example:
        >>> from torch import nn
        >>> register("linear", lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(8)))
        'linear'
    """
    if not isinstance(name, str) or not name or name in _BUILT_IN:
        raise ValueError(
            f"`name` must be a text, and none of {sorted(_BUILT_IN)}, which are the library's; got "
            f"{name!r}."
        )
    ENCODERS[name] = make_builder(name, encoder)
    return name


def list_own() -> dict[str, Callable[..., Encoder]]:
    """The encoders that were registered, by name."""
    return {name: build for name, build in ENCODERS.items() if name not in _BUILT_IN}


def use(encoder: str | Own) -> str:
    """The name of an encoder; a module or list of stages is registered under one of its own."""
    return encoder if isinstance(encoder, str) else register(name_of(encoder), encoder)


def build_encoder(
    name: str,
    feature_shape: tuple[int, ...],
    *,
    capacity: int,
    pretrained: str | Path | None = None,
) -> Encoder:
    """Build an encoder by name.

    Args:
        name: ``"resnet"`` (the paper's on CelebA), ``"xception"`` and ``"vit_base"`` (the paper's
            on Taskonomy), ``"xception_small"`` and ``"vit_small"`` (their siblings for 64x64
            pictures on a CPU), ``"toy"``; ``"convnet"`` for pictures of any size, ``"mlp"`` for
            tables and embeddings, ``"attention_pool"`` for sequences; or one that was registered.
        feature_shape: Of one row: (C, H, W) of pictures, (L, D) of sequences, (D,) of tables.
        capacity: Numbers at the bottleneck of ``"toy"`` and of the last three; the others ignore
            it.
        pretrained: A local safetensors file to start from, see `load_pretrained`.
    """
    if name not in ENCODERS:
        raise ValueError(
            f"`encoder` must be one of {sorted(ENCODERS)}, got {name!r}. If that is one of your "
            f"own, say so first: dmtg_lite.encoders.register({name!r}, your_module)."
        )
    if name in _TAKES and len(feature_shape) != _TAKES[name][1]:
        raise ValueError(
            f"`encoder` {name!r} is for {_TAKES[name][0]}, and a row of these data is "
            f"{tuple(feature_shape)}: 'mlp' is for tables, 'attention_pool' for sequences, "
            "'convnet' for pictures; config=None chooses."
        )
    encoder = ENCODERS[name](feature_shape, capacity=capacity)
    if pretrained is not None:
        load_pretrained(encoder, pretrained)
    return encoder


__all__ = [
    "ENCODERS", "Encoder", "Own", "as_encoder", "attention_pool", "build_encoder", "convnet",
    "list_own", "load_pretrained", "mlp", "name_of", "register", "resnet", "save_encoder", "toy",
    "use", "vit_base", "vit_small", "xception", "xception_small",
]  # fmt: skip
