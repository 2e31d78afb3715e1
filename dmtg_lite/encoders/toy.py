"""A small encoder with a knob, the width of its bottleneck, which decides what a branch can serve.

About a millisecond a step on a CPU; not in the paper.
"""

from __future__ import annotations

from torch import nn

from dmtg_lite.core.encoder import Encoder

_CHANNELS, _HIDDEN, _PATCH = 8, 32, 4


def toy(image_shape: tuple[int, int, int], *, capacity: int = 1) -> Encoder:
    """Patches of 4x4 -> 32 hidden units -> ``capacity`` numbers.

    Args:
        image_shape: (3, H, W) with H and W multiples of 4.
        capacity: Width d of the bottleneck. At d = 1 a branch carries one factor of the toy faces,
            so a second group of tasks does not fit; at d = 4 everything fits everywhere.
    """
    channels, height, width = image_shape
    if height % _PATCH or width % _PATCH:
        raise ValueError(
            f"the toy encoder needs H and W divisible by {_PATCH}, got {height}x{width}."
        )
    if capacity < 1:
        raise ValueError(f"`capacity` must be >= 1, got {capacity}.")
    n_patches = (height // _PATCH) * (width // _PATCH)
    # leaky: with a bottleneck of one number, a plain ReLU encoder can die and never come back
    patches = nn.Sequential(nn.Conv2d(channels, _CHANNELS, _PATCH, _PATCH), nn.LeakyReLU(0.1))
    hidden = nn.Sequential(
        nn.Flatten(), nn.Linear(_CHANNELS * n_patches, _HIDDEN), nn.LeakyReLU(0.1)
    )
    return Encoder([patches, hidden, nn.Linear(_HIDDEN, capacity)], capacity)
