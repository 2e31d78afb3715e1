"""Encoders for what readers bring: a table, a sequence, pictures of any size; not in the paper.

All end in a bottleneck of ``capacity`` numbers, as the toy encoder does: it decides what a branch
can serve. For other sizes register your own call, see `mlp`.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil, prod

import torch
from torch import Tensor, nn

from dmtg_lite.core.encoder import Encoder
from dmtg_lite.encoders.vit import Block

_MOST_PIXELS = 32  # a side, that convolutions see
_SLOPE = 0.1  # leaky: with a bottleneck of one number, a plain ReLU encoder can die


def mlp(
    feature_shape: tuple[int, ...],
    *,
    capacity: int = 1,
    width: int = 64,
    depth: int = 2,
    dropout: float = 0.5,
    batch_norm: bool = True,
) -> Encoder:
    """A multi-layer perceptron for tables and embeddings: ``depth`` hidden layers, a bottleneck.

    One stage a layer. Dropout is as strong as it is because tables have few rows: a thousand steps
    pass over 1,500 of them forty times.

    Args:
        feature_shape: (D,); rows of other shapes are flattened.
        capacity: Width of the last layer: what a branch can carry.
        width, depth: Units of a hidden layer, and how many there are; 0: linear.
        dropout: Share of hidden units left out of a step.
        batch_norm: Of hidden layers, before the LeakyReLU.

    Example:
        >>> from functools import partial
        >>> from dmtg_lite.encoders import register
        >>> register("wide", lambda feature_shape, capacity: mlp(
        ...     feature_shape, capacity=capacity, width=256, dropout=0.2))
        'wide'
    """
    sizes = [prod(feature_shape), *[width] * depth]
    stages = [_layer(before, after, dropout, batch_norm) for before, after in pairwise(sizes)]
    first = [nn.Flatten()] if len(feature_shape) > 1 else []
    return Encoder([*first, *stages, nn.Linear(sizes[-1], capacity)], capacity)


def _layer(before: int, after: int, dropout: float, batch_norm: bool = True) -> nn.Sequential:
    norm = [nn.BatchNorm1d(after)] if batch_norm else []
    return nn.Sequential(nn.Linear(before, after), *norm, nn.LeakyReLU(_SLOPE), nn.Dropout(dropout))


def convnet(
    feature_shape: tuple[int, ...],
    *,
    capacity: int = 1,
    width: int = 16,
    hidden: int = 64,
    dropout: float = 0.2,
) -> Encoder:
    """A small network for pictures of any size and any number of channels.

    Pictures with a side above 32 pixels are averaged down to 17 to 32 first, so that a step on a
    CPU takes about as long whatever they are; for finer detail there is ``"resnet"``. Each
    convolution but the first halves the map, until no side is above 4, and doubles the channels, up
    to four times ``width``.

    Args:
        feature_shape: (C, H, W).
        capacity: Width of the bottleneck.
        width: Channels after the first convolution.
        hidden, dropout: Units before the bottleneck, and the share left out of a step.
    """
    channels, *sides = feature_shape
    shrinks = tuple(ceil(side / _MOST_PIXELS) for side in sides)
    shrink = nn.AvgPool2d((shrinks[0], shrinks[1]), ceil_mode=True)
    stages = [nn.Sequential(shrink, _conv(channels, width))]
    sides = [ceil(side / step) for side, step in zip(sides, shrinks, strict=True)]
    channels = width
    while max(sides) > 4:
        steps = tuple(2 if side > 4 else 1 for side in sides)
        after = min(2 * channels, 4 * width)
        stages.append(nn.Sequential(nn.MaxPool2d(steps, ceil_mode=True), _conv(channels, after)))
        sides = [ceil(side / step) for side, step in zip(sides, steps, strict=True)]
        channels = after
    told = nn.Sequential(nn.Flatten(), *_layer(channels * prod(sides), hidden, dropout))
    return Encoder([*stages, told, nn.Linear(hidden, capacity)], capacity)


def _conv(before: int, after: int) -> nn.Sequential:
    """3x3, of the same size: (B, before, H, W) -> (B, after, H, W)."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.LeakyReLU(_SLOPE),
    )


class Positions(nn.Module):
    """Each element by a linear layer, with its place added: (B, L, D) -> (B, L, width)."""

    def __init__(self, length: int, n_features: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, width)
        self.places = nn.Parameter(0.02 * torch.randn(1, length, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.places


class Pool(nn.Module):
    """A learned weighting of the elements: (B, L, width) -> (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return (self.score(x).softmax(1) * x).sum(1)


def attention_pool(
    feature_shape: tuple[int, ...],
    *,
    capacity: int = 1,
    width: int = 32,
    depth: int = 1,
    dropout: float = 0.2,
) -> Encoder:
    """For sequences (L, D): positions, ``depth`` blocks of self-attention, attention pooling.

    Args:
        feature_shape: (L, D); all sequences of one length.
        capacity: Width of the bottleneck.
        width, depth: Of a block; it has 4 heads, so ``width`` is a multiple of 4.
        dropout: Share of pooled units left out of a step.
    """
    length, n_features = feature_shape
    blocks = [Block(width, 4) for _ in range(depth)]
    pooled = nn.Sequential(Pool(width), nn.Dropout(dropout))
    return Encoder(
        [Positions(length, n_features, width), *blocks, pooled, nn.Linear(width, capacity)],
        capacity,
    )
