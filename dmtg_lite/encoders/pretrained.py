"""Weights of an encoder from and to a local safetensors file. Nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dmtg_lite.core.encoder import Encoder
from dmtg_lite.encoders.vit import Embedding
from dmtg_lite.files import write_atomically

_POSITIONS = "stages.0.pos_embed"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What did not simply go from the file into the encoder.

    Args:
        missing: Weights of the encoder that the file lacks; they keep their values.
        unused: Weights in the file that the encoder lacks: the classifier it was trained with.
        resized: Whether the positions came from another grid of patches.
    """

    missing: tuple[str, ...]
    unused: tuple[str, ...]
    resized: bool


def save_encoder(encoder: Encoder, path: str | Path) -> None:
    """Write weights and statistics under the names ``stages.<i>.<name>``."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in _tensors(encoder).items()}
    write_atomically(path, save(tensors))


@torch.no_grad()
def load_pretrained(encoder: Encoder, path: str | Path) -> LoadReport:
    """Replace an encoder's weights by those of a local file: all, or none if it does not fit.

    Images reach an encoder as fractions in [0, 1]; weights that were trained on normalised images
    start from inputs of another scale.

    Args:
        encoder: From `build_encoder`; changed in place.
        path: What `save_encoder` wrote, or for a ViT a file with timm's names, such as
            ``vit_base_patch16_224`` for ``vit_base``: it lacks our 1x1 convolution to the map, and
            its ``head`` is not used. Positions of another square grid are resized (bicubic).

    """
    path, own = Path(path), _tensors(encoder)
    found, ours_alone, resized = _read(path), set(), False
    if isinstance(encoder.stages[0], Embedding):
        if not any(name.startswith("stages.") for name in found):
            last = len(encoder.stages) - 1
            found = {_rename_timm(name, last): tensor for name, tensor in found.items()}
            ours_alone = {f"stages.{last}.project.weight", f"stages.{last}.project.bias"}
        if (positions := found.get(_POSITIONS)) is not None:
            found[_POSITIONS] = _resize(positions, encoder.stages[0].grid)
            resized = found[_POSITIONS] is not positions
    missing, unused = own.keys() - found.keys(), {n for n in found if n.startswith("head.")}
    unknown = found.keys() - own.keys() - unused
    if unknown or missing - ours_alone:
        raise ValueError(
            f"{path} is not of this encoder: names expected but not there: "
            f"{_list(missing - ours_alone)}; names found without a place: {_list(unknown)}. "
            "Give a file of the same architecture."
        )
    fitting = sorted(own.keys() & found.keys())
    for name in fitting:
        if found[name].shape != own[name].shape:
            raise ValueError(
                f"{path} is not of this encoder: expected {name} of shape {tuple(own[name].shape)},"
                f" found {tuple(found[name].shape)}. Give a file of the same architecture."
            )
    for name in fitting:
        own[name].copy_(found[name])
    return LoadReport(tuple(sorted(missing)), tuple(sorted(unused)), resized)


def _tensors(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's own tensors, not copies, by name."""
    return nn.ModuleDict({"stages": nn.ModuleList(encoder.stages)}).state_dict()


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}. Nothing is downloaded: write them with `save_encoder`, or "
            "fetch the safetensors file of timm's vit_base_patch16_224 from where it is published."
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a safetensors file, found something else ({error}). "
            "Pickles (.pt, .pth, .bin) are not read, because they can run code."
        ) from error


def _rename_timm(name: str, last: int) -> str:
    """timm's name of a weight -> ours; a name that has no place in the encoder stays."""
    if block := re.match(r"blocks\.(\d+)\.", name):
        return f"stages.{int(block[1]) + 1}.{name[block.end() :]}"
    if name.startswith("norm."):
        return f"stages.{last}.{name}"
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed."):
        return f"stages.0.{name}"
    return name


def _resize(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions (1, 1 + n, width) of a square grid -> another grid's; the class token's first."""
    n = positions.shape[1] - 1 if positions.ndim == 3 else 0
    if n < 1 or n == grid[0] * grid[1] or isqrt(n) ** 2 != n:
        return positions  # right already, or so wrong that the comparison of shapes says it
    positions = positions.float()
    square = positions[:, 1:].unflatten(1, (isqrt(n), -1)).permute(0, 3, 1, 2)  # (1, width, h, w)
    resized = F.interpolate(square, grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def _list(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:3]) or "none"
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
