"""Heads that answer with a picture: a decoder for each dense task, and how to build a family.

A decoder doubles the resolution of a map of features at every width.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Self

import torch
from torch import Tensor, nn

from dmtg_lite.core.encoder import Encoder
from dmtg_lite.core.heads import FlatHeads, Heads
from dmtg_lite.core.losses import sum_loss
from dmtg_lite.core.tasks import Task


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


class DenseHeads(Heads):
    """Heads that answer with a picture: one decoder per task, on a map of features.

    A decoder costs about as much as a tenth of an encoder, so one that is not needed is better not
    computed.

    Args:
        in_features: Channels of the branch's output.
        widths: Of the decoder, each doubling the resolution; see `Decoder`.
        tasks: The dense tasks this branch serves, in row order; possibly none.

    Raises:
        ValueError: If a task is not dense.

    Source:
        The released code's decoder, one per task and branch.
    """

    def __init__(self, in_features: int, widths: Sequence[int], tasks: Sequence[Task]) -> None:
        super().__init__()
        for task in tasks:
            if not task.is_dense:
                raise ValueError(
                    f"task {task.name!r} is a classification of whole images, and this encoder "
                    "ends in a map of features for dense tasks. Choose an encoder with flat "
                    "features, such as 'resnet'."
                )
        self.tasks = tuple(tasks)
        self.decoders = nn.ModuleList(Decoder(in_features, widths, t.n_outputs) for t in tasks)

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, in_features, h, w) -> for each task (B, n_outputs, H, W), float32."""
        outputs = [decoder(features).float() for decoder in self.decoders]
        return [
            output if task.loss == "cross_entropy" else output * task.spread + task.center
            for task, output in zip(self.tasks, outputs, strict=True)
        ]

    def split(self, outputs: Sequence[Tensor]) -> dict[str, Tensor]:
        return {task.name: own for task, own in zip(self.tasks, outputs, strict=True)}

    def pick(self, targets: Sequence[Tensor]) -> list[Tensor]:
        return [targets[n] for n in self.served]

    def compute_losses(self, outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        losses = []
        for task, own, target in zip(self.tasks, outputs, targets, strict=True):
            total, count = sum_loss(task, own, target)
            losses.append(total / count.clamp_min(1))
        return torch.stack(losses)

    def keep(self, places: Sequence[int]) -> Self:
        kept = type(self).__new__(type(self))  # not by __init__, which would draw weights in vain
        nn.Module.__init__(kept)
        kept.tasks = tuple(self.tasks[n] for n in places)
        kept.decoders = nn.ModuleList(deepcopy(self.decoders[n]) for n in places)
        return kept.train(self.training)

    def drop(self, places: Sequence[int]) -> list[nn.Parameter]:
        left = [weight for n in places for weight in self.decoders[n].parameters()]
        stay = [n for n in range(len(self.tasks)) if n not in places]
        self.tasks = tuple(self.tasks[n] for n in stay)
        self.decoders = nn.ModuleList(self.decoders[n] for n in stay)
        return left


def build_heads(encoder: Encoder, tasks: Sequence[Task], *, hidden: int = 0) -> Heads:
    """The family that suits what an encoder ends in; ``hidden`` has no effect on decoders."""
    if encoder.decoder:
        return DenseHeads(encoder.out_features, encoder.decoder, tasks)
    return FlatHeads(encoder.out_features, tasks, hidden=hidden)
