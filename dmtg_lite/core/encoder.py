"""What an encoder is: an ordered list of stages and the width of what comes out.

Which stages are shared and how often the rest is copied is `network`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class Encoder:
    """Stages from image to features.

    Args:
        stages: Modules applied in order; the first takes (B, 3, H, W), the last gives
            (B, out_features), or a map (B, out_features, H', W') for dense tasks. Sharing m stages
            puts ``stages[:m]`` into the stem.
        out_features: Width of the features that the heads read.
        decoder: Widths of the decoder of a dense task, each doubling the resolution until it is the
            image's again; empty where features are flat.
    """

    stages: Sequence[nn.Module]
    out_features: int
    decoder: tuple[int, ...] = ()
