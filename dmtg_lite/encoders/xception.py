"""The paper's Taskonomy encoder, an Xception with strided convolutions for pooling, and a sibling
for a CPU.

Stages are the layers the paper counts when it shares the first m: 2 convolutions and 11 blocks,
    then one
last separable convolution that always belongs to the branches.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dmtg_lite.core.encoder import Encoder


class DownBlock(nn.Module):
    """Two separable convolutions and a strided one, beside a strided skip: (B, C, H, W) -> (B, D,
    H/2, W/2).

    Args:
        channels_in, channels_out: C and D.
        relu_first: Whether the block starts with a ReLU; not where its input comes out of one.
    """

    def __init__(self, channels_in: int, channels_out: int, *, relu_first: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU()
            if relu_first
            else nn.Identity(),  # not in place: the skip reads the input too
            *_separable(channels_in, channels_out),
            nn.ReLU(inplace=True),
            *_separable(channels_out, channels_out),
            nn.Conv2d(channels_out, channels_out, 2, stride=2),
        )
        self.skip = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).add_(self.skip(x))


class MiddleBlock(nn.Module):
    """Three separable convolutions beside an identity skip: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),  # not in place: the skip reads the input too
            *_separable(channels, channels),
            nn.ReLU(inplace=True),
            *_separable(channels, channels),
            nn.ReLU(inplace=True),
            *_separable(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).add_(x)


def _separable(channels_in: int, channels_out: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A 3x3 convolution of each channel by itself, a 1x1 convolution across channels, batch norm."""
    return (
        nn.Conv2d(channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
    )


def _convolution(channels_in: int, channels_out: int, *, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def xception(image_shape: tuple[int, int, int] = (3, 256, 256), *, capacity: int = 0) -> Encoder:
    """The paper's Taskonomy network: 14 stages, 16,847,608 parameters, 6.49 GMACs at 256x256.

    Args:
        image_shape: (3, H, W), H and W multiples of 16; 256x256 in the paper.
        capacity: Ignored: the paper's network has no bottleneck.

    Returns:
        Two convolutions, 3 down-blocks, 8 middle blocks and the last separable convolution;
        features (B, 512, H/16, W/16). Sharing 6 stages is the released code's default.

    Raises:
        ValueError: If H or W is not a multiple of 16.

    Source:
        Section 4.1 (Taskonomy); sizes and initial weights of Standley et al. (2020), whose network
        the released code uses. The paper speaks of 12 blocks; its code counts the 13 layers before
        the last convolution.
    """
    return _build(
        image_shape,
        stem=(32, 64),
        down=(128, 256, 728),
        n_middle=8,
        out=512,
        decoder=(128, 64, 48, 32),
    )


def xception_small(
    image_shape: tuple[int, int, int] = (3, 64, 64), *, capacity: int = 0
) -> Encoder:
    """The same blocks for 64x64 pictures on a CPU: 7 stages, features (B, 48, H/8, W/8); not in the
    paper.

    Args:
        image_shape: (3, H, W), H and W multiples of 8.
        capacity: Ignored.

    Returns:
        Two convolutions, 2 down-blocks, 2 middle blocks and the last separable convolution.

    Raises:
        ValueError: If H or W is not a multiple of 8.
    """
    return _build(image_shape, stem=(8, 16), down=(32, 64), n_middle=2, out=48, decoder=(16, 8, 8))


def _build(
    image_shape: tuple[int, int, int],
    *,
    stem: tuple[int, int],
    down: Sequence[int],
    n_middle: int,
    out: int,
    decoder: tuple[int, ...],
) -> Encoder:
    channels, height, width = image_shape
    stride = 2 ** len(decoder)  # the decoder gives back what the encoder takes
    if height % stride or width % stride:
        raise ValueError(
            f"this Xception needs H and W divisible by {stride}, got {height}x{width}: it halves "
            "them "
            f"{len(decoder)} times and a decoder doubles them as often."
        )
    stages: list[nn.Module] = [
        _convolution(channels, stem[0], stride=2),
        _convolution(stem[0], stem[1], stride=1),
    ]
    before = stem[1]
    for after in down:
        # the convolution before the first block has ended in a ReLU
        stages.append(DownBlock(before, after, relu_first=len(stages) > 2))
        before = after
    stages += [MiddleBlock(before) for _ in range(n_middle)]
    # not in place: branches that share all stages but this one read the same input
    stages.append(nn.Sequential(nn.ReLU(), *_separable(before, out)))
    for stage in stages:
        for module in stage.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
    return Encoder(stages, out, decoder)
