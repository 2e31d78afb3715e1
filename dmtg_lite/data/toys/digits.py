"""Real handwritten digits: the 1,797 scans of 8 x 8 pixels that scikit-learn carries.

`digits` asks nine yes/no questions about the digit shown, `digit_questions` also about the picture.
Nothing is planted, so there is no true grouping to find; nothing is downloaded either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from dmtg_lite.core.data import Split, TaskData
from dmtg_lite.core.sealed import sealed
from dmtg_lite.core.tasks import Task
from dmtg_lite.data.own.from_arrays import from_arrays
from dmtg_lite.data.own.kinds import Kind

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
    ink, shown = _load_scans()
    grey = torch.from_numpy(ink).float()[:, None] * 255  # (n, 1, 8, 8)
    grey = F.interpolate(grey, scale_factor=2, mode="bilinear", align_corners=False)
    images = grey.round().to(torch.uint8).repeat(1, 3, 1, 1)  # (n, 3, 16, 16)
    targets = {
        name: torch.from_numpy(np.isin(shown, list(yes))) for name, yes in DIGIT_TASKS.items()
    }
    everything = Split(images, targets)
    train, val, test = (everything.subset(torch.from_numpy(own)) for own in _deal(len(shown), seed))
    return TaskData(
        "digits",
        tuple(Task(name) for name in DIGIT_TASKS),
        train,
        val,
        test,
        note="Real handwritten digits from scikit-learn (8 x 8, scaled to 16 x 16); no planted "
        "groups.",
    )


@sealed()
def digit_questions(*, seed: int = 0) -> TaskData:
    """Load the same digits with fifteen tasks of both kinds: thirteen yes/no, two numbers.

    Is the digit even, has it a closed loop, is it 5 or more; is it a 0, a 1, ..., a 9? How much ink
    has the picture, in percent of a black one, and how many degrees does it lean to the right? The
    last two are measured from the scan, and depend on the writer more than on the digit.

    Args:
        seed: The deal, as that of `digits`.

    Returns:
        Data without planted groups; grey pictures, uint8 (n, 1, 8, 8), and a reader of new ones.

    Source:
        See `digits`; the questions are ours.
    """
    ink, shown = _load_scans()
    questions = {name: DIGIT_TASKS[name] for name in ("even", "closed_loop", "at_least_5")}
    questions |= {f"is_{digit}": {digit} for digit in range(10)}
    kinds: dict[str, Kind | Task] = dict.fromkeys(questions, "yes/no")
    kinds["ink"] = kinds["slant"] = "number"
    targets = {name: np.isin(shown, list(yes)) for name, yes in questions.items()}
    targets |= {"ink": 100 * ink.mean((1, 2)), "slant": _measure_slant(ink)}
    made = from_arrays(
        np.rint(255 * ink).astype(np.uint8),
        targets,
        tasks=kinds,
        splits=_deal(len(shown), seed),
        name="digit_questions",
    )
    return replace(made, note=f"Real handwritten digits from scikit-learn; {made.note}")


def _load_scans() -> tuple[np.ndarray, np.ndarray]:
    """Ink from 0 to 1, float64 (n, 8, 8), and the digit shown (n,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The digits come with scikit-learn, which is not installed. Run: pip install "
            '"dmtg-lite[data]"'
        ) from error
    scans: Any = load_digits()
    return scans.images / 16, scans.target


def _deal(n: int, seed: int) -> list[np.ndarray]:
    """Which 1,000 scans train, which 200 validate, and that the rest test."""
    return np.split(np.random.default_rng(seed).permutation(n), [1000, 1200])


def _measure_slant(ink: np.ndarray) -> np.ndarray:
    """Degrees by which the ink leans to the right of upright: (n, H, W) -> (n,).

    Of the line x(y) that fits the ink best: the tangent is its covariance of x and y over its
    variance in y, as writing is deslanted. Rows count downwards.
    """
    total = ink.sum((1, 2))[:, None, None]
    y, x = np.mgrid[: ink.shape[1], : ink.shape[2]]
    y = y - (ink * y).sum((1, 2), keepdims=True) / total
    x = x - (ink * x).sum((1, 2), keepdims=True) / total
    return np.degrees(np.arctan2(-(ink * x * y).sum((1, 2)), (ink * y * y).sum((1, 2))))
