"""Real handwritten digits: the 1,797 scans of 8 x 8 pixels that scikit-learn carries.

Nine binary tasks ask about the digit shown. Nothing is planted, so there is no true grouping to
find; nothing is downloaded either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import Task

# Which digits count as 1: three tasks about size, three about divisors, three about the shape.
DIGIT_TASKS = {
    "at_least_5": {5, 6, 7, 8, 9},
    "at_most_2": {0, 1, 2},
    "middle_3_to_6": {3, 4, 5, 6},
    "even": {0, 2, 4, 6, 8},
    "multiple_of_3": {0, 3, 6, 9},
    "prime": {2, 3, 5, 7},
    "closed_loop": {0, 6, 8, 9},
    "straight_stroke": {1, 4, 5, 7},
    "round_bottom": {0, 3, 5, 6, 8},
}


@sealed()
def digits(*, seed: int = 0) -> TaskData:
    """Load real handwritten digits with nine yes/no tasks about the digit.

    The grey 8 x 8 scans are scaled bilinearly to 16 x 16, so that the encoder of the toy faces
    fits, and repeated over three channels. Writers may appear in more than one split.

    Args:
        seed: Which 1,000 images train, which 200 validate and which 597 test; the images are fixed.

    Returns:
        Data without planted groups; images uint8 (n, 3, 16, 16), targets int64 (n,).

    Source:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository (1998),
        its test part as carried by ``sklearn.datasets.load_digits``. The nine tasks are ours.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which is not installed. Run: pip install "
            '"dmtg-lite[data]"'
        ) from error
    scans: Any = load_digits()
    grey = torch.from_numpy(scans.images).float()[:, None] * (255 / 16)  # (n, 1, 8, 8), was 0 to 16
    grey = F.interpolate(grey, scale_factor=2, mode="bilinear", align_corners=False)
    images = grey.round().to(torch.uint8).repeat(1, 3, 1, 1)  # (n, 3, 16, 16)
    shown = torch.from_numpy(scans.target)
    targets = {
        name: torch.isin(shown, torch.tensor(sorted(yes))).long()
        for name, yes in DIGIT_TASKS.items()
    }
    everything = Split(images, targets)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(shown)))
    return TaskData(
        "digits",
        tuple(Task(name) for name in DIGIT_TASKS),
        train=everything.subset(order[:1000]),
        val=everything.subset(order[1000:1200]),
        test=everything.subset(order[1200:]),
        note="Real handwritten digits from scikit-learn (8 x 8, scaled to 16 x 16); no planted "
        "groups.",
    )
