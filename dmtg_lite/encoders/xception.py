"""The paper's Taskonomy encoder, an Xception with strided convolutions, and a sibling for a CPU.

Stages are the layers the paper counts when it shares the first m, 2 convolutions and 11 blocks,
then one last separable convolution that always belongs to the branches.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dmtg_lite.core.encoder import Encoder


class Block(nn.Module):
    """A body beside a skip, summed; the body must not change its input in place."""

    def __init__(self, body: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.body, self.skip = body, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).add_(self.skip(x))


def _down(c: int, d: int, *, relu_first: bool) -> Block:
    """Two separable convolutions and a strided one: (B, C, H, W) -> (B, D, H/2, W/2)."""
    body = nn.Sequential(
        nn.ReLU() if relu_first else nn.Identity(),
        *_separable(c, d),
        nn.ReLU(inplace=True),
        *_separable(d, d),
        nn.Conv2d(d, d, 2, stride=2),
    )
    return Block(body, nn.Sequential(nn.Conv2d(c, d, 1, stride=2, bias=False), nn.BatchNorm2d(d)))


def _middle(c: int) -> Block:
    """Three separable convolutions: (B, C, H, W) -> same."""
    body = [module for _ in range(3) for module in (nn.ReLU(inplace=True), *_separable(c, c))]
    body[0] = nn.ReLU()
    return Block(nn.Sequential(*body), nn.Identity())


def _separable(c: int, d: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A 3x3 convolution of each channel by itself, a 1x1 one across channels, batch norm."""
    each = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
    return each, nn.Conv2d(c, d, 1, bias=False), nn.BatchNorm2d(d)


def _convolution(c: int, d: int, *, stride: int) -> nn.Module:
    convolution = nn.Conv2d(c, d, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(d), nn.ReLU(inplace=True))


def xception(image_shape: tuple[int, int, int] = (3, 256, 256), *, capacity: int = 0) -> Encoder:
    """The paper's Taskonomy network: 14 stages, 16,847,608 parameters, 6.49 GMACs at 256x256.

    Two convolutions, 3 down-blocks, 8 middle blocks and the last separable convolution; features
    (B, 512, H/16, W/16). Sharing 6 stages is the released code's default. There is no bottleneck:
    ``capacity`` is ignored.

    Source:
        Section 4.1 (Taskonomy); sizes and initial weights of Standley et al. (2020), whose network
        the released code uses. The paper speaks of 12 blocks; its code counts the 13 layers before
        the last convolution.
    """
    decoder = (128, 64, 48, 32)
    return _build(image_shape, (32, 64), (128, 256, 728), n_middle=8, out=512, decoder=decoder)


def xception_small(
    image_shape: tuple[int, int, int] = (3, 64, 64), *, capacity: int = 0
) -> Encoder:
    """The same blocks for 64x64 pictures on a CPU, not in the paper: features (B, 48, H/8, W/8).

    See `xception`; H and W are multiples of 8, and there are 7 stages: 2 convolutions, 2
    down-blocks, 2 middle blocks and the last separable convolution.
    """
    return _build(image_shape, (8, 16), (32, 64), n_middle=2, out=48, decoder=(16, 8, 8))


def _build(
    image_shape: tuple[int, int, int],
    stem: tuple[int, int],
    down: Sequence[int],
    *,
    n_middle: int,
    out: int,
    decoder: tuple[int, ...],
) -> Encoder:
    channels, height, width = image_shape
    stride = 2 ** len(decoder)  # the decoder gives back what the encoder takes
    if height % stride or width % stride:
        raise ValueError(
            f"this Xception needs H and W divisible by {stride}, got {height}x{width}: it halves "
            f"them {len(decoder)} times and a decoder doubles them as often."
        )
    stages = [_convolution(channels, stem[0], stride=2), _convolution(*stem, stride=1)]
    before = stem[1]
    for after in down:  # what comes out of the convolutions has gone through a ReLU
        stages.append(_down(before, after, relu_first=before != stem[1]))
        before = after
    stages += [_middle(before) for _ in range(n_middle)]
    # not in place: branches that share all stages but this one read the same input
    stages.append(nn.Sequential(nn.ReLU(), *_separable(before, out)))
    for module in nn.ModuleList(stages).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
    return Encoder(stages, out, decoder)
