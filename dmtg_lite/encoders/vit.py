"""The paper's second Taskonomy encoder, a ViT-Base that gives a map, and a sibling for a CPU.

Modules bear the names of timm's ViT, so that its published weights fit: see `pretrained`.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmtg_lite.core.encoder import Encoder

_EPS = 1e-6  # of all layer norms, as ViT has it; torch's own is 1e-5


class Embedding(nn.Module):
    """Class token and gh * gw patches with positions: (B, 3, H, W) -> (B, 1 + gh * gw, width)."""

    def __init__(self, channels: int, grid: tuple[int, int], patch: int, width: int) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1], width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        # (B, gh * gw, width), row by row
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1) + self.pos_embed


class Attention(nn.Module):
    """Self-attention of ``n_heads`` heads: (B, P, width) -> same."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))  # (B, P, 3, heads, width / heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (B, heads, P, width / heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then an MLP 4 times as wide, each after a norm, beside a skip: (B, P, width)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = Attention(width, n_heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        fc1, fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, act=nn.GELU(), fc2=fc2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ToMap(nn.Module):
    """The last norm; the patches' tokens as a map: (B, 1 + gh * gw, width) -> (B, out, gh, gw)."""

    def __init__(self, grid: tuple[int, int], width: int, out: int) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.project = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.norm(x[:, 1:])  # without the class token
        return self.project(patches.transpose(1, 2).unflatten(2, self.grid))


def vit_base(image_shape: tuple[int, int, int] = (3, 256, 256), *, capacity: int = 0) -> Encoder:
    """ViT-Base: 14 stages, 86.2 million parameters, 23.3 GMACs at 256x256.

    Embedding, 12 blocks (768 wide, 12 heads), back to a map; features (B, 512, H/16, W/16). There
    is no bottleneck: ``capacity`` is ignored.

    Source:
        Dosovitskiy et al. (2021); initial weights as in timm. The paper's Table 5 uses it with the
        decoders of Xception but does not say how 768 numbers a token become the 512 channels that
        these read: a 1x1 convolution is our choice.
    """
    large = {"patch": 16, "width": 768, "n_blocks": 12, "n_heads": 12, "out": 512}
    return _build(image_shape, **large, decoder=(128, 64, 48, 32))


def vit_small(image_shape: tuple[int, int, int] = (3, 64, 64), *, capacity: int = 0) -> Encoder:
    """The same for 64x64 pictures on a CPU, not in the paper: features (B, 48, H/8, W/8).

    See `vit_base`; H and W are multiples of 8, and there are 6 stages, 4 of them blocks (64 wide, 4
    heads).
    """
    return _build(image_shape, patch=8, width=64, n_blocks=4, n_heads=4, out=48, decoder=(16, 8, 8))


def _build(
    image_shape: tuple[int, int, int],
    *,
    patch: int,
    width: int,
    n_blocks: int,
    n_heads: int,
    out: int,
    decoder: tuple[int, ...],
) -> Encoder:
    channels, height, width_pixels = image_shape
    if height % patch or width_pixels % patch:
        raise ValueError(
            f"this ViT needs H and W divisible by {patch}, got {height}x{width_pixels}: "
            f"it sees patches of {patch}x{patch}."
        )
    grid = height // patch, width_pixels // patch
    stages = [
        Embedding(channels, grid, patch, width),
        *(Block(width, n_heads) for _ in range(n_blocks)),
        ToMap(grid, width, out),
    ]
    for module in nn.ModuleList(stages).modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return Encoder(stages, out, decoder)
