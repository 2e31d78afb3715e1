"""The dense decoder: a map of features to one prediction per pixel, doubling the resolution at
every width.

One decoder is the head of one dense task; which tasks have one where is the heads' business.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class Decoder(nn.Sequential):
    """(B, in_channels, h, w) -> (B, n_outputs, h * 2**d, w * 2**d), with d = number of widths.

    For every width a transposed convolution that doubles the resolution, then a 3x3 convolution,
    each with BN and ReLU; at the last width the 3x3 convolution gives the output instead, without
    BN and ReLU.

    Args:
        in_channels: Channels of the features.
        widths: Channels after each doubling, at least one; (128, 64, 48, 32) in the paper's
            networks.
        n_outputs: Channels of the prediction.

    Raises:
        ValueError: If ``widths`` is empty.

    Source:
        Decoder of Standley et al. (2020), as in the DMTG release. Initial weights are torch's own:
        theirs, normal of variance 2 / (9 * outputs), give a single output several times the spread
        of its target, and the first steps go into shrinking it.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], n_outputs: int) -> None:
        if not widths:
            raise ValueError("`widths` is empty: a decoder needs at least one width.")
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.ConvTranspose2d(in_channels, width, 2, stride=2), *_norm_relu(width)]
            layers += [nn.Conv2d(width, width, 3, padding=1), *_norm_relu(width)]
            in_channels = width
        del layers[-3:]  # no second convolution at the last width: the output takes its place
        super().__init__(*layers, nn.Conv2d(in_channels, n_outputs, 3, padding=1))


def _norm_relu(width: int) -> tuple[nn.Module, nn.Module]:
    # in place: batch norm's backward pass reads its input, never its output
    return nn.BatchNorm2d(width), nn.ReLU(inplace=True)
