"""The paper's CelebA encoder: one convolution, one residual block, flatten; no ResNet-18."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmtg_lite.core.encoder import Encoder

_WIDTH = 64


class ResidualBlock(nn.Module):
    """relu(x + BN(conv(relu(BN(conv(x)))))), 3x3, no bias: (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        # in place: nothing else reads these tensors, and fresh memory costs more than the ReLU
        y = torch.relu_(self.norm1(self.conv1(x)))
        return torch.relu_(self.norm2(self.conv2(y)).add_(x))


def resnet(image_shape: tuple[int, int, int] = (3, 64, 64), *, capacity: int = 0) -> Encoder:
    """The CelebA network of the paper: two stages, 75,840 parameters, 14,400 features at 64x64.

    Stages [conv-BN-pool-ReLU, block-pool-flatten]; sharing 1 stage is the released code's
    ``_shared`` variant. There is no bottleneck: ``capacity`` is ignored.

    Source:
        Section 4.1 ("a variant of ResNet following Fifty et al."); layers, sizes and Xavier-uniform
        weights as in TAG (Fifty et al. 2021) and the DMTG release.
    """
    channels, height, width = image_shape
    if min(height, width) < 8:
        raise ValueError(f"the ResNet variant needs images of at least 8x8, got {height}x{width}.")
    stem = nn.Sequential(
        nn.Conv2d(channels, _WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(_WIDTH),
        # before ReLU, with which it commutes: a quarter of the pixels remain
        nn.MaxPool2d(3, stride=2),
        nn.ReLU(inplace=True),
    )
    block = nn.Sequential(ResidualBlock(_WIDTH), nn.AvgPool2d(2, stride=2), nn.Flatten())
    for module in nn.ModuleList([stem, block]).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
    pooled = [((side - 3) // 2 + 1) // 2 for side in (height, width)]
    return Encoder([stem, block], _WIDTH * pooled[0] * pooled[1])
